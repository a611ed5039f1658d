//! Ops into their neighbours.

use crate::format::mmap;
use crate::graph::*;
use bytes::Bytes;

/// ADD of a constant vector after FULLY_CONNECTED becomes its bias.
pub fn bias_into_product(graph: &mut Subgraph) {
    for product in 0..graph.nodes.len() {
        let node = &graph.nodes[product];
        let LiteOp::FullyConnected { activation: Activation::None, .. } = node.op else { continue };
        if node.inputs.get(2).copied().flatten().is_some() {
            continue;
        }
        let Some(&result) = node.outputs.first() else { continue };
        let Some(add) = only_reader(graph, result) else { continue };
        let LiteOp::Binary { op: BinaryOp::Add, activation } = graph.nodes[add].op else {
            continue;
        };
        let other = graph.nodes[add].inputs.iter().flatten().find(|&&t| t != result).copied();
        let Some(bias) = other.and_then(|t| vector_constant(graph, t, result)) else { continue };
        let node = &mut graph.nodes[product];
        node.inputs.truncate(2);
        node.inputs.push(Some(bias));
        if let Some(own) = node.op.activation_mut() {
            *own = activation;
        }
        take_over_result(graph, product, add);
    }
}

/// ADD, SUB, MUL and DIV of a constant, one value or one a channel, go into the weights and bias of the
/// product or convolution before them.
pub fn scale_into_weights(graph: &mut Subgraph) {
    for product in 0..graph.nodes.len() {
        while fold_reader(graph, product).is_some() {}
    }
}

fn fold_reader(graph: &mut Subgraph, product: usize) -> Option<()> {
    let node = &graph.nodes[product];
    let (channel_axis, bias_place) = match node.op {
        LiteOp::FullyConnected { activation: Activation::None, .. }
        | LiteOp::Conv2D { activation: Activation::None, .. } => (0, 2),
        LiteOp::DepthwiseConv2D { activation: Activation::None, .. } => (3, 2),
        LiteOp::Conv3D { activation: Activation::None, .. } => (4, 2),
        LiteOp::TransposeConv { activation: Activation::None, .. } => (0, 3),
        _ => return None,
    };
    let result = *node.outputs.first()?;
    let reader = reader_of_result(graph, product)?;
    let LiteOp::Binary { op, activation } = graph.nodes[reader].op else { return None };
    let &[Some(left), Some(right)] = graph.nodes[reader].inputs.as_slice() else { return None };
    let is_left = left == result;
    let constant = if is_left { right } else { left };

    let weights_id = node.inputs.get(1).copied().flatten()?;
    let weights = &graph.tensors[weights_id];
    let shape = weights.known_shape()?;
    let &channels = shape.get(channel_axis)?;
    let operand = channel_values(graph, constant, channels, graph.tensors[result].shape.len())?;
    let bias_id = node.inputs.get(bias_place).copied().flatten();
    let bias = match bias_id {
        Some(bias) => graph.tensors[bias].f32_values()?,
        None => vec![0.0; channels],
    };
    if bias.len() != channels || !operand.iter().all(|v| v.is_finite()) {
        return None;
    }
    let scale: Option<fn(f32, f32) -> f32> = match (op, is_left) {
        (BinaryOp::Add, _) | (BinaryOp::Sub, true) => None,
        (BinaryOp::Sub, false) => Some(|w, _| -w),
        (BinaryOp::Mul, _) => Some(|w, v| w * v),
        (BinaryOp::Div, true) => Some(|w, v| w / v),
        _ => return None,
    };
    let with_operand = |(&b, &v): (&f32, &f32)| match op {
        BinaryOp::Add => b + v,
        BinaryOp::Sub if is_left => b - v,
        BinaryOp::Sub => v - b,
        BinaryOp::Mul => b * v,
        _ => b / v,
    };
    let bias: Vec<f32> = bias.iter().zip(&operand).map(with_operand).collect();
    if !bias.iter().all(|v| v.is_finite()) {
        return None;
    }
    let scaled = match scale {
        None => None,
        Some(scale) => {
            let inner: usize = shape[channel_axis + 1..].iter().product();
            let data = scaled_by_channel(weights, inner, &operand, scale)?;
            Some(Tensor { data: Some(data), ..weights.clone() })
        }
    };
    let bytes = |values: &[f32]| -> Bytes {
        values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
    };
    let name = bias_id.map_or(constant, |id| id);
    let name = format!("{}/folded", graph.tensors[name].name.trim_end_matches("/folded"));
    let bias = Tensor::constant(name, ElementType::F32, &[channels], bytes(&bias));
    let bias = graph.add_tensor(bias);
    if let Some(scaled) = scaled {
        let scaled = graph.add_tensor(scaled);
        graph.nodes[product].inputs[1] = Some(scaled);
        if graph.reader_count(weights_id) == 0 {
            graph.tensors[weights_id].data = None;
        }
    }
    let node = &mut graph.nodes[product];
    node.inputs.truncate(bias_place);
    node.inputs.push(Some(bias));
    if let Some(own) = node.op.activation_mut() {
        *own = activation;
    }
    take_over_result(graph, product, reader);
    Some(())
}

