//! Ops that grow a tensor at its borders: PAD, PADV2, MIRROR_PAD.

use super::compose::{constant_i32, i32_like, passage};
use super::*;
use crate::format::tflite::{MirrorPadMode, MirrorPadOptions};
use crate::graph::MirrorMode;
use crate::tract::ops::array::{Pad, PadMode};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(op) = node.op_as::<Pad>() else { return Ok(None) };
    let rank = op.pads.len();
    let element = ctx.element(node.inputs[0])?;
    if op.mode == PadMode::Edge {
        return repeat_edges(ctx, node, op).map(Some);
    }
    ensure!(rank <= 5, refusal::too_deep("padding", rank, 5));
    let input = ctx.tensor(node.inputs[0])?;
    let rows: Vec<i32> = op
        .pads
        .iter()
        .flat_map(|&(before, after)| [before, after])
        .map(|n| Ok(i32::try_from(n)?))
        .collect::<Result<_>>()?;
    let paddings = ctx.add_i32_tensor(&format!("{}/paddings", node.name), &[rank, 2], &rows);
    match &op.mode {
        PadMode::Constant(value) => {
            let value = value.cast_to_dt(datum_type(element)?)?.into_owned().into_shape(&[])?;
            let mut inputs = vec![input, paddings];
            if !value.is_all_zero()? {
                inputs.push(ctx.add_constant(&format!("{}/value", node.name), &value)?);
            }
            ctx.emit_result(node, LiteOp::Pad, &inputs).map(Some)
        }
        PadMode::Reflect => {
            let op = LiteOp::MirrorPad { mode: MirrorMode::Reflect };
            ctx.emit_result(node, op, &[input, paddings]).map(Some)
        }
        PadMode::Edge => bail!("an edge padding that was lowered already"),
    }
}

