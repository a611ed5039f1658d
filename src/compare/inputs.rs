//! What models are compared on: real digits for models of digits, else seeded random values.

use crate::data::mnist;
use crate::data::preprocessing::{Channels, Preprocessing};
use crate::graph::{Dim, ElementType, shape_text};
use crate::runtime::{Plan, Port, Tensor, to_f32};
use crate::tract::guard::with_loop_limit;
use anyhow::{Context, Result, bail, ensure};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use std::ops::Range;
use std::time::Duration;

/// Inputs for many runs, any of which can be made at any time, on any thread.
pub trait Samples: Sync {
    fn runs(&self) -> usize;
    /// The inputs of run `index`, in the model's order.
    fn run(&self, index: usize) -> Result<Vec<Tensor>>;
    /// The right class of each row of run `index`, where it is known.
    fn labels(&self, _index: usize) -> Option<Vec<usize>> {
        None
    }
}

/// Input tensors for one or more runs, and what they are.
#[derive(Debug)]
pub struct Inputs {
    pub runs: Vec<Vec<Tensor>>,
    /// The right class of each row of all runs, where it is known.
    pub labels: Option<Vec<usize>>,
    /// `100 test digits`.
    pub what: String,
}

impl Samples for Inputs {
    fn runs(&self) -> usize {
        self.runs.len()
    }

    fn run(&self, index: usize) -> Result<Vec<Tensor>> {
        self.runs.get(index).cloned().context("no such run")
    }

    fn labels(&self, index: usize) -> Option<Vec<usize>> {
        let rows = |run: &Vec<Tensor>| run.first()?.shape().first().copied();
        let before = self.runs.get(..index)?.iter().map(rows).sum::<Option<usize>>()?;
        let end = before.checked_add(rows(self.runs.get(index)?)?)?;
        Some(self.labels.as_ref()?.get(before..end)?.to_vec())
    }
}

impl Inputs {
    /// Runs of one float32 tensor as `port` takes them.
    pub fn of_reals(self, port: &Port) -> Result<Inputs> {
        let runs = self.runs.into_iter();
        let runs = runs.map(|run| run.into_iter().map(|reals| port.of_reals(reals)).collect());
        Ok(Inputs { runs: runs.collect::<Result<_>>()?, ..self })
    }
}

const DIGITS: usize = 100;
const RANDOM_ROWS: usize = 4;
/// Height and width of pictures whose size the model leaves open.
const RANDOM_SIDE: usize = 48;
const MAX_ELEMENTS: usize = 1 << 28;
/// For the loops of a graph in all runs that look for integers it takes.
const TIME_FOR_TRIES: Duration = Duration::from_secs(60);

/// Inputs of the shapes of `ports` that suit `plan`, the same every time: digits for a model of digits, pixels
/// where `preprocessing` tells what they become, else random numbers.
///
/// # Errors
/// An input's shape is unknown beyond its batch, or too large.
pub fn example_inputs(
    plan: &Plan,
    ports: &[Port],
    preprocessing: Option<&Preprocessing>,
) -> Result<Inputs> {
    if let (Some(record), [port]) = (preprocessing, ports)
        && port.has_reals()
        && takes_pictures(port, record)
    {
        let batch = port.shape.first().and_then(Dim::known);
        let found = match is_mnist(record) {
            true => digits(record, batch),
            false => random_pixels(record, batch.unwrap_or(RANDOM_ROWS)),
        };
        return found?.of_reals(port);
    }
    let draw = |integers: &Range<f32>| -> Result<Vec<Tensor>> {
        let mut random = Pcg64::seed_from_u64(1);
        ports.iter().map(|port| random_tensor(port, integers, &mut random)).collect()
    };
    let mut run = draw(&INTEGERS[0])?;
    if ports.iter().any(|port| !matches!(port.element, ElementType::F32 | ElementType::F16)) {
        let found = with_loop_limit(TIME_FOR_TRIES, || -> Result<_> {
            for integers in &INTEGERS {
                let candidate = draw(integers)?;
                if plan.session()?.run(candidate.clone()).is_ok() {
                    return Ok(Some(candidate));
                }
            }
            Ok(None)
        });
        run = found?.unwrap_or(run);
    }
    Ok(Inputs { runs: vec![run], labels: None, what: "seeded random values".into() })
}

