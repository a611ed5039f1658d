//! Keras' model files → LiteGraph: `.keras` (Keras 3, and 2.12 on), `.h5` (both) and TensorFlow.js' layers-models, of
//! Sequential and Functional models. What one layer means is known in `layers/`.

mod archive;
mod builder;
mod config;
mod layers;
mod tfjs;
mod walk;
mod weights;

use crate::format::hdf5::{self, Group};
use crate::graph::Model;
use anyhow::{Context, Result, anyhow, bail};
use bytes::Bytes;
use serde_json::Value;
use std::path::Path;

/// The model in the bytes of a `.keras` or `.h5` file.
///
/// # Errors
/// Every layer that is not supported, together; or what is wrong with the file.
pub fn keras_model(bytes: Bytes) -> Result<Model> {
    match hdf5::is_hdf5(&bytes) {
        true => from_h5(bytes),
        false => from_archive(bytes),
    }
}

fn from_archive(bytes: Bytes) -> Result<Model> {
    let mut archive = archive::open(bytes)?;
    let metadata = archive.text("metadata.json")?;
    let config = archive.text("config.json")?;
    let damaged = |e| anyhow!("not a Keras model, or damaged ({e})");
    let metadata: Value = serde_json::from_str(&metadata).map_err(damaged)?;
    let config: Value = serde_json::from_str(&config).map_err(damaged)?;
    let mut network = config::network(&config)?;
    let weights = read_hdf5(archive.entry("model.weights.h5")?).context("model.weights.h5")?;
    weights::from_weights_file(&mut network, &weights)?;
    let version = config::text(&metadata, "keras_version").unwrap_or("3");
    walk::lite_graph(&network, is_keras_2(version))
}

fn from_h5(bytes: Bytes) -> Result<Model> {
    let file = read_hdf5(bytes)?;
    let text = |name: &str| file.attributes.get(name).and_then(|a| a.text());
    let Some(config) = text("model_config") else {
        bail!(
            "it holds weights without the model they belong to; save the whole model, with \
             model.save('model.keras') or model.save('model.h5')"
        );
    };
    let config: Value =
        serde_json::from_str(config).map_err(|e| anyhow!("not a Keras model, or damaged ({e})"))?;
    let mut network = config::network(&config)?;
    let weights = file.group("model_weights").context("it holds no weights")?;
    weights::from_layer_groups(&mut network, weights)?;
    let version = text("keras_version").unwrap_or("1");
    walk::lite_graph(&network, is_keras_2(version))
}

/// What a `model.json` of TensorFlow.js holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TfjsKind {
    /// Keras' layers.
    LayersModel,
    /// TensorFlow's nodes.
    GraphModel,
}

fn read_json(bytes: &[u8]) -> Result<Value> {
    serde_json::from_slice(bytes)
        .map_err(|e| anyhow!("not a model of TensorFlow.js, or damaged ({e})"))
}

/// By its `format`; files of old converters have none.
///
/// # Errors
/// It is no JSON, or of another format.
pub fn tfjs_kind(bytes: &[u8]) -> Result<TfjsKind> {
    let file = read_json(bytes)?;
    match config::text(&file, "format") {
        Some("layers-model") => Ok(TfjsKind::LayersModel),
        Some("graph-model") => Ok(TfjsKind::GraphModel),
        Some(other) => bail!("a model of TensorFlow.js in the unknown format '{other}'"),
        None if file["modelTopology"]["node"].is_array() => Ok(TfjsKind::GraphModel),
        None if file["modelTopology"].is_object() => Ok(TfjsKind::LayersModel),
        None => bail!("not a model of TensorFlow.js: it has no modelTopology"),
    }
}

/// The layers-model in a `model.json` of TensorFlow.js, whose weights lie in files in `folder`.
///
/// # Errors
/// As [`keras_model`]; a file of weights that is missing, short, or outside the folder.
pub fn layers_model(bytes: &[u8], folder: &Path) -> Result<Model> {
    let file = read_json(bytes)?;
    let topology = &file["modelTopology"];
    // the converter puts the configuration one level lower than TensorFlow.js itself
    let configured = &topology["model_config"];
    let configured = if configured.is_object() { configured } else { topology };
    let mut network = config::network(configured)?;
    tfjs::from_manifest(&mut network, &file["weightsManifest"], folder)?;
    // whatever version wrote the configuration, TensorFlow.js computes as Keras 2 did
    walk::lite_graph(&network, true)
}

fn read_hdf5(bytes: Bytes) -> Result<Group> {
    hdf5::read(bytes).map_err(|e| anyhow!("not an HDF5 file, or damaged ({e})"))
}

fn is_keras_2(version: &str) -> bool {
    version.starts_with("2.") || version.starts_with("1")
}
