//! What each quantized layer costs: by itself, and where the graph stands behind it.

use super::apply::EndType;
use super::parameters::{Parameters, Range, finite_values};
use super::plan::{IntegerPlan, Place, float_operands, float_results};
use crate::compare::Samples;
use crate::graph::{Model, Node, Subgraph, Tensor, TensorId};
use crate::model::{plan_lite, plan_tensors};
use crate::ops::{ActivationType, QuantRule};
use crate::progress::Progress;
use crate::runtime::{Tensor as Value, f32_values, to_f32};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::collections::HashMap;

/// One integer layer: how its result differs from the float graph's.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LayerLoss {
    /// The name of its result.
    pub name: String,
    pub op: String,
    /// Signal to noise of the weights, in decibels; absent without weights, or where they are exact.
    pub weights_sqnr_db: Option<f64>,
    /// Of the result when this layer alone works on integers; absent where exact or silent, -300 where not a number.
    pub own_sqnr_db: Option<f64>,
    /// Of the result when all layers do.
    pub sqnr_db: Option<f64>,
    /// The share of the result's values beyond the range.
    pub clipped: f64,
    /// Of the result, as the integers reach.
    pub range: Range,
    pub scale: f32,
    pub zero_point: i64,
    #[serde(skip)]
    pub node: usize,
}

/// Decibels of what is not a number, or infinitely far off.
const WORST: f64 = -300.0;

/// Sums for a signal-to-noise ratio.
#[derive(Debug, Clone, Copy, Default)]
struct Noise {
    signal: f64,
    noise: f64,
}

impl Noise {
    fn add(&mut self, expected: &[f32], found: &[f32]) {
        for (&a, &b) in expected.iter().zip(found) {
            let (a, b) = (a as f64, b as f64);
            self.signal += a * a;
            self.noise += (a - b) * (a - b);
        }
    }

    fn decibels(self) -> Option<f64> {
        let ratio = self.signal / self.noise;
        match self.noise == 0.0 || self.signal == 0.0 {
            true => None,
            false if ratio.is_nan() => Some(WORST),
            false => Some((10.0 * ratio.log10()).max(WORST)),
        }
    }
}

/// Compares layer by layer on the first `most_runs` of `samples`; the worst by itself first.
///
/// `quantized` is `model` with `plan` applied, `integers` what that returned.
///
/// # Errors
/// A run fails, or the user stopped it.
pub fn layer_losses(
    model: &Model,
    plan: &IntegerPlan,
    quantized: &Model,
    integers: &[Option<TensorId>],
    samples: &dyn Samples,
    most_runs: usize,
    progress: &dyn Progress,
) -> Result<Vec<LayerLoss>> {
    let graph = model.main();
    let alone = Alone::new(model, plan)?;
    if alone.results.is_empty() {
        return Ok(vec![]);
    }
    let mut wanted: Vec<TensorId> = alone.operands.clone();
    wanted.extend(alone.results.iter().map(|(_, result)| *result));
    wanted.sort_unstable();
    wanted.dedup();
    let float = plan_tensors(model, &wanted)?;
    let inner: Vec<TensorId> = alone.results.iter().filter_map(|(_, t)| integers[*t]).collect();
    let whole = plan_tensors(quantized, &inner)?;
    let alone_plan = plan_lite(&alone.model)?;

    let runs = samples.runs().min(most_runs);
    let mut own = vec![Noise::default(); alone.results.len()];
    let mut here = vec![Noise::default(); alone.results.len()];
    let mut clipped = vec![(0u64, 0u64); alone.results.len()];
    let mut sessions = (float.plan.session()?, alone_plan.session()?, whole.plan.session()?);
    progress.begin("measuring layers", runs as u64);
    for run in 0..runs {
        ensure!(!progress.cancelled(), "stopped");
        let inputs = samples.run(run)?;
        let values = sessions.0.run(inputs.clone())?;
        let values: HashMap<TensorId, Value> = float.tensors.iter().copied().zip(values).collect();
        let operand = |t: &TensorId| {
            let name = || graph.tensors[*t].name.clone();
            values.get(t).cloned().with_context(|| format!("'{}' is constant", name()))
        };
        let operands = alone.operands.iter().map(operand).collect::<Result<_>>()?;
        let by_themselves = sessions.1.run(operands)?;
        let inner: HashMap<TensorId, Value> =
            whole.tensors.iter().copied().zip(sessions.2.run(inputs)?).collect();
        for (place, (_, result)) in alone.results.iter().enumerate() {
            let Some(expected) = values.get(result) else { continue };
            let expected = f32_values(expected)?;
            own[place].add(expected, f32_values(&by_themselves[place])?);
            let parameters = plan.parameters[*result].context("no parameters")?;
            if let Some(found) = integers[*result].and_then(|t| inner.get(&t)) {
                let reals: Vec<f32> = to_f32(found)?
                    .iter()
                    .map(|v| (v - parameters.zero_point as f32) * parameters.scale)
                    .collect();
                here[place].add(expected, &reals);
            }
            let range = range_of(parameters, plan.activations);
            let half = parameters.scale / 2.0;
            let beyond = |v: &&f32| **v > range.max + half || **v < range.min - half;
            clipped[place].0 += expected.iter().filter(beyond).count() as u64;
            clipped[place].1 += expected.len() as u64;
        }
        progress.advance(run as u64 + 1, &String::new);
    }
    progress.end();

    let mut losses = vec![];
    for (place, &(node, result)) in alone.results.iter().enumerate() {
        let parameters = plan.parameters[result].context("no parameters")?;
        let (beyond, all) = clipped[place];
        losses.push(LayerLoss {
            name: graph.tensors[result].name.clone(),
            op: graph.nodes[node].op.name().to_string(),
            weights_sqnr_db: weights_noise(graph, plan, node)?.and_then(Noise::decibels),
            own_sqnr_db: own[place].decibels(),
            sqnr_db: here[place].decibels(),
            clipped: beyond as f64 / all.max(1) as f64,
            range: range_of(parameters, plan.activations),
            scale: parameters.scale,
            zero_point: parameters.zero_point,
            node,
        });
    }
    let order = |loss: &LayerLoss| loss.own_sqnr_db.unwrap_or(f64::INFINITY);
    losses.sort_by(|a, b| order(a).total_cmp(&order(b)));
    Ok(losses)
}

