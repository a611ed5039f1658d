//! A queue on a clock of its own: requests come when the test says, runs take as long as it says.

use super::*;
use std::collections::VecDeque;

const MOST: Duration = Duration::from_secs(1);
/// Threads, the rows of a full batch, the time of one row.
const BATCHES: [(usize, usize, Duration); 3] = [(1, 16, ms(10)), (2, 32, ms(20)), (4, 8, ms(1))];

/// Threads that take what waits in order.
struct Simulation {
    start: Instant,
    now: Duration,
    pressure: Pressure,
    /// Of one row, and of each further one in the same run.
    run: Duration,
    further: Duration,
    batch: usize,
    /// When each thread is free.
    free: Vec<Duration>,
    /// When each request came.
    waiting: VecDeque<Duration>,
    /// When each came, and how long it took until its answer.
    answered: Vec<(Duration, Duration)>,
    refused: usize,
    shed: usize,
}

impl Simulation {
    fn new(most: Option<Duration>, threads: usize, run: Duration) -> Simulation {
        let mut pressure = Pressure::new(most.map(Into::into), threads);
        (0..4).for_each(|_| pressure.ran(1, run));
        Simulation {
            start: Instant::now(),
            now: Duration::ZERO,
            pressure,
            run,
            further: Duration::ZERO,
            batch: 1,
            free: vec![Duration::ZERO; threads],
            waiting: VecDeque::new(),
            answered: vec![],
            refused: 0,
            shed: 0,
        }
    }

    /// Runs of up to `batch` rows, each further one a tenth of the first. What is known before are runs of one row, far
    /// from what full batches can do.
    fn of_batches(threads: usize, batch: usize, run: Duration) -> Simulation {
        Simulation { batch, further: run / 10, ..Simulation::new(Some(MOST), threads, run) }
    }

    /// Runs what can begin before `time`.
    fn pass(&mut self, time: Duration) {
        while let Some(&came) = self.waiting.front() {
            let thread = (0..self.free.len()).min_by_key(|&i| self.free[i]).unwrap();
            let begin = self.free[thread].max(came);
            if begin >= time {
                break;
            }
            let rows = self.waiting.iter().take_while(|&&came| came <= begin).count();
            let rows = rows.min(self.batch);
            // no two runs take the same time
            let share = 0.9 + 0.2 * ((self.answered.len() * 7 % 11) as f64 / 10.0);
            let took = (self.run + self.further * (rows as u32 - 1)).mul_f64(share);
            self.free[thread] = begin + took;
            self.pressure.ran(rows, took);
            for came in self.waiting.drain(..rows) {
                self.answered.push((came, begin + took - came));
            }
        }
        self.now = time;
    }

    fn come(&mut self, time: Duration) -> bool {
        self.pass(time);
        let oldest = self.waiting.front().map_or(Duration::ZERO, |&came| time - came);
        match self.pressure.ask(self.start + time, self.waiting.len(), oldest) {
            Verdict::Take => {
                self.waiting.push_back(time);
                return true;
            }
            Verdict::Refuse { .. } => {}
            Verdict::Shed { most, .. } => {
                while self.pressure.wait_for(self.waiting.len()) > most {
                    self.waiting.pop_front();
                    self.shed += 1;
                }
            }
        }
        self.refused += 1;
        false
    }

    /// Requests at `rate` a second, irregular, for `time`.
    fn load(&mut self, rate: f64, time: Duration) {
        let (end, mut state) = (self.now + time, 1u64);
        let mut at = self.now;
        while at < end {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let uniform = ((state >> 11) as f64 + 0.5) / (1u64 << 53) as f64;
            at += Duration::from_secs_f64(-uniform.ln() / rate);
            self.come(at);
        }
    }

    fn capacity(&self) -> f64 {
        let full = self.run + self.further * (self.batch as u32 - 1);
        (self.free.len() * self.batch) as f64 / full.as_secs_f64()
    }
}

fn p99(times: impl Iterator<Item = Duration>) -> Duration {
    let mut times: Vec<Duration> = times.collect();
    times.sort();
    times[times.len() * 99 / 100]
}

const fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

#[test]
fn four_times_too_many_for_a_minute() {
    for (threads, run) in [(1, ms(4)), (2, ms(1)), (2, ms(10)), (2, ms(80)), (8, ms(20))] {
        let mut quiet = Simulation::new(Some(MOST), threads, run);
        quiet.load(quiet.capacity() / 20.0, ms(60_000));
        assert_eq!((quiet.refused, quiet.shed), (0, 0));
        let alone = p99(quiet.answered.iter().map(|(_, took)| *took));
        let mut crowd = Simulation::new(Some(MOST), threads, run);
        crowd.load(4.0 * crowd.capacity(), ms(60_000));
        let all = p99(crowd.answered.iter().map(|(_, took)| *took));
        assert!(all <= alone * 4, "{threads} threads, {run:?}: {all:?}, {alone:?} alone");
        let answered = crowd.answered.len() as f64 / (60.0 * crowd.capacity());
        assert!(answered > 0.95, "{threads} threads, {run:?}: {answered}");
        // and when it is over, all are served again
        crowd.load(crowd.capacity() / 2.0, ms(2_500));
        let refused = crowd.refused;
        crowd.load(crowd.capacity() / 2.0, ms(2_000));
        assert_eq!(crowd.refused, refused, "{threads} threads, {run:?}");
    }
}

