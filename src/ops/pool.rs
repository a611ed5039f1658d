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
        ensure!(op.with_index_outputs.is_none(), "MaxPool with indices");
        return lower_max_pool(ctx, node, &op.pool_spec).map(Some);
    }
    if let Some(op) = node.op_as::<SumPool>() {
        return lower_sum_pool(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<Lrn>() {
        return lower_lrn(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<Downsample>() {
        return lower_downsample(ctx, node, op);
    }
    Ok(None)
}

/// The windows of a pool that TFLite can compute.
fn pool_windows(ctx: &LowerContext, node: &TypedNode, spec: &PoolSpec) -> Result<[Window; 2]> {
    let element = ctx.element(node.inputs[0])?;
    ensure!(element == ElementType::F32, "a pool of {element}; only float32 is supported");
    let windows = windows(spec, &ctx.shape(node.inputs[0])?)?;
    let dilated = windows.iter().any(|w| w.dilation != 1 && w.kernel != 1);
    ensure!(!dilated, "a dilated pool");
    <[Window; 2]>::try_from(windows)
        .map_err(|w| anyhow!("a pool over {} spatial axes; TFLite has pools over 2", w.len()))
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

fn lower_max_pool(ctx: &mut LowerContext, node: &TypedNode, spec: &PoolSpec) -> Result<()> {
    let windows = pool_windows(ctx, node, spec)?;
    let name = &node.name;
    let format = spec.data_format;
    let (mut x, shape) = channels_last(ctx, name, node.inputs[0], format)?;
    let padding = match builtin_padding(&windows) {
        Some(padding) => padding,
        None => {
            x = pad(ctx, name, x, &shape, &windows, Some(f32::NEG_INFINITY))?;
            Padding::Valid
        }
    };
    let result = channels_last_shape(&ctx.shape(OutletId::new(node.id, 0))?, format);
    let op = pool_op(PoolKind::Max, padding, &windows);
    let y = ctx.emit(name, op, &[x], ElementType::F32, &result);
    bind_channels_last(ctx, node, y, format)
}

fn lower_sum_pool(ctx: &mut LowerContext, node: &TypedNode, op: &SumPool) -> Result<()> {
    let windows = pool_windows(ctx, node, &op.pool_spec)?;
    let overhangs = windows.iter().any(|w| w.overhangs);
    ensure!(
        !(op.normalize && op.count_include_pad && overhangs),
        "an average that counts padding with ceil_mode windows that reach past the padding"
    );
    let name = &node.name;
    let format = op.pool_spec.data_format;
    let (mut x, shape) = channels_last(ctx, name, node.inputs[0], format)?;
    let result = channels_last_shape(&ctx.shape(OutletId::new(node.id, 0))?, format);
    let builtin = builtin_padding(&windows);
    let excludes = op.normalize && !op.count_include_pad;
    let padding = match builtin {
        Some(Padding::Valid) => Padding::Valid,
        Some(Padding::Same) if excludes => Padding::Same,
        Some(Padding::Same) | None => {
            x = pad(ctx, name, x, &shape, &windows, None)?;
            Padding::Valid
        }
    };
    let lite = pool_op(PoolKind::Average, padding, &windows);
    let mut y = ctx.emit(name, lite, &[x], ElementType::F32, &result);
    let volume = windows[0].kernel.checked_mul(windows[1].kernel).context("the window's size")?;
    let factor = if !op.normalize {
        Some(tract::tensor0(volume as f32))
    } else if excludes && builtin.is_none() {
        Some(inverse_counts(&windows, volume)?)
    } else {
        None
    };
    if let Some(factor) = factor {
        let factor = ctx.add_constant(&format!("{name}/count"), &factor)?;
        let op = LiteOp::Binary { op: BinaryOp::Mul, activation: Activation::None };
        y = ctx.emit(&format!("{name}/counted"), op, &[y, factor], ElementType::F32, &result);
    }
    bind_channels_last(ctx, node, y, format)
}

/// What an average over whole windows is to be multiplied with, by place, to count inside pixels only.
fn inverse_counts(windows: &[Window; 2], volume: usize) -> Result<tract::Tensor> {
    let unknown = "an average that leaves padding out, over a spatial axis of unknown size";
    let counts = |window: &Window| -> Result<Vec<usize>> {
        let (_, output) = window.sizes.context(unknown)?;
        (0..output).map(|place| window.taps_inside(place).context(unknown)).collect()
    };
    let (rows, columns) = (counts(&windows[0])?, counts(&windows[1])?);
    let mut factors = vec![];
    for row in &rows {
        for column in &columns {
            let count = row * column;
            ensure!(count > 0, "an average of padding alone");
            factors.push((volume as f64 / count as f64) as f32);
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
    ensure!(element == ElementType::F32, "LRN of {element}");
    ensure!(shape.len() == 4, "LRN of rank {}; TFLite has rank 4", shape.len());
    ensure!(op.size % 2 == 1, "LRN over {} channels, an even number", op.size);
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
