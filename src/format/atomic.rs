//! Outputs appear whole or not at all: written to a temporary sibling, synced, renamed.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

/// Temporary siblings that exist now, so that an interrupted program can remove them.
static UNFINISHED: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());

const MARK: &str = ".mlctl-unfinished-";

/// Writes a file through `fill`; an old file of that name stays until the new one is complete.
///
/// # Errors
/// What `fill` returns, or the file system; nothing is left behind then.
pub fn write_file<T, E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
) -> Result<T, E> {
    write_checked_file(path, fill, |_, result| Ok((result, true)))
}

/// As [`write_file`], but the complete file is shown to `check` under its temporary name, and only
/// kept if `check` says so.
pub fn write_checked_file<T, U, E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&mut BufWriter<File>) -> Result<T, E>,
    check: impl FnOnce(&Path, T) -> Result<(U, bool), E>,
) -> Result<U, E> {
    let path = &final_file(path)?;
    let unfinished = Unfinished::beside(path)?;
    let file = OpenOptions::new().write(true).create_new(true).open(&unfinished.path)?;
    let mut writer = BufWriter::with_capacity(1 << 16, file);
    let filled = fill(&mut writer)?;
    let file = writer.into_inner().map_err(|e| e.into_error())?;
    // the disk works while the file is checked
    let (synced, checked) = std::thread::scope(|scope| {
        let sync = scope.spawn(|| file.sync_all());
        let checked = check(&unfinished.path, filled);
        (sync.join(), checked)
    });
    drop(file);
    let (result, keep) = checked?;
    synced.map_err(|_| io::Error::other("syncing the file panicked"))??;
    if keep {
        fs::rename(&unfinished.path, path)?;
    }
    Ok(result)
}

/// As [`write_file`], for a folder that must not exist yet: `fill` makes its files in the folder that
/// it is given.
pub fn create_folder<T, E: From<io::Error>>(
    path: &Path,
    fill: impl FnOnce(&Path) -> Result<T, E>,
) -> Result<T, E> {
    let unfinished = Unfinished::beside(path)?;
    fs::create_dir(&unfinished.path)?;
    let result = fill(&unfinished.path)?;
    sync_folder(&unfinished.path)?;
    // rename(2) replaces an empty folder: a version that somebody made meanwhile must win
    if path.exists() {
        return Err(io::Error::from(io::ErrorKind::AlreadyExists).into());
    }
    fs::rename(&unfinished.path, path)?;
    Ok(result)
}

/// The file that a write to `path` replaces: where a link leads, never the link.
fn final_file(path: &Path) -> io::Result<PathBuf> {
    let is_link = fs::symlink_metadata(path).is_ok_and(|m| m.is_symlink());
    let path = if is_link { path.canonicalize()? } else { path.to_path_buf() };
    let irregular = |m: fs::Metadata| !m.is_file();
    if fs::metadata(&path).is_ok_and(irregular) {
        let message = "it is there already and is not a file that can be replaced";
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, message));
    }
    Ok(path)
}

/// Finds out whether files can be made in `folder`.
pub fn check_writable(folder: &Path) -> io::Result<()> {
    let probe = Unfinished::beside(&folder.join("probe"))?;
    File::create_new(&probe.path).map(|_| ())
}

/// Removes what unfinished writes have left; for a program about to be ended by a signal.
pub fn remove_unfinished() {
    let paths = UNFINISHED.lock().map(|p| p.clone()).unwrap_or_default();
    paths.iter().for_each(|p| remove(p));
}

fn sync_folder(folder: &Path) -> io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            sync_folder(&path)?;
        } else {
            File::open(&path)?.sync_all()?;
        }
    }
    Ok(())
}

fn remove(path: &Path) {
    let _ = if path.is_dir() { fs::remove_dir_all(path) } else { fs::remove_file(path) };
}

/// A temporary sibling, removed when dropped unless it was renamed.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    fn beside(path: &Path) -> io::Result<Unfinished> {
        let name = path.file_name().and_then(|n| n.to_str()).ok_or_else(|| {
            io::Error::new(io::ErrorKind::InvalidInput, "the output has no file name")
        })?;
        let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
        if !folder.exists() {
            let message = format!("there is no folder {}", folder.display());
            return Err(io::Error::new(io::ErrorKind::NotFound, message));
        }
        remove_abandoned(folder);
        let path = folder.join(format!(".{name}{MARK}{}", std::process::id()));
        remove(&path);
        if let Ok(mut paths) = UNFINISHED.lock() {
            paths.push(path.clone());
        }
        Ok(Unfinished { path })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        if self.path.exists() {
            remove(&self.path);
        }
        if let Ok(mut paths) = UNFINISHED.lock() {
            paths.retain(|p| *p != self.path);
        }
    }
}

/// Removes what killed processes left in `folder`.
fn remove_abandoned(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|n| n.rsplit_once(MARK)?.1.parse::<u32>().ok());
        let gone =
            |pid| Path::new("/proc/self").exists() && !Path::new(&format!("/proc/{pid}")).exists();
        if owner.is_some_and(gone) {
            remove(&entry.path());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn names(folder: &Path) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder)
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    #[test]
    fn a_failed_write_leaves_the_old_file_and_nothing_else() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("out");
        write_file(&path, |w| w.write_all(b"old")).unwrap();
        let failed = write_file(&path, |w| -> io::Result<()> {
            w.write_all(b"half")?;
            Err(io::Error::other("stop"))
        });
        assert_eq!(failed.unwrap_err().to_string(), "stop");
        assert_eq!(fs::read(&path).unwrap(), b"old");
        assert_eq!(names(folder.path()), ["out"]);
    }

    #[test]
    fn a_folder_appears_whole_or_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("0001");
        let failed = create_folder(&path, |f| {
            fs::write(f.join("a"), "1")?;
            Err::<(), _>(io::Error::other("stop"))
        });
        assert!(failed.is_err());
        assert!(names(folder.path()).is_empty());
        create_folder(&path, |f| fs::write(f.join("a"), "1")).unwrap();
        assert!(create_folder(&path, |f| fs::write(f.join("b"), "1")).is_err());
        assert_eq!(names(&path), ["a"]);
    }

    #[test]
    #[cfg(unix)]
    fn only_files_are_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let [file, link, broken, socket] =
            ["file", "link", "broken", "socket"].map(|name| folder.path().join(name));
        let write = |path: &Path| write_file(path, |w| w.write_all(b"new"));
        fs::write(&file, "old").unwrap();
        std::os::unix::fs::symlink(&file, &link).unwrap();
        std::os::unix::fs::symlink("nowhere", &broken).unwrap();
        let _listens = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        write(&link).unwrap();
        assert!(link.is_symlink());
        assert_eq!(fs::read(&file).unwrap(), b"new");
        assert!(write(&broken).is_err() && broken.is_symlink());
        assert!(write(&socket).is_err());
        assert!(write(folder.path()).is_err());
        assert_eq!(names(folder.path()), ["broken", "file", "link", "socket"]);
    }

    #[test]
    fn what_a_killed_process_left_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(format!(".x{MARK}4294967294")), "half").unwrap();
        write_file(&folder.path().join("y"), |w| w.write_all(b"1")).unwrap();
        assert_eq!(names(folder.path()), ["y"]);
    }
}
