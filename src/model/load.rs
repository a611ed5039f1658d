//! Loading: a located model → checked graphs and what is known about it.

use super::locate::{Format, Located, Place};
use super::record::{LABELS, Record};
use crate::data::preprocessing::Preprocessing;
use crate::format::mmap;
use crate::graph::{self, PermutedEnd, UnsupportedOps};
use crate::read::TfjsKind;
use crate::runtime::{Plan, Port, Value, Values, WatchedPlan};
use crate::tract::guard::{self, Allowance};
pub use crate::tract::onnx::Loaded as LoadedOnnx;
use crate::tract::{onnx, optimize};
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
    pub format: Format,
    pub bytes: Bytes,
    pub graph: Graph,
    pub labels: Vec<String>,
    pub preprocessing: Option<Preprocessing>,
    /// The ends whose axes are in another order than where a `.tflite` comes from.
    pub permuted: Vec<PermutedEnd>,
    pub record: Option<Record>,
}

/// What a file held.
#[derive(Debug)]
pub enum Graph {
    Onnx(Arc<onnx::OnnxFile>),
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
                let record = Record::read_to_load(folder)?;
                let path = folder.join(&record.primary);
                let Some(format) = Format::of_name(&path) else {
                    bail!("{} is of no kind that can be read", path.display());
                };
                let labels = folder.join(LABELS);
                let listed = record.files.contains_key(LABELS);
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
            permuted: vec![],
            record,
            bytes,
            path,
            format,
        };
        let at = || model.path.display().to_string();
        match format {
            Format::Onnx => {
                let file = onnx::open(model.bytes.clone(), model.path.parent()).with_context(at)?;
                model.graph = Graph::Onnx(Arc::new(file));
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
                model.permuted = description.permuted;
            }
            Format::Keras => {
                let graph = read_keras(model.bytes.clone()).with_context(at)?;
                model.graph = Graph::Lite(Box::new(graph));
            }
            Format::SavedModel | Format::TensorFlowJs => {
                let graph = read_tensorflow(&model.path, format).with_context(at)?;
                model.graph = Graph::Lite(Box::new(graph));
                let labels = model.path.with_file_name("assets").join("labels.txt");
                if model.labels.is_empty() && labels.is_file() {
                    model.labels = read_labels(&labels)?;
                }
            }
        }
        Ok(model)
    }

    /// A model that is not a file yet, from an ONNX file's bytes.
    ///
    /// # Errors
    /// As [`LoadedModel::load`].
    pub fn of_onnx(name: &str, bytes: Bytes) -> Result<LoadedModel> {
        Ok(LoadedModel {
            name: name.into(),
            path: "model.onnx".into(),
            format: Format::Onnx,
            graph: Graph::Onnx(Arc::new(onnx::open(bytes.clone(), None)?)),
            bytes,
            labels: vec![],
            preprocessing: None,
            permuted: vec![],
            record: None,
        })
    }

    /// Gives the inputs' dimension `name` a size.
    ///
    /// # Errors
    /// Names the dimensions there are, where `name` is none of them.
    pub fn set_dimension(&mut self, name: &str, size: usize) -> Result<()> {
        match &mut self.graph {
            Graph::Onnx(file) => onnx::set_dimension(&mut Arc::make_mut(file).proto, name, size),
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
            Graph::Onnx(_) => plan_loaded(self.typed(onnx::load)?).with_context(at),
            Graph::Lite(graph) => plan_lite(graph).with_context(at),
        }
    }

    /// The model with all that its nodes compute.
    pub fn values(&self) -> Result<Values> {
        match &self.graph {
            Graph::Onnx(file) => {
                let folder = self.path.parent();
                let loaded = onnx::load_values(file.clone(), folder)
                    .with_context(|| self.path.display().to_string())?;
                let nodes = file.proto.graph.iter().flat_map(|g| &g.node);
                let values = nodes.flat_map(|node| {
                    let outputs = node.output.iter().enumerate().filter(|(_, o)| !o.is_empty());
                    let outlets = &loaded.outlets;
                    outputs.map(move |(place, output)| {
                        let own = (place == 0 && !node.name.is_empty()).then(|| node.name.clone());
                        let aliases = own.into_iter().chain([output.clone()]).collect();
                        let (name, op) = (output.clone(), node.op_type.clone());
                        let value = Value { name, aliases, op, quantization: None };
                        (value, outlets.get(output).copied())
                    })
                });
                Ok(Values::new(loaded.model.clone(), loaded.inputs.clone(), values))
            }
            Graph::Lite(graph) => values_of_lite(graph),
        }
    }

    /// The lite graph: as read, its shapes checked, or lowered from ONNX; and what was lowered, to run.
    ///
    /// # Errors
    /// Every op that has no lite form, together; a tensor that has another shape than its op gives it.
    pub fn lite_graph(&self) -> Result<(graph::Model, Option<onnx::Loaded>)> {
        match &self.graph {
            Graph::Onnx(file) => {
                let loaded = self.typed(onnx::load_to_lower)?;
                let mut lite = guard::catch_panic("converting the graph", || {
                    lower::lower(&loaded.model, &loaded.inputs, &loaded.outputs)
                })
                .map_err(|error| match error.downcast::<UnsupportedOps>() {
                    Ok(list) => list.renamed(&onnx::op_types(&file.proto)).into(),
                    Err(other) => other,
                })
                .with_context(|| self.path.display().to_string())?;
                self.restore_constant_names(&mut lite);
                Ok((lite, Some(loaded)))
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
                let computed = computed.with_context(|| self.path.display().to_string())?;
                Ok((computed, None))
            }
        }
    }

    /// Gives constants that have the values of one of the ONNX file its name.
    pub fn restore_constant_names(&self, lite: &mut graph::Model) {
        let Graph::Onnx(file) = &self.graph else { return };
        let original: Vec<(String, lower::Contents)> = onnx::float_constants(file)
            .map(|(name, data)| {
                let contents = lower::Contents::of_words(&data);
                mmap::release(&data);
                (name.to_string(), contents)
            })
            .collect();
        lower::restore_constant_names(lite, &original);
    }

    fn typed(
        &self,
        load: fn(Arc<onnx::OnnxFile>, Option<&Path>) -> Result<onnx::Loaded>,
    ) -> Result<onnx::Loaded> {
        let Graph::Onnx(file) = &self.graph else { bail!("not an ONNX model") };
        load(file.clone(), self.path.parent()).with_context(|| self.path.display().to_string())
    }
}

