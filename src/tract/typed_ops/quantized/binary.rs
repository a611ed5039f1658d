//! Functions of two quantized values, broadcast as numpy does.

use super::bytes::{flip_of, zero_of_bytes};
use super::*;
use crate::kernels::{ByteSum, add_bytes};

/// The result of each pair of integers.
#[derive(Debug, Clone, PartialEq)]
pub enum BinaryFunction {
    /// Both to a common scale, added or subtracted, to the result's scale.
    Sum(SumOfTwo),
    Product {
        zero_points: [i32; 2],
        output: Requantize,
    },
    /// As [`BinaryFunction::Sum`] of a difference, which is squared.
    SquaredDifference(SumOfTwo),
    /// `x` where not negative, else `x · slope`.
    PRelu {
        zero_points: [i32; 2],
        positive: Requantize,
        negative: Requantize,
    },
    Comparison {
        zero_points: [i32; 2],
        multipliers: [Multiplier; 2],
        holds: [bool; 3],
    },
}

/// What brings two values to one scale and their sum to the result's.
#[derive(Debug, Clone, PartialEq)]
pub struct SumOfTwo {
    pub zero_points: [i32; 2],
    /// Bits by which values are moved up before they are scaled.
    pub left_shift: u32,
    pub multipliers: [Multiplier; 2],
    pub subtracts: bool,
    pub output: Requantize,
}

impl SumOfTwo {
    /// The same of values of 8 bits, all of the result's type.
    fn of_bytes(&self) -> Option<ByteSum> {
        let datum = self.output.datum;
        let output = self.output.rescale.first()?.fixed()?;
        let plain = |m: Multiplier| m.mantissa >= 0 && m.shift <= 0;
        let fits = output.mantissa >= 0 && self.multipliers.into_iter().all(plain);
        fits.then(|| ByteSum {
            flip: flip_of(datum),
            zeros: self.zero_points.map(|zero| zero_of_bytes(datum, zero)),
            up: self.left_shift,
            multipliers: self.multipliers,
            subtracts: self.subtracts,
            output,
            zero_point: self.output.zero_point,
            bounds: self.output.bounds,
        })
    }

    fn sum(&self, x: i32, y: i32) -> i32 {
        let scaled = |i: usize, value: i32| {
            let moved = value.wrapping_sub(self.zero_points[i]).wrapping_shl(self.left_shift);
            self.multipliers[i].apply(moved)
        };
        let (x, y) = (scaled(0, x), scaled(1, y));
        if self.subtracts { x.wrapping_sub(y) } else { x.wrapping_add(y) }
    }
}

impl BinaryFunction {
    fn of(&self, x: i32, y: i32) -> i32 {
        match self {
            BinaryFunction::Sum(op) => op.output.apply(0, op.sum(x, y)),
            BinaryFunction::SquaredDifference(op) => {
                let difference = op.sum(x, y);
                op.output.apply(0, difference.wrapping_mul(difference))
            }
            BinaryFunction::Product { zero_points: [a, b], output } => {
                output.apply(0, x.wrapping_sub(*a).wrapping_mul(y.wrapping_sub(*b)))
            }
            BinaryFunction::PRelu { zero_points: [a, b], positive, negative } => {
                match x.wrapping_sub(*a) {
                    x if x >= 0 => positive.apply(0, x),
                    x => negative.apply(0, x.wrapping_mul(y.wrapping_sub(*b))),
                }
            }
            BinaryFunction::Comparison { zero_points: [a, b], multipliers, holds } => {
                let x = multipliers[0].apply(x.wrapping_sub(*a).wrapping_shl(8));
                let y = multipliers[1].apply(y.wrapping_sub(*b).wrapping_shl(8));
                i32::from(holds[(x.cmp(&y) as i8 + 1) as usize])
            }
        }
    }
}

/// A function of two operands of equal rank.
#[derive(Debug, Clone, PartialEq)]
pub struct Binary {
    name: &'static str,
    function: BinaryFunction,
    to: DatumType,
    /// Of sums of 8-bit values.
    bytes: Option<ByteSum>,
}

impl Binary {
    pub fn new(name: &'static str, function: BinaryFunction, to: DatumType) -> Binary {
        let bytes = match &function {
            BinaryFunction::Sum(sum) if to.size_of() == 1 => sum.of_bytes(),
            _ => None,
        };
        Binary { name, function, to, bytes }
    }
}

impl Kernel for Binary {
    fn name(&self) -> &'static str {
        self.name
    }

    fn fact(&self, inputs: &[&TypedFact]) -> TractResult<TypedFact> {
        let types = [inputs[0].datum_type, inputs[1].datum_type];
        ensure!(self.bytes.is_none() || types == [self.to; 2], "operands of {types:?}");
        let shape =
            tract_core::broadcast::multi_broadcast(&[&*inputs[0].shape, &*inputs[1].shape])?;
        Ok(self.to.fact(&*shape))
    }

    fn run(&self, inputs: &[TValue]) -> TractResult<Tensor> {
        let shapes = [inputs[0].shape(), inputs[1].shape()];
        let shape = tract_core::broadcast::multi_broadcast(&shapes)?;
        if let Some(op) = &self.bytes
            && shapes[0] == shapes[1]
        {
            let mut made = Tensor::zero_dt(self.to, &shape)?;
            add_bytes(inputs[0].as_bytes(), inputs[1].as_bytes(), op, made.as_bytes_mut());
            return Ok(made);
        }
        with_integer!(inputs[0].datum_type(), X => {
            with_integer!(inputs[1].datum_type(), Y => {
                let (x, y) = (slice::<X>(&inputs[0])?, slice::<Y>(&inputs[1])?);
                if self.to == DatumType::Bool {
                    return made::<bool>(&shape, |out| {
                        broadcast(shapes, &shape, |i, a, b| {
                            out[i] = self.function.of(x[a].into(), y[b].into()) != 0;
                        });
                        Ok(())
                    });
                }
                with_integer!(self.to, Z => made::<Z>(&shape, |out| {
                    if shapes[0] == shapes[1] {
                        let pairs = out.iter_mut().zip(x.iter().zip(y));
                        pairs.for_each(|(out, (&x, &y))| *out = Z::narrow(self.function.of(x.into(), y.into())));
                        return Ok(());
                    }
                    broadcast(shapes, &shape, |i, a, b| {
                        out[i] = Z::narrow(self.function.of(x[a].into(), y[b].into()));
                    });
                    Ok(())
                }))
            })
        })
    }
}

/// Calls `visit` with the place of each result and of both operands.
fn broadcast(shapes: [&[usize]; 2], shape: &[usize], mut visit: impl FnMut(usize, usize, usize)) {
    let strides = shapes.map(|own| {
        let mut strides: TVec<usize> = tvec![0; shape.len()];
        let mut stride = 1;
        for axis in (0..shape.len()).rev() {
            strides[axis] = if own[axis] == 1 { 0 } else { stride };
            stride *= own[axis];
        }
        strides
    });
    let mut index: TVec<usize> = tvec![0; shape.len()];
    let mut places = [0, 0];
    for i in 0..shape.iter().product() {
        visit(i, places[0], places[1]);
        for axis in (0..shape.len()).rev() {
            index[axis] += 1;
            places[0] += strides[0][axis];
            places[1] += strides[1][axis];
            if index[axis] < shape[axis] {
                break;
            }
            places[0] -= strides[0][axis] * shape[axis];
            places[1] -= strides[1][axis] * shape[axis];
            index[axis] = 0;
        }
    }
}
