//! Spans of requests for OpenTelemetry: OTLP over HTTP in protobuf, field numbers of `opentelemetry/proto`. Switched on by
//! OpenTelemetry's own environment variables; no span ever holds up a request.

use super::Journal;
use super::failure::Code;
use super::metrics::Kind;
use anyhow::{Context, Result, bail, ensure};
use http::HeaderMap;
use prost::Message;
use std::future::Future;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Spans that wait to be sent; more are dropped.
const MOST_WAITING: usize = 4096;
const MOST_TOGETHER: usize = 512;
/// For a collector to answer.
const TIME: Duration = Duration::from_secs(5);

/// Where spans go and which are made, as the environment says.
#[derive(Debug, Clone, PartialEq)]
pub struct TraceOptions {
    host: String,
    port: u16,
    path: String,
    headers: Vec<(String, String)>,
    service: String,
    /// The share of traces that begin here; those that come from elsewhere are sampled as they say.
    ratio: f64,
    pause: Duration,
}

impl TraceOptions {
    /// `None` where no endpoint is named, or OpenTelemetry is switched off.
    ///
    /// # Errors
    /// Name the variable and what is wrong with it.
    pub fn read(variable: impl Fn(&str) -> Option<String>) -> Result<Option<TraceOptions>> {
        let variable = |name: &str| variable(name).filter(|value| !value.is_empty());
        if variable("OTEL_SDK_DISABLED").is_some_and(|value| value.eq_ignore_ascii_case("true")) {
            return Ok(None);
        }
        let own = variable("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT");
        let name = match own {
            Some(_) => "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
            None => "OTEL_EXPORTER_OTLP_ENDPOINT",
        };
        let base = variable("OTEL_EXPORTER_OTLP_ENDPOINT");
        let base = base.map(|base| format!("{}/v1/traces", base.trim_end_matches('/')));
        let Some(url) = own.or(base) else { return Ok(None) };
        let protocol = variable("OTEL_EXPORTER_OTLP_PROTOCOL").unwrap_or("http/protobuf".into());
        ensure!(
            protocol == "http/protobuf",
            "OTEL_EXPORTER_OTLP_PROTOCOL is {protocol}; spans are sent as http/protobuf, to port 4318 of a collector"
        );
        let (host, port, path) = parse_url(&url).with_context(|| name)?;
        let number = |name: &str, default: f64| match variable(name) {
            None => Ok(default),
            Some(text) => {
                let value =
                    text.parse().ok().filter(|value: &f64| *value >= 0.0 && value.is_finite());
                value
                    .with_context(|| format!("{name} is '{text}', which is no number of 0 or more"))
            }
        };
        let sampler = variable("OTEL_TRACES_SAMPLER").unwrap_or("parentbased_always_on".into());
        let ratio = match sampler.as_str() {
            "parentbased_always_on" => 1.0,
            "parentbased_always_off" => 0.0,
            "parentbased_traceidratio" => number("OTEL_TRACES_SAMPLER_ARG", 1.0)?.min(1.0),
            other => bail!(
                "OTEL_TRACES_SAMPLER is {other}; there are parentbased_always_on, parentbased_always_off, \
                 parentbased_traceidratio"
            ),
        };
        let headers = variable("OTEL_EXPORTER_OTLP_HEADERS").unwrap_or_default();
        let headers = headers.split(',').filter_map(|pair| pair.trim().split_once('='));
        let headers: Vec<(String, String)> =
            headers.map(|(name, value)| (name.trim().into(), value.trim().into())).collect();
        let fits = |text: &str| !text.contains(|c: char| c.is_control());
        ensure!(
            headers.iter().all(|(name, value)| fits(name) && fits(value)),
            "OTEL_EXPORTER_OTLP_HEADERS holds control characters"
        );
        let pause = number("OTEL_BSP_SCHEDULE_DELAY", 1000.0)?.clamp(10.0, 60_000.0);
        Ok(Some(TraceOptions {
            host,
            port,
            path,
            headers,
            service: variable("OTEL_SERVICE_NAME").unwrap_or("mlctl".into()),
            ratio,
            pause: Duration::from_millis(pause as u64),
        }))
    }
}