/// A Keras file's graph, all its shapes computed.
pub fn read_keras(bytes: Bytes) -> Result<graph::Model> {
    let allowance = Allowance::for_bytes(bytes.len() as u64);
    guard::with_allowance("reading the layers", allowance, move || {
        let mut graph = read::keras_model(bytes)?;
        raise::check_shapes(&graph)?;
        raise::compute_shapes(&mut graph)?;
        Ok(graph)
    })
}

/// The graph of a SavedModel (`saved_model.pb`) or of TensorFlow.js (`model.json`), all its shapes computed.
pub fn read_tensorflow(path: &Path, format: Format) -> Result<graph::Model> {
    let bytes = bytes_of(path, format);
    let own = path.to_path_buf();
    guard::with_allowance("reading the graph", Allowance::for_bytes(bytes), move || {
        let folder = own.parent().unwrap_or(Path::new(""));
        let mut graph = match format {
            Format::TensorFlowJs => match tfjs_kind_of(&own)? {
                TfjsKind::LayersModel => read::layers_model(&mmap::open(&own)?, folder)?,
                TfjsKind::GraphModel => read::graph_model(&own)?,
            },
            _ => read::saved_model(folder)?,
        };
        raise::check_shapes(&graph)?;
        raise::compute_shapes(&mut graph)?;
        Ok(graph)
    })
}

/// Which of TensorFlow.js' two kinds of model a `model.json` is.
pub fn tfjs_kind_of(path: &Path) -> Result<TfjsKind> {
    read::tfjs_kind(&mmap::open(path)?)
}

/// How many bytes the files of a model have.
pub fn bytes_of(path: &Path, format: Format) -> u64 {
    let files = match format {
        Format::SavedModel => read::saved_model_files(path.parent().unwrap_or(Path::new(""))),
        Format::TensorFlowJs => read::graph_model_files(path),
        Format::Onnx | Format::Tflite | Format::Keras => vec![path.to_path_buf()],
    };
    files.iter().filter_map(|file| Some(std::fs::metadata(file).ok()?.len())).sum()
}

/// An ONNX graph ready to run.
pub fn plan_loaded(loaded: onnx::Loaded) -> Result<Plan> {
    Plan::new(loaded.model, &loaded.inputs, &loaded.outputs)
}

