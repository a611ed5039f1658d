//! What the server and its models are and how they do, as the protocol's messages.

use super::messages::*;
use super::{datatype, find};
use crate::graph::ElementType;
use crate::runtime::Port;
use crate::serve::Server;
use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::registry::{State, Version};
use crate::serve::servable::{Rows, Servable};
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

const NAME: &str = "mlctl";

pub fn server() -> ServerMetadata {
    let extensions =
        ["binary_tensor_data", "model_configuration", "model_repository", "statistics"];
    ServerMetadata {
        name: NAME.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        extensions: extensions.map(String::from).to_vec(),
    }
}

pub fn is_ready(server: &Server) -> bool {
    server.registry.is_ready() && !server.draining.load(Relaxed)
}

/// To who would load a model or end it.
pub fn no_loading() -> Failure {
    Failure::new(
        Code::Unavailable,
        "explicit model load / unload is not allowed: models are loaded and unloaded as their \
         folders and the model config change",
    )
}

/// A shape as messages have it.
fn sizes(port: &Port) -> Vec<i64> {
    let sizes = port.shape.iter().map(|dim| dim.known().and_then(|n| i64::try_from(n).ok()));
    sizes.map(|size| size.unwrap_or(-1)).collect()
}

/// # Errors
/// There is no such version.
pub fn metadata(server: &Server, model: &str, version: &str) -> Answer<ModelMetadata> {
    let servable = find(&server.registry, model, version)?;
    let versions = server.registry.read(|models| {
        let versions = models.get(model).into_iter().flat_map(|model| &model.versions);
        let available = versions.filter(|(_, version)| version.state == State::Available);
        available.map(|(number, _)| number.to_string()).collect()
    });
    let ends = |ports: &[Port]| {
        let end = |port: &Port| TensorMetadata {
            name: port.name.clone(),
            datatype: datatype(port.element).into(),
            shape: sizes(port),
        };
        ports.iter().map(end).collect()
    };
    Ok(ModelMetadata {
        name: model.into(),
        versions,
        platform: NAME.into(),
        inputs: ends(servable.inputs()),
        outputs: ends(servable.outputs()),
    })
}

/// All versions of all models, or those that are `ready`.
pub fn index(server: &Server, ready: bool) -> RepositoryIndex {
    let entry = |name: &str, number: u64, version: &Version| ModelIndex {
        name: name.into(),
        version: number.to_string(),
        state: match version.state {
            State::Available => "READY",
            State::Start | State::Loading if version.failure.is_none() => "LOADING",
            State::Unloading => "UNLOADING",
            State::Start | State::Loading | State::End => "UNAVAILABLE",
        }
        .into(),
        reason: version.failure.as_ref().map_or(String::new(), |f| f.message.clone()),
    };
    let models = server.registry.read(|models| {
        let all = models.iter().flat_map(|(name, m)| m.versions.iter().map(move |v| (name, v)));
        let all = all.filter(|(_, (_, version))| !ready || version.state == State::Available);
        all.map(|(name, (number, version))| entry(name, *number, version)).collect()
    });
    RepositoryIndex { models }
}

/// Of one version, of all that are served of a model, or, where its name is empty, of all models.
///
/// # Errors
/// There is no such version.
pub fn statistics(server: &Server, model: &str, version: &str) -> Answer<Statistics> {
    let only = match (model, version) {
        ("", _) => None,
        (_, "") => find(&server.registry, model, "").map(|_| None)?,
        _ => Some(find(&server.registry, model, version)?.version),
    };
    let queues = server.registry.queues();
    let own = queues.iter().filter(|(name, number, _)| {
        (model.is_empty() || name == model) && only.is_none_or(|only| only == *number)
    });
    let durations = |(count, time): (u64, Duration)| {
        Some(Durations { count, ns: u64::try_from(time.as_nanos()).unwrap_or(u64::MAX) })
    };
    let model_stats = own.map(|(name, number, queue)| {
        let (well, failed) = server.metrics.answered(name, *number);
        let (runs, rows) = queue.batches();
        ModelStatistics {
            name: name.clone(),
            version: number.to_string(),
            inference_count: rows,
            execution_count: runs,
            inference_stats: Some(InferStatistics {
                success: durations(well),
                fail: durations((failed, Duration::ZERO)),
                queue: durations(queue.waiting.totals()),
                compute_infer: durations(queue.running.totals()),
            }),
        }
    });
    Ok(Statistics { model_stats: model_stats.collect() })
}

/// # Errors
/// There is no such version.
pub fn config(server: &Server, model: &str, version: &str) -> Answer<ModelConfig> {
    let servable: &Servable = &*find(&server.registry, model, version)?;
    let batching = server.options.batching.as_ref().filter(|_| servable.rows() == Rows::Any);
    let number = |n: usize| i32::try_from(n).unwrap_or(i32::MAX);
    let dims = |port: &Port| sizes(port).split_off(usize::from(batching.is_some()));
    Ok(ModelConfig {
        name: model.into(),
        platform: NAME.into(),
        max_batch_size: batching.map_or(0, |batching| number(batching.max_batch_size)),
        input: servable
            .inputs()
            .iter()
            .map(|port| ConfigInput {
                name: port.name.clone(),
                data_type: config_type(port.element) as i32,
                dims: dims(port),
            })
            .collect(),
        output: servable
            .outputs()
            .iter()
            .map(|port| ConfigOutput {
                name: port.name.clone(),
                data_type: config_type(port.element) as i32,
                dims: dims(port),
            })
            .collect(),
        dynamic_batching: batching.map(|batching| DynamicBatching {
            preferred_batch_size: batching.allowed_batch_sizes.iter().map(|&n| number(n)).collect(),
            max_queue_delay_microseconds: batching.timeout.as_micros() as u64,
        }),
        backend: NAME.into(),
    })
}

fn config_type(element: ElementType) -> ConfigType {
    match element {
        ElementType::F32 => ConfigType::Fp32,
        ElementType::F16 => ConfigType::Fp16,
        ElementType::I8 => ConfigType::Int8,
        ElementType::U8 => ConfigType::Uint8,
        ElementType::I16 => ConfigType::Int16,
        ElementType::U16 => ConfigType::Uint16,
        ElementType::I32 => ConfigType::Int32,
        ElementType::U32 => ConfigType::Uint32,
        ElementType::I64 => ConfigType::Int64,
        ElementType::Bool => ConfigType::Bool,
        ElementType::I4 | ElementType::String => ConfigType::Invalid,
    }
}
