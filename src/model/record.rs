//! `mlctl.json`: what a version directory says of its model.

use crate::data::preprocessing::Preprocessing;
use crate::graph::shape_text;
use crate::progress::Score;
use crate::runtime::Port;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

pub const FILE_NAME: &str = "mlctl.json";

/// The classes' names, a line each.
pub const LABELS: &str = "assets/labels.txt";

const FORMAT_VERSION: u32 = 1;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Record {
    pub format_version: u32,
    pub name: String,
    /// The file to load, relative to the version directory.
    pub primary: String,
    pub inputs: Vec<PortRecord>,
    pub outputs: Vec<PortRecord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preprocessing: Option<Preprocessing>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metrics: Option<Metrics>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<TrainingRecord>,
    /// sha256 of each file, by its path in the version directory.
    pub files: BTreeMap<String, String>,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PortRecord {
    pub name: String,
    #[serde(rename = "type")]
    pub element: String,
    pub shape: String,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Metrics {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Score>,
    pub test: Score,
}

/// How a model was trained: enough to do it again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// The data set's name, `mnist` for the built-in digits.
    pub data: String,
    pub samples: usize,
    pub recipe: serde_json::Value,
}

impl From<&Port> for PortRecord {
    fn from(port: &Port) -> PortRecord {
        PortRecord {
            name: port.name.clone(),
            element: port.element.name().into(),
            shape: shape_text(&port.shape),
        }
    }
}

impl Record {
    pub fn new(name: &str, primary: &str, inputs: &[Port], outputs: &[Port]) -> Record {
        Record {
            format_version: FORMAT_VERSION,
            name: name.into(),
            primary: primary.into(),
            inputs: inputs.iter().map(PortRecord::from).collect(),
            outputs: outputs.iter().map(PortRecord::from).collect(),
            preprocessing: None,
            metrics: None,
            training: None,
            files: BTreeMap::new(),
        }
    }

    /// Reads a version directory's record and checks the sha256 of every file that it lists.
    ///
    /// # Errors
    /// The record is missing, broken or newer than this mlctl, or a file differs from what was saved.
    pub fn read_verified(folder: &Path) -> Result<Record> {
        Record::read(folder, |_, _| true)
    }

    /// As [`Record::read_verified`], but looks only at the files that loading the model reads: the SavedModel beside
    /// them is as large again.
    pub fn read_to_load(folder: &Path) -> Result<Record> {
        Record::read(folder, |record, name| name == record.primary || name == LABELS)
    }

    fn read(folder: &Path, is_checked: fn(&Record, &str) -> bool) -> Result<Record> {
        let path = folder.join(FILE_NAME);
        let at = || path.display().to_string();
        let text = crate::format::mmap::read_text(&path).with_context(at)?;
        let broken = |e| anyhow!("not a record of mlctl, or damaged ({e}); save the model again");
        let version: FormatVersion =
            serde_json::from_str(&text).map_err(broken).with_context(at)?;
        if version.format_version > FORMAT_VERSION {
            bail!(
                "{}: format version {} is newer than this mlctl knows ({FORMAT_VERSION}); update mlctl",
                at(),
                version.format_version
            );
        }
        let record: Record = serde_json::from_str(&text).map_err(broken).with_context(at)?;
        ensure!(
            record.files.contains_key(&record.primary),
            "{}: the primary file '{}' is not among its files",
            at(),
            record.primary
        );
        for (name, expected) in &record.files {
            let inside = !name.is_empty()
                && Path::new(name).components().all(|c| matches!(c, Component::Normal(_)));
            ensure!(inside, "{}: '{name}' is outside the version directory", at());
            if !is_checked(&record, name) {
                continue;
            }
            let file = folder.join(name);
            let found = sha256_of(&file)?;
            ensure!(
                found == *expected,
                "{} was changed or damaged since it was saved (sha256 {}…, expected {}…); save the \
                 model again or restore the file",
                file.display(),
                &found[..12],
                expected.get(..12).unwrap_or(expected)
            );
        }
        Ok(record)
    }
}

/// Whether a folder is a version directory of ours.
pub fn holds_record(folder: &Path) -> bool {
    record_of(folder).is_file()
}

/// Where a version directory of ours has its record.
pub fn record_of(folder: &Path) -> PathBuf {
    folder.join(FILE_NAME)
}

#[derive(Deserialize)]
struct FormatVersion {
    format_version: u32,
}

/// The sha256 of a file, in hexadecimal.
pub fn sha256_of(path: &Path) -> Result<String> {
    let bytes = crate::format::mmap::open(path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(Sha256::digest(&bytes).iter().map(|b| format!("{b:02x}")).collect())
}
