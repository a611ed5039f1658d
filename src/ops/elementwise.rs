//! Elementwise ops of two operands, broadcast as numpy does.

use super::compose::Chain;
use super::*;
use crate::format::tflite::{AddOptions, DivOptions, MulOptions, SubOptions};
use crate::graph::{BinaryOp, UnaryOp};
use crate::tract::ops::binary::{BinMiniOp, TypedBinOp};
use crate::tract::ops::{logic, math};
use crate::tract::typed_ops::{Multiply, Power, Remainder};
use crate::tract::typed_ops::{atan2, multiply, power, remainder, shift_right_within};
use anyhow::bail;

/// What a tract op of two operands is in TFLite.
enum Form {
    Plain(BinaryOp),
    /// With the operands swapped.
    Swapped(BinaryOp),
    /// A remainder with the sign of the dividend.
    Remainder,
}

fn form_of(op: &dyn BinMiniOp, element: ElementType) -> Result<Option<Form>> {
    let bool = element == ElementType::Bool;
    Ok(Some(if op.is::<math::Add>() {
        Form::Plain(BinaryOp::Add)
    } else if op.is::<math::Sub>() {
        Form::Plain(BinaryOp::Sub)
    } else if op.is::<math::SubF>() {
        Form::Swapped(BinaryOp::Sub)
    } else if op.is::<math::Mul>() || op.is::<Multiply>() {
        Form::Plain(BinaryOp::Mul)
    } else if op.is::<math::Div>() {
        Form::Plain(BinaryOp::Div)
    } else if op.is::<math::Max>() {
        Form::Plain(BinaryOp::Maximum)
    } else if op.is::<math::Min>() {
        Form::Plain(BinaryOp::Minimum)
    } else if op.is::<math::Pow>() || op.is::<Power>() {
        Form::Plain(BinaryOp::Pow)
    } else if op.is::<math::Rem>() || op.is::<Remainder>() {
        Form::Remainder
    } else if op.is::<logic::CompEq>() {
        Form::Plain(BinaryOp::Equal)
    } else if op.is::<logic::CompNE>() {
        Form::Plain(BinaryOp::NotEqual)
    } else if op.is::<logic::CompLT>() {
        Form::Plain(BinaryOp::Less)
    } else if op.is::<logic::CompLTE>() {
        Form::Plain(BinaryOp::LessEqual)
    } else if op.is::<logic::CompGT>() {
        Form::Plain(BinaryOp::Greater)
    } else if op.is::<logic::CompGTE>() {
        Form::Plain(BinaryOp::GreaterEqual)
    } else if op.is::<logic::And>() || (bool && op.is::<logic::BitAnd>()) {
        ensure!(bool, refusal::of_type("a logical and", element));
        Form::Plain(BinaryOp::LogicalAnd)
    } else if op.is::<logic::Or>() || (bool && op.is::<logic::BitOr>()) {
        ensure!(bool, refusal::of_type("a logical or", element));
        Form::Plain(BinaryOp::LogicalOr)
    } else if op.is::<logic::Xor>() || (bool && op.is::<logic::BitXor>()) {
        Form::Plain(BinaryOp::NotEqual)
    } else {
        return Ok(None);
    }))
}

fn compares(op: BinaryOp) -> bool {
    match op {
        BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Less
        | BinaryOp::LessEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterEqual
        | BinaryOp::LogicalAnd
        | BinaryOp::LogicalOr => true,
        BinaryOp::Add
        | BinaryOp::Sub
        | BinaryOp::Mul
        | BinaryOp::Div
        | BinaryOp::Maximum
        | BinaryOp::Minimum
        | BinaryOp::Pow
        | BinaryOp::SquaredDifference
        | BinaryOp::FloorDiv
        | BinaryOp::FloorMod
        | BinaryOp::BitwiseXor
        | BinaryOp::RightShift
        | BinaryOp::Atan2 => false,
    }
}

