//! ONNX's RNN, GRU and LSTM in float32, with any direction, lengths of sequences, and activations.

use super::*;
use crate::kernels::{self, Epilogue, Matrix, MatrixMut};

/// A recurrent layer of ONNX with `layout` 0.
///
/// The inputs are X `[T, B, I]`, W `[D, gates·H, I]` and R `[D, gates·H, H]`, then those of bias
/// `[D, 2·gates·H]`, lengths (int32) `[B]`, initial hidden and cell state `[D, B, H]` and peepholes `[D, 3·H]`
/// that there are. A sequence of length 0 ends in zeros, as onnxruntime has it. The outputs are Y `[T, D, B, H]`, Y_h `[D, B, H]` and, of an LSTM, Y_c `[D, B, H]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Recurrent {
    pub cell: Cell,
    pub directions: Vec<Direction>,
    /// Bounds of what goes into the activations of gates.
    pub clip: Option<f32>,
    pub has_bias: bool,
    pub has_lengths: bool,
    pub has_hidden: bool,
    pub has_cell: bool,
    pub has_peepholes: bool,
}

impl Eq for Recurrent {}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cell {
    Rnn,
    Gru { linear_before_reset: bool },
    Lstm { input_forget: bool },
}

#[derive(Debug, Clone, PartialEq)]
pub struct Direction {
    pub reverse: bool,
    /// RNN: f; GRU: f, g; LSTM: f, g, h.
    pub activations: Vec<CellActivation>,
}

/// ONNX's activation functions with their alpha and beta.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum CellActivation {
    Relu,
    Tanh,
    Sigmoid,
    Softsign,
    Softplus,
    Affine(f32, f32),
    LeakyRelu(f32),
    ThresholdedRelu(f32),
    ScaledTanh(f32, f32),
    HardSigmoid(f32, f32),
    Elu(f32),
}

impl CellActivation {
    pub fn apply(self, x: f32) -> f32 {
        match self {
            CellActivation::Relu => x.max(0.0),
            CellActivation::Tanh => x.tanh(),
            CellActivation::Sigmoid => 1.0 / (1.0 + (-x).exp()),
            CellActivation::Softsign => x / (1.0 + x.abs()),
            CellActivation::Softplus => x.max(0.0) + (-x.abs()).exp().ln_1p(),
            CellActivation::Affine(alpha, beta) => alpha * x + beta,
            CellActivation::LeakyRelu(alpha) => {
                if x < 0.0 {
                    alpha * x
                } else {
                    x
                }
            }
            CellActivation::ThresholdedRelu(alpha) => {
                if x > alpha {
                    x
                } else {
                    0.0
                }
            }
            CellActivation::ScaledTanh(alpha, beta) => alpha * (beta * x).tanh(),
            CellActivation::HardSigmoid(alpha, beta) => (alpha * x + beta).clamp(0.0, 1.0),
            CellActivation::Elu(alpha) => {
                if x < 0.0 {
                    alpha * x.exp_m1()
                } else {
                    x
                }
            }
        }
    }
}

impl Cell {
    /// How many matrices W and R hold.
    pub fn gates(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 3,
            Cell::Lstm { .. } => 4,
        }
    }

    pub fn activations(self) -> usize {
        match self {
            Cell::Rnn => 1,
            Cell::Gru { .. } => 2,
            Cell::Lstm { .. } => 3,
        }
    }

    pub fn is_lstm(self) -> bool {
        matches!(self, Cell::Lstm { .. })
    }
}

/// Where an optional operand is among a [`Recurrent`]'s inputs.
#[derive(Debug, Clone, Copy, Default)]
pub struct Places {
    pub bias: Option<usize>,
    pub lengths: Option<usize>,
    pub hidden: Option<usize>,
    pub cell: Option<usize>,
    pub peepholes: Option<usize>,
}

impl Recurrent {
    pub fn places(&self) -> Places {
        let mut next = 3;
        let mut place = |there: bool| {
            there.then(|| {
                next += 1;
                next - 1
            })
        };
        Places {
            bias: place(self.has_bias),
            lengths: place(self.has_lengths),
            hidden: place(self.has_hidden),
            cell: place(self.has_cell),
            peepholes: place(self.has_peepholes),
        }
    }

