//! TensorFlow Serving's REST API, version 1, and what a server's keepers ask for: health, metrics, the list of models.

mod infer;
mod pages;
pub mod route;

use super::Server;
use super::failure::{Answer, Code, Failure};
use super::http::body::{NoBody, unpack};
use super::http::{JSON, Limits, Request, Response};
use super::keys::{Admitted, Caller};
use super::kserve;
use super::metrics::Kind;
use super::status;
use super::trace::{KeyValue, Told};
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderName, HeaderValue, header};
use route::{Route, encoded, route};
use std::io::Write;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

/// Shorter answers are not packed.
const LEAST_TO_PACK: usize = 1 << 10;

/// Answers one request.
pub async fn answer(server: Arc<Server>, request: Request, client: SocketAddr) -> Response {
    let (method, path) = (request.method.clone(), request.path.clone());
    let (came, received, packs) = (request.came, request.body.len(), request.accepts_gzip);
    let (mut kind, mut caller) = (None, None);
    let origin = request.headers.get(header::ORIGIN).cloned();
    let active = server.tracer.as_ref().map(|tracer| tracer.begin(&request.headers));
    let answered = {
        // pinned: moved into one arm or the other, it would be there three times
        let work = pin!(guarded(&server, request, &mut kind, &mut caller));
        match &active {
            Some(active) => active.around(work).await,
            None => work.await,
        }
    };
    let code = answered.as_ref().map_or_else(|failure| failure.code, |_| Code::Ok);
    let mut response = answered.unwrap_or_else(|failure| Response::failure(&failure));
    if code == Code::Unauthenticated {
        // a browser asks its user for a key, where it shows a page
        let way =
            if path == "/" { "Basic realm=\"mlctl: the key is the password\"" } else { "Bearer" };
        response.headers.push((header::WWW_AUTHENTICATE, HeaderValue::from_static(way)));
    }
    server.options.cors.mark(origin.as_ref(), &mut response);
    let traced = active.filter(|_| kind.is_some());
    if let Some(value) = traced.as_ref().and_then(|t| t.traceparent().parse().ok()) {
        response.headers.push((HeaderName::from_static("traceparent"), value));
    }
    if packs && response.body.len() >= LEAST_TO_PACK {
        response = pack(response).await;
    }
    let time = came.elapsed();
    if server.options.access_log {
        let version = kind.as_ref().and_then(|kind: &Kind| kind.version);
        let mut entry = serde_json::json!({
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
        });
        if let Some(Caller(name)) = caller {
            entry["key"] = (*name).into();
        }
        if let Some(traced) = &traced {
            entry["trace"] = traced.trace_id().into();
        }
        server.log_access(&entry);
    }
    if let (Some(tracer), Some(active), Some(kind)) = (&server.tracer, traced, &kind) {
        let attributes = vec![
            KeyValue::text("http.request.method", &method),
            KeyValue::text("url.path", &path),
            KeyValue::number("http.response.status_code", response.status.into()),
        ];
        tracer.end(active, Told { kind, came, code, attributes });
    }
    if let Some(kind) = kind {
        server.metrics.add_request(kind, code, time);
    }
    response
}

async fn guarded(
    server: &Arc<Server>,
    request: Request,
    kind: &mut Option<Kind>,
    caller: &mut Option<Caller>,
) -> Answer<Response> {
    if let Some(response) = server.options.cors.preflight(&request) {
        return Ok(response);
    }
    *caller = request.caller.clone()?;
    handle(server, request, kind).await
}

/// What a machine's keeper asks, and tells no more than whether the server works, is open to everyone.
const OPEN: [&str; 4] = ["/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"];

/// Who asks, by the request's head.
pub fn admit(server: &Server, request: &Request) -> Answer<Admitted> {
    let Some(keys) = &server.keys else { return Ok(Admitted::anyone()) };
    let is_open = OPEN.contains(&request.path.as_str())
        || (request.method == "GET" && server.options.health_path.as_ref() == Some(&request.path))
        || server.options.cors.preflight(request).is_some();
    if is_open {
        return Ok(Admitted::openly());
    }
    keys.caller(&request.headers).map(Admitted::known)
}

