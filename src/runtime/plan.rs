//! Plans and the sessions that run them.

use super::Port;
use super::independence::rows_are_independent;
use crate::graph::{Quantization, shape_text};
use crate::ops::{dims, element_type};
use crate::tract::guard::{Allowance, catch_panic, with_allowance};
use crate::tract::optimize;
use crate::tract::{
    EvalContext, IntoTValue, IntoTensor, Node, OpState, RunOptions, SimplePlan, SymbolValues, TDim,
    TValue, TVec, Tensor, TypedFact, TypedModel, TypedOp, TypedSimplePlan, TypedSimpleState,
};
use anyhow::{Context, Result, ensure};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A model ready to run; shared by any number of sessions on any threads.
#[derive(Debug, Clone)]
pub struct Plan {
    plan: Arc<TypedSimplePlan>,
    inputs: Vec<Port>,
    outputs: Vec<Port>,
    sizes: Arc<Sizes>,
    rows_are_independent: bool,
}

/// Dimensions that small inputs could make negative. tract does not check them, and its kernels would
/// reach outside their tensors.
#[derive(Debug)]
struct Sizes {
    inputs: Vec<TVec<TDim>>,
    /// The node, and one of its dimensions.
    differences: Vec<(String, TDim)>,
}

/// No value of a graph may have more elements.
const MOST_ELEMENTS: usize = 1 << 32;

impl Sizes {
    fn of(model: &TypedModel) -> Result<Sizes> {
        let inputs = model.input_outlets()?.iter();
        let inputs = inputs.map(|o| Ok(model.outlet_fact(*o)?.shape.to_tvec()));
        let mut differences = vec![];
        for node in &model.nodes {
            for output in &node.outputs {
                let shape = output.fact.shape.as_concrete().unwrap_or_default();
                let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
                ensure!(
                    count.is_some_and(|n| n <= MOST_ELEMENTS),
                    "'{}' asks for a value of shape {shape:?}",
                    node.name
                );
            }
            for dim in node.outputs.iter().flat_map(|o| o.fact.shape.iter()) {
                if !dim.symbols().is_empty() && dim.to_string().contains('-') {
                    differences.push((node.name.clone(), dim.clone()));
                }
            }
        }
        Ok(Sizes { inputs: inputs.collect::<Result<_>>()?, differences })
    }

    fn check(&self, tensors: &[Tensor]) -> Result<()> {
        if self.differences.is_empty() {
            return Ok(());
        }
        let mut values = SymbolValues::default();
        for (dims, tensor) in self.inputs.iter().zip(tensors) {
            for (dim, &size) in dims.iter().zip(tensor.shape()) {
                if let TDim::Sym(symbol) = dim {
                    values.set(symbol, i64::try_from(size)?);
                }
            }
        }
        for (node, dim) in &self.differences {
            let size = dim.eval(&values).to_i64();
            ensure!(
                size.as_ref().map_or(true, |n| *n >= 0),
                "the input is too small: '{node}' would have a dimension of {}",
                size.unwrap_or(0)
            );
        }
        Ok(())
    }
}

/// Values of more bytes than this are refused when the plan is made, where their shapes are known.
const LARGEST_VALUE: usize = 8 << 30;

fn check_sizes(model: &TypedModel) -> Result<()> {
    for node in &model.nodes {
        for fact in node.outputs.iter().map(|o| &o.fact) {
            let Some(shape) = fact.shape.as_concrete() else { continue };
            let count = shape.iter().try_fold(fact.datum_type.size_of(), |n, &d| n.checked_mul(d));
            ensure!(
                count.is_some_and(|n| n <= LARGEST_VALUE),
                "node '{}' ({}) makes a value of shape {shape:?}, which is too large",
                node.name,
                node.op.name()
            );
        }
    }
    Ok(())
}

/// Bytes of the constants of `model`.
fn constant_bytes(model: &TypedModel) -> u64 {
    let facts = model.nodes.iter().flat_map(|n| &n.outputs).map(|o| &o.fact);
    let constants = facts.filter_map(|f| f.konst.as_ref());
    constants.map(|k| (k.len() * k.datum_type().size_of()) as u64).sum()
}

/// One thread's run state.
#[derive(Debug)]
pub struct Session {
    plan: Plan,
    state: TypedSimpleState,
}

/// What one node of a plan took in a profiled run.
#[derive(Debug, Clone)]
pub struct NodeTime {
    pub name: String,
    pub op: String,
    pub time: Duration,
}

impl Plan {
    /// Fuses and packs `model` onto our kernels and plans it. `inputs` and `outputs` name its ends.
    ///
    /// # Errors
    /// The graph does not type-check, or tract cannot plan it.
    pub fn new(model: TypedModel, inputs: &[String], outputs: &[String]) -> Result<Plan> {
        Ok(Plan::prepare(model, inputs, outputs, RunOptions::default(), |_| Ok(()))?.0)
    }