    /// What is added to the product of the inputs and W of one direction, `[gates·H]`; and what to that of
    /// the hidden state and a GRU's last matrix where that is reset afterwards, `[H]`.
    pub fn split_bias(&self, bias: &[f32], hidden: usize) -> (Vec<f32>, Option<Vec<f32>>) {
        let (of_w, of_r) = bias.split_at(self.cell.gates() * hidden);
        let mut sum: Vec<f32> = of_w.iter().zip(of_r).map(|(w, r)| w + r).collect();
        if self.cell != (Cell::Gru { linear_before_reset: true }) {
            return (sum, None);
        }
        sum[2 * hidden..].copy_from_slice(&of_w[2 * hidden..]);
        (sum, Some(of_r[2 * hidden..].to_vec()))
    }
}

impl Op for Recurrent {
    fn name(&self) -> StaticName {
        match self.cell {
            Cell::Rnn => "RNN".into(),
            Cell::Gru { .. } => "GRU".into(),
            Cell::Lstm { .. } => "LSTM".into(),
        }
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{self:?}")])
    }

    tract_core::op_as_typed_op!();
}

/// The operands and results of one direction.
struct Run<'a> {
    op: &'a Recurrent,
    direction: &'a Direction,
    batch: usize,
    hidden: usize,
    /// The inputs' products with W, biases added: `[B, gates·H]` a step.
    projected: Vec<f32>,
    recurrent: &'a [f32],
    bias_after_reset: Option<Vec<f32>>,
    peepholes: Option<&'a [f32]>,
    h: Vec<f32>,
    c: Vec<f32>,
}

impl EvalOp for Recurrent {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let facts: Vec<TypedFact> = inputs.iter().map(|t| t.datum_type().fact(t.shape())).collect();
        self.check(&facts.iter().collect::<Vec<_>>())?;
        let (x, w, r) = (values(&inputs[0])?, values(&inputs[1])?, values(&inputs[2])?);
        let &[steps, batch, size] = inputs[0].shape() else { bail!("X of rank 3") };
        let hidden = inputs[2].shape()[2];
        let width = self.cell.gates() * hidden;
        let places = self.places();
        let optional = |place: Option<usize>| place.map(|i| values(&inputs[i])).transpose();
        let (bias, peepholes) = (optional(places.bias)?, optional(places.peepholes)?);
        let (first_h, first_c) = (optional(places.hidden)?, optional(places.cell)?);
        let lengths: Option<&[i32]> = match places.lengths {
            Some(i) => Some(inputs[i].try_as_plain_ram()?.as_slice::<i32>()?),
            None => None,
        };
        let directions = self.directions.len();
        let state = batch * hidden;
        let mut y = Tensor::zero::<f32>(&[steps, directions, batch, hidden])?;
        let mut last_h = vec![0f32; directions * state];
        let mut last_c = vec![0f32; directions * state];
        let mut y_plain = y.try_as_plain_ram_mut()?;
        let y_values = y_plain.as_slice_mut::<f32>()?;
        for (d, direction) in self.directions.iter().enumerate() {
            let part =
                |all: &'_ [f32], size: usize| -> Vec<f32> { all[d * size..][..size].to_vec() };
            let (sum, after_reset) = match bias {
                Some(bias) => self.split_bias(&bias[d * 2 * width..][..2 * width], hidden),
                None => (vec![0.0; width], None),
            };
            let mut projected = vec![0f32; steps * batch * width];
            kernels::gemm(
                Matrix::row_major(x, steps * batch, size),
                Matrix::row_major(&w[d * width * size..][..width * size], width, size).transposed(),
                MatrixMut::row_major(&mut projected, steps * batch, width),
                &Epilogue { bias: Some(&sum), ..Epilogue::default() },
            );
            let mut run = Run {
                op: self,
                direction,
                batch,
                hidden,
                projected,
                recurrent: &r[d * width * hidden..][..width * hidden],
                bias_after_reset: after_reset,
                peepholes: peepholes.map(|p| &p[d * 3 * hidden..][..3 * hidden]),
                h: first_h.map_or(vec![0.0; state], |h| part(h, state)),
                c: first_c.map_or(vec![0.0; state], |c| part(c, state)),
            };
            for (row, _) in lengths.iter().flat_map(|l| l.iter().enumerate()).filter(|l| *l.1 <= 0)
            {
                run.h[row * hidden..][..hidden].fill(0.0);
                run.c[row * hidden..][..hidden].fill(0.0);
            }
            for i in 0..steps {
                let step = if direction.reverse { steps - 1 - i } else { i };
                let (h, c) = run.step(step);
                let target = &mut y_values[(step * directions + d) * state..][..state];
                for row in 0..batch {
                    let valid = lengths.is_none_or(|l| (step as i64) < i64::from(l[row]));
                    if valid {
                        let range = row * hidden..(row + 1) * hidden;
                        target[range.clone()].copy_from_slice(&h[range.clone()]);
                        run.h[range.clone()].copy_from_slice(&h[range.clone()]);
                        run.c[range.clone()].copy_from_slice(&c[range]);
                    }
                }
            }
            last_h[d * state..][..state].copy_from_slice(&run.h);
            last_c[d * state..][..state].copy_from_slice(&run.c);
        }
        let shape = [directions, batch, hidden];
        let last_h = Tensor::from_shape(&shape, &last_h)?;
        let mut outputs = tvec!(y.into_tvalue(), last_h.into_tvalue());
        if self.cell.is_lstm() {
            outputs.push(Tensor::from_shape(&shape, &last_c)?.into_tvalue());
        }
        Ok(outputs)
    }
}

