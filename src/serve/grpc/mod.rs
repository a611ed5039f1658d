//! TensorFlow Serving's gRPC API: PredictionService, ModelService, with health and reflection.

mod frames;
mod health;
mod messages;
mod reflection;
mod size;
mod stream;
mod tensors;
pub mod transport;
pub mod warmup;

use super::Server;
use super::config::{ModelConfig, Policy, check_name};
use super::examples::{self, Examples, MOST_BYTES, Scores, Values, tensors_of};
use super::failure::{Answer, Code, Failure};
use super::keys::{Admitted, Caller};
use super::kserve;
use super::metrics::Kind;
use super::registry::{State, Wanted};
use super::servable::{Method, Servable};
use super::trace::{KeyValue, Told};
use super::traffic::Chosen;
use crate::format::tensorflow::{Signature, TensorInfo};
use crate::ops::data_type;
use crate::runtime::{Port, Tensor};
use anyhow::Result;
use http::HeaderMap;
use messages::*;
use prost::Message;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};
use tokio::sync::watch;
use transport::{Admit, Call, Services, boxed};

const PREDICTION: &str = "/tensorflow.serving.PredictionService/";
const MODEL: &str = "/tensorflow.serving.ModelService/";

/// As in TensorFlow Serving, a call has the time that its client gives it: without a deadline any, as far as a clock
/// goes. `--rest_api_timeout_in_ms` is REST's.
const NO_DEADLINE: Duration = Duration::from_secs(24 * 3600);

/// Other messages than tensors are many times as large in memory, as examples are.
const MOST_SMALL: usize = MOST_BYTES;

/// What is answered besides calls of one message.
pub fn services(server: &Arc<Server>, stop: &watch::Receiver<bool>) -> Result<Services> {
    let health = ("/grpc.health.v1.Health/", boxed(health::service(server)));
    let own = server.clone();
    let stream = stream::service(stream::Each {
        path: kserve::grpc::INFER,
        limits: Arc::new(server.options.limits.clone()),
        stop: stop.clone(),
        admit: admit_of(server),
        answer: move |call| answer(own.clone(), call),
        wrap: kserve::grpc::streamed,
    });
    let stream = (kserve::grpc::STREAM, stream);
    Ok([health, stream].into_iter().chain(reflection::services()?).collect())
}

/// Answers one call.
pub async fn answer(server: Arc<Server>, call: Call) -> Answer<Vec<u8>> {
    let (came, received, path) = (call.came, call.message.len(), call.path.clone());
    let mut kind = None;
    let mut caller = None;
    let active = server.tracer.as_ref().map(|tracer| tracer.begin(&call.headers));
    let answered = {
        // pinned: moved into one arm or the other, it would be there three times
        let work = pin!(guarded(&server, call, &mut kind, &mut caller));
        match &active {
            Some(active) => active.around(work).await,
            None => work.await,
        }
    };
    let code = answered.as_ref().map_or_else(|failure| failure.code, |_| Code::Ok);
    let time = came.elapsed();
    if server.options.access_log {
        let mut entry = serde_json::json!({
            "time": super::clock::now(),
            "method": "gRPC",
            "path": path,
            "code": code.name(),
            "model": kind.as_ref().map(|kind| &kind.model),
            "version": kind.as_ref().and_then(|kind: &Kind| kind.version),
            "bytes_in": received,
            "bytes_out": answered.as_ref().map_or(0, Vec::len),
            "ms": time.as_secs_f64() * 1e3,
        });
        if let Some(Caller(name)) = caller {
            entry["key"] = (*name).into();
        }
        if let Some(active) = active.as_ref().filter(|_| kind.is_some()) {
            entry["trace"] = active.trace_id().into();
        }
        server.log_access(&entry);
    }
    if let (Some(tracer), Some(active), Some(kind)) = (&server.tracer, active, &kind) {
        let attributes = vec![
            KeyValue::text("rpc.system", "grpc"),
            KeyValue::text("rpc.method", path.trim_start_matches('/')),
            KeyValue::number("rpc.grpc.status_code", code as u64),
        ];
        tracer.end(active, Told { kind, came, code, attributes });
    }
    if let Some(kind) = kind {
        server.metrics.add_request(kind, code, time);
    }
    answered
}

