//! Checkpoint bundles: tensors one behind the other in a data file, and an index of where each is.

use super::crc32c::Crc32c;
use super::error::BundleError;
use super::sstable::{read_table, varint, write_table};
use super::{DataType, TensorShape, VersionDef};
use crate::format::mmap;
use bytes::Bytes;
use prost::Message;
use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Writes the data file as tensors come, and the index at last. Keys may come in any order.
#[derive(Debug)]
pub struct BundleWriter<W> {
    data: W,
    length: i64,
    entries: BTreeMap<Vec<u8>, Entry>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Header {
    #[prost(int32, tag = "1")]
    num_shards: i32,
    /// 0: little.
    #[prost(int32, tag = "2")]
    endianness: i32,
    #[prost(message, optional, tag = "3")]
    version: Option<VersionDef>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(enumeration = "DataType", tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
    /// Of several data files.
    #[prost(int32, tag = "3")]
    shard: i32,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, tag = "5")]
    size: i64,
    /// Masked.
    #[prost(fixed32, tag = "6")]
    crc32c: u32,
    /// Where it is in parts, which have keys of their own.
    #[prost(message, repeated, tag = "7")]
    slices: Vec<Slice>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Slice {}

impl<W: Write> BundleWriter<W> {
    pub fn new(data: W) -> BundleWriter<W> {
        BundleWriter { data, length: 0, entries: BTreeMap::new() }
    }

    /// Adds a tensor of little-endian numbers.
    pub fn add(
        &mut self,
        key: &str,
        dtype: DataType,
        shape: TensorShape,
        bytes: &[u8],
    ) -> io::Result<()> {
        self.data.write_all(bytes)?;
        self.enter(key, dtype, shape, bytes.len() as i64, Crc32c::of(bytes));
        Ok(())
    }

    /// Adds one string.
    pub fn add_text(&mut self, key: &str, text: &[u8]) -> io::Result<()> {
        let length = u32::try_from(text.len()).map_err(io::Error::other)?.to_le_bytes();
        let length_sum = Crc32c::of(&length).masked().to_le_bytes();
        let stored_length = varint(text.len() as u64);
        // the sum is over the length in full, not as it is stored
        let mut sum = Crc32c::of(&length);
        sum.update(&length_sum);
        sum.update(text);
        for part in [&stored_length[..], &length_sum, text] {
            self.data.write_all(part)?;
        }
        let size = (stored_length.len() + length_sum.len() + text.len()) as i64;
        self.enter(key, DataType::String, TensorShape::default(), size, sum);
        Ok(())
    }

    fn enter(&mut self, key: &str, dtype: DataType, shape: TensorShape, size: i64, sum: Crc32c) {
        let (offset, crc32c) = (self.length, sum.masked());
        let dtype = dtype as i32;
        let entry = Entry { dtype, shape: Some(shape), offset, size, crc32c, ..Entry::default() };
        self.entries.insert(key.as_bytes().to_vec(), entry);
        self.length += size;
    }

    /// The data file's writer, and the bytes of the index file.
    pub fn finish(self) -> (W, Vec<u8>) {
        let version = Some(VersionDef { producer: 1, min_consumer: 0 });
        let header = Header { num_shards: 1, endianness: 0, version }.encode_to_vec();
        let entries = self.entries.iter().map(|(key, entry)| (&key[..], entry.encode_to_vec()));
        let index = write_table(std::iter::once((&b""[..], header)).chain(entries));
        (self.data, index)
    }
}

/// A bundle's index; its data files are mapped when a tensor in them is asked for.
#[derive(Debug)]
pub struct BundleReader {
    prefix: PathBuf,
    shards: i32,
    entries: BTreeMap<String, Entry>,
    files: RefCell<HashMap<i32, Bytes>>,
}

/// A tensor's bytes as they are in the file: little-endian numbers, or strings behind their lengths.
#[derive(Debug, Clone)]
pub struct BundleTensor {
    /// TensorFlow's number, which may be of a type that is not known.
    pub dtype: i32,
    pub shape: TensorShape,
    pub data: Bytes,
}

impl BundleReader {
    /// The bundle of the files `PREFIX.index` and `PREFIX.data-00000-of-00001`.
    ///
    /// # Errors
    /// What is wrong with the index; the data are not looked at yet.
    pub fn open(prefix: &Path) -> Result<BundleReader, BundleError> {
        let index = with_suffix(prefix, ".index");
        let bytes = mmap::open(&index).map_err(|error| BundleError::File { path: index, error })?;
        let mut table = read_table(&bytes)?.into_iter();
        let header = table.next().filter(|(key, _)| key.is_empty());
        let header = header.and_then(|(_, value)| Header::decode(value).ok());
        let header = header.filter(|h| h.num_shards > 0).ok_or(BundleError::BadHeader)?;
        if header.endianness != 0 {
            return Err(BundleError::BigEndian);
        }
        let mut entries = BTreeMap::new();
        for (key, value) in table {
            // slices have keys that are no text; what they belong to names them
            let Ok(key) = String::from_utf8(key) else { continue };
            match Entry::decode(value) {
                Ok(entry) => entries.insert(key, entry),
                Err(_) => return Err(BundleError::BadMessage { key }),
            };
        }
        let (prefix, shards) = (prefix.to_path_buf(), header.num_shards);
        Ok(BundleReader { prefix, shards, entries, files: RefCell::default() })
    }

