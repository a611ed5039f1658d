//! Convolutions of one, two and three axes. Those of one axis are those of two with a row more.

use super::activation::activate;
use super::dense::transposed;
use super::*;

/// How a window moves over two axes.
struct Window {
    kernel: [usize; 2],
    strides: [usize; 2],
    dilations: [usize; 2],
    padding: Padding,
}

impl Window {
    /// The window of a layer of `axes` axes.
    fn of(c: &Context, axes: usize) -> Result<Window> {
        let pair = |key: &str, default: usize| -> Result<[usize; 2]> {
            let sizes = c.sizes(key, axes, default)?;
            Ok(if axes == 1 { [1, sizes[0]] } else { [sizes[0], sizes[1]] })
        };
        let padding = padding(c)?;
        let (strides, dilations) = (pair("strides", 1)?, pair("dilation_rate", 1)?);
        Ok(Window { kernel: pair("kernel_size", 1)?, strides, dilations, padding })
    }

    /// The result's sizes.
    fn result(&self, shape: &[Dim]) -> Result<Vec<Dim>> {
        let mut result = shape.to_vec();
        for axis in 0..2 {
            let field = (self.kernel[axis] - 1).checked_mul(self.dilations[axis]);
            let field = field.context("an impossible window")? + 1;
            result[axis + 1] = windows(&shape[axis + 1], field, self.strides[axis], self.padding)?;
        }
        Ok(result)
    }
}

/// How often a window of `field` pixels fits into `size` of them.
pub fn windows(size: &Dim, field: usize, stride: usize, padding: Padding) -> Result<Dim> {
    let Some(pixels) = size.known() else { return Ok(super::super::builder::open(size)) };
    let count = match padding {
        Padding::Same => Some(pixels.div_ceil(stride)),
        Padding::Valid => pixels.checked_sub(field).map(|rest| rest / stride + 1),
    };
    count.map(Dim::Known).with_context(|| format!("a window of {field} for {pixels} pixels"))
}

pub fn padding(c: &Context) -> Result<Padding> {
    Ok(match c.text("padding").or_else(|| c.text("border_mode")).unwrap_or("valid") {
        "same" => Padding::Same,
        "valid" | "causal" => Padding::Valid,
        other => bail!("padding '{other}'"),
    })
}

/// The input, channels last and with two axes of pixels; padded where a layer looks back only.
fn pixels(c: &mut Context, axes: usize) -> Result<TensorId> {
    let x = c.float_input()?;
    c.ensure_rank(x, axes + 2)?;
    let mut x = c.to_channels_last(x)?;
    if c.text("padding") == Some("causal") {
        ensure!(axes == 1, "padding 'causal' of {axes} axes");
        let (kernel, dilation) =
            (c.sizes("kernel_size", 1, 1)?[0], c.sizes("dilation_rate", 1, 1)?[0]);
        let before = (kernel - 1).checked_mul(dilation).context("an impossible window")?;
        let name = c.named("causal");
        x = c.builder.pad(&name, x, &[[0, 0], [before, 0], [0, 0]], 0.0)?;
    }
    if axes == 1 { c.with_rows(x) } else { Ok(x) }
}

/// Undoes [`pixels`], and activates.
fn finish(c: &mut Context, axes: usize, y: TensorId) -> Result<TensorId> {
    let y = if axes == 1 { c.without_rows(y)? } else { y };
    let y = activate(c, "activation", y)?;
    c.from_channels_last(y)
}

pub fn conv(c: &mut Context, axes: usize) -> Result<TensorId> {
    if axes == 3 {
        return conv_3d(c);
    }
    let x = pixels(c, axes)?;
    let window = Window::of(c, axes)?;
    let filters = c.size("filters")?;
    let groups = c.value("groups").as_u64().unwrap_or(1).max(1) as usize;
    let channels = c.known(x, 3)?;
    ensure!(
        channels % groups == 0 && filters % groups == 0,
        "{groups} groups of {channels} channels and {filters} filters"
    );
    let kernel = c.sizes("kernel_size", axes, 1)?;
    let from: Vec<usize> = kernel.into_iter().chain([channels / groups, filters]).collect();
    let to = [filters, window.kernel[0], window.kernel[1], channels / groups];
    let weights = transposed(c, 0, "kernel", &from, &to)?;
    let bias = c.bias(1, filters)?;
    let y = convolve(c, x, weights, bias, &window, filters)?;
    finish(c, axes, y)
}

