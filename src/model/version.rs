//! Writing version directories: `0001`, `0002`, … below a model directory.

use super::record::{FILE_NAME, LABELS, Record, sha256_of};
use crate::format::atomic;
use crate::write::{GraphDefModel, SavedModelForm, write_saved_model};
use anyhow::{Context, Result, bail, ensure};
use std::fs;
use std::path::{Path, PathBuf};

/// What a new version directory is made of.
#[derive(Debug)]
pub struct NewVersion<'a> {
    /// Its `files` are filled in here.
    pub record: Record,
    /// The primary file's contents.
    pub primary: &'a [u8],
    /// One class a line in `assets/labels.txt`; none where empty.
    pub labels: &'a [String],
    /// What TensorFlow loads the folder as.
    pub saved_model: Option<&'a GraphDefModel>,
    /// Otherwise the next free number.
    pub number: Option<u64>,
}

/// A version that was saved.
#[derive(Debug)]
pub struct SavedVersion {
    pub folder: PathBuf,
    /// The primary file, the others in the order of their names, the record.
    pub files: Vec<String>,
}

/// Saves a version below `model_directory`.
///
/// # Errors
/// The version exists already, or the file system; nothing is left behind then.
pub fn save_version(model_directory: &Path, new: NewVersion) -> Result<SavedVersion> {
    let at = || format!("cannot save a version in {}", model_directory.display());
    if model_directory.exists() && !model_directory.is_dir() {
        bail!("{}: it is a file", at());
    }
    let existed = model_directory.exists();
    fs::create_dir_all(model_directory).with_context(at)?;
    let mut saved = save_numbered(model_directory, &new);
    // another process may have taken the number meanwhile
    while new.number.is_none() && saved.as_ref().is_err_and(is_taken) {
        saved = save_numbered(model_directory, &new);
    }
    let saved = saved.with_context(at);
    if saved.is_err() && !existed {
        let _ = fs::remove_dir(model_directory);
    }
    saved
}

fn is_taken(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    let taken = [std::io::ErrorKind::AlreadyExists, std::io::ErrorKind::DirectoryNotEmpty];
    io.is_some_and(|e| taken.contains(&e.kind()))
}

fn save_numbered(model_directory: &Path, new: &NewVersion) -> Result<SavedVersion> {
    let taken = numbers(model_directory)?;
    let number = match new.number {
        Some(number) => {
            ensure!(
                !taken.contains(&number),
                "version {number} exists already; leave --version out for the next free number"
            );
            number
        }
        None => {
            taken.iter().max().map_or(Some(1), |n| n.checked_add(1)).context("no free number")?
        }
    };
    let folder = model_directory.join(format!("{number:04}"));
    let mut files = vec![new.record.primary.clone()];
    atomic::create_folder(&folder, |unfinished| -> Result<()> {
        let mut record = new.record.clone();
        match new.saved_model {
            Some(graph) => {
                write_saved_model(unfinished, graph, new.labels, SavedModelForm::Variables)?;
            }
            None if !new.labels.is_empty() => {
                fs::create_dir(unfinished.join("assets"))?;
                let text: String = new.labels.iter().map(|l| format!("{l}\n")).collect();
                fs::write(unfinished.join(LABELS), text)?;
            }
            None => {}
        }
        let mut names = vec![];
        list_files(unfinished, "", &mut names)?;
        names.sort();
        fs::write(unfinished.join(&record.primary), new.primary)?;
        files.extend(names);
        for name in &files {
            let sha256 = sha256_of(&unfinished.join(name))?;
            record.files.insert(name.clone(), sha256);
        }
        let mut text = serde_json::to_string_pretty(&record)?;
        text.push('\n');
        fs::write(unfinished.join(FILE_NAME), text)?;
        Ok(())
    })?;
    files.push(FILE_NAME.into());
    Ok(SavedVersion { folder, files })
}

/// Adds the files below `folder` by their paths from there, `before` in front of each.
fn list_files(folder: &Path, before: &str, names: &mut Vec<String>) -> Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = format!("{before}{}", entry.file_name().to_string_lossy());
        match entry.file_type()?.is_dir() {
            true => list_files(&entry.path(), &format!("{name}/"), names)?,
            false => names.push(name),
        }
    }
    Ok(())
}

/// Refuses an output that would replace a file of a version directory.
pub fn refuse_saved_file(out: &Path) -> Result<()> {
    let Ok(file) = out.canonicalize() else { return Ok(()) };
    let version = file.ancestors().skip(1).take(2).find(|folder| folder.join(FILE_NAME).is_file());
    match version {
        Some(version) => bail!(
            "{} belongs to the saved version {}; choose another -o",
            out.display(),
            version.display()
        ),
        None => Ok(()),
    }
}

/// The version numbers below a model directory.
pub fn numbers(model_directory: &Path) -> Result<Vec<u64>> {
    let mut numbers = vec![];
    for entry in fs::read_dir(model_directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().filter(|n| n.bytes().all(|b| b.is_ascii_digit()));
        if let Some(number) = number.and_then(|n| n.parse().ok())
            && entry.path().is_dir()
        {
            numbers.push(number);
        }
    }
    Ok(numbers)
}