/// Edges are gathered again for each place of the border.
fn repeat_edges(ctx: &mut LowerContext, node: &TypedNode, op: &Pad) -> Result<()> {
    let mut shape = ctx.shape(node.inputs[0])?;
    let mut tensor = ctx.tensor(node.inputs[0])?;
    for (axis, &(before, after)) in op.pads.iter().enumerate() {
        if before + after == 0 {
            continue;
        }
        let len = shape[axis].to_usize();
        let len =
            len.map_err(|_| refusal::unknown_size("edge padding of an axis of unknown size"))?;
        ensure!(len > 0, "edge padding of an empty axis; it has no edge to repeat");
        let inside = std::iter::repeat_n(0, before).chain(0..len);
        let places: Vec<usize> = inside.chain(std::iter::repeat_n(len - 1, after)).collect();
        tensor = ctx.gather_places(&node.name, tensor, &mut shape, axis, &places)?;
    }
    ctx.bind(node, tensor);
    Ok(())
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let mut x = ctx.input(node, 0)?;
    let shape = ctx.shape(x)?;
    // tract pads numbers alone
    let of_bools = ctx.model.outlet_fact(x)?.datum_type == DatumType::Bool;
    if of_bools {
        x = ctx.cast(&format!("{name}/numbers"), x, DatumType::U8)?;
    }
    let rows: Vec<usize> = ctx
        .i32_input(node, 1)?
        .into_iter()
        .map(|n| usize::try_from(n).with_context(|| format!("'{name}': a padding of {n}")))
        .collect::<Result<_>>()?;
    let pads: Vec<(usize, usize)> = rows.chunks_exact(2).map(|p| (p[0], p[1])).collect();
    ensure!(pads.len() == shape.len(), "'{name}': paddings for rank {}", pads.len());
    let wire = match &node.op {
        LiteOp::Pad => {
            let value = match ctx.has_input(node, 2) {
                false => {
                    match node.inputs[0].and_then(|x| quantized::zero_of(&ctx.graph.tensors[x])) {
                        Some(zero) => zero?.into_arc_tensor(),
                        None => tract::tensor0(0f32).into_arc_tensor(),
                    }
                }
                true => {
                    let outlet = ctx.input(node, 2)?;
                    let value = ctx.model.outlet_fact(outlet)?.konst.clone();
                    let value = value.with_context(|| format!("'{name}': a computed value"))?;
                    ensure!(value.len() == 1, "'{name}': a value of {} elements", value.len());
                    let value = value.as_ref().clone().into_shape(&[])?;
                    match of_bools {
                        true => value.cast_to_dt(DatumType::U8)?.into_owned().into_arc_tensor(),
                        false => value.into_arc_tensor(),
                    }
                }
            };
            ctx.wire(name, Pad::new(pads, PadMode::Constant(value)), &[x])?
        }
        LiteOp::MirrorPad { mode: MirrorMode::Reflect } => {
            ctx.wire(name, Pad::new(pads, PadMode::Reflect), &[x])?
        }
        LiteOp::MirrorPad { mode: MirrorMode::Symmetric } => {
            let mut wire = x;
            for (axis, (before, after)) in pads.into_iter().enumerate() {
                if before + after == 0 {
                    continue;
                }
                let len = shape[axis].to_usize().with_context(|| format!("'{name}'"))?;
                ensure!(before <= len && after <= len, "'{name}': padding over {len}");
                let places = (0..before).rev().chain(0..len).chain((len - after..len).rev());
                let places: Vec<i64> = places.map(|p| p as i64).collect();
                wire = super::slice::wire_places(ctx, name, wire, axis, &places)?;
            }
            wire
        }
        other => bail!("{} does not pad", other.name()),
    };
    let wire = if of_bools { ctx.cast(name, wire, DatumType::Bool)? } else { wire };
    ctx.finish(node, wire)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(match (op.builtin, &op.options) {
        (BuiltinOperator::PAD | BuiltinOperator::PADV2, _) => Some(LiteOp::Pad),
        (BuiltinOperator::MIRROR_PAD, BuiltinOptions::MirrorPad(o)) => {
            let mode = match o.mode {
                MirrorPadMode::Reflect => MirrorMode::Reflect,
                MirrorPadMode::Symmetric => MirrorMode::Symmetric,
            };
            Some(LiteOp::MirrorPad { mode })
        }
        _ => None,
    })
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    use ElementType::{I8, I16};
    let element = input_element(graph, node, 0);
    let input = node.inputs.first().copied().flatten();
    let version = match input.map_or(0, |t| graph.tensors[t].shape.len()) {
        5.. if node.op == LiteOp::Pad => 4,
        _ => version_of(element, &[(I16, 3), (I8, 2)]),
    };
    Ok(match &node.op {
        LiteOp::Pad if node.inputs.len() > 2 => {
            TfliteOp::new(BuiltinOperator::PADV2, version, BuiltinOptions::PadV2)
        }
        LiteOp::Pad => TfliteOp::new(BuiltinOperator::PAD, version, BuiltinOptions::Pad),
        LiteOp::MirrorPad { mode } => {
            let mode = match mode {
                MirrorMode::Reflect => MirrorPadMode::Reflect,
                MirrorMode::Symmetric => MirrorPadMode::Symmetric,
            };
            let options = BuiltinOptions::MirrorPad(MirrorPadOptions { mode });
            TfliteOp::new(BuiltinOperator::MIRROR_PAD, version, options)
        }
        other => bail!("{} does not pad", other.name()),
    })
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    let rows = constant_i32(graph, node, 1)?;
    let mut moved = rows.clone();
    if rows.len() != 2 * permutation.len() {
        return None;
    }
    for (axis, &p) in permutation.iter().enumerate() {
        moved[2 * p..2 * p + 2].copy_from_slice(&rows[2 * axis..2 * axis + 2]);
    }
    let rows = i32_like(graph, node, 1, &moved)?;
    Some(passage(node.op.clone(), vec![(1, rows)], node, permutation))
}
