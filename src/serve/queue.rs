//! The queue of one version: requests wait here, bounded, until a thread runs them, alone or as a batch. No
//! inference runs anywhere else.

mod handoff;

use super::config::Batching;
use super::failure::{Answer, Code, Failure};
use super::memory::{Budget, Held};
use super::metrics::QueueMetrics;
use super::overload::{LongestWait, Pressure, Verdict};
use super::servable::Rows;
use super::trace::{self, Marks};
use crate::runtime::{Plan, Session, Tensor};
use crate::tract::guard::Panicked;
use anyhow::{Context, Result};
pub use handoff::{carry, tell};
use std::collections::VecDeque;
use std::mem::take;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// How the queue of every version works.
#[derive(Debug, Clone)]
pub struct QueueOptions {
    pub threads: usize,
    /// Requests that may wait where there are no batches.
    pub most_waiting: usize,
    /// How long a request may wait, as far as it can be foretold; any time where absent.
    pub longest_wait: Option<LongestWait>,
    pub batching: Option<Batching>,
    /// For the inputs that wait or run.
    pub memory: Arc<Budget>,
}

/// What a request gets: the outputs, in the model's order.
pub type Reply = Answer<Vec<Tensor>>;

struct Job {
    inputs: Vec<Tensor>,
    rows: usize,
    came: Instant,
    deadline: Instant,
    reply: oneshot::Sender<Reply>,
    _held: Held,
    /// Where the request is traced.
    marks: Option<Arc<Marks>>,
}

struct State {
    jobs: VecDeque<Job>,
    rows: usize,
    closed: bool,
    /// A thread waits for its batch to be filled: the next jobs are its.
    filling: bool,
    pressure: Pressure,
}

struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    /// Threads that wait for work; changed under the lock.
    idle: AtomicUsize,
    plan: Plan,
    rows: Rows,
    batching: Option<Batching>,
    /// Without batches: whether requests that wait at the same time may run together.
    gathers: bool,
    most_waiting: usize,
    memory: Arc<Budget>,
    metrics: Arc<QueueMetrics>,
}

/// Gathered runs have no more rows,
const MOST_GATHERED: usize = handoff::FEW_ROWS;
/// and take no longer: of longer ones each row pays for itself, and those that come first would wait for the others.
const LONGEST_GATHERED: Duration = Duration::from_micros(500);

pub struct Queue {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl std::fmt::Debug for Queue {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        write!(f, "Queue({} threads)", self.threads.len())
    }
}

impl Queue {
    /// # Errors
    /// The system gives no more threads.
    pub fn new(name: &str, plan: Plan, rows: Rows, options: &QueueOptions) -> Result<Queue> {
        let batching = options.batching.as_ref().filter(|_| rows == Rows::Any);
        let count = batching.and_then(|b| b.threads).unwrap_or(options.threads).max(1);
        Queue::with_threads(count, name, plan, rows, options)
    }

    fn with_threads(
        count: usize,
        name: &str,
        plan: Plan,
        rows: Rows,
        options: &QueueOptions,
    ) -> Result<Queue> {
        let batching = options.batching.clone().filter(|_| rows == Rows::Any);
        let shared = Arc::new(Shared {
            state: Mutex::new(State::new(Pressure::new(options.longest_wait, count))),
            wake: Condvar::new(),
            idle: AtomicUsize::new(0),
            gathers: batching.is_none() && rows == Rows::Any && plan.rows_are_independent(),
            plan,
            rows,
            batching,
            most_waiting: options.most_waiting.max(1),
            memory: options.memory.clone(),
            metrics: Arc::default(),
        });
        let mut queue = Queue { shared, threads: vec![] };
        for _ in 0..count {
            let shared = queue.shared.clone();
            let builder = thread::Builder::new().name(name.chars().take(15).collect());
            match builder.spawn(move || shared.work()) {
                Ok(thread) => queue.threads.push(thread),
                Err(error) => {
                    queue.end();
                    return Err(error).context("cannot start a thread for the model");
                }
            }
        }
        Ok(queue)
    }

