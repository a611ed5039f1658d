//! From what lies in the folders to what is loaded, drained and forgotten.

use super::{Decider, Event, MOST_ENDED, MOST_LOADS, Origin};
use crate::format::mmap;
use crate::model::{holds_record, record_of};
use crate::serve::config::{ModelConfig, Policy};
use crate::serve::failure::{Code, Failure};
use crate::serve::folder::{fingerprint, identity, versions};
use crate::serve::queue::QueueOptions;
use crate::serve::registry::{State, Version};
use crate::serve::servable::{self, Servable};
use anyhow::{Result, anyhow};
use std::collections::{BTreeMap, BTreeSet};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

impl Decider {
    /// Looks at all folders and does what follows.
    pub(super) fn look(&mut self) {
        self.retry = None;
        self.coming.clear();
        for config in self.configs.clone() {
            self.look_at(&config);
        }
        self.complain_of_traffic();
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
        self.forget_requests();
        self.registry.set_settled(self.loading.is_empty() && self.coming.is_empty());
        for told in self.told.drain(..) {
            let _ = told.send(());
        }
    }

    /// The metrics of versions that are gone.
    fn forget_requests(&self) {
        let served: BTreeMap<String, BTreeSet<u64>> = self.registry.read(|models| {
            let over = |v: &Version| matches!(v.state, State::Start | State::End);
            let all = models.iter().map(|(name, model)| {
                let served = model.versions.iter().filter(|(_, v)| !over(v));
                (name.clone(), served.map(|(number, _)| *number).collect())
            });
            all.collect()
        });
        self.metrics.keep(|model, version| served.get(model).is_some_and(|v| v.contains(&version)));
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
        match folders.is_empty() {
            true => {
                let path = config.base_path.display();
                let text = format!("{name}: no version folder such as 0001 is in {path} yet");
                self.complain(name, None, text);
            }
            false => drop(self.complaints.remove(&(name.clone(), None))),
        }
        let named = self.traffic.versions_of(name);
        let (mut by_policy, mut only_named) = (vec![], vec![]);
        for (&version, folder) in folders.iter().rev() {
            let is_by_policy = match &config.policy {
                Policy::Latest(count) => by_policy.len() < *count,
                Policy::Specific(versions) => versions.contains(&version),
                Policy::All => true,
            };
            if !is_by_policy && !named.contains(&version) {
                continue;
            }
            let counts = match self.state_of(name, version) {
                Some(State::Available) => {
                    self.look_for_another(name, version, folder);
                    true
                }
                Some(State::Loading) => true,
                Some(State::Unloading) => {
                    self.coming.insert((name.clone(), version));
                    false
                }
                None | Some(State::Start | State::End) => self.offer(name, version, folder, false),
            };
            match counts {
                true if is_by_policy => by_policy.push(version),
                true => only_named.push(version),
                false => {}
            }
        }
        self.mark(name, &by_policy, &only_named);
        // before what they named until now goes
        self.set_labels(config);
        let wanted = [by_policy, only_named].concat();
        let available = self.registry.read(|models| {
            models.get(name).is_some_and(|m| wanted.iter().all(|v| m.is_available(*v)))
        });
        let quiet = self.quiet_time();
        let emptied = match folders.is_empty() {
            // a folder that is replaced by two renames is away for a moment
            true => self.empty.entry(name.clone()).or_insert_with(Instant::now).elapsed() >= quiet,
            false => {
                self.empty.remove(name);
                false
            }
        };
        if emptied || (!wanted.is_empty() && available) {
            self.unload_all_but(name, &wanted);
            self.set_labels(config);
        }
        self.forget_ended(name, &folders);
    }

    /// Tells which versions are there for those alone who name them. One that answers everybody does so until another
    /// can.
    fn mark(&self, model: &str, by_policy: &[u64], only_named: &[u64]) {
        self.registry.change(|models| {
            let Some(model) = models.get_mut(model) else { return };
            let others = !by_policy.is_empty() && by_policy.iter().all(|v| model.is_available(*v));
            let answers =
                |v: &u64| !others && model.is_available(*v) && !model.only_named.contains(v);
            let new: Vec<u64> = only_named.iter().copied().filter(|v| !answers(v)).collect();
            model.only_named.extend(new);
            let versions = &model.versions;
            model.only_named.retain(|v| !by_policy.contains(v) && versions.contains_key(v));
        });
    }

