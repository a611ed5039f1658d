//! Float32 values on int8 weights: integers in between, as LiteRT's hybrid kernels have them.

use super::*;

/// Sums of products between float ends. Each row of the first axis becomes int8 with a scale of its own, `sums` adds
/// up products of integers, and its result times the scales, plus the bias, is float32.
#[derive(Debug, Clone)]
pub struct Hybrid<K> {
    /// Takes int32 less its zero point and gives int32 sums, channels last.
    pub sums: K,
    pub ends: FloatEnds,
}

/// What stands between the floats and the sums.
#[derive(Debug, Clone, PartialEq)]
pub struct FloatEnds {
    /// Whether a row's integers have a zero point.
    pub asymmetric: bool,
    /// Of the weights, by output channel.
    pub scales: Vec<f32>,
    pub bias: Vec<f32>,
    /// Of the fused activation.
    pub bounds: [f32; 2],
}

impl<K: Kernel> Kernel for Hybrid<K> {
    fn name(&self) -> &'static str {
        "Hybrid"
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        let sums = self.sums.fact(&[&integers_of(inputs)])?;
        Ok(DatumType::F32.fact(sums.shape))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let (shape, reals) = (inputs[0].shape(), slice::<f32>(&inputs[0])?);
        let row = shape.iter().skip(1).product::<usize>().max(1);
        let mut row_scales = vec![];
        let integers = made::<i32>(shape, |out| {
            let rows = reals.chunks(row).zip(out.chunks_mut(row));
            row_scales.extend(rows.map(|(reals, out)| match self.ends.asymmetric {
                true => quantize_asymmetric(reals, out),
                false => quantize_symmetric(reals, out),
            }));
            Ok(())
        })?;
        let sums = self.sums.run(&[integers.into_tvalue()])?;
        let per_row = sums.len() / shape.first().copied().unwrap_or(1).max(1);
        let channels = self.ends.scales.len().max(1);
        let results = slice::<i32>(&sums)?;
        made::<f32>(sums.shape(), |out| {
            let rows = out.chunks_mut(per_row.max(1)).zip(results.chunks(per_row.max(1)));
            for (i, (out, sums)) in rows.enumerate() {
                let scale = row_scales.get(i).copied().unwrap_or(1.0);
                for (out, sums) in out.chunks_mut(channels).zip(sums.chunks(channels)) {
                    self.ends.finish(scale, sums, out);
                }
            }
            Ok(())
        })
    }

    fn products(&self, inputs: &[&TypedFact]) -> TractResult<TDim> {
        self.sums.products(&[&integers_of(inputs)])
    }
}

fn integers_of(inputs: &[&TypedFact]) -> TypedFact {
    like_first(DatumType::I32, inputs)
}

impl FloatEnds {
    fn finish(&self, row_scale: f32, sums: &[i32], out: &mut [f32]) {
        let [low, high] = self.bounds;
        let channels = self.scales.iter().zip(&self.bias);
        for ((out, &sum), (scale, bias)) in out.iter_mut().zip(sums).zip(channels) {
            let real = sum as f32 * scale * row_scale + bias;
            *out = real.max(low).min(high);
        }
    }
}

/// Less the zero point; returns the scale. The range holds 0, and the zero point is the integer nearest to it from the
/// end of the range that rounds it less.
fn quantize_asymmetric(reals: &[f32], out: &mut [i32]) -> f32 {
    let min = f64::from(reals.iter().fold(0.0f32, |m, &v| m.min(v)));
    let max = f64::from(reals.iter().fold(0.0f32, |m, &v| m.max(v)));
    if min == max {
        out.fill(0);
        return 1.0;
    }
    let scale = (max - min) / 255.0;
    let (from_min, from_max) = (-128.0 - min / scale, 127.0 - max / scale);
    let (min_error, max_error) = (128.0 + (min / scale).abs(), 127.0 + (max / scale).abs());
    let zero_point = if min_error < max_error { from_min } else { from_max };
    let zero_point = zero_point.round().clamp(-128.0, 127.0) as i32;
    let scale = scale as f32;
    let inverse = if scale == 0.0 { 0.0 } else { 1.0 / scale };
    for (out, real) in out.iter_mut().zip(reals) {
        let integer = (zero_point as f32 + real * inverse).round() as i32;
        *out = integer.clamp(-128, 127) - zero_point;
    }
    scale
}

/// ±127 reach over the largest; returns the scale.
fn quantize_symmetric(reals: &[f32], out: &mut [i32]) -> f32 {
    let largest = reals.iter().fold(0.0f32, |m, v| m.max(v.abs()));
    if largest == 0.0 {
        out.fill(0);
        return 1.0;
    }
    let inverse = 127.0 / largest;
    for (out, real) in out.iter_mut().zip(reals) {
        *out = ((real * inverse).round() as i32).clamp(-127, 127);
    }
    largest / 127.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_become_integers_around_their_zero() {
        let mut out = [0; 4];
        // by hand: 255 steps of 1 from −55 to 200, zero point −73
        assert_eq!(quantize_asymmetric(&[-55.0, 200.0, 0.4, 7.5], &mut out), 1.0);
        // 7.5 − 73 is −65.5, and halves are rounded away from zero before the zero point is taken off
        assert_eq!(out, [-55, 200, 0, 7]);
        assert_eq!(quantize_asymmetric(&[0.0; 4], &mut out), 1.0);
        assert_eq!(out, [0; 4]);
        // a range without 0 is widened to it
        assert_eq!(quantize_asymmetric(&[510.0, 255.0, 510.0, 2.0], &mut out), 2.0);
        assert_eq!(out, [255, 127, 255, 1]);
        assert_eq!(quantize_symmetric(&[-254.0, 127.0, 2.0, 0.0], &mut out), 2.0);
        assert_eq!(out, [-127, 64, 1, 0]);
        for hostile in [f32::NAN, f32::INFINITY, f32::MIN_POSITIVE, -f32::MAX] {
            quantize_asymmetric(&[hostile, 1.0, -1.0, f32::MAX], &mut out);
            quantize_symmetric(&[hostile, 1.0, -1.0, 0.0], &mut out);
        }
    }
}
