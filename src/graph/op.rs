//! The op vocabulary: closed, so that a new op makes the compiler list every place that must know it.

use super::ElementType;

/// What a TFLite op applies to its result before storing it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Activation {
    #[default]
    None,
    Relu,
    ReluN1To1,
    Relu6,
    Tanh,
    SignBit,
}

/// Elementwise ops of one operand.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum UnaryOp {
    Abs,
    Ceil,
    Cos,
    Exp,
    Floor,
    Log,
    Logistic,
    Neg,
    Relu,
    Relu6,
    ReluN1To1,
    Relu0To1,
    /// Half to even.
    Round,
    Rsqrt,
    Sin,
    Sqrt,
    Square,
    Tanh,
    HardSwish,
    Elu,
    Sign,
    LogicalNot,
}

/// Elementwise ops of two operands, broadcast as numpy does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Maximum,
    Minimum,
    Pow,
    SquaredDifference,
    FloorDiv,
    FloorMod,
    LogicalAnd,
    LogicalOr,
    /// The six comparisons give bool.
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    /// Of integers of up to 32 bits.
    BitwiseXor,
    /// The sign stays; by at least 0 and at most the width less one.
    RightShift,
    /// The angle of the point (y: first, x: second operand).
    Atan2,
}

/// Reductions over the axes of a constant int32 second input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    Sum,
    Mean,
    Max,
    Min,
    Product,
    Any,
    All,
}

/// How windows meet the border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Padding {
    /// As many results as inputs by stride, rounded up; an odd pixel of padding goes to the end.
    Same,
    /// No padding.
    Valid,
}

/// What a pooling window becomes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum PoolKind {
    /// Of the pixels inside the border only.
    Average,
    Max,
}

/// What MIRROR_PAD repeats at a border.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum MirrorMode {
    /// Without the border pixel.
    Reflect,
    /// With the border pixel.
    Symmetric,
}

