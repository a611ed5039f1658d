//! Elementwise ops of one operand, and activations that other ops carry fused.

use super::read_context::Form;
use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let x = ctx.input(node, 0)?;
    let element = ctx.input_tensor(node, 0)?.element;
    let value = match &node.op {
        LiteOp::Unary(op) => unary(ctx, *op, element, x),
        LiteOp::LeakyRelu { alpha } => {
            let attributes = [("T", Attribute::Type(element)), ("alpha", Attribute::Float(*alpha))];
            ctx.add("LeakyRelu", &[x], &attributes)
        }
        LiteOp::Gelu { approximate } => gelu(ctx, *approximate, element, x),
        LiteOp::PRelu => {
            let slope = ctx.input_or_weight(node, 1)?;
            match ctx.is_js() {
                true => ctx.add_typed("Prelu", element, &[x, slope]),
                // as Keras spells it: converters know it again
                false => {
                    let positive = ctx.add_typed("Relu", element, &[x]);
                    let negated = ctx.add_typed("Neg", element, &[x]);
                    let negative = ctx.add_typed("Relu", element, &[negated]);
                    let slope = ctx.add_typed("Neg", element, &[slope]);
                    let scaled = ctx.add_typed("Mul", element, &[slope, negative]);
                    ctx.add_typed("AddV2", element, &[positive, scaled])
                }
            }
        }
        other => bail!("{} is no activation", other.name()),
    };
    ctx.bind(node, value)
}

fn unary(
    ctx: &mut GraphDefContext,
    op: UnaryOp,
    element: ElementType,
    x: GraphDefValue,
) -> GraphDefValue {
    let name = match op {
        UnaryOp::Abs => "Abs",
        UnaryOp::Ceil => "Ceil",
        UnaryOp::Cos => "Cos",
        UnaryOp::Exp => "Exp",
        UnaryOp::Floor => "Floor",
        UnaryOp::Log => "Log",
        UnaryOp::Logistic => "Sigmoid",
        UnaryOp::Neg => "Neg",
        UnaryOp::Relu => "Relu",
        UnaryOp::Relu6 => "Relu6",
        UnaryOp::Round => "Round",
        UnaryOp::Rsqrt => "Rsqrt",
        UnaryOp::Sin => "Sin",
        UnaryOp::Sqrt => "Sqrt",
        UnaryOp::Square => "Square",
        UnaryOp::Tanh => "Tanh",
        UnaryOp::Elu => "Elu",
        UnaryOp::Sign => "Sign",
        UnaryOp::LogicalNot => return ctx.add("LogicalNot", &[x], &[]),
        UnaryOp::ReluN1To1 => return clamp(ctx, element, x, -1.0, 1.0),
        UnaryOp::Relu0To1 => return clamp(ctx, element, x, 0.0, 1.0),
        UnaryOp::HardSwish => {
            let three = ctx.scalar(element, 3.0);
            let shifted = ctx.add_typed("AddV2", element, &[x, three]);
            let gate = ctx.add_typed("Relu6", element, &[shifted]);
            let product = ctx.add_typed("Mul", element, &[x, gate]);
            let sixth = ctx.scalar(element, 1.0 / 6.0);
            return ctx.add_typed("Mul", element, &[product, sixth]);
        }
    };
    ctx.add_typed(name, element, &[x])
}

fn clamp(
    ctx: &mut GraphDefContext,
    element: ElementType,
    x: GraphDefValue,
    low: f32,
    high: f32,
) -> GraphDefValue {
    let bounds = [ctx.scalar(element, low), ctx.scalar(element, high)];
    ctx.add_typed("ClipByValue", element, &[x, bounds[0], bounds[1]])
}

