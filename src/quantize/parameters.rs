//! From ranges of reals to scales and zero points, and reals to integers.

use crate::graph::{Quantization, Tensor};
use crate::ops::ActivationType;
use serde::{Deserialize, Serialize};

/// A closed interval of reals.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Range {
    pub min: f32,
    pub max: f32,
}

impl Range {
    /// Of finite values; `None` of none, or where one is not finite.
    pub fn of(values: impl IntoIterator<Item = f32>) -> Option<Range> {
        let mut range: Option<Range> = None;
        for value in values {
            if !value.is_finite() {
                return None;
            }
            let one = Range { min: value, max: value };
            range = Some(range.map_or(one, |range| range.union(one)));
        }
        range
    }

    pub fn union(self, other: Range) -> Range {
        Range { min: self.min.min(other.min), max: self.max.max(other.max) }
    }

    /// With 0 in it, as quantization asks.
    pub fn with_zero(self) -> Range {
        Range { min: self.min.min(0.0), max: self.max.max(0.0) }
    }

    pub fn width(self) -> f32 {
        self.max - self.min
    }

    pub fn is_finite(self) -> bool {
        self.min.is_finite() && self.max.is_finite() && self.width().is_finite()
    }
}

/// `real = scale × (integer − zero_point)` for a whole tensor.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Parameters {
    pub scale: f32,
    pub zero_point: i64,
}

/// The scale of a tensor that is 0 everywhere.
const SCALE_OF_ZEROS: f32 = 1.0 / 255.0;

impl Parameters {
    /// So that the integers reach over a finite `range`, which is widened to hold 0; 0 is exact.
    pub fn of_range(range: Range, activations: ActivationType) -> Parameters {
        let Range { min, max } = range.with_zero();
        match activations {
            ActivationType::Int8 => {
                let scale = ((max as f64 - min as f64) / 255.0) as f32;
                if scale < f32::MIN_POSITIVE {
                    return Parameters { scale: SCALE_OF_ZEROS, zero_point: 0 };
                }
                let zero_point = (-128.0 - min as f64 / scale as f64).round();
                Parameters { scale, zero_point: zero_point.clamp(-128.0, 127.0) as i64 }
            }
            ActivationType::Int16 => {
                let scale = max.max(-min) / 32767.0;
                let scale = if scale < f32::MIN_POSITIVE { SCALE_OF_ZEROS } else { scale };
                Parameters { scale, zero_point: 0 }
            }
        }
    }

    /// So that ±127 reach over a finite `range`.
    pub fn symmetric_int8(range: Range) -> Parameters {
        let scale = range.max.abs().max(range.min.abs()) / 127.0;
        let scale = if scale < f32::MIN_POSITIVE { SCALE_OF_ZEROS } else { scale };
        Parameters { scale, zero_point: 0 }
    }

    /// The reals that the integers `lowest..=highest` stand for.
    pub fn range(self, lowest: i64, highest: i64) -> Range {
        let real = |integer: i64| (self.scale as f64 * (integer - self.zero_point) as f64) as f32;
        Range { min: real(lowest), max: real(highest) }
    }

    /// The integer nearest to `value` within `lowest..=highest`, halves away from zero.
    pub fn quantize(self, value: f32, lowest: i64, highest: i64) -> i64 {
        let steps = (value as f64 / self.scale as f64).round() + self.zero_point as f64;
        steps.clamp(lowest as f64, highest as f64) as i64
    }

    pub fn quantization(self) -> Quantization {
        Quantization::PerTensor { scale: self.scale, zero_point: self.zero_point }
    }
}

/// Symmetric int8 weights and their scales: one, or one for each slice of `axis`.
#[derive(Debug, Clone, PartialEq)]
pub struct Int8Weights {
    pub integers: Vec<i8>,
    pub scales: Vec<f32>,
}

/// Quantizes row-major `values` of `shape`; no scale is below `least_scale` of its channel.
pub fn int8_weights(
    values: &[f32],
    shape: &[usize],
    axis: Option<usize>,
    least_scale: impl Fn(usize) -> f32,
) -> Int8Weights {
    let (channels, inner) = match axis {
        Some(axis) => (shape[axis], shape[axis + 1..].iter().product::<usize>()),
        None => (1, values.len()),
    };
    let inner = inner.max(1);
    let mut largest = vec![0f32; channels];
    for (block, values) in values.chunks(inner).enumerate() {
        let largest = &mut largest[block % channels];
        *largest = values.iter().fold(*largest, |largest, v| largest.max(v.abs()));
    }
    let scale = |(channel, largest): (usize, &f32)| {
        let scale = (largest / 127.0).max(least_scale(channel));
        if scale < f32::MIN_POSITIVE { SCALE_OF_ZEROS } else { scale }
    };
    let scales: Vec<f32> = largest.iter().enumerate().map(scale).collect();
    let mut integers = Vec::with_capacity(values.len());
    for (block, values) in values.chunks(inner).enumerate() {
        let scale = scales[block % channels];
        integers.extend(values.iter().map(|v| nearest(v / scale).clamp(-127, 127) as i8));
    }
    Int8Weights { integers, scales }
}

