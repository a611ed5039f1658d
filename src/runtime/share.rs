//! Runs shared out over threads, whichever is free taking the next.

use crate::progress::Progress;
use anyhow::{Result, anyhow};
use std::sync::atomic::{AtomicUsize, Ordering};

/// The numbers of the runs that one thread does, as it asks for them.
pub struct Turns<'a> {
    next: &'a AtomicUsize,
    done: &'a AtomicUsize,
    runs: usize,
    progress: &'a dyn Progress,
    /// Only the calling thread does.
    reports: bool,
    busy: bool,
}

impl Iterator for Turns<'_> {
    type Item = Result<usize>;

    fn next(&mut self) -> Option<Result<usize>> {
        if std::mem::replace(&mut self.busy, true) {
            let done = self.done.fetch_add(1, Ordering::Relaxed) + 1;
            if self.reports {
                self.progress.advance(done as u64, &String::new);
            }
        }
        let run = self.next.fetch_add(1, Ordering::Relaxed);
        let stopped = || anyhow!("stopped");
        (run < self.runs).then(|| if self.progress.cancelled() { Err(stopped()) } else { Ok(run) })
    }
}

/// Lets `work` do `runs` runs on `threads` threads at most and returns what it made on each; which runs that is made of
/// differs from time to time. `task` is what the progress calls it.
///
/// # Errors
/// The first of a thread's; the others end after their current run. The user stopped it.
pub fn share_out<T: Send>(
    runs: usize,
    threads: usize,
    (task, progress): (&str, &dyn Progress),
    work: impl Fn(&mut Turns) -> Result<T> + Sync,
) -> Result<Vec<T>> {
    let (next, done) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let on_thread = |reports: bool| {
        let mut turns = Turns { next: &next, done: &done, runs, progress, reports, busy: false };
        let made = work(&mut turns);
        if made.is_err() {
            next.store(runs, Ordering::Relaxed);
        }
        made
    };
    progress.begin(task, runs as u64);
    let made = std::thread::scope(|scope| {
        let on_thread = &on_thread;
        let others: Vec<_> =
            (1..threads.min(runs)).map(|_| scope.spawn(move || on_thread(false))).collect();
        let mut made = vec![on_thread(true)];
        made.extend(
            others
                .into_iter()
                .map(|other| other.join().unwrap_or_else(|_| Err(anyhow!("a thread panicked")))),
        );
        made.into_iter().collect()
    });
    progress.end();
    made
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::progress::Silent;
    use anyhow::ensure;

    #[test]
    fn every_run_is_done_once_by_one_thread() {
        for (runs, threads) in [(0, 2), (1, 4), (7, 1), (100, 3)] {
            let take = |turns: &mut Turns| turns.collect::<Result<Vec<usize>>>();
            let made = share_out(runs, threads, ("counting", &Silent), take).unwrap();
            assert!(made.len() <= threads);
            let mut all = made.concat();
            all.sort_unstable();
            assert_eq!(all, (0..runs).collect::<Vec<_>>());
        }
    }

    #[test]
    fn an_error_ends_the_others() {
        let work = |turns: &mut Turns| -> Result<usize> {
            let mut count = 0;
            for run in turns {
                ensure!(run? != 5, "five");
                count += 1;
                std::thread::sleep(std::time::Duration::from_millis(1));
            }
            Ok(count)
        };
        let error = share_out(100_000, 2, ("counting", &Silent), work).unwrap_err();
        assert_eq!(error.to_string(), "five");
        struct Stopping;
        impl Progress for Stopping {
            fn cancelled(&self) -> bool {
                true
            }
        }
        let error = share_out(8, 2, ("counting", &Stopping), work).unwrap_err();
        assert_eq!(error.to_string(), "stopped");
    }
}
