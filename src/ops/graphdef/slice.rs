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
