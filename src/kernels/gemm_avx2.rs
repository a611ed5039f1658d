//! The tile of the `f32` matrix product for AVX2 with FMA: 6 rows x 16 columns in 12 ymm registers,
//! or one row x 64 columns. Knows one tile; `gemm.rs` cuts a product into tiles.
#![allow(clippy::needless_range_loop)]

use super::gemm_tile::Tile;
use std::arch::x86_64::*;

pub const TILE_ROWS: usize = 6;
const LANES: usize = 8;

type Kernel = unsafe fn(&Tile);

const KERNELS: [[Kernel; 2]; TILE_ROWS] = {
    macro_rules! widths {
        ($($m:literal)*) => {[$([
            f32_gemm_6x16_avx2::<$m, 1>,
            f32_gemm_6x16_avx2::<$m, 2>,
        ]),*]};
    }
    widths!(1 2 3 4 5 6)
};

const ROW_KERNELS: [Kernel; 8] = [
    f32_gemm_6x16_avx2::<1, 1>,
    f32_gemm_6x16_avx2::<1, 2>,
    f32_gemm_6x16_avx2::<1, 3>,
    f32_gemm_6x16_avx2::<1, 4>,
    f32_gemm_6x16_avx2::<1, 5>,
    f32_gemm_6x16_avx2::<1, 6>,
    f32_gemm_6x16_avx2::<1, 7>,
    f32_gemm_6x16_avx2::<1, 8>,
];

/// Computes one tile of 1 to 6 rows and any number of columns.
///
/// # Safety
/// AVX2 and FMA are there, and `tile` keeps its contract.
pub unsafe fn run(tile: &Tile) {
    let kernels: &[Kernel] = match tile.rows {
        1 => &ROW_KERNELS,
        rows => &KERNELS[rows - 1],
    };
    for first in (0..tile.columns).step_by(LANES * kernels.len()) {
        let part = tile.column_range(first, LANES * kernels.len());
        // SAFETY: the caller's; `part` lies inside `tile`, and the kernel is the instance for
        // this many rows and vectors.
        unsafe { kernels[part.columns.div_ceil(LANES) - 1](&part) }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn f32_gemm_6x16_avx2<const M: usize, const NV: usize>(tile: &Tile) {
    if tile.columns == LANES * NV {
        // SAFETY: the caller's.
        unsafe { f32_gemm_6x16_avx2_tail::<M, NV, false>(tile) }
    } else {
        // SAFETY: the caller's.
        unsafe { f32_gemm_6x16_avx2_tail::<M, NV, true>(tile) }
    }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn f32_gemm_6x16_avx2_tail<const M: usize, const NV: usize, const TAIL: bool>(tile: &Tile) {
    let tail = (tile.columns - LANES * (NV - 1)) as i32;
    let lanes = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let mask = _mm256_cmpgt_epi32(_mm256_set1_epi32(tail), lanes);
    let mut sums = [[_mm256_setzero_ps(); NV]; M];
    let mut a = tile.a;
    let mut b = tile.b;
    // SAFETY: `Tile` says that a[r * a_row + k * a_step] for r < M, k < depth, and columns of
    // each of the depth rows of b, can be read; masked lanes are not touched. The pointers are
    // advanced with wrapping_add, as the last advance may leave the allocation.
    unsafe {
        for _ in 0..tile.depth {
            let mut row = [_mm256_setzero_ps(); NV];
            for v in 0..NV {
                row[v] = load::<TAIL>(b.add(LANES * v), v + 1 == NV, mask);
            }
            for r in 0..M {
                let left = _mm256_set1_ps(*a.add(r * tile.a_row));
                for v in 0..NV {
                    sums[r][v] = _mm256_fmadd_ps(left, row[v], sums[r][v]);
                }
            }
            a = a.wrapping_add(tile.a_step);
            b = b.wrapping_add(tile.b_row);
        }
    }
    let (alpha, low, high) =
        (_mm256_set1_ps(tile.alpha), _mm256_set1_ps(tile.low), _mm256_set1_ps(tile.high));
    for v in 0..NV {
        let last = v + 1 == NV;
        // SAFETY: bias, if any, and each of the M rows of c hold `columns` values; masked lanes
        // are neither read nor written.
        unsafe {
            let bias = tile.bias.map(|bias| load::<TAIL>(bias.add(LANES * v), last, mask));
            for r in 0..M {
                let c = tile.c.add(r * tile.c_row + LANES * v);
                let mut y = match tile.accumulate {
                    true => _mm256_fmadd_ps(alpha, sums[r][v], load::<TAIL>(c, last, mask)),
                    false => _mm256_mul_ps(alpha, sums[r][v]),
                };
                if let Some(bias) = bias {
                    y = _mm256_add_ps(y, bias);
                }
                y = _mm256_min_ps(high, _mm256_max_ps(low, y));
                match TAIL && last {
                    true => _mm256_maskstore_ps(c, mask, y),
                    false => _mm256_storeu_ps(c, y),
                }
            }
        }
    }
}

/// # Safety
/// 8 values can be read at `from`, or those of the mask if this is the `last` vector of a TAIL.
#[target_feature(enable = "avx2")]
#[inline]
unsafe fn load<const TAIL: bool>(from: *const f32, last: bool, mask: __m256i) -> __m256 {
    // SAFETY: the caller's.
    unsafe {
        match TAIL && last {
            true => _mm256_maskload_ps(from, mask),
            false => _mm256_loadu_ps(from),
        }
    }
}

/// `to[k * to_row + j] = from[j * from_column + k]` for 8 x 8 values.
///
/// # Safety
/// AVX is there; the values named can be read and written, and do not overlap.
#[target_feature(enable = "avx")]
pub unsafe fn f32_transpose_8x8_avx(
    from: *const f32,
    from_column: usize,
    to: *mut f32,
    to_row: usize,
) {
    // SAFETY: the caller's.
    unsafe {
        let x: [__m256; 8] = std::array::from_fn(|j| _mm256_loadu_ps(from.add(j * from_column)));
        let mut pairs = x;
        for j in [0, 2, 4, 6] {
            pairs[j] = _mm256_unpacklo_ps(x[j], x[j + 1]);
            pairs[j + 1] = _mm256_unpackhi_ps(x[j], x[j + 1]);
        }
        let mut fours = pairs;
        for j in [0, 4] {
            for half in [0, 1] {
                let (low, high) = (pairs[j + half], pairs[j + half + 2]);
                fours[j + 2 * half] = _mm256_shuffle_ps::<0x44>(low, high);
                fours[j + 2 * half + 1] = _mm256_shuffle_ps::<0xee>(low, high);
            }
        }
        for k in 0..4 {
            let (left, right) = (fours[k], fours[k + 4]);
            _mm256_storeu_ps(to.add(k * to_row), _mm256_permute2f128_ps::<0x20>(left, right));
            let lower = to.add((k + 4) * to_row);
            _mm256_storeu_ps(lower, _mm256_permute2f128_ps::<0x31>(left, right));
        }
    }
}
