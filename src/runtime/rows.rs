//! Many rows through a model: cut into batches, shared out over threads, put together again.

use super::{Plan, Tensor};
use crate::graph::Dim;
use anyhow::{Context, Result, anyhow, ensure};

/// Rows of one run when the model takes any number.
const ROWS_PER_RUN: usize = 256;

/// Runs `inputs` whose first axes are rows, cut to what the model takes at once, on `threads` threads.
///
/// A model whose first axes are not all rows runs once, on the whole tensors.
///
/// # Errors
/// The inputs do not fit, or differ in their number of rows.
pub fn run_rows(plan: &Plan, inputs: Vec<Tensor>, threads: usize) -> Result<Vec<Tensor>> {
    let Some(per_run) = rows_per_run(plan) else { return plan.session()?.run(inputs) };
    ensure!(
        inputs.len() == plan.inputs().len(),
        "the model has {} inputs, {} were given",
        plan.inputs().len(),
        inputs.len()
    );
    let rows = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(0);
    for (port, tensor) in plan.inputs().iter().zip(&inputs) {
        let found = tensor.shape().first().copied();
        ensure!(found == Some(rows), "input '{}' has {found:?} rows, not {rows}", port.name);
    }
    if rows <= per_run && (rows == per_run || per_run == ROWS_PER_RUN) {
        return plan.session()?.run(inputs);
    }
    ensure!(
        per_run == ROWS_PER_RUN || rows.is_multiple_of(per_run),
        "the model takes {per_run} rows at a time; {rows} is no multiple of that"
    );
    let starts: Vec<usize> = (0..rows).step_by(per_run).collect();
    let threads = threads.clamp(1, starts.len().max(1));
    let work = |first: usize| -> Result<Vec<(usize, Vec<Tensor>)>> {
        let mut session = plan.session()?;
        let mut results = vec![];
        for &start in starts.iter().skip(first).step_by(threads) {
            let end = rows.min(start + per_run);
            let part = inputs.iter().map(|t| t.slice(0, start, end)).collect::<Result<_, _>>()?;
            results.push((start, session.run(part)?));
        }
        Ok(results)
    };
    let mut results = std::thread::scope(|scope| -> Result<Vec<_>> {
        let others: Vec<_> = (1..threads).map(|i| scope.spawn(move || work(i))).collect();
        let mut results = work(0)?;
        for other in others {
            results.extend(other.join().map_err(|_| anyhow!("a thread panicked"))??);
        }
        Ok(results)
    })?;
    results.sort_by_key(|(start, _)| *start);
    (0..plan.outputs().len())
        .map(|i| {
            let parts: Vec<Tensor> =
                results.iter().map(|(_, outputs)| outputs[i].clone()).collect();
            Tensor::stack_tensors(0, &parts).context("joining the rows")
        })
        .collect()
}

/// How many rows one run takes: the known first axis of all ends, or any number of a shared symbol.
fn rows_per_run(plan: &Plan) -> Option<usize> {
    let ends = plan.inputs().iter().chain(plan.outputs());
    let mut firsts = ends.map(|port| port.shape.first());
    let first = firsts.next()??;
    if !firsts.all(|f| f == Some(first)) {
        return None;
    }
    match first {
        Dim::Known(n) => Some(*n).filter(|&n| n > 0),
        Dim::Symbol(_) => Some(ROWS_PER_RUN),
    }
}
