//! Elementwise ops of one operand, and the activations that other ops carry fused.

use super::compose::Chain;
use super::*;
use crate::format::tflite::{ActivationFunctionType, GeluOptions, LeakyReluOptions};
use crate::graph::{Activation, BinaryOp, UnaryOp};
use crate::tract::ops::binary::TypedBinOp;
use crate::tract::ops::element_wise::{ElementWiseMiniOp, ElementWiseOp};
use crate::tract::ops::{logic, math, nn};
use anyhow::bail;

fn unary_of(op: &dyn ElementWiseMiniOp) -> Option<UnaryOp> {
    Some(if op.is::<math::Abs>() {
        UnaryOp::Abs
    } else if op.is::<math::Ceil>() {
        UnaryOp::Ceil
    } else if op.is::<math::Cos>() {
        UnaryOp::Cos
    } else if op.is::<math::Exp>() {
        UnaryOp::Exp
    } else if op.is::<math::Floor>() {
        UnaryOp::Floor
    } else if op.is::<math::Ln>() {
        UnaryOp::Log
    } else if op.is::<nn::Sigmoid>() {
        UnaryOp::Logistic
    } else if op.is::<math::Neg>() {
        UnaryOp::Neg
    } else if op.is::<math::RoundHalfToEven>() {
        UnaryOp::Round
    } else if op.is::<math::Rsqrt>() {
        UnaryOp::Rsqrt
    } else if op.is::<math::Sin>() {
        UnaryOp::Sin
    } else if op.is::<math::Sqrt>() {
        UnaryOp::Sqrt
    } else if op.is::<math::Square>() {
        UnaryOp::Square
    } else if op.is::<math::Tanh>() {
        UnaryOp::Tanh
    } else if op.is::<nn::HardSwish>() {
        UnaryOp::HardSwish
    } else if op.is::<math::Sign>() {
        UnaryOp::Sign
    } else {
        return None;
    })
}

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(ElementWiseOp(op, _)) = node.op_as::<ElementWiseOp>() else { return Ok(None) };
    let op = op.as_ref();
    let element = ctx.element(node.inputs[0])?;
    let shape = ctx.shape(node.inputs[0])?;
    let to = ctx.element(OutletId::new(node.id, 0))?;
    let result = match element {
        ElementType::Bool if op.is::<logic::Not>() || op.is::<logic::BitNot>() => {
            let x = ctx.tensor(node.inputs[0])?;
            Chain::new(ctx, &node.name, element, &shape).unary(UnaryOp::LogicalNot, x)
        }
        ElementType::F32 | ElementType::F16 => {
            let x = ctx.tensor_as(node.inputs[0], ElementType::F32)?;
            let mut chain = Chain::new(ctx, &node.name, ElementType::F32, &shape);
            match float_op(&mut chain, op, x)? {
                Some(result) => result,
                None => return Ok(None),
            }
        }
        ElementType::I8
        | ElementType::U8
        | ElementType::I16
        | ElementType::I32
        | ElementType::I64 => {
            let inner = if element == ElementType::I64 { element } else { ElementType::I32 };
            let x = ctx.tensor_as(node.inputs[0], inner)?;
            let mut chain = Chain::new(ctx, &node.name, inner, &shape);
            match integer_op(&mut chain, op, x)? {
                Some(result) => result,
                None => return Err(refusal::of_type(op.name(), element)),
            }
        }
        _ => return Err(refusal::of_type(op.name(), element)),
    };
    let result = ctx.cast(&node.name, result, to);
    ctx.bind(node, result);
    Ok(Some(()))
}

fn integer_op(
    chain: &mut Chain,
    op: &dyn ElementWiseMiniOp,
    x: TensorId,
) -> Result<Option<TensorId>> {
    Ok(Some(if op.is::<math::Abs>() {
        let opposite = chain.unary(UnaryOp::Neg, x);
        chain.binary(BinaryOp::Maximum, x, opposite)
    } else if op.is::<math::Neg>() {
        chain.unary(UnaryOp::Neg, x)
    } else if op.is::<math::Sign>() {
        let (low, high) = (chain.scalar(-1.0)?, chain.scalar(1.0)?);
        let over = chain.binary(BinaryOp::Maximum, x, low);
        chain.binary(BinaryOp::Minimum, over, high)
    } else if op.is::<logic::BitNot>() {
        let minus_one = chain.scalar(-1.0)?;
        chain.binary(BinaryOp::Sub, minus_one, x)
    } else {
        return Ok(None);
    }))
}

