//! Where the maxima of a MaxPool are: TFLite has no such op, so all taps of each window are put beside each other
//! and ARG_MAX finds the tap.

use super::window::*;
use super::*;
use crate::graph::{Activation, BinaryOp};
use crate::tract::MaxPoolIndices;

/// More taps than the largest window in use (7 × 7) has, and few enough for a graph.
const MOST_TAPS: usize = 128;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(op) = node.op_as::<MaxPoolIndices>() else { return Ok(None) };
    let element = ctx.element(node.inputs[0])?;
    let float = matches!(element, ElementType::F32 | ElementType::F16);
    ensure!(float, refusal::of_type("the indices of maxima", element));
    let spec = &op.pool_spec;
    let windows = windows(spec, &ctx.shape(node.inputs[0])?)?;
    ensure!(
        windows.len() <= 3,
        "the indices of maxima over {} axes; 3 can be: leave the output of indices out",
        windows.len()
    );
    let taps = windows.iter().try_fold(1usize, |n, w| n.checked_mul(w.kernel));
    let taps = taps
        .filter(|&n| n <= MOST_TAPS)
        .ok_or_else(|| refusal::too_large("the places of a window with indices of maxima"))?;
    let sizes: Option<Vec<_>> = windows.iter().map(|w| w.sizes).collect();
    let sizes = sizes.ok_or_else(|| {
        refusal::unknown_size("the indices of maxima over an axis of unknown size")
    })?;
    for (window, (_, output)) in windows.iter().zip(&sizes) {
        let alone = (0..*output).any(|place| window.taps_inside(place) == Some(0));
        ensure!(
            !alone,
            "a window of padding alone, which has no maximum; make the pads smaller than the kernel"
        );
    }
    let inputs: Vec<usize> = sizes.iter().map(|s| s.0).collect();
    let strides = op.strides(&inputs);
    let plane: usize = inputs.iter().product();

    let name = &node.name;
    let format = spec.data_format;
    let (x, shape) = channels_last(ctx, name, node.inputs[0], format)?;
    let channels = shape[shape.len() - 1].to_usize().context("unknown channels")?;
    let image = plane.checked_mul(channels).filter(|&n| n < 1 << 31).context("a large picture")?;
    let x = pad(ctx, name, x, &shape, &windows, Some(f32::NEG_INFINITY))?;
    let result = channels_last_shape(&ctx.shape(OutletId::new(node.id, 0))?, format);

    let (mut slices, mut offsets) = (vec![], vec![]);
    for tap in 0..taps {
        let mut rest = tap;
        let mut places = vec![0; windows.len()];
        for (place, window) in places.iter_mut().zip(&windows).rev() {
            *place = rest % window.kernel;
            rest /= window.kernel;
        }
        let axes: Vec<(usize, &Window, usize)> =
            (1..).zip(&windows).zip(&places).map(|((axis, w), &place)| (axis, w, place)).collect();
        slices.push(tap_slice(ctx, name, x, &result, &axes)?);
        let offset: usize = axes
            .iter()
            .zip(&strides)
            .map(|((_, w, place), stride)| place * w.dilation * stride)
            .sum();
        offsets.push(i32::try_from(offset)?);
    }
    let rank = result.len();
    let stacked = [&result[..], &[TDim::from(taps)]].concat();
    let pack = LiteOp::Pack { axis: i32::try_from(rank)? };
    let stack = ctx.emit(&format!("{name}/stack"), pack, &slices, ElementType::F32, &stacked);
    let axis = ctx.add_i32_tensor(&format!("{name}/axis"), &[], &[i32::try_from(rank)?]);
    let lite = LiteOp::ArgMax { element: ElementType::I32 };
    let tap = ctx.emit(&format!("{name}/tap"), lite, &[stack, axis], ElementType::I32, &result);
    let table = ctx.add_i32_constant(&format!("{name}/offsets"), &offsets);
    let gather = LiteOp::Gather { axis: 0, batch_dims: 0 };
    let mut index = ctx.emit(name, gather, &[table, tap], ElementType::I32, &result);

    // where each window begins; negative in the padding, which no maximum is in
    let mut begins = vec![0i64];
    for ((window, (_, output)), stride) in windows.iter().zip(&sizes).zip(&strides) {
        let at = |place: usize| (place * window.stride) as i64 - window.before as i64;
        begins = begins
            .iter()
            .flat_map(|begin| (0..*output).map(move |place| begin + at(place) * *stride as i64))
            .collect();
    }
    let begins: Vec<i32> = begins.into_iter().map(i32::try_from).collect::<Result<_, _>>()?;
    let outputs = sizes.iter().map(|s| s.1);
    let shape_of_begins: Vec<usize> = [1].into_iter().chain(outputs).chain([1]).collect();
    let mut terms = vec![ctx.add_i32_tensor(&format!("{name}/begins"), &shape_of_begins, &begins)];
    if channels > 1 {
        let planes: Vec<i32> =
            (0..channels).map(|c| i32::try_from(c * plane)).collect::<Result<_, _>>()?;
        terms.push(ctx.add_i32_constant(&format!("{name}/planes"), &planes));
    }
    if result[0] != TDim::from(1) {
        terms.push(batch_offsets(ctx, name, &result, image)?);
    }
    for term in terms {
        let op = LiteOp::Binary { op: BinaryOp::Add, activation: Activation::None };
        index = ctx.emit(name, op, &[index, term], ElementType::I32, &result);
    }
    bind_channels_last(ctx, node, index, format).map(Some)
}

/// 0, `image`, 2 · `image`, … along the batch axis of `shape`.
fn batch_offsets(
    ctx: &mut LowerContext,
    name: &str,
    shape: &[TDim],
    image: usize,
) -> Result<TensorId> {
    let mut column = vec![TDim::from(1); shape.len()];
    column[0] = shape[0].clone();
    if let Ok(batch) = shape[0].to_usize() {
        let offsets: Vec<i32> =
            (0..batch).map(|n| i32::try_from(n * image)).collect::<Result<_, _>>()?;
        let mut column = vec![1; shape.len()];
        column[0] = batch;
        return Ok(ctx.add_i32_tensor(&format!("{name}/images"), &column, &offsets));
    }
    let label = format!("{name}/images");
    let size = ctx.shape_tensor(&format!("{label}/shape"), &column)?;
    let image = ctx.add_i32_tensor(&format!("{label}/size"), &[], &[i32::try_from(image)?]);
    let all = ctx.emit(&label, LiteOp::Fill, &[size, image], ElementType::I32, &column);
    let axis = ctx.add_i32_tensor(&format!("{label}/axis"), &[], &[0]);
    let lite = LiteOp::CumSum { exclusive: true, reverse: false };
    Ok(ctx.emit(&label, lite, &[all, axis], ElementType::I32, &column))
}
