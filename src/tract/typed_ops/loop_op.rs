//! ONNX's Loop and Scan.

use super::body::{bytes_of, check_turn, last_fact, run};
use super::*;

/// Runs `body` on states, turn by turn, and stacks what it gives beside them.
///
/// The inputs are the number of turns (int64) and the first condition (bool), where there are such; the states;
/// what is read slice by slice along axis 0; what every turn reads. The body is given the turn's number (int64
/// scalar) and the condition where the loop is `counted`, then states, slices and the rest; it gives the next
/// condition where the loop is `counted`, the states, and the elements to stack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loop {
    pub body: Body,
    pub counted: bool,
    pub has_count: bool,
    pub has_condition: bool,
    pub states: usize,
    pub scanned: usize,
    /// By state.
    pub open: Vec<OpenDims>,
    /// Turns, where they are known beforehand; else a symbol.
    pub turns: TDim,
    pub turns_are_known: bool,
    /// What is stacked: facts of the results.
    pub stacked: Vec<TypedFact>,
}

impl Op for Loop {
    fn name(&self) -> StaticName {
        if self.counted { "Loop".into() } else { "Scan".into() }
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for Loop {
    tract_core::not_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let mut inputs = inputs.into_iter();
        let mut next = || inputs.next().context("an input of a loop is missing");
        let mut limit = match self.has_count {
            true => next().and_then(|n| number::<i64>(&n))?,
            false => i64::MAX,
        };
        let mut goes_on = match self.has_condition {
            true => next().and_then(|n| number::<bool>(&n))?,
            false => true,
        };
        let mut states: TVec<TValue> =
            (0..self.states).map(|_| next()).collect::<Result<_, _>>()?;
        let scanned: Vec<TValue> = (0..self.scanned).map(|_| next()).collect::<Result<_, _>>()?;
        let captured: Vec<TValue> = inputs.collect();
        for values in &scanned {
            let turns = *values.shape().first().context("a scalar is scanned")? as i64;
            ensure!(limit == i64::MAX || limit == turns, "sequences of {limit} and {turns}");
            limit = turns;
        }
        let mut stacked: Vec<Vec<Tensor>> = vec![vec![]; self.stacked.len()];
        let mut stacked_bytes = 0;
        let mut body = self.body.start()?;
        let mut turn = 0;
        while turn < limit && goes_on {
            check_turn(&states, stacked_bytes)?;
            let mut given: TVec<TValue> = tvec!();
            if self.counted {
                given.push(tensor0(turn).into_tvalue());
                given.push(tensor0(goes_on).into_tvalue());
            }
            given.extend(states.drain(..));
            for values in &scanned {
                let mut slice = values.slice(0, turn as usize, turn as usize + 1)?;
                slice.remove_axis(0)?;
                given.push(slice.into_tvalue());
            }
            given.extend(captured.iter().cloned());
            let mut results = run(&mut body, ctx.symbols, given)?.into_iter();
            if self.counted {
                let condition = results.next().context("no condition")?;
                goes_on = number::<bool>(&condition)?;
            }
            states.extend(results.by_ref().take(self.states));
            for (all, value) in stacked.iter_mut().zip(results) {
                let mut element = value.into_tensor();
                element.insert_axis(0)?;
                // an element without values takes memory too
                stacked_bytes += bytes_of(&element) + size_of::<Tensor>();
                all.push(element);
            }
            turn += 1;
        }
        for (all, fact) in stacked.iter().zip(&self.stacked) {
            states.push(match all.is_empty() {
                false => Tensor::stack_tensors(0, all)?.into_tvalue(),
                true => {
                    let dims = fact.shape.iter().skip(1);
                    let dims = dims.map(|d| d.eval(ctx.symbols).to_usize().unwrap_or(0));
                    let shape: Vec<usize> = std::iter::once(0).chain(dims).collect();
                    Tensor::zero_dt(fact.datum_type, &shape)?.into_tvalue()
                }
            });
        }
        Ok(states)
    }
}

impl TypedOp for Loop {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let first = self.has_count as usize + self.has_condition as usize;
        ensure!(inputs.len() >= first + self.states + self.scanned, "a loop lacks inputs");
        let states = inputs[first..].iter().zip(&self.open).map(|(f, open)| last_fact(f, open));
        Ok(states.chain(self.stacked.iter().cloned()).collect())
    }

    tract_core::as_op!();
}
