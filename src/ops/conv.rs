//! Convolutions: CONV_2D, DEPTHWISE_CONV_2D, CONV_3D, TRANSPOSE_CONV.

use super::window::*;
use super::*;
use crate::format::tflite::{
    Conv2DOptions, Conv3DOptions, DepthwiseConv2DOptions, TransposeConvOptions,
};
use crate::graph::{Activation, Padding};
use crate::tract::ops::Downsample;
use crate::tract::ops::cnn::{Conv, Deconv, KernelFormat, PaddingSpec, PoolSpec};
use crate::tract::ops::einsum::EinSum;
use crate::tract::ops::nn::DataFormat;
use crate::tract::{IntoTensor, TVec};
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<Conv>() {
        return lower_conv(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<Deconv>() {
        return lower_deconv(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<EinSum>() {
        return lower_pointwise(ctx, node, op);
    }
    Ok(None)
}

fn ensure_float(ctx: &LowerContext, node: &TypedNode) -> Result<()> {
    for &input in node.inputs.iter().take(2) {
        let element = ctx.element(input)?;
        ensure!(element == ElementType::F32, "convolution of {element}; only float32 is supported");
    }
    Ok(())
}

fn lower_conv(ctx: &mut LowerContext, node: &TypedNode, op: &Conv) -> Result<()> {
    ensure!(op.q_params.is_none(), "a quantized convolution");
    ensure_float(ctx, node)?;
    let (source, spec) = absorb_downsamples(ctx, node.inputs[0], &op.pool_spec);
    let rank = spec.rank();
    ensure!((1..=3).contains(&rank), "a convolution over {rank} spatial axes");
    let (inputs, outputs, group) = (spec.input_channels, spec.output_channels, op.group);
    ensure!(
        group > 0 && inputs % group == 0 && outputs % group == 0,
        "group {group} of {inputs} channels"
    );
    ensure!(
        group == 1 || op.kernel_fmt == KernelFormat::OIHW,
        "grouped weights in the order {:?}",
        op.kernel_fmt
    );
    let windows = windows(&spec, &ctx.shape(source)?)?;
    let name = &node.name;
    let depthwise = group > 1 && group == inputs && rank < 3;
    let order = match (op.kernel_fmt, depthwise, rank) {
        (KernelFormat::OIHW, true, 1) => vec![1, 2, 0],
        (KernelFormat::OIHW, true, _) => vec![1, 2, 3, 0],
        (KernelFormat::OIHW, false, 1) => vec![0, 2, 1],
        (KernelFormat::OIHW, false, 2) => vec![0, 2, 3, 1],
        (KernelFormat::OIHW, false, _) => vec![2, 3, 4, 1, 0],
        (KernelFormat::HWIO, _, 1) => vec![2, 0, 1],
        (KernelFormat::HWIO, _, 2) => vec![3, 0, 1, 2],
        (KernelFormat::HWIO, _, _) => vec![0, 1, 2, 3, 4],
        (KernelFormat::OHWI, _, 1 | 2) => (0..rank + 2).collect(),
        (KernelFormat::OHWI, _, _) => vec![1, 2, 3, 4, 0],
    };
    let weights = lower_weights(ctx, name, node.inputs[1], &order)?;
    let bias = lower_bias(ctx, name, node.inputs.get(2).copied(), outputs)?;
    let (mut x, shape) = channels_last(ctx, name, source, spec.data_format)?;
    let padding = match builtin_padding(&windows) {
        Some(padding) => padding,
        None => {
            x = pad(ctx, name, x, &shape, &windows, None)?;
            Padding::Valid
        }
    };
    let activation = Activation::None;
    let lite = match windows.as_slice() {
        [h, w] => {
            let strides = [h.stride, w.stride];
            let dilations = [h.dilation, w.dilation];
            match depthwise {
                true => LiteOp::DepthwiseConv2D {
                    padding,
                    strides,
                    dilations,
                    multiplier: outputs / group,
                    activation,
                },
                false => LiteOp::Conv2D { padding, strides, dilations, activation },
            }
        }
        [d, h, w] => {
            ensure!(group == 1, "a 3-D convolution of {group} groups");
            LiteOp::Conv3D {
                padding,
                strides: [d.stride, h.stride, w.stride],
                dilations: [d.dilation, h.dilation, w.dilation],
                activation,
            }
        }
        _ => bail!("a convolution over {rank} spatial axes"),
    };
    let result = ctx.shape(OutletId::new(node.id, 0))?;
    let result = channels_last_shape(&result, spec.data_format);
    let y = ctx.emit(name, lite, &[x, weights, bias], ElementType::F32, &result);
    bind_channels_last(ctx, node, y, spec.data_format)
}

/// tract takes the stride of a convolution without padding out as a Downsample before it: back in.
fn absorb_downsamples(
    ctx: &LowerContext,
    mut source: OutletId,
    spec: &PoolSpec,
) -> (OutletId, PoolSpec) {
    let mut spec = spec.clone();
    while let Some(down) = ctx.model.node(source.node).op_as::<Downsample>() {
        let axis = down.axis.checked_sub(spec.data_format.h_axis()).filter(|&a| a < spec.rank());
        let (Some(axis), Ok(step)) = (axis, usize::try_from(down.stride)) else { break };
        let unpadded = match &spec.padding {
            PaddingSpec::Valid => true,
            PaddingSpec::Explicit(before, after) => before[axis] == 0 && after[axis] == 0,
            PaddingSpec::ExplicitOnnxPool(..) | PaddingSpec::SameUpper | PaddingSpec::SameLower => {
                false
            }
        };
        let mut strides: TVec<usize> = spec.strides().iter().copied().collect();
        let mut dilations: TVec<usize> = spec.dilations().iter().copied().collect();
        let stride = strides[axis].checked_mul(step);
        let dilation = dilations[axis].checked_mul(step);
        let (true, 0, Some(stride), Some(dilation)) = (unpadded, down.modulo, stride, dilation)
        else {
            break;
        };
        strides[axis] = stride;
        dilations[axis] = if spec.kernel_shape[axis] == 1 { 1 } else { dilation };
        spec.strides = Some(strides);
        spec.dilations = Some(dilations);
        source = ctx.model.node(source.node).inputs[0];
    }
    (source, spec)
}

/// Weights in the order of axes that TFLite has; those of a 1-D convolution get a unit height.
fn lower_weights(
    ctx: &mut LowerContext,
    name: &str,
    outlet: OutletId,
    order: &[usize],
) -> Result<TensorId> {
    let shape = ctx.shape(outlet)?;
    ensure!(shape.len() == order.len(), "weights of rank {}", shape.len());
    let moved: Vec<TDim> = order.iter().map(|&axis| shape[axis].clone()).collect();
    let mut target = moved.clone();
    if target.len() == 3 {
        // the one spatial axis is the last but one, or in the middle: 1 before it either way
        target.insert(1, TDim::from(1));
    }
    if let Some(value) = ctx.constant(outlet).cloned() {
        let target = target.iter().map(|d| d.to_usize()).collect::<Result<Vec<_>, _>>()?;
        let value = value.into_tensor().permute_axes(order)?.into_shape(&target)?;
        let label = ctx.model.node(outlet.node).name.clone();
        return ctx.add_constant(&label, &value);
    }
    let weights = ctx.tensor(outlet)?;
    let weights = ctx.transpose(&format!("{name}/weights"), weights, &shape, order);
    ctx.reshape(&format!("{name}/weights"), weights, &moved, &target)
}

/// A vector of `outputs` values; zeros where there is none.
fn lower_bias(
    ctx: &mut LowerContext,
    name: &str,
    outlet: Option<OutletId>,
    outputs: usize,
) -> Result<TensorId> {
    let value = match outlet {
        None => None,
        Some(outlet) => match ctx.constant(outlet) {
            Some(value) => Some(value.clone()),
            None => {
                let shape = ctx.shape(outlet)?;
                ensure!(shape == [TDim::from(outputs)], "a bias of shape {shape:?}");
                return ctx.tensor(outlet);
            }
        },
    };
    let mut bias = match value {
        Some(value) => float_values(&value)?,
        None => vec![0.0],
    };
    if let &[one] = bias.as_slice() {
        bias = vec![one; outputs];
    }
    ensure!(bias.len() == outputs, "a bias of {} values for {outputs} channels", bias.len());
    ctx.add_constant(&format!("{name}/bias"), &tract::tensor1(&bias))
}

fn float_values(value: &tract::Tensor) -> Result<Vec<f32>> {
    let value = value.cast_to_dt(DatumType::F32)?;
    Ok(value.as_bytes().as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// The einsum that tract makes of a 1 × 1 convolution is a CONV_2D again; tract may have dropped a batch
/// axis of 1 on either side.
fn lower_pointwise(ctx: &mut LowerContext, node: &TypedNode, op: &EinSum) -> Result<Option<()>> {
    let &[data, kernel] = node.inputs.as_slice() else { return Ok(None) };
    let (shape, kernel_shape) = (ctx.shape(data)?, ctx.shape(kernel)?);
    let result = ctx.shape(OutletId::new(node.id, 0))?;
    let format = |shape: &[TDim]| match shape.len() {
        3 => Some(DataFormat::CHW),
        4 => Some(DataFormat::NCHW),
        _ => None,
    };
    let (Some(format), Some(result_format)) = (format(&shape), format(&result)) else {
        return Ok(None);
    };
    if kernel_shape.len() != 2 || op.q_params.is_some() {
        return Ok(None);
    }
    if ctx.constant(kernel).is_none() || ctx.element(data)? != ElementType::F32 {
        return Ok(None);
    }
    // positions from the end: W 1, H 2, channels 3, batch 4
    let from_end = |rank: usize, at: usize| rank - at;
    let one = TDim::from(1);
    let mut order = [0, 0];
    for axis in op.axes.iter_all_axes() {
        match (&*axis.inputs[0], &*axis.inputs[1], &*axis.outputs[0]) {
            (&[at], &[inner], []) if from_end(shape.len(), at) == 3 => order[1] = inner,
            ([], &[outer], &[to]) if from_end(result.len(), to) == 3 => order[0] = outer,
            (&[at], [], &[to]) => {
                let (at, to) = (from_end(shape.len(), at), from_end(result.len(), to));
                if at != to || at == 3 {
                    return Ok(None);
                }
            }
            (&[0], [], []) if shape.len() == 4 && shape[0] == one => {}
            ([], [], &[0]) if result.len() == 4 && result[0] == one => {}
            _ => return Ok(None),
        }
    }
    if order[0] == order[1] {
        return Ok(None);
    }
    let sizes = order.map(|axis| kernel_shape[axis].to_usize());
    let [Ok(outputs), Ok(inputs)] = sizes else { return Ok(None) };
    let spec = PoolSpec::new(
        format,
        [1, 1].as_slice().into(),
        PaddingSpec::Valid,
        None,
        None,
        inputs,
        outputs,
    );
    let (source, spec) = absorb_downsamples(ctx, data, &spec);
    let name = &node.name;
    let weights = ctx.constant(kernel).cloned().context("weights")?.into_tensor();
    let weights = weights.permute_axes(&order)?.into_shape(&[outputs, 1, 1, inputs])?;
    let label = ctx.model.node(kernel.node).name.clone();
    let weights = ctx.add_constant(&label, &weights)?;
    let bias = lower_bias(ctx, name, None, outputs)?;
    let (x, _) = channels_last(ctx, name, source, spec.data_format)?;
    let strides = [spec.stride(0), spec.stride(1)];
    let lite = LiteOp::Conv2D {
        padding: Padding::Valid,
        strides,
        dilations: [1, 1],
        activation: Activation::None,
    };
    let result = channels_last_shape(&result, result_format);
    let y = ctx.emit(name, lite, &[x, weights, bias], ElementType::F32, &result);
    bind_channels_last(ctx, node, y, result_format).map(Some)
}

/// One spatial axis of a transposed convolution.
struct Spread {
    input: usize,
    output: usize,
    stride: usize,
    /// Of the kernel once its dilation is zeros.
    field: usize,
    /// Where the output begins in all that the kernel writes.
    crop: usize,
}

impl Spread {
    const UNIT: Spread = Spread { input: 1, output: 1, stride: 1, field: 1, crop: 0 };

    /// What TRANSPOSE_CONV without padding must compute for the output to be inside.
    fn computed(&self) -> usize {
        ((self.input - 1) * self.stride + self.field).max(self.crop + self.output)
    }

    fn is_same(&self) -> bool {
        self.field >= self.stride
            && self.output == self.input * self.stride
            && self.crop == (self.field - self.stride) / 2
    }
}

fn spreads(op: &Deconv, shape: &[TDim], result: &[TDim]) -> Result<Vec<Spread>> {
    let spec = &op.pool_spec;
    let first = spec.data_format.h_axis();
    let largest = i32::MAX as usize;
    let mut spreads = vec![];
    for axis in 0..spec.rank() {
        let size = |shape: &[TDim]| {
            let known = shape[first + axis].to_usize().ok().filter(|s| (1..largest).contains(s));
            known.with_context(|| {
                format!("a transposed convolution of unknown or empty size {shape:?}; fix it")
            })
        };
        let (input, output) = (size(shape)?, size(result)?);
        let (kernel, stride) = (spec.kernel_shape[axis], spec.stride(axis));
        let dilation = spec.dilation(axis);
        let in_range = |n: usize| (1..1 << 15).contains(&n);
        ensure!(
            in_range(kernel) && in_range(stride) && in_range(dilation),
            "kernel {kernel}, stride {stride}, dilation {dilation}"
        );
        let field = (kernel - 1) * dilation + 1;
        let computed = spec.padding.compute_one_for_deconv(
            axis,
            &input,
            kernel,
            dilation,
            stride,
            op.adjustments[axis],
        )?;
        ensure!(computed.deconvoluted == output, "an output of {output} is not as computed");
        let spread = Spread { input, output, stride, field, crop: computed.pad_before };
        let written = (input - 1) * stride + field;
        ensure!(
            spread.computed() - written < stride,
            "output padding of {} with stride {stride}",
            spread.computed() - written
        );
        spreads.push(spread);
    }
    if spreads.len() == 1 {
        spreads.insert(0, Spread::UNIT);
    }
    Ok(spreads)
}

fn lower_deconv(ctx: &mut LowerContext, node: &TypedNode, op: &Deconv) -> Result<()> {
    ensure_float(ctx, node)?;
    let spec = &op.pool_spec;
    ensure!(spec.rank() <= 2, "a transposed convolution over {} spatial axes", spec.rank());
    let source = node.inputs[0];
    let result = ctx.shape(OutletId::new(node.id, 0))?;
    let spreads = spreads(op, &ctx.shape(source)?, &result)?;
    let result = channels_last_shape(&result, spec.data_format);
    let batch = result[0].to_usize().ok().with_context(|| {
        format!("a transposed convolution of a dynamic batch ({}); fix it to a number", result[0])
    })?;
    let name = &node.name;
    let outputs = spec.output_channels;
    let bias = lower_bias(ctx, name, node.inputs.get(2).copied(), outputs)?;
    let plain = op.group == 1 && spec.dilations().iter().all(|&d| d == 1);
    let weights = match ctx.constant(node.inputs[1]).cloned() {
        Some(kernel) => {
            let weights = spread_weights(op, &kernel)?;
            let label = ctx.model.node(node.inputs[1].node).name.clone();
            ctx.add_constant(&label, &weights)?
        }
        None => {
            ensure!(plain, "computed weights with groups or dilation");
            ensure!(op.kernel_format == KernelFormat::OIHW, "weights as {:?}", op.kernel_format);
            let order: &[usize] = if spec.rank() == 1 { &[0, 2, 1] } else { &[0, 2, 3, 1] };
            lower_weights(ctx, name, node.inputs[1], order)?
        }
    };
    let (x, _) = channels_last(ctx, name, source, spec.data_format)?;
    let same = spreads.iter().all(Spread::is_same);
    let mut sizes = vec![i32::try_from(batch)?];
    for spread in &spreads {
        sizes.push(i32::try_from(if same { spread.output } else { spread.computed() })?);
    }
    sizes.push(i32::try_from(outputs)?);
    let target = ctx.add_i32_constant(&format!("{name}/shape"), &sizes);
    let padding = if same { Padding::Same } else { Padding::Valid };
    let strides = [spreads[0].stride, spreads[1].stride];
    let lite = LiteOp::TransposeConv { padding, strides, activation: Activation::None };
    let shape: Vec<TDim> = sizes.iter().map(|&d| TDim::from(d)).collect();
    let mut y = ctx.emit(name, lite, &[target, weights, x, bias], ElementType::F32, &shape);
    if shape != result {
        let begin = [0, spreads[0].crop as i32, spreads[1].crop as i32, 0];
        let size = [-1, spreads[0].output as i32, spreads[1].output as i32, -1];
        let begin = ctx.add_i32_constant(&format!("{name}/begin"), &begin);
        let size = ctx.add_i32_constant(&format!("{name}/size"), &size);
        let name = format!("{name}/crop");
        y = ctx.emit(&name, LiteOp::Slice, &[y, begin, size], ElementType::F32, &result);
    }
    bind_channels_last(ctx, node, y, spec.data_format)
}

/// The kernel as out × h × w × in; groups become zeros beside a diagonal, dilation zeros between taps.
fn spread_weights(op: &Deconv, kernel: &tract::Tensor) -> Result<tract::Tensor> {
    ensure!(op.kernel_format == KernelFormat::OIHW, "weights as {:?}", op.kernel_format);
    let spec = &op.pool_spec;
    let (inputs, outputs, group) = (spec.input_channels, spec.output_channels, op.group);
    ensure!(
        group > 0 && inputs % group == 0 && outputs % group == 0,
        "group {group} of {inputs} channels"
    );
    let inner = inputs / group;
    let (h, w, dilations) = match (spec.kernel_shape.as_slice(), &*spec.dilations()) {
        (&[w], &[x]) => (1, w, [1, x]),
        (&[h, w], &[y, x]) => (h, w, [y, x]),
        _ => bail!("a transposed convolution over {} spatial axes", spec.rank()),
    };
    let (high, wide) = ((h - 1) * dilations[0] + 1, (w - 1) * dilations[1] + 1);
    let count = [outputs, high, wide, inputs].iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let count = count.filter(|&n| n <= 1 << 26);
    let count = count.with_context(|| {
        format!(
            "weights of {group} groups or dilation {dilations:?} would be too large written out"
        )
    })?;
    let values = float_values(kernel)?;
    ensure!(values.len() == outputs * inner * h * w, "weights of {} values", values.len());
    let mut spread = vec![0f32; count];
    for (i, &value) in values.iter().enumerate() {
        let (x, y) = (i % w, i / w % h);
        let (input, output) = (i / (w * h) % inner, i / (w * h * inner));
        let input = output / (outputs / group) * inner + input;
        let row = output * high + y * dilations[0];
        spread[(row * wide + x * dilations[1]) * inputs + input] = value;
    }
    Ok(tract::Tensor::from_shape(&[outputs, high, wide, inputs], &spread)?)
}

fn known(ctx: &RaiseContext, name: &str, outlet: OutletId) -> Result<Vec<usize>> {
    let fact = ctx.model.outlet_fact(outlet)?;
    let dt = fact.datum_type;
    ensure!(dt == DatumType::F32, "'{name}': convolution of {dt:?} cannot be computed yet");
    let shape = fact.shape.as_concrete();
    Ok(shape.with_context(|| format!("'{name}': weights of unknown shape"))?.to_vec())
}

/// The input's channels; its rank is checked.
fn channels(ctx: &RaiseContext, name: &str, x: OutletId, rank: usize) -> Result<usize> {
    let fact = ctx.model.outlet_fact(x)?;
    let dt = fact.datum_type;
    ensure!(dt == DatumType::F32, "'{name}': convolution of {dt:?} cannot be computed yet");
    ensure!(fact.rank() == rank, "'{name}': an input of rank {}", fact.rank());
    fact.shape[rank - 1].to_usize().with_context(|| format!("'{name}': unknown channels"))
}

fn raise_bias(ctx: &mut RaiseContext, node: &Node, index: usize, n: usize) -> Result<OutletId> {
    let name = ctx.output_name(node);
    if !ctx.has_input(node, index) {
        let name = unique(&ctx.model, &format!("{name}/zero"));
        let zeros = tract::tensor1(&vec![0f32; n]);
        return Ok(ctx.model.add_const(name, zeros.into_arc_tensor())?);
    }
    let bias = ctx.input(node, index)?;
    let shape = ctx.shape(bias)?;
    ensure!(shape == [TDim::from(n)], "'{name}': a bias of shape {shape:?} for {n} channels");
    Ok(bias)
}

fn move_axis(
    ctx: &mut RaiseContext,
    name: &str,
    wire: OutletId,
    from: usize,
    to: usize,
) -> Result<OutletId> {
    ctx.wire(&format!("{name}/weights"), AxisOp::Move(from, to), &[wire])
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    match &node.op {
        LiteOp::Conv2D { padding, strides, dilations, activation } => {
            let (x, weights) = (ctx.input(node, 0)?, ctx.input(node, 1)?);
            let &[outputs, h, w, inner] = known(ctx, name, weights)?.as_slice() else {
                bail!("'{name}': weights that are not of rank 4");
            };
            let inputs = channels(ctx, name, x, 4)?;
            ensure!(
                inner > 0 && inputs % inner == 0 && inputs > 0,
                "'{name}': weights of {inner} channels for {inputs}"
            );
            let group = inputs / inner;
            ensure!(outputs % group == 0, "'{name}': {outputs} outputs of {group} groups");
            let spec = channels_last_spec(&[h, w], *padding, strides, dilations, [inputs, outputs]);
            let weights = move_axis(ctx, name, weights, 3, 1)?;
            wire_conv(ctx, node, spec, group, [x, weights], *activation)
        }
        LiteOp::DepthwiseConv2D { padding, strides, dilations, activation, .. } => {
            let (x, weights) = (ctx.input(node, 0)?, ctx.input(node, 1)?);
            let &[1, h, w, outputs] = known(ctx, name, weights)?.as_slice() else {
                bail!("'{name}': weights that are not 1 × h × w × channels");
            };
            let inputs = channels(ctx, name, x, 4)?;
            ensure!(
                inputs > 0 && outputs % inputs == 0,
                "'{name}': {outputs} outputs of {inputs} channels"
            );
            let spec = channels_last_spec(&[h, w], *padding, strides, dilations, [inputs, outputs]);
            let weights = move_axis(ctx, name, weights, 3, 0)?;
            wire_conv(ctx, node, spec, inputs, [x, weights], *activation)
        }
        LiteOp::Conv3D { padding, strides, dilations, activation } => {
            let (x, weights) = (ctx.input(node, 0)?, ctx.input(node, 1)?);
            let &[d, h, w, inner, outputs] = known(ctx, name, weights)?.as_slice() else {
                bail!("'{name}': weights that are not of rank 5");
            };
            let inputs = channels(ctx, name, x, 5)?;
            ensure!(inputs == inner, "'{name}': weights of {inner} channels for {inputs}");
            let spec =
                channels_last_spec(&[d, h, w], *padding, strides, dilations, [inputs, outputs]);
            let weights = move_axis(ctx, name, weights, 4, 0)?;
            let weights = move_axis(ctx, name, weights, 4, 1)?;
            wire_conv(ctx, node, spec, 1, [x, weights], *activation)
        }
        LiteOp::TransposeConv { padding, strides, activation } => {
            raise_transpose_conv(ctx, node, *padding, *strides, *activation)
        }
        other => bail!("{} is not a convolution", other.name()),
    }
}

fn wire_conv(
    ctx: &mut RaiseContext,
    node: &Node,
    spec: PoolSpec,
    group: usize,
    [x, weights]: [OutletId; 2],
    activation: Activation,
) -> Result<()> {
    let name = ctx.output_name(node);
    let bias = raise_bias(ctx, node, 2, spec.output_channels)?;
    let op = Conv::new(spec, KernelFormat::OIHW, group, None);
    let wire = ctx.wire(name, op, &[x, weights, bias])?;
    let wire = super::activation::wire_fused(ctx, name, activation, wire)?;
    ctx.finish(node, wire)
}

fn raise_transpose_conv(
    ctx: &mut RaiseContext,
    node: &Node,
    padding: Padding,
    strides: [usize; 2],
    activation: Activation,
) -> Result<()> {
    let name = ctx.output_name(node);
    let target = ctx.i32_input(node, 0)?;
    let (weights, x) = (ctx.input(node, 1)?, ctx.input(node, 2)?);
    let &[outputs, h, w, inner] = known(ctx, name, weights)?.as_slice() else {
        bail!("'{name}': weights that are not of rank 4");
    };
    let inputs = channels(ctx, name, x, 4)?;
    ensure!(inputs == inner, "'{name}': weights of {inner} channels for {inputs}");
    let shape = ctx.shape(x)?;
    let target: Vec<usize> =
        target.iter().map(|&d| usize::try_from(d)).collect::<Result<_, _>>()?;
    ensure!(
        target.len() == 4 && target[3] == outputs && shape[0] == TDim::from(target[0]),
        "'{name}': an output of {target:?} from {shape:?} and {outputs} channels"
    );
    let (mut before, mut after, mut adjustments) = (TVec::new(), TVec::new(), TVec::new());
    for (axis, kernel) in [h, w].into_iter().enumerate() {
        let input = shape[axis + 1].to_usize().ok().filter(|&d| d > 0);
        let input = input.with_context(|| format!("'{name}': an input of unknown size"))?;
        let (output, stride) = (target[axis + 1], strides[axis]);
        ensure!(kernel > 0 && stride > 0 && output > 0, "'{name}': an empty axis");
        let written = (input - 1).checked_mul(stride).and_then(|n| n.checked_add(kernel));
        let written = written.with_context(|| format!("'{name}': stride {stride}"))?;
        let crop = match padding {
            Padding::Valid => 0,
            Padding::Same => {
                let steps = (output.div_ceil(stride) - 1).checked_mul(stride);
                let reach = steps.and_then(|n| n.checked_add(kernel)).context("stride")?;
                reach.saturating_sub(output) / 2
            }
        };
        before.push(crop);
        after.push(written.saturating_sub(crop.saturating_add(output)));
        adjustments.push(crop.saturating_add(output).saturating_sub(written));
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

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    let activation = super::activation::read_fused;
    Ok(Some(match &op.options {
        BuiltinOptions::Conv2D(o) => LiteOp::Conv2D {
            padding: read_padding(o.padding),
            strides: [positive("stride", o.stride_h)?, positive("stride", o.stride_w)?],
            dilations: [
                positive("dilation", o.dilation_h_factor)?,
                positive("dilation", o.dilation_w_factor)?,
            ],
            activation: activation(o.fused_activation_function),
        },
        BuiltinOptions::DepthwiseConv2D(o) => LiteOp::DepthwiseConv2D {
            padding: read_padding(o.padding),
            strides: [positive("stride", o.stride_h)?, positive("stride", o.stride_w)?],
            dilations: [
                positive("dilation", o.dilation_h_factor)?,
                positive("dilation", o.dilation_w_factor)?,
            ],
            // some files leave 0; the shapes say it
            multiplier: usize::try_from(o.depth_multiplier).context("depth multiplier")?,
            activation: activation(o.fused_activation_function),
        },
        BuiltinOptions::Conv3D(o) if op.builtin == BuiltinOperator::CONV_3D => LiteOp::Conv3D {
            padding: read_padding(o.padding),
            strides: [
                positive("stride", o.stride_d)?,
                positive("stride", o.stride_h)?,
                positive("stride", o.stride_w)?,
            ],
            dilations: [
                positive("dilation", o.dilation_d_factor)?,
                positive("dilation", o.dilation_h_factor)?,
                positive("dilation", o.dilation_w_factor)?,
            ],
            activation: activation(o.fused_activation_function),
        },
        BuiltinOptions::TransposeConv(o) => LiteOp::TransposeConv {
            padding: read_padding(o.padding),
            strides: [positive("stride", o.stride_h)?, positive("stride", o.stride_w)?],
            activation: activation(o.fused_activation_function),
        },
        _ => return Ok(None),
    }))
}

pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    let fused = super::activation::write_fused;
    let (x, weights) = (input_element(graph, node, 0), input_element(graph, node, 1));
    Ok(match &node.op {
        LiteOp::Conv2D { padding, strides, dilations, activation } => {
            let channels = |index: usize| {
                let tensor = node.inputs.get(index).copied().flatten()?;
                graph.tensors[tensor].shape.last()?.known()
            };
            let version = match (x, weights) {
                _ if channels(0) != channels(1) => 6,
                (Some(ElementType::F32), Some(ElementType::I8)) => 5,
                (Some(ElementType::I16), _) => 4,
                (Some(ElementType::I8), _) => 3,
                _ => 1,
            };
            let options = Conv2DOptions {
                padding: write_padding(*padding),
                stride_h: option(strides[0])?,
                stride_w: option(strides[1])?,
                dilation_h_factor: option(dilations[0])?,
                dilation_w_factor: option(dilations[1])?,
                fused_activation_function: fused(*activation),
                ..Default::default()
            };
            TfliteOp::new(BuiltinOperator::CONV_2D, version, BuiltinOptions::Conv2D(options))
        }
        LiteOp::DepthwiseConv2D { padding, strides, dilations, multiplier, activation } => {
            let version = match (x, weights) {
                (Some(ElementType::F32), Some(ElementType::I8)) => 6,
                (Some(ElementType::I16), _) => 5,
                (Some(ElementType::I8), _) => 3,
                _ if *dilations != [1, 1] => 2,
                _ => 1,
            };
            let options = DepthwiseConv2DOptions {
                padding: write_padding(*padding),
                stride_h: option(strides[0])?,
                stride_w: option(strides[1])?,
                depth_multiplier: option(*multiplier)?,
                dilation_h_factor: option(dilations[0])?,
                dilation_w_factor: option(dilations[1])?,
                fused_activation_function: fused(*activation),
            };
            let options = BuiltinOptions::DepthwiseConv2D(options);
            TfliteOp::new(BuiltinOperator::DEPTHWISE_CONV_2D, version, options)
        }
        LiteOp::Conv3D { padding, strides, dilations, activation } => {
            let options = Conv3DOptions {
                padding: write_padding(*padding),
                stride_d: option(strides[0])?,
                stride_h: option(strides[1])?,
                stride_w: option(strides[2])?,
                dilation_d_factor: option(dilations[0])?,
                dilation_h_factor: option(dilations[1])?,
                dilation_w_factor: option(dilations[2])?,
                fused_activation_function: fused(*activation),
            };
            TfliteOp::new(BuiltinOperator::CONV_3D, 1, BuiltinOptions::Conv3D(options))
        }
        LiteOp::TransposeConv { padding, strides, activation } => {
            let has_bias = node.inputs.get(3).copied().flatten().is_some();
            let version = match activation {
                Activation::None if has_bias => 3,
                Activation::None if weights == Some(ElementType::I8) => 2,
                Activation::None => 1,
                Activation::Relu
                | Activation::ReluN1To1
                | Activation::Relu6
                | Activation::Tanh
                | Activation::SignBit => 4,
            };
            let options = TransposeConvOptions {
                padding: write_padding(*padding),
                stride_h: option(strides[0])?,
                stride_w: option(strides[1])?,
                fused_activation_function: fused(*activation),
                ..Default::default()
            };
            let options = BuiltinOptions::TransposeConv(options);
            TfliteOp::new(BuiltinOperator::TRANSPOSE_CONV, version, options)
        }
        other => bail!("{} is not a convolution", other.name()),
    })
}

pub fn permute(_graph: &Subgraph, _node: &Node, _permutation: &[usize]) -> Option<Passage> {
    None
}
