//! The inputs of `fixtures/fuzz`, each as it is and in some mutated versions, through the same checks as in the fuzz targets
//! (`fuzz/`), without their coverage. `MUTATIONS=1000 cargo test --release --test fuzz_corpus` does more of it; FUZZ_SEEDS names a
//! folder with more inputs.

#[path = "../fuzz/src/check.rs"]
mod check;
#[path = "../fuzz/src/check_serve.rs"]
mod check_serve;
#[path = "../fuzz/src/draw.rs"]
mod draw;
#[path = "../fuzz/src/mutate_onnx.rs"]
mod mutate_onnx;
#[path = "../fuzz/src/mutate_text.rs"]
mod mutate_text;
#[path = "../fuzz/src/mutate_tflite.rs"]
mod mutate_tflite;

use check::Reached;
use draw::Draw;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use std::{env, fs};

const MUTATIONS: usize = 4;
const LIMIT: Duration = Duration::from_secs(10);

type Check = fn(&Path, &[u8]) -> Reached;
type Mutate = fn(&[u8], Option<&[u8]>, &mut Draw) -> Option<Vec<u8>>;

fn inputs(extension: &str) -> Vec<(PathBuf, Vec<u8>)> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/fuzz");
    let folders = std::iter::once(own).chain(env::var_os("FUZZ_SEEDS").map(PathBuf::from));
    let files = folders.flat_map(|f| fs::read_dir(f).unwrap().map(|entry| entry.unwrap().path()));
    let mut files: Vec<PathBuf> =
        files.filter(|f| f.extension().is_some_and(|e| e == extension)).collect();
    files.sort();
    files.into_iter().map(|f| (f.clone(), fs::read(f).unwrap())).collect()
}

fn check_all(extension: &str, check: Check, mutate: Mutate) {
    check_some(extension, check, mutate, MUTATIONS);
}

fn check_some(extension: &str, check: Check, mutate: Mutate, mutations: usize) {
    let inputs = inputs(extension);
    assert!(!inputs.is_empty());
    let folder = tempfile::tempdir().unwrap();
    let mutations = env::var("MUTATIONS").map_or(mutations, |n| n.parse().unwrap());
    let mut counts: BTreeMap<Reached, usize> = BTreeMap::new();
    let mut failures = vec![];
    for (number, (path, bytes)) in inputs.iter().enumerate() {
        for round in 0..=mutations {
            let mut draw = Draw::new((number * 100_003 + round) as u64);
            let changed = match round {
                0 => Some(bytes.clone()),
                _ => {
                    let other = draw.one_in(8).then(|| &*inputs[draw.below(inputs.len())].1);
                    mutate(bytes, other, &mut draw)
                }
            };
            let Some(changed) = changed else { continue };
            let start = Instant::now();
            let ended = catch_unwind(AssertUnwindSafe(|| check(folder.path(), &changed)));
            match ended {
                Ok(reached) if start.elapsed() < LIMIT => *counts.entry(reached).or_default() += 1,
                _ => {
                    let name = path.file_stem().unwrap().display();
                    let kept = env::temp_dir().join(format!("fuzz-{name}-{round}.{extension}"));
                    fs::write(&kept, &changed).unwrap();
                    failures.push(format!("{} after {:?}", kept.display(), start.elapsed()));
                }
            }
        }
    }
    println!("{extension}: {counts:?}");
    assert!(failures.is_empty(), "{} findings:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn onnx_files_convert_or_are_refused() {
    check_all("onnx", check::check_onnx, mutate_onnx::mutate);
}

#[test]
fn tflite_files_are_read_or_refused() {
    check_all("tflite", check::check_tflite, mutate_tflite::mutate);
}

/// Requests and config files are read in microseconds: more mutations fit.
const MORE: usize = 500;

#[test]
fn predict_bodies_are_read_as_json_or_refused() {
    check_some("predict", check_serve::check_predict, mutate_text::mutate, MORE);
}

#[test]
fn infer_requests_are_read_or_refused() {
    check_some("infer", check_serve::check_infer, mutate_text::mutate, MORE);
}

#[test]
fn config_files_are_read_or_refused() {
    check_some("config", check_serve::check_config, mutate_text::mutate, MORE);
}