/// The values of float32 `weights` after `scale` with the operand of their channel, which changes every
/// `inner` values; `None` if one is not finite then.
fn scaled_by_channel(
    weights: &Tensor,
    inner: usize,
    operand: &[f32],
    scale: fn(f32, f32) -> f32,
) -> Option<Bytes> {
    let data = weights.data.as_ref().filter(|_| weights.element == ElementType::F32)?;
    let mut scaled = Vec::with_capacity(data.len());
    let mut is_finite = true;
    let blocks = data.chunks(inner.checked_mul(4).filter(|&n| n > 0)?);
    for (block, &operand) in blocks.zip(operand.iter().cycle()) {
        scaled.extend(block.as_chunks::<4>().0.iter().flat_map(|word| {
            let value = scale(f32::from_le_bytes(*word), operand);
            is_finite &= value.is_finite();
            value.to_le_bytes()
        }));
    }
    mmap::release(data);
    is_finite.then(|| scaled.into())
}

/// A float32 constant as one value a channel: it is `[…1, channels]` or a single value, of at most `rank` axes.
pub(super) fn channel_values(
    graph: &Subgraph,
    constant: TensorId,
    channels: usize,
    rank: usize,
) -> Option<Vec<f32>> {
    let tensor = &graph.tensors[constant];
    let values = tensor.f32_values()?;
    let shape = tensor.known_shape()?;
    if shape.len() > rank {
        return None;
    }
    if let &[one] = values.as_slice() {
        return Some(vec![one; channels]);
    }
    let (&last, leading) = shape.split_last()?;
    (last == channels && leading.iter().all(|&d| d == 1)).then_some(values)
}

/// SUM, then MUL or DIV that makes a mean of it, is MEAN.
pub fn mean_of_sum(graph: &mut Subgraph) {
    for sum in 0..graph.nodes.len() {
        if let Some(reader) = mean_reader(graph, sum) {
            if let LiteOp::Reduce { op, .. } = &mut graph.nodes[sum].op {
                *op = ReduceOp::Mean;
            }
            take_over_result(graph, sum, reader);
        }
    }
}

/// The node that divides the sum by how many values it is of.
fn mean_reader(graph: &Subgraph, sum: usize) -> Option<usize> {
    let node = &graph.nodes[sum];
    let LiteOp::Reduce { op: ReduceOp::Sum, .. } = node.op else { return None };
    let result = *node.outputs.first()?;
    let source = &graph.tensors[node.inputs.first().copied().flatten()?];
    let axes = graph.tensors[node.inputs.get(1).copied().flatten()?].i32_values()?;
    let mut count = 1usize;
    for (i, &axis) in axes.iter().enumerate() {
        if axes[..i].contains(&axis) {
            return None;
        }
        let axis = usize::try_from(axis).ok()?;
        count = count.checked_mul(source.shape.get(axis)?.known()?)?;
    }
    let reader = reader_of_result(graph, sum)?;
    let LiteOp::Binary { op, activation: Activation::None } = graph.nodes[reader].op else {
        return None;
    };
    let &[Some(left), Some(right)] = graph.nodes[reader].inputs.as_slice() else { return None };
    let constant = if left == result { right } else { left };
    let tensor = &graph.tensors[constant];
    let &[value] = tensor.f32_values()?.as_slice() else { return None };
    if tensor.shape.len() > graph.tensors[result].shape.len() || count == 0 {
        return None;
    }
    let is_mean = match op {
        BinaryOp::Mul => value == (count as f32).recip(),
        BinaryOp::Div => left == result && value == count as f32,
        _ => false,
    };
    is_mean.then_some(reader)
}

