//! DEPTHWISE_CONV_2D with constant weights, NHWC.

use super::pool::places;
use super::window::{axes, window_fact};
use super::*;
use crate::tract::ops::cnn::PoolSpec;

/// Each channel with `multiplier` filters of its own; weights are `[height, width, filters]` less their zero
/// point.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthwiseConv {
    pub spec: PoolSpec,
    pub zero_point: i32,
    pub weights: Vec<i16>,
    pub bias: Vec<i64>,
    pub output: Requantize,
}

impl Kernel for DepthwiseConv {
    fn name(&self) -> &'static str {
        "QuantizedDepthwiseConv"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        window_fact(&self.spec, self.output.datum, inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        with_integer!(inputs[0].datum_type(), X => {
            with_integer!(self.output.datum, Y => match X::datum_type() {
                DatumType::I16 => self.convolve::<X, Y, i64>(&inputs[0]),
                _ => self.convolve::<X, Y, i32>(&inputs[0]),
            })
        })
    }

    fn products(&self, inputs: &[&TypedFact]) -> TractResult<TDim> {
        let shape = self.fact(inputs)?.shape;
        let taps: usize = self.spec.kernel_shape.iter().product();
        Ok(shape.iter().product::<TDim>() * taps)
    }
}

/// A type to add products up in.
trait Accumulator: Copy {
    fn of_bias(bias: i64) -> Self;
    fn add(&mut self, product: i32);
    fn finish(self, output: &Requantize, channel: usize) -> i32;
}

impl Accumulator for i32 {
    fn of_bias(bias: i64) -> i32 {
        bias as i32
    }

    fn add(&mut self, product: i32) {
        *self = self.wrapping_add(product);
    }

    fn finish(self, output: &Requantize, channel: usize) -> i32 {
        output.apply(channel, self)
    }
}

impl Accumulator for i64 {
    fn of_bias(bias: i64) -> i64 {
        bias
    }

    fn add(&mut self, product: i32) {
        *self = self.wrapping_add(i64::from(product));
    }

    fn finish(self, output: &Requantize, channel: usize) -> i32 {
        output.apply_wide(channel, self)
    }
}

impl DepthwiseConv {
    fn convolve<X: Integer, Y: Integer, A: Accumulator>(
        &self,
        input: &Tensor,
    ) -> TractResult<Tensor> {
        let shape = input.shape();
        let [rows, columns] = axes(&self.spec, shape)?;
        let (channels, count) = (shape[3], self.bias.len());
        let multiplier = count / channels.max(1);
        let pixels = slice::<X>(input)?;
        let result = [shape[0], rows.output, columns.output, count];
        let start: Vec<A> = self.bias.iter().map(|&bias| A::of_bias(bias)).collect();
        let mut sums = start.clone();
        made::<Y>(&result, |out| {
            let mut out = out.chunks_exact_mut(count.max(1));
            for (batch, y, x) in places(&result) {
                let (y_taps, first_y) = rows.taps(y);
                let (x_taps, first_x) = columns.taps(x);
                sums.copy_from_slice(&start);
                for (row, y_tap) in y_taps.enumerate() {
                    let pixel_row = batch * rows.input + first_y + row * rows.dilation();
                    for (column, x_tap) in x_taps.clone().enumerate() {
                        let pixel =
                            pixel_row * columns.input + first_x + column * columns.dilation();
                        let from = &pixels[pixel * channels..][..channels];
                        let tap = (y_tap * columns.kernel + x_tap) * count;
                        self.add_tap(from, &self.weights[tap..][..count], multiplier, &mut sums);
                    }
                }
                let Some(out) = out.next() else { break };
                for (channel, (out, sum)) in out.iter_mut().zip(&sums).enumerate() {
                    *out = Y::narrow(sum.finish(&self.output, channel));
                }
            }
            Ok(())
        })
    }

    fn add_tap<X: Integer, A: Accumulator>(
        &self,
        from: &[X],
        weights: &[i16],
        multiplier: usize,
        sums: &mut [A],
    ) {
        if multiplier == 1 {
            for ((sum, &x), &weight) in sums.iter_mut().zip(from).zip(weights) {
                sum.add((x.into() - self.zero_point).wrapping_mul(i32::from(weight)));
            }
            return;
        }
        let groups = sums.chunks_exact_mut(multiplier).zip(weights.chunks_exact(multiplier));
        for ((sums, weights), &x) in groups.zip(from) {
            for (sum, &weight) in sums.iter_mut().zip(weights) {
                sum.add((x.into() - self.zero_point).wrapping_mul(i32::from(weight)));
            }
        }
    }
}
