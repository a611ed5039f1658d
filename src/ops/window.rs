//! What convolutions and pools share: windows along spatial axes, their padding, and the way to channels-last and back.
//!
//! Invariant: knows tract's `PoolSpec` and the lite graph's PAD, RESHAPE and TRANSPOSE; nothing of single ops.

use super::*;
use crate::graph::Padding;
use crate::tract::ops::cnn::{PaddingSpec, PoolSpec};
use crate::tract::ops::nn::DataFormat;

/// How a window steps along one spatial axis.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Window {
    pub kernel: usize,
    pub stride: usize,
    pub dilation: usize,
    /// Pixels of padding that windows touch.
    pub before: usize,
    pub after: usize,
    /// Windows reach further than the padding that was asked for.
    pub overhangs: bool,
    /// The padding after the input that was asked for, touched or not.
    asked_after: usize,
    /// Input and output, where the input's size is known.
    pub sizes: Option<(usize, usize)>,
    /// TFLite's SAME by definition, whatever the size.
    same: bool,
}

impl Window {
    pub const UNIT: Window = Window {
        kernel: 1,
        stride: 1,
        dilation: 1,
        before: 0,
        after: 0,
        overhangs: false,
        asked_after: 0,
        sizes: Some((1, 1)),
        same: false,
    };

    /// A window without padding over an axis of any size.
    pub fn valid(kernel: usize, stride: usize, dilation: usize) -> Window {
        Window { kernel, stride, dilation, sizes: None, ..Window::UNIT }
    }

    /// Pixels from the first to the last tap.
    pub fn field(&self) -> usize {
        (self.kernel - 1) * self.dilation + 1
    }

    pub fn is_valid(&self) -> bool {
        !self.same && self.before == 0 && self.after == 0
    }

    /// Each window is the one pixel at its place.
    pub fn is_identity(&self) -> bool {
        (self.kernel, self.stride) == (1, 1) && (self.is_valid() || self.same)
    }

    fn is_same(&self) -> bool {
        let field = self.field();
        match self.sizes {
            Some((input, output)) => {
                let total = ((output - 1) * self.stride + field).saturating_sub(input);
                output == input.div_ceil(self.stride) && self.before == total / 2
            }
            None => {
                self.same
                    || self.stride == 1
                        && self.before == (field - 1) / 2
                        && self.before + self.after == field - 1
            }
        }
    }

    /// Where there is one window alone it becomes the part of it that is inside the input.
    pub fn leave_padding_out(&mut self) {
        let (Some((input, 1)), Some(inside)) = (self.sizes, self.taps_inside(0)) else { return };
        if self.dilation == 1 && self.before + self.after > 0 && inside > 0 {
            let stride = self.stride.max(input - inside + 1);
            *self = Window { sizes: self.sizes, ..Window::valid(inside, stride, 1) };
        }
    }

    /// How many taps of the window at output `place` are inside an input of known size.
    pub fn taps_inside(&self, place: usize) -> Option<usize> {
        let (input, _) = self.sizes?;
        Some(self.taps_in(place, self.before..self.before + input))
    }

    /// How many taps of the window at output `place` are inside the input or the padding that was asked for.
    pub fn taps_on_padded(&self, place: usize) -> Option<usize> {
        let (input, _) = self.sizes?;
        Some(self.taps_in(place, 0..self.before + input + self.asked_after))
    }

    fn taps_in(&self, place: usize, range: std::ops::Range<usize>) -> usize {
        let start = place * self.stride;
        (0..self.kernel).filter(|tap| range.contains(&(start + tap * self.dilation))).count()
    }
}

