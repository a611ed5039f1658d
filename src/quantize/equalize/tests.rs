use super::*;
use crate::graph::{Dim, ElementType, Padding};
use crate::model::plan_lite;
use crate::runtime::{Tensor as Value, f32_values};

struct Pictures(Vec<Value>);

impl Samples for Pictures {
    fn runs(&self) -> usize {
        self.0.len()
    }

    fn run(&self, index: usize) -> Result<Vec<Value>> {
        Ok(vec![self.0[index].clone()])
    }
}

fn constant(graph: &mut Subgraph, shape: &[usize], values: &[f32]) -> Option<TensorId> {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let name = format!("c{}", graph.tensors.len());
    Some(graph.add_tensor(Tensor::constant(name, ElementType::F32, shape, data.into())))
}

fn variable(graph: &mut Subgraph, channels: usize) -> TensorId {
    let shape = [1, 3, 3, channels].map(Dim::Known).to_vec();
    let name = format!("v{}", graph.tensors.len());
    graph.add_tensor(Tensor::variable(name, ElementType::F32, shape))
}

fn conv(graph: &mut Subgraph, x: TensorId, weights: &[f32], activation: Activation) -> TensorId {
    let inputs = graph.tensors[x].shape[3].known().unwrap();
    let outputs = weights.len() / inputs;
    let w = constant(graph, &[outputs, 1, 1, inputs], weights);
    let b = constant(graph, &[outputs], &vec![0.5; outputs]);
    let y = variable(graph, outputs);
    let op =
        LiteOp::Conv2D { padding: Padding::Same, strides: [1, 1], dilations: [1, 1], activation };
    graph.nodes.push(Node { op, inputs: vec![Some(x), w, b], outputs: vec![y] });
    y
}

/// conv → (conv, itself) → sum → conv: the first and second make channels of one group.
fn residual() -> Model {
    let mut graph = Subgraph::default();
    let x = variable(&mut graph, 1);
    graph.inputs = vec![x];
    let a = conv(&mut graph, x, &[1000.0, 1.0], Activation::Relu);
    let b = conv(&mut graph, a, &[0.01, 0.02, 0.001, -3.0], Activation::None);
    let sum = variable(&mut graph, 2);
    let op = LiteOp::Binary { op: BinaryOp::Add, activation: Activation::Relu };
    graph.nodes.push(Node { op, inputs: vec![Some(a), Some(b)], outputs: vec![sum] });
    let y = conv(&mut graph, sum, &[1e-3, 1.0], Activation::None);
    graph.outputs = vec![y];
    Model { subgraphs: vec![graph], ..Model::default() }
}

fn run(model: &Model, x: &Value) -> Vec<f32> {
    let outputs = plan_lite(model).unwrap().session().unwrap().run(vec![x.clone()]).unwrap();
    f32_values(&outputs[0]).unwrap().to_vec()
}

#[test]
fn channels_become_alike_and_the_result_stays() {
    let mut model = residual();
    let values: Vec<f32> = (0..9).map(|i| i as f32 / 4.0 - 0.5).collect();
    let x = Value::from_shape(&[1, 3, 3, 1], &values).unwrap();
    let before = run(&model, &x);
    let samples = Pictures(vec![x.clone()]);
    let found = groups(model.main());
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!((found[0].producers.clone(), found[0].readers.clone()), (vec![0, 1], vec![1, 3]));
    let mut again = model.clone();
    let factors = equalize(&mut model, &samples, 8, 2, &crate::progress::Silent).unwrap();
    assert_eq!(factors.len(), 1);
    equalize_by(&mut again, &factors);
    assert_eq!(again, model);
    let after = run(&model, &x);
    for (a, b) in before.iter().zip(&after) {
        assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{before:?} {after:?}");
    }
    let first = model.main().nodes[0].inputs[1].unwrap();
    let made = model.main().tensors[first].f32_values().unwrap();
    assert!(made[0] / made[1] < 100.0, "{made:?}");
}

#[test]
fn layers_may_share_a_bias_of_zeros() {
    let share = |value: f32| {
        let mut model = residual();
        let graph = &mut model.subgraphs[0];
        let shared = constant(graph, &[2], &[value; 2]);
        graph.nodes[0].inputs[2] = shared;
        graph.nodes[1].inputs[2] = shared;
        model
    };
    let x = Value::from_shape(&[1, 3, 3, 1], &[0.5f32; 9]).unwrap();
    let samples = Pictures(vec![x.clone()]);
    let equalized = |mut model: Model| {
        let factors = equalize(&mut model, &samples, 8, 1, &crate::progress::Silent).unwrap();
        (factors.len(), run(&model, &x))
    };
    for (value, groups) in [(0.0, 1), (0.25, 0)] {
        let before = run(&share(value), &x);
        let (found, after) = equalized(share(value));
        assert_eq!(found, groups);
        for (a, b) in before.iter().zip(&after) {
            assert!((a - b).abs() <= 1e-5 * b.abs().max(1.0), "{before:?} {after:?}");
        }
    }
}

#[test]
fn ends_and_clamped_layers_are_left_alone() {
    let mut model = residual();
    let sum = model.main().nodes[2].outputs[0];
    model.subgraphs[0].outputs.push(sum);
    assert!(groups(model.main()).is_empty());
    let mut model = residual();
    *model.subgraphs[0].nodes[0].op.activation_mut().unwrap() = Activation::Relu6;
    assert!(groups(model.main()).is_empty());
}
