//! Constants as the integers that the model stores them in.

use super::plan::Grid;
use crate::graph::{ElementType, Quantization, Tensor};
use crate::lower::StoredConstant;
use crate::quantize::parameters::{Parameters, Range};
use anyhow::{Context, Result, bail, ensure};

/// Numbers up to which quotients of reals and scales are off by rounding alone.
const ROUNDING: f32 = 1e-3;

/// Weights in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct IntegerWeights {
    /// int8 of zero point 0, or uint8.
    pub element: ElementType,
    pub data: Vec<u8>,
    /// One, or one a channel.
    pub scales: Vec<f32>,
    pub zero_point: i64,
}

impl IntegerWeights {
    pub fn quantization(&self, axis: usize) -> Quantization {
        self.along(axis, false)
    }

    /// With a list of scales along `axis` where there is one alone, too, if `listed`.
    pub fn along(&self, axis: usize, listed: bool) -> Quantization {
        match self.scales.as_slice() {
            &[scale] if !listed => Quantization::PerTensor { scale, zero_point: self.zero_point },
            scales => Quantization::PerChannel {
                scales: scales.to_vec(),
                zero_points: vec![0; scales.len()],
                axis,
            },
        }
    }
}

/// The integers of `tensor` with the scales of `stored`, those of several along `axis`.
///
/// # Errors
/// Why TFLite's integer weights cannot be these.
pub fn weights(tensor: &Tensor, stored: &StoredConstant, axis: usize) -> Result<IntegerWeights> {
    let values = tensor.f32_values().context("weights that are not constant")?;
    let shape = tensor.known_shape().context("weights of an open shape")?;
    let channels = *shape.get(axis).context("weights of too few axes")?;
    let count = stored.scales.len();
    ensure!(count == 1 || count == channels, "its weights have scales along another axis");
    let inner = shape[axis + 1..].iter().product::<usize>().max(1);
    let mut steps = Vec::with_capacity(values.len());
    for (place, &value) in values.iter().enumerate() {
        let scale = stored.scales[place / inner % channels.max(1) % count];
        let exact = if value == 0.0 { 0.0 } else { value / scale };
        let step = exact.round();
        ensure!((exact - step).abs() <= ROUNDING, "its weights are not those that are stored");
        steps.push(step as i32);
    }
    let scales = stored.scales.clone();
    if steps.iter().all(|step| (-128..=127).contains(step)) {
        let data = steps.iter().map(|&step| step as i8 as u8).collect();
        return Ok(IntegerWeights { element: ElementType::I8, data, scales, zero_point: 0 });
    }
    let shift = if stored.element == ElementType::I8 { 128 } else { 0 };
    let (&[zero_point], &[_]) = (stored.zero_points.as_slice(), stored.scales.as_slice()) else {
        bail!("its weights have a zero point beside 0 for each channel, which TFLite has not");
    };
    let zero_point = zero_point.saturating_add(shift);
    let shifted = steps.iter().map(|step| u8::try_from(step.saturating_add(zero_point)).ok());
    let data = shifted.collect::<Option<Vec<u8>>>();
    let data = data.context("its weights have more than eight bits")?;
    let zero_point = zero_point.into();
    Ok(IntegerWeights { element: ElementType::U8, data, scales, zero_point })
}

/// As [`weights`], whichever axis the scales are along.
pub fn along_any_axis(tensor: &Tensor, stored: &StoredConstant) -> Option<(IntegerWeights, usize)> {
    (0..tensor.shape.len()).find_map(|axis| Some((weights(tensor, stored, axis).ok()?, axis)))
}

/// The grid of a constant operand: the one it is stored on, or one of its own range.
pub fn grid_of(tensor: &Tensor, stored: Option<&StoredConstant>, like: Grid) -> Option<Grid> {
    let values = tensor.f32_values()?;
    let own = stored.and_then(|stored| {
        let (&[scale], &[zero_point]) = (stored.scales.as_slice(), stored.zero_points.as_slice())
        else {
            return None;
        };
        Grid::new(stored.element, scale, zero_point.into())
    });
    let holds = |grid: &Grid| {
        let [low, high] = grid.bounds();
        grid.element == like.element
            && values.iter().all(|v| {
                let step = (v / grid.scale).round() as i64;
                (low..=high).contains(&step.saturating_add(grid.zero_point))
            })
    };
    own.filter(holds).or_else(|| {
        let range = Range::of(values.iter().copied())?;
        let parameters = Parameters::of_range(range, like.activations());
        Some(Grid {
            element: like.element,
            scale: parameters.scale,
            zero_point: parameters.zero_point,
        })
    })
}

/// The bytes of a constant on a grid.
pub fn on_grid(tensor: &Tensor, grid: Grid) -> Option<Vec<u8>> {
    let values = tensor.f32_values()?;
    let parameters = Parameters { scale: grid.scale, zero_point: grid.zero_point };
    let [low, high] = grid.bounds();
    let integers = values.iter().map(|&v| parameters.quantize(v, low, high));
    Some(match grid.element {
        ElementType::I16 => integers.flat_map(|v| (v as i16).to_le_bytes()).collect(),
        _ => integers.map(|v| v as i8 as u8).collect(),
    })
}

/// Biases in steps of the input's scale times the weights'.
pub fn bias(tensor: &Tensor, scales: &[f32], wide: bool) -> Result<Vec<u8>> {
    let values = tensor.f32_values().context("its bias is computed")?;
    let count = scales.len().max(1);
    let mut data = vec![];
    for (place, &value) in values.iter().enumerate() {
        let scale = f64::from(*scales.get(place % count).context("no scale")?);
        let step = (f64::from(value) / scale).round();
        if wide {
            ensure!(step.abs() < (1u64 << 40) as f64, "its bias has more than 40 bits");
            data.extend((step as i64).to_le_bytes());
        } else {
            // the sum that it is added to needs the rest
            ensure!(step.abs() <= f64::from(1 << 30), "its bias has more than 30 bits");
            data.extend((step as i32).to_le_bytes());
        }
    }
    Ok(data)
}
