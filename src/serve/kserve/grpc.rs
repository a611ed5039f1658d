//! The protocol over gRPC: `inference.GRPCInferenceService`.

use super::messages::*;
use super::request::{Ends, NO_CLASSES, whole};
use super::response::broken;
use super::{datatype, find, find_for_run, pages};
use crate::graph::ElementType;
use crate::runtime::{Port, Tensor};
use crate::serve::Server;
use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::grpc::transport::Call;
use crate::serve::grpc::{decoded, small};
use crate::serve::metrics::Kind;
use crate::serve::raw;
use bytes::Bytes;
use prost::Message;
use prost::encoding::{DecodeContext, WireType, decode_key, skip_field};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub const SERVICE: &str = "/inference.GRPCInferenceService/";
pub const INFER: &str = "/inference.GRPCInferenceService/ModelInfer";
/// Any number of requests, each answered as by [`INFER`].
pub const STREAM: &str = "/inference.GRPCInferenceService/ModelStreamInfer";

/// What a stream has for an answer.
pub fn streamed(answered: Answer<Vec<u8>>) -> Vec<u8> {
    let response = match answered {
        Ok(response) => ModelStreamInferResponse {
            error_message: String::new(),
            response: Some(response.into()),
        },
        Err(failure) => ModelStreamInferResponse { error_message: failure.message, response: None },
    };
    response.encode_to_vec()
}

/// Answers a call of `method`.
pub async fn answer(
    server: &Arc<Server>,
    call: &Call,
    method: &str,
    deadline: Instant,
    kind: &mut Option<Kind>,
) -> Answer<Vec<u8>> {
    let ready = |ready: bool| Ok(ModelReadyResponse { ready }.encode_to_vec());
    match method {
        "ModelInfer" => infer(server, call, deadline, kind).await,
        "ServerLive" => ready(true),
        "ServerReady" => ready(pages::is_ready(server)),
        "ModelReady" => {
            let Version { name, version } = small(call)?;
            ready(find(&server.registry, &name, &version).is_ok())
        }
        "ServerMetadata" => Ok(pages::server().encode_to_vec()),
        "ModelMetadata" => {
            let Version { name, version } = small(call)?;
            Ok(pages::metadata(server, &name, &version)?.encode_to_vec())
        }
        "ModelConfig" => {
            let Version { name, version } = small(call)?;
            let config = Some(pages::config(server, &name, &version)?);
            Ok(ModelConfigResponse { config }.encode_to_vec())
        }
        "ModelStatistics" => {
            let Version { name, version } = small(call)?;
            Ok(pages::statistics(server, &name, &version)?.encode_to_vec())
        }
        "RepositoryIndex" => {
            let RepositoryIndexRequest { ready } = small(call)?;
            Ok(pages::index(server, ready).encode_to_vec())
        }
        "RepositoryModelLoad" | "RepositoryModelUnload" => Err(pages::no_loading()),
        _ => Err(Failure::new(Code::Unimplemented, format!("unknown method {}", call.path))),
    }
}

async fn infer(
    server: &Arc<Server>,
    call: &Call,
    deadline: Instant,
    kind: &mut Option<Kind>,
) -> Answer<Vec<u8>> {
    check_size(&call.message)?;
    let request: ModelInferRequest = decoded(call)?;
    let (name, version) = (&request.model_name, &request.model_version);
    let servable = find_for_run(server, name, version, &call.headers, "GRPC", kind)?;
    let ends = Ends { model: name, inputs: servable.inputs(), outputs: servable.outputs() };
    let inputs = inputs_of(&request, &ends)?;
    let chosen = chosen_of(&request, &ends)?;
    let time = request.parameters.get("timeout").and_then(|p| p.int64).filter(|&time| time > 0);
    let own = time.map(|time| call.came + Duration::from_micros(time.unsigned_abs()));
    let deadline = own.map_or(deadline, |own| own.min(deadline));
    let outputs = servable.answer(inputs, deadline).await?;
    let mut response = ModelInferResponse {
        model_name: name.clone(),
        model_version: servable.version.to_string(),
        id: request.id.clone(),
        outputs: vec![],
        raw_output_contents: vec![],
    };
    for place in chosen {
        let (Some(port), Some(tensor)) = (ends.outputs.get(place), outputs.get(place)) else {
            continue;
        };
        let tensor = raw::plain(tensor).map_err(broken)?;
        let element = crate::ops::element_type(tensor.datum_type()).map_err(broken)?;
        response.outputs.push(TensorMetadata {
            name: port.name.clone(),
            datatype: datatype(element).into(),
            shape: tensor.shape().iter().map(|&n| i64::try_from(n).unwrap_or(i64::MAX)).collect(),
        });
        response.raw_output_contents.push(Bytes::copy_from_slice(tensor.as_bytes()));
    }
    Ok(response.encode_to_vec())
}

