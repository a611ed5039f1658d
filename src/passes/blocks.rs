//! Blocks of pixels that become channels, and back: what other formats write as RESHAPE, TRANSPOSE, RESHAPE is one op
//! of TFLite.

use super::layout::{permutation_constant, producers, transposed};
use crate::graph::*;

/// NHWC → NCHW and back.
const TO_CHANNELS_FIRST: [usize; 4] = [0, 3, 1, 2];
const TO_CHANNELS_LAST: [usize; 4] = [0, 2, 3, 1];

/// RESHAPE, TRANSPOSE and RESHAPE that move blocks between channels and pixels, of known size, become DEPTH_TO_SPACE
/// or SPACE_TO_DEPTH; where the channels come first, TRANSPOSEs lie around it.
pub fn moved_blocks_into_one_op(graph: &mut Subgraph) {
    let mut place = 0;
    while place < graph.nodes.len() {
        place += match find(graph, place) {
            Some(found) => replace(graph, place, found),
            None => 1,
        };
    }
}

/// A block that moves: from where, by which op, and whether the channels are axis 1 there.
struct Found {
    source: TensorId,
    op: LiteOp,
    channels_first: bool,
}

fn find(graph: &Subgraph, joining: usize) -> Option<Found> {
    if graph.nodes[joining].op != LiteOp::Reshape {
        return None;
    }
    let producers = producers(graph);
    let last = graph.nodes[joining].inputs.first().copied().flatten()?;
    let (mut order, mut split) = transposed(graph, &producers, last)?;
    while let Some((before, source)) = transposed(graph, &producers, split) {
        order = order.iter().map(|&axis| before.get(axis).copied()).collect::<Option<_>>()?;
        split = source;
    }
    let splitting = &graph.nodes[producers[split]?];
    let source = splitting.inputs.first().copied().flatten()?;
    let result = *graph.nodes[joining].outputs.first()?;
    let element = graph.tensors[source].element;
    let has_kernel = matches!(element, ElementType::F32 | ElementType::I32 | ElementType::I64);
    if splitting.op != LiteOp::Reshape || !has_kernel {
        return None;
    }
    let shape = |tensor: TensorId| -> Option<(Dim, Vec<usize>)> {
        let (batch, rest) = graph.tensors[tensor].shape.split_first()?;
        Some((batch.clone(), rest.iter().map(Dim::known).collect::<Option<_>>()?))
    };
    let ((batch, from), (split_batch, six), (to_batch, to)) =
        (shape(source)?, shape(split)?, shape(result)?);
    let (&[a, b, c], &[p, q, r, s, t]) = (from.as_slice(), six.as_slice()) else { return None };
    if batch != split_batch || batch != to_batch || from.contains(&0) {
        return None;
    }
    // whether channels become pixels, whether they come first, the order, the block, the shape before and after
    let forms = [
        // [b, b, C, H, W] → [C, H, b, W, b]
        (true, true, [0, 3, 4, 1, 5, 2], [p, q], [p * q * r, s, t], [r, s * p, t * q]),
        // [C, H, b, W, b] → [b, b, C, H, W]
        (false, true, [0, 3, 5, 1, 2, 4], [r, t], [p, q * r, s * t], [r * t * p, q, s]),
        // [H, W, b, b, C] → [H, b, W, b, C]
        (true, false, [0, 1, 3, 2, 4, 5], [r, s], [p, q, r * s * t], [p * r, q * s, t]),
        // [H, b, W, b, C] → [H, W, b, b, C]
        (false, false, [0, 1, 3, 2, 4, 5], [q, s], [p * q, r * s, t], [p, r, q * s * t]),
    ];
    let (to_space, channels_first, _, [block, _], ..) =
        forms.into_iter().find(|(_, _, axes, block, before, after)| {
            order == axes
                && block[0] == block[1]
                && block[0] > 1
                && *before == [a, b, c]
                && after == to.as_slice()
        })?;
    let op = match to_space {
        true => LiteOp::DepthToSpace { block },
        false => LiteOp::SpaceToDepth { block },
    };
    Some(Found { source, op, channels_first })
}

