//! Elements by index: read, made and written.

use super::*;
use crate::ops::infer::Size;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    if let LiteOp::Gather { .. } = node.op {
        // a table of vectors by number
        ctx.input_or_weight(node, 0)?;
    }
    let mut inputs = ctx.inputs(node)?;
    let element = Attribute::Type(ctx.output_tensor(node)?.element);
    let value = match &node.op {
        LiteOp::Gather { axis, batch_dims } => {
            inputs.push(ctx.i32_scalar(*axis));
            let attributes = [
                ("Tparams", element),
                ("Tindices", ctx.type_of(node, 1)?),
                ("Taxis", Attribute::Type(ElementType::I32)),
                ("batch_dims", Attribute::Int((*batch_dims).into())),
            ];
            ctx.add("GatherV2", &inputs, &attributes)
        }
        LiteOp::GatherNd => {
            let attributes = [("Tparams", element), ("Tindices", ctx.type_of(node, 1)?)];
            ctx.add("GatherNd", &inputs, &attributes)
        }
        LiteOp::OneHot { axis } => one_hot(ctx, node, *axis, &inputs, element)?,
        LiteOp::Range => ctx.add("Range", &inputs, &[("Tidx", element)]),
        LiteOp::Fill => {
            let attributes = [("T", element), ("index_type", ctx.type_of(node, 0)?)];
            ctx.add("Fill", &inputs, &attributes)
        }
        LiteOp::ScatterNd => {
            let attributes = [("T", element), ("Tindices", ctx.type_of(node, 0)?)];
            ctx.add("ScatterNd", &inputs, &attributes)
        }
        LiteOp::UnsortedSegment { op } => {
            let name = match op {
                ReduceOp::Product => "UnsortedSegmentProd",
                ReduceOp::Max => "UnsortedSegmentMax",
                ReduceOp::Min => "UnsortedSegmentMin",
                ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Any | ReduceOp::All => {
                    "UnsortedSegmentSum"
                }
            };
            ensure!(!ctx.is_js(), "TensorFlow.js has no {name}");
            let attributes = [
                ("T", element),
                ("Tindices", ctx.type_of(node, 1)?),
                ("Tnumsegments", ctx.type_of(node, 2)?),
            ];
            ctx.add(name, &inputs, &attributes)
        }
        other => bail!("{} has no indices", other.name()),
    };
    ctx.bind(node, value)
}

fn one_hot(
    ctx: &mut GraphDefContext,
    node: &Node,
    axis: i32,
    inputs: &[GraphDefValue],
    element: Attribute,
) -> Result<GraphDefValue> {
    let attributes = |axis| {
        [("T", element), ("TI", Attribute::Type(ElementType::I32)), ("axis", Attribute::Int(axis))]
    };
    let mut attributes = attributes(axis.into());
    attributes[1].1 = ctx.type_of(node, 0)?;
    let rank = ctx.input_tensor(node, 0)?.shape.len() + 1;
    let place = usize::try_from(if axis < 0 { axis + rank as i32 } else { axis })?;
    if !ctx.is_js() || place + 1 == rank {
        return Ok(ctx.add("OneHot", inputs, &attributes));
    }
    // TensorFlow.js has the classes on the last axis, whatever the attribute says
    attributes[2].1 = Attribute::Int(-1);
    let value = ctx.add("OneHot", inputs, &attributes);
    let mut order: Vec<usize> = (0..rank - 1).collect();
    order.insert(place, rank - 1);
    let element = ctx.output_tensor(node)?.element;
    Ok(super::shape::transpose(ctx, value, element, &order))
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let x = node.input(0)?;
    let y = match node.op {
        "GatherV2" | "Gather" | "ResourceGather" => {
            let batch_dims = node.int("batch_dims").unwrap_or(0);
            let axis = match node.op {
                "GatherV2" => ctx.int(node, 2)?,
                _ => batch_dims,
            };
            let (axis, batch_dims) = (i32::try_from(axis)?, i32::try_from(batch_dims)?);
            let (op, indices) = (LiteOp::Gather { axis, batch_dims }, node.input(1)?);
            match (ctx.sizes_of(x), ctx.ints_of(indices), ctx.graph.tensors[indices].known_shape())
            {
                (Some(sizes), Some(places), Some(shape)) if !ctx.is_constant(x) => {
                    let size = |place: i64| sizes.get(usize::try_from(place).ok()?).cloned();
                    let chosen: Option<Vec<Size>> = places.into_iter().map(size).collect();
                    let chosen = chosen.context("an index past the end")?;
                    ctx.emit_sizes(op, &[x, indices], &shape, chosen)?
                }
                _ => ctx.emit(op, &[x, indices])?,
            }
        }
        "GatherNd" => ctx.emit(LiteOp::GatherNd, &[x, node.input(1)?])?,
        "OneHot" => {
            let axis = i32::try_from(node.int("axis").unwrap_or(-1))?;
            let (depth, on) = (ctx.as_i32(node.input(1)?)?, node.input(2)?);
            let element = ctx.element(on);
            let inputs = [x, depth, on, node.input(3)?];
            ctx.emit_as(LiteOp::OneHot { axis }, &inputs, element)?
        }
        "Range" => ctx.emit(LiteOp::Range, &[x, node.input(1)?, node.input(2)?])?,
        "Fill" => {
            let (shape, value) = (ctx.as_i32(x)?, node.input(1)?);
            let element = ctx.element(value);
            ctx.emit_as(LiteOp::Fill, &[shape, value], element)?
        }
        "ScatterNd" => {
            let (indices, shape) = (ctx.as_i32(x)?, ctx.as_i32(node.input(2)?)?);
            let updates = node.input(1)?;
            let element = ctx.element(updates);
            ctx.emit_as(LiteOp::ScatterNd, &[indices, updates, shape], element)?
        }
        _ => {
            let op = match node.op {
                "UnsortedSegmentSum" => ReduceOp::Sum,
                "UnsortedSegmentProd" => ReduceOp::Product,
                "UnsortedSegmentMax" => ReduceOp::Max,
                "UnsortedSegmentMin" => ReduceOp::Min,
                other => bail!("{other} has no indices"),
            };
            let segments = [ctx.as_i32(node.input(1)?)?, ctx.as_i32(node.input(2)?)?];
            ctx.emit(LiteOp::UnsortedSegment { op }, &[x, segments[0], segments[1]])?
        }
    };
    Ok(vec![y])
}
