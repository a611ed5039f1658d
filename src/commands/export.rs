//! `convert --to`: a model → a folder that TensorFlow or TensorFlow.js loads.

use super::Outcome;
use super::convert::{
    EndLayout, MOST_ROWS, PortMapping, Verification, laid_out, op_counts, permuted_ends,
    port_mappings, verify_graph,
};
use super::inputs::{Classes, PictureFlags, check_data, class_count, data_inputs};
use crate::compare::Samples;
use crate::format::{atomic, mmap};
use crate::graph::{ElementType, LiteOp, Model};
use crate::model::{LoadedModel, bytes_of, locate, ports_of_lite, read_labels};
use crate::ops::GraphDefTarget;
use crate::passes;
use crate::progress::Progress;
use crate::quantize::{Scheme, SchemeChoice, WeightChoices, is_quantized, widen_constants};
use crate::write::{
    DEFAULT_SHARD_SIZE, GraphDefModel, KeptWeight, SavedModelForm, StorageReport, TfjsOptions,
    WeightPlan, graphdef, write_saved_model, write_tfjs,
};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use serde_json::{Map, Value};
use std::path::PathBuf;

/// What kind of folder is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportTarget {
    SavedModel(SavedModelForm),
    /// A graph model.
    TensorFlowJs,
}

/// What a TensorFlow.js model has beside the graph.
#[derive(Debug, Clone, Default)]
pub struct TfjsFlags {
    /// The first that is for a weight decides; float32 where none is.
    pub schemes: Vec<SchemeChoice>,
    /// Bytes of one file of weights.
    pub shard_size: Option<usize>,
    pub metadata: Vec<MetadataFlag>,
    /// A page that runs the model.
    pub demo: bool,
}

/// What goes into the model's own metadata.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MetadataFlag {
    Text {
        key: String,
        value: String,
    },
    /// What a JSON file holds.
    Json {
        key: String,
        file: PathBuf,
    },
    /// The fields of the object that a JSON file holds.
    Fields(PathBuf),
}

#[derive(Debug, Clone)]
pub struct ExportOptions {
    pub model: Option<PathBuf>,
    pub target: ExportTarget,
    /// A folder that is not there yet; otherwise one named after the model, in the current folder.
    pub out: Option<PathBuf>,
    pub labels: Option<PathBuf>,
    /// Sizes for dimensions that the model leaves open, by name.
    pub dimensions: Vec<(String, usize)>,
    pub tolerance: Option<f64>,
    pub no_verify: bool,
    pub layout: EndLayout,
    /// What the graph is checked on, as `predict` takes inputs; otherwise what suits the model.
    pub data: Vec<PathBuf>,
    /// Of pictures among the data.
    pub pictures: PictureFlags,
    /// Of [`ExportTarget::TensorFlowJs`].
    pub tfjs: TfjsFlags,
    pub threads: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExportReport {
    pub source: PathBuf,
    pub out: PathBuf,
    pub format: &'static str,
    pub source_bytes: u64,
    pub bytes: u64,
    pub inputs: Vec<PortMapping>,
    pub outputs: Vec<PortMapping>,
    /// Of the lite graph.
    pub ops: Vec<(String, usize)>,
    /// TRANSPOSE ops in the graph.
    pub transposes: usize,
    pub labels: usize,
    /// Inputs and outputs that the target knows by another name: the source's, then its own.
    pub renamed: Vec<(String, String)>,
    /// How float32 constants of several numbers are stored, where that is chosen.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub weights: Vec<StorageReport>,
    /// Those that stay float32 though a scheme was for them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kept_float: Vec<KeptWeight>,
    /// Whether there is a page that runs the model.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub demo: bool,
    pub verification: Option<Verification>,
}

impl ExportTarget {
    pub fn name(self) -> &'static str {
        match self {
            ExportTarget::SavedModel(SavedModelForm::Variables) => "SavedModel",
            ExportTarget::SavedModel(SavedModelForm::Frozen) => "frozen SavedModel",
            ExportTarget::TensorFlowJs => "TensorFlow.js graph model",
        }
    }

    fn folder_name(self, model: &str, schemes: &[SchemeChoice]) -> String {
        let scheme = schemes.first().map_or(String::new(), |first| format!("-{}", first.scheme));
        match self {
            ExportTarget::SavedModel(_) => format!("{model}_saved_model"),
            ExportTarget::TensorFlowJs => format!("{model}{scheme}_tfjs"),
        }
    }
}

