//! `bench`: how fast a model runs here.

use super::Outcome;
use crate::compare::example_inputs;
use crate::graph::Dim;
use crate::model::{LoadedModel, locate};
use crate::progress::Progress;
use crate::runtime::{Plan, Tensor};
use anyhow::{Context, Result, anyhow, ensure};
use serde::Serialize;
use std::path::PathBuf;
use std::time::{Duration, Instant};

#[derive(Debug, Clone, Default)]
pub struct BenchOptions {
    pub model: Option<PathBuf>,
    /// Sessions that run side by side.
    pub threads: usize,
    /// Counted runs of each thread; otherwise about a second's worth.
    pub runs: Option<usize>,
    pub batch: usize,
    pub profile: bool,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BenchReport {
    pub model: PathBuf,
    pub instruction_set: String,
    pub threads: usize,
    pub batch: usize,
    pub runs: usize,
    pub load_ms: f64,
    pub first_run_ms: f64,
    /// Of one run on one thread.
    pub latency_us: Latency,
    /// Rows a second over all threads.
    pub rows_per_second: f64,
    pub profile: Vec<NodeShare>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Latency {
    pub min: f64,
    pub median: f64,
    pub mean: f64,
    pub p90: f64,
    pub p99: f64,
    pub max: f64,
}

/// One node's part of a run: the median over the runs.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct NodeShare {
    pub node: String,
    pub op: String,
    pub microseconds: f64,
    pub share: f64,
}

const DEFAULT_TIME: Duration = Duration::from_secs(1);
const MOST_RUNS: usize = 100_000;
const WARM_UP: usize = 3;

pub fn bench(options: &BenchOptions, progress: &dyn Progress) -> Result<Outcome<BenchReport>> {
    ensure!(options.runs != Some(0), "--runs must be at least 1");
    ensure!(options.batch > 0, "--batch must be at least 1");
    let start = Instant::now();
    let model = LoadedModel::load(&locate(options.model.as_deref())?)?;
    let plan = model.plan()?;
    let load = start.elapsed();
    let inputs = inputs(&plan, &model, options.batch)?;
    let threads = options.threads.max(1);

    let start = Instant::now();
    plan.session()?.run(inputs.clone())?;
    let first_run = start.elapsed();
    progress.begin("running", options.runs.unwrap_or(0) as u64);
    let start = Instant::now();
    let work = |reports: bool| -> Result<Vec<f64>> {
        let mut session = plan.session()?;
        for _ in 0..WARM_UP {
            session.run(inputs.clone())?;
        }
        let begin = Instant::now();
        let mut times = vec![];
        let more = |times: &[f64]| match options.runs {
            Some(runs) => times.len() < runs,
            None => begin.elapsed() < DEFAULT_TIME && times.len() < MOST_RUNS,
        };
        while more(&times) && !progress.cancelled() {
            let inputs = inputs.clone();
            let start = Instant::now();
            session.run(inputs)?;
            times.push(start.elapsed().as_secs_f64() * 1e6);
            if reports {
                progress.advance(times.len() as u64, &String::new);
            }
        }
        Ok(times)
    };
    let mut times = std::thread::scope(|scope| -> Result<Vec<f64>> {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| work(false))).collect();
        let mut times = work(true)?;
        for other in others {
            times.extend(other.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        Ok(times)
    })?;
    let wall = start.elapsed().as_secs_f64();
    progress.end();
    if times.is_empty() {
        return Ok(Outcome::Cancelled("stopped before the first run ended".into()));
    }
    times.sort_by(f64::total_cmp);
    let at = |share: f64| times[((times.len() - 1) as f64 * share).round() as usize];
    let latency = Latency {
        min: at(0.0),
        median: at(0.5),
        mean: times.iter().sum::<f64>() / times.len() as f64,
        p90: at(0.9),
        p99: at(0.99),
        max: at(1.0),
    };
    let profile = if options.profile { profile(&plan, &inputs)? } else { vec![] };
    Ok(Outcome::Done(BenchReport {
        model: model.path,
        instruction_set: crate::kernels::instruction_set().name().into(),
        threads,
        batch: options.batch,
        runs: times.len(),
        load_ms: load.as_secs_f64() * 1e3,
        first_run_ms: first_run.as_secs_f64() * 1e3,
        latency_us: latency,
        rows_per_second: (times.len() * options.batch) as f64 / wall,
        profile,
    }))
}

/// Example inputs cut or repeated to `batch` rows.
fn inputs(plan: &Plan, model: &LoadedModel, batch: usize) -> Result<Vec<Tensor>> {
    let examples = example_inputs(plan, plan.inputs(), model.preprocessing.as_ref())?;
    let examples = examples.runs.into_iter().next().context("no example inputs")?;
    let resized =
        plan.inputs().iter().zip(examples).map(|(port, tensor)| match port.shape.first() {
            Some(Dim::Symbol(_)) => {
                let mut rows = vec![];
                let available = tensor.shape()[0];
                for row in 0..batch {
                    let row = row % available;
                    rows.push(tensor.slice(0, row, row + 1)?);
                }
                Ok(Tensor::stack_tensors(0, &rows)?)
            }
            Some(Dim::Known(n)) if *n != batch && batch != 1 => {
                Err(anyhow!("input '{}' has a fixed batch of {n}; leave --batch out", port.name))
            }
            _ => Ok(tensor),
        });
    resized.collect()
}

fn profile(plan: &Plan, inputs: &[Tensor]) -> Result<Vec<NodeShare>> {
    const RUNS: usize = 50;
    let mut session = plan.session()?;
    let mut nodes: Vec<(String, String, Vec<f64>)> = vec![];
    for _ in 0..RUNS {
        for (i, node) in session.profile(inputs.to_vec())?.into_iter().enumerate() {
            if i == nodes.len() {
                nodes.push((node.name, node.op, vec![]));
            }
            nodes[i].2.push(node.time.as_secs_f64() * 1e6);
        }
    }
    let mut shares: Vec<NodeShare> = nodes
        .into_iter()
        .map(|(node, op, mut times)| {
            times.sort_by(f64::total_cmp);
            NodeShare { node, op, microseconds: times[times.len() / 2], share: 0.0 }
        })
        .collect();
    let total: f64 = shares.iter().map(|s| s.microseconds).sum();
    shares.iter_mut().for_each(|s| s.share = s.microseconds / total);
    shares.sort_by(|a, b| b.microseconds.total_cmp(&a.microseconds));
    Ok(shares)
}
