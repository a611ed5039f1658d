//! Windows without weights.

use super::conv::{padding_name, spatial, whole};
use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let x = ctx.input(node, 0)?;
    let element = ("T", ctx.type_of(node, 0)?);
    match &node.op {
        LiteOp::Pool2D { kind, padding, strides, filter, activation } => {
            let op = match kind {
                PoolKind::Average => "AvgPool",
                PoolKind::Max => "MaxPool",
            };
            let attributes = [
                element,
                ("ksize", whole(filter)),
                ("strides", whole(strides)),
                ("padding", padding_name(*padding)),
                ("data_format", Attribute::Text("NHWC")),
            ];
            let value = ctx.add(op, &[x], &attributes);
            ctx.bind_activated(node, *activation, value)
        }
        LiteOp::LocalResponseNormalization { radius, bias, alpha, beta } => {
            let attributes = [
                element,
                ("depth_radius", Attribute::Int(*radius as i64)),
                ("bias", Attribute::Float(*bias)),
                ("alpha", Attribute::Float(*alpha)),
                ("beta", Attribute::Float(*beta)),
            ];
            let value = ctx.add("LRN", &[x], &attributes);
            ctx.bind(node, value)
        }
        other => bail!("{} is no window", other.name()),
    }
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let x = node.input(0)?;
    if node.op == "LRN" {
        let op = LiteOp::LocalResponseNormalization {
            radius: usize::try_from(node.int("depth_radius").unwrap_or(5))?,
            bias: node.float("bias").unwrap_or(1.0),
            alpha: node.float("alpha").unwrap_or(1.0),
            beta: node.float("beta").unwrap_or(0.5),
        };
        return Ok(vec![ctx.emit(op, &[x])?]);
    }
    ensure!(ctx.rank(x) == 4, "a window over rank {}", ctx.rank(x));
    ensure!(
        node.op != "MaxPoolV2",
        "its window is an input; save the model with TensorFlow 2's MaxPool"
    );
    let (filter, strides) = (spatial(node, "ksize")?, spatial(node, "strides")?);
    let kind = if node.op == "AvgPool" { PoolKind::Average } else { PoolKind::Max };
    let x = ctx.to_channels_last(node, x)?;
    let padding = match node.text("padding") {
        "SAME" => Padding::Same,
        "VALID" => Padding::Valid,
        other => bail!("padding '{other}' of a pooling window"),
    };
    let op = LiteOp::Pool2D { kind, padding, strides, filter, activation: Activation::None };
    let y = ctx.emit(op, &[x])?;
    Ok(vec![ctx.from_channels_last(node, y)?])
}
