//! The `f32` matrix product: `c = activation(alpha * a * b + beta * c + bias)`.
//!
//! Cuts a product into tiles for the instruction set at hand and packs what is too large for the
//! cache; small products, such as a training step's, are read in place. No threads inside: split the
//! rows (`Matrix::row_range`, `MatrixMut::split_rows`), or a packed right side's columns
//! (`PackedB::column_split`). One element's value depends on its row of a, its column of b and the
//! epilogue alone: neither on the shape around it nor on the instruction set (`gemm_scalar.rs`).

use super::elementwise::activate;
use super::gemm_pack::{Buffer, PackedB, copy_left, pack_right, panels, row_width};
use super::gemm_tile::{Tile, run_tile, tile_rows};
use super::instruction_set::{InstructionSet, instruction_set};
use super::matrix::{Matrix, MatrixMut};
use std::cell::RefCell;
use std::ops::Range;

/// What is applied to each value on its way out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Activation {
    #[default]
    Identity,
    Relu,
    Relu6,
    Sigmoid,
    Tanh,
}

/// What becomes of a product: `c = activation(alpha * product + (c if accumulate) + bias)`.
#[derive(Clone, Copy, Debug)]
pub struct Epilogue<'a> {
    pub alpha: f32,
    /// Add to what c holds (beta = 1) instead of overwriting it (beta = 0, c may hold anything).
    pub accumulate: bool,
    /// One value per column.
    pub bias: Option<&'a [f32]>,
    pub activation: Activation,
}

impl Default for Epilogue<'_> {
    /// `c = product`.
    fn default() -> Self {
        Self { alpha: 1.0, accumulate: false, bias: None, activation: Activation::Identity }
    }
}

impl Epilogue<'_> {
    /// `c += alpha * product`: with minus the learning rate, xᵀ and dz, the SGD update itself.
    pub fn update(alpha: f32) -> Self {
        Self { alpha, accumulate: true, ..Self::default() }
    }
}

/// The product of `a` and `b` into `c`. Panics if the shapes do not agree.
///
/// `b` is read in place if its rows are contiguous and the product is small; else it is packed.
pub fn gemm(a: Matrix, b: Matrix, c: MatrixMut, epilogue: &Epilogue) {
    let set = instruction_set();
    let copies = Copies::that_pay(set, a.rows(), b.columns(), a.columns());
    gemm_on(set, copies, a, b, c, epilogue);
}

/// As [`gemm`], with a right side that was packed before.
pub fn gemm_packed(a: Matrix, b: &PackedB, c: MatrixMut, epilogue: &Epilogue) {
    gemm_packed_on(instruction_set(), a, b, 0..b.columns(), c, epilogue);
}

/// Some columns of a packed product; `c` and the bias have only these. Panics unless the range
/// starts and ends where ranges of [`PackedB::column_split`] do.
pub fn gemm_packed_columns(
    a: Matrix,
    b: &PackedB,
    columns: Range<usize>,
    c: MatrixMut,
    epilogue: &Epilogue,
) {
    gemm_packed_on(instruction_set(), a, b, columns, c, epilogue);
}

/// Where b has no contiguous rows, it is packed anyway.
pub(super) fn gemm_on(
    set: InstructionSet,
    copies: Copies,
    a: Matrix,
    b: Matrix,
    mut c: MatrixMut,
    epilogue: &Epilogue,
) {
    let (m, n, depth) = (a.rows(), b.columns(), a.columns());
    assert_shapes(&a, b.rows(), n, &c, epilogue);
    if m == 0 || n == 0 {
        return;
    }
    if b.column_stride() == 1 && !copies.right {
        for (k, step) in depth_steps(depth, epilogue) {
            let right = Right::InPlace(b.row_range(k.clone()));
            let block = Block { right, columns: 0..n, c_first: 0, copy_left: copies.left, step };
            multiply(set, a.column_range(k), &block, &mut c);
        }
    } else {
        RIGHT.with_borrow_mut(|buffer| {
            for first in (0..n).step_by(PACKED_COLUMNS) {
                let b = b.column_range(first..n.min(first + PACKED_COLUMNS));
                for (k, step) in depth_steps(depth, epilogue) {
                    pack_right(set, b.row_range(k.clone()), buffer);
                    let right = Right::Panels {
                        values: buffer.values(),
                        depth: k.len(),
                        first: 0,
                        columns: b.columns(),
                    };
                    let block = Block {
                        right,
                        columns: 0..b.columns(),
                        c_first: first,
                        copy_left: copies.left,
                        step,
                    };
                    multiply(set, a.column_range(k), &block, &mut c);
                }
            }
        });
    }
    activate_rows(&mut c, epilogue.activation);
}

