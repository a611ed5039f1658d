//! A network's layers, in an order in which they can run → lite ops.

use super::builder::Builder;
use super::config::{Layer, Network, ValueRef};
use super::layers::{self, Context as LayerContext, Mask};
use crate::graph::*;
use anyhow::{Context, Result, anyhow, bail, ensure};
use serde_json::Value;
use std::collections::{BTreeSet, HashMap};

/// The graph that a network with its weights computes.
///
/// # Errors
/// Every layer that has no lite form, together.
pub fn lite_graph(network: &Network, is_keras_2: bool) -> Result<Model> {
    let unknown = unknown_layers(network, "");
    if !unknown.is_empty() {
        bail!(UnsupportedOps::from(unknown));
    }
    let mut walk = Walk {
        builder: Builder::default(),
        is_keras_2,
        unsupported: vec![],
        calls: 0,
        masks: HashMap::new(),
    };
    let mut inputs = vec![];
    for input in &network.inputs {
        inputs.push(Some(walk.add_input(&network.layers[input.layer])?));
    }
    let outputs = walk.run(network, "", &inputs)?;
    if !walk.unsupported.is_empty() {
        bail!(UnsupportedOps { ops: walk.unsupported, incomplete: true });
    }
    let outputs: Vec<TensorId> =
        outputs.into_iter().collect::<Option<_>>().context("an output is never computed")?;
    ensure!(!outputs.is_empty(), "the model has no outputs");
    walk.finish(network, outputs)
}

fn unknown_layers(network: &Network, prefix: &str) -> Vec<UnsupportedOp> {
    let mut unknown = vec![];
    for layer in &network.layers {
        let node = format!("{prefix}{}", layer.name);
        if let Some(network) = &layer.network {
            unknown.extend(unknown_layers(network, &format!("{node}/")));
        } else if let Err(reason) = layers::find(layer) {
            unknown.push(UnsupportedOp { node, op: layer.class.clone(), reason });
        }
    }
    unknown
}

struct Walk {
    builder: Builder,
    is_keras_2: bool,
    unsupported: Vec<UnsupportedOp>,
    calls: usize,
    masks: HashMap<TensorId, Mask>,
}

/// Uses of layers: models in models that are used more than once multiply.
const MAX_CALLS: usize = 100_000;

/// A value, or `None` where what computes it is not supported.
type Slot = Option<TensorId>;

impl Walk {
    fn add_input(&mut self, layer: &Layer) -> Result<TensorId> {
        let at = || format!("input '{}'", layer.name);
        let keys = ["batch_shape", "batch_input_shape"];
        let shape = keys.iter().find_map(|key| layer.config.get(*key)?.as_array());
        let shape = shape.with_context(|| {
            format!("{}: its shape is not in the file; begin the model with keras.Input", at())
        })?;
        let mut dims = vec![];
        for (axis, dim) in shape.iter().enumerate() {
            dims.push(match (dim, axis) {
                (Value::Null, 0) => Dim::Symbol("N".into()),
                (Value::Null, _) if self.builder.graph.inputs.is_empty() => {
                    Dim::Symbol(format!("d{axis}"))
                }
                (Value::Null, _) => Dim::Symbol(format!("{}_d{axis}", symbol(&layer.name))),
                (dim, _) => {
                    let size = dim.as_u64().and_then(|n| usize::try_from(n).ok());
                    Dim::Known(size.with_context(|| format!("{}: a size of {dim}", at()))?)
                }
            });
        }
        let element = match layer.config.get("dtype").and_then(|d| d.as_str()).unwrap_or("float32")
        {
            // half precision is what layers compute in; values come and go as float32
            "float32" | "float16" | "bfloat16" => ElementType::F32,
            "int32" => ElementType::I32,
            "int64" => ElementType::I64,
            "uint8" => ElementType::U8,
            "int8" => ElementType::I8,
            "bool" => ElementType::Bool,
            other => bail!(
                "{}: of type {other}, which no TFLite kernel takes; give keras.Input a dtype of float32 or int32",
                at()
            ),
        };
        Ok(self.builder.input(&layer.name, element, dims))
    }

