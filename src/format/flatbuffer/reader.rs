//! The checked reader over untrusted bytes.

use std::cell::Cell;
use std::ops::Range;

use super::{FlatbufferError, Result, Scalar};

pub(super) const MAX_DEPTH: usize = 64;
const MEMORY_PER_FILE_BYTE: usize = 32;
const FLOOR: usize = 1 << 16;
const MEMORY_CEILING: usize = 1 << 30;
const DATA_PER_FILE_BYTE: usize = 4;

/// Reads one flatbuffer; holds the limits on what decoding may allocate, and on how much data may
/// be named by vectors that lie over each other.
pub struct Reader<'a> {
    bytes: &'a [u8],
    memory_left: Cell<usize>,
    data_left: Cell<usize>,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        let in_proportion = |factor| bytes.len().saturating_mul(factor).saturating_add(FLOOR);
        Self {
            bytes,
            memory_left: Cell::new(in_proportion(MEMORY_PER_FILE_BYTE).min(MEMORY_CEILING)),
            data_left: Cell::new(in_proportion(DATA_PER_FILE_BYTE)),
        }
    }

    /// The root table, after checking the file identifier.
    pub fn root(&'a self, identifier: &[u8; 4]) -> Result<Table<'a>> {
        let found = self.take(4, 4)?;
        if found != identifier {
            let mut name = [0; 4];
            name.copy_from_slice(found);
            return Err(FlatbufferError::WrongIdentifier { found: name });
        }
        self.table_at(self.follow(0)?, 0)
    }

    fn take(&self, at: usize, length: usize) -> Result<&'a [u8]> {
        at.checked_add(length)
            .and_then(|end| self.bytes.get(at..end))
            .ok_or(FlatbufferError::Truncated { at })
    }

    fn scalar_at<T: Scalar>(&self, at: usize) -> Result<T> {
        self.take(at, T::WIDTH).map(T::read_le)
    }

    fn follow(&self, at: usize) -> Result<usize> {
        let offset = self.scalar_at::<u32>(at)? as usize;
        at.checked_add(offset)
            .filter(|&target| offset != 0 && target < self.bytes.len())
            .ok_or(FlatbufferError::BadOffset { at })
    }

    fn charge(&self, at: usize, count: usize, each: usize) -> Result<()> {
        spend(&self.memory_left, at, count.checked_mul(each))
    }

    fn table_at(&'a self, at: usize, depth: usize) -> Result<Table<'a>> {
        if depth > MAX_DEPTH {
            return Err(FlatbufferError::TooDeep { at });
        }
        self.charge(at, 1, 16)?;
        let bad = FlatbufferError::BadVtable { at };
        let back = self.scalar_at::<i32>(at)?;
        let vtable = i64::try_from(at)
            .ok()
            .and_then(|at| usize::try_from(at - i64::from(back)).ok())
            .ok_or(bad)?;
        let header = self.take(vtable, 4).map_err(|_| bad)?;
        let vtable_length = usize::from(u16::read_le(&header[..2]));
        let length = usize::from(u16::read_le(&header[2..]));
        if vtable_length < 4 || vtable_length % 2 != 0 || length < 4 {
            return Err(bad);
        }
        let vtable = self.take(vtable, vtable_length).map_err(|_| bad)?;
        self.take(at, length)?;
        Ok(Table { reader: self, at, length, vtable, depth })
    }

    pub(super) fn vector_at(&self, slot: usize, width: usize) -> Result<(usize, Range<usize>)> {
        let at = self.follow(slot)?;
        let count = self.scalar_at::<u32>(at)? as usize;
        let start = at + 4;
        let length = count.checked_mul(width).ok_or(FlatbufferError::Truncated { at })?;
        self.take(start, length)?;
        Ok((count, start..start + length))
    }

    fn text_at(&self, slot: usize) -> Result<&'a str> {
        let (_, range) = self.vector_at(slot, 1)?;
        self.charge(range.start, range.len(), 1)?;
        std::str::from_utf8(&self.bytes[range.clone()])
            .map_err(|_| FlatbufferError::NotUtf8 { at: range.start })
    }
}

/// A table of a flatbuffer; fields are named by their number (`id`) in the schema.
#[derive(Clone, Copy)]
pub struct Table<'a> {
    reader: &'a Reader<'a>,
    at: usize,
    length: usize,
    vtable: &'a [u8],
    depth: usize,
}

impl<'a> Table<'a> {
    pub fn scalar<T: Scalar>(&self, id: u16, default: T) -> Result<T> {
        match self.field(id, T::WIDTH)? {
            Some(at) => self.reader.scalar_at(at),
            None => Ok(default),
        }
    }

