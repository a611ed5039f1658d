//! Which arrays of a file are a layer's variables.

use super::config::{Layer, Network};
use crate::format::hdf5::{Dataset, Element, Group};
use anyhow::{Context, Result, bail, ensure};
use bytes::Bytes;
use half::f16;
use regex_lite::Regex;
use std::collections::HashMap;

/// An array that a layer learned.
#[derive(Debug, Clone)]
pub struct Variable {
    pub shape: Vec<usize>,
    values: Values,
}

#[derive(Debug, Clone)]
enum Values {
    Dataset(Dataset),
    /// Float32, little-endian, as many as the shape asks for.
    Floats(Bytes),
}

impl Variable {
    /// Of float32 values, as many as the shape asks for.
    pub fn of_f32(shape: Vec<usize>, values: Bytes) -> Variable {
        Variable { shape, values: Values::Floats(values) }
    }

    /// The values as float32, little-endian; those of float32 are the file's own bytes.
    pub fn f32_bytes(&self) -> Result<Bytes> {
        let dataset = match &self.values {
            Values::Floats(values) => return Ok(values.clone()),
            Values::Dataset(dataset) => dataset,
        };
        let data = dataset.data().context("not an HDF5 file, or damaged")?;
        let is_bfloat16 = dataset.attributes.get("dtype").and_then(|a| a.text());
        Ok(match dataset.element {
            Element::F32 => data,
            Element::F16 => convert(&data, |b| f16::from_le_bytes(b).to_f32()),
            Element::F64 => convert(&data, |b| f64::from_le_bytes(b) as f32),
            Element::Opaque(2) | Element::Integer { size: 2, .. }
                if is_bfloat16 == Some("bfloat16") =>
            {
                convert(&data, |b| half::bf16::from_le_bytes(b).to_f32())
            }
            ref other => bail!("weights of type {other:?} are not read; save the model in float32"),
        })
    }

