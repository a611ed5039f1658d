//! The training loop.

use super::batches::{BatchBuffers, shuffled};
use super::initial_model;
use super::optimizer::Optimizer;
use super::recipe::Recipe;
use super::step::{RowSums, TrainableModel};
use crate::data::{Dataset, LabelledImages};
use crate::progress::{EpochReport, LayerSummary, Progress, Score};
use crate::runtime::{Session, Tensor};
use crate::tract::pb;
use anyhow::{Context, Result, anyhow, bail, ensure};
use std::collections::HashMap;
use std::sync::{Arc, mpsc};
use std::time::Instant;

/// Rows of one evaluation pass: enough to keep the kernels busy, few enough for the caches.
const EVALUATION_ROWS: usize = 500;

/// A batch is cut into shards of about this many rows; fixed, so that results do not depend on threads.
const SHARD_ROWS: usize = 32;

/// A finished training run.
#[derive(Debug)]
pub struct Trained {
    pub model: pb::ModelProto,
    pub layers: Vec<LayerSummary>,
    pub epochs: Vec<EpochReport>,
    pub test: Score,
    pub training_samples: usize,
    pub validation_samples: usize,
    pub test_samples: usize,
}

/// Why there is no trained model.
#[derive(Debug)]
pub enum TrainError {
    /// The user stopped the run after this step of this epoch (both from 1).
    Cancelled {
        epoch: usize,
        step: usize,
    },
    Failed(anyhow::Error),
}

impl From<anyhow::Error> for TrainError {
    fn from(error: anyhow::Error) -> TrainError {
        TrainError::Failed(error)
    }
}

/// Trains the recipe's model on `data`; the first samples of its training set are for validation.
///
/// The same recipe and data give the same bytes, whatever `threads`.
///
/// # Errors
/// The recipe does not fit the data, the loss stops being a number, or the user stopped the run.
pub fn train(
    recipe: &Recipe,
    data: &Dataset,
    threads: usize,
    progress: &dyn Progress,
) -> Result<Trained, TrainError> {
    recipe.check()?;
    let (validation, training) = split(recipe, data)?;
    let sample_shape = [data.train.rows(), data.train.cols(), 1];
    let (proto, layers) = initial_model::build(recipe, &sample_shape)?;
    let mut model = TrainableModel::new(proto, recipe.training.loss)?;
    if model.classes < data.train.classes() {
        let (units, classes) = (model.classes, data.train.classes());
        return Err(anyhow!(
            "the last layer has {units} units, but {} has {classes} classes",
            data.name
        )
        .into());
    }
    progress.model(&layers);
    let mut trainer = Trainer::new(&model, recipe, threads)?;
    let mut epochs = vec![];
    for epoch in 0..recipe.training.epochs {
        let start = Instant::now();
        let order = shuffled(&training, recipe.training.seed, epoch);
        let sums = trainer.epoch(&mut model, &data.train, &order, epoch, progress)?;
        let training_seconds = start.elapsed().as_secs_f64();
        let validation = match validation.is_empty() {
            true => None,
            false => Some(evaluate(&model, &data.train, &validation, threads)?),
        };
        let report = EpochReport {
            epoch: epoch + 1,
            epochs: recipe.training.epochs,
            loss: sums.loss / order.len() as f64,
            accuracy: sums.correct / order.len() as f64,
            validation,
            seconds: start.elapsed().as_secs_f64(),
            training_seconds,
        };
        progress.epoch(&report);
        epochs.push(report);
    }
    let all: Vec<u32> = (0..data.test.len() as u32).collect();
    let test = evaluate(&model, &data.test, &all, threads)?;
    if progress.cancelled() {
        let step = training.len().div_ceil(recipe.training.batch_size);
        return Err(TrainError::Cancelled { epoch: recipe.training.epochs, step });
    }
    Ok(Trained {
        model: model.to_onnx()?,
        layers,
        epochs,
        test,
        training_samples: training.len(),
        validation_samples: validation.len(),
        test_samples: all.len(),
    })
}

/// The samples for validation and for training.
fn split(recipe: &Recipe, data: &Dataset) -> Result<(Vec<u32>, Vec<u32>)> {
    let total = data.train.len();
    let wanted = recipe.training.validation;
    let validation = if wanted < 1.0 { (wanted * total as f64).round() } else { wanted } as usize;
    ensure!(
        validation < total,
        "validation takes {validation} of {total} training samples; leave some for training"
    );
    let sizes = [&data.train, &data.test].map(|set| (set.rows(), set.cols()));
    ensure!(sizes[0] == sizes[1], "training and test images differ in size: {sizes:?}");
    let all: Vec<u32> = (0..u32::try_from(total)?).collect();
    let (validation, training) = all.split_at(validation);
    Ok((validation.to_vec(), training.to_vec()))
}

