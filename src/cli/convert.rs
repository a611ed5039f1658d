//! `mlctl convert` and `mlctl quantize`.

use super::Global;
use super::render::{Align, difference, size, table};
use crate::commands::convert::{ConvertOptions, ConvertReport, EndLayout, convert};
use crate::quantize::Scheme;
use anyhow::{Context, Result};
use clap::Args;
use std::path::PathBuf;

/// Convert a model to .tflite and check the result against the original
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// .onnx, .tflite, version or model directory [default: the one model directory here]
    model: Option<PathBuf>,
    /// Store the weights as this scheme: f16
    #[arg(long, value_name = "SCHEME")]
    quantize: Option<Scheme>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Quantize a model (convert with a scheme)
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// .onnx, .tflite, version or model directory [default: the one model directory here]
    model: Option<PathBuf>,
    /// f16: float16 weights, float32 computation
    #[arg(long, value_name = "SCHEME")]
    scheme: Scheme,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// File to write [default: MODEL[-SCHEME].tflite, here]
    #[arg(short, long, value_name = "OUT")]
    out: Option<PathBuf>,
    /// Class names, one a line, for the file's metadata [default: the model's]
    #[arg(long, value_name = "FILE")]
    labels: Option<PathBuf>,
    /// Fix a dimension that the model leaves open, by its name (may be repeated)
    #[arg(long = "set", value_name = "NAME=N", value_parser = dimension)]
    dimensions: Vec<(String, usize)>,
    /// Largest allowed difference, relative to the output's largest value [default: 1e-5, f16: 2e-2]
    #[arg(long, value_name = "F", value_parser = tolerance)]
    tolerance: Option<f64>,
    /// Order of the axes of inputs and outputs: as in the source, or channels last for pictures
    #[arg(
        long,
        value_name = "keep|nhwc",
        default_value = "keep",
        hide_default_value = true,
        hide_possible_values = true
    )]
    layout: LayoutName,
    /// Check the file on these, as predict takes inputs, or on mnist [default: what suits the model]
    #[arg(long, value_name = "DATA", conflicts_with = "no_verify")]
    data: Vec<PathBuf>,
    /// Keep the file without running it
    #[arg(long)]
    no_verify: bool,
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LayoutName {
    Keep,
    Nhwc,
}

/// A number of at least 0.
pub fn tolerance(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_string())?;
    if number >= 0.0 { Ok(number) } else { Err("must be at least 0".into()) }
}

/// `NAME=N` with N from 1 to 2^31 − 1.
fn dimension(text: &str) -> Result<(String, usize), String> {
    let (name, size) = text.split_once('=').ok_or("write it as NAME=N")?;
    let size: i32 = size.trim().parse().map_err(|_| format!("'{size}' is not a size"))?;
    match usize::try_from(size) {
        Ok(size) if size > 0 && !name.trim().is_empty() => Ok((name.trim().to_string(), size)),
        Ok(_) if name.trim().is_empty() => Err("write it as NAME=N".into()),
        _ => Err("a size is at least 1".into()),
    }
}

impl ConvertArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        self.output.run(self.model.clone(), self.quantize, global)
    }
}

impl QuantizeArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        self.output.run(self.model.clone(), Some(self.scheme), global)
    }
}

impl OutputArgs {
    fn run(&self, model: Option<PathBuf>, scheme: Option<Scheme>, global: &Global) -> Result<u8> {
        let options = ConvertOptions {
            model,
            out: self.out.clone(),
            scheme,
            labels: self.labels.clone(),
            dimensions: self.dimensions.clone(),
            tolerance: self.tolerance,
            no_verify: self.no_verify,
            layout: match self.layout {
                LayoutName::Keep => EndLayout::Keep,
                LayoutName::Nhwc => EndLayout::Nhwc,
            },
            data: self.data.clone(),
        };
        let outcome = convert(&options).context("converting")?;
        global.finish(outcome, |report| text(report, global))
    }
}

fn text(report: &ConvertReport, global: &Global) -> String {
    let mut text = String::new();
    let ops: Vec<String> = report.ops.iter().map(|(op, count)| format!("{count} {op}")).collect();
    let holds = report.verification.as_ref().is_none_or(|v| v.holds);
    if !global.quiet {
        text += &mappings(report);
    }
    if global.verbose || !holds {
        text += &format!("ops: {}\n", ops.join(", "));
    }
    for name in &report.out_of_range {
        text += &format!("note: '{name}' stays float32: a value is beyond ±65504\n");
    }
    if !report.custom_ops.is_empty() {
        let (ops, names) = (report.unchecked_ops, report.custom_ops.join("', '"));
        let plural = if ops == 1 { "op is" } else { "ops are" };
        text += &format!("note: '{names}' has no kernel here: {ops} {plural} copied unchecked\n");
    }
    if let Some(v) = &report.verification {
        for output in &v.outputs {
            let classes = match (output.same_class, output.rows) {
                (Some(same), Some(rows)) => format!(", same class {same} of {rows}"),
                _ => String::new(),
            };
            text += &format!(
                "checked on {}: '{}' differs by at most {} ({} relative, {} allowed){classes}\n",
                v.inputs,
                output.name,
                difference(output.max_difference),
                difference(output.relative),
                difference(v.tolerance),
            );
        }
    }
    text += &match holds {
        true => format!(
            "wrote {} ({}, {}; the source has {})\n",
            report.out.display(),
            size(report.bytes),
            report.scheme,
            size(report.source_bytes)
        ),
        false => format!(
            "the difference is over the tolerance: {} was not written; see where with 'mlctl \
             compare', or allow more with --tolerance\n",
            report.out.display()
        ),
    };
    text
}

/// Inputs and outputs, from the source's shape to the file's.
fn mappings(report: &ConvertReport) -> String {
    let ends = report.inputs.iter().map(|end| ("input", end));
    let ends = ends.chain(report.outputs.iter().map(|end| ("output", end)));
    let rows = ends.map(|(kind, end)| {
        let became = match end.permutation.is_sorted() {
            true => "as in the source".to_string(),
            false => format!("→ {}  axes {:?}", end.shape, end.permutation),
        };
        vec![
            kind.to_string(),
            end.name.clone(),
            end.element.into(),
            end.source_shape.clone(),
            became,
        ]
    });
    let mut text = table(&[], &[Align::Left; 5], &rows.collect::<Vec<_>>());
    text += &format!("TRANSPOSE ops left: {}\n", report.transposes);
    text
}
