//! What the system asks of the process.

use anyhow::Result;

/// What a keeper of the server wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// SIGTERM, SIGINT
    End,
    /// SIGHUP
    Reload,
}

#[cfg(unix)]
pub struct Signals {
    end: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

#[cfg(unix)]
impl Signals {
    /// From now on signals are heard here and do not end the process.
    pub fn new() -> Result<Signals> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Signals {
            end: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    pub async fn next(&mut self) -> Asked {
        use std::task::Poll;
        std::future::poll_fn(|context| {
            if self.hang_up.poll_recv(context).is_ready() {
                return Poll::Ready(Asked::Reload);
            }
            let ends = [&mut self.end, &mut self.interrupt];
            match ends.into_iter().any(|signal| signal.poll_recv(context).is_ready()) {
                true => Poll::Ready(Asked::End),
                false => Poll::Pending,
            }
        })
        .await
    }
}

#[cfg(not(unix))]
pub struct Signals;

#[cfg(not(unix))]
impl Signals {
    pub fn new() -> Result<Signals> {
        Ok(Signals)
    }

    pub async fn next(&mut self) -> Asked {
        match tokio::signal::ctrl_c().await {
            Ok(()) => Asked::End,
            Err(_) => std::future::pending().await,
        }
    }
}