/// The type that TFLite's kernel of `op` computes `element` in.
fn kernel_element(op: BinaryOp, element: ElementType) -> Result<ElementType> {
    Ok(match element {
        ElementType::F32 | ElementType::F16 => ElementType::F32,
        ElementType::I8 | ElementType::U8 | ElementType::I16 | ElementType::I32 => ElementType::I32,
        ElementType::I64 if !matches!(op, BinaryOp::Div | BinaryOp::Pow) => ElementType::I64,
        ElementType::Bool
            if matches!(
                op,
                BinaryOp::LogicalAnd | BinaryOp::LogicalOr | BinaryOp::Equal | BinaryOp::NotEqual
            ) =>
        {
            ElementType::Bool
        }
        _ => return Err(refusal::of_type(op.name(), element)),
    })
}

/// The highest rank at which TFLite's kernel broadcasts.
fn broadcast_rank(op: BinaryOp) -> usize {
    match op {
        BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul => 6,
        BinaryOp::Div | BinaryOp::Maximum | BinaryOp::Minimum => 5,
        BinaryOp::Pow
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
        | BinaryOp::GreaterEqual
        | BinaryOp::BitwiseXor
        | BinaryOp::RightShift => 4,
        BinaryOp::Atan2 => 0,
    }
}

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if node.op_is::<logic::Iff>() {
        return lower_select(ctx, node).map(Some);
    }
    let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>() else { return Ok(None) };
    if super::activation::lower_clip(ctx, node)?.is_some() {
        return Ok(Some(()));
    }
    ensure!(node.inputs.len() == 2, "{} of {} operands", op.name(), node.inputs.len());
    let element = ctx.element(node.inputs[0])?;
    let Some(form) = form_of(op.as_ref(), element)? else { return Ok(None) };
    let main = match form {
        Form::Plain(op) | Form::Swapped(op) => op,
        Form::Remainder => BinaryOp::FloorMod,
    };
    let inner = kernel_element(main, element)?;
    let unsigned = ctx.model.outlet_fact(node.inputs[0])?.datum_type.is_unsigned();
    let shape = ctx.shape(OutletId::new(node.id, 0))?;
    let x = operand(ctx, node, 0, inner, broadcast_rank(main), &shape)?;
    let y = operand(ctx, node, 1, inner, broadcast_rank(main), &shape)?;
    if matches!(main, BinaryOp::Equal | BinaryOp::NotEqual) {
        for (x, y) in [(x, y), (y, x)] {
            ensure!(
                !is_infinity(ctx, y) || !loses_infinity(&ctx.graph, x),
                "whether a sum or product is infinite, which LiteRT makes the largest finite number; mask with a \
                 large finite number (-1e30) in place of -inf"
            );
        }
    }
    let mut chain = Chain::new(ctx, &node.name, inner, &shape);
    let result = match form {
        Form::Plain(op) if compares(op) => chain.compare(op, x, y),
        Form::Plain(op) => chain.binary(op, x, y),
        Form::Swapped(op) => chain.binary(op, y, x),
        Form::Remainder if inner == ElementType::F32 => {
            let (top, bottom) = (chain.unary(UnaryOp::Abs, x), chain.unary(UnaryOp::Abs, y));
            let rest = chain.binary(BinaryOp::FloorMod, top, bottom);
            let opposite = chain.unary(UnaryOp::Neg, rest);
            let zero = chain.scalar(0.0)?;
            let negative = chain.compare(BinaryOp::Less, x, zero);
            chain.select(negative, opposite, rest)
        }
        Form::Remainder if unsigned => chain.binary(BinaryOp::FloorMod, x, y),
        Form::Remainder => signed_remainder(&mut chain, x, y)?,
    };
    let to = ctx.element(OutletId::new(node.id, 0))?;
    let result = ctx.cast(&node.name, result, to);
    ctx.bind(node, result);
    Ok(Some(()))
}

/// The remainder of integers with the sign of the dividend.
pub fn signed_remainder(chain: &mut Chain, x: TensorId, y: TensorId) -> Result<TensorId> {
    let rest = chain.binary(BinaryOp::FloorMod, x, y);
    let zero = chain.scalar(0.0)?;
    let some = chain.compare(BinaryOp::NotEqual, rest, zero);
    let (a, b) = (chain.compare(BinaryOp::Less, x, zero), chain.compare(BinaryOp::Less, y, zero));
    let apart = chain.compare(BinaryOp::NotEqual, a, b);
    let both = chain.compare(BinaryOp::LogicalAnd, some, apart);
    let other = chain.binary(BinaryOp::Sub, rest, y);
    Ok(chain.select(both, other, rest))
}

