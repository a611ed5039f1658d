//! The cases of `quantized_ops.rs`: operands in integers, and what float64 makes of the reals they stand for.

mod elementwise;
mod moving;
mod products;
mod windows;

use mlctl::graph::{ElementType, LiteOp, Quantization};

/// Integers, and what they stand for.
#[derive(Clone)]
pub struct Values {
    pub shape: Vec<usize>,
    pub element: ElementType,
    pub quantization: Option<Quantization>,
    pub integers: Vec<i64>,
}

#[derive(Clone)]
pub enum Operand {
    Given(Values),
    Reals(Vec<usize>, Vec<f64>),
    Constant(Values),
    Absent,
}

/// What a result is, without its values.
#[derive(Clone)]
pub struct Ending {
    pub shape: Vec<usize>,
    pub element: ElementType,
    pub quantization: Option<Quantization>,
}

pub enum Expected {
    /// Within one integer of these; float32 ones within 1e-6.
    Reals(Vec<f64>),
    Exactly(Vec<i64>),
    /// What the op makes of the same integers without scales.
    AsPlain,
}

pub struct Case {
    pub name: String,
    pub op: LiteOp,
    pub operands: Vec<Operand>,
    pub results: Vec<Ending>,
    pub expected: Expected,
}

pub fn cases() -> Vec<Case> {
    let mut cases = vec![];
    products::add(&mut cases);
    windows::add(&mut cases);
    elementwise::add(&mut cases);
    moving::add(&mut cases);
    cases
}

pub fn scale(scale: f64, zero_point: i64) -> Option<Quantization> {
    Some(Quantization::PerTensor { scale: scale as f32, zero_point })
}

pub fn range(element: ElementType) -> (i64, i64) {
    match element {
        ElementType::I4 => (-8, 7),
        ElementType::I8 => (-128, 127),
        ElementType::U8 => (0, 255),
        ElementType::I16 => (-32768, 32767),
        _ => (i32::MIN.into(), i32::MAX.into()),
    }
}

/// Integers that are the same every time, over all of `low..=high` and with both ends among them.
pub fn integers(count: usize, low: i64, high: i64, seed: u64) -> Vec<i64> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x2545_f491_4f6c_dd1d;
    let mut values: Vec<i64> = (0..count)
        .map(|_| {
            state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
            low + ((state >> 33) % (high - low + 1) as u64) as i64
        })
        .collect();
    if count > 4 {
        (values[1], values[count - 2]) = (high, low);
    }
    values
}

/// Values of every size, of one scale.
pub fn varied(shape: &[usize], element: ElementType, step: f64, zero_point: i64) -> Values {
    let (low, high) = range(element);
    let count = shape.iter().product();
    Values {
        shape: shape.to_vec(),
        element,
        quantization: scale(step, zero_point),
        integers: integers(count, low, high, count as u64 + 7),
    }
}

/// An activation's usual scale and zero point.
pub fn usual(element: ElementType) -> (f64, i64) {
    match element {
        ElementType::U8 => (0.05, 121),
        ElementType::I16 => (0.0003, 0),
        _ => (0.05, -3),
    }
}

pub fn activation(shape: &[usize], element: ElementType) -> Values {
    let (step, zero_point) = usual(element);
    varied(shape, element, step, zero_point)
}

impl Values {
    /// The reals that the integers stand for.
    pub fn reals(&self) -> Vec<f64> {
        let per_value: Box<dyn Fn(usize) -> (f64, i64)> = match &self.quantization {
            None => Box::new(|_| (1.0, 0)),
            Some(Quantization::PerTensor { scale, zero_point }) => {
                let (scale, zero_point) = (f64::from(*scale), *zero_point);
                Box::new(move |_| (scale, zero_point))
            }
            Some(Quantization::PerChannel { scales, zero_points, axis }) => {
                let run: usize = self.shape[axis + 1..].iter().product();
                let (scales, zero_points) = (scales.clone(), zero_points.clone());
                Box::new(move |i| {
                    let channel = i / run % scales.len();
                    (f64::from(scales[channel]), zero_points[channel])
                })
            }
            Some(Quantization::Blockwise { .. }) => panic!("blocks"),
        };
        let pairs = self.integers.iter().enumerate();
        pairs.map(|(i, &v)| (v - per_value(i).1) as f64 * per_value(i).0).collect()
    }

    pub fn as_ending(&self) -> Ending {
        Ending {
            shape: self.shape.clone(),
            element: self.element,
            quantization: self.quantization.clone(),
        }
    }
}

/// A result whose scale lets `reals` fill most of the type, a few beyond it.
pub fn fitting(shape: &[usize], element: ElementType, zero_point: i64, reals: &[f64]) -> Ending {
    let (low, high) = range(element);
    let most = reals.iter().fold(0f64, |most, v| most.max(v.abs())).max(1e-3);
    let room = (zero_point - low).max(high - zero_point) as f64 * 1.1;
    Ending { shape: shape.to_vec(), element, quantization: scale(most / room, zero_point) }
}

/// What `reals` are as `ending` has them: the nearest integers within its type.
pub fn of_reals(reals: &[f64], ending: &Ending) -> Vec<f64> {
    let Some(Quantization::PerTensor { scale, zero_point }) = &ending.quantization else {
        return reals.to_vec();
    };
    let (low, high) = range(ending.element);
    let integer = |real: &f64| {
        let nearest = (real / f64::from(*scale)).round() + *zero_point as f64;
        nearest.clamp(low as f64, high as f64)
    };
    reals.iter().map(integer).collect()
}

pub fn add_case(
    cases: &mut Vec<Case>,
    name: impl Into<String>,
    op: LiteOp,
    operands: Vec<Operand>,
    result: Ending,
    expected: Vec<f64>,
) {
    let (name, expected) = (name.into(), Expected::Reals(expected));
    cases.push(Case { name, op, operands, results: vec![result], expected });
}

pub fn indices(values: &[i32]) -> Operand {
    let integers = values.iter().map(|&v| v.into()).collect();
    let (shape, element) = (vec![values.len()], ElementType::I32);
    Operand::Constant(Values { shape, element, quantization: None, integers })
}

pub fn index(value: i32) -> Operand {
    let (shape, element) = (vec![], ElementType::I32);
    Operand::Constant(Values { shape, element, quantization: None, integers: vec![value.into()] })
}
