//! FULLY_CONNECTED with constant weights, and what convolutions share with it.

use super::bytes::{ByteFilters, unsigned_bytes, zero_of_bytes};
use super::*;
use crate::kernels::i16_products;

/// Weights less their zero point, one row an output channel, with what is added to and done with each sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Filters {
    pub depth: usize,
    bias: Vec<i64>,
    output: Requantize,
    weights: Weights,
}

#[derive(Debug, Clone, PartialEq)]
enum Weights {
    Words(Vec<i16>),
    /// One a group.
    Bytes(Vec<ByteFilters>),
}

impl Filters {
    /// `weights` are rows of `depth`, in equal groups; the values that they meet are of `input`.
    pub fn new(
        depth: usize,
        groups: usize,
        weights: Vec<i16>,
        bias: Vec<i64>,
        output: Requantize,
        input: Affine,
    ) -> Filters {
        let per_group = (bias.len() / groups.max(1)).max(1);
        let packed: Option<Vec<ByteFilters>> = match depth > 0 && input.datum.size_of() == 1 {
            false => None,
            true => {
                let zero = zero_of_bytes(input.datum, input.zero_point);
                let rows = weights.chunks(per_group * depth).zip(bias.chunks(per_group));
                let packed = rows.enumerate().map(|(group, (weights, bias))| {
                    let rescale = output.rescale[group * per_group..][..bias.len()].to_vec();
                    let output = Requantize { rescale, ..output.clone() };
                    ByteFilters::new(weights, depth, bias, &output, zero)
                });
                packed.collect()
            }
        };
        let weights = match packed {
            Some(packed) => Weights::Bytes(packed),
            None => Weights::Words(weights),
        };
        Filters { depth, bias, output, weights }
    }

    pub fn count(&self) -> usize {
        self.bias.len()
    }

    pub fn datum(&self) -> DatumType {
        self.output.datum
    }

    /// The filters of each group, where they are of bytes.
    pub fn bytes(&self) -> Option<&[ByteFilters]> {
        match &self.weights {
            Weights::Bytes(filters) => Some(filters),
            Weights::Words(_) => None,
        }
    }

    /// What the channels from `first` make of one row of input, less its zero point.
    pub fn apply<T: Integer>(&self, first: usize, row: &[i16], is_wide: bool, out: &mut [T]) {
        let Weights::Words(weights) = &self.weights else { return };
        let weights = &weights[first * self.depth..][..out.len() * self.depth];
        let bias = &self.bias[first..];
        if is_wide {
            for (place, out) in out.iter_mut().enumerate() {
                let weights = &weights[place * self.depth..][..self.depth];
                let sum = dot_wide(row, weights).wrapping_add(bias[place]);
                *out = T::narrow(self.output.apply_wide(first + place, sum));
            }
            return;
        }
        let mut sums = [0i32; 64];
        for (part, out) in out.chunks_mut(sums.len()).enumerate() {
            let start = part * sums.len();
            let sums = &mut sums[..out.len()];
            i16_products(row, &weights[start * self.depth..][..out.len() * self.depth], sums);
            for (place, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                let sum = sum.wrapping_add(bias[start + place] as i32);
                *out = T::narrow(self.output.apply(first + start + place, sum));
            }
        }
    }
}

fn dot_wide(a: &[i16], b: &[i16]) -> i64 {
    a.iter().zip(b).map(|(&a, &b)| i64::from(i32::from(a) * i32::from(b))).sum()
}

/// `row − zero_point`, within 16 bits: of 8-bit values always, of 16-bit ones with a zero point of 0.
pub fn centre<T: Integer>(row: &[T], zero_point: i32, out: &mut [i16]) {
    for (out, &value) in out.iter_mut().zip(row) {
        *out = (value.into() - zero_point) as i16;
    }
}

/// `[rows, depth]` → `[rows, filters]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dense {
    pub input: Affine,
    pub filters: Filters,
}

impl Kernel for Dense {
    fn name(&self) -> &'static str {
        "QuantizedDense"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        ensure!(inputs[0].datum_type == self.input.datum, "an input of {:?}", inputs[0].datum_type);
        let [rows, depth] = &*inputs[0].shape else { bail!("an input of {:?}", inputs[0].shape) };
        ensure!(*depth == self.filters.depth.to_dim(), "{depth} values for {}", self.filters.depth);
        Ok(self.filters.datum().fact(&[rows.clone(), self.filters.count().to_dim()]))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let &[rows, depth] = inputs[0].shape() else {
            bail!("an input of {:?}", inputs[0].shape())
        };
        ensure!(depth == self.filters.depth, "{depth} values for {}", self.filters.depth);
        if let Some([filters]) = self.filters.bytes() {
            let mut out = Tensor::zero_dt(self.filters.datum(), &[rows, filters.count()])?;
            filters.apply_all(&unsigned_bytes(&inputs[0]), out.as_bytes_mut());
            return Ok(out);
        }
        with_integer!(inputs[0].datum_type(), X => {
            with_integer!(self.filters.datum(), Y => self.multiply::<X, Y>(&inputs[0]))
        })
    }

    fn products(&self, inputs: &[&TypedFact]) -> TractResult<TDim> {
        Ok(inputs[0].shape[0].clone() * (self.filters.depth * self.filters.count()))
    }
}

impl Dense {
    fn multiply<X: Integer, Y: Integer>(&self, input: &Tensor) -> TractResult<Tensor> {
        let (rows, depth, count) = (input.shape()[0], self.filters.depth, self.filters.count());
        let is_wide = X::datum_type() == DatumType::I16;
        let values = slice::<X>(input)?;
        let mut row = vec![0i16; depth];
        made::<Y>(&[rows, count], |out| {
            for (i, out) in out.chunks_exact_mut(count.max(1)).enumerate() {
                centre(&values[i * depth..][..depth], self.input.zero_point, &mut row);
                self.filters.apply(0, &row, is_wide, out);
            }
            Ok(())
        })
    }
}
