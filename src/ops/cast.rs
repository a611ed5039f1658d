//! Ops between element types: DEQUANTIZE of float16 constants.

use super::*;
use crate::tract::ops::cast::cast;
use anyhow::bail;

pub fn lower(_ctx: &mut LowerContext, _node: &TypedNode) -> Result<Option<()>> {
    Ok(None)
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let tensor = node.inputs.first().copied().flatten().context("DEQUANTIZE lacks its input")?;
    let element = ctx.graph.tensors[tensor].element;
    if element != ElementType::F16 {
        bail!("'{name}': DEQUANTIZE of {element} is not supported yet");
    }
    let input = ctx.input(node, 0)?;
    let wire = ctx.wire(name, cast(DatumType::F32), &[input])?;
    ctx.finish(node, wire)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok((op.builtin == BuiltinOperator::DEQUANTIZE).then_some(LiteOp::Dequantize))
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    let version = match input_element(graph, node, 0) {
        Some(ElementType::F16) => 3,
        Some(ElementType::I8) => 2,
        _ => 1,
    };
    let options = BuiltinOptions::Dequantize;
    Ok(TfliteOp::new(BuiltinOperator::DEQUANTIZE, version, options))
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    super::permute_elementwise(graph, node, permutation)
}
