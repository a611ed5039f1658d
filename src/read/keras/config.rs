//! A model's configuration as Keras 2 and 3 write it in JSON → layers and their calls.

use super::weights::Variable;
use anyhow::{Context, Result, bail, ensure};
use serde_json::{Map, Value};
use std::collections::HashMap;

/// A Sequential or Functional model: layers, and which value goes where.
#[derive(Debug, Default)]
pub struct Network {
    pub name: String,
    pub layers: Vec<Layer>,
    pub inputs: Vec<ValueRef>,
    pub outputs: Vec<ValueRef>,
}

#[derive(Debug)]
pub struct Layer {
    /// `Conv2D`; a class of the user's own has its package before it.
    pub class: String,
    pub module: String,
    pub name: String,
    pub config: Map<String, Value>,
    /// Of Keras 3: what the layer was built for.
    pub build_config: Value,
    pub calls: Vec<LayerCall>,
    /// The layers of a model that is a layer here.
    pub network: Option<Network>,
    /// The layer that a wrapper such as TimeDistributed wraps.
    pub wrapped: Option<Box<Layer>>,
    pub variables: Vec<Variable>,
}

/// One use of a layer.
#[derive(Debug, Clone, Default)]
pub struct LayerCall {
    /// All values that go in, in their order.
    pub inputs: Vec<ValueRef>,
    pub arguments: Vec<Argument>,
    pub named: Vec<(String, Argument)>,
}

#[derive(Debug, Clone, PartialEq)]
pub enum Argument {
    /// The number of one of the call's inputs.
    Input(usize),
    List(Vec<Argument>),
    Constant(Value),
}

/// The `output`-th result of the `call`-th use of a layer.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct ValueRef {
    pub layer: usize,
    pub call: usize,
    pub output: usize,
}

/// Layers in a model and in the models in it.
const MAX_LAYERS: usize = 100_000;

/// The network of a `{"class_name": …, "config": …}`.
///
/// # Errors
/// It is not a Sequential or Functional model, or not what Keras writes.
pub fn network(model: &Value) -> Result<Network> {
    let class = text(model, "class_name").context("the configuration names no class")?;
    let config = &model["config"];
    match class {
        "Sequential" => sequential(config),
        "Functional" | "Model" if config["layers"].is_array() => functional(config),
        "Functional" | "Model" => bail!("the configuration lists no layers"),
        _ => bail!(
            "the model is of the class '{class}', and its file does not tell what that computes; export it with \
             model.export('model.onnx', format='onnx') and give that"
        ),
    }
}

fn sequential(config: &Value) -> Result<Network> {
    let listed = config.as_array().or_else(|| config["layers"].as_array());
    let listed = listed.context("the configuration lists no layers")?;
    let mut network = Network {
        name: text(config, "name").unwrap_or("sequential").to_string(),
        layers: layers(listed)?,
        ..Default::default()
    };
    let is_input = |layer: &Layer| layer.class == "InputLayer";
    if !network.layers.first().is_some_and(is_input) {
        let input = implied_input(config, network.layers.first())?;
        network.layers.insert(0, input);
    }
    network.inputs = vec![ValueRef { layer: 0, call: 0, output: 0 }];
    let mut last = network.inputs[0].clone();
    for (index, layer) in network.layers.iter_mut().enumerate().skip(1) {
        let arguments = vec![Argument::Input(0)];
        layer.calls = vec![LayerCall { inputs: vec![last], arguments, named: vec![] }];
        last = ValueRef { layer: index, call: 0, output: 0 };
    }
    network.outputs = vec![last];
    Ok(network)
}

