//! Between element types.

use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let x = ctx.input(node, 0)?;
    let (from, to) = (ctx.input_tensor(node, 0)?, ctx.output_tensor(node)?);
    let value = match &node.op {
        LiteOp::Cast => ctx.cast(x, from.element, to.element),
        LiteOp::Dequantize => match &from.quantization {
            None => ctx.cast(x, from.element, to.element),
            Some(quantization) => dequantize(ctx, x, from, quantization)?,
        },
        LiteOp::Quantize => quantize(ctx, x, from, to)?,
        other => bail!("{} does not cast", other.name()),
    };
    ctx.bind(node, value)
}

fn dequantize(
    ctx: &mut GraphDefContext,
    x: GraphDefValue,
    tensor: &Tensor,
    quantization: &Quantization,
) -> Result<GraphDefValue> {
    let (scales, zero_points, shape) = match quantization {
        Quantization::PerTensor { scale, zero_point } => (vec![*scale], vec![*zero_point], vec![]),
        Quantization::PerChannel { scales, zero_points, axis } => {
            let mut shape = vec![1; tensor.shape.len()];
            *shape.get_mut(*axis).context("scales of an axis that is not there")? = scales.len();
            (scales.clone(), zero_points.clone(), shape)
        }
        Quantization::Blockwise { .. } => bail!("TensorFlow has no scales of blocks"),
    };
    let mut value = ctx.cast(x, tensor.element, ElementType::F32);
    if zero_points.iter().any(|&zero| zero != 0) {
        let zeros: Vec<f32> = zero_points.iter().map(|&zero| zero as f32).collect();
        let zeros = ctx.f32_array(&zeros, &shape);
        value = ctx.add_typed("Sub", ElementType::F32, &[value, zeros]);
    }
    let scales = ctx.f32_array(&scales, &shape);
    Ok(ctx.add_typed("Mul", ElementType::F32, &[value, scales]))
}

fn quantize(
    ctx: &mut GraphDefContext,
    x: GraphDefValue,
    from: &Tensor,
    to: &Tensor,
) -> Result<GraphDefValue> {
    let (low, high) = match to.element {
        ElementType::I8 => (-128.0, 127.0),
        ElementType::U8 => (0.0, 255.0),
        ElementType::I16 => (-32768.0, 32767.0),
        other => bail!("values become {other}"),
    };
    let Some(Quantization::PerTensor { scale, zero_point }) = to.quantization else {
        bail!("values become integers without one scale");
    };
    ensure!(from.element == ElementType::F32, "{} values become other integers", from.element);
    let of_floats = |ctx: &mut GraphDefContext, op, x, number| {
        let number = ctx.f32_scalar(number);
        ctx.add_typed(op, ElementType::F32, &[x, number])
    };
    let value = of_floats(ctx, "RealDiv", x, scale);
    let value = ctx.add_typed("Round", ElementType::F32, &[value]);
    let value = of_floats(ctx, "AddV2", value, zero_point as f32);
    let value = of_floats(ctx, "Maximum", value, low);
    let value = of_floats(ctx, "Minimum", value, high);
    Ok(ctx.cast(value, ElementType::F32, to.element))
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let element = node.element("DstT")?.context("it names no type")?;
    Ok(vec![ctx.cast(node.input(0)?, element)?])
}
