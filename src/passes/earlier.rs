//! Scales and shifts by constants move up to the weights that can take them in, past ops that only move or
//! multiply what they are applied to.

use crate::graph::*;

/// ADD, SUB, MUL and DIV of a constant after a RESHAPE of a product's result go before the RESHAPE, where the
/// constant has values for what the last axis becomes.
pub fn constants_before_reshapes(graph: &mut Subgraph) {
    for binary in 0..graph.nodes.len() {
        move_before_reshape(graph, binary);
    }
}

fn move_before_reshape(graph: &mut Subgraph, binary: usize) -> Option<()> {
    let (result, constant) = constant_operand(graph, binary)?;
    let reshape = only_producer(graph, result, LiteOp::Reshape)?;
    let source = graph.nodes[reshape].inputs.first().copied().flatten()?;
    if !leads_to_weights(graph, source) {
        return None;
    }
    let columns = graph.tensors[source].shape.last()?.known()?;
    let shape = graph.tensors[result].shape.clone();
    let moved = flat_constant(&graph.tensors[constant], &shape, columns)?;
    let moved = graph.add_tensor(moved);

    let name = format!("{}/flat", graph.tensors[*graph.nodes[binary].outputs.first()?].name);
    let tensor = Tensor { name, origin: None, ..graph.tensors[source].clone() };
    let before = graph.add_tensor(tensor);
    let target = graph.nodes[reshape].inputs.get(1).copied()?;
    let op = graph.nodes[binary].op.clone();
    let swap = |input: &Option<TensorId>| {
        Some(if *input == Some(result) { source } else { moved }).filter(|_| input.is_some())
    };
    let inputs = graph.nodes[binary].inputs.iter().map(swap).collect();
    graph.nodes[reshape] = Node { op, inputs, outputs: vec![before] };
    graph.nodes[binary].op = LiteOp::Reshape;
    graph.nodes[binary].inputs = vec![Some(before), target];
    Some(())
}

/// A constant for `shape` as one for `columns` values, which became the last axes of `shape`.
fn flat_constant(constant: &Tensor, shape: &[Dim], columns: usize) -> Option<Tensor> {
    let own = constant.known_shape()?;
    let values = constant.f32_values()?;
    let missing = shape.len().checked_sub(own.len())?;
    if let [_] = values.as_slice() {
        return Some(Tensor { shape: vec![], ..constant.clone() });
    }
    let own: Vec<usize> = std::iter::repeat_n(1, missing).chain(own).collect();
    let (mut first, mut volume) = (shape.len(), 1usize);
    while volume < columns {
        first = first.checked_sub(1)?;
        volume = volume.checked_mul(shape[first].known()?)?;
    }
    if volume != columns || own[..first].iter().any(|&d| d != 1) {
        return None;
    }
    let wanted: Vec<usize> = shape[first..].iter().map(Dim::known).collect::<Option<_>>()?;
    let own = &own[first..];
    let mut flat = Vec::with_capacity(columns);
    for place in 0..columns {
        let (mut rest, mut index, mut stride) = (place, 0, 1);
        for (&size, &extent) in own.iter().zip(&wanted).rev() {
            index += if size == 1 { 0 } else { rest % extent * stride };
            rest /= extent;
            stride *= size;
        }
        flat.push(*values.get(index)?);
    }
    let data: Vec<u8> = flat.iter().flat_map(|v| v.to_le_bytes()).collect();
    let name = format!("{}/flat", constant.name);
    Some(Tensor::constant(name, ElementType::F32, &[columns], data.into()))
}

/// MUL and DIV by one number go from behind BATCH_MATMUL, TRANSPOSE and RESHAPE to behind the product with
/// constant weights that these work on.
pub fn scales_to_weights(graph: &mut Subgraph) {
    for scale in 0..graph.nodes.len() {
        move_to_weights(graph, scale);
    }
}

fn move_to_weights(graph: &mut Subgraph, scale: usize) -> Option<()> {
    let (scaled, constant) = constant_operand(graph, scale)?;
    let node = &graph.nodes[scale];
    let is_scale = match node.op {
        LiteOp::Binary { op: BinaryOp::Mul, activation: Activation::None } => true,
        LiteOp::Binary { op: BinaryOp::Div, activation: Activation::None } => {
            node.inputs.first() == Some(&Some(scaled))
        }
        _ => false,
    };
    let value = graph.tensors[constant].f32_values()?;
    let &[factor] = value.as_slice() else { return None };
    // beyond, weights could leave the range of float32 where the product did not
    let is_moderate = (1e-6..=1e6).contains(&factor.abs());
    let result = *node.outputs.first()?;
    if !is_scale || !is_moderate || graph.tensors[result].shape != graph.tensors[scaled].shape {
        return None;
    }
    let weighted = weighted_source(graph, scaled)?;
    let producer = graph.producer(weighted)?;
    let above = graph.producer(scaled)?;
    if above == producer {
        return None;
    }
    let constant = graph.add_tensor(Tensor { shape: vec![], ..graph.tensors[constant].clone() });
    let name = format!("{}/unscaled", graph.tensors[weighted].name);
    let raw = Tensor { name, origin: None, ..graph.tensors[weighted].clone() };
    let raw = graph.add_tensor(raw);
    let op = graph.nodes[scale].op.clone();
    super::fuse::take_over_result(graph, above, scale);
    graph.nodes[producer].outputs = vec![raw];
    let inputs = vec![Some(raw), Some(constant)];
    let moved = Node { op, inputs, outputs: vec![weighted] };
    // the emptied node gives up its place: others keep theirs
    graph.nodes.remove(scale);
    graph.nodes.insert(producer + 1, moved);
    Some(())
}