async fn guarded(
    server: &Arc<Server>,
    call: Call,
    kind: &mut Option<Kind>,
    caller: &mut Option<Caller>,
) -> Answer<Vec<u8>> {
    *caller = call.caller.clone()?;
    handle(server, call, kind).await
}

/// Who calls, by path and metadata.
pub fn admit_of(server: &Arc<Server>) -> Admit {
    let own = server.clone();
    Arc::new(move |path, headers| guard(&own, path, headers))
}

/// Health is open to everyone, as over REST. gRPC's own health and reflection are services that do not come here.
fn guard(server: &Server, path: &str, headers: &HeaderMap) -> Answer<Admitted> {
    const OPEN: [&str; 2] = [
        "/inference.GRPCInferenceService/ServerLive",
        "/inference.GRPCInferenceService/ServerReady",
    ];
    let Some(keys) = &server.keys else { return Ok(Admitted::anyone()) };
    if OPEN.contains(&path) {
        return Ok(Admitted::openly());
    }
    keys.caller(headers).map(Admitted::known)
}

async fn handle(server: &Arc<Server>, call: Call, kind: &mut Option<Kind>) -> Answer<Vec<u8>> {
    let unknown = || Failure::new(Code::Unimplemented, format!("unknown method {}", call.path));
    let deadline = call.came + call.time.unwrap_or(NO_DEADLINE);
    if let Some(method) = call.path.strip_prefix(kserve::grpc::SERVICE) {
        return kserve::grpc::answer(server, &call, method, deadline, kind).await;
    }
    if let Some(method) = call.path.strip_prefix(PREDICTION) {
        return match method {
            "Predict" => predict(server, &call, deadline, kind).await,
            "Classify" => classify(server, &call, deadline, kind).await,
            "Regress" => regress(server, &call, deadline, kind).await,
            "MultiInference" => multi_inference(server, &call, deadline, kind).await,
            "GetModelMetadata" => metadata(server, &small(&call)?),
            _ => Err(unknown()),
        };
    }
    match call.path.strip_prefix(MODEL) {
        Some("GetModelStatus") => status(server, &small(&call)?),
        Some("HandleReloadConfigRequest") => reload(server, small(&call)?, deadline).await,
        _ => Err(unknown()),
    }
}

pub fn small<M: Message + Default>(call: &Call) -> Answer<M> {
    if call.message.len() > MOST_SMALL {
        let message = format!("Received message larger than max ({MOST_SMALL})");
        return Err(Failure::new(Code::ResourceExhausted, message));
    }
    decoded(call)
}

pub fn decoded<M: Message + Default>(call: &Call) -> Answer<M> {
    let broken = |e| Failure::new(Code::Internal, format!("the message cannot be parsed: {e}"));
    M::decode(call.message.clone()).map_err(broken)
}

/// The model and version that a spec asks for.
fn wanted(spec: &ModelSpec) -> Answer<Wanted> {
    Ok(match &spec.version_choice {
        None => Wanted::Latest,
        Some(VersionChoice::Label(label)) => Wanted::Label(label.clone()),
        Some(VersionChoice::Version(version)) => {
            let number = u64::try_from(version.value);
            Wanted::Version(number.map_err(|_| Failure::invalid("the version is negative"))?)
        }
    })
}

fn spec_of(spec: Option<&ModelSpec>) -> Answer<&ModelSpec> {
    spec.ok_or_else(|| Failure::invalid("Missing ModelSpec"))
}