fn is_infinity(ctx: &LowerContext, tensor: TensorId) -> bool {
    let values = ctx.graph.tensors[tensor].f32_values();
    values.is_some_and(|v| v.iter().any(|v| v.is_infinite()))
}

/// Whether values that LiteRT clamps to the finite ones (of ADD, SUB, MUL, DIV) reach `tensor` unchanged.
fn loses_infinity(graph: &Subgraph, tensor: TensorId) -> bool {
    let mut seen = HashSet::new();
    let mut waiting = vec![tensor];
    while let Some(tensor) = waiting.pop() {
        let Some(node) = graph.producer(tensor).filter(|n| seen.insert(*n)) else { continue };
        let node = &graph.nodes[node];
        if let LiteOp::Binary { op, .. } = &node.op
            && matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div)
        {
            return true;
        }
        if matches!(&node.op, LiteOp::Unary(op) if !matches!(op, UnaryOp::Abs | UnaryOp::Neg)) {
            continue;
        }
        waiting.extend(node.inputs.iter().flatten());
    }
    false
}

/// An operand in the kernel's type; broadcast before where the kernel cannot.
pub fn operand(
    ctx: &mut LowerContext,
    node: &TypedNode,
    index: usize,
    element: ElementType,
    limit: usize,
    shape: &[TDim],
) -> Result<TensorId> {
    let outlet = node.inputs[index];
    let tensor = ctx.tensor_as(outlet, element)?;
    let from = ctx.shape(outlet)?;
    let others_differ = node
        .inputs
        .iter()
        .map(|&i| ctx.shape(i))
        .collect::<Result<Vec<_>>>()?
        .iter()
        .any(|other| other != shape);
    if shape.len() <= limit || !others_differ || from == shape {
        return Ok(tensor);
    }
    ensure!(shape.len() <= 8, refusal::too_deep("a broadcast", shape.len(), 8));
    let name = format!("{}/broadcast", node.name);
    let target = ctx.shape_tensor(&format!("{name}/shape"), shape)?;
    Ok(ctx.emit(&name, LiteOp::BroadcastTo, &[tensor, target], element, shape))
}

