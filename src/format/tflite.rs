//! The `.tflite` file (identifier `TFL3`, schema version 3) as plain values, field by field as in
//! the public `schema.fbs`. Checks what can be checked without knowing an op: after `Model::parse`,
//! every index is in range and every constant has the length that its shape says. Must not know
//! what an operator computes.

use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

use bytes::Bytes;

use super::flatbuffer::{FlatbufferError, Layout, Reader, Scalar, Table, TableValue};

pub const FILE_IDENTIFIER: [u8; 4] = *b"TFL3";
pub const SCHEMA_VERSION: u32 = 3;

const DATA_ALIGN: usize = 16;
/// Above this much data, buffers go behind the flatbuffer, whose offsets end at 2 GiB.
const INLINE_DATA_LIMIT: u64 = 1_900_000_000;

/// A defect of a `.tflite` file, or of a `Model` that is to become one.
#[derive(Debug)]
pub enum TfliteError {
    /// The flatbuffer itself is broken.
    Flatbuffer(FlatbufferError),
    /// Writing failed.
    Io(io::Error),
    /// The schema version is not 3.
    WrongVersion(u32),
    /// A number that is none of an enum's codes, such as a tensor type of the future.
    UnknownCode { what: &'static str, code: i64 },
    /// An options table of the future: it can be read past, but not written.
    UnknownOptions { operator: &'static str, code: u8 },
    /// An operator has options in both unions.
    TwoOptions { place: Place },
    /// An index points past what it indexes, or is negative.
    IndexOutOfRange { place: Place, what: &'static str, index: i64, count: usize },
    /// A dimension below 0 in a shape, or below -1 in a shape signature.
    NegativeDimension { place: Place, dimension: i32 },
    /// A shape signature has another rank than the shape.
    SignatureRank { place: Place },
    /// A shape holds more elements than memory can.
    ShapeTooLarge { place: Place },
    /// A constant's length is not what its shape and type need.
    DataLength { place: Place, needed: u64, found: u64 },
    /// Data outside the flatbuffer reach past the end of the file.
    DataOutsideFile { place: Place },
    /// Scales, zero points and the quantized dimension do not fit each other or the shape.
    Quantization { place: Place, reason: &'static str },
    /// A tensor is stored sparsely.
    SparseTensor { place: Place },
    /// A tensor's data lie in another file.
    ExternalBuffer { place: Place },
    /// Buffer 0, which stands for "no data", is missing or has data.
    FirstBufferNotEmpty,
}

/// Where in a model a defect is, as in `tensor 3 of subgraph 0` or `signature 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Place {
    pub part: &'static str,
    pub index: usize,
    pub subgraph: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.part, self.index)?;
        match self.subgraph {
            Some(subgraph) => write!(f, " of subgraph {subgraph}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for TfliteError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flatbuffer(error) => write!(f, "{error}"),
            Self::Io(error) => write!(f, "{error}"),
            Self::WrongVersion(version) => {
                write!(f, "schema version {version}; only {SCHEMA_VERSION} is known")
            }
            Self::UnknownCode { what, code } => write!(f, "unknown {what} {code}"),
            Self::UnknownOptions { operator, code } => {
                write!(f, "{operator} has options of an unknown kind ({code})")
            }
            Self::TwoOptions { place } => write!(f, "{place} has two options tables"),
            Self::IndexOutOfRange { place, what, index, count } => {
                write!(f, "{place}: {what} {index} is out of range, there are {count}")
            }
            Self::NegativeDimension { place, dimension } => {
                write!(f, "{place}: dimension {dimension}")
            }
            Self::SignatureRank { place } => {
                write!(f, "{place}: shape and shape_signature have different ranks")
            }
            Self::ShapeTooLarge { place } => write!(f, "{place}: the shape is too large"),
            Self::DataLength { place, needed, found } => {
                write!(f, "{place}: its shape needs {needed} bytes of data, it has {found}")
            }
            Self::DataOutsideFile { place } => {
                write!(f, "{place}: its data reach past the end of the file")
            }
            Self::Quantization { place, reason } => write!(f, "{place}: quantization: {reason}"),
            Self::SparseTensor { place } => write!(f, "{place}: sparse tensors are unsupported"),
            Self::ExternalBuffer { place } => {
                write!(f, "{place}: data in another file are unsupported")
            }
            Self::FirstBufferNotEmpty => write!(f, "buffer 0 must exist and be empty"),
        }
    }
}

impl std::error::Error for TfliteError {}

impl From<FlatbufferError> for TfliteError {
    fn from(error: FlatbufferError) -> Self {
        Self::Flatbuffer(error)
    }
}

impl From<io::Error> for TfliteError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

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
        let mut buffers = root.tables_by_index(4, |index, table| {
            let place = Place { part: "buffer", index, subgraph: None };
            read_data(&bytes, &table, 0, 1, place).map(|data| Buffer { data })
        })?;
        match buffers.first_mut() {
            Some(first) => first.data = Bytes::new(),
            None => buffers.push(Buffer::default()),
        }
        let model = Model {
            operator_codes: root.tables(1, |table| OperatorCode::read(&table))?,
            subgraphs: root
                .tables_by_index(2, |index, table| SubGraph::read(&bytes, &table, index))?,
            description: root.text(3)?.to_owned(),
            buffers,
            metadata_buffer: root.scalars(5)?,
            metadata: root.tables(6, |table| {
                let buffer = table.scalar(1, 0)?;
                Ok::<_, TfliteError>(Metadata { name: table.text(0)?.to_owned(), buffer })
            })?,
            signature_defs: root.tables(7, |table| SignatureDef::read(&table))?,
        };
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

    /// Checks all that `parse` promises.
    pub fn validate(&self) -> Result<()> {
        if self.buffers.first().is_none_or(|buffer| !buffer.data.is_empty()) {
            return Err(TfliteError::FirstBufferNotEmpty);
        }
        for (index, entry) in self.metadata.iter().enumerate() {
            let place = Place { part: "metadata", index, subgraph: None };
            check_index(place, "buffer", entry.buffer.into(), self.buffers.len())?;
        }
        for (index, &buffer) in self.metadata_buffer.iter().enumerate() {
            let place = Place { part: "metadata_buffer", index, subgraph: None };
            check_index(place, "buffer", buffer.into(), self.buffers.len())?;
        }
        for (index, signature) in self.signature_defs.iter().enumerate() {
            let place = Place { part: "signature", index, subgraph: None };
            let subgraph = signature.subgraph_index;
            check_index(place, "subgraph", subgraph.into(), self.subgraphs.len())?;
            let count = self.subgraphs[subgraph as usize].tensors.len();
            for map in signature.inputs.iter().chain(&signature.outputs) {
                check_index(place, "tensor", map.tensor_index.into(), count)?;
            }
        }
        for (index, subgraph) in self.subgraphs.iter().enumerate() {
            self.validate_subgraph(index, subgraph)?;
        }
        Ok(())
    }

    fn validate_subgraph(&self, number: usize, subgraph: &SubGraph) -> Result<()> {
        let tensors = subgraph.tensors.len();
        for (part, indices) in [("input", &subgraph.inputs), ("output", &subgraph.outputs)] {
            for (index, &tensor) in indices.iter().enumerate() {
                let place = Place { part, index, subgraph: Some(number) };
                check_index(place, "tensor", tensor.into(), tensors)?;
            }
        }
        for (index, tensor) in subgraph.tensors.iter().enumerate() {
            let place = Place { part: "tensor", index, subgraph: Some(number) };
            self.validate_tensor(place, tensor, tensors)?;
        }
        for (index, operator) in subgraph.operators.iter().enumerate() {
            let place = Place { part: "operator", index, subgraph: Some(number) };
            let codes = self.operator_codes.len();
            check_index(place, "operator code", operator.opcode_index.into(), codes)?;
            for &tensor in operator.inputs.iter().chain(&operator.intermediates) {
                if tensor != -1 {
                    check_index(place, "tensor", tensor.into(), tensors)?;
                }
            }
            for &tensor in &operator.outputs {
                check_index(place, "tensor", tensor.into(), tensors)?;
            }
            for called in operator.builtin_options.called_subgraphs() {
                check_index(place, "subgraph", called, self.subgraphs.len())?;
            }
        }
        Ok(())
    }

    fn validate_tensor(&self, place: Place, tensor: &Tensor, tensors: usize) -> Result<()> {
        let negative = |shape: &[i32], least| {
            let dimension = shape.iter().copied().find(|&dimension| dimension < least);
            dimension.map_or(Ok(()), |dimension| {
                Err(TfliteError::NegativeDimension { place, dimension })
            })
        };
        negative(&tensor.shape, 0)?;
        negative(&tensor.shape_signature, -1)?;
        if !tensor.shape_signature.is_empty() && tensor.shape_signature.len() != tensor.shape.len()
        {
            return Err(TfliteError::SignatureRank { place });
        }
        for variant in &tensor.variant_tensors {
            negative(&variant.shape, -1)?;
        }
        check_index(place, "buffer", tensor.buffer.into(), self.buffers.len())?;
        let found = self.buffers[tensor.buffer as usize].data.len() as u64;
        match (tensor.tensor_type.bits(), tensor.byte_length()) {
            (Some(_), None) => return Err(TfliteError::ShapeTooLarge { place }),
            (Some(_), Some(needed)) if found != 0 && found != needed => {
                return Err(TfliteError::DataLength { place, needed, found });
            }
            _ => {}
        }
        match &tensor.quantization {
            Some(quantization) => quantization.validate(place, &tensor.shape, tensors),
            None => Ok(()),
        }
    }

    fn to_table(&self, inline: bool) -> Result<TableValue> {
        let mut table = TableValue::new();
        let operator_codes = self.operator_codes.iter().map(OperatorCode::to_table).collect();
        let subgraphs = self.subgraphs.iter().map(|subgraph| subgraph.to_table(self));
        table
            .scalar(0, SCHEMA_VERSION, 0)
            .tables(1, operator_codes)
            .tables(2, subgraphs.collect::<Result<_>>()?)
            .text(3, &self.description);
        let buffers = self.buffers.iter().map(|buffer| {
            let mut table = TableValue::new();
            let data = buffer.data.clone();
            if inline || data.is_empty() {
                table.data_if_any(0, data, DATA_ALIGN);
            } else {
                table.outside_data(1, data);
            }
            table
        });
        table.tables(4, buffers.collect());
        table.scalars_if_any(5, &self.metadata_buffer);
        let metadata = self.metadata.iter().map(|entry| {
            let mut table = TableValue::new();
            table.text(0, &entry.name).scalar(1, entry.buffer, 0);
            table
        });
        let signatures = self.signature_defs.iter().map(SignatureDef::to_table).collect();
        table.tables_if_any(6, metadata.collect()).tables_if_any(7, signatures);
        Ok(table)
    }
}

impl OperatorCode {
    fn read(table: &Table) -> Result<Self> {
        let deprecated = i32::from(table.scalar::<i8>(0, 0)?);
        let code = deprecated.max(table.scalar(3, 0)?);
        Ok(Self {
            builtin_code: BuiltinOperator(code),
            custom_code: table.text(1)?.to_owned(),
            version: table.scalar(2, 1)?,
        })
    }

