//! TFLite's WHILE.

use super::body::{check_turn, last_fact, run};
use super::*;

/// Runs `body` on the states for as long as `condition`, which sees them too, holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct While {
    pub condition: Body,
    pub body: Body,
    /// By state.
    pub open: Vec<OpenDims>,
}

impl Op for While {
    fn name(&self) -> StaticName {
        "While".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for While {
    tract_core::not_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let (mut condition, mut body) = (self.condition.start()?, self.body.start()?);
        let mut states = inputs;
        loop {
            check_turn(&states, 0)?;
            let goes_on = run(&mut condition, ctx.symbols, states.clone())?;
            if !number::<bool>(&goes_on[0])? {
                return Ok(states);
            }
            states = run(&mut body, ctx.symbols, states)?;
        }
    }
}

impl TypedOp for While {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.len() == self.open.len(), "a loop of {} states", self.open.len());
        Ok(inputs.iter().zip(&self.open).map(|(fact, open)| last_fact(fact, open)).collect())
    }

    tract_core::as_op!();
}
