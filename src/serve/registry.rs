//! Which versions there are and what state each is in; what requests look up. Changed by the lifecycle alone.

use super::config::ModelConfig;
use super::failure::{Answer, Code, Failure};
use super::metrics::QueueMetrics;
use super::servable::Servable;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::{Arc, PoisonError, RwLock};

/// TensorFlow Serving's states of a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Seen, but not complete yet.
    Start,
    Loading,
    Available,
    Unloading,
    End,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            State::Start => "START",
            State::Loading => "LOADING",
            State::Available => "AVAILABLE",
            State::Unloading => "UNLOADING",
            State::End => "END",
        }
    }
}

/// One version as the status shows it.
#[derive(Debug, Clone)]
pub struct Version {
    pub state: State,
    /// Why it is not available, where something is wrong.
    pub failure: Option<Failure>,
    pub servable: Option<Arc<Servable>>,
}

#[derive(Debug, Default)]
pub struct Model {
    /// Of the present config; another is here until nothing of it is left.
    pub configured: bool,
    /// A version of it has been available.
    pub has_answered: bool,
    pub versions: BTreeMap<u64, Version>,
    pub labels: BTreeMap<String, u64>,
    /// Labels of the config whose version is not there and does not come, so that they stay where they were.
    pub stuck_labels: BTreeMap<String, u64>,
    /// Labels whose version is on its way.
    pub coming_labels: BTreeSet<String>,
    /// Versions that are here because the traffic names them: who names none gets none of them.
    pub only_named: BTreeSet<u64>,
}

impl Model {
    pub fn is_available(&self, version: u64) -> bool {
        self.versions.get(&version).is_some_and(|v| v.state == State::Available)
    }

    /// The version that answers who names none.
    pub fn newest(&self) -> Option<&Arc<Servable>> {
        let versions = self.versions.iter().rev();
        let mut own = versions.filter(|(number, _)| !self.only_named.contains(number));
        own.find_map(|(_, version)| available(version))
    }
}

/// Which version of a model a request wants.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wanted {
    Latest,
    Version(u64),
    Label(String),
}

#[derive(Debug, Default)]
pub struct Registry {
    models: RwLock<BTreeMap<String, Model>>,
    /// A config has been read.
    is_configured: AtomicBool,
    was_ready: AtomicBool,
    settled: AtomicBool,
}

impl Registry {
    pub fn change<T>(&self, work: impl FnOnce(&mut BTreeMap<String, Model>) -> T) -> T {
        work(&mut self.models.write().unwrap_or_else(PoisonError::into_inner))
    }

