//! Pools over windows, MAX_POOL_2D and AVERAGE_POOL_2D, and LOCAL_RESPONSE_NORMALIZATION.

use super::window::*;
use super::*;
use crate::format::tflite::{LocalResponseNormalizationOptions, Pool2DOptions};
use crate::graph::{Activation, BinaryOp, Padding, PoolKind};
use crate::tract::Lrn;
use crate::tract::ops::Downsample;
use crate::tract::ops::cnn::{MaxPool, PoolSpec, SumPool};
use crate::tract::ops::nn::DataFormat;
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<MaxPool>() {
        ensure!(
            op.with_index_outputs.is_none(),
            "MaxPool with indices; leave that output out of the graph"
        );
        return lower_pool(ctx, node, &op.pool_spec, Fold::Max).map(Some);
    }
    if let Some(op) = node.op_as::<SumPool>() {
        let fold = match op.normalize {
            true => Fold::Average { counts_padding: op.count_include_pad },
            false => Fold::Sum,
        };
        return lower_pool(ctx, node, &op.pool_spec, fold).map(Some);
    }
    if let Some(op) = node.op_as::<Lrn>() {
        return lower_lrn(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<Downsample>() {
        return lower_downsample(ctx, node, op);
    }
    Ok(None)
}

/// What becomes of the pixels of a window.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Fold {
    Max,
    Sum,
    Average { counts_padding: bool },
}

/// Maxima, sums and averages over a box are such over one pair of its axes, then over the next: each pair is
/// a pool of two axes, with all axes before it in the batch and all after it in the channels.
fn lower_pool(ctx: &mut LowerContext, node: &TypedNode, spec: &PoolSpec, fold: Fold) -> Result<()> {
    let element = ctx.element(node.inputs[0])?;
    // of what is computed in float32
    let lowest = match element {
        ElementType::F32 | ElementType::F16 => f32::NEG_INFINITY,
        ElementType::U8 if fold == Fold::Max => 0.0,
        ElementType::I8 if fold == Fold::Max => -128.0,
        _ => return Err(refusal::of_type("a pool", element)),
    };
    let mut windows = windows(spec, &ctx.shape(node.inputs[0])?)?;
    for window in &windows {
        let places = 0..window.sizes.map_or(0, |(_, output)| output);
        ensure!(
            places.into_iter().all(|place| window.taps_inside(place) != Some(0)),
            "a window of padding alone, which has no value; make the pads smaller than the kernel"
        );
    }
    if fold != (Fold::Average { counts_padding: true }) {
        windows.iter_mut().for_each(Window::leave_padding_out);
    }
    let name = &node.name;
    let format = spec.data_format;
    let (mut x, mut from) = channels_last(ctx, name, node.inputs[0], format)?;
    let result = channels_last_shape(&ctx.shape(OutletId::new(node.id, 0))?, format);
    let mut sizes = from.clone();
    let channels = from.len() - 1;
    let mut rest = windows.len();
    while rest > 0 {
        let last = rest;
        let first = last.saturating_sub(1).max(1);
        // an axis alone has all axes after it beside it: symbols must not get into the channels
        let alone = first == last;
        let pair = match alone {
            true => [windows[0], Window::UNIT],
            false => [windows[first - 1], windows[last - 1]],
        };
        rest = rest.saturating_sub(2);
        let plane = |sizes: &[TDim]| {
            let count = |axes: &[TDim]| axes.iter().cloned().product::<TDim>();
            let batch = count(&sizes[..first]);
            let (second, inner) = match alone {
                true => (count(&sizes[2..channels]), sizes[channels].clone()),
                false => (sizes[last].clone(), count(&sizes[last + 1..])),
            };
            [batch, sizes[first].clone(), second, inner]
        };
        let before = plane(&sizes);
        sizes[first..=last].clone_from_slice(&result[first..=last]);
        let after = plane(&sizes);
        if pair.iter().all(|w| w.is_identity()) {
            continue;
        }
        x = ctx.reshape(&format!("{name}/plane"), x, &from, &before)?;
        x = pool_plane(ctx, name, x, [&before, &after], &pair, fold, lowest)?;
        from = after.to_vec();
    }
    x = ctx.reshape(&format!("{name}/box"), x, &from, &result)?;
    bind_channels_last(ctx, node, x, format)
}

