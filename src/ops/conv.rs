//! Convolutions: CONV_2D, DEPTHWISE_CONV_2D, CONV_3D, TRANSPOSE_CONV.

use super::window::*;
use super::*;
use crate::format::tflite::{
    Conv2DOptions, Conv3DOptions, DepthwiseConv2DOptions, TransposeConvOptions,
};
use crate::graph::{Activation, BinaryOp, Padding};
use crate::tract::TVec;
use crate::tract::ops::Downsample;
use crate::tract::ops::cnn::{Conv, Deconv, KernelFormat, PaddingSpec, PoolSpec};
use crate::tract::ops::einsum::EinSum;
use crate::tract::ops::nn::DataFormat;
use anyhow::bail;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<Conv>() {
        return lower_conv(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<Deconv>() {
        return transpose_conv::lower(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<EinSum>() {
        return lower_pointwise(ctx, node, op);
    }
    Ok(None)
}

pub fn ensure_float(ctx: &LowerContext, node: &TypedNode) -> Result<()> {
    for &input in node.inputs.iter().take(2) {
        let element = ctx.element(input)?;
        let float = matches!(element, ElementType::F32 | ElementType::F16);
        ensure!(float, refusal::of_type("a convolution", element));
    }
    Ok(())
}

fn lower_conv(ctx: &mut LowerContext, node: &TypedNode, op: &Conv) -> Result<()> {
    ensure!(op.q_params.is_none(), refusal::quantized("a convolution"));
    ensure_float(ctx, node)?;
    let (source, spec) = absorb_downsamples(ctx, node.inputs[0], &op.pool_spec);
    let rank = spec.rank();
    ensure!(
        (1..=3).contains(&rank),
        "a convolution over {rank} spatial axes; TFLite has up to 3: Reshape axes of size 1 away"
    );
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
    let (mut x, mut shape) = channels_last(ctx, name, source, spec.data_format)?;
    let result = ctx.shape(OutletId::new(node.id, 0))?;
    let result = channels_last_shape(&result, spec.data_format);
    let padding = match builtin_padding(&windows) {
        Some(padding) if windows.len() == 2 || group == 1 => padding,
        _ => {
            x = pad(ctx, name, x, &shape, &windows, None)?;
            shape = padded_shape(&shape, &windows);
            Padding::Valid
        }
    };
    let bias = lower_bias(ctx, name, node.inputs.get(2).copied(), outputs)?;
    let weights = Weights::Outlet(node.inputs[1]);
    let kernel = Kernel { weights, format: op.kernel_fmt, group, inputs, outputs };
    let y = convolve(ctx, name, (x, &shape), &kernel, bias, padding, &windows, &result)?;
    bind_channels_last(ctx, node, y, spec.data_format)
}

/// The convolution of `x`, channels last and of `shape`, by `windows` of any position; `result` is its shape.
#[allow(clippy::too_many_arguments)]
pub fn convolve(
    ctx: &mut LowerContext,
    name: &str,
    (x, shape): (TensorId, &[TDim]),
    kernel: &Kernel,
    bias: TensorId,
    padding: Padding,
    windows: &[Window],
    result: &[TDim],
) -> Result<TensorId> {
    let lite = match windows {
        [h, w] => kernel.convolution(padding, [h, w]),
        [d, h, w] if kernel.group == 1 => LiteOp::Conv3D {
            padding,
            strides: [d.stride, h.stride, w.stride],
            dilations: [d.dilation, h.dilation, w.dilation],
            activation: Activation::None,
        },
        [d, h, w] => {
            return sum_of_slabs(ctx, name, (x, shape), kernel, bias, [d, h, w], result);
        }
        _ => bail!("a convolution over {} spatial axes", windows.len()),
    };
    let weights = kernel.lower(ctx, name)?;
    Ok(ctx.emit(name, lite, &[x, weights, bias], ElementType::F32, result))
}

pub enum Weights {
    Outlet(OutletId),
    Value(tract::Tensor),
}

/// The weights of a convolution and how they are arranged.
pub struct Kernel {
    pub weights: Weights,
    pub format: KernelFormat,
    pub group: usize,
    pub inputs: usize,
    pub outputs: usize,
}

impl Kernel {
    fn is_depthwise(&self) -> bool {
        self.group > 1 && self.group == self.inputs
    }

    fn lower(&self, ctx: &mut LowerContext, name: &str) -> Result<TensorId> {
        let spatial = |rank: usize| rank.checked_sub(2).context("weights of rank 1");
        match &self.weights {
            Weights::Outlet(outlet) => {
                let order = self.order(spatial(ctx.shape(*outlet)?.len())?);
                lower_weights(ctx, name, *outlet, &order)
            }
            Weights::Value(value) => {
                let order = self.order(spatial(value.rank())?);
                constant_weights(ctx, &format!("{name}/weights"), value, &order)
            }
        }
    }

    fn value(&self, ctx: &LowerContext) -> Option<tract::Tensor> {
        match &self.weights {
            Weights::Outlet(outlet) => ctx.constant(*outlet).map(|value| value.as_ref().clone()),
            Weights::Value(value) => Some(value.clone()),
        }
    }

    /// The order of axes that TFLite has for weights over `rank` spatial axes.
    fn order(&self, rank: usize) -> Vec<usize> {
        match (self.format, self.is_depthwise(), rank) {
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
        }
    }

    /// CONV_2D or DEPTHWISE_CONV_2D.
    fn convolution(&self, padding: Padding, windows: [&Window; 2]) -> LiteOp {
        let (strides, dilations) = (windows.map(|w| w.stride), windows.map(|w| w.dilation));
        let activation = Activation::None;
        match self.is_depthwise() {
            true => LiteOp::DepthwiseConv2D {
                padding,
                strides,
                dilations,
                multiplier: self.outputs / self.group,
                activation,
            },
            false => LiteOp::Conv2D { padding, strides, dilations, activation },
        }
    }
}

/// A 3-D convolution in groups, which CONV_3D lacks: for each place along the kernel's depth a 2-D convolution of
/// all the pictures that it meets, added up.
fn sum_of_slabs(
    ctx: &mut LowerContext,
    name: &str,
    (x, shape): (TensorId, &[TDim]),
    kernel: &Kernel,
    bias: TensorId,
    [depth, h, w]: [&Window; 3],
    result: &[TDim],
) -> Result<TensorId> {
    ensure!(kernel.format == KernelFormat::OIHW, "grouped weights as {:?}", kernel.format);
    let value = kernel.value(ctx);
    let value = value.ok_or_else(|| refusal::computed("weights of a 3-D convolution in groups"))?;
    let pictures = |shape: &[TDim]| -> Vec<TDim> {
        let batch = shape[0].clone() * &shape[1];
        [&[batch], &shape[2..]].concat()
    };
    let mut met = shape.to_vec();
    met[1] = result[1].clone();
    let (before, after) = (pictures(&met), pictures(result));
    let no_bias = tract::tensor1(&vec![0f32; kernel.outputs]);
    let no_bias = ctx.add_constant(&format!("{name}/zero"), &no_bias)?;
    let mut sum = None;
    for tap in 0..depth.kernel {
        let slab = tap_slice(ctx, name, x, &met, &[(1, depth, tap)])?;
        let slab = ctx.reshape(&format!("{name}/pictures"), slab, &met, &before)?;
        let flat: Vec<usize> = [&value.shape()[..2], &value.shape()[3..]].concat();
        let weights = value.slice(2, tap, tap + 1)?.into_shape(&flat)?;
        let order = kernel.order(2);
        let weights = constant_weights(ctx, &format!("{name}/weights"), &weights, &order)?;
        let lite = kernel.convolution(Padding::Valid, [h, w]);
        let bias = if tap == 0 { bias } else { no_bias };
        let part = ctx.emit(name, lite, &[slab, weights, bias], ElementType::F32, &after);
        sum = Some(match sum {
            None => part,
            Some(sum) => {
                let op = LiteOp::Binary { op: BinaryOp::Add, activation: Activation::None };
                ctx.emit(&format!("{name}/sum"), op, &[sum, part], ElementType::F32, &after)
            }
        });
    }
    ctx.reshape(&format!("{name}/box"), sum.context("a kernel of no depth")?, &after, result)
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
pub fn lower_weights(
    ctx: &mut LowerContext,
    name: &str,
    outlet: OutletId,
    order: &[usize],
) -> Result<TensorId> {
    if let Some(value) = ctx.constant(outlet).cloned() {
        let label = ctx.model.node(outlet.node).name.clone();
        return constant_weights(ctx, &label, &value, order);
    }
    let shape = ctx.shape(outlet)?;
    ensure!(shape.len() == order.len(), "weights of rank {}", shape.len());
    let moved: Vec<TDim> = order.iter().map(|&axis| shape[axis].clone()).collect();
    let mut target = moved.clone();
    if target.len() == 3 {
        target.insert(UNIT_HEIGHT, TDim::from(1));
    }
    let float = |v: &Arc<tract::Tensor>| v.datum_type() == DatumType::F32;
    if let Some(value) = ctx.constant(outlet).cloned().filter(float) {
        let target = target.iter().map(|d| d.to_usize()).collect::<Result<Vec<_>, _>>()?;
        let label = ctx.model.node(outlet.node).name.clone();
        return ctx.add_reordered(&label, &value, order, &target);
    }
    let weights = ctx.tensor_as(outlet, ElementType::F32)?;
    let weights = ctx.transpose(&format!("{name}/weights"), weights, &shape, order);
    ctx.reshape(&format!("{name}/weights"), weights, &moved, &target)
}

/// The one spatial axis is the last but one, or in the middle: 1 before it either way.
const UNIT_HEIGHT: usize = 1;

fn constant_weights(
    ctx: &mut LowerContext,
    label: &str,
    value: &tract::Tensor,
    order: &[usize],
) -> Result<TensorId> {
    ensure!(value.rank() == order.len(), "weights of rank {}", value.rank());
    let mut value = value.cast_to::<f32>()?.into_owned().permute_axes(order)?;
    if value.rank() == 3 {
        value.insert_axis(UNIT_HEIGHT)?;
    }
    ctx.add_constant(label, &value)
}

/// A vector of `outputs` values; zeros where there is none.
pub fn lower_bias(
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
                return ctx.tensor_as(outlet, ElementType::F32);
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
    let float = matches!(ctx.element(data)?, ElementType::F32 | ElementType::F16);
    if ctx.constant(kernel).is_none() || !float {
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
    let weights = ctx.constant(kernel).cloned().context("weights")?;
    let weights = match weights.datum_type() {
        DatumType::F32 => weights,
        _ => weights.cast_to::<f32>()?.into_owned().into_arc_tensor(),
    };
    let label = ctx.model.node(kernel.node).name.clone();
    let weights = ctx.add_reordered(&label, &weights, &order, &[outputs, 1, 1, inputs])?;
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

pub fn known(ctx: &RaiseContext, name: &str, outlet: OutletId) -> Result<Vec<usize>> {
    let fact = ctx.model.outlet_fact(outlet)?;
    let dt = fact.datum_type;
    ensure!(dt == DatumType::F32, "'{name}': convolution of {dt:?} cannot be computed yet");
    let shape = fact.shape.as_concrete();
    Ok(shape.with_context(|| format!("'{name}': weights of unknown shape"))?.to_vec())
}

/// The input's channels; its rank is checked.
pub fn channels(ctx: &RaiseContext, name: &str, x: OutletId, rank: usize) -> Result<usize> {
    let fact = ctx.model.outlet_fact(x)?;
    let dt = fact.datum_type;
    ensure!(dt == DatumType::F32, "'{name}': convolution of {dt:?} cannot be computed yet");
    ensure!(fact.rank() == rank, "'{name}': an input of rank {}", fact.rank());
    fact.shape[rank - 1].to_usize().with_context(|| format!("'{name}': unknown channels"))
}

pub fn raise_bias(ctx: &mut RaiseContext, node: &Node, index: usize, n: usize) -> Result<OutletId> {
    let name = ctx.output_name(node);
    if !ctx.has_input(node, index) {
        let zeros = tract::tensor1(&vec![0f32; n]);
        return ctx.add_constant(&format!("{name}/zero"), zeros.into_arc_tensor());
    }
    let bias = ctx.input(node, index)?;
    let shape = ctx.shape(bias)?;
    ensure!(shape == [TDim::from(n)], "'{name}': a bias of shape {shape:?} for {n} channels");
    Ok(bias)
}

pub fn move_axis(
    ctx: &mut RaiseContext,
    name: &str,
    wire: OutletId,
    from: usize,
    to: usize,
) -> Result<OutletId> {
    let name = format!("{name}/weights");
    let fact = ctx.model.outlet_fact(wire)?;
    if let Some(value) = fact.konst.clone() {
        let mut order: Vec<usize> = (0..fact.rank()).collect();
        let axis = order.remove(from);
        order.insert(to, axis);
        return ctx.add_constant(&name, super::constants::reordered(&value, &order)?);
    }
    ctx.wire(&name, AxisOp::Move(from, to), &[wire])
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
            transpose_conv::raise(ctx, node, *padding, *strides, *activation)
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
                (Some(ElementType::I8), Some(ElementType::I4)) => 7,
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
                (Some(ElementType::I8), Some(ElementType::I4)) => 7,
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
