use std::io;

use super::*;
use crate::format::flatbuffer::{FlatbufferError, TableValue};

fn le<const N: usize>(values: &[[u8; N]]) -> Bytes {
    Bytes::from(values.concat())
}

fn tensor(name: &str, shape: &[i32], buffer: u32) -> Tensor {
    Tensor { name: name.into(), shape: shape.to_vec(), buffer, has_rank: true, ..Tensor::default() }
}

/// input [N, 2] → FULLY_CONNECTED → a custom operator, with something in every field.
fn small_model() -> Model {
    let mut input = tensor("input", &[1, 2], 0);
    input.shape_signature = vec![-1, 2];
    let mut weights = tensor("weights", &[3, 2], 1);
    weights.tensor_type = TensorType::Int8;
    weights.quantization = Some(QuantizationParameters {
        min: vec![-1.0],
        max: vec![1.0],
        scale: vec![0.5, 0.25, 0.125],
        zero_point: vec![0, 0, 0],
        ..QuantizationParameters::default()
    });
    let mut packed = tensor("packed", &[5], 3);
    packed.tensor_type = TensorType::Int4;
    packed.quantization = Some(QuantizationParameters {
        details: QuantizationDetails::Blockwise(BlockwiseQuantization {
            scales: 2,
            zero_points: -1,
            block_size: 32,
            block_shape: vec![1, 32],
        }),
        ..QuantizationParameters::default()
    });
    let mut variant = tensor("variant", &[], 0);
    variant.tensor_type = TensorType::Variant;
    variant.is_variable = true;
    variant.variant_tensors =
        vec![VariantSubType { shape: vec![2], tensor_type: TensorType::Int64, has_rank: true }];
    let main = SubGraph {
        tensors: vec![
            input,
            weights,
            tensor("bias", &[3], 2),
            tensor("output", &[1, 3], 0),
            packed,
            variant,
        ],
        inputs: vec![0],
        outputs: vec![3],
        operators: vec![
            Operator {
                inputs: vec![0, 1, -1],
                outputs: vec![3],
                builtin_options: BuiltinOptions::FullyConnected(FullyConnectedOptions {
                    fused_activation_function: ActivationFunctionType::Relu,
                    keep_num_dims: true,
                    ..FullyConnectedOptions::default()
                }),
                mutating_variable_inputs: vec![false, false, true],
                intermediates: vec![4, -1],
                ..Operator::default()
            },
            Operator {
                opcode_index: 1,
                inputs: vec![5],
                outputs: vec![5],
                custom_options: Bytes::from_static(b"flex"),
                ..Operator::default()
            },
        ],
        name: "main".into(),
    };
    Model {
        operator_codes: vec![
            OperatorCode {
                builtin_code: BuiltinOperator::FULLY_CONNECTED,
                custom_code: String::new(),
                version: 4,
            },
            OperatorCode {
                builtin_code: BuiltinOperator::CUSTOM,
                custom_code: "Mine".into(),
                version: 1,
            },
            OperatorCode {
                builtin_code: BuiltinOperator::GELU,
                custom_code: String::new(),
                version: 1,
            },
        ],
        subgraphs: vec![main],
        description: "small".into(),
        buffers: vec![
            Buffer::default(),
            Buffer { data: Bytes::from_static(&[1, 2, 3, 4, 5, 6]) },
            Buffer { data: le(&[1f32, 2.0, 3.0].map(f32::to_le_bytes)) },
            Buffer { data: Bytes::from_static(&[0x21, 0x43, 0x05]) },
            Buffer { data: Bytes::from_static(b"1.14.0\0\0\0\0\0\0\0\0\0\0") },
        ],
        metadata_buffer: vec![4],
        metadata: vec![Metadata { name: "min_runtime_version".into(), buffer: 4 }],
        signature_defs: vec![SignatureDef {
            inputs: vec![TensorMap { name: "x".into(), tensor_index: 0 }],
            outputs: vec![TensorMap { name: "y".into(), tensor_index: 3 }],
            signature_key: "serving_default".into(),
            subgraph_index: 0,
        }],
    }
}

fn written(model: &Model) -> Vec<u8> {
    let mut bytes = Vec::new();
    let length = model.write(&mut bytes).unwrap();
    assert_eq!(length, bytes.len() as u64);
    bytes
}

#[test]
fn reads_what_it_wrote() {
    let model = small_model();
    let bytes = Bytes::from(written(&model));
    let read = Model::parse(bytes.clone()).unwrap();
    assert_eq!(read, model);
    assert_eq!(written(&read), bytes);
    for buffer in &read.buffers[1..] {
        let position = buffer.data.as_ptr() as usize - bytes.as_ptr() as usize;
        assert!(position < bytes.len() && position.is_multiple_of(DATA_ALIGN));
    }
    assert_eq!(read.constant(&read.subgraphs[0].tensors[4]).unwrap()[..], [0x21, 0x43, 5]);
    assert_eq!(read.constant(&read.subgraphs[0].tensors[0]), None);
    assert!(read.metadata("min_runtime_version").unwrap().starts_with(b"1.14.0"));
}

