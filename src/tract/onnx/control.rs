//! How ONNX's If, Loop and Scan nodes become [`If`] and [`Loop`]: their graphs are typed once the types of
//! what goes in are known.

use crate::tract::typed_ops::{If, Loop, build_loop};
use crate::tract::*;
use ::anyhow::{Context, Result, bail, ensure};
use tract_onnx::model::ParsingContext;

pub fn conditional(
    ctx: &ParsingContext,
    node: &pb::NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let mut branches = vec![];
    let mut captured: Vec<String> = vec![];
    ensure!(node.input.len() == 1 && all_given(&node.input), "an If has one input, its condition");
    for name in ["then_branch", "else_branch"] {
        let (body, names) = parsed(ctx, node, name)?;
        let mut reads = vec![];
        for name in names {
            let place = captured.iter().position(|c| *c == name);
            reads.push(1 + place.unwrap_or(captured.len()));
            if place.is_none() {
                captured.push(name);
            }
        }
        branches.push((body, reads));
    }
    let op = Control { kind: Kind::If(branches), outputs: node.output.len(), prepared: None };
    Ok((Box::new(op), captured))
}

pub fn repeated(
    ctx: &ParsingContext,
    node: &pb::NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    let (body, captured) = parsed(ctx, node, "body")?;
    let given = |i: usize| node.input.get(i).is_some_and(|name| !name.is_empty());
    ensure!(node.input.iter().skip(2).all(|i| !i.is_empty()), "a state of the loop is left out");
    let kind = Kind::Loop {
        has_count: given(0),
        has_condition: given(1),
        states: node.input.len().saturating_sub(2),
        body,
    };
    ensure!(all_given(&node.output), "an output of the loop is left out");
    Ok((Box::new(Control { kind, outputs: node.output.len(), prepared: None }), captured))
}

pub fn scanned(
    ctx: &ParsingContext,
    node: &pb::NodeProto,
) -> TractResult<(Box<dyn InferenceOp>, Vec<String>)> {
    ensure!(ctx.onnx_operator_set_version >= 9, "a Scan of opset 8, over batches");
    let list = |name: &str| -> Vec<i64> {
        let found = node.attribute.iter().find(|a| a.name == name);
        found.map_or(vec![], |a| a.ints.clone())
    };
    let count = node.attribute.iter().find(|a| a.name == "num_scan_inputs").map_or(0, |a| a.i);
    let scanned = usize::try_from(count).ok().filter(|&n| n > 0 && n <= node.input.len());
    let scanned = scanned.with_context(|| format!("num_scan_inputs {count}"))?;
    let (body, captured) = parsed(ctx, node, "body")?;
    ensure!(all_given(&node.input), "an input of the scan is left out");
    ensure!(all_given(&node.output), "an output of the scan is left out");
    let at = |axes: Vec<i64>, reverse: Vec<i64>| Way { axes, reverse };
    let kind = Kind::Scan {
        states: node.input.len() - scanned,
        scanned,
        read: at(list("scan_input_axes"), list("scan_input_directions")),
        write: at(list("scan_output_axes"), list("scan_output_directions")),
        body,
    };
    Ok((Box::new(Control { kind, outputs: node.output.len(), prepared: None }), captured))
}

fn all_given(names: &[String]) -> bool {
    names.iter().all(|name| !name.is_empty())
}

fn parsed(
    ctx: &ParsingContext,
    node: &pb::NodeProto,
    name: &str,
) -> TractResult<(InferenceModel, Vec<String>)> {
    let graph = node.attribute.iter().find(|a| a.name == name).and_then(|a| a.g.as_ref());
    let mut graph = graph.with_context(|| format!("no {name}"))?.clone();
    for input in graph.input.iter_mut().filter(|i| i.r#type.is_none()) {
        // what goes in says its type; tract wants one here
        input.r#type = onnx::float_port("", std::iter::empty()).r#type;
    }
    let parsed = ctx.parse_graph(&graph).with_context(|| format!("the {name}"))?;
    Ok((parsed.model, parsed.unresolved_inputs))
}

