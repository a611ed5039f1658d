//! `mlctl serve`: TensorFlow Serving's flags.

pub mod elsewhere;
mod log;

use super::serve_environment::Environment;
use super::{Global, usage_error};
use crate::format::mmap::read_text;
use crate::model::{Place, holds_record, locate};
use crate::serve::config::{
    Batching, METRICS_PATH, ModelConfig, Source, TlsSource, check_name, parse_monitoring,
};
use crate::serve::traffic::rules::{ShadowShare, Shares, TrafficSource};
use crate::serve::{
    Budget, Cors, Limits, LongestWait, Pem, ServeOptions, TlsOptions, TraceOptions, TrafficOptions,
    of_this_machine, probe, serve,
};
use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use elsewhere::Elsewhere;
use http::HeaderName;
use log::Log;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// Serve models over TensorFlow Serving's and KServe's REST and gRPC APIs
///
/// MODEL_DIR holds numbered versions (0001, 0002, …) as 'mlctl train' and 'mlctl save' make them, or folders with an
/// .onnx or .tflite each. The newest is served; a new one takes over when it is complete, loaded and warm. SIGHUP
/// looks at once and reads --model_config_file again; SIGTERM answers what runs and ends. A status page is at / of
/// the REST port.
///
/// In containers MODEL_NAME and MODEL_BASE_PATH say where the model is, as in TensorFlow Serving's image, and
/// AIP_HTTP_PORT, AIP_HEALTH_ROUTE, AIP_PREDICT_ROUTE and AIP_STORAGE_URI what Vertex AI wants; flags go first.
/// OTEL_EXPORTER_OTLP_ENDPOINT (http://collector:4318) sends OpenTelemetry's traces there.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Folder with the versions of one model [default: the one model directory here]
    #[arg(value_name = "MODEL_DIR")]
    model: Option<PathBuf>,
    #[arg(
        long,
        value_name = "ADDRESS",
        help = "Address to listen on; 0.0.0.0 is every one [default: 127.0.0.1]"
    )]
    host: Option<String>,
    #[arg(
        long = "port",
        value_name = "PORT",
        default_value_t = 8500,
        help = "Port of the gRPC API; 0 takes a free one"
    )]
    grpc_port: u16,
    #[arg(
        long = "rest_api_port",
        alias = "rest-api-port",
        value_name = "PORT",
        help = "Port of the REST API; 0 takes a free one [default: 8501]"
    )]
    rest_port: Option<u16>,
    /// Name of the model in URLs [default: the folder's name; with --model_base_path MODEL_NAME, or 'default']
    #[arg(long = "model_name", alias = "model-name", value_name = "NAME")]
    name: Option<String>,
    #[arg(
        long = "model_base_path",
        alias = "model-base-path",
        value_name = "DIR",
        conflicts_with = "model",
        help = "The same as MODEL_DIR"
    )]
    base_path: Option<PathBuf>,
    #[arg(
        long = "model_config_file",
        alias = "model-config-file",
        value_name = "FILE",
        conflicts_with = "model",
        help = "Several models, with policies and labels: model_config_list { config { … } }; with it, \
                  --model_name and --model_base_path mean nothing"
    )]
    config_file: Option<PathBuf>,
    #[arg(long = "model_config_file_poll_wait_seconds", alias = "model-config-file-poll-wait-seconds",
          value_name = "S", default_value_t = 0.0, value_parser = seconds,
          help = "How often the config file is looked at; 0 is never")]
    config_poll: f64,
    #[arg(long = "file_system_poll_wait_seconds", alias = "file-system-poll-wait-seconds",
          value_name = "S", default_value_t = 1.0, value_parser = seconds,
          help = "How often the folders are looked at; 0 is once")]
    poll: f64,
    #[arg(long = "traffic", value_name = "MODEL=LABEL:WEIGHT,…", value_parser = shares,
          help = "Split a model's requests that name no version between labels or versions, for an A/B test: \
                  half=stable:90,canary:10; again for another model")]
    traffic: Vec<Shares>,
    #[arg(long = "shadow", value_name = "MODEL=LABEL[:PERCENT]", value_parser = shadow,
          help = "Run copies of those requests on this label or version too: the answers are compared and counted \
                  in the metrics, not returned")]
    shadow: Vec<ShadowShare>,
    #[arg(long = "traffic_config_file", alias = "traffic-config-file", value_name = "FILE",
          conflicts_with_all = ["traffic", "shadow"],
          help = "The same as a file: traffic { model split { label weight } shadow { label percent } }; read \
                  again with the model config")]
    traffic_file: Option<PathBuf>,
    #[arg(long = "traffic_sticky_header", alias = "traffic-sticky-header", value_name = "NAME",
          value_parser = header_name,
          help = "Requests with the same value of this header (gRPC: metadata) go to the same label")]
    sticky_header: Option<HeaderName>,
    #[arg(long = "allow_version_labels_for_unavailable_models",
          alias = "allow-version-labels-for-unavailable-models", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          help = "Labels may name versions that are not available yet")]
    labels_of_unavailable: bool,
    #[arg(long = "enable_batching", alias = "enable-batching", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          help = "Put requests that wait together into one run")]
    enable_batching: bool,
    #[arg(
        long = "batching_parameters_file",
        alias = "batching-parameters-file",
        value_name = "FILE",
        help = "max_batch_size, batch_timeout_micros, max_enqueued_batches, num_batch_threads, \
                  allowed_batch_sizes"
    )]
    batching_file: Option<PathBuf>,
    #[arg(
        long = "monitoring_config_file",
        alias = "monitoring-config-file",
        value_name = "FILE",
        help = "prometheus_config { enable path }"
    )]
    monitoring_file: Option<PathBuf>,
    #[arg(
        long = "ssl_config_file",
        alias = "ssl-config-file",
        value_name = "FILE",
        help = "TLS on the gRPC port: server_key, server_cert, custom_ca (PEM text), client_verify"
    )]
    ssl_file: Option<PathBuf>,
    #[arg(
        long,
        alias = "tls_cert",
        value_name = "FILE",
        requires = "tls_key",
        help = "TLS on both ports: the server's certificate and those above it, in PEM; SIGHUP reads it again"
    )]
    tls_cert: Option<PathBuf>,
    #[arg(
        long,
        alias = "tls_key",
        value_name = "FILE",
        requires = "tls_cert",
        help = "Its private key, in PEM"
    )]
    tls_key: Option<PathBuf>,
    #[arg(
        long,
        alias = "tls_client_ca",
        value_name = "FILE",
        requires = "tls_cert",
        help = "Takes clients alone whose certificate one of these signed (mutual TLS)"
    )]
    tls_client_ca: Option<PathBuf>,
    #[arg(long = "rest_api_timeout_in_ms", alias = "rest-api-timeout-in-ms", value_name = "MS",
          default_value_t = 30_000, value_parser = clap::value_parser!(u64).range(1..=86_400_000),
          help = "Time for a request over REST; over gRPC its client says it")]
    timeout_ms: u64,
    #[arg(long = "rest_api_num_threads", alias = "rest-api-num-threads", value_name = "N",
          value_parser = clap::value_parser!(u16).range(1..=1024),
          help = "Threads that speak with clients [default: all cores]")]
    network_threads: Option<u16>,
    #[arg(long, alias = "max_queue", value_name = "N", default_value_t = 1024,
          value_parser = clap::value_parser!(u32).range(1..),
          help = "Requests of one version that may wait without --enable_batching; more get 429")]
    max_queue: u32,
    #[arg(long = "max_queue_delay_ms", alias = "max-queue-delay-ms", value_name = "MS",
          value_parser = clap::value_parser!(u64).range(0..=86_400_000),
          help = "Time that requests may wait for their run: one that would wait longer gets 429, and where that goes \
                  on the queue is held to about one run; 0 is any time [default: 1000, or eight runs where they take longer]")]
    max_queue_delay: Option<u64>,
    #[arg(long, alias = "max_body", value_name = "BYTES", default_value_t = 128 << 20,
          value_parser = clap::value_parser!(u64).range(1024..=(4 << 30)),
          help = "Size of a request, also unpacked; a larger one gets 413")]
    max_body: u64,
    #[arg(long = "max_request_memory", alias = "max-request-memory", value_name = "BYTES",
          value_parser = clap::value_parser!(u64).range(1024..),
          help = "Bytes that all requests may hold together, as bodies and as tensors; more get 429 [default: half of the \
                  memory here, and two of --max-body at least]")]
    max_request_memory: Option<u64>,
    #[arg(long, alias = "max_connections", value_name = "N", default_value_t = 16_384,
          value_parser = clap::value_parser!(u32).range(1..),
          help = "Connections at the same time")]
    max_connections: u32,
    #[arg(long, value_name = "S", default_value_t = 30.0, value_parser = seconds,
          help = "Time to answer what runs when the server is to end")]
    grace: f64,
    /// Answer only who has a key of FILE
    ///
    /// KEY or NAME:KEY a line, read again on SIGHUP; the name is what the access log and the metrics tell. Clients send
    /// 'Authorization: Bearer KEY' or 'X-API-Key: KEY', over gRPC as metadata; the status page takes the key as a
    /// password. Only health (/healthz, /readyz, gRPC's health and reflection) is open to everyone; metrics are not.
    #[arg(long = "api_key_file", alias = "api-key-file", value_name = "FILE")]
    api_key_file: Option<PathBuf>,
    #[arg(
        long = "cors_allow_origin",
        alias = "cors-allow-origin",
        value_name = "ORIGIN",
        help = "Let pages of ORIGIN (https://example.org) ask from a browser; repeat for others, * is any"
    )]
    cors: Vec<String>,
    #[arg(long = "rest_api_enable_cors_support", alias = "rest-api-enable-cors-support", value_name = "BOOL",
          num_args = 0..=1, require_equals = true, default_value_t = false, default_missing_value = "true",
          help = "The same as --cors_allow_origin=*")]
    cors_for_all: bool,
    /// Ask the server that runs here whether it is ready, and end: 0 where it is, 1 where not
    ///
    /// For the health check of a container; --host and --rest_api_port as the server has them.
    #[arg(long = "health_check", alias = "health-check")]
    health_check: bool,
    /// Print a line of JSON on stderr for each request
    #[arg(long, alias = "access_log")]
    access_log: bool,
    /// TensorFlow Serving's flags that clap does not know.
    #[arg(skip)]
    pub elsewhere: Elsewhere,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(seconds) if (0.0..=1e6).contains(&seconds) => Ok(seconds),
        _ => Err("must be a number of seconds, 0 or more".into()),
    }
}

