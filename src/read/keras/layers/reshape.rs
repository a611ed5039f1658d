//! The same values elsewhere: shapes, borders, repetition.

use super::*;

pub fn flatten(c: &mut Context) -> Result<TensorId> {
    let x = c.input()?;
    let shape = c.builder.shape(x);
    let x = c.to_channels_last(x)?;
    let name = c.named("flat");
    if shape.len() == 1 {
        return c.builder.reshape(&name, x, vec![shape[0].clone(), Dim::Known(1)]);
    }
    let mut size = 1usize;
    for axis in 1..shape.len() {
        size = size.checked_mul(c.known(x, axis)?).context("too many elements")?;
    }
    c.builder.reshape(&name, x, vec![shape[0].clone(), Dim::Known(size)])
}

pub fn reshape(c: &mut Context) -> Result<TensorId> {
    let x = c.input()?;
    let from = c.builder.shape(x);
    let listed = c.value("target_shape").as_array().context("target_shape is no list")?;
    let size = |size: &Value| if size.is_null() { Some(-1) } else { size.as_i64() };
    let target: Vec<i64> =
        listed.iter().map(size).collect::<Option<_>>().context("target_shape")?;
    let inner = from[1..].iter().map(Dim::known).try_fold(1usize, |n, dim| n.checked_mul(dim?));
    let mut shape = vec![from[0].clone()];
    for (at, &size) in target.iter().enumerate() {
        if size != -1 {
            shape.push(Dim::Known(usize::try_from(size)?));
            continue;
        }
        let others = target.iter().enumerate().filter(|(other, _)| *other != at);
        let mut others = others.map(|(_, &n)| usize::try_from(n).ok());
        let others = others.try_fold(1usize, |n, dim| n.checked_mul(dim?));
        let (inner, others) =
            inner.zip(others).filter(|(_, others)| *others > 0).with_context(|| {
                format!("from {} to {target:?}; give keras.Input its sizes", shape_text(&from))
            })?;
        ensure!(inner % others == 0, "from {} to {target:?}", shape_text(&from));
        shape.push(Dim::Known(inner / others));
    }
    let product = shape[1..].iter().map(Dim::known).try_fold(1usize, |n, dim| n.checked_mul(dim?));
    ensure!(inner.is_none() || inner == product, "from {} to {target:?}", shape_text(&from));
    let name = c.named("shaped");
    c.builder.reshape(&name, x, shape)
}

pub fn permute(c: &mut Context) -> Result<TensorId> {
    let x = c.input()?;
    let rank = c.builder.rank(x);
    let listed = c.value("dims").as_array().context("dims is no list")?;
    let dims = listed.iter().map(|d| d.as_u64().and_then(|d| usize::try_from(d).ok()));
    let mut order = vec![0];
    order.extend(dims.collect::<Option<Vec<_>>>().context("dims")?);
    let fits = order.len() == rank && (0..rank).all(|axis| order.contains(&axis));
    ensure!(fits, "dims {:?} of a value of rank {rank}", &order[1..]);
    let name = c.named("permuted");
    c.builder.transpose(&name, x, &order)
}

pub fn repeat_vector(c: &mut Context) -> Result<TensorId> {
    let x = c.float_input()?;
    c.ensure_rank(x, 2)?;
    let (count, width) = (c.size("n")?, c.known(x, 1)?);
    let mut shape = vec![c.builder.shape(x)[0].clone(), Dim::Known(1), Dim::Known(width)];
    let name = c.named("vector");
    let x = c.builder.reshape(&name, x, shape.clone())?;
    shape[1] = Dim::Known(count);
    let repeats = c.builder.i32s("repeats", &[3], &[1, i32::try_from(count)?, 1])?;
    let name = c.named("repeated");
    c.builder.op(&name, LiteOp::Tile, &[x, repeats], shape)
}

/// `[before, after]` for each axis: `1`, `[1, 2]`, or `[[1, 2], [3, 4]]`.
fn borders(c: &Context, key: &str, axes: usize) -> Result<Vec<[usize; 2]>> {
    let value = c.value(key);
    let wrong = || format!("{key} is {value}");
    let size =
        |v: &Value| v.as_u64().and_then(|n| usize::try_from(n).ok()).filter(|n| *n < 1 << 31);
    let one = |v: &Value| match v {
        Value::Array(pair) => Some([size(pair.first()?)?, size(pair.get(1)?)?]),
        one => size(one).map(|n| [n, n]),
    };
    let listed: Option<Vec<[usize; 2]>> = match value {
        Value::Array(list) if axes > 1 || list.iter().any(Value::is_array) => {
            list.iter().map(one).collect()
        }
        other => one(other).map(|border| vec![border; axes]),
    };
    listed.filter(|listed| listed.len() == axes).with_context(wrong)
}

pub fn zero_padding(c: &mut Context, axes: usize) -> Result<TensorId> {
    let x = c.float_input()?;
    let rows = rows(c, x, "padding", axes)?;
    let name = c.named("padded");
    c.builder.pad(&name, x, &rows, 0.0)
}

pub fn cropping(c: &mut Context, axes: usize) -> Result<TensorId> {
    let x = c.float_input()?;
    let rows = rows(c, x, "cropping", axes)?;
    let name = c.named("cropped");
    c.builder.crop(&name, x, &rows)
}

/// Borders for every axis of a value.
fn rows(c: &Context, x: TensorId, key: &str, axes: usize) -> Result<Vec<[usize; 2]>> {
    c.ensure_rank(x, axes + 2)?;
    let mut rows = vec![[0, 0]; axes + 2];
    let first = if c.channels_first() { 2 } else { 1 };
    rows[first..first + axes].copy_from_slice(&borders(c, key, axes)?);
    Ok(rows)
}

/// Not a setting of Keras, which has pixels' centers at halves.
pub const HALF_PIXEL_CENTERS: &str = "half_pixel_centers";

pub fn up_sampling(c: &mut Context, axes: usize) -> Result<TensorId> {
    let x = c.float_input()?;
    c.ensure_rank(x, axes + 2)?;
    let x = c.to_channels_last(x)?;
    let x = if axes == 1 { c.with_rows(x)? } else { x };
    let factors = c.sizes("size", axes, 2)?;
    let factors = if axes == 1 { [1, factors[0]] } else { [factors[0], factors[1]] };
    let mut shape = c.builder.shape(x);
    let mut sizes = [0; 2];
    for axis in 0..2 {
        let size = c.known(x, axis + 1)?.checked_mul(factors[axis]);
        sizes[axis] = i32::try_from(size.context("an impossible size")?)?;
        shape[axis + 1] = Dim::Known(sizes[axis] as usize);
    }
    let op = match c.text("interpolation").unwrap_or("nearest") {
        "nearest" => LiteOp::ResizeNearest { align_corners: false, half_pixel_centers: false },
        "bilinear" => {
            let half_pixel_centers = c.value(HALF_PIXEL_CENTERS).as_bool().unwrap_or(true);
            LiteOp::ResizeBilinear { align_corners: false, half_pixel_centers }
        }
        other => bail!("interpolation '{other}'; use nearest or bilinear"),
    };
    let target = c.builder.i32s("size", &[2], &sizes)?;
    let name = c.named("resized");
    let y = c.builder.op(&name, op, &[x, target], shape)?;
    let y = if axes == 1 { c.without_rows(y)? } else { y };
    c.from_channels_last(y)
}
