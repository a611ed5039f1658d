//! TRANSPOSE_CONV with constant weights, NHWC.

use super::pool::places;
use super::*;

/// Each pixel is written, times the weights `[filters, height, width, channels]`, over a window of the result that
/// begins `before` pixels ahead of its place.
#[derive(Debug, Clone, PartialEq)]
pub struct TransposeConv {
    pub input: Affine,
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub before: [usize; 2],
    /// Rows and columns of the result.
    pub size: [usize; 2],
    /// Less their zero point.
    pub weights: Vec<i16>,
    pub bias: Vec<i64>,
    pub output: Requantize,
}

impl Kernel for TransposeConv {
    fn name(&self) -> &'static str {
        "QuantizedTransposeConv"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        ensure!(inputs[0].datum_type == self.input.datum, "an input of {:?}", inputs[0].datum_type);
        ensure!(inputs[0].rank() == 4, "an input of {:?}", inputs[0].shape);
        let [rows, columns] = self.size.map(|n| n.to_dim());
        let shape = [inputs[0].shape[0].clone(), rows, columns, self.bias.len().to_dim()];
        Ok(self.output.datum.fact(&shape))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        with_integer!(inputs[0].datum_type(), X => {
            with_integer!(self.output.datum, Y => self.convolve::<X, Y>(&inputs[0]))
        })
    }
}

impl TransposeConv {
    fn convolve<X: Integer, Y: Integer>(&self, input: &Tensor) -> TractResult<Tensor> {
        let &[batch, height, width, channels] = input.shape() else {
            bail!("an input of {:?}", input.shape())
        };
        let ([kh, kw], [rows, columns], count) = (self.kernel, self.size, self.bias.len());
        ensure!(count * kh * kw * channels == self.weights.len(), "{channels} channels");
        let pixels = slice::<X>(input)?;
        let is_wide = X::datum_type() == DatumType::I16;
        let mut sums = vec![0i64; batch * rows * columns * count];
        for (i, (b, y, x)) in places(&[batch, height, width, channels]).enumerate() {
            let pixel = &pixels[i * channels..][..channels];
            for (ky, kx) in (0..kh).flat_map(|ky| (0..kw).map(move |kx| (ky, kx))) {
                let to = |at: usize, stride: usize, tap: usize, before: usize, size: usize| {
                    (at * stride + tap).checked_sub(before).filter(|&to| to < size)
                };
                let row = to(y, self.strides[0], ky, self.before[0], rows);
                let column = to(x, self.strides[1], kx, self.before[1], columns);
                let (Some(row), Some(column)) = (row, column) else { continue };
                let sums = &mut sums[((b * rows + row) * columns + column) * count..][..count];
                for (o, sum) in sums.iter_mut().enumerate() {
                    let weights = &self.weights[((o * kh + ky) * kw + kx) * channels..][..channels];
                    for (&x, &weight) in pixel.iter().zip(weights) {
                        let x: i32 = x.into();
                        let product = (x - self.input.zero_point).wrapping_mul(weight.into());
                        *sum = sum.wrapping_add(product.into());
                    }
                }
            }
        }
        made::<Y>(&[batch, rows, columns, count], |out| {
            for (i, (out, sum)) in out.iter_mut().zip(sums).enumerate() {
                let channel = i % count;
                let sum = sum.wrapping_add(self.bias[channel]);
                *out = Y::narrow(match is_wide {
                    true => self.output.apply_wide(channel, sum),
                    false => self.output.apply(channel, sum as i32),
                });
            }
            Ok(())
        })
    }
}
