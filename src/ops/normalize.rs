//! tract's fused normalizations and triangles, spelled with elementwise ops and MEAN.

use super::compose::Chain;
use super::*;
use crate::graph::{BinaryOp, ReduceOp, UnaryOp};
use crate::tract::ops::array::Trilu;
use crate::tract::ops::nn::{RmsNorm, ScaledRmsNorm};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<RmsNorm>() {
        let result = root_mean_square(ctx, node, op.axis, &op.eps)?;
        ctx.bind(node, result);
    } else if let Some(op) = node.op_as::<ScaledRmsNorm>() {
        ensure!(
            op.out_dt.is_none_or(|dt| dt == DatumType::F32)
                && op.scale_dt.is_none_or(|dt| dt == DatumType::F32),
            "a normalization that rounds to another type; compute it in float32 (stash_type 1)"
        );
        let shape = ctx.shape(node.inputs[0])?;
        let normal = root_mean_square(ctx, node, op.axis, &op.eps)?;
        let scale = ctx.tensor_as(node.inputs[1], ElementType::F32)?;
        let from = ctx.shape(node.inputs[1])?;
        let mut along = vec![TDim::from(1); shape.len()];
        along[op.axis] = shape[op.axis].clone();
        let scale = ctx.reshape(&format!("{}/scale", node.name), scale, &from, &along)?;
        let result = Chain::new(ctx, &node.name, ElementType::F32, &shape).binary(
            BinaryOp::Mul,
            normal,
            scale,
        );
        ctx.bind(node, result);
    } else if let Some(op) = node.op_as::<Trilu>() {
        triangle(ctx, node, op)?;
    } else {
        return Ok(None);
    }
    Ok(Some(()))
}

/// `x / sqrt(mean(x²) + eps)`.
fn root_mean_square(
    ctx: &mut LowerContext,
    node: &TypedNode,
    axis: usize,
    eps: &tract::Tensor,
) -> Result<TensorId> {
    let element = ctx.element(node.inputs[0])?;
    ensure!(element == ElementType::F32, refusal::of_type("a normalization", element));
    let x = ctx.tensor(node.inputs[0])?;
    let shape = ctx.shape(node.inputs[0])?;
    let mut reduced = shape.clone();
    reduced[axis] = TDim::from(1);
    let eps = eps.cast_to_scalar::<f32>()?;
    let square = Chain::new(ctx, &format!("{}/square", node.name), element, &shape)
        .unary(UnaryOp::Square, x);
    let axes = ctx.add_i32_constant(&format!("{}/axis", node.name), &[i32::try_from(axis)?]);
    let op = LiteOp::Reduce { op: ReduceOp::Mean, keep_dims: true };
    let mean = ctx.emit(&format!("{}/mean", node.name), op, &[square, axes], element, &reduced);
    let mut chain = Chain::new(ctx, &format!("{}/factor", node.name), element, &reduced);
    let eps = chain.scalar(eps)?;
    let power = chain.binary(BinaryOp::Add, mean, eps);
    let factor = chain.unary(UnaryOp::Rsqrt, power);
    Ok(Chain::new(ctx, &node.name, element, &shape).binary(BinaryOp::Mul, x, factor))
}

/// A mask chooses between x and zero.
fn triangle(ctx: &mut LowerContext, node: &TypedNode, op: &Trilu) -> Result<()> {
    let shape = ctx.shape(node.inputs[0])?;
    let element = ctx.element(node.inputs[0])?;
    let x = ctx.tensor(node.inputs[0])?;
    let &[.., ref rows, ref columns] = shape.as_slice() else { bail!("a triangle of a vector") };
    let (Ok(rows), Ok(columns)) = (rows.to_usize(), columns.to_usize()) else {
        let dims = [rows.clone(), columns.clone()];
        let name = format!("{}/mask", node.name);
        let beyond = computed_diagonals(ctx, &name, &dims)?;
        let k = ctx.tensor_as(node.inputs[1], ElementType::I32)?;
        let mask = on_one_side(ctx, &name, op, beyond, k, &dims);
        let zero = ctx.add_scalar(&format!("{}/zero", node.name), 0.0, element)?;
        return ctx.emit_result(node, LiteOp::Select, &[mask, x, zero]);
    };
    let fits = rows.saturating_mul(columns) <= 1 << 26;
    ensure!(fits, refusal::too_large(format!("a triangle of {rows} × {columns} numbers")));
    let (rows, columns) = (i32::try_from(rows)?, i32::try_from(columns)?);
    let beyond: Vec<i32> = (0..rows).flat_map(|r| (0..columns).map(move |c| c - r)).collect();
    let dims = [rows as usize, columns as usize];
    let mask = match ctx.constant(node.inputs[1]).cloned() {
        Some(k) => {
            let k = k.cast_to_scalar::<i64>()?;
            let kept = |d: &i32| if op.upper { i64::from(*d) >= k } else { i64::from(*d) <= k };
            let mask: Vec<bool> = beyond.iter().map(kept).collect();
            let mask = tract::tensor1(&mask).into_shape(&dims)?;
            ctx.add_constant(&format!("{}/mask", node.name), &mask)?
        }
        None => {
            let name = format!("{}/mask", node.name);
            let k = ctx.tensor_as(node.inputs[1], ElementType::I32)?;
            let beyond = ctx.add_i32_tensor(&name, &dims, &beyond);
            on_one_side(ctx, &name, op, beyond, k, &dims.map(TDim::from))
        }
    };
    let zero = ctx.add_scalar(&format!("{}/zero", node.name), 0.0, element)?;
    ctx.emit_result(node, LiteOp::Select, &[mask, x, zero])
}

/// The diagonal of each place of `rows` × `columns`, the main one 0, where these are known at run time only.
fn computed_diagonals(ctx: &mut LowerContext, name: &str, dims: &[TDim; 2]) -> Result<TensorId> {
    let [rows, columns] = dims;
    let row = ctx.places_of_axis(&format!("{name}/row"), rows)?;
    let column = ctx.places_of_axis(&format!("{name}/column"), columns)?;
    let upright = [rows.clone(), TDim::from(1)];
    let row = ctx.reshape(&format!("{name}/row"), row, std::slice::from_ref(rows), &upright)?;
    Ok(Chain::new(ctx, name, ElementType::I32, dims).binary(BinaryOp::Sub, column, row))
}

fn on_one_side(
    ctx: &mut LowerContext,
    name: &str,
    op: &Trilu,
    diagonals: TensorId,
    k: TensorId,
    dims: &[TDim],
) -> TensorId {
    let keeps = if op.upper { BinaryOp::GreaterEqual } else { BinaryOp::LessEqual };
    Chain::new(ctx, name, ElementType::I32, dims).compare(keeps, diagonals, k)
}
