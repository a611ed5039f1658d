//! `compare`: two models, same inputs, how far apart.

use super::Outcome;
use super::inputs::test_inputs;
use crate::compare::{Alignment, LayerDifference, Layers, OutputDifference, Side, compare_layers};
use crate::data::preprocessing::{Layout, Preprocessing};
use crate::graph::ElementType;
use crate::model::{Graph, LoadedModel, locate};
use crate::passes::channels_last;
use crate::quantize::Scheme;
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    pub reference: PathBuf,
    pub other: PathBuf,
    /// The largest allowed relative difference; without it nothing is demanded.
    pub tolerance: Option<f64>,
    /// As `predict` takes inputs; `mnist` is the built-in test digits. Otherwise what suits the reference.
    pub data: Vec<PathBuf>,
    /// Compare what lies between inputs and outputs too.
    pub per_layer: bool,
    /// The largest difference first, not in the order of the reference.
    pub worst_first: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompareReport {
    pub reference: PathBuf,
    pub other: PathBuf,
    pub inputs: String,
    pub outputs: Vec<OutputDifference>,
    pub tolerance: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub per_layer: Option<PerLayer>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PerLayer {
    /// What `first_past` is told by.
    pub tolerance: f64,
    /// The first value of floats, in the order of the reference, that differs by more. Booleans and integers
    /// differ by whole numbers where a float before them differs by little.
    pub first_past: Option<String>,
    #[serde(flatten)]
    pub layers: Layers,
}

/// Rows that run at once, and with every value of the graphs kept.
const MOST_ROWS: usize = 64;
const MOST_ROWS_PER_LAYER: usize = 8;

pub fn compare(options: &CompareOptions) -> Result<Outcome<CompareReport>> {
    let reference = LoadedModel::load(&locate(Some(&options.reference))?)?;
    let other = LoadedModel::load(&locate(Some(&options.other))?)?;
    let (plan, other_plan) = (reference.plan()?, other.plan()?);
    let sides = [(&reference, &plan), (&other, &other_plan)]
        .map(|(model, plan)| Side::of(plan, &model.permuted));
    let alignment = Alignment::new(sides[0], sides[1])?;
    let ports = alignment.common_inputs(plan.inputs(), other_plan.inputs());
    let record = reference.preprocessing.clone().or_else(|| record_of_other(&other, &alignment));
    let most_rows = if options.per_layer { MOST_ROWS_PER_LAYER } else { MOST_ROWS };
    let inputs = test_inputs(&options.data, &plan, &ports, record.as_ref(), most_rows)?;
    let outputs = crate::compare::compare(&plan, &other_plan, &alignment, &inputs)?;
    let holds = options.tolerance.is_none_or(|t| outputs.iter().all(|o| o.relative <= t));
    let per_layer = match options.per_layer {
        false => None,
        true => {
            let values = (reference.values()?, other.values()?);
            let layers = compare_layers(&values.0, &values.1, &alignment, &inputs.runs)?;
            let float16 = is_float16(&reference) || is_float16(&other);
            let usual = Scheme::tolerance_of(float16.then_some(Scheme::Float16));
            Some(per_layer(layers, options.tolerance.unwrap_or(usual), options.worst_first))
        }
    };
    let report = CompareReport {
        reference: reference.path,
        other: other.path,
        inputs: inputs.what,
        outputs,
        tolerance: options.tolerance,
        per_layer,
    };
    Ok(if holds { Outcome::Done(report) } else { Outcome::CheckFailed(report) })
}

fn per_layer(mut layers: Layers, tolerance: f64, worst_first: bool) -> PerLayer {
    let past = |layer: &&LayerDifference| {
        layer.element.starts_with("float")
            && (layer.relative.is_nan() || layer.relative > tolerance)
    };
    let first_past = layers.layers.iter().find(past).map(|layer| layer.node.clone());
    if worst_first {
        layers.layers.sort_by(|a, b| b.relative.total_cmp(&a.relative));
    }
    PerLayer { tolerance, first_past, layers }
}

/// What the other model says of its pictures, in the reference's order of axes.
fn record_of_other(other: &LoadedModel, alignment: &Alignment) -> Option<Preprocessing> {
    let mut record = other.preprocessing.clone()?;
    let [input] = alignment.inputs.as_slice() else { return None };
    if input.permutation == channels_last(4) {
        record.layout = Layout::Nchw;
    } else if !input.permutation.is_sorted() {
        record.layout = Layout::Nhwc;
    }
    Some(record)
}

/// Whether a file stores weights as float16.
fn is_float16(model: &LoadedModel) -> bool {
    let Graph::Lite(graph) = &model.graph else { return false };
    let mut tensors = graph.subgraphs.iter().flat_map(|g| &g.tensors);
    tensors.any(|t| t.element == ElementType::F16 && t.data.is_some())
}
