//! Cross-layer equalization: a channel's numbers are made smaller by the layer that computes them and larger by the
//! weights that read them, so that one scale fits all channels of a tensor.
//!
//! Exact in reals where nothing but RELU and pooling lies between (Nagel et al., "Data-free quantization through weight
//! equalization and bias correction", 2019). The factors weigh measured activations against the weights that read them
//! (Xiao et al., "SmoothQuant", 2023), with the strength that makes the least noise of each group.

use self::channels::{Channels, channels_of};
use self::strength::{Reader, STRENGTHS, WORTH_WHILE};
use super::parameters::finite_values;
use super::plan::{float_operands, float_results, is_float_variable};
use crate::compare::Samples;
use crate::graph::{
    Activation, BinaryOp, LiteOp, Model, Node, Subgraph, Tensor, TensorId, UnaryOp,
};
use crate::ops::{ActivationType, QuantRule, quant_rule};
use crate::progress::Progress;
use anyhow::Result;
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap};

mod channels;
mod strength;

/// A channel is made at most 2 to this power smaller or larger.
pub const LARGEST_EXPONENT: f32 = 10.0;

/// Tensors between layers that have their channels in common, by way of ops that treat channels alike.
#[derive(Debug, Clone, Default, PartialEq)]
struct Group {
    tensors: Vec<TensorId>,
    /// The most that one of the tensors has; channel i of one is channel i of all.
    channels: usize,
    /// Layers that make the tensors, and layers that read them.
    producers: Vec<usize>,
    readers: Vec<usize>,
}

/// By the name of a group's first tensor: the power of two that each channel was divided by.
pub type Factors = BTreeMap<String, Vec<i32>>;

