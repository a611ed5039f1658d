//! Two models on the same inputs: how far their outputs are apart.

mod align;
mod inputs;
mod layers;

pub use align::{Alignment, End, Side};
pub use inputs::{Inputs, Samples, digits, example_inputs, rows_of_runs, with_normal_values};
pub use layers::{LayerDifference, Layers, compare_layers};

use crate::format::mmap;
use crate::progress::Silent;
use crate::runtime::{Plan, Port, Session, Tensor, share_out, to_f32};
use anyhow::{Context, Result, ensure};
use serde::Serialize;

/// How one output differs between a reference and another model, over all runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputDifference {
    pub name: String,
    pub values: usize,
    pub max_difference: f64,
    pub mean_difference: f64,
    /// The largest absolute value of the reference.
    pub reference_max: f64,
    /// `max_difference / reference_max`; what a tolerance is held against.
    pub relative: f64,
    /// Signal to quantization noise: 10·log10(Σ reference² / Σ difference²); absent where equal.
    pub sqnr_db: Option<f64>,
    /// Of outputs `[rows, classes]`: rows with the same largest class.
    pub same_class: Option<usize>,
    pub rows: Option<usize>,
    /// Of the first output, where the inputs have labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accuracy: Option<Accuracy>,
}

/// Shares of right answers on the same rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Accuracy {
    pub rows: usize,
    pub reference: f64,
    pub other: f64,
    /// Of a hundred: 0.5 is half a percent of all rows.
    pub points_lost: f64,
}

/// Compares `other` with `reference` on `samples` (tensors in the reference's order of inputs and axes).
///
/// # Errors
/// A run fails, or outputs that correspond have different shapes.
pub fn compare(
    reference: &Plan,
    other: &Plan,
    alignment: &Alignment,
    samples: &dyn Samples,
) -> Result<Vec<OutputDifference>> {
    compare_in_turn(reference.clone(), || Ok(other.clone()), alignment, samples, 1)
}

/// As [`compare`], but `other` is only made once the reference has run and is gone: large models need
/// not be in memory together. The result does not depend on the number of `threads`.
pub fn compare_in_turn(
    reference: Plan,
    other: impl FnOnce() -> Result<Plan>,
    alignment: &Alignment,
    samples: &dyn Samples,
    threads: usize,
) -> Result<Vec<OutputDifference>> {
    let ports = reference.outputs().to_vec();
    let inputs = reference.inputs().to_vec();
    let runs = samples.runs();
    let expected: Vec<Vec<Tensor>> = on_all(runs, threads, &reference, |session, run| {
        session.run(samples.run(run)?).context("running the reference")
    })?;
    drop(reference);
    mmap::return_freed_memory();

    let other = other()?;
    let of_runs = on_all(runs, threads, &other, |session, run| {
        let theirs = their_inputs(alignment, &inputs, other.inputs(), &samples.run(run)?)?;
        let found = session.run(theirs).context("running the other model")?;
        let mut sums = vec![];
        for ((port, expected), end) in ports.iter().zip(&expected[run]).zip(&alignment.outputs) {
            let expected = port.reals(expected)?;
            let found = other.outputs()[end.place].reals(&found[end.place])?;
            let mut sum = Sums::of(&permuted(expected.clone(), &end.permutation)?, &found)?;
            if let (Some(labels), true) = (samples.labels(run), sums.is_empty()) {
                sum.judge(&expected, &found, &labels)?;
            }
            sums.push(sum);
        }
        Ok(sums)
    })?;
    let mut sums: Vec<Sums> = ports.iter().map(|_| Sums::default()).collect();
    for of_run in of_runs {
        sums.iter_mut().zip(of_run).for_each(|(sum, of_run)| sum.join(of_run));
    }
    Ok(sums.into_iter().zip(&ports).map(|(sum, port)| sum.finish(&port.name)).collect())
}