/// The path that a path of the server's own options stands for.
fn aliased(server: &Server, request: &Request) -> Answer<Option<String>> {
    let is = |own: &Option<String>| own.as_deref() == Some(request.path.as_str());
    if request.method == "GET" && is(&server.options.health_path) {
        return Ok(Some("/readyz".into()));
    }
    if request.method != "POST" || !is(&server.options.predict_path) {
        return Ok(None);
    }
    let configured = server.registry.configured();
    let routed = route(&request.method, &request.path, None);
    let names_one = matches!(routed, Some(Ok(Route::Infer { model, .. })) if configured.contains(&model))
        || matches!(kserve::route(&request.method, &request.path), Some(Ok(_)));
    match configured.as_slice() {
        // it says itself which model is asked for what
        _ if names_one => Ok(None),
        [name] => Ok(Some(format!("/v1/models/{}:predict", encoded(name)))),
        several => Err(Failure::new(
            Code::FailedPrecondition,
            format!("{} asks the only model, and there are {}", request.path, several.len()),
        )),
    }
}

async fn handle(
    server: &Arc<Server>,
    mut request: Request,
    kind: &mut Option<Kind>,
) -> Answer<Response> {
    if let Some(path) = aliased(server, &request)? {
        request.path = path;
    }
    if let Some(wish) = status::wish(&request.method, &request.path) {
        return Box::pin(status::answer(server, wish, request, kind)).await;
    }
    let routed = route(&request.method, &request.path, server.options.metrics_path.as_deref());
    if let Some(route) = kserve::route(&request.method, &request.path) {
        return Box::pin(kserve::rest::answer(server, route?, request, kind)).await;
    }
    let Some(route) = routed else {
        return Err(Failure::new(Code::NotFound, format!("Not found: {}", request.path)));
    };
    match route? {
        Route::Infer { model, wanted, method } => {
            let body = unpacked(request.body, request.gzip_body, &server.options.limits).await?;
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
            server.keys.iter().for_each(|keys| keys.write_metrics(&mut text));
            server.traffic.write_metrics(&mut text);
            server.options.limits.memory.write_metrics(&mut text);
            Ok(Response { content_type, ..Response::text(text) })
        }
    }
}

/// Runs `work` where it does not hold up other requests.
pub async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Answer<T> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.map_err(|_| Failure::new(Code::Internal, "the request could not be worked on"))
}

pub async fn unpacked(body: Bytes, packed: bool, limits: &Limits) -> Answer<Bytes> {
    if !packed {
        return Ok(body);
    }
    let (most, memory) = (limits.body, limits.memory.clone());
    aside(move || unpack(&body, most, &memory).map_err(not_unpacked)).await?
}

fn not_unpacked(none: NoBody) -> Failure {
    match none {
        NoBody::TooLarge(most) => Failure {
            status: Some(413),
            ..Failure::invalid(format!("the request's body has more than {most} bytes unpacked"))
        },
        NoBody::Broken(why) => {
            Failure::invalid(format!("Failed to decompress the request's body: {why}"))
        }
        NoBody::NoRoom(why) => Failure::new(Code::ResourceExhausted, why),
        NoBody::TooSlow => Failure::invalid("Failed to decompress the request's body in time"),
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
    fn bodies_that_cannot_be_unpacked() {
        let failure = not_unpacked(NoBody::TooLarge(1 << 20));
        assert_eq!(failure.message, "the request's body has more than 1048576 bytes unpacked");
        assert_eq!(failure.http_status(), 413);
        let failure = not_unpacked(unpack(b"plain", 10, &Limits::default().memory).unwrap_err());
        assert_eq!((failure.code, failure.http_status()), (Code::InvalidArgument, 400));
    }
}