/// By sequence: along which axis, and whether from its end.
#[derive(Debug, Clone)]
struct Way {
    axes: Vec<i64>,
    reverse: Vec<i64>,
}

impl Way {
    fn axis(&self, sequence: usize, rank: usize) -> Result<usize> {
        let axis = self.axes.get(sequence).copied().unwrap_or(0);
        let axis = if axis < 0 { axis + rank as i64 } else { axis };
        let axis = usize::try_from(axis).ok().filter(|&a| a < rank);
        axis.with_context(|| format!("a sequence of rank {rank} along another axis"))
    }

    fn is_reversed(&self, sequence: usize) -> bool {
        self.reverse.get(sequence) == Some(&1)
    }
}

#[derive(Debug, Clone)]
enum Kind {
    /// Then and else: the graph, and which inputs it takes.
    If(Vec<(InferenceModel, Vec<usize>)>),
    Loop {
        body: InferenceModel,
        has_count: bool,
        has_condition: bool,
        states: usize,
    },
    Scan {
        body: InferenceModel,
        states: usize,
        scanned: usize,
        read: Way,
        write: Way,
    },
}

/// What an op is once the facts of its inputs are known; constants that its graphs take are in them.
#[derive(Debug, Clone)]
enum Prepared {
    /// One branch of an If, on these inputs.
    Branch(TypedModel, Vec<usize>),
    If(If, Vec<usize>),
    Loop(Loop, Vec<usize>),
}

#[derive(Debug, Clone)]
struct Control {
    kind: Kind,
    outputs: usize,
    prepared: Option<Box<(Prepared, TVec<TypedFact>)>>,
}

impl PartialEq for Control {
    fn eq(&self, _: &Self) -> bool {
        false
    }
}

impl Eq for Control {}

impl Op for Control {
    fn name(&self) -> StaticName {
        match self.kind {
            Kind::If(_) => "If".into(),
            Kind::Loop { .. } => "Loop".into(),
            Kind::Scan { .. } => "Scan".into(),
        }
    }

    tract_core::not_a_typed_op!();
}

impl EvalOp for Control {
    tract_core::not_out_of_plan!();

    fn eval(&self, _: &EvalContext, _: TVec<TValue>) -> TractResult<TVec<TValue>> {
        bail!("{} runs as a typed op", self.name())
    }
}

/// A graph on inputs of these facts; those with a value become constants.
fn typed(graph: &InferenceModel, facts: &[TypedFact]) -> TractResult<TypedModel> {
    let mut graph = graph.clone();
    ensure!(graph.inputs.len() == facts.len(), "a graph of {} inputs", graph.inputs.len());
    let mut sources = vec![];
    for (outlet, fact) in graph.inputs.clone().into_iter().zip(facts) {
        if let Some(value) = &fact.konst {
            let value = tract_onnx::tract_hir::ops::konst::Const::new(value.clone())?;
            graph.nodes[outlet.node].op = Box::new(value);
        } else {
            sources.push(outlet);
        }
        graph.set_outlet_fact(outlet, InferenceFact::from(fact))?;
    }
    graph.set_input_outlets(&sources)?;
    let mut typed = graph.into_typed()?;
    let mut outputs = typed.outputs.clone();
    for (i, output) in outputs.iter_mut().enumerate() {
        if typed.outlet_fact(*output)?.datum_type == TDim::datum_type() {
            let cast = ops::cast::cast(i64::datum_type());
            *output = typed.wire_node(format!("result{i}.cast"), cast, &[*output])?[0];
        }
    }
    typed.select_output_outlets(&outputs)?;
    mend::mend(&mut typed)?;
    typed.declutter()?;
    Ok(typed)
}

fn with_value(facts: &[TypedFact], places: impl Iterator<Item = usize>) -> Vec<usize> {
    places.filter(|&i| facts[i].konst.is_none()).collect()
}

