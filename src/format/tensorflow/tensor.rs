//! Constants in all the ways that a `TensorProto` can spell them, as one row of little-endian bytes.

use super::{DataType, TensorProto, TensorShape};
use bytes::Bytes;
use std::fmt;

/// A constant's numbers: row-major, little-endian.
#[derive(Debug, Clone, PartialEq)]
pub struct TensorValue {
    pub dtype: DataType,
    pub shape: Vec<usize>,
    pub data: Bytes,
}

/// What can be wrong with a constant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TensorError {
    /// A size is negative, or all of them are more than memory has.
    BadShape,
    /// The number of a type that is not read.
    Type(i32),
    /// More bytes or values than the shape has room for, or too few bytes.
    BadLength { expected: usize, found: usize },
    /// One value stands for more bytes than any constant of use has.
    Bomb { bytes: usize },
}

/// What values repeated from one may come to.
const MOST_REPEATED_BYTES: usize = 1 << 30;

impl fmt::Display for TensorError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BadShape => write!(f, "a constant of impossible shape"),
            Self::Type(number) => {
                write!(f, "a constant of {} is not supported", DataType::describe(*number))
            }
            Self::BadLength { expected, found } => {
                write!(f, "a constant of {found} where its shape needs {expected}")
            }
            Self::Bomb { bytes } => write!(f, "one value repeated over {bytes} bytes"),
        }
    }
}

impl std::error::Error for TensorError {}

impl DataType {
    /// Bytes of one number; `None` where it is none.
    pub fn width(self) -> Option<usize> {
        Some(match self {
            DataType::Bool | DataType::Int8 | DataType::Uint8 => 1,
            DataType::Half | DataType::Bfloat16 | DataType::Int16 | DataType::Uint16 => 2,
            DataType::Float | DataType::Int32 | DataType::Uint32 => 4,
            DataType::Double | DataType::Int64 | DataType::Uint64 => 8,
            DataType::Invalid | DataType::String | DataType::Resource | DataType::Variant => {
                return None;
            }
        })
    }
}

impl TensorShape {
    /// The sizes where all are known and their product is a number.
    pub fn sizes(&self) -> Option<Vec<usize>> {
        let known = |dim: &super::Dim| usize::try_from(dim.size).ok();
        let sizes: Option<Vec<usize>> = self.dim.iter().map(known).collect();
        let sizes = sizes.filter(|_| !self.unknown_rank)?;
        sizes.iter().try_fold(1usize, |count, &n| count.checked_mul(n))?;
        Some(sizes)
    }
}

/// The numbers of a constant, strings apart.
///
/// # Errors
/// Shape, type and values do not go together.
pub fn tensor_value(tensor: &TensorProto) -> Result<TensorValue, TensorError> {
    let shape = tensor.tensor_shape.clone().unwrap_or_default();
    let shape = shape.sizes().ok_or(TensorError::BadShape)?;
    let unread = TensorError::Type(tensor.dtype);
    let dtype = DataType::try_from(tensor.dtype).map_err(|_| unread.clone())?;
    let width = dtype.width().ok_or(unread)?;
    let count: usize = shape.iter().product();
    let bytes = count.checked_mul(width).ok_or(TensorError::BadShape)?;
    let data = match tensor.tensor_content.is_empty() {
        false => tensor.tensor_content.clone(),
        true => repeated(&listed(tensor, dtype), width, bytes)?,
    };
    match data.len() == bytes {
        true => Ok(TensorValue { dtype, shape, data }),
        false => Err(TensorError::BadLength { expected: bytes, found: data.len() }),
    }
}

