//! Ops that move, rename and repeat axes and leave the values alone: RESHAPE, TRANSPOSE, SQUEEZE,
//! EXPAND_DIMS, BROADCAST_TO, TILE; and SHAPE.

use super::compose::{constant_i32, i32_like, moved, passage};
use super::*;
use crate::format::tflite::{ShapeOptions, SqueezeOptions};
use crate::tract::ops::array::{MultiBroadcastTo, Tile};
use crate::tract::ops::identity::Identity;
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if node.op_is::<Identity>() {
        let input = ctx.tensor(node.inputs[0])?;
        ctx.bind(node, input);
        return Ok(Some(()));
    }
    if node.op_is::<MultiBroadcastTo>() {
        let to = ctx.shape(OutletId::new(node.id, 0))?;
        ensure!(to.len() <= 8, refusal::too_deep("a broadcast", to.len(), 8));
        let input = ctx.tensor(node.inputs[0])?;
        let target = ctx.shape_tensor(&format!("{}/shape", node.name), &to)?;
        return ctx.emit_result(node, LiteOp::BroadcastTo, &[input, target]).map(Some);
    }
    if let Some(op) = node.op_as::<Tile>() {
        let input = ctx.tensor(node.inputs[0])?;
        let repeats = ctx.shape_tensor(&format!("{}/repeats", node.name), &op.multipliers)?;
        return ctx.emit_result(node, LiteOp::Tile, &[input, repeats]).map(Some);
    }
    let Some(op) = node.op_as::<AxisOp>() else { return Ok(None) };
    let input = ctx.tensor(node.inputs[0])?;
    let from = ctx.shape(node.inputs[0])?;
    let to = ctx.shape(OutletId::new(node.id, 0))?;
    let result = match op {
        AxisOp::Move(source, target) => {
            let mut order: Vec<usize> = (0..from.len()).collect();
            let axis = order.remove(*source);
            order.insert(*target, axis);
            ctx.transpose(&node.name, input, &from, &order)
        }
        // a RESHAPE of several unknown sizes has to compute its target
        AxisOp::Add(axis) if reshape_target(&to).is_err() => {
            let name = format!("{}/axis", node.name);
            let axis = ctx.add_i32_tensor(&name, &[], &[i32::try_from(*axis)?]);
            return ctx.emit_result(node, LiteOp::ExpandDims, &[input, axis]).map(Some);
        }
        AxisOp::Rm(axis) if reshape_target(&to).is_err() => {
            let op = LiteOp::Squeeze { axes: vec![i32::try_from(*axis)?] };
            return ctx.emit_result(node, op, &[input]).map(Some);
        }
        AxisOp::Add(_) | AxisOp::Rm(_) | AxisOp::Reshape(..) => {
            ctx.reshape(&node.name, input, &from, &to)?
        }
    };
    ctx.bind(node, result);
    Ok(Some(()))
}

