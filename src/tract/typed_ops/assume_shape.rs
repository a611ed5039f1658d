//! What is known of a shape from elsewhere.

use super::*;

/// The input itself, which has this shape; a run where it has not is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AssumeShape(pub TVec<TDim>);

impl Op for AssumeShape {
    fn name(&self) -> StaticName {
        "AssumeShape".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for AssumeShape {
    tract_core::not_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let shape = inputs[0].shape();
        for (&size, dim) in shape.iter().zip(&self.0) {
            let wanted = dim.eval(ctx.symbols);
            ensure!(
                wanted.to_usize().is_ok_and(|wanted| wanted == size),
                "{shape:?} where {wanted} was assumed"
            );
        }
        Ok(inputs)
    }
}

impl TypedOp for AssumeShape {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs[0].rank() == self.0.len(), "another rank than {:?}", self.0);
        Ok(tvec!(inputs[0].datum_type.fact(&*self.0)))
    }

    tract_core::as_op!();
}
