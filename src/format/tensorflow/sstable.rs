//! Sorted tables of keys and values, LevelDB's `doc/table_format.md`, as TensorFlow's bundle index has them:
//! uncompressed, without filters.

use super::crc32c::Crc32c;
use super::error::BundleError;

const MAGIC: u64 = 0xdb47_7524_8b80_fb57;

const FOOTER: usize = 48;

/// Keys whose beginning is left out between two that are written whole.
const RESTART_INTERVAL: usize = 16;

/// A block is closed once it holds this many bytes.
const BLOCK: usize = 1 << 18;

/// The table of `entries`, which come in ascending order of their keys.
pub fn write_table<'a>(entries: impl IntoIterator<Item = (&'a [u8], Vec<u8>)>) -> Vec<u8> {
    let mut file = vec![];
    let mut index = Block::new(1);
    let mut block = Block::new(RESTART_INTERVAL);
    for (key, value) in entries {
        block.add(key, &value);
        if block.bytes.len() >= BLOCK {
            let full = std::mem::replace(&mut block, Block::new(RESTART_INTERVAL));
            index.add(key, &full.write(&mut file));
        }
    }
    if !block.bytes.is_empty() {
        let last = block.last.clone();
        index.add(&last, &block.write(&mut file));
    }
    let mut footer = Block::new(1).write(&mut file);
    footer.extend(index.write(&mut file));
    footer.resize(FOOTER - 8, 0);
    file.extend(footer);
    file.extend(MAGIC.to_le_bytes());
    file
}

pub fn varint(mut number: u64) -> Vec<u8> {
    let mut bytes = vec![];
    while number >= 128 {
        bytes.push(number as u8 | 128);
        number >>= 7;
    }
    bytes.push(number as u8);
    bytes
}

struct Block {
    bytes: Vec<u8>,
    restarts: Vec<u32>,
    interval: usize,
    count: usize,
    last: Vec<u8>,
}

impl Block {
    fn new(interval: usize) -> Block {
        Block { bytes: vec![], restarts: vec![], interval, count: 0, last: vec![] }
    }

    fn add(&mut self, key: &[u8], value: &[u8]) {
        let is_restart = self.count.is_multiple_of(self.interval);
        let shared = match is_restart {
            true => 0,
            false => key.iter().zip(&self.last).take_while(|(a, b)| a == b).count(),
        };
        if is_restart {
            self.restarts.push(self.bytes.len() as u32);
        }
        for number in [shared, key.len() - shared, value.len()] {
            self.bytes.extend(varint(number as u64));
        }
        self.bytes.extend(&key[shared..]);
        self.bytes.extend(value);
        self.last = key.to_vec();
        self.count += 1;
    }

    /// Appends the block to `file` and gives its handle: offset and size.
    fn write(mut self, file: &mut Vec<u8>) -> Vec<u8> {
        if self.restarts.is_empty() {
            self.restarts.push(0);
        }
        for restart in &self.restarts {
            self.bytes.extend(restart.to_le_bytes());
        }
        self.bytes.extend((self.restarts.len() as u32).to_le_bytes());
        let mut handle = varint(file.len() as u64);
        handle.extend(varint(self.bytes.len() as u64));
        // not compressed
        self.bytes.push(0);
        let sum = Crc32c::of(&self.bytes).masked();
        file.extend(self.bytes);
        file.extend(sum.to_le_bytes());
        handle
    }
}

