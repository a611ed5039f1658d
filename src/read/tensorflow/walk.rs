//! TensorFlow's nodes → a lite graph: what is given, what is constant, and the ops between.

use super::flatten::{FlatNode, FlatValue, flatten};
use super::variables::shared_name;
use crate::format::tensorflow::{
    Attribute, DataType, GraphDef, NodeDef, TensorShape, TensorValue, tensor_value,
};
use crate::graph::*;
use crate::ops::{self, GraphDefInput, GraphDefReader, read_graphdef, reads_graphdef};
use crate::passes::remove_unused_and_number;
use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use half::{bf16, f16};
use std::collections::{HashMap, HashSet};

/// An input or output: the name that callers know it by, and what it is in the graph.
#[derive(Debug, Clone)]
pub struct End {
    pub name: String,
    /// `node:output`.
    pub value: String,
    /// TensorFlow's number of the type; 0 where the node tells it.
    pub dtype: i32,
    pub shape: Option<TensorShape>,
}

/// A graph between inputs and outputs.
#[derive(Debug)]
pub struct Boundary {
    pub signature: String,
    pub inputs: Vec<End>,
    pub outputs: Vec<End>,
}

/// What nodes have for values that stand elsewhere: variables, and weights beside the graph.
pub type ValueOf<'a> = &'a dyn Fn(&NodeDef) -> Result<Option<TensorValue>>;

/// The lite graph that gives `boundary.outputs`.
///
/// # Errors
/// Every op that has no lite form, together.
pub fn lite_graph(graph: &GraphDef, boundary: &Boundary, value_of: ValueOf) -> Result<Model> {
    let node_of = |end: &End| end.value.split(':').next().unwrap_or_default().to_string();
    let fed: Vec<String> = boundary.inputs.iter().map(node_of).collect();
    let fed: HashSet<&str> = fed.iter().map(String::as_str).collect();
    let named: HashMap<&str, &NodeDef> =
        graph.node.iter().map(|node| (node.name.as_str(), node)).collect();
    let find = |kind: &str, end: &End| {
        let node = named.get(node_of(end).as_str()).copied();
        node.with_context(|| format!("{kind} '{}': there is no node '{}'", end.name, end.value))
    };
    let inputs: Vec<&NodeDef> =
        boundary.inputs.iter().map(|end| find("input", end)).collect::<Result<_>>()?;
    boundary.outputs.iter().try_for_each(|end| find("output", end).map(|_| ()))?;
    let wanted: Vec<&str> = boundary.outputs.iter().map(|end| end.value.as_str()).collect();
    let (nodes, outputs) = flatten(graph, &wanted, &fed, false)?;
    let mut walk = Walk {
        reader: GraphDefReader::default(),
        slots: HashMap::new(),
        unsupported: vec![],
        inputs: HashMap::new(),
        variables: HashMap::new(),
        nodes: &nodes,
        value_of,
    };
    for (end, node) in boundary.inputs.iter().zip(inputs) {
        walk.add_input(end, node).with_context(|| format!("input '{}'", end.name))?;
    }
    let live = live(&nodes, &outputs);
    for (place, node) in nodes.iter().enumerate() {
        if let Some(outputs) = live[place] {
            walk.visit(place, node, outputs);
        }
    }
    walk.finish(boundary, &outputs)
}

/// How many outputs of each node are read, counted up to the last; `None` for nodes that nothing needs.
fn live(nodes: &[FlatNode], outputs: &[FlatValue]) -> Vec<Option<usize>> {
    let mut live: Vec<Option<usize>> = vec![None; nodes.len()];
    let read = |live: &mut Vec<Option<usize>>, value: &FlatValue| {
        if let Some(slot) = live.get_mut(value.node) {
            *slot = Some(slot.unwrap_or(0).max(value.output + 1));
        }
    };
    outputs.iter().for_each(|value| read(&mut live, value));
    for (place, node) in nodes.iter().enumerate().rev() {
        if live[place].is_some() {
            node.inputs.iter().for_each(|value| read(&mut live, value));
        }
    }
    live
}

/// What a node's output is.
#[derive(Debug, Clone, Copy)]
enum Slot {
    Tensor(TensorId),
    /// Of the variable that is the node at that place.
    Variable(usize),
    /// Of an op that cannot be read.
    Missing,
}

struct Walk<'a> {
    reader: GraphDefReader,
    slots: HashMap<FlatValue, Slot>,
    unsupported: Vec<UnsupportedOp>,
    /// By node.
    inputs: HashMap<String, TensorId>,
    /// Those that were read, by place.
    variables: HashMap<usize, TensorId>,
    nodes: &'a [FlatNode<'a>],
    value_of: ValueOf<'a>,
}

