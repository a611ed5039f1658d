//! Which value in the bundle a variable has: what the graph itself would restore it from.

use super::flatten::{FlatNode, FlatValue, flatten};
use crate::format::tensorflow::{
    Attribute, BundleReader, BundleTensor, CheckpointedObjects, GraphDef, MetaGraph, NodeDef,
};
use anyhow::{Context, Result, anyhow};
use prost::Message;
use std::collections::{HashMap, HashSet};

/// Variables and their values.
#[derive(Debug, Default)]
pub struct Variables {
    bundle: Option<BundleReader>,
    /// By the variable's node.
    keys: HashMap<String, String>,
    /// By the variable's name, from the bundle's list of objects.
    named: HashMap<String, String>,
}

/// Objects of a checkpoint that its list may have.
const OBJECTS: &str = "_CHECKPOINTABLE_OBJECT_GRAPH";

impl Variables {
    /// The variables of a graph whose bundle is `bundle`.
    pub fn of(meta_graph: &MetaGraph, graph: &GraphDef, bundle: BundleReader) -> Variables {
        let restore = meta_graph.saver_def.as_ref().map(|saver| saver.restore_op_name.as_str());
        // where the nodes that restore are of a kind not known here, names are left
        let keys = restore.and_then(|restore| restored(graph, restore).ok()).unwrap_or_default();
        let named = object_names(&bundle).unwrap_or_default();
        Variables { bundle: Some(bundle), keys, named }
    }

    /// The value of the variable that `node` is.
    ///
    /// # Errors
    /// It is not in the bundle, or damaged there.
    pub fn value(&self, node: &NodeDef) -> Result<BundleTensor> {
        let bundle = self
            .bundle
            .as_ref()
            .context("it is a variable, and there is no variables/variables.index")?;
        let shared = shared_name(node);
        let suffixed = format!("{shared}/.ATTRIBUTES/VARIABLE_VALUE");
        let restored = self.keys.get(&node.name).or_else(|| self.named.get(shared));
        let candidates =
            restored.map(String::as_str).into_iter().chain([shared, &suffixed, &node.name]);
        for key in candidates {
            if let Some(found) = bundle.tensor(key).map_err(|e| anyhow!("{e}"))? {
                return Ok(found);
            }
        }
        let mut keys = bundle.keys().filter(|key| *key != OBJECTS).take(3).collect::<Vec<_>>();
        keys.push("…");
        Err(anyhow!("its value is not among the saved variables ({})", keys.join(", ")))
    }
}

/// The name that users gave a variable.
pub fn shared_name(node: &NodeDef) -> &str {
    match node.attr.get("shared_name").and_then(|attr| attr.value.as_ref()) {
        Some(Attribute::Text(name)) if !name.is_empty() => {
            std::str::from_utf8(name).unwrap_or(&node.name)
        }
        _ => &node.name,
    }
}

/// The bundle's key for each variable's node, as `restore` assigns them.
fn restored(graph: &GraphDef, restore: &str) -> Result<HashMap<String, String>> {
    let (nodes, _) = flatten(graph, &[restore], &HashSet::new(), true)?;
    let at = |value: &FlatValue| nodes.get(value.node);
    let mut keys = HashMap::new();
    for node in &nodes {
        if !matches!(node.def.op.as_str(), "AssignVariableOp" | "Assign") {
            continue;
        }
        let [variable, value, ..] = node.inputs.as_slice() else { continue };
        let mut value = *value;
        while let Some(source) = at(&value).filter(|node| node.def.op == "Identity") {
            let Some(&next) = source.inputs.first() else { break };
            value = next;
        }
        let Some(source) = at(&value).filter(|node| node.def.op == "RestoreV2") else { continue };
        let names = source.inputs.get(1).and_then(at).map(|names| texts(names));
        let key = names.and_then(|names| names.into_iter().nth(value.output));
        if let (Some(variable), Some(key)) = (at(variable).filter(|node| node.is_outside), key) {
            keys.insert(variable.def.name.clone(), key);
        }
    }
    Ok(keys)
}

/// The strings of a constant.
fn texts(node: &FlatNode) -> Vec<String> {
    match node.def.attr.get("value").and_then(|attr| attr.value.as_ref()) {
        Some(Attribute::Tensor(tensor)) => {
            tensor.string_val.iter().map(|text| String::from_utf8_lossy(text).into()).collect()
        }
        _ => vec![],
    }
}

/// The key for each variable's full name.
fn object_names(bundle: &BundleReader) -> Option<HashMap<String, String>> {
    let objects = bundle.tensor(OBJECTS).ok()??;
    // its length, the length's checksum, the text
    let length = objects.data.iter().position(|byte| *byte < 128)? + 1;
    let objects =
        CheckpointedObjects::decode(objects.data.slice((length + 4).min(objects.data.len())..))
            .ok()?;
    let values = objects.nodes.into_iter().flat_map(|node| node.attributes);
    let values = values.filter(|value| !value.full_name.is_empty());
    Some(values.map(|value| (value.full_name, value.checkpoint_key)).collect())
}
