//! `.tflite` files with custom ops: nothing here computes them, and they are converted as they are.

use bytes::Bytes;
use mlctl::commands::Outcome;
use mlctl::commands::convert::{ConvertOptions, ConvertReport, EndLayout, convert};
use mlctl::graph::*;
use mlctl::quantize::Scheme;
use mlctl::{format, read, write};
use std::path::Path;

const WIDTH: usize = 4;

fn rows(name: &str) -> Tensor {
    let shape = vec![Dim::Symbol("N".into()), Dim::Known(WIDTH)];
    Tensor { origin: Some(name.into()), ..Tensor::variable(name, ElementType::F32, shape) }
}

fn constant(name: &str, values: [f32; WIDTH]) -> Tensor {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let tensor = Tensor::constant(name, ElementType::F32, &[WIDTH], data.into());
    Tensor { origin: Some(name.into()), ..tensor }
}

fn node(op: LiteOp, inputs: &[TensorId], output: TensorId) -> Node {
    Node { op, inputs: inputs.iter().map(|&i| Some(i)).collect(), outputs: vec![output] }
}

fn binary(op: BinaryOp) -> LiteOp {
    LiteOp::Binary { op, activation: Activation::None }
}

fn custom(code: &str) -> LiteOp {
    LiteOp::Custom { code: code.into(), version: 2, options: Bytes::from_static(&[7, 0, 9]) }
}

/// x → × weights → Whiten(table) → + bias → out; and the product's negative.
fn whitened() -> Model {
    let tensors = vec![
        rows("x"),
        constant("weights", [1.0, 2.0, 3.0, 4.0]),
        rows("product"),
        constant("table", [0.1, 0.2, 0.3, 0.4]),
        rows("white"),
        constant("bias", [0.5; WIDTH]),
        rows("out"),
        rows("negative"),
    ];
    let nodes = vec![
        node(binary(BinaryOp::Mul), &[0, 1], 2),
        node(custom("Whiten"), &[2, 3], 4),
        node(binary(BinaryOp::Add), &[4, 5], 6),
        node(LiteOp::Unary(UnaryOp::Neg), &[2], 7),
    ];
    let main =
        Subgraph { name: "main".into(), tensors, nodes, inputs: vec![0], outputs: vec![6, 7] };
    let signature = Signature {
        key: "serving_default".into(),
        subgraph: 0,
        inputs: vec![("x".into(), 0)],
        outputs: vec![("out".into(), 6), ("negative".into(), 7)],
    };
    Model { subgraphs: vec![main], signatures: vec![signature], ..Model::default() }
}

/// Writes `model` and converts it; the report and what was written.
fn converted(model: &Model, options: ConvertOptions) -> anyhow::Result<(ConvertReport, Model)> {
    let folder = tempfile::tempdir()?;
    let (from, to) = (folder.path().join("from.tflite"), folder.path().join("to.tflite"));
    let mut bytes = vec![];
    write::write_tflite(model, &write::Description::default(), &mut bytes)?;
    std::fs::write(&from, bytes)?;
    let options = ConvertOptions { model: Some(from), out: Some(to.clone()), ..options };
    match convert(&options, &mlctl::progress::Silent) {
        Ok(Outcome::Done(report)) => Ok((report, read_file(&to))),
        Ok(other) => panic!("{other:?}"),
        Err(error) => {
            assert!(!to.exists());
            Err(error)
        }
    }
}

fn read_file(path: &Path) -> Model {
    let bytes = Bytes::from(std::fs::read(path).unwrap());
    read::lite_graph(&format::tflite::Model::parse(bytes).unwrap()).unwrap()
}

fn unchecked() -> ConvertOptions {
    ConvertOptions { no_verify: true, ..ConvertOptions::default() }
}

#[test]
fn a_custom_op_and_what_follows_it_pass_unchanged() {
    let model = whitened();
    let (report, back) = converted(&model, unchecked()).unwrap();
    assert_eq!(back.subgraphs, model.subgraphs);
    assert_eq!(
        (report.custom_ops.as_slice(), report.unchecked_ops),
        (&["Whiten".to_string()][..], 2)
    );
    assert_eq!(report.verification, None);
}

