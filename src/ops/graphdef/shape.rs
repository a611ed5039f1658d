//! The same elements in another shape or order.

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
