//! Convolutions, dense layers, products of matrices.

use super::*;
use mlctl::graph::{Activation, Padding};

/// How a window steps over the two spatial axes.
#[derive(Clone, Copy)]
struct Steps {
    padding: Padding,
    strides: [usize; 2],
    dilations: [usize; 2],
}

/// The size of a result and the padding before, on one axis.
pub fn window(
    padding: Padding,
    input: usize,
    kernel: usize,
    stride: usize,
    dilation: usize,
) -> (usize, usize) {
    let field = (kernel - 1) * dilation + 1;
    match padding {
        Padding::Valid => ((input - field) / stride + 1, 0),
        Padding::Same => {
            let output = input.div_ceil(stride);
            (output, ((output - 1) * stride + field).saturating_sub(input) / 2)
        }
    }
}

/// `weights` are `[filters, h, w, channels of a group]`.
fn convolved(
    x: &[f64],
    shape: [usize; 4],
    weights: &[f64],
    filters: [usize; 4],
    bias: &[f64],
    steps: Steps,
) -> (Vec<usize>, Vec<f64>) {
    let [batch, height, width, channels] = shape;
    let [count, kh, kw, inner] = filters;
    let Steps { padding, strides, dilations } = steps;
    let (rows, top) = window(padding, height, kh, strides[0], dilations[0]);
    let (columns, left) = window(padding, width, kw, strides[1], dilations[1]);
    let per_group = count / (channels / inner);
    let mut result = vec![];
    for b in 0..batch {
        for y in 0..rows {
            for xx in 0..columns {
                for o in 0..count {
                    let mut sum = bias[o];
                    for i in 0..kh {
                        for j in 0..kw {
                            let (py, px) = (
                                y * strides[0] + i * dilations[0],
                                xx * strides[1] + j * dilations[1],
                            );
                            let inside =
                                py >= top && py - top < height && px >= left && px - left < width;
                            for c in (0..inner).filter(|_| inside) {
                                let from = o / per_group * inner + c;
                                let at =
                                    ((b * height + py - top) * width + px - left) * channels + from;
                                sum += x[at] * weights[((o * kh + i) * kw + j) * inner + c];
                            }
                        }
                    }
                    result.push(sum);
                }
            }
        }
    }
    (vec![batch, rows, columns, count], result)
}

/// Weights of one scale, or of one a channel along `axis`; those of uint8 have a zero point.
fn weights(shape: &[usize], element: ElementType, axis: Option<usize>) -> Values {
    let (low, high) = match element {
        ElementType::U8 => (0, 255),
        ElementType::I4 => (-7, 7),
        _ => (-127, 127),
    };
    let count = shape.iter().product();
    let quantization = match axis {
        None => scale(0.01, if element == ElementType::U8 { 131 } else { 0 }),
        Some(axis) => Some(Quantization::PerChannel {
            scales: (0..shape[axis]).map(|i| 0.003 + 0.0021 * i as f32).collect(),
            zero_points: vec![0; shape[axis]],
            axis,
        }),
    };
    Values { shape: shape.to_vec(), element, quantization, integers: integers(count, low, high, 3) }
}

/// A bias of the scale that TFLite demands: that of the input times that of the weights.
fn bias(x: &Values, weights: &Values, count: usize) -> Values {
    let Some(Quantization::PerTensor { scale: own, .. }) = x.quantization else { panic!("scale") };
    let quantization = match &weights.quantization {
        Some(Quantization::PerTensor { scale, .. }) => {
            Some(Quantization::PerTensor { scale: own * scale, zero_point: 0 })
        }
        Some(Quantization::PerChannel { scales, zero_points, .. }) => {
            Some(Quantization::PerChannel {
                scales: scales.iter().map(|scale| own * scale).collect(),
                zero_points: zero_points.clone(),
                axis: 0,
            })
        }
        _ => panic!("scales"),
    };
    let element = if x.element == ElementType::I16 { ElementType::I64 } else { ElementType::I32 };
    let integers = integers(count, -3000, 3000, 5);
    Values { shape: vec![count], element, quantization, integers }
}

