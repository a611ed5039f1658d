//! One loaded version: its plan, what it takes and gives, and the queue that runs it.

use super::failure::{Answer, Code, Failure};
use super::grpc::warmup::warm_up;
use super::queue::{Queue, QueueOptions};
use crate::compare::example_inputs;
use crate::data::preprocessing::Preprocessing;
use crate::graph::{Dim, ElementType, shape_text};
use crate::model::{
    Format, Graph, LoadedModel, Located, Place, bytes_of, holds_record, picture_record,
};
use crate::runtime::{Plan, Port, Tensor};
use crate::tract::guard::{Allowance, with_allowance};
use anyhow::{Context, Result, bail, ensure};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The signature that every model has, whatever its own is called.
pub const DEFAULT_SIGNATURE: &str = "serving_default";

/// What a model is asked to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Method {
    Predict,
    Classify,
    Regress,
}

impl Method {
    pub fn name(self) -> &'static str {
        match self {
            Method::Predict => "predict",
            Method::Classify => "classify",
            Method::Regress => "regress",
        }
    }
}

/// A version that is ready to answer.
#[derive(Debug)]
pub struct Servable {
    pub version: u64,
    /// The name of its signature, as its file has it.
    signature: String,
    /// Names of the classes, where the model says them.
    labels: Vec<String>,
    /// How a picture becomes its input, where it takes one.
    pictures: Option<Preprocessing>,
    plan: Plan,
    rows: Rows,
    queue: Queue,
}

/// How many rows a model takes at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rows {
    /// The first axis of all inputs and outputs.
    Any,
    /// As many as that axis has.
    Fixed(usize),
    /// The first axes are not all rows: a request is one run.
    Whole,
}

impl Rows {
    pub fn of(plan: &Plan) -> Rows {
        let mut firsts = plan.inputs().iter().chain(plan.outputs()).map(|port| port.shape.first());
        let Some(Some(first)) = firsts.next() else { return Rows::Whole };
        if plan.inputs().is_empty() || !firsts.all(|f| f == Some(first)) {
            return Rows::Whole;
        }
        match first {
            Dim::Known(0) => Rows::Whole,
            Dim::Known(n) => Rows::Fixed(*n),
            Dim::Symbol(_) => Rows::Any,
        }
    }
}

/// Loads, plans and warms the version in `folder`, with bounds on time and memory: work that does not end is abandoned.
///
/// # Errors
/// Name the file and what is wrong with it.
pub fn load(model: &str, version: u64, folder: &Path, options: &QueueOptions) -> Result<Servable> {
    let located = find_model(model, folder)?;
    let bytes = size_of(&located);
    let time = Duration::from_secs(120) + Allowance::for_bytes(bytes).time * 3;
    let allowance = Allowance { time, memory: Allowance::for_bytes(bytes).memory };
    let what = format!("loading {}", folder.display());
    let (plan, labels, pictures, signature) = with_allowance(&what, allowance, move || {
        let loaded = LoadedModel::load(&located)?;
        let plan = loaded.plan()?;
        warm(&plan, &loaded)?;
        let pictures = picture_record(loaded.preprocessing.as_ref(), plan.inputs());
        let signature = signature_of(&loaded.graph);
        Ok((plan, loaded.labels, pictures, signature))
    })?;
    for port in plan.inputs().iter().chain(plan.outputs()) {
        let served = !matches!(port.element, ElementType::String | ElementType::I4);
        ensure!(served, "'{}' is {}, which cannot be served yet", port.name, port.element);
    }
    let rows = Rows::of(&plan);
    // the library panics at a thread's name with such a character
    let name = format!("{model}/{version}").replace('\0', "");
    let queue = Queue::new(&name, plan.clone(), rows, options)?;
    let servable = Servable { version, signature, labels, pictures, plan, rows, queue };
    match warm_up(&servable, folder) {
        Ok(_) => Ok(servable),
        Err(error) => {
            servable.end();
            Err(error)
        }
    }
}

fn signature_of(graph: &Graph) -> String {
    let own = match graph {
        Graph::Lite(model) => model.signatures.iter().find(|own| own.subgraph == 0),
        Graph::Onnx(_) => None,
    };
    let own = own.map(|own| own.key.clone()).filter(|key| !key.is_empty());
    own.unwrap_or(DEFAULT_SIGNATURE.into())
}

/// A first run makes the memory and pages that later ones use.
fn warm(plan: &Plan, loaded: &LoadedModel) -> Result<()> {
    let Ok(examples) = example_inputs(plan, plan.inputs(), loaded.preprocessing.as_ref()) else {
        return Ok(());
    };
    let Some(mut inputs) = examples.runs.into_iter().next() else { return Ok(()) };
    if Rows::of(plan) == Rows::Any {
        inputs = inputs.iter().map(|t| t.slice(0, 0, 1)).collect::<Result<_>>()?;
    }
    // made-up values may be out of what a graph takes; requests will tell
    let _ = plan.session()?.run(inputs);
    Ok(())
}

