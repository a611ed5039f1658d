//! Chunked datasets: blocks of an array, each packed by itself.

use super::{File, Hdf5Error, Result};
use bytes::Bytes;
use std::collections::HashSet;
use std::io::Read;

/// What was done to a chunk's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Filter {
    Deflate,
    /// First bytes of all elements, then second bytes, …
    Shuffle,
    /// Four bytes of checksum behind the data.
    Fletcher32,
}

#[derive(Debug, Clone)]
pub struct Chunk {
    /// Where its first element is in the array.
    place: Vec<usize>,
    /// Bit i: the i-th filter was left out.
    mask: u32,
    data: Bytes,
}

/// Deflate packs at most so many bytes into one.
const MOST_PACKED: usize = 1032;

impl File {
    pub fn chunks(
        &mut self,
        address: u64,
        rank: usize,
        above: Option<u8>,
        chunks: &mut Vec<Chunk>,
    ) -> Result<()> {
        let (node, mut cursor) = self.tree_node(address, 1, above)?;
        for _ in 0..node.entries {
            let length = cursor.u32()?;
            let mask = cursor.number(4)? as u32;
            let place: Vec<usize> = (0..rank)
                .map(|_| {
                    let at = usize::try_from(cursor.number(8)?);
                    at.map_err(|_| Hdf5Error::Impossible { what: "chunk" })
                })
                .collect::<Result<_>>()?;
            cursor.skip(8)?;
            let child = cursor.offset()?.ok_or(Hdf5Error::Impossible { what: "chunk" })?;
            match node.level {
                0 => {
                    let data = self.range(child, length, "chunk")?;
                    chunks.push(Chunk { place, mask, data });
                }
                level => self.chunks(child, rank, Some(level), chunks)?,
            }
        }
        Ok(())
    }
}

/// The array that chunks of equal edges make; each must be there.
pub fn unpack(
    chunks: &[Chunk],
    edges: &[usize],
    filters: &[Filter],
    shape: &[usize],
    size: usize,
    file_bytes: usize,
) -> Result<Bytes> {
    let length = super::datatype::array_bytes(shape, size)?;
    let chunk_bytes = super::datatype::array_bytes(edges, size)?;
    let limit = file_bytes.saturating_mul(MOST_PACKED);
    let needed =
        shape.iter().zip(edges).try_fold(1usize, |n, (d, e)| n.checked_mul(d.div_ceil(*e)));
    let fits = edges.len() == shape.len() && length <= limit && chunk_bytes <= limit;
    if !fits || needed != Some(chunks.len()) {
        return Err(Hdf5Error::Impossible { what: "number of chunks" });
    }
    let mut array = vec![0u8; length];
    let mut places = HashSet::new();
    for chunk in chunks {
        let inside =
            chunk.place.iter().zip(shape).zip(edges).all(|((p, d), e)| p < d && p % e == 0);
        if !inside || !places.insert(&chunk.place) {
            return Err(Hdf5Error::Impossible { what: "place of a chunk" });
        }
        let data = unfiltered(chunk, filters, size, chunk_bytes)?;
        place(&mut array, shape, edges, chunk, &data, size);
    }
    Ok(array.into())
}

fn unfiltered(chunk: &Chunk, filters: &[Filter], size: usize, length: usize) -> Result<Vec<u8>> {
    let mut data = chunk.data.to_vec();
    for (index, filter) in filters.iter().enumerate().rev() {
        if index < 32 && chunk.mask >> index & 1 == 1 {
            continue;
        }
        data = match filter {
            Filter::Deflate => {
                let mut unpacked = vec![];
                // a checksum may be within
                let most = length as u64 + 5;
                let mut reader = flate2::read::ZlibDecoder::new(data.as_slice()).take(most);
                reader.read_to_end(&mut unpacked).map_err(|_| Hdf5Error::BadChunk)?;
                unpacked
            }
            Filter::Shuffle => {
                let count = data.len() / size.max(1);
                let byte = |i: usize| match i < count * size {
                    true => data[(i % size) * count + i / size],
                    false => data[i],
                };
                (0..data.len()).map(byte).collect()
            }
            Filter::Fletcher32 => {
                data.truncate(data.len().saturating_sub(4));
                data
            }
        };
    }
    match data.len() == length {
        true => Ok(data),
        false => Err(Hdf5Error::BadChunk),
    }
}

/// Copies what of a chunk is inside the array, row by row.
fn place(
    array: &mut [u8],
    shape: &[usize],
    edges: &[usize],
    chunk: &Chunk,
    data: &[u8],
    size: usize,
) {
    let Some(last) = shape.len().checked_sub(1) else {
        array.copy_from_slice(data);
        return;
    };
    let row = (shape[last] - chunk.place[last]).min(edges[last]) * size;
    let rows: usize = edges[..last].iter().product();
    for index in 0..rows {
        let (mut rest, mut at, mut stride, mut inside) = (index, 0, 1, true);
        for axis in (0..last).rev() {
            let place = chunk.place[axis].saturating_add(rest % edges[axis]);
            rest /= edges[axis];
            if place >= shape[axis] {
                inside = false;
                break;
            }
            at += place * stride;
            stride *= shape[axis];
        }
        if inside {
            let to = (at * shape[last] + chunk.place[last]) * size;
            let from = index * edges[last] * size;
            array[to..to + row].copy_from_slice(&data[from..from + row]);
        }
    }
}
