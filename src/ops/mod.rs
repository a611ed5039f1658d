//! One file a family: how each op lowers from tract, raises into tract, is read and written.
//!
//! Invariant: ops describe; the walks in `lower/`, `raise/`, `read/` and `write/` own the order and the
//! files. Matching on `LiteOp` has no `_ =>` arm, so the compiler lists what a new op still lacks.

mod activation;
mod branch_and_loop;
mod cast;
mod compose;
mod constants;
mod control;
mod computed_slice;
mod conv;
mod elementwise;
mod gather;
mod graphdef;
mod grid_sample;
mod infer;
mod integers;
mod lower_context;
mod matmul;
mod max_pool_indices;
mod normalize;
mod pad;
mod permutation;
mod pool;
mod quant_rule;
mod quantize_linear;
mod quantized;
mod raise_context;
mod recurrent;
mod reduce;
mod refusal;
mod reshape_passage;
mod resize;
mod runtime_version;
mod scatter;
mod selection;
mod shape;
mod slice;
mod softmax;
mod transpose_conv;
mod types;
mod unsigned;
mod window;

use crate::format::mmap;
use crate::format::tflite::{BuiltinOperator, BuiltinOptions, TensorType};
use crate::graph::{Dim, ElementType, LiteOp, Node, Subgraph, Tensor, TensorId};
use crate::tract::mapped::MappedConst;
use crate::tract::{
    self, AxisOp, DatumType, DimLike, IntoArcTensor, OutletId, SpecialOps, TDim, TypedModel,
    TypedNode, TypedOp,
};
use constants::{constant_bytes, shared_bytes, tract_constant};
pub use graphdef::{
    GraphDefAttribute, GraphDefConstant, GraphDefContext, GraphDefFunction, GraphDefInput,
    GraphDefNode, GraphDefReader, GraphDefTarget, GraphDefValue, data_type, element_of, node_name,
    output_argument, output_place, read_graphdef, reads_graphdef, write_graphdef,
};
pub use lower_context::LowerContext;
use permutation::permute_elementwise;
pub use permutation::{Passage, permute_constant};
pub use quant_rule::{ActivationType, FixedRange, QuantRule, quant_rule};
pub use raise_context::RaiseContext;
pub use reshape_passage::{reshape_untransposed, target_constant};
pub use runtime_version::oldest_runtime;
use types::reshape_target;
pub use types::{datum_type, dims, element_type, tensor_type};
use unsigned::carrier;

use anyhow::{Context, Result, anyhow, ensure};
use std::collections::{HashMap, HashSet};
use std::sync::Arc;

/// Lowers `node` into `ctx`; `None` where the family does not know the tract op. An error is the
/// reason why a known op cannot be expressed.
type Lowering = fn(&mut LowerContext, &TypedNode) -> Result<Option<()>>;

const LOWERINGS: [Lowering; 22] = [
    conv::lower,
    pool::lower,
    max_pool_indices::lower,
    slice::lower,
    pad::lower,
    gather::lower,
    scatter::lower,
    grid_sample::lower,
    selection::lower,
    normalize::lower,
    resize::lower,
    matmul::lower,
    integers::lower,
    elementwise::lower,
    activation::lower,
    softmax::lower,
    reduce::lower,
    shape::lower,
    cast::lower,
    quantize_linear::lower,
    recurrent::lower,
    branch_and_loop::lower,
];

/// Lowers one tract node.
///
/// # Errors
/// Why the op cannot be expressed in the lite graph.
pub fn lower(ctx: &mut LowerContext, node: &TypedNode) -> Result<()> {
    for lowering in LOWERINGS {
        if lowering(ctx, node)?.is_some() {
            return Ok(());
        }
    }
    Err(refusal::no_form(&node.op.name()))
}

/// Raises one lite node: wires tract ops with its exact semantics.
pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    match quantized::applies(ctx.graph, node) {
        true => quantized::raise(ctx, node, raise_values),
        false => raise_values(ctx, node),
    }
}

