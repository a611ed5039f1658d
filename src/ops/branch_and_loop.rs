//! ONNX's If, Loop and Scan: what their graphs do becomes subgraphs of IF and WHILE.

use super::compose::Chain;
use super::control::State;
use super::*;
use crate::graph::BinaryOp;
use crate::tract::typed_ops::{If, Loop};

pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<Option<()>> {
    if let Some(op) = node.op_as::<If>() {
        return lower_if(ctx, node, op).map(Some);
    }
    if let Some(op) = node.op_as::<Loop>() {
        return lower_loop(ctx, node, op).map(Some);
    }
    Ok(None)
}

/// What two contexts of one graph share.
fn swap_graphs<'a, 'b>(a: &mut LowerContext<'a>, b: &mut LowerContext<'b>) {
    std::mem::swap(&mut a.graph, &mut b.graph);
    std::mem::swap(&mut a.names, &mut b.names);
    std::mem::swap(&mut a.bodies, &mut b.bodies);
    std::mem::swap(&mut a.told_dims, &mut b.told_dims);
}

impl LowerContext<'_> {
    /// Lowers the nodes of `model` into this graph, on `inputs`; returns its results, none of which is an
    /// input or a constant: LiteRT copies results to where the inputs are one after the other.
    fn inline(&mut self, model: &TypedModel, inputs: &[TensorId]) -> Result<Vec<TensorId>> {
        let mut inner = LowerContext::new(model, self.walk);
        swap_graphs(&mut inner, self);
        let lowered = (|| -> Result<Vec<TensorId>> {
            let outlets = model.input_outlets()?.iter().copied();
            inner.tensors.extend(outlets.zip(inputs.iter().copied()));
            (inner.walk)(&mut inner)?;
            let mut results: Vec<TensorId> = vec![];
            for &outlet in model.output_outlets()? {
                let mut tensor = inner.tensor(outlet)?;
                let is_constant = inner.graph.tensors[tensor].data.is_some();
                if is_constant || inner.graph.inputs.contains(&tensor) || results.contains(&tensor)
                {
                    tensor = inner.copy(tensor, &inner.shape(outlet)?);
                }
                results.push(tensor);
            }
            Ok(results)
        })();
        swap_graphs(&mut inner, self);
        lowered
    }

    fn copy(&mut self, tensor: TensorId, shape: &[TDim]) -> TensorId {
        let element = self.graph.tensors[tensor].element;
        let mut chain = Chain::new(self, "copy", element, shape);
        let op = match element {
            ElementType::Bool => BinaryOp::LogicalOr,
            _ => BinaryOp::Maximum,
        };
        chain.binary(op, tensor, tensor)
    }

    /// The sizes that `models` speak of and their inputs do not show: symbol and tensor, int32 `[1]`.
    fn sizes_for(&mut self, name: &str, models: &[&TypedModel]) -> Result<Vec<(String, TensorId)>> {
        let mut wanted: Vec<TDim> = vec![];
        for model in models {
            let inputs: Vec<TDim> = model
                .input_outlets()?
                .iter()
                .map(|&o| Ok(model.outlet_fact(o)?.shape.to_tvec()))
                .collect::<Result<Vec<_>>>()?
                .concat();
            for dim in model.nodes.iter().flat_map(|n| &n.outputs).flat_map(|o| o.fact.shape.iter())
            {
                for symbol in dim.symbols() {
                    let dim = TDim::from(symbol);
                    if !inputs.contains(&dim) && !wanted.contains(&dim) {
                        wanted.push(dim);
                    }
                }
            }
        }
        let mut sizes = vec![];
        for dim in wanted {
            // a size that is born inside is nowhere here
            if let Ok(tensor) = self.shape_tensor(&format!("{name}/size"), &[dim.clone()]) {
                sizes.push((dim.to_string(), tensor));
            }
        }
        Ok(sizes)
    }

    /// A tensor of one element as a scalar.
    fn scalar_of(&mut self, name: &str, tensor: TensorId) -> Result<TensorId> {
        let rank = self.graph.tensors[tensor].shape.len();
        self.reshape(name, tensor, &vec![TDim::from(1); rank], &[])
    }
}

