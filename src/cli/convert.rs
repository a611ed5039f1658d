//! `mlctl convert` and `mlctl quantize`.

use super::pictures::PictureArgs;
use super::render::{Align, LossPlot, PlotFormat, difference, size, table, thousands};
use super::{Global, usage_error};
use crate::commands::Outcome;
use crate::commands::convert::{
    ConvertOptions, ConvertReport, EndLayout, PortMapping, Verification, convert,
};
use crate::commands::export::{ExportOptions, ExportTarget, MetadataFlag, TfjsFlags};
use crate::commands::quantize::{IntegerFlags, Quantized};
use crate::compare::Accuracy;
use crate::format::atomic;
use crate::ops::ActivationType;
use crate::quantize::{
    CarriedReport, EndType, LayerLoss, RangeMethod, Scheme, SchemeChoice, SchemeTarget, Slowdown,
    WeightReport,
};
use crate::write::SavedModelForm;
use anyhow::{Context, Result};
use clap::Args;
use regex_lite::Regex;
use std::io::Write;
use std::path::PathBuf;

/// Convert a model to .tflite, TensorFlow.js or a SavedModel and check the result against the original
#[derive(Debug, Args)]
pub struct ConvertArgs {
    /// .onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]
    model: Option<PathBuf>,
    /// Quantize: f16, w8, w4 (weights), dynamic (int8 weights, int8 products), int8, int16x8 (weights and activations,
    /// calibrated on samples); for tfjs f16, uint8, uint16, also for the weights that a glob names, the first that is for
    /// a weight deciding: --quantize f16=*bias --quantize uint8
    #[arg(long, value_name = "SCHEME[=GLOB,…]")]
    quantize: Vec<SchemeChoice>,
    #[command(flatten)]
    output: OutputArgs,
}

/// Quantize a model (convert with a scheme)
#[derive(Debug, Args)]
pub struct QuantizeArgs {
    /// .onnx, .tflite, .keras, .h5, SavedModel, model.json, version or model directory [default: the one model directory here]
    model: Option<PathBuf>,
    /// f16, w8, w4: float16, int8, int4 weights; dynamic: int8 weights, int8 products; int8, int16x8: weights and
    /// activations, calibrated on samples; for tfjs f16, uint8, uint16, also for the weights that a glob names
    #[arg(long, value_name = "SCHEME[=GLOB,…]", required = true)]
    scheme: Vec<SchemeChoice>,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Debug, Args)]
struct OutputArgs {
    /// What to write: a .tflite file, or a folder that TensorFlow.js or TensorFlow loads
    #[arg(
        long,
        value_name = "tflite|tfjs|saved-model",
        default_value = "tflite",
        hide_default_value = true,
        hide_possible_values = true
    )]
    to: TargetName,
    /// SavedModel: the weights as constants of the graph, not as variables
    #[arg(long)]
    frozen: bool,
    /// File, or new folder, to write [default: MODEL[-SCHEME].tflite, MODEL[-SCHEME]_tfjs or
    /// MODEL_saved_model, here]
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
    #[command(flatten)]
    tfjs: TfjsArgs,
    #[command(flatten)]
    integers: IntegerArgs,
    #[command(flatten)]
    pictures: PictureArgs,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "TensorFlow.js (--to tfjs)")]
struct TfjsArgs {
    /// Bytes of a file of weights, as 500000, 512K, 4M or 10MB [default: 4M]
    #[arg(long, value_name = "SIZE", value_parser = shard_size)]
    weight_shard_size: Option<usize>,
    /// A field of userDefinedMetadata: text, or what a .json file holds; a file alone gives all its fields (may be
    /// repeated)
    #[arg(long, value_name = "KEY=VALUE|FILE.json", value_parser = metadata)]
    metadata: Vec<MetadataFlag>,
    /// Add a page that runs the model on a drawn digit or a picture: index.html
    #[arg(long)]
    demo: bool,
}

