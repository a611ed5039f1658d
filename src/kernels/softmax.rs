//! Softmax over the rows of a matrix, and the cross-entropy of it with integer labels.
#![allow(clippy::needless_range_loop)]

use super::exponential::exp;
use super::instruction_set::multiversioned;

const LANES: usize = 16;

multiversioned! {
    /// Each row of `columns` values becomes its softmax. A row with a NaN, with +infinity or with
    /// nothing but -infinity becomes NaN.
    pub fn softmax_rows(values: &mut [f32], columns: usize) = softmax_rows_body, softmax_rows_on;

    /// Cross-entropy of the softmax of rows of logits: per row its loss, `gradients` become
    /// `scale * (softmax - one_hot(label))`, and the result counts the rows whose first largest
    /// logit is the label's. Panics on lengths that do not agree and on a label out of range.
    pub fn softmax_cross_entropy(
        logits: &[f32],
        labels: &[u32],
        scale: f32,
        losses: &mut [f32],
        gradients: &mut [f32],
    ) -> usize = softmax_cross_entropy_body, softmax_cross_entropy_on;
}

#[inline(always)]
fn softmax_rows_body(values: &mut [f32], columns: usize) {
    if values.is_empty() {
        return;
    }
    assert!(
        columns > 0 && values.len().is_multiple_of(columns),
        "{} values are not rows of {columns}",
        values.len()
    );
    for block in values.chunks_mut(block_len(columns)) {
        for row in block.chunks_exact_mut(columns) {
            let max = reduce(row, f32::NEG_INFINITY, larger);
            row.iter_mut().for_each(|x| *x -= max);
        }
        block.iter_mut().for_each(|x| *x = exp(*x));
        for row in block.chunks_exact_mut(columns) {
            let factor = 1.0 / reduce(row, 0.0, |a, b| a + b);
            row.iter_mut().for_each(|y| *y *= factor);
        }
    }
}

/// Whole rows that stay in L1. The exponentials run over all of them at once: no tail per row.
#[inline(always)]
fn block_len(columns: usize) -> usize {
    (2048 / columns).max(1) * columns
}

#[inline(always)]
fn softmax_cross_entropy_body(
    logits: &[f32],
    labels: &[u32],
    scale: f32,
    losses: &mut [f32],
    gradients: &mut [f32],
) -> usize {
    let rows = labels.len();
    assert_eq!(losses.len(), rows, "as many losses as labels");
    assert_eq!(gradients.len(), logits.len(), "as many gradients as logits");
    if rows == 0 {
        assert!(logits.is_empty(), "logits without labels");
        return 0;
    }
    assert!(
        !logits.is_empty() && logits.len().is_multiple_of(rows),
        "{} logits are not {rows} rows",
        logits.len()
    );
    let classes = logits.len() / rows;
    let length = block_len(classes);
    let mut correct = 0;
    for (block, gradients) in gradients.chunks_mut(length).enumerate() {
        let logits = &logits[block * length..][..gradients.len()];
        let rows = block * length / classes..(block * length + logits.len()) / classes;
        let (labels, losses) = (&labels[rows.clone()], &mut losses[rows]);

        let rows = logits.chunks_exact(classes).zip(gradients.chunks_exact_mut(classes));
        for ((logits, shifted), (label, loss)) in rows.zip(labels.iter().zip(losses.iter_mut())) {
            let label = *label as usize;
            assert!(label < classes, "label {label} of {classes} classes");
            let max = reduce(logits, f32::NEG_INFINITY, larger);
            for (shifted, x) in shifted.iter_mut().zip(logits) {
                *shifted = x - max;
            }
            *loss = shifted[label];
            correct += usize::from(logits.iter().position(|x| *x == max) == Some(label));
        }
        gradients.iter_mut().for_each(|x| *x = exp(*x));
        let rows = gradients.chunks_exact_mut(classes);
        for (row, (label, loss)) in rows.zip(labels.iter().zip(losses)) {
            let sum = reduce(row, 0.0, |a, b| a + b);
            let factor = scale / sum;
            row.iter_mut().for_each(|y| *y *= factor);
            row[*label as usize] -= scale;
            *loss = (f64::from(sum).ln() - f64::from(*loss)) as f32;
        }
    }
    correct
}

/// Whole vectors lane by lane, the lanes folded in halves, then the rest in order: the same order
/// for every instruction set.
#[inline(always)]
fn reduce(row: &[f32], start: f32, join: impl Fn(f32, f32) -> f32) -> f32 {
    let (chunks, tail) = row.as_chunks::<LANES>();
    let mut result = start;
    if !chunks.is_empty() {
        let mut lanes = [start; LANES];
        for chunk in chunks {
            for l in 0..LANES {
                lanes[l] = join(lanes[l], chunk[l]);
            }
        }
        for half in [8, 4, 2, 1] {
            for l in 0..half {
                lanes[l] = join(lanes[l], lanes[l + half]);
            }
        }
        result = lanes[0];
    }
    tail.iter().fold(result, |result, x| join(result, *x))
}

