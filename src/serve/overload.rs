//! When a queue holds more work than it should, by time and not by count: how long requests would wait is foretold from
//! the runs so far. Knows no clock and no requests: both are told to it.
//!
//! Few clients that ask again and again make a queue that stands but does not grow, and a burst makes one that goes away:
//! both are served up to the longest wait. Requests that come faster than they can be run make one that grows without
//! end: once the longest wait has been reached for an interval, the queue is cut to little more than one run and held there (as
//! CoDel does, RFC 8289, but on the wait that is foretold), so that those that are admitted are answered fast, until
//! hardly any is refused.

use std::time::{Duration, Instant};

/// Bursts that the queue takes are over in this time (RFC 8289, section 4.2).
const INTERVAL: Duration = Duration::from_millis(100);
/// How long a queue that is held is watched before it is let go.
const WINDOW: Duration = Duration::from_secs(1);
/// Let go where less than one in so many is refused.
const FEW: u64 = 10;
/// Waits below this are no delay, however short a run is.
const LEAST: Duration = Duration::from_millis(2);
/// How many runs may wait before a request in a queue that is held. With one alone, batches would hardly grow again that
/// have become small: each could be no larger than those before.
const HELD_RUNS: f64 = 1.25;
/// The weight of one run in what is known of all.
const WEIGHT: f64 = 1.0 / 16.0;
/// A run counts as at most so many times what was known: one hiccup says nothing.
const MOST_SURPRISE: f64 = 4.0;

/// How long requests may wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongestWait {
    pub time: Duration,
    /// For so many runs, where they take longer than `time`: of a slow model that is hardly a queue.
    pub runs: u32,
}

impl From<Duration> for LongestWait {
    fn from(time: Duration) -> LongestWait {
        LongestWait { time, runs: 0 }
    }
}

/// What becomes of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    Take,
    /// It would wait for so long, and may for no longer than that.
    Refuse {
        wait: Duration,
        most: Duration,
    },
    /// As `Refuse`, and of those that wait only the newest may stay, as many as run in `most`.
    Shed {
        wait: Duration,
        most: Duration,
    },
}

/// What is known of a queue's load.
#[derive(Debug, Clone)]
pub struct Pressure {
    /// The longest wait; any where absent.
    most: Option<LongestWait>,
    threads: f64,
    /// Seconds and rows of the runs so far, the latest counting most.
    seconds: f64,
    rows: f64,
    runs: f64,
    /// The first and the last refusal of a row of them without pause.
    refusals: Option<(Instant, Instant)>,
    held: Option<Held>,
}

/// A queue that is held short.
#[derive(Debug, Clone)]
struct Held {
    since: Instant,
    came: u64,
    refused: u64,
}

impl Pressure {
    pub fn new(most: Option<LongestWait>, threads: usize) -> Pressure {
        Pressure {
            most,
            threads: threads.max(1) as f64,
            seconds: 0.0,
            rows: 0.0,
            runs: 0.0,
            refusals: None,
            held: None,
        }
    }

    /// A thread has run so many rows.
    pub fn ran(&mut self, rows: usize, time: Duration) {
        let rows = rows.max(1) as f64;
        let known = self.seconds / self.rows * rows;
        let most = if self.runs >= 4.0 { known * MOST_SURPRISE } else { f64::INFINITY };
        let keep = 1.0 - WEIGHT;
        self.seconds = self.seconds * keep + time.as_secs_f64().min(most);
        self.rows = self.rows * keep + rows;
        self.runs = self.runs * keep + 1.0;
    }

    /// How long so many rows take until they have begun; 0 where nothing has run yet.
    pub fn wait_for(&self, rows: usize) -> Duration {
        let seconds = self.seconds_of(rows).unwrap_or(0.0) / self.threads;
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    /// How many rows are known to run in `time`.
    pub fn rows_within(&self, time: Duration) -> usize {
        match self.seconds_of(1) {
            Some(seconds) if seconds > 0.0 => (time.as_secs_f64() / seconds) as usize,
            Some(_) => usize::MAX,
            None => 0,
        }
    }

    fn seconds_of(&self, rows: usize) -> Option<f64> {
        (self.rows > 0.0).then(|| self.seconds / self.rows * rows as f64)
    }

    pub fn is_held(&self) -> bool {
        self.held.is_some()
    }

    /// A request comes where `waiting` rows do, the first of them for the time `oldest`.
    pub fn ask(&mut self, now: Instant, waiting: usize, oldest: Duration) -> Verdict {
        let Some(longest) = self.most else { return Verdict::Take };
        let run = self.run();
        let longest = longest.time.max(run.saturating_mul(longest.runs));
        let interval = INTERVAL.max(run);
        self.let_go(now, WINDOW.max(run * 10));
        let most = match &mut self.held {
            Some(held) => {
                held.came += 1;
                longest.min(self.held_wait())
            }
            None => longest,
        };
        // who has waited twice as long shows that what was foretold for him was wrong
        let wait = self.wait_for(waiting).max(oldest / 2);
        if wait <= most {
            return Verdict::Take;
        }
        let first = match self.refusals {
            Some((first, last)) if now.saturating_duration_since(last) <= interval => first,
            _ => now,
        };
        self.refusals = Some((first, now));
        if let Some(held) = &mut self.held {
            held.refused += 1;
            return Verdict::Refuse { wait, most };
        }
        if now.saturating_duration_since(first) < interval {
            return Verdict::Refuse { wait, most };
        }
        self.held = Some(Held { since: now, came: 1, refused: 1 });
        Verdict::Shed { wait, most: longest.min(self.held_wait()) }
    }

    fn held_wait(&self) -> Duration {
        LEAST.max(
            Duration::try_from_secs_f64(self.run_seconds() * HELD_RUNS).unwrap_or(Duration::MAX),
        )
    }

    fn run(&self) -> Duration {
        let seconds = self.run_seconds();
        Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX)
    }

    fn run_seconds(&self) -> f64 {
        if self.runs > 0.0 { self.seconds / self.runs } else { 0.0 }
    }

    fn let_go(&mut self, now: Instant, window: Duration) {
        let Some(held) = &mut self.held else { return };
        let age = |at: Instant| now.saturating_duration_since(at);
        if age(held.since) < window {
            return;
        }
        let calm = self.refusals.is_none_or(|(_, last)| age(last) >= window);
        if calm || held.refused * FEW < held.came {
            self.held = None;
            self.refusals = None;
        } else {
            *held = Held { since: now, came: 0, refused: 0 };
        }
    }
}

#[cfg(test)]
mod tests;
