use super::*;
use crate::graph::{Activation, Dim, LiteOp, Node, Padding, Quantization, Subgraph, TensorId};
use crate::progress::Silent;

struct Net(Subgraph);

impl Net {
    fn new() -> Net {
        Net(Subgraph::default())
    }

    fn variable(&mut self, name: &str, shape: &[usize]) -> TensorId {
        let shape = shape.iter().map(|&d| Dim::Known(d)).collect();
        self.0.add_tensor(Tensor::variable(name, ElementType::F32, shape))
    }

    fn constant(&mut self, name: &str, shape: &[usize]) -> TensorId {
        let count: usize = shape.iter().product();
        let data: Vec<u8> =
            (0..count).flat_map(|i| ((i % 255) as f32 - 127.0).to_le_bytes()).collect();
        self.0.add_tensor(Tensor::constant(name, ElementType::F32, shape, data.into()))
    }

    fn node(&mut self, op: LiteOp, inputs: &[TensorId], output: TensorId) {
        let inputs = inputs.iter().map(|&t| Some(t)).collect();
        self.0.nodes.push(Node { op, inputs, outputs: vec![output] });
    }

    fn model(self) -> Model {
        Model { subgraphs: vec![self.0], ..Model::default() }
    }
}

fn dense() -> LiteOp {
    LiteOp::FullyConnected {
        activation: Activation::None,
        keep_num_dims: false,
        asymmetric_quantize_inputs: false,
    }
}

fn options(scheme: WeightScheme) -> WeightOptions {
    WeightOptions {
        scheme,
        per_tensor: false,
        keep_float: vec![],
        block_size: None,
        max_drop: None,
    }
}

/// x → dense 32×32 with a bias → dense 32×2, too small.
fn quantize(model: &mut Model, options: &WeightOptions) -> Result<WeightReport> {
    quantize_weights(model, options, None, &Silent)
}

fn two_layers() -> Model {
    let mut net = Net::new();
    let (x, y, z) =
        (net.variable("x", &[1, 32]), net.variable("y", &[1, 32]), net.variable("z", &[1, 2]));
    let (w, b, v) =
        (net.constant("w", &[32, 32]), net.constant("b", &[32]), net.constant("v", &[2, 32]));
    net.node(dense(), &[x, w, b], y);
    net.node(dense(), &[y, v], z);
    (net.0.inputs, net.0.outputs) = (vec![x], vec![z]);
    net.model()
}

fn tensor<'a>(model: &'a Model, name: &str) -> &'a Tensor {
    model.main().tensors.iter().find(|t| t.name == name).unwrap()
}

fn ops(model: &Model) -> Vec<&str> {
    model.main().nodes.iter().map(|n| n.op.name()).collect()
}

#[test]
fn dynamic_gives_dense_layers_int8_weights_and_float_biases() {
    let mut model = two_layers();
    let report = quantize(&mut model, &options(WeightScheme::Dynamic)).unwrap();
    assert_eq!((report.element, report.constants, report.numbers), ("int8", 1, 1024));
    assert_eq!((report.all_numbers, report.float_constants.len()), (1024 + 32 + 64, 0));
    assert_eq!(ops(&model), ["FULLY_CONNECTED", "FULLY_CONNECTED"]);
    let weights = tensor(&model, "w");
    assert_eq!(weights.data.as_ref().unwrap().len(), 1024);
    let Some(Quantization::PerChannel { scales, zero_points, axis: 0 }) = &weights.quantization
    else {
        panic!("{:?}", weights.quantization);
    };
    // the first row is −127 to −96
    assert_eq!((scales[0], scales.len(), zero_points.len()), (1.0, 32, 32));
    assert_eq!(weights.data.as_ref().unwrap()[0] as i8, -127);
    assert_eq!(tensor(&model, "b").element, ElementType::F32);
    let asymmetric = model.main().nodes.iter().map(|node| match node.op {
        LiteOp::FullyConnected { asymmetric_quantize_inputs, .. } => asymmetric_quantize_inputs,
        _ => false,
    });
    assert_eq!(asymmetric.collect::<Vec<_>>(), [true, false]);
    let again = quantize(&mut model, &options(WeightScheme::Int4)).unwrap_err();
    assert!(again.to_string().contains("quantized already"), "{again}");
}

