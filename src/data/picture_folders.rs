//! Pictures and folders of them, which may have a sub-folder for each class.

use super::classes::RowClasses;
use super::image::list_images;
use anyhow::{Context, Result};
use std::fs;
use std::path::{Path, PathBuf};

/// Paths of pictures, and their classes where sub-folders tell them.
#[derive(Debug, Clone, PartialEq)]
pub struct Pictures {
    pub paths: Vec<PathBuf>,
    pub classes: Option<RowClasses>,
}

/// The pictures of `inputs`, files or folders. Of a folder that holds no picture itself, those of its sub-folders, which
/// are classes then.
///
/// # Errors
/// A path cannot be read, or a folder holds no pictures at all.
pub fn list_pictures(inputs: &[PathBuf]) -> Result<Pictures> {
    let mut paths = vec![];
    let mut of_folders: Vec<(String, usize)> = vec![];
    let mut all_classed = true;
    for input in inputs {
        match list_images(input) {
            Ok(found) => {
                all_classed = false;
                paths.extend(found);
            }
            Err(error) => {
                let folders = class_folders(input)?;
                if folders.is_empty() {
                    return Err(error);
                }
                for (name, found) in folders {
                    of_folders.push((name, found.len()));
                    paths.extend(found);
                }
            }
        }
    }
    let mut names: Vec<String> = of_folders.iter().map(|(name, _)| name.clone()).collect();
    names.sort_by(|a, b| number(a).cmp(&number(b)).then(a.cmp(b)));
    names.dedup();
    let place = |name: &String| names.iter().position(|n| n == name).unwrap_or(0);
    let of_rows = of_folders.iter().flat_map(|(name, count)| vec![place(name); *count]).collect();
    let classes = all_classed.then_some(RowClasses::Names { names, of_rows });
    Ok(Pictures { paths, classes })
}

/// Names that are numbers come in their order, before the others.
fn number(name: &str) -> u64 {
    name.parse().unwrap_or(u64::MAX)
}

/// The sub-folders with pictures, by name.
fn class_folders(path: &Path) -> Result<Vec<(String, Vec<PathBuf>)>> {
    let mut folders = vec![];
    if !path.is_dir() {
        return Ok(folders);
    }
    let unreadable = || format!("cannot read folder {}", path.display());
    for entry in fs::read_dir(path).with_context(unreadable)? {
        let folder = entry.with_context(unreadable)?.path();
        let name = folder.file_name().unwrap_or_default().to_string_lossy().into_owned();
        if name.starts_with('.') || !folder.is_dir() {
            continue;
        }
        if let Ok(found) = list_images(&folder) {
            folders.push((name, found));
        }
    }
    folders.sort();
    Ok(folders)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[test]
    fn sub_folders_are_classes_where_the_folder_has_no_pictures() {
        let classed =
            folder(&["10/a.png", "9/b.jpg", "9/c.png", "9/notes.txt", "empty/x.txt", ".git/d.png"]);
        let found = list_pictures(&[classed.path().into()]).unwrap();
        let names: Vec<_> = found.paths.iter().map(|p| p.file_name().unwrap()).collect();
        assert_eq!(names, ["a.png", "b.jpg", "c.png"]);
        let names = vec!["9".to_string(), "10".to_string()];
        assert_eq!(found.classes, Some(RowClasses::Names { names, of_rows: vec![1, 0, 0] }));

        let plain = folder(&["a.png", "sub/b.png"]);
        let found = list_pictures(&[plain.path().into()]).unwrap();
        assert_eq!((found.paths.len(), found.classes), (1, None));
        let both = list_pictures(&[classed.path().into(), plain.path().into()]).unwrap();
        assert_eq!((both.paths.len(), both.classes), (4, None));
    }

    #[test]
    fn folders_without_pictures_are_refused() {
        let none = folder(&["notes.txt", "sub/notes.txt"]);
        let said = list_pictures(&[none.path().into()]).unwrap_err().to_string();
        assert!(said.ends_with("has no .png, .jpg, .jpeg or .bmp file"), "{said}");
        assert!(list_pictures(&["/nowhere".into()]).is_err());
    }
}