    pub fn metrics(&self) -> &Arc<QueueMetrics> {
        &self.shared.metrics
    }

    /// Whether there is room for these inputs where no other request holds any.
    pub fn could_hold(&self, inputs: &[Tensor]) -> bool {
        bytes_of(inputs) <= self.shared.memory.most()
    }

    /// Lets `inputs`, which fit the model, wait for their run until `deadline`. Who drops the receiver has no more
    /// interest in it.
    ///
    /// # Errors
    /// The queue is full, or what waits in it takes too long, or all requests hold too much memory.
    pub fn submit(
        &self,
        inputs: Vec<Tensor>,
        rows: usize,
        deadline: Instant,
    ) -> Answer<oneshot::Receiver<Reply>> {
        let shared = &self.shared;
        let (reply, receiver) = oneshot::channel();
        let (came, marks) = (Instant::now(), trace::marks());
        if let Some(marks) = &marks {
            let _ = marks.queued.set(came);
        }
        let held = shared.room_for(&inputs)?;
        let job = Job { inputs, rows, came, deadline, reply, _held: held, marks };
        let mut state = shared.lock();
        if shared.is_full(&state, rows) {
            state.forget_lost();
        }
        shared.metrics.depth.store(state.jobs.len() as u64, Relaxed);
        if shared.is_full(&state, rows) {
            return Err(Failure::new(
                Code::ResourceExhausted,
                "The batch scheduling queue to which this task was submitted is full",
            ));
        }
        let verdict = state.ask(job.came);
        shared.metrics.depth.store(state.jobs.len() as u64, Relaxed);
        shared.metrics.overloaded.store(state.pressure.is_held().into(), Relaxed);
        if let Verdict::Shed { wait, most } = verdict {
            let shed = state.shed(most);
            shared.metrics.depth.store(state.jobs.len() as u64, Relaxed);
            drop(state);
            let failure = overloaded(wait, most);
            shed.into_iter().for_each(|job| drop(job.reply.send(Err(failure.clone()))));
            return Err(failure);
        }
        if let Verdict::Refuse { wait, most } = verdict {
            return Err(overloaded(wait, most));
        }
        state.rows += rows;
        state.jobs.push_back(job);
        shared.metrics.depth.store(state.jobs.len() as u64, Relaxed);
        let (filling, waiting) = (state.filling, state.jobs.len());
        drop(state);
        // while a batch is being filled, the one who fills it must hear of this
        match filling {
            true => shared.wake.notify_all(),
            false => shared.wake_soon(waiting),
        }
        Ok(receiver)
    }

    /// Runs what waits and ends the threads.
    pub fn end(mut self) {
        self.close();
        for thread in take(&mut self.threads) {
            let _ = thread.join();
        }
    }

    fn close(&self) {
        self.shared.lock().closed = true;
        self.shared.wake.notify_all();
    }
}

impl Drop for Queue {
    /// Who does not end a queue does not wait for its threads; they end all the same.
    fn drop(&mut self) {
        self.close();
    }
}

fn overloaded(wait: Duration, most: Duration) -> Failure {
    let (wait, most) = (wait.as_millis(), most.as_millis());
    let message = format!(
        "overloaded: the requests that wait need {wait} ms, and a new one may wait for {most} ms; try again later"
    );
    Failure::new(Code::ResourceExhausted, message)
}

impl State {
    fn new(pressure: Pressure) -> State {
        State { jobs: VecDeque::new(), rows: 0, closed: false, filling: false, pressure }
    }

    /// What becomes of a request that comes now. Those whose client is gone do not count against it.
    fn ask(&mut self, now: Instant) -> Verdict {
        let before = self.pressure.clone();
        let verdict = self.ask_as_it_is(now);
        if verdict == Verdict::Take || !self.forget_lost() {
            return verdict;
        }
        self.pressure = before;
        self.ask_as_it_is(now)
    }

