//! Static integer quantization from one end to the other: ranges, plan, edit, losses.

use super::apply::EndType;
use super::budget::{BudgetReport, keep_within};
use super::calibrate::Calibration;
use super::equalize::{Factors, equalize, equalize_by};
use super::keep_float::{check_names, keeps};
use super::layer_histogram::LayerHistogram;
use super::layers::{LayerLoss, is_quantized, layer_losses};
use super::plan::{IntegerPlan, Place};
use super::ranges::{ChosenRange, RangeMethod};
use crate::compare::Samples;
use crate::graph::{ElementType, Model};
use crate::ops::ActivationType;
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap, HashSet};

#[derive(Debug, Clone)]
pub struct IntegerOptions {
    pub activations: ActivationType,
    /// One scale for all of a layer's weights, not one a channel.
    pub per_tensor: bool,
    pub ends: EndType,
    pub method: RangeMethod,
    /// Spread the numbers of a tensor's channels alike between layers that follow each other.
    pub equalization: bool,
    /// Take off each bias what rounding the weights adds to the mean.
    pub bias_correction: bool,
    /// Layers whose result's name one of these matches stay float32.
    pub keep_float: Vec<Regex>,
    /// Keep the fewest layers in float32 that bring the loss below this: of accuracy where the samples have labels,
    /// else of the outputs' power.
    pub max_drop: Option<f64>,
    /// Ranges of an earlier calibration, in place of samples.
    pub ranges: Option<SavedRanges>,
    /// Keep what the values of the worst layers are like.
    pub histograms: bool,
    /// Runs that the layers are compared on.
    pub report_runs: usize,
    /// At once; each holds the values of several graphs.
    pub report_threads: usize,
    pub threads: usize,
}

/// What calibration found, by tensor name: all that quantizing the same model again needs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SavedRanges {
    pub method: String,
    pub tensors: BTreeMap<String, ChosenRange>,
    /// How channels were equalized before the ranges were taken.
    #[serde(default)]
    pub equalization: Factors,
    #[serde(default)]
    pub channel_means: BTreeMap<String, Vec<f32>>,
}

/// What quantization came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IntegerReport {
    pub method: String,
    /// The worst by itself first.
    pub layers: Vec<LayerLoss>,
    /// Nodes with floats that stayed so, and why.
    pub float_layers: Vec<FloatLayer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetReport>,
    /// Of the worst layers, where they were asked for.
    #[serde(skip)]
    pub histograms: Vec<LayerHistogram>,
    #[serde(skip)]
    pub ranges: SavedRanges,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FloatLayer {
    pub name: String,
    pub op: String,
    pub why: String,
}

/// Runs that tell the sizes of channels.
const EQUALIZING_RUNS: usize = 32;
/// Layers whose histograms are kept.
const WORST_HISTOGRAMS: usize = 6;
/// Runs that a budget is measured on.
const BUDGET_RUNS: usize = 64;

