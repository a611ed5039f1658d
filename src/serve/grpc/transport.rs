//! gRPC over HTTP/2: one message in, one out, and how it went in the trailers (github.com/grpc/grpc,
//! doc/PROTOCOL-HTTP2.md). Knows no service.

use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::http::{Limits, Open, race};
use crate::serve::metrics::Metrics;
use bytes::{Buf, BufMut, Bytes, BytesMut};
use flate2::read::GzDecoder;
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Response};
use std::future::{Future, poll_fn};
use std::io::Read;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::timeout;

/// A call: `/tensorflow.serving.PredictionService/Predict` and its message.
#[derive(Debug)]
pub struct Call {
    pub path: String,
    pub headers: HeaderMap,
    pub message: Bytes,
    pub came: Instant,
    /// What the client gives it.
    pub time: Option<Duration>,
}

/// Calls of one connection at the same time.
const MOST_STREAMS: u32 = 1000;
const WINDOW: u32 = 1 << 20;
const MOST_HEAD: u32 = 16 << 10;

/// Takes connections until `stop` says so.
pub async fn listen<F>(
    listener: TcpListener,
    limits: Arc<Limits>,
    metrics: Arc<Metrics>,
    stop: watch::Receiver<bool>,
    answer: impl Fn(Call) -> F + Clone + Send + Sync + 'static,
) where
    F: Future<Output = Answer<Vec<u8>>> + Send + 'static,
{
    const PAUSE: Duration = Duration::from_millis(20);
    let accept = async {
        loop {
            let Ok((stream, _)) = listener.accept().await else {
                tokio::time::sleep(PAUSE).await;
                continue;
            };
            if metrics.connections.load(Relaxed) >= limits.connections {
                metrics.refused_connections.fetch_add(1, Relaxed);
                continue;
            }
            let open = Open::new(metrics.clone());
            let (limits, stop, answer) = (limits.clone(), stop.clone(), answer.clone());
            tokio::spawn(async move {
                let _ = serve_connection(stream, &limits, stop, answer).await;
                drop(open);
            });
        }
    };
    let mut told = stop.clone();
    race::<()>(pin!(accept), pin!(told_to_stop(&mut told))).await;
}

async fn told_to_stop(stop: &mut watch::Receiver<bool>) {
    while !*stop.borrow() {
        if stop.changed().await.is_err() {
            return;
        }
    }
}

async fn serve_connection<F>(
    stream: TcpStream,
    limits: &Arc<Limits>,
    mut stop: watch::Receiver<bool>,
    answer: impl Fn(Call) -> F + Clone + Send + Sync + 'static,
) -> Result<(), h2::Error>
where
    F: Future<Output = Answer<Vec<u8>>> + Send + 'static,
{
    let _ = stream.set_nodelay(true);
    let mut builder = h2::server::Builder::new();
    builder
        .max_concurrent_streams(MOST_STREAMS)
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW * 4)
        .max_header_list_size(MOST_HEAD);
    let Ok(connection) = timeout(limits.head, builder.handshake::<_, Bytes>(stream)).await else {
        return Ok(());
    };
    let mut connection = connection?;
    let mut stopping = false;
    loop {
        let accepted = match stopping {
            true => Some(connection.accept().await),
            false => race(pin!(connection.accept()), pin!(told_to_stop(&mut stop))).await,
        };
        let Some(accepted) = accepted else {
            connection.graceful_shutdown();
            stopping = true;
            continue;
        };
        let Some(accepted) = accepted else { return Ok(()) };
        let (request, respond) = accepted?;
        let (limits, answer) = (limits.clone(), answer.clone());
        tokio::spawn(async move {
            let _ = serve_call(request, respond, &limits, answer).await;
        });
    }
}

async fn serve_call<F>(
    request: http::Request<RecvStream>,
    mut respond: SendResponse<Bytes>,
    limits: &Limits,
    answer: impl Fn(Call) -> F,
) -> Result<(), h2::Error>
where
    F: Future<Output = Answer<Vec<u8>>>,
{
    let came = Instant::now();
    let (head, mut body) = request.into_parts();
    let is_grpc = head
        .headers
        .get("content-type")
        .is_some_and(|value| value.as_bytes().starts_with(b"application/grpc"));
    if head.method != http::Method::POST || !is_grpc {
        let mut response = Response::new(());
        *response.status_mut() = http::StatusCode::UNSUPPORTED_MEDIA_TYPE;
        respond.send_response(response, true)?;
        return Ok(());
    }
    let packing = head.headers.get("grpc-encoding").map(|v| v.as_bytes().to_vec());
    let time = head.headers.get("grpc-timeout").and_then(|v| timeout_of(v.to_str().ok()?));
    let message = match read_message(&mut body, limits).await {
        Ok(message) => unpacked(message, packing.as_deref(), limits.body),
        Err(failure) => Err(failure),
    };
    let answered = match message {
        Ok(message) => {
            let (path, headers) = (head.uri.path().to_string(), head.headers);
            let call = Call { path, headers, message, came, time };
            let gone = async {
                let _ = poll_fn(|context| respond.poll_reset(context)).await;
            };
            match race(pin!(answer(call)), pin!(gone)).await {
                Some(answered) => answered,
                None => return Ok(()),
            }
        }
        Err(failure) => Err(failure),
    };
    let mut response = Response::new(());
    let headers = response.headers_mut();
    headers.insert("content-type", HeaderValue::from_static("application/grpc"));
    match answered {
        Ok(message) => {
            let mut send = respond.send_response(response, false)?;
            let mut framed = BytesMut::with_capacity(message.len() + 5);
            framed.put_u8(0);
            framed.put_u32(u32::try_from(message.len()).unwrap_or(u32::MAX));
            framed.extend_from_slice(&message);
            send.send_data(framed.freeze(), false)?;
            let mut trailers = HeaderMap::new();
            trailers.insert("grpc-status", HeaderValue::from_static("0"));
            send.send_trailers(trailers)?;
        }
        Err(failure) => {
            headers.insert("grpc-status", HeaderValue::from(failure.code as u16));
            if let Ok(text) = HeaderValue::from_str(&encoded(&failure.message)) {
                headers.insert("grpc-message", text);
            }
            let mut send = respond.send_response(response, true)?;
            if !body.is_end_stream() {
                send.send_reset(Reason::NO_ERROR);
            }
        }
    }
    Ok(())
}

