//! Constants that an ONNX file holds in integers, told by the reals that the graph has of them.

use super::Contents;
use crate::graph::ElementType;
use crate::ops::element_type;
use crate::tract::onnx;
use anyhow::Result;

/// A float32 constant of the graph that the model holds in integers.
#[derive(Debug, Clone, PartialEq)]
pub struct StoredConstant {
    /// Its reals, in any order.
    pub contents: Contents,
    /// One of each, or as many as there are along an axis.
    pub scales: Vec<f32>,
    pub zero_points: Vec<i32>,
    /// Of the integers.
    pub element: ElementType,
    /// Whether they meet values that are quantized as the model runs.
    pub dynamic: bool,
}

/// Those of a loaded file.
pub fn stored_constants(loaded: &onnx::Loaded) -> Result<Vec<StoredConstant>> {
    let stored = loaded.stored.iter().map(|stored| {
        let reals = stored.reals.try_as_plain_ram()?.as_slice::<f32>()?;
        let words: Vec<u8> = reals.iter().flat_map(|v| v.to_le_bytes()).collect();
        Ok(StoredConstant {
            contents: Contents::of_words(&words),
            scales: stored.scales.clone(),
            zero_points: stored.zero_points.clone(),
            element: element_type(stored.datum)?,
            dynamic: stored.dynamic,
        })
    });
    stored.collect()
}
