//! Typed ops that tract lacks, or has slower: our kernels inside tract's plan.

mod activation_gradient;
mod assume_shape;
mod binary;
mod body;
mod conditional;
mod best_boxes;
mod computed_slice;
mod gemm;
mod loop_op;
mod loss;
pub mod quantized;
mod recurrent;
mod same_sizes;
mod sgd;
mod softmax;
mod sum_rows;
mod update_slice;
mod while_loop;

pub use activation_gradient::ActivationGradient;
pub use assume_shape::AssumeShape;
pub use best_boxes::BestBoxes;
pub use binary::{
    Atan2, Multiply, Power, Remainder, ShiftLeft, ShiftRight, ShiftRightWithin, atan2, multiply,
    power, remainder, shift_right_within,
};
pub use body::{Body, OpenDims, build_loop};
pub use computed_slice::ComputedSlice;
pub use conditional::If;
pub use gemm::{Gemm, PackedWeights};
pub use loop_op::Loop;
pub use loss::{LossFunction, LossWithGradient};
pub use recurrent::{Cell, CellActivation, Direction, Recurrent};
pub use same_sizes::SameSizes;
pub use sgd::SgdUpdate;
pub use softmax::SoftmaxRows;
pub use sum_rows::SumRows;
pub use update_slice::UpdateSlice;
pub use while_loop::While;

use super::*;

/// The values of a float32 tensor.
fn values(tensor: &Tensor) -> TractResult<&[f32]> {
    tensor.try_as_plain_ram()?.as_slice::<f32>()
}

/// The one number of a tensor; tract reads it without looking whether there is one.
fn number<T: Datum + Copy>(tensor: &Tensor) -> TractResult<T> {
    ensure!(tensor.len() == 1, "{} values where one number is needed", tensor.len());
    tensor.cast_to_scalar::<T>()
}

/// A float32 tensor of `shape` made by `fill`, which sees zeros.
fn filled(
    shape: &[usize],
    fill: impl FnOnce(&mut [f32]) -> TractResult<()>,
) -> TractResult<TValue> {
    let mut tensor = Tensor::zero::<f32>(shape)?;
    fill(tensor.try_as_plain_ram_mut()?.as_slice_mut::<f32>()?)?;
    Ok(tensor.into_tvalue())
}

/// A value that its only holder may change in place; a shared one is copied.
fn exclusive(value: TValue) -> Tensor {
    value.into_tensor()
}
