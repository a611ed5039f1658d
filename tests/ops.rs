//! Every op of the lite graph, alone in a graph: written as `.tflite`, read back, raised and run, against
//! float64 formulas written here. LiteRT judges the same files in `tests/interop/check_ops.py`.

use bytes::Bytes;
use half::f16;
use mlctl::format::npy::{Array, Dtype, write_npz};
use mlctl::format::tflite;
use mlctl::graph::{
    Activation, BinaryOp, Dim, ElementType, LiteOp, Model, Node, ReduceOp, Signature, Subgraph,
    Tensor, UnaryOp,
};
use mlctl::runtime::{Plan, from_array, to_f32};
use mlctl::{raise, read, write};
use std::path::Path;

/// An array in float64, row-major.
#[derive(Debug, Clone)]
struct Nd {
    shape: Vec<usize>,
    values: Vec<f64>,
}

#[derive(Clone)]
enum Operand {
    Given(Nd),
    Constant(Nd),
    Half(Nd, Place),
    /// A constant int32 vector: a shape, a permutation, axes.
    Integers(Vec<i32>),
    /// A constant int32 scalar: an axis.
    Number(i32),
    Absent,
}
use Operand::{Absent, Constant, Given, Half, Integers, Number};

#[derive(Clone, Copy, PartialEq)]
enum Place {
    AsInput,
    AsConstant,
}

struct Case {
    name: String,
    op: LiteOp,
    operands: Vec<Operand>,
    /// One a result.
    expected: Vec<Nd>,
    /// Of what is given and of the results.
    element: ElementType,
    /// The first axis of the inputs and of the results is a symbol in the graph.
    dynamic: bool,
}

/// What LiteRT cannot be asked about, by the end of the case's name.
const NOT_IN_LITERT: [(&str, &str); 1] = [(
    "fused tanh",
    "LiteRT refuses it in FULLY_CONNECTED and leaves it out in ADD, SUB, MUL and DIV; no pass makes it",
)];

fn cases() -> Vec<Case> {
    let mut cases = vec![];
    unary_cases(&mut cases);
    binary_cases(&mut cases);
    product_cases(&mut cases);
    softmax_cases(&mut cases);
    reduce_cases(&mut cases);
    shape_cases(&mut cases);
    update_cases(&mut cases);
    cutting_cases(&mut cases);
    integer_cases(&mut cases);
    for place in [Place::AsInput, Place::AsConstant] {
        let x = varied(&[3, 5], -70.0, 70.0);
        let halves = map(&x, |v| f16::from_f64(v).to_f64());
        let name = match place {
            Place::AsInput => "dequantize float16 input",
            Place::AsConstant => "dequantize float16 constant",
        };
        add(&mut cases, name, LiteOp::Dequantize, vec![Half(x, place)], halves);
    }
    cases
}

fn add(cases: &mut Vec<Case>, name: &str, op: LiteOp, operands: Vec<Operand>, expected: Nd) {
    add_several(cases, name, op, operands, vec![expected]);
}

fn add_several(
    cases: &mut Vec<Case>,
    name: &str,
    op: LiteOp,
    operands: Vec<Operand>,
    expected: Vec<Nd>,
) {
    let (name, element) = (name.to_string(), ElementType::F32);
    cases.push(Case { name, op, operands, expected, element, dynamic: false });
}

fn add_dynamic(
    cases: &mut Vec<Case>,
    name: &str,
    op: LiteOp,
    operands: Vec<Operand>,
    expected: Nd,
) {
    add(cases, name, op, operands, expected);
    if let Some(case) = cases.last_mut() {
        case.dynamic = true;
    }
}

/// In float64, with the interval to try it on.
fn unary_reference(op: UnaryOp) -> (fn(f64) -> f64, f64, f64) {
    match op {
        UnaryOp::Abs => (f64::abs, -3.0, 3.0),
        UnaryOp::Elu => (|x| if x > 0.0 { x } else { x.exp_m1() }, -3.0, 3.0),
        UnaryOp::Sign => (|x| if x == 0.0 { 0.0 } else { x.signum() }, -3.0, 3.0),
        UnaryOp::LogicalNot => unreachable!("not a float op"),
        UnaryOp::Ceil => (f64::ceil, -3.0, 3.0),
        UnaryOp::Cos => (f64::cos, -7.0, 7.0),
        UnaryOp::Exp => (f64::exp, -5.0, 3.0),
        UnaryOp::Floor => (f64::floor, -3.0, 3.0),
        UnaryOp::Log => (f64::ln, 0.01, 9.0),
        UnaryOp::Logistic => (|x| 1.0 / (1.0 + (-x).exp()), -9.0, 9.0),
        UnaryOp::Neg => (|x| -x, -3.0, 3.0),
        UnaryOp::Relu => (|x| x.max(0.0), -9.0, 9.0),
        UnaryOp::Relu6 => (|x| x.clamp(0.0, 6.0), -9.0, 9.0),
        UnaryOp::ReluN1To1 => (|x| x.clamp(-1.0, 1.0), -3.0, 3.0),
        UnaryOp::Relu0To1 => (|x| x.clamp(0.0, 1.0), -3.0, 3.0),
        UnaryOp::Round => (f64::round_ties_even, -4.0, 4.0),
        UnaryOp::Rsqrt => (|x| 1.0 / x.sqrt(), 0.05, 9.0),
        UnaryOp::Sin => (f64::sin, -7.0, 7.0),
        UnaryOp::Sqrt => (f64::sqrt, 0.0, 9.0),
        UnaryOp::Square => (|x| x * x, -3.0, 3.0),
        UnaryOp::Tanh => (f64::tanh, -5.0, 5.0),
        UnaryOp::HardSwish => (|x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0, -5.0, 5.0),
    }
}

