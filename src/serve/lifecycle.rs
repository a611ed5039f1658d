//! Versions come and go: folders are polled, a complete version is loaded, then takes the traffic, then the old one
//! drains and its memory goes back. One thread decides; loading and draining have threads of their own.

use super::Journal;
use super::config::{ModelConfig, Policy, Source};
use super::failure::{Code, Failure};
use super::folder::{Fingerprint, fingerprint, versions};
use super::metrics::Metrics;
use super::queue::QueueOptions;
use super::registry::{Registry, State, Version};
use super::servable::{self, Servable};
use crate::format::mmap;
use crate::model::holds_record;
use anyhow::{Context, Result};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

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
        result: Result<Box<Servable>>,
        seconds: f64,
    },
    Unloaded {
        model: String,
        version: u64,
    },
    /// Read the config again, then look at the folders.
    Reload,
}

/// Loads at the same time.
const MOST_LOADS: usize = 2;
const LONGEST_WAIT: Duration = Duration::from_secs(64);
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
        registry: Arc<Registry>,
        metrics: Arc<Metrics>,
        journal: Journal,
    ) -> Result<Lifecycle> {
        let (sender, receiver) = channel();
        let configs = options.source.models()?;
        registry.change(|models| {
            for config in &configs {
                models.entry(config.name.clone()).or_default();
            }
        });
        let mut decider = Decider {
            read: file_text(&options.source),
            options,
            configs,
            registry,
            metrics,
            journal,
            events: sender.clone(),
            watches: BTreeMap::new(),
            complaints: BTreeMap::new(),
            loads: 0,
        };
        let thread = thread::Builder::new().name("lifecycle".into());
        thread.spawn(move || decider.run(&receiver)).context("cannot start a thread")?;
        Ok(Lifecycle { events: Mutex::new(sender) })
    }

    /// Reads the config file again, and looks at the folders now.
    pub fn reload(&self) {
        let _ = self.events.lock().unwrap_or_else(PoisonError::into_inner).send(Event::Reload);
    }
}

fn file_text(source: &Source) -> Option<String> {
    match source {
        Source::Models(_) => None,
        Source::File(path) => mmap::read_text(path).ok(),
    }
}

/// What is remembered of a version that is not available.
#[derive(Default)]
struct Watch {
    seen: Option<Fingerprint>,
    broken: Option<Broken>,
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
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    journal: Journal,
    events: Sender<Event>,
    watches: BTreeMap<(String, u64), Watch>,
    /// What was said last of a model or version, so that it is said once.
    complaints: BTreeMap<(String, Option<u64>), String>,
    loads: usize,
}

impl Decider {
    fn run(&mut self, receiver: &Receiver<Event>) {
        let mut next_config = self.options.config_poll.map(|poll| Instant::now() + poll);
        let mut next_poll = Some(Instant::now());
        loop {
            let now = Instant::now();
            if next_config.is_some_and(|next| next <= now) {
                self.reload(false);
                next_config = self.options.config_poll.map(|poll| now + poll);
            }
            if next_poll.is_some_and(|next| next <= now) {
                self.look();
                next_poll = self.options.poll.map(|poll| Instant::now() + poll);
            }
            let next = next_poll.into_iter().chain(next_config).min();
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
            Event::Loaded { model, version, result, seconds } => {
                self.loads -= 1;
                mmap::return_freed_memory();
                match result {
                    Ok(servable) => {
                        self.watches.remove(&(model.clone(), version));
                        self.complaints.remove(&(model.clone(), Some(version)));
                        self.say(&format!(
                            "{model} version {version}: available after {seconds:.2} s"
                        ));
                        let servable = Some(Arc::new(*servable));
                        self.set(&model, version, State::Available, None, servable);
                    }
                    Err(error) => self.failed(&model, version, &format!("{error:#}")),
                }
            }
            Event::Unloaded { model, version } => {
                self.say(&format!("{model} version {version}: unloaded"));
                self.metrics.forget(&model, version);
                self.set(&model, version, State::End, None, None);
            }
            Event::Reload => self.reload(true),
        }
    }