/// Runs of values in 0..1, and each again with values of mean 0 and variance 1: models take the ones or the others.
pub fn with_normal_values(inputs: Inputs) -> Result<Inputs> {
    let mut runs = inputs.runs;
    for number in 0..runs.len() {
        let normal = |tensor: &Tensor| match tensor.datum_type().is_float() {
            true => {
                let values = normal_from_uniform(&to_f32(tensor)?);
                let normal = Tensor::from_shape(tensor.shape(), &values)?;
                Ok(normal.cast_to_dt(tensor.datum_type())?.into_owned())
            }
            false => Ok(tensor.clone()),
        };
        if runs[number].iter().any(|tensor| tensor.datum_type().is_float()) {
            runs.push(runs[number].iter().map(normal).collect::<Result<_>>()?);
        }
    }
    Ok(Inputs { runs, labels: None, what: inputs.what })
}

/// Box and Muller's transform of neighbours.
fn normal_from_uniform(values: &[f32]) -> Vec<f32> {
    let mut normal = vec![];
    for pair in values.chunks(2) {
        let radius = (-2.0 * (1.0 - pair[0].clamp(0.0, 1.0 - f32::EPSILON)).ln()).sqrt();
        let angle = std::f32::consts::TAU * pair.get(1).unwrap_or(&0.0);
        normal.extend([radius * angle.cos(), radius * angle.sin()].iter().take(pair.len()));
    }
    normal
}

/// The first test digits, as `record` has them.
///
/// # Errors
/// `record` is of pictures that are not 28×28 and grey.
pub fn digits(record: &Preprocessing, batch: Option<usize>) -> Result<Inputs> {
    let digits = mnist::first_test_images(DIGITS)?;
    let size = [digits.rows(), digits.cols()];
    ensure!(
        size == [record.height, record.width] && record.channels == Channels::Grey,
        "the digits are 28×28 grey pixels; the model takes {}×{} {}",
        record.height,
        record.width,
        if record.channels == Channels::Grey { "grey pixels" } else { "pixels of 3 colours" }
    );
    let batch = batch.filter(|&n| n > 0).unwrap_or(DIGITS);
    let runs = digits.images().chunks_exact(batch * size[0] * size[1]).map(|pixels| {
        Ok(vec![Tensor::from_shape(&record.shape(batch), &record.normalize(pixels))?])
    });
    let runs = runs.collect::<Result<Vec<_>>>()?;
    ensure!(!runs.is_empty(), "the model takes {batch} pictures at a time, more than {DIGITS}");
    let labels = digits.labels().iter().map(|&label| label as usize);
    let count = runs.len() * batch;
    let labels = Some(labels.take(count).collect());
    Ok(Inputs { what: format!("{count} test digits"), labels, runs })
}

/// What MNIST's models are given, in either order of axes.
fn is_mnist(record: &Preprocessing) -> bool {
    *record == Preprocessing { layout: record.layout, ..Preprocessing::mnist() }
}

fn takes_pictures(port: &Port, record: &Preprocessing) -> bool {
    let shape = record.shape(1);
    let dims = port.shape.iter().zip(shape).skip(1);
    port.shape.len() == 4 && dims.into_iter().all(|(d, n)| d.known().is_none_or(|d| d == n))
}

fn random_pixels(record: &Preprocessing, rows: usize) -> Result<Inputs> {
    let shape = record.shape(rows);
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let count = count.filter(|&n| n <= MAX_ELEMENTS);
    let count = count.with_context(|| format!("the pictures are too large: {shape:?}"))?;
    let mut random = Pcg64::seed_from_u64(1);
    let pixels: Vec<u8> = std::iter::repeat_with(|| random.next_u32() as u8).take(count).collect();
    let run = vec![Tensor::from_shape(&shape, &record.normalize(&pixels))?];
    Ok(Inputs { runs: vec![run], labels: None, what: "seeded random pixels".into() })
}

