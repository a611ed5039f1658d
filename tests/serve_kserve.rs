//! KServe's Open Inference Protocol (V2) as `mlctl serve` speaks it: JSON and binary tensors over REST, and gRPC by the
//! public field numbers.

mod serving;
#[path = "serving/grpc.rs"]
mod grpc;
#[path = "serving/models.rs"]
mod models;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use grpc::field;
use models::{base_of, half_plus, put};
use serde_json::{Value, json};
use serving::{Response, Server};
use std::fs;
use std::io::{Read, Write};

fn start(base: &tempfile::TempDir, more: &[&str]) -> Server {
    let path = base.path().to_str().unwrap();
    let server = Server::start(&[&[path, "--model_name=m"], more].concat());
    server.wait_for("/readyz");
    server
}

const INFER: &str = "/v2/models/m/infer";

fn error(message: &str) -> String {
    format!("{{\"error\": {}}}", serde_json::to_string(message).unwrap())
}

/// `POST`s and compares status and body.
fn check(server: &Server, path: &str, body: &str, status: u16, expected: &str) {
    let response = server.post(path, body);
    assert_eq!((response.status, response.text().as_str()), (status, expected), "{path} {body}");
    assert_eq!(response.header("content-type"), Some("application/json"));
}

fn x(shape: &str, data: &str) -> String {
    format!(
        r#"{{"inputs": [{{"name": "x", "shape": {shape}, "datatype": "FP32", "data": {data}}}]}}"#
    )
}

/// `POST`s JSON with bytes behind it.
fn post_binary(server: &Server, path: &str, json: &str, bytes: &[u8], more: &[&str]) -> Response {
    let head = format!("Inference-Header-Content-Length: {}", json.len());
    let body = [json.as_bytes(), bytes].concat();
    server.connect().request("POST", path, &[&[head.as_str()], more].concat(), &body)
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

/// An answer's JSON, and the bytes behind it.
fn parts(response: &Response, body: &[u8]) -> (Value, Vec<u8>) {
    assert_eq!(response.status, 200, "{}", response.text());
    assert_eq!(response.header("content-type"), Some("application/octet-stream"));
    let head = response.header("inference-header-content-length").unwrap().parse().unwrap();
    (serde_json::from_slice(&body[..head]).unwrap(), body[head..].to_vec())
}

#[test]
fn json_in_and_out() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &[]);
    let answer = |version: &str, shape: &str, data: &str| {
        format!(
            r#"{{"model_name": "m", "model_version": "{version}", "outputs": [{{"name": "y", "datatype": "FP32", "shape": {shape}, "data": {data}}}]}}"#
        )
    };
    check(
        &server,
        INFER,
        &x("[3]", "[1.0, 2.0, 5.0]"),
        200,
        &answer("1", "[3]", "[2.5, 3.0, 4.5]"),
    );
    check(&server, INFER, &x("[1]", "[[1]]"), 200, &answer("1", "[1]", "[2.5]"));
    let special = answer("1", "[3]", "[NaN, Infinity, -Infinity]");
    check(&server, INFER, &x("[3]", "[NaN, Infinity, -Infinity]"), 200, &special);
    for path in ["/v2/models/m/versions/1/infer", "/v2/models/m/versions/0001/infer?a=b"] {
        check(&server, path, &x("[1]", "[0]"), 200, &answer("1", "[1]", "[2.0]"));
    }
    let chosen = x("[1]", "[0]").replace(
        "]}]}",
        r#"]}], "outputs": [{"name": "y", "parameters": {"binary_data": false}}], "parameters": {"priority": 1}, "id": "né\"1"}"#,
    );
    let expected =
        answer("1", "[1]", "[2.0]").replace(", \"outputs", ", \"id\": \"né\\\"1\", \"outputs");
    check(&server, INFER, &chosen, 200, &expected);
    put(base.path(), "2", &half_plus(3.0));
    server.wait_for_version("m", 2);
    check(&server, INFER, &x("[1]", "[0]"), 200, &answer("2", "[1]", "[3.0]"));
    let metrics = server.get("/monitoring/prometheus/metrics").text();
    let line = r#"mlctl_requests_total{model="m",version="2",signature="serving_default",api="infer",entrypoint="REST",code="OK"} 1"#;
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
}

