//! Weight-only schemes: constants become int8 or int4, the graph's values stay float32. `dynamic` gives int8 weights to
//! the ops that LiteRT has hybrid kernels for; every other constant is read through DEQUANTIZE.

mod apply;
mod budget;
mod plan;

use super::budget::BudgetReport;
use super::keep_float::check_names;
use super::layers::is_quantized;
use crate::compare::Samples;
use crate::graph::{ElementType, Model, Tensor};
use crate::progress::Progress;
use anyhow::{Context, Result, ensure};
use budget::keep_within;
use plan::WeightPlan;
use regex_lite::Regex;
use serde::Serialize;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WeightScheme {
    /// Int8 weights; the ops that can make their inputs int8 as they run.
    Dynamic,
    /// Int8 constants that DEQUANTIZE widens.
    Int8,
    /// Int4 constants, two a byte, that DEQUANTIZE widens.
    Int4,
}

#[derive(Debug, Clone)]
pub struct WeightOptions {
    pub scheme: WeightScheme,
    /// One scale for all of a layer's weights, not one a channel.
    pub per_tensor: bool,
    /// The weights of layers whose result's name one of these matches stay float32.
    pub keep_float: Vec<Regex>,
    /// Int4 weights of dense layers have a scale for each so many inputs, where that divides these.
    pub block_size: Option<usize>,
    /// The largest share of the outputs' power that the error may be; more, and weights stay float16.
    pub max_drop: Option<f64>,
}

/// What became of the float32 constants.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct WeightReport {
    /// `int8` or `int4`.
    #[serde(rename = "type")]
    pub element: &'static str,
    pub constants: usize,
    pub numbers: usize,
    /// Numbers in all float32 constants there were.
    pub all_numbers: usize,
    /// Constants that stay float32 though they are not small.
    pub float_constants: Vec<FloatConstant>,
    /// Its `kept_float` are constants that are float16.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget: Option<BudgetReport>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FloatConstant {
    pub name: String,
    pub why: String,
}

/// Constants of fewer numbers stay float32: they take next to no bytes. (TFLiteConverter's limit is 1,024, which
/// leaves a last layer of 10 classes as large as the rest of its net's overhead.)
const LEAST_NUMBERS: usize = 512;
/// What a scale and its zero point take in a file, and what a DEQUANTIZE and its tensor do.
const SCALE_BYTES: usize = 4 + 8;
const DEQUANTIZE_BYTES: usize = 200;

/// Quantizes the weights of `model` in place; a `max_drop` is measured on `samples`.
///
/// # Errors
/// The model is quantized already; there are no weights to quantize; a `keep_float` matches no layer; a run fails.
pub fn quantize_weights(
    model: &mut Model,
    options: &WeightOptions,
    samples: Option<&dyn Samples>,
    progress: &dyn Progress,
) -> Result<WeightReport> {
    ensure!(!is_quantized(model), "the model is quantized already; start from the float model");
    check_names(&options.keep_float, &model.subgraphs)?;
    let mut plan = WeightPlan::new(model, options);
    ensure_any(&plan, options)?;
    let budget = match (options.max_drop, samples) {
        (Some(allowed), Some(samples)) => {
            Some(keep_within(model, &mut plan, options, samples, allowed, progress)?)
        }
        _ => None,
    };
    let planned = plan.changes.iter().zip(&model.subgraphs);
    let sizes = planned.flat_map(|(changes, graph)| {
        changes.iter().map(|change| count(&graph.tensors[change.tensor]))
    });
    let sizes: Vec<usize> = sizes.collect();
    let tensors = model.subgraphs.iter().flat_map(|graph| &graph.tensors);
    let floats = tensors.filter(|t| t.element == ElementType::F32 && t.data.is_some());
    let all_numbers = floats.map(count).sum();
    plan.apply(model, options)?;
    model.validate().context("the quantized graph")?;
    Ok(WeightReport {
        element: element(options.scheme).name(),
        constants: sizes.len(),
        numbers: sizes.iter().sum(),
        all_numbers,
        float_constants: plan.float_constants,
        budget,
    })
}

fn ensure_any(plan: &WeightPlan, options: &WeightOptions) -> Result<()> {
    ensure!(
        plan.changes.iter().any(|changes| !changes.is_empty()),
        "no layer has weights of {LEAST_NUMBERS} numbers or more that can become {}{}",
        element(options.scheme),
        match plan.float_constants.first() {
            Some(first) => format!("; '{}' cannot: {}", first.name, first.why),
            None => String::new(),
        }
    );
    Ok(())
}

fn element(scheme: WeightScheme) -> ElementType {
    match scheme {
        WeightScheme::Dynamic | WeightScheme::Int8 => ElementType::I8,
        WeightScheme::Int4 => ElementType::I4,
    }
}

fn count(tensor: &Tensor) -> usize {
    tensor.known_shape().map_or(0, |shape| shape.iter().product())
}

#[cfg(test)]
mod tests;
