//! The tile of the `f32` matrix product in plain Rust: 4 rows x 16 columns in arrays of fixed size,
//! which the compiler turns into NEON. (Where the target has no fused multiply-add, as in baseline
//! x86-64, `mul_add` is a library call: right, but slow.)
#![allow(clippy::needless_range_loop)]

use super::gemm_tile::Tile;

pub const TILE_ROWS: usize = 4;

/// Computes one tile of 1 to 4 rows and any number of columns.
///
/// # Safety
/// `tile` keeps its contract.
pub unsafe fn run(tile: &Tile) {
    // SAFETY: the caller's; the instance is the one for this many rows.
    unsafe {
        match tile.rows {
            1 => rows::<1>(tile),
            2 => rows::<2>(tile),
            3 => rows::<3>(tile),
            _ => rows::<4>(tile),
        }
    }
}

/// # Safety
/// `tile` keeps its contract and has M rows.
unsafe fn rows<const M: usize>(tile: &Tile) {
    let mut first = 0;
    while first < tile.columns {
        // SAFETY: the caller's; each part is inside `tile` and as wide as its instance.
        first += unsafe {
            match tile.columns - first {
                16.. => f32_gemm_4x16_portable::<M, 16>(&tile.column_range(first, 16)),
                8..16 => f32_gemm_4x16_portable::<M, 8>(&tile.column_range(first, 8)),
                4..8 => f32_gemm_4x16_portable::<M, 4>(&tile.column_range(first, 4)),
                _ => f32_gemm_4x16_portable::<M, 1>(&tile.column_range(first, 1)),
            }
        }
    }
}

/// # Safety
/// `tile` keeps its contract and has M rows and W columns.
unsafe fn f32_gemm_4x16_portable<const M: usize, const W: usize>(tile: &Tile) -> usize {
    let mut sums = [[0.0f32; W]; M];
    let mut a = tile.a;
    let mut b = tile.b;
    for _ in 0..tile.depth {
        // SAFETY: `Tile` says that a[r * a_row + k * a_step] for r < M, k < depth, and W columns
        // of each of the depth rows of b, can be read.
        let row: [f32; W] = unsafe { b.cast::<[f32; W]>().read_unaligned() };
        for r in 0..M {
            // SAFETY: as above.
            let left = unsafe { *a.add(r * tile.a_row) };
            for w in 0..W {
                sums[r][w] = left.mul_add(row[w], sums[r][w]);
            }
        }
        a = a.wrapping_add(tile.a_step);
        b = b.wrapping_add(tile.b_row);
    }
    for (r, sums) in sums.iter().enumerate() {
        // SAFETY: each of the M rows of c holds W values, and nothing else refers to them.
        let c = unsafe { &mut *tile.c.add(r * tile.c_row).cast::<[f32; W]>() };
        for w in 0..W {
            let mut y = match tile.accumulate {
                true => tile.alpha.mul_add(sums[w], c[w]),
                false => tile.alpha * sums[w],
            };
            if let Some(bias) = tile.bias {
                // SAFETY: bias holds W values.
                y += unsafe { *bias.add(w) };
            }
            y = if tile.low > y { tile.low } else { y };
            c[w] = if tile.high < y { tile.high } else { y };
        }
    }
    W
}