/// Mean loss and accuracy of the model on some samples.
pub fn evaluate(
    model: &TrainableModel,
    data: &LabelledImages,
    samples: &[u32],
    threads: usize,
) -> Result<Score> {
    let chunks: Vec<&[u32]> = samples.chunks(EVALUATION_ROWS).collect();
    let work = |mine: Vec<(usize, &[u32])>| -> Result<Vec<(usize, RowSums)>> {
        let mut sessions: HashMap<usize, (Session, BatchBuffers)> = HashMap::new();
        let mut sums = vec![];
        for (i, chunk) in mine {
            let rows = chunk.len();
            if !sessions.contains_key(&rows) {
                let buffers = BatchBuffers::new(rows, &model.sample_shape)?;
                sessions.insert(rows, (model.evaluation(rows)?, buffers));
            }
            let (session, buffers) = sessions.get_mut(&rows).context("session")?;
            buffers.fill(data, chunk)?;
            let feed = TrainableModel::feed(
                &buffers.inputs,
                model.parameters.iter().cloned(),
                &buffers.labels,
            );
            sums.push((i, RowSums::of(&session.run_shared(feed)?)?));
        }
        Ok(sums)
    };
    let threads = threads.clamp(1, chunks.len().max(1));
    let mut parts: Vec<Vec<(usize, &[u32])>> = vec![vec![]; threads];
    for (i, chunk) in chunks.iter().enumerate() {
        parts[i % threads].push((i, chunk));
    }
    let mut sums: Vec<(usize, RowSums)> = std::thread::scope(|scope| {
        let first = parts.pop().unwrap_or_default();
        let others: Vec<_> = parts.into_iter().map(|part| scope.spawn(|| work(part))).collect();
        let mut sums = work(first)?;
        for thread in others {
            sums.extend(thread.join().map_err(|_| anyhow!("an evaluation thread panicked"))??);
        }
        Ok::<_, anyhow::Error>(sums)
    })?;
    sums.sort_by_key(|(i, _)| *i);
    let mut total = RowSums::default();
    sums.into_iter().for_each(|(_, sum)| total.add(sum));
    let count = samples.len().max(1) as f64;
    Ok(Score { loss: total.loss / count, accuracy: total.correct / count })
}

/// A recipe's loop over one model, with what its optimizer remembers from step to step.
pub struct Trainer {
    batch_size: usize,
    threads: usize,
    learning_rate: f32,
    optimizer: Optimizer,
    shards: ShardSessions,
}

/// Sessions and buffers by number of rows, made when first needed.
#[derive(Default)]
struct ShardSessions {
    sessions: HashMap<(usize, Option<u32>), (Session, BatchBuffers)>,
}

impl ShardSessions {
    fn get(
        &mut self,
        model: &TrainableModel,
        rows: usize,
        factor: Option<f32>,
    ) -> Result<&mut (Session, BatchBuffers)> {
        let key = (rows, factor.map(f32::to_bits));
        if !self.sessions.contains_key(&key) {
            let buffers = BatchBuffers::new(rows, &model.sample_shape)?;
            self.sessions.insert(key, (model.gradients(rows, factor)?, buffers));
        }
        self.sessions.get_mut(&key).context("session")
    }
}

/// One shard's gradients, with what its rows came to.
type ShardResult = (RowSums, Vec<Arc<Tensor>>);

impl Trainer {
    pub fn new(model: &TrainableModel, recipe: &Recipe, threads: usize) -> Result<Trainer> {
        let training = &recipe.training;
        Ok(Trainer {
            batch_size: training.batch_size,
            threads: threads.max(1),
            learning_rate: training.learning_rate,
            optimizer: Optimizer::new(training, &model.parameters),
            shards: ShardSessions::default(),
        })
    }

    /// One pass over the samples of `order`, batch by batch; gives the sums over all of them, each of
    /// before its batch's step. `epoch` (from 0) is for reports.
    ///
    /// # Errors
    /// The loss stops being a number, or the user stopped the run; `model` is then without use.
    pub fn epoch(
        &mut self,
        model: &mut TrainableModel,
        data: &LabelledImages,
        order: &[u32],
        epoch: usize,
        progress: &dyn Progress,
    ) -> Result<RowSums, TrainError> {
        let shards = self.batch_size.min(order.len()).div_ceil(SHARD_ROWS);
        let helpers = self.threads.min(shards) - 1;
        progress.begin("training", order.len().div_ceil(self.batch_size) as u64);
        let template = model.without_parameters();
        let result = std::thread::scope(|scope| {
            let helpers: Vec<Helper> =
                (0..helpers).map(|_| Helper::spawn(scope, &template, data)).collect();
            let mut total = RowSums::default();
            let mut seen = 0;
            for (step, batch) in order.chunks(self.batch_size).enumerate() {
                let sums = match shards {
                    1 => self.step(model, data, batch)?,
                    _ => self.sharded_step(model, data, batch, &helpers)?,
                };
                if !sums.loss.is_finite() {
                    return Err(anyhow!(
                        "the loss became {} at epoch {}, step {}; lower the learning rate (now {:?})",
                        sums.loss,
                        epoch + 1,
                        step + 1,
                        self.learning_rate
                    )
                    .into());
                }
                total.add(sums);
                seen += batch.len();
                let detail = || {
                    let mean = |sum: f64| sum / seen as f64;
                    format!("loss {:.4}  accuracy {:.4}", mean(total.loss), mean(total.correct))
                };
                progress.advance(step as u64 + 1, &detail);
                if progress.cancelled() {
                    return Err(TrainError::Cancelled { epoch: epoch + 1, step: step + 1 });
                }
            }
            Ok(total)
        });
        progress.end();
        result
    }