fn range_of(parameters: Parameters, activations: ActivationType) -> Range {
    match activations {
        ActivationType::Int8 => parameters.range(-128, 127),
        ActivationType::Int16 => parameters.range(-32768, 32767),
    }
}

fn weights_noise(graph: &Subgraph, plan: &IntegerPlan, node: usize) -> Result<Option<Noise>> {
    let Place::Integer(QuantRule::Weighted { weights, axis, .. }) = plan.nodes[node] else {
        return Ok(None);
    };
    let Some(weights) = graph.nodes[node].inputs[weights].map(|t| &graph.tensors[t]) else {
        return Ok(None);
    };
    let (Some(values), Some(shape)) = (finite_values(weights), weights.known_shape()) else {
        return Ok(None);
    };
    let axis = plan.per_channel.then_some(axis);
    let quantized = super::parameters::int8_weights(&values, &shape, axis, |_| 0.0);
    let reals = quantized.reals(&shape, axis);
    let mut noise = Noise::default();
    noise.add(&values, &reals);
    Ok(Some(noise))
}

/// A graph in which every integer layer stands alone: its operands are inputs, its result is an output.
struct Alone {
    model: Model,
    /// What the inputs are in the whole graph.
    operands: Vec<TensorId>,
    /// The layers: node and result, as the outputs.
    results: Vec<(usize, TensorId)>,
}

impl Alone {
    fn new(model: &Model, plan: &IntegerPlan) -> Result<Alone> {
        let whole = model.main();
        let mut graph = Subgraph { tensors: whole.tensors.clone(), ..Subgraph::default() };
        let mut places = vec![];
        let mut parameters = plan.parameters.clone();
        let mut operands: Vec<TensorId> = vec![];
        let mut results = vec![];
        for (number, (node, place)) in whole.nodes.iter().zip(&plan.nodes).enumerate() {
            let Place::Integer(rule) = place else { continue };
            // what only moves integers loses nothing
            if *rule == QuantRule::OneScale && float_operands(whole, node).count() == 1 {
                continue;
            }
            let Some(first) = float_results(whole, node).next() else { continue };
            // conditions and indices too, which stay what they are
            let computed = |t: &TensorId| whole.tensors[*t].data.is_none();
            operands.extend(node.inputs.iter().flatten().copied().filter(computed));
            let mut alone: Node = node.clone();
            for output in &mut alone.outputs {
                let copy = Tensor {
                    name: format!("{}/alone", whole.tensors[*output].name),
                    ..whole.tensors[*output].clone()
                };
                parameters.push(plan.parameters[*output]);
                let id = graph.add_tensor(copy);
                if *output == first {
                    graph.outputs.push(id);
                }
                *output = id;
            }
            graph.nodes.push(alone);
            places.push(place.clone());
            results.push((number, first));
        }
        operands.sort_unstable();
        operands.dedup();
        graph.inputs = operands.clone();
        let alone_plan = IntegerPlan { nodes: places, parameters, ..plan.clone() };
        let mut subgraphs = model.subgraphs.clone();
        subgraphs[0] = graph;
        let mut model = Model { subgraphs, ..Model::default() };
        alone_plan.apply(&mut model, EndType::Float32)?;
        Ok(Alone { model, operands, results })
    }
}

/// Whether a model holds quantized tensors already.
pub fn is_quantized(model: &Model) -> bool {
    model.subgraphs.iter().flat_map(|g| &g.tensors).any(|t| t.quantization.is_some())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_number_is_not_exact() {
        let decibels = |expected: f32, found: f32| {
            let mut noise = Noise::default();
            noise.add(&[expected], &[found]);
            noise.decibels()
        };
        assert_eq!([decibels(2.0, 2.0), decibels(0.0, 1.0)], [None; 2]);
        assert_eq!(decibels(10.0, 9.0), Some(20.0));
        assert_eq!([decibels(1.0, f32::NAN), decibels(f32::NAN, 1.0)], [Some(WORST); 2]);
        assert_eq!(decibels(1.0, f32::INFINITY), Some(WORST));
    }
}
