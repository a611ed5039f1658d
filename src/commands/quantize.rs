//! The integer schemes of `convert` and `quantize`: flags and files in, a graph of integers out.

use super::inputs::{Classes, test_inputs};
use super::samples::SampleSet;
use crate::compare::{Inputs, Samples, with_normal_values};
use crate::data::preprocessing::Preprocessing;
use crate::format::{atomic, mmap};
use crate::graph::Model;
use crate::model::{plan_lite, shapes_of_one_row};
use crate::ops::ActivationType;
use crate::passes::MovedEnd;
use crate::progress::Progress;
use crate::quantize::{
    EndType, IntegerOptions, IntegerReport, RangeMethod, SavedRanges, WeightOptions, WeightReport,
    WeightScheme, is_quantized, quantize_to_integers, quantize_weights, widen_constants,
};
use crate::runtime::{Port, Tensor};
use anyhow::{Context, Result, ensure};
use regex_lite::Regex;
use serde::Serialize;
use std::path::{Path, PathBuf};

/// How integers are found and what the file's ends are.
#[derive(Debug, Clone, Default)]
pub struct IntegerFlags {
    /// Samples; left out, the built-in digits for a model of digits.
    pub calibrate: Vec<PathBuf>,
    /// At most so many samples; 0 is the default number.
    pub samples: usize,
    pub method: RangeMethod,
    /// Ranges that were saved, in place of samples.
    pub ranges: Option<PathBuf>,
    pub save_ranges: Option<PathBuf>,
    pub per_tensor: bool,
    pub ends: EndType,
    pub no_equalization: bool,
    pub no_bias_correction: bool,
    pub keep_float: Vec<Regex>,
    pub max_drop: Option<f64>,
    /// Of int4 weights.
    pub block_size: Option<usize>,
    /// Where a picture of what layers lose will go; it is drawn elsewhere, from what the report then holds.
    pub plot: Option<PathBuf>,
    pub threads: usize,
}

/// How a model became integers.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Quantized {
    /// `500 of MNIST's training digits`.
    pub samples: String,
    pub notes: Vec<String>,
    #[serde(flatten)]
    pub report: IntegerReport,
}

/// What samples are made for: the ends of the source, and how the graph's differ.
pub struct SampleSource<'a> {
    pub ports: &'a [Port],
    pub record: Option<&'a Preprocessing>,
    pub moved: &'a [MovedEnd],
    pub classes: Classes<'a>,
}

/// Samples of the source for a graph whose inputs have their axes in another order.
struct Moved<'a> {
    samples: &'a dyn Samples,
    ends: &'a [MovedEnd],
}

impl Samples for Moved<'_> {
    fn runs(&self) -> usize {
        self.samples.runs()
    }

    fn run(&self, index: usize) -> Result<Vec<Tensor>> {
        let mut inputs = self.samples.run(index)?;
        for end in self.ends.iter().filter(|end| end.is_input) {
            let input = inputs.get_mut(end.place).context("an input is missing")?;
            *input = std::mem::take(input).permute_axes(&end.permutation)?;
        }
        Ok(inputs)
    }

    fn labels(&self, index: usize) -> Option<Vec<usize>> {
        self.samples.labels(index)
    }
}

/// Samples where the user does not say how many.
const DEFAULT_SAMPLES: usize = 500;
/// Runs on which layers are compared.
const REPORT_RUNS: usize = 8;
/// Bytes of values that one run of calibration may make.
const BYTES_PER_RUN: usize = 16 << 20;

/// Rows of one run, and runs that the file is checked on, where the samples have no labels.
const MOST_ROWS: usize = 64;
const CHECKED_RUNS: usize = 64;
/// Bytes of values that this check may make, but for its first runs.
const CHECKED_BYTES: usize = 2 << 30;
const FIRST_RUNS: usize = 8;

