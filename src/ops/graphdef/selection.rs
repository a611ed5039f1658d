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

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    match node.op {
        "Where" => Ok(vec![ctx.emit_as(LiteOp::Where, &[node.input(0)?], ElementType::I64)?]),
        _ => {
            ensure!(
                node.flag("pad_to_max_output_size"),
                "it gives as many boxes as there are; pad_to_max_output_size is read only"
            );
            let types = [ElementType::I32; 2];
            ctx.emit_all(LiteOp::NonMaxSuppression, &node.inputs, &types)
        }
    }
}
