//! DEPTHWISE_CONV_2D with constant weights, NHWC.

use super::bytes::{flip_of, zero_of_bytes};
use super::pool::places;
use super::window::{axes, window_fact};
use super::*;
use crate::kernels::{ByteScaling, centre_bytes, depthwise_sums, scale_to_bytes};
use crate::tract::ops::cnn::PoolSpec;

/// Each channel with as many filters of its own; weights are `[height, width, filters]` less their zero point.
#[derive(Debug, Clone, PartialEq)]
pub struct DepthwiseConv {
    spec: PoolSpec,
    input: Affine,
    weights: Vec<i16>,
    bias: Vec<i64>,
    output: Requantize,
    /// Where all is of 8 bits and each channel has one filter.
    scaling: Option<ByteScaling>,
}

impl DepthwiseConv {
    pub fn new(
        spec: PoolSpec,
        input: Affine,
        weights: Vec<i16>,
        bias: Vec<i64>,
        output: Requantize,
    ) -> DepthwiseConv {
        let bytes = input.datum.size_of() == 1 && output.datum.size_of() == 1;
        let fixed: Option<Vec<Multiplier>> = output.rescale.iter().map(Rescale::fixed).collect();
        let biases: Vec<i32> = bias.iter().map(|&b| b as i32).collect();
        let scaling = fixed
            .filter(|_| bytes && bias.len() == spec.input_channels)
            .and_then(|fixed| ByteScaling::new(biases, &fixed, output.zero_point, output.bounds));
        DepthwiseConv { spec, input, weights, bias, output, scaling }
    }
}

impl Kernel for DepthwiseConv {
    fn name(&self) -> &'static str {
        "QuantizedDepthwiseConv"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        ensure!(inputs[0].datum_type == self.input.datum, "an input of {:?}", inputs[0].datum_type);
        window_fact(&self.spec, self.output.datum, inputs[0])
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        if let Some(scaling) = &self.scaling {
            return self.convolve_bytes(&inputs[0], scaling);
        }
        with_integer!(inputs[0].datum_type(), X => {
            with_integer!(self.output.datum, Y => self.convolve::<X, Y>(&inputs[0]))
        })
    }

    fn products(&self, inputs: &[&TypedFact]) -> TractResult<TDim> {
        let shape = self.fact(inputs)?.shape;
        let taps: usize = self.spec.kernel_shape.iter().product();
        Ok(shape.iter().product::<TDim>() * taps)
    }
}

impl DepthwiseConv {
    /// Calls `visit` with the number of each result pixel and, of each tap inside, the pixel and the tap.
    fn visit(
        &self,
        shape: &[usize],
        mut visit: impl FnMut(usize, &[(usize, usize)]),
    ) -> TractResult<[usize; 4]> {
        let [rows, columns] = axes(&self.spec, shape)?;
        let result = [shape[0], rows.output, columns.output, self.bias.len()];
        let mut taps = vec![];
        for (i, (batch, y, x)) in places(&result).enumerate() {
            taps.clear();
            let (y_taps, first_y) = rows.taps(y);
            let (x_taps, first_x) = columns.taps(x);
            for (row, y_tap) in y_taps.enumerate() {
                let pixel_row = batch * rows.input + first_y + row * rows.dilation();
                for (column, x_tap) in x_taps.clone().enumerate() {
                    let pixel = pixel_row * columns.input + first_x + column * columns.dilation();
                    taps.push((pixel, y_tap * columns.kernel + x_tap));
                }
            }
            visit(i, &taps);
        }
        Ok(result)
    }

    fn result_shape(&self, shape: &[usize]) -> TractResult<[usize; 4]> {
        let [rows, columns] = axes(&self.spec, shape)?;
        Ok([shape[0], rows.output, columns.output, self.bias.len()])
    }

    fn convolve_bytes(&self, input: &Tensor, scaling: &ByteScaling) -> TractResult<Tensor> {
        let (shape, datum) = (input.shape(), input.datum_type());
        let channels = self.bias.len();
        let zero = zero_of_bytes(datum, self.input.zero_point) as i16;
        let mut pixels = vec![0i16; input.len()];
        centre_bytes(input.as_bytes(), flip_of(datum), zero, &mut pixels);
        let mut made = Tensor::zero_dt(self.output.datum, &self.result_shape(shape)?)?;
        let out = made.as_bytes_mut();
        let mut sums = vec![0i32; channels];
        self.visit(shape, |i, taps| {
            depthwise_sums(&pixels, &self.weights, taps, &mut sums);
            scale_to_bytes(&sums, 0, scaling, &mut out[i * channels..][..channels]);
        })?;
        Ok(made)
    }

    fn convolve<X: Integer, Y: Integer>(&self, input: &Tensor) -> TractResult<Tensor> {
        let shape = input.shape();
        let (channels, count) = (shape[3], self.bias.len());
        let multiplier = (count / channels.max(1)).max(1);
        let is_wide = X::datum_type() == DatumType::I16;
        let pixels = slice::<X>(input)?;
        let mut sums = vec![0i64; count];
        made::<Y>(&self.result_shape(shape)?, |out| {
            self.visit(shape, |i, taps| {
                sums.copy_from_slice(&self.bias);
                for &(pixel, tap) in taps {
                    let from = &pixels[pixel * channels..][..channels];
                    let weights = &self.weights[tap * count..][..count];
                    for (channel, (sum, &weight)) in sums.iter_mut().zip(weights).enumerate() {
                        let x: i32 = from[channel / multiplier].into();
                        *sum +=
                            i64::from((x - self.input.zero_point).wrapping_mul(i32::from(weight)));
                    }
                }
                let out = &mut out[i * count..][..count];
                for (channel, (out, &sum)) in out.iter_mut().zip(&sums).enumerate() {
                    *out = Y::narrow(match is_wide {
                        true => self.output.apply_wide(channel, sum),
                        false => self.output.apply(channel, sum as i32),
                    });
                }
            })?;
            Ok(())
        })
    }
}