/// `x.round()` of what is not huge, in operations that there are vectors of.
fn nearest(x: f32) -> i32 {
    (x + 0.5f32.next_down().copysign(x)) as i32
}

impl Int8Weights {
    /// The reals that the integers stand for.
    pub fn reals(&self, shape: &[usize], axis: Option<usize>) -> Vec<f32> {
        let inner = axis.map_or(self.integers.len(), |a| shape[a + 1..].iter().product());
        let blocks = self.integers.chunks(inner.max(1)).enumerate();
        let real = |(block, integers): (usize, &[i8])| -> Vec<f32> {
            let scale = self.scales[block % self.scales.len()];
            integers.iter().map(|&v| v as f32 * scale).collect()
        };
        blocks.flat_map(real).collect()
    }
}

/// Whether `tensor` is a constant of finite float32 values; its values.
pub fn finite_values(tensor: &Tensor) -> Option<Vec<f32>> {
    tensor.f32_values().filter(|values| values.iter().all(|v| v.is_finite()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_become_scales_as_the_specification_has_it() {
        let of = |min, max| Parameters::of_range(Range { min, max }, ActivationType::Int8);
        assert_eq!(of(0.0, 255.0), Parameters { scale: 1.0, zero_point: -128 });
        assert_eq!(of(-128.0, 127.0), Parameters { scale: 1.0, zero_point: 0 });
        // 0 is always in the range
        assert_eq!(of(100.0, 255.0), of(0.0, 255.0));
        assert_eq!(of(-255.0, -7.0), Parameters { scale: 1.0, zero_point: 127 });
        assert_eq!(of(0.0, 0.0), Parameters { scale: SCALE_OF_ZEROS, zero_point: 0 });
        assert_eq!(of(0.0, 1e-42), of(0.0, 0.0));
        let wide = of(f32::MIN / 2.0, f32::MAX / 2.0);
        assert!(wide.scale.is_finite() && wide.zero_point.abs() <= 1);
        let int16 = Parameters::of_range(Range { min: -1.0, max: 32767.0 }, ActivationType::Int16);
        assert_eq!(int16, Parameters { scale: 1.0, zero_point: 0 });
    }

    #[test]
    fn reals_become_the_nearest_integer_that_there_is() {
        let parameters = Parameters { scale: 0.5, zero_point: 3 };
        let quantize = |v| parameters.quantize(v, -128, 127);
        assert_eq!([0.0, 0.5, 0.25, -0.25, 1e9, -1e9].map(quantize), [3, 4, 4, 2, 127, -128]);
        assert_eq!(parameters.range(-128, 127), Range { min: -65.5, max: 62.0 });
    }

    #[test]
    fn halves_and_their_neighbours_are_rounded_away_from_zero() {
        for half in -600..600 {
            let x = half as f32 / 2.0;
            for x in [x.next_down(), x, x.next_up(), x + 0.1, x / 3.0] {
                assert_eq!(nearest(x), x.round() as i32, "{x:e}");
            }
        }
        assert_eq!([nearest(f32::MIN_POSITIVE), nearest(f32::INFINITY)], [0, i32::MAX]);
    }

    #[test]
    fn weights_have_a_scale_for_each_slice_of_their_axis() {
        let values = [127.0, -1.0, 0.5, 1.27, 0.0, 0.0];
        let rows = int8_weights(&values, &[3, 2], Some(0), |_| 0.0);
        assert_eq!(rows.integers, [127, -1, 50, 127, 0, 0]);
        assert_eq!(rows.scales, [1.0, 1.27 / 127.0, SCALE_OF_ZEROS]);
        let columns = int8_weights(&values, &[3, 2], Some(1), |c| c as f32);
        assert_eq!(columns.scales, [1.0, 1.0]);
        assert_eq!(columns.integers, [127, -1, 1, 1, 0, 0]);
        let whole = int8_weights(&values, &[3, 2], None, |_| 0.0);
        assert_eq!((whole.scales, whole.integers[3]), (vec![1.0], 1));
    }
}