fn lower_if(ctx: &mut LowerContext, node: &TypedNode, op: &If) -> Result<()> {
    let condition = ctx.tensor(node.inputs[0])?;
    let condition = ctx.scalar_of(&format!("{}/condition", node.name), condition)?;
    let mut inputs = vec![condition];
    let mut parameters = vec![];
    for &input in &node.inputs[1..] {
        inputs.push(ctx.tensor(input)?);
        parameters.push((ctx.element(input)?, ctx.shape(input)?));
    }
    let models = [&*op.branches[0].model, &*op.branches[1].model];
    let sizes = ctx.sizes_for(&node.name, &models)?;
    let mut numbers = vec![];
    for (branch, reads) in op.reads.iter().enumerate() {
        let model = models[branch];
        let name = format!("{}/{}", node.name, ["then", "else"][branch]);
        numbers.push(ctx.subgraph(&name, model, |ctx| {
            let given: Vec<TensorId> =
                parameters.iter().map(|p| ctx.add_parameter("input", p)).collect();
            for (symbol, _) in &sizes {
                let size = ctx.add_parameter("size", &(ElementType::I32, vec![1.into()]));
                ctx.told_dims.insert(symbol.clone(), size);
            }
            let read: Vec<TensorId> = reads.iter().map(|&i| given[i - 1]).collect();
            let results = ctx.inline(model, &read)?;
            results.into_iter().for_each(|tensor| ctx.add_return(tensor));
            Ok(())
        })?);
    }
    inputs.extend(sizes.iter().map(|(_, tensor)| *tensor));
    let lite = LiteOp::If { then_branch: numbers[0], else_branch: numbers[1] };
    let mut results = vec![];
    for slot in 0..node.outputs.len() {
        let outlet = OutletId::new(node.id, slot);
        let name = ctx.model.outlet_label(outlet).unwrap_or(&node.name).to_string();
        results.push((name, ctx.element(outlet)?, ctx.shape(outlet)?));
    }
    let results = ctx.emit_several(lite, &inputs, &results);
    for (slot, tensor) in results.into_iter().enumerate() {
        ctx.bind_outlet(OutletId::new(node.id, slot), tensor);
    }
    Ok(())
}

