//! Which ops of a quantized file run slower than the rest, and why. What is said of XNNPACK is what LiteRT 2.3 does
//! (`tests/interop/check_int8_nets.py` holds lists against it); its documentation:
//! <https://github.com/google-ai-edge/LiteRT/blob/main/tflite/delegates/xnnpack/README.md>. What integer-only accelerators
//! ask for: <https://coral.withgoogle.com/docs/edgetpu/models-intro/>; of 16×8:
//! <https://www.tensorflow.org/lite/performance/post_training_integer_quant_16x8>.

use crate::graph::{
    BinaryOp, Dim, ElementType, LiteOp, Model, Node, PoolKind, ReduceOp, Subgraph, TensorId,
    UnaryOp,
};
use serde::Serialize;

/// One cause, and the ops it holds for, the most frequent first.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slowdown {
    pub cause: String,
    /// What changes it, if anything does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
    pub ops: Vec<(String, usize)>,
}

/// What holds a quantized model back.
pub fn slowdowns(model: &Model) -> Vec<Slowdown> {
    let graph = model.main();
    let on_integers = |node: &&Node| has(graph, node, is_small_integer);
    let moves_types = |node: &Node| matches!(node.op, LiteOp::Quantize | LiteOp::Dequantize);
    let wide = graph.nodes.iter().filter(|node| has(graph, node, is_int16));
    let wide = counted(wide.filter(|node| !moves_types(node)));
    let reference = graph.nodes.iter().filter(on_integers).filter(|node| !moves_types(node));
    let reference = counted(reference.filter(|node| !xnnpack_takes(graph, node)));
    let floats = graph.nodes.iter().filter(|node| !moves_types(node));
    let floats = counted(floats.filter(|node| has(graph, node, |e| e == ElementType::F32)));
    let ends = graph.inputs.iter().chain(&graph.outputs);
    let float_ends = ends.clone().any(|&t| graph.tensors[t].element == ElementType::F32);
    let open: Vec<&str> = ends
        .flat_map(|&t| &graph.tensors[t].shape)
        .filter_map(|dim| match dim {
            Dim::Known(_) => None,
            Dim::Symbol(name) => Some(name.as_str()),
        })
        .collect();
    let mut found = vec![];
    let mut add = |cause: &str, remedy: Option<String>, ops: Vec<(String, usize)>| {
        found.push(Slowdown { cause: cause.into(), remedy, ops });
    };
    if !wide.is_empty() {
        let cause = "no delegate of LiteRT takes int16 values: its own kernels run them";
        add(cause, Some("the scheme int8".into()), wide);
    }
    if !reference.is_empty() {
        add("XNNPACK leaves them to LiteRT's own kernels", None, reference);
    }
    if !floats.is_empty() {
        add("float32 values: accelerators of integers alone stop there", None, floats);
    }
    if float_ends {
        let cause = "inputs or outputs are float32: accelerators of integers alone leave their conversion to the CPU";
        let wide = graph.tensors.iter().any(|tensor| is_int16(tensor.element));
        let ends = if wide { "--io int16" } else { "--io int8" };
        add(cause, Some(ends.into()), vec![]);
    }
    if let Some(name) = open.first() {
        let cause =
            format!("dimension '{name}' is open: accelerators that compile ahead need all sizes");
        add(&cause, Some(format!("--set {name}=1")), vec![]);
    }
    found
}

fn has(graph: &Subgraph, node: &Node, is_wanted: impl Fn(ElementType) -> bool) -> bool {
    let mut variables = node.inputs.iter().flatten().chain(&node.outputs);
    variables.any(|&t| graph.tensors[t].data.is_none() && is_wanted(graph.tensors[t].element))
}

fn is_small_integer(element: ElementType) -> bool {
    matches!(element, ElementType::I8 | ElementType::U8)
}

fn is_int16(element: ElementType) -> bool {
    element == ElementType::I16
}

