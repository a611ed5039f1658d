//! gRPC: HTTP/2 (hyper) and its framing (tonic). Which service a call is for is told here by its path alone; a message
//! is bytes.

use super::frames::{Messages, packing};
use crate::serve::failure::{Answer, Failure};
use crate::serve::http::timed::Timed;
use crate::serve::http::tls::Stream;
use crate::serve::http::{Limits, Port, told_to_stop};
use crate::serve::keys::{Admitted, Caller};
use bytes::{BufMut, Bytes};
use hyper::body::Incoming;
use hyper::header::{CONTENT_TYPE, HeaderMap, HeaderValue};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use std::convert::Infallible;
use std::fmt::Display;
use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::codec::{
    BufferSettings, CompressionEncoding, EncodeBody, EncodeBuf, Encoder,
    SingleMessageCompressionOverride,
};
use tonic::codegen::Service;
use tonic::codegen::tokio_stream;

/// A call: `/tensorflow.serving.PredictionService/Predict` and its message.
#[derive(Debug)]
pub struct Call {
    pub path: String,
    /// The call's metadata.
    pub headers: HeaderMap,
    pub message: Bytes,
    /// Who calls. Whoever may not is answered unread, without a message.
    pub caller: Answer<Option<Caller>>,
    pub came: Instant,
    /// What the client gives it.
    pub time: Option<Duration>,
}

/// Who calls, by path and metadata.
pub type Admit = Arc<dyn Fn(&str, &HeaderMap) -> Answer<Admitted> + Send + Sync>;

/// A service of tonic's.
pub type Serve = Arc<
    dyn Fn(hyper::Request<Incoming>) -> Pin<Box<dyn Future<Output = hyper::Response<Body>> + Send>>
        + Send
        + Sync,
>;

