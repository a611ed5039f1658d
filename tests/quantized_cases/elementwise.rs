//! Functions of one and of two values, conversions.

use super::*;
use mlctl::graph::{Activation, BinaryOp, UnaryOp};

const ELEMENTS: [ElementType; 3] = [ElementType::I8, ElementType::U8, ElementType::I16];

pub fn add(cases: &mut Vec<Case>) {
    add_conversions(cases);
    for element in ELEMENTS {
        for (op, activation) in [
            (BinaryOp::Add, Activation::None),
            (BinaryOp::Add, Activation::Relu6),
            (BinaryOp::Sub, Activation::None),
            (BinaryOp::Mul, Activation::None),
            (BinaryOp::Mul, Activation::Relu),
        ] {
            add_arithmetic(cases, op, activation, element, &[2, 3, 4], &[2, 3, 4]);
        }
        add_arithmetic(cases, BinaryOp::Add, Activation::None, element, &[2, 3, 4], &[3, 1]);
        add_arithmetic(cases, BinaryOp::Mul, Activation::None, element, &[1, 4], &[3, 1]);
        add_arithmetic(cases, BinaryOp::Sub, Activation::None, element, &[2, 3], &[1]);
        for op in [
            BinaryOp::Equal,
            BinaryOp::NotEqual,
            BinaryOp::Less,
            BinaryOp::LessEqual,
            BinaryOp::Greater,
            BinaryOp::GreaterEqual,
        ] {
            // int16 only in kernels that came late
            if element != ElementType::I16 {
                add_comparison(cases, op, element);
            }
        }
        for op in UNARY {
            add_unary(cases, op, element);
        }
        for alpha in [0.1f32, -0.4, 1.5] {
            let function = move |v: f64| if v < 0.0 { v * f64::from(alpha) } else { v };
            let (op, name) = (LiteOp::LeakyRelu { alpha }, format!("leaky relu {alpha}"));
            add_function(cases, &name, op, element, function, None);
        }
        add_prelu(cases, element);
    }
    add_arithmetic(
        cases,
        BinaryOp::SquaredDifference,
        Activation::None,
        ElementType::I8,
        &[3, 5],
        &[5],
    );
    add_arithmetic(cases, BinaryOp::Div, Activation::None, ElementType::U8, &[3, 5], &[3, 5]);
    for approximate in [false, true] {
        for element in [ElementType::I8, ElementType::U8] {
            let name = format!("gelu {approximate}");
            add_function(cases, &name, LiteOp::Gelu { approximate }, element, gelu, None);
        }
    }
}

const UNARY: [UnaryOp; 13] = [
    UnaryOp::Abs,
    UnaryOp::Elu,
    UnaryOp::Exp,
    UnaryOp::HardSwish,
    UnaryOp::Log,
    UnaryOp::Logistic,
    UnaryOp::Relu,
    UnaryOp::Relu6,
    UnaryOp::ReluN1To1,
    UnaryOp::Relu0To1,
    UnaryOp::Rsqrt,
    UnaryOp::Sqrt,
    UnaryOp::Tanh,
];

fn gelu(x: f64) -> f64 {
    // by Simpson's rule on the bell curve
    const STEPS: usize = 400;
    let (a, width) = (0.0, x / STEPS as f64);
    let bell = |t: f64| (-t * t / 2.0).exp() / (2.0 * std::f64::consts::PI).sqrt();
    let inner = (1..STEPS).map(|i| bell(a + i as f64 * width) * if i % 2 == 1 { 4.0 } else { 2.0 });
    let area = (bell(a) + bell(x) + inner.sum::<f64>()) * width / 3.0;
    x * (0.5 + area)
}

