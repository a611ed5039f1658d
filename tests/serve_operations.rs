//! `mlctl serve` as those meet it who run it: the table of TensorFlow Serving's contract, keys, other origins, the status
//! page, and what containers are told by their environment.

mod serving;
#[path = "serving/models.rs"]
mod models;

use models::{base_of, half_plus, put};
use serde_json::Value;
use serving::{Response, Server, fixtures, trained};
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

fn start(base: &tempfile::TempDir, more: &[&str]) -> Server {
    let path = base.path().to_str().unwrap();
    let server = Server::start(&[&[path, "--model_name=half"], more].concat());
    server.wait_for("/readyz");
    server
}

const PREDICT: &str = "/v1/models/half:predict";
const GOOD: &str = r#"{"instances": [1]}"#;

fn ask(server: &Server, method: &str, path: &str, headers: &[&str], body: &str) -> Response {
    server.connect().request(method, path, headers, body.as_bytes())
}

// ---- the table

/// The cells of a table's rows; a `|` within backquotes is no border.
fn cells(line: &str) -> Vec<String> {
    let mut found = vec![String::new()];
    let mut quoted = false;
    for c in line.trim().trim_matches('|').chars() {
        match c {
            '`' => quoted = !quoted,
            '|' if !quoted => found.push(String::new()),
            c => found.last_mut().unwrap().push(c),
        }
    }
    found.iter().map(|cell| cell.trim().to_string()).collect()
}