/// A float op, alone or composed.
fn float_op(
    chain: &mut Chain,
    op: &dyn ElementWiseMiniOp,
    x: TensorId,
) -> Result<Option<TensorId>> {
    if let Some(unary) = unary_of(op) {
        return Ok(Some(chain.unary(unary, x)));
    }
    let single = if let Some(leaky) = op.downcast_ref::<nn::LeakyRelu>() {
        Some(LiteOp::LeakyRelu { alpha: leaky.alpha })
    } else if op.is::<nn::GeluExact>() {
        Some(LiteOp::Gelu { approximate: false })
    } else if op.is::<nn::GeluApproximate>() {
        Some(LiteOp::Gelu { approximate: true })
    } else {
        None
    };
    if let Some(single) = single {
        return Ok(Some(chain.single(single, x)));
    }
    Ok(Some(if let Some(power) = op.downcast_ref::<math::PowConst>() {
        let exponent = chain.scalar(power.exponent)?;
        chain.binary(BinaryOp::Pow, x, exponent)
    } else if op.is::<math::Recip>() {
        let one = chain.scalar(1.0)?;
        chain.binary(BinaryOp::Div, one, x)
    } else if op.is::<nn::Silu>() {
        let gate = chain.unary(UnaryOp::Logistic, x);
        chain.binary(BinaryOp::Mul, x, gate)
    } else if op.is::<math::Tan>() {
        let (sin, cos) = (chain.unary(UnaryOp::Sin, x), chain.unary(UnaryOp::Cos, x));
        chain.binary(BinaryOp::Div, sin, cos)
    } else if op.is::<math::Sinh>() || op.is::<math::Cosh>() {
        let opposite = chain.unary(UnaryOp::Neg, x);
        let (up, down) = (chain.unary(UnaryOp::Exp, x), chain.unary(UnaryOp::Exp, opposite));
        let join = if op.is::<math::Sinh>() { BinaryOp::Sub } else { BinaryOp::Add };
        let both = chain.binary(join, up, down);
        let half = chain.scalar(0.5)?;
        chain.binary(BinaryOp::Mul, both, half)
    } else if op.is::<math::Asinh>() {
        let one = chain.scalar(1.0)?;
        let (size, sign) = (chain.unary(UnaryOp::Abs, x), chain.unary(UnaryOp::Sign, x));
        let square = chain.unary(UnaryOp::Square, x);
        let sum = chain.binary(BinaryOp::Add, square, one);
        let root = chain.unary(UnaryOp::Sqrt, sum);
        let sum = chain.binary(BinaryOp::Add, size, root);
        let log = chain.unary(UnaryOp::Log, sum);
        chain.binary(BinaryOp::Mul, sign, log)
    } else if op.is::<math::Acosh>() {
        let one = chain.scalar(1.0)?;
        let (low, high) =
            (chain.binary(BinaryOp::Sub, x, one), chain.binary(BinaryOp::Add, x, one));
        let (low, high) = (chain.unary(UnaryOp::Sqrt, low), chain.unary(UnaryOp::Sqrt, high));
        let root = chain.binary(BinaryOp::Mul, low, high);
        let sum = chain.binary(BinaryOp::Add, x, root);
        chain.unary(UnaryOp::Log, sum)
    } else if op.is::<math::Atanh>() {
        let (one, half) = (chain.scalar(1.0)?, chain.scalar(0.5)?);
        let (up, down) = (chain.binary(BinaryOp::Add, one, x), chain.binary(BinaryOp::Sub, one, x));
        let ratio = chain.binary(BinaryOp::Div, up, down);
        let log = chain.unary(UnaryOp::Log, ratio);
        chain.binary(BinaryOp::Mul, log, half)
    } else if op.is::<math::Atan>() {
        // 1 for every x
        let one = chain.scalar(1.0)?;
        let ones = chain.binary(BinaryOp::Maximum, x, one);
        let ones = chain.binary(BinaryOp::Minimum, ones, one);
        chain.binary(BinaryOp::Atan2, x, ones)
    } else if op.is::<math::Asin>() || op.is::<math::Acos>() {
        let one = chain.scalar(1.0)?;
        let (low, high) =
            (chain.binary(BinaryOp::Sub, one, x), chain.binary(BinaryOp::Add, one, x));
        let square = chain.binary(BinaryOp::Mul, low, high);
        let root = chain.unary(UnaryOp::Sqrt, square);
        match op.is::<math::Asin>() {
            true => chain.binary(BinaryOp::Atan2, x, root),
            false => chain.binary(BinaryOp::Atan2, root, x),
        }
    } else if op.is::<math::Erf>() {
        error_function(chain, x)?
    } else if op.is::<math::IsNan>() {
        chain.compare(BinaryOp::NotEqual, x, x)
    } else if let Some(infinite) = op.downcast_ref::<math::IsInf>() {
        let infinity = chain.scalar(f32::INFINITY)?;
        match (infinite.detect_positive, infinite.detect_negative) {
            (true, true) => {
                let size = chain.unary(UnaryOp::Abs, x);
                chain.compare(BinaryOp::Equal, size, infinity)
            }
            (true, false) => chain.compare(BinaryOp::Equal, x, infinity),
            (false, true) => {
                let negative = chain.scalar(f32::NEG_INFINITY)?;
                chain.compare(BinaryOp::Equal, x, negative)
            }
            (false, false) => chain.compare(BinaryOp::Less, x, x),
        }
    } else {
        return Ok(None);
    }))
}