/// MAXIMUM and MINIMUM with the bounds of a TFLite activation become that activation.
pub fn clamp_into_activation(graph: &mut Subgraph) {
    for first in 0..graph.nodes.len() {
        let Some((low, is_max)) = bound_of(graph, first) else { continue };
        let Some(second) = reader_of_result(graph, first) else { continue };
        let Some((high, second_is_max)) = bound_of(graph, second) else { continue };
        if is_max == second_is_max {
            continue;
        }
        let (low, high) = if is_max { (low, high) } else { (high, low) };
        let unary = match (low, high) {
            (0.0, 6.0) => UnaryOp::Relu6,
            (-1.0, 1.0) => UnaryOp::ReluN1To1,
            (0.0, 1.0) => UnaryOp::Relu0To1,
            _ => continue,
        };
        let node = &mut graph.nodes[first];
        let input =
            node.inputs.iter().flatten().copied().find(|&t| graph.tensors[t].data.is_none());
        let Some(input) = input else { continue };
        node.op = LiteOp::Unary(unary);
        node.inputs = vec![Some(input)];
        take_over_result(graph, first, second);
    }
}

/// The scalar that a MAXIMUM, MINIMUM or RELU compares with, and whether it is a lower bound.
fn bound_of(graph: &Subgraph, node: usize) -> Option<(f32, bool)> {
    let node = &graph.nodes[node];
    let is_max = match node.op {
        LiteOp::Unary(UnaryOp::Relu) => return Some((0.0, true)),
        LiteOp::Binary { op: BinaryOp::Maximum, .. } => true,
        LiteOp::Binary { op: BinaryOp::Minimum, .. } => false,
        _ => return None,
    };
    let constants = node.inputs.iter().flatten().filter_map(|&t| graph.tensors[t].f32_values());
    constants
        .into_iter()
        .find_map(|v| if let [one] = v.as_slice() { Some((*one, is_max)) } else { None })
}

/// RELU, RELU6, RELU_N1_TO_1 after an op that can carry them.
pub fn activation_into_producer(graph: &mut Subgraph) {
    for producer in 0..graph.nodes.len() {
        let Some(Activation::None) = graph.nodes[producer].op.clone().activation_mut().copied()
        else {
            continue;
        };
        // LiteRT's kernel has the field and takes nothing but NONE
        if let LiteOp::Concatenation { .. } = graph.nodes[producer].op {
            continue;
        }
        let Some(reader) = reader_of_result(graph, producer) else { continue };
        let activation = match graph.nodes[reader].op {
            LiteOp::Unary(UnaryOp::Relu) => Activation::Relu,
            LiteOp::Unary(UnaryOp::Relu6) => Activation::Relu6,
            LiteOp::Unary(UnaryOp::ReluN1To1) => Activation::ReluN1To1,
            _ => continue,
        };
        if let Some(own) = graph.nodes[producer].op.activation_mut() {
            *own = activation;
        }
        take_over_result(graph, producer, reader);
    }
}

