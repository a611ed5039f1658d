//! Mixed precision: the fewest layers in float32 that keep a model's loss within a budget.

use super::apply::EndType;
use super::judge::{Judge, Measure};
use super::layers::LayerLoss;
use super::plan::IntegerPlan;
use crate::compare::Samples;
use crate::graph::Model;
use crate::model::plan_lite;
use crate::progress::Progress;
use anyhow::{Result, ensure};
use serde::Serialize;
use std::collections::HashSet;

/// What a budget came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BudgetReport {
    /// `accuracy` (share of right answers lost) or `noise` (power of the error by that of the outputs; of all runs, or
    /// `of the worst run`).
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
    let judge = Judge::new(model, samples, Measure::AnswersOrNoise, most_runs, allowed)?;
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