    fn to_table(&self) -> TableValue {
        let code = self.builtin_code.0;
        let deprecated = BuiltinOperator::PLACEHOLDER_FOR_GREATER_OP_CODES.0.min(code);
        let mut table = TableValue::new();
        table.scalar(0, i8::try_from(deprecated).unwrap_or(0), 0);
        table.text_if_any(1, &self.custom_code);
        table.scalar(2, self.version, 1).scalar(3, code, 0);
        table
    }
}

impl SubGraph {
    fn read(bytes: &Bytes, table: &Table, number: usize) -> Result<Self> {
        let place = |part, index| Place { part, index, subgraph: Some(number) };
        Ok(Self {
            tensors: table.tables_by_index(0, |index, table| {
                Tensor::read(bytes, &table, place("tensor", index))
            })?,
            inputs: table.scalars(1)?,
            outputs: table.scalars(2)?,
            operators: table.tables_by_index(3, |index, table| {
                Operator::read(bytes, &table, place("operator", index))
            })?,
            name: table.text(4)?.to_owned(),
        })
    }

    fn to_table(&self, model: &Model) -> Result<TableValue> {
        let mut table = TableValue::new();
        let operators = self.operators.iter().map(|operator| operator.to_table(model));
        table
            .tables(0, self.tensors.iter().map(Tensor::to_table).collect())
            .scalars(1, &self.inputs)
            .scalars(2, &self.outputs)
            .tables(3, operators.collect::<Result<_>>()?);
        table.text_if_any(4, &self.name);
        Ok(table)
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

    fn read(bytes: &Bytes, table: &Table, place: Place) -> Result<Self> {
        if table.has(6)? {
            return Err(TfliteError::SparseTensor { place });
        }
        if table.scalar::<u32>(10, 0)? != 0 {
            return Err(TfliteError::ExternalBuffer { place });
        }
        let quantization = table.table(4)?;
        Ok(Self {
            shape: table.scalars(0)?,
            tensor_type: OptionField::read(table, 1, TensorType::default())?,
            buffer: table.scalar(2, 0)?,
            name: table.text(3)?.to_owned(),
            quantization: quantization
                .map(|table| QuantizationParameters::read(bytes, &table))
                .transpose()?,
            is_variable: table.scalar(5, false)?,
            shape_signature: table.scalars(7)?,
            has_rank: table.scalar(8, false)?,
            variant_tensors: table.tables(9, |table| {
                Ok::<_, TfliteError>(VariantSubType {
                    shape: table.scalars(0)?,
                    tensor_type: OptionField::read(&table, 1, TensorType::default())?,
                    has_rank: table.scalar(2, false)?,
                })
            })?,
        })
    }

    fn to_table(&self) -> TableValue {
        let mut table = TableValue::new();
        table
            .scalars(0, &self.shape)
            .scalar(1, self.tensor_type.code(), 0)
            .scalar(2, self.buffer, 0)
            .text(3, &self.name);
        if let Some(quantization) = &self.quantization {
            table.table(4, quantization.to_table());
        }
        table.scalar(5, self.is_variable, false);
        table.scalars_if_any(7, &self.shape_signature);
        table.scalar(8, self.has_rank, false);
        let variants = self.variant_tensors.iter().map(|variant| {
            let mut table = TableValue::new();
            let code = variant.tensor_type.code();
            table.scalars(0, &variant.shape).scalar(1, code, 0).scalar(2, variant.has_rank, false);
            table
        });
        table.tables_if_any(9, variants.collect());
        table
    }
}

impl QuantizationParameters {
    fn read(bytes: &Bytes, table: &Table) -> Result<Self> {
        Ok(Self {
            min: table.scalars(0)?,
            max: table.scalars(1)?,
            scale: table.scalars(2)?,
            zero_point: table.scalars(3)?,
            details: QuantizationDetails::read(bytes, table)?,
            quantized_dimension: table.scalar(6, 0)?,
        })
    }

    fn to_table(&self) -> TableValue {
        let mut table = TableValue::new();
        table.scalars_if_any(0, &self.min);
        table.scalars_if_any(1, &self.max);
        table.scalars_if_any(2, &self.scale);
        table.scalars_if_any(3, &self.zero_point);
        self.details.write(&mut table);
        table.scalar(6, self.quantized_dimension, 0);
        table
    }

    /// The same conditions under which LiteRT accepts a tensor.
    fn validate(&self, place: Place, shape: &[i32], tensors: usize) -> Result<()> {
        let wrong = |reason| Err(TfliteError::Quantization { place, reason });
        let (scales, zero_points) = match &self.details {
            QuantizationDetails::None => {
                if self.scale.is_empty() {
                    return Ok(());
                }
                if self.scale.len() != self.zero_point.len() {
                    return wrong("scales and zero points differ in number");
                }
                let axis = usize::try_from(self.quantized_dimension).ok();
                let channels = axis.and_then(|axis| shape.get(axis)).map(|&count| count as usize);
                return match (self.scale.len(), channels) {
                    (1, Some(_)) => Ok(()),
                    (1, None) if shape.is_empty() && axis.is_some() => Ok(()),
                    (_, None) => wrong("the quantized dimension is out of range"),
                    (scales, Some(channels)) if scales == channels => Ok(()),
                    _ => wrong("scales and channels differ in number"),
                };
            }
            QuantizationDetails::Custom(_) => return Ok(()),
            QuantizationDetails::Blockwise(details) => {
                if details.block_size < 0 || details.block_shape.iter().any(|&size| size < 0) {
                    return wrong("negative block size");
                }
                (details.scales, details.zero_points)
            }
            QuantizationDetails::MultiAxis(details) => {
                if details.block_size < 0 {
                    return wrong("negative block size");
                }
                for &axis in &details.quantized_dimensions {
                    check_index(place, "quantized dimension", axis.into(), shape.len())?;
                }
                (details.scales, details.zero_points)
            }
        };
        check_index(place, "scales tensor", scales.into(), tensors)?;
        if zero_points != -1 {
            check_index(place, "zero points tensor", zero_points.into(), tensors)?;
        }
        Ok(())
    }
}

impl QuantizationDetails {
    fn read(bytes: &Bytes, parameters: &Table) -> Result<Self> {
        let Some((code, Some(table))) = parameters.union(4)? else {
            return Ok(Self::None);
        };
        let (scales, zero_points) = (table.scalar(0, 0), table.scalar(1, 0));
        match code {
            1 => Ok(Self::Custom(slice(bytes, table.byte_range(0)?))),
            2 => Ok(Self::Blockwise(BlockwiseQuantization {
                scales: scales?,
                zero_points: zero_points?,
                block_size: table.scalar(2, 0)?,
                block_shape: table.scalars(3)?,
            })),
            3 => Ok(Self::MultiAxis(MultiAxisQuantization {
                scales: scales?,
                zero_points: zero_points?,
                block_size: table.scalar(2, 0)?,
                quantized_dimensions: table.scalars(3)?,
            })),
            code => {
                Err(TfliteError::UnknownCode { what: "quantization details", code: code.into() })
            }
        }
    }

