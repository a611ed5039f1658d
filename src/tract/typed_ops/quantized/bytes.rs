//! Filters of 8-bit values for machines that multiply bytes.

use super::*;
use crate::kernels::{
    ByteScaling, PackedFilters, flip_bytes, has_byte_products, multiply_rows, scale_to_bytes,
};
use std::borrow::Cow;

/// Packed filters and what becomes of their sums. Values are unsigned bytes, those of i8 moved up by 128.
#[derive(Debug, Clone, PartialEq)]
pub struct ByteFilters {
    packed: PackedFilters,
    depth: usize,
    /// By how much the packed weights are over the real ones.
    over: i32,
    scaling: Scaling,
}

#[derive(Debug, Clone, PartialEq)]
enum Scaling {
    Fixed(ByteScaling),
    Real { biases: Vec<i32>, output: Requantize },
}

impl ByteFilters {
    /// `weights` less their zero point, rows of `depth`; `input_zero` is the zero point of the unsigned bytes.
    /// `None` where words are as fast, or weights span more than a byte.
    pub fn new(
        weights: &[i16],
        depth: usize,
        bias: &[i64],
        output: &Requantize,
        input_zero: i32,
    ) -> Option<ByteFilters> {
        let least = i32::from(*weights.iter().min()?);
        let most = i32::from(*weights.iter().max()?);
        let over = if least >= -128 && most <= 127 { 0 } else { -128 - least };
        if !has_byte_products() || output.datum.size_of() != 1 || most + over > 127 {
            return None;
        }
        let bytes: Vec<i8> = weights.iter().map(|&w| (i32::from(w) + over) as i8).collect();
        let packed = PackedFilters::new(&bytes, depth);
        // Σ (w − over)(u − zero) = Σ wu − zero Σ w − over Σ u + depth · over · zero
        let constant = (depth as i32).wrapping_mul(over).wrapping_mul(input_zero);
        let biases: Vec<i32> = bias
            .iter()
            .zip(packed.sums())
            .map(|(&bias, &sum)| {
                (bias as i32).wrapping_add(constant).wrapping_sub(sum.wrapping_mul(input_zero))
            })
            .collect();
        let fixed: Option<Vec<Multiplier>> = output.rescale.iter().map(Rescale::fixed).collect();
        let scaling = match fixed {
            Some(fixed) => {
                Scaling::Fixed(ByteScaling::new(biases, &fixed, output.zero_point, output.bounds)?)
            }
            None => Scaling::Real { biases, output: output.clone() },
        };
        Some(ByteFilters { packed, depth, over, scaling })
    }

    pub fn count(&self) -> usize {
        self.packed.count()
    }

    /// The length of rows that [`ByteFilters::apply`] takes.
    pub fn row_len(&self) -> usize {
        self.packed.row_len()
    }

    /// As many rows at once as fit the cache with their sums.
    pub fn rows_at_once(&self) -> usize {
        const BYTES: usize = 1 << 18;
        (BYTES / (self.row_len() + 4 * self.packed.result_len())).clamp(12, 96) / 12 * 12
    }

    /// What each row becomes, at `first` and every `stride` bytes behind it.
    pub fn apply(
        &self,
        rows: &[u8],
        sums: &mut Vec<i32>,
        out: &mut [u8],
        first: usize,
        stride: usize,
    ) {
        let result_len = self.packed.result_len();
        let count = rows.len() / self.row_len();
        sums.resize(count * result_len, 0);
        multiply_rows(rows, &self.packed, sums);
        for (i, row) in rows.chunks_exact(self.row_len()).enumerate() {
            let added = match self.over {
                0 => 0,
                over => {
                    let sum: i32 = row[..self.depth].iter().map(|&b| i32::from(b)).sum();
                    sum.wrapping_mul(over).wrapping_neg()
                }
            };
            let sums = &sums[i * result_len..][..self.count()];
            let out = &mut out[first + i * stride..][..self.count()];
            match &self.scaling {
                Scaling::Fixed(scaling) => scale_to_bytes(sums, added, scaling, out),
                Scaling::Real { biases, output } => {
                    for (channel, (out, (sum, bias))) in
                        out.iter_mut().zip(sums.iter().zip(biases)).enumerate()
                    {
                        *out = output.apply(channel, sum.wrapping_add(*bias).wrapping_add(added))
                            as u8;
                    }
                }
            }
        }
    }

    /// As [`ByteFilters::apply`] of all rows of `depth` bytes, to `out` without gaps.
    pub fn apply_all(&self, bytes: &[u8], out: &mut [u8]) {
        let (mut sums, at_once, count) = (vec![], self.rows_at_once(), self.count());
        let mut padded = vec![];
        let parts = bytes.chunks(at_once * self.depth).zip(out.chunks_mut(at_once * count));
        for (part, out) in parts {
            if self.depth == self.row_len() {
                self.apply(part, &mut sums, out, 0, count);
                continue;
            }
            padded.clear();
            for row in part.chunks_exact(self.depth) {
                padded.extend_from_slice(row);
                padded.resize(padded.len().next_multiple_of(self.row_len()), 0);
            }
            self.apply(&padded, &mut sums, out, 0, count);
        }
    }
}

/// What makes unsigned bytes of `datum`'s: 0x80 for i8.
pub fn flip_of(datum: DatumType) -> u8 {
    if datum == DatumType::I8 { 0x80 } else { 0 }
}

/// The zero point of unsigned bytes.
pub fn zero_of_bytes(datum: DatumType, zero_point: i32) -> i32 {
    if datum == DatumType::I8 { zero_point + 128 } else { zero_point }
}

/// 8-bit values as unsigned bytes, those of i8 moved up by 128.
pub fn unsigned_bytes(tensor: &Tensor) -> Cow<'_, [u8]> {
    let bytes = tensor.as_bytes();
    match flip_of(tensor.datum_type()) {
        0 => Cow::Borrowed(bytes),
        flip => {
            let mut flipped = vec![0; bytes.len()];
            flip_bytes(bytes, flip, &mut flipped);
            Cow::Owned(flipped)
        }
    }
}
