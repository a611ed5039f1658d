//! What makes an axis shorter, or runs along one.

use super::*;
use crate::ops::infer::Size;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let inputs = ctx.inputs(node)?;
    let element = ctx.type_of(node, 0)?;
    let value = match &node.op {
        LiteOp::Reduce { op, keep_dims } => {
            let name = match op {
                ReduceOp::Sum => "Sum",
                ReduceOp::Mean => "Mean",
                ReduceOp::Max => "Max",
                ReduceOp::Min => "Min",
                ReduceOp::Product => "Prod",
                ReduceOp::Any => "Any",
                ReduceOp::All => "All",
            };
            let mut attributes =
                vec![("Tidx", ctx.type_of(node, 1)?), ("keep_dims", Attribute::Bool(*keep_dims))];
            if !matches!(op, ReduceOp::Any | ReduceOp::All) {
                attributes.push(("T", element));
            }
            ctx.add(name, &inputs, &attributes)
        }
        LiteOp::ArgMax { element: made } | LiteOp::ArgMin { element: made } => {
            let is_max = matches!(node.op, LiteOp::ArgMax { .. });
            let name = if is_max { "ArgMax" } else { "ArgMin" };
            let attributes = [
                ("T", element),
                ("Tidx", ctx.type_of(node, 1)?),
                ("output_type", Attribute::Type(*made)),
            ];
            ctx.add(name, &inputs, &attributes)
        }
        LiteOp::CumSum { exclusive, reverse } => {
            let attributes = [
                ("T", element),
                ("Tidx", ctx.type_of(node, 1)?),
                ("exclusive", Attribute::Bool(*exclusive)),
                ("reverse", Attribute::Bool(*reverse)),
            ];
            ctx.add("Cumsum", &inputs, &attributes)
        }
        LiteOp::TopK => {
            let attributes = [("T", element), ("sorted", Attribute::Bool(true))];
            let value = ctx.add("TopKV2", &inputs, &attributes);
            return ctx.bind_all(node, value);
        }
        other => bail!("{} reduces nothing", other.name()),
    };
    ctx.bind(node, value)
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let x = node.input(0)?;
    let rank = ctx.rank(x);
    let op = match node.op {
        "Sum" => ReduceOp::Sum,
        "Mean" => ReduceOp::Mean,
        "Max" => ReduceOp::Max,
        "Min" => ReduceOp::Min,
        "Prod" => ReduceOp::Product,
        "Any" => ReduceOp::Any,
        "All" => ReduceOp::All,
        "ArgMax" | "ArgMin" => {
            let axis = ctx.axis(ctx.int(node, 1)?, rank)?;
            let axis = ctx.i32_scalar(axis as i64)?;
            let element = node.element("output_type")?.unwrap_or(ElementType::I64);
            let op = match node.op {
                "ArgMax" => LiteOp::ArgMax { element },
                _ => LiteOp::ArgMin { element },
            };
            return Ok(vec![ctx.emit_as(op, &[x, axis], element)?]);
        }
        "Cumsum" => {
            let axis = ctx.axis(ctx.int(node, 1)?, rank)?;
            let axis = ctx.i32_scalar(axis as i64)?;
            let (exclusive, reverse) = (node.flag("exclusive"), node.flag("reverse"));
            return Ok(vec![ctx.emit(LiteOp::CumSum { exclusive, reverse }, &[x, axis])?]);
        }
        "TopKV2" => {
            let count = ctx.int(node, 1)?;
            let count = ctx.i32_scalar(count)?;
            let types = [ctx.element(x), ElementType::I32];
            return ctx.emit_all(LiteOp::TopK, &[x, count], &types);
        }
        other => bail!("{other} reduces nothing"),
    };
    let mut axes: Vec<i64> = ctx
        .ints(node, 1)?
        .into_iter()
        .map(|axis| Ok(ctx.axis(axis, rank)? as i64))
        .collect::<Result<_>>()?;
    axes.sort();
    axes.dedup();
    if axes.is_empty() {
        return Ok(vec![x]);
    }
    let axes = ctx.i32_vector(&axes)?;
    let keep_dims = node.flag("keep_dims");
    if let (ReduceOp::Product, Some(sizes), false) = (op, ctx.sizes_of(x), ctx.is_constant(x)) {
        let factors = sizes.iter().map(|size| match size {
            Size::Number(number) => number.to_string(),
            Size::Symbol(text) => format!("({text})"),
        });
        let product = vec![Size::Symbol(factors.collect::<Vec<_>>().join("*"))];
        let shape: &[usize] = if keep_dims { &[1] } else { &[] };
        return Ok(vec![ctx.emit_sizes(
            LiteOp::Reduce { op, keep_dims },
            &[x, axes],
            shape,
            product,
        )?]);
    }
    Ok(vec![ctx.emit(LiteOp::Reduce { op, keep_dims }, &[x, axes])?])
}
