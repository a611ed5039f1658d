//! ONNX operators that tract lacks or takes for something else, built for its registry.

mod cast;
mod checked;
mod compress;
mod conv_transpose;
mod linear;
mod pad;
mod pool;
mod slice;
mod upsample;

pub use checked::check_inputs;
pub use pool::MaxPoolIndices;

use super::*;
use tract_onnx::model::{OnnxOpRegister, ParsingContext};
use tract_onnx::tract_hir::ops::cnn::PaddingSpec;

type Built = (Box<dyn InferenceOp>, Vec<String>);

/// What the parser makes of a node: an op, and values that the node takes from outer graphs.
type Parsed = TractResult<Built>;

/// Adds the operators to tract's registry, in place of its own.
pub fn register(registry: &mut OnnxOpRegister) {
    registry.insert("Cast", cast::parse);
    registry.insert("Compress", compress::parse);
    registry.insert("ConvTranspose", conv_transpose::conv_transpose);
    registry.insert("DequantizeLinear", linear::dequantize);
    registry.insert("GlobalLpPool", pool::global_lp_pool);
    registry.insert("LpPool", pool::lp_pool);
    registry.insert("MaxPool", pool::max_pool);
    registry.insert("Pad", pad::parse);
    registry.insert("QuantizeLinear", linear::quantize);
    registry.insert("Slice", slice::parse);
    registry.insert("Upsample", upsample::upsample);
}

/// The attributes `pads` and `auto_pad` of a window over `rank` axes; `pool` if it rounds as pools do.
fn padding(node: &pb::NodeProto, rank: usize, pool: bool) -> TractResult<PaddingSpec> {
    let ceil_mode = node.get_attr_opt::<i64>("ceil_mode")?.unwrap_or(0) == 1;
    let explicit = |before: TVec<usize>, after: TVec<usize>| match pool {
        true => PaddingSpec::ExplicitOnnxPool(before, after, ceil_mode),
        false => PaddingSpec::Explicit(before, after),
    };
    let automatic = node.get_attr_opt::<&str>("auto_pad")?.unwrap_or("NOTSET");
    if let ("NOTSET", Some(pads)) = (automatic, node.get_attr_opt_tvec::<i64>("pads")?) {
        ensure!(pads.len() == 2 * rank, "{} pads for {rank} axes", pads.len());
        let pads: TVec<usize> =
            pads.iter().map(|&p| usize::try_from(p)).collect::<Result<_, _>>()?;
        return Ok(explicit(pads[..rank].into(), pads[rank..].into()));
    }
    Ok(match automatic {
        "NOTSET" => explicit(tvec!(0; rank), tvec!(0; rank)),
        "VALID" => PaddingSpec::Valid,
        "SAME_UPPER" => PaddingSpec::SameUpper,
        "SAME_LOWER" => PaddingSpec::SameLower,
        other => bail!("auto_pad {other}"),
    })
}

/// An attribute of `rank` positive numbers.
fn steps(node: &pb::NodeProto, name: &str, rank: usize) -> TractResult<Option<TVec<usize>>> {
    let Some(steps) = node.get_attr_opt_tvec::<i64>(name)? else { return Ok(None) };
    ensure!(steps.len() == rank && steps.iter().all(|&s| s > 0), "{name} {steps:?}");
    Ok(Some(steps.iter().map(|&s| s as usize).collect()))
}
