//! Ops that run subgraphs: WHILE and IF.

use super::*;
use crate::format::tflite::{IfOptions, WhileOptions};
use crate::tract::TypedFact;
use crate::tract::guard;
use crate::tract::typed_ops::{Body, If, While, build_loop};
use anyhow::bail;

/// Element type and shape of a value that goes into a subgraph.
pub type State = (ElementType, Vec<TDim>);

impl<'a> LowerContext<'a> {
    /// Adds a subgraph that `fill` makes in a context of its own, for nodes of `model`; returns its number.
    pub fn subgraph<'b>(
        &mut self,
        name: &str,
        model: &'b TypedModel,
        fill: impl FnOnce(&mut LowerContext<'b>) -> Result<()>,
    ) -> Result<usize> {
        let mut inner = LowerContext::new(model, self.walk);
        inner.bodies = std::mem::take(&mut self.bodies);
        let filled = fill(&mut inner);
        self.bodies = std::mem::take(&mut inner.bodies);
        filled?;
        inner.graph.name = name.to_string();
        self.bodies.push(inner.graph);
        Ok(self.bodies.len())
    }

    /// A value that the subgraph is given.
    pub fn add_parameter(&mut self, name: &str, (element, shape): &State) -> TensorId {
        let name = self.free_name(name);
        let id = self.graph.add_tensor(Tensor::variable(name, *element, dims(shape)));
        self.graph.inputs.push(id);
        id
    }

    /// A value that the subgraph gives.
    pub fn add_return(&mut self, tensor: TensorId) {
        self.graph.outputs.push(tensor);
    }

    pub fn is_used(&self, outlet: OutletId) -> bool {
        let readers = &self.model.node(outlet.node).outputs[outlet.slot].successors;
        !readers.is_empty() || self.model.outputs.contains(&outlet)
    }

    /// WHILE: `condition` and `body` fill subgraphs of the states; the body returns what the states
    /// become. Returns the states after the loop.
    pub fn emit_while(
        &mut self,
        name: &str,
        states: &[(String, TensorId, Vec<TDim>)],
        condition: impl FnOnce(&mut LowerContext<'a>, &[TensorId]) -> Result<TensorId>,
        body: impl FnOnce(&mut LowerContext<'a>, &[TensorId]) -> Result<Vec<TensorId>>,
    ) -> Result<Vec<TensorId>> {
        let element = |ctx: &Self, tensor: TensorId| ctx.graph.tensors[tensor].element;
        let shapes: Vec<State> =
            states.iter().map(|(_, t, shape)| (element(self, *t), shape.clone())).collect();
        let parameters = |ctx: &mut LowerContext<'a>| -> Vec<TensorId> {
            let names = states.iter().map(|(name, ..)| name);
            names.zip(&shapes).map(|(name, shape)| ctx.add_parameter(name, shape)).collect()
        };
        let model = self.model;
        let condition = self.subgraph(&format!("{name}/condition"), model, |ctx| {
            let inputs = parameters(ctx);
            let goes_on = condition(ctx, &inputs)?;
            ctx.add_return(goes_on);
            Ok(())
        })?;
        let body = self.subgraph(&format!("{name}/body"), model, |ctx| {
            let inputs = parameters(ctx);
            let results = body(ctx, &inputs)?;
            ensure!(results.len() == inputs.len(), "a body of {} results", results.len());
            results.into_iter().for_each(|tensor| ctx.add_return(tensor));
            Ok(())
        })?;
        let inputs: Vec<TensorId> = states.iter().map(|(_, tensor, _)| *tensor).collect();
        let results: Vec<(String, ElementType, Vec<TDim>)> = states
            .iter()
            .zip(&shapes)
            .map(|((state, ..), (element, shape))| {
                (format!("{name}/{state}"), *element, shape.clone())
            })
            .collect();
        Ok(self.emit_several(LiteOp::While { condition, body }, &inputs, &results))
    }
}

impl RaiseContext<'_> {
    /// Subgraph `index` on values of these facts.
    fn raise_body(&self, index: usize, facts: &[TypedFact]) -> Result<TypedModel> {
        guard::check_loop()?;
        let graph = self.subgraphs.get(index).context("no such subgraph")?;
        let at = || format!("subgraph {index} '{}'", graph.name);
        let mut ctx = RaiseContext::new(graph, self.subgraphs, self.walk);
        ctx.model.symbols = self.model.symbols.clone();
        ensure!(facts.len() == graph.inputs.len(), "{}: {} inputs", at(), graph.inputs.len());
        for (&input, fact) in graph.inputs.iter().zip(facts) {
            let outlet = ctx.add_source(&graph.tensors[input].name, fact.without_value())?;
            ctx.set(input, outlet);
        }
        (self.walk)(&mut ctx).with_context(at)?;
        let mut outputs = vec![];
        for &output in &graph.outputs {
            let tensor = &graph.tensors[output];
            let outlet = ctx.outlet(output)?;
            let wanted = datum_type(tensor.element)?;
            let name = format!("{}/result", tensor.name);
            let cast = ctx.cast(&name, outlet, wanted)?;
            outputs.push(cast);
        }
        let (mut model, _) = ctx.into_parts();
        model.select_output_outlets(&outputs)?;
        model.declutter().with_context(at)?;
        Ok(model)
    }

