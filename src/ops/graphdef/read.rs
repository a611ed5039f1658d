//! TensorFlow's op → lite ops: the one table, and the family that knows each.

use super::*;

type Reader = fn(&mut GraphDefReader, &GraphDefInput) -> Result<Vec<TensorId>>;

const READERS: [(&[&str], Reader); 16] = [
    (
        &[
            "Abs",
            "Ceil",
            "Cos",
            "Exp",
            "Floor",
            "Log",
            "Sigmoid",
            "Neg",
            "Relu",
            "Relu6",
            "Round",
            "Rint",
            "Rsqrt",
            "Sin",
            "Sqrt",
            "Square",
            "Tanh",
            "Elu",
            "Sign",
            "LogicalNot",
            "LeakyRelu",
            "Prelu",
            "Selu",
            "Softplus",
            "Softsign",
            "Erf",
            "Erfc",
            "Reciprocal",
            "Inv",
            "Log1p",
            "Expm1",
            "ClipByValue",
            "ZerosLike",
            "OnesLike",
        ],
        activation::read,
    ),
    (&["Cast"], cast::read),
    (
        &[
            "Conv2D",
            "DepthwiseConv2dNative",
            "Conv2DBackpropInput",
            "Conv3D",
            "_FusedConv2D",
            "FusedConv2D",
            "FusedDepthwiseConv2dNative",
            "_FusedDepthwiseConv2dNative",
        ],
        conv::read,
    ),
    (&["SpaceToBatchND", "BatchToSpaceND"], blocks::read),
    (
        &[
            "Add",
            "AddV2",
            "BiasAdd",
            "BiasAddV1",
            "Sub",
            "Mul",
            "RealDiv",
            "Div",
            "TruncateDiv",
            "Maximum",
            "Minimum",
            "Pow",
            "SquaredDifference",
            "FloorDiv",
            "FloorMod",
            "LogicalAnd",
            "LogicalOr",
            "Equal",
            "NotEqual",
            "Less",
            "LessEqual",
            "Greater",
            "GreaterEqual",
            "BitwiseXor",
            "RightShift",
            "Atan2",
            "AddN",
            "Select",
            "SelectV2",
            "FusedBatchNorm",
            "FusedBatchNormV2",
            "FusedBatchNormV3",
        ],
        elementwise::read,
    ),
    (
        &[
            "GatherV2",
            "Gather",
            "ResourceGather",
            "GatherNd",
            "OneHot",
            "Range",
            "Fill",
            "ScatterNd",
            "UnsortedSegmentSum",
            "UnsortedSegmentProd",
            "UnsortedSegmentMax",
            "UnsortedSegmentMin",
        ],
        gather::read,
    ),
    (&["MatMul", "BatchMatMul", "BatchMatMulV2", "BatchMatMulV3", "_FusedMatMul"], matmul::read),
    (&["Einsum"], einsum::read),
    (&["Pad", "PadV2", "MirrorPad"], pad::read),
    (&["MaxPool", "MaxPoolV2", "AvgPool", "LRN"], pool::read),
    (
        &[
            "Sum", "Mean", "Max", "Min", "Prod", "Any", "All", "ArgMax", "ArgMin", "Cumsum",
            "TopKV2",
        ],
        reduce::read,
    ),
    (&["ResizeBilinear", "ResizeNearestNeighbor", "DepthToSpace", "SpaceToDepth"], resize::read),
    (&["Where", "NonMaxSuppressionV4"], selection::read),
    (
        &[
            "Reshape",
            "Squeeze",
            "ExpandDims",
            "Transpose",
            "Shape",
            "ShapeN",
            "Rank",
            "Size",
            "BroadcastTo",
            "Tile",
        ],
        shape::read,
    ),
    (
        &[
            "ConcatV2",
            "Concat",
            "Pack",
            "Unpack",
            "Split",
            "SplitV",
            "Slice",
            "StridedSlice",
            "ReverseV2",
        ],
        slice::read,
    ),
    (&["Softmax", "LogSoftmax"], softmax::read),
];

fn reader(op: &str) -> Option<Reader> {
    READERS.iter().find(|(ops, _)| ops.contains(&op)).map(|(_, reader)| *reader)
}

/// Whether there is a lite form of a TensorFlow op at all.
pub fn reads_graphdef(op: &str) -> bool {
    reader(op).is_some()
}

/// Adds what one of TensorFlow's nodes computes; a tensor for each of its outputs.
///
/// # Errors
/// Why it has no lite form.
pub fn read_graphdef(ctx: &mut GraphDefReader, node: &GraphDefInput) -> Result<Vec<TensorId>> {
    let reader = reader(node.op).context("it is not among the ops that can be read")?;
    ctx.begin(node.name);
    let first = ctx.graph.tensors.len();
    let outputs = reader(ctx, node)?;
    ctx.end(node.name, &outputs, first);
    Ok(outputs)
}

/// Where the first value of an op's output `argument` is among all of its outputs.
pub fn output_place(op: &str, argument: &str) -> usize {
    const NORMALIZATION: [&str; 6] = [
        "y",
        "batch_mean",
        "batch_variance",
        "reserve_space_1",
        "reserve_space_2",
        "reserve_space_3",
    ];
    let listed: &[&str] = match op {
        "TopKV2" | "TopK" => &["values", "indices"],
        "FusedBatchNorm" | "FusedBatchNormV2" | "FusedBatchNormV3" => &NORMALIZATION,
        "NonMaxSuppressionV4" => &["selected_indices", "valid_outputs"],
        "NonMaxSuppressionV5" => &["selected_indices", "selected_scores", "valid_outputs"],
        "MaxPoolWithArgmax" => &["output", "argmax"],
        "Switch" => &["output_false", "output_true"],
        "Merge" => &["output", "value_index"],
        "Unique" | "UniqueV2" => &["y", "idx"],
        _ => &[],
    };
    listed.iter().position(|name| *name == argument).unwrap_or(0)
}
