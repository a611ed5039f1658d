//! Ops between element types: CAST, QUANTIZE and DEQUANTIZE.

use super::*;
use crate::format::tflite::CastOptions;
use crate::graph::Quantization;
use crate::tract::mapped::widened_tensor;
use crate::tract::ops::cast::{Cast, cast};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(op) = node.op_as::<Cast>() else { return Ok(None) };
    let to = carrier(element_type(op.to)?);
    let from = ctx.element(node.inputs[0])?;
    ensure!(
        to != ElementType::String && from != ElementType::String,
        "a cast {from} → {to}: TFLite casts no strings; convert them outside the model"
    );
    let input = ctx.tensor(node.inputs[0])?;
    let result = ctx.cast(&node.name, input, to);
    ctx.bind(node, result);
    Ok(Some(()))
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let tensor = node.inputs.first().copied().flatten().context("no input")?;
    if let Some(wide) = widened_constant(ctx, node, tensor)? {
        return ctx.finish(node, wide);
    }
    if node.op == LiteOp::Quantize {
        return quantized::raise_quantize(ctx, node);
    }
    if node.op == LiteOp::Dequantize && ctx.graph.tensors[tensor].element != ElementType::F16 {
        return quantized::raise_dequantize(ctx, node);
    }
    let input = ctx.input(node, 0)?;
    let target = match &node.op {
        LiteOp::Cast => {
            let output = node.outputs.first().context("CAST lacks its output")?;
            datum_type(ctx.graph.tensors[*output].element)?
        }
        LiteOp::Dequantize => DatumType::F32,
        other => bail!("{} does not change the element type", other.name()),
    };
    let is_shape = ctx.model.outlet_fact(input)?.datum_type == DatumType::TDim;
    if is_shape && target.is_integer() {
        return ctx.finish(node, input);
    }
    let wire = ctx.wire(name, cast(target), &[input])?;
    ctx.finish(node, wire)
}

/// DEQUANTIZE of a float16 constant, which stays as it is in the file until it is read.
fn widened_constant(
    ctx: &mut RaiseContext,
    node: &Node,
    tensor: TensorId,
) -> Result<Option<OutletId>> {
    let tensor = &ctx.graph.tensors[tensor];
    let (LiteOp::Dequantize, ElementType::F16, Some(halves), Some(shape)) =
        (&node.op, tensor.element, &tensor.data, tensor.known_shape())
    else {
        return Ok(None);
    };
    let value = widened_tensor(&shape, halves.clone())
        .with_context(|| format!("constant '{}'", tensor.name))?;
    let value = match halves.len() < super::constants::LARGE {
        true => value.into_plain_ram()?,
        false => value,
    };
    ctx.add_constant(ctx.output_name(node), value.into_arc_tensor()).map(Some)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(match op.builtin {
        BuiltinOperator::QUANTIZE => Some(LiteOp::Quantize),
        BuiltinOperator::DEQUANTIZE => Some(LiteOp::Dequantize),
        BuiltinOperator::CAST => Some(LiteOp::Cast),
        _ => None,
    })
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    let from = input_element(graph, node, 0).context("no input")?;
    if node.op == LiteOp::Quantize {
        return write_quantize(graph, node, from);
    }
    if node.op == LiteOp::Dequantize {
        use ElementType::{F16, I4, I8, I16};
        let input = node.inputs[0].and_then(|t| graph.tensors[t].quantization.as_ref());
        let version = match input {
            Some(Quantization::PerChannel { .. }) if from != I4 => 5,
            _ => version_of(Some(from), &[(I4, 6), (F16, 3), (I16, 3), (I8, 2)]),
        };
        let options = BuiltinOptions::Dequantize;
        return Ok(TfliteOp::new(BuiltinOperator::DEQUANTIZE, version, options));
    }
    let to = node.outputs.first().map(|&t| graph.tensors[t].element).context("no output")?;
    let has = |element| from == element || to == element;
    let version = match () {
        () if has(ElementType::F16) => 5,
        () if has(ElementType::U16) => 4,
        () if has(ElementType::I8) => 3,
        () if has(ElementType::U32) => 2,
        () => 1,
    };
    let options = CastOptions { in_data_type: tensor_type(from), out_data_type: tensor_type(to) };
    Ok(TfliteOp::new(BuiltinOperator::CAST, version, BuiltinOptions::Cast(options)))
}

fn write_quantize(graph: &Subgraph, node: &Node, from: ElementType) -> Result<TfliteOp> {
    let to = node.outputs.first().map(|&t| &graph.tensors[t]).context("no output")?;
    let version = match (&to.quantization, to.element) {
        _ if from == ElementType::I4 || to.element == ElementType::I4 => 4,
        (Some(Quantization::PerChannel { .. }), _) => 3,
        (_, ElementType::I16) => 2,
        _ => 1,
    };
    Ok(TfliteOp::new(BuiltinOperator::QUANTIZE, version, BuiltinOptions::Quantize))
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    super::permute_elementwise(graph, node, permutation)
}
