//! Transposed convolutions: TRANSPOSE_CONV, and where it does not fit (groups, dilation, three axes) the
//! convolution that a transposed one is: of the input with zeros between its pixels, by the mirrored kernel.

use super::conv::{
    Kernel, Weights, channels, convolve, ensure_float, known, lower_bias, lower_weights, move_axis,
    raise_bias,
};
use super::window::*;
use super::*;
use crate::graph::{Activation, Padding};
use crate::tract::TVec;
use crate::tract::ops::cnn::{Deconv, KernelFormat, PaddingSpec};
use anyhow::bail;

/// One spatial axis of a transposed convolution. The kernel writes `(input − 1) · stride + field` pixels.
#[derive(Debug, Clone)]
struct Spread {
    kernel: usize,
    stride: usize,
    dilation: usize,
    /// Of the written pixels, those that go at the beginning.
    before: i64,
    /// Those that go at the end; negative: pixels that are there and not written.
    after: i64,
}

impl Spread {
    fn unit() -> Spread {
        Spread { kernel: 1, stride: 1, dilation: 1, before: 0, after: 0 }
    }

    fn field(&self) -> i64 {
        ((self.kernel - 1) * self.dilation + 1) as i64
    }

    /// TFLite's SAME.
    fn is_same(&self) -> bool {
        let gone = self.field() - self.stride as i64;
        gone >= 0 && self.before + self.after == gone && self.before == gone / 2
    }
}

fn spreads(op: &Deconv, shape: &[TDim], result: &[TDim]) -> Result<Vec<Spread>> {
    let spec = &op.pool_spec;
    let first = spec.data_format.h_axis();
    let mut spreads = vec![];
    for axis in 0..spec.rank() {
        let (input, output) = (shape[first + axis].clone(), result[first + axis].clone());
        let (kernel, stride) = (spec.kernel_shape[axis], spec.stride(axis));
        let (dilation, adjustment) = (spec.dilation(axis), op.adjustments[axis]);
        let in_range = |n: usize| (1..1 << 15).contains(&n);
        ensure!(
            in_range(kernel) && in_range(stride) && in_range(dilation) && adjustment < 1 << 15,
            "kernel {kernel}, stride {stride}, dilation {dilation}, output padding {adjustment}"
        );
        ensure!(
            input != TDim::from(0),
            "a transposed convolution of an empty input; leave it out of the graph"
        );
        let computed = spec
            .padding
            .compute_one_for_deconv(axis, &input, kernel, dilation, stride, adjustment)?;
        let field = (kernel - 1) * dilation + 1;
        let written = (input.clone() - 1) * stride + field;
        let before = computed.pad_before.to_i64()?;
        let kept = (written - before - &output).simplify();
        let after = kept.to_i64().ok();
        let after =
            after.with_context(|| format!("a transposition of {input} to {output} pixels"))?;
        ensure!(after > -(1 << 15), "an output of {output} pixels");
        spreads.push(Spread { kernel, stride, dilation, before, after });
    }
    if spreads.len() == 1 {
        spreads.insert(0, Spread::unit());
    }
    Ok(spreads)
}

pub fn lower(ctx: &mut LowerContext, node: &TypedNode, op: &Deconv) -> Result<()> {
    ensure_float(ctx, node)?;
    let spec = &op.pool_spec;
    let (inputs, outputs, group) = (spec.input_channels, spec.output_channels, op.group);
    ensure!(
        group > 0 && inputs % group == 0 && outputs % group == 0,
        "group {group} of {inputs} channels"
    );
    ensure!(op.kernel_format == KernelFormat::OIHW, "weights as {:?}", op.kernel_format);
    let source = node.inputs[0];
    let result = ctx.shape(OutletId::new(node.id, 0))?;
    let spreads = spreads(op, &ctx.shape(source)?, &result)?;
    let result = channels_last_shape(&result, spec.data_format);
    let name = &node.name;
    let bias = lower_bias(ctx, name, node.inputs.get(2).copied(), outputs)?;
    let (x, shape) = channels_last(ctx, name, source, spec.data_format)?;
    let plain = spreads.iter().all(|s| s.dilation == 1 && -s.after < s.stride as i64);
    let y = match spreads.as_slice() {
        [h, w] if group == 1 && plain => {
            let order: &[usize] = if spec.rank() == 1 { &[0, 2, 1] } else { &[0, 2, 3, 1] };
            let weights = lower_weights(ctx, name, node.inputs[1], order)?;
            transpose_conv(ctx, name, [weights, x, bias], [h, w], &result)?
        }
        _ => {
            let (x, shape) = spread_pixels(ctx, name, x, shape, &spreads)?;
            let kernel = ctx.constant(node.inputs[1]).cloned();
            let kernel = kernel.ok_or_else(|| {
                refusal::computed(
                    "weights of a transposed convolution with groups, dilation or 3 axes",
                )
            })?;
            let weights = Weights::Value(mirrored(&kernel)?);
            let format = op.kernel_format;
            let kernel = Kernel { weights, format, group, inputs, outputs };
            let window = |s: &Spread| Window::valid(s.kernel, 1, s.dilation);
            let windows: Vec<Window> = spreads.iter().map(window).collect();
            convolve(ctx, name, (x, &shape), &kernel, bias, Padding::Valid, &windows, &result)?
        }
    };
    bind_channels_last(ctx, node, y, spec.data_format)
}