impl Walk<'_> {
    fn add_input(&mut self, end: &End, node: &NodeDef) -> Result<()> {
        let attribute = |name: &str| node.attr.get(name).and_then(|attr| attr.value.as_ref());
        let dtype = match (end.dtype, attribute("dtype")) {
            (0, Some(Attribute::Type(number))) => *number,
            (number, _) => number,
        };
        let kind = DataType::try_from(dtype).unwrap_or(DataType::Invalid);
        ensure!(
            !matches!(kind, DataType::Double | DataType::Bfloat16),
            "values of {} are not computed with; save the model with float32",
            DataType::describe(dtype)
        );
        let element = ops::element_of(dtype)?;
        let shape = match (&end.shape, attribute("shape")) {
            (Some(shape), _) => shape.clone(),
            (None, Some(Attribute::Shape(shape))) => shape.clone(),
            (None, _) => TensorShape { dim: vec![], unknown_rank: true },
        };
        ensure!(
            !shape.unknown_rank,
            "its shape is not known at all; save the model with an input of known rank, such as \
             tf.TensorSpec([None, 28, 28, 1])"
        );
        let dims =
            shape.dim.iter().enumerate().map(|(axis, dim)| match usize::try_from(dim.size) {
                Ok(n) => Dim::Known(n),
                Err(_) if axis == 0 => Dim::Symbol("N".into()),
                Err(_) => Dim::Symbol(format!("d{axis}")),
            });
        let tensor = self.reader.add_input(&end.name, element, dims.collect());
        let before = self.inputs.insert(node.name.clone(), tensor);
        ensure!(before.is_none(), "it has two names");
        Ok(())
    }

    fn visit(&mut self, place: usize, node: &FlatNode, outputs: usize) {
        let slots = match self.slots_of(place, node, outputs) {
            Ok(slots) => slots,
            Err(reason) => {
                self.unsupported.push(UnsupportedOp {
                    node: node.def.name.clone(),
                    op: node.def.op.clone(),
                    reason: format!("{reason:#}"),
                });
                vec![Slot::Missing; outputs]
            }
        };
        for (output, slot) in slots.into_iter().enumerate() {
            self.slots.insert(FlatValue { node: place, output }, slot);
        }
    }

    fn slots_of(&mut self, place: usize, node: &FlatNode, outputs: usize) -> Result<Vec<Slot>> {
        let def = node.def;
        if node.is_fed {
            let input = self.inputs.get(&def.name).context("it is not an input")?;
            return Ok(vec![Slot::Tensor(*input)]);
        }
        let slot = |value: &FlatValue| -> Result<Slot> {
            let source = self.nodes.get(value.node).map_or("a call", |node| &node.def.name);
            let slot = self.slots.get(value).copied();
            slot.with_context(|| {
                format!("it reads output {} of '{source}', which has none", value.output)
            })
        };
        let inputs: Vec<Slot> = node.inputs.iter().map(slot).collect::<Result<_>>()?;
        match def.op.as_str() {
            "Placeholder" | "PlaceholderV2" => {
                bail!("the outputs depend on it, and the signature does not name it as an input")
            }
            "Const" | "HostConst" => return Ok(vec![Slot::Tensor(self.constant(def)?)]),
            "VarHandleOp" => return Ok(vec![Slot::Variable(place)]),
            "VariableV2" | "Variable" => return Ok(vec![Slot::Tensor(self.variable(place)?)]),
            "IdentityN" => return Ok(inputs),
            "Identity"
            | "StopGradient"
            | "PreventGradient"
            | "CheckNumerics"
            | "Snapshot"
            | "EnsureShape"
            | "PlaceholderWithDefault"
            | "OptimizationBarrier"
            | "DisableCopyOnRead" => {
                return Ok(vec![*inputs.first().context("it reads nothing")?]);
            }
            "ReadVariableOp" => {
                return Ok(vec![match *inputs.first().context("it reads nothing")? {
                    Slot::Variable(variable) => Slot::Tensor(self.variable(variable)?),
                    Slot::Tensor(_) => bail!("it reads what is no variable"),
                    Slot::Missing => Slot::Missing,
                }]);
            }
            _ => {}
        }
        ensure!(reads_graphdef(&def.op), "it is not among the ops that can be read");
        let mut tensors = vec![];
        for slot in inputs {
            match slot {
                Slot::Tensor(tensor) => tensors.push(tensor),
                Slot::Variable(variable) if def.op == "ResourceGather" => {
                    tensors.push(self.variable(variable)?);
                }
                Slot::Variable(_) => bail!("it reads a variable itself, not its value"),
                Slot::Missing => return Ok(vec![Slot::Missing; outputs]),
            }
        }
        let input = GraphDefInput {
            name: &def.name,
            op: &def.op,
            inputs: tensors,
            attributes: &def.attr,
            outputs,
        };
        let made = read_graphdef(&mut self.reader, &input)?;
        ensure!(made.len() >= outputs, "output {} of it is read", outputs - 1);
        Ok(made.into_iter().map(Slot::Tensor).collect())
    }

    fn variable(&mut self, place: usize) -> Result<TensorId> {
        if let Some(&known) = self.variables.get(&place) {
            return Ok(known);
        }
        let variable = self.constant(self.nodes[place].def)?;
        self.variables.insert(place, variable);
        Ok(variable)
    }

    fn constant(&mut self, def: &NodeDef) -> Result<TensorId> {
        let value = match (self.value_of)(def)? {
            Some(value) => value,
            None => match def.attr.get("value").and_then(|attr| attr.value.as_ref()) {
                Some(Attribute::Tensor(tensor)) => tensor_value(tensor)?,
                _ => bail!("a constant without a value"),
            },
        };
        let TensorValue { dtype, shape, data } = value;
        let element = ops::element_of(dtype as i32)?;
        let data = as_float32(dtype, data);
        let name = match def.op.as_str() {
            "Const" => &def.name,
            _ => shared_name(def),
        };
        Ok(self.reader.add_constant(name, element, &shape, data))
    }

    fn finish(mut self, boundary: &Boundary, outputs: &[FlatValue]) -> Result<Model> {
        let mut named: Vec<(String, TensorId)> = vec![];
        for (end, value) in boundary.outputs.iter().zip(outputs) {
            let Some(Slot::Tensor(mut tensor)) = self.slots.get(value).copied() else { continue };
            if self.reader.is_stand_in(tensor) {
                let name = &self.reader.graph.tensors[tensor].name;
                self.unsupported.push(UnsupportedOp {
                    node: name.clone(),
                    op: "Erf".into(),
                    reason: "it has a form only as part of other ops".into(),
                });
                continue;
            }
            let is_taken = named.iter().any(|(_, other)| *other == tensor);
            if is_taken || self.reader.graph.inputs.contains(&tensor) {
                // one value under two names
                self.reader.begin(&end.name);
                let zero = self.reader.scalar(0.0, self.reader.element(tensor))?;
                tensor = self.reader.binary(BinaryOp::Add, tensor, zero)?;
            }
            named.push((end.name.clone(), tensor));
        }
        if !self.unsupported.is_empty() {
            bail!(UnsupportedOps::from(self.unsupported));
        }
        let is_there = |name: &str| named.iter().any(|(other, _)| other == name);
        if let Some(end) = boundary.outputs.iter().find(|end| !is_there(&end.name)) {
            bail!("output '{}' of the signature ('{}') is no value", end.name, end.value);
        }
        let mut graph = self.reader.graph;
        graph.name = "main".into();
        graph.outputs = named.iter().map(|(_, tensor)| *tensor).collect();
        remove_unused_and_number(&mut graph);
        let ends = |names: &mut dyn Iterator<Item = String>, ids: &[TensorId]| {
            names.zip(ids.iter().copied()).collect::<Vec<_>>()
        };
        let signature = Signature {
            key: boundary.signature.clone(),
            subgraph: 0,
            inputs: ends(&mut boundary.inputs.iter().map(|end| end.name.clone()), &graph.inputs),
            outputs: ends(&mut named.into_iter().map(|(name, _)| name), &graph.outputs),
        };
        let model = Model {
            description: String::new(),
            subgraphs: vec![graph],
            signatures: vec![signature],
            metadata: vec![],
        };
        model.validate()?;
        Ok(model)
    }
}

