//! Mixed precision: the fewest layers in float32 that keep a model's loss within a budget.

use super::apply::EndType;
use super::layers::LayerLoss;
use super::plan::IntegerPlan;
use crate::compare::{Samples, right_answers};
use crate::graph::Model;
use crate::model::plan_lite;
use crate::progress::Progress;
use crate::runtime::{Plan, Tensor, to_f32};
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::HashSet;

/// What a budget came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetReport {
    /// `accuracy` (share of right answers lost) or `noise` (power of the error by that of the outputs).
    pub measure: &'static str,
    pub allowed: f64,
    /// With all layers that have an integer form on integers.
    pub drop_of_all: f64,
    pub drop: f64,
    /// The layers that stay float32 for it.
    pub kept_float: Vec<String>,
    pub holds: bool,
}

/// Tries to put a layer back on integers at most so often.
const MOST_RETURNS: usize = 24;

/// Measures quantized graphs against the float graph on the same samples.
struct Judge<'a> {
    samples: &'a dyn Samples,
    runs: usize,
    expected: Vec<Vec<Vec<f32>>>,
    /// Right answers of the float graph, where the samples have labels and the outputs classes.
    right: Option<usize>,
    labelled: usize,
}

impl<'a> Judge<'a> {
    fn new(
        model: &Model,
        samples: &'a dyn Samples,
        most_runs: usize,
        allowed: f64,
    ) -> Result<Judge<'a>> {
        let plan = plan_lite(model)?;
        let runs = enough_runs(samples, most_runs, allowed);
        let mut judge = Judge { samples, runs, expected: vec![], right: None, labelled: 0 };
        let mut session = plan.session()?;
        let mut right = 0;
        for run in 0..runs {
            let outputs = session.run(samples.run(run)?)?;
            if let Some(found) = judge.right(run, &outputs)? {
                right += found.0;
                judge.labelled += found.1;
            }
            judge.expected.push(outputs.iter().map(to_f32).collect::<Result<_>>()?);
        }
        judge.right = (judge.labelled > 0).then_some(right);
        Ok(judge)
    }

    /// Right answers and labels of a run.
    fn right(&self, run: usize, outputs: &[Tensor]) -> Result<Option<(usize, usize)>> {
        let (Some(labels), Some(output)) = (self.samples.labels(run), outputs.first()) else {
            return Ok(None);
        };
        Ok(right_answers(&to_f32(output)?, &labels).map(|right| (right, labels.len())))
    }

    fn measure(&self) -> &'static str {
        if self.right.is_some() { "accuracy" } else { "noise" }
    }

    /// How much worse `plan` is than the float graph.
    fn drop(&self, plan: &Plan) -> Result<f64> {
        let mut session = plan.session()?;
        let mut right = 0;
        let mut sums: Vec<(f64, f64)> = vec![];
        for run in 0..self.runs {
            let outputs = session.run(self.samples.run(run)?)?;
            right += self.right(run, &outputs)?.map_or(0, |(right, _)| right);
            sums.resize(outputs.len(), (0.0, 0.0));
            for ((sum, output), expected) in sums.iter_mut().zip(&outputs).zip(&self.expected[run])
            {
                for (a, b) in expected.iter().zip(to_f32(output)?) {
                    let (a, b) = (*a as f64, b as f64);
                    *sum = (sum.0 + a * a, sum.1 + (a - b) * (a - b));
                }
            }
        }
        if let Some(before) = self.right {
            return Ok((before as f64 - right as f64) / self.labelled as f64);
        }
        Ok(sums.iter().map(|&(signal, noise)| share(signal, noise)).fold(0.0, f64::max))
    }
}

/// Wrong answers that the budget is to have room for, so that it is no coarser than what it measures.
const LEAST_ANSWERS: f64 = 4.0;

/// `most_runs`, or more where the samples have labels: so many that `allowed` is some answers.
fn enough_runs(samples: &dyn Samples, most_runs: usize, allowed: f64) -> usize {
    let wanted = LEAST_ANSWERS / allowed;
    let mut rows = 0;
    let is_enough = |run: &usize| {
        let labels = samples.labels(*run).map(|labels| labels.len());
        rows += labels.unwrap_or(0);
        *run + 1 >= most_runs && (labels.is_none() || rows as f64 >= wanted)
    };
    (0..samples.runs()).find(is_enough).map_or(samples.runs(), |run| run + 1)
}

