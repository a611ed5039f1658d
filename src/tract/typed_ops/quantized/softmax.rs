//! SOFTMAX over the last axis, in fixed point.

use super::*;
use crate::kernels::fixed_point::{
    divide_by_power, doubled_high_product, exp_of_negative, reciprocal,
};

/// 8 bits in; 8 bits out with the scale 1/256 and the lowest integer as zero point.
#[derive(Debug, Clone, PartialEq)]
pub struct Softmax {
    multiplier: Multiplier,
    /// Differences from the largest that are below this count as no contribution.
    least_difference: i32,
}

const INTEGER_BITS: i32 = 5;
const SUM_BITS: i32 = 12;

impl Softmax {
    pub fn new(beta: f32, scale: f32) -> Softmax {
        let real = f64::from(beta) * f64::from(scale) * f64::from(1 << (31 - INTEGER_BITS));
        let multiplier = Multiplier::of(real.min(2f64.powi(31) - 1.0));
        let most = f64::from((1 << INTEGER_BITS) - 1) * f64::from(1 << (31 - INTEGER_BITS));
        let least_difference = -((most / 2f64.powi(multiplier.shift)).floor() as i32);
        Softmax { multiplier, least_difference }
    }

    fn exponential(&self, difference: i32) -> i32 {
        let left = difference.wrapping_shl(self.multiplier.shift.max(0) as u32);
        exp_of_negative(doubled_high_product(left, self.multiplier.mantissa))
    }

    fn row<T: Integer>(&self, row: &[T], out: &mut [T]) {
        let [low, high] = bounds(T::datum_type());
        let most = row.iter().map(|&x| x.into()).max().unwrap_or(low);
        let difference = |x: T| Some(x.into() - most).filter(|d| *d >= self.least_difference);
        let parts = row.iter().filter_map(|&x| difference(x));
        let sum = parts.fold(0i32, |sum, d| {
            sum.wrapping_add(divide_by_power(self.exponential(d), SUM_BITS as u32))
        });
        let (inverse, over) = reciprocal(sum.max(1), SUM_BITS);
        let exponent = (over + 31 - 8).clamp(0, 31) as u32;
        for (out, &x) in out.iter_mut().zip(row) {
            *out = T::narrow(difference(x).map_or(low, |d| {
                let share = doubled_high_product(inverse, self.exponential(d));
                divide_by_power(share, exponent).wrapping_add(low).clamp(low, high)
            }));
        }
    }
}

impl Kernel for Softmax {
    fn name(&self) -> &'static str {
        "QuantizedSoftmax"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        Ok(like_first(inputs[0].datum_type, inputs))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let shape = inputs[0].shape();
        let depth = shape.last().copied().unwrap_or(1).max(1);
        with_integer!(inputs[0].datum_type(), T => {
            let rows = slice::<T>(&inputs[0])?.chunks_exact(depth);
            made::<T>(shape, |out| {
                out.chunks_exact_mut(depth).zip(rows).for_each(|(out, row)| self.row(row, out));
                Ok(())
            })
        })
    }
}