fn clamped(reals: Vec<f64>, activation: Activation) -> Vec<f64> {
    let [low, high] = match activation {
        Activation::Relu => [0.0, f64::INFINITY],
        Activation::Relu6 => [0.0, 6.0],
        Activation::ReluN1To1 => [-1.0, 1.0],
        _ => return reals,
    };
    reals.into_iter().map(|v| v.clamp(low, high)).collect()
}

fn weights_element(element: ElementType) -> ElementType {
    if element == ElementType::U8 { ElementType::U8 } else { ElementType::I8 }
}

fn zero_point(element: ElementType) -> i64 {
    match element {
        ElementType::U8 => 100,
        ElementType::I16 => 0,
        _ => -12,
    }
}

#[derive(Clone)]
struct Conv {
    name: &'static str,
    shape: [usize; 4],
    filters: [usize; 4],
    steps: Steps,
    activation: Activation,
    per_channel: bool,
    has_bias: bool,
}

fn add_conv(cases: &mut Vec<Case>, conv: &Conv, element: ElementType, weight: ElementType) {
    let Conv { name, shape, filters, steps, activation, per_channel, has_bias } = conv.clone();
    let x = activation_of(&shape, element);
    let axis = (per_channel && element != ElementType::U8).then_some(0);
    let w = weights(&filters, weight, axis);
    let b = bias(&x, &w, filters[0]);
    let added = if has_bias { b.reals() } else { vec![0.0; filters[0]] };
    let (shape, reals) = convolved(&x.reals(), shape, &w.reals(), filters, &added, steps);
    let result = fitting(&shape, element, zero_point(element), &reals);
    let Steps { padding, strides, dilations } = steps;
    let op = LiteOp::Conv2D { padding, strides, dilations, activation };
    let mut operands = vec![Operand::Given(x), Operand::Constant(w)];
    operands.push(if has_bias { Operand::Constant(b) } else { Operand::Absent });
    let name = format!("conv {element} {name}");
    add_case(cases, name, op, operands, result, clamped(reals, activation));
}

fn activation_of(shape: &[usize], element: ElementType) -> Values {
    super::activation(shape, element)
}

const ELEMENTS: [ElementType; 3] = [ElementType::I8, ElementType::U8, ElementType::I16];