/// The folder is made once the graph has been run against the original. Its own nodes are not run: nothing here
/// computes with them, so that they mean what the graph means is what the tests against TensorFlow show.
pub fn export(options: &ExportOptions, _: &dyn Progress) -> Result<Outcome<ExportReport>> {
    check_data(&options.data)?;
    let mut model = LoadedModel::load(&locate(options.model.as_deref())?)?;
    for (name, size) in &options.dimensions {
        model.set_dimension(name, *size)?;
    }
    if let Some(labels) = &options.labels {
        model.labels = read_labels(labels)?;
    }
    let (target, tfjs) = (options.target, &options.tfjs);
    let default = || PathBuf::from(target.folder_name(&model.name, &tfjs.schemes));
    let out = options.out.clone().unwrap_or_else(default);
    ensure!(
        !out.exists() && !out.is_symlink(),
        "{} is there already; choose a folder that is not, or remove it",
        out.display()
    );

    let user_metadata = user_metadata(&tfjs.metadata)?;
    let (mut graph, loaded) = model.lite_graph()?;
    let (ports, ends) = ports_of_lite(&graph);
    let record = model.preprocessing.as_ref();
    if let Some(told) = options.pictures.record(record, &ports, &mut vec![])? {
        model.preprocessing = Some(told);
    }
    let count = ends.first().and_then(class_count);
    let classes = Classes { labels: &model.labels, count };
    let record = model.preprocessing.as_ref();
    let data = data_inputs(&options.data, &ports, record, &classes, MOST_ROWS)?;
    let data = data.map(|data| (data.what.clone(), Box::new(data) as Box<dyn Samples>));
    let moved = match options.layout {
        EndLayout::Keep => vec![],
        EndLayout::Nhwc => passes::move_channels_last(&mut graph),
    };
    if !tfjs.schemes.is_empty() {
        ensure!(
            !is_quantized(&graph),
            "the model is quantized already; start from the float model"
        );
        widen_constants(&mut graph);
    }
    let program = match target {
        ExportTarget::SavedModel(_) => program(&model, &mut graph, GraphDefTarget::TensorFlow)?,
        ExportTarget::TensorFlowJs => program(&model, &mut graph, GraphDefTarget::TensorFlowJs)?,
    };
    let weights = match target {
        ExportTarget::SavedModel(_) => None,
        ExportTarget::TensorFlowJs => {
            let mut choices = WeightChoices::new(&tfjs.schemes);
            let plan = WeightPlan::new(&program, |node, name| choices.storage([node, name]));
            choices.check()?;
            Some(plan.with_context(|| model.path.display().to_string())?)
        }
    };

    let permuted = permuted_ends(&model, &graph, &moved);
    let mappings = |is_input| port_mappings(&graph, &moved, is_input);
    let (inputs, outputs) = (mappings(true), mappings(false));
    let ops = op_counts(&graph);
    let transposes = graph.subgraphs.iter().map(passes::transpose_count).sum();
    let ends = inputs.iter().zip(&program.inputs).chain(outputs.iter().zip(&program.outputs));
    let renamed = ends.filter(|(before, after)| before.name != after.name);
    let renamed =
        renamed.map(|(before, after)| (before.name.clone(), after.name.clone())).collect();
    let schemes = tfjs.schemes.iter().map(|choice| Scheme::tolerance_of(Some(choice.scheme)));
    let usual = schemes.fold(tolerance_of(&graph), f64::max);
    let tolerance = options.tolerance.unwrap_or(usual);
    if let Some(weights) = &weights {
        weights.round(&mut graph);
    }
    let verification = match options.no_verify {
        true => None,
        false => {
            let copy = || Ok((graph, permuted));
            let verified = verify_graph(&model, loaded, copy, tolerance, data, options.threads);
            Some(verified.context("checking the graph")?)
        }
    };
    let holds = verification.as_ref().is_none_or(|v| v.holds);
    let bytes = match holds {
        false => 0,
        true => atomic::create_folder(&out, |folder| match (target, &weights) {
            (ExportTarget::SavedModel(form), _) => {
                write_saved_model(folder, &program, &model.labels, form)
            }
            (ExportTarget::TensorFlowJs, None) => bail!("no weights were planned"),
            (ExportTarget::TensorFlowJs, Some(weights)) => {
                let mut metadata = user_metadata;
                if !model.labels.is_empty() {
                    metadata.insert(LABELS.into(), model.labels.clone().into());
                }
                if let Some(record) = model.preprocessing.clone() {
                    // through text, which has numbers of 32 bits in their shortest form
                    let record = serde_json::to_string(&laid_out(record, &moved))?;
                    metadata.insert(PREPROCESSING.into(), serde_json::from_str(&record)?);
                }
                let options = TfjsOptions {
                    shard_size: tfjs.shard_size.unwrap_or(DEFAULT_SHARD_SIZE),
                    metadata,
                    demo: tfjs.demo,
                };
                write_tfjs(folder, &program, weights, &options)
            }
        })
        .with_context(|| format!("cannot write {}", out.display()))?,
    };
    let (weights, kept_float) = match weights.filter(|_| !tfjs.schemes.is_empty()) {
        Some(plan) => (plan.report, plan.kept),
        None => (vec![], vec![]),
    };
    let report = ExportReport {
        source_bytes: bytes_of(&model.path, model.format),
        source: model.path,
        out,
        format: target.name(),
        bytes,
        inputs,
        outputs,
        ops,
        transposes,
        labels: model.labels.len(),
        renamed,
        weights,
        kept_float,
        demo: tfjs.demo,
        verification,
    };
    Ok(if holds { Outcome::Done(report) } else { Outcome::CheckFailed(report) })
}

