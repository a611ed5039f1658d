//! HTTP/1.1 on one connection: requests one after the other, each read whole. What is ambiguous is refused: a proxy in
//! front may read it otherwise.

use super::body::{self, NoBody};
use super::timed::{Phase, SharedPhase, Timed};
use super::tls::Stream;
use super::{Admit, Limits, Mark, Request, Response, told_to_stop};
use crate::serve::failure::{Code, Failure};
use bytes::Bytes;
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use hyper::header::{
    ACCEPT_ENCODING, CONNECTION, CONTENT_ENCODING, HOST, HeaderMap, HeaderValue, ORIGIN,
    TRANSFER_ENCODING,
};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Version};
use hyper_util::rt::TokioIo;
use std::convert::Infallible;
use std::error::Error;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::task::{Poll, ready};
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

/// A head may take this many bytes.
const MOST_HEAD: usize = 32 << 10;
const MOST_HEADERS: usize = 100;
/// When the server is to end: for a request that is on its way already.
const LAST_CALL: Duration = Duration::from_secs(1);

/// What holds for every request of a connection.
#[derive(Clone)]
pub struct Rules {
    pub limits: Arc<Limits>,
    pub mark: Mark,
    pub admit: Admit,
}

/// Answers the requests of one client until it goes, breaks the rules, or `stop` says so: then one that is on its way is
/// answered still, and the client is told that it was the last.
pub async fn serve_connection<F>(
    stream: Stream,
    rules: Rules,
    mut stop: watch::Receiver<bool>,
    answer: impl Fn(Request) -> F + Clone,
) where
    F: Future<Output = Response>,
{
    let phase = SharedPhase::new(Phase::Idle);
    let stream = Timed::http1(stream, phase.clone(), rules.limits.clone());
    let (rules, ending) = (&rules, &AtomicBool::new(false));
    let service = service_fn(|request| {
        let (busy, answer) = (Busy::new(&phase), answer.clone());
        Box::pin(async move {
            let (mut ends, mut response) = respond(request, rules, answer).await;
            ends |= ending.load(Relaxed);
            if ends {
                response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
            }
            drop(busy);
            Ok::<_, Infallible>(response)
        })
    });
    let mut builder = http1::Builder::new();
    builder.max_headers(MOST_HEADERS).max_header_size(MOST_HEAD);
    let mut connection = builder.serve_connection(TokioIo::new(stream), service);
    let (mut asked, mut silent) = (false, false);
    let ended = {
        let mut told = pin!(told_to_stop(&mut stop));
        let mut last_call = None;
        poll_fn(|context| {
            if last_call.is_none() && told.as_mut().poll(context).is_ready() {
                ending.store(true, Relaxed);
                last_call = Some(Box::pin(sleep(LAST_CALL)));
            }
            if let Poll::Ready(ended) = connection.poll_without_shutdown(context) {
                return Poll::Ready(ended);
            }
            // a request that has begun ends the connection with its answer
            match &mut last_call {
                Some(time) if !asked && phase.get() == Phase::Idle => {
                    ready!(time.as_mut().poll(context));
                    asked = true;
                    Pin::new(&mut connection).graceful_shutdown();
                    let ended = connection.poll_without_shutdown(context);
                    // else an answer is being taken still
                    silent = ended.is_ready();
                    ended
                }
                _ => Poll::Pending,
            }
        })
        .await
    };
    let mut stream = connection.into_parts().io.into_inner();
    if silent {
        // TLS says that this is the end
        let _ = timeout(LAST_CALL, stream.shutdown()).await;
        return;
    }
    if phase.get() == Phase::Head && ended.is_err_and(|error| is_timeout(&error)) {
        let _ = stream.write_all(&Refusal::Body(NoBody::TooSlow).response().as_bytes()).await;
    }
    linger(stream).await;
}

fn is_timeout(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    cause.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut)
}

/// A request is worked on while this lives.
struct Busy(SharedPhase);

