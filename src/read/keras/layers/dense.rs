//! Products: Dense, Embedding, and layers over time.

use super::activation::activate;
use super::*;

pub fn dense(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let shape = c.builder.shape(x);
    ensure!(shape.len() >= 2, "an input of shape {}", shape_text(&shape));
    let inner = c.known(x, shape.len() - 1)?;
    let units = c.size("units")?;
    let weights = transposed(c, 0, "kernel", &[inner, units], &[units, inner])?;
    let bias = c.bias(1, units)?;
    let op = LiteOp::FullyConnected {
        activation: Activation::None,
        keep_num_dims: shape.len() > 2,
        asymmetric_quantize_inputs: false,
    };
    let mut result = shape;
    result.pop();
    result.push(Dim::Known(units));
    let name = c.named("linear");
    let y = c.builder.op(&name, op, &[x, weights, bias], result)?;
    activate(c, "activation", y)
}

/// Variable `index`, of `shape`, with its last axis first: as a constant of shape `moved`.
pub fn transposed(
    c: &mut Context,
    index: usize,
    part: &str,
    shape: &[usize],
    moved: &[usize],
) -> Result<TensorId> {
    let variable = c.variable(index, shape)?;
    let columns = shape.last().copied().unwrap_or(1);
    let data = || {
        let bytes = variable.f32_bytes()?;
        let values = bytes.as_chunks::<4>().0;
        let rows = values.len() / columns.max(1);
        let mut result = Vec::with_capacity(bytes.len());
        for column in 0..columns {
            for row in 0..rows {
                result.extend_from_slice(&values[row * columns + column]);
            }
        }
        Ok(result.into())
    };
    let name = format!("{}/{part}", c.name);
    c.builder.constant(&name, ElementType::F32, moved, data)
}

pub fn embedding(c: &mut Context) -> Result<TensorId> {
    let (rows, width) = (c.size("input_dim")?, c.size("output_dim")?);
    let x = c.input()?;
    let name = c.named("indices");
    let x = c.builder.cast(&name, x, ElementType::I32)?;
    let mask = match c.flag("mask_zero", false) {
        true => Some(super::mask::not_zero(c, x)?),
        false => None,
    };
    let data = c.variable(0, &[rows, width])?.f32_bytes()?;
    let name = c.named("embeddings");
    let table = c.builder.constant(&name, ElementType::F32, &[rows, width], || Ok(data))?;
    let mut shape = c.builder.shape(x);
    shape.push(Dim::Known(width));
    let op = LiteOp::Gather { axis: 0, batch_dims: 0 };
    let name = c.named("gather");
    let y = c.builder.op(&name, op, &[table, x], shape)?;
    c.masks.extend(mask.map(|mask| (y, Mask::Steps(mask))));
    Ok(y)
}

/// The wrapped layer on every step: time goes into the batch, and comes back.
pub fn time_distributed(c: &mut Context) -> Result<TensorId> {
    let x = c.input()?;
    let Some(wrapped) = &c.layer.wrapped else { bail!("it wraps no layer") };
    let build = find(wrapped).map_err(|reason| anyhow::anyhow!("{}: {reason}", wrapped.class))?;
    let shape = c.builder.shape(x);
    ensure!(shape.len() >= 3, "an input of shape {}", shape_text(&shape));
    let steps = c.known(x, 1)?;
    let batch = match &shape[0] {
        Dim::Known(n) => n.checked_mul(steps).map(Dim::Known),
        Dim::Symbol(n) => Some(Dim::Symbol(format!("{steps}*{n}"))),
    };
    let mut merged = shape[1..].to_vec();
    merged[0] = batch.context("a batch that is too large")?;
    let name = c.named("steps");
    let merged = c.builder.reshape(&name, x, merged)?;
    let call = LayerCall::default();
    let mut inner = Context {
        builder: c.builder,
        layer: wrapped,
        call: &call,
        name: c.name.clone(),
        inputs: vec![merged],
        is_keras_2: c.is_keras_2,
        masks: c.masks,
    };
    let y = build(&mut inner)?;
    let mut result = vec![shape[0].clone(), Dim::Known(steps)];
    result.extend_from_slice(&c.builder.shape(y)[1..]);
    let name = c.named("time");
    c.builder.reshape(&name, y, result)
}