/// All keys and values of a table, in its order.
///
/// # Errors
/// What is wrong with the bytes; nothing is allocated that they do not pay for.
pub fn read_table(file: &[u8]) -> Result<Vec<(Vec<u8>, &[u8])>, BundleError> {
    let body = file.len().checked_sub(FOOTER).ok_or(BundleError::NotATable)?;
    let (_, footer) = file.split_at(body);
    if !footer.ends_with(&MAGIC.to_le_bytes()) {
        return Err(BundleError::NotATable);
    }
    let mut footer = Cursor { bytes: footer, what: "the footer" };
    let _unused = [footer.varint()?, footer.varint()?];
    let index = [footer.varint()?, footer.varint()?];
    let mut entries = vec![];
    // each block at least its restarts and its trailer
    let mut bytes_left = file.len();
    for (_, handle) in block(file, index)? {
        let mut handle = Cursor { bytes: handle, what: "a block's place" };
        let place = [handle.varint()?, handle.varint()?];
        let size = usize::try_from(place[1]).ok().and_then(|size| size.checked_add(TRAILER));
        let left = size.and_then(|size| bytes_left.checked_sub(size));
        bytes_left = left.ok_or(BundleError::Overlapping)?;
        entries.extend(block(file, place)?);
    }
    match entries.is_sorted_by(|a, b| a.0 < b.0) {
        true => Ok(entries),
        false => Err(BundleError::Unsorted),
    }
}

/// After a block: how it is packed, and its checksum.
const TRAILER: usize = 5;

/// Longer keys than any variable's; each entry of a block could repeat the one before it.
const MOST_KEY_BYTES: usize = 1 << 16;

/// The entries of the block at `[offset, size]`.
fn block(file: &[u8], place: [u64; 2]) -> Result<Vec<(Vec<u8>, &[u8])>, BundleError> {
    let truncated = |what| BundleError::Truncated { what };
    let [Ok(offset), Ok(size)] = place.map(usize::try_from) else {
        return Err(truncated("a block"));
    };
    let end = offset.checked_add(size).filter(|end| *end <= file.len());
    let end = end.ok_or(truncated("a block"))?;
    let trailer = file.get(end..).and_then(|rest| rest.first_chunk::<TRAILER>());
    let [kind, sum @ ..] = *trailer.ok_or(truncated("a block"))?;
    if Crc32c::of(&file[offset..=end]).masked() != u32::from_le_bytes(sum) {
        return Err(BundleError::BadBlock { at: place[0] });
    }
    if kind != 0 {
        return Err(BundleError::Compressed { kind });
    }
    let restarts = truncated("a block's list of restarts");
    let Some((rest, count)) = file[offset..end].split_last_chunk::<4>() else {
        return Err(restarts);
    };
    let listed = (u32::from_le_bytes(*count) as usize).checked_mul(4);
    let Some(length) = listed.and_then(|listed| rest.len().checked_sub(listed)) else {
        return Err(restarts);
    };
    let mut cursor = Cursor { bytes: &rest[..length], what: "an entry" };
    let mut entries = vec![];
    let mut last: Vec<u8> = vec![];
    while !cursor.bytes.is_empty() {
        let [shared, own, value] = [cursor.length()?, cursor.length()?, cursor.length()?];
        let mut key = last.get(..shared).ok_or(BundleError::BadKey)?.to_vec();
        key.extend(cursor.take(own)?);
        if key.len() > MOST_KEY_BYTES {
            return Err(BundleError::BadKey);
        }
        last.clone_from(&key);
        entries.push((key, cursor.take(value)?));
    }
    Ok(entries)
}

struct Cursor<'a> {
    bytes: &'a [u8],
    what: &'static str,
}

