//! CONV_2D with constant weights, NHWC.

use super::dense::{Filters, centre};
use super::pool::places;
use super::window::{axes, window_fact};
use super::*;
use crate::tract::ops::cnn::PoolSpec;

/// Filters are `[height, width, channels of a group]`; pixels outside the border are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct Conv {
    pub spec: PoolSpec,
    pub groups: usize,
    pub zero_point: i32,
    pub filters: Filters,
}

impl Kernel for Conv {
    fn name(&self) -> &'static str {
        "QuantizedConv"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        window_fact(&self.spec, self.filters.output.datum, inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        with_integer!(inputs[0].datum_type(), X => {
            with_integer!(self.filters.output.datum, Y => self.convolve::<X, Y>(&inputs[0]))
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
        let channels = shape[3];
        let inner = channels / self.groups;
        let count = self.filters.count();
        let per_group = count / self.groups;
        let is_wide = X::datum_type() == DatumType::I16;
        let pixels = slice::<X>(input)?;
        let result = [shape[0], rows.output, columns.output, count];
        let mut patch = vec![0i16; self.filters.depth];
        made::<Y>(&result, |out| {
            let mut out = out.chunks_exact_mut(per_group.max(1));
            for (batch, y, x) in places(&result) {
                let (y_taps, first_y) = rows.taps(y);
                let (x_taps, first_x) = columns.taps(x);
                for group in 0..self.groups {
                    patch.fill(0);
                    for (row, y_tap) in y_taps.clone().enumerate() {
                        let pixel_row = batch * rows.input + first_y + row * rows.dilation();
                        for (column, x_tap) in x_taps.clone().enumerate() {
                            let at = first_x + column * columns.dilation();
                            let pixel = pixel_row * columns.input + at;
                            let from = &pixels[pixel * channels + group * inner..][..inner];
                            let to = (y_tap * columns.kernel + x_tap) * inner;
                            centre(from, self.zero_point, &mut patch[to..][..inner]);
                        }
                    }
                    let Some(out) = out.next() else { break };
                    self.filters.apply(group * per_group, &patch, is_wide, out);
                }
            }
            Ok(())
        })
    }
}
