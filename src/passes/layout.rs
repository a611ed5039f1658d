//! TRANSPOSE nodes move towards the outputs until they meet their inverse. `ops` knows how each op lets
//! a permutation through.

use crate::graph::*;
use crate::ops::{self, Passage};

/// Sinks transposes below the ops that read them, and merges and drops those that meet.
pub fn sink_transposes(graph: &mut Subgraph) {
    // each round moves every transpose by at most one op
    for _ in 0..=graph.nodes.len() {
        merge_transposes(graph);
        super::prune::remove_unused(graph);
        if !sink_once(graph) {
            break;
        }
    }
    merge_transposes(graph);
}

/// The constant permutation of a TRANSPOSE that computes `tensor`, and what it permutes.
fn transposed(
    graph: &Subgraph,
    producers: &[Option<usize>],
    tensor: TensorId,
) -> Option<(Vec<usize>, TensorId)> {
    let node = &graph.nodes[producers[tensor]?];
    if node.op != LiteOp::Transpose {
        return None;
    }
    let order = graph.tensors[node.inputs.get(1).copied().flatten()?].i32_values()?;
    let rank = order.len();
    let permutation: Option<Vec<usize>> =
        order.into_iter().map(|a| usize::try_from(a).ok().filter(|&a| a < rank)).collect();
    Some((permutation?, node.inputs.first().copied().flatten()?))
}

fn producers(graph: &Subgraph) -> Vec<Option<usize>> {
    let mut producers = vec![None; graph.tensors.len()];
    for (i, node) in graph.nodes.iter().enumerate() {
        node.outputs.iter().for_each(|&t| producers[t] = Some(i));
    }
    producers
}

/// TRANSPOSE of a TRANSPOSE becomes one; one that moves nothing goes.
fn merge_transposes(graph: &mut Subgraph) {
    let producers = producers(graph);
    let mut renamed: Vec<TensorId> = (0..graph.tensors.len()).collect();
    for i in 0..graph.nodes.len() {
        for input in graph.nodes[i].inputs.iter_mut().flatten() {
            *input = renamed[*input];
        }
        let Some(&result) = graph.nodes[i].outputs.first() else { continue };
        let Some((outer, middle)) = transposed(graph, &producers, result) else { continue };
        let (mut permutation, mut source) = (outer, middle);
        if let Some((inner, below)) = transposed(graph, &producers, middle) {
            permutation = permutation.iter().map(|&p| inner[p]).collect();
            source = renamed[below];
            let constant = permutation_constant(graph, &permutation);
            graph.nodes[i].inputs = vec![Some(source), Some(constant)];
        }
        let moves_nothing = permutation.iter().enumerate().all(|(a, &p)| a == p);
        if moves_nothing && !graph.outputs.contains(&result) {
            renamed[result] = source;
        }
    }
}

fn permutation_constant(graph: &mut Subgraph, permutation: &[usize]) -> TensorId {
    let data: Vec<u8> = permutation.iter().flat_map(|&p| (p as i32).to_le_bytes()).collect();
    let name = format!("permutation_{}", graph.tensors.len());
    graph.add_tensor(Tensor::constant(name, ElementType::I32, &[permutation.len()], data.into()))
}

/// Lets transposes through each op that they can pass; false when none moved.
fn sink_once(graph: &mut Subgraph) -> bool {
    let producers = producers(graph);
    let mut nodes = std::mem::take(&mut graph.nodes);
    let mut result: Vec<Node> = vec![];
    let mut moved = false;
    // `transposed` looks nodes up by their old places
    graph.nodes = nodes.clone();
    for node in nodes.iter_mut() {
        match passage(graph, &producers, node) {
            None => result.push(node.clone()),
            Some((passage, sources)) => {
                moved = true;
                sink_below(graph, node, passage, sources, &mut result);
            }
        }
    }
    graph.nodes = result;
    moved
}

/// How the transposes that all computed inputs of `node` come through pass it.
fn passage(
    graph: &Subgraph,
    producers: &[Option<usize>],
    node: &Node,
) -> Option<(Passage, Vec<Option<TensorId>>)> {
    if node.op == LiteOp::Transpose || node.outputs.iter().any(|o| graph.outputs.contains(o)) {
        return None;
    }
    let mut permutation: Option<Vec<usize>> = None;
    let mut sources = node.inputs.clone();
    for input in sources.iter_mut() {
        let Some(tensor) = *input else { continue };
        if graph.tensors[tensor].data.is_some() {
            continue;
        }
        let (found, source) = transposed(graph, producers, tensor)?;
        if permutation.as_ref().is_some_and(|p| *p != found) {
            return None;
        }
        permutation = Some(found);
        *input = Some(source);
    }
    let passage = ops::permute(graph, node, &permutation?)?;
    Some((passage, sources))
}

/// Puts `node` on the untransposed `sources`, and a TRANSPOSE behind each of its outputs.
fn sink_below(
    graph: &mut Subgraph,
    node: &Node,
    passage: Passage,
    sources: Vec<Option<TensorId>>,
    result: &mut Vec<Node>,
) {
    let mut inputs = sources;
    for (place, constant) in passage.constants {
        inputs[place] = Some(graph.add_tensor(constant));
    }
    let mut outputs = vec![];
    let mut transposes = vec![];
    for (&old, permutation) in node.outputs.iter().zip(&passage.outputs) {
        let mut tensor = graph.tensors[old].clone();
        for (axis, &p) in permutation.iter().enumerate() {
            tensor.shape[p] = graph.tensors[old].shape[axis].clone();
        }
        tensor.name = format!("{}/nhwc", tensor.name);
        let new = graph.add_tensor(tensor);
        let constant = permutation_constant(graph, permutation);
        outputs.push(new);
        transposes.push(Node {
            op: LiteOp::Transpose,
            inputs: vec![Some(new), Some(constant)],
            outputs: vec![old],
        });
    }
    result.push(Node { op: passage.op, inputs, outputs });
    result.extend(transposes);
}