fn unary_cases(cases: &mut Vec<Case>) {
    for op in UnaryOp::ALL.into_iter().filter(|op| *op != UnaryOp::LogicalNot) {
        let (function, low, high) = unary_reference(op);
        let lite = LiteOp::Unary(op);
        let x = varied(&[2, 3, 4, 5], low, high);
        add(cases, op.name(), lite.clone(), vec![Given(x.clone())], map(&x, function));
        let x = varied(&[3, 7], low, high);
        let name = format!("{} batch", op.name());
        add_dynamic(cases, &name, lite, vec![Given(x.clone())], map(&x, function));
    }
    let halves = Nd { shape: vec![1, 6], values: vec![-2.5, -1.5, -0.5, 0.5, 1.5, 2.5] };
    let rounded = Nd { shape: vec![1, 6], values: vec![-2.0, -2.0, 0.0, 0.0, 2.0, 2.0] };
    add(cases, "round halves", LiteOp::Unary(UnaryOp::Round), vec![Given(halves)], rounded);
    let x = varied(&[2, 3, 4, 5], -4.0, 4.0);
    for alpha in [0.2, -0.5, 1.5] {
        let expected = map(&x, |v| if v < 0.0 { v * alpha as f32 as f64 } else { v });
        let op = LiteOp::LeakyRelu { alpha: alpha as f32 };
        add(cases, &format!("leaky relu {alpha}"), op, vec![Given(x.clone())], expected);
    }
    let exact = map(&x, |v| 0.5 * v * (1.0 + erf(v / 2f64.sqrt())));
    let op = LiteOp::Gelu { approximate: false };
    add(cases, "gelu", op, vec![Given(x.clone())], exact);
    let slope = (2.0 / std::f64::consts::PI).sqrt();
    let approximate = map(&x, |v| 0.5 * v * (1.0 + (slope * (v + 0.044715 * v * v * v)).tanh()));
    let op = LiteOp::Gelu { approximate: true };
    add(cases, "gelu approximate", op, vec![Given(x)], approximate);
}

const ACTIVATIONS: [(&str, Activation, fn(f64) -> f64); 5] = [
    ("", Activation::None, |x| x),
    (" fused relu", Activation::Relu, |x| x.max(0.0)),
    (" fused relu_n1_to_1", Activation::ReluN1To1, |x| x.clamp(-1.0, 1.0)),
    (" fused relu6", Activation::Relu6, |x| x.clamp(0.0, 6.0)),
    (" fused tanh", Activation::Tanh, f64::tanh),
];

fn binary_reference(op: BinaryOp) -> fn(f64, f64) -> f64 {
    match op {
        BinaryOp::Add => |a, b| a + b,
        BinaryOp::FloorDiv => |a, b| (a / b).floor(),
        BinaryOp::FloorMod => |a, b| a - (a / b).floor() * b,
        BinaryOp::LogicalAnd
        | BinaryOp::LogicalOr
        | BinaryOp::Equal
        | BinaryOp::NotEqual
        | BinaryOp::Less
        | BinaryOp::LessEqual
        | BinaryOp::Greater
        | BinaryOp::GreaterEqual
        | BinaryOp::BitwiseXor
        | BinaryOp::RightShift => unreachable!("not a float op"),
        BinaryOp::Atan2 => f64::atan2,
        BinaryOp::Sub => |a, b| a - b,
        BinaryOp::Mul => |a, b| a * b,
        BinaryOp::Div => |a, b| a / b,
        BinaryOp::Maximum => f64::max,
        BinaryOp::Minimum => f64::min,
        BinaryOp::Pow => f64::powf,
        BinaryOp::SquaredDifference => |a, b| (a - b) * (a - b),
    }
}

fn binary_cases(cases: &mut Vec<Case>) {
    let shapes: [(&str, &[usize], &[usize]); 10] = [
        ("", &[3, 5], &[3, 5]),
        (" a row", &[3, 5], &[5]),
        (" a column first", &[3, 1], &[1, 5]),
        (" a number", &[2, 3, 4], &[1]),
        (" a matrix first", &[4, 5], &[2, 3, 4, 5]),
        (" the middle axis", &[2, 3, 4, 5], &[2, 1, 4, 1]),
        (" five axes", &[2, 3, 2, 4, 5], &[2, 3, 2, 4, 5]),
        (" six axes", &[2, 3, 2, 1, 4, 5], &[2, 3, 2, 1, 4, 5]),
        (" broadcast in five axes", &[2, 3, 2, 4, 5], &[2, 1, 2, 1, 5]),
        (" broadcast in six axes", &[2, 3, 2, 2, 4, 5], &[2, 1, 2, 1, 4, 1]),
    ];
    // a quotient that is rounded before it is floored leaves the divisor instead of nothing
    let divisors = [0.947_080_97_f32, -0.703_735_23, 0.041_325_98, 3.3].map(f64::from);
    let vector = |values: [f64; 4]| Nd { shape: vec![1, 4], values: values.to_vec() };
    let op = LiteOp::Binary { op: BinaryOp::FloorMod, activation: Activation::None };
    for times in [1.0, 2.0, -4.0] {
        let operands = vec![Given(vector(divisors.map(|d| d * times))), Given(vector(divisors))];
        let name = format!("FLOOR_MOD of {times} times the divisor");
        add(cases, &name, op.clone(), operands, vector([0.0; 4]));
    }
    for op in BinaryOp::ALL.into_iter().take(10) {
        let (low, high) = match op {
            BinaryOp::Div | BinaryOp::Pow => (0.3, 3.0),
            _ => (-4.0, 4.0),
        };
        let lite = |activation| LiteOp::Binary { op, activation };
        let (name, function) = (op.name(), binary_reference(op));
        for (suffix, left, right) in shapes {
            let (a, b) = (varied(left, low, high), scrambled(right, low, high));
            let expected = broadcast(&a, &b, function);
            let (a, b) = (Given(a), Given(b));
            add(cases, &format!("{name}{suffix}"), lite(Activation::None), vec![a, b], expected);
        }
        let (a, b) = (varied(&[3, 5], low, high), scrambled(&[1, 5], low, high));
        let expected = broadcast(&a, &b, function);
        let operands = vec![Given(a.clone()), Constant(b.clone())];
        let batch = format!("{name} batch by a constant");
        add_dynamic(cases, &batch, lite(Activation::None), operands, expected);
        let operands = vec![Constant(b.clone()), Given(a.clone())];
        let constant_first = format!("{name} a constant first");
        let expected = broadcast(&b, &a, function);
        add(cases, &constant_first, lite(Activation::None), operands, expected);
        if lite(Activation::None).activation_mut().is_none() {
            continue;
        }
        for (suffix, activation, fused) in &ACTIVATIONS[1..] {
            let (a, b) = (varied(&[4, 9], low, high), scrambled(&[4, 9], low, high));
            let expected = map(&broadcast(&a, &b, function), fused);
            let operands = vec![Given(a), Given(b)];
            add(cases, &format!("{name}{suffix}"), lite(*activation), operands, expected);
        }
    }
}

