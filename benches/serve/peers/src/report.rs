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
    /// `answered`, by the window in which the request should have been sent.
    windows: Vec<Vec<u64>>,
}

#[derive(Default)]
pub struct Report {
    by_status: BTreeMap<String, Times>,
    answers: BTreeMap<Vec<u8>, u64>,
    /// How late the generator itself was at most, by window: what the machine took from it.
    late: Vec<Duration>,
    count: u64,
}

impl Report {
    /// How many different answers are told.
    const MOST_ANSWERS: usize = 64;
    /// Short, so that most of them see no stall of the machine.
    const WINDOW: Duration = Duration::from_millis(250);

    fn window<T: Default>(windows: &mut Vec<T>, at: Duration) -> &mut T {
        let window = (at.as_nanos() / Report::WINDOW.as_nanos()) as usize;
        if window >= windows.len() {
            windows.resize_with(window + 1, T::default);
        }
        &mut windows[window]
    }

    /// A request that was due at `at` since the counting began could be sent `late`.
    pub fn add_late(&mut self, at: Duration, late: Duration) {
        let most = Report::window(&mut self.late, at);
        *most = late.max(*most);
    }

    /// `at`: when it should have been sent, since the counting began.
    pub fn add(&mut self, status: String, at: Duration, answered: Duration, served: Duration) {
        self.count += 1;
        let times = self.by_status.entry(status).or_default();
        times.answered.push(answered.as_nanos() as u64);
        times.served.push(served.as_nanos() as u64);
        Report::window(&mut times.windows, at).push(answered.as_nanos() as u64);
    }

    pub fn add_answer(&mut self, body: &[u8]) {
        let known = self.answers.contains_key(body) || self.answers.len() < Report::MOST_ANSWERS;
        let body = if known { body } else { b"others" };
        *self.answers.entry(body.to_vec()).or_default() += 1;
    }

    /// `counted`: for how long.
    pub fn json(mut self, counted: Duration, more: Value) -> Value {
        let whole = (counted.as_nanos() / Report::WINDOW.as_nanos()) as usize;
        let mut status = Map::new();
        let mut times = Map::new();
        for (name, own) in &mut self.by_status {
            status.insert(name.clone(), own.answered.len().into());
            let mut late = self.late.iter().map(Duration::as_secs_f64);
            let windows = own.windows.iter_mut().take(whole).map(|times| {
                let mut window = summary(times);
                window["late"] = json!(late.next().unwrap_or(0.0) * 1e3);
                window
            });
            let windows: Vec<Value> = windows.collect();
            let own = json!({
                "ms": summary(&mut own.answered),
                "ms_from_send": summary(&mut own.served),
                "windows_ms": windows,
            });
            times.insert(name.clone(), own);
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
