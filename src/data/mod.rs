//! Data sets and pictures: where inputs come from and how they become numbers.
//! Knows no model, no graph and no command line.

pub mod classes;
pub mod digit;
pub mod idx_folder;
pub mod image;
pub mod mnist;
pub mod picture_folders;
pub mod preprocessing;
pub mod resize;

use anyhow::{Result, ensure};

/// Training and test images of one task.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dataset {
    pub name: String,
    pub train: LabelledImages,
    pub test: LabelledImages,
    /// One name a class, in label order.
    pub class_names: Vec<String>,
}

/// Grey images of one size with one label each; [`LabelledImages::new`] has checked that they fit together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LabelledImages {
    images: Vec<u8>,
    labels: Vec<u8>,
    rows: usize,
    cols: usize,
    classes: usize,
}

impl LabelledImages {
    /// `images` is N×rows×cols with one byte a pixel, `labels` is N numbers below `classes`; N is at least 1.
    pub fn new(
        images: Vec<u8>,
        labels: Vec<u8>,
        rows: usize,
        cols: usize,
        classes: usize,
    ) -> Result<Self> {
        ensure!(!labels.is_empty(), "the set is empty");
        ensure!(rows > 0 && cols > 0, "images of {rows}×{cols} have no pixels");
        let expected = rows.checked_mul(cols).and_then(|size| size.checked_mul(labels.len()));
        ensure!(
            expected == Some(images.len()),
            "{} labels with images of {rows}×{cols} do not fit {} image bytes",
            labels.len(),
            images.len()
        );
        let largest = labels.iter().copied().max().unwrap_or(0);
        ensure!(
            usize::from(largest) < classes && classes <= 256,
            "label {largest} is outside {classes} classes"
        );
        Ok(LabelledImages { images, labels, rows, cols, classes })
    }

    pub fn len(&self) -> usize {
        self.labels.len()
    }

    /// Always false: an empty set is refused.
    pub fn is_empty(&self) -> bool {
        self.labels.is_empty()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn cols(&self) -> usize {
        self.cols
    }

    pub fn classes(&self) -> usize {
        self.classes
    }

    /// All images, N×rows×cols.
    pub fn images(&self) -> &[u8] {
        &self.images
    }

    pub fn labels(&self) -> &[u8] {
        &self.labels
    }

    /// The pixels of one image, rows×cols. Panics when `index` is not below [`len`](Self::len).
    pub fn image(&self, index: usize) -> &[u8] {
        let size = self.rows * self.cols;
        &self.images[index * size..(index + 1) * size]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn images_are_found_by_index() {
        let images = LabelledImages::new((0..12).collect(), vec![1, 0], 2, 3, 2).unwrap();
        assert_eq!((images.len(), images.rows(), images.cols()), (2, 2, 3));
        assert_eq!(images.image(1), [6, 7, 8, 9, 10, 11]);
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let check = |images: usize, labels: &[u8], rows, cols, classes, expected: &str| {
            let error = LabelledImages::new(vec![0; images], labels.to_vec(), rows, cols, classes);
            assert_eq!(error.unwrap_err().to_string(), expected);
        };
        check(0, &[], 2, 3, 2, "the set is empty");
        check(0, &[0], 0, 3, 2, "images of 0×3 have no pixels");
        check(11, &[0, 1], 2, 3, 2, "2 labels with images of 2×3 do not fit 11 image bytes");
        check(6, &[2], 2, 3, 2, "label 2 is outside 2 classes");
        check(6, &[0], 2, 3, 257, "label 0 is outside 257 classes");
        let overflow = LabelledImages::new(vec![0; 4], vec![0; 4], usize::MAX, 2, 1);
        assert!(overflow.is_err());
    }
}