#[derive(Debug, Args)]
#[command(next_help_heading = "Integer schemes")]
struct IntegerArgs {
    /// Samples like those the model will see: pictures or a folder of them, .npz by input name, .npy, IDX, .csv, or
    /// mnist [default: mnist for a model of digits]
    #[arg(long, value_name = "DATA", num_args = 1..)]
    calibrate: Vec<PathBuf>,
    /// Use at most so many samples, spread evenly over the data [default: 500]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    samples: Option<u32>,
    /// How ranges are chosen: mse, min-max, moving-average, percentile[=P], entropy [default: mse]
    #[arg(long, value_name = "METHOD")]
    ranges_by: Option<RangeMethod>,
    /// Ranges that --save-ranges wrote, in place of samples
    #[arg(long, value_name = "FILE")]
    ranges: Option<PathBuf>,
    /// Write the ranges, by tensor, as JSON
    #[arg(long, value_name = "FILE")]
    save_ranges: Option<PathBuf>,
    /// One scale for all weights of a layer, not one a channel
    #[arg(long)]
    per_tensor: bool,
    /// Leave the sizes of channels as they are; otherwise they are made alike between layers that follow each other
    #[arg(long)]
    no_equalization: bool,
    /// Leave the biases as they are; otherwise they make up for what rounding the weights adds to a layer's mean
    #[arg(long)]
    no_bias_correction: bool,
    /// Type of the file's inputs and outputs [default: float32]
    #[arg(long, value_name = "float32|int8|uint8|int16", hide_possible_values = true)]
    io: Option<EndName>,
    /// Layers whose name this matches stay float32 (may be repeated)
    #[arg(long, value_name = "REGEX")]
    keep_float: Vec<Regex>,
    /// Keep the fewest layers in float32 that bring the loss to at most this: of accuracy where the samples have labels,
    /// otherwise the error's share of the outputs' power. With dynamic, w8 and w4: keep the fewest weights in float16, by
    /// the error's share of the outputs' power in the worst run [default there: 0.05%; w4: 100%]
    #[arg(long, value_name = "P%", value_parser = percent)]
    max_drop: Option<f64>,
    /// With w4: dense layers whose inputs it divides get a scale for each so many, and run on XNNPACK alone
    #[arg(long, value_name = "32|64|128|256", value_parser = block_size)]
    block_size: Option<usize>,
    /// Draw what each layer loses, and the values of the worst beside where they are clipped
    #[arg(long, value_name = "OUT.svg|png", value_parser = picture)]
    plot: Option<PathBuf>,
}

/// A path whose extension says a format that plots have.
fn picture(text: &str) -> Result<PathBuf, String> {
    let path = PathBuf::from(text);
    match PlotFormat::of(&path) {
        Some(_) => Ok(path),
        None => Err("a plot is .svg or .png".into()),
    }
}

#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum TargetName {
    Tflite,
    Tfjs,
    SavedModel,
}

/// `0.5%` or `0.005`.
fn percent(text: &str) -> Result<f64, String> {
    let (number, by) = match text.strip_suffix('%') {
        Some(number) => (number, 100.0),
        None => (text, 1.0),
    };
    let number: f64 = number.trim().parse().map_err(|_| "write it as 0.5% or 0.005".to_string())?;
    let share = number / by;
    if (0.0..=1.0).contains(&share) { Ok(share) } else { Err("it is from 0% to 100%".into()) }
}

fn block_size(text: &str) -> Result<usize, String> {
    let sizes = [32, 64, 128, 256];
    let size = text.parse().ok().filter(|size| sizes.contains(size));
    size.ok_or_else(|| format!("it is one of {sizes:?}"))
}

#[derive(Debug, Clone, Copy, PartialEq, clap::ValueEnum)]
enum EndName {
    Float32,
    Int8,
    Uint8,
    Int16,
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

/// `500000`, or with a suffix: K, M, G (also KiB …) are powers of 1,024, kB, MB, GB of 1,000.
fn shard_size(text: &str) -> Result<usize, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, suffix) = text.split_at(digits);
    let unit: usize = match suffix.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "kb" => 1000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        _ => return Err("write it as 500000, 512K, 4M or 10MB".into()),
    };
    let number: usize = number.parse().map_err(|_| "write it as 500000, 512K, 4M or 10MB")?;
    match number.checked_mul(unit) {
        Some(size) if size >= LEAST_SHARD => Ok(size),
        Some(_) => Err("a file of weights has at least 1K".into()),
        None => Err("that is more than a file can have".into()),
    }
}

/// Smaller files would be many that are mostly overhead.
const LEAST_SHARD: usize = 1 << 10;

fn metadata(text: &str) -> Result<MetadataFlag, String> {
    let is_json = |path: &str| path.to_ascii_lowercase().ends_with(".json");
    match text.split_once('=') {
        Some(("", _)) => Err("it has no key: write it as KEY=VALUE".into()),
        Some((key, file)) if is_json(file) => {
            Ok(MetadataFlag::Json { key: key.into(), file: file.into() })
        }
        Some((key, value)) => Ok(MetadataFlag::Text { key: key.into(), value: value.into() }),
        None if is_json(text) => Ok(MetadataFlag::Fields(text.into())),
        None => Err("write it as KEY=VALUE, KEY=FILE.json or FILE.json".into()),
    }
}