/// `x` as `target`, where one dimension may be −1.
pub fn wire_reshape(
    ctx: &mut RaiseContext,
    name: &str,
    x: OutletId,
    target: &[TDim],
) -> Result<OutletId> {
    let from = ctx.shape(x)?;
    let axis_ops = tract::to_axis_ops_with_tf_rules(&from, target)
        .with_context(|| format!("'{name}': cannot reshape {from:?} to {target:?}"))?;
    let mut wire = x;
    for op in axis_ops {
        wire = ctx.wire(&format!("{name}/reshape"), op, &[wire])?;
    }
    Ok(wire)
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    match &node.op {
        LiteOp::Reshape => {
            let target = ctx.dims_input(node, 1)?;
            let valid =
                target.iter().all(|d| d.to_i64().is_ok_and(|d| d >= -1) || d.to_i64().is_err());
            ensure!(valid, "'{name}': cannot reshape to {target:?}");
            let wire = wire_reshape(ctx, name, x, &target)?;
            ctx.finish(node, wire)
        }
        LiteOp::Transpose => {
            let order = ctx.i32_input(node, 1)?;
            let rank = ctx.shape(x)?.len();
            let mut wanted: Vec<usize> = vec![];
            for axis in order.iter().map(|&a| if a < 0 { a + rank as i32 } else { a }) {
                let axis = usize::try_from(axis).ok().filter(|a| *a < rank && !wanted.contains(a));
                wanted.push(axis.with_context(|| format!("'{name}': no permutation: {order:?}"))?);
            }
            ensure!(wanted.len() == rank, "'{name}': permutation {order:?} of rank {rank}");
            let mut now: Vec<usize> = (0..rank).collect();
            let mut wire = x;
            for (target, axis) in wanted.iter().enumerate() {
                let source = now.iter().position(|a| a == axis).unwrap_or(target);
                if source != target {
                    let moved = now.remove(source);
                    now.insert(target, moved);
                    wire =
                        ctx.wire(&format!("{name}/move"), AxisOp::Move(source, target), &[wire])?;
                }
            }
            ctx.finish(node, wire)
        }
        LiteOp::Squeeze { axes } => {
            let shape = ctx.shape(x)?;
            let mut gone = vec![];
            for &axis in axes {
                let axis = ctx.axis(node, axis, shape.len())?;
                if !gone.contains(&axis) {
                    gone.push(axis);
                }
            }
            if axes.is_empty() {
                gone.extend((0..shape.len()).filter(|&a| shape[a] == TDim::from(1)));
            }
            gone.sort();
            let mut wire = x;
            for axis in gone.into_iter().rev() {
                wire = ctx.wire(&format!("{name}/squeeze"), AxisOp::Rm(axis), &[wire])?;
            }
            ctx.finish(node, wire)
        }
        LiteOp::ExpandDims => {
            let rank = ctx.shape(x)?.len();
            let axis = ctx.axis_input(node, 1, rank + 1)?;
            let wire = ctx.wire(name, AxisOp::Add(axis), &[x])?;
            ctx.finish(node, wire)
        }
        LiteOp::Shape { element } => {
            let dims = ctx.shape(x)?;
            let known: Option<Vec<i64>> = dims.iter().map(|d| d.to_i64().ok()).collect();
            let value = match known {
                Some(dims) => tract::tensor1(&dims).cast_to_dt(datum_type(*element)?)?.into_owned(),
                None => tract::tensor1(&dims),
            };
            let wire = ctx.add_constant(name, value.into_arc_tensor())?;
            ctx.finish(node, wire)
        }
        LiteOp::BroadcastTo => {
            let shape = ctx.dims_input(node, 1)?;
            let mut wire = x;
            while ctx.shape(wire)?.len() < shape.len() {
                wire = ctx.wire(&format!("{name}/rank"), AxisOp::Add(0), &[wire])?;
            }
            let op = MultiBroadcastTo { shape: shape.into_iter().collect() };
            let wire = ctx.wire(name, op, &[wire])?;
            ctx.finish(node, wire)
        }
        LiteOp::Tile => {
            let multipliers = ctx.dims_input(node, 1)?;
            let rank = ctx.shape(x)?.len();
            ensure!(multipliers.len() == rank, "'{name}': {} repeats", multipliers.len());
            let op = Tile { multipliers: multipliers.into_iter().collect() };
            let wire = ctx.wire(name, op, &[x])?;
            ctx.finish(node, wire)
        }
        other => bail!("{} does not move axes", other.name()),
    }
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(Some(match (op.builtin, &op.options) {
        (BuiltinOperator::RESHAPE, _) => LiteOp::Reshape,
        (BuiltinOperator::TRANSPOSE, _) => LiteOp::Transpose,
        (BuiltinOperator::SQUEEZE, BuiltinOptions::Squeeze(o)) => {
            LiteOp::Squeeze { axes: o.squeeze_dims.clone() }
        }
        (BuiltinOperator::SQUEEZE, _) => LiteOp::Squeeze { axes: vec![] },
        (BuiltinOperator::EXPAND_DIMS, _) => LiteOp::ExpandDims,
        (BuiltinOperator::SHAPE, BuiltinOptions::Shape(o)) => match o.out_type {
            TensorType::Int64 => LiteOp::Shape { element: ElementType::I64 },
            TensorType::Int32 => LiteOp::Shape { element: ElementType::I32 },
            other => bail!("a shape of type {}", other.name()),
        },
        (BuiltinOperator::BROADCAST_TO, _) => LiteOp::BroadcastTo,
        (BuiltinOperator::TILE, _) => LiteOp::Tile,
        _ => return Ok(None),
    }))
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    use ElementType::{Bool, I8, I16};
    let element = input_element(graph, node, 0);
    Ok(match &node.op {
        LiteOp::Reshape => {
            let target = node.inputs.get(1).copied().flatten();
            let new_shape = target.and_then(|t| graph.tensors[t].i32_values());
            TfliteOp::new(
                BuiltinOperator::RESHAPE,
                1,
                BuiltinOptions::Reshape(crate::format::tflite::ReshapeOptions {
                    new_shape: new_shape.unwrap_or_default(),
                }),
            )
        }
        LiteOp::Transpose => {
            let input = node.inputs.first().copied().flatten();
            let version = match input.map_or(0, |t| graph.tensors[t].shape.len()) {
                0..=4 => version_of(element, &[(Bool, 3), (I16, 5), (I8, 2)]),
                5 => version_of(element, &[(I16, 5)]).max(4),
                6 => 6,
                _ => 8,
            };
            TfliteOp::new(BuiltinOperator::TRANSPOSE, version, BuiltinOptions::Transpose)
        }
        LiteOp::Squeeze { axes } => {
            let options = BuiltinOptions::Squeeze(SqueezeOptions { squeeze_dims: axes.clone() });
            TfliteOp::new(BuiltinOperator::SQUEEZE, 1, options)
        }
        LiteOp::ExpandDims => {
            TfliteOp::new(BuiltinOperator::EXPAND_DIMS, 1, BuiltinOptions::ExpandDims)
        }
        LiteOp::Shape { element } => {
            let options = BuiltinOptions::Shape(ShapeOptions { out_type: tensor_type(*element) });
            TfliteOp::new(BuiltinOperator::SHAPE, 1, options)
        }
        LiteOp::BroadcastTo => {
            let version = version_of(element, &[(I8, 3), (I16, 3)]).max(2);
            TfliteOp::new(BuiltinOperator::BROADCAST_TO, version, BuiltinOptions::BroadcastTo)
        }
        LiteOp::Tile => {
            let version = version_of(element, &[(I8, 3)]);
            TfliteOp::new(BuiltinOperator::TILE, version, BuiltinOptions::Tile)
        }
        other => bail!("{} does not move axes", other.name()),
    })
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    if node.op == LiteOp::Reshape {
        return super::reshape_passage::permute(graph, node, permutation);
    }
    if !matches!(node.op, LiteOp::BroadcastTo | LiteOp::Tile) {
        return None;
    }
    let values = moved(&constant_i32(graph, node, 1)?, permutation)?;
    let constant = i32_like(graph, node, 1, &values)?;
    Some(passage(node.op.clone(), vec![(1, constant)], node, permutation))
}