fn product_cases(cases: &mut Vec<Case>) {
    let fully_connected = |activation, keep_num_dims| LiteOp::FullyConnected {
        activation,
        keep_num_dims,
        asymmetric_quantize_inputs: false,
    };
    let (x, weights) = (varied(&[3, 8], -2.0, 2.0), scrambled(&[5, 8], -2.0, 2.0));
    let bias = varied(&[5], -3.0, 3.0);
    let product = matmul(&x, &weights, false, true);
    let sum = broadcast(&product, &bias, |a, b| a + b);
    for (suffix, activation, fused) in ACTIVATIONS {
        let name = format!("fully connected{suffix}");
        let all = vec![Given(x.clone()), Constant(weights.clone()), Constant(bias.clone())];
        add_dynamic(cases, &name, fully_connected(activation, false), all, map(&sum, fused));
    }
    let plain = || fully_connected(Activation::None, false);
    let kept = || fully_connected(Activation::None, true);
    let two = vec![Given(x.clone()), Constant(weights.clone())];
    add(cases, "fully connected of two", plain(), two, product.clone());
    let absent = vec![Given(x.clone()), Constant(weights.clone()), Absent];
    add(cases, "fully connected, bias absent", plain(), absent, product.clone());
    let given = vec![Given(x.clone()), Given(weights.clone()), Constant(bias.clone())];
    add(cases, "fully connected, weights given", plain(), given, sum.clone());
    let reshaped = |x: &Nd, shape: &[usize]| Nd { shape: shape.to_vec(), ..x.clone() };
    let deep = || Given(reshaped(&x, &[3, 2, 2, 2]));
    let operands = vec![deep(), Constant(weights.clone()), Constant(bias.clone())];
    add_dynamic(cases, "fully connected of four axes", plain(), operands, sum.clone());
    let rows = || Given(reshaped(&x, &[3, 1, 8]));
    let operands = vec![rows(), Constant(weights.clone()), Constant(bias)];
    add(cases, "fully connected keeping axes", kept(), operands, reshaped(&sum, &[3, 1, 5]));
    let operands = vec![rows(), Constant(weights)];
    let name = "fully connected of two keeping axes";
    add(cases, name, kept(), operands, reshaped(&product, &[3, 1, 5]));

    for (transpose_x, transpose_y) in [(false, false), (true, false), (false, true), (true, true)] {
        let op = LiteOp::BatchMatMul { transpose_x, transpose_y };
        let swap = |shape: &[usize], swapped: bool| {
            let mut shape = shape.to_vec();
            let last = shape.len() - 1;
            if swapped {
                shape.swap(last - 1, last);
            }
            shape
        };
        let shapes: [(&str, &[usize], &[usize]); 3] = [
            ("", &[3, 4], &[4, 5]),
            (" of batches", &[2, 3, 4], &[2, 4, 5]),
            (" of one with a batch", &[1, 3, 4], &[2, 4, 5]),
        ];
        for (suffix, left, right) in shapes {
            let a = varied(&swap(left, transpose_x), -2.0, 2.0);
            let b = scrambled(&swap(right, transpose_y), -2.0, 2.0);
            let expected = matmul(&a, &b, transpose_x, transpose_y);
            let name = format!("batch matmul {transpose_x} {transpose_y}{suffix}");
            add(cases, &name, op.clone(), vec![Given(a), Given(b)], expected);
        }
    }
}

fn softmax_cases(cases: &mut Vec<Case>) {
    for shape in [&[3, 7][..], &[2, 3, 4, 5]] {
        let x = varied(shape, -8.0, 8.0);
        for beta in [1.0f32, 0.5] {
            let name = format!("softmax {beta} of {} axes", shape.len());
            let expected = softmax(&x, beta.into());
            add_dynamic(cases, &name, LiteOp::Softmax { beta }, vec![Given(x.clone())], expected);
        }
        let name = format!("log-softmax of {} axes", shape.len());
        let expected = log_softmax(&x);
        add_dynamic(cases, &name, LiteOp::LogSoftmax, vec![Given(x.clone())], expected);
    }
    let x = map(&varied(&[3, 7], -8.0, 8.0), |v| v * 100.0);
    let op = LiteOp::Softmax { beta: 1.0 };
    add(cases, "softmax of large values", op, vec![Given(x.clone())], softmax(&x, 1.0));
    add(
        cases,
        "log-softmax of large values",
        LiteOp::LogSoftmax,
        vec![Given(x.clone())],
        log_softmax(&x),
    );
}

fn reduce_cases(cases: &mut Vec<Case>) {
    for op in ReduceOp::ALL.into_iter().take(5) {
        for (suffix, axes) in [
            ("last", &[3][..]),
            ("first", &[0]),
            ("height and width", &[1, 2]),
            ("from the end", &[-1, -3]),
            ("all", &[0, 1, 2, 3]),
        ] {
            for keep_dims in [true, false] {
                let x = varied(&[2, 3, 4, 5], -1.5, 1.5);
                let expected = reduce(&x, axes, keep_dims, op);
                let name = format!("{} {suffix} {keep_dims}", op.name());
                let operands = vec![Given(x), Integers(axes.to_vec())];
                add(cases, &name, LiteOp::Reduce { op, keep_dims }, operands, expected);
            }
        }
    }
}

fn shape_cases(cases: &mut Vec<Case>) {
    let x = varied(&[2, 3, 4, 5], -9.0, 9.0);
    for (target, shape) in [
        (&[2, 60][..], &[2, 60][..]),
        (&[-1, 60], &[2, 60]),
        (&[6, -1], &[6, 20]),
        (&[120], &[120]),
        (&[2, 3, 2, 2, 5], &[2, 3, 2, 2, 5]),
        (&[2, 1, 3, 4, 5, 1], &[2, 1, 3, 4, 5, 1]),
    ] {
        let expected = Nd { shape: shape.to_vec(), ..x.clone() };
        let operands = vec![Given(x.clone()), Integers(target.to_vec())];
        add(cases, &format!("reshape to {target:?}"), LiteOp::Reshape, operands, expected);
    }
    let flat = Nd { shape: vec![2, 60], ..x.clone() };
    let operands = vec![Given(x), Integers(vec![-1, 60])];
    add_dynamic(cases, "flatten a batch", LiteOp::Reshape, operands, flat);
    for order in [
        &[4, 0, 3, 1, 2][..],
        &[5, 0, 3, 4, 1, 2],
        &[1, 0],
        &[0, 2, 1],
        &[2, 0, 1],
        &[0, 2, 3, 1],
        &[0, 3, 1, 2],
        &[3, 2, 1, 0],
    ] {
        let x = varied(&[2, 3, 4, 5, 2, 3][..order.len()], -9.0, 9.0);
        let expected = transpose(&x, order);
        let operands = vec![Given(x), Integers(order.iter().map(|&a| a as i32).collect())];
        add(cases, &format!("transpose {order:?}"), LiteOp::Transpose, operands, expected);
    }
}

