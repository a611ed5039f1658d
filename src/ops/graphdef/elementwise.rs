//! Elementwise ops of two and three operands.

use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    match &node.op {
        LiteOp::Binary { op, activation } => {
            let value = binary(ctx, node, *op)?;
            ctx.bind_activated(node, *activation, value)
        }
        LiteOp::Select => {
            let inputs = ctx.inputs(node)?;
            let element = ctx.output_tensor(node)?.element;
            let value = ctx.add_typed("SelectV2", element, &inputs);
            ctx.bind(node, value)
        }
        other => bail!("{} is not elementwise", other.name()),
    }
}

fn binary(ctx: &mut GraphDefContext, node: &Node, op: BinaryOp) -> Result<GraphDefValue> {
    let operands = [ctx.input_or_weight(node, 0)?, ctx.input_or_weight(node, 1)?];
    let element = ctx.input_tensor(node, 0)?.element;
    let is_float = matches!(element, ElementType::F32 | ElementType::F16);
    let name = match op {
        BinaryOp::Add => "AddV2",
        BinaryOp::Sub => "Sub",
        BinaryOp::Mul => "Mul",
        BinaryOp::Div if is_float => "RealDiv",
        BinaryOp::Div if ctx.is_js() => return Ok(truncated_quotient(ctx, element, operands)),
        BinaryOp::Div => "TruncateDiv",
        BinaryOp::Maximum => "Maximum",
        BinaryOp::Minimum => "Minimum",
        BinaryOp::Pow => "Pow",
        BinaryOp::SquaredDifference => "SquaredDifference",
        BinaryOp::FloorDiv => "FloorDiv",
        BinaryOp::FloorMod => "FloorMod",
        BinaryOp::LogicalAnd => return Ok(ctx.add("LogicalAnd", &operands, &[])),
        BinaryOp::LogicalOr => return Ok(ctx.add("LogicalOr", &operands, &[])),
        BinaryOp::Equal => "Equal",
        BinaryOp::NotEqual => "NotEqual",
        BinaryOp::Less => "Less",
        BinaryOp::LessEqual => "LessEqual",
        BinaryOp::Greater => "Greater",
        BinaryOp::GreaterEqual => "GreaterEqual",
        BinaryOp::BitwiseXor | BinaryOp::RightShift if ctx.is_js() => {
            bail!("TensorFlow.js has no ops on bits")
        }
        BinaryOp::BitwiseXor => "BitwiseXor",
        BinaryOp::RightShift => "RightShift",
        BinaryOp::Atan2 => "Atan2",
    };
    let shapes = [0, 1].map(|index| ctx.input_tensor(node, index).map(|tensor| &tensor.shape));
    let [x, y] = shapes;
    let parts = broadcast_parts(x?, y?);
    ensure!(
        ctx.is_js() || parts <= MOST_PARTS,
        "its operands are stretched in {parts} places, TensorFlow does so in up to {MOST_PARTS}; Expand one of them \
         to the shape of the result before it"
    );
    Ok(ctx.add_typed(name, element, &operands))
}

/// As many axes TensorFlow's kernels on CPUs stretch, neighbours of one kind taken together.
const MOST_PARTS: usize = 5;

/// How many runs of axes there are of which both operands have all, or only one has.
fn broadcast_parts(x: &[Dim], y: &[Dim]) -> usize {
    let from_the_end = |shape: &[Dim], place| shape.iter().rev().nth(place).cloned();
    let is_stretched = |dim: Option<Dim>| dim.is_none_or(|dim| dim == Dim::Known(1));
    let mut parts = vec![];
    for place in 0..x.len().max(y.len()) {
        let kinds = [x, y].map(|shape| is_stretched(from_the_end(shape, place)));
        if kinds != [true, true] && parts.last() != Some(&kinds) {
            parts.push(kinds);
        }
    }
    parts.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_of_one_kind_are_taken_together() {
        let shape = |sizes: &[usize]| sizes.iter().map(|&n| Dim::Known(n)).collect::<Vec<_>>();
        let cases: [(&[usize], &[usize], usize); 5] = [
            (&[2, 3, 4], &[2, 3, 4], 1),
            (&[2, 3, 4], &[4], 2),
            (&[2, 1, 4], &[1, 3, 1], 3),
            (&[], &[], 0),
            (&[2, 1, 2, 1, 2, 1], &[1, 2, 1, 2, 1, 2], 6),
        ];
        for (x, y, expected) in cases {
            assert_eq!(broadcast_parts(&shape(x), &shape(y)), expected, "{x:?} {y:?}");
        }
    }
}

/// Of integers, for a target that rounds quotients down.
fn truncated_quotient(
    ctx: &mut GraphDefContext,
    element: ElementType,
    operands: [GraphDefValue; 2],
) -> GraphDefValue {
    let sizes = operands.map(|x| ctx.add_typed("Abs", element, &[x]));
    let signs = operands.map(|x| ctx.add_typed("Sign", element, &[x]));
    let size = ctx.add_typed("FloorDiv", element, &sizes);
    let sign = ctx.add_typed("Mul", element, &signs);
    ctx.add_typed("Mul", element, &[size, sign])
}