/// `x/2 · (1 + erf(x/√2))`, or with tanh (Hendrycks and Gimpel, "Gaussian Error Linear Units", section 2).
fn gelu(
    ctx: &mut GraphDefContext,
    approximate: bool,
    element: ElementType,
    x: GraphDefValue,
) -> GraphDefValue {
    let curve = if approximate {
        let square = ctx.add_typed("Square", element, &[x]);
        let cube = ctx.add_typed("Mul", element, &[square, x]);
        let factor = ctx.scalar(element, 0.044715);
        let small = ctx.add_typed("Mul", element, &[cube, factor]);
        let sum = ctx.add_typed("AddV2", element, &[x, small]);
        let factor = ctx.scalar(element, (2.0 / std::f32::consts::PI).sqrt());
        let inner = ctx.add_typed("Mul", element, &[sum, factor]);
        ctx.add_typed("Tanh", element, &[inner])
    } else {
        let factor = ctx.scalar(element, std::f32::consts::FRAC_1_SQRT_2);
        let inner = ctx.add_typed("Mul", element, &[x, factor]);
        ctx.add_typed("Erf", element, &[inner])
    };
    let one = ctx.scalar(element, 1.0);
    let share = ctx.add_typed("AddV2", element, &[curve, one]);
    let half = ctx.scalar(element, 0.5);
    let half = ctx.add_typed("Mul", element, &[x, half]);
    ctx.add_typed("Mul", element, &[half, share])
}

/// `value` behind the activation that an op carries.
pub fn write_fused(
    ctx: &mut GraphDefContext,
    activation: Activation,
    element: ElementType,
    value: GraphDefValue,
) -> Result<GraphDefValue> {
    Ok(match (activation, activation.as_unary()) {
        (Activation::None, _) => value,
        (_, Some(op)) => unary(ctx, op, element, value),
        (_, None) => bail!("TensorFlow has no {activation:?} activation"),
    })
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let x = node.input(0)?;
    if let Some(op) = unary_of(node.op) {
        let y = ctx.unary(op, x)?;
        if let (UnaryOp::Neg, Some((x, factor))) = (op, scaled(ctx, x)) {
            ctx.set_form(y, Form::Scaled { x, factor: -factor });
        }
        return Ok(vec![y]);
    }
    use BinaryOp::{Add, Div, Maximum, Minimum, Mul, Sub};
    let element = ctx.element(x);
    let y = match node.op {
        "LeakyRelu" => {
            let alpha = node.float("alpha").unwrap_or(0.2);
            ctx.emit(LiteOp::LeakyRelu { alpha }, &[x])?
        }
        "Prelu" => ctx.emit(LiteOp::PRelu, &[x, node.input(1)?])?,
        "Selu" => {
            // Klambauer et al., "Self-Normalizing Neural Networks", section 2
            let (scale, alpha) = (1.050_701, 1.673_263_2);
            let positive = ctx.unary(UnaryOp::Relu, x)?;
            let zero = ctx.scalar(0.0, element)?;
            let negative = ctx.binary(Minimum, x, zero)?;
            let curve = ctx.unary(UnaryOp::Elu, negative)?;
            let curve = ctx.with_number(Mul, curve, alpha)?;
            let sum = ctx.binary(Add, positive, curve)?;
            ctx.with_number(Mul, sum, scale)?
        }
        "Softplus" => {
            // max(x, 0) + ln(1 + e^−|x|) overflows nowhere
            let positive = ctx.unary(UnaryOp::Relu, x)?;
            let size = ctx.unary(UnaryOp::Abs, x)?;
            let size = ctx.unary(UnaryOp::Neg, size)?;
            let power = ctx.unary(UnaryOp::Exp, size)?;
            let sum = ctx.with_number(Add, power, 1.0)?;
            let rest = ctx.unary(UnaryOp::Log, sum)?;
            ctx.binary(Add, positive, rest)?
        }
        "Softsign" => {
            let size = ctx.unary(UnaryOp::Abs, x)?;
            let size = ctx.with_number(Add, size, 1.0)?;
            ctx.binary(Div, x, size)?
        }
        "Reciprocal" | "Inv" => {
            let one = ctx.scalar(1.0, element)?;
            ctx.binary(Div, one, x)?
        }
        "Log1p" => {
            let sum = ctx.with_number(Add, x, 1.0)?;
            ctx.unary(UnaryOp::Log, sum)?
        }
        "Expm1" => {
            let power = ctx.unary(UnaryOp::Exp, x)?;
            ctx.with_number(Sub, power, 1.0)?
        }
        "ClipByValue" => {
            let low = ctx.binary(Maximum, x, node.input(1)?)?;
            ctx.binary(Minimum, low, node.input(2)?)?
        }
        "ZerosLike" | "OnesLike" => {
            let value = ctx.scalar(if node.op == "OnesLike" { 1.0 } else { 0.0 }, element)?;
            let int = ElementType::I32;
            let shape = ctx.emit_as(LiteOp::Shape { element: int }, &[x], int)?;
            ctx.emit_as(LiteOp::Fill, &[shape, value], element)?
        }
        "Erf" | "Erfc" => {
            let (inner, factor) = scaled(ctx, x).context(GELU_ONLY)?;
            let root = std::f64::consts::FRAC_1_SQRT_2;
            let sign = if factor < 0.0 { -1.0 } else { 1.0 };
            ensure!((factor.abs() - root).abs() < 1e-6, GELU_ONLY);
            // erfc(u) = 1 − erf(u), and erf is odd
            let (factor, shift) = match node.op {
                "Erf" => (sign, 0.0),
                _ => (-sign, -sign),
            };
            let shape = ctx.shape(x).to_vec();
            let form = Form::ErrorFunction { x: inner, factor, shift };
            ctx.stand_in(form, element, shape)
        }
        other => bail!("{other} is no activation"),
    };
    Ok(vec![y])
}