impl Run<'_> {
    /// `out += h · Rᵀ` for the matrices `gates` of R.
    fn add_recurrent(&self, h: &[f32], gates: std::ops::Range<usize>, out: &mut [f32]) {
        let (first, count) = (gates.start, gates.len());
        let rows = &self.recurrent[first * self.hidden * self.hidden..];
        let rows = &rows[..count * self.hidden * self.hidden];
        let weights = Matrix::row_major(rows, count * self.hidden, self.hidden).transposed();
        let c = MatrixMut::row_major(out, self.batch, count * self.hidden);
        let h = Matrix::row_major(h, self.batch, self.hidden);
        kernels::gemm(h, weights, c, &Epilogue { accumulate: true, ..Epilogue::default() });
    }

    fn activate(&self, which: usize, x: f32) -> f32 {
        let x = match self.op.clip {
            Some(clip) => x.clamp(-clip, clip),
            None => x,
        };
        self.direction.activations[which].apply(x)
    }

    /// The hidden and cell state after one more step.
    fn step(&self, step: usize) -> (Vec<f32>, Vec<f32>) {
        let width = self.op.cell.gates() * self.hidden;
        let mut gates = self.projected[step * self.batch * width..][..self.batch * width].to_vec();
        let mut c = self.c.clone();
        let h = match self.op.cell {
            Cell::Rnn => {
                self.add_recurrent(&self.h, 0..1, &mut gates);
                gates.iter().map(|&g| self.activate(0, g)).collect()
            }
            Cell::Gru { linear_before_reset } => self.gru(&mut gates, linear_before_reset),
            Cell::Lstm { input_forget } => {
                self.add_recurrent(&self.h, 0..4, &mut gates);
                self.lstm(&gates, &mut c, input_forget)
            }
        };
        (h, c)
    }

    fn gru(&self, gates: &mut [f32], linear_before_reset: bool) -> Vec<f32> {
        let (batch, hidden) = (self.batch, self.hidden);
        let mut update_reset = vec![0f32; batch * 2 * hidden];
        self.add_recurrent(&self.h, 0..2, &mut update_reset);
        for row in 0..batch {
            let added = &update_reset[row * 2 * hidden..][..2 * hidden];
            let gates = &mut gates[row * 3 * hidden..][..2 * hidden];
            for (gate, add) in gates.iter_mut().zip(added) {
                *gate = self.activate(0, *gate + add);
            }
        }
        let reset = |gates: &[f32], row: usize, i: usize| gates[(row * 3 + 1) * hidden + i];
        let mut candidate = vec![0f32; batch * hidden];
        if linear_before_reset {
            self.add_recurrent(&self.h, 2..3, &mut candidate);
            for (place, value) in candidate.iter_mut().enumerate() {
                let (row, i) = (place / hidden, place % hidden);
                let bias = self.bias_after_reset.as_ref().map_or(0.0, |b| b[i]);
                *value = reset(gates, row, i) * (*value + bias);
            }
        } else {
            let kept: Vec<f32> = self
                .h
                .iter()
                .enumerate()
                .map(|(place, h)| h * reset(gates, place / hidden, place % hidden))
                .collect();
            self.add_recurrent(&kept, 2..3, &mut candidate);
        }
        candidate
            .iter()
            .enumerate()
            .map(|(place, value)| {
                let (row, i) = (place / hidden, place % hidden);
                let gates = &gates[row * 3 * hidden..][..3 * hidden];
                let new = self.activate(1, gates[2 * hidden + i] + value);
                (1.0 - gates[i]) * new + gates[i] * self.h[place]
            })
            .collect()
    }

    fn lstm(&self, gates: &[f32], c: &mut [f32], input_forget: bool) -> Vec<f32> {
        let hidden = self.hidden;
        let peephole = |gate: usize, i: usize| self.peepholes.map_or(0.0, |p| p[gate * hidden + i]);
        let mut h = vec![0f32; c.len()];
        for (place, (h, c)) in h.iter_mut().zip(c).enumerate() {
            let (row, i) = (place / hidden, place % hidden);
            let gate = |n: usize| gates[(row * 4 + n) * hidden + i];
            let input = self.activate(0, gate(0) + peephole(0, i) * *c);
            let forget = match input_forget {
                true => 1.0 - input,
                false => self.activate(0, gate(2) + peephole(2, i) * *c),
            };
            *c = forget * *c + input * self.activate(1, gate(3));
            let output = self.activate(0, gate(1) + peephole(1, i) * *c);
            *h = output * self.direction.activations[2].apply(*c);
        }
        h
    }
}