/// Small fields become many times as large in memory: there may be no more of them than any model needs.
fn check_size(message: &[u8]) -> Answer<()> {
    const MOST_TENSORS: usize = 4096;
    const MOST_OTHER: usize = 1 << 20;
    const INPUTS: u32 = 5;
    const RAW: u32 = 7;
    let broken = |e| Failure::new(Code::Internal, format!("the message cannot be parsed: {e}"));
    let (mut rest, mut tensors, mut other) = (message, 0, 0);
    while !rest.is_empty() {
        let before = rest.len();
        let (tag, wire): (u32, WireType) = decode_key(&mut rest).map_err(broken)?;
        skip_field(wire, tag, &mut rest, DecodeContext::default()).map_err(broken)?;
        match tag {
            INPUTS | RAW => tensors += 1,
            _ => other += before - rest.len(),
        }
        if tensors > MOST_TENSORS || other > MOST_OTHER {
            return Err(Failure::new(
                Code::ResourceExhausted,
                format!(
                    "a request may have {MOST_TENSORS} inputs and {MOST_OTHER} bytes beside them"
                ),
            ));
        }
    }
    Ok(())
}

fn inputs_of(request: &ModelInferRequest, ends: &Ends) -> Answer<Vec<Tensor>> {
    let (given, contents) = (&request.inputs, &request.raw_input_contents);
    if !contents.is_empty() && contents.len() != given.len() {
        return Err(Failure::invalid(format!(
            "there are {} raw_input_contents for {} inputs of model '{}'",
            contents.len(),
            given.len(),
            ends.model
        )));
    }
    let mut inputs: Vec<Option<Tensor>> = ends.inputs.iter().map(|_| None).collect();
    for (i, input) in given.iter().enumerate() {
        let name = &input.name;
        let place = ends.input(name).map_err(Failure::invalid)?;
        let port = &ends.inputs[place];
        ends.check_type(port, &input.datatype).map_err(Failure::invalid)?;
        let invalid = || Failure::invalid(format!("invalid shape for input '{name}'"));
        if input.shape.len() > raw::MOST_RANK {
            return Err(invalid());
        }
        let shape = input.shape.iter().map(|&n| usize::try_from(n).ok());
        let shape: Vec<usize> = shape.collect::<Option<_>>().ok_or_else(invalid)?;
        let tensor = match (contents.get(i), &input.contents) {
            (Some(bytes), None) => ends.tensor(port, &shape, bytes)?,
            (None, contents) => {
                let empty = InferTensorContents::default();
                tensor_of(contents.as_ref().unwrap_or(&empty), port, &shape)?
            }
            (Some(_), Some(_)) => {
                return Err(Failure::invalid(format!(
                    "contents field must not be specified when using raw_input_contents for '{name}' for model '{}'",
                    ends.model
                )));
            }
        };
        if inputs[place].replace(tensor).is_some() {
            return Err(Failure::invalid(format!("input '{name}' already exists in request")));
        }
    }
    whole(inputs, ends)
}