/// TRANSPOSE_CONV, and the part of it that is the result; inputs `[weights, x, bias]`.
fn transpose_conv(
    ctx: &mut LowerContext,
    name: &str,
    [weights, x, bias]: [TensorId; 3],
    spreads: [&Spread; 2],
    result: &[TDim],
) -> Result<TensorId> {
    let same = spreads.iter().all(|s| s.is_same());
    let mut shape = result.to_vec();
    if !same {
        for (axis, spread) in (1..).zip(spreads) {
            shape[axis] = (result[axis].clone() + spread.before + spread.after.max(0)).simplify();
        }
    }
    let target = ctx.shape_tensor(&format!("{name}/shape"), &shape)?;
    let padding = if same { Padding::Same } else { Padding::Valid };
    let strides = spreads.map(|s| s.stride);
    let lite = LiteOp::TransposeConv { padding, strides, activation: Activation::None };
    let y = ctx.emit(name, lite, &[target, weights, x, bias], ElementType::F32, &shape);
    if same {
        return Ok(y);
    }
    let cut: Vec<[i64; 2]> = spreads.iter().map(|s| [s.before, s.after.max(0)]).collect();
    crop(ctx, name, y, &shape, &cut)
}

/// Channels-last `x` without `[before, after]` pixels of each spatial axis.
fn crop(
    ctx: &mut LowerContext,
    name: &str,
    x: TensorId,
    shape: &[TDim],
    cut: &[[i64; 2]],
) -> Result<TensorId> {
    if cut.iter().all(|c| *c == [0, 0]) {
        return Ok(x);
    }
    let mut result = shape.to_vec();
    let (mut begin, mut end) = (vec![0i32; shape.len()], vec![0i32; shape.len()]);
    let all = (1u32 << shape.len()) - 1;
    let mut end_mask = all;
    for (axis, &[before, after]) in (1..).zip(cut) {
        result[axis] = (shape[axis].clone() - before - after).simplify();
        begin[axis] = i32::try_from(before)?;
        if after > 0 {
            end[axis] = -i32::try_from(after)?;
            end_mask &= !(1 << axis);
        }
    }
    let (op, limits) =
        match result.iter().zip(shape).all(|(to, from)| to.to_i64().is_ok() || to == from) {
            true => {
                let size = |(to, from): (&TDim, &TDim)| match to == from {
                    true => Ok(-1),
                    false => Ok(i32::try_from(to.to_i64()?)?),
                };
                let sizes: Vec<i32> = result.iter().zip(shape).map(size).collect::<Result<_>>()?;
                (LiteOp::Slice, vec![("begin", begin), ("size", sizes)])
            }
            false => {
                let op = LiteOp::StridedSlice {
                    begin_mask: 0,
                    end_mask,
                    shrink_axis_mask: 0,
                    new_axis_mask: 0,
                    ellipsis_mask: 0,
                };
                (op, vec![("begin", begin), ("end", end), ("strides", vec![1; shape.len()])])
            }
        };
    let mut inputs = vec![x];
    for (label, values) in limits {
        inputs.push(ctx.add_i32_constant(&format!("{name}/{label}"), &values));
    }
    Ok(ctx.emit(&format!("{name}/crop"), op, &inputs, ElementType::F32, &result))
}

