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

/// Two turns of `(x + turn) mod [2, 4, −5]`, stacked; the values are onnxruntime's. tract's own remainder may
/// swap its operands where the dividend is the one to be broadcast.
#[test]
fn what_is_replaced_is_replaced_in_loops_too() {
    use pb::attribute_proto::AttributeType;
    use pb::tensor_proto::DataType;
    let node = |op: &str, inputs: &[&str], outputs: &[&str], attribute: Option<_>| pb::NodeProto {
        op_type: op.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: outputs.iter().map(|s| s.to_string()).collect(),
        attribute: attribute.into_iter().collect(),
        ..Default::default()
    };
    let port = |name: &str, element: DataType, sizes: &[i64]| {
        let dims = sizes.iter().map(|&size| onnx::OnnxDim::Number(size));
        let mut port = onnx::float_port(name, dims);
        let value = port.r#type.as_mut().and_then(|t| t.value.as_mut());
        if let Some(pb::type_proto::Value::TensorType(tensor)) = value {
            tensor.elem_type = element as i32;
        }
        port
    };
    let i32s = |name: &str, values: &[i32]| pb::TensorProto {
        name: name.into(),
        data_type: DataType::Int32 as i32,
        dims: vec![values.len() as i64],
        int32_data: values.to_vec(),
        ..Default::default()
    };
    let truncated = pb::AttributeProto {
        name: "fmod".into(),
        i: 1,
        r#type: AttributeType::Int as i32,
        ..Default::default()
    };
    let body = pb::GraphProto {
        node: vec![
            node("Identity", &["go"], &["go_on"], None),
            node("Add", &["s", "one"], &["next"], None),
            node("Mod", &["s", "divisors"], &["rest"], Some(truncated)),
        ],
        input: vec![
            port("turn", DataType::Int64, &[]),
            port("go", DataType::Bool, &[]),
            port("s", DataType::Int32, &[1]),
        ],
        output: vec![
            port("go_on", DataType::Bool, &[]),
            port("next", DataType::Int32, &[1]),
            port("rest", DataType::Int32, &[3]),
        ],
        initializer: vec![i32s("one", &[1]), i32s("divisors", &[2, 4, -5])],
        ..Default::default()
    };
    let body = pb::AttributeProto {
        name: "body".into(),
        g: Some(body),
        r#type: AttributeType::Graph as i32,
        ..Default::default()
    };
    let turns = pb::TensorProto {
        name: "turns".into(),
        data_type: DataType::Int64 as i32,
        int64_data: vec![2],
        ..Default::default()
    };
    let graph = pb::GraphProto {
        node: vec![node("Loop", &["turns", "", "x"], &["y", "z"], Some(body))],
        input: vec![port("x", DataType::Int32, &[1])],
        output: vec![port("y", DataType::Int32, &[1]), port("z", DataType::Int32, &[2, 3])],
        initializer: vec![turns],
        ..Default::default()
    };
    let proto = pb::ModelProto {
        graph: Some(graph),
        opset_import: vec![pb::OperatorSetIdProto { version: 17, ..Default::default() }],
        ir_version: 8,
        ..Default::default()
    };
    let loaded = onnx::load(Arc::new(proto.into()), None).unwrap();
    let plan = Plan::new(loaded.model, &loaded.inputs, &loaded.outputs).unwrap();
    let x = f32_tensor(&[1], &[7.0]).unwrap();
    let x = x.cast_to_dt(mlctl::ops::datum_type(plan.inputs()[0].element).unwrap());
    let results = plan.session().unwrap().run(vec![x.unwrap().into_owned()]).unwrap();
    let results: Vec<Vec<f32>> = results.iter().map(|r| to_f32(r).unwrap()).collect();
    assert_eq!(results, [vec![9.0], vec![1.0, 3.0, 2.0, 0.0, 0.0, 3.0]]);
}
