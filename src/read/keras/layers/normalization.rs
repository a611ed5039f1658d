//! Normalization by learned or computed mean and variance.

use super::*;

/// As one multiplication and one addition, which go into the weights before them.
pub fn batch(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let rank = c.builder.rank(x);
    let axes = c.axes("axis", rank, -1)?;
    let &[axis] = axes.as_slice() else { bail!("normalization over axes {axes:?} together") };
    let channels = c.known(x, axis)?;
    let epsilon = c.number("epsilon", 1e-3);
    let mut next = 0;
    let mut values = |c: &Context, present: bool, otherwise: f64| -> Result<Vec<f64>> {
        if !present {
            return Ok(vec![otherwise; channels]);
        }
        next += 1;
        let values = c.variable(next - 1, &[channels])?.f32_values()?;
        Ok(values.into_iter().map(f64::from).collect())
    };
    let gamma = values(c, c.flag("scale", true), 1.0)?;
    let beta = values(c, c.flag("center", true), 0.0)?;
    let (mean, variance) = (values(c, true, 0.0)?, values(c, true, 1.0)?);
    let scale: Vec<f64> =
        gamma.iter().zip(&variance).map(|(g, v)| g / (v + epsilon).sqrt()).collect();
    let offset = beta.iter().zip(&mean).zip(&scale).map(|((b, m), s)| b - m * s);
    let offset: Vec<f32> = offset.map(|v| v as f32).collect();
    let scale: Vec<f32> = scale.iter().map(|&v| v as f32).collect();
    scale_and_shift(c, x, axis, &scale, &offset)
}

/// `x · scale + offset`, with a value for each place of an axis.
pub fn scale_and_shift(
    c: &mut Context,
    x: TensorId,
    axis: usize,
    scale: &[f32],
    offset: &[f32],
) -> Result<TensorId> {
    let mut shape = vec![1; c.builder.rank(x) - axis];
    shape[0] = scale.len();
    let name = c.named("scale");
    let scale = c.builder.f32s(&name, &shape, scale)?;
    let name = c.named("offset");
    let offset = c.builder.f32s(&name, &shape, offset)?;
    let name = c.named("scaled");
    let y = c.builder.binary(&name, BinaryOp::Mul, x, scale)?;
    let name = c.named("shifted");
    c.builder.binary(&name, BinaryOp::Add, y, offset)
}

/// `(x − mean) / √(variance + ε)` over some axes.
fn standardized(c: &mut Context, x: TensorId, axes: &[usize], epsilon: f32) -> Result<TensorId> {
    let part = |c: &Context, part: &str| c.named(part);
    let name = part(c, "mean");
    let mean = c.builder.reduce(&name, ReduceOp::Mean, x, axes, true)?;
    let name = part(c, "centred");
    let centred = c.builder.binary(&name, BinaryOp::Sub, x, mean)?;
    let name = part(c, "square");
    let square = c.builder.unary(&name, UnaryOp::Square, centred)?;
    divided_by_root(c, centred, square, axes, epsilon)
}

/// `x / √(mean of square + ε)`.
fn divided_by_root(
    c: &mut Context,
    x: TensorId,
    square: TensorId,
    axes: &[usize],
    epsilon: f32,
) -> Result<TensorId> {
    let name = c.named("variance");
    let variance = c.builder.reduce(&name, ReduceOp::Mean, square, axes, true)?;
    let name = c.named("epsilon");
    let variance = c.builder.with_scalar(&name, BinaryOp::Add, variance, epsilon)?;
    let name = c.named("reciprocal");
    let root = c.builder.unary(&name, UnaryOp::Rsqrt, variance)?;
    let name = c.named("standardized");
    c.builder.binary(&name, BinaryOp::Mul, x, root)
}

