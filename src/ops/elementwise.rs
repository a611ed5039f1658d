//! Elementwise ops of two operands, broadcast as numpy does.

use super::*;
use crate::format::tflite::{AddOptions, DivOptions, MulOptions, SubOptions};
use crate::graph::{Activation, BinaryOp};
use crate::tract::ops::binary::TypedBinOp;
use crate::tract::ops::{logic, math};
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
    if node.op == LiteOp::Select {
        return raise_select(ctx, node);
    }
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
        BinaryOp::FloorDiv => {
            let quotient = ctx.wire(name, math::div(), &[x, y])?;
            ctx.wire(name, math::floor(), &[quotient])?
        }
        BinaryOp::FloorMod => {
            let quotient = ctx.wire(name, math::div(), &[x, y])?;
            let whole = ctx.wire(name, math::floor(), &[quotient])?;
            let product = ctx.wire(name, math::mul(), &[whole, y])?;
            ctx.wire(name, math::sub(), &[x, product])?
        }
        BinaryOp::LogicalAnd => ctx.wire(name, logic::and(), &[x, y])?,
        BinaryOp::LogicalOr => ctx.wire(name, logic::or(), &[x, y])?,
        BinaryOp::Equal => ctx.wire(name, TypedBinOp(logic::comp_eq(), None), &[x, y])?,
        BinaryOp::NotEqual => ctx.wire(name, TypedBinOp(logic::comp_ne(), None), &[x, y])?,
        BinaryOp::Less => ctx.wire(name, TypedBinOp(logic::comp_lt(), None), &[x, y])?,
        BinaryOp::LessEqual => ctx.wire(name, TypedBinOp(logic::comp_lte(), None), &[x, y])?,
        BinaryOp::Greater => ctx.wire(name, TypedBinOp(logic::comp_gt(), None), &[x, y])?,
        BinaryOp::GreaterEqual => ctx.wire(name, TypedBinOp(logic::comp_gte(), None), &[x, y])?,
        BinaryOp::SquaredDifference => {
            let difference = ctx.wire(name, math::sub(), &[x, y])?;
            ctx.wire(name, math::square(), &[difference])?
        }
    };
    let wire = super::activation::wire_fused(ctx, name, *activation, wire)?;
    ctx.finish(node, wire)
}

fn raise_select(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let [condition, x, y] = [0, 1, 2].map(|i| ctx.input(node, i));
    let [x, y] = ctx.equalize_ranks(name, x?, y?)?;
    let [condition, x] = ctx.equalize_ranks(name, condition?, x)?;
    let [condition, y] = ctx.equalize_ranks(name, condition, y)?;
    let wire = ctx.wire(name, logic::Iff, &[condition, x, y])?;
    ctx.finish(node, wire)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    if op.builtin == BuiltinOperator::SELECT_V2 {
        return Ok(Some(LiteOp::Select));
    }
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
    if node.op == LiteOp::Select {
        return Ok(TfliteOp::new(BuiltinOperator::SELECT_V2, 1, BuiltinOptions::SelectV2));
    }
    let LiteOp::Binary { op, activation } = &node.op else { bail!("not a binary op") };
    let shapes: Vec<&[Dim]> =
        node.inputs.iter().flatten().map(|&t| graph.tensors[t].shape.as_slice()).collect();
    let broadcasts = shapes.windows(2).any(|pair| pair[0] != pair[1]);
    let version = match op {
        _ if !broadcasts || shapes.iter().all(|shape| shape.len() <= 4) => 1,
        BinaryOp::Sub | BinaryOp::Maximum | BinaryOp::Minimum => 3,
        BinaryOp::Div => 2,
        BinaryOp::Add
        | BinaryOp::Mul
        | BinaryOp::Pow
        | BinaryOp::SquaredDifference
        | BinaryOp::FloorDiv
        | BinaryOp::FloorMod
        | BinaryOp::LogicalAnd
        | BinaryOp::LogicalOr
        | BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Less
        | BinaryOp::LessEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterEqual => 1,
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
        BinaryOp::FloorDiv => (BuiltinOperator::FLOOR_DIV, BuiltinOptions::FloorDiv),
        BinaryOp::FloorMod => (BuiltinOperator::FLOOR_MOD, BuiltinOptions::FloorMod),
        BinaryOp::LogicalAnd => (BuiltinOperator::LOGICAL_AND, BuiltinOptions::LogicalAnd),
        BinaryOp::LogicalOr => (BuiltinOperator::LOGICAL_OR, BuiltinOptions::LogicalOr),
        BinaryOp::Equal => (BuiltinOperator::EQUAL, BuiltinOptions::Equal),
        BinaryOp::NotEqual => (BuiltinOperator::NOT_EQUAL, BuiltinOptions::NotEqual),
        BinaryOp::Less => (BuiltinOperator::LESS, BuiltinOptions::Less),
        BinaryOp::LessEqual => (BuiltinOperator::LESS_EQUAL, BuiltinOptions::LessEqual),
        BinaryOp::Greater => (BuiltinOperator::GREATER, BuiltinOptions::Greater),
        BinaryOp::GreaterEqual => (BuiltinOperator::GREATER_EQUAL, BuiltinOptions::GreaterEqual),
        BinaryOp::SquaredDifference => {
            (BuiltinOperator::SQUARED_DIFFERENCE, BuiltinOptions::SquaredDifference)
        }
    };
    Ok(TfliteOp::new(builtin, version, options))
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    super::permute_elementwise(graph, node, permutation)
}
