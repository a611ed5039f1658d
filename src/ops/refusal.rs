//! Why an op is refused, and the way out, in words that families share.

use super::*;
use std::fmt::Display;

/// The way out where a size is open.
pub const SET_SIZES: &str = "give the model's open dimensions sizes with --set NAME=N";

/// The way out where a value is computed from the input.
const FOLD: &str = "export the model with that as a constant";

/// No TFLite kernel computes `what` with elements of this type.
pub fn of_type(what: impl Display, element: impl Display) -> anyhow::Error {
    anyhow!(
        "{what} of {element}, which no TFLite kernel computes; Cast to float32 or int32 before it and back \
         after it"
    )
}

/// `what` must be known, and depends on a dimension that the model leaves open.
pub fn unknown_size(what: impl Display) -> anyhow::Error {
    anyhow!("{what}; {SET_SIZES}")
}

/// `what` is computed at run time, and TFLite takes a constant there.
pub fn computed(what: impl Display) -> anyhow::Error {
    anyhow!(
        "{what} computed at run time; {FOLD}; if it follows from the input's shape, {SET_SIZES}"
    )
}

/// `what` has more axes than the kernel takes.
pub fn too_deep(what: impl Display, rank: usize, most: usize) -> anyhow::Error {
    anyhow!(
        "{what} of rank {rank}; TFLite takes up to {most}: Reshape neighbouring axes into one before it"
    )
}

/// `what` is more than is built of other ops.
pub fn too_large(what: impl Display) -> anyhow::Error {
    anyhow!("{what}, too many to be written as TFLite ops; export the model for smaller inputs")
}

/// `what` computes in integers that stand for reals.
pub fn quantized(what: impl Display) -> anyhow::Error {
    anyhow!("{what} of an already quantized model; convert the float model, and quantize that")
}

/// What no family knows.
pub fn no_form(op: &str) -> anyhow::Error {
    let quantized_ops = ["Quantize", "Dequantize", "DynamicQuantize"];
    if quantized_ops.iter().any(|prefix| op.starts_with(prefix)) {
        return quantized(op);
    }
    if op == "Dropout" {
        return anyhow!("training mode; export the model for inference");
    }
    anyhow!("no TFLite op computes it ({op}); export it as simpler ops, or end the model before it")
}
