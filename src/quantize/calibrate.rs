//! Runs the float graph on samples and keeps what its tensors' values are like. Memory does not grow with the samples.

use super::histogram::Counts;
use super::parameters::Range;
use super::plan::{float_operands, is_float_variable};
use super::ranges::{ChosenRange, RangeMethod, Seen};
use crate::compare::Samples;
use crate::graph::{Model, Node, TensorId};
use crate::model::watch_tensors;
use crate::ops::{ActivationType, QuantRule, quant_rule};
use crate::progress::Progress;
use crate::runtime::{Tensor, f32_values, share_out};
use anyhow::{Context, Result, ensure};
use std::collections::{HashMap, HashSet};

/// What was seen of the tensors that integers may stand for.
#[derive(Debug, Default)]
pub struct Calibration {
    pub seen: HashMap<TensorId, Seen>,
    /// Of each channel (place in the last axis) of what layers with weights read.
    pub channel_means: HashMap<TensorId, Vec<f32>>,
}

impl Calibration {
    /// Runs all `samples` on `threads` threads; the result does not depend on their number. `histograms`: whether to
    /// count numbers by size, or keep only the smallest and largest.
    ///
    /// # Errors
    /// A run fails, or the user stopped it.
    pub fn run(
        model: &Model,
        samples: &dyn Samples,
        histograms: bool,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Calibration> {
        let watched = watch_tensors(model, &tensors_to_watch(model))?;
        let tensors = &watched.tensors;
        let weighted = read_by_weights(model);
        let weighted: Vec<bool> = tensors.iter().map(|t| weighted.contains(t)).collect();
        let runs = samples.runs();
        ensure!(runs > 0, "there are no samples to calibrate on");
        let none_seen = || tensors.iter().map(|_| ThreadSeen::default()).collect::<Vec<_>>();
        let of_threads = share_out(runs, threads, ("calibrating", progress), |turns| {
            let mut session = watched.plan.session()?;
            let (mut seen, mut counts) = (none_seen(), Counts::default());
            for run in turns {
                let run = run?;
                let mut look = |place: usize, value: &Tensor| -> Result<()> {
                    let values = f32_values(value)?;
                    seen[place].add(run, values, histograms.then_some(&mut counts));
                    if weighted[place] {
                        let channels = value.shape().last().copied().unwrap_or(1);
                        seen[place].channels.add(values, channels);
                    }
                    Ok(())
                };
                let at = || format!("on sample {run}");
                session.run(samples.run(run)?, &mut look).with_context(at)?;
            }
            Ok(seen)
        });
        let mut merged = none_seen();
        for seen in of_threads? {
            merged.iter_mut().zip(seen).for_each(|(merged, seen)| merged.merge(seen));
        }
        let mut calibration = Calibration::default();
        for (&tensor, seen) in tensors.iter().zip(merged) {
            let (seen, means) = seen.finish();
            calibration.seen.insert(tensor, seen);
            calibration.channel_means.extend(means.map(|means| (tensor, means)));
        }
        Ok(calibration)
    }

    /// The range of each tensor of the entry graph.
    pub fn choose(
        &self,
        model: &Model,
        method: RangeMethod,
        steps: usize,
    ) -> Vec<Option<ChosenRange>> {
        let count = model.main().tensors.len();
        (0..count).map(|t| method.choose(self.seen.get(&t)?, steps)).collect()
    }
}

#[derive(Default)]
struct ThreadSeen {
    seen: Seen,
    of_runs: Vec<(usize, Range)>,
    channels: ChannelSums,
}

/// Sums over all but the last axis, in fixed point: the order in which runs are added does not matter.
#[derive(Debug, Clone, Default)]
struct ChannelSums {
    sums: Vec<i128>,
    rows: u64,
}

impl ThreadSeen {
    fn add(&mut self, run: usize, values: &[f32], counts: Option<&mut Counts>) {
        if let Some(range) = smallest_and_largest(values) {
            self.of_runs.push((run, range));
        }
        if let Some(counts) = counts {
            self.seen.histogram.add(values, counts);
        }
    }

    fn merge(&mut self, other: ThreadSeen) {
        self.seen.histogram.merge(&other.seen.histogram);
        self.of_runs.extend(other.of_runs);
        self.channels.merge(&other.channels);
    }

