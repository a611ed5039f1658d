//! MAX_POOL_2D and AVERAGE_POOL_2D.

use super::bytes::flip_of;
use super::window::{axes, window_fact};
use super::*;
use crate::kernels::{add_bytes_to, fold_largest};
use crate::tract::ops::cnn::PoolSpec;

/// The largest or the mean of each window's pixels inside the border, rounded half away from zero; NHWC.
#[derive(Debug, Clone, PartialEq)]
pub struct Pool {
    pub spec: PoolSpec,
    pub is_max: bool,
    /// Of the fused activation.
    pub bounds: [i32; 2],
}

impl Kernel for Pool {
    fn name(&self) -> &'static str {
        if self.is_max { "QuantizedMaxPool" } else { "QuantizedAveragePool" }
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        window_fact(&self.spec, inputs[0].datum_type, inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        if inputs[0].datum_type().size_of() == 1 {
            return self.pool_bytes(&inputs[0]);
        }
        with_integer!(inputs[0].datum_type(), T => self.pool::<T>(&inputs[0]))
    }
}

impl Pool {
    fn pool_bytes(&self, input: &Tensor) -> TractResult<Tensor> {
        let (shape, flip) = (input.shape(), flip_of(input.datum_type()));
        let [rows, columns] = axes(&self.spec, shape)?;
        let channels = shape[3];
        let bytes = input.as_bytes();
        let [low, high] = self.bounds;
        let moved = i32::from(flip);
        let result = [shape[0], rows.output, columns.output, channels];
        let mut made = Tensor::zero_dt(input.datum_type(), &result)?;
        let mut out = made.as_bytes_mut().chunks_exact_mut(channels.max(1));
        let mut sums = vec![0i32; channels];
        for (batch, y, x) in places(&result) {
            let (y_taps, first_y) = rows.taps(y);
            let (x_taps, first_x) = columns.taps(x);
            let count = y_taps.len() * x_taps.len();
            ensure!(count > 0, "a window of padding alone");
            let Some(out) = out.next() else { break };
            sums.fill(0);
            for row in 0..y_taps.len() {
                let pixel = (batch * rows.input + first_y + row) * columns.input + first_x;
                let line = &bytes[pixel * channels..][..x_taps.len() * channels];
                for pixel in line.chunks_exact(channels) {
                    match self.is_max {
                        true => fold_largest(pixel, flip, out),
                        false => add_bytes_to(pixel, flip, &mut sums),
                    }
                }
            }
            for (out, &sum) in out.iter_mut().zip(&sums) {
                let value = match self.is_max {
                    true => i32::from(*out) - moved,
                    false => rounded_mean(sum - moved * count as i32, count),
                };
                *out = value.max(low).min(high) as u8;
            }
        }
        Ok(made)
    }

    fn pool<T: Integer>(&self, input: &Tensor) -> TractResult<Tensor> {
        let shape = input.shape();
        let [rows, columns] = axes(&self.spec, shape)?;
        let channels = shape[3];
        let pixels = slice::<T>(input)?;
        let [low, high] = self.bounds;
        let result = [shape[0], rows.output, columns.output, channels];
        let mut folded = vec![0i32; channels];
        made::<T>(&result, |out| {
            let mut out = out.chunks_exact_mut(channels.max(1));
            for (batch, y, x) in places(&result) {
                let (y_taps, first_y) = rows.taps(y);
                let (x_taps, first_x) = columns.taps(x);
                let count = y_taps.len() * x_taps.len();
                ensure!(count > 0, "a window of padding alone");
                folded.fill(if self.is_max { i32::MIN } else { 0 });
                for row in 0..y_taps.len() {
                    let pixel = (batch * rows.input + first_y + row) * columns.input + first_x;
                    let line = &pixels[pixel * channels..][..x_taps.len() * channels];
                    for pixel in line.chunks_exact(channels.max(1)) {
                        for (fold, &value) in folded.iter_mut().zip(pixel) {
                            let value: i32 = value.into();
                            *fold = match self.is_max {
                                true => (*fold).max(value),
                                false => fold.wrapping_add(value),
                            };
                        }
                    }
                }
                let Some(out) = out.next() else { break };
                for (out, &fold) in out.iter_mut().zip(&folded) {
                    let value = if self.is_max { fold } else { rounded_mean(fold, count) };
                    *out = T::narrow(value.max(low).min(high));
                }
            }
            Ok(())
        })
    }
}

fn rounded_mean(sum: i32, count: usize) -> i32 {
    let (sum, count) = (i64::from(sum), count as i64);
    let half = count / 2;
    (if sum > 0 { (sum + half) / count } else { (sum - half) / count }) as i32
}

/// Batch, row and column of each pixel of an NHWC shape; none where it has no elements.
pub fn places(shape: &[usize; 4]) -> impl Iterator<Item = (usize, usize, usize)> + use<> {
    let [batch, rows, columns, channels] = *shape;
    let batch = if channels == 0 { 0 } else { batch };
    (0..batch).flat_map(move |b| (0..rows).flat_map(move |y| (0..columns).map(move |x| (b, y, x))))
}
