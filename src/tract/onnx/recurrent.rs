//! How ONNX's RNN, GRU and LSTM nodes become [`Recurrent`]; tract's own forms compute reversed sequences
//! wrongly and know no lengths.

use crate::tract::typed_ops::{Cell, CellActivation, Direction, Recurrent};
use crate::tract::*;
use ::anyhow::{Context, Result, bail, ensure};
use tract_onnx::model::{ParsingContext, optional_inputs, optional_outputs};

pub fn rnn(
    _: &ParsingContext,
    node: &pb::NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    layer(node, Cell::Rnn, &["Tanh"])
}

pub fn gru(
    _: &ParsingContext,
    node: &pb::NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let linear_before_reset = integer(node, "linear_before_reset").unwrap_or(0) != 0;
    layer(node, Cell::Gru { linear_before_reset }, &["Sigmoid", "Tanh"])
}

pub fn lstm(
    _: &ParsingContext,
    node: &pb::NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let input_forget = integer(node, "input_forget").unwrap_or(0) != 0;
    layer(node, Cell::Lstm { input_forget }, &["Sigmoid", "Tanh", "Tanh"])
}

fn attribute<'a>(node: &'a pb::NodeProto, name: &str) -> Option<&'a pb::AttributeProto> {
    node.attribute.iter().find(|a| a.name == name)
}

fn integer(node: &pb::NodeProto, name: &str) -> Option<i64> {
    attribute(node, name).map(|a| a.i)
}

fn layer(
    node: &pb::NodeProto,
    cell: Cell,
    default_activations: &[&str],
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let direction = attribute(node, "direction").map_or(&b"forward"[..], |a| &a.s);
    let reverse: &[bool] = match direction {
        b"forward" => &[false],
        b"reverse" => &[true],
        b"bidirectional" => &[false, true],
        other => bail!("unknown direction '{}'", String::from_utf8_lossy(other)),
    };
    let names: Vec<String> = match attribute(node, "activations").filter(|a| !a.strings.is_empty())
    {
        Some(list) => {
            list.strings.iter().map(|s| String::from_utf8_lossy(s).into_owned()).collect()
        }
        None => reverse.iter().flat_map(|_| default_activations).map(|s| s.to_string()).collect(),
    };
    let wanted = cell.activations() * reverse.len();
    ensure!(names.len() == wanted, "{} activations where {wanted} are needed", names.len());
    let parameters = |name| attribute(node, name).map_or(&[][..], |a| &a.floats).iter().copied();
    let (mut alphas, mut betas) = (parameters("activation_alpha"), parameters("activation_beta"));
    let activations: Vec<CellActivation> =
        names.iter().map(|n| activation(n, &mut alphas, &mut betas)).collect::<Result<_>>()?;
    let directions = reverse.iter().zip(activations.chunks(cell.activations()));
    let layout = integer(node, "layout").unwrap_or(0);
    ensure!(layout == 0 || layout == 1, "layout {layout}");
    let inputs: Vec<Option<usize>> = optional_inputs(node).take(8).collect();
    let outputs: Vec<Option<usize>> = optional_outputs(node).take(3).collect();
    ensure!(inputs[..3].iter().all(Option::is_some), "X, W and R are needed");
    let optional = |i: usize| inputs[i].is_some();
    let is_lstm = cell.is_lstm();
    let layer = Layer {
        op: Recurrent {
            cell,
            directions: directions
                .map(|(&reverse, activations)| Direction {
                    reverse,
                    activations: activations.to_vec(),
                })
                .collect(),
            clip: attribute(node, "clip").map(|a| a.f).filter(|c| *c > 0.0),
            has_bias: optional(3),
            has_lengths: optional(4),
            has_hidden: optional(5),
            has_cell: is_lstm && optional(6),
            has_peepholes: is_lstm && optional(7),
        },
        batch_first: layout == 1,
        outputs: (0..if is_lstm { 3 } else { 2 }).filter(|&i| outputs[i].is_some()).collect(),
    };
    Ok((expand(layer), vec![]))
}