    pub fn read<T>(&self, work: impl FnOnce(&BTreeMap<String, Model>) -> T) -> T {
        work(&self.models.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The version that answers.
    ///
    /// # Errors
    /// TensorFlow Serving's texts.
    pub fn find(&self, name: &str, wanted: &Wanted) -> Answer<Arc<Servable>> {
        self.read(|models| {
            let model = models.get(name);
            let wanted = match wanted {
                Wanted::Latest => None,
                Wanted::Version(version) => Some(*version),
                Wanted::Label(label) => Some(version_of(model, label)?),
            };
            let found = model.and_then(|model| match wanted {
                None => model.newest(),
                Some(version) => model.versions.get(&version).and_then(available),
            });
            found.cloned().ok_or_else(|| {
                let request = match wanted {
                    None => format!("Latest({name})"),
                    Some(version) => format!("Specific({name}, {version})"),
                };
                let message = format!("Servable not found for request: {request}");
                Failure::new(Code::NotFound, message)
            })
        })
    }

    /// The states of a model's versions, the newest first.
    ///
    /// # Errors
    /// TensorFlow Serving's texts.
    pub fn status(&self, name: &str, wanted: &Wanted) -> Answer<Vec<(u64, Version)>> {
        let not_found = |message: String| Failure::new(Code::NotFound, message);
        self.read(|models| {
            let model = models.get(name);
            let all = || model.iter().flat_map(|m| m.versions.iter().rev());
            let version = match wanted {
                Wanted::Latest => {
                    let all: Vec<_> = all().map(|(number, v)| (*number, v.clone())).collect();
                    return match all.is_empty() {
                        true => {
                            let message = format!("Could not find any versions of model {name}");
                            Err(not_found(message))
                        }
                        false => Ok(all),
                    };
                }
                Wanted::Version(version) => *version,
                Wanted::Label(label) => version_of(model, label)?,
            };
            let found = model.and_then(|m| m.versions.get(&version)).cloned();
            let missing = || not_found(format!("Could not find version {version} of model {name}"));
            Ok(vec![(version, found.ok_or_else(missing)?)])
        })
    }

    /// Whether every model of the present config has a version that answers. Once that was so, a model that comes later
    /// counts when it has answered: one that cannot be loaded must not take the others' traffic away.
    pub fn is_ready(&self) -> bool {
        let ready = |m: &Model, later: bool| {
            !m.configured || m.newest().is_some() || (later && !m.has_answered)
        };
        if self.was_ready.load(Relaxed) {
            return self.read(|models| models.values().all(|m| ready(m, true)));
        }
        let now = self.is_configured.load(Relaxed)
            && self.read(|models| models.values().all(|m| ready(m, false)));
        self.was_ready.fetch_or(now, Relaxed);
        now
    }

    /// Whether each of these models answers and each of its labels leads where it should.
    ///
    /// # Errors
    /// TensorFlow Serving's texts: it does not, and nothing is being loaded that could change that.
    pub fn is_in_force(&self, configs: &[ModelConfig]) -> Answer<bool> {
        // before the states: these are at least as new
        let settled = self.settled.load(Acquire);
        self.read(|models| {
            let lost: Vec<String> = configs
                .iter()
                .filter_map(|config| lost(&config.name, models.get(&config.name)))
                .collect();
            if settled && !lost.is_empty() {
                let message = format!("Some models did not become available: {{{}}}", lost.concat());
                return Err(Failure::new(Code::Unknown, message));
            }
            let mut all = lost.is_empty();
            for config in configs {
                let Some(model) = models.get(&config.name) else { continue };
                for (label, version) in &config.labels {
                    if model.stuck_labels.get(label) == Some(version) {
                        let name = &config.name;
                        let message = format!(
                            "Request to assign label to version {version} of model {name}, which is not currently \
                             available for inference"
                        );
                        return Err(Failure::new(Code::FailedPrecondition, message));
                    }
                    all &= model.labels.get(label) == Some(version)
                        && !model.coming_labels.contains(label);
                }
            }
            Ok(all)
        })
    }

    /// Whether nothing is being loaded, nor waited for, as of the last look at the folders.
    pub fn set_settled(&self, settled: bool) {
        self.settled.store(settled, Release);
    }

    /// These models are those of the present config.
    pub fn configure(&self, names: &BTreeSet<&str>) {
        self.is_configured.store(true, Relaxed);
        self.change(|models| {
            for name in names {
                models.entry(name.to_string()).or_default();
            }
            for (name, model) in models {
                model.configured = names.contains(name.as_str());
            }
        });
    }

    /// The models of the present config.
    pub fn configured(&self) -> Vec<String> {
        self.read(|models| {
            let own = models.iter().filter(|(_, model)| model.configured);
            own.map(|(name, _)| name.clone()).collect()
        })
    }

    pub fn queues(&self) -> Vec<(String, u64, Arc<QueueMetrics>)> {
        self.read(|models| {
            let all = models.iter().flat_map(|(name, m)| m.versions.iter().map(move |v| (name, v)));
            all.filter_map(|(name, (number, version))| {
                let servable = version.servable.as_ref()?;
                Some((name.clone(), *number, servable.queue().metrics().clone()))
            })
            .collect()
        })
    }
}

/// A model that does not answer, with its versions, as TensorFlow Serving tells of it.
fn lost(name: &str, model: Option<&Model>) -> Option<String> {
    let versions = match model {
        Some(model) if model.newest().is_some() => return None,
        Some(model) if model.configured => model.versions.keys(),
        _ => return Some(format!("{{name: {name}}}, ")),
    };
    let told: Vec<String> =
        versions.map(|number| format!("{{name: {name} version: {number}}}, ")).collect();
    Some(if told.is_empty() { format!("{{name: {name}}}, ") } else { told.concat() })
}

fn available(version: &Version) -> Option<&Arc<Servable>> {
    version.servable.as_ref().filter(|_| version.state == State::Available)
}

fn version_of(model: Option<&Model>, label: &str) -> Answer<u64> {
    model
        .and_then(|model| model.labels.get(label).copied())
        .ok_or_else(|| Failure::invalid(format!("Unrecognized servable version label: {label}")))
}