fn lower_loop(ctx: &mut LowerContext, node: &TypedNode, op: &Loop) -> Result<()> {
    let name = &node.name;
    let body = &*op.body.model;
    let body_fact = |i: usize| -> Result<State> {
        let fact = body.input_fact(i)?;
        Ok((element_type(fact.datum_type)?, fact.shape.to_tvec().to_vec()))
    };
    let own = if op.counted { 2 } else { 0 };
    let first = op.has_count as usize + op.has_condition as usize;

    // time, limit?, condition?, states, stacks, then what stays as it is
    let zero = ctx.add_i32_tensor(&format!("{name}/zero"), &[], &[0]);
    let mut states: Vec<(String, TensorId, Vec<TDim>)> = vec![("time".into(), zero, vec![])];
    let limit = match (op.turns_are_known, op.has_count) {
        (true, _) => None,
        (false, true) => Some(count_tensor(ctx, node)?),
        (false, false) => None,
    };
    let limit = limit.map(|limit| push(&mut states, "limit", limit, vec![]));
    let known_turns = op.turns_are_known.then(|| op.turns.clone());
    let condition = match op.turns_are_known {
        true => None,
        false => {
            let tensor = match op.has_condition {
                true => ctx.tensor(node.inputs[op.has_count as usize])?,
                false => ctx.add_constant(&format!("{name}/go"), &tract::tensor0(true))?,
            };
            let tensor = ctx.scalar_of(&format!("{name}/condition"), tensor)?;
            Some(push(&mut states, "condition", tensor, vec![]))
        }
    };
    ensure!(
        op.turns_are_known || op.has_condition || op.has_count || op.counted,
        "a loop without an end; give it M or a condition"
    );
    let mut state_places = vec![];
    for i in 0..op.states {
        let (element, shape) = body_fact(own + i)?;
        let tensor = ctx.tensor_as(node.inputs[first + i], element)?;
        state_places.push(push(&mut states, "state", tensor, shape));
    }
    let mut stacks = vec![];
    for (i, fact) in op.stacked.iter().enumerate() {
        let element = element_type(fact.datum_type)?;
        let of_one: Vec<TDim> = fact.shape.iter().skip(1).cloned().collect();
        let mut start = vec![op.turns.clone()];
        start.extend(of_one.iter().cloned());
        let stack_name = format!("{name}/stack{i}");
        ensure!(
            matches!(element, ElementType::F32 | ElementType::I32 | ElementType::I64),
            refusal::of_type("a loop that stacks values", element)
        );
        // LiteRT runs no WHILE whose state is empty at first, and wants room for one row
        let turns = known_turns.as_ref().filter(|turns| **turns != TDim::from(0));
        ensure!(
            turns.is_some(),
            "a loop that stacks values over turns whose number is not known, or 0; make the number of turns a \
             constant (M above 0 and no condition), or {}",
            refusal::SET_SIZES
        );
        let zero = ctx.add_scalar(&format!("{stack_name}/zero"), 0.0, element)?;
        let target = ctx.shape_tensor(&format!("{stack_name}/shape"), &start)?;
        let tensor = ctx.emit(&stack_name, LiteOp::Fill, &[target, zero], element, &start);
        stacks.push((push(&mut states, "stack", tensor, start), element, of_one));
    }
    let rest = first + op.states;
    let mut scanned = vec![];
    for i in 0..op.scanned {
        let input = node.inputs[rest + i];
        let (tensor, shape) = (ctx.tensor(input)?, ctx.shape(input)?);
        scanned.push(push(&mut states, "sequence", tensor, shape));
    }
    let mut captured = vec![];
    for &input in &node.inputs[rest + op.scanned..] {
        let (tensor, shape) = (ctx.tensor_as(input, ctx.element(input)?)?, ctx.shape(input)?);
        captured.push(push(&mut states, "captured", tensor, shape));
    }
    let mut sizes = ctx.sizes_for(name, &[body])?;
    let told = |sizes: &[(String, TensorId)], dim: &TDim| {
        sizes.iter().any(|(symbol, _)| *symbol == dim.to_string())
    };
    if let Some(turns) = &known_turns
        && turns.to_i64().is_err()
        && !told(&sizes, turns)
    {
        let tensor = ctx.shape_tensor(&format!("{name}/turns"), std::slice::from_ref(turns))?;
        sizes.push((turns.to_string(), tensor));
    }
    let size_places: Vec<(String, usize)> = sizes
        .into_iter()
        .map(|(symbol, tensor)| (symbol, push(&mut states, "size", tensor, vec![1.into()])))
        .collect();
    let tell = |ctx: &mut LowerContext, given: &[TensorId]| {
        ctx.told_dims
            .extend(size_places.iter().map(|(symbol, place)| (symbol.clone(), given[*place])));
    };

    let results = ctx.emit_while(
        name,
        &states,
        |ctx, given| {
            tell(ctx, given);
            let limit = match (&known_turns, limit) {
                (Some(turns), _) => {
                    let turns = ctx.shape_tensor("turns", std::slice::from_ref(turns))?;
                    Some(ctx.scalar_of("turns", turns)?)
                }
                (None, limit) => limit.map(|place| given[place]),
            };
            let mut chain = Chain::new(ctx, "goes_on", ElementType::I32, &[]);
            let in_time = limit.map(|limit| chain.compare(BinaryOp::Less, given[0], limit));
            match (in_time, condition.map(|place| given[place])) {
                (Some(a), Some(b)) => Ok(chain.compare(BinaryOp::LogicalAnd, a, b)),
                (Some(one), None) => Ok(one),
                (None, Some(one)) => Ok(ctx.copy(one, &[])),
                (None, None) => Err(anyhow!("a loop without an end; give it M or a condition")),
            }
        },
        |ctx, given| {
            tell(ctx, given);
            let time = given[0];
            let mut inputs = vec![];
            if op.counted {
                inputs.push(ctx.cast("turn", time, ElementType::I64));
                inputs.push(match condition {
                    Some(place) => given[place],
                    None => ctx.add_constant("go", &tract::tensor0(true))?,
                });
            }
            inputs.extend(state_places.iter().map(|&place| given[place]));
            for (i, &place) in scanned.iter().enumerate() {
                let (element, shape) = body_fact(own + op.states + i)?;
                let gather = LiteOp::Gather { axis: 0, batch_dims: 0 };
                inputs.push(ctx.emit("slice", gather, &[given[place], time], element, &shape));
            }
            inputs.extend(captured.iter().map(|&place| given[place]));
            let found = ctx.inline(body, &inputs)?;
            let mut results = given.to_vec();
            let one = ctx.add_i32_tensor("one", &[], &[1]);
            results[0] =
                Chain::new(ctx, "next", ElementType::I32, &[]).binary(BinaryOp::Add, time, one);
            let mut found = found.into_iter();
            if op.counted {
                let next = found.next().context("no condition")?;
                if let Some(place) = condition {
                    results[place] = ctx.scalar_of("condition", next)?;
                }
            }
            for &place in &state_places {
                results[place] = found.next().context("no state")?;
            }
            for ((place, element, of_one), value) in stacks.iter().zip(found) {
                let mut row = vec![TDim::from(1)];
                row.extend(of_one.iter().cloned());
                let row_tensor = ctx.reshape("row", value, of_one, &row)?;
                let shape = states[*place].2.clone();
                let zero = ctx.add_i32_tensor("zero", &[], &[0]);
                let mut start = vec![time];
                start.extend(of_one.iter().map(|_| zero));
                let pack = LiteOp::Pack { axis: 0 };
                let rank = [TDim::from(start.len())];
                let start = ctx.emit("place", pack, &start, ElementType::I32, &rank);
                let op = LiteOp::DynamicUpdateSlice;
                let inputs = [given[*place], row_tensor, start];
                results[*place] = ctx.emit("stacked", op, &inputs, *element, &shape);
            }
            Ok(results)
        },
    )?;
    let places = state_places.iter().chain(stacks.iter().map(|(place, ..)| place));
    for (slot, &place) in places.enumerate() {
        let outlet = OutletId::new(node.id, slot);
        let shape = dims(&ctx.shape(outlet)?);
        ctx.graph.tensors[results[place]].shape = shape;
        ctx.bind_outlet(outlet, results[place]);
    }
    Ok(())
}

fn push(
    states: &mut Vec<(String, TensorId, Vec<TDim>)>,
    name: &str,
    tensor: TensorId,
    shape: Vec<TDim>,
) -> usize {
    states.push((name.to_string(), tensor, shape));
    states.len() - 1
}

/// How many turns at most, as an int32 scalar.
fn count_tensor(ctx: &mut LowerContext, node: &TypedNode) -> Result<TensorId> {
    let name = format!("{}/count", node.name);
    let most = i64::from(i32::MAX);
    if let Some(count) = ctx.constant(node.inputs[0]) {
        let count = count.cast_to_scalar::<i64>()?.clamp(0, most);
        return Ok(ctx.add_i32_tensor(&name, &[], &[i32::try_from(count)?]));
    }
    let count = ctx.tensor_as(node.inputs[0], ElementType::I64)?;
    let count = ctx.scalar_of(&name, count)?;
    let most = ctx.add_constant(&name, &tract::tensor0(most))?;
    let count =
        Chain::new(ctx, &name, ElementType::I64, &[]).binary(BinaryOp::Minimum, count, most);
    Ok(ctx.cast(&name, count, ElementType::I32))
}
