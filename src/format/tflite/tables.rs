//! Each value from and to its flatbuffer table, field by field as in `schema.fbs`.

use std::ops::Range;

use bytes::Bytes;

use super::field::Field;
use super::{
    BlockwiseQuantization, Buffer, BuiltinOperator, BuiltinOptions, CustomOptionsFormat,
    DATA_ALIGN, Metadata, Model, MultiAxisQuantization, Operator, OperatorCode, Place,
    QuantizationDetails, QuantizationParameters, Result, SCHEMA_VERSION, SignatureDef, SubGraph,
    Tensor, TensorMap, TensorType, TfliteError, VariantSubType,
};
use crate::format::flatbuffer::{FlatbufferError, Table, TableValue};

impl Model {
    pub(super) fn read(bytes: &Bytes, root: &Table) -> Result<Self> {
        let mut buffers = root.tables_by_index(4, |index, table| {
            let place = Place { part: "buffer", index, subgraph: None };
            read_data(bytes, &table, 0, 1, place).map(|data| Buffer { data })
        })?;
        match buffers.first_mut() {
            Some(first) => first.data = Bytes::new(),
            None => buffers.push(Buffer::default()),
        }
        Ok(Self {
            operator_codes: root.tables(1, |table| OperatorCode::read(&table))?,
            subgraphs: root
                .tables_by_index(2, |index, table| SubGraph::read(bytes, &table, index))?,
            description: root.text(3)?.to_owned(),
            buffers,
            metadata_buffer: root.scalars(5)?,
            metadata: root.tables(6, |table| {
                let buffer = table.scalar(1, 0)?;
                Ok::<_, TfliteError>(Metadata { name: table.text(0)?.to_owned(), buffer })
            })?,
            signature_defs: root.tables(7, |table| SignatureDef::read(&table))?,
        })
    }

    /// With `inline` unset, buffers go behind the flatbuffer.
    pub(super) fn to_table(&self, inline: bool) -> Result<TableValue> {
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
            tensor_type: Field::read(table, 1, TensorType::default())?,
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
                    tensor_type: Field::read(&table, 1, TensorType::default())?,
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
            custom_options_format: Field::read(table, 6, CustomOptionsFormat::default())?,
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
