//! The deciding thread's work by hand: what it is told comes in an order that the tests choose.

use super::*;
use crate::graph::{
    Activation, BinaryOp, Dim, ElementType, LiteOp, Model, Node, Signature, Subgraph,
    Tensor as LiteTensor,
};
use crate::serve::config::Policy;
use crate::serve::failure::Answer;
use crate::serve::metrics::Kind;
use crate::serve::registry::Wanted;
use crate::serve::traffic::TrafficOptions;
use crate::serve::traffic::rules::ShadowShare;
use crate::write::{Description, write_tflite};
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use tempfile::TempDir;

const MOST_TIME: Duration = Duration::from_secs(20);

/// `y = x + x`, of rows of two values, as the file of a version.
fn put(base: &Path, version: u64) {
    let tensor =
        |name| LiteTensor::variable(name, ElementType::F32, vec![Dim::Known(1), Dim::Known(2)]);
    let add = LiteOp::Binary { op: BinaryOp::Add, activation: Activation::None };
    let graph = Subgraph {
        name: "main".into(),
        tensors: vec![tensor("x"), tensor("y")],
        nodes: vec![Node { op: add, inputs: vec![Some(0), Some(0)], outputs: vec![1] }],
        inputs: vec![0],
        outputs: vec![1],
    };
    let signature = Signature {
        key: "serving_default".into(),
        subgraph: 0,
        inputs: vec![("x".into(), 0)],
        outputs: vec![("y".into(), 1)],
    };
    let model = Model { subgraphs: vec![graph], signatures: vec![signature], ..Model::default() };
    let folder = base.join(version.to_string());
    fs::create_dir_all(&folder).unwrap();
    let mut file = fs::File::create(folder.join("model.tflite")).unwrap();
    write_tflite(&model, &Description::default(), &mut file).unwrap();
}

fn base_of(versions: &[u64]) -> TempDir {
    let base = tempfile::tempdir().unwrap();
    versions.iter().for_each(|version| put(base.path(), *version));
    base
}

fn config(base: &TempDir, policy: Policy) -> ModelConfig {
    ModelConfig { policy, ..ModelConfig::new("m", base.path()) }
}

/// A decider, and what it is told.
struct Hand {
    decider: Decider,
    events: Receiver<Event>,
}

impl Hand {
    /// Looks at folders when it is told to; their files lie still at once where `poll` is absent.
    fn new(models: Vec<ModelConfig>, shadow: Option<&str>, poll: Option<Duration>) -> Hand {
        let registry = Arc::<Registry>::default();
        let shadows = shadow.map(|text| ShadowShare::parse(text).unwrap()).into_iter().collect();
        let source = TrafficSource::Flags { shares: vec![], shadows };
        let traffic = TrafficOptions { source, sticky_header: None };
        let traffic = Traffic::new(traffic, registry.clone(), MOST_TIME).unwrap();
        let queue = QueueOptions {
            threads: 1,
            most_waiting: 4,
            longest_wait: None,
            batching: None,
            memory: crate::serve::Budget::new(usize::MAX),
        };
        let source = Source::Models(models);
        let options = LifecycleOptions {
            source,
            poll,
            config_poll: None,
            labels_of_unavailable: false,
            queue,
        };
        Hand::with_traffic(options, traffic, registry)
    }

    /// Without traffic.
    fn of(options: LifecycleOptions) -> Hand {
        let registry = Arc::<Registry>::default();
        let traffic = Traffic::new(TrafficOptions::default(), registry.clone(), MOST_TIME).unwrap();
        Hand::with_traffic(options, traffic, registry)
    }

    fn with_traffic(
        options: LifecycleOptions,
        traffic: Arc<Traffic>,
        registry: Arc<Registry>,
    ) -> Hand {
        let (sender, events) = channel();
        let journal: Journal = Arc::new(|_| {});
        let decider =
            Decider::new(options, traffic, registry, Arc::default(), journal, sender).unwrap();
        Hand { decider, events }
    }

    /// The next event, before it is taken.
    fn event(&self) -> Event {
        self.events.recv_timeout(MOST_TIME).unwrap()
    }