impl ConvertArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        self.output.run(self.model.clone(), &self.quantize, global)
    }
}

impl QuantizeArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        self.output.run(self.model.clone(), &self.scheme, global)
    }
}

impl OutputArgs {
    /// What was asked for that does not go together.
    fn check(&self, schemes: &[SchemeChoice]) -> Result<(), String> {
        let target = match self.to {
            TargetName::Tflite => Some(SchemeTarget::Tflite),
            TargetName::Tfjs => Some(SchemeTarget::TensorFlowJs),
            TargetName::SavedModel => None,
        };
        match (target, schemes) {
            (None, [first, ..]) => {
                let scheme = first.scheme;
                let to = if scheme.is_of(SchemeTarget::Tflite) { "tflite" } else { "tfjs" };
                return Err(format!(
                    "a SavedModel has float32 weights; --to {to} has the scheme {scheme}"
                ));
            }
            (None, []) => {}
            (Some(target), _) => {
                let checked = schemes.iter().try_for_each(|choice| choice.scheme.check(target));
                checked.map_err(|error| error.to_string())?;
            }
        }
        if target == Some(SchemeTarget::Tflite) {
            if let Some(choice) = schemes.iter().find(|choice| !choice.globs.is_empty()) {
                return Err(format!(
                    "{}={}: globs go with --to tfjs; --keep-float REGEX leaves layers of a .tflite file in float32",
                    choice.scheme, choice.globs[0]
                ));
            }
            if schemes.len() > 1 {
                return Err("a .tflite file has one scheme; several go with --to tfjs".into());
            }
        }
        if self.frozen && !matches!(self.to, TargetName::SavedModel) {
            return Err("--frozen goes with --to saved-model".into());
        }
        let of_tfjs = [
            ("--weight-shard-size", self.tfjs.weight_shard_size.is_some()),
            ("--metadata", !self.tfjs.metadata.is_empty()),
            ("--demo", self.tfjs.demo),
        ];
        if let (false, Some((flag, _))) =
            (matches!(self.to, TargetName::Tfjs), of_tfjs.iter().find(|flag| flag.1))
        {
            return Err(format!("{flag} goes with --to tfjs"));
        }
        self.integers.check(schemes.first().map(|choice| choice.scheme))
    }

    fn run(&self, model: Option<PathBuf>, schemes: &[SchemeChoice], global: &Global) -> Result<u8> {
        if let Err(message) = self.check(schemes) {
            return Ok(usage_error(&message));
        }
        let layout = match self.layout {
            LayoutName::Keep => EndLayout::Keep,
            LayoutName::Nhwc => EndLayout::Nhwc,
        };
        let target = match (self.to, self.frozen) {
            (TargetName::Tflite, _) => None,
            (TargetName::Tfjs, _) => Some(ExportTarget::TensorFlowJs),
            (TargetName::SavedModel, true) => {
                Some(ExportTarget::SavedModel(SavedModelForm::Frozen))
            }
            (TargetName::SavedModel, false) => {
                Some(ExportTarget::SavedModel(SavedModelForm::Variables))
            }
        };
        if let Some(target) = target {
            let options = ExportOptions {
                model,
                target,
                out: self.out.clone(),
                labels: self.labels.clone(),
                dimensions: self.dimensions.clone(),
                tolerance: self.tolerance,
                no_verify: self.no_verify,
                layout,
                data: self.data.clone(),
                pictures: self.pictures.flags(),
                tfjs: TfjsFlags {
                    schemes: schemes.to_vec(),
                    shard_size: self.tfjs.weight_shard_size,
                    metadata: self.tfjs.metadata.clone(),
                    demo: self.tfjs.demo,
                },
                threads: global.threads(),
            };
            return super::export::run(&options, global);
        }
        let options = ConvertOptions {
            model,
            out: self.out.clone(),
            scheme: schemes.first().map(|choice| choice.scheme),
            labels: self.labels.clone(),
            dimensions: self.dimensions.clone(),
            tolerance: self.tolerance,
            no_verify: self.no_verify,
            layout,
            data: self.data.clone(),
            pictures: self.pictures.flags(),
            integers: self.integers.flags(global),
        };
        let outcome = convert(&options, &global.progress()).context("converting")?;
        if let Outcome::Done(report) = &outcome {
            draw(report).context("converting")?;
        }
        global.finish(outcome, |report| text(report, global))
    }
}

