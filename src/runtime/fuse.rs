//! Rewrites a graph onto our kernels: products with their bias and activation become one [`Gemm`].

use crate::kernels::{Activation, Matrix};
use crate::tract::ops::binary::TypedBinOp;
use crate::tract::ops::einsum::EinSum;
use crate::tract::ops::element_wise::ElementWiseOp;
use crate::tract::ops::nn::{self, Reduce, Reducer, Softmax, SoftmaxKind};
use crate::tract::ops::{konst::Const, math, source::TypedSource};
use crate::tract::typed_ops::{Gemm, PackedWeights, SgdUpdate, SoftmaxRows, SumRows};
use crate::tract::{
    AxisOp, DatumType, IntoTensor, OutletId, SpecialOps, TVec, TypedModel, TypedNode, TypedOp,
};
use anyhow::{Context, Result};
use std::collections::HashMap;

/// The same graph, with what we have kernels for replaced.
pub fn fuse(model: &TypedModel) -> Result<TypedModel> {
    let mut fused = TypedModel { symbols: model.symbols.clone(), ..TypedModel::default() };
    let mut copies: HashMap<OutletId, OutletId> = HashMap::new();
    for outlet in model.input_outlets()? {
        let node = model.node(outlet.node);
        let copy = fused.add_source(&node.name, node.outputs[0].fact.clone())?;
        copies.insert(*outlet, copy);
    }
    let order = model.eval_order()?;
    let mut chains: Vec<Chain> = vec![];
    for &id in &order {
        chains.extend(Chain::starting_at(model, model.node(id), &chains));
    }
    let tails: HashMap<usize, &Chain> = chains.iter().map(|c| (c.tail, c)).collect();
    let inside: Vec<usize> = chains.iter().flat_map(|c| c.inside.iter().copied()).collect();
    for &id in &order {
        let node = model.node(id);
        if node.op_is::<TypedSource>() || inside.contains(&id) {
            continue;
        }
        let (op, mut inputs): (Box<dyn TypedOp>, TVec<OutletId>) = match tails.get(&id) {
            Some(chain) => (Box::new(chain.op.clone()), chain.inputs.clone()),
            None if is_sum_of_rows(model, node)? => {
                (Box::new(SumRows), node.inputs.as_slice().into())
            }
            None => {
                let softmax = softmax_rows(model, node)?;
                let op = softmax.map_or_else(|| node.op.clone(), |op| Box::new(op));
                (op, node.inputs.as_slice().into())
            }
        };
        if let Some(place) = flattened_operand(op.as_ref()) {
            inputs[place] = below_flatten(model, inputs[place])?;
        }
        let copy = |i: &OutletId| {
            copies.get(i).copied().with_context(|| format!("{node} reads what nothing makes"))
        };
        let inputs = inputs.iter().map(copy).collect::<Result<TVec<OutletId>>>()?;
        let outputs = match node.op_as::<Const>() {
            Some(constant) => {
                let name = node.name.clone();
                let op = constant.clone();
                fused.wire_node(name, op, &[])?
            }
            None => fused.wire_node(&node.name, op, &inputs)?,
        };
        for (slot, outlet) in outputs.into_iter().enumerate() {
            copies.insert(OutletId::new(id, slot), outlet);
        }
    }
    let outputs: Vec<OutletId> = model.output_outlets()?.iter().map(|o| copies[o]).collect();
    fused.select_output_outlets(&outputs)?;
    Ok(fused)
}

/// The operand of which our op takes all axes after the first as one.
fn flattened_operand(op: &dyn TypedOp) -> Option<usize> {
    match op.downcast_ref::<Gemm>() {
        Some(gemm) => (gemm.row_axes == 1 && !gemm.transpose_a).then_some(0),
        None => op.is::<SgdUpdate>().then_some(1),
    }
}

/// What a matrix is a reshape of, the first axis left alone; `outlet` itself if it is none.
fn below_flatten(model: &TypedModel, outlet: OutletId) -> Result<OutletId> {
    let mut below = outlet;
    if model.outlet_fact(outlet)?.rank() != 2 {
        return Ok(outlet);
    }
    while let Some(op) = model.node(below.node).op_as::<AxisOp>() {
        let keeps_rows = match op {
            AxisOp::Reshape(0, from, to) => from.first() == to.first(),
            AxisOp::Reshape(..) => true,
            AxisOp::Add(axis) | AxisOp::Rm(axis) => *axis > 0,
            AxisOp::Move(..) => false,
        };
        if !keeps_rows {
            break;
        }
        below = model.node(below.node).inputs[0];
    }
    Ok(below)
}