    /// Looks, and takes what comes, until it is as `wanted`.
    fn until(&mut self, wanted: impl Fn(&Decider) -> bool) {
        let start = Instant::now();
        self.decider.look();
        while !wanted(&self.decider) {
            let states = self.decider.registry.read(|models| format!("{models:?}"));
            assert!(start.elapsed() < MOST_TIME, "{states}");
            if let Ok(event) = self.events.recv_timeout(Duration::from_millis(10)) {
                self.decider.take(event);
            }
            self.decider.look();
        }
    }

    fn until_state(&mut self, version: u64, state: State) {
        self.until(|decider| decider.state_of("m", version) == Some(state));
    }

    fn configure(&mut self, models: Vec<ModelConfig>) {
        self.decider.configure(models);
    }

    fn find(&self, wanted: Wanted) -> Answer<Arc<Servable>> {
        self.decider.registry.find("m", &wanted)
    }

    fn newest(&self) -> Option<u64> {
        self.find(Wanted::Latest).ok().map(|servable| servable.version)
    }
}

/// Its record came before its files: it is tried again, after a pause that grows.
#[test]
fn a_version_whose_files_still_come_is_not_tried_at_once() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("1")).unwrap();
    fs::write(base.path().join("1/mlctl.json"), "{}").unwrap();
    let models = vec![config(&base, Policy::Latest(1))];
    let mut hand = Hand::new(models, None, Some(Duration::from_millis(400)));
    hand.decider.look();
    for (round, least) in [400, 800, 1600, 2000, 2000].into_iter().enumerate() {
        let event = hand.event();
        fs::write(base.path().join("1/model.onnx"), vec![0u8; round]).unwrap();
        let came = Instant::now();
        hand.decider.take(event);
        hand.decider.look();
        assert!(hand.decider.loading.is_empty(), "it is loaded again at once");
        assert_eq!(hand.decider.state_of("m", 1), Some(State::Start));
        let pause = hand.decider.retry.unwrap() - came;
        let least = Duration::from_millis(least);
        assert!(pause >= least && pause < least + Duration::from_secs(1), "{round}: {pause:?}");
        let watch = hand.decider.watches.get_mut(&("m".to_string(), 1)).unwrap();
        watch.not_before = Some(Instant::now());
        hand.decider.look();
        assert_eq!(hand.decider.loading.len(), 1);
    }
    drop(hand.event());
}

#[test]
fn a_version_is_loaded_once_at_a_time() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("1")).unwrap();
    fs::write(base.path().join("1/model.tflite"), "no model").unwrap();
    let mut hand = Hand::new(vec![config(&base, Policy::Latest(1))], None, None);
    std::thread::sleep(Duration::from_millis(20));
    hand.until_state(1, State::End);
    let watch = hand.decider.watches.get_mut(&("m".to_string(), 1)).unwrap();
    watch.broken.as_mut().unwrap().next = Instant::now();
    hand.decider.look();
    hand.decider.look();
    drop(hand.event());
    let second = hand.events.recv_timeout(Duration::from_millis(300));
    assert!(second.is_err(), "a second thread has loaded it");
}

#[test]
fn a_version_that_is_named_alone_answers_who_names_it() {
    let base = base_of(&[1, 2]);
    let specific = config(&base, Policy::Specific(vec![1]));
    let mut hand = Hand::new(vec![specific.clone()], Some("m=2"), None);
    hand.until_state(2, State::Available);
    hand.until_state(1, State::Available);
    assert_eq!(hand.newest(), Some(1));
    assert_eq!(hand.find(Wanted::Version(2)).unwrap().version, 2);
    assert!(hand.decider.registry.is_ready());
    // the policy takes it, and gives way to a newer one without a gap
    hand.configure(vec![config(&base, Policy::Latest(1))]);
    hand.decider.look();
    assert_eq!(hand.newest(), Some(2));
    hand.until_state(1, State::End);
    put(base.path(), 3);
    hand.decider.look();
    assert_eq!((hand.decider.state_of("m", 3), hand.newest()), (Some(State::Loading), Some(2)));
    hand.until_state(3, State::Available);
    assert_eq!(hand.newest(), Some(3));
    assert!(hand.find(Wanted::Version(2)).is_ok());
    // only the one that is named is left
    hand.configure(vec![specific]);
    fs::remove_dir_all(base.path().join("1")).unwrap();
    hand.until_state(3, State::End);
    assert_eq!(hand.newest(), None);
    assert!(!hand.decider.registry.is_ready() && hand.find(Wanted::Version(2)).is_ok());
}

