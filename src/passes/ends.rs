//! Inputs and outputs with channels last: TRANSPOSE nodes at the ends of a graph move out of it.

use super::{fuse, hoist, layout, prune};
use crate::graph::*;

/// An input or output whose axes were moved: its axis i is axis `permutation[i]` of what it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MovedEnd {
    pub is_input: bool,
    /// Among the graph's inputs or outputs.
    pub place: usize,
    pub permutation: Vec<usize>,
}

/// No more choices than this are tried out; ends beyond it are taken as they seem.
const MOST_TRIALS: usize = 64;

/// Makes the inputs and outputs of the entry graph that seem to be pictures (batch, channels, one to three
/// spatial axes) channels-last. An end stays as it is where the move would leave more TRANSPOSE nodes than
/// it takes away. To be run before the passes.
pub fn move_channels_last(model: &mut Model) -> Vec<MovedEnd> {
    let Some(graph) = model.subgraphs.first_mut() else { return vec![] };
    let ends = movable_ends(graph);
    let mut chosen: Vec<bool> =
        ends.iter().map(|(_, seems_channels_first)| *seems_channels_first).collect();
    let transposes = |chosen: &[bool]| {
        let mut trial = graph.clone();
        let taken = ends.iter().zip(chosen).filter(|(_, chosen)| **chosen);
        taken.for_each(|((end, _), _)| move_end(&mut trial, end));
        settle_transposes(&mut trial);
        transpose_count(&trial)
    };
    let mut fewest = transposes(&chosen);
    for candidate in [true, false] {
        for end in 0..ends.len().min(MOST_TRIALS) {
            if chosen[end] != candidate {
                continue;
            }
            chosen[end] = !candidate;
            let count = transposes(&chosen);
            if count < fewest {
                fewest = count;
            } else {
                chosen[end] = candidate;
            }
        }
    }
    let moved = ends.into_iter().zip(chosen).filter(|(_, chosen)| *chosen).map(|((end, _), _)| end);
    let moved: Vec<MovedEnd> = moved.collect();
    moved.iter().for_each(|end| move_end(graph, end));
    prune::renumber_signatures(model);
    moved
}

/// TRANSPOSE nodes of a graph.
pub fn transpose_count(graph: &Subgraph) -> usize {
    graph.nodes.iter().filter(|n| n.op == LiteOp::Transpose).count()
}

fn settle_transposes(graph: &mut Subgraph) {
    fuse::merge_reshapes(graph);
    layout::sink_transposes(graph);
    hoist::hoist_transposes(graph);
    drop_idle_transposes(graph);
    layout::flatten_untransposed(graph);
    layout::transposes_to_reshapes(graph);
    hoist::transposes_into_products(graph);
    prune::remove_unused(graph);
}

/// The ends that have channels to move, and whether they seem to be first of the picture's axes.
fn movable_ends(graph: &Subgraph) -> Vec<(MovedEnd, bool)> {
    let mut ends = vec![];
    for (is_input, list) in [(true, &graph.inputs), (false, &graph.outputs)] {
        for (place, &id) in list.iter().enumerate() {
            let tensor = &graph.tensors[id];
            let rank = tensor.shape.len();
            let listed = graph.inputs.iter().chain(&graph.outputs).filter(|&&t| t == id).count();
            let per_channel =
                !matches!(tensor.quantization, None | Some(Quantization::PerTensor { .. }));
            if !(3..=5).contains(&rank) || listed != 1 || tensor.data.is_some() || per_channel {
                continue;
            }
            let permutation = channels_last(rank);
            let few = |dim: &Dim| matches!(dim, Dim::Known(1 | 3 | 4));
            let are_last = few(&tensor.shape[rank - 1]) && !few(&tensor.shape[1]);
            ends.push((MovedEnd { is_input, place, permutation }, rank > 3 && !are_last));
        }
    }
    ends
}

/// `[0, 2, …, 1]`.
pub fn channels_last(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain(2..rank).chain([1]).collect()
}

fn move_end(graph: &mut Subgraph, end: &MovedEnd) {
    let list = if end.is_input { &graph.inputs } else { &graph.outputs };
    let old = list[end.place];
    let mut moved = graph.tensors[old].clone();
    moved.shape = end.permutation.iter().map(|&p| graph.tensors[old].shape[p].clone()).collect();
    graph.tensors[old].name = free_name(graph, &format!("{}/nchw", moved.name));
    let moved = graph.add_tensor(moved);
    let order = match end.is_input {
        true => layout::inverse(&end.permutation),
        false => end.permutation.clone(),
    };
    let order = Some(layout::permutation_constant(graph, &order));
    let node = |from, to| Node {
        op: LiteOp::Transpose,
        inputs: vec![Some(from), order],
        outputs: vec![to],
    };
    if end.is_input {
        graph.inputs[end.place] = moved;
        graph.nodes.insert(0, node(moved, old));
    } else {
        graph.outputs[end.place] = moved;
        graph.nodes.push(node(old, moved));
    }
}