/// One TFLite operation with its options.
#[derive(Debug, Clone, PartialEq)]
pub enum LiteOp {
    /// inputs `[x, weights (out × in), bias?]`.
    FullyConnected {
        activation: Activation,
        keep_num_dims: bool,
        /// Hybrid kernels only: quantize the float input with a zero point.
        asymmetric_quantize_inputs: bool,
    },
    /// inputs `[x, y]`; a flag swaps that operand's last two axes.
    BatchMatMul {
        transpose_x: bool,
        transpose_y: bool,
    },
    Unary(UnaryOp),
    LeakyRelu {
        alpha: f32,
    },
    Gelu {
        approximate: bool,
    },
    /// `activation` is carried by ADD, SUB, MUL and DIV only.
    Binary {
        op: BinaryOp,
        activation: Activation,
    },
    /// Over the last axis.
    Softmax {
        beta: f32,
    },
    /// Over the last axis.
    LogSoftmax,
    Reduce {
        op: ReduceOp,
        keep_dims: bool,
    },
    /// NHWC; inputs `[x, weights (out × h × w × in), bias (out)]`. `in` of the weights times the groups is the
    /// input's channels.
    Conv2D {
        padding: Padding,
        strides: [usize; 2],
        dilations: [usize; 2],
        activation: Activation,
    },
    /// NHWC; inputs `[x, weights (1 × h × w × channels·multiplier), bias]`.
    DepthwiseConv2D {
        padding: Padding,
        strides: [usize; 2],
        dilations: [usize; 2],
        multiplier: usize,
        activation: Activation,
    },
    /// NDHWC; inputs `[x, weights (d × h × w × in × out), bias]`.
    Conv3D {
        padding: Padding,
        strides: [usize; 3],
        dilations: [usize; 3],
        activation: Activation,
    },
    /// NHWC; inputs `[output shape (int32), weights (out × h × w × in), x, bias?]`.
    TransposeConv {
        padding: Padding,
        strides: [usize; 2],
        activation: Activation,
    },
    /// NHWC.
    Pool2D {
        kind: PoolKind,
        padding: Padding,
        strides: [usize; 2],
        filter: [usize; 2],
        activation: Activation,
    },
    /// Over the last axis: `x / (bias + alpha · Σ x²)^beta`, the sum over ±radius neighbours.
    LocalResponseNormalization {
        radius: usize,
        bias: f32,
        alpha: f32,
        beta: f32,
    },
    /// inputs `[x, slope]`, broadcast.
    PRelu,
    /// inputs `[condition (bool), x, y]`, broadcast.
    Select,
    /// inputs `[x, axis (int32 scalar)]` → index of the largest (smallest), the first of equals, as `element`.
    ArgMax {
        element: ElementType,
    },
    ArgMin {
        element: ElementType,
    },
    /// inputs `[x, axis (int32 scalar)]`.
    CumSum {
        exclusive: bool,
        reverse: bool,
    },
    /// inputs `[x, k (int32 scalar)]` → values and int32 indices over the last axis, the largest first.
    TopK,
    /// inputs `[x, shape (int32, one −1 allowed)]`.
    Reshape,
    /// inputs `[x, permutation (int32)]`.
    Transpose,
    /// The listed axes, which are 1, go; all such where none is listed.
    Squeeze {
        axes: Vec<i32>,
    },
    /// inputs `[x, axis (int32 scalar)]`.
    ExpandDims,
    /// The shape of x as `element` (int32 or int64).
    Shape {
        element: ElementType,
    },
    /// inputs `[x, shape]`.
    BroadcastTo,
    /// inputs `[x, repeats]`.
    Tile,
    /// Any number of inputs, along `axis`.
    Concatenation {
        axis: i32,
        activation: Activation,
    },
    /// Inputs become slices of a new `axis`.
    Pack {
        axis: i32,
    },
    /// The slices of `axis`, which goes, become outputs.
    Unpack {
        axis: i32,
    },
    /// inputs `[axis (int32 scalar), x]` → equal parts.
    Split,
    /// inputs `[x, sizes, axis (int32 scalar)]`.
    SplitV,
    /// inputs `[x, begin, size (−1: to the end)]`.
    Slice,
    /// inputs `[x, begin, end, strides]`; bit i of a mask is about axis i.
    StridedSlice {
        begin_mask: u32,
        end_mask: u32,
        shrink_axis_mask: u32,
        new_axis_mask: u32,
        ellipsis_mask: u32,
    },
    /// inputs `[x, paddings (rank × 2)]` with zeros, or with the third input's value.
    Pad,
    /// inputs `[x, paddings (rank × 2)]`.
    MirrorPad {
        mode: MirrorMode,
    },
    /// inputs `[x, axes (int32)]`.
    Reverse,
    /// inputs `[x, update, start (rank)]`: x with the update written over it, wholly inside.
    DynamicUpdateSlice,
    /// inputs `[x, indices]`.
    Gather {
        axis: i32,
        batch_dims: i32,
    },
    /// inputs `[x, indices (… × depth)]`.
    GatherNd,
    /// inputs `[indices, updates, shape]`; the rest is zero, updates of one place add up.
    ScatterNd,
    /// inputs `[values, segments (int32), count (int32 scalar)]` → of each segment the sum, product, largest or
    /// smallest; of none: 0, 1, the lowest or highest finite value.
    UnsortedSegment {
        op: ReduceOp,
    },
    /// inputs `[condition]` → the int64 coordinates (count × rank) of what is true.
    Where,
    /// inputs `[boxes (n × 4: y, x of two corners), scores (n), most (int32 scalar), overlap, score]` → int32
    /// indices (most), the best score first, and how many of them count. A box goes whose score is not above
    /// `score`, or whose intersection over union with a better one is at least `overlap`.
    NonMaxSuppression,
    /// inputs `[indices, depth (scalar), on, off]`.
    OneHot {
        axis: i32,
    },
    /// inputs `[start, limit, delta]`.
    Range,
    /// inputs `[shape, value (scalar)]`.
    Fill,
    /// NHWC; inputs `[x, size (int32 height, width)]`.
    ResizeBilinear {
        align_corners: bool,
        half_pixel_centers: bool,
    },
    /// NHWC; inputs `[x, size (int32 height, width)]`.
    ResizeNearest {
        align_corners: bool,
        half_pixel_centers: bool,
    },
    /// NHWC.
    DepthToSpace {
        block: usize,
    },
    /// NHWC.
    SpaceToDepth {
        block: usize,
    },
    /// To the output tensor's element type.
    Cast,
    /// Reals, or integers of another scale, to the output's integers.
    Quantize,
    /// Integers, or float16, to float32.
    Dequantize,
    /// Any number of states: the subgraph `body` runs on them for as long as `condition` of them holds.
    While {
        condition: usize,
        body: usize,
    },
    /// inputs `[condition (bool), …]`: the rest goes into one of two subgraphs.
    If {
        then_branch: usize,
        else_branch: usize,
    },
    /// An operation that the vocabulary does not know, kept as it came.
    Custom {
        code: String,
        version: i32,
        options: bytes::Bytes,
    },
}

