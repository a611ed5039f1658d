//! What must hold of any bytes that are given as a SavedModel's graph or as its variables.

use crate::check::Reached;
use mlctl::commands::Outcome;
use mlctl::commands::convert::{ConvertOptions, convert};
use mlctl::commands::inspect::inspect;
use mlctl::format::tensorflow::BundleReader;
use mlctl::progress::Silent;
use mlctl::read;
use mlctl::tract::guard;
use std::fs;
use std::path::Path;
use std::time::Duration;

/// For the loops of a graph in all that is done with one input.
const TIME_OF_LOOPS: Duration = Duration::from_secs(1);

/// `mlctl inspect` and `mlctl convert` of a folder whose `saved_model.pb` has these bytes.
pub fn check_saved_model(folder: &Path, bytes: &[u8]) -> Reached {
    guard::with_loop_limit(TIME_OF_LOOPS, || saved_model(folder, bytes))
}

fn saved_model(folder: &Path, bytes: &[u8]) -> Reached {
    let (source, out) = (folder.join("saved"), folder.join("output.tflite"));
    fs::create_dir_all(&source).unwrap();
    fs::write(source.join("saved_model.pb"), bytes).unwrap();
    let _ = fs::remove_file(&out);
    let abandoned = guard::abandoned();
    let _ = inspect(Some(&source));
    if guard::abandoned() > abandoned {
        return Reached::Refused;
    }
    let mut options = ConvertOptions {
        model: Some(source),
        out: Some(out.clone()),
        no_verify: true,
        ..Default::default()
    };
    if convert(&options, &Silent).is_err() {
        assert!(!out.exists(), "a refused conversion left a file");
        return Reached::Refused;
    }
    let written = fs::read(&out).expect("a conversion that is done has written its file");
    let small = written.len() < 1 << 16;
    let file = read::parse_tflite(written.into()).expect("a written file can be read");
    read::lite_graph(&file).expect("a written file holds a graph");
    if !small {
        return Reached::Converted;
    }
    options.no_verify = false;
    match convert(&options, &Silent) {
        Ok(Outcome::Done(_)) => Reached::Checked,
        Ok(Outcome::CheckFailed(_)) => Reached::NotHeld,
        Ok(Outcome::Cancelled(_)) | Err(_) => Reached::Converted,
    }
}

/// The index of a bundle behind its length in four bytes, then the data file.
pub fn parts(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}

/// Reading all tensors of a bundle.
pub fn check_bundle(folder: &Path, bytes: &[u8]) -> Reached {
    let Some((index, data)) = parts(bytes) else { return Reached::Refused };
    let prefix = folder.join("variables");
    fs::write(folder.join("variables.index"), index).unwrap();
    fs::write(folder.join("variables.data-00000-of-00001"), data).unwrap();
    let Ok(bundle) = BundleReader::open(&prefix) else { return Reached::Refused };
    let mut reached = Reached::Read;
    for key in bundle.keys() {
        match bundle.tensor(key) {
            Ok(Some(tensor)) => {
                assert!(tensor.data.len() <= data.len(), "more than the file has");
                reached = Reached::Checked;
            }
            Ok(None) => panic!("a key without a tensor"),
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    reached
}