impl Recurrent {
    /// Ranks, types, and the dimensions that operands share, as far as they are numbers.
    fn check(&self, inputs: &[&TypedFact]) -> TractResult<()> {
        let places = self.places();
        let last = [places.bias, places.lengths, places.hidden, places.cell, places.peepholes];
        let count = last.iter().flatten().max().map_or(3, |p| p + 1);
        ensure!(inputs.len() == count, "{} takes {count} operands", self.name());
        for (i, fact) in inputs.iter().enumerate() {
            let wanted =
                if Some(i) == places.lengths { i32::datum_type() } else { f32::datum_type() };
            ensure!(fact.datum_type == wanted, "operand {i} of {:?}", fact.datum_type);
        }
        ensure!(inputs[0].rank() == 3 && inputs[2].rank() == 3, "X and R must have 3 axes");
        let (batch, size) = (&inputs[0].shape[1], &inputs[0].shape[2]);
        let hidden = &inputs[2].shape[2];
        let directions = self.directions.len().to_dim();
        let width = hidden.clone() * self.cell.gates();
        let fits = |a: &TDim, b: &TDim| a == b || a.to_i64().is_err() || b.to_i64().is_err();
        let same = |what: &str, place: Option<usize>, wanted: &[TDim]| -> TractResult<()> {
            let Some(place) = place else { return Ok(()) };
            let shape = &inputs[place].shape;
            ensure!(
                shape.rank() == wanted.len() && shape.iter().zip(wanted).all(|(a, b)| fits(a, b)),
                "{what} of shape {shape:?} where {wanted:?} is needed"
            );
            Ok(())
        };
        let state = [directions.clone(), batch.clone(), hidden.clone()];
        same("W", Some(1), &[directions.clone(), width.clone(), size.clone()])?;
        same("R", Some(2), &[directions.clone(), width.clone(), hidden.clone()])?;
        same("the bias", places.bias, &[directions.clone(), width * 2])?;
        same("sequence_lens", places.lengths, std::slice::from_ref(batch))?;
        same("the initial hidden state", places.hidden, &state)?;
        same("the initial cell state", places.cell, &state)?;
        same("the peepholes", places.peepholes, &[directions, hidden.clone() * 3])
    }
}

