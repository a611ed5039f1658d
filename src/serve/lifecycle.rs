//! Versions come and go: folders are polled, a complete version is loaded, then takes the traffic, then the old one
//! drains and its memory goes back. One thread decides; loading and draining have threads of their own.

mod look;
mod reload;
#[cfg(test)]
mod tests;

use super::Journal;
use super::config::{ModelConfig, Source};
use super::failure::{Code, Failure};
use super::folder::{Fingerprint, Identity, fingerprint, versions};
use super::metrics::Metrics;
use super::queue::QueueOptions;
use super::registry::{Registry, State, Version};
use super::servable::Servable;
use super::traffic::Traffic;
use super::traffic::rules::TrafficSource;
use crate::format::mmap;
use crate::model::holds_record;
use anyhow::{Context, Result};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

#[derive(Debug, Clone)]
pub struct LifecycleOptions {
    pub source: Source,
    /// How often the folders are looked at; once where absent.
    pub poll: Option<Duration>,
    /// How often the config file is looked at; never where absent.
    pub config_poll: Option<Duration>,
    pub labels_of_unavailable: bool,
    pub queue: QueueOptions,
}

/// What the deciding thread is told.
enum Event {
    Loaded {
        model: String,
        version: u64,
        origin: Origin,
        result: Result<Box<Servable>>,
        seconds: f64,
    },
    /// What no version is any more is gone: this is to be said.
    Drained(String),
    Unloaded {
        model: String,
        version: u64,
    },
    /// Read the config again, then look at the folders.
    Reload,
    /// Who sent it is told when that was done.
    Configure(Vec<ModelConfig>, oneshot::Sender<()>),
}

/// Loads at the same time.
const MOST_LOADS: usize = 2;
const LONGEST_WAIT: Duration = Duration::from_secs(64);
/// A version whose files are still coming is tried again by then.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// Versions that ended stay in the status, up to so many.
const MOST_ENDED: usize = 16;

/// The way to the deciding thread.
pub struct Lifecycle {
    events: Mutex<Sender<Event>>,
}

impl Lifecycle {
    /// Begins to serve.
    ///
    /// # Errors
    /// The config cannot be read.
    pub fn start(
        options: LifecycleOptions,
        traffic: Arc<Traffic>,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        journal: Journal,
    ) -> Result<Lifecycle> {
        let (sender, receiver) = channel();
        let mut decider =
            Decider::new(options, traffic, registry, metrics, journal, sender.clone())?;
        let thread = thread::Builder::new().name("lifecycle".into());
        thread.spawn(move || decider.run(&receiver)).context("cannot start a thread")?;
        Ok(Lifecycle { events: Mutex::new(sender) })
    }

    /// Reads the config file again, and looks at the folders now.
    pub fn reload(&self) {
        self.send(Event::Reload);
    }

    /// Serves these models, and no others, from now on. The answer comes when that is so of what is loaded, and the rest
    /// is being loaded.
    pub fn configure(&self, models: Vec<ModelConfig>) -> oneshot::Receiver<()> {
        let (done, receiver) = oneshot::channel();
        self.send(Event::Configure(models, done));
        receiver
    }

    fn send(&self, event: Event) {
        let _ = self.events.lock().unwrap_or_else(PoisonError::into_inner).send(event);
    }
}

fn traffic_text(source: &TrafficSource) -> Option<String> {
    match source {
        TrafficSource::Flags { .. } => None,
        TrafficSource::File(path) => mmap::read_text(path).ok(),
    }
}

/// What is remembered of a version that is not available.
#[derive(Default)]
struct Watch {
    /// What its files look like, and since when they have.
    seen: Option<(Fingerprint, Instant)>,
    broken: Option<Broken>,
    /// It failed while its files were changing, so many times.
    tries: u32,
    /// And is not tried again before.
    not_before: Option<Instant>,
}

/// What a version was loaded from.
#[derive(Debug, Clone, PartialEq)]
struct Origin {
    folder: PathBuf,
    identity: Option<Identity>,
    print: Option<Fingerprint>,
}

struct Broken {
    seen: Option<Fingerprint>,
    attempts: u32,
    next: Instant,
}

