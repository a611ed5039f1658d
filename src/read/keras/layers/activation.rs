//! Activations, by name and as layers.

use super::*;

/// The activation that `key` of the configuration names, of `x`.
pub fn activate(c: &mut Context, key: &str, x: TensorId) -> Result<TensorId> {
    let value = c.value(key).clone();
    apply(c, &value, x)
}

pub fn activation(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    activate(c, "activation", x)
}

/// `"relu"`; or `{"class_name": "function", "config": "relu"}`; or a layer such as
/// `{"class_name": "LeakyReLU", "config": {…}}`.
fn apply(c: &mut Context, value: &Value, x: TensorId) -> Result<TensorId> {
    let name = match value {
        Value::Null => return Ok(x),
        Value::String(name) => name.as_str(),
        Value::Object(object) => {
            let class = object.get("class_name").and_then(Value::as_str).unwrap_or_default();
            match object.get("config") {
                Some(Value::String(name)) => name,
                Some(Value::Object(config)) => {
                    return as_layer(c, class, config.clone(), x);
                }
                _ => class,
            }
        }
        other => bail!("activation {other}"),
    };
    by_name(c, name, x)
}

fn as_layer(
    c: &mut Context,
    class: &str,
    config: serde_json::Map<String, Value>,
    x: TensorId,
) -> Result<TensorId> {
    let build: Build = match class {
        "ReLU" => relu,
        "LeakyReLU" => leaky_relu,
        "ELU" => elu,
        "Softmax" => softmax,
        other => bail!("activation '{other}'; make it a layer of its own"),
    };
    let layer = Layer {
        class: class.to_string(),
        module: String::new(),
        name: c.name.clone(),
        config,
        build_config: Value::Null,
        calls: vec![],
        network: None,
        wrapped: None,
        variables: vec![],
    };
    build(&mut Context {
        builder: c.builder,
        layer: &layer,
        call: c.call,
        name: c.name.clone(),
        inputs: vec![x],
        is_keras_2: c.is_keras_2,
        masks: c.masks,
    })
}

/// Small programs over one value.
struct Steps<'a, 'b> {
    c: &'a mut Context<'b>,
    name: String,
}

impl Steps<'_, '_> {
    fn unary(&mut self, op: UnaryOp, x: TensorId) -> Result<TensorId> {
        self.c.builder.unary(&self.name, op, x)
    }

    fn binary(&mut self, op: BinaryOp, a: TensorId, b: TensorId) -> Result<TensorId> {
        self.c.builder.binary(&self.name, op, a, b)
    }

    fn with(&mut self, op: BinaryOp, x: TensorId, value: f32) -> Result<TensorId> {
        self.c.builder.with_scalar(&self.name, op, x, value)
    }

    fn clip(&mut self, x: TensorId, low: f32, high: f32) -> Result<TensorId> {
        let x = self.with(BinaryOp::Maximum, x, low)?;
        self.with(BinaryOp::Minimum, x, high)
    }

    /// `log(1 + eˣ)`, as `max(x, 0) + log(1 + e^−|x|)`.
    fn softplus(&mut self, x: TensorId) -> Result<TensorId> {
        let positive = self.unary(UnaryOp::Relu, x)?;
        let size = self.unary(UnaryOp::Abs, x)?;
        let negated = self.unary(UnaryOp::Neg, size)?;
        let power = self.unary(UnaryOp::Exp, negated)?;
        let sum = self.with(BinaryOp::Add, power, 1.0)?;
        let log = self.unary(UnaryOp::Log, sum)?;
        self.binary(BinaryOp::Add, positive, log)
    }

    /// `scale · x` above zero, `scale · alpha · (e^(x/divisor) − 1)` below.
    fn scaled_elu(
        &mut self,
        x: TensorId,
        scale: f32,
        alpha: f32,
        divisor: f32,
    ) -> Result<TensorId> {
        let positive = self.unary(UnaryOp::Relu, x)?;
        let positive = self.with(BinaryOp::Mul, positive, scale)?;
        let divided = match divisor {
            1.0 => x,
            divisor => self.with(BinaryOp::Div, x, divisor)?,
        };
        let power = self.unary(UnaryOp::Elu, divided)?;
        let negative = self.with(BinaryOp::Minimum, power, 0.0)?;
        let negative = self.with(BinaryOp::Mul, negative, scale * alpha)?;
        self.binary(BinaryOp::Add, positive, negative)
    }
}

