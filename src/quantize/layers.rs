//! What each quantized layer costs: by itself, and where the graph stands behind it.

use super::apply::EndType;
use super::parameters::{Parameters, Range, finite_values};
use super::plan::{IntegerPlan, Place, float_operands, float_results};
use crate::compare::Samples;
use crate::graph::{Model, Node, Subgraph, Tensor, TensorId};
use crate::model::{WatchedTensors, watch_tensors};
use crate::ops::{ActivationType, QuantRule};
use crate::progress::{Progress, Silent};
use crate::runtime::{Tensor as Value, f32_values, share_out};
use anyhow::{Context, Result};
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
        const LANES: usize = 8;
        let (mut signal, mut noise) = ([0f64; LANES], [0f64; LANES]);
        let mut lanes = |expected: &[f32], found: &[f32]| {
            for (lane, (&a, &b)) in expected.iter().zip(found).enumerate() {
                let (a, b) = (a as f64, b as f64);
                signal[lane] += a * a;
                noise[lane] += (a - b) * (a - b);
            }
        };
        let (expected, last_expected) = expected.as_chunks::<LANES>();
        let (found, last_found) = found.as_chunks::<LANES>();
        expected.iter().zip(found).for_each(|(a, b)| lanes(a, b));
        lanes(last_expected, last_found);
        self.signal += signal.iter().sum::<f64>();
        self.noise += noise.iter().sum::<f64>();
    }

    fn join(&mut self, other: Noise) {
        self.signal += other.signal;
        self.noise += other.noise;
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

/// What was found of a layer.
#[derive(Debug, Clone, Copy, Default)]
struct Tally {
    own: Noise,
    here: Noise,
    /// Values beyond the range, and all.
    clipped: u64,
    values: u64,
}

/// Compares layer by layer on the first `most_runs` of `samples`; the worst by itself first. The result does not depend
/// on the number of `threads`.
///
/// # Errors
/// A run fails, or the user stopped it.
pub fn layer_losses(
    model: &Model,
    plan: &IntegerPlan,
    samples: &dyn Samples,
    most_runs: usize,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Vec<LayerLoss>> {
    let graph = model.main();
    let Beside { model: beside, layers } = Beside::new(model, plan)?;
    if layers.is_empty() {
        return Ok(vec![]);
    }
    let runs = samples.runs().min(most_runs);
    let wanted: Vec<TensorId> = layers.iter().flat_map(|l| [l.float, l.alone]).collect();
    let both = watch_tensors(&beside, &wanted)?;
    drop(beside);
    // compared with float ends, whatever the file has
    let mut quantized = model.clone();
    let integers = plan.apply(&mut quantized, EndType::Float32)?.integers;
    let inner: Vec<TensorId> = layers.iter().filter_map(|layer| integers[layer.result]).collect();
    let whole = watch_tensors(&quantized, &inner)?;
    drop(quantized);
    let plans = Plans { both, whole, integers };
    let tallies = plans.tallies(&layers, plan, samples, runs, threads, progress)?;
    drop(plans);

    let weights = share_out(layers.len(), threads, ("measuring weights", &Silent), |turns| {
        let noise = |layer: usize| -> Result<_> {
            let noise = weights_noise(graph, plan, layers[layer].node)?;
            Ok((layer, noise.and_then(Noise::decibels)))
        };
        turns.map(|layer| noise(layer?)).collect::<Result<Vec<_>>>()
    })?;
    let weights: HashMap<usize, Option<f64>> = weights.into_iter().flatten().collect();
    let mut losses = vec![];
    for (number, (layer, tally)) in layers.iter().zip(&tallies).enumerate() {
        let parameters = plan.parameters[layer.result].context("no parameters")?;
        losses.push(LayerLoss {
            name: graph.tensors[layer.result].name.clone(),
            op: graph.nodes[layer.node].op.name().to_string(),
            weights_sqnr_db: weights[&number],
            own_sqnr_db: tally.own.decibels(),
            sqnr_db: tally.here.decibels(),
            clipped: tally.clipped as f64 / tally.values.max(1) as f64,
            range: range_of(parameters, plan.activations),
            scale: parameters.scale,
            zero_point: parameters.zero_point,
            node: layer.node,
        });
    }
    let order = |loss: &LayerLoss| loss.own_sqnr_db.unwrap_or(f64::INFINITY);
    losses.sort_by(|a, b| order(a).total_cmp(&order(b)));
    Ok(losses)
}

/// What shows each layer: beside the float graph, and within the quantized graph.
struct Plans {
    both: WatchedTensors,
    whole: WatchedTensors,
    /// Where the quantized graph has the integers of a tensor.
    integers: Vec<Option<TensorId>>,
}

impl Plans {
    fn tallies(
        &self,
        layers: &[Layer],
        plan: &IntegerPlan,
        samples: &dyn Samples,
        runs: usize,
        threads: usize,
        progress: &dyn Progress,
    ) -> Result<Vec<Tally>> {
        let Plans { both, whole, integers } = self;
        let by_tensor: HashMap<TensorId, usize> =
            layers.iter().enumerate().flat_map(|(i, l)| [(l.float, i), (l.alone, i)]).collect();

        let of_threads = share_out(runs, threads, ("measuring layers", progress), |turns| {
            let mut sessions = (both.plan.session()?, whole.plan.session()?);
            let (mut of_runs, mut reals) = (vec![], vec![]);
            for run in turns {
                let run = run?;
                let inputs = samples.run(run)?;
                let mut inner: HashMap<TensorId, Value> = HashMap::new();
                sessions.1.run(inputs.clone(), &mut |place, value| {
                    inner.insert(whole.tensors[place], value.clone());
                    Ok(())
                })?;
                let mut tallies = vec![Tally::default(); layers.len()];
                // of a layer what was computed first, until the other is
                let mut waiting: HashMap<usize, Value> = HashMap::new();
                sessions.0.run(inputs, &mut |place, value| {
                    let tensor = both.tensors[place];
                    let number = by_tensor[&tensor];
                    let (layer, tally) = (&layers[number], &mut tallies[number]);
                    let parameters = plan.parameters[layer.result].context("no parameters")?;
                    if tensor == layer.float {
                        let expected = f32_values(value)?;
                        let range = range_of(parameters, plan.activations);
                        let half = parameters.scale / 2.0;
                        let beyond = |v: &&f32| **v > range.max + half || **v < range.min - half;
                        tally.clipped += expected.iter().filter(beyond).count() as u64;
                        tally.values += expected.len() as u64;
                        if let Some(found) = integers[layer.result].and_then(|t| inner.get(&t)) {
                            to_reals(found, parameters, &mut reals);
                            tally.here.add(expected, &reals);
                        }
                    }
                    let Some(other) = waiting.remove(&number) else {
                        waiting.insert(number, value.clone());
                        return Ok(());
                    };
                    let (expected, alone) =
                        if tensor == layer.float { (value, &other) } else { (&other, value) };
                    to_reals(alone, parameters, &mut reals);
                    tally.own.add(f32_values(expected)?, &reals);
                    Ok(())
                })?;
                of_runs.push((run, tallies));
            }
            Ok(of_runs)
        })?;
        let mut of_runs: Vec<(usize, Vec<Tally>)> = of_threads.into_iter().flatten().collect();
        of_runs.sort_by_key(|(run, _)| *run);
        let mut sums = vec![Tally::default(); layers.len()];
        for (_, tallies) in &of_runs {
            for (sum, tally) in sums.iter_mut().zip(tallies) {
                sum.own.join(tally.own);
                sum.here.join(tally.here);
                sum.clipped += tally.clipped;
                sum.values += tally.values;
            }
        }
        Ok(sums)
    }
}

/// What the integers of a layer stand for.
fn to_reals(integers: &Value, parameters: Parameters, reals: &mut Vec<f32>) {
    let Parameters { scale, zero_point } = parameters;
    let real = |integer: f32| (integer - zero_point as f32) * scale;
    let bytes = integers.as_bytes();
    reals.clear();
    if integers.len() == bytes.len() {
        reals.extend(bytes.iter().map(|&byte| real(byte as i8 as f32)));
    } else {
        let words = bytes.as_chunks::<2>().0.iter();
        reals.extend(words.map(|&word| real(i16::from_le_bytes(word) as f32)));
    }
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

/// The float graph, and beside each layer the same on integers, which takes the float graph's values.
struct Beside {
    model: Model,
    layers: Vec<Layer>,
}

struct Layer {
    node: usize,
    /// In the whole graph.
    result: TensorId,
    /// The result here, and that of the layer on integers.
    float: TensorId,
    alone: TensorId,
}

impl Beside {
    fn new(model: &Model, plan: &IntegerPlan) -> Result<Beside> {
        let whole = model.main();
        let mut graph = Subgraph { tensors: whole.tensors.clone(), ..Subgraph::default() };
        graph.inputs = whole.inputs.clone();
        let mut places = vec![];
        let mut parameters = plan.parameters.clone();
        let mut layers = vec![];
        for (number, (node, place)) in whole.nodes.iter().zip(&plan.nodes).enumerate() {
            graph.nodes.push(node.clone());
            places.push(Place::Float(String::new()));
            let Place::Integer(rule) = place else { continue };
            // what only moves integers loses nothing
            if *rule == QuantRule::OneScale && float_operands(whole, node).count() == 1 {
                continue;
            }
            let Some(first) = float_results(whole, node).next() else { continue };
            let mut alone: Node = node.clone();
            for output in &mut alone.outputs {
                let copy = Tensor {
                    name: format!("{}/alone", whole.tensors[*output].name),
                    ..whole.tensors[*output].clone()
                };
                parameters.push(plan.parameters[*output]);
                let id = graph.add_tensor(copy);
                if *output == first {
                    graph.outputs.extend([first, id]);
                    layers.push(Layer { node: number, result: first, float: first, alone: id });
                }
                *output = id;
            }
            graph.nodes.push(alone);
            places.push(place.clone());
        }
        let alone_plan = IntegerPlan { nodes: places, parameters, ..plan.clone() };
        let mut subgraphs = model.subgraphs.clone();
        subgraphs[0] = graph;
        let mut model = Model { subgraphs, ..Model::default() };
        let applied = alone_plan.apply(&mut model, EndType::Float32)?;
        for layer in &mut layers {
            layer.float = applied.floats[layer.float].context("a result is missing")?;
            layer.alone = applied.integers[layer.alone].context("integers are missing")?;
        }
        Ok(Beside { model, layers })
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
