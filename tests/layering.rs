//! The layers of the house, read off the text of `src/`: imports point down the list in `src/lib.rs`, and what has one
//! door is named nowhere else. Sees `crate::` paths and plain names; `super::` chains and globs it takes on trust.

use std::fs;
use std::path::Path;

/// What breaks a rule and stays: file or folder, what it names, why. One that is no longer needed fails the test.
const EXCEPTIONS: &[(&str, &str, &str)] = &[
    ("cli/mod.rs", "crate::tract::guard", "a panic anywhere below ends as an error message"),
    (
        "compare/inputs.rs",
        "crate::tract::guard",
        "a graph is tried with several inputs in bounded time",
    ),
    ("commands/inspect", "crate::tract::onnx", "looks at files that no model can be loaded from"),
    ("commands/inspect", "crate::tract::pb", "tells what an ONNX file holds, as it is in the file"),
    ("model/load.rs", "crate::tract::guard", "foreign bytes go into lower and raise guarded"),
    ("model/load.rs", "crate::tract::onnx", "a MODEL may be ONNX: here it is loaded"),
    (
        "model/load.rs",
        "crate::tract::optimize",
        "a raised graph is decluttered before it is planned",
    ),
    (
        "serve/servable.rs",
        "crate::tract::guard",
        "a version is loaded in bounded time and memory, or given up",
    ),
    (
        "serve/queue.rs",
        "crate::tract::guard",
        "a panic in a run is the server's fault, another error the request's",
    ),
    ("train/", "crate::tract::pb", "ONNX is a trained model's source of truth"),
    ("train/", "crate::tract::onnx", "makes trainable ONNX and brings it into tract"),
    ("train/step.rs", "crate::tract::typed_ops", "names the loss; its ops are gradient.rs's"),
];

/// A name, and the only places that may say it.
const DOORS: &[(&str, &[&str])] = &[
    ("tract_core", &["tract/"]),
    ("tract_data", &["tract/"]),
    ("tract_hir", &["tract/"]),
    ("tract_linalg", &["tract/"]),
    ("tract_nnef", &["tract/"]),
    ("tract_onnx", &["tract/"]),
    ("tract_onnx_opl", &["tract/"]),
    ("clap", &["cli/"]),
    ("clap_complete", &["cli/"]),
    ("tokio", &["serve/"]),
    ("print!", &["cli/"]),
    ("println!", &["cli/"]),
    ("eprint!", &["cli/"]),
    ("eprintln!", &["cli/"]),
    ("dbg!", &[]),
    ("process::exit", &["cli/"]),
    ("unsafe", &["kernels/", "format/mmap.rs"]),
];

/// Who takes tract's ops and types; everyone else needs an exception for each part of `crate::tract`.
const TRACT_USERS: &[&str] = &["tract/", "ops/", "lower/", "raise/", "runtime/", "train/gradient"];

#[test]
fn imports_point_down() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let layers = layers(&fs::read_to_string(src.join("lib.rs")).unwrap());
    let mut needed = vec![false; EXCEPTIONS.len()];
    let mut broken = vec![];
    for file in rust_files(&src, "") {
        for what in findings(&file, &fs::read_to_string(src.join(&file)).unwrap(), &layers) {
            let allowed = EXCEPTIONS.iter().position(|e| file.starts_with(e.0) && what == e.1);
            match allowed {
                Some(index) => needed[index] = true,
                None => broken.push(format!("src/{file} must not name {what}")),
            }
        }
    }
    let idle = EXCEPTIONS.iter().zip(needed).filter(|(_, needed)| !needed);
    broken.extend(idle.map(|(e, _)| format!("the exception {} {} is not needed", e.0, e.1)));
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

