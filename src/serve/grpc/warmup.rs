//! Requests that were recorded for a version to run before it takes the traffic: TensorFlow Serving's
//! `assets.extra/tf_serving_warmup_requests`, a file of `PredictionLog` records.

use super::messages::*;
use super::{examples_of, inputs_of};
use crate::format::mmap;
use crate::format::tensorflow::Records;
use crate::runtime::Tensor;
use crate::serve::examples::{output_of, tensors_of};
use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::servable::{DEFAULT_SIGNATURE, Method, Servable};
use anyhow::{Context, Result, bail};
use prost::Message;
use std::path::Path;
use std::time::{Duration, Instant};

const FILE: &str = "assets.extra/tf_serving_warmup_requests";
/// TensorFlow Serving's limit.
const MOST_RECORDS: usize = 1000;
/// For all of them.
const TIME: Duration = Duration::from_secs(600);

/// Runs the records of a version's folder, where it has some; the number of them. As in TensorFlow Serving, a version with
/// a record that cannot be read or run is not served.
///
/// # Errors
/// Name the file, the record and what is wrong with it.
pub fn warm_up(servable: &Servable, folder: &Path) -> Result<usize> {
    let path = folder.join(FILE);
    if !path.exists() {
        return Ok(0);
    }
    let at = || format!("warm-up {}", path.display());
    let file = mmap::open(&path).with_context(at)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    let runtime = runtime.context("cannot start a timer").with_context(at)?;
    let deadline = Instant::now() + TIME;
    let mut count = 0;
    for record in Records::new(file) {
        let what = "please verify your warmup data is in TFRecord format";
        let record = record.context(what).with_context(at)?;
        if count == MOST_RECORDS {
            let most = format!("Number of warmup records exceeds the maximum ({MOST_RECORDS})");
            return Err(anyhow::anyhow!(most)).with_context(at);
        }
        let at = || format!("{}, record {count}", at());
        let log = PredictionLog::decode(record).context("Failed to parse warmup record");
        let runs = runs_of(servable, &log.with_context(at)?);
        let runs = runs.map_err(|failure| anyhow::anyhow!("{failure}")).with_context(at)?;
        for tensors in runs {
            if let Err(failure) = runtime.block_on(run(servable, tensors, deadline)) {
                bail!("{}: {failure}", at());
            }
        }
        count += 1;
    }
    Ok(count)
}

/// One run. That the others' requests hold all the memory says nothing of this version: it waits for theirs.
async fn run(servable: &Servable, tensors: Vec<Tensor>, deadline: Instant) -> Answer<()> {
    const PAUSE: Duration = Duration::from_millis(20);
    let may_wait = servable.queue().could_hold(&tensors);
    loop {
        let answered = servable.answer(tensors.clone(), deadline).await;
        match answered {
            Err(failure)
                if may_wait
                    && failure.code == Code::ResourceExhausted
                    && Instant::now() < deadline =>
            {
                tokio::time::sleep(PAUSE).await;
            }
            answered => return answered.map(drop),
        }
    }
}

/// The inputs of each run that a request asks for. Its model and version are not looked at.
fn runs_of(servable: &Servable, log: &PredictionLog) -> Answer<Vec<Vec<Tensor>>> {
    let empty = || Failure::invalid("it has no request");
    let unsupported = |what: &str| Failure::invalid(format!("Unsupported log_type: {what}"));
    let of_examples = |method, input: Option<&Input>| {
        output_of(servable, method)?;
        tensors_of(&examples_of(input)?, servable.inputs())
    };
    let examples = |method, log: &ExamplesLog| {
        let request = log.request.as_ref().ok_or_else(empty)?;
        check_signature(servable, request.model_spec.as_ref())?;
        Ok(vec![of_examples(method, request.input.as_ref())?])
    };
    match log.kind.as_ref().ok_or_else(|| unsupported("none"))? {
        LogKind::Predict(log) => {
            let request = log.request.as_ref().ok_or_else(empty)?;
            check_signature(servable, request.model_spec.as_ref())?;
            Ok(vec![inputs_of(request, servable.inputs())?])
        }
        LogKind::Classify(log) => examples(Method::Classify, log),
        LogKind::Regress(log) => examples(Method::Regress, log),
        LogKind::MultiInference(log) => {
            let request = log.request.as_ref().ok_or_else(empty)?;
            let tasks = request.tasks.iter();
            tasks
                .map(|task| {
                    check_signature(servable, task.model_spec.as_ref())?;
                    let method = match task.method_name.as_str() {
                        "tensorflow/serving/regress" => Method::Regress,
                        _ => Method::Classify,
                    };
                    of_examples(method, request.input.as_ref())
                })
                .collect()
        }
        LogKind::SessionRun(_) => Err(unsupported("session_run_log")),
        LogKind::PredictStreamed(_) => Err(unsupported("predict_streamed_log")),
    }
}

fn check_signature(servable: &Servable, spec: Option<&ModelSpec>) -> Answer<()> {
    let name = spec.map_or(DEFAULT_SIGNATURE, |spec| spec.signature_name.as_str());
    servable.check_signature(Some(name))
}
