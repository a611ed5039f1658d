//! Nodes on tensors of integers that stand for reals: which kernel computes each. Results are those of TFLite's
//! reference kernels; where those have no integer form here, the node is computed on reals and quantized again.

mod activation;
mod binary;
mod conv;
mod conversion;
mod hybrid;
mod reduce;
mod window;

pub use conversion::{raise_dequantize, raise_quantize};

use super::*;
use crate::graph::{Activation, Quantization};
use crate::tract::typed_ops::quantized::{Affine, Quantized, bounds};

/// Whether integers of `tensor` stand for reals of their own; int32 ones never do by themselves.
fn is_quantized(tensor: &Tensor) -> bool {
    use ElementType::{I4, I8, I16, U8};
    tensor.quantization.is_some() && matches!(tensor.element, I4 | I8 | U8 | I16)
}

/// Whether `node` reads or makes quantized values.
pub fn applies(graph: &Subgraph, node: &Node) -> bool {
    let mut tensors = node.inputs.iter().flatten().chain(&node.outputs);
    tensors.any(|&t| is_quantized(&graph.tensors[t]))
}

/// Raises a node for which [`applies`] holds; `ordinary` raises it as if there were no scales.
pub fn raise(
    ctx: &mut RaiseContext,
    node: &Node,
    ordinary: fn(&mut RaiseContext, &Node) -> Result<()>,
) -> Result<()> {
    let exact = match &node.op {
        // integers move, or are picked, as they are
        LiteOp::Reshape
        | LiteOp::Transpose
        | LiteOp::Squeeze { .. }
        | LiteOp::ExpandDims
        | LiteOp::Shape { .. }
        | LiteOp::BroadcastTo
        | LiteOp::Tile
        | LiteOp::Pack { .. }
        | LiteOp::Unpack { .. }
        | LiteOp::Split
        | LiteOp::SplitV
        | LiteOp::Slice
        | LiteOp::StridedSlice { .. }
        | LiteOp::Pad
        | LiteOp::MirrorPad { .. }
        | LiteOp::Reverse
        | LiteOp::DynamicUpdateSlice
        | LiteOp::Gather { .. }
        | LiteOp::GatherNd
        | LiteOp::Select
        | LiteOp::ArgMax { .. }
        | LiteOp::ArgMin { .. }
        | LiteOp::TopK
        | LiteOp::Where
        | LiteOp::Fill
        | LiteOp::DepthToSpace { .. }
        | LiteOp::SpaceToDepth { .. }
        | LiteOp::While { .. }
        | LiteOp::If { .. }
        | LiteOp::Cast
        | LiteOp::Quantize
        | LiteOp::Dequantize
        | LiteOp::Custom { .. } => return ordinary(ctx, node),
        LiteOp::Concatenation { .. } => conversion::raise_concatenation(ctx, node, ordinary)?,
        LiteOp::Conv2D { .. } => match conv::raise_conv(ctx, node)? {
            None => hybrid::raise_conv(ctx, node)?,
            done => done,
        },
        LiteOp::DepthwiseConv2D { .. } => match conv::raise_depthwise(ctx, node)? {
            None => hybrid::raise_depthwise(ctx, node)?,
            done => done,
        },
        LiteOp::FullyConnected { .. } => match conv::raise_dense(ctx, node)? {
            None => hybrid::raise_dense(ctx, node)?,
            done => done,
        },
        LiteOp::Pool2D { .. } => window::raise_pool(ctx, node)?,
        LiteOp::Unary(_) | LiteOp::LeakyRelu { .. } | LiteOp::Gelu { .. } => {
            activation::raise(ctx, node)?
        }
        LiteOp::TransposeConv { .. } => conv::raise_transpose(ctx, node)?,
        LiteOp::ResizeBilinear { align_corners, half_pixel_centers } => {
            window::raise_bilinear(ctx, node, *align_corners, *half_pixel_centers)?
        }
        LiteOp::Softmax { beta } => reduce::raise_softmax(ctx, node, *beta)?,
        LiteOp::Reduce { .. } => reduce::raise(ctx, node, ordinary)?,
        LiteOp::Binary { .. } | LiteOp::PRelu => binary::raise(ctx, node, ordinary)?,
        LiteOp::BatchMatMul { .. }
        | LiteOp::LogSoftmax
        | LiteOp::Conv3D { .. }
        | LiteOp::LocalResponseNormalization { .. }
        | LiteOp::CumSum { .. }
        | LiteOp::ScatterNd
        | LiteOp::UnsortedSegment { .. }
        | LiteOp::NonMaxSuppression
        | LiteOp::OneHot { .. }
        | LiteOp::Range
        | LiteOp::ResizeNearest { .. } => None,
    };
    match exact {
        Some(()) => Ok(()),
        None => raise_on_reals(ctx, node, ordinary),
    }
}

