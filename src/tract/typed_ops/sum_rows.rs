//! The sum over the rows of a matrix: a bias' gradient.

use super::*;

/// `[rows, columns]` → `[1, columns]`, rows added in order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SumRows;

impl Op for SumRows {
    fn name(&self) -> StaticName {
        "SumRows".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for SumRows {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let &[_, columns] = inputs[0].shape() else { bail!("SumRows of {:?}", inputs[0]) };
        let sum = filled(&[1, columns], |sums| {
            crate::kernels::sum_over_rows(values(&inputs[0])?, sums);
            Ok(())
        })?;
        Ok(tvec!(sum))
    }
}

impl TypedOp for SumRows {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact([1.to_dim(), inputs[0].shape[1].clone()])))
    }

    tract_core::as_op!();
}
