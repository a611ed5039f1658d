//! What is computed twice is computed once.

use crate::graph::*;
use std::collections::HashMap;

/// Constants of more bytes are told apart by where they are, not by what they hold.
const LARGEST_COMPARED: usize = 1024;

type Content<'a> = (ElementType, &'a [Dim], &'a [u8]);

/// Of nodes with the same op on the same inputs the first stays. What makes a graph output stays too, and so
/// does what the vocabulary does not know.
pub fn share_equal_nodes(graph: &mut Subgraph) {
    let mut stands_for: Vec<TensorId> = (0..graph.tensors.len()).collect();
    share_small_constants(graph, &mut stands_for);
    let mut known: HashMap<(String, Vec<Option<TensorId>>), usize> = HashMap::new();
    for i in 0..graph.nodes.len() {
        let node = &graph.nodes[i];
        let inputs: Vec<Option<TensorId>> =
            node.inputs.iter().map(|input| input.map(|t| stands_for[t])).collect();
        if matches!(node.op, LiteOp::Custom { .. }) || !node.op.subgraphs().is_empty() {
            continue;
        }
        let first = *known.entry((format!("{:?}", node.op), inputs)).or_insert(i);
        let same = |(&a, &b): (&TensorId, &TensorId)| {
            let (a, b) = (&graph.tensors[a], &graph.tensors[b]);
            (a.element, &a.shape, &a.quantization) == (b.element, &b.shape, &b.quantization)
        };
        let earlier = &graph.nodes[first].outputs;
        if first == i
            || earlier.len() != node.outputs.len()
            || !earlier.iter().zip(&node.outputs).all(same)
            || node.outputs.iter().any(|t| graph.outputs.contains(t))
        {
            continue;
        }
        earlier.iter().zip(&node.outputs).for_each(|(&kept, &gone)| stands_for[gone] = kept);
    }
    let inputs = graph.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten());
    inputs.for_each(|t| *t = stands_for[*t]);
    super::prune::remove_unused(graph);
}

fn share_small_constants(graph: &Subgraph, stands_for: &mut [TensorId]) {
    let mut known: HashMap<Content, TensorId> = HashMap::new();
    for (id, tensor) in graph.tensors.iter().enumerate() {
        let Some(data) = tensor.data.as_ref().filter(|d| d.len() <= LARGEST_COMPARED) else {
            continue;
        };
        if tensor.quantization.is_none() && !graph.outputs.contains(&id) {
            let content = (tensor.element, tensor.shape.as_slice(), data.as_ref());
            stands_for[id] = *known.entry(content).or_insert(id);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn constant(graph: &mut Subgraph, value: f32) -> TensorId {
        let bytes = value.to_le_bytes().to_vec().into();
        graph.add_tensor(Tensor::constant("c", ElementType::F32, &[], bytes))
    }

    fn node(graph: &mut Subgraph, op: LiteOp, inputs: &[TensorId]) -> TensorId {
        let shape = graph.tensors[0].shape.clone();
        let result = graph.add_tensor(Tensor::variable("t", ElementType::F32, shape));
        let inputs = inputs.iter().map(|&t| Some(t)).collect();
        graph.nodes.push(Node { op, inputs, outputs: vec![result] });
        result
    }

    fn check(build: impl Fn(&mut Subgraph) -> Vec<TensorId>, nodes: usize) {
        let mut graph = Subgraph::default();
        let shape = vec![Dim::Symbol("N".into())];
        let x = graph.add_tensor(Tensor::variable("x", ElementType::F32, shape));
        graph.inputs.push(x);
        graph.outputs = build(&mut graph);
        share_equal_nodes(&mut graph);
        assert_eq!(graph.nodes.len(), nodes, "{graph}");
    }

    const ADD: LiteOp = LiteOp::Binary { op: BinaryOp::Add, activation: Activation::None };

    fn branches(graph: &mut Subgraph, values: [f32; 2], last: UnaryOp) -> Vec<TensorId> {
        let sums = values.map(|value| {
            let c = constant(graph, value);
            let sum = node(graph, ADD, &[0, c]);
            node(graph, LiteOp::Unary(last), &[sum])
        });
        vec![node(graph, ADD, &sums)]
    }

    #[test]
    fn equal_chains_become_one() {
        check(|graph| branches(graph, [1.0, 1.0], UnaryOp::Exp), 3);
    }

    #[test]
    fn what_differs_stays() {
        check(|graph| branches(graph, [1.0, -1.0], UnaryOp::Exp), 5);
        // equal as numbers, not as bits
        check(|graph| branches(graph, [0.0, -0.0], UnaryOp::Exp), 5);
    }

    #[test]
    fn each_output_keeps_its_node() {
        let build = |graph: &mut Subgraph| [(); 2].map(|()| node(graph, ADD, &[0, 0])).to_vec();
        check(build, 2);
    }
}