fn find(
    server: &Server,
    call: &Call,
    spec: &ModelSpec,
    api: &'static str,
    kind: &mut Option<Kind>,
) -> Answer<Chosen> {
    let known = server.registry.read(|models| models.contains_key(&spec.name));
    let model = if known { spec.name.clone() } else { String::new() };
    let own = Kind { model, version: None, api, entrypoint: "GRPC" };
    *kind = Some(own.clone());
    let servable = server.traffic.choose(&spec.name, &wanted(spec)?, &call.headers)?;
    *kind = Some(Kind { version: Some(servable.version), ..own });
    if !servable.has_signature(&spec.signature_name) {
        let message = format!("Serving signature key \"{}\" not found.", spec.signature_name);
        return Err(Failure::new(Code::FailedPrecondition, message));
    }
    Ok(servable)
}

async fn predict(
    server: &Arc<Server>,
    call: &Call,
    deadline: Instant,
    kind: &mut Option<Kind>,
) -> Answer<Vec<u8>> {
    size::check(&call.message)?;
    let request: PredictRequest = decoded(call)?;
    let spec = spec_of(request.model_spec.as_ref())?;
    let servable = find(server, call, spec, "predict", kind)?;
    let tensors = inputs_of(&request, servable.inputs())?;
    let chosen = chosen_outputs(&request.output_filter, servable.outputs())?;
    let outputs = servable.answer(tensors, deadline).await?;
    let mut protos = BTreeMap::new();
    for (port, tensor) in servable.outputs().iter().zip(&outputs) {
        if chosen.contains(port.name.as_str()) {
            let proto = tensors::proto_of(tensor).map_err(internal)?;
            protos.insert(port.name.clone(), proto);
        }
    }
    let answered = ModelSpec::answered(&spec.name, servable.version, servable.signature());
    Ok(PredictResponse { outputs: protos, model_spec: Some(answered) }.encode_to_vec())
}

fn internal(error: anyhow::Error) -> Failure {
    Failure::new(Code::Internal, format!("{error:#}"))
}

/// As many of the names as a message should have.
fn set_text<'a>(names: impl Iterator<Item = &'a str>) -> String {
    const MOST: usize = 500;
    let names = names.collect::<BTreeSet<_>>().into_iter().collect::<Vec<_>>().join(",");
    let shown = transport::start_of(&names, MOST);
    format!("{{{shown}{}}}", if shown.len() < names.len() { "..." } else { "" })
}

fn inputs_of(request: &PredictRequest, ports: &[Port]) -> Answer<Vec<Tensor>> {
    let (sent, expected) =
        (|| request.inputs.keys().map(String::as_str), || ports.iter().map(|p| p.name.as_str()));
    if request.inputs.len() != ports.len() {
        let extra = set_text(sent().filter(|name| expected().all(|other| other != *name)));
        let missing = set_text(expected().filter(|name| !request.inputs.contains_key(*name)));
        return Err(Failure::invalid(format!(
            "input size does not match signature: {}!={} len({}) != len({}). Sent extra: {extra}. Missing but \
             required: {missing}.",
            request.inputs.len(),
            ports.len(),
            set_text(sent()),
            set_text(expected())
        )));
    }
    let unknown = sent().find(|name| expected().all(|other| other != *name));
    if let Some(name) = unknown {
        return Err(Failure::invalid(format!(
            "input tensor alias not found in signature: {name}. Inputs expected to be in the set {}.",
            set_text(expected())
        )));
    }
    ports
        .iter()
        .map(|port| match request.inputs.get(&port.name) {
            Some(proto) => tensors::tensor_of(proto, port),
            None => Err(Failure::invalid(format!("Missing named input: {}", port.name))),
        })
        .collect()
}

fn chosen_outputs<'a>(filter: &[String], ports: &'a [Port]) -> Answer<BTreeSet<&'a str>> {
    let all = || ports.iter().map(|port| port.name.as_str());
    if filter.is_empty() {
        return Ok(all().collect());
    }
    let find = |name: &String| {
        all().find(|own| own == name).ok_or_else(|| {
            Failure::invalid(format!(
                "output tensor alias not found in signature: {name} Outputs expected to be in the set {}.",
                set_text(all())
            ))
        })
    };
    filter.iter().map(find).collect()
}

