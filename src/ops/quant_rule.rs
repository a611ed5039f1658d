//! What each op asks of the integers that stand for its floats: TFLite's 8-bit and 16×8 specifications as one table.
//!
//! Source: LiteRT's "8-bit quantization specification" and the types that its kernels register.

use crate::graph::{BinaryOp, LiteOp, ReduceOp, UnaryOp};

/// How the float operands and results of an op become integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuantRule {
    /// A sum of products with constant weights: these are symmetric, with a scale for each slice of `axis` where
    /// the scheme has one a channel; the bias has the scale of the input times that of the weights. All numbers
    /// are operands' places.
    Weighted { input: usize, weights: usize, bias: usize, axis: usize },
    /// Each operand and result has a scale of its own.
    OwnScales,
    /// Operands and results have one scale and zero point in common.
    OneScale,
    /// As `OwnScales`; the result's scale is given by what the op computes.
    Fixed(FixedRange),
    /// There is no integer form; the reason.
    FloatOnly(&'static str),
}

/// Results whose range does not depend on the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FixedRange {
    /// 0 to 1.
    Probability,
    /// −1 to 1.
    SignedUnit,
    /// −16 to 0.
    LogProbability,
}

impl FixedRange {
    /// Scale and zero point in int8.
    pub fn int8(self) -> (f32, i64) {
        match self {
            FixedRange::Probability => (1.0 / 256.0, -128),
            FixedRange::SignedUnit => (1.0 / 128.0, 0),
            FixedRange::LogProbability => (16.0 / 256.0, 127),
        }
    }

    /// Scale and zero point in int16.
    pub fn int16(self) -> (f32, i64) {
        match self {
            FixedRange::Probability | FixedRange::SignedUnit => (1.0 / 32768.0, 0),
            FixedRange::LogProbability => (16.0 / 65536.0, 32767),
        }
    }
}

/// Integers that activations can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ActivationType {
    /// Asymmetric.
    Int8,
    /// Symmetric, beside int8 weights.
    Int16,
}

const NO_FORM: &str = "TFLite has no integer form of it";

/// The rule of an op that works on floats.
pub fn quant_rule(op: &LiteOp, activations: ActivationType) -> QuantRule {
    use QuantRule::{Fixed, FloatOnly, OneScale, OwnScales, Weighted};
    let rule = match op {
        LiteOp::FullyConnected { .. } | LiteOp::Conv2D { .. } => {
            Weighted { input: 0, weights: 1, bias: 2, axis: 0 }
        }
        LiteOp::DepthwiseConv2D { .. } => Weighted { input: 0, weights: 1, bias: 2, axis: 3 },
        LiteOp::TransposeConv { .. } => Weighted { input: 2, weights: 1, bias: 3, axis: 0 },
        LiteOp::BatchMatMul { .. } => OwnScales,
        LiteOp::Unary(op) => match op {
            UnaryOp::Logistic => Fixed(FixedRange::Probability),
            UnaryOp::Tanh => Fixed(FixedRange::SignedUnit),
            UnaryOp::Abs
            | UnaryOp::Exp
            | UnaryOp::Log
            | UnaryOp::Rsqrt
            | UnaryOp::Relu
            | UnaryOp::Relu6
            | UnaryOp::ReluN1To1
            | UnaryOp::Relu0To1
            | UnaryOp::HardSwish
            | UnaryOp::Elu => OwnScales,
            UnaryOp::Ceil
            | UnaryOp::Cos
            | UnaryOp::Floor
            | UnaryOp::Neg
            | UnaryOp::Round
            | UnaryOp::Sin
            | UnaryOp::Sqrt
            | UnaryOp::Square
            | UnaryOp::Sign
            | UnaryOp::LogicalNot => FloatOnly(NO_FORM),
        },
        LiteOp::LeakyRelu { .. } | LiteOp::Gelu { .. } | LiteOp::PRelu => OwnScales,
        LiteOp::Binary { op, .. } => match op {
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::SquaredDifference => {
                OwnScales
            }
            BinaryOp::Equal
            | BinaryOp::NotEqual
            | BinaryOp::Less
            | BinaryOp::LessEqual
            | BinaryOp::Greater
            | BinaryOp::GreaterEqual => {
                FloatOnly("a comparison of rounded numbers may come out otherwise")
            }
            BinaryOp::Maximum | BinaryOp::Minimum => OneScale,
            BinaryOp::Div
            | BinaryOp::Pow
            | BinaryOp::FloorDiv
            | BinaryOp::FloorMod
            | BinaryOp::LogicalAnd
            | BinaryOp::LogicalOr
            | BinaryOp::BitwiseXor
            | BinaryOp::RightShift
            | BinaryOp::Atan2 => FloatOnly(NO_FORM),
        },
        LiteOp::Softmax { .. } => Fixed(FixedRange::Probability),
        LiteOp::LogSoftmax => Fixed(FixedRange::LogProbability),
        LiteOp::Reduce { op, .. } => match op {
            ReduceOp::Mean | ReduceOp::Sum => OwnScales,
            ReduceOp::Max | ReduceOp::Min => OneScale,
            ReduceOp::Product | ReduceOp::Any | ReduceOp::All => FloatOnly(NO_FORM),
        },
        LiteOp::Pool2D { .. }
        | LiteOp::Reshape
        | LiteOp::Transpose
        | LiteOp::Squeeze { .. }
        | LiteOp::ExpandDims
        | LiteOp::BroadcastTo
        | LiteOp::Tile
        | LiteOp::Concatenation { .. }
        | LiteOp::Pack { .. }
        | LiteOp::Unpack { .. }
        | LiteOp::Split
        | LiteOp::SplitV
        | LiteOp::Slice
        | LiteOp::StridedSlice { .. }
        | LiteOp::Pad
        | LiteOp::MirrorPad { .. }
        | LiteOp::Reverse
        | LiteOp::Gather { .. }
        | LiteOp::GatherNd
        | LiteOp::Select
        | LiteOp::ResizeBilinear { .. }
        | LiteOp::ResizeNearest { .. }
        | LiteOp::DepthToSpace { .. }
        | LiteOp::SpaceToDepth { .. }
        | LiteOp::DynamicUpdateSlice
        | LiteOp::TopK => OneScale,
        LiteOp::ArgMax { .. } | LiteOp::ArgMin { .. } => OwnScales,
        LiteOp::ScatterNd | LiteOp::UnsortedSegment { .. } => {
            FloatOnly("it adds up numbers whose zero is not 0")
        }
        LiteOp::Shape { .. }
        | LiteOp::Conv3D { .. }
        | LiteOp::LocalResponseNormalization { .. }
        | LiteOp::CumSum { .. }
        | LiteOp::Where
        | LiteOp::NonMaxSuppression
        | LiteOp::OneHot { .. }
        | LiteOp::Range
        | LiteOp::Fill => FloatOnly(NO_FORM),
        LiteOp::Cast | LiteOp::Quantize | LiteOp::Dequantize => FloatOnly("it changes the type"),
        LiteOp::While { .. } | LiteOp::If { .. } => FloatOnly("its subgraphs stay float32"),
        LiteOp::Custom { .. } => FloatOnly("what a custom op takes is not known"),
    };
    match (activations, rule) {
        (_, FloatOnly(_)) | (ActivationType::Int8, _) => rule,
        (ActivationType::Int16, _) if has_int16_form(op) => rule,
        (ActivationType::Int16, _) => FloatOnly("TFLite has no int16 form of it"),
    }
}

