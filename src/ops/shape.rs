//! Ops that move or rename axes and leave the values alone: RESHAPE, TRANSPOSE.

use super::*;
use crate::tract::ops::array::MultiBroadcastTo;
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(op) = node.op_as::<AxisOp>() else {
        if node.op_is::<MultiBroadcastTo>() {
            bail!("an explicit broadcast");
        }
        return Ok(None);
    };
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
            let target = ctx.i32_input(node, 1)?;
            ensure!(target.iter().all(|&d| d >= -1), "'{name}': cannot reshape to {target:?}");
            let target: Vec<TDim> = target.into_iter().map(TDim::from).collect();
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
        other => bail!("{} does not move axes", other.name()),
    }
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(match op.builtin {
        BuiltinOperator::RESHAPE => Some(LiteOp::Reshape),
        BuiltinOperator::TRANSPOSE => Some(LiteOp::Transpose),
        _ => None,
    })
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
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
                0..=4 => 1,
                5 => 4,
                6 => 6,
                _ => 8,
            };
            TfliteOp::new(BuiltinOperator::TRANSPOSE, version, BuiltinOptions::Transpose)
        }
        other => bail!("{} does not move axes", other.name()),
    })
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    if node.op == LiteOp::Reshape {
        return super::reshape_passage::permute(graph, node, permutation);
    }
    None
}
