//! RESIZE_BILINEAR: of signed values with places in 1024ths of a pixel, of uint8 in float32.

use super::pool::places;
use super::*;

/// NHWC to `size`; scales and zero points stay.
#[derive(Debug, Clone, PartialEq)]
pub struct Bilinear {
    pub size: [usize; 2],
    pub align_corners: bool,
    pub half_pixel_centers: bool,
}

/// Between which two pixels a result's pixel lies, and how far behind the first.
type Between<T> = (usize, usize, T);

const ONE: i64 = 1 << 10;

impl Bilinear {
    fn in_fixed_point(&self, place: usize, output: usize, input: usize) -> Between<i64> {
        let (place, output, input) = (place as i64, output as i64, input as i64);
        let scale = match self.align_corners && output > 1 {
            true => (ONE * (input - 1) + (output - 1) / 2) / (output - 1),
            false => (ONE * input + output / 2) / output,
        };
        let at = match self.half_pixel_centers {
            true => place * scale + scale / 2 - ONE / 2,
            false => place * scale,
        };
        let low = (at / ONE).max(0);
        let high = ((at + ONE - 1) / ONE).min(input - 1);
        (low as usize, high.max(0) as usize, at - ONE * low)
    }

    fn in_float(&self, place: usize, output: usize, input: usize) -> Between<f32> {
        let scale = match self.align_corners && output > 1 {
            true => (input - 1) as f32 / (output - 1) as f32,
            false => input as f32 / output as f32,
        };
        let at = match self.half_pixel_centers {
            true => (place as f32 + 0.5) * scale - 0.5,
            false => place as f32 * scale,
        };
        let low = at.floor().max(0.0) as usize;
        let high = (at.ceil().max(0.0) as usize).min(input - 1);
        (low, high, at - low as f32)
    }

    fn resize<T: Integer>(&self, input: &Tensor) -> TractResult<Tensor> {
        let &[batch, height, width, channels] = input.shape() else {
            bail!("an input of {:?}", input.shape())
        };
        let [rows, columns] = self.size;
        ensure!(height > 0 && width > 0, "a resize of no pixels");
        let in_float = T::datum_type() == DatumType::U8;
        let pixels = slice::<T>(input)?;
        let result = [batch, rows, columns, channels];
        made::<T>(&result, |out| {
            let mut out = out.chunks_exact_mut(channels.max(1));
            for (batch, y, x) in places(&result) {
                let Some(out) = out.next() else { break };
                let pixel = |y: usize, x: usize| {
                    &pixels[((batch * height + y) * width + x) * channels..][..channels]
                };
                if in_float {
                    let (y0, y1, dy) = self.in_float(y, rows, height);
                    let (x0, x1, dx) = self.in_float(x, columns, width);
                    let corners = [pixel(y0, x0), pixel(y1, x0), pixel(y0, x1), pixel(y1, x1)];
                    for (c, out) in out.iter_mut().enumerate() {
                        let [a, b, d, e] = corners.map(|corner| {
                            let value: i32 = corner[c].into();
                            value as f32
                        });
                        let sum = a * (1.0 - dy) * (1.0 - dx)
                            + b * dy * (1.0 - dx)
                            + d * (1.0 - dy) * dx
                            + e * dy * dx
                            + 0.5;
                        *out = T::narrow(sum as i32);
                    }
                    continue;
                }
                let (y0, y1, dy) = self.in_fixed_point(y, rows, height);
                let (x0, x1, dx) = self.in_fixed_point(x, columns, width);
                let corners = [pixel(y0, x0), pixel(y1, x0), pixel(y0, x1), pixel(y1, x1)];
                for (c, out) in out.iter_mut().enumerate() {
                    let [a, b, d, e] = corners.map(|corner| {
                        let value: i32 = corner[c].into();
                        i64::from(value)
                    });
                    let sum = a * (ONE - dy) * (ONE - dx)
                        + b * dy * (ONE - dx)
                        + d * (ONE - dy) * dx
                        + e * dy * dx;
                    let half = if sum > 0 { 1 << 19 } else { -(1 << 19) };
                    *out = T::narrow(((sum + half) / (1 << 20)) as i32);
                }
            }
            Ok(())
        })
    }
}

impl Kernel for Bilinear {
    fn name(&self) -> &'static str {
        "QuantizedBilinear"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        let [batch, _, _, channels] = &*inputs[0].shape else {
            bail!("an input of {:?}", inputs[0].shape)
        };
        let [rows, columns] = self.size.map(|n| n.to_dim());
        let shape = [batch.clone(), rows, columns, channels.clone()];
        Ok(inputs[0].datum_type.fact(&shape))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        with_integer!(inputs[0].datum_type(), T => self.resize::<T>(&inputs[0]))
    }
}
