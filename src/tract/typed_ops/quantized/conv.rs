//! CONV_2D with constant weights, NHWC.

use super::bytes::{ByteFilters, unsigned_bytes, zero_of_bytes};
use super::dense::{Filters, centre};
use super::pool::places;
use super::window::{Axis, axes, window_fact};
use super::*;
use crate::tract::ops::cnn::PoolSpec;

/// Filters are `[height, width, channels of a group]`; pixels outside the border are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    pub spec: PoolSpec,
    pub groups: usize,
    pub input: Affine,
    pub filters: Filters,
}

impl Kernel for Conv {
    fn name(&self) -> &'static str {
        "QuantizedConv"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        ensure!(inputs[0].datum_type == self.input.datum, "an input of {:?}", inputs[0].datum_type);
        window_fact(&self.spec, self.filters.datum(), inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        if let Some(filters) = self.filters.bytes() {
            return self.convolve_bytes(&inputs[0], filters);
        }
        with_integer!(inputs[0].datum_type(), X => {
            with_integer!(self.filters.datum(), Y => self.convolve::<X, Y>(&inputs[0]))
        })
    }

    fn products(&self, inputs: &[&TypedFact]) -> TractResult<TDim> {
        let shape = self.fact(inputs)?.shape;
        Ok(shape.iter().product::<TDim>() * self.filters.depth)
    }
}

impl Conv {
    fn convolve<X: Integer, Y: Integer>(&self, input: &Tensor) -> TractResult<Tensor> {
        let shape = input.shape();
        let [rows, columns] = axes(&self.spec, shape)?;
        let count = self.filters.count();
        let per_group = count / self.groups;
        let is_wide = X::datum_type() == DatumType::I16;
        let pixels = slice::<X>(input)?;
        let result = [shape[0], rows.output, columns.output, count];
        let patches = Patches::new([rows, columns], shape[3], self.groups);
        let mut patch = vec![0i16; self.filters.depth];
        made::<Y>(&result, |out| {
            let mut out = out.chunks_exact_mut(per_group.max(1));
            for place in places(&result) {
                for group in 0..self.groups {
                    patch.fill(0);
                    patches.visit(place, group, |from, to, len| {
                        centre(
                            &pixels[from..][..len],
                            self.input.zero_point,
                            &mut patch[to..][..len],
                        );
                    });
                    let Some(out) = out.next() else { break };
                    self.filters.apply(group * per_group, &patch, is_wide, out);
                }
            }
            Ok(())
        })
    }

    fn convolve_bytes(&self, input: &Tensor, filters: &[ByteFilters]) -> TractResult<Tensor> {
        let shape = input.shape();
        let axes = axes(&self.spec, shape)?;
        let count = self.filters.count();
        let result = [shape[0], axes[0].output, axes[1].output, count];
        let mut made = Tensor::zero_dt(self.filters.datum(), &result)?;
        let out = made.as_bytes_mut();
        let bytes = unsigned_bytes(input);
        if let [filters] = filters
            && axes.iter().all(Axis::is_identity)
        {
            filters.apply_all(&bytes, out);
            return Ok(made);
        }
        let zero = zero_of_bytes(input.datum_type(), self.input.zero_point) as u8;
        let patches = Patches::new(axes, shape[3], self.groups);
        let (mut rows, mut sums) = (vec![], vec![]);
        for (group, filters) in filters.iter().enumerate() {
            let (row_len, at_once) = (filters.row_len(), filters.rows_at_once());
            rows.resize(at_once * row_len, zero);
            let mut first = group * filters.count();
            let mut places = places(&result);
            loop {
                let mut filled = 0;
                for (row, place) in
                    rows.chunks_exact_mut(row_len).zip(places.by_ref().take(at_once))
                {
                    row.fill(zero);
                    patches.visit(place, group, |from, to, len| {
                        row[to..to + len].copy_from_slice(&bytes[from..from + len]);
                    });
                    filled += 1;
                }
                if filled == 0 {
                    break;
                }
                filters.apply(&rows[..filled * row_len], &mut sums, out, first, count);
                first += filled * count;
            }
        }
        Ok(made)
    }
}

/// Where the values of a window lie, in the input and in a filter.
struct Patches {
    rows: Axis,
    columns: Axis,
    channels: usize,
    inner: usize,
}

impl Patches {
    fn new([rows, columns]: [Axis; 2], channels: usize, groups: usize) -> Patches {
        Patches { rows, columns, channels, inner: channels / groups }
    }

    /// Calls `visit` with the place in the input, that in the filter and the length of each run of values inside.
    fn visit(
        &self,
        (batch, y, x): (usize, usize, usize),
        group: usize,
        mut visit: impl FnMut(usize, usize, usize),
    ) {
        let (rows, columns, inner) = (&self.rows, &self.columns, self.inner);
        let (y_taps, first_y) = rows.taps(y);
        let (x_taps, first_x) = columns.taps(x);
        for (row, y_tap) in y_taps.enumerate() {
            let pixel_row = batch * rows.input + first_y + row * rows.dilation();
            let pixel = pixel_row * columns.input + first_x;
            let to = (y_tap * columns.kernel + x_taps.start) * inner;
            if columns.dilation() == 1 && inner == self.channels {
                visit(pixel * inner, to, x_taps.len() * inner);
                continue;
            }
            for column in 0..x_taps.len() {
                let at = (pixel + column * columns.dilation()) * self.channels + group * inner;
                visit(at, to + column * inner, inner);
            }
        }
    }
}
