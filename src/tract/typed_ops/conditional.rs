//! ONNX's and TFLite's If.

use super::body::run;
use super::*;

/// Runs one of two graphs. The first input is the condition; `reads` tells which inputs each graph takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct If {
    /// Then, else.
    pub branches: [Body; 2],
    pub reads: [Vec<usize>; 2],
    pub results: Vec<TypedFact>,
}

impl If {
    /// # Errors
    /// The branches give values of different types or ranks.
    pub fn new(
        symbols: &SymbolScope,
        branches: [TypedModel; 2],
        reads: [Vec<usize>; 2],
    ) -> TractResult<If> {
        let [then, other] = &branches;
        let count = then.outputs.len();
        ensure!(count == other.outputs.len(), "the branches give {count} and other values");
        let mut results = vec![];
        for i in 0..count {
            let (mut fact, b) = (then.output_fact(i)?.without_value(), other.output_fact(i)?);
            ensure!(
                fact.datum_type == b.datum_type && fact.rank() == b.rank(),
                "the branches give {fact:?} and {b:?}"
            );
            for axis in 0..fact.rank() {
                if fact.shape[axis] != b.shape[axis] {
                    fact.shape.set(axis, symbols.new_with_prefix("branch").into());
                }
            }
            results.push(fact);
        }
        Ok(If { branches: branches.map(Body::new), reads, results })
    }
}

impl Op for If {
    fn name(&self) -> StaticName {
        "If".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for If {
    tract_core::not_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let branch = if number::<bool>(&inputs[0])? { 0 } else { 1 };
        let given = self.reads[branch].iter().map(|&i| inputs[i].clone()).collect();
        run(&mut self.branches[branch].start()?, ctx.symbols, given)
    }
}

impl TypedOp for If {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        ensure!(inputs.first().is_some_and(|c| c.datum_type == bool::datum_type()));
        Ok(self.results.iter().cloned().collect())
    }

    tract_core::as_op!();
}
