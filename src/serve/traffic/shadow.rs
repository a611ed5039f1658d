//! Copies of requests that run on another version: what came out is compared and counted, and nobody waits for it.

use super::rules::Target;
use crate::runtime::{Port, Tensor, to_f32};
use crate::serve::failure::Code;
use crate::serve::registry::Registry;
use crate::serve::servable::Servable;
use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Copies at the same time, over all models; more are dropped.
const MOST_COPIES: usize = 64;
/// Bytes of their inputs.
const MOST_BYTES: usize = 64 << 20;
/// Answers with more values are compared where that holds up no requests.
const LARGE: usize = 1 << 14;
/// Bounds of differences: 10⁻⁸ … 10.
const BOUNDS: i32 = 10;

fn bound(place: i32) -> f64 {
    10f64.powi(place - 8)
}

/// What became of the copies.
#[derive(Debug, Default)]
pub struct Counts {
    compared: AtomicU64,
    /// As many as may run at once did, or the version's queue was full.
    dropped: AtomicU64,
    failed: AtomicU64,
    /// The version has other inputs or outputs.
    different: AtomicU64,
    unavailable: AtomicU64,
    rows: AtomicU64,
    same_class: AtomicU64,
    differences: Mutex<Differences>,
}

#[derive(Debug, Default, Clone)]
struct Differences {
    /// How many lay within each bound; the last within none.
    places: [u64; BOUNDS as usize + 1],
    largest: f64,
}

/// The room that copies share.
#[derive(Debug, Clone)]
pub struct Room(Arc<Semaphore>);

impl Default for Room {
    fn default() -> Room {
        Room(Arc::new(Semaphore::new(MOST_BYTES)))
    }
}

/// A request's inputs, to be run once more.
pub struct Copied {
    inputs: Vec<Tensor>,
    room: OwnedSemaphorePermit,
}

impl Room {
    /// `None` where there is no room.
    pub fn copy(&self, inputs: &[Tensor], counts: &Counts) -> Option<Copied> {
        let bytes: usize = inputs.iter().map(|tensor| tensor.as_bytes().len()).sum();
        let room = u32::try_from(bytes.max(MOST_BYTES / MOST_COPIES)).ok();
        let room = room.and_then(|room| self.0.clone().try_acquire_many_owned(room).ok());
        if room.is_none() {
            counts.dropped.fetch_add(1, Relaxed);
        }
        Some(Copied { inputs: inputs.to_vec(), room: room? })
    }
}

/// Runs a copy of a request that `answered` has answered with `outputs`, on `target` of the model.
pub async fn run(
    copied: Copied,
    (model, target): (String, Target),
    (answered, outputs): (Arc<Servable>, Vec<Tensor>),
    registry: Arc<Registry>,
    time: Duration,
    counts: Arc<Counts>,
) {
    let Copied { inputs, room } = copied;
    let Ok(other) = registry.find(&model, &target.wanted()) else {
        counts.unavailable.fetch_add(1, Relaxed);
        return;
    };
    if Arc::ptr_eq(&other, &answered) {
        return;
    }
    let Some(inputs) = rearranged(answered.inputs(), inputs, other.inputs()) else {
        counts.different.fetch_add(1, Relaxed);
        return;
    };
    let own = match other.answer(inputs, Instant::now() + time).await {
        Ok(own) => own,
        Err(failure) if failure.code == Code::ResourceExhausted => {
            counts.dropped.fetch_add(1, Relaxed);
            return;
        }
        Err(_) => {
            counts.failed.fetch_add(1, Relaxed);
            return;
        }
    };
    let size: usize = outputs.iter().map(Tensor::len).sum();
    let work = move || {
        let first = (answered.outputs(), outputs.as_slice());
        counts.add(compare(first, (other.outputs(), &own)));
        drop(room);
    };
    match size > LARGE {
        true => drop(tokio::task::spawn_blocking(work).await),
        false => work(),
    }
}

