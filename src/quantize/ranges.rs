//! From what was seen of a tensor to the range that its integers reach over.

use super::histogram::{Bin, Histogram};
use super::parameters::Range;
use anyhow::{Result, bail, ensure};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::str::FromStr;

/// How the range is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub enum RangeMethod {
    /// All that was seen.
    MinMax,
    /// The mean of the samples' ranges, the later ones weighing more (each new one counts 1 %).
    MovingAverage,
    /// All but the outermost numbers: this share of them, in percent, is inside.
    Percentile(f64),
    /// The least Kullback–Leibler divergence between what was seen and its integers (TensorRT's method).
    Entropy,
    /// The least mean squared error of rounding and clipping.
    #[default]
    Mse,
}

const NAMES: &str = "min-max, moving-average, percentile[=P], entropy, mse";
const DEFAULT_PERCENTILE: f64 = 99.99;
const MOVING_WEIGHT: f64 = 0.01;

impl FromStr for RangeMethod {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<RangeMethod> {
        Ok(match text {
            "min-max" | "minmax" => RangeMethod::MinMax,
            "moving-average" => RangeMethod::MovingAverage,
            "percentile" => RangeMethod::Percentile(DEFAULT_PERCENTILE),
            "entropy" | "kl" => RangeMethod::Entropy,
            "mse" => RangeMethod::Mse,
            _ => {
                let Some(Ok(share)) = text.strip_prefix("percentile=").map(str::parse::<f64>)
                else {
                    bail!("unknown method '{text}'; there are: {NAMES}");
                };
                ensure!((50.0..=100.0).contains(&share), "a percentile is from 50 to 100");
                RangeMethod::Percentile(share)
            }
        })
    }
}

impl fmt::Display for RangeMethod {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            RangeMethod::MinMax => f.write_str("min-max"),
            RangeMethod::MovingAverage => f.write_str("moving-average"),
            RangeMethod::Percentile(share) => write!(f, "percentile={share}"),
            RangeMethod::Entropy => f.write_str("entropy"),
            RangeMethod::Mse => f.write_str("mse"),
        }
    }
}

/// What was seen of one tensor.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    pub histogram: Histogram,
    /// Of each run, in their order.
    pub of_runs: Vec<Range>,
}

/// The range of a tensor, and what it leaves out.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct ChosenRange {
    pub min: f32,
    pub max: f32,
    /// Of all that was seen.
    pub seen_min: f32,
    pub seen_max: f32,
}

impl ChosenRange {
    pub fn range(self) -> Range {
        Range { min: self.min, max: self.max }
    }
}

impl RangeMethod {
    /// Whether bins are needed, not only the smallest and the largest.
    pub fn needs_histogram(self) -> bool {
        !matches!(self, RangeMethod::MinMax | RangeMethod::MovingAverage)
    }

    /// `None` where nothing finite was seen, or something that is not finite. `steps`: how many integers there are.
    pub fn choose(self, seen: &Seen, steps: usize) -> Option<ChosenRange> {
        let whole = match self.needs_histogram() {
            true => seen.histogram.range().filter(|_| seen.histogram.not_finite == 0)?,
            false => seen.of_runs.iter().copied().reduce(Range::union)?,
        };
        if !whole.is_finite() {
            return None;
        }
        let range = match self {
            RangeMethod::MinMax => whole,
            RangeMethod::MovingAverage => moving_average(&seen.of_runs)?,
            RangeMethod::Percentile(share) => percentile(&seen.histogram.bins(), share),
            RangeMethod::Entropy => {
                // 0 is exact in any range; half of what RELU makes would hide the rest
                let bins: Vec<Bin> =
                    seen.histogram.bins().into_iter().filter(|bin| bin.value != 0.0).collect();
                entropy(&bins, whole, steps)
            }
            RangeMethod::Mse => least_squares(&seen.histogram.bins(), whole, steps),
        };
        Some(ChosenRange {
            min: range.min,
            max: range.max,
            seen_min: whole.min,
            seen_max: whole.max,
        })
    }
}

fn moving_average(runs: &[Range]) -> Option<Range> {
    let (first, rest) = runs.split_first()?;
    let (mut min, mut max) = (first.min as f64, first.max as f64);
    for run in rest {
        min += MOVING_WEIGHT * (run.min as f64 - min);
        max += MOVING_WEIGHT * (run.max as f64 - max);
    }
    Some(Range { min: min as f32, max: max as f32 })
}

fn percentile(bins: &[Bin], share: f64) -> Range {
    let total: u64 = bins.iter().map(|b| b.count).sum();
    let outside = (total as f64 * (1.0 - share / 100.0) / 2.0).floor() as u64;
    Range { min: first_past(bins.iter(), outside), max: first_past(bins.iter().rev(), outside) }
}