/// The windows of `spec` over an input of `shape`; a lone spatial axis gets a unit axis before it.
///
/// # Errors
/// The padding depends on a size that is not known.
pub fn windows(spec: &PoolSpec, shape: &[TDim]) -> Result<Vec<Window>> {
    let first = spec.data_format.h_axis();
    let (strides, dilations) = (spec.strides(), spec.dilations());
    let rank = spec.rank();
    let pads = match &spec.padding {
        PaddingSpec::Explicit(before, after) | PaddingSpec::ExplicitOnnxPool(before, after, _) => {
            before.len() == rank && after.len() == rank
        }
        PaddingSpec::Valid | PaddingSpec::SameUpper | PaddingSpec::SameLower => true,
    };
    ensure!(
        pads && shape.len() >= first + rank && strides.len() == rank && dilations.len() == rank,
        "a kernel of {rank} axes, whose pads, strides or dilations or whose input have others"
    );
    let mut windows = vec![];
    for axis in 0..spec.rank() {
        let (kernel, stride, dilation) = (spec.kernel_shape[axis], strides[axis], dilations[axis]);
        let largest = i32::MAX as usize;
        ensure!(
            (1..largest).contains(&stride) && (1..largest).contains(&dilation),
            "stride {stride}, dilation {dilation}"
        );
        let field = kernel.checked_sub(1).and_then(|k| k.checked_mul(dilation)).map(|f| f + 1);
        let field = field.filter(|&f| f < largest).with_context(|| format!("kernel {kernel}"))?;
        let mut window = Window::valid(kernel, stride, dilation);
        match shape[first + axis].to_usize() {
            Ok(input) => {
                ensure!(
                    input > 0 && input < largest,
                    "a spatial axis of size {input}; it must be at least 1 and below 2^31"
                );
                let computed = spec.padding.compute_one(axis, &input, kernel, dilation, stride);
                let output = computed.convoluted;
                // what windows of a ceil_mode may reach past the padding
                let spare = match &spec.padding {
                    PaddingSpec::ExplicitOnnxPool(_, _, true) => stride - 1,
                    _ => 0,
                };
                let padded = input + computed.pad_before + computed.pad_after;
                ensure!(
                    output > 0 && field <= padded + spare,
                    "a kernel of {field} is larger than the padded input {padded}; give the model a larger input size"
                );
                let reach = (output - 1) * stride + field;
                ensure_placed(&spec.padding, input.saturating_sub(reach))?;
                window.before = computed.pad_before;
                window.after = reach.saturating_sub(input + window.before);
                window.overhangs = window.after > computed.pad_after;
                window.asked_after = computed.pad_after;
                window.sizes = Some((input, output));
            }
            Err(_) => match &spec.padding {
                PaddingSpec::Valid => {}
                PaddingSpec::Explicit(before, after)
                | PaddingSpec::ExplicitOnnxPool(before, after, false) => {
                    (window.before, window.after) = (before[axis], after[axis]);
                }
                PaddingSpec::SameUpper => {
                    ensure_placed(&spec.padding, stride.saturating_sub(field))?;
                    window.same = true;
                }
                PaddingSpec::SameLower => {
                    ensure!(
                        stride == 1 && field % 2 == 1,
                        refusal::unknown_size(
                            "SAME_LOWER padding of a spatial axis of unknown size"
                        )
                    );
                    window.same = true;
                }
                PaddingSpec::ExplicitOnnxPool(..) => {
                    return Err(refusal::unknown_size(
                        "ceil_mode over a spatial axis of unknown size",
                    ));
                }
            },
        }
        windows.push(window);
    }
    if windows.len() == 1 {
        windows.insert(0, Window::UNIT);
    }
    Ok(windows)
}

/// Where windows under SAME padding leave two pixels or more out, TFLite leaves out the last ones; onnxruntime
/// some at either end.
fn ensure_placed(padding: &PaddingSpec, left_out: usize) -> Result<()> {
    let same = matches!(padding, PaddingSpec::SameUpper | PaddingSpec::SameLower);
    ensure!(
        !same || left_out < 2,
        "SAME padding of windows that leave {left_out} pixels out; export with explicit pads"
    );
    Ok(())
}