/// Puts what was found in place of the last RESHAPE, and says how many nodes that is; what came before it has no
/// reader now, or others.
fn replace(graph: &mut Subgraph, joining: usize, found: Found) -> usize {
    let Found { source, op, channels_first } = found;
    let result = graph.nodes[joining].outputs[0];
    if !channels_first {
        graph.nodes[joining] = Node { op, inputs: vec![Some(source)], outputs: vec![result] };
        return 1;
    }
    let moved = |graph: &mut Subgraph, like: TensorId| {
        let tensor = graph.tensors[like].clone();
        let shape = TO_CHANNELS_LAST.iter().map(|&axis| tensor.shape[axis].clone()).collect();
        let name = format!("{}/nhwc_{}", tensor.name, graph.tensors.len());
        graph.add_tensor(Tensor { name, origin: None, shape, ..tensor })
    };
    let (given, made) = (moved(graph, source), moved(graph, result));
    let [last, first] =
        [TO_CHANNELS_LAST, TO_CHANNELS_FIRST].map(|axes| permutation_constant(graph, &axes));
    let transpose = |from: TensorId, order: TensorId, to: TensorId| Node {
        op: LiteOp::Transpose,
        inputs: vec![Some(from), Some(order)],
        outputs: vec![to],
    };
    let nodes = [
        transpose(source, last, given),
        Node { op, inputs: vec![Some(given)], outputs: vec![made] },
        transpose(made, first, result),
    ];
    let count = nodes.len();
    graph.nodes.splice(joining..=joining, nodes);
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    /// x of `from` → RESHAPE to `split` → TRANSPOSE → RESHAPE to `to`, of any batch; the ops that are left.
    fn ops(from: [usize; 3], split: [usize; 5], order: [usize; 6], to: &[usize]) -> Vec<LiteOp> {
        let mut graph = Subgraph::default();
        let mut tensor = |name: &str, dims: &[usize]| {
            let batch = Dim::Symbol("N".into());
            let shape = [batch].into_iter().chain(dims.iter().map(|&d| Dim::Known(d))).collect();
            graph.add_tensor(Tensor::variable(name, ElementType::F32, shape))
        };
        let moved: Vec<usize> = order[1..].iter().map(|&axis| split[axis - 1]).collect();
        let ids =
            [tensor("x", &from), tensor("split", &split), tensor("moved", &moved), tensor("y", to)];
        let order = permutation_constant(&mut graph, &order);
        let node = |op, inputs: &[TensorId], output| Node {
            op,
            inputs: inputs.iter().map(|&i| Some(i)).collect(),
            outputs: vec![output],
        };
        graph.nodes = vec![
            node(LiteOp::Reshape, &[ids[0]], ids[1]),
            node(LiteOp::Transpose, &[ids[1], order], ids[2]),
            node(LiteOp::Reshape, &[ids[2]], ids[3]),
        ];
        (graph.inputs, graph.outputs) = (vec![ids[0]], vec![ids[3]]);
        moved_blocks_into_one_op(&mut graph);
        crate::passes::prune::remove_unused(&mut graph);
        let model = Model { subgraphs: vec![graph], ..Model::default() };
        model.validate().unwrap();
        model.main().nodes.iter().map(|n| n.op.clone()).collect()
    }

    #[test]
    fn blocks_move_by_one_op() {
        use LiteOp::{DepthToSpace, SpaceToDepth, Transpose};
        let around = |op| vec![Transpose, op, Transpose];
        // ONNX DepthToSpace of mode DCR, block 2: 8 channels of 3 × 5 pixels
        let dcr = ops([8, 3, 5], [2, 2, 2, 3, 5], [0, 3, 4, 1, 5, 2], &[2, 6, 10]);
        assert_eq!(dcr, around(DepthToSpace { block: 2 }));
        let back = ops([2, 6, 10], [2, 3, 2, 5, 2], [0, 3, 5, 1, 2, 4], &[8, 3, 5]);
        assert_eq!(back, around(SpaceToDepth { block: 2 }));
        let nhwc = ops([3, 5, 18], [3, 5, 3, 3, 2], [0, 1, 3, 2, 4, 5], &[9, 15, 2]);
        assert_eq!(nhwc, [DepthToSpace { block: 3 }]);
        let back = ops([9, 15, 2], [3, 3, 5, 3, 2], [0, 1, 3, 2, 4, 5], &[3, 5, 18]);
        assert_eq!(back, [SpaceToDepth { block: 3 }]);
    }

    #[test]
    fn other_moves_stay() {
        // mode CRD
        assert_eq!(ops([8, 3, 5], [2, 2, 2, 3, 5], [0, 1, 4, 2, 5, 3], &[2, 6, 10]).len(), 3);
        // blocks that are not square
        assert_eq!(ops([6, 3, 5], [2, 3, 1, 3, 5], [0, 3, 4, 1, 5, 2], &[1, 6, 15]).len(), 3);
        // windows: pixels stay pixels
        assert_eq!(ops([4, 6, 3], [2, 2, 3, 2, 3], [0, 1, 3, 2, 4, 5], &[4, 6, 3]).len(), 3);
        // the result is reshaped otherwise
        assert_eq!(ops([8, 3, 5], [2, 2, 2, 3, 5], [0, 3, 4, 1, 5, 2], &[2, 10, 6]).len(), 3);
    }
}