/// Ops that cut, join and rearrange, and that no ONNX op becomes.
fn cutting_cases(cases: &mut Vec<Case>) {
    let x = varied(&[2, 3, 4], -9.0, 9.0);
    let slice = |x: &Nd, axis: usize, from: usize, len: usize| {
        let mut shape = x.shape.clone();
        shape[axis] = len;
        filled(shape, |to| {
            let mut place = to.to_vec();
            place[axis] += from;
            element(x, &place)
        })
    };
    let without = |x: &Nd, axis: usize| {
        let mut shape = x.shape.clone();
        shape.remove(axis);
        Nd { shape, ..x.clone() }
    };
    for axis in [0i32, 1, 2, -1, -3] {
        let at = axis.rem_euclid(3) as usize;
        let parts: Vec<Nd> = (0..x.shape[at]).map(|i| slice(&x, at, i, 1)).collect();
        let flat: Vec<Nd> = parts.iter().map(|part| without(part, at)).collect();
        let name = format!("unpack {axis}");
        add_several(cases, &name, LiteOp::Unpack { axis }, vec![Given(x.clone())], flat.clone());
        let given = flat.into_iter().map(Given).collect();
        add(cases, &format!("pack {axis}"), LiteOp::Pack { axis }, given, x.clone());
        let operands = vec![Number(axis), Given(x.clone())];
        add_several(cases, &format!("split {axis}"), LiteOp::Split, operands, parts);
    }
    for (axis, sizes) in [(2, vec![1, 3]), (-2, vec![2, 1]), (0, vec![2]), (-1, vec![1, 0, 3])] {
        let at = (axis as i32).rem_euclid(3) as usize;
        let mut from = 0;
        let parts = sizes.iter().map(|&len| {
            from += len as usize;
            slice(&x, at, from - len as usize, len as usize)
        });
        let (name, parts) = (format!("split v {axis} {sizes:?}"), parts.collect());
        let operands = vec![Given(x.clone()), Integers(sizes), Number(axis)];
        add_several(cases, &name, LiteOp::SplitV, operands, parts);
    }
    let thin = Nd { shape: vec![2, 1, 3, 1, 4], ..x.clone() };
    for (axes, shape) in [
        (vec![], vec![2, 3, 4]),
        (vec![1], vec![2, 3, 1, 4]),
        (vec![-2], vec![2, 1, 3, 4]),
        (vec![3, 1], vec![2, 3, 4]),
    ] {
        let name = format!("squeeze {axes:?}");
        let expected = Nd { shape, ..x.clone() };
        add(cases, &name, LiteOp::Squeeze { axes }, vec![Given(thin.clone())], expected);
    }
    for (axis, shape) in [
        (0, vec![1, 2, 3, 4]),
        (2, vec![2, 3, 1, 4]),
        (-1, vec![2, 3, 4, 1]),
        (-4, vec![1, 2, 3, 4]),
    ] {
        let expected = Nd { shape, ..x.clone() };
        let operands = vec![Given(x.clone()), Number(axis)];
        add(cases, &format!("expand dims {axis}"), LiteOp::ExpandDims, operands, expected);
    }
    let number = Nd { shape: vec![], values: vec![2.5] };
    for shape in [vec![2, 3], vec![], vec![4]] {
        let name = format!("fill {shape:?}");
        let expected = filled(shape.iter().map(|&d| d as usize).collect(), |_| 2.5);
        let operands = vec![Integers(shape), Given(number.clone())];
        add(cases, &name, LiteOp::Fill, operands, expected);
    }
    for (block, shape) in [(2, [2, 3, 2, 8]), (3, [1, 1, 2, 18])] {
        let deep = varied(&shape, -9.0, 9.0);
        let [n, h, w, c] = shape;
        let wide = filled(vec![n, h * block, w * block, c / (block * block)], |to| {
            let inner = (to[1] % block) * block + to[2] % block;
            let channel = inner * (c / (block * block)) + to[3];
            element(&deep, &[to[0], to[1] / block, to[2] / block, channel])
        });
        let (down, up) = (LiteOp::SpaceToDepth { block }, LiteOp::DepthToSpace { block });
        add(
            cases,
            &format!("space to depth {block}"),
            down,
            vec![Given(wide.clone())],
            deep.clone(),
        );
        add(cases, &format!("depth to space {block}"), up, vec![Given(deep)], wide);
    }
}

/// Ops of integers alone; values are within 24 bits, for `Nd` goes through float32.
fn integer_cases(cases: &mut Vec<Case>) {
    let xor = |a: f64, b: f64| (a as i64 ^ b as i64) as f64;
    let shift = |a: f64, b: f64, bits: i64| (a as i64 >> (b as i64).clamp(0, bits - 1)) as f64;
    use ElementType::{I8, I16, I32, U8, U16, U32};
    for (element, bits) in [(I8, 8), (U8, 8), (I16, 16), (U16, 16), (I32, 32), (U32, 32)] {
        let (low, high): (f64, f64) = match element {
            I8 => (-128.0, 127.0),
            U8 => (0.0, 255.0),
            I16 => (-32768.0, 32767.0),
            U16 => (0.0, 65535.0),
            I32 => (-8e6, 8e6),
            _ => (0.0, 1.6e7),
        };
        let whole = |x: Nd| map(&x, f64::floor);
        let (a, b) = (whole(varied(&[4, 3, 5], low, high)), whole(scrambled(&[3, 1], low, high)));
        let amounts = Nd { shape: vec![5], values: vec![0.0, 1.0, 7.0, 31.0, 100.0] };
        let right_shift = broadcast(&a, &amounts, |a, b| shift(a, b, bits));
        for (op, b, expected) in [
            (BinaryOp::BitwiseXor, b.clone(), broadcast(&a, &b, xor)),
            (BinaryOp::RightShift, amounts.clone(), right_shift),
        ] {
            let (name, op) = (
                format!("{} {element}", op.name()),
                LiteOp::Binary { op, activation: Activation::None },
            );
            add(cases, &name, op, vec![Given(a.clone()), Given(b)], expected);
            cases.last_mut().unwrap().element = element;
        }
    }
    let (y, x) = (varied(&[3, 4, 5], -4.0, 4.0), scrambled(&[3, 4, 5], -4.0, 4.0));
    let op = LiteOp::Binary { op: BinaryOp::Atan2, activation: Activation::None };
    let expected = broadcast(&y, &x, f64::atan2);
    add(cases, "ATAN2", op, vec![Given(y), Given(x)], expected);
}

