//! Celu of ONNX: `max(0, x) + min(0, alpha × (exp(x / alpha) − 1))`. tract 0.23.9 leaves the factor out.

use super::*;
use crate::tract::ops::math;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

#[derive(Debug, Clone)]
struct Celu(f32);

/// tract's reader of the operator, for its registry.
pub fn celu(
    _ctx: &tract_onnx::model::ParsingContext,
    node: &pb::NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let alpha = node.get_attr_opt("alpha")?.unwrap_or(1.);
    ensure!(alpha != 0.0, "Celu with an alpha of 0");
    Ok((expand(Celu(alpha)), vec![]))
}

impl Expansion for Celu {
    fn name(&self) -> StaticName {
        "Celu".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)
    }

    fn wire(
        &self,
        name: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?.clone();
        let mut constant = |part: &str, value: f32| -> TractResult<OutletId> {
            let value = tensor0(value).cast_to_dt(fact.datum_type)?.into_owned();
            let value = value.broadcast_into_rank(fact.rank())?;
            model.add_const(format!("{name}.{part}"), value)
        };
        let (zero, one) = (constant("zero", 0.0)?, constant("one", 1.0)?);
        let alpha = constant("alpha", self.0)?;
        let mut wire = |part: &str, op: Box<dyn TypedOp>, inputs: &[OutletId]| -> TractResult<_> {
            Ok(model.wire_node(format!("{name}{part}"), op, inputs)?[0])
        };
        let scaled = wire(".x_over_alpha", Box::new(math::div()), &[inputs[0], alpha])?;
        let exp = wire(".exp", Box::new(math::exp()), &[scaled])?;
        let below = wire(".minus_one", Box::new(math::sub()), &[exp, one])?;
        let below = wire(".mul_alpha", Box::new(math::mul()), &[below, alpha])?;
        let below = wire(".sat-zero", Box::new(math::min()), &[below, zero])?;
        let above = wire(".relu", Box::new(math::max()), &[inputs[0], zero])?;
        Ok(tvec!(wire("", Box::new(math::add()), &[above, below])?))
    }
}
