//! Ops into their neighbours.

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
fn take_over_result(graph: &mut Subgraph, keeper: usize, gone: usize) {
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