const GELU_ONLY: &str = "the error function can be read as part of a GELU only";

/// What `tensor` is a multiple of.
pub fn scaled(ctx: &GraphDefReader, tensor: TensorId) -> Option<(TensorId, f64)> {
    match ctx.form(tensor) {
        Some(&Form::Scaled { x, factor }) => Some((x, factor)),
        Some(Form::ErrorFunction { .. } | Form::Blocks { .. } | Form::BlockConvolution(_)) => None,
        Some(Form::Inserted { .. } | Form::Repeated { .. }) | None => Some((tensor, 1.0)),
    }
}

fn unary_of(op: &str) -> Option<UnaryOp> {
    Some(match op {
        "Abs" => UnaryOp::Abs,
        "Ceil" => UnaryOp::Ceil,
        "Cos" => UnaryOp::Cos,
        "Exp" => UnaryOp::Exp,
        "Floor" => UnaryOp::Floor,
        "Log" => UnaryOp::Log,
        "Sigmoid" => UnaryOp::Logistic,
        "Neg" => UnaryOp::Neg,
        "Relu" => UnaryOp::Relu,
        "Relu6" => UnaryOp::Relu6,
        "Round" | "Rint" => UnaryOp::Round,
        "Rsqrt" => UnaryOp::Rsqrt,
        "Sin" => UnaryOp::Sin,
        "Sqrt" => UnaryOp::Sqrt,
        "Square" => UnaryOp::Square,
        "Tanh" => UnaryOp::Tanh,
        "Elu" => UnaryOp::Elu,
        "Sign" => UnaryOp::Sign,
        "LogicalNot" => UnaryOp::LogicalNot,
        _ => return None,
    })
}

/// What is fused behind a product or convolution, the bias first.
pub fn read_fused(
    ctx: &mut GraphDefReader,
    node: &GraphDefInput,
    mut value: TensorId,
) -> Result<TensorId> {
    let mut operands = node.inputs.iter().skip(2);
    for fused in node.texts("fused_ops") {
        value = match fused {
            "BiasAdd" => {
                let bias = *operands.next().context("its bias is missing")?;
                ctx.binary(BinaryOp::Add, value, bias)?
            }
            "LeakyRelu" => {
                let alpha = node.float("leakyrelu_alpha").unwrap_or(0.2);
                ctx.emit(LiteOp::LeakyRelu { alpha }, &[value])?
            }
            "Prelu" => {
                let slope = *operands.next().context("its slope is missing")?;
                ctx.emit(LiteOp::PRelu, &[value, slope])?
            }
            other => {
                let op = unary_of(other).with_context(|| format!("'{other}' fused into it"))?;
                ctx.unary(op, value)?
            }
        };
    }
    Ok(value)
}