    pub fn keys(&self) -> impl Iterator<Item = &str> {
        self.entries.keys().map(String::as_str)
    }

    /// The tensor under `key`, its checksum compared; `None` where there is no such key.
    pub fn tensor(&self, key: &str) -> Result<Option<BundleTensor>, BundleError> {
        let Some(entry) = self.entries.get(key) else { return Ok(None) };
        if !entry.slices.is_empty() {
            return Err(BundleError::Sliced { key: key.into() });
        }
        let (path, file) = self.shard(entry.shard)?;
        let range = usize::try_from(entry.offset).ok().zip(usize::try_from(entry.size).ok());
        let range = range.and_then(|(start, size)| Some(start..start.checked_add(size)?));
        let Some(range) = range.filter(|range| range.end <= file.len()) else {
            return Err(BundleError::OutOfFile { key: key.into(), path });
        };
        let data = file.slice(range);
        let shape = entry.shape.clone().unwrap_or_default();
        // that of strings is over their lengths in full, which are not compared here
        let is_text = entry.dtype == DataType::String as i32;
        if !is_text && Crc32c::of(&data).masked() != entry.crc32c {
            return Err(BundleError::BadTensor { key: key.into() });
        }
        mmap::release(&data);
        Ok(Some(BundleTensor { dtype: entry.dtype, shape, data }))
    }

    fn shard(&self, shard: i32) -> Result<(PathBuf, Bytes), BundleError> {
        let path = with_suffix(&self.prefix, &format!(".data-{shard:05}-of-{:05}", self.shards));
        if let Some(file) = self.files.borrow().get(&shard) {
            return Ok((path, file.clone()));
        }
        match mmap::open(&path) {
            Ok(file) => {
                self.files.borrow_mut().insert(shard, file.clone());
                Ok((path, file))
            }
            Err(error) => Err(BundleError::File { path, error }),
        }
    }
}

fn with_suffix(prefix: &Path, suffix: &str) -> PathBuf {
    let mut name = prefix.as_os_str().to_os_string();
    name.push(suffix);
    name.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_follow_each_other_and_the_index_is_sorted() {
        let mut bundle = BundleWriter::new(vec![]);
        for (key, bytes) in [("b", [1, 2, 3, 4, 5, 6, 7, 8]), ("a", [9; 8])] {
            bundle.add(key, DataType::Float, TensorShape::of([2]), &bytes).unwrap();
        }
        bundle.add_text("text", b"hi").unwrap();
        let entry = bundle.entries[&b"b"[..]].clone();
        assert_eq!((entry.offset, entry.size), (0, 8));
        assert_eq!(entry.crc32c, Crc32c::of(&[1, 2, 3, 4, 5, 6, 7, 8]).masked());
        assert_eq!(bundle.entries[&b"text"[..]].size, 1 + 4 + 2);
        let (data, index) = bundle.finish();
        assert_eq!(data.len(), 8 + 8 + 7);
        assert_eq!(&data[16..17], [2]);
        let place = |key: &[u8]| index.windows(key.len()).position(|w| w == key);
        assert!(place(b"a") < place(b"b") && place(b"b") < place(b"text"));
    }
}
