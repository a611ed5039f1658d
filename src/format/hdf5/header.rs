//! Object headers: the messages that make an object a group or a dataset.

use super::attribute::Attribute;
use super::cursor::Cursor;
use super::datatype::{Element, dataspace, datatype};
use super::storage::{Layout, Storage, filters};
use super::{File, Hdf5Error, Result};
use bytes::Bytes;
use std::collections::BTreeMap;

/// What the messages of one header say.
#[derive(Debug, Default)]
pub struct Header {
    pub attributes: BTreeMap<String, Attribute>,
    /// Links that are in the header itself.
    pub links: Vec<(String, u64)>,
    /// Addresses of the B-tree and of the heap with names.
    pub symbol_table: Option<(u64, u64)>,
    shape: Option<Vec<usize>>,
    element: Option<Element>,
    storage: Option<Storage>,
}

impl Header {
    /// Of a dataset: elements, shape and where they lie.
    pub fn dataset(&self) -> Result<Option<(Element, Vec<usize>, Storage)>> {
        let Some(storage) = &self.storage else { return Ok(None) };
        let missing = Hdf5Error::Impossible { what: "dataset without type or shape" };
        let element = self.element.clone().ok_or(missing.clone())?;
        let shape = self.shape.clone().ok_or(missing)?;
        Ok(Some((element, shape, storage.clone())))
    }
}

/// A run of messages, and how they are laid out.
struct Block {
    cursor: Cursor,
    is_v2: bool,
    /// Version 2: each message has a number for its age.
    has_order: bool,
}

impl File {
    pub fn header(&mut self, address: u64) -> Result<Header> {
        self.reach(address)?;
        let mut blocks = vec![self.first_block(address)?];
        let mut header = Header::default();
        let mut layout = None;
        let mut pipeline = vec![];
        while let Some(mut block) = blocks.pop() {
            while let Some((kind, flags, body)) = block.next()? {
                let mut cursor = Cursor::new(body.clone(), "message", self.widths);
                let needed = [0x01, 0x03, 0x06, 0x08, 0x0b, 0x0c, 0x11].contains(&kind);
                if flags & 2 != 0 && needed {
                    return Err(Hdf5Error::Unsupported { what: "a shared message" });
                }
                match kind {
                    0x01 => header.shape = dataspace(&mut cursor)?,
                    0x02 => refuse_dense_links(&mut cursor)?,
                    0x03 => header.element = Some(datatype(&mut cursor)?),
                    0x06 => header.links.extend(link(&mut cursor)?),
                    0x07 => {
                        return Err(Hdf5Error::Unsupported { what: "data in other files" });
                    }
                    0x08 => layout = Some(Layout::read(&mut cursor)?),
                    0x0b => pipeline = filters(&mut cursor)?,
                    0x0c => {
                        let (name, attribute) = self.attribute(&mut cursor)?;
                        header.attributes.insert(name, attribute);
                    }
                    0x10 => {
                        let address = cursor.offset()?;
                        let length = cursor.length()?;
                        let missing = Hdf5Error::Impossible { what: "continuation" };
                        let address = address.ok_or(missing)?;
                        blocks.push(self.continuation(address, length, block.clone_form())?);
                    }
                    0x11 => header.symbol_table = cursor.offset()?.zip(cursor.offset()?),
                    0x15 => refuse_dense_attributes(&mut cursor)?,
                    _ => {}
                }
            }
        }
        if let Some(layout) = layout {
            header.storage = Some(self.storage(layout, pipeline)?);
        }
        Ok(header)
    }