fn examples_of(input: Option<&Input>) -> Answer<Examples> {
    let list = input.and_then(|i| i.example_list.as_ref().or(i.example_list_with_context.as_ref()));
    let list = list.filter(|list| !list.examples.is_empty());
    let list = list.ok_or_else(|| Failure::invalid("Input is empty."))?;
    let read = |example: &Example| -> Answer<examples::Features> {
        let features = example.features.iter().flat_map(|features| &features.feature);
        features
            .map(|(name, feature)| {
                let values = match &feature.kind {
                    None => Values::Whole(vec![]),
                    Some(FeatureKind::Int64(list)) => Values::Whole(list.value.clone()),
                    Some(FeatureKind::Float(list)) => {
                        Values::Real(list.value.iter().map(|&value| value.into()).collect())
                    }
                    Some(FeatureKind::Bytes(_)) => {
                        return Err(Failure::invalid(format!(
                            "Data types don't match. Key: {name}, Data type: string but expected type: float"
                        )));
                    }
                };
                Ok((name.clone(), values))
            })
            .collect()
    };
    Ok(Examples {
        context: list.context.as_ref().map(read).transpose()?.unwrap_or_default(),
        rows: list.examples.iter().map(read).collect::<Answer<_>>()?,
    })
}

async fn scores(
    servable: &Chosen,
    method: Method,
    input: Option<&Input>,
    deadline: Instant,
) -> Answer<Scores> {
    let output = examples::output_of(servable, method)?;
    let tensors = tensors_of(&examples_of(input)?, servable.inputs())?;
    let outputs = servable.answer(tensors, deadline).await?;
    examples::scores(servable, output, &outputs)
}

fn classifications(servable: &Servable, scores: &Scores) -> ClassificationResult {
    let row = |row: &[f32]| Classifications {
        classes: row
            .iter()
            .enumerate()
            .map(|(class, &score)| Class { label: servable.class_name(class), score })
            .collect(),
    };
    ClassificationResult { classifications: scores.rows().map(row).collect() }
}

fn regressions(scores: &Scores) -> RegressionResult {
    let values = scores.rows().flat_map(|row| row.first().copied());
    RegressionResult { regressions: values.map(|value| Regression { value }).collect() }
}

async fn classify(
    server: &Server,
    call: &Call,
    deadline: Instant,
    kind: &mut Option<Kind>,
) -> Answer<Vec<u8>> {
    let request: ExamplesRequest = small(call)?;
    let spec = spec_of(request.model_spec.as_ref())?;
    let servable = find(server, call, spec, "classify", kind)?;
    let scores = scores(&servable, Method::Classify, request.input.as_ref(), deadline).await?;
    let answered = ModelSpec::answered(&spec.name, servable.version, servable.signature());
    let result = Some(classifications(&servable, &scores));
    Ok(ClassificationResponse { result, model_spec: Some(answered) }.encode_to_vec())
}

async fn regress(
    server: &Server,
    call: &Call,
    deadline: Instant,
    kind: &mut Option<Kind>,
) -> Answer<Vec<u8>> {
    let request: ExamplesRequest = small(call)?;
    let spec = spec_of(request.model_spec.as_ref())?;
    let servable = find(server, call, spec, "regress", kind)?;
    let scores = scores(&servable, Method::Regress, request.input.as_ref(), deadline).await?;
    let answered = ModelSpec::answered(&spec.name, servable.version, servable.signature());
    let result = Some(regressions(&scores));
    Ok(RegressionResponse { result, model_spec: Some(answered) }.encode_to_vec())
}

