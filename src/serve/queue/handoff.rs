//! How the threads that speak with clients and those that run a model wake each other: as seldom as they can. A switch
//! of threads costs as much as the run of a small model, so requests that come together are told of once, and the
//! answers of short runs that follow each other go back together.

use super::{Reply, Shared, State};
use std::cell::RefCell;
use std::mem::take;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;
use tokio::sync::oneshot::Sender;

thread_local! {
    /// On a thread that speaks with clients: the queues that have new requests, and a model's thread that waits.
    static UNTOLD: RefCell<Option<Vec<Arc<Shared>>>> = const { RefCell::new(None) };
    /// On a model's thread.
    static HELD: RefCell<Held> = const { RefCell::new(Held { replies: vec![], first: None }) };
}

/// Requests that may wait in a queue before a model's thread is told of them at once.
const MOST_UNTOLD: usize = 16;

/// Tells the models' threads of the requests that came; to be called on a thread that speaks with clients, before it
/// waits.
pub fn tell() {
    UNTOLD.with_borrow_mut(|untold| match untold {
        Some(queues) => queues.drain(..).for_each(|shared| shared.wake_idle()),
        None => *untold = Some(vec![]),
    });
}

impl Shared {
    /// A request was put in the queue: sees to it that a thread that waits is told, when this one has done what it has
    /// to do.
    pub(super) fn wake_soon(self: &Arc<Shared>, waiting: usize) {
        if self.idle.load(Relaxed) == 0 {
            // each looks into the queue before it waits
            return;
        }
        let kept = waiting < MOST_UNTOLD
            && UNTOLD.with_borrow_mut(|untold| {
                let Some(queues) = untold else { return false };
                if !queues.iter().any(|other| Arc::ptr_eq(other, self)) {
                    queues.push(self.clone());
                }
                true
            });
        if !kept {
            self.wake.notify_one();
        }
    }

    fn wake_idle(&self) {
        let waiting = self.lock().jobs.len();
        (0..waiting.min(self.idle.load(Relaxed))).for_each(|_| self.wake.notify_one());
    }

    /// Waits to be woken.
    pub(super) fn wait<'a>(&self, state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        self.idle.fetch_add(1, Relaxed);
        let state = self.wake.wait(state).unwrap_or_else(PoisonError::into_inner);
        self.idle.fetch_sub(1, Relaxed);
        state
    }
}

/// Answers that are not sent yet.
struct Held {
    replies: Vec<(Sender<Reply>, Reply)>,
    first: Option<Instant>,
}

/// Runs that take longer are worth a switch of threads each.
const SHORT: Duration = Duration::from_micros(50);
/// For an answer to be held.
const LONGEST_HELD: Duration = Duration::from_micros(200);
/// Runs of more rows begin when all answers are sent.
pub const FEW_ROWS: usize = 8;

/// Keeps an answer until one of the functions below sends it.
pub fn hold(to: Sender<Reply>, reply: Reply) {
    HELD.with_borrow_mut(|held| {
        held.first.get_or_insert_with(Instant::now);
        held.replies.push((to, reply));
    });
}

pub fn holds() -> bool {
    HELD.with_borrow(|held| !held.replies.is_empty())
}

/// Sends what is held after a run that began at `start`, unless it was short, and more may follow.
pub fn send_after(start: Instant) {
    let now = Instant::now();
    let first = HELD.with_borrow(|held| held.first.unwrap_or(now));
    if now - start > SHORT || now - first > LONGEST_HELD {
        send();
    }
}

/// Sends what is held before a run that takes so long, as far as that is known, unless it is over in time.
pub fn send_before(run: Option<Duration>) {
    let first = HELD.with_borrow(|held| held.first);
    let held = first.map_or(Duration::ZERO, |first| first.elapsed());
    if run.is_none_or(|run| held + run > LONGEST_HELD) {
        send();
    }
}

/// Sends what is held.
pub fn send() {
    let replies = HELD.with_borrow_mut(|held| {
        held.first = None;
        take(&mut held.replies)
    });
    match replies.len() {
        0 => {}
        1 => replies.into_iter().for_each(|(to, reply)| drop(to.send(reply))),
        _ => POST.send(replies),
    }
}

/// Takes answers to where they are awaited: one thread is woken for all of them, and none of them while it is
/// interrupted by the first.
struct Post {
    replies: Mutex<Vec<(Sender<Reply>, Reply)>>,
    more: Notify,
    carriers: AtomicUsize,
}

static POST: Post =
    Post { replies: Mutex::new(vec![]), more: Notify::const_new(), carriers: AtomicUsize::new(0) };

impl Post {
    fn lock(&self) -> MutexGuard<'_, Vec<(Sender<Reply>, Reply)>> {
        self.replies.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn send(&self, replies: Vec<(Sender<Reply>, Reply)>) {
        self.lock().extend(replies);
        match self.carriers.load(Relaxed) {
            0 => self.deliver(),
            _ => self.more.notify_one(),
        }
    }

    fn deliver(&self) {
        let replies = take(&mut *self.lock());
        replies.into_iter().for_each(|(to, reply)| drop(to.send(reply)));
    }
}

/// Carries answers to the tasks that await them, on a thread that speaks with clients, as long as it is polled.
pub async fn carry() {
    struct Carrier;
    impl Drop for Carrier {
        fn drop(&mut self) {
            POST.carriers.fetch_sub(1, Relaxed);
            POST.deliver();
        }
    }
    POST.carriers.fetch_add(1, Relaxed);
    let _carrier = Carrier;
    loop {
        POST.more.notified().await;
        POST.deliver();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::sync::oneshot::channel;

    #[test]
    fn answers_of_short_runs_go_back_together() {
        let long_ago = Instant::now() - SHORT * 2;
        let (to, mut reply) = channel();
        hold(to, Ok(vec![]));
        send_after(Instant::now());
        send_before(Some(SHORT));
        assert!(holds() && reply.try_recv().is_err());
        let (to, next) = channel();
        hold(to, Ok(vec![]));
        send_after(long_ago);
        assert!(!holds());
        assert!(reply.blocking_recv().unwrap().is_ok() && next.blocking_recv().unwrap().is_ok());
        for next in [None, Some(LONGEST_HELD)] {
            let (to, reply) = channel();
            hold(to, Ok(vec![]));
            send_before(next);
            assert!(!holds() && reply.blocking_recv().unwrap().is_ok());
        }
    }
}
