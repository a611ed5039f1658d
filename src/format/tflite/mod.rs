//! The `.tflite` file (identifier `TFL3`, schema version 3) as plain values, field by field as in
//! the public `schema.fbs`. Checks what can be checked without knowing an op: after `Model::parse`,
//! every index is in range and every constant has the length that its shape says. Must not know
//! what an operator computes.
//!
//! Here are the values; `tables` turns them from and to flatbuffer tables, `options` holds those
//! of the operators, `codes` the numbers of operators and types, `validate` the checks.

mod codes;
mod error;
mod field;
mod options;
mod tables;
mod validate;

#[cfg(test)]
mod tests;

pub use codes::*;
pub use error::*;
pub use options::*;

use std::io::Write;

use bytes::Bytes;

use super::flatbuffer::{Layout, Reader};

pub const FILE_IDENTIFIER: [u8; 4] = *b"TFL3";
pub const SCHEMA_VERSION: u32 = 3;

const DATA_ALIGN: usize = 16;
/// Above this much data, buffers go behind the flatbuffer, whose offsets end at 2 GiB.
const INLINE_DATA_LIMIT: u64 = 1_900_000_000;

type Result<T, E = TfliteError> = std::result::Result<T, E>;

/// A whole file.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Model {
    pub operator_codes: Vec<OperatorCode>,
    /// The first is the main graph.
    pub subgraphs: Vec<SubGraph>,
    pub description: String,
    /// The first is empty: what points at it has no data.
    pub buffers: Vec<Buffer>,
    /// Deprecated, superseded by `metadata`.
    pub metadata_buffer: Vec<i32>,
    pub metadata: Vec<Metadata>,
    pub signature_defs: Vec<SignatureDef>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct OperatorCode {
    pub builtin_code: BuiltinOperator,
    /// The operator's name if `builtin_code` is `CUSTOM`, else empty.
    pub custom_code: String,
    pub version: i32,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct SubGraph {
    pub tensors: Vec<Tensor>,
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    /// In the order of execution.
    pub operators: Vec<Operator>,
    pub name: String,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Tensor {
    pub shape: Vec<i32>,
    pub tensor_type: TensorType,
    /// Index into `Model::buffers`; 0 if the tensor is no constant.
    pub buffer: u32,
    pub name: String,
    pub quantization: Option<QuantizationParameters>,
    pub is_variable: bool,
    /// Empty, or as long as `shape`, with -1 for dimensions known only when the model runs.
    pub shape_signature: Vec<i32>,
    pub has_rank: bool,
    /// What a tensor of type `Variant` holds.
    pub variant_tensors: Vec<VariantSubType>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct VariantSubType {
    pub shape: Vec<i32>,
    pub tensor_type: TensorType,
    pub has_rank: bool,
}

/// real = scale × (quantized − zero point), unless `details` say otherwise.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct QuantizationParameters {
    pub min: Vec<f32>,
    pub max: Vec<f32>,
    /// Empty, one for the tensor, or one for each index of `quantized_dimension`.
    pub scale: Vec<f32>,
    /// As long as `scale`.
    pub zero_point: Vec<i64>,
    pub details: QuantizationDetails,
    pub quantized_dimension: i32,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub enum QuantizationDetails {
    #[default]
    None,
    Custom(Bytes),
    Blockwise(BlockwiseQuantization),
    MultiAxis(MultiAxisQuantization),
}

/// `scales` and `zero_points` are tensors of the same subgraph; `zero_points` is -1 for all zero.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct BlockwiseQuantization {
    pub scales: i32,
    pub zero_points: i32,
    pub block_size: i32,
    pub block_shape: Vec<i32>,
}

/// As `BlockwiseQuantization`, over several dimensions; `block_size` is 0 if per channel.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct MultiAxisQuantization {
    pub scales: i32,
    pub zero_points: i32,
    pub block_size: i32,
    pub quantized_dimensions: Vec<i32>,
}

/// Raw bytes: a slice of the file, wherever in it they were stored.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Buffer {
    pub data: Bytes,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Operator {
    pub opcode_index: u32,
    /// Tensors; -1 for an optional input that is not there.
    pub inputs: Vec<i32>,
    pub outputs: Vec<i32>,
    /// From either of the schema's two unions.
    pub builtin_options: BuiltinOptions,
    pub custom_options: Bytes,
    pub custom_options_format: CustomOptionsFormat,
    pub mutating_variable_inputs: Vec<bool>,
    /// Tensors inside the operator; -1 for one that is not there.
    pub intermediates: Vec<i32>,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct Metadata {
    pub name: String,
    pub buffer: u32,
}

/// How a subgraph is called by name.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct SignatureDef {
    pub inputs: Vec<TensorMap>,
    pub outputs: Vec<TensorMap>,
    pub signature_key: String,
    pub subgraph_index: u32,
}

#[derive(Debug, Clone, PartialEq, Default)]
pub struct TensorMap {
    pub name: String,
    pub tensor_index: u32,
}

impl Model {
    /// Reads and checks a file. Buffers are slices of `bytes`; bytes behind the flatbuffer that no
    /// buffer names, such as a ZIP of labels, are left alone.
    pub fn parse(bytes: Bytes) -> Result<Model> {
        let reader = Reader::new(&bytes);
        let root = reader.root(&FILE_IDENTIFIER)?;
        let version = root.scalar(0, 0)?;
        if version != SCHEMA_VERSION {
            return Err(TfliteError::WrongVersion(version));
        }
        let model = Model::read(&bytes, &root)?;
        model.validate()?;
        Ok(model)
    }

    /// Checks the model, writes it and returns the number of bytes. `out` must be at the start of
    /// its file. Data beyond 2 GB go behind the flatbuffer.
    pub fn write(&self, out: &mut impl Write) -> Result<u64> {
        self.write_with_inline_limit(out, INLINE_DATA_LIMIT)
    }

    fn write_with_inline_limit(&self, out: &mut impl Write, limit: u64) -> Result<u64> {
        self.validate()?;
        let inline =
            self.buffers.iter().map(|buffer| buffer.data.len() as u64).sum::<u64>() <= limit;
        let layout = Layout::new(self.to_table(inline)?, &FILE_IDENTIFIER)?;
        Ok(layout.write(out)?)
    }

    /// A tensor's data, if it is a constant. One without elements counts as constant if it names a
    /// buffer.
    pub fn constant(&self, tensor: &Tensor) -> Option<&Bytes> {
        let data = &self.buffers.get(tensor.buffer as usize)?.data;
        let constant = tensor.buffer != 0 && (!data.is_empty() || tensor.byte_length() == Some(0));
        constant.then_some(data)
    }

    /// The contents of the metadata entry `name`.
    pub fn metadata(&self, name: &str) -> Option<&Bytes> {
        let entry = self.metadata.iter().find(|entry| entry.name == name)?;
        self.buffers.get(entry.buffer as usize).map(|buffer| &buffer.data)
    }

    /// The operator that `operator` runs; of a validated model.
    pub fn operator_code(&self, operator: &Operator) -> &OperatorCode {
        &self.operator_codes[operator.opcode_index as usize]
    }
}

impl Tensor {
    /// The number of elements, if it fits.
    pub fn element_count(&self) -> Option<u64> {
        self.shape
            .iter()
            .try_fold(1u64, |count, &dimension| count.checked_mul(u64::try_from(dimension).ok()?))
    }

    /// The bytes that the elements take (types under 8 bits packed), if the type has a fixed width
    /// and the number fits.
    pub fn byte_length(&self) -> Option<u64> {
        let bits = self.element_count()?.checked_mul(self.tensor_type.bits()? as u64)?;
        Some(bits.div_ceil(8))
    }
}