/// The input of a Sequential model that has no InputLayer: as its first layer says, or as it was built. A model
/// that is a layer needs no shape.
fn implied_input(config: &Value, first: Option<&Layer>) -> Result<Layer> {
    let mut own = Map::new();
    if let Some(first) = first {
        let shapes = [
            &first.config.get("batch_input_shape").cloned().unwrap_or_default(),
            &config["build_input_shape"],
            &first.build_config["input_shape"],
        ];
        let shape = shapes.into_iter().find(|shape| shape.is_array());
        own.insert("batch_shape".into(), shape.cloned().unwrap_or_default());
        let dtype = match first.class.as_str() {
            "Embedding" => Some("float32".into()),
            _ => first.config.get("dtype").cloned(),
        };
        own.insert("dtype".into(), dtype.unwrap_or_default());
    }
    let name = first.map_or("input".into(), |first| format!("{}_input", first.name));
    let mut layer = layer(&Value::Object(Map::new()))?;
    (layer.class, layer.name, layer.config) = ("InputLayer".into(), name, own);
    Ok(layer)
}

fn functional(config: &Value) -> Result<Network> {
    let listed = config["layers"].as_array().context("the configuration lists no layers")?;
    let mut network = Network {
        name: text(config, "name").unwrap_or("functional").to_string(),
        layers: layers(listed)?,
        ..Default::default()
    };
    let mut places = HashMap::new();
    for (index, layer) in network.layers.iter().enumerate() {
        let twice = places.insert(layer.name.clone(), index);
        ensure!(twice.is_none(), "two layers are named '{}'", layer.name);
    }
    for (layer, json) in network.layers.iter_mut().zip(listed) {
        let nodes = json["inbound_nodes"].as_array().map_or(&[][..], Vec::as_slice);
        for node in nodes {
            let call = call(node, &places);
            layer.calls.push(call.with_context(|| format!("layer '{}'", layer.name))?);
        }
    }
    let ends = |key: &str| -> Result<Vec<ValueRef>> {
        let mut found = vec![];
        end_refs(&config[key], &places, &mut found).with_context(|| key.to_string())?;
        Ok(found)
    };
    (network.inputs, network.outputs) = (ends("input_layers")?, ends("output_layers")?);
    number_calls_from_zero(&mut network);
    Ok(network)
}

fn layers(listed: &[Value]) -> Result<Vec<Layer>> {
    ensure!(listed.len() <= MAX_LAYERS, "{} layers are more than {MAX_LAYERS}", listed.len());
    listed.iter().map(layer).collect()
}

fn layer(json: &Value) -> Result<Layer> {
    let class = text(json, "class_name").unwrap_or_default();
    let config = &json["config"];
    let name = text(json, "name").or_else(|| text(config, "name")).unwrap_or_default().to_string();
    let is_model = ["Sequential", "Functional", "Model"].contains(&class);
    let network = match is_model {
        true => Some(network(json).with_context(|| format!("layer '{name}'"))?),
        false => None,
    };
    let wrapped = &config["layer"];
    let wrapped = match wrapped.is_object() {
        true => Some(Box::new(layer(wrapped)?)),
        false => None,
    };
    Ok(Layer {
        class: class.to_string(),
        module: text(json, "module").unwrap_or_default().to_string(),
        name,
        config: config.as_object().cloned().unwrap_or_default(),
        build_config: json["build_config"].clone(),
        calls: vec![],
        network,
        wrapped,
        variables: vec![],
    })
}

type Places = HashMap<String, usize>;

/// A use of a layer: `{"args": …, "kwargs": …}` of Keras 3, `[["dense", 0, 0, {…}], …]` of Keras 2.
fn call(node: &Value, places: &Places) -> Result<LayerCall> {
    let mut inputs = vec![];
    let (mut arguments, mut named) = (vec![], vec![]);
    match node {
        Value::Object(node) => {
            let listed = node.get("args").and_then(Value::as_array);
            for json in listed.map_or(&[][..], Vec::as_slice) {
                arguments.push(argument(json, places, &mut inputs)?);
            }
            if let Some(Value::Object(keywords)) = node.get("kwargs") {
                for (name, json) in keywords {
                    named.push((name.clone(), argument(json, places, &mut inputs)?));
                }
            }
        }
        Value::Array(list) => {
            let entries = if is_old_ref(node) { std::slice::from_ref(node) } else { list };
            for entry in entries {
                ensure!(is_old_ref(entry), "a call that is not as Keras writes it");
                arguments.push(argument(entry, places, &mut inputs)?);
            }
            if let Some(Value::Object(keywords)) = entries.first().map(|entry| &entry[3]) {
                for (name, json) in keywords {
                    named.push((name.clone(), argument(json, places, &mut inputs)?));
                }
            }
        }
        _ => bail!("a call that is not as Keras writes it"),
    }
    Ok(LayerCall { inputs, arguments, named })
}

