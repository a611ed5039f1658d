//! Convolutions: filters are HWIO here, and what TensorFlow's kernels lack is put together.

use super::matmul::{biased, fused_or_biased};
use super::read_context::{BlockConvolution, Form, is_channels_first};
use super::*;

pub fn write(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    match &node.op {
        LiteOp::Conv2D { padding, strides, dilations, activation } => {
            let window = Window { padding: *padding, strides, dilations };
            conv(ctx, node, window, *activation)
        }
        LiteOp::DepthwiseConv2D { padding, strides, dilations, multiplier, activation } => {
            let window = Window { padding: *padding, strides, dilations };
            depthwise(ctx, node, window, *multiplier, *activation)
        }
        LiteOp::Conv3D { padding, strides, dilations, activation } => {
            let window = Window { padding: *padding, strides, dilations: &[1, 1, 1] };
            let x = ctx.input(node, 0)?;
            let filter = dilated_filter(ctx, node, dilations)?;
            let attributes = window.attributes("NDHWC");
            let value = ctx.add("Conv3D", &[x, filter], &attributes);
            let value = biased(ctx, node, 2, value)?;
            ctx.bind_activated(node, *activation, value)
        }
        LiteOp::TransposeConv { padding, strides, activation } => {
            let window = Window { padding: *padding, strides, dilations: &[1, 1] };
            let sizes = ctx.input(node, 0)?;
            let filter = filter(ctx, node, 1, &[1, 2, 0, 3], |s| s.to_vec())?;
            let x = ctx.input(node, 2)?;
            let attributes = window.attributes("NHWC");
            let value = ctx.add("Conv2DBackpropInput", &[sizes, filter, x], &attributes);
            let value = biased(ctx, node, 3, value)?;
            ctx.bind_activated(node, *activation, value)
        }
        other => bail!("{} is no convolution", other.name()),
    }
}

struct Window<'a> {
    padding: Padding,
    strides: &'a [usize],
    dilations: &'a [usize],
}

impl Window<'_> {
    fn attributes(&self, layout: &'static str) -> Vec<(&'static str, Attribute)> {
        vec![
            ("T", Attribute::Type(ElementType::F32)),
            ("strides", whole(self.strides)),
            ("dilations", whole(self.dilations)),
            ("padding", padding_name(self.padding)),
            ("data_format", Attribute::Text(layout)),
        ]
    }

    fn check_js(&self) -> Result<()> {
        let plain = |steps: &[usize]| steps.iter().all(|&step| step == 1);
        ensure!(
            plain(self.strides) || plain(self.dilations),
            "TensorFlow.js has no convolution with both strides and dilations"
        );
        Ok(())
    }
}

/// Steps of the spatial axes as steps of all.
pub fn whole(spatial: &[usize]) -> Attribute {
    let spatial = spatial.iter().map(|&step| step as i64);
    Attribute::Ints(std::iter::once(1).chain(spatial).chain([1]).collect())
}

pub fn padding_name(padding: Padding) -> Attribute {
    Attribute::Text(match padding {
        Padding::Same => "SAME",
        Padding::Valid => "VALID",
    })
}

/// Input `index` with its axes in the order `order`, then in the shape that `to` makes of theirs.
fn filter(
    ctx: &mut GraphDefContext,
    node: &Node,
    index: usize,
    order: &[usize],
    to: impl Fn(&[usize]) -> Vec<usize>,
) -> Result<GraphDefValue> {
    let tensor = ctx.input_tensor(node, index)?;
    let shape = tensor.known_shape().context("a filter of unknown size")?;
    ensure!(shape.len() == order.len(), "a filter of rank {}", shape.len());
    let moved: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
    let shape = to(&moved);
    if let Some(filter) = ctx.weight(node, index, order, &shape)? {
        return Ok(filter);
    }
    let (element, mut value) = (tensor.element, ctx.input(node, index)?);
    if !order.is_sorted() {
        value = super::shape::transpose(ctx, value, element, order);
    }
    if shape != moved {
        let shape: Vec<i32> = shape.iter().map(|&n| n as i32).collect();
        value = ctx.reshape(value, element, &shape);
    }
    Ok(value)
}