impl Activation {
    /// The op that computes this activation by itself.
    pub fn as_unary(self) -> Option<UnaryOp> {
        match self {
            Activation::Relu => Some(UnaryOp::Relu),
            Activation::ReluN1To1 => Some(UnaryOp::ReluN1To1),
            Activation::Relu6 => Some(UnaryOp::Relu6),
            Activation::Tanh => Some(UnaryOp::Tanh),
            Activation::None | Activation::SignBit => None,
        }
    }
}

impl LiteOp {
    /// TFLite's name of the operation, `FULLY_CONNECTED`.
    pub fn name(&self) -> &str {
        match self {
            LiteOp::FullyConnected { .. } => "FULLY_CONNECTED",
            LiteOp::BatchMatMul { .. } => "BATCH_MATMUL",
            LiteOp::Unary(op) => op.name(),
            LiteOp::LeakyRelu { .. } => "LEAKY_RELU",
            LiteOp::Gelu { .. } => "GELU",
            LiteOp::Binary { op, .. } => op.name(),
            LiteOp::Softmax { .. } => "SOFTMAX",
            LiteOp::LogSoftmax => "LOG_SOFTMAX",
            LiteOp::Reduce { op, .. } => op.name(),
            LiteOp::Conv2D { .. } => "CONV_2D",
            LiteOp::DepthwiseConv2D { .. } => "DEPTHWISE_CONV_2D",
            LiteOp::Conv3D { .. } => "CONV_3D",
            LiteOp::TransposeConv { .. } => "TRANSPOSE_CONV",
            LiteOp::Pool2D { kind: PoolKind::Average, .. } => "AVERAGE_POOL_2D",
            LiteOp::Pool2D { kind: PoolKind::Max, .. } => "MAX_POOL_2D",
            LiteOp::LocalResponseNormalization { .. } => "LOCAL_RESPONSE_NORMALIZATION",
            LiteOp::PRelu => "PRELU",
            LiteOp::Select => "SELECT_V2",
            LiteOp::ArgMax { .. } => "ARG_MAX",
            LiteOp::ArgMin { .. } => "ARG_MIN",
            LiteOp::CumSum { .. } => "CUMSUM",
            LiteOp::TopK => "TOPK_V2",
            LiteOp::Reshape => "RESHAPE",
            LiteOp::Transpose => "TRANSPOSE",
            LiteOp::Squeeze { .. } => "SQUEEZE",
            LiteOp::ExpandDims => "EXPAND_DIMS",
            LiteOp::Shape { .. } => "SHAPE",
            LiteOp::BroadcastTo => "BROADCAST_TO",
            LiteOp::Tile => "TILE",
            LiteOp::Concatenation { .. } => "CONCATENATION",
            LiteOp::Pack { .. } => "PACK",
            LiteOp::Unpack { .. } => "UNPACK",
            LiteOp::Split => "SPLIT",
            LiteOp::SplitV => "SPLIT_V",
            LiteOp::Slice => "SLICE",
            LiteOp::StridedSlice { .. } => "STRIDED_SLICE",
            LiteOp::Pad => "PAD",
            LiteOp::MirrorPad { .. } => "MIRROR_PAD",
            LiteOp::Reverse => "REVERSE_V2",
            LiteOp::DynamicUpdateSlice => "DYNAMIC_UPDATE_SLICE",
            LiteOp::Gather { .. } => "GATHER",
            LiteOp::GatherNd => "GATHER_ND",
            LiteOp::ScatterNd => "SCATTER_ND",
            LiteOp::UnsortedSegment { op } => match op {
                ReduceOp::Product => "UNSORTED_SEGMENT_PROD",
                ReduceOp::Max => "UNSORTED_SEGMENT_MAX",
                ReduceOp::Min => "UNSORTED_SEGMENT_MIN",
                ReduceOp::Sum | ReduceOp::Mean | ReduceOp::Any | ReduceOp::All => {
                    "UNSORTED_SEGMENT_SUM"
                }
            },
            LiteOp::Where => "WHERE",
            LiteOp::NonMaxSuppression => "NON_MAX_SUPPRESSION_V4",
            LiteOp::OneHot { .. } => "ONE_HOT",
            LiteOp::Range => "RANGE",
            LiteOp::Fill => "FILL",
            LiteOp::ResizeBilinear { .. } => "RESIZE_BILINEAR",
            LiteOp::ResizeNearest { .. } => "RESIZE_NEAREST_NEIGHBOR",
            LiteOp::DepthToSpace { .. } => "DEPTH_TO_SPACE",
            LiteOp::SpaceToDepth { .. } => "SPACE_TO_DEPTH",
            LiteOp::Cast => "CAST",
            LiteOp::Quantize => "QUANTIZE",
            LiteOp::Dequantize => "DEQUANTIZE",
            LiteOp::While { .. } => "WHILE",
            LiteOp::If { .. } => "IF",
            LiteOp::Custom { code, .. } => code,
        }
    }