#[test]
fn data_beyond_the_limit_go_behind_the_flatbuffer() {
    let model = small_model();
    let mut bytes = Vec::new();
    model.write_with_inline_limit(&mut bytes, 0).unwrap();
    assert_eq!(Model::parse(bytes.clone().into()).unwrap(), model);
    bytes.truncate(bytes.len() - 33);
    let error = Model::parse(bytes.into()).unwrap_err();
    assert_eq!(error.to_string(), "buffer 4: its data reach past the end of the file");
}

#[test]
fn every_options_table_survives() {
    let mut model = small_model();
    model.subgraphs[0].operators.truncate(1);
    let codes = (1..=126).map(|code| (1, code)).chain((1..=23).map(|code| (2, code)));
    for (union, code) in codes {
        let options = BuiltinOptions::read(union, code, None).unwrap();
        let back = options.to_table().map(|(union, code, _)| (union, code));
        assert_eq!(back, Some((union, code)), "{options:?}");
        model.subgraphs[0].operators[0].builtin_options = options;
        assert_eq!(Model::parse(written(&model).into()).unwrap(), model);
    }
    for (union, code) in [(1, 127), (2, 24)] {
        let options = BuiltinOptions::read(union, code, None).unwrap();
        assert_eq!(options, BuiltinOptions::Unknown(code));
    }
}

#[test]
fn operators_beyond_127_keep_both_codes() {
    let bytes = written(&small_model());
    let reader = Reader::new(&bytes);
    let root = reader.root(&FILE_IDENTIFIER).unwrap();
    let codes = root.tables(1, |table| {
        Ok::<_, FlatbufferError>((table.scalar(0, 0i8)?, table.scalar(3, 0i32)?))
    });
    assert_eq!(codes.unwrap(), [(9, 9), (32, 32), (127, 150)]);
    assert_eq!(BuiltinOperator(150).name(), "GELU");
    assert_eq!(BuiltinOperator(9).name(), "FULLY_CONNECTED");
    assert_eq!(BuiltinOperator(209).name(), "STABLEHLO_CASE");
    assert_eq!(BuiltinOperator(-1).name(), "UNKNOWN");
}

