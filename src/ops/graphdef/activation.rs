//! Elementwise ops of one operand, and activations that other ops carry fused.

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