#[test]
fn a_removed_model_that_drains_keeps_nothing_from_being_ready() {
    let base = base_of(&[1]);
    let mut hand = Hand::new(vec![config(&base, Policy::Latest(1))], None, None);
    assert!(!hand.decider.registry.is_ready());
    hand.until_state(1, State::Available);
    let held = hand.find(Wanted::Latest).unwrap();
    hand.configure(vec![ModelConfig::new("other", base.path())]);
    hand.until(|decider| decider.registry.find("other", &Wanted::Latest).is_ok());
    assert_eq!(hand.decider.state_of("m", 1), Some(State::Unloading));
    assert!(hand.decider.registry.is_ready());
    assert_eq!(hand.decider.registry.configured(), ["other"]);
    drop(held);
    hand.until(|decider| decider.registry.read(|models| !models.contains_key("m")));
}

/// The first folder's version drains while the second's is loaded and the third takes its place.
#[test]
fn what_was_loaded_too_late_and_what_ended_late_change_no_other_state() {
    let base = base_of(&[1]);
    let mut hand = Hand::new(vec![config(&base, Policy::Latest(1))], None, None);
    hand.until_state(1, State::Available);
    let held = hand.find(Wanted::Latest).unwrap();
    fs::rename(base.path().join("1"), base.path().join("away")).unwrap();
    put(base.path(), 1);
    hand.decider.look();
    let reloaded = hand.event();
    assert!(matches!(reloaded, Event::Loaded { version: 1, .. }));
    put(base.path(), 2);
    hand.until_state(2, State::Available);
    assert_eq!(hand.decider.state_of("m", 1), Some(State::Unloading));
    fs::remove_dir_all(base.path().join("2")).unwrap();
    hand.decider.take(reloaded);
    hand.decider.look();
    assert_eq!(hand.decider.state_of("m", 1), Some(State::Unloading));
    assert_eq!(hand.newest(), Some(2), "what is served stays until another can answer");
    drop(held);
    hand.until_state(2, State::End);
    assert_eq!(hand.newest(), Some(1));
    // and nothing comes late that ends it
    while let Ok(event) = hand.events.recv_timeout(Duration::from_millis(200)) {
        hand.decider.take(event);
        hand.decider.look();
    }
    assert_eq!(hand.newest(), Some(1));
}

#[test]
fn a_failure_leaves_a_version_that_drains() {
    let base = base_of(&[1, 2]);
    let mut hand = Hand::new(vec![config(&base, Policy::Specific(vec![1]))], None, None);
    hand.until_state(1, State::Available);
    let held = hand.find(Wanted::Latest).unwrap();
    hand.configure(vec![config(&base, Policy::Specific(vec![2]))]);
    hand.until_state(2, State::Available);
    hand.decider.failed("m", 1, "a reason");
    assert_eq!(hand.decider.state_of("m", 1), Some(State::Unloading));
    drop(held);
    hand.until_state(1, State::End);
}

/// A thread cannot have such a name: the load fails or not, and its place is free again.
#[test]
fn a_name_that_no_thread_can_have_costs_no_place() {
    let base = base_of(&[1]);
    let mut model = config(&base, Policy::Latest(1));
    model.name = "a\0b".into();
    let mut hand = Hand::new(vec![model], None, None);
    hand.until(|decider| decider.registry.is_ready());
    assert!(hand.decider.loading.is_empty());
}

