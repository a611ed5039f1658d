//! The training loop: against a run of Keras, and what it promises about seeds, threads, batches and stopping.

use mlctl::data::{Dataset, LabelledImages, mnist};
use mlctl::format::npy::read_npz;
use mlctl::progress::{Progress, Silent};
use mlctl::runtime::{Tensor, f32_tensor, f32_values};
use mlctl::train::recipe::{Layer, LayerActivation, Recipe, Training};
use mlctl::train::{TrainError, TrainableModel, Trained, Trainer, initial_model, train};
use prost::Message;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

const STEPS: usize = 300;
const BATCH: usize = 32;

/// The issue asks for 1e-4; Keras itself is within 4e-7 of a float64 run of the same steps.
const TOLERANCE: f32 = 1e-5;

type Arrays = Vec<(String, Vec<f32>)>;

fn reference(name: &str) -> Arrays {
    let path = format!("{}/fixtures/training_reference/{name}.npz", env!("CARGO_MANIFEST_DIR"));
    let arrays = read_npz(&std::fs::read(path).unwrap().into()).unwrap();
    arrays.into_iter().map(|(name, array)| (name, array.to_f32())).collect()
}

fn named<'a>(arrays: &'a Arrays, name: &str) -> &'a [f32] {
    &arrays.iter().find(|(n, _)| n == name).unwrap_or_else(|| panic!("no array '{name}'")).1
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// The model of the recipe; its weights are those of `weights`.
fn model_with(recipe: &Recipe, weights: &Arrays) -> TrainableModel {
    let (proto, _) = initial_model::build(recipe, &[28, 28, 1]).unwrap();
    let mut model = TrainableModel::new(proto, recipe.training.loss).unwrap();
    for (name, parameter) in model.names.iter().zip(&mut model.parameters) {
        *parameter = Arc::new(f32_tensor(parameter.shape(), named(weights, name)).unwrap());
    }
    model
}

fn with(training: Training) -> Recipe {
    Recipe { training, ..Recipe::default() }
}

fn check_against_keras(name: &str, training: Training) {
    let recipe = with(Training { batch_size: BATCH, learning_rate: 0.01, ..training });
    let data = mnist::first_train_images(STEPS * BATCH).unwrap();
    let expected = reference(name);
    let mut model = model_with(&recipe, &reference("initial"));
    let mut trainer = Trainer::new(&model, &recipe, 2).unwrap();
    let order: Vec<u32> = (0..data.len() as u32).collect();
    let mut losses = vec![];
    for batch in order.chunks(BATCH) {
        let sums = trainer.epoch(&mut model, &data, batch, 0, &Silent).unwrap();
        losses.push((sums.loss / batch.len() as f64) as f32);
    }
    for (step, (got, expected)) in losses.iter().zip(named(&expected, "losses")).enumerate() {
        let close = (got - expected).abs() < TOLERANCE;
        assert!(close, "{name}: loss {got} instead of {expected} at step {}", step + 1);
    }
    assert_eq!(losses.len(), STEPS);
    for (parameter, values) in model.names.iter().zip(&model.parameters) {
        let error = largest_difference(f32_values(values).unwrap(), named(&expected, parameter));
        assert!(error < TOLERANCE, "{name}: {parameter} differs by {error:e}");
    }
}

#[test]
fn three_hundred_steps_of_sgd_are_those_of_keras() {
    check_against_keras("sgd", Training::default());
}

#[test]
fn three_hundred_steps_with_momentum_are_those_of_keras() {
    check_against_keras("sgd_momentum", Training { momentum: 0.9, ..Training::default() });
}

#[test]
fn three_hundred_steps_with_nesterov_are_those_of_keras() {
    let training = Training { momentum: 0.9, nesterov: true, ..Training::default() };
    check_against_keras("sgd_nesterov", training);
}

#[test]
fn the_references_are_far_enough_apart_to_tell_the_optimizers() {
    let [sgd, momentum, nesterov] =
        ["sgd", "sgd_momentum", "sgd_nesterov"].map(|name| reference(name));
    for name in ["losses", "dense/kernel", "dense/bias", "dense_1/kernel", "dense_1/bias"] {
        for (a, b) in [(&sgd, &momentum), (&momentum, &nesterov)] {
            let distance = largest_difference(named(a, name), named(b, name));
            assert!(distance > 50.0 * TOLERANCE, "{name}: {distance:e}");
        }
    }
}

/// The first digits of MNIST's training set, for training and as the test set.
fn digits(training: usize, test: usize) -> Dataset {
    Dataset {
        name: "digits".into(),
        train: mnist::first_train_images(training).unwrap(),
        test: mnist::first_test_images(test).unwrap(),
        class_names: (0..10).map(|d| d.to_string()).collect(),
    }
}

