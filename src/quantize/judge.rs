//! How much worse a quantized graph is than its float graph, on the same samples.

use crate::compare::{Samples, right_answers};
use crate::graph::Model;
use crate::model::plan_lite;
use crate::runtime::{Plan, Tensor, to_f32};
use anyhow::Result;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Measure {
    /// Right answers lost where the samples have labels and the outputs classes, otherwise the error's share of the
    /// outputs' power.
    AnswersOrNoise,
    /// The error's share of the power of all outputs together, in the run that has most of it.
    NoiseOfWorstRun,
}

/// Measures quantized graphs against the float graph on the same samples.
pub struct Judge<'a> {
    samples: &'a dyn Samples,
    measure: Measure,
    runs: usize,
    expected: Vec<Vec<Vec<f32>>>,
    /// Right answers of the float graph, where the samples have labels and the outputs classes.
    right: Option<usize>,
    labelled: usize,
}

impl<'a> Judge<'a> {
    pub fn new(
        model: &Model,
        samples: &'a dyn Samples,
        measure: Measure,
        most_runs: usize,
        allowed: f64,
    ) -> Result<Judge<'a>> {
        let plan = plan_lite(model)?;
        let runs = enough_runs(samples, most_runs, allowed);
        let mut judge =
            Judge { samples, measure, runs, expected: vec![], right: None, labelled: 0 };
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
        if self.measure == Measure::NoiseOfWorstRun {
            return Ok(None);
        }
        let (Some(labels), Some(output)) = (self.samples.labels(run), outputs.first()) else {
            return Ok(None);
        };
        Ok(right_answers(&to_f32(output)?, &labels).map(|right| (right, labels.len())))
    }

    pub fn measure(&self) -> &'static str {
        match self.measure {
            Measure::AnswersOrNoise if self.right.is_some() => "accuracy",
            Measure::AnswersOrNoise => "noise",
            Measure::NoiseOfWorstRun => "noise of the worst run",
        }
    }

    /// How much worse `plan` is than the float graph.
    pub fn drop(&self, plan: &Plan) -> Result<f64> {
        let mut session = plan.session()?;
        let mut right = 0;
        let mut sums: Vec<(f64, f64)> = vec![];
        let mut worst = 0.0;
        let worst_of = |sums: &[(f64, f64)]| {
            sums.iter().map(|&(signal, noise)| share(signal, noise)).fold(0.0, f64::max)
        };
        for run in 0..self.runs {
            let outputs = session.run(self.samples.run(run)?)?;
            right += self.right(run, &outputs)?.map_or(0, |(right, _)| right);
            sums.resize(outputs.len(), (0.0, 0.0));
            for ((sum, output), expected) in sums.iter_mut().zip(&outputs).zip(&self.expected[run])
            {
                for (&a, b) in expected.iter().zip(to_f32(output)?) {
                    if a.is_nan() && b.is_nan() || a == b && a.is_infinite() {
                        continue;
                    }
                    let (a, b) = (a as f64, b as f64);
                    *sum = (sum.0 + a * a, sum.1 + (a - b) * (a - b));
                }
            }
            if self.measure == Measure::NoiseOfWorstRun {
                let (signal, noise) =
                    sums.drain(..).fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
                worst = share(signal, noise).max(worst);
            }
        }
        if let Some(before) = self.right {
            return Ok((before as f64 - right as f64) / self.labelled as f64);
        }
        Ok(worst_of(&sums).max(worst))
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
