//! A folder of four IDX files, laid out as MNIST, Fashion-MNIST and their relatives are.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::thread;

use anyhow::{Context, Result, bail, ensure};

use super::{Dataset, LabelledImages};
use crate::format::idx::{self, Idx, IdxType};

/// Loads the four files, each plain or gzipped, with class names from `labels.txt` if that is there.
pub fn load(folder: &Path) -> Result<Dataset> {
    let paths = Role::ALL.map(|role| role.find(folder));
    if paths.iter().any(Option::is_none) {
        bail!(missing_files(folder, &paths));
    }
    let [train, test] = read_sets(|role| {
        let path = role.find(folder).with_context(|| missing_files(folder, &paths))?;
        let name = path.display().to_string();
        let bytes = read_bounded(&path)?;
        Ok(NamedIdx { idx: idx::parse(&bytes).with_context(|| name.clone())?, name })
    })?;
    let names = read_class_names(folder)?;
    let name = folder
        .canonicalize()
        .ok()
        .and_then(|path| Some(path.file_name()?.to_string_lossy().into_owned()))
        .unwrap_or_else(|| folder.display().to_string());
    dataset(name, train, test, names)
}

/// The file of images in a folder of IDX files: of the training set, or of the test set where `test` asks for it and it
/// is there; or whatever one other file of images there is.
pub fn images_of(folder: &Path, test: bool) -> Option<PathBuf> {
    let (first, second) = match test {
        true => (Role::TestImages, Role::TrainImages),
        false => (Role::TrainImages, Role::TestImages),
    };
    let is_images = |path: &PathBuf| {
        let name = path.file_name().map(|name| name.to_string_lossy().to_ascii_lowercase());
        path.is_file() && name.is_some_and(|n| n.contains("images") && n.contains("idx3"))
    };
    first.find(folder).or_else(|| second.find(folder)).or_else(|| {
        let mut files = std::fs::read_dir(folder).ok()?.filter_map(|e| Some(e.ok()?.path()));
        let found = files.find(is_images)?;
        files.all(|other| !is_images(&other)).then_some(found)
    })
}

/// The file of labels beside one of images, plain or gzipped: `a-labels-idx1-ubyte` of `a-images-idx3-ubyte`.
pub fn labels_beside(images: &Path) -> Option<PathBuf> {
    let name = images.file_name()?.to_str()?;
    let plain = name.strip_suffix(".gz").unwrap_or(name);
    let labels = plain.replace("images", "labels").replace("idx3", "idx1");
    let other = [labels.clone(), format!("{labels}.gz")];
    other.iter().map(|name| images.with_file_name(name)).find(|p| p != images && p.is_file())
}

/// The four files of such a data set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    TrainImages,
    TrainLabels,
    TestImages,
    TestLabels,
}

/// A parsed file and the name under which an error speaks of it.
pub(super) struct NamedIdx {
    pub name: String,
    pub idx: Idx,
}

/// Images and labels that agree in number.
pub(super) struct Set {
    images: NamedIdx,
    labels: NamedIdx,
}

impl Role {
    const ALL: [Role; 4] =
        [Role::TrainImages, Role::TrainLabels, Role::TestImages, Role::TestLabels];

    pub(super) fn file_name(self) -> &'static str {
        match self {
            Role::TrainImages => "train-images-idx3-ubyte",
            Role::TrainLabels => "train-labels-idx1-ubyte",
            Role::TestImages => "t10k-images-idx3-ubyte",
            Role::TestLabels => "t10k-labels-idx1-ubyte",
        }
    }

    fn find(self, folder: &Path) -> Option<PathBuf> {
        let dashed = self.file_name();
        let dotted = dashed.replace("-idx", ".idx");
        [dashed, &dotted]
            .into_iter()
            .flat_map(|name| [folder.join(name), folder.join(format!("{name}.gz"))])
            .find(|path| path.is_file())
    }
}

/// Reads training and test set with two threads: the training images take about as long as all the rest.
pub(super) fn read_sets(read: impl Fn(Role) -> Result<NamedIdx> + Sync) -> Result<[Set; 2]> {
    thread::scope(|scope| {
        let others = scope.spawn(|| {
            let test = Set::new(read(Role::TestImages)?, read(Role::TestLabels)?)?;
            Ok::<_, anyhow::Error>((read(Role::TrainLabels)?, test))
        });
        let train_images = read(Role::TrainImages)?;
        let (train_labels, test) =
            others.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        Ok([Set::new(train_images, train_labels)?, test])
    })
}

