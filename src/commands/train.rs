//! `train`: recipe and data → a trained model in a new version directory.

use super::Outcome;
use super::export::saved_model_of;
use crate::data::preprocessing::{Channels, Fit, Polarity, Preprocessing};
use crate::data::resize::Pixels;
use crate::data::{Dataset, digit, idx_folder, mnist};
use crate::format::atomic;
use crate::model::{LoadedModel, Metrics, NewVersion, Record, TrainingRecord, save_version};
use crate::progress::{EpochReport, LayerSummary, Progress, Score};
use crate::train::recipe::OptimizerKind;
use crate::train::{self, Recipe, TrainError};
use anyhow::{Context, Result, bail};
use prost::Message;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// What is left out stays as the recipe says.
#[derive(Debug, Clone, Default)]
pub struct TrainOptions {
    pub recipe: Option<PathBuf>,
    /// A folder of IDX files; otherwise the built-in digits.
    pub data: Option<PathBuf>,
    pub epochs: Option<usize>,
    pub batch_size: Option<usize>,
    pub optimizer: Option<OptimizerKind>,
    pub learning_rate: Option<f32>,
    pub momentum: Option<f32>,
    pub nesterov: bool,
    pub seed: Option<u64>,
    pub validation: Option<f64>,
    /// The model directory; otherwise the recipe's name in the current folder.
    pub out: Option<PathBuf>,
    pub threads: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainReport {
    /// The version directory that was made.
    pub saved: PathBuf,
    /// Why TensorFlow cannot load the version.
    pub no_saved_model: Option<String>,
    pub data: String,
    pub layers: Vec<LayerSummary>,
    pub parameters: usize,
    pub training_samples: usize,
    pub validation_samples: usize,
    pub test_samples: usize,
    pub epochs: Vec<EpochReport>,
    pub test: Score,
    /// Of the optimizer's steps alone.
    pub samples_per_second: f64,
}

pub fn train(options: &TrainOptions, progress: &dyn Progress) -> Result<Outcome<TrainReport>> {
    let recipe = recipe(options)?;
    let out = options.out.clone().unwrap_or_else(|| PathBuf::from(&recipe.name));
    check_writable(&out)?;
    let data = match &options.data {
        Some(folder) => idx_folder::load(folder)?,
        None => mnist::load()?,
    };
    let trained = match train::train(&recipe, &data, options.threads, progress) {
        Ok(trained) => trained,
        Err(TrainError::Failed(error)) => {
            return Err(match &options.recipe {
                Some(path) => error.context(format!("recipe {}", path.display())),
                None => error,
            });
        }
        Err(TrainError::Cancelled { epoch, step }) => {
            let text = format!("stopped after epoch {epoch}, step {step}; nothing was saved");
            return Ok(Outcome::Cancelled(text));
        }
    };
    let name = out.file_name().and_then(|n| n.to_str()).unwrap_or(&recipe.name);
    let mut model = LoadedModel::of_onnx(name, trained.model.encode_to_vec().into())?;
    model.preprocessing = Some(match &options.data {
        None => Preprocessing::mnist(),
        Some(_) => preprocessing(&data),
    });
    let plan = model.plan()?;
    let mut record = Record::new(name, "model.onnx", plan.inputs(), plan.outputs());
    record.preprocessing = model.preprocessing.clone();
    let validation = trained.epochs.last().and_then(|e| e.validation);
    record.metrics = Some(Metrics { validation, test: trained.test });
    record.training = Some(TrainingRecord {
        data: data.name.clone(),
        samples: trained.training_samples,
        recipe: serde_json::to_value(&recipe)?,
    });
    let saved_model = saved_model_of(&model, options.threads);
    let new = NewVersion {
        record,
        primary: &model.bytes,
        labels: &data.class_names,
        saved_model: saved_model.as_ref().ok(),
        number: None,
    };
    let saved = save_version(&out, new)?;
    let steps: f64 = trained.epochs.iter().map(|e| e.training_seconds).sum();
    Ok(Outcome::Done(TrainReport {
        saved: saved.folder,
        no_saved_model: saved_model.err().map(|reason| format!("{reason:#}")),
        data: data.name.clone(),
        parameters: trained.layers.iter().map(|l| l.parameters).sum(),
        layers: trained.layers,
        training_samples: trained.training_samples,
        validation_samples: trained.validation_samples,
        test_samples: trained.test_samples,
        samples_per_second: (trained.training_samples * trained.epochs.len()) as f64 / steps,
        epochs: trained.epochs,
        test: trained.test,
    }))
}

fn recipe(options: &TrainOptions) -> Result<Recipe> {
    let mut recipe = match &options.recipe {
        Some(path) => Recipe::read(path)?,
        None => Recipe::default(),
    };
    let training = &mut recipe.training;
    macro_rules! override_with {
        ($($field:ident),*) => {$(
            if let Some(value) = options.$field {
                training.$field = value;
            }
        )*};
    }
    override_with!(epochs, batch_size, optimizer, learning_rate, momentum, seed, validation);
    training.nesterov |= options.nesterov;
    recipe.check()?;
    Ok(recipe)
}

/// The record for pictures like those of `data`.
fn preprocessing(data: &Dataset) -> Preprocessing {
    let (height, width) = (data.train.rows(), data.train.cols());
    let dark_on_light = |i: &usize| {
        let pixels = data.train.image(*i).to_vec();
        digit::is_dark_on_light(&Pixels { width, height, channels: 1, data: pixels })
    };
    let looked_at = data.train.len().min(200);
    let dark = (0..looked_at).filter(dark_on_light).count();
    Preprocessing {
        polarity: if dark * 2 < looked_at { Polarity::LightOnDark } else { Polarity::AsIs },
        fit: Fit::Stretch,
        ..Preprocessing::unit_range(height, width, Channels::Grey)
    }
}

/// Finds out before training, not after, that the result cannot be saved.
fn check_writable(out: &Path) -> Result<()> {
    if out.is_file() {
        bail!("cannot save in {}: it is a file; choose another --out", out.display());
    }
    let mut folder = out;
    while !folder.exists() {
        folder = match folder.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
    }
    atomic::check_writable(folder)
        .with_context(|| format!("cannot write to {}; choose another --out", folder.display()))
}
