//! Element types, dimensions and constants, as tract, the lite graph and the file have them.

use super::*;

pub fn element_type(datum: DatumType) -> Result<ElementType> {
    Ok(match datum {
        DatumType::F32 => ElementType::F32,
        DatumType::F16 => ElementType::F16,
        DatumType::I8 => ElementType::I8,
        DatumType::U8 => ElementType::U8,
        DatumType::I16 => ElementType::I16,
        DatumType::U16 => ElementType::U16,
        DatumType::I32 => ElementType::I32,
        DatumType::U32 => ElementType::U32,
        DatumType::I64 => ElementType::I64,
        DatumType::Bool => ElementType::Bool,
        DatumType::String => ElementType::String,
        DatumType::TDim => ElementType::I64,
        other => {
            return Err(anyhow!(
                "{} has no TFLite type here; export with float32 (or int32, int64, bool)",
                format!("{other:?}").to_lowercase()
            ));
        }
    })
}

pub fn datum_type(element: ElementType) -> Result<DatumType> {
    Ok(match element {
        ElementType::F32 => DatumType::F32,
        ElementType::F16 => DatumType::F16,
        ElementType::I8 => DatumType::I8,
        ElementType::U8 => DatumType::U8,
        ElementType::I16 => DatumType::I16,
        ElementType::U16 => DatumType::U16,
        ElementType::I32 => DatumType::I32,
        ElementType::U32 => DatumType::U32,
        ElementType::I64 => DatumType::I64,
        ElementType::Bool => DatumType::Bool,
        ElementType::I4 | ElementType::String => {
            return Err(anyhow!("{element} tensors cannot be computed with yet"));
        }
    })
}

/// The file's number for an element type.
pub fn tensor_type(element: ElementType) -> TensorType {
    match element {
        ElementType::F32 => TensorType::Float32,
        ElementType::F16 => TensorType::Float16,
        ElementType::I4 => TensorType::Int4,
        ElementType::I8 => TensorType::Int8,
        ElementType::U8 => TensorType::UInt8,
        ElementType::I16 => TensorType::Int16,
        ElementType::U16 => TensorType::UInt16,
        ElementType::I32 => TensorType::Int32,
        ElementType::U32 => TensorType::UInt32,
        ElementType::I64 => TensorType::Int64,
        ElementType::Bool => TensorType::Bool,
        ElementType::String => TensorType::String,
    }
}

/// tract's dimensions as the lite graph spells them.
pub fn dims(shape: &[TDim]) -> Vec<Dim> {
    let dim = |d: &TDim| match d.to_usize() {
        Ok(n) => Dim::Known(n),
        Err(_) => Dim::Symbol(d.to_string()),
    };
    shape.iter().map(dim).collect()
}

/// A RESHAPE target: −1 for the one dimension that is not a number.
pub fn reshape_target(shape: &[TDim]) -> Result<Vec<i32>> {
    let unknown = shape.iter().filter(|d| d.to_usize().is_err()).count();
    ensure!(
        unknown <= 1,
        refusal::unknown_size(format!("a reshape to {shape:?} has {unknown} unknown dimensions"))
    );
    shape
        .iter()
        .map(|d| match d.to_i64() {
            Ok(n) => i32::try_from(n).context("a dimension is over 2^31"),
            Err(_) => Ok(-1),
        })
        .collect()
}
