//! FULLY_CONNECTED with constant weights, and what convolutions share with it.

use super::*;

/// Weights less their zero point, one row an output channel, with what is added to and done with each sum.
#[derive(Debug, Clone, PartialEq)]
pub struct Filters {
    pub depth: usize,
    pub weights: Vec<i16>,
    pub bias: Vec<i64>,
    pub output: Requantize,
}

impl Filters {
    pub fn count(&self) -> usize {
        self.bias.len()
    }

    /// What the channels from `first` make of one row of input, less its zero point.
    pub fn apply<T: Integer>(&self, first: usize, row: &[i16], is_wide: bool, out: &mut [T]) {
        let weights = self.weights[first * self.depth..].chunks_exact(self.depth.max(1));
        let empty: &[i16] = &[];
        let weights =
            weights.chain(std::iter::repeat_n(empty, if self.depth == 0 { out.len() } else { 0 }));
        for (place, (out, weights)) in out.iter_mut().zip(weights).enumerate() {
            let channel = first + place;
            let result = match is_wide {
                false => {
                    let sum = dot(row, weights).wrapping_add(self.bias[channel] as i32);
                    self.output.apply(channel, sum)
                }
                true => {
                    let sum = dot_wide(row, weights).wrapping_add(self.bias[channel]);
                    self.output.apply_wide(channel, sum)
                }
            };
            *out = T::narrow(result);
        }
    }
}

fn dot(a: &[i16], b: &[i16]) -> i32 {
    let products = a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b));
    products.fold(0, i32::wrapping_add)
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
    pub zero_point: i32,
    pub filters: Filters,
}

impl Kernel for Dense {
    fn name(&self) -> &'static str {
        "QuantizedDense"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        let [rows, depth] = &*inputs[0].shape else { bail!("an input of {:?}", inputs[0].shape) };
        ensure!(*depth == self.filters.depth.to_dim(), "{depth} values for {}", self.filters.depth);
        Ok(self.filters.output.datum.fact(&[rows.clone(), self.filters.count().to_dim()]))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        with_integer!(inputs[0].datum_type(), X => {
            with_integer!(self.filters.output.datum, Y => self.multiply::<X, Y>(&inputs[0]))
        })
    }

    fn products(&self, inputs: &[&TypedFact]) -> TractResult<TDim> {
        Ok(inputs[0].shape[0].clone() * self.filters.weights.len())
    }
}

impl Dense {
    fn multiply<X: Integer, Y: Integer>(&self, input: &Tensor) -> TractResult<Tensor> {
        let &[rows, depth] = input.shape() else { bail!("an input of {:?}", input.shape()) };
        ensure!(depth == self.filters.depth, "{depth} values for {}", self.filters.depth);
        let count = self.filters.count();
        let is_wide = X::datum_type() == DatumType::I16;
        let values = slice::<X>(input)?;
        let mut row = vec![0i16; depth];
        made::<Y>(&[rows, count], |out| {
            for (i, out) in out.chunks_exact_mut(count.max(1)).enumerate() {
                centre(&values[i * depth..][..depth], self.zero_point, &mut row);
                self.filters.apply(0, &row, is_wide, out);
            }
            Ok(())
        })
    }
}
