//! `mlctl predict`.

use super::Global;
use super::pictures::PictureArgs;
use super::render::{Align, table};
use crate::commands::predict::{ClassScore, PredictOptions, PredictReport, Prediction, predict};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Run a model on pictures, arrays or numbers
#[derive(Debug, Args)]
#[command(visible_alias = "run")]
pub struct PredictArgs {
    /// Pictures (PNG, JPEG, BMP), folders of them, .npy, .npz (arrays by input name), IDX, .csv, or - for
    /// JSON on stdin
    #[arg(required = true, value_name = "INPUT")]
    inputs: Vec<PathBuf>,
    /// .onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]
    #[arg(long, short, value_name = "MODEL")]
    model: Option<PathBuf>,
    /// Classes to show
    #[arg(long, short = 'k', value_name = "K", default_value_t = 3,
          value_parser = clap::value_parser!(u32).range(1..))]
    top_k: u32,
    /// Save the raw outputs by name, as .npz (or .npy)
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    #[command(flatten)]
    pictures: PictureArgs,
}

impl PredictArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        let options = PredictOptions {
            model: self.model.clone(),
            inputs: self.inputs.clone(),
            top_k: self.top_k as usize,
            out: self.out.clone(),
            pictures: self.pictures.flags(),
            threads: global.threads(),
        };
        let outcome = predict(&options).context("predicting")?;
        if let crate::commands::Outcome::Done(report) = &outcome
            && !global.quiet
            && !global.json
        {
            report.notes.iter().for_each(|note| eprintln!("note: {note}"));
        }
        global.finish(outcome, |report| text(report, global.quiet))
    }
}

fn text(report: &PredictReport, quiet: bool) -> String {
    let mut text = match report.predictions.as_slice() {
        [] => {
            let rows: Vec<Vec<String>> = report
                .outputs
                .iter()
                .map(|o| {
                    let numbers = [o.min, o.mean, o.max].map(|v| format!("{v:.5}"));
                    [vec![o.name.clone(), format!("{:?}", o.shape)], numbers.to_vec()].concat()
                })
                .collect();
            let align = [Align::Left, Align::Left, Align::Right, Align::Right, Align::Right];
            table(&["output", "shape", "min", "mean", "max"], &align, &rows)
        }
        predictions => {
            let rows: Vec<Vec<String>> = predictions.iter().map(row).collect();
            let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
            table(&[], &vec![Align::Left; columns], &rows)
        }
    };
    if let Some(saved) = &report.saved
        && !quiet
    {
        text += &format!("saved {}\n", saved.display());
    }
    text
}

fn row(prediction: &Prediction) -> Vec<String> {
    let score = |class: &ClassScore| match prediction.is_probability {
        true => format!("{:.1} %", class.score * 100.0),
        false => format!("{:.4}", class.score),
    };
    let label = |class: &ClassScore| class.label.clone().unwrap_or(class.class.to_string());
    let mut row = vec![prediction.input.clone()];
    for (i, class) in prediction.classes.iter().enumerate() {
        row.push(match i {
            0 => format!("{}  {}", label(class), score(class)),
            _ => format!("({} {})", label(class), score(class)),
        });
    }
    if prediction.inverted {
        row.push("inverted: dark on light".into());
    }
    row
}
