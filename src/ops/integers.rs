//! What TFLite has no kernel for on integers, spelled with those it has: bits, shifts, division and powers
//! of 64 bits. Exact for every value.

use super::compose::Chain;
use super::*;
use crate::graph::{BinaryOp, UnaryOp};
use crate::tract::ops::binary::TypedBinOp;
use crate::tract::ops::{logic, math};
use crate::tract::typed_ops::{Power, ShiftLeft, ShiftRight};
use anyhow::bail;

/// The highest rank at which all kernels that are used here broadcast.
const BROADCAST_RANK: usize = 4;

#[derive(Clone, Copy, PartialEq)]
enum Form {
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
    Divide,
    Power,
}

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>() else { return Ok(None) };
    let &[left, _] = node.inputs.as_slice() else { return Ok(None) };
    let datum = ctx.model.outlet_fact(left)?.datum_type;
    let wide = matches!(datum, DatumType::I64 | DatumType::U32);
    if op.is::<math::ShiftLeft>() {
        return times_power_of_two(ctx, node);
    }
    if op.is::<math::ShiftLeft>() && matches!(datum, DatumType::I32 | DatumType::I64) {
        return times_power_of_two(ctx, node);
    }
    let form = if !datum.is_integer() {
        return Ok(None);
    } else if op.is::<logic::BitAnd>() {
        Form::And
    } else if op.is::<logic::BitOr>() {
        Form::Or
    } else if op.is::<logic::BitXor>() {
        Form::Xor
    } else if op.is::<ShiftLeft>() {
        Form::ShiftLeft
    } else if op.is::<ShiftRight>() {
        Form::ShiftRight
    } else if op.is::<math::Div>() && wide {
        Form::Divide
    } else if op.is::<Power>() && wide {
        Form::Power
    } else {
        return Ok(None);
    };
    let bits = datum.size_of() * 8;
    let inner = match form {
        Form::And | Form::Or | Form::Xor => {
            ensure!(bits <= 32, refusal::of_type("BITWISE_XOR", ctx.element(left)?));
            ElementType::I32
        }
        Form::ShiftLeft | Form::ShiftRight => {
            ensure!(bits <= 32, refusal::of_type("RIGHT_SHIFT", ctx.element(left)?));
            ElementType::I64
        }
        Form::Divide | Form::Power => ElementType::I64,
    };
    if form == Form::Power {
        return power(ctx, node, inner).map(Some);
    }
    let shape = ctx.shape(OutletId::new(node.id, 0))?;
    let (x, y) = (flat(ctx, node, 0, inner, &shape)?, flat(ctx, node, 1, inner, &shape)?);
    let count = [shape.iter().product::<TDim>()];
    let inner_shape = if shape.len() > BROADCAST_RANK { &count[..] } else { &shape };
    let mut chain = Chain::new(ctx, &node.name, inner, inner_shape);
    let result = match form {
        Form::And | Form::Or | Form::Xor => bitwise(&mut chain, form, bits, x, y)?,
        Form::ShiftLeft => {
            let power = powers_of_two(&mut chain, y, bits)?;
            chain.binary(BinaryOp::Mul, x, power)
        }
        Form::ShiftRight => shift_right(&mut chain, x, y)?,
        Form::Divide => quotient(&mut chain, x, y, !datum.is_unsigned())?,
        Form::Power => bail!("a power among the pairs"),
    };
    let to = ctx.element(OutletId::new(node.id, 0))?;
    let result = ctx.cast(&node.name, result, to);
    let result = ctx.reshape(&node.name, result, inner_shape, &shape)?;
    ctx.bind(node, result);
    Ok(Some(()))
}

/// tract's shift: what it makes of a product with one constant, a power of two. It is that product again.
fn times_power_of_two(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(amount) = ctx.constant(node.inputs[1]) else { return Ok(None) };
    let amounts = amount.cast_to::<i64>()?;
    let &[amount] = amounts.try_as_plain_ram()?.as_slice::<i64>()? else { return Ok(None) };
    ensure!((0..31).contains(&amount), "a shift by {amount} bits");
    let element = ctx.element(node.inputs[0])?;
    let x = ctx.tensor_as(node.inputs[0], element)?;
    let shape = ctx.shape(OutletId::new(node.id, 0))?;
    let mut chain = Chain::new(ctx, &node.name, element, &shape);
    let power = chain.scalar((1u32 << amount) as f32)?;
    let result = chain.binary(BinaryOp::Mul, x, power);
    ctx.bind(node, result);
    Ok(Some(()))
}

/// An operand in the kernels' type. Of a rank at which they cannot broadcast it is broadcast before, and a row.
fn flat(
    ctx: &mut LowerContext,
    node: &TypedNode,
    index: usize,
    element: ElementType,
    shape: &[TDim],
) -> Result<TensorId> {
    if shape.len() <= BROADCAST_RANK {
        return ctx.tensor_as(node.inputs[index], element);
    }
    let tensor = elementwise::operand(ctx, node, index, element, BROADCAST_RANK, shape)?;
    let count = [shape.iter().product::<TDim>()];
    ctx.reshape(&format!("{}/row", node.name), tensor, shape, &count)
}