    /// A batch of one shard.
    fn step(
        &mut self,
        model: &mut TrainableModel,
        data: &LabelledImages,
        batch: &[u32],
    ) -> Result<RowSums> {
        let factor = self.optimizer.plain_factor(batch.len());
        let (session, buffers) = self.shards.get(model, batch.len(), factor)?;
        buffers.fill(data, batch)?;
        if factor.is_some() {
            let parameters = std::mem::take(&mut model.parameters);
            let feed = TrainableModel::feed(&buffers.inputs, parameters, &buffers.labels);
            let mut outputs = session.run_shared(feed)?;
            let sums = RowSums::of(&outputs)?;
            model.parameters = outputs.split_off(2);
            return Ok(sums);
        }
        let (sums, gradients) = run_shard(session, buffers, &model.parameters)?;
        self.optimizer.step(&mut model.parameters, &gradients, batch.len())?;
        Ok(sums)
    }

    /// A batch of several shards, shared out over the threads; gradients are added in shard order.
    fn sharded_step(
        &mut self,
        model: &mut TrainableModel,
        data: &LabelledImages,
        batch: &[u32],
        helpers: &[Helper],
    ) -> Result<RowSums> {
        let count = batch.len().div_ceil(SHARD_ROWS);
        let shards: Vec<&[u32]> = batch.chunks(batch.len().div_ceil(count)).collect();
        let mut results: Vec<Option<ShardResult>> = shards.iter().map(|_| None).collect();
        for (i, shard) in shards.iter().enumerate() {
            if let Some(helper) = helpers.get(i % (helpers.len() + 1)) {
                helper.send(shard, &model.parameters)?;
            }
        }
        for (i, shard) in shards.iter().enumerate() {
            if i % (helpers.len() + 1) == helpers.len() {
                let (session, buffers) = self.shards.get(model, shard.len(), None)?;
                buffers.fill(data, shard)?;
                results[i] = Some(run_shard(session, buffers, &model.parameters)?);
            }
        }
        let mut total = RowSums::default();
        let mut gradients: Vec<Arc<Tensor>> = vec![];
        for (i, result) in results.into_iter().enumerate() {
            let (sums, shard) = match result {
                Some(result) => result,
                None => helpers[i % (helpers.len() + 1)].receive()?,
            };
            total.add(sums);
            if gradients.is_empty() {
                gradients = shard;
                continue;
            }
            for (sum, part) in gradients.iter_mut().zip(&shard) {
                let mut plain = super::batches::exclusive(sum)?.try_as_plain_ram_mut()?;
                let part = crate::runtime::f32_values(part)?;
                crate::kernels::axpy(1.0, part, plain.as_slice_mut::<f32>()?);
            }
        }
        self.optimizer.step(&mut model.parameters, &gradients, batch.len())?;
        Ok(total)
    }
}

fn run_shard(
    session: &mut Session,
    buffers: &BatchBuffers,
    parameters: &[Arc<Tensor>],
) -> Result<ShardResult> {
    let feed = TrainableModel::feed(&buffers.inputs, parameters.iter().cloned(), &buffers.labels);
    let mut outputs = session.run_shared(feed)?;
    let sums = RowSums::of(&outputs)?;
    Ok((sums, outputs.split_off(2)))
}

/// A thread that works on shards until its channel closes.
struct Helper {
    work: mpsc::Sender<(Vec<u32>, Vec<Arc<Tensor>>)>,
    results: mpsc::Receiver<Result<ShardResult>>,
}

impl Helper {
    fn spawn<'scope>(
        scope: &'scope std::thread::Scope<'scope, '_>,
        model: &'scope TrainableModel,
        data: &'scope LabelledImages,
    ) -> Helper {
        let (work, inbox) = mpsc::channel::<(Vec<u32>, Vec<Arc<Tensor>>)>();
        let (outbox, results) = mpsc::channel();
        scope.spawn(move || {
            let mut shards = ShardSessions::default();
            for (samples, parameters) in inbox {
                let result =
                    shards.get(model, samples.len(), None).and_then(|(session, buffers)| {
                        buffers.fill(data, &samples)?;
                        run_shard(session, buffers, &parameters)
                    });
                drop(parameters);
                if outbox.send(result).is_err() {
                    break;
                }
            }
        });
        Helper { work, results }
    }

    fn send(&self, samples: &[u32], parameters: &[Arc<Tensor>]) -> Result<()> {
        let work = (samples.to_vec(), parameters.to_vec());
        self.work.send(work).map_err(|_| anyhow!("a training thread ended early"))
    }

    fn receive(&self) -> Result<ShardResult> {
        match self.results.recv() {
            Ok(result) => result,
            Err(_) => bail!("a training thread ended early"),
        }
    }
}
