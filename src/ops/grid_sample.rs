//! GridSample, which TFLite lacks: coordinates by arithmetic, a GATHER for each pixel that takes part.

use super::compose::Chain;
use super::window::channels_last_shape;
use super::*;
use crate::graph::{BinaryOp, UnaryOp};
use crate::tract::ops::nn::DataFormat;
use crate::tract::ops::nn::grid_sample::{GridSample, InterpolationMode, PaddingMode};

/// float32 counts pixels exactly up to here.
const MOST_PIXELS: usize = 1 << 24;

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(op) = node.op_as::<GridSample>() else { return Ok(None) };
    let element = ctx.element(node.inputs[0])?;
    let float = |e| matches!(e, ElementType::F32 | ElementType::F16);
    let of_floats = float(element) && float(ctx.element(node.inputs[1])?);
    ensure!(of_floats, refusal::of_type("GridSample", element));
    let shape = ctx.shape(node.inputs[0])?;
    let result = ctx.shape(OutletId::new(node.id, 0))?;
    let axes = shape.len().checked_sub(2).filter(|n| (1..=3).contains(n));
    let axes = axes.with_context(|| format!("GridSample of rank {}", shape.len()))?;
    let cubic = op.mode == InterpolationMode::Bicubic;
    ensure!(!cubic || axes == 2, "a cubic GridSample over {axes} axes; use the linear mode");
    // the reference bounds the coordinates, onnxruntime and PyTorch the pixels alone
    ensure!(
        !cubic || op.padding_mode != PaddingMode::Border,
        "a cubic GridSample with border padding, which runtimes compute differently; use the linear mode or \
         zeros"
    );
    let sizes: Option<Vec<usize>> =
        shape[2..].iter().map(|d| d.to_usize().ok().filter(|&n| n > 0)).collect();
    let sizes = sizes
        .ok_or_else(|| refusal::unknown_size("GridSample of a picture of unknown or no size"))?;
    let pixels = sizes.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let pixels = pixels
        .filter(|&n| n <= MOST_PIXELS)
        .ok_or_else(|| refusal::too_large("the pixels of GridSample"))?;
    let name = &node.name;

    let order: Vec<usize> = [0].into_iter().chain(2..shape.len()).chain([1]).collect();
    let last = channels_last_shape(&shape, DataFormat::NCHW);
    let last = if axes == 1 { [&last[..1], &last[2..]].concat() } else { last };
    let x = ctx.tensor_as(node.inputs[0], ElementType::F32)?;
    let x = ctx.transpose(&format!("{name}/nhwc"), x, &shape, &order);
    let (batch, channels) = (shape[0].clone(), shape[1].clone());
    let rows = [batch.clone(), TDim::from(pixels), channels.clone()];
    let x = ctx.reshape(&format!("{name}/pixels"), x, &last, &rows)?;

    let grid_shape = ctx.shape(node.inputs[1])?;
    let grid = ctx.tensor_as(node.inputs[1], ElementType::F32)?;
    let places: TDim = grid_shape[1..=axes].iter().cloned().product();
    let points = [batch.clone(), places.clone(), TDim::from(axes)];
    let grid = ctx.reshape(&format!("{name}/grid"), grid, &grid_shape, &points)?;

    let column = [batch.clone(), places.clone(), TDim::from(1)];
    let mut coordinates = vec![];
    for (axis, &size) in sizes.iter().enumerate() {
        // the grid has x before y before z
        let begin = [0, 0, i32::try_from(axes - 1 - axis)?];
        let begin = ctx.add_i32_constant(&format!("{name}/begin"), &begin);
        let one = ctx.add_i32_constant(&format!("{name}/size"), &[-1, -1, 1]);
        let inputs = [grid, begin, one];
        let label = format!("{name}/coordinate");
        let value = ctx.emit(&label, LiteOp::Slice, &inputs, ElementType::F32, &column);
        let mut chain = Chain::new(ctx, &label, ElementType::F32, &column);
        coordinates.push(pixel_coordinate(&mut chain, op, value, size)?);
    }
    let mut chain = Chain::new(ctx, &format!("{name}/weights"), ElementType::F32, &column);
    if op.mode == InterpolationMode::Nearest {
        coordinates.iter_mut().for_each(|c| *c = chain.unary(UnaryOp::Round, *c));
    }
    let coordinates = bring_inside(&mut chain, op, coordinates, &sizes)?;
    let mut taps = vec![];
    let mut stride = pixels;
    for (&coordinate, &size) in coordinates.iter().zip(&sizes) {
        stride /= size;
        taps.push(axis_taps(&mut chain, op, coordinate, size, stride)?);
    }
    let corners = taps.iter().fold(vec![None], |so_far: Vec<Option<Tap>>, axis| {
        let joined = so_far.iter().flat_map(|corner| axis.iter().map(move |tap| (corner, tap)));
        let joined: Vec<_> = joined.collect();
        joined.into_iter().map(|(corner, tap)| Some(join(&mut chain, corner, tap))).collect()
    });

    let sampled = [batch.clone(), places.clone(), channels.clone()];
    let mut sum = None;
    for corner in corners.into_iter().flatten() {
        let index = ctx.cast(&format!("{name}/index"), corner.place, ElementType::I32);
        let flat = [batch.clone(), places.clone()];
        let index = ctx.reshape(&format!("{name}/index"), index, &column, &flat)?;
        let gather = LiteOp::Gather { axis: 1, batch_dims: 1 };
        let label = format!("{name}/sampled");
        let mut value = ctx.emit(&label, gather, &[x, index], ElementType::F32, &sampled);
        let mut chain = Chain::new(ctx, &label, ElementType::F32, &sampled);
        if let Some(weight) = corner.weight {
            value = chain.binary(BinaryOp::Mul, value, weight);
        }
        sum = Some(match sum {
            None => value,
            Some(sum) => chain.binary(BinaryOp::Add, sum, value),
        });
    }
    let sum = sum.context("GridSample of no pixels")?;
    let spread: Vec<TDim> = [&result[..1], &result[2..], &result[1..2]].concat();
    let y = ctx.reshape(&format!("{name}/nhwc"), sum, &sampled, &spread)?;
    let back: Vec<usize> = [0, axes + 1].into_iter().chain(1..=axes).collect();
    let y = ctx.transpose(name, y, &spread, &back);
    let y = ctx.cast(name, y, element);
    ctx.bind(node, y);
    Ok(Some(()))
}