fn convolve(
    c: &mut Context,
    x: TensorId,
    weights: TensorId,
    bias: TensorId,
    window: &Window,
    filters: usize,
) -> Result<TensorId> {
    let mut shape = window.result(&c.builder.shape(x))?;
    shape[3] = Dim::Known(filters);
    let op = LiteOp::Conv2D {
        padding: window.padding,
        strides: window.strides,
        dilations: window.dilations,
        activation: Activation::None,
    };
    let name = c.named("convolution");
    c.builder.op(&name, op, &[x, weights, bias], shape)
}

fn conv_3d(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    c.ensure_rank(x, 5)?;
    let x = c.to_channels_last(x)?;
    let filters = c.size("filters")?;
    ensure!(c.value("groups").as_u64().unwrap_or(1) == 1, "groups of three axes");
    let channels = c.known(x, 4)?;
    let triple = |key: &str| -> Result<[usize; 3]> {
        let sizes = c.sizes(key, 3, 1)?;
        Ok([sizes[0], sizes[1], sizes[2]])
    };
    let (kernel, strides, dilations) =
        (triple("kernel_size")?, triple("strides")?, triple("dilation_rate")?);
    let padding = padding(c)?;
    let mut shape = c.builder.shape(x);
    for axis in 0..3 {
        let field = (kernel[axis] - 1) * dilations[axis] + 1;
        shape[axis + 1] = windows(&shape[axis + 1], field, strides[axis], padding)?;
    }
    shape[4] = Dim::Known(filters);
    let weights_shape = [kernel[0], kernel[1], kernel[2], channels, filters];
    let data = c.variable(0, &weights_shape)?.f32_bytes()?;
    let name = c.named("kernel");
    let weights = c.builder.constant(&name, ElementType::F32, &weights_shape, || Ok(data))?;
    let bias = c.bias(1, filters)?;
    let op = LiteOp::Conv3D { padding, strides, dilations, activation: Activation::None };
    let name = c.named("convolution");
    let y = c.builder.op(&name, op, &[x, weights, bias], shape)?;
    let y = activate(c, "activation", y)?;
    c.from_channels_last(y)
}

/// The convolution of each channel by itself with variable 0.
fn per_channel(
    c: &mut Context,
    x: TensorId,
    axes: usize,
    window: &Window,
    bias: impl FnOnce(&mut Context, usize) -> Result<TensorId>,
) -> Result<TensorId> {
    let channels = c.known(x, 3)?;
    let multiplier = match c.value("depth_multiplier") {
        // TensorFlow.js leaves it out of separable convolutions
        Value::Null => c.layer.variables.first().and_then(|v| v.shape.last()).copied().unwrap_or(1),
        _ => c.size("depth_multiplier")?,
    };
    let outputs = channels.checked_mul(multiplier).context("an impossible depth_multiplier")?;
    let kernel = c.sizes("kernel_size", axes, 1)?;
    let from: Vec<usize> = kernel.into_iter().chain([channels, multiplier]).collect();
    let data = c.variable(0, &from)?.f32_bytes()?;
    let to = [1, window.kernel[0], window.kernel[1], outputs];
    let name = c.named("depthwise_kernel");
    let weights = c.builder.constant(&name, ElementType::F32, &to, || Ok(data))?;
    let bias = bias(c, outputs)?;
    let mut shape = window.result(&c.builder.shape(x))?;
    shape[3] = Dim::Known(outputs);
    let op = LiteOp::DepthwiseConv2D {
        padding: window.padding,
        strides: window.strides,
        dilations: window.dilations,
        multiplier,
        activation: Activation::None,
    };
    let name = c.named("depthwise");
    c.builder.op(&name, op, &[x, weights, bias], shape)
}

pub fn depthwise(c: &mut Context, axes: usize) -> Result<TensorId> {
    let x = pixels(c, axes)?;
    let window = Window::of(c, axes)?;
    let y = per_channel(c, x, axes, &window, |c, outputs| c.bias(1, outputs))?;
    finish(c, axes, y)
}

pub fn separable(c: &mut Context, axes: usize) -> Result<TensorId> {
    let x = pixels(c, axes)?;
    let window = Window::of(c, axes)?;
    let y = per_channel(c, x, axes, &window, |c, outputs| {
        let name = c.named("depthwise_bias");
        c.builder.f32s(&name, &[outputs], &vec![0.0; outputs])
    })?;
    let (inner, filters) = (c.known(y, 3)?, c.size("filters")?);
    let from: Vec<usize> = [1].repeat(axes).into_iter().chain([inner, filters]).collect();
    let weights = transposed(c, 1, "pointwise_kernel", &from, &[filters, 1, 1, inner])?;
    let bias = c.bias(2, filters)?;
    let one =
        Window { kernel: [1, 1], strides: [1, 1], dilations: [1, 1], padding: Padding::Valid };
    let y = convolve(c, y, weights, bias, &one, filters)?;
    finish(c, axes, y)
}

