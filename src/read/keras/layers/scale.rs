//! What brings pictures and columns to a model's scale.

use super::normalization::scale_and_shift;
use super::*;

/// A number, or one for each channel.
fn numbers(value: &Value, default: f32) -> Option<Vec<f32>> {
    let value = if value.is_object() { &value["config"]["value"] } else { value };
    match value {
        Value::Null => Some(vec![default]),
        Value::Array(list) => {
            let lists = list.iter().map(|value| numbers(value, default));
            lists.collect::<Option<Vec<_>>>().map(|lists| lists.concat())
        }
        one => one.as_f64().map(|n| vec![n as f32]),
    }
}

pub fn rescaling(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let (scale, offset) = (c.value("scale").clone(), c.value("offset").clone());
    let scale = numbers(&scale, 1.0).with_context(|| format!("scale is {scale}"))?;
    let offset = numbers(&offset, 0.0).with_context(|| format!("offset is {offset}"))?;
    let axis = c.builder.rank(x) - 1;
    let length = scale.len().max(offset.len());
    let spread = |values: Vec<f32>| match values.as_slice() {
        [one] => vec![*one; length],
        _ => values,
    };
    let (scale, offset) = (spread(scale), spread(offset));
    ensure!(scale.len() == offset.len(), "{} scales and {} offsets", scale.len(), offset.len());
    if length == 1 {
        let name = c.named("scaled");
        let y = c.builder.with_scalar(&name, BinaryOp::Mul, x, scale[0])?;
        let name = c.named("shifted");
        return match offset[0] {
            0.0 => Ok(y),
            offset => c.builder.with_scalar(&name, BinaryOp::Add, y, offset),
        };
    }
    ensure!(c.known(x, axis)? == length, "{length} scales for {} channels", c.known(x, axis)?);
    scale_and_shift(c, x, axis, &scale, &offset)
}

/// `(x − mean) / max(√variance, 1e-7)` along some axes, by what was learned or given.
pub fn normalization(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    let rank = c.builder.rank(x);
    let axes = match c.value("axis") {
        Value::Null => vec![],
        Value::Array(list) if list.is_empty() => vec![],
        _ => c.axes("axis", rank, -1)?,
    };
    let given = c.value("mean");
    let (mean, variance) = match given.is_null() {
        true => (c.any_variable(0)?.f32_values()?, c.any_variable(1)?.f32_values()?),
        false => {
            let read = |key: &str| numbers(c.value(key), 0.0).with_context(|| key.to_string());
            (read("mean")?, read("variance")?)
        }
    };
    let mut shape = vec![1; rank];
    for &axis in &axes {
        shape[axis] = c.known(x, axis)?;
    }
    let count: usize = shape.iter().product();
    let spread = |values: Vec<f32>| match values.as_slice() {
        [one] => Some(vec![*one; count]),
        _ => (values.len() == count).then_some(values),
    };
    let (mean, variance) = spread(mean).zip(spread(variance)).with_context(|| {
        format!("means and variances that do not fit axes {axes:?} of its input")
    })?;
    let roots = variance.iter().map(|v| v.sqrt().max(1e-7));
    let invert = c.flag("invert", false);
    let values: Vec<(f32, f32)> = mean.into_iter().zip(roots).collect();
    let means: Vec<f32> = values.iter().map(|(mean, _)| *mean).collect();
    let roots: Vec<f32> = values.iter().map(|(_, root)| *root).collect();
    let name = c.named("mean");
    let mean = c.builder.f32s(&name, &shape, &means)?;
    let name = c.named("deviation");
    let root = c.builder.f32s(&name, &shape, &roots)?;
    let (first, second) = (c.named("first"), c.named("second"));
    match invert {
        true => {
            let y = c.builder.binary(&first, BinaryOp::Mul, x, root)?;
            c.builder.binary(&second, BinaryOp::Add, y, mean)
        }
        false => {
            let y = c.builder.binary(&first, BinaryOp::Sub, x, mean)?;
            c.builder.binary(&second, BinaryOp::Div, y, root)
        }
    }
}

pub fn resizing(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    c.ensure_rank(x, 4)?;
    let plain = ["crop_to_aspect_ratio", "pad_to_aspect_ratio", "antialias"];
    for key in plain {
        ensure!(!c.flag(key, false), "{key}=True; resize the pictures before the model");
    }
    let x = c.to_channels_last(x)?;
    let (height, width) = (c.size("height")?, c.size("width")?);
    let op = match c.text("interpolation").unwrap_or("bilinear") {
        "nearest" => LiteOp::ResizeNearest { align_corners: false, half_pixel_centers: true },
        "bilinear" => LiteOp::ResizeBilinear { align_corners: false, half_pixel_centers: true },
        other => bail!("interpolation '{other}'; use nearest or bilinear"),
    };
    let mut shape = c.builder.shape(x);
    (shape[1], shape[2]) = (Dim::Known(height), Dim::Known(width));
    let size = [i32::try_from(height)?, i32::try_from(width)?];
    let size = c.builder.i32s("size", &[2], &size)?;
    let name = c.named("resized");
    let y = c.builder.op(&name, op, &[x, size], shape)?;
    c.from_channels_last(y)
}

pub fn center_crop(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    c.ensure_rank(x, 4)?;
    let first = if c.channels_first() { 2 } else { 1 };
    let mut cut = vec![[0, 0]; 4];
    for (axis, key) in (first..).zip(["height", "width"]) {
        let (from, to) = (c.known(x, axis)?, c.size(key)?);
        let rest = from.checked_sub(to);
        let rest = rest.with_context(|| format!("{to} of {from} pixels; add a Resizing layer"))?;
        cut[axis] = [rest / 2, rest - rest / 2];
    }
    let name = c.named("cropped");
    c.builder.crop(&name, x, &cut)
}
