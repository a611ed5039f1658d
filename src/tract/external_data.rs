//! Tensors whose data lie in files beside the model. What such a file may be is checked before tract reads it.

use super::pb;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

/// Tensors may share their data this many times over.
const MOST_SHARING: u64 = 8;

/// A range of a file and the tensor whose data it is.
type Ranges<'a> = BTreeMap<PathBuf, Vec<(u64, u64, &'a str)>>;

/// Whether a tensor's data lie in another file.
pub fn is_external(tensor: &pb::TensorProto) -> bool {
    tensor.data_location == Some(pb::tensor_proto::DataLocation::External as i32)
}

/// Checks that the data of `tensors` lie in regular files inside `folder`, within them, as long as the shapes
/// ask for (`needed` tells how many bytes that is), and not across one another.
///
/// # Errors
/// Names the tensor, the file and what is wrong.
pub fn check<'a>(
    tensors: impl Iterator<Item = &'a pb::TensorProto>,
    folder: Option<&Path>,
    needed: impl Fn(&pb::TensorProto) -> Option<u64>,
) -> Result<()> {
    let mut ranges = Ranges::new();
    for tensor in tensors.filter(|t| is_external(t) && t.raw_data.is_empty()) {
        check_tensor(tensor, folder, needed(tensor), &mut ranges)
            .with_context(|| format!("tensor '{}'", tensor.name))?;
    }
    for (file, mut ranges) in ranges {
        ranges.sort_unstable();
        let mut held = 0;
        let mut read = 0u64;
        for (i, &(start, end, name)) in ranges.iter().enumerate() {
            read = read.saturating_add(end - start);
            match i.checked_sub(1).map(|before| ranges[before]) {
                Some((s, e, _)) if (s, e) == (start, end) => {}
                Some((_, e, other)) if start < e => {
                    bail!("tensors '{other}' and '{name}' overlap in part in {}", file.display())
                }
                _ => held += end - start,
            }
        }
        ensure!(
            read <= held.saturating_mul(MOST_SHARING),
            "more than {MOST_SHARING} tensors share their data in {}",
            file.display()
        );
    }
    Ok(())
}

fn check_tensor<'a>(
    tensor: &'a pb::TensorProto,
    folder: Option<&Path>,
    needed: Option<u64>,
    ranges: &mut Ranges<'a>,
) -> Result<()> {
    let entry = |key: &str| tensor.external_data.iter().find(|e| e.key == key).map(|e| &e.value);
    let number = |key: &str| -> Result<Option<u64>> {
        let parsed = entry(key).map(|text| {
            text.parse().ok().with_context(|| format!("its {key} '{text}' is no number"))
        });
        parsed.transpose()
    };
    let location = entry("location").context("no location of its external data")?;
    let at = || format!("its data in '{location}'");
    let (offset, length) = (number("offset").with_context(at)?.unwrap_or(0), number("length"));
    let length = length.with_context(at)?;
    let (file, size) =
        resolve(folder.context("the model's folder is not known")?, location).with_context(at)?;
    let held = size
        .checked_sub(offset)
        .with_context(|| format!("{}: offset {offset} is beyond the file's {size} bytes", at()))?;
    let length = length.unwrap_or(held);
    if let Some(needed) = needed {
        ensure!(length == needed, "{}: its shape needs {needed} bytes, not {length}", at());
    }
    ensure!(
        length <= held,
        "{}: {length} bytes from {offset} on reach beyond the file's {size} bytes",
        at()
    );
    ranges.entry(file).or_default().push((offset, offset + length, &tensor.name));
    Ok(())
}

/// The file that `location` names, and its size.
pub fn resolve(folder: &Path, location: &str) -> Result<(PathBuf, u64)> {
    const OUTSIDE: &str = "it is outside the model's folder";
    let relative = Path::new(location);
    let inside = |c: Component| matches!(c, Component::Normal(_) | Component::CurDir);
    ensure!(relative.components().all(inside), OUTSIDE);
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let folder = folder.canonicalize().context("cannot read the model's folder")?;
    let file = folder.join(relative).canonicalize().context("cannot read it")?;
    ensure!(file.starts_with(&folder), OUTSIDE);
    let metadata = file.metadata().context("cannot read it")?;
    ensure!(metadata.is_file(), "it is no file");
    Ok((file, metadata.len()))
}
