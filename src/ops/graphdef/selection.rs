//! What is chosen by its value.

use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let inputs = ctx.inputs(node)?;
    let element = ctx.type_of(node, 0)?;
    let value = match &node.op {
        LiteOp::Where => ctx.add("Where", &inputs, &[("T", element)]),
        LiteOp::NonMaxSuppression => {
            let attributes = [
                ("T", element.clone()),
                ("T_threshold", element),
                ("pad_to_max_output_size", Attribute::Bool(true)),
            ];
            ctx.add("NonMaxSuppressionV4", &inputs, &attributes)
        }
        other => bail!("{} chooses nothing", other.name()),
    };
    ctx.bind_all(node, value)
}