fn shares(text: &str) -> Result<Shares, String> {
    Shares::parse(text).map_err(|error| format!("{error:#}"))
}

fn shadow(text: &str) -> Result<ShadowShare, String> {
    ShadowShare::parse(text).map_err(|error| format!("{error:#}"))
}

fn header_name(text: &str) -> Result<HeaderName, String> {
    text.parse().map_err(|_| format!("'{text}' is no name for a header"))
}

impl ServeArgs {
    pub fn run(&self, global: &Global) -> Result<u8> {
        if self.batching_file.is_some() && !self.enable_batching {
            let message = "--batching_parameters_file needs --enable_batching";
            return Ok(usage_error(message));
        }
        if let Some(refused) = &self.elsewhere.refused {
            return Ok(usage_error(refused));
        }
        let has_model =
            self.model.is_some() || self.base_path.is_some() || self.config_file.is_some();
        let environment = Environment::read(has_model, |name| std::env::var(name).ok())?;
        let host = self.host.as_deref().or(environment.host).unwrap_or("127.0.0.1");
        let rest_port = self.rest_port.or(environment.rest_port).unwrap_or(8501);
        if self.health_check {
            probe(host, rest_port, self.tls_cert.is_some())?;
            return Ok(0);
        }
        let cores = || std::thread::available_parallelism().map_or(1, usize::from);
        let period = |seconds: f64| (seconds > 0.0).then(|| Duration::from_secs_f64(seconds));
        let mut options = ServeOptions {
            source: self.source(&environment)?,
            host: host.into(),
            grpc_port: self.grpc_port,
            rest_port,
            threads: global.threads(),
            network_threads: self.network_threads.map_or_else(cores, usize::from),
            poll: period(self.poll),
            config_poll: period(self.config_poll),
            labels_of_unavailable: self.labels_of_unavailable,
            batching: if self.enable_batching { Some(self.batching()?) } else { None },
            most_waiting: self.max_queue as usize,
            longest_wait: match self.max_queue_delay {
                None => Some(LongestWait { time: Duration::from_secs(1), runs: 8 }),
                Some(0) => None,
                Some(time) => Some(Duration::from_millis(time).into()),
            },
            timeout: Duration::from_millis(self.timeout_ms),
            traffic: self.traffic(),
            metrics_path: match &self.monitoring_file {
                Some(path) => parsed(path, parse_monitoring)?,
                None => Some(METRICS_PATH.into()),
            },
            access_log: self.access_log,
            limits: Limits {
                connections: self.max_connections.into(),
                body: self.max_body as usize,
                memory: Budget::new(self.request_memory()),
                ..Limits::default()
            },
            grpc_tls: match &self.ssl_file {
                Some(path) => {
                    let source = TlsSource::SslConfig(path.clone());
                    source.read()?;
                    Some(source)
                }
                None => self.tls(),
            },
            rest_tls: self.tls(),
            health_path: environment.health_path.clone(),
            predict_path: environment.predict_path.clone(),
            api_key_file: self.api_key_file.clone(),
            cors: self.cors()?,
            traces: None,
            grace: Duration::from_secs_f64(self.grace),
        };
        let quiet = global.quiet;
        let log = Log::start().context("cannot start a thread")?;
        let own = log.clone();
        let journal = move |line: &str| {
            // access lines were asked for
            if !quiet || line.starts_with('{') {
                own.say(line);
            }
        };
        self.elsewhere.told.iter().for_each(|told| journal(told));
        if self.config_file.is_some() && (self.base_path.is_some() || self.name.is_some()) {
            journal("--model_name and --model_base_path have no effect beside --model_config_file");
        }
        // what a whole cluster is told must not keep a server from starting
        match TraceOptions::read(|name| std::env::var(name).ok()) {
            Ok(traces) => options.traces = traces,
            Err(error) => journal(&format!("traces are off: {error:#}")),
        }
        let served = serve(options, Arc::new(journal)).context("serving");
        log.end();
        served?;
        Ok(0)
    }

