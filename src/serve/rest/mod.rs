//! TensorFlow Serving's REST API, version 1, and what a server's keepers ask for: health, metrics, the list of models.

mod infer;
mod pages;
pub mod route;

use super::Server;
use super::failure::{Answer, Code, Failure};
use super::http::{JSON, Request, Response};
use super::metrics::Kind;
use bytes::Bytes;
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use route::{Route, route};
use std::io::{Read, Write};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Shorter answers are not packed.
const LEAST_TO_PACK: usize = 1 << 10;

/// Answers one request.
pub async fn answer(server: Arc<Server>, request: Request, client: SocketAddr) -> Response {
    let (method, path) = (request.method.clone(), request.path.clone());
    let (came, received, packs) = (request.came, request.body.len(), request.accepts_gzip);
    let mut kind = None;
    let answered = handle(&server, request, &mut kind).await;
    let code = answered.as_ref().map_or_else(|failure| failure.code, |_| Code::Ok);
    let mut response = answered.unwrap_or_else(|failure| Response::failure(&failure));
    if packs && response.body.len() >= LEAST_TO_PACK {
        response = pack(response).await;
    }
    let time = came.elapsed();
    if server.options.access_log {
        let version = kind.as_ref().and_then(|kind: &Kind| kind.version);
        server.log_access(&serde_json::json!({
            "time": super::clock::now(),
            "client": client.ip().to_string(),
            "method": method,
            "path": path,
            "status": response.status,
            "code": code.name(),
            "model": kind.as_ref().map(|kind| &kind.model),
            "version": version,
            "bytes_in": received,
            "bytes_out": response.body.len(),
            "ms": time.as_secs_f64() * 1e3,
        }));
    }
    if let Some(kind) = kind {
        server.metrics.add_request(kind, code, time);
    }
    response
}

async fn handle(
    server: &Arc<Server>,
    request: Request,
    kind: &mut Option<Kind>,
) -> Answer<Response> {
    let routed = route(&request.method, &request.path, server.options.metrics_path.as_deref());
    let Some(route) = routed else {
        return Err(Failure::new(Code::NotFound, format!("Not found: {}", request.path)));
    };
    match route? {
        Route::Infer { model, wanted, method } => {
            let body =
                unpacked(request.body, request.gzip_body, server.options.limits.body).await?;
            let ask =
                infer::Ask { model, wanted, method, headers: request.headers, came: request.came };
            let body = infer::infer(server, ask, body, kind).await?;
            Ok(Response::json(body))
        }
        Route::Status { model, wanted } => pages::status(server, &model, &wanted),
        Route::Metadata { model, wanted } => pages::metadata(server, &model, &wanted),
        Route::Models => Ok(pages::models(server)),
        Route::Healthy => Ok(Response::text("ok\n")),
        Route::Ready if server.draining.load(Relaxed) => {
            Ok(Response { status: 503, ..Response::text("draining\n") })
        }
        Route::Ready if !server.registry.is_ready() => Ok(Response {
            status: 503,
            ..Response::text("not every model has a version that answers\n")
        }),
        Route::Ready => Ok(Response::text("ok\n")),
        Route::Metrics => {
            let content_type = "text/plain; version=0.0.4; charset=utf-8";
            let mut text = server.metrics.text(&server.registry.queues());
            server.traffic.write_metrics(&mut text);
            Ok(Response { content_type, ..Response::text(text) })
        }
    }
}

/// Runs `work` where it does not hold up other requests.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|_| Failure::new(Code::Internal, "the request could not be worked on"))
}

async fn unpacked(body: Bytes, packed: bool, most: usize) -> Answer<Bytes> {
    if !packed {
        return Ok(body);
    }
    aside(move || unpack(&body, most)).await?
}

fn unpack(packed: &[u8], most: usize) -> Answer<Bytes> {
    let mut body = vec![];
    let read = MultiGzDecoder::new(packed).take(most as u64 + 1).read_to_end(&mut body);
    read.map_err(|e| Failure::invalid(format!("Failed to decompress the request's body: {e}")))?;
    match body.len() > most {
        true => {
            Err(Failure::invalid(format!("the request's body has more than {most} bytes unpacked")))
        }
        false => Ok(body.into()),
    }
}

async fn pack(response: Response) -> Response {
    const LARGE: usize = 64 << 10;
    let pack = |response: Response| {
        let mut encoder = GzEncoder::new(vec![], Compression::fast());
        let packed = encoder.write_all(&response.body).and_then(|()| encoder.finish());
        match packed {
            Ok(body) => Response { gzip: true, body, ..response },
            Err(_) => response,
        }
    };
    if response.body.len() < LARGE {
        return pack(response);
    }
    let failed = Response { content_type: JSON, ..Response::text("") };
    aside(move || pack(response)).await.unwrap_or(Response { status: 500, ..failed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bombs_are_stopped() {
        let mut encoder = GzEncoder::new(vec![], Compression::best());
        encoder.write_all(&vec![b' '; 10 << 20]).unwrap();
        let bomb = encoder.finish().unwrap();
        let failure = unpack(&bomb, 1 << 20).unwrap_err();
        assert_eq!(failure.message, "the request's body has more than 1048576 bytes unpacked");
        assert_eq!(unpack(&bomb, 10 << 20).unwrap().len(), 10 << 20);
        assert_eq!(unpack(b"plain", 10).unwrap_err().code, Code::InvalidArgument);
        assert!(unpack(&bomb[..100], 10 << 20).is_err());
    }
}
