//! RNN, GRU and LSTM layers: the inputs' products for all steps at once, then the steps, one after the
//! other where they are few and in a WHILE where not.
//!
//! UNIDIRECTIONAL_SEQUENCE_LSTM is no form of them: its state outlives a run, so that a second run of an
//! interpreter would go on where the first ended.

use super::compose::Chain;
use super::*;
use crate::graph::{Activation, BinaryOp, UnaryOp};
use crate::tract::typed_ops::{Cell, CellActivation, Direction, Recurrent};
use anyhow::bail;

/// As many steps are written out.
const MAX_UNROLLED: i64 = 16;

/// One direction of a layer.
struct Layer<'a> {
    name: String,
    cell: Cell,
    direction: &'a Direction,
    clip: Option<f32>,
    steps: TDim,
    batch: TDim,
    hidden: usize,
    /// `[gates·H, I]`, `[gates·H, H]`, `[gates·H]`, `[H]`.
    weights: tract::Tensor,
    recurrent: tract::Tensor,
    bias: Vec<f32>,
    bias_after_reset: Option<Vec<f32>>,
}

/// The constants of a step in one graph.
struct StepConstants {
    recurrent: Vec<TensorId>,
    bias_after_reset: Option<TensorId>,
}

/// Hidden and, of an LSTM, cell state `[B, H]`.
#[derive(Clone, Copy)]
struct State {
    h: TensorId,
    c: Option<TensorId>,
}

/// What all steps read beside constants.
struct Given {
    /// The inputs' products `[T, B, gates·H]`.
    projected: TensorId,
    /// int32 `[B]`.
    lengths: Option<TensorId>,
    /// Of input, output and forget gate, `[1, H]` each; or none.
    peepholes: Vec<TensorId>,
}

