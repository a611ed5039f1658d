//! What can be wrong with an HDF5 file, and where.

use std::fmt;

/// A defect of an HDF5 file, or a feature of the format that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Hdf5Error {
    /// The first eight bytes are not HDF5's.
    NotHdf5,
    /// Something reaches past the end of the file, or past what holds it.
    Truncated { what: &'static str },
    /// A structure does not begin with its four letters.
    BadSignature { what: &'static str, at: u64 },
    /// A structure's version is not one of those that are known.
    UnknownVersion { what: &'static str, version: u8 },
    /// A structure is reached twice: a circle, or two names for one object.
    ReachedTwice { at: u64 },
    /// Groups lie in each other deeper than any writer puts them.
    TooDeep,
    /// Structures overlap, so that there is more to read than the file has bytes.
    Overlapping,
    /// A number that cannot be: of bytes, of dimensions, of elements.
    Impossible { what: &'static str },
    /// A name is not text.
    BadName,
    /// A feature that Keras and h5py do not use unless told to.
    Unsupported { what: &'static str },
    /// A compressed chunk cannot be unpacked, or has another size than it should.
    BadChunk,
}

impl fmt::Display for Hdf5Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotHdf5 => write!(f, "no HDF5 signature"),
            Self::Truncated { what } => write!(f, "{what} reaches past its end"),
            Self::BadSignature { what, at } => write!(f, "no {what} at byte {at}"),
            Self::UnknownVersion { what, version } => {
                write!(f, "{what} of unknown version {version}")
            }
            Self::ReachedTwice { at } => write!(f, "what is at byte {at} is reached twice"),
            Self::TooDeep => write!(f, "groups lie too deep in each other"),
            Self::Overlapping => write!(f, "structures overlap"),
            Self::Impossible { what } => write!(f, "an impossible {what}"),
            Self::BadName => write!(f, "a name that is not text"),
            Self::Unsupported { what } => {
                write!(f, "{what} cannot be read; save the file with h5py's defaults")
            }
            Self::BadChunk => write!(f, "a chunk cannot be unpacked"),
        }
    }
}

impl std::error::Error for Hdf5Error {}
