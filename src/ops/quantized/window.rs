//! MAX_POOL_2D and AVERAGE_POOL_2D.

use super::*;
use crate::graph::PoolKind;
use crate::ops::window::channels_last_spec;
use crate::tract::typed_ops::quantized::Pool;

pub fn raise_pool(ctx: &mut RaiseContext, node: &Node) -> Result<Option<()>> {
    let LiteOp::Pool2D { kind, padding, strides, filter, activation } = &node.op else {
        return Ok(None);
    };
    let (Some(input), Some(output)) = (input_of(ctx, node, 0), output_of(ctx, node)) else {
        return Ok(None);
    };
    let Some(bounds) = activation_bounds(*activation, output) else { return Ok(None) };
    if input.datum != output.datum {
        return Ok(None);
    }
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let shape = ctx.shape(x)?;
    ensure!(shape.len() == 4, "'{name}': an input of rank {}", shape.len());
    let channels = shape[3].to_usize().with_context(|| format!("'{name}': unknown channels"))?;
    let spec = channels_last_spec(filter, *padding, strides, &[1, 1], [channels; 2]);
    let op = Pool { spec, is_max: *kind == PoolKind::Max, bounds };
    let wire = ctx.wire(name, Quantized::new(op), &[x])?;
    ctx.finish(node, wire).map(Some)
}
