//! Ops that read by index or make tensors of a computed shape: GATHER, GATHER_ND, ONE_HOT, RANGE, FILL.

use super::compose::{Chain, constant_i32, passage, positive_axis};
use super::*;
use crate::format::tflite::{GatherOptions, OneHotOptions};
use crate::graph::{Activation, BinaryOp};
use crate::tract::ops::array::{self, MultiBroadcastTo};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<array::Gather>() {
        ensure!(op.output_type.is_none(), "a gather that changes the element type");
        let shape = ctx.shape(node.inputs[0])?;
        let x = ctx.tensor(node.inputs[0])?;
        let name = format!("{}/indices", node.name);
        let indices = ctx.indices(&name, node.inputs[1], &shape[op.axis])?;
        let lite = LiteOp::Gather { axis: i32::try_from(op.axis)?, batch_dims: 0 };
        return ctx.emit_result(node, lite, &[x, indices]).map(Some);
    }
    if let Some(op) = node.op_as::<array::GatherElements>() {
        let shape = ctx.shape(node.inputs[0])?;
        let x = ctx.tensor(node.inputs[0])?;
        let places = element_places(ctx, node, node.inputs[1], op.axis, &shape[op.axis])?;
        return ctx.emit_result(node, LiteOp::GatherNd, &[x, places]).map(Some);
    }
    if let Some(op) = node.op_as::<array::GatherNd>() {
        let x = ctx.tensor(node.inputs[0])?;
        let indices = ctx.shape(node.inputs[1])?;
        if op.batch_dims > 0 && indices.last() == Some(&TDim::from(1)) {
            let places = slice_places(ctx, node, op.batch_dims, false)?;
            let name = format!("{}/places", node.name);
            let places = ctx.reshape(&name, places, &indices, &indices[..indices.len() - 1])?;
            let batch = i32::try_from(op.batch_dims)?;
            let lite = LiteOp::Gather { axis: batch, batch_dims: batch };
            return ctx.emit_result(node, lite, &[x, places]).map(Some);
        }
        let places = slice_places(ctx, node, op.batch_dims, true)?;
        return ctx.emit_result(node, LiteOp::GatherNd, &[x, places]).map(Some);
    }
    if let Some(op) = node.op_as::<array::OneHot>() {
        return lower_one_hot(ctx, node, op).map(Some);
    }
    if node.op_is::<array::Range>() {
        let element = ctx.element(OutletId::new(node.id, 0))?;
        ensure!(
            matches!(element, ElementType::F32 | ElementType::I32 | ElementType::I64),
            refusal::of_type("a range", element)
        );
        let inputs: Vec<TensorId> =
            node.inputs.iter().map(|&i| ctx.tensor_as(i, element)).collect::<Result<_>>()?;
        return ctx.emit_result(node, LiteOp::Range, &inputs).map(Some);
    }
    Ok(None)
}

/// For indices along `axis`, one for each element: the coordinates of the elements that they mean, as
/// int32 of shape `indices × rank`.
pub fn element_places(
    ctx: &mut LowerContext,
    node: &TypedNode,
    indices: OutletId,
    axis: usize,
    len: &TDim,
) -> Result<TensorId> {
    let shape = ctx.known_shape(indices)?;
    let rank = shape.len();
    let name = format!("{}/places", node.name);
    let along = ctx.indices(&name, indices, len)?;
    let dims: Vec<TDim> = shape.iter().map(|&n| TDim::from(n)).collect();
    let mut column = dims.clone();
    column.push(TDim::from(1));
    let along = ctx.reshape(&name, along, &dims, &column)?;
    let mut parts = vec![];
    if axis > 0 {
        parts.push(coordinates(ctx, &name, &shape, 0..axis)?);
    }
    parts.push(along);
    if axis + 1 < rank {
        parts.push(coordinates(ctx, &name, &shape, axis + 1..rank)?);
    }
    if let &[only] = parts.as_slice() {
        return Ok(only);
    }
    let mut all = dims;
    all.push(TDim::from(rank));
    let op = LiteOp::Concatenation { axis: i32::try_from(rank)?, activation: Activation::None };
    Ok(ctx.emit(&name, op, &parts, ElementType::I32, &all))
}

/// The coordinates in `axes` of each place of `shape`, as a constant of shape `shape × axes`.
fn coordinates(
    ctx: &mut LowerContext,
    name: &str,
    shape: &[usize],
    axes: std::ops::Range<usize>,
) -> Result<TensorId> {
    let count: usize = shape.iter().product();
    ensure!(count <= 1 << 24, refusal::too_large(format!("indices of {count} elements")));
    let mut values = Vec::with_capacity(count * axes.len());
    for place in 0..count {
        for axis in axes.clone() {
            let inner: usize = shape[axis + 1..].iter().product();
            values.push(i32::try_from(place / inner % shape[axis])?);
        }
    }
    let mut dims = shape.to_vec();
    dims.push(axes.len());
    Ok(ctx.add_i32_tensor(&format!("{name}/grid"), &dims, &values))
}

