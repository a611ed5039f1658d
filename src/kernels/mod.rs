//! The hot loops: matrix products, elementwise functions, optimizer steps, conversions.
//!
//! Each has a variant per instruction set, picked at run time, and all variants give the same bits.
//! `unsafe` lives here and only here; the public functions are safe, and panic on slices that do
//! not fit each other. Kernels know slices and shapes: no graphs, no files, no threads.

mod convert;
mod decimals;
#[cfg(target_arch = "x86_64")]
mod decimals_avx2;
mod elementwise;
mod exponential;
pub mod fixed_point;
mod gemm;
#[cfg(target_arch = "x86_64")]
mod gemm_avx2;
#[cfg(target_arch = "x86_64")]
mod gemm_avx512;
mod gemm_pack;
mod gemm_portable;
mod gemm_scalar;
mod gemm_tile;
mod instruction_set;
mod interpolation;
mod matrix;
mod prefetch;
mod quantized;
#[cfg(target_arch = "x86_64")]
mod quantized_vnni;
mod reorder;
mod sgd;
mod softmax;
#[cfg(test)]
pub(crate) mod test_values;

pub use convert::{f16_from_f32, f32_from_f16, f32_from_u8_divided, f32_from_u8_scaled};
pub use decimals::read_decimals;
pub use elementwise::{
    activate, activation_gradient, axpy, exp, relu, relu_gradient, relu6, relu6_gradient, sigmoid,
    sigmoid_gradient, sum_over_rows, tanh, tanh_gradient,
};
pub use gemm::{Activation, Epilogue, gemm, gemm_packed, gemm_packed_columns};
pub use gemm_pack::PackedB;
pub use gemm_scalar::f32_gemm_scalar;
pub use instruction_set::{InstructionSet, instruction_set};
pub use interpolation::Interpolation;
pub use matrix::{Matrix, MatrixMut};
pub use prefetch::prefetch;
pub use quantized::{
    ByteScaling, ByteSum, PackedFilters, add_bytes, add_bytes_to, centre_bytes, depthwise_sums,
    flip_bytes, fold_largest, has_byte_products, i16_products, multiply_rows, scale_to_bytes,
};
pub use reorder::reorder;
pub use sgd::{momentum_step, nesterov_step, sgd_step};
pub use softmax::{softmax_cross_entropy, softmax_rows};
