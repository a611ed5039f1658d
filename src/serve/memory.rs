//! Memory that requests hold, all together: their bodies as they come, and their tensors until these have run. What does
//! not fit any more is refused at once, so that many large requests cannot take what the machine has.

use super::failure::{Answer, Code, Failure};
use bytes::Bytes;
use std::fmt::Write;
use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};

/// Bytes that may be held at the same time.
#[derive(Debug)]
pub struct Budget {
    most: usize,
    taken: AtomicUsize,
    refused: AtomicU64,
}

impl Budget {
    pub fn new(most: usize) -> Arc<Budget> {
        Arc::new(Budget { most, taken: AtomicUsize::new(0), refused: AtomicU64::new(0) })
    }

    pub fn most(&self) -> usize {
        self.most
    }

    /// Bytes that are held now.
    pub fn taken(&self) -> usize {
        self.taken.load(Relaxed)
    }

    pub fn write_metrics(&self, out: &mut String) {
        for (name, bytes) in [
            ("mlctl_request_memory_bytes", self.taken()),
            ("mlctl_request_memory_most_bytes", self.most),
        ] {
            let _ = writeln!(out, "# TYPE {name} gauge\n{name} {bytes}");
        }
        let (name, refused) = ("mlctl_request_memory_refused_total", self.refused.load(Relaxed));
        let _ = writeln!(out, "# TYPE {name} counter\n{name} {refused}");
    }

    /// A part that has no bytes yet.
    pub fn nothing(self: &Arc<Budget>) -> Held {
        Held { budget: self.clone(), bytes: 0 }
    }

    /// # Errors
    /// There is no room for so many bytes.
    pub fn take(self: &Arc<Budget>, bytes: usize) -> Answer<Held> {
        let mut held = self.nothing();
        held.grow(bytes)?;
        Ok(held)
    }
}

/// A part of the budget, until it is dropped.
#[derive(Debug)]
pub struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    /// # Errors
    /// There is no room for so many bytes more.
    pub fn grow(&mut self, bytes: usize) -> Answer<()> {
        let budget = &self.budget;
        let sum = |taken: usize| taken.checked_add(bytes).filter(|sum| *sum <= budget.most);
        if let Err(before) = budget.taken.fetch_update(Relaxed, Relaxed, sum) {
            budget.refused.fetch_add(1, Relaxed);
            return Err(Failure::new(
                Code::ResourceExhausted,
                format!(
                    "requests hold {before} bytes, and may hold {} together (--max_request_memory); try again later",
                    budget.most
                ),
            ));
        }
        self.bytes += bytes;
        Ok(())
    }

    /// So many bytes of it, on their own.
    pub fn split(&mut self, bytes: usize) -> Held {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        Held { budget: self.budget.clone(), bytes }
    }

    /// `bytes`, which were taken out of this, holding their part as long as anything of them is there.
    pub fn bind(&mut self, bytes: Bytes) -> Bytes {
        let held = self.split(bytes.len());
        Bytes::from_owner(Bound { bytes, _held: held })
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.taken.fetch_sub(self.bytes, Relaxed);
    }
}

struct Bound {
    bytes: Bytes,
    _held: Held,
}

impl AsRef<[u8]> for Bound {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Bytes that this process may take: the machine's, or fewer where its container has a limit.
pub fn of_this_machine() -> Option<usize> {
    // cgroups of version 2, then 1, as a container sees its own
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limits =
        limits.iter().filter_map(|path| fs::read_to_string(path).ok()?.trim().parse().ok());
    limits.chain(fs::read_to_string("/proc/meminfo").ok().and_then(|text| total(&text))).min()
}

/// `MemTotal` of /proc/meminfo.
fn total(text: &str) -> Option<usize> {
    let line = text.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kilobytes: usize = line.trim().strip_suffix(" kB")?.parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_refused_and_takes_nothing() {
        let budget = Budget::new(100);
        let mut first = budget.take(60).unwrap();
        let failure = budget.take(41).unwrap_err();
        assert_eq!((failure.code, failure.http_status()), (Code::ResourceExhausted, 429));
        assert_eq!(
            failure.message,
            "requests hold 60 bytes, and may hold 100 together (--max_request_memory); try again later"
        );
        assert!(first.grow(41).is_err());
        let second = budget.take(40).unwrap();
        assert_eq!(budget.taken(), 100);
        drop(first);
        assert_eq!(budget.taken(), 40);
        drop(second);
        assert_eq!(budget.taken(), 0);
        assert!(budget.take(usize::MAX).is_err());
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn bytes_hold_their_part_until_the_last_of_them_is_gone() {
        let budget = Budget::new(10);
        let mut held = budget.take(8).unwrap();
        let bytes = held.bind(Bytes::from_static(b"abcde"));
        drop(held);
        assert_eq!((&bytes[..], budget.taken()), (&b"abcde"[..], 5));
        let part = bytes.slice(1..3);
        drop(bytes);
        assert_eq!((&part[..], budget.taken()), (&b"bc"[..], 5));
        drop(part);
        assert_eq!(budget.taken(), 0);
    }

    #[test]
    fn the_machine_s_memory() {
        assert_eq!(total("MemFree:  5 kB\nMemTotal:       24576 kB\n"), Some(24576 * 1024));
        assert_eq!(total("MemFree: 5 kB"), None);
        assert!(of_this_machine().is_none_or(|bytes| bytes > 1 << 20));
    }
}
