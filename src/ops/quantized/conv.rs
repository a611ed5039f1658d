//! CONV_2D, DEPTHWISE_CONV_2D, TRANSPOSE_CONV and FULLY_CONNECTED with constant weights, of any sign and zero point.

use super::*;
use crate::graph::Padding;
use crate::kernels::fixed_point::Multiplier;
use crate::ops::window::channels_last_spec;
use crate::tract::typed_ops::quantized::{
    Conv, Dense, DepthwiseConv, Filters, Requantize, Rescale, TransposeConv,
};

/// What these ops have in common.
pub struct Parts {
    pub input: Affine,
    pub shape: Vec<usize>,
    /// Less their zero points.
    pub weights: Vec<i16>,
    pub bias: Vec<i64>,
    pub output: Requantize,
}

/// How the kernels of an op get from sums to results.
#[derive(Clone, Copy, PartialEq)]
enum Rounding {
    Fixed,
    Real,
}

/// `None` where the reference kernels' integer arithmetic does not apply. `axis` of the weights is the output's
/// channels; `inputs` are the places of the values and of the bias, the weights being the second.
fn parts(
    ctx: &RaiseContext,
    node: &Node,
    inputs: [usize; 2],
    axis: usize,
    activation: Activation,
    rounding: Rounding,
) -> Result<Option<Parts>> {
    let name = ctx.output_name(node);
    let (Some(input), Some(output)) = (input_of(ctx, node, inputs[0]), output_of(ctx, node)) else {
        return Ok(None);
    };
    let weights = node.inputs.get(1).copied().flatten().context("no weights")?;
    let weights = &ctx.graph.tensors[weights];
    let (Some(bounds), Some(quantization)) =
        (activation_bounds(activation, output), &weights.quantization)
    else {
        return Ok(None);
    };
    let (Some(integers), Some(shape)) = (integers(weights), weights.known_shape()) else {
        return Ok(None);
    };
    let count = *shape.get(axis).with_context(|| format!("'{name}': weights of {shape:?}"))?;
    let (scales, zero_points) = match quantization {
        Quantization::PerTensor { scale, zero_point } => (vec![*scale], vec![*zero_point]),
        Quantization::PerChannel { scales, zero_points, axis: own }
            if scales.len() == 1 || *own == axis =>
        {
            (scales.clone(), zero_points.clone())
        }
        Quantization::PerChannel { .. } | Quantization::Blockwise { .. } => return Ok(None),
    };
    let fits = |len: usize| len == 1 || len == count;
    ensure!(
        fits(scales.len()) && scales.len() == zero_points.len(),
        "'{name}': {} scales for {count} channels",
        scales.len()
    );
    let per_channel = |i: usize| if scales.len() == 1 { 0 } else { i };
    let inner: usize = shape[axis + 1..].iter().product();
    let centred = integers.iter().enumerate().map(|(i, &weight)| {
        let channel = per_channel(i / inner.max(1) % count.max(1));
        i16::try_from(weight - zero_points[channel])
    });
    let Ok(weights) = centred.collect::<Result<Vec<i16>, _>>() else { return Ok(None) };
    let bias = match node.inputs.get(inputs[1]).copied().flatten() {
        None => vec![0; count],
        Some(bias) => match super::integers(&ctx.graph.tensors[bias]) {
            Some(bias) => bias,
            None => return Ok(None),
        },
    };
    ensure!(bias.len() == count, "'{name}': {} biases for {count} channels", bias.len());
    let rescale = (0..count).map(|i| {
        let product = match input.datum {
            DatumType::U8 if rounding == Rounding::Fixed => {
                f64::from(input.scale * scales[per_channel(i)])
            }
            _ => f64::from(input.scale) * f64::from(scales[per_channel(i)]),
        };
        let real = product / f64::from(output.scale);
        match rounding {
            Rounding::Fixed => Rescale::Fixed(Multiplier::of(real)),
            Rounding::Real => Rescale::Real(real),
        }
    });
    let (datum, zero_point) = (output.datum, output.zero_point);
    let output = Requantize { datum, rescale: rescale.collect(), zero_point, bounds };
    Ok(Some(Parts { input, shape, weights, bias, output }))
}

pub fn raise_conv(ctx: &mut RaiseContext, node: &Node) -> Result<Option<()>> {
    let LiteOp::Conv2D { activation, .. } = &node.op else { return Ok(None) };
    match parts(ctx, node, [0, 2], 0, *activation, Rounding::Fixed)? {
        Some(parts) => finish_conv(ctx, node, parts, Quantized::new),
        None => Ok(None),
    }
}

/// CONV_2D as the kernel that `host` makes of it.
pub fn finish_conv(
    ctx: &mut RaiseContext,
    node: &Node,
    parts: Parts,
    host: impl FnOnce(Conv) -> Quantized,
) -> Result<Option<()>> {
    let LiteOp::Conv2D { padding, strides, dilations, .. } = &node.op else { return Ok(None) };
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let channels = channels(ctx, name, x)?;
    let &[count, height, width, inner] = parts.shape.as_slice() else {
        return Err(anyhow!("'{name}': weights of {:?}", parts.shape));
    };
    ensure!(
        inner > 0 && channels > 0 && channels % inner == 0 && count % (channels / inner) == 0,
        "'{name}': {count} filters of {inner} channels for {channels}"
    );
    let spec =
        channels_last_spec(&[height, width], *padding, strides, dilations, [channels, count]);
    let depth = height * width * inner;
    let (groups, input) = (channels / inner, parts.input);
    let filters = Filters::new(depth, groups, parts.weights, parts.bias, parts.output, input);
    let op = Conv { spec, groups, input, filters };
    let wire = ctx.wire(name, host(op), &[x])?;
    ctx.finish(node, wire).map(Some)
}