fn by_name(c: &mut Context, name: &str, x: TensorId) -> Result<TensorId> {
    use BinaryOp::{Add, Div, Maximum, Minimum, Mul, Sub};
    let is_keras_2 = c.is_keras_2;
    let shape = c.builder.shape(x);
    let mut s = Steps { name: c.named(name), c };
    Ok(match name {
        "linear" => x,
        "relu" => s.unary(UnaryOp::Relu, x)?,
        "relu6" => s.unary(UnaryOp::Relu6, x)?,
        "sigmoid" => s.unary(UnaryOp::Logistic, x)?,
        "tanh" => s.unary(UnaryOp::Tanh, x)?,
        "exponential" => s.unary(UnaryOp::Exp, x)?,
        "elu" => s.unary(UnaryOp::Elu, x)?,
        "hard_silu" | "hard_swish" => s.unary(UnaryOp::HardSwish, x)?,
        "softmax" => softmax_along(s.c, x, shape.len() - 1)?,
        "log_softmax" => s.c.builder.op(&s.name, LiteOp::LogSoftmax, &[x], shape)?,
        "leaky_relu" => s.c.builder.op(&s.name, LiteOp::LeakyRelu { alpha: 0.2 }, &[x], shape)?,
        "gelu" => s.c.builder.op(&s.name, LiteOp::Gelu { approximate: false }, &[x], shape)?,
        "gelu_new" => s.c.builder.op(&s.name, LiteOp::Gelu { approximate: true }, &[x], shape)?,
        "silu" | "swish" => {
            let gate = s.unary(UnaryOp::Logistic, x)?;
            s.binary(Mul, x, gate)?
        }
        // Keras 2 had another line: 0.2 x + 0.5
        "hard_sigmoid" if is_keras_2 => {
            let line = s.with(Mul, x, 0.2)?;
            let line = s.with(Add, line, 0.5)?;
            s.clip(line, 0.0, 1.0)?
        }
        "hard_sigmoid" => {
            let line = s.with(Add, x, 3.0)?;
            let line = s.unary(UnaryOp::Relu6, line)?;
            s.with(Mul, line, 1.0 / 6.0)?
        }
        "selu" => s.scaled_elu(x, 1.050_701, 1.673_263_2, 1.0)?,
        "celu" => s.scaled_elu(x, 1.0, 1.0, 1.0)?,
        "softplus" => s.softplus(x)?,
        "softsign" => {
            let size = s.unary(UnaryOp::Abs, x)?;
            let size = s.with(Add, size, 1.0)?;
            s.binary(Div, x, size)?
        }
        "mish" => {
            let plus = s.softplus(x)?;
            let gate = s.unary(UnaryOp::Tanh, plus)?;
            s.binary(Mul, x, gate)?
        }
        "log_sigmoid" => {
            let negated = s.unary(UnaryOp::Neg, x)?;
            let plus = s.softplus(negated)?;
            s.unary(UnaryOp::Neg, plus)?
        }
        "hard_tanh" => s.clip(x, -1.0, 1.0)?,
        "tanh_shrink" => {
            let tanh = s.unary(UnaryOp::Tanh, x)?;
            s.binary(Sub, x, tanh)?
        }
        "soft_shrink" => {
            let middle = s.clip(x, -0.5, 0.5)?;
            s.binary(Sub, x, middle)?
        }
        "hard_shrink" => {
            let size = s.unary(UnaryOp::Abs, x)?;
            let limit = s.c.builder.scalar(0.5)?;
            above(s.c, size, limit, x)?
        }
        "squareplus" => {
            let square = s.unary(UnaryOp::Square, x)?;
            let square = s.with(Add, square, 4.0)?;
            let root = s.unary(UnaryOp::Sqrt, square)?;
            let sum = s.binary(Add, x, root)?;
            s.with(Mul, sum, 0.5)?
        }
        "sparse_plus" => {
            let middle = s.clip(x, -1.0, 1.0)?;
            let middle = s.with(Add, middle, 1.0)?;
            let middle = s.unary(UnaryOp::Square, middle)?;
            let middle = s.with(Mul, middle, 0.25)?;
            let beyond = s.with(Maximum, x, 1.0)?;
            let beyond = s.with(Sub, beyond, 1.0)?;
            s.binary(Add, middle, beyond)?
        }
        "sparse_sigmoid" => {
            let line = s.with(Add, x, 1.0)?;
            let line = s.with(Mul, line, 0.5)?;
            let line = s.with(Maximum, line, 0.0)?;
            s.with(Minimum, line, 1.0)?
        }
        "glu" => glu(s.c, x)?,
        other => bail!("activation '{other}'; use one that Keras has, or write it as layers"),
    })
}

/// `y` where `x` is above `limit`, and zero elsewhere.
fn above(c: &mut Context, x: TensorId, limit: TensorId, y: TensorId) -> Result<TensorId> {
    let shape = c.builder.shape(x);
    let op = LiteOp::Binary { op: BinaryOp::Greater, activation: Activation::None };
    let name = c.named("above");
    let condition = c.builder.op_as(&name, op, &[x, limit], ElementType::Bool, shape.clone())?;
    let zero = c.builder.scalar(0.0)?;
    let name = c.named("selected");
    c.builder.op(&name, LiteOp::Select, &[condition, y, zero], shape)
}

