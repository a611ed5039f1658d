//! Checkpoint bundles: tensors one behind the other in a data file, and an index of where each is.

use super::crc32c::Crc32c;
use super::sstable::{varint, write_table};
use super::{DataType, TensorShape, VersionDef};
use prost::Message;
use std::collections::BTreeMap;
use std::io::{self, Write};

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
    #[prost(message, optional, tag = "3")]
    version: Option<VersionDef>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Entry {
    #[prost(enumeration = "DataType", tag = "1")]
    dtype: i32,
    #[prost(message, optional, tag = "2")]
    shape: Option<TensorShape>,
    #[prost(int64, tag = "4")]
    offset: i64,
    #[prost(int64, tag = "5")]
    size: i64,
    /// Masked.
    #[prost(fixed32, tag = "6")]
    crc32c: u32,
}

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
        let entry = Entry { dtype: dtype as i32, shape: Some(shape), offset, size, crc32c };
        self.entries.insert(key.as_bytes().to_vec(), entry);
        self.length += size;
    }

    /// The data file's writer, and the bytes of the index file.
    pub fn finish(self) -> (W, Vec<u8>) {
        let version = Some(VersionDef { producer: 1, min_consumer: 0 });
        let header = Header { num_shards: 1, version }.encode_to_vec();
        let entries = self.entries.iter().map(|(key, entry)| (&key[..], entry.encode_to_vec()));
        let index = write_table(std::iter::once((&b""[..], header)).chain(entries));
        (self.data, index)
    }
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