/// Abramowitz and Stegun 7.1.26, good to 1.5e-7.
fn error_function(chain: &mut Chain, x: TensorId) -> Result<TensorId> {
    const TERMS: [f32; 5] = [1.061_405_4, -1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6];
    let one = chain.scalar(1.0)?;
    let (size, sign) = (chain.unary(UnaryOp::Abs, x), chain.unary(UnaryOp::Sign, x));
    let slope = chain.scalar(0.327_591_1)?;
    let scaled = chain.binary(BinaryOp::Mul, size, slope);
    let below = chain.binary(BinaryOp::Add, scaled, one);
    let t = chain.binary(BinaryOp::Div, one, below);
    let first = chain.scalar(TERMS[0])?;
    let mut sum = chain.binary(BinaryOp::Mul, t, first);
    for term in &TERMS[1..] {
        let term = chain.scalar(*term)?;
        sum = chain.binary(BinaryOp::Add, sum, term);
        sum = chain.binary(BinaryOp::Mul, sum, t);
    }
    let square = chain.unary(UnaryOp::Square, x);
    let square = chain.unary(UnaryOp::Neg, square);
    let bell = chain.unary(UnaryOp::Exp, square);
    let rest = chain.binary(BinaryOp::Mul, sum, bell);
    let value = chain.binary(BinaryOp::Sub, one, rest);
    Ok(chain.binary(BinaryOp::Mul, sign, value))
}

/// `max(x, 0)` as RELU; `None` for any other op.
pub fn lower_clip(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(TypedBinOp(op, None)) = node.op_as::<TypedBinOp>() else { return Ok(None) };
    if !op.is::<math::Max>() {
        return Ok(None);
    }
    let out_shape = ctx.shape(OutletId::new(node.id, 0))?;
    for (x, bound) in [(0, 1), (1, 0)] {
        let zero = ctx
            .constant(node.inputs[bound])
            .is_some_and(|c| c.datum_type() == DatumType::F32 && c.is_all_zero().unwrap_or(false));
        if zero && ctx.shape(node.inputs[x])? == out_shape {
            let input = ctx.tensor(node.inputs[x])?;
            return ctx.emit_result(node, LiteOp::Unary(UnaryOp::Relu), &[input]).map(Some);
        }
    }
    Ok(None)
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let wire = match &node.op {
        LiteOp::Unary(op) => wire_unary(ctx, name, *op, x)?,
        LiteOp::PRelu => {
            let slope = ctx.input(node, 1)?;
            let [x, slope] = ctx.equalize_ranks(name, x, slope)?;
            let zero = ctx.scalar_like(0.0, x)?;
            let positive = clamp(ctx, name, x, Some(0.0), None)?;
            let negative = ctx.wire(name, math::min(), &[x, zero])?;
            let negative = ctx.wire(name, math::mul(), &[negative, slope])?;
            ctx.wire(name, math::add(), &[positive, negative])?
        }
        LiteOp::LeakyRelu { alpha } => ctx.wire(name, nn::leaky_relu(*alpha), &[x])?,
        LiteOp::Gelu { approximate: false } => {
            ctx.wire(name, nn::gelu_exact::gelu_exact(), &[x])?
        }
        LiteOp::Gelu { approximate: true } => {
            ctx.wire(name, nn::gelu_approximate::gelu_approximate(false), &[x])?
        }
        other => bail!("{} is not an activation", other.name()),
    };
    ctx.finish(node, wire)
}