pub(super) fn gemm_packed_on(
    set: InstructionSet,
    a: Matrix,
    b: &PackedB,
    columns: Range<usize>,
    mut c: MatrixMut,
    epilogue: &Epilogue,
) {
    assert!(
        b.starts_panel(columns.start) && b.starts_panel(columns.end),
        "columns {columns:?} do not start and end with a panel"
    );
    assert_shapes(&a, b.rows(), columns.len(), &c, epilogue);
    if c.rows() == 0 || columns.is_empty() {
        return;
    }
    let copy_left = Copies::that_pay(set, a.rows(), columns.len(), a.columns()).left;
    for (k, step) in depth_steps(b.rows(), epilogue) {
        let right = Right::Panels {
            values: b.values(),
            depth: b.rows(),
            first: k.start,
            columns: b.columns(),
        };
        let block = Block { right, columns: columns.clone(), c_first: 0, copy_left, step };
        multiply(set, a.column_range(k), &block, &mut c);
    }
    activate_rows(&mut c, epilogue.activation);
}

/// The depth is summed in blocks. They are part of the result's definition, and depend on nothing
/// but the depth.
pub fn depth_blocks(depth: usize) -> impl Iterator<Item = Range<usize>> {
    let block = if depth <= 1024 { depth.max(1) } else { 512 };
    (0..depth.max(1)).step_by(block).map(move |k| k..depth.min(k + block))
}

/// A product whose right side is packed keeps about this many columns of it: 8 MiB.
const PACKED_COLUMNS: usize = 4096;
/// Rows of the left side that stay in L2 while all panels pass by.
const BLOCK_ROWS: usize = 128;
/// A right side of so many values stays in L1 while all rows pass by.
const L1_VALUES: usize = 6 << 10;

thread_local! {
    static LEFT: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
    static RIGHT: RefCell<Buffer> = const { RefCell::new(Buffer::new()) };
}

/// What is copied together before it is multiplied.
#[derive(Clone, Copy, Debug)]
pub struct Copies {
    pub left: bool,
    pub right: bool,
}

impl Copies {
    /// Measured. In place, rows far apart share cache sets; narrower tiles pass by more often.
    fn that_pay(set: InstructionSet, m: usize, n: usize, depth: usize) -> Self {
        let (left, right) = match set {
            InstructionSet::Avx512 => (1 << 20, 512 << 10),
            _ => (128 << 10, 64 << 10),
        };
        Self { left: m * depth > left && n >= 192, right: n * depth > right && m >= 64 }
    }
}

/// A block of the right side's rows.
enum Right<'a> {
    InPlace(Matrix<'a>),
    /// Panels of `columns` columns and `depth` rows each, of which the block begins at row `first`.
    Panels {
        values: &'a [f32],
        depth: usize,
        first: usize,
        columns: usize,
    },
}

impl Right<'_> {
    /// The block's first row in some panel, and the distance to the next row.
    fn panel(&self, columns: &Range<usize>) -> (*const f32, usize) {
        match self {
            Self::InPlace(b) => (b.data().as_ptr().wrapping_add(columns.start), b.row_stride()),
            Self::Panels { values, depth, first, .. } => {
                let width = row_width(columns.len());
                let at = columns.start * depth + first * width;
                (values.as_ptr().wrapping_add(at), width)
            }
        }
    }
}

/// What the tiles of one block of the depth do with their sums.
struct Step<'a> {
    alpha: f32,
    accumulate: bool,
    bias: Option<&'a [f32]>,
    low: f32,
    high: f32,
}

fn depth_steps<'a>(
    depth: usize,
    epilogue: &Epilogue<'a>,
) -> impl Iterator<Item = (Range<usize>, Step<'a>)> {
    let Epilogue { alpha, accumulate, bias, activation } = *epilogue;
    depth_blocks(depth).map(move |k| {
        let last = k.end == depth;
        let (low, high) = match activation {
            Activation::Relu if last => (0.0, f32::INFINITY),
            Activation::Relu6 if last => (0.0, 6.0),
            _ => (f32::NEG_INFINITY, f32::INFINITY),
        };
        let step = Step {
            alpha,
            accumulate: accumulate || k.start > 0,
            bias: bias.filter(|_| last),
            low,
            high,
        };
        (k, step)
    })
}