    /// Loads an available version again where another folder, or another record of ours, lies in its place. Files that
    /// were overwritten one by one are not looked for: they would be loaded half-copied.
    fn look_for_another(&mut self, model: &str, version: u64, folder: &Path) {
        let key = (model.to_string(), version);
        let Ok(now) = identity(folder, &record_of(folder)) else { return };
        let Some(origin) = self.origins.get_mut(&key).filter(|_| !self.replacing.contains(&key))
        else {
            return;
        };
        let mut same = origin.folder == folder && origin.identity == Some(now);
        if !same && origin.folder == folder && fingerprint(folder).ok() == origin.print {
            // some file systems give a folder a new number each time
            origin.identity = Some(now);
            same = true;
        }
        if !same {
            self.offer(model, version, folder, true);
        } else if self.watches.remove(&key).is_some() {
            self.complaints.remove(&(model.to_string(), Some(version)));
            self.set_unless_served(model, version, State::Start, None);
        }
    }

    /// Whether the version is complete and may be tried; then it is, where threads are free. One that is `served` stays
    /// available until its successor is.
    fn offer(&mut self, model: &str, version: u64, folder: &Path, served: bool) -> bool {
        let key = (model.to_string(), version);
        if self.loading.contains(&key) {
            return true;
        }
        let not_before = self.watches.get(&key).and_then(|watch| watch.not_before);
        if let Some(time) = not_before.filter(|time| Instant::now() < *time) {
            self.retry = Some(self.retry.map_or(time, |other| other.min(time)));
            self.coming.insert(key);
            return false;
        }
        let quiet = self.quiet_time();
        let print = match fingerprint(folder) {
            Ok(print) => print,
            Err(error) => {
                let reason = format!("cannot read {}: {error}", folder.display());
                let failure = Failure::new(Code::Unavailable, reason.clone());
                self.set_unless_served(model, version, State::Start, Some(failure));
                self.complain(model, Some(version), format!("{model} version {version}: {reason}"));
                return false;
            }
        };
        let watch = self.watches.entry(key.clone()).or_default();
        let since = match watch.seen {
            Some((seen, since)) if seen == print => since,
            _ => Instant::now(),
        };
        watch.seen = Some((print, since));
        let still = since.elapsed() >= quiet / 2 || print.is_older_than(quiet);
        let retry = match &watch.broken {
            Some(broken) if broken.seen == Some(print) => Instant::now() >= broken.next,
            Some(_) => still,
            None => true,
        };
        if !retry {
            // one that is broken and has not changed is not waited for
            if watch.broken.as_ref().is_some_and(|broken| broken.seen != Some(print)) {
                self.coming.insert(key);
            }
            return false;
        }
        let again = watch.broken.is_some();
        if !still && self.options.poll.is_some() && !holds_record(folder) {
            self.set_unless_served(model, version, State::Start, None);
            self.coming.insert(key);
            return false;
        }
        if self.loading.len() < MOST_LOADS {
            self.loading.insert(key.clone());
            if served {
                self.replacing.insert(key);
            } else if !again {
                self.set(model, version, State::Loading, None);
            }
            self.load(model, version, folder);
        }
        true
    }

    fn load(&self, model: &str, version: u64, folder: &Path) {
        let (model, folder) = (model.to_string(), folder.to_path_buf());
        let (events, queue) = (self.events.clone(), self.options.queue.clone());
        let name = model.clone();
        // before anything is read: what changes meanwhile is seen later
        let origin = Origin {
            folder: folder.clone(),
            identity: identity(&folder, &record_of(&folder)).ok(),
            print: fingerprint(&folder).ok(),
        };
        let failed = origin.clone();
        let work = move || {
            let start = Instant::now();
            let result = loaded(&model, version, &folder, &queue).map(Box::new);
            let seconds = start.elapsed().as_secs_f64();
            let _ = events.send(Event::Loaded { model, version, origin, result, seconds });
        };
        if let Err(error) = thread::Builder::new().name("load".into()).spawn(work) {
            let result = Err(anyhow::Error::new(error).context("cannot start a thread"));
            let event =
                Event::Loaded { model: name, version, origin: failed, result, seconds: 0.0 };
            let _ = self.events.send(event);
        }
    }