/// What `work` makes of each run, in their order.
fn on_all<T: Send>(
    runs: usize,
    threads: usize,
    plan: &Plan,
    work: impl Fn(&mut Session, usize) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let of_threads = share_out(runs, threads, ("comparing", &Silent), |turns| {
        let mut session = plan.session()?;
        turns.map(|run| run.and_then(|run| Ok((run, work(&mut session, run)?)))).collect()
    })?;
    let mut made: Vec<(usize, T)> = of_threads.into_iter().flat_map(|made: Vec<_>| made).collect();
    made.sort_by_key(|(run, _)| *run);
    Ok(made.into_iter().map(|(_, made)| made).collect())
}

/// The other model's inputs (`theirs`) for a run of the reference, by way of reals where their integers differ.
fn their_inputs(
    alignment: &Alignment,
    ours: &[Port],
    theirs: &[Port],
    run: &[Tensor],
) -> Result<Vec<Tensor>> {
    let input = |(end, port): (&End, &Port)| {
        let (own, mut tensor) = (&ours[end.place], run[end.place].clone());
        let same = own.element == port.element && own.quantization == port.quantization;
        if !same && own.has_reals() && port.has_reals() {
            tensor = port.of_reals(own.reals(&tensor)?)?;
        }
        permuted(tensor, &end.permutation)
    };
    alignment.inputs.iter().zip(theirs).map(input).collect()
}

fn permuted(tensor: Tensor, permutation: &[usize]) -> Result<Tensor> {
    match permutation.iter().enumerate().all(|(axis, &p)| axis == p) {
        true => Ok(tensor),
        false => tensor.permute_axes(permutation),
    }
}

fn names(ports: &[Port]) -> Vec<&str> {
    ports.iter().map(|p| p.name.as_str()).collect()
}

#[derive(Default)]
struct Sums {
    values: usize,
    max: f64,
    total: f64,
    reference_max: f64,
    signal: f64,
    noise: f64,
    rows: usize,
    same: usize,
    is_matrix: bool,
    labelled: usize,
    /// Of the reference, and of the other.
    right: [usize; 2],
}

impl Sums {
    /// Counts the right answers of a run.
    fn judge(&mut self, expected: &Tensor, found: &Tensor, labels: &[usize]) -> Result<()> {
        let both = [expected, found]
            .map(|values| -> Result<_> { Ok(right_answers(&to_f32(values)?, labels)) });
        let [reference, other] = both;
        if let (Some(reference), Some(other)) = (reference?, other?) {
            self.labelled += labels.len();
            self.right[0] += reference;
            self.right[1] += other;
        }
        Ok(())
    }

    fn join(&mut self, other: Sums) {
        self.values += other.values;
        self.max = self.max.max(other.max);
        self.total += other.total;
        self.reference_max = self.reference_max.max(other.reference_max);
        self.signal += other.signal;
        self.noise += other.noise;
        self.rows += other.rows;
        self.same += other.same;
        self.is_matrix |= other.is_matrix;
        self.labelled += other.labelled;
        self.right = [0, 1].map(|i| self.right[i] + other.right[i]);
    }

    fn of(expected: &Tensor, found: &Tensor) -> Result<Sums> {
        let mut sums = Sums::default();
        ensure!(
            expected.shape() == found.shape(),
            "the outputs' shapes differ: {:?} and {:?}",
            expected.shape(),
            found.shape()
        );
        let (reference, other) = (to_f32(expected)?, to_f32(found)?);
        for (&a, &b) in reference.iter().zip(&other) {
            let (a, b) = (a as f64, b as f64);
            let difference = match a.is_nan() && b.is_nan() || a == b {
                true => 0.0,
                false if a.is_finite() && b.is_finite() => (a - b).abs(),
                false => f64::INFINITY,
            };
            sums.max = sums.max.max(difference);
            sums.total += difference;
            sums.noise += difference * difference;
            if a.is_finite() {
                sums.reference_max = sums.reference_max.max(a.abs());
                sums.signal += a * a;
            }
        }
        sums.values += reference.len();
        if let &[rows, classes] = expected.shape()
            && classes > 1
        {
            sums.is_matrix = true;
            sums.rows += rows;
            let pairs = reference.chunks_exact(classes).zip(other.chunks_exact(classes));
            sums.same += pairs.filter(|(a, b)| largest(a) == largest(b)).count();
        }
        Ok(sums)
    }

