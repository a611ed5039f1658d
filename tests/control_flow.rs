//! WHILE and IF of `.tflite` files: round trips, values, and hostile files.

use bytes::Bytes;
use mlctl::format::tflite;
use mlctl::graph::*;
use mlctl::model::plan_lite;
use mlctl::{read, write};

type Made = (Vec<Tensor>, Vec<Node>, Vec<TensorId>, Vec<TensorId>);

fn variable(name: &str, element: ElementType, shape: &[usize]) -> Tensor {
    let shape = shape.iter().map(|&n| Dim::Known(n)).collect();
    Tensor::variable(name, element, shape)
}

fn scalar(name: &str, value: i32) -> Tensor {
    Tensor::constant(name, ElementType::I32, &[], value.to_le_bytes().to_vec().into())
}

fn node(op: LiteOp, inputs: &[TensorId], outputs: &[TensorId]) -> Node {
    Node { op, inputs: inputs.iter().map(|&i| Some(i)).collect(), outputs: outputs.to_vec() }
}

fn binary(op: BinaryOp) -> LiteOp {
    LiteOp::Binary { op, activation: Activation::None }
}

fn model(graphs: Vec<Made>) -> Model {
    let graph = |(i, (tensors, nodes, inputs, outputs)): (usize, Made)| Subgraph {
        name: format!("graph{i}"),
        tensors: tensors
            .into_iter()
            .map(|t| Tensor { origin: Some(t.name.clone()), ..t })
            .collect(),
        nodes,
        inputs,
        outputs,
    };
    let subgraphs: Vec<Subgraph> = graphs.into_iter().enumerate().map(graph).collect();
    let main = &subgraphs[0];
    let named = |ids: &[TensorId]| -> Vec<(String, TensorId)> {
        ids.iter().map(|&i| (main.tensors[i].name.clone(), i)).collect()
    };
    let (inputs, outputs) = (named(&main.inputs), named(&main.outputs));
    let signature = Signature { key: "serving_default".into(), subgraph: 0, inputs, outputs };
    Model { description: "loops".into(), signatures: vec![signature], metadata: vec![], subgraphs }
}

/// x `[2]` doubled and i counted up for as long as i < `limit`, from 0.
fn doubling(limit: i32, step: i32) -> Model {
    use ElementType::{Bool, F32, I32};
    let main = (
        vec![
            variable("x", F32, &[2]),
            scalar("zero", 0),
            variable("turns", I32, &[]),
            variable("y", F32, &[2]),
        ],
        vec![node(LiteOp::While { condition: 1, body: 2 }, &[1, 0], &[2, 3])],
        vec![0],
        vec![3, 2],
    );
    let condition = (
        vec![
            variable("i", I32, &[]),
            variable("x", F32, &[2]),
            scalar("limit", limit),
            variable("goes_on", Bool, &[]),
        ],
        vec![node(binary(BinaryOp::Less), &[0, 2], &[3])],
        vec![0, 1],
        vec![3],
    );
    let body = (
        vec![
            variable("i", I32, &[]),
            variable("x", F32, &[2]),
            scalar("step", step),
            variable("next", I32, &[]),
            variable("twice", F32, &[2]),
        ],
        vec![
            node(binary(BinaryOp::Add), &[0, 2], &[3]),
            node(binary(BinaryOp::Add), &[1, 1], &[4]),
        ],
        vec![0, 1],
        vec![3, 4],
    );
    model(vec![main, condition, body])
}

fn written(model: &Model) -> Bytes {
    let mut bytes = vec![];
    write::write_tflite(model, &write::Description::default(), &mut bytes).unwrap();
    bytes.into()
}

fn read_back(bytes: &Bytes) -> anyhow::Result<Model> {
    read::lite_graph(&tflite::Model::parse(bytes.clone())?)
}

fn run(model: &Model, inputs: &[(&[usize], &[f32])]) -> anyhow::Result<Vec<Vec<f32>>> {
    let plan = plan_lite(&read_back(&written(model))?)?;
    let mut tensors = vec![];
    for ((shape, values), port) in inputs.iter().zip(plan.inputs()) {
        let array = mlctl::runtime::Tensor::from_shape(shape, values)?;
        let wanted = mlctl::ops::datum_type(port.element)?;
        tensors.push(array.cast_to_dt(wanted)?.into_owned());
    }
    let outputs = plan.session()?.run(tensors)?;
    outputs.iter().map(mlctl::runtime::to_f32).collect()
}

#[test]
fn a_while_comes_back_as_it_was_and_runs() {
    let model = doubling(5, 1);
    let bytes = written(&model);
    let back = read_back(&bytes).unwrap();
    assert_eq!(back.subgraphs, model.subgraphs);
    assert_eq!(written(&back), bytes);
    let outputs = run(&model, &[(&[2], &[1.5, -2.0])]).unwrap();
    assert_eq!(outputs, [vec![48.0, -64.0], vec![5.0]]);
    assert_eq!(run(&doubling(0, 1), &[(&[2], &[1.5, -2.0])]).unwrap()[0], [1.5, -2.0]);
}

