//! The one door to tract: loading, guarding, and the typed ops that we add.
//!
//! Invariant: no other module names the tract crates; `ops/`, `lower/`, `raise/`, `runtime/` and
//! `train/gradient.rs` take ops from here.

mod celu;
mod external_data;
pub mod guard;
mod mend;
pub mod mapped;
pub mod onnx;
mod one_row;
mod onnx_ops;
pub mod optimize;
mod sanity;
pub mod typed_ops;

pub use one_row::OneRow;
pub use onnx_ops::MaxPoolIndices;
pub use tract_core::ops;
pub use tract_core::ops::change_axes::to_axis_ops_with_tf_rules;
pub use tract_onnx::pb;
pub use tract_onnx::tract_hir::internal::*;
pub use tract_onnx_opl::lrn::Lrn;
pub use tract_onnx_opl::non_max_suppression::{self, NonMaxSuppression};
pub use tract_onnx_opl::non_zero::NonZero;
#[cfg(test)]
pub use tract_onnx_opl::random;
pub use tract_onnx_opl::resize as onnx_resize;
