//! Groups of the old form: a B-tree of symbol tables, with names in a local heap.

use super::cursor::Cursor;
use super::header::{Header, text};
use super::{File, Hdf5Error, Result};
use bytes::Bytes;

/// A node of a version 1 B-tree: how far from the leaves, and how many children.
pub struct TreeNode {
    pub level: u8,
    pub entries: usize,
}

const MAX_LEVEL: u8 = 16;

impl File {
    /// Names and addresses of a group's members.
    pub fn links(&mut self, header: &Header) -> Result<Vec<(String, u64)>> {
        let mut links = header.links.clone();
        if let Some((tree, heap)) = header.symbol_table {
            let names = self.local_heap(heap)?;
            self.symbols(tree, &names, None, &mut links)?;
        }
        Ok(links)
    }

    fn local_heap(&mut self, address: u64) -> Result<Bytes> {
        let mut cursor = self.from(address, "local heap")?;
        cursor.signature(b"HEAP", address)?;
        cursor.version(&[0])?;
        cursor.skip(3)?;
        let length = cursor.length()?;
        cursor.length()?;
        let data = cursor.offset()?.ok_or(Hdf5Error::Impossible { what: "local heap" })?;
        self.piece(data, length, "local heap")
    }

    /// The head of a tree's node; `kind` 0 is a group's, 1 that of chunks. A child is one level nearer to the leaves.
    pub fn tree_node(
        &mut self,
        address: u64,
        kind: u8,
        above: Option<u8>,
    ) -> Result<(TreeNode, Cursor)> {
        self.reach(address)?;
        let mut cursor = self.from(address, "B-tree node")?;
        cursor.signature(b"TREE", address)?;
        let (found, level) = (cursor.u8()?, cursor.u8()?);
        let entries = cursor.u16()?;
        cursor.offset()?;
        cursor.offset()?;
        let fits = match above {
            None => level <= MAX_LEVEL,
            Some(above) => Some(level) == above.checked_sub(1),
        };
        if found != kind || !fits {
            return Err(Hdf5Error::Impossible { what: "B-tree node" });
        }
        self.left = self.left.checked_sub(entries * 8).ok_or(Hdf5Error::Overlapping)?;
        Ok((TreeNode { level, entries }, cursor))
    }

    fn symbols(
        &mut self,
        address: u64,
        names: &Bytes,
        above: Option<u8>,
        links: &mut Vec<(String, u64)>,
    ) -> Result<()> {
        let (node, mut cursor) = self.tree_node(address, 0, above)?;
        for _ in 0..node.entries {
            cursor.length()?;
            let Some(child) = cursor.offset()? else { continue };
            match node.level {
                0 => self.symbol_table_node(child, names, links)?,
                level => self.symbols(child, names, Some(level), links)?,
            }
        }
        Ok(())
    }

    fn symbol_table_node(
        &mut self,
        address: u64,
        names: &Bytes,
        links: &mut Vec<(String, u64)>,
    ) -> Result<()> {
        const SOFT_LINK: usize = 2;
        self.reach(address)?;
        let mut cursor = self.from(address, "symbol table")?;
        cursor.signature(b"SNOD", address)?;
        cursor.version(&[1])?;
        cursor.skip(1)?;
        let count = cursor.u16()?;
        self.left = self.left.checked_sub(count * 8).ok_or(Hdf5Error::Overlapping)?;
        for _ in 0..count {
            let name = cursor.offset()?;
            let header = cursor.offset()?;
            let kind = cursor.u32()?;
            cursor.skip(20)?;
            let (Some(name), Some(header)) = (name, header) else { continue };
            if kind == SOFT_LINK {
                continue;
            }
            let rest = usize::try_from(name).ok().and_then(|name| names.get(name..));
            let rest = rest.ok_or(Hdf5Error::Truncated { what: "local heap" })?;
            let end = rest.iter().position(|&b| b == 0).unwrap_or(rest.len());
            self.left = self.left.checked_sub(end).ok_or(Hdf5Error::Overlapping)?;
            links.push((text(&rest[..end])?, header));
        }
        Ok(())
    }
}