/// A product and the nodes after it that a [`Gemm`] does too.
struct Chain {
    op: Gemm,
    inputs: TVec<OutletId>,
    /// The node whose result the Gemm makes.
    tail: usize,
    /// The nodes before it, which go.
    inside: Vec<usize>,
}

impl Chain {
    /// The chain from `node` on, which ends before a node of `others`.
    fn starting_at(model: &TypedModel, node: &TypedNode, others: &[Chain]) -> Option<Chain> {
        let op = node.op_as::<EinSum>()?;
        let (op, inputs) = gemm_of_einsum(model, node, op)?;
        let mut chain = Chain { op, inputs, tail: node.id, inside: vec![] };
        let free = |next: usize| others.iter().all(|o| o.tail != next && !o.inside.contains(&next));
        if let Some((next, bias)) = chain.bias_after(model).filter(|(next, _)| free(*next)) {
            chain.op.has_bias = true;
            chain.inputs.push(bias);
            chain.extend(next);
        }
        if let Some((next, activation)) = chain.activation_after(model) {
            chain.op.activation = activation;
            chain.extend(next);
        }
        Some(chain)
    }

    fn extend(&mut self, next: usize) {
        self.inside.push(std::mem::replace(&mut self.tail, next));
    }

    /// The only reader of the chain's result so far, unless the result is a graph output.
    fn next<'m>(&self, model: &'m TypedModel) -> Option<&'m TypedNode> {
        let outlet = OutletId::new(self.tail, 0);
        if model.output_outlets().ok()?.contains(&outlet) {
            return None;
        }
        match model.node(self.tail).outputs[0].successors.as_slice() {
            [one] => Some(model.node(one.node)),
            _ => None,
        }
    }

    fn bias_after(&self, model: &TypedModel) -> Option<(usize, OutletId)> {
        let next = self.next(model)?;
        next.op_as::<TypedBinOp>().filter(|op| op.0.is::<math::Add>() && op.1.is_none())?;
        let bias = *next.inputs.iter().find(|i| i.node != self.tail)?;
        let product = model.outlet_fact(OutletId::new(self.tail, 0)).ok()?;
        let fact = model.outlet_fact(bias).ok()?;
        let (last, leading) = fact.shape.split_last()?;
        let one_row = leading.iter().all(|d| *d == 1.into()) && Some(last) == product.shape.last();
        (one_row && fact.datum_type == DatumType::F32).then_some((next.id, bias))
    }

    fn activation_after(&self, model: &TypedModel) -> Option<(usize, Activation)> {
        let next = self.next(model)?;
        if let Some(ElementWiseOp(op, None)) = next.op_as::<ElementWiseOp>() {
            let activation = if op.is::<nn::Sigmoid>() {
                Activation::Sigmoid
            } else if op.is::<math::Tanh>() {
                Activation::Tanh
            } else {
                return None;
            };
            return Some((next.id, activation));
        }
        let TypedBinOp(op, None) = next.op_as::<TypedBinOp>()? else { return None };
        let bound = *next.inputs.iter().find(|i| i.node != self.tail)?;
        let fact = model.outlet_fact(bound).ok()?;
        let zero = fact.konst.as_ref()?.is_all_zero().ok()?;
        let scalar = fact.shape.iter().all(|d| *d == 1.into());
        (op.is::<math::Max>() && zero && scalar).then_some((next.id, Activation::Relu))
    }
}

/// The einsum as a Gemm of its two operands, where it is one.
fn gemm_of_einsum(
    model: &TypedModel,
    node: &TypedNode,
    op: &EinSum,
) -> Option<(Gemm, TVec<OutletId>)> {
    let &[left, right] = node.inputs.as_slice() else { return None };
    let facts = [model.outlet_fact(left).ok()?, model.outlet_fact(right).ok()?];
    let floats = facts.iter().all(|f| f.datum_type == DatumType::F32);
    if !floats || op.operating_dt != DatumType::F32 || op.q_params.is_some() {
        return None;
    }
    let text = op.axes.to_string();
    let (operands, out) = text.split_once("->")?;
    let (a, b) = operands.split_once(',')?;
    gemm_of_operands(model, [(a, left), (b, right)], out)
        .or_else(|| gemm_of_operands(model, [(b, right), (a, left)], out))
}

