//! Windows over the two spatial axes of NHWC values.

use super::*;
use crate::tract::ops::cnn::PoolSpec;
use std::ops::Range;

/// One spatial axis: what it has, and how windows step along it.
#[derive(Debug, Clone, Copy)]
pub struct Axis {
    pub input: usize,
    pub output: usize,
    pub kernel: usize,
    stride: usize,
    dilation: usize,
    before: usize,
}

/// Height and width of values of `shape` (NHWC) under `spec`.
pub fn axes(spec: &PoolSpec, shape: &[usize]) -> TractResult<[Axis; 2]> {
    let &[_, height, width, channels] = shape else { bail!("a window over {shape:?}") };
    ensure!(channels == spec.input_channels, "{channels} channels for {}", spec.input_channels);
    let found = spec.computed_padding(&[height, width]);
    let axis = |i: usize, input: usize| Axis {
        input,
        output: found[i].convoluted,
        kernel: spec.kernel_shape[i],
        stride: spec.stride(i),
        dilation: spec.dilation(i),
        before: found[i].pad_before,
    };
    Ok([axis(0, height), axis(1, width)])
}

impl Axis {
    /// The taps of the window at `place` that are inside, and the pixel of the first of them.
    pub fn taps(&self, place: usize) -> (Range<usize>, usize) {
        let origin = place * self.stride;
        let first = self.before.saturating_sub(origin).div_ceil(self.dilation).min(self.kernel);
        let room = (self.input + self.before).saturating_sub(origin);
        let end = room.div_ceil(self.dilation).clamp(first, self.kernel);
        (first..end, (origin + first * self.dilation).saturating_sub(self.before))
    }

    /// Each window is the one pixel at its place.
    pub fn is_identity(&self) -> bool {
        (self.kernel, self.stride, self.before) == (1, 1, 0) && self.input == self.output
    }

    pub fn dilation(&self) -> usize {
        self.dilation
    }
}

/// Shape and type of what a window makes.
pub fn window_fact(spec: &PoolSpec, datum: DatumType, input: &TypedFact) -> TractResult<TypedFact> {
    let shape = spec.output_shape(&input.shape)?.shape;
    Ok(datum.fact(&*shape))
}
