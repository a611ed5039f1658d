//! TRANSPOSE nodes that cannot sink further move back up to the RESHAPE that stopped another one, and into the
//! products that can read what they make.

use super::layout::{inverse, permutation_constant, producers, sink_transposes, transposed};
use crate::graph::*;
use crate::ops;

/// No more ops than this are looked through on the way up.
const DEPTH: usize = 8;

/// TRANSPOSE of a RESHAPE of a TRANSPOSE goes before the RESHAPE where it moves whole axes, and merges there.
/// Ops that let it pass may stand between.
pub fn hoist_transposes(graph: &mut Subgraph) {
    let mut hoisted = false;
    for outer in 0..graph.nodes.len() {
        hoisted |= hoist(graph, outer).is_some();
    }
    if hoisted {
        sink_transposes(graph);
    }
}

fn hoist(graph: &mut Subgraph, outer: usize) -> Option<()> {
    let producers = producers(graph);
    let result = *graph.nodes[outer].outputs.first()?;
    let (permutation, middle) = transposed(graph, &producers, result)?;
    let (between, reshape) = up_to_reshape(graph, &producers, middle, &permutation)?;
    let mut outer = outer;
    for node in between {
        pass(graph, outer, node, &permutation)?;
        outer = node;
    }
    before_reshape(graph, outer, reshape, &permutation)
}

/// The nodes that let `permutation` pass, from the one that computes `tensor` upwards, and the RESHAPE of a
/// TRANSPOSE above them, before which it can go.
fn up_to_reshape(
    graph: &Subgraph,
    producers: &[Option<usize>],
    mut tensor: TensorId,
    permutation: &[usize],
) -> Option<(Vec<usize>, usize)> {
    let mut between = vec![];
    while between.len() < DEPTH && graph.reader_count(tensor) == 1 {
        let producer = producers[tensor]?;
        let node = &graph.nodes[producer];
        if node.op == LiteOp::Reshape {
            let source = node.inputs.first().copied().flatten()?;
            transposed(graph, producers, source)?;
            let (from, to) = (&graph.tensors[source].shape, &graph.tensors[tensor].shape);
            let (shape, _) = ops::reshape_untransposed(to, from, &inverse(permutation))?;
            ops::target_constant(String::new(), &graph.tensors[tensor].shape)?;
            return (shape.len() == from.len()).then_some((between, producer));
        }
        if node.op == LiteOp::Transpose {
            return None;
        }
        let passage = ops::permute(graph, node, &inverse(permutation))?;
        if passage.outputs != [inverse(permutation)] {
            return None;
        }
        between.push(producer);
        tensor = only_computed_input(graph, node)?;
    }
    None
}

fn only_computed_input(graph: &Subgraph, node: &Node) -> Option<TensorId> {
    let mut computed = node.inputs.iter().flatten().filter(|&&t| graph.tensors[t].data.is_none());
    let &input = computed.next()?;
    computed.next().is_none().then_some(input)
}

/// The TRANSPOSE `outer` of what `node` computes goes before it; the two nodes change places.
fn pass(graph: &mut Subgraph, outer: usize, node: usize, permutation: &[usize]) -> Option<()> {
    let passage = ops::permute(graph, &graph.nodes[node], &inverse(permutation))?;
    let source = only_computed_input(graph, &graph.nodes[node])?;
    let moved = moved_tensor(graph, source, permutation);
    let mut inputs = graph.nodes[node].inputs.clone();
    inputs.iter_mut().filter(|i| **i == Some(source)).for_each(|i| *i = Some(moved));
    for (place, constant) in passage.constants {
        inputs[place] = Some(graph.add_tensor(constant));
    }
    graph.nodes[outer].op = passage.op;
    graph.nodes[outer].inputs = inputs;
    make_transpose(graph, node, source, permutation, moved);
    Some(())
}