/// The filter of volumes with zeros between its values: TensorFlow has no dilated convolution of volumes on CPUs.
fn dilated_filter(
    ctx: &mut GraphDefContext,
    node: &Node,
    dilations: &[usize; 3],
) -> Result<GraphDefValue> {
    let mut value = filter(ctx, node, 1, &[0, 1, 2, 3, 4], |s| s.to_vec())?;
    let Tensor { element, .. } = *ctx.input_tensor(node, 1)?;
    let shape = ctx.input_tensor(node, 1)?.known_shape().context("a filter of unknown size")?;
    let mut shape = shape.into_iter().map(i32::try_from).collect::<Result<Vec<i32>, _>>()?;
    for (axis, &dilation) in dilations.iter().enumerate() {
        let length = shape[axis];
        if dilation == 1 || length == 1 {
            continue;
        }
        let dilation = i32::try_from(dilation)?;
        let longer = length.checked_mul(dilation).context("a filter that is too long")?;
        let before: i32 = shape[..axis].iter().product();
        let after: i32 = shape[axis + 1..].iter().product();
        value = ctx.reshape(value, element, &[before, length, 1, after]);
        let zeros = ctx.i32_array(&[0, 0, 0, 0, 0, dilation - 1, 0, 0], &[4, 2]);
        let typed = ("T", Attribute::Type(element));
        let index = Attribute::Type(ElementType::I32);
        value = ctx.add("Pad", &[value, zeros], &[typed.clone(), ("Tpaddings", index.clone())]);
        value = ctx.reshape(value, element, &[before, longer, after]);
        shape[axis] = longer - dilation + 1;
        let [start, sizes] =
            [vec![0; 3], vec![before, shape[axis], after]].map(|numbers| ctx.i32_vector(&numbers));
        value = ctx.add("Slice", &[value, start, sizes], &[typed, ("Index", index)]);
        value = ctx.reshape(value, element, &shape);
    }
    Ok(value)
}

fn channels(ctx: &GraphDefContext, node: &Node) -> Result<usize> {
    let shape = &ctx.input_tensor(node, 0)?.shape;
    shape.last().and_then(Dim::known).context("channels of unknown number")
}

fn conv(
    ctx: &mut GraphDefContext,
    node: &Node,
    window: Window,
    activation: Activation,
) -> Result<()> {
    let (x, channels) = (ctx.input(node, 0)?, channels(ctx, node)?);
    let filter = filter(ctx, node, 1, &[1, 2, 3, 0], |s| s.to_vec())?;
    let depth = ctx.input_tensor(node, 1)?.shape.last().and_then(Dim::known).unwrap_or(0);
    ensure!(depth > 0 && channels % depth == 0, "{channels} channels in groups of {depth}");
    let groups = channels / depth;
    let attributes = window.attributes("NHWC");
    if ctx.is_js() {
        window.check_js()?;
        if groups > 1 {
            let value = grouped(ctx, x, filter, groups, &attributes);
            let value = biased(ctx, node, 2, value)?;
            return ctx.bind_activated(node, activation, value);
        }
    }
    let ops = ["Conv2D", "_FusedConv2D"];
    fused_or_biased(ctx, node, ops, [x, filter], &attributes, activation)
}