impl<'a> Cursor<'a> {
    fn take(&mut self, count: usize) -> Result<&'a [u8], BundleError> {
        let what = self.what;
        let parts = self.bytes.split_at_checked(count).ok_or(BundleError::Truncated { what })?;
        self.bytes = parts.1;
        Ok(parts.0)
    }

    fn varint(&mut self) -> Result<u64, BundleError> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.take(1)?[0];
            number |= u64::from(byte & 127) << shift;
            if byte < 128 {
                return Ok(number);
            }
        }
        Err(BundleError::Truncated { what: self.what })
    }

    fn length(&mut self) -> Result<usize, BundleError> {
        let what = self.what;
        usize::try_from(self.varint()?).map_err(|_| BundleError::Truncated { what })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_written_is_read() {
        let long: Vec<(Vec<u8>, Vec<u8>)> = (0..40_000u32)
            .map(|i| (format!("layer/{i:06}/kernel").into_bytes(), vec![i as u8; i as usize % 40]))
            .collect();
        for count in [0, 1, 17, long.len()] {
            let entries = &long[..count];
            let table = write_table(entries.iter().map(|(k, v)| (&k[..], v.clone())));
            let read = read_table(&table).unwrap();
            assert_eq!(read.len(), count);
            assert!(read.iter().zip(entries).all(|(a, b)| a.0 == b.0 && a.1 == b.1));
        }
    }

    #[test]
    fn damage_is_named() {
        let table = write_table([(&b"abc"[..], vec![1]), (b"abd", vec![2, 3])]);
        let check = |bytes: &[u8], expected: &str| {
            let error = read_table(bytes).unwrap_err().to_string();
            assert!(error.contains(expected), "{error}");
        };
        check(&[], "does not end");
        check(&table[..table.len() - 1], "does not end");
        for at in 0..table.len() - FOOTER {
            let mut bytes = table.clone();
            bytes[at] ^= 0x40;
            // the index of filters is not read, nor is its block
            let _ = read_table(&bytes);
        }
        let mut bytes = table.clone();
        bytes[3] ^= 1;
        check(&bytes, "the block at byte 0");
        // the footer's four numbers: the index's offset past the end
        let mut bytes = table.clone();
        let footer = bytes.len() - FOOTER;
        bytes[footer + 2..footer + 6].copy_from_slice(&[0xff, 0xff, 0xff, 0x7f]);
        check(&bytes, "reaches past");
        // a block that is its own index
        let mut again = table[..table.len() - FOOTER].to_vec();
        let entry = |key: u8| ([key], [varint(0), varint(26)].concat());
        let handles: Vec<([u8; 1], Vec<u8>)> = (0..9).map(entry).collect();
        let mut index = Block::new(1);
        handles.iter().for_each(|(key, handle)| index.add(key, handle));
        let handle = index.write(&mut again);
        let mut footer = [varint(0), varint(0), handle].concat();
        footer.resize(FOOTER - 8, 0);
        again.extend(footer);
        again.extend(MAGIC.to_le_bytes());
        check(&again, "e");
    }

    #[test]
    fn numbers_are_sevens_of_bits() {
        let cases: [(u64, &[u8]); 4] =
            [(0, &[0]), (127, &[127]), (300, &[0xac, 2]), (1 << 35, &[128, 128, 128, 128, 128, 1])];
        for (number, expected) in cases {
            assert_eq!(varint(number), expected);
        }
    }

    /// By hand from the format's description.
    #[test]
    fn a_table_is_blocks_index_and_footer() {
        let entries = [(&b"abc"[..], vec![1]), (b"abd", vec![2, 3])];
        let table = write_table(entries);
        let block = [
            &[0, 3, 1][..],
            b"abc",
            &[1], // the key whole
            &[2, 1, 2],
            b"d",
            &[2, 3],                   // two bytes are shared
            &[0, 0, 0, 0, 1, 0, 0, 0], // one restart
            &[0],
        ]
        .concat();
        assert_eq!(&table[..block.len()], block);
        let sum = Crc32c::of(&block).masked().to_le_bytes();
        assert_eq!(table[block.len()..block.len() + 4], sum);
        let footer = &table[table.len() - FOOTER..];
        assert_eq!(footer[40..], MAGIC.to_le_bytes());
        let empty = block.len() + 4;
        assert_eq!(footer[..2], [empty as u8, 8]);
        let index = empty + 8 + 5;
        assert_eq!(footer[2], index as u8);
        assert_eq!(
            &table[index..][..8],
            [&[0, 3, 2][..], b"abd", &[0, block.len() as u8 - 1]].concat()
        );
    }
}
