//! TRANSPOSE nodes move towards the outputs until they meet their inverse. `ops` knows how each op lets
//! a permutation through.

use crate::graph::*;
use crate::kernels::reorder;
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

pub(super) fn inverse(permutation: &[usize]) -> Vec<usize> {
    let mut inverse = vec![0; permutation.len()];
    permutation.iter().enumerate().for_each(|(axis, &p)| inverse[p] = axis);
    inverse
}

/// TRANSPOSE that moves only axes of size 1 is a RESHAPE.
pub fn transposes_to_reshapes(graph: &mut Subgraph) {
    let producers = producers(graph);
    for node in 0..graph.nodes.len() {
        let Some(&result) = graph.nodes[node].outputs.first() else { continue };
        let Some((permutation, source)) = transposed(graph, &producers, result) else { continue };
        let shape = &graph.tensors[source].shape;
        if shape.len() != permutation.len() {
            continue;
        }
        let moving: Vec<usize> =
            permutation.iter().copied().filter(|&p| shape[p] != Dim::Known(1)).collect();
        let name = format!("{}/shape", graph.tensors[result].name);
        let target = ops::target_constant(name, &graph.tensors[result].shape);
        if let (true, Some(target)) = (moving.is_sorted(), target) {
            let target = graph.add_tensor(target);
            graph.nodes[node].op = LiteOp::Reshape;
            graph.nodes[node].inputs = vec![Some(source), Some(target)];
        }
    }
}

/// RESHAPE of a TRANSPOSE reads what was transposed, where only axes of size 1 move, and where a flat
/// row goes into constant weights, whose columns move instead.
pub fn flatten_untransposed(graph: &mut Subgraph) {
    let producers = producers(graph);
    for reshape in 0..graph.nodes.len() {
        if graph.nodes[reshape].op != LiteOp::Reshape {
            continue;
        }
        let Some(Some(input)) = graph.nodes[reshape].inputs.first().copied() else { continue };
        let Some((permutation, source)) = transposed(graph, &producers, input) else { continue };
        let shape = graph.tensors[source].shape.clone();
        if shape.len() != permutation.len() {
            continue;
        }
        let moving: Vec<usize> =
            permutation.iter().copied().filter(|&p| shape[p] != Dim::Known(1)).collect();
        if moving.is_sorted() || move_weight_columns(graph, reshape, &permutation, &shape).is_some()
        {
            graph.nodes[reshape].inputs[0] = Some(source);
        }
    }
}

/// Reorders the columns of the FULLY_CONNECTED that alone reads the flat rows of `reshape`, so that rows
/// of `shape` fit it as those of its permutation did.
fn move_weight_columns(
    graph: &mut Subgraph,
    reshape: usize,
    permutation: &[usize],
    shape: &[Dim],
) -> Option<()> {
    let sizes: Vec<usize> = shape.iter().skip(1).map(Dim::known).collect::<Option<_>>()?;
    let columns = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let mut rows = *graph.nodes[reshape].outputs.first()?;
    let flat = &graph.tensors[rows].shape;
    if permutation.first() != Some(&0) || flat.len() != 2 || flat[1] != Dim::Known(columns) {
        return None;
    }
    let mut reordered = vec![];
    let product = loop {
        if graph.reader_count(rows) != 1 {
            return None;
        }
        reordered.push(rows);
        let reader = graph.nodes.iter().position(|n| n.inputs.contains(&Some(rows)))?;
        let node = &graph.nodes[reader];
        if let LiteOp::FullyConnected { .. } = node.op {
            break reader;
        }
        let LiteOp::Unary(_) = node.op else { return None };
        rows = *node.outputs.first()?;
    };
    let node = &graph.nodes[product];
    let weights = node.inputs.get(1).copied().flatten()?;
    let tensor = &graph.tensors[weights];
    if node.inputs.first() != Some(&Some(rows))
        || tensor.shape.get(1) != Some(&Dim::Known(columns))
        || tensor.shape.len() != 2
        || tensor.element != ElementType::F32
        || columns == 0
    {
        return None;
    }
    let mut shape = vec![tensor.shape.first()?.known()?];
    shape.extend(permutation[1..].iter().map(|&axis| sizes[axis - 1]));
    let order: Option<Vec<usize>> =
        (0..permutation.len()).map(|axis| permutation.iter().position(|&p| p == axis)).collect();
    let data = tensor.data.as_ref()?;
    let moved = reorder(data, 4, &shape, &order?).ok()?;
    let moved = moved.map_or_else(|| data.clone(), Into::into);
    let moved = Tensor { data: Some(moved), ..tensor.clone() };
    if graph.reader_count(weights) == 1 {
        graph.tensors[weights] = moved;
    } else {
        let name = format!("{}/nhwc", moved.name);
        let moved = graph.add_tensor(Tensor { name, ..moved });
        graph.nodes[product].inputs[1] = Some(moved);
    }
    for rows in reordered {
        let tensor = &mut graph.tensors[rows];
        tensor.name = format!("{}/reordered", tensor.name);
    }
    Some(())
}