/// TFLite's padding that gives exactly these windows, if there is one.
pub fn builtin_padding(windows: &[Window]) -> Option<Padding> {
    if windows.iter().all(Window::is_valid) {
        Some(Padding::Valid)
    } else if windows.iter().all(Window::is_same) {
        Some(Padding::Same)
    } else {
        None
    }
}

/// Channels-last `x` with the windows' padding made explicit, of zeros or of `value`.
///
/// # Errors
/// SAME padding along an axis of unknown size beside one that TFLite's SAME does not fit.
pub fn pad(
    ctx: &mut LowerContext,
    name: &str,
    x: TensorId,
    shape: &[TDim],
    windows: &[Window],
    value: Option<f32>,
) -> Result<TensorId> {
    if windows.iter().all(Window::is_valid) {
        return Ok(x);
    }
    ensure!(
        !windows.iter().any(|w| w.same),
        refusal::unknown_size("SAME padding of a spatial axis of unknown size")
    );
    let mut paddings = vec![0i32; 2 * shape.len()];
    for (axis, window) in (1..).zip(windows) {
        paddings[2 * axis] = i32::try_from(window.before)?;
        paddings[2 * axis + 1] = i32::try_from(window.after)?;
    }
    let padded = padded_shape(shape, windows);
    let paddings = tract::Tensor::from_shape(&[shape.len(), 2], &paddings)?;
    let mut inputs = vec![x, ctx.add_constant(&format!("{name}/paddings"), &paddings)?];
    if let Some(value) = value {
        inputs.push(ctx.add_constant(&format!("{name}/border"), &tract::tensor0(value))?);
    }
    let element = ctx.graph.tensors[x].element;
    Ok(ctx.emit(&format!("{name}/pad"), LiteOp::Pad, &inputs, element, &padded))
}

/// The shape of what [`pad`] makes.
pub fn padded_shape(shape: &[TDim], windows: &[Window]) -> Vec<TDim> {
    let mut padded = shape.to_vec();
    for (axis, window) in (1..).zip(windows) {
        padded[axis] = shape[axis].clone() + window.before + window.after;
    }
    padded
}

/// What one tap of each window along the axes of `taps` sees, at all places of the padded `x`; of `shape`.
pub fn tap_slice(
    ctx: &mut LowerContext,
    name: &str,
    x: TensorId,
    shape: &[TDim],
    taps: &[(usize, &Window, usize)],
) -> Result<TensorId> {
    let rank = shape.len();
    let (mut begin, mut end, mut strides) = (vec![0i32; rank], vec![0i32; rank], vec![1; rank]);
    let all = (1u32 << rank) - 1;
    let (mut begin_mask, mut end_mask) = (all, all);
    for &(axis, window, tap) in taps {
        let first = tap * window.dilation;
        begin[axis] = i32::try_from(first)?;
        begin_mask &= !(1 << axis);
        strides[axis] = i32::try_from(window.stride)?;
        let behind = window.field() - 1 - first;
        if behind > 0 {
            end[axis] = -i32::try_from(behind)?;
            end_mask &= !(1 << axis);
        }
    }
    let mut inputs = vec![x];
    for (label, values) in [("begin", begin), ("end", end), ("strides", strides)] {
        inputs.push(ctx.add_i32_constant(&format!("{name}/{label}"), &values));
    }
    let op = LiteOp::StridedSlice {
        begin_mask,
        end_mask,
        shrink_axis_mask: 0,
        new_axis_mask: 0,
        ellipsis_mask: 0,
    };
    Ok(ctx.emit(&format!("{name}/tap"), op, &inputs, ElementType::F32, shape))
}

/// A shape of `format` as N, two or more spatial axes, C.
pub fn channels_last_shape(shape: &[TDim], format: DataFormat) -> Vec<TDim> {
    let mut all = shape.to_vec();
    if !format.has_n() {
        all.insert(0, TDim::from(1));
    }
    if !format.c_is_last() {
        let channels = all.remove(1);
        all.push(channels);
    }
    if all.len() == 3 {
        all.insert(1, TDim::from(1));
    }
    all
}