async fn multi_inference(
    server: &Server,
    call: &Call,
    deadline: Instant,
    kind: &mut Option<Kind>,
) -> Answer<Vec<u8>> {
    let request: MultiInferenceRequest = small(call)?;
    let first = request.tasks.first();
    let first = first.ok_or_else(|| Failure::invalid("MultiInference needs one task at least"))?;
    let spec = spec_of(first.model_spec.as_ref())?;
    // its signature is one of several, and has a text of its own
    let model = ModelSpec { signature_name: String::new(), ..spec.clone() };
    let servable = find(server, call, &model, "multi_inference", kind)?;
    let mut methods = vec![];
    for task in &request.tasks {
        let method = method_of(task, &spec.name, &servable)?;
        if methods.contains(&method) {
            return Err(Failure::invalid(format!(
                "Duplicate evaluation of signature: {}",
                servable.signature()
            )));
        }
        examples::output_of(&servable, method)?;
        methods.push(method);
    }
    let tensors = tensors_of(&examples_of(request.input.as_ref())?, servable.inputs())?;
    let outputs = servable.answer(tensors, deadline).await?;
    let result = |method| -> Answer<InferenceResult> {
        let scores =
            examples::scores(&servable, examples::output_of(&servable, method)?, &outputs)?;
        let result = match method {
            Method::Regress => InferenceKind::Regression(regressions(&scores)),
            _ => InferenceKind::Classification(classifications(&servable, &scores)),
        };
        let answered = ModelSpec::answered(&spec.name, servable.version, servable.signature());
        Ok(InferenceResult { model_spec: Some(answered), result: Some(result) })
    };
    let results = methods.into_iter().map(result).collect::<Answer<_>>()?;
    Ok(MultiInferenceResponse { results }.encode_to_vec())
}

/// What a task asks of `model`, which the first one names.
fn method_of(task: &InferenceTask, model: &str, servable: &Servable) -> Answer<Method> {
    let (name, signature) = match &task.model_spec {
        Some(spec) => (spec.name.as_str(), spec.signature_name.as_str()),
        None => ("", ""),
    };
    if name.is_empty() {
        return Err(Failure::invalid("Found ModelSpec with an empty model name."));
    }
    if name != model {
        return Err(Failure::invalid(
            "All ModelSpecs in a MultiInferenceRequest must access the same model name.",
        ));
    }
    if !servable.has_signature(signature) {
        let message = format!("Requested signature not found in model graph: {signature}");
        return Err(Failure::invalid(message));
    }
    match task.method_name.as_str() {
        "tensorflow/serving/classify" => Ok(Method::Classify),
        "tensorflow/serving/regress" => Ok(Method::Regress),
        other => {
            let message = format!("Unsupported signature method_name: {other}");
            Err(Failure::new(Code::Unimplemented, message))
        }
    }
}

fn metadata(server: &Server, request: &GetModelMetadataRequest) -> Answer<Vec<u8>> {
    const FIELD: &str = "signature_def";
    let spec = spec_of(request.model_spec.as_ref())?;
    if request.metadata_field.is_empty() {
        return Err(Failure::invalid(
            "GetModelMetadataRequest must specify at least one metadata_field",
        ));
    }
    if let Some(other) = request.metadata_field.iter().find(|field| *field != FIELD) {
        return Err(Failure::invalid(format!("Metadata field {other} is not supported")));
    }
    let servable = server.registry.find(&spec.name, &wanted(spec)?)?;
    let ends = |ports: &[Port]| {
        let info = |port: &Port| TensorInfo {
            name: port.name.clone(),
            dtype: data_type(port.element).map_or(0, |kind| kind as i32),
            tensor_shape: Some(shape_of(port.shape.iter().map(crate::graph::Dim::known))),
        };
        ports.iter().map(|port| (port.name.clone(), info(port))).collect()
    };
    let signature = Signature {
        inputs: ends(servable.inputs()),
        outputs: ends(servable.outputs()),
        method_name: "tensorflow/serving/predict".into(),
    };
    let signature_def = BTreeMap::from([(servable.signature().to_string(), signature)]);
    let map = SignatureDefMap { signature_def };
    let any = Any {
        type_url: "type.googleapis.com/tensorflow.serving.SignatureDefMap".into(),
        value: map.encode_to_vec().into(),
    };
    let model_spec = Some(ModelSpec::answered(&spec.name, servable.version, ""));
    let metadata = BTreeMap::from([(FIELD.to_string(), any)]);
    Ok(GetModelMetadataResponse { model_spec, metadata }.encode_to_vec())
}