/// One pixel that takes part: its place in the flattened picture and what it counts; 1 where that is not said.
#[derive(Debug, Clone)]
struct Tap {
    place: TensorId,
    weight: Option<TensorId>,
}

fn join(chain: &mut Chain, corner: &Option<Tap>, tap: &Tap) -> Tap {
    let Some(corner) = corner else { return tap.clone() };
    let weight = match (corner.weight, tap.weight) {
        (Some(a), Some(b)) => Some(chain.binary(BinaryOp::Mul, a, b)),
        (a, b) => a.or(b),
    };
    Tap { place: chain.binary(BinaryOp::Add, corner.place, tap.place), weight }
}

/// −1 and 1 are the middles of the border pixels, or the borders.
fn pixel_coordinate(
    chain: &mut Chain,
    op: &GridSample,
    value: TensorId,
    size: usize,
) -> Result<TensorId> {
    let one = chain.scalar(1.0)?;
    let shifted = chain.binary(BinaryOp::Add, value, one);
    let half = chain.scalar(0.5)?;
    if op.align_corners {
        let span = chain.scalar(size as f32 - 1.0)?;
        let halved = chain.binary(BinaryOp::Mul, shifted, half);
        return Ok(chain.binary(BinaryOp::Mul, halved, span));
    }
    let size = chain.scalar(size as f32)?;
    let scaled = chain.binary(BinaryOp::Mul, shifted, size);
    let centred = chain.binary(BinaryOp::Sub, scaled, one);
    Ok(chain.binary(BinaryOp::Mul, centred, half))
}

fn bounds(op: &GridSample, size: usize) -> (f32, f32) {
    match op.align_corners {
        true => (0.0, size as f32 - 1.0),
        false => (-0.5, size as f32 - 0.5),
    }
}

/// As onnxruntime does it: where one coordinate of a point is out of bounds, all are padded.
fn bring_inside(
    chain: &mut Chain,
    op: &GridSample,
    coordinates: Vec<TensorId>,
    sizes: &[usize],
) -> Result<Vec<TensorId>> {
    if op.padding_mode == PaddingMode::Zeros {
        return Ok(coordinates);
    }
    let mut outside = None;
    for (&coordinate, &size) in coordinates.iter().zip(sizes) {
        let (low, high) = bounds(op, size);
        for (limit, comparison) in [(low, BinaryOp::Less), (high, BinaryOp::Greater)] {
            let limit = chain.scalar(limit)?;
            let beyond = chain.compare(comparison, coordinate, limit);
            outside = Some(match outside {
                None => beyond,
                Some(other) => chain.compare(BinaryOp::LogicalOr, other, beyond),
            });
        }
    }
    let outside = outside.context("GridSample of no axes")?;
    coordinates
        .into_iter()
        .zip(sizes)
        .map(|(coordinate, &size)| {
            let padded = match op.padding_mode {
                PaddingMode::Border | PaddingMode::Zeros => clamp(chain, coordinate, size)?,
                PaddingMode::Reflection => reflect(chain, op, coordinate, size)?,
            };
            Ok(chain.select(outside, padded, coordinate))
        })
        .collect()
}