    /// A version could not be loaded. One whose files changed lately may be incomplete: it has time until they lie
    /// still.
    fn failed(&mut self, model: &str, version: u64, reason: &str) {
        let folder = self.folder_of(model, version);
        let now = folder.as_deref().and_then(|f| fingerprint(f).ok());
        let quiet = self.quiet_time();
        let watch = self.watches.entry((model.to_string(), version)).or_default();
        let changing = now.is_some_and(|now| watch.seen != Some(now) || !now.is_older_than(quiet));
        if changing || folder.is_none() {
            watch.seen = now;
            self.set(model, version, State::Start, None, None);
            let text =
                format!("{model} version {version}: waiting until it is complete ({reason})");
            return self.complain(model, Some(version), text);
        }
        let attempts = watch.broken.as_ref().map_or(0, |b| b.attempts) + 1;
        let wait = Duration::from_secs(1 << attempts.min(6)).min(LONGEST_WAIT);
        watch.broken = Some(Broken { seen: now, attempts, next: Instant::now() + wait });
        let ours = folder.as_deref().is_some_and(holds_record);
        let code = if ours { Code::DataLoss } else { Code::InvalidArgument };
        self.set(model, version, State::End, Some(Failure::new(code, reason)), None);
        let text = format!("{model} version {version}: cannot be loaded: {reason}");
        self.complain(model, Some(version), text);
    }

    fn quiet_time(&self) -> Duration {
        self.options.poll.map_or(Duration::ZERO, |poll| poll * 2)
    }

    fn folder_of(&self, model: &str, version: u64) -> Option<PathBuf> {
        let config = self.configs.iter().find(|c| c.name == model)?;
        versions(&config.base_path).ok()?.remove(&version)
    }

    fn set(
        &self,
        model: &str,
        version: u64,
        state: State,
        failure: Option<Failure>,
        servable: Option<Arc<Servable>>,
    ) {
        self.registry.change(|models| {
            let model = models.entry(model.to_string()).or_default();
            model.versions.insert(version, Version { state, failure, servable });
        });
    }

    fn reload(&mut self, asked: bool) {
        let Source::File(path) = &self.options.source else { return };
        let path = path.clone();
        let text = file_text(&self.options.source);
        if text == self.read && !asked {
            return;
        }
        match self.options.source.models() {
            Ok(models) => {
                self.say(&format!("{}: read again, {} models", path.display(), models.len()));
                self.configure(models);
                self.read = text;
            }
            Err(error) => {
                let text = format!("the config stays as it was: {error:#}");
                self.complain("", None, text);
            }
        }
    }

    fn configure(&mut self, models: Vec<ModelConfig>) {
        self.registry.change(|known| {
            for model in &models {
                known.entry(model.name.clone()).or_default();
            }
        });
        self.configs = models;
    }

    /// Looks at all folders and does what follows.
    fn look(&mut self) {
        for config in self.configs.clone() {
            self.look_at(&config);
        }
        let names: Vec<String> = self.registry.read(|models| models.keys().cloned().collect());
        for name in names {
            if self.configs.iter().all(|config| config.name != name) {
                self.unload_all_but(&name, &[]);
                self.registry.change(|models| {
                    let over = |v: &Version| matches!(v.state, State::Start | State::End);
                    if models.get(&name).is_some_and(|m| m.versions.values().all(over)) {
                        models.remove(&name);
                    }
                });
            }
        }
    }

    fn look_at(&mut self, config: &ModelConfig) {
        let name = &config.name;
        let folders = match versions(&config.base_path) {
            Ok(folders) => folders,
            Err(error) => {
                let path = config.base_path.display();
                let text = format!("{name}: cannot read {path}: {error}; what is served stays");
                return self.complain(name, None, text);
            }
        };
        self.complaints.remove(&(name.clone(), None));
        let mut wanted = vec![];
        for (&version, folder) in folders.iter().rev() {
            match &config.policy {
                Policy::Latest(count) if wanted.len() >= *count => break,
                Policy::Specific(versions) if !versions.contains(&version) => continue,
                _ => {}
            }
            let state = self
                .registry
                .read(|models| models.get(name)?.versions.get(&version).map(|v| v.state));
            let counts = match state {
                Some(State::Available | State::Loading) => true,
                Some(State::Unloading) => false,
                None | Some(State::Start | State::End) => self.offer(name, version, folder),
            };
            if counts {
                wanted.push(version);
            }
        }
        let available = self.registry.read(|models| {
            models.get(name).is_some_and(|m| wanted.iter().all(|v| m.is_available(*v)))
        });
        if folders.is_empty() || (!wanted.is_empty() && available) {
            self.unload_all_but(name, &wanted);
        }
        self.forget_ended(name, &folders);
        self.set_labels(config);
    }