/// Host, port and path of `http://host:port/path`.
fn parse_url(url: &str) -> Result<(String, u16, String)> {
    let Some(rest) = url.strip_prefix("http://") else {
        bail!(
            "'{url}' is no http:// address; send through a collector of this network, which can encrypt"
        );
    };
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let (host, port) = match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
        _ => (authority, Some(80)),
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let fits = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
    let Some(port) = port.filter(|_| !host.is_empty() && fits(url)) else {
        bail!("'{url}' is no address such as http://localhost:4318");
    };
    Ok((host.into(), port, if path.is_empty() { "/".into() } else { path.into() }))
}

/// When a request was queued, and when its run began and ended. The queue writes it.
#[derive(Debug, Default)]
pub struct Marks {
    pub queued: OnceLock<Instant>,
    /// Of the run, with its rows.
    pub run: OnceLock<(Instant, Instant, usize)>,
}

tokio::task_local! {
    static MARKS: Arc<Marks>;
}

/// The marks of the request that this task works on, where it is traced.
pub fn marks() -> Option<Arc<Marks>> {
    MARKS.try_with(Arc::clone).ok()
}

/// A request that is being answered.
pub struct Active {
    trace: [u8; 16],
    own: [u8; 8],
    parent: Vec<u8>,
    sampled: bool,
    marks: Arc<Marks>,
}

impl Active {
    /// Runs `work` so that its queue finds the marks.
    pub async fn around<T>(&self, work: impl Future<Output = T>) -> T {
        MARKS.scope(self.marks.clone(), work).await
    }

    /// What tells the next one of this span.
    pub fn traceparent(&self) -> String {
        format!("00-{}-{}-{:02x}", hex(&self.trace), hex(&self.own), u8::from(self.sampled))
    }

    pub fn trace_id(&self) -> String {
        hex(&self.trace)
    }
}

/// What is told of a request when it is answered.
pub struct Told<'a> {
    pub kind: &'a Kind,
    pub came: Instant,
    pub code: Code,
    pub attributes: Vec<KeyValue>,
}

/// Makes spans and hands them to a thread that sends them.
pub struct Tracer {
    ratio: f64,
    spans: Mutex<Option<SyncSender<Span>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
    random: RandomState,
}

impl Tracer {
    /// # Errors
    /// The system gives no more threads.
    pub fn start(options: TraceOptions, journal: Journal) -> Result<Tracer> {
        let (spans, receiver) = sync_channel(MOST_WAITING);
        let ratio = options.ratio;
        let thread = thread::Builder::new().name("traces".into());
        let thread = thread.spawn(move || send_all(&options, &receiver, &journal));
        Ok(Tracer {
            ratio,
            spans: Mutex::new(Some(spans)),
            thread: Mutex::new(Some(thread.context("cannot start a thread")?)),
            random: RandomState::new(),
        })
    }

    /// Begins the span of a request with these headers, or of a call with this metadata.
    pub fn begin(&self, headers: &HeaderMap) -> Active {
        let sent =
            headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(parent);
        let own = self.id();
        let (trace, parent, sampled) = match sent {
            Some((trace, parent, sampled)) => (trace, parent.to_vec(), sampled),
            None => {
                let (high, low) = (self.id(), self.id());
                let mut trace = [0; 16];
                trace[..8].copy_from_slice(&high);
                trace[8..].copy_from_slice(&low);
                let share = u64::from_be_bytes(low) as f64 / u64::MAX as f64;
                (trace, vec![], self.ratio >= 1.0 || share < self.ratio)
            }
        };
        Active { trace, own, parent, sampled, marks: Arc::default() }
    }