/// An argument; the values in it go to the `inputs`.
fn argument(json: &Value, places: &Places, inputs: &mut Vec<ValueRef>) -> Result<Argument> {
    let mut value = |list: &[Value]| {
        inputs.push(old_ref(list, places)?);
        Ok(Argument::Input(inputs.len() - 1))
    };
    match json {
        Value::Object(object) if text(json, "class_name") == Some("__keras_tensor__") => {
            let history = object.get("config").and_then(|c| c["keras_history"].as_array());
            value(history.context("a value without its history")?)
        }
        Value::Array(list) if is_old_ref(json) => match list[0].as_str() {
            Some("_CONSTANT_VALUE") => Ok(Argument::Constant(list[2].clone())),
            _ => value(list),
        },
        Value::Array(list) => {
            let list = list.iter().map(|json| argument(json, places, inputs));
            Ok(Argument::List(list.collect::<Result<_>>()?))
        }
        other => Ok(Argument::Constant(other.clone())),
    }
}

/// `["dense", 0, 0]`, with or without a fourth.
fn is_old_ref(json: &Value) -> bool {
    let Some(list) = json.as_array() else { return false };
    (3..=4).contains(&list.len())
        && list[0].is_string()
        && list[1].is_i64()
        && (list[2].is_u64() || list[0] == "_CONSTANT_VALUE")
}

fn old_ref(list: &[Value], places: &Places) -> Result<ValueRef> {
    let number = |at: usize| list.get(at).and_then(Value::as_u64).and_then(|n| n.try_into().ok());
    let name = list.first().and_then(Value::as_str).context("a value without a layer")?;
    let layer = places.get(name).with_context(|| format!("there is no layer '{name}'"))?;
    let (call, output) = number(1).zip(number(2)).context("a value without its number")?;
    Ok(ValueRef { layer: *layer, call, output })
}

fn end_refs(json: &Value, places: &Places, found: &mut Vec<ValueRef>) -> Result<()> {
    match json {
        Value::Array(list) if is_old_ref(json) => found.push(old_ref(list, places)?),
        Value::Array(list) => list.iter().try_for_each(|json| end_refs(json, places, found))?,
        Value::Object(named) => {
            named.values().try_for_each(|json| end_refs(json, places, found))?
        }
        _ => {}
    }
    Ok(())
}

/// A model that is a layer may count its own making as its first call, which is not listed: then its last call
/// has a number past the list.
fn number_calls_from_zero(network: &mut Network) {
    let mut most: HashMap<usize, usize> = HashMap::new();
    let mut visit = |value: &ValueRef| {
        let most = most.entry(value.layer).or_default();
        *most = (*most).max(value.call);
    };
    let calls = network.layers.iter().flat_map(|layer| &layer.calls);
    calls.flat_map(|call| &call.inputs).chain(&network.outputs).for_each(&mut visit);
    let shifted = |value: &ValueRef, layers: &[bool]| layers[value.layer] && value.call > 0;
    let shifts: Vec<bool> = network
        .layers
        .iter()
        .enumerate()
        .map(|(index, layer)| {
            let calls = layer.calls.len();
            layer.network.is_some() && calls > 0 && most.get(&index) == Some(&calls)
        })
        .collect();
    let calls = network.layers.iter_mut().flat_map(|layer| &mut layer.calls);
    let values = calls.flat_map(|call| &mut call.inputs);
    for value in values.chain(&mut network.outputs) {
        if shifted(value, &shifts) {
            value.call -= 1;
        }
    }
}

pub fn text<'a>(json: &'a Value, key: &str) -> Option<&'a str> {
    json.get(key).and_then(Value::as_str)
}
