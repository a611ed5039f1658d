//! ONNX operators that tract computes wrongly and mlctl replaces, against their formulas.

use mlctl::runtime::{Plan, f32_tensor, to_f32};
use mlctl::tract::{onnx, pb};
use std::sync::Arc;

fn one_node(op: &str, attribute: (&str, f32), x: &[f32]) -> Vec<f32> {
    let size = x.len() as i64;
    let port = |name| onnx::float_port(name, [onnx::OnnxDim::Number(size)].into_iter());
    let attribute = pb::AttributeProto {
        name: attribute.0.into(),
        f: attribute.1,
        r#type: pb::attribute_proto::AttributeType::Float as i32,
        ..Default::default()
    };
    let node = pb::NodeProto {
        op_type: op.into(),
        input: vec!["x".into()],
        output: vec!["y".into()],
        attribute: vec![attribute],
        ..Default::default()
    };
    let graph = pb::GraphProto {
        node: vec![node],
        input: vec![port("x")],
        output: vec![port("y")],
        ..Default::default()
    };
    let proto = pb::ModelProto {
        graph: Some(graph),
        opset_import: vec![pb::OperatorSetIdProto { version: 12, ..Default::default() }],
        ir_version: 7,
        ..Default::default()
    };
    let loaded = onnx::load(Arc::new(proto.into()), None).unwrap();
    let plan = Plan::new(loaded.model, &loaded.inputs, &loaded.outputs).unwrap();
    let y = plan.session().unwrap().run(vec![f32_tensor(&[x.len()], x).unwrap()]).unwrap();
    to_f32(&y[0]).unwrap().to_vec()
}

/// `max(0, x) + min(0, 3 × (exp(x / 3) − 1))`, computed in float64.
#[test]
fn celu_scales_what_is_below_zero() {
    let y = one_node("Celu", ("alpha", 3.0), &[-2.0, -1.0, 2.0]);
    for (found, expected) in y.iter().zip([-1.459_748_6f32, -0.850_406_1, 2.0]) {
        assert!((found - expected).abs() < 1e-6, "{found} instead of {expected}");
    }
}
