//! MaxPool with its indices, LpPool, and GlobalLpPool, of which tract computes a mean.

use super::*;
use tract_core::ops::cnn::{MaxPool, PoolSpec};
use tract_core::ops::math;
use tract_core::ops::nn::{DataFormat, Reduce, Reducer};
use tract_onnx::model::ParsingContext;
use tract_onnx::tract_hir::ops::cnn::{HirMaxPool, HirSumPool};

fn pool_spec(node: &pb::NodeProto) -> TractResult<PoolSpec> {
    let kernel: TVec<usize> = node.get_attr_tvec("kernel_shape")?;
    let rank = kernel.len();
    ensure!(kernel.iter().all(|&k| k > 0), "kernel_shape {kernel:?}");
    let (dilations, strides) = (steps(node, "dilations", rank)?, steps(node, "strides", rank)?);
    let padding = padding(node, rank, true)?;
    Ok(PoolSpec::new(DataFormat::NCHW, kernel, padding, dilations, strides, 0, 0))
}

pub fn max_pool(_ctx: &ParsingContext, node: &pb::NodeProto) -> TractResult<Built> {
    let values = HirMaxPool::new(pool_spec(node)?, None);
    if node.output.get(1).is_none_or(|name| name.is_empty()) {
        return Ok((expand(values), vec![]));
    }
    let column_major = node.get_attr_opt::<i64>("storage_order")?.unwrap_or(0) == 1;
    Ok((expand(MaxPoolWithIndices { values, column_major }), vec![]))
}

#[derive(Debug, Clone)]
struct MaxPoolWithIndices {
    values: HirMaxPool,
    column_major: bool,
}

impl Expansion for MaxPoolWithIndices {
    fn name(&self) -> StaticName {
        "MaxPool".into()
    }

    fn nboutputs(&self) -> TractResult<usize> {
        Ok(2)
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        self.values.rules(s, inputs, &outputs[..1])?;
        s.equals(&outputs[1].datum_type, DatumType::I64)?;
        s.equals(&outputs[1].shape, &outputs[0].shape)
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let values = self.values.wire(prefix, model, inputs)?[0];
        let pool = model.node(values.node).op_as::<MaxPool>().context("a MaxPool")?;
        let pool_spec = pool.pool_spec.clone();
        let op = MaxPoolIndices { pool_spec, column_major: self.column_major };
        let indices = model.wire_node(format!("{prefix}.indices"), op, inputs)?[0];
        Ok(tvec!(values, indices))
    }
}

/// input `x` (N × C × spatial axes) → where in the flattened `x` each maximum is, int64; `column_major`
/// flattens the spatial axes with the first one fastest (ONNX MaxPool, `Indices`, `storage_order`).
#[derive(Debug, Clone, Hash, PartialEq, Eq)]
pub struct MaxPoolIndices {
    pub pool_spec: PoolSpec,
    pub column_major: bool,
}

impl MaxPoolIndices {
    /// How far apart neighbours along each spatial axis are in the flattened plane.
    pub fn strides(&self, spatial: &[usize]) -> Vec<usize> {
        let count = |axes: &[usize]| axes.iter().product();
        match self.column_major {
            true => (0..spatial.len()).map(|axis| count(&spatial[..axis])).collect(),
            false => (0..spatial.len()).map(|axis| count(&spatial[axis + 1..])).collect(),
        }
    }
}

impl Op for MaxPoolIndices {
    fn name(&self) -> StaticName {
        "MaxPoolIndices".into()
    }

    tract_core::op_as_typed_op!();
}

impl EvalOp for MaxPoolIndices {
    tract_core::op_out_of_plan!();

    fn eval(&self, ctx: &EvalContext, inputs: TVec<TValue>) -> TractResult<TVec<TValue>> {
        let spatial: TVec<usize> = inputs[0].shape()[2..].into();
        let strides = self.strides(&spatial);
        let plane: usize = spatial.iter().product();
        let pool = MaxPool::new(self.pool_spec.clone(), Some(DatumType::I64));
        // tract counts within one plane, the last axis fastest
        let mut indices = pool.eval(ctx, inputs)?.remove(1).into_tensor();
        let per_plane: usize = indices.shape()[2..].iter().product();
        let mut plain = indices.try_as_plain_ram_mut()?;
        let planes = plain.as_slice_mut::<i64>()?.chunks_mut(per_plane.max(1));
        for (number, indices) in planes.enumerate() {
            for index in indices {
                let mut rest = usize::try_from(*index)?;
                let mut place = number * plane;
                for (len, stride) in spatial.iter().zip(&strides).rev() {
                    place += rest % len * stride;
                    rest /= len;
                }
                *index = i64::try_from(place)?;
            }
        }
        Ok(tvec!(indices.into_tvalue()))
    }
}