#[test]
fn several_inputs_and_fixed_batches() {
    let base = base_of(&models::two_inputs());
    let server = start(&base, &[]);
    let inputs = r#""inputs": [{"name": "n", "shape": [2], "datatype": "INT32", "data": [7, -8]},
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]"#;
    check(
        &server,
        INFER,
        &format!("{{{inputs}}}"),
        200,
        r#"{"model_name": "m", "model_version": "1", "outputs": [{"name": "sum", "datatype": "FP32", "shape": [2, 2], "data": [2.0, 4.0, 6.0, 8.0]}, {"name": "total", "datatype": "INT32", "shape": [2], "data": [14, -16]}]}"#,
    );
    check(
        &server,
        INFER,
        &format!(r#"{{{inputs}, "outputs": [{{"name": "total"}}]}}"#),
        200,
        r#"{"model_name": "m", "model_version": "1", "outputs": [{"name": "total", "datatype": "INT32", "shape": [2], "data": [14, -16]}]}"#,
    );
    // one input as JSON and one behind it, one output each
    let json = r#"{"inputs": [{"name": "a", "shape": [1, 2], "datatype": "FP32", "parameters": {"binary_data_size": 8}},
        {"name": "n", "shape": [1], "datatype": "INT32", "data": [5]}],
        "outputs": [{"name": "total", "parameters": {"binary_data": true}}, {"name": "sum"}]}"#;
    let response = post_binary(&server, INFER, json, &floats(&[1.5, -2.0]), &[]);
    let (told, bytes) = parts(&response, &response.body);
    assert_eq!(
        told,
        json!({"model_name": "m", "model_version": "1", "outputs": [
            {"name": "total", "datatype": "INT32", "shape": [1], "parameters": {"binary_data_size": 4}},
            {"name": "sum", "datatype": "FP32", "shape": [1, 2], "data": [3.0, -4.0]},
        ]})
    );
    assert_eq!(bytes, 10i32.to_le_bytes());
    let unequal = r#"{"inputs": [{"name": "n", "shape": [1], "datatype": "INT32", "data": [7]},
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}"#;
    let message = "Batching Run() input tensors must have equal 0th-dimension size";
    check(&server, INFER, unequal, 400, &error(message));

    let base = base_of(&models::one_row());
    let server = start(&base, &[]);
    let expected = r#"{"model_name": "m", "model_version": "1", "outputs": [{"name": "y", "datatype": "FP32", "shape": [3, 2], "data": [2.0, 4.0, 6.0, 8.0, 0.0, 0.0]}]}"#;
    check(&server, INFER, &x("[3, 2]", "[[1, 2], [3, 4], [0, 0]]"), 200, expected);
}

#[test]
fn binary_in_and_out() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &["--enable_batching=true"]);
    let values: Vec<f32> = (0..3000).map(|i| i as f32).collect();
    let expected = floats(&values.iter().map(|v| v / 2.0 + 2.0).collect::<Vec<f32>>());
    let json = r#"{"id": "7", "inputs": [{"name": "x", "shape": [3000], "datatype": "FP32",
        "parameters": {"binary_data_size": 12000}}], "parameters": {"binary_data_output": true}}"#;
    let response = post_binary(&server, INFER, json, &floats(&values), &[]);
    let (told, bytes) = parts(&response, &response.body);
    let output = json!({"name": "y", "datatype": "FP32", "shape": [3000], "parameters": {"binary_data_size": 12000}});
    let told_of =
        json!({"model_name": "m", "model_version": "1", "id": "7", "outputs": [output.clone()]});
    assert_eq!((told, &bytes), (told_of.clone(), &expected));

    // packed both ways: the length is that of the unpacked JSON
    let mut encoder = GzEncoder::new(vec![], Compression::fast());
    encoder.write_all(&[json.as_bytes(), &floats(&values)].concat()).unwrap();
    let head = format!("Inference-Header-Content-Length: {}", json.len());
    let headers = [head.as_str(), "Content-Encoding: gzip", "Accept-Encoding: gzip"];
    let packed = encoder.finish().unwrap();
    let response = server.connect().request("POST", INFER, &headers, &packed);
    assert_eq!(response.header("content-encoding"), Some("gzip"));
    let mut body = vec![];
    GzDecoder::new(&response.body[..]).read_to_end(&mut body).unwrap();
    assert_eq!(parts(&response, &body), (told_of, expected.clone()));

    // nothing but the tensor
    let headers = ["Inference-Header-Content-Length: 0"];
    let response = server.connect().request("POST", INFER, &headers, &floats(&values));
    assert_eq!(parts(&response, &response.body).1, expected);
}

