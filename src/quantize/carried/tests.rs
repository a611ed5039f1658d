use super::*;
use crate::graph::{Activation, Dim, Node, Quantization, Subgraph, Tensor, TensorId, UnaryOp};
use crate::lower::Contents;

const INPUT: Quantization = Quantization::PerTensor { scale: 0.5, zero_point: 130 };
const OUTPUT: Quantization = Quantization::PerTensor { scale: 0.25, zero_point: 3 };

fn variable(graph: &mut Subgraph, element: ElementType, shape: &[usize]) -> TensorId {
    let shape = shape.iter().map(|&d| Dim::Known(d)).collect();
    let name = format!("t{}", graph.tensors.len());
    graph.add_tensor(Tensor::variable(name, element, shape))
}

fn constant(graph: &mut Subgraph, shape: &[usize], values: &[f32]) -> TensorId {
    let data: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    graph.add_tensor(Tensor::constant("weights", ElementType::F32, shape, data.into()))
}

fn node(graph: &mut Subgraph, op: LiteOp, inputs: &[TensorId], output: TensorId) -> TensorId {
    let inputs = inputs.iter().map(|&t| Some(t)).collect();
    graph.nodes.push(Node { op, inputs, outputs: vec![output] });
    output
}

/// x [1, 2] through QUANTIZE and DEQUANTIZE of uint8.
fn given(graph: &mut Subgraph) -> TensorId {
    let x = variable(graph, ElementType::F32, &[1, 2]);
    graph.inputs.push(x);
    through(graph, x, ElementType::U8, INPUT)
}

fn through(
    graph: &mut Subgraph,
    x: TensorId,
    element: ElementType,
    scales: Quantization,
) -> TensorId {
    let shape = graph.tensors[x].known_shape().unwrap();
    let integers = variable(graph, element, &shape);
    graph.tensors[integers].quantization = Some(scales);
    node(graph, LiteOp::Quantize, &[x], integers);
    let reals = variable(graph, ElementType::F32, &shape);
    node(graph, LiteOp::Dequantize, &[integers], reals)
}

/// A product with weights [2, 2], stored as said, between both; its ops after the edit, or why it is float32.
fn check(scales: &[f32], zero_points: &[i32], steps: [i32; 4], element: ElementType, ops: &[&str]) {
    let mut graph = Subgraph::default();
    let x = given(&mut graph);
    let scale = |i: usize| scales[i / 2 % scales.len()];
    let values: Vec<f32> = (0..4).map(|i| scale(i) * steps[i] as f32).collect();
    let weights = constant(&mut graph, &[2, 2], &values);
    let op = LiteOp::FullyConnected {
        activation: Activation::None,
        keep_num_dims: false,
        asymmetric_quantize_inputs: false,
    };
    let y = variable(&mut graph, ElementType::F32, &[1, 2]);
    node(&mut graph, op, &[x, weights], y);
    let y = through(&mut graph, y, ElementType::I8, OUTPUT);
    graph.outputs = vec![y];
    let words: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let stored = StoredConstant {
        contents: Contents::of_words(&words),
        scales: scales.to_vec(),
        zero_points: zero_points.to_vec(),
        element,
        dynamic: false,
    };
    let mut model = Model { subgraphs: vec![graph], ..Model::default() };
    let report = keep_carried(&mut model, &[stored]).unwrap().unwrap();
    let graph = model.main();
    let mut found: Vec<String> = graph.nodes.iter().map(|n| n.op.name().to_string()).collect();
    found.extend(report.float_layers.iter().map(|layer| layer.why.clone()));
    assert_eq!(found, ops);
    let product = graph.nodes.iter().find(|n| n.op.name() == "FULLY_CONNECTED").unwrap();
    let weights = &graph.tensors[product.inputs[1].unwrap()];
    let zero_point = match weights.quantization {
        Some(Quantization::PerTensor { zero_point, .. }) => zero_point as i32,
        _ => 0,
    };
    if let (ElementType::I8 | ElementType::U8, Some(data)) = (weights.element, &weights.data) {
        let wide =
            |&b: &u8| if weights.element == ElementType::I8 { b as i8 as i32 } else { b as i32 };
        let held: Vec<i32> = data.iter().map(|b| wide(b) - zero_point).collect();
        assert_eq!(held, steps);
    }
}

const INTEGER: [&str; 3] = ["QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"];

