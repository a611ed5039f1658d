//! KServe's Open Inference Protocol (V2) with the extensions that Triton's clients use, over REST and gRPC. The texts of
//! errors are Triton's where it has one.

pub mod grpc;
mod messages;
mod pages;
pub mod request;
mod response;
pub mod rest;
mod route;

pub use route::route;

use super::Server;
use super::failure::{Answer, Code, Failure};
use super::json::tensors::shortened;
use super::metrics::Kind;
use super::registry::{Registry, Wanted};
use super::servable::Servable;
use super::traffic::Chosen;
use crate::graph::ElementType;
use http::HeaderMap;
use std::sync::Arc;

/// The protocol's name of a type.
pub fn datatype(element: ElementType) -> &'static str {
    match element {
        ElementType::F32 => "FP32",
        ElementType::F16 => "FP16",
        ElementType::I8 => "INT8",
        ElementType::U8 => "UINT8",
        ElementType::I16 => "INT16",
        ElementType::U16 => "UINT16",
        ElementType::I32 => "INT32",
        ElementType::U32 => "UINT32",
        ElementType::I64 => "INT64",
        ElementType::Bool => "BOOL",
        ElementType::I4 | ElementType::String => "BYTES",
    }
}

/// The version that a request's text means: none is the newest, digits are a number, all else is a label.
fn wanted(version: &str) -> Answer<Wanted> {
    if version.is_empty() {
        return Ok(Wanted::Latest);
    }
    if !version.bytes().all(|b| b.is_ascii_digit()) {
        return Ok(Wanted::Label(version.into()));
    }
    let number = version.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok());
    number.map(Wanted::Version).ok_or_else(|| no_version(version))
}

fn no_version(version: &str) -> Failure {
    let version = shortened(version.as_bytes());
    Failure::invalid(format!(
        "failed to get model version from specified version string '{version}', version should be \
         an integral value > 0 or a label of the model"
    ))
}

/// The version that answers.
fn find(registry: &Registry, model: &str, version: &str) -> Answer<Arc<Servable>> {
    let wanted = wanted(version)?;
    let found = registry.find(model, &wanted);
    found.map_err(|failure| unknown(registry, model, version, &wanted, failure))
}

/// The protocol's text for a version that is not there.
fn unknown(
    registry: &Registry,
    model: &str,
    version: &str,
    wanted: &Wanted,
    failure: Failure,
) -> Failure {
    if failure.code == Code::InvalidArgument {
        return no_version(version);
    }
    let (code, what) = registry.read(|models| {
        let Some(own) = models.get(model) else {
            return (Code::NotFound, "is not found".to_string());
        };
        match wanted {
            Wanted::Version(n) if own.versions.contains_key(n) => {
                (Code::Unavailable, format!("version {n} is not at ready state"))
            }
            Wanted::Version(n) => (Code::NotFound, format!("version {n} is not found")),
            _ => (Code::NotFound, "has no available versions".into()),
        }
    });
    let model = shortened(model.as_bytes());
    Failure::new(code, format!("Request for unknown model: '{model}' {what}"))
}

/// As [`find`], and tells `kind` of it; a request that names no version takes part in the traffic's split.
fn find_for_run(
    server: &Server,
    model: &str,
    version: &str,
    headers: &HeaderMap,
    entrypoint: &'static str,
    kind: &mut Option<Kind>,
) -> Answer<Chosen> {
    let known = server.registry.read(|models| models.contains_key(model));
    let own = Kind {
        model: if known { model.into() } else { String::new() },
        version: None,
        api: "infer",
        entrypoint,
    };
    *kind = Some(own.clone());
    let wanted = wanted(version)?;
    let chosen = server.traffic.choose(model, &wanted, headers);
    let chosen =
        chosen.map_err(|failure| unknown(&server.registry, model, version, &wanted, failure))?;
    *kind = Some(Kind { version: Some(chosen.version), ..own });
    Ok(chosen)
}
