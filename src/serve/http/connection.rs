//! HTTP/1.1 on one connection (RFC 9112): requests one after the other, with bounds on time and size for each part.

use super::request::{Body, Head, Parsed, Refusal, chunked, parse_head};
use super::{Limits, Request, Response};
use bytes::BytesMut;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::watch;
use tokio::time::{timeout, timeout_at};

/// A head may take this many bytes.
const MOST_HEAD: usize = 32 << 10;
/// What a client may send ahead while its request is answered.
const MOST_AHEAD: usize = 64 << 10;

/// Answers the requests of one client until it goes, breaks the rules, or `stop` says so.
pub async fn serve_connection<F>(
    mut stream: TcpStream,
    limits: &Limits,
    mut stop: watch::Receiver<bool>,
    answer: impl Fn(Request) -> F,
) -> io::Result<()>
where
    F: Future<Output = Response>,
{
    let _ = stream.set_nodelay(true);
    let mut buffer = BytesMut::with_capacity(4 << 10);
    loop {
        let read = read_request(&mut stream, &mut buffer, limits, &mut stop).await?;
        let (mut request, keep_alive) = match read {
            Read::Request(request, keep_alive) => (request, keep_alive),
            Read::End => return Ok(()),
            Read::Refused(refusal) => {
                let response = refusal.response();
                write_response(&mut stream, &response, false, false, limits).await?;
                return linger(&mut stream).await;
            }
        };
        let head_only = request.method == "HEAD";
        if head_only {
            request.method = "GET".into();
        }
        let answered =
            race(pin!(answer(request)), pin!(read_ahead(&mut stream, &mut buffer))).await;
        let Some(response) = answered else { return Ok(()) };
        let keep_alive = keep_alive && !*stop.borrow();
        write_response(&mut stream, &response, keep_alive, head_only, limits).await?;
        if !keep_alive {
            return Ok(());
        }
    }
}

/// `first`'s result, or `None` when `second` ends before it.
pub async fn race<T>(
    mut first: std::pin::Pin<&mut impl Future<Output = T>>,
    mut second: std::pin::Pin<&mut impl Future<Output = ()>>,
) -> Option<T> {
    poll_fn(|context| match first.as_mut().poll(context) {
        Poll::Ready(result) => Poll::Ready(Some(result)),
        Poll::Pending => second.as_mut().poll(context).map(|()| None),
    })
    .await
}

