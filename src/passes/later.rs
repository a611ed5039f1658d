//! What a product can take in from before it: scales and shifts by constants go into its weights, and it
//! flattens its input itself.

use super::{earlier, fuse};
use crate::graph::*;
use bytes::Bytes;

/// FULLY_CONNECTED that makes rows of its input reads what a RESHAPE made such rows of.
pub fn reshapes_into_readers(graph: &mut Subgraph) {
    for product in 0..graph.nodes.len() {
        if let Some(source) = flattened_source(graph, product) {
            graph.nodes[product].inputs[0] = Some(source);
        }
    }
}

fn flattened_source(graph: &Subgraph, product: usize) -> Option<TensorId> {
    let node = &graph.nodes[product];
    let LiteOp::FullyConnected { keep_num_dims: false, .. } = node.op else { return None };
    let rows = node.inputs.first().copied().flatten()?;
    let reshape = &graph.nodes[graph.producer(rows)?];
    let source = reshape.inputs.first().copied().flatten()?;
    let [.., columns @ Dim::Known(_)] = graph.tensors[source].shape.as_slice() else { return None };
    let is_rows = matches!(graph.tensors[rows].shape.as_slice(), [_, last] if last == columns);
    (reshape.op == LiteOp::Reshape && is_rows).then_some(source)
}

/// ADD, SUB, MUL and DIV of a constant go into every FULLY_CONNECTED that reads the result, where all its
/// readers are such: the last ops of a normalization before projections.
pub fn constants_into_readers(graph: &mut Subgraph) {
    // backwards: a shift stands between a scale and the products
    for binary in (0..graph.nodes.len()).rev() {
        fold_into_readers(graph, binary);
    }
}

fn fold_into_readers(graph: &mut Subgraph, binary: usize) -> Option<()> {
    let (source, constant) = earlier::constant_operand(graph, binary)?;
    let node = &graph.nodes[binary];
    let LiteOp::Binary { op, .. } = node.op else { return None };
    let is_left = node.inputs.first() == Some(&Some(source));
    let &[result] = node.outputs.as_slice() else { return None };
    let shape = &graph.tensors[result].shape;
    let columns = shape.last()?.known().filter(|&n| n > 0)?;
    if graph.outputs.contains(&result) || *shape != graph.tensors[source].shape {
        return None;
    }
    let operand = fuse::channel_values(graph, constant, columns, shape.len())?;
    let (scale, shift): (Vec<f32>, Vec<f32>) = operand
        .iter()
        .map(|&v| match op {
            BinaryOp::Mul => Some((v, 0.0)),
            BinaryOp::Div if is_left => Some((1.0 / v, 0.0)),
            BinaryOp::Add => Some((1.0, v)),
            BinaryOp::Sub if is_left => Some((1.0, -v)),
            BinaryOp::Sub => Some((-1.0, v)),
            _ => None,
        })
        .collect::<Option<_>>()?;

    let mut folded = vec![];
    for (reader, node) in graph.nodes.iter().enumerate() {
        if !node.inputs.contains(&Some(result)) {
            continue;
        }
        let rest = node.inputs.get(1..)?;
        let LiteOp::FullyConnected { .. } = node.op else { return None };
        if rest.contains(&Some(result)) || rest.len() > 2 {
            return None;
        }
        let weights = &graph.tensors[rest.first().copied().flatten()?];
        if weights.shape.get(1) != Some(&Dim::Known(columns)) || weights.shape.len() != 2 {
            return None;
        }
        let bias = rest.get(1).copied().flatten().map(|t| &graph.tensors[t]);
        folded.push((reader, affine_folded(weights, bias, &scale, &shift)?));
    }
    if folded.is_empty() {
        return None;
    }
    let name = graph.tensors[result].name.clone();
    for (reader, (weights, bias)) in folded {
        let weights = graph.add_tensor(weights);
        let rows = graph.tensors[weights].shape[0].known()?;
        let bias = Tensor::constant(format!("{name}/bias"), ElementType::F32, &[rows], bias);
        let bias = graph.add_tensor(bias);
        graph.nodes[reader].inputs = vec![Some(source), Some(weights), Some(bias)];
    }
    graph.nodes[binary].inputs.clear();
    graph.nodes[binary].outputs.clear();
    Some(())
}