#[test]
fn weights_alone_are_read_through_dequantize() {
    for (scheme, suffix, bytes) in
        [(WeightScheme::Int8, "int8", 1024), (WeightScheme::Int4, "int4", 512)]
    {
        let mut model = two_layers();
        quantize(&mut model, &options(scheme)).unwrap();
        assert_eq!(ops(&model), ["DEQUANTIZE", "FULLY_CONNECTED", "FULLY_CONNECTED"]);
        let narrow = tensor(&model, &format!("w/{suffix}"));
        assert_eq!(narrow.data.as_ref().unwrap().len(), bytes);
        assert!(tensor(&model, "w").data.is_none());
    }
}

#[test]
fn one_scale_for_all_is_written_once_a_channel_where_kernels_ask_for_it() {
    let mut net = Net::new();
    let (x, y) = (net.variable("x", &[1, 8, 8, 64]), net.variable("y", &[1, 8, 8, 64]));
    let w = net.constant("w", &[1, 3, 3, 64]);
    let op = LiteOp::DepthwiseConv2D {
        padding: Padding::Same,
        strides: [1, 1],
        dilations: [1, 1],
        multiplier: 1,
        activation: Activation::None,
    };
    net.node(op, &[x, w], y);
    (net.0.inputs, net.0.outputs) = (vec![x], vec![y]);
    let mut model = net.model();
    let per_tensor = WeightOptions { per_tensor: true, ..options(WeightScheme::Dynamic) };
    quantize(&mut model, &per_tensor).unwrap();
    let found = tensor(&model, "w").quantization.clone();
    let expected =
        Quantization::PerChannel { scales: vec![1.0; 64], zero_points: vec![0; 64], axis: 3 };
    assert_eq!(found, Some(expected));
}

#[test]
fn tables_are_picked_from_as_integers() {
    let mut net = Net::new();
    let indices = net.variable("i", &[3]);
    net.0.tensors[indices].element = ElementType::I32;
    let (table, y) = (net.constant("table", &[100, 8]), net.variable("y", &[3, 8]));
    net.node(LiteOp::Gather { axis: 0, batch_dims: 0 }, &[table, indices], y);
    (net.0.inputs, net.0.outputs) = (vec![indices], vec![y]);
    let mut model = net.model();
    quantize(&mut model, &options(WeightScheme::Dynamic)).unwrap();
    assert_eq!(ops(&model), ["GATHER", "DEQUANTIZE"]);
    let one = Some(Quantization::PerTensor { scale: 1.0, zero_point: 0 });
    assert_eq!(tensor(&model, "table").quantization, one);
    assert_eq!((tensor(&model, "y/int8").quantization.clone(), model.main().outputs[0]), (one, y));
}

#[test]
fn what_stays_float_says_why() {
    fn check(edit: impl FnOnce(&mut Model, &mut WeightOptions), why: &str) {
        let (mut model, mut options) = (two_layers(), options(WeightScheme::Dynamic));
        // another layer, so that something is quantized
        let graph = &mut model.subgraphs[0];
        let copy = graph.tensors[3].clone();
        let w = graph.add_tensor(Tensor { name: "other".into(), ..copy });
        let shape = graph.tensors[1].shape.clone();
        let out = graph.add_tensor(Tensor::variable("last", ElementType::F32, shape));
        let inputs = vec![Some(1), Some(w)];
        graph.nodes.push(Node { op: dense(), inputs, outputs: vec![out] });
        graph.outputs.push(out);
        edit(&mut model, &mut options);
        let report = quantize(&mut model, &options).unwrap();
        let [constant] = report.float_constants.as_slice() else { panic!("{report:?}") };
        assert_eq!(constant.name, "w");
        assert!(constant.why.contains(why), "{}", constant.why);
        assert_eq!(tensor(&model, "w").element, ElementType::F32);
    }
    check(
        |model, _| {
            let values = model.subgraphs[0].tensors[3].f32_values().unwrap();
            let values = values.into_iter().map(|v| if v == 5.0 { f32::NAN } else { v });
            let data: Vec<u8> = values.flat_map(f32::to_le_bytes).collect();
            model.subgraphs[0].tensors[3].data = Some(data.into());
        },
        "not finite",
    );
    check(|_, options| options.keep_float = vec![Regex::new("^y$").unwrap()], "--keep-float '^y$'");
    check(
        |model, _| {
            let graph = &mut model.subgraphs[0];
            let shape = graph.tensors[3].shape.clone();
            let out = graph.add_tensor(Tensor::variable("t", ElementType::F32, shape));
            let op = LiteOp::Unary(crate::graph::UnaryOp::Abs);
            graph.nodes.push(Node { op, inputs: vec![Some(3)], outputs: vec![out] });
            graph.outputs.push(out);
        },
        "ABS reads it",
    );
}