    /// The subgraphs that this op runs.
    pub fn subgraphs(&self) -> Vec<usize> {
        if let LiteOp::While { condition, body } = self {
            return vec![*condition, *body];
        }
        if let LiteOp::If { then_branch, else_branch } = self {
            return vec![*then_branch, *else_branch];
        }
        vec![]
    }

    /// The activation this op can carry, for fusing; `None` if it carries none at all.
    pub fn activation_mut(&mut self) -> Option<&mut Activation> {
        match self {
            LiteOp::FullyConnected { activation, .. }
            | LiteOp::Conv2D { activation, .. }
            | LiteOp::DepthwiseConv2D { activation, .. }
            | LiteOp::Conv3D { activation, .. }
            | LiteOp::TransposeConv { activation, .. }
            | LiteOp::Pool2D { activation, .. }
            | LiteOp::Concatenation { activation, .. } => Some(activation),
            LiteOp::Binary {
                op: BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Div,
                activation,
            } => Some(activation),
            LiteOp::Binary { .. }
            | LiteOp::BatchMatMul { .. }
            | LiteOp::Unary(_)
            | LiteOp::LeakyRelu { .. }
            | LiteOp::Gelu { .. }
            | LiteOp::Softmax { .. }
            | LiteOp::LogSoftmax
            | LiteOp::Reduce { .. }
            | LiteOp::LocalResponseNormalization { .. }
            | LiteOp::PRelu
            | LiteOp::Select
            | LiteOp::ArgMax { .. }
            | LiteOp::ArgMin { .. }
            | LiteOp::CumSum { .. }
            | LiteOp::TopK
            | LiteOp::Reshape
            | LiteOp::Transpose
            | LiteOp::Squeeze { .. }
            | LiteOp::ExpandDims
            | LiteOp::Shape { .. }
            | LiteOp::BroadcastTo
            | LiteOp::Tile
            | LiteOp::Pack { .. }
            | LiteOp::Unpack { .. }
            | LiteOp::Split
            | LiteOp::SplitV
            | LiteOp::Slice
            | LiteOp::StridedSlice { .. }
            | LiteOp::Pad
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
            | LiteOp::ResizeBilinear { .. }
            | LiteOp::ResizeNearest { .. }
            | LiteOp::DepthToSpace { .. }
            | LiteOp::SpaceToDepth { .. }
            | LiteOp::Cast
            | LiteOp::Quantize
            | LiteOp::Dequantize
            | LiteOp::While { .. }
            | LiteOp::If { .. }
            | LiteOp::Custom { .. } => None,
        }
    }
}

impl UnaryOp {
    pub const ALL: [UnaryOp; 22] = [
        UnaryOp::Abs,
        UnaryOp::Ceil,
        UnaryOp::Cos,
        UnaryOp::Exp,
        UnaryOp::Floor,
        UnaryOp::Log,
        UnaryOp::Logistic,
        UnaryOp::Neg,
        UnaryOp::Relu,
        UnaryOp::Relu6,
        UnaryOp::ReluN1To1,
        UnaryOp::Relu0To1,
        UnaryOp::Round,
        UnaryOp::Rsqrt,
        UnaryOp::Sin,
        UnaryOp::Sqrt,
        UnaryOp::Square,
        UnaryOp::Tanh,
        UnaryOp::HardSwish,
        UnaryOp::Elu,
        UnaryOp::Sign,
        UnaryOp::LogicalNot,
    ];