#[test]
fn breaches_are_found() {
    fn check(file: &str, source: &str, expected: &[&str]) {
        let layers = ["cli", "model", "runtime", "ops", "tract", "format"].map(str::to_string);
        assert_eq!(findings(file, source, &layers), expected, "{file}: {source}");
    }
    check("model/load.rs", "use crate::format::mmap;", &[]);
    check("model/load.rs", "use crate::model::Record;", &[]);
    check("format/idx.rs", "use crate::model::Record;", &["crate::model"]);
    check("format.rs", "fn f() { crate::ops::read() }", &["crate::ops"]);
    check(
        "runtime/mod.rs",
        "use crate::{ops::{self, a::b}, model::{C as D, *}, cli};",
        &["crate::model", "crate::cli"],
    );
    check("ops/mod.rs", "macro_rules! m { () => { $crate::runtime::f() } }", &["crate::runtime"]);
    check("ops/mod.rs", "use crate::elsewhere::X;", &["crate::elsewhere"]);
    check("ops/mod.rs", "use crate::tract::ops::math;", &[]);
    check("runtime/mod.rs", "use crate::tract::{\n Tensor,\n};", &[]);
    check(
        "model/load.rs",
        "use crate::tract::{guard, ops::{math, nn}, pb::A};",
        &["crate::tract::guard", "crate::tract::ops", "crate::tract::pb"],
    );
    check("model/load.rs", "use crate::tract; fn f() { tract::g() }", &["crate::tract"]);
    check("model/load.rs", "use tract_core::ops;", &["tract_core"]);
    check("tract/mod.rs", "use tract_core::ops; use tract_onnx::pb;", &[]);
    check("model/load.rs", "#[derive(clap::Args)] struct A;", &["clap"]);
    check("model/load.rs", "println!(\"\"); std::process::exit(1)", &["println!", "process::exit"]);
    check("cli/mod.rs", "println!(\"\"); std::process::exit(1)", &[]);
    check("main.rs", "use crate::cli; fn main() { eprintln!(\"\") }", &["eprintln!"]);
    check("model/load.rs", "writeln!(f, \"println!\"); unsafely(); let clapping = 1;", &[]);
    check("model/load.rs", "/* unsafe /* clap */ */ // unsafe\n/// clap\nfn f() {}", &[]);
    check("model/load.rs", "f('\"', r#\"unsafe \" clap\"#, b'\\'', \"\\\"unsafe\")", &[]);
    check("model/load.rs", "fn f<'a>(x: &'a str) { unsafe {} }", &["unsafe"]);
    check("format/mmap.rs", "unsafe {}", &[]);
    check("format/npy.rs", "unsafe {}", &["unsafe"]);
}

/// What `source` names against the rules, each once; `file` is relative to `src/`.
fn findings(file: &str, source: &str, layers: &[String]) -> Vec<String> {
    let within = |places: &[&str]| places.iter().any(|place| file.starts_with(place));
    let level = |module: &str| layers.iter().position(|layer| layer == module);
    let own = file.split(['/', '.']).next().and_then(level);
    let code = code_only(source);
    let mut found = vec![];
    for path in crate_paths(&code) {
        let mut parts = path.split("::");
        let module = parts.next().unwrap_or_default();
        if level(module).is_none_or(|level| own.is_some_and(|own| level < own)) {
            found.push(format!("crate::{module}"));
        } else if module == "tract" && !within(TRACT_USERS) {
            let part = parts.next().map(|part| format!("::{part}"));
            found.push(format!("crate::tract{}", part.unwrap_or_default()));
        }
    }
    let doors = DOORS.iter().filter(|(name, places)| !within(places) && says(&code, name));
    found.extend(doors.map(|(name, _)| name.to_string()));
    let mut seen = std::collections::HashSet::new();
    found.retain(|what| seen.insert(what.clone()));
    found
}

/// The modules that `lib.rs` lists, top to bottom.
fn layers(lib: &str) -> Vec<String> {
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    modules.map(str::to_string).collect()
}

