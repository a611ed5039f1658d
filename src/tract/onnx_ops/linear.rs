//! QuantizeLinear and DequantizeLinear: with constant scales, ops of ours that tract does not rewrite; otherwise
//! the arithmetic that DequantizeLinear stands for.

use super::*;
use crate::tract::ops::cast::cast;
use crate::tract::ops::math;
use crate::tract::typed_ops::quantized::{Channels, DequantizeLinear, QuantizeLinear};
use tract_core::ops::change_axes::wire_with_rank_broadcast;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

pub fn quantize(_ctx: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    Ok((expand(Linear { quantizes: true, ..linear(node)? }), vec![]))
}

pub fn dequantize(_ctx: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    Ok((expand(linear(node)?), vec![]))
}

#[derive(Debug, Clone)]
struct Linear {
    quantizes: bool,
    axis: i64,
    has_zero_point: bool,
    dynamic: bool,
    /// Of the result, where an attribute gives it.
    to: Option<DatumType>,
}

fn linear(node: &pb::NodeProto) -> TractResult<Linear> {
    let block = node.get_attr_opt::<i64>("block_size")?.unwrap_or(0);
    ensure!(block == 0, "{}: scales of blocks ({block}) are not supported", node.op_type);
    let to = match node.get_attr_opt::<i64>("output_dtype")?.unwrap_or(0) {
        0 => None,
        _ => Some(node.get_attr::<DatumType>("output_dtype")?),
    };
    Ok(Linear {
        quantizes: false,
        axis: node.get_attr_opt("axis")?.unwrap_or(1),
        has_zero_point: node.input.get(2).is_some_and(|name| !name.is_empty()),
        dynamic: node.get_attr_opt::<i64>(onnx::DYNAMIC)?.unwrap_or(0) != 0,
        to,
    })
}

impl Expansion for Linear {
    fn name(&self) -> StaticName {
        if self.quantizes { "QuantizeLinear" } else { "DequantizeLinear" }.into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2 + usize::from(self.has_zero_point))?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].shape, &outputs[0].shape)?;
        match (self.to, self.has_zero_point) {
            (Some(to), _) => s.equals(&outputs[0].datum_type, to)?,
            (None, true) if self.quantizes => {
                s.equals(&outputs[0].datum_type, &inputs[2].datum_type)?
            }
            (None, false) if self.quantizes => s.equals(&outputs[0].datum_type, DatumType::U8)?,
            (None, _) => s.equals(&outputs[0].datum_type, &inputs[1].datum_type)?,
        }
        if self.has_zero_point && !self.quantizes {
            s.equals(&inputs[0].datum_type, &inputs[2].datum_type)?;
        }
        Ok(())
    }

    fn runs_out_of_plan(&self) -> bool {
        // tract would put the value of a constant in its place, and how it is stored would be lost
        false
    }

    fn wire(
        &self,
        name: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?.clone();
        let scale = model.outlet_fact(inputs[1])?.clone();
        let zero_point = match inputs.get(2).filter(|_| self.has_zero_point) {
            Some(&outlet) => Some(model.outlet_fact(outlet)?.clone()),
            None => None,
        };
        ensure!(scale.rank() <= 1, "scales of blocks (rank {}) are not supported", scale.rank());
        let of_zero_point = zero_point.as_ref().map(|zero| zero.datum_type);
        let stored = if self.quantizes {
            self.to.or(of_zero_point).unwrap_or(DatumType::U8)
        } else {
            fact.datum_type
        };
        use DatumType::{I8, I16, I32, U8, U16};
        let known = matches!(stored, I8 | U8 | I16 | U16) || (!self.quantizes && stored == I32);
        ensure!(known, "{} with integers of {stored:?}", self.name());
        let axis = if self.axis < 0 { self.axis + fact.rank() as i64 } else { self.axis };
        let axis = usize::try_from(axis)?;
        let constant = |fact: &TypedFact| fact.konst.clone();
        let constants = match (constant(&scale), zero_point.as_ref().map(constant)) {
            (Some(scale), None) => Some((scale, None)),
            (Some(scale), Some(Some(zero_point))) => Some((scale, Some(zero_point))),
            _ => None,
        };
        let to = self.to.unwrap_or(scale.datum_type);
        let Some((scales, zero_points)) = constants else {
            // tract would multiply by the reciprocal, which rounds elsewhere
            ensure!(
                !self.quantizes,
                "QuantizeLinear by a scale that is computed as the model runs"
            );
            let zero_point = inputs.get(2).copied().filter(|_| self.has_zero_point);
            let wire =
                arithmetic_dequantize(name, model, inputs[0], (inputs[1], zero_point), axis, to)?;
            return Ok(tvec![wire]);
        };
        let channels = channels(&scales, zero_points.as_deref(), axis)?;
        if channels.scales.len() > 1 {
            let size = fact.shape.get(axis).cloned();
            let count = TDim::from(channels.scales.len());
            ensure!(size == Some(count.clone()), "{count} scales on axis {axis} of {size:?}");
        }
        if self.quantizes {
            let x = match fact.datum_type {
                DatumType::F32 => inputs[0],
                _ => {
                    model.wire_node(format!("{name}.real"), cast(DatumType::F32), &inputs[..1])?[0]
                }
            };
            return Ok(tvec![node(name, model, QuantizeLinear { datum: stored, channels }, x)?]);
        }
        let op = DequantizeLinear { channels, dynamic: self.dynamic };
        if to == DatumType::F32 {
            return Ok(tvec![node(name, model, op, inputs[0])?]);
        }
        let wire = node(&format!("{name}.wide"), model, op, inputs[0])?;
        model.wire_node(name, cast(to), &[wire])
    }
}