fn wire_unary(ctx: &mut RaiseContext, name: &str, op: UnaryOp, x: OutletId) -> Result<OutletId> {
    match op {
        UnaryOp::Abs => ctx.wire(name, math::abs(), &[x]),
        UnaryOp::Ceil => ctx.wire(name, math::ceil(), &[x]),
        UnaryOp::Cos => ctx.wire(name, math::cos(), &[x]),
        UnaryOp::Exp => ctx.wire(name, math::exp(), &[x]),
        UnaryOp::Floor => ctx.wire(name, math::floor(), &[x]),
        UnaryOp::Log => ctx.wire(name, math::ln(), &[x]),
        UnaryOp::Logistic => ctx.wire(name, nn::sigmoid(), &[x]),
        UnaryOp::Neg => ctx.wire(name, math::neg(), &[x]),
        UnaryOp::Round => ctx.wire(name, math::round_half_to_even(), &[x]),
        UnaryOp::Rsqrt => ctx.wire(name, math::rsqrt(), &[x]),
        UnaryOp::Sin => ctx.wire(name, math::sin(), &[x]),
        UnaryOp::Sqrt => ctx.wire(name, math::sqrt(), &[x]),
        UnaryOp::Square => ctx.wire(name, math::square(), &[x]),
        UnaryOp::Tanh => ctx.wire(name, math::tanh(), &[x]),
        UnaryOp::HardSwish => ctx.wire(name, nn::hard_swish(), &[x]),
        UnaryOp::Sign => ctx.wire(name, math::sign(), &[x]),
        UnaryOp::LogicalNot => ctx.wire(name, logic::not(), &[x]),
        UnaryOp::Elu => {
            let positive = clamp(ctx, name, x, Some(0.0), None)?;
            let zero = ctx.scalar_like(0.0, x)?;
            let negative = ctx.wire(name, math::min(), &[x, zero])?;
            let power = ctx.wire(name, math::exp(), &[negative])?;
            let one = ctx.scalar_like(1.0, x)?;
            let negative = ctx.wire(name, math::sub(), &[power, one])?;
            ctx.wire(name, math::add(), &[positive, negative])
        }
        UnaryOp::Relu => clamp(ctx, name, x, Some(0.0), None),
        UnaryOp::Relu6 => clamp(ctx, name, x, Some(0.0), Some(6.0)),
        UnaryOp::ReluN1To1 => clamp(ctx, name, x, Some(-1.0), Some(1.0)),
        UnaryOp::Relu0To1 => clamp(ctx, name, x, Some(0.0), Some(1.0)),
    }
}

fn clamp(
    ctx: &mut RaiseContext,
    name: &str,
    x: OutletId,
    low: Option<f32>,
    high: Option<f32>,
) -> Result<OutletId> {
    let mut wire = x;
    if let Some(low) = low {
        let bound = ctx.scalar_like(low, wire)?;
        wire = ctx.wire(name, math::max(), &[wire, bound])?;
    }
    if let Some(high) = high {
        let bound = ctx.scalar_like(high, wire)?;
        wire = ctx.wire(name, math::min(), &[wire, bound])?;
    }
    Ok(wire)
}

/// What an op's fused activation does to its result.
pub fn wire_fused(
    ctx: &mut RaiseContext,
    name: &str,
    activation: Activation,
    wire: OutletId,
) -> Result<OutletId> {
    match activation {
        Activation::None => Ok(wire),
        Activation::SignBit => bail!("'{name}': the fused activation SIGN_BIT is not supported"),
        other => match other.as_unary() {
            Some(unary) => wire_unary(ctx, &format!("{name}/activation"), unary, wire),
            None => Ok(wire),
        },
    }
}

pub fn read_fused(function: ActivationFunctionType) -> Activation {
    match function {
        ActivationFunctionType::None => Activation::None,
        ActivationFunctionType::Relu => Activation::Relu,
        ActivationFunctionType::ReluN1To1 => Activation::ReluN1To1,
        ActivationFunctionType::Relu6 => Activation::Relu6,
        ActivationFunctionType::Tanh => Activation::Tanh,
        ActivationFunctionType::SignBit => Activation::SignBit,
    }
}

