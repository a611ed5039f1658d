//! `predict`, `classify` and `regress`.

use super::aside;
use crate::runtime::Tensor;
use crate::serve::Server;
use crate::serve::examples::{MOST_BYTES, output_of, scores, tensors_of};
use crate::serve::failure::{Answer, Failure};
use crate::serve::json::examples::read_examples;
use crate::serve::json::tensors::{Form, read_predict};
use crate::serve::json::write::{write_columns, write_f32, write_rows, write_string};
use crate::serve::metrics::Kind;
use crate::serve::registry::Wanted;
use crate::serve::servable::{Method, Servable};
use bytes::Bytes;
use http::HeaderMap;
use std::sync::Arc;
use std::time::Instant;

pub struct Ask {
    pub model: String,
    pub wanted: Wanted,
    pub method: Method,
    /// For the traffic's split.
    pub headers: HeaderMap,
    pub came: Instant,
}

/// Bodies of more bytes are read aside, and outputs of more elements written there.
const LARGE: usize = 256 << 10;

/// Runs the model and gives the body of the answer. `kind` tells what was asked for, as far as it is known.
pub async fn infer(
    server: &Arc<Server>,
    ask: Ask,
    body: Bytes,
    kind: &mut Option<Kind>,
) -> Answer<Vec<u8>> {
    let known = server.registry.read(|models| models.contains_key(&ask.model));
    let mut own =
        Kind { model: String::new(), version: None, api: ask.method.name(), entrypoint: "REST" };
    if known {
        own.model.clone_from(&ask.model);
    }
    *kind = Some(own.clone());
    let chosen = server.traffic.choose(&ask.model, &ask.wanted, &ask.headers)?;
    let servable = chosen.servable().clone();
    *kind = Some(Kind { version: Some(servable.version), ..own });
    let method = ask.method;
    let read = match body.len() > LARGE {
        true => {
            let servable = servable.clone();
            aside(move || read(&servable, method, &body)).await??
        }
        false => {
            let read = read(&servable, method, &body)?;
            // its tensors are held from now on
            drop(body);
            read
        }
    };
    let deadline = ask.came + server.options.timeout;
    let outputs = chosen.answer(read.tensors, deadline).await?;
    let size: usize = outputs.iter().map(Tensor::len).sum();
    let form = read.form;
    match size > LARGE / 8 {
        true => aside(move || write(&servable, method, form, outputs)).await?,
        false => write(&servable, method, form, outputs),
    }
}

struct Given {
    form: Form,
    tensors: Vec<Tensor>,
}

fn read(servable: &Servable, method: Method, body: &[u8]) -> Answer<Given> {
    if method == Method::Predict {
        let read = read_predict(body, servable.inputs())?;
        servable.check_signature(read.signature.as_deref())?;
        let missing = || Failure::invalid("Missing 'inputs' or 'instances' key");
        let (form, tensors) = read.tensors.ok_or_else(missing)?;
        return Ok(Given { form, tensors });
    }
    if body.len() > MOST_BYTES {
        return Err(Failure::invalid(format!(
            "the request's body has {} bytes; that of examples may have {MOST_BYTES}",
            body.len()
        )));
    }
    let read = read_examples(body)?;
    servable.check_signature(read.signature.as_deref())?;
    output_of(servable, method)?;
    Ok(Given { form: Form::Rows, tensors: tensors_of(&read.examples, servable.inputs())? })
}

fn write(servable: &Servable, method: Method, form: Form, outputs: Vec<Tensor>) -> Answer<Vec<u8>> {
    if method == Method::Predict {
        let named = servable.outputs().iter().map(|port| port.name.as_str()).zip(outputs);
        let named: Vec<(&str, Tensor)> = named.collect();
        return match form {
            Form::Rows => write_rows(&named),
            Form::Columns => write_columns(&named),
        };
    }
    let scores = scores(servable, output_of(servable, method)?, &outputs)?;
    let mut out = b"{\"results\": [".to_vec();
    for (row, scores) in scores.rows().enumerate() {
        if row > 0 {
            out.extend_from_slice(b", ");
        }
        if method == Method::Regress {
            write_f32(&mut out, scores[0]);
            continue;
        }
        out.push(b'[');
        for (class, &score) in scores.iter().enumerate() {
            out.extend_from_slice(if class == 0 { b"[" } else { b", [" });
            write_string(&mut out, &servable.class_name(class));
            out.extend_from_slice(b", ");
            write_f32(&mut out, score);
            out.push(b']');
        }
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}
