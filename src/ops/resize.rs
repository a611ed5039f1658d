//! Ops that resample or rearrange NHWC pictures: RESIZE_BILINEAR, RESIZE_NEAREST_NEIGHBOR, DEPTH_TO_SPACE,
//! SPACE_TO_DEPTH. What TFLite's modes cannot say is composed from GATHER and products.

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
    let element = ctx.element(node.inputs[0])?;
    ensure!(
        element == ElementType::F32 || op.interpolator == Interpolator::Nearest,
        "a resize of {element}"
    );
    let from = ctx.shape(node.inputs[0])?;
    let to = ctx.shape(OutletId::new(node.id, 0))?;
    let scales = match op.optional_scales_input.and_then(|i| node.inputs.get(i)) {
        None => None,
        Some(&outlet) => {
            let scales = ctx.constant(outlet).context("a resize by computed scales")?;
            let scales = scales.cast_to::<f32>()?;
            let scales = scales.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
            Some(scales).filter(|s| s.len() == from.len())
        }
    };
    let mut plans = vec![];
    for axis in 0..from.len() {
        let scale = scales.as_ref().map(|s| s[axis]);
        if from[axis] == to[axis] && scale.is_none_or(|s| s == 1.0) {
            continue;
        }
        let known =
            |d: &TDim| d.to_usize().map_err(|_| anyhow!("a resize of the dynamic axis {axis}"));
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
        return lower_native(ctx, node, lite, [*new_h, *new_w]).map(Some);
    }
    let mut tensor = ctx.tensor(node.inputs[0])?;
    let mut shape = from;
    for (axis, _, plan, len_in, len_out) in &plans {
        tensor = resample(ctx, node, tensor, &mut shape, *axis, plan, [*len_in, *len_out])?;
    }
    ctx.bind(node, tensor);
    Ok(Some(()))
}

