//! `save`: any model → a further version directory, verified.

use super::Outcome;
use super::export::saved_model_of;
use crate::format::hdf5::is_hdf5;
use crate::model::{
    Format, Graph, LoadedModel, NewVersion, Record, locate, read_labels, save_version,
};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Clone, Default)]
pub struct SaveOptions {
    pub model: Option<PathBuf>,
    /// The model directory.
    pub to: PathBuf,
    pub version: Option<u64>,
    pub labels: Option<PathBuf>,
    /// Leaves out what TensorFlow loads.
    pub no_saved_model: bool,
    pub threads: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SaveReport {
    pub source: PathBuf,
    pub saved: PathBuf,
    pub files: Vec<String>,
    /// Whether TensorFlow loads the version.
    pub saved_model: bool,
    /// Why it cannot, where that was not asked for.
    pub no_saved_model: Option<String>,
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
        Format::TensorFlowJs => bail!(
            "{} keeps its weights in other files, which a version directory cannot take along; convert it first",
            model.path.display()
        ),
        Format::SavedModel => "",
    };
    let name = options.to.file_name().and_then(|n| n.to_str());
    let name =
        name.with_context(|| format!("--to {} names no model directory", options.to.display()))?;
    let mut record = Record::new(name, primary, plan.inputs(), plan.outputs());
    record.preprocessing = model.preprocessing.clone();
    if let Some(known) = &model.record {
        record.metrics = known.metrics.clone();
        record.training = known.training.clone();
    }
    drop(plan);
    let saved_model =
        (!options.no_saved_model).then(|| saved_model_of(&model, options.threads.max(1)));
    let graph = saved_model.as_ref().and_then(|made| made.as_ref().ok());
    let new = NewVersion {
        record,
        primary: &model.bytes,
        labels: &model.labels,
        saved_model: graph,
        number: options.version,
    };
    let saved = save_version(&options.to, new)?;
    Ok(Outcome::Done(SaveReport {
        source: model.path,
        saved: saved.folder,
        files: saved.files,
        saved_model: graph.is_some(),
        no_saved_model: saved_model.and_then(Result::err).map(|reason| format!("{reason:#}")),
    }))
}