/// Quantizes `graph` in place on the samples that the flags name, and gives what it can be checked on.
pub fn quantize(
    graph: &mut Model,
    activations: ActivationType,
    flags: &IntegerFlags,
    source: &SampleSource,
    progress: &dyn Progress,
) -> Result<(Quantized, Option<SampleSet>)> {
    let mut options = IntegerOptions {
        activations,
        per_tensor: flags.per_tensor,
        ends: flags.ends,
        method: flags.method,
        equalization: !flags.no_equalization,
        bias_correction: !flags.no_bias_correction,
        keep_float: flags.keep_float.clone(),
        max_drop: flags.max_drop,
        histograms: flags.plot.is_some(),
        ranges: None,
        report_runs: REPORT_RUNS,
        report_threads: flags.threads,
        threads: flags.threads,
    };
    widen_constants(graph);
    if let Some(path) = &flags.ranges {
        let at = || path.display().to_string();
        let text = mmap::read_text(path).with_context(|| format!("cannot read ranges {}", at()))?;
        let saved: SavedRanges = serde_json::from_str(&text)
            .with_context(|| format!("{}: not ranges that --save-ranges wrote", at()))?;
        saved.check().with_context(at)?;
        options.ranges = Some(saved);
    }
    ensure!(!is_quantized(graph), "the model is quantized already; start from the float model");
    let most = if flags.samples == 0 { DEFAULT_SAMPLES } else { flags.samples };
    let row = bytes_of_row(graph).max(1);
    if row > BYTES_PER_RUN {
        options.report_threads = 1;
    }
    let samples = match (&flags.ranges, flags.calibrate.is_empty()) {
        (Some(_), true) => None,
        _ => {
            let per_run = (BYTES_PER_RUN / row).clamp(1, MOST_ROWS);
            let SampleSource { ports, record, classes, .. } = source;
            Some(SampleSet::open(&flags.calibrate, most, per_run, ports, *record, classes)?)
        }
    };
    let moved = samples.as_ref().map(|samples| Moved { samples, ends: source.moved });
    let moved = moved.as_ref().map(|moved| moved as &dyn Samples);
    let report = quantize_to_integers(graph, moved, &options, progress)?;
    let what = samples.as_ref().map_or_else(
        || format!("saved ranges ({})", report.method),
        |samples| samples.what.clone(),
    );
    let notes = samples.as_ref().map(|s| s.notes.clone()).unwrap_or_default();
    let affordable = (CHECKED_BYTES / row).clamp(FIRST_RUNS, CHECKED_RUNS);
    let checked = samples.map(|samples| samples.for_check(affordable));
    Ok((Quantized { samples: what, notes, report }, checked))
}

/// Writes what `--ranges` takes; for when the model itself is written.
pub fn save_ranges(path: &Path, quantized: &Quantized) -> Result<()> {
    let text = serde_json::to_string_pretty(&quantized.report.ranges)? + "\n";
    let written: std::io::Result<()> =
        atomic::write_file(path, |file| std::io::Write::write_all(file, text.as_bytes()));
    written.with_context(|| format!("cannot write {}", path.display()))
}

/// The error's share of the outputs' power, where the user does not say: half of what a correlation of 0.9995 allows,
/// for real inputs differ from those it is measured on.
const DEFAULT_DROP: f64 = 0.0005;

/// Quantizes the weights of `graph` alone, in place. What that costs is measured on the `data`, otherwise on inputs that
/// suit the model; not at all if it cannot be run (`runs`).
pub fn quantize_weights_only(
    graph: &mut Model,
    weights: WeightScheme,
    flags: &IntegerFlags,
    data: Option<&Inputs>,
    source: &SampleSource,
    runs: bool,
    progress: &dyn Progress,
) -> Result<WeightReport> {
    widen_constants(graph);
    let max_drop = match weights {
        WeightScheme::Dynamic | WeightScheme::Int8 => flags.max_drop.or(Some(DEFAULT_DROP)),
        WeightScheme::Int4 => flags.max_drop,
    };
    ensure!(runs || flags.max_drop.is_none(), "--max-drop: the model cannot be run here");
    let options = WeightOptions {
        scheme: weights,
        per_tensor: flags.per_tensor,
        keep_float: flags.keep_float.clone(),
        max_drop,
        block_size: flags.block_size,
    };
    let made;
    let samples: Option<&dyn Samples> = match data {
        _ if !runs || max_drop.is_none() || is_quantized(graph) => None,
        Some(data) => Some(data),
        None => {
            let SampleSource { ports, record, .. } = source;
            let inputs = test_inputs(&[], &plan_lite(graph)?, ports, *record, MOST_ROWS)?;
            made = if record.is_none() { with_normal_values(inputs)? } else { inputs };
            Some(&made)
        }
    };
    let moved = samples.map(|samples| Moved { samples, ends: source.moved });
    let moved = moved.as_ref().map(|moved| moved as &dyn Samples);
    quantize_weights(graph, &options, moved, progress)
}

/// Of the values that the graph makes of one row; as many as a run may make where that cannot be told.
fn bytes_of_row(graph: &Model) -> usize {
    let Ok(shapes) = shapes_of_one_row(graph) else { return BYTES_PER_RUN };
    let count = |shape: &Vec<Option<usize>>| -> usize {
        shape.iter().map(|d| d.unwrap_or(1)).fold(1, usize::saturating_mul)
    };
    let variables = graph.main().tensors.iter().zip(&shapes).filter(|(t, _)| t.data.is_none());
    let values: usize = variables.map(|(_, shape)| count(shape)).fold(0, usize::saturating_add);
    values.saturating_mul(4)
}
