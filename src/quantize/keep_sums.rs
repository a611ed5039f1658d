//! Rounding that keeps sums: of each filter's taps for one input channel, then of the whole filter.
//!
//! What a filter's rounding errors add up to meets the mean of its inputs, which is far from 0 behind a ReLU, and
//! neighbouring pixels are alike; a few weights rounded the other way take that off and need no samples.
//! Source: "SQuant: On-the-Fly Data-Free Quantization via Diagonal Hessian Approximation" (Guo et al., 2022).

use super::parameters::Int8Weights;

/// Rounds some of `weights` to the other side. They are `values` of `shape` with a scale for each filter, or
/// one for all, and stay within ±`most`; a filter is a slice of `filters`, of `taps` times its input channels where that is
/// given.
pub fn keep_sums(
    weights: &mut Int8Weights,
    values: &[f32],
    shape: &[usize],
    filters: usize,
    taps: Option<usize>,
    most: i8,
) {
    let count = shape[filters];
    let inner: usize = shape[filters + 1..].iter().product();
    if count == 0 || inner == 0 || values.is_empty() {
        return;
    }
    let per_filter = values.len() / count;
    let one_scale = weights.scales.len() == 1;
    let mut slots = Vec::with_capacity(per_filter);
    for filter in 0..count {
        let scale = weights.scales[if one_scale { 0 } else { filter }];
        slots.clear();
        for block in (filter * inner..values.len()).step_by(count * inner) {
            slots.extend((block..block + inner).map(|at| {
                let integer = weights.integers[at];
                Slot { at, integer, error: values[at] / scale - f32::from(integer) }
            }));
        }
        if let Some(taps) = taps.filter(|&taps| taps > 1 && slots.len().is_multiple_of(taps)) {
            // by input channel
            let channels = slots.len() / taps;
            let places = (0..slots.len()).map(|i| (i % taps) * channels + i / taps);
            let mut by_channel: Vec<Slot> = places.map(|place| slots[place]).collect();
            by_channel.chunks_mut(taps).for_each(|one| flip(one, most));
            slots = by_channel;
        }
        flip(&mut slots, most);
        slots.iter().for_each(|slot| weights.integers[slot.at] = slot.integer);
    }
}

/// A weight, and what is missing to its exact value in steps.
#[derive(Debug, Clone, Copy)]
struct Slot {
    at: usize,
    integer: i8,
    error: f32,
}

/// Rounds those to the other side that are nearest to it, until the errors add up to half a step at most.
fn flip(slots: &mut [Slot], most: i8) {
    let missing: f64 = slots.iter().map(|slot| f64::from(slot.error)).sum();
    let steps = (missing.abs().round() as usize).min(slots.len());
    if steps == 0 || !missing.is_finite() {
        return;
    }
    let sign = if missing > 0.0 { 1 } else { -1 };
    let toward = |slot: &Slot| slot.error * f32::from(sign);
    if steps < slots.len() {
        slots.select_nth_unstable_by(steps, |a, b| {
            toward(b).total_cmp(&toward(a)).then(a.at.cmp(&b.at))
        });
    }
    for slot in &mut slots[..steps] {
        let flipped = slot.integer.saturating_add(sign);
        if toward(slot) > 0.0 && flipped.unsigned_abs() <= most.unsigned_abs() {
            slot.integer = flipped;
            slot.error -= f32::from(sign);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::quantize::parameters::int8_weights;

    fn sums(weights: &Int8Weights, values: &[f32]) -> Vec<f32> {
        let exact = values.chunks(8).zip(&weights.scales).map(|(v, s)| v.iter().sum::<f32>() / s);
        let rounded =
            weights.integers.chunks(8).map(|q| q.iter().map(|&q| f32::from(q)).sum::<f32>());
        exact.zip(rounded).map(|(exact, rounded)| (exact - rounded).abs()).collect()
    }

    #[test]
    fn sums_of_filters_are_kept_by_those_nearest_to_the_other_side() {
        // by hand: the errors add up to 2.75 steps; the three of .45 are nearest to the other side
        let values = [127.0, 1.45, 2.45, 3.45, 4.4, 5.3, 6.3, 7.3, 8.1];
        let mut weights = int8_weights(&values, &[1, 9], Some(0), |_| 0.0);
        keep_sums(&mut weights, &values, &[1, 9], 0, None, 127);
        assert_eq!(weights.integers, [127, 2, 3, 4, 4, 5, 6, 7, 8]);
        // what is at the end of the range stays there
        let values = [127.0, 127.0, 126.4, 126.4, 126.4];
        let mut weights = int8_weights(&values, &[1, 5], Some(0), |_| 0.0);
        keep_sums(&mut weights, &values, &[1, 5], 0, None, 126);
        assert_eq!(weights.integers, [127, 127, 126, 126, 126]);
    }

    #[test]
    fn every_filter_along_any_axis_keeps_its_sum() {
        let value = |i: usize| ((i * 7919 % 997) as f32 - 400.0) / 31.0;
        let rows: Vec<f32> = (0..64).map(value).collect();
        for taps in [None, Some(4), Some(3)] {
            let mut weights = int8_weights(&rows, &[8, 4, 2], Some(0), |_| 0.0);
            keep_sums(&mut weights, &rows, &[8, 4, 2], 0, taps, 127);
            assert!(sums(&weights, &rows).iter().all(|&e| e < 0.51), "{taps:?}");
            let far = |(q, v): (usize, &f32)| {
                (f32::from(weights.integers[q]) - v / weights.scales[q / 8]).abs() >= 1.5
            };
            assert!(!rows.iter().enumerate().any(far));
        }
        // the same values turned: filters are columns
        let columns: Vec<f32> = (0..64).map(|i| rows[i % 8 * 8 + i / 8]).collect();
        let mut weights = int8_weights(&columns, &[8, 8], Some(1), |_| 0.0);
        keep_sums(&mut weights, &columns, &[8, 8], 1, None, 127);
        let turned = (0..64).map(|i| weights.integers[i % 8 * 8 + i / 8]).collect();
        let turned = Int8Weights { integers: turned, scales: weights.scales };
        assert!(sums(&turned, &rows).iter().all(|&e| e < 0.51));
        keep_sums(&mut int8_weights(&[], &[0, 4], Some(0), |_| 0.0), &[], &[0, 4], 0, None, 127);
    }
}