    /// An input as what the subgraph's parameter is declared to be.
    fn argument(&mut self, node: &Node, place: usize, index: usize) -> Result<OutletId> {
        let graph = self.subgraphs.get(index).context("no such subgraph")?;
        let parameter = place - (node.inputs.len() - graph.inputs.len());
        let wanted = datum_type(graph.tensors[graph.inputs[parameter]].element)?;
        let outlet = self.input(node, place)?;
        self.cast(&format!("{}/{parameter}", graph.name), outlet, wanted)
    }
}

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    let name = ctx.output_name(node);
    match node.op {
        LiteOp::While { condition, body } => {
            let inputs: Vec<OutletId> = (0..node.inputs.len())
                .map(|place| ctx.argument(node, place, body))
                .collect::<Result<_>>()?;
            let facts: Vec<TypedFact> = inputs
                .iter()
                .map(|&o| Ok(ctx.model.outlet_fact(o)?.without_value()))
                .collect::<Result<_>>()?;
            let symbols = ctx.model.symbols.clone();
            let mut settled = vec![];
            let (body, open) = build_loop(&symbols, facts, inputs.len(), [0, 0], |facts| {
                settled = facts.to_vec();
                ctx.raise_body(body, facts)
            })?;
            let condition = ctx.raise_body(condition, &settled)?;
            let is_one = condition.output_fact(0)?.shape.volume() == TDim::from(1);
            ensure!(
                condition.output_fact(0)?.datum_type == DatumType::Bool && is_one,
                "'{name}': the condition gives {:?}",
                condition.output_fact(0)?
            );
            let op = While { condition: Body::new(condition), body: Body::new(body), open };
            let outlets = ctx.wire_all(name, op, &inputs)?;
            ctx.finish_all(node, &outlets)
        }
        LiteOp::If { then_branch, else_branch } => {
            let condition = ctx.input(node, 0)?;
            let is_one = ctx.model.outlet_fact(condition)?.shape.volume() == TDim::from(1);
            ensure!(is_one, "'{name}': a condition of many values");
            let mut inputs = vec![condition];
            let mut facts = vec![];
            for place in 1..node.inputs.len() {
                let outlet = ctx.argument(node, place, then_branch)?;
                inputs.push(outlet);
                facts.push(ctx.model.outlet_fact(outlet)?.without_value());
            }
            let branches =
                [ctx.raise_body(then_branch, &facts)?, ctx.raise_body(else_branch, &facts)?];
            let reads: Vec<usize> = (1..inputs.len()).collect();
            let op = If::new(&ctx.model.symbols, branches, [reads.clone(), reads])?;
            let outlets = ctx.wire_all(name, op, &inputs)?;
            ctx.finish_all(node, &outlets)
        }
        _ => bail!("{} runs no subgraph", node.op.name()),
    }
}

pub fn read(op: &TfliteOp) -> Result<Option<LiteOp>> {
    let number = |index: i32| usize::try_from(index).context("a negative subgraph number");
    Ok(match (op.builtin, &op.options) {
        (BuiltinOperator::WHILE, BuiltinOptions::While(o)) => Some(LiteOp::While {
            condition: number(o.cond_subgraph_index)?,
            body: number(o.body_subgraph_index)?,
        }),
        (BuiltinOperator::IF, BuiltinOptions::If(o)) => Some(LiteOp::If {
            then_branch: number(o.then_subgraph_index)?,
            else_branch: number(o.else_subgraph_index)?,
        }),
        _ => None,
    })
}

pub fn write(op: &LiteOp) -> Result<TfliteOp> {
    let number = |index: usize| i32::try_from(index).context("more than 2^31 subgraphs");
    Ok(match op {
        LiteOp::While { condition, body } => {
            let options = WhileOptions {
                cond_subgraph_index: number(*condition)?,
                body_subgraph_index: number(*body)?,
            };
            TfliteOp::new(BuiltinOperator::WHILE, 1, BuiltinOptions::While(options))
        }
        LiteOp::If { then_branch, else_branch } => {
            let options = IfOptions {
                then_subgraph_index: number(*then_branch)?,
                else_subgraph_index: number(*else_branch)?,
            };
            TfliteOp::new(BuiltinOperator::IF, 1, BuiltinOptions::If(options))
        }
        other => bail!("{} runs no subgraph", other.name()),
    })
}
