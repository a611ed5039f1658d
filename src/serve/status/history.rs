//! How the server has done over the last minutes, sampled: what the status page draws. Bounded: a ring of samples for
//! each version that is served.

use crate::serve::metrics::{Totals, quantile};
use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

/// Between two samples.
pub const STEP: Duration = Duration::from_secs(2);
/// Samples that are kept: five minutes.
pub const KEPT: usize = 150;

/// What happened during one step.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Sample {
    /// Requests a second, well answered or not.
    pub rate: f64,
    /// The share of them that failed, by whosever fault.
    pub failed: f64,
    /// Milliseconds of those that were answered; absent where none was.
    pub p50: Option<f64>,
    pub p99: Option<f64>,
}

/// One version of a model.
pub type Name = (String, u64);

#[derive(Debug, Default)]
pub struct History {
    /// Where a version was served for a shorter time its ring is shorter.
    versions: BTreeMap<Name, Ring>,
    all: Ring,
    memory: VecDeque<u64>,
    connections: VecDeque<u64>,
}

#[derive(Debug, Default)]
struct Ring {
    last: Totals,
    samples: VecDeque<Sample>,
}

fn push<T>(ring: &mut VecDeque<T>, value: T) {
    if ring.len() == KEPT {
        ring.pop_front();
    }
    ring.push_back(value);
}

impl Ring {
    fn add(&mut self, totals: Totals, seconds: f64) {
        push(&mut self.samples, sample(&totals.since(&self.last), seconds));
        self.last = totals;
    }
}

fn sample(step: &Totals, seconds: f64) -> Sample {
    let count = step.answered + step.failed;
    let milliseconds = |share| quantile(&step.times, share).map(|micros| micros / 1e3);
    Sample {
        rate: count as f64 / seconds.max(1e-3),
        failed: step.failed as f64 / (count as f64).max(1.0),
        p50: milliseconds(0.5),
        p99: milliseconds(0.99),
    }
}

/// What the server counts at one moment.
pub struct Now {
    /// Since the start, of each version that is served.
    pub versions: BTreeMap<Name, Totals>,
    /// Of all requests.
    pub all: Totals,
    pub memory: Option<u64>,
    pub connections: u64,
}

impl History {
    /// Adds what has happened in the `seconds` since the last time; versions that are not in `now` are forgotten.
    pub fn add(&mut self, now: Now, seconds: f64) {
        self.versions.retain(|name, _| now.versions.contains_key(name));
        for (name, totals) in now.versions {
            self.versions.entry(name).or_default().add(totals, seconds);
        }
        self.all.add(now.all, seconds);
        push(&mut self.memory, now.memory.unwrap_or(0));
        push(&mut self.connections, now.connections);
    }

    pub fn version(&self, name: &Name) -> Vec<Sample> {
        self.versions
            .get(name)
            .map(|ring| ring.samples.iter().copied().collect())
            .unwrap_or_default()
    }

    pub fn all(&self) -> Vec<Sample> {
        self.all.samples.iter().copied().collect()
    }

    pub fn memory(&self) -> Vec<f64> {
        self.memory.iter().map(|&bytes| bytes as f64).collect()
    }

    pub fn connections(&self) -> Vec<f64> {
        self.connections.iter().map(|&count| count as f64).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::failure::Code;
    use crate::serve::metrics::{Kind, Metrics};

    #[test]
    fn steps_tell_rates_and_quantiles() {
        let (metrics, mut history) = (Metrics::default(), History::default());
        let name = ("m".to_string(), 1);
        let kind = Kind { model: "m".into(), version: Some(1), api: "predict", entrypoint: "REST" };
        let now = |metrics: &Metrics| {
            let (all, versions) = metrics.totals();
            Now { versions, all, memory: None, connections: 3 }
        };
        history.add(now(&metrics), 2.0);
        assert_eq!(history.version(&name), []);
        for _ in 0..9 {
            metrics.add_request(kind.clone(), Code::Ok, Duration::from_micros(100));
        }
        metrics.add_request(kind.clone(), Code::Internal, Duration::from_millis(70));
        history.add(now(&metrics), 2.0);
        history.add(now(&metrics), 2.0);
        let samples = history.version(&name);
        assert_eq!((samples.len(), history.all().len()), (2, 3));
        assert_eq!((samples[0].rate, samples[0].failed), (5.0, 0.1));
        // 100 µs lie between the bounds 58.32 and 104.976
        let (p50, p99) = (samples[0].p50.unwrap(), samples[0].p99.unwrap());
        assert!(0.0583 < p50 && p50 < p99 && p99 <= 0.104_976, "{p50} {p99}");
        assert_eq!(samples[1], Sample::default());
        assert_eq!(history.all()[1..], samples);
        for _ in 0..2 * KEPT {
            history.add(now(&metrics), 2.0);
        }
        assert_eq!((history.version(&name).len(), history.connections().len()), (KEPT, KEPT));
        let gone = Now { versions: BTreeMap::new(), ..now(&metrics) };
        history.add(gone, 2.0);
        assert_eq!(history.version(&name), []);
    }
}