#[inline(always)]
fn larger(a: f32, b: f32) -> f32 {
    if b > a { b } else { a }
}

#[cfg(test)]
mod tests {
    use super::super::instruction_set::InstructionSet;
    use super::super::test_values::{assert_same_bits, values};
    use super::*;

    fn truth(row: &[f32]) -> Vec<f64> {
        let max = row.iter().copied().fold(f32::NEG_INFINITY, f32::max) as f64;
        let e: Vec<f64> = row.iter().map(|x| (*x as f64 - max).exp()).collect();
        let sum: f64 = e.iter().sum();
        e.iter().map(|e| e / sum).collect()
    }

    /// The difference of two logits up to 60 apart is itself off by 60 * 2^-24.
    #[test]
    fn softmax_is_the_truth_in_the_same_bits_everywhere() {
        for (rows, columns) in [(0, 3), (1, 1), (3, 2), (5, 10), (2, 16), (3, 17), (2, 1001)] {
            let x: Vec<f32> = values(rows * columns, 1).iter().map(|v| v * 30.0).collect();
            let mut expected = x.clone();
            softmax_rows_on(InstructionSet::Portable, &mut expected, columns);
            for set in InstructionSet::available() {
                let mut got = x.clone();
                softmax_rows_on(set, &mut got, columns);
                assert_same_bits(&got, &expected, &format!("{set:?}, {rows} x {columns}"));
            }
            for (x, y) in x.chunks(columns).zip(expected.chunks(columns)) {
                for (y, truth) in y.iter().zip(truth(x)) {
                    let bound = (4e-7 + 60.0 * 6e-8) * truth;
                    assert!((*y as f64 - truth).abs() <= bound, "{y} {truth}");
                }
            }
        }
    }

    #[test]
    fn softmax_of_extremes() {
        let inf = f32::INFINITY;
        let mut y = [3e38, -3e38, -inf, 0.0, 0.0, -inf];
        softmax_rows(&mut y, 3);
        assert_eq!(y, [1.0, 0.0, 0.0, 0.5, 0.5, 0.0]);
        for row in [[f32::NAN, 1.0], [inf, 1.0], [-inf, -inf]] {
            let mut y = row;
            softmax_rows(&mut y, 2);
            assert!(y.iter().any(|y| y.is_nan()), "{row:?} became {y:?}");
        }
    }

    #[test]
    fn cross_entropy_by_hand() {
        let logits = [0.0, 0.0, 2f32.ln(), 0.0, 5.0, 5.0];
        let (mut losses, mut gradients) = ([0.0; 2], [0.0; 6]);
        let correct = softmax_cross_entropy(&logits, &[2, 2], 4.0, &mut losses, &mut gradients);
        assert_eq!(correct, 1, "the second row's first largest is class 1");
        assert!((losses[0] - 2f32.ln()).abs() < 1e-6);
        for (got, expected) in gradients.iter().zip([1.0, 1.0, -2.0]) {
            assert!((got - expected).abs() < 1e-6, "{gradients:?}");
        }
    }

    #[test]
    fn cross_entropy_is_the_truth_in_the_same_bits_everywhere() {
        for (rows, classes) in [(1, 1), (7, 3), (32, 10), (4, 33)] {
            let logits: Vec<f32> = values(rows * classes, 9).iter().map(|v| v * 9.0).collect();
            let labels: Vec<u32> = (0..rows).map(|r| (r * 7 % classes) as u32).collect();
            let run = |set| {
                let (mut losses, mut g) = (vec![0.0; rows], vec![0.0; rows * classes]);
                let correct =
                    softmax_cross_entropy_on(set, &logits, &labels, 0.125, &mut losses, &mut g);
                (correct, losses, g)
            };
            let expected = run(InstructionSet::Portable);
            for set in InstructionSet::available() {
                let got = run(set);
                assert_eq!(got.0, expected.0);
                assert_same_bits(&got.1, &expected.1, "losses");
                assert_same_bits(&got.2, &expected.2, "gradients");
            }
            for (r, row) in logits.chunks(classes).enumerate() {
                let label = labels[r] as usize;
                let p = truth(row);
                assert!((expected.1[r] as f64 + p[label].ln()).abs() < 2e-6);
                for (c, p) in p.iter().enumerate() {
                    let truth = 0.125 * (p - if c == label { 1.0 } else { 0.0 });
                    assert!((expected.2[r * classes + c] as f64 - truth).abs() < 1e-7);
                }
            }
        }
    }

    #[test]
    #[should_panic(expected = "label 3 of 3 classes")]
    fn a_label_out_of_range_panics() {
        softmax_cross_entropy(&[0.0; 3], &[3], 1.0, &mut [0.0], &mut [0.0; 3]);
    }

    #[test]
    #[should_panic(expected = "7 values are not rows of 3")]
    fn a_ragged_matrix_panics() {
        softmax_rows(&mut [0.0; 7], 3);
    }
}