/// Float64 and bfloat16 numbers as float32, others as they are.
fn as_float32(dtype: DataType, data: Bytes) -> Bytes {
    let floats = |values: Vec<f32>| -> Bytes {
        values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
    };
    match dtype {
        DataType::Double => {
            floats(data.as_chunks().0.iter().map(|b| f64::from_le_bytes(*b) as f32).collect())
        }
        DataType::Bfloat16 => {
            floats(data.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect())
        }
        _ => data,
    }
}

/// Float16 numbers as float32.
pub fn widened(data: &[u8]) -> Bytes {
    let values = data.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32());
    values.flat_map(f32::to_le_bytes).collect::<Vec<u8>>().into()
}

/// A bundle's or a file's numbers, their length checked.
pub fn checked(dtype: i32, shape: &TensorShape, data: Bytes) -> Result<TensorValue> {
    let unread = || anyhow!("values of {} are not supported", DataType::describe(dtype));
    let kind = DataType::try_from(dtype).map_err(|_| unread())?;
    let width = kind.width().with_context(|| unread().to_string())?;
    let shape = shape.sizes().context("an impossible shape")?;
    let count: usize = shape.iter().product();
    ensure!(
        count.checked_mul(width) == Some(data.len()),
        "{} bytes for {shape:?} {}",
        data.len(),
        DataType::describe(dtype)
    );
    Ok(TensorValue { dtype: kind, shape, data })
}