#[test]
fn weights_are_the_integers_that_the_model_stores() {
    check(&[0.1], &[0], [1, -2, 100, -128], ElementType::I8, &INTEGER);
    check(&[0.1, 0.3], &[0, 0], [1, -2, 100, -127], ElementType::I8, &INTEGER);
    // uint8 of zero point 128 is int8
    check(&[0.1], &[128], [127, -128, 0, 5], ElementType::U8, &INTEGER);
    check(&[0.1, 0.2], &[128, 128], [127, -128, 0, 5], ElementType::U8, &INTEGER);
}

#[test]
fn weights_that_are_not_symmetric_make_an_op_of_uint8() {
    let of_bytes = ["QUANTIZE", "QUANTIZE", "FULLY_CONNECTED", "DEQUANTIZE"];
    check(&[0.1], &[100], [155, -100, 0, 5], ElementType::U8, &of_bytes);
    check(&[0.1], &[-100], [200, -28, 0, 5], ElementType::I8, &of_bytes);
}

#[test]
fn what_tflite_cannot_hold_stays_float_and_says_why() {
    let float = ["QUANTIZE", "DEQUANTIZE", "FULLY_CONNECTED", "QUANTIZE", "DEQUANTIZE"];
    let because = |why| [&float[..], &[why]].concat();
    let zero_points =
        "its weights have a zero point beside 0 for each channel, which TFLite has not";
    check(&[0.1, 0.2], &[100, 0], [155, -100, 0, 5], ElementType::U8, &because(zero_points));
    let axis = "its weights have scales along another axis";
    check(&[0.1; 3], &[0; 3], [1, 2, 3, 4], ElementType::I8, &because(axis));
}

/// Ops of `build`'s graph after the edit; it is given x, quantized.
fn edited(build: impl Fn(&mut Subgraph, TensorId) -> TensorId) -> Vec<String> {
    let mut graph = Subgraph::default();
    let x = given(&mut graph);
    graph.outputs = vec![build(&mut graph, x)];
    let mut model = Model { subgraphs: vec![graph], ..Model::default() };
    keep_carried(&mut model, &[]).unwrap().unwrap();
    let shown = |n: &Node| {
        let element = model.main().tensors[n.outputs[0]].element;
        format!("{} {}", n.op.name(), element.name())
    };
    model.main().nodes.iter().map(shown).collect()
}

fn unary(graph: &mut Subgraph, op: UnaryOp, x: TensorId) -> TensorId {
    let y = variable(graph, ElementType::F32, &[1, 2]);
    node(graph, LiteOp::Unary(op), &[x], y)
}

#[test]
fn an_op_is_on_integers_where_all_it_makes_is_quantized() {
    let whole = |graph: &mut Subgraph, x| {
        let y = unary(graph, UnaryOp::Abs, x);
        through(graph, y, ElementType::I8, OUTPUT)
    };
    assert_eq!(edited(whole), ["QUANTIZE int8", "ABS int8", "DEQUANTIZE float32"]);
    let unscaled = |graph: &mut Subgraph, x| unary(graph, UnaryOp::Abs, x);
    assert_eq!(edited(unscaled), ["QUANTIZE int8", "DEQUANTIZE float32", "ABS float32"]);
    let no_form = |graph: &mut Subgraph, x| {
        let y = unary(graph, UnaryOp::Sin, x);
        through(graph, y, ElementType::I8, OUTPUT)
    };
    let float = ["QUANTIZE int8", "DEQUANTIZE float32", "SIN float32"];
    assert_eq!(edited(no_form), [&float[..], &["QUANTIZE int8", "DEQUANTIZE float32"]].concat());
}

#[test]
fn what_only_moves_takes_the_scale_along_and_a_fixed_scale_is_brought_to_the_models() {
    let moved = |graph: &mut Subgraph, x| {
        let y = variable(graph, ElementType::F32, &[1, 2]);
        node(graph, LiteOp::Squeeze { axes: vec![] }, &[x], y);
        unary(graph, UnaryOp::Abs, y)
    };
    let ops = ["QUANTIZE int8", "SQUEEZE int8", "DEQUANTIZE float32", "ABS float32"];
    assert_eq!(edited(moved), ops);
    let fixed = |graph: &mut Subgraph, x| {
        let y = unary(graph, UnaryOp::Logistic, x);
        through(graph, y, ElementType::I8, OUTPUT)
    };
    let ops = ["QUANTIZE int8", "LOGISTIC int8", "QUANTIZE int8", "DEQUANTIZE float32"];
    assert_eq!(edited(fixed), ops);
}