struct Message {
    packed: bool,
    bytes: Bytes,
}

async fn read_message(body: &mut RecvStream, limits: &Limits) -> Answer<Message> {
    let broken = |e: &dyn std::fmt::Display| {
        Failure::new(Code::Cancelled, format!("the call broke off: {e}"))
    };
    let too_large = || {
        let message = format!("Received message larger than max ({})", limits.body);
        Failure::new(Code::ResourceExhausted, message)
    };
    let mut bytes = BytesMut::new();
    loop {
        let Ok(data) = timeout(limits.body_stretch, body.data()).await else {
            return Err(Failure::new(Code::DeadlineExceeded, "the call comes too slowly"));
        };
        let Some(data) = data else { break };
        let data = data.map_err(|e| broken(&e))?;
        body.flow_control().release_capacity(data.len()).map_err(|e| broken(&e))?;
        if bytes.len() + data.len() > limits.body.saturating_add(5) {
            return Err(too_large());
        }
        bytes.extend_from_slice(&data);
        if let Some(head) = bytes.get(1..5) {
            let length = head.iter().fold(0usize, |n, &b| n << 8 | usize::from(b));
            if length > limits.body {
                return Err(too_large());
            }
        }
    }
    if bytes.len() < 5 {
        return Err(Failure::new(Code::Internal, "the call has no message"));
    }
    let packed = bytes.get_u8() != 0;
    let length = bytes.get_u32() as usize;
    if bytes.len() != length {
        return Err(Failure::new(Code::Internal, "the call must have one whole message"));
    }
    Ok(Message { packed, bytes: bytes.freeze() })
}

fn unpacked(message: Message, packing: Option<&[u8]>, most: usize) -> Answer<Bytes> {
    match (message.packed, packing) {
        (false, _) => Ok(message.bytes),
        (true, Some(b"gzip")) => {
            let mut bytes = vec![];
            let read =
                GzDecoder::new(&*message.bytes).take(most as u64 + 1).read_to_end(&mut bytes);
            read.map_err(|e| {
                Failure::new(Code::Internal, format!("the message is not gzip: {e}"))
            })?;
            match bytes.len() > most {
                true => Err(Failure::new(
                    Code::ResourceExhausted,
                    format!("Received message larger than max ({most}) unpacked"),
                )),
                false => Ok(bytes.into()),
            }
        }
        (true, _) => Err(Failure::new(Code::Unimplemented, "only gzip is known as grpc-encoding")),
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

/// Percent-encoded, as `grpc-message` is.
fn encoded(message: &str) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for byte in message.bytes() {
        match byte {
            b' '..=b'~' if byte != b'%' => text.push(char::from(byte)),
            _ => drop(write!(text, "%{byte:02X}")),
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

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

    #[test]
    fn messages_are_encoded() {
        assert_eq!(encoded("a \"b\" 5% é\n"), "a \"b\" 5%25 %C3%A9%0A");
    }

    #[test]
    fn packed_messages() {
        use flate2::{Compression, write::GzEncoder};
        use std::io::Write;
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(&[7; 100_000]).unwrap();
        let bytes: Bytes = encoder.finish().unwrap().into();
        let unpack = |packed, packing, most| {
            unpacked(Message { packed, bytes: bytes.clone() }, packing, most).map_err(|f| f.code)
        };
        assert_eq!(unpack(true, Some(&b"gzip"[..]), 100_000).unwrap().len(), 100_000);
        assert_eq!(unpack(true, Some(&b"gzip"[..]), 99_999), Err(Code::ResourceExhausted));
        assert_eq!(unpack(true, None, 100_000), Err(Code::Unimplemented));
        assert_eq!(unpack(false, None, 100_000), Ok(bytes.clone()));
    }
}
