//! Little-endian, row-major bytes ↔ tensors, as TensorFlow's and KServe's messages carry them. What a shape claims is held
//! against the bytes before memory is taken.

use crate::graph::ElementType;
use crate::ops::{datum_type, element_type};
use crate::runtime::Tensor;
use anyhow::{Result, ensure};
use std::borrow::Cow;

/// Axes of a tensor in a request.
pub const MOST_RANK: usize = 32;

/// The elements of a shape; `None` where it has too many axes, or strides or bytes that no machine could address.
pub fn count_of(shape: &[usize]) -> Option<usize> {
    let addressable = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d.max(1)));
    addressable.filter(|&n| n <= isize::MAX as usize / 8 && shape.len() <= MOST_RANK)?;
    Some(shape.iter().product())
}

/// # Errors
/// There are not as many bytes as the shape needs.
pub fn tensor_of(element: ElementType, shape: &[usize], bytes: &[u8]) -> Result<Tensor> {
    let datum = datum_type(element)?;
    let size = count_of(shape).and_then(|count| count.checked_mul(datum.size_of()));
    ensure!(
        size == Some(bytes.len()),
        "there are {} bytes, the shape {shape:?} needs {}",
        bytes.len(),
        size.map_or("more than there can be".into(), |n| n.to_string())
    );
    if element == ElementType::Bool {
        let values: Vec<bool> = bytes.iter().map(|&b| b != 0).collect();
        return Tensor::from_shape(shape, &values);
    }
    let mut tensor = Tensor::zero_dt(datum, shape)?;
    tensor.as_bytes_mut().copy_from_slice(bytes);
    Ok(tensor)
}

/// A tensor as one of the types that messages know.
pub fn plain(tensor: &Tensor) -> Result<Cow<'_, Tensor>> {
    let datum = datum_type(element_type(tensor.datum_type())?)?;
    match tensor.datum_type() == datum {
        true => Ok(Cow::Borrowed(tensor)),
        false => Ok(Cow::Owned(tensor.cast_to_dt(datum)?.into_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_must_fill_the_shape() {
        let check = |element, shape: &[usize], bytes: &[u8]| {
            tensor_of(element, shape, bytes).map_err(|e| e.to_string())
        };
        let floats = [0, 0, 128, 63, 0, 0, 0, 64];
        let expected = Tensor::from_shape(&[2, 1], &[1f32, 2.0]).unwrap();
        assert_eq!(check(ElementType::F32, &[2, 1], &floats), Ok(expected));
        let expected = Tensor::from_shape(&[3], &[true, false, true]).unwrap();
        assert_eq!(check(ElementType::Bool, &[3], &[1, 0, 200]), Ok(expected));
        assert_eq!(check(ElementType::I64, &[0, 5], &[]).unwrap().shape(), [0, 5]);
        let short = "there are 8 bytes, the shape [3] needs 12";
        assert_eq!(check(ElementType::F32, &[3], &floats), Err(short.into()));
    }

    #[test]
    fn sizes_that_overflow_are_none() {
        assert_eq!(count_of(&[]), Some(1));
        assert_eq!(count_of(&[2, 3, 0]), Some(0));
        for shape in [&[usize::MAX, 2][..], &[1 << 32, 1 << 32], &[0, 1 << 40, 1 << 40], &[1; 33]] {
            assert_eq!(count_of(shape), None, "{shape:?}");
        }
        let huge = tensor_of(ElementType::F32, &[0, 1 << 40, 1 << 40], &[]).unwrap_err();
        assert!(huge.to_string().ends_with("needs more than there can be"));
    }
}