fn add_unary(cases: &mut Vec<Case>, op: UnaryOp, element: ElementType) {
    let sixteen = element == ElementType::I16;
    let of_positive = matches!(op, UnaryOp::Log | UnaryOp::Sqrt | UnaryOp::Rsqrt);
    // what TFLite has kernels for
    let known = match op {
        UnaryOp::Abs | UnaryOp::Log | UnaryOp::Sqrt | UnaryOp::Rsqrt => element != ElementType::U8,
        UnaryOp::Exp => element != ElementType::U8,
        UnaryOp::Elu => element == ElementType::I8,
        UnaryOp::HardSwish => !sixteen,
        UnaryOp::Relu0To1 | UnaryOp::ReluN1To1 => !sixteen,
        _ => true,
    };
    if !known || of_positive && sixteen {
        return;
    }
    let function: fn(f64) -> f64 = match op {
        UnaryOp::Abs => f64::abs,
        UnaryOp::Elu => |v| if v < 0.0 { v.exp_m1() } else { v },
        UnaryOp::Exp => f64::exp,
        UnaryOp::HardSwish => |v| v * (v + 3.0).clamp(0.0, 6.0) / 6.0,
        UnaryOp::Log => |v| if v > 0.0 { v.ln() } else { -1e9 },
        UnaryOp::Logistic => |v| 1.0 / (1.0 + (-v).exp()),
        UnaryOp::Relu => |v| v.max(0.0),
        UnaryOp::Relu6 => |v| v.clamp(0.0, 6.0),
        UnaryOp::ReluN1To1 => |v| v.clamp(-1.0, 1.0),
        UnaryOp::Relu0To1 => |v| v.clamp(0.0, 1.0),
        UnaryOp::Rsqrt => |v| if v > 0.0 { 1.0 / v.sqrt() } else { 1e9 },
        UnaryOp::Sqrt => f64::sqrt,
        UnaryOp::Tanh => f64::tanh,
        other => panic!("{other:?}"),
    };
    let result = match (op, element) {
        (UnaryOp::Logistic | UnaryOp::Tanh, ElementType::I16) => scale(1.0 / 32768.0, 0),
        (UnaryOp::Logistic, element) => scale(1.0 / 256.0, range(element).0),
        (UnaryOp::Tanh, ElementType::U8) => scale(1.0 / 128.0, 128),
        (UnaryOp::Tanh, _) => scale(1.0 / 128.0, 0),
        (UnaryOp::Exp, ElementType::I16) => scale(1e-3, 0),
        (UnaryOp::Exp, element) => scale(0.02, range(element).0),
        _ => None,
    };
    add_function(cases, op.name(), LiteOp::Unary(op), element, function, result);
}

fn add_function(
    cases: &mut Vec<Case>,
    name: &str,
    op: LiteOp,
    element: ElementType,
    function: impl Fn(f64) -> f64,
    scale_of_result: Option<Quantization>,
) {
    let mut x = super::activation(&[4, 64], element);
    let of_positive = matches!(op, LiteOp::Unary(UnaryOp::Log | UnaryOp::Sqrt | UnaryOp::Rsqrt));
    if of_positive {
        x.quantization = scale(0.05, range(element).0);
        x.integers[9] += 1;
    }
    if let (
        LiteOp::Unary(UnaryOp::Sqrt | UnaryOp::Rsqrt),
        Some(Quantization::PerTensor { zero_point, .. }),
    ) = (&op, &x.quantization)
    {
        let least = zero_point + 1;
        x.integers.iter_mut().for_each(|v| *v = (*v).max(least));
    }
    let reals: Vec<f64> = x.reals().into_iter().map(function).collect();
    let finite: Vec<f64> = reals.iter().copied().filter(|v| v.abs() < 1e6).collect();
    let mut result = fitting(&x.shape, element, usual(element).1, &finite);
    if scale_of_result.is_some() {
        result.quantization = scale_of_result;
    }
    add_case(cases, format!("{name} {element}"), op, vec![Operand::Given(x)], result, reals);
}

fn broadcast(shape: &[usize], own: &[usize], place: usize) -> usize {
    let (mut rest, mut at, mut stride) = (place, 0, 1);
    for axis in (0..shape.len()).rev() {
        let index = rest % shape[axis];
        rest /= shape[axis];
        if let Some(own_axis) = (axis + own.len()).checked_sub(shape.len()) {
            at += if own[own_axis] == 1 { 0 } else { index * stride };
            stride *= own[own_axis];
        }
    }
    at
}

fn add_arithmetic(
    cases: &mut Vec<Case>,
    op: BinaryOp,
    activation: Activation,
    element: ElementType,
    first: &[usize],
    second: &[usize],
) {
    let (step, zero_point) = usual(element);
    let x = varied(first, element, step, zero_point);
    let mut y = varied(
        second,
        element,
        step * 1.7,
        if element == ElementType::I16 { 0 } else { zero_point + 4 },
    );
    if op == BinaryOp::Div {
        y.integers.iter_mut().for_each(|v| *v = (*v).max(zero_point + 20));
    }
    let rank = first.len().max(second.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |own| shape[own])
    };
    let shape: Vec<usize> = (0..rank).map(|a| size(first, a).max(size(second, a))).collect();
    let (a, b) = (x.reals(), y.reals());
    let function: fn(f64, f64) -> f64 = match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::SquaredDifference => |a, b| (a - b) * (a - b),
        other => panic!("{other:?}"),
    };
    let count = shape.iter().product();
    let mut reals: Vec<f64> = (0..count)
        .map(|i| function(a[broadcast(&shape, first, i)], b[broadcast(&shape, second, i)]))
        .collect();
    let result = fitting(&shape, element, zero_point, &reals);
    match activation {
        Activation::Relu => reals.iter_mut().for_each(|v| *v = v.max(0.0)),
        Activation::Relu6 => reals.iter_mut().for_each(|v| *v = v.clamp(0.0, 6.0)),
        _ => {}
    }
    let name = format!("{} {element} {activation:?} {first:?} {second:?}", op.name());
    let operands = vec![Operand::Given(x), Operand::Given(y)];
    add_case(cases, name, LiteOp::Binary { op, activation }, operands, result, reals);
}