/// A lite graph ready to run.
pub fn plan_lite(graph: &graph::Model) -> Result<Plan> {
    let own = graph.clone();
    let allowance = Allowance::for_bytes(constant_bytes(graph));
    let raised = guard::with_allowance("raising the graph", allowance, move || {
        let mut raised = raise::raise(&own)?;
        optimize::declutter(&mut raised.model)?;
        Ok(raised)
    })?;
    let (inputs, outputs) = names_of_ends(graph);
    let main = graph.main();
    let scales = [&main.inputs, &main.outputs].map(|ends| quantization_of(main, ends));
    let [input_scales, output_scales] = scales;
    let plan = Plan::new(raised.model, &inputs, &outputs)?;
    Ok(plan.with_quantization(input_scales, output_scales))
}

fn quantization_of(graph: &graph::Subgraph, ends: &[usize]) -> Vec<Option<graph::Quantization>> {
    ends.iter().map(|&end| graph.tensors[end].quantization.clone()).collect()
}

/// A plan that shows tensors of the entry graph.
#[derive(Debug)]
pub struct WatchedTensors {
    pub plan: WatchedPlan,
    /// What the outputs are, in their order.
    pub tensors: Vec<graph::TensorId>,
}

/// A plan that shows the values of those of `tensors` that are computed at run time.
pub fn watch_tensors(graph: &graph::Model, tensors: &[graph::TensorId]) -> Result<WatchedTensors> {
    mmap::return_freed_memory();
    let (own, wanted) = (graph.clone(), tensors.to_vec());
    let allowance = Allowance::for_bytes(constant_bytes(graph));
    let (model, tensors) = guard::with_allowance("raising the graph", allowance, move || {
        let mut raised = raise::raise(&own)?;
        let mut found = vec![];
        for tensor in wanted {
            let Some(outlet) = raised.outlets[tensor] else { continue };
            if raised.model.outlet_fact(outlet)?.konst.is_none() {
                found.push((tensor, outlet));
            }
        }
        let (tensors, outlets): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        raised.model.select_output_outlets(&outlets)?;
        optimize::declutter(&mut raised.model)?;
        Ok((raised.model, tensors))
    })?;
    let (inputs, _) = names_of_ends(graph);
    let outputs: Vec<String> =
        tensors.iter().map(|&t| graph.main().tensors[t].name.clone()).collect();
    let plan = WatchedPlan::new(model, &inputs, &outputs)?;
    mmap::return_freed_memory();
    Ok(WatchedTensors { plan, tensors })
}

/// The dimensions of the entry graph's tensors with a batch of one; open ones are `None`.
pub fn shapes_of_one_row(graph: &graph::Model) -> Result<Vec<Vec<Option<usize>>>> {
    guard::catch_panic("raising the graph", || raise::shapes_of_one_row(graph))
}

/// The entry graph's inputs and outputs, as the file has them.
pub fn ports_of_lite(graph: &graph::Model) -> (Vec<Port>, Vec<Port>) {
    let main = graph.main();
    let (inputs, outputs) = names_of_ends(graph);
    let ports = |ids: &[usize], names: Vec<String>| {
        let port = |(&id, name): (&usize, String)| Port {
            name,
            element: main.tensors[id].element,
            shape: main.tensors[id].shape.clone(),
            quantization: main.tensors[id].quantization.clone(),
        };
        ids.iter().zip(names).map(port).collect()
    };
    (ports(&main.inputs, inputs), ports(&main.outputs, outputs))
}

/// The names of the entry graph's inputs and outputs: its signature's, or its tensors'.
pub fn names_of_ends(graph: &graph::Model) -> (Vec<String>, Vec<String>) {
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
    (inputs, names(&main.outputs, signature.map(|s| &s.outputs)))
}

/// A tensor of a converted file has the name of what it was made from, those of fused nodes joined by `;`,
/// and `/nhwc` behind it where the order of axes changed.
fn values_of_lite(graph: &graph::Model) -> Result<Values> {
    let raised = guard::catch_panic("raising the graph", || raise::raise(graph))?;
    let main = graph.main();
    let computed = main.nodes.iter().flat_map(|n| n.outputs.iter().map(move |&t| (n, t)));
    let values: Vec<_> = computed
        .map(|(node, tensor)| {
            let name = main.tensors[tensor].name.clone();
            let aliases = name.split(';').filter(|part| !part.is_empty());
            let aliases = aliases.map(str::to_string).collect();
            let quantization = main.tensors[tensor].quantization.clone();
            let op = node.op.name().to_string();
            let value = Value { name, aliases, op, quantization };
            (value, raised.outlets[tensor])
        })
        .collect();
    let (inputs, _) = names_of_ends(graph);
    let values = Values::new(raised.model, inputs, values.into_iter());
    Ok(values.with_quantization(quantization_of(main, &main.inputs)))
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