    /// Ends it: it is sent, with a span for its time in the queue and one for its run.
    pub fn end(&self, active: Active, told: Told) {
        if !active.sampled {
            return;
        }
        let now = (Instant::now(), SystemTime::now());
        let nanoseconds = |at: Instant| {
            let time = now.1.checked_sub(now.0.saturating_duration_since(at)).unwrap_or(UNIX_EPOCH);
            time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos() as u64
        };
        let span =
            |name: &str, kind: i32, id: [u8; 8], parent: Vec<u8>, from: Instant, to: Instant| {
                Span {
                    trace_id: active.trace.to_vec(),
                    span_id: id.to_vec(),
                    parent_span_id: parent,
                    name: name.into(),
                    kind,
                    start: nanoseconds(from),
                    end: nanoseconds(to),
                    attributes: vec![],
                    status: None,
                }
            };
        let mut spans = vec![];
        if let (Some(queued), Some((from, to, rows))) =
            (active.marks.queued.get(), active.marks.run.get())
        {
            spans.push(span("queue", INTERNAL, self.id(), active.own.to_vec(), *queued, *from));
            let mut run = span("run", INTERNAL, self.id(), active.own.to_vec(), *from, *to);
            run.attributes.push(KeyValue::number("mlctl.batch_rows", *rows as u64));
            spans.push(run);
        }
        let mut root =
            span(told.kind.api, SERVER, active.own, active.parent.clone(), told.came, now.0);
        root.attributes = told.attributes;
        root.attributes.push(KeyValue::text("mlctl.model", &told.kind.model));
        if let Some(version) = told.kind.version {
            root.attributes.push(KeyValue::number("mlctl.version", version));
        }
        // the server's own fault alone is an error of its span
        let faults = [
            Code::Unknown,
            Code::Internal,
            Code::DataLoss,
            Code::DeadlineExceeded,
            Code::Unavailable,
        ];
        if faults.contains(&told.code) {
            root.status = Some(Status { message: told.code.name().into(), code: ERROR });
        }
        spans.push(root);
        let sender = self.spans.lock().unwrap_or_else(PoisonError::into_inner);
        for span in spans {
            // what does not fit is lost: tracing must not hold up anything
            let _ = sender.as_ref().map(|sender| sender.try_send(span));
        }
    }

    /// Sends what waits, and ends.
    pub fn finish(&self) {
        drop(self.spans.lock().unwrap_or_else(PoisonError::into_inner).take());
        if let Some(thread) = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take() {
            let _ = thread.join();
        }
    }

    /// Eight bytes that nobody had before, not all 0.
    fn id(&self) -> [u8; 8] {
        static COUNT: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
        let mut hasher = self.random.build_hasher();
        hasher.write_u64(COUNT.fetch_add(1, std::sync::atomic::Ordering::Relaxed));
        hasher.finish().max(1).to_be_bytes()
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Trace, span and whether it is sampled, of W3C's `traceparent`.
fn parent(text: &str) -> Option<([u8; 16], [u8; 8], bool)> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let is_hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let fits = is_hex(version, 2)
        && is_hex(trace, 32)
        && is_hex(span, 16)
        && is_hex(flags, 2)
        && version != "ff"
        && (version != "00" || parts.next().is_none());
    let (trace, span) = fits.then(|| {
        (u128::from_str_radix(trace, 16).unwrap_or(0), u64::from_str_radix(span, 16).unwrap_or(0))
    })?;
    let sampled = u8::from_str_radix(flags, 16).ok()? & 1 == 1;
    (trace != 0 && span != 0).then(|| (trace.to_be_bytes(), span.to_be_bytes(), sampled))
}

fn send_all(options: &TraceOptions, spans: &Receiver<Span>, journal: &Journal) {
    let mut complained = false;
    let mut open = true;
    while open {
        let mut batch = vec![];
        let end = Instant::now() + options.pause;
        while batch.len() < MOST_TOGETHER {
            match spans.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(span) => batch.push(span),
                Err(RecvTimeoutError::Timeout) => break,
                Err(RecvTimeoutError::Disconnected) => {
                    open = false;
                    break;
                }
            }
        }
        if batch.is_empty() {
            continue;
        }
        match send(options, batch) {
            Ok(()) => complained = false,
            Err(error) if !complained => {
                journal(&format!("traces are lost: {}:{}: {error:#}", options.host, options.port));
                complained = true;
            }
            Err(_) => {}
        }
    }
}