    /// Empty if absent.
    pub fn text(&self, id: u16) -> Result<&'a str> {
        match self.field(id, 4)? {
            Some(slot) => self.reader.text_at(slot),
            None => Ok(""),
        }
    }

    pub fn table(&self, id: u16) -> Result<Option<Table<'a>>> {
        let Some(slot) = self.field(id, 4)? else {
            return Ok(None);
        };
        self.reader.table_at(self.reader.follow(slot)?, self.depth + 1).map(Some)
    }

    /// A union: its code, whose field comes right before the value's, and the value.
    /// Code 0 is `None`; a code without a value has no table.
    pub fn union(&self, code_id: u16) -> Result<Option<(u8, Option<Table<'a>>)>> {
        match self.scalar::<u8>(code_id, 0)? {
            0 => Ok(None),
            code => Ok(Some((code, self.table(code_id + 1)?))),
        }
    }

    /// Empty if absent.
    pub fn scalars<T: Scalar>(&self, id: u16) -> Result<Vec<T>> {
        let Some(slot) = self.field(id, 4)? else {
            return Ok(Vec::new());
        };
        let (count, range) = self.reader.vector_at(slot, T::WIDTH)?;
        self.reader.charge(slot, count, T::WIDTH)?;
        let elements = self.reader.bytes[range].chunks_exact(T::WIDTH);
        Ok(elements.map(T::read_le).collect())
    }

    /// Empty if absent.
    pub fn texts(&self, id: u16) -> Result<Vec<String>> {
        let Some(slot) = self.field(id, 4)? else {
            return Ok(Vec::new());
        };
        let (count, range) = self.reader.vector_at(slot, 4)?;
        self.reader.charge(slot, count, size_of::<String>())?;
        let texts = range.step_by(4).map(|slot| self.reader.text_at(slot));
        texts.map(|text| text.map(str::to_owned)).collect()
    }

    /// Reads each table of a vector by `read`; empty if absent.
    pub fn tables<T, E: From<FlatbufferError>>(
        &self,
        id: u16,
        mut read: impl FnMut(Table<'a>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        self.tables_by_index(id, |_, table| read(table))
    }

    /// Like `tables`; `read` also gets the table's index.
    pub fn tables_by_index<T, E: From<FlatbufferError>>(
        &self,
        id: u16,
        mut read: impl FnMut(usize, Table<'a>) -> Result<T, E>,
    ) -> Result<Vec<T>, E> {
        let Some(slot) = self.field(id, 4)? else {
            return Ok(Vec::new());
        };
        let (count, range) = self.reader.vector_at(slot, 4)?;
        self.reader.charge(slot, count, size_of::<T>())?;
        let mut tables = Vec::with_capacity(count);
        for (index, slot) in range.step_by(4).enumerate() {
            let table = self.reader.table_at(self.reader.follow(slot)?, self.depth + 1)?;
            tables.push(read(index, table)?);
        }
        Ok(tables)
    }

    /// Where a vector of bytes lies in the file, for slicing without a copy.
    pub fn byte_range(&self, id: u16) -> Result<Option<Range<usize>>> {
        let Some(slot) = self.field(id, 4)? else {
            return Ok(None);
        };
        let (length, range) = self.reader.vector_at(slot, 1)?;
        spend(&self.reader.data_left, slot, Some(length))?;
        Ok(Some(range))
    }

    /// Where bytes lie that two `u64` fields name by their position in the file and, in the field
    /// after it, their length.
    pub fn outside_range(&self, id: u16) -> Result<Range<usize>> {
        let word = |id| Ok(usize::try_from(self.scalar::<u64>(id, 0)?).unwrap_or(usize::MAX));
        let (start, length) = (word(id)?, word(id + 1)?);
        self.reader.take(start, length)?;
        spend(&self.reader.data_left, start, Some(length))?;
        Ok(start..start + length)
    }

    pub fn has(&self, id: u16) -> Result<bool> {
        Ok(self.field(id, 1)?.is_some())
    }

    pub(super) fn field(&self, id: u16, width: usize) -> Result<Option<usize>> {
        let entry = 4 + 2 * usize::from(id);
        let Some(offset) = self.vtable.get(entry..entry + 2) else {
            return Ok(None);
        };
        match usize::from(u16::read_le(offset)) {
            0 => Ok(None),
            offset if offset < 4 || offset + width > self.length => {
                Err(FlatbufferError::FieldOutsideTable { at: self.at })
            }
            offset => Ok(Some(self.at + offset)),
        }
    }
}

fn spend(left: &Cell<usize>, at: usize, amount: Option<usize>) -> Result<()> {
    let after = amount.and_then(|amount| left.get().checked_sub(amount));
    left.set(after.ok_or(FlatbufferError::TooMuch { at })?);
    Ok(())
}
