//! Shapes for a batch of one: what tools count and print where a dimension is open.

use super::{DimLike, OutletId, SymbolValues, TDim, TypedModel};
use anyhow::Result;

/// Evaluates dimensions with the first input's open first axis being 1.
#[derive(Debug)]
pub struct OneRow<'a> {
    model: &'a TypedModel,
    values: SymbolValues,
}

impl OneRow<'_> {
    pub fn of(model: &TypedModel) -> Result<OneRow<'_>> {
        let mut values = SymbolValues::default();
        if let Some(input) = model.input_outlets()?.first()
            && let Some(TDim::Sym(batch)) = model.outlet_fact(*input)?.shape.first()
        {
            values.set(batch, 1);
        }
        Ok(OneRow { model, values })
    }

    /// Dimensions that are still open are `None`.
    pub fn dims(&self, outlet: OutletId) -> Result<Vec<Option<usize>>> {
        let shape = &self.model.outlet_fact(outlet)?.shape;
        Ok(shape.iter().map(|dim| dim.eval(&self.values).to_usize().ok()).collect())
    }
}
