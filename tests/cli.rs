//! The built binary as a user meets it. A folder `tests/cli/<name>/` is a session: the files of its `in/`
//! are copied to a new folder, the commands of its `session` run there one after the other, and what they
//! print must be what the session says; the files of its `out/` must be there at the end.
//!
//! ```text
//! # a comment
//! $ a command for sh; mlctl, $FIXTURES and $TRAINED (a model directory) are known
//! lines of stdout
//! 2> lines of stderr
//! ? the exit code, if not 0
//! ```
//!
//! Decimal numbers, times and the machine's instruction set are shown as [F], [TIME], [ISA], but for those in
//! error messages. `UPDATE=1 cargo test --release --test cli` writes the sessions again; read the diff.
//! Whatever the session says, [`check_failure`] holds for each failing command.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::thread::sleep;
use std::time::{Duration, Instant};

/// No command of a session takes longer.
const MOST_TIME: Duration = Duration::from_secs(5);

/// KiB of address space that a command may use.
const MOST_MEMORY: &str = "4000000";

/// A command's end.
struct Ended {
    stdout: String,
    stderr: String,
    code: i32,
    time: Duration,
}

/// Runs one command of a session.
fn run(command: &str, folder: &Path) -> Ended {
    let start = Instant::now();
    let output = shell(command, folder).stdin(Stdio::null()).output().unwrap();
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
    Ended {
        stdout: text(output.stdout),
        stderr: text(output.stderr),
        code: code(output.status),
        time: start.elapsed(),
    }
}

fn shell(command: &str, folder: &Path) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_mlctl"));
    let mut path = binary.parent().unwrap().as_os_str().to_owned();
    path.push(":");
    path.push(std::env::var_os("PATH").unwrap_or_default());
    let mut shell = Command::new("timeout");
    shell
        .args(["-k", "1", "20", "sh", "-c", &format!("ulimit -v {MOST_MEMORY}; {command}")])
        .current_dir(folder)
        .env("PATH", path)
        .env("FIXTURES", fixtures())
        .env("LC_ALL", "C.UTF-8");
    if command.contains("TRAINED") {
        shell.env("TRAINED", trained());
    }
    shell
}

fn code(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or(status.signal().map(|s| 128 + s)).unwrap()
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures")
}

/// A model directory with one version, trained once for all tests; read-only by agreement.
fn trained() -> &'static Path {
    static MODEL: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, path) = MODEL.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let status = Command::new(env!("CARGO_BIN_EXE_mlctl"))
            .args(["train", "-q"])
            .current_dir(&folder)
            .stdout(Stdio::null())
            .status();
        assert!(status.unwrap().success());
        let path = folder.path().join("my_mnist_model");
        (folder, path)
    });
    path
}

