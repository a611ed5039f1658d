//! The layers-models of TensorFlow.js: Keras' configuration in a `model.json`, and weights in files beside it.

use super::config::{Layer, Network};
use super::layers::HALF_PIXEL_CENTERS;
use super::weights::{Variable, variable_kinds};
use crate::format::mmap;
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use half::f16;
use serde::Deserialize;
use std::collections::HashMap;
use std::path::{Component, Path};

#[derive(Deserialize)]
struct Group {
    paths: Vec<String>,
    weights: Vec<Weight>,
}

#[derive(Deserialize)]
struct Weight {
    name: String,
    shape: Vec<usize>,
    dtype: String,
    quantization: Option<Quantization>,
}

#[derive(Deserialize)]
struct Quantization {
    dtype: String,
    scale: Option<f64>,
    min: Option<f64>,
}

/// Gives the layers the arrays of a `weightsManifest`, whose files lie in `folder`.
pub fn from_manifest(
    network: &mut Network,
    manifest: &serde_json::Value,
    folder: &Path,
) -> Result<()> {
    let groups: Vec<Group> = serde_json::from_value(manifest.clone()).context("weightsManifest")?;
    let mut found = vec![];
    for group in groups {
        read_group(group, folder, &mut found)?;
    }
    give(network, "", &found)?;
    network.layers.iter_mut().for_each(resize_as_tfjs);
    Ok(())
}

/// TensorFlow.js has pixels' centers at whole numbers.
fn resize_as_tfjs(layer: &mut Layer) {
    if let Some(network) = &mut layer.network {
        network.layers.iter_mut().for_each(resize_as_tfjs);
    }
    layer.wrapped.iter_mut().for_each(|wrapped| resize_as_tfjs(wrapped));
    layer.config.insert(HALF_PIXEL_CENTERS.into(), false.into());
}

fn read_group(group: Group, folder: &Path, found: &mut Vec<(String, Variable)>) -> Result<()> {
    let bytes = joined(&group.paths, folder)?;
    let files = || format!("{} ({} bytes)", group.paths.join(", "), bytes.len());
    let mut at = 0usize;
    for weight in group.weights {
        let name = || format!("weights '{}'", weight.name);
        let stored = weight.quantization.as_ref().map_or(&weight.dtype, |q| &q.dtype);
        let size = match stored.as_str() {
            "float32" | "int32" => 4,
            "float16" | "uint16" => 2,
            "uint8" => 1,
            other => bail!("{} of type {other} are not read; save the model in float32", name()),
        };
        let length = weight.shape.iter().try_fold(size, |n: usize, &dim| n.checked_mul(dim));
        let end = length.and_then(|length| at.checked_add(length));
        let end = end.filter(|&end| end <= bytes.len());
        let end = end.with_context(|| {
            format!("{} reach past the end of {}; download the files again", name(), files())
        })?;
        let data = values(bytes.slice(at..end), &weight).with_context(name)?;
        at = end;
        let plain = weight.name.trim_end_matches(":0").to_string();
        found.push((plain, Variable::of_f32(weight.shape, data)));
    }
    ensure!(at == bytes.len(), "{} are longer than model.json says, which uses {at}", files());
    Ok(())
}

/// Whether a path of a file of weights stays in the folder of `model.json`.
fn is_inside(path: &str) -> bool {
    !path.is_empty() && Path::new(path).components().all(|c| matches!(c, Component::Normal(_)))
}

/// The files' bytes after each other; of one file, a view of it.
fn joined(paths: &[String], folder: &Path) -> Result<Bytes> {
    let mut parts = vec![];
    for path in paths {
        ensure!(
            is_inside(path),
            "the weights' file '{path}' lies outside the folder of model.json"
        );
        let file = folder.join(path);
        parts.push(mmap::open(&file).with_context(|| format!("cannot read {}", file.display()))?);
    }
    Ok(match parts.as_slice() {
        [one] => one.clone(),
        several => several.concat().into(),
    })
}

/// Float32 of what is stored.
fn values(data: Bytes, weight: &Weight) -> Result<Bytes> {
    fn floats<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Bytes {
        let numbers = data.as_chunks::<N>().0.iter();
        numbers.flat_map(|&bytes| value(bytes).to_le_bytes()).collect::<Vec<u8>>().into()
    }
    let Some(quantization) = &weight.quantization else {
        return Ok(match weight.dtype.as_str() {
            "float32" => data,
            "int32" => floats(&data, |b| i32::from_le_bytes(b) as f32),
            other => bail!("of type {other} are not read; save the model in float32"),
        });
    };
    let (scale, min) = (quantization.scale.unwrap_or(1.0), quantization.min.unwrap_or(0.0));
    let real = |stored: u16| (f64::from(stored) * scale + min) as f32;
    Ok(match quantization.dtype.as_str() {
        "float16" => floats(&data, |b| f16::from_le_bytes(b).to_f32()),
        "uint16" => floats(&data, |b| real(u16::from_le_bytes(b))),
        "uint8" => floats(&data, |[b]| real(b.into())),
        other => bail!("quantized to {other} are not read; save the model in float32"),
    })
}

/// Weights are named `<layer>/<variable>`, with names of models before; the order of one layer's is that of its
/// variables.
fn give(network: &mut Network, above: &str, found: &[(String, Variable)]) -> Result<()> {
    let mut by_layer: HashMap<&str, Vec<&(String, Variable)>> = HashMap::new();
    for entry in found {
        let owner = entry.0.rsplit_once('/').map_or("", |(owner, _)| owner);
        by_layer.entry(owner).or_default().push(entry);
    }
    give_by_owner(network, above, &by_layer)
}

fn give_by_owner(
    network: &mut Network,
    above: &str,
    by_layer: &HashMap<&str, Vec<&(String, Variable)>>,
) -> Result<()> {
    for layer in &mut network.layers {
        let name = layer.name.clone();
        if let Some(network) = &mut layer.network {
            give_by_owner(network, &name, by_layer)?;
        } else if let Some(wrapped) = &mut layer.wrapped {
            give_layer(wrapped, &name, above, by_layer)?;
        } else {
            give_layer(layer, &name, above, by_layer)?;
        }
    }
    Ok(())
}

/// The weights whose owner is `name`; where models hold several of that name, the one in `above`.
fn give_layer(
    layer: &mut Layer,
    name: &str,
    above: &str,
    by_layer: &HashMap<&str, Vec<&(String, Variable)>>,
) -> Result<()> {
    let count = variable_kinds(layer).len();
    if count == 0 {
        return Ok(());
    }
    let ends_with = |owner: &str, end: &str| -> bool {
        owner == end || owner.strip_suffix(end).is_some_and(|rest| rest.ends_with('/'))
    };
    let mut owners: Vec<&str> =
        by_layer.keys().copied().filter(|owner| ends_with(owner, name)).collect();
    if owners.len() > 1 {
        owners.retain(|owner| match above {
            "" => *owner == name,
            above => ends_with(owner, &format!("{above}/{name}")),
        });
    }
    let &[owner] = owners.as_slice() else {
        bail!("layer '{name}': its weights are not told apart in model.json");
    };
    let entries = by_layer.get(owner).map_or(&[][..], Vec::as_slice);
    ensure!(
        entries.len() == count,
        "layer '{name}' has {} arrays in model.json, where its configuration needs {count}",
        entries.len()
    );
    layer.variables = entries.iter().map(|entry| entry.1.clone()).collect();
    Ok(())
}