/// `outlet` as float32 of N, two or more spatial axes, C; with its shape.
pub fn channels_last(
    ctx: &mut LowerContext,
    name: &str,
    outlet: OutletId,
    format: DataFormat,
) -> Result<(TensorId, Vec<TDim>)> {
    let mut shape = ctx.shape(outlet)?;
    let target = channels_last_shape(&shape, format);
    let mut x = ctx.tensor_as(outlet, ElementType::F32)?;
    if !format.has_n() {
        let mut batched = shape.clone();
        batched.insert(0, TDim::from(1));
        x = ctx.reshape(&format!("{name}/batched"), x, &shape, &batched)?;
        shape = batched;
    }
    if !format.c_is_last() {
        let order: Vec<usize> = [0].into_iter().chain(2..shape.len()).chain([1]).collect();
        x = ctx.transpose(&format!("{name}/nhwc"), x, &shape, &order);
        shape = order.iter().map(|&axis| shape[axis].clone()).collect();
    }
    let x = ctx.reshape(&format!("{name}/plane"), x, &shape, &target)?;
    Ok((x, target))
}

/// The inverse of [`channels_last`]: `tensor` is `node`'s result, N, spatial axes, C.
pub fn bind_channels_last(
    ctx: &mut LowerContext,
    node: &TypedNode,
    tensor: TensorId,
    format: DataFormat,
) -> Result<()> {
    let result = ctx.shape(OutletId::new(node.id, 0))?;
    let mut shape = channels_last_shape(&result, format);
    let name = &node.name;
    let mut tensor = tensor;
    if result.len() + usize::from(!format.has_n()) == 3 {
        let line: Vec<TDim> = [&shape[..1], &shape[2..]].concat();
        tensor = ctx.reshape(&format!("{name}/line"), tensor, &shape, &line)?;
        shape = line;
    }
    if !format.c_is_last() {
        let rank = shape.len();
        let order: Vec<usize> = [0, rank - 1].into_iter().chain(1..rank - 1).collect();
        tensor = ctx.transpose(&format!("{name}/nchw"), tensor, &shape, &order);
        shape = order.iter().map(|&axis| shape[axis].clone()).collect();
    }
    let tensor = ctx.reshape(&format!("{name}/unbatched"), tensor, &shape, &result)?;
    let element = ctx.element(OutletId::new(node.id, 0))?;
    let tensor = ctx.cast(name, tensor, element);
    ctx.bind(node, tensor);
    Ok(())
}

/// A pool or convolution of channels-last data, as tract has it.
pub fn channels_last_spec(
    kernel: &[usize],
    padding: Padding,
    strides: &[usize],
    dilations: &[usize],
    channels: [usize; 2],
) -> PoolSpec {
    let padding = match padding {
        Padding::Same => PaddingSpec::SameUpper,
        Padding::Valid => PaddingSpec::Valid,
    };
    PoolSpec::new(
        DataFormat::NHWC,
        kernel.into(),
        padding,
        Some(dilations.into()),
        Some(strides.into()),
        channels[0],
        channels[1],
    )
}

pub fn write_padding(padding: Padding) -> crate::format::tflite::Padding {
    match padding {
        Padding::Same => crate::format::tflite::Padding::Same,
        Padding::Valid => crate::format::tflite::Padding::Valid,
    }
}

pub fn read_padding(padding: crate::format::tflite::Padding) -> Padding {
    match padding {
        crate::format::tflite::Padding::Same => Padding::Same,
        crate::format::tflite::Padding::Valid => Padding::Valid,
    }
}

/// An option of a file that must be positive.
pub fn positive(what: &str, value: i32) -> Result<usize> {
    usize::try_from(value).ok().filter(|&v| v > 0).with_context(|| format!("{what} {value}"))
}

/// An option for a file.
pub fn option(value: usize) -> Result<i32> {
    i32::try_from(value).context("a stride, dilation or size over 2^31")
}