fn rust_files(src: &Path, folder: &str) -> Vec<String> {
    let mut files = vec![];
    for entry in fs::read_dir(src.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = format!("{folder}{}", entry.file_name().to_string_lossy());
        if entry.file_type().unwrap().is_dir() {
            files.extend(rust_files(src, &format!("{name}/")));
        } else if name.ends_with(".rs") {
            files.push(name);
        }
    }
    files.sort();
    files
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// Whether `name` stands in `code` as a word of its own.
fn says(code: &str, name: &str) -> bool {
    code.match_indices(name).any(|(at, _)| {
        let after = code[at + name.len()..].chars().next();
        !code[..at].ends_with(is_word) && (name.ends_with('!') || !after.is_some_and(is_word))
    })
}

/// The paths behind each `crate::`, `use` groups spelled out.
fn crate_paths(code: &str) -> Vec<String> {
    let mut paths = vec![];
    for (at, word) in code.match_indices("crate::") {
        if !code[..at].ends_with(is_word) {
            expand(&code[at + word.len()..], "", &mut paths);
        }
    }
    paths
}

/// Adds the paths of the `use` tree that `code` starts with, and returns what follows it.
fn expand<'a>(code: &'a str, before: &str, paths: &mut Vec<String>) -> &'a str {
    let code = code.trim_start();
    if let Some(group) = code.strip_prefix('{') {
        let mut rest = group.trim_start();
        while !rest.is_empty() && !rest.starts_with('}') {
            rest = expand(rest, before, paths);
            let end = rest.find([',', '}']).unwrap_or(rest.len());
            rest = rest[end..].trim_start_matches(',').trim_start();
        }
        return rest.strip_prefix('}').unwrap_or(rest);
    }
    let end = code.find(|c| !is_word(c)).unwrap_or(code.len());
    let (word, rest) = code.split_at(end);
    match rest.strip_prefix("::") {
        Some(rest) if !word.is_empty() => expand(rest, &format!("{before}{word}::"), paths),
        _ => {
            paths.push(format!("{before}{word}").trim_end_matches("::").to_string());
            rest
        }
    }
}

/// `source` without comments and the contents of literals.
fn code_only(source: &str) -> String {
    let mut code = String::new();
    let mut rest = source;
    while let Some(c) = rest.chars().next() {
        let length = literal_or_comment(rest, code.ends_with(is_word)).unwrap_or(0);
        if length > 0 {
            code.push(' ');
            rest = &rest[length..];
        } else {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    code
}

/// The length of the comment or literal that `text` starts with.
fn literal_or_comment(text: &str, in_word: bool) -> Option<usize> {
    let until = |end: &str, from: usize| {
        text[from..].find(end).map_or(text.len(), |at| from + at + end.len())
    };
    if text.starts_with("//") {
        return Some(until("\n", 0));
    }
    if text.starts_with("/*") {
        let (mut depth, mut at) = (1, 2);
        while depth > 0 && at < text.len() {
            let (step, change) = match &text.as_bytes()[at..] {
                [b'/', b'*', ..] => (2, 1),
                [b'*', b'/', ..] => (2, -1),
                _ => (1, 0),
            };
            at += step;
            depth += change;
        }
        return Some(at);
    }
    if let Some(raw) = text.strip_prefix('r').filter(|_| !in_word || text.starts_with("r#\"")) {
        let hashes = raw.len() - raw.trim_start_matches('#').len();
        if raw[hashes..].starts_with('"') {
            return Some(until(&format!("\"{}", &raw[..hashes]), hashes + 2));
        }
    }
    let quoted = |quote: u8| {
        let bytes = text.as_bytes();
        let mut at = 1;
        while at < bytes.len() && bytes[at] != quote {
            at += if bytes[at] == b'\\' { 2 } else { 1 };
        }
        (at + 1).min(bytes.len())
    };
    let mut chars = text.chars();
    match (chars.next(), chars.next(), chars.next()) {
        (Some('"'), ..) => Some(quoted(b'"')),
        (Some('\''), Some('\\'), _) => Some(quoted(b'\'')),
        (Some('\''), Some(c), Some('\'')) => Some(2 + c.len_utf8()),
        _ => None,
    }
}