/// int32 coordinates, none negative; with those of the batch axes before them for GATHER_ND.
fn slice_places(
    ctx: &mut LowerContext,
    node: &TypedNode,
    batch_dims: usize,
    with_batch: bool,
) -> Result<TensorId> {
    let name = format!("{}/places", node.name);
    let dims = ctx.shape(node.inputs[1])?;
    let depth = dims.last().context("indices of no axis")?.to_usize()?;
    let data = ctx.shape(node.inputs[0])?;
    let raw = ctx.tensor_as(node.inputs[1], ElementType::I32)?;
    let lengths = data.get(batch_dims..batch_dims + depth).context("indices that are too deep")?;
    let lengths = ctx.shape_tensor(&format!("{name}/lengths"), lengths)?;
    let mut chain = Chain::new(ctx, &name, ElementType::I32, &dims);
    let places = chain.binary(BinaryOp::FloorMod, raw, lengths);
    if batch_dims == 0 || !with_batch {
        return Ok(places);
    }
    let shape = ctx.known_shape(node.inputs[1])?;
    let grid = coordinates(ctx, &name, &shape[..shape.len() - 1], 0..batch_dims)?;
    let mut all = dims.clone();
    all[dims.len() - 1] = TDim::from(depth + batch_dims);
    let axis = i32::try_from(dims.len() - 1)?;
    let op = LiteOp::Concatenation { axis, activation: Activation::None };
    Ok(ctx.emit(&name, op, &[grid, places], ElementType::I32, &all))
}