    fn write(&self, parameters: &mut TableValue) {
        let mut table = TableValue::new();
        let code = match self {
            Self::None => return,
            Self::Custom(bytes) => {
                table.data(0, bytes.clone(), DATA_ALIGN);
                1
            }
            Self::Blockwise(details) => {
                table.scalar(0, details.scales, 0).scalar(1, details.zero_points, 0);
                table.scalar(2, details.block_size, 0).scalars_if_any(3, &details.block_shape);
                2
            }
            Self::MultiAxis(details) => {
                table.scalar(0, details.scales, 0).scalar(1, details.zero_points, 0);
                table
                    .scalar(2, details.block_size, 0)
                    .scalars_if_any(3, &details.quantized_dimensions);
                3
            }
        };
        parameters.union(4, code, table);
    }
}

impl Operator {
    fn read(bytes: &Bytes, table: &Table, place: Place) -> Result<Self> {
        let builtin_options = match (table.union(3)?, table.union(11)?) {
            (None, None) => BuiltinOptions::None,
            (Some((code, options)), None) => BuiltinOptions::read(1, code, options)?,
            (None, Some((code, options))) => BuiltinOptions::read(2, code, options)?,
            (Some(_), Some(_)) => return Err(TfliteError::TwoOptions { place }),
        };
        Ok(Self {
            opcode_index: table.scalar(0, 0)?,
            inputs: table.scalars(1)?,
            outputs: table.scalars(2)?,
            builtin_options,
            custom_options: read_data(bytes, table, 5, 9, place)?,
            custom_options_format: OptionField::read(table, 6, CustomOptionsFormat::default())?,
            mutating_variable_inputs: table.scalars(7)?,
            intermediates: table.scalars(8)?,
        })
    }

    fn to_table(&self, model: &Model) -> Result<TableValue> {
        let mut table = TableValue::new();
        table.scalar(0, self.opcode_index, 0).scalars(1, &self.inputs).scalars(2, &self.outputs);
        match (&self.builtin_options, self.builtin_options.to_table()) {
            (_, Some((1, code, options))) => {
                table.union(3, code, options);
            }
            (_, Some((_, code, options))) => {
                table.union(11, code, options);
            }
            (BuiltinOptions::Unknown(code), None) => {
                let operator = model.operator_code(self).builtin_code.name();
                return Err(TfliteError::UnknownOptions { operator, code: *code });
            }
            (_, None) => {}
        }
        table.data_if_any(5, self.custom_options.clone(), DATA_ALIGN).scalar(
            6,
            self.custom_options_format.code(),
            0,
        );
        table.scalars_if_any(7, &self.mutating_variable_inputs);
        table.scalars_if_any(8, &self.intermediates);
        Ok(table)
    }
}

impl SignatureDef {
    fn read(table: &Table) -> Result<Self> {
        let maps = |id| {
            table.tables(id, |table| {
                let tensor_index = table.scalar(1, 0)?;
                Ok::<_, TfliteError>(TensorMap { name: table.text(0)?.to_owned(), tensor_index })
            })
        };
        Ok(Self {
            inputs: maps(0)?,
            outputs: maps(1)?,
            signature_key: table.text(2)?.to_owned(),
            subgraph_index: table.scalar(4, 0)?,
        })
    }

    fn to_table(&self) -> TableValue {
        let maps = |maps: &[TensorMap]| {
            let tables = maps.iter().map(|map| {
                let mut table = TableValue::new();
                table.text(0, &map.name).scalar(1, map.tensor_index, 0);
                table
            });
            tables.collect()
        };
        let mut table = TableValue::new();
        table
            .tables(0, maps(&self.inputs))
            .tables(1, maps(&self.outputs))
            .text(2, &self.signature_key)
            .scalar(4, self.subgraph_index, 0);
        table
    }
}

fn check_index(place: Place, what: &'static str, index: i64, count: usize) -> Result<()> {
    match usize::try_from(index) {
        Ok(number) if number < count => Ok(()),
        _ => Err(TfliteError::IndexOutOfRange { place, what, index, count }),
    }
}

fn slice(bytes: &Bytes, range: Option<Range<usize>>) -> Bytes {
    range.map_or_else(Bytes::new, |range| bytes.slice(range))
}

/// Bytes inside the flatbuffer, or else where the offset (valid if above 1) and size say.
fn read_data(bytes: &Bytes, table: &Table, id: u16, offset_id: u16, place: Place) -> Result<Bytes> {
    let inside = table.byte_range(id)?.filter(|range| !range.is_empty());
    match inside {
        None if table.scalar::<u64>(offset_id, 0)? > 1 => match table.outside_range(offset_id) {
            Err(FlatbufferError::Truncated { .. }) => Err(TfliteError::DataOutsideFile { place }),
            range => Ok(bytes.slice(range?)),
        },
        _ => Ok(slice(bytes, inside)),
    }
}

/// An operator's number; those of a newer schema are kept.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct BuiltinOperator(pub i32);

macro_rules! builtin_operators {
    ($($name:ident = $code:literal),* $(,)?) => {
        impl BuiltinOperator {
            $(pub const $name: Self = Self($code);)*

            /// The schema's name, as in `FULLY_CONNECTED`.
            pub fn name(self) -> &'static str {
                match self.0 {
                    $($code => stringify!($name),)*
                    _ => "UNKNOWN",
                }
            }
        }
    };
}

builtin_operators! {
    ADD = 0, AVERAGE_POOL_2D = 1, CONCATENATION = 2, CONV_2D = 3, DEPTHWISE_CONV_2D = 4,
    DEPTH_TO_SPACE = 5, DEQUANTIZE = 6, EMBEDDING_LOOKUP = 7, FLOOR = 8, FULLY_CONNECTED = 9,
    HASHTABLE_LOOKUP = 10, L2_NORMALIZATION = 11, L2_POOL_2D = 12,
    LOCAL_RESPONSE_NORMALIZATION = 13, LOGISTIC = 14, LSH_PROJECTION = 15, LSTM = 16,
    MAX_POOL_2D = 17, MUL = 18, RELU = 19, RELU_N1_TO_1 = 20, RELU6 = 21, RESHAPE = 22,
    RESIZE_BILINEAR = 23, RNN = 24, SOFTMAX = 25, SPACE_TO_DEPTH = 26, SVDF = 27, TANH = 28,
    CONCAT_EMBEDDINGS = 29, SKIP_GRAM = 30, CALL = 31, CUSTOM = 32, EMBEDDING_LOOKUP_SPARSE = 33,
    PAD = 34, UNIDIRECTIONAL_SEQUENCE_RNN = 35, GATHER = 36, BATCH_TO_SPACE_ND = 37,
    SPACE_TO_BATCH_ND = 38, TRANSPOSE = 39, MEAN = 40, SUB = 41, DIV = 42, SQUEEZE = 43,
    UNIDIRECTIONAL_SEQUENCE_LSTM = 44, STRIDED_SLICE = 45, BIDIRECTIONAL_SEQUENCE_RNN = 46,
    EXP = 47, TOPK_V2 = 48, SPLIT = 49, LOG_SOFTMAX = 50, DELEGATE = 51,
    BIDIRECTIONAL_SEQUENCE_LSTM = 52, CAST = 53, PRELU = 54, MAXIMUM = 55, ARG_MAX = 56,
    MINIMUM = 57, LESS = 58, NEG = 59, PADV2 = 60, GREATER = 61, GREATER_EQUAL = 62,
    LESS_EQUAL = 63, SELECT = 64, SLICE = 65, SIN = 66, TRANSPOSE_CONV = 67, SPARSE_TO_DENSE = 68,
    TILE = 69, EXPAND_DIMS = 70, EQUAL = 71, NOT_EQUAL = 72, LOG = 73, SUM = 74, SQRT = 75,
    RSQRT = 76, SHAPE = 77, POW = 78, ARG_MIN = 79, FAKE_QUANT = 80, REDUCE_PROD = 81,
    REDUCE_MAX = 82, PACK = 83, LOGICAL_OR = 84, ONE_HOT = 85, LOGICAL_AND = 86, LOGICAL_NOT = 87,
    UNPACK = 88, REDUCE_MIN = 89, FLOOR_DIV = 90, REDUCE_ANY = 91, SQUARE = 92, ZEROS_LIKE = 93,
    FILL = 94, FLOOR_MOD = 95, RANGE = 96, RESIZE_NEAREST_NEIGHBOR = 97, LEAKY_RELU = 98,
    SQUARED_DIFFERENCE = 99, MIRROR_PAD = 100, ABS = 101, SPLIT_V = 102, UNIQUE = 103, CEIL = 104,
    REVERSE_V2 = 105, ADD_N = 106, GATHER_ND = 107, COS = 108, WHERE = 109, RANK = 110, ELU = 111,
    REVERSE_SEQUENCE = 112, MATRIX_DIAG = 113, QUANTIZE = 114, MATRIX_SET_DIAG = 115, ROUND = 116,
    HARD_SWISH = 117, IF = 118, WHILE = 119, NON_MAX_SUPPRESSION_V4 = 120,
    NON_MAX_SUPPRESSION_V5 = 121, SCATTER_ND = 122, SELECT_V2 = 123, DENSIFY = 124,
    SEGMENT_SUM = 125, BATCH_MATMUL = 126, PLACEHOLDER_FOR_GREATER_OP_CODES = 127, CUMSUM = 128,
    CALL_ONCE = 129, BROADCAST_TO = 130, RFFT2D = 131, CONV_3D = 132, IMAG = 133, REAL = 134,
    COMPLEX_ABS = 135, HASHTABLE = 136, HASHTABLE_FIND = 137, HASHTABLE_IMPORT = 138,
    HASHTABLE_SIZE = 139, REDUCE_ALL = 140, CONV_3D_TRANSPOSE = 141, VAR_HANDLE = 142,
    READ_VARIABLE = 143, ASSIGN_VARIABLE = 144, BROADCAST_ARGS = 145, RANDOM_STANDARD_NORMAL = 146,
    BUCKETIZE = 147, RANDOM_UNIFORM = 148, MULTINOMIAL = 149, GELU = 150,
    DYNAMIC_UPDATE_SLICE = 151, RELU_0_TO_1 = 152, UNSORTED_SEGMENT_PROD = 153,
    UNSORTED_SEGMENT_MAX = 154, UNSORTED_SEGMENT_SUM = 155, ATAN2 = 156,
    UNSORTED_SEGMENT_MIN = 157, SIGN = 158, BITCAST = 159, BITWISE_XOR = 160, RIGHT_SHIFT = 161,
    STABLEHLO_LOGISTIC = 162, STABLEHLO_ADD = 163, STABLEHLO_DIVIDE = 164,
    STABLEHLO_MULTIPLY = 165, STABLEHLO_MAXIMUM = 166, STABLEHLO_RESHAPE = 167,
    STABLEHLO_CLAMP = 168, STABLEHLO_CONCATENATE = 169, STABLEHLO_BROADCAST_IN_DIM = 170,
    STABLEHLO_CONVOLUTION = 171, STABLEHLO_SLICE = 172, STABLEHLO_CUSTOM_CALL = 173,
    STABLEHLO_REDUCE = 174, STABLEHLO_ABS = 175, STABLEHLO_AND = 176, STABLEHLO_COSINE = 177,
    STABLEHLO_EXPONENTIAL = 178, STABLEHLO_FLOOR = 179, STABLEHLO_LOG = 180,
    STABLEHLO_MINIMUM = 181, STABLEHLO_NEGATE = 182, STABLEHLO_OR = 183, STABLEHLO_POWER = 184,
    STABLEHLO_REMAINDER = 185, STABLEHLO_RSQRT = 186, STABLEHLO_SELECT = 187,
    STABLEHLO_SUBTRACT = 188, STABLEHLO_TANH = 189, STABLEHLO_SCATTER = 190,
    STABLEHLO_COMPARE = 191, STABLEHLO_CONVERT = 192, STABLEHLO_DYNAMIC_SLICE = 193,
    STABLEHLO_DYNAMIC_UPDATE_SLICE = 194, STABLEHLO_PAD = 195, STABLEHLO_IOTA = 196,
    STABLEHLO_DOT_GENERAL = 197, STABLEHLO_REDUCE_WINDOW = 198, STABLEHLO_SORT = 199,
    STABLEHLO_WHILE = 200, STABLEHLO_GATHER = 201, STABLEHLO_TRANSPOSE = 202, DILATE = 203,
    STABLEHLO_RNG_BIT_GENERATOR = 204, REDUCE_WINDOW = 205, STABLEHLO_COMPOSITE = 206,
    STABLEHLO_SHIFT_LEFT = 207, STABLEHLO_CBRT = 208, STABLEHLO_CASE = 209,
}

impl fmt::Debug for BuiltinOperator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name(), self.0)
    }
}

