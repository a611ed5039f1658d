//! `predict`, `classify` and `regress`.

use super::aside;
use super::route::Method;
use crate::runtime::{Tensor, to_f32};
use crate::serve::Server;
use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::json::examples::{read_examples, tensors_of};
use crate::serve::json::tensors::{Form, read_predict};
use crate::serve::json::write::{write_columns, write_f32, write_rows, write_string};
use crate::serve::metrics::Kind;
use crate::serve::registry::Wanted;
use crate::serve::servable::Servable;
use bytes::Bytes;
use std::sync::Arc;
use std::time::Instant;

pub struct Ask {
    pub model: String,
    pub wanted: Wanted,
    pub method: Method,
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
    let servable = server.registry.find(&ask.model, &ask.wanted)?;
    *kind = Some(Kind { version: Some(servable.version), ..own });
    let method = ask.method;
    let read = match body.len() > LARGE {
        true => {
            let servable = servable.clone();
            aside(move || read(&servable, method, &body)).await??
        }
        false => read(&servable, method, &body)?,
    };
    let rows = servable.check(&read.tensors)?;
    let deadline = ask.came + server.options.timeout;
    let reply = servable.queue().submit(read.tensors, rows, deadline)?;
    let outputs = match tokio::time::timeout_at(deadline.into(), reply).await {
        Ok(Ok(outputs)) => outputs?,
        Ok(Err(_)) => return Err(Failure::new(Code::Internal, "the model's thread ended")),
        Err(_) => {
            let message = "the request did not end in time (--rest_api_timeout_in_ms)";
            return Err(Failure::new(Code::DeadlineExceeded, message));
        }
    };
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
    let read = read_examples(body)?;
    servable.check_signature(read.signature.as_deref())?;
    scores_of(servable, method)?;
    Ok(Given { form: Form::Rows, tensors: tensors_of(&read.examples, servable.inputs())? })
}

/// The output that `classify` or `regress` answers with: one row of classes, or one value, for each example.
fn scores_of(servable: &Servable, method: Method) -> Answer<usize> {
    let fits = |rank: usize, last: Option<usize>| match method {
        Method::Regress => rank == 1 || (rank == 2 && last == Some(1)),
        _ => rank == 2,
    };
    let mut outputs = servable.outputs().iter();
    let found = outputs.position(|port| {
        port.has_reals() && fits(port.shape.len(), port.shape.last().and_then(|d| d.known()))
    });
    found.ok_or_else(|| {
        let kind = if method == Method::Regress { "regression" } else { "classification" };
        Failure::invalid(format!(
            "Expected {kind} signature method_name to be tensorflow/serving/{}. Was: tensorflow/serving/predict",
            method.name()
        ))
    })
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
    let at = scores_of(servable, method)?;
    let broken = |e: anyhow::Error| Failure::new(Code::Internal, format!("{e:#}"));
    let scores = servable.outputs()[at].reals(&outputs[at]).map_err(broken)?;
    let rows = scores.shape().first().copied().unwrap_or(0);
    let values = to_f32(&scores).map_err(broken)?;
    let classes = values.len() / rows.max(1);
    let mut out = b"{\"results\": [".to_vec();
    for row in 0..rows {
        if row > 0 {
            out.extend_from_slice(b", ");
        }
        if method == Method::Regress {
            write_f32(&mut out, values[row]);
            continue;
        }
        out.push(b'[');
        for (class, &score) in values[row * classes..(row + 1) * classes].iter().enumerate() {
            out.extend_from_slice(if class == 0 { b"[" } else { b", [" });
            match servable.labels.get(class) {
                Some(label) => write_string(&mut out, label),
                None => write_string(&mut out, &class.to_string()),
            }
            out.extend_from_slice(b", ");
            write_f32(&mut out, score);
            out.push(b']');
        }
        out.push(b']');
    }
    out.extend_from_slice(b"]}");
    Ok(out)
}
