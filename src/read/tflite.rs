//! `.tflite` → LiteGraph.

use crate::data::preprocessing::{Channels, Preprocessing};
use crate::format::tflite::{self as file, BlockwiseQuantization, QuantizationDetails, TensorType};
use crate::format::tflite_metadata::{
    self as metadata, Content, ModelMetadata, ProcessUnit, TensorMetadata,
};
use crate::graph::*;
use crate::ops::{self, TfliteOp};
use crate::write::{Description, LAYOUT_METADATA, PREPROCESSING_METADATA};
use anyhow::{Context, Result, anyhow, bail, ensure};

/// The tables of a file that is `.tflite`, whatever its ops.
pub fn parse_tflite(bytes: bytes::Bytes) -> Result<file::Model> {
    ensure!(!bytes.is_empty(), "the file is empty; a .tflite model was expected");
    file::Model::parse(bytes).map_err(|e| anyhow!("not a .tflite model, or damaged ({e})"))
}

/// The lite graph of a parsed (hence valid) file.
///
/// # Errors
/// Every operator that is not supported, together; or the tensor that is not.
pub fn lite_graph(model: &file::Model) -> Result<Model> {
    let mut unsupported = vec![];
    let mut subgraphs = vec![];
    for (index, graph) in model.subgraphs.iter().enumerate() {
        subgraphs.push(subgraph(model, graph, index, &mut unsupported)?);
    }
    if !unsupported.is_empty() {
        bail!(UnsupportedOps::from(unsupported));
    }
    let ends = |maps: &[file::TensorMap]| {
        maps.iter().map(|m| (m.name.clone(), m.tensor_index as usize)).collect()
    };
    let mut signatures: Vec<Signature> = model
        .signature_defs
        .iter()
        .map(|s| Signature {
            key: s.signature_key.clone(),
            subgraph: s.subgraph_index as usize,
            inputs: ends(&s.inputs),
            outputs: ends(&s.outputs),
        })
        .collect();
    if signatures.is_empty()
        && let Some(graph) = subgraphs.first()
    {
        let named =
            |ids: &[TensorId]| ids.iter().map(|&i| (graph.tensors[i].name.clone(), i)).collect();
        let (inputs, outputs) = (named(&graph.inputs), named(&graph.outputs));
        signatures.push(Signature { key: "serving_default".into(), subgraph: 0, inputs, outputs });
    }
    let metadata = model.metadata.iter().filter_map(|entry| {
        let content = model.buffers.get(entry.buffer as usize)?.data.clone();
        Some(Metadata { name: entry.name.clone(), content })
    });
    let graph = Model {
        description: model.description.clone(),
        metadata: metadata.collect(),
        subgraphs,
        signatures,
    };
    graph.validate()?;
    Ok(graph)
}

fn subgraph(
    model: &file::Model,
    graph: &file::SubGraph,
    index: usize,
    unsupported: &mut Vec<UnsupportedOp>,
) -> Result<Subgraph> {
    let mut result = Subgraph { name: graph.name.clone(), ..Default::default() };
    for tensor in &graph.tensors {
        let converted = convert_tensor(model, graph, tensor)
            .with_context(|| format!("tensor '{}' of subgraph {index}", tensor.name))?;
        result.tensors.push(converted);
    }
    let id = |i: &i32| usize::try_from(*i).ok();
    for operator in &graph.operators {
        let code = model.operator_code(operator);
        let custom = (code.builtin_code == file::BuiltinOperator::CUSTOM)
            .then(|| (code.custom_code.clone(), operator.custom_options.clone()));
        let op = TfliteOp {
            builtin: code.builtin_code,
            version: code.version,
            options: operator.builtin_options.clone(),
            custom,
        };
        let outputs: Vec<TensorId> = operator.outputs.iter().filter_map(id).collect();
        match ops::read(&op) {
            Ok(op) => result.nodes.push(Node {
                op,
                inputs: operator.inputs.iter().map(id).collect(),
                outputs,
            }),
            Err(reason) => unsupported.push(UnsupportedOp {
                node: outputs.first().map_or(String::new(), |&o| result.tensors[o].name.clone()),
                op: op.builtin.name().to_string(),
                reason: format!("{reason:#}"),
            }),
        }
    }
    result.inputs = graph.inputs.iter().filter_map(id).collect();
    fill_empty_constants(&mut result);
    result.outputs = graph.outputs.iter().filter_map(id).collect();
    Ok(result)
}