/// What the port answers besides calls of one message: by what the path begins with.
pub type Services = Arc<[(&'static str, Serve)]>;

pub fn boxed<S>(service: S) -> Serve
where
    S: Service<hyper::Request<Incoming>, Response = hyper::Response<Body>, Error = Infallible>,
    S: Clone + Send + Sync + 'static,
    S::Future: Send + 'static,
{
    Arc::new(move |request| {
        let called = service.clone().call(request);
        Box::pin(async move {
            let Ok(response) = called.await;
            response
        })
    })
}

/// Calls of one connection at the same time.
const MOST_STREAMS: u32 = 1000;
const WINDOW: u32 = 1 << 20;
const MOST_HEAD: u32 = 16 << 10;
/// A connection that is silent for so long is asked whether it lives.
const SILENCE: Duration = Duration::from_secs(60);

/// Takes connections until the port is told to stop.
pub async fn listen<F>(
    port: Port,
    services: Services,
    admit: Admit,
    answer: impl Fn(Call) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Answer<Vec<u8>>> + Send + 'static,
{
    let (limits, stop) = (port.limits.clone(), port.stop.clone());
    port.listen(
        |_| {},
        move |stream, _| {
            let (stop, answer) = (stop.clone(), answer.clone());
            let (limits, services, admit) = (limits.clone(), services.clone(), admit.clone());
            serve_connection(stream, Rules { limits, services, admit }, stop, answer)
        },
    )
    .await;
}

/// What holds for every call of a connection.
#[derive(Clone)]
struct Rules {
    limits: Arc<Limits>,
    services: Services,
    admit: Admit,
}

async fn serve_connection<F>(
    stream: Stream,
    rules: Rules,
    mut stop: watch::Receiver<bool>,
    answer: impl Fn(Call) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Answer<Vec<u8>>> + Send + 'static,
{
    let stream = Timed::http2(stream, rules.limits.clone());
    let service = service_fn(move |request| {
        let (rules, answer) = (rules.clone(), answer.clone());
        // boxed: it is large, and is moved from hand to hand
        Box::pin(async move { Ok::<_, Infallible>(respond(request, &rules, answer).await) })
    });
    let mut builder = http2::Builder::new(TokioExecutor::new());
    builder
        .timer(TokioTimer::new())
        .max_concurrent_streams(MOST_STREAMS)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_header_list_size(MOST_HEAD)
        .keep_alive_interval(SILENCE)
        .auto_date_header(false);
    let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
    let mut told = pin!(told_to_stop(&mut stop));
    let mut stopping = false;
    let _ = poll_fn(|context| {
        if !stopping && told.as_mut().poll(context).is_ready() {
            stopping = true;
            connection.as_mut().graceful_shutdown();
        }
        connection.as_mut().poll(context)
    })
    .await;
}

async fn respond<F>(
    request: hyper::Request<Incoming>,
    rules: &Rules,
    answer: impl Fn(Call) -> F,
) -> hyper::Response<Body>
where
    F: Future<Output = Answer<Vec<u8>>>,
{
    let came = Instant::now();
    let kind = request.headers().get(CONTENT_TYPE);
    let is_grpc = kind.is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if request.method() != hyper::Method::POST || !is_grpc {
        let mut response = hyper::Response::new(Body::empty());
        *response.status_mut() = hyper::StatusCode::UNSUPPORTED_MEDIA_TYPE;
        return response;
    }
    let path = request.uri().path();
    if let Some((_, serve)) = rules.services.iter().find(|(prefix, _)| path.starts_with(prefix)) {
        return serve(request).await;
    }
    unary(request, &rules.limits, &rules.admit, came, answer).await
}

/// One message in, one out.
async fn unary<B, F>(
    request: hyper::Request<B>,
    limits: &Limits,
    admit: &Admit,
    came: Instant,
    answer: impl Fn(Call) -> F,
) -> hyper::Response<Body>
where
    B: hyper::body::Body<Data = Bytes> + Unpin,
    B::Error: Display,
    F: Future<Output = Answer<Vec<u8>>>,
{
    let (head, body) = request.into_parts();
    let (path, headers) = (head.uri.path().to_string(), head.headers);
    let admitted = admit(&path, &headers);
    let read = async {
        match (&admitted, packing(&headers)?) {
            (Err(_), _) => Ok(Bytes::new()),
            (Ok(admitted), packs) => {
                Messages::new(body, packs, limits).at_most(admitted.most_body).only().await
            }
        }
    };
    let message = match read.await {
        Ok(message) => message,
        Err(failure) => return refusal(failure),
    };
    let time = headers.get("grpc-timeout").and_then(|v| timeout_of(v.to_str().ok()?));
    let packs = packs_answers(&headers);
    let caller = admitted.map(|admitted| admitted.caller);
    match answer(Call { path, headers, message, caller, came, time }).await {
        Ok(message) => answered(tokio_stream::once(Ok(message)), packs),
        Err(failure) => refusal(failure),
    }
}

/// Whether the client packs, and takes what is packed. To pack costs more than most answers' way does: others do not get
/// it, though most clients would take it.
pub fn packs_answers(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all("grpc-accept-encoding").iter();
    let mut accepted = accepted.filter_map(|value| value.to_str().ok()).flat_map(|v| v.split(','));
    packing(headers).unwrap_or(false) && accepted.any(|name| name.trim() == "gzip")
}

/// An answer of messages.
pub fn answered(
    messages: impl tokio_stream::Stream<Item = Result<Vec<u8>, Status>> + Send + 'static,
    packs: bool,
) -> hyper::Response<Body> {
    let encoding = packs.then_some(CompressionEncoding::Gzip);
    let each = SingleMessageCompressionOverride::default();
    let body = EncodeBody::new_server(Bytewise, messages, encoding, each, None);
    let mut response = hyper::Response::new(Body::new(body));
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
    if packs {
        headers.insert("grpc-encoding", HeaderValue::from_static("gzip"));
    }
    response
}

/// An answer without a message.
pub fn refusal(failure: Failure) -> hyper::Response<Body> {
    let mut response = status_of(failure).into_http::<Body>();
    let known = HeaderValue::from_static("gzip,identity");
    response.headers_mut().insert("grpc-accept-encoding", known);
    response
}

/// Clients take so many bytes of metadata, of which a failure's text is a part.
const MOST_TEXT: usize = 2048;

pub fn status_of(failure: Failure) -> Status {
    let text = start_of(&failure.message, MOST_TEXT);
    Status::new(tonic::Code::from_i32(failure.code as i32), text)
}

/// As much of the text as has up to `most` bytes.
pub fn start_of(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

/// Messages as they are.
struct Bytewise;

impl Encoder for Bytewise {
    type Item = Vec<u8>;
    type Error = Status;

    // tonic's 8 KiB are more than most answers have
    fn buffer_settings(&self) -> BufferSettings {
        const FIRST: usize = 512;
        const MOST_AT_ONCE: usize = 32 << 10;
        BufferSettings::new(FIRST, MOST_AT_ONCE)
    }

    fn encode(&mut self, message: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.reserve(message.len());
        out.put_slice(&message);
        Ok(())
    }
}

/// `100m`: a number of up to 8 digits and its unit.
fn timeout_of(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::frames::tests::{framed, gzipped, limits, run, sent};
    use super::*;
    use crate::serve::failure::Code;
    use http_body_util::{BodyExt, Full};
    use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

    fn headers(all: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = all.iter().map(|(name, value)| {
            (hyper::header::HeaderName::from_static(name), HeaderValue::from_static(value))
        });
        pairs.collect()
    }

    fn asked<B>(headers: HeaderMap, body: B) -> hyper::Request<B> {
        let mut request = hyper::Request::new(body);
        *request.headers_mut() = headers;
        request
    }

    fn everyone() -> Admit {
        Arc::new(|_, _| Ok(Admitted::anyone()))
    }

    #[test]
    fn answers_are_packed_for_clients_that_pack() {
        let check = |all: &[(&'static str, &'static str)], flag: u8| {
            let packs = all.contains(&("grpc-encoding", "gzip"));
            let message = vec![b'a'; 10_000];
            let body = match packs {
                true => framed(1, &gzipped(&message)),
                false => framed(0, &message),
            };
            let request = asked(headers(all), Full::new(Bytes::from(body)));
            let (limits, admit) = (limits(1 << 20), everyone());
            let answer = |call: Call| async move { Ok(call.message.to_vec()) };
            let (head, body) = run(async {
                let response = unary(request, &limits, &admit, Instant::now(), answer).await;
                let (head, body) = response.into_parts();
                (head, body.collect().await.unwrap())
            });
            let encoding = head.headers.get("grpc-encoding").map(|value| value.to_str().unwrap());
            assert_eq!(encoding, (flag == 1).then_some("gzip"), "{all:?}");
            assert_eq!(head.headers["content-type"], "application/grpc");
            assert_eq!(body.trailers().unwrap()["grpc-status"], "0");
            let body = body.to_bytes();
            assert_eq!(body[0], flag, "{all:?}");
            let plain = match flag {
                1 => crate::serve::http::body::unpack(&body[5..], 1 << 20, &limits.memory).unwrap(),
                _ => body.slice(5..),
            };
            assert_eq!(plain, message);
        };
        // as grpc's C++, Python and Java say it to every server
        let accepts = ("grpc-accept-encoding", "identity, deflate, gzip");
        check(&[], 0);
        check(&[accepts], 0);
        check(&[accepts, ("grpc-encoding", "identity")], 0);
        check(&[("grpc-encoding", "gzip")], 0);
        check(&[accepts, ("grpc-encoding", "gzip")], 1);
    }

    #[test]
    fn unknown_packings_are_refused() {
        let request = asked(headers(&[("grpc-encoding", "br")]), Full::new(Bytes::new()));
        let answer = |_| async { Ok(vec![]) };
        let response = run(unary(request, &limits(9), &everyone(), Instant::now(), answer));
        assert_eq!(response.headers()["grpc-status"], "12");
        assert_eq!(response.headers()["grpc-accept-encoding"], "gzip,identity");
    }

    #[test]
    fn who_may_not_call_is_not_read() {
        // nothing of the body comes, and nothing is waited for
        let (sender, body) = sent();
        let admit: Admit = Arc::new(|_, _| Err(Failure::new(Code::Unauthenticated, "no")));
        let calls = AtomicUsize::new(0);
        let answer = |call: Call| {
            calls.fetch_add(1, Relaxed);
            async move { Err(call.caller.unwrap_err()) }
        };
        let limits = Limits::default();
        let response = unary(asked(headers(&[]), body), &limits, &admit, Instant::now(), answer);
        let response = run(async { tokio::time::timeout(Duration::from_secs(5), response).await });
        assert_eq!(response.unwrap().headers()["grpc-status"], "16");
        assert_eq!(calls.load(Relaxed), 1);
        drop(sender);
    }

    #[test]
    fn what_is_open_to_everyone_takes_no_large_message() {
        let admit: Admit = Arc::new(|_, _| Ok(Admitted::openly()));
        let most = Admitted::openly().most_body;
        let status = |limit: usize, size: usize| {
            let request = asked(headers(&[]), Full::new(framed(0, &vec![0; size]).into()));
            let answer = |call: Call| async move { Ok(call.message.to_vec()) };
            let response = run(unary(request, &limits(limit), &admit, Instant::now(), answer));
            response.headers().get("grpc-status").map(|v| v.to_str().unwrap().to_string())
        };
        let too_large = Some("8".to_string());
        assert_eq!(status(1 << 20, most), None);
        assert_eq!(status(1 << 20, most + 1), too_large);
        assert_eq!(status(100, 101), too_large);
    }

    #[test]
    fn texts_have_an_end() {
        let status = status_of(Failure::invalid("é".repeat(100_000)));
        assert_eq!(status.message(), "é".repeat(MOST_TEXT / 2));
        assert_eq!(start_of("aé", 2), "a");
        assert_eq!(start_of("aé", 9), "aé");
    }

    #[test]
    fn timeouts() {
        for (text, expected) in [
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("3S", Some(3000)),
            ("250m", Some(250)),
            ("5000u", Some(5)),
            ("99999999S", Some(99_999_999_000)),
            ("", None),
            ("m", None),
            ("1x", None),
            ("-1S", None),
            ("100000000S", None),
            ("1é", None),
        ] {
            assert_eq!(timeout_of(text), expected.map(Duration::from_millis), "{text}");
        }
    }
}
