//! `convert` and `quantize`: a model → a `.tflite` file, checked against the original before it is kept.

use super::Outcome;
use crate::compare::{OutputDifference, compare, example_inputs};
use crate::format::{atomic, mmap};
use crate::graph::{ElementType, Model, shape_text};
use crate::model::{Graph, LoadedModel, locate, plan_lite, read_labels, refuse_saved_file};
use crate::quantize::{Float16Plan, Scheme};
use crate::write::{Description, write_tflite};
use crate::{passes, read};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::{Path, PathBuf};

/// Extensions that would misname what is written.
const OTHER_FORMATS: [&str; 8] = ["onnx", "pb", "keras", "h5", "hdf5", "json", "npz", "npy"];

/// The largest relative difference of a float32 conversion that is not an error.
const FLOAT32_TOLERANCE: f64 = 1e-5;

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
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ConvertReport {
    pub source: PathBuf,
    pub out: PathBuf,
    pub scheme: &'static str,
    pub source_bytes: u64,
    pub bytes: u64,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
    pub ops: Vec<(String, usize)>,
    pub labels: usize,
    /// Constants that stayed float32 because float16 cannot hold their values.
    pub out_of_range: Vec<String>,
    pub verification: Option<Verification>,
}

/// The written file against the original, on the same inputs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Verification {
    pub inputs: String,
    pub tolerance: f64,
    pub holds: bool,
    pub outputs: Vec<OutputDifference>,
}

pub fn convert(options: &ConvertOptions) -> Result<Outcome<ConvertReport>> {
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
    ensure!(!out.is_dir(), "{} is a folder; give -o a file name", out.display());
    let extension = out.extension().and_then(|e| e.to_str()).unwrap_or_default();
    ensure!(
        !OTHER_FORMATS.contains(&extension.to_ascii_lowercase().as_str()),
        "-o {}: the file will be .tflite; name it so",
        out.display()
    );
    refuse_saved_file(&out)?;

    let mut graph = model.lite_graph()?;
    graph.metadata.retain(|m| m.name != "reduced_precision_support");
    passes::run(&mut graph);
    graph.validate()?;
    let mut tensors = graph.subgraphs.iter().flat_map(|g| &g.tensors);
    let halves = tensors.any(|t| t.element == ElementType::F16 && t.data.is_none());
    let mut out_of_range = vec![];
    if let Some(Scheme::Float16) = options.scheme {
        let plan = Float16Plan::new(&graph);
        plan.apply(&mut graph);
        out_of_range = plan.out_of_range;
    }
    let description = Description {
        name: model.name.clone(),
        labels: model.labels.clone(),
        preprocessing: model.preprocessing.clone(),
    };
    // a graph that computes with float16 rounds after each op, where the file may round less often
    let scheme_or_half = options.scheme.or(halves.then_some(Scheme::Float16));
    let tolerance = options
        .tolerance
        .unwrap_or_else(|| scheme_or_half.map_or(FLOAT32_TOLERANCE, Scheme::default_tolerance));
    let written = atomic::write_checked_file(
        &out,
        |file| write_tflite(&graph, &description, file),
        |path, bytes| -> Result<_> {
            let verification = match options.no_verify {
                true => None,
                false => {
                    Some(verify(&model, path, tolerance).context("checking the written file")?)
                }
            };
            let holds = verification.as_ref().is_none_or(|v| v.holds);
            Ok(((bytes, verification), holds))
        },
    );
    let (bytes, verification) =
        written.with_context(|| format!("cannot write {}", out.display()))?;
    let holds = verification.as_ref().is_none_or(|v| v.holds);
    let ends = |ids: &[usize]| ids.iter().map(|&t| port_text(&graph, t)).collect();
    let report = ConvertReport {
        source_bytes: model.bytes.len() as u64,
        source: model.path,
        out,
        scheme,
        bytes,
        inputs: ends(&graph.main().inputs),
        outputs: ends(&graph.main().outputs),
        ops: op_counts(&graph),
        labels: model.labels.len(),
        out_of_range,
        verification,
    };
    Ok(if holds { Outcome::Done(report) } else { Outcome::CheckFailed(report) })
}

fn verify(original: &LoadedModel, written: &Path, tolerance: f64) -> Result<Verification> {
    let bytes = mmap::open(written)?;
    let copy = read::lite_graph(&read::parse_tflite(bytes)?)?;
    let reference = match &original.graph {
        Graph::Onnx(_) => original.plan()?,
        Graph::Lite(graph) => plan_lite(graph)?,
    };
    let inputs = example_inputs(&reference, original.preprocessing.as_ref())?;
    let outputs = compare(&reference, &plan_lite(&copy)?, &inputs.runs)?;
    let holds = outputs.iter().all(|o| o.relative <= tolerance);
    Ok(Verification { inputs: inputs.what, tolerance, holds, outputs })
}

fn port_text(graph: &Model, tensor: usize) -> String {
    let tensor = &graph.main().tensors[tensor];
    format!("{} {}{}", tensor.name, tensor.element, shape_text(&tensor.shape))
}

/// How often each op occurs, the most frequent first.
fn op_counts(graph: &Model) -> Vec<(String, usize)> {
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