/// Of int32. By Warren, Hacker's Delight, 2-3 and 2-5: x + y = (x ^ y) + 2 (x & y), and the mean of x and y,
/// rounded down, is (x & y) + ((x ^ y) >> 1) and (x >> 1) + (y >> 1) + (x & y & 1).
fn bitwise(
    chain: &mut Chain,
    form: Form,
    bits: usize,
    x: TensorId,
    y: TensorId,
) -> Result<TensorId> {
    let differ = chain.binary(BinaryOp::BitwiseXor, x, y);
    if form == Form::Xor {
        return Ok(differ);
    }
    let one = chain.scalar(1.0)?;
    if bits < 32 {
        let join = if form == Form::And { BinaryOp::Sub } else { BinaryOp::Add };
        let sum = chain.binary(BinaryOp::Add, x, y);
        let twice = chain.binary(join, sum, differ);
        return Ok(chain.binary(BinaryOp::RightShift, twice, one));
    }
    let two = chain.scalar(2.0)?;
    let mut half = |v| chain.binary(BinaryOp::RightShift, v, one);
    let (half_x, half_y, half_differ) = (half(x), half(y), half(differ));
    let (odd_x, odd_y) =
        (chain.binary(BinaryOp::FloorMod, x, two), chain.binary(BinaryOp::FloorMod, y, two));
    let odd = chain.binary(BinaryOp::Mul, odd_x, odd_y);
    let sum = chain.binary(BinaryOp::Add, half_x, half_y);
    let rest = chain.binary(BinaryOp::Sub, sum, half_differ);
    let both = chain.binary(BinaryOp::Add, rest, odd);
    Ok(match form {
        Form::And => both,
        _ => chain.binary(BinaryOp::Add, both, differ),
    })
}

/// RIGHT_SHIFT of uint32, by at most 31.
fn shift_uint32(chain: &mut Chain, x: TensorId, amount: TensorId) -> TensorId {
    let x = chain.convert(x, ElementType::U32);
    let amount = chain.convert(amount, ElementType::U32);
    let shifted = chain.shaped(BinaryOp::RightShift, x, amount, ElementType::U32);
    chain.convert(shifted, ElementType::I64)
}

fn shift_right(chain: &mut Chain, x: TensorId, amount: TensorId) -> Result<TensorId> {
    let shifted = shift_uint32(chain, x, amount);
    let (width, zero) = (chain.scalar(32.0)?, chain.scalar(0.0)?);
    let within = chain.compare(BinaryOp::Less, amount, width);
    Ok(chain.select(within, shifted, zero))
}

/// 2^amount, and 0 for amounts of `bits` or more.
fn powers_of_two(chain: &mut Chain, amount: TensorId, bits: usize) -> Result<TensorId> {
    let (last, width, zero) = (chain.scalar(31.0)?, chain.scalar(bits as f32)?, chain.scalar(0.0)?);
    let top = chain.scalar(2f32.powi(31))?;
    let bound = chain.binary(BinaryOp::Minimum, amount, last);
    let back = chain.binary(BinaryOp::Sub, last, bound);
    let power = shift_uint32(chain, top, back);
    let within = chain.compare(BinaryOp::Less, amount, width);
    Ok(chain.select(within, power, zero))
}

/// The quotient of int64, rounded towards zero. DIV takes no int64: what the remainder leaves is a multiple of
/// the divisor, and each round of float32 division finds 22 more bits of how many times.
fn quotient(chain: &mut Chain, x: TensorId, y: TensorId, signed: bool) -> Result<TensorId> {
    let rest = match signed {
        true => elementwise::signed_remainder(chain, x, y)?,
        false => chain.binary(BinaryOp::FloorMod, x, y),
    };
    let mut multiple = chain.binary(BinaryOp::Sub, x, rest);
    let divisor = chain.convert(y, ElementType::F32);
    let mut sum = None;
    for last in match signed {
        true => &[false, false, true][..],
        false => &[false, true],
    } {
        let top = chain.convert(multiple, ElementType::F32);
        let ratio = chain.shaped(BinaryOp::Div, top, divisor, ElementType::F32);
        let ratio = chain.shaped_unary(UnaryOp::Round, ratio, ElementType::F32);
        let times = chain.convert(ratio, ElementType::I64);
        sum = Some(match sum {
            None => times,
            Some(before) => chain.binary(BinaryOp::Add, before, times),
        });
        if !last {
            let part = chain.binary(BinaryOp::Mul, times, y);
            multiple = chain.binary(BinaryOp::Sub, multiple, part);
        }
    }
    sum.context("no round")
}

/// A constant power of int64, by squaring.
fn power(ctx: &mut LowerContext, node: &TypedNode, inner: ElementType) -> Result<()> {
    let exponent = ctx.constant(node.inputs[1]).and_then(|c| c.as_uniform());
    let exponent = exponent
        .ok_or_else(|| refusal::computed("an exponent of POW of int64"))?
        .cast_to_scalar::<i64>()?;
    ensure!(
        (1..=64).contains(&exponent),
        "an integer to the power of {exponent}; 1 to 64 can be: Cast to float32 before it"
    );
    let shape = ctx.shape(OutletId::new(node.id, 0))?;
    let mut square = elementwise::operand(ctx, node, 0, inner, 6, &shape)?;
    ensure!(
        ctx.shape(node.inputs[0])? == shape,
        "a power of a base that is broadcast; Expand the base before it"
    );
    let mut chain = Chain::new(ctx, &node.name, inner, &shape);
    let (mut product, mut left) = (None, exponent);
    loop {
        if left % 2 == 1 {
            product = Some(match product {
                None => square,
                Some(before) => chain.binary(BinaryOp::Mul, before, square),
            });
        }
        left /= 2;
        if left == 0 {
            break;
        }
        square = chain.binary(BinaryOp::Mul, square, square);
    }
    ctx.bind(node, product.context("no factor")?);
    Ok(())
}
