//! Calls into tract with foreign bytes: a panic becomes an error, a hang ends at a deadline.

use anyhow::{Result, anyhow};
use std::cell::RefCell;
use std::panic::{self, AssertUnwindSafe};
use std::sync::{Once, mpsc};
use std::time::Duration;

thread_local! {
    /// `Some` while this thread runs guarded code; then what its panic said.
    static GUARDED: RefCell<Option<String>> = const { RefCell::new(None) };
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
    let result = panic::catch_unwind(AssertUnwindSafe(work));
    let message = GUARDED.replace(outer).unwrap_or_default();
    result.unwrap_or_else(|_| {
        let reason = message.lines().skip(1).collect::<Vec<_>>().join(" ");
        let reason = if reason.is_empty() { message } else { reason };
        Err(anyhow!("{what}: the graph is invalid or not supported ({reason})"))
    })
}

/// As [`catch_panic`], on a thread of its own that is abandoned after `limit`.
pub fn with_deadline<T: Send + 'static>(
    what: &str,
    limit: Duration,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (sender, receiver) = mpsc::channel();
    let name = what.to_string();
    std::thread::Builder::new()
        .name("guarded".into())
        .stack_size(64 << 20)
        .spawn(move || sender.send(catch_panic(&name, work)))?;
    receiver
        .recv_timeout(limit)
        .map_err(|_| anyhow!("{what}: gave up after {} s", limit.as_secs()))?
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
        let error = with_deadline("loading y", Duration::from_millis(20), || {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        })
        .unwrap_err();
        assert_eq!(error.to_string(), "loading y: gave up after 0 s");
    }
}