macro_rules! schema_enum {
    ($(#[$doc:meta])* $name:ident: $repr:ty {
        $first:ident = 0 $(, $variant:ident = $code:literal)* $(,)?
    }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
        pub enum $name {
            #[default]
            $first = 0,
            $($variant = $code,)*
        }

        impl $name {
            pub fn from_code(code: $repr) -> Option<Self> {
                match code {
                    0 => Some(Self::$first),
                    $($code => Some(Self::$variant),)*
                    _ => None,
                }
            }

            pub fn code(self) -> $repr {
                self as $repr
            }
        }

        impl OptionField for $name {
            fn read(table: &Table, id: u16, default: Self) -> Result<Self> {
                let code = table.scalar(id, default.code())?;
                let what = stringify!($name);
                let unknown = TfliteError::UnknownCode { what, code: code.into() };
                Self::from_code(code).ok_or(unknown)
            }

            fn write(&self, table: &mut TableValue, id: u16, default: Self) {
                table.scalar(id, self.code(), default.code());
            }
        }
    };
}

schema_enum! {
    /// The type of a tensor's elements.
    TensorType: i8 {
        Float32 = 0, Float16 = 1, Int32 = 2, UInt8 = 3, Int64 = 4, String = 5, Bool = 6, Int16 = 7,
        Complex64 = 8, Int8 = 9, Float64 = 10, Complex128 = 11, UInt64 = 12, Resource = 13,
        Variant = 14, UInt32 = 15, UInt16 = 16, Int4 = 17, BFloat16 = 18, Int2 = 19, UInt4 = 20,
        Float8E4m3fn = 21, Float8E5m2 = 22,
    }
}

impl TensorType {
    /// The bits of one element; types under 8 bits are packed, low bits first. `None` for strings,
    /// resources and variants.
    pub fn bits(self) -> Option<usize> {
        match self {
            Self::Int2 => Some(2),
            Self::Int4 | Self::UInt4 => Some(4),
            Self::UInt8 | Self::Int8 | Self::Bool => Some(8),
            Self::Float8E4m3fn | Self::Float8E5m2 => Some(8),
            Self::Float16 | Self::BFloat16 | Self::Int16 | Self::UInt16 => Some(16),
            Self::Float32 | Self::Int32 | Self::UInt32 => Some(32),
            Self::Float64 | Self::Int64 | Self::UInt64 | Self::Complex64 => Some(64),
            Self::Complex128 => Some(128),
            Self::String | Self::Resource | Self::Variant => None,
        }
    }

    /// The schema's name, as in `FLOAT32`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Float32 => "FLOAT32",
            Self::Float16 => "FLOAT16",
            Self::Int32 => "INT32",
            Self::UInt8 => "UINT8",
            Self::Int64 => "INT64",
            Self::String => "STRING",
            Self::Bool => "BOOL",
            Self::Int16 => "INT16",
            Self::Complex64 => "COMPLEX64",
            Self::Int8 => "INT8",
            Self::Float64 => "FLOAT64",
            Self::Complex128 => "COMPLEX128",
            Self::UInt64 => "UINT64",
            Self::Resource => "RESOURCE",
            Self::Variant => "VARIANT",
            Self::UInt32 => "UINT32",
            Self::UInt16 => "UINT16",
            Self::Int4 => "INT4",
            Self::BFloat16 => "BFLOAT16",
            Self::Int2 => "INT2",
            Self::UInt4 => "UINT4",
            Self::Float8E4m3fn => "FLOAT8_E4M3FN",
            Self::Float8E5m2 => "FLOAT8_E5M2",
        }
    }
}

