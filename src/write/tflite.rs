//! LiteGraph → `.tflite`. The same graph gives the same bytes.

use crate::data::preprocessing::{Channels, Preprocessing};
use crate::format::tflite::{self as file, BlockwiseQuantization, QuantizationDetails};
use crate::format::tflite_metadata::{
    self as metadata, AssociatedFile, AssociatedFileType, ColorSpace, Content, ModelMetadata,
    ProcessUnit, SubGraphMetadata, TensorMetadata,
};
use crate::graph::*;
use crate::ops;
use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use std::collections::HashMap;
use std::io::Write;

/// What a file tells about its model beside the graph.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Description {
    pub name: String,
    /// Class names of the first output's last axis.
    pub labels: Vec<String>,
    /// How a picture becomes the first input.
    pub preprocessing: Option<Preprocessing>,
    /// The ends whose axes are in another order than where the model comes from.
    pub permuted: Vec<PermutedEnd>,
}

/// The metadata entry that holds [`Preprocessing`] as JSON.
pub const PREPROCESSING_METADATA: &str = "MLCTL_PREPROCESSING";

/// The metadata entry that holds the permuted ends as JSON; without it there are none.
pub const LAYOUT_METADATA: &str = "MLCTL_LAYOUT";

const RUNTIME_METADATA: &str = "min_runtime_version";

const LABELS_FILE: &str = "labels.txt";

/// Writes a valid model and returns the number of bytes. Metadata entries that a file this comes from
/// had of the runtime version, the preprocessing and the description are made anew.
///
/// # Errors
/// The graph is not valid, holds what TFLite cannot, or `out` fails.
pub fn write_tflite(model: &Model, description: &Description, out: &mut impl Write) -> Result<u64> {
    model.validate()?;
    let mut writer = FileWriter::default();
    writer.file.buffers.push(file::Buffer::default());
    for graph in &model.subgraphs {
        let subgraph =
            writer.subgraph(graph).with_context(|| format!("writing '{}'", graph.name))?;
        writer.file.subgraphs.push(subgraph);
    }
    for signature in &model.signatures {
        let ends = |ends: &[(String, TensorId)]| -> Result<Vec<file::TensorMap>> {
            let map = |(name, tensor): &(String, TensorId)| {
                Ok(file::TensorMap { name: name.clone(), tensor_index: u32::try_from(*tensor)? })
            };
            ends.iter().map(map).collect()
        };
        writer.file.signature_defs.push(file::SignatureDef {
            inputs: ends(&signature.inputs)?,
            outputs: ends(&signature.outputs)?,
            signature_key: signature.key.clone(),
            subgraph_index: u32::try_from(signature.subgraph)?,
        });
    }
    writer.file.description = model.description.clone();
    let (major, minor, patch) = writer.oldest_runtime;
    let mut version = format!("{major}.{minor}.{patch}").into_bytes();
    version.resize(16, 0);
    writer.metadata(RUNTIME_METADATA, version.into());
    let own = [RUNTIME_METADATA, PREPROCESSING_METADATA, LAYOUT_METADATA, metadata::METADATA_NAME];
    for entry in model.metadata.iter().filter(|entry| !own.contains(&entry.name.as_str())) {
        writer.metadata(&entry.name, entry.content.clone());
    }
    if let Some(preprocessing) = &description.preprocessing {
        writer.metadata(PREPROCESSING_METADATA, serde_json::to_vec(preprocessing)?.into());
    }
    if !description.permuted.is_empty() {
        let permuted = serde_json::to_vec(&description.permuted)?;
        writer.metadata(LAYOUT_METADATA, permuted.into());
    }
    let described = describe(model, description)?;
    writer.metadata(metadata::METADATA_NAME, described.into());

    let length = writer.file.write(out)?;
    let mut files = vec![];
    if !description.labels.is_empty() {
        let text: String = description.labels.iter().map(|l| format!("{l}\n")).collect();
        files.push((LABELS_FILE.to_string(), text.into_bytes()));
    }
    Ok(length + metadata::append_labels_zip(out, length, &files)?)
}