/// As [`raise`], on the values as they are, whatever they stand for.
fn raise_values(ctx: &mut RaiseContext, node: &Node) -> Result<()> {
    match family(&node.op) {
        Family::Activation => activation::raise(ctx, node),
        Family::Cast => cast::raise(ctx, node),
        Family::Control => control::raise(ctx, node),
        Family::Conv => conv::raise(ctx, node),
        Family::Elementwise => elementwise::raise(ctx, node),
        Family::Gather => gather::raise(ctx, node),
        Family::Matmul => matmul::raise(ctx, node),
        Family::Pad => pad::raise(ctx, node),
        Family::Pool => pool::raise(ctx, node),
        Family::Reduce => reduce::raise(ctx, node),
        Family::Resize => resize::raise(ctx, node),
        Family::Scatter => scatter::raise(ctx, node),
        Family::Selection => selection::raise(ctx, node),
        Family::Shape => shape::raise(ctx, node),
        Family::Slice => slice::raise(ctx, node),
        Family::Softmax => softmax::raise(ctx, node),
        Family::Custom => Err(anyhow!("custom op '{}' has no kernel here", node.op.name())),
    }
}

/// A TFLite operator as values, without tensors.
#[derive(Debug, Clone, PartialEq)]
pub struct TfliteOp {
    pub builtin: BuiltinOperator,
    pub version: i32,
    pub options: BuiltinOptions,
    pub custom: Option<(String, bytes::Bytes)>,
}

impl TfliteOp {
    fn new(builtin: BuiltinOperator, version: i32, options: BuiltinOptions) -> TfliteOp {
        TfliteOp { builtin, version, options, custom: None }
    }
}

/// The lite op that a file's operator is.
///
/// # Errors
/// The operator is not in the vocabulary, or its options are not supported.
pub fn read(op: &TfliteOp) -> Result<LiteOp> {
    if let Some((code, options)) = &op.custom {
        let (code, options) = (code.clone(), options.clone());
        return Ok(LiteOp::Custom { code, version: op.version, options });
    }
    type Reader = fn(&TfliteOp) -> Result<Option<LiteOp>>;
    const READERS: [Reader; 16] = [
        conv::read,
        pool::read,
        slice::read,
        pad::read,
        gather::read,
        scatter::read,
        selection::read,
        resize::read,
        matmul::read,
        elementwise::read,
        activation::read,
        softmax::read,
        reduce::read,
        shape::read,
        cast::read,
        control::read,
    ];
    for reader in READERS {
        if let Some(lite) = reader(op)? {
            return Ok(lite);
        }
    }
    Err(anyhow!("no reader for {}", op.builtin.name()))
}

/// How a node is written to a `.tflite` file: operator, options and the version its types ask for.
pub fn write(graph: &Subgraph, node: &Node) -> Result<TfliteOp> {
    match family(&node.op) {
        Family::Activation => activation::write(graph, node),
        Family::Cast => cast::write(graph, node),
        Family::Control => control::write(&node.op),
        Family::Conv => conv::write(graph, node),
        Family::Elementwise => elementwise::write(graph, node),
        Family::Gather => gather::write(graph, node),
        Family::Matmul => matmul::write(graph, node),
        Family::Pad => pad::write(graph, node),
        Family::Pool => pool::write(graph, node),
        Family::Reduce => reduce::write(graph, node),
        Family::Resize => resize::write(graph, node),
        Family::Scatter => scatter::write(graph, node),
        Family::Selection => selection::write(graph, node),
        Family::Shape => shape::write(graph, node),
        Family::Slice => slice::write(graph, node),
        Family::Softmax => softmax::write(graph, node),
        Family::Custom => write_custom(&node.op),
    }
}

fn write_custom(op: &LiteOp) -> Result<TfliteOp> {
    let LiteOp::Custom { code, version, options } = op else {
        return Err(anyhow!("not a custom op"));
    };
    Ok(TfliteOp {
        builtin: BuiltinOperator::CUSTOM,
        version: *version,
        options: BuiltinOptions::None,
        custom: Some((code.clone(), options.clone())),
    })
}

