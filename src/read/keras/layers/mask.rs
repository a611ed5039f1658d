//! Masks: which steps of a sequence count. Embedding and Masking make them, layers that treat steps alike pass them
//! on, and a mean over the steps leaves out those that do not count.

use super::*;

/// What is known of the steps that count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// A value `[batch, steps]` of 0 and 1.
    Steps(TensorId),
    /// Some do not, by a rule that is not followed here.
    Unknown,
}

/// 1 where an index is not zero.
pub fn not_zero(c: &mut Context, indices: TensorId) -> Result<TensorId> {
    let zero = c.builder.i32s("zero", &[], &[0])?;
    differs(c, indices, zero)
}

/// 1 where `x` is not `value`, in float32.
fn differs(c: &mut Context, x: TensorId, value: TensorId) -> Result<TensorId> {
    let shape = c.builder.shape(x);
    let op = LiteOp::Binary { op: BinaryOp::NotEqual, activation: Activation::None };
    let name = c.named("differs");
    let differs = c.builder.op_as(&name, op, &[x, value], ElementType::Bool, shape)?;
    let name = c.named("mask");
    c.builder.cast(&name, differs, ElementType::F32)
}

/// The operations of Keras 3 that make masks; what they give is 0 and 1 in float32, not booleans.
pub const OPERATIONS: [&str; 2] = ["NotEqual", "Any"];

/// How Keras 3 writes the mask of Embedding, and the first half of Masking's.
pub fn not_equal(c: &mut Context) -> Result<TensorId> {
    let x = c.input()?;
    let [Argument::Input(_), Argument::Constant(number)] = c.call.arguments.as_slice() else {
        bail!("it compares two values; only masks, of a value and a number, have a form here");
    };
    let number = number.as_f64().context("it compares with what is no number")?;
    let value = match c.builder.element(x) {
        ElementType::F32 => c.builder.scalar(number as f32)?,
        ElementType::I32 => {
            ensure!(number as i32 as f64 == number, "it compares integers with {number}");
            c.builder.i32s("value", &[], &[number as i32])?
        }
        other => bail!("it compares values of {other}"),
    };
    differs(c, x, value)
}

/// How Keras 3 writes the second half of Masking's mask.
pub fn any(c: &mut Context) -> Result<TensorId> {
    let x = c.input()?;
    let rank = c.builder.rank(x);
    let axis = c.value("axis").as_i64();
    ensure!(axis == Some(-1) && rank >= 2, "an axis of {}", c.value("axis"));
    let name = c.named("counts");
    c.builder.reduce(&name, ReduceOp::Max, x, &[rank - 1], c.flag("keepdims", false))
}

/// Takes the value of a call's `mask`, which Keras 3 writes out, from the call's inputs.
///
/// # Errors
/// It is not where Keras writes it.
pub fn take_mask(
    builder: &Builder,
    call: &LayerCall,
    inputs: &mut Vec<TensorId>,
    masks: &mut HashMap<TensorId, Mask>,
) -> Result<()> {
    let Some((_, mask)) = call.named.iter().find(|(name, _)| name == "mask") else { return Ok(()) };
    match mask {
        Argument::Constant(Value::Null) => Ok(()),
        &Argument::Input(place) if place > 0 && place + 1 == inputs.len() => {
            let mask = inputs.remove(place);
            let is_steps = builder.rank(mask) == 2 && builder.element(mask) == ElementType::F32;
            let mask = if is_steps { Mask::Steps(mask) } else { Mask::Unknown };
            masks.insert(inputs[0], mask);
            Ok(())
        }
        _ => bail!("it takes a mask in a way that has no form here"),
    }
}

/// Steps that are `mask_value` throughout become zeros and do not count.
pub fn masking(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let rank = c.builder.rank(x);
    ensure!(rank >= 2, "an input of rank {rank}");
    let value = c.builder.scalar(c.number("mask_value", 0.0) as f32)?;
    let differs = differs(c, x, value)?;
    let name = c.named("counts");
    let counts = c.builder.reduce(&name, ReduceOp::Max, differs, &[rank - 1], true)?;
    let name = c.named("masked");
    let y = c.builder.binary(&name, BinaryOp::Mul, x, counts)?;
    let mask = match rank {
        3 => {
            let name = c.named("steps");
            let mut shape = c.builder.shape(counts);
            shape.pop();
            let op = LiteOp::Squeeze { axes: vec![2] };
            Mask::Steps(c.builder.op(&name, op, &[counts], shape)?)
        }
        _ => Mask::Unknown,
    };
    c.masks.insert(y, mask);
    Ok(y)
}

/// The mean over the steps that count: `Σ mask · x / Σ mask`.
pub fn global_average(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let mask = match c.masks.get(&x) {
        Some(Mask::Steps(mask)) if !c.channels_first() => *mask,
        Some(_) => return refuse(c, x).map(|()| x),
        None => return super::pool::global(c, ReduceOp::Mean),
    };
    c.ensure_rank(x, 3)?;
    let mut shape = c.builder.shape(mask);
    shape.push(Dim::Known(1));
    let axis = c.builder.i32s("axis", &[], &[2])?;
    let name = c.named("mask");
    let mask = c.builder.op(&name, LiteOp::ExpandDims, &[mask, axis], shape)?;
    let keep = c.flag("keepdims", false);
    let name = c.named("masked");
    let masked = c.builder.binary(&name, BinaryOp::Mul, x, mask)?;
    let name = c.named("sum");
    let sum = c.builder.reduce(&name, ReduceOp::Sum, masked, &[1], keep)?;
    let name = c.named("count");
    let count = c.builder.reduce(&name, ReduceOp::Sum, mask, &[1], keep)?;
    let name = c.named("mean");
    c.builder.binary(&name, BinaryOp::Div, sum, count)
}

/// Refuses a value that is masked.
pub fn refuse(c: &Context, x: TensorId) -> Result<()> {
    ensure!(
        !c.masks.contains_key(&x),
        "it takes a mask (of Embedding's mask_zero, or of Masking) in a way that has no form here; build the \
         model without the mask, or {EXPORT}"
    );
    Ok(())
}

/// Gives the result of a layer the mask of its inputs, where the layer hands it on.
pub fn pass_on(
    layer: &Layer,
    inputs: &[TensorId],
    result: TensorId,
    masks: &mut HashMap<TensorId, Mask>,
) {
    let class = layer.class.as_str();
    let found: Vec<Mask> = inputs.iter().filter_map(|x| masks.get(x).copied()).collect();
    let Some(&first) = found.first() else { return };
    let mask = match class {
        "Dense" | "Activation" | "ReLU" | "LeakyReLU" | "PReLU" | "ELU" | "ThresholdedReLU"
        | "BatchNormalization" | "LayerNormalization" | "RMSNormalization"
        | "GroupNormalization" | "UnitNormalization" | "TimeDistributed" => first,
        "Add" | "Subtract" | "Multiply" | "Average" | "Maximum" | "Minimum" | "Concatenate"
        | "Dot" | "Softmax" => Mask::Unknown,
        _ => return,
    };
    masks.entry(result).or_insert(mask);
}
