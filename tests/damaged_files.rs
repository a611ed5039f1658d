//! Files with flipped bits: every command on them ends with a result or an error, without a panic, a file
//! left behind or much time. `FLIPS=5000 cargo test --release --test damaged_files` does more of it.

use mlctl::commands::convert::{ConvertOptions, convert};
use mlctl::commands::inspect::inspect;
use mlctl::commands::predict::{PredictOptions, predict};
use mlctl::commands::train::{TrainOptions, train};
use mlctl::progress::Silent;
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const FLIPS: usize = 150;

/// The parts at a file's ends where its structure is rather than its weights.
const HEAD: usize = 2_000;
const TAIL: usize = 4_000;

fn picture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/images/7.png")
}

/// A small model, trained once.
fn version() -> &'static Path {
    static VERSION: OnceLock<(tempfile::TempDir, PathBuf)> = OnceLock::new();
    let (_, version) = VERSION.get_or_init(|| {
        let folder = tempfile::tempdir().unwrap();
        let options = TrainOptions {
            epochs: Some(1),
            validation: Some(59_000.0),
            out: Some(folder.path().join("digits")),
            threads: 1,
            ..Default::default()
        };
        train(&options, &Silent).unwrap();
        let version = folder.path().join("digits/0001");
        (folder, version)
    });
    version
}

/// Everything that reads a model; what it says does not matter.
fn use_model(model: &Path, out: &Path) {
    let model = Some(model.to_path_buf());
    let _ = inspect(model.as_deref());
    let out = Some(out.to_path_buf());
    let _ = convert(&ConvertOptions { model: model.clone(), out, ..Default::default() }, &Silent);
    use_picture(model, &picture());
}

fn use_picture(model: Option<PathBuf>, picture: &Path) {
    let inputs = vec![picture.to_path_buf()];
    let _ = predict(&PredictOptions { model, inputs, top_k: 1, threads: 1, ..Default::default() });
}

/// Runs `work` on `file` in many damaged versions: bits flipped, bytes replaced, the end cut off.
fn check(file: &Path, work: impl Fn(&Path)) {
    let good = fs::read(file).unwrap();
    let folder = file.parent().unwrap();
    let names =
        || fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect::<Vec<_>>();
    let before = names();
    let flips = std::env::var("FLIPS").map_or(FLIPS, |n| n.parse().unwrap());
    let mut random = Pcg64::seed_from_u64(7);
    for round in 0..flips {
        let mut bytes = good.clone();
        for _ in 0..1 + random.next_u32() % 3 {
            let any = random.next_u32() as usize;
            let at = match random.next_u32() % 4 {
                0 => any % bytes.len(),
                1 => any % bytes.len().min(HEAD),
                _ => bytes.len() - 1 - any % bytes.len().min(TAIL),
            };
            match random.next_u32() % 8 {
                0 => bytes[at] = 0xff,
                1 => bytes[at] = 0,
                2 => bytes[at] = random.next_u32() as u8,
                3 if bytes.len() > 8 => bytes.truncate(at.max(8)),
                bit => bytes[at] ^= 1 << bit,
            }
        }
        fs::write(file, &bytes).unwrap();
        let start = Instant::now();
        let ended = catch_unwind(AssertUnwindSafe(|| work(file)));
        if ended.is_err() || start.elapsed() > Duration::from_secs(5) {
            let kept = std::env::temp_dir()
                .join(format!("damaged-{round}-{}", file.file_name().unwrap().display()));
            fs::write(&kept, &bytes).unwrap();
            panic!(
                "round {round}: panic {}, {:?}; see {}",
                ended.is_err(),
                start.elapsed(),
                kept.display()
            );
        }
        assert_eq!(names(), before, "round {round} left a file");
    }
}

#[test]
fn a_damaged_onnx_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    fs::copy(version().join("model.onnx"), &file).unwrap();
    check(&file, |file| use_model(file, &folder.path().join("m.onnx.d/x.tflite")));
}

#[test]
fn a_damaged_tflite_model_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    let (model, out) = (Some(version().to_path_buf()), Some(folder.path().join("m.tflite")));
    let options = ConvertOptions { model, out: out.clone(), ..Default::default() };
    convert(&options, &Silent).unwrap();
    check(&out.unwrap(), |file| use_model(file, &folder.path().join("none/x.tflite")));
}

#[test]
fn a_damaged_record_is_an_error() {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir(folder.path().join("assets")).unwrap();
    for name in ["model.onnx", "mlctl.json", "assets/labels.txt"] {
        fs::copy(version().join(name), folder.path().join(name)).unwrap();
    }
    let work = |file: &Path| use_picture(file.parent().map(Path::to_path_buf), &picture());
    check(&folder.path().join("mlctl.json"), work);
}

#[test]
fn a_damaged_picture_is_an_error() {
    let model = Some(version().to_path_buf());
    for name in ["7.png", "1_rgb.jpg", "2.bmp"] {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join(name);
        fs::copy(picture().with_file_name(name), &file).unwrap();
        check(&file, |file| use_picture(model.clone(), file));
    }
}