impl Set {
    pub(super) fn new(images: NamedIdx, labels: NamedIdx) -> Result<Set> {
        let set = Set { images, labels };
        let (images, labels) = (&set.images, &set.labels);
        for (file, rank, what) in [(images, 3, "images"), (labels, 1, "labels")] {
            let Idx { element, dims, .. } = &file.idx;
            ensure!(
                *element == IdxType::U8 && dims.len() == rank,
                "{}: {what} are expected as unsigned bytes with {rank} dimension(s); the file has {element:?} with \
                 dimensions {dims:?}",
                file.name
            );
            ensure!(!dims.contains(&0), "{}: the set is empty (dimensions {dims:?})", file.name);
        }
        let (image_count, label_count) = (images.idx.dims[0], labels.idx.dims[0]);
        ensure!(
            image_count == label_count,
            "{} has {image_count} images, but {} has {label_count} labels",
            images.name,
            labels.name
        );
        Ok(set)
    }

    pub(super) fn classes(&self) -> usize {
        self.labels.idx.data.iter().copied().max().map_or(0, |largest| usize::from(largest) + 1)
    }

    pub(super) fn into_images(self, classes: usize) -> Result<LabelledImages> {
        let Set { images, labels } = self;
        let [_, rows, cols] = images.idx.dims[..] else {
            bail!("{}: dimensions {:?} are not those of images", images.name, images.idx.dims)
        };
        LabelledImages::new(images.idx.data, labels.idx.data, rows, cols, classes)
            .with_context(|| format!("{} with {}", images.name, labels.name))
    }
}

/// Puts both sets together; without `class_names` the classes are called "0", "1", ….
pub(super) fn dataset(
    name: String,
    train: Set,
    test: Set,
    class_names: Option<Vec<String>>,
) -> Result<Dataset> {
    let (train_dims, test_dims) = (&train.images.idx.dims, &test.images.idx.dims);
    ensure!(
        train_dims[1..] == test_dims[1..],
        "{} has images of {}×{}, but {} has images of {}×{}",
        train.images.name,
        train_dims[1],
        train_dims[2],
        test.images.name,
        test_dims[1],
        test_dims[2]
    );
    let classes = train.classes().max(test.classes());
    let class_names =
        class_names.unwrap_or_else(|| (0..classes).map(|class| class.to_string()).collect());
    ensure!(
        class_names.len() >= classes,
        "labels.txt names {} classes, but the labels of {} and {} go up to {}",
        class_names.len(),
        train.labels.name,
        test.labels.name,
        classes - 1
    );
    Ok(Dataset {
        name,
        train: train.into_images(class_names.len())?,
        test: test.into_images(class_names.len())?,
        class_names,
    })
}

fn missing_files(folder: &Path, found: &[Option<PathBuf>; 4]) -> String {
    if !folder.is_dir() {
        return format!("{} is not a folder", folder.display());
    }
    let names = |present: bool| {
        let of_interest = Role::ALL.iter().zip(found).filter(|(_, path)| path.is_some() == present);
        of_interest.map(|(role, _)| role.file_name()).collect::<Vec<_>>().join(", ")
    };
    let missing = match names(true).is_empty() {
        true => String::new(),
        false => format!("; missing: {}", names(false)),
    };
    format!(
        "folder {} lacks IDX files: expected {} (each plain or .gz){missing}",
        folder.display(),
        Role::ALL.map(Role::file_name).join(", ")
    )
}

fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let file = File::open(path).with_context(|| format!("cannot open {}", path.display()))?;
    let length = file.metadata()?.len();
    let limit = idx::MAX_BYTES + 2048;
    ensure!(length <= limit, "{} has {length} bytes; at most {limit} are read", path.display());
    let mut bytes = Vec::with_capacity(length as usize);
    file.take(limit)
        .read_to_end(&mut bytes)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(bytes)
}

