//! The matrix product of dense layers and their gradients, with bias and activation, on our kernels.

use super::*;
use crate::kernels::{self, Activation, Epilogue, Matrix, MatrixMut, PackedB};
use crate::tract::mapped::read_mapped;

/// `activation(op(A) · op(B) + bias)` in float32.
///
/// A is `[rows…, inner…]` with `row_axes` leading axes as rows, or `[inner, rows]` when
/// `transpose_a`; B is packed, or an input `[inner, columns]`, `[columns, inner]` when `transpose_b`.
/// The inputs are A, B unless packed, the bias `[…, columns]` if there is one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gemm {
    pub row_axes: usize,
    pub transpose_a: bool,
    pub transpose_b: bool,
    pub packed: Option<PackedWeights>,
    pub has_bias: bool,
    pub activation: Activation,
}

/// A constant right side, packed once and shared by all sessions.
#[derive(Clone)]
pub struct PackedWeights(Arc<PackedB>);

impl PackedWeights {
    pub fn new(weights: Matrix) -> PackedWeights {
        PackedWeights(Arc::new(PackedB::new(weights)))
    }

    /// Of float32 `[columns, rows]` in a file, which never are in memory as a whole beside the packed
    /// ones; `None` of a tensor that does not lie in a file.
    pub fn of_mapped(weights: &Tensor, rows: usize, columns: usize) -> Option<PackedWeights> {
        read_mapped(weights, 0, &mut vec![0.0; rows.min(1)])?;
        let packed = PackedB::by_columns(rows, columns, |range, out| {
            if read_mapped(weights, range.start * rows, out).is_none() {
                out.fill(f32::NAN);
            }
        });
        Some(PackedWeights(Arc::new(packed)))
    }
}

impl std::fmt::Debug for PackedWeights {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "packed {}×{}", self.0.rows(), self.0.columns())
    }
}

impl PartialEq for PackedWeights {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Eq for PackedWeights {}

impl Op for Gemm {
    fn name(&self) -> StaticName {
        "Gemm".into()
    }

    fn info(&self) -> TractResult<Vec<String>> {
        Ok(vec![format!("{self:?}")])
    }

    tract_core::op_as_typed_op!();
}

impl Gemm {
    fn bias_input(&self) -> usize {
        if self.packed.is_some() { 1 } else { 2 }
    }
}

impl EvalOp for Gemm {
    tract_core::op_out_of_plan!();

    fn eval(&self, _ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let a = &inputs[0];
        let shape = a.shape();
        let row_axes = if self.transpose_a { 1 } else { self.row_axes };
        let left_rows: usize = shape[..row_axes].iter().product();
        let left_columns: usize = shape[row_axes..].iter().product();
        let left = Matrix::row_major(values(a)?, left_rows, left_columns);
        let left = if self.transpose_a { left.transposed() } else { left };

        let bias = match self.has_bias {
            true => Some(values(&inputs[self.bias_input()])?),
            false => None,
        };
        let epilogue = Epilogue { bias, activation: self.activation, ..Epilogue::default() };
        let row_dims = if self.transpose_a { &shape[1..] } else { &shape[..row_axes] };
        let mut out_shape: TVec<usize> = row_dims.into();

        let output = match &self.packed {
            Some(packed) => {
                let columns = packed.0.columns();
                out_shape.push(columns);
                ensure!(left.columns() == packed.0.rows(), "Gemm: {shape:?} by {packed:?}");
                filled(&out_shape, |c| {
                    let c = MatrixMut::row_major(c, left.rows(), columns);
                    kernels::gemm_packed(left, &packed.0, c, &epilogue);
                    Ok(())
                })?
            }
            None => {
                let b = &inputs[1];
                let &[rows, columns] = b.shape() else { bail!("Gemm: B of shape {:?}", b.shape()) };
                let right = Matrix::row_major(values(b)?, rows, columns);
                let right = if self.transpose_b { right.transposed() } else { right };
                ensure!(left.columns() == right.rows(), "Gemm: {shape:?} by {:?}", b.shape());
                out_shape.push(right.columns());
                filled(&out_shape, |c| {
                    let c = MatrixMut::row_major(c, left.rows(), right.columns());
                    kernels::gemm(left, right, c, &epilogue);
                    Ok(())
                })?
            }
        };
        Ok(tvec!(output))
    }
}

impl TypedOp for Gemm {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let a = &inputs[0].shape;
        let mut shape: TVec<TDim> = match self.transpose_a {
            true => tvec!(a[1].clone()),
            false => a[..self.row_axes].into(),
        };
        shape.push(match &self.packed {
            Some(packed) => packed.0.columns().to_dim(),
            None => inputs[1].shape[if self.transpose_b { 0 } else { 1 }].clone(),
        });
        Ok(tvec!(f32::fact(&*shape)))
    }

    fn cost(&self, inputs: &[&TypedFact]) -> TractResult<TVec<(Cost, TDim)>> {
        let a: TDim = inputs[0].shape.iter().product();
        let columns = self.output_facts(inputs)?[0].shape.last().cloned().unwrap_or(1.into());
        Ok(tvec!((Cost::FMA(f32::datum_type()), a * columns)))
    }

    tract_core::as_op!();
}
