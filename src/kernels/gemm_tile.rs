//! One tile of a matrix product: what `gemm.rs` hands to the instruction sets' kernels.

use super::instruction_set::InstructionSet;

/// `c = clamp(alpha * a * b + c if accumulate + bias, low, high)` on `rows` x `columns` values of c.
///
/// Contract: `a[r * a_row + k * a_step]` (r < rows, k < depth), `b[k * b_row + j]` (j < columns),
/// `bias[j]` can be read, `c[r * c_row + j]` read and written, and c overlaps nothing else.
#[derive(Clone, Copy)]
pub struct Tile {
    pub a: *const f32,
    pub a_row: usize,
    pub a_step: usize,
    pub b: *const f32,
    pub b_row: usize,
    pub c: *mut f32,
    pub c_row: usize,
    pub rows: usize,
    pub columns: usize,
    pub depth: usize,
    pub alpha: f32,
    pub accumulate: bool,
    pub bias: Option<*const f32>,
    pub low: f32,
    pub high: f32,
}

impl Tile {
    /// The part of at most `width` columns that starts at column `first` (< columns).
    pub fn column_range(&self, first: usize, width: usize) -> Self {
        Self {
            b: self.b.wrapping_add(first),
            c: self.c.wrapping_add(first),
            bias: self.bias.map(|bias| bias.wrapping_add(first)),
            columns: width.min(self.columns - first),
            ..*self
        }
    }
}

/// The most rows a tile may have.
pub fn tile_rows(set: InstructionSet) -> usize {
    match set {
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx512 => super::gemm_avx512::TILE_ROWS,
        #[cfg(target_arch = "x86_64")]
        InstructionSet::Avx2 => super::gemm_avx2::TILE_ROWS,
        _ => super::gemm_portable::TILE_ROWS,
    }
}

/// Computes `tile`: 1 to `tile_rows` rows, 1 to 48 columns (128 if it is one row).
///
/// # Safety
/// This machine has `set`, and `tile` keeps its contract.
pub unsafe fn run_tile(set: InstructionSet, tile: &Tile) {
    // SAFETY: the caller's.
    unsafe {
        match set {
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx512 => super::gemm_avx512::run(tile),
            #[cfg(target_arch = "x86_64")]
            InstructionSet::Avx2 => super::gemm_avx2::run(tile),
            _ => super::gemm_portable::run(tile),
        }
    }
}