/// A constant of no elements has no buffer; what nothing computes and is empty is such.
fn fill_empty_constants(graph: &mut Subgraph) {
    let computed = graph.nodes.iter().flat_map(|n| &n.outputs).chain(&graph.inputs);
    let computed: std::collections::HashSet<TensorId> = computed.copied().collect();
    for (id, tensor) in graph.tensors.iter_mut().enumerate() {
        let empty = tensor.known_shape().is_some_and(|s| s.contains(&0));
        if empty && tensor.data.is_none() && !computed.contains(&id) {
            tensor.data = Some(bytes::Bytes::new());
        }
    }
}

fn convert_tensor(
    model: &file::Model,
    graph: &file::SubGraph,
    tensor: &file::Tensor,
) -> Result<Tensor> {
    ensure!(!tensor.is_variable, "variable tensors are not supported yet");
    let signature = Some(&tensor.shape_signature).filter(|s| s.len() == tensor.shape.len());
    let shape =
        signature.unwrap_or(&tensor.shape).iter().enumerate().map(
            |(axis, &d)| match usize::try_from(d) {
                Ok(n) => Dim::Known(n),
                Err(_) if axis == 0 => Dim::Symbol("N".into()),
                Err(_) => Dim::Symbol(format!("d{axis}")),
            },
        );
    Ok(Tensor {
        name: tensor.name.clone(),
        origin: Some(tensor.name.clone()),
        element: element(tensor.tensor_type)?,
        shape: shape.collect(),
        quantization: match &tensor.quantization {
            Some(parameters) => quantization(model, graph, parameters, tensor.shape.len())?,
            None => None,
        },
        data: model.constant(tensor).cloned(),
    })
}

fn element(tensor: TensorType) -> Result<ElementType> {
    Ok(match tensor {
        TensorType::Float32 => ElementType::F32,
        TensorType::Float16 => ElementType::F16,
        TensorType::Int4 => ElementType::I4,
        TensorType::Int8 => ElementType::I8,
        TensorType::UInt8 => ElementType::U8,
        TensorType::Int16 => ElementType::I16,
        TensorType::UInt16 => ElementType::U16,
        TensorType::Int32 => ElementType::I32,
        TensorType::UInt32 => ElementType::U32,
        TensorType::Int64 => ElementType::I64,
        TensorType::Bool => ElementType::Bool,
        TensorType::String => ElementType::String,
        other => bail!("elements of type {} are not supported", other.name()),
    })
}

fn quantization(
    model: &file::Model,
    graph: &file::SubGraph,
    parameters: &file::QuantizationParameters,
    rank: usize,
) -> Result<Option<Quantization>> {
    let axis = usize::try_from(parameters.quantized_dimension).unwrap_or(0);
    match &parameters.details {
        QuantizationDetails::None => {}
        QuantizationDetails::Blockwise(blocks) => {
            ensure!(axis == 0 && rank > 1, "blocks of other than rows are not supported yet");
            return blockwise(model, graph, blocks, rank - 1).map(Some);
        }
        QuantizationDetails::Custom(_) | QuantizationDetails::MultiAxis(_) => {
            bail!("custom quantization and that of several axes are not supported yet")
        }
    }
    let zero_point = |i: usize| parameters.zero_point.get(i).copied().unwrap_or(0);
    Ok(match parameters.scale.as_slice() {
        [] => None,
        [scale] => Some(Quantization::PerTensor { scale: *scale, zero_point: zero_point(0) }),
        scales => Some(Quantization::PerChannel {
            scales: scales.to_vec(),
            zero_points: (0..scales.len()).map(zero_point).collect(),
            axis,
        }),
    })
}