fn read_class_names(folder: &Path) -> Result<Option<Vec<String>>> {
    let path = folder.join("labels.txt");
    if !path.is_file() {
        return Ok(None);
    }
    let text = read_bounded(&path)?;
    let text = String::from_utf8(text)
        .ok()
        .with_context(|| format!("{} is not UTF-8 text", path.display()))?;
    let names: Vec<String> =
        text.lines().map(str::trim).filter(|line| !line.is_empty()).map(Into::into).collect();
    ensure!(
        names.len() <= 256,
        "{} names {} classes; labels of one byte tell 256 apart",
        path.display(),
        names.len()
    );
    Ok(Some(names))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::Write;

    use flate2::{Compression, write::GzEncoder};
    use tempfile::TempDir;

    use super::*;

    fn idx(element: u8, dims: &[u8], data: &[u8]) -> Vec<u8> {
        let mut bytes = vec![0, 0, element, dims.len() as u8];
        dims.iter().for_each(|&dim| bytes.extend([0, 0, 0, dim]));
        bytes.extend(data);
        bytes
    }

    /// Three training and two test images of 1×2.
    fn folder(changes: &[(&str, Option<Vec<u8>>)]) -> TempDir {
        let folder = tempfile::tempdir().unwrap();
        for (name, bytes) in [
            ("train-images-idx3-ubyte", idx(8, &[3, 1, 2], &[1, 2, 3, 4, 5, 6])),
            ("train-labels-idx1-ubyte", idx(8, &[3], &[0, 1, 3])),
            ("t10k-images-idx3-ubyte", idx(8, &[2, 1, 2], &[7, 8, 9, 10])),
            ("t10k-labels-idx1-ubyte", idx(8, &[2], &[2, 0])),
        ] {
            fs::write(folder.path().join(name), bytes).unwrap();
        }
        for (name, bytes) in changes {
            let path = folder.path().join(name);
            match bytes {
                Some(bytes) => fs::write(path, bytes).unwrap(),
                None => fs::remove_file(path).unwrap(),
            }
        }
        folder
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn plain_gzipped_and_dotted_names_load() {
        let labels = gzip(&idx(8, &[3], &[0, 1, 3]));
        let images = idx(8, &[2, 1, 2], &[7, 8, 9, 10]);
        let folder = folder(&[
            ("train-labels-idx1-ubyte", None),
            ("train-labels-idx1-ubyte.gz", Some(labels)),
            ("t10k-images-idx3-ubyte", None),
            ("t10k-images.idx3-ubyte.gz", Some(gzip(&images))),
        ]);
        let data = load(folder.path()).unwrap();
        assert_eq!(data.train.labels(), [0, 1, 3]);
        assert_eq!(data.test.images(), [7, 8, 9, 10]);
        assert_eq!((data.train.classes(), data.test.classes()), (4, 4));
        assert_eq!(data.class_names, ["0", "1", "2", "3"]);
        assert_eq!(data.name, folder.path().file_name().unwrap().to_str().unwrap());
    }

    #[test]
    fn class_names_come_from_labels_txt() {
        let names = b"shirt\r\n shoe \n\nbag\ncoat\nhat\n".to_vec();
        let data = load(folder(&[("labels.txt", Some(names))]).path()).unwrap();
        assert_eq!(data.class_names, ["shirt", "shoe", "bag", "coat", "hat"]);
        assert_eq!(data.test.classes(), 5);
    }

    #[test]
    fn files_that_disagree_are_refused_by_name_and_number() {
        let images = "train-images-idx3-ubyte";
        let labels = "train-labels-idx1-ubyte";
        let check = |name: &str, bytes: Vec<u8>, expected: &[&str]| {
            let folder = folder(&[(name, Some(bytes))]);
            let error = format!("{:#}", load(folder.path()).unwrap_err());
            for part in expected {
                assert!(error.contains(part), "{error:?} lacks {part:?}");
            }
        };
        check(labels, idx(8, &[2], &[0, 1]), &[images, "3 images", labels, "2 labels"]);
        check(
            images,
            idx(8, &[3, 2, 1], &[0; 6]),
            &["images of 2×1", "t10k-images", "images of 1×2"],
        );
        check(images, idx(8, &[3, 1, 3], &[0; 6]), &[images, "declares 9 bytes", "6 are there"]);
        check(labels, idx(0x0b, &[3], &[0; 6]), &[labels, "labels", "I16"]);
        check(labels, idx(8, &[3, 1], &[0; 3]), &[labels, "[3, 1]"]);
        check(images, idx(8, &[0, 1, 2], &[]), &[images, "empty"]);
        check(images, b"\x89PNG....".to_vec(), &[images, "not an IDX file", "89 50 4e 47"]);
        check(labels, Vec::new(), &[labels, "cut short"]);
        check("labels.txt", b"a\nb\n".to_vec(), &["names 2 classes", "up to 3"]);
        check("labels.txt", b"\xff\xfe".to_vec(), &["labels.txt", "UTF-8"]);
        check("labels.txt", "x\n".repeat(257).into(), &["labels.txt", "257"]);
    }

    #[test]
    fn missing_files_are_listed() {
        let folder = folder(&[("t10k-labels-idx1-ubyte", None)]);
        let error = load(folder.path()).unwrap_err().to_string();
        assert!(error.ends_with("(each plain or .gz); missing: t10k-labels-idx1-ubyte"), "{error}");
        let empty = tempfile::tempdir().unwrap();
        let error = load(empty.path()).unwrap_err().to_string();
        assert!(error.contains("t10k-labels-idx1-ubyte"), "{error}");
        let error = load(Path::new("/nowhere")).unwrap_err().to_string();
        assert_eq!(error, "/nowhere is not a folder");
    }

    #[test]
    #[ignore = "needs Debian's package dataset-fashion-mnist"]
    fn fashion_mnist_loads() {
        let data = load(Path::new("/usr/share/datasets/fashion-mnist")).unwrap();
        assert_eq!((data.train.len(), data.test.len()), (60_000, 10_000));
        assert_eq!(data.name, "fashion-mnist");
        assert_eq!(data.test.labels()[..5], [9, 2, 1, 1, 6]);
    }
}
