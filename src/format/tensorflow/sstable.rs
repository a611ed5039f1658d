//! Sorted tables of keys and values, LevelDB's `doc/table_format.md`, as TensorFlow's bundle index has them:
//! uncompressed, without filters.

use super::crc32c::Crc32c;

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

#[cfg(test)]
mod tests {
    use super::*;

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
