//! QuantizeLinear and DequantizeLinear of ONNX, opaque to tract: its own rewrites of such pairs change what they compute.

use super::*;

/// float32 → integers: `round(x / scale) + zero_point`, halves to even, within the type.
#[derive(Debug, Clone, PartialEq)]
pub struct QuantizeLinear {
    pub datum: DatumType,
    pub channels: Channels,
}

/// Integers → float32: `(x − zero_point) · scale`.
#[derive(Debug, Clone, PartialEq)]
pub struct DequantizeLinear {
    pub channels: Channels,
    /// Of weights that meet values which are quantized as the model runs.
    pub dynamic: bool,
}

impl Eq for QuantizeLinear {}
impl Eq for DequantizeLinear {}

/// Runs `$body` with `$t` as the integer type that `$datum` is, uint16 among them.
macro_rules! with_stored {
    ($datum:expr, $t:ident => $body:expr) => {
        match $datum {
            DatumType::U16 => {
                type $t = u16;
                $body
            }
            other => with_integer!(other, $t => $body),
        }
    };
}

impl Op for QuantizeLinear {
    fn name(&self) -> StaticName {
        "QuantizeLinear".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for QuantizeLinear {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (shape, reals) = (inputs[0].shape(), slice::<f32>(&inputs[0])?);
        let run = self.channels.run(shape)?;
        let [low, high] = bounds(self.datum);
        ensure!(self.datum.size_of() < 4, "quantized to {:?}", self.datum);
        let result = with_stored!(self.datum, T => made::<T>(shape, |out| {
            for (i, (out, reals)) in out.chunks_mut(run).zip(reals.chunks(run)).enumerate() {
                let (scale, zero_point) = self.channels.of_run(i);
                quantize([low, high], scale, zero_point, reals, out);
            }
            Ok(())
        }))?;
        Ok(tvec![result.into_tvalue()])
    }
}

/// Of integers of at most 16 bits.
fn quantize<T: Integer>(
    [low, high]: [i32; 2],
    scale: f32,
    zero_point: i32,
    reals: &[f32],
    out: &mut [T],
) {
    // added to a number of less than 22 bits, it leaves the nearest integer in the low bits
    const ROUNDING: f32 = 12_582_912.0;
    let (least, most) = ((low - zero_point) as f32, (high - zero_point) as f32);
    for (out, real) in out.iter_mut().zip(reals) {
        let steps = (real / scale).max(least).min(most);
        let rounded = (steps + ROUNDING).to_bits().wrapping_sub(ROUNDING.to_bits()) as i32;
        *out = T::narrow(rounded.wrapping_add(zero_point));
    }
}

impl TypedOp for QuantizeLinear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs[0].datum_type == DatumType::F32, "quantizing {:?}", inputs[0].datum_type);
        Ok(tvec![like_first(self.datum, inputs)])
    }

    tract_core::as_op!();
}

impl Op for DequantizeLinear {
    fn name(&self) -> StaticName {
        "DequantizeLinear".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for DequantizeLinear {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let shape = inputs[0].shape();
        let run = self.channels.run(shape)?;
        let result = with_stored!(inputs[0].datum_type(), T => {
            let integers = slice::<T>(&inputs[0])?;
            made::<f32>(shape, |out| {
                for (i, (out, part)) in out.chunks_mut(run).zip(integers.chunks(run)).enumerate() {
                    let (scale, zero_point) = self.channels.of_run(i);
                    for (out, &integer) in out.iter_mut().zip(part) {
                        let integer: i32 = integer.into();
                        *out = integer.wrapping_sub(zero_point) as f32 * scale;
                    }
                }
                Ok(())
            })
        })?;
        Ok(tvec![result.into_tvalue()])
    }
}

impl TypedOp for DequantizeLinear {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec![like_first(DatumType::F32, inputs)])
    }

    tract_core::as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn quantized(datum: DatumType, scale: f32, zero_point: i32, reals: &[f32]) -> Vec<i32> {
        let channels = Channels { scales: vec![scale], zero_points: vec![zero_point], axis: 0 };
        let op = QuantizeLinear { datum, channels };
        let inputs = tvec![tensor1(reals).into_tvalue()];
        let made = op.eval_out_of_plan(inputs).unwrap().unwrap();
        let made = made[0].cast_to::<i32>().unwrap();
        slice::<i32>(&made).unwrap().to_vec()
    }

    #[test]
    fn halves_go_to_even_and_the_rest_to_the_ends() {
        let reals = [0.5, 1.5, -0.5, -1.5, 2.5, 1e30, -1e30, f32::INFINITY, f32::NEG_INFINITY];
        let found = quantized(DatumType::I8, 1.0, 0, &reals);
        assert_eq!(found, [0, 2, 0, -2, 2, 127, -128, 127, -128]);
        let found = quantized(DatumType::U8, 2.0, 128, &[0.0, 2.0, 3.0, 1000.0, -254.0, -1000.0]);
        assert_eq!(found, [128, 129, 130, 255, 1, 0]);
        let found = quantized(DatumType::U16, 0.5, 65535, &[0.0, -16383.75, 1.0, -1e9]);
        assert_eq!(found, [65535, 32767, 65535, 0]);
        let found = quantized(DatumType::I16, 1.0, -32768, &[65535.0, 65534.5, -1.0]);
        assert_eq!(found, [32767, 32766, -32768]);
    }
}