/// The modes that tract leaves to ONNX: other roundings, antialiasing, aspect ratios.
fn lower_onnx(ctx: &mut LowerContext, node: &TypedNode, op: &onnx_resize::Resize) -> Result<()> {
    let CoordTransform::Plain(transformer) = op.coord_transformer.clone() else {
        bail!("a resize of the mode tf_crop_and_resize")
    };
    let nearest = op.interpolator == Interpolator::Nearest;
    let element = ctx.element(node.inputs[0])?;
    ensure!(element == ElementType::F32 || nearest, "a resize of {element}");
    let from = ctx.known_shape(node.inputs[0])?;
    let to = ctx.known_shape(OutletId::new(node.id, 0))?;
    let axes = op.resized_axes(from.len())?;
    let scales = match op.optional_scales_input.and_then(|i| node.inputs.get(i)) {
        None => None,
        Some(&outlet) => {
            let scales = ctx.constant(outlet).context("a resize by computed scales")?;
            let scales = scales.cast_to::<f32>()?;
            let scales = scales.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
            Some(scales).filter(|s| s.len() == axes.len() && !s.is_empty())
        }
    };
    ensure!(
        scales.is_some() || op.keep_aspect_ratio_policy == onnx_resize::AspectRatio::Stretch,
        "a resize that keeps the aspect ratio"
    );
    let mut tensor = ctx.tensor(node.inputs[0])?;
    let mut shape: Vec<TDim> = from.iter().map(|&n| TDim::from(n)).collect();
    for (place, &axis) in axes.iter().enumerate() {
        let (len_in, len_out) = (from[axis], to[axis]);
        let scale = scales.as_ref().map_or(len_out as f32 / len_in as f32, |s| s[place]);
        if len_in == len_out && scale == 1.0 {
            continue;
        }
        check_axis(scale, len_in, len_out)?;
        let window = resize::window_size(&op.interpolator, op.antialias, scale);
        let coordinate = |i| Some(transformer.transform(i, scale, len_in, len_out));
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
        tensor = resample(ctx, node, tensor, &mut shape, axis, &plan, [len_in, len_out])?;
    }
    ctx.bind(node, tensor);
    Ok(())
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
    node: &TypedNode,
    op: LiteOp,
    [height, width]: [usize; 2],
) -> Result<()> {
    let shape = ctx.shape(node.inputs[0])?;
    let element = ctx.element(node.inputs[0])?;
    let input = ctx.tensor(node.inputs[0])?;
    let name = format!("{}/nhwc", node.name);
    let input = ctx.transpose(&name, input, &shape, &[0, 2, 3, 1]);
    let size = [i32::try_from(height)?, i32::try_from(width)?];
    let size = ctx.add_i32_constant(&format!("{}/size", node.name), &size);
    let to = [shape[0].clone(), height.into(), width.into(), shape[1].clone()];
    let result = ctx.emit(&name, op, &[input, size], element, &to);
    let result = ctx.transpose(&node.name, result, &to, &[0, 3, 1, 2]);
    ctx.bind(node, result);
    Ok(())
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

/// One axis: GATHER where each result is one value, else a product with the constant weights.
fn resample(
    ctx: &mut LowerContext,
    node: &TypedNode,
    tensor: TensorId,
    shape: &mut [TDim],
    axis: usize,
    plan: &AxisPlan,
    [len_in, len_out]: [usize; 2],
) -> Result<TensorId> {
    ensure!(!plan.extrapolated.contains(&true), "a resize beyond the border");
    let element = ctx.graph.tensors[tensor].element;
    if let Some(places) = single_places(plan) {
        let places: Vec<i32> =
            places.into_iter().map(|p| Ok(i32::try_from(p)?)).collect::<Result<_>>()?;
        let places = ctx.add_i32_constant(&format!("{}/places", node.name), &places);
        shape[axis] = len_out.into();
        let op = LiteOp::Gather { axis: i32::try_from(axis)?, batch_dims: 0 };
        return Ok(ctx.emit(&node.name, op, &[tensor, places], element, shape));
    }
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
    taps.map(|(places, weights)| {
        let mut used = places.iter().zip(weights).filter(|(_, w)| **w != 0.0);
        let (place, weight) = used.next()?;
        (*weight == 1.0 && used.next().is_none()).then_some(*place)
    })
    .collect()
}

/// The plan as a matrix, out × in.
fn weights(plan: &AxisPlan, len_in: usize, len_out: usize) -> Result<tract::Tensor> {
    let count = len_in.checked_mul(len_out).filter(|&n| n <= 1 << 26);
    let mut values = vec![0f32; count.context("a resize of too many places")?];
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
    let scaled: Vec<usize> = (0..shape.len()).filter(|&a| op.scales[a] != 1).collect();
    if scaled == [2, 3] && shape.len() == 4 {
        let known = |d: &TDim, scale: usize| d.to_usize().ok()?.checked_mul(scale);
        if let (Some(height), Some(width)) =
            (known(&shape[2], op.scales[2]), known(&shape[3], op.scales[3]))
        {
            let lite = LiteOp::ResizeNearest { align_corners: false, half_pixel_centers: false };
            return lower_native(ctx, node, lite, [height, width]);
        }
    }
    let element = ctx.element(node.inputs[0])?;
    let mut tensor = ctx.tensor(node.inputs[0])?;
    for axis in scaled {
        let scale = op.scales[axis];
        let len = shape[axis].to_usize().map_err(|_| anyhow!("an upsampling of a dynamic axis"))?;
        let places: Vec<i32> =
            (0..len * scale).map(|p| Ok(i32::try_from(p / scale)?)).collect::<Result<_>>()?;
        let places = ctx.add_i32_constant(&format!("{}/places", node.name), &places);
        shape[axis] = (len * scale).into();
        let op = LiteOp::Gather { axis: i32::try_from(axis)?, batch_dims: 0 };
        tensor = ctx.emit(&node.name, op, &[tensor, places], element, &shape);
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
    (align_corners, half_pixel_centers): (bool, bool),
) -> Result<OutletId> {
    let name = ctx.output_name(node);
    let size = ctx.i32_input(node, 1)?;
    ensure!(size.len() == 2, "'{name}': {} sizes", size.len());
    let mut wire = x;
    for (axis, &size) in [1usize, 2].into_iter().zip(&size) {
        let len_in =
            shape[axis].to_usize().with_context(|| format!("'{name}': a dynamic picture"))?;
        let len_out = usize::try_from(size).with_context(|| format!("'{name}': size {size}"))?;
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

pub fn permute(_graph: &Subgraph, _node: &Node, _permutation: &[usize]) -> Option<Passage> {
    None
}
