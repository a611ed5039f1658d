//! Windows without weights: AVERAGE_POOL_2D, MAX_POOL_2D, LOCAL_RESPONSE_NORMALIZATION.

use super::*;
use anyhow::bail;

pub fn lower(_ctx: &mut LowerContext, _node: &TypedNode) -> Result<Option<()>> {
    Ok(None)
}

pub fn raise(_ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    bail!("{} cannot be computed yet", node.op.name())
}

pub fn read(_op: &TfliteOp) -> Result<Option<LiteOp>> {
    Ok(None)
}

pub fn write(_graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    bail!("{} cannot be written yet", node.op.name())
}

pub fn permute(_graph: &Subgraph, _node: &Node, _permutation: &[usize]) -> Option<Passage> {
    None
}
