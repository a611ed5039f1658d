//! Every computed value of a graph within reach, for looking at what lies between its inputs and outputs.

use super::Plan;
use crate::graph::Quantization;
use crate::ops::element_type;
use crate::tract::guard::catch_panic;
use crate::tract::{OutletId, TypedModel};
use anyhow::Result;

/// One value that a node computes.
#[derive(Debug, Clone, PartialEq)]
pub struct Value {
    /// What reports call it.
    pub name: String,
    /// Every name that a conversion may give it.
    pub aliases: Vec<String>,
    pub op: String,
    /// What its integers stand for.
    pub quantization: Option<Quantization>,
}

/// A graph whose values can be asked for.
#[derive(Debug, Clone)]
pub struct Values {
    model: TypedModel,
    inputs: Vec<String>,
    scales: Vec<Option<Quantization>>,
    values: Vec<Value>,
    outlets: Vec<OutletId>,
}

impl Values {
    /// `values` in the order in which they are computed; those that are missing, constant, or of a type that
    /// cannot be looked at are left out.
    pub fn new(
        model: TypedModel,
        inputs: Vec<String>,
        values: impl Iterator<Item = (Value, Option<OutletId>)>,
    ) -> Values {
        let usable = |outlet: &OutletId| {
            let fact = model.outlet_fact(*outlet);
            fact.is_ok_and(|f| f.konst.is_none() && element_type(f.datum_type).is_ok())
        };
        let found = values.filter_map(|(value, outlet)| Some((value, outlet.filter(usable)?)));
        let (values, outlets) = found.unzip();
        Values { inputs, scales: vec![], values, outlets, model }
    }

    /// Tells what integers at the inputs stand for, in their order.
    pub fn with_quantization(self, scales: Vec<Option<Quantization>>) -> Values {
        Values { scales, ..self }
    }

    pub fn values(&self) -> &[Value] {
        &self.values
    }

    /// A plan whose outputs are the `chosen` values, by their places.
    pub fn plan(&self, chosen: &[usize]) -> Result<Plan> {
        let mut model = self.model.clone();
        let outlets: Vec<OutletId> = chosen.iter().map(|&i| self.outlets[i]).collect();
        let names: Vec<String> = chosen.iter().map(|&i| self.values[i].name.clone()).collect();
        let model = catch_panic("preparing the graph", move || {
            model.select_output_outlets(&outlets)?;
            model.declutter()?;
            Ok(model)
        })?;
        let scales = chosen.iter().map(|&i| self.values[i].quantization.clone()).collect();
        let plan = Plan::new(model, &self.inputs, &names)?;
        Ok(plan.with_quantization(self.scales.clone(), scales))
    }
}