struct Decider {
    options: LifecycleOptions,
    configs: Vec<ModelConfig>,
    /// The config file's text as it was taken.
    read: Option<String>,
    traffic: Arc<Traffic>,
    read_traffic: Option<String>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    journal: Journal,
    events: Sender<Event>,
    watches: BTreeMap<(String, u64), Watch>,
    /// What was said last of a model or version, so that it is said once.
    complaints: BTreeMap<(String, Option<u64>), String>,
    /// Of the versions that are available.
    origins: BTreeMap<(String, u64), Origin>,
    /// Versions that are available and loaded again from what has taken the place of their folder.
    replacing: BTreeSet<(String, u64)>,
    /// Models without any version folder, and since when.
    empty: BTreeMap<String, Instant>,
    /// Versions that a thread loads now, whatever their state.
    loading: BTreeSet<(String, u64)>,
    /// Versions that are wanted and wait: for their files to lie still, for what they were before to be gone, for a thread.
    /// As of the last look.
    coming: BTreeSet<(String, u64)>,
    /// When a version that waits for its files is to be tried again, the first of them.
    retry: Option<Instant>,
    /// Who is to hear that the folders were looked at.
    told: Vec<oneshot::Sender<()>>,
}

impl Decider {
    fn new(
        options: LifecycleOptions,
        traffic: Arc<Traffic>,
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        journal: Journal,
        events: Sender<Event>,
    ) -> Result<Decider> {
        let (configs, read) = options.source.read()?;
        let mut decider = Decider {
            read,
            read_traffic: traffic_text(traffic.source()),
            traffic,
            options,
            configs: vec![],
            registry,
            metrics,
            journal,
            events,
            watches: BTreeMap::new(),
            complaints: BTreeMap::new(),
            origins: BTreeMap::new(),
            replacing: BTreeSet::new(),
            empty: BTreeMap::new(),
            loading: BTreeSet::new(),
            coming: BTreeSet::new(),
            retry: None,
            told: vec![],
        };
        if let Some(configs) = configs {
            decider.configure(configs);
        }
        Ok(decider)
    }

    fn run(&mut self, receiver: &Receiver<Event>) {
        let mut next_config = self.options.config_poll.map(|poll| Instant::now() + poll);
        let mut next_poll = Some(Instant::now());
        loop {
            let now = Instant::now();
            if next_config.is_some_and(|next| next <= now) {
                self.reload(false);
                next_config = self.options.config_poll.map(|poll| now + poll);
            }
            if next_poll.into_iter().chain(self.retry).any(|next| next <= now) {
                self.look();
                next_poll = self.options.poll.map(|poll| Instant::now() + poll);
            }
            let next = next_poll.into_iter().chain(next_config).chain(self.retry).min();
            let wait = next.map_or(LONGEST_WAIT, |n| n.saturating_duration_since(Instant::now()));
            match receiver.recv_timeout(wait) {
                Ok(event) => self.take(event),
                Err(RecvTimeoutError::Timeout) => continue,
                Err(RecvTimeoutError::Disconnected) => return,
            }
            while let Ok(event) = receiver.try_recv() {
                self.take(event);
            }
            self.look();
        }
    }

    fn say(&self, text: &str) {
        (self.journal)(text);
    }

    fn complain(&mut self, model: &str, version: Option<u64>, text: String) {
        let said = self.complaints.entry((model.to_string(), version)).or_default();
        if *said != text {
            (self.journal)(&text);
            *said = text;
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Loaded { model, version, origin, result, seconds } => {
                self.loading.remove(&(model.clone(), version));
                mmap::return_freed_memory();
                match result {
                    Ok(servable) => self.loaded(&model, version, origin, *servable, seconds),
                    Err(error) => {
                        self.replacing.remove(&(model.clone(), version));
                        self.failed(&model, version, &format!("{error:#}"));
                    }
                }
            }
            Event::Drained(text) => self.say(&text),
            Event::Unloaded { model, version } => {
                self.say(&format!("{model} version {version}: unloaded"));
                self.unloaded(&model, version);
            }
            Event::Reload => self.reload(true),
            Event::Configure(models, done) => {
                self.configure(models);
                self.told.push(done);
            }
        }
    }

    fn loaded(
        &mut self,
        model: &str,
        version: u64,
        origin: Origin,
        servable: Servable,
        seconds: f64,
    ) {
        let key = (model.to_string(), version);
        let replaces = self.replacing.remove(&key);
        self.watches.remove(&key);
        self.complaints.remove(&(model.to_string(), Some(version)));
        if self.state_of(model, version) == Some(State::Unloading) {
            // it may come back when what it was before is gone
            let text = format!("{model} version {version}: its new files came too late");
            return self.retire(Some(Arc::new(servable)), Event::Drained(text));
        }
        self.origins.insert(key, origin);
        let again = if replaces { "its new files are " } else { "" };
        self.say(&format!("{model} version {version}: {again}available after {seconds:.2} s"));
        self.set(model, version, State::Available, Some(Arc::new(servable)));
    }

