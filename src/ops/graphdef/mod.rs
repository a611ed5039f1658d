//! What the families write TensorFlow's graph with, and read it with: nodes as values, for SavedModels and
//! TensorFlow.js alike.

mod activation;
mod blocks;
mod cast;
mod context;
mod control;
mod conv;
mod einsum;
mod elementwise;
mod gather;
mod matmul;
mod pad;
mod pool;
mod read;
mod read_context;
mod reduce;
mod resize;
mod selection;
mod shape;
mod slice;
mod softmax;

use super::{Family, family};
use crate::format::tensorflow::DataType;
use crate::graph::{
    Activation, BinaryOp, Dim, ElementType, LiteOp, MirrorMode, Node, Padding, PoolKind,
    Quantization, ReduceOp, Subgraph, Tensor, TensorId, UnaryOp, shape_text,
};
use GraphDefAttribute as Attribute;
pub use context::GraphDefContext;
pub use read::{output_place, read_graphdef, reads_graphdef};
pub use read_context::{GraphDefInput, GraphDefReader, element_of};

use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use std::collections::{HashMap, HashSet};

/// Who runs the graph.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GraphDefTarget {
    TensorFlow,
    /// Has fewer ops and types, and some fused ones.
    TensorFlowJs,
}

/// One node of a graph or function; its inputs are nodes before it.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphDefNode {
    pub name: String,
    pub op: &'static str,
    pub inputs: Vec<GraphDefValue>,
    pub attributes: Vec<(&'static str, GraphDefAttribute)>,
}

/// An output of a node, both by place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GraphDefValue {
    pub node: usize,
    pub output: usize,
}

#[derive(Debug, Clone, PartialEq)]
pub enum GraphDefAttribute {
    Type(ElementType),
    Types(Vec<ElementType>),
    Bool(bool),
    Int(i64),
    Ints(Vec<i64>),
    Float(f32),
    Text(&'static str),
    Texts(Vec<&'static str>),
    Shape(Vec<Dim>),
    Constant(GraphDefConstant),
    /// The function made from a subgraph.
    Function(usize),
}

/// A constant, and how it lies in TensorFlow's graph.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphDefConstant {
    /// In the file that the graph came from.
    pub name: String,
    pub element: ElementType,
    pub shape: Vec<usize>,
    /// Whether it is what training changes.
    pub is_weight: bool,
    data: Bytes,
    data_shape: Vec<usize>,
    order: Vec<usize>,
}

/// A subgraph as nodes.
#[derive(Debug, Clone, PartialEq)]
pub struct GraphDefFunction {
    /// `Placeholder` nodes.
    pub inputs: Vec<GraphDefValue>,
    pub nodes: Vec<GraphDefNode>,
    pub outputs: Vec<GraphDefValue>,
}

/// TensorFlow's number for an element type.
///
/// # Errors
/// It has no such type that is computed with.
pub fn data_type(element: ElementType) -> Result<DataType> {
    Ok(match element {
        ElementType::F32 => DataType::Float,
        ElementType::F16 => DataType::Half,
        ElementType::I8 => DataType::Int8,
        ElementType::U8 => DataType::Uint8,
        ElementType::I16 => DataType::Int16,
        ElementType::U16 => DataType::Uint16,
        ElementType::I32 => DataType::Int32,
        ElementType::U32 => DataType::Uint32,
        ElementType::I64 => DataType::Int64,
        ElementType::Bool => DataType::Bool,
        ElementType::String => DataType::String,
        ElementType::I4 => return Err(anyhow!("TensorFlow computes with no int4 values")),
    })
}

/// Writes one lite node as TensorFlow's nodes.
///
/// # Errors
/// Why the target cannot express it.
pub fn write_graphdef(ctx: &mut GraphDefContext, node: &Node) -> Result<()> {
    ctx.begin(node)?;
    match family(&node.op) {
        Family::Activation => activation::write(ctx, node),
        Family::Cast => cast::write(ctx, node),
        Family::Control => control::write(ctx, node),
        Family::Conv => conv::write(ctx, node),
        Family::Elementwise => elementwise::write(ctx, node),
        Family::Gather => gather::write(ctx, node),
        Family::Matmul => matmul::write(ctx, node),
        Family::Pad => pad::write(ctx, node),
        Family::Pool => pool::write(ctx, node),
        Family::Reduce => reduce::write(ctx, node),
        Family::Resize => resize::write(ctx, node),
        Family::Scatter => gather::write(ctx, node),
        Family::Selection => selection::write(ctx, node),
        Family::Shape => shape::write(ctx, node),
        Family::Slice => slice::write(ctx, node),
        Family::Softmax => softmax::write(ctx, node),
        Family::Custom => Err(anyhow!("TensorFlow does not have this custom op")),
    }
}

impl GraphDefConstant {
    /// Little-endian, row-major.
    pub fn bytes(&self) -> Result<Bytes> {
        let width = self.element.bits().filter(|bits| bits % 8 == 0);
        let width = width.with_context(|| format!("'{}' is {}", self.name, self.element))? / 8;
        let moved = crate::kernels::reorder(&self.data, width, &self.data_shape, &self.order)?;
        Ok(moved.map_or_else(|| self.data.clone(), Bytes::from))
    }
}

/// `name` with what node names may not have replaced.
pub fn node_name(name: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '/');
    let mut plain: String = name.chars().map(|c| if allowed(c) { c } else { '_' }).collect();
    if !plain.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '.') {
        plain.insert_str(0, "n");
    }
    plain
}

/// The name of an op's output argument, and the place in it, as functions refer to it.
pub fn output_argument(op: &str, output: usize) -> (&'static str, usize) {
    let name = match op {
        "MatMul" => "product",
        "Relu" | "Relu6" | "Elu" | "LeakyRelu" => "activations",
        "Softmax" => "softmax",
        "LogSoftmax" => "logsoftmax",
        "Add" | "AddV2" | "Sub" | "Mul" | "RealDiv" | "Div" | "TruncateDiv" | "Maximum"
        | "Minimum" | "Pow" | "SquaredDifference" | "FloorDiv" | "FloorMod" | "LogicalAnd"
        | "LogicalOr" | "Equal" | "NotEqual" | "Less" | "LessEqual" | "Greater"
        | "GreaterEqual" | "BitwiseXor" | "RightShift" | "Atan2" => "z",
        "Abs" | "Ceil" | "Cos" | "Exp" | "Floor" | "Log" | "Sigmoid" | "Neg" | "Round"
        | "Rsqrt" | "Sin" | "Sqrt" | "Square" | "Tanh" | "Erf" | "Sign" | "LogicalNot" | "Cast"
        | "Transpose" => "y",
        "Cumsum" => "out",
        "ResizeBilinear" | "ResizeNearestNeighbor" => "resized_images",
        "Where" => "index",
        "ReadVariableOp" => "value",
        "TopKV2" => return (["values", "indices"][output.min(1)], 0),
        "NonMaxSuppressionV4" => return (["selected_indices", "valid_outputs"][output.min(1)], 0),
        _ => "output",
    };
    (name, output)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn node_names_have_only_what_they_may() {
        let cases = [
            ("a/b.c-d_1", "a/b.c-d_1"),
            ("input:0", "input_0"),
            ("_x", "n_x"),
            ("", "n"),
            ("é(1)", "n__1_"),
        ];
        for (name, expected) in cases {
            assert_eq!(node_name(name), expected);
        }
    }
}
