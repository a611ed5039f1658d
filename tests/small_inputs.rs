//! Inputs of sizes that do not suit a model, or each other, are an error, for the ONNX file and its conversion.

use mlctl::graph::{Dim, ElementType, LiteOp, Model, Node, Subgraph, Tensor};
use mlctl::model::{LoadedModel, locate, plan_lite};
use mlctl::runtime::{f32_tensor, f32_values};
use std::path::Path;

#[test]
fn a_picture_smaller_than_the_windows_is_refused() {
    let net = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/models/pnet.onnx");
    let model = LoadedModel::load(&locate(Some(&net)).unwrap()).unwrap();
    let lite = plan_lite(&model.lite_graph().unwrap().0).unwrap();
    for plan in [model.plan().unwrap(), lite] {
        let run = |side: usize| {
            let picture = f32_tensor(&[1, side, side, 3], &vec![0.5; side * side * 3]).unwrap();
            plan.session().unwrap().run(vec![picture])
        };
        // three convolutions of 3 and a pool of 2 leave one place of 12 pixels
        assert_eq!(run(12).unwrap()[0].shape()[1..3], [1, 1]);
        let error = run(4).unwrap_err().to_string();
        assert!(error.starts_with("the input is too small: "), "{error}");
    }
}

#[test]
fn operands_that_do_not_fit_each_other_are_refused() {
    let (dim, float) = (|name: &str| Dim::Symbol(name.into()), ElementType::F32);
    let tensor = |name: &str, shape: Vec<Dim>| Tensor {
        name: name.into(),
        origin: None,
        element: float,
        shape,
        quantization: None,
        data: None,
    };
    let product = |x: Vec<Dim>, y: Vec<Dim>| {
        let z = vec![Dim::Known(2), x[1].clone(), y[2].clone()];
        let op = LiteOp::BatchMatMul { transpose_x: false, transpose_y: false };
        let graph = Subgraph {
            name: "main".into(),
            tensors: vec![tensor("x", x), tensor("y", y), tensor("z", z)],
            nodes: vec![Node { op, inputs: vec![Some(0), Some(1)], outputs: vec![2] }],
            inputs: vec![0, 1],
            outputs: vec![2],
        };
        plan_lite(&Model { subgraphs: vec![graph], ..Model::default() })
    };
    let open = |n: &str, k: &str| vec![Dim::Known(2), dim(n), dim(k)];
    let plan = product(open("a", "b"), open("c", "d")).unwrap();
    let ones = |shape: [usize; 3]| f32_tensor(&shape, &vec![1.0; shape.iter().product()]).unwrap();
    let run = |x, y| plan.session().unwrap().run(vec![ones(x), ones(y)]);
    let fits = run([2, 3, 5], [2, 5, 4]).unwrap();
    assert_eq!((fits[0].shape(), f32_values(&fits[0]).unwrap()[0]), (&[2, 3, 4][..], 5.0));
    for (x, y) in [([2, 3, 64], [2, 5, 4]), ([2, 3, 5], [2, 640, 4])] {
        let error = format!("{:#}", run(x, y).unwrap_err());
        assert!(error.contains("a product of"), "{error}");
    }
    let known = |shape: [usize; 3]| shape.map(Dim::Known).to_vec();
    let error = product(known([2, 3, 64]), known([2, 5, 4])).err().expect("64 by 5");
    assert!(format!("{error:#}").contains("multiplies"), "{error:#}");
}