fn free_name(graph: &Subgraph, wanted: &str) -> String {
    let taken = |name: &str| graph.tensors.iter().any(|t| t.name == name);
    let numbered = (1..).map(|i| format!("{wanted}_{i}"));
    std::iter::once(wanted.to_string()).chain(numbered).find(|n| !taken(n)).unwrap_or_default()
}

/// A TRANSPOSE that moves nothing and makes a graph output goes: what it reads becomes the output.
pub fn drop_idle_transposes(graph: &mut Subgraph) {
    for idle in 0..graph.nodes.len() {
        let node = &graph.nodes[idle];
        let (LiteOp::Transpose, &[output], &[Some(source), Some(order)]) =
            (&node.op, node.outputs.as_slice(), node.inputs.as_slice())
        else {
            continue;
        };
        let order = graph.tensors[order].i32_values();
        let moves_nothing =
            order.is_some_and(|o| o.iter().enumerate().all(|(axis, &p)| axis as i32 == p));
        let is_end = graph.inputs.contains(&source) || graph.outputs.contains(&source);
        let Some(producer) = graph.producer(source) else { continue };
        if !moves_nothing || is_end || !graph.outputs.contains(&output) {
            continue;
        }
        graph.nodes[idle].inputs.clear();
        graph.nodes[idle].outputs.clear();
        let renamed = |t: &mut TensorId| {
            if *t == source {
                *t = output;
            }
        };
        graph.nodes[producer].outputs.iter_mut().for_each(renamed);
        graph.nodes.iter_mut().flat_map(|n| n.inputs.iter_mut().flatten()).for_each(renamed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two pictures `[N, 3, 8, 8]` and a table `[N, 2, 5, 7]`; `op` of the pictures' channels-last forms.
    fn graph(ends: &[&[usize]], nodes: &[(LiteOp, &[usize], usize)]) -> Model {
        let mut graph = Subgraph::default();
        for (i, shape) in ends.iter().enumerate() {
            let mut dims: Vec<Dim> = shape.iter().map(|&d| Dim::Known(d)).collect();
            dims[0] = Dim::Symbol("N".into());
            graph.add_tensor(Tensor::variable(format!("t{i}"), ElementType::F32, dims));
        }
        let last = ends.len() - 1;
        let mut computed = vec![];
        for (op, inputs, output) in nodes {
            let inputs = inputs.iter().map(|&i| Some(i)).collect();
            graph.nodes.push(Node { op: op.clone(), inputs, outputs: vec![*output] });
            computed.push(*output);
        }
        graph.inputs = (0..ends.len()).filter(|i| !computed.contains(i)).collect();
        graph.outputs = vec![last];
        Model { subgraphs: vec![graph], ..Model::default() }
    }

    fn check(model: &mut Model, moved: &[(bool, usize)], transposes: usize) {
        let found = move_channels_last(model);
        let ends: Vec<(bool, usize)> = found.iter().map(|e| (e.is_input, e.place)).collect();
        assert_eq!(ends, moved);
        assert!(found.iter().all(|e| e.permutation == [0, 2, 3, 1]));
        super::super::run(model);
        model.validate().unwrap();
        assert_eq!(transpose_count(model.main()), transposes, "{}", model.main());
    }

    #[test]
    fn pictures_on_both_ends_move_together() {
        let add = LiteOp::Binary { op: BinaryOp::Add, activation: Activation::None };
        let relu = LiteOp::Unary(UnaryOp::Relu);
        let nchw = [2, 3, 8, 9].as_slice();
        let nodes = [(add, [0, 1].as_slice(), 2), (relu, [2].as_slice(), 3)];
        let mut model = graph(&[nchw; 4], &nodes);
        check(&mut model, &[(true, 0), (true, 1), (false, 0)], 0);
        let main = model.main();
        let shape = |t: usize| shape_text(&main.tensors[t].shape);
        assert_eq!(shape(main.inputs[1]), "[N, 8, 9, 3]");
        assert_eq!(shape(main.outputs[0]), "[N, 8, 9, 3]");
        let name = |t: usize| main.tensors[t].name.as_str();
        assert_eq!([name(main.inputs[0]), name(main.outputs[0])], ["t0", "t3"]);
        assert_eq!(main.nodes.len(), 1, "the activation is fused: {main}");
    }

    #[test]
    fn what_would_need_more_transposes_stays() {
        let product = LiteOp::BatchMatMul { transpose_x: false, transpose_y: false };
        let shapes = [[2, 5, 6, 7].as_slice(), &[2, 5, 7, 9], &[2, 5, 6, 9]];
        let mut model = graph(&shapes, &[(product, &[0, 1], 2)]);
        check(&mut model, &[], 0);
    }

    #[test]
    fn channels_that_are_last_already_stay_there() {
        let relu = LiteOp::Unary(UnaryOp::Relu);
        let mut model = graph(&[&[2, 8, 9, 3], &[2, 8, 9, 3]], &[(relu, &[0], 1)]);
        check(&mut model, &[], 0);
    }
}