    fn source(&self, environment: &Environment) -> Result<Source> {
        if let Some(file) = &self.config_file {
            return Ok(Source::File(file.clone()));
        }
        let (path, default_name) = match (&self.base_path, &self.model, &environment.model) {
            (Some(path), _, _) => {
                let name = environment.model_name.clone();
                (path.clone(), Some(name.unwrap_or("default".into())))
            }
            (None, Some(path), _) => (path.clone(), None),
            (None, None, Some((path, name))) => (path.clone(), Some(name.clone())),
            (None, None, None) => match locate(None)?.place {
                Place::Version(version) => (parent_of(&version), None),
                Place::File { path, .. } => bail!("{} is not a model directory", path.display()),
            },
        };
        let metadata = std::fs::metadata(&path);
        let metadata =
            metadata.with_context(|| format!("cannot open model directory {}", path.display()))?;
        ensure!(
            metadata.is_dir(),
            "{} is a file; give a folder with numbered versions (mlctl save {} --to my_model)",
            path.display(),
            path.display()
        );
        let full = path.canonicalize()?;
        ensure!(
            !holds_record(&full),
            "{} is one version; serve the folder that it is in: mlctl serve {}",
            path.display(),
            full.parent().unwrap_or(&full).display()
        );
        let own_name = full.file_name().map(|n| n.to_string_lossy().into_owned());
        let name = self.name.clone().or(default_name).or(own_name);
        let name = name.context("give the model a name with --model_name")?;
        check_name(&name)?;
        // not the canonical one: what a link leads to may change while the server runs
        Ok(Source::Models(vec![ModelConfig::new(&name, &std::path::absolute(&path)?)]))
    }

