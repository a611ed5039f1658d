//! What a model is and how it does: status, metadata, the list of models.

use crate::format::tensorflow::DataType;
use crate::ops::data_type;
use crate::runtime::Port;
use crate::serve::Server;
use crate::serve::failure::{Answer, Code};
use crate::serve::http::Response;
use crate::serve::registry::{Version, Wanted};
use serde_json::{Map, Value, json};

fn page(value: &Value) -> Response {
    Response::json(serde_json::to_vec(value).unwrap_or_default())
}

fn version_status(number: u64, version: &Version) -> Value {
    let code = version.failure.as_ref().map_or(Code::Ok, |f| f.code);
    let message = version.failure.as_ref().map_or("", |f| f.message.as_str());
    json!({
        "version": number.to_string(),
        "state": version.state.name(),
        "status": {"error_code": code.name(), "error_message": message},
    })
}

/// `GetModelStatusResponse`
pub fn status(server: &Server, model: &str, wanted: &Wanted) -> Answer<Response> {
    let versions = server.registry.status(model, wanted)?;
    let versions: Vec<Value> = versions.iter().map(|(n, v)| version_status(*n, v)).collect();
    Ok(page(&json!({ "model_version_status": versions })))
}

/// All models, each with its labels and its versions' status.
pub fn models(server: &Server) -> Response {
    let models: Vec<Value> = server.registry.read(|models| {
        let models = models.iter().map(|(name, model)| {
            let labels: Map<String, Value> =
                model.labels.iter().map(|(l, v)| (l.clone(), v.to_string().into())).collect();
            let versions = model.versions.iter().rev().map(|(n, v)| version_status(*n, v));
            json!({
                "name": name,
                "version_labels": labels,
                "model_version_status": versions.collect::<Vec<_>>(),
            })
        });
        models.collect()
    });
    let with_traffic = |mut model: Value| {
        let traffic = model["name"].as_str().and_then(|name| server.traffic.status(name));
        if let Some(traffic) = traffic {
            model["traffic"] = traffic;
        }
        model
    };
    let models: Vec<Value> = models.into_iter().map(with_traffic).collect();
    page(&json!({ "models": models }))
}

/// `GetModelMetadataResponse`
pub fn metadata(server: &Server, model: &str, wanted: &Wanted) -> Answer<Response> {
    let servable = server.registry.find(model, wanted)?;
    let ends = |ports: &[Port]| {
        let ports = ports.iter().map(|port| (port.name.clone(), tensor_info(port)));
        ports.collect::<Map<String, Value>>()
    };
    let signature = json!({
        "inputs": ends(servable.inputs()),
        "outputs": ends(servable.outputs()),
        "method_name": "tensorflow/serving/predict",
        "defaults": {},
    });
    Ok(page(&json!({
        "model_spec": {
            "name": model,
            "signature_name": "",
            "version": servable.version.to_string(),
        },
        "metadata": {"signature_def": {"signature_def": {servable.signature(): signature}}},
    })))
}

fn tensor_info(port: &Port) -> Value {
    let dims = port.shape.iter().map(|dim| {
        let size = dim.known().map_or("-1".into(), |n| n.to_string());
        json!({"size": size, "name": ""})
    });
    json!({
        "dtype": data_type(port.element).map_or("DT_INVALID", DataType::name),
        "tensor_shape": {"dim": dims.collect::<Vec<_>>(), "unknown_rank": false},
        "name": port.name,
    })
}
