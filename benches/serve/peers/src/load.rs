//! The load generator. One thread, so that what it takes of the machine is bounded.
//!
//! Closed loop: every connection sends its next request when it has the answer to the last. Open loop (`--rate`):
//! requests are due at fixed moments, whether or not earlier ones are answered; one that finds no free connection
//! waits, and its time runs from the moment it was due (no coordinated omission).

use crate::body;
use crate::clients::Client;
use crate::cpu;
use crate::report::Report;
use crate::timer::Timer;
use anyhow::{Context, Result};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use serde_json::json;
use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::task::LocalSet;

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Protocol {
    /// TensorFlow Serving's: {"instances": …}
    Rest,
    /// KServe V2, JSON
    V2,
    /// KServe V2, tensors in binary
    V2Binary,
    /// TensorFlow Serving's Predict, tensor_content
    Grpc,
}

/// Make requests, and tell how they went as JSON
#[derive(Debug, Args)]
pub struct Options {
    /// HOST:PORT
    #[arg(long)]
    pub address: String,
    #[arg(long, value_enum, default_value = "rest")]
    pub protocol: Protocol,
    #[arg(long, default_value = "default")]
    pub model: String,
    /// Of the URL [default: the protocol's for --model]
    #[arg(long)]
    path: Option<String>,
    /// Name of the model's input, for V2 and gRPC
    #[arg(long, default_value = "x")]
    pub input: String,
    #[arg(long, value_delimiter = ',', default_value = "1,784")]
    pub shape: Vec<i64>,
    /// File with the request's body, in place of numbers in --shape
    #[arg(long)]
    pub body: Option<PathBuf>,
    /// More headers, 'Name: value' (REST)
    #[arg(long)]
    pub header: Vec<String>,
    #[arg(long, default_value_t = 16)]
    connections: usize,
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Seconds before, which are not counted
    #[arg(long, default_value_t = 0.3)]
    warm: f64,
    /// Requests a second [default: as fast as they are answered]
    #[arg(long)]
    rate: Option<f64>,
    /// With --rate: times between requests are exponential, as those of independent clients
    #[arg(long, requires = "rate")]
    poisson: bool,
    /// Most seconds for one request
    #[arg(long, default_value_t = 30.0)]
    timeout: f64,
    /// Process whose CPU time, with its children's, is told per request
    #[arg(long)]
    pid: Option<u32>,
    /// Count different answers, up to 64
    #[arg(long)]
    answers: bool,
}

impl Options {
    pub fn path(&self) -> String {
        let model = &self.model;
        self.path.clone().unwrap_or_else(|| match self.protocol {
            Protocol::Rest => format!("/v1/models/{model}:predict"),
            Protocol::V2 | Protocol::V2Binary => format!("/v2/models/{model}/infer"),
            Protocol::Grpc => "/tensorflow.serving.PredictionService/Predict".into(),
        })
    }
}

/// What the connections share.
struct Run {
    options: Target,
    /// Requests that are due, and have no connection yet.
    due: RefCell<VecDeque<Instant>>,
    more_due: Notify,
    report: RefCell<Report>,
    /// Since when answers count.
    counts: Cell<Option<Instant>>,
    answered: Cell<u64>,
    /// Of these, the ones that came while answers count, whenever their requests were sent.
    in_time: Cell<u64>,
    stopped: Cell<bool>,
}

struct Target {
    address: String,
    protocol: Protocol,
    path: String,
    open: bool,
    timeout: Duration,
    answers: bool,
}

pub fn run(options: &Options) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let local = LocalSet::new();
    let report = local.block_on(&runtime, measure(options))?;
    println!("{report}");
    Ok(())
}

/// Between looking at processes, which takes a while, and counting.
const SETTLE: Duration = Duration::from_millis(50);