impl TypedOp for Recurrent {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        self.check(inputs)?;
        let (steps, batch) = (&inputs[0].shape[0], &inputs[0].shape[1]);
        let hidden = &inputs[2].shape[2];
        let directions = self.directions.len().to_dim();
        let state = [directions.clone(), batch.clone(), hidden.clone()];
        let y = f32::fact([steps.clone(), directions, batch.clone(), hidden.clone()]);
        let mut facts = tvec!(y, f32::fact(&state));
        if self.cell.is_lstm() {
            facts.push(f32::fact(&state));
        }
        Ok(facts)
    }

    tract_core::as_op!();
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `sin(0), sin(k), sin(2k) …`
    fn waves(shape: &[usize], k: f64) -> TValue {
        let count: usize = shape.iter().product();
        let values: Vec<f32> = (0..count).map(|i| (i as f64 * k).sin() as f32).collect();
        Tensor::from_shape(shape, &values).unwrap().into_tvalue()
    }

    fn layer(cell: Cell, reverse: &[bool], has_peepholes: bool, clip: Option<f32>) -> Recurrent {
        use CellActivation::{Sigmoid, Tanh};
        let activations: &[CellActivation] = match cell {
            Cell::Rnn => &[Tanh],
            Cell::Gru { .. } => &[Sigmoid, Tanh],
            Cell::Lstm { .. } => &[Sigmoid, Tanh, Tanh],
        };
        let direction = |&reverse: &bool| Direction { reverse, activations: activations.to_vec() };
        Recurrent {
            cell,
            directions: reverse.iter().map(direction).collect(),
            clip,
            has_bias: true,
            has_lengths: true,
            has_hidden: true,
            has_cell: cell.is_lstm(),
            has_peepholes,
        }
    }

    /// T, B, I and H are 3, 2, 2 and 2.
    fn operands(op: &Recurrent, lengths: [i32; 2]) -> TVec<TValue> {
        let (d, width) = (op.directions.len(), 2 * op.cell.gates());
        let mut inputs = tvec!(
            waves(&[3, 2, 2], 0.7),
            waves(&[d, width, 2], 0.9),
            waves(&[d, width, 2], 1.1),
            waves(&[d, 2 * width], 1.3),
            tensor1(&lengths).into_tvalue(),
            waves(&[d, 2, 2], 1.5),
        );
        if op.has_cell {
            inputs.push(waves(&[d, 2, 2], 1.7));
        }
        if op.has_peepholes {
            inputs.push(waves(&[d, 6], 1.9));
        }
        inputs
    }

    fn check(op: Recurrent, lengths: [i32; 2], expected: &[&[f32]]) {
        let outputs = op.eval(&EvalContext::out_of_plan(), operands(&op, lengths)).unwrap();
        assert_eq!(outputs.len(), expected.len());
        for (output, expected) in outputs.iter().zip(expected) {
            let got = values(output).unwrap();
            let close = got.iter().zip(*expected).all(|(a, b)| (a - b).abs() < 2e-6);
            assert!(close && got.len() == expected.len(), "{op:?}: {got:?}, not {expected:?}");
        }
    }

    /// Expected values: onnxruntime 1.23 on the same operands.
    #[test]
    fn reversed_sequences_of_any_length_are_as_in_onnxruntime() {
        check(
            layer(Cell::Gru { linear_before_reset: true }, &[false, true], false, None),
            [3, 1],
            &[
                &[
                    -0.0216546, 0.825742, 0.330983, -0.911005, 0.776614, -0.599625, 0.523646,
                    -0.132285, -0.156848, 0.778362, 0.0, 0.0, 0.56341, -0.752175, 0.0, 0.0,
                    -0.268151, 0.584585, 0.0, 0.0, 0.102546, -0.633099, 0.0, 0.0,
                ],
                &[
                    -0.268151, 0.584585, 0.330983, -0.911005, 0.776614, -0.599625, 0.523646,
                    -0.132285,
                ],
            ],
        );
        check(
            layer(Cell::Gru { linear_before_reset: false }, &[true], false, None),
            [2, 3],
            &[
                &[
                    -0.0918351, 0.902059, -0.248336, -0.0962579, -0.0989801, 0.971316, -0.481722,
                    -0.198209, 0.0, 0.0, 0.327535, -0.858555,
                ],
                &[-0.0918351, 0.902059, -0.248336, -0.0962579],
            ],
        );
        check(
            layer(Cell::Lstm { input_forget: false }, &[true], true, Some(0.5)),
            [1, 3],
            &[
                &[
                    0.1057,
                    0.360853,
                    -0.0789005,
                    0.105583,
                    0.0,
                    0.0,
                    0.0301943,
                    -0.000555976,
                    0.0,
                    0.0,
                    -0.195552,
                    -0.0233338,
                ],
                &[0.1057, 0.360853, -0.0789005, 0.105583],
                &[0.287649, 0.662043, -0.183297, 0.287312],
            ],
        );
        check(
            layer(Cell::Lstm { input_forget: false }, &[true], false, None),
            [0, 3],
            &[
                &[
                    0.0, 0.0, -0.0985581, 0.290991, 0.0, 0.0, 0.13107, 0.129722, 0.0, 0.0,
                    -0.244237, 0.110694,
                ],
                &[0.0, 0.0, -0.0985581, 0.290991],
                &[0.0, 0.0, -0.278141, 0.821008],
            ],
        );
        check(
            layer(Cell::Rnn, &[false, true], false, None),
            [2, 3],
            &[
                &[
                    0.957011, 0.374603, 0.309954, 0.953837, -0.761593, 0.864927, -0.982163,
                    0.417949, 0.51871, 0.823227, 0.534187, -0.712743, -0.0859412, 0.803817,
                    0.98845, 0.354241, 0.0, 0.0, 0.574597, 0.954691, 0.0, 0.0, -0.722625,
                    -0.602943,
                ],
                &[0.51871, 0.823227, 0.574597, 0.954691, -0.761593, 0.864927, -0.982163, 0.417949],
            ],
        );
    }

    #[test]
    fn batch_and_sequence_may_be_symbols() {
        let op = Recurrent {
            has_lengths: false,
            has_hidden: false,
            ..layer(Cell::Gru { linear_before_reset: false }, &[false, true], false, None)
        };
        let mut model = TypedModel::default();
        let [t, n] = ["T", "N"].map(|name| model.symbols.sym(name));
        let x = model.add_source("x", f32::fact([t.to_dim(), n.to_dim(), 2.to_dim()])).unwrap();
        let mut wires = vec![x];
        for (i, shape) in [&[2, 6, 2][..], &[2, 6, 2], &[2, 12]].iter().enumerate() {
            let value = waves(shape, 0.9).into_tensor();
            wires.push(model.add_const(format!("c{i}"), value).unwrap());
        }
        let outputs = model.wire_node("gru", op, &wires).unwrap();
        model.select_output_outlets(&outputs).unwrap();
        let fact = model.output_fact(0).unwrap();
        assert_eq!(format!("{fact:?}"), "T,2,N,2,F32");
        let plan = model.into_runnable().unwrap();
        for (steps, batch) in [(1, 1), (4, 3)] {
            let y = plan.run(tvec!(waves(&[steps, batch, 2], 0.7))).unwrap();
            assert_eq!(y[0].shape(), [steps, 2, batch, 2]);
            assert_eq!(y[1].shape(), [2, batch, 2]);
        }
    }

    #[test]
    fn operands_that_do_not_fit_are_refused() {
        let op = layer(Cell::Rnn, &[false], false, None);
        let mut inputs = operands(&op, [1, 1]);
        inputs[2] = waves(&[1, 2, 3], 1.0);
        let error = op.eval(&EvalContext::out_of_plan(), inputs).unwrap_err();
        assert!(format!("{error:#}").contains("of shape"), "{error:#}");
    }
}