#[test]
fn what_is_wrong_has_triton_s_codes() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &[]);
    let good = x("[1]", "[1]");
    for (path, body, status, message) in [
        (
            "/v2/models/none/infer",
            good.as_str(),
            404,
            "Request for unknown model: 'none' is not found",
        ),
        (
            "/v2/models/m/versions/7/infer",
            &good,
            404,
            "Request for unknown model: 'm' version 7 is not found",
        ),
        (
            "/v2/models/m/versions/x/infer",
            &good,
            400,
            "failed to get model version from specified version string 'x', version should be an integral value > 0 or \
             a label of the model",
        ),
        (
            "/v2/models/m/versions/99999999999999999999/infer",
            &good,
            400,
            "failed to get model version from specified version string '99999999999999999999', version should be an \
             integral value > 0 or a label of the model",
        ),
        (
            INFER,
            "{}",
            400,
            "expected 1 inputs but got 0 inputs for model 'm'. Got input(s) [], but missing required input(s) ['x']. \
             Please provide all required input(s).",
        ),
        (INFER, &x("[1, 2]", "[1, 2]"), 400, "input 'x' takes shape [N], got [1, 2]"),
        (INFER, &x("[]", "[1]"), 400, "input 'x' takes shape [N], got []"),
        (INFER, &x("[0]", "[]"), 400, "the request has no rows"),
        (
            INFER,
            &good.replace("FP32", "FP64"),
            400,
            "inference input 'x' data-type is 'FP64', but model 'm' expects 'FP32'",
        ),
        (
            INFER,
            &good.replace("]}]}", r#"]}], "outputs": [{"name": "q"}]}"#),
            400,
            "unexpected inference output 'q' for model 'm'",
        ),
        ("/v2/models/m/explain", &good, 404, "Not found: POST /v2/models/m/explain"),
        ("/v2/models/m", &good, 404, "Not found: POST /v2/models/m"),
        (
            "/v2/repository/models/m/unload",
            "{}",
            503,
            "explicit model load / unload is not allowed: models are loaded and unloaded as their folders and the \
             model config change",
        ),
        (
            "/v2/repository/index",
            "{",
            400,
            "failed to parse the request JSON buffer: EOF while parsing an object at line 1 column 1",
        ),
        (
            "/v2/repository/index",
            r#"{"ready": 1}"#,
            400,
            "Invalid value for 'ready': expected a boolean",
        ),
    ] {
        check(&server, path, body, status, &error(message));
    }
    let json = r#"{"inputs": [{"name": "x", "shape": [2], "datatype": "FP32", "parameters": {"binary_data_size": 8}}]}"#;
    let with = |header: &str| {
        let body = [json.as_bytes(), &[0; 8]].concat();
        let header = format!("Inference-Header-Content-Length: {header}");
        let response = server.connect().request("POST", INFER, &[&header], &body);
        (response.status, response.text())
    };
    let length = json.len() + 8;
    assert_eq!(with(&json.len().to_string()).0, 200);
    for given in [(length + 1).to_string(), "99999999999999999999999".into()] {
        let message =
            format!("inference header size should be in range (0, {length}), got: {given}");
        assert_eq!(with(&given), (400, error(&message)));
    }
    for given in ["-1", "x", "1e3", "+5"] {
        let message = format!("Unable to parse Inference-Header-Content-Length, got: {given}");
        assert_eq!(with(given), (400, error(&message)));
    }
    let short = post_binary(&server, INFER, json, &[0; 7], &[]);
    let message = "unexpected size for input 'x', expecting 1 additional bytes for model 'm'";
    assert_eq!((short.status, short.text()), (400, error(message)));
    assert_eq!(server.post(INFER, &good).status, 200);
}