/// All hidden states `[T, B, H]` where somebody reads them, and the last state.
struct Done {
    y: Option<TensorId>,
    last: State,
}

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    let Some(op) = node.op_as::<Recurrent>() else { return Ok(None) };
    let places = op.places();
    let x_shape = ctx.shape(node.inputs[0])?;
    let (steps, batch) = (x_shape[0].clone(), x_shape[1].clone());
    ensure!(steps != TDim::from(0), "a sequence of no steps; export the layer with at least one");
    let constant = |place: usize, what: &str| {
        let value = ctx.constant(node.inputs[place]).cloned();
        value.ok_or_else(|| refusal::computed(what))
    };
    let (weights, recurrent) = (constant(1, "weights")?, constant(2, "recurrent weights")?);
    let bias = places.bias.map(|i| constant(i, "biases")).transpose()?;
    let peepholes = places.peepholes.map(|i| ctx.tensor(node.inputs[i])).transpose()?;
    let hidden = recurrent.shape()[2];
    let width = op.cell.gates() * hidden;
    let lengths = match places.lengths {
        Some(place) => Some(ctx.tensor_as(node.inputs[place], ElementType::I32)?),
        None => None,
    };
    let x = ctx.tensor(node.inputs[0])?;
    let y_is_used = ctx.is_used(OutletId::new(node.id, 0));
    let mut done = vec![];
    for (d, direction) in op.directions.iter().enumerate() {
        let name = match (op.directions.len(), direction.reverse) {
            (1, _) => node.name.clone(),
            (_, false) => format!("{}/forward", node.name),
            (_, true) => format!("{}/backward", node.name),
        };
        let matrix = |all: &tract::Tensor| all.slice(0, d, d + 1)?.into_shape(&all.shape()[1..]);
        let vector = |all: &Arc<tract::Tensor>| -> Result<Vec<f32>> {
            let row = all.slice(0, d, d + 1)?;
            Ok(row.try_as_plain_ram()?.as_slice::<f32>()?.to_vec())
        };
        let (bias, bias_after_reset) = match &bias {
            Some(bias) => op.split_bias(&vector(bias)?, hidden),
            None => (vec![0.0; width], None),
        };
        let layer = Layer {
            cell: op.cell,
            direction,
            clip: op.clip,
            steps: steps.clone(),
            batch: batch.clone(),
            hidden,
            weights: matrix(&weights)?,
            recurrent: matrix(&recurrent)?,
            bias,
            bias_after_reset,
            name,
        };
        let peepholes = match peepholes {
            Some(all) => layer.peepholes(ctx, all, d)?,
            None => vec![],
        };
        let given = Given { projected: layer.project(ctx, x)?, lengths, peepholes };
        let mut first = |which: &str, place: Option<usize>| {
            layer.first_state(ctx, which, place.map(|i| node.inputs[i]), d, lengths)
        };
        let h = first("h", places.hidden)?;
        let c = op.cell.is_lstm().then(|| first("c", places.cell)).transpose()?;
        let first = State { h, c };
        done.push(match steps.to_i64() {
            Ok(steps) if steps * op.directions.len() as i64 <= MAX_UNROLLED => {
                layer.unroll(ctx, steps, given, first, y_is_used)?
            }
            _ => layer.repeat(ctx, given, first, y_is_used)?,
        });
    }
    let mut finish = |slot: usize, axis: usize, parts: Vec<TensorId>| -> Result<()> {
        let outlet = OutletId::new(node.id, slot);
        if !ctx.is_used(outlet) {
            return Ok(());
        }
        let shape = ctx.shape(outlet)?;
        let suffix = ["y", "last_h", "last_c"][slot];
        let name = format!("{}/{suffix}", node.name);
        let mut flat = shape.clone();
        flat.remove(axis);
        let result = match parts.as_slice() {
            &[part] => ctx.reshape(&name, part, &flat, &shape)?,
            parts => {
                let op = LiteOp::Pack { axis: i32::try_from(axis)? };
                ctx.emit(&name, op, parts, ElementType::F32, &shape)
            }
        };
        ctx.bind_outlet(outlet, result);
        Ok(())
    };
    finish(0, 1, done.iter().filter_map(|d| d.y).collect())?;
    finish(1, 0, done.iter().map(|d| d.last.h).collect())?;
    if op.cell.is_lstm() {
        finish(2, 0, done.iter().filter_map(|d| d.last.c).collect())?;
    }
    Ok(Some(()))
}

