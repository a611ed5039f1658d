//! Ports, connections and their limits, and HTTP/1.1 on them (hyper). Knows nothing of models.

pub mod body;
mod connection;
pub mod timed;
pub mod tls;

use super::failure::{Answer, Code, Failure};
use super::keys::{Admitted, Caller};
use super::memory::Budget;
use super::metrics::Metrics;
use bytes::Bytes;
use http_body_util::Full;
use hyper::StatusCode;
use hyper::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, VARY};
use hyper::header::{HeaderMap, HeaderName, HeaderValue};
use std::future::{Future, poll_fn};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::Poll;
use std::time::{Duration, Instant};
use tls::{Stream, Tls};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What one client may take, and all of them.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: u64,
    /// Bytes of a body, also when it is unpacked.
    pub body: usize,
    /// For what all requests hold together.
    pub memory: Arc<Budget>,
    /// For a connection without a request.
    pub idle: Duration,
    /// For a request's head.
    pub head: Duration,
    /// Every stretch of a body must bring 16 KiB.
    pub body_stretch: Duration,
    /// For the client to take the next piece of an answer.
    pub write: Duration,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            connections: 16_384,
            body: 128 << 20,
            memory: Budget::new(usize::MAX),
            idle: Duration::from_secs(300),
            head: Duration::from_secs(10),
            body_stretch: Duration::from_secs(10),
            write: Duration::from_secs(30),
        }
    }
}

/// A whole request.
#[derive(Debug)]
pub struct Request {
    pub method: String,
    /// As sent, without the query.
    pub path: String,
    pub headers: HeaderMap,
    pub body: Bytes,
    pub gzip_body: bool,
    pub accepts_gzip: bool,
    /// Who asks. Whoever may not is answered unread, without a body.
    pub caller: Answer<Option<Caller>>,
    pub came: Instant,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Response {
    pub status: u16,
    pub content_type: &'static str,
    /// More than those of content and connection.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    pub gzip: bool,
    pub body: Vec<u8>,
}

pub const JSON: &str = "application/json";

impl Response {
    pub fn json(body: Vec<u8>) -> Response {
        Response { status: 200, content_type: JSON, headers: vec![], gzip: false, body }
    }

    pub fn text(text: impl Into<Vec<u8>>) -> Response {
        let content_type = "text/plain; charset=utf-8";
        Response { status: 200, content_type, headers: vec![], gzip: false, body: text.into() }
    }

    /// `{"error": "…"}`
    pub fn failure(failure: &Failure) -> Response {
        let mut body = b"{\"error\": ".to_vec();
        super::json::write::write_string(&mut body, &failure.message);
        body.push(b'}');
        Response { status: failure.http_status(), ..Response::json(body) }
    }

    /// Whether the same request may be answered a second later.
    fn is_for_later(&self) -> bool {
        self.status == 429 || self.status == 503
    }

    /// As it is sent where a connection has no request, and ends.
    fn as_bytes(&self) -> Vec<u8> {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let (kind, length) = (self.content_type, self.body.len());
        let again = if self.is_for_later() { "Retry-After: 1\r\n" } else { "" };
        let head = format!(
            "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n{again}Connection: close\r\n\r\n"
        );
        [head.as_bytes(), &self.body].concat()
    }

