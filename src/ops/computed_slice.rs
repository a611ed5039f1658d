//! Slices whose bounds are known at run time only: STRIDED_SLICE and SLICE of computed tensors.

use super::*;
use crate::graph::Activation;
use crate::tract::ops::array::Slice;
use crate::tract::ops::math;
use crate::tract::typed_ops::ComputedSlice;

/// STRIDED_SLICE counts bounds below 0 from the end, and holds them to the axis, as ONNX does.
pub fn lower(ctx: &mut LowerContext, node: &TypedNode, axis: usize) -> Result<()> {
    let rank = ctx.shape(node.inputs[0])?.len();
    ensure!(rank <= 5, refusal::too_deep("a strided slice", rank, 5));
    let input = ctx.tensor(node.inputs[0])?;
    let mut bounds = vec![];
    for (what, outlet) in [("begin", node.inputs[1]), ("end", node.inputs[2])] {
        let name = format!("{}/{what}", node.name);
        let from = ctx.shape(outlet)?;
        let bound = ctx.tensor_as(outlet, ElementType::I32)?;
        let bound = ctx.reshape(&name, bound, &from, &[TDim::from(1)])?;
        let mut parts = vec![];
        if axis > 0 {
            parts.push(ctx.add_i32_constant(&name, &vec![0; axis]));
        }
        parts.push(bound);
        if axis + 1 < rank {
            parts.push(ctx.add_i32_constant(&name, &vec![0; rank - axis - 1]));
        }
        bounds.push(match parts.as_slice() {
            &[only] => only,
            several => {
                let op = LiteOp::Concatenation { axis: 0, activation: Activation::None };
                ctx.emit(&name, op, several, ElementType::I32, &[TDim::from(rank)])
            }
        });
    }
    let strides = ctx.add_i32_constant(&format!("{}/strides", node.name), &vec![1; rank]);
    let others = ((1u32 << rank) - 1) & !(1 << axis);
    let lite = LiteOp::StridedSlice {
        begin_mask: others,
        end_mask: others,
        shrink_axis_mask: 0,
        new_axis_mask: 0,
        ellipsis_mask: 0,
    };
    ctx.emit_result(node, lite, &[input, bounds[0], bounds[1], strides])
}

/// A STRIDED_SLICE whose bounds are known at run time only, and are within the axes there.
pub fn raise_strided(
    ctx: &mut RaiseContext,
    node: &Node,
    [begin_mask, end_mask]: [u32; 2],
    strides: &[i32],
) -> Result<()> {
    let name = ctx.output_name(node);
    ensure!(strides.iter().all(|&s| s == 1), "'{name}': computed bounds and strides");
    let mut wire = ctx.input(node, 0)?;
    let (begins, ends) = (ctx.input(node, 1)?, ctx.input(node, 2)?);
    let rank = ctx.shape(wire)?.len();
    ensure!(strides.len() <= rank && rank <= 8, "'{name}': {} strides", strides.len());
    for axis in 0..strides.len() {
        let has = |mask: u32| mask & (1 << axis) != 0;
        if has(begin_mask) && has(end_mask) {
            continue;
        }
        ensure!(!has(begin_mask) && !has(end_mask), "'{name}': one computed bound");
        let begin = element(ctx, name, begins, axis)?;
        let end = element(ctx, name, ends, axis)?;
        let len = ctx.model.symbols.new_with_prefix("cut");
        wire = ctx.wire(name, ComputedSlice { axis, len: len.into() }, &[wire, begin, end])?;
    }
    ctx.finish(node, wire)
}

/// A SLICE whose sizes are known at run time only, none of them −1.
pub fn raise_slice(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let mut wire = ctx.input(node, 0)?;
    let rank = ctx.shape(wire)?.len();
    let (begins, sizes) = (ctx.input(node, 1)?, ctx.input(node, 2)?);
    for axis in 0..rank {
        let begin = element(ctx, name, begins, axis)?;
        let size = element(ctx, name, sizes, axis)?;
        let end = ctx.wire(&format!("{name}/end"), math::add(), &[begin, size])?;
        let len = ctx.model.symbols.new_with_prefix("cut");
        let op = ComputedSlice { axis, len: len.into() };
        wire = ctx.wire(name, op, &[wire, begin, end])?;
    }
    ctx.finish(node, wire)
}

/// Element `index` of an integer vector, as an int64 scalar.
fn element(ctx: &mut RaiseContext, name: &str, vector: OutletId, index: usize) -> Result<OutletId> {
    let one = ctx.wire(&format!("{name}/bound"), Slice::new(0, index, index + 1), &[vector])?;
    let one = ctx.wire(&format!("{name}/scalar"), AxisOp::Rm(0), &[one])?;
    ctx.cast(name, one, DatumType::I64)
}