impl Layer<'_> {
    fn width(&self) -> usize {
        self.cell.gates() * self.hidden
    }

    fn state_shape(&self) -> Vec<TDim> {
        vec![self.batch.clone(), self.hidden.into()]
    }

    /// `[T, B, gates·H]`.
    fn project(&self, ctx: &mut LowerContext, x: TensorId) -> Result<TensorId> {
        let name = format!("{}/inputs", self.name);
        let weights = ctx.add_constant(&format!("{}/weights", self.name), &self.weights)?;
        let bias = tract::tensor1(&self.bias);
        let bias = ctx.add_constant(&format!("{}/bias", self.name), &bias)?;
        let shape = [self.steps.clone(), self.batch.clone(), self.width().into()];
        let product = fully_connected(true);
        Ok(ctx.emit(&name, product, &[x, weights, bias], ElementType::F32, &shape))
    }

    /// The given state of direction `d`, or zeros, which those of length 0 end in too.
    fn first_state(
        &self,
        ctx: &mut LowerContext,
        which: &str,
        given: Option<OutletId>,
        d: usize,
        lengths: Option<TensorId>,
    ) -> Result<TensorId> {
        let name = format!("{}/first_{which}", self.name);
        let shape = self.state_shape();
        let Some(given) = given else { return self.zeros(ctx, &name, &shape) };
        let all = ctx.shape(given)?;
        let mut part = ctx.tensor_as(given, ElementType::F32)?;
        let mut of_one = vec![TDim::from(1)];
        of_one.extend(shape.iter().cloned());
        if all[0] != TDim::from(1) {
            let begin = ctx.add_i32_constant(&format!("{name}/begin"), &[i32::try_from(d)?, 0, 0]);
            let size = ctx.add_i32_constant(&format!("{name}/size"), &[1, -1, -1]);
            let inputs = [part, begin, size];
            part = ctx.emit(&name, LiteOp::Slice, &inputs, ElementType::F32, &of_one);
        }
        let given = ctx.reshape(&name, part, &of_one, &shape)?;
        let Some(lengths) = lengths else { return Ok(given) };
        let zero = ctx.add_i32_tensor(&name, &[], &[0]);
        let goes_on = self.goes_on(ctx, zero, lengths)?;
        let mut chain = Chain::new(ctx, &name, ElementType::F32, &shape);
        let zero = chain.scalar(0.0)?;
        Ok(chain.select(goes_on, given, zero))
    }

    /// Whether a sequence has more steps than `time`: bool `[B, 1]`.
    fn goes_on(
        &self,
        ctx: &mut LowerContext,
        time: TensorId,
        lengths: TensorId,
    ) -> Result<TensorId> {
        let name = format!("{}/goes_on", self.name);
        let batch = [self.batch.clone()];
        let goes_on =
            Chain::new(ctx, &name, ElementType::I32, &batch).compare(BinaryOp::Less, time, lengths);
        let column = [self.batch.clone(), 1.into()];
        ctx.reshape(&name, goes_on, &batch, &column)
    }

    /// Those of direction `d` of `[D, 3·H]`.
    fn peepholes(&self, ctx: &mut LowerContext, all: TensorId, d: usize) -> Result<Vec<TensorId>> {
        let name = format!("{}/peephole", self.name);
        let hidden = i32::try_from(self.hidden)?;
        let row = [TDim::from(1), self.hidden.into()];
        let mut part = |gate: i32| -> Result<TensorId> {
            let begin = [i32::try_from(d)?, gate * hidden];
            let begin = ctx.add_i32_constant(&format!("{name}/begin"), &begin);
            let size = ctx.add_i32_constant(&format!("{name}/size"), &[1, hidden]);
            Ok(ctx.emit(&name, LiteOp::Slice, &[all, begin, size], ElementType::F32, &row))
        };
        (0..3).map(&mut part).collect()
    }

    fn zeros(&self, ctx: &mut LowerContext, name: &str, shape: &[TDim]) -> Result<TensorId> {
        let zero = ctx.add_scalar(&format!("{name}/zero"), 0.0, ElementType::F32)?;
        let target = ctx.shape_tensor(&format!("{name}/shape"), shape)?;
        Ok(ctx.emit(name, LiteOp::Fill, &[target, zero], ElementType::F32, shape))
    }

    fn unroll(
        &self,
        ctx: &mut LowerContext,
        steps: i64,
        given: Given,
        first: State,
        with_y: bool,
    ) -> Result<Done> {
        let constants = self.constants(ctx)?;
        let row: (String, ElementType, Vec<TDim>) = (
            format!("{}/step", self.name),
            ElementType::F32,
            vec![self.batch.clone(), self.width().into()],
        );
        let rows = vec![row; steps as usize];
        let rows = ctx.emit_several(LiteOp::Unpack { axis: 0 }, &[given.projected], &rows);
        let mut order: Vec<usize> = (0..rows.len()).collect();
        if self.direction.reverse {
            order.reverse();
        }
        let mut state = first;
        let mut y = rows.clone();
        for step in order {
            let new = self.step(ctx, &constants, &given.peepholes, rows[step], state)?;
            (state, y[step]) = match given.lengths {
                None => (new, new.h),
                Some(lengths) => {
                    let name = format!("{}/time", self.name);
                    let time = ctx.add_i32_tensor(&name, &[], &[i32::try_from(step)?]);
                    self.keep_ended(ctx, time, lengths, state, new, with_y)?
                }
            };
        }
        let shape = [self.steps.clone(), self.batch.clone(), self.hidden.into()];
        let name = format!("{}/y", self.name);
        let y =
            with_y.then(|| ctx.emit(&name, LiteOp::Pack { axis: 0 }, &y, ElementType::F32, &shape));
        Ok(Done { y, last: state })
    }

    fn repeat(
        &self,
        ctx: &mut LowerContext,
        given: Given,
        first: State,
        with_y: bool,
    ) -> Result<Done> {
        let reverse = self.direction.reverse;
        let y_shape = vec![self.steps.clone(), self.batch.clone(), self.hidden.into()];
        let projected_shape =
            vec![self.steps.clone(), self.batch.clone(), TDim::from(self.width())];
        let start = match reverse {
            false => ctx.add_i32_tensor(&format!("{}/start", self.name), &[], &[0]),
            true => self.last_step(ctx)?,
        };
        let mut states = vec![
            ("time".to_string(), start, vec![]),
            ("inputs".to_string(), given.projected, projected_shape),
            ("h".to_string(), first.h, self.state_shape()),
        ];
        let mut place_of = |name: &str, tensor: TensorId, shape: Vec<TDim>| {
            states.push((name.to_string(), tensor, shape));
            states.len() - 1
        };
        let c = first.c.map(|c| place_of("c", c, self.state_shape()));
        let y = match with_y {
            true => {
                let zeros = self.zeros(ctx, &format!("{}/y", self.name), &y_shape)?;
                Some(place_of("y", zeros, y_shape.clone()))
            }
            false => None,
        };
        let lengths = given.lengths.map(|l| place_of("lengths", l, vec![self.batch.clone()]));
        let row = vec![TDim::from(1), self.hidden.into()];
        let peepholes: Vec<usize> =
            given.peepholes.iter().map(|&p| place_of("peephole", p, row.clone())).collect();
        let results = ctx.emit_while(
            &self.name,
            &states,
            |ctx, states| {
                let (op, limit) = match reverse {
                    true => (BinaryOp::GreaterEqual, ctx.add_i32_tensor("zero", &[], &[0])),
                    false => (BinaryOp::LessEqual, self.last_step(ctx)?),
                };
                Ok(Chain::new(ctx, "goes_on", ElementType::I32, &[]).compare(op, states[0], limit))
            },
            |ctx, states| {
                let time = states[0];
                let constants = self.constants(ctx)?;
                let shape = [self.batch.clone(), self.width().into()];
                let gather = LiteOp::Gather { axis: 0, batch_dims: 0 };
                let row = ctx.emit("step", gather, &[states[1], time], ElementType::F32, &shape);
                let old = State { h: states[2], c: c.map(|c| states[c]) };
                let peepholes: Vec<TensorId> = peepholes.iter().map(|&p| states[p]).collect();
                let new = self.step(ctx, &constants, &peepholes, row, old)?;
                let (new, output) = match lengths {
                    None => (new, new.h),
                    Some(l) => self.keep_ended(ctx, time, states[l], old, new, y.is_some())?,
                };
                let mut results = states.to_vec();
                let by = ctx.add_i32_tensor("one", &[], &[1]);
                let op = if reverse { BinaryOp::Sub } else { BinaryOp::Add };
                results[0] = Chain::new(ctx, "next", ElementType::I32, &[]).binary(op, time, by);
                results[2] = new.h;
                if let (Some(place), Some(c)) = (c, new.c) {
                    results[place] = c;
                }
                if let Some(y) = y {
                    let zero = ctx.add_i32_tensor("zero", &[], &[0]);
                    let pack = LiteOp::Pack { axis: 0 };
                    let three = [TDim::from(3)];
                    let inputs = [time, zero, zero];
                    let place = ctx.emit("place", pack, &inputs, ElementType::I32, &three);
                    let mut one_step = y_shape.clone();
                    one_step[0] = 1.into();
                    let output = ctx.reshape("output", output, &self.state_shape(), &one_step)?;
                    let op = LiteOp::DynamicUpdateSlice;
                    let inputs = [states[y], output, place];
                    results[y] = ctx.emit("y_so_far", op, &inputs, ElementType::F32, &y_shape);
                }
                Ok(results)
            },
        )?;
        let last = State { h: results[2], c: c.map(|c| results[c]) };
        Ok(Done { y: y.map(|y| results[y]), last })
    }

    /// The index of the last step, an int32 scalar.
    fn last_step(&self, ctx: &mut LowerContext) -> Result<TensorId> {
        let name = format!("{}/last", self.name);
        if let Ok(steps) = self.steps.to_i64() {
            return Ok(ctx.add_i32_tensor(&name, &[], &[i32::try_from(steps - 1)?]));
        }
        let steps = ctx.shape_tensor(&name, std::slice::from_ref(&self.steps))?;
        let steps = ctx.reshape(&name, steps, &[TDim::from(1)], &[])?;
        let one = ctx.add_i32_tensor(&name, &[], &[1]);
        Ok(Chain::new(ctx, &name, ElementType::I32, &[]).binary(BinaryOp::Sub, steps, one))
    }

    fn constants(&self, ctx: &mut LowerContext) -> Result<StepConstants> {
        let name = format!("{}/recurrent_weights", self.name);
        let hidden = self.hidden;
        let resets_first = self.cell == (Cell::Gru { linear_before_reset: false });
        let parts = if resets_first { vec![0..2, 2..3] } else { vec![0..self.cell.gates()] };
        let mut recurrent = vec![];
        for part in parts {
            let rows = self.recurrent.slice(0, part.start * hidden, part.end * hidden)?;
            recurrent.push(ctx.add_constant(&name, &rows)?);
        }
        let bias_after_reset = match &self.bias_after_reset {
            Some(bias) => {
                let mut all = vec![0.0; 2 * hidden];
                all.extend(bias);
                let name = format!("{}/recurrent_bias", self.name);
                Some(ctx.add_constant(&name, &tract::tensor1(&all))?)
            }
            None => None,
        };
        Ok(StepConstants { recurrent, bias_after_reset })
    }

    /// Of sequences that have ended, the old state, and zeros as output.
    fn keep_ended(
        &self,
        ctx: &mut LowerContext,
        time: TensorId,
        lengths: TensorId,
        old: State,
        new: State,
        with_y: bool,
    ) -> Result<(State, TensorId)> {
        let goes_on = self.goes_on(ctx, time, lengths)?;
        let shape = self.state_shape();
        let mut chain = Chain::new(ctx, &self.name, ElementType::F32, &shape);
        let h = chain.select(goes_on, new.h, old.h);
        let c = match (new.c, old.c) {
            (Some(new), Some(old)) => Some(chain.select(goes_on, new, old)),
            _ => None,
        };
        let output = match with_y {
            true => {
                let zero = chain.scalar(0.0)?;
                chain.select(goes_on, new.h, zero)
            }
            false => h,
        };
        Ok((State { h, c }, output))
    }

    /// `x` in equal parts along its last axis, `[B, H]` each.
    fn split(&self, ctx: &mut LowerContext, x: TensorId, parts: usize) -> Vec<TensorId> {
        if parts == 1 {
            return vec![x];
        }
        let axis = ctx.add_i32_tensor("axis", &[], &[1]);
        let part = (format!("{}/gate", self.name), ElementType::F32, self.state_shape());
        ctx.emit_several(LiteOp::Split, &[axis, x], &vec![part; parts])
    }

    fn product(
        &self,
        ctx: &mut LowerContext,
        x: TensorId,
        weights: TensorId,
        bias: Option<TensorId>,
        gates: usize,
    ) -> TensorId {
        let inputs: Vec<TensorId> = [x, weights].into_iter().chain(bias).collect();
        let shape = [self.batch.clone(), (gates * self.hidden).into()];
        let name = format!("{}/recurrent", self.name);
        ctx.emit(&name, fully_connected(false), &inputs, ElementType::F32, &shape)
    }

    /// One step from the inputs' products `[B, gates·H]`.
    fn step(
        &self,
        ctx: &mut LowerContext,
        constants: &StepConstants,
        peepholes: &[TensorId],
        row: TensorId,
        old: State,
    ) -> Result<State> {
        let shape = self.state_shape();
        let gates = self.cell.gates();
        let wide = [self.batch.clone(), self.width().into()];
        let weights = constants.recurrent[0];
        match self.cell {
            Cell::Rnn | Cell::Lstm { .. } => {
                let product = self.product(ctx, old.h, weights, None, gates);
                let sum = Chain::new(ctx, &self.name, ElementType::F32, &wide).binary(
                    BinaryOp::Add,
                    row,
                    product,
                );
                let gates = self.split(ctx, sum, gates);
                match (self.cell, old.c) {
                    (Cell::Lstm { input_forget }, Some(c)) => {
                        self.lstm(ctx, peepholes, &gates, c, input_forget)
                    }
                    _ => {
                        let mut chain = Chain::new(ctx, &self.name, ElementType::F32, &shape);
                        Ok(State { h: self.activate(&mut chain, 0, gates[0])?, c: None })
                    }
                }
            }
            Cell::Gru { linear_before_reset } => {
                let inputs = self.split(ctx, row, 3);
                let count = if linear_before_reset { 3 } else { 2 };
                let bias = constants.bias_after_reset;
                let product = self.product(ctx, old.h, weights, bias, count);
                let products = self.split(ctx, product, count);
                let mut chain = Chain::new(ctx, &self.name, ElementType::F32, &shape);
                let update = chain.binary(BinaryOp::Add, inputs[0], products[0]);
                let update = self.activate(&mut chain, 0, update)?;
                let reset = chain.binary(BinaryOp::Add, inputs[1], products[1]);
                let reset = self.activate(&mut chain, 0, reset)?;
                let kept = match linear_before_reset {
                    true => chain.binary(BinaryOp::Mul, reset, products[2]),
                    false => {
                        let kept = chain.binary(BinaryOp::Mul, reset, old.h);
                        self.product(chain.ctx, kept, constants.recurrent[1], None, 1)
                    }
                };
                let new = chain.binary(BinaryOp::Add, inputs[2], kept);
                let new = self.activate(&mut chain, 1, new)?;
                let difference = chain.binary(BinaryOp::Sub, old.h, new);
                let change = chain.binary(BinaryOp::Mul, update, difference);
                Ok(State { h: chain.binary(BinaryOp::Add, new, change), c: None })
            }
        }
    }

    fn lstm(
        &self,
        ctx: &mut LowerContext,
        peepholes: &[TensorId],
        gates: &[TensorId],
        c: TensorId,
        input_forget: bool,
    ) -> Result<State> {
        let &[input, output, forget, new] = gates else {
            bail!("an LSTM of {} gates", gates.len())
        };
        let shape = self.state_shape();
        let mut chain = Chain::new(ctx, &self.name, ElementType::F32, &shape);
        let gate = |chain: &mut Chain, which: usize, x: TensorId, c: TensorId| {
            let x = match peepholes.get(which) {
                Some(&peephole) => {
                    let seen = chain.binary(BinaryOp::Mul, c, peephole);
                    chain.binary(BinaryOp::Add, x, seen)
                }
                None => x,
            };
            self.activate(chain, 0, x)
        };
        let input = gate(&mut chain, 0, input, c)?;
        let forget = match input_forget {
            true => {
                let one = chain.scalar(1.0)?;
                chain.binary(BinaryOp::Sub, one, input)
            }
            false => gate(&mut chain, 2, forget, c)?,
        };
        let new = self.activate(&mut chain, 1, new)?;
        let kept = chain.binary(BinaryOp::Mul, forget, c);
        let added = chain.binary(BinaryOp::Mul, input, new);
        let c = chain.binary(BinaryOp::Add, kept, added);
        let output = gate(&mut chain, 1, output, c)?;
        let shown = apply(&mut chain, self.direction.activations[2], c)?;
        Ok(State { h: chain.binary(BinaryOp::Mul, output, shown), c: Some(c) })
    }

    fn activate(&self, chain: &mut Chain, which: usize, x: TensorId) -> Result<TensorId> {
        let x = match self.clip {
            Some(clip) => {
                let (low, high) = (chain.scalar(-clip)?, chain.scalar(clip)?);
                let x = chain.binary(BinaryOp::Maximum, x, low);
                chain.binary(BinaryOp::Minimum, x, high)
            }
            None => x,
        };
        apply(chain, self.direction.activations[which], x)
    }
}