fn before_reshape(
    graph: &mut Subgraph,
    outer: usize,
    reshape: usize,
    permutation: &[usize],
) -> Option<()> {
    let middle = *graph.nodes[reshape].outputs.first()?;
    let result = *graph.nodes[outer].outputs.first()?;
    let source = graph.nodes[reshape].inputs.first().copied().flatten()?;
    let (from, to) = (&graph.tensors[source].shape, &graph.tensors[middle].shape);
    let (_, back) = ops::reshape_untransposed(to, from, &inverse(permutation))?;
    let target = &graph.tensors[result];
    let target = ops::target_constant(format!("{}/shape", target.name), &target.shape)?;
    let target = graph.add_tensor(target);
    let back = inverse(&back);
    let moved = moved_tensor(graph, source, &back);
    make_transpose(graph, reshape, source, &back, moved);
    graph.nodes[outer].op = LiteOp::Reshape;
    graph.nodes[outer].inputs = vec![Some(moved), Some(target)];
    Some(())
}

/// A tensor for what `permutation` makes of `source`.
fn moved_tensor(graph: &mut Subgraph, source: TensorId, permutation: &[usize]) -> TensorId {
    let tensor = &graph.tensors[source];
    let shape = permutation.iter().map(|&p| tensor.shape[p].clone()).collect();
    let name = format!("{}/moved", tensor.name);
    let moved = Tensor { name, shape, origin: None, ..tensor.clone() };
    graph.add_tensor(moved)
}

fn make_transpose(
    graph: &mut Subgraph,
    node: usize,
    source: TensorId,
    permutation: &[usize],
    result: TensorId,
) {
    let constant = permutation_constant(graph, permutation);
    graph.nodes[node] = Node {
        op: LiteOp::Transpose,
        inputs: vec![Some(source), Some(constant)],
        outputs: vec![result],
    };
}

/// BATCH_MATMUL reads an operand with its last two axes in either order: one that a TRANSPOSE makes of axes
/// whose last was the last but one now keeps that one last, and none is left where nothing else moved.
pub fn transposes_into_products(graph: &mut Subgraph) {
    let producers = producers(graph);
    for product in 0..graph.nodes.len() {
        for place in 0..2 {
            turn_operand(graph, &producers, product, place);
        }
    }
}

