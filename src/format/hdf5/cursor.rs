//! Checked reading of little-endian numbers.

use super::Hdf5Error;
use bytes::Bytes;

type Result<T> = std::result::Result<T, Hdf5Error>;

/// How wide addresses and lengths are in a file.
#[derive(Debug, Clone, Copy)]
pub struct Widths {
    pub offset: usize,
    pub length: usize,
}

/// A place in some bytes, which moves as they are read; `what` is named where they end too early.
#[derive(Debug, Clone)]
pub struct Cursor {
    bytes: Bytes,
    at: usize,
    what: &'static str,
    widths: Widths,
}

impl Cursor {
    pub fn new(bytes: Bytes, what: &'static str, widths: Widths) -> Cursor {
        Cursor { bytes, at: 0, what, widths }
    }

    pub fn at(&self) -> usize {
        self.at
    }

    pub fn remaining(&self) -> usize {
        self.bytes.len() - self.at
    }

    pub fn take(&mut self, count: usize) -> Result<Bytes> {
        let end = self.at.checked_add(count).filter(|&end| end <= self.bytes.len());
        let end = end.ok_or(Hdf5Error::Truncated { what: self.what })?;
        let taken = self.bytes.slice(self.at..end);
        self.at = end;
        Ok(taken)
    }

    pub fn skip(&mut self, count: usize) -> Result<()> {
        self.take(count).map(drop)
    }

    /// To the next multiple of eight bytes from the beginning, or to the end.
    pub fn align(&mut self) {
        self.at = self.at.next_multiple_of(8).min(self.bytes.len());
    }

    /// A number of `width` bytes, at most eight.
    pub fn number(&mut self, width: usize) -> Result<u64> {
        let taken = self.take(width)?;
        Ok(taken.iter().rev().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.take(1)?[0])
    }

    pub fn u16(&mut self) -> Result<usize> {
        self.number(2).map(|n| n as usize)
    }

    pub fn u32(&mut self) -> Result<usize> {
        self.number(4).map(|n| n as usize)
    }

    /// An address in the file; `None` is the undefined one.
    pub fn offset(&mut self) -> Result<Option<u64>> {
        let width = self.widths.offset;
        let offset = self.number(width)?;
        let undefined = u64::MAX >> (64 - 8 * width as u32);
        Ok((offset != undefined).then_some(offset))
    }

    pub fn length(&mut self) -> Result<usize> {
        let length = self.number(self.widths.length)?;
        usize::try_from(length).map_err(|_| Hdf5Error::Impossible { what: "length" })
    }

    pub fn signature(&mut self, signature: &[u8; 4], at: u64) -> Result<()> {
        match self.take(4)? == signature[..] {
            true => Ok(()),
            false => Err(Hdf5Error::BadSignature { what: self.what, at }),
        }
    }

    pub fn version(&mut self, known: &[u8]) -> Result<u8> {
        let version = self.u8()?;
        match known.contains(&version) {
            true => Ok(version),
            false => Err(Hdf5Error::UnknownVersion { what: self.what, version }),
        }
    }
}
