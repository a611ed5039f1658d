//! Pooling: by windows and over everything.

use super::conv::{padding, windows};
use super::*;

pub fn window(c: &mut Context, kind: PoolKind, axes: usize) -> Result<TensorId> {
    let x = c.float_input()?;
    c.ensure_rank(x, axes + 2)?;
    let x = c.to_channels_last(x)?;
    let x = if axes == 1 { c.with_rows(x)? } else { x };
    let key = if c.value("pool_size").is_null() { "pool_length" } else { "pool_size" };
    let sizes = c.sizes(key, axes, 2)?;
    let steps = match c.value("strides") {
        Value::Null => sizes.clone(),
        _ => c.sizes("strides", axes, 1)?,
    };
    let pair = |sizes: Vec<usize>| if axes == 1 { [1, sizes[0]] } else { [sizes[0], sizes[1]] };
    let (filter, strides) = (pair(sizes), pair(steps));
    let padding = padding(c)?;
    let mut shape = c.builder.shape(x);
    for axis in 0..2 {
        shape[axis + 1] = windows(&shape[axis + 1], filter[axis], strides[axis], padding)?;
    }
    let op = LiteOp::Pool2D { kind, padding, strides, filter, activation: Activation::None };
    let name = c.named("pool");
    let y = c.builder.op(&name, op, &[x], shape)?;
    let y = if axes == 1 { c.without_rows(y)? } else { y };
    c.from_channels_last(y)
}

pub fn global(c: &mut Context, op: ReduceOp) -> Result<TensorId> {
    let x = c.float_input()?;
    let rank = c.builder.rank(x);
    ensure!(rank >= 3, "an input of rank {rank}");
    let axes: Vec<usize> =
        if c.channels_first() { (2..rank).collect() } else { (1..rank - 1).collect() };
    let keep = c.flag("keepdims", false);
    let name = c.named("pool");
    c.builder.reduce(&name, op, x, &axes, keep)
}