/// A pool over the two spatial axes of `x`; `before` and `after` it the plane has these shapes.
fn pool_plane(
    ctx: &mut LowerContext,
    name: &str,
    mut x: TensorId,
    [before, after]: [&[TDim; 4]; 2],
    windows: &[Window; 2],
    fold: Fold,
    lowest: f32,
) -> Result<TensorId> {
    let builtin = builtin_padding(windows);
    let dilated = windows.map(|w| w.dilation != 1 && w.kernel != 1);
    let excludes = matches!(fold, Fold::Average { counts_padding: false });
    let padding = match builtin {
        Some(Padding::Valid) => Padding::Valid,
        Some(Padding::Same) if dilated == [false; 2] && (excludes || fold == Fold::Max) => {
            Padding::Same
        }
        Some(Padding::Same) | None => {
            let border = (fold == Fold::Max).then_some(lowest);
            x = pad(ctx, name, x, before, windows, border)?;
            Padding::Valid
        }
    };
    let mut shape = match padding {
        Padding::Valid => padded_shape(before, windows),
        Padding::Same => before.to_vec(),
    };
    for (place, window) in windows.iter().enumerate().filter(|&(place, _)| dilated[place]) {
        let axis = place + 1;
        let op = if fold == Fold::Max { BinaryOp::Maximum } else { BinaryOp::Add };
        shape[axis] = after[axis].clone();
        x = fold_taps(ctx, name, x, &shape, axis, window, op)?;
    }
    let left = [0, 1].map(|i| if dilated[i] { Window::UNIT } else { windows[i] });
    let mut averaged = 1;
    if left.iter().any(|w| (w.kernel, w.stride) != (1, 1)) {
        let kind = if fold == Fold::Max { PoolKind::Max } else { PoolKind::Average };
        let op = pool_op(kind, padding, &left);
        x = ctx.emit(name, op, &[x], ElementType::F32, after);
        averaged = left[0].kernel.checked_mul(left[1].kernel).context("the window's size")?;
    }
    let counts_padding = match fold {
        Fold::Max => return Ok(x),
        Fold::Average { .. } if padding == Padding::Same => return Ok(x),
        Fold::Sum => None,
        Fold::Average { counts_padding } => Some(counts_padding),
    };
    let factor = match counts_padding {
        None => tract::tensor0(averaged as f32),
        Some(counts_padding) => inverse_counts(windows, averaged, counts_padding)?,
    };
    if factor.cast_to::<f32>()?.try_as_plain_ram()?.as_slice::<f32>()?.iter().all(|&f| f == 1.0) {
        return Ok(x);
    }
    let factor = ctx.add_constant(&format!("{name}/count"), &factor)?;
    let op = LiteOp::Binary { op: BinaryOp::Mul, activation: Activation::None };
    Ok(ctx.emit(&format!("{name}/counted"), op, &[x, factor], ElementType::F32, after))
}

fn pool_op(kind: PoolKind, padding: Padding, windows: &[Window; 2]) -> LiteOp {
    LiteOp::Pool2D {
        kind,
        padding,
        strides: windows.map(|w| w.stride),
        filter: windows.map(|w| w.kernel),
        activation: Activation::None,
    }
}

/// A dilated window along `axis`: a strided slice for each of its taps, joined by `op`. `shape` is the result's.
fn fold_taps(
    ctx: &mut LowerContext,
    name: &str,
    x: TensorId,
    shape: &[TDim],
    axis: usize,
    window: &Window,
    op: BinaryOp,
) -> Result<TensorId> {
    ensure!(
        window.kernel <= 1 << 10,
        refusal::too_large(format!("a dilated window of {} pixels", window.kernel))
    );
    let mut result = None;
    for tap in 0..window.kernel {
        let slice = tap_slice(ctx, name, x, shape, &[(axis, window, tap)])?;
        result = Some(match result {
            None => slice,
            Some(so_far) => {
                let op = LiteOp::Binary { op, activation: Activation::None };
                ctx.emit(&format!("{name}/taps"), op, &[so_far, slice], ElementType::F32, shape)
            }
        });
    }
    result.context("a window of no pixels")
}

