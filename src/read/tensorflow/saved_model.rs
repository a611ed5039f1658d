//! SavedModel folders: `saved_model.pb`, and what its variables are in `variables/`.

use super::variables::Variables;
use super::walk::{Boundary, End, checked, lite_graph};
use crate::format::mmap;
use crate::format::tensorflow::{
    BundleReader, MetaGraph, NodeDef, SavedModel, Signature, TensorInfo, TensorValue,
};
use crate::graph::Model;
use anyhow::{Context, Result, anyhow, bail, ensure};
use prost::Message;
use std::path::{Path, PathBuf};

const FILE: &str = "saved_model.pb";

const SIGNATURE: &str = "serving_default";

/// The signature that TensorFlow gives objects without one; it computes nothing.
const INIT: &str = "__saved_model_init_op";

/// The files of a SavedModel that hold its graph and weights.
pub fn saved_model_files(folder: &Path) -> Vec<PathBuf> {
    let mut files = vec![folder.join(FILE)];
    if let Ok(entries) = std::fs::read_dir(folder.join("variables")) {
        let mut found: Vec<PathBuf> = entries.flatten().map(|entry| entry.path()).collect();
        found.sort();
        files.extend(found);
    }
    files
}

/// The graph behind a signature of the SavedModel in `folder`: `serving_default`, or the only one.
///
/// # Errors
/// The folder is damaged, has no such signature, or ops that have no lite form: all of them together.
pub fn saved_model(folder: &Path) -> Result<Model> {
    let path = folder.join(FILE);
    let bytes = mmap::open(&path).with_context(|| format!("cannot read {}", path.display()))?;
    ensure!(!bytes.is_empty(), "the file is empty; a SavedModel was expected");
    let saved =
        SavedModel::decode(bytes).map_err(|e| anyhow!("not a SavedModel, or damaged ({e})"))?;
    let meta_graph = serving_graph(&saved)?;
    let graph = meta_graph.graph_def.as_ref().context("it holds no graph")?;
    let (name, signature) = choose(meta_graph)?;
    let prefix = folder.join("variables").join("variables");
    let variables = match folder.join("variables/variables.index").exists() {
        true => Variables::of(meta_graph, graph, bundle(&prefix)?),
        false => Variables::default(),
    };
    let ends = |ends: &std::collections::BTreeMap<String, TensorInfo>| -> Result<Vec<End>> {
        ends.iter().map(|(name, info)| end(name, info)).collect()
    };
    let boundary = Boundary {
        signature: name.to_string(),
        inputs: ends(&signature.inputs)?,
        outputs: ends(&signature.outputs)?,
    };
    ensure!(!boundary.outputs.is_empty(), "signature '{name}' has no outputs");
    let value_of = |node: &NodeDef| -> Result<Option<TensorValue>> {
        if node.op == "Const" {
            return Ok(None);
        }
        let value = variables.value(node)?;
        checked(value.dtype, &value.shape, value.data).map(Some)
    };
    lite_graph(graph, &boundary, &value_of)
}

fn bundle(prefix: &Path) -> Result<BundleReader> {
    BundleReader::open(prefix).map_err(|e| anyhow!("{}.index: {e}", prefix.display()))
}

/// The graph with the tag `serve`, or the only one.
fn serving_graph(saved: &SavedModel) -> Result<&MetaGraph> {
    let tags =
        |graph: &MetaGraph| graph.meta_info_def.as_ref().map_or(vec![], |info| info.tags.clone());
    let serves = |graph: &&MetaGraph| tags(graph) == ["serve"];
    match (saved.meta_graphs.iter().find(serves), saved.meta_graphs.as_slice()) {
        (Some(found), _) => Ok(found),
        (None, [one]) => Ok(one),
        (None, []) => bail!("it holds no graph; is the file a SavedModel?"),
        (None, several) => {
            let listed: Vec<String> = several.iter().map(|g| format!("{:?}", tags(g))).collect();
            bail!("none of its graphs is tagged 'serve': {}", listed.join(", "))
        }
    }
}

fn choose(meta_graph: &MetaGraph) -> Result<(&str, &Signature)> {
    let signatures = &meta_graph.signature_def;
    if let Some((name, signature)) = signatures.get_key_value(SIGNATURE) {
        return Ok((name, signature));
    }
    let usable: Vec<(&String, &Signature)> = signatures
        .iter()
        .filter(|(name, signature)| *name != INIT && !signature.outputs.is_empty())
        .collect();
    match usable.as_slice() {
        [(name, signature)] => Ok((name, signature)),
        [] => bail!(
            "it has no signature, so what its inputs and outputs are is not known; save it with \
             model.export(folder), or tf.saved_model.save(model, folder, signatures=…)"
        ),
        several => {
            let names: Vec<&str> = several.iter().map(|(name, _)| name.as_str()).collect();
            bail!(
                "it has the signatures {}, and no '{SIGNATURE}'; save it with that one too",
                names.join(", ")
            )
        }
    }
}

fn end(name: &str, info: &TensorInfo) -> Result<End> {
    ensure!(
        !info.name.is_empty(),
        "'{name}' of the signature is a sparse or composite value, which is not supported"
    );
    let (value, dtype, shape) = (info.name.clone(), info.dtype, info.tensor_shape.clone());
    Ok(End { name: name.into(), value, dtype, shape })
}