    /// Whether the version is complete and may be tried; then it is, where threads are free.
    fn offer(&mut self, model: &str, version: u64, folder: &Path) -> bool {
        let quiet = self.quiet_time();
        let print = match fingerprint(folder) {
            Ok(print) => print,
            Err(error) => {
                let reason = format!("cannot read {}: {error}", folder.display());
                let failure = Failure::new(Code::Unavailable, reason.clone());
                self.set(model, version, State::Start, Some(failure), None);
                self.complain(model, Some(version), format!("{model} version {version}: {reason}"));
                return false;
            }
        };
        let watch = self.watches.entry((model.to_string(), version)).or_default();
        let still = watch.seen.replace(print) == Some(print) || print.is_older_than(quiet);
        let retry = match &watch.broken {
            Some(broken) if broken.seen == Some(print) => Instant::now() >= broken.next,
            Some(_) => still,
            None => true,
        };
        if !retry {
            return false;
        }
        let again = watch.broken.is_some();
        if !still && self.options.poll.is_some() && !holds_record(folder) {
            self.set(model, version, State::Start, None, None);
            return false;
        }
        if self.loads < MOST_LOADS {
            self.loads += 1;
            if !again {
                self.set(model, version, State::Loading, None, None);
            }
            self.load(model, version, folder);
        }
        true
    }

    fn load(&self, model: &str, version: u64, folder: &Path) {
        let (model, folder) = (model.to_string(), folder.to_path_buf());
        let (events, queue) = (self.events.clone(), self.options.queue.clone());
        let name = model.clone();
        let work = move || {
            let start = Instant::now();
            let result = servable::load(&model, version, &folder, &queue).map(Box::new);
            let seconds = start.elapsed().as_secs_f64();
            let _ = events.send(Event::Loaded { model, version, result, seconds });
        };
        if let Err(error) = thread::Builder::new().name("load".into()).spawn(work) {
            let result = Err(anyhow::Error::new(error).context("cannot start a thread"));
            let event = Event::Loaded { model: name, version, result, seconds: 0.0 };
            let _ = self.events.send(event);
        }
    }

    fn unload_all_but(&mut self, model: &str, wanted: &[u64]) {
        let old = self.registry.change(|models| {
            let Some(model) = models.get_mut(model) else { return vec![] };
            let old = model.versions.iter_mut().filter(|(number, version)| {
                version.state == State::Available && !wanted.contains(number)
            });
            old.map(|(number, version)| {
                version.state = State::Unloading;
                (*number, version.servable.take())
            })
            .collect()
        });
        for (version, servable) in old {
            let (model, events) = (model.to_string(), self.events.clone());
            let drain = move || {
                if let Some(servable) = servable {
                    drain(servable);
                }
                mmap::return_freed_memory();
                let _ = events.send(Event::Unloaded { model, version });
            };
            let thread = thread::Builder::new().name("drain".into());
            if thread.spawn(drain).is_err() {
                self.say("cannot start a thread: a version is dropped without draining");
            }
        }
    }

    /// Versions that are neither there nor served leave the status, but for the last ones that ended well.
    fn forget_ended(&mut self, model: &str, folders: &BTreeMap<u64, PathBuf>) {
        let gone: Vec<u64> = self.registry.change(|models| {
            let Some(model) = models.get_mut(model) else { return vec![] };
            let idle = |v: &Version| matches!(v.state, State::Start | State::End);
            let all = model.versions.iter();
            let mut gone: Vec<u64> = all
                .clone()
                .filter(|(n, v)| idle(v) && !folders.contains_key(n))
                .filter(|(_, v)| v.failure.is_some() || v.state == State::Start)
                .map(|(n, _)| *n)
                .collect();
            let ended = all.filter(|(_, v)| v.state == State::End && v.failure.is_none());
            let ended: Vec<u64> = ended.map(|(n, _)| *n).collect();
            let most = ended.len().saturating_sub(MOST_ENDED);
            gone.extend(ended.into_iter().take(most));
            gone.iter().for_each(|n| drop(model.versions.remove(n)));
            gone
        });
        for version in gone {
            self.watches.remove(&(model.to_string(), version));
            self.complaints.remove(&(model.to_string(), Some(version)));
        }
        self.watches.retain(|(name, version), _| name != model || folders.contains_key(version));
    }

    /// A label moves to its version when that is available.
    fn set_labels(&self, config: &ModelConfig) {
        let always = self.options.labels_of_unavailable;
        self.registry.change(|models| {
            let Some(model) = models.get_mut(&config.name) else { return };
            model.labels.retain(|label, _| config.labels.contains_key(label));
            for (label, version) in &config.labels {
                if always || model.is_available(*version) {
                    model.labels.insert(label.clone(), *version);
                }
            }
        });
    }
}

/// Waits until the last request that has it is answered, then ends its threads.
fn drain(mut servable: Arc<Servable>) {
    const PAUSE: Duration = Duration::from_millis(2);
    loop {
        match Arc::try_unwrap(servable) {
            Ok(servable) => return servable.end(),
            Err(still_used) => servable = still_used,
        }
        thread::sleep(PAUSE);
    }
}