/// What an average over `averaged` pixels (their sum, where that is 1) is to be multiplied with, by place, to
/// be an average over the pixels that count.
fn inverse_counts(
    windows: &[Window; 2],
    averaged: usize,
    counts_padding: bool,
) -> Result<tract::Tensor> {
    let unknown = || {
        refusal::unknown_size(
            "an average that leaves padding out, over a spatial axis of unknown size",
        )
    };
    let counts = |window: &Window| -> Result<Vec<usize>> {
        if window.is_valid() || counts_padding && !window.overhangs {
            return Ok(vec![window.kernel]);
        }
        let (_, output) = window.sizes.ok_or_else(unknown)?;
        let count = |place| match counts_padding {
            true => window.taps_on_padded(place),
            false => window.taps_inside(place),
        };
        (0..output).map(|place| count(place).ok_or_else(unknown)).collect()
    };
    let (rows, columns) = (counts(&windows[0])?, counts(&windows[1])?);
    let mut factors = vec![];
    for row in &rows {
        for column in &columns {
            let count = row * column;
            ensure!(
                count > 0,
                "an average of padding alone, which is 0 / 0; make the pads smaller than the kernel"
            );
            factors.push((averaged as f64 / count as f64) as f32);
        }
    }
    Ok(tract::Tensor::from_shape(&[1, rows.len(), columns.len(), 1], &factors)?)
}

/// Every n-th row or column is the largest of one, at that stride.
fn lower_downsample(
    ctx: &mut LowerContext,
    node: &TypedNode,
    op: &Downsample,
) -> Result<Option<()>> {
    let shape = ctx.shape(node.inputs[0])?;
    let stride = usize::try_from(op.stride).ok().filter(|&s| s > 0);
    let (Some(stride), 0, 2..) = (stride, op.modulo, op.axis) else { return Ok(None) };
    if shape.len() != 4 || ctx.element(node.inputs[0])? != ElementType::F32 {
        return Ok(None);
    }
    let mut strides = [1, 1];
    strides[op.axis - 2] = stride;
    let name = &node.name;
    let (x, _) = channels_last(ctx, name, node.inputs[0], DataFormat::NCHW)?;
    let result = ctx.shape(OutletId::new(node.id, 0))?;
    let result = channels_last_shape(&result, DataFormat::NCHW);
    let lite = LiteOp::Pool2D {
        kind: PoolKind::Max,
        padding: Padding::Valid,
        strides,
        filter: [1, 1],
        activation: Activation::None,
    };
    let y = ctx.emit(name, lite, &[x], ElementType::F32, &result);
    bind_channels_last(ctx, node, y, DataFormat::NCHW).map(Some)
}

