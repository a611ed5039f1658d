//! One picture, as it comes from a file or a pen → the model's classes.

use crate::data::image;
use crate::data::preprocessing::{Channels, Preprocessing};
use crate::format::base64;
use crate::graph::Dim;
use crate::runtime::{Port, Tensor, to_f32};
use crate::serve::Server;
use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::http::Response;
use crate::serve::metrics::Kind;
use crate::serve::registry::Wanted;
use crate::serve::rest::aside;
use crate::serve::servable::Servable;
use bytes::Bytes;
use serde::Serialize;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

pub struct Asked {
    pub model: String,
    pub wanted: Wanted,
    pub came: Instant,
}

/// Bytes of a picture's file.
const MOST_BYTES: usize = 32 << 20;
/// Pixels of a picture.
const MOST_PIXELS: u64 = 32_000_000;
/// Classes that are told, the best ones.
const MOST_CLASSES: usize = 10;
/// Pixels of the model's view that are sent back.
const MOST_SEEN: usize = 512 * 512;

/// Unpacked pictures are large: so many at the same time.
static UNPACKING: Semaphore = Semaphore::const_new(2);

#[derive(Serialize)]
struct Found {
    model: String,
    version: String,
    /// A dark-on-light picture was inverted.
    inverted: bool,
    classes: Vec<Class>,
    /// The picture as the model saw it, a PNG in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    seen: Option<String>,
    milliseconds: f64,
}

#[derive(Debug, PartialEq, Serialize)]
struct Class {
    class: usize,
    label: String,
    /// As the model says it.
    score: f32,
    /// The score, or where the scores are none the softmax of them.
    probability: f32,
}

struct Prepared {
    tensor: Tensor,
    inverted: bool,
    seen: Option<String>,
}

/// Whether a version has classes to tell of pictures.
pub fn takes_pictures(servable: &Servable) -> bool {
    servable.pictures().is_some() && output_of(servable).is_some()
}

/// The first output with a number for each class, and how many there are.
fn output_of(servable: &Servable) -> Option<usize> {
    let classes = |port: &Port| {
        let inner = port.shape.iter().skip(1).map(Dim::known);
        let more: Vec<Option<usize>> = inner.filter(|size| *size != Some(1)).collect();
        port.has_reals() && matches!(more.as_slice(), [Some(2..)])
    };
    servable.outputs().iter().position(classes)
}

pub async fn classify(
    server: &Arc<Server>,
    asked: Asked,
    body: Bytes,
    kind: &mut Option<Kind>,
) -> Answer<Response> {
    let known = server.registry.read(|models| models.contains_key(&asked.model));
    let model = if known { asked.model.clone() } else { String::new() };
    let own = Kind { model, version: None, api: "image", entrypoint: "REST" };
    *kind = Some(own.clone());
    let servable = server.registry.find(&asked.model, &asked.wanted)?;
    *kind = Some(Kind { version: Some(servable.version), ..own });
    let (Some(record), Some(output)) = (servable.pictures().cloned(), output_of(&servable)) else {
        let message = format!("model {} takes no pictures, or tells no classes", asked.model);
        return Err(Failure::invalid(message));
    };
    if body.len() > MOST_BYTES {
        let message = format!("a picture may have {MOST_BYTES} bytes; this one has {}", body.len());
        return Err(Failure::invalid(message));
    }
    let deadline = asked.came + server.options.timeout;
    let late = || Failure::new(Code::DeadlineExceeded, "the picture waited for too long");
    let turn = tokio::time::timeout_at(deadline.into(), UNPACKING.acquire()).await;
    let turn = turn.map_err(|_| late())?;
    let port = servable.inputs()[0].clone();
    // it ends with the work, which goes on where its client has gone
    let work = move || (prepare(&body, &record, &port), turn).0;
    let prepared = aside(work).await??;
    let started = Instant::now();
    let outputs = servable.answer(vec![prepared.tensor], deadline).await?;
    let milliseconds = started.elapsed().as_secs_f64() * 1e3;
    let broken = |e: anyhow::Error| Failure::new(Code::Internal, format!("{e:#}"));
    let scores = servable.outputs()[output].reals(&outputs[output]).map_err(broken)?;
    let scores = to_f32(&scores).map_err(broken)?;
    let found = Found {
        model: asked.model,
        version: servable.version.to_string(),
        inverted: prepared.inverted,
        classes: best(&scores, |class| servable.class_name(class)),
        seen: prepared.seen,
        milliseconds,
    };
    Ok(Response::json(serde_json::to_vec(&found).unwrap_or_default()))
}

fn prepare(body: &[u8], record: &Preprocessing, port: &Port) -> Answer<Prepared> {
    let refused = |e: anyhow::Error| Failure::invalid(format!("{e:#}"));
    let picture = image::decode_image_within(body, MOST_PIXELS).map_err(refused)?;
    let (mut pixels, inverted) = image::to_pixels(&picture, record);
    drop(picture);
    let values = record.normalize(&pixels.data);
    let tensor = Tensor::from_shape(&record.shape(1), &values);
    let tensor = tensor.and_then(|tensor| port.of_reals(tensor)).map_err(refused)?;
    if record.channels == Channels::Bgr {
        pixels.data.chunks_exact_mut(3).for_each(<[u8]>::reverse);
    }
    let small = pixels.width * pixels.height <= MOST_SEEN;
    let seen = small.then(|| image::png_of(pixels).ok()).flatten();
    Ok(Prepared { tensor, inverted, seen: seen.map(|png| base64::encode(&png)) })
}

fn best(scores: &[f32], name: impl Fn(usize) -> String) -> Vec<Class> {
    let sum: f32 = scores.iter().sum();
    let is_probability =
        (sum - 1.0).abs() < 1e-2 && scores.iter().all(|score| (0.0..=1.0).contains(score));
    let most = scores.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let total: f32 = scores.iter().map(|score| (score - most).exp()).sum();
    let probability = |score: f32| match is_probability {
        true => score,
        false => (score - most).exp() / total,
    };
    let mut order: Vec<usize> = (0..scores.len()).collect();
    order.sort_by(|&a, &b| scores[b].total_cmp(&scores[a]).then(a.cmp(&b)));
    let class = |class: usize| {
        let score = scores[class];
        Class { class, label: name(class), score, probability: probability(score) }
    };
    order.into_iter().take(MOST_CLASSES).map(class).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_best_classes_come_first() {
        let told = |scores: &[f32]| -> Vec<(usize, f32)> {
            let found = best(scores, |class| class.to_string());
            found.iter().map(|class| (class.class, class.probability)).collect()
        };
        assert_eq!(told(&[0.25, 0.75]), [(1, 0.75), (0, 0.25)]);
        // e⁰ : e¹
        let logits = told(&[2.0, 1.0]);
        assert!((logits[0].1 - 0.731_058_6).abs() < 1e-6 && logits[0].0 == 0, "{logits:?}");
        assert_eq!(told(&[0.0; 20]).len(), MOST_CLASSES);
        assert_eq!(told(&[f32::NAN, 1.0]).len(), 2);
    }
}
