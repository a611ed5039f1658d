//! `inspect`: what is in a model file, also in one that cannot be run here.

mod macs;

use super::Outcome;
use crate::format::hdf5::is_hdf5;
use crate::format::{mmap, tflite};
use crate::model::{Format, Place, Record, locate};
use crate::read::TfjsKind;
use crate::tract::{onnx, pb};
use crate::write::{Description, write_tflite};
use crate::{model, read};
use anyhow::{Context, Result};
use macs::Macs;
use serde::Serialize;
use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InspectReport {
    pub path: PathBuf,
    pub format: String,
    pub bytes: u64,
    pub description: String,
    pub inputs: Vec<TensorInfo>,
    pub outputs: Vec<TensorInfo>,
    pub signatures: Vec<SignatureInfo>,
    pub ops: Vec<OpCount>,
    /// Multiply-accumulates of all products and convolutions with a batch of one; absent where the shapes do
    /// not tell, and for what cannot be loaded.
    pub macs: Option<u64>,
    /// The graphs of the file, the entry first.
    pub graphs: Vec<GraphInfo>,
    /// Constants by their type, the largest first.
    pub types: Vec<TypeCount>,
    /// Numbers in constants.
    pub parameters: u64,
    pub parameter_bytes: u64,
    /// The largest constants, the largest first.
    pub largest: Vec<TensorInfo>,
    pub labels: Vec<String>,
    pub metadata: Vec<MetadataInfo>,
    /// Of a version directory.
    pub record: Option<Record>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TensorInfo {
    pub name: String,
    #[serde(rename = "type")]
    pub element: String,
    pub shape: String,
    pub quantization: Option<String>,
    pub bytes: Option<u64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SignatureInfo {
    pub key: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OpCount {
    pub op: String,
    pub count: usize,
    /// Multiply-accumulates, absent where not known.
    pub macs: Option<u64>,
    /// Of constants, each counted where it is read first.
    pub constant_bytes: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct GraphInfo {
    pub name: String,
    pub ops: usize,
    pub inputs: usize,
    pub outputs: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TypeCount {
    #[serde(rename = "type")]
    pub element: String,
    pub tensors: usize,
    pub bytes: u64,
}

/// An op as it is counted.
struct OpUse<'a> {
    name: String,
    macs: Macs,
    /// Names of the constants it reads and their bytes.
    constants: Vec<(&'a str, u64)>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetadataInfo {
    pub name: String,
    pub bytes: usize,
    /// The contents where they are short text.
    pub text: Option<String>,
}

const LARGEST: usize = 5;

pub fn inspect(path: Option<&Path>) -> Result<Outcome<InspectReport>> {
    let located = locate(path)?;
    let (path, format, record) = match &located.place {
        Place::File { path, format } => (path.clone(), *format, None),
        Place::Version(folder) => {
            let record = Record::read_verified(folder)?;
            let path = folder.join(&record.primary);
            let format = Format::of_name(&path).unwrap_or(Format::Tflite);
            (path, format, Some(record))
        }
    };
    let bytes = mmap::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let length = model::bytes_of(&path, format);
    let report = match format {
        Format::Onnx => {
            onnx::decode_to_look_at(bytes).and_then(|proto| of_onnx(proto, path.parent()))
        }
        Format::Tflite => of_tflite(bytes),
        Format::Keras => of_keras(bytes),
        Format::SavedModel | Format::TensorFlowJs => of_tensorflow(&path, format),
    };
    let mut report = report.with_context(|| path.display().to_string())?;
    if let (Place::Version(folder), Some(_)) = (&located.place, &record) {
        let labels = folder.join("assets/labels.txt");
        if labels.is_file() {
            report.labels = model::read_labels(&labels)?;
        }
    }
    Ok(Outcome::Done(InspectReport { path, bytes: length, record, ..report }))
}

fn empty(format: String) -> InspectReport {
    InspectReport {
        path: PathBuf::new(),
        format,
        bytes: 0,
        description: String::new(),
        inputs: vec![],
        outputs: vec![],
        signatures: vec![],
        ops: vec![],
        macs: None,
        graphs: vec![],
        types: vec![],
        parameters: 0,
        parameter_bytes: 0,
        largest: vec![],
        labels: vec![],
        metadata: vec![],
        record: None,
    }
}

fn count_ops(uses: Vec<OpUse>) -> Vec<OpCount> {
    let mut ops: HashMap<String, OpCount> = HashMap::new();
    let mut read: HashSet<&str> = HashSet::new();
    for OpUse { name, macs, constants } in uses {
        let fresh = constants.into_iter().filter(|(name, _)| read.insert(name));
        let bytes: u64 = fresh.map(|(_, bytes)| bytes).sum();
        let empty = || OpCount { op: name.clone(), count: 0, macs: Some(0), constant_bytes: 0 };
        let op = ops.entry(name.clone()).or_insert_with(empty);
        op.count += 1;
        op.macs = op.macs.zip(macs).map(|(a, b)| a.saturating_add(b));
        op.constant_bytes += bytes;
    }
    let mut ops: Vec<OpCount> = ops.into_values().collect();
    ops.sort_by(|a, b| b.count.cmp(&a.count).then(a.op.cmp(&b.op)));
    ops
}

fn total_macs(ops: &[OpCount]) -> Option<u64> {
    ops.iter().try_fold(0u64, |total, op| total.checked_add(op.macs?))
}

fn count_types(constants: &[TensorInfo]) -> Vec<TypeCount> {
    let mut types: Vec<TypeCount> = vec![];
    for constant in constants {
        let bytes = constant.bytes.unwrap_or(0);
        match types.iter_mut().find(|t| t.element == constant.element) {
            Some(found) => {
                found.tensors += 1;
                found.bytes += bytes;
            }
            None => types.push(TypeCount { element: constant.element.clone(), tensors: 1, bytes }),
        }
    }
    types.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.element.cmp(&b.element)));
    types
}

fn keep_largest(mut tensors: Vec<TensorInfo>) -> Vec<TensorInfo> {
    tensors.sort_by(|a, b| b.bytes.cmp(&a.bytes).then(a.name.cmp(&b.name)));
    tensors.truncate(LARGEST);
    tensors
}

fn of_tflite(bytes: bytes::Bytes) -> Result<InspectReport> {
    let file = read::parse_tflite(bytes.clone())?;
    let described = read::description(&file, &bytes);
    let info = |tensor: &tflite::Tensor| tflite_tensor(&file, tensor);
    let main = file.subgraphs.first().context("the file holds no graph")?;
    let ends = |ids: &[i32]| -> Vec<TensorInfo> {
        ids.iter().filter_map(|&i| main.tensors.get(usize::try_from(i).ok()?)).map(info).collect()
    };
    let recomputed = read::lite_graph(&file).and_then(|g| model::shapes_of_one_row(&g)).ok();
    let mut uses = vec![];
    for (index, graph) in file.subgraphs.iter().enumerate() {
        let of_file = || macs::shapes_of_file(graph);
        let shapes = recomputed.clone().filter(|_| index == 0).unwrap_or_else(of_file);
        for operator in &graph.operators {
            let code = file.operator_code(operator);
            let read =
                operator.inputs.iter().filter_map(|&i| graph.tensors.get(usize::try_from(i).ok()?));
            let read = read.filter_map(|t| Some((t.name.as_str(), file.constant(t)?.len() as u64)));
            uses.push(OpUse {
                name: match code.custom_code.as_str() {
                    "" => code.builtin_code.name().to_string(),
                    custom => custom.to_string(),
                },
                macs: macs::of_operator(&file, &shapes, operator),
                constants: read.collect(),
            });
        }
    }
    let ops = count_ops(uses);
    let constants = file.subgraphs.iter().flat_map(|g| &g.tensors);
    let constants: Vec<&tflite::Tensor> =
        constants.filter(|t| file.constant(t).is_some()).collect();
    let names_of = |maps: &[tflite::TensorMap]| maps.iter().map(|m| m.name.clone()).collect();
    let metadata = file.metadata.iter().map(|entry| {
        let content = file.metadata(&entry.name).cloned().unwrap_or_default();
        let text = std::str::from_utf8(&content).ok().map(|t| t.trim_end_matches('\0'));
        let printable =
            |t: &&str| t.len() <= 300 && !t.is_empty() && !t.chars().any(char::is_control);
        MetadataInfo {
            name: entry.name.clone(),
            bytes: content.len(),
            text: text.filter(printable).map(str::to_string),
        }
    });
    Ok(InspectReport {
        description: file.description.clone(),
        inputs: ends(&main.inputs),
        outputs: ends(&main.outputs),
        signatures: file
            .signature_defs
            .iter()
            .map(|s| SignatureInfo {
                key: s.signature_key.clone(),
                inputs: names_of(&s.inputs),
                outputs: names_of(&s.outputs),
            })
            .collect(),
        macs: total_macs(&ops),
        ops,
        graphs: file
            .subgraphs
            .iter()
            .map(|g| GraphInfo {
                name: g.name.clone(),
                ops: g.operators.len(),
                inputs: g.inputs.len(),
                outputs: g.outputs.len(),
            })
            .collect(),
        types: count_types(&constants.iter().map(|t| info(t)).collect::<Vec<_>>()),
        parameters: constants.iter().filter_map(|t| t.element_count()).sum(),
        parameter_bytes: constants
            .iter()
            .filter_map(|t| file.constant(t))
            .map(|b| b.len() as u64)
            .sum(),
        largest: keep_largest(constants.iter().map(|t| info(t)).collect()),
        labels: described.labels,
        metadata: metadata.collect(),
        ..empty(format!("TFLite (schema version {})", tflite::SCHEMA_VERSION))
    })
}

/// The graph that a Keras file becomes, before it is optimized.
fn of_keras(bytes: bytes::Bytes) -> Result<InspectReport> {
    let format = if is_hdf5(&bytes) { "Keras (HDF5)" } else { "Keras" };
    of_graph(&model::read_keras(bytes)?, format)
}

fn of_tensorflow(path: &Path, format: Format) -> Result<InspectReport> {
    let graph = model::read_tensorflow(path, format)?;
    let name = match format {
        Format::TensorFlowJs => match model::tfjs_kind_of(path)? {
            TfjsKind::LayersModel => "TensorFlow.js layers-model",
            TfjsKind::GraphModel => "TensorFlow.js graph-model",
        },
        _ => "TensorFlow SavedModel",
    };
    let labels = path.with_file_name("assets").join("labels.txt");
    let labels = if labels.is_file() { model::read_labels(&labels)? } else { vec![] };
    Ok(InspectReport { labels, ..of_graph(&graph, name)? })
}

fn of_graph(graph: &crate::graph::Model, format: &str) -> Result<InspectReport> {
    let mut file = vec![];
    write_tflite(graph, &Description::default(), &mut file)?;
    let report = of_tflite(file.into())?;
    Ok(InspectReport { format: format.into(), metadata: vec![], ..report })
}

fn tflite_tensor(file: &tflite::Model, tensor: &tflite::Tensor) -> TensorInfo {
    let signature = Some(&tensor.shape_signature).filter(|s| !s.is_empty());
    let dims: Vec<String> = signature
        .unwrap_or(&tensor.shape)
        .iter()
        .map(|&d| if d < 0 { "?".to_string() } else { d.to_string() })
        .collect();
    let quantization = tensor.quantization.as_ref().and_then(|q| match q.scale.as_slice() {
        [] => None,
        [scale] => {
            Some(format!("scale {scale}, zero point {}", q.zero_point.first().unwrap_or(&0)))
        }
        scales => Some(format!("{} scales over axis {}", scales.len(), q.quantized_dimension)),
    });
    TensorInfo {
        name: tensor.name.clone(),
        element: tensor.tensor_type.name().to_ascii_lowercase(),
        shape: format!("[{}]", dims.join(", ")),
        quantization,
        bytes: file.constant(tensor).map(|b| b.len() as u64),
    }
}

fn of_onnx(proto: pb::ModelProto, folder: Option<&Path>) -> Result<InspectReport> {
    let graph = proto.graph.as_ref().context("the model holds no graph")?;
    let held = onnx::constants(graph);
    let constants: Vec<TensorInfo> =
        held.iter().map(|(name, tensor)| onnx_tensor(name, tensor)).collect();
    let sizes: HashMap<&str, u64> =
        constants.iter().map(|t| (t.name.as_str(), t.bytes.unwrap_or(0))).collect();
    let initialized: HashSet<&str> = graph.initializer.iter().map(|t| t.name.as_str()).collect();
    let inputs = graph.input.iter().filter(|i| !initialized.contains(i.name.as_str()));
    let inputs = inputs.map(onnx_port);
    let graphs = onnx::graphs(graph);
    let nodes = || graphs.iter().flat_map(|g| &g.node);
    let is_product = |n: &pb::NodeProto| macs::of_node(n, &HashMap::new()).is_none();
    let mut shapes = match nodes().any(is_product) {
        true => onnx::shapes_of_one_row(proto.clone(), folder).unwrap_or_default(),
        false => HashMap::new(),
    };
    for (name, tensor) in &held {
        let dims = tensor.dims.iter().map(|&d| usize::try_from(d).ok());
        shapes.insert(name.to_string(), dims.collect());
    }
    let uses = nodes().map(|node| OpUse {
        name: match node.domain.as_str() {
            "" | "ai.onnx" => node.op_type.clone(),
            domain => format!("{domain}.{}", node.op_type),
        },
        macs: macs::of_node(node, &shapes),
        constants: node
            .input
            .iter()
            .filter_map(|name| Some((name.as_str(), *sizes.get(name.as_str())?)))
            .collect(),
    });
    let ops = count_ops(uses.collect());
    let count = |t: &pb::TensorProto| {
        t.dims.iter().fold(1u64, |count, &d| count.saturating_mul(d.max(0) as u64))
    };
    let domains = proto.opset_import.iter().map(|o| match o.domain.as_str() {
        "" => format!("opset {}", o.version),
        domain => format!("{domain} {}", o.version),
    });
    let domains: Vec<String> = domains.collect();
    let metadata = proto.metadata_props.iter().map(|entry| MetadataInfo {
        name: entry.key.clone(),
        bytes: entry.value.len(),
        text: Some(entry.value.clone()).filter(|t| t.len() <= 300),
    });
    Ok(InspectReport {
        description: format!("{} {}", proto.producer_name, proto.producer_version)
            .trim()
            .to_string(),
        inputs: inputs.collect(),
        outputs: graph.output.iter().map(onnx_port).collect(),
        macs: total_macs(&ops),
        ops,
        graphs: graphs
            .iter()
            .map(|g| GraphInfo {
                name: g.name.clone(),
                ops: g.node.len(),
                inputs: g.input.len(),
                outputs: g.output.len(),
            })
            .collect(),
        types: count_types(&constants),
        parameters: held.iter().map(|(_, t)| count(t)).fold(0, u64::saturating_add),
        parameter_bytes: constants.iter().filter_map(|t| t.bytes).sum(),
        largest: keep_largest(constants),
        metadata: metadata.collect(),
        ..empty(format!("ONNX (IR {}, {})", proto.ir_version, domains.join(", ")))
    })
}

fn onnx_element(code: i32) -> String {
    let name = onnx::element_name(code);
    name.unwrap_or_else(|| format!("type {code}"))
}

fn onnx_tensor(name: &str, tensor: &pb::TensorProto) -> TensorInfo {
    let dims: Vec<String> = tensor.dims.iter().map(i64::to_string).collect();
    TensorInfo {
        name: name.to_string(),
        element: onnx_element(tensor.data_type),
        shape: format!("[{}]", dims.join(", ")),
        quantization: None,
        bytes: Some(onnx::data_bytes(tensor)),
    }
}

fn onnx_port(port: &pb::ValueInfoProto) -> TensorInfo {
    let (element, shape) = onnx::port_type(port).unwrap_or((0, vec![]));
    TensorInfo {
        name: port.name.clone(),
        element: onnx_element(element),
        shape: format!("[{}]", shape.join(", ")),
        quantization: None,
        bytes: None,
    }
}
