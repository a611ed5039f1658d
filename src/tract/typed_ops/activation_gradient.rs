//! Gradients of activations, from the activation's own result.

use super::*;
use crate::kernels::Activation;

/// inputs `[gradient, y]` of one shape → `gradient · f′`, where `y = f(x)`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ActivationGradient(pub Activation);

impl Op for ActivationGradient {
    fn name(&self) -> StaticName {
        format!("{:?}Gradient", self.0).into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for ActivationGradient {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (gradient, y) = tract_core::args_2!(inputs);
        ensure!(gradient.shape() == y.shape(), "gradient {gradient:?} of {y:?}");
        let mut gradient = exclusive(gradient);
        let mut plain = gradient.try_as_plain_ram_mut()?;
        let (g, y) = (plain.as_slice_mut::<f32>()?, values(&y)?);
        crate::kernels::activation_gradient(self.0, y, g);
        Ok(tvec!(gradient.into_tvalue()))
    }
}

impl TypedOp for ActivationGradient {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(inputs[0].without_value()))
    }

    tract_core::as_op!();
}
