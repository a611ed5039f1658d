//! Upsample, what Resize was before opset 10.

use super::*;
use tract_core::ops::nn::{CoordTransformer, Interpolator};
use tract_onnx::model::ParsingContext;
use tract_onnx_opl::resize::{AspectRatio, CoordTransform, Nearest, Resize};

/// A picture of one pixel becomes one that still fits a tensor.
const LARGEST_SCALE: f32 = 65536.0;

pub fn upsample(_ctx: &ParsingContext, node: &pb::NodeProto) -> TractResult<Built> {
    let interpolator = match node.get_attr_opt::<&str>("mode")?.unwrap_or("nearest") {
        "nearest" => Interpolator::Nearest,
        "linear" | "bilinear" => Interpolator::Linear,
        other => bail!("mode {other}"),
    };
    let scales: Option<TVec<f32>> = node.get_attr_opt_tvec("scales")?;
    let computed = node.input.get(1).is_some_and(|name| !name.is_empty());
    ensure!(scales.is_some() != computed, "scales are an attribute or an input");
    let op = Resize {
        axes: None,
        coord_transformer: CoordTransform::Plain(CoordTransformer::Asymmetric),
        interpolator,
        nearest: Nearest::Floor,
        antialias: false,
        cubic_coeff_a_bits: (-0.75f32).to_bits(),
        exclude_outside: false,
        extrapolation_value_bits: 0,
        keep_aspect_ratio_policy: AspectRatio::Stretch,
        optional_roi_input: None,
        optional_scales_input: Some(1),
        optional_sizes_input: None,
    };
    Ok((expand(Upsample { op, scales: scales.map(|s| Arc::new(tensor1(&s))) }), vec![]))
}

#[derive(Debug, Clone)]
struct Upsample {
    op: Resize,
    /// Those of the attribute; otherwise the second input has them.
    scales: Option<Arc<Tensor>>,
}

impl Expansion for Upsample {
    fn name(&self) -> StaticName {
        "Upsample".into()
    }

    fn rules<'r, 'p: 'r, 's: 'r>(
        &'s self,
        s: &mut Solver<'r>,
        inputs: &'p [TensorProxy],
        outputs: &'p [TensorProxy],
    ) -> InferenceResult {
        check_input_arity(inputs, 1 + self.scales.is_none() as usize)?;
        check_output_arity(outputs, 1)?;
        s.equals(&inputs[0].datum_type, &outputs[0].datum_type)?;
        s.equals(&inputs[0].rank, &outputs[0].rank)?;
        let resized = move |s: &mut Solver<'r>, shape: &[TDim], scales: &Tensor| {
            ensure!(scales.len() == shape.len(), "{} scales", scales.len());
            let factors = scales.cast_to::<f32>()?;
            let factors = factors.try_as_plain_ram()?.as_slice::<f32>()?;
            let usable = |s: &f32| s.is_finite() && (0.0..=LARGEST_SCALE).contains(s);
            ensure!(factors.iter().all(usable), "scales {factors:?}");
            let shape = self.op.compute_output_shape(shape, Some(scales), None)?;
            s.equals(&outputs[0].shape, shape)
        };
        match &self.scales {
            Some(scales) => s.given(&inputs[0].shape, move |s, shape| resized(s, &shape, scales)),
            None => s.given_2(&inputs[0].shape, &inputs[1].value, move |s, shape, scales| {
                resized(s, &shape, &scales)
            }),
        }
    }

    fn wire(
        &self,
        prefix: &str,
        model: &mut TypedModel,
        inputs: &[OutletId],
    ) -> TractResult<TVec<OutletId>> {
        let scales = match &self.scales {
            Some(scales) => model.add_const(format!("{prefix}.scales"), scales.clone())?,
            None => inputs[1],
        };
        model.wire_node(prefix, self.op.clone(), &[inputs[0], scales])
    }
}
