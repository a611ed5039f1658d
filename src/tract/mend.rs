//! Where tract does not compute what an ONNX graph says: the graph in other words, before tract reads it
//! ([`rephrase`]), and what tract made of it put right ([`mend`]).

use super::typed_ops::{Multiply, Power, Remainder, ShiftLeft, ShiftRight};
use super::*;
use crate::tract::ops::array::ScatterElements;
use crate::tract::ops::binary::{BinMiniOp, TypedBinOp};
use crate::tract::ops::cast::{Cast, cast};
use crate::tract::ops::math;
use crate::tract::ops::nn::{Reduce, Reducer};
use ::anyhow::{Result, ensure};

/// Puts ops that tract reads as ONNX means them in place of those that it does not.
pub fn rephrase(graph: &mut pb::GraphProto) {
    for mut node in std::mem::take(&mut graph.node) {
        for attribute in &mut node.attribute {
            attribute.g.iter_mut().chain(&mut attribute.graphs).for_each(rephrase);
        }
        match node.op_type.as_str() {
            "Swish" => graph.node.extend(swish(node)),
            _ => graph.node.push(node),
        }
    }
}

/// `x · sigmoid(alpha · x)`; tract's Swish takes alpha for 1.
fn swish(node: pb::NodeProto) -> Vec<pb::NodeProto> {
    let alpha = node.attribute.iter().find(|a| a.name == "alpha").map_or(1.0, |a| a.f);
    let ([x], [y]) = (node.input.as_slice(), node.output.as_slice()) else { return vec![node] };
    if alpha == 1.0 {
        return vec![node];
    }
    let value = pb::TensorProto {
        data_type: pb::tensor_proto::DataType::Float as i32,
        float_data: vec![alpha],
        ..Default::default()
    };
    let value = pb::AttributeProto {
        name: "value".into(),
        r#type: pb::attribute_proto::AttributeType::Tensor as i32,
        t: Some(value),
        ..Default::default()
    };
    let part = |op: &str, inputs: &[&str], output: &str| pb::NodeProto {
        op_type: op.into(),
        name: output.into(),
        input: inputs.iter().map(|i| i.to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    };
    let [alpha, slope, scaled, gate] =
        ["alpha", "slope", "scaled", "gate"].map(|part| format!("{y}/{part}"));
    let constant = pb::NodeProto { attribute: vec![value], ..part("Constant", &[], &alpha) };
    vec![
        constant,
        part("CastLike", &[&alpha, x], &slope),
        part("Mul", &[x, &slope], &scaled),
        part("Sigmoid", &[&scaled], &gate),
        part("Mul", &[x, &gate], y),
    ]
}

/// Replaces the ops of a typed `model` that would compute something else. It is not decluttered yet: some of
/// tract's faults are in its declutter.
pub fn mend(model: &mut TypedModel) -> Result<()> {
    for id in 0..model.nodes.len() {
        reduce_bools(model, id)?;
        pow_in_the_type_of_the_base(model, id)?;
        replace_binary(model, id);
        check_axis(model.node(id))?;
    }
    Ok(())
}

/// tract takes the axis of a scatter on trust.
fn check_axis(node: &TypedNode) -> Result<()> {
    let Some(op) = node.op_as::<ScatterElements>() else { return Ok(()) };
    let rank = node.outputs.first().map_or(0, |output| output.fact.rank());
    ensure!(op.axis < rank, "node '{}' (ScatterElements): an axis outside of {rank}", node.name);
    Ok(())
}

/// tract's largest and smallest want numbers.
fn reduce_bools(model: &mut TypedModel, id: usize) -> Result<()> {
    let node = model.node(id);
    let Some(reduce) = node.op_as::<Reduce>() else { return Ok(()) };
    let reducer = match reduce.reducer {
        Reducer::Max => Reducer::Any,
        Reducer::Min => Reducer::All,
        _ => return Ok(()),
    };
    if model.outlet_fact(node.inputs[0])?.datum_type == DatumType::Bool {
        let op = Reduce::new(reduce.axes.clone(), reducer);
        model.node_mut(id).op = Box::new(op);
    }
    Ok(())
}

/// tract goes through float64 where one of base and exponent is an integer. A float base is raised in its own
/// type.
fn pow_in_the_type_of_the_base(model: &mut TypedModel, id: usize) -> Result<()> {
    let node = model.node(id);
    let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>() else { return Ok(()) };
    if !op.is::<math::Pow>() || node.outputs[0].fact.datum_type != DatumType::F64 {
        return Ok(());
    }
    let [back] = node.outputs[0].successors.as_slice() else { return Ok(()) };
    let Some(Cast { to, .. }) = model.node(back.node).op_as::<Cast>() else { return Ok(()) };
    let (to, inputs) = (*to, node.inputs.clone());
    let casts = |o: &OutletId| {
        let node = model.node(o.node);
        node.op_is::<Cast>() && node.outputs[0].successors.len() == 1
    };
    if !to.is_float() || to == DatumType::F64 || !inputs.iter().all(casts) {
        return Ok(());
    }
    for input in inputs {
        model.node_mut(input.node).op = Box::new(cast(to));
        refresh(model, input.node)?;
    }
    refresh(model, id)
}

/// Gives a node the facts that its op and inputs have now.
fn refresh(model: &mut TypedModel, id: usize) -> Result<()> {
    let facts = model.node(id).op.output_facts(&model.node_input_facts(id)?)?;
    for (output, fact) in model.node_mut(id).outputs.iter_mut().zip(facts) {
        output.fact = fact;
    }
    Ok(())
}

/// Remainders, shifts, squares and powers of numbers (of shapes, tract's own have rules that ours lack).
fn replace_binary(model: &mut TypedModel, id: usize) {
    let node = model.node_mut(id);
    let datum = node.outputs[0].fact.datum_type;
    let is_square = matches!(node.inputs.as_slice(), [a, b] if a == b);
    let Some(TypedBinOp(op, _)) = node.op_as::<TypedBinOp>() else { return };
    let other: Box<dyn BinMiniOp> = if op.is::<math::Rem>() {
        Box::new(Remainder)
    } else if op.is::<math::ShiftLeft>() {
        Box::new(ShiftLeft)
    } else if op.is::<math::ShiftRight>() {
        Box::new(ShiftRight)
    } else if op.is::<math::Mul>() && is_square && datum.is_integer() {
        Box::new(Multiply)
    } else if op.is::<math::Pow>() && datum.is_integer() {
        Box::new(Power)
    } else {
        return;
    };
    if datum != DatumType::TDim {
        node.op = Box::new(TypedBinOp(other, None));
    }
}
