//! Over the last axis.

use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let mut x = ctx.input(node, 0)?;
    let element = ctx.input_tensor(node, 0)?.element;
    let op = match &node.op {
        LiteOp::Softmax { beta } => {
            if *beta != 1.0 {
                let beta = ctx.scalar(element, *beta);
                x = ctx.add_typed("Mul", element, &[x, beta]);
            }
            "Softmax"
        }
        LiteOp::LogSoftmax => "LogSoftmax",
        other => bail!("{} is no softmax", other.name()),
    };
    let attributes = ("T", Attribute::Type(element));
    let value = ctx.add(op, &[x], &[attributes]);
    ctx.bind(node, value)
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let op = match node.op {
        "Softmax" => LiteOp::Softmax { beta: 1.0 },
        _ => LiteOp::LogSoftmax,
    };
    Ok(vec![ctx.emit(op, &[node.input(0)?])?])
}
