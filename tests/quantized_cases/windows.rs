//! Pools, reductions, softmax, resizing.

use super::products::window;
use super::*;
use mlctl::graph::{Activation, Padding, PoolKind, ReduceOp};

const ELEMENTS: [ElementType; 3] = [ElementType::I8, ElementType::U8, ElementType::I16];

pub fn add(cases: &mut Vec<Case>) {
    for element in ELEMENTS {
        for kind in [PoolKind::Max, PoolKind::Average] {
            add_pool(cases, element, kind, Padding::Same, [2, 2], Activation::None);
            add_pool(cases, element, kind, Padding::Valid, [1, 2], Activation::Relu);
        }
        for (name, axes, keep_dims) in [
            ("rows and columns", vec![1, 2], true),
            ("last axis", vec![-1], false),
            ("batch", vec![0], false),
        ] {
            add_sum(cases, name, element, ReduceOp::Mean, &axes, keep_dims);
            add_sum(cases, name, element, ReduceOp::Sum, &axes, keep_dims);
        }
        add_softmax(cases, element, 1.0);
        add_softmax(cases, element, 0.3);
        for (half, corners) in [(true, false), (false, true), (false, false)] {
            add_bilinear(cases, element, half, corners);
        }
    }
    for element in [ElementType::I8, ElementType::U8] {
        add_log_softmax(cases, element);
    }
}

fn add_pool(
    cases: &mut Vec<Case>,
    element: ElementType,
    kind: PoolKind,
    padding: Padding,
    strides: [usize; 2],
    activation: Activation,
) {
    let [batch, height, width, channels] = [2, 5, 6, 3];
    let filter = [3, 2];
    let x = activation_of(element);
    let (rows, top) = window(padding, height, filter[0], strides[0], 1);
    let (columns, left) = window(padding, width, filter[1], strides[1], 1);
    let values = x.reals();
    let mut reals = vec![];
    for b in 0..batch {
        for y in 0..rows {
            for xx in 0..columns {
                for c in 0..channels {
                    let mut inside = vec![];
                    for (i, j) in (0..filter[0]).flat_map(|i| (0..filter[1]).map(move |j| (i, j))) {
                        let (py, px) = (y * strides[0] + i, xx * strides[1] + j);
                        if py >= top && py - top < height && px >= left && px - left < width {
                            inside.push(
                                values
                                    [((b * height + py - top) * width + px - left) * channels + c],
                            );
                        }
                    }
                    reals.push(match kind {
                        PoolKind::Max => inside.iter().fold(f64::NEG_INFINITY, |a, b| a.max(*b)),
                        PoolKind::Average => inside.iter().sum::<f64>() / inside.len() as f64,
                    });
                }
            }
        }
    }
    if activation == Activation::Relu {
        reals.iter_mut().for_each(|v| *v = v.max(0.0));
    }
    let shape = vec![batch, rows, columns, channels];
    let result = Ending { shape, ..x.as_ending() };
    let name = format!("{kind:?} pool {padding:?} {element}");
    let op = LiteOp::Pool2D { kind, padding, strides, filter, activation };
    add_case(cases, name, op, vec![Operand::Given(x)], result, reals);
}

fn activation_of(element: ElementType) -> Values {
    super::activation(&[2, 5, 6, 3], element)
}

fn add_sum(
    cases: &mut Vec<Case>,
    name: &str,
    element: ElementType,
    op: ReduceOp,
    axes: &[i32],
    keep_dims: bool,
) {
    let x = activation_of(element);
    let axis = |a: i32| if a < 0 { (a + 4) as usize } else { a as usize };
    let gone: Vec<usize> = axes.iter().map(|&a| axis(a)).collect();
    let kept: Vec<usize> =
        x.shape.iter().enumerate().map(|(a, &d)| if gone.contains(&a) { 1 } else { d }).collect();
    let mut sums = vec![0.0; kept.iter().product()];
    for (i, value) in x.reals().into_iter().enumerate() {
        let (mut rest, mut place, mut stride) = (i, 0, 1);
        for a in (0..4).rev() {
            let at = rest % x.shape[a];
            rest /= x.shape[a];
            if !gone.contains(&a) {
                place += at * stride;
                stride *= kept[a];
            }
        }
        sums[place] += value;
    }
    let count = (x.integers.len() / sums.len()) as f64;
    if op == ReduceOp::Mean {
        sums.iter_mut().for_each(|sum| *sum /= count);
    }
    let shape: Vec<usize> = match keep_dims {
        true => kept,
        false => (0..4).filter(|a| !gone.contains(a)).map(|a| x.shape[a]).collect(),
    };
    let result = fitting(&shape, element, usual(element).1, &sums);
    let label = if op == ReduceOp::Mean { "mean" } else { "sum" };
    let node = LiteOp::Reduce { op, keep_dims };
    let operands = vec![Operand::Given(x), indices(axes)];
    add_case(cases, format!("{label} over {name} {element}"), node, operands, result, sums);
}

