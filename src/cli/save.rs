//! `mlctl save`.

use super::Global;
use crate::commands::save::{SaveOptions, SaveReport, save};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Save a model as a further version directory
#[derive(Debug, Args)]
pub struct SaveArgs {
    /// .onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]
    model: Option<PathBuf>,
    /// Model directory that gets the version
    #[arg(long, value_name = "DIR")]
    to: PathBuf,
    /// Version number [default: the next free one]
    #[arg(long, value_name = "N")]
    version: Option<u64>,
    /// Class names, one a line
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Leave out the SavedModel, which takes as much room again
    #[arg(long)]
    no_saved_model: bool,
}

impl SaveArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        let options = SaveOptions {
            model: self.model.clone(),
            to: self.to.clone(),
            version: self.version,
            labels: self.labels.clone(),
            no_saved_model: self.no_saved_model,
            threads: global.threads(),
        };
        global.finish(save(&options).context("saving")?, text)
    }
}

fn text(report: &SaveReport) -> String {
    let of_saved_model = |name: &&String| name.ends_with(".pb") || name.starts_with("variables/");
    let mut files: Vec<&str> =
        report.files.iter().filter(|name| !of_saved_model(name)).map(String::as_str).collect();
    if report.saved_model {
        files.insert(1, "SavedModel");
    }
    format!(
        "{}saved {} ({})\n",
        no_saved_model(report.no_saved_model.as_deref()),
        report.saved.display(),
        files.join(", ")
    )
}

/// Tells why TensorFlow cannot load a version directory.
pub fn no_saved_model(reason: Option<&str>) -> String {
    reason.map_or(String::new(), |reason| {
        format!("note: there is no SavedModel in it, so TensorFlow cannot load it: {reason}\n")
    })
}
