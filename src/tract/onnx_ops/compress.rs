//! Compress: the slices of an axis, or the elements, whose condition is true.

use super::*;
use tract_core::ops::array::Gather;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

pub fn parse(_ctx: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    Ok((expand(Compress { axis: node.get_attr_opt("axis")? }), vec![]))
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Compress {
    /// All elements, in order, where there is none.
    axis: Option<i64>,
}

impl Compress {
    fn axis_of(&self, rank: usize) -> TractResult<usize> {
        let axis = self.axis.unwrap_or(0);
        let positive = if axis < 0 { axis + rank as i64 } else { axis };
        let axis_in = usize::try_from(positive).ok().filter(|&a| a < rank);
        axis_in.with_context(|| format!("the axis {axis} of rank {rank}"))
    }
}

impl Expansion for Compress {
    fn name(&self) -> StaticName {
        "Compress".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.equals(&inputs[1].datum_type, DatumType::Bool)?;
        s.equals(&inputs[1].rank, 1)?;
        if self.axis.is_none() {
            return s.equals(&outputs[0].rank, 1);
        }
        s.equals(&outputs[0].rank, &inputs[0].rank)?;
        s.given(&inputs[0].rank, move |s, rank| {
            let rank = rank as usize;
            let compressed = self.axis_of(rank)?;
            for axis in (0..rank).filter(|&a| a != compressed) {
                s.equals(&outputs[0].shape[axis], &inputs[0].shape[axis])?;
            }
            Ok(())
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut data = inputs[0];
        let shape = model.outlet_fact(data)?.shape.to_tvec();
        if self.axis.is_none() && shape.len() != 1 {
            let all = shape.iter().cloned().product::<TDim>();
            let op = match shape.is_empty() {
                true => AxisOp::Add(0),
                false => AxisOp::Reshape(0, shape.clone(), tvec![all]),
            };
            data = model.wire_node(format!("{prefix}.elements"), op, &[data])?[0];
        }
        let axis = match self.axis {
            Some(_) => self.axis_of(shape.len())?,
            None => 0,
        };
        let count = model.symbols.new_with_prefix("kept");
        let kept = model.wire_node(format!("{prefix}.kept"), NonZero { count }, &inputs[1..])?;
        let kept = model.wire_node(format!("{prefix}.places"), AxisOp::Rm(0), &kept)?;
        model.wire_node(prefix, Gather::new(axis), &[data, kept[0]])
    }
}