fn counted<'a>(nodes: impl Iterator<Item = &'a Node>) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = vec![];
    for node in nodes {
        match counts.iter_mut().find(|(name, _)| name == node.op.name()) {
            Some((_, count)) => *count += 1,
            None => counts.push((node.op.name().to_string(), 1)),
        }
    }
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    counts
}

/// Whether XNNPACK has a kernel for the 8-bit form of an op; some of its parameters may still keep it away.
fn xnnpack_takes(graph: &Subgraph, node: &Node) -> bool {
    let is_integer = |tensor: Option<&TensorId>| {
        tensor.is_some_and(|&t| is_small_integer(graph.tensors[t].element))
    };
    match &node.op {
        LiteOp::FullyConnected { .. }
        | LiteOp::Conv2D { .. }
        | LiteOp::DepthwiseConv2D { .. }
        | LiteOp::TransposeConv { .. }
        | LiteOp::LeakyRelu { .. }
        | LiteOp::Reshape
        | LiteOp::Transpose
        | LiteOp::Squeeze { .. }
        | LiteOp::ExpandDims
        | LiteOp::Concatenation { .. }
        | LiteOp::Split { .. }
        | LiteOp::Slice
        | LiteOp::Pad
        | LiteOp::ResizeBilinear { .. }
        | LiteOp::DepthToSpace { .. }
        | LiteOp::SpaceToDepth { .. }
        | LiteOp::Quantize
        | LiteOp::Dequantize => true,
        LiteOp::Unary(op) => match op {
            UnaryOp::Logistic
            | UnaryOp::Tanh
            | UnaryOp::Elu
            | UnaryOp::Relu
            | UnaryOp::Relu6
            | UnaryOp::ReluN1To1
            | UnaryOp::Relu0To1 => true,
            UnaryOp::Abs
            | UnaryOp::Ceil
            | UnaryOp::Cos
            | UnaryOp::Exp
            | UnaryOp::Floor
            | UnaryOp::Log
            | UnaryOp::Neg
            | UnaryOp::Round
            | UnaryOp::Rsqrt
            | UnaryOp::Sin
            | UnaryOp::Sqrt
            | UnaryOp::Square
            | UnaryOp::HardSwish
            | UnaryOp::Sign
            | UnaryOp::LogicalNot => false,
        },
        LiteOp::Binary { op, .. } => matches!(op, BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul),
        LiteOp::Reduce { op, .. } => matches!(op, ReduceOp::Mean | ReduceOp::Sum),
        LiteOp::Pool2D { kind, .. } => *kind == PoolKind::Max,
        // 8-bit indices and conditions of what else they do do not count
        LiteOp::Cast | LiteOp::Shape { .. } | LiteOp::While { .. } | LiteOp::If { .. } => {
            !is_integer(node.outputs.first())
        }
        LiteOp::Custom { .. } => true,
        LiteOp::BatchMatMul { .. }
        | LiteOp::Gelu { .. }
        | LiteOp::Softmax { .. }
        | LiteOp::LogSoftmax
        | LiteOp::Conv3D { .. }
        | LiteOp::LocalResponseNormalization { .. }
        | LiteOp::PRelu
        | LiteOp::Select
        | LiteOp::ArgMax { .. }
        | LiteOp::ArgMin { .. }
        | LiteOp::CumSum { .. }
        | LiteOp::TopK
        | LiteOp::BroadcastTo
        | LiteOp::Tile
        | LiteOp::Pack { .. }
        | LiteOp::Unpack { .. }
        | LiteOp::SplitV
        | LiteOp::StridedSlice { .. }
        | LiteOp::MirrorPad { .. }
        | LiteOp::Reverse
        | LiteOp::DynamicUpdateSlice
        | LiteOp::Gather { .. }
        | LiteOp::GatherNd
        | LiteOp::ScatterNd
        | LiteOp::UnsortedSegment { .. }
        | LiteOp::Where
        | LiteOp::NonMaxSuppression
        | LiteOp::OneHot { .. }
        | LiteOp::Range
        | LiteOp::Fill
        | LiteOp::ResizeNearest { .. } => false,
    }
}
