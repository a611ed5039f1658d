//! Models whose answers are known by hand, as `.tflite` files in numbered folders.
#![allow(dead_code)]

use mlctl::graph::*;
use mlctl::write::{Description, write_tflite};
use std::fs;
use std::path::Path;

fn tensor(name: &str, element: ElementType, inner: &[usize], batch: Option<usize>) -> Tensor {
    let batch = batch.map_or(Dim::Symbol("N".into()), Dim::Known);
    let shape = std::iter::once(batch).chain(inner.iter().map(|&n| Dim::Known(n))).collect();
    Tensor::variable(name, element, shape)
}

fn scalar(name: &str, value: f32) -> Tensor {
    Tensor::constant(name, ElementType::F32, &[], value.to_le_bytes().to_vec().into())
}

fn binary(op: BinaryOp, inputs: [TensorId; 2], output: TensorId) -> Node {
    let op = LiteOp::Binary { op, activation: Activation::None };
    Node { op, inputs: inputs.map(Some).to_vec(), outputs: vec![output] }
}

fn model(
    tensors: Vec<Tensor>,
    nodes: Vec<Node>,
    inputs: &[TensorId],
    outputs: &[TensorId],
) -> Model {
    let named = |ids: &[TensorId]| ids.iter().map(|&i| (tensors[i].name.clone(), i)).collect();
    let signature = Signature {
        key: "serving_default".into(),
        subgraph: 0,
        inputs: named(inputs),
        outputs: named(outputs),
    };
    let (inputs, outputs) = (inputs.to_vec(), outputs.to_vec());
    let graph = Subgraph { name: "main".into(), tensors, nodes, inputs, outputs };
    Model { subgraphs: vec![graph], signatures: vec![signature], ..Model::default() }
}

fn bytes(model: &Model) -> Vec<u8> {
    let mut bytes = vec![];
    write_tflite(model, &Description::default(), &mut bytes).unwrap();
    bytes
}

/// TensorFlow Serving's own example: y = x / 2 + `offset`, of any number of values.
pub fn half_plus(offset: f32) -> Vec<u8> {
    let float = |name| tensor(name, ElementType::F32, &[], None);
    let tensors =
        vec![float("x"), float("half"), float("y"), scalar("a", 0.5), scalar("b", offset)];
    let nodes = vec![binary(BinaryOp::Mul, [0, 3], 1), binary(BinaryOp::Add, [1, 4], 2)];
    bytes(&model(tensors, nodes, &[0], &[2]))
}

/// `sum` = a + a of `[N, 2]` floats, `total` = n + n of `[N]` int32.
pub fn two_inputs() -> Vec<u8> {
    use ElementType::{F32, I32};
    let tensors = vec![
        tensor("a", F32, &[2], None),
        tensor("n", I32, &[], None),
        tensor("sum", F32, &[2], None),
        tensor("total", I32, &[], None),
    ];
    let nodes = vec![binary(BinaryOp::Add, [0, 0], 2), binary(BinaryOp::Add, [1, 1], 3)];
    bytes(&model(tensors, nodes, &[0, 1], &[2, 3]))
}

/// y = x + x of exactly one row of two.
pub fn one_row() -> Vec<u8> {
    let float = |name| tensor(name, ElementType::F32, &[2], Some(1));
    let nodes = vec![binary(BinaryOp::Add, [0, 0], 1)];
    bytes(&model(vec![float("x"), float("y")], nodes, &[0], &[1]))
}

/// `scores` = x + x of `[N, 3]`, and `value` = x's three values as they are.
pub fn scores() -> Vec<u8> {
    let float = |name| tensor(name, ElementType::F32, &[3], None);
    let nodes = vec![binary(BinaryOp::Add, [0, 0], 1)];
    bytes(&model(vec![float("x"), float("scores")], nodes, &[0], &[1]))
}

/// y = x + 1, counted up in `turns` steps: takes as long as wished.
pub fn slow(turns: i32) -> Vec<u8> {
    use ElementType::{Bool, F32, I32};
    let whole = |name: &str, value: i32| {
        Tensor::constant(name, I32, &[], value.to_le_bytes().to_vec().into())
    };
    let variable = |name: &str, element| Tensor::variable(name, element, vec![]);
    let row = |name: &str| Tensor::variable(name, F32, vec![Dim::Known(1)]);
    let graph = |name: &str, tensors, nodes, inputs: &[TensorId], outputs: &[TensorId]| Subgraph {
        name: name.into(),
        tensors,
        nodes,
        inputs: inputs.to_vec(),
        outputs: outputs.to_vec(),
    };
    let repeat = LiteOp::While { condition: 1, body: 2 };
    let main = graph(
        "main",
        vec![row("x"), whole("zero", 0), variable("turns", I32), row("y")],
        vec![Node { op: repeat, inputs: vec![Some(1), Some(0)], outputs: vec![2, 3] }],
        &[0],
        &[3],
    );
    let condition = graph(
        "condition",
        vec![variable("i", I32), row("v"), whole("limit", turns), variable("more", Bool)],
        vec![binary(BinaryOp::Less, [0, 2], 3)],
        &[0, 1],
        &[3],
    );
    let body = graph(
        "body",
        vec![
            variable("i", I32),
            row("v"),
            whole("step", 1),
            scalar("part", 1.0 / turns as f32),
            variable("next", I32),
            row("w"),
        ],
        vec![binary(BinaryOp::Add, [0, 2], 4), binary(BinaryOp::Add, [1, 3], 5)],
        &[0, 1],
        &[4, 5],
    );
    let signature = Signature {
        key: "serving_default".into(),
        subgraph: 0,
        inputs: vec![("x".into(), 0)],
        outputs: vec![("y".into(), 3)],
    };
    let subgraphs = vec![main, condition, body];
    bytes(&Model { subgraphs, signatures: vec![signature], ..Model::default() })
}

/// y = 0: x through two matrices of zeros with `size` bytes together, of `[N, 4]`.
pub fn large(size: usize) -> Vec<u8> {
    let float = |name, inner| tensor(name, ElementType::F32, &[inner], None);
    let middle = size / 32;
    let weights = |name, shape: &[usize]| {
        Tensor::constant(name, ElementType::F32, shape, vec![0; size / 2].into())
    };
    let dense = |input, weights, output| Node {
        op: LiteOp::FullyConnected {
            activation: Activation::None,
            keep_num_dims: false,
            asymmetric_quantize_inputs: false,
        },
        inputs: vec![Some(input), Some(weights), None],
        outputs: vec![output],
    };
    let tensors = vec![
        float("x", 4),
        float("h", middle),
        float("y", 4),
        weights("up", &[middle, 4]),
        weights("down", &[4, middle]),
    ];
    bytes(&model(tensors, vec![dense(0, 3, 1), dense(1, 4, 2)], &[0], &[2]))
}

/// Puts a model into the numbered folder of a base path; it appears whole.
pub fn put(base: &Path, version: &str, file: &[u8]) {
    let beside = base.join(".placing");
    fs::create_dir_all(&beside).unwrap();
    fs::write(beside.join("model.tflite"), file).unwrap();
    fs::rename(beside, base.join(version)).unwrap();
}

/// A base path with version 1 of one model.
pub fn base_of(file: &[u8]) -> tempfile::TempDir {
    let base = tempfile::tempdir().unwrap();
    put(base.path(), "1", file);
    base
}