schema_enum! { Padding: i8 { Same = 0, Valid = 1 } }
schema_enum! {
    ActivationFunctionType: i8 {
        None = 0, Relu = 1, ReluN1To1 = 2, Relu6 = 3, Tanh = 4, SignBit = 5,
    }
}
schema_enum! { FullyConnectedWeightsFormat: i8 { Default = 0, Shuffled4x16Int8 = 1 } }
schema_enum! { LstmKernelType: i8 { Full = 0, Basic = 1 } }
schema_enum! { LshProjectionType: i8 { Unknown = 0, Sparse = 1, Dense = 2 } }
schema_enum! { CombinerType: i8 { Sum = 0, Mean = 1, Sqrtn = 2 } }
schema_enum! { MirrorPadMode: i8 { Reflect = 0, Symmetric = 1 } }
schema_enum! { CustomOptionsFormat: i8 { Flexbuffers = 0 } }
schema_enum! { RngAlgorithm: i8 { Default = 0, Philox = 1, Threefry = 2 } }
schema_enum! {
    StablehloComparisonDirection: u32 { Eq = 0, Ne = 1, Ge = 2, Gt = 3, Le = 4, Lt = 5 }
}
schema_enum! {
    StablehloComparisonType: u32 {
        NoType = 0, Float = 1, FloatTotalOrder = 2, Signed = 3, Unsigned = 4,
    }
}
schema_enum! {
    ReduceWindowFunction: i32 {
        Unsupported = 0, Add = 1, Mul = 2, Minimum = 3, Maximum = 4, All = 5, Any = 6,
    }
}

/// A type that a field of an options table can have.
trait OptionField: Sized {
    fn read(table: &Table, id: u16, default: Self) -> Result<Self>;
    /// Leaves the field out when it equals the schema's default.
    fn write(&self, table: &mut TableValue, id: u16, default: Self);
}

macro_rules! scalar_fields {
    ($($type:ty),*) => {$(
        impl OptionField for $type {
            fn read(table: &Table, id: u16, default: Self) -> Result<Self> {
                Ok(table.scalar(id, default)?)
            }

            fn write(&self, table: &mut TableValue, id: u16, default: Self) {
                table.scalar(id, *self, default);
            }
        }
    )*};
}
scalar_fields!(bool, i32, u32, i64, f32);

impl<T: Scalar> OptionField for Vec<T> {
    fn read(table: &Table, id: u16, _default: Self) -> Result<Self> {
        Ok(table.scalars(id)?)
    }

    fn write(&self, table: &mut TableValue, id: u16, _default: Self) {
        table.scalars_if_any(id, self);
    }
}

impl OptionField for String {
    fn read(table: &Table, id: u16, _default: Self) -> Result<Self> {
        Ok(table.text(id)?.to_owned())
    }

    fn write(&self, table: &mut TableValue, id: u16, _default: Self) {
        table.text_if_any(id, self);
    }
}

macro_rules! default_or {
    () => {
        Default::default()
    };
    ($default:expr) => {
        $default
    };
}

/// One line a table: union code, variant, struct, and the fields by number, type and default.
macro_rules! builtin_options {
    ($(union $union:literal {
        empty { $($empty_code:literal $empty:ident),* $(,)? }
        $($code:literal $variant:ident $table:ident {
            $($id:literal $field:ident: $type:ty $(= $default:expr)?),* $(,)?
        })*
    })*) => {
        /// An operator's options: one variant for each table of the schema's two unions, those
        /// without fields as bare names.
        #[derive(Debug, Clone, PartialEq, Default)]
        pub enum BuiltinOptions {
            #[default]
            None,
            /// The union code of a table that is newer than this program; cannot be written.
            Unknown(u8),
            $($($empty,)* $($variant($table),)*)*
        }

        $($(
            #[derive(Debug, Clone, PartialEq)]
            pub struct $table { $(pub $field: $type,)* }

            impl Default for $table {
                fn default() -> Self {
                    Self { $($field: default_or!($($default)?),)* }
                }
            }

            impl $table {
                fn read(table: &Table) -> Result<Self> {
                    let default = Self::default();
                    Ok(Self { $($field: OptionField::read(table, $id, default.$field)?,)* })
                }

                fn to_table(&self) -> TableValue {
                    let default = Self::default();
                    let mut table = TableValue::new();
                    $(self.$field.write(&mut table, $id, default.$field);)*
                    table
                }
            }
        )*)*

        impl BuiltinOptions {
            /// A table that is absent has the defaults.
            fn read(union: u8, code: u8, table: Option<Table>) -> Result<Self> {
                match (union, code, table) {
                    $(
                        $(($union, $empty_code, _) => Ok(Self::$empty),)*
                        $(
                            ($union, $code, Some(table)) => {
                                $table::read(&table).map(Self::$variant)
                            }
                            ($union, $code, None) => Ok(Self::$variant($table::default())),
                        )*
                    )*
                    _ => Ok(Self::Unknown(code)),
                }
            }

            /// The union (1 or 2), the code in it, and the table.
            fn to_table(&self) -> Option<(u8, u8, TableValue)> {
                match self {
                    Self::None | Self::Unknown(_) => None,
                    $(
                        $(Self::$empty => Some(($union, $empty_code, TableValue::new())),)*
                        $(Self::$variant(table) => Some(($union, $code, table.to_table())),)*
                    )*
                }
            }
        }
    };
}