    fn unloaded(&mut self, model: &str, version: u64) {
        let ended = self.registry.change(|models| {
            let own = models.get_mut(model).and_then(|m| m.versions.get_mut(&version));
            let own = own.filter(|own| own.state == State::Unloading);
            own.map(|own| *own = Version { state: State::End, failure: None, servable: None })
        });
        if ended.is_some() {
            self.origins.remove(&(model.to_string(), version));
        }
    }

    /// A version could not be loaded. One whose files changed lately may be incomplete: it has time until they lie
    /// still.
    fn failed(&mut self, model: &str, version: u64, reason: &str) {
        let folder = self.folder_of(model, version);
        let now = folder.as_deref().and_then(|f| fingerprint(f).ok());
        let quiet = self.quiet_time();
        let pause = self.options.poll.unwrap_or(Duration::from_secs(1));
        let watch = self.watches.entry((model.to_string(), version)).or_default();
        let seen = watch.seen.map(|(seen, _)| seen);
        let changing = now.is_some_and(|now| seen != Some(now) || !now.is_older_than(quiet));
        if changing || folder.is_none() {
            let pause = pause.saturating_mul(1 << watch.tries.min(8)).min(LONGEST_PAUSE);
            watch.tries += 1;
            watch.not_before = Some(Instant::now() + pause);
            self.set_unless_served(model, version, State::Start, None);
            let text =
                format!("{model} version {version}: waiting until it is complete ({reason})");
            return self.complain(model, Some(version), text);
        }
        let attempts = watch.broken.as_ref().map_or(0, |b| b.attempts) + 1;
        let wait = Duration::from_secs(1 << attempts.min(6)).min(LONGEST_WAIT);
        (watch.tries, watch.not_before) = (0, None);
        watch.broken = Some(Broken { seen: now, attempts, next: Instant::now() + wait });
        let ours = folder.as_deref().is_some_and(holds_record);
        let code = if ours { Code::DataLoss } else { Code::InvalidArgument };
        self.set_unless_served(model, version, State::End, Some(Failure::new(code, reason)));
        let text = format!("{model} version {version}: cannot be loaded: {reason}");
        self.complain(model, Some(version), text);
    }

    /// Files that have not changed for so long lie still.
    fn quiet_time(&self) -> Duration {
        self.options.poll.map_or(Duration::ZERO, |poll| poll * 2)
    }

    fn folder_of(&self, model: &str, version: u64) -> Option<PathBuf> {
        let config = self.configs.iter().find(|c| c.name == model)?;
        versions(&config.base_path).ok()?.remove(&version)
    }

    fn state_of(&self, model: &str, version: u64) -> Option<State> {
        self.registry.read(|models| models.get(model)?.versions.get(&version).map(|v| v.state))
    }

    /// What the version was before drains.
    fn set(&self, model: &str, version: u64, state: State, servable: Option<Arc<Servable>>) {
        let old = self.registry.change(|models| {
            let model = models.entry(model.to_string()).or_default();
            model.has_answered |= state == State::Available;
            model.versions.insert(version, Version { state, failure: None, servable })
        });
        if let Some(old) = old.and_then(|old| old.servable) {
            let text = format!("{model} version {version}: its old files are unloaded");
            self.retire(Some(old), Event::Drained(text));
        }
    }

    /// A version that is available stays so, with a note of what is wrong with the files that have taken its place; one
    /// that drains goes on with that.
    fn set_unless_served(&self, model: &str, version: u64, state: State, failure: Option<Failure>) {
        self.registry.change(|models| {
            let versions = &mut models.entry(model.to_string()).or_default().versions;
            match versions.get_mut(&version) {
                Some(drained) if drained.state == State::Unloading => {}
                Some(served) if served.state == State::Available => {
                    served.failure = failure.map(|failure| {
                        let text = "its files were replaced by ones that cannot be loaded, and what was loaded before answers";
                        Failure::new(Code::Ok, format!("{text}: {}", failure.message))
                    });
                }
                _ => drop(versions.insert(version, Version { state, failure, servable: None })),
            }
        });
    }
}
