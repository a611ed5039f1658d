//! Windows without weights.

use super::conv::{padding_name, whole};
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
