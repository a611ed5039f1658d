//! `mlctl save`.

use super::Global;
use crate::commands::save::{SaveOptions, save};
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
}

impl SaveArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        let options = SaveOptions {
            model: self.model.clone(),
            to: self.to.clone(),
            version: self.version,
            labels: self.labels.clone(),
        };
        global.finish(save(&options).context("saving")?, |report| {
            format!("saved {} ({})\n", report.saved.display(), report.files.join(", "))
        })
    }
}
