//! TensorFlow.js graph-models: `model.json` with the graph, and the weights in files beside it.

use super::walk::{Boundary, End, lite_graph, widened};
use crate::format::mmap;
use crate::format::tensorflow::{
    Attribute, DataType, GraphDef, NodeDef, TensorValue, graph_of_json, tensor_info_of_json,
};
use crate::graph::Model;
use anyhow::{Context, Result, anyhow, bail, ensure};
use bytes::Bytes;
use serde_json::Value;
use std::collections::{HashMap, HashSet};
use std::path::{Component, Path, PathBuf};

/// `model.json` and the weight files that it names.
pub fn graph_model_files(path: &Path) -> Vec<PathBuf> {
    let mut files = vec![path.to_path_buf()];
    if let Ok(json) = parse(path) {
        let shards = groups(&json).flat_map(|group| paths(group).unwrap_or_default());
        files.extend(shards.map(|name| path.with_file_name(name)));
    }
    files
}

/// The graph of the `model.json` at `path`, its weights as float32 where they are quantized.
///
/// # Errors
/// What is wrong with the file, the weight file that is missing or short; or every op that has no lite form.
pub fn graph_model(path: &Path) -> Result<Model> {
    let json = parse(path)?;
    let topology = &json["modelTopology"];
    ensure!(
        topology["node"].is_array(),
        "not a TensorFlow.js model: it has no modelTopology with nodes"
    );
    let initializer = json["modelInitializer"]["node"].as_array();
    ensure!(
        initializer.is_none_or(Vec::is_empty),
        "it fills hash tables before it runs (modelInitializer), which has no lite form"
    );
    let graph = graph_of_json(topology).map_err(|e| anyhow!("modelTopology: {e}"))?;
    let weights = weights(path, &json)?;
    let boundary = boundary(&json, &graph)?;
    let value_of = |node: &NodeDef| -> Result<Option<TensorValue>> {
        match weights.get(&node.name) {
            Some(weight) => {
                let value = weight.value().with_context(|| format!("weight '{}'", node.name))?;
                Ok(Some(value))
            }
            None if node.op == "Const" => {
                let listed = match node.attr.get("value").and_then(|attr| attr.value.as_ref()) {
                    Some(Attribute::Tensor(tensor)) => {
                        let values =
                            [tensor.float_val.len(), tensor.int_val.len(), tensor.int64_val.len()];
                        !tensor.tensor_content.is_empty() || values.iter().sum::<usize>() > 0
                    }
                    _ => false,
                };
                ensure!(listed, "its value is in no weight file");
                Ok(None)
            }
            None => bail!("TensorFlow.js has no variables"),
        }
    };
    lite_graph(&graph, &boundary, &value_of)
}

fn parse(path: &Path) -> Result<Value> {
    let text = mmap::read_text(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_str(&text).map_err(|e| anyhow!("not a TensorFlow.js model, or damaged ({e})"))
}

fn groups(json: &Value) -> impl Iterator<Item = &Value> {
    json["weightsManifest"].as_array().into_iter().flatten()
}

/// The names of a group's files, all of them below the folder of `model.json`.
fn paths<'a>(group: &'a Value) -> Result<Vec<&'a str>> {
    let listed = group["paths"].as_array().context("weightsManifest lists no paths")?;
    let plain = |part: Component| matches!(part, Component::Normal(_));
    let is_below = |path: &&str| {
        !path.is_empty() && !path.contains('\\') && Path::new(path).components().all(plain)
    };
    let name = |path: &'a Value| {
        let name = path.as_str().filter(is_below);
        name.with_context(|| {
            format!("the weight file {path} is not below the folder of model.json")
        })
    };
    listed.iter().map(name).collect()
}

/// A weight's bytes as they are in the files.
#[derive(Debug)]
struct Weight {
    dtype: DataType,
    shape: Vec<usize>,
    data: Bytes,
    quantized: Option<Quantized>,
}

/// How a stored number stands for a weight.
#[derive(Debug, Clone, Copy)]
enum Quantized {
    Half,
    /// `number · scale + min`; of one byte, or two.
    Linear {
        scale: f64,
        min: f64,
        width: usize,
    },
}

fn weights(path: &Path, json: &Value) -> Result<HashMap<String, Weight>> {
    let mut weights = HashMap::new();
    for group in groups(json) {
        let names = paths(group)?;
        let mut shards = vec![];
        for name in &names {
            let shard = path.with_file_name(name);
            shards.push(mmap::open(&shard).with_context(|| {
                format!(
                    "cannot read the weight file {}; is the folder copied whole?",
                    shard.display()
                )
            })?);
        }
        let whole: Bytes = match shards.as_slice() {
            [one] => one.clone(),
            several => several.concat().into(),
        };
        let mut rest = whole.clone();
        for weight in group["weights"].as_array().into_iter().flatten() {
            let name = weight["name"].as_str().context("a weight without a name")?;
            let read = read_weight(weight).with_context(|| format!("weight '{name}'"))?;
            let (weight, length) = read;
            ensure!(
                length <= rest.len(),
                "weight '{name}' takes {length} bytes where {} are left of the {} in {}; is a weight file cut short?",
                rest.len(),
                whole.len(),
                names.join(", ")
            );
            let data = rest.split_to(length);
            weights.insert(name.to_string(), Weight { data, ..weight });
        }
    }
    Ok(weights)
}