pub fn add(cases: &mut Vec<Case>) {
    use Padding::{Same, Valid};
    let steps = |padding, strides, dilations| Steps { padding, strides, dilations };
    let plain = Conv {
        name: "3×3 same",
        shape: [2, 5, 6, 3],
        filters: [7, 3, 3, 3],
        steps: steps(Same, [1, 1], [1, 1]),
        activation: Activation::None,
        per_channel: true,
        has_bias: true,
    };
    let convs = [
        plain.clone(),
        Conv {
            name: "strided",
            steps: steps(Same, [2, 2], [1, 1]),
            activation: Activation::Relu,
            ..plain.clone()
        },
        Conv {
            name: "valid",
            steps: steps(Valid, [2, 1], [1, 1]),
            per_channel: false,
            ..plain.clone()
        },
        Conv {
            name: "dilated",
            shape: [1, 8, 7, 2],
            filters: [4, 3, 2, 2],
            steps: steps(Same, [1, 1], [2, 3]),
            activation: Activation::Relu6,
            ..plain.clone()
        },
        Conv {
            name: "1×1",
            shape: [1, 4, 5, 37],
            filters: [33, 1, 1, 37],
            activation: Activation::ReluN1To1,
            ..plain.clone()
        },
        Conv { name: "without bias", has_bias: false, ..plain.clone() },
        Conv { name: "wide", shape: [1, 3, 3, 70], filters: [5, 2, 2, 70], ..plain.clone() },
    ];
    for element in ELEMENTS {
        for conv in &convs {
            add_conv(cases, conv, element, weights_element(element));
        }
    }
    let grouped =
        Conv { name: "grouped", shape: [1, 5, 5, 6], filters: [4, 3, 3, 3], ..plain.clone() };
    add_conv(cases, &grouped, ElementType::I8, ElementType::I8);
    add_conv(cases, &Conv { name: "int4 weights", ..plain }, ElementType::I8, ElementType::I4);
    for element in ELEMENTS {
        for (name, multiplier, strides, dilations) in [
            ("depthwise", 1, [1, 1], [1, 1]),
            ("depthwise strided", 1, [2, 2], [1, 1]),
            ("depthwise dilated", 1, [1, 1], [2, 2]),
            ("depthwise twofold", 2, [2, 1], [1, 1]),
        ] {
            let steps = steps(Same, strides, dilations);
            add_depthwise(cases, name, element, multiplier, steps);
        }
        add_dense(cases, "dense", element, weights_element(element), false, true);
        add_dense(cases, "dense without bias", element, weights_element(element), false, false);
    }
    add_dense(cases, "dense per channel", ElementType::I8, ElementType::I8, true, true);
    add_dense(cases, "dense per channel", ElementType::I16, ElementType::I8, true, true);
    add_dense(cases, "dense int4 weights", ElementType::I8, ElementType::I4, true, true);
    add_dense_of_rank_3(cases);
    for element in [ElementType::I8, ElementType::I16] {
        add_batch_matmul(cases, element);
        add_transpose_conv(cases, element);
    }
}

fn add_depthwise(
    cases: &mut Vec<Case>,
    name: &str,
    element: ElementType,
    multiplier: usize,
    steps: Steps,
) {
    let shape = [2, 6, 5, 5];
    let count = shape[3] * multiplier;
    let x = activation_of(&shape, element);
    let axis = (element != ElementType::U8).then_some(3);
    let w = weights(&[1, 3, 3, count], weights_element(element), axis);
    let b = bias(&x, &w, count);
    // as groups of one channel
    let reals = w.reals();
    let grouped: Vec<f64> = (0..count * 9).map(|i| reals[i % 9 * count + i / 9]).collect();
    let filters = [count, 3, 3, 1];
    let (result_shape, reals) = convolved(&x.reals(), shape, &grouped, filters, &b.reals(), steps);
    let result = fitting(&result_shape, element, zero_point(element), &reals);
    let Steps { padding, strides, dilations } = steps;
    let activation = Activation::Relu;
    let op = LiteOp::DepthwiseConv2D { padding, strides, dilations, multiplier, activation };
    let operands = vec![Operand::Given(x), Operand::Constant(w), Operand::Constant(b)];
    let name = format!("{name} {element}");
    add_case(cases, name, op, operands, result, clamped(reals, activation));
}

fn dense(x: &[f64], weights: &[f64], bias: &[f64], depth: usize) -> Vec<f64> {
    let dot = |row: &[f64], filter: &[f64]| row.iter().zip(filter).map(|(a, b)| a * b).sum::<f64>();
    let rows = x.chunks(depth);
    rows.flat_map(|row| {
        weights
            .chunks(depth)
            .zip(bias)
            .map(|(filter, bias)| dot(row, filter) + bias)
            .collect::<Vec<_>>()
    })
    .collect()
}

fn add_dense(
    cases: &mut Vec<Case>,
    name: &str,
    element: ElementType,
    weight: ElementType,
    per_channel: bool,
    has_bias: bool,
) {
    let (rows, depth, count) = (3, 21, 10);
    let x = activation_of(&[rows, depth], element);
    let w = weights(&[count, depth], weight, per_channel.then_some(0));
    let b = bias(&x, &w, count);
    let added = if has_bias { b.reals() } else { vec![0.0; count] };
    let reals = dense(&x.reals(), &w.reals(), &added, depth);
    let result = fitting(&[rows, count], element, zero_point(element), &reals);
    let op = LiteOp::FullyConnected {
        activation: Activation::None,
        keep_num_dims: false,
        asymmetric_quantize_inputs: false,
    };
    let mut operands = vec![Operand::Given(x), Operand::Constant(w)];
    if has_bias {
        operands.push(Operand::Constant(b));
    }
    add_case(cases, format!("{name} {element}"), op, operands, result, reals);
}