    pub fn f32_values(&self) -> Result<Vec<f32>> {
        let bytes = self.f32_bytes()?;
        Ok(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }
}

fn convert<const N: usize>(data: &[u8], value: impl Fn([u8; N]) -> f32) -> Bytes {
    let values = data.as_chunks::<N>().0.iter().flat_map(|b| value(*b).to_le_bytes());
    values.collect::<Vec<u8>>().into()
}

fn variable(dataset: &Dataset) -> Variable {
    Variable { shape: dataset.shape.clone(), values: Values::Dataset(dataset.clone()) }
}

/// Gives the layers the arrays of a `model.weights.h5`: `layers/<class>_<n>/vars/<i>`, where n counts the layers
/// of a class in their model.
pub fn from_weights_file(network: &mut Network, group: &Group) -> Result<()> {
    let none = Group::default();
    let layers = group.group("layers").or_else(|| group.group("_layer_checkpoint_dependencies"));
    let layers = layers.unwrap_or(&none);
    let mut counts: HashMap<String, usize> = HashMap::new();
    for layer in &mut network.layers {
        let class = snake_case(layer.class.rsplit('>').next().unwrap_or_default());
        let count = counts.entry(class.clone()).or_default();
        let folder = match *count {
            0 => class,
            n => format!("{class}_{n}"),
        };
        *count += 1;
        let Some(group) = layers.group(&folder) else { continue };
        read_layer(layer, group)?;
    }
    Ok(())
}

fn read_layer(layer: &mut Layer, group: &Group) -> Result<()> {
    if let Some(network) = &mut layer.network {
        return from_weights_file(network, group);
    }
    if let (Some(wrapped), Some(group)) = (&mut layer.wrapped, group.group("layer")) {
        read_layer(wrapped, group)?;
    }
    let Some(vars) = group.group("vars") else { return Ok(()) };
    for index in 0..vars.children.len() {
        let dataset = vars.dataset(&index.to_string());
        let dataset =
            dataset.with_context(|| format!("layer '{}': array {index} is missing", layer.name))?;
        layer.variables.push(variable(dataset));
    }
    Ok(())
}

/// Gives the layers the arrays of the older `.h5`: a group for each layer, which lists its arrays, those that
/// training changes first.
pub fn from_layer_groups(network: &mut Network, group: &Group) -> Result<()> {
    for layer in &mut network.layers {
        let Some(own) = group.group(&layer.name) else { continue };
        let names = list(own, "weight_names");
        let mut arrays = vec![];
        for name in &names {
            let dataset = own.dataset(name);
            let dataset =
                dataset.with_context(|| format!("layer '{}': no array '{name}'", layer.name))?;
            arrays.push(dataset);
        }
        let mut slots = vec![];
        variables_of(layer, true, &mut slots);
        if slots.is_empty() {
            continue;
        }
        ensure!(
            slots.len() == arrays.len(),
            "layer '{}' has {} arrays in the file, where its configuration needs {}",
            layer.name,
            arrays.len(),
            slots.len()
        );
        // a stable sort: those that training changes, then the others, each in the order of the layers
        slots.sort_by_key(|slot| !slot.trainable);
        let found: HashMap<_, _> =
            slots.iter().zip(&arrays).map(|(slot, a)| ((slot.layer, slot.index), *a)).collect();
        let mut number = 0;
        give(layer, &found, &mut number);
    }
    Ok(())
}

/// A list of texts; a long one is in parts that are numbered.
fn list(group: &Group, name: &str) -> Vec<String> {
    let texts = |name: &str| {
        let attribute = group.attributes.get(name)?;
        Some(attribute.texts()?.into_iter().map(str::to_string).collect::<Vec<_>>())
    };
    texts(name).unwrap_or_else(|| {
        (0..).map_while(|part| texts(&format!("{name}{part}"))).flatten().collect()
    })
}

/// The place of an array: the number of its layer among the innermost, and which of that layer's it is.
struct Slot {
    layer: usize,
    index: usize,
    trainable: bool,
}

fn variables_of(layer: &Layer, above: bool, slots: &mut Vec<Slot>) {
    fn walk(layer: &Layer, above: bool, number: &mut usize, slots: &mut Vec<Slot>) {
        let own = layer.config.get("trainable").and_then(|t| t.as_bool()).unwrap_or(true);
        let trainable = above && own;
        if let Some(network) = &layer.network {
            network.layers.iter().for_each(|layer| walk(layer, trainable, number, slots));
            return;
        }
        if let Some(wrapped) = &layer.wrapped {
            return walk(wrapped, trainable, number, slots);
        }
        let variables = variable_kinds(layer).into_iter().enumerate();
        slots.extend(variables.map(|(index, learned)| Slot {
            layer: *number,
            index,
            trainable: trainable && learned,
        }));
        *number += 1;
    }
    walk(layer, above, &mut 0, slots);
}

fn give(layer: &mut Layer, found: &HashMap<(usize, usize), &Dataset>, number: &mut usize) {
    if let Some(network) = &mut layer.network {
        network.layers.iter_mut().for_each(|layer| give(layer, found, number));
        return;
    }
    if let Some(wrapped) = &mut layer.wrapped {
        return give(wrapped, found, number);
    }
    layer.variables = (0..).map_while(|i| found.get(&(*number, i))).map(|d| variable(d)).collect();
    *number += 1;
}

/// The variables of a layer in their order: whether training changes each.
pub fn variable_kinds(layer: &Layer) -> Vec<bool> {
    let flag = |key: &str| layer.config.get(key).and_then(|v| v.as_bool()).unwrap_or(true);
    let with_bias = |others: usize| vec![true; others + usize::from(flag("use_bias"))];
    let scale_and_center = || {
        let mut kinds = vec![];
        kinds.extend(flag("scale").then_some(true));
        kinds.extend(flag("center").then_some(true));
        kinds
    };
    match layer.class.as_str() {
        "Dense" | "Conv1D" | "Conv2D" | "Conv3D" | "DepthwiseConv1D" | "DepthwiseConv2D"
        | "Conv1DTranspose" | "Conv2DTranspose" | "Conv3DTranspose" => with_bias(1),
        "Convolution2D" | "Convolution1D" => with_bias(1),
        "SeparableConv1D" | "SeparableConv2D" => with_bias(2),
        "BatchNormalization" => [scale_and_center(), vec![false; 2]].concat(),
        "LayerNormalization" if layer.config.get("rms_scaling").is_some_and(|v| v == true) => {
            vec![true]
        }
        "LayerNormalization" | "GroupNormalization" => scale_and_center(),
        "RMSNormalization" | "Embedding" | "PReLU" => vec![true],
        "Normalization" if layer.config.get("mean").is_none_or(|m| m.is_null()) => vec![false; 3],
        _ => vec![],
    }
}

/// Keras' name for a class in its files: `SeparableConv2D` is `separable_conv2d`.
fn snake_case(class: &str) -> String {
    let replace = |text: &str, pattern: &str| match Regex::new(pattern) {
        Ok(pattern) => pattern.replace_all(text, "${1}_${2}").into_owned(),
        Err(_) => text.to_string(),
    };
    let words: String = class.chars().filter(|c| c.is_alphanumeric() || *c == '_').collect();
    replace(&replace(&words, "(.)([A-Z][a-z]+)"), "([a-z])([A-Z])").to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classes_are_named_as_keras_names_them() {
        for (class, name) in [
            ("Dense", "dense"),
            ("Conv2D", "conv2d"),
            ("Conv2DTranspose", "conv2d_transpose"),
            ("GlobalAveragePooling2D", "global_average_pooling2d"),
            ("PReLU", "p_re_lu"),
            ("ReLU", "re_lu"),
            ("ELU", "elu"),
            ("TFOpLambda", "tf_op_lambda"),
        ] {
            assert_eq!(snake_case(class), name);
        }
    }
}