/// Equalizes all groups of the entry graph by what its values are on the first `most_runs` of `samples`; returns what was
/// done.
///
/// # Errors
/// A run fails, or the user stopped it.
pub fn equalize(
    model: &mut Model,
    samples: &dyn Samples,
    most_runs: usize,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Factors> {
    let groups = groups(model.main());
    let mut done = Factors::new();
    if groups.is_empty() {
        return Ok(done);
    }
    let tensors: Vec<TensorId> = groups.iter().flat_map(|group| group.tensors.clone()).collect();
    let seen = channels_of(model, &tensors, samples, most_runs, threads, progress)?;
    let Some(graph) = model.subgraphs.first_mut() else { return Ok(done) };
    for group in &groups {
        let Some(exponents) = group.exponents(graph, &seen) else { continue };
        if group.apply(graph, &exponents).is_some() {
            done.insert(group.name(graph), exponents);
        }
    }
    Ok(done)
}

/// Does again what [`equalize`] did.
pub fn equalize_by(model: &mut Model, factors: &Factors) {
    let groups = groups(model.main());
    let Some(graph) = model.subgraphs.first_mut() else { return };
    for group in &groups {
        if let Some(exponents) = factors.get(&group.name(graph)) {
            let _unchanged_where_it_does_not_fit = group.apply(graph, exponents);
        }
    }
}

/// The mean size of each channel next to the largest of its tensor, over tensors; in logarithms.
struct Sizes {
    sums: Vec<f32>,
    counts: Vec<f32>,
}

impl Sizes {
    fn new(channels: usize) -> Sizes {
        Sizes { sums: vec![0.0; channels], counts: vec![0.0; channels] }
    }

    fn add(&mut self, largest: &[f32]) {
        let most = largest.iter().copied().fold(0.0, f32::max);
        for (channel, &size) in largest.iter().enumerate().take(self.sums.len()) {
            let relative = (size / most).log2();
            if relative.is_finite() {
                self.sums[channel] += relative;
                self.counts[channel] += 1.0;
            }
        }
    }

    fn mean(&self, channel: usize) -> Option<f32> {
        let count = self.counts[channel];
        (count > 0.0).then(|| self.sums[channel] / count)
    }
}

impl Group {
    fn name(&self, graph: &Subgraph) -> String {
        self.tensors.first().map(|&t| graph.tensors[t].name.clone()).unwrap_or_default()
    }

    /// The powers of two of the least noise; `None` where a constant is not what it should be.
    fn exponents(&self, graph: &Subgraph, seen: &HashMap<TensorId, Channels>) -> Option<Vec<i32>> {
        let mut activations = Sizes::new(self.channels);
        let of_tensors = self.tensors.iter().filter_map(|t| seen.get(t));
        of_tensors.for_each(|channels| activations.add(&channels.largest()));
        let mut weights = Sizes::new(self.channels);
        let mut readers = vec![];
        for &number in &self.readers {
            let (reader, largest) = reader(graph, number)?;
            weights.add(&largest);
            let operand = graph.nodes[number].inputs.first().copied().flatten()?;
            readers.extend(seen.get(&operand).map(|channels| (reader, channels)));
        }
        let with_strength = |strength: f32| -> Vec<i32> {
            let exponent = |channel: usize| match (activations.mean(channel), weights.mean(channel))
            {
                (Some(activation), Some(weight)) => {
                    let exponent = (activation * strength - weight * (1.0 - strength)).round();
                    exponent.clamp(-LARGEST_EXPONENT, LARGEST_EXPONENT) as i32
                }
                _ => 0,
            };
            (0..self.channels).map(exponent).collect()
        };
        let mut best: Option<(f64, Vec<i32>)> = None;
        for exponents in STRENGTHS.map(with_strength) {
            let factors: Vec<f64> = exponents.iter().map(|&e| (e as f64).exp2()).collect();
            let noise = readers.iter().map(|(reader, of)| reader.noise(of, &factors)).sum();
            let is_worth_it = |(least, _): &(f64, _)| noise < least * WORTH_WHILE;
            if best.as_ref().is_none_or(is_worth_it) {
                best = Some((noise, exponents));
            }
        }
        best.map(|(_, exponents)| exponents)
    }

    /// Divides the channels where they are made and multiplies what reads them; `None`, with nothing changed, where
    /// something does not fit.
    fn apply(&self, graph: &mut Subgraph, exponents: &[i32]) -> Option<()> {
        let fits = |e: &i32| e.unsigned_abs() as f32 <= LARGEST_EXPONENT;
        if exponents.len() != self.channels || !exponents.iter().all(fits) {
            return None;
        }
        // powers of two change no digit of a weight
        let factors: Vec<f32> = exponents.iter().map(|&e| (e as f32).exp2()).collect();
        let mut changed: Vec<(TensorId, Vec<f32>)> = vec![];
        for &producer in &self.producers {
            let (weights, bias) = constants(graph, producer)?;
            let (channels, place) = channel_made(graph, producer)?;
            let mut values = finite_values(&graph.tensors[weights])?;
            values.iter_mut().enumerate().for_each(|(i, v)| *v /= factors[place(i)]);
            changed.push((weights, values));
            if let Some(bias) = bias {
                let mut values = finite_values(&graph.tensors[bias])?;
                if values.len() != channels {
                    return None;
                }
                values.iter_mut().zip(&factors).for_each(|(v, factor)| *v /= factor);
                changed.push((bias, values));
            }
        }
        for &reader in &self.readers {
            let (weights, _) = constants(graph, reader)?;
            let (_, place) = channel_read(graph, reader)?;
            // a layer may read one tensor of the group and make another
            let known = changed.iter().position(|(tensor, _)| *tensor == weights);
            let mut values = match known {
                Some(known) => changed.swap_remove(known).1,
                None => finite_values(&graph.tensors[weights])?,
            };
            values.iter_mut().enumerate().for_each(|(i, v)| *v *= factors[place(i)]);
            changed.push((weights, values));
        }
        if changed.iter().flat_map(|(_, values)| values).any(|v| !v.is_finite()) {
            return None;
        }
        for (tensor, values) in changed {
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            graph.tensors[tensor].data = Some(Bytes::from(bytes));
        }
        Some(())
    }
}

/// Weights and bias of a layer, constants that nothing else reads.
fn constants(graph: &Subgraph, node: usize) -> Option<(TensorId, Option<TensorId>)> {
    let node = &graph.nodes[node];
    let QuantRule::Weighted { weights, bias, .. } = quant_rule(&node.op, ActivationType::Int8)
    else {
        return None;
    };
    let own = |place: usize| node.inputs.get(place).copied().flatten();
    let is_own = |&t: &TensorId| graph.tensors[t].data.is_some() && graph.reader_count(t) == 1;
    let weights = own(weights).filter(is_own)?;
    match own(bias) {
        None => Some((weights, None)),
        // zeros stay so, however many layers share them
        Some(bias) if is_zero(&graph.tensors[bias]) => Some((weights, None)),
        Some(bias) => Some((weights, Some(bias).filter(is_own))).filter(|(_, bias)| bias.is_some()),
    }
}

fn is_zero(tensor: &Tensor) -> bool {
    tensor.f32_values().is_some_and(|values| values.iter().all(|&value| value == 0.0))
}

type Place = Box<dyn Fn(usize) -> usize>;

/// How many channels a layer makes, and which one each of its weights is of.
fn channel_made(graph: &Subgraph, node: usize) -> Option<(usize, Place)> {
    let (weights, _) = constants(graph, node)?;
    let shape = graph.tensors[weights].known_shape()?;
    let result = *graph.nodes[node].outputs.first()?;
    let channels = graph.tensors[result].shape.last()?.known()?;
    let place: Place = match (&graph.nodes[node].op, &*shape) {
        (LiteOp::Conv2D { .. }, &[outputs, h, w, inputs]) if outputs == channels => {
            let size = (h * w * inputs).max(1);
            Box::new(move |i| i / size)
        }
        (LiteOp::FullyConnected { .. }, &[outputs, inputs]) if outputs == channels => {
            Box::new(move |i| i / inputs.max(1))
        }
        (LiteOp::DepthwiseConv2D { .. }, &[1, _, _, outputs]) if outputs == channels => {
            Box::new(move |i| i % outputs.max(1))
        }
        _ => return None,
    };
    Some((channels, place))
}

/// How many channels a layer reads, and which one each of its weights meets.
fn channel_read(graph: &Subgraph, node: usize) -> Option<(usize, Place)> {
    let (weights, _) = constants(graph, node)?;
    let shape = graph.tensors[weights].known_shape()?;
    let operand = graph.nodes[node].inputs.first().copied().flatten()?;
    let channels = graph.tensors[operand].shape.last()?.known().filter(|&n| n > 0)?;
    let place: Place = match (&graph.nodes[node].op, &*shape) {
        (LiteOp::Conv2D { .. }, &[outputs, h, w, inputs]) => {
            let groups = channels.checked_div(inputs).filter(|g| g * inputs == channels)?;
            let group_size = outputs.checked_div(groups).filter(|n| n * groups == outputs)?;
            let size = h.checked_mul(w)?.checked_mul(inputs)?;
            if size == 0 || group_size == 0 {
                return None;
            }
            Box::new(move |i| i / size / group_size * inputs + i % inputs)
        }
        (LiteOp::FullyConnected { .. }, &[_, inputs]) if inputs == channels => {
            Box::new(move |i| i % inputs)
        }
        (LiteOp::DepthwiseConv2D { multiplier, .. }, &[1, _, _, outputs])
            if *multiplier > 0 && channels.checked_mul(*multiplier) == Some(outputs) =>
        {
            let multiplier = *multiplier;
            Box::new(move |i| i % outputs / multiplier)
        }
        _ => return None,
    };
    Some((channels, place))
}

/// What a layer's weights are on the channels that it reads, and the largest on each.
fn reader(graph: &Subgraph, node: usize) -> Option<(Reader, Vec<f32>)> {
    let (weights, _) = constants(graph, node)?;
    let values = finite_values(&graph.tensors[weights])?;
    let shape = graph.tensors[weights].known_shape()?;
    let (channels, place) = channel_read(graph, node)?;
    let depthwise = matches!(graph.nodes[node].op, LiteOp::DepthwiseConv2D { .. });
    let (&last, leading) = shape.split_last()?;
    let results = if depthwise { last } else { *leading.first()? };
    let per_result = values.len().checked_div(results).filter(|&n| n > 0)?;
    let inner = if depthwise { 1 } else { last.max(1) };
    let mut most = vec![0f32; results * inner];
    let (mut of_channels, mut squares) = (vec![0f32; channels], vec![0f64; channels]);
    for (index, value) in values.iter().enumerate() {
        let size = value.abs();
        let channel = place(index);
        let slot = match depthwise {
            true => index % last,
            false => index / per_result * inner + index % inner,
        };
        most[slot] = most[slot].max(size);
        of_channels[channel] = of_channels[channel].max(size);
        squares[channel] += size as f64 * size as f64;
    }
    let first = |result: usize| if depthwise { result } else { result * per_result };
    let firsts = (0..results).map(|result| place(first(result))).collect();
    let taps = (per_result / inner) as f64;
    Some((Reader { firsts, largest: most, squares, taps }, of_channels))
}

fn groups(graph: &Subgraph) -> Vec<Group> {
    let mut parent: Vec<TensorId> = (0..graph.tensors.len()).collect();
    fn root(parent: &[TensorId], mut tensor: TensorId) -> TensorId {
        while parent[tensor] != tensor {
            tensor = parent[tensor];
        }
        tensor
    }
    for node in graph.nodes.iter().filter(|node| treats_channels_alike(graph, node)) {
        let values: Vec<TensorId> =
            float_operands(graph, node).chain(float_results(graph, node)).collect();
        for &value in &values[1..] {
            let (a, b) = (root(&parent, values[0]), root(&parent, value));
            parent[a.max(b)] = a.min(b);
        }
    }
    let mut groups: BTreeMap<TensorId, Option<Group>> = BTreeMap::new();
    let mut member = |tensor: TensorId, edit: &mut dyn FnMut(&mut Group) -> Option<()>| {
        let group = groups.entry(root(&parent, tensor)).or_insert_with(|| Some(Group::default()));
        let kept = group.as_mut().and_then(|group| {
            if !group.tensors.contains(&tensor) {
                group.tensors.push(tensor);
                let channels = graph.tensors[tensor].shape.last()?.known()?;
                group.channels = group.channels.max(channels);
            }
            edit(group)
        });
        if kept.is_none() {
            *group = None;
        }
    };
    for &end in graph.inputs.iter().chain(&graph.outputs) {
        member(end, &mut |_| None);
    }
    for (number, node) in graph.nodes.iter().enumerate() {
        if treats_channels_alike(graph, node) {
            continue;
        }
        let of_layer = |place: usize| {
            matches!(
                node.op,
                LiteOp::Conv2D { .. }
                    | LiteOp::DepthwiseConv2D { .. }
                    | LiteOp::FullyConnected { .. }
            ) && place == 0
        };
        for (place, operand) in node.inputs.iter().enumerate() {
            let Some(operand) = *operand else { continue };
            if !is_float_variable(graph, operand) {
                continue;
            }
            member(operand, &mut |group| {
                let _ = channel_read(graph, number).filter(|_| of_layer(place))?;
                group.readers.push(number);
                Some(())
            });
        }
        for result in float_results(graph, node) {
            member(result, &mut |group| {
                let activation = node.op.clone().activation_mut().copied();
                let _ = activation
                    .filter(|a| matches!(a, Activation::None | Activation::Relu))
                    .and_then(|_| channel_made(graph, number))?;
                group.producers.push(number);
                Some(())
            });
        }
    }
    let usable = |group: &Group| !group.producers.is_empty() && !group.readers.is_empty();
    groups.into_values().flatten().filter(usable).collect()
}

/// Whether factors of the last axis pass the node, channel i staying channel i.
fn treats_channels_alike(graph: &Subgraph, node: &Node) -> bool {
    let channels = |t: Option<TensorId>| t.and_then(|t| graph.tensors[t].shape.last()?.known());
    let result = channels(node.outputs.first().copied());
    let operand = |place: usize| node.inputs.get(place).copied().flatten();
    let first = channels(operand(0));
    if first.is_none()
        || result.is_none()
        || !operand(0).is_some_and(|t| is_float_variable(graph, t))
    {
        return false;
    }
    let same = first == result;
    match &node.op {
        LiteOp::Unary(UnaryOp::Relu)
        | LiteOp::LeakyRelu { .. }
        | LiteOp::PRelu
        | LiteOp::ResizeBilinear { .. }
        | LiteOp::ResizeNearest { .. } => same,
        LiteOp::Pool2D { activation, .. } => {
            same && matches!(activation, Activation::None | Activation::Relu)
        }
        // sums of two that have all their channels
        LiteOp::Binary { op: BinaryOp::Add | BinaryOp::Sub, activation } => {
            let other = operand(1).filter(|&t| is_float_variable(graph, t));
            same && channels(other) == first
                && matches!(activation, Activation::None | Activation::Relu)
        }
        // zeros; channels that are put in front would move the others
        LiteOp::Pad if node.inputs.len() == 2 => {
            let paddings = operand(1).and_then(|t| graph.tensors[t].i32_values());
            paddings.is_some_and(|p| p.len() >= 2 && p[p.len() - 2] == 0)
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests;