#[derive(Default)]
struct FileWriter {
    file: file::Model,
    buffers: HashMap<Bytes, u32, foldhash::fast::RandomState>,
    oldest_runtime: (u32, u32, u32),
}

impl FileWriter {
    /// The number of the buffer with these contents; never 0, which is for tensors without a value.
    fn buffer(&mut self, data: Bytes) -> u32 {
        let next = self.file.buffers.len() as u32;
        *self.buffers.entry(data.clone()).or_insert_with(|| {
            self.file.buffers.push(file::Buffer { data });
            next
        })
    }

    fn metadata(&mut self, name: &str, content: Bytes) {
        let buffer = self.buffer(content);
        self.file.metadata.push(file::Metadata { name: name.to_string(), buffer });
    }

    fn subgraph(&mut self, graph: &Subgraph) -> Result<file::SubGraph> {
        let index = |id: TensorId| i32::try_from(id).context("more than 2^31 tensors");
        let indices = |ids: &[TensorId]| ids.iter().map(|&i| index(i)).collect::<Result<Vec<_>>>();
        let mut result = file::SubGraph {
            name: graph.name.clone(),
            inputs: indices(&graph.inputs)?,
            outputs: indices(&graph.outputs)?,
            ..Default::default()
        };
        for tensor in &graph.tensors {
            let tensor =
                self.tensor(tensor).with_context(|| format!("tensor '{}'", tensor.name))?;
            result.tensors.push(tensor);
        }
        for (id, tensor) in graph.tensors.iter().enumerate() {
            let Some(Quantization::Blockwise { scales, axis, size, zero_points }) =
                &tensor.quantization
            else {
                continue;
            };
            let of_blocks = self.scales_of_blocks(tensor, scales, zero_points, *axis, *size)?;
            let details = QuantizationDetails::Blockwise(BlockwiseQuantization {
                scales: index(result.tensors.len())?,
                zero_points: -1,
                block_size: i32::try_from(*size)?,
                block_shape: vec![],
            });
            result.tensors.push(of_blocks);
            let parameters = result.tensors[id].quantization.get_or_insert_default();
            // that of the channels, whose rows the blocks are cut from
            parameters.quantized_dimension = 0;
            parameters.details = details;
        }
        for node in &graph.nodes {
            let op = ops::write(graph, node)
                .with_context(|| format!("writing a {} node", node.op.name()))?;
            let (custom_code, custom_options) = op.custom.unwrap_or_default();
            let code =
                file::OperatorCode { builtin_code: op.builtin, custom_code, version: op.version };
            let runtime = ops::oldest_runtime(op.builtin, op.version);
            self.oldest_runtime = self.oldest_runtime.max(runtime);
            let codes = &mut self.file.operator_codes;
            let opcode = codes.iter().position(|c| *c == code).unwrap_or_else(|| {
                codes.push(code);
                codes.len() - 1
            });
            let inputs = node.inputs.iter().map(|i| i.map_or(Ok(-1), index));
            result.operators.push(file::Operator {
                opcode_index: u32::try_from(opcode)?,
                inputs: inputs.collect::<Result<_>>()?,
                outputs: indices(&node.outputs)?,
                builtin_options: op.options,
                custom_options,
                ..Default::default()
            });
        }
        Ok(result)
    }

    /// The float16 tensor that holds the scales of `tensor`'s blocks.
    fn scales_of_blocks(
        &mut self,
        tensor: &Tensor,
        scales: &[f32],
        zero_points: &[i64],
        axis: usize,
        size: usize,
    ) -> Result<file::Tensor> {
        let at = || format!("the blocks of tensor '{}'", tensor.name);
        let mut shape = tensor.known_shape().with_context(at)?;
        let along = shape.get_mut(axis).with_context(at)?;
        ensure!(size > 0 && along.is_multiple_of(size), "{}: no whole number", at());
        *along /= size;
        ensure!(shape.iter().product::<usize>() == scales.len(), "{}: not a scale each", at());
        ensure!(zero_points.iter().all(|&z| z == 0), "{}: a zero point is not 0", at());
        let halves = scales.iter().flat_map(|&s| half::f16::from_f32(s).to_le_bytes());
        let data: Vec<u8> = halves.collect();
        Ok(file::Tensor {
            shape: shape.iter().map(|&d| i32::try_from(d)).collect::<Result<_, _>>()?,
            tensor_type: ops::tensor_type(ElementType::F16),
            buffer: self.buffer(data.into()),
            name: format!("{}/scales", tensor.name),
            has_rank: true,
            ..Default::default()
        })
    }

