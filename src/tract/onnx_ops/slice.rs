//! Slice of opset 10 and newer, where bounds far past an axis mean its end also on axes of unknown length.
//!
//! tract's own knows a few such bounds as int64, and takes others for the length of the result.

use super::*;
use tract_core::ops::Downsample;
use tract_core::ops::array::{DynSlice, Slice as TypedSlice};
use tract_core::ops::identity::Identity;
use tract_onnx::model::optional_inputs;
use tract_onnx::tract_hir::ops::expandable::{Expansion, expand};

/// No axis of a tensor that a phone holds is this long: 2 GiB of float32.
const PAST_EVERY_AXIS: i64 = 1 << 29;

pub fn parse(ctx: &ParsingContext, node: &pb::NodeProto) -> Parsed {
    if (1..10).contains(&ctx.onnx_operator_set_version) {
        let theirs = tract_onnx::onnx().op_register.0.remove("Slice");
        return theirs.context("tract has no Slice")?(ctx, node);
    }
    let mut optional = optional_inputs(node).skip(3);
    let axes = optional.next().flatten();
    let steps = optional.next().flatten();
    Ok((expand(Slice { axes, steps }), vec![]))
}

/// The places of the optional inputs.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Slice {
    axes: Option<usize>,
    steps: Option<usize>,
}

/// What is kept of an axis: `step` apart from `start` up to `end`, backwards from `end` if negative.
struct Cut {
    axis: usize,
    start: TDim,
    end: TDim,
    step: i64,
}

impl Cut {
    fn len(&self) -> TDim {
        (self.end.clone() - &self.start).divceil(self.step.unsigned_abs() as usize)
    }
}

fn dims(value: &Tensor) -> TractResult<Vec<TDim>> {
    let value = value.cast_to::<TDim>()?;
    Ok(value.try_as_plain_ram()?.as_slice::<TDim>()?.to_vec())
}

fn integers(value: &Tensor) -> TractResult<Vec<i64>> {
    let value = value.cast_to::<i64>()?;
    Ok(value.try_as_plain_ram()?.as_slice::<i64>()?.to_vec())
}

/// `bound` counted from the start of an axis of `len`, in `low..=len + low`.
fn place(bound: &TDim, len: &TDim, low: i64) -> TDim {
    let place = match bound.to_i64() {
        Ok(n) if n >= PAST_EVERY_AXIS => return len.clone() + low,
        Ok(n) if n <= -PAST_EVERY_AXIS => return low.into(),
        Ok(n) if n < 0 => len.clone() + n,
        Ok(n) => n.into(),
        Err(_) if bound.prove_negative_or_zero() && !bound.prove_positive_or_zero() => {
            len.clone() + bound
        }
        Err(_) => bound.clone(),
    };
    match (place.to_i64(), len.to_i64()) {
        (Ok(place), Ok(len)) => place.clamp(low, len + low).into(),
        (Ok(place), Err(_)) => place.max(low).into(),
        _ => place,
    }
}

fn cut(axis: usize, len: &TDim, start: &TDim, end: &TDim, step: i64) -> TractResult<Cut> {
    ensure!(step != 0, "a step of 0");
    let (start, end) = match step > 0 {
        true => (place(start, len, 0), place(end, len, 0)),
        false => (place(end, len, -1) + 1, place(start, len, -1) + 1),
    };
    let backwards = (end.clone() - &start).to_i64().is_ok_and(|len| len < 0);
    let end = if backwards { start.clone() } else { end };
    Ok(Cut { axis, start, end, step })
}

impl Slice {
    fn axes(&self, value: Option<&Tensor>, count: usize, rank: usize) -> TractResult<Vec<usize>> {
        let Some(value) = value else { return Ok((0..count).collect()) };
        let on_axis = |axis: i64| {
            let positive = if axis < 0 { axis + rank as i64 } else { axis };
            usize::try_from(positive).ok().filter(|&a| a < rank)
        };
        let axes = integers(value)?.into_iter().map(on_axis).collect::<Option<Vec<_>>>();
        axes.with_context(|| format!("axes {value:?} of rank {rank}"))
    }

