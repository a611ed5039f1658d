//! The MNIST digits that are built into the binary: 60,000 for training, 10,000 for testing, 28×28, grey.

use anyhow::{Context, Result, ensure};

use super::idx_folder::{self, NamedIdx, Role, Set};
use super::{Dataset, LabelledImages};
use crate::format::idx::{self, Idx, IdxError};

pub const ROWS: usize = 28;
pub const COLS: usize = 28;
pub const CLASSES: usize = 10;
pub const TRAIN_IMAGES: usize = 60_000;
pub const TEST_IMAGES: usize = 10_000;

/// Both sets, checksums verified.
pub fn load() -> Result<Dataset> {
    let [train, test] = idx_folder::read_sets(whole)?;
    let class_names = (0..CLASSES).map(|digit| digit.to_string()).collect();
    let dataset = idx_folder::dataset("mnist".into(), train, test, Some(class_names))?;
    check(&dataset.train, TRAIN_IMAGES)?;
    check(&dataset.test, TEST_IMAGES)?;
    Ok(dataset)
}

/// The test set alone, checksums verified.
pub fn test() -> Result<LabelledImages> {
    let images =
        Set::new(whole(Role::TestImages)?, whole(Role::TestLabels)?)?.into_images(CLASSES)?;
    check(&images, TEST_IMAGES)?;
    Ok(images)
}

/// The first `count` test images, without unpacking the others.
pub fn first_test_images(count: usize) -> Result<LabelledImages> {
    first(Role::TestImages, Role::TestLabels, count, TEST_IMAGES)
}

/// The first `count` training images, without unpacking the others.
pub fn first_train_images(count: usize) -> Result<LabelledImages> {
    first(Role::TrainImages, Role::TrainLabels, count, TRAIN_IMAGES)
}

macro_rules! fixture {
    ($name:literal) => {
        include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/mnist/", $name))
    };
}

fn gzipped(role: Role) -> &'static [u8] {
    match role {
        Role::TrainImages => fixture!("train-images-idx3-ubyte.gz"),
        Role::TrainLabels => fixture!("train-labels-idx1-ubyte.gz"),
        Role::TestImages => fixture!("t10k-images-idx3-ubyte.gz"),
        Role::TestLabels => fixture!("t10k-labels-idx1-ubyte.gz"),
    }
}

fn whole(role: Role) -> Result<NamedIdx> {
    named(role, idx::parse(gzipped(role)))
}

fn first(images: Role, labels: Role, count: usize, available: usize) -> Result<LabelledImages> {
    ensure!(
        (1..=available).contains(&count),
        "{count} images asked for; this set of MNIST has {available}"
    );
    let part = |role| named(role, idx::parse_first(gzipped(role), count));
    let images = Set::new(part(images)?, part(labels)?)?.into_images(CLASSES)?;
    check(&images, count)?;
    Ok(images)
}

fn named(role: Role, parsed: Result<Idx, IdxError>) -> Result<NamedIdx> {
    let name = format!("built-in {}", role.file_name());
    let idx = parsed.with_context(|| name.clone())?;
    Ok(NamedIdx { idx, name })
}

fn check(images: &LabelledImages, count: usize) -> Result<()> {
    let found = (images.len(), images.rows(), images.cols());
    ensure!(
        found == (count, ROWS, COLS),
        "the built-in MNIST is damaged: {found:?} instead of {:?}",
        (count, ROWS, COLS)
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    // Counts a class from numpy: np.bincount(labels); pixel sums from images.sum(dtype='i8').
    #[test]
    fn both_sets_are_the_published_ones() {
        let mnist = load().unwrap();
        let counts = |images: &LabelledImages| {
            let mut counts = [0; CLASSES];
            images.labels().iter().for_each(|&label| counts[usize::from(label)] += 1);
            counts
        };
        let sum = |images: &LabelledImages| -> u64 {
            images.images().iter().map(|&pixel| u64::from(pixel)).sum()
        };
        assert_eq!(
            counts(&mnist.train),
            [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
        );
        assert_eq!(counts(&mnist.test), [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]);
        assert_eq!([sum(&mnist.train), sum(&mnist.test)], [1_567_298_545, 264_923_200]);
        assert_eq!(mnist.class_names.concat(), "0123456789");
        assert_eq!(test().unwrap(), mnist.test);
        let first = first_test_images(9).unwrap();
        assert_eq!(first.labels(), [7, 2, 1, 0, 4, 1, 4, 9, 5]);
        assert_eq!(first.image(8), mnist.test.image(8));
        assert_eq!(first_train_images(5).unwrap().labels(), [5, 0, 4, 1, 9]);
    }

    #[test]
    fn more_images_than_there_are_cannot_be_had() {
        assert!(first_test_images(0).is_err());
        assert!(first_test_images(TEST_IMAGES + 1).is_err());
    }
}
