//! The product of rows of bytes for AVX-512 with VNNI: tiles of up to 12 rows x 32 columns in 24 zmm registers.
#![allow(clippy::needless_range_loop)]

use super::instruction_set::{InstructionSet, instruction_set};
use super::quantized::PANEL;
use std::arch::x86_64::*;
use std::sync::OnceLock;

const TILE_ROWS: usize = 12;
/// Bytes of a vector.
const VECTOR: usize = 64;

pub fn is_in_use() -> bool {
    static FOUND: OnceLock<bool> = OnceLock::new();
    *FOUND.get_or_init(|| {
        instruction_set() == InstructionSet::Avx512 && is_x86_feature_detected!("avx512vnni")
    })
}

type Kernel = unsafe fn(&Tile);

struct Tile {
    /// The first of the tile's rows, each `row_len` bytes after the one before.
    rows: *const u8,
    row_len: usize,
    /// `row_len / 4` times 32 columns of 4 bytes.
    panel: *const i8,
    /// 32 sums for each row, each row `out_len` after the one before.
    out: *mut i32,
    out_len: usize,
}

const KERNELS: [Kernel; TILE_ROWS] = [
    u8i8_gemm_12x32_vnni::<1>,
    u8i8_gemm_12x32_vnni::<2>,
    u8i8_gemm_12x32_vnni::<3>,
    u8i8_gemm_12x32_vnni::<4>,
    u8i8_gemm_12x32_vnni::<5>,
    u8i8_gemm_12x32_vnni::<6>,
    u8i8_gemm_12x32_vnni::<7>,
    u8i8_gemm_12x32_vnni::<8>,
    u8i8_gemm_12x32_vnni::<9>,
    u8i8_gemm_12x32_vnni::<10>,
    u8i8_gemm_12x32_vnni::<11>,
    u8i8_gemm_12x32_vnni::<12>,
];

/// `quantized::multiply_rows`, where [`is_in_use`].
///
/// # Panics
/// The slices do not fit.
pub fn multiply_rows(
    rows: &[u8],
    panels: &[i8],
    row_len: usize,
    result_len: usize,
    out: &mut [i32],
) {
    assert!(is_in_use(), "VNNI");
    let count = rows.len() / row_len;
    assert!(row_len.is_multiple_of(4) && result_len.is_multiple_of(PANEL), "rows and panels");
    assert!(panels.len() == row_len * result_len && out.len() == count * result_len, "sizes");
    for first_column in (0..result_len).step_by(PANEL) {
        let panel = panels[first_column * row_len..][..PANEL * row_len].as_ptr();
        for first in (0..count).step_by(TILE_ROWS) {
            let tile = Tile {
                rows: rows[first * row_len..].as_ptr(),
                row_len,
                panel,
                out: out[first * result_len + first_column..].as_mut_ptr(),
                out_len: result_len,
            };
            let kernel = KERNELS[TILE_ROWS.min(count - first) - 1];
            // SAFETY: the features are there, and the asserted sizes hold the tile's rows, panel and sums.
            unsafe { kernel(&tile) }
        }
    }
}

/// # Safety
/// `tile` has M rows of `row_len` bytes, a multiple of 4, a whole panel, and room for M rows of 32 sums.
#[target_feature(enable = "avx512f,avx512vnni")]
unsafe fn u8i8_gemm_12x32_vnni<const M: usize>(tile: &Tile) {
    let mut sums = [[_mm512_setzero_si512(); 2]; M];
    let mut panel = tile.panel;
    for k in 0..tile.row_len / 4 {
        // SAFETY: the caller's; one step of the panel is two vectors.
        unsafe {
            let right =
                [_mm512_loadu_si512(panel.cast()), _mm512_loadu_si512(panel.add(VECTOR).cast())];
            for r in 0..M {
                let left = tile.rows.add(r * tile.row_len + 4 * k).cast::<i32>();
                let left = _mm512_set1_epi32(left.read_unaligned());
                for v in 0..2 {
                    sums[r][v] = _mm512_dpbusd_epi32(sums[r][v], left, right[v]);
                }
            }
        }
        panel = panel.wrapping_add(2 * VECTOR);
    }
    for r in 0..M {
        for v in 0..2 {
            // SAFETY: the caller's.
            unsafe {
                _mm512_storeu_si512(tile.out.add(r * tile.out_len + 16 * v).cast(), sums[r][v])
            }
        }
    }
}