/// Ends when the client has gone.
async fn read_ahead(stream: &mut TcpStream, buffer: &mut BytesMut) {
    while buffer.len() < MOST_AHEAD {
        match stream.read_buf(buffer).await {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
    std::future::pending().await
}

/// A client that still sends would have its connection reset, and the answer with it: reads on for a moment.
async fn linger(stream: &mut TcpStream) -> io::Result<()> {
    const TIME: Duration = Duration::from_secs(2);
    const MOST: usize = 1 << 20;
    stream.shutdown().await?;
    let drain = async {
        let mut scrap = [0; 4096];
        let mut read = 0;
        while read < MOST {
            match stream.read(&mut scrap).await {
                Ok(0) | Err(_) => return,
                Ok(n) => read += n,
            }
        }
    };
    let _ = timeout(TIME, drain).await;
    Ok(())
}

enum Read {
    Request(Request, bool),
    End,
    Refused(Refusal),
}

async fn read_request(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    limits: &Limits,
    stop: &mut watch::Receiver<bool>,
) -> io::Result<Read> {
    if buffer.is_empty() {
        let told = async {
            while !*stop.borrow() {
                if stop.changed().await.is_err() {
                    return;
                }
            }
        };
        let first = timeout(limits.idle, stream.read_buf(buffer));
        match race(pin!(first), pin!(told)).await {
            Some(Ok(Ok(1..))) => {}
            Some(Ok(Err(error))) => return Err(error),
            _ => return Ok(Read::End),
        }
    }
    let deadline = tokio::time::Instant::now() + limits.head;
    let head = loop {
        match parse_head(buffer) {
            Parsed::Head(head) => break head,
            Parsed::Refused(refusal) => return Ok(Read::Refused(refusal)),
            Parsed::Partial if buffer.len() >= MOST_HEAD => {
                return Ok(Read::Refused(Refusal::HeadTooLarge));
            }
            Parsed::Partial => {}
        }
        match timeout_at(deadline, stream.read_buf(buffer)).await {
            Ok(Ok(0)) => return Ok(Read::End),
            Ok(Ok(_)) => {}
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(Read::Refused(Refusal::TooSlow)),
        }
    };
    let keep_alive = head.keep_alive;
    Ok(match read_body(stream, buffer, &head, limits).await? {
        Ok(body) => {
            let Head { method, path, headers, gzip_body, accepts_gzip, .. } = head;
            let came = Instant::now();
            Read::Request(
                Request { method, path, headers, body, gzip_body, accepts_gzip, came },
                keep_alive,
            )
        }
        Err(None) => Read::End,
        Err(Some(refusal)) => Read::Refused(refusal),
    })
}

/// The body, all of it; `Err(None)` when the client goes before its end.
async fn read_body(
    stream: &mut TcpStream,
    buffer: &mut BytesMut,
    head: &Head,
    limits: &Limits,
) -> io::Result<Result<bytes::Bytes, Option<Refusal>>> {
    let mut length = match head.body {
        Body::None => return Ok(Ok(bytes::Bytes::new())),
        Body::Known(length) if length > limits.body as u64 => {
            return Ok(Err(Some(Refusal::BodyTooLarge(limits.body))));
        }
        Body::Known(length) => length as usize,
        Body::Chunked => 0,
    };
    if head.expects_continue && buffer.is_empty() {
        timeout(limits.write, stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n")).await??;
    }
    let mut pace = Pace::new(limits);
    let mut chunks = chunked::Decoder::default();
    loop {
        if matches!(head.body, Body::Chunked) {
            match chunks.decode(buffer, limits.body) {
                Ok(Some(body)) => return Ok(Ok(body)),
                Ok(None) => {}
                Err(refusal) => return Ok(Err(Some(refusal))),
            }
            length = buffer.len() + 1;
        } else if buffer.len() >= length {
            return Ok(Ok(buffer.split_to(length).freeze()));
        }
        // memory is taken as the bytes come, whatever the head promises
        buffer.reserve((length - buffer.len()).clamp(1 << 10, 256 << 10));
        match timeout_at(pace.end, stream.read_buf(buffer)).await {
            Ok(Ok(0)) => return Ok(Err(None)),
            Ok(Ok(read)) => pace.add(read),
            Ok(Err(error)) => return Err(error),
            Err(_) => return Ok(Err(Some(Refusal::TooSlow))),
        }
    }
}

/// A body must bring so many bytes in every stretch of time.
struct Pace {
    end: tokio::time::Instant,
    read: usize,
    stretch: Duration,
}

impl Pace {
    const LEAST: usize = 16 << 10;

    fn new(limits: &Limits) -> Pace {
        Pace {
            end: tokio::time::Instant::now() + limits.body_stretch,
            read: 0,
            stretch: limits.body_stretch,
        }
    }

    fn add(&mut self, read: usize) {
        self.read += read;
        if self.read >= Pace::LEAST {
            self.end = tokio::time::Instant::now() + self.stretch;
            self.read = 0;
        }
    }
}

async fn write_response(
    stream: &mut TcpStream,
    response: &Response,
    keep_alive: bool,
    head_only: bool,
    limits: &Limits,
) -> io::Result<()> {
    const SMALL: usize = 64 << 10;
    let mut head = response.head(keep_alive);
    let body: &[u8] = if head_only { b"" } else { &response.body };
    let rest = match body.len() <= SMALL {
        true => {
            head.extend_from_slice(body);
            &[][..]
        }
        false => body,
    };
    timeout(limits.write, stream.write_all(&head)).await??;
    for piece in rest.chunks(SMALL) {
        timeout(limits.write, stream.write_all(piece)).await??;
    }
    Ok(())
}