/// The tensors in the order of the ports of the same names; `None` where they are not all there.
fn rearranged(from: &[Port], tensors: Vec<Tensor>, to: &[Port]) -> Option<Vec<Tensor>> {
    if from.len() != to.len() {
        return None;
    }
    let mut tensors: Vec<Option<Tensor>> = tensors.into_iter().map(Some).collect();
    to.iter()
        .map(|port| {
            let at = from.iter().position(|p| p.name == port.name && p.element == port.element)?;
            tensors.get_mut(at)?.take()
        })
        .collect()
}

/// How far two answers to the same request are from each other.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Difference {
    /// The largest of all values' differences.
    largest: f64,
    /// Rows of scores, and those whose largest score is in the same place.
    rows: u64,
    same_class: u64,
}

type Answered<'a> = (&'a [Port], &'a [Tensor]);

/// `None` where the outputs are not the same ones.
fn compare((ports, outputs): Answered, (other_ports, others): Answered) -> Option<Difference> {
    let mut whole = Difference { largest: 0.0, rows: 0, same_class: 0 };
    if ports.len() != other_ports.len() {
        return None;
    }
    for (port, output) in ports.iter().zip(outputs) {
        let at = match other_ports {
            [_] => 0,
            several => several.iter().position(|other| other.name == port.name)?,
        };
        let other = others.get(at)?;
        if other.shape() != output.shape() {
            return None;
        }
        let values = |port: &Port, tensor| to_f32(&port.reals(tensor).ok()?).ok();
        let (a, b) = (values(port, output)?, values(&other_ports[at], other)?);
        for (&a, &b) in a.iter().zip(&b) {
            let apart = match a == b || (a.is_nan() && b.is_nan()) {
                true => 0.0,
                false => (f64::from(a) - f64::from(b)).abs(),
            };
            // what is not a number on one side alone is as far away as can be
            whole.largest = whole.largest.max(if apart.is_nan() { f64::INFINITY } else { apart });
        }
        let classes = output.shape().last().copied().filter(|n| output.rank() >= 2 && *n > 1);
        if let Some(classes) = classes {
            let rows = a.chunks(classes).zip(b.chunks(classes));
            whole.rows += rows.len() as u64;
            whole.same_class += rows.filter(|(a, b)| largest(a) == largest(b)).count() as u64;
        }
    }
    Some(whole)
}

/// Where the first of the largest values is.
fn largest(values: &[f32]) -> usize {
    let mut best = 0;
    for (at, value) in values.iter().enumerate() {
        if *value > values[best] || values[best].is_nan() && !value.is_nan() {
            best = at;
        }
    }
    best
}

impl Counts {
    fn add(&self, difference: Option<Difference>) {
        let Some(difference) = difference else {
            self.different.fetch_add(1, Relaxed);
            return;
        };
        self.rows.fetch_add(difference.rows, Relaxed);
        self.same_class.fetch_add(difference.same_class, Relaxed);
        {
            let mut all = self.differences.lock().unwrap_or_else(PoisonError::into_inner);
            let place = (0..BOUNDS).find(|&place| difference.largest <= bound(place));
            all.places[place.unwrap_or(BOUNDS) as usize] += 1;
            all.largest = all.largest.max(difference.largest);
        }
        self.compared.fetch_add(1, Relaxed);
    }

    pub fn write_copies(&self, out: &mut String, labels: &str) {
        for (result, count) in [
            ("compared", &self.compared),
            ("dropped", &self.dropped),
            ("failed", &self.failed),
            ("different", &self.different),
            ("unavailable", &self.unavailable),
        ] {
            let count = count.load(Relaxed);
            let _ =
                writeln!(out, "mlctl_shadow_copies_total{{{labels},result=\"{result}\"}} {count}");
        }
    }

    pub fn write_differences(&self, out: &mut String, labels: &str) {
        const NAME: &str = "mlctl_shadow_difference";
        let all = self.differences.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let mut count = 0;
        for (place, own) in all.places.iter().enumerate() {
            count += own;
            let le = match place as i32 {
                BOUNDS => "+Inf".to_string(),
                place => format!("{:e}", bound(place)),
            };
            let _ = writeln!(out, "{NAME}_bucket{{{labels},le=\"{le}\"}} {count}");
        }
        let _ = writeln!(out, "{NAME}_count{{{labels}}} {count}");
    }

