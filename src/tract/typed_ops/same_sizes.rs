//! What a product must be able to rely on.

use super::*;

/// The first input itself, where the two inputs' dimensions are equal in these pairs of axes; else an error. tract's
/// products take it on trust, and read past the end of the shorter one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SameSizes(pub TVec<(usize, usize)>);

impl Op for SameSizes {
    fn name(&self) -> StaticName {
        "SameSizes".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for SameSizes {
    tract_core::not_out_of_plan!();

    fn eval(&self, _: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (first, second) = (inputs[0].shape(), inputs[1].shape());
        for &(a, b) in &self.0 {
            let fits = first.get(a).is_some() && first.get(a) == second.get(b);
            ensure!(fits, "a product of {first:?} and {second:?}");
        }
        inputs.truncate(1);
        Ok(inputs)
    }
}

impl TypedOp for SameSizes {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 2, "two inputs, not {}", inputs.len());
        Ok(tvec!(inputs[0].without_value()))
    }

    tract_core::as_op!();
}
