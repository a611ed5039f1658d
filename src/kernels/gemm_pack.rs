//! How the sides of a matrix product are laid out when it pays to copy them.
//!
//! The right side becomes panels of at most 48 columns, each with its rows one after the other and
//! padded with zeros to 16 columns; the layout is the same for every instruction set. The left side
//! is only copied together: rows (or columns) that are near each other, not a power of two apart.

use super::instruction_set::{InstructionSet, instruction_set};
use super::matrix::Matrix;
use std::ops::Range;

const LANES: usize = 16;
const PANEL_VECTORS: usize = 3;
/// Packing goes through so many rows at a time: few enough to be read side by side.
const PACKED_ROWS: usize = 16;

/// The right side of a matrix product, packed once and used many times.
#[derive(Clone)]
pub struct PackedB {
    buffer: Buffer,
    rows: usize,
    columns: usize,
}

impl PackedB {
    pub fn new(b: Matrix) -> Self {
        let mut buffer = Buffer::new();
        pack_right(instruction_set(), b, &mut buffer);
        Self { buffer, rows: b.rows(), columns: b.columns() }
    }

    /// As [`new`](Self::new), of a matrix that is read some columns at a time: `read` fills its slice
    /// with the columns of a range, one after the other.
    pub fn by_columns(
        rows: usize,
        columns: usize,
        mut read: impl FnMut(Range<usize>, &mut [f32]),
    ) -> Self {
        let mut buffer = Buffer::new();
        let size = rows.checked_mul(row_width(columns)).expect("a matrix of too many values");
        let values = buffer.resize(size);
        let mut part = vec![];
        for panel in panels(columns, PANEL_VECTORS) {
            part.resize(rows * panel.len(), 0.0);
            read(panel.clone(), &mut part);
            let part = Matrix::row_major(&part, panel.len(), rows).transposed();
            let values = &mut values[panel.start * rows..][..rows * row_width(panel.len())];
            pack_panels(instruction_set(), part, values);
        }
        Self { buffer, rows, columns }
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    /// The columns in at most `parts` ranges of about the same width, for `gemm_packed_columns`.
    pub fn column_split(&self, parts: usize) -> Vec<Range<usize>> {
        let all: Vec<_> = panels(self.columns, PANEL_VECTORS).collect();
        let parts = parts.clamp(1, all.len().max(1));
        (0..parts)
            .map(|p| &all[all.len() * p / parts..all.len() * (p + 1) / parts])
            .filter_map(|part| Some(part.first()?.start..part.last()?.end))
            .collect()
    }

    pub(super) fn starts_panel(&self, column: usize) -> bool {
        column == self.columns
            || panels(self.columns, PANEL_VECTORS).any(|panel| panel.start == column)
    }

    pub(super) fn values(&self) -> &[f32] {
        self.buffer.values()
    }
}

/// `columns` cut into as few ranges of at most `most` vectors as it takes, even in vectors.
pub fn panels(columns: usize, most: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    let vectors = columns.div_ceil(LANES);
    let panels = vectors.div_ceil(most);
    let start = move |panel: usize| (vectors * panel / panels * LANES).min(columns);
    (0..panels).map(move |panel| start(panel)..start(panel + 1))
}

/// The distance between a panel's rows.
pub fn row_width(panel_columns: usize) -> usize {
    panel_columns.next_multiple_of(LANES)
}

/// Packs `b`: the panel of columns from `start` on begins at value `start * b.rows()`.
pub fn pack_right(set: InstructionSet, b: Matrix, buffer: &mut Buffer) {
    let depth = b.rows();
    let width = row_width(b.columns());
    let values = buffer.resize(depth.checked_mul(width).expect("a matrix of too many values"));
    pack_panels(set, b, values);
}

fn pack_panels(set: InstructionSet, b: Matrix, values: &mut [f32]) {
    let depth = b.rows();
    for rows in (0..depth).step_by(PACKED_ROWS) {
        let rows = rows..depth.min(rows + PACKED_ROWS);
        let part = b.row_range(rows.clone());
        for panel in panels(b.columns(), PANEL_VECTORS) {
            let width = row_width(panel.len());
            let at = panel.start * depth + rows.start * width;
            let values = &mut values[at..][..rows.len() * width];
            let part = part.column_range(panel);
            match b.column_stride() {
                1 => copy_rows(part, values, width),
                _ => transpose(set, part, values, width),
            }
        }
    }
}

fn copy_rows(b: Matrix, values: &mut [f32], width: usize) {
    match b.columns() {
        48 => return copy_whole_rows::<48>(b, values),
        32 => return copy_whole_rows::<32>(b, values),
        _ => {}
    }
    for (k, row) in values.chunks_exact_mut(width).enumerate() {
        let (filled, padding) = row.split_at_mut(b.columns());
        filled.copy_from_slice(&b.data()[k * b.row_stride()..][..b.columns()]);
        padding.fill(0.0);
    }
}

fn copy_whole_rows<const W: usize>(b: Matrix, values: &mut [f32]) {
    let to = values.as_chunks_mut::<W>().0.iter_mut();
    for (to, from) in to.zip(b.data().chunks(b.row_stride())) {
        *to = *from.first_chunk().expect("a row of W values");
    }
}

/// Reads `b`, of a unit row stride or any other, along its columns.
fn transpose(set: InstructionSet, b: Matrix, values: &mut [f32], width: usize) {
    let (rows, columns) = (b.rows(), b.columns());
    let (even_rows, even_columns) = match b.row_stride() {
        1 => transpose_blocks(set, b, values, width),
        _ => (0, 0),
    };
    for j in 0..columns {
        let first = if j < even_columns { even_rows } else { 0 };
        for k in first..rows {
            values[k * width + j] = b.at(k, j);
        }
    }
    for row in values.chunks_exact_mut(width) {
        row[columns..].fill(0.0);
    }
}

/// Transposes as many blocks of 8 x 8 as there are, and says how many rows and columns that was.
fn transpose_blocks(
    set: InstructionSet,
    b: Matrix,
    values: &mut [f32],
    width: usize,
) -> (usize, usize) {
    #[cfg(target_arch = "x86_64")]
    if set != InstructionSet::Portable {
        let (rows, columns) = (b.rows() / 8 * 8, b.columns() / 8 * 8);
        assert!(b.row_stride() == 1 && width >= columns && values.len() >= rows * width);
        for j in (0..columns).step_by(8) {
            for k in (0..rows).step_by(8) {
                let from = b.data().as_ptr().wrapping_add(j * b.column_stride() + k);
                let to = values.as_mut_ptr().wrapping_add(k * width + j);
                // SAFETY: `set` has AVX; b holds 8 values from row k on in columns j..j + 8, and
                // values 8 rows from row k on of at least j + 8 columns.
                unsafe {
                    super::gemm_avx2::f32_transpose_8x8_avx(from, b.column_stride(), to, width);
                }
            }
        }
        return (rows, columns);
    }
    let _ = (set, b, values, width);
    (0, 0)
}

/// A copy of `a` with the same unit stride, if it has one, and an uncritical other one.
pub fn copy_left<'a>(a: Matrix, buffer: &'a mut Buffer) -> Matrix<'a> {
    if a.row_stride() == 1 && a.column_stride() != 1 {
        return copy_left(a.transposed(), buffer).transposed();
    }
    let stride = a.columns().next_multiple_of(LANES) + LANES;
    let values = buffer.resize(a.rows() * stride);
    for (i, row) in values.chunks_exact_mut(stride).enumerate() {
        let row = &mut row[..a.columns()];
        if a.column_stride() == 1 {
            row.copy_from_slice(&a.data()[i * a.row_stride()..][..a.columns()]);
        } else {
            row.iter_mut().enumerate().for_each(|(k, value)| *value = a.at(i, k));
        }
    }
    Matrix::strided(values, a.rows(), a.columns(), stride, 1)
}

#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([f32; LANES]);

/// Values that begin at a cache line.
#[derive(Clone)]
pub struct Buffer {
    lines: Vec<Line>,
}

impl Buffer {
    pub const fn new() -> Self {
        Self { lines: Vec::new() }
    }

    /// Room for `len` values, whose contents are arbitrary.
    pub fn resize(&mut self, len: usize) -> &mut [f32] {
        let lines = len.div_ceil(LANES);
        if self.lines.len() < lines {
            self.lines = vec![Line([0.0; LANES]); lines];
        }
        let values = self.lines.as_mut_ptr().cast();
        // SAFETY: a Line is 16 values without padding, and there are at least len / 16 lines.
        unsafe { std::slice::from_raw_parts_mut(values, len) }
    }

    pub fn values(&self) -> &[f32] {
        let values = self.lines.as_ptr().cast();
        // SAFETY: a Line is 16 values without padding.
        unsafe { std::slice::from_raw_parts(values, self.lines.len() * LANES) }
    }
}
