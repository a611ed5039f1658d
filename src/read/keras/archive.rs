//! The zip that a `.keras` file is.

use anyhow::{Context, Result, anyhow, ensure};
use bytes::Bytes;
use std::io::{Cursor, Read};
use zip::{CompressionMethod, ZipArchive};

/// Deflate packs at most so many bytes into one.
const MOST_PACKED: u64 = 1032;
const MAX_TEXT: usize = 256 << 20;

pub struct Archive {
    bytes: Bytes,
    zip: ZipArchive<Cursor<Bytes>>,
}

pub fn open(bytes: Bytes) -> Result<Archive> {
    let zip = ZipArchive::new(Cursor::new(bytes.clone()))
        .map_err(|e| anyhow!("not a Keras model, or damaged ({e})"))?;
    Ok(Archive { bytes, zip })
}

impl Archive {
    /// An entry's bytes; of one that is stored as it is, a view of the file.
    pub fn entry(&mut self, name: &str) -> Result<Bytes> {
        let damaged = |e| anyhow!("'{name}': damaged ({e})");
        let mut entry = self.zip.by_name(name).map_err(|_| {
            anyhow!("the archive holds no '{name}'; a .keras file of model.save() is expected")
        })?;
        let size = entry.size();
        if entry.compression() == CompressionMethod::Stored {
            let start = entry.data_start().and_then(|at| usize::try_from(at).ok());
            let end = start.zip(usize::try_from(size).ok()).and_then(|(s, n)| s.checked_add(n));
            let range = start.zip(end).filter(|(_, end)| *end <= self.bytes.len());
            let (start, end) = range.with_context(|| format!("'{name}' is cut off"))?;
            return Ok(self.bytes.slice(start..end));
        }
        let limit = (self.bytes.len() as u64).saturating_mul(MOST_PACKED);
        ensure!(size <= limit, "'{name}' says that it has {size} bytes, more than can be");
        let mut unpacked = vec![];
        entry.by_ref().take(size + 1).read_to_end(&mut unpacked).map_err(damaged)?;
        ensure!(unpacked.len() as u64 == size, "'{name}' has not its declared size");
        Ok(unpacked.into())
    }

    pub fn text(&mut self, name: &str) -> Result<String> {
        let bytes = self.entry(name)?;
        ensure!(bytes.len() <= MAX_TEXT, "'{name}' is too large for a text");
        String::from_utf8(bytes.to_vec()).map_err(|_| anyhow!("'{name}' is not text"))
    }
}