/// Adds a node, also where tract would put its value in its place: the value of a constant is known, and how it
/// is stored stays known too.
fn node(
    name: &str,
    model: &mut TypedModel,
    op: impl TypedOp,
    x: OutletId,
) -> TractResult<OutletId> {
    let fact = model.outlet_fact(x)?.clone();
    let mut facts = op.output_facts(&[&fact])?;
    if let Some(constant) = fact.konst {
        let made = op.eval_out_of_plan(tvec![constant.into_tvalue()])?;
        let made = made.and_then(|mut made| made.pop()).context("no value")?;
        facts[0].konst = Some(made.into_arc_tensor());
    }
    let id = model.add_node(name, op, facts)?;
    model.add_edge(x, InletId::new(id, 0))?;
    Ok(id.into())
}

/// One scale and zero point, or one of each along the axis.
fn channels(scales: &Tensor, zero_points: Option<&Tensor>, axis: usize) -> TractResult<Channels> {
    let scales = scales.cast_to::<f32>()?;
    let mut scales = scales.try_as_plain_ram()?.as_slice::<f32>()?.to_vec();
    let mut zero_points = match zero_points {
        Some(zero_points) => {
            let wide = zero_points.cast_to::<i32>()?;
            wide.try_as_plain_ram()?.as_slice::<i32>()?.to_vec()
        }
        None => vec![0; scales.len()],
    };
    ensure!(!scales.is_empty() && scales.iter().all(|s| s.is_finite()), "scales {scales:?}");
    if let &[scale] = scales.as_slice() {
        scales = vec![scale; zero_points.len()];
    }
    if let &[zero_point] = zero_points.as_slice() {
        zero_points = vec![zero_point; scales.len()];
    }
    let (count, zeros) = (scales.len(), zero_points.len());
    ensure!(count == zeros && count > 0, "{count} scales and {zeros} zero points");
    let same = |i: usize| scales[i] == scales[0] && zero_points[i] == zero_points[0];
    if count > 1 && (0..count).all(same) {
        scales.truncate(1);
        zero_points.truncate(1);
    }
    Ok(Channels { scales, zero_points, axis })
}

/// A computed parameter in float32, with axes behind its own so that it broadcasts along `axis`.
fn parameter(
    name: &str,
    model: &mut TypedModel,
    outlet: OutletId,
    axis: usize,
    rank: usize,
) -> TractResult<OutletId> {
    let mut wire = model.wire_node(name, cast(DatumType::F32), &[outlet])?[0];
    let fact = model.outlet_fact(wire)?;
    if fact.rank() == 1 && fact.shape[0] != TDim::from(1) {
        for place in 1..rank.saturating_sub(axis) {
            wire = model.wire_node(format!("{name}.{place}"), AxisOp::Add(place), &[wire])?[0];
        }
    }
    Ok(wire)
}

fn arithmetic_dequantize(
    name: &str,
    model: &mut TypedModel,
    x: OutletId,
    (scale, zero_point): (OutletId, Option<OutletId>),
    axis: usize,
    to: DatumType,
) -> TractResult<OutletId> {
    let rank = model.outlet_fact(x)?.rank();
    let mut wire = model.wire_node(format!("{name}.real"), cast(DatumType::F32), &[x])?[0];
    if let Some(zero_point) = zero_point {
        let zero_point = parameter(&format!("{name}.zero_point"), model, zero_point, axis, rank)?;
        let operands = [wire, zero_point];
        wire = wire_with_rank_broadcast(format!("{name}.sub"), model, math::sub(), &operands)?[0];
    }
    let scale = parameter(&format!("{name}.scale"), model, scale, axis, rank)?;
    let product = format!("{name}.mul");
    let wire = wire_with_rank_broadcast(product, model, math::mul(), &[wire, scale])?[0];
    Ok(model.wire_node(name, cast(to), &[wire])?[0])
}
