//! What the server says goes to stderr through a thread of its own: a disk that is full, or a pipe that nobody reads,
//! holds up no request.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// Lines that wait to be written; more are dropped, and counted.
const MOST_LINES: usize = 1 << 13;
/// For the last lines at the end.
const LAST: Duration = Duration::from_secs(1);

enum Entry {
    Line(String),
    /// All before this is written.
    Mark(SyncSender<()>),
}

#[derive(Clone)]
pub struct Log {
    entries: SyncSender<Entry>,
    dropped: Arc<AtomicU64>,
}

impl Log {
    /// # Errors
    /// The system gives no more threads.
    pub fn start() -> std::io::Result<Log> {
        let (entries, receiver) = sync_channel(MOST_LINES);
        let dropped = Arc::<AtomicU64>::default();
        let own = dropped.clone();
        thread::Builder::new().name("log".into()).spawn(move || write(&receiver, &own))?;
        Ok(Log { entries, dropped })
    }

    pub fn say(&self, line: &str) {
        if self.entries.try_send(Entry::Line(line.into())).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }

    /// Waits until all is written, not for long.
    pub fn end(&self) {
        let (mark, written) = sync_channel(1);
        if self.entries.try_send(Entry::Mark(mark)).is_ok() {
            let _ = written.recv_timeout(LAST);
        }
    }
}

fn write(entries: &Receiver<Entry>, dropped: &AtomicU64) {
    for entry in entries {
        match entry {
            Entry::Line(line) => {
                let mut out = std::io::stderr().lock();
                let _ = writeln!(out, "{line}");
                let lost = dropped.swap(0, Relaxed);
                if lost > 0 {
                    let _ = writeln!(out, "{lost} lines were dropped: stderr took them too slowly");
                }
            }
            Entry::Mark(mark) => drop(mark.try_send(())),
        }
    }
}