    fn first_block(&mut self, address: u64) -> Result<Block> {
        let mut cursor = self.from(address, "object header")?;
        if cursor.clone().take(4)? == b"OHDR"[..] {
            cursor.skip(4)?;
            cursor.version(&[2])?;
            let flags = cursor.u8()?;
            if flags & 0x20 != 0 {
                cursor.skip(16)?;
            }
            if flags & 0x10 != 0 {
                cursor.skip(4)?;
            }
            let length = cursor.number(1 << (flags & 3))?;
            let length = usize::try_from(length);
            let length = length.map_err(|_| Hdf5Error::Impossible { what: "header" })?;
            let cursor = self.block(cursor, length)?;
            return Ok(Block { cursor, is_v2: true, has_order: flags & 4 != 0 });
        }
        cursor.version(&[1])?;
        cursor.skip(7)?;
        let length = cursor.u32()?;
        cursor.skip(4)?;
        let cursor = self.block(cursor, length)?;
        Ok(Block { cursor, is_v2: false, has_order: false })
    }

    fn block(&mut self, mut cursor: Cursor, length: usize) -> Result<Cursor> {
        self.left = self.left.checked_sub(length).ok_or(Hdf5Error::Overlapping)?;
        Ok(Cursor::new(cursor.take(length)?, "object header", self.widths))
    }

    fn continuation(&mut self, address: u64, length: usize, form: Block) -> Result<Block> {
        self.reach(address)?;
        let bytes = self.piece(address, length, "header continuation")?;
        let mut cursor = Cursor::new(bytes, "header continuation", self.widths);
        if form.is_v2 {
            cursor.signature(b"OCHK", address)?;
            // a checksum ends it
            let length = length.saturating_sub(8);
            cursor = Cursor::new(cursor.take(length)?, "header continuation", self.widths);
        }
        Ok(Block { cursor, ..form })
    }
}

impl Block {
    /// As this one, without messages.
    fn clone_form(&self) -> Block {
        Block { cursor: self.cursor.clone(), is_v2: self.is_v2, has_order: self.has_order }
    }

    /// Kind, flags and body of the next message; what is too short for one is a gap.
    fn next(&mut self) -> Result<Option<(usize, u8, Bytes)>> {
        let head = match (self.is_v2, self.has_order) {
            (false, _) => 8,
            (true, false) => 4,
            (true, true) => 6,
        };
        if self.cursor.remaining() < head {
            return Ok(None);
        }
        let kind = if self.is_v2 { self.cursor.u8()?.into() } else { self.cursor.u16()? };
        let length = self.cursor.u16()?;
        let flags = self.cursor.u8()?;
        self.cursor.skip(if self.is_v2 { head - 4 } else { 3 })?;
        Ok(Some((kind, flags, self.cursor.take(length)?)))
    }
}

fn refuse_dense_links(cursor: &mut Cursor) -> Result<()> {
    cursor.version(&[0])?;
    if cursor.u8()? & 1 != 0 {
        cursor.skip(8)?;
    }
    match cursor.offset()? {
        Some(_) => Err(Hdf5Error::Unsupported { what: "a group of the newest form (dense links)" }),
        None => Ok(()),
    }
}

fn refuse_dense_attributes(cursor: &mut Cursor) -> Result<()> {
    cursor.version(&[0])?;
    if cursor.u8()? & 1 != 0 {
        cursor.skip(2)?;
    }
    match cursor.offset()? {
        Some(_) => {
            Err(Hdf5Error::Unsupported { what: "attributes of the newest form (dense storage)" })
        }
        None => Ok(()),
    }
}

/// A hard link; soft and external ones are left out.
fn link(cursor: &mut Cursor) -> Result<Option<(String, u64)>> {
    cursor.version(&[1])?;
    let flags = cursor.u8()?;
    let kind = if flags & 8 != 0 { cursor.u8()? } else { 0 };
    if flags & 4 != 0 {
        cursor.skip(8)?;
    }
    if flags & 0x10 != 0 {
        cursor.skip(1)?;
    }
    let length = cursor.number(1 << (flags & 3))?;
    let length = usize::try_from(length).map_err(|_| Hdf5Error::Impossible { what: "name" })?;
    let name = text(&cursor.take(length)?)?;
    if kind != 0 {
        return Ok(None);
    }
    Ok(cursor.offset()?.map(|address| (name, address)))
}

pub fn text(bytes: &[u8]) -> Result<String> {
    std::str::from_utf8(bytes).map(str::to_string).map_err(|_| Hdf5Error::BadName)
}
