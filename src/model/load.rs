//! Loading: a located model → checked graphs and what is known about it.

use super::locate::{Format, Located, Place};
use super::record::Record;
use crate::data::preprocessing::Preprocessing;
use crate::format::mmap;
use crate::graph;
use crate::runtime::Plan;
use crate::tract::guard::{self, Allowance};
use crate::tract::{onnx, pb};
use crate::{lower, raise, read};
use anyhow::{Context, Result, bail};
use bytes::Bytes;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A model in memory.
#[derive(Debug)]
pub struct LoadedModel {
    pub name: String,
    /// The primary file.
    pub path: PathBuf,
    pub bytes: Bytes,
    pub graph: Graph,
    pub labels: Vec<String>,
    pub preprocessing: Option<Preprocessing>,
    pub record: Option<Record>,
}

/// What a file held.
#[derive(Debug)]
pub enum Graph {
    Onnx(Arc<pb::ModelProto>),
    Lite(Box<graph::Model>),
}

impl LoadedModel {
    /// Reads, verifies and checks a model; it is not planned yet.
    ///
    /// # Errors
    /// Name the file and the way out.
    pub fn load(located: &Located) -> Result<LoadedModel> {
        let (path, format, record, labels) = match &located.place {
            Place::File { path, format } => (path.clone(), *format, None, vec![]),
            Place::Version(folder) => {
                let record = Record::read_verified(folder)?;
                let path = folder.join(&record.primary);
                let format = match path.extension().and_then(|e| e.to_str()) {
                    Some("onnx") => Format::Onnx,
                    Some("tflite") => Format::Tflite,
                    _ => bail!("{} cannot be read yet; use an .onnx or .tflite", path.display()),
                };
                let labels = folder.join("assets/labels.txt");
                let listed = record.files.contains_key("assets/labels.txt");
                let labels = if listed { read_labels(&labels)? } else { vec![] };
                (path, format, Some(record), labels)
            }
        };
        let bytes = mmap::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let mut model = LoadedModel {
            name: located.name.clone(),
            graph: Graph::Lite(Box::default()),
            preprocessing: record.as_ref().and_then(|r| r.preprocessing.clone()),
            labels,
            record,
            bytes,
            path,
        };
        let at = || model.path.display().to_string();
        match format {
            Format::Onnx => {
                let proto = onnx::decode(model.bytes.clone()).with_context(at)?;
                model.graph = Graph::Onnx(Arc::new(proto));
            }
            Format::Tflite => {
                let file = read::parse_tflite(model.bytes.clone()).with_context(at)?;
                let description = read::description(&file, &model.bytes);
                let graph = read::lite_graph(&file).with_context(at)?;
                model.graph = Graph::Lite(Box::new(graph));
                if model.labels.is_empty() {
                    model.labels = description.labels;
                }
                model.preprocessing = model.preprocessing.or(description.preprocessing);
            }
        }
        Ok(model)
    }

    /// Gives the inputs' dimension `name` a size.
    ///
    /// # Errors
    /// Names the dimensions there are, where `name` is none of them.
    pub fn set_dimension(&mut self, name: &str, size: usize) -> Result<()> {
        match &mut self.graph {
            Graph::Onnx(proto) => onnx::set_dimension(Arc::make_mut(proto), name, size),
            Graph::Lite(graph) => {
                let (mut sized, name) = ((**graph).clone(), name.to_string());
                let allowance = Allowance::for_bytes(constant_bytes(graph));
                guard::with_allowance("computing the shapes", allowance, move || {
                    raise::set_dimension(&mut sized, &name, size)?;
                    Ok(sized)
                })
                .map(|sized| **graph = sized)
            }
        }
        .with_context(|| self.path.display().to_string())
    }

    /// The model ready to run.
    pub fn plan(&self) -> Result<Plan> {
        let at = || self.path.display().to_string();
        match &self.graph {
            Graph::Onnx(_) => {
                let loaded = self.typed(onnx::load)?;
                Plan::new(loaded.model, &loaded.inputs, &loaded.outputs).with_context(at)
            }
            Graph::Lite(graph) => plan_lite(graph).with_context(at),
        }
    }

    /// The lite graph: as read, its shapes checked, or lowered from ONNX.
    ///
    /// # Errors
    /// Every op that has no lite form, together; a tensor that has another shape than its op gives it.
    pub fn lite_graph(&self) -> Result<graph::Model> {
        match &self.graph {
            Graph::Onnx(proto) => {
                let loaded = self.typed(onnx::load_to_lower)?;
                let mut lite = guard::catch_panic("converting the graph", || {
                    lower::lower(&loaded.model, &loaded.inputs, &loaded.outputs)
                })
                .with_context(|| self.path.display().to_string())?;
                let original: Vec<(String, lower::Contents)> = onnx::float_constants(proto)
                    .map(|(name, data)| (name.to_string(), lower::Contents::of_words(&data)))
                    .collect();
                lower::restore_constant_names(&mut lite, &original);
                Ok(lite)
            }
            Graph::Lite(graph) => {
                let mut own = (**graph).clone();
                let allowance = Allowance::for_bytes(constant_bytes(graph));
                let computed =
                    guard::with_allowance("computing the shapes", allowance, move || {
                        raise::check_shapes(&own)?;
                        raise::compute_shapes(&mut own)?;
                        Ok(own)
                    });
                computed.with_context(|| self.path.display().to_string())
            }
        }
    }

    fn typed(
        &self,
        load: fn(Arc<pb::ModelProto>, Option<&Path>) -> Result<onnx::Loaded>,
    ) -> Result<onnx::Loaded> {
        let Graph::Onnx(proto) = &self.graph else { bail!("not an ONNX model") };
        load(proto.clone(), self.path.parent()).with_context(|| self.path.display().to_string())
    }
}

/// A lite graph ready to run.
pub fn plan_lite(graph: &graph::Model) -> Result<Plan> {
    let own = graph.clone();
    let allowance = Allowance::for_bytes(constant_bytes(graph));
    let raised = guard::with_allowance("raising the graph", allowance, move || {
        let mut raised = raise::raise(&own)?;
        raised.model.declutter()?;
        Ok(raised)
    })?;
    let signature = graph.signatures.iter().find(|s| s.subgraph == 0);
    let main = graph.main();
    let names = |ids: &[usize], named: Option<&Vec<(String, usize)>>| -> Vec<String> {
        let name = |id: &usize| {
            let entry = named.and_then(|n| n.iter().find(|(_, t)| t == id));
            entry.map_or(main.tensors[*id].name.clone(), |(name, _)| name.clone())
        };
        ids.iter().map(name).collect()
    };
    let inputs = names(&main.inputs, signature.map(|s| &s.inputs));
    let outputs = names(&main.outputs, signature.map(|s| &s.outputs));
    Plan::new(raised.model, &inputs, &outputs)
}

fn constant_bytes(graph: &graph::Model) -> u64 {
    let tensors = graph.subgraphs.iter().flat_map(|g| &g.tensors);
    tensors.filter_map(|t| t.data.as_ref()).map(|data| data.len() as u64).sum()
}

/// One class name a line.
pub fn read_labels(path: &Path) -> Result<Vec<String>> {
    let text =
        mmap::read_text(path).with_context(|| format!("cannot read labels {}", path.display()))?;
    Ok(text.lines().map(str::to_string).collect())
}