/// The constant permutation of a TRANSPOSE that computes `tensor`, and what it permutes.
pub(super) fn transposed(
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
    let (permutation, source) = (permutation?, node.inputs.first().copied().flatten()?);
    let is_whole = (0..rank).all(|axis| permutation.contains(&axis));
    let fits =
        graph.tensors[source].shape.len() == rank && graph.tensors[tensor].shape.len() == rank;
    (is_whole && fits).then_some((permutation, source))
}

pub(super) fn producers(graph: &Subgraph) -> Vec<Option<usize>> {
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

pub(super) fn permutation_constant(graph: &mut Subgraph, permutation: &[usize]) -> TensorId {
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
) -> Option<(Passage, Vec<Source>)> {
    if node.op == LiteOp::Transpose {
        return None;
    }
    let computed = |input: &&Option<TensorId>| {
        input.is_some_and(|tensor| graph.tensors[tensor].data.is_none())
    };
    let (permutation, _) = node
        .inputs
        .iter()
        .filter(computed)
        .find_map(|input| transposed(graph, producers, (*input)?))?;
    let mut sources = vec![];
    for input in &node.inputs {
        sources.push(match *input {
            Some(tensor) if computed(&input) => match transposed(graph, producers, tensor) {
                Some((found, source)) if found == permutation => Source::Tensor(Some(source)),
                Some(_) => return None,
                None => untransposed_by_reshape(graph, tensor, &permutation)?,
            },
            other => Source::Tensor(other),
        });
    }
    let passage = ops::permute(graph, node, &permutation)?;
    let mut outputs = node.outputs.iter().zip(&passage.outputs);
    outputs.all(|(&o, p)| graph.tensors[o].shape.len() == p.len()).then_some((passage, sources))
}

/// What an input becomes when transposes pass its reader.
enum Source {
    Tensor(Option<TensorId>),
    /// As a tensor of that shape by a RESHAPE to that target: the permutation moves only axes of size 1 of it.
    Reshaped(TensorId, Vec<Dim>, Tensor),
}

/// What `permutation` makes `tensor` of, if a RESHAPE does the same.
fn untransposed_by_reshape(
    graph: &Subgraph,
    tensor: TensorId,
    permutation: &[usize],
) -> Option<Source> {
    let Tensor { name, shape, .. } = &graph.tensors[tensor];
    if shape.len() != permutation.len() {
        return None;
    }
    let moving = (0..shape.len()).filter(|&a| shape[a] != Dim::Known(1)).map(|a| permutation[a]);
    let mut before = shape.clone();
    for (axis, &p) in permutation.iter().enumerate() {
        before[p] = shape[axis].clone();
    }
    let target = ops::target_constant(format!("{name}/nhwc/shape"), &before)?;
    moving.is_sorted().then_some(Source::Reshaped(tensor, before, target))
}

/// Puts `node` on the untransposed `sources`, and a TRANSPOSE behind each of its outputs.
fn sink_below(
    graph: &mut Subgraph,
    node: &Node,
    passage: Passage,
    sources: Vec<Source>,
    result: &mut Vec<Node>,
) {
    let mut inputs = vec![];
    for source in sources {
        inputs.push(match source {
            Source::Tensor(tensor) => tensor,
            Source::Reshaped(tensor, shape, target) => {
                let name = format!("{}/nhwc", graph.tensors[tensor].name);
                let target = graph.add_tensor(target);
                let new = Tensor { name, shape, origin: None, ..graph.tensors[tensor].clone() };
                let new = graph.add_tensor(new);
                let inputs = vec![Some(tensor), Some(target)];
                result.push(Node { op: LiteOp::Reshape, inputs, outputs: vec![new] });
                Some(new)
            }
        });
    }
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
