//! The flatbuffers wire format: a checked reader over untrusted bytes, and a writer that goes front
//! to back so that large data streams to disk without a second copy. Knows no schema.

mod reader;
mod writer;

#[cfg(test)]
mod tests;

pub use reader::{Reader, Table};
pub use writer::{Layout, TableValue};

use std::fmt;

/// A defect of a flatbuffer; `at` is the byte position where it shows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FlatbufferError {
    /// Something reaches past the end of the bytes.
    Truncated { at: usize },
    /// Bytes 4 to 8 are not the expected file identifier.
    WrongIdentifier { found: [u8; 4] },
    /// An offset points at itself or past the end.
    BadOffset { at: usize },
    /// A table's vtable is too short, odd-sized or outside the bytes.
    BadVtable { at: usize },
    /// A field lies outside its table.
    FieldOutsideTable { at: usize },
    /// A text is not UTF-8.
    NotUtf8 { at: usize },
    /// Tables are nested deeper than any schema needs.
    TooDeep { at: usize },
    /// Decoding would take far more memory than the file has bytes.
    TooMuch { at: usize },
    /// What is to be written does not fit the 2 GiB that offsets can reach.
    TooLarge { at: usize },
}

impl fmt::Display for FlatbufferError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { at } => write!(f, "the file ends too early (needed at byte {at})"),
            Self::WrongIdentifier { found } => {
                write!(f, "wrong file identifier \"{}\"", found.escape_ascii())
            }
            Self::BadOffset { at } => write!(f, "bad offset at byte {at}"),
            Self::BadVtable { at } => write!(f, "bad vtable of the table at byte {at}"),
            Self::FieldOutsideTable { at } => write!(f, "field outside its table at byte {at}"),
            Self::NotUtf8 { at } => write!(f, "text that is not UTF-8 at byte {at}"),
            Self::TooDeep { at } => write!(f, "tables nested too deep at byte {at}"),
            Self::TooMuch { at } => {
                write!(f, "contents out of proportion to the file's size at byte {at}")
            }
            Self::TooLarge { at } => {
                write!(f, "a flatbuffer cannot go past 2 GiB (would need byte {at})")
            }
        }
    }
}

impl std::error::Error for FlatbufferError {}

type Result<T, E = FlatbufferError> = std::result::Result<T, E>;

/// A number or bool as flatbuffers store it: little-endian, `WIDTH` bytes.
pub trait Scalar: Copy {
    const WIDTH: usize;
    /// `bytes` holds exactly `WIDTH` bytes.
    fn read_le(bytes: &[u8]) -> Self;
    fn padded_le(self) -> [u8; 8];
}

macro_rules! scalars {
    ($($type:ty),*) => {$(
        impl Scalar for $type {
            const WIDTH: usize = size_of::<$type>();
            fn read_le(bytes: &[u8]) -> Self {
                let mut array = [0; size_of::<$type>()];
                array.copy_from_slice(bytes);
                <$type>::from_le_bytes(array)
            }
            fn padded_le(self) -> [u8; 8] {
                let mut array = [0; 8];
                array[..size_of::<$type>()].copy_from_slice(&self.to_le_bytes());
                array
            }
        }
    )*};
}
scalars!(i8, u8, i16, u16, i32, u32, i64, u64, f32, f64);

impl Scalar for bool {
    const WIDTH: usize = 1;
    fn read_le(bytes: &[u8]) -> Self {
        bytes.iter().any(|&byte| byte != 0)
    }
    fn padded_le(self) -> [u8; 8] {
        u8::from(self).padded_le()
    }
}