fn send(options: &TraceOptions, spans: Vec<Span>) -> Result<()> {
    let scope = Scope { name: "mlctl".into(), version: env!("CARGO_PKG_VERSION").into() };
    let resource = Resource { attributes: vec![KeyValue::text("service.name", &options.service)] };
    let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
    let resource_spans = vec![ResourceSpans { resource: Some(resource), scope_spans }];
    let body = Export { resource_spans }.encode_to_vec();
    let address = (options.host.as_str(), options.port);
    let address = address.to_socket_addrs()?.next().context("it has no address")?;
    let mut stream = TcpStream::connect_timeout(&address, TIME)?;
    stream.set_read_timeout(Some(TIME))?;
    stream.set_write_timeout(Some(TIME))?;
    let mut head = format!(
        "POST {} HTTP/1.1\r\nHost: {}:{}\r\nContent-Type: application/x-protobuf\r\nContent-Length: {}\r\n\
         Connection: close\r\n",
        options.path,
        options.host,
        options.port,
        body.len()
    );
    for (name, value) in &options.headers {
        head += &format!("{name}: {value}\r\n");
    }
    stream.write_all(&[head.as_bytes(), b"\r\n", &body].concat())?;
    let mut answer = String::new();
    BufReader::new(stream.take(256)).read_line(&mut answer)?;
    match answer.split(' ').nth(1) {
        Some(status) if status.starts_with('2') => Ok(()),
        _ => bail!("it answers '{}'", answer.trim()),
    }
}

/// `Span.SpanKind`
const INTERNAL: i32 = 1;
const SERVER: i32 = 2;
/// `Status.StatusCode`
const ERROR: i32 = 2;

#[derive(Clone, PartialEq, prost::Message)]
struct Export {
    #[prost(message, repeated, tag = "1")]
    resource_spans: Vec<ResourceSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<KeyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<Span>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Span {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start: u64,
    #[prost(fixed64, tag = "8")]
    end: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<KeyValue>,
    #[prost(message, optional, tag = "15")]
    status: Option<Status>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Status {
    #[prost(string, tag = "2")]
    message: String,
    #[prost(int32, tag = "3")]
    code: i32,
}

/// An attribute of a span.
#[derive(Clone, PartialEq, prost::Message)]
pub struct KeyValue {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(string, optional, tag = "1")]
    text: Option<String>,
    #[prost(int64, optional, tag = "3")]
    number: Option<i64>,
}

impl KeyValue {
    pub fn text(key: &str, value: &str) -> KeyValue {
        let value = AnyValue { text: Some(value.into()), number: None };
        KeyValue { key: key.into(), value: Some(value) }
    }

    pub fn number(key: &str, value: u64) -> KeyValue {
        let value = AnyValue { text: None, number: Some(value as i64) };
        KeyValue { key: key.into(), value: Some(value) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn traceparent_of_the_standard() {
        // W3C Trace Context, section 3.2
        let text = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let (trace, span, sampled) = parent(text).unwrap();
        assert_eq!(hex(&trace), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!((hex(&span).as_str(), sampled), ("00f067aa0ba902b7", true));
        assert!(!parent(&text.replace("-01", "-00")).unwrap().2);
        let future = text.replacen("00", "cc", 1) + "-what-comes";
        assert!(parent(&future).is_some());
        for wrong in [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
        ] {
            assert_eq!(parent(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn the_environment_says_where_spans_go() {
        let read = |all: &[(&str, &str)]| {
            TraceOptions::read(|name| {
                let found = all.iter().find(|(own, _)| *own == name);
                found.map(|(_, value)| value.to_string())
            })
        };
        assert_eq!(read(&[]).unwrap(), None);
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/");
        let found =
            read(&[endpoint, ("OTEL_EXPORTER_OTLP_HEADERS", "a=b, c = d=")]).unwrap().unwrap();
        assert_eq!((found.host.as_str(), found.port), ("collector", 4318));
        assert_eq!((found.path.as_str(), found.service.as_str()), ("/v1/traces", "mlctl"));
        assert_eq!(found.headers, [("a".into(), "b".into()), ("c".into(), "d=".into())]);
        let own = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://[::1]:80");
        let found = read(&[endpoint, own]).unwrap().unwrap();
        assert_eq!((found.host.as_str(), found.port, found.path.as_str()), ("::1", 80, "/"));
        assert_eq!(read(&[endpoint, ("OTEL_SDK_DISABLED", "TRUE")]).unwrap(), None);
        for wrong in [
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://collector"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://:4318"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c:x"),
            ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "http://c/a\r\nb"),
            ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
            ("OTEL_TRACES_SAMPLER", "always"),
            ("OTEL_BSP_SCHEDULE_DELAY", "-1"),
        ] {
            let error = read(&[endpoint, wrong]).unwrap_err();
            assert!(format!("{error:#}").contains(wrong.0), "{error:#}");
        }
    }
}