fn fully_connected(keep_num_dims: bool) -> LiteOp {
    LiteOp::FullyConnected {
        activation: Activation::None,
        keep_num_dims,
        asymmetric_quantize_inputs: false,
    }
}

fn apply(chain: &mut Chain, activation: CellActivation, x: TensorId) -> Result<TensorId> {
    let scaled = |chain: &mut Chain, x: TensorId, by: f32, plus: f32| -> Result<TensorId> {
        let (by, plus) = (chain.scalar(by)?, chain.scalar(plus)?);
        let x = chain.binary(BinaryOp::Mul, x, by);
        Ok(chain.binary(BinaryOp::Add, x, plus))
    };
    Ok(match activation {
        CellActivation::Relu => chain.unary(UnaryOp::Relu, x),
        CellActivation::Tanh => chain.unary(UnaryOp::Tanh, x),
        CellActivation::Sigmoid => chain.unary(UnaryOp::Logistic, x),
        CellActivation::LeakyRelu(alpha) => chain.single(LiteOp::LeakyRelu { alpha }, x),
        CellActivation::Affine(alpha, beta) => scaled(chain, x, alpha, beta)?,
        CellActivation::HardSigmoid(alpha, beta) => {
            let x = scaled(chain, x, alpha, beta)?;
            let (low, high) = (chain.scalar(0.0)?, chain.scalar(1.0)?);
            let x = chain.binary(BinaryOp::Maximum, x, low);
            chain.binary(BinaryOp::Minimum, x, high)
        }
        CellActivation::ScaledTanh(alpha, beta) => {
            let (outer, inner) = (chain.scalar(alpha)?, chain.scalar(beta)?);
            let x = chain.binary(BinaryOp::Mul, x, inner);
            let x = chain.unary(UnaryOp::Tanh, x);
            chain.binary(BinaryOp::Mul, x, outer)
        }
        CellActivation::Softsign => {
            let size = chain.unary(UnaryOp::Abs, x);
            let one = chain.scalar(1.0)?;
            let size = chain.binary(BinaryOp::Add, size, one);
            chain.binary(BinaryOp::Div, x, size)
        }
        CellActivation::Elu(alpha) => {
            let zero = chain.scalar(0.0)?;
            let negative = chain.binary(BinaryOp::Minimum, x, zero);
            let negative = chain.unary(UnaryOp::Elu, negative);
            let alpha = chain.scalar(alpha)?;
            let negative = chain.binary(BinaryOp::Mul, negative, alpha);
            let positive = chain.unary(UnaryOp::Relu, x);
            chain.binary(BinaryOp::Add, positive, negative)
        }
        CellActivation::ThresholdedRelu(_) | CellActivation::Softplus => {
            bail!(
                "the activation {activation:?} of a recurrent layer; write the layer as a Loop, or use Tanh, Sigmoid or Relu"
            )
        }
    })
}