fn lower_select(ctx: &mut LowerContext, node: &TypedNode) -> Result<()> {
    let element = ctx.element(OutletId::new(node.id, 0))?;
    let shape = ctx.shape(OutletId::new(node.id, 0))?;
    let inner = if element == ElementType::F16 { ElementType::F32 } else { element };
    let inputs = [
        operand(ctx, node, 0, ElementType::Bool, 4, &shape)?,
        operand(ctx, node, 1, inner, 4, &shape)?,
        operand(ctx, node, 2, inner, 4, &shape)?,
    ];
    let result = ctx.emit(&node.name, LiteOp::Select, &inputs, inner, &shape);
    let result = ctx.cast(&node.name, result, element);
    ctx.bind(node, result);
    Ok(())
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    if node.op == LiteOp::Select {
        return raise_select(ctx, node);
    }
    let LiteOp::Binary { op, activation } = &node.op else { bail!("not a binary op") };
    let name = ctx.output_name(node);
    let mut operands = [ctx.input(node, 0)?, ctx.input(node, 1)?];
    ctx.unify(name, &mut operands)?;
    let [x, y] = ctx.equalize_ranks(name, operands[0], operands[1])?;
    let is_integer = ctx.model.outlet_fact(x)?.datum_type.is_integer();
    let wire = match op {
        BinaryOp::Add => ctx.wire(name, math::add(), &[x, y])?,
        BinaryOp::Sub => ctx.wire(name, math::sub(), &[x, y])?,
        BinaryOp::Mul if x == y && is_integer => ctx.wire(name, multiply(), &[x, y])?,
        BinaryOp::Mul => ctx.wire(name, math::mul(), &[x, y])?,
        BinaryOp::Div => ctx.wire(name, math::div(), &[x, y])?,
        BinaryOp::Maximum => ctx.wire(name, math::max(), &[x, y])?,
        BinaryOp::Minimum => ctx.wire(name, math::min(), &[x, y])?,
        BinaryOp::Pow if is_integer => ctx.wire(name, power(), &[x, y])?,
        BinaryOp::Pow => ctx.wire(name, math::pow(), &[x, y])?,
        BinaryOp::FloorDiv if ctx.model.outlet_fact(x)?.datum_type.is_float() => {
            let quotient = ctx.wire(name, math::div(), &[x, y])?;
            ctx.wire(name, math::floor(), &[quotient])?
        }
        BinaryOp::FloorDiv if ctx.model.outlet_fact(x)?.datum_type == DatumType::TDim => {
            ctx.wire(name, math::div(), &[x, y])?
        }
        BinaryOp::FloorDiv => {
            let rest = floor_mod(ctx, name, x, y)?;
            let whole = ctx.wire(name, math::sub(), &[x, rest])?;
            ctx.wire(name, math::div(), &[whole, y])?
        }
        BinaryOp::FloorMod => floor_mod(ctx, name, x, y)?,
        BinaryOp::LogicalAnd => ctx.wire(name, logic::and(), &[x, y])?,
        BinaryOp::LogicalOr => ctx.wire(name, logic::or(), &[x, y])?,
        BinaryOp::NotEqual if ctx.model.outlet_fact(x)?.datum_type == DatumType::Bool => {
            ctx.wire(name, logic::xor(), &[x, y])?
        }
        BinaryOp::Equal if ctx.model.outlet_fact(x)?.datum_type == DatumType::Bool => {
            let differ = ctx.wire(name, logic::xor(), &[x, y])?;
            ctx.wire(name, logic::not(), &[differ])?
        }
        BinaryOp::Equal => ctx.wire(name, TypedBinOp(logic::comp_eq(), None), &[x, y])?,
        BinaryOp::NotEqual => ctx.wire(name, TypedBinOp(logic::comp_ne(), None), &[x, y])?,
        BinaryOp::Less => ctx.wire(name, TypedBinOp(logic::comp_lt(), None), &[x, y])?,
        BinaryOp::LessEqual => ctx.wire(name, TypedBinOp(logic::comp_lte(), None), &[x, y])?,
        BinaryOp::Greater => ctx.wire(name, TypedBinOp(logic::comp_gt(), None), &[x, y])?,
        BinaryOp::GreaterEqual => ctx.wire(name, TypedBinOp(logic::comp_gte(), None), &[x, y])?,
        BinaryOp::BitwiseXor => ctx.wire(name, logic::bitxor(), &[x, y])?,
        BinaryOp::RightShift => ctx.wire(name, shift_right_within(), &[x, y])?,
        BinaryOp::Atan2 => ctx.wire(name, atan2(), &[x, y])?,
        BinaryOp::SquaredDifference => {
            let difference = ctx.wire(name, math::sub(), &[x, y])?;
            ctx.wire(name, math::square(), &[difference])?
        }
    };
    let wire = super::activation::wire_fused(ctx, name, *activation, wire)?;
    ctx.finish(node, wire)
}

