//! QUANTIZE of reals and DEQUANTIZE.

use super::*;

/// Scales and zero points along an axis; of a whole tensor there is one of each, and the axis does not count.
#[derive(Debug, Clone, PartialEq)]
pub struct Channels {
    pub scales: Vec<f32>,
    pub zero_points: Vec<i32>,
    pub axis: usize,
}

impl Channels {
    /// How many elements of a row-major tensor of `shape` follow each other with one scale.
    pub(super) fn run(&self, shape: &[usize]) -> TractResult<usize> {
        ensure!(self.scales.len() == self.zero_points.len() && !self.scales.is_empty(), "scales");
        if self.scales.len() == 1 {
            return Ok(shape.iter().product::<usize>().max(1));
        }
        let size = shape.get(self.axis);
        ensure!(size == Some(&self.scales.len()), "{} scales of {shape:?}", self.scales.len());
        Ok(shape[self.axis + 1..].iter().product::<usize>().max(1))
    }

    pub(super) fn of_run(&self, run: usize) -> (f32, i32) {
        let channel = run % self.scales.len();
        (self.scales[channel], self.zero_points[channel])
    }
}

/// float32 → integers: `round(x / scale) + zero_point`, halves away from zero, within the type.
#[derive(Debug, Clone, PartialEq)]
pub struct Quantize {
    pub datum: DatumType,
    pub channels: Channels,
}

impl Kernel for Quantize {
    fn name(&self) -> &'static str {
        "Quantize"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        Ok(like_first(self.datum, inputs))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let (shape, reals) = (inputs[0].shape(), slice::<f32>(&inputs[0])?);
        let run = self.channels.run(shape)?;
        let [low, high] = bounds(self.datum);
        with_integer!(self.datum, T => made::<T>(shape, |out| {
            for (i, (out, reals)) in out.chunks_mut(run).zip(reals.chunks(run)).enumerate() {
                let (scale, zero_point) = self.channels.of_run(i);
                for (out, real) in out.iter_mut().zip(reals) {
                    let rounded = (real / scale).round() as i32;
                    *out = T::narrow(rounded.saturating_add(zero_point).clamp(low, high));
                }
            }
            Ok(())
        }))
    }
}

/// Integers to those of another scale, by 32-bit fixed point.
#[derive(Debug, Clone, PartialEq)]
pub struct Requantization {
    /// The zero point of what is given.
    pub from: i32,
    pub multiplier: Multiplier,
    pub to: Affine,
}

impl Requantization {
    pub fn of(&self, x: i32) -> i32 {
        let [low, high] = self.to.bounds();
        let scaled = self.multiplier.apply(x.wrapping_sub(self.from));
        scaled.wrapping_add(self.to.zero_point).clamp(low, high)
    }
}

impl Kernel for Requantization {
    fn name(&self) -> &'static str {
        "Requantize"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        Ok(like_first(self.to.datum, inputs))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        with_integer!(inputs[0].datum_type(), X => {
            let integers = slice::<X>(&inputs[0])?;
            with_integer!(self.to.datum, Y => made::<Y>(inputs[0].shape(), |out| {
                for (out, &x) in out.iter_mut().zip(integers) {
                    *out = Y::narrow(self.of(x.into()));
                }
                Ok(())
            }))
        })
    }
}

/// Integers → float32: `scale · (integer − zero_point)`.
#[derive(Debug, Clone, PartialEq)]
pub struct Dequantize {
    pub channels: Channels,
}

impl Kernel for Dequantize {
    fn name(&self) -> &'static str {
        "Dequantize"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        Ok(like_first(DatumType::F32, inputs))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let shape = inputs[0].shape();
        let run = self.channels.run(shape)?;
        with_integer!(inputs[0].datum_type(), T => {
            let integers = slice::<T>(&inputs[0])?;
            made::<f32>(shape, |out| {
                for (i, (out, part)) in out.chunks_mut(run).zip(integers.chunks(run)).enumerate() {
                    let (scale, zero_point) = self.channels.of_run(i);
                    for (out, &integer) in out.iter_mut().zip(part) {
                        let integer: i32 = integer.into();
                        *out = (f64::from(scale) * (i64::from(integer) - i64::from(zero_point)) as f64) as f32;
                    }
                }
                Ok(())
            })
        })
    }
}
