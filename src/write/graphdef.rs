//! LiteGraph → TensorFlow's graph: the walk, and nodes as messages. How one op is written is known in `ops/`.

use crate::format::tensorflow::{
    ArgDef, AttrList, AttrValue, Attribute, DataType, FunctionDef, NameAttrList, NodeDef, OpDef,
    TensorProto, TensorShape, VersionDef,
};
use crate::graph::*;
use crate::ops::{
    GraphDefAttribute, GraphDefConstant, GraphDefContext, GraphDefFunction, GraphDefNode,
    GraphDefTarget, GraphDefValue, data_type, node_name, output_argument, write_graphdef,
};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Of TensorFlow 2.21, and the oldest reader of its graphs.
pub const VERSIONS: VersionDef = VersionDef { producer: 1882, min_consumer: 12 };

/// A model as TensorFlow's functions, by subgraph; the first is the entry.
#[derive(Debug)]
pub struct GraphDefModel {
    pub functions: Vec<GraphDefFunction>,
    pub inputs: Vec<End>,
    pub outputs: Vec<End>,
}

/// An input or output of the entry graph as callers know it; TensorFlow saves no signature whose names hold more than
/// names of nodes do.
#[derive(Debug, Clone)]
pub struct End {
    pub name: String,
    pub element: ElementType,
    pub shape: Vec<Dim>,
}

/// The graph as TensorFlow's nodes.
///
/// # Errors
/// Every op that the target cannot express, together.
pub fn graphdef(model: &Model, target: GraphDefTarget) -> Result<GraphDefModel> {
    model.validate()?;
    let main = model.main();
    let signature = model.signatures.iter().find(|s| s.subgraph == 0);
    let ends = |ids: &[TensorId], named: Option<&Vec<(String, TensorId)>>| -> Vec<End> {
        let mut taken = HashSet::new();
        let end = |&id: &TensorId| {
            let Tensor { name, element, shape, .. } = &main.tensors[id];
            let known = named.and_then(|n| n.iter().find(|(_, tensor)| *tensor == id));
            let name = known.map_or(name, |(name, _)| name);
            // the names that TensorFlow's own exporters give: a node's first output
            let plain = node_name(name.strip_suffix(":0").unwrap_or(name));
            let name = free_name(&mut taken, &plain);
            End { name, element: *element, shape: shape.clone() }
        };
        ids.iter().map(end).collect()
    };
    let inputs = ends(&main.inputs, signature.map(|s| &s.inputs));
    let outputs = ends(&main.outputs, signature.map(|s| &s.outputs));

    let nodes = model.subgraphs.iter().flat_map(|graph| &graph.nodes);
    let conditions: HashSet<usize> = nodes
        .filter_map(|node| match node.op {
            LiteOp::While { condition, .. } => Some(condition),
            _ => None,
        })
        .collect();
    let mut names = HashSet::new();
    let mut unsupported = vec![];
    let mut functions = vec![];
    for (index, graph) in model.subgraphs.iter().enumerate() {
        let of_tensors = |ids: &[TensorId]| -> Vec<String> {
            ids.iter().map(|&id| graph.tensors[id].name.clone()).collect()
        };
        let of_ends = |ends: &[End]| ends.iter().map(|end| end.name.clone()).collect();
        let (given, made) = match index {
            0 => (of_ends(&inputs), of_ends(&outputs)),
            _ => (of_tensors(&graph.inputs), of_tensors(&graph.outputs)),
        };
        let mut ctx = GraphDefContext::new(graph, target, &mut names);
        for (&tensor, name) in graph.inputs.iter().zip(&given) {
            ctx.add_input(tensor, name).with_context(|| format!("input '{name}'"))?;
        }
        made.iter().for_each(|name| ctx.reserve(name));
        for node in &graph.nodes {
            if let Err(reason) = write_graphdef(&mut ctx, node) {
                ctx.stand_in(node);
                let output = node.outputs.first().map(|&tensor| &graph.tensors[tensor]);
                let name = output.map(|tensor| tensor.origin.as_ref().unwrap_or(&tensor.name));
                unsupported.push(UnsupportedOp {
                    node: name.cloned().unwrap_or_default(),
                    op: node.op.name().to_string(),
                    reason: format!("{reason:#}"),
                });
            }
        }
        functions.push(ctx.finish(&made, conditions.contains(&index))?);
    }
    if !unsupported.is_empty() {
        bail!(UnsupportedOps::from(unsupported));
    }
    Ok(GraphDefModel { functions, inputs, outputs })
}

