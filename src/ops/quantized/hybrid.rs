//! CONV_2D, DEPTHWISE_CONV_2D and FULLY_CONNECTED of float32 values on symmetric int8 or int4 weights, as LiteRT's
//! hybrid reference kernels compute them: int8 inputs made row by row, int32 sums, float32 results. What those kernels
//! do not take is computed on dequantized weights instead.

use super::conv::{Parts, finish_conv, finish_dense, finish_depthwise};
use super::*;
use crate::tract::typed_ops::quantized::{FloatEnds, Hybrid, Kernel, Requantize, Rescale};

pub fn raise_conv(ctx: &mut RaiseContext, node: &Node) -> Result<Option<()>> {
    let LiteOp::Conv2D { activation, .. } = node.op else { return Ok(None) };
    let Some((parts, mut ends)) = parts(ctx, node, 0, activation)? else { return Ok(None) };
    // LiteRT has a kernel for weights of one scale, which knows neither zero points nor groups
    let x = ctx.input(node, 0)?;
    let groups = ctx.shape(x)?.last() != parts.shape.last().map(|&d| d.into()).as_ref();
    ends.asymmetric = groups || ends.scales.iter().any(|&scale| scale != ends.scales[0]);
    finish_conv(ctx, node, parts, |sums| hosted(sums, ends))
}

pub fn raise_depthwise(ctx: &mut RaiseContext, node: &Node) -> Result<Option<()>> {
    let LiteOp::DepthwiseConv2D { activation, .. } = node.op else { return Ok(None) };
    let Some((parts, ends)) = parts(ctx, node, 3, activation)? else { return Ok(None) };
    finish_depthwise(ctx, node, parts, |sums| hosted(sums, ends))
}

pub fn raise_dense(ctx: &mut RaiseContext, node: &Node) -> Result<Option<()>> {
    let LiteOp::FullyConnected { activation, asymmetric_quantize_inputs, .. } = node.op else {
        return Ok(None);
    };
    let Some((parts, mut ends)) = parts(ctx, node, 0, activation)? else { return Ok(None) };
    ends.asymmetric = asymmetric_quantize_inputs;
    finish_dense(ctx, node, parts, |sums| hosted(sums, ends))
}

fn hosted(sums: impl Kernel, ends: FloatEnds) -> Quantized {
    Quantized::new(Hybrid { sums, ends })
}

/// The integer part and the float part.
fn parts(
    ctx: &RaiseContext,
    node: &Node,
    axis: usize,
    activation: Activation,
) -> Result<Option<(Parts, FloatEnds)>> {
    let tensor = |place: usize| {
        let id = node.inputs.get(place).copied().flatten()?;
        Some(&ctx.graph.tensors[id])
    };
    let (Some(input), Some(weights)) = (tensor(0), tensor(1)) else { return Ok(None) };
    let narrow = matches!(weights.element, ElementType::I8 | ElementType::I4);
    let (true, true, Some(found), Some(shape)) =
        (input.element == ElementType::F32, narrow, integers(weights), weights.known_shape())
    else {
        return Ok(None);
    };
    let Some(&count) = shape.get(axis) else { return Ok(None) };
    let (scales, zero_points) = match &weights.quantization {
        Some(Quantization::PerTensor { scale, zero_point }) => (vec![*scale], vec![*zero_point]),
        Some(Quantization::PerChannel { scales, zero_points, axis: own })
            if scales.len() == 1 || (*own == axis && scales.len() == count) =>
        {
            (scales.clone(), zero_points.clone())
        }
        _ => return Ok(None),
    };
    let usable = scales.iter().all(|s| s.is_finite() && *s > 0.0);
    let bias = match tensor(2) {
        None => vec![0.0; count],
        Some(bias) => match bias.f32_values() {
            Some(values) if values.len() == count => values,
            _ => return Ok(None),
        },
    };
    let bounds = match activation {
        Activation::None => [f32::NEG_INFINITY, f32::INFINITY],
        Activation::Relu => [0.0, f32::INFINITY],
        Activation::Relu6 => [0.0, 6.0],
        Activation::ReluN1To1 => [-1.0, 1.0],
        Activation::Tanh | Activation::SignBit => return Ok(None),
    };
    if !usable || zero_points.iter().any(|&z| z != 0) {
        return Ok(None);
    }
    let scales = if scales.len() == 1 { vec![scales[0]; count] } else { scales };
    let sums = Requantize {
        datum: DatumType::I32,
        rescale: vec![Rescale::Real(1.0); count],
        zero_point: 0,
        bounds: [i32::MIN, i32::MAX],
    };
    let input = Affine { datum: DatumType::I32, scale: 1.0, zero_point: 0 };
    let weights = found.into_iter().map(|weight| weight as i16).collect();
    let parts = Parts { input, shape, weights, bias: vec![0; count], output: sums };
    Ok(Some((parts, FloatEnds { asymmetric: true, scales, bias, bounds })))
}
