//! `save`: any model → a further version directory, verified.

use super::Outcome;
use crate::format::hdf5::is_hdf5;
use crate::model::{
    Format, Graph, LoadedModel, NewVersion, Record, locate, read_labels, save_version,
};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    pub model: Option<PathBuf>,
    /// The model directory.
    pub to: PathBuf,
    pub version: Option<u64>,
    pub labels: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SaveReport {
    pub source: PathBuf,
    pub saved: PathBuf,
    pub files: Vec<String>,
}

pub fn save(options: &SaveOptions) -> Result<Outcome<SaveReport>> {
    let mut model = LoadedModel::load(&locate(options.model.as_deref())?)?;
    if let Some(labels) = &options.labels {
        model.labels = read_labels(labels)?;
        ensure!(!model.labels.is_empty(), "{} holds no labels", labels.display());
    }
    if let Graph::Onnx(file) = &model.graph {
        ensure!(
            !file.has_external_data,
            "{} keeps its weights in other files, which a version directory cannot take along; \
             bring them into one file first",
            model.path.display()
        );
    }
    ensure!(
        !matches!(model.format, Format::SavedModel | Format::TensorFlowJs),
        "{}: a model of several files cannot be saved as a version directory; 'mlctl convert' makes one file \
         of it, which can",
        model.path.display()
    );
    let plan = model.plan()?;
    let primary = match model.format {
        Format::Onnx => "model.onnx",
        Format::Tflite => "model.tflite",
        Format::Keras if is_hdf5(&model.bytes) => "model.h5",
        Format::Keras => "model.keras",
        Format::SavedModel | Format::TensorFlowJs => "",
    };
    let name = options.to.file_name().and_then(|n| n.to_str());
    let name =
        name.with_context(|| format!("--to {} names no model directory", options.to.display()))?;
    let mut record = Record::new(name, primary, plan.inputs(), plan.outputs());
    record.preprocessing = model.preprocessing;
    if let Some(known) = model.record {
        record.metrics = known.metrics;
        record.training = known.training;
    }
    let new = NewVersion {
        record,
        primary: &model.bytes,
        labels: &model.labels,
        number: options.version,
    };
    let mut files = vec![primary.to_string()];
    if !new.labels.is_empty() {
        files.push("assets/labels.txt".into());
    }
    let saved = save_version(&options.to, new)?;
    files.push("mlctl.json".into());
    Ok(Outcome::Done(SaveReport { source: model.path, saved, files }))
}