/// The values that are listed, as bytes.
fn listed(tensor: &TensorProto, dtype: DataType) -> Vec<u8> {
    fn bytes<T: Copy, const N: usize>(values: &[T], of: impl Fn(T) -> [u8; N]) -> Vec<u8> {
        values.iter().flat_map(|&value| of(value)).collect()
    }
    match dtype {
        DataType::Float => bytes(&tensor.float_val, f32::to_le_bytes),
        DataType::Double => bytes(&tensor.double_val, f64::to_le_bytes),
        DataType::Int32 => bytes(&tensor.int_val, i32::to_le_bytes),
        DataType::Int16 | DataType::Uint16 => bytes(&tensor.int_val, |v| (v as u16).to_le_bytes()),
        DataType::Int8 | DataType::Uint8 => bytes(&tensor.int_val, |v| [v as u8]),
        DataType::Int64 => bytes(&tensor.int64_val, i64::to_le_bytes),
        DataType::Bool => bytes(&tensor.bool_val, |v| [v as u8]),
        DataType::Half | DataType::Bfloat16 => {
            bytes(&tensor.half_val, |v| (v as u16).to_le_bytes())
        }
        DataType::Uint32 => bytes(&tensor.uint32_val, u32::to_le_bytes),
        DataType::Uint64 => bytes(&tensor.uint64_val, u64::to_le_bytes),
        DataType::Invalid | DataType::String | DataType::Resource | DataType::Variant => vec![],
    }
}

/// `values` filled up to `bytes` with the last of them; zeros where there are none.
fn repeated(values: &[u8], width: usize, bytes: usize) -> Result<Bytes, TensorError> {
    if values.len() >= bytes {
        return Ok(Bytes::copy_from_slice(values));
    }
    if bytes > MOST_REPEATED_BYTES {
        return Err(TensorError::Bomb { bytes });
    }
    let zero = vec![0; width];
    let last = values.chunks_exact(width).next_back().unwrap_or(&zero);
    let mut filled = values.to_vec();
    filled.extend(last.iter().cycle().take(bytes - values.len()));
    Ok(filled.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_is_read() {
        let of = |dtype: DataType, shape: &[i64]| TensorProto {
            dtype: dtype as i32,
            tensor_shape: Some(TensorShape::of(shape.iter().copied())),
            ..TensorProto::default()
        };
        let floats = |values: &[f32]| values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let cases: [(TensorProto, Vec<u8>); 8] = [
            (
                TensorProto { float_val: vec![1.5, 2.0], ..of(DataType::Float, &[4]) },
                floats(&[1.5, 2.0, 2.0, 2.0]),
            ),
            (of(DataType::Float, &[2]), vec![0; 8]),
            (TensorProto { int_val: vec![-1], ..of(DataType::Int8, &[3]) }, vec![255; 3]),
            (TensorProto { half_val: vec![0x3c00], ..of(DataType::Half, &[]) }, vec![0x00, 0x3c]),
            (TensorProto { bool_val: vec![true], ..of(DataType::Bool, &[2]) }, vec![1, 1]),
            (
                TensorProto { int64_val: vec![-2], ..of(DataType::Int64, &[]) },
                (-2i64).to_le_bytes().to_vec(),
            ),
            (
                TensorProto {
                    tensor_content: Bytes::from_static(&[1, 0, 2, 0]),
                    ..of(DataType::Uint16, &[2])
                },
                vec![1, 0, 2, 0],
            ),
            (of(DataType::Int32, &[0, 7]), vec![]),
        ];
        for (tensor, expected) in cases {
            assert_eq!(tensor_value(&tensor).unwrap().data, expected, "{tensor:?}");
        }
    }

    #[test]
    fn lies_are_refused() {
        let of = |dtype: i32, shape: &[i64], content: usize| TensorProto {
            dtype,
            tensor_shape: Some(TensorShape::of(shape.iter().copied())),
            tensor_content: vec![0; content].into(),
            ..TensorProto::default()
        };
        let cases = [
            (of(1, &[-1], 4), TensorError::BadShape),
            (of(1, &[1 << 40, 1 << 40], 4), TensorError::BadShape),
            (of(1, &[1 << 62], 4), TensorError::BadShape),
            (of(1, &[2], 4), TensorError::BadLength { expected: 8, found: 4 }),
            (of(1, &[1 << 30], 0), TensorError::Bomb { bytes: 1 << 32 }),
            (of(8, &[2], 4), TensorError::Type(8)),
            (of(20, &[], 4), TensorError::Type(20)),
        ];
        for (tensor, expected) in cases {
            assert_eq!(tensor_value(&tensor), Err(expected));
        }
    }
}