pub fn raise_depthwise(ctx: &mut RaiseContext, node: &Node) -> Result<Option<()>> {
    let LiteOp::DepthwiseConv2D { activation, .. } = &node.op else { return Ok(None) };
    match parts(ctx, node, [0, 2], 3, *activation, Rounding::Fixed)? {
        Some(parts) => finish_depthwise(ctx, node, parts, Quantized::new),
        None => Ok(None),
    }
}

/// DEPTHWISE_CONV_2D as the kernel that `host` makes of it.
pub fn finish_depthwise(
    ctx: &mut RaiseContext,
    node: &Node,
    parts: Parts,
    host: impl FnOnce(DepthwiseConv) -> Quantized,
) -> Result<Option<()>> {
    let LiteOp::DepthwiseConv2D { padding, strides, dilations, .. } = &node.op else {
        return Ok(None);
    };
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let channels = channels(ctx, name, x)?;
    let &[1, height, width, count] = parts.shape.as_slice() else {
        return Err(anyhow!("'{name}': weights of {:?}", parts.shape));
    };
    ensure!(channels > 0 && count % channels == 0, "'{name}': {count} filters of {channels}");
    let spec =
        channels_last_spec(&[height, width], *padding, strides, dilations, [channels, count]);
    let op = DepthwiseConv::new(spec, parts.input, parts.weights, parts.bias, parts.output);
    let wire = ctx.wire(name, host(op), &[x])?;
    ctx.finish(node, wire).map(Some)
}

pub fn raise_transpose(ctx: &mut RaiseContext, node: &Node) -> Result<Option<()>> {
    let LiteOp::TransposeConv { padding, strides, activation } = &node.op else { return Ok(None) };
    let parts = parts(ctx, node, [2, 3], 0, *activation, Rounding::Fixed)?;
    let size = node.inputs[0].and_then(|t| ctx.graph.tensors[t].i32_values());
    let (Some(parts), Some(size)) = (parts, size) else { return Ok(None) };
    let name = ctx.output_name(node);
    let x = ctx.input(node, 2)?;
    let (shape, channels) = (ctx.shape(x)?, channels(ctx, name, x)?);
    let (&[count, height, width, inner], &[_, rows, columns, outputs]) =
        (parts.shape.as_slice(), size.as_slice())
    else {
        return Err(anyhow!("'{name}': weights of {:?}, an output of {size:?}", parts.shape));
    };
    let kernel = [height, width];
    let size = [usize::try_from(rows)?, usize::try_from(columns)?];
    ensure!(
        inner == channels && usize::try_from(outputs)? == count && kernel.iter().all(|&k| k > 0),
        "'{name}': weights of {:?} for {channels} channels and {outputs} of the output",
        parts.shape
    );
    let mut before = [0, 0];
    for axis in 0..2 {
        let (stride, kernel, output) = (strides[axis], kernel[axis], size[axis]);
        let steps = match padding {
            Padding::Same => Some(output.div_ceil(stride)),
            Padding::Valid => output.checked_sub(kernel).map(|room| room / stride + 1),
        };
        ensure!(
            steps.is_some_and(|steps| shape[axis + 1] == TDim::from(steps) && steps > 0),
            "'{name}': from {} to {output} pixels in steps of {stride}",
            shape[axis + 1]
        );
        let field = (steps.unwrap_or(1) - 1) * stride + kernel;
        before[axis] = field.saturating_sub(output) / 2;
    }
    let Parts { input, weights, bias, output, .. } = parts;
    let strides = *strides;
    let op = TransposeConv { input, kernel, strides, before, size, weights, bias, output };
    let wire = ctx.wire(name, Quantized::new(op), &[x])?;
    ctx.finish(node, wire).map(Some)
}

pub fn raise_dense(ctx: &mut RaiseContext, node: &Node) -> Result<Option<()>> {
    let LiteOp::FullyConnected { activation, .. } = node.op else { return Ok(None) };
    match parts(ctx, node, [0, 2], 0, activation, Rounding::Real)? {
        Some(parts) => finish_dense(ctx, node, parts, Quantized::new),
        None => Ok(None),
    }
}

/// FULLY_CONNECTED as the kernel that `host` makes of it.
pub fn finish_dense(
    ctx: &mut RaiseContext,
    node: &Node,
    parts: Parts,
    host: impl FnOnce(Dense) -> Quantized,
) -> Result<Option<()>> {
    let LiteOp::FullyConnected { keep_num_dims, .. } = node.op else { return Ok(None) };
    let name = ctx.output_name(node);
    let &[count, depth] = parts.shape.as_slice() else {
        return Err(anyhow!("'{name}': weights of {:?}", parts.shape));
    };
    let x = ctx.input(node, 0)?;
    let mut shape = ctx.shape(x)?;
    ensure!(!shape.is_empty(), "'{name}': the input is a scalar");
    let rows = crate::ops::shape::wire_reshape(ctx, name, x, &[TDim::from(-1), depth.into()])?;
    let input = parts.input;
    let filters = Filters::new(depth, 1, parts.weights, parts.bias, parts.output, input);
    let op = Dense { input, filters };
    let mut wire = ctx.wire(name, host(op), &[rows])?;
    if keep_num_dims && shape.len() != 2 {
        shape.pop();
        shape.push(count.into());
        wire = crate::ops::shape::wire_reshape(ctx, name, wire, &shape)?;
    }
    ctx.finish(node, wire).map(Some)
}

fn channels(ctx: &RaiseContext, name: &str, x: OutletId) -> Result<usize> {
    let shape = ctx.shape(x)?;
    ensure!(shape.len() == 4, "'{name}': an input of rank {}", shape.len());
    shape[3].to_usize().with_context(|| format!("'{name}': unknown channels"))
}
