//! The tile of the `f32` matrix product for AVX-512: up to 8 rows x 48 columns in 24 zmm registers,
//! or one row x 128 columns. Knows one tile; `gemm.rs` cuts a product into tiles.
#![allow(clippy::needless_range_loop)]

use super::gemm_tile::Tile;
use std::arch::x86_64::*;

pub const TILE_ROWS: usize = 8;
const LANES: usize = 16;

type Kernel = unsafe fn(&Tile);

/// By rows, then by half vectors.
const KERNELS: [[Kernel; 6]; TILE_ROWS] = {
    macro_rules! widths {
        ($($m:literal)*) => {[$([
            f32_gemm_8x48_avx512::<$m, 0, true>,
            f32_gemm_8x48_avx512::<$m, 1, false>,
            f32_gemm_8x48_avx512::<$m, 1, true>,
            f32_gemm_8x48_avx512::<$m, 2, false>,
            f32_gemm_8x48_avx512::<$m, 2, true>,
            f32_gemm_8x48_avx512::<$m, 3, false>,
        ]),*]};
    }
    widths!(1 2 3 4 5 6 7 8)
};

/// By vectors.
const ROW_KERNELS: [Kernel; 8] = [
    f32_gemm_8x48_avx512::<1, 1, false>,
    f32_gemm_8x48_avx512::<1, 2, false>,
    f32_gemm_8x48_avx512::<1, 3, false>,
    f32_gemm_8x48_avx512::<1, 4, false>,
    f32_gemm_8x48_avx512::<1, 5, false>,
    f32_gemm_8x48_avx512::<1, 6, false>,
    f32_gemm_8x48_avx512::<1, 7, false>,
    f32_gemm_8x48_avx512::<1, 8, false>,
];

/// Computes one tile of 1 to 8 rows and 1 to 48 columns (128 if it is one row).
///
/// # Safety
/// AVX-512 F and VL are there, and `tile` keeps its contract.
pub unsafe fn run(tile: &Tile) {
    let kernel = match tile.rows {
        1 => ROW_KERNELS[tile.columns.div_ceil(LANES) - 1],
        rows => KERNELS[rows - 1][tile.columns.div_ceil(LANES / 2) - 1],
    };
    // SAFETY: the caller's; the kernel is the instance for this many rows and columns.
    unsafe { kernel(tile) }
}

/// NV vectors of 16 columns, and HALF a one if so; the last one's missing columns are masked.
#[target_feature(enable = "avx512f,avx512vl")]
unsafe fn f32_gemm_8x48_avx512<const M: usize, const NV: usize, const HALF: bool>(tile: &Tile) {
    let missing = LANES * NV + if HALF { LANES / 2 } else { 0 } - tile.columns;
    let half = 0xff_u8 >> if HALF { missing } else { 0 };
    let last = 0xffff_u16 >> if HALF { 0 } else { missing };
    let mask = |v: usize| if v + 1 == NV { last } else { 0xffff };
    let mut sums = [[_mm512_setzero_ps(); NV]; M];
    let mut half_sums = [_mm256_setzero_ps(); M];
    let mut a = tile.a;
    let mut b = tile.b;
    // SAFETY: `Tile` says that a[r * a_row + k * a_step] for r < M, k < depth, and columns of
    // each of the depth rows of b, can be read; masked lanes are not touched. The pointers are
    // advanced with wrapping_add, as the last advance may leave the allocation.
    unsafe {
        for _ in 0..tile.depth {
            let mut row = [_mm512_setzero_ps(); NV];
            let mut half_row = _mm256_setzero_ps();
            for v in 0..NV {
                row[v] = _mm512_maskz_loadu_ps(mask(v), b.add(LANES * v));
            }
            if HALF {
                half_row = _mm256_maskz_loadu_ps(half, b.add(LANES * NV));
            }
            for r in 0..M {
                let left = _mm512_set1_ps(*a.add(r * tile.a_row));
                for v in 0..NV {
                    sums[r][v] = _mm512_fmadd_ps(left, row[v], sums[r][v]);
                }
                if HALF {
                    let left = _mm512_castps512_ps256(left);
                    half_sums[r] = _mm256_fmadd_ps(left, half_row, half_sums[r]);
                }
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_row);
        }
    }
    for v in 0..NV {
        let column: [__m512; M] = std::array::from_fn(|r| sums[r][v]);
        // SAFETY: the caller's; the mask leaves the tile's columns.
        unsafe { finish(tile, LANES * v, mask(v), column) }
    }
    if HALF {
        let column = half_sums.map(|sum| _mm512_castps256_ps512(sum));
        // SAFETY: as above.
        unsafe { finish(tile, LANES * NV, half.into(), column) }
    }
}

/// The tile's epilogue for the columns of the mask from column `first` on. All of c is loaded before
/// any is stored: a load that follows a masked store to a neighbour waits for it.
///
/// # Safety
/// `tile` keeps its contract, has M rows, and the masked columns are its own.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
unsafe fn finish<const M: usize>(tile: &Tile, first: usize, mask: u16, mut sums: [__m512; M]) {
    let (alpha, low, high) =
        (_mm512_set1_ps(tile.alpha), _mm512_set1_ps(tile.low), _mm512_set1_ps(tile.high));
    let c = tile.c.wrapping_add(first);
    // SAFETY: bias, if any, and each of the M rows of c hold the columns of the mask; masked lanes
    // are neither read nor written.
    unsafe {
        for r in 0..M {
            sums[r] = match tile.accumulate {
                true => {
                    let before = _mm512_maskz_loadu_ps(mask, c.add(r * tile.c_row));
                    _mm512_fmadd_ps(alpha, sums[r], before)
                }
                false => _mm512_mul_ps(alpha, sums[r]),
            };
        }
        if let Some(bias) = tile.bias {
            let bias = _mm512_maskz_loadu_ps(mask, bias.add(first));
            for r in 0..M {
                sums[r] = _mm512_add_ps(sums[r], bias);
            }
        }
        for r in 0..M {
            let y = _mm512_min_ps(high, _mm512_max_ps(low, sums[r]));
            _mm512_mask_storeu_ps(c.add(r * tile.c_row), mask, y);
        }
    }
}
