//! Parts, and what is put together from parts.

use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    let mut inputs = ctx.inputs(node)?;
    let element = ctx.output_tensor(node)?.element;
    let typed = ("T", Attribute::Type(element));
    let value = match &node.op {
        LiteOp::Concatenation { axis, activation } => {
            inputs.push(ctx.i32_scalar(*axis));
            let value = concatenate(ctx, element, &inputs);
            return ctx.bind_activated(node, *activation, value);
        }
        LiteOp::Pack { axis } => {
            let (count, axis) =
                (Attribute::Int(inputs.len() as i64), Attribute::Int((*axis).into()));
            ctx.add("Pack", &inputs, &[typed, ("N", count), ("axis", axis)])
        }
        LiteOp::Unpack { axis } => {
            let count = Attribute::Int(node.outputs.len() as i64);
            let axis = Attribute::Int((*axis).into());
            let value = ctx.add("Unpack", &inputs, &[typed, ("num", count), ("axis", axis)]);
            return ctx.bind_all(node, value);
        }
        LiteOp::Split => {
            let count = Attribute::Int(node.outputs.len() as i64);
            let value = ctx.add("Split", &inputs, &[typed, ("num_split", count)]);
            return ctx.bind_all(node, value);
        }
        LiteOp::SplitV => {
            let count = Attribute::Int(node.outputs.len() as i64);
            let attributes = [typed, ("Tlen", ctx.type_of(node, 1)?), ("num_split", count)];
            let value = ctx.add("SplitV", &inputs, &attributes);
            return ctx.bind_all(node, value);
        }
        LiteOp::Slice => {
            let attributes = [typed, ("Index", ctx.type_of(node, 1)?)];
            ctx.add("Slice", &inputs, &attributes)
        }
        LiteOp::StridedSlice {
            begin_mask,
            end_mask,
            shrink_axis_mask,
            new_axis_mask,
            ellipsis_mask,
        } => {
            let attributes = [
                typed,
                ("Index", ctx.type_of(node, 1)?),
                ("begin_mask", Attribute::Int((*begin_mask).into())),
                ("end_mask", Attribute::Int((*end_mask).into())),
                ("ellipsis_mask", Attribute::Int((*ellipsis_mask).into())),
                ("new_axis_mask", Attribute::Int((*new_axis_mask).into())),
                ("shrink_axis_mask", Attribute::Int((*shrink_axis_mask).into())),
            ];
            ctx.add("StridedSlice", &inputs, &attributes)
        }
        LiteOp::Reverse => {
            let attributes = [typed, ("Tidx", ctx.type_of(node, 1)?)];
            ctx.add("ReverseV2", &inputs, &attributes)
        }
        LiteOp::DynamicUpdateSlice => {
            ensure!(!ctx.is_js(), "TensorFlow.js has no update of a slice");
            let [x, update, start] = inputs[..] else { bail!("it has not three inputs") };
            let index = ctx.input_tensor(node, 2)?.element;
            let sizes = [x, update].map(|value| {
                let attributes = [typed.clone(), ("out_type", Attribute::Type(index))];
                ctx.add("Shape", &[value], &attributes)
            });
            // a start too far out is moved inside
            let last = ctx.add_typed("Sub", index, &sizes);
            let zero = ctx.i32_scalar(0);
            let zero = ctx.cast(zero, ElementType::I32, index);
            let start = ctx.add_typed("Minimum", index, &[start, last]);
            let start = ctx.add_typed("Maximum", index, &[start, zero]);
            let end = ctx.add_typed("AddV2", index, &[start, sizes[1]]);
            let rank = ctx.output_tensor(node)?.shape.len();
            let ones = ctx.i32_vector(&vec![1; rank]);
            let ones = ctx.cast(ones, ElementType::I32, index);
            let attributes = [typed, ("Index", Attribute::Type(index))];
            ctx.add("TensorStridedSliceUpdate", &[x, start, end, ones, update], &attributes)
        }
        other => bail!("{} has no parts", other.name()),
    };
    ctx.bind(node, value)
}