/// A convolution of each group of channels, for a target that has none of several.
fn grouped(
    ctx: &mut GraphDefContext,
    x: GraphDefValue,
    filter: GraphDefValue,
    groups: usize,
    attributes: &[(&'static str, Attribute)],
) -> GraphDefValue {
    let split = |ctx: &mut GraphDefContext, value| {
        let axis = ctx.i32_scalar(3);
        let element = Attribute::Type(ElementType::F32);
        let count = Attribute::Int(groups as i64);
        ctx.add("Split", &[axis, value], &[("T", element), ("num_split", count)])
    };
    let (x, filter) = (split(ctx, x), split(ctx, filter));
    let part = |value: GraphDefValue, output| GraphDefValue { node: value.node, output };
    let mut parts: Vec<GraphDefValue> = (0..groups)
        .map(|group| ctx.add("Conv2D", &[part(x, group), part(filter, group)], attributes))
        .collect();
    parts.push(ctx.i32_scalar(3));
    super::slice::concatenate(ctx, ElementType::F32, &parts)
}

fn depthwise(
    ctx: &mut GraphDefContext,
    node: &Node,
    window: Window,
    multiplier: usize,
    activation: Activation,
) -> Result<()> {
    let (x, channels) = (ctx.input(node, 0)?, channels(ctx, node)?);
    let order = [0, 1, 2, 3];
    let attributes = window.attributes("NHWC");
    if ctx.is_js() {
        window.check_js()?;
    } else if window.strides[0] != window.strides[1] || window.dilations != [1, 1] {
        // TensorFlow's depthwise kernel on CPUs has one stride and no dilations
        let filter = filter(ctx, node, 1, &order, |s| vec![s[1], s[2], 1, s[3]])?;
        let ops = ["Conv2D", "_FusedConv2D"];
        return fused_or_biased(ctx, node, ops, [x, filter], &attributes, activation);
    }
    let filter = filter(ctx, node, 1, &order, |s| vec![s[1], s[2], channels, multiplier])?;
    let ops = ["DepthwiseConv2dNative", "FusedDepthwiseConv2dNative"];
    fused_or_biased(ctx, node, ops, [x, filter], &attributes, activation)
}

/// A window that meets its borders with so many elements of zero.
#[derive(Debug, Clone, Copy)]
pub struct Padded {
    pub padding: [[i64; 2]; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
}

pub fn read(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let y = match node.op {
        "Conv2DBackpropInput" => read_transposed(ctx, node)?,
        "Conv3D" => read_volume(ctx, node)?,
        _ => read_window(ctx, node)?,
    };
    Ok(vec![y])
}

/// Numbers of the spatial axes among those of all axes; 1 where there are none.
pub fn spatial<const N: usize>(node: &GraphDefInput, name: &str) -> Result<[usize; N]> {
    let listed = node.ints(name);
    if listed.is_empty() {
        return Ok([1; N]);
    }
    ensure!(listed.len() == N + 2, "{name} {listed:?} for {N} axes of pixels");
    let first = if is_channels_first(node) { 2 } else { 1 };
    let rest_is_one = (0..N + 2).all(|i| (first..first + N).contains(&i) || listed[i] == 1);
    ensure!(rest_is_one, "{name} {listed:?} over batch or channels");
    let mut found = [0; N];
    for (place, value) in found.iter_mut().zip(&listed[first..]) {
        let size = usize::try_from(*value).ok().filter(|n| (1..1 << 20).contains(n));
        *place = size.with_context(|| format!("{name} {listed:?}"))?;
    }
    Ok(found)
}

/// The padding by name, or zeros put round `x` by its numbers.
pub fn read_padding(
    ctx: &mut GraphDefReader,
    node: &GraphDefInput,
    x: TensorId,
) -> Result<(TensorId, Padding)> {
    match node.text("padding") {
        "SAME" => Ok((x, Padding::Same)),
        "VALID" => Ok((x, Padding::Valid)),
        "EXPLICIT" => {
            let listed = node.ints("explicit_paddings");
            ensure!(listed.len() == 8, "{} numbers of padding", listed.len());
            let first = if is_channels_first(node) { 4 } else { 2 };
            let sides = &listed[first..first + 4];
            ensure!(sides.iter().all(|n| (0..1 << 20).contains(n)), "padding {sides:?}");
            let rows = [[0, 0], [sides[0], sides[1]], [sides[2], sides[3]], [0, 0]];
            Ok((ctx.pad(x, &rows, 0.0)?, Padding::Valid))
        }
        other => bail!("padding '{other}'"),
    }
}

fn read_window(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<TensorId> {
    let (x, filter) = (node.input(0)?, node.input(1)?);
    ensure!(ctx.rank(x) == 4 && ctx.rank(filter) == 4, "a convolution that is not of pictures");
    let (strides, dilations) = (spatial::<2>(node, "strides")?, spatial::<2>(node, "dilations")?);
    let is_depthwise = node.op.contains("Depthwise");
    let shape = ctx.graph.tensors[filter].known_shape().context("a filter of unknown size")?;
    let (weights, multiplier) = if is_depthwise {
        let outputs = shape[2].checked_mul(shape[3]).context("an impossible filter")?;
        let whole = [1, shape[0], shape[1], outputs];
        (ctx.reshaped_constant(filter, &whole)?, Some(shape[3]))
    } else {
        (ctx.transpose(filter, &[3, 0, 1, 2])?, None)
    };
    if let Some(&Form::Blocks { x, block, borders }) = ctx.form(x) {
        ensure!(
            node.text("padding") == "VALID"
                && strides == [1, 1]
                && dilations == [1, 1]
                && !is_channels_first(node)
                && node.texts("fused_ops").is_empty(),
            "a convolution of blocks with padding, strides or dilations of its own"
        );
        let (element, dims) = (ctx.element(x), ctx.shape(x).to_vec());
        let whole = BlockConvolution { x, block, borders, weights, bias: None, multiplier };
        return Ok(ctx.stand_in(Form::BlockConvolution(Box::new(whole)), element, dims));
    }
    let x = ctx.to_channels_last(node, x)?;
    let channels = ctx.known_dim(x, 3)?;
    let depth = shape[2];
    match is_depthwise {
        true => ensure!(depth == channels, "a filter for {depth} channels, not {channels}"),
        false => ensure!(
            depth > 0 && channels % depth == 0 && shape[3] % (channels / depth) == 0,
            "a filter of {depth} to {} channels for {channels}",
            shape[3]
        ),
    }
    let (x, padding) = read_padding(ctx, node, x)?;
    let y = windows(ctx, x, weights, None, multiplier, padding, strides, dilations)?;
    let y = super::activation::read_fused(ctx, node, y)?;
    ctx.from_channels_last(node, y)
}

/// The convolution of `x` with zeros round it.
pub fn convolve(
    ctx: &mut GraphDefReader,
    x: TensorId,
    weights: TensorId,
    bias: Option<TensorId>,
    multiplier: Option<usize>,
    window: Padded,
) -> Result<TensorId> {
    let Padded { padding, strides, dilations } = window;
    let mut same = strides == [1, 1];
    for axis in 0..2 {
        let kernel = ctx.known_dim(weights, axis + 1)?;
        let total = kernel.saturating_sub(1).saturating_mul(dilations[axis]) as i64;
        same &= padding[axis] == [total / 2, total - total / 2];
    }
    let (x, padding) = match same {
        true => (x, Padding::Same),
        false => (ctx.pad(x, &[[0, 0], padding[0], padding[1], [0, 0]], 0.0)?, Padding::Valid),
    };
    windows(ctx, x, weights, bias, multiplier, padding, strides, dilations)
}

#[expect(clippy::too_many_arguments, reason = "the parts of one op")]
fn windows(
    ctx: &mut GraphDefReader,
    x: TensorId,
    weights: TensorId,
    bias: Option<TensorId>,
    multiplier: Option<usize>,
    padding: Padding,
    strides: [usize; 2],
    dilations: [usize; 2],
) -> Result<TensorId> {
    let outputs = ctx.known_dim(weights, if multiplier.is_some() { 3 } else { 0 })?;
    let bias = match bias {
        Some(bias) => bias,
        None => ctx.zeros(outputs),
    };
    let mut shape = ctx.shape(x).to_vec();
    for axis in 0..2 {
        let kernel = ctx.known_dim(weights, axis + 1)?;
        ensure!(kernel > 0, "a window of no pixels");
        let field = (kernel - 1).checked_mul(dilations[axis]).context("an impossible window")?;
        let dim = &mut shape[axis + 1];
        *dim = match (&*dim, padding) {
            (Dim::Known(n), Padding::Same) => Dim::Known(n.div_ceil(strides[axis])),
            (Dim::Known(n), Padding::Valid) => {
                let rest = n.checked_sub(field + 1);
                let rest = rest.with_context(|| format!("a window of {} for {n}", field + 1))?;
                Dim::Known(rest / strides[axis] + 1)
            }
            (open, Padding::Same) if strides[axis] == 1 => open.clone(),
            (Dim::Symbol(text), Padding::Same) => {
                let stride = strides[axis];
                Dim::Symbol(format!("({text}+{})/{stride}", stride - 1))
            }
            (Dim::Symbol(text), Padding::Valid) => {
                Dim::Symbol(format!("({text}-{field}-1)/{}+1", strides[axis]))
            }
        };
    }
    shape[3] = Dim::Known(outputs);
    let activation = Activation::None;
    let op = match multiplier {
        Some(multiplier) => {
            LiteOp::DepthwiseConv2D { padding, strides, dilations, multiplier, activation }
        }
        None => LiteOp::Conv2D { padding, strides, dilations, activation },
    };
    let element = ctx.element(x);
    ctx.emit_shaped(op, &[x, weights, bias], element, shape)
}

fn read_transposed(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<TensorId> {
    let (mut sizes, filter, x) = (node.input(0)?, node.input(1)?, node.input(2)?);
    ensure!(ctx.rank(x) == 4 && ctx.rank(filter) == 4, "a convolution that is not of pictures");
    ensure!(spatial::<2>(node, "dilations")? == [1, 1], "dilations of a transposed convolution");
    let strides = spatial(node, "strides")?;
    let padding = match node.text("padding") {
        "SAME" => Padding::Same,
        "VALID" => Padding::Valid,
        other => bail!("padding '{other}' of a transposed convolution"),
    };
    sizes = ctx.as_i32(sizes)?;
    if is_channels_first(node) {
        let order = ctx.i32_vector(&[0, 2, 3, 1])?;
        sizes = ctx.emit(LiteOp::Gather { axis: 0, batch_dims: 0 }, &[sizes, order])?;
    }
    let weights = ctx.transpose(filter, &[2, 0, 1, 3])?;
    let x = ctx.to_channels_last(node, x)?;
    let bias = ctx.known_dim(weights, 0)?;
    let bias = ctx.zeros(bias);
    let op = LiteOp::TransposeConv { padding, strides, activation: Activation::None };
    let y = ctx.emit_as(op, &[sizes, weights, x, bias], ElementType::F32)?;
    ctx.from_channels_last(node, y)
}

fn read_volume(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<TensorId> {
    let (x, filter) = (node.input(0)?, node.input(1)?);
    ensure!(ctx.rank(x) == 5 && ctx.rank(filter) == 5, "a convolution that is not of volumes");
    let (strides, dilations) = (spatial(node, "strides")?, spatial(node, "dilations")?);
    let padding = match node.text("padding") {
        "SAME" => Padding::Same,
        "VALID" => Padding::Valid,
        other => bail!("padding '{other}' of volumes"),
    };
    let x = ctx.to_channels_last(node, x)?;
    let outputs = ctx.known_dim(filter, 4)?;
    ensure!(ctx.known_dim(filter, 3)? == ctx.known_dim(x, 4)?, "groups of a volume's channels");
    let bias = ctx.zeros(outputs);
    let op = LiteOp::Conv3D { padding, strides, dilations, activation: Activation::None };
    let y = ctx.emit(op, &[x, filter, bias])?;
    ctx.from_channels_last(node, y)
}
