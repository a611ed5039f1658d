//! `mlctl compare`.

use super::Global;
use super::render::{Align, difference, table};
use crate::commands::compare::{CompareOptions, CompareReport, compare};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Run two models on the same inputs and show how far their outputs are apart
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The reference: .onnx, .tflite, version or model directory
    reference: PathBuf,
    /// The other model
    other: PathBuf,
    /// Exit with 3 if an output differs by more than this share of its largest value
    #[arg(long, value_name = "F", value_parser = super::convert::tolerance)]
    tolerance: Option<f64>,
}

impl CompareArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        let options = CompareOptions {
            reference: self.reference.clone(),
            other: self.other.clone(),
            tolerance: self.tolerance,
        };
        global.finish(compare(&options).context("comparing")?, text)
    }
}

fn text(report: &CompareReport) -> String {
    let rows: Vec<Vec<String>> = report
        .outputs
        .iter()
        .map(|o| {
            let classes = match (o.same_class, o.rows) {
                (Some(same), Some(rows)) => format!("{same} of {rows}"),
                _ => "-".into(),
            };
            vec![
                o.name.clone(),
                difference(o.max_difference),
                difference(o.mean_difference),
                difference(o.relative),
                o.sqnr_db.map_or("exact".into(), |db| format!("{db:.1} dB")),
                classes,
            ]
        })
        .collect();
    let header = ["output", "max difference", "mean", "relative", "SQNR", "same class"];
    let align = [Align::Left, Align::Right, Align::Right, Align::Right, Align::Right, Align::Right];
    let mut text = format!(
        "{} against {} on {}\n{}",
        report.other.display(),
        report.reference.display(),
        report.inputs,
        table(&header, &align, &rows)
    );
    if let Some(tolerance) = report.tolerance {
        let worst = report.outputs.iter().map(|o| o.relative).fold(0.0, f64::max);
        let verdict = if worst <= tolerance { "within" } else { "over" };
        text += &format!("{verdict} the tolerance of {}\n", difference(tolerance));
    }
    text
}