    fn finish(mut self) -> (Seen, Option<Vec<f32>>) {
        self.of_runs.sort_by_key(|(run, _)| *run);
        self.seen.of_runs = self.of_runs.into_iter().map(|(_, range)| range).collect();
        (self.seen, self.channels.means())
    }
}

const ONE: f64 = (1u64 << 40) as f64;

impl ChannelSums {
    fn add(&mut self, values: &[f32], channels: usize) {
        let mut sums = vec![0f64; channels];
        for row in values.chunks_exact(channels.max(1)) {
            sums.iter_mut().zip(row).for_each(|(sum, &value)| *sum += value as f64);
            self.rows += 1;
        }
        self.sums.resize(channels.max(self.sums.len()), 0);
        for (total, sum) in self.sums.iter_mut().zip(sums) {
            *total = total.saturating_add((sum * ONE).round() as i128);
        }
    }

    fn merge(&mut self, other: &ChannelSums) {
        self.rows += other.rows;
        self.sums.resize(other.sums.len().max(self.sums.len()), 0);
        let sums = self.sums.iter_mut().zip(&other.sums);
        sums.for_each(|(sum, other)| *sum = sum.saturating_add(*other));
    }

    fn means(&self) -> Option<Vec<f32>> {
        let mean = |sum: &i128| (*sum as f64 / ONE / self.rows as f64) as f32;
        (self.rows > 0).then(|| self.sums.iter().map(mean).collect())
    }
}

/// What layers with weights read.
fn read_by_weights(model: &Model) -> HashSet<TensorId> {
    let operand = |node: &Node| match quant_rule(&node.op, ActivationType::Int8) {
        QuantRule::Weighted { input, .. } => node.inputs.get(input).copied().flatten(),
        _ => None,
    };
    model.main().nodes.iter().filter_map(operand).collect()
}

/// Infinite where a value is not a number; `None` of none.
fn smallest_and_largest(values: &[f32]) -> Option<Range> {
    const LANES: usize = 16;
    let (mut min, mut max) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let mut sum_of_zeros = [0f32; LANES];
    let mut lanes = |values: &[f32]| {
        for (lane, &value) in values.iter().enumerate() {
            min[lane] = if value < min[lane] { value } else { min[lane] };
            max[lane] = if value > max[lane] { value } else { max[lane] };
            // 0 times what is not finite is not a number, and stays so
            sum_of_zeros[lane] += value * 0.0;
        }
    };
    let (chunks, rest) = values.as_chunks::<LANES>();
    chunks.iter().for_each(|chunk| lanes(chunk));
    lanes(rest);
    if values.is_empty() {
        return None;
    }
    if sum_of_zeros.iter().any(|zero| zero.is_nan()) {
        return Some(Range { min: f32::NEG_INFINITY, max: f32::INFINITY });
    }
    let range = |a: Range, (&min, &max): (&f32, &f32)| a.union(Range { min, max });
    Some(min.iter().zip(&max).fold(Range { min: f32::INFINITY, max: f32::NEG_INFINITY }, range))
}

/// The float variables that an integer form of some node would read or make, but for what is only moved.
fn tensors_to_watch(model: &Model) -> Vec<TensorId> {
    let graph = model.main();
    let mut watched = vec![false; graph.tensors.len()];
    let rule = |node: &Node| quant_rule(&node.op, ActivationType::Int8);
    for node in graph.nodes.iter().filter(|n| !matches!(rule(n), QuantRule::FloatOnly(_))) {
        for &tensor in node.inputs.iter().flatten().chain(&node.outputs) {
            watched[tensor] |= is_float_variable(graph, tensor);
        }
    }
    for node in graph.nodes.iter().filter(|n| rule(n) == QuantRule::OneScale) {
        let operands = float_operands(graph, node).count();
        node.outputs.iter().filter(|_| operands > 0).for_each(|&t| watched[t] = false);
    }
    read_by_weights(model).into_iter().for_each(|t| watched[t] = is_float_variable(graph, t));
    (0..watched.len()).filter(|&t| watched[t]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_and_the_largest_of_any_number_of_values() {
        let values: Vec<f32> = (0..37).map(|i| (i as f32 * 7.0) % 37.0 - 5.0).collect();
        assert_eq!(smallest_and_largest(&values), Some(Range { min: -5.0, max: 31.0 }));
        assert_eq!(smallest_and_largest(&[]), None);
        assert_eq!(smallest_and_largest(&[3.0]), Some(Range { min: 3.0, max: 3.0 }));
        for odd in [f32::NAN, f32::INFINITY] {
            let mut values = values.clone();
            values[35] = odd;
            assert!(!smallest_and_largest(&values).unwrap().is_finite(), "{odd}");
        }
    }
}
