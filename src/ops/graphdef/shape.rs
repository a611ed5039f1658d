//! The same elements in another shape or order.

use super::read_context::Form;
use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let inputs = ctx.inputs(node)?;
    let element = ("T", ctx.type_of(node, 0)?);
    let second = |name| -> Result<_> { Ok([element.clone(), (name, ctx.type_of(node, 1)?)]) };
    let value = match &node.op {
        LiteOp::Reshape => {
            let attributes = second("Tshape")?;
            ctx.add("Reshape", &inputs, &attributes)
        }
        LiteOp::Transpose => {
            let attributes = second("Tperm")?;
            ctx.add("Transpose", &inputs, &attributes)
        }
        LiteOp::Squeeze { axes } => {
            let axes = axes.iter().map(|&axis| axis.into()).collect();
            ctx.add("Squeeze", &inputs, &[element, ("squeeze_dims", Attribute::Ints(axes))])
        }
        LiteOp::ExpandDims => {
            let attributes = second("Tdim")?;
            ctx.add("ExpandDims", &inputs, &attributes)
        }
        LiteOp::Shape { element: made } => {
            ctx.add("Shape", &inputs, &[element, ("out_type", Attribute::Type(*made))])
        }
        LiteOp::BroadcastTo => {
            let attributes = second("Tidx")?;
            ctx.add("BroadcastTo", &inputs, &attributes)
        }
        LiteOp::Tile => {
            let attributes = second("Tmultiples")?;
            ctx.add("Tile", &inputs, &attributes)
        }
        other => bail!("{} keeps its shape", other.name()),
    };
    ctx.bind(node, value)
}

pub fn transpose(
    ctx: &mut GraphDefContext,
    value: GraphDefValue,
    element: ElementType,
    order: &[usize],
) -> GraphDefValue {
    let order: Vec<i32> = order.iter().map(|&axis| axis as i32).collect();
    let order = ctx.i32_vector(&order);
    let attributes =
        [("T", Attribute::Type(element)), ("Tperm", Attribute::Type(ElementType::I32))];
    ctx.add("Transpose", &[value, order], &attributes)
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let x = node.input(0)?;
    let rank = ctx.rank(x);
    let out_type = node.element("out_type")?.unwrap_or(ElementType::I32);
    let y = match node.op {
        "Reshape" => read_reshape(ctx, x, node.input(1)?)?,
        "Squeeze" => {
            let listed = node.ints("squeeze_dims");
            let mut axes: Vec<usize> =
                listed.into_iter().map(|axis| ctx.axis(axis, rank)).collect::<Result<_>>()?;
            if axes.is_empty() {
                axes = (0..rank).filter(|&axis| ctx.shape(x)[axis] == Dim::Known(1)).collect();
            }
            axes.sort();
            axes.dedup();
            for &axis in &axes {
                ensure!(
                    ctx.shape(x)[axis].known().is_none_or(|n| n == 1),
                    "it drops axis {axis} of {}",
                    shape_text(ctx.shape(x))
                );
            }
            let axes: Vec<i32> = axes.into_iter().map(|axis| axis as i32).collect();
            if axes.is_empty() { x } else { ctx.emit(LiteOp::Squeeze { axes }, &[x])? }
        }
        "ExpandDims" => {
            let axis = ctx.axis(ctx.int(node, 1)?, rank + 1)?;
            let place = ctx.i32_scalar(axis as i64)?;
            let y = ctx.emit(LiteOp::ExpandDims, &[x, place])?;
            ctx.set_form(y, Form::Inserted { x, axis });
            y
        }
        "Transpose" => {
            let order = ctx.ints(node, 1)?;
            let order: Vec<usize> =
                order.into_iter().map(|axis| ctx.axis(axis, rank)).collect::<Result<_>>()?;
            let distinct: HashSet<&usize> = order.iter().collect();
            ensure!(distinct.len() == rank && order.len() == rank, "no permutation: {order:?}");
            ctx.transpose(x, &order)?
        }
        "Shape" => ctx.emit_as(LiteOp::Shape { element: out_type }, &[x], out_type)?,
        "ShapeN" => {
            let mut shapes = vec![];
            for &input in &node.inputs {
                let op = LiteOp::Shape { element: out_type };
                shapes.push(ctx.emit_as(op, &[input], out_type)?);
            }
            return Ok(shapes);
        }
        "Rank" => ctx.i32_scalar(rank as i64)?,
        "Size" => {
            let shape = ctx.emit_as(LiteOp::Shape { element: out_type }, &[x], out_type)?;
            let axes = ctx.i32_vector(&[0])?;
            let op = LiteOp::Reduce { op: ReduceOp::Product, keep_dims: false };
            ctx.emit(op, &[shape, axes])?
        }
        "BroadcastTo" => {
            let shape = ctx.as_i32(node.input(1)?)?;
            ctx.emit(LiteOp::BroadcastTo, &[x, shape])?
        }
        "Tile" => {
            let repeats = ctx.as_i32(node.input(1)?)?;
            let y = ctx.emit(LiteOp::Tile, &[x, repeats])?;
            let form = ctx.ints_of(repeats).and_then(|repeats| repeated(ctx, x, &repeats));
            form.into_iter().for_each(|form| ctx.set_form(y, form));
            y
        }
        other => bail!("{other} keeps its shape"),
    };
    Ok(vec![y])
}