fn update_cases(cases: &mut Vec<Case>) {
    // a start from where the update would reach out is moved inside
    for (name, start, place) in [("", [1, 2], [1, 2]), (" beyond the end", [9, -4], [3, 0])] {
        let (x, update) = (varied(&[5, 4], -9.0, 9.0), scrambled(&[2, 2], -9.0, 9.0));
        let mut expected = x.clone();
        for (i, &value) in update.values.iter().enumerate() {
            expected.values[(place[0] + i / 2) * 4 + place[1] + i % 2] = value;
        }
        let operands = vec![Given(x), Given(update), Integers(start.to_vec())];
        let name = format!("dynamic update slice{name}");
        add(cases, &name, LiteOp::DynamicUpdateSlice, operands, expected);
    }
}

/// Values spread over the interval, each float32 exactly.
fn varied(shape: &[usize], low: f64, high: f64) -> Nd {
    let count: usize = shape.iter().product();
    let place = |i: usize| ((i as f64 * 0.618_033_988_749_895).fract() + 0.5 / count as f64) % 1.0;
    let values = (0..count).map(|i| (low + (high - low) * place(i)) as f32 as f64);
    Nd { shape: shape.to_vec(), values: values.collect() }
}

/// As [`varied`], others.
fn scrambled(shape: &[usize], low: f64, high: f64) -> Nd {
    let count: usize = shape.iter().product();
    let place = |i: usize| ((i + 3) as f64 * 0.754_877_666_246_693).fract();
    let values = (0..count).map(|i| (low + (high - low) * place(i)) as f32 as f64);
    Nd { shape: shape.to_vec(), values: values.collect() }
}

fn map(x: &Nd, function: impl Fn(f64) -> f64) -> Nd {
    Nd { shape: x.shape.clone(), values: x.values.iter().map(|&v| function(v)).collect() }
}

/// The position in `shape` of element `at`.
fn position(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut position = vec![0; shape.len()];
    for (place, size) in position.iter_mut().zip(shape).rev() {
        *place = at % size;
        at /= size;
    }
    position
}

/// The element at a position of an array of at least this rank, as numpy broadcasts.
fn element(x: &Nd, position: &[usize]) -> f64 {
    let position = &position[position.len() - x.shape.len()..];
    let index = position
        .iter()
        .zip(&x.shape)
        .fold(0, |index, (&place, &size)| index * size + if size == 1 { 0 } else { place });
    x.values[index]
}

/// An array of `shape`, each element from its position.
fn filled(shape: Vec<usize>, value: impl Fn(&[usize]) -> f64) -> Nd {
    let count = shape.iter().product();
    let values = (0..count).map(|at| value(&position(at, &shape))).collect();
    Nd { shape, values }
}

fn common_shape(a: &[usize], b: &[usize]) -> Vec<usize> {
    let rank = a.len().max(b.len());
    let size = |shape: &[usize], axis: usize| {
        (axis + shape.len()).checked_sub(rank).map_or(1, |axis| shape[axis])
    };
    (0..rank).map(|axis| size(a, axis).max(size(b, axis))).collect()
}

fn broadcast(a: &Nd, b: &Nd, function: impl Fn(f64, f64) -> f64) -> Nd {
    filled(common_shape(&a.shape, &b.shape), |p| function(element(a, p), element(b, p)))
}

fn transpose(x: &Nd, order: &[usize]) -> Nd {
    filled(order.iter().map(|&axis| x.shape[axis]).collect(), |to| {
        let mut from = vec![0; to.len()];
        order.iter().zip(to).for_each(|(&axis, &place)| from[axis] = place);
        element(x, &from)
    })
}

fn matmul(a: &Nd, b: &Nd, transpose_a: bool, transpose_b: bool) -> Nd {
    let swapped = |x: &Nd, swap: bool| {
        let mut order: Vec<usize> = (0..x.shape.len()).collect();
        let last = order.len() - 1;
        if swap {
            order.swap(last - 1, last);
        }
        transpose(x, &order)
    };
    let (a, b) = (swapped(a, transpose_a), swapped(b, transpose_b));
    let (a_batch, a_matrix) = a.shape.split_at(a.shape.len() - 2);
    let (b_batch, b_matrix) = b.shape.split_at(b.shape.len() - 2);
    let mut shape = common_shape(a_batch, b_batch);
    shape.extend([a_matrix[0], b_matrix[1]]);
    filled(shape, |to| {
        let (batch, place) = to.split_at(to.len() - 2);
        let product = |k: usize| {
            element(&a, &[batch, &[place[0], k]].concat())
                * element(&b, &[batch, &[k, place[1]]].concat())
        };
        (0..a_matrix[1]).map(product).sum()
    })
}

fn log_softmax(x: &Nd) -> Nd {
    let size = *x.shape.last().unwrap();
    let rows = x.values.chunks_exact(size);
    let values = rows.flat_map(|row| {
        let largest = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let sum: f64 = row.iter().map(|v| (v - largest).exp()).sum();
        row.iter().map(move |v| v - largest - sum.ln())
    });
    Nd { shape: x.shape.clone(), values: values.collect() }
}

fn softmax(x: &Nd, beta: f64) -> Nd {
    map(&log_softmax(&map(x, |v| v * beta)), f64::exp)
}

fn reduce(x: &Nd, axes: &[i32], keep_dims: bool, op: ReduceOp) -> Nd {
    let rank = x.shape.len();
    let axes: Vec<usize> = axes.iter().map(|&a| a.rem_euclid(rank as i32) as usize).collect();
    let inner: Vec<usize> = axes.iter().map(|&a| x.shape[a]).collect();
    let count: usize = inner.iter().product();
    let kept: Vec<usize> =
        (0..rank).map(|a| if axes.contains(&a) { 1 } else { x.shape[a] }).collect();
    let result = filled(kept, |to| {
        let values = (0..count).map(|at| {
            let mut from = to.to_vec();
            axes.iter().zip(position(at, &inner)).for_each(|(&axis, place)| from[axis] = place);
            element(x, &from)
        });
        match op {
            ReduceOp::Sum => values.sum(),
            ReduceOp::Mean => values.sum::<f64>() / count as f64,
            ReduceOp::Max => values.fold(f64::NEG_INFINITY, f64::max),
            ReduceOp::Min => values.fold(f64::INFINITY, f64::min),
            ReduceOp::Product => values.product(),
            ReduceOp::Any | ReduceOp::All => unreachable!("not a float op"),
        }
    });
    let axis_stays = |axis: &usize| keep_dims || !axes.contains(axis);
    let shape = (0..rank).filter(axis_stays).map(|a| result.shape[a]).collect();
    Nd { shape, ..result }
}

