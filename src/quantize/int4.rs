//! Int4 weights: fifteen integers, so that what they clip matters as much as how they round.

use super::parameters::{Int8Weights, int8_weights};
use half::f16;

/// Shares of the largest value that ±7 may stand for.
const CLIPPINGS: [f32; 10] = [1.0, 0.95, 0.9, 0.85, 0.8, 0.75, 0.7, 0.65, 0.6, 0.55];

/// Integers of −7 to 7 with the scales, of some that clip more or less, that lose least in the mean square.
pub fn int4_weights(values: &[f32], shape: &[usize], axis: Option<usize>) -> Int8Weights {
    const STEPS: f32 = 7.0;
    let of_seven = |of_127: f32| (f64::from(of_127) * 127.0 / 7.0) as f32;
    let widest = int8_weights(values, shape, axis, |_| 0.0).scales;
    let inner = axis.map_or(values.len(), |a| shape[a + 1..].iter().product()).max(1);
    let channels = widest.len();
    let mut best = vec![(f64::INFINITY, 1.0f32); channels];
    for clipping in CLIPPINGS {
        let scales: Vec<f32> = widest.iter().map(|&s| of_seven(s) * clipping).collect();
        let mut errors = vec![0f64; channels];
        for (block, values) in values.chunks(inner).enumerate() {
            let scale = scales[block % channels];
            let error = |v: &f32| {
                let error = v - (v / scale).round().clamp(-STEPS, STEPS) * scale;
                f64::from(error * error)
            };
            errors[block % channels] += values.iter().map(error).sum::<f64>();
        }
        for ((best, error), scale) in best.iter_mut().zip(errors).zip(scales) {
            if error < best.0 {
                *best = (error, scale);
            }
        }
    }
    // an error of squares beyond float32 chose none
    let chosen = best.iter().zip(&widest);
    let scales: Vec<f32> = chosen
        .map(|(best, widest)| if best.0.is_finite() { best.1 } else { of_seven(*widest) })
        .collect();
    Int8Weights { integers: rounded(values, inner, &scales), scales }
}

/// As [`int4_weights`], each `size` values with a scale that float16 holds.
pub fn int4_blocks(values: &[f32], size: usize) -> Int8Weights {
    let Int8Weights { scales, .. } = int4_weights(values, &[values.len() / size, size], Some(0));
    let least = f16::from_bits(1).to_f32();
    let half = |scale: f32| f16::from_f32(scale.min(f16::MAX.to_f32())).to_f32().max(least);
    let scales: Vec<f32> = scales.into_iter().map(half).collect();
    Int8Weights { integers: rounded(values, size, &scales), scales }
}

/// The nearest of −7 to 7 in blocks of `inner` values, which take turns with the scales.
fn rounded(values: &[f32], inner: usize, scales: &[f32]) -> Vec<i8> {
    let mut integers = Vec::with_capacity(values.len());
    for (block, values) in values.chunks(inner).enumerate() {
        let scale = scales[block % scales.len()];
        integers.extend(values.iter().map(|v| (v / scale).round().clamp(-7.0, 7.0) as i8));
    }
    integers
}

/// Two a byte, the first in the low half.
pub fn packed(integers: &[i8]) -> Vec<u8> {
    let byte = |pair: &[i8]| {
        let high = pair.get(1).copied().unwrap_or(0);
        (pair[0] as u8 & 15) | ((high as u8) << 4)
    };
    integers.chunks(2).map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_integers_share_a_byte_the_first_below() {
        assert_eq!(packed(&[1, -1, 7, -7, -8]), [0xf1, 0x97, 0x08]);
        assert!(packed(&[]).is_empty());
    }

    #[test]
    fn scales_clip_where_that_loses_less() {
        // whole steps lose nothing unclipped
        let exact = int4_weights(&[7.0, -3.0, 1.0, 0.0], &[4], None);
        assert_eq!((exact.integers, exact.scales), (vec![7, -3, 1, 0], vec![1.0]));
        // an outlier among many values of a hundredth of it
        let mut values = vec![7.0f32];
        values.extend((0..2000).map(|i| 0.9 + (i % 7) as f32 * 0.01));
        let clipped = int4_weights(&values, &[2001], None);
        let error = |scale: f32| -> f64 {
            let of = |v: &f32| v - (v / scale).round().clamp(-7.0, 7.0) * scale;
            values.iter().map(|v| f64::from(of(v)).powi(2)).sum()
        };
        assert!(error(clipped.scales[0]) < error(1.0) / 2.0, "{:?}", clipped.scales);
    }

    #[test]
    fn blocks_have_scales_of_float16_of_their_own() {
        let values = [7.0, -3.0, 0.7, 0.1, 0.0, 0.0, 1e30, -1e30];
        let blocks = int4_blocks(&values, 2);
        let seventh = f16::from_f32(0.1).to_f32();
        assert_eq!(blocks.scales[..2], [1.0, seventh]);
        assert_eq!(blocks.integers, [7, -3, 7, 1, 0, 0, 7, -7]);
        assert!(blocks.scales.iter().all(|s| *s > 0.0 && s.is_finite()));
    }

    #[test]
    fn each_channel_has_its_scale_and_hostile_values_have_one() {
        let values = [7.0, 0.07, -7.0, 0.01, 0.0, -0.07];
        let columns = int4_weights(&values, &[3, 2], Some(1));
        assert_eq!(columns.integers, [7, 7, -7, 1, 0, -7]);
        let huge = int4_weights(&[f32::MAX, -f32::MAX, 0.0], &[3], None);
        assert_eq!(huge.integers, [7, -7, 0]);
        assert!(huge.scales[0].is_finite());
        assert_eq!(int4_weights(&[0.0; 4], &[2, 2], Some(0)).integers, [0; 4]);
        assert!(int4_weights(&[], &[0, 4], Some(1)).integers.is_empty());
    }
}
