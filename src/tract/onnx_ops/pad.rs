//! Pad of opset 11 and newer, with pads below 0, the mode wrap, and a value of shape [1].
//!
//! tract's own takes a pad below 0 for a huge one.

use super::*;
use tract_core::ops::array::{Pad as TypedPad, PadMode, Slice as TypedSlice, TypedConcat};
use tract_core::ops::cast::cast;
use tract_core::ops::identity::Identity;
use tract_onnx::model::optional_inputs;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

pub fn parse(ctx: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    if ctx.onnx_operator_set_version < 11 {
        let theirs = tract_onnx::onnx().op_register.0.remove("Pad");
        return theirs.context("tract has no Pad")?(ctx, node);
    }
    let mode = match node.get_attr_opt::<&str>("mode")?.unwrap_or("constant") {
        "constant" => Mode::Constant,
        "reflect" => Mode::Reflect,
        "edge" => Mode::Edge,
        "wrap" => Mode::Wrap,
        other => bail!("the padding mode '{other}'"),
    };
    let mut optional = optional_inputs(node).skip(2);
    let value = optional.next().flatten();
    let axes = optional.next().flatten();
    Ok((expand(Pad { mode, value, axes }), vec![]))
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Mode {
    Constant,
    Reflect,
    Edge,
    Wrap,
}

/// With the places of the optional inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Pad {
    mode: Mode,
    value: Option<usize>,
    axes: Option<usize>,
}

fn integers(value: &Tensor) -> TractResult<Vec<i64>> {
    let value = value.cast_to::<i64>()?;
    Ok(value.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

impl Pad {
    /// What comes before and after each axis.
    fn pads(
        &self,
        pads: &Tensor,
        axes: Option<&Tensor>,
        rank: usize,
    ) -> TractResult<Vec<(i64, i64)>> {
        let pads = integers(pads)?;
        let axes = match axes {
            Some(axes) => integers(axes)?,
            None => (0..rank as i64).collect(),
        };
        ensure!(pads.len() == 2 * axes.len(), "{} pads of {} axes", pads.len(), axes.len());
        let (before, after) = pads.split_at(axes.len());
        let mut all = vec![(0, 0); rank];
        for (axis, (&before, &after)) in axes.into_iter().zip(before.iter().zip(after)) {
            let positive = if axis < 0 { axis + rank as i64 } else { axis };
            let place = usize::try_from(positive).ok().and_then(|a| all.get_mut(a));
            *place.with_context(|| format!("the axis {axis} of rank {rank}"))? = (before, after);
        }
        let sane = |n: i64| n.unsigned_abs() <= 1 << 31;
        ensure!(all.iter().all(|&(a, b)| sane(a) && sane(b)), "pads of {all:?}");
        Ok(all)
    }
}

impl Expansion for Pad {
    fn name(&self) -> StaticName {
        "Pad".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(
            inputs,
            2 + self.value.is_some() as usize + self.axes.is_some() as usize,
        )?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.equals(&outputs[0].rank, &inputs[0].rank)?;
        s.equals(&inputs[1].rank, 1)?;
        if let Some(value) = self.value {
            s.equals(&inputs[value].datum_type, &inputs[0].datum_type)?;
        }
        s.given(&inputs[0].rank, move |s, rank| {
            let given = std::iter::once(&inputs[1].value);
            let axes = self.axes.map(|i| &inputs[i].value);
            s.given_all(given.chain(axes), move |s, values| {
                let axes = values.get(1).map(|v| v.as_ref());
                let pads = self.pads(&values[0], axes, rank as usize)?;
                for (axis, (before, after)) in pads.into_iter().enumerate() {
                    let padded = inputs[0].shape[axis].bex() + TDim::from(before + after);
                    s.equals(&outputs[0].shape[axis], padded)?;
                }
                Ok(())
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
        let (rank, element) = (fact.rank(), fact.datum_type);
        if element == bool::datum_type() {
            return self.wire_bools(prefix, model, inputs);
        }
        let constant = |model: &TypedModel, input: usize, what: &str| {
            let value = model.outlet_fact(inputs[input])?.konst.clone();
            value.with_context(|| format!("padding: computed {what}"))
        };
        let pads = constant(model, 1, "pads")?;
        let axes = self.axes.map(|i| constant(model, i, "axes")).transpose()?;
        let pads = self.pads(&pads, axes.as_deref(), rank)?;
        let mut wire = inputs[0];
        for (axis, &(before, after)) in pads.iter().enumerate() {
            if before >= 0 && after >= 0 {
                continue;
            }
            ensure!(self.mode == Mode::Constant, "pads of {before} and {after} in another mode");
            let len = model.outlet_fact(wire)?.shape[axis].clone();
            let (start, end) = (TDim::from((-before).max(0)), len + after.min(0));
            let op = TypedSlice { axis, start, end };
            wire = model.wire_node(format!("{prefix}.cut-{axis}"), op, &[wire])?[0];
        }
        let positive = |n: i64| usize::try_from(n).unwrap_or(0);
        let pads: Vec<(usize, usize)> =
            pads.into_iter().map(|(a, b)| (positive(a), positive(b))).collect();
        let mode = match self.mode {
            Mode::Reflect => PadMode::Reflect,
            Mode::Edge => PadMode::Edge,
            Mode::Constant => {
                let value = match self.value {
                    Some(input) => constant(model, input, "value")?,
                    None => Tensor::zero_dt(element, &[])?.into_arc_tensor(),
                };
                ensure!(value.len() == 1, "padding with {} values", value.len());
                PadMode::Constant(value.into_tensor().into_shape(&[])?.into_arc_tensor())
            }
            Mode::Wrap => {
                for (axis, (before, after)) in pads.into_iter().enumerate() {
                    wire = wrap(prefix, model, wire, axis, before, after)?;
                }
                return model.wire_node(prefix, Identity, &[wire]);
            }
        };
        model.wire_node(prefix, TypedPad { mode, pads }, &[wire])
    }
}

impl Pad {
    /// As bytes: tract pads numbers alone.
    fn wire_bools(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut numbers: TVec<OutletId> = inputs.into();
        for place in std::iter::once(0).chain(self.value) {
            let name = format!("{prefix}.number-{place}");
            numbers[place] = model.wire_node(name, cast(u8::datum_type()), &[inputs[place]])?[0];
        }
        let padded = self.wire(&format!("{prefix}.numbers"), model, &numbers)?;
        model.wire_node(prefix, cast(bool::datum_type()), &padded)
    }
}

/// The end of the axis before it, and its start after it.
fn wrap(
    prefix: &str,
    model: &mut TypedModel,
    wire: OutletId,
    axis: usize,
    before: usize,
    after: usize,
) -> TractResult<OutletId> {
    let len = model.outlet_fact(wire)?.shape[axis].clone();
    let fits = |pad: usize| pad == 0 || len.to_usize().is_ok_and(|len| pad <= len);
    ensure!(fits(before) && fits(after), "wrapping {before} and {after} round an axis of {len}");
    let mut parts = tvec![];
    if before > 0 {
        let op = TypedSlice { axis, start: len.clone() - before, end: len };
        parts.push(model.wire_node(format!("{prefix}.before-{axis}"), op, &[wire])?[0]);
    }
    parts.push(wire);
    if after > 0 {
        let op = TypedSlice::new(axis, 0, after);
        parts.push(model.wire_node(format!("{prefix}.after-{axis}"), op, &[wire])?[0]);
    }
    if parts.len() == 1 {
        return Ok(wire);
    }
    Ok(model.wire_node(format!("{prefix}.wrap-{axis}"), TypedConcat::new(axis), &parts)?[0])
}