/// By its Taylor series; good to 1e-9 up to 4.
fn erf(x: f64) -> f64 {
    let (mut term, mut sum) = (x, x);
    for n in 1..120 {
        term *= -x * x / n as f64;
        sum += term / (2 * n + 1) as f64;
    }
    sum * 2.0 / std::f64::consts::PI.sqrt()
}

fn f32_bytes(x: &Nd) -> Vec<u8> {
    x.values.iter().flat_map(|&v| (v as f32).to_le_bytes()).collect()
}

fn f16_bytes(x: &Nd) -> Vec<u8> {
    x.values.iter().flat_map(|&v| f16::from_f64(v).to_le_bytes()).collect()
}

/// Whole numbers as little-endian elements of type `element`.
fn element_bytes(x: &Nd, element: ElementType) -> Vec<u8> {
    use ElementType::F32;
    match element {
        F32 => f32_bytes(x),
        _ => {
            let width = element.bits().unwrap() / 8;
            let words = x.values.iter().map(|&v| (v as i64).to_le_bytes());
            assert!(x.values.iter().all(|v| v.fract() == 0.0), "not whole: {x:?}");
            words.flat_map(|word| word[..width].to_vec()).collect()
        }
    }
}

fn dtype(element: ElementType) -> Dtype {
    match element {
        ElementType::I8 => Dtype::I8,
        ElementType::U8 => Dtype::U8,
        ElementType::I16 => Dtype::I16,
        ElementType::U16 => Dtype::U16,
        ElementType::I32 => Dtype::I32,
        ElementType::U32 => Dtype::U32,
        _ => Dtype::F32,
    }
}

impl Case {
    /// The results' names and values.
    fn results(&self) -> impl Iterator<Item = (String, &Nd)> {
        let name = |i| if i == 0 { "result".to_string() } else { format!("result{i}") };
        self.expected.iter().enumerate().map(move |(i, expected)| (name(i), expected))
    }

    /// The graph of this op alone, and its inputs' values.
    fn model(&self) -> (Model, Vec<(String, Array)>) {
        let mut graph = Subgraph { name: "main".into(), ..Subgraph::default() };
        let mut node = Node { op: self.op.clone(), inputs: vec![], outputs: vec![] };
        let mut given = vec![];
        let dims = |shape: &[usize]| -> Vec<Dim> {
            let mut dims: Vec<Dim> = shape.iter().map(|&d| Dim::Known(d)).collect();
            if self.dynamic {
                dims[0] = Dim::Symbol("N".into());
            }
            dims
        };
        for (i, operand) in self.operands.iter().enumerate() {
            let name = format!("operand{i}");
            let input = |graph: &mut Subgraph, element, x: &Nd| {
                let id = graph.add_tensor(Tensor::variable(name.clone(), element, dims(&x.shape)));
                graph.inputs.push(id);
                id
            };
            let constant = |graph: &mut Subgraph, element, shape: &[usize], data: Vec<u8>| {
                graph.add_tensor(Tensor::constant(name.clone(), element, shape, data.into()))
            };
            let id = match operand {
                Given(x) => {
                    let data = element_bytes(x, self.element);
                    let array = Array::new(dtype(self.element), x.shape.clone(), data).unwrap();
                    given.push((name.clone(), array));
                    Some(input(&mut graph, self.element, x))
                }
                Half(x, Place::AsInput) => {
                    let array = Array::new(Dtype::F16, x.shape.clone(), f16_bytes(x)).unwrap();
                    given.push((name.clone(), array));
                    Some(input(&mut graph, ElementType::F16, x))
                }
                Half(x, Place::AsConstant) => {
                    Some(constant(&mut graph, ElementType::F16, &x.shape, f16_bytes(x)))
                }
                Constant(x) => Some(constant(&mut graph, ElementType::F32, &x.shape, f32_bytes(x))),
                Integers(values) => {
                    let data = values.iter().flat_map(|v| v.to_le_bytes()).collect();
                    Some(constant(&mut graph, ElementType::I32, &[values.len()], data))
                }
                Number(value) => {
                    let data = value.to_le_bytes().to_vec();
                    Some(constant(&mut graph, ElementType::I32, &[], data))
                }
                Absent => None,
            };
            node.inputs.push(id);
        }
        for (name, expected) in self.results() {
            let tensor = Tensor::variable(name, self.element, dims(&expected.shape));
            let result = graph.add_tensor(tensor);
            node.outputs.push(result);
            graph.outputs.push(result);
        }
        graph.nodes.push(node);
        for tensor in &mut graph.tensors {
            tensor.origin = Some(tensor.name.clone());
        }
        let named = |ids: &[usize]| -> Vec<(String, usize)> {
            ids.iter().map(|&i| (graph.tensors[i].name.clone(), i)).collect()
        };
        let signature = Signature {
            key: "serving_default".into(),
            subgraph: 0,
            inputs: named(&graph.inputs),
            outputs: named(&graph.outputs),
        };
        let model = Model {
            description: self.name.clone(),
            subgraphs: vec![graph],
            signatures: vec![signature],
            metadata: vec![],
        };
        (model, given)
    }
}

fn written(model: &Model) -> Bytes {
    let mut bytes = vec![];
    write::write_tflite(model, &write::Description::default(), &mut bytes).unwrap();
    bytes.into()
}

fn read_back(bytes: &Bytes) -> Result<Model, String> {
    let file = tflite::Model::parse(bytes.clone()).map_err(|e| format!("parsing: {e}"))?;
    read::lite_graph(&file).map_err(|e| format!("reading: {e:#}"))
}

fn check_round_trip(case: &Case) -> Result<(), String> {
    let (model, _) = case.model();
    let bytes = written(&model);
    let back = read_back(&bytes)?;
    if back.subgraphs != model.subgraphs {
        return Err(format!("{:#?} came back as {:#?}", model.subgraphs, back.subgraphs));
    }
    if (&back.signatures, &back.description) != (&model.signatures, &model.description) {
        return Err("signatures or description changed".into());
    }
    let again = written(&back);
    if again != bytes {
        return Err(format!("{} bytes became {} when written again", bytes.len(), again.len()));
    }
    Ok(())
}

fn check_values(case: &Case) -> Result<(), String> {
    let (model, given) = case.model();
    check_model(case, &read_back(&written(&model))?, &given, 2e-6)
}

