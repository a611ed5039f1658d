//! MAX_POOL_2D, AVERAGE_POOL_2D and RESIZE_BILINEAR.

use super::*;
use crate::graph::PoolKind;
use crate::ops::window::channels_last_spec;
use crate::tract::typed_ops::quantized::{Bilinear, Pool};

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

/// Of values of one scale before and after.
pub fn raise_bilinear(
    ctx: &mut RaiseContext,
    node: &Node,
    align_corners: bool,
    half_pixel_centers: bool,
) -> Result<Option<()>> {
    let (input, output) = (input_of(ctx, node, 0), output_of(ctx, node));
    let size = ctx.i32_input(node, 1)?;
    let &[rows, columns] = size.as_slice() else { return Ok(None) };
    if input.is_none() || input != output || rows < 1 || columns < 1 {
        return Ok(None);
    }
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let rank = ctx.shape(x)?.len();
    ensure!(rank == 4, "'{name}': an input of rank {rank}");
    let size = [usize::try_from(rows)?, usize::try_from(columns)?];
    let op = Bilinear { size, align_corners, half_pixel_centers };
    let wire = ctx.wire(name, Quantized::new(op), &[x])?;
    ctx.finish(node, wire).map(Some)
}
