//! LiteGraph → a TensorFlow.js graph model: `model.json`, and the weights in shards beside it.

mod json;
mod weights;

use super::graphdef::ConstantValues::Elsewhere;
use super::graphdef::{
    End, GraphDefModel, References, Replaced, VERSIONS, function_def, function_name, node_defs,
    tensor_shape,
};
use crate::ops::data_type;
use anyhow::Result;
use json::Fields;
use serde::Serialize;
use serde_json::{Map, Value, json};
use std::fs;
use std::path::Path;
pub use weights::{KeptWeight, StorageReport, WeightPlan, WeightStorage};

/// What TensorFlow's own converter gives a file of weights.
pub const DEFAULT_SHARD_SIZE: usize = 4 << 20;

/// The page of `--demo`, for any classifier of pictures: it learns what the model is from `model.json`.
const DEMO: &str = include_str!("tfjs/demo.html");

/// What a folder holds beside the graph.
#[derive(Debug, Clone, Default)]
pub struct TfjsOptions {
    /// Bytes of one file of weights.
    pub shard_size: usize,
    pub metadata: Map<String, Value>,
    /// A page that runs the model.
    pub demo: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    format: &'static str,
    generated_by: String,
    converted_by: String,
    signature: Ends,
    #[serde(skip_serializing_if = "Map::is_empty")]
    user_defined_metadata: Map<String, Value>,
    model_topology: Value,
    weights_manifest: [Group; 1],
}

#[derive(Serialize)]
struct Ends {
    inputs: Fields,
    outputs: Fields,
}

#[derive(Serialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Value>,
}

/// Writes the files into the empty `folder` and returns how many bytes they have. The same model gives the same
/// bytes.
///
/// # Errors
/// A value that TensorFlow.js cannot hold, or the file system.
pub fn write_tfjs(
    folder: &Path,
    model: &GraphDefModel,
    weights: &WeightPlan,
    options: &TfjsOptions,
) -> Result<u64> {
    let (paths, specifications, mut bytes) = weights.write(folder, options.shard_size.max(1))?;
    let main = &model.functions[0];
    let nodes = node_defs(main, References::InGraph, Elsewhere, &Replaced::new())?;
    let mut topology = json!({
        "node": nodes.iter().map(json::node).collect::<Vec<_>>(),
        "versions": {"producer": VERSIONS.producer, "minConsumer": VERSIONS.min_consumer},
    });
    let called = model.functions.iter().enumerate().skip(1);
    let library: Result<Vec<Value>> = called
        .map(|(index, function)| {
            Ok(json::function(&function_def(function, function_name(index), Elsewhere)?))
        })
        .collect();
    let library = library?;
    if !library.is_empty() {
        topology["library"] = json!({"function": library});
    }
    let ends = |ends: &[End], values: &[_]| -> Result<Fields> {
        let end = |(end, value): (&End, &_)| {
            let info = json!({
                "name": format!("{}:0", References::InGraph.of(main, *value)),
                "dtype": json::type_name(data_type(end.element)?),
                "tensorShape": json::shape(&tensor_shape(&end.shape)),
            });
            Ok((end.name.clone(), info))
        };
        Ok(Fields(ends.iter().zip(values).map(end).collect::<Result<_>>()?))
    };
    let version = env!("CARGO_PKG_VERSION");
    let document = Document {
        format: "graph-model",
        generated_by: format!("mlctl {version}"),
        converted_by: format!("mlctl {version}"),
        signature: Ends {
            inputs: ends(&model.inputs, &main.inputs)?,
            outputs: ends(&model.outputs, &main.outputs)?,
        },
        user_defined_metadata: options.metadata.clone(),
        model_topology: topology,
        weights_manifest: [Group { paths, weights: specifications }],
    };
    let text = serde_json::to_vec(&document)?;
    fs::write(folder.join("model.json"), &text)?;
    bytes += text.len() as u64;
    if options.demo {
        fs::write(folder.join("index.html"), DEMO)?;
        bytes += DEMO.len() as u64;
    }
    Ok(bytes)
}
