//! What models are compared on: real digits for models of digits, else seeded random values.

use crate::data::mnist;
use crate::data::preprocessing::Preprocessing;
use crate::graph::{Dim, ElementType, shape_text};
use crate::runtime::{Plan, Port, Tensor};
use anyhow::{Context, Result, bail, ensure};
use rand_pcg::Pcg64;
use rand_pcg::rand_core::{Rng, SeedableRng};
use std::ops::Range;

/// Input tensors for one or more runs, and what they are.
#[derive(Debug)]
pub struct Inputs {
    pub runs: Vec<Vec<Tensor>>,
    /// `100 test digits`.
    pub what: String,
}

const DIGITS: usize = 100;
const RANDOM_ROWS: usize = 4;
/// Height and width of pictures whose size the model leaves open.
const RANDOM_SIDE: usize = 48;
const MAX_ELEMENTS: usize = 1 << 28;

/// Inputs that suit `plan`, the same every time.
///
/// # Errors
/// An input's shape is unknown beyond its batch, or too large.
pub fn example_inputs(plan: &Plan, preprocessing: Option<&Preprocessing>) -> Result<Inputs> {
    if let (Some(record), [port]) = (preprocessing, plan.inputs())
        && *record == Preprocessing::mnist()
        && port.element == ElementType::F32
    {
        let digits = mnist::first_test_images(DIGITS)?;
        let batch =
            if port.shape.first().is_some_and(|d| d.known().is_none()) { DIGITS } else { 1 };
        let runs =
            digits.images().chunks_exact(batch * digits.rows() * digits.cols()).map(|pixels| {
                Ok(vec![Tensor::from_shape(&record.shape(batch), &record.normalize(pixels))?])
            });
        return Ok(Inputs {
            runs: runs.collect::<Result<_>>()?,
            what: format!("{DIGITS} test digits"),
        });
    }
    let draw = |integers: &Range<f32>| -> Result<Vec<Tensor>> {
        let mut random = Pcg64::seed_from_u64(1);
        plan.inputs().iter().map(|port| random_tensor(port, integers, &mut random)).collect()
    };
    let mut run = draw(&INTEGERS[0])?;
    if plan.inputs().iter().any(|port| !matches!(port.element, ElementType::F32 | ElementType::F16))
    {
        for integers in &INTEGERS {
            let candidate = draw(integers)?;
            if plan.session()?.run(candidate.clone()).is_ok() {
                run = candidate;
                break;
            }
        }
    }
    Ok(Inputs { runs: vec![run], what: "seeded random values".into() })
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
    if wanted.is_float() {
        return Ok(tensor.cast_to_dt(wanted)?.into_owned());
    }
    ensure!(port.element != ElementType::String, "input '{}' takes strings", port.name);
    let range = if port.element == ElementType::Bool { &(0.0..2.0) } else { integers };
    let width = range.end - range.start;
    let integers: Vec<i64> = floats.iter().map(|v| (v * width + range.start) as i64).collect();
    Ok(Tensor::from_shape(&shape, &integers)?.cast_to_dt(wanted)?.into_owned())
}
