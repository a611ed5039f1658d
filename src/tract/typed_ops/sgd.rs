//! Plain gradient descent on one weight matrix, with the gradient's product inside.

use super::*;
use crate::kernels::{self, Epilogue, Matrix, MatrixMut};

/// inputs `[weights (m × n), a (rows × …m), b (rows × n)]` → `weights + alpha · aᵀ·b`, in place where
/// the weights are not shared.
#[derive(Debug, Clone)]
pub struct SgdUpdate {
    pub alpha: f32,
}

impl PartialEq for SgdUpdate {
    fn eq(&self, other: &Self) -> bool {
        self.alpha.to_bits() == other.alpha.to_bits()
    }
}

impl Eq for SgdUpdate {}

impl Op for SgdUpdate {
    fn name(&self) -> StaticName {
        "SgdUpdate".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for SgdUpdate {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (weights, a, b) = tract_core::args_3!(inputs);
        let (&[m, n], &[rows, b_columns]) = (weights.shape(), b.shape()) else {
            bail!("SgdUpdate of {weights:?}, {b:?}")
        };
        let fits = a.shape().first() == Some(&rows) && a.len() == rows * m && b_columns == n;
        ensure!(fits, "SgdUpdate of {weights:?}, {a:?}, {b:?}");
        let mut weights = exclusive(weights);
        let mut plain = weights.try_as_plain_ram_mut()?;
        let c = MatrixMut::row_major(plain.as_slice_mut::<f32>()?, m, n);
        let left = Matrix::row_major(values(&a)?, rows, m).transposed();
        let right = Matrix::row_major(values(&b)?, rows, n);
        kernels::gemm(left, right, c, &Epilogue::update(self.alpha));
        Ok(tvec!(weights.into_tvalue()))
    }
}

impl TypedOp for SgdUpdate {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    tract_core::as_op!();
}
