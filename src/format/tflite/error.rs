//! What can be wrong with a `.tflite` file, and where.

use std::fmt;
use std::io;

use super::SCHEMA_VERSION;
use crate::format::flatbuffer::FlatbufferError;

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
