//! Convolutions: filters are HWIO here, and what TensorFlow's kernels lack is put together.

use super::matmul::{biased, fused_or_biased};
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