/// Scales of blocks are a constant of the graph.
fn blockwise(
    model: &file::Model,
    graph: &file::SubGraph,
    blocks: &BlockwiseQuantization,
    axis: usize,
) -> Result<Quantization> {
    ensure!(blocks.zero_points == -1, "zero points of blocks are not supported yet");
    let size = usize::try_from(blocks.block_size).ok().filter(|&size| size > 0);
    let size = size.context("a block of no elements")?;
    let place = usize::try_from(blocks.scales).ok().and_then(|place| graph.tensors.get(place));
    let tensor = place.context("the scales of blocks are missing")?;
    let data = model.constant(tensor).context("the scales of blocks are no constant")?;
    let scales: Vec<f32> = match tensor.tensor_type {
        TensorType::Float16 => {
            let halves = data.as_chunks::<2>().0.iter();
            halves.map(|&half| half::f16::from_le_bytes(half).to_f32()).collect()
        }
        TensorType::Float32 => {
            data.as_chunks::<4>().0.iter().map(|&word| f32::from_le_bytes(word)).collect()
        }
        other => bail!("scales of blocks of type {}", other.name()),
    };
    Ok(Quantization::Blockwise { zero_points: vec![0; scales.len()], scales, axis, size })
}

/// What the file tells about its model beside the graph; what is missing or broken is left out.
pub fn description(model: &file::Model, bytes: &[u8]) -> Description {
    let content = model.metadata(metadata::METADATA_NAME);
    let described = content.and_then(|c| ModelMetadata::parse(c).ok()).unwrap_or_default();
    let graph = described.subgraph_metadata.first();
    let own = model.metadata(PREPROCESSING_METADATA).and_then(|c| serde_json::from_slice(c).ok());
    let permuted = model.metadata(LAYOUT_METADATA).and_then(|c| serde_json::from_slice(c).ok());
    let permuted: Vec<PermutedEnd> = permuted.unwrap_or_default();
    let input = graph.and_then(|g| g.input_tensor_metadata.first());
    let labels = graph
        .and_then(|g| g.output_tensor_metadata.iter().flat_map(|t| &t.associated_files).next())
        .and_then(|file| {
            let files = metadata::read_associated_files(bytes).ok()?;
            let (_, text) = files.into_iter().find(|(name, _)| *name == file.name)?;
            Some(String::from_utf8(text).ok()?.lines().map(str::to_string).collect())
        });
    Description {
        name: described.name.clone(),
        labels: labels.unwrap_or_default(),
        preprocessing: own.or_else(|| standard_preprocessing(model, input?)),
        permuted: permuted.into_iter().filter(is_permutation).collect(),
    }
}

fn is_permutation(end: &PermutedEnd) -> bool {
    const MOST_AXES: usize = 8;
    let axes = &end.permutation;
    axes.len() <= MOST_AXES && (0..axes.len()).all(|axis| axes.contains(&axis))
}

/// The record that a foreign file's image metadata amounts to: NHWC, its normalization on 0..255.
fn standard_preprocessing(model: &file::Model, input: &TensorMetadata) -> Option<Preprocessing> {
    let Some(Content::Image { color_space, .. }) = input.content else { return None };
    let graph = model.subgraphs.first()?;
    let tensor = graph.tensors.get(usize::try_from(*graph.inputs.first()?).ok()?)?;
    let &[_, height, width, depth] = tensor.shape.as_slice() else { return None };
    let channels = match (depth, color_space) {
        (1, _) => Channels::Grey,
        (3, _) => Channels::Rgb,
        _ => return None,
    };
    let side = |n: i32| usize::try_from(n).ok();
    let mut record = Preprocessing::unit_range(side(height)?, side(width)?, channels);
    for unit in &input.process_units {
        if let ProcessUnit::Normalization { mean, std } = unit {
            record.scale = 1.0;
            record.mean = mean.clone();
            record.std = std.clone();
        }
    }
    record.validate().ok()?;
    Some(record)
}
