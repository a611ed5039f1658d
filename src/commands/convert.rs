//! `convert` and `quantize`: a model → a `.tflite` file, checked against the original before it is kept.

use super::Outcome;
use super::inputs::{Classes, PictureFlags, check_data, class_count, data_inputs, test_inputs};
use super::quantize::{
    IntegerFlags, Quantized, SampleSource, quantize, quantize_weights_only, save_ranges,
};
use crate::compare::{Alignment, OutputDifference, Samples, Side, compare_in_turn};
use crate::data::preprocessing::{Layout, Preprocessing};
use crate::format::{atomic, mmap};
use crate::graph::{ElementType, Model, PermutedEnd, shape_text};
use crate::model::{
    Graph, LoadedModel, LoadedOnnx, bytes_of, locate, names_of_ends, plan_lite, plan_loaded,
    ports_of_lite, read_labels, refuse_saved_file,
};
use crate::passes::MovedEnd;
use crate::progress::Progress;
use crate::quantize::{
    CarriedReport, Float16Plan, Scheme, Slowdown, WeightReport, keep_carried, slowdowns,
};
use crate::write::{Description, write_tflite};
use crate::{lower, passes, read};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Extensions that would misname what is written.
const OTHER_FORMATS: [&str; 8] = ["onnx", "pb", "keras", "h5", "hdf5", "json", "npz", "npy"];

/// Rows of the data that verification runs at once.
pub(super) const MOST_ROWS: usize = 64;

/// The order of the axes of inputs and outputs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EndLayout {
    /// As in the source.
    #[default]
    Keep,
    /// Channels last where an end is a picture.
    Nhwc,
}

#[derive(Debug, Clone, Default)]
pub struct ConvertOptions {
    pub model: Option<PathBuf>,
    /// Otherwise the model's name and scheme, in the current folder.
    pub out: Option<PathBuf>,
    pub scheme: Option<Scheme>,
    pub labels: Option<PathBuf>,
    /// Sizes for dimensions that the model leaves open, by name.
    pub dimensions: Vec<(String, usize)>,
    pub tolerance: Option<f64>,
    pub no_verify: bool,
    pub layout: EndLayout,
    /// What the file is checked on, as `predict` takes inputs; otherwise what suits the model.
    pub data: Vec<PathBuf>,
    /// Of pictures among the data and the samples; the file's record is made of it.
    pub pictures: PictureFlags,
    pub integers: IntegerFlags,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConvertReport {
    pub source: PathBuf,
    pub out: PathBuf,
    pub scheme: &'static str,
    pub source_bytes: u64,
    pub bytes: u64,
    pub inputs: Vec<PortMapping>,
    pub outputs: Vec<PortMapping>,
    pub ops: Vec<(String, usize)>,
    /// TRANSPOSE ops in the file.
    pub transposes: usize,
    pub labels: usize,
    /// Constants that stayed float32 because float16 cannot hold their values.
    pub out_of_range: Vec<String>,
    /// Custom ops of the source. They are copied, with all that depends on them, as the file has them.
    pub custom_ops: Vec<String>,
    /// How many ops that is: their shapes were not checked.
    pub unchecked_ops: usize,
    /// Of a model that is quantized already.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub carried: Option<CarriedReport>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quantization: Option<Quantized>,
    /// Of a scheme that leaves activations float32.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weights: Option<WeightReport>,
    /// Of a scheme with integer activations: which ops run slower than the rest.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub slowdowns: Vec<Slowdown>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plot: Option<PathBuf>,
    pub verification: Option<Verification>,
}

/// What became of an input or output.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PortMapping {
    pub name: String,
    #[serde(rename = "type")]
    pub element: &'static str,
    pub source_shape: String,
    /// In the file; its axis i is the source's axis `permutation[i]`.
    pub shape: String,
    pub permutation: Vec<usize>,
}

/// The written file against the original, on the same inputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    pub inputs: String,
    pub tolerance: f64,
    pub holds: bool,
    pub outputs: Vec<OutputDifference>,
}