#[test]
fn passes_keep_what_loops_do() {
    let mut model = doubling(3, 1);
    mlctl::passes::run(&mut model);
    model.validate().unwrap();
    assert_eq!(run(&model, &[(&[2], &[1.0, 3.0])]).unwrap()[0], [8.0, 24.0]);
}

#[test]
fn states_may_grow() {
    use ElementType::{Bool, I32};
    let growing = |name: &str| Tensor::variable(name, I32, vec![Dim::Symbol("N".into())]);
    let main = (
        vec![growing("x"), growing("y"), scalar("zero", 0), variable("turns", I32, &[])],
        vec![node(LiteOp::While { condition: 1, body: 2 }, &[2, 0], &[3, 1])],
        vec![0],
        vec![1],
    );
    let condition = (
        vec![
            variable("i", I32, &[]),
            growing("x"),
            scalar("limit", 3),
            variable("goes_on", Bool, &[]),
        ],
        vec![node(binary(BinaryOp::Less), &[0, 2], &[3])],
        vec![0, 1],
        vec![3],
    );
    let concatenation = LiteOp::Concatenation { axis: 0, activation: Activation::None };
    let body = (
        vec![
            variable("i", I32, &[]),
            growing("x"),
            scalar("one", 1),
            variable("next", I32, &[]),
            growing("twice"),
        ],
        vec![node(binary(BinaryOp::Add), &[0, 2], &[3]), node(concatenation, &[1, 1], &[4])],
        vec![0, 1],
        vec![3, 4],
    );
    let outputs = run(&model(vec![main, condition, body]), &[(&[2], &[7.0, 9.0])]).unwrap();
    assert_eq!(outputs[0], [7.0, 9.0].repeat(8));
}

/// The error of a model that must not be accepted, from its file.
fn refusal(model: &Model) -> String {
    let error = model.validate().unwrap_err();
    format!("{error:#}")
}

#[test]
fn subgraphs_that_are_missing_or_run_themselves_are_errors() {
    let mut missing = doubling(5, 1);
    missing.subgraphs[0].nodes[0].op = LiteOp::While { condition: 1, body: 7 };
    assert!(refusal(&missing).contains("missing subgraph 7"), "{}", refusal(&missing));

    let mut itself = doubling(5, 1);
    let call = node(LiteOp::While { condition: 1, body: 2 }, &[0, 1], &[3, 4]);
    itself.subgraphs[2].nodes = vec![call.clone()];
    assert!(refusal(&itself).contains("in a circle"), "{}", refusal(&itself));

    let mut circle = doubling(5, 1);
    circle.subgraphs.push(circle.subgraphs[2].clone());
    circle.subgraphs[2].nodes = vec![Node { op: LiteOp::While { condition: 1, body: 3 }, ..call }];
    circle.subgraphs[3].nodes = circle.subgraphs[2].nodes.clone();
    circle.subgraphs[3].nodes[0].op = LiteOp::While { condition: 1, body: 2 };
    assert!(refusal(&circle).contains("in a circle"), "{}", refusal(&circle));

    let mut entry = doubling(5, 1);
    entry.subgraphs[2].nodes[0].op = LiteOp::While { condition: 1, body: 0 };
    assert!(refusal(&entry).contains("entry graph"), "{}", refusal(&entry));

    let mut arity = doubling(5, 1);
    arity.subgraphs[2].inputs.pop();
    assert!(arity.validate().is_err());
}

/// `validate` sees no subgraph number that the file format refuses.
#[test]
fn files_whose_while_runs_what_it_must_not_are_errors() {
    let model = doubling(5, 1);
    let mut file = tflite::Model::parse(written(&model)).unwrap();
    for (condition, body) in [(1, 99), (-1, 2), (1, 0), (2, 2)] {
        file.subgraphs[0].operators[0].builtin_options =
            tflite::BuiltinOptions::While(tflite::WhileOptions {
                cond_subgraph_index: condition,
                body_subgraph_index: body,
            });
        let mut bytes = vec![];
        let refused = file.write(&mut bytes).is_err() || read_back(&bytes.into()).is_err();
        assert!(refused, "{condition} {body}");
    }
}

#[test]
fn an_endless_while_ends_at_the_deadline() {
    use mlctl::tract::guard::{Allowance, with_allowance};
    use std::time::{Duration, Instant};
    let model = doubling(5, 0);
    let started = Instant::now();
    let allowance = Allowance { time: Duration::from_millis(300), memory: u64::MAX };
    let result = with_allowance("running", allowance, move || run(&model, &[(&[2], &[0.0, 0.0])]));
    assert!(result.is_err());
    assert!(started.elapsed() < Duration::from_secs(20));
}