/// Dequantizes what `node` reads, computes it in float32 and quantizes what it makes.
fn raise_on_reals(
    ctx: &mut RaiseContext,
    node: &Node,
    ordinary: fn(&mut RaiseContext, &Node) -> Result<()>,
) -> Result<()> {
    let mut before = vec![];
    for &tensor in node.inputs.iter().flatten() {
        let known = before.iter().any(|(seen, _)| *seen == tensor);
        let read = &ctx.graph.tensors[tensor];
        let is_bias = read.element == ElementType::I32 && read.quantization.is_some();
        if !known && (is_quantized(read) || is_bias) {
            let reals = conversion::reals(ctx, tensor)?;
            before.push((tensor, ctx.replace(tensor, Some(reals))));
        }
    }
    let raised = ordinary(ctx, node);
    for (tensor, outlet) in before {
        ctx.replace(tensor, outlet);
    }
    raised?;
    for &tensor in &node.outputs {
        if is_quantized(&ctx.graph.tensors[tensor]) {
            let reals = ctx.outlet(tensor)?;
            let name = &ctx.graph.tensors[tensor].name;
            let integers = conversion::quantized(ctx, name, reals, tensor)?;
            ctx.set(tensor, integers);
        }
    }
    Ok(())
}

/// The one scale and zero point of a tensor; `None` of one that has several, or none.
fn affine(tensor: &Tensor) -> Option<Affine> {
    let (scale, zero_point) = match tensor.quantization.as_ref()? {
        Quantization::PerTensor { scale, zero_point } => (*scale, *zero_point),
        Quantization::PerChannel { scales, zero_points, .. } => match scales.as_slice() {
            [scale] => (*scale, zero_points.first().copied().unwrap_or(0)),
            _ => return None,
        },
        Quantization::Blockwise { .. } => return None,
    };
    let datum = datum_type(tensor.element).ok()?;
    let [low, high] = bounds(datum);
    let zero_point = i32::try_from(zero_point).ok().filter(|z| (low..=high).contains(z))?;
    (scale.is_finite() && scale > 0.0).then_some(Affine { datum, scale, zero_point })
}

/// The scale of a quantized tensor that has one.
pub fn scale_of(graph: &Subgraph, tensor: TensorId) -> Option<f32> {
    let tensor = &graph.tensors[tensor];
    affine(tensor).filter(|_| is_quantized(tensor)).map(|found| found.scale)
}

/// As [`affine`] of an activation of `node`: 8 or 16 bits, the latter with a zero point of 0.
fn activation_of(ctx: &RaiseContext, tensor: Option<TensorId>) -> Option<Affine> {
    let tensor = &ctx.graph.tensors[tensor?];
    let found = affine(tensor).filter(|_| is_quantized(tensor))?;
    (found.datum != DatumType::I16 || found.zero_point == 0).then_some(found)
}

fn input_of(ctx: &RaiseContext, node: &Node, index: usize) -> Option<Affine> {
    activation_of(ctx, node.inputs.get(index).copied().flatten())
}

fn output_of(ctx: &RaiseContext, node: &Node) -> Option<Affine> {
    activation_of(ctx, node.outputs.first().copied())
}

/// The integers that a fused activation leaves; `None` of one that is not a clamp.
fn activation_bounds(activation: Activation, output: Affine) -> Option<[i32; 2]> {
    let [low, high] = output.bounds();
    Some(match activation {
        Activation::None => [low, high],
        Activation::Relu => [low.max(output.nearest(0.0)), high],
        Activation::Relu6 => [low.max(output.nearest(0.0)), high.min(output.nearest(6.0))],
        Activation::ReluN1To1 => [low.max(output.nearest(-1.0)), high.min(output.nearest(1.0))],
        Activation::Tanh | Activation::SignBit => return None,
    })
}

/// The integers of a constant, those of 4 bits unpacked.
fn integers(tensor: &Tensor) -> Option<Vec<i64>> {
    let data = tensor.data.as_ref()?;
    let count = tensor.known_shape()?.iter().try_fold(1usize, |n, &d| n.checked_mul(d))?;
    let found: Vec<i64> = match tensor.element {
        ElementType::I4 => {
            let halves = data.iter().flat_map(|&b| [(b << 4) as i8 >> 4, b as i8 >> 4]);
            halves.take(count).map(i64::from).collect()
        }
        ElementType::I8 => data.iter().map(|&b| i64::from(b as i8)).collect(),
        ElementType::U8 => data.iter().map(|&b| i64::from(b)).collect(),
        ElementType::I16 => {
            data.as_chunks::<2>().0.iter().map(|b| i16::from_le_bytes(*b).into()).collect()
        }
        ElementType::I32 => {
            data.as_chunks::<4>().0.iter().map(|b| i32::from_le_bytes(*b).into()).collect()
        }
        ElementType::I64 => {
            data.as_chunks::<8>().0.iter().map(|b| i64::from_le_bytes(*b)).collect()
        }
        ElementType::F32
        | ElementType::F16
        | ElementType::U16
        | ElementType::U32
        | ElementType::Bool
        | ElementType::String => return None,
    };
    (found.len() == count).then_some(found)
}

/// What PAD fills with in a quantized tensor: its integer for 0.
pub fn zero_of(tensor: &Tensor) -> Option<Result<tract::Tensor>> {
    let found = affine(tensor).filter(|_| is_quantized(tensor))?;
    Some(tract::tensor0(found.zero_point).cast_to_dt(found.datum).map(|zero| zero.into_owned()))
}