fn status(server: &Server, request: &GetModelStatusRequest) -> Answer<Vec<u8>> {
    let spec = spec_of(request.model_spec.as_ref())?;
    let versions = server.registry.status(&spec.name, &wanted(spec)?)?;
    let versions = versions.into_iter().map(|(number, version)| ModelVersionStatus {
        version: number as i64,
        state: match version.state {
            State::Start => 10,
            State::Loading => 20,
            State::Available => 30,
            State::Unloading => 40,
            State::End => 50,
        },
        status: Some(version.failure.map_or_else(StatusProto::default, |f| StatusProto {
            error_code: f.code as i32,
            error_message: f.message,
        })),
    });
    Ok(GetModelStatusResponse { model_version_status: versions.collect() }.encode_to_vec())
}

/// Takes the config and waits until each model answers, and each label leads to its version.
async fn reload(
    server: &Server,
    request: ReloadConfigRequest,
    deadline: Instant,
) -> Answer<Vec<u8>> {
    const PAUSE: Duration = Duration::from_millis(10);
    let config = request.config.and_then(|config| config.model_config_list);
    let config = config.ok_or_else(|| {
        Failure::invalid(
            "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently \
             supported",
        )
    })?;
    let models = config.config.iter().map(model_of).collect::<Answer<Vec<ModelConfig>>>()?;
    let names: BTreeSet<&str> = models.iter().map(|model| model.name.as_str()).collect();
    if names.len() != models.len() {
        return Err(Failure::invalid("a model is there twice"));
    }
    let late = || {
        let message = "the models did not become available in time; they are loaded further";
        Failure::new(Code::DeadlineExceeded, message)
    };
    let applied = server.lifecycle.configure(models.clone());
    let applied = tokio::time::timeout_at(deadline.into(), applied).await.map_err(|_| late())?;
    applied.map_err(|_| Failure::new(Code::Internal, "the thread that loads models ended"))?;
    while !server.registry.is_in_force(&models)? {
        if server.draining.load(Relaxed) {
            return Err(Failure::new(Code::Unavailable, "the server ends"));
        }
        if Instant::now() + PAUSE > deadline {
            return Err(late());
        }
        tokio::time::sleep(PAUSE).await;
    }
    Ok(ReloadConfigResponse { status: Some(StatusProto::default()) }.encode_to_vec())
}

fn model_of(config: &ModelConfigProto) -> Answer<ModelConfig> {
    if config.name.is_empty() || config.base_path.is_empty() {
        return Err(Failure::invalid("a model needs name and base_path"));
    }
    check_name(&config.name).map_err(|error| Failure::invalid(error.to_string()))?;
    let number = |n: i64| u64::try_from(n).map_err(|_| Failure::invalid("a version is negative"));
    let mut model = ModelConfig::new(&config.name, Path::new(&config.base_path));
    model.policy = match config.model_version_policy.as_ref().and_then(|p| p.choice.as_ref()) {
        None => Policy::Latest(1),
        Some(PolicyChoice::Latest(latest)) => Policy::Latest(latest.num_versions.max(1) as usize),
        Some(PolicyChoice::All(_)) => Policy::All,
        Some(PolicyChoice::Specific(specific)) => {
            let versions = specific.versions.iter().map(|&n| number(n));
            Policy::Specific(versions.collect::<Answer<_>>()?)
        }
    };
    for (label, version) in &config.version_labels {
        model.labels.insert(label.clone(), number(*version)?);
    }
    Ok(model)
}