/// How a permutation passes `node`; `None` where it does not.
pub fn permute(graph: &Subgraph, node: &Node, permutation: &[usize]) -> Option<Passage> {
    match family(&node.op) {
        Family::Activation => activation::permute(graph, node, permutation),
        Family::Cast => cast::permute(graph, node, permutation),
        Family::Conv => conv::permute(graph, node, permutation),
        Family::Elementwise => elementwise::permute(graph, node, permutation),
        Family::Gather => gather::permute(graph, node, permutation),
        Family::Matmul => matmul::permute(graph, node, permutation),
        Family::Pad => pad::permute(graph, node, permutation),
        Family::Pool => pool::permute(graph, node, permutation),
        Family::Reduce => reduce::permute(graph, node, permutation),
        Family::Resize => resize::permute(graph, node, permutation),
        Family::Scatter => scatter::permute(graph, node, permutation),
        Family::Selection => None,
        Family::Shape => shape::permute(graph, node, permutation),
        Family::Slice => slice::permute(graph, node, permutation),
        Family::Softmax => softmax::permute(graph, node, permutation),
        Family::Control | Family::Custom => None,
    }
}

enum Family {
    Activation,
    Cast,
    Control,
    Conv,
    Custom,
    Elementwise,
    Gather,
    Matmul,
    Pad,
    Pool,
    Reduce,
    Resize,
    Scatter,
    Selection,
    Shape,
    Slice,
    Softmax,
}

/// The file that knows an op.
fn family(op: &LiteOp) -> Family {
    match op {
        LiteOp::Unary(_) | LiteOp::LeakyRelu { .. } | LiteOp::Gelu { .. } | LiteOp::PRelu => {
            Family::Activation
        }
        LiteOp::Cast | LiteOp::Quantize | LiteOp::Dequantize => Family::Cast,
        LiteOp::Conv2D { .. }
        | LiteOp::DepthwiseConv2D { .. }
        | LiteOp::Conv3D { .. }
        | LiteOp::TransposeConv { .. } => Family::Conv,
        LiteOp::Binary { .. } | LiteOp::Select => Family::Elementwise,
        LiteOp::Gather { .. }
        | LiteOp::GatherNd
        | LiteOp::OneHot { .. }
        | LiteOp::Range
        | LiteOp::Fill => Family::Gather,
        LiteOp::ScatterNd | LiteOp::UnsortedSegment { .. } => Family::Scatter,
        LiteOp::Where | LiteOp::NonMaxSuppression => Family::Selection,
        LiteOp::Pad | LiteOp::MirrorPad { .. } => Family::Pad,
        LiteOp::FullyConnected { .. } | LiteOp::BatchMatMul { .. } => Family::Matmul,
        LiteOp::Pool2D { .. } | LiteOp::LocalResponseNormalization { .. } => Family::Pool,
        LiteOp::Reduce { .. }
        | LiteOp::ArgMax { .. }
        | LiteOp::ArgMin { .. }
        | LiteOp::CumSum { .. }
        | LiteOp::TopK => Family::Reduce,
        LiteOp::ResizeBilinear { .. }
        | LiteOp::ResizeNearest { .. }
        | LiteOp::DepthToSpace { .. }
        | LiteOp::SpaceToDepth { .. } => Family::Resize,
        LiteOp::Reshape
        | LiteOp::Transpose
        | LiteOp::Squeeze { .. }
        | LiteOp::ExpandDims
        | LiteOp::Shape { .. }
        | LiteOp::BroadcastTo
        | LiteOp::Tile => Family::Shape,
        LiteOp::Concatenation { .. }
        | LiteOp::Pack { .. }
        | LiteOp::Unpack { .. }
        | LiteOp::Split
        | LiteOp::SplitV
        | LiteOp::Slice
        | LiteOp::StridedSlice { .. }
        | LiteOp::Reverse
        | LiteOp::DynamicUpdateSlice => Family::Slice,
        LiteOp::Softmax { .. } | LiteOp::LogSoftmax => Family::Softmax,
        LiteOp::While { .. } | LiteOp::If { .. } => Family::Control,
        LiteOp::Custom { .. } => Family::Custom,
    }
}

/// The element type of input `index`, for choosing an operator's version.
fn input_element(graph: &Subgraph, node: &Node, index: usize) -> Option<ElementType> {
    node.inputs.get(index).copied().flatten().map(|t| graph.tensors[t].element)
}

/// An operator's version by the element type of what it works on; 1 for those not listed.
fn version_of(element: Option<ElementType>, versions: &[(ElementType, i32)]) -> i32 {
    let listed = versions.iter().find(|(listed, _)| Some(*listed) == element);
    listed.map_or(1, |&(_, version)| version)
}
