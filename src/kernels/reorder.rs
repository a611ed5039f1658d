//! Arrays with their axes in another order.

use crate::format::mmap;
use anyhow::{Result, bail, ensure};

/// Side of the squares that are turned at a time.
const BLOCK: usize = 32;
/// Bytes that are turned before those of a mapped file are let go.
const PART: usize = 4 << 20;

/// The elements of a row-major array of `shape`, each of `width` bytes, with the axes in the order
/// `order`; `None` where the bytes stay as they are.
///
/// # Errors
/// The order is not one of the shape's axes, the bytes do not fill the shape, or the width is not 1, 2,
/// 4 or 8.
pub fn reorder(
    bytes: &[u8],
    width: usize,
    shape: &[usize],
    order: &[usize],
) -> Result<Option<Vec<u8>>> {
    let mut sorted = order.to_vec();
    sorted.sort_unstable();
    ensure!(sorted.iter().copied().eq(0..shape.len()), "axes {order:?} of {shape:?}");
    let count = shape.iter().try_fold(width, |n, &d| n.checked_mul(d));
    ensure!(count == Some(bytes.len()), "{} bytes for {shape:?}", bytes.len());
    let axes = merged_axes(shape, order);
    if axes.len() <= 1 || bytes.is_empty() {
        return Ok(None);
    }
    let turn = match width {
        1 => turn::<1>,
        2 => turn::<2>,
        4 => turn::<4>,
        8 => turn::<8>,
        _ => bail!("elements of {width} bytes cannot be reordered"),
    };
    // where the outermost axis stays, parts of it can be turned, and forgotten, one after the other
    let Axis { length, stride } = axes[0];
    let mut target = vec![0; bytes.len()];
    if stride * length * width < bytes.len() || stride == 1 {
        turn(bytes, &axes, &mut target);
        return Ok(Some(target));
    }
    let step = (PART / (stride * width)).max(1);
    let parts = target.chunks_mut(step * stride * width);
    for (source, target) in bytes.chunks(step * stride * width).zip(parts) {
        let mut axes = axes.clone();
        axes[0].length = source.len() / (stride * width);
        turn(source, &axes, target);
        mmap::release(source);
    }
    Ok(Some(target))
}

/// An axis of the result: its length, and how far apart its elements are in the source.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Axis {
    length: usize,
    stride: usize,
}

/// The result's axes, those of length 1 left out and those that stay neighbours as one.
fn merged_axes(shape: &[usize], order: &[usize]) -> Vec<Axis> {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let mut axes: Vec<Axis> = vec![];
    for &axis in order.iter().filter(|&&axis| shape[axis] != 1) {
        let next = Axis { length: shape[axis], stride: strides[axis] };
        match axes.last_mut() {
            Some(last) if last.stride == next.stride * next.length => {
                *last = Axis { length: last.length * next.length, stride: next.stride };
            }
            _ => axes.push(next),
        }
    }
    axes
}

fn turn<const W: usize>(bytes: &[u8], axes: &[Axis], target: &mut [u8]) {
    let source = bytes.as_chunks::<W>().0;
    let out = target.as_chunks_mut::<W>().0;
    let mut steps = vec![1; axes.len()];
    for axis in (1..axes.len()).rev() {
        steps[axis - 1] = steps[axis] * axes[axis].length;
    }
    // the two axes that squares are cut from: the last of the result, and the last of the source
    let last = axes.len() - 1;
    let fast = axes.iter().position(|a| a.stride == 1).unwrap_or(last);
    let others: Vec<usize> = (0..last).filter(|&axis| axis != fast).collect();
    let repeats: usize = others.iter().map(|&axis| axes[axis].length).product();
    for repeat in 0..repeats {
        let (mut rest, mut from, mut to) = (repeat, 0, 0);
        for &axis in others.iter().rev() {
            let i = rest % axes[axis].length;
            rest /= axes[axis].length;
            from += i * axes[axis].stride;
            to += i * steps[axis];
        }
        let (rows, columns) = (axes[fast].length, axes[last].length);
        if fast == last {
            out[to..to + columns].copy_from_slice(&source[from..][..columns]);
            continue;
        }
        for row in (0..rows).step_by(BLOCK) {
            for column in (0..columns).step_by(BLOCK) {
                for r in row..rows.min(row + BLOCK) {
                    let out = &mut out[to + r * steps[fast]..];
                    for c in column..columns.min(column + BLOCK) {
                        out[c] = source[from + c * axes[last].stride + r];
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// By the definition: result[i] = source at the index with its entries put back.
    fn expected(values: &[u16], shape: &[usize], order: &[usize]) -> Vec<u16> {
        let target: Vec<usize> = order.iter().map(|&axis| shape[axis]).collect();
        (0..values.len())
            .map(|place| {
                let (mut rest, mut index) = (place, vec![0; shape.len()]);
                for i in (0..target.len()).rev() {
                    index[order[i]] = rest % target[i];
                    rest /= target[i];
                }
                values[index.iter().zip(shape).fold(0, |at, (i, d)| at * d + i)]
            })
            .collect()
    }

    #[test]
    fn elements_go_where_the_definition_says() {
        let cases: [(&[usize], &[usize]); 10] = [
            (&[2, 3], &[1, 0]),
            (&[70, 45], &[1, 0]),
            (&[30, 700, 130], &[0, 2, 1]),
            (&[4, 3, 5], &[0, 2, 1]),
            (&[4, 3, 5], &[2, 0, 1]),
            (&[4, 3, 5], &[2, 1, 0]),
            (&[2, 3, 4, 5], &[0, 2, 3, 1]),
            (&[2, 3, 4, 5], &[3, 1, 2, 0]),
            (&[2, 1, 4, 5], &[2, 1, 3, 0]),
            (&[3, 2, 2, 2, 3], &[4, 1, 3, 0, 2]),
        ];
        for (shape, order) in cases {
            let values: Vec<u16> = (0..shape.iter().product::<usize>()).map(|v| v as u16).collect();
            let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
            let moved = reorder(&bytes, 2, shape, order).unwrap().unwrap();
            let moved: Vec<u16> =
                moved.as_chunks::<2>().0.iter().map(|b| u16::from_le_bytes(*b)).collect();
            assert_eq!(moved, expected(&values, shape, order), "{shape:?} {order:?}");
        }
    }

    #[test]
    fn what_stays_in_place_is_not_copied() {
        for (shape, order) in
            [(&[2, 3, 1, 1][..], &[0, 2, 3, 1][..]), (&[2, 3], &[0, 1]), (&[1, 6], &[1, 0])]
        {
            assert_eq!(reorder(&[0; 24], 4, shape, order).unwrap(), None, "{shape:?}");
        }
        assert_eq!(reorder(&[], 4, &[0, 3], &[1, 0]).unwrap(), None);
        assert_eq!(reorder(&[1, 2], 2, &[], &[]).unwrap(), None);
    }

    #[test]
    fn wrong_sizes_and_axes_are_errors() {
        assert!(reorder(&[0; 24], 4, &[2, 3], &[0, 0]).is_err());
        assert!(reorder(&[0; 23], 4, &[2, 3], &[1, 0]).is_err());
        assert!(reorder(&[0; 18], 3, &[2, 3], &[1, 0]).is_err());
    }
}