/// `parts`, of which the last is the axis, put together.
pub fn concatenate(
    ctx: &mut GraphDefContext,
    element: ElementType,
    parts: &[GraphDefValue],
) -> GraphDefValue {
    if let [one, _] = parts {
        return ctx.add_typed("Identity", element, &[*one]);
    }
    let attributes = [
        ("T", Attribute::Type(element)),
        ("Tidx", Attribute::Type(ElementType::I32)),
        ("N", Attribute::Int(parts.len() as i64 - 1)),
    ];
    ctx.add("ConcatV2", parts, &attributes)
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let axis_attribute = |name: &str| i32::try_from(node.int(name).unwrap_or(0));
    let y = match node.op {
        "ConcatV2" | "Concat" => {
            let last = node.inputs.len().checked_sub(1).context("nothing to put together")?;
            let (place, parts) = match node.op {
                "ConcatV2" => (last, &node.inputs[..last]),
                _ => (0, &node.inputs[1..]),
            };
            let first = *parts.first().context("nothing to put together")?;
            let axis = ctx.axis(ctx.int(node, place)?, ctx.rank(first))?;
            if let [one] = parts {
                return Ok(vec![*one]);
            }
            let axis = i32::try_from(axis)?;
            ctx.emit(LiteOp::Concatenation { axis, activation: Activation::None }, parts)?
        }
        "Pack" => {
            let first = node.input(0)?;
            let axis = ctx.axis(axis_attribute("axis")?.into(), ctx.rank(first) + 1)?;
            ctx.emit(LiteOp::Pack { axis: i32::try_from(axis)? }, &node.inputs)?
        }
        "Unpack" => {
            let x = node.input(0)?;
            let axis = ctx.axis(axis_attribute("axis")?.into(), ctx.rank(x))?;
            let count = ctx.known_dim(x, axis)?;
            return parts(ctx, LiteOp::Unpack { axis: i32::try_from(axis)? }, &[x], x, count);
        }
        "Split" => {
            let (axis, x) = (ctx.int(node, 0)?, node.input(1)?);
            let axis = ctx.axis(axis, ctx.rank(x))?;
            let axis = ctx.i32_scalar(axis as i64)?;
            let count = usize::try_from(node.int("num_split").unwrap_or(1))?;
            return parts(ctx, LiteOp::Split, &[axis, x], x, count);
        }
        "SplitV" => {
            let (x, sizes, axis) = (node.input(0)?, ctx.ints(node, 1)?, ctx.int(node, 2)?);
            let axis = ctx.axis(axis, ctx.rank(x))?;
            let axis = ctx.i32_scalar(axis as i64)?;
            let count = sizes.len();
            let sizes = ctx.i32_vector(&sizes)?;
            return parts(ctx, LiteOp::SplitV, &[x, sizes, axis], x, count);
        }
        "Slice" => {
            let (begin, size) = (ctx.as_i32(node.input(1)?)?, ctx.as_i32(node.input(2)?)?);
            ctx.emit(LiteOp::Slice, &[node.input(0)?, begin, size])?
        }
        "StridedSlice" => read_strided(ctx, node)?,
        "ReverseV2" => {
            let (x, axes) = (node.input(0)?, ctx.ints(node, 1)?);
            let rank = ctx.rank(x);
            let axes: Vec<i64> = axes
                .into_iter()
                .map(|axis| Ok(ctx.axis(axis, rank)? as i64))
                .collect::<Result<_>>()?;
            let axes = ctx.i32_vector(&axes)?;
            ctx.emit(LiteOp::Reverse, &[x, axes])?
        }
        other => bail!("{other} has no parts"),
    };
    Ok(vec![y])
}

fn read_strided(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<TensorId> {
    let x = node.input(0)?;
    let mask = |name: &str| u32::try_from(node.int(name).unwrap_or(0));
    let (new_axes, ellipsis) = (mask("new_axis_mask")?, mask("ellipsis_mask")?);
    let mut masks = [mask("begin_mask")?, mask("end_mask")?, mask("shrink_axis_mask")?];
    let mut places = vec![];
    let mut bounds = vec![];
    for index in 1..4 {
        bounds.push(ctx.as_i32(node.input(index)?)?);
    }
    if new_axes != 0 || ellipsis != 0 {
        // spelled out: LiteRT's kernels know neither of them well
        let spelled: Vec<Vec<i64>> =
            (1..4).map(|index| ctx.ints(node, index)).collect::<Result<_>>()?;
        let given = spelled[0].len();
        ensure!(
            given <= 32 && spelled.iter().all(|list| list.len() == given),
            "bounds of several lengths"
        );
        let has = |mask: u32, i: usize| mask >> i & 1 == 1;
        let is_new = |i: &usize| has(new_axes, *i) && !has(ellipsis, *i);
        let own = (0..given).filter(|i| !is_new(i) && !has(ellipsis, *i)).count();
        let covered = ctx.rank(x).checked_sub(own).context("more bounds than axes")?;
        let mut whole: [Vec<i64>; 3] = Default::default();
        let mut dense = [0u32; 3];
        let mut position = 0;
        for i in 0..given {
            if is_new(&i) {
                places.push(position);
                position += 1;
                continue;
            }
            let count = if has(ellipsis, i) { covered } else { 1 };
            for _ in 0..count {
                let bit = 1u32.checked_shl(whole[0].len() as u32).context("too many axes")?;
                let is_whole = has(ellipsis, i);
                for (list, spelled) in whole.iter_mut().zip(&spelled) {
                    list.push(if is_whole { 1 } else { spelled[i] });
                }
                for (kind, dense) in dense.iter_mut().enumerate() {
                    let is_set = if is_whole { kind < 2 } else { has(masks[kind], i) };
                    *dense |= if is_set { bit } else { 0 };
                }
                position += usize::from(is_whole || !has(masks[2], i));
            }
        }
        masks = dense;
        bounds = whole.iter().map(|list| ctx.i32_vector(list)).collect::<Result<_>>()?;
    }
    let [begin_mask, end_mask, shrink_axis_mask] = masks;
    let op = LiteOp::StridedSlice {
        begin_mask,
        end_mask,
        shrink_axis_mask,
        new_axis_mask: 0,
        ellipsis_mask: 0,
    };
    let mut y = ctx.emit(op, &[x, bounds[0], bounds[1], bounds[2]])?;
    for place in places {
        let axis = ctx.i32_scalar(place as i64)?;
        y = ctx.emit(LiteOp::ExpandDims, &[y, axis])?;
    }
    Ok(y)
}

/// More outputs than any op of use has.
const MOST_PARTS: usize = 1 << 12;

fn parts(
    ctx: &mut GraphDefReader,
    op: LiteOp,
    inputs: &[TensorId],
    x: TensorId,
    count: usize,
) -> Result<Vec<TensorId>> {
    ensure!((1..=MOST_PARTS).contains(&count), "{count} parts");
    let element = ctx.element(x);
    ctx.emit_all(op, inputs, &vec![element; count])
}
