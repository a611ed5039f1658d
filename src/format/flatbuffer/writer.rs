//! The writer: values first, then a layout with every position decided, then the bytes.

use std::collections::{BTreeMap, VecDeque};
use std::io::{self, Write};

use bytes::Bytes;

use super::{FlatbufferError, Result, Scalar};

const MAX_ALIGN: usize = 64;
const MAX_POSITION: usize = i32::MAX as usize;

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
