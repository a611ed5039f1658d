//! `mlctl inspect`.

use super::Global;
use super::render::{Align, elided, short_count, size, table, thousands};
use crate::commands::inspect::{InspectReport, TensorInfo, TypeCount, inspect};
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Show what is in a model: inputs, outputs, ops, sizes, metadata
#[derive(Debug, Args)]
pub struct InspectArgs {
    /// .onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]
    model: Option<PathBuf>,
}

impl InspectArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        global.finish(inspect(self.model.as_deref()).context("inspecting")?, text)
    }
}

fn text(report: &InspectReport) -> String {
    let mut text =
        format!("{}: {}, {}\n", report.path.display(), report.format, size(report.bytes));
    if !report.description.is_empty() {
        text += &format!("made by {}\n", report.description);
    }
    let mut section = |title: &str, body: String| {
        if !body.is_empty() {
            text += &format!("\n{title}\n{body}");
        }
    };
    section("inputs", tensors(&report.inputs));
    section("outputs", tensors(&report.outputs));
    let signatures = report.signatures.iter().map(|s| {
        vec![s.key.clone(), format!("{} → {}", s.inputs.join(", "), s.outputs.join(", "))]
    });
    section("signatures", table(&[], &[Align::Left; 2], &signatures.collect::<Vec<_>>()));
    section("ops", ops(report));
    if report.graphs.len() > 1 {
        let rows = report.graphs.iter().map(|g| {
            let counts = [(g.ops, "ops"), (g.inputs, "inputs"), (g.outputs, "outputs")];
            let counts = counts.map(|(n, what)| format!("{} {what}", thousands(n as u64)));
            [vec![elided(&g.name)], counts.to_vec()].concat()
        });
        let align = [Align::Left, Align::Right, Align::Right, Align::Right];
        section("graphs", table(&[], &align, &rows.collect::<Vec<_>>()));
    }
    let total =
        format!("  {} numbers, {}\n", thousands(report.parameters), size(report.parameter_bytes));
    let types = match report.types.as_slice() {
        [] | [_] => String::new(),
        types => {
            let type_text = |t: &TypeCount| {
                format!("{} {} ({})", thousands(t.tensors as u64), t.element, size(t.bytes))
            };
            format!("  {}\n", types.iter().map(type_text).collect::<Vec<_>>().join(", "))
        }
    };
    section("constants", total + &types + &tensors(&report.largest));
    if !report.labels.is_empty() {
        let shown: Vec<&str> = report.labels.iter().take(12).map(String::as_str).collect();
        let more = if report.labels.len() > shown.len() { ", …" } else { "" };
        section("labels", format!("  {}: {}{more}\n", report.labels.len(), shown.join(", ")));
    }
    let metadata = report
        .metadata
        .iter()
        .map(|m| vec![m.name.clone(), m.text.clone().unwrap_or_else(|| size(m.bytes as u64))]);
    section("metadata", table(&[], &[Align::Left; 2], &metadata.collect::<Vec<_>>()));
    if let Some(record) = &report.record {
        let mut rows = vec![];
        if let Some(metrics) = &record.metrics {
            rows.push(vec!["test accuracy".to_string(), format!("{:.4}", metrics.test.accuracy)]);
            rows.push(vec!["test loss".into(), format!("{:.4}", metrics.test.loss)]);
        }
        if let Some(training) = &record.training {
            let samples = thousands(training.samples as u64);
            rows.push(vec!["trained on".into(), format!("{samples} samples of {}", training.data)]);
        }
        rows.push(vec!["files".into(), format!("{} with sha256, all intact", record.files.len())]);
        section("record", table(&[], &[Align::Left; 2], &rows));
    }
    text
}

/// Ops with their share of the work and of the constants, where they have any.
fn ops(report: &InspectReport) -> String {
    let rows = report.ops.iter().map(|o| {
        let macs = match o.macs {
            Some(0) => String::new(),
            Some(macs) => thousands(macs),
            None => "?".into(),
        };
        let bytes = if o.constant_bytes > 0 { size(o.constant_bytes) } else { String::new() };
        vec![thousands(o.count as u64), o.op.clone(), macs, bytes]
    });
    let header = ["count", "op", "MACs", "constants"];
    let align = [Align::Right, Align::Left, Align::Right, Align::Right];
    let mut text = table(&header, &align, &rows.collect::<Vec<_>>());
    text += &match report.macs {
        Some(0) => String::new(),
        Some(macs) => format!("  {} MACs for a batch of one\n", short_count(macs)),
        None => "  the shapes of some ops are open: their MACs are not known\n".into(),
    };
    text
}

fn tensors(tensors: &[TensorInfo]) -> String {
    let rows = tensors.iter().map(|t| {
        let mut row = vec![elided(&t.name), t.element.clone(), t.shape.clone()];
        row.push(t.bytes.map(size).unwrap_or_default());
        row.push(t.quantization.clone().unwrap_or_default());
        row
    });
    table(&[], &[Align::Left; 5], &rows.collect::<Vec<_>>())
}
