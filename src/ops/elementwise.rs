//! Elementwise ops of two operands, broadcast as numpy does.

use super::*;
use crate::format::tflite::{AddOptions, DivOptions, MulOptions, SubOptions};
use crate::graph::{Activation, BinaryOp};
use crate::tract::ops::binary::TypedBinOp;
use crate::tract::ops::math;
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(TypedBinOp(op, None)) = node.op_as::<TypedBinOp>() else { return Ok(None) };
    if super::activation::lower_clip(ctx, node)?.is_some() {
        return Ok(Some(()));
    }
    let (op, swap) = if op.is::<math::Add>() {
        (BinaryOp::Add, false)
    } else if op.is::<math::Sub>() {
        (BinaryOp::Sub, false)
    } else if op.is::<math::SubF>() {
        (BinaryOp::Sub, true)
    } else if op.is::<math::Mul>() {
        (BinaryOp::Mul, false)
    } else if op.is::<math::Div>() {
        (BinaryOp::Div, false)
    } else if op.is::<math::Max>() {
        (BinaryOp::Maximum, false)
    } else if op.is::<math::Min>() {
        (BinaryOp::Minimum, false)
    } else if op.is::<math::Pow>() {
        (BinaryOp::Pow, false)
    } else {
        return Ok(None);
    };
    ensure!(node.inputs.len() == 2, "{} of {} operands", op.name(), node.inputs.len());
    let element = ctx.element(node.inputs[0])?;
    ensure!(element == ElementType::F32, "{} of {element}", op.name());
    let rank = ctx.shape(node.inputs[0])?.len();
    ensure!(rank <= 6, "{} of rank {rank}; TFLite broadcasts up to 6", op.name());
    let mut inputs = [ctx.tensor(node.inputs[0])?, ctx.tensor(node.inputs[1])?];
    if swap {
        inputs.reverse();
    }
    let op = LiteOp::Binary { op, activation: Activation::None };
    ctx.emit_result(node, op, &inputs).map(Some)
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let LiteOp::Binary { op, activation } = &node.op else { bail!("not a binary op") };
    let name = ctx.output_name(node);
    let (x, y) = (ctx.input(node, 0)?, ctx.input(node, 1)?);
    let [x, y] = ctx.equalize_ranks(name, x, y)?;
    let wire = match op {
        BinaryOp::Add => ctx.wire(name, math::add(), &[x, y])?,
        BinaryOp::Sub => ctx.wire(name, math::sub(), &[x, y])?,
        BinaryOp::Mul => ctx.wire(name, math::mul(), &[x, y])?,
        BinaryOp::Div => ctx.wire(name, math::div(), &[x, y])?,
        BinaryOp::Maximum => ctx.wire(name, math::max(), &[x, y])?,
        BinaryOp::Minimum => ctx.wire(name, math::min(), &[x, y])?,
        BinaryOp::Pow => ctx.wire(name, math::pow(), &[x, y])?,
        BinaryOp::SquaredDifference => {
            let difference = ctx.wire(name, math::sub(), &[x, y])?;
            ctx.wire(name, math::square(), &[difference])?
        }
    };
    let wire = super::activation::wire_fused(ctx, name, *activation, wire)?;
    ctx.finish(node, wire)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    let Some(binary) = BinaryOp::ALL.into_iter().find(|b| b.name() == op.builtin.name()) else {
        return Ok(None);
    };
    let activation = match &op.options {
        BuiltinOptions::Add(o) => o.fused_activation_function,
        BuiltinOptions::Sub(o) => o.fused_activation_function,
        BuiltinOptions::Mul(o) => o.fused_activation_function,
        BuiltinOptions::Div(o) => o.fused_activation_function,
        _ => Default::default(),
    };
    let activation = super::activation::read_fused(activation);
    Ok(Some(LiteOp::Binary { op: binary, activation }))
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    let LiteOp::Binary { op, activation } = &node.op else { bail!("not a binary op") };
    let shapes: Vec<&[Dim]> =
        node.inputs.iter().flatten().map(|&t| graph.tensors[t].shape.as_slice()).collect();
    let broadcasts = shapes.windows(2).any(|pair| pair[0] != pair[1]);
    let version = match op {
        _ if !broadcasts || shapes.iter().all(|shape| shape.len() <= 4) => 1,
        BinaryOp::Sub | BinaryOp::Maximum | BinaryOp::Minimum => 3,
        BinaryOp::Div => 2,
        BinaryOp::Add | BinaryOp::Mul | BinaryOp::Pow | BinaryOp::SquaredDifference => 1,
    };
    let fused_activation_function = super::activation::write_fused(*activation);
    let (builtin, options) = match op {
        BinaryOp::Add => (
            BuiltinOperator::ADD,
            BuiltinOptions::Add(AddOptions { fused_activation_function, ..Default::default() }),
        ),
        BinaryOp::Sub => (
            BuiltinOperator::SUB,
            BuiltinOptions::Sub(SubOptions { fused_activation_function, ..Default::default() }),
        ),
        BinaryOp::Mul => {
            (BuiltinOperator::MUL, BuiltinOptions::Mul(MulOptions { fused_activation_function }))
        }
        BinaryOp::Div => {
            (BuiltinOperator::DIV, BuiltinOptions::Div(DivOptions { fused_activation_function }))
        }
        BinaryOp::Maximum => (BuiltinOperator::MAXIMUM, BuiltinOptions::MaximumMinimum),
        BinaryOp::Minimum => (BuiltinOperator::MINIMUM, BuiltinOptions::MaximumMinimum),
        BinaryOp::Pow => (BuiltinOperator::POW, BuiltinOptions::Pow),
        BinaryOp::SquaredDifference => {
            (BuiltinOperator::SQUARED_DIFFERENCE, BuiltinOptions::SquaredDifference)
        }
    };
    Ok(TfliteOp::new(builtin, version, options))
}