fn trained(training: &Training, data: &Dataset, threads: usize) -> Trained {
    train(&with(training.clone()), data, threads, &Silent).unwrap()
}

fn failure(training: &Training, data: &Dataset) -> String {
    message(train(&with(training.clone()), data, 1, &Silent))
}

fn message(result: Result<Trained, TrainError>) -> String {
    match result {
        Err(TrainError::Failed(error)) => format!("{error:#}"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn the_bytes_do_not_depend_on_the_number_of_threads() {
    let data = digits(1000, 700);
    for momentum in [0.0, 0.9] {
        let training = Training {
            batch_size: 128,
            epochs: 2,
            validation: 0.1,
            momentum,
            ..Default::default()
        };
        let one = trained(&training, &data, 1);
        for threads in [2, 3, 16] {
            let more = trained(&training, &data, threads);
            let same = one.model.encode_to_vec() == more.model.encode_to_vec();
            assert!(same, "{threads} threads, momentum {momentum}");
            assert_eq!(one.test, more.test);
            for (one, more) in one.epochs.iter().zip(&more.epochs) {
                assert_eq!((one.loss, one.accuracy), (more.loss, more.accuracy));
                assert_eq!(one.validation, more.validation);
            }
        }
    }
}

#[test]
fn a_seed_gives_the_same_bytes_again_and_another_seed_gives_others() {
    let data = digits(300, 50);
    let bytes = |seed| {
        let training = Training { seed, epochs: 2, validation: 0.0, ..Default::default() };
        trained(&training, &data, 1).model.encode_to_vec()
    };
    let first = bytes(7);
    assert!(first == bytes(7), "the same seed");
    assert!(first != bytes(8), "another seed");
}

/// Parameters after one pass over `order`, in passes of `orders`.
fn after(recipe: &Recipe, data: &LabelledImages, orders: &[&[u32]]) -> Vec<Arc<Tensor>> {
    let mut model = model_with(recipe, &reference("initial"));
    let mut trainer = Trainer::new(&model, recipe, 1).unwrap();
    for order in orders {
        trainer.epoch(&mut model, data, order, 0, &Silent).unwrap();
    }
    model.parameters
}

#[test]
fn the_last_short_batch_makes_a_step() {
    let data = mnist::first_train_images(40).unwrap();
    let order: Vec<u32> = (0..40).collect();
    for momentum in [0.0, 0.9] {
        let recipe = with(Training { momentum, ..Training::default() });
        let whole = after(&recipe, &data, &[&order]);
        let parts = after(&recipe, &data, &[&order[..32], &order[32..]]);
        let without = after(&recipe, &data, &[&order[..32]]);
        for ((whole, parts), without) in whole.iter().zip(&parts).zip(&without) {
            assert_eq!(f32_values(whole).unwrap(), f32_values(parts).unwrap());
            assert_ne!(f32_values(whole).unwrap(), f32_values(without).unwrap());
        }
    }
}

/// Shards of 32, 32, 32 and 4 rows would weigh each row of the last one eight times as much if a step
/// took the mean of their means.
#[test]
fn a_step_in_shards_is_the_step_of_the_whole_batch() {
    let data = mnist::first_train_images(100).unwrap();
    let order: Vec<u32> = (0..100).collect();
    let recipe = with(Training { batch_size: 100, learning_rate: 0.5, ..Training::default() });
    let sharded = after(&recipe, &data, &[&order]);

    let model = model_with(&recipe, &reference("initial"));
    let pixels: Vec<f32> = data.images().iter().map(|&p| p as f32 / 255.0).collect();
    let labels: Vec<i32> = data.labels().iter().map(|&l| l.into()).collect();
    let feed = TrainableModel::feed(
        &Arc::new(f32_tensor(&[100, 28, 28, 1], &pixels).unwrap()),
        model.parameters.iter().cloned(),
        &Arc::new(Tensor::from_shape(&[100], &labels).unwrap()),
    );
    let outputs = model.gradients(100, None).unwrap().run_shared(feed).unwrap();
    for (i, (parameter, sharded)) in model.parameters.iter().zip(&sharded).enumerate() {
        let gradient = f32_values(&outputs[2 + i]).unwrap();
        let old = f32_values(parameter).unwrap();
        let expected: Vec<f32> =
            old.iter().zip(gradient).map(|(w, g)| w - 0.5 * g / 100.0).collect();
        let error = largest_difference(f32_values(sharded).unwrap(), &expected);
        let moved = largest_difference(old, &expected);
        assert!(error < 1e-6 && moved > 1e-2, "{}: {error:e} of {moved:e}", model.names[i]);
    }
}

#[test]
fn a_loss_that_is_no_number_stops_with_the_place_and_a_hint() {
    let training = Training { learning_rate: 1e30, validation: 0.0, ..Default::default() };
    let text = failure(&training, &digits(320, 10));
    let (what, place) = text.split_once(" at epoch 1, step ").unwrap_or_else(|| panic!("{text}"));
    assert!(["the loss became NaN", "the loss became inf"].contains(&what), "{text}");
    let (step, hint) = place.split_once("; ").unwrap();
    assert!((2..=10).contains(&step.parse::<u32>().unwrap()), "{text}");
    assert_eq!(hint, "lower the learning rate (now 1e30)");
}

/// Asks for an end once so many steps were made.
struct StopAfter {
    steps: usize,
    made: AtomicUsize,
    ended: AtomicUsize,
}

impl Progress for StopAfter {
    fn advance(&self, _done: u64, _detail: &dyn Fn() -> String) {
        self.made.fetch_add(1, Ordering::Relaxed);
    }

    fn end(&self) {
        self.ended.fetch_add(1, Ordering::Relaxed);
    }

    fn cancelled(&self) -> bool {
        self.made.load(Ordering::Relaxed) >= self.steps
    }
}

#[test]
fn a_stopped_run_ends_after_the_current_step() {
    let data = digits(200, 10);
    let check = |steps, batch_size, place| {
        let stop = StopAfter { steps, made: 0.into(), ended: 0.into() };
        let training = Training { batch_size, validation: 0.0, ..Default::default() };
        match train(&with(training), &data, 2, &stop) {
            Err(TrainError::Cancelled { epoch, step }) => assert_eq!((epoch, step), place),
            other => panic!("{other:?}"),
        }
        assert_eq!(stop.made.into_inner(), steps);
        assert_eq!(stop.ended.into_inner(), place.0, "each task that began has ended");
    };
    check(3, 32, (1, 3));
    check(9, 32, (2, 2));
    check(1, 128, (1, 1));
}

#[test]
fn validation_takes_a_share_or_a_number_of_the_first_samples() {
    let data = digits(200, 10);
    let check = |validation: f64, expected: (usize, usize)| {
        let training = Training { epochs: 1, validation, ..Default::default() };
        let trained = trained(&training, &data, 1);
        assert_eq!((trained.validation_samples, trained.training_samples), expected);
        assert_eq!(trained.epochs[0].validation.is_some(), expected.0 > 0);
    };
    check(0.0, (0, 200));
    check(0.1, (20, 180));
    check(0.333, (67, 133));
    check(1.0, (1, 199));
    check(150.0, (150, 50));
    let training = Training { validation: 200.0, ..Default::default() };
    assert_eq!(
        failure(&training, &data),
        "validation takes 200 of 200 training samples; leave some for training"
    );
}

/// Other pictures and labels in the validation samples leave the weights as they are.
#[test]
fn validation_samples_are_not_trained_on() {
    let digits = mnist::first_train_images(20).unwrap();
    let size = digits.rows() * digits.cols();
    let repeated = |first: &LabelledImages, label: u8| {
        let mut images = first.images()[..10 * size].to_vec();
        images.extend(first.image(10).repeat(90));
        let labels = [&first.labels()[..10], &[label; 90]].concat();
        LabelledImages::new(images, labels, 28, 28, 10).unwrap()
    };
    let bytes = |train: LabelledImages| {
        let data =
            Dataset { name: "repeated".into(), test: train.clone(), train, class_names: vec![] };
        let training = Training { epochs: 1, validation: 10.0, ..Default::default() };
        trained(&training, &data, 1).model.encode_to_vec()
    };
    let other_first = {
        let mut images = repeated(&digits, 3).images().to_vec();
        images[..10 * size].fill(0);
        LabelledImages::new(images, vec![3; 100], 28, 28, 10).unwrap()
    };
    assert!(bytes(repeated(&digits, 3)) == bytes(other_first), "validation changed the weights");
    assert!(bytes(repeated(&digits, 3)) != bytes(repeated(&digits, 4)));
}

#[test]
fn a_model_and_data_that_do_not_fit_are_refused() {
    let data = digits(64, 10);
    let with_units = |units| Recipe {
        layers: vec![
            Layer::Flatten {},
            Layer::Dense { units, activation: LayerActivation::Softmax, use_bias: true },
        ],
        training: Training { epochs: 1, validation: 0.0, ..Default::default() },
        ..Default::default()
    };
    assert_eq!(
        message(train(&with_units(9), &data, 1, &Silent)),
        "the last layer has 9 units, but digits has 10 classes"
    );
    let wider = train(&with_units(12), &data, 1, &Silent).unwrap();
    assert_eq!(wider.layers.last().unwrap().output_shape, [12]);

    let small = LabelledImages::new(vec![0; 27 * 28], vec![0], 27, 28, 10).unwrap();
    let mixed = Dataset { test: small, ..data };
    let text = message(train(&with_units(10), &mixed, 1, &Silent));
    assert_eq!(text, "training and test images differ in size: [(28, 28), (27, 28)]");
}
