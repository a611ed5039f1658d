//! What the values of each channel of a tensor are like.

use crate::compare::Samples;
use crate::graph::{Model, TensorId};
use crate::model::watch_tensors;
use crate::progress::Progress;
use crate::runtime::{Tensor, f32_values, share_out};
use anyhow::Result;
use std::collections::HashMap;

/// By channel (place in the last axis). Sums are in fixed point: the order in which they are added does not matter.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Channels {
    pub min: Vec<f32>,
    pub max: Vec<f32>,
    sums: Vec<i128>,
    squares: Vec<i128>,
    rows: u64,
}

const ONE: f64 = (1u64 << 40) as f64;

impl Channels {
    fn resize(&mut self, channels: usize) {
        self.min.resize(channels, 0.0);
        self.max.resize(channels, 0.0);
        self.sums.resize(channels, 0);
        self.squares.resize(channels, 0);
    }

    pub fn add(&mut self, values: &[f32], channels: usize) {
        self.resize(channels);
        let (mut sums, mut squares) = (vec![0f64; channels], vec![0f64; channels]);
        for row in values.chunks_exact(channels.max(1)) {
            let ranges = self.min.iter_mut().zip(&mut self.max);
            for ((min, max), &value) in ranges.zip(row) {
                *min = if value < *min { value } else { *min };
                *max = if value > *max { value } else { *max };
            }
            for ((sum, square), &value) in sums.iter_mut().zip(&mut squares).zip(row) {
                *sum += value as f64;
                *square += value as f64 * value as f64;
            }
            self.rows += 1;
        }
        for (totals, found) in [(&mut self.sums, sums), (&mut self.squares, squares)] {
            for (total, found) in totals.iter_mut().zip(found) {
                *total = total.saturating_add((found * ONE).round() as i128);
            }
        }
    }

    fn join(&mut self, other: &Channels) {
        self.resize(other.min.len().max(self.min.len()));
        self.min.iter_mut().zip(&other.min).for_each(|(min, other)| *min = min.min(*other));
        self.max.iter_mut().zip(&other.max).for_each(|(max, other)| *max = max.max(*other));
        for (totals, others) in [(&mut self.sums, &other.sums), (&mut self.squares, &other.squares)]
        {
            totals
                .iter_mut()
                .zip(others)
                .for_each(|(sum, other)| *sum = sum.saturating_add(*other));
        }
        self.rows += other.rows;
    }

    /// The largest size of each channel.
    pub fn largest(&self) -> Vec<f32> {
        self.min.iter().zip(&self.max).map(|(min, max)| max.max(-min)).collect()
    }

    pub fn variances(&self) -> Vec<f64> {
        let mean = |sum: &i128| *sum as f64 / ONE / self.rows.max(1) as f64;
        let both = self.sums.iter().zip(&self.squares);
        both.map(|(sum, square)| (mean(square) - mean(sum).powi(2)).max(0.0)).collect()
    }
}

/// Of `tensors`, on the first `most_runs` of `samples`; the number of `threads` does not change it.
pub fn channels_of(
    model: &Model,
    tensors: &[TensorId],
    samples: &dyn Samples,
    most_runs: usize,
    threads: usize,
    progress: &dyn Progress,
) -> Result<HashMap<TensorId, Channels>> {
    let watched = watch_tensors(model, tensors)?;
    let runs = samples.runs().min(most_runs);
    let of_threads = share_out(runs, threads, ("equalizing", progress), |turns| {
        let mut session = watched.plan.session()?;
        let mut seen = vec![Channels::default(); watched.tensors.len()];
        for run in turns {
            let mut look = |place: usize, value: &Tensor| -> Result<()> {
                let channels = value.shape().last().copied().unwrap_or(1).max(1);
                seen[place].add(f32_values(value)?, channels);
                Ok(())
            };
            session.run(samples.run(run?)?, &mut look)?;
        }
        Ok(seen)
    })?;
    let mut seen: HashMap<TensorId, Channels> = HashMap::new();
    for (&tensor, found) in of_threads.iter().flat_map(|of| watched.tensors.iter().zip(of)) {
        seen.entry(tensor).or_default().join(found);
    }
    Ok(seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_and_variances_are_those_of_a_hand_calculation() {
        let mut whole = Channels::default();
        whole.add(&[1.0, -2.0, 3.0, -2.0, 5.0, -2.0], 2);
        assert_eq!((whole.min.clone(), whole.max.clone()), (vec![0.0, -2.0], vec![5.0, 0.0]));
        assert_eq!(whole.largest(), [5.0, 2.0]);
        let variances = whole.variances();
        assert!((variances[0] - 8.0 / 3.0).abs() < 1e-9 && variances[1].abs() < 1e-9);
        let (mut a, mut b) = (Channels::default(), Channels::default());
        a.add(&[5.0, -2.0, 1.0, -2.0], 2);
        b.add(&[3.0, -2.0], 2);
        b.join(&a);
        assert_eq!(b, whole);
    }
}
