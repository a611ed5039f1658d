//! `mlctl serve` as its clients and keepers meet it: versions that come and go, and what must not bring a server down.
//! Paths, texts, codes and number forms are the table of tests/serve_operations.rs.

mod serving;
#[path = "serving/grpc.rs"]
mod grpc;
#[path = "serving/models.rs"]
mod models;

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use grpc::{Call, frame};
use mlctl::format::npy::read_npz;
use models::{base_of, half_plus, put};
use serde_json::{Value, json};
use serving::{Server, copy, place, trained};
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

fn start(base: &tempfile::TempDir, more: &[&str]) -> Server {
    let path = base.path().to_str().unwrap();
    let server = Server::start(&[&[path, "--model_name=half"], more].concat());
    server.wait_for("/readyz");
    server
}

/// `POST`s and compares status and body.
fn check(server: &Server, path: &str, body: &str, status: u16, expected: &str) {
    let response = server.post(path, body);
    assert_eq!((response.status, response.text().as_str()), (status, expected), "{path} {body}");
    assert_eq!(response.header("content-type"), Some("application/json"));
}

fn error(message: &str) -> String {
    format!("{{\"error\": {}}}", serde_json::to_string(message).unwrap())
}

const PREDICT: &str = "/v1/models/half:predict";

#[test]
fn lists_health_and_metrics() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &[]);
    assert_eq!(server.get("/v1/models").json()["models"][0]["name"], "half");
    assert_eq!(server.get("/healthz").text(), "ok\n");
    assert_eq!(server.connect().request("HEAD", "/v1/models/nothing", &[], b"").status, 404);
    server.post(PREDICT, r#"{"instances": [1]}"#);
    server.post(PREDICT, "{}");
    let metrics = server.get("/monitoring/prometheus/metrics").text();
    for line in [
        r#":tensorflow:serving:request_count{model_name="half",status="OK"} 1"#,
        r#":tensorflow:serving:request_count{model_name="half",status="INVALID_ARGUMENT"} 1"#,
        r#":tensorflow:serving:request_latency_count{model_name="half",API="predict",entrypoint="REST"} 1"#,
        r#"mlctl_batch_rows_count{model="half",version="1"} 1"#,
    ] {
        assert!(metrics.lines().any(|l| l == line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn a_trained_model_is_served_with_its_classes() {
    let server = Server::start(&[trained()]);
    server.wait_for("/readyz");
    let zeros = format!("[{}]", vec![format!("[{}]", vec!["[0]"; 28].join(",")); 28].join(","));
    let body = format!("{{\"instances\": [{zeros}, {zeros}]}}");
    let response = server.post("/v1/models/my_mnist_model:predict", &body).json();
    let rows = response["predictions"].as_array().unwrap();
    let sum: f64 = rows[1].as_array().unwrap().iter().map(|p| p.as_f64().unwrap()).sum();
    assert!(rows.len() == 2 && (sum - 1.0).abs() < 1e-5, "{response}");
    let pixels = vec!["0"; 784].join(",");
    let body = format!("{{\"examples\": [{{\"input\": [{pixels}]}}]}}");
    let response = server.post("/v1/models/my_mnist_model:classify", &body).json();
    assert_eq!(response["results"][0][9][0], "9", "{response}");
}

#[test]
fn a_saved_model_that_keras_wrote_is_served() {
    let base = tempfile::tempdir().unwrap();
    let of_keras = |name: &str| serving::fixtures().join("saved_models").join(name);
    copy(&of_keras("keras"), &base.path().join("1"));
    fs::write(base.path().join("1/notes.json"), "{}").unwrap();
    let server = start(&base, &[]);
    let arrays = |name: &str| read_npz(&fs::read(of_keras(name)).unwrap().into()).unwrap();
    let (_, picture) = &arrays("keras_input.npz")[0];
    let body = json!({"inputs": nested(&picture.to_f32(), &picture.shape)});
    let response = server.post(PREDICT, &body.to_string());
    let found: Value = serde_json::from_str(&response.text()).unwrap();
    for (name, expected) in arrays("keras_output.npz") {
        let rows = found["outputs"][&name].as_array().unwrap().iter();
        let values: Vec<f64> =
            rows.flat_map(|row| row.as_array().unwrap()).map(|v| v.as_f64().unwrap()).collect();
        assert_eq!(values.len(), expected.to_f32().len(), "{name}");
        for (value, expected) in values.iter().zip(expected.to_f32()) {
            assert!((value - f64::from(expected)).abs() < 1e-5, "{name}: {value}, {expected}");
        }
    }
}

/// `values` as lists in lists.
fn nested(values: &[f32], shape: &[usize]) -> Value {
    match shape {
        [] => json!(values[0]),
        [rows, inner @ ..] => {
            values.chunks(values.len() / rows).map(|row| nested(row, inner)).collect()
        }
    }
}

#[test]
fn gzip_both_ways_and_bombs() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &["--max-body=1000000"]);
    let pack = |bytes: &[u8]| {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let many = format!("{{\"instances\": [{}]}}", vec!["1"; 1000].join(","));
    let headers = ["Content-Encoding: gzip", "Accept-Encoding: gzip, deflate"];
    let response = server.connect().request("POST", PREDICT, &headers, &pack(many.as_bytes()));
    assert_eq!((response.status, response.header("content-encoding")), (200, Some("gzip")));
    let mut text = String::new();
    GzDecoder::new(response.body.as_slice()).read_to_string(&mut text).unwrap();
    assert_eq!(text, format!("{{\"predictions\": [{}]}}", vec!["2.5"; 1000].join(", ")));
    let small = server.connect().request("POST", PREDICT, &headers[1..], br#"{"instances": [1]}"#);
    assert_eq!(
        (small.header("content-encoding"), small.text().as_str()),
        (None, r#"{"predictions": [2.5]}"#)
    );
    let before = server.memory();
    let bomb = pack(&vec![b' '; 300 << 20]);
    let response = server.connect().request("POST", PREDICT, &headers[..1], &bomb);
    let message = "the request's body has more than 1000000 bytes unpacked";
    assert_eq!((response.status, response.text()), (413, error(message)));
    assert!(server.memory() < before + (50 << 20));
    let response = server.connect().request("POST", PREDICT, &headers[..1], b"not gzip");
    assert_eq!(response.status, 400);
}

#[test]
fn bodies_that_are_too_large_or_too_deep() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &["--max_body=100000"]);
    let before = server.memory();
    let mut client = server.connect();
    client.send(
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n",
    );
    assert_eq!(client.response().unwrap().status, 413);
    let mut client = server.connect();
    client.send(
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n",
    );
    client.send(b"fffffffff\r\n");
    client.send(&[b'['; 150_000]);
    assert_eq!(client.response().unwrap().status, 413);
    for open in ["[", "{\"a\":", "{\"instances\":[", "{\"instances\": [1, [", "{\"inputs\": "] {
        let body = open.repeat(90_000 / open.len());
        let body = if open.starts_with('{') { body } else { format!("{{\"instances\": {body}") };
        assert_eq!(server.post(PREDICT, &body).status, 400, "{open}");
    }
    assert!(server.memory() < before + (20 << 20));
    check(&server, PREDICT, r#"{"instances": [1]}"#, 200, r#"{"predictions": [2.5]}"#);
}

#[test]
fn connections_are_kept_and_requests_may_come_in_any_pieces() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &[]);
    let mut client = server.connect();
    for _ in 0..3 {
        let response = client.request("POST", PREDICT, &[], br#"{"instances": [1]}"#);
        assert_eq!(response.text(), r#"{"predictions": [2.5]}"#);
    }
    let one =
        b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n\
                7\r\n{\"insta\r\nB\r\nnces\": [1]}\r\n0\r\n\r\n";
    for byte in one {
        client.send(&[*byte]);
    }
    assert_eq!(client.response().unwrap().text(), r#"{"predictions": [2.5]}"#);
    client.send(&[&one[..], b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"].concat());
    assert_eq!(client.response().unwrap().text(), r#"{"predictions": [2.5]}"#);
    assert_eq!(client.response().unwrap().text(), "ok\n");
    client.send(b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\nExpect: 100-continue\r\n\r\n");
    assert_eq!(client.response().unwrap().status, 100);
    client.send(br#"{"instances": [1]}"#);
    assert_eq!(client.response().unwrap().status, 200);
    let closing = client.request("GET", "/healthz", &["Connection: close"], b"");
    assert_eq!(closing.header("connection"), Some("close"));
    assert!(client.response().is_none());
    for refused in [
        "nonsense\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: gzip\r\n\r\n",
        "GET /healthz HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
        "GET /healthz HTTP/1.1\r\n\r\n",
    ] {
        let mut client = server.connect();
        client.send(refused.as_bytes());
        assert_eq!(client.response().unwrap().status, 400);
        assert!(client.response().is_none());
    }
    // the chunks count, and what stands behind them is not taken for a request (RFC 9112, section 6.3)
    let mut client = server.connect();
    client.send(
        b"GET /healthz HTTP/1.1\r\nHost: x\r\nContent-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\
          GET /readyz HTTP/1.1\r\nHost: x\r\n\r\n",
    );
    let response = client.response().unwrap();
    assert_eq!((response.status, response.header("connection")), (200, Some("close")));
    assert!(client.response().is_none());
    let mut client = server.connect();
    client.send(
        format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(100_000))
            .as_bytes(),
    );
    assert_eq!(client.response().unwrap().status, 431);
}

/// Answers never mix versions; none fails while versions come and go.
#[test]
fn versions_replace_each_other_under_load_and_roll_back() {
    let base = base_of(&half_plus(1.0));
    let server = start(&base, &[]);
    let (stop, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut client = server.connect();
                while !stop.load(Ordering::Relaxed) {
                    let response = client.request("POST", PREDICT, &[], br#"{"instances": [0]}"#);
                    assert_eq!(response.status, 200, "{}", response.text());
                    answered.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        for version in 2..=5 {
            put(base.path(), &version.to_string(), &half_plus(version as f32));
            server.wait_for_version("half", version);
            let expected = format!("{{\"predictions\": [{version}.0]}}");
            check(&server, PREDICT, r#"{"instances": [0]}"#, 200, &expected);
        }
        fs::remove_dir_all(base.path().join("5")).unwrap();
        server.wait_until("/v1/models/half/versions/5", |r| !r.text().contains("AVAILABLE"));
        check(&server, PREDICT, r#"{"instances": [0]}"#, 200, r#"{"predictions": [4.0]}"#);
        stop.store(true, Ordering::Relaxed);
    });
    assert!(answered.load(Ordering::Relaxed) > 10);
    server.wait_until("/v1/models/half/versions/1", |r| r.text().contains("END"));
    let only = serde_json::json!("AVAILABLE");
    let status = server.get("/v1/models/half").json();
    let states = status["model_version_status"].as_array().unwrap();
    assert_eq!(states.iter().filter(|v| v["state"] == only).count(), 1, "{status}");
}

#[test]
fn half_copied_versions_wait_and_broken_ones_tell_why() {
    let base = tempfile::tempdir().unwrap();
    place(&trained().join("0001"), &base.path().join("1"));
    let server = start(&base, &[]);
    let zeros = vec!["0"; 784].join(",");
    let classify = format!("{{\"examples\": [{{\"input\": [{zeros}]}}]}}");
    let answers = || server.post("/v1/models/half:classify", &classify).status == 200;
    assert!(answers());

    // as 'cp -r' does it, slowly: the record first, the model later
    let (from, to) = (trained().join("0001"), base.path().join("2"));
    fs::create_dir_all(to.join("assets")).unwrap();
    fs::copy(from.join("mlctl.json"), to.join("mlctl.json")).unwrap();
    let model = fs::read(from.join("model.onnx")).unwrap();
    let mut file = fs::File::create(to.join("model.onnx")).unwrap();
    for piece in model.chunks(model.len() / 8 + 1) {
        file.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(60));
        let status = server.get("/v1/models/half/versions/2");
        assert!(!status.text().contains("AVAILABLE") && answers(), "{}", status.text());
    }
    fs::copy(from.join("assets/labels.txt"), to.join("assets/labels.txt")).unwrap();
    server.wait_for_version("half", 2);

    let broken = base.path().join("3");
    copy(&from, &base.path().join(".3"));
    let mut damaged = model.clone();
    damaged[1000] ^= 1;
    fs::write(base.path().join(".3/model.onnx"), &damaged).unwrap();
    fs::rename(base.path().join(".3"), &broken).unwrap();
    server
        .wait_until("/v1/models/half/versions/3", |r| r.text().contains("was changed or damaged"));
    let status = server.get("/v1/models/half/versions/3").json();
    assert_eq!(status["model_version_status"][0]["state"], "END");
    assert_eq!(status["model_version_status"][0]["status"]["error_code"], "DATA_LOSS");
    assert!(answers() && server.get("/v1/models/half").text().contains("AVAILABLE"));
    fs::write(broken.join("model.onnx"), &model).unwrap();
    server.wait_for_version("half", 3);
    assert!(answers());

    put(base.path(), "4", b"no model at all");
    server.wait_until("/v1/models/half/versions/4", |r| r.text().contains("not a .tflite model"));
    fs::create_dir(base.path().join("5")).unwrap();
    server.wait_until("/v1/models/half/versions/5", |r| r.text().contains("holds no model"));
    assert!(answers());
    fs::remove_dir_all(base.path().join("4")).unwrap();
    server.wait_until("/v1/models/half/versions/4", |r| r.status == 404);
}

#[test]
fn a_folder_that_vanishes_leaves_what_is_served() {
    let base = base_of(&half_plus(2.0));
    let inner = base.path().join("models");
    fs::create_dir(&inner).unwrap();
    put(&inner, "1", &half_plus(1.0));
    let server = Server::start(&[inner.to_str().unwrap(), "--model_name=half"]);
    server.wait_for("/readyz");
    let away = base.path().join("away");
    fs::rename(&inner, &away).unwrap();
    std::thread::sleep(Duration::from_millis(400));
    check(&server, PREDICT, r#"{"instances": [0]}"#, 200, r#"{"predictions": [1.0]}"#);
    server.wait_until("/healthz", |_| server.log().contains("cannot read"));
    fs::rename(&away, &inner).unwrap();
    put(&inner, "2", &half_plus(2.0));
    server.wait_for_version("half", 2);
    // what is loaded does not depend on its file any more
    fs::write(inner.join("2/model.tflite"), "").unwrap();
    check(&server, PREDICT, r#"{"instances": [0]}"#, 200, r#"{"predictions": [2.0]}"#);
}

#[test]
fn several_models_policies_and_labels() {
    let (one, two) = (base_of(&half_plus(1.0)), base_of(&half_plus(1.0)));
    for version in [2, 3] {
        put(one.path(), &version.to_string(), &half_plus(version as f32));
        put(two.path(), &version.to_string(), &half_plus(version as f32));
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("models.config");
    let config = |policy: &str, stable: u32| {
        let text = format!(
            "model_config_list {{\n config {{ name: 'one' base_path: '{}' model_platform: 'tensorflow'\n\
             model_version_policy {{ {policy} }} version_labels {{ key: 'stable' value: {stable} }} }}\n\
             config {{ name: 'two' base_path: '{}' }} }}",
            one.path().display(),
            two.path().display()
        );
        fs::write(&file, text).unwrap();
    };
    config("specific { versions: 1 versions: 2 }", 1);
    let mut server = Server::start(&[format!("--model_config_file={}", file.display())]);
    server.wait_for("/readyz");
    for version in [1, 2] {
        server.wait_for_version("one", version);
    }
    server.wait_until("/v1/models/one/labels/stable", |r| r.status == 200);
    let ask = |path: &str| server.post(path, r#"{"instances": [0]}"#).text();
    assert_eq!(ask("/v1/models/one:predict"), r#"{"predictions": [2.0]}"#);
    assert_eq!(ask("/v1/models/one/labels/stable:predict"), r#"{"predictions": [1.0]}"#);
    assert_eq!(ask("/v1/models/two:predict"), r#"{"predictions": [3.0]}"#);
    assert_eq!(server.get("/v1/models/one/versions/3").status, 404);
    config("all {}", 3);
    server.signal("HUP");
    server.wait_for_version("one", 3);
    server.wait_until("/v1/models/one/labels/stable", |r| r.text().contains("\"3\""));
    assert_eq!(
        server.post("/v1/models/one/labels/stable:predict", r#"{"instances": [0]}"#).text(),
        r#"{"predictions": [3.0]}"#
    );
    fs::write(&file, "model_config_list { config { name: } }").unwrap();
    server.signal("HUP");
    server.wait_until("/healthz", |_| server.log().contains("the config stays as it was"));
    assert_eq!(server.get("/v1/models/two").status, 200);
    fs::write(
        &file,
        format!(
            "model_config_list {{ config {{ name: 'one' base_path: '{}' }} }}",
            one.path().display()
        ),
    )
    .unwrap();
    server.signal("HUP");
    server.wait_until("/v1/models/two", |r| r.status == 404);
    server.wait_until("/v1/models/one/versions/1", |r| r.text().contains("END"));
    assert!(server.is_alive());
}

#[test]
fn batches_answer_everyone_with_his_own() {
    let base = base_of(&half_plus(2.0));
    let file = base.path().join("batching");
    fs::write(&file, "max_batch_size { value: 8 } batch_timeout_micros { value: 2000 } allowed_batch_sizes: [4, 8]").unwrap();
    let flag = format!("--batching_parameters_file={}", file.display());
    let server = start(&base, &["--enable_batching=true", &flag]);
    std::thread::scope(|scope| {
        for thread in 0..6 {
            let server = &server;
            scope.spawn(move || {
                let mut client = server.connect();
                for i in 0..50 {
                    let value = thread * 1000 + i;
                    let rows = 1 + i % 11;
                    let body =
                        format!("{{\"instances\": [{}]}}", vec![value.to_string(); rows].join(","));
                    let response = client.request("POST", PREDICT, &[], body.as_bytes()).json();
                    let expected = vec![value as f64 / 2.0 + 2.0; rows];
                    assert_eq!(response["predictions"], serde_json::json!(expected));
                }
            });
        }
    });
    let metrics = server.get("/monitoring/prometheus/metrics").text();
    let count = metrics
        .lines()
        .find_map(|l| l.strip_prefix("mlctl_batch_rows_count{model=\"half\",version=\"1\"} "));
    assert!(count.unwrap().parse::<u32>().unwrap() < 300, "no two requests shared a run");
}

#[test]
fn overload_is_refused_at_once_and_late_requests_end() {
    let base = base_of(&models::slow(300_000));
    let server = start(&base, &["--threads=1", "--max-queue=2", "--rest_api_timeout_in_ms=20000"]);
    let body = r#"{"instances": [0]}"#;
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let threads: Vec<_> =
            (0..10).map(|_| scope.spawn(|| server.post(PREDICT, body).status)).collect();
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert!(statuses.contains(&200) && statuses.contains(&429), "{statuses:?}");
    assert!(statuses.iter().all(|s| [200, 429].contains(s)), "{statuses:?}");
    let server = start(&base, &["--threads=1", "--rest_api_timeout_in_ms=1"]);
    let response = server.post(PREDICT, body);
    assert_eq!(response.status, 504, "{}", response.text());
}

#[test]
fn slow_clients_and_idle_connections_hold_nobody_up() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &["--max_connections=300"]);
    let idle: Vec<TcpStream> =
        (0..250).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    let mut slow = server.connect();
    slow.send(b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{");
    let mut head = server.connect();
    head.send(b"GET /healthz HTT");
    check(&server, PREDICT, r#"{"instances": [1]}"#, 200, r#"{"predictions": [2.5]}"#);
    let more: Vec<TcpStream> =
        (0..100).map(|_| TcpStream::connect(&server.address).unwrap()).collect();
    let refused = server.connect().response().expect("an answer");
    assert_eq!(
        (refused.status, refused.json()["error"].as_str()),
        (503, Some("too many connections"))
    );
    assert_eq!(refused.header("retry-after"), Some("1"));
    drop(more);
    drop(idle);
    for mut late in [slow, head] {
        let start = Instant::now();
        assert_eq!(late.response().unwrap().status, 408);
        assert!(start.elapsed() < Duration::from_secs(15));
        assert!(late.response().is_none());
    }
}

/// CVE-2023-44487: calls that are taken back at once. The connection ends, the server does not.
#[test]
fn http_2_rapid_reset_ends_the_connection_alone() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &[]);
    let mut client = TcpStream::connect(&server.grpc).unwrap();
    client.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    client.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").unwrap();
    client.write_all(&frame(4, 0, 0, &[])).unwrap();
    // :method POST, :scheme http, :path /, :authority x
    let headers = [0x83, 0x86, 0x84, 0x41, 1, b'x'];
    let mut sent = 0;
    for stream in (1..200_000).step_by(2) {
        let pair =
            [frame(1, 4, stream, &headers), frame(3, 0, stream, &8u32.to_be_bytes())].concat();
        if client.write_all(&pair).is_err() {
            break;
        }
        sent += 1;
    }
    assert!(sent < 99_000, "the connection took {sent} resets");
    check(&server, PREDICT, r#"{"instances": [1]}"#, 200, r#"{"predictions": [2.5]}"#);
    let mut garbage = TcpStream::connect(&server.grpc).unwrap();
    garbage.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    garbage.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut rest = vec![];
    let _ = garbage.read_to_end(&mut rest);
    check(&server, PREDICT, r#"{"instances": [1]}"#, 200, r#"{"predictions": [2.5]}"#);
}

const KEY: &str = "X-API-Key: s3cret-of-the-shop";

/// The flag of a file with [`KEY`].
fn keys_in(folder: &tempfile::TempDir) -> String {
    let file = folder.path().join("keys");
    fs::write(&file, "shop:s3cret-of-the-shop").unwrap();
    format!("--api_key_file={}", file.display())
}

/// A body takes memory and time: who has no key is told before it comes.
#[test]
fn keys_are_looked_at_before_bodies_come() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &[&keys_in(&base)]);
    for length in ["Content-Length: 100000000", "Transfer-Encoding: chunked"] {
        let mut client = server.connect();
        let start = Instant::now();
        client.send(format!("POST {PREDICT} HTTP/1.1\r\nHost: x\r\n{length}\r\n\r\n").as_bytes());
        let refused = client.response().unwrap();
        assert_eq!((refused.status, refused.header("connection")), (401, Some("close")));
        assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    }
    // where there is no body, the connection stays
    let mut client = server.connect();
    for _ in 0..2 {
        assert_eq!(client.request("GET", "/v1/models", &[], b"").status, 401);
    }
    assert_eq!(client.request("GET", "/v1/models", &[KEY], b"").status, 200);
    let body = br#"{"instances": [1]}"#;
    assert_eq!(server.connect().request("POST", PREDICT, &[KEY], body).status, 200);
    for path in [
        "/tensorflow.serving.PredictionService/Predict",
        "/inference.GRPCInferenceService/ModelInfer",
        "/inference.GRPCInferenceService/ModelStreamInfer",
    ] {
        let start = Instant::now();
        // though no message comes
        let answer = Call::begin(&server, path, &[]).answer();
        assert_eq!(answer, (None, true), "{path}");
        assert!(start.elapsed() < Duration::from_secs(5), "{path}: {:?}", start.elapsed());
    }
}

/// AIP_HEALTH_ROUTE and AIP_PREDICT_ROUTE may be one path.
#[test]
fn a_health_route_is_open_to_get_alone() {
    let base = base_of(&half_plus(2.0));
    let path = base.path().to_str().unwrap();
    let keys = keys_in(&base);
    let routes = [("AIP_HEALTH_ROUTE", "/ask"), ("AIP_PREDICT_ROUTE", "/ask")];
    let server =
        Server::start_in(&[path, "--model_name=half", "--rest_api_port=0", &keys], &routes);
    server.wait_for("/ask");
    assert_eq!(server.connect().request("HEAD", "/ask", &[], b"").status, 200);
    let body = br#"{"instances": [1]}"#;
    assert_eq!(server.connect().request("POST", "/ask", &[], body).status, 401);
    let answer = server.connect().request("POST", "/ask", &[KEY], body);
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"predictions": [2.5]}"#));
}

#[test]
fn access_lines_are_json() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &["--access-log"]);
    server.post(PREDICT, r#"{"instances": [1]}"#);
    server.post("/v1/models/none:predict", "{}");
    server.wait_until("/healthz", |_| server.log().contains("none"));
    let log = server.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .filter(|l| l.starts_with('{'))
        .map(|l| serde_json::from_str(l).unwrap())
        .collect();
    let line = lines.iter().find(|l| l["path"] == PREDICT).unwrap();
    assert_eq!(
        (&line["status"], &line["model"], &line["version"]),
        (&200.into(), &"half".into(), &1.into())
    );
    let line = lines.iter().find(|l| l["path"] == "/v1/models/none:predict").unwrap();
    assert_eq!(
        (&line["status"], &line["code"], &line["model"]),
        (&404.into(), &"NOT_FOUND".into(), &"".into())
    );
}

#[test]
fn what_is_typed_wrong_is_told() {
    let check = |arguments: &[&str], code: i32, expected: &str| {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_mlctl"))
            .arg("serve")
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(
            output.status.code() == Some(code) && text.contains(expected),
            "{arguments:?}: {text}"
        );
    };
    check(&["/nonexistent"], 1, "cannot open model directory /nonexistent");
    let file = serving::fixtures().join("models/squeezenet1_1.onnx");
    check(&[file.to_str().unwrap()], 1, "give a folder with numbered versions");
    let version = trained().join("0001");
    check(&[version.to_str().unwrap()], 1, "is one version; serve the folder that it is in");
    check(&["--model_config_file=/nonexistent"], 1, "model config /nonexistent");
    check(&["--batching_parameters_file=/x"], 2, "needs --enable_batching");
    check(&["--rest_api_port=70000"], 2, "70000");
    let empty = tempfile::tempdir().unwrap();
    let server = Server::start(&[empty.path()]);
    server.wait_until("/readyz", |_| server.log().contains("no version folder such as 0001"));
    assert_eq!(server.get("/readyz").status, 503);
    put(empty.path(), "1", &half_plus(1.0));
    server.wait_for("/readyz");
    let base = base_of(&half_plus(1.0));
    let server = start(&base, &[]);
    let port = server.address.rsplit(':').next().unwrap();
    let flag = format!("--rest_api_port={port}");
    check(
        &[base.path().to_str().unwrap(), &flag],
        1,
        &format!("cannot listen on 127.0.0.1:{port}"),
    );
}