impl Busy {
    fn new(phase: &SharedPhase) -> Busy {
        phase.set(Phase::Busy);
        Busy(phase.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.set(Phase::Idle);
    }
}

/// A client that still sends would have its connection reset, and the answer with it: reads on for a moment.
async fn linger(mut stream: Timed) {
    const TIME: Duration = Duration::from_secs(2);
    const MOST: usize = 1 << 20;
    let drain = async {
        stream.shutdown().await?;
        let mut scrap = [0; 4096];
        let mut read = 0;
        while read < MOST {
            match stream.read(&mut scrap).await? {
                0 => break,
                n => read += n,
            }
        }
        io::Result::Ok(())
    };
    let _ = timeout(TIME, drain).await;
}

/// The answer, and whether the connection ends with it.
async fn respond<F>(
    request: hyper::Request<Incoming>,
    rules: &Rules,
    answer: impl Fn(Request) -> F,
) -> (bool, hyper::Response<Full<Bytes>>)
where
    F: Future<Output = Response>,
{
    let origin = request.headers().get(ORIGIN).cloned();
    match read(request, rules).await {
        Ok((request, is_whole)) => (!is_whole, answer(request).await.into_hyper()),
        Err(refusal) => {
            let mut response = refusal.response();
            (rules.mark)(origin.as_ref(), &mut response);
            (true, response.into_hyper())
        }
    }
}

/// Why a request is not read further; the connection ends with the answer.
#[derive(Debug, PartialEq, Eq)]
enum Refusal {
    Malformed(&'static str),
    Unsupported(&'static str),
    Body(NoBody),
}

impl Refusal {
    fn response(&self) -> Response {
        let invalid = Code::InvalidArgument;
        let (status, code, message) = match self {
            Refusal::Malformed(what) => (400, invalid, format!("Malformed request: {what}")),
            Refusal::Body(NoBody::TooLarge(most)) => {
                (413, invalid, format!("the request's body has more than {most} bytes"))
            }
            Refusal::Body(NoBody::TooSlow) => {
                (408, Code::DeadlineExceeded, "the request comes too slowly".into())
            }
            Refusal::Body(NoBody::Broken(why)) => {
                (400, invalid, format!("Malformed request: {why}"))
            }
            Refusal::Body(NoBody::NoRoom(why)) => (429, Code::ResourceExhausted, why.clone()),
            Refusal::Unsupported(what) => (501, Code::Unimplemented, (*what).to_string()),
        };
        Response { status, ..Response::failure(&Failure::new(code, message)) }
    }
}

/// The request, and whether it is whole: a body that is refused by its head alone is not read.
async fn read(
    request: hyper::Request<Incoming>,
    rules: &Rules,
) -> Result<(Request, bool), Refusal> {
    let (head, body) = request.into_parts();
    let (gzip_body, accepts_gzip) = check_head(head.version, &head.headers)?;
    let method = match head.method {
        Method::HEAD => "GET".into(),
        method => method.as_str().into(),
    };
    let mut request = Request {
        method,
        path: head.uri.path().to_string(),
        headers: head.headers,
        body: Bytes::new(),
        gzip_body,
        accepts_gzip,
        caller: Ok(None),
        came: Instant::now(),
    };
    let most = match (rules.admit)(&request) {
        Ok(admitted) => {
            request.caller = Ok(admitted.caller);
            admitted.most_body.min(rules.limits.body)
        }
        Err(failure) => {
            request.caller = Err(failure);
            return Ok((request, body.is_end_stream()));
        }
    };
    if body.is_end_stream() {
        return Ok((request, true));
    }
    let body = body::read(body, most, &rules.limits).await;
    request.body = body.map_err(Refusal::Body)?;
    request.came = Instant::now();
    Ok((request, true))
}

/// Whether the body is packed and whether the answer may be.
fn check_head(version: Version, headers: &HeaderMap) -> Result<(bool, bool), Refusal> {
    let count = |name| headers.get_all(name).iter().count();
    if count(HOST) > 1 || (count(HOST) == 0 && version == Version::HTTP_11) {
        return Err(Refusal::Malformed("HTTP/1.1 needs one Host"));
    }
    let chunked = headers.get(TRANSFER_ENCODING);
    if chunked.is_some_and(|value| !value.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        return Err(Refusal::Unsupported("Transfer-Encoding other than chunked"));
    }
    let text = |value: &HeaderValue| value.to_str().unwrap_or_default().trim().to_lowercase();
    let gzip_body = match headers.get(CONTENT_ENCODING).map(text).as_deref() {
        None | Some("" | "identity") => false,
        Some("gzip" | "x-gzip") => true,
        _ => return Err(Refusal::Unsupported("Content-Encoding other than gzip")),
    };
    let mut accepted = headers.get_all(ACCEPT_ENCODING).iter();
    let accepts_gzip = accepted.any(|value| accepts_gzip(value.to_str().unwrap_or_default()));
    Ok((gzip_body, accepts_gzip))
}

/// Whether `gzip` is among the encodings and not excluded by `q=0`.
fn accepts_gzip(value: &str) -> bool {
    value.split(',').any(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        let is_gzip = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip"));
        let quality = parts.find_map(|p| p.strip_prefix("q=")).map_or(Ok(1.0), str::parse::<f32>);
        is_gzip && quality.is_ok_and(|q| q > 0.0)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::http::race;
    use crate::serve::keys::Admitted;
    use hyper::header::HeaderName;
    use tokio::net::{TcpListener, TcpSocket, TcpStream};

    fn check(headers: &[(&str, &str)]) -> Result<(bool, bool), Refusal> {
        let own = headers.iter().map(|(name, value)| {
            let name: HeaderName = name.parse().unwrap();
            (name, HeaderValue::from_str(value).unwrap())
        });
        let mut map = HeaderMap::new();
        map.extend(own);
        check_head(Version::HTTP_11, &map)
    }

    #[test]
    fn heads() {
        let host = ("host", "x");
        assert_eq!(check(&[host]), Ok((false, false)));
        assert_eq!(check(&[host, ("content-encoding", "GZIP")]), Ok((true, false)));
        assert_eq!(check(&[host, ("accept-encoding", "br, gzip;q=0.5")]), Ok((false, true)));
        assert_eq!(check(&[host, ("accept-encoding", "gzip;q=0, br")]), Ok((false, false)));
        assert_eq!(check_head(Version::HTTP_10, &HeaderMap::new()), Ok((false, false)));
    }

    #[test]
    fn what_is_ambiguous_is_refused() {
        let host = ("host", "x");
        let malformed =
            |headers: &[_]| assert!(matches!(check(headers), Err(Refusal::Malformed(_))));
        malformed(&[]);
        malformed(&[host, host]);
        let unsupported =
            |headers: &[_]| assert!(matches!(check(headers), Err(Refusal::Unsupported(_))));
        unsupported(&[host, ("transfer-encoding", "gzip, chunked")]);
        unsupported(&[host, ("content-encoding", "br")]);
    }

    /// One byte after the other, each in time: what counts is the whole.
    #[test]
    fn a_byte_now_and_then_is_too_slow() {
        let stretch = Duration::from_millis(300);
        let limits = Limits { head: stretch, body_stretch: stretch, ..Limits::default() };
        let limits = Arc::new(limits);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let drip = |first: &'static str| {
            let limits = limits.clone();
            runtime.block_on(async {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
                let stream = Stream::Plain(listener.accept().await.unwrap().0);
                let admit: Admit = Arc::new(|_| Ok(Admitted::anyone()));
                let rules = Rules { limits, mark: Arc::new(|_, _| {}), admit };
                let (_told, stop) = watch::channel(false);
                tokio::spawn(serve_connection(stream, rules, stop, |_| async {
                    Response::text("answered")
                }));
                client.write_all(first.as_bytes()).await.unwrap();
                let (mut answer, start) = (vec![0; 12], Instant::now());
                let (mut read, mut write) = client.split();
                let send = async {
                    for _ in 0..1000 {
                        sleep(stretch / 10).await;
                        let _ = write.write_all(b"a").await;
                    }
                };
                let read = async { read.read_exact(&mut answer).await.map(drop) };
                race(pin!(read), pin!(send)).await.expect("an answer").unwrap();
                (String::from_utf8(answer).unwrap(), start.elapsed())
            })
        };
        for begun in [
            "POST / HTTP/1.1\r\nX: ",
            "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n",
        ] {
            let (answer, time) = drip(begun);
            assert_eq!(answer, "HTTP/1.1 408", "{begun:?}");
            assert!(time >= stretch && time < stretch * 10, "{begun:?}: {time:?}");
        }
    }

    #[test]
    fn an_answer_that_is_taken_slowly_is_no_idle_connection() {
        const LENGTH: usize = 1 << 20;
        const BUFFER: u32 = 16 << 10;
        let idle = Duration::from_millis(500);
        let limits = Arc::new(Limits { idle, ..Limits::default() });
        let admit: Admit = Arc::new(|_| Ok(Admitted::anyone()));
        let rules = Rules { limits, mark: Arc::new(|_, _| {}), admit };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let socket = TcpSocket::new_v4().unwrap();
            socket.set_send_buffer_size(BUFFER).unwrap();
            socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
            let listener = socket.listen(1).unwrap();
            let client = TcpSocket::new_v4().unwrap();
            client.set_recv_buffer_size(BUFFER).unwrap();
            let mut client = client.connect(listener.local_addr().unwrap()).await.unwrap();
            let stream = Stream::Plain(listener.accept().await.unwrap().0);
            let (_told, stop) = watch::channel(false);
            tokio::spawn(serve_connection(stream, rules, stop, |_| async {
                Response::text(vec![b'a'; LENGTH])
            }));
            client.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
            let (mut got, mut piece, start) = (0, vec![0; BUFFER as usize], Instant::now());
            while got < LENGTH {
                tokio::time::sleep(Duration::from_millis(30)).await;
                let read = client.read(&mut piece).await.unwrap();
                assert!(read > 0, "the connection ended after {got} bytes");
                got += read;
            }
            assert!(start.elapsed() > idle * 2, "{:?}", start.elapsed());
            let rest = timeout(idle * 20, async {
                while client.read(&mut piece).await.is_ok_and(|read| read > 0) {}
            });
            rest.await.expect("an idle connection ends");
        });
    }
}
