//! Clients of `mlctl serve` that leave, wait, hold too much or come as the server ends; versions as clients see them
//! change; TensorFlow Serving's own command lines.

mod serving;
#[path = "serving/grpc.rs"]
mod grpc;
#[path = "serving/models.rs"]
mod models;

use grpc::{Call, field};
use models::{base_of, half_plus, put, slow};
use serde_json::Value;
use serving::{Client, Server};
use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::{Duration, Instant};

const PREDICT: &str = "/v1/models/half:predict";
const BODY: &str = r#"{"instances": [0]}"#;
const METRICS: &str = "/monitoring/prometheus/metrics";
const GRPC_PREDICT: &str = "/tensorflow.serving.PredictionService/Predict";

fn start(base: &tempfile::TempDir, more: &[&str]) -> Server {
    let path = base.path().to_str().unwrap();
    let server = Server::start(&[&[path, "--model_name=half"], more].concat());
    server.wait_for("/readyz");
    server
}

fn head(length: usize) -> String {
    format!("POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n")
}

fn asks(body: &str) -> String {
    head(body.len()) + body
}

fn metric(server: &Server, name: &str) -> u64 {
    let text = server.get(METRICS).text();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap_or("absent 0");
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

fn runs(server: &Server) -> u64 {
    metric(server, "mlctl_batch_rows_count")
}

/// A `PredictRequest` of one row of `half`.
fn predict_request() -> Vec<u8> {
    // DT_FLOAT, of shape [1], its content
    let shape = field(2, field(2, [8, 1]));
    let tensor = [&[8, 1][..], &shape, &field(4, [0; 4])].concat();
    let input = field(2, [field(1, "x"), field(2, tensor)].concat());
    [field(1, field(1, "half")), input].concat()
}

/// The access log's lines of `path`, once there are so many.
fn logged(server: &Server, path: &str, count: usize) -> Vec<Value> {
    let start = Instant::now();
    loop {
        let log = server.log();
        let lines = log.lines().filter(|line| line.starts_with('{'));
        let lines: Vec<Value> = lines.map(|line| serde_json::from_str(line).unwrap()).collect();
        let own: Vec<Value> = lines.into_iter().filter(|line| line["path"] == path).collect();
        if own.len() >= count {
            return own;
        }
        assert!(start.elapsed() < Duration::from_secs(20), "{log}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn who_has_left_is_neither_run_nor_counted() {
    let base = base_of(&slow(300_000));
    let server = start(&base, &["--threads=1", "--max_queue_delay_ms=0"]);
    let run = Instant::now();
    assert_eq!(server.post(PREDICT, BODY).status, 200);
    let run = run.elapsed();
    let leave = |count: usize| {
        let mut clients: Vec<Client> = (0..count).map(|_| server.connect()).collect();
        clients.iter_mut().for_each(|client| client.send(asks(BODY).as_bytes()));
        let calls = (0..count / 4).map(|_| {
            let mut call = Call::begin(&server, GRPC_PREDICT, &[]);
            call.send(&predict_request());
            call
        });
        let calls: Vec<Call> = calls.collect();
        server.wait_until(METRICS, |r| {
            let line = "mlctl_queue_depth{model=\"half\",version=\"1\"} ";
            let text = r.text();
            let depth = text.lines().find_map(|l| l.strip_prefix(line)).unwrap();
            depth.parse::<usize>().unwrap() >= count
        });
        let ran = runs(&server);
        drop((clients, calls));
        ran
    };
    let before = leave(40);
    let start = Instant::now();
    assert_eq!(server.post(PREDICT, BODY).status, 200);
    let waited = start.elapsed();
    // one of them was running, and another may have begun before its client was gone
    let ran = runs(&server) - before;
    assert!(ran <= 4, "{ran} runs for one that waited, {waited:?} where a run takes {run:?}");
}

/// Where nothing may wait behind another, one that has left would keep everybody out.
#[test]
fn who_has_left_makes_no_queue_overloaded() {
    let base = base_of(&slow(1_000_000));
    let server = start(&base, &["--threads=1", "--max_queue_delay_ms=1"]);
    assert_eq!(server.post(PREDICT, BODY).status, 200);
    let mut runs = server.connect();
    runs.send(asks(BODY).as_bytes());
    std::thread::sleep(Duration::from_millis(50));
    let mut waits = server.connect();
    waits.send(asks(BODY).as_bytes());
    server.wait_until(METRICS, |_| metric(&server, "mlctl_queue_depth") == 1);
    assert_eq!(server.post(PREDICT, BODY).status, 429);
    drop(waits);
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(server.post(PREDICT, BODY).status, 200);
    assert_eq!(runs.response().unwrap().status, 200);
}

#[test]
fn a_call_has_the_time_that_its_client_gives_it() {
    let base = base_of(&slow(600_000));
    let server = start(&base, &["--threads=1", "--access-log", "--rest_api_timeout_in_ms=1"]);
    // REST's bound is not gRPC's
    assert_eq!(server.post(PREDICT, BODY).status, 504);
    assert!(grpc::call(&server, GRPC_PREDICT, &predict_request()).is_some());
    let mut call = Call::begin(&server, GRPC_PREDICT, &[("grpc-timeout", "20m")]);
    call.send(&predict_request());
    assert_eq!(call.answer(), (None, true));
    let lines = logged(&server, GRPC_PREDICT, 2);
    assert_eq!((&lines[0]["code"], &lines[1]["code"]), (&"OK".into(), &"DEADLINE_EXCEEDED".into()));
    let (free, bound) = (lines[0]["ms"].as_f64().unwrap(), lines[1]["ms"].as_f64().unwrap());
    assert!(bound >= 20.0 && bound < free.max(1000.0), "{bound} ms; {free} ms without a deadline");
}

#[test]
fn a_full_queue_is_resource_exhausted_over_grpc() {
    let base = base_of(&slow(600_000));
    let server = start(&base, &["--threads=1", "--max_queue=1", "--access-log"]);
    let mut calls: Vec<Call> = (0..6)
        .map(|_| {
            let mut call = Call::begin(&server, GRPC_PREDICT, &[]);
            call.send(&predict_request());
            call
        })
        .collect();
    let answered = calls.iter_mut().filter_map(|call| call.answer().0).count();
    let lines = logged(&server, GRPC_PREDICT, 6);
    let refused = lines.iter().filter(|line| line["code"] == "RESOURCE_EXHAUSTED").count();
    assert!(answered >= 1 && refused >= 1 && answered + refused == 6, "{lines:?}");
    assert!(lines.iter().all(|line| line["code"] == "OK" || line["ms"].as_f64() < Some(1000.0)));
}

#[test]
fn requests_hold_so_much_memory_together() {
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &["--max_request_memory=100000"]);
    let held = || metric(&server, "mlctl_request_memory_bytes");
    let refused = |body: &str| {
        let response = server.post(PREDICT, body);
        assert_eq!((response.status, response.header("retry-after")), (429, Some("1")));
        assert!(response.text().contains("may hold 100000 together (--max_request_memory)"));
    };
    let large = format!("{{\"instances\": [{}1]}}", "1,".repeat(30_000));
    refused(&(large.clone() + &" ".repeat(50_000)));
    let mut half = server.connect();
    half.send((head(large.len()) + &large[..50_000]).as_bytes());
    server.wait_until(METRICS, |_| held() >= 50_000);
    refused(&large);
    assert_eq!(server.post(PREDICT, BODY).status, 200);
    // over gRPC the same
    let before = metric(&server, "mlctl_request_memory_refused_total");
    let mut call = Call::begin(&server, GRPC_PREDICT, &[]);
    call.send(&vec![0; 60_000]);
    assert_eq!(call.answer(), (None, true));
    assert!(metric(&server, "mlctl_request_memory_refused_total") > before);
    drop(half);
    server.wait_until(METRICS, |_| held() < 1000);
    // what came packed counts as it is unpacked
    let mut packer = flate2::write::GzEncoder::new(vec![], flate2::Compression::best());
    packer.write_all(" ".repeat(200_000).as_bytes()).unwrap();
    let packed = packer.finish().unwrap();
    let gzip = &["Content-Encoding: gzip"];
    let response = server.connect().request("POST", PREDICT, gzip, &packed);
    assert_eq!(response.status, 429, "{}", response.text());
    // tensors are larger than the numbers that they come as: 4 bytes for 2
    let answer = server.post(PREDICT, &large);
    assert_eq!(answer.status, 429, "{}", answer.text());
    let fits = format!("{{\"instances\": [{}1]}}", "1,".repeat(10_000));
    assert_eq!(server.post(PREDICT, &fits).status, 200);
    server.wait_until(METRICS, |_| held() < 1000);
}

#[test]
fn sigterm_answers_what_runs_and_ends_well() {
    let base = base_of(&slow(300_000));
    let mut server = start(&base, &["--threads=2"]);
    let idle = server.connect();
    let statuses: Vec<u16> = std::thread::scope(|scope| {
        let own = &server;
        let threads: Vec<_> =
            (0..4).map(|_| scope.spawn(move || own.post(PREDICT, BODY).status)).collect();
        while own
            .get("/monitoring/prometheus/metrics")
            .text()
            .contains("mlctl_queue_depth{model=\"half\",version=\"1\"} 0")
        {
            std::thread::sleep(Duration::from_millis(2));
        }
        own.signal("TERM");
        threads.into_iter().map(|t| t.join().unwrap()).collect()
    });
    assert_eq!(statuses, [200; 4]);
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
    drop(idle);
    let mut server = start(&base, &["--threads=1"]);
    let mut slow = server.connect();
    slow.send(b"POST /v1/models/half:predict HTTP/1.1\r\nHost: x\r\nContent-Length: 18\r\n\r\n{");
    server.signal("INT");
    std::thread::sleep(Duration::from_millis(200));
    assert!(server.is_alive());
    let start = Instant::now();
    server.signal("INT");
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
    assert!(start.elapsed() < Duration::from_secs(5));
}

/// As a rolling update meets them: connections that wait to be taken, that have just been, and that are kept.
#[test]
fn what_is_on_its_way_when_the_server_ends_is_answered() {
    let base = base_of(&half_plus(2.0));
    let mut server = start(&base, &[]);
    let asked = asks(BODY);
    let mut kept = server.connect();
    let answer = kept.request("POST", PREDICT, &[], BODY.as_bytes());
    assert_eq!((answer.status, answer.header("connection")), (200, None));
    let mut fresh = server.connect();
    let silent = server.connect();
    std::thread::sleep(Duration::from_millis(50));
    server.signal("STOP");
    let mut untaken: Vec<Client> = (0..20).map(|_| server.connect()).collect();
    untaken.iter_mut().for_each(|client| client.send(asked.as_bytes()));
    server.signal("TERM");
    server.signal("CONT");
    let start = Instant::now();
    while !server.log().contains("ending: ") {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", server.log());
        std::thread::sleep(Duration::from_millis(1));
    }
    kept.send(asked.as_bytes());
    fresh.send(asked.as_bytes());
    for client in [&mut kept, &mut fresh] {
        let answer = client.response().expect("an answer");
        assert_eq!((answer.status, answer.header("connection")), (200, Some("close")));
    }
    for client in &mut untaken {
        assert_eq!(client.response().expect("an answer").status, 200);
        assert!(client.response().is_none());
    }
    assert_eq!(server.wait_for_end().code(), Some(0), "{}", server.log());
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    drop(silent);
}

/// Written in place, bit by bit, as `cp` or a download does it.
#[test]
fn a_foreign_file_that_grows_is_left_until_it_lies_still() {
    let base = base_of(&half_plus(1.0));
    // longer than any pause of who writes
    let server = start(&base, &["--file_system_poll_wait_seconds=1"]);
    let whole = half_plus(2.0);
    fs::create_dir(base.path().join("2")).unwrap();
    let mut file = fs::File::create(base.path().join("2/model.tflite")).unwrap();
    for piece in whole.chunks(whole.len() / 20) {
        file.write_all(piece).unwrap();
        std::thread::sleep(Duration::from_millis(25));
        let answer = server.post(PREDICT, BODY);
        assert_eq!(answer.text(), r#"{"predictions": [1.0]}"#);
    }
    server.wait_for_version("half", 2);
    assert_eq!(server.post(PREDICT, BODY).text(), r#"{"predictions": [2.0]}"#);
    let log = server.log();
    assert!(!log.contains("waiting") && !log.contains("cannot"), "{log}");
}

#[test]
fn a_version_s_states_are_seen_from_outside() {
    let base = base_of(&slow(1_000_000));
    let server = start(&base, &["--threads=1"]);
    let state = |version: u64| {
        let status = server.get(&format!("/v1/models/half/versions/{version}")).json();
        status["model_version_status"][0]["state"].as_str().unwrap_or_default().to_string()
    };
    // its warm-up takes long
    put(base.path(), "2", &slow(1_000_000));
    let (mut clients, mut seen): (Vec<Client>, Vec<[String; 2]>) = (vec![], vec![]);
    let start = Instant::now();
    while seen.last().is_none_or(|last| *last != ["END", "AVAILABLE"]) {
        let now = [state(1), state(2)];
        if now[1] == "LOADING" && clients.is_empty() {
            // these run when the old version is to go already
            clients = (0..3).map(|_| server.connect()).collect();
            clients.iter_mut().for_each(|client| client.send(asks(BODY).as_bytes()));
        }
        if !now[1].is_empty() && seen.last() != Some(&now) {
            seen.push(now);
        }
        assert!(start.elapsed() < Duration::from_secs(30), "{seen:?}");
    }
    for expected in [["AVAILABLE", "LOADING"], ["UNLOADING", "AVAILABLE"]] {
        assert!(seen.iter().any(|states| *states == expected), "{seen:?}");
    }
    for mut client in clients {
        assert_eq!(client.response().unwrap().status, 200);
    }
}

#[test]
fn memory_goes_back_when_a_version_goes() {
    const LARGE: usize = 96 << 20;
    let base = base_of(&models::large(LARGE));
    let server = start(&base, &[]);
    let one = r#"{"instances": [[1, 1, 1, 1]]}"#;
    assert_eq!(server.post(PREDICT, one).status, 200);
    let before = server.memory();
    assert!(before > LARGE as u64, "{before}");
    put(base.path(), "2", &half_plus(2.0));
    server.wait_until("/v1/models/half/versions/1", |r| r.text().contains("END"));
    let start = Instant::now();
    while before - server.memory().min(before) < (LARGE as u64) * 9 / 10 {
        let now = server.memory();
        assert!(start.elapsed() < Duration::from_secs(10), "{before} bytes before, {now} after");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// The signature's name in a SavedModel is its author's.
#[test]
fn a_signature_s_own_name_is_served() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("half");
    fs::create_dir(&base).unwrap();
    fs::write(folder.path().join("half.tflite"), half_plus(2.0)).unwrap();
    let made = Command::new(env!("CARGO_BIN_EXE_mlctl"))
        .args(["convert", "-q", "half.tflite", "--to", "saved-model", "-o", "half/1", "--frozen"])
        .current_dir(&folder)
        .output()
        .unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let path = base.join("1/saved_model.pb");
    let (mut file, own, other) = (fs::read(&path).unwrap(), b"serving_default", b"serving_another");
    let places = (0..file.len() - own.len()).filter(|&at| file[at..].starts_with(own));
    let places: Vec<usize> = places.collect();
    assert!(!places.is_empty());
    places.iter().for_each(|&at| file[at..at + own.len()].copy_from_slice(other));
    fs::write(&path, file).unwrap();
    let server = Server::start(&[base.to_str().unwrap()]);
    server.wait_for("/readyz");
    for (name, status) in
        [("serving_another", 200), ("serving_default", 200), ("", 200), ("other", 400)]
    {
        let body = format!("{{\"signature_name\": \"{name}\", \"instances\": [0]}}");
        let answer = server.post(PREDICT, &body);
        assert_eq!(answer.status, status, "{name}: {}", answer.text());
    }
    let metadata = server.get("/v1/models/half/metadata").json();
    let signatures = metadata["metadata"]["signature_def"]["signature_def"].as_object().unwrap();
    assert_eq!(signatures.keys().collect::<Vec<_>>(), ["serving_another"]);
}

/// As its image and its documentation have them.
#[test]
fn tensorflow_serving_s_command_lines_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("half");
    fs::create_dir(&base).unwrap();
    put(&base, "1", &half_plus(2.0));
    let config = folder.path().join("models.config");
    let text = format!(
        "model_config_list {{ config {{ name: 'other' base_path: '{}' model_platform: 'tensorflow' }} }}",
        base.display()
    );
    fs::write(&config, text).unwrap();
    let config = format!("--model_config_file={}", config.display());
    let own_base = format!("--model_base_path={}", base.display());
    // the image's entrypoint, then what the user gives
    let entrypoint = ["--port=8500", "--rest_api_port=8501", "--model_name=half", &own_base];
    let more = [
        "--port=0",
        "--rest_api_port=0",
        &config,
        "--rest_api_timeout_in_ms=5000",
        "--tensorflow_intra_op_parallelism=2",
        "--enable_model_warmup",
        "--num-load-threads=4",
        "--rest_api_enable_cors_support=true",
        "--grpc_channel_arguments=grpc.max_connection_age_ms=2000",
        "--use_alts_credentials=false",
    ];
    let server = Server::start_in(&[&entrypoint[..], &more[..]].concat(), &[]);
    server.wait_for("/readyz");
    let origin = &["Origin: https://example.org"];
    let answer =
        server.connect().request("POST", "/v1/models/other:predict", origin, BODY.as_bytes());
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("*")));
    assert_eq!(server.post(PREDICT, BODY).status, 404);
    for told in [
        "--tensorflow_intra_op_parallelism has no effect here: --threads run each version",
        "--num_load_threads has no effect here",
        "--grpc_channel_arguments has no effect here",
        "--model_name and --model_base_path have no effect beside --model_config_file",
    ] {
        assert!(server.log().lines().any(|line| line.ends_with(told)), "{told}: {}", server.log());
    }
    let fails = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_mlctl"));
        let output = command.arg("serve").arg(&base).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    for (argument, expected) in [
        ("--use_alts_credentials", "there are no ALTS credentials here"),
        ("--grpc_socket_path=/x", "Unix sockets are not served"),
    ] {
        let (code, text) = fails(&[argument]);
        assert!(code == Some(2) && text.contains(expected), "{argument}: {text}");
    }
}

/// 8500 and 8501 of 127.0.0.1: taken, or told to be taken by others.
#[test]
fn the_ports_are_tensorflow_serving_s() {
    let base = base_of(&half_plus(2.0));
    let mut child = Command::new(env!("CARGO_BIN_EXE_mlctl"))
        .args(["serve", base.path().to_str().unwrap()])
        .stderr(fs::File::create(base.path().join("log")).unwrap())
        .spawn()
        .unwrap();
    let log = || fs::read_to_string(base.path().join("log")).unwrap();
    let start = Instant::now();
    let said = |text: &str| log().contains(text);
    while !said("REST: ") && !said("cannot listen on ") {
        assert!(start.elapsed() < Duration::from_secs(20), "{}", log());
        std::thread::sleep(Duration::from_millis(10));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let taken = said("gRPC: 127.0.0.1:8500") && said("REST: http://127.0.0.1:8501");
    let told = said("cannot listen on 127.0.0.1:8500") || said("cannot listen on 127.0.0.1:8501");
    assert!(taken || told, "{}", log());
}
