//! Files as bytes without reading them: memory maps. Must not know what the bytes mean.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, Weak};

use bytes::Bytes;
use memmap2::Mmap;

/// The maps that are alive, for [`release`].
static MAPS: Mutex<Vec<Weak<Mmap>>> = Mutex::new(Vec::new());

/// Whether files are read into memory instead.
static COPYING: AtomicBool = AtomicBool::new(false);

/// From now on this process holds what it opens in its own memory: for one that outlives changes to its files. What
/// is mapped ends the process when another one truncates the file.
pub fn copy_from_now_on() {
    COPYING.store(true, Ordering::Relaxed);
}

struct Owner(Arc<Mmap>);

impl AsRef<[u8]> for Owner {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

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
    if COPYING.load(Ordering::Relaxed) {
        let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or(0));
        (&file).take(metadata.len()).read_to_end(&mut bytes)?;
        return Ok(Bytes::from(bytes));
    }
    // SAFETY: the map is read-only and lives as long as the `Bytes` that own it. Another process
    // could still change or truncate the file: every mapping program has that limit, and our own
    // writers replace files by rename, which leaves the mapped one as it is.
    let map = Arc::new(unsafe { Mmap::map(&file)? });
    if let Ok(mut maps) = MAPS.lock() {
        maps.retain(|map| map.strong_count() > 0);
        maps.push(Arc::downgrade(&map));
    }
    Ok(Bytes::from_owner(Owner(map)))
}

/// Says that `bytes` of a mapped file have been read and are not needed in memory for now: they stop
/// counting as this process's memory, and come from the file again when they are read. Does nothing to
/// bytes that are not of a map.
pub fn release(bytes: &[u8]) {
    /// Less is not worth a system call.
    const WORTH_WHILE: usize = 1 << 16;
    #[cfg(unix)]
    if bytes.len() >= WORTH_WHILE
        && let Ok(maps) = MAPS.lock()
    {
        for map in maps.iter().filter_map(Weak::upgrade) {
            let range = map.as_ptr_range();
            if !range.contains(&bytes.as_ptr()) || bytes.as_ptr_range().end > range.end {
                continue;
            }
            let offset = bytes.as_ptr() as usize - range.start as usize;
            // SAFETY: the map is of a file, shared and never written through: pages dropped are read
            // from the file again, so every value that was promised stays the same.
            let _ = unsafe {
                map.unchecked_advise_range(memmap2::UncheckedAdvice::DontNeed, offset, bytes.len())
            };
        }
    }
    let _ = (bytes, WORTH_WHILE);
}

/// Gives memory that was freed back to the system: glibc keeps what its threads free, for itself.
pub fn return_freed_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    {
        unsafe extern "C" {
            fn malloc_trim(pad: usize) -> std::ffi::c_int;
        }
        // SAFETY: glibc's malloc_trim(3) takes any pad, may be called at any time from any thread, and
        // touches free memory only.
        unsafe { malloc_trim(0) };
    }
}

/// Lets this process open as many files, connections among them, as the system allows it; how many those are, where that
/// can be told.
pub fn raise_open_files() -> Option<u64> {
    #[cfg(all(target_os = "linux", target_pointer_width = "64"))]
    {
        use std::ffi::c_int;
        #[repr(C)]
        struct Limit {
            soft: u64,
            hard: u64,
        }
        unsafe extern "C" {
            fn getrlimit(resource: c_int, limit: *mut Limit) -> c_int;
            fn setrlimit(resource: c_int, limit: *const Limit) -> c_int;
        }
        /// RLIMIT_NOFILE of asm-generic/resource.h, which x86-64 and AArch64 have.
        const FILES: c_int = 7;
        let mut limit = Limit { soft: 0, hard: 0 };
        // SAFETY: getrlimit(2) writes one struct rlimit, which has this layout where pointers have 64 bits.
        if unsafe { getrlimit(FILES, &raw mut limit) } != 0 {
            return None;
        }
        let most = Limit { soft: limit.hard, hard: limit.hard };
        // SAFETY: setrlimit(2) reads one struct rlimit of that layout.
        let raised = limit.soft < limit.hard && unsafe { setrlimit(FILES, &raw const most) } == 0;
        Some(if raised { limit.hard } else { limit.soft })
    }
    #[cfg(not(all(target_os = "linux", target_pointer_width = "64")))]
    None
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
    #[cfg(target_os = "linux")]
    fn open_files_are_as_many_as_are_allowed() {
        let files = raise_open_files().unwrap();
        let limits = std::fs::read_to_string("/proc/self/limits").unwrap();
        let line = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
        let numbers: Vec<&str> = line.split_whitespace().take(2).collect();
        assert_eq!(numbers, [files.to_string(), files.to_string()]);
        assert_eq!(raise_open_files(), Some(files));
    }

    #[test]
    fn released_pages_hold_the_same_bytes() {
        let path = scratch("released");
        let contents: Vec<u8> = (0..400_000u32).map(|i| (i * 7) as u8).collect();
        std::fs::write(&path, &contents).unwrap();
        let bytes = open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        assert_eq!(bytes, contents);
        release(&bytes.slice(1000..300_001));
        assert_eq!(bytes, contents);
        let elsewhere = contents.clone();
        release(&elsewhere);
        assert_eq!(elsewhere, contents);
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