    pub fn name(self) -> &'static str {
        match self {
            UnaryOp::Abs => "ABS",
            UnaryOp::Ceil => "CEIL",
            UnaryOp::Cos => "COS",
            UnaryOp::Exp => "EXP",
            UnaryOp::Floor => "FLOOR",
            UnaryOp::Log => "LOG",
            UnaryOp::Logistic => "LOGISTIC",
            UnaryOp::Neg => "NEG",
            UnaryOp::Relu => "RELU",
            UnaryOp::Relu6 => "RELU6",
            UnaryOp::ReluN1To1 => "RELU_N1_TO_1",
            UnaryOp::Relu0To1 => "RELU_0_TO_1",
            UnaryOp::Round => "ROUND",
            UnaryOp::Rsqrt => "RSQRT",
            UnaryOp::Sin => "SIN",
            UnaryOp::Sqrt => "SQRT",
            UnaryOp::Square => "SQUARE",
            UnaryOp::Tanh => "TANH",
            UnaryOp::HardSwish => "HARD_SWISH",
            UnaryOp::Elu => "ELU",
            UnaryOp::Sign => "SIGN",
            UnaryOp::LogicalNot => "LOGICAL_NOT",
        }
    }
}

impl BinaryOp {
    pub const ALL: [BinaryOp; 21] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Maximum,
        BinaryOp::Minimum,
        BinaryOp::Pow,
        BinaryOp::SquaredDifference,
        BinaryOp::FloorDiv,
        BinaryOp::FloorMod,
        BinaryOp::LogicalAnd,
        BinaryOp::LogicalOr,
        BinaryOp::Equal,
        BinaryOp::NotEqual,
        BinaryOp::Less,
        BinaryOp::LessEqual,
        BinaryOp::Greater,
        BinaryOp::GreaterEqual,
        BinaryOp::BitwiseXor,
        BinaryOp::RightShift,
        BinaryOp::Atan2,
    ];

    pub fn name(self) -> &'static str {
        match self {
            BinaryOp::Add => "ADD",
            BinaryOp::Sub => "SUB",
            BinaryOp::Mul => "MUL",
            BinaryOp::Div => "DIV",
            BinaryOp::Maximum => "MAXIMUM",
            BinaryOp::Minimum => "MINIMUM",
            BinaryOp::Pow => "POW",
            BinaryOp::SquaredDifference => "SQUARED_DIFFERENCE",
            BinaryOp::FloorDiv => "FLOOR_DIV",
            BinaryOp::FloorMod => "FLOOR_MOD",
            BinaryOp::LogicalAnd => "LOGICAL_AND",
            BinaryOp::LogicalOr => "LOGICAL_OR",
            BinaryOp::Equal => "EQUAL",
            BinaryOp::NotEqual => "NOT_EQUAL",
            BinaryOp::Less => "LESS",
            BinaryOp::LessEqual => "LESS_EQUAL",
            BinaryOp::Greater => "GREATER",
            BinaryOp::GreaterEqual => "GREATER_EQUAL",
            BinaryOp::BitwiseXor => "BITWISE_XOR",
            BinaryOp::RightShift => "RIGHT_SHIFT",
            BinaryOp::Atan2 => "ATAN2",
        }
    }
}

impl ReduceOp {
    pub const ALL: [ReduceOp; 7] = [
        ReduceOp::Sum,
        ReduceOp::Mean,
        ReduceOp::Max,
        ReduceOp::Min,
        ReduceOp::Product,
        ReduceOp::Any,
        ReduceOp::All,
    ];

    pub fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "SUM",
            ReduceOp::Mean => "MEAN",
            ReduceOp::Max => "REDUCE_MAX",
            ReduceOp::Min => "REDUCE_MIN",
            ReduceOp::Product => "REDUCE_PROD",
            ReduceOp::Any => "REDUCE_ANY",
            ReduceOp::All => "REDUCE_ALL",
        }
    }
}