impl Control {
    fn prepare(&self, symbols: &SymbolScope, facts: &[TypedFact]) -> TractResult<Prepared> {
        match &self.kind {
            Kind::If(branches) => {
                let pick = |reads: &[usize]| -> Vec<TypedFact> {
                    reads.iter().map(|&i| facts[i].clone()).collect()
                };
                if let Some(condition) = &facts[0].konst {
                    let taken = if condition.cast_to_scalar::<bool>()? { 0 } else { 1 };
                    let (graph, reads) = &branches[taken];
                    let places = with_value(facts, reads.iter().copied());
                    return Ok(Prepared::Branch(typed(graph, &pick(reads))?, places));
                }
                let kept = with_value(facts, 1..facts.len());
                let mut models = vec![];
                let mut reads_kept = vec![];
                for (graph, reads) in branches {
                    models.push(typed(graph, &pick(reads))?);
                    let places = with_value(facts, reads.iter().copied());
                    let place = |i: &usize| kept.iter().position(|k| k == i).map(|p| p + 1);
                    reads_kept.push(places.iter().filter_map(place).collect());
                }
                let models: [TypedModel; 2] =
                    models.try_into().map_err(|_| format_err!("an If of two branches"))?;
                let reads: [Vec<usize>; 2] =
                    reads_kept.try_into().map_err(|_| format_err!("an If of two branches"))?;
                let kept = std::iter::once(0).chain(kept).collect();
                Ok(Prepared::If(If::new(symbols, models, reads)?, kept))
            }
            Kind::Loop { body, has_count, has_condition, states } => {
                let first = *has_count as usize + *has_condition as usize;
                let shape: &[usize] = &[];
                let mut given = vec![i64::fact(shape), bool::fact(shape)];
                given.extend_from_slice(facts.get(first..).context("a loop of no inputs")?);
                let (model, open) =
                    build_loop(symbols, given, *states, [2, 1], |f| typed(body, f))?;
                let condition = *model.outputs.first().context("a body without a condition")?;
                let value = model.outlet_fact(condition)?.konst.clone();
                let is_true = |value: &Arc<Tensor>| {
                    value.len() == 1 && value.cast_to_scalar::<bool>().unwrap_or(false)
                };
                let starts = !*has_condition
                    || facts[*has_count as usize].konst.as_ref().is_some_and(is_true);
                let stays = value.as_ref().is_some_and(is_true) || condition == model.inputs[1];
                let count = match has_count {
                    true => facts[0].konst.clone(),
                    false => None,
                };
                let turns = match count.filter(|_| starts && stays) {
                    Some(count) => {
                        let count = count.cast_to::<TDim>()?;
                        let count = count.try_as_plain_ram()?.as_slice::<TDim>()?.first().cloned();
                        let count = count.context("a loop of no count")?;
                        Some(count.to_i64().map_or(count, |n| n.max(0).into()))
                    }
                    None => None,
                };
                let kept =
                    (0..first + states).chain(with_value(facts, first + states..facts.len()));
                let op = stacking(symbols, model, true, open, turns)?;
                let op = Loop { has_count: *has_count, has_condition: *has_condition, ..op };
                Ok(Prepared::Loop(op, kept.collect()))
            }
            Kind::Scan { body, states, scanned, read, .. } => {
                let mut given = facts.to_vec();
                let mut turns: Option<TDim> = None;
                for i in 0..*scanned {
                    let fact = &mut given[states + i];
                    let axis = read.axis(i, fact.rank())?;
                    turns.get_or_insert(fact.shape[axis].clone());
                    *fact = fact.without_value();
                    fact.shape.remove_axis(axis)?;
                }
                let (model, open) =
                    build_loop(symbols, given, *states, [0, 0], |facts| typed(body, facts))?;
                let first = states + scanned;
                let kept = (0..first).chain(with_value(facts, first..facts.len())).collect();
                let op = stacking(symbols, model, false, open, turns)?;
                Ok(Prepared::Loop(Loop { scanned: *scanned, ..op }, kept))
            }
        }
    }

