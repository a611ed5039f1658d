//! What makes an axis shorter, or runs along one.

use super::*;

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