/// What repeats each element of an axis, where `x` has one more behind it.
fn repeated(ctx: &GraphDefReader, x: TensorId, repeats: &[i64]) -> Option<Form> {
    let Some(&Form::Inserted { x, axis }) = ctx.form(x) else { return None };
    let others_are_one = repeats.iter().enumerate().all(|(i, &times)| i == axis || times == 1);
    let times = usize::try_from(*repeats.get(axis)?).ok().filter(|times| *times > 0)?;
    Some(Form::Repeated { x, axis: axis.checked_sub(1)?, times }).filter(|_| others_are_one)
}

/// A picture whose rows or columns are repeated, as Keras' UpSampling2D spells it.
fn enlarged(ctx: &mut GraphDefReader, x: TensorId, y: &[Dim]) -> Result<Option<TensorId>> {
    let Some(&Form::Repeated { x, axis, times }) = ctx.form(x) else { return Ok(None) };
    let mut dims = ctx.shape(x).to_vec();
    let (4, 1 | 2, Dim::Known(n)) = (dims.len(), axis, &dims[axis]) else { return Ok(None) };
    dims[axis] = Dim::Known(n.saturating_mul(times));
    let (Dim::Known(height), Dim::Known(width)) = (&dims[1], &dims[2]) else { return Ok(None) };
    if dims != y {
        return Ok(None);
    }
    let size = ctx.i32_vector(&[*height as i64, *width as i64])?;
    let op = LiteOp::ResizeNearest { align_corners: false, half_pixel_centers: false };
    ctx.emit(op, &[x, size]).map(Some)
}

/// To a target that is constant wherever that is possible.
fn read_reshape(ctx: &mut GraphDefReader, x: TensorId, target: TensorId) -> Result<TensorId> {
    let target = ctx.as_i32(target)?;
    if ctx.is_constant(x)
        && let Some(sizes) = ctx.ints_of(target)
        && let Some(whole) = ctx.graph.tensors[x].known_shape()
    {
        let count: usize = whole.iter().product();
        let rest: i64 = sizes.iter().filter(|n| **n >= 0).product();
        let size = |n: i64| match n {
            -1 if rest > 0 => count as i64 / rest,
            n => n,
        };
        let sizes: Vec<usize> =
            sizes.into_iter().map(|n| usize::try_from(size(n))).collect::<Result<_, _>>()?;
        return ctx.reshaped_constant(x, &sizes);
    }
    let (nodes, inputs) = (ctx.graph.nodes.len(), ctx.graph.inputs.clone());
    let y = ctx.emit(LiteOp::Reshape, &[x, target])?;
    let dims = ctx.shape(y).to_vec();
    if let Some(enlarged) = enlarged(ctx, x, &dims)? {
        return Ok(enlarged);
    }
    if ctx.is_constant(target) {
        return Ok(y);
    }
    let is_of_inputs = |dim: &Dim| {
        let shapes = inputs.iter().chain([&x]).map(|&input| ctx.shape(input));
        dim.known().is_some() || shapes.flatten().any(|other| other == dim)
    };
    let open = dims.iter().filter(|dim| dim.known().is_none()).count();
    if open > 1 && !dims.iter().all(is_of_inputs) {
        return Ok(y);
    }
    // the same by what is simplest: what computed the target is not needed
    ctx.graph.nodes.truncate(nodes);
    ctx.reshape(x, &dims, x)
}