    /// The facts of the results before the axes of a Scan's are moved.
    fn facts(&self, prepared: &Prepared, inputs: &[TypedFact]) -> TractResult<TVec<TypedFact>> {
        Ok(match prepared {
            Prepared::Branch(model, _) => (0..model.outputs.len())
                .map(|i| model.output_fact(i).cloned())
                .collect::<TractResult<_>>()?,
            Prepared::If(op, _) => op.results.iter().cloned().collect(),
            Prepared::Loop(op, kept) => {
                let inputs: Vec<&TypedFact> = kept.iter().map(|&i| &inputs[i]).collect();
                let mut facts = op.output_facts(&inputs)?;
                if let Kind::Scan { states, write, .. } = &self.kind {
                    for (i, fact) in facts.iter_mut().enumerate().skip(*states) {
                        let axis = write.axis(i - states, fact.rank())?;
                        AxisOp::Move(0, axis).change_shape(&mut fact.shape, false)?;
                    }
                }
                facts
            }
        })
    }
}

/// A loop whose results beside the states are stacked; `turns` if they are known.
fn stacking(
    symbols: &SymbolScope,
    body: TypedModel,
    counted: bool,
    open: Vec<Vec<Option<TDim>>>,
    turns: Option<TDim>,
) -> TractResult<Loop> {
    let turns_are_known = turns.is_some();
    let turns = turns.unwrap_or_else(|| symbols.new_with_prefix("count").into());
    let states = open.len();
    let mut stacked = vec![];
    for i in counted as usize + states..body.outputs.len() {
        let fact = body.output_fact(i)?;
        let of_a_turn = |d: &TDim| d.symbols().iter().any(|s| s.to_string().starts_with("turn"));
        let own = |d: &TDim| match of_a_turn(d) {
            true => symbols.new_with_prefix("part").into(),
            false => d.clone(),
        };
        let shape: Vec<TDim> =
            std::iter::once(turns.clone()).chain(fact.shape.iter().map(own)).collect();
        stacked.push(fact.datum_type.fact(shape));
    }
    Ok(Loop {
        body: typed_ops::Body::new(body),
        counted,
        has_count: false,
        has_condition: false,
        states,
        scanned: 0,
        open,
        turns,
        turns_are_known,
        stacked,
    })
}

impl InferenceOp for Control {
    fn infer_facts(
        &mut self,
        inputs: TVec<&InferenceFact>,
        outputs: TVec<&InferenceFact>,
        observed: TVec<&InferenceFact>,
    ) -> TractResult<(TVec<InferenceFact>, TVec<InferenceFact>, TVec<InferenceFact>)> {
        let own = |facts: &[&InferenceFact]| facts.iter().map(|f| (*f).clone()).collect();
        let typed: TractResult<Vec<TypedFact>> =
            inputs.iter().map(|f| TypedFact::try_from(*f)).collect();
        let (Ok(mut typed), None) = (typed, &self.prepared) else {
            let results = match &self.prepared {
                Some(prepared) => prepared.1.iter().map(InferenceFact::from).collect(),
                None => own(&outputs),
            };
            return Ok((own(&inputs), results, own(&observed)));
        };
        let Some(symbols) = self.symbols() else { bail!("{} without a graph", self.name()) };
        let keeps_sizes = |i: usize| match &self.kind {
            Kind::If(_) => i > 0,
            Kind::Loop { has_count, has_condition, states, .. } => {
                (i == 0 && *has_count)
                    || i >= *has_count as usize + *has_condition as usize + states
            }
            Kind::Scan { states, scanned, .. } => i >= states + scanned,
        };
        for (i, fact) in typed.iter_mut().enumerate() {
            if fact.datum_type != TDim::datum_type() {
                continue;
            }
            let numbers = fact.konst.as_ref().and_then(|k| k.cast_to::<i64>().ok());
            match numbers {
                Some(numbers) => {
                    *fact = TypedFact::try_from(numbers.into_owned().into_arc_tensor())?
                }
                None if fact.konst.is_some() && keeps_sizes(i) => {}
                None => *fact = i64::fact(fact.shape.clone()),
            }
        }
        let prepared = self.prepare(&symbols, &typed)?;
        let facts = self.facts(&prepared, &typed)?;
        ensure!(facts.len() == self.outputs, "{} gives {} values", self.name(), facts.len());
        let results = facts.iter().map(|f| InferenceFact::from(&f.without_value())).collect();
        self.prepared =
            Some(Box::new((prepared, facts.iter().map(|f| f.without_value()).collect())));
        Ok((own(&inputs), results, own(&observed)))
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(self.outputs)
    }

