//! Graphs that an op runs: what loops and branches have in common.

use super::*;
use std::collections::HashSet;
use std::sync::OnceLock;

/// A graph inside an op; planned once, by whoever runs it first.
#[derive(Clone)]
pub struct Body {
    pub model: Arc<TypedModel>,
    plan: Arc<OnceLock<Result<Arc<TypedSimplePlan>, String>>>,
}

impl Body {
    pub fn new(model: TypedModel) -> Body {
        Body { model: Arc::new(model), plan: Arc::default() }
    }

    /// A session of the graph.
    pub(super) fn start(&self) -> TractResult<TypedSimpleState> {
        let plan = self.plan.get_or_init(|| {
            let mut model = (*self.model).clone();
            let plan = optimize::optimize(&mut model).and_then(|()| SimplePlan::new(model));
            plan.map_err(|e| format!("{e:#}"))
        });
        match plan {
            Ok(plan) => plan.spawn(),
            Err(reason) => bail!("planning the graph of a loop or branch: {reason}"),
        }
    }
}

impl std::fmt::Debug for Body {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "a graph of {} nodes", self.model.nodes.len())
    }
}

impl PartialEq for Body {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.model, &other.model)
    }
}

impl Eq for Body {}

/// Runs a session that sees the sizes which are known where its op is.
pub(super) fn run(
    state: &mut TypedSimpleState,
    symbols: &SymbolValues,
    inputs: TVec<TValue>,
) -> TractResult<TVec<TValue>> {
    state.turn_state.resolved_symbols = symbols.clone();
    state.run(inputs)
}

/// What the states of one loop and its stacked results may grow to, all together.
const MAX_STATE_BYTES: usize = 1 << 31;

/// What a value takes in memory.
pub(super) fn bytes_of(value: &Tensor) -> usize {
    value.volume().saturating_mul(value.datum_type().size_of())
}

/// `stacked` are the bytes of the results so far.
///
/// # Errors
/// The loop takes too long, or its states and results grow past all measure.
pub(super) fn check_turn(states: &[TValue], stacked: usize) -> TractResult<()> {
    guard::check_loop()?;
    let bytes = states.iter().fold(stacked, |sum, state| sum.saturating_add(bytes_of(state)));
    ensure!(bytes <= MAX_STATE_BYTES, "the states and results of a loop take {bytes} bytes");
    Ok(())
}

/// The dimensions of a state that change from turn to turn, by axis.
pub type OpenDims = Vec<Option<TDim>>;

/// Builds a loop's body so that its states come out with the shapes that they went in with. A dimension
/// that changes gets a symbol. The states are the body's inputs from `first_input` on and its outputs from
/// `first_output` on.
///
/// # Errors
/// A state changes its element type or rank.
pub fn build_loop(
    symbols: &SymbolScope,
    mut facts: Vec<TypedFact>,
    states: usize,
    [first_input, first_output]: [usize; 2],
    mut build: impl FnMut(&[TypedFact]) -> TractResult<TypedModel>,
) -> TractResult<(TypedModel, Vec<OpenDims>)> {
    facts.iter_mut().take(first_input + states).for_each(|f| *f = f.without_value());
    let mut open: HashSet<(usize, usize)> = HashSet::new();
    loop {
        guard::check_loop()?;
        let body = build(&facts)?;
        let mut settled = true;
        for state in 0..states {
            let before = &mut facts[first_input + state];
            let after = body.output_fact(first_output + state)?;
            ensure!(
                before.datum_type == after.datum_type && before.rank() == after.rank(),
                "state {state} of a loop is {before:?} at first and {after:?} then"
            );
            for axis in 0..after.rank() {
                if before.shape[axis] != after.shape[axis] && open.insert((state, axis)) {
                    before.shape.set(axis, symbols.new_with_prefix("turn").into());
                    settled = false;
                }
            }
        }
        if settled {
            let dim = |place| open.contains(&place).then(|| symbols.new_with_prefix("last").into());
            let ranks = facts[first_input..][..states].iter().map(|f| f.rank()).enumerate();
            let dims =
                ranks.map(|(state, rank)| (0..rank).map(|axis| dim((state, axis))).collect());
            return Ok((body, dims.collect()));
        }
    }
}

/// What a state is after the loop.
pub(super) fn last_fact(first: &TypedFact, open: &OpenDims) -> TypedFact {
    let mut fact = first.without_value();
    for (axis, dim) in open.iter().enumerate() {
        if let Some(dim) = dim {
            fact.shape.set(axis, dim.clone());
        }
    }
    fact
}
