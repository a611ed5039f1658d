//! Arithmetic written between layers: `x + y` is an operation of its own in a Functional model, `Add` of
//! `keras.src.ops.numpy` in Keras 3 and a TFOpLambda in Keras 2.

use super::*;

/// What builds such an operation; `None` of a layer that is none.
pub fn find(layer: &Layer) -> Option<Result<Build, String>> {
    // an .h5 of Keras 3 tells no modules; but every layer says whether it is trainable
    let unnamed = layer.module.is_empty() && !layer.config.contains_key("trainable");
    let name = match layer.class.as_str() {
        "TFOpLambda" => layer.config.get("function").and_then(Value::as_str)?,
        class if layer.module.contains(".ops.") => class,
        class if unnamed && build(class).is_some() => class,
        _ => return None,
    };
    Some(build(name).ok_or_else(|| {
        format!("the operation '{name}' between layers has no form here; write it as a layer, or {EXPORT}")
    }))
}

fn build(name: &str) -> Option<Build> {
    Some(match name.rsplit('.').next().unwrap_or(name) {
        "Add" | "add" | "AddV2" => |c| binary(c, BinaryOp::Add),
        "Subtract" | "subtract" | "sub" => |c| binary(c, BinaryOp::Sub),
        "Multiply" | "multiply" | "mul" => |c| binary(c, BinaryOp::Mul),
        "TrueDivide" | "Divide" | "truediv" | "divide" => |c| binary(c, BinaryOp::Div),
        "Maximum" | "maximum" => |c| binary(c, BinaryOp::Maximum),
        "Minimum" | "minimum" => |c| binary(c, BinaryOp::Minimum),
        "Power" | "pow" => |c| binary(c, BinaryOp::Pow),
        "Absolute" | "Abs" | "abs" => |c| unary(c, UnaryOp::Abs),
        "Negative" | "neg" | "negative" => |c| unary(c, UnaryOp::Neg),
        "Exp" | "exp" => |c| unary(c, UnaryOp::Exp),
        "Log" | "log" => |c| unary(c, UnaryOp::Log),
        "Sqrt" | "sqrt" => |c| unary(c, UnaryOp::Sqrt),
        "Square" | "square" => |c| unary(c, UnaryOp::Square),
        "Tanh" | "tanh" => |c| unary(c, UnaryOp::Tanh),
        "Relu" | "relu" => |c| unary(c, UnaryOp::Relu),
        "Relu6" | "relu6" => |c| unary(c, UnaryOp::Relu6),
        "Sigmoid" | "sigmoid" => |c| unary(c, UnaryOp::Logistic),
        "NotEqual" => mask::not_equal,
        "Any" => mask::any,
        _ => return None,
    })
}

fn unary(c: &mut Context, op: UnaryOp) -> Result<TensorId> {
    let x = c.float_input()?;
    let name = c.named("value");
    c.builder.unary(&name, op, x)
}

fn binary(c: &mut Context, op: BinaryOp) -> Result<TensorId> {
    let call = c.call;
    let others =
        call.named.iter().filter(|(name, _)| ["x1", "x2", "x", "y"].contains(&name.as_str()));
    let operands: Vec<&Argument> =
        call.arguments.iter().chain(others.map(|(_, argument)| argument)).collect();
    let &[a, b] = operands.as_slice() else { bail!("{} operands", operands.len()) };
    let (a, b) = (operand(c, a)?, operand(c, b)?);
    let name = c.named("value");
    c.builder.binary(&name, op, a, b)
}

fn operand(c: &mut Context, argument: &Argument) -> Result<TensorId> {
    match argument {
        Argument::Input(index) => {
            let x = c.inputs.get(*index).copied().context("an operand is missing")?;
            c.float(x)
        }
        Argument::Constant(value) => {
            let number = value.as_f64().with_context(|| format!("the operand {value}"))?;
            c.builder.scalar(number as f32)
        }
        Argument::List(_) => bail!("a list as operand; use a Rescaling layer"),
    }
}
