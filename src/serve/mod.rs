//! `serve`: a model server that speaks TensorFlow Serving's protocols. Versions and their lifecycle, queues and batches,
//! REST, metrics.
//!
//! Invariant: the only place that knows tokio. No inference on its threads: a version's queue has threads of its own.
//! Bytes from the network become tensors behind checks, and never reach an unchecked index.

mod clock;
pub mod config;
pub mod cors;
mod examples;
pub mod failure;
mod folder;
mod grpc;
mod http;
mod json;
mod keys;
mod kserve;
mod lifecycle;
mod memory;
mod metrics;
mod overload;
mod probe;
mod queue;
mod raw;
mod registry;
mod rest;
mod servable;
mod signals;
mod status;
mod text_proto;
mod trace;
pub mod traffic;

use crate::format::mmap;
use anyhow::{Context, Result};
use config::{Batching, Source, TlsSource};
pub use cors::Cors;
pub use http::Limits;
use http::Port;
use http::tls::Tls;
pub use http::tls::{Pem, TlsOptions};
use keys::Keys;
use lifecycle::{Lifecycle, LifecycleOptions};
pub use memory::{Budget, of_this_machine};
use metrics::Metrics;
pub use overload::LongestWait;
pub use probe::probe;
use queue::QueueOptions;
use registry::Registry;
use signals::{Asked, Signals};
use status::Status;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::watch;
pub use trace::TraceOptions;
use trace::Tracer;

/// The readers of requests, for those who try them with any bytes.
pub mod requests {
    pub use super::json::examples::{ExamplesBody, read_examples};
    pub use super::json::tensors::{Form, PredictBody, read_predict};
    pub use super::kserve::request::{Chosen, Ends, InferBody, read_infer};
}
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
    pub longest_wait: Option<LongestWait>,
    /// For a request over REST, from its last byte to its answer; also for a shadow's copy.
    pub timeout: Duration,
    /// Which version answers a request that names none.
    pub traffic: TrafficOptions,
    pub metrics_path: Option<String>,
    pub access_log: bool,
    pub limits: Limits,
    pub grpc_tls: Option<TlsSource>,
    pub rest_tls: Option<TlsSource>,
    /// Further paths of `/readyz` and of the only model's `predict`.
    pub health_path: Option<String>,
    pub predict_path: Option<String>,
    /// Keys without one of which nobody is answered.
    pub api_key_file: Option<PathBuf>,
    pub cors: Cors,
    pub traces: Option<TraceOptions>,
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
    keys: Option<Keys>,
    status: Status,
    tracer: Option<Tracer>,
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
        .on_thread_park(queue::tell)
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
    let keys = options.api_key_file.as_ref().map(|path| Keys::read(path, &journal)).transpose()?;
    let grpc_port = bind(&options.host, options.grpc_port).await?;
    let rest_port = bind(&options.host, options.rest_port).await?;
    let tls = |source: &Option<TlsSource>, protocol| {
        let tls = source.clone().map(|source| Tls::new(move || source.read(), protocol));
        tls.transpose().map(|tls| tls.map(Arc::new))
    };
    let grpc_tls = tls(&options.grpc_tls, b"h2")?;
    let rest_tls = tls(&options.rest_tls, b"http/1.1")?;
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
                memory: options.limits.memory.clone(),
            },
        },
        traffic.clone(),
        registry.clone(),
        metrics.clone(),
        journal.clone(),
    )?;
    let secured = |tls: &Option<_>| if tls.is_some() { " (TLS)" } else { "" };
    journal(&format!("gRPC: {}{}", grpc_port.local_addr()?, secured(&grpc_tls)));
    let scheme = if rest_tls.is_some() { "https" } else { "http" };
    journal(&format!("REST: {scheme}://{}", rest_port.local_addr()?));
    tokio::spawn(queue::carry());
    let limits = Arc::new(options.limits.clone());
    let grace = options.grace;
    let draining = AtomicBool::new(false);
    let tracer = options.traces.clone().map(|traces| Tracer::start(traces, journal.clone()));
    let tracer = tracer.transpose()?;
    let status = Status::new();
    let server = Arc::new(Server {
        options,
        registry,
        lifecycle,
        metrics,
        keys,
        status,
        traffic,
        tracer,
        journal,
        draining,
    });
    let (stop, stopped) = watch::channel(false);
    let port = |listener, tls: &Option<Arc<Tls>>| Port {
        listener,
        tls: tls.clone(),
        limits: limits.clone(),
        metrics: server.metrics.clone(),
        stop: stopped.clone(),
    };
    let own = server.clone();
    // boxed: it is large, and is moved from hand to hand
    let answer = move |call| Box::pin(grpc::answer(own.clone(), call));
    let services = grpc::services(&server, &stopped)?;
    let admit = grpc::admit_of(&server);
    let grpc_port =
        tokio::spawn(grpc::transport::listen(port(grpc_port, &grpc_tls), services, admit, answer));
    let own = server.clone();
    let answer = move |request, client: SocketAddr| rest::answer(own.clone(), request, client);
    let own = server.clone();
    let mark: http::Mark = Arc::new(move |origin, answer| own.options.cors.mark(origin, answer));
    let own = server.clone();
    let admit: http::Admit = Arc::new(move |request| rest::admit(&own, request));
    let rest_port = tokio::spawn(http::listen(port(rest_port, &rest_tls), mark, admit, answer));
    tokio::spawn(status::watch(server.clone()));
    while signals.next().await == Asked::Reload {
        server.lifecycle.reload();
        server.keys.iter().for_each(|keys| keys.reload(&server.journal));
        for tls in [&grpc_tls, &rest_tls].into_iter().flatten() {
            if let Err(error) = tls.reload() {
                (server.journal)(&format!("the certificates stay as they were: {error:#}"));
            }
        }
    }
    server.draining.store(true, Ordering::Relaxed);
    let open = || server.metrics.connections.load(Ordering::Relaxed);
    let _ = stop.send(true);
    (server.journal)(&format!("ending: {} connections are open", open()));
    let start = Instant::now();
    for port in [grpc_port, rest_port] {
        let _ = port.await;
    }
    while open() > 0 && start.elapsed() < grace {
        let pause = tokio::time::sleep(Duration::from_millis(5));
        // who asks twice does not want to wait
        let again = async { while signals.next().await == Asked::Reload {} };
        if http::race(pin!(pause), pin!(again)).await.is_none() {
            break;
        }
    }
    let own = server.clone();
    let traces = tokio::task::spawn_blocking(move || own.tracer.iter().for_each(Tracer::finish));
    let _ = tokio::time::timeout(Duration::from_secs(2), traces).await;
    match open() {
        0 => (server.journal)("ended"),
        left => {
            (server.journal)(&format!("ended with {left} connections that did not end in time"))
        }
    }
    Ok(())
}