/// Quantizes the entry graph of `model` in place.
///
/// # Errors
/// The model is quantized already; nothing in it has an integer form; no range is known; a run fails.
pub fn quantize_to_integers(
    model: &mut Model,
    samples: Option<&dyn Samples>,
    options: &IntegerOptions,
    progress: &dyn Progress,
) -> Result<IntegerReport> {
    ensure!(!is_quantized(model), "the model is quantized already; start from the float model");
    check_names(&options.keep_float, &model.subgraphs[..1])?;
    let equalization = match (&options.ranges, samples) {
        (Some(saved), _) => {
            equalize_by(model, &saved.equalization);
            saved.equalization.clone()
        }
        (None, Some(samples)) if options.equalization => {
            equalize(model, samples, EQUALIZING_RUNS, options.threads, progress)?
        }
        _ => Factors::new(),
    };
    let graph = model.main();
    let mut channel_means = HashMap::new();
    let mut seen_values = HashMap::new();
    let (chosen, method) = match (&options.ranges, samples) {
        (Some(saved), _) => {
            let of = |t: &crate::graph::Tensor| saved.tensors.get(&t.name).copied();
            let chosen: Vec<Option<ChosenRange>> = graph.tensors.iter().map(of).collect();
            ensure!(
                chosen.iter().any(Option::is_some),
                "none of the {} saved ranges has the name of one of the model's tensors",
                saved.tensors.len()
            );
            let ids = graph.tensors.iter().enumerate();
            let means = ids.filter_map(|(id, t)| Some((id, saved.channel_means.get(&t.name)?)));
            channel_means = means.map(|(id, means)| (id, means.clone())).collect();
            (chosen, saved.method.clone())
        }
        (None, Some(samples)) => {
            let histograms = options.method.needs_histogram() || options.histograms;
            let seen = Calibration::run(model, samples, histograms, options.threads, progress)?;
            let chosen = seen.choose(model, options.method, 256);
            if options.bias_correction {
                channel_means = seen.channel_means;
            }
            seen_values = seen.seen;
            (chosen, options.method.to_string())
        }
        (None, None) => anyhow::bail!("neither samples nor saved ranges were given"),
    };
    let ranges: Vec<_> = chosen.iter().map(|range| range.map(ChosenRange::range)).collect();
    let plan_with = |budget: &HashSet<usize>| {
        let keep_float = |node: usize| {
            let by_name = keeps(&options.keep_float, graph, &graph.nodes[node]);
            let by_budget = budget.contains(&node).then(|| "kept by --max-drop".to_string());
            by_name.map(|regex| format!("--keep-float '{}'", regex.as_str())).or(by_budget)
        };
        let mut plan = IntegerPlan::new(
            model,
            &ranges,
            options.activations,
            !options.per_tensor,
            options.ends,
            &keep_float,
        );
        plan.channel_means = channel_means.clone();
        plan
    };
    let mut plan = plan_with(&HashSet::new());
    ensure!(
        plan.nodes.iter().any(|place| matches!(place, Place::Integer(_))),
        "no layer of the model has an integer form: {}",
        why_none(model, &plan)
    );
    let layers = match samples {
        Some(samples) if options.report_runs > 0 => {
            let (runs, threads) = (options.report_runs, options.report_threads);
            layer_losses(model, &plan, samples, runs, threads, progress)?
        }
        _ => vec![],
    };
    let worst = if options.histograms { layers.as_slice() } else { &[] };
    let histograms = worst.iter().filter_map(|layer| {
        let result = graph.nodes[layer.node].outputs.iter().find_map(|t| seen_values.get(t))?;
        LayerHistogram::new(layer, &result.histogram)
    });
    let histograms = histograms.take(WORST_HISTOGRAMS).collect();
    let mut budget = None;
    if let Some(allowed) = options.max_drop {
        let samples = samples.context("--max-drop measures on samples: give --calibrate too")?;
        let runs = BUDGET_RUNS;
        let (kept, report) =
            keep_within(model, &plan_with, &layers, samples, runs, allowed, progress)?;
        plan = plan_with(&kept);
        ensure!(
            plan.nodes.iter().any(|place| matches!(place, Place::Integer(_))),
            "--max-drop {}%: no layer can work on integers within it; allow more",
            allowed * 100.0
        );
        budget = Some(report);
    }
    let mut quantized = model.clone();
    plan.apply(&mut quantized, options.ends)?;
    quantized.validate().context("the quantized graph")?;
    let named = graph.tensors.iter().zip(&chosen);
    let tensors = named.filter_map(|(t, range)| Some((t.name.clone(), (*range)?))).collect();
    let means = plan.channel_means.iter();
    let channel_means =
        means.map(|(&t, means)| (graph.tensors[t].name.clone(), means.clone())).collect();
    let report = IntegerReport {
        ranges: SavedRanges { method: method.clone(), tensors, equalization, channel_means },
        method,
        layers,
        float_layers: float_layers(model, &plan),
        budget,
        histograms,
    };
    *model = quantized;
    Ok(report)
}

/// Why a plan has nothing on integers, op by op.
fn why_none(model: &Model, plan: &IntegerPlan) -> String {
    let nodes = model.main().nodes.iter().zip(&plan.nodes);
    let mut reasons: Vec<String> = nodes
        .filter_map(|(node, place)| match place {
            Place::Float(why) => Some(format!("{} ({why})", node.op.name())),
            Place::Integer(_) | Place::Untouched => None,
        })
        .collect();
    reasons.sort_unstable();
    reasons.dedup();
    match reasons.is_empty() {
        true => "it computes with integers, indices or booleans alone".into(),
        false => reasons.join(", "),
    }
}

/// Nodes that stay float32, but for those that compute shapes and indices.
fn float_layers(model: &Model, plan: &IntegerPlan) -> Vec<FloatLayer> {
    let graph = model.main();
    let nodes = graph.nodes.iter().zip(&plan.nodes);
    nodes
        .filter_map(|(node, place)| {
            let Place::Float(why) = place else { return None };
            let tensor = &graph.tensors[*node.outputs.first()?];
            (tensor.element == ElementType::F32).then(|| FloatLayer {
                name: tensor.name.clone(),
                op: node.op.name().to_string(),
                why: why.clone(),
            })
        })
        .collect()
}