builtin_options! {
    union 1 {
        empty {
            22 Pad, 24 BatchToSpaceNd, 25 SpaceToBatchNd, 26 Transpose, 33 Exp, 34 TopKV2,
            36 LogSoftmax, 38 Dequantize, 39 MaximumMinimum, 41 Less, 42 Neg, 43 PadV2,
            44 Greater, 45 GreaterEqual, 46 LessEqual, 47 Select, 48 Slice, 51 Tile,
            52 ExpandDims, 53 Equal, 54 NotEqual, 56 Pow, 60 LogicalOr, 62 LogicalAnd,
            63 LogicalNot, 65 FloorDiv, 66 Square, 67 ZerosLike, 68 Fill, 72 FloorMod, 73 Range,
            76 SquaredDifference, 78 Abs, 81 ReverseV2, 82 AddN, 83 GatherNd, 84 Cos, 85 Where,
            86 Rank, 88 MatrixDiag, 89 Quantize, 90 MatrixSetDiag, 91 HardSwish,
            95 NonMaxSuppressionV4, 96 NonMaxSuppressionV5, 97 ScatterNd, 98 SelectV2, 99 Densify,
            100 SegmentSum, 104 BroadcastTo, 105 Rfft2d, 108 HashtableFind, 109 HashtableImport,
            110 HashtableSize, 112 ReadVariable, 113 AssignVariable, 117 DynamicUpdateSlice,
            118 UnsortedSegmentProd, 119 UnsortedSegmentMax, 120 UnsortedSegmentMin,
            121 UnsortedSegmentSum, 122 Atan2, 123 Sign, 124 Bitcast, 125 BitwiseXor,
            126 RightShift,
        }
        1 Conv2D Conv2DOptions {
            0 padding: Padding, 1 stride_w: i32, 2 stride_h: i32,
            3 fused_activation_function: ActivationFunctionType, 4 dilation_w_factor: i32 = 1,
            5 dilation_h_factor: i32 = 1, 6 quantized_bias_type: TensorType,
        }
        2 DepthwiseConv2D DepthwiseConv2DOptions {
            0 padding: Padding, 1 stride_w: i32, 2 stride_h: i32, 3 depth_multiplier: i32,
            4 fused_activation_function: ActivationFunctionType, 5 dilation_w_factor: i32 = 1,
            6 dilation_h_factor: i32 = 1,
        }
        3 ConcatEmbeddings ConcatEmbeddingsOptions {
            0 num_channels: i32, 1 num_columns_per_channel: Vec<i32>,
            2 embedding_dim_per_channel: Vec<i32>,
        }
        4 LshProjection LshProjectionOptions { 0 kind: LshProjectionType }
        5 Pool2D Pool2DOptions {
            0 padding: Padding, 1 stride_w: i32, 2 stride_h: i32, 3 filter_width: i32,
            4 filter_height: i32, 5 fused_activation_function: ActivationFunctionType,
        }
        6 Svdf SvdfOptions {
            0 rank: i32, 1 fused_activation_function: ActivationFunctionType,
            2 asymmetric_quantize_inputs: bool,
        }
        7 Rnn RnnOptions {
            0 fused_activation_function: ActivationFunctionType,
            1 asymmetric_quantize_inputs: bool,
        }
        8 FullyConnected FullyConnectedOptions {
            0 fused_activation_function: ActivationFunctionType,
            1 weights_format: FullyConnectedWeightsFormat, 2 keep_num_dims: bool,
            3 asymmetric_quantize_inputs: bool, 4 quantized_bias_type: TensorType,
            5 quant_spec: Vec<u8>,
        }
        9 Softmax SoftmaxOptions { 0 beta: f32 }
        10 Concatenation ConcatenationOptions {
            0 axis: i32, 1 fused_activation_function: ActivationFunctionType,
        }
        11 Add AddOptions {
            0 fused_activation_function: ActivationFunctionType, 1 pot_scale_int16: bool = true,
        }
        12 L2Norm L2NormOptions { 0 fused_activation_function: ActivationFunctionType }
        13 LocalResponseNormalization LocalResponseNormalizationOptions {
            0 radius: i32, 1 bias: f32, 2 alpha: f32, 3 beta: f32,
        }
        14 Lstm LstmOptions {
            0 fused_activation_function: ActivationFunctionType, 1 cell_clip: f32,
            2 proj_clip: f32, 3 kernel_type: LstmKernelType, 4 asymmetric_quantize_inputs: bool,
        }
        15 ResizeBilinear ResizeBilinearOptions {
            2 align_corners: bool, 3 half_pixel_centers: bool,
        }
        16 Call CallOptions { 0 subgraph: u32 }
        17 Reshape ReshapeOptions { 0 new_shape: Vec<i32> }
        18 SkipGram SkipGramOptions {
            0 ngram_size: i32, 1 max_skip_size: i32, 2 include_all_ngrams: bool,
        }
        19 SpaceToDepth SpaceToDepthOptions { 0 block_size: i32 }
        20 EmbeddingLookupSparse EmbeddingLookupSparseOptions { 0 combiner: CombinerType }
        21 Mul MulOptions { 0 fused_activation_function: ActivationFunctionType }
        23 Gather GatherOptions { 0 axis: i32, 1 batch_dims: i32 }
        27 Reducer ReducerOptions { 0 keep_dims: bool }
        28 Sub SubOptions {
            0 fused_activation_function: ActivationFunctionType, 1 pot_scale_int16: bool = true,
        }
        29 Div DivOptions { 0 fused_activation_function: ActivationFunctionType }
        30 Squeeze SqueezeOptions { 0 squeeze_dims: Vec<i32> }
        31 SequenceRnn SequenceRnnOptions {
            0 time_major: bool, 1 fused_activation_function: ActivationFunctionType,
            2 asymmetric_quantize_inputs: bool,
        }
        32 StridedSlice StridedSliceOptions {
            0 begin_mask: i32, 1 end_mask: i32, 2 ellipsis_mask: i32, 3 new_axis_mask: i32,
            4 shrink_axis_mask: i32, 5 offset: bool,
        }
        35 Split SplitOptions { 0 num_splits: i32 }
        37 Cast CastOptions { 0 in_data_type: TensorType, 1 out_data_type: TensorType }
        40 ArgMax ArgMaxOptions { 0 output_type: TensorType }
        49 TransposeConv TransposeConvOptions {
            0 padding: Padding, 1 stride_w: i32, 2 stride_h: i32,
            3 fused_activation_function: ActivationFunctionType, 4 quantized_bias_type: TensorType,
        }
        50 SparseToDense SparseToDenseOptions { 0 validate_indices: bool }
        55 Shape ShapeOptions { 0 out_type: TensorType }
        57 ArgMin ArgMinOptions { 0 output_type: TensorType }
        58 FakeQuant FakeQuantOptions {
            0 min: f32, 1 max: f32, 2 num_bits: i32, 3 narrow_range: bool,
        }
        59 Pack PackOptions { 0 values_count: i32, 1 axis: i32 }
        61 OneHot OneHotOptions { 0 axis: i32 }
        64 Unpack UnpackOptions { 0 num: i32, 1 axis: i32 }
        69 BidirectionalSequenceLstm BidirectionalSequenceLstmOptions {
            0 fused_activation_function: ActivationFunctionType, 1 cell_clip: f32,
            2 proj_clip: f32, 3 merge_outputs: bool, 4 time_major: bool = true,
            5 asymmetric_quantize_inputs: bool,
        }
        70 BidirectionalSequenceRnn BidirectionalSequenceRnnOptions {
            0 time_major: bool, 1 fused_activation_function: ActivationFunctionType,
            2 merge_outputs: bool, 3 asymmetric_quantize_inputs: bool,
        }
        71 UnidirectionalSequenceLstm UnidirectionalSequenceLstmOptions {
            0 fused_activation_function: ActivationFunctionType, 1 cell_clip: f32,
            2 proj_clip: f32, 3 time_major: bool, 4 asymmetric_quantize_inputs: bool,
            5 diagonal_recurrent_tensors: bool,
        }
        74 ResizeNearestNeighbor ResizeNearestNeighborOptions {
            0 align_corners: bool, 1 half_pixel_centers: bool,
        }
        75 LeakyRelu LeakyReluOptions { 0 alpha: f32 }
        77 MirrorPad MirrorPadOptions { 0 mode: MirrorPadMode }
        79 SplitV SplitVOptions { 0 num_splits: i32 }
        80 Unique UniqueOptions { 0 idx_out_type: TensorType = TensorType::Int32 }
        87 ReverseSequence ReverseSequenceOptions { 0 seq_dim: i32, 1 batch_dim: i32 }
        92 If IfOptions { 0 then_subgraph_index: i32, 1 else_subgraph_index: i32 }
        93 While WhileOptions { 0 cond_subgraph_index: i32, 1 body_subgraph_index: i32 }
        94 DepthToSpace DepthToSpaceOptions { 0 block_size: i32 }
        101 BatchMatMul BatchMatMulOptions {
            0 adj_x: bool, 1 adj_y: bool, 2 asymmetric_quantize_inputs: bool,
        }
        102 Cumsum CumsumOptions { 0 exclusive: bool, 1 reverse: bool }
        103 CallOnce CallOnceOptions { 0 init_subgraph_index: i32 }
        106 Conv3D Conv3DOptions {
            0 padding: Padding, 1 stride_d: i32, 2 stride_w: i32, 3 stride_h: i32,
            4 fused_activation_function: ActivationFunctionType, 5 dilation_d_factor: i32 = 1,
            6 dilation_w_factor: i32 = 1, 7 dilation_h_factor: i32 = 1,
        }
        107 Hashtable HashtableOptions {
            0 table_id: i32, 1 key_dtype: TensorType, 2 value_dtype: TensorType,
        }
        111 VarHandle VarHandleOptions { 0 container: String, 1 shared_name: String }
        114 Random RandomOptions { 0 seed: i64, 1 seed2: i64 }
        115 Bucketize BucketizeOptions { 0 boundaries: Vec<f32> }
        116 Gelu GeluOptions { 0 approximate: bool }
    }
    union 2 {
        empty {
            18 Dilate, 22 StablehloShiftLeft,
        }
        1 StablehloConcatenate StablehloConcatenateOptions { 0 dimension: i64 }
        2 StablehloBroadcastInDim StablehloBroadcastInDimOptions {
            0 broadcast_dimensions: Vec<i64>,
        }
        3 StablehloSlice StablehloSliceOptions {
            0 start_indices: Vec<i64>, 1 limit_indices: Vec<i64>, 2 strides: Vec<i64>,
        }
        4 StablehloConvolution StablehloConvolutionOptions {
            0 window_strides: Vec<i64>, 1 padding: Vec<i64>, 2 lhs_dilation: Vec<i64>,
            3 rhs_dilation: Vec<i64>, 4 window_reversal: Vec<bool>, 5 input_batch_dimension: i64,
            6 input_feature_dimension: i64, 7 input_spatial_dimensions: Vec<i64>,
            8 kernel_input_feature_dimension: i64, 9 kernel_output_feature_dimension: i64,
            10 kernel_spatial_dimensions: Vec<i64>, 11 output_batch_dimension: i64,
            12 output_feature_dimension: i64, 13 output_spatial_dimensions: Vec<i64>,
            14 feature_group_count: i64, 15 batch_group_count: i64, 16 precision_config: Vec<u32>,
        }
        5 StablehloCustomCall StablehloCustomCallOptions {
            0 call_target_name: String, 1 has_side_effect: bool, 2 backend_config: String,
            3 api_version: i32, 4 called_computations: Vec<i32>, 5 custom_attributes: Vec<u8>,
        }
        6 StablehloReduce StablehloReduceOptions {
            0 dimensions: Vec<i64>, 1 body_subgraph_index: i32,
        }
        7 StablehloScatter StablehloScatterOptions {
            0 indices_are_sorted: bool, 1 update_window_dims: Vec<i64>,
            2 inserted_window_dims: Vec<i64>, 3 scatter_dims_to_operand_dims: Vec<i64>,
            4 index_vector_dim: i64, 5 unique_indices: bool,
            6 update_computation_subgraph_index: i32,
        }
        8 StablehloCompare StablehloCompareOptions {
            0 comparison_direction: StablehloComparisonDirection,
            1 compare_type: StablehloComparisonType,
        }
        9 StablehloDynamicSlice StablehloDynamicSliceOptions { 0 slice_sizes: Vec<i64> }
        10 StablehloPad StablehloPadOptions {
            0 edge_padding_low: Vec<i64>, 1 edge_padding_high: Vec<i64>,
            2 interior_padding: Vec<i64>,
        }
        11 StablehloIota StablehloIotaOptions { 0 iota_dimension: i64 }
        12 StablehloDotGeneral StablehloDotGeneralOptions {
            0 lhs_batching_dimensions: Vec<i64>, 1 rhs_batching_dimensions: Vec<i64>,
            2 lhs_contracting_dimensions: Vec<i64>, 3 rhs_contracting_dimensions: Vec<i64>,
            4 precision_config: Vec<u32>,
        }
        13 StablehloReduceWindow StablehloReduceWindowOptions {
            0 window_dimensions: Vec<i64>, 1 window_strides: Vec<i64>, 2 base_dilations: Vec<i64>,
            3 window_dilations: Vec<i64>, 4 padding: Vec<i64>, 5 body_subgraph_index: i32,
        }
        14 StablehloSort StablehloSortOptions {
            0 dimension: i64, 1 is_stable: bool, 2 comparator_subgraph_index: i32,
        }
        15 StablehloWhile StablehloWhileOptions {
            0 cond_subgraph_index: i32, 1 body_subgraph_index: i32,
        }
        16 StablehloGather StablehloGatherOptions {
            0 offset_dims: Vec<i64>, 1 collapsed_slice_dims: Vec<i64>, 2 start_index_map: Vec<i64>,
            3 index_vector_dim: i64, 4 slice_sizes: Vec<i64>, 5 indices_are_sorted: bool,
        }
        17 StablehloTranspose StablehloTransposeOptions { 0 permutation: Vec<i64> }
        19 StablehloRngBitGenerator StablehloRngBitGeneratorOptions { 0 algorithm: RngAlgorithm }
        20 ReduceWindow ReduceWindowOptions { 0 reduce_function: ReduceWindowFunction }
        21 StablehloComposite StablehloCompositeOptions {
            0 name: String, 1 decomposition_subgraph_index: i32, 2 composite_attributes: Vec<u8>,
            3 composite_attributes_format: CustomOptionsFormat, 4 version: i32,
        }
        23 StablehloCase StablehloCaseOptions { 0 branch_subgraph_indices: Vec<i32> }
    }
}