fn clamp(chain: &mut Chain, x: TensorId, size: usize) -> Result<TensorId> {
    let (low, high) = (chain.scalar(0.0)?, chain.scalar(size as f32 - 1.0)?);
    let x = chain.binary(BinaryOp::Maximum, x, low);
    Ok(chain.binary(BinaryOp::Minimum, x, high))
}

/// There and back between the bounds, as often as it takes.
fn reflect(chain: &mut Chain, op: &GridSample, x: TensorId, size: usize) -> Result<TensorId> {
    let (low, high) = bounds(op, size);
    let low_scalar = chain.scalar(low)?;
    if high == low {
        let zero = chain.scalar(0.0)?;
        let nothing = chain.binary(BinaryOp::Mul, x, zero);
        return Ok(chain.binary(BinaryOp::Add, nothing, low_scalar));
    }
    let there_and_back = chain.scalar(2.0 * (high - low))?;
    let from_low = chain.binary(BinaryOp::Sub, x, low_scalar);
    let there = chain.binary(BinaryOp::FloorMod, from_low, there_and_back);
    let back = chain.binary(BinaryOp::Sub, there_and_back, there);
    let distance = chain.binary(BinaryOp::Minimum, there, back);
    Ok(chain.binary(BinaryOp::Add, distance, low_scalar))
}

/// The pixels along one axis that a coordinate lies between.
fn axis_taps(
    chain: &mut Chain,
    op: &GridSample,
    coordinate: TensorId,
    size: usize,
    stride: usize,
) -> Result<Vec<Tap>> {
    let (floor, fraction) = match op.mode {
        InterpolationMode::Nearest => (coordinate, None),
        InterpolationMode::Bilinear | InterpolationMode::Bicubic => {
            let floor = chain.unary(UnaryOp::Floor, coordinate);
            (floor, Some(chain.binary(BinaryOp::Sub, coordinate, floor)))
        }
    };
    let weights = match (&op.mode, fraction) {
        (InterpolationMode::Bilinear, Some(fraction)) => {
            let one = chain.scalar(1.0)?;
            vec![(0, Some(chain.binary(BinaryOp::Sub, one, fraction))), (1, Some(fraction))]
        }
        (InterpolationMode::Bicubic, Some(fraction)) => cubic_weights(chain, fraction)?,
        _ => vec![(0, None)],
    };
    weights
        .into_iter()
        .map(|(step, weight)| {
            let place = match step {
                0 => floor,
                _ => {
                    let step = chain.scalar(step as f32)?;
                    chain.binary(BinaryOp::Add, floor, step)
                }
            };
            let inside = match op.padding_mode {
                PaddingMode::Reflection => {
                    let reflected = reflect(chain, op, place, size)?;
                    clamp(chain, reflected, size)?
                }
                PaddingMode::Zeros | PaddingMode::Border => clamp(chain, place, size)?,
            };
            let weight = match op.padding_mode {
                PaddingMode::Zeros => {
                    let is_inside = chain.compare(BinaryOp::Equal, place, inside);
                    let zero = chain.scalar(0.0)?;
                    let one = chain.scalar(1.0)?;
                    Some(chain.select(is_inside, weight.unwrap_or(one), zero))
                }
                PaddingMode::Border | PaddingMode::Reflection => weight,
            };
            let place = match stride {
                1 => inside,
                _ => {
                    let stride = chain.scalar(stride as f32)?;
                    chain.binary(BinaryOp::Mul, inside, stride)
                }
            };
            Ok(Tap { place, weight })
        })
        .collect()
}

/// Keys' cubic convolution with a = −0.75, for the pixels from one before to two after.
fn cubic_weights(chain: &mut Chain, fraction: TensorId) -> Result<Vec<(i32, Option<TensorId>)>> {
    const A: f32 = -0.75;
    let one = chain.scalar(1.0)?;
    let rest = chain.binary(BinaryOp::Sub, one, fraction);
    let mut weights = vec![];
    for (step, distance, near) in
        [(-1, fraction, false), (0, fraction, true), (1, rest, true), (2, rest, false)]
    {
        // polynomials of the distance to the nearer pixel, highest power first
        let coefficients = match near {
            true => [A + 2.0, -(A + 3.0), 0.0, 1.0],
            false => [A, -2.0 * A, A, 0.0],
        };
        let mut value = chain.scalar(coefficients[0])?;
        for &coefficient in &coefficients[1..] {
            value = chain.binary(BinaryOp::Mul, value, distance);
            if coefficient != 0.0 {
                let coefficient = chain.scalar(coefficient)?;
                value = chain.binary(BinaryOp::Add, value, coefficient);
            }
        }
        weights.push((step, Some(value)));
    }
    Ok(weights)
}
