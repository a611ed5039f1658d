//! From what the user typed (or left out) to the file to load.

use super::record::FILE_NAME;
use super::version::numbers;
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// The file by which a folder is known as a SavedModel.
const SAVED_MODEL: &str = "saved_model.pb";

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    Onnx,
    Tflite,
    /// `.keras` and `.h5`.
    Keras,
    /// The file `saved_model.pb` of a folder that TensorFlow wrote.
    SavedModel,
    /// `model.json` of TensorFlow.js.
    TensorFlowJs,
}

impl Format {
    /// By the extension of a file's name.
    pub fn of_name(path: &Path) -> Option<Format> {
        if path.file_name().is_some_and(|name| name == SAVED_MODEL) {
            return Some(Format::SavedModel);
        }
        let extension = path.extension().and_then(|e| e.to_str()).unwrap_or_default();
        Some(match extension.to_ascii_lowercase().as_str() {
            "onnx" => Format::Onnx,
            "tflite" => Format::Tflite,
            "keras" | "h5" | "hdf5" => Format::Keras,
            "json" => Format::TensorFlowJs,
            _ => return None,
        })
    }
}

/// Where a model is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// For naming what is made from it: `my_mnist_model`.
    pub name: String,
    pub place: Place,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    File {
        path: PathBuf,
        format: Format,
    },
    /// A version directory with its `mlctl.json`.
    Version(PathBuf),
}

/// Finds the model that `model` names: a file, a version directory, a model directory (its newest
/// version); or, left out, the one model directory below the current folder.
///
/// # Errors
/// Nothing is there, or several are; the error lists what there is.
pub fn locate(model: Option<&Path>) -> Result<Located> {
    match model {
        Some(path) => locate_path(path),
        None => locate_path(&only_model_directory(Path::new("."))?),
    }
}

fn locate_path(path: &Path) -> Result<Located> {
    let metadata =
        fs::metadata(path).with_context(|| format!("cannot open model {}", path.display()))?;
    if metadata.is_dir() {
        let record = path.join(FILE_NAME);
        ensure!(
            record.is_file() || record.symlink_metadata().is_err(),
            "{} is no file, so what is beside it cannot be trusted; take it away to use the rest",
            record.display()
        );
        if record.is_file() {
            let name = name_of_version(path)?;
            return Ok(Located { name, place: Place::Version(path.to_path_buf()) });
        }
        for (file, format) in
            [(SAVED_MODEL, Format::SavedModel), ("model.json", Format::TensorFlowJs)]
        {
            if path.join(file).is_file() {
                let place = Place::File { path: path.join(file), format };
                return Ok(Located { name: name_of_version(path)?, place });
            }
        }
        return match newest_version(path)? {
            Some(version) => locate_path(&version),
            None => bail!(
                "{} holds no model: neither {FILE_NAME} nor {SAVED_MODEL}, nor a version folder such as \
                 0001 that has one",
                path.display()
            ),
        };
    }
    ensure!(metadata.is_file(), "{} is neither a file nor a folder", path.display());
    let format = match Format::of_name(path) {
        Some(format) => format,
        None => format_by_content(path)?,
    };
    let version = path.parent().filter(|_| path.file_name().is_some_and(|n| n == "model.onnx"));
    let version = version.map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    if let Some(version) = version.filter(|v| v.join(FILE_NAME).is_file()) {
        return locate_path(version);
    }
    if let (Format::SavedModel | Format::TensorFlowJs, Some(folder)) = (format, path.parent()) {
        let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
        let name = match path.file_stem() {
            Some(stem) if stem != "model" && stem != "saved_model" => {
                stem.to_string_lossy().into_owned()
            }
            _ => name_of_version(folder)?,
        };
        return Ok(Located { name, place: Place::File { path: path.to_path_buf(), format } });
    }
    let name = path.file_stem().map_or("model".into(), |n| n.to_string_lossy().into_owned());
    Ok(Located { name, place: Place::File { path: path.to_path_buf(), format } })
}

/// A folder's name; that of the folder round it where its own is a number.
fn name_of_version(folder: &Path) -> Result<String> {
    let version = folder.canonicalize()?;
    let parent = version.parent().and_then(Path::file_name);
    let own = version.file_name();
    let is_number = own.is_some_and(|n| n.to_string_lossy().bytes().all(|b| b.is_ascii_digit()));
    let name = if is_number { parent.or(own) } else { own };
    Ok(name.map_or("model".into(), |n| n.to_string_lossy().into_owned()))
}

fn format_by_content(path: &Path) -> Result<Format> {
    use std::io::Read;
    let mut head = [0u8; 8];
    let mut file =
        fs::File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let read = file.read(&mut head).with_context(|| format!("cannot read {}", path.display()))?;
    match &head[..read] {
        [_, _, _, _, b'T', b'F', b'L', b'3'] => Ok(Format::Tflite),
        [8, 1..=20, ..] => Ok(Format::Onnx),
        [0x89, b'H', b'D', b'F', ..] => Ok(Format::Keras),
        _ => bail!(
            "{} is not a model that mlctl knows: .onnx, .tflite, .keras, .h5, a folder \
             with {SAVED_MODEL}, TensorFlow.js' model.json, or a version directory",
            path.display()
        ),
    }
}

/// The folder of the newest version in a model directory.
pub fn newest_version(folder: &Path) -> Result<Option<PathBuf>> {
    let at = || format!("cannot read folder {}", folder.display());
    let mut found: Vec<u64> = numbers(folder).with_context(at)?;
    found.sort();
    for number in found.into_iter().rev() {
        for entry in fs::read_dir(folder).with_context(at)?.flatten() {
            let is_it = entry.file_name().to_str().and_then(|n| n.parse().ok()) == Some(number);
            let holds = |file| entry.path().join(file).is_file();
            if is_it && (holds(FILE_NAME) || holds(SAVED_MODEL)) {
                return Ok(Some(entry.path()));
            }
        }
    }
    Ok(None)
}

fn only_model_directory(folder: &Path) -> Result<PathBuf> {
    let mut found = vec![];
    for entry in fs::read_dir(folder).context("cannot read the current folder")?.flatten() {
        let path = entry.path();
        if path.is_dir() && newest_version(&path).ok().flatten().is_some() {
            found.push(PathBuf::from(entry.file_name()));
        }
    }
    found.sort();
    match found.as_slice() {
        [] => bail!("no model directory here; name a model, or make one with 'mlctl train'"),
        [one] => Ok(one.clone()),
        several => {
            let names: Vec<String> = several.iter().map(|p| p.display().to_string()).collect();
            bail!("several model directories here; name one: {}", names.join(", "))
        }
    }
}
