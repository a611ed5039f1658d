//! The oldest TFLite runtime that knows an operator's version (TensorFlow `runtime_version.cc`).

use crate::format::tflite::BuiltinOperator as Op;

/// Major, minor, patch. What is not listed has been there since 1.14.
pub fn oldest_runtime(builtin: Op, version: i32) -> (u32, u32, u32) {
    match (builtin, version) {
        (Op::BATCH_MATMUL, _) => (2, 3, 0),
        (Op::FULLY_CONNECTED, 5) => (2, 0, 0),
        (Op::FULLY_CONNECTED, 6) => (2, 1, 0),
        (Op::FULLY_CONNECTED, 7..=9) => (2, 3, 0),
        (Op::FULLY_CONNECTED, 10) => (2, 11, 0),
        (Op::FULLY_CONNECTED, 11) => (2, 15, 0),
        (Op::FULLY_CONNECTED, 12) => (2, 17, 0),
        (Op::SUB | Op::MAXIMUM | Op::MINIMUM, 3) | (Op::DIV, 2) => (2, 3, 0),
        (Op::TRANSPOSE, 4) => (2, 3, 0),
        (Op::TRANSPOSE, 6) => (2, 12, 0),
        (Op::TRANSPOSE, 8) => (2, 22, 0),
        (Op::CONV_2D, 4 | 5) => (2, 4, 0),
        (Op::CONV_2D, 6) => (2, 9, 0),
        (Op::DEPTHWISE_CONV_2D, 5 | 6) => (2, 3, 0),
        (Op::TRANSPOSE_CONV, 2) => (2, 2, 0),
        (Op::TRANSPOSE_CONV, 3) => (2, 3, 0),
        (Op::TRANSPOSE_CONV, 4) => (2, 13, 0),
        (Op::CONV_3D, _) => (2, 5, 0),
        (Op::HARD_SWISH, _) => (1, 15, 0),
        (Op::DEQUANTIZE, 3) => (1, 15, 0),
        (Op::GELU, _) => (2, 9, 0),
        (Op::RELU_0_TO_1, _) => (2, 10, 0),
        _ => (1, 14, 0),
    }
}