/// As [`gemm_of_einsum`], for operands in the order in which the result has their axes.
fn gemm_of_operands(
    model: &TypedModel,
    [(a, left), (b, right)]: [(&str, OutletId); 2],
    out: &str,
) -> Option<(Gemm, TVec<OutletId>)> {
    let axes = |text: &str, keep: &dyn Fn(char) -> bool| -> String {
        text.chars().filter(|&c| keep(c)).collect()
    };
    let rows = axes(a, &|c| out.contains(c));
    let columns = axes(b, &|c| out.contains(c));
    let inner = axes(a, &|c| b.contains(c));
    let alone = axes(a, &|c| !out.contains(c) && !b.contains(c));
    let left_fact = model.outlet_fact(left).ok()?;
    let one = |c: char| a.find(c).is_some_and(|i| left_fact.shape[i] == 1.into());
    let plain = format!("{rows}{columns}") == out
        && rows.chars().all(|c| !b.contains(c))
        && columns.chars().count() == 1
        && axes(b, &|c| !out.contains(c) && !a.contains(c)).is_empty()
        && alone.chars().all(one);
    if !plain {
        return None;
    }
    let gemm = |row_axes| Gemm {
        row_axes,
        transpose_a: false,
        transpose_b: false,
        packed: None,
        has_bias: false,
        activation: Activation::Identity,
    };
    let in_order =
        a.strip_prefix(rows.as_str()).is_some_and(|rest| axes(rest, &|c| b.contains(c)) == inner);
    if in_order && let Some(weights) = &model.outlet_fact(right).ok()?.konst {
        let size = |axis: char| Some(weights.shape()[b.find(axis)?]);
        if b == format!("{columns}{inner}") {
            let depth = inner.chars().map(size).product::<Option<usize>>()?;
            let width = columns.chars().map(size).product::<Option<usize>>()?;
            if let Some(packed) = PackedWeights::of_mapped(weights, depth, width) {
                let packed = Some(packed);
                return Some((Gemm { packed, ..gemm(rows.len()) }, TVec::from_slice(&[left])));
            }
        }
        let order: Option<Vec<usize>> =
            inner.chars().chain(columns.chars()).map(|c| b.find(c)).collect();
        let weights = weights.clone().into_tensor().permute_axes(&order?).ok()?;
        let (&columns, inner) = weights.shape().split_last()?;
        let matrix = Matrix::row_major(
            weights.try_as_plain_ram().ok()?.as_slice::<f32>().ok()?,
            inner.iter().product(),
            columns,
        );
        let packed = Some(PackedWeights::new(matrix));
        return Some((Gemm { packed, ..gemm(rows.len()) }, TVec::from_slice(&[left])));
    }
    let two_axes = rows.len() == 1 && inner.len() == 1 && alone.is_empty();
    let transpose_a = !in_order && a == format!("{inner}{rows}");
    if !two_axes || !(in_order || transpose_a) || columns == rows {
        return None;
    }
    let transpose_b = b == format!("{columns}{inner}");
    let op = Gemm { transpose_a, transpose_b, ..gemm(1) };
    (transpose_b || b == format!("{inner}{columns}"))
        .then(|| (op, TVec::from_slice(&[left, right])))
}

fn is_sum_of_rows(model: &TypedModel, node: &TypedNode) -> Result<bool> {
    let Some(op) = node.op_as::<Reduce>() else { return Ok(false) };
    let fact = model.outlet_fact(node.inputs[0])?;
    Ok(op.reducer == Reducer::Sum
        && op.axes.as_slice() == [0]
        && fact.rank() == 2
        && fact.datum_type == DatumType::F32)
}

fn softmax_rows(model: &TypedModel, node: &TypedNode) -> Result<Option<SoftmaxRows>> {
    let Some(op) = node.op_as::<Softmax>() else { return Ok(None) };
    let fact = model.outlet_fact(node.inputs[0])?;
    let &[axis] = op.axes.as_slice() else { return Ok(None) };
    let fits = op.kind == SoftmaxKind::Softmax
        && op.quant_output_dt.is_none()
        && fact.datum_type == DatumType::F32
        && fact.shape.iter().skip(axis + 1).all(|dim| *dim == 1.into());
    Ok(fits.then_some(SoftmaxRows { axis }))
}

#[cfg(test)]
mod tests;
