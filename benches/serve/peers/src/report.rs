//! What was counted and timed, as JSON.

use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::time::Duration;

/// Times of the requests that ended in one way.
#[derive(Default)]
struct Times {
    /// From when the request should have been sent (in a closed loop: was sent), in nanoseconds.
    answered: Vec<u64>,
    /// From when it was sent.
    served: Vec<u64>,
}

#[derive(Default)]
pub struct Report {
    by_status: BTreeMap<String, Times>,
    answers: BTreeMap<Vec<u8>, u64>,
    pub count: u64,
}

impl Report {
    /// How many different answers are told.
    const MOST_ANSWERS: usize = 64;

    pub fn add(&mut self, status: String, answered: Duration, served: Duration) {
        self.count += 1;
        let times = self.by_status.entry(status).or_default();
        times.answered.push(answered.as_nanos() as u64);
        times.served.push(served.as_nanos() as u64);
    }

    pub fn add_answer(&mut self, body: &[u8]) {
        let known = self.answers.contains_key(body) || self.answers.len() < Report::MOST_ANSWERS;
        let body = if known { body } else { b"others" };
        *self.answers.entry(body.to_vec()).or_default() += 1;
    }

    pub fn json(mut self, more: Value) -> Value {
        let mut status = Map::new();
        let mut times = Map::new();
        for (name, own) in &mut self.by_status {
            status.insert(name.clone(), own.answered.len().into());
            let both = json!({ "ms": summary(&mut own.answered), "ms_from_send": summary(&mut own.served) });
            times.insert(name.clone(), both);
        }
        let mut report = json!({ "requests": self.count, "status": status, "times": times });
        if !self.answers.is_empty() {
            let texts = self.answers.iter();
            let texts = texts
                .map(|(body, count)| (String::from_utf8_lossy(body).into_owned(), json!(count)));
            report["answers"] = texts.collect::<Map<_, _>>().into();
        }
        for (key, value) in more.as_object().into_iter().flatten() {
            report[key] = value.clone();
        }
        report
    }
}

fn summary(times: &mut [u64]) -> Value {
    times.sort_unstable();
    let ms = |ns: u64| ns as f64 / 1e6;
    let at = |share: f64| {
        let place = (share * times.len() as f64).ceil() as usize;
        times.get(place.saturating_sub(1)).map_or(0.0, |&ns| ms(ns))
    };
    let mean = times.iter().map(|&ns| ms(ns)).sum::<f64>() / times.len().max(1) as f64;
    json!({ "mean": mean, "p50": at(0.5), "p90": at(0.9), "p99": at(0.99), "p99.9": at(0.999), "max": at(1.0) })
}
