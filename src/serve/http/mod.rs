//! An HTTP/1.1 server: connections, their limits, and their end. Knows nothing of models.

mod connection;
mod request;

pub use connection::race;

use super::failure::Failure;
use super::metrics::Metrics;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What one client may take.
#[derive(Debug, Clone)]
pub struct Limits {
    pub connections: u64,
    /// Bytes of a body, also when it is unpacked.
    pub body: usize,
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
        Response { status: failure.code.http_status(), ..Response::json(body) }
    }

    fn head(&self, keep_alive: bool) -> Vec<u8> {
        use std::io::Write;
        let mut head = Vec::with_capacity(self.body.len().min(64 << 10) + 256);
        let (status, reason) = (self.status, reason(self.status));
        let _ = write!(
            head,
            "HTTP/1.1 {status} {reason}\r\nContent-Type: {}\r\nContent-Length: {}\r\n",
            self.content_type,
            self.body.len()
        );
        for (name, value) in &self.headers {
            let _ = write!(head, "{name}: ");
            head.extend_from_slice(value.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        if self.gzip {
            head.extend_from_slice(b"Content-Encoding: gzip\r\nVary: Accept-Encoding\r\n");
        }
        if status == 429 || status == 503 {
            head.extend_from_slice(b"Retry-After: 1\r\n");
        }
        if !keep_alive {
            head.extend_from_slice(b"Connection: close\r\n");
        }
        head.extend_from_slice(b"\r\n");
        head
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        409 => "Conflict",
        413 => "Content Too Large",
        429 => "Too Many Requests",
        431 => "Request Header Fields Too Large",
        499 => "Client Closed Request",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        504 => "Gateway Timeout",
        _ => "Internal Server Error",
    }
}

/// Takes connections until `stop` says so; every one is served on a task of its own, and `answer` says what.
pub async fn listen<F>(
    listener: TcpListener,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
    answer: impl Fn(Request, SocketAddr) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Response> + Send + 'static,
{
    const PAUSE: Duration = Duration::from_millis(20);
    let accept = async {
        loop {
            let Ok((stream, client)) = listener.accept().await else {
                // out of file descriptors, most likely: others will end
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if metrics.connections.load(Relaxed) >= limits.connections {
                metrics.refused_connections.fetch_add(1, Relaxed);
                refuse(&stream);
                continue;
            }
            let open = Open::new(metrics.clone());
            let (limits, stop, answer) = (limits.clone(), stop.clone(), answer.clone());
            tokio::spawn(async move {
                let answer = |request| answer(request, client);
                let _ = connection::serve_connection(stream, &limits, stop, answer).await;
                drop(open);
            });
        }
    };
    let mut told = stop.clone();
    let stopped = async {
        while !*told.borrow() {
            if told.changed().await.is_err() {
                return;
            }
        }
    };
    connection::race::<()>(std::pin::pin!(accept), std::pin::pin!(stopped)).await;
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
    let _ = stream.try_write(
        b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: 33\r\n\
          Retry-After: 1\r\nConnection: close\r\n\r\n{\"error\": \"too many connections\"}",
    );
}