    /// As [`Plan::new`]; `edit` may change the graph once the kernels are chosen, and what it tells is returned.
    pub(super) fn prepare<T: Send + 'static>(
        model: TypedModel,
        inputs: &[String],
        outputs: &[String],
        options: RunOptions,
        edit: impl FnOnce(&mut TypedModel) -> Result<T> + Send + 'static,
    ) -> Result<(Plan, T)> {
        let allowance = Allowance::for_bytes(constant_bytes(&model));
        let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
        with_allowance("planning the graph", allowance, move || {
            let ports = |outlets: &[crate::tract::OutletId],
                         names: &[String]|
             -> Result<Vec<Port>> {
                ensure!(outlets.len() == names.len(), "the graph's ends and their names differ");
                let port = |(o, name): (&crate::tract::OutletId, &String)| -> Result<Port> {
                    let fact = model.outlet_fact(*o)?;
                    Ok(Port {
                        name: name.clone(),
                        element: element_type(fact.datum_type)?,
                        shape: dims(&fact.shape),
                        quantization: None,
                    })
                };
                outlets.iter().zip(names).map(port).collect()
            };
            let inputs = ports(model.input_outlets()?, &inputs)?;
            let outputs = ports(model.output_outlets()?, &outputs)?;
            check_sizes(&model)?;
            let sizes = Arc::new(Sizes::of(&model)?);
            let mut fused = super::fuse::fuse(&model)?;
            drop(model);
            let rows_are_independent = rows_are_independent(&fused)?;
            optimize::optimize(&mut fused)?;
            let told = edit(&mut fused)?;
            let plan = SimplePlan::new_with_options(fused, &options)?;
            Ok((Plan { plan, inputs, outputs, sizes, rows_are_independent }, told))
        })
    }

    /// Tells what integers at the ends stand for, in their order.
    pub fn with_quantization(
        mut self,
        inputs: Vec<Option<Quantization>>,
        outputs: Vec<Option<Quantization>>,
    ) -> Plan {
        for (ports, found) in [(&mut self.inputs, inputs), (&mut self.outputs, outputs)] {
            ports.iter_mut().zip(found).for_each(|(port, found)| port.quantization = found);
        }
        self
    }

    pub fn inputs(&self) -> &[Port] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[Port] {
        &self.outputs
    }

    /// Whether each row of the outputs is known to come from the same row of the inputs alone: rows that are put together
    /// for a run give what they give alone, bit by bit.
    pub fn rows_are_independent(&self) -> bool {
        self.rows_are_independent
    }

    pub fn session(&self) -> Result<Session> {
        Ok(Session { state: self.spawn()?, plan: self.clone() })
    }

    pub(super) fn spawn(&self) -> Result<TypedSimpleState> {
        self.plan.spawn()
    }

    /// Refuses tensors that do not fit the inputs, with the input's name and both shapes.
    pub fn check_inputs(&self, tensors: &[Tensor]) -> Result<()> {
        ensure!(
            tensors.len() == self.inputs.len(),
            "the model has {} inputs, {} were given",
            self.inputs.len(),
            tensors.len()
        );
        for (port, tensor) in self.inputs.iter().zip(tensors) {
            let element = element_type(tensor.datum_type())?;
            ensure!(
                element == port.element,
                "input '{}' takes {}, got {element}",
                port.name,
                port.element
            );
            let fits = port.shape.len() == tensor.rank()
                && port
                    .shape
                    .iter()
                    .zip(tensor.shape())
                    .all(|(d, n)| d.known().is_none_or(|d| d == *n));
            ensure!(
                fits,
                "input '{}' takes shape {}, got {:?}",
                port.name,
                shape_text(&port.shape),
                tensor.shape()
            );
        }
        self.sizes.check(tensors)
    }
}

impl Session {
    /// Runs the model once; `inputs` in the model's order.
    pub fn run(&mut self, inputs: Vec<Tensor>) -> Result<Vec<Tensor>> {
        self.plan.check_inputs(&inputs)?;
        let state = &mut self.state;
        let outputs = catch_panic("running the graph", || {
            let inputs: TVec<TValue> = inputs.into_iter().map(IntoTValue::into_tvalue).collect();
            state.run(inputs)
        })?;
        Ok(outputs.into_iter().map(IntoTensor::into_tensor).collect())
    }

    /// As [`run`](Self::run) without its checks, on shared values: an input that nobody else holds may
    /// be changed in place.
    pub fn run_shared(&mut self, inputs: Vec<Arc<Tensor>>) -> Result<Vec<Arc<Tensor>>> {
        use crate::tract::IntoArcTensor;
        let inputs: TVec<TValue> = inputs.into_iter().map(TValue::from_const).collect();
        let outputs = self.state.run(inputs)?;
        Ok(outputs.into_iter().map(IntoArcTensor::into_arc_tensor).collect())
    }

    /// Runs once and times every node.
    pub fn profile(&mut self, inputs: Vec<Tensor>) -> Result<Vec<NodeTime>> {
        self.plan.check_inputs(&inputs)?;
        let mut times = vec![];
        let state = &mut self.state;
        let record = &mut times;
        catch_panic("running the graph", move || {
            let inputs: TVec<TValue> = inputs.into_iter().map(IntoTValue::into_tvalue).collect();
            let timed = |ctx: &EvalContext,
                         state: Option<&mut (dyn OpState + 'static)>,
                         node: &Node<TypedFact, Box<dyn TypedOp>>,
                         inputs: TVec<TValue>| {
                let start = Instant::now();
                let result = match state {
                    Some(state) => state.eval(ctx, node.op.as_op(), inputs),
                    None => node.op.eval(ctx, inputs),
                };
                record.push(NodeTime {
                    name: node.name.clone(),
                    op: node.op.name().to_string(),
                    time: start.elapsed(),
                });
                result
            };
            state.run_plan_with_eval(inputs, timed).map(|_| ()).context("profiling")
        })?;
        Ok(times)
    }
}