/// Weights W and bias b of `W·x + b` for `W·(scale·x + shift) + b`.
fn affine_folded(
    weights: &Tensor,
    bias: Option<&Tensor>,
    scale: &[f32],
    shift: &[f32],
) -> Option<(Tensor, Bytes)> {
    let rows = weights.shape.first()?.known()?;
    let mut sums: Vec<f64> = match bias {
        Some(bias) => bias.f32_values()?.into_iter().map(f64::from).collect(),
        None => vec![0.0; rows],
    };
    let values = weights.f32_values()?;
    if sums.len() != rows || values.len() != rows.checked_mul(scale.len())? {
        return None;
    }
    for (row, sum) in values.chunks(scale.len()).zip(&mut sums) {
        let shifts = row.iter().zip(shift).map(|(&w, &v)| f64::from(w) * f64::from(v));
        *sum += shifts.sum::<f64>();
    }
    let scaled: Vec<f32> =
        values.iter().zip(scale.iter().cycle()).map(|(&w, &factor)| w * factor).collect();
    let sums: Vec<f32> = sums.into_iter().map(|v| v as f32).collect();
    if !scaled.iter().chain(&sums).all(|v| v.is_finite()) {
        return None;
    }
    let bytes = |values: &[f32]| -> Bytes {
        values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
    };
    let data = match scale.iter().all(|&factor| factor == 1.0) {
        true => weights.data.clone(),
        false => Some(bytes(&scaled)),
    };
    Some((Tensor { data, ..weights.clone() }, bytes(&sums)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::passes::prune;

    fn constant(graph: &mut Subgraph, shape: &[usize], values: &[f32]) -> TensorId {
        let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        graph.add_tensor(Tensor::constant("c", ElementType::F32, shape, data.into()))
    }

    fn node(graph: &mut Subgraph, op: LiteOp, inputs: &[TensorId]) -> TensorId {
        let shape = vec![Dim::Symbol("N".into()), Dim::Known(2)];
        let result = graph.add_tensor(Tensor::variable("t", ElementType::F32, shape));
        let inputs = inputs.iter().map(|&t| Some(t)).collect();
        graph.nodes.push(Node { op, inputs, outputs: vec![result] });
        result
    }

    fn binary(graph: &mut Subgraph, op: BinaryOp, inputs: &[TensorId]) -> TensorId {
        node(graph, LiteOp::Binary { op, activation: Activation::None }, inputs)
    }

    /// `x·[3, 5] + [1, −2]`, read by a product with weights [[1, 2], [3, 4]].
    fn graph() -> (Subgraph, TensorId) {
        let mut graph = Subgraph::default();
        let shape = vec![Dim::Symbol("N".into()), Dim::Known(2)];
        let x = graph.add_tensor(Tensor::variable("x", ElementType::F32, shape));
        graph.inputs.push(x);
        let gain = constant(&mut graph, &[2], &[3.0, 5.0]);
        let shift = constant(&mut graph, &[1, 2], &[1.0, -2.0]);
        let scaled = binary(&mut graph, BinaryOp::Mul, &[x, gain]);
        let shifted = binary(&mut graph, BinaryOp::Add, &[shift, scaled]);
        let weights = constant(&mut graph, &[2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let op = LiteOp::FullyConnected {
            activation: Activation::Relu,
            keep_num_dims: true,
            asymmetric_quantize_inputs: false,
        };
        let result = node(&mut graph, op, &[shifted, weights]);
        graph.outputs.push(result);
        (graph, shifted)
    }

    #[test]
    fn gain_and_shift_go_into_weights_and_bias() {
        let (mut graph, _) = graph();
        constants_into_readers(&mut graph);
        prune::remove_unused(&mut graph);
        let [product] = graph.nodes.as_slice() else { panic!("{graph}") };
        let values = |place: usize| graph.tensors[product.inputs[place].unwrap()].f32_values();
        assert_eq!(values(1).unwrap(), [3.0, 10.0, 9.0, 20.0]);
        assert_eq!(values(2).unwrap(), [1.0 - 4.0, 3.0 - 8.0]);
    }

    #[test]
    fn rows_are_made_by_the_product() {
        for (shape, stays) in [([1, 1, 2], false), ([3, 3, 2], false), ([1, 2, 1], true)] {
            let (mut graph, rows) = graph();
            let shape = [Dim::Symbol("N".into())].into_iter().chain(shape.map(Dim::Known));
            let map = Tensor::variable("map", ElementType::F32, shape.collect());
            let map = graph.add_tensor(map);
            graph.inputs = vec![map];
            let data = [-1i32, 2].iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>();
            let target = Tensor::constant("s", ElementType::I32, &[2], data.into());
            let target = graph.add_tensor(target);
            graph.nodes[1].op = LiteOp::Reshape;
            graph.nodes[1].inputs = vec![Some(map), Some(target)];
            if let LiteOp::FullyConnected { keep_num_dims, .. } = &mut graph.nodes[2].op {
                *keep_num_dims = false;
            }
            reshapes_into_readers(&mut graph);
            assert_eq!(graph.nodes[2].inputs[0], Some(if stays { rows } else { map }));
        }
    }

    #[test]
    fn what_others_read_too_stays() {
        let (mut graph, shifted) = graph();
        let other = node(&mut graph, LiteOp::Unary(UnaryOp::Exp), &[shifted]);
        graph.outputs.push(other);
        constants_into_readers(&mut graph);
        assert_eq!(graph.nodes[2].inputs[0], Some(shifted));
        assert_eq!(graph.nodes[1].outputs, [shifted]);
    }

    #[test]
    fn weights_that_would_overflow_stay() {
        let (mut graph, shifted) = graph();
        let huge = constant(&mut graph, &[2], &[1.0, f32::MAX]);
        graph.nodes[0].inputs[1] = Some(huge);
        constants_into_readers(&mut graph);
        let product = &graph.nodes[2];
        assert_ne!(product.inputs[0], Some(shifted), "the shift went");
        assert_eq!(graph.nodes[0].inputs[1], Some(huge), "the gain stayed");
        assert_eq!(product.inputs[0], graph.nodes[0].outputs.first().copied());
    }
}