/// What a version folder holds: one of ours, or one model file.
fn find_model(model: &str, folder: &Path) -> Result<Located> {
    let name = model.to_string();
    if holds_record(folder) {
        return Ok(Located { name, place: Place::Version(folder.into()) });
    }
    let entries = std::fs::read_dir(folder).with_context(|| cannot_read(folder))?;
    let paths = entries.map(|e| Ok(e?.path())).collect::<std::io::Result<Vec<PathBuf>>>();
    let mut files: Vec<(PathBuf, Format)> = paths
        .with_context(|| cannot_read(folder))?
        .into_iter()
        .filter_map(|path| Format::of_name(&path).map(|format| (path, format)))
        .filter(|(path, format)| *format != Format::TensorFlowJs || path.ends_with("model.json"))
        .collect();
    files.sort_by(|a, b| a.0.cmp(&b.0));
    let is_named_model = |path: &Path| path.file_stem().is_some_and(|stem| stem == "model");
    if files.len() > 1 && files.iter().filter(|(path, _)| is_named_model(path)).count() == 1 {
        files.retain(|(path, _)| is_named_model(path));
    }
    match files.as_slice() {
        [(path, format)] => {
            Ok(Located { name, place: Place::File { path: path.clone(), format: *format } })
        }
        [] => bail!(
            "{} holds no model: no mlctl.json, saved_model.pb, model.json, .onnx, .tflite, .keras, .h5",
            folder.display()
        ),
        several => {
            let names = several.iter().filter_map(|(path, _)| path.file_name()?.to_str());
            let names: Vec<&str> = names.collect();
            bail!(
                "{} holds several models ({}); name one of them model",
                folder.display(),
                names.join(", ")
            )
        }
    }
}

fn cannot_read(folder: &Path) -> String {
    format!("cannot read folder {}", folder.display())
}

fn size_of(located: &Located) -> u64 {
    let size = |path: &Path| std::fs::metadata(path).map_or(0, |m| m.len());
    match &located.place {
        Place::File { path, format } => bytes_of(path, *format),
        Place::Version(folder) => std::fs::read_dir(folder)
            .map_or(0, |entries| entries.flatten().map(|entry| size(&entry.path())).sum()),
    }
}

impl Servable {
    pub fn inputs(&self) -> &[Port] {
        self.plan.inputs()
    }

    pub fn outputs(&self) -> &[Port] {
        self.plan.outputs()
    }

    pub fn pictures(&self) -> Option<&Preprocessing> {
        self.pictures.as_ref()
    }

    pub fn queue(&self) -> &Queue {
        &self.queue
    }

    pub fn rows(&self) -> Rows {
        self.rows
    }

    pub fn signature(&self) -> &str {
        &self.signature
    }

    /// Whether its signature may be called so. There is one alone: it answers to the name that clients take by default too.
    pub fn has_signature(&self, name: &str) -> bool {
        matches!(name, "" | DEFAULT_SIGNATURE) || name == self.signature
    }

    /// # Errors
    /// The model has no such signature.
    pub fn check_signature(&self, name: Option<&str>) -> Answer<()> {
        match name {
            Some(other) if !self.has_signature(other) => Err(Failure::invalid(format!(
                "Serving signature name: \"{other}\" not found in signature def"
            ))),
            _ => Ok(()),
        }
    }

    /// The rows of a request, all of whose tensors are the right ones for the model.
    ///
    /// # Errors
    /// Names the input, what it takes and what was given.
    pub fn check(&self, tensors: &[Tensor]) -> Answer<usize> {
        let mut rows = None;
        for (port, tensor) in self.inputs().iter().zip(tensors) {
            let batched = usize::from(self.rows != Rows::Whole);
            let shape = tensor.shape();
            let fits = port.shape.len() == shape.len()
                && port
                    .shape
                    .iter()
                    .zip(shape)
                    .skip(batched)
                    .all(|(d, n)| d.known().is_none_or(|d| d == *n));
            if !fits {
                return Err(Failure::invalid(format!(
                    "input '{}' takes shape {}, got {shape:?}",
                    port.name,
                    shape_text(&port.shape)
                )));
            }
            if self.rows == Rows::Whole {
                continue;
            }
            let own = shape[0];
            if rows.is_some_and(|rows| rows != own) {
                return Err(Failure::invalid(
                    "Batching Run() input tensors must have equal 0th-dimension size",
                ));
            }
            rows = Some(own);
        }
        let rows = rows.unwrap_or(1);
        match self.rows {
            Rows::Fixed(n) if rows % n != 0 || rows == 0 => Err(Failure::invalid(format!(
                "the model takes {n} rows at a time; {rows} is no multiple of that"
            ))),
            Rows::Any if rows == 0 => Err(Failure::invalid("the request has no rows")),
            _ => Ok(rows),
        }
    }

    /// Runs the model on `tensors`, in the order of its inputs; dropped, the run is not made.
    ///
    /// # Errors
    /// The tensors do not fit, the queue is full, the time is over, or the run failed.
    pub async fn answer(&self, tensors: Vec<Tensor>, deadline: Instant) -> Answer<Vec<Tensor>> {
        let rows = self.check(&tensors)?;
        let reply = self.queue.submit(tensors, rows, deadline)?;
        match tokio::time::timeout_at(deadline.into(), reply).await {
            Ok(Ok(outputs)) => outputs,
            Ok(Err(_)) => Err(Failure::new(Code::Internal, "the model's thread ended")),
            Err(_) => {
                Err(Failure::new(Code::DeadlineExceeded, "the request did not end in its time"))
            }
        }
    }

    /// The name of a class, its number where the model says none.
    pub fn class_name(&self, class: usize) -> String {
        self.labels.get(class).cloned().unwrap_or_else(|| class.to_string())
    }

    /// Ends the threads once the queue is empty. Nobody else holds this version any more.
    pub fn end(self) {
        self.queue.end();
    }
}
