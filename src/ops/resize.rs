//! Ops that resample or rearrange NHWC pictures: RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR, DEPTH_TO_SPACE,
//! SPACE_TO_DEPTH. What TFLite's modes cannot say is composed from GATHER and products.

use super::compose::{constant_i32, i32_like, passage};
use super::*;
use crate::format::tflite::{
    DepthToSpaceOptions, ResizeBilinearOptions, ResizeNearestNeighborOptions, SpaceToDepthOptions,
};
use crate::graph::Activation;
use crate::tract::onnx_resize::{self, CoordTransform};
use crate::tract::ops::einsum::EinSum;
use crate::tract::ops::nn::resize::{self, AxisPlan, Resize};
use crate::tract::ops::nn::{CoordTransformer, Interpolator, Nearest, NearestUpsample};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<NearestUpsample>() {
        return lower_upsample(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<onnx_resize::Resize>() {
        return lower_onnx(ctx, node, op).map(Some);
    }
    let Some(op) = node.op_as::<Resize>() else { return Ok(None) };
    let input = Source::new(ctx, node, &op.interpolator)?;
    let from = ctx.shape(node.inputs[0])?;
    let to = ctx.shape(OutletId::new(node.id, 0))?;
    let scales = constant_scales(ctx, node, op.optional_scales_input, from.len())?;
    if let Some(result) = lower_dynamic(ctx, node, op, &input, scales.as_deref(), [&from, &to])? {
        input.bind(ctx, node, result);
        return Ok(Some(()));
    }
    let mut plans = vec![];
    for axis in 0..from.len() {
        let scale = scales.as_ref().map(|s| s[axis]);
        if from[axis] == to[axis] && scale.is_none_or(|s| s == 1.0) {
            continue;
        }
        let known = |d: &TDim| {
            d.to_usize().map_err(|_| {
                refusal::unknown_size(format!("a resize of the axis {axis} of unknown size"))
            })
        };
        let (len_in, len_out) = (known(&from[axis])?, known(&to[axis])?);
        let scale = scale.unwrap_or(len_out as f32 / len_in as f32);
        check_axis(scale, len_in, len_out)?;
        plans.push((axis, scale, op.plan_axis(scale, len_in, len_out), len_in, len_out));
    }
    if let [(2, a, _, h, new_h), (3, b, _, w, new_w)] = plans.as_slice()
        && from.len() == 4
        && *a == *new_h as f32 / *h as f32
        && *b == *new_w as f32 / *w as f32
        && let Some(lite) = native(op, (*new_h).min(*new_w))
    {
        let size = [TDim::from(*new_h), TDim::from(*new_w)];
        let result = lower_native(ctx, &node.name, lite, input.tensor, &from, size)?;
        input.bind(ctx, node, result);
        return Ok(Some(()));
    }
    let mut tensor = input.tensor;
    let mut shape = from;
    for (axis, _, plan, len_in, len_out) in &plans {
        tensor = resample(ctx, node, tensor, &mut shape, *axis, plan, [*len_in, *len_out], 0.0)?;
    }
    input.bind(ctx, node, tensor);
    Ok(Some(()))
}

/// What is resized: as it came if pixels are only copied, else as float32.
struct Source {
    tensor: TensorId,
}

impl Source {
    fn new(ctx: &mut LowerContext, node: &TypedNode, how: &Interpolator) -> Result<Source> {
        let element = ctx.element(node.inputs[0])?;
        let tensor = match (how, element) {
            (Interpolator::Nearest, _) => ctx.tensor(node.inputs[0])?,
            (_, ElementType::F32 | ElementType::F16) => {
                ctx.tensor_as(node.inputs[0], ElementType::F32)?
            }
            _ => return Err(refusal::of_type("a resize", element)),
        };
        Ok(Source { tensor })
    }

    fn bind(&self, ctx: &mut LowerContext, node: &TypedNode, result: TensorId) {
        let element = ctx.element(node.inputs[0]).unwrap_or(ElementType::F32);
        let result = ctx.cast(&node.name, result, element);
        ctx.bind(node, result);
    }
}

/// The constant scales of a resize, if it has such; `count` of them.
fn constant_scales(
    ctx: &LowerContext,
    node: &TypedNode,
    input: Option<usize>,
    count: usize,
) -> Result<Option<Vec<f32>>> {
    let Some(&outlet) = input.and_then(|i| node.inputs.get(i)) else { return Ok(None) };
    let scales = ctx.constant(outlet).ok_or_else(|| refusal::computed("the scales of a resize"))?;
    let scales = scales.cast_to::<f32>()?;
    let scales = scales.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    Ok(Some(scales).filter(|s| s.len() == count && !s.is_empty()))
}

/// Pictures whose size is known at run time alone, enlarged a whole number of times.
fn lower_dynamic(
    ctx: &mut LowerContext,
    node: &TypedNode,
    op: &Resize,
    input: &Source,
    scales: Option<&[f32]>,
    [from, to]: [&[TDim]; 2],
) -> Result<Option<TensorId>> {
    let dynamic =
        |shape: &[TDim]| shape.len() == 4 && shape[2..].iter().any(|d| d.to_i64().is_err());
    if !dynamic(from) || from[..2] != to[..2] {
        return Ok(None);
    }
    // up to this factor float32 quotients and products by its inverse fall on the same pixels
    let times = |axis: usize| {
        (1..=LARGEST_DYNAMIC_FACTOR).find(|&k| {
            to[axis] == from[axis].clone() * k && scales.is_none_or(|s| s[axis] == k as f32)
        })
    };
    let (Some(high), Some(wide)) = (times(2), times(3)) else { return Ok(None) };
    let Some(lite) = native(op, high.min(wide)) else { return Ok(None) };
    let size = [to[2].clone(), to[3].clone()];
    lower_native(ctx, &node.name, lite, input.tensor, from, size).map(Some)
}

/// `⌊i · (1/k)⌋ = ⌊i / k⌋` in float32 for all i below 2^22 and k up to twice this.
const LARGEST_DYNAMIC_FACTOR: usize = 16;

/// The modes that tract leaves to ONNX: other roundings, antialiasing, aspect ratios, crops.
fn lower_onnx(ctx: &mut LowerContext, node: &TypedNode, op: &onnx_resize::Resize) -> Result<()> {
    let input = Source::new(ctx, node, &op.interpolator)?;
    let from = ctx.known_shape(node.inputs[0])?;
    let to = ctx.known_shape(OutletId::new(node.id, 0))?;
    let axes = op.resized_axes(from.len())?;
    let scales = constant_scales(ctx, node, op.optional_scales_input, axes.len())?;
    let crop = match &op.coord_transformer {
        CoordTransform::Plain(_) => None,
        CoordTransform::TfCropAndResize => {
            let outlet = op.optional_roi_input.and_then(|i| node.inputs.get(i));
            let roi = ctx.constant(*outlet.context("tf_crop_and_resize without a region")?);
            let roi = roi
                .ok_or_else(|| refusal::computed("the region of tf_crop_and_resize"))?
                .cast_to::<f32>()?;
            let roi = roi.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
            ensure!(roi.len() == 2 * axes.len(), "a region of {} numbers", roi.len());
            Some(roi)
        }
    };
    let shared_scale = match (&scales, op.keep_aspect_ratio_policy) {
        (Some(_), _) | (None, onnx_resize::AspectRatio::Stretch) => None,
        (None, policy) => Some(aspect_ratio_scale(ctx, node, op, &axes, &from, policy)?),
    };
    let mut tensor = input.tensor;
    let mut shape: Vec<TDim> = from.iter().map(|&n| TDim::from(n)).collect();
    for (place, &axis) in axes.iter().enumerate() {
        let (len_in, len_out) = (from[axis], to[axis]);
        let scale = match (&scales, shared_scale) {
            (Some(scales), _) => scales[place],
            (None, Some(scale)) => scale,
            (None, None) => len_out as f32 / len_in as f32,
        };
        if len_in == len_out && scale == 1.0 && crop.is_none() {
            continue;
        }
        check_axis(scale, len_in, len_out)?;
        let window = resize::window_size(&op.interpolator, op.antialias, scale);
        let coordinate = |i: usize| match (&op.coord_transformer, &crop) {
            (CoordTransform::Plain(plain), _) => Some(plain.transform(i, scale, len_in, len_out)),
            (CoordTransform::TfCropAndResize, roi) => {
                let roi = roi.as_ref()?;
                let (start, end) = (roi[place], roi[place + axes.len()]);
                let last = len_in as f32 - 1.0;
                let at = match len_out {
                    1 => 0.5 * (start + end) * last,
                    _ => start * last + i as f32 * (end - start) * last / (len_out as f32 - 1.0),
                };
                (0.0..=last).contains(&at).then_some(at)
            }
        };
        let weight = |r: f32, w: &mut [f32]| match op.interpolator {
            Interpolator::Linear => resize::linear_weights(r, scale, op.antialias, w),
            Interpolator::Cubic => {
                resize::cubic_weights(r, scale, op.cubic_coeff_a(), op.antialias, w);
            }
            Interpolator::Nearest => {
                let right = match op.nearest {
                    onnx_resize::Nearest::Floor => false,
                    onnx_resize::Nearest::Ceil => true,
                    onnx_resize::Nearest::RoundPreferFloor => r > 0.5,
                    onnx_resize::Nearest::RoundPreferCeil => r >= 0.5,
                };
                let right = right || r == 1.0;
                w[0] = f32::from(!right);
                w[1] = f32::from(right);
            }
        };
        let plan =
            resize::plan_axis(len_in, len_out, window, op.exclude_outside, coordinate, weight);
        let outside = op.extrapolation_value();
        tensor = resample(ctx, node, tensor, &mut shape, axis, &plan, [len_in, len_out], outside)?;
    }
    input.bind(ctx, node, tensor);
    Ok(())
}

/// The one scale of all axes that keeps a picture inside `sizes`, or covers them (ONNX Resize 18).
fn aspect_ratio_scale(
    ctx: &LowerContext,
    node: &TypedNode,
    op: &onnx_resize::Resize,
    axes: &[usize],
    from: &[usize],
    policy: onnx_resize::AspectRatio,
) -> Result<f32> {
    let outlet = op.optional_sizes_input.and_then(|i| node.inputs.get(i));
    let sizes = outlet.and_then(|&outlet| ctx.constant(outlet));
    let sizes = sizes
        .ok_or_else(|| refusal::computed("the sizes of a resize that keeps the aspect ratio"))?;
    let sizes = sizes.cast_to::<i64>()?;
    let sizes = sizes.try_as_plain_ram()?.as_slice::<i64>()?;
    let ratios = axes.iter().zip(sizes).map(|(&axis, &size)| size as f32 / from[axis] as f32);
    let scale = match policy {
        onnx_resize::AspectRatio::NotLarger => ratios.reduce(f32::min),
        onnx_resize::AspectRatio::NotSmaller => ratios.reduce(f32::max),
        onnx_resize::AspectRatio::Stretch => None,
    };
    scale.context("a resize of no axes")
}

/// TFLite's op of the same arithmetic.
fn native(op: &Resize, smallest: usize) -> Option<LiteOp> {
    let (align_corners, half_pixel_centers) = match op.coord_transformer {
        CoordTransformer::HalfPixel => (false, true),
        CoordTransformer::PytorchHalfPixel if smallest > 1 => (false, true),
        CoordTransformer::AlignCorners if smallest > 1 => (true, false),
        CoordTransformer::Asymmetric => (false, false),
        CoordTransformer::PytorchHalfPixel
        | CoordTransformer::AlignCorners
        | CoordTransformer::HalfPixelSymmetric
        | CoordTransformer::TfHalfPixelForNn => return None,
    };
    match op.interpolator {
        Interpolator::Linear => Some(LiteOp::ResizeBilinear { align_corners, half_pixel_centers }),
        Interpolator::Nearest
            if op.nearest == Nearest::Floor && !align_corners && !half_pixel_centers =>
        {
            Some(LiteOp::ResizeNearest { align_corners, half_pixel_centers })
        }
        Interpolator::Nearest | Interpolator::Cubic => None,
    }
}

/// NCHW → NHWC, the op, and back.
fn lower_native(
    ctx: &mut LowerContext,
    name: &str,
    op: LiteOp,
    input: TensorId,
    shape: &[TDim],
    [height, width]: [TDim; 2],
) -> Result<TensorId> {
    let element = ctx.graph.tensors[input].element;
    let label = format!("{name}/nhwc");
    let input = ctx.transpose(&label, input, shape, &[0, 2, 3, 1]);
    let size = ctx.shape_tensor(&format!("{name}/size"), &[height.clone(), width.clone()])?;
    let to = [shape[0].clone(), height, width, shape[1].clone()];
    let result = ctx.emit(&label, op, &[input, size], element, &to);
    Ok(ctx.transpose(name, result, &to, &[0, 3, 1, 2]))
}

/// Refuses what tract's plan of an axis would not end with, or be huge.
fn check_axis(scale: f32, len_in: usize, len_out: usize) -> Result<()> {
    const LONGEST: usize = 1 << 20;
    ensure!(
        scale.is_finite()
            && scale > 1.0 / LONGEST as f32
            && (1..LONGEST).contains(&len_in)
            && len_out < LONGEST,
        "a resize by {scale} of an axis from {len_in} to {len_out}"
    );
    Ok(())
}

/// One axis: GATHER where each result is one value, else a product with the constant weights. What is beyond the
/// border is `outside`.
#[allow(clippy::too_many_arguments)]
fn resample(
    ctx: &mut LowerContext,
    node: &TypedNode,
    tensor: TensorId,
    shape: &mut [TDim],
    axis: usize,
    plan: &AxisPlan,
    lengths: [usize; 2],
    outside: f32,
) -> Result<TensorId> {
    let resampled = match single_places(plan) {
        Some(places) => ctx.gather_places(&node.name, tensor, shape, axis, &places)?,
        None => weigh(ctx, node, tensor, shape, axis, plan, lengths)?,
    };
    if !plan.extrapolated.contains(&true) {
        return Ok(resampled);
    }
    let element = ctx.graph.tensors[resampled].element;
    let mut column = vec![1; shape.len()];
    column[axis] = plan.extrapolated.len();
    let beyond = tract::Tensor::from_shape(&column, &plan.extrapolated)?;
    let beyond = ctx.add_constant(&format!("{}/beyond", node.name), &beyond)?;
    let outside = ctx.add_scalar(&format!("{}/outside", node.name), outside, element)?;
    let inputs = [beyond, outside, resampled];
    Ok(ctx.emit(&node.name, LiteOp::Select, &inputs, element, shape))
}

fn weigh(
    ctx: &mut LowerContext,
    node: &TypedNode,
    tensor: TensorId,
    shape: &mut [TDim],
    axis: usize,
    plan: &AxisPlan,
    [len_in, len_out]: [usize; 2],
) -> Result<TensorId> {
    let element = ctx.graph.tensors[tensor].element;
    let last = shape.len() - 1;
    let mut swap: Vec<usize> = (0..=last).collect();
    swap.swap(axis, last);
    let x = ctx.transpose(&format!("{}/axis_last", node.name), tensor, shape, &swap);
    let mut moved: Vec<TDim> = swap.iter().map(|&a| shape[a].clone()).collect();
    let weights = weights(plan, len_in, len_out)?;
    let weights = ctx.add_constant(&format!("{}/weights", node.name), &weights)?;
    let rows: TDim = moved[..last].iter().cloned().product();
    let flat = [rows.clone(), TDim::from(len_in)];
    let x = ctx.reshape(&format!("{}/rows", node.name), x, &moved, &flat)?;
    let op = LiteOp::FullyConnected {
        activation: Activation::None,
        keep_num_dims: false,
        asymmetric_quantize_inputs: false,
    };
    let flat = [rows, TDim::from(len_out)];
    let x = ctx.emit(&format!("{}/resampled", node.name), op, &[x, weights], element, &flat);
    moved[last] = len_out.into();
    let x = ctx.reshape(&format!("{}/unflat", node.name), x, &flat, &moved)?;
    shape[axis] = len_out.into();
    Ok(ctx.transpose(&node.name, x, &moved, &swap))
}

/// The one input place that each output reads; `None` where one is a mixture.
fn single_places(plan: &AxisPlan) -> Option<Vec<usize>> {
    let taps = plan.indices.chunks_exact(plan.window).zip(plan.weights.chunks_exact(plan.window));
    taps.zip(&plan.extrapolated)
        .map(|((places, weights), &extrapolated)| {
            if extrapolated {
                return Some(0);
            }
            let mut used = places.iter().zip(weights).filter(|(_, w)| **w != 0.0);
            let (place, weight) = used.next()?;
            (*weight == 1.0 && used.next().is_none()).then_some(*place)
        })
        .collect()
}

/// The plan as a matrix, out × in.
fn weights(plan: &AxisPlan, len_in: usize, len_out: usize) -> Result<tract::Tensor> {
    let count = len_in.checked_mul(len_out).filter(|&n| n <= 1 << 26);
    let mut values = vec![0f32; count.ok_or_else(|| refusal::too_large("the places of a resize"))?];
    let taps = plan.indices.chunks_exact(plan.window).zip(plan.weights.chunks_exact(plan.window));
    for (row, (places, weights)) in taps.enumerate() {
        for (place, weight) in places.iter().zip(weights) {
            values[row * len_in + place] += weight;
        }
    }
    tract::Tensor::from_shape(&[len_out, len_in], &values)
}

fn lower_upsample(ctx: &mut LowerContext, node: &TypedNode, op: &NearestUpsample) -> Result<()> {
    let mut shape = ctx.shape(node.inputs[0])?;
    let mut tensor = ctx.tensor(node.inputs[0])?;
    let scaled: Vec<usize> = (0..shape.len()).filter(|&a| op.scales[a] != 1).collect();
    let dynamic = scaled.iter().any(|&axis| shape[axis].to_usize().is_err());
    let exact = !dynamic || op.scales.iter().all(|&k| k <= LARGEST_DYNAMIC_FACTOR);
    let picture = shape.len() == 4 && scaled.iter().all(|&axis| axis >= 2);
    if picture && exact && (dynamic || scaled == [2, 3]) {
        let size = [2, 3].map(|axis| shape[axis].clone() * op.scales[axis]);
        let lite = LiteOp::ResizeNearest { align_corners: false, half_pixel_centers: false };
        let result = lower_native(ctx, &node.name, lite, tensor, &shape, size)?;
        ctx.bind(node, result);
        return Ok(());
    }
    for axis in scaled {
        let scale = op.scales[axis];
        let len = shape[axis]
            .to_usize()
            .map_err(|_| refusal::unknown_size("an upsampling of an axis of unknown size"))?;
        let places: Vec<usize> = (0..len * scale).map(|place| place / scale).collect();
        tensor = ctx.gather_places(&node.name, tensor, &mut shape, axis, &places)?;
    }
    ctx.bind(node, tensor);
    Ok(())
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let shape = ctx.shape(x)?;
    ensure!(shape.len() == 4, "'{name}': a picture of rank {}", shape.len());
    let wire = match &node.op {
        LiteOp::ResizeBilinear { align_corners, half_pixel_centers } => {
            let modes = (*align_corners, *half_pixel_centers);
            raise_resize(ctx, node, x, &shape, Interpolator::Linear, modes)?
        }
        LiteOp::ResizeNearest { align_corners, half_pixel_centers } => {
            let modes = (*align_corners, *half_pixel_centers);
            raise_resize(ctx, node, x, &shape, Interpolator::Nearest, modes)?
        }
        LiteOp::DepthToSpace { block } => {
            let depth = shape[3].to_usize().with_context(|| format!("'{name}'"))?;
            let area = block.checked_mul(*block).filter(|&a| a > 0 && depth % a == 0);
            let area = area.with_context(|| format!("'{name}': blocks of {block} of {depth}"))?;
            let b = TDim::from(*block);
            let (n, h, w, c) =
                (shape[0].clone(), shape[1].clone(), shape[2].clone(), TDim::from(depth / area));
            let split = [n.clone(), h.clone(), w.clone(), b.clone(), b.clone(), c.clone()];
            let wire = super::shape::wire_reshape(ctx, name, x, &split)?;
            let wire = ctx.wire(&format!("{name}/move"), AxisOp::Move(3, 2), &[wire])?;
            let joined = [n, h * &b, w * &b, c];
            super::shape::wire_reshape(ctx, name, wire, &joined)?
        }
        LiteOp::SpaceToDepth { block } => {
            let known = |d: &TDim| d.to_usize().ok().filter(|d| *block > 0 && d % block == 0);
            let (Some(h), Some(w)) = (known(&shape[1]), known(&shape[2])) else {
                bail!("'{name}': blocks of {block} of {} × {}", shape[1], shape[2])
            };
            let b = TDim::from(*block);
            let (n, c) = (shape[0].clone(), shape[3].clone());
            let (h, w) = (TDim::from(h / block), TDim::from(w / block));
            let split = [n.clone(), h.clone(), b.clone(), w.clone(), b.clone(), c.clone()];
            let wire = super::shape::wire_reshape(ctx, name, x, &split)?;
            let wire = ctx.wire(&format!("{name}/move"), AxisOp::Move(2, 3), &[wire])?;
            let joined = [n, h, w, c * &b * &b];
            super::shape::wire_reshape(ctx, name, wire, &joined)?
        }
        other => bail!("{} does not resample", other.name()),
    };
    ctx.finish(node, wire)
}

fn raise_resize(
    ctx: &mut RaiseContext,
    node: &Node,
    x: OutletId,
    shape: &[TDim],
    interpolator: Interpolator,
    modes: (bool, bool),
) -> Result<OutletId> {
    let name = ctx.output_name(node);
    let size = ctx.dims_input(node, 1)?;
    ensure!(size.len() == 2, "'{name}': {} sizes", size.len());
    if size.iter().chain(&shape[1..3]).any(|d| d.to_i64().is_err()) {
        return raise_dynamic(ctx, node, x, shape, &size, interpolator, modes);
    }
    let (align_corners, half_pixel_centers) = modes;
    let mut wire = x;
    for (axis, size) in [1usize, 2].into_iter().zip(&size) {
        let len_in =
            shape[axis].to_usize().with_context(|| format!("'{name}': a dynamic picture"))?;
        let len_out = size.to_usize().with_context(|| format!("'{name}': size {size}"))?;
        ensure!(len_in > 0 && len_out > 0, "'{name}': an empty picture");
        if interpolator == Interpolator::Nearest {
            let places: Vec<i64> = (0..len_out)
                .map(|i| nearest_place(i, len_in, len_out, align_corners, half_pixel_centers))
                .collect();
            wire = super::slice::wire_places(ctx, name, wire, axis, &places)?;
            continue;
        }
        let coord_transformer = match (align_corners, half_pixel_centers) {
            (true, _) if len_out > 1 => CoordTransformer::AlignCorners,
            (false, true) => CoordTransformer::HalfPixel,
            _ => CoordTransformer::Asymmetric,
        };
        let op = Resize {
            coord_transformer,
            interpolator: Interpolator::Linear,
            nearest: Nearest::Floor,
            optional_scales_input: None,
            optional_sizes_input: None,
        };
        let plan = op.plan_axis(len_out as f32 / len_in as f32, len_in, len_out);
        let weights = weights(&plan, len_in, len_out)?.into_arc_tensor();
        let weights = ctx.add_constant(&format!("{name}/weights"), weights)?;
        let axes = if axis == 1 { "nhwc,oh->nowc" } else { "nhwc,ow->nhoc" };
        let op = EinSum::new(axes.parse()?, DatumType::F32);
        wire = ctx.wire(&format!("{name}/resampled"), op, &[wire, weights])?;
    }
    Ok(wire)
}

/// A picture of unknown size, a whole number of times larger.
fn raise_dynamic(
    ctx: &mut RaiseContext,
    node: &Node,
    x: OutletId,
    shape: &[TDim],
    size: &[TDim],
    interpolator: Interpolator,
    (align_corners, half_pixel_centers): (bool, bool),
) -> Result<OutletId> {
    let name = ctx.output_name(node);
    let mut scales = vec![1];
    for (from, to) in shape[1..3].iter().zip(size) {
        let times = (1..=LARGEST_DYNAMIC_FACTOR).find(|&k| *to == from.clone() * k);
        scales.push(times.with_context(|| format!("'{name}': a resize from {from} to {to}"))?);
    }
    scales.push(1);
    if interpolator == Interpolator::Nearest {
        let plain = !align_corners && !half_pixel_centers;
        ensure!(plain, "'{name}': a nearest resize of unknown size in this mode");
        return ctx.wire(name, NearestUpsample { scales: scales.into_iter().collect() }, &[x]);
    }
    let coord_transformer = match (align_corners, half_pixel_centers) {
        (true, _) => CoordTransformer::AlignCorners,
        (false, true) => CoordTransformer::HalfPixel,
        (false, false) => CoordTransformer::Asymmetric,
    };
    let scales: Vec<f32> = scales.into_iter().map(|k| k as f32).collect();
    let scales = tract::tensor1(&scales).into_arc_tensor();
    let scales = ctx.add_constant(&format!("{name}/scales"), scales)?;
    let op = Resize {
        coord_transformer,
        interpolator,
        nearest: Nearest::Floor,
        optional_scales_input: Some(1),
        optional_sizes_input: None,
    };
    ctx.wire(name, op, &[x, scales])
}

/// Where TFLite's kernel reads result `i` (`reference_ops::GetNearestNeighbor`).
fn nearest_place(
    i: usize,
    len_in: usize,
    len_out: usize,
    align_corners: bool,
    half_pixel_centers: bool,
) -> i64 {
    let scale = match align_corners && len_out > 1 {
        true => (len_in as f32 - 1.0) / (len_out as f32 - 1.0),
        false => len_in as f32 / len_out as f32,
    };
    let offset = if half_pixel_centers { 0.5 } else { 0.0 };
    let place = (i as f32 + offset) * scale;
    let place = if align_corners { place.round() } else { place.floor() };
    (place as i64).clamp(0, len_in as i64 - 1)
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    let block = |n: i32| usize::try_from(n).with_context(|| format!("blocks of {n}"));
    Ok(Some(match (op.builtin, &op.options) {
        (BuiltinOperator::RESIZE_BILINEAR, BuiltinOptions::ResizeBilinear(o)) => {
            let (align_corners, half_pixel_centers) = (o.align_corners, o.half_pixel_centers);
            LiteOp::ResizeBilinear { align_corners, half_pixel_centers }
        }
        (BuiltinOperator::RESIZE_NEAREST_NEIGHBOR, BuiltinOptions::ResizeNearestNeighbor(o)) => {
            let (align_corners, half_pixel_centers) = (o.align_corners, o.half_pixel_centers);
            LiteOp::ResizeNearest { align_corners, half_pixel_centers }
        }
        (BuiltinOperator::DEPTH_TO_SPACE, BuiltinOptions::DepthToSpace(o)) => {
            LiteOp::DepthToSpace { block: block(o.block_size)? }
        }
        (BuiltinOperator::SPACE_TO_DEPTH, BuiltinOptions::SpaceToDepth(o)) => {
            LiteOp::SpaceToDepth { block: block(o.block_size)? }
        }
        _ => return Ok(None),
    }))
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    use ElementType::{I8, I16};
    let element = input_element(graph, node, 0);
    let plain = version_of(element, &[(I16, 4), (I8, 2)]);
    Ok(match &node.op {
        LiteOp::ResizeBilinear { align_corners, half_pixel_centers } => {
            let version = if *half_pixel_centers { plain.max(3) } else { plain };
            let options = ResizeBilinearOptions {
                align_corners: *align_corners,
                half_pixel_centers: *half_pixel_centers,
            };
            let options = BuiltinOptions::ResizeBilinear(options);
            TfliteOp::new(BuiltinOperator::RESIZE_BILINEAR, version, options)
        }
        LiteOp::ResizeNearest { align_corners, half_pixel_centers } => {
            let version = if *half_pixel_centers || *align_corners { plain.max(3) } else { plain };
            let options = ResizeNearestNeighborOptions {
                align_corners: *align_corners,
                half_pixel_centers: *half_pixel_centers,
            };
            let options = BuiltinOptions::ResizeNearestNeighbor(options);
            TfliteOp::new(BuiltinOperator::RESIZE_NEAREST_NEIGHBOR, version, options)
        }
        LiteOp::DepthToSpace { block } => {
            let options = DepthToSpaceOptions { block_size: i32::try_from(*block)? };
            let version = version_of(element, &[(I8, 2)]);
            let options = BuiltinOptions::DepthToSpace(options);
            TfliteOp::new(BuiltinOperator::DEPTH_TO_SPACE, version, options)
        }
        LiteOp::SpaceToDepth { block } => {
            let options = SpaceToDepthOptions { block_size: i32::try_from(*block)? };
            let version = version_of(element, &[(I8, 2)]);
            let options = BuiltinOptions::SpaceToDepth(options);
            TfliteOp::new(BuiltinOperator::SPACE_TO_DEPTH, version, options)
        }
        other => bail!("{} does not resample", other.name()),
    })
}

/// Pictures may be turned, rows for columns.
pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    if permutation != [0, 2, 1, 3] {
        return None;
    }
    match node.op {
        LiteOp::ResizeBilinear { .. } | LiteOp::ResizeNearest { .. } => {
            let &[height, width] = constant_i32(graph, node, 1)?.as_slice() else { return None };
            let size = i32_like(graph, node, 1, &[width, height])?;
            Some(passage(node.op.clone(), vec![(1, size)], node, permutation))
        }
        // blocks are not turned with the picture
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_factors_fall_on_the_same_pixels_by_product_and_by_quotient() {
        for factor in 1..=LARGEST_DYNAMIC_FACTOR as u32 {
            let inverse = 1.0 / factor as f32;
            for place in 0..1u32 << 18 {
                assert_eq!((place as f32 * inverse).floor() as u32, place / factor);
                assert_eq!((place as f32 / factor as f32).floor() as u32, place / factor);
            }
        }
    }
}
