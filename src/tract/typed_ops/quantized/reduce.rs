//! SUM and MEAN.

use super::*;

/// The sum or mean over `axes`, which stay with size 1.
#[derive(Debug, Clone, PartialEq)]
pub struct Sum {
    pub axes: Vec<usize>,
    pub is_mean: bool,
    /// From the input's scale to the result's.
    pub multiplier: Multiplier,
    pub input_zero_point: i32,
    pub output: Affine,
}

impl Kernel for Sum {
    fn name(&self) -> &'static str {
        if self.is_mean { "QuantizedMean" } else { "QuantizedSum" }
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        let mut shape: TVec<TDim> = inputs[0].shape.to_tvec();
        for &axis in &self.axes {
            ensure!(axis < shape.len(), "axis {axis} of rank {}", shape.len());
            shape[axis] = 1.into();
        }
        Ok(self.output.datum.fact(&*shape))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        with_integer!(inputs[0].datum_type(), X => {
            with_integer!(self.output.datum, Y => self.sum::<X, Y>(&inputs[0]))
        })
    }
}

impl Sum {
    fn sum<X: Integer, Y: Integer>(&self, input: &Tensor) -> TractResult<Tensor> {
        let shape = input.shape();
        let mut result: TVec<usize> = shape.into();
        let mut strides: TVec<usize> = tvec![0; shape.len()];
        for &axis in &self.axes {
            result[axis] = 1;
        }
        let mut stride = 1;
        for axis in (0..shape.len()).rev() {
            if !self.axes.contains(&axis) {
                strides[axis] = stride;
                stride *= result[axis];
            }
        }
        let outputs: usize = result.iter().product();
        let count = (shape.iter().product::<usize>() / outputs.max(1)) as i64;
        let mut sums = vec![0i64; outputs];
        let mut index: TVec<usize> = tvec![0; shape.len()];
        let mut place = 0;
        for &value in slice::<X>(input)? {
            sums[place] += i64::from(value.into());
            for axis in (0..shape.len()).rev() {
                index[axis] += 1;
                place += strides[axis];
                if index[axis] < shape[axis] {
                    break;
                }
                place -= strides[axis] * shape[axis];
                index[axis] = 0;
            }
        }
        let multiplier =
            if self.is_mean { divided(self.multiplier, count) } else { self.multiplier };
        let [low, high] = self.output.bounds();
        made::<Y>(&result, |out| {
            for (out, sum) in out.iter_mut().zip(sums) {
                let sum = (sum - i64::from(self.input_zero_point) * count) as i32;
                let scaled = multiplier.apply(sum).wrapping_add(self.output.zero_point);
                *out = Y::narrow(scaled.clamp(low, high));
            }
            Ok(())
        })
    }
}

/// The multiplier over `count`, with as many bits as TFLite keeps.
fn divided(multiplier: Multiplier, count: i64) -> Multiplier {
    let Some(bits) = count.checked_ilog2() else { return multiplier };
    let bits = (bits as i32).min(32).min(31 + multiplier.shift).max(0);
    let mantissa = (i64::from(multiplier.mantissa) << bits) / count;
    Multiplier { mantissa: mantissa as i32, shift: multiplier.shift - bits }
}