/// Values that came as a list of their kind.
fn tensor_of(contents: &InferTensorContents, port: &Port, shape: &[usize]) -> Answer<Tensor> {
    let name = &port.name;
    let filled = |count: usize| match raw::count_of(shape) {
        Some(expected) if expected == count => Ok(()),
        _ => Err(Failure::invalid(format!(
            "input '{name}': {shape:?} is not {count} values; are they in the contents of {}, or raw?",
            datatype(port.element)
        ))),
    };
    let wrong = |e: anyhow::Error| Failure::invalid(format!("input '{name}': {e:#}"));
    let whole = |values: Vec<i64>, low: i64, high: i64| {
        filled(values.len())?;
        if let Some(value) = values.iter().find(|v| !(low..=high).contains(*v)) {
            let kind = datatype(port.element);
            return Err(Failure::invalid(format!("input '{name}': {value} is no {kind}")));
        }
        let datum = crate::ops::datum_type(port.element).map_err(wrong)?;
        let tensor = Tensor::from_shape(shape, &values).map_err(wrong)?;
        Ok(tensor.cast_to_dt(datum).map_err(wrong)?.into_owned())
    };
    let ints = || contents.int.iter().map(|&n| n.into()).collect();
    let uints = || contents.uint.iter().map(|&n| n.into()).collect();
    match port.element {
        ElementType::F32 => {
            filled(contents.fp32.len())?;
            Tensor::from_shape(shape, &contents.fp32).map_err(wrong)
        }
        ElementType::Bool => {
            filled(contents.bool.len())?;
            Tensor::from_shape(shape, &contents.bool).map_err(wrong)
        }
        ElementType::I8 => whole(ints(), i8::MIN.into(), i8::MAX.into()),
        ElementType::I16 => whole(ints(), i16::MIN.into(), i16::MAX.into()),
        ElementType::I32 => whole(ints(), i32::MIN.into(), i32::MAX.into()),
        ElementType::U8 => whole(uints(), 0, u8::MAX.into()),
        ElementType::U16 => whole(uints(), 0, u16::MAX.into()),
        ElementType::U32 => whole(uints(), 0, u32::MAX.into()),
        ElementType::I64 => {
            filled(contents.int64.len())?;
            Tensor::from_shape(shape, &contents.int64).map_err(wrong)
        }
        ElementType::F16 | ElementType::I4 | ElementType::String => Err(Failure::invalid(format!(
            "input '{name}': values of {} come in raw_input_contents alone",
            datatype(port.element)
        ))),
    }
}