/// `y · gamma + beta` with variables of the sizes that `axes` have; of `x`'s rank.
fn gamma_and_beta(c: &mut Context, y: TensorId, axes: &[usize]) -> Result<TensorId> {
    let shape = c.builder.shape(y);
    let (mut sizes, mut broadcast) = (vec![], vec![1; shape.len()]);
    for &axis in axes {
        sizes.push(c.known(y, axis)?);
        broadcast[axis] = sizes[sizes.len() - 1];
    }
    let mut result = y;
    let mut index = 0;
    let steps = [("scale", "gamma", BinaryOp::Mul), ("center", "beta", BinaryOp::Add)];
    for (key, part, op) in steps {
        // RMS scaling has no other switch, and no beta
        let rms = c.layer.class == "RMSNormalization" || c.flag("rms_scaling", false);
        if (rms && part == "beta") || (!rms && !c.flag(key, true)) {
            continue;
        }
        let data = c.variable(index, &sizes)?.f32_bytes()?;
        index += 1;
        let name = c.named(part);
        let constant = c.builder.constant(&name, ElementType::F32, &broadcast, || Ok(data))?;
        let name = c.named(&format!("with_{part}"));
        result = c.builder.binary(&name, op, result, constant)?;
    }
    Ok(result)
}

pub fn layer(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let axes = c.axes("axis", c.builder.rank(x), -1)?;
    let epsilon = c.number("epsilon", 1e-3) as f32;
    let y = match c.flag("rms_scaling", false) {
        true => {
            let name = c.named("square");
            let square = c.builder.unary(&name, UnaryOp::Square, x)?;
            divided_by_root(c, x, square, &axes, epsilon)?
        }
        false => standardized(c, x, &axes, epsilon)?,
    };
    gamma_and_beta(c, y, &axes)
}

pub fn root_mean_square(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let axes = c.axes("axis", c.builder.rank(x), -1)?;
    let name = c.named("square");
    let square = c.builder.unary(&name, UnaryOp::Square, x)?;
    let epsilon = c.number("epsilon", 1e-6) as f32;
    let y = divided_by_root(c, x, square, &axes, epsilon)?;
    gamma_and_beta(c, y, &axes)
}

/// The channels in groups, each normalized by itself.
pub fn group(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let shape = c.builder.shape(x);
    let rank = shape.len();
    let axes = c.axes("axis", rank, -1)?;
    let &[axis] = axes.as_slice() else { bail!("groups of axes {axes:?}") };
    ensure!(axis > 0, "groups of the batch");
    let channels = c.known(x, axis)?;
    let groups = match c.value("groups").as_i64() {
        Some(-1) => channels,
        _ => c.size("groups")?,
    };
    ensure!(groups > 0 && channels % groups == 0, "{groups} groups of {channels} channels");
    let mut grouped = shape.clone();
    grouped.splice(axis..=axis, [Dim::Known(groups), Dim::Known(channels / groups)]);
    let name = c.named("groups");
    let split = c.builder.reshape(&name, x, grouped)?;
    let within: Vec<usize> = (1..=rank).filter(|&a| a != axis).collect();
    let y = standardized(c, split, &within, c.number("epsilon", 1e-3) as f32)?;
    let name = c.named("channels");
    let y = c.builder.reshape(&name, y, shape)?;
    gamma_and_beta(c, y, &[axis])
}

/// Divided by the length: `x / √max(Σ x², 1e-12)`.
pub fn unit(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let axes = c.axes("axis", c.builder.rank(x), -1)?;
    let name = c.named("square");
    let square = c.builder.unary(&name, UnaryOp::Square, x)?;
    let name = c.named("sum");
    let sum = c.builder.reduce(&name, ReduceOp::Sum, square, &axes, true)?;
    let name = c.named("floor");
    let sum = c.builder.with_scalar(&name, BinaryOp::Maximum, sum, 1e-12)?;
    let name = c.named("reciprocal");
    let root = c.builder.unary(&name, UnaryOp::Rsqrt, sum)?;
    let name = c.named("unit");
    c.builder.binary(&name, BinaryOp::Mul, x, root)
}