    fn tensor(&mut self, tensor: &Tensor) -> Result<file::Tensor> {
        let dims = |dim: &Dim, unknown: i32| match dim {
            Dim::Known(n) => i32::try_from(*n).context("a dimension is over 2^31"),
            Dim::Symbol(_) => Ok(unknown),
        };
        let shape: Vec<i32> = tensor.shape.iter().map(|d| dims(d, 1)).collect::<Result<_>>()?;
        let signature: Vec<i32> =
            tensor.shape.iter().map(|d| dims(d, -1)).collect::<Result<_>>()?;
        let shape_signature = if signature == shape { vec![] } else { signature };
        Ok(file::Tensor {
            shape,
            tensor_type: ops::tensor_type(tensor.element),
            buffer: tensor.data.clone().map_or(0, |data| self.buffer(data)),
            name: tensor.name.clone(),
            quantization: tensor.quantization.as_ref().map(quantization).transpose()?,
            is_variable: false,
            shape_signature,
            has_rank: true,
            variant_tensors: vec![],
        })
    }
}

fn quantization(quantization: &Quantization) -> Result<file::QuantizationParameters> {
    let (scale, zero_point, axis) = match quantization {
        Quantization::PerTensor { scale, zero_point } => (vec![*scale], vec![*zero_point], 0),
        Quantization::PerChannel { scales, zero_points, axis } => {
            ensure!(scales.len() == zero_points.len(), "as many zero points as scales are needed");
            (scales.clone(), zero_points.clone(), *axis)
        }
        // its scales are a tensor, which is added behind all others
        Quantization::Blockwise { .. } => return Ok(file::QuantizationParameters::default()),
    };
    Ok(file::QuantizationParameters {
        scale,
        zero_point,
        quantized_dimension: i32::try_from(axis)?,
        details: QuantizationDetails::None,
        ..Default::default()
    })
}

/// The `TFLITE_METADATA` flatbuffer.
fn describe(model: &Model, description: &Description) -> Result<Vec<u8>> {
    let graph = model.main();
    let tensors = |ids: &[TensorId]| -> Vec<TensorMetadata> {
        let named = |&id: &TensorId| TensorMetadata {
            name: graph.tensors[id].name.clone(),
            ..Default::default()
        };
        ids.iter().map(named).collect()
    };
    let mut inputs = tensors(&graph.inputs);
    if let (Some(input), Some(p)) = (inputs.first_mut(), &description.preprocessing) {
        let color_space = match p.channels {
            Channels::Grey => ColorSpace::Grayscale,
            Channels::Rgb => ColorSpace::Rgb,
            Channels::Bgr => ColorSpace::Unknown,
        };
        input.content = Some(Content::Image { color_space, default_size: None });
        let in_pixels = |values: &[f32]| values.iter().map(|v| v / p.scale).collect();
        input
            .process_units
            .push(ProcessUnit::Normalization { mean: in_pixels(&p.mean), std: in_pixels(&p.std) });
    }
    let mut outputs = tensors(&graph.outputs);
    if let Some(output) = outputs.first_mut().filter(|_| !description.labels.is_empty()) {
        output.content = Some(Content::Feature);
        output.associated_files.push(AssociatedFile {
            name: LABELS_FILE.to_string(),
            file_type: AssociatedFileType::TensorAxisLabels,
            ..Default::default()
        });
    }
    let metadata = ModelMetadata {
        name: description.name.clone(),
        min_parser_version: "1.0.0".into(),
        subgraph_metadata: vec![SubGraphMetadata {
            input_tensor_metadata: inputs,
            output_tensor_metadata: outputs,
            ..Default::default()
        }],
        ..Default::default()
    };
    Ok(metadata.to_bytes()?)
}