#[test]
fn defects_have_their_errors() {
    fn check(break_it: impl Fn(&mut Model), expected: &str) {
        let mut model = small_model();
        break_it(&mut model);
        let error = model.write(&mut Vec::new()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let range = "is out of range, there are";
    check(
        |model| model.subgraphs[0].inputs[0] = -1,
        &format!("input 0 of subgraph 0: tensor -1 {range} 6"),
    );
    check(
        |model| model.subgraphs[0].outputs[0] = 6,
        &format!("output 0 of subgraph 0: tensor 6 {range} 6"),
    );
    check(
        |model| model.subgraphs[0].tensors[2].buffer = 9,
        &format!("tensor 2 of subgraph 0: buffer 9 {range} 5"),
    );
    check(
        |model| model.subgraphs[0].operators[0].opcode_index = 3,
        &format!("operator 0 of subgraph 0: operator code 3 {range} 3"),
    );
    check(
        |model| model.subgraphs[0].operators[0].inputs[2] = -2,
        &format!("operator 0 of subgraph 0: tensor -2 {range} 6"),
    );
    check(
        |model| model.subgraphs[0].operators[0].outputs[0] = -1,
        &format!("operator 0 of subgraph 0: tensor -1 {range} 6"),
    );
    check(
        |model| {
            let options = WhileOptions { body_subgraph_index: 7, ..WhileOptions::default() };
            model.subgraphs[0].operators[0].builtin_options = BuiltinOptions::While(options);
        },
        &format!("operator 0 of subgraph 0: subgraph 7 {range} 1"),
    );
    check(
        |model| model.signature_defs[0].subgraph_index = 1,
        &format!("signature 0: subgraph 1 {range} 1"),
    );
    check(
        |model| model.signature_defs[0].outputs[0].tensor_index = 6,
        &format!("signature 0: tensor 6 {range} 6"),
    );
    check(|model| model.metadata[0].buffer = 5, &format!("metadata 0: buffer 5 {range} 5"));
    check(
        |model| model.metadata_buffer[0] = -1,
        &format!("metadata_buffer 0: buffer -1 {range} 5"),
    );
    check(
        |model| model.subgraphs[0].tensors[3].shape[0] = -1,
        "tensor 3 of subgraph 0: dimension -1",
    );
    check(
        |model| model.subgraphs[0].tensors[0].shape_signature[0] = -2,
        "tensor 0 of subgraph 0: dimension -2",
    );
    check(
        |model| model.subgraphs[0].tensors[0].shape_signature = vec![-1],
        "tensor 0 of subgraph 0: shape and shape_signature have different ranks",
    );
    check(
        |model| model.subgraphs[0].tensors[3].shape = vec![i32::MAX; 3],
        "tensor 3 of subgraph 0: the shape is too large",
    );
    check(
        |model| model.subgraphs[0].tensors[2].shape = vec![4],
        "tensor 2 of subgraph 0: its shape needs 16 bytes of data, it has 12",
    );
    check(
        |model| model.subgraphs[0].tensors[4].shape = vec![7],
        "tensor 4 of subgraph 0: its shape needs 4 bytes of data, it has 3",
    );
    let quantization = |change: fn(&mut QuantizationParameters)| {
        move |model: &mut Model| {
            change(model.subgraphs[0].tensors[1].quantization.as_mut().unwrap());
        }
    };
    check(
        quantization(|parameters| parameters.quantized_dimension = 1),
        "tensor 1 of subgraph 0: quantization: scales and channels differ in number",
    );
    check(
        quantization(|parameters| parameters.quantized_dimension = 2),
        "tensor 1 of subgraph 0: quantization: the quantized dimension is out of range",
    );
    check(
        quantization(|parameters| parameters.zero_point.clear()),
        "tensor 1 of subgraph 0: quantization: scales and zero points differ in number",
    );
    check(
        quantization(|parameters| {
            parameters.details = QuantizationDetails::Blockwise(BlockwiseQuantization {
                scales: 6,
                ..BlockwiseQuantization::default()
            });
        }),
        &format!("tensor 1 of subgraph 0: scales tensor 6 {range} 6"),
    );
    check(
        |model| model.buffers[0].data = Bytes::from_static(b"?"),
        "buffer 0 must exist and be empty",
    );
    check(
        |model| {
            model.subgraphs[0].operators[0].builtin_options = BuiltinOptions::Unknown(200);
        },
        "FULLY_CONNECTED has options of an unknown kind (200)",
    );
}

#[test]
fn tables_that_cannot_be_kept_are_errors() {
    fn check(tensor: &TableValue, operator: &TableValue, version: u32, expected: &str) {
        let mut subgraph = TableValue::new();
        subgraph.tables(0, vec![tensor.clone()]).tables(3, vec![operator.clone()]);
        let mut root = TableValue::new();
        root.scalar(0, version, 0).tables(2, vec![subgraph]);
        let mut bytes = Vec::new();
        Layout::new(root, &FILE_IDENTIFIER).unwrap().write(&mut bytes).unwrap();
        let error = Model::parse(bytes.into()).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }
    let none = TableValue::new();
    let with = |change: fn(&mut TableValue)| {
        let mut table = TableValue::new();
        change(&mut table);
        table
    };
    check(&none, &none, 2, "schema version 2; only 3 is known");
    let sparse = with(|tensor| {
        tensor.table(6, TableValue::new());
    });
    check(&sparse, &none, 3, "tensor 0 of subgraph 0: sparse tensors are unsupported");
    let external = with(|tensor| {
        tensor.scalar(10, 1u32, 0);
    });
    check(&external, &none, 3, "tensor 0 of subgraph 0: data in another file are unsupported");
    let future = with(|tensor| {
        tensor.scalar(1, 99i8, 0);
    });
    check(&future, &none, 3, "unknown TensorType 99");
    let two = with(|operator| {
        operator.union(3, 1, TableValue::new()).union(11, 1, TableValue::new());
    });
    check(&none, &two, 3, "operator 0 of subgraph 0 has two options tables");
    let details = with(|tensor| {
        let mut quantization = TableValue::new();
        quantization.union(4, 9, TableValue::new());
        tensor.table(4, quantization);
    });
    check(&details, &none, 3, "unknown quantization details 9");
}

#[test]
fn data_in_the_first_buffer_are_ignored() {
    let mut buffer = TableValue::new();
    buffer.data(0, Bytes::from_static(b"junk"), DATA_ALIGN);
    let mut root = TableValue::new();
    root.scalar(0, SCHEMA_VERSION, 0).tables(4, vec![buffer]);
    let mut bytes = Vec::new();
    Layout::new(root, &FILE_IDENTIFIER).unwrap().write(&mut bytes).unwrap();
    let model = Model::parse(bytes.into()).unwrap();
    assert_eq!(model, Model { buffers: vec![Buffer::default()], ..Model::default() });
}

#[test]
fn broken_bytes_never_panic() {
    let good = written(&small_model());
    for length in 0..good.len() {
        let _ = Model::parse(Bytes::copy_from_slice(&good[..length]));
    }
    for position in 0..good.len() {
        for flip in [0x01, 0x02, 0x04, 0x10, 0x40, 0x80, 0xff] {
            let mut bytes = good.clone();
            bytes[position] ^= flip;
            if let Ok(model) = Model::parse(bytes.into()) {
                model.write(&mut io::sink()).ok();
            }
        }
    }
}