impl TypedOp for MaxPoolIndices {
    fn output_facts(&self, inputs: &[&TypedFact]) -> TractResult<TVec<TypedFact>> {
        let mut facts = self.pool_spec.output_facts(inputs)?;
        facts[0].datum_type = DatumType::I64;
        Ok(facts)
    }

    tract_core::as_op!();
}

pub fn lp_pool(_ctx: &ParsingContext, node: &pb::NodeProto) -> TractResult<Built> {
    let windows = HirSumPool::new(pool_spec(node)?, false, false);
    Ok((expand(LpPool { p: exponent(node)?, windows: Some(windows) }), vec![]))
}

pub fn global_lp_pool(_ctx: &ParsingContext, node: &pb::NodeProto) -> TractResult<Built> {
    Ok((expand(LpPool { p: exponent(node)?, windows: None }), vec![]))
}

fn exponent(node: &pb::NodeProto) -> TractResult<i64> {
    let p = node.get_attr_opt::<i64>("p")?.unwrap_or(2);
    ensure!(p > 0, "p {p}");
    Ok(p)
}

/// (Σ |x|^p)^(1/p) over windows, or over all spatial axes.
#[derive(Debug, Clone)]
struct LpPool {
    p: i64,
    windows: Option<HirSumPool>,
}

impl Expansion for LpPool {
    fn name(&self) -> StaticName {
        "LpPool".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        if let Some(windows) = &self.windows {
            return windows.rules(s, inputs, outputs);
        }
        check_input_arity(inputs, 1)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].rank, &outputs[0].rank)?;
        s.given(&inputs[0].rank, move |s, rank| {
            for axis in 0..rank as usize {
                match axis {
                    0 | 1 => s.equals(&inputs[0].shape[axis], &outputs[0].shape[axis])?,
                    _ => s.equals(&outputs[0].shape[axis], 1.to_dim())?,
                }
            }
            Ok(())
        })
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[0])?.clone();
        let power = |model: &mut TypedModel, name: &str, x: OutletId, exponent: f64| {
            let exponent = tensor0(exponent).cast_to_dt(fact.datum_type)?.into_owned();
            let exponent = exponent.broadcast_into_rank(fact.rank())?;
            let exponent = model.add_const(format!("{name}.exponent"), exponent)?;
            model.wire_node(name, math::pow(), &[x, exponent])
        };
        let mut x = match self.p {
            2 => model.wire_node(format!("{prefix}.square"), math::square(), inputs)?,
            _ => model.wire_node(format!("{prefix}.abs"), math::abs(), inputs)?,
        };
        if self.p > 2 {
            x = power(model, &format!("{prefix}.power"), x[0], self.p as f64)?;
        }
        let name = if self.p == 1 { prefix.to_string() } else { format!("{prefix}.sum") };
        x = match &self.windows {
            Some(windows) => windows.wire(&name, model, &x)?,
            None => {
                model.wire_node(name, Reduce::new((2..fact.rank()).collect(), Reducer::Sum), &x)?
            }
        };
        match self.p {
            1 => Ok(x),
            2 => model.wire_node(prefix, math::sqrt(), &x),
            _ => power(model, prefix, x[0], 1.0 / self.p as f64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// ONNX MaxPool: `storage_order` 1 flattens a plane column by column.
    #[test]
    fn indices_are_counted_over_the_whole_input() {
        let spec = PoolSpec::new(
            DataFormat::NCHW,
            tvec!(1, 2),
            PaddingSpec::Valid,
            None,
            Some(tvec!(1, 2)),
            2,
            2,
        );
        let x = [1f32, 5.0, 2.0, 0.0, 7.0, 7.0, 3.0, 4.0];
        let x = Tensor::from_shape(&[1, 2, 2, 2], &x).unwrap();
        let indices = |column_major| {
            let op = MaxPoolIndices { pool_spec: spec.clone(), column_major };
            let x = tvec!(x.clone().into_tvalue());
            let indices = op.eval(&EvalContext::out_of_plan(), x).unwrap();
            indices[0].try_as_plain_ram().unwrap().as_slice::<i64>().unwrap().to_vec()
        };
        assert_eq!(indices(false), [1, 2, 4, 7]);
        assert_eq!(indices(true), [2, 1, 4, 7]);
    }
}