fn lower_one_hot(ctx: &mut LowerContext, node: &TypedNode, op: &array::OneHot) -> Result<()> {
    let shape = ctx.shape(node.inputs[0])?;
    let raw = ctx.tensor_as(node.inputs[0], ElementType::I32)?;
    let depth = i32::try_from(op.dim)?;
    let name = format!("{}/indices", node.name);
    let mut chain = Chain::new(ctx, &name, ElementType::I32, &shape);
    let (zero, len) = (chain.scalar(0.0)?, chain.ctx.add_i32_tensor(&name, &[], &[depth]));
    let negative = chain.compare(BinaryOp::Less, raw, zero);
    let from_end = chain.binary(BinaryOp::Add, raw, len);
    let indices = chain.select(negative, from_end, raw);
    let depth = ctx.add_i32_tensor(&format!("{}/depth", node.name), &[], &[depth]);
    let on =
        ctx.add_constant(&format!("{}/on", node.name), &op.on.as_ref().clone().into_shape(&[])?)?;
    let off =
        ctx.add_constant(&format!("{}/off", node.name), &op.off.as_ref().clone().into_shape(&[])?)?;
    let lite = LiteOp::OneHot { axis: i32::try_from(op.axis)? };
    ctx.emit_result(node, lite, &[indices, depth, on, off])
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    match &node.op {
        LiteOp::Gather { axis, batch_dims } => {
            let x = ctx.input(node, 0)?;
            let axis = ctx.axis(node, *axis, ctx.shape(x)?.len())?;
            let indices = ctx.input(node, 1)?;
            let indices = ctx.cast(name, indices, DatumType::I64)?;
            if *batch_dims != 0 {
                let batch = usize::try_from(*batch_dims).ok().filter(|&b| b == axis);
                let batch = batch.with_context(|| {
                    format!("'{name}': a gather of axis {axis} with {batch_dims} batch axes")
                })?;
                let rank = ctx.shape(indices)?.len();
                ensure!(rank >= batch, "'{name}': indices of rank {rank}");
                let indices =
                    ctx.wire(&format!("{name}/indices"), AxisOp::Add(rank), &[indices])?;
                let wire = ctx.wire(name, array::GatherNd::new(batch), &[x, indices])?;
                return ctx.finish(node, wire);
            }
            let wire = ctx.wire(name, array::Gather::new(axis), &[x, indices])?;
            ctx.finish(node, wire)
        }
        LiteOp::GatherNd => {
            let (x, indices) = (ctx.input(node, 0)?, ctx.input(node, 1)?);
            let wire = ctx.wire(name, array::GatherNd::new(0), &[x, indices])?;
            ctx.finish(node, wire)
        }
        LiteOp::OneHot { axis } => {
            let indices = ctx.input(node, 0)?;
            let depth = ctx.dims_input(node, 1)?;
            let &[ref depth] = depth.as_slice() else { bail!("'{name}': a depth of many values") };
            let rank = ctx.shape(indices)?.len() + 1;
            let axis = if *axis == -1 { rank - 1 } else { ctx.axis(node, *axis, rank)? };
            let depth = i32::try_from(depth.to_usize()?)?;
            // equal(indices, 0..depth) also where an index means none
            let places: Vec<i32> = (0..depth).collect();
            let mut shape = vec![1; rank];
            shape[axis] = places.len();
            let places = tract::tensor1(&places).into_shape(&shape)?.into_arc_tensor();
            let places = ctx.add_constant("places", places)?;
            let indices = ctx.cast(name, indices, DatumType::I32)?;
            let indices = ctx.wire(&format!("{name}/axis"), AxisOp::Add(axis), &[indices])?;
            let equal = crate::tract::ops::binary::TypedBinOp(tract::ops::logic::comp_eq(), None);
            let hot = ctx.wire(&format!("{name}/hot"), equal, &[indices, places])?;
            let (on, off) = (ctx.input(node, 2)?, ctx.input(node, 3)?);
            let [_, on] = ctx.equalize_ranks(name, hot, on)?;
            let [_, off] = ctx.equalize_ranks(name, hot, off)?;
            let wire = ctx.wire(name, tract::ops::logic::Iff, &[hot, on, off])?;
            ctx.finish(node, wire)
        }
        LiteOp::Range => {
            let mut inputs: Vec<OutletId> =
                (0..3).map(|i| ctx.input(node, i)).collect::<Result<_>>()?;
            for &input in &inputs {
                let numbers = ctx.shape(input)?.iter().product::<TDim>();
                ensure!(numbers == TDim::from(1), "'{name}': a range of {numbers} numbers");
            }
            ctx.unify(name, &mut inputs)?;
            let len = ctx.model.symbols.new_with_prefix("range");
            let mut wire = ctx.wire(name, array::Range::new(len.into()), &inputs)?;
            if let Some(&output) = node.outputs.first() {
                let element = datum_type(ctx.graph.tensors[output].element)?;
                wire = ctx.cast(name, wire, element)?;
            }
            ctx.finish(node, wire)
        }
        LiteOp::Fill => {
            let shape = ctx.dims_input(node, 0)?;
            let value = ctx.input(node, 1)?;
            let mut wire = value;
            while ctx.shape(wire)?.len() < shape.len() {
                wire = ctx.wire(&format!("{name}/rank"), AxisOp::Add(0), &[wire])?;
            }
            let op = MultiBroadcastTo { shape: shape.into_iter().collect() };
            let wire = ctx.wire(name, op, &[wire])?;
            ctx.finish(node, wire)
        }
        other => bail!("{} does not read by index", other.name()),
    }
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(match (op.builtin, &op.options) {
        (BuiltinOperator::GATHER, BuiltinOptions::Gather(o)) => {
            Some(LiteOp::Gather { axis: o.axis, batch_dims: o.batch_dims })
        }
        (BuiltinOperator::GATHER_ND, _) => Some(LiteOp::GatherNd),
        (BuiltinOperator::ONE_HOT, BuiltinOptions::OneHot(o)) => {
            Some(LiteOp::OneHot { axis: o.axis })
        }
        (BuiltinOperator::RANGE, _) => Some(LiteOp::Range),
        (BuiltinOperator::FILL, _) => Some(LiteOp::Fill),
        _ => None,
    })
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    use ElementType::{Bool, F16, I8, I16, I64};
    let element = input_element(graph, node, 0);
    Ok(match &node.op {
        LiteOp::Gather { axis, batch_dims } => {
            let version = match batch_dims {
                0 => version_of(element, &[(I16, 4), (Bool, 3), (I8, 2)]),
                _ => 5,
            };
            let options = GatherOptions { axis: *axis, batch_dims: *batch_dims };
            TfliteOp::new(BuiltinOperator::GATHER, version, BuiltinOptions::Gather(options))
        }
        LiteOp::GatherNd => {
            let version = version_of(element, &[(Bool, 5), (I16, 3)]);
            TfliteOp::new(BuiltinOperator::GATHER_ND, version, BuiltinOptions::GatherNd)
        }
        LiteOp::OneHot { axis } => {
            let options = BuiltinOptions::OneHot(OneHotOptions { axis: *axis });
            TfliteOp::new(BuiltinOperator::ONE_HOT, 1, options)
        }
        LiteOp::Range => {
            let version = version_of(element, &[(I64, 2)]);
            TfliteOp::new(BuiltinOperator::RANGE, version, BuiltinOptions::Range)
        }
        LiteOp::Fill => {
            let element = input_element(graph, node, 1);
            let version = version_of(element, &[(F16, 4), (I8, 3), (I16, 3), (Bool, 2)]);
            TfliteOp::new(BuiltinOperator::FILL, version, BuiltinOptions::Fill)
        }
        other => bail!("{} does not read by index", other.name()),
    })
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    let LiteOp::Gather { axis, batch_dims: 0 } = node.op else { return None };
    constant_i32(graph, node, 1)?;
    if graph.tensors[node.inputs.get(1).copied().flatten()?].shape.len() != 1 {
        return None;
    }
    let axis = i32::try_from(permutation[positive_axis(axis, permutation.len())?]).ok()?;
    let op = LiteOp::Gather { axis, batch_dims: 0 };
    Some(passage(op, vec![], node, permutation))
}
