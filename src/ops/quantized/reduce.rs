//! SUM, MEAN and SOFTMAX.

use super::*;
use crate::graph::ReduceOp;
use crate::kernels::fixed_point::Multiplier;
use crate::tract::typed_ops::quantized::{Softmax, Sum, WideSoftmax};

pub fn raise(
    ctx: &mut RaiseContext,
    node: &Node,
    ordinary: fn(&mut RaiseContext, &Node) -> Result<()>,
) -> Result<Option<()>> {
    let LiteOp::Reduce { op, keep_dims } = node.op else { return Ok(None) };
    let is_mean = match op {
        ReduceOp::Max | ReduceOp::Min => return ordinary(ctx, node).map(Some),
        ReduceOp::Product | ReduceOp::Any | ReduceOp::All => return Ok(None),
        ReduceOp::Sum => false,
        ReduceOp::Mean => true,
    };
    let (Some(input), Some(output)) = (input_of(ctx, node, 0), output_of(ctx, node)) else {
        return Ok(None);
    };
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let axes = crate::ops::reduce::axes(ctx, node, ctx.shape(x)?.len())?;
    let multiplier = Multiplier::of(f64::from(input.scale) / f64::from(output.scale));
    let input_zero_point = input.zero_point;
    let op = Sum { axes: axes.to_vec(), is_mean, multiplier, input_zero_point, output };
    let mut wire = ctx.wire(name, Quantized::new(op), &[x])?;
    if !keep_dims {
        for &axis in axes.iter().rev() {
            wire = ctx.wire(&format!("{name}/squeeze"), AxisOp::Rm(axis), &[wire])?;
        }
    }
    ctx.finish(node, wire).map(Some)
}

/// The kernels know one scale of results: 1/256, or 1/32768 of 16 bits.
pub fn raise_softmax(ctx: &mut RaiseContext, node: &Node, beta: f32) -> Result<Option<()>> {
    let (Some(input), Some(output)) = (input_of(ctx, node, 0), output_of(ctx, node)) else {
        return Ok(None);
    };
    let (steps, zero_point) = match output.datum {
        DatumType::I16 => (32768.0, 0),
        _ => (256.0, output.bounds()[0]),
    };
    let usual = (output.scale * steps - 1.0).abs() < 1e-3 && output.zero_point == zero_point;
    if input.datum != output.datum || !usual || beta <= 0.0 {
        return Ok(None);
    }
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let op = match input.datum {
        DatumType::I16 => Quantized::new(WideSoftmax::new(beta, input.scale)),
        _ => Quantized::new(Softmax::new(beta, input.scale)),
    };
    let wire = ctx.wire(name, op, &[x])?;
    ctx.finish(node, wire).map(Some)
}
