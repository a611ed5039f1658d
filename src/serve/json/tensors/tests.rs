//! Bodies as data; the texts are TensorFlow Serving's (`util/json_tensor.cc`).

use super::*;
use crate::graph::Dim;

fn port(name: &str, element: ElementType) -> Port {
    Port { name: name.into(), element, shape: vec![Dim::Symbol("N".into())], quantization: None }
}

fn one() -> Vec<Port> {
    vec![port("x", ElementType::F32)]
}

fn two() -> Vec<Port> {
    vec![port("x", ElementType::F32), port("n", ElementType::I32)]
}

#[test]
fn bodies_become_tensors() {
    fn check(ports: &[Port], body: &str, form: Form, expected: &[(&[usize], &[f32])]) {
        let read = read_predict(body.as_bytes(), ports).unwrap_or_else(|e| panic!("{body}: {e}"));
        let (found, tensors) = read.tensors.unwrap();
        assert_eq!(found, form, "{body}");
        for ((tensor, (shape, values)), port) in tensors.iter().zip(expected).zip(ports) {
            assert_eq!(tensor.shape(), *shape, "{body}");
            assert_eq!(tensor.datum_type(), crate::ops::datum_type(port.element).unwrap());
            assert_eq!(crate::runtime::to_f32(tensor).unwrap(), *values, "{body}");
        }
        assert_eq!(tensors.len(), expected.len());
    }
    use Form::{Columns, Rows};
    check(&one(), r#"{"instances": [1, 2.5, -3e2]}"#, Rows, &[(&[3], &[1.0, 2.5, -300.0])]);
    check(&one(), r#"{"instances": [[1, 2], [3, 4]]}"#, Rows, &[(&[2, 2], &[1.0, 2.0, 3.0, 4.0])]);
    check(&one(), r#"{"instances": [{"x": [1]}, {"x": [2]}]}"#, Rows, &[(&[2, 1], &[1.0, 2.0])]);
    check(&one(), r#"{"inputs": [[1, 2], [3, 4]]}"#, Columns, &[(&[2, 2], &[1.0, 2.0, 3.0, 4.0])]);
    check(&one(), r#"{"inputs": {"x": 5, "more": {}}}"#, Columns, &[(&[], &[5.0])]);
    check(&one(), r#"{"inputs": []}"#, Columns, &[(&[0], &[])]);
    check(&one(), r#"{"instances": [[], []]}"#, Rows, &[(&[2, 0], &[])]);
    check(
        &two(),
        r#"{"instances": [{"x": [1], "n": 7}, {"n": -8, "x": [2]}], "other": [{}]}"#,
        Rows,
        &[(&[2, 1], &[1.0, 2.0]), (&[2], &[7.0, -8.0])],
    );
    check(
        &two(),
        r#"{"inputs": {"n": [1, 2], "x": [[0.5]]}}"#,
        Columns,
        &[(&[1, 1], &[0.5]), (&[2], &[1.0, 2.0])],
    );
    let kinds = [ElementType::F16, ElementType::U8, ElementType::I64, ElementType::I8];
    for kind in kinds {
        check(&[port("x", kind)], r#"{"instances": [1, 2]}"#, Rows, &[(&[2], &[1.0, 2.0])]);
    }
    let (_, tensors) = read_predict(br#"{"instances": [NaN, Infinity, -Inf, 16777215]}"#, &one())
        .unwrap()
        .tensors
        .unwrap();
    let values = crate::runtime::to_f32(&tensors[0]).unwrap();
    assert!(values[0].is_nan());
    assert_eq!(values[1..], [f32::INFINITY, f32::NEG_INFINITY, 16_777_215.0]);
    let flags = read_predict(br#"{"instances": [true, false]}"#, &[port("b", ElementType::Bool)]);
    assert_eq!(flags.unwrap().tensors.unwrap().1[0].as_bytes(), [1, 0]);
}

#[test]
fn a_signature_may_stand_anywhere() {
    for body in [
        r#"{"signature_name": "s", "instances": [1]}"#,
        r#"{"instances": [1], "signature_name": "s"}"#,
    ] {
        let read = read_predict(body.as_bytes(), &one()).unwrap();
        assert_eq!(read.signature.as_deref(), Some("s"));
    }
    let read = read_predict(b"{}", &one()).unwrap();
    assert!(read.signature.is_none() && read.tensors.is_none());
}

#[test]
fn errors_are_tensorflow_serving_s() {
    fn check(ports: &[Port], body: &str, expected: &str) {
        let failure = read_predict(body.as_bytes(), ports).unwrap_err();
        assert_eq!(failure.message, expected, "{body}");
        assert_eq!(failure.code, crate::serve::failure::Code::InvalidArgument);
    }
    check(&one(), "", "JSON Parse error: The document is empty");
    check(&one(), "  ", "JSON Parse error: The document is empty. at offset: 2");
    check(&one(), "[1]", "JSON Value: [1] Is not object");
    check(&one(), r#"{"instances": [1,"#, "JSON Parse error: Invalid value. at offset: 17");
    check(
        &one(),
        r#"{"instances": ["x"], }"#,
        "JSON Parse error: Missing a name for object member. at offset: 21",
    );
    check(
        &one(),
        r#"{"instances": [1]} x"#,
        "JSON Parse error: The document root must not be followed by other values. at offset: 19",
    );
    check(
        &one(),
        r#"{"instances": [1], "inputs": [1]}"#,
        "JSON Value: {\"instances\": [1], \"inputs\": [1]} Not formatted correctly expecting only one of \
         'inputs' or 'instances' keys to exist ",
    );
    check(
        &one(),
        r#"{"instances": 1}"#,
        "JSON Value: {\"instances\": 1} Excepting 'instances' to be an list/array",
    );
    check(
        &one(),
        r#"{"instances": []}"#,
        "JSON Value: {\"instances\": []} No values in 'instances' array",
    );
    check(
        &one(),
        r#"{"signature_name": 100, "instances": [1]}"#,
        "JSON Value: {\"signature_name\": 100, \"instances\": [1]} not formatted correctly. \
         'signature_name' key must be a string value.",
    );
    let element = |row: &str, rest: &str| {
        format!(
            "Failed to process element: {row} of 'instances' list. Error: INVALID_ARGUMENT: {rest}"
        )
    };
    let wrong_type = "JSON Value: \"x\" Type: String is not of expected type: float";
    check(&one(), r#"{"instances": ["x"]}"#, &element("0", wrong_type));
    let message = "JSON Value: null Type: Null is not of expected type: float";
    check(&one(), r#"{"instances": [1, null]}"#, &element("1", message));
    let message = "JSON Value: {\"b64\": \"YQ==\"} Type: Object is not of expected type: float";
    check(&one(), r#"{"instances": [{"b64": "YQ=="}]}"#, &element("0", message));
    let message = "Encountered list at unexpected size: 3 at level: 1 expected size: 2";
    check(&one(), r#"{"instances": [[[1, 2], [3, 4, 5]]]}"#, &element("0", message));
    let message = "Encountered list at unexpected size: 1 at level: 1 expected size: 2";
    check(&one(), r#"{"instances": [[[1, 2], [3]]]}"#, &element("0", message));
    let message = "Expecting tensor size: 2 but got: 1";
    check(&one(), r#"{"instances": [[1, 2], [3]]}"#, &element("1", message));
    let message = "Expecting shape [1,2] but got: [2,1]";
    check(&one(), r#"{"instances": [[[1, 2]], [[3], [4]]]}"#, &element("1", message));
    let message = "JSON Value: 3 found at incorrect level: 2 in the JSON DOM. Expected at level: 2";
    check(&one(), r#"{"instances": [[[1, 2], 3]]}"#, &element("0", message));
    let message = "Encountered list at unexpected level: 1 expected < 1";
    check(&one(), r#"{"instances": [[1, [2]]]}"#, &element("0", message));
    let message = "Cannot convert JSON value: 16777216 to float without loss of precision.";
    check(&one(), r#"{"instances": [16777216]}"#, &element("0", message));
    let message = "Cannot convert JSON value: 1e39 to float without loss of precision.";
    check(&one(), r#"{"instances": [1e39]}"#, &element("0", message));
    check(
        &one(),
        r#"{"instances": [{"x": 1}, 2]}"#,
        "Expecting object but got list at item 1 of input list",
    );
    check(
        &one(),
        r#"{"instances": [1, {"x": 1}]}"#,
        "Expecting value/list but got object at item 1 of input list",
    );
    check(
        &two(),
        r#"{"instances": [1]}"#,
        "instances is a plain list, but expecting list of objects as multiple input tensors required as per \
         tensorinfo_map",
    );
    check(
        &two(),
        r#"{"instances": [{"x": 1}]}"#,
        "Failed to process element: 0 of 'instances' list. JSON object: {\"x\": 1} keys must be equal to: n,x",
    );
    check(
        &two(),
        r#"{"instances": [{"x": 1, "y": 2}]}"#,
        &element("0 key: y", "JSON object: does not have named input: y"),
    );
    let message = "JSON Value: 1.0 Type: Number is not of expected type: int32";
    check(&two(), r#"{"instances": [{"n": 1.0}]}"#, &element("0 key: n", message));
    check(
        &two(),
        r#"{"inputs": [1]}"#,
        "inputs is a plain value/list, but expecting an object as multiple input tensors required as per \
         tensorinfo_map",
    );
    check(&two(), r#"{"inputs": {"n": 1}}"#, "Missing named input: x in 'inputs' object.");
    let message = "JSON Value: 256 Type: Number is not of expected type: uint8";
    check(&[port("x", ElementType::U8)], r#"{"instances": [256]}"#, &element("0", message));
    let deep = format!("{{\"instances\": {}", "[".repeat(100_000));
    check(&one(), &deep, "JSON Parse error: Nested too deep. at offset: 115");
}

#[test]
fn no_bytes_panic() {
    let seeds = [
        r#"{"instances": [{"x": [1.5, -2e1], "n": 3}, {"n": 4, "x": [0, NaN]}], "signature_name": "\u00e9"}"#,
        r#"{"inputs": {"x": [[1], [2]], "n": [3]}, "z": null}"#,
    ];
    for seed in seeds {
        for at in 0..seed.len() {
            let _ = read_predict(&seed.as_bytes()[..at], &two());
            for byte in b"\0\"[]{}:,-0.eNtnI\\\xff" {
                let mut changed = seed.as_bytes().to_vec();
                changed[at] = *byte;
                let _ = read_predict(&changed, &two());
                let _ = read_predict(&changed, &one());
            }
        }
    }
}