/// Cuts tensors of many rows into runs: of as many rows as the inputs take at once, or up to `most` where
/// they take any number. Inputs that do not share their rows are one run.
///
/// # Errors
/// The rows are no multiple of what the inputs take.
pub fn rows_of_runs(ports: &[Port], tensors: Vec<Tensor>, most: usize) -> Result<Vec<Vec<Tensor>>> {
    let taken: Vec<Option<&Dim>> = ports.iter().map(|p| p.shape.first()).collect();
    let given: Vec<Option<usize>> = tensors.iter().map(|t| t.shape().first().copied()).collect();
    let (Some(Some(dim)), Some(Some(rows))) = (taken.first(), given.first()) else {
        return Ok(vec![tensors]);
    };
    if taken.iter().any(|d| *d != Some(*dim)) || given.iter().any(|n| *n != Some(*rows)) {
        return Ok(vec![tensors]);
    }
    let at_once = dim.known().unwrap_or(most).max(1);
    ensure!(
        dim.known().is_none() || rows.is_multiple_of(at_once),
        "the model takes {at_once} rows at a time; {rows} is no multiple of that"
    );
    if *rows <= at_once {
        return Ok(vec![tensors]);
    }
    let cut = |start: usize| {
        let end = (start + at_once).min(*rows);
        tensors.iter().map(|t| t.slice(0, start, end)).collect::<Result<Vec<_>>>()
    };
    (0..*rows).step_by(at_once).map(cut).collect()
}

/// Where integers are drawn from: the first range with which the model runs, for indices have bounds and
/// divisors are not zero.
const INTEGERS: [Range<f32>; 4] = [0.0..100.0, 0.0..2.0, 1.0..3.0, 0.0..1.0];

/// Floats in 0..1; symbols become a few rows.
fn random_tensor(port: &Port, integers: &Range<f32>, random: &mut Pcg64) -> Result<Tensor> {
    let is_picture = port.shape.len() == 4;
    let unknown = |axis| if is_picture && axis > 0 { RANDOM_SIDE } else { RANDOM_ROWS };
    let dims = port.shape.iter().enumerate();
    let shape: Vec<usize> = dims.map(|(axis, d)| d.known().unwrap_or(unknown(axis))).collect();
    if port
        .shape
        .iter()
        .any(|d| matches!(d, Dim::Symbol(s) if !s.chars().all(|c| c.is_alphanumeric() || c == '_')))
    {
        bail!("input '{}' has the shape {}; give real inputs", port.name, shape_text(&port.shape));
    }
    let count = shape.iter().try_fold(1usize, |n, &d| n.checked_mul(d));
    let count = count.filter(|&n| n <= MAX_ELEMENTS);
    let count = count.with_context(|| format!("input '{}' is too large: {shape:?}", port.name))?;
    let mut unit = || (random.next_u32() >> 8) as f32 / (1u32 << 24) as f32;
    let floats: Vec<f32> = std::iter::repeat_with(&mut unit).take(count).collect();
    let tensor = Tensor::from_shape(&shape, &floats)?;
    let wanted = crate::ops::datum_type(port.element)?;
    if !wanted.is_float() && port.has_reals() {
        let bytes: Vec<i64> = floats.iter().map(|v| (v * 256.0) as i64).collect();
        let lowest = if port.element == ElementType::U8 { 0 } else { -128 };
        let bytes: Vec<i64> = bytes.into_iter().map(|b| b + lowest).collect();
        return Ok(Tensor::from_shape(&shape, &bytes)?.cast_to_dt(wanted)?.into_owned());
    }
    if wanted.is_float() {
        return Ok(tensor.cast_to_dt(wanted)?.into_owned());
    }
    ensure!(port.element != ElementType::String, "input '{}' takes strings", port.name);
    let range = if port.element == ElementType::Bool { &(0.0..2.0) } else { integers };
    let width = range.end - range.start;
    let integers: Vec<i64> = floats.iter().map(|v| (v * width + range.start) as i64).collect();
    Ok(Tensor::from_shape(&shape, &integers)?.cast_to_dt(wanted)?.into_owned())
}