/// The result of a product with weights that `tensor` is a multiple of, with nobody else reading on the way.
fn weighted_source(graph: &Subgraph, tensor: TensorId) -> Option<TensorId> {
    if graph.reader_count(tensor) != 1 {
        return None;
    }
    if has_weights(graph, tensor) {
        return Some(tensor);
    }
    let node = &graph.nodes[graph.producer(tensor)?];
    let of = |place: usize| weighted_source(graph, node.inputs.get(place).copied().flatten()?);
    match node.op {
        LiteOp::Reshape | LiteOp::Transpose => of(0),
        LiteOp::BatchMatMul { .. } => of(0).or_else(|| of(1)),
        _ => None,
    }
}

/// Whether `tensor` is what a product with constant weights gives, before any activation.
fn has_weights(graph: &Subgraph, tensor: TensorId) -> bool {
    let Some(producer) = graph.producer(tensor) else { return false };
    let node = &graph.nodes[producer];
    let takes = matches!(
        node.op,
        LiteOp::FullyConnected { activation: Activation::None, .. }
            | LiteOp::Conv2D { activation: Activation::None, .. }
            | LiteOp::DepthwiseConv2D { activation: Activation::None, .. }
    );
    let weights = node.inputs.get(1).copied().flatten();
    takes
        && weights.is_some_and(|w| {
            let tensor = &graph.tensors[w];
            tensor.element == ElementType::F32 && tensor.data.is_some()
        })
}

/// Whether `tensor` comes from weights through constants that will go into them.
fn leads_to_weights(graph: &Subgraph, tensor: TensorId) -> bool {
    if graph.reader_count(tensor) != 1 {
        return false;
    }
    let shifted = graph.producer(tensor).and_then(|binary| constant_operand(graph, binary));
    has_weights(graph, tensor) || shifted.is_some_and(|(source, _)| leads_to_weights(graph, source))
}

/// What an ADD, SUB, MUL or DIV without activation computes with a float32 constant, and that constant.
pub(super) fn constant_operand(graph: &Subgraph, node: usize) -> Option<(TensorId, TensorId)> {
    let node = &graph.nodes[node];
    let LiteOp::Binary {
        op: BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div,
        activation: Activation::None,
    } = node.op
    else {
        return None;
    };
    let &[Some(left), Some(right)] = node.inputs.as_slice() else { return None };
    let is_constant = |t: TensorId| {
        graph.tensors[t].data.is_some() && graph.tensors[t].element == ElementType::F32
    };
    match (is_constant(left), is_constant(right)) {
        (false, true) => Some((left, right)),
        (true, false) => Some((right, left)),
        _ => None,
    }
}

