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
use std::fs;
use std::io::{BufRead, BufReader};
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
fn check_failure(
    command: &str,
    ended: &Ended,
    folder: &Path,
    before: &BTreeMap<PathBuf, Option<Vec<u8>>>,
) {
    let Ended { stdout, stderr, code, .. } = ended;
    assert!((1..=3).contains(code), "{command}: exit {code}\n{stderr}");
    let errors = stderr.lines().filter(|l| l.starts_with("error: ")).count();
    match code {
        3 => assert!(stderr.is_empty(), "{command}: {stderr}"),
        _ => {
            assert!(stdout.is_empty(), "{command}: a failure prints a result: {stdout}");
            let closed = command.ends_with("2>&-") && stderr.is_empty();
            assert!(
                closed || errors == 1 && stderr.starts_with("error: "),
                "{command}: not one error: {stderr}"
            );
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
            if line.starts_with("# ") {
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
        let line = without_sums(&line);
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

/// Long and abbreviated sha256 sums of trained models depend on the machine's instructions.
fn without_sums(line: &str) -> String {
    let is_sum =
        |word: &str| [12, 64].contains(&word.len()) && word.bytes().all(|b| b.is_ascii_hexdigit());
    let words = line.split(' ').map(|word| {
        let bare = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
        if is_sum(bare) { word.replace(bare, "[SHA256]") } else { word.to_string() }
    });
    words.collect::<Vec<_>>().join(" ")
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
    main_job json_output quiet_and_verbose version_directories model_left_out bad_models bad_pictures bad_arrays bad_version_directory
    bad_outputs tolerance set_dimensions bad_data bad_recipes usage_errors pictures arrays closed_pipes
    layout per_layer test_inputs bad_calibration weight_schemes
    poisoned_layer labels picture_flags plots
    single_samples saved_model tfjs
}

#[test]
fn every_folder_is_a_session() {
    let entries = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cli")).unwrap();
    for entry in entries {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(SESSIONS.contains(&name.as_str()), "tests/cli/{name} is not in the list");
    }
}

/// A program that is started in `folder` without a shell around it.
fn start(folder: &Path, arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_mlctl"))
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn end(child: Child) -> Ended {
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    Ended {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: code(output.status),
        time: start.elapsed(),
    }
}

fn succeed(child: Child) {
    let ended = end(child);
    assert!(ended.code == 0, "exit {}: {}", ended.code, ended.stderr);
}

fn signal(child: &Child, name: &str) {
    let pid = child.id().to_string();
    assert!(Command::new("kill").args([name, &pid]).status().unwrap().success());
}

fn unfinished(folder: &Path) -> Vec<PathBuf> {
    contents(folder).into_keys().filter(|p| p.to_string_lossy().contains("unfinished")).collect()
}

fn versions(model: &Path) -> Vec<String> {
    let entries = fs::read_dir(model).into_iter().flatten();
    let mut names: Vec<_> =
        entries.map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|n| !n.starts_with('.'));
    names.sort();
    names
}

#[test]
fn killed_training_leaves_no_half_version() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("m");
    let picture = fixtures().join("images/7.png");
    let predict = ["predict", "--model", "m", picture.to_str().unwrap()];
    for milliseconds in [1, 10, 40, 100, 150] {
        let mut child = start(folder.path(), &["train", "-q", "--epochs", "1", "--out", "m"]);
        sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let ended = end(start(folder.path(), &predict));
        assert_eq!(ended.code, if versions(&model).is_empty() { 1 } else { 0 }, "{}", ended.stderr);
    }
    // killed just before the rename
    let mut killed = start(folder.path(), &["train"]);
    killed.kill().unwrap();
    killed.wait().unwrap();
    fs::create_dir_all(&model).unwrap();
    copy(&trained().join("0001"), &model.join(format!(".0001.mlctl-unfinished-{}", killed.id())));
    assert_eq!(end(start(folder.path(), &predict)).code, 1);
    succeed(start(folder.path(), &["train", "-q", "--epochs", "1", "--out", "m"]));
    succeed(start(folder.path(), &predict));
    assert_eq!((unfinished(folder.path()), versions(&model)), (vec![], vec!["0001".to_string()]));
}

#[test]
fn killed_conversions_leave_the_old_file_or_the_new_one() {
    let folder = tempfile::tempdir().unwrap();
    let model = trained().to_str().unwrap();
    let out = folder.path().join("out.tflite");
    succeed(start(folder.path(), &["convert", model, "-o", "out.tflite"]));
    let old = fs::read(&out).unwrap();
    succeed(start(folder.path(), &["convert", model, "-o", "out.tflite", "--quantize", "f16"]));
    let new = fs::read(&out).unwrap();
    fs::write(&out, &old).unwrap();
    for milliseconds in 0..30 {
        let arguments = ["convert", model, "-o", "out.tflite", "--quantize", "f16"];
        let mut child = start(folder.path(), &arguments);
        sleep(Duration::from_millis(milliseconds));
        child.kill().unwrap();
        child.wait().unwrap();
        let found = fs::read(&out).unwrap();
        assert!(found == old || found == new, "half a file after {milliseconds} ms");
    }
    succeed(start(folder.path(), &["convert", model, "-o", "out.tflite"]));
    assert!(fs::read(&out).unwrap() == old);
    assert!(unfinished(folder.path()).is_empty());
}

#[test]
fn interrupted_training_stops_at_once_and_says_so() {
    for signals in [1, 2] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = start(folder.path(), &["train", "--epochs", "1000"]);
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        lines.by_ref().find(|l| l.as_ref().unwrap().starts_with("epoch "));
        (0..signals).for_each(|_| signal(&child, "-INT"));
        let ended = end(child);
        let last = lines.map(Result::unwrap).last().unwrap_or_default();
        assert_eq!(ended.code, 130, "{last}");
        assert!(ended.time < Duration::from_secs(1), "{:?}", ended.time);
        assert!(ended.stdout.is_empty());
        if signals == 1 {
            assert!(last.starts_with("stopped after epoch "), "{last}");
            assert!(last.ends_with("; nothing was saved"), "{last}");
        }
        assert!(contents(folder.path()).is_empty());
    }
}

#[test]
fn versions_saved_at_the_same_time_get_numbers_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let model = trained().to_str().unwrap();
    let train = ["train", "-q", "--epochs", "1", "--out", "m"];
    let children = [start(folder.path(), &train), start(folder.path(), &train)];
    children.into_iter().for_each(succeed);
    let saves: Vec<Child> =
        (0..8).map(|_| start(folder.path(), &["save", model, "--to", "m"])).collect();
    saves.into_iter().for_each(succeed);
    let expected: Vec<String> = (1..=10).map(|n| format!("{n:04}")).collect();
    assert_eq!(versions(&folder.path().join("m")), expected);
    assert!(unfinished(folder.path()).is_empty());
    let convert = ["convert", model, "-o", "out.tflite"];
    let converts: Vec<Child> = (0..4).map(|_| start(folder.path(), &convert)).collect();
    converts.into_iter().for_each(succeed);
    succeed(start(folder.path(), &["compare", model, "out.tflite", "--tolerance", "0"]));
    assert!(unfinished(folder.path()).is_empty());
}

#[test]
fn help_tells_of_every_flag() {
    for command in mlctl::cli::command().get_subcommands() {
        let ended = run(&format!("mlctl {} --help", command.get_name()), Path::new("."));
        assert_eq!((ended.code, ended.stderr.as_str()), (0, ""));
        for flag in command.get_arguments().filter_map(|a| a.get_long()) {
            let told = ended.stdout.contains(&format!("--{flag}"));
            assert!(told, "{} --help does not tell of --{flag}", command.get_name());
        }
        assert!(ended.stdout.contains("--json"), "{}", command.get_name());
    }
}
