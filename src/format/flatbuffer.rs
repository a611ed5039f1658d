//! The flatbuffers wire format: a checked reader over untrusted bytes, and a writer that goes front
//! to back so that large data streams to disk without a second copy. Knows no schema.

use std::cell::Cell;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, Write};
use std::ops::Range;

use bytes::Bytes;

const MAX_DEPTH: usize = 64;
const MAX_ALIGN: usize = 64;
const MAX_POSITION: usize = i32::MAX as usize;
const MEMORY_PER_FILE_BYTE: usize = 32;
const FLOOR: usize = 1 << 16;
const MEMORY_CEILING: usize = 1 << 30;
const DATA_PER_FILE_BYTE: usize = 4;

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

    fn vector_at(&self, slot: usize, width: usize) -> Result<(usize, Range<usize>)> {
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

    fn field(&self, id: u16, width: usize) -> Result<Option<usize>> {
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

/// A table to be written: fields by their number in the schema.
#[derive(Debug, Clone, Default)]
pub struct TableValue {
    fields: Vec<(u16, Value)>,
}

#[derive(Debug, Clone)]
enum Value {
    Scalar { bytes: [u8; 8], width: usize },
    Table(TableValue),
    Tables(Vec<TableValue>),
    Texts(Vec<String>),
    Leaf { bytes: Vec<u8>, wide: bool },
    Data { bytes: Bytes, align: usize },
    OutsideOffset(Bytes),
}

impl TableValue {
    pub fn new() -> Self {
        Self::default()
    }

    /// Left out when it equals the schema's default.
    pub fn scalar<T: Scalar>(&mut self, id: u16, value: T, default: T) -> &mut Self {
        let bytes = value.padded_le();
        if bytes != default.padded_le() {
            self.push(id, Value::Scalar { bytes, width: T::WIDTH });
        }
        self
    }

    pub fn text(&mut self, id: u16, text: &str) -> &mut Self {
        let mut bytes = counted(text.len(), text.len() + 5);
        bytes.extend_from_slice(text.as_bytes());
        bytes.push(0);
        self.push(id, Value::Leaf { bytes, wide: false })
    }

    /// Left out when empty, like the `if_any` methods below.
    pub fn text_if_any(&mut self, id: u16, text: &str) -> &mut Self {
        if text.is_empty() { self } else { self.text(id, text) }
    }

    pub fn scalars_if_any<T: Scalar>(&mut self, id: u16, elements: &[T]) -> &mut Self {
        if elements.is_empty() { self } else { self.scalars(id, elements) }
    }

    pub fn tables_if_any(&mut self, id: u16, tables: Vec<TableValue>) -> &mut Self {
        if tables.is_empty() { self } else { self.tables(id, tables) }
    }

    pub fn data_if_any(&mut self, id: u16, bytes: Bytes, align: usize) -> &mut Self {
        if bytes.is_empty() { self } else { self.data(id, bytes, align) }
    }

    pub fn table(&mut self, id: u16, table: TableValue) -> &mut Self {
        self.push(id, Value::Table(table))
    }

    /// A union's code and, in the field after it, its value.
    pub fn union(&mut self, code_id: u16, code: u8, table: TableValue) -> &mut Self {
        self.scalar(code_id, code, 0).table(code_id + 1, table)
    }

    pub fn scalars<T: Scalar>(&mut self, id: u16, elements: &[T]) -> &mut Self {
        let mut bytes = counted(elements.len(), 4 + elements.len() * T::WIDTH);
        for element in elements {
            bytes.extend_from_slice(&element.padded_le()[..T::WIDTH]);
        }
        self.push(id, Value::Leaf { bytes, wide: T::WIDTH == 8 })
    }

    pub fn texts(&mut self, id: u16, texts: Vec<String>) -> &mut Self {
        self.push(id, Value::Texts(texts))
    }

    pub fn tables(&mut self, id: u16, tables: Vec<TableValue>) -> &mut Self {
        self.push(id, Value::Tables(tables))
    }

    /// A vector of bytes, written after everything else, its first byte at a multiple of `align`.
    pub fn data(&mut self, id: u16, bytes: Bytes, align: usize) -> &mut Self {
        self.push(id, Value::Data { bytes, align: align.clamp(4, MAX_ALIGN) })
    }

    /// Bytes behind the flatbuffer, past what its offsets reach: the `u64` field `id` gets their
    /// position in the file, the one after it their length.
    pub fn outside_data(&mut self, id: u16, bytes: Bytes) -> &mut Self {
        let length = bytes.len() as u64;
        self.push(id, Value::OutsideOffset(bytes)).scalar(id + 1, length, 0)
    }

    fn push(&mut self, id: u16, value: Value) -> &mut Self {
        self.fields.push((id, value));
        self
    }
}

/// `Layout` refuses positions past 2 GiB, so a count that `u32` cannot hold is never written.
fn counted(count: usize, capacity: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(capacity);
    bytes.extend_from_slice(&u32::try_from(count).unwrap_or(u32::MAX).to_le_bytes());
    bytes
}

/// A flatbuffer with every position decided, ready to be written. All offsets point forward, equal
/// vtables, texts and small vectors are shared, and the bytes depend on the values alone.
#[derive(Debug)]
pub struct Layout {
    head: Vec<u8>,
    data: Vec<Placed>,
    outside: bool,
}

#[derive(Debug)]
struct Placed {
    at: usize,
    counted: bool,
    bytes: Bytes,
}

const OUTSIDE_ALIGN: usize = 16;
const OUTSIDE_PADDING: [u8; 16] = [0; 16];

impl Layout {
    pub fn new(root: TableValue, identifier: &[u8; 4]) -> Result<Self> {
        let mut placer = Placer { head: vec![0; 4], ..Placer::default() };
        placer.head.extend_from_slice(identifier);
        placer.branches.push_back((0, Branch::Table(root)));
        placer.place_branches()?;
        placer.place_leaves()?;
        let (data, outside) = placer.place_data()?;
        Ok(Self { head: placer.head, data, outside })
    }

    /// Writes all bytes and returns their number.
    pub fn write(&self, out: &mut impl Write) -> io::Result<u64> {
        out.write_all(&self.head)?;
        let mut at = self.head.len();
        for placed in &self.data {
            out.write_all(&[0; MAX_ALIGN][..placed.at - at])?;
            if placed.counted {
                out.write_all(&(placed.bytes.len() as u32).to_le_bytes())?;
            }
            out.write_all(&placed.bytes)?;
            at = placed.end();
        }
        if self.outside {
            out.write_all(&OUTSIDE_PADDING)?;
            at += OUTSIDE_PADDING.len();
        }
        Ok(at as u64)
    }
}

impl Placed {
    fn end(&self) -> usize {
        self.at + if self.counted { 4 } else { 0 } + self.bytes.len()
    }
}

/// What holds offsets itself, and so comes before all leaves.
enum Branch {
    Table(TableValue),
    Tables(Vec<TableValue>),
    Texts(Vec<String>),
}

struct Leaf {
    slot: usize,
    bytes: Vec<u8>,
    wide: bool,
}

#[derive(Default)]
struct Placer {
    head: Vec<u8>,
    branches: VecDeque<(usize, Branch)>,
    vtables: BTreeMap<Vec<u8>, usize>,
    leaves: Vec<Leaf>,
    data: Vec<(usize, Bytes, usize)>,
    outside: Vec<(usize, Bytes)>,
}

impl Placer {
    fn place_branches(&mut self) -> Result<()> {
        while let Some((slot, branch)) = self.branches.pop_front() {
            match branch {
                Branch::Table(table) => self.place_table(slot, table)?,
                Branch::Tables(tables) => {
                    let first = self.place_slots(slot, tables.len())?;
                    for (slot, table) in (first..).step_by(4).zip(tables) {
                        self.branches.push_back((slot, Branch::Table(table)));
                    }
                }
                Branch::Texts(texts) => {
                    let first = self.place_slots(slot, texts.len())?;
                    for (slot, text) in (first..).step_by(4).zip(texts) {
                        let mut holder = TableValue::new();
                        holder.text(0, &text);
                        self.defer(slot, holder.fields.remove(0).1);
                    }
                }
            }
        }
        Ok(())
    }

    fn place_slots(&mut self, slot: usize, count: usize) -> Result<usize> {
        self.align(4, 0);
        self.point(slot, self.head.len())?;
        self.head.extend_from_slice(&counted(count, 4));
        let first = self.head.len();
        let end = count.checked_mul(4).and_then(|length| first.checked_add(length));
        match end {
            Some(end) if end <= MAX_POSITION => self.head.resize(end, 0),
            _ => return Err(FlatbufferError::TooLarge { at: first }),
        }
        Ok(first)
    }

    fn place_table(&mut self, slot: usize, table: TableValue) -> Result<()> {
        let too_large = FlatbufferError::TooLarge { at: self.head.len() };
        let mut fields = table.fields;
        fields.sort_by_key(|(id, value)| (std::cmp::Reverse(value.width()), *id));
        let wide = fields.first().is_some_and(|(_, value)| value.width() == 8);

        let highest = fields.iter().map(|(id, _)| usize::from(*id) + 1).max().unwrap_or(0);
        let mut vtable = vec![0; 4 + 2 * highest];
        let mut length = 4;
        for (id, value) in &fields {
            let entry = 4 + 2 * usize::from(*id);
            let offset = u16::try_from(length).map_err(|_| too_large)?;
            vtable[entry..entry + 2].copy_from_slice(&offset.to_le_bytes());
            length += value.width();
        }
        let vtable_length = u16::try_from(vtable.len()).map_err(|_| too_large)?;
        vtable[..2].copy_from_slice(&vtable_length.to_le_bytes());
        let table_length = u16::try_from(length).map_err(|_| too_large)?;
        vtable[2..4].copy_from_slice(&table_length.to_le_bytes());

        let vtable_at = match self.vtables.get(&vtable) {
            Some(&at) => at,
            None => {
                self.align(2, 0);
                let at = self.head.len();
                self.head.extend_from_slice(&vtable);
                self.vtables.insert(vtable, at);
                at
            }
        };
        if wide {
            self.align(8, 4)
        } else {
            self.align(4, 0)
        }
        let at = self.head.len();
        self.point(slot, at)?;
        self.head.extend_from_slice(&((at - vtable_at) as i32).to_le_bytes());
        for (_, value) in fields {
            let slot = self.head.len();
            match value {
                Value::Scalar { bytes, width } => self.head.extend_from_slice(&bytes[..width]),
                value => {
                    self.head.resize(slot + value.width(), 0);
                    self.defer(slot, value);
                }
            }
        }
        Ok(())
    }

    fn defer(&mut self, slot: usize, value: Value) {
        match value {
            Value::Scalar { .. } => {}
            Value::Table(table) => self.branches.push_back((slot, Branch::Table(table))),
            Value::Tables(tables) => self.branches.push_back((slot, Branch::Tables(tables))),
            Value::Texts(texts) => self.branches.push_back((slot, Branch::Texts(texts))),
            Value::Leaf { bytes, wide } => self.leaves.push(Leaf { slot, bytes, wide }),
            Value::Data { bytes, align } => self.data.push((slot, bytes, align)),
            Value::OutsideOffset(bytes) => self.outside.push((slot, bytes)),
        }
    }

    fn place_leaves(&mut self) -> Result<()> {
        let mut placed = BTreeMap::new();
        for Leaf { slot, bytes, wide } in std::mem::take(&mut self.leaves) {
            let key = (wide, bytes);
            let at = match placed.get(&key) {
                Some(&at) => at,
                None => {
                    if wide {
                        self.align(8, 4)
                    } else {
                        self.align(4, 0)
                    }
                    let at = self.head.len();
                    self.head.extend_from_slice(&key.1);
                    placed.insert(key, at);
                    at
                }
            };
            self.point(slot, at)?;
        }
        Ok(())
    }

    /// Data that share their memory are written once.
    fn place_data(&mut self) -> Result<(Vec<Placed>, bool)> {
        let mut data: Vec<Placed> = Vec::new();
        let mut known = BTreeMap::new();
        let mut end = self.head.len();
        for (slot, bytes, align) in std::mem::take(&mut self.data) {
            let key = (bytes.as_ptr(), bytes.len(), Some(align));
            let at = *known.entry(key).or_insert_with(|| {
                let at = (end + 4).next_multiple_of(align) - 4;
                let placed = Placed { at, counted: true, bytes };
                end = placed.end();
                data.push(placed);
                at
            });
            within_reach(end)?;
            self.point(slot, at)?;
        }
        let outside = std::mem::take(&mut self.outside);
        let any_outside = !outside.is_empty();
        for (slot, bytes) in outside {
            let at = *known.entry((bytes.as_ptr(), bytes.len(), None)).or_insert_with(|| {
                let at = end.next_multiple_of(OUTSIDE_ALIGN);
                let placed = Placed { at, counted: false, bytes };
                end = placed.end();
                data.push(placed);
                at
            });
            self.head[slot..slot + 8].copy_from_slice(&(at as u64).to_le_bytes());
        }
        Ok((data, any_outside))
    }

    fn align(&mut self, align: usize, remainder: usize) {
        while self.head.len() % align != remainder {
            self.head.push(0);
        }
    }

    fn point(&mut self, slot: usize, target: usize) -> Result<()> {
        within_reach(target)?;
        self.head[slot..slot + 4].copy_from_slice(&((target - slot) as u32).to_le_bytes());
        Ok(())
    }
}

impl Value {
    fn width(&self) -> usize {
        match self {
            Value::Scalar { width, .. } => *width,
            Value::OutsideOffset(_) => 8,
            _ => 4,
        }
    }
}

fn within_reach(at: usize) -> Result<()> {
    if at > MAX_POSITION { Err(FlatbufferError::TooLarge { at }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const IDENTIFIER: [u8; 4] = *b"TEST";

    fn written(root: &TableValue) -> Vec<u8> {
        let mut bytes = Vec::new();
        let layout = Layout::new(root.clone(), &IDENTIFIER).unwrap();
        let length = layout.write(&mut bytes).unwrap();
        assert_eq!(length, bytes.len() as u64);
        bytes
    }

    /// A root table with one `u8` field, 7, as the format's specification lays it out.
    fn seven() -> Vec<u8> {
        let mut bytes = vec![16, 0, 0, 0];
        bytes.extend_from_slice(b"TEST");
        bytes.extend_from_slice(&[6, 0, 5, 0, 4, 0, 0, 0]);
        bytes.extend_from_slice(&[8, 0, 0, 0, 7]);
        bytes
    }

    fn everything() -> TableValue {
        let mut inner = TableValue::new();
        inner.scalar(0, -5i64, 0).scalar(1, 3u8, 0).text(2, "größe");
        let mut root = TableValue::new();
        root.scalar(0, true, false)
            .scalar(1, -2i8, 0)
            .scalar(2, 60_000u16, 0)
            .scalar(3, -0.0f32, 0.0)
            .scalar(4, 2.5f64, 0.0)
            .scalar(5, 9u32, 9)
            .text(6, "name")
            .table(7, inner.clone())
            .scalars(8, &[1i64, -1, i64::MIN])
            .scalars(9, &[true, false])
            .texts(10, vec!["a".into(), String::new(), "name".into()])
            .tables(11, vec![inner.clone(), TableValue::new(), inner.clone()])
            .data(12, Bytes::from_static(b"weights"), 16)
            .union(13, 2, inner)
            .outside_data(15, Bytes::from_static(b"far away"));
        root
    }

    #[test]
    fn reads_and_writes_the_specified_bytes() {
        let reader_bytes = seven();
        let reader = Reader::new(&reader_bytes);
        assert_eq!(reader.root(&IDENTIFIER).unwrap().scalar(0, 0u8), Ok(7));
        let mut root = TableValue::new();
        root.scalar(0, 7u8, 0);
        assert_eq!(written(&root), seven());
    }

    #[test]
    fn reads_what_it_wrote() {
        let bytes = written(&everything());
        let reader = Reader::new(&bytes);
        let root = reader.root(&IDENTIFIER).unwrap();
        assert_eq!(root.scalar(0, false), Ok(true));
        assert_eq!(root.scalar(1, 0i8), Ok(-2));
        assert_eq!(root.scalar(2, 0u16), Ok(60_000));
        assert_eq!(root.scalar(3, 0.0f32).unwrap().to_bits(), (-0.0f32).to_bits());
        assert_eq!(root.scalar(4, 0.0f64), Ok(2.5));
        assert_eq!(root.has(5), Ok(false));
        assert_eq!(root.scalar(5, 9u32), Ok(9));
        assert_eq!(root.text(6), Ok("name"));
        assert_eq!(root.text(5), Ok(""));
        assert_eq!(root.scalars(8), Ok(vec![1i64, -1, i64::MIN]));
        assert_eq!(root.scalars(9), Ok(vec![true, false]));
        assert_eq!(root.texts(10).unwrap(), ["a", "", "name"]);
        let inner = |table: Table| {
            Ok::<_, FlatbufferError>((table.scalar(0, 0i64)?, table.text(2)?.to_owned()))
        };
        let expected = (-5, "größe".to_owned());
        let empty = (0, String::new());
        assert_eq!(inner(root.table(7).unwrap().unwrap()).unwrap(), expected);
        assert_eq!(root.tables(11, inner).unwrap(), [expected.clone(), empty, expected.clone()]);
        let data = root.byte_range(12).unwrap().unwrap();
        assert_eq!(data.start % 16, 0);
        assert_eq!(&bytes[data], b"weights");
        let (code, table) = root.union(13).unwrap().unwrap();
        assert_eq!((code, inner(table.unwrap()).unwrap()), (2, expected));
        let far = root.scalar(15, 0u64).unwrap() as usize;
        assert_eq!(root.scalar(16, 0u64), Ok(8));
        assert_eq!(&bytes[far..far + 8], b"far away");
        assert_eq!(bytes[far + 8..], [0; 16]);
    }

    #[test]
    fn wide_scalars_and_vectors_are_aligned() {
        let bytes = written(&everything());
        let reader = Reader::new(&bytes);
        let root = reader.root(&IDENTIFIER).unwrap();
        for id in [4, 15, 16] {
            assert_eq!(root.field(id, 8).unwrap().unwrap() % 8, 0);
        }
        let (_, vector) = reader.vector_at(root.field(8, 4).unwrap().unwrap(), 8).unwrap();
        assert_eq!(vector.start % 8, 0);
    }

    #[test]
    fn equal_vtables_and_texts_are_shared() {
        let mut row = TableValue::new();
        row.text(0, "a rather long name");
        let length = |count| {
            let mut root = TableValue::new();
            root.tables(0, vec![row.clone(); count]);
            written(&root).len()
        };
        assert_eq!(length(101) - length(1), 100 * 12);
    }

    #[test]
    fn defects_have_their_errors() {
        let check = |position: usize, value: &[u8], expected: FlatbufferError| {
            let mut bytes = seven();
            bytes[position..position + value.len()].copy_from_slice(value);
            let reader = Reader::new(&bytes);
            let field = reader.root(&IDENTIFIER).and_then(|root| root.scalar(0, 0u8));
            assert_eq!(field, Err(expected));
        };
        check(4, b"NOPE", FlatbufferError::WrongIdentifier { found: *b"NOPE" });
        check(0, &[0], FlatbufferError::BadOffset { at: 0 });
        check(0, &[21], FlatbufferError::BadOffset { at: 0 });
        check(0, &[18], FlatbufferError::Truncated { at: 18 });
        check(16, &[17], FlatbufferError::BadVtable { at: 16 });
        check(8, &[5], FlatbufferError::BadVtable { at: 16 });
        check(8, &[2], FlatbufferError::BadVtable { at: 16 });
        check(10, &[6], FlatbufferError::Truncated { at: 16 });
        check(10, &[4], FlatbufferError::FieldOutsideTable { at: 16 });
        check(12, &[3], FlatbufferError::FieldOutsideTable { at: 16 });

        let mut root = TableValue::new();
        root.text(0, "?");
        let mut bytes = written(&root);
        let question_mark = bytes.len() - 2;
        bytes[question_mark] = 0xff;
        let reader = Reader::new(&bytes);
        let text = reader.root(&IDENTIFIER).and_then(|root| root.text(0));
        assert_eq!(text, Err(FlatbufferError::NotUtf8 { at: question_mark }));
    }

    #[test]
    fn deep_nesting_ends() {
        let mut deep = TableValue::new();
        for _ in 0..MAX_DEPTH + 2 {
            let mut outer = TableValue::new();
            outer.table(0, deep);
            deep = outer;
        }
        let bytes = written(&deep);
        let reader = Reader::new(&bytes);
        let mut table = reader.root(&IDENTIFIER).unwrap();
        let error = loop {
            match table.table(0) {
                Ok(inner) => table = inner.unwrap(),
                Err(error) => break error,
            }
        };
        assert!(matches!(error, FlatbufferError::TooDeep { .. }));
    }

    #[test]
    fn vectors_that_share_their_elements_cannot_fill_memory() {
        let mut row = TableValue::new();
        row.scalars(0, &vec![1i32; 10_000]);
        let mut root = TableValue::new();
        root.tables(0, vec![row; 10_000]);
        let bytes = written(&root);
        assert!(bytes.len() < 200_000);
        let reader = Reader::new(&bytes);
        let root = reader.root(&IDENTIFIER).unwrap();
        let rows = root.tables(0, |row| row.scalars::<i32>(0));
        assert!(matches!(rows, Err(FlatbufferError::TooMuch { .. })));
    }

    #[test]
    fn data_that_lie_over_each_other_are_limited() {
        let data = Bytes::from(vec![1; 1 << 20]);
        let check = |count: usize, within_limit: bool| {
            let mut row = TableValue::new();
            row.data(0, data.clone(), 16);
            let mut root = TableValue::new();
            root.tables(0, vec![row; count]);
            let bytes = written(&root);
            assert!(bytes.len() < data.len() + 1000);
            let reader = Reader::new(&bytes);
            let rows = reader.root(&IDENTIFIER).unwrap().tables(0, |row| row.byte_range(0));
            assert_eq!(rows.is_ok(), within_limit);
        };
        check(4, true);
        check(5, false);
    }

    #[test]
    fn positions_past_two_gib_are_an_error() {
        let weights = Bytes::from(vec![0; 1 << 27]);
        let mut root = TableValue::new();
        for id in 0..17 {
            root.data(id, weights.slice(usize::from(id)..), 16);
        }
        let layout = Layout::new(root, &IDENTIFIER);
        assert!(matches!(layout.unwrap_err(), FlatbufferError::TooLarge { .. }));
    }
}