/// The only scale of results that TFLite's kernels know.
fn shares(element: ElementType) -> Option<Quantization> {
    match element {
        ElementType::I16 => scale(1.0 / 32768.0, 0),
        element => scale(1.0 / 256.0, range(element).0),
    }
}

fn add_softmax(cases: &mut Vec<Case>, element: ElementType, beta: f32) {
    let x = super::activation(&[6, 11], element);
    let rows = x.reals();
    let reals = rows.chunks(11).flat_map(|row| {
        let powers: Vec<f64> = row.iter().map(|v| (v * f64::from(beta)).exp()).collect();
        let sum: f64 = powers.iter().sum();
        powers.into_iter().map(move |power| power / sum)
    });
    let reals = reals.collect();
    let result = Ending { quantization: shares(element), ..x.as_ending() };
    let name = format!("softmax {element} beta {beta}");
    add_case(cases, name, LiteOp::Softmax { beta }, vec![Operand::Given(x)], result, reals);
}

fn add_log_softmax(cases: &mut Vec<Case>, element: ElementType) {
    let x = super::activation(&[6, 11], element);
    let rows = x.reals();
    let reals = rows.chunks(11).flat_map(|row| {
        let sum: f64 = row.iter().map(|v| v.exp()).sum();
        row.iter().map(move |v| v - sum.ln()).collect::<Vec<_>>()
    });
    let reals = reals.collect();
    let quantization = scale(16.0 / 256.0, range(element).1);
    let result = Ending { quantization, ..x.as_ending() };
    let name = format!("log softmax {element}");
    add_case(cases, name, LiteOp::LogSoftmax, vec![Operand::Given(x)], result, reals);
}

fn add_bilinear(
    cases: &mut Vec<Case>,
    element: ElementType,
    half_pixel_centers: bool,
    align_corners: bool,
) {
    let x = super::activation(&[1, 3, 4, 2], element);
    let (rows, columns) = (6usize, 10usize);
    let values = x.reals();
    let at = |place: usize, output: usize, input: usize| {
        let factor = match align_corners {
            true => (input - 1) as f64 / (output - 1) as f64,
            false => input as f64 / output as f64,
        };
        let half = if half_pixel_centers { 0.5 } else { 0.0 };
        let real = ((place as f64 + half) * factor - half).clamp(0.0, (input - 1) as f64);
        let low = real.floor() as usize;
        (low, (low + 1).min(input - 1), real - real.floor())
    };
    let mut reals = vec![];
    for y in 0..rows {
        for xx in 0..columns {
            for c in 0..2 {
                let ((y0, y1, fy), (x0, x1, fx)) = (at(y, rows, 3), at(xx, columns, 4));
                let pixel = |y: usize, x: usize| values[(y * 4 + x) * 2 + c];
                let top = pixel(y0, x0) * (1.0 - fx) + pixel(y0, x1) * fx;
                let bottom = pixel(y1, x0) * (1.0 - fx) + pixel(y1, x1) * fx;
                reals.push(top * (1.0 - fy) + bottom * fy);
            }
        }
    }
    let result = Ending { shape: vec![1, rows, columns, 2], ..x.as_ending() };
    let name = format!("bilinear {element} half {half_pixel_centers} corners {align_corners}");
    let op = LiteOp::ResizeBilinear { align_corners, half_pixel_centers };
    let operands = vec![Operand::Given(x), indices(&[rows as i32, columns as i32])];
    add_case(cases, name, op, operands, result, reals);
}