/// A label that moves with the policy is never without a version that answers.
#[test]
fn a_label_moves_before_its_version_goes() {
    let base = base_of(&[1, 2]);
    let of = |version: u64| ModelConfig {
        labels: BTreeMap::from([("stable".to_string(), version)]),
        ..config(&base, Policy::Specific(vec![version]))
    };
    let mut hand = Hand::new(vec![of(1)], None, None);
    hand.until_state(1, State::Available);
    let (stop, asked) = (AtomicBool::new(false), AtomicUsize::new(0));
    let registry = hand.decider.registry.clone();
    std::thread::scope(|scope| {
        let client = scope.spawn(|| {
            let stable = Wanted::Label("stable".into());
            let mut lost = 0;
            while !stop.load(Ordering::Relaxed) {
                lost += usize::from(registry.find("m", &stable).is_err());
                asked.fetch_add(1, Ordering::Relaxed);
            }
            lost
        });
        for (from, to) in [(1, 2), (2, 1)].repeat(20) {
            hand.configure(vec![of(to)]);
            hand.until_state(from, State::End);
        }
        stop.store(true, Ordering::Relaxed);
        assert_eq!(client.join().unwrap(), 0, "of {}", asked.load(Ordering::Relaxed));
    });
}

#[test]
fn a_label_of_a_version_that_does_not_come_is_told() {
    let base = base_of(&[1, 2]);
    let labelled = |label: &str, version, policy| ModelConfig {
        labels: BTreeMap::from([(label.to_string(), version)]),
        ..config(&base, policy)
    };
    let mut hand = Hand::new(vec![labelled("stable", 2, Policy::Latest(1))], None, None);
    let registry = hand.decider.registry.clone();
    let label = || registry.find("m", &Wanted::Label("stable".into())).map(|own| own.version);
    assert_eq!(registry.is_in_force(&hand.decider.configs), Ok(false));
    hand.until_state(2, State::Available);
    hand.decider.look();
    assert_eq!(registry.is_in_force(&hand.decider.configs), Ok(true));

    let said = Arc::new(Mutex::new(vec![]));
    let own = said.clone();
    hand.decider.journal = Arc::new(move |text| own.lock().unwrap().push(text.to_string()));
    hand.configure(vec![labelled("stable", 1, Policy::Latest(1))]);
    hand.decider.look();
    hand.decider.look();
    let failure = registry.is_in_force(&hand.decider.configs).unwrap_err();
    let expected = "Request to assign label to version 1 of model m, which is not currently available for inference";
    assert_eq!((failure.code, failure.message.as_str()), (Code::FailedPrecondition, expected));
    assert_eq!(label(), Ok(2));
    let text = "m: label 'stable' stays at version 2: version 1 is not available";
    assert_eq!(*said.lock().unwrap(), [text]);
    // one that is loaded is waited for
    hand.configure(vec![labelled("stable", 1, Policy::All)]);
    hand.decider.look();
    assert_eq!((registry.is_in_force(&hand.decider.configs), label()), (Ok(false), Ok(2)));
    hand.until_state(1, State::Available);
    hand.decider.look();
    assert_eq!((registry.is_in_force(&hand.decider.configs), label()), (Ok(true), Ok(1)));

    // with the flag a label that leads nowhere may name what is not there; another stays
    hand.decider.options.labels_of_unavailable = true;
    hand.configure(vec![labelled("stable", 7, Policy::All)]);
    hand.decider.look();
    assert_eq!(label(), Ok(1));
    assert!(registry.is_in_force(&hand.decider.configs).is_err());
    hand.configure(vec![labelled("canary", 7, Policy::All)]);
    hand.decider.look();
    assert_eq!(registry.is_in_force(&hand.decider.configs), Ok(true));
    let canary = registry.find("m", &Wanted::Label("canary".into())).unwrap_err();
    assert_eq!(canary.message, "Servable not found for request: Specific(m, 7)");
}

/// A label names what its own config takes away.
#[test]
fn a_label_of_a_version_that_goes_is_told() {
    let base = base_of(&[1]);
    let labelled = ModelConfig {
        labels: BTreeMap::from([("stable".to_string(), 1)]),
        ..config(&base, Policy::Latest(1))
    };
    let mut hand = Hand::new(vec![labelled], None, None);
    hand.until_state(1, State::Available);
    hand.decider.look();
    let registry = hand.decider.registry.clone();
    assert_eq!(registry.is_in_force(&hand.decider.configs), Ok(true));
    put(base.path(), 2);
    hand.until_state(1, State::End);
    let failure = registry.is_in_force(&hand.decider.configs).unwrap_err();
    assert_eq!(failure.code, Code::FailedPrecondition);
    let said = &hand.decider.complaints[&("labels of m".to_string(), None)];
    assert_eq!(said, "m: label 'stable' leads nowhere: version 1 is not available");
}