    fn into_hyper(self) -> hyper::Response<Full<Bytes>> {
        let later = self.is_for_later();
        let mut response = hyper::Response::new(Full::from(self.body));
        *response.status_mut() =
            StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(self.content_type));
        if self.gzip {
            headers.insert(CONTENT_ENCODING, HeaderValue::from_static("gzip"));
            headers.insert(VARY, HeaderValue::from_static("Accept-Encoding"));
        }
        if later {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        for (name, value) in self.headers {
            headers.append(name, value);
        }
        response
    }
}

/// A port and what its connections have in common.
pub struct Port {
    pub listener: TcpListener,
    pub tls: Option<Arc<Tls>>,
    pub limits: Arc<Limits>,
    pub metrics: Arc<Metrics>,
    pub stop: watch::Receiver<bool>,
}

impl Port {
    /// Takes connections until `stop` says so, those too that have come by then; every one is served on a task of its
    /// own. Those that are too many meet `refuse`.
    pub async fn listen<F>(
        self,
        refuse: fn(&TcpStream),
        serve: impl Fn(Stream, SocketAddr) -> F + Clone + Send + Sync + 'static,
    ) where
        F: Future<Output = ()> + Send + 'static,
    {
        const PAUSE: Duration = Duration::from_millis(20);
        const MOST_AT_LAST: usize = 8192;
        let take = |stream: TcpStream, client| {
            if self.metrics.connections.load(Relaxed) >= self.limits.connections {
                self.metrics.refused_connections.fetch_add(1, Relaxed);
                if self.tls.is_none() {
                    refuse(&stream);
                }
                return;
            }
            let _ = stream.set_nodelay(true);
            let open = Open::new(self.metrics.clone());
            let (tls, serve, time) = (self.tls.clone(), serve.clone(), self.limits.head);
            tokio::spawn(async move {
                let stream = match tls {
                    None => Some(Stream::Plain(stream)),
                    Some(tls) => {
                        let accepted = tokio::time::timeout(time, tls.accept(stream)).await;
                        accepted.ok().and_then(Result::ok)
                    }
                };
                if let Some(stream) = stream {
                    serve(stream, client).await;
                }
                drop(open);
            });
        };
        let accept = async {
            loop {
                match self.listener.accept().await {
                    Ok((stream, client)) => take(stream, client),
                    // out of file descriptors, most likely: others will end
                    Err(_) => tokio::time::sleep(PAUSE).await,
                }
            }
        };
        let mut told = self.stop.clone();
        race::<()>(pin!(accept), pin!(told_to_stop(&mut told))).await;
        // tokio knows of those alone that its poll has shown
        let Ok(listener) = self.listener.into_std() else { return };
        for _ in 0..MOST_AT_LAST {
            let (stream, client) = match listener.accept() {
                Ok(accepted) => accepted,
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(_) => continue,
            };
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                take(stream, client);
            }
        }
    }
}

/// Ends when `stop` says so.
pub async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    while !*stop.borrow() {
        if stop.changed().await.is_err() {
            return;
        }
    }
}

/// `first`'s result, or `None` when `second` ends before it.
pub async fn race<T>(
    mut first: Pin<&mut impl Future<Output = T>>,
    mut second: Pin<&mut impl Future<Output = ()>>,
) -> Option<T> {
    poll_fn(|context| match first.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => second.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// What an answer to a request from this `Origin` says besides.
pub type Mark = Arc<dyn Fn(Option<&HeaderValue>, &mut Response) + Send + Sync>;

/// Who asks, by a request whose body has not been read.
pub type Admit = Arc<dyn Fn(&Request) -> Answer<Admitted> + Send + Sync>;

/// Serves HTTP/1.1 on `port`: `answer` says what; `mark` is for answers to requests that it does not see.
pub async fn listen<F>(
    port: Port,
    mark: Mark,
    admit: Admit,
    answer: impl Fn(Request, SocketAddr) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Response> + Send + 'static,
{
    let (limits, stop) = (port.limits.clone(), port.stop.clone());
    port.listen(refuse, move |stream, client| {
        let (limits, stop, answer) = (limits.clone(), stop.clone(), answer.clone());
        let rules = connection::Rules { limits, mark: mark.clone(), admit: admit.clone() };
        connection::serve_connection(stream, rules, stop, move |request| answer(request, client))
    })
    .await;
}

/// A connection in the count of those that are open.
pub struct Open(Arc<Metrics>);

impl Open {
    pub fn new(metrics: Arc<Metrics>) -> Open {
        metrics.connections.fetch_add(1, Relaxed);
        Open(metrics)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Relaxed);
    }
}

fn refuse(stream: &TcpStream) {
    let failure = Failure::new(Code::Unavailable, "too many connections");
    let _ = stream.try_write(&Response::failure(&failure).as_bytes());
}
