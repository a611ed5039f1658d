//! HDF5 files as h5py writes them unless told otherwise, and a little more: superblocks 0 to 3, object headers 1
//! and 2, groups as symbol tables or compact links, attributes, contiguous, compact and chunked data. From the
//! HDF5 File Format Specification 3.0. Knows no Keras; not read: dense links and attributes (fractal heaps),
//! shared and external storage, references.
//!
//! Invariant: what is read of the structures is at most a few times the file's bytes, whatever they say, and no
//! structure is read twice.

mod attribute;
mod chunks;
mod cursor;
mod datatype;
mod error;
mod group;
mod header;
mod storage;
#[cfg(test)]
mod tests;

pub use attribute::Attribute;
pub use datatype::Element;
pub use error::Hdf5Error;

use attribute::GlobalHeap;
use bytes::Bytes;
use cursor::{Cursor, Widths};
use std::collections::{BTreeMap, HashSet};
use storage::Storage;

type Result<T> = std::result::Result<T, Hdf5Error>;

const SIGNATURE: &[u8; 8] = b"\x89HDF\r\n\x1a\n";

/// Groups in groups; Keras' layers in models in models need a few.
const MAX_DEPTH: usize = 64;

/// Named groups and datasets, and attributes.
#[derive(Debug, Clone, Default)]
pub struct Group {
    pub attributes: BTreeMap<String, Attribute>,
    pub children: BTreeMap<String, Node>,
}

#[derive(Debug, Clone)]
pub enum Node {
    Group(Group),
    Dataset(Dataset),
}

/// An array; its elements are read on demand.
#[derive(Debug, Clone)]
pub struct Dataset {
    pub element: Element,
    pub shape: Vec<usize>,
    pub attributes: BTreeMap<String, Attribute>,
    storage: Storage,
}

impl Group {
    /// What lies at a path such as `layers/dense/vars`.
    pub fn get(&self, path: &str) -> Option<&Node> {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        let mut node = self.children.get(parts.next()?)?;
        for part in parts {
            let Node::Group(group) = node else { return None };
            node = group.children.get(part)?;
        }
        Some(node)
    }

    pub fn group(&self, path: &str) -> Option<&Group> {
        match self.get(path)? {
            Node::Group(group) => Some(group),
            Node::Dataset(_) => None,
        }
    }

    pub fn dataset(&self, path: &str) -> Option<&Dataset> {
        match self.get(path)? {
            Node::Dataset(dataset) => Some(dataset),
            Node::Group(_) => None,
        }
    }
}

impl Dataset {
    /// The elements in row-major order, little-endian as in the file; a view of it where they lie in one piece.
    pub fn data(&self) -> Result<Bytes> {
        self.storage.read(&self.shape, self.element.size())
    }
}

/// Whether bytes begin as an HDF5 file does.
pub fn is_hdf5(bytes: &[u8]) -> bool {
    bytes.starts_with(SIGNATURE)
}

/// Reads the whole tree of a file, without the elements of its datasets.
///
/// # Errors
/// The first defect or unreadable feature.
pub fn read(bytes: Bytes) -> Result<Group> {
    if !is_hdf5(&bytes) {
        return Err(Hdf5Error::NotHdf5);
    }
    let (root, base, widths) = superblock(&bytes)?;
    let mut file = File {
        left: bytes.len().saturating_mul(2).saturating_add(1 << 12),
        bytes,
        base,
        widths,
        reached: HashSet::new(),
        heap: GlobalHeap::default(),
    };
    match file.node(root, 0)? {
        Node::Group(group) => Ok(group),
        Node::Dataset(_) => Err(Hdf5Error::Unsupported { what: "a file that is one dataset" }),
    }
}

/// The root's address, the base of all addresses, and how wide they are.
fn superblock(bytes: &Bytes) -> Result<(u64, u64, Widths)> {
    let mut widths = Widths { offset: 8, length: 8 };
    let mut cursor = Cursor::new(bytes.slice(SIGNATURE.len()..), "superblock", widths);
    let version = cursor.version(&[0, 1, 2, 3])?;
    if version < 2 {
        cursor.skip(4)?;
    }
    widths.offset = cursor.u8()?.into();
    widths.length = cursor.u8()?.into();
    if [widths.offset, widths.length].iter().any(|width| ![2, 4, 8].contains(width)) {
        return Err(Hdf5Error::Impossible { what: "width of addresses" });
    }
    cursor.skip(match version {
        0 => 9,
        1 => 13,
        _ => 1,
    })?;
    let mut cursor =
        Cursor::new(bytes.slice(SIGNATURE.len() + cursor.at()..), "superblock", widths);
    let base = cursor.offset()?.ok_or(Hdf5Error::Impossible { what: "base address" })?;
    cursor.offset()?;
    cursor.offset()?;
    if version < 2 {
        // the driver's block, then the root's entry: a name, and where its header is
        cursor.offset()?;
        cursor.offset()?;
    }
    let root = cursor.offset()?.ok_or(Hdf5Error::Impossible { what: "address of the root" })?;
    Ok((root, base, widths))
}

/// A file in reading.
struct File {
    bytes: Bytes,
    base: u64,
    widths: Widths,
    /// Addresses of structures that were read.
    reached: HashSet<u64>,
    /// Bytes of structures that may still be read.
    left: usize,
    heap: GlobalHeap,
}

impl File {
    fn node(&mut self, address: u64, depth: usize) -> Result<Node> {
        if depth > MAX_DEPTH {
            return Err(Hdf5Error::TooDeep);
        }
        let header = self.header(address)?;
        if let Some((element, shape, storage)) = header.dataset()? {
            return Ok(Node::Dataset(Dataset {
                element,
                shape,
                attributes: header.attributes,
                storage,
            }));
        }
        let mut children = BTreeMap::new();
        for (name, address) in self.links(&header)? {
            let child = self.node(address, depth + 1)?;
            children.insert(name, child);
        }
        Ok(Node::Group(Group { attributes: header.attributes, children }))
    }

    /// The bytes at an address, counted as structure.
    fn piece(&mut self, address: u64, length: usize, what: &'static str) -> Result<Bytes> {
        self.left = self.left.checked_sub(length).ok_or(Hdf5Error::Overlapping)?;
        self.range(address, length, what)
    }

    fn range(&self, address: u64, length: usize, what: &'static str) -> Result<Bytes> {
        range(&self.bytes, self.base, address, length, what)
    }

    /// The bytes from an address to the end of the file.
    fn from(&self, address: u64, what: &'static str) -> Result<Cursor> {
        let truncated = Hdf5Error::Truncated { what };
        let start = self.base.checked_add(address).and_then(|start| usize::try_from(start).ok());
        let start = start.filter(|&s| s <= self.bytes.len()).ok_or(truncated)?;
        Ok(Cursor::new(self.bytes.slice(start..), what, self.widths))
    }

    /// Notes that the structure at an address is being read.
    fn reach(&mut self, address: u64) -> Result<()> {
        match self.reached.insert(address) {
            true => Ok(()),
            false => Err(Hdf5Error::ReachedTwice { at: address }),
        }
    }
}

fn range(
    bytes: &Bytes,
    base: u64,
    address: u64,
    length: usize,
    what: &'static str,
) -> Result<Bytes> {
    let start = base.checked_add(address).and_then(|start| usize::try_from(start).ok());
    let end = start.and_then(|start| start.checked_add(length));
    match (start, end) {
        (Some(start), Some(end)) if end <= bytes.len() => Ok(bytes.slice(start..end)),
        _ => Err(Hdf5Error::Truncated { what }),
    }
}