    /// `values`: of the inputs from the second on.
    fn cuts(&self, shape: &[TDim], values: &[&Tensor]) -> TractResult<Vec<Cut>> {
        let (starts, ends) = (dims(values[0])?, dims(values[1])?);
        let axes = self.axes.map(|i| values[i - 1]);
        let axes = self.axes(axes, starts.len(), shape.len())?;
        let steps = match self.steps {
            Some(i) => integers(values[i - 1])?,
            None => vec![1; starts.len()],
        };
        ensure!(
            ends.len() == starts.len() && axes.len() == starts.len() && steps.len() == starts.len(),
            "{} starts, {} ends, {} axes and {} steps",
            starts.len(),
            ends.len(),
            axes.len(),
            steps.len()
        );
        let bounds = starts.iter().zip(&ends).zip(axes.into_iter().zip(steps));
        let cuts = bounds.map(|((start, end), (axis, step))| {
            let len = shape.get(axis).with_context(|| format!("the axis {axis}"))?;
            cut(axis, len, start, end, step)
        });
        cuts.collect()
    }
}

impl Expansion for Slice {
    fn name(&self) -> StaticName {
        "Slice".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        let count = 3 + self.axes.is_some() as usize + self.steps.is_some() as usize;
        check_input_arity(inputs, count)?;
        check_output_arity(outputs, 1)?;
        s.equals(&outputs[0].datum_type, &inputs[0].datum_type)?;
        s.equals(&outputs[0].rank, &inputs[0].rank)?;
        for input in &inputs[1..] {
            s.equals(&input.rank, 1)?;
        }
        if let Some(axes) = self.axes {
            s.given_2(&inputs[0].rank, &inputs[axes].value, move |s, rank, value| {
                let axes = self.axes(Some(&value), 0, rank as usize)?;
                for axis in (0..rank as usize).filter(|a| !axes.contains(a)) {
                    s.equals(&outputs[0].shape[axis], &inputs[0].shape[axis])?;
                }
                Ok(())
            })?;
        }
        s.given(&inputs[0].shape, move |s, shape| {
            s.given_all(inputs[1..].iter().map(|i| &i.value), move |s, values| {
                let values: Vec<&Tensor> = values.iter().map(|v| v.as_ref()).collect();
                let mut result = shape.clone();
                for cut in self.cuts(&shape, &values)? {
                    result[cut.axis] = cut.len();
                }
                s.equals(&outputs[0].shape, result)
            })
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let shape = model.outlet_fact(inputs[0])?.shape.to_tvec();
        let values = inputs[1..].iter().map(|&i| Ok(model.outlet_fact(i)?.konst.clone()));
        let values: Vec<Option<Arc<Tensor>>> = values.collect::<TractResult<_>>()?;
        let mut wire = inputs[0];
        if let Some(values) = values.iter().map(|v| v.as_deref()).collect::<Option<Vec<_>>>() {
            for cut in self.cuts(&shape, &values)? {
                let axis = cut.axis;
                if cut.start != TDim::from(0) || cut.end != shape[axis] {
                    let op = TypedSlice { axis, start: cut.start, end: cut.end };
                    wire = model.wire_node(format!("{prefix}.axis-{axis}"), op, &[wire])?[0];
                }
                if cut.step != 1 {
                    let op = Downsample::new(axis, cut.step as isize, 0);
                    wire = model.wire_node(format!("{prefix}.step-{axis}"), op, &[wire])?[0];
                }
            }
            return model.wire_node(prefix, Identity, &[wire]);
        }
        let constant = |input: usize, what: &str| {
            let value = values[input - 1].as_deref();
            value.with_context(|| format!("a slice whose {what} are computed"))
        };
        let count = model.outlet_fact(inputs[1])?.shape[0].to_usize()?;
        let axes = self.axes.map(|i| constant(i, "axes")).transpose()?;
        let axes = self.axes(axes, count, shape.len())?;
        if let Some(steps) = self.steps {
            let steps = integers(constant(steps, "steps")?)?;
            ensure!(steps.iter().all(|&s| s == 1), "computed bounds and a step that is not 1");
        }
        for (place, axis) in axes.into_iter().enumerate() {
            let mut bounds = tvec![wire];
            for (name, input) in [("start", inputs[1]), ("end", inputs[2])] {
                let name = format!("{prefix}.axis-{axis}-{name}");
                let bound = TypedSlice::new(0, place, place + 1);
                let bound = model.wire_node(format!("{name}-1"), bound, &[input])?;
                bounds.push(model.wire_node(name, AxisOp::Rm(0), &bound)?[0]);
            }
            let op = DynSlice::new(axis, model.symbols.new_with_prefix("l").to_dim());
            wire = model.wire_node(format!("{prefix}.axis-{axis}"), op, &bounds)?[0];
        }
        model.wire_node(prefix, Identity, &[wire])
    }
}