/// Of reals that are equal, or far from it: kernels compare after they have scaled.
fn add_comparison(cases: &mut Vec<Case>, op: BinaryOp, element: ElementType) {
    let (_, zero_point) = usual(element);
    let x = varied(&[4, 16], element, 0.25, zero_point);
    let mut y = varied(&[4, 16], element, 0.5, zero_point);
    for (i, v) in y.integers.iter_mut().enumerate().step_by(3) {
        *v = zero_point + (x.integers[i] - zero_point).div_euclid(2);
    }
    let holds: fn(f64, f64) -> bool = match op {
        BinaryOp::Equal => |a, b| a == b,
        BinaryOp::NotEqual => |a, b| a != b,
        BinaryOp::Less => |a, b| a < b,
        BinaryOp::LessEqual => |a, b| a <= b,
        BinaryOp::Greater => |a, b| a > b,
        BinaryOp::GreaterEqual => |a, b| a >= b,
        other => panic!("{other:?}"),
    };
    let pairs = x.reals().into_iter().zip(y.reals());
    let expected = Expected::Exactly(pairs.map(|(a, b)| i64::from(holds(a, b))).collect());
    let result = Ending { shape: vec![4, 16], element: ElementType::Bool, quantization: None };
    let name = format!("{} {element}", op.name());
    let op = LiteOp::Binary { op, activation: Activation::None };
    let operands = vec![Operand::Given(x), Operand::Given(y)];
    cases.push(Case { name, op, operands, results: vec![result], expected });
}

fn add_prelu(cases: &mut Vec<Case>, element: ElementType) {
    let x = super::activation(&[2, 3, 4, 5], element);
    let of_slopes = if element == ElementType::I16 { ElementType::I8 } else { element };
    let slopes =
        varied(&[1, 1, 5], of_slopes, 0.01, if element == ElementType::I16 { 0 } else { 7 });
    let slope = slopes.reals();
    let values = x.reals();
    let reals: Vec<f64> = values
        .iter()
        .enumerate()
        .map(|(i, &v)| if v < 0.0 { v * slope[i % 5] } else { v })
        .collect();
    let result = fitting(&x.shape, element, usual(element).1, &reals);
    let operands = vec![Operand::Given(x), Operand::Constant(slopes)];
    add_case(cases, format!("prelu {element}"), LiteOp::PRelu, operands, result, reals);
}

fn add_conversions(cases: &mut Vec<Case>) {
    for element in ELEMENTS {
        let reals: Vec<f64> =
            integers(96, -9000, 9000, 1).iter().map(|&v| f64::from(v as f32 * 1e-3)).collect();
        let (step, zero_point) = usual(element);
        let result = Ending { shape: vec![4, 24], element, quantization: scale(step, zero_point) };
        let operands = vec![Operand::Reals(vec![4, 24], reals.clone())];
        add_case(cases, format!("quantize {element}"), LiteOp::Quantize, operands, result, reals);

        let x = super::activation(&[4, 24], element);
        let reals = x.reals();
        let result = Ending { shape: vec![4, 24], element: ElementType::F32, quantization: None };
        let name = format!("dequantize {element}");
        let operands = vec![Operand::Given(x)];
        add_case(cases, name, LiteOp::Dequantize, operands, result, reals);
    }
    use ElementType::{F32, I8, I16, U8};
    let pairs = [(I8, I8), (I8, U8), (U8, I8), (U8, U8), (I16, I8), (I16, I16), (I8, I16)];
    for (from, to) in pairs {
        let x = super::activation(&[4, 24], from);
        let reals = x.reals();
        let result = fitting(&[4, 24], to, if to == I16 { 0 } else { 11 }, &reals);
        let name = format!("requantize {from} to {to}");
        add_case(cases, name, LiteOp::Quantize, vec![Operand::Given(x)], result, reals);
    }
    let same = varied(&[4, 24], I8, 0.1, -7);
    let reals = same.reals();
    let result = Ending { shape: vec![4, 24], element: U8, quantization: scale(0.1, 121) };
    let operands = vec![Operand::Given(same)];
    add_case(cases, "requantize int8 by 128", LiteOp::Quantize, operands, result, reals);
    let scales: Vec<f32> = (0..6).map(|i| 0.01 + 0.02 * i as f32).collect();
    let quantization = Quantization::PerChannel { scales, zero_points: vec![0; 6], axis: 1 };
    let count = 4 * 6 * 3;
    let x = Values {
        shape: vec![4, 6, 3],
        element: I8,
        quantization: Some(quantization),
        integers: integers(count, -128, 127, 2),
    };
    let reals = x.reals();
    let result = Ending { shape: x.shape.clone(), element: F32, quantization: None };
    let operands = vec![Operand::Given(x)];
    add_case(cases, "dequantize per channel", LiteOp::Dequantize, operands, result, reals);
}
