//! The protocol over REST.

use super::request::{Ends, InferBody, read_infer};
use super::response::{Written, write};
use super::route::{Of, Route};
use super::{find, find_for_run, pages};
use crate::runtime::Tensor;
use crate::serve::Server;
use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::http::{Limits, Request, Response};
use crate::serve::metrics::Kind;
use crate::serve::rest::{aside, unpacked};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde::Serialize;
use serde_json::json;
use std::sync::Arc;

/// Bodies of more bytes are read aside, and outputs of more elements written there.
const LARGE: usize = 256 << 10;
const HEAD_LENGTH: HeaderName = HeaderName::from_static("inference-header-content-length");

/// Answers what a path asks for.
pub async fn answer(
    server: &Arc<Server>,
    route: Route,
    request: Request,
    kind: &mut Option<Kind>,
) -> Answer<Response> {
    match route {
        Route::Server => page(&pages::server()),
        Route::Live => page(&json!({"live": true})),
        Route::Ready => {
            let ready = pages::is_ready(server);
            let status = if ready { 200 } else { 503 };
            Ok(Response { status, ..page(&json!({"ready": ready}))? })
        }
        Route::Statistics => page(&pages::statistics(server, "", "")?),
        Route::Index => index(server, request).await,
        Route::LoadOrUnload => Err(pages::no_loading()),
        Route::Metadata(Of { model, version }) => page(&pages::metadata(server, &model, &version)?),
        Route::ModelReady(Of { model, version }) => {
            find(&server.registry, &model, &version)?;
            page(&json!({"name": model, "ready": true}))
        }
        Route::ModelConfig(Of { model, version }) => {
            page(&pages::config(server, &model, &version)?)
        }
        Route::ModelStatistics(Of { model, version }) => {
            page(&pages::statistics(server, &model, &version)?)
        }
        Route::Infer(of) => infer(server, of, request, kind).await,
    }
}

fn page(value: &impl Serialize) -> Answer<Response> {
    let body = serde_json::to_vec(value);
    body.map(Response::json).map_err(|e| Failure::new(Code::Internal, e.to_string()))
}

async fn index(server: &Server, request: Request) -> Answer<Response> {
    const MOST: usize = 64 << 10;
    let limits = Limits { body: MOST, ..server.options.limits.clone() };
    let body = unpacked(request.body, request.gzip_body, &limits).await?;
    if body.len() > MOST {
        return Err(Failure::invalid(format!("the request's body has more than {MOST} bytes")));
    }
    let asked = match body.is_empty() {
        true => serde_json::Value::Null,
        false => serde_json::from_slice(&body).map_err(|e| {
            Failure::invalid(format!("failed to parse the request JSON buffer: {e}"))
        })?,
    };
    let ready = match &asked["ready"] {
        serde_json::Value::Null => false,
        serde_json::Value::Bool(ready) => *ready,
        _ => return Err(Failure::invalid("Invalid value for 'ready': expected a boolean")),
    };
    page(&pages::index(server, ready).models)
}

async fn infer(
    server: &Arc<Server>,
    of: Of,
    request: Request,
    kind: &mut Option<Kind>,
) -> Answer<Response> {
    let headers = &request.headers;
    let chosen = find_for_run(server, &of.model, &of.version, headers, "REST", kind)?;
    let servable = chosen.servable().clone();
    let body = unpacked(request.body, request.gzip_body, &server.options.limits).await?;
    let head = head_length(&request.headers, body.len())?;
    let large = body.len() > LARGE;
    let (own, model) = (servable.clone(), of.model.clone());
    let read = move || {
        read_infer(
            &body,
            head,
            &Ends { model: &model, inputs: own.inputs(), outputs: own.outputs() },
        )
    };
    let mut asked: InferBody = match large {
        true => aside(read).await??,
        false => {
            let asked = read()?;
            // what its tensors do not share of the body goes
            drop(read);
            asked
        }
    };
    let time = server.options.timeout;
    let deadline = request.came + asked.timeout.map_or(time, |own| own.min(time));
    let inputs = std::mem::take(&mut asked.inputs);
    let outputs = chosen.answer(inputs, deadline).await?;
    let large = outputs.iter().map(Tensor::len).sum::<usize>() > LARGE / 8;
    let write = move || {
        let told = asked.told(&of.model, servable.version);
        write(&told, servable.outputs(), &outputs, &asked.outputs)
    };
    let Written { body, head } = if large { aside(write).await?? } else { write()? };
    let mut response = Response::json(body);
    if let Some(head) = head {
        response.content_type = "application/octet-stream";
        response.headers.push((HEAD_LENGTH, HeaderValue::from(head)));
    }
    Ok(response)
}

/// How many bytes of a body are JSON, where the request says so.
fn head_length(headers: &HeaderMap, length: usize) -> Answer<Option<usize>> {
    let mut values = headers.get_all(HEAD_LENGTH).iter();
    let Some(value) = values.next() else { return Ok(None) };
    let text = String::from_utf8_lossy(value.as_bytes()).into_owned();
    let digits = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !digits || values.next().is_some() {
        let message = format!("Unable to parse Inference-Header-Content-Length, got: {text}");
        return Err(Failure::invalid(message));
    }
    let head = text.parse().ok().filter(|head| *head <= length);
    head.map(Some).ok_or_else(|| {
        Failure::invalid(format!(
            "inference header size should be in range (0, {length}), got: {text}"
        ))
    })
}
