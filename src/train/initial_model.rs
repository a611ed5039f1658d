//! A recipe → an ONNX model with its first weights: Glorot-uniform kernels, zero biases.

use super::recipe::{Layer, LayerActivation, MAX_PARAMETERS, Recipe};
use crate::progress::LayerSummary;
use crate::tract::onnx::{self, OnnxDim};
use crate::tract::pb;
use anyhow::{Context, Result, ensure};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};

/// ONNX opset and IR version of the models we write: old enough for every runtime in use.
const OPSET: i64 = 17;
const IR_VERSION: i64 = 8;

/// Builds the model for samples of `sample_shape` (without the batch axis).
///
/// # Errors
/// A dense layer on an input that is not flat, or too many weights.
pub fn build(
    recipe: &Recipe,
    sample_shape: &[usize],
) -> Result<(pb::ModelProto, Vec<LayerSummary>)> {
    let mut random = Pcg64::seed_from_u64(recipe.training.seed);
    let mut graph = pb::GraphProto { name: recipe.name.clone(), ..Default::default() };
    graph.input.push(value_info("input", sample_shape));
    let mut summary = vec![];
    let mut shape = sample_shape.to_vec();
    let mut value = "input".to_string();
    let mut total = 0usize;
    let mut dense_count = 0;
    let last = recipe.layers.len().saturating_sub(1);
    for (i, layer) in recipe.layers.iter().enumerate() {
        let (name, parameters) = match layer {
            Layer::Flatten {} => {
                let name = if i == 0 { "flatten".to_string() } else { format!("flatten_{i}") };
                shape = vec![shape.iter().product()];
                value =
                    add_node(&mut graph, "Flatten", &name, &[&value], &format!("{name}/output"));
                graph.node.last_mut().context("node")?.attribute.push(int_attribute("axis", 1));
                (name, 0)
            }
            Layer::Dense { units, activation, use_bias } => {
                dense_count += 1;
                let name = if dense_count == 1 {
                    "dense".into()
                } else {
                    format!("dense_{}", dense_count - 1)
                };
                let &[inputs] = shape.as_slice() else {
                    anyhow::bail!(
                        "layer {i} (dense) needs a flat input, not {shape:?}; put a flatten layer before it"
                    );
                };
                let weights = inputs.checked_mul(*units).filter(|n| *n <= MAX_PARAMETERS);
                let weights = weights.with_context(|| {
                    format!("layer {i} (dense): {inputs} × {units} weights are too many")
                })?;
                let parameters = weights + if *use_bias { *units } else { 0 };
                let kernel = glorot_uniform(&mut random, inputs, *units);
                graph.initializer.push(tensor(
                    &format!("{name}/kernel"),
                    &[inputs, *units],
                    &kernel,
                ));
                let mut operands = vec![value.clone(), format!("{name}/kernel")];
                if *use_bias {
                    graph.initializer.push(tensor(
                        &format!("{name}/bias"),
                        &[*units],
                        &vec![0.0; *units],
                    ));
                    operands.push(format!("{name}/bias"));
                }
                let output =
                    if i == last { final_name(*activation) } else { &format!("{name}/output") };
                let operands: Vec<&str> = operands.iter().map(String::as_str).collect();
                value = match onnx_activation(*activation) {
                    None => add_node(&mut graph, "Gemm", &name, &operands, output),
                    Some(op) => {
                        let linear = add_node(
                            &mut graph,
                            "Gemm",
                            &name,
                            &operands,
                            &format!("{name}/linear"),
                        );
                        let node = format!("{name}/{}", activation.name());
                        add_node(&mut graph, op, &node, &[&linear], output)
                    }
                };
                shape = vec![*units];
                (name, parameters)
            }
        };
        total = total
            .checked_add(parameters)
            .filter(|n| *n <= MAX_PARAMETERS)
            .with_context(|| format!("the recipe has more than {MAX_PARAMETERS} weights"))?;
        let layer = match layer {
            Layer::Flatten {} => "Flatten".to_string(),
            Layer::Dense { activation, .. } => format!("Dense ({})", activation.name()),
        };
        summary.push(LayerSummary { name, layer, output_shape: shape.clone(), parameters });
    }
    ensure!(!graph.node.is_empty(), "the recipe has no layers");
    graph.output.push(value_info(&value, &shape));
    let model = pb::ModelProto {
        ir_version: IR_VERSION,
        producer_name: "mlctl".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        opset_import: vec![pb::OperatorSetIdProto { domain: String::new(), version: OPSET }],
        graph: Some(graph),
        ..Default::default()
    };
    Ok((model, summary))
}

fn final_name(activation: LayerActivation) -> &'static str {
    match activation {
        LayerActivation::Softmax | LayerActivation::Sigmoid => "probabilities",
        LayerActivation::Linear => "logits",
        LayerActivation::Relu | LayerActivation::Tanh => "scores",
    }
}

fn onnx_activation(activation: LayerActivation) -> Option<&'static str> {
    match activation {
        LayerActivation::Linear => None,
        LayerActivation::Relu => Some("Relu"),
        LayerActivation::Sigmoid => Some("Sigmoid"),
        LayerActivation::Tanh => Some("Tanh"),
        LayerActivation::Softmax => Some("Softmax"),
    }
}

/// Uniform in ±√(6 / (inputs + outputs)) (Glorot and Bengio 2010, as Keras' `GlorotUniform`), row-major inputs × outputs.
fn glorot_uniform(random: &mut Pcg64, inputs: usize, outputs: usize) -> Vec<f32> {
    let limit = (6.0 / (inputs + outputs) as f64).sqrt();
    let unit = || (random.next_u64() >> 11) as f64 / (1u64 << 53) as f64;
    std::iter::repeat_with(unit)
        .take(inputs * outputs)
        .map(|u| ((2.0 * u - 1.0) * limit) as f32)
        .collect()
}

fn add_node(
    graph: &mut pb::GraphProto,
    op: &str,
    name: &str,
    inputs: &[&str],
    output: &str,
) -> String {
    graph.node.push(pb::NodeProto {
        name: name.into(),
        op_type: op.into(),
        input: inputs.iter().map(|s| s.to_string()).collect(),
        output: vec![output.into()],
        ..Default::default()
    });
    output.to_string()
}

fn int_attribute(name: &str, value: i64) -> pb::AttributeProto {
    pb::AttributeProto {
        name: name.into(),
        r#type: pb::attribute_proto::AttributeType::Int as i32,
        i: value,
        ..Default::default()
    }
}

/// A float32 tensor with its data as little-endian `raw_data`.
pub fn tensor(name: &str, shape: &[usize], values: &[f32]) -> pb::TensorProto {
    pb::TensorProto {
        name: name.into(),
        dims: shape.iter().map(|&d| d as i64).collect(),
        data_type: pb::tensor_proto::DataType::Float as i32,
        raw_data: values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into(),
        ..Default::default()
    }
}

/// A float32 input or output `[N, sample_shape…]`.
fn value_info(name: &str, sample_shape: &[usize]) -> pb::ValueInfoProto {
    let sample = sample_shape.iter().map(|d| OnnxDim::Number(*d as i64));
    onnx::float_port(name, std::iter::once(OnnxDim::Name("N")).chain(sample))
}
