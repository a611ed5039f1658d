//! Whether rows of several requests may run together: each row of the outputs must come from the same row of the inputs.

use crate::tract::ops::array::{Pad, Slice, TypedConcat};
use crate::tract::ops::binary::TypedBinOp;
use crate::tract::ops::cast::Cast;
use crate::tract::ops::cnn::{Conv, MaxPool, PoolSpec, SumPool};
use crate::tract::ops::einsum::EinSum;
use crate::tract::ops::element_wise::ElementWiseOp;
use crate::tract::ops::source::TypedSource;
use crate::tract::typed_ops::{Gemm, SoftmaxRows};
use crate::tract::{
    AxisOp, DatumType, EvalContext, OutletId, TDim, TypedFact, TypedModel, TypedNode,
};
use anyhow::Result;
use std::collections::HashMap;

/// Whether the first axis of all ends is an open batch, and every op on the way works on each of its rows alone. `false`
/// also where an op is not known to: what is said here is sure. A row gives the same bits alone and among others.
///
/// # Errors
/// The graph is broken.
pub fn rows_are_independent(model: &TypedModel) -> Result<bool> {
    let Some(input) = model.input_outlets()?.first() else { return Ok(false) };
    let Some(TDim::Sym(batch)) = model.outlet_fact(*input)?.shape.first() else { return Ok(false) };
    let is_batch = |dim: &TDim| *dim == TDim::Sym(batch.clone());
    let of_batch = |dim: &TDim| dim.symbols().contains(batch);
    let knows_batch = |fact: &TypedFact| {
        // a dimension as a value could be that of the batch
        fact.datum_type == DatumType::TDim || fact.shape.iter().any(of_batch)
    };
    let has_rows = |fact: &TypedFact| {
        let mut dims = fact.shape.iter();
        dims.next().is_some_and(is_batch) && !dims.any(of_batch) && !fact.datum_type.is_quantized()
    };
    let mut by_rows: HashMap<OutletId, bool> = HashMap::new();
    for id in model.eval_order()? {
        let node = model.node(id);
        let inputs: Vec<bool> = node.inputs.iter().map(|outlet| by_rows[outlet]).collect();
        let is_input = node.op_is::<TypedSource>();
        let any = is_input || inputs.contains(&true);
        let is_known = match (is_input, any) {
            (true, _) => true,
            (_, true) => keeps_rows_apart(model, node, &inputs, &of_batch)?,
            // random numbers, for one, differ from run to run
            (_, false) => node.op.state(&EvalContext::out_of_plan()).is_ok_and(|it| it.is_none()),
        };
        if !is_known {
            return Ok(false);
        }
        for (slot, output) in node.outputs.iter().enumerate() {
            let fits = if any { has_rows(&output.fact) } else { !knows_batch(&output.fact) };
            if !fits {
                return Ok(false);
            }
            by_rows.insert((id, slot).into(), any);
        }
    }
    Ok(model.output_outlets()?.iter().all(|outlet| by_rows.get(outlet) == Some(&true)))
}

/// Whether row `n` of what `node` makes comes from row `n` of those inputs that are `by_rows`; the others are the same
/// for all. Reductions are not among the ops: tract's begin where memory is aligned, so a row's place would round sums,
/// and tell which of the largest is taken where one is no number.
fn keeps_rows_apart(
    model: &TypedModel,
    node: &TypedNode,
    by_rows: &[bool],
    of_batch: &impl Fn(&TDim) -> bool,
) -> Result<bool> {
    let only_first = || by_rows.iter().enumerate().all(|(i, by_rows)| *by_rows == (i == 0));
    if node.op_is::<ElementWiseOp>() || node.op_is::<Cast>() {
        return Ok(true);
    }
    if node.op_is::<TypedBinOp>() {
        for (outlet, by_rows) in node.inputs.iter().zip(by_rows) {
            let first = model.outlet_fact(*outlet)?.shape.first();
            if !by_rows && first != Some(&1.into()) {
                return Ok(false);
            }
        }
        return Ok(true);
    }
    if let Some(op) = node.op_as::<EinSum>() {
        return Ok(op.q_params.is_none()
            && op.axes.iter_all_axes().any(|axis| {
                axis.outputs.iter().all(|at| at.as_slice() == [0])
                    && axis.inputs.iter().zip(by_rows).all(|(at, by_rows)| match by_rows {
                        true => at.as_slice() == [0],
                        false => at.is_empty(),
                    })
            }));
    }
    if let Some(op) = node.op_as::<TypedConcat>() {
        return Ok(op.axis > 0 && !by_rows.contains(&false));
    }
    let has_batch = |pool: &PoolSpec| pool.data_format.has_n();
    let is_known = if let Some(op) = node.op_as::<Gemm>() {
        op.row_axes > 0 && !op.transpose_a
    } else if let Some(op) = node.op_as::<SoftmaxRows>() {
        op.axis > 0
    } else if let Some(op) = node.op_as::<Conv>() {
        has_batch(&op.pool_spec) && op.q_params.is_none()
    } else if let Some(op) = node.op_as::<MaxPool>() {
        has_batch(&op.pool_spec) && op.with_index_outputs.is_none()
    } else if let Some(op) = node.op_as::<SumPool>() {
        has_batch(&op.pool_spec)
    } else if let Some(op) = node.op_as::<Slice>() {
        op.axis > 0 && !of_batch(&op.start) && !of_batch(&op.end)
    } else if let Some(op) = node.op_as::<Pad>() {
        op.pads.first() == Some(&(0, 0))
    } else {
        match node.op_as::<AxisOp>() {
            Some(AxisOp::Add(axis) | AxisOp::Rm(axis)) => *axis > 0,
            Some(AxisOp::Move(from, to)) => *from > 0 && *to > 0,
            Some(AxisOp::Reshape(0, from, to)) => from.first() == to.first(),
            Some(AxisOp::Reshape(..)) => true,
            None => false,
        }
    };
    Ok(is_known && only_first())
}

#[cfg(test)]
mod tests;