pub fn convert(
    options: &ConvertOptions,
    progress: &dyn Progress,
) -> Result<Outcome<ConvertReport>> {
    check_data(&options.data)?;
    let mut model = LoadedModel::load(&locate(options.model.as_deref())?)?;
    for (name, size) in &options.dimensions {
        model.set_dimension(name, *size)?;
    }
    if let Some(labels) = &options.labels {
        model.labels = read_labels(labels)?;
    }
    let scheme = options.scheme.map_or("float32", Scheme::name);
    let out = options.out.clone().unwrap_or_else(|| {
        let suffix = options.scheme.map_or(String::new(), |s| format!("-{s}"));
        PathBuf::from(format!("{}{suffix}.tflite", model.name))
    });
    let same_file = |a: &Path, b: &Path| {
        a.canonicalize().ok().is_some_and(|a| Some(a) == b.canonicalize().ok())
    };
    ensure!(
        !same_file(&out, &model.path),
        "{} is the model itself; choose another -o",
        out.display()
    );
    ensure!(
        options.integers.save_ranges.as_ref() != Some(&out),
        "--save-ranges {}: that is where the model goes; choose another name",
        out.display()
    );
    ensure!(!out.is_dir(), "{} is a folder; give -o a file name", out.display());
    if let Some(plot) = &options.integers.plot {
        let folder = plot.parent().filter(|folder| !folder.as_os_str().is_empty());
        let is_there = !plot.is_dir() && folder.is_none_or(Path::is_dir);
        ensure!(is_there, "--plot {}: no file can be written there", plot.display());
    }
    let extension = out.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ensure!(
        !OTHER_FORMATS.contains(&extension.to_ascii_lowercase().as_str()),
        "-o {}: the file will be .tflite; name it so",
        out.display()
    );
    refuse_saved_file(&out)?;
    let (custom_ops, unchecked_ops) = custom_ops(&model);
    ensure!(
        options.no_verify || unchecked_ops == 0,
        "{}: {} no kernel here, so the written file could not be run and checked; --no-verify writes it \
         without the check",
        model.path.display(),
        match custom_ops.as_slice() {
            [one] => format!("custom op '{one}' has"),
            several => format!("custom ops '{}' have", several.join("', '")),
        }
    );

    let (mut graph, mut loaded) = model.lite_graph()?;
    if options.scheme.and_then(Scheme::activations).is_some() {
        // its constants will not be those of the graph for long: it comes from the file again for the check
        loaded = None;
    }
    let (ports, outputs) = ports_of_lite(&graph);
    let mut notes = vec![];
    let record = model.preprocessing.as_ref();
    if let Some(told) = options.pictures.record(record, &ports, &mut notes)? {
        model.preprocessing = Some(told);
    }
    let record = model.preprocessing.as_ref();
    let count = outputs.first().and_then(class_count);
    let classes = Classes { labels: &model.labels, count };
    let data = data_inputs(&options.data, &ports, record, &classes, MOST_ROWS)?;
    graph.metadata.retain(|m| m.name != "reduced_precision_support");
    let moved = match options.layout {
        EndLayout::Keep => vec![],
        EndLayout::Nhwc => passes::move_channels_last(&mut graph),
    };
    // passes trust shapes, and those behind a custom op are only what the file says
    if custom_ops.is_empty() {
        passes::run(&mut graph);
    }
    graph.validate()?;
    let carried = match &loaded {
        Some(loaded) => keep_carried(&mut graph, &lower::stored_constants(loaded)?)?,
        None => None,
    };
    let mut tensors = graph.subgraphs.iter().flat_map(|g| &g.tensors);
    let halves = tensors.any(|t| t.element == ElementType::F16 && t.data.is_none());
    let mut out_of_range = vec![];
    if let Some(Scheme::Float16) = options.scheme {
        let plan = Float16Plan::new(&graph);
        plan.apply(&mut graph);
        out_of_range = plan.out_of_range;
    }
    let source = SampleSource { ports: &ports, record, moved: &moved, classes };
    let mut quantization = None;
    let mut samples = None;
    if let Some(activations) = options.scheme.and_then(Scheme::activations) {
        let mut done = quantize(&mut graph, activations, &options.integers, &source, progress)?;
        done.0.notes.splice(0..0, notes);
        (quantization, samples) = (Some(done.0), done.1);
    }
    let weights = match options.scheme.and_then(Scheme::weights) {
        Some(weights) => {
            let (flags, runs) = (&options.integers, unchecked_ops == 0);
            let data = data.as_ref();
            Some(quantize_weights_only(&mut graph, weights, flags, data, &source, runs, progress)?)
        }
        None => None,
    };
    let scheme = match (&carried, options.scheme) {
        (Some(carried), None) if carried.integer_layers > 0 => "int8",
        (Some(carried), None) if carried.dynamic_layers > 0 => "dynamic",
        _ => scheme,
    };
    let description = Description {
        name: model.name.clone(),
        labels: model.labels.clone(),
        preprocessing: model.preprocessing.clone().map(|p| laid_out(p, &moved)),
        permuted: permuted_ends(&model, &graph, &moved),
    };
    // a graph that computes with float16 rounds after each op, where the file may round less often
    let scheme_or_half = options.scheme.or(halves.then_some(Scheme::Float16));
    let tolerance = match &carried {
        // rounding steps may fall to either side
        Some(_) => f64::INFINITY,
        None => Scheme::tolerance_of(scheme_or_half),
    };
    let tolerance = options.tolerance.unwrap_or(tolerance);
    let mappings = |is_input| port_mappings(&graph, &moved, is_input);
    let (inputs, outputs) = (mappings(true), mappings(false));
    let ops = op_counts(&graph);
    let transposes = graph.subgraphs.iter().map(passes::transpose_count).sum();
    let slowdowns = if quantization.is_some() { slowdowns(&graph) } else { vec![] };
    let budget = quantization.as_ref().and_then(|q: &Quantized| q.report.budget.as_ref());
    let of_weights = weights.as_ref().and_then(|w| w.budget.as_ref());
    let budget = budget.or(of_weights.filter(|_| options.integers.max_drop.is_some()));
    let within_budget = budget.is_none_or(|budget| budget.holds);
    let ranges = options.integers.save_ranges.as_deref();
    let threads = options.integers.threads;
    let written = atomic::write_checked_file(
        &out,
        // the graph goes before the check: its constants need not be in memory beside the plans
        move |file| write_tflite(&graph, &description, file),
        |path, bytes| -> Result<_> {
            let data = data.map(|data| (data.what.clone(), Box::new(data) as Box<dyn Samples>));
            let samples = samples.map(|s| (s.what.clone(), Box::new(s) as Box<dyn Samples>));
            let verification = match options.no_verify {
                true => None,
                false => Some(
                    verify(&model, loaded, path, tolerance, data.or(samples), threads)
                        .context("checking the written file")?,
                ),
            };
            let holds = verification.as_ref().is_none_or(|v| v.holds) && within_budget;
            if let (true, Some(path), Some(quantized)) = (holds, ranges, &quantization) {
                save_ranges(path, quantized)?;
            }
            Ok(((bytes, verification), holds))
        },
    );
    let (bytes, verification) =
        written.with_context(|| format!("cannot write {}", out.display()))?;
    let holds = verification.as_ref().is_none_or(|v| v.holds) && within_budget;
    let report = ConvertReport {
        source_bytes: bytes_of(&model.path, model.format),
        source: model.path,
        out,
        scheme,
        bytes,
        inputs,
        outputs,
        ops,
        transposes,
        labels: model.labels.len(),
        out_of_range,
        custom_ops,
        unchecked_ops,
        carried,
        quantization,
        weights,
        slowdowns,
        plot: options.integers.plot.clone(),
        verification,
    };
    Ok(if holds { Outcome::Done(report) } else { Outcome::CheckFailed(report) })
}

