//! Attributes, and the global heap that holds text of any length.

use super::cursor::Cursor;
use super::datatype::{Element, array_bytes, dataspace, datatype};
use super::header::text;
use super::{File, Hdf5Error, Result};
use bytes::Bytes;
use std::collections::HashMap;

/// A small array beside a group or dataset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub element: Element,
    pub shape: Vec<usize>,
    /// Each text, where the elements are such; without padding.
    pub strings: Vec<Bytes>,
}

impl Attribute {
    /// The texts as UTF-8.
    pub fn texts(&self) -> Option<Vec<&str>> {
        self.strings.iter().map(|s| std::str::from_utf8(s).ok()).collect()
    }

    /// The one text.
    pub fn text(&self) -> Option<&str> {
        match self.strings.as_slice() {
            [one] => std::str::from_utf8(one).ok(),
            _ => None,
        }
    }
}

/// Objects of the collections that were read, by the collection's address and their number.
#[derive(Debug, Default)]
pub struct GlobalHeap {
    collections: HashMap<u64, HashMap<usize, Bytes>>,
}

impl File {
    pub fn attribute(&mut self, cursor: &mut Cursor) -> Result<(String, Attribute)> {
        let version = cursor.version(&[1, 2, 3])?;
        let flags = cursor.u8()?;
        if version > 1 && flags & 3 != 0 {
            return Err(Hdf5Error::Unsupported { what: "an attribute of a shared type" });
        }
        let lengths = [cursor.u16()?, cursor.u16()?, cursor.u16()?];
        if version == 3 {
            cursor.skip(1)?;
        }
        let mut parts = vec![];
        for length in lengths {
            parts.push(cursor.take(length)?);
            if version == 1 {
                cursor.align();
            }
        }
        let name = parts[0].split(|&b| b == 0).next().unwrap_or_default();
        let name = text(name)?;
        let part = |part: &Bytes| Cursor::new(part.clone(), "attribute", self.widths);
        let element = datatype(&mut part(&parts[1]))?;
        let Some(shape) = dataspace(&mut part(&parts[2]))? else {
            return Ok((name, Attribute { element, shape: vec![0], strings: vec![] }));
        };
        let data = cursor.take(array_bytes(&shape, element.size())?)?;
        let mut strings = vec![];
        match element {
            Element::FixedString(size) if size > 0 => {
                for at in (0..data.len()).step_by(size) {
                    let one = data.slice(at..at + size);
                    let end = one.iter().position(|&b| b == 0).unwrap_or(size);
                    strings.push(one.slice(..end));
                }
            }
            Element::String { size } if size == 8 + self.widths.offset => {
                let mut cursor = Cursor::new(data, "attribute", self.widths);
                while cursor.remaining() > 0 {
                    let length = cursor.u32()?;
                    let collection = cursor.offset()?;
                    let index = cursor.u32()?;
                    strings.push(match (length, collection) {
                        (0, _) | (_, None) => Bytes::new(),
                        (_, Some(collection)) => {
                            let object = self.heap_object(collection, index)?;
                            if length > object.len() {
                                return Err(Hdf5Error::Truncated { what: "text" });
                            }
                            object.slice(..length)
                        }
                    });
                }
            }
            _ => {}
        }
        Ok((name, Attribute { element, shape, strings }))
    }

    fn heap_object(&mut self, address: u64, index: usize) -> Result<Bytes> {
        if !self.heap.collections.contains_key(&address) {
            let objects = self.heap_collection(address)?;
            self.heap.collections.insert(address, objects);
        }
        let object = self.heap.collections.get(&address).and_then(|c| c.get(&index));
        object.cloned().ok_or(Hdf5Error::Impossible { what: "text in the global heap" })
    }

    fn heap_collection(&mut self, address: u64) -> Result<HashMap<usize, Bytes>> {
        self.reach(address)?;
        let mut cursor = self.from(address, "global heap")?;
        cursor.signature(b"GCOL", address)?;
        cursor.version(&[1])?;
        cursor.skip(3)?;
        let length = cursor.length()?;
        let mut cursor =
            Cursor::new(self.piece(address, length, "global heap")?, "global heap", self.widths);
        cursor.skip(8 + self.widths.length)?;
        let mut objects = HashMap::new();
        while cursor.remaining() >= 8 + self.widths.length {
            let index = cursor.u16()?;
            cursor.skip(6)?;
            let length = cursor.length()?;
            // the rest is free
            if index == 0 {
                break;
            }
            objects.insert(index, cursor.take(length)?);
            cursor.align();
        }
        Ok(objects)
    }
}
