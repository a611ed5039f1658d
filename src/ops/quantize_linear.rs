//! QuantizeLinear and DequantizeLinear of ONNX: QUANTIZE and DEQUANTIZE where TFLite has the type and the scale,
//! otherwise the arithmetic that they stand for.

use super::compose::Chain;
use super::*;
use crate::graph::{BinaryOp, Quantization, UnaryOp};
use crate::tract::ops::cast::Cast;
use crate::tract::typed_ops::quantized::{Channels, DequantizeLinear, QuantizeLinear, bounds};

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<QuantizeLinear>() {
        return quantize(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<DequantizeLinear>() {
        return dequantize(ctx, node, op).map(Some);
    }
    Ok(None)
}

/// As a tensor of `element` carries them; `None` of what TFLite's QUANTIZE and DEQUANTIZE do not take.
fn quantization(channels: &Channels, element: ElementType) -> Option<Quantization> {
    let (&[scale], &[zero_point]) = (channels.scales.as_slice(), channels.zero_points.as_slice())
    else {
        return None;
    };
    let taken = match element {
        ElementType::I8 | ElementType::U8 => true,
        ElementType::I16 => zero_point == 0,
        _ => false,
    };
    let usable = scale.is_finite() && scale > 0.0;
    (taken && usable).then(|| Quantization::PerTensor { scale, zero_point: zero_point.into() })
}

/// Whether nobody takes the integers of `outlet` for numbers of their own.
fn stand_for_reals(ctx: &LowerContext, outlet: OutletId) -> bool {
    let node = ctx.model.node(outlet.node);
    let readers = node.outputs.get(outlet.slot).map_or(&[][..], |o| &o.successors);
    readers.iter().all(|reader| {
        let reader = ctx.model.node(reader.node);
        reader.op_is::<DequantizeLinear>() || reader.op_is::<Cast>()
    })
}

fn quantize(ctx: &mut LowerContext, node: &TypedNode, op: &QuantizeLinear) -> Result<()> {
    let outlet = OutletId::new(node.id, 0);
    let element = element_type(op.datum)?;
    let shape = ctx.shape(outlet)?;
    let x = ctx.tensor_as(node.inputs[0], ElementType::F32)?;
    if let Some(scales) = quantization(&op.channels, element)
        && stand_for_reals(ctx, outlet)
    {
        let tensor = ctx.emit(&node.name, LiteOp::Quantize, &[x], element, &shape);
        ctx.graph.tensors[tensor].quantization = Some(scales);
        ctx.bind(node, tensor);
        return Ok(());
    }
    ensure!(op.channels.scales.iter().all(|&s| s > 0.0), "a scale is not above 0");
    let scales = along_axis(ctx, node, "scales", &op.channels.scales, op.channels.axis)?;
    let zeros: Vec<f32> = op.channels.zero_points.iter().map(|&z| z as f32).collect();
    let zeros = along_axis(ctx, node, "zero_points", &zeros, op.channels.axis)?;
    let to = ctx.element(outlet)?;
    let mut chain = Chain::new(ctx, &node.name, ElementType::F32, &shape);
    let [low, high] = bounds(op.datum).map(|bound| chain.scalar(bound as f32));
    let steps = chain.binary(BinaryOp::Div, x, scales);
    let rounded = chain.unary(UnaryOp::Round, steps);
    let shifted = chain.binary(BinaryOp::Add, rounded, zeros);
    let least = chain.binary(BinaryOp::Maximum, shifted, low?);
    let within = chain.binary(BinaryOp::Minimum, least, high?);
    let result = chain.convert(within, to);
    ctx.bind(node, result);
    Ok(())
}

fn dequantize(ctx: &mut LowerContext, node: &TypedNode, op: &DequantizeLinear) -> Result<()> {
    let input = node.inputs[0];
    let outlet = OutletId::new(node.id, 0);
    let shape = ctx.shape(outlet)?;
    let x = ctx.tensor(input)?;
    let element = ctx.graph.tensors[x].element;
    let scales = quantization(&op.channels, element).filter(|_| stand_for_reals(ctx, input));
    if let Some(scales) = scales {
        let is_given = ctx.graph.inputs.contains(&x);
        let tensor = &mut ctx.graph.tensors[x];
        if is_given && tensor.quantization.is_none() {
            tensor.quantization = Some(scales.clone());
        }
        if tensor.quantization.as_ref() == Some(&scales) {
            let result = ctx.emit(&node.name, LiteOp::Dequantize, &[x], ElementType::F32, &shape);
            ctx.bind(node, result);
            return Ok(());
        }
    }
    let scales = along_axis(ctx, node, "scales", &op.channels.scales, op.channels.axis)?;
    let mut chain = Chain::new(ctx, &node.name, ElementType::F32, &shape);
    let mut reals = chain.convert(x, ElementType::F32);
    if op.channels.zero_points.iter().any(|&zero| zero != 0) {
        let zeros: Vec<f32> = op.channels.zero_points.iter().map(|&z| z as f32).collect();
        let zeros = along_axis(chain.ctx, node, "zero_points", &zeros, op.channels.axis)?;
        reals = chain.binary(BinaryOp::Sub, reals, zeros);
    }
    let result = chain.binary(BinaryOp::Mul, reals, scales);
    ctx.bind(node, result);
    Ok(())
}

/// One number, or one for each place of `axis`, to broadcast.
fn along_axis(
    ctx: &mut LowerContext,
    node: &TypedNode,
    part: &str,
    values: &[f32],
    axis: usize,
) -> Result<TensorId> {
    let rank = ctx.shape(OutletId::new(node.id, 0))?.len();
    let mut shape = vec![];
    if values.len() > 1 {
        ensure!(axis < rank, "scales on axis {axis} of rank {rank}");
        shape = vec![1; rank - axis];
        shape[0] = values.len();
    }
    let value = tract::Tensor::from_shape(&shape, values)?;
    ctx.add_constant(&format!("{}/{part}", node.name), &value)
}