/// The contents of every file below a folder, hidden ones included; folders are `None`.
fn contents(folder: &Path) -> BTreeMap<PathBuf, Option<Vec<u8>>> {
    let mut found = BTreeMap::new();
    let mut folders = vec![folder.to_path_buf()];
    while let Some(at) = folders.pop() {
        for entry in fs::read_dir(&at).unwrap() {
            let path = entry.unwrap().path();
            let name = path.strip_prefix(folder).unwrap().to_path_buf();
            let kind = fs::symlink_metadata(&path).unwrap().file_type();
            if kind.is_dir() {
                found.insert(name, None);
                folders.push(path);
            } else if kind.is_file() {
                found.insert(name, Some(fs::read(&path).unwrap()));
            } else {
                found.insert(name, Some(format!("{kind:?}").into_bytes()));
            }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for (name, bytes) in contents(from) {
        match bytes {
            None => fs::create_dir_all(to.join(name)).unwrap(),
            Some(bytes) => {
                fs::create_dir_all(to.join(&name).parent().unwrap()).unwrap();
                fs::write(to.join(name), bytes).unwrap();
            }
        }
    }
}

/// What holds for every failure, whatever it says: one error on stderr, a result (code 3) or nothing on
/// stdout, and the files as they were.
fn check_failure(command: &str, ended: &Ended, folder: &Path, before: &BTreeMap<PathBuf, Option<Vec<u8>>>) {
    let Ended { stdout, stderr, code, .. } = ended;
    assert!((1..=3).contains(code), "{command}: exit {code}\n{stderr}");
    let errors = stderr.lines().filter(|l| l.starts_with("error: ")).count();
    match code {
        3 => assert!(stderr.is_empty(), "{command}: {stderr}"),
        _ => {
            assert!(stdout.is_empty(), "{command}: a failure prints a result: {stdout}");
            let closed = command.ends_with("2>&-") && stderr.is_empty();
            assert!(closed || errors == 1 && stderr.starts_with("error: "), "{command}: not one error: {stderr}");
        }
    }
    let after = contents(folder);
    for name in before.keys().chain(after.keys()) {
        assert!(before.get(name) == after.get(name), "{command}: {} changed", name.display());
    }
}

fn check(name: &str) {
    let case = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli").join(name);
    let text = fs::read_to_string(case.join("session")).unwrap();
    let outside = tempfile::tempdir().unwrap();
    let folder = outside.path().join("here");
    fs::create_dir(&folder).unwrap();
    if case.join("in").is_dir() {
        copy(&case.join("in"), &folder);
    }
    let mut found = String::new();
    for line in text.lines() {
        let Some(command) = line.strip_prefix("$ ") else {
            if line.is_empty() || line.starts_with("# ") {
                found += &format!("{line}\n");
            }
            continue;
        };
        let before = contents(&folder);
        let ended = run(command, &folder);
        found += &format!("$ {command}\n{}", transcript(&ended, outside.path()));
        assert!(!ended.stderr.contains("panicked"), "{command}: {}", ended.stderr);
        assert!(ended.time < MOST_TIME, "{command} took {:?}", ended.time);
        let is_mlctl = command.starts_with("mlctl") && !command.contains('|');
        if ended.code != 0 {
            assert!(command.contains("mlctl"), "{command}: exit {}\n{}", ended.code, ended.stderr);
            check_failure(command, &ended, &folder, &before);
        }
        if is_mlctl && command.contains("--json") && ended.code != 1 {
            let document = serde_json::from_str::<serde_json::Value>(&ended.stdout);
            assert!(document.is_ok_and(|d| d.is_object()), "{command}: {}", ended.stdout);
        }
    }
    if std::env::var_os("UPDATE").is_some() {
        fs::write(case.join("session"), &found).unwrap();
    }
    let text = fs::read_to_string(case.join("session")).unwrap();
    assert!(found == text, "{name}: {}\nall of it:\n{found}", first_difference(&text, &found));
    if case.join("out").is_dir() {
        let written = contents(&folder);
        for (name, expected) in contents(&case.join("out")) {
            let same = written.get(&name) == Some(&expected);
            assert!(same, "{} is not as in {}", name.display(), case.join("out").display());
        }
    }
}

fn first_difference(expected: &str, found: &str) -> String {
    let (mut expected, mut found) = (expected.lines(), found.lines());
    loop {
        match (expected.next(), found.next()) {
            (e, f) if e == f && e.is_some() => {}
            (e, f) => {
                let of = |line: Option<&str>| line.unwrap_or("(the end)").to_string();
                return format!("expected: {}\n   found: {}", of(e), of(f));
            }
        }
    }
}

fn transcript(ended: &Ended, outside: &Path) -> String {
    let place = outside.display().to_string();
    let fixtures = fixtures().display().to_string();
    let mut text = String::new();
    let mut add = |mark: &str, line: &str, is_error: bool| {
        let line = line.replace(&place, "[OUTSIDE]").replace(&fixtures, "[FIXTURES]");
        let line = if is_error { line } else { without_numbers(&line) };
        text += format!("{mark}{line}").trim_end();
        text.push('\n');
    };
    ended.stdout.lines().for_each(|line| add("", line, false));
    let is_error = ended.stderr.starts_with("error: ");
    ended.stderr.lines().for_each(|line| add("2> ", line, is_error));
    if ended.code != 0 {
        text += &format!("? {}\n", ended.code);
    }
    text
}

/// A line without what changes from run to run or from machine to machine; columns are two spaces
/// apart.
fn without_numbers(line: &str) -> String {
    if let Some(at) = line.find(" rows a second").filter(|&at| at > 0) {
        return format!("[N]{}", without_numbers(&line[at..]));
    }
    let mut line = line.to_string();
    for name in ["avx512vnni", "avx512", "avx2", "portable", "scalar"] {
        line = line.replace(name, "[ISA]");
    }
    let is_number = |word: &str| {
        let digits = word.bytes().filter(u8::is_ascii_digit).count();
        let other = word.trim_matches(|c: char| c.is_ascii_digit() || ".e-".contains(c));
        digits > 1 && word.contains(['.', 'e']) && other.is_empty()
    };
    let mut words: Vec<String> = vec![];
    for word in line.split(' ') {
        let bare = word.trim_matches(['(', ')', ',', ';']);
        let after_number = words.last().is_some_and(|w| w == "[F]");
        if is_number(bare) {
            words.push(word.replace(bare, "[F]"));
        } else if matches!(bare, "µs" | "ms" | "s") && after_number {
            words.pop();
            words.push(word.replace(bare, "[TIME]"));
        } else {
            words.push(word.to_string());
        }
    }
    let mut text = words.join(" ");
    while text.trim_start().contains("   ") {
        let indent = text.len() - text.trim_start().len();
        text = format!("{}{}", &text[..indent], text[indent..].replace("   ", "  "));
    }
    text
}

macro_rules! sessions {
    ($($name:ident)*) => {
        const SESSIONS: &[&str] = &[$(stringify!($name)),*];
        $(#[test] fn $name() { check(stringify!($name)); })*
    };
}

sessions! {
    main_job json_output quiet_and_verbose versions model_left_out bad_models bad_pictures bad_arrays bad_version_directory
    bad_outputs tolerance bad_data bad_recipes usage_errors pictures arrays closed_pipes
}

#[test]
fn every_folder_is_a_session() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli")).unwrap();
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(SESSIONS.contains(&name.as_str()), "tests/cli/{name} is not in the list");
    }
}