#[test]
fn what_is_shared_with_another_kind_of_layer_is_widened() {
    let mut model = two_layers();
    let graph = &mut model.subgraphs[0];
    let shape = graph.tensors[1].shape.clone();
    let out = graph.add_tensor(Tensor::variable("t", ElementType::F32, shape));
    let op = LiteOp::BatchMatMul { transpose_x: false, transpose_y: false };
    graph.nodes.push(Node { op, inputs: vec![Some(1), Some(3)], outputs: vec![out] });
    graph.outputs.push(out);
    quantize(&mut model, &options(WeightScheme::Dynamic)).unwrap();
    assert_eq!(ops(&model), ["DEQUANTIZE", "FULLY_CONNECTED", "FULLY_CONNECTED", "BATCH_MATMUL"]);
}

#[test]
fn nothing_to_quantize_and_names_that_match_nothing_are_errors() {
    let mut wrong = options(WeightScheme::Dynamic);
    wrong.keep_float = vec![Regex::new("nowhere").unwrap()];
    let said = quantize(&mut two_layers(), &wrong).unwrap_err().to_string();
    assert!(said.contains("'nowhere' matches no layer"), "{said}");
    wrong.keep_float = vec![Regex::new("y").unwrap()];
    let said = quantize(&mut two_layers(), &wrong).unwrap_err().to_string();
    assert!(said.contains("no layer has weights") && said.contains("'w' cannot"), "{said}");
}

struct Rows(Vec<Vec<f32>>);

impl Samples for Rows {
    fn runs(&self) -> usize {
        self.0.len()
    }

    fn run(&self, index: usize) -> Result<Vec<crate::runtime::Tensor>> {
        let row = &self.0[index];
        Ok(vec![crate::runtime::Tensor::from_shape(&[1, row.len()], row)?])
    }
}

/// A small layer whose weights int8 holds badly (one is 1000 times the rest), then a large one that it holds exactly.
fn spread_then_even() -> Model {
    let mut net = Net::new();
    let [x, h] = ["x", "h"].map(|name| net.variable(name, &[1, 32]));
    let y = net.variable("y", &[1, 64]);
    let spread = |i: usize| if i % 32 == 0 { 1000.0 } else { ((i % 7) as f32 - 3.0) * 0.9 };
    let spread: Vec<u8> = (0..32 * 32).flat_map(|i| spread(i).to_le_bytes()).collect();
    let spread = Tensor::constant("spread", ElementType::F32, &[32, 32], spread.into());
    let spread = net.0.add_tensor(spread);
    let even = net.constant("even", &[64, 32]);
    net.node(dense(), &[x, spread], h);
    net.node(dense(), &[h, even], y);
    net.0.inputs = vec![x];
    net.0.outputs = vec![y];
    net.model()
}

#[test]
fn a_budget_keeps_the_weights_that_cost_most_in_float16() {
    // where the largest weight meets nothing, the others are all that counts
    let row: Vec<f32> = (0..32).map(|i| if i == 0 { 0.0 } else { (i % 5) as f32 - 2.0 }).collect();
    let rows = Rows(vec![row]);
    let within = |max_drop| {
        let mut model = spread_then_even();
        let options = WeightOptions { max_drop: Some(max_drop), ..options(WeightScheme::Int8) };
        let report = quantize_weights(&mut model, &options, Some(&rows), &Silent).unwrap();
        (report.budget.unwrap(), model)
    };
    let (loose, model) = within(1e6);
    assert!(loose.holds && loose.kept_float.is_empty() && loose.drop > 0.01, "{loose:?}");
    assert_eq!(tensor(&model, "spread/int8").element, ElementType::I8);
    let (tight, model) = within(1e-3);
    assert!(tight.holds && tight.drop_of_all == loose.drop, "{tight:?}");
    assert_eq!(tight.kept_float, ["spread"]);
    assert_eq!(tensor(&model, "spread/float16").element, ElementType::F16);
    assert_eq!(tensor(&model, "even/int8").element, ElementType::I8);
    let (never, model) = within(1e-30);
    assert!(!never.holds && never.kept_float.is_empty(), "{never:?}");
    assert_eq!(tensor(&model, "spread/int8").element, ElementType::I8);
}