    fn to_typed(
        &self,
        _source: &InferenceModel,
        node: &InferenceNode,
        target: &mut TypedModel,
        mapping: &HashMap<OutletId, OutletId>,
    ) -> TractResult<TVec<OutletId>> {
        let Some(prepared) = &self.prepared else {
            bail!("the types of what goes into {} '{}' are not known", self.name(), node.name)
        };
        let name = &node.name;
        let wire_input = |target: &mut TypedModel, i: usize| -> TractResult<OutletId> {
            let mut wire = mapping[&node.inputs[i]];
            if target.outlet_fact(wire)?.datum_type == TDim::datum_type() {
                let cast = ops::cast::cast(i64::datum_type());
                wire = target.wire_node(format!("{name}.size{i}"), cast, &[wire])?[0];
            }
            if let Kind::Scan { states, scanned, read, .. } = &self.kind
                && (*states..states + scanned).contains(&i)
            {
                let rank = target.outlet_fact(wire)?.rank();
                let axis = read.axis(i - states, rank)?;
                let op = AxisOp::Move(axis, 0);
                wire = target.wire_node(format!("{name}.scanned{i}"), op, &[wire])?[0];
                if read.is_reversed(i - states) {
                    let op = ops::Downsample { axis: 0, stride: -1, modulo: 0 };
                    wire = target.wire_node(format!("{name}.reversed{i}"), op, &[wire])?[0];
                }
            }
            Ok(wire)
        };
        let inputs = |target: &mut TypedModel, kept: &[usize]| -> TractResult<TVec<OutletId>> {
            kept.iter().map(|&i| wire_input(target, i)).collect()
        };
        match &prepared.0 {
            Prepared::Branch(model, kept) => {
                let inputs = inputs(target, kept)?;
                let mut wires: HashMap<OutletId, OutletId> =
                    model.inputs.iter().copied().zip(inputs).collect();
                for id in model.eval_order()? {
                    let inner = model.node(id);
                    if model.inputs.iter().any(|i| i.node == id) {
                        continue;
                    }
                    let given: TVec<OutletId> = inner.inputs.iter().map(|i| wires[i]).collect();
                    let inner_name = format!("{name}.{}", inner.name);
                    let results = target.wire_node(inner_name, inner.op.clone(), &given)?;
                    wires.extend(results.into_iter().enumerate().map(|(s, o)| ((id, s).into(), o)));
                }
                Ok(model.outputs.iter().map(|o| wires[o]).collect())
            }
            Prepared::If(op, kept) => {
                let inputs = inputs(target, kept)?;
                target.wire_node(name, op.clone(), &inputs)
            }
            Prepared::Loop(op, kept) => {
                let inputs = inputs(target, kept)?;
                let mut results = target.wire_node(name, op.clone(), &inputs)?;
                if let Kind::Scan { states, write, .. } = &self.kind {
                    for (i, wire) in results.iter_mut().enumerate().skip(*states) {
                        if write.is_reversed(i - states) {
                            let op = ops::Downsample { axis: 0, stride: -1, modulo: 0 };
                            *wire = target.wire_node(format!("{name}.back{i}"), op, &[*wire])?[0];
                        }
                        let rank = target.outlet_fact(*wire)?.rank();
                        let op = AxisOp::Move(0, write.axis(i - states, rank)?);
                        *wire = target.wire_node(format!("{name}.stacked{i}"), op, &[*wire])?[0];
                    }
                }
                Ok(results)
            }
        }
    }

    as_op!();
}

impl Control {
    fn symbols(&self) -> Option<SymbolScope> {
        let graph = match &self.kind {
            Kind::If(branches) => &branches.first()?.0,
            Kind::Loop { body, .. } | Kind::Scan { body, .. } => body,
        };
        Some(graph.symbols.clone())
    }
}
