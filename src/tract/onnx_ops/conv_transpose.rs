//! ConvTranspose: tract's reader takes `output_shape` for output padding, and knows no shape before all of the
//! input's is a number.

use super::*;
use tract_core::ops::cnn::{Deconv, KernelFormat, PoolSpec};
use tract_core::ops::nn::DataFormat;
use tract_onnx::model::ParsingContext;

pub fn conv_transpose(_ctx: &ParsingContext, node: &pb::NodeProto) -> TractResult<Built> {
    let group = node.get_attr_opt::<i64>("group")?.unwrap_or(1);
    let op = ConvTranspose {
        node: node.clone(),
        group: usize::try_from(group).ok().filter(|&g| g > 0).context("group")?,
        has_bias: node.input.get(2).is_some_and(|name| !name.is_empty()),
    };
    Ok((expand(op), vec![]))
}

#[derive(Debug, Clone)]
struct ConvTranspose {
    node: pb::NodeProto,
    group: usize,
    has_bias: bool,
}

/// The spatial axes: what of the result is cut off, and what it has beyond what the kernel writes.
struct Geometry {
    padding: PaddingSpec,
    adjustments: TVec<usize>,
    strides: Option<TVec<usize>>,
    dilations: Option<TVec<usize>>,
    result: TVec<TDim>,
}

impl ConvTranspose {
    /// # Errors
    /// Attributes that do not fit each other, or `output_shape` of an input of unknown size.
    fn geometry(&self, input: &[TDim], kernel: &[usize]) -> TractResult<Geometry> {
        let rank = kernel.len();
        ensure!(input.len() == rank && kernel.iter().all(|&k| k > 0), "a kernel of {kernel:?}");
        let strides = steps(&self.node, "strides", rank)?;
        let dilations = steps(&self.node, "dilations", rank)?;
        let mut padding = padding(&self.node, rank, false)?;
        let sizes = |name: &str| -> TractResult<Option<TVec<usize>>> {
            let values = self.node.get_attr_opt_tvec::<usize>(name)?.filter(|v| !v.is_empty());
            if let Some(values) = &values {
                ensure!(values.len() >= rank, "{name} {values:?}");
            }
            Ok(values.map(|v| v[v.len() - rank..].into()))
        };
        let mut adjustments = sizes("output_padding")?.unwrap_or_else(|| tvec!(0; rank));
        let (stride, dilation) = (
            strides.clone().unwrap_or_else(|| tvec!(1; rank)),
            dilations.clone().unwrap_or_else(|| tvec!(1; rank)),
        );
        if let Some(asked) = sizes("output_shape")? {
            let upper = self.node.get_attr_opt::<&str>("auto_pad")? == Some("SAME_UPPER");
            let (mut before, mut after) = (tvec!(), tvec!());
            for axis in 0..rank {
                let len = input[axis].to_usize().context("output_shape of an unknown size")?;
                let steps = len.checked_sub(1).context("output_shape of an empty input")?;
                let field = (kernel[axis] - 1) * dilation[axis] + 1;
                let written = stride[axis] * steps + adjustments[axis] + field;
                let total = written.saturating_sub(asked[axis]);
                let (small, large) = (total / 2, total - total / 2);
                before.push(if upper { small } else { large });
                after.push(if upper { large } else { small });
                adjustments[axis] += asked[axis].saturating_sub(written);
            }
            padding = PaddingSpec::Explicit(before, after);
        }
        let computed =
            padding.compute_for_deconv(input, kernel, &dilation, &stride, &adjustments)?;
        let result = computed.into_iter().map(|axis| axis.deconvoluted).collect();
        Ok(Geometry { padding, adjustments, strides, dilations, result })
    }
}

impl Expansion for ConvTranspose {
    fn name(&self) -> StaticName {
        "ConvTranspose".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 2 + self.has_bias as usize)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].datum_type, &inputs[1].datum_type)?;
        s.equals(&inputs[0].rank, &inputs[1].rank)?;
        s.equals(&inputs[0].rank, &outputs[0].rank)?;
        s.equals(&outputs[0].shape[0], &inputs[0].shape[0])?;
        s.equals(&inputs[0].shape[1], &inputs[1].shape[0])?;
        s.equals(&outputs[0].shape[1], (self.group as i64) * inputs[1].shape[1].bex())?;
        s.given_2(&inputs[0].shape, &inputs[1].shape, move |s, input, kernel| {
            let sizes = kernel.iter().skip(2).map(|d| d.to_usize().ok());
            let sizes: Option<TVec<usize>> = sizes.collect();
            let (Some(kernel), true) = (sizes, input.len() > 2) else { return Ok(()) };
            let geometry = self.geometry(&input[2..], &kernel)?;
            for (axis, dim) in geometry.result.into_iter().enumerate() {
                s.equals(&outputs[0].shape[2 + axis], dim)?;
            }
            Ok(())
        })?;
        if self.has_bias {
            s.equals(&inputs[2].datum_type, &inputs[0].datum_type)?;
            s.equals(&inputs[2].rank, 1)?;
            s.equals(&inputs[2].shape[0], &outputs[0].shape[1])?;
        }
        Ok(())
    }

    /// ONNX has the kernel as in × out/group × spatial axes; tract's Deconv as out × in/group × spatial axes.
    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let fact = model.outlet_fact(inputs[1])?;
        let shape: TVec<usize> =
            fact.shape.as_concrete().context("a kernel of unknown shape")?.into();
        ensure!(shape.len() > 2 && shape[0] % self.group == 0, "a kernel of {shape:?}");
        let (ci, co) = (shape[0], shape[1].checked_mul(self.group).context("group")?);
        let kernel = AxisOp::wire_split_axis(
            model,
            format!("{prefix}.kernel_groups"),
            inputs[1],
            0,
            self.group,
        )?;
        let name = format!("{prefix}.kernel_order");
        let kernel = model.wire_node(name, AxisOp::Move(1, 2), &kernel)?;
        let name = format!("{prefix}.kernel");
        let kernel = AxisOp::wire_collapse_axis(model, name, kernel[0], 0)?;
        let fact = model.outlet_fact(inputs[0])?.clone();
        let bias = match inputs.get(2) {
            Some(&bias) => bias,
            None => {
                let zero = Tensor::zero_scalar_dt(fact.datum_type)?;
                model.add_const(format!("{prefix}.bias"), zero)?
            }
        };
        let geometry = self.geometry(&fact.shape[2..], &shape[2..])?;
        let spec = PoolSpec::new(
            DataFormat::NCHW,
            shape[2..].into(),
            geometry.padding,
            geometry.dilations,
            geometry.strides,
            ci,
            co,
        );
        let op = Deconv::new(spec, KernelFormat::OIHW, geometry.adjustments, self.group);
        model.wire_node(prefix, op, &[inputs[0], kernel[0], bias])
    }
}
