//! Ops that cut, join and pad along axes: CONCATENATION, PACK, UNPACK, SPLIT, SLICE, STRIDED_SLICE, PAD, MIRROR_PAD, REVERSE_V2.

use super::*;
use crate::format::tflite::ConcatenationOptions;
use crate::graph::Activation;
use crate::tract::ops::array::{Pad, PadMode, Slice, TypedConcat};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<TypedConcat>() {
        let element = ctx.element(node.inputs[0])?;
        ensure!(element == ElementType::F32, "CONCATENATION of {element}");
        let inputs = node.inputs.iter().map(|&i| ctx.tensor(i)).collect::<Result<Vec<_>>>()?;
        let axis = i32::try_from(op.axis)?;
        let lite = LiteOp::Concatenation { axis, activation: Activation::None };
        return ctx.emit_result(node, lite, &inputs).map(Some);
    }
    if let Some(op) = node.op_as::<Pad>() {
        let PadMode::Constant(value) = &op.mode else { return Ok(None) };
        let element = ctx.element(node.inputs[0])?;
        ensure!(element == ElementType::F32, "PAD of {element}");
        let mut paddings = vec![];
        for &(before, after) in &op.pads {
            paddings.extend([i32::try_from(before)?, i32::try_from(after)?]);
        }
        let paddings = tract::Tensor::from_shape(&[op.pads.len(), 2], &paddings)?;
        let name = format!("{}/paddings", node.name);
        let mut inputs = vec![ctx.tensor(node.inputs[0])?, ctx.add_constant(&name, &paddings)?];
        let value = value.cast_to_scalar::<f32>()?;
        if value != 0.0 {
            let name = format!("{}/value", node.name);
            inputs.push(ctx.add_constant(&name, &tract::tensor0(value))?);
        }
        return ctx.emit_result(node, LiteOp::Pad, &inputs).map(Some);
    }
    if let Some(op) = node.op_as::<Slice>() {
        let (Ok(start), Ok(end)) = (op.start.to_i64(), op.end.to_i64()) else { return Ok(None) };
        let element = ctx.element(node.inputs[0])?;
        ensure!(element == ElementType::F32, "SLICE of {element}");
        let rank = ctx.shape(node.inputs[0])?.len();
        let (mut begin, mut size) = (vec![0; rank], vec![-1; rank]);
        ensure!(op.axis < rank && start >= 0 && end >= start, "a slice from {start} to {end}");
        begin[op.axis] = i32::try_from(start)?;
        size[op.axis] = i32::try_from(end - start)?;
        let begin = ctx.add_i32_constant(&format!("{}/begin", node.name), &begin);
        let size = ctx.add_i32_constant(&format!("{}/size", node.name), &size);
        let input = ctx.tensor(node.inputs[0])?;
        return ctx.emit_result(node, LiteOp::Slice, &[input, begin, size]).map(Some);
    }
    Ok(None)
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    match &node.op {
        LiteOp::Concatenation { axis, activation } => {
            let mut inputs = vec![];
            for place in 0..node.inputs.len() {
                inputs.push(ctx.input(node, place)?);
            }
            let first = inputs.first().with_context(|| format!("'{name}' joins nothing"))?;
            let rank = ctx.shape(*first)?.len();
            let positive = if *axis < 0 { *axis as i64 + rank as i64 } else { *axis as i64 };
            let axis = usize::try_from(positive).ok().filter(|&a| a < rank);
            let axis = axis.with_context(|| format!("'{name}': an axis outside rank {rank}"))?;
            let wire = ctx.wire(name, TypedConcat { axis }, &inputs)?;
            let wire = super::activation::wire_fused(ctx, name, *activation, wire)?;
            ctx.finish(node, wire)
        }
        LiteOp::Pad => {
            let x = ctx.input(node, 0)?;
            let rank = ctx.shape(x)?.len();
            let mut pads = vec![];
            for pair in ctx.i32_input(node, 1)?.chunks_exact(2) {
                pads.push((usize::try_from(pair[0])?, usize::try_from(pair[1])?));
            }
            ensure!(pads.len() == rank, "'{name}': paddings of {} axes for {rank}", pads.len());
            let dt = ctx.model.outlet_fact(x)?.datum_type;
            let value = match ctx.has_input(node, 2) {
                false => tract::Tensor::zero_scalar_dt(dt)?,
                true => {
                    let value = ctx.input(node, 2)?;
                    let value = ctx.model.outlet_fact(value)?.konst.clone();
                    let value = value.filter(|v| v.len() == 1 && v.datum_type() == dt);
                    let value =
                        value.with_context(|| format!("'{name}': no constant to pad with"))?;
                    tract::Tensor::clone(&value).into_shape(&[])?
                }
            };
            let mode = PadMode::Constant(value.into_arc_tensor());
            let wire = ctx.wire(name, Pad::new(pads, mode), &[x])?;
            ctx.finish(node, wire)
        }
        LiteOp::Slice => {
            let mut wire = ctx.input(node, 0)?;
            let shape = ctx.shape(wire)?;
            let (begin, size) = (ctx.i32_input(node, 1)?, ctx.i32_input(node, 2)?);
            ensure!(
                begin.len() == shape.len() && size.len() == shape.len(),
                "'{name}': a slice of {} axes for {}",
                begin.len(),
                shape.len()
            );
            for (axis, (&begin, &size)) in begin.iter().zip(&size).enumerate() {
                ensure!(begin >= 0 && size >= -1, "'{name}': {size} elements from {begin}");
                let whole = begin == 0 && (size == -1 || shape[axis] == TDim::from(size));
                if whole {
                    continue;
                }
                let end = match size {
                    -1 => shape[axis].clone(),
                    _ => TDim::from(begin as i64 + size as i64),
                };
                if let Ok(length) = shape[axis].to_i64() {
                    let end = end.to_i64()?;
                    ensure!(
                        end <= length && begin as i64 <= end,
                        "'{name}': elements {begin} to {end} of {length}"
                    );
                }
                let op = Slice::new(axis, begin as usize, end);
                wire = ctx.wire(&format!("{name}/slice"), op, &[wire])?;
            }
            ctx.finish(node, wire)
        }
        other => bail!("{} cannot be computed yet", other.name()),
    }
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(match (&op.options, op.builtin) {
        (BuiltinOptions::Concatenation(o), _) => Some(LiteOp::Concatenation {
            axis: o.axis,
            activation: super::activation::read_fused(o.fused_activation_function),
        }),
        (_, BuiltinOperator::PAD | BuiltinOperator::PADV2) => Some(LiteOp::Pad),
        (_, BuiltinOperator::SLICE) => Some(LiteOp::Slice),
        _ => None,
    })
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    let version = match input_element(graph, node, 0) {
        Some(ElementType::I16) => 3,
        Some(ElementType::I8) => 2,
        _ => 1,
    };
    Ok(match &node.op {
        LiteOp::Concatenation { axis, activation } => TfliteOp::new(
            BuiltinOperator::CONCATENATION,
            version,
            BuiltinOptions::Concatenation(ConcatenationOptions {
                axis: *axis,
                fused_activation_function: super::activation::write_fused(*activation),
            }),
        ),
        LiteOp::Pad if node.inputs.len() > 2 => {
            TfliteOp::new(BuiltinOperator::PADV2, version, BuiltinOptions::PadV2)
        }
        LiteOp::Pad => TfliteOp::new(BuiltinOperator::PAD, version, BuiltinOptions::Pad),
        LiteOp::Slice => TfliteOp::new(BuiltinOperator::SLICE, version, BuiltinOptions::Slice),
        other => bail!("{} cannot be written yet", other.name()),
    })
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    let outputs = vec![permutation.to_vec(); node.outputs.len()];
    if let LiteOp::Concatenation { axis, activation } = &node.op {
        let rank = permutation.len() as i32;
        let axis = usize::try_from(if *axis < 0 { axis + rank } else { *axis }).ok()?;
        let mut constants = vec![];
        for (place, &input) in node.inputs.iter().enumerate() {
            let tensor = &graph.tensors[input?];
            if tensor.shape.len() != permutation.len() {
                return None;
            }
            if tensor.data.is_some()
                && let Some(moved) = permute_constant(tensor, permutation)?
            {
                constants.push((place, moved));
            }
        }
        let axis = i32::try_from(*permutation.get(axis)?).ok()?;
        let op = LiteOp::Concatenation { axis, activation: *activation };
        return Some(Passage { op, constants, outputs });
    }
    if node.op == LiteOp::Pad {
        let paddings = &graph.tensors[node.inputs.get(1).copied().flatten()?];
        let values = paddings.i32_values()?;
        if values.len() != 2 * permutation.len() {
            return None;
        }
        let mut moved = vec![0; values.len()];
        for (axis, &p) in permutation.iter().enumerate() {
            moved[2 * p..][..2].copy_from_slice(&values[2 * axis..][..2]);
        }
        let data: Vec<u8> = moved.iter().flat_map(|v| v.to_le_bytes()).collect();
        let constant = Tensor { data: Some(data.into()), ..paddings.clone() };
        return Some(Passage { op: LiteOp::Pad, constants: vec![(1, constant)], outputs });
    }
    None
}