    fn tls(&self) -> Option<TlsSource> {
        let (certificate, key) = (self.tls_cert.clone()?, self.tls_key.clone()?);
        Some(TlsSource::Files(TlsOptions {
            certificate: Pem::File(certificate),
            key: Pem::File(key),
            client_roots: self.tls_client_ca.clone().map(Pem::File),
            client_required: self.tls_client_ca.is_some(),
        }))
    }

    fn request_memory(&self) -> usize {
        let own = || {
            let half = of_this_machine().map_or(usize::MAX, |bytes| bytes / 2);
            half.max((self.max_body as usize).saturating_mul(2))
        };
        self.max_request_memory
            .map_or_else(own, |bytes| usize::try_from(bytes).unwrap_or(usize::MAX))
    }

    fn cors(&self) -> Result<Cors> {
        match self.cors_for_all && self.cors.is_empty() {
            true => Cors::new(&["*".into()]),
            false => Cors::new(&self.cors).context("--cors_allow_origin"),
        }
    }

    fn traffic(&self) -> TrafficOptions {
        let source = match &self.traffic_file {
            Some(file) => TrafficSource::File(file.clone()),
            None => {
                let (shares, shadows) = (self.traffic.clone(), self.shadow.clone());
                TrafficSource::Flags { shares, shadows }
            }
        };
        TrafficOptions { source, sticky_header: self.sticky_header.clone() }
    }

    fn batching(&self) -> Result<Batching> {
        match &self.batching_file {
            Some(path) => parsed(path, Batching::parse),
            None => Ok(Batching::default()),
        }
    }
}

fn parent_of(version: &Path) -> PathBuf {
    match version.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.into(),
        _ => PathBuf::from("."),
    }
}

fn parsed<T>(path: &Path, parse: impl Fn(&str) -> Result<T>) -> Result<T> {
    let at = || path.display().to_string();
    let text = read_text(path).with_context(|| format!("cannot read {}", at()))?;
    parse(&text).with_context(at)
}