    pub fn largest(&self) -> String {
        let largest = self.differences.lock().unwrap_or_else(PoisonError::into_inner).largest;
        match largest.is_infinite() {
            true => "+Inf".into(),
            false => format!("{largest}"),
        }
    }

    pub fn rows(&self) -> u64 {
        self.rows.load(Relaxed)
    }

    pub fn same_class(&self) -> u64 {
        self.same_class.load(Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::ElementType;

    fn port(name: &str) -> Port {
        Port { name: name.into(), element: ElementType::F32, shape: vec![], quantization: None }
    }

    fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
        Tensor::from_shape(shape, values).unwrap()
    }

    #[test]
    fn answers_are_compared() {
        let ports = [port("y")];
        let check = |a: &[f32], b: &[f32], largest: f64, same_class: u64| {
            let tensors = [tensor(&[2, 2], a), tensor(&[2, 2], b)];
            let found = compare((&ports, &tensors[..1]), (&[port("z")], &tensors[1..]));
            assert_eq!(found, Some(Difference { largest, rows: 2, same_class }), "{a:?} {b:?}");
        };
        check(&[1.0, 2.0, 3.0, 4.0], &[1.0, 2.0, 3.0, 4.0], 0.0, 2);
        check(&[1.0, 2.0, 3.0, 4.0], &[1.5, 1.0, 3.0, 4.0], 1.0, 1);
        check(&[f32::NAN, 2.0, 0.0, 0.0], &[f32::NAN, 2.0, 0.0, 0.0], 0.0, 2);
        check(&[f32::NAN, 2.0, 0.0, 0.0], &[1.0, 2.0, 0.0, 0.0], f64::INFINITY, 2);
        check(&[f32::INFINITY, 0.0, 0.0, 0.0], &[f32::INFINITY, 0.0, 0.0, 0.0], 0.0, 2);
        let (one, two) = ([tensor(&[2], &[1.0, 2.0])], [tensor(&[1, 2], &[1.0, 2.0])]);
        assert_eq!(compare((&ports, &one), (&ports, &two)), None);
        let scalars = compare((&ports, &one), (&ports, &one)).unwrap();
        assert_eq!((scalars.rows, scalars.largest), (0, 0.0));
        let both = [port("a"), port("b")];
        let swapped = [port("b"), port("a")];
        let (x, y) = (tensor(&[1], &[1.0]), tensor(&[1], &[5.0]));
        let (first, other) = ([x.clone(), y.clone()], [y.clone(), x.clone()]);
        let found = compare((&both, &first), (&swapped, &other)).unwrap();
        assert_eq!(found.largest, 0.0);
        assert_eq!(rearranged(&both, first.to_vec(), &swapped), Some(other.to_vec()));
        assert_eq!(rearranged(&both, first.to_vec(), &ports), None);
        assert_eq!(rearranged(&both, first.to_vec(), &[port("a"), port("a")]), None);
    }

    #[test]
    fn room_is_bounded_and_comes_back() {
        let (room, counts) = (Room::default(), Counts::default());
        let input = [tensor(&[1], &[1.0])];
        let copies: Vec<Copied> =
            (0..MOST_COPIES).map(|_| room.copy(&input, &counts).unwrap()).collect();
        assert!(room.copy(&input, &counts).is_none());
        assert_eq!(counts.dropped.load(Relaxed), 1);
        drop(copies);
        let large = [tensor(&[MOST_BYTES / 4], &vec![0.0; MOST_BYTES / 4])];
        let copied = room.copy(&large, &counts).unwrap();
        assert!(room.copy(&input, &counts).is_none());
        drop(copied);
        let larger = [large[0].clone(), input[0].clone()];
        assert!(room.copy(&larger, &counts).is_none());
        assert!(room.copy(&input, &counts).is_some());
    }
}
