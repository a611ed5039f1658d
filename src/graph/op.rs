//! The op vocabulary: closed, so that a new op makes the compiler list every place that must know it.

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
}

/// Reductions over the axes of a constant int32 second input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ReduceOp {
    Sum,
    Mean,
    Max,
    Min,
    Product,
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
    /// inputs `[x, shape (int32, one −1 allowed)]`.
    Reshape,
    /// inputs `[x, permutation (int32)]`.
    Transpose,
    /// Integer, or float16 constant, to float32.
    Dequantize,
    /// An operation that the vocabulary does not know, kept as it came.
    Custom {
        code: String,
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
            LiteOp::Reshape => "RESHAPE",
            LiteOp::Transpose => "TRANSPOSE",
            LiteOp::Dequantize => "DEQUANTIZE",
            LiteOp::Custom { code, .. } => code,
        }
    }

    /// The activation this op can carry, for fusing; `None` if it carries none at all.
    pub fn activation_mut(&mut self) -> Option<&mut Activation> {
        match self {
            LiteOp::FullyConnected { activation, .. } => Some(activation),
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
            | LiteOp::Reshape
            | LiteOp::Transpose
            | LiteOp::Dequantize
            | LiteOp::Custom { .. } => None,
        }
    }
}

impl UnaryOp {
    pub const ALL: [UnaryOp; 19] = [
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
        }
    }
}

impl BinaryOp {
    pub const ALL: [BinaryOp; 8] = [
        BinaryOp::Add,
        BinaryOp::Sub,
        BinaryOp::Mul,
        BinaryOp::Div,
        BinaryOp::Maximum,
        BinaryOp::Minimum,
        BinaryOp::Pow,
        BinaryOp::SquaredDifference,
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
        }
    }
}

impl ReduceOp {
    pub const ALL: [ReduceOp; 5] =
        [ReduceOp::Sum, ReduceOp::Mean, ReduceOp::Max, ReduceOp::Min, ReduceOp::Product];

    pub fn name(self) -> &'static str {
        match self {
            ReduceOp::Sum => "SUM",
            ReduceOp::Mean => "MEAN",
            ReduceOp::Max => "REDUCE_MAX",
            ReduceOp::Min => "REDUCE_MIN",
            ReduceOp::Product => "REDUCE_PROD",
        }
    }
}
