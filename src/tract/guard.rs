//! Calls into tract with foreign bytes: a panic becomes an error, a hang ends at a deadline, hunger at a limit.

use anyhow::{Result, bail, ensure};
use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe};
use std::sync::Once;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::time::{Duration, Instant};

thread_local! {
    /// `Some` while this thread runs guarded code; then what its panic said.
    static GUARDED: RefCell<Option<String>> = const { RefCell::new(None) };
    /// When the loops of a graph that this thread runs must end.
    static LOOPS_END: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// How long the loops of a graph may go on in one guarded call that sets no limit of its own.
const LOOP_LIMIT: Duration = Duration::from_secs(120);

/// What every turn of a graph's loop asks first.
///
/// # Errors
/// The guarded call that this is part of has gone on for too long.
pub fn check_loop() -> Result<()> {
    let over = LOOPS_END.get().is_some_and(|end| Instant::now() > end);
    ensure!(!over, "a loop of the graph does not end in the time that it has");
    Ok(())
}

/// Runs `work` with loops that end after `limit`, all together, or when those around it do.
pub fn with_loop_limit<T>(limit: Duration, work: impl FnOnce() -> T) -> T {
    let outer = LOOPS_END.get();
    let end = Instant::now() + limit;
    LOOPS_END.set(Some(outer.map_or(end, |outer| outer.min(end))));
    let result = work();
    LOOPS_END.set(outer);
    result
}

/// Runs `work` and turns a panic in it into an error that begins with `what`.
pub fn catch_panic<T>(what: &str, work: impl FnOnce() -> Result<T>) -> Result<T> {
    static HOOK: Once = Once::new();
    HOOK.call_once(|| {
        let default = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            let guarded = GUARDED.with_borrow_mut(|message| match message {
                Some(text) => {
                    *text = info.to_string();
                    true
                }
                None => false,
            });
            if !guarded {
                default(info);
            }
        }));
    });
    let outer = GUARDED.replace(Some(String::new()));
    let result = with_loop_limit(LOOP_LIMIT, || panic::catch_unwind(AssertUnwindSafe(work)));
    let message = GUARDED.replace(outer).unwrap_or_default();
    result.unwrap_or_else(|_| {
        let reason = message.lines().skip(1).collect::<Vec<_>>().join(" ");
        let reason = if reason.is_empty() { message } else { reason };
        let message = format!("{what}: the graph is invalid or not supported ({reason})");
        Err(anyhow::Error::new(Panicked(message)))
    })
}

/// A panic in guarded work.
#[derive(Debug)]
pub struct Panicked(String);

impl std::fmt::Display for Panicked {
    fn fmt(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Panicked {}

/// What a call that foreign bytes decide may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Allowance {
    pub time: Duration,
    /// Bytes of memory beyond what the process holds at the start; looked at where `/proc` tells.
    pub memory: u64,
}

impl Allowance {
    /// For a model whose file or constants take `bytes`: 30 s and a second for each MB, 2 GB and 16 times the size.
    pub fn for_bytes(bytes: u64) -> Allowance {
        Allowance {
            time: Duration::from_secs(30 + bytes / (1 << 20)),
            memory: (2 << 30) + bytes.saturating_mul(16),
        }
    }
}

/// How often the memory is looked at.
const INTERVAL: Duration = Duration::from_millis(20);

/// As [`catch_panic`], on a thread of its own that is abandoned when it takes more than `allowance`.
pub fn with_allowance<T: Send + 'static>(
    what: &str,
    allowance: Allowance,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    let name = what.to_string();
    let before = own_memory();
    let start = Instant::now();
    let outer = LOOPS_END.get();
    let loops = outer.map_or(allowance.time, |end| end.saturating_duration_since(start));
    let loops = loops.min(allowance.time);
    std::thread::Builder::new()
        .name("guarded".into())
        .stack_size(64 << 20)
        .spawn(move || sender.send(with_loop_limit(loops, || catch_panic(&name, work))))?;
    loop {
        let left = allowance.time.saturating_sub(start.elapsed());
        match receiver.recv_timeout(left.min(INTERVAL)) {
            Ok(result) => return result,
            Err(RecvTimeoutError::Disconnected) => bail!("{what}: it ended without a result"),
            Err(RecvTimeoutError::Timeout) if left.is_zero() => {
                ABANDONED.fetch_add(1, Ordering::Relaxed);
                bail!("{what}: gave up after {} s", allowance.time.as_secs())
            }
            Err(RecvTimeoutError::Timeout) => {}
        }
        if let (Some(before), Some(now)) = (before, own_memory())
            && now.saturating_sub(before) > allowance.memory
        {
            ABANDONED.fetch_add(1, Ordering::Relaxed);
            bail!("{what}: gave up at {} MB of memory", allowance.memory >> 20)
        }
    }
}

/// How many calls were abandoned; their threads still run and hold what they took, until the process ends.
pub fn abandoned() -> usize {
    ABANDONED.load(Ordering::Relaxed)
}

static ABANDONED: AtomicUsize = AtomicUsize::new(0);

/// Resident bytes of this process that no file backs, on Linux.
fn own_memory() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()?.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_becomes_an_error() {
        let error =
            catch_panic("loading x", || -> Result<()> { panic!("index 7 of 3") }).unwrap_err();
        assert!(error.to_string().starts_with("loading x: "), "{error}");
        assert!(error.to_string().contains("index 7 of 3"), "{error}");
    }

    #[test]
    fn a_hang_ends_at_the_deadline() {
        let allowance = Allowance { time: Duration::from_millis(20), memory: u64::MAX };
        let error = with_allowance("loading y", allowance, || {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "loading y: gave up after 0 s");
    }

    #[test]
    fn loops_end_with_those_around_them() {
        let loop_without_end = || -> Result<()> {
            loop {
                check_loop()?;
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let start = Instant::now();
        let allowance = Allowance { time: Duration::from_secs(60), memory: u64::MAX };
        with_loop_limit(Duration::from_millis(20), || {
            for _ in 0..4 {
                let alone = catch_panic("running a", loop_without_end).unwrap_err();
                let guarded = with_allowance("running b", allowance, loop_without_end).unwrap_err();
                for error in [alone, guarded] {
                    assert!(error.to_string().contains("does not end"), "{error}");
                }
            }
        });
        assert!(start.elapsed() < Duration::from_secs(10));
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn hunger_ends_at_the_limit() {
        let allowance = Allowance { time: Duration::from_secs(60), memory: 64 << 20 };
        let error = with_allowance("loading z", allowance, || {
            let eaten: Vec<Vec<u8>> = (0..512).map(|_| vec![1; 1 << 20]).collect();
            std::thread::sleep(Duration::from_secs(60));
            Ok(eaten.len())
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "loading z: gave up at 64 MB of memory");
    }
}