/// `wanted`, with a number behind it where there is such a name already.
pub fn free_name(names: &mut HashSet<String>, wanted: &str) -> String {
    let mut name = wanted.to_string();
    let mut number = 0;
    while !names.insert(name.clone()) {
        number += 1;
        name = format!("{wanted}_{number}");
    }
    name
}

/// The library's name of the function made from a subgraph.
pub fn function_name(subgraph: usize) -> String {
    format!("__inference_subgraph_{subgraph}")
}

/// The sizes of `shape`, −1 where open.
pub fn tensor_shape(shape: &[Dim]) -> TensorShape {
    TensorShape::of(shape.iter().map(|dim| dim.known().map_or(-1, |n| n as i64)))
}

/// How nodes name what they read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum References {
    InGraph,
    InFunction,
}

impl References {
    pub fn of(self, function: &GraphDefFunction, value: GraphDefValue) -> String {
        let GraphDefNode { name, op, .. } = &function.nodes[value.node];
        match (self, value.output) {
            (References::InGraph, 0) => name.clone(),
            (References::InGraph, output) => format!("{name}:{output}"),
            (References::InFunction, _) if *op == "Placeholder" => name.clone(),
            (References::InFunction, output) => {
                let (argument, place) = output_argument(op, output);
                format!("{name}:{argument}:{place}")
            }
        }
    }
}

/// Nodes in place of others: what those who read node i now read, and the node that makes it.
pub type Replaced = HashMap<usize, NodeDef>;

/// Where the numbers of constants are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConstantValues {
    InNodes,
    /// Nodes say types and shapes alone.
    Elsewhere,
}

/// The nodes of a function as messages; of those in `replaced`, what stands there.
pub fn node_defs(
    function: &GraphDefFunction,
    references: References,
    constants: ConstantValues,
    replaced: &Replaced,
) -> Result<Vec<NodeDef>> {
    let mut defs = vec![];
    for (index, node) in function.nodes.iter().enumerate() {
        if let Some(other) = replaced.get(&index) {
            defs.push(other.clone());
            continue;
        }
        if node.op == "Placeholder" && references == References::InFunction {
            continue;
        }
        let reference = |value: &GraphDefValue| match replaced.get(&value.node) {
            Some(other) => format!("{}:{}:0", other.name, output_argument(&other.op, 0).0),
            None => references.of(function, *value),
        };
        let attr = node.attributes.iter().map(|(name, value)| {
            let value = attribute(value, constants);
            Ok((name.to_string(), value.with_context(|| format!("node '{}'", node.name))?))
        });
        defs.push(NodeDef {
            name: node.name.clone(),
            op: node.op.to_string(),
            input: node.inputs.iter().map(reference).collect(),
            attr: attr.collect::<Result<_>>()?,
        });
    }
    Ok(defs)
}