/// The value of the first bin that comes after `outside` numbers.
fn first_past<'a>(mut bins: impl Iterator<Item = &'a Bin>, outside: u64) -> f32 {
    let mut passed = 0;
    let found = bins.find(|bin| {
        passed += bin.count;
        passed > outside
    });
    found.map_or(0.0, |bin| bin.value)
}

/// Thresholds that are tried: each 2^(1/16) below the one before.
const THRESHOLDS: i32 = 128;
const PER_OCTAVE: f32 = 16.0;

/// The clipped range of least mean squared error, clipping and rounding (uniform within a step) together.
fn least_squares(bins: &[Bin], whole: Range, steps: usize) -> Range {
    let values: Vec<f64> = bins.iter().map(|bin| bin.value as f64).collect();
    let counts: Vec<f64> = bins.iter().map(|bin| bin.count as f64).collect();
    let error = |range: Range| -> f64 {
        let range = range.with_zero();
        let step = range.width() as f64 / (steps - 1) as f64;
        squared_errors(&values, &counts, range.min as f64, range.max as f64, step * step / 12.0)
    };
    best(whole, error)
}

/// The sum over all bins of what clipping a value to `min..=max` or else `rounding` costs.
fn squared_errors(values: &[f64], counts: &[f64], min: f64, max: f64, rounding: f64) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0f64; LANES];
    let mut lanes = |values: &[f64], counts: &[f64]| {
        for (sum, (&value, &count)) in sums.iter_mut().zip(values.iter().zip(counts)) {
            let beyond = value - value.max(min).min(max);
            // zeros have no error, numbers below a step that of the number itself
            let square = value * value;
            let inside = if square < rounding { square } else { rounding };
            *sum += count * if beyond == 0.0 { inside } else { beyond * beyond };
        }
    };
    let (whole_values, last_values) = values.as_chunks::<LANES>();
    let (whole_counts, last_counts) = counts.as_chunks::<LANES>();
    whole_values.iter().zip(whole_counts).for_each(|(values, counts)| lanes(values, counts));
    lanes(last_values, last_counts);
    sums.iter().sum()
}

/// The clipped range whose integers' distribution is nearest to what was seen (Migacz, "8-bit inference with
/// TensorRT", 2017): clipped numbers count at the edges of the reference, each integer's share is spread over the
/// bins that were not empty.
fn entropy(bins: &[Bin], whole: Range, steps: usize) -> Range {
    let divergence = |range: Range| -> f64 {
        let range = range.with_zero();
        let step = range.width() as f64 / (steps - 1) as f64;
        if step <= 0.0 {
            return f64::INFINITY;
        }
        let place = |value: f32| {
            ((value.clamp(range.min, range.max) as f64 - range.min as f64) / step).round() as usize
        };
        let mut inside = vec![(0u64, 0u64); steps];
        let is_inside = |bin: &Bin| bin.value >= range.min && bin.value <= range.max;
        for bin in bins.iter().filter(|bin| is_inside(bin)) {
            let slot = &mut inside[place(bin.value).min(steps - 1)];
            *slot = (slot.0 + bin.count, slot.1 + 1);
        }
        let (below, above): (u64, u64) = bins.iter().fold((0, 0), |(below, above), bin| {
            let low = if bin.value < range.min { bin.count } else { 0 };
            let high = if bin.value > range.max { bin.count } else { 0 };
            (below + low, above + high)
        });
        let total: u64 = bins.iter().map(|b| b.count).sum();
        let kept = total - below - above;
        if kept == 0 {
            return f64::INFINITY;
        }
        let within: Vec<&Bin> = bins.iter().filter(|bin| is_inside(bin)).collect();
        let last = within.len() - 1;
        let mut sum = 0.0;
        for (i, bin) in within.iter().enumerate() {
            let clipped = if i == 0 { below } else { 0 } + if i == last { above } else { 0 };
            let p = (bin.count + clipped) as f64 / total as f64;
            let (count, members) = inside[place(bin.value).min(steps - 1)];
            let q = count as f64 / members as f64 / kept as f64;
            sum += p * (p / q).ln();
        }
        sum
    };
    best(whole, divergence)
}

