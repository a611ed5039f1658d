//! Constants that a file holds in integers, and the graph in reals.

use super::super::*;
use crate::tract::typed_ops::quantized::DequantizeLinear;

/// What DequantizeLinear makes of a constant.
#[derive(Debug, Clone)]
pub struct Stored {
    /// float32.
    pub reals: Arc<Tensor>,
    /// One of each, or as many as there are along an axis.
    pub scales: Vec<f32>,
    pub zero_points: Vec<i32>,
    /// Of the integers.
    pub datum: DatumType,
    /// Whether they meet values that are quantized as the model runs.
    pub dynamic: bool,
}

/// Those of a graph that is not decluttered yet.
pub fn stored_constants(model: &TypedModel) -> TractResult<Vec<Stored>> {
    let mut found = vec![];
    for node in &model.nodes {
        let Some(op) = node.op_as::<DequantizeLinear>() else { continue };
        let Some(reals) = &node.outputs[0].fact.konst else { continue };
        let from = model.outlet_fact(node.inputs[0])?;
        let weights = [DatumType::I8, DatumType::U8].contains(&from.datum_type);
        if weights && reals.datum_type() == DatumType::F32 {
            found.push(Stored {
                reals: reals.clone(),
                scales: op.channels.scales.clone(),
                zero_points: op.channels.zero_points.clone(),
                datum: from.datum_type,
                dynamic: op.dynamic,
            });
        }
    }
    Ok(found)
}
