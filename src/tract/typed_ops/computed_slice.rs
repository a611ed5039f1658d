//! A slice whose bounds are computed, and that may be empty; tract's refuses to be.

use super::*;

/// inputs x, start and end (int64 scalars) → x from start up to end on `axis`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ComputedSlice {
    pub axis: usize,
    pub len: TDim,
}

impl Op for ComputedSlice {
    fn name(&self) -> StaticName {
        "ComputedSlice".into()
    }

    fn mints_runtime_symbols(&self) -> bool {
        true
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for ComputedSlice {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let start = number::<i64>(&inputs[1])?;
        let end = number::<i64>(&inputs[2])?;
        let len = inputs[0].shape().get(self.axis).copied().unwrap_or(0);
        let (Ok(start), Ok(end)) = (usize::try_from(start), usize::try_from(end)) else {
            bail!("a slice from {start} to {end}")
        };
        ensure!(start <= end && end <= len, "a slice from {start} to {end} of {len}");
        if start == end {
            let mut shape: TVec<usize> = inputs[0].shape().into();
            shape[self.axis] = 0;
            return Ok(tvec![Tensor::zero_dt(inputs[0].datum_type(), &shape)?.into_tvalue()]);
        }
        Ok(tvec![inputs[0].slice(self.axis, start, end)?.into_tvalue()])
    }
}

impl TypedOp for ComputedSlice {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut fact = inputs[0].without_value();
        ensure!(self.axis < fact.rank(), "the axis {} of rank {}", self.axis, fact.rank());
        fact.shape.set(self.axis, self.len.clone());
        Ok(tvec![fact])
    }

    tract_core::as_op!();
}