    fn ask_as_it_is(&mut self, now: Instant) -> Verdict {
        let oldest = self.jobs.front().map_or(Duration::ZERO, |first| now - first.came);
        self.pressure.ask(now, self.rows, oldest)
    }

    /// Takes the oldest out until the others wait no longer than `most`.
    fn shed(&mut self, most: Duration) -> Vec<Job> {
        let mut shed = vec![];
        while self.pressure.wait_for(self.rows) > most
            && let Some(job) = self.jobs.pop_front()
        {
            self.rows -= job.rows;
            shed.push(job);
        }
        shed
    }

    /// Drops those whose client is gone, so that they do not fill the queue; whether there were any.
    fn forget_lost(&mut self) -> bool {
        let before = self.jobs.len();
        self.jobs.retain(|job| !job.reply.is_closed());
        self.rows = self.jobs.iter().map(|job| job.rows).sum();
        self.jobs.len() < before
    }

    /// The next job that somebody still waits for.
    fn next(&mut self) -> Option<Job> {
        while let Some(job) = self.jobs.pop_front() {
            self.rows -= job.rows;
            if let Some(job) = job.if_wanted() {
                return Some(job);
            }
        }
        None
    }

    /// The first that fits in one batch with `first`.
    fn next_like(&mut self, first: &Job, room: usize) -> Option<Job> {
        while let Some(at) = self.jobs.iter().position(|job| job.goes_with(first)) {
            if self.jobs[at].rows > room {
                return None;
            }
            let job = self.jobs.remove(at)?;
            self.rows -= job.rows;
            if let Some(job) = job.if_wanted() {
                return Some(job);
            }
        }
        None
    }
}

impl Job {
    fn if_wanted(self) -> Option<Job> {
        if self.reply.is_closed() {
            return None;
        }
        if Instant::now() > self.deadline {
            let late = Failure::new(Code::DeadlineExceeded, "the request waited for too long");
            let _ = self.reply.send(Err(late));
            return None;
        }
        Some(self)
    }