/// Those that take alpha or beta take the next of the list, or the default of ONNX's operator.
fn activation(
    name: &str,
    alphas: &mut impl Iterator<Item = f32>,
    betas: &mut impl Iterator<Item = f32>,
) -> Result<CellActivation> {
    let mut alpha = |default| alphas.next().unwrap_or(default);
    let mut beta = |default| betas.next().unwrap_or(default);
    Ok(match name.to_ascii_lowercase().as_str() {
        "relu" => CellActivation::Relu,
        "tanh" => CellActivation::Tanh,
        "sigmoid" => CellActivation::Sigmoid,
        "softsign" => CellActivation::Softsign,
        "softplus" => CellActivation::Softplus,
        "affine" => CellActivation::Affine(alpha(1.0), beta(0.0)),
        "leakyrelu" => CellActivation::LeakyRelu(alpha(0.01)),
        "thresholdedrelu" => CellActivation::ThresholdedRelu(alpha(1.0)),
        "scaledtanh" => CellActivation::ScaledTanh(alpha(1.0), beta(1.0)),
        "hardsigmoid" => CellActivation::HardSigmoid(alpha(0.2), beta(0.5)),
        "elu" => CellActivation::Elu(alpha(1.0)),
        _ => bail!("unknown activation '{name}'"),
    })
}

#[derive(Debug, Clone)]
struct Layer {
    op: Recurrent,
    batch_first: bool,
    /// Of Y, Y_h, Y_c, those that the node has.
    outputs: Vec<usize>,
}

impl Expansion for Layer {
    fn name(&self) -> StaticName {
        self.op.name()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs.len())
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_output_arity(outputs, self.outputs.len())?;
        let (time, batch) = if self.batch_first { (1, 0) } else { (0, 1) };
        s.equals(&inputs[0].rank, 3)?;
        s.equals(&inputs[2].rank, 3)?;
        let directions = self.op.directions.len();
        for (output, which) in outputs.iter().zip(&self.outputs) {
            s.equals(&output.datum_type, &inputs[0].datum_type)?;
            let places: &[usize] = match (which, self.batch_first) {
                (0, false) => &[0, 1, 2, 3],
                (0, true) => &[1, 2, 0, 3],
                (_, false) => &[9, 0, 1, 2],
                (_, true) => &[9, 1, 0, 2],
            };
            s.equals(&output.rank, if *which == 0 { 4 } else { 3 })?;
            if *which == 0 {
                s.equals(&output.shape[places[0]], &inputs[0].shape[time])?;
            }
            s.equals(&output.shape[places[1]], directions.to_dim())?;
            s.equals(&output.shape[places[2]], &inputs[0].shape[batch])?;
            s.equals(&output.shape[places[3]], &inputs[2].shape[2])?;
        }
        Ok(())
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let mut op = self.op.clone();
        let element = model.outlet_fact(inputs[0])?.datum_type;
        let places = op.places();
        let steps = model.outlet_fact(inputs[0])?.shape[self.batch_first as usize].clone();
        let mut wires: Vec<OutletId> = vec![];
        for (i, &input) in inputs.iter().enumerate() {
            let mut wire = input;
            let name = format!("{prefix}.operand{i}");
            if Some(i) == places.lengths {
                if self.are_full(model, input, &steps)? {
                    op.has_lengths = false;
                    continue;
                }
            } else if element != f32::datum_type() {
                let cast = ops::cast::cast(f32::datum_type());
                wire = model.wire_node(format!("{name}.cast"), cast, &[wire])?[0];
            }
            let is_state = Some(i) == places.hidden || Some(i) == places.cell;
            if self.batch_first && (i == 0 || is_state) {
                wire = model.wire_node(name, AxisOp::Move(1, 0), &[wire])?[0];
            }
            wires.push(wire);
        }
        let results = model.wire_node(prefix, op, &wires).context("a recurrent layer")?;
        let mut outputs = tvec!();
        for &which in &self.outputs {
            let mut wire = results[which];
            let name = format!("{prefix}.result{which}");
            if self.batch_first {
                // [T, D, B, H] → [B, T, D, H]; [D, B, H] → [B, D, H]
                let from = if which == 0 { 2 } else { 1 };
                wire = model.wire_node(&name, AxisOp::Move(from, 0), &[wire])?[0];
            }
            if element != f32::datum_type() {
                let cast = ops::cast::cast(element);
                wire = model.wire_node(format!("{name}.cast"), cast, &[wire])?[0];
            }
            outputs.push(wire);
        }
        Ok(outputs)
    }
}

impl Layer {
    /// Whether every sequence is known to have all `steps`.
    fn are_full(&self, model: &TypedModel, lengths: OutletId, steps: &TDim) -> TractResult<bool> {
        let Some(lengths) = &model.outlet_fact(lengths)?.konst else { return Ok(false) };
        let lengths = lengths.cast_to::<TDim>()?;
        Ok(lengths.try_as_plain_ram()?.as_slice::<TDim>()?.iter().all(|l| l == steps))
    }
}