/// The same op on inputs that are transposed to what it is to see, after the passes: none may change a value.
fn check_permuted(case: &Case) -> Result<(), String> {
    for turn in 0..6 {
        let (mut model, given) = case.model();
        let given: Vec<_> = given
            .into_iter()
            .map(|(name, array)| permuted(&mut model, name, array, turn))
            .collect();
        model.validate().map_err(|e| format!("turn {turn}, before: {e:#}"))?;
        mlctl::passes::run(&mut model);
        model.validate().map_err(|e| format!("turn {turn}: {e:#}"))?;
        let back = read_back(&written(&model))?;
        // sums are in another order
        check_model(case, &back, &given, 1e-5)
            .map_err(|e| format!("turn {turn}: {e}\n{}", model.main()))?;
    }
    Ok(())
}

/// Puts a TRANSPOSE behind input `name`, and its inverse on the values. `turn` picks the permutation.
fn permuted(model: &mut Model, name: String, array: Array, turn: usize) -> (String, Array) {
    let rank = array.shape.len();
    let mut axes: Vec<usize> = (0..rank).collect();
    let mut state = turn * 7 + rank;
    let order: Vec<usize> = (0..rank)
        .map(|_| {
            state = state * 5 + 3;
            axes.remove(state / 4 % axes.len())
        })
        .collect();
    let mut inverse = vec![0; rank];
    order.iter().enumerate().for_each(|(axis, &p)| inverse[p] = axis);
    let width = array.data.len() / array.shape.iter().product::<usize>().max(1);
    let moved = mlctl::kernels::reorder(&array.data, width, &array.shape, &inverse).unwrap();
    let moved = moved.unwrap_or_else(|| array.data.to_vec());
    let shape = inverse.iter().map(|&axis| array.shape[axis]).collect();

    let graph = &mut model.subgraphs[0];
    let old = graph.tensors.iter().position(|t| t.name == name).unwrap();
    let mut given = graph.tensors[old].clone();
    given.shape = inverse.iter().map(|&axis| graph.tensors[old].shape[axis].clone()).collect();
    graph.tensors[old].name = format!("{name}/turned");
    let given = graph.add_tensor(given);
    let data: Vec<u8> = order.iter().flat_map(|&p| (p as i32).to_le_bytes()).collect();
    let order = Tensor::constant(format!("{name}/order"), ElementType::I32, &[rank], data.into());
    let order = graph.add_tensor(order);
    let inputs = vec![Some(given), Some(order)];
    graph.nodes.insert(0, Node { op: LiteOp::Transpose, inputs, outputs: vec![old] });
    graph.inputs.iter_mut().filter(|t| **t == old).for_each(|t| *t = given);
    for signature in &mut model.signatures {
        signature.inputs.iter_mut().filter(|(_, t)| *t == old).for_each(|(_, t)| *t = given);
    }
    (name, Array::new(array.dtype, shape, moved).unwrap())
}

fn check_model(
    case: &Case,
    model: &Model,
    given: &[(String, Array)],
    tolerance: f64,
) -> Result<(), String> {
    let text = |e: anyhow::Error| format!("{e:#}");
    let raised = raise::raise(model).map_err(text)?;
    let names: Vec<String> = given.iter().map(|(name, _)| name.clone()).collect();
    let results: Vec<String> = case.results().map(|(name, _)| name).collect();
    let plan = Plan::new(raised.model, &names, &results).map_err(text)?;
    let mut inputs = vec![];
    for (array, port) in given.iter().zip(plan.inputs()) {
        inputs.push(from_array(&array.1, port.element).map_err(text)?);
    }
    let outputs = plan.session().and_then(|mut s| s.run(inputs)).map_err(text)?;
    for (output, expected) in outputs.iter().zip(&case.expected) {
        if output.shape() != expected.shape {
            return Err(format!("shape {:?}, not {:?}", output.shape(), expected.shape));
        }
        let got = to_f32(output).map_err(text)?;
        for (at, (&got, &expected)) in got.iter().zip(&expected.values).enumerate() {
            let close = (got as f64 - expected).abs() <= tolerance * expected.abs().max(1.0);
            if !close {
                return Err(format!("value {at} is {got}, not {expected}"));
            }
        }
    }
    Ok(())
}