#[test]
fn a_config_whose_models_cannot_be_loaded_is_not_in_force() {
    let (base, empty) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    fs::create_dir(base.path().join("1")).unwrap();
    fs::write(base.path().join("1/model.tflite"), "no model").unwrap();
    let mut hand = Hand::new(vec![config(&base, Policy::Latest(1))], None, None);
    std::thread::sleep(Duration::from_millis(20));
    let registry = hand.decider.registry.clone();
    hand.decider.look();
    assert_eq!(registry.is_in_force(&hand.decider.configs), Ok(false));
    hand.until_state(1, State::End);
    let failure = registry.is_in_force(&hand.decider.configs).unwrap_err();
    let expected = "Some models did not become available: {{name: m version: 1}, }";
    assert_eq!((failure.code, failure.message.as_str()), (Code::Unknown, expected));
    hand.configure(vec![ModelConfig::new("n", empty.path())]);
    hand.decider.look();
    let failure = registry.is_in_force(&hand.decider.configs).unwrap_err();
    assert_eq!(failure.message, "Some models did not become available: {{name: n}, }");
}

/// What is wanted and cannot be loaded yet is waited for: it drains, or its files have just been mended.
#[test]
fn a_config_that_will_be_in_force_is_no_failure() {
    let (base, other) = (base_of(&[1]), base_of(&[1]));
    let labelled = || ModelConfig {
        labels: BTreeMap::from([("stable".to_string(), 1)]),
        ..config(&base, Policy::Latest(1))
    };
    let mut hand = Hand::new(vec![labelled()], None, None);
    hand.until_state(1, State::Available);
    let registry = hand.decider.registry.clone();
    let held = hand.find(Wanted::Latest).unwrap();
    hand.configure(vec![ModelConfig::new("n", other.path())]);
    hand.until(|decider| decider.state_of("m", 1) == Some(State::Unloading));
    hand.until(|decider| registry.is_in_force(&decider.configs) == Ok(true));
    hand.configure(vec![labelled()]);
    hand.decider.look();
    assert_eq!(registry.is_in_force(&hand.decider.configs), Ok(false));
    drop(held);
    let start = Instant::now();
    while registry.is_in_force(&hand.decider.configs) != Ok(true) {
        assert!(start.elapsed() < MOST_TIME);
        hand.decider.take(hand.event());
        hand.decider.look();
        registry.is_in_force(&hand.decider.configs).unwrap();
    }

    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("1")).unwrap();
    fs::write(base.path().join("1/model.tflite"), "no model").unwrap();
    let poll = Duration::from_millis(400);
    let mut hand = Hand::new(vec![config(&base, Policy::Latest(1))], None, Some(poll));
    let registry = hand.decider.registry.clone();
    hand.until_state(1, State::End);
    assert!(registry.is_in_force(&hand.decider.configs).is_err());
    put(base.path(), 1);
    hand.decider.look();
    assert_eq!(registry.is_in_force(&hand.decider.configs), Ok(false));
    hand.until_state(1, State::Available);
    assert_eq!(registry.is_in_force(&hand.decider.configs), Ok(true));
}

#[test]
fn a_model_that_comes_later_keeps_nothing_from_being_ready() {
    let (base, other) = (base_of(&[1]), tempfile::tempdir().unwrap());
    let both = || vec![config(&base, Policy::Latest(1)), ModelConfig::new("n", other.path())];
    let mut hand = Hand::new(both(), None, None);
    hand.until_state(1, State::Available);
    assert!(!hand.decider.registry.is_ready(), "one that was there from the start has to answer");
    let mut hand = Hand::new(vec![config(&base, Policy::Latest(1))], None, None);
    hand.until(|decider| decider.registry.is_ready());
    hand.configure(both());
    hand.decider.look();
    assert!(hand.decider.registry.is_ready());
    put(other.path(), 1);
    hand.until(|decider| decider.registry.find("n", &Wanted::Latest).is_ok());
    assert!(hand.decider.registry.is_ready());
    // and counts from then on
    let specific =
        ModelConfig { policy: Policy::Specific(vec![2]), ..ModelConfig::new("n", other.path()) };
    hand.configure(vec![config(&base, Policy::Latest(1)), specific]);
    hand.decider.unload_all_but("n", &[]);
    assert!(!hand.decider.registry.is_ready());
}

