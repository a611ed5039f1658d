//! What requests carry: the same numbers in each protocol.

use crate::load::{Options, Protocol};
use crate::messages::{ModelSpec, PredictRequest, float_tensor};
use anyhow::{Context, Result};
use prost::Message;
use std::fmt::Write;

/// A request as it goes over the wire: of HTTP/1.1 with its head, of gRPC the framed message.
pub fn request(options: &Options) -> Result<Vec<u8>> {
    let values = values(options.shape.iter().product::<i64>() as usize);
    let body = match &options.body {
        Some(path) => std::fs::read(path).with_context(|| path.display().to_string())?,
        None => match options.protocol {
            Protocol::Rest => {
                format!("{{\"instances\": {}}}", nested(&options.shape, &values)).into_bytes()
            }
            Protocol::V2 => v2_json(options, &values).into_bytes(),
            Protocol::V2Binary => v2_binary(options, &values),
            Protocol::Grpc => predict_request(options, &values),
        },
    };
    if options.protocol == Protocol::Grpc {
        let length = u32::try_from(body.len())?.to_be_bytes();
        return Ok([&[0], &length[..], &body].concat());
    }
    let path = options.path();
    let mut head = format!("POST {path} HTTP/1.1\r\nHost: {}\r\n", options.address);
    let kind = if options.protocol == Protocol::V2Binary { "octet-stream" } else { "json" };
    write!(head, "Content-Type: application/{kind}\r\nContent-Length: {}\r\n", body.len())?;
    if options.protocol == Protocol::V2Binary {
        let json = body.len() - values.len() * 4;
        write!(head, "Inference-Header-Content-Length: {json}\r\n")?;
    }
    for header in &options.header {
        write!(head, "{header}\r\n")?;
    }
    head.push_str("\r\n");
    Ok([head.as_bytes(), &body].concat())
}

/// Numbers in [0, 1) that need all their digits: the worst case for who reads them as text.
fn values(count: usize) -> Vec<f32> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 24) as f32
    };
    (0..count).map(|_| next()).collect()
}

fn nested(shape: &[i64], values: &[f32]) -> String {
    let parts: Vec<String> = match shape {
        [] => return values.first().map(f32::to_string).unwrap_or_default(),
        [_] => values.iter().map(f32::to_string).collect(),
        [first, rest @ ..] => {
            let size = values.len() / (*first).max(1) as usize;
            values.chunks(size.max(1)).map(|part| nested(rest, part)).collect()
        }
    };
    format!("[{}]", parts.join(", "))
}

fn v2_json(options: &Options, values: &[f32]) -> String {
    let data = nested(&[values.len() as i64], values);
    let (name, shape) = (&options.input, &options.shape);
    format!(
        "{{\"inputs\": [{{\"name\": \"{name}\", \"shape\": {shape:?}, \"datatype\": \"FP32\", \"data\": {data}}}]}}"
    )
}

fn v2_binary(options: &Options, values: &[f32]) -> Vec<u8> {
    let (name, shape, size) = (&options.input, &options.shape, values.len() * 4);
    let head = format!(
        "{{\"inputs\": [{{\"name\": \"{name}\", \"shape\": {shape:?}, \"datatype\": \"FP32\", \"parameters\": \
         {{\"binary_data_size\": {size}}}}}], \"parameters\": {{\"binary_data_output\": true}}}}"
    );
    let data = values.iter().flat_map(|v| v.to_le_bytes());
    head.into_bytes().into_iter().chain(data).collect()
}

fn predict_request(options: &Options, values: &[f32]) -> Vec<u8> {
    let spec = ModelSpec { name: options.model.clone(), signature_name: String::new() };
    let inputs = [(options.input.clone(), float_tensor(&options.shape, values))].into();
    PredictRequest { model_spec: Some(spec), inputs }.encode_to_vec()
}
