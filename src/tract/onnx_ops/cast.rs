//! Cast, where shapes of symbols stay shapes through int32 and int64, and data stays data.
//!
//! tract's own takes every int64 for a dimension, and loses the symbols of shapes cast to int32.

use super::*;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

pub fn parse(_ctx: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    Ok((expand(Cast { to: node.get_attr("to")? }), vec![]))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Cast {
    to: DatumType,
}

impl Cast {
    fn keeps_shapes(&self) -> bool {
        matches!(self.to, DatumType::I32 | DatumType::I64)
    }
}

fn has_symbols(value: &Tensor) -> TractResult<bool> {
    let dims = value.try_as_plain_ram()?;
    Ok(dims.as_slice::<TDim>()?.iter().any(|d| d.to_i64().is_err()))
}

impl Expansion for Cast {
    fn name(&self) -> StaticName {
        "Cast".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].shape, &inputs[0].shape)?;
        s.given(&inputs[0].datum_type, move |s, from| {
            if from != DatumType::TDim || !self.keeps_shapes() {
                return s.equals(&outputs[0].datum_type, self.to);
            }
            if self.to == DatumType::I64 {
                s.equals(&outputs[0].datum_type, DatumType::TDim)?;
            }
            s.given(&inputs[0].value, move |s, value| {
                let value = match self.to == DatumType::I64 || has_symbols(&value)? {
                    true => value,
                    false => value.cast_to_dt(self.to)?.into_owned().into_arc_tensor(),
                };
                s.equals(&outputs[0].datum_type, value.datum_type())?;
                s.equals(&outputs[0].value, value)
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?;
        let stays = fact.datum_type == DatumType::TDim && self.keeps_shapes() && {
            let symbols = fact.konst.as_ref().map(|k| has_symbols(k)).transpose()?;
            self.to == DatumType::I64 || symbols == Some(true)
        };
        let to = if stays { DatumType::TDim } else { self.to };
        model.wire_node(prefix, tract_core::ops::cast::cast(to), inputs)
    }
}
