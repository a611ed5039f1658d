//! `inspect`: what is in a model file, also in one that cannot be run here.

use super::Outcome;
use crate::format::{mmap, tflite};
use crate::model::{Format, Place, Record, locate};
use crate::tract::{onnx, pb};
use crate::{model, read};
use anyhow::{Context, Result};
use serde::Serialize;
use std::path::PathBuf;

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
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct MetadataInfo {
    pub name: String,
    pub bytes: usize,
    /// The contents where they are short text.
    pub text: Option<String>,
}

const LARGEST: usize = 5;

pub fn inspect(path: Option<&std::path::Path>) -> Result<Outcome<InspectReport>> {
    let located = locate(path)?;
    let (path, format, record) = match &located.place {
        Place::File { path, format } => (path.clone(), *format, None),
        Place::Version(folder) => {
            let record = Record::read_verified(folder)?;
            let path = folder.join(&record.primary);
            let onnx = record.primary.ends_with(".onnx");
            (path, if onnx { Format::Onnx } else { Format::Tflite }, Some(record))
        }
    };
    let bytes = mmap::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let length = bytes.len() as u64;
    let report = match format {
        Format::Onnx => onnx::decode_to_look_at(bytes).and_then(|proto| of_onnx(&proto)),
        Format::Tflite => of_tflite(bytes),
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
        parameters: 0,
        parameter_bytes: 0,
        largest: vec![],
        labels: vec![],
        metadata: vec![],
        record: None,
    }
}

fn count_ops<'a>(names: impl Iterator<Item = &'a str>) -> Vec<OpCount> {
    let mut ops: Vec<OpCount> = vec![];
    for name in names {
        match ops.iter_mut().find(|o| o.op == name) {
            Some(op) => op.count += 1,
            None => ops.push(OpCount { op: name.to_string(), count: 1 }),
        }
    }
    ops.sort_by(|a, b| b.count.cmp(&a.count).then(a.op.cmp(&b.op)));
    ops
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
    let operators = file.subgraphs.iter().flat_map(|g| &g.operators);
    let names = operators.map(|operator| {
        let code = file.operator_code(operator);
        match code.custom_code.as_str() {
            "" => code.builtin_code.name(),
            custom => custom,
        }
    });
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
        ops: count_ops(names),
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

fn of_onnx(proto: &pb::ModelProto) -> Result<InspectReport> {
    let graph = proto.graph.as_ref().context("the model holds no graph")?;
    let constants: Vec<TensorInfo> = graph.initializer.iter().map(onnx_tensor).collect();
    let is_constant = |name: &str| graph.initializer.iter().any(|t| t.name == name);
    let inputs = graph.input.iter().filter(|i| !is_constant(&i.name)).map(onnx_port);
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
        ops: count_ops(graph.node.iter().map(|n| n.op_type.as_str())),
        parameters: graph.initializer.iter().map(count).fold(0, u64::saturating_add),
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

fn onnx_tensor(tensor: &pb::TensorProto) -> TensorInfo {
    let dims: Vec<String> = tensor.dims.iter().map(i64::to_string).collect();
    TensorInfo {
        name: tensor.name.clone(),
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
