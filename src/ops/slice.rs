//! Ops that cut and join along axes: CONCATENATION, PACK, UNPACK, SPLIT, SPLIT_V, SLICE, STRIDED_SLICE,
//! REVERSE_V2, DYNAMIC_UPDATE_SLICE.

use super::compose::{constant_i32, i32_like, moved, passage, positive_axis};
use super::*;
use crate::format::tflite::{
    ConcatenationOptions, PackOptions, SplitOptions, SplitVOptions, StridedSliceOptions,
    UnpackOptions,
};
use crate::graph::Activation;
use crate::tract::ops::Downsample;
use crate::tract::ops::array::{DynSlice, Gather, Slice, TypedConcat};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<TypedConcat>() {
        let element = ctx.element(OutletId::new(node.id, 0))?;
        let inputs: Vec<TensorId> =
            node.inputs.iter().map(|&i| ctx.tensor_as(i, element)).collect::<Result<_>>()?;
        if let &[only] = inputs.as_slice() {
            ctx.bind(node, only);
            return Ok(Some(()));
        }
        let axis = i32::try_from(op.axis)?;
        let op = LiteOp::Concatenation { axis, activation: Activation::None };
        return ctx.emit_result(node, op, &inputs).map(Some);
    }
    if let Some(op) = node.op_as::<Slice>() {
        return lower_slice(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<DynSlice>() {
        return computed_slice::lower(ctx, node, op.axis).map(Some);
    }
    if let Some(op) = node.op_as::<Downsample>() {
        return lower_downsample(ctx, node, op).map(Some);
    }
    Ok(None)
}

/// SLICE where sizes are numbers or reach to the end; STRIDED_SLICE where bounds count from the end.
fn lower_slice(ctx: &mut LowerContext, node: &TypedNode, op: &Slice) -> Result<()> {
    let shape = ctx.shape(node.inputs[0])?;
    let input = ctx.tensor(node.inputs[0])?;
    let len = &shape[op.axis];
    let number = |d: &TDim| d.to_i64().ok().and_then(|n| i32::try_from(n).ok());
    let mut begin = vec![0; shape.len()];
    if let (Some(start), true) = (number(&op.start), op.end == *len) {
        begin[op.axis] = start;
        let begin = ctx.add_i32_constant(&format!("{}/begin", node.name), &begin);
        let size = ctx.add_i32_constant(&format!("{}/size", node.name), &vec![-1; shape.len()]);
        return ctx.emit_result(node, LiteOp::Slice, &[input, begin, size]);
    }
    if let (Some(start), Some(end)) = (number(&op.start), number(&op.end)) {
        let mut size = vec![-1; shape.len()];
        begin[op.axis] = start;
        size[op.axis] = end - start;
        let begin = ctx.add_i32_constant(&format!("{}/begin", node.name), &begin);
        let size = ctx.add_i32_constant(&format!("{}/size", node.name), &size);
        return ctx.emit_result(node, LiteOp::Slice, &[input, begin, size]);
    }
    let bound = |d: &TDim| number(d).or_else(|| number(&(d.clone() - len)).filter(|n| *n < 0));
    let mut end = vec![0; shape.len()];
    begin[op.axis] =
        bound(&op.start).with_context(|| format!("a slice that begins at {}", op.start))?;
    let mut end_mask = mask_of_all(shape.len())?;
    if op.end != *len {
        end[op.axis] = bound(&op.end).with_context(|| format!("a slice up to {}", op.end))?;
        end_mask &= !(1 << op.axis);
    }
    let lite = LiteOp::StridedSlice {
        begin_mask: mask_of_all(shape.len())? & !(1 << op.axis),
        end_mask,
        shrink_axis_mask: 0,
        new_axis_mask: 0,
        ellipsis_mask: 0,
    };
    strided(ctx, node, lite, input, [begin, end, vec![1; shape.len()]])
}

fn mask_of_all(rank: usize) -> Result<u32> {
    ensure!(rank <= 8, refusal::too_deep("a slice", rank, 8));
    Ok((1u32 << rank) - 1)
}

fn strided(
    ctx: &mut LowerContext,
    node: &TypedNode,
    op: LiteOp,
    input: TensorId,
    [begin, end, strides]: [Vec<i32>; 3],
) -> Result<()> {
    let begin = ctx.add_i32_constant(&format!("{}/begin", node.name), &begin);
    let end = ctx.add_i32_constant(&format!("{}/end", node.name), &end);
    let strides = ctx.add_i32_constant(&format!("{}/strides", node.name), &strides);
    ctx.emit_result(node, op, &[input, begin, end, strides])
}

fn lower_downsample(ctx: &mut LowerContext, node: &TypedNode, op: &Downsample) -> Result<()> {
    let shape = ctx.shape(node.inputs[0])?;
    let input = ctx.tensor(node.inputs[0])?;
    let rank = shape.len();
    ensure!(rank <= 5, refusal::too_deep("a strided slice", rank, 5));
    let mut begin = vec![0; rank];
    let mut strides = vec![1; rank];
    strides[op.axis] = i32::try_from(op.stride)?;
    begin[op.axis] = i32::try_from(op.modulo)?;
    let all = mask_of_all(rank)?;
    // with a negative stride the first element is the last of the axis, which the mask stands for
    let begin_mask = if op.modulo == 0 { all } else { all & !(1 << op.axis) };
    let lite = LiteOp::StridedSlice {
        begin_mask,
        end_mask: all,
        shrink_axis_mask: 0,
        new_axis_mask: 0,
        ellipsis_mask: 0,
    };
    strided(ctx, node, lite, input, [begin, vec![0; rank], strides])
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    match &node.op {
        LiteOp::Concatenation { axis, activation } => {
            let mut inputs: Vec<OutletId> =
                (0..node.inputs.len()).map(|i| ctx.input(node, i)).collect::<Result<_>>()?;
            ensure!(!inputs.is_empty(), "'{name}': nothing to concatenate");
            ctx.unify(name, &mut inputs)?;
            let rank = ctx.shape(inputs[0])?.len();
            let axis = ctx.axis(node, *axis, rank)?;
            align(ctx, name, axis, &mut inputs)?;
            let wire = ctx.wire(name, TypedConcat::new(axis), &inputs)?;
            let wire = super::activation::wire_fused(ctx, name, *activation, wire)?;
            ctx.finish(node, wire)
        }
        LiteOp::Pack { axis } => {
            let mut inputs: Vec<OutletId> =
                (0..node.inputs.len()).map(|i| ctx.input(node, i)).collect::<Result<_>>()?;
            ensure!(!inputs.is_empty(), "'{name}': nothing to pack");
            ctx.unify(name, &mut inputs)?;
            let rank = ctx.shape(inputs[0])?.len();
            let axis = ctx.axis(node, *axis, rank + 1)?;
            for input in &mut inputs {
                *input = ctx.wire(&format!("{name}/axis"), AxisOp::Add(axis), &[*input])?;
            }
            align(ctx, name, axis, &mut inputs)?;
            let wire = ctx.wire(name, TypedConcat::new(axis), &inputs)?;
            ctx.finish(node, wire)
        }
        LiteOp::Unpack { axis } => {
            let x = ctx.input(node, 0)?;
            let axis = ctx.axis(node, *axis, ctx.shape(x)?.len())?;
            let parts = cut(ctx, name, x, axis, &vec![1; node.outputs.len()])?;
            let mut outlets = vec![];
            for part in parts {
                outlets.push(ctx.wire(&format!("{name}/part"), AxisOp::Rm(axis), &[part])?);
            }
            ctx.finish_all(node, &outlets)
        }
        LiteOp::Split => {
            let x = ctx.input(node, 1)?;
            let shape = ctx.shape(x)?;
            let axis = ctx.axis_input(node, 0, shape.len())?;
            let count = node.outputs.len();
            let len = shape[axis].to_usize().with_context(|| format!("'{name}'"))?;
            ensure!(count > 0 && len % count == 0, "'{name}': {len} in {count} equal parts");
            let outlets = cut(ctx, name, x, axis, &vec![len / count; count])?;
            ctx.finish_all(node, &outlets)
        }
        LiteOp::SplitV => {
            let x = ctx.input(node, 0)?;
            let shape = ctx.shape(x)?;
            let axis = ctx.axis_input(node, 2, shape.len())?;
            let sizes = ctx.i32_input(node, 1)?;
            let given: i64 = sizes.iter().filter(|&&s| s >= 0).map(|&s| i64::from(s)).sum();
            let sizes: Vec<usize> = sizes
                .iter()
                .map(|&s| match s {
                    0.. => Ok(s as usize),
                    _ => Ok(usize::try_from(shape[axis].to_i64()? - given)?),
                })
                .collect::<Result<_>>()
                .with_context(|| format!("'{name}'"))?;
            ensure!(sizes.len() == node.outputs.len(), "'{name}': {} parts", sizes.len());
            let outlets = cut(ctx, name, x, axis, &sizes)?;
            ctx.finish_all(node, &outlets)
        }
        LiteOp::Slice => {
            let mut wire = ctx.input(node, 0)?;
            let shape = ctx.shape(wire)?;
            let size = ctx.input(node, 2)?;
            if ctx.model.outlet_fact(size)?.konst.is_none() {
                return computed_slice::raise_slice(ctx, node);
            }
            let begin = ctx.dims_input(node, 1)?;
            let size = ctx.dims_input(node, 2)?;
            ensure!(
                begin.len() == shape.len() && size.len() == shape.len(),
                "'{name}': bounds of another rank than {}",
                shape.len()
            );
            for (axis, len) in shape.iter().enumerate() {
                let end = match size[axis].to_i64() {
                    Ok(-1) => len.clone(),
                    _ => begin[axis].clone() + &size[axis],
                };
                if begin[axis] != TDim::from(0) || end != *len {
                    let op = Slice { axis, start: begin[axis].clone(), end };
                    wire = ctx.wire(name, op, &[wire])?;
                }
            }
            ctx.finish(node, wire)
        }
        LiteOp::StridedSlice { .. } => raise_strided(ctx, node),
        LiteOp::Reverse => {
            let mut wire = ctx.input(node, 0)?;
            let rank = ctx.shape(wire)?.len();
            for axis in ctx.i32_input(node, 1)? {
                let axis = ctx.axis(node, axis, rank)?;
                let op = Downsample { axis, stride: -1, modulo: 0 };
                wire = ctx.wire(&format!("{name}/reverse"), op, &[wire])?;
            }
            ctx.finish(node, wire)
        }
        LiteOp::DynamicUpdateSlice => {
            let inputs: Vec<OutletId> =
                (0..3).map(|i| ctx.input(node, i)).collect::<Result<_>>()?;
            let start = ctx.cast(name, inputs[2], DatumType::I64)?;
            let wire =
                ctx.wire(name, tract::typed_ops::UpdateSlice, &[inputs[0], inputs[1], start])?;
            ctx.finish(node, wire)
        }
        other => bail!("{} does not cut or join", other.name()),
    }
}

/// What is joined has the same sizes but for `axis`, even where they are symbols of several names.
fn align(ctx: &mut RaiseContext, name: &str, axis: usize, inputs: &mut [OutletId]) -> Result<()> {
    let first = ctx.shape(inputs[0])?;
    for input in inputs.iter_mut().skip(1) {
        let mut shape = ctx.shape(*input)?;
        let differ = |(i, (a, b)): (usize, (&TDim, &TDim))| {
            i != axis && a != b && (a.to_i64().is_err() || b.to_i64().is_err())
        };
        if shape.len() == first.len() && shape.iter().zip(&first).enumerate().any(differ) {
            let own = shape[axis].clone();
            shape.clone_from(&first);
            shape[axis] = own;
            let op = tract::typed_ops::AssumeShape(shape.into_iter().collect());
            *input = ctx.wire(&format!("{name}/part"), op, &[*input])?;
        }
    }
    Ok(())
}

fn cut(
    ctx: &mut RaiseContext,
    name: &str,
    x: OutletId,
    axis: usize,
    sizes: &[usize],
) -> Result<Vec<OutletId>> {
    let mut start = 0usize;
    let mut parts = vec![];
    for &size in sizes {
        let end = start.checked_add(size).with_context(|| format!("'{name}': sizes overflow"))?;
        parts.push(ctx.wire(&format!("{name}/part"), Slice::new(axis, start, end), &[x])?);
        start = end;
    }
    Ok(parts)
}

fn raise_strided(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let LiteOp::StridedSlice {
        begin_mask,
        end_mask,
        shrink_axis_mask,
        new_axis_mask,
        ellipsis_mask,
    } = &node.op
    else {
        bail!("not a strided slice")
    };
    let name = ctx.output_name(node);
    ensure!(
        *new_axis_mask == 0 && *ellipsis_mask == 0,
        "'{name}': new axes and ellipses in a strided slice"
    );
    let mut wire = ctx.input(node, 0)?;
    let shape = ctx.shape(wire)?;
    let strides = ctx.i32_input(node, 3)?;
    for index in [1, 2] {
        let bounds = ctx.input(node, index)?;
        if ctx.model.outlet_fact(bounds)?.konst.is_none() {
            ensure!(*shrink_axis_mask == 0, "'{name}': an element of computed place");
            let masks = [*begin_mask, *end_mask];
            return computed_slice::raise_strided(ctx, node, masks, &strides);
        }
    }
    let begin = ctx.dims_input(node, 1)?;
    let end = ctx.dims_input(node, 2)?;
    ensure!(
        begin.len() <= shape.len() && end.len() == begin.len() && strides.len() == begin.len(),
        "'{name}': bounds of another rank than {}",
        shape.len()
    );
    let mut gone = vec![];
    for axis in 0..begin.len() {
        let has = |mask: &u32| axis < 32 && mask & (1 << axis) != 0;
        let len = &shape[axis];
        let from_end = |d: &TDim| match d.to_i64() {
            Ok(n) if n < 0 => len.clone() + d,
            _ => d.clone(),
        };
        if has(shrink_axis_mask) {
            let start = from_end(&begin[axis]);
            let op = Slice { axis, end: start.clone() + 1, start };
            wire = ctx.wire(name, op, &[wire])?;
            gone.push(axis);
            continue;
        }
        let stride = strides[axis];
        ensure!(stride != 0, "'{name}': a stride of 0");
        let clamp = |d: TDim, low: i64| match (d.to_i64(), len.to_i64()) {
            (Ok(d), Ok(len)) => TDim::from(d.clamp(low, len + low)),
            _ => d,
        };
        let (start, stop) = if stride > 0 {
            let start = if has(begin_mask) { TDim::from(0) } else { from_end(&begin[axis]) };
            let stop = if has(end_mask) { len.clone() } else { from_end(&end[axis]) };
            (clamp(start, 0), clamp(stop, 0))
        } else {
            let first = if has(begin_mask) { len.clone() - 1 } else { from_end(&begin[axis]) };
            let last = if has(end_mask) { TDim::from(-1) } else { from_end(&end[axis]) };
            (clamp(last, -1) + 1, clamp(first, -1) + 1)
        };
        let (start, stop) = match (start.to_i64(), stop.to_i64()) {
            (Ok(a), Ok(b)) if b < a => (start.clone(), start),
            _ => (start, stop),
        };
        if start != TDim::from(0) || stop != *len {
            wire = ctx.wire(name, Slice { axis, start, end: stop }, &[wire])?;
        }
        if stride != 1 {
            let len = ctx.shape(wire)?[axis].to_usize();
            wire = match len {
                Ok(len) if stride > 1 && is_reshaped(ctx, wire) => {
                    let places: Vec<i64> = (0..len as i64).step_by(stride as usize).collect();
                    wire_places(ctx, name, wire, axis, &places)?
                }
                _ => {
                    let op = Downsample { axis, stride: stride as isize, modulo: 0 };
                    ctx.wire(&format!("{name}/stride"), op, &[wire])?
                }
            };
        }
    }
    for axis in gone.into_iter().rev() {
        wire = ctx.wire(&format!("{name}/shrink"), AxisOp::Rm(axis), &[wire])?;
    }
    ctx.finish(node, wire)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    let mask = |bits: i32| bits as u32;
    Ok(Some(match (op.builtin, &op.options) {
        (BuiltinOperator::CONCATENATION, BuiltinOptions::Concatenation(o)) => {
            let activation = super::activation::read_fused(o.fused_activation_function);
            LiteOp::Concatenation { axis: o.axis, activation }
        }
        (BuiltinOperator::PACK, BuiltinOptions::Pack(o)) => LiteOp::Pack { axis: o.axis },
        (BuiltinOperator::UNPACK, BuiltinOptions::Unpack(o)) => LiteOp::Unpack { axis: o.axis },
        (BuiltinOperator::SPLIT, _) => LiteOp::Split,
        (BuiltinOperator::SPLIT_V, _) => LiteOp::SplitV,
        (BuiltinOperator::SLICE, _) => LiteOp::Slice,
        (BuiltinOperator::STRIDED_SLICE, BuiltinOptions::StridedSlice(o)) => {
            ensure!(!o.offset, "STRIDED_SLICE whose end is an offset");
            LiteOp::StridedSlice {
                begin_mask: mask(o.begin_mask),
                end_mask: mask(o.end_mask),
                shrink_axis_mask: mask(o.shrink_axis_mask),
                new_axis_mask: mask(o.new_axis_mask),
                ellipsis_mask: mask(o.ellipsis_mask),
            }
        }
        (BuiltinOperator::REVERSE_V2, _) => LiteOp::Reverse,
        (BuiltinOperator::DYNAMIC_UPDATE_SLICE, _) => LiteOp::DynamicUpdateSlice,
        _ => return Ok(None),
    }))
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    use ElementType::{Bool, F16, I8, I16, I32, U8};
    let element = input_element(graph, node, 0);
    let count = |n: usize| i32::try_from(n).context("more than 2^31 parts");
    Ok(match &node.op {
        LiteOp::Concatenation { axis, activation } => {
            let version = version_of(element, &[(I16, 3), (I8, 2)]);
            let fused_activation_function = super::activation::write_fused(*activation);
            let options = ConcatenationOptions { axis: *axis, fused_activation_function };
            let options = BuiltinOptions::Concatenation(options);
            TfliteOp::new(BuiltinOperator::CONCATENATION, version, options)
        }
        LiteOp::Pack { axis } => {
            let version = version_of(element, &[(I8, 2), (I16, 3)]);
            let options = PackOptions { values_count: count(node.inputs.len())?, axis: *axis };
            TfliteOp::new(BuiltinOperator::PACK, version, BuiltinOptions::Pack(options))
        }
        LiteOp::Unpack { axis } => {
            let version = version_of(element, &[(I8, 2), (U8, 2), (Bool, 3), (I16, 4)]);
            let options = UnpackOptions { num: count(node.outputs.len())?, axis: *axis };
            TfliteOp::new(BuiltinOperator::UNPACK, version, BuiltinOptions::Unpack(options))
        }
        LiteOp::Split => {
            let element = input_element(graph, node, 1);
            let version = version_of(element, &[(I16, 4), (I32, 3), (I8, 2)]);
            let options = SplitOptions { num_splits: count(node.outputs.len())? };
            TfliteOp::new(BuiltinOperator::SPLIT, version, BuiltinOptions::Split(options))
        }
        LiteOp::SplitV => {
            let options = SplitVOptions { num_splits: count(node.outputs.len())? };
            let version = version_of(element, &[(I8, 2)]);
            TfliteOp::new(BuiltinOperator::SPLIT_V, version, BuiltinOptions::SplitV(options))
        }
        LiteOp::Slice => {
            let version = match rank(graph, node) {
                5.. => 5,
                _ => version_of(element, &[(I16, 4), (I8, 2)]),
            };
            TfliteOp::new(BuiltinOperator::SLICE, version, BuiltinOptions::Slice)
        }
        LiteOp::StridedSlice {
            begin_mask,
            end_mask,
            shrink_axis_mask,
            new_axis_mask,
            ellipsis_mask,
        } => {
            let version = match rank(graph, node) {
                _ if *ellipsis_mask != 0 || *new_axis_mask != 0 => 6,
                5.. => 4,
                _ => version_of(element, &[(Bool, 3), (I8, 2)]),
            };
            let options = StridedSliceOptions {
                begin_mask: *begin_mask as i32,
                end_mask: *end_mask as i32,
                ellipsis_mask: *ellipsis_mask as i32,
                new_axis_mask: *new_axis_mask as i32,
                shrink_axis_mask: *shrink_axis_mask as i32,
                offset: false,
            };
            let options = BuiltinOptions::StridedSlice(options);
            TfliteOp::new(BuiltinOperator::STRIDED_SLICE, version, options)
        }
        LiteOp::Reverse => {
            let version = version_of(element, &[(I8, 3), (Bool, 2)]);
            TfliteOp::new(BuiltinOperator::REVERSE_V2, version, BuiltinOptions::ReverseV2)
        }
        LiteOp::DynamicUpdateSlice => {
            let version = version_of(element, &[(F16, 3), (I16, 2)]);
            let options = BuiltinOptions::DynamicUpdateSlice;
            TfliteOp::new(BuiltinOperator::DYNAMIC_UPDATE_SLICE, version, options)
        }
        other => bail!("{} does not cut or join", other.name()),
    })
}

fn rank(graph: &Subgraph, node: &Node) -> usize {
    node.inputs.first().copied().flatten().map_or(0, |t| graph.tensors[t].shape.len())
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    let rank = permutation.len();
    let axis_of = |axis: i32| Some(i32::try_from(permutation[positive_axis(axis, rank)?]).ok()?);
    match &node.op {
        LiteOp::Concatenation { axis, activation } => {
            let mut constants = vec![];
            for (i, &input) in node.inputs.iter().enumerate() {
                let tensor = &graph.tensors[input?];
                if tensor.data.is_some() {
                    constants.push((i, full_rank_constant(tensor, permutation)?));
                }
            }
            let op = LiteOp::Concatenation { axis: axis_of(*axis)?, activation: *activation };
            Some(passage(op, constants, node, permutation))
        }
        LiteOp::Split => {
            let &[axis] = constant_i32(graph, node, 0)?.as_slice() else { return None };
            let axis = i32_like(graph, node, 0, &[axis_of(axis)?])?;
            Some(passage(LiteOp::Split, vec![(0, axis)], node, permutation))
        }
        LiteOp::SplitV => {
            let &[axis] = constant_i32(graph, node, 2)?.as_slice() else { return None };
            let axis = i32_like(graph, node, 2, &[axis_of(axis)?])?;
            Some(passage(LiteOp::SplitV, vec![(2, axis)], node, permutation))
        }
        LiteOp::Slice => {
            let mut constants = vec![];
            for i in [1, 2] {
                let values = moved(&constant_i32(graph, node, i)?, permutation)?;
                constants.push((i, i32_like(graph, node, i, &values)?));
            }
            Some(passage(LiteOp::Slice, constants, node, permutation))
        }
        LiteOp::StridedSlice {
            begin_mask,
            end_mask,
            shrink_axis_mask: 0,
            new_axis_mask: 0,
            ellipsis_mask: 0,
        } => {
            let mut constants = vec![];
            for i in [1, 2, 3] {
                let values = moved(&constant_i32(graph, node, i)?, permutation)?;
                constants.push((i, i32_like(graph, node, i, &values)?));
            }
            let mask = |bits: u32| {
                let set = permutation.iter().enumerate().filter(|(a, _)| bits & (1 << a) != 0);
                set.fold(0u32, |all, (_, &p)| all | 1 << p)
            };
            let op = LiteOp::StridedSlice {
                begin_mask: mask(*begin_mask),
                end_mask: mask(*end_mask),
                shrink_axis_mask: 0,
                new_axis_mask: 0,
                ellipsis_mask: 0,
            };
            Some(passage(op, constants, node, permutation))
        }
        LiteOp::Reverse => {
            let axes: Option<Vec<i32>> =
                constant_i32(graph, node, 1)?.into_iter().map(axis_of).collect();
            let axes = i32_like(graph, node, 1, &axes?)?;
            Some(passage(LiteOp::Reverse, vec![(1, axes)], node, permutation))
        }
        _ => None,
    }
}

/// As [`permute_constant`], but a constant of one element is moved too: its place counts.
fn full_rank_constant(tensor: &Tensor, permutation: &[usize]) -> Option<Tensor> {
    if tensor.shape.len() != permutation.len() {
        return None;
    }
    match permute_constant(tensor, permutation)? {
        Some(moved) => Some(moved),
        None => Some(tensor.clone()),
    }
}

/// tract pulls a Downsample through slices, and fails at a reshape.
fn is_reshaped(ctx: &RaiseContext, mut wire: OutletId) -> bool {
    while ctx.model.node(wire.node).op_is::<Slice>() {
        wire = ctx.model.node(wire.node).inputs[0];
    }
    matches!(ctx.model.node(wire.node).op_as::<AxisOp>(), Some(AxisOp::Reshape(..)))
}

/// `x` with only the elements at the constant `places` of an axis, in that order.
pub fn wire_places(
    ctx: &mut RaiseContext,
    name: &str,
    x: OutletId,
    axis: usize,
    places: &[i64],
) -> Result<OutletId> {
    let places = tract::tensor1(places).into_arc_tensor();
    let places = ctx.add_constant(&format!("{name}/places"), places)?;
    ctx.wire(name, Gather::new(axis), &[x, places])
}
