//! Unsigned integers that hardly a TFLite kernel takes: lite graphs carry them in wider signed ones. Inputs and
//! outputs keep their type, and CAST lies between.

use super::*;
use crate::tract::ops::array::{Gather, GatherElements, GatherNd, MultiBroadcastTo, Slice, Tile};
use crate::tract::ops::array::{Topk, TypedConcat};
use crate::tract::ops::binary::TypedBinOp;
use crate::tract::ops::nn::{Reduce, Reducer};
use crate::tract::ops::{logic, math};
use crate::tract::typed_ops::{Remainder, ShiftRight};

/// The type in which lite graphs compute what tract computes as `element`.
pub fn carrier(element: ElementType) -> ElementType {
    match element {
        ElementType::U16 => ElementType::I32,
        ElementType::U32 => ElementType::I64,
        other => other,
    }
}

impl LowerContext<'_> {
    /// `tensor`, which stands for `outlet`, modulo 2^bits of the outlet's type, where the op that computes it
    /// may have left its range.
    pub(super) fn wrapped(&mut self, outlet: OutletId, tensor: TensorId) -> TensorId {
        let fact = self.model.outlet_fact(outlet);
        let Ok(own) = fact.and_then(|fact| Ok(element_type(fact.datum_type)?)) else {
            return tensor;
        };
        let node = self.model.node(outlet.node);
        let carrier = carrier(own);
        if own == carrier || keeps_range(node) || self.graph.tensors[tensor].element != carrier {
            return tensor;
        }
        let narrow = self.cast(&format!("{}/wrapped", node.name), tensor, own);
        self.cast(&node.name, narrow, carrier)
    }
}

/// Whether every value that `node` makes of unsigned integers is in their range as it is.
fn keeps_range(node: &TypedNode) -> bool {
    if let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>() {
        return op.is::<math::Max>()
            || op.is::<math::Min>()
            || op.is::<math::Div>()
            || op.is::<Remainder>()
            || op.is::<ShiftRight>();
    }
    if let Some(reduce) = node.op_as::<Reduce>() {
        return matches!(reduce.reducer, Reducer::Max | Reducer::Min);
    }
    node.op_is::<AxisOp>()
        || node.op_is::<Gather>()
        || node.op_is::<GatherElements>()
        || node.op_is::<GatherNd>()
        || node.op_is::<MultiBroadcastTo>()
        || node.op_is::<Slice>()
        || node.op_is::<Tile>()
        || node.op_is::<TypedConcat>()
        || node.op_is::<Topk>()
        || node.op_is::<logic::Iff>()
}
