//! A model's folder on disk: its numbered versions, and whether one lies still. Knows no model.

use std::collections::BTreeMap;
use std::fs::{self, Metadata};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

/// The version folders of a model, by number; `0001` is 1.
pub fn versions(base_path: &Path) -> io::Result<BTreeMap<u64, PathBuf>> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(base_path)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        let Some(number) = number.and_then(|n| n.parse().ok()) else { continue };
        let path = entry.path();
        if i64::try_from(number).is_ok() && path.is_dir() {
            let other = found.entry(number).or_insert_with(|| path.clone());
            if path < *other {
                *other = path;
            }
        }
    }
    Ok(found)
}

/// What the files of a folder look like from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint {
    /// Of names, sizes and times.
    hash: u64,
    /// When one of them changed last.
    changed: SystemTime,
}

impl Fingerprint {
    /// Whether nothing has changed for `time`.
    pub fn is_older_than(&self, time: Duration) -> bool {
        SystemTime::now().duration_since(self.changed).is_ok_and(|age| age > time)
    }
}

/// Which folder lies at a path, told by two looks, none of them at its contents: another folder there, or another record
/// in it, is another version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    folder: (u64, u64),
    record: Option<(u64, u64, u64, SystemTime)>,
}

/// `record` is the file that is written last, where the folder has one.
pub fn identity(folder: &Path, record: &Path) -> io::Result<Identity> {
    let record = fs::metadata(record).ok().map(|metadata| {
        let (device, number) = number_of(&metadata);
        (device, number, metadata.len(), changed_at(&metadata))
    });
    Ok(Identity { folder: number_of(&fs::metadata(folder)?), record })
}

/// What a file system calls a file, whatever its name.
fn number_of(metadata: &Metadata) -> (u64, u64) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        (metadata.dev(), metadata.ino())
    }
    #[cfg(not(unix))]
    {
        let created = metadata.created().unwrap_or(SystemTime::UNIX_EPOCH);
        let since = created.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        (since.as_secs(), since.subsec_nanos().into())
    }
}

/// No version has more files.
const MOST_FILES: usize = 100_000;

/// Looks at all files of a folder, not into them.
pub fn fingerprint(folder: &Path) -> io::Result<Fingerprint> {
    let mut hasher = DefaultHasher::new();
    let mut changed = changed_at(&fs::metadata(folder)?);
    let mut folders = vec![folder.to_path_buf()];
    let mut files = 0;
    while let Some(at) = folders.pop() {
        let mut entries = fs::read_dir(&at)?.collect::<io::Result<Vec<_>>>()?;
        entries.sort_by_key(fs::DirEntry::file_name);
        for entry in entries {
            files += 1;
            if files > MOST_FILES {
                return Err(io::Error::other(format!("it has more than {MOST_FILES} files")));
            }
            let path = entry.path();
            let metadata = fs::metadata(&path)?;
            path.hash(&mut hasher);
            changed = changed.max(changed_at(&metadata));
            if metadata.is_dir() {
                if !entry.file_type()?.is_symlink() {
                    folders.push(path);
                }
            } else {
                (metadata.len(), changed_at(&metadata)).hash(&mut hasher);
            }
        }
    }
    Ok(Fingerprint { hash: hasher.finish(), changed })
}

/// The time of a file's last change, which nobody can set back where the system tells it.
fn changed_at(metadata: &Metadata) -> SystemTime {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        let (seconds, nanoseconds) = (metadata.ctime(), metadata.ctime_nsec());
        if let (Ok(seconds), Ok(nanoseconds)) = (seconds.try_into(), nanoseconds.try_into()) {
            return SystemTime::UNIX_EPOCH + Duration::new(seconds, nanoseconds);
        }
    }
    metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn folders_with_numbers_are_versions() {
        let base = tempfile::tempdir().unwrap();
        for name in [
            "0001",
            "1",
            "2",
            "10",
            "x3",
            "4x",
            "-5",
            "99999999999999999999",
            "9223372036854775808",
        ] {
            fs::create_dir(base.path().join(name)).unwrap();
        }
        fs::write(base.path().join("7"), "").unwrap();
        let found = versions(base.path()).unwrap();
        let names = found.iter().map(|(n, p)| (*n, p.file_name().unwrap().to_str().unwrap()));
        assert_eq!(names.collect::<Vec<_>>(), [(1, "0001"), (2, "2"), (10, "10")]);
        assert!(versions(&base.path().join("absent")).is_err());
    }

    #[test]
    fn another_folder_in_the_same_place_is_seen() {
        let base = tempfile::tempdir().unwrap();
        let at = base.path().join("1");
        let look = || identity(&at, &at.join("record")).unwrap();
        fs::create_dir(&at).unwrap();
        let one = look();
        fs::write(at.join("model"), "1").unwrap();
        assert_eq!(look(), one);
        fs::write(at.join("record"), "1").unwrap();
        let two = look();
        assert!(two != one && two == look());
        fs::write(at.join("record"), "12").unwrap();
        let three = look();
        assert!(three != two);
        fs::rename(&at, base.path().join("away")).unwrap();
        assert!(identity(&at, &at.join("record")).is_err());
        fs::create_dir(&at).unwrap();
        assert!(look() != one && look() != three);
    }

    #[test]
    fn every_change_is_seen() {
        let folder = tempfile::tempdir().unwrap();
        let look = || fingerprint(folder.path()).unwrap();
        let file = folder.path().join("a/b");
        let empty = look();
        fs::create_dir(folder.path().join("a")).unwrap();
        fs::write(&file, "1").unwrap();
        let one = look();
        fs::write(&file, "12").unwrap();
        let two = look();
        std::thread::sleep(Duration::from_millis(20));
        fs::write(&file, "21").unwrap();
        let three = look();
        assert!(empty != one && one != two && two != three && three == look());
        assert!(!three.is_older_than(Duration::from_secs(60)));
        std::thread::sleep(Duration::from_millis(5));
        assert!(three.is_older_than(Duration::from_millis(1)));
    }
}
