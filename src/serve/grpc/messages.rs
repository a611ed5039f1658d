//! The messages of TensorFlow Serving's gRPC API, by their public field numbers (`tensorflow_serving/apis`). Only those
//! fields that are read or written here.

use crate::format::tensorflow::{Signature, TensorShape};
use bytes::Bytes;
use std::collections::BTreeMap;

/// `google.protobuf.Int64Value`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Int64Value {
    #[prost(int64, tag = "1")]
    pub value: i64,
}

/// `google.protobuf.Any`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Any {
    #[prost(string, tag = "1")]
    pub type_url: String,
    #[prost(bytes = "bytes", tag = "2")]
    pub value: Bytes,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelSpec {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(oneof = "VersionChoice", tags = "2, 4")]
    pub version_choice: Option<VersionChoice>,
    #[prost(string, tag = "3")]
    pub signature_name: String,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum VersionChoice {
    #[prost(message, tag = "2")]
    Version(Int64Value),
    #[prost(string, tag = "4")]
    Label(String),
}

/// `tensorflow.TensorProto`: either `content`, little-endian and row-major, or a value field.
#[derive(Clone, PartialEq, prost::Message)]
pub struct TensorProto {
    #[prost(enumeration = "crate::format::tensorflow::DataType", tag = "1")]
    pub dtype: i32,
    #[prost(message, optional, tag = "2")]
    pub shape: Option<TensorShape>,
    #[prost(bytes = "bytes", tag = "4")]
    pub content: Bytes,
    #[prost(float, repeated, tag = "5")]
    pub float_val: Vec<f32>,
    /// int32, int16, int8, uint8, uint16
    #[prost(int32, repeated, tag = "7")]
    pub int_val: Vec<i32>,
    #[prost(int64, repeated, tag = "10")]
    pub int64_val: Vec<i64>,
    #[prost(bool, repeated, tag = "11")]
    pub bool_val: Vec<bool>,
    /// The bits of float16.
    #[prost(int32, repeated, tag = "13")]
    pub half_val: Vec<i32>,
    #[prost(uint32, repeated, tag = "16")]
    pub uint32_val: Vec<u32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PredictRequest {
    #[prost(message, optional, tag = "1")]
    pub model_spec: Option<ModelSpec>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub inputs: BTreeMap<String, TensorProto>,
    #[prost(string, repeated, tag = "3")]
    pub output_filter: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PredictResponse {
    #[prost(btree_map = "string, message", tag = "1")]
    pub outputs: BTreeMap<String, TensorProto>,
    #[prost(message, optional, tag = "2")]
    pub model_spec: Option<ModelSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetModelMetadataRequest {
    #[prost(message, optional, tag = "1")]
    pub model_spec: Option<ModelSpec>,
    #[prost(string, repeated, tag = "2")]
    pub metadata_field: Vec<String>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetModelMetadataResponse {
    #[prost(message, optional, tag = "1")]
    pub model_spec: Option<ModelSpec>,
    #[prost(btree_map = "string, message", tag = "2")]
    pub metadata: BTreeMap<String, Any>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SignatureDefMap {
    #[prost(btree_map = "string, message", tag = "1")]
    pub signature_def: BTreeMap<String, Signature>,
}

/// A list of examples, and one whose features all of them have.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Input {
    #[prost(message, optional, tag = "1")]
    pub example_list: Option<ExampleList>,
    #[prost(message, optional, tag = "2")]
    pub example_list_with_context: Option<ExampleList>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ExampleList {
    #[prost(message, repeated, tag = "1")]
    pub examples: Vec<Example>,
    #[prost(message, optional, tag = "2")]
    pub context: Option<Example>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Example {
    #[prost(message, optional, tag = "1")]
    pub features: Option<Features>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Features {
    #[prost(btree_map = "string, message", tag = "1")]
    pub feature: BTreeMap<String, Feature>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Feature {
    #[prost(oneof = "FeatureKind", tags = "1, 2, 3")]
    pub kind: Option<FeatureKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum FeatureKind {
    #[prost(message, tag = "1")]
    Bytes(BytesList),
    #[prost(message, tag = "2")]
    Float(FloatList),
    #[prost(message, tag = "3")]
    Int64(Int64List),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct BytesList {
    #[prost(bytes = "bytes", repeated, tag = "1")]
    pub value: Vec<Bytes>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct FloatList {
    #[prost(float, repeated, tag = "1")]
    pub value: Vec<f32>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Int64List {
    #[prost(int64, repeated, tag = "1")]
    pub value: Vec<i64>,
}

/// `ClassificationRequest` and `RegressionRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExamplesRequest {
    #[prost(message, optional, tag = "1")]
    pub model_spec: Option<ModelSpec>,
    #[prost(message, optional, tag = "2")]
    pub input: Option<Input>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ClassificationResponse {
    #[prost(message, optional, tag = "1")]
    pub result: Option<ClassificationResult>,
    #[prost(message, optional, tag = "2")]
    pub model_spec: Option<ModelSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ClassificationResult {
    #[prost(message, repeated, tag = "1")]
    pub classifications: Vec<Classifications>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Classifications {
    #[prost(message, repeated, tag = "1")]
    pub classes: Vec<Class>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Class {
    #[prost(string, tag = "1")]
    pub label: String,
    #[prost(float, tag = "2")]
    pub score: f32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegressionResponse {
    #[prost(message, optional, tag = "1")]
    pub result: Option<RegressionResult>,
    #[prost(message, optional, tag = "2")]
    pub model_spec: Option<ModelSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct RegressionResult {
    #[prost(message, repeated, tag = "1")]
    pub regressions: Vec<Regression>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Regression {
    #[prost(float, tag = "1")]
    pub value: f32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MultiInferenceRequest {
    #[prost(message, repeated, tag = "1")]
    pub tasks: Vec<InferenceTask>,
    #[prost(message, optional, tag = "2")]
    pub input: Option<Input>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InferenceTask {
    #[prost(message, optional, tag = "1")]
    pub model_spec: Option<ModelSpec>,
    #[prost(string, tag = "2")]
    pub method_name: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MultiInferenceResponse {
    #[prost(message, repeated, tag = "1")]
    pub results: Vec<InferenceResult>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct InferenceResult {
    #[prost(message, optional, tag = "1")]
    pub model_spec: Option<ModelSpec>,
    #[prost(oneof = "InferenceKind", tags = "2, 3")]
    pub result: Option<InferenceKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum InferenceKind {
    #[prost(message, tag = "2")]
    Classification(ClassificationResult),
    #[prost(message, tag = "3")]
    Regression(RegressionResult),
}

/// A request that was recorded with its answer, which is not read.
#[derive(Clone, PartialEq, prost::Message)]
pub struct PredictionLog {
    #[prost(oneof = "LogKind", tags = "2, 3, 4, 5, 6, 7")]
    pub kind: Option<LogKind>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum LogKind {
    #[prost(message, tag = "2")]
    Classify(ExamplesLog),
    #[prost(message, tag = "3")]
    Regress(ExamplesLog),
    #[prost(message, tag = "4")]
    MultiInference(MultiInferenceLog),
    #[prost(message, tag = "5")]
    SessionRun(Empty),
    #[prost(message, tag = "6")]
    Predict(PredictLog),
    #[prost(message, tag = "7")]
    PredictStreamed(Empty),
}

/// `ClassifyLog` and `RegressLog`
#[derive(Clone, PartialEq, prost::Message)]
pub struct ExamplesLog {
    #[prost(message, optional, tag = "1")]
    pub request: Option<ExamplesRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct MultiInferenceLog {
    #[prost(message, optional, tag = "1")]
    pub request: Option<MultiInferenceRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct PredictLog {
    #[prost(message, optional, tag = "1")]
    pub request: Option<PredictRequest>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetModelStatusRequest {
    #[prost(message, optional, tag = "1")]
    pub model_spec: Option<ModelSpec>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct GetModelStatusResponse {
    #[prost(message, repeated, tag = "1")]
    pub model_version_status: Vec<ModelVersionStatus>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelVersionStatus {
    #[prost(int64, tag = "1")]
    pub version: i64,
    #[prost(int32, tag = "2")]
    pub state: i32,
    #[prost(message, optional, tag = "3")]
    pub status: Option<StatusProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct StatusProto {
    #[prost(int32, tag = "1")]
    pub error_code: i32,
    #[prost(string, tag = "2")]
    pub error_message: String,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReloadConfigRequest {
    #[prost(message, optional, tag = "1")]
    pub config: Option<ModelServerConfig>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ReloadConfigResponse {
    #[prost(message, optional, tag = "1")]
    pub status: Option<StatusProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelServerConfig {
    #[prost(message, optional, tag = "1")]
    pub model_config_list: Option<ModelConfigList>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelConfigList {
    #[prost(message, repeated, tag = "1")]
    pub config: Vec<ModelConfigProto>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct ModelConfigProto {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub base_path: String,
    #[prost(message, optional, tag = "7")]
    pub model_version_policy: Option<VersionPolicy>,
    #[prost(btree_map = "string, int64", tag = "8")]
    pub version_labels: BTreeMap<String, i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct VersionPolicy {
    #[prost(oneof = "PolicyChoice", tags = "100, 101, 102")]
    pub choice: Option<PolicyChoice>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
pub enum PolicyChoice {
    #[prost(message, tag = "100")]
    Latest(LatestPolicy),
    #[prost(message, tag = "101")]
    All(Empty),
    #[prost(message, tag = "102")]
    Specific(SpecificPolicy),
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct LatestPolicy {
    #[prost(uint32, tag = "1")]
    pub num_versions: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct SpecificPolicy {
    #[prost(int64, repeated, tag = "1")]
    pub versions: Vec<i64>,
}

#[derive(Clone, PartialEq, prost::Message)]
pub struct Empty {}

impl ModelSpec {
    /// The version that answered.
    pub fn answered(name: &str, version: u64, signature: &str) -> ModelSpec {
        ModelSpec {
            name: name.into(),
            version_choice: Some(VersionChoice::Version(Int64Value { value: version as i64 })),
            signature_name: signature.into(),
        }
    }
}

/// Sizes as a shape has them; `None` is open.
pub fn shape_of(sizes: impl Iterator<Item = Option<usize>>) -> TensorShape {
    TensorShape::of(sizes.map(|size| size.and_then(|n| i64::try_from(n).ok()).unwrap_or(-1)))
}