    fn goes_with(&self, other: &Job) -> bool {
        let pairs = self.inputs.iter().zip(&other.inputs);
        pairs
            .into_iter()
            .all(|(a, b)| a.shape()[1..] == b.shape()[1..] && a.datum_type() == b.datum_type())
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A part of the memory for a job's inputs, if need be that of jobs whose client is gone.
    fn room_for(&self, inputs: &[Tensor]) -> Answer<Held> {
        let bytes = bytes_of(inputs);
        self.memory.take(bytes).or_else(|full| {
            let mut state = self.lock();
            let lost = state.forget_lost();
            self.metrics.depth.store(state.jobs.len() as u64, Relaxed);
            drop(state);
            if lost { self.memory.take(bytes) } else { Err(full) }
        })
    }

    fn is_full(&self, state: &State, rows: usize) -> bool {
        match &self.batching {
            // one that is larger than the whole queue may come when nothing waits
            Some(batching) => {
                let most = batching.max_batch_size.saturating_mul(batching.max_enqueued_batches);
                state.rows > 0 && state.rows.saturating_add(rows) > most
            }
            None => state.jobs.len() >= self.most_waiting,
        }
    }

    fn work(&self) {
        let mut session = self.plan.session().ok();
        let (mut ran, mut last) = (None, 0);
        while let Some(batch) = self.next_batch(ran) {
            let (rows, work) = (rows_of(&batch), self.work_of(&batch));
            // a row of the same shapes costs what the last cost
            let alike = ran.filter(|_| work == last && work > 0);
            handoff::send_before(alike.map(|(ran, time)| time.mul_f64(rows as f64 / ran as f64)));
            last = work;
            ran = Some(self.run(batch, &mut session));
        }
        handoff::send();
    }

    /// A number for what a row of a batch costs, as far as shapes tell; 0 where it has many rows.
    fn work_of(&self, batch: &[Job]) -> u64 {
        if rows_of(batch) > handoff::FEW_ROWS {
            return 0;
        }
        let inner = usize::from(self.rows == Rows::Any);
        let dims = batch[0].inputs.iter().flat_map(|tensor| tensor.shape().iter().skip(inner));
        dims.fold(1, |work, &dim| (work ^ dim as u64).wrapping_mul(0x0100_0000_01b3)).max(1)
    }

    /// Waits for work; `None` at the end. `ran` are the rows of the thread's last run, and its time.
    fn next_batch(&self, ran: Option<(usize, Duration)>) -> Option<Vec<Job>> {
        let mut state = self.lock();
        if let Some((rows, time)) = ran {
            state.pressure.ran(rows, time);
        }
        let first = loop {
            if !state.filling
                && let Some(job) = state.next()
            {
                break job;
            }
            if state.closed && state.jobs.is_empty() {
                // others may have waited for this one's batch
                self.wake.notify_all();
                return None;
            }
            if !handoff::holds() {
                self.metrics.depth.store(state.jobs.len() as u64, Relaxed);
                state = self.wait(state);
                continue;
            }
            drop(state);
            handoff::send();
            state = self.lock();
        };
        let mut batch = vec![first];
        if let Some(batching) = &self.batching {
            let end = batch[0].came + batching.timeout;
            let mut rows = batch[0].rows;
            loop {
                let room = batching.max_batch_size.saturating_sub(rows);
                if room == 0 {
                    break;
                }
                if let Some(job) = state.next_like(&batch[0], room) {
                    rows += job.rows;
                    batch.push(job);
                    continue;
                }
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() || state.closed || !state.jobs.is_empty() {
                    break;
                }
                handoff::send();
                state.filling = true;
                let waited = self.wake.wait_timeout(state, left);
                state = waited.unwrap_or_else(PoisonError::into_inner).0;
                state.filling = false;
            }
            if !state.jobs.is_empty() {
                self.wake.notify_one();
            }
        } else if self.gathers {
            let most = state.pressure.rows_within(LONGEST_GATHERED).min(MOST_GATHERED);
            let mut rows = batch[0].rows;
            // a thread that is free runs one at the same time
            while rows < most
                && state.jobs.len() > self.idle.load(Relaxed)
                && let Some(job) = state.next_like(&batch[0], most - rows)
            {
                rows += job.rows;
                batch.push(job);
            }
        }
        self.metrics.depth.store(state.jobs.len() as u64, Relaxed);
        Some(batch)
    }

    fn run(&self, mut batch: Vec<Job>, session: &mut Option<Session>) -> (usize, Duration) {
        let start = Instant::now();
        for job in &batch {
            self.metrics.waiting.add(start.duration_since(job.came));
        }
        let rows = rows_of(&batch);
        self.metrics.add_batch(rows);
        let inputs = match batch.as_mut_slice() {
            [one] => Ok(take(&mut one.inputs)),
            several => joined(several.iter().map(|job| &job.inputs)),
        };
        let outputs = inputs.and_then(|inputs| self.run_rows(session, inputs, rows));
        let mut time = start.elapsed();
        self.metrics.running.add(time);
        for marks in batch.iter().filter_map(|job| job.marks.as_ref()) {
            let _ = marks.run.set((start, Instant::now(), rows));
        }
        match outputs {
            Ok(mut outputs) => {
                let mut first = 0;
                let alone = batch.len() == 1;
                for job in batch {
                    let end = first + job.rows;
                    let own: Result<Vec<Tensor>> = match alone {
                        true => Ok(take(&mut outputs)),
                        false => outputs.iter().map(|t| t.slice(0, first, end)).collect(),
                    };
                    handoff::hold(job.reply, own.map_err(failed));
                    first = end;
                }
                handoff::send_after(start);
            }
            Err(_) if batch.len() > 1 => {
                handoff::send();
                for job in batch {
                    let again = Instant::now();
                    let outputs = self.run_rows(session, job.inputs, job.rows).map_err(failed);
                    self.metrics.running.add(again.elapsed());
                    let _ = job.reply.send(outputs);
                }
                time = start.elapsed();
            }
            Err(error) => {
                let failure = failed(error);
                batch.into_iter().for_each(|job| drop(job.reply.send(Err(failure.clone()))));
            }
        }
        (rows, time)
    }

    /// Runs rows in as many runs as the model needs for them.
    fn run_rows(
        &self,
        session: &mut Option<Session>,
        inputs: Vec<Tensor>,
        rows: usize,
    ) -> Result<Vec<Tensor>> {
        let most = match (self.rows, &self.batching) {
            (Rows::Fixed(n), _) => n,
            (Rows::Any, Some(batching)) => batching.max_batch_size,
            _ => rows,
        };
        if rows <= most {
            return self.run_once(session, inputs, rows);
        }
        let mut parts = vec![];
        for start in (0..rows).step_by(most) {
            let end = rows.min(start + most);
            let part = inputs.iter().map(|t| t.slice(0, start, end)).collect::<Result<_>>()?;
            parts.push(self.run_once(session, part, end - start)?);
        }
        joined(parts.iter())
    }

    /// Pads to an allowed size, runs, and cuts the padding off.
    fn run_once(
        &self,
        session: &mut Option<Session>,
        mut inputs: Vec<Tensor>,
        rows: usize,
    ) -> Result<Vec<Tensor>> {
        let allowed = self.batching.iter().flat_map(|b| &b.allowed_batch_sizes);
        let padded = allowed.copied().find(|&size| size >= rows).unwrap_or(rows);
        if padded > rows {
            for tensor in &mut inputs {
                let first = tensor.slice(0, 0, 1)?;
                let mut parts = vec![tensor.clone()];
                parts.resize(1 + padded - rows, first);
                *tensor = Tensor::stack_tensors(0, &parts)?;
            }
        }
        let own = match session {
            Some(session) => session,
            None => session.insert(self.plan.session()?),
        };
        let outputs = own.run(inputs);
        if outputs.is_err() {
            // what a run that failed leaves behind is not to be trusted
            *session = None;
        }
        let outputs = outputs?;
        match padded > rows {
            true => outputs.iter().map(|t| t.slice(0, 0, rows)).collect(),
            false => Ok(outputs),
        }
    }
}

fn bytes_of(inputs: &[Tensor]) -> usize {
    inputs.iter().map(|tensor| tensor.len() * tensor.datum_type().size_of()).sum()
}

fn rows_of(batch: &[Job]) -> usize {
    batch.iter().map(|job| job.rows).sum()
}

/// As in TensorFlow, what a model cannot do with inputs of the right type and shape is the inputs' fault; a panic is ours.
fn failed(error: anyhow::Error) -> Failure {
    let code = if error.is::<Panicked>() { Code::Internal } else { Code::InvalidArgument };
    Failure::new(code, format!("{error:#}"))
}

/// Puts the rows of several requests together, input by input.
fn joined<'a>(parts: impl Iterator<Item = &'a Vec<Tensor>>) -> Result<Vec<Tensor>> {
    let parts: Vec<&Vec<Tensor>> = parts.collect();
    if let [one] = parts.as_slice() {
        return Ok((*one).clone());
    }
    let count = parts.first().map_or(0, |p| p.len());
    (0..count)
        .map(|i| {
            let tensors: Vec<&Tensor> = parts.iter().map(|p| &p[i]).collect();
            Tensor::stack_tensors(0, &tensors).context("joining the rows of a batch")
        })
        .collect()
}

#[cfg(test)]
mod tests;
