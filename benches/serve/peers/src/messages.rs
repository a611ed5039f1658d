//! The messages of a `Predict` call, by their public field numbers.

use prost::bytes::Bytes;
use std::collections::HashMap;

#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub signature_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Dim {
    #[prost(int64, tag = "1")]
    pub size: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Shape {
    #[prost(message, repeated, tag = "2")]
    pub dim: Vec<Dim>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    #[prost(int32, tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<Shape>,
    #[prost(bytes = "bytes", tag = "4")]
    pub content: Bytes,
}

/// Also a `PredictResponse` where the fields are asked for that it has.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PredictRequest {
    #[prost(message, optional, tag = "1")]
    pub model_spec: Option<ModelSpec>,
    #[prost(map = "string, message", tag = "2")]
    pub inputs: HashMap<String, TensorProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PredictResponse {
    #[prost(map = "string, message", tag = "1")]
    pub outputs: HashMap<String, TensorProto>,
    #[prost(message, optional, tag = "2")]
    pub model_spec: Option<ModelSpec>,
}

pub fn float_tensor(shape: &[i64], values: &[f32]) -> TensorProto {
    TensorProto {
        dtype: 1,
        shape: Some(Shape { dim: shape.iter().map(|&size| Dim { size }).collect() }),
        content: values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into(),
    }
}
