//! Between reals and integers, and between scales: QUANTIZE, DEQUANTIZE, CONCATENATION of several scales.

use super::*;
use crate::kernels::fixed_point::Multiplier;
use crate::tract::IntoTValue;
use crate::tract::typed_ops::quantized::{
    Channels, Dequantize, Kernel, Quantize, Requantization, Table,
};

/// Scales and zero points of a tensor, one or along an axis.
fn channels(tensor: &Tensor) -> Result<Channels> {
    let at = || format!("tensor '{}'", tensor.name);
    let quantization = tensor.quantization.as_ref();
    let (scales, zero_points, axis) =
        match quantization.with_context(|| format!("{} has no scale", at()))? {
            Quantization::PerTensor { scale, zero_point } => (vec![*scale], vec![*zero_point], 0),
            Quantization::PerChannel { scales, zero_points, axis } => {
                (scales.clone(), zero_points.clone(), *axis)
            }
            Quantization::Blockwise { .. } => {
                return Err(anyhow!("{}: scales of blocks are not supported yet", at()));
            }
        };
    let zero_points: Vec<i32> =
        zero_points.into_iter().map(i32::try_from).collect::<Result<_, _>>().with_context(at)?;
    let size = tensor.shape.get(axis).and_then(Dim::known);
    ensure!(
        scales.len() == zero_points.len() && (scales.len() == 1 || size == Some(scales.len())),
        "{}: {} scales and {} zero points on axis {axis}",
        at(),
        scales.len(),
        zero_points.len()
    );
    ensure!(scales.iter().all(|s| s.is_finite() && *s > 0.0), "{}: a scale is not above 0", at());
    Ok(Channels { scales, zero_points, axis })
}

/// A constant whose blocks of `size` along its last axis have a scale each.
fn reals_of_blocks(
    tensor: &Tensor,
    scales: &[f32],
    axis: usize,
    size: usize,
) -> Result<tract::Tensor> {
    let at = || format!("tensor '{}'", tensor.name);
    let shape = tensor.known_shape().with_context(at)?;
    let integers = integers(tensor).with_context(|| format!("{}: no constant", at()))?;
    let last = shape.last().copied().unwrap_or(1);
    let in_rows = axis + 1 == shape.len() && size > 0 && last.is_multiple_of(size);
    ensure!(in_rows, "{}: only whole blocks along the last axis are supported", at());
    ensure!(integers.len() / size == scales.len(), "{}: not a scale for each block", at());
    let blocks = integers.chunks(size).zip(scales);
    let reals: Vec<f32> =
        blocks.flat_map(|(block, &scale)| block.iter().map(move |&i| i as f32 * scale)).collect();
    Ok(tract::Tensor::from_shape(&shape, &reals)?)
}

/// `tensor` in float32; a constant is computed here and now.
pub fn reals(ctx: &mut RaiseContext, tensor: TensorId) -> Result<OutletId> {
    let read = &ctx.graph.tensors[tensor];
    let name = format!("{}/real", read.name);
    if let Some(Quantization::Blockwise { scales, axis, size, .. }) = &read.quantization {
        let reals = reals_of_blocks(read, scales, *axis, *size)?;
        return ctx.add_constant(&name, reals.into_arc_tensor());
    }
    let channels = channels(read)?;
    let shape = read.known_shape();
    let integers = match (read.element, &read.data, &shape) {
        (ElementType::I4, _, Some(shape)) => {
            let integers = integers(read).context("int4 values that are not constant")?;
            let integers: Vec<i8> = integers.into_iter().map(|i| i as i8).collect();
            Some(tract::Tensor::from_shape(shape, &integers)?)
        }
        (_, Some(_), Some(_)) => Some((*tract_constant(read)?).clone().into_plain_ram()?),
        _ => None,
    };
    let op = Dequantize { channels };
    if let Some(integers) = integers {
        let reals = op.run(&[integers.into_tvalue()])?;
        return ctx.add_constant(&name, reals.into_arc_tensor());
    }
    let input = ctx.outlet(tensor)?;
    ctx.wire(&name, Quantized::new(op), &[input])
}

/// float32 values as the integers of `tensor`.
pub fn quantized(
    ctx: &mut RaiseContext,
    name: &str,
    reals: OutletId,
    tensor: TensorId,
) -> Result<OutletId> {
    let made = &ctx.graph.tensors[tensor];
    let (datum, channels) = (datum_type(made.element)?, channels(made)?);
    ctx.wire(name, Quantized::new(Quantize { datum, channels }), &[reals])
}

pub fn raise_dequantize(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let tensor = node.inputs.first().copied().flatten().context("no input")?;
    let wire = reals(ctx, tensor)?;
    ctx.finish(node, wire)
}

/// QUANTIZE of reals, or from integers of one scale to those of another.
pub fn raise_quantize(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let from = node.inputs.first().copied().flatten().context("no input")?;
    let &[to] = node.outputs.as_slice() else { return Err(anyhow!("QUANTIZE has one output")) };
    let input = ctx.outlet(from)?;
    if ctx.graph.tensors[from].element == ElementType::F32 {
        let wire = quantized(ctx, name, input, to)?;
        return ctx.finish(node, wire);
    }
    let scales = [from, to].map(|t| affine(&ctx.graph.tensors[t]));
    let [Some(from), Some(to)] = scales else {
        return Err(anyhow!("'{name}': QUANTIZE between scales that are not of whole tensors"));
    };
    let multiplier = Multiplier::of(f64::from(from.scale) / f64::from(to.scale));
    let op = Requantization { from: from.zero_point, multiplier, to };
    let wire = match from.datum.size_of() {
        1 => {
            let table = Table::new("Requantize", from.datum, to.datum, |x| op.of(x))?;
            ctx.wire(name, Quantized::new(table), &[input])?
        }
        _ => ctx.wire(name, Quantized::new(op), &[input])?,
    };
    ctx.finish(node, wire)
}

/// Parts whose scale is not the result's are brought to it, as the uint8 kernel does.
pub fn raise_concatenation(
    ctx: &mut RaiseContext,
    node: &Node,
    ordinary: fn(&mut RaiseContext, &Node) -> Result<()>,
) -> Result<Option<()>> {
    let Some(to) = output_of(ctx, node) else { return Ok(None) };
    let mut before = vec![];
    for (i, &tensor) in node.inputs.iter().enumerate() {
        let (Some(tensor), Some(from)) = (tensor, input_of(ctx, node, i)) else { return Ok(None) };
        let known = before.iter().any(|(seen, _)| *seen == tensor);
        if from == to || known || from.datum.size_of() != 1 {
            continue;
        }
        let scale = from.scale * (1.0 / to.scale);
        let bias = -(from.zero_point as f32) * scale;
        let rescaled =
            |x: i32| ((x as f32 * scale + bias).round() as i32).saturating_add(to.zero_point);
        let table = Table::new("Requantize", from.datum, to.datum, rescaled)?;
        let input = ctx.outlet(tensor)?;
        let name = format!("{}/rescaled", ctx.graph.tensors[tensor].name);
        let wire = ctx.wire(&name, Quantized::new(table), &[input])?;
        before.push((tensor, ctx.replace(tensor, Some(wire))));
    }
    let raised = ordinary(ctx, node);
    for (tensor, outlet) in before {
        ctx.replace(tensor, outlet);
    }
    raised.map(Some)
}
