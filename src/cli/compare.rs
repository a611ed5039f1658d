//! `mlctl compare`.

use super::Global;
use super::render::{Align, difference, elided, table};
use crate::commands::compare::{CompareOptions, CompareReport, PerLayer, compare};
use crate::compare::Layers;
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Run two models on the same inputs and show how far their outputs are apart
#[derive(Debug, Args)]
pub struct CompareArgs {
    /// The reference: .onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory
    reference: PathBuf,
    /// The other model
    other: PathBuf,
    /// Exit with 3 if an output differs by more than this share of its largest value
    #[arg(long, value_name = "F", value_parser = super::convert::tolerance)]
    tolerance: Option<f64>,
    /// Run on these, as predict takes inputs, or on mnist [default: what suits the reference]
    #[arg(long, value_name = "DATA")]
    data: Vec<PathBuf>,
    /// Compare what every node computes, too
    #[arg(long)]
    per_layer: bool,
    /// Order of the layers: as they run, or the largest difference first
    #[arg(
        long,
        value_name = "order|worst",
        default_value = "order",
        hide_default_value = true,
        hide_possible_values = true,
        requires = "per_layer"
    )]
    sort: Sort,
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum Sort {
    Order,
    Worst,
}

impl CompareArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        let options = CompareOptions {
            reference: self.reference.clone(),
            other: self.other.clone(),
            tolerance: self.tolerance,
            data: self.data.clone(),
            per_layer: self.per_layer,
            worst_first: self.sort == Sort::Worst,
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
    if let Some(per_layer) = &report.per_layer {
        text += &layers(per_layer);
    }
    if let Some(tolerance) = report.tolerance {
        let worst = report.outputs.iter().map(|o| o.relative).fold(0.0, f64::max);
        let verdict = if worst <= tolerance { "within" } else { "over" };
        text += &format!("{verdict} the tolerance of {}\n", difference(tolerance));
    }
    text
}

fn layers(report: &PerLayer) -> String {
    let Layers { layers, only_reference, only_other, different_shapes } = &report.layers;
    if layers.is_empty() {
        return "\nthe graphs have no name in common: no layer can be compared\n".into();
    }
    let rows = layers.iter().map(|layer| {
        let op = match layer.reference_op == layer.other_op {
            true => layer.other_op.clone(),
            false => format!("{} → {}", layer.reference_op, layer.other_op),
        };
        let first = report.first_past.as_ref() == Some(&layer.node);
        vec![
            elided(&layer.node),
            op,
            format!("{:?}", layer.shape),
            difference(layer.max_difference),
            difference(layer.relative),
            difference(layer.mean_difference),
            layer.sqnr_db.map_or("exact".into(), |db| format!("{db:.1} dB")),
            if first { "← first past".into() } else { String::new() },
        ]
    });
    let header = ["layer", "op", "shape", "max difference", "relative", "mean", "SQNR", ""];
    let mut align = [Align::Right; 8];
    align[..3].fill(Align::Left);
    align[7] = Align::Left;
    let mut text = format!("\n{}", table(&header, &align, &rows.collect::<Vec<_>>()));
    text += &match &report.first_past {
        Some(node) => format!(
            "'{node}' is the first of {} layers past {}\n",
            layers.len(),
            difference(report.tolerance)
        ),
        None => format!("{} layers, none past {}\n", layers.len(), difference(report.tolerance)),
    };
    for (names, what) in [
        (only_reference, "in the reference only (fused, folded or renamed)"),
        (only_other, "in the other model only"),
        (different_shapes, "of different shapes"),
    ] {
        if !names.is_empty() {
            let shown: Vec<String> = names.iter().take(3).map(|n| elided(n)).collect();
            let more = if names.len() > shown.len() { ", …" } else { "" };
            text += &format!("{} {what}: {}{more}\n", names.len(), shown.join(", "));
        }
    }
    text
}