#[test]
fn the_server_and_its_models_tell_of_themselves() {
    let base = base_of(&models::two_inputs());
    let server = start(&base, &[]);
    let get = |path: &str| {
        let response = server.get(path);
        (response.status, response.json())
    };
    let version = env!("CARGO_PKG_VERSION");
    let extensions =
        ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];
    let told = json!({"name": "mlctl", "version": version, "extensions": extensions});
    assert_eq!(get("/v2"), (200, told));
    assert_eq!(get("/v2/health/live"), (200, json!({"live": true})));
    assert_eq!(get("/v2/health/ready"), (200, json!({"ready": true})));
    let metadata = json!({
        "name": "m", "versions": ["1"], "platform": "mlctl",
        "inputs": [
            {"name": "a", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "n", "datatype": "INT32", "shape": [-1]},
        ],
        "outputs": [
            {"name": "sum", "datatype": "FP32", "shape": [-1, 2]},
            {"name": "total", "datatype": "INT32", "shape": [-1]},
        ],
    });
    assert_eq!(get("/v2/models/m"), (200, metadata.clone()));
    assert_eq!(get("/v2/models/m/versions/1"), (200, metadata));
    let ready = json!({"name": "m", "ready": true});
    assert_eq!(get("/v2/models/m/ready"), (200, ready.clone()));
    assert_eq!(get("/v2/models/m/versions/1/ready"), (200, ready));
    let unknown = json!({"error": "Request for unknown model: 'm' version 2 is not found"});
    for page in ["", "/ready", "/config", "/stats"] {
        assert_eq!(get(&format!("/v2/models/m/versions/2{page}")), (404, unknown.clone()));
    }
    let config = json!({
        "name": "m", "platform": "mlctl", "backend": "mlctl", "max_batch_size": 0,
        "input": [
            {"name": "a", "data_type": "TYPE_FP32", "dims": [-1, 2]},
            {"name": "n", "data_type": "TYPE_INT32", "dims": [-1]},
        ],
        "output": [
            {"name": "sum", "data_type": "TYPE_FP32", "dims": [-1, 2]},
            {"name": "total", "data_type": "TYPE_INT32", "dims": [-1]},
        ],
    });
    assert_eq!(get("/v2/models/m/config"), (200, config));

    let body = r#"{"inputs": [{"name": "n", "shape": [2], "datatype": "INT32", "data": [7, 8]},
        {"name": "a", "shape": [2, 2], "datatype": "FP32", "data": [1, 2, 3, 4]}]}"#;
    assert_eq!(server.post(INFER, body).status, 200);
    assert_eq!(server.post(INFER, "{}").status, 400);
    let (status, stats) = get("/v2/models/m/stats");
    let own = &stats["model_stats"][0];
    assert_eq!((status, &own["name"], &own["version"]), (200, &json!("m"), &json!("1")));
    assert_eq!((&own["inference_count"], &own["execution_count"]), (&json!(2), &json!(1)));
    let counted = &own["inference_stats"];
    assert_eq!((&counted["success"]["count"], &counted["fail"]["count"]), (&json!(1), &json!(1)));
    assert!(counted["success"]["ns"].as_u64() > Some(0), "{stats}");
    assert_eq!(get("/v2/models/stats").1["model_stats"][0]["name"], json!("m"));

    let broken = base.path().join(".placing");
    fs::create_dir(&broken).unwrap();
    fs::write(broken.join("model.tflite"), b"no model").unwrap();
    fs::rename(broken, base.path().join("2")).unwrap();
    let path = "/v1/models/m/versions/2";
    server.wait_until(path, |response| response.text().contains("model.tflite"));
    let index = |body: &str| server.post("/v2/repository/index", body).json();
    let ready = json!({"name": "m", "version": "1", "state": "READY", "reason": ""});
    assert_eq!(index(r#"{"ready": true}"#), json!([ready]));
    let all = index("");
    assert_eq!((&all[0], &all[1]["state"]), (&ready, &json!("UNAVAILABLE")), "{all}");
    assert!(all[1]["reason"].as_str().unwrap().contains("model.tflite"), "{all}");
    let message = "Request for unknown model: 'm' version 2 is not at ready state";
    assert_eq!(get("/v2/models/m/versions/2/ready"), (503, json!({"error": message})));
}

#[test]
fn batching_is_told_and_times_are_held() {
    let folder = tempfile::tempdir().unwrap();
    let parameters = folder.path().join("batching.txt");
    let text = "max_batch_size { value: 16 } batch_timeout_micros { value: 300000 } allowed_batch_sizes: 4 allowed_batch_sizes: 16";
    fs::write(&parameters, text).unwrap();
    let base = base_of(&models::scores());
    let file = format!("--batching_parameters_file={}", parameters.display());
    let server = start(&base, &["--enable_batching=true", &file]);
    let config = server.get("/v2/models/m/config").json();
    assert_eq!(config["max_batch_size"], json!(16));
    assert_eq!(config["input"][0]["dims"], json!([3]));
    let batching =
        json!({"preferred_batch_size": [4, 16], "max_queue_delay_microseconds": 300_000});
    assert_eq!(config["dynamic_batching"], batching);
    let late = x("[1, 3]", "[1, 2, 3]").replace("]}]}", r#"]}], "parameters": {"timeout": 1000}}"#);
    let response = server.post(INFER, &late);
    assert_eq!(response.status, 504, "{}", response.text());
    assert_eq!(server.post(INFER, &x("[1, 3]", "[1, 2, 3]")).status, 200);
}

/// One call of KServe's service.
fn call(server: &Server, method: &str, message: &[u8]) -> Option<Vec<u8>> {
    grpc::call(server, &format!("/inference.GRPCInferenceService/{method}"), message)
}

#[test]
fn grpc_by_the_public_field_numbers() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &["--access-log"]);
    let input = |more: &[u8]| {
        let own = [field(1, "x"), field(2, "FP32"), field(3, [2]), more.to_vec()].concat();
        [field(1, "m"), field(3, "id7"), field(5, own)].concat()
    };
    let values = floats(&[1.0, 5.0]);
    let output = [field(1, "y"), field(2, "FP32"), field(3, [2])].concat();
    let expected = [
        field(1, "m"),
        field(2, "1"),
        field(3, "id7"),
        field(5, output),
        field(6, floats(&[2.5, 4.5])),
    ];
    let raw = [input(&[]), field(7, &values)].concat();
    let typed = input(&field(5, field(6, &values)));
    for request in [&raw, &typed] {
        assert_eq!(call(&server, "ModelInfer", request), Some(expected.concat()));
    }
    let of = |model: &str, version: &str| [field(1, model), field(2, version)].concat();
    for (method, request, expected) in [
        ("ServerLive", vec![], Some(vec![8, 1])),
        ("ServerReady", vec![], Some(vec![8, 1])),
        ("ModelReady", of("m", ""), Some(vec![8, 1])),
        ("ModelReady", of("m", "1"), Some(vec![8, 1])),
        ("ModelReady", of("m", "2"), Some(vec![])),
        ("ModelReady", of("none", ""), Some(vec![])),
        ("ModelMetadata", of("none", ""), None),
        ("ModelInfer", of("none", ""), None),
        ("ModelInfer", [&raw[..], &field(7, &values)].concat(), None),
        ("ModelInfer", input(&field(5, field(6, &values[..4]))), None),
        ("ModelInfer", [0x2a, 0].repeat(5000), None),
        ("ModelInfer", vec![0xff; 7], None),
        ("ModelStreamInfer", raw.clone(), Some(field(2, expected.concat()))),
        (
            "ModelStreamInfer",
            of("none", ""),
            Some(field(1, "Request for unknown model: 'none' is not found")),
        ),
    ] {
        assert_eq!(call(&server, method, &request), expected, "{method}");
    }
    let metadata = call(&server, "ModelMetadata", &of("m", "")).unwrap();
    // -1 as a varint
    let shape = [&[0xff; 9][..], &[1]].concat();
    let end = |name: &str| [field(1, name), field(2, "FP32"), field(3, &shape)].concat();
    let told =
        [field(1, "m"), field(2, "1"), field(3, "mlctl"), field(4, end("x")), field(5, end("y"))];
    assert_eq!(metadata, told.concat());
    let metrics = server.get("/monitoring/prometheus/metrics").text();
    let line = r#"mlctl_requests_total{model="m",version="1",signature="serving_default",api="infer",entrypoint="GRPC",code="OK"} 3"#;
    assert!(metrics.lines().any(|l| l == line), "{metrics}");
    // a line may come after its answer
    server.wait_until("/v2/health/live", |_| server.log().contains("ModelInfer"));
    let logged = server.log();
    let entry = logged.lines().find(|l| l.contains("ModelInfer")).expect("a line of the log");
    let entry: Value = serde_json::from_str(entry).unwrap();
    assert_eq!((&entry["model"], &entry["version"]), (&json!("m"), &json!(1)));
    assert_eq!(server.post(INFER, &x("[1]", "[1]")).status, 200);
}