/// The graph as TensorFlow's nodes, after the passes that are for them.
fn program(
    model: &LoadedModel,
    graph: &mut Model,
    target: GraphDefTarget,
) -> Result<GraphDefModel> {
    // passes trust shapes, and those behind a custom op are only what the file says
    if graph.custom_ops().is_empty() {
        passes::run_for_tensorflow(graph);
    }
    // a bias that a pass has moved has its own values again
    model.restore_constant_names(graph);
    graphdef(graph, target).with_context(|| model.path.display().to_string())
}

/// A graph that computes with float16 rounds after each op, where TensorFlow may round less often; what becomes an
/// integer may be rounded to either side.
fn tolerance_of(graph: &Model) -> f64 {
    let mut nodes = graph.subgraphs.iter().flat_map(|g| &g.nodes);
    if nodes.any(|node| node.op == LiteOp::Quantize) {
        return f64::INFINITY;
    }
    let mut tensors = graph.subgraphs.iter().flat_map(|g| &g.tensors);
    let halves = tensors.any(|t| t.element == ElementType::F16 && t.data.is_none());
    Scheme::tolerance_of(halves.then_some(Scheme::Float16))
}

/// What TensorFlow loads a version directory of the model as, run against the model.
///
/// # Errors
/// All ops that TensorFlow lacks; a difference over the tolerance.
pub(super) fn saved_model_of(model: &LoadedModel, threads: usize) -> Result<GraphDefModel> {
    let (mut graph, loaded) = model.lite_graph()?;
    let tolerance = tolerance_of(&graph);
    let program = program(model, &mut graph, GraphDefTarget::TensorFlow)?;
    let permuted = permuted_ends(model, &graph, &[]);
    let verification =
        verify_graph(model, loaded, || Ok((graph, permuted)), tolerance, None, threads)?;
    if let Some(output) = verification.outputs.iter().find(|o| o.relative > tolerance) {
        bail!(
            "its '{}' would differ from the model's by {:.1e} relative ({tolerance:.0e} allowed)",
            output.name,
            output.relative
        );
    }
    Ok(program)
}

/// Fields of a TensorFlow.js model's own metadata that mlctl writes.
const LABELS: &str = "labels";
const PREPROCESSING: &str = "preprocessing";

fn user_metadata(flags: &[MetadataFlag]) -> Result<Map<String, Value>> {
    let json = |file: &PathBuf| -> Result<Value> {
        let at = || format!("--metadata: {}", file.display());
        let text = mmap::read_text(file).with_context(at)?;
        serde_json::from_str(&text).with_context(at)
    };
    let mut metadata = Map::new();
    for flag in flags {
        let fields = match flag {
            MetadataFlag::Text { key, value } => vec![(key.clone(), value.clone().into())],
            MetadataFlag::Json { key, file } => vec![(key.clone(), json(file)?)],
            MetadataFlag::Fields(file) => match json(file)? {
                Value::Object(fields) => fields.into_iter().collect(),
                _ => bail!("--metadata {}: it holds no object; name it KEY=FILE", file.display()),
            },
        };
        for (key, value) in fields {
            // TensorFlow.js takes these two in place of the model's own
            let taken = [LABELS, PREPROCESSING, "signature", "structuredOutputKeys"];
            ensure!(
                !taken.contains(&key.as_str()),
                "--metadata: '{key}' has a meaning already{}",
                if key == LABELS { "; labels are given with --labels" } else { "" }
            );
            ensure!(!metadata.contains_key(&key), "--metadata: '{key}' is given twice");
            metadata.insert(key, value);
        }
    }
    Ok(metadata)
}
