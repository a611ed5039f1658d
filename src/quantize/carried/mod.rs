//! Models that are quantized already: ops between DEQUANTIZE and QUANTIZE become ops on integers, with the scales
//! that the model carries.

mod apply;
mod constants;
mod plan;
#[cfg(test)]
mod tests;

use super::integers::FloatLayer;
use crate::graph::{ElementType, LiteOp, Model};
use crate::lower::StoredConstant;
use anyhow::{Context, Result};
use plan::{CarriedPlan, Place};
use serde::Serialize;

/// What became of the ops of a model that is quantized already.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CarriedReport {
    /// Ops on integers.
    pub integer_layers: usize,
    /// Products of int8 weights and float32 values that become int8 as the model runs.
    pub dynamic_layers: usize,
    /// Nodes with floats that stayed so, and why.
    pub float_layers: Vec<FloatLayer>,
}

/// Edits the entry graph in place; `None` where nothing of it is quantized. `stored` are the constants that the
/// model holds in integers.
pub fn keep_carried(model: &mut Model, stored: &[StoredConstant]) -> Result<Option<CarriedReport>> {
    let converts = |op: &LiteOp| matches!(op, LiteOp::Quantize | LiteOp::Dequantize);
    if stored.is_empty() && !model.main().nodes.iter().any(|node| converts(&node.op)) {
        return Ok(None);
    }
    let plan = CarriedPlan::new(model.main(), stored);
    let graph = model.main();
    let nodes = graph.nodes.iter().zip(&plan.nodes);
    // where nothing has scales, float32 is no news
    let nodes = nodes.filter(|_| plan.grids.iter().any(|grid| grid.is_some()));
    let float_layers = nodes.filter_map(|(node, place)| {
        let Place::Float(why) = place else { return None };
        let tensor = &graph.tensors[*node.outputs.first()?];
        (tensor.element == ElementType::F32).then(|| FloatLayer {
            name: tensor.name.clone(),
            op: node.op.name().to_string(),
            why: why.clone(),
        })
    });
    let report = CarriedReport {
        float_layers: float_layers.collect(),
        integer_layers: plan.nodes.iter().filter(|p| matches!(p, Place::Integer(_))).count(),
        dynamic_layers: plan.nodes.iter().filter(|p| matches!(p, Place::Hybrid { .. })).count(),
    };
    plan.apply(model)?;
    model.validate().context("the graph with the model's own scales")?;
    Ok(Some(report))
}