pub fn transpose(c: &mut Context, axes: usize) -> Result<TensorId> {
    let x = pixels(c, axes)?;
    let window = Window::of(c, axes)?;
    ensure!(window.dilations == [1, 1], "a dilation of a transposed convolution");
    ensure!(c.value("groups").as_u64().unwrap_or(1) == 1, "groups of a transposed convolution");
    let (channels, filters) = (c.known(x, 3)?, c.size("filters")?);
    let extra = match c.value("output_padding") {
        Value::Null => None,
        value => {
            let size = |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok());
            let sizes: Option<Vec<usize>> = match value {
                Value::Array(list) => list.iter().map(size).collect(),
                one => size(one).map(|n| vec![n; axes]),
            };
            let sizes = sizes.filter(|sizes| sizes.len() == axes);
            let sizes = sizes.with_context(|| format!("output_padding is {value}"))?;
            Some(if axes == 1 { [0, sizes[0]] } else { [sizes[0], sizes[1]] })
        }
    };
    let mut sizes = [0i64; 2];
    for axis in 0..2 {
        let size = c.known(x, axis + 1)? as i64;
        let (kernel, stride) = (window.kernel[axis] as i64, window.strides[axis] as i64);
        let written = size.checked_mul(stride).context("an impossible stride")?;
        let adds_nothing = axes == 1 && axis == 0;
        sizes[axis] = match (extra, window.padding) {
            (Some(extra), padding) if !adds_nothing => {
                let border = if padding == Padding::Same { kernel / 2 } else { 0 };
                written - stride + kernel - 2 * border + extra[axis] as i64
            }
            (_, Padding::Same) => written,
            (_, Padding::Valid) => written + (kernel - stride).max(0),
        };
        ensure!((1..1 << 31).contains(&sizes[axis]), "a result of {} pixels", sizes[axis]);
    }
    let (h, w) = (window.kernel[0], window.kernel[1]);
    let kernel = c.sizes("kernel_size", axes, 1)?;
    let from: Vec<usize> = kernel.into_iter().chain([filters, channels]).collect();
    let variable = c.variable(0, &from)?.f32_bytes()?;
    let name = c.named("kernel");
    let weights =
        c.builder.constant(&name, ElementType::F32, &[filters, h, w, channels], || {
            let rows = variable.chunks_exact((4 * channels).max(1)).collect::<Vec<_>>();
            let mut result = Vec::with_capacity(variable.len());
            for filter in 0..filters {
                (0..h * w).for_each(|tap| result.extend_from_slice(rows[tap * filters + filter]));
            }
            Ok(result.into())
        })?;
    let bias = c.bias(1, filters)?;
    let inner = [sizes[0] as i32, sizes[1] as i32, i32::try_from(filters)?];
    let target = target_shape(c, x, inner)?;
    let mut shape = c.builder.shape(x);
    for (dim, size) in shape[1..].iter_mut().zip(inner) {
        *dim = Dim::Known(size as usize);
    }
    let op = LiteOp::TransposeConv {
        padding: window.padding,
        strides: window.strides,
        activation: Activation::None,
    };
    let name = c.named("convolution");
    let y = c.builder.op(&name, op, &[target, weights, x, bias], shape)?;
    finish(c, axes, y)
}

/// The batch of `x` and the other sizes, as TRANSPOSE_CONV takes them.
fn target_shape(c: &mut Context, x: TensorId, inner: [i32; 3]) -> Result<TensorId> {
    if let Some(batch) = c.builder.shape(x)[0].known() {
        let sizes = [i32::try_from(batch)?, inner[0], inner[1], inner[2]];
        return c.builder.i32s("shape", &[4], &sizes);
    }
    let element = ElementType::I32;
    let (one, four) = (vec![Dim::Known(1)], vec![Dim::Known(4)]);
    let name = c.named("shape");
    let shape = c.builder.op_as(&name, LiteOp::Shape { element }, &[x], element, four.clone())?;
    let (begin, size) = (c.builder.i32s("begin", &[1], &[0])?, c.builder.i32s("size", &[1], &[1])?);
    let name = c.named("batch");
    let batch = c.builder.op_as(&name, LiteOp::Slice, &[shape, begin, size], element, one)?;
    let inner = c.builder.i32s("shape", &[3], &inner)?;
    let op = LiteOp::Concatenation { axis: 0, activation: Activation::None };
    let name = c.named("target");
    c.builder.op_as(&name, op, &[batch, inner], element, four)
}