fn lower_lrn(ctx: &mut LowerContext, node: &TypedNode, op: &Lrn) -> Result<()> {
    let shape = ctx.shape(node.inputs[0])?;
    let element = ctx.element(node.inputs[0])?;
    ensure!(element == ElementType::F32, refusal::of_type("LRN", element));
    ensure!(shape.len() == 4, "LRN of rank {}; TFLite has rank 4: Reshape before it", shape.len());
    ensure!(
        op.size % 2 == 1,
        "LRN over {} channels, an even number, where TFLite sums an odd one; use {}",
        op.size,
        op.size + 1
    );
    let name = &node.name;
    let (x, shape) = channels_last(ctx, name, node.inputs[0], DataFormat::NCHW)?;
    let lite = LiteOp::LocalResponseNormalization {
        radius: op.size / 2,
        bias: op.bias,
        alpha: op.alpha / op.size as f32,
        beta: op.beta,
    };
    let y = ctx.emit(name, lite, &[x], ElementType::F32, &shape);
    bind_channels_last(ctx, node, y, DataFormat::NCHW)
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let fact = ctx.model.outlet_fact(x)?;
    let (dt, rank) = (fact.datum_type, fact.rank());
    ensure!(dt == DatumType::F32, "'{name}': {} of {dt:?} is not supported", node.op.name());
    ensure!(rank == 4, "'{name}': an input of rank {rank}");
    match &node.op {
        LiteOp::Pool2D { kind, padding, strides, filter, activation } => {
            let channels = ctx.shape(x)?[3].to_usize();
            let channels = channels.with_context(|| format!("'{name}': unknown channels"))?;
            let spec = channels_last_spec(filter, *padding, strides, &[1, 1], [channels; 2]);
            let wire = match kind {
                PoolKind::Max => ctx.wire(name, MaxPool::new(spec, None), &[x])?,
                PoolKind::Average => ctx.wire(name, SumPool::new(spec, false, true), &[x])?,
            };
            let wire = super::activation::wire_fused(ctx, name, *activation, wire)?;
            ctx.finish(node, wire)
        }
        LiteOp::LocalResponseNormalization { radius, bias, alpha, beta } => {
            let size = radius.checked_mul(2).and_then(|n| n.checked_add(1)).context("radius")?;
            let op = Lrn { alpha: alpha * size as f32, beta: *beta, bias: *bias, size };
            let wire = ctx.wire(&format!("{name}/nchw"), AxisOp::Move(3, 1), &[x])?;
            let wire = ctx.wire(name, op, &[wire])?;
            let wire = ctx.wire(&format!("{name}/nhwc"), AxisOp::Move(1, 3), &[wire])?;
            ctx.finish(node, wire)
        }
        other => bail!("{} is not a pool", other.name()),
    }
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    let kind = match op.builtin {
        BuiltinOperator::AVERAGE_POOL_2D => PoolKind::Average,
        _ => PoolKind::Max,
    };
    Ok(Some(match &op.options {
        BuiltinOptions::Pool2D(o) if op.builtin != BuiltinOperator::L2_POOL_2D => LiteOp::Pool2D {
            kind,
            padding: read_padding(o.padding),
            strides: [positive("stride", o.stride_h)?, positive("stride", o.stride_w)?],
            filter: [positive("filter", o.filter_height)?, positive("filter", o.filter_width)?],
            activation: super::activation::read_fused(o.fused_activation_function),
        },
        BuiltinOptions::LocalResponseNormalization(o) => LiteOp::LocalResponseNormalization {
            radius: usize::try_from(o.radius).context("radius")?,
            bias: o.bias,
            alpha: o.alpha,
            beta: o.beta,
        },
        _ => return Ok(None),
    }))
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    Ok(match &node.op {
        LiteOp::Pool2D { kind, padding, strides, filter, activation } => {
            let builtin = match kind {
                PoolKind::Average => BuiltinOperator::AVERAGE_POOL_2D,
                PoolKind::Max => BuiltinOperator::MAX_POOL_2D,
            };
            let version = match input_element(graph, node, 0) {
                Some(ElementType::I16) => 3,
                Some(ElementType::I8) => 2,
                _ => 1,
            };
            let options = Pool2DOptions {
                padding: write_padding(*padding),
                stride_h: option(strides[0])?,
                stride_w: option(strides[1])?,
                filter_height: option(filter[0])?,
                filter_width: option(filter[1])?,
                fused_activation_function: super::activation::write_fused(*activation),
            };
            TfliteOp::new(builtin, version, BuiltinOptions::Pool2D(options))
        }
        LiteOp::LocalResponseNormalization { radius, bias, alpha, beta } => {
            let options = LocalResponseNormalizationOptions {
                radius: option(*radius)?,
                bias: *bias,
                alpha: *alpha,
                beta: *beta,
            };
            let options = BuiltinOptions::LocalResponseNormalization(options);
            TfliteOp::new(BuiltinOperator::LOCAL_RESPONSE_NORMALIZATION, 1, options)
        }
        other => bail!("{} is not a pool", other.name()),
    })
}

pub fn permute(_graph: &Subgraph, _node: &Node, _permutation: &[usize]) -> Option<Passage> {
    None
}