/// One block of the depth: some `columns` of `right`, written from column `c_first` on.
struct Block<'a> {
    right: Right<'a>,
    columns: Range<usize>,
    c_first: usize,
    copy_left: bool,
    step: Step<'a>,
}

fn multiply(set: InstructionSet, a: Matrix, block: &Block, c: &mut MatrixMut) {
    if !block.copy_left {
        return multiply_rows(set, a, 0, block, c);
    }
    let most = BLOCK_ROWS / tile_rows(set) * tile_rows(set);
    LEFT.with_borrow_mut(|buffer| {
        for first in (0..a.rows()).step_by(most) {
            let rows = a.row_range(first..a.rows().min(first + most));
            multiply_rows(set, copy_left(rows, buffer), first, block, c);
        }
    });
}

/// As `multiply`, for rows of the left side that are written from row `first` on.
fn multiply_rows(set: InstructionSet, a: Matrix, first: usize, block: &Block, c: &mut MatrixMut) {
    let Block { right, columns, c_first, step, .. } = block;
    let (m, depth, c_row) = (a.rows(), a.columns(), c.row_stride());
    assert!(first + m <= c.rows() && c_first + columns.len() <= c.columns());
    let (c, left) = (c.data_mut().as_mut_ptr(), a.data().as_ptr());
    let run = |rows: Range<usize>, panel: Range<usize>| {
        let (b, b_row) = right.panel(&panel);
        let column = c_first + panel.start - columns.start;
        let tile = Tile {
            a: left.wrapping_add(rows.start * a.row_stride()),
            a_row: a.row_stride(),
            a_step: a.column_stride(),
            b,
            b_row,
            c: c.wrapping_add((first + rows.start) * c_row + column),
            c_row,
            rows: rows.len(),
            columns: panel.len(),
            depth,
            alpha: step.alpha,
            accumulate: step.accumulate,
            bias: step.bias.map(|bias| bias[column..][..panel.len()].as_ptr()),
            low: step.low,
            high: step.high,
        };
        // SAFETY: `set` is available. The views hold all their elements; `rows` are rows of a and,
        // moved by `first`, of c; `panel` are columns of right, whose rows are a's columns, and,
        // moved, of c. c is borrowed mutably, so it overlaps nothing.
        unsafe { run_tile(set, &tile) }
    };
    let tiles = m.div_ceil(tile_rows(set));
    let rows = (0..tiles).map(|t| m * t / tiles..m * (t + 1) / tiles);
    let panels = right_panels(right, m).filter(|panel| columns.contains(&panel.start));
    if columns.len() * depth <= L1_VALUES {
        rows.for_each(|rows| panels.clone().for_each(|panel| run(rows.clone(), panel)));
    } else {
        panels.for_each(|panel| rows.clone().for_each(|rows| run(rows, panel.clone())));
    }
}

/// The columns of the tiles. One row alone has room for wider tiles.
fn right_panels(right: &Right, m: usize) -> impl Iterator<Item = Range<usize>> + Clone {
    match right {
        Right::InPlace(b) if m == 1 => panels(b.columns(), 8),
        Right::InPlace(b) => panels(b.columns(), 3),
        Right::Panels { columns, .. } => panels(*columns, 3),
    }
}

/// The activations that are no clamp, which the tiles leave out.
fn activate_rows(c: &mut MatrixMut, activation: Activation) {
    if matches!(activation, Activation::Sigmoid | Activation::Tanh) {
        for row in 0..c.rows() {
            activate(activation, c.row_mut(row));
        }
    }
}

fn assert_shapes(a: &Matrix, depth: usize, n: usize, c: &MatrixMut, epilogue: &Epilogue) {
    let (m, bias) = (a.rows(), epilogue.bias.map_or(n, <[f32]>::len));
    assert!(
        a.columns() == depth && c.rows() == m && c.columns() == n && bias == n,
        "a {m} x {} times b {depth} x {n} with a bias of {bias} into c {} x {}",
        a.columns(),
        c.rows(),
        c.columns()
    );
}