#[test]
fn batches_stay_full_where_the_queue_is_held() {
    for (threads, batch, run) in BATCHES {
        let mut crowd = Simulation::of_batches(threads, batch, run);
        crowd.load(4.0 * crowd.capacity(), ms(60_000));
        assert!(crowd.pressure.is_held());
        let answered = crowd.answered.len() as f64 / (60.0 * crowd.capacity());
        assert!(answered > 0.95, "{threads} threads, {batch} rows, {run:?}: {answered}");
        let full = run + crowd.further * (batch as u32 - 1);
        let all = p99(crowd.answered.iter().map(|(_, took)| *took));
        assert!(
            all <= full * 4,
            "{threads} threads, {batch} rows, {run:?}: {all:?}, {full:?} a run"
        );
    }
}

#[test]
fn batches_that_became_small_in_a_lull_grow_again() {
    for (threads, batch, run) in BATCHES {
        let mut crowd = Simulation::of_batches(threads, batch, run);
        crowd.load(4.0 * crowd.capacity(), ms(10_000));
        // shorter than a queue that is held is watched
        crowd.load(crowd.capacity() / 50.0, ms(900));
        assert!(crowd.pressure.is_held());
        let before = crowd.answered.len();
        crowd.load(4.0 * crowd.capacity(), ms(2_000));
        let answered = (crowd.answered.len() - before) as f64 / (2.0 * crowd.capacity());
        assert!(answered > 0.9, "{threads} threads, {batch} rows, {run:?}: {answered}");
    }
}

#[test]
fn clients_that_ask_again_and_again_are_served() {
    for (clients, threads, run) in [(16, 2, ms(60)), (200, 2, ms(4)), (32, 8, ms(200))] {
        let mut queue = Simulation::new(Some(MOST), threads, run);
        let mut due = VecDeque::from(vec![Duration::ZERO; clients]);
        let mut known = 0;
        while queue.now < ms(20_000) {
            while let Some(at) = due.pop_front() {
                queue.come(at);
            }
            // those who were answered ask again at once
            queue.pass(queue.now + run / 4);
            let again = queue.answered.len() - known;
            known += again;
            due.extend(std::iter::repeat_n(queue.now, again));
        }
        assert_eq!((queue.refused, queue.shed), (0, 0), "{clients} clients, {run:?}");
        assert!(known > clients * 10);
    }
}

#[test]
fn a_burst_is_served_up_to_the_longest_wait() {
    let mut queue = Simulation::new(Some(MOST), 2, ms(5));
    for request in 0..1000 {
        queue.come(Duration::from_micros(request * 50));
    }
    assert!((390..=430).contains(&(1000 - queue.refused)), "{} were refused", queue.refused);
    assert!(queue.shed == 0 && !queue.pressure.is_held());
    // right after it others are taken
    let refused = queue.refused;
    for request in 0..100 {
        queue.come(ms(200 + request * 20));
    }
    assert_eq!(queue.refused, refused);
    queue.pass(ms(10_000));
    let longest = queue.answered.iter().map(|(_, took)| *took).max().unwrap();
    assert!(longest <= MOST + ms(50), "{longest:?}");
}

#[test]
fn one_hiccup_says_nothing_and_a_change_is_learnt() {
    let mut pressure = Pressure::new(Some(MOST.into()), 1);
    assert_eq!(pressure.wait_for(1000), Duration::ZERO);
    (0..20).for_each(|_| pressure.ran(1, ms(1)));
    pressure.ran(1, ms(60_000));
    assert!(pressure.wait_for(100) < ms(130), "{:?}", pressure.wait_for(100));
    (0..100).for_each(|_| pressure.ran(1, ms(20)));
    assert!(pressure.wait_for(100) > ms(1900), "{:?}", pressure.wait_for(100));
    // rows count, however many are in a run
    (0..200).for_each(|_| pressure.ran(10, ms(20)));
    assert!((ms(195)..ms(210)).contains(&pressure.wait_for(100)));
    pressure.ran(0, ms(0));
    let now = Instant::now();
    let refused = pressure.ask(now, usize::MAX, Duration::ZERO);
    assert!(matches!(refused, Verdict::Refuse { .. }), "{refused:?}");
    // what has waited for too long tells more than what is foretold
    assert!(matches!(pressure.ask(now, 1, MOST * 3), Verdict::Refuse { .. }));
    let mut boundless = Pressure::new(None, 1);
    boundless.ran(1, ms(1000));
    assert_eq!(boundless.ask(now, 1_000_000, MOST * 100), Verdict::Take);
}

#[test]
fn eight_runs_of_a_slow_model_may_wait() {
    let longest = LongestWait { time: Duration::from_secs(1), runs: 8 };
    let mut pressure = Pressure::new(Some(longest), 1);
    let second = Duration::from_secs(1);
    (0..20).for_each(|_| pressure.ran(4, second));
    let now = Instant::now();
    let ask = |pressure: &mut Pressure, rows| pressure.ask(now, rows, Duration::ZERO);
    assert_eq!(ask(&mut pressure, 32), Verdict::Take);
    let refused = ask(&mut pressure, 36);
    assert!(matches!(refused, Verdict::Refuse { .. }), "{refused:?}");
    // a fast one is held to the time
    let mut fast = Pressure::new(Some(longest), 1);
    (0..20).for_each(|_| fast.ran(1, Duration::from_millis(10)));
    assert_eq!(ask(&mut fast, 99), Verdict::Take);
    let refused = ask(&mut fast, 102);
    assert!(matches!(refused, Verdict::Refuse { .. }), "{refused:?}");
}
