//! `compare`: two models, same inputs, how far apart.

use super::Outcome;
use crate::compare::{OutputDifference, example_inputs};
use crate::model::{LoadedModel, locate};
use anyhow::Result;
use serde::Serialize;
use std::path::PathBuf;

#[derive(Debug, Clone, Default)]
pub struct CompareOptions {
    pub reference: PathBuf,
    pub other: PathBuf,
    /// The largest allowed relative difference; without it nothing is demanded.
    pub tolerance: Option<f64>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct CompareReport {
    pub reference: PathBuf,
    pub other: PathBuf,
    pub inputs: String,
    pub outputs: Vec<OutputDifference>,
    pub tolerance: Option<f64>,
}

pub fn compare(options: &CompareOptions) -> Result<Outcome<CompareReport>> {
    let reference = LoadedModel::load(&locate(Some(&options.reference))?)?;
    let other = LoadedModel::load(&locate(Some(&options.other))?)?;
    let plan = reference.plan()?;
    let record = reference.preprocessing.as_ref().or(other.preprocessing.as_ref());
    let inputs = example_inputs(&plan, record)?;
    let outputs = crate::compare::compare(&plan, &other.plan()?, &inputs.runs)?;
    let holds = options.tolerance.is_none_or(|t| outputs.iter().all(|o| o.relative <= t));
    let report = CompareReport {
        reference: reference.path,
        other: other.path,
        inputs: inputs.what,
        outputs,
        tolerance: options.tolerance,
    };
    Ok(if holds { Outcome::Done(report) } else { Outcome::CheckFailed(report) })
}
