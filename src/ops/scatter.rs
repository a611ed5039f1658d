//! Ops that write by index: SCATTER_ND.

use super::compose::Chain;
use super::*;
use crate::graph::BinaryOp;
use crate::tract::ops::array::{self, MultiBroadcastTo, ScatterReduction};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let (places, reduction) = if let Some(op) = node.op_as::<array::ScatterNd>() {
        let dims = ctx.shape(node.inputs[1])?;
        let depth = dims.last().context("indices of no axis")?.to_usize()?;
        let data = ctx.shape(node.inputs[0])?;
        let lengths = data.get(..depth).context("indices that are too deep")?.to_vec();
        let name = format!("{}/places", node.name);
        let raw = ctx.tensor_as(node.inputs[1], ElementType::I32)?;
        let lengths = ctx.shape_tensor(&format!("{name}/lengths"), &lengths)?;
        let mut chain = Chain::new(ctx, &name, ElementType::I32, &dims);
        (chain.binary(BinaryOp::FloorMod, raw, lengths), op.reduction)
    } else if let Some(op) = node.op_as::<array::ScatterElements>() {
        let len = ctx.shape(node.inputs[0])?[op.axis].clone();
        let indices = node.inputs[1];
        (super::gather::element_places(ctx, node, indices, op.axis, &len)?, op.reduction)
    } else {
        return Ok(None);
    };
    let element = ctx.element(node.inputs[0])?;
    ensure!(
        matches!(element, ElementType::F32 | ElementType::I32 | ElementType::I64),
        "a scatter of {element}"
    );
    let shape = ctx.shape(node.inputs[0])?;
    let update_shape = ctx.shape(node.inputs[2])?;
    let data = ctx.tensor(node.inputs[0])?;
    let updates = ctx.tensor(node.inputs[2])?;
    let target = ctx.shape_tensor(&format!("{}/shape", node.name), &shape)?;
    let name = format!("{}/scattered", node.name);
    let inputs = [places, updates, target];
    let scattered = ctx.emit(&name, LiteOp::ScatterNd, &inputs, element, &shape);
    let result = match reduction {
        ScatterReduction::Add => {
            Chain::new(ctx, &node.name, element, &shape).binary(BinaryOp::Add, data, scattered)
        }
        ScatterReduction::None => {
            let count: usize = update_shape
                .iter()
                .map(|d| d.to_usize().context("a scatter of a dynamic number of updates"))
                .product::<Result<_>>()?;
            ensure!(count <= 1 << 24, "a scatter of {count} updates");
            let dims: Vec<usize> =
                update_shape.iter().map(|d| Ok(d.to_usize()?)).collect::<Result<_>>()?;
            let name = format!("{}/written", node.name);
            let ones = ctx.add_i32_tensor(&name, &dims, &vec![1; count]);
            let inputs = [places, ones, target];
            let hits = ctx.emit(&name, LiteOp::ScatterNd, &inputs, ElementType::I32, &shape);
            let mut chain = Chain::new(ctx, &name, ElementType::I32, &shape);
            let zero = chain.scalar(0.0)?;
            let written = chain.compare(BinaryOp::Greater, hits, zero);
            Chain::new(ctx, &node.name, element, &shape).select(written, scattered, data)
        }
        ScatterReduction::Mul | ScatterReduction::Min | ScatterReduction::Max => {
            bail!("a scatter that reduces by {}; TFLite has only addition", reduction.as_str())
        }
    };
    ctx.bind(node, result);
    Ok(Some(()))
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let (indices, updates) = (ctx.input(node, 0)?, ctx.input(node, 1)?);
    let shape = ctx.dims_input(node, 2)?;
    let element = ctx.model.outlet_fact(updates)?.datum_type;
    let zero = tract::Tensor::zero_dt(element, &vec![1; shape.len()])?.into_arc_tensor();
    let zero = ctx.add_constant(&format!("{name}/zero"), zero)?;
    let op = MultiBroadcastTo { shape: shape.into_iter().collect() };
    let zeros = ctx.wire(&format!("{name}/zeros"), op, &[zero])?;
    let op = array::ScatterNd::new(ScatterReduction::Add);
    let wire = ctx.wire(name, op, &[zeros, indices, updates])?;
    ctx.finish(node, wire)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok((op.builtin == BuiltinOperator::SCATTER_ND).then_some(LiteOp::ScatterNd))
}

pub fn write(_graph: &Subgraph, _node: &Node) -> Result<TfliteOp> {
    Ok(TfliteOp::new(BuiltinOperator::SCATTER_ND, 1, BuiltinOptions::ScatterNd))
}

pub fn permute(_graph: &Subgraph, _node: &Node, _permutation: &[usize]) -> Option<Passage> {
    None
}