impl IntegerArgs {
    /// Whether each flag that was given does something with `scheme`.
    fn check(&self, scheme: Option<Scheme>) -> Result<(), String> {
        let calibrated = [
            ("--calibrate", !self.calibrate.is_empty()),
            ("--samples", self.samples.is_some()),
            ("--ranges-by", self.ranges_by.is_some()),
            ("--ranges", self.ranges.is_some()),
            ("--save-ranges", self.save_ranges.is_some()),
            ("--no-equalization", self.no_equalization),
            ("--no-bias-correction", self.no_bias_correction),
            ("--io", self.io.is_some()),
            ("--plot", self.plot.is_some()),
        ];
        let of_weights = [
            ("--per-tensor", self.per_tensor),
            ("--keep-float", !self.keep_float.is_empty()),
            ("--max-drop", self.max_drop.is_some()),
        ];
        let given =
            |flags: &[(&'static str, bool)]| flags.iter().find(|flag| flag.1).map(|flag| flag.0);
        let activations = scheme.and_then(Scheme::activations);
        let weights = scheme.and_then(Scheme::weights);
        let found = scheme.map_or("there is no scheme here".to_string(), |scheme| {
            format!("{scheme} has no use for it")
        });
        if let (None, Some(flag)) = (activations, given(&calibrated)) {
            return Err(format!("{flag} goes with the schemes int8 and int16x8; {found}"));
        }
        if let (None, None, Some(flag)) = (activations, weights, given(&of_weights)) {
            return Err(format!("{flag} goes with the integer schemes; {found}"));
        }
        if self.block_size.is_some() && scheme != Some(Scheme::Weights4) {
            return Err(format!("--block-size goes with the scheme w4; {found}"));
        }
        if self.plot.is_some() && self.ranges.is_some() && self.calibrate.is_empty() {
            return Err("--plot draws what samples show: give --calibrate too".into());
        }
        match (activations, self.io) {
            (Some(ActivationType::Int8), Some(EndName::Int16)) => {
                Err("--io int16 goes with the scheme int16x8".into())
            }
            (Some(ActivationType::Int16), Some(EndName::Int8 | EndName::Uint8)) => {
                Err("--io int8 and uint8 go with the scheme int8; int16x8 has float32 and int16"
                    .into())
            }
            _ => Ok(()),
        }
    }

    fn flags(&self, global: &Global) -> IntegerFlags {
        IntegerFlags {
            calibrate: self.calibrate.clone(),
            samples: self.samples.unwrap_or(0) as usize,
            method: self.ranges_by.unwrap_or_default(),
            ranges: self.ranges.clone(),
            save_ranges: self.save_ranges.clone(),
            per_tensor: self.per_tensor,
            ends: match self.io {
                None | Some(EndName::Float32) => EndType::Float32,
                Some(EndName::Int8) => EndType::Int8,
                Some(EndName::Uint8) => EndType::Uint8,
                Some(EndName::Int16) => EndType::Int16,
            },
            no_equalization: self.no_equalization,
            no_bias_correction: self.no_bias_correction,
            keep_float: self.keep_float.clone(),
            max_drop: self.max_drop,
            block_size: self.block_size,
            plot: self.plot.clone(),
            threads: global.threads(),
        }
    }
}

/// Draws the plot that was asked for.
fn draw(report: &ConvertReport) -> Result<()> {
    let (Some(path), Some(Quantized { samples, report: quantized, .. })) =
        (&report.plot, &report.quantization)
    else {
        return Ok(());
    };
    let name = report.out.file_stem().unwrap_or_default().to_string_lossy();
    let outputs = report.verification.iter().flat_map(|v| &v.outputs);
    let worst = outputs.filter_map(|output| output.sqnr_db).reduce(f64::min);
    let of_outputs = worst.map_or(String::new(), |db| format!(" · outputs {db:.1} dB"));
    let plot = LossPlot {
        title: format!("{name}: what each layer loses"),
        subtitle: format!(
            "{} · ranges by {} on {samples}{of_outputs} · {} → {}",
            report.scheme,
            quantized.method,
            size(report.source_bytes),
            size(report.bytes)
        ),
        layers: &quantized.layers,
        kept_float: quantized.budget.as_ref().map_or(&[], |b| b.kept_float.as_slice()),
        histograms: &quantized.histograms,
    };
    let format = PlotFormat::of(path).context("a plot is .svg or .png")?;
    let bytes = plot.draw(format)?;
    let written: std::io::Result<()> = atomic::write_file(path, |file| file.write_all(&bytes));
    written.with_context(|| format!("cannot write {}", path.display()))
}

fn text(report: &ConvertReport, global: &Global) -> String {
    let mut text = String::new();
    let ops: Vec<String> = report.ops.iter().map(|(op, count)| format!("{count} {op}")).collect();
    let holds = report.verification.as_ref().is_none_or(|v| v.holds);
    let budget = report.quantization.as_ref().and_then(|q| q.report.budget.as_ref());
    let within_budget = budget.is_none_or(|budget| budget.holds);
    if !global.quiet {
        text += &mappings(&report.inputs, &report.outputs, report.transposes);
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
    if let Some(weights) = &report.weights {
        text += &weights_only(weights);
    }
    if let Some(carried) = &report.carried {
        text += &with_own_scales(carried, global);
    }
    if let Some(quantized) = &report.quantization {
        text += &quantization(quantized, global);
    }
    if !global.quiet {
        text += &slowdowns(&report.slowdowns);
    }
    if let Some(verification) = &report.verification {
        text += &checks(verification);
        let judged = verification.outputs.iter().find_map(|output| output.accuracy);
        if let (Some(accuracy), true) = (judged, report.scheme != "float32") {
            text += &accuracy_text(&accuracy, report.scheme);
        }
    }
    if let (Some(plot), true) = (&report.plot, holds && within_budget) {
        text += &format!("drew {}\n", plot.display());
    }
    text += &match holds {
        true if !within_budget => format!(
            "no choice of layers keeps within --max-drop: {} was not written\n",
            report.out.display()
        ),
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

/// A line a cause.
fn slowdowns(slowdowns: &[Slowdown]) -> String {
    let line = |slowdown: &Slowdown| {
        let ops: Vec<String> =
            slowdown.ops.iter().take(4).map(|(op, count)| format!("{count} {op}")).collect();
        let more = if slowdown.ops.len() > ops.len() { ", …" } else { "" };
        let ops = match ops.is_empty() {
            true => String::new(),
            false => format!("{}{more}: ", ops.join(", ")),
        };
        let remedy = slowdown.remedy.as_ref().map_or(String::new(), |r| format!(" ({r})"));
        format!("not accelerated: {ops}{}{remedy}\n", slowdown.cause)
    };
    slowdowns.iter().map(line).collect()
}

/// `accuracy: 92.60 % before, 92.40 % as int8 (500 labelled samples): 0.20 points lost`.
fn accuracy_text(accuracy: &Accuracy, scheme: &str) -> String {
    let Accuracy { rows, reference, other, points_lost } = *accuracy;
    let change = match points_lost {
        0.0 => "none lost".to_string(),
        lost if lost > 0.0 => format!("{lost:.2} points lost"),
        gained => format!("{:.2} points gained", -gained),
    };
    format!(
        "accuracy: {:.2} % before, {:.2} % as {scheme} ({} labelled samples): {change}\n",
        reference * 100.0,
        other * 100.0,
        thousands(rows as u64)
    )
}

fn with_own_scales(carried: &CarriedReport, global: &Global) -> String {
    if global.quiet {
        return String::new();
    }
    let mut text = String::new();
    let ops = |count| if count == 1 { "op works" } else { "ops work" };
    if carried.integer_layers > 0 {
        let count = carried.integer_layers;
        text += &format!("{count} {} on integers, with the model's scales\n", ops(count));
    }
    if carried.dynamic_layers > 0 {
        let count = carried.dynamic_layers;
        text += &format!("{count} {} on the model's int8 weights\n", ops(count));
    }
    for layer in &carried.float_layers {
        text += &format!("{} '{}' stays float32: {}\n", layer.op, layer.name, layer.why);
    }
    text
}

/// What the check found, an output a line.
pub(super) fn checks(verification: &Verification) -> String {
    let mut text = String::new();
    for output in &verification.outputs {
        let classes = match (output.same_class, output.rows) {
            (Some(same), Some(rows)) => format!(", same class {same} of {rows}"),
            _ => String::new(),
        };
        text += &format!(
            "checked on {}: '{}' differs by at most {} ({} relative, {}){classes}\n",
            verification.inputs,
            output.name,
            difference(output.max_difference),
            difference(output.relative),
            match verification.tolerance.is_finite() {
                true => format!("{} allowed", difference(verification.tolerance)),
                false => decibels("SQNR ", output.sqnr_db),
            },
        );
    }
    text
}

fn weights_only(weights: &WeightReport) -> String {
    let mut text = String::new();
    for constant in &weights.float_constants {
        text += &format!("note: '{}' stays float32: {}\n", constant.name, constant.why);
    }
    text += &of_weights_budget(weights);
    text += &format!(
        "{} of {} numbers became {}, in {} constant{}\n",
        thousands(weights.numbers as u64),
        thousands(weights.all_numbers as u64),
        weights.element,
        weights.constants,
        if weights.constants == 1 { "" } else { "s" }
    );
    text
}

fn of_weights_budget(weights: &WeightReport) -> String {
    let Some(budget) = &weights.budget else { return String::new() };
    let share = |drop: f64| format!("{:.2} %", drop * 100.0);
    let all = share(budget.drop_of_all);
    match budget.kept_float.as_slice() {
        [] if budget.holds => String::new(),
        [] => format!(
            "note: the error is {all} of the outputs' power; float16 weights do not bring it to {}\n",
            share(budget.allowed)
        ),
        kept => format!(
            "{} constant{} stay{} float16: the error is {} of the outputs' power ({all} without): {}\n",
            kept.len(),
            if kept.len() == 1 { "" } else { "s" },
            if kept.len() == 1 { "s" } else { "" },
            share(budget.drop),
            kept.join(", ")
        ),
    }
}

/// Layers that are shown unless all are asked for.
const LAYERS: usize = 10;

fn quantization(quantized: &Quantized, global: &Global) -> String {
    let Quantized { samples, notes, report } = quantized;
    let mut text = String::new();
    for note in notes {
        text += &format!("note: {note}\n");
    }
    if global.quiet {
        return text;
    }
    text += &format!("ranges by {} on {samples}\n", report.method);
    let shown = if global.verbose { report.layers.len() } else { LAYERS };
    if !report.layers.is_empty() {
        let header = [
            "layer",
            "op",
            "own SQNR",
            "SQNR here",
            "weights",
            "clipped",
            "range",
            "scale",
            "zero point",
        ];
        use Align::{Left, Right};
        let align = [Left, Left, Right, Right, Right, Right, Left, Right, Right];
        let rows: Vec<Vec<String>> = report.layers.iter().take(shown).map(row).collect();
        text += "\n";
        text += &table(&header, &align, &rows);
        if report.layers.len() > shown {
            text +=
                &format!("… and {} better layers (-v shows all)\n", report.layers.len() - shown);
        }
        text += "\n";
    }
    if let Some(budget) = &report.budget {
        let what = match budget.measure {
            "accuracy" => "accuracy lost",
            _ => "error by the outputs' power",
        };
        let kept = match budget.kept_float.len() {
            0 => "all layers on integers".to_string(),
            1 => "1 layer in float32".to_string(),
            several => format!("{several} layers in float32"),
        };
        text += &format!(
            "{what}: {:.3} % ({kept}; {:.3} % without, {:.3} % allowed)\n",
            budget.drop * 100.0,
            budget.drop_of_all * 100.0,
            budget.allowed * 100.0
        );
    }
    for layer in &report.float_layers {
        text += &format!("{} '{}' stays float32: {}\n", layer.op, layer.name, layer.why);
    }
    text
}

fn row(layer: &LayerLoss) -> Vec<String> {
    vec![
        layer.name.clone(),
        layer.op.clone(),
        decibels("", layer.own_sqnr_db),
        decibels("", layer.sqnr_db),
        decibels("", layer.weights_sqnr_db),
        format!("{:.2} %", layer.clipped * 100.0),
        format!("{:.4} to {:.4}", layer.range.min, layer.range.max),
        format!("{:.3e}", layer.scale),
        layer.zero_point.to_string(),
    ]
}

fn decibels(prefix: &str, value: Option<f64>) -> String {
    value.map_or("–".to_string(), |db| format!("{prefix}{db:.1} dB"))
}

/// Inputs and outputs, from the source's shape to the file's.
pub(super) fn mappings(
    inputs: &[PortMapping],
    outputs: &[PortMapping],
    transposes: usize,
) -> String {
    let ends = inputs.iter().map(|end| ("input", end));
    let ends = ends.chain(outputs.iter().map(|end| ("output", end)));
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
    text += &format!("TRANSPOSE ops left: {transposes}\n");
    text
}
