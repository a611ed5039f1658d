//! Ops of two operands.

use super::*;
use crate::graph::BinaryOp;
use crate::kernels::fixed_point::Multiplier;
use crate::tract::typed_ops::quantized::{Binary, BinaryFunction, Requantize, Rescale, SumOfTwo};

pub fn raise(
    ctx: &mut RaiseContext,
    node: &Node,
    ordinary: fn(&mut RaiseContext, &Node) -> Result<()>,
) -> Result<Option<()>> {
    let (op, activation) = match &node.op {
        LiteOp::Binary { op, activation } => (Some(*op), *activation),
        _ => (None, Activation::None),
    };
    if matches!(op, Some(BinaryOp::Maximum | BinaryOp::Minimum)) {
        return ordinary(ctx, node).map(Some);
    }
    let (Some(x), Some(y)) = (input_of(ctx, node, 0), input_of(ctx, node, 1)) else {
        return Ok(None);
    };
    let to = node.outputs.first().map(|&t| ctx.graph.tensors[t].element);
    let (function, datum) = match op {
        Some(op) if to == Some(ElementType::Bool) => match comparison(op, x, y) {
            Some(function) => (function, DatumType::Bool),
            None => return Ok(None),
        },
        _ => {
            let Some(output) = output_of(ctx, node) else { return Ok(None) };
            let Some(bounds) = activation_bounds(activation, output) else { return Ok(None) };
            match arithmetic(op, x, y, output, bounds) {
                Some(function) => (function, output.datum),
                None => return Ok(None),
            }
        }
    };
    let name = ctx.output_name(node);
    let (a, b) = (ctx.input(node, 0)?, ctx.input(node, 1)?);
    let operands = ctx.equalize_ranks(name, a, b)?;
    let op = Binary::new(label(op), function, datum);
    let wire = ctx.wire(name, Quantized::new(op), &operands)?;
    ctx.finish(node, wire).map(Some)
}

fn label(op: Option<BinaryOp>) -> &'static str {
    match op {
        None => "QuantizedPRelu",
        Some(BinaryOp::Add) => "QuantizedAdd",
        Some(BinaryOp::Sub) => "QuantizedSub",
        Some(BinaryOp::Mul) => "QuantizedMul",
        Some(BinaryOp::SquaredDifference) => "QuantizedSquaredDifference",
        Some(_) => "QuantizedComparison",
    }
}

/// `op` is absent of PRELU.
fn arithmetic(
    op: Option<BinaryOp>,
    x: Affine,
    y: Affine,
    output: Affine,
    bounds: [i32; 2],
) -> Option<BinaryFunction> {
    let zero_points = [x.zero_point, y.zero_point];
    let requantize = |real: f64| Requantize {
        datum: output.datum,
        rescale: vec![Rescale::Fixed(Multiplier::of(real))],
        zero_point: output.zero_point,
        bounds,
    };
    let twice = f64::from(2.0 * x.scale.max(y.scale));
    let multipliers = [x, y].map(|side| Multiplier::of(f64::from(side.scale) / twice));
    let sum = |left_shift: u32, subtracts: bool, real: f64| SumOfTwo {
        zero_points,
        left_shift,
        multipliers,
        subtracts,
        output: requantize(real),
    };
    let same_types = x.datum == y.datum && x.datum == output.datum;
    let left_shift = if x.datum == DatumType::I16 { 15 } else { 20 };
    let unit = |bits: u32| f64::from((1u32 << bits) as f32 * output.scale);
    Some(match op {
        Some(op @ (BinaryOp::Add | BinaryOp::Sub)) if same_types => {
            let subtracts = op == BinaryOp::Sub;
            BinaryFunction::Sum(sum(left_shift, subtracts, twice / unit(left_shift)))
        }
        Some(BinaryOp::Mul) if same_types => {
            let real = f64::from(x.scale * y.scale / output.scale);
            BinaryFunction::Product { zero_points, output: requantize(real) }
        }
        Some(BinaryOp::SquaredDifference) if same_types && x.datum == DatumType::I8 => {
            BinaryFunction::SquaredDifference(sum(7, true, twice * twice / unit(14)))
        }
        None => BinaryFunction::PRelu {
            zero_points,
            positive: requantize(f64::from(x.scale / output.scale)),
            negative: requantize(f64::from(x.scale * y.scale / output.scale)),
        },
        _ => return None,
    })
}

fn comparison(op: BinaryOp, x: Affine, y: Affine) -> Option<BinaryFunction> {
    // of less, equal and greater
    let holds = match op {
        BinaryOp::Equal => [false, true, false],
        BinaryOp::NotEqual => [true, false, true],
        BinaryOp::Less => [true, false, false],
        BinaryOp::LessEqual => [true, true, false],
        BinaryOp::Greater => [false, false, true],
        BinaryOp::GreaterEqual => [false, true, true],
        _ => return None,
    };
    let zero_points = [x.zero_point, y.zero_point];
    let multipliers = [x, y].map(|side| Multiplier::of(f64::from(side.scale)));
    Some(BinaryFunction::Comparison { zero_points, multipliers, holds })
}