#[test]
fn without_a_config_nothing_is_ready() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("models.config");
    fs::write(&file, "").unwrap();
    let mut hand = Hand::new(vec![], None, None);
    assert!(hand.decider.registry.is_ready(), "a list of no models is one");
    hand.decider.options.source = Source::File(file.clone());
    hand = Hand::of(hand.decider.options);
    assert!(!hand.decider.registry.is_ready());
    fs::write(&file, "model_config_list {}").unwrap();
    hand.decider.reload(false);
    assert!(hand.decider.registry.is_ready());
}

/// Its files are whole: what failed lay elsewhere, in a disk or in memory.
#[test]
fn a_broken_version_is_tried_again_after_waits_that_grow() {
    let base = base_of(&[1]);
    let mut hand = Hand::new(vec![config(&base, Policy::Latest(1))], None, None);
    std::thread::sleep(Duration::from_millis(20));
    hand.decider.look();
    drop(hand.event());
    hand.decider.loading.clear();
    for seconds in [2, 4, 8, 16, 32, 64, 64] {
        hand.decider.failed("m", 1, "a disk that does not answer");
        let watch = &hand.decider.watches[&("m".to_string(), 1)];
        let wait = watch.broken.as_ref().unwrap().next - Instant::now();
        let wanted = Duration::from_secs(seconds);
        assert!(wait <= wanted && wait + Duration::from_secs(1) > wanted, "{wait:?}, {wanted:?}");
        hand.decider.look();
        assert!(hand.decider.loading.is_empty());
        assert_eq!(hand.decider.state_of("m", 1), Some(State::End));
    }
    let watch = hand.decider.watches.get_mut(&("m".to_string(), 1)).unwrap();
    watch.broken.as_mut().unwrap().next = Instant::now();
    hand.until_state(1, State::Available);
}

#[test]
fn a_config_is_told_to_be_in_force_when_the_folders_were_looked_at() {
    let base = base_of(&[1, 2]);
    let mut hand = Hand::new(vec![config(&base, Policy::Latest(2))], None, None);
    hand.until_state(1, State::Available);
    hand.until_state(2, State::Available);
    let labels = BTreeMap::from([("stable".to_string(), 1)]);
    let config = ModelConfig { labels, ..config(&base, Policy::Latest(2)) };
    let (done, mut told) = oneshot::channel();
    hand.decider.take(Event::Configure(vec![config], done));
    assert!(told.try_recv().is_err());
    hand.decider.look();
    assert!(told.try_recv().is_ok());
    assert_eq!(hand.find(Wanted::Label("stable".into())).unwrap().version, 1);
}

/// A request may be counted when its version is gone.
#[test]
fn a_version_s_requests_are_forgotten_however_late() {
    let base = base_of(&[2]);
    let mut hand = Hand::new(vec![config(&base, Policy::Latest(1))], None, None);
    hand.until_state(2, State::Available);
    for version in [1, 2] {
        let (model, version) = ("m".into(), Some(version));
        let kind = Kind { model, version, api: "predict", entrypoint: "REST" };
        hand.decider.metrics.add_request(kind, Code::Ok, Duration::ZERO);
    }
    hand.decider.look();
    let text = hand.decider.metrics.text(&[]);
    let count = |version: &str| {
        text.lines()
            .filter(|l| l.starts_with("mlctl_requests_total") && l.contains(version))
            .count()
    };
    assert_eq!((count("version=\"1\""), count("version=\"2\""), count("version=\"\"")), (0, 1, 1));
    assert!(text.contains(":tensorflow:serving:request_count{model_name=\"m\",status=\"OK\"} 2"));
}