fn check_all(check: fn(&Case) -> Result<(), String>) {
    let failures: Vec<String> = cases()
        .iter()
        .filter_map(|case| Some(format!("{}: {}", case.name, check(case).err()?)))
        .collect();
    assert!(failures.is_empty(), "{} failed:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn an_op_is_read_as_it_was_written() {
    check_all(check_round_trip);
}

#[test]
fn a_raised_op_computes_what_it_should() {
    check_all(check_values);
}

#[test]
fn transposed_inputs_change_no_value() {
    check_all(check_permuted);
}

/// From TensorFlow's op_version.cc and runtime_version.cc; ours says 1.14.0 for all that is older.
#[test]
fn an_operator_asks_for_the_version_that_it_needs() {
    let check = |name: &str, version: i32, runtime: &str| {
        let cases = cases();
        let case = cases.iter().find(|case| case.name == name);
        let (model, _) = case.unwrap_or_else(|| panic!("no case '{name}'")).model();
        let file = tflite::Model::parse(written(&model)).unwrap();
        assert_eq!(file.operator_codes[0].version, version, "{name}");
        let asked = file.metadata("min_runtime_version").unwrap();
        assert_eq!(asked.as_ref(), format!("{runtime:\0<16}").as_bytes(), "{name}");
    };
    check("fully connected", 1, "1.14.0");
    check("fully connected keeping axes", 5, "2.0.0");
    check("fully connected of two", 6, "2.1.0");
    check("fully connected, bias absent", 6, "2.1.0");
    check("fully connected of two keeping axes", 6, "2.1.0");
    check("batch matmul false true", 1, "2.3.0");
    check("dequantize float16 constant", 3, "1.15.0");
    check("gelu", 1, "2.9.0");
    check("RELU_0_TO_1", 1, "2.10.0");
    check("HARD_SWISH", 1, "1.15.0");
    check("ADD broadcast in five axes", 1, "1.14.0");
    check("SUB broadcast in five axes", 3, "2.3.0");
    check("SUB five axes", 1, "1.14.0");
    check("DIV broadcast in five axes", 2, "2.3.0");
    check("MAXIMUM broadcast in six axes", 3, "2.3.0");
    check("MINIMUM a row", 1, "1.14.0");
    check("ATAN2", 1, "2.10.0");
    check("SIGN", 1, "2.11.0");
    check("BITWISE_XOR uint32", 1, "2.13.0");
    check("RIGHT_SHIFT int8", 1, "2.13.0");
    check("depth to space 2", 1, "2.1.0");
    check("transpose [3, 2, 1, 0]", 1, "1.14.0");
    check("transpose [4, 0, 3, 1, 2]", 4, "2.3.0");
    check("transpose [5, 0, 3, 4, 1, 2]", 6, "2.12.0");
}

/// By what an op is judged.
enum Judge {
    /// A case here.
    Case(&'static str),
    /// ONNX ops that become it: tests/interop/check_onnx_ops.py, check_onnx_recurrent.py and the ONNX backend's
    /// node tests.
    Onnx,
    /// tests/quantized_ops.rs.
    Quantized,
    /// It has no meaning here.
    Nobody,
}

fn judge(op: &LiteOp) -> Judge {
    match op {
        LiteOp::FullyConnected { .. } => Judge::Case("FullyConnected"),
        LiteOp::BatchMatMul { .. } => Judge::Case("BatchMatMul"),
        LiteOp::Unary(_) => Judge::Case("Unary"),
        LiteOp::LeakyRelu { .. } => Judge::Case("LeakyRelu"),
        LiteOp::Gelu { .. } => Judge::Case("Gelu"),
        LiteOp::Binary { .. } => Judge::Case("Binary"),
        LiteOp::Softmax { .. } => Judge::Case("Softmax"),
        LiteOp::LogSoftmax => Judge::Case("LogSoftmax"),
        LiteOp::Reduce { .. } => Judge::Case("Reduce"),
        LiteOp::Reshape => Judge::Case("Reshape"),
        LiteOp::Transpose => Judge::Case("Transpose"),
        LiteOp::Dequantize => Judge::Case("Dequantize"),
        LiteOp::Pack { .. } => Judge::Case("Pack"),
        LiteOp::Unpack { .. } => Judge::Case("Unpack"),
        LiteOp::Split => Judge::Case("Split"),
        LiteOp::SplitV => Judge::Case("SplitV"),
        LiteOp::Squeeze { .. } => Judge::Case("Squeeze"),
        LiteOp::ExpandDims => Judge::Case("ExpandDims"),
        LiteOp::Fill => Judge::Case("Fill"),
        LiteOp::DepthToSpace { .. } => Judge::Case("DepthToSpace"),
        LiteOp::SpaceToDepth { .. } => Judge::Case("SpaceToDepth"),
        LiteOp::DynamicUpdateSlice => Judge::Case("DynamicUpdateSlice"),
        LiteOp::Conv2D { .. }
        | LiteOp::DepthwiseConv2D { .. }
        | LiteOp::Conv3D { .. }
        | LiteOp::TransposeConv { .. }
        | LiteOp::Pool2D { .. }
        | LiteOp::LocalResponseNormalization { .. }
        | LiteOp::PRelu
        | LiteOp::Select
        | LiteOp::ArgMax { .. }
        | LiteOp::ArgMin { .. }
        | LiteOp::CumSum { .. }
        | LiteOp::TopK
        | LiteOp::Shape { .. }
        | LiteOp::BroadcastTo
        | LiteOp::Tile
        | LiteOp::Concatenation { .. }
        | LiteOp::Slice
        | LiteOp::StridedSlice { .. }
        | LiteOp::Pad
        | LiteOp::MirrorPad { .. }
        | LiteOp::Reverse
        | LiteOp::Gather { .. }
        | LiteOp::GatherNd
        | LiteOp::ScatterNd
        | LiteOp::OneHot { .. }
        | LiteOp::Range
        | LiteOp::ResizeBilinear { .. }
        | LiteOp::ResizeNearest { .. }
        | LiteOp::Cast
        | LiteOp::UnsortedSegment { .. }
        | LiteOp::Where
        | LiteOp::NonMaxSuppression
        | LiteOp::While { .. }
        | LiteOp::If { .. } => Judge::Onnx,
        LiteOp::Quantize => Judge::Quantized,
        LiteOp::Custom { .. } => Judge::Nobody,
    }
}

/// As many as [`judge`] names.
const JUDGED_BY_CASES: usize = 22;

#[test]
fn every_op_has_a_case_under_a_name_of_its_own() {
    let cases = cases();
    let mut judged: Vec<&str> = cases
        .iter()
        .map(|case| match judge(&case.op) {
            Judge::Case(name) => name,
            Judge::Onnx | Judge::Quantized | Judge::Nobody => {
                panic!("{} is not judged here", case.name)
            }
        })
        .collect();
    judged.sort();
    judged.dedup();
    assert_eq!(judged.len(), JUDGED_BY_CASES, "{judged:?}");
    let mut files: Vec<String> = cases.iter().map(|case| file_name(&case.name)).collect();
    files.sort();
    let count = files.len();
    files.dedup();
    assert_eq!(files.len(), count);
}

#[test]
fn a_custom_op_survives_the_file_and_is_refused_by_name() {
    let x = varied(&[2, 3], -1.0, 1.0);
    let op = LiteOp::Custom {
        code: "Whiten".into(),
        version: 3,
        options: Bytes::from_static(&[1, 2, 3]),
    };
    let operands = vec![Given(x.clone())];
    let mut case = vec![];
    add(&mut case, "custom", op, operands, x);
    let case = case.remove(0);
    check_round_trip(&case).unwrap();
    let error = raise::raise(&case.model().0).unwrap_err();
    assert_eq!(format!("{error:#}"), "node 0 (Whiten): custom op 'Whiten' has no kernel here");
}

fn file_name(case: &str) -> String {
    let kept = case.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    kept.collect::<String>().to_ascii_lowercase()
}

/// Writes each case as NAME.tflite and NAME.npz (its inputs, and `expected`) for `check_ops.py`.
#[test]
fn write_op_fixtures() {
    let Some(folder) = std::env::var_os("OPS_FIXTURES_DIR") else { return };
    for case in cases() {
        if NOT_IN_LITERT.iter().any(|(end, _)| case.name.ends_with(end)) {
            continue;
        }
        let (model, mut arrays) = case.model();
        for (name, expected) in case.results() {
            let data = element_bytes(expected, case.element);
            let array = Array::new(dtype(case.element), expected.shape.clone(), data).unwrap();
            arrays.push((format!("expected {name}"), array));
        }
        let path = Path::new(&folder).join(file_name(&case.name));
        std::fs::write(path.with_extension("tflite"), written(&model)).unwrap();
        std::fs::write(path.with_extension("npz"), write_npz(&arrays).unwrap()).unwrap();
    }
}