/// The custom ops of a `.tflite`, and how many ops of its entry graph are such or depend on one.
fn custom_ops(model: &LoadedModel) -> (Vec<String>, usize) {
    let Graph::Lite(graph) = &model.graph else { return (vec![], 0) };
    let codes: Vec<String> = graph.custom_ops().into_iter().map(str::to_string).collect();
    let unchecked = graph.needs_custom_ops().into_iter().filter(|&needs| needs);
    (codes, unchecked.count())
}

/// The file at `written` against the original.
fn verify(
    original: &LoadedModel,
    loaded: Option<LoadedOnnx>,
    written: &Path,
    tolerance: f64,
    data: Option<(String, Box<dyn Samples>)>,
    threads: usize,
) -> Result<Verification> {
    let read = || {
        let bytes = mmap::open(written)?;
        let file = read::parse_tflite(bytes.clone())?;
        let permuted = read::description(&file, &bytes).permuted;
        Ok((read::lite_graph(&file)?, permuted))
    };
    verify_graph(original, loaded, read, tolerance, data, threads)
}

/// A lite graph, with its permuted ends, against the original; it is made once that is planned.
pub(super) fn verify_graph(
    original: &LoadedModel,
    loaded: Option<LoadedOnnx>,
    copy: impl FnOnce() -> Result<(Model, Vec<PermutedEnd>)>,
    tolerance: f64,
    data: Option<(String, Box<dyn Samples>)>,
    threads: usize,
) -> Result<Verification> {
    mmap::return_freed_memory();
    let reference = match (loaded, &original.graph) {
        (Some(loaded), _) => {
            plan_loaded(loaded).with_context(|| original.path.display().to_string())?
        }
        (None, Graph::Lite(graph)) => plan_lite(graph)?,
        (None, Graph::Onnx(_)) => original.plan()?,
    };
    mmap::return_freed_memory();
    let (copy, permuted) = copy()?;
    let (inputs, outputs) = ports_of_lite(&copy);
    let alignment = Alignment::new(
        Side::of(&reference, &original.permuted),
        Side { inputs: &inputs, outputs: &outputs, permuted: &permuted },
    )?;
    let ports = alignment.common_inputs(reference.inputs(), &inputs);
    let record = original.preprocessing.as_ref();
    let (inputs, samples) = match data {
        Some(data) => data,
        None => {
            let made = test_inputs(&[], &reference, &ports, record, MOST_ROWS)?;
            (made.what.clone(), Box::new(made) as Box<dyn Samples>)
        }
    };
    let outputs = compare_in_turn(reference, || plan_lite(&copy), &alignment, &*samples, threads)?;
    let holds = outputs.iter().all(|o| o.relative <= tolerance);
    Ok(Verification { inputs, tolerance, holds, outputs })
}