/// A subgraph that nodes run, as a function of the library.
pub fn function_def(
    function: &GraphDefFunction,
    name: String,
    constants: ConstantValues,
) -> Result<FunctionDef> {
    let argument = |value: &GraphDefValue| -> Result<ArgDef> {
        let node = &function.nodes[value.node];
        let found = node.attributes.iter().find_map(|(key, value)| match value {
            GraphDefAttribute::Type(element) if ["dtype", "T"].contains(key) => Some(*element),
            _ => None,
        });
        let element = found.with_context(|| format!("'{}' has no type", node.name))?;
        Ok(ArgDef {
            name: node.name.clone(),
            r#type: data_type(element)? as i32,
            ..ArgDef::default()
        })
    };
    let mut output_arg = vec![];
    let mut ret = BTreeMap::new();
    for (place, value) in function.outputs.iter().enumerate() {
        let name = format!("output_{place}");
        ret.insert(name.clone(), References::InFunction.of(function, *value));
        output_arg.push(ArgDef { name, ..argument(value)? });
    }
    Ok(FunctionDef {
        signature: Some(OpDef {
            name,
            input_arg: function.inputs.iter().map(argument).collect::<Result<_>>()?,
            output_arg,
            is_stateful: false,
        }),
        node_def: node_defs(function, References::InFunction, constants, &Replaced::new())?,
        ret,
        control_ret: BTreeMap::new(),
    })
}

fn attribute(value: &GraphDefAttribute, constants: ConstantValues) -> Result<AttrValue> {
    let kind = |&element: &ElementType| -> Result<i32> { Ok(data_type(element)? as i32) };
    let text = |text: &&'static str| Bytes::from_static(text.as_bytes());
    let value = match value {
        GraphDefAttribute::Type(element) => Attribute::Type(kind(element)?),
        GraphDefAttribute::Types(elements) => {
            let r#type = elements.iter().map(kind).collect::<Result<_>>()?;
            Attribute::List(AttrList { r#type, ..AttrList::default() })
        }
        GraphDefAttribute::Bool(value) => Attribute::Bool(*value),
        GraphDefAttribute::Int(value) => Attribute::Int(*value),
        GraphDefAttribute::Ints(values) => {
            Attribute::List(AttrList { i: values.clone(), ..AttrList::default() })
        }
        GraphDefAttribute::Float(value) => Attribute::Float(*value),
        GraphDefAttribute::Text(value) => Attribute::Text(text(value)),
        GraphDefAttribute::Texts(values) => {
            let s = values.iter().map(text).collect();
            Attribute::List(AttrList { s, ..AttrList::default() })
        }
        GraphDefAttribute::Shape(shape) => Attribute::Shape(tensor_shape(shape)),
        GraphDefAttribute::Constant(constant) => Attribute::Tensor(tensor(constant, constants)?),
        GraphDefAttribute::Function(subgraph) => {
            Attribute::Function(NameAttrList { name: function_name(*subgraph) })
        }
    };
    Ok(value.into())
}

/// More zeros than these are left to the reader, who takes zeros for values that are not there.
const MOST_ZEROS: usize = 64;

fn tensor(constant: &GraphDefConstant, constants: ConstantValues) -> Result<TensorProto> {
    let content = match constants {
        ConstantValues::InNodes => constant.bytes()?,
        ConstantValues::Elsewhere => Bytes::new(),
    };
    let zeros = content.len() > MOST_ZEROS && content.iter().all(|&byte| byte == 0);
    Ok(TensorProto {
        dtype: data_type(constant.element)? as i32,
        tensor_shape: Some(constant_shape(constant)),
        tensor_content: if zeros { Bytes::new() } else { content },
        ..TensorProto::default()
    })
}

pub fn constant_shape(constant: &GraphDefConstant) -> TensorShape {
    TensorShape::of(constant.shape.iter().map(|&n| n as i64))
}

/// A constant of strings.
pub fn strings(texts: &[String], is_scalar: bool) -> AttrValue {
    let sizes = if is_scalar { vec![] } else { vec![texts.len() as i64] };
    Attribute::Tensor(TensorProto {
        dtype: DataType::String as i32,
        tensor_shape: Some(TensorShape::of(sizes)),
        string_val: texts.iter().map(|text| text.clone().into()).collect(),
        ..TensorProto::default()
    })
    .into()
}
