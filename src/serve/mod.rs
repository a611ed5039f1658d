//! `serve`: a model server that speaks TensorFlow Serving's protocols. Versions and their lifecycle, queues and batches,
//! REST, metrics.
//!
//! Invariant: the only place that knows tokio. No inference on its threads: a version's queue has threads of its own.
//! Bytes from the network become tensors behind checks, and never reach an unchecked index.

mod clock;
pub mod config;
mod examples;
pub mod failure;
mod folder;
mod grpc;
mod http;
mod json;
mod lifecycle;
mod metrics;
mod overload;
mod queue;
mod registry;
mod rest;
mod servable;
mod signals;
mod text_proto;
pub mod traffic;

use crate::format::mmap;
use anyhow::{Context, Result};
use config::{Batching, Source};
pub use http::Limits;
use lifecycle::{Lifecycle, LifecycleOptions};
use metrics::Metrics;
use queue::QueueOptions;
use registry::Registry;
use signals::{Asked, Signals};
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
use traffic::Traffic;
pub use traffic::TrafficOptions;

/// Takes what the server has to say, a line at a time.
pub type Journal = Arc<dyn Fn(&str) + Send + Sync>;

#[derive(Debug, Clone)]
pub struct ServeOptions {
    pub source: Source,
    pub host: String,
    /// 0: any free one.
    pub grpc_port: u16,
    /// 0: any free one.
    pub rest_port: u16,
    /// Threads that run each version.
    pub threads: usize,
    /// Threads that speak with clients.
    pub network_threads: usize,
    /// How often the folders are looked at; once where absent.
    pub poll: Option<Duration>,
    pub config_poll: Option<Duration>,
    pub labels_of_unavailable: bool,
    pub batching: Option<Batching>,
    /// Requests of one version that may wait.
    pub most_waiting: usize,
    /// How long a request may wait before its run, as far as it can be foretold.
    pub longest_wait: Option<Duration>,
    /// For a request, from its last byte to its answer.
    pub timeout: Duration,
    /// Which version answers a request that names none.
    pub traffic: TrafficOptions,
    pub metrics_path: Option<String>,
    pub access_log: bool,
    pub limits: Limits,
    /// For requests that run when the server is to end.
    pub grace: Duration,
}

/// Files that the server may have open beside its connections.
const OTHER_FILES: u64 = 64;

/// What all requests share.
pub(crate) struct Server {
    options: ServeOptions,
    registry: Arc<Registry>,
    lifecycle: Lifecycle,
    metrics: Arc<Metrics>,
    traffic: Arc<Traffic>,
    journal: Journal,
    draining: AtomicBool,
}

impl Server {
    fn log_access(&self, entry: &serde_json::Value) {
        (self.journal)(&entry.to_string());
    }
}

/// Serves until the process is asked to end (SIGTERM, SIGINT), then answers what it has taken.
///
/// # Errors
/// The config cannot be read, or a port is taken.
pub fn serve(options: ServeOptions, journal: Journal) -> Result<()> {
    mmap::copy_from_now_on();
    let (files, most) = (mmap::raise_open_files(), options.limits.connections);
    if let Some(files) = files.filter(|files| most.saturating_add(OTHER_FILES) > *files) {
        journal(&format!(
            "this process may open {files} files, fewer than the {most} connections that it takes: raise the limit \
             (ulimit -Hn), or give --max_connections"
        ));
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(options.network_threads.max(1))
        .thread_name("network")
        .enable_all()
        .build()
        .context("cannot start threads")?;
    let served = runtime.block_on(run(options, journal));
    runtime.shutdown_background();
    served
}

async fn bind(host: &str, port: u16) -> Result<TcpListener> {
    let listener = TcpListener::bind((host, port)).await;
    listener.with_context(|| format!("cannot listen on {host}:{port}"))
}

async fn run(options: ServeOptions, journal: Journal) -> Result<()> {
    let (registry, metrics) = (Arc::<Registry>::default(), Arc::<Metrics>::default());
    let grpc_port = bind(&options.host, options.grpc_port).await?;
    let rest_port = bind(&options.host, options.rest_port).await?;
    let mut signals = Signals::new()?;
    let traffic = Traffic::new(options.traffic.clone(), registry.clone(), options.timeout)?;
    let lifecycle = Lifecycle::start(
        LifecycleOptions {
            source: options.source.clone(),
            poll: options.poll,
            config_poll: options.config_poll,
            labels_of_unavailable: options.labels_of_unavailable,
            queue: QueueOptions {
                threads: options.threads,
                most_waiting: options.most_waiting,
                longest_wait: options.longest_wait,
                batching: options.batching.clone(),
            },
        },
        traffic.clone(),
        registry.clone(),
        metrics.clone(),
        journal.clone(),
    )?;
    journal(&format!("gRPC: {}", grpc_port.local_addr()?));
    journal(&format!("REST: http://{}", rest_port.local_addr()?));
    let limits = Arc::new(options.limits.clone());
    let grace = options.grace;
    let draining = AtomicBool::new(false);
    let server =
        Arc::new(Server { options, registry, lifecycle, metrics, traffic, journal, draining });
    let (stop, stopped) = watch::channel(false);
    let own = server.clone();
    let answer = move |call| grpc::answer(own.clone(), call);
    let (own, told) = (server.metrics.clone(), stopped.clone());
    tokio::spawn(grpc::transport::listen(grpc_port, limits.clone(), own, told, answer));
    let own = server.clone();
    let answer = move |request, client: SocketAddr| rest::answer(own.clone(), request, client);
    tokio::spawn(http::listen(rest_port, limits, server.metrics.clone(), stopped, answer));
    while signals.next().await == Asked::Reload {
        server.lifecycle.reload();
    }
    server.draining.store(true, Ordering::Relaxed);
    let open = || server.metrics.connections.load(Ordering::Relaxed);
    (server.journal)(&format!("ending: {} connections are open", open()));
    let _ = stop.send(true);
    let start = Instant::now();
    while open() > 0 && start.elapsed() < grace {
        let pause = tokio::time::sleep(Duration::from_millis(5));
        // who asks twice does not want to wait
        let again = async { while signals.next().await == Asked::Reload {} };
        if http::race(pin!(pause), pin!(again)).await.is_none() {
            break;
        }
    }
    match open() {
        0 => (server.journal)("ended"),
        left => {
            (server.journal)(&format!("ended with {left} connections that did not end in time"))
        }
    }
    Ok(())
}
