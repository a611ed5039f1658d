//! Borrowed views of `f32` matrices. A view is checked when it is made: every element it can name
//! lies inside its slice, which is what lets the kernels below go without bounds checks.

use std::ops::Range;

/// A read-only view; element (i, j) is `data[i * row_stride + j * column_stride]`.
#[derive(Clone, Copy, Debug)]
pub struct Matrix<'a> {
    data: &'a [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
    column_stride: usize,
}

impl<'a> Matrix<'a> {
    /// Rows of `columns` values, one after the other. Panics if `data` is too short.
    pub fn row_major(data: &'a [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns, 1)
    }

    /// A view with any strides, counted in values. Panics if `data` is too short.
    pub fn strided(
        data: &'a [f32],
        rows: usize,
        columns: usize,
        row_stride: usize,
        column_stride: usize,
    ) -> Self {
        let view = Self { data, rows, columns, row_stride, column_stride };
        assert_holds(data.len(), rows, columns, row_stride, column_stride);
        view
    }

    /// The transpose, of the same values.
    pub fn transposed(self) -> Self {
        Self {
            rows: self.columns,
            columns: self.rows,
            row_stride: self.column_stride,
            column_stride: self.row_stride,
            ..self
        }
    }

    /// Some of the rows.
    pub fn row_range(self, range: Range<usize>) -> Self {
        assert!(
            range.start <= range.end && range.end <= self.rows,
            "rows {range:?} of a matrix of {} rows",
            self.rows
        );
        let skipped = if range.is_empty() { 0 } else { range.start * self.row_stride };
        let data = &self.data[skipped.min(self.data.len())..];
        Self { data, rows: range.len(), ..self }
    }

    /// Some of the columns.
    pub fn column_range(self, range: Range<usize>) -> Self {
        self.transposed().row_range(range).transposed()
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub fn column_stride(&self) -> usize {
        self.column_stride
    }

    pub fn at(&self, row: usize, column: usize) -> f32 {
        self.data[row * self.row_stride + column * self.column_stride]
    }

    pub(super) fn data(&self) -> &'a [f32] {
        self.data
    }
}

/// A view to write to: rows of contiguous values that do not overlap.
#[derive(Debug)]
pub struct MatrixMut<'a> {
    data: &'a mut [f32],
    rows: usize,
    columns: usize,
    row_stride: usize,
}

impl<'a> MatrixMut<'a> {
    /// Rows of `columns` values, one after the other. Panics if `data` is too short.
    pub fn row_major(data: &'a mut [f32], rows: usize, columns: usize) -> Self {
        Self::strided(data, rows, columns, columns)
    }

    /// Rows `row_stride` values apart. Panics if `data` is too short or rows would overlap.
    pub fn strided(data: &'a mut [f32], rows: usize, columns: usize, row_stride: usize) -> Self {
        assert!(
            rows < 2 || row_stride >= columns,
            "rows of {columns} values that are {row_stride} apart overlap"
        );
        assert_holds(data.len(), rows, columns, row_stride, 1);
        Self { data, rows, columns, row_stride }
    }

    /// The rows before `row` and the rest, to be written by two threads.
    pub fn split_rows(self, row: usize) -> (MatrixMut<'a>, MatrixMut<'a>) {
        assert!(row <= self.rows, "row {row} of a matrix of {} rows", self.rows);
        let Self { data, rows, columns, row_stride } = self;
        let at = row.saturating_mul(row_stride).min(data.len());
        let (first, second) = data.split_at_mut(at);
        (
            MatrixMut { data: first, rows: row, columns, row_stride },
            MatrixMut { data: second, rows: rows - row, columns, row_stride },
        )
    }

    pub fn rows(&self) -> usize {
        self.rows
    }

    pub fn columns(&self) -> usize {
        self.columns
    }

    pub fn row_stride(&self) -> usize {
        self.row_stride
    }

    pub fn row_mut(&mut self, row: usize) -> &mut [f32] {
        &mut self.data[row * self.row_stride..][..self.columns]
    }

    pub(super) fn data_mut(&mut self) -> &mut [f32] {
        self.data
    }
}

fn assert_holds(len: usize, rows: usize, columns: usize, row_stride: usize, column_stride: usize) {
    if rows == 0 || columns == 0 {
        return;
    }
    let last_row = (rows - 1).checked_mul(row_stride);
    let last_column = (columns - 1).checked_mul(column_stride);
    let needed = last_row
        .zip(last_column)
        .and_then(|(r, c)| r.checked_add(c))
        .and_then(|last| last.checked_add(1));
    assert!(
        needed.is_some_and(|needed| needed <= len),
        "a {rows} x {columns} matrix with strides {row_stride}, {column_stride} does not fit in {len} values"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn views_name_the_right_values() {
        let data: Vec<f32> = (0..12).map(|v| v as f32).collect();
        let m = Matrix::row_major(&data, 3, 4);
        assert_eq!(m.at(2, 1), 9.0);
        assert_eq!(m.transposed().at(1, 2), 9.0);
        assert_eq!(m.row_range(1..3).at(0, 0), 4.0);
        assert_eq!(m.column_range(2..4).at(2, 1), 11.0);
        assert_eq!(m.row_range(3..3).rows(), 0);
    }

    #[test]
    fn split_rows_shares_out_every_row() {
        let mut data: Vec<f32> = (0..11).map(|v| v as f32).collect();
        let (mut a, mut b) = MatrixMut::strided(&mut data, 3, 3, 4).split_rows(1);
        assert_eq!(a.row_mut(0), [0.0, 1.0, 2.0]);
        assert_eq!(b.row_mut(1), [8.0, 9.0, 10.0]);
    }

    #[test]
    #[should_panic(expected = "does not fit in 11 values")]
    fn a_slice_too_short_panics() {
        Matrix::row_major(&[0.0; 11], 3, 4);
    }

    #[test]
    #[should_panic(expected = "does not fit")]
    fn strides_that_overflow_panic() {
        Matrix::strided(&[0.0; 4], 3, 3, usize::MAX, 2);
    }

    #[test]
    #[should_panic(expected = "overlap")]
    fn rows_that_overlap_panic() {
        MatrixMut::strided(&mut [0.0; 12], 3, 4, 3);
    }
}
