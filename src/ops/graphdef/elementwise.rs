//! Elementwise ops of two and three operands.

use super::read_context::{BlockConvolution, Form, is_channels_first};
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

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let x = node.input(0)?;
    let y = match node.op {
        "AddN" => {
            let mut sum = x;
            for &term in &node.inputs[1..] {
                sum = ctx.binary(BinaryOp::Add, sum, term)?;
            }
            sum
        }
        "BiasAdd" | "BiasAddV1" => read_bias(ctx, node)?,
        "FusedBatchNorm" | "FusedBatchNormV2" | "FusedBatchNormV3" => {
            read_normalization(ctx, node)?
        }
        "Select" | "SelectV2" => {
            let (mut condition, rank) = (x, ctx.rank(node.input(1)?));
            if node.op == "Select" && ctx.rank(condition) == 1 && rank > 1 {
                // of rows
                let mut dims = ctx.shape(condition).to_vec();
                dims.resize(rank, Dim::Known(1));
                condition = ctx.reshape(condition, &dims, condition)?;
            }
            let element = ctx.element(node.input(1)?);
            let inputs = [condition, node.input(1)?, node.input(2)?];
            ctx.emit_as(LiteOp::Select, &inputs, element)?
        }
        op => {
            let op = binary_of(op).with_context(|| format!("{op} is not elementwise"))?;
            return Ok(vec![read_binary(ctx, op, x, node.input(1)?)?]);
        }
    };
    Ok(vec![y])
}

fn binary_of(op: &str) -> Option<BinaryOp> {
    Some(match op {
        "Add" | "AddV2" => BinaryOp::Add,
        "Sub" => BinaryOp::Sub,
        "Mul" => BinaryOp::Mul,
        "RealDiv" | "Div" | "TruncateDiv" => BinaryOp::Div,
        "Maximum" => BinaryOp::Maximum,
        "Minimum" => BinaryOp::Minimum,
        "Pow" => BinaryOp::Pow,
        "SquaredDifference" => BinaryOp::SquaredDifference,
        "FloorDiv" => BinaryOp::FloorDiv,
        "FloorMod" => BinaryOp::FloorMod,
        "LogicalAnd" => BinaryOp::LogicalAnd,
        "LogicalOr" => BinaryOp::LogicalOr,
        "Equal" => BinaryOp::Equal,
        "NotEqual" => BinaryOp::NotEqual,
        "Less" => BinaryOp::Less,
        "LessEqual" => BinaryOp::LessEqual,
        "Greater" => BinaryOp::Greater,
        "GreaterEqual" => BinaryOp::GreaterEqual,
        "BitwiseXor" => BinaryOp::BitwiseXor,
        "RightShift" => BinaryOp::RightShift,
        "Atan2" => BinaryOp::Atan2,
        _ => return None,
    })
}

/// Operands of which one may be part of a GELU.
fn read_binary(
    ctx: &mut GraphDefReader,
    op: BinaryOp,
    x: TensorId,
    y: TensorId,
) -> Result<TensorId> {
    for (curve, other) in [(x, y), (y, x)] {
        let Some(&Form::ErrorFunction { x: inner, factor, shift }) = ctx.form(curve) else {
            continue;
        };
        let element = ctx.element(curve);
        let shape = ctx.shape(curve).to_vec();
        match (op, ctx.number_of(other)) {
            (BinaryOp::Add, Some(number)) => {
                let shift = shift + number / factor;
                return Ok(ctx.stand_in(
                    Form::ErrorFunction { x: inner, factor, shift },
                    element,
                    shape,
                ));
            }
            (BinaryOp::Mul, Some(number)) => {
                let factor = factor * number;
                return Ok(ctx.stand_in(
                    Form::ErrorFunction { x: inner, factor, shift },
                    element,
                    shape,
                ));
            }
            (BinaryOp::Mul, None) => {
                let whole = super::activation::scaled(ctx, other);
                let is_gelu = whole.is_some_and(|(of, scale)| {
                    of == inner && (scale * factor - 0.5).abs() < 1e-6 && (shift - 1.0).abs() < 1e-6
                });
                ensure!(is_gelu, "the error function can be read as part of a GELU only");
                return ctx.emit(LiteOp::Gelu { approximate: false }, &[inner]);
            }
            _ => bail!("the error function can be read as part of a GELU only"),
        }
    }
    let result = ctx.binary(op, x, y)?;
    let multiple = match (op, ctx.number_of(x), ctx.number_of(y)) {
        (BinaryOp::Mul, None, Some(number)) => Some((x, number)),
        (BinaryOp::Mul, Some(number), None) => Some((y, number)),
        (BinaryOp::Div, None, Some(number)) if ctx.element(x) == ElementType::F32 => {
            Some((x, 1.0 / number))
        }
        _ => None,
    };
    if let Some((of, number)) = multiple
        && ctx.shape(of) == ctx.shape(result)
        && let Some((x, factor)) = super::activation::scaled(ctx, of)
    {
        ctx.set_form(result, Form::Scaled { x, factor: factor * number });
    }
    Ok(result)
}

fn read_bias(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<TensorId> {
    let (x, bias) = (node.input(0)?, node.input(1)?);
    if let Some(Form::BlockConvolution(found)) = ctx.form(x).cloned() {
        ensure!(found.bias.is_none() && ctx.is_constant(bias), "a second bias of blocks");
        let (element, shape) = (ctx.element(x), ctx.shape(x).to_vec());
        let with_bias = BlockConvolution { bias: Some(bias), ..*found };
        return Ok(ctx.stand_in(Form::BlockConvolution(Box::new(with_bias)), element, shape));
    }
    let bias = along_channels(ctx, node, x, bias)?;
    ctx.binary(BinaryOp::Add, x, bias)
}

/// A vector of the channels of `x`, so that it is broadcast along them.
fn along_channels(
    ctx: &mut GraphDefReader,
    node: &GraphDefInput,
    x: TensorId,
    vector: TensorId,
) -> Result<TensorId> {
    let rank = ctx.rank(x);
    ensure!(ctx.rank(vector) == 1, "values of the channels of rank {}", ctx.rank(vector));
    if !is_channels_first(node) || rank < 3 {
        return Ok(vector);
    }
    let mut dims = ctx.shape(vector).to_vec();
    dims.resize(rank - 1, Dim::Known(1));
    ctx.reshape(vector, &dims, vector)
}

/// `(x − mean) · scale / √(variance + ε) + offset`, as one product and one sum.
fn read_normalization(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<TensorId> {
    // left out, it is true
    ensure!(
        node.attributes.contains_key("is_training") && !node.flag("is_training"),
        "it normalizes by the batch, as in training; save the model for inference (training=False)"
    );
    ensure!(node.outputs <= 1, "its statistics are read");
    let x = node.input(0)?;
    let [scale, offset, mean, variance] =
        [node.input(1)?, node.input(2)?, node.input(3)?, node.input(4)?];
    let epsilon = node.float("epsilon").unwrap_or(1e-4);
    let root = ctx.with_number(BinaryOp::Add, variance, epsilon)?;
    let root = ctx.unary(UnaryOp::Rsqrt, root)?;
    let factor = ctx.binary(BinaryOp::Mul, scale, root)?;
    let moved = ctx.binary(BinaryOp::Mul, mean, factor)?;
    let offset = ctx.binary(BinaryOp::Sub, offset, moved)?;
    let factor = along_channels(ctx, node, x, factor)?;
    let offset = along_channels(ctx, node, x, offset)?;
    let product = ctx.binary(BinaryOp::Mul, x, factor)?;
    ctx.binary(BinaryOp::Add, product, offset)
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
