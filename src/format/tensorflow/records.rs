//! TFRecord: records one after the other, each with its length and the masked sums of both (TensorFlow's
//! `core/lib/io/record_writer.h`).

use super::crc32c::Crc32c;
use bytes::Bytes;
use std::fmt;

/// What is wrong with a file of records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RecordError {
    /// It ends in the record that begins here.
    Truncated { at: usize },
    /// The sum of the length or of the data of the record that begins here is another.
    Corrupted { at: usize },
}

impl fmt::Display for RecordError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            RecordError::Truncated { at } => write!(f, "truncated record at {at}"),
            RecordError::Corrupted { at } => write!(f, "corrupted record at {at}"),
        }
    }
}

impl std::error::Error for RecordError {}

/// The records of a file, in order; after an error there are none.
#[derive(Debug)]
pub struct Records {
    file: Bytes,
    at: usize,
}

impl Records {
    pub fn new(file: Bytes) -> Records {
        Records { file, at: 0 }
    }

    fn read(&self) -> Result<Bytes, RecordError> {
        const HEAD: usize = 12;
        const FOOT: usize = 4;
        let at = self.at;
        let truncated = RecordError::Truncated { at };
        let rest = &self.file[at..];
        let (length, rest) = rest.split_first_chunk::<8>().ok_or(truncated)?;
        let (sum, rest) = rest.split_first_chunk::<4>().ok_or(truncated)?;
        if Crc32c::of(length).masked() != u32::from_le_bytes(*sum) {
            return Err(RecordError::Corrupted { at });
        }
        let length = usize::try_from(u64::from_le_bytes(*length)).map_err(|_| truncated)?;
        if rest.len().checked_sub(FOOT).is_none_or(|most| length > most) {
            return Err(truncated);
        }
        let data = self.file.slice(at + HEAD..at + HEAD + length);
        let sum = rest[length..].first_chunk::<4>().ok_or(truncated)?;
        match Crc32c::of(&data).masked() == u32::from_le_bytes(*sum) {
            true => Ok(data),
            false => Err(RecordError::Corrupted { at }),
        }
    }
}

impl Iterator for Records {
    type Item = Result<Bytes, RecordError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.at == self.file.len() {
            return None;
        }
        let read = self.read();
        self.at = read.as_ref().map_or(self.file.len(), |data| self.at + 16 + data.len());
        Some(read)
    }
}

/// One record as it lies in a file.
pub fn record(data: &[u8]) -> Vec<u8> {
    let length = (data.len() as u64).to_le_bytes();
    let sum = |bytes: &[u8]| Crc32c::of(bytes).masked().to_le_bytes();
    [&length, &sum(&length)[..], data, &sum(data)].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What `tf.io.TFRecordWriter` writes of `b"abc"` and `b""`.
    const WRITTEN: [u8; 35] =
        *b"\x03\x00\x00\x00\x00\x00\x00\x00\xb0\x99\x49\x0e\x61\x62\x63\x6e\x57\xf1\
        \x21\x00\x00\x00\x00\x00\x00\x00\x00\x29\x03\x98\x07\xd8\xea\x82\xa2";

    #[test]
    fn what_tensorflow_writes() {
        let own = [record(b"abc"), record(b"")].concat();
        assert_eq!(own, WRITTEN);
        let read: Vec<_> = Records::new(Bytes::from(own)).collect();
        assert_eq!(read, [Ok(Bytes::from_static(b"abc")), Ok(Bytes::new())]);
        assert_eq!(Records::new(Bytes::new()).count(), 0);
    }

    #[test]
    fn defects() {
        let read = |file: &[u8]| -> Vec<_> { Records::new(Bytes::copy_from_slice(file)).collect() };
        for end in (1..19).chain(20..35) {
            let at = if end < 19 { 0 } else { 19 };
            assert_eq!(
                read(&WRITTEN[..end]).last(),
                Some(&Err(RecordError::Truncated { at })),
                "{end}"
            );
        }
        for place in 0..35 {
            let mut damaged = WRITTEN;
            damaged[place] ^= 4;
            let at = if place < 19 { 0 } else { 19 };
            let last = read(&damaged).pop();
            assert_eq!(last, Some(Err(RecordError::Corrupted { at })), "{place}");
        }
        // a length whose sum holds, and that lies
        let length = u64::MAX.to_le_bytes();
        let lying = [&length[..], &Crc32c::of(&length).masked().to_le_bytes(), b"abc"].concat();
        assert_eq!(read(&lying), [Err(RecordError::Truncated { at: 0 })]);
        assert_eq!(RecordError::Corrupted { at: 7 }.to_string(), "corrupted record at 7");
    }
}