fn add_dense_of_rank_3(cases: &mut Vec<Case>) {
    let x = activation_of(&[2, 3, 8], ElementType::I8);
    let w = weights(&[4, 8], ElementType::I8, None);
    let b = bias(&x, &w, 4);
    let reals = dense(&x.reals(), &w.reals(), &b.reals(), 8);
    let result = fitting(&[2, 3, 4], ElementType::I8, 5, &reals);
    let op = LiteOp::FullyConnected {
        activation: Activation::Relu,
        keep_num_dims: true,
        asymmetric_quantize_inputs: false,
    };
    let operands = vec![Operand::Given(x), Operand::Constant(w), Operand::Constant(b)];
    add_case(cases, "dense int8 of rank 3", op, operands, result, clamped(reals, Activation::Relu));
}

fn add_batch_matmul(cases: &mut Vec<Case>, element: ElementType) {
    let (x, y) = (activation_of(&[2, 3, 5], element), activation_of(&[2, 5, 4], element));
    let (a, b) = (x.reals(), y.reals());
    let mut reals = vec![];
    for batch in 0..2 {
        for i in 0..3 {
            for j in 0..4 {
                let terms = (0..5).map(|k| a[batch * 15 + i * 5 + k] * b[batch * 20 + k * 4 + j]);
                reals.push(terms.sum());
            }
        }
    }
    let result = fitting(&[2, 3, 4], element, zero_point(element), &reals);
    let op = LiteOp::BatchMatMul { transpose_x: false, transpose_y: false };
    let operands = vec![Operand::Given(x), Operand::Given(y)];
    add_case(cases, format!("batch matmul {element}"), op, operands, result, reals);
}

fn add_transpose_conv(cases: &mut Vec<Case>, element: ElementType) {
    let (height, width, channels, count) = (3, 4, 2, 3);
    let x = activation_of(&[1, height, width, channels], element);
    let w = weights(&[count, 3, 3, channels], ElementType::I8, Some(0));
    let b = bias(&x, &w, count);
    let (rows, columns) = (2 * height, 2 * width);
    let (values, filters, added) = (x.reals(), w.reals(), b.reals());
    let mut reals: Vec<f64> = (0..rows * columns * count).map(|i| added[i % count]).collect();
    for (y, xx) in (0..height).flat_map(|y| (0..width).map(move |x| (y, x))) {
        for (i, j) in (0..3).flat_map(|i| (0..3).map(move |j| (i, j))) {
            // SAME of stride 2 and width 3: no pixel before
            let (to_y, to_x) = (2 * y + i, 2 * xx + j);
            if to_y >= rows || to_x >= columns {
                continue;
            }
            for (o, c) in (0..count).flat_map(|o| (0..channels).map(move |c| (o, c))) {
                reals[(to_y * columns + to_x) * count + o] += values
                    [(y * width + xx) * channels + c]
                    * filters[((o * 3 + i) * 3 + j) * channels + c];
            }
        }
    }
    let result = fitting(&[1, rows, columns, count], element, zero_point(element), &reals);
    let op = LiteOp::TransposeConv {
        padding: Padding::Same,
        strides: [2, 2],
        activation: Activation::None,
    };
    let size = indices(&[1, rows as i32, columns as i32, count as i32]);
    let operands = vec![size, Operand::Constant(w), Operand::Given(x), Operand::Constant(b)];
    add_case(cases, format!("transpose conv {element}"), op, operands, result, reals);
}
