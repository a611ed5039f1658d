//! Ops on integers that stand for reals, in TFLite's integer arithmetic. Values are plain i8, u8, i16 and i32;
//! scales and zero points live in the ops.

mod bilinear;
mod binary;
mod bytes;
mod conv;
mod conversion;
mod dense;
mod depthwise;
mod hybrid;
mod linear;
mod pool;
mod reduce;
mod softmax;
mod table;
mod transpose_conv;
mod window;

pub use bilinear::Bilinear;
pub use binary::{Binary, BinaryFunction, SumOfTwo};
pub use conv::Conv;
pub use conversion::{Channels, Dequantize, Quantize, Requantization};
pub use dense::{Dense, Filters};
pub use depthwise::DepthwiseConv;
pub use hybrid::{FloatEnds, Hybrid};
pub use linear::{DequantizeLinear, QuantizeLinear};
pub use pool::Pool;
pub use reduce::Sum;
pub use softmax::{Softmax, WideSoftmax};
pub use table::Table;
pub use transpose_conv::TransposeConv;

use super::*;
use crate::kernels::fixed_point::Multiplier;
use std::fmt::Debug;

/// What hosts need to know of an op on quantized values. It has one result and no state.
pub trait Kernel: Debug + Send + Sync + 'static {
    fn name(&self) -> &'static str;

    /// Type and shape of the result.
    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact>;

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor>;

    /// Products that are added up.
    fn products(&self, _inputs: &[&TypedFact]) -> TractResult<TDim> {
        Ok(TDim::from(0))
    }
}

/// A kernel in tract's plan.
#[derive(Debug, Clone)]
pub struct Quantized(Arc<dyn Kernel>);

impl Quantized {
    pub fn new(kernel: impl Kernel) -> Quantized {
        Quantized(Arc::new(kernel))
    }
}

impl PartialEq for Quantized {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for Quantized {}

impl Op for Quantized {
    fn name(&self) -> StaticName {
        self.0.name().into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for Quantized {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        Ok(tvec![self.0.run(&inputs)?.into_tvalue()])
    }
}

impl TypedOp for Quantized {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec![self.0.fact(inputs)?])
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        Ok(tvec![(Cost::FMA(i8::datum_type()), self.0.products(inputs)?)])
    }

    tract_core::as_op!();
}

/// Integers of one type that stand for `scale · (integer − zero_point)`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Affine {
    pub datum: DatumType,
    pub scale: f32,
    pub zero_point: i32,
}

impl Affine {
    /// The lowest and the highest integer.
    pub fn bounds(&self) -> [i32; 2] {
        bounds(self.datum)
    }

    /// The integer for a real, as TFLite computes the bounds of fused activations.
    pub fn nearest(&self, real: f32) -> i32 {
        self.zero_point.saturating_add((real / self.scale).round() as i32)
    }
}

/// The lowest and the highest value of an integer type of up to 32 bits.
pub fn bounds(datum: DatumType) -> [i32; 2] {
    match datum {
        DatumType::I8 => [i8::MIN.into(), i8::MAX.into()],
        DatumType::U8 => [u8::MIN.into(), u8::MAX.into()],
        DatumType::I16 => [i16::MIN.into(), i16::MAX.into()],
        DatumType::U16 => [u16::MIN.into(), u16::MAX.into()],
        _ => [i32::MIN, i32::MAX],
    }
}

/// What brings a sum of products to the scale of the result.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rescale {
    Fixed(Multiplier),
    /// In float64, rounded half away from zero: TFLite's reference FULLY_CONNECTED.
    Real(f64),
}

impl Rescale {
    pub fn fixed(&self) -> Option<Multiplier> {
        match self {
            Rescale::Fixed(multiplier) => Some(*multiplier),
            Rescale::Real(_) => None,
        }
    }

    pub fn apply(self, sum: i32) -> i32 {
        match self {
            Rescale::Fixed(multiplier) => multiplier.apply(sum),
            Rescale::Real(real) => (f64::from(sum) * real).round() as i32,
        }
    }

    pub fn apply_wide(self, sum: i64) -> i32 {
        match self {
            Rescale::Fixed(multiplier) => multiplier.apply_wide(sum),
            Rescale::Real(real) => (sum as f64 * real).round() as i32,
        }
    }
}

/// From sums of products to the result: per output channel a factor; then the zero point and the bounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Requantize {
    pub datum: DatumType,
    pub rescale: Vec<Rescale>,
    pub zero_point: i32,
    pub bounds: [i32; 2],
}

impl Requantize {
    pub fn apply(&self, channel: usize, sum: i32) -> i32 {
        self.finish(self.rescale[channel].apply(sum))
    }

    pub fn apply_wide(&self, channel: usize, sum: i64) -> i32 {
        self.finish(self.rescale[channel].apply_wide(sum))
    }

    fn finish(&self, scaled: i32) -> i32 {
        let [low, high] = self.bounds;
        scaled.wrapping_add(self.zero_point).min(high).max(low)
    }
}

/// An element type of quantized tensors.
pub trait Integer: Datum + Copy + Into<i32> {
    /// The low bits.
    fn narrow(value: i32) -> Self;
}

impl Integer for i8 {
    fn narrow(value: i32) -> i8 {
        value as i8
    }
}

impl Integer for u8 {
    fn narrow(value: i32) -> u8 {
        value as u8
    }
}

impl Integer for i16 {
    fn narrow(value: i32) -> i16 {
        value as i16
    }
}

impl Integer for u16 {
    fn narrow(value: i32) -> u16 {
        value as u16
    }
}

impl Integer for i32 {
    fn narrow(value: i32) -> i32 {
        value
    }
}

/// Runs `$body` with `$t` as the integer type that `$datum` is.
macro_rules! with_integer {
    ($datum:expr, $t:ident => $body:expr) => {
        match $datum {
            DatumType::I8 => {
                type $t = i8;
                $body
            }
            DatumType::U8 => {
                type $t = u8;
                $body
            }
            DatumType::I16 => {
                type $t = i16;
                $body
            }
            DatumType::I32 => {
                type $t = i32;
                $body
            }
            other => bail!("quantized values of {other:?}"),
        }
    };
}
use with_integer;

fn slice<T: Datum>(tensor: &Tensor) -> TractResult<&[T]> {
    tensor.try_as_plain_ram()?.as_slice::<T>()
}

/// A tensor of `shape` made by `fill`, which sees zeros.
fn made<T: Datum>(
    shape: &[usize],
    fill: impl FnOnce(&mut [T]) -> TractResult<()>,
) -> TractResult<Tensor> {
    let mut tensor = Tensor::zero_dt(T::datum_type(), shape)?;
    fill(tensor.try_as_plain_ram_mut()?.as_slice_mut::<T>()?)?;
    Ok(tensor)
}

/// The result has the shape of the first input.
fn like_first(datum: DatumType, inputs: &[&TypedFact]) -> TypedFact {
    datum.fact(inputs[0].shape.clone())
}