async fn measure(options: &Options) -> Result<serde_json::Value> {
    let request = Bytes::from(body::request(options)?);
    let run = Rc::new(Run {
        options: Target {
            address: options.address.clone(),
            protocol: options.protocol,
            path: options.path(),
            open: options.rate.is_some(),
            timeout: Duration::from_secs_f64(options.timeout),
            answers: options.answers,
        },
        due: RefCell::default(),
        more_due: Notify::new(),
        report: RefCell::default(),
        counts: Cell::new(None),
        answered: Cell::new(0),
        in_time: Cell::new(0),
        stopped: Cell::new(false),
    });
    let mut connections = vec![];
    for _ in 0..options.connections {
        connections.push(tokio::task::spawn_local(connection(run.clone(), request.clone())));
    }
    let [warm, seconds] = [options.warm, options.seconds].map(Duration::from_secs_f64);
    if let Some(rate) = options.rate {
        tokio::task::spawn_local(dispatch(run.clone(), rate, options.poisson));
    }
    tokio::time::sleep(warm).await;
    let used = || (options.pid.and_then(cpu::seconds), cpu::seconds(std::process::id()));
    let (answered_before, (cpu_before, own_before)) = (run.answered.get(), used());
    let asked = Instant::now();
    // what was due in the meantime is late by the time that looking took
    tokio::time::sleep(SETTLE).await;
    let start = Instant::now();
    run.counts.set(Some(start));
    tokio::time::sleep(seconds).await;
    let counted = start.elapsed();
    let wall = counted.as_secs_f64();
    run.counts.set(None);
    let (answered, (cpu_after, own_after)) = (run.answered.get() - answered_before, used());
    let looked_at = asked.elapsed().as_secs_f64();
    run.stopped.set(true);
    let unsent = run.due.borrow().len();
    run.more_due.notify_waiters();
    // those that are on their way when time is up are not counted
    for connection in connections {
        connection.abort();
    }
    let report = std::mem::take(&mut *run.report.borrow_mut());
    let micros = |before: Option<f64>, after: Option<f64>| {
        Some((after? - before?) * 1e6 / (answered.max(1) as f64))
    };
    let more = json!({
        "connections": options.connections,
        "seconds": wall,
        "rate": options.rate,
        "per_second": run.in_time.get() as f64 / wall,
        "unsent": unsent,
        "bytes_sent": request.len(),
        "cpu_us": micros(cpu_before, cpu_after),
        "cpu_share": cpu_before.zip(cpu_after).map(|(b, a)| (a - b) / looked_at),
        "generator_cpu_us": micros(own_before, own_after),
        "generator_cpu_share": own_before.zip(own_after).map(|(b, a)| (a - b) / looked_at),
    });
    Ok(report.json(counted, more))
}

/// Makes requests due at their moments.
async fn dispatch(run: Rc<Run>, rate: f64, poisson: bool) -> Result<()> {
    let timer = Timer::new()?;
    let mut next = Instant::now();
    let mut state = 1u64;
    while !run.stopped.get() {
        timer.until(next).await?;
        let now = Instant::now();
        if let Some(at) = run.counts.get().and_then(|since| next.checked_duration_since(since)) {
            run.report.borrow_mut().add_late(at, now.saturating_duration_since(next));
        }
        while next <= now {
            run.due.borrow_mut().push_back(next);
            run.more_due.notify_one();
            let mut gap = 1.0 / rate;
            if poisson {
                state = state
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let uniform = ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
                gap *= -uniform.ln();
            }
            next += Duration::from_secs_f64(gap);
        }
    }
    Ok(())
}

async fn connection(run: Rc<Run>, request: Bytes) {
    const PAUSE: Duration = Duration::from_millis(20);
    let own = &run.options;
    let mut client = None;
    while !run.stopped.get() {
        let mut due = None;
        while own.open && due.is_none() {
            due = run.due.borrow_mut().pop_front();
            if due.is_none() {
                run.more_due.notified().await;
            }
        }
        let sent = Instant::now();
        let called = tokio::time::timeout(own.timeout, call(&mut client, own, &request)).await;
        let counts = run.counts.get();
        let at = counts.and_then(|since| due.unwrap_or(sent).checked_duration_since(since));
        let (answered, served) = (due.unwrap_or(sent).elapsed(), sent.elapsed());
        let status = match called {
            Ok(Ok((status, body))) => {
                if counts.is_some() && own.answers {
                    run.report.borrow_mut().add_answer(&body);
                }
                status.to_string()
            }
            Ok(Err(error)) => {
                client = None;
                tokio::time::sleep(PAUSE).await;
                format!("{error:#}")
            }
            Err(_) => {
                client = None;
                "no answer in time".into()
            }
        };
        run.answered.set(run.answered.get() + 1);
        if counts.is_some() {
            run.in_time.set(run.in_time.get() + 1);
        }
        if let Some(at) = at {
            run.report.borrow_mut().add(status, at, answered, served);
        }
    }
}

async fn call(client: &mut Option<Client>, own: &Target, request: &Bytes) -> Result<(u16, Bytes)> {
    let connected = match client {
        Some(client) => client,
        None => {
            let made = match own.protocol {
                Protocol::Grpc => Client::grpc(&own.address, &own.path, request.clone()).await,
                _ => Client::rest(&own.address, request.clone()).await,
            };
            client.insert(made.context("cannot connect")?)
        }
    };
    let answer = connected.call().await?;
    Ok((answer.status, answer.body))
}
