//! `mlctl train`.

use super::Global;
use super::render::thousands;
use super::save::no_saved_model;
use crate::commands::train::{TrainOptions, TrainReport, train};
use crate::train::recipe::OptimizerKind;
use anyhow::{Context, Result};
use clap::Args;
use std::path::{Path, PathBuf};

/// Train a model and save it as a new version
///
/// Without a recipe it is the book's classifier (Flatten, Dense 100 relu, Dense 10 softmax) on the
/// built-in MNIST: SGD 0.01, batch 32, 3 epochs, saved in ./my_mnist_model/0001, then 0002 …
#[derive(Debug, Args)]
pub struct TrainArgs {
    /// TOML file with layers and training settings
    recipe: Option<PathBuf>,
    /// Folder with the four IDX files of MNIST's layout, plain or .gz; or the word mnist
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    #[arg(long, value_name = "N", value_parser = at_least_1,
          help = "Passes over the training samples [default: 3]")]
    epochs: Option<usize>,
    #[arg(long, value_name = "N", value_parser = at_least_1,
          help = "Samples of one step [default: 32]")]
    batch_size: Option<usize>,
    #[arg(long, value_name = "NAME", help = "sgd, with --momentum and --nesterov [default: sgd]")]
    optimizer: Option<OptimizerName>,
    #[arg(long, value_name = "F", help = "Step size [default: 0.01]")]
    learning_rate: Option<f32>,
    #[arg(long, value_name = "F", help = "Share of the last step that is kept [default: 0]")]
    momentum: Option<f32>,
    /// Look ahead by the momentum (Nesterov)
    #[arg(long)]
    nesterov: bool,
    #[arg(long, value_name = "N", help = "Seed of weights and shuffling [default: 42]")]
    seed: Option<u64>,
    /// Share below 1, or number, of the training samples kept for validation [default: 5000]
    #[arg(long, value_name = "FRACTION|N")]
    validation: Option<f64>,
    /// Model directory [default: the recipe's name, here]
    #[arg(long, short, value_name = "DIR")]
    out: Option<PathBuf>,
}

fn at_least_1(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(0) => Err("must be at least 1".into()),
        other => other.map_err(|_| "not a whole number".into()),
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum OptimizerName {
    Sgd,
}

impl TrainArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        let builtin =
            self.data.as_deref() == Some(Path::new("mnist")) && !Path::new("mnist").is_dir();
        let options = TrainOptions {
            recipe: self.recipe.clone(),
            data: self.data.clone().filter(|_| !builtin),
            epochs: self.epochs,
            batch_size: self.batch_size,
            optimizer: self.optimizer.map(|OptimizerName::Sgd| OptimizerKind::Sgd),
            learning_rate: self.learning_rate,
            momentum: self.momentum,
            nesterov: self.nesterov,
            seed: self.seed,
            validation: self.validation,
            out: self.out.clone(),
            threads: global.threads(),
        };
        let outcome = train(&options, &global.progress()).context("training")?;
        global.finish(outcome, text)
    }
}

fn text(report: &TrainReport) -> String {
    format!(
        "test accuracy {:.4}, loss {:.4} on {} samples\n{}saved {}\n",
        report.test.accuracy,
        report.test.loss,
        thousands(report.test_samples as u64),
        no_saved_model(report.no_saved_model.as_deref()),
        report.saved.display()
    )
}