/// One half of the channels, gated by the other.
fn glu(c: &mut Context, x: TensorId) -> Result<TensorId> {
    let rank = c.builder.rank(x);
    let channels = c.known(x, rank - 1)?;
    ensure!(channels % 2 == 0, "activation 'glu' of {channels} channels");
    let half = channels / 2;
    let (mut first, mut second) = (vec![[0, 0]; rank], vec![[0, 0]; rank]);
    (first[rank - 1], second[rank - 1]) = ([0, half], [half, 0]);
    let name = c.named("values");
    let values = c.builder.crop(&name, x, &first)?;
    let name = c.named("gates");
    let gates = c.builder.crop(&name, x, &second)?;
    let gates = c.builder.unary(&name, UnaryOp::Logistic, gates)?;
    let name = c.named("glu");
    c.builder.binary(&name, BinaryOp::Mul, values, gates)
}

pub fn relu(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let most = c.value("max_value").as_f64();
    let slope = ["negative_slope", "alpha"].iter().find_map(|key| c.value(key).as_f64());
    let (slope, threshold) = (slope.unwrap_or(0.0), c.number("threshold", 0.0));
    let name = c.named("relu");
    let shape = c.builder.shape(x);
    if threshold != 0.0 {
        // as it is from the threshold on, slope · (x − threshold) below
        let limit = c.builder.scalar(threshold as f32)?;
        let op = LiteOp::Binary { op: BinaryOp::GreaterEqual, activation: Activation::None };
        let name = c.named("above");
        let condition =
            c.builder.op_as(&name, op, &[x, limit], ElementType::Bool, shape.clone())?;
        let name = c.named("below");
        let below = c.builder.binary(&name, BinaryOp::Sub, x, limit)?;
        let below = c.builder.with_scalar(&name, BinaryOp::Mul, below, slope as f32)?;
        let name = c.named("selected");
        let y = c.builder.op(&name, LiteOp::Select, &[condition, x, below], shape)?;
        return match most {
            Some(most) => c.builder.with_scalar(&name, BinaryOp::Minimum, y, most as f32),
            None => Ok(y),
        };
    }
    let y = match (slope, most) {
        (0.0, Some(6.0)) => return c.builder.unary(&name, UnaryOp::Relu6, x),
        (0.0, _) => c.builder.unary(&name, UnaryOp::Relu, x)?,
        (slope, _) => {
            let op = LiteOp::LeakyRelu { alpha: slope as f32 };
            c.builder.op(&name, op, &[x], shape)?
        }
    };
    match most {
        Some(most) => c.builder.with_scalar(&name, BinaryOp::Minimum, y, most as f32),
        None => Ok(y),
    }
}

pub fn leaky_relu(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let slope = if c.value("negative_slope").is_null() { "alpha" } else { "negative_slope" };
    let op = LiteOp::LeakyRelu { alpha: c.number(slope, 0.3) as f32 };
    let (name, shape) = (c.named("leaky_relu"), c.builder.shape(x));
    c.builder.op(&name, op, &[x], shape)
}

pub fn elu(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let alpha = c.number("alpha", 1.0) as f32;
    let mut s = Steps { name: c.named("elu"), c };
    match alpha {
        1.0 => s.unary(UnaryOp::Elu, x),
        alpha => s.scaled_elu(x, 1.0, alpha, 1.0),
    }
}

/// A slope for each element but those of shared axes.
pub fn p_relu(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let variable = c.any_variable(0)?;
    let (shape, data) = (variable.shape.clone(), variable.f32_bytes()?);
    let inner = &c.builder.shape(x)[1..];
    let fits = shape.len() == inner.len()
        && shape.iter().zip(inner).all(|(n, dim)| *n == 1 || dim.known() == Some(*n));
    ensure!(fits, "slopes of shape {shape:?} for {}", shape_text(inner));
    let name = c.named("alpha");
    let slopes = c.builder.constant(&name, ElementType::F32, &shape, || Ok(data))?;
    let (name, shape) = (c.named("p_relu"), c.builder.shape(x));
    c.builder.op(&name, LiteOp::PRelu, &[x, slopes], shape)
}

pub fn thresholded_relu(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let limit = c.builder.scalar(c.number("theta", 1.0) as f32)?;
    above(c, x, limit, x)
}

pub fn softmax(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    super::mask::refuse(c, x)?;
    let axes = c.axes("axis", c.builder.rank(x), -1)?;
    let &[axis] = axes.as_slice() else { bail!("softmax over axes {axes:?} together") };
    softmax_along(c, x, axis)
}

fn softmax_along(c: &mut Context, x: TensorId, axis: usize) -> Result<TensorId> {
    let rank = c.builder.rank(x);
    ensure!(rank >= 1, "softmax of a number");
    let mut order: Vec<usize> = (0..rank).collect();
    order.swap(axis, rank - 1);
    let name = c.named("axis_last");
    let x = c.builder.transpose(&name, x, &order)?;
    let (name, shape) = (c.named("softmax"), c.builder.shape(x));
    let y = c.builder.op(&name, LiteOp::Softmax { beta: 1.0 }, &[x], shape)?;
    let name = c.named("axis_back");
    c.builder.transpose(&name, y, &order)
}
