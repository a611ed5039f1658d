//! `predict`: pictures, arrays or numbers → classes, or the raw outputs.

use super::Outcome;
use super::inputs::{Feed, Given, PictureFlags};
use crate::format::{atomic, npy};
use crate::model::{LoadedModel, locate, refuse_saved_file};
use crate::runtime::{Plan, Tensor, run_rows, to_array, to_f32};
use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;
use std::io::Write;
use std::path::{Path, PathBuf};

#[derive(Debug, Clone, Default)]
pub struct PredictOptions {
    pub model: Option<PathBuf>,
    /// Pictures, folders of pictures, `.npy`, `.npz`, IDX, CSV; `-` is JSON on `stdin`.
    pub inputs: Vec<PathBuf>,
    pub top_k: usize,
    /// Where the raw outputs go, `.npz` or (of one output) `.npy`.
    pub out: Option<PathBuf>,
    pub pictures: PictureFlags,
    pub threads: usize,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PredictReport {
    pub model: PathBuf,
    /// One for each picture or row, where the first output is `[rows, classes]`.
    pub predictions: Vec<Prediction>,
    pub outputs: Vec<OutputSummary>,
    /// What the user should know of how the inputs were read.
    pub notes: Vec<String>,
    pub saved: Option<PathBuf>,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Prediction {
    pub input: String,
    /// A dark-on-light picture was inverted.
    pub inverted: bool,
    /// The best classes, the best first.
    pub classes: Vec<ClassScore>,
    /// The scores of all classes are between 0 and 1 and add up to 1.
    pub is_probability: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ClassScore {
    pub class: usize,
    pub label: Option<String>,
    pub score: f32,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct OutputSummary {
    pub name: String,
    pub shape: Vec<usize>,
    pub min: f32,
    pub max: f32,
    pub mean: f32,
}

pub fn predict(options: &PredictOptions) -> Result<Outcome<PredictReport>> {
    ensure!(options.top_k > 0, "--top-k must be at least 1");
    let model = LoadedModel::load(&locate(options.model.as_deref())?)?;
    let plan = model.plan()?;
    let given = Given { inputs: &options.inputs, pictures: options.pictures.clone() };
    let feed = Feed::read(&given, model.preprocessing.as_ref(), plan.inputs())?;
    let outputs = run_rows(&plan, feed.tensors, options.threads)
        .with_context(|| format!("running {}", model.path.display()))?;
    let saved = match &options.out {
        Some(path) => Some(save(path, &plan, &outputs)?),
        None => None,
    };
    let outputs = plan.outputs().iter().zip(&outputs);
    let outputs: Vec<Tensor> =
        outputs.map(|(port, values)| port.reals(values)).collect::<Result<_>>()?;
    Ok(Outcome::Done(PredictReport {
        predictions: predictions(
            &outputs,
            &feed.names,
            &feed.inverted,
            &model.labels,
            options.top_k,
        )?,
        outputs: summaries(&plan, &outputs)?,
        notes: feed.notes,
        model: model.path,
        saved,
    }))
}

fn predictions(
    outputs: &[Tensor],
    names: &[String],
    inverted: &[bool],
    labels: &[String],
    top_k: usize,
) -> Result<Vec<Prediction>> {
    let Some(first) = outputs.first() else { return Ok(vec![]) };
    let &[rows, classes] = first.shape() else { return Ok(vec![]) };
    if classes < 2 || !first.datum_type().is_float() {
        return Ok(vec![]);
    }
    let scores = to_f32(first)?;
    let rows = (0..rows).map(|row| {
        let scores = &scores[row * classes..][..classes];
        let mut order: Vec<usize> = (0..classes).collect();
        order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
        let sum: f32 = scores.iter().sum();
        let named = |class: usize| ClassScore {
            class,
            label: labels.get(class).filter(|_| labels.len() == classes).cloned(),
            score: scores[class],
        };
        Prediction {
            input: names.get(row).cloned().unwrap_or_else(|| format!("row {row}")),
            inverted: inverted.get(row).copied().unwrap_or(false),
            classes: order.into_iter().take(top_k).map(named).collect(),
            is_probability: (sum - 1.0).abs() < 1e-2
                && scores.iter().all(|s| (0.0..=1.0).contains(s)),
        }
    });
    Ok(rows.collect())
}

fn summaries(plan: &Plan, outputs: &[Tensor]) -> Result<Vec<OutputSummary>> {
    let summary = |(port, tensor): (&crate::runtime::Port, &Tensor)| {
        let values = to_f32(tensor)?;
        Ok(OutputSummary {
            name: port.name.clone(),
            shape: tensor.shape().to_vec(),
            min: values.iter().copied().fold(f32::INFINITY, f32::min),
            max: values.iter().copied().fold(f32::NEG_INFINITY, f32::max),
            mean: (values.iter().map(|&v| v as f64).sum::<f64>() / values.len().max(1) as f64)
                as f32,
        })
    };
    plan.outputs().iter().zip(outputs).map(summary).collect()
}

fn save(path: &Path, plan: &Plan, outputs: &[Tensor]) -> Result<PathBuf> {
    let named = plan.outputs().iter().zip(outputs);
    let arrays: Vec<(String, npy::Array)> =
        named.map(|(port, t)| Ok((port.name.clone(), to_array(t)?))).collect::<Result<_>>()?;
    let bytes = match (path.extension().and_then(|e| e.to_str()), arrays.as_slice()) {
        (Some("npz"), _) => npy::write_npz(&arrays)?,
        (Some("npy"), [(_, array)]) => npy::write_npy(array)?,
        (Some("npy"), several) => bail!("{} outputs need -o FILE.npz", several.len()),
        _ => bail!("-o {}: outputs are saved as .npz or .npy", path.display()),
    };
    refuse_saved_file(path)?;
    atomic::write_file(path, |file| file.write_all(&bytes))
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(path.to_path_buf())
}