#[test]
fn every_row_of_the_table_holds() {
    let text =
        fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve/README.md"));
    let text = text.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let mut config = String::from("model_config_list {");
    for (name, file) in [
        ("half", half_plus(2.0)),
        ("two", models::two_inputs()),
        ("scores", models::scores()),
        ("one", models::one_row()),
    ] {
        let base = folder.path().join(name);
        fs::create_dir(&base).unwrap();
        put(&base, "1", &file);
        config += &format!(
            " config {{ name: '{name}' base_path: '{}' version_labels {{ key: 'stable' value: 1 }} }}",
            base.display()
        );
    }
    let file = folder.path().join("models.config");
    fs::write(&file, config + " }").unwrap();
    let server = Server::start(&[format!("--model_config_file={}", file.display())]);
    server.wait_for("/readyz");
    server.wait_for("/v1/models/scores/labels/stable");
    let (mut rows, mut wrong) = (0, vec![]);
    for line in text.lines() {
        let cells = cells(line);
        let [request, body, status, expected] = cells.as_slice() else { continue };
        let Some((method @ ("GET" | "POST"), path)) = request.split_once(' ') else { continue };
        let response = ask(&server, method, path, &[], body);
        rows += 1;
        let found = response.text();
        let json = || serde_json::from_str::<Value>(&found).unwrap_or_default();
        let fits = match response.status {
            // the form of numbers counts, the order of a status' fields does not
            200 if method == "POST" => found == *expected,
            200 => json() == serde_json::from_str::<Value>(expected).unwrap(),
            _ => json()["error"] == *expected.as_str(),
        };
        let is_json = response.header("content-type") == Some("application/json");
        if !fits || response.status.to_string() != *status || !is_json {
            wrong.push(format!("{line}\n    {} {found}", response.status));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
    assert!(rows > 60, "the table has {rows} rows");
}

// ---- keys

#[test]
fn keys_open_what_health_does_not() {
    let base = base_of(&half_plus(2.0));
    let file = base.path().join("keys");
    fs::write(&file, "# who may ask\nshop:s3cret-of-the-shop\n\ns3cret-without-a-name\n").unwrap();
    let flag = format!("--api_key_file={}", file.display());
    let server = start(&base, &[&flag, "--access-log"]);
    assert!(server.log().contains("can be read by every user"), "{}", server.log());
    for path in ["/healthz", "/readyz"] {
        assert_eq!(server.get(path).status, 200);
    }
    for (method, path) in [
        ("POST", PREDICT),
        ("GET", "/v1/models/half"),
        ("GET", "/v1/models"),
        ("GET", "/monitoring/prometheus/metrics"),
        ("GET", "/"),
        ("GET", "/ui/overview"),
        ("POST", "/ui/models/half:image"),
        ("GET", "/readyz/"),
        ("GET", "/nothing"),
    ] {
        for headers in [&[][..], &["Authorization: Bearer wrong"], &["X-API-Key: shop"]] {
            let refused = ask(&server, method, path, headers, GOOD);
            let way = refused.header("www-authenticate").unwrap_or_default();
            assert_eq!(refused.status, 401, "{path} {headers:?}");
            assert!(way.starts_with(if path == "/" { "Basic" } else { "Bearer" }), "{path}: {way}");
            assert!(refused.json()["error"].as_str().unwrap().contains("API key"), "{path}");
        }
    }
    for header in [
        "Authorization: Bearer s3cret-of-the-shop",
        "X-API-Key: s3cret-without-a-name",
        // anyone:s3cret-of-the-shop
        "Authorization: Basic YW55b25lOnMzY3JldC1vZi10aGUtc2hvcA==",
    ] {
        let answer = ask(&server, "POST", PREDICT, &[header], GOOD);
        assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"predictions": [2.5]}"#));
    }
    // who has no key cannot make the server hold much
    let large = "x".repeat((64 << 10) + 1);
    assert_eq!(ask(&server, "GET", "/healthz", &[], &large[1..]).status, 200);
    assert_eq!(ask(&server, "GET", "/healthz", &[], &large).status, 413);
    let own = ["X-API-Key: s3cret-of-the-shop"];
    assert_eq!(ask(&server, "GET", "/", &own, "").status, 200);
    let metrics = ask(&server, "GET", "/monitoring/prometheus/metrics", &own, "").text();
    for line in [
        "mlctl_key_requests_total{key=\"shop\"} 4",
        "mlctl_key_requests_total{key=\"line 4\"} 1",
        "mlctl_unauthenticated_requests_total 27",
    ] {
        assert!(metrics.lines().any(|own| own == line), "{line} is not in\n{metrics}");
    }
    fs::write(&file, "shop:another-key\n").unwrap();
    server.signal("HUP");
    server.wait_until("/healthz", |_| server.log().contains("read again, 1 keys"));
    assert_eq!(ask(&server, "POST", PREDICT, &own, GOOD).status, 401);
    let new = ["X-API-Key: another-key"];
    assert_eq!(ask(&server, "POST", PREDICT, &new, GOOD).status, 200);
    fs::write(&file, "shop:\n").unwrap();
    server.signal("HUP");
    server.wait_until("/healthz", |_| {
        server.log().contains("the keys stay as they were: key file")
            && server.log().contains("line 1")
    });
    assert_eq!(ask(&server, "POST", PREDICT, &new, GOOD).status, 200);
    let names = || -> Vec<Value> {
        let log = server.log();
        let entries = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let answered = entries.filter(|entry| entry["path"] == PREDICT && entry["status"] == 200);
        answered.map(|entry| entry["key"].clone()).collect()
    };
    // a line may come after its answer
    server.wait_until("/healthz", |_| names().len() >= 5);
    assert_eq!(names(), ["shop", "line 4", "shop", "shop", "shop"]);
    let log = server.log();
    assert!(!log.contains("s3cret") && !log.contains("another-key"), "{log}");
}

fn fails(arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let output = Command::new(env!("CARGO_BIN_EXE_mlctl"))
        .arg("serve")
        .args(arguments)
        .envs(environment.iter().copied())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{arguments:?} {environment:?}");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn flags_that_cannot_be_meant_are_told() {
    let base = base_of(&half_plus(2.0));
    let path = base.path().to_str().unwrap();
    let check = |arguments: &[&str], environment: &[(&str, &str)], expected: &str| {
        let told = fails(arguments, environment);
        assert!(told.contains(expected), "{arguments:?} {environment:?}: {told}");
    };
    check(&[path, "--api_key_file=/nonexistent"], &[], "key file /nonexistent");
    let empty = base.path().join("keys");
    fs::write(&empty, "# none yet\n").unwrap();
    let empty = format!("--api_key_file={}", empty.display());
    check(&[path, &empty], &[], "it holds no key");
    check(&[path, "--cors_allow_origin=example.org"], &[], "'example.org' is no origin");
    check(&[path, "--cors_allow_origin=https://a/b"], &[], "'https://a/b' is no origin");
    check(&[], &[("MODEL_BASE_PATH", "/nonexistent")], "/nonexistent/model");
    check(&[], &[("AIP_STORAGE_URI", "gs://bucket/model")], "AIP_STORAGE_URI is gs://bucket/model");
    check(&[path], &[("AIP_HTTP_PORT", "no")], "AIP_HTTP_PORT is 'no'");
}

// ---- other origins

#[test]
fn pages_of_listed_origins_may_ask() {
    let base = base_of(&half_plus(2.0));
    let flags = [
        "--cors_allow_origin=https://shop.example",
        "--cors_allow_origin=http://localhost:3000",
        "--max_body=1024",
    ];
    let server = start(&base, &flags);
    let allowed =
        |response: &Response| response.header("access-control-allow-origin").map(str::to_string);
    for origin in ["https://shop.example", "http://localhost:3000"] {
        let header = format!("Origin: {origin}");
        let answer = ask(&server, "POST", PREDICT, &[&header], GOOD);
        assert_eq!((answer.status, allowed(&answer).as_deref()), (200, Some(origin)));
        assert!(
            answer.headers.iter().any(|(n, v)| n.eq_ignore_ascii_case("vary") && v == "Origin")
        );
        let wrong = ask(&server, "POST", "/v1/models/none:predict", &[&header], GOOD);
        assert_eq!((wrong.status, allowed(&wrong).as_deref()), (404, Some(origin)));
        // refused before it is looked at
        let large = ask(&server, "POST", PREDICT, &[&header], &" ".repeat(1025));
        assert_eq!((large.status, allowed(&large).as_deref()), (413, Some(origin)));
        let preflight = [
            &header,
            "Access-Control-Request-Method: POST",
            "Access-Control-Request-Headers: content-type, x-api-key",
        ];
        let answer = ask(&server, "OPTIONS", PREDICT, &preflight, "");
        assert_eq!((answer.status, allowed(&answer).as_deref()), (204, Some(origin)));
        let header = |name: &str| answer.header(name).unwrap_or_default().to_string();
        assert_eq!(header("access-control-allow-headers"), "content-type, x-api-key");
        assert!(header("access-control-allow-methods").contains("POST"));
    }
    for origin in
        ["https://shop.example.evil", "http://shop.example", "https://shop.example:444", "null"]
    {
        let header = format!("Origin: {origin}");
        let answer = ask(&server, "POST", PREDICT, &[&header], GOOD);
        assert_eq!((answer.status, allowed(&answer)), (200, None), "{origin}");
        assert!(
            answer.headers.iter().any(|(n, v)| n.eq_ignore_ascii_case("vary") && v == "Origin")
        );
        let preflight = [&header, "Access-Control-Request-Method: POST"];
        let answer = ask(&server, "OPTIONS", PREDICT, &preflight, "");
        assert_eq!((allowed(&answer), answer.header("access-control-allow-methods")), (None, None));
    }
    assert_eq!(allowed(&server.post(PREDICT, GOOD)), None);
    // a preflight carries no key; what comes after it does
    let file = base.path().join("keys");
    fs::write(&file, "key-of-the-page").unwrap();
    let server =
        start(&base, &["--cors_allow_origin=*", &format!("--api_key_file={}", file.display())]);
    let origin = "Origin: https://anywhere.example";
    let preflight = [origin, "Access-Control-Request-Method: POST"];
    let answer = ask(&server, "OPTIONS", PREDICT, &preflight, "");
    assert_eq!((answer.status, allowed(&answer).as_deref()), (204, Some("*")));
    let answer = ask(&server, "POST", PREDICT, &[origin], GOOD);
    assert_eq!((answer.status, allowed(&answer).as_deref()), (401, Some("*")));
    let answer = ask(&server, "POST", PREDICT, &[origin, "X-API-Key: key-of-the-page"], GOOD);
    assert_eq!((answer.status, answer.header("vary")), (200, None));
    let server = start(&base, &[]);
    let answer = ask(&server, "OPTIONS", PREDICT, &preflight, "");
    assert_eq!((allowed(&answer), answer.header("vary")), (None, None));
}

// ---- the status page

#[test]
fn the_page_tells_models_versions_and_reasons() {
    let folder = tempfile::tempdir().unwrap();
    let hostile = "<img src=x onerror=alert(1)>\"'&";
    let base = folder.path().join("models");
    fs::create_dir(&base).unwrap();
    put(&base, "1", &half_plus(1.0));
    put(&base, "2", b"no model at all");
    let file = folder.path().join("models.config");
    let name = hostile.replace('\'', "\\'");
    let text = format!(
        "model_config_list {{ config {{ name: '{name}' base_path: '{}' model_version_policy {{ all {{}} }} \
         version_labels {{ key: '<b>stable' value: 1 }} }} }}",
        base.display()
    );
    fs::write(&file, text).unwrap();
    let server = Server::start(&[format!("--model_config_file={}", file.display())]);
    server.wait_until("/ui/overview", |r| r.text().contains("not a .tflite model"));
    server.wait_until("/ui/overview", |r| r.text().contains("stable</span>"));
    let page = server.get("/");
    let text = page.text();
    assert_eq!((page.status, page.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = page.header("content-security-policy").unwrap();
    assert!(policy.starts_with("default-src 'none'") && !policy.contains("unsafe"), "{policy}");
    assert!(!text.contains(hostile) && !text.contains("<b>stable"), "{text}");
    for part in [
        "&lt;img src=x onerror=alert(1)&gt;",
        "AVAILABLE",
        "BROKEN",
        "&lt;b&gt;stable",
        "<noscript>",
    ] {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(
        !text.contains("http://")
            || text.matches("http://").count() == text.matches("http://www.w3.org").count()
    );
    assert!(
        !text.contains("https://") && !text.contains("src=\"//"),
        "it takes nothing from elsewhere"
    );
    assert_eq!(ask(&server, "HEAD", "/", &[], "").status, 200);
    assert_eq!(ask(&server, "POST", "/", &[], "").status, 404);
}

#[test]
fn a_picture_is_told_by_its_class() {
    let server = Server::start(&[trained()]);
    server.wait_for("/readyz");
    let post = |path: &str, body: &[u8]| server.connect().request("POST", path, &[], body);
    let path = "/ui/models/my_mnist_model:image";
    for entry in fs::read_dir(fixtures().join("images")).unwrap() {
        let file = entry.unwrap().path();
        let Some(digit) = file.file_name().unwrap().to_str().unwrap().chars().next() else {
            continue;
        };
        if !digit.is_ascii_digit() {
            continue;
        }
        let answer = post(path, &fs::read(&file).unwrap()).json();
        let best = &answer["classes"][0];
        assert_eq!(best["label"], digit.to_string(), "{}: {answer}", file.display());
        // what predict says of the same file
        let told = Command::new(env!("CARGO_BIN_EXE_mlctl"))
            .args(["predict", "--json", "--model"])
            .arg(trained())
            .arg(&file)
            .stderr(Stdio::null())
            .output()
            .unwrap();
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let score = &told["predictions"][0]["classes"][0]["score"];
        let difference = best["score"].as_f64().unwrap() - score.as_f64().unwrap();
        assert!(difference.abs() < 1e-5, "{answer} {told}");
        assert_eq!(answer["version"], "1");
        assert!(answer["seen"].as_str().unwrap().starts_with("iVBOR"), "a PNG in base64");
    }
    let picture = fs::read(fixtures().join("photos/mushroom.png")).unwrap();
    assert_eq!(post("/ui/models/my_mnist_model/versions/1:image", &picture).status, 200);
    let check = |path: &str, body: &[u8], status: u16, expected: &str| {
        let answer = post(path, body);
        let error = answer.json()["error"].as_str().unwrap_or_default().to_string();
        assert!(answer.status == status && error.contains(expected), "{path}: {}", answer.text());
    };
    check(path, b"", 400, "the file is empty");
    check(path, b"no picture", 400, "this is not a picture");
    check(path, &picture[..1000], 400, "cannot decode the PNG data");
    check(path, &bomb(), 400, "megapixels");
    check("/ui/models/none:image", &picture, 404, "Servable not found for request: Latest(none)");
    check(
        "/ui/models/my_mnist_model/versions/7:image",
        &picture,
        404,
        "Specific(my_mnist_model, 7)",
    );
    check("/ui/models/a/b/c:image", &picture, 400, "Malformed request");
    let base = base_of(&half_plus(2.0));
    let server = start(&base, &[]);
    let answer = server.post("/ui/models/half:image", "x");
    assert!(
        answer.status == 400 && answer.text().contains("takes no pictures"),
        "{}",
        answer.text()
    );
    let page = server.get("/").text();
    assert!(page.contains("data-models=\"[]\""), "no model here takes pictures: {page}");
}

/// The head of a PNG that says it has 60,000 × 60,000 pixels.
fn bomb() -> Vec<u8> {
    let mut chunk = b"IHDR".to_vec();
    for side in [60_000u32, 60_000] {
        chunk.extend_from_slice(&side.to_be_bytes());
    }
    chunk.extend_from_slice(&[8, 2, 0, 0, 0]);
    let mut crc = flate2::Crc::new();
    crc.update(&chunk);
    let mut file = b"\x89PNG\r\n\x1a\n\0\0\0\r".to_vec();
    file.extend_from_slice(&chunk);
    file.extend_from_slice(&crc.sum().to_be_bytes());
    file.extend_from_slice(b"\0\0\0\0IDAT\x35\xaf\x06\x1e");
    file
}

// ---- containers

#[test]
fn containers_are_told_by_their_environment() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("digits");
    fs::create_dir(&base).unwrap();
    put(&base, "1", &half_plus(2.0));
    let models = folder.path().to_str().unwrap();
    let environment = [("MODEL_BASE_PATH", models), ("MODEL_NAME", "digits")];
    let server = Server::start_in::<&str>(&["--rest_api_port=0"], &environment);
    server.wait_for("/readyz");
    let answer = server.post("/v1/models/digits:predict", GOOD);
    assert_eq!(answer.text(), r#"{"predictions": [2.5]}"#);
    assert_eq!(server.post("/predict", GOOD).status, 404);

    let grpc = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
    ];
    let server = Server::start_in(&[base.to_str().unwrap(), "--rest_api_port=0"], &grpc);
    let off = "traces are off: OTEL_EXPORTER_OTLP_PROTOCOL is grpc";
    server.wait_until("/healthz", |_| server.log().contains(off));

    let vertex = [
        ("AIP_HTTP_PORT", "0"),
        ("AIP_HEALTH_ROUTE", "/v1/endpoints/7/deployedModels/8"),
        ("AIP_PREDICT_ROUTE", "/v1/endpoints/7/deployedModels/8:predict"),
        ("AIP_STORAGE_URI", ""),
    ];
    assert!(fails(&[models], &vertex).contains("AIP_HTTP_PORT is '0'"));
    let server = Server::start_in(&[base.to_str().unwrap(), "--rest_api_port=0"], &vertex[1..]);
    server.wait_for(vertex[1].1);
    let body = r#"{"instances": [1], "parameters": {"confidence": 0.5}}"#;
    let answer = server.post(vertex[2].1, body);
    assert_eq!((answer.status, answer.text().as_str()), (200, r#"{"predictions": [2.5]}"#));
    assert_eq!(server.get(vertex[2].1).status, 400);
    // a path of the API means what it says, and one of another model the only one
    put(&base, "2", &half_plus(3.0));
    let config = folder.path().join("models.config");
    let list = format!(
        "model_config_list {{ config {{ name: 'digits' base_path: '{}' model_version_policy {{ all {{}} }} }} }}",
        base.display()
    );
    fs::write(&config, list).unwrap();
    let config = format!("--model_config_file={}", config.display());
    for (path, status, expected) in [
        ("/v1/models/digits/versions/1:predict", 200, "2.5"),
        ("/v1/models/digits:predict", 200, "3.5"),
        ("/v1/models/digits:classify", 400, "examples"),
        ("/v1/models/other/versions/1:predict", 200, "3.5"),
    ] {
        let route = [("AIP_PREDICT_ROUTE", path)];
        let server = Server::start_in(&[config.as_str(), "--rest_api_port=0"], &route);
        while server.get("/v1/models/digits").text().matches("AVAILABLE").count() < 2 {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        let answer = server.post(path, GOOD);
        assert_eq!(answer.status, status, "{path}: {}", answer.text());
        assert!(answer.text().contains(expected), "{path}: {}", answer.text());
    }

    let port = server.address.rsplit(':').next().unwrap();
    let probe = |port: &str| {
        let check = Command::new(env!("CARGO_BIN_EXE_mlctl"))
            .args(["serve", "--health_check", "--host=0.0.0.0", &format!("--rest_api_port={port}")])
            .output()
            .unwrap();
        (check.status.code(), String::from_utf8_lossy(&check.stderr).into_owned())
    };
    assert_eq!(probe(port), (Some(0), String::new()));
    let empty = tempfile::tempdir().unwrap();
    let unready = Server::start(&[empty.path()]);
    let (code, told) = probe(unready.address.rsplit(':').next().unwrap());
    assert!(code == Some(1) && told.contains("not every model has a version"), "{told}");
    drop(unready);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let (code, told) = probe(&free.to_string());
    assert!(code == Some(1) && told.contains("does not answer"), "{told}");
}