fn chosen_of(request: &ModelInferRequest, ends: &Ends) -> Answer<Vec<usize>> {
    let mut chosen = vec![];
    for output in &request.outputs {
        let place = ends.output(&output.name).map_err(Failure::invalid)?;
        if chosen.contains(&place) {
            let name = &output.name;
            return Err(Failure::invalid(format!("output '{name}' already exists in request")));
        }
        if output.parameters.get("classification").and_then(|p| p.int64).is_some_and(|n| n > 0) {
            return Err(Failure::invalid(NO_CLASSES));
        }
        chosen.push(place);
    }
    match chosen.is_empty() {
        true => Ok((0..ends.outputs.len()).collect()),
        false => Ok(chosen),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::Dim;

    fn port(element: ElementType) -> Port {
        let shape = vec![Dim::Symbol("N".into())];
        Port { name: "x".into(), element, shape, quantization: None }
    }

    fn read(request: &ModelInferRequest, element: ElementType) -> Answer<Vec<Tensor>> {
        let ports = [port(element)];
        inputs_of(request, &Ends { model: "m", inputs: &ports, outputs: &[] })
    }

    fn request(
        datatype: &str,
        shape: &[i64],
        contents: Option<InferTensorContents>,
        raw: &[&'static [u8]],
    ) -> ModelInferRequest {
        let input = InferInput {
            name: "x".into(),
            datatype: datatype.into(),
            shape: shape.to_vec(),
            contents,
        };
        ModelInferRequest {
            inputs: vec![input],
            raw_input_contents: raw.iter().map(|bytes| Bytes::from_static(bytes)).collect(),
            ..ModelInferRequest::default()
        }
    }

    #[test]
    fn typed_contents_and_raw_ones() {
        let check = |element, contents: InferTensorContents, expected: &[f32]| {
            let request = request(datatype(element), &[2], Some(contents), &[]);
            let tensors = read(&request, element).unwrap();
            assert_eq!(crate::runtime::to_f32(&tensors[0]).unwrap(), expected);
            assert_eq!(tensors[0].datum_type(), crate::ops::datum_type(element).unwrap());
        };
        let none = InferTensorContents::default;
        check(
            ElementType::F32,
            InferTensorContents { fp32: vec![1.5, -2.0], ..none() },
            &[1.5, -2.0],
        );
        for element in [ElementType::I8, ElementType::I16, ElementType::I32] {
            check(element, InferTensorContents { int: vec![-1, 2], ..none() }, &[-1.0, 2.0]);
        }
        for element in [ElementType::U8, ElementType::U16, ElementType::U32] {
            check(element, InferTensorContents { uint: vec![1, 200], ..none() }, &[1.0, 200.0]);
        }
        check(ElementType::I64, InferTensorContents { int64: vec![-9, 9], ..none() }, &[-9.0, 9.0]);
        let flags = InferTensorContents { bool: vec![true, false], ..none() };
        check(ElementType::Bool, flags, &[1.0, 0.0]);
        let raw = request("FP32", &[2], None, &[&[0, 0, 128, 63, 0, 0, 0, 64]]);
        let expected = Tensor::from_shape(&[2], &[1f32, 2.0]).unwrap();
        assert_eq!(read(&raw, ElementType::F32).unwrap(), [expected]);
    }

    #[test]
    fn lies_are_refused() {
        let check = |request: ModelInferRequest, element, expected: &str| {
            assert_eq!(read(&request, element).unwrap_err().message, expected);
        };
        let float = |shape: &[i64], raw| request("FP32", shape, None, raw);
        let mismatch = "input byte size mismatch for input 'x' for model 'm'. Expected ";
        check(float(&[2], &[&[0; 7]]), ElementType::F32, &format!("{mismatch}8, got 7"));
        check(
            float(&[i64::MAX, 2], &[&[0; 8]]),
            ElementType::F32,
            &format!("{mismatch}more than there can be, got 8"),
        );
        check(float(&[-1], &[&[0; 4]]), ElementType::F32, "invalid shape for input 'x'");
        check(
            float(&[1], &[&[0; 4], &[0; 4]]),
            ElementType::F32,
            "there are 2 raw_input_contents for 1 inputs of model 'm'",
        );
        check(
            float(&[1 << 40], &[]),
            ElementType::F32,
            "input 'x': [1099511627776] is not 0 values; are they in the contents of FP32, or raw?",
        );
        let contents = InferTensorContents { int: vec![300], ..InferTensorContents::default() };
        let small = request("INT8", &[1], Some(contents.clone()), &[]);
        check(small, ElementType::I8, "input 'x': 300 is no INT8");
        check(
            request("INT8", &[1], Some(contents), &[&[1]]),
            ElementType::I8,
            "contents field must not be specified when using raw_input_contents for 'x' for model 'm'",
        );
        check(
            request("FP16", &[1], None, &[]),
            ElementType::F16,
            "input 'x': values of FP16 come in raw_input_contents alone",
        );
        check(
            request("BYTES", &[1], None, &[]),
            ElementType::F32,
            "inference input 'x' data-type is 'BYTES', but model 'm' expects 'FP32'",
        );
    }

    #[test]
    fn few_bytes_must_not_become_much_memory() {
        let inputs = [0x2a, 0].repeat(1 << 20);
        assert_eq!(check_size(&inputs).unwrap_err().code, Code::ResourceExhausted);
        let outputs = [0x32, 0].repeat(1 << 20);
        assert_eq!(check_size(&outputs).unwrap_err().code, Code::ResourceExhausted);
        let good = request("FP32", &[2], None, &[&[0; 8]]).encode_to_vec();
        assert_eq!(check_size(&good), Ok(()));
        for end in 1..good.len() {
            let _ = check_size(&good[..end]);
        }
        assert_eq!(check_size(&[0x2a, 0xff]).unwrap_err().code, Code::Internal);
    }
}
