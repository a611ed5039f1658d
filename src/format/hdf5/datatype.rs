//! What elements are, and how many there are.

use super::cursor::Cursor;
use super::{Hdf5Error, Result};

/// The element types read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Element {
    F16,
    F32,
    F64,
    /// 1, 2, 4 or 8 bytes.
    Integer {
        size: usize,
        signed: bool,
    },
    /// Text of at most so many bytes.
    FixedString(usize),
    /// Text in the global heap.
    String {
        size: usize,
    },
    /// Bytes that HDF5 gives no meaning.
    Opaque(usize),
    /// All others.
    Other {
        size: usize,
    },
}

impl Element {
    /// Bytes of one element where the array has it.
    pub fn size(&self) -> usize {
        match self {
            Element::F16 => 2,
            Element::F32 => 4,
            Element::F64 => 8,
            Element::Integer { size, .. } | Element::String { size } => *size,
            Element::FixedString(size) | Element::Opaque(size) => *size,
            Element::Other { size } => *size,
        }
    }
}

pub fn datatype(cursor: &mut Cursor) -> Result<Element> {
    let class_and_version = cursor.u8()?;
    let version = class_and_version >> 4;
    if !(1..=3).contains(&version) {
        return Err(Hdf5Error::UnknownVersion { what: "type", version });
    }
    let bits = cursor.number(3)?;
    let size = cursor.u32()?;
    let big_endian = bits & 1 != 0;
    Ok(match class_and_version & 15 {
        0 | 1 if big_endian => {
            return Err(Hdf5Error::Unsupported { what: "big-endian numbers" });
        }
        0 => match size {
            1 | 2 | 4 | 8 => Element::Integer { size, signed: bits & 8 != 0 },
            _ => Element::Other { size },
        },
        1 => {
            // offset, precision, where exponent and mantissa are and how wide, bias of the exponent
            let (fields, bias) = (cursor.number(8)?, cursor.u32()?);
            match (size, fields, bias) {
                (2, 0x0a00_050a_0010_0000, 15) => Element::F16,
                (4, 0x1700_0817_0020_0000, 127) => Element::F32,
                (8, 0x3400_0b34_0040_0000, 1023) => Element::F64,
                _ => Element::Other { size },
            }
        }
        3 => Element::FixedString(size),
        5 => Element::Opaque(size),
        9 if bits & 15 == 1 => Element::String { size },
        _ => Element::Other { size },
    })
}

/// The dimensions; `None` of a null space, which has no elements at all.
pub fn dataspace(cursor: &mut Cursor) -> Result<Option<Vec<usize>>> {
    const MAX_RANK: u8 = 32;
    let version = cursor.version(&[1, 2])?;
    let rank = cursor.u8()?;
    cursor.u8()?;
    match version {
        1 => cursor.skip(5)?,
        _ if cursor.u8()? == 2 => return Ok(None),
        _ => {}
    }
    if rank > MAX_RANK {
        return Err(Hdf5Error::Impossible { what: "number of dimensions" });
    }
    (0..rank).map(|_| cursor.length()).collect::<Result<_>>().map(Some)
}

/// The bytes of an array.
pub fn array_bytes(shape: &[usize], size: usize) -> Result<usize> {
    let bytes = shape.iter().try_fold(size, |bytes, &dim| bytes.checked_mul(dim));
    bytes.ok_or(Hdf5Error::Impossible { what: "number of elements" })
}
