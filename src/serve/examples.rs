//! Examples, as `classify` and `regress` take them, and the scores that they answer with: a feature is what the input of
//! that name takes.

use super::failure::{Answer, Code, Failure};
use super::servable::{Method, Servable};
use crate::graph::Dim;
use crate::runtime::{Port, Tensor, to_f32};
use std::collections::BTreeMap;

/// The values of one example by the name of its feature.
pub type Features = BTreeMap<String, Vec<f64>>;

/// The tensors of a model with these inputs, a row for each example.
///
/// # Errors
/// A feature is missing, or has another number of values than a row of its input.
pub fn tensors_of(examples: &[Features], ports: &[Port]) -> Answer<Vec<Tensor>> {
    ports.iter().map(|port| tensor_of(examples, port)).collect()
}

fn tensor_of(examples: &[Features], port: &Port) -> Answer<Tensor> {
    let name = &port.name;
    let mut values: Vec<f64> = vec![];
    for example in examples {
        let Some(own) = example.get(name) else {
            return Err(Failure::invalid(format!(
                "Name: <unknown>, Feature: {name} (data type: float) is required but could not be found."
            )));
        };
        values.extend(own);
    }
    let inner = port.shape.get(1..).unwrap_or_default();
    let mut shape = vec![examples.len()];
    let open = inner.iter().filter(|d| d.known().is_none()).count();
    let known: usize = inner.iter().filter_map(Dim::known).product();
    let size = values.len() / examples.len().max(1);
    for dim in inner {
        shape.push(dim.known().unwrap_or(if open == 1 && known > 0 { size / known } else { 1 }));
    }
    let expected: usize = shape[1..].iter().product();
    if let Some((row, own)) = examples
        .iter()
        .enumerate()
        .find_map(|(row, e)| e.get(name).filter(|v| v.len() != expected).map(|v| (row, v)))
    {
        return Err(Failure::invalid(format!(
            "Name: <unknown>, Key: {name}, Index: {row}. Number of values != expected. Values size: {} but \
             output shape: [{}]",
            own.len(),
            shape[1..].iter().map(usize::to_string).collect::<Vec<_>>().join(",")
        )));
    }
    let whole = || -> anyhow::Result<Tensor> {
        let wanted = crate::ops::datum_type(port.element)?;
        let tensor = Tensor::from_shape(&shape, &values)?;
        Ok(tensor.cast_to_dt(wanted)?.into_owned())
    };
    whole().map_err(|e| Failure::invalid(format!("input '{name}': {e:#}")))
}

/// The output that `method` answers with: one row of classes, or one value, for each example.
///
/// # Errors
/// The model has none.
pub fn output_of(servable: &Servable, method: Method) -> Answer<usize> {
    let fits = |rank: usize, last: Option<usize>| match method {
        Method::Regress => rank == 1 || (rank == 2 && last == Some(1)),
        Method::Predict | Method::Classify => rank == 2,
    };
    let mut outputs = servable.outputs().iter();
    let found = outputs.position(|port| {
        port.has_reals() && fits(port.shape.len(), port.shape.last().and_then(Dim::known))
    });
    found.ok_or_else(|| {
        let kind = if method == Method::Regress { "regression" } else { "classification" };
        Failure::invalid(format!(
            "Expected {kind} signature method_name to be tensorflow/serving/{}. Was: tensorflow/serving/predict",
            method.name()
        ))
    })
}

/// The scores of all examples, one row each.
pub struct Scores {
    values: Vec<f32>,
    classes: usize,
}

impl Scores {
    pub fn rows(&self) -> impl Iterator<Item = &[f32]> {
        self.values.chunks(self.classes.max(1))
    }
}

/// What the model's output number `output` says.
pub fn scores(servable: &Servable, output: usize, outputs: &[Tensor]) -> Answer<Scores> {
    let broken = |e: anyhow::Error| Failure::new(Code::Internal, format!("{e:#}"));
    let scores = servable.outputs()[output].reals(&outputs[output]).map_err(broken)?;
    let rows = scores.shape().first().copied().unwrap_or(0);
    let values = to_f32(&scores).map_err(broken)?;
    let classes = values.len() / rows.max(1);
    Ok(Scores { values, classes })
}