    fn finish(self, name: &str) -> OutputDifference {
        let relative = match self.max == 0.0 {
            true => 0.0,
            false => self.max / self.reference_max,
        };
        OutputDifference {
            name: name.to_string(),
            values: self.values,
            max_difference: self.max,
            mean_difference: self.total / self.values.max(1) as f64,
            reference_max: self.reference_max,
            relative,
            sqnr_db: (self.noise > 0.0).then(|| 10.0 * (self.signal / self.noise).log10()),
            same_class: self.is_matrix.then_some(self.same),
            rows: self.is_matrix.then_some(self.rows),
            accuracy: (self.labelled > 0).then(|| {
                let [reference, other] = self.right.map(|n| n as f64 / self.labelled as f64);
                let points_lost = (reference - other) * 100.0;
                Accuracy { rows: self.labelled, reference, other, points_lost }
            }),
        }
    }
}

/// In how many rows of `values` the largest is that of `labels`, which has one for each row; `None` where they do not fit.
pub fn right_answers(values: &[f32], labels: &[usize]) -> Option<usize> {
    let classes = values.len().checked_div(labels.len())?;
    let fits = classes > 1 && values.len() == classes * labels.len();
    let rows = values.chunks_exact(classes.max(1)).zip(labels);
    fits.then(|| rows.filter(|(row, label)| largest(row) == **label).count())
}

/// The index of the largest value, the first of equals; 0 of none.
pub fn largest(values: &[f32]) -> usize {
    (1..values.len()).fold(0, |best, i| if values[i] > values[best] { i } else { best })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn difference(a: &[f32], b: &[f32], shape: &[usize]) -> OutputDifference {
        let tensor = |v| Tensor::from_shape(shape, v).unwrap();
        Sums::of(&tensor(a), &tensor(b)).unwrap().finish("y")
    }

    #[test]
    fn differences_are_what_a_hand_calculation_gives() {
        let d = difference(&[1.0, 2.0, -4.0, 0.0], &[1.0, 2.5, -4.0, 1.0], &[2, 2]);
        assert_eq!(d.max_difference, 1.0);
        assert_eq!(d.mean_difference, 0.375);
        assert_eq!(d.relative, 0.25);
        assert_eq!((d.same_class, d.rows), (Some(2), Some(2)));
        let sqnr = 10.0 * (21.0f64 / 1.25).log10();
        assert!((d.sqnr_db.unwrap() - sqnr).abs() < 1e-12);
    }

    #[test]
    fn right_answers_are_counted_where_labels_fit() {
        assert_eq!(right_answers(&[1.0, 2.0, 4.0, 0.0, 5.0, 6.0], &[1, 1, 1]), Some(2));
        for labels in [&[][..], &[0, 1, 0, 1], &[0; 6]] {
            assert_eq!(right_answers(&[1.0, 2.0, 4.0, 0.0, 5.0, 6.0], labels), None);
        }
        let mut sums = Sums::default();
        let tensor = |v: &[f32]| Tensor::from_shape(&[4, 2], v).unwrap();
        let expected = tensor(&[1.0, 0.0, 1.0, 0.0, 0.0, 1.0, 0.0, 1.0]);
        let found = tensor(&[1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 1.0]);
        sums.judge(&expected, &found, &[0, 0, 0, 1]).unwrap();
        let accuracy = sums.finish("y").accuracy.unwrap();
        let shares = [accuracy.reference, accuracy.other, accuracy.points_lost];
        assert_eq!((accuracy.rows, shares), (4, [0.75, 0.75, 0.0]));
    }

    #[test]
    fn not_a_number_counts_as_far_unless_both_are() {
        assert_eq!(difference(&[f32::NAN], &[f32::NAN], &[1]).max_difference, 0.0);
        assert!(difference(&[1.0], &[f32::NAN], &[1]).relative.is_infinite());
        assert!(difference(&[0.0], &[1.0], &[1]).relative.is_infinite());
        assert_eq!(difference(&[2.0, 1.0], &[1.0, 2.0], &[1, 2]).same_class, Some(0));
    }
}
