//! What can be wrong with a checkpoint bundle, and where.

use std::fmt;
use std::io;
use std::path::PathBuf;

/// A defect of a bundle, or a feature of the format that is not read.
#[derive(Debug)]
pub enum BundleError {
    /// A file that should be there cannot be opened.
    File { path: PathBuf, error: io::Error },
    /// The last eight bytes of the index are not a table's.
    NotATable,
    /// Something reaches past the end of the index.
    Truncated { what: &'static str },
    /// A block of the index has another checksum than is stored beside it.
    BadBlock { at: u64 },
    /// A block is packed with something that TensorFlow does not use here.
    Compressed { kind: u8 },
    /// A key is built from more of the one before it than that has.
    BadKey,
    /// Keys do not ascend.
    Unsorted,
    /// The blocks hold more than the file could without naming one of them twice.
    Overlapping,
    /// A value is not the message it should be.
    BadMessage { key: String },
    /// The index does not begin with its header, or the header makes no sense.
    BadHeader,
    /// Big-endian numbers.
    BigEndian,
    /// A tensor in parts, as parameter servers saved it.
    Sliced { key: String },
    /// A tensor's place is not inside its data file.
    OutOfFile { key: String, path: PathBuf },
    /// A tensor has another checksum than the index says.
    BadTensor { key: String },
}

impl fmt::Display for BundleError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { path, error } => {
                write!(f, "cannot read {} ({error}); is the folder copied whole?", path.display())
            }
            Self::NotATable => write!(f, "the index does not end as an index of variables does"),
            Self::Truncated { what } => write!(f, "{what} of the index reaches past its end"),
            Self::BadBlock { at } => {
                write!(f, "the index is damaged: the block at byte {at} has another checksum")
            }
            Self::Compressed { kind } => {
                write!(f, "the index is compressed (kind {kind}), which cannot be read")
            }
            Self::BadKey => write!(f, "a key of the index is built from more than there is"),
            Self::Unsorted => write!(f, "the keys of the index are out of order"),
            Self::Overlapping => write!(f, "blocks of the index overlap"),
            Self::BadMessage { key } => write!(f, "the index's entry '{key}' is damaged"),
            Self::BadHeader => write!(f, "the index has no header, or a damaged one"),
            Self::BigEndian => write!(f, "the variables are big-endian, which cannot be read"),
            Self::Sliced { key } => write!(
                f,
                "variable '{key}' is stored in slices, which cannot be read; load the model in \
                 TensorFlow and save it again"
            ),
            Self::OutOfFile { key, path } => {
                write!(f, "variable '{key}' lies outside {}; is it truncated?", path.display())
            }
            Self::BadTensor { key } => {
                write!(f, "variable '{key}' is damaged: it has another checksum than was saved")
            }
        }
    }
}

impl std::error::Error for BundleError {}