impl BuiltinOptions {
    /// The subgraphs that the operator calls.
    pub fn called_subgraphs(&self) -> Vec<i64> {
        match self {
            Self::Call(options) => vec![options.subgraph.into()],
            Self::CallOnce(options) => vec![options.init_subgraph_index.into()],
            Self::If(options) => {
                vec![options.then_subgraph_index.into(), options.else_subgraph_index.into()]
            }
            Self::While(options) => {
                vec![options.cond_subgraph_index.into(), options.body_subgraph_index.into()]
            }
            Self::StablehloWhile(options) => {
                vec![options.cond_subgraph_index.into(), options.body_subgraph_index.into()]
            }
            Self::StablehloReduce(options) => vec![options.body_subgraph_index.into()],
            Self::StablehloReduceWindow(options) => vec![options.body_subgraph_index.into()],
            Self::StablehloSort(options) => vec![options.comparator_subgraph_index.into()],
            Self::StablehloScatter(options) => {
                vec![options.update_computation_subgraph_index.into()]
            }
            Self::StablehloComposite(options) => vec![options.decomposition_subgraph_index.into()],
            Self::StablehloCustomCall(options) => {
                options.called_computations.iter().map(|&called| called.into()).collect()
            }
            Self::StablehloCase(options) => {
                options.branch_subgraph_indices.iter().map(|&called| called.into()).collect()
            }
            _ => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn le<const N: usize>(values: &[[u8; N]]) -> Bytes {
        Bytes::from(values.concat())
    }

    fn tensor(name: &str, shape: &[i32], buffer: u32) -> Tensor {
        Tensor {
            name: name.into(),
            shape: shape.to_vec(),
            buffer,
            has_rank: true,
            ..Tensor::default()
        }
    }

    /// input [N, 2] → FULLY_CONNECTED → a custom operator, with something in every field.
    fn small_model() -> Model {
        let mut input = tensor("input", &[1, 2], 0);
        input.shape_signature = vec![-1, 2];
        let mut weights = tensor("weights", &[3, 2], 1);
        weights.tensor_type = TensorType::Int8;
        weights.quantization = Some(QuantizationParameters {
            min: vec![-1.0],
            max: vec![1.0],
            scale: vec![0.5, 0.25, 0.125],
            zero_point: vec![0, 0, 0],
            ..QuantizationParameters::default()
        });
        let mut packed = tensor("packed", &[5], 3);
        packed.tensor_type = TensorType::Int4;
        packed.quantization = Some(QuantizationParameters {
            details: QuantizationDetails::Blockwise(BlockwiseQuantization {
                scales: 2,
                zero_points: -1,
                block_size: 32,
                block_shape: vec![1, 32],
            }),
            ..QuantizationParameters::default()
        });
        let mut variant = tensor("variant", &[], 0);
        variant.tensor_type = TensorType::Variant;
        variant.is_variable = true;
        variant.variant_tensors =
            vec![VariantSubType { shape: vec![2], tensor_type: TensorType::Int64, has_rank: true }];
        let main = SubGraph {
            tensors: vec![
                input,
                weights,
                tensor("bias", &[3], 2),
                tensor("output", &[1, 3], 0),
                packed,
                variant,
            ],
            inputs: vec![0],
            outputs: vec![3],
            operators: vec![
                Operator {
                    inputs: vec![0, 1, -1],
                    outputs: vec![3],
                    builtin_options: BuiltinOptions::FullyConnected(FullyConnectedOptions {
                        fused_activation_function: ActivationFunctionType::Relu,
                        keep_num_dims: true,
                        ..FullyConnectedOptions::default()
                    }),
                    mutating_variable_inputs: vec![false, false, true],
                    intermediates: vec![4, -1],
                    ..Operator::default()
                },
                Operator {
                    opcode_index: 1,
                    inputs: vec![5],
                    outputs: vec![5],
                    custom_options: Bytes::from_static(b"flex"),
                    ..Operator::default()
                },
            ],
            name: "main".into(),
        };
        Model {
            operator_codes: vec![
                OperatorCode {
                    builtin_code: BuiltinOperator::FULLY_CONNECTED,
                    custom_code: String::new(),
                    version: 4,
                },
                OperatorCode {
                    builtin_code: BuiltinOperator::CUSTOM,
                    custom_code: "Mine".into(),
                    version: 1,
                },
                OperatorCode {
                    builtin_code: BuiltinOperator::GELU,
                    custom_code: String::new(),
                    version: 1,
                },
            ],
            subgraphs: vec![main],
            description: "small".into(),
            buffers: vec![
                Buffer::default(),
                Buffer { data: Bytes::from_static(&[1, 2, 3, 4, 5, 6]) },
                Buffer { data: le(&[1f32, 2.0, 3.0].map(f32::to_le_bytes)) },
                Buffer { data: Bytes::from_static(&[0x21, 0x43, 0x05]) },
                Buffer { data: Bytes::from_static(b"1.14.0\0\0\0\0\0\0\0\0\0\0") },
            ],
            metadata_buffer: vec![4],
            metadata: vec![Metadata { name: "min_runtime_version".into(), buffer: 4 }],
            signature_defs: vec![SignatureDef {
                inputs: vec![TensorMap { name: "x".into(), tensor_index: 0 }],
                outputs: vec![TensorMap { name: "y".into(), tensor_index: 3 }],
                signature_key: "serving_default".into(),
                subgraph_index: 0,
            }],
        }
    }

    fn written(model: &Model) -> Vec<u8> {
        let mut bytes = Vec::new();
        let length = model.write(&mut bytes).unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    #[test]
    fn reads_what_it_wrote() {
        let model = small_model();
        let bytes = Bytes::from(written(&model));
        let read = Model::parse(bytes.clone()).unwrap();
        assert_eq!(read, model);
        assert_eq!(written(&read), bytes);
        for buffer in &read.buffers[1..] {
            let position = buffer.data.as_ptr() as usize - bytes.as_ptr() as usize;
            assert!(position < bytes.len() && position.is_multiple_of(DATA_ALIGN));
        }
        assert_eq!(read.constant(&read.subgraphs[0].tensors[4]).unwrap()[..], [0x21, 0x43, 5]);
        assert_eq!(read.constant(&read.subgraphs[0].tensors[0]), None);
        assert!(read.metadata("min_runtime_version").unwrap().starts_with(b"1.14.0"));
    }

    #[test]
    fn data_beyond_the_limit_go_behind_the_flatbuffer() {
        let model = small_model();
        let mut bytes = Vec::new();
        model.write_with_inline_limit(&mut bytes, 0).unwrap();
        assert_eq!(Model::parse(bytes.clone().into()).unwrap(), model);
        bytes.truncate(bytes.len() - 33);
        let error = Model::parse(bytes.into()).unwrap_err();
        assert_eq!(error.to_string(), "buffer 4: its data reach past the end of the file");
    }

    #[test]
    fn every_options_table_survives() {
        let mut model = small_model();
        model.subgraphs[0].operators.truncate(1);
        let codes = (1..=126).map(|code| (1, code)).chain((1..=23).map(|code| (2, code)));
        for (union, code) in codes {
            let options = BuiltinOptions::read(union, code, None).unwrap();
            let back = options.to_table().map(|(union, code, _)| (union, code));
            assert_eq!(back, Some((union, code)), "{options:?}");
            model.subgraphs[0].operators[0].builtin_options = options;
            assert_eq!(Model::parse(written(&model).into()).unwrap(), model);
        }
        for (union, code) in [(1, 127), (2, 24)] {
            let options = BuiltinOptions::read(union, code, None).unwrap();
            assert_eq!(options, BuiltinOptions::Unknown(code));
        }
    }

    #[test]
    fn operators_beyond_127_keep_both_codes() {
        let bytes = written(&small_model());
        let reader = Reader::new(&bytes);
        let root = reader.root(&FILE_IDENTIFIER).unwrap();
        let codes = root.tables(1, |table| {
            Ok::<_, FlatbufferError>((table.scalar(0, 0i8)?, table.scalar(3, 0i32)?))
        });
        assert_eq!(codes.unwrap(), [(9, 9), (32, 32), (127, 150)]);
        assert_eq!(BuiltinOperator(150).name(), "GELU");
        assert_eq!(BuiltinOperator(9).name(), "FULLY_CONNECTED");
        assert_eq!(BuiltinOperator(209).name(), "STABLEHLO_CASE");
        assert_eq!(BuiltinOperator(-1).name(), "UNKNOWN");
    }

    #[test]
    fn defects_have_their_errors() {
        fn check(break_it: impl Fn(&mut Model), expected: &str) {
            let mut model = small_model();
            break_it(&mut model);
            let error = model.write(&mut Vec::new()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let range = "is out of range, there are";
        check(
            |model| model.subgraphs[0].inputs[0] = -1,
            &format!("input 0 of subgraph 0: tensor -1 {range} 6"),
        );
        check(
            |model| model.subgraphs[0].outputs[0] = 6,
            &format!("output 0 of subgraph 0: tensor 6 {range} 6"),
        );
        check(
            |model| model.subgraphs[0].tensors[2].buffer = 9,
            &format!("tensor 2 of subgraph 0: buffer 9 {range} 5"),
        );
        check(
            |model| model.subgraphs[0].operators[0].opcode_index = 3,
            &format!("operator 0 of subgraph 0: operator code 3 {range} 3"),
        );
        check(
            |model| model.subgraphs[0].operators[0].inputs[2] = -2,
            &format!("operator 0 of subgraph 0: tensor -2 {range} 6"),
        );
        check(
            |model| model.subgraphs[0].operators[0].outputs[0] = -1,
            &format!("operator 0 of subgraph 0: tensor -1 {range} 6"),
        );
        check(
            |model| {
                let options = WhileOptions { body_subgraph_index: 7, ..WhileOptions::default() };
                model.subgraphs[0].operators[0].builtin_options = BuiltinOptions::While(options);
            },
            &format!("operator 0 of subgraph 0: subgraph 7 {range} 1"),
        );
        check(
            |model| model.signature_defs[0].subgraph_index = 1,
            &format!("signature 0: subgraph 1 {range} 1"),
        );
        check(
            |model| model.signature_defs[0].outputs[0].tensor_index = 6,
            &format!("signature 0: tensor 6 {range} 6"),
        );
        check(|model| model.metadata[0].buffer = 5, &format!("metadata 0: buffer 5 {range} 5"));
        check(
            |model| model.metadata_buffer[0] = -1,
            &format!("metadata_buffer 0: buffer -1 {range} 5"),
        );
        check(
            |model| model.subgraphs[0].tensors[3].shape[0] = -1,
            "tensor 3 of subgraph 0: dimension -1",
        );
        check(
            |model| model.subgraphs[0].tensors[0].shape_signature[0] = -2,
            "tensor 0 of subgraph 0: dimension -2",
        );
        check(
            |model| model.subgraphs[0].tensors[0].shape_signature = vec![-1],
            "tensor 0 of subgraph 0: shape and shape_signature have different ranks",
        );
        check(
            |model| model.subgraphs[0].tensors[3].shape = vec![i32::MAX; 3],
            "tensor 3 of subgraph 0: the shape is too large",
        );
        check(
            |model| model.subgraphs[0].tensors[2].shape = vec![4],
            "tensor 2 of subgraph 0: its shape needs 16 bytes of data, it has 12",
        );
        check(
            |model| model.subgraphs[0].tensors[4].shape = vec![7],
            "tensor 4 of subgraph 0: its shape needs 4 bytes of data, it has 3",
        );
        let quantization = |change: fn(&mut QuantizationParameters)| {
            move |model: &mut Model| {
                change(model.subgraphs[0].tensors[1].quantization.as_mut().unwrap());
            }
        };
        check(
            quantization(|parameters| parameters.quantized_dimension = 1),
            "tensor 1 of subgraph 0: quantization: scales and channels differ in number",
        );
        check(
            quantization(|parameters| parameters.quantized_dimension = 2),
            "tensor 1 of subgraph 0: quantization: the quantized dimension is out of range",
        );
        check(
            quantization(|parameters| parameters.zero_point.clear()),
            "tensor 1 of subgraph 0: quantization: scales and zero points differ in number",
        );
        check(
            quantization(|parameters| {
                parameters.details = QuantizationDetails::Blockwise(BlockwiseQuantization {
                    scales: 6,
                    ..BlockwiseQuantization::default()
                });
            }),
            &format!("tensor 1 of subgraph 0: scales tensor 6 {range} 6"),
        );
        check(
            |model| model.buffers[0].data = Bytes::from_static(b"?"),
            "buffer 0 must exist and be empty",
        );
        check(
            |model| {
                model.subgraphs[0].operators[0].builtin_options = BuiltinOptions::Unknown(200);
            },
            "FULLY_CONNECTED has options of an unknown kind (200)",
        );
    }

    #[test]
    fn tables_that_cannot_be_kept_are_errors() {
        fn check(tensor: &TableValue, operator: &TableValue, version: u32, expected: &str) {
            let mut subgraph = TableValue::new();
            subgraph.tables(0, vec![tensor.clone()]).tables(3, vec![operator.clone()]);
            let mut root = TableValue::new();
            root.scalar(0, version, 0).tables(2, vec![subgraph]);
            let mut bytes = Vec::new();
            Layout::new(root, &FILE_IDENTIFIER).unwrap().write(&mut bytes).unwrap();
            let error = Model::parse(bytes.into()).unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
        let none = TableValue::new();
        let with = |change: fn(&mut TableValue)| {
            let mut table = TableValue::new();
            change(&mut table);
            table
        };
        check(&none, &none, 2, "schema version 2; only 3 is known");
        let sparse = with(|tensor| {
            tensor.table(6, TableValue::new());
        });
        check(&sparse, &none, 3, "tensor 0 of subgraph 0: sparse tensors are unsupported");
        let external = with(|tensor| {
            tensor.scalar(10, 1u32, 0);
        });
        check(&external, &none, 3, "tensor 0 of subgraph 0: data in another file are unsupported");
        let future = with(|tensor| {
            tensor.scalar(1, 99i8, 0);
        });
        check(&future, &none, 3, "unknown TensorType 99");
        let two = with(|operator| {
            operator.union(3, 1, TableValue::new()).union(11, 1, TableValue::new());
        });
        check(&none, &two, 3, "operator 0 of subgraph 0 has two options tables");
        let details = with(|tensor| {
            let mut quantization = TableValue::new();
            quantization.union(4, 9, TableValue::new());
            tensor.table(4, quantization);
        });
        check(&details, &none, 3, "unknown quantization details 9");
    }

    #[test]
    fn data_in_the_first_buffer_are_ignored() {
        let mut buffer = TableValue::new();
        buffer.data(0, Bytes::from_static(b"junk"), DATA_ALIGN);
        let mut root = TableValue::new();
        root.scalar(0, SCHEMA_VERSION, 0).tables(4, vec![buffer]);
        let mut bytes = Vec::new();
        Layout::new(root, &FILE_IDENTIFIER).unwrap().write(&mut bytes).unwrap();
        let model = Model::parse(bytes.into()).unwrap();
        assert_eq!(model, Model { buffers: vec![Buffer::default()], ..Model::default() });
    }

    #[test]
    fn broken_bytes_never_panic() {
        let good = written(&small_model());
        for length in 0..good.len() {
            let _ = Model::parse(Bytes::copy_from_slice(&good[..length]));
        }
        for position in 0..good.len() {
            for flip in [0x01, 0x02, 0x04, 0x10, 0x40, 0x80, 0xff] {
                let mut bytes = good.clone();
                bytes[position] ^= flip;
                if let Ok(model) = Model::parse(bytes.into()) {
                    model.write(&mut io::sink()).ok();
                }
            }
        }
    }
}
