//! SOFTMAX over the last axis, in fixed point.

use super::*;
use crate::kernels::Interpolation;
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

/// 16 bits in and out, the latter with the scale 1/32768: tables for e^x of −10..0 and for 1 / (1 + x).
#[derive(Debug, Clone, PartialEq)]
pub struct WideSoftmax {
    multiplier: Multiplier,
    powers: Interpolation,
    inverses: Interpolation,
}

impl WideSoftmax {
    pub fn new(beta: f32, scale: f32) -> WideSoftmax {
        const RANGE: f64 = 65535.0;
        let real = f64::from(scale * beta) / (10.0 / RANGE);
        let (high, low) = (i16::MAX.into(), i16::MIN.into());
        WideSoftmax {
            multiplier: Multiplier::of(real),
            powers: Interpolation::new(10.0 / RANGE, high, 2.0 / RANGE, f64::exp),
            inverses: Interpolation::new(1.0 / RANGE, low, 2.0 / RANGE, |x| 1.0 / (1.0 + x)),
        }
    }

    fn row(&self, row: &[i16], out: &mut [i16]) {
        let most = row.iter().copied().max().unwrap_or(0);
        let bounded = |x: i32| x.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let mut sum = 0i32;
        for (out, &x) in out.iter_mut().zip(row) {
            let scaled = self.multiplier.apply(i32::from(x) - i32::from(most));
            *out = self.powers.at(bounded(scaled.saturating_add(i16::MAX.into())));
            sum = sum.wrapping_add((*out).into());
        }
        let headroom = sum.max(1).leading_zeros();
        let shifted = ((i64::from(sum) << (headroom - 1)) + (1 << 13)) >> 14;
        let inverse = self.inverses.at(bounded(shifted as i32 - ((1 << 15) + (1 << 16))));
        let right = 31 - headroom;
        for out in out {
            let round = if right > 0 { 1i64 << (right - 1) } else { 0 };
            let share = (i64::from(*out) * i64::from(inverse) + round) >> right;
            *out = share.clamp(0, i16::MAX.into()) as i16;
        }
    }
}

impl Kernel for WideSoftmax {
    fn name(&self) -> &'static str {
        "QuantizedSoftmax"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        ensure!(inputs[0].datum_type == DatumType::I16, "a softmax of {:?}", inputs[0].datum_type);
        Ok(like_first(DatumType::I16, inputs))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let shape = inputs[0].shape();
        let depth = shape.last().copied().unwrap_or(1).max(1);
        let rows = slice::<i16>(&inputs[0])?.chunks_exact(depth);
        made::<i16>(shape, |out| {
            out.chunks_exact_mut(depth).zip(rows).for_each(|(out, row)| self.row(row, out));
            Ok(())
        })
    }
}