/// The node of that op which computes `tensor` for one reader.
fn only_producer(graph: &Subgraph, tensor: TensorId, op: LiteOp) -> Option<usize> {
    let producer = graph.producer(tensor).filter(|&p| graph.nodes[p].op == op)?;
    (graph.reader_count(tensor) == 1).then_some(producer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::{fuse, prune};

    const MUL: LiteOp = LiteOp::Binary { op: BinaryOp::Mul, activation: Activation::None };

    fn constant(graph: &mut Subgraph, shape: &[usize], values: &[f32]) -> TensorId {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        graph.add_tensor(Tensor::constant("c", ElementType::F32, shape, data.into()))
    }

    fn node(graph: &mut Subgraph, op: LiteOp, inputs: &[TensorId], shape: &[usize]) -> TensorId {
        let shape = shape.iter().map(|&d| Dim::Known(d)).collect();
        let result = graph.add_tensor(Tensor::variable("t", ElementType::F32, shape));
        let inputs = inputs.iter().map(|&t| Some(t)).collect();
        graph.nodes.push(Node { op, inputs, outputs: vec![result] });
        result
    }

    /// x [2, 2] times weights [4, 2] of ones.
    fn product(graph: &mut Subgraph) -> TensorId {
        let shape = vec![Dim::Known(2), Dim::Known(2)];
        let x = graph.add_tensor(Tensor::variable("x", ElementType::F32, shape));
        graph.inputs.push(x);
        let weights = constant(graph, &[4, 2], &[1.0; 8]);
        let op = LiteOp::FullyConnected {
            activation: Activation::None,
            keep_num_dims: false,
            asymmetric_quantize_inputs: false,
        };
        node(graph, op, &[x, weights], &[2, 4])
    }

    fn reshaped(graph: &mut Subgraph, tensor: TensorId, shape: &[usize]) -> TensorId {
        let data: Vec<u8> = shape.iter().flat_map(|&d| (d as i32).to_le_bytes()).collect();
        let target = Tensor::constant("s", ElementType::I32, &[shape.len()], data.into());
        let target = graph.add_tensor(target);
        node(graph, LiteOp::Reshape, &[tensor, target], shape)
    }

    /// Ops and the product's weights after these passes.
    fn check(mut graph: Subgraph, result: TensorId, ops: &[&str], weights: &[f32]) {
        graph.outputs = vec![result];
        constants_before_reshapes(&mut graph);
        fuse::bias_into_product(&mut graph);
        scales_to_weights(&mut graph);
        fuse::scale_into_weights(&mut graph);
        prune::remove_unused(&mut graph);
        let found: Vec<&str> = graph.nodes.iter().map(|n| n.op.name()).collect();
        assert_eq!(found, ops);
        let of_product = graph.nodes.iter().find(|n| n.op.name() == "FULLY_CONNECTED").unwrap();
        let values = graph.tensors[of_product.inputs[1].unwrap()].f32_values().unwrap();
        assert_eq!(values, weights);
    }

    #[test]
    fn a_scale_of_heads_is_broadcast_over_the_columns() {
        for (shape, values, weights) in [
            (&[2usize, 1][..], &[3.0f32, 5.0][..], [3.0, 3.0, 3.0, 3.0, 5.0, 5.0, 5.0, 5.0]),
            (&[2], &[3.0, 5.0], [3.0, 3.0, 5.0, 5.0, 3.0, 3.0, 5.0, 5.0]),
            (&[1, 2, 2], &[1.0, 2.0, 3.0, 4.0], [1.0, 1.0, 2.0, 2.0, 3.0, 3.0, 4.0, 4.0]),
            (&[1, 1, 1], &[7.0], [7.0; 8]),
        ] {
            let mut graph = Subgraph::default();
            let y = product(&mut graph);
            let heads = reshaped(&mut graph, y, &[2, 2, 2]);
            let scale = constant(&mut graph, shape, values);
            let result = node(&mut graph, MUL, &[scale, heads], &[2, 2, 2]);
            check(graph, result, &["FULLY_CONNECTED", "RESHAPE"], &weights);
        }
    }

    #[test]
    fn a_scale_that_differs_by_row_stays() {
        let mut graph = Subgraph::default();
        let y = product(&mut graph);
        let heads = reshaped(&mut graph, y, &[2, 2, 2]);
        let scale = constant(&mut graph, &[2, 1, 1], &[3.0, 5.0]);
        let result = node(&mut graph, MUL, &[heads, scale], &[2, 2, 2]);
        check(graph, result, &["FULLY_CONNECTED", "RESHAPE", "MUL"], &[1.0; 8]);
    }

    fn scores(graph: &mut Subgraph, factor: f32) -> [TensorId; 2] {
        let y = product(graph);
        let other = graph.add_tensor(Tensor { name: "k".into(), ..graph.tensors[y].clone() });
        graph.inputs.push(other);
        let op = LiteOp::BatchMatMul { transpose_x: false, transpose_y: true };
        // the weights are on the right: they are found there too
        let scores = node(graph, op, &[other, y], &[2, 2]);
        let scale = constant(graph, &[], &[factor]);
        [scores, node(graph, MUL, &[scores, scale], &[2, 2])]
    }

    #[test]
    fn a_scale_of_a_product_of_two_goes_to_the_one_with_weights() {
        let mut graph = Subgraph::default();
        let [_, result] = scores(&mut graph, 0.25);
        check(graph, result, &["FULLY_CONNECTED", "BATCH_MATMUL"], &[0.25; 8]);
    }

    #[test]
    fn a_scale_stays_where_the_unscaled_is_read_too_or_weights_might_overflow() {
        let mut graph = Subgraph::default();
        let [scores_alone, result] = scores(&mut graph, 0.25);
        let sum = LiteOp::Binary { op: BinaryOp::Add, activation: Activation::None };
        let sum = node(&mut graph, sum, &[scores_alone, result], &[2, 2]);
        check(graph, sum, &["FULLY_CONNECTED", "BATCH_MATMUL", "MUL", "ADD"], &[1.0; 8]);

        let mut graph = Subgraph::default();
        let [_, result] = scores(&mut graph, 1e20);
        check(graph, result, &["FULLY_CONNECTED", "BATCH_MATMUL", "MUL"], &[1.0; 8]);
    }
}
