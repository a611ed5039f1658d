//! TFLite's DYNAMIC_UPDATE_SLICE.

use super::*;

/// The first input with the second written over it at the third, int32 or int64 `[rank]`, which is moved
/// inside where the second would reach out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpdateSlice;

impl Op for UpdateSlice {
    fn name(&self) -> StaticName {
        "UpdateSlice".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for UpdateSlice {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, mut inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let start = inputs[2].cast_to::<i64>()?.into_owned();
        let mut target = exclusive(inputs.remove(0));
        let update = &inputs[0];
        let width = target.datum_type().size_of();
        let fits = target.rank() == update.rank()
            && start.len() == target.rank()
            && update.datum_type() == target.datum_type()
            && target.shape().iter().zip(update.shape()).all(|(whole, part)| part <= whole);
        ensure!(fits, "a slice {update:?} at {start:?} does not fit {target:?}");
        let start = start.try_as_plain_ram()?;
        let start = start.as_slice::<i64>()?.iter().zip(target.shape()).zip(update.shape());
        let start: Vec<usize> =
            start.map(|((&s, whole), part)| s.clamp(0, (whole - part) as i64) as usize).collect();
        let (shape, part): (Vec<usize>, Vec<usize>) =
            (target.shape().into(), update.shape().into());
        let Some((&row, outer)) = part.split_last() else { return Ok(tvec!(inputs.remove(0))) };
        let rows: usize = outer.iter().product();
        let from = update.as_bytes().to_vec();
        let to = target.as_bytes_mut();
        for i in 0..rows * (row > 0) as usize {
            let (mut rest, mut place, mut stride) = (i, start[outer.len()], shape[outer.len()]);
            for axis in (0..outer.len()).rev() {
                place += (start[axis] + rest % outer[axis]) * stride;
                rest /= outer[axis];
                stride *= shape[axis];
            }
            let bytes = &from[i * row * width..][..row * width];
            to[place * width..][..row * width].copy_from_slice(bytes);
        }
        Ok(tvec!(target.into_tvalue()))
    }
}

impl TypedOp for UpdateSlice {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == 3 && inputs[0].datum_type == inputs[1].datum_type);
        ensure!(inputs[0].rank() == inputs[1].rank(), "a slice of another rank");
        Ok(tvec!(inputs[0].without_value()))
    }

    tract_core::as_op!();
}
