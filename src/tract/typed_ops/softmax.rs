//! Softmax within rows, on our kernel: a row gives the same bits wherever it lies in memory and whatever lies beside it,
//! which tract's does not.

use super::*;

/// Softmax in float32 over `axis`, after which no axis has more than one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SoftmaxRows {
    pub axis: usize,
}

impl Op for SoftmaxRows {
    fn name(&self) -> StaticName {
        "Softmax".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for SoftmaxRows {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut values = args_1!(inputs).into_tensor();
        ensure!(self.axis < values.rank(), "Softmax over axis {} of {values:?}", self.axis);
        let columns = values.shape()[self.axis..].iter().product();
        let mut rows = values.try_as_plain_ram_mut()?;
        crate::kernels::softmax_rows(rows.as_slice_mut::<f32>()?, columns);
        Ok(tvec!(values.into_tvalue()))
    }
}

impl TypedOp for SoftmaxRows {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(tvec!(f32::fact(inputs[0].shape.iter())))
    }

    tract_core::as_op!();
}