/// The remainder with the sign of the divisor.
fn floor_mod(ctx: &mut RaiseContext, name: &str, x: OutletId, y: OutletId) -> Result<OutletId> {
    let rest = match ctx.model.outlet_fact(x)?.datum_type {
        DatumType::TDim => ctx.wire(name, math::rem(), &[x, y])?,
        _ => ctx.wire(name, remainder(), &[x, y])?,
    };
    let zero = ctx.scalar_like(0.0, rest)?;
    let less = || TypedBinOp(logic::comp_lt(), None);
    let differs = || TypedBinOp(logic::comp_ne(), None);
    let some = ctx.wire(name, differs(), &[rest, zero])?;
    let a = ctx.wire(name, less(), &[rest, zero])?;
    let b = ctx.wire(name, less(), &[y, zero])?;
    // of bools tract has xor, and no comparison
    let apart = ctx.wire(name, logic::xor(), &[a, b])?;
    let both = ctx.wire(name, logic::and(), &[some, apart])?;
    let other = ctx.wire(name, math::add(), &[rest, y])?;
    ctx.wire(name, logic::Iff, &[both, other, rest])
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
    let deep = broadcasts && shapes.iter().any(|shape| shape.len() > 4);
    use ElementType::{F32, I8, I16, I64};
    let scales =
        node.inputs.iter().flatten().chain(&node.outputs).map(|&t| quantized::scale_of(graph, t));
    let scales: Option<Vec<f32>> = scales.collect();
    let grows = matches!(scales.as_deref(), Some(&[x, y, result]) if x * y / result >= 1.0);
    let is_quantized = scales.is_some();
    let element = input_element(graph, node, 0);
    let version = match op {
        BinaryOp::Add if element == Some(I16) && !is_quantized => 5,
        BinaryOp::Add => version_of(element, &[(I64, 4), (I16, 3), (I8, 2)]),
        BinaryOp::Sub if element == Some(I64) => 4,
        BinaryOp::Sub if element == Some(I16) => 5,
        BinaryOp::Sub if deep => 3,
        BinaryOp::Sub => version_of(element, &[(I8, 2)]),
        BinaryOp::Mul if element == Some(I16) && !is_quantized => 7,
        BinaryOp::Mul if grows && element != Some(I16) => 3,
        BinaryOp::Mul => version_of(element, &[(I64, 5), (I16, 4), (I8, 2)]),
        BinaryOp::Div => 1 + i32::from(deep),
        BinaryOp::Maximum | BinaryOp::Minimum if element == Some(I16) => 4,
        BinaryOp::Maximum | BinaryOp::Minimum if deep => 3,
        BinaryOp::Maximum | BinaryOp::Minimum => version_of(element, &[(I8, 2)]),
        BinaryOp::FloorDiv => version_of(element, &[(I16, 3), (I8, 3), (F32, 2)]),
        BinaryOp::FloorMod => version_of(element, &[(I16, 2), (I8, 2)]),
        BinaryOp::Equal => version_of(element, &[(I16, 4), (I8, 2)]),
        BinaryOp::Less | BinaryOp::GreaterEqual => version_of(element, &[(I16, 3), (I8, 2)]),
        BinaryOp::NotEqual => version_of(element, &[(I16, 4), (I8, 2)]),
        BinaryOp::LessEqual | BinaryOp::Greater | BinaryOp::SquaredDifference => {
            version_of(element, &[(I8, 2)])
        }
        BinaryOp::Pow
        | BinaryOp::LogicalAnd
        | BinaryOp::LogicalOr
        | BinaryOp::BitwiseXor
        | BinaryOp::RightShift
        | BinaryOp::Atan2 => 1,
    };
    let fused_activation_function = super::activation::write_fused(*activation);
    let (builtin, options) = match op {
        BinaryOp::Add => (
            BuiltinOperator::ADD,
            BuiltinOptions::Add(AddOptions {
                fused_activation_function,
                pot_scale_int16: element != Some(I16),
            }),
        ),
        BinaryOp::Sub => (
            BuiltinOperator::SUB,
            BuiltinOptions::Sub(SubOptions {
                fused_activation_function,
                pot_scale_int16: element != Some(I16),
            }),
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
        BinaryOp::BitwiseXor => (BuiltinOperator::BITWISE_XOR, BuiltinOptions::BitwiseXor),
        BinaryOp::RightShift => (BuiltinOperator::RIGHT_SHIFT, BuiltinOptions::RightShift),
        BinaryOp::Atan2 => (BuiltinOperator::ATAN2, BuiltinOptions::Atan2),
        BinaryOp::SquaredDifference => {
            (BuiltinOperator::SQUARED_DIFFERENCE, BuiltinOptions::SquaredDifference)
        }
    };
    Ok(TfliteOp::new(builtin, version, options))
}

pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    super::permute_elementwise(graph, node, permutation)
}