/// The permutation of an end, `0, 1, …` where it was not moved.
fn permutation(moved: &[MovedEnd], is_input: bool, place: usize, rank: usize) -> Vec<usize> {
    let end = moved.iter().find(|end| end.is_input == is_input && end.place == place);
    end.map_or((0..rank).collect(), |end| end.permutation.clone())
}

pub(super) fn port_mappings(graph: &Model, moved: &[MovedEnd], is_input: bool) -> Vec<PortMapping> {
    let main = graph.main();
    let (inputs, outputs) = names_of_ends(graph);
    let (ids, names) = if is_input { (&main.inputs, inputs) } else { (&main.outputs, outputs) };
    let ends = ids.iter().zip(names).enumerate();
    ends.map(|(place, (&id, name))| {
        let tensor = &main.tensors[id];
        let permutation = permutation(moved, is_input, place, tensor.shape.len());
        let mut source_shape = tensor.shape.clone();
        permutation.iter().zip(&tensor.shape).for_each(|(&p, d)| source_shape[p] = d.clone());
        PortMapping {
            name,
            element: tensor.element.name(),
            source_shape: shape_text(&source_shape),
            shape: shape_text(&tensor.shape),
            permutation,
        }
    })
    .collect()
}

/// The record of pictures for a file whose first input was moved.
pub(super) fn laid_out(mut record: Preprocessing, moved: &[MovedEnd]) -> Preprocessing {
    if moved.iter().any(|end| end.is_input && end.place == 0) {
        record.layout = Layout::Nhwc;
    }
    record
}

/// The ends whose axes are not as in the model that `source`, itself maybe moved, comes from.
pub(super) fn permuted_ends(
    source: &LoadedModel,
    graph: &Model,
    moved: &[MovedEnd],
) -> Vec<PermutedEnd> {
    let mut ends = vec![];
    for is_input in [true, false] {
        for mapping in port_mappings(graph, moved, is_input) {
            let before = source.permuted.iter().find(|end| end.name == mapping.name);
            let before = before.filter(|end| end.permutation.len() == mapping.permutation.len());
            let permutation: Vec<usize> = match before {
                Some(end) => mapping.permutation.iter().map(|&p| end.permutation[p]).collect(),
                None => mapping.permutation,
            };
            if !permutation.is_sorted() {
                ends.push(PermutedEnd { name: mapping.name, permutation });
            }
        }
    }
    ends
}

/// How often each op occurs, the most frequent first.
pub(super) fn op_counts(graph: &Model) -> Vec<(String, usize)> {
    let mut counts: Vec<(String, usize)> = vec![];
    for node in graph.subgraphs.iter().flat_map(|g| &g.nodes) {
        match counts.iter_mut().find(|(name, _)| name == node.op.name()) {
            Some((_, count)) => *count += 1,
            None => counts.push((node.op.name().to_string(), 1)),
        }
    }
    counts.sort_by(|a, b| b.1.cmp(&a.1).then(a.0.cmp(&b.0)));
    counts
}