    /// The network's outputs; `prefix` comes before the names of what it computes.
    fn run(&mut self, network: &Network, prefix: &str, inputs: &[Slot]) -> Result<Vec<Slot>> {
        let mut values: HashMap<ValueRef, Slot> = HashMap::new();
        ensure!(
            inputs.len() == network.inputs.len(),
            "model '{}' has {} inputs and is given {}",
            network.name,
            network.inputs.len(),
            inputs.len()
        );
        values.extend(network.inputs.iter().cloned().zip(inputs.iter().copied()));

        let mut readers: HashMap<&ValueRef, Vec<(usize, usize)>> = HashMap::new();
        let mut missing: HashMap<(usize, usize), usize> = HashMap::new();
        let mut ready = BTreeSet::new();
        for (index, layer) in network.layers.iter().enumerate() {
            for (number, call) in layer.calls.iter().enumerate() {
                let place = (index, number);
                let waits = call.inputs.iter().filter(|value| !values.contains_key(value));
                let waits: Vec<&ValueRef> = waits.collect();
                if waits.is_empty() {
                    ready.insert(place);
                }
                missing.insert(place, waits.len());
                waits.into_iter().for_each(|v| readers.entry(v).or_default().push(place));
            }
        }
        while let Some((index, number)) = ready.pop_first() {
            let layer = &network.layers[index];
            let outputs = self.call(layer, number, prefix, &values)?;
            for (output, slot) in outputs.into_iter().enumerate() {
                let value = ValueRef { layer: index, call: number, output };
                for &place in readers.get(&value).map_or(&[][..], Vec::as_slice) {
                    if let Some(left) = missing.get_mut(&place) {
                        *left -= 1;
                        if *left == 0 {
                            ready.insert(place);
                        }
                    }
                }
                values.insert(value, slot);
            }
        }
        let output = |value: &ValueRef| {
            let layer = &network.layers[value.layer];
            ensure!(
                !layers::MASK_OPERATIONS.contains(&layer.class.as_str()),
                "output '{}' is a mask ({}); build the model without that output",
                layer.name,
                layer.class
            );
            values.get(value).copied().with_context(|| {
                format!("what layer '{}' gives is never computed", network.layers[value.layer].name)
            })
        };
        network.outputs.iter().map(output).collect()
    }

    fn call(
        &mut self,
        layer: &Layer,
        number: usize,
        prefix: &str,
        values: &HashMap<ValueRef, Slot>,
    ) -> Result<Vec<Slot>> {
        self.calls += 1;
        ensure!(self.calls <= MAX_CALLS, "the model uses its layers more than {MAX_CALLS} times");
        let call = &layer.calls[number];
        let inputs: Vec<Slot> =
            call.inputs.iter().map(|value| values.get(value).copied().flatten()).collect();
        let name = format!("{prefix}{}", layer.name);
        if let Some(network) = &layer.network {
            return self.run(network, &format!("{name}/"), &inputs);
        }
        let Some(mut inputs) = inputs.into_iter().collect::<Option<Vec<TensorId>>>() else {
            return Ok(vec![None]);
        };
        let taken = layers::take_mask(&self.builder, call, &mut inputs, &mut self.masks);
        let mut context = LayerContext {
            builder: &mut self.builder,
            layer,
            call,
            name: name.clone(),
            inputs,
            is_keras_2: self.is_keras_2,
            masks: &mut self.masks,
        };
        let built = layers::find(layer).map_err(|reason| anyhow!(reason)).and_then(|build| {
            taken?;
            context.refuse_training()?;
            let tensor = build(&mut context)?;
            layers::pass_on(layer, &context.inputs, tensor, context.masks);
            Ok(tensor)
        });
        Ok(vec![match built {
            Ok(tensor) => {
                if !call.inputs.iter().any(|v| values.get(v) == Some(&Some(tensor))) {
                    self.builder.rename(tensor, &name);
                }
                Some(tensor)
            }
            Err(reason) => {
                let (op, reason) = (layer.class.clone(), format!("{reason:#}"));
                self.unsupported.push(UnsupportedOp { node: name, op, reason });
                None
            }
        }])
    }

    fn finish(mut self, network: &Network, mut outputs: Vec<TensorId>) -> Result<Model> {
        let mut names: HashMap<String, usize> = HashMap::new();
        let mut listed: Vec<(String, TensorId)> = vec![];
        for (value, output) in network.outputs.iter().zip(&mut outputs) {
            let given = self.builder.graph.inputs.contains(output);
            if given || listed.iter().any(|(_, other)| other == output) {
                // one value under two names
                let shape = self.builder.shape(*output);
                let element = self.builder.element(*output);
                let zero = self.builder.f32s("zero", &[], &[0.0])?;
                ensure!(element == ElementType::F32, "an output that is an input of {element}");
                let op = LiteOp::Binary { op: BinaryOp::Add, activation: Activation::None };
                let name = &network.layers[value.layer].name;
                *output =
                    self.builder.op(&format!("{name}/output"), op, &[*output, zero], shape)?;
            }
            let wanted = &network.layers[value.layer].name;
            let count = names.entry(wanted.clone()).or_default();
            let name = match *count {
                0 => wanted.clone(),
                n => format!("{wanted}_{n}"),
            };
            *count += 1;
            listed.push((name, *output));
        }
        let mut graph = self.builder.graph;
        graph.name = network.name.clone();
        graph.outputs = outputs;
        let inputs =
            graph.inputs.iter().map(|&input| (graph.tensors[input].name.clone(), input)).collect();
        let signature =
            Signature { key: "serving_default".into(), subgraph: 0, inputs, outputs: listed };
        let model = Model {
            description: String::new(),
            subgraphs: vec![graph],
            signatures: vec![signature],
            metadata: vec![],
        };
        model.validate()?;
        Ok(model)
    }
}

/// A name of a dimension can be letters, numbers and `_` only.
fn symbol(name: &str) -> String {
    name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect()
}
