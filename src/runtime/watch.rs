//! Plans whose values are looked at while they are computed, so that none is kept longer than the graph needs it.

use super::{Plan, Tensor};
use crate::tract::guard::catch_panic;
use crate::tract::ops::konst::Const;
use crate::tract::{
    EvalContext, IntoTValue, Node, OpState, OutletId, RunOptions, TValue, TVec, TypedFact,
    TypedModel, TypedOp, TypedSimpleState,
};
use anyhow::Result;
use std::collections::HashMap;

/// A model ready to run that shows its outputs, by their places, as soon as each is computed.
#[derive(Debug, Clone)]
pub struct WatchedPlan {
    plan: Plan,
    /// By node: its slots that are looked at, and as which outputs.
    watched: HashMap<usize, Vec<(usize, usize)>>,
    /// What the plan itself gives at the end, because no node computes it, and as which output.
    left: Vec<(usize, usize)>,
}

/// One thread's run state of a [`WatchedPlan`].
#[derive(Debug)]
pub struct WatchingSession {
    plan: WatchedPlan,
    state: TypedSimpleState,
}

impl WatchedPlan {
    /// As [`Plan::new`].
    ///
    /// # Errors
    /// As [`Plan::new`].
    pub fn new(model: TypedModel, inputs: &[String], outputs: &[String]) -> Result<WatchedPlan> {
        // tract's own order may compute a side branch at the very end, and hold what it reads so long
        let options = RunOptions { skip_order_opt_ram: true, ..RunOptions::default() };
        let (plan, (watched, left)) =
            Plan::prepare(model, inputs, outputs, options, watch_outputs)?;
        Ok(WatchedPlan { plan, watched, left })
    }

    pub fn session(&self) -> Result<WatchingSession> {
        Ok(WatchingSession { state: self.plan.spawn()?, plan: self.clone() })
    }
}

type Watched = (HashMap<usize, Vec<(usize, usize)>>, Vec<(usize, usize)>);

/// Leaves only those outputs that nothing else needs.
fn watch_outputs(model: &mut TypedModel) -> Result<Watched> {
    let outlets = model.output_outlets()?.to_vec();
    let mut watched: HashMap<usize, Vec<(usize, usize)>> = HashMap::new();
    let mut constants = vec![];
    for (place, outlet) in outlets.iter().enumerate() {
        if model.node(outlet.node).op_is::<Const>() {
            constants.push((*outlet, place));
        } else {
            watched.entry(outlet.node).or_default().push((outlet.slot, place));
        }
    }
    let mut needed = vec![false; model.nodes.len()];
    for id in model.eval_order()?.into_iter().rev() {
        model.node(id).inputs.iter().for_each(|input| needed[input.node] = true);
    }
    let mut ends: Vec<OutletId> = constants.iter().map(|(outlet, _)| *outlet).collect();
    let left = constants.iter().enumerate().map(|(end, (_, place))| (end, *place)).collect();
    ends.extend(outlets.into_iter().filter(|outlet| !needed[outlet.node]));
    model.select_output_outlets(&ends)?;
    Ok((watched, left))
}

impl WatchingSession {
    /// Runs the model once on `inputs`, in the model's order; `watch` gets the place and the value of each output.
    ///
    /// # Errors
    /// The inputs do not fit, a node fails, or `watch` does.
    pub fn run(
        &mut self,
        inputs: Vec<Tensor>,
        watch: &mut dyn FnMut(usize, &Tensor) -> Result<()>,
    ) -> Result<()> {
        let WatchingSession { plan: WatchedPlan { plan, watched, left }, state } = self;
        plan.check_inputs(&inputs)?;
        catch_panic("running the graph", move || {
            let inputs: TVec<TValue> = inputs.into_iter().map(IntoTValue::into_tvalue).collect();
            let show = &mut *watch;
            let shown = |ctx: &EvalContext,
                         state: Option<&mut (dyn OpState + 'static)>,
                         node: &Node<TypedFact, Box<dyn TypedOp>>,
                         inputs: TVec<TValue>| {
                let values = match state {
                    Some(state) => state.eval(ctx, node.op.as_op(), inputs),
                    None => node.op.eval(ctx, inputs),
                }?;
                for &(slot, place) in watched.get(&node.id).into_iter().flatten() {
                    show(place, &values[slot])?;
                }
                anyhow::Ok(values)
            };
            let ends = state.run_plan_with_eval(inputs, shown)?;
            left.iter().try_for_each(|&(end, place)| watch(place, &ends[end]))
        })
    }
}
