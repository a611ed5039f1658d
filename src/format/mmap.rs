//! Files as bytes without reading them: memory maps. Must not know what the bytes mean.

use std::fs::File;
use std::io;
use std::path::Path;

use bytes::Bytes;
use memmap2::Mmap;

/// Maps a regular file into memory; an empty file gives empty bytes. The pages are shared with the
/// file: whoever truncates it while it is mapped ends this process, so outputs are written to a
/// sibling and renamed, never in place.
pub fn open(path: &Path) -> io::Result<Bytes> {
    let metadata = std::fs::metadata(path)?;
    refuse_irregular(&metadata)?;
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    refuse_irregular(&metadata)?;
    if metadata.len() == 0 {
        return Ok(Bytes::new());
    }
    // SAFETY: the map is read-only and lives as long as the `Bytes` that own it. Another process
    // could still change or truncate the file: every mapping program has that limit, and our own
    // writers replace files by rename, which leaves the mapped one as it is.
    let map = unsafe { Mmap::map(&file)? };
    Ok(Bytes::from_owner(map))
}

/// Reads a regular file of UTF-8 text, of at most `MAX_TEXT` bytes.
pub fn read_text(path: &Path) -> io::Result<String> {
    const MAX_TEXT: usize = 64 << 20;
    let invalid = |message| io::Error::new(io::ErrorKind::InvalidData, message);
    let bytes = open(path)?;
    if bytes.len() > MAX_TEXT {
        return Err(invalid("is too large for a text file"));
    }
    String::from_utf8(bytes.to_vec()).map_err(|_| invalid("is not UTF-8 text"))
}

fn refuse_irregular(metadata: &std::fs::Metadata) -> io::Result<()> {
    if metadata.is_dir() {
        return Err(io::Error::new(io::ErrorKind::IsADirectory, "is a directory, not a file"));
    }
    if !metadata.is_file() {
        let message = "is not a regular file (a pipe, socket or device)";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scratch(name: &str) -> std::path::PathBuf {
        std::env::temp_dir().join(format!("mlctl-mmap-{}-{name}", std::process::id()))
    }

    #[test]
    fn maps_contents_and_empty_files() {
        for contents in [&b"some bytes"[..], b""] {
            let path = scratch(&format!("{}", contents.len()));
            std::fs::write(&path, contents).unwrap();
            let bytes = open(&path).unwrap();
            std::fs::remove_file(&path).unwrap();
            assert_eq!(bytes, contents);
        }
    }

    #[test]
    fn refuses_what_is_not_a_file() {
        let kind = |path: &Path| open(path).unwrap_err().kind();
        assert_eq!(kind(&std::env::temp_dir()), io::ErrorKind::IsADirectory);
        assert_eq!(kind(&scratch("absent")), io::ErrorKind::NotFound);
        #[cfg(unix)]
        assert_eq!(kind(Path::new("/dev/zero")), io::ErrorKind::InvalidInput);
    }
}