#[test]
fn verification_says_why_it_cannot_run_and_writes_nothing() {
    let error = converted(&whitened(), ConvertOptions::default()).unwrap_err();
    let text = format!("{error:#}");
    assert!(
        text.ends_with(
            "from.tflite: custom op 'Whiten' has no kernel here, so the written file could not be run and \
             checked; --no-verify writes it without the check"
        ),
        "{text}"
    );
}

#[test]
fn what_a_custom_op_does_not_touch_is_still_checked() {
    let reshaped = |tensor: usize| {
        let mut model = whitened();
        model.subgraphs[0].tensors[tensor].shape[1] = Dim::Known(5);
        converted(&model, unchecked())
    };
    // `negative` does not depend on the custom op, `white` and `out` do
    let text = format!("{:#}", reshaped(7).unwrap_err());
    assert!(text.contains("tensor 'negative' is declared as float32[N, 5]"), "{text}");
    reshaped(4).unwrap();
    reshaped(6).unwrap();
}

#[test]
fn float16_leaves_what_a_custom_op_reads() {
    let options = ConvertOptions { scheme: Some(Scheme::Float16), ..unchecked() };
    let (_, back) = converted(&whitened(), options).unwrap();
    let graph = back.main();
    let stored = |name: &str| {
        let tensor = graph.tensors.iter().find(|t| t.name == name).unwrap();
        tensor.data.is_some()
    };
    assert_eq!([stored("weights"), stored("table"), stored("bias")], [false, true, false]);
    assert!(graph.nodes.iter().any(|n| n.op == custom("Whiten")));
}

#[test]
fn sizes_are_set_where_they_can_be_computed() {
    let options = ConvertOptions { dimensions: vec![("N".into(), 3)], ..unchecked() };
    let (_, back) = converted(&whitened(), options).unwrap();
    let rows = |id: usize| back.main().tensors[id].shape[0].clone();
    assert_eq!([rows(0), rows(2), rows(7)], [Dim::Known(3), Dim::Known(3), Dim::Known(3)]);
    assert_eq!([rows(4), rows(6)], [Dim::Symbol("N".into()), Dim::Symbol("N".into())]);
}

#[test]
fn channels_can_move_around_a_custom_op() {
    let mut model = whitened();
    let graph = &mut model.subgraphs[0];
    for tensor in graph.tensors.iter_mut().filter(|t| t.data.is_none()) {
        tensor.shape = [2, 3, 5, WIDTH].map(Dim::Known).to_vec();
    }
    let options = ConvertOptions { layout: EndLayout::Nhwc, ..unchecked() };
    let (report, back) = converted(&model, options).unwrap();
    assert_eq!(report.inputs[0].shape, "[2, 5, 4, 3]");
    assert!(back.main().nodes.iter().any(|n| n.op == custom("Whiten")));
}

#[test]
fn a_loop_around_a_custom_op_is_one() {
    let mut model = whitened();
    let state = || Tensor::variable("x", ElementType::F32, vec![Dim::Known(WIDTH)]);
    let flag = Tensor::variable("goes_on", ElementType::Bool, vec![]);
    let condition = Subgraph {
        name: "condition".into(),
        tensors: vec![state(), flag],
        nodes: vec![node(custom("Done"), &[0], 1)],
        inputs: vec![0],
        outputs: vec![1],
    };
    let next = Tensor { name: "next".into(), ..state() };
    let body = Subgraph {
        name: "body".into(),
        tensors: vec![state(), next],
        nodes: vec![node(LiteOp::Unary(UnaryOp::Neg), &[0], 1)],
        inputs: vec![0],
        outputs: vec![1],
    };
    model.subgraphs.extend([condition, body]);
    let main = &mut model.subgraphs[0];
    main.nodes[1] = node(LiteOp::While { condition: 1, body: 2 }, &[2], 4);
    main.nodes.push(node(LiteOp::Unary(UnaryOp::Neg), &[7], 8));
    main.tensors.push(rows("again"));
    model.validate().unwrap();
    assert_eq!(model.custom_ops(), ["Done"]);
    assert_eq!(model.needs_custom_ops(), [false, true, true, false, false]);
    let (report, back) = converted(&model, unchecked()).unwrap();
    assert_eq!(back.subgraphs[0].nodes, model.subgraphs[0].nodes);
    assert_eq!(report.unchecked_ops, 2);
}