/// Noise by signal; what is not a number is as bad as can be.
fn share(signal: f64, noise: f64) -> f64 {
    let share = noise / signal;
    match noise == 0.0 {
        true => 0.0,
        false => Some(share).filter(|s| !s.is_nan()).unwrap_or(f64::INFINITY),
    }
}

/// Finds the layers to keep float32 among `losses` (the worst first) so that the drop is at most `allowed`; `plan_with`
/// plans with these nodes in float32.
///
/// # Errors
/// A run fails, or the user stopped it.
pub fn keep_within(
    model: &Model,
    plan_with: &dyn Fn(&HashSet<usize>) -> IntegerPlan,
    losses: &[LayerLoss],
    samples: &dyn Samples,
    most_runs: usize,
    allowed: f64,
    progress: &dyn Progress,
) -> Result<(HashSet<usize>, BudgetReport)> {
    let judge = Judge::new(model, samples, most_runs, allowed)?;
    progress.begin("finding layers to keep in float32", 0);
    let drop_with = |kept: &HashSet<usize>| -> Result<f64> {
        ensure!(!progress.cancelled(), "stopped");
        let mut quantized = model.clone();
        plan_with(kept).apply(&mut quantized, EndType::Float32)?;
        judge.drop(&plan_lite(&quantized)?)
    };
    let first = |count: usize| -> HashSet<usize> {
        losses.iter().take(count).map(|loss| loss.node).collect()
    };
    let drop_of_all = drop_with(&first(0))?;
    // the smallest number of the worst layers that is enough: doubled, then halved in
    let (mut too_few, mut enough) = (0, usize::from(drop_of_all > allowed));
    let mut drop = drop_of_all;
    while enough > 0 {
        drop = drop_with(&first(enough))?;
        if drop <= allowed || enough >= losses.len() {
            break;
        }
        (too_few, enough) = (enough, (2 * enough).min(losses.len()));
    }
    while drop <= allowed && enough > too_few + 1 {
        let middle = (too_few + enough) / 2;
        let found = drop_with(&first(middle))?;
        if found <= allowed {
            (enough, drop) = (middle, found);
        } else {
            too_few = middle;
        }
    }
    let mut kept = first(enough);
    if drop <= allowed {
        // what was taken in on the way to a worse layer goes back
        let returning = losses[..enough].iter().rev().skip(1).take(MOST_RETURNS);
        for loss in returning {
            kept.remove(&loss.node);
            let found = drop_with(&kept)?;
            if found <= allowed {
                drop = found;
            } else {
                kept.insert(loss.node);
            }
        }
    }
    progress.end();
    let names = losses.iter().filter(|loss| kept.contains(&loss.node));
    let report = BudgetReport {
        measure: judge.measure(),
        allowed,
        drop_of_all,
        drop,
        kept_float: names.map(|loss| loss.name.clone()).collect(),
        holds: drop <= allowed,
    };
    Ok((kept, report))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Runs of 8 rows with or without labels.
    struct Rows(bool);

    impl Samples for Rows {
        fn runs(&self) -> usize {
            100
        }

        fn run(&self, _index: usize) -> Result<Vec<Tensor>> {
            Ok(vec![])
        }

        fn labels(&self, _index: usize) -> Option<Vec<usize>> {
            self.0.then(|| vec![0; 8])
        }
    }

    #[test]
    fn a_budget_is_measured_on_enough_labels_for_some_wrong_answers() {
        let runs = |labelled, allowed| enough_runs(&Rows(labelled), 10, allowed);
        assert_eq!([runs(false, 0.005), runs(false, 0.0)], [10; 2]);
        // 4 / 1 % is 400 rows, 4 / 0.1 % more than there are
        assert_eq!([runs(true, 0.1), runs(true, 0.01), runs(true, 0.001)], [10, 50, 100]);
        assert_eq!(runs(true, 0.0), 100);
    }

    #[test]
    fn what_is_not_a_number_is_over_any_budget() {
        assert_eq!([share(4.0, 0.0), share(0.0, 0.0), share(4.0, 1.0)], [0.0, 0.0, 0.25]);
        assert_eq!([share(0.0, 1.0), share(f64::NAN, 1.0)], [f64::INFINITY; 2]);
        assert_eq!(share(4.0, f64::NAN), f64::INFINITY);
    }
}
