//! Borders.

use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let inputs = ctx.inputs(node)?;
    let mut attributes = vec![("T", ctx.type_of(node, 0)?), ("Tpaddings", ctx.type_of(node, 1)?)];
    let value = match &node.op {
        LiteOp::Pad if inputs.len() > 2 => ctx.add("PadV2", &inputs, &attributes),
        LiteOp::Pad => ctx.add("Pad", &inputs, &attributes),
        LiteOp::MirrorPad { mode } => {
            let mode = match mode {
                MirrorMode::Reflect => "REFLECT",
                MirrorMode::Symmetric => "SYMMETRIC",
            };
            attributes.push(("mode", Attribute::Text(mode)));
            ctx.add("MirrorPad", &inputs, &attributes)
        }
        other => bail!("{} does not pad", other.name()),
    };
    ctx.bind(node, value)
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let (x, paddings) = (node.input(0)?, ctx.as_i32(node.input(1)?)?);
    let y = match node.op {
        "Pad" => ctx.emit(LiteOp::Pad, &[x, paddings])?,
        "PadV2" => ctx.emit(LiteOp::Pad, &[x, paddings, node.input(2)?])?,
        _ => {
            let mode = match node.text("mode") {
                "REFLECT" => MirrorMode::Reflect,
                "SYMMETRIC" => MirrorMode::Symmetric,
                other => bail!("mode '{other}'"),
            };
            ctx.emit(LiteOp::MirrorPad { mode }, &[x, paddings])?
        }
    };
    Ok(vec![y])
}