/// Clips both sides at one threshold, then each side by itself, where that costs less.
fn best(whole: Range, cost: impl Fn(Range) -> f64) -> Range {
    let mut best = (cost(whole), whole);
    let mut consider = |range: Range| {
        let cost = cost(range);
        if cost < best.0 {
            best = (cost, range);
        }
        best.1
    };
    let share = |step: i32| (-step as f32 / PER_OCTAVE).exp2();
    let largest = whole.max.max(-whole.min);
    let mut found = whole;
    for step in 1..THRESHOLDS {
        let threshold = largest * share(step);
        found = consider(Range { min: whole.min.max(-threshold), max: whole.max.min(threshold) });
    }
    for step in 1..THRESHOLDS {
        found = consider(Range { min: whole.min * share(step), ..found });
    }
    for step in 1..THRESHOLDS {
        found = consider(Range { max: whole.max * share(step), ..found });
    }
    found
}

#[cfg(test)]
mod tests {
    use super::super::histogram::Counts;
    use super::*;

    fn seen(values: &[f32]) -> Seen {
        let mut seen = Seen::default();
        seen.histogram.add(values, &mut Counts::default());
        seen.of_runs.push(Range::of(values.iter().copied()).unwrap());
        seen
    }

    fn chosen(method: &str, values: &[f32]) -> Range {
        let method: RangeMethod = method.parse().unwrap();
        assert_eq!(method.to_string().parse::<RangeMethod>().unwrap(), method);
        method.choose(&seen(values), 256).unwrap().range()
    }

    /// Numbers like a bell, and one far out.
    fn outlier() -> Vec<f32> {
        let mut values: Vec<f32> = (0..20_000)
            .map(|i| {
                let u = ((i as f32 * 0.618_034).fract() - 0.5) * 2.0;
                u * u * u
            })
            .collect();
        values.push(100.0);
        values
    }

    #[test]
    fn min_max_takes_all_and_the_others_leave_an_outlier_out() {
        let values = outlier();
        let all = chosen("min-max", &values);
        assert_eq!(all.max, 100.0);
        for method in ["percentile", "percentile=99", "entropy"] {
            let range = chosen(method, &values);
            assert!(range.max < 60.0 && range.max > 0.2, "{method}: {range:?}");
        }
        let p = chosen("percentile=90", &values);
        assert!((p.max - 0.729).abs() < 0.03 && (p.min + 0.729).abs() < 0.03, "{p:?}");
    }

    /// The mean squared error of quantizing `values` to int8 over `range`.
    fn error(values: &[f32], range: Range) -> f64 {
        let parameters =
            super::super::parameters::Parameters::of_range(range, crate::ops::ActivationType::Int8);
        let error = |&v: &f32| {
            let integer = parameters.quantize(v, -128, 127) - parameters.zero_point;
            (integer as f64 * parameters.scale as f64 - v as f64).powi(2)
        };
        values.iter().map(error).sum::<f64>() / values.len() as f64
    }

    #[test]
    fn least_squares_is_hardly_beaten_by_any_other_range() {
        let tails: Vec<f32> = outlier()[..20_000].iter().map(|v| v * v * v * 8.0).collect();
        for values in [outlier(), tails] {
            let range = chosen("mse", &values);
            let least = error(&values, range);
            assert!(least <= error(&values, chosen("min-max", &values)));
            for (low, high) in (1..40).flat_map(|a| (1..40).map(move |b| (a, b))) {
                let other = Range {
                    min: range.min * low as f32 / 20.0,
                    max: range.max * high as f32 / 20.0,
                };
                assert!(least <= 1.1 * error(&values, other), "{range:?} {other:?}");
            }
        }
    }

    #[test]
    fn numbers_without_outliers_are_hardly_clipped() {
        let values: Vec<f32> = (0..10_000).map(|i| i as f32 / 10_000.0).collect();
        for method in ["min-max", "percentile=99.9", "entropy", "mse"] {
            let range = chosen(method, &values);
            assert!(range.max > 0.95, "{method}: {range:?}");
        }
    }

    #[test]
    fn the_moving_average_is_that_of_a_hand_calculation() {
        let run = |min, max| Range { min, max };
        let average = moving_average(&[run(-1.0, 1.0), run(-3.0, 2.0)]).unwrap();
        assert_eq!(average, run(-1.02, 1.01));
    }

    #[test]
    fn what_is_not_finite_has_no_range() {
        for method in [RangeMethod::Mse, RangeMethod::MinMax] {
            let mut seen = seen(&[1.0]);
            seen.histogram.add(&[f32::NAN], &mut Counts::default());
            seen.of_runs.push(Range { min: f32::NEG_INFINITY, max: f32::INFINITY });
            assert_eq!(method.choose(&seen, 256), None);
            assert_eq!(method.choose(&Seen::default(), 256), None);
        }
        let zeros = chosen("mse", &[0.0, 0.0]);
        assert_eq!(zeros, Range { min: 0.0, max: 0.0 });
        assert!("percentile=10".parse::<RangeMethod>().is_err());
        assert!("average".parse::<RangeMethod>().is_err());
    }
}
