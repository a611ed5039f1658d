//! Where a dataset's elements lie.

use super::chunks::{Chunk, Filter, unpack};
use super::cursor::Cursor;
use super::datatype::array_bytes;
use super::{File, Hdf5Error, Result, range};
use bytes::Bytes;

/// What the layout message says.
#[derive(Debug, Clone)]
pub enum Layout {
    Compact(Bytes),
    Contiguous(Option<u64>),
    /// The tree's address, and the lengths of a chunk's edges.
    Chunked(Option<u64>, Vec<usize>),
}

/// Elements, or how to come by them.
#[derive(Debug, Clone)]
pub enum Storage {
    Compact(Bytes),
    /// In one piece of a file; without an address nothing was ever written.
    Contiguous {
        file: Bytes,
        base: u64,
        address: Option<u64>,
    },
    Chunked {
        chunks: Vec<Chunk>,
        edges: Vec<usize>,
        filters: Vec<Filter>,
        file_bytes: usize,
    },
}

impl Layout {
    pub fn read(cursor: &mut Cursor) -> Result<Layout> {
        let version = cursor.version(&[1, 2, 3, 4])?;
        if version < 3 {
            return Layout::read_old(cursor);
        }
        Ok(match cursor.u8()? {
            0 => {
                let length = cursor.u16()?;
                Layout::Compact(cursor.take(length)?)
            }
            1 => Layout::Contiguous(cursor.offset()?),
            2 if version == 3 => {
                let rank = cursor.u8()?;
                let tree = cursor.offset()?;
                Layout::Chunked(tree, edges(cursor, rank)?)
            }
            2 => return Err(Hdf5Error::Unsupported { what: "chunks of the newest form" }),
            _ => return Err(Hdf5Error::Unsupported { what: "virtual datasets" }),
        })
    }

    fn read_old(cursor: &mut Cursor) -> Result<Layout> {
        let rank = cursor.u8()?;
        let class = cursor.u8()?;
        cursor.skip(5)?;
        let address = if class == 0 { None } else { cursor.offset()? };
        Ok(match class {
            0 => {
                cursor.skip(4 * usize::from(rank))?;
                let length = cursor.u32()?;
                Layout::Compact(cursor.take(length)?)
            }
            1 => Layout::Contiguous(address),
            2 => Layout::Chunked(address, edges(cursor, rank)?),
            _ => return Err(Hdf5Error::Unsupported { what: "virtual datasets" }),
        })
    }
}

/// A chunk's edges; behind them stands the size of an element, which counts as one.
fn edges(cursor: &mut Cursor, rank: u8) -> Result<Vec<usize>> {
    let edges: Vec<usize> = (1..rank).map(|_| cursor.u32()).collect::<Result<_>>()?;
    match edges.contains(&0) {
        true => Err(Hdf5Error::Impossible { what: "chunk" }),
        false => Ok(edges),
    }
}

/// The filter pipeline, in the order in which the writer applied it.
pub fn filters(cursor: &mut Cursor) -> Result<Vec<Filter>> {
    let version = cursor.version(&[1, 2])?;
    let count = cursor.u8()?;
    if version == 1 {
        cursor.skip(6)?;
    }
    let mut filters = vec![];
    for _ in 0..count {
        let id = cursor.u16()?;
        let name = if version == 1 || id >= 256 { cursor.u16()? } else { 0 };
        cursor.skip(2)?;
        let values = cursor.u16()?;
        cursor.skip(if version == 1 { name.next_multiple_of(8) } else { name })?;
        cursor.skip(4 * values)?;
        if version == 1 && values % 2 == 1 {
            cursor.skip(4)?;
        }
        filters.push(match id {
            1 => Filter::Deflate,
            2 => Filter::Shuffle,
            3 => Filter::Fletcher32,
            _ => {
                return Err(Hdf5Error::Unsupported {
                    what: "a filter other than gzip and shuffle",
                });
            }
        });
    }
    Ok(filters)
}

impl File {
    pub fn storage(&mut self, layout: Layout, filters: Vec<Filter>) -> Result<Storage> {
        Ok(match layout {
            Layout::Compact(data) => Storage::Compact(data),
            Layout::Contiguous(address) => {
                Storage::Contiguous { file: self.bytes.clone(), base: self.base, address }
            }
            Layout::Chunked(tree, edges) => {
                let mut chunks = vec![];
                if let Some(tree) = tree {
                    self.chunks(tree, edges.len(), None, &mut chunks)?;
                }
                Storage::Chunked { chunks, edges, filters, file_bytes: self.bytes.len() }
            }
        })
    }
}

impl Storage {
    pub fn read(&self, shape: &[usize], size: usize) -> Result<Bytes> {
        let length = array_bytes(shape, size)?;
        match self {
            _ if length == 0 => Ok(Bytes::new()),
            Storage::Compact(data) if data.len() < length => {
                Err(Hdf5Error::Truncated { what: "dataset" })
            }
            Storage::Compact(data) => Ok(data.slice(..length)),
            Storage::Contiguous { address: None, .. } => {
                Err(Hdf5Error::Impossible { what: "dataset without values" })
            }
            Storage::Contiguous { file, base, address: Some(address) } => {
                range(file, *base, *address, length, "dataset")
            }
            Storage::Chunked { chunks, edges, filters, file_bytes } => {
                unpack(chunks, edges, filters, shape, size, *file_bytes)
            }
        }
    }
}