    pub(super) fn unload_all_but(&mut self, model: &str, wanted: &[u64]) {
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
            self.retire(servable, Event::Unloaded { model: model.to_string(), version });
        }
    }

    /// Drains what no request can find any more, then says so.
    pub(super) fn retire(&self, servable: Option<Arc<Servable>>, then: Event) {
        let told = AtEnd { events: self.events.clone(), event: Some(then) };
        let drain = move || {
            if let Some(servable) = servable {
                drain(servable);
            }
            mmap::return_freed_memory();
            drop(told);
        };
        let thread = thread::Builder::new().name("drain".into());
        if thread.spawn(drain).is_err() {
            self.say("cannot start a thread: a version is dropped without draining");
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

    /// A label moves to its version when that is available. One that leads nowhere yet may name another with the flag for
    /// that, as in TensorFlow Serving.
    fn set_labels(&mut self, config: &ModelConfig) {
        let always = self.options.labels_of_unavailable;
        let more_comes = !self.loading.is_empty();
        let coming = &self.coming;
        let comes = |version| more_comes || coming.contains(&(config.name.clone(), version));
        let stuck = self.registry.change(|models| {
            let Some(model) = models.get_mut(&config.name) else { return vec![] };
            model.labels.retain(|label, _| config.labels.contains_key(label));
            model.stuck_labels.clear();
            model.coming_labels.clear();
            let mut stuck = vec![];
            for (label, version) in &config.labels {
                let now = model.labels.get(label).copied();
                let state = model.versions.get(version).map(|v| v.state);
                let may = always && now.is_none_or(|now| now == *version);
                if state == Some(State::Available) || may {
                    model.labels.insert(label.clone(), *version);
                } else if comes(*version) {
                    model.coming_labels.insert(label.clone());
                } else {
                    model.stuck_labels.insert(label.clone(), *version);
                    let place = match now.filter(|now| model.is_available(*now)) {
                        Some(now) => format!("stays at version {now}"),
                        None => "leads nowhere".into(),
                    };
                    stuck.push(format!(
                        "label '{label}' {place}: version {version} is not available"
                    ));
                }
            }
            stuck
        });
        let key = format!("labels of {}", config.name);
        match stuck.is_empty() {
            true if more_comes => {}
            true => drop(self.complaints.remove(&(key, None))),
            false => self.complain(&key, None, format!("{}: {}", config.name, stuck.join("; "))),
        }
    }
}

/// Sends an event when it is dropped: also where the thread that should do so cannot start.
struct AtEnd {
    events: Sender<Event>,
    event: Option<Event>,
}

impl Drop for AtEnd {
    fn drop(&mut self) {
        if let Some(event) = self.event.take() {
            let _ = self.events.send(event);
        }
    }
}

/// The version, or why there is none: whatever happens, the deciding thread is told.
fn loaded(model: &str, version: u64, folder: &Path, queue: &QueueOptions) -> Result<Servable> {
    let load = || servable::load(model, version, folder, queue);
    panic::catch_unwind(AssertUnwindSafe(load)).unwrap_or_else(|said| {
        let text = said.downcast_ref::<String>().map(String::as_str);
        let text = text.or(said.downcast_ref::<&str>().copied()).unwrap_or_default();
        Err(anyhow!("loading {} ended in a panic: {text}", folder.display()))
    })
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

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::channel;

    #[test]
    fn the_end_is_told_of_though_its_thread_cannot_start() {
        let (events, receiver) = channel();
        let told = AtEnd { events, event: Some(Event::Unloaded { model: "a".into(), version: 3 }) };
        let work = move || drop(told);
        // what becomes of it in `Builder::spawn` then
        drop(work);
        let event = receiver.recv().unwrap();
        assert!(matches!(event, Event::Unloaded { model, version: 3 } if model == "a"));
        assert!(receiver.recv().is_err());
    }
}
