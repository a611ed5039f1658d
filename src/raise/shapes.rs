//! Shapes of computed tensors, from those of the inputs. A file tells of a dimension only that it is open.

use super::raise_known;
use crate::graph::{Dim, Model};
use crate::ops;
use crate::tract::{SymbolScope, onnx};
use anyhow::{Result, ensure};
use std::collections::BTreeSet;

/// Gives the dimension `name` of the inputs the size `size`, and all shapes what follows.
///
/// # Errors
/// Names the dimensions that the inputs have, where `name` is none of them; or the node that does not fit.
pub fn set_dimension(model: &mut Model, name: &str, size: usize) -> Result<()> {
    let scope = SymbolScope::default();
    let inputs = model.main().inputs.clone();
    let mut names = BTreeSet::new();
    for &input in &inputs {
        for dim in &mut model.subgraphs[0].tensors[input].shape {
            let Dim::Symbol(text) = &*dim else { continue };
            names.extend(scope.parse_tdim(text)?.symbols().iter().map(|s| s.to_string()));
            if text == name {
                *dim = Dim::Known(size);
            }
        }
    }
    ensure!(names.contains(name), onnx::unknown_dimension(name, names));
    compute_shapes(model)
}

/// Computes the shapes of the entry graph anew, but for those that depend on custom ops.
pub fn compute_shapes(model: &mut Model) -> Result<()> {
    let raised = raise_known(model)?;
    let graph = &mut model.subgraphs[0];
    for (tensor, outlet) in graph.tensors.iter_mut().zip(&raised.outlets) {
        if let Some(outlet) = outlet.filter(|_| tensor.data.is_none()) {
            let shape = raised.model.outlet_fact(outlet)?.shape.to_tvec();
            tensor.shape = ops::dims(&shape);
        }
    }
    Ok(())
}