/// A weight without its bytes, and how many those are.
fn read_weight(weight: &Value) -> Result<(Weight, usize)> {
    let size = |size: &Value| size.as_u64().and_then(|size| usize::try_from(size).ok());
    let shape: Option<Vec<usize>> =
        weight["shape"].as_array().context("no shape")?.iter().map(size).collect();
    let shape = shape.context("an impossible shape")?;
    let count = shape.iter().try_fold(1usize, |count, &size| count.checked_mul(size));
    let count = count.context("an impossible shape")?;
    let dtype = match weight["dtype"].as_str().unwrap_or_default() {
        "float32" => DataType::Float,
        "int32" => DataType::Int32,
        "bool" => DataType::Bool,
        "uint8" => DataType::Uint8,
        "float16" => DataType::Half,
        other => bail!("values of type '{other}' are not supported"),
    };
    let quantization = &weight["quantization"];
    let quantized = match quantization["dtype"].as_str() {
        None if quantization.is_null() => None,
        Some("float16") => Some(Quantized::Half),
        Some(name @ ("uint8" | "uint16")) => {
            let number = |key: &str| quantization[key].as_f64().filter(|n| n.is_finite());
            let (scale, min) = (number("scale"), number("min"));
            let [Some(scale), Some(min)] = [scale, min] else {
                bail!("{name} without its scale and min")
            };
            Some(Quantized::Linear { scale, min, width: if name == "uint8" { 1 } else { 2 } })
        }
        other => bail!("quantization to {} is not supported", other.unwrap_or("nothing")),
    };
    let width = match quantized {
        Some(Quantized::Half) => 2,
        Some(Quantized::Linear { width, .. }) => width,
        None => dtype.width().unwrap_or(1),
    };
    ensure!(
        quantized.is_none() || matches!(dtype, DataType::Float | DataType::Int32),
        "quantized values that are neither float32 nor int32"
    );
    let length = count.checked_mul(width).context("an impossible shape")?;
    Ok((Weight { dtype, shape, data: Bytes::new(), quantized }, length))
}

impl Weight {
    fn value(&self) -> Result<TensorValue> {
        let Weight { dtype, shape, data, .. } = self;
        let data = match self.quantized {
            None => data.clone(),
            Some(Quantized::Half) => widened(data),
            Some(Quantized::Linear { scale, min, width }) => {
                let number = |bytes: &[u8]| match bytes {
                    [low, high] => f64::from(u16::from_le_bytes([*low, *high])),
                    bytes => f64::from(bytes[0]),
                };
                let value = data.chunks_exact(width).map(|bytes| number(bytes) * scale + min);
                let bytes: Vec<u8> = match dtype {
                    DataType::Int32 => {
                        value.flat_map(|v| (v.round() as i32).to_le_bytes()).collect()
                    }
                    _ => value.flat_map(|v| (v as f32).to_le_bytes()).collect(),
                };
                bytes.into()
            }
        };
        Ok(TensorValue { dtype: *dtype, shape: shape.clone(), data })
    }
}

/// The ends that the file names; otherwise all that is given, and all that nothing reads.
fn boundary(json: &Value, graph: &GraphDef) -> Result<Boundary> {
    let named = [&json["signature"], &json["userDefinedMetadata"]["signature"]];
    let signature = named.into_iter().find(|value| value["outputs"].is_object());
    let Some(signature) = signature else { return Ok(open_ends(graph)) };
    let ends = |key: &str| -> Result<Vec<End>> {
        let entries = signature[key].as_object().into_iter().flatten();
        let mut ends: Vec<End> = entries
            .map(|(name, value)| {
                let info = tensor_info_of_json(value).map_err(|e| anyhow!("'{name}': {e}"))?;
                let value = if info.name.is_empty() { name.clone() } else { info.name };
                let name = name.strip_suffix(":0").unwrap_or(name).to_string();
                Ok(End { name, value, dtype: info.dtype, shape: info.tensor_shape })
            })
            .collect::<Result<_>>()
            .context("signature")?;
        ends.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(ends)
    };
    let (inputs, outputs) = (ends("inputs")?, ends("outputs")?);
    ensure!(!outputs.is_empty(), "its signature has no outputs");
    Ok(Boundary { signature: "serving_default".into(), inputs, outputs })
}

fn open_ends(graph: &GraphDef) -> Boundary {
    let end = |node: &NodeDef| End {
        name: node.name.clone(),
        value: node.name.clone(),
        dtype: 0,
        shape: None,
    };
    let read: HashSet<&str> = graph
        .node
        .iter()
        .flat_map(|node| &node.input)
        .map(|input| input.trim_start_matches('^').split(':').next().unwrap_or_default())
        .collect();
    let is_input = |node: &&NodeDef| node.op == "Placeholder";
    let is_end = |node: &&NodeDef| {
        !read.contains(node.name.as_str())
            && !matches!(node.op.as_str(), "Placeholder" | "Const" | "NoOp")
    };
    Boundary {
        signature: "serving_default".into(),
        inputs: graph.node.iter().filter(is_input).map(end).collect(),
        outputs: graph.node.iter().filter(is_end).map(end).collect(),
    }
}
