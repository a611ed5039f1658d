//! Multiply-accumulates of a model's products and convolutions.
//!
//! One multiplication with its addition counts once; biases, activations, pools and everything elementwise
//! count nothing, zeros of a padding count as any other value. A batch that is open counts as 1. So:
//!
//! | op | multiply-accumulates |
//! |---|---|
//! | convolution, depthwise and grouped ones too | elements of the output × weights of one output channel |
//! | transposed convolution | elements of the input × weights of one input channel |
//! | product of matrices, fully connected | elements of the output × length of the inner axis |
//!
//! Published figures are often of these ("FLOPs" in papers), sometimes the double of them.

use crate::format::tflite::{self, BuiltinOperator, BuiltinOptions, Operator};
use crate::tract::pb;
use std::collections::HashMap;

/// Multiply-accumulates of one op; `None` where the shapes do not tell.
pub type Macs = Option<u64>;

/// Dimensions for a batch of one; open ones are `None`.
pub type Shape = Vec<Option<usize>>;

/// Of an operator of a file whose tensors have these shapes; 0 where it is no product.
pub fn of_operator(file: &tflite::Model, shapes: &[Shape], operator: &Operator) -> Macs {
    let shape = |ids: &[i32], place: usize| {
        shapes.get(usize::try_from(*ids.get(place)?).ok()?).map(Vec::as_slice)
    };
    let input = |place: usize| shape(&operator.inputs, place);
    let output = || shape(&operator.outputs, 0);
    let (of, with) = match file.operator_code(operator).builtin_code {
        BuiltinOperator::CONV_2D | BuiltinOperator::FULLY_CONNECTED => {
            (output()?, input(1)?.get(1..)?)
        }
        BuiltinOperator::DEPTHWISE_CONV_2D => (output()?, input(1)?.get(1..3)?),
        BuiltinOperator::CONV_3D => (output()?, input(1)?.get(..4)?),
        BuiltinOperator::TRANSPOSE_CONV => (input(2)?, input(1)?.get(..3)?),
        BuiltinOperator::BATCH_MATMUL => {
            let transposed = match &operator.builtin_options {
                BuiltinOptions::BatchMatMul(options) => options.adj_x,
                _ => false,
            };
            let x = input(0)?;
            let inner = x.len().checked_sub(if transposed { 2 } else { 1 })?;
            (output()?, x.get(inner..=inner)?)
        }
        _ => return Some(0),
    };
    product(of)?.checked_mul(product(with)?)
}

/// The shapes as the file has them, an open batch being 1.
pub fn shapes_of_file(graph: &tflite::SubGraph) -> Vec<Shape> {
    let shape = |tensor: &tflite::Tensor| {
        let open = |axis| axis > 0 && tensor.shape_signature.get(axis).is_some_and(|&d| d < 0);
        let dims = tensor.shape.iter().enumerate();
        dims.map(|(axis, &d)| usize::try_from(d).ok().filter(|_| !open(axis))).collect()
    };
    graph.tensors.iter().map(shape).collect()
}

fn product(dims: &[Option<usize>]) -> Option<u64> {
    dims.iter().try_fold(1u64, |product, &d| product.checked_mul(d? as u64))
}

/// Of a node of an ONNX graph whose values have these shapes; 0 where it is no product.
pub fn of_node(node: &pb::NodeProto, shapes: &HashMap<String, Shape>) -> Macs {
    let input = |place: usize| shapes.get(node.input.get(place)?).map(Vec::as_slice);
    let output = || shapes.get(node.output.first()?).map(Vec::as_slice);
    let (of, with) = match node.op_type.as_str() {
        "Conv" | "ConvInteger" => (output()?, input(1)?.get(1..)?),
        "QLinearConv" => (output()?, input(3)?.get(1..)?),
        "ConvTranspose" => (input(0)?, input(1)?.get(1..)?),
        "MatMul" | "MatMulInteger" | "QLinearMatMul" => {
            let a = input(0)?;
            (output()?, a.get(a.len().checked_sub(1)?..)?)
        }
        "Gemm" => {
            let transposed = node.attribute.iter().any(|a| a.name == "transA" && a.i != 0);
            let inner = if transposed { 0 } else { 1 };
            (output()?, input(0)?.get(inner..=inner)?)
        }
        _ => return Some(0),
    };
    product(of)?.checked_mul(product(with)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn onnx(op: &str, inputs: &[&[usize]], output: &[usize]) -> Macs {
        // 0 stands for an open dimension
        let dims = |shape: &[usize]| shape.iter().map(|&d| Some(d).filter(|&d| d > 0)).collect();
        let names: Vec<String> = (0..inputs.len()).map(|i| format!("x{i}")).collect();
        let inputs = names.iter().zip(inputs).map(|(name, shape)| (name.clone(), dims(shape)));
        let shapes = inputs.chain([("y".to_string(), dims(output))]).collect();
        let node = pb::NodeProto {
            op_type: op.into(),
            input: names,
            output: vec!["y".into()],
            ..Default::default()
        };
        of_node(&node, &shapes)
    }

    #[test]
    fn nodes_count_as_a_hand_calculation() {
        // ResNet's first layer: 112·112·64 places, each of 7·7·3
        let first = onnx("Conv", &[&[1, 3, 224, 224], &[64, 3, 7, 7]], &[1, 64, 112, 112]);
        assert_eq!(first, Some(118_013_952));
        // depthwise: 32 channels of 3·3
        assert_eq!(onnx("Conv", &[&[1, 32, 8, 8], &[32, 1, 3, 3]], &[1, 32, 6, 6]), Some(10_368));
        let transposed = onnx("ConvTranspose", &[&[1, 4, 5, 5], &[4, 2, 3, 3]], &[1, 2, 7, 7]);
        assert_eq!(transposed, Some(1_800));
        assert_eq!(onnx("MatMul", &[&[2, 5, 7], &[7, 3]], &[2, 5, 3]), Some(210));
        assert_eq!(onnx("Gemm", &[&[1, 2048], &[2048, 1000]], &[1, 1000]), Some(2_048_000));
        assert_eq!(onnx("Relu", &[&[9]], &[9]), Some(0));
    }

    #[test]
    fn what_shapes_do_not_tell_is_unknown() {
        assert_eq!(onnx("MatMul", &[&[1, 7], &[7, 3]], &[0, 3]), None);
        assert_eq!(onnx("Conv", &[&[1, 3]], &[1, 64]), None);
        assert_eq!(onnx("MatMul", &[&[], &[7, 3]], &[1]), None);
        assert_eq!(onnx("MatMul", &[&[1, usize::MAX], &[1]], &[usize::MAX]), None);
    }
}
