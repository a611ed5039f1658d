//! `convert --to`: a model → a folder that TensorFlow or TensorFlow.js loads.

use super::Outcome;
use super::convert::{
    EndLayout, MOST_ROWS, PortMapping, Verification, op_counts, permuted_ends, port_mappings,
    verify_graph,
};
use super::inputs::{Classes, PictureFlags, check_data, class_count, data_inputs};
use crate::compare::Samples;
use crate::format::atomic;
use crate::model::{LoadedModel, bytes_of, locate, ports_of_lite, read_labels};
use crate::ops::GraphDefTarget;
use crate::passes;
use crate::progress::Progress;
use crate::quantize::Scheme;
use crate::write::{SavedModelForm, graphdef, write_saved_model};
use anyhow::{Context, Result, ensure};
use serde::Serialize;
use std::path::PathBuf;

/// What kind of folder is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ExportTarget {
    SavedModel(SavedModelForm),
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
    pub verification: Option<Verification>,
}

impl ExportTarget {
    pub fn name(self) -> &'static str {
        match self {
            ExportTarget::SavedModel(SavedModelForm::Variables) => "SavedModel",
            ExportTarget::SavedModel(SavedModelForm::Frozen) => "frozen SavedModel",
        }
    }

    fn folder_name(self, model: &str) -> String {
        match self {
            ExportTarget::SavedModel(_) => format!("{model}_saved_model"),
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
    let target = options.target;
    let default = || PathBuf::from(target.folder_name(&model.name));
    let out = options.out.clone().unwrap_or_else(default);
    ensure!(
        !out.exists() && !out.is_symlink(),
        "{} is there already; choose a folder that is not, or remove it",
        out.display()
    );

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
    if graph.custom_ops().is_empty() {
        passes::run_for_tensorflow(&mut graph);
    }
    // a bias that a pass has moved has its own values again
    model.restore_constant_names(&mut graph);
    let program = match target {
        ExportTarget::SavedModel(_) => graphdef(&graph, GraphDefTarget::TensorFlow),
    };
    let program = program.with_context(|| model.path.display().to_string())?;

    let permuted = permuted_ends(&model, &graph, &moved);
    let mappings = |is_input| port_mappings(&graph, &moved, is_input);
    let (inputs, outputs) = (mappings(true), mappings(false));
    let ops = op_counts(&graph);
    let transposes = graph.subgraphs.iter().map(passes::transpose_count).sum();
    let ends = inputs.iter().zip(&program.inputs).chain(outputs.iter().zip(&program.outputs));
    let renamed = ends.filter(|(before, after)| before.name != after.name);
    let renamed =
        renamed.map(|(before, after)| (before.name.clone(), after.name.clone())).collect();
    let tolerance = options.tolerance.unwrap_or(Scheme::tolerance_of(None));
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
        true => atomic::create_folder(&out, |folder| match target {
            ExportTarget::SavedModel(form) => {
                write_saved_model(folder, &program, &model.labels, form)
            }
        })
        .with_context(|| format!("cannot write {}", out.display()))?,
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
        verification,
    };
    Ok(if holds { Outcome::Done(report) } else { Outcome::CheckFailed(report) })
}
