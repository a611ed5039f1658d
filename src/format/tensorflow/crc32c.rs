//! CRC-32C (RFC 3720, appendix B.4), by eight bytes at once.

const POLYNOMIAL: u32 = 0x82f6_3b78;

/// `TABLES[k][b]`: what byte b does to the sum k bytes later.
static TABLES: [[u32; 256]; 8] = tables();

const fn tables() -> [[u32; 256]; 8] {
    let mut tables = [[0; 256]; 8];
    let mut byte = 0;
    while byte < 256 {
        let mut sum = byte as u32;
        let mut bit = 0;
        while bit < 8 {
            sum = if sum & 1 == 1 { (sum >> 1) ^ POLYNOMIAL } else { sum >> 1 };
            bit += 1;
        }
        tables[0][byte] = sum;
        byte += 1;
    }
    let mut later = 1;
    while later < 8 {
        let mut byte = 0;
        while byte < 256 {
            let before = tables[later - 1][byte];
            tables[later][byte] = (before >> 8) ^ tables[0][(before & 255) as usize];
            byte += 1;
        }
        later += 1;
    }
    tables
}

/// A sum over bytes that come in parts.
#[derive(Debug, Clone, Copy)]
pub struct Crc32c(u32);

impl Default for Crc32c {
    fn default() -> Crc32c {
        Crc32c(!0)
    }
}

impl Crc32c {
    pub fn of(bytes: &[u8]) -> Crc32c {
        let mut sum = Crc32c::default();
        sum.update(bytes);
        sum
    }

    pub fn update(&mut self, bytes: &[u8]) {
        let (chunks, rest) = bytes.as_chunks::<8>();
        let mut sum = self.0;
        for chunk in chunks {
            let word = u64::from_le_bytes(*chunk) ^ u64::from(sum);
            let at = |k: usize| TABLES[7 - k][(word >> (8 * k) & 255) as usize];
            sum = (0..8).fold(0, |sum, k| sum ^ at(k));
        }
        for &byte in rest {
            sum = (sum >> 8) ^ TABLES[0][((sum ^ u32::from(byte)) & 255) as usize];
        }
        self.0 = sum;
    }

    pub fn value(self) -> u32 {
        !self.0
    }

    /// The sum as it is stored beside data that hold sums themselves (LevelDB's `util/crc32c.h`).
    pub fn masked(self) -> u32 {
        self.value().rotate_right(15).wrapping_add(0xa282_ead8)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sums_are_those_of_the_rfc() {
        let ascending: Vec<u8> = (0..32).collect();
        let descending: Vec<u8> = (0..32).rev().collect();
        let cases: [(&[u8], u32); 6] = [
            (&[0; 32], 0x8a91_36aa),
            (&[0xff; 32], 0x62a8_ab43),
            (&ascending, 0x46dd_794e),
            (&descending, 0x113f_db5c),
            (b"123456789", 0xe306_9283),
            (b"", 0),
        ];
        for (bytes, expected) in cases {
            assert_eq!(Crc32c::of(bytes).value(), expected, "{bytes:?}");
            for at in 0..bytes.len() {
                let mut parts = Crc32c::of(&bytes[..at]);
                parts.update(&bytes[at..]);
                assert_eq!(parts.value(), expected, "{bytes:?} in two parts");
            }
        }
    }
}
