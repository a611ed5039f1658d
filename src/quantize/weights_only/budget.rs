//! Weights that stay float16 so that a model's outputs keep near those of its float graph.

use super::plan::{Change, WeightPlan};
use super::{WeightOptions, count};
use crate::compare::Samples;
use crate::graph::Model;
use crate::model::plan_lite;
use crate::progress::Progress;
use crate::quantize::budget::BudgetReport;
use crate::quantize::float16::fits_float16;
use crate::quantize::judge::{Judge, Measure};
use anyhow::{Result, ensure};

/// Runs on which the loss is measured.
const RUNS: usize = 8;
/// Tries to make a large constant integers again, at most so often.
const MOST_RETURNS: usize = 12;

/// A constant that can be float16 instead.
#[derive(Clone, Copy)]
struct Site {
    graph: usize,
    change: Change,
    numbers: usize,
}

/// Changes `plan` so that the fewest numbers are float16 with which the error's share of the outputs' power is at most
/// `allowed` in every run. Where float16 for all of them is not enough, the plan stays as it is and the report says so.
///
/// Errors of layers in a row add up, each about as much, while their sizes differ by orders of magnitude: the smallest
/// constants go first.
///
/// # Errors
/// A run fails, or the user stopped it.
pub(super) fn keep_within(
    model: &Model,
    plan: &mut WeightPlan,
    options: &WeightOptions,
    samples: &dyn Samples,
    allowed: f64,
    progress: &dyn Progress,
) -> Result<BudgetReport> {
    let mut sites: Vec<Site> = vec![];
    for (graph, changes) in plan.changes.iter().enumerate() {
        let tensors = &model.subgraphs[graph].tensors;
        let fitting = changes.iter().filter(|change| fits_float16(&tensors[change.tensor]));
        sites.extend(fitting.map(|&change| Site {
            graph,
            change,
            numbers: count(&tensors[change.tensor]),
        }));
    }
    sites.sort_by_key(|site| site.numbers);

    let judge = Judge::new(model, samples, Measure::NoiseOfWorstRun, RUNS, allowed)?;
    progress.begin("finding weights to keep in float16", 0);
    let drop_with = |kept: &[Site]| -> Result<f64> {
        ensure!(!progress.cancelled(), "stopped");
        let mut quantized = model.clone();
        with_halves(plan, kept).apply(&mut quantized, options)?;
        judge.drop(&plan_lite(&quantized)?)
    };
    let drop_of_all = drop_with(&[])?;
    let mut kept = vec![];
    let mut drop = drop_of_all;
    if drop_of_all > allowed {
        (kept, drop) = search(&sites, allowed, drop_of_all, &drop_with)?;
    }
    progress.end();
    let name = |site: &Site| model.subgraphs[site.graph].tensors[site.change.tensor].name.clone();
    let report = BudgetReport {
        measure: judge.measure(),
        allowed,
        drop_of_all,
        drop,
        kept_float: kept.iter().map(name).collect(),
        holds: drop <= allowed,
    };
    *plan = with_halves(plan, &kept);
    Ok(report)
}

/// The sites to keep in float16 of those given, the smallest first, and what is lost with them.
fn search(
    sites: &[Site],
    allowed: f64,
    drop_of_all: f64,
    drop_with: &dyn Fn(&[Site]) -> Result<f64>,
) -> Result<(Vec<Site>, f64)> {
    let mut drop = drop_with(sites)?;
    if drop > allowed {
        return Ok((vec![], drop_of_all));
    }
    let (mut too_few, mut enough) = (0, sites.len());
    while enough > too_few + 1 {
        let middle = (too_few + enough) / 2;
        let found = drop_with(&sites[..middle])?;
        if found <= allowed {
            (enough, drop) = (middle, found);
        } else {
            too_few = middle;
        }
    }
    // the last of them was needed; what came before it, the largest first, perhaps not
    let mut kept = sites[..enough].to_vec();
    for place in (0..enough.saturating_sub(1)).rev().take(MOST_RETURNS) {
        let mut fewer = kept.clone();
        fewer.remove(place);
        let found = drop_with(&fewer)?;
        if found <= allowed {
            (kept, drop) = (fewer, found);
        }
    }
    Ok((kept, drop))
}

fn with_halves(plan: &WeightPlan, kept: &[Site]) -> WeightPlan {
    let mut plan = plan.clone();
    for site in kept {
        plan.changes[site.graph].retain(|change| change.tensor != site.change.tensor);
        plan.halves[site.graph].push(site.change.tensor);
    }
    plan
}