/// Whether LiteRT has a kernel for int16 activations.
fn has_int16_form(op: &LiteOp) -> bool {
    match op {
        LiteOp::Unary(op) => matches!(
            op,
            UnaryOp::Logistic | UnaryOp::Tanh | UnaryOp::Relu | UnaryOp::Relu6 | UnaryOp::Abs
        ),
        LiteOp::Binary { op, .. } => matches!(
            op,
            BinaryOp::Add | BinaryOp::Sub | BinaryOp::Mul | BinaryOp::Maximum | BinaryOp::Minimum
        ),
        LiteOp::Reduce { op, .. } => *op == ReduceOp::Mean,
        LiteOp::FullyConnected { .. }
        | LiteOp::BatchMatMul { .. }
        | LiteOp::Conv2D { .. }
        | LiteOp::DepthwiseConv2D { .. }
        | LiteOp::TransposeConv { .. }
        | LiteOp::LeakyRelu { .. }
        | LiteOp::Softmax { .. }
        | LiteOp::Pool2D { .. }
        | LiteOp::Reshape
        | LiteOp::Transpose
        | LiteOp::Squeeze { .. }
        | LiteOp::ExpandDims
        | LiteOp::Concatenation { .. }
        | LiteOp::Pack { .. }
        | LiteOp::Unpack { .. }
        | LiteOp::Split
        | LiteOp::SplitV
        | LiteOp::Slice
        | LiteOp::StridedSlice { .. }
        | LiteOp::Pad
        | LiteOp::Gather { .. }
        | LiteOp::ResizeBilinear { .. }
        | LiteOp::ResizeNearest { .. } => true,
        LiteOp::Gelu { .. }
        | LiteOp::PRelu
        | LiteOp::LogSoftmax
        | LiteOp::BroadcastTo
        | LiteOp::Tile
        | LiteOp::MirrorPad { .. }
        | LiteOp::GatherNd
        | LiteOp::Select
        | LiteOp::DepthToSpace { .. }
        | LiteOp::SpaceToDepth { .. }
        | LiteOp::ArgMax { .. }
        | LiteOp::ArgMin { .. }
        | LiteOp::DynamicUpdateSlice
        | LiteOp::Reverse
        | LiteOp::TopK
        | LiteOp::ScatterNd
        | LiteOp::UnsortedSegment { .. }
        | LiteOp::Shape { .. }
        | LiteOp::Conv3D { .. }
        | LiteOp::LocalResponseNormalization { .. }
        | LiteOp::CumSum { .. }
        | LiteOp::Where
        | LiteOp::NonMaxSuppression
        | LiteOp::OneHot { .. }
        | LiteOp::Range
        | LiteOp::Fill
        | LiteOp::Cast
        | LiteOp::Quantize
        | LiteOp::Dequantize
        | LiteOp::While { .. }
        | LiteOp::If { .. }
        | LiteOp::Custom { .. } => false,
    }
}