/// `x` with `stride − 1` zeros after each pixel of each spatial axis, then padded and cropped so that a
/// convolution without padding makes the result of it; with its shape.
fn spread_pixels(
    ctx: &mut LowerContext,
    name: &str,
    mut x: TensorId,
    mut shape: Vec<TDim>,
    spreads: &[Spread],
) -> Result<(TensorId, Vec<TDim>)> {
    for (axis, spread) in (1..).zip(spreads).filter(|(_, s)| s.stride > 1) {
        let outer: TDim = shape[..=axis].iter().cloned().product();
        let inner: TDim = shape[axis + 1..].iter().cloned().product();
        let pixels = [outer.clone(), TDim::from(1), inner.clone()];
        let with_zeros = [outer, TDim::from(spread.stride), inner];
        x = ctx.reshape(&format!("{name}/pixels"), x, &shape, &pixels)?;
        let rows = [0, 0, 0, i32::try_from(spread.stride - 1)?, 0, 0];
        let rows = ctx.add_i32_tensor(&format!("{name}/zeros"), &[3, 2], &rows);
        x = ctx.emit(
            &format!("{name}/spread"),
            LiteOp::Pad,
            &[x, rows],
            ElementType::F32,
            &with_zeros,
        );
        shape[axis] = shape[axis].clone() * spread.stride;
        x = ctx.reshape(&format!("{name}/spread"), x, &with_zeros, &shape)?;
    }
    let mut rows = vec![0i32; 2 * shape.len()];
    let mut cut = vec![];
    for (axis, spread) in (1..).zip(spreads) {
        let reach = spread.field() - 1;
        let (before, after) =
            (reach - spread.before, reach - spread.after - (spread.stride as i64 - 1));
        rows[2 * axis] = i32::try_from(before.max(0))?;
        rows[2 * axis + 1] = i32::try_from(after.max(0))?;
        cut.push([(-before).max(0), (-after).max(0)]);
    }
    x = crop(ctx, name, x, &shape, &cut)?;
    for (axis, [before, after]) in (1..).zip(&cut) {
        shape[axis] = (shape[axis].clone() - *before - *after).simplify();
    }
    if rows.iter().any(|&n| n > 0) {
        for axis in 1..shape.len() - 1 {
            shape[axis] = (shape[axis].clone() + rows[2 * axis] + rows[2 * axis + 1]).simplify();
        }
        let rows = ctx.add_i32_tensor(&format!("{name}/paddings"), &[shape.len(), 2], &rows);
        x = ctx.emit(&format!("{name}/pad"), LiteOp::Pad, &[x, rows], ElementType::F32, &shape);
    }
    Ok((x, shape))
}

/// A float32 kernel, out × in × spatial axes, with the order of its spatial axes reversed.
fn mirrored(kernel: &tract::Tensor) -> Result<tract::Tensor> {
    let kernel = kernel.cast_to::<f32>()?;
    let taps: usize = kernel.shape()[2..].iter().product();
    let mut values = kernel.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    values.chunks_exact_mut(taps.max(1)).for_each(<[f32]>::reverse);
    Ok(tract::Tensor::from_shape(kernel.shape(), &values)?)
}

pub fn raise(
    ctx: &mut RaiseContext,
    node: &Node,
    padding: Padding,
    strides: [usize; 2],
    activation: Activation,
) -> Result<()> {
    let name = ctx.output_name(node);
    let target = ctx.dims_input(node, 0)?;
    let (weights, x) = (ctx.input(node, 1)?, ctx.input(node, 2)?);
    let &[outputs, h, w, inner] = known(ctx, name, weights)?.as_slice() else {
        bail!("'{name}': weights that are not of rank 4");
    };
    let inputs = channels(ctx, name, x, 4)?;
    ensure!(inputs == inner, "'{name}': weights of {inner} channels for {inputs}");
    let shape = ctx.shape(x)?;
    ensure!(
        target.len() == 4 && target[3] == TDim::from(outputs) && shape[0] == target[0],
        "'{name}': an output of {target:?} from {shape:?} and {outputs} channels"
    );
    let (mut before, mut after, mut adjustments) = (TVec::new(), TVec::new(), TVec::new());
    for (axis, kernel) in [h, w].into_iter().enumerate() {
        let (input, output, stride) = (&shape[axis + 1], &target[axis + 1], strides[axis]);
        let in_range = |n: usize| (1..1 << 31).contains(&n);
        let fits = |d: &TDim| d.to_i64().map_or(true, |d| (1..1 << 31).contains(&d));
        ensure!(
            in_range(kernel) && in_range(stride) && fits(input) && fits(output),
            "'{name}': kernel {kernel}, stride {stride}, from {input} to {output} pixels"
        );
        let number = |d: TDim| {
            let number = d.clone().simplify().to_i64();
            number.ok().with_context(|| format!("'{name}': from {input} to {output} pixels ({d})"))
        };
        let written = (input.clone() - 1) * stride + kernel;
        let crop = match padding {
            Padding::Valid => 0,
            Padding::Same => {
                let steps = match *output == input.clone() * stride {
                    true => input.clone() - 1,
                    false => output.clone().div_ceil(stride as u64) - 1,
                };
                number(steps * stride + kernel - output)?.max(0) / 2
            }
        };
        let rest = number(written - output.clone() - crop)?;
        before.push(usize::try_from(crop)?);
        after.push(usize::try_from(rest.max(0))?);
        adjustments.push(usize::try_from((-rest).max(0))?);
    }
    let mut spec =
        channels_last_spec(&[h, w], Padding::Valid, &strides, &[1, 1], [inputs, outputs]);
    spec.padding = PaddingSpec::Explicit(before, after);
    let weights = move_axis(ctx, name, weights, 3, 1)?;
    let bias = raise_bias(ctx, node, 3, outputs)?;
    let op = Deconv::new(spec, KernelFormat::OIHW, adjustments, 1);
    let wire = ctx.wire(name, op, &[x, weights, bias])?;
    let wire = super::activation::wire_fused(ctx, name, activation, wire)?;
    ctx.finish(node, wire)
}