fn turn_operand(
    graph: &mut Subgraph,
    producers: &[Option<usize>],
    product: usize,
    place: usize,
) -> Option<()> {
    let LiteOp::BatchMatMul { .. } = graph.nodes[product].op else { return None };
    let operand = graph.nodes[product].inputs.get(place).copied().flatten()?;
    let (mut permutation, source) = transposed(graph, producers, operand)?;
    let last = permutation.len().checked_sub(1).filter(|&last| last > 0)?;
    if permutation[last - 1] != last {
        return None;
    }
    permutation.swap(last - 1, last);
    let moves_nothing = permutation.iter().enumerate().all(|(a, &p)| a == p);
    if !moves_nothing && graph.reader_count(operand) != 1 {
        return None;
    }
    let turned = match moves_nothing {
        true => source,
        false => {
            let mut tensor = graph.tensors[operand].clone();
            tensor.shape.swap(last - 1, last);
            tensor.name = format!("{}/turned", tensor.name);
            tensor.origin = None;
            let turned = graph.add_tensor(tensor);
            let constant = permutation_constant(graph, &permutation);
            let transpose = producers[operand]?;
            graph.nodes[transpose].inputs = vec![Some(source), Some(constant)];
            graph.nodes[transpose].outputs = vec![turned];
            turned
        }
    };
    let node = &mut graph.nodes[product];
    node.inputs[place] = Some(turned);
    if let LiteOp::BatchMatMul { transpose_x, transpose_y } = &mut node.op {
        let flag = if place == 0 { transpose_x } else { transpose_y };
        *flag = !*flag;
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::prune;

    fn integers(graph: &mut Subgraph, shape: &[usize], values: &[i32]) -> TensorId {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        graph.add_tensor(Tensor::constant("c", ElementType::I32, shape, data.into()))
    }

    fn node(graph: &mut Subgraph, op: LiteOp, inputs: &[TensorId], shape: &[usize]) -> TensorId {
        let shape = shape.iter().map(|&d| Dim::Known(d)).collect();
        let result = graph.add_tensor(Tensor::variable("t", ElementType::F32, shape));
        let inputs = inputs.iter().map(|&t| Some(t)).collect();
        graph.nodes.push(Node { op, inputs, outputs: vec![result] });
        result
    }

    fn input(graph: &mut Subgraph, shape: &[usize]) -> TensorId {
        let shape = shape.iter().map(|&d| Dim::Known(d)).collect();
        let x = graph.add_tensor(Tensor::variable("x", ElementType::F32, shape));
        graph.inputs.push(x);
        x
    }

    fn names(graph: &mut Subgraph, result: TensorId) -> Vec<String> {
        graph.outputs = vec![result];
        sink_transposes(graph);
        hoist_transposes(graph);
        transposes_into_products(graph);
        prune::remove_unused(graph);
        graph.nodes.iter().map(|n| n.op.name().to_string()).collect()
    }

    /// Channels [.., 2 × 3] shuffled in NCHW, padded there, and back in NHWC.
    fn shuffled(graph: &mut Subgraph, pads: &[i32; 8]) -> TensorId {
        let x = input(graph, &[1, 4, 5, 6]);
        let target = integers(graph, &[5], &[1, 4, 5, 2, 3]);
        let parts = node(graph, LiteOp::Reshape, &[x, target], &[1, 4, 5, 2, 3]);
        let order = integers(graph, &[5], &[0, 4, 3, 1, 2]);
        let parts = node(graph, LiteOp::Transpose, &[parts, order], &[1, 3, 2, 4, 5]);
        let target = integers(graph, &[4], &[1, 6, 4, 5]);
        let joined = node(graph, LiteOp::Reshape, &[parts, target], &[1, 6, 4, 5]);
        let rows = integers(graph, &[4, 2], pads);
        let padded = node(graph, LiteOp::Pad, &[joined, rows], &[1, 6, 5, 6]);
        let order = integers(graph, &[4], &[0, 2, 3, 1]);
        node(graph, LiteOp::Transpose, &[padded, order], &[1, 5, 6, 6])
    }

    #[test]
    fn a_transpose_goes_up_through_pad_to_the_reshape() {
        let mut graph = Subgraph::default();
        let result = shuffled(&mut graph, &[0, 0, 0, 0, 1, 0, 0, 1]);
        assert_eq!(names(&mut graph, result), ["RESHAPE", "TRANSPOSE", "RESHAPE", "PAD"]);
        let of = |op: LiteOp| graph.nodes.iter().find(|n| n.op == op).unwrap().inputs[1].unwrap();
        let order = graph.tensors[of(LiteOp::Transpose)].i32_values().unwrap();
        assert_eq!(order, [0, 1, 2, 4, 3]);
        let pads = graph.tensors[of(LiteOp::Pad)].i32_values().unwrap();
        assert_eq!(pads, [0, 0, 1, 0, 0, 1, 0, 0]);
    }

    #[test]
    fn what_others_read_on_the_way_stays() {
        let mut graph = Subgraph::default();
        let result = shuffled(&mut graph, &[0; 8]);
        let padded = graph.nodes[3].outputs[0];
        let other = node(&mut graph, LiteOp::Unary(UnaryOp::Exp), &[padded], &[1, 6, 5, 6]);
        graph.outputs = vec![result, other];
        let before = graph.nodes.clone();
        hoist_transposes(&mut graph);
        assert_eq!(graph.nodes, before);
    }

    #[test]
    fn products_read_either_order_of_the_last_axes() {
        for (order, shape, left) in [
            ([0, 1, 3, 2], [2, 4, 3, 5], &["BATCH_MATMUL"][..]),
            ([0, 2, 3, 1], [2, 3, 4, 5], &["TRANSPOSE", "BATCH_MATMUL"]),
        ] {
            let mut graph = Subgraph::default();
            // [2, 4, 5, 3] after the transpose
            let from = if order[1] == 1 { shape } else { [2, 3, 4, 5] };
            let x = input(&mut graph, &from);
            let y = input(&mut graph, &[2, 4, 3, 7]);
            let order = integers(&mut graph, &[4], &order);
            let turned = node(&mut graph, LiteOp::Transpose, &[x, order], &[2, 4, 5, 3]);
            let op = LiteOp::BatchMatMul { transpose_x: false, transpose_y: false };
            let result = node(&mut graph, op, &[turned, y], &[2, 4, 5, 7]);
            assert_eq!(names(&mut graph, result), left);
            let product = graph.nodes.last().unwrap();
            assert_eq!(product.op, LiteOp::BatchMatMul { transpose_x: true, transpose_y: false });
        }
    }
}