pub fn write_fused(activation: Activation) -> ActivationFunctionType {
    match activation {
        Activation::None => ActivationFunctionType::None,
        Activation::Relu => ActivationFunctionType::Relu,
        Activation::ReluN1To1 => ActivationFunctionType::ReluN1To1,
        Activation::Relu6 => ActivationFunctionType::Relu6,
        Activation::Tanh => ActivationFunctionType::Tanh,
        Activation::SignBit => ActivationFunctionType::SignBit,
    }
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(match &op.options {
        BuiltinOptions::LeakyRelu(o) => Some(LiteOp::LeakyRelu { alpha: o.alpha }),
        BuiltinOptions::Gelu(o) => Some(LiteOp::Gelu { approximate: o.approximate }),
        _ if op.builtin == BuiltinOperator::PRELU => Some(LiteOp::PRelu),
        _ => UnaryOp::ALL.into_iter().find(|u| u.name() == op.builtin.name()).map(LiteOp::Unary),
    })
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    Ok(match &node.op {
        LiteOp::PRelu => TfliteOp::new(BuiltinOperator::PRELU, 1, BuiltinOptions::None),
        LiteOp::LeakyRelu { alpha } => TfliteOp::new(
            BuiltinOperator::LEAKY_RELU,
            version_of(input_element(graph, node, 0), &[(ElementType::I16, 2)]),
            BuiltinOptions::LeakyRelu(LeakyReluOptions { alpha: *alpha }),
        ),
        LiteOp::Gelu { approximate } => TfliteOp::new(
            BuiltinOperator::GELU,
            version_of(
                input_element(graph, node, 0),
                &[(ElementType::I8, 2), (ElementType::U8, 2)],
            ),
            BuiltinOptions::Gelu(GeluOptions { approximate: *approximate }),
        ),
        LiteOp::Unary(op) => {
            let (builtin, options) = match op {
                UnaryOp::Abs => (BuiltinOperator::ABS, BuiltinOptions::Abs),
                UnaryOp::Ceil => (BuiltinOperator::CEIL, BuiltinOptions::None),
                UnaryOp::Cos => (BuiltinOperator::COS, BuiltinOptions::Cos),
                UnaryOp::Exp => (BuiltinOperator::EXP, BuiltinOptions::Exp),
                UnaryOp::Floor => (BuiltinOperator::FLOOR, BuiltinOptions::None),
                UnaryOp::Log => (BuiltinOperator::LOG, BuiltinOptions::None),
                UnaryOp::Logistic => (BuiltinOperator::LOGISTIC, BuiltinOptions::None),
                UnaryOp::Neg => (BuiltinOperator::NEG, BuiltinOptions::Neg),
                UnaryOp::Relu => (BuiltinOperator::RELU, BuiltinOptions::None),
                UnaryOp::Relu6 => (BuiltinOperator::RELU6, BuiltinOptions::None),
                UnaryOp::ReluN1To1 => (BuiltinOperator::RELU_N1_TO_1, BuiltinOptions::None),
                UnaryOp::Relu0To1 => (BuiltinOperator::RELU_0_TO_1, BuiltinOptions::None),
                UnaryOp::Round => (BuiltinOperator::ROUND, BuiltinOptions::None),
                UnaryOp::Rsqrt => (BuiltinOperator::RSQRT, BuiltinOptions::None),
                UnaryOp::Sin => (BuiltinOperator::SIN, BuiltinOptions::None),
                UnaryOp::Sqrt => (BuiltinOperator::SQRT, BuiltinOptions::None),
                UnaryOp::Square => (BuiltinOperator::SQUARE, BuiltinOptions::Square),
                UnaryOp::Tanh => (BuiltinOperator::TANH, BuiltinOptions::None),
                UnaryOp::Elu => (BuiltinOperator::ELU, BuiltinOptions::None),
                UnaryOp::Sign => (BuiltinOperator::SIGN, BuiltinOptions::Sign),
                UnaryOp::LogicalNot => (BuiltinOperator::LOGICAL_NOT, BuiltinOptions::LogicalNot),
                UnaryOp::HardSwish => (BuiltinOperator::HARD_SWISH, BuiltinOptions::HardSwish),
            };
            let element = input_element(graph, node, 0);
            use ElementType::{I8, I16, U8};
            let version = match op {
                UnaryOp::Abs => {
                    version_of(element, &[(ElementType::I32, 5), (I16, 3), (I8, 2), (U8, 2)])
                }
                UnaryOp::Relu => version_of(element, &[(I16, 3), (I8, 2), (U8, 2)]),
                UnaryOp::Relu6 | UnaryOp::Rsqrt | UnaryOp::Tanh | UnaryOp::Logistic => {
                    version_of(element, &[(I16, 3), (I8, 2)])
                }
                UnaryOp::Exp | UnaryOp::Log | UnaryOp::Sqrt => {
                    version_of(element, &[(I16, 2), (I8, 2)])
                }
                UnaryOp::Sign => version_of(element, &[(ElementType::I32, 2)]),
                _ => 1,
            };
            TfliteOp::new(builtin, version, options)
        }
        other => bail!("{} is not an activation", other.name()),
    })
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    super::permute_elementwise(graph, node, permutation)
}