/// RESHAPE of a RESHAPE reads the first one's input; the first goes when nobody else reads it.
pub fn merge_reshapes(graph: &mut Subgraph) {
    for second in 0..graph.nodes.len() {
        if graph.nodes[second].op != LiteOp::Reshape {
            continue;
        }
        let Some(Some(middle)) = graph.nodes[second].inputs.first().copied() else { continue };
        let Some(first) = graph.producer(middle) else { continue };
        if graph.nodes[first].op == LiteOp::Reshape {
            graph.nodes[second].inputs[0] = graph.nodes[first].inputs[0];
        }
    }
    for reshape in 0..graph.nodes.len() {
        let node = &graph.nodes[reshape];
        let (Some(&Some(input)), Some(&output)) = (node.inputs.first(), node.outputs.first())
        else {
            continue;
        };
        let (from, to) = (&graph.tensors[input].shape, &graph.tensors[output].shape);
        // symbols of a foreign file are equal by place, not by value: one is certain by the volume
        let same = from == to && to.iter().filter(|d| d.known().is_none()).count() <= 1;
        if node.op == LiteOp::Reshape && same && !graph.outputs.contains(&output) {
            let readers = graph.nodes.iter_mut().flat_map(|n| &mut n.inputs);
            readers.filter(|i| **i == Some(output)).for_each(|i| *i = Some(input));
        }
    }
}

/// A bias of zeros for FULLY_CONNECTED of float32 without one.
pub fn zero_bias_for_products(graph: &mut Subgraph) {
    for product in 0..graph.nodes.len() {
        let node = &graph.nodes[product];
        let LiteOp::FullyConnected { .. } = node.op else { continue };
        let Some(Some(weights)) = node.inputs.get(1).copied() else { continue };
        let tensor = &graph.tensors[weights];
        let outputs = tensor.shape.first().and_then(Dim::known);
        let (Some(outputs), ElementType::F32) = (outputs, tensor.element) else { continue };
        if node.inputs.get(2).copied().flatten().is_some() {
            continue;
        }
        let Some(&result) = node.outputs.first() else { continue };
        let name = format!("{}/bias", graph.tensors[result].name);
        let zeros = Bytes::from(vec![0; outputs * 4]);
        let bias = graph.add_tensor(Tensor::constant(name, ElementType::F32, &[outputs], zeros));
        let node = &mut graph.nodes[product];
        node.inputs.truncate(2);
        node.inputs.push(Some(bias));
    }
}

/// The one node that reads `tensor`, unless it is a graph output too.
fn only_reader(graph: &Subgraph, tensor: TensorId) -> Option<usize> {
    if graph.reader_count(tensor) != 1 {
        return None;
    }
    graph.nodes.iter().position(|n| n.inputs.contains(&Some(tensor)))
}

/// The one node that reads what `node` computes.
fn reader_of_result(graph: &Subgraph, node: usize) -> Option<usize> {
    only_reader(graph, *graph.nodes[node].outputs.first()?)
}

/// `keeper` computes what `gone` did; `gone` becomes a node without results.
pub(super) fn take_over_result(graph: &mut Subgraph, keeper: usize, gone: usize) {
    graph.nodes[keeper].outputs = std::mem::take(&mut graph.nodes[gone].outputs);
    graph.nodes[gone].inputs.clear();
}

/// A float32 constant `[…1, n]` as a vector `[n]`, where `n` is `like`'s last dimension.
fn vector_constant(graph: &mut Subgraph, constant: TensorId, like: TensorId) -> Option<TensorId> {
    let columns = graph.tensors[like].shape.last()?.known()?;
    let tensor = &graph.tensors[constant];
    let shape = tensor.known_shape()?;
    let (&last, leading) = shape.split_last()?;
    if tensor.element != ElementType::F32 || last != columns || leading.iter().any(|&d| d != 1) {
        return None;
    }
    if leading.is_empty() {
        return Some(constant);
    }
    let vector = Tensor {
        shape: vec![Dim::Known(last)],
        data: Some(tensor.data.clone()?),
        ..tensor.clone()
    };
    if graph.reader_count(constant) == 1 {
        graph.tensors[constant] = vector;
        return Some(constant);
    }
    let name = format!("{}/vector", vector.name);
    Some(graph.add_tensor(Tensor { name, ..vector }))
}
