//! Functions of one value applied to slices, and their gradients.

use super::exponential;
use super::gemm::Activation;
use super::instruction_set::multiversioned;

multiversioned! {
    /// y = max(y, 0); NaN stays.
    pub fn relu(values: &mut [f32]) = relu_body, relu_on;
    /// y = min(max(y, 0), 6); NaN stays.
    pub fn relu6(values: &mut [f32]) = relu6_body, relu6_on;
    /// y = e^y.
    pub fn exp(values: &mut [f32]) = exp_body, exp_on;
    /// y = 1 / (1 + e^-y).
    pub fn sigmoid(values: &mut [f32]) = sigmoid_body, sigmoid_on;
    /// y = tanh(y).
    pub fn tanh(values: &mut [f32]) = tanh_body, tanh_on;

    /// Turns the gradient of relu's output into that of its input.
    pub fn relu_gradient(outputs: &[f32], gradients: &mut [f32])
        = relu_gradient_body, relu_gradient_on;
    /// As `relu_gradient`, of relu6.
    pub fn relu6_gradient(outputs: &[f32], gradients: &mut [f32])
        = relu6_gradient_body, relu6_gradient_on;
    /// g = g * y * (1 - y), for the outputs y of sigmoid.
    pub fn sigmoid_gradient(outputs: &[f32], gradients: &mut [f32])
        = sigmoid_gradient_body, sigmoid_gradient_on;
    /// g = g * (1 - y²), for the outputs y of tanh.
    pub fn tanh_gradient(outputs: &[f32], gradients: &mut [f32])
        = tanh_gradient_body, tanh_gradient_on;

    /// y += alpha * x.
    pub fn axpy(alpha: f32, x: &[f32], y: &mut [f32]) = axpy_body, axpy_on;
    /// Sums of the columns of a matrix with as many columns as there are sums.
    pub fn sum_over_rows(matrix: &[f32], sums: &mut [f32]) = sum_over_rows_body, sum_over_rows_on;
}

/// Applies an activation in place.
pub fn activate(activation: Activation, values: &mut [f32]) {
    match activation {
        Activation::Identity => {}
        Activation::Relu => relu(values),
        Activation::Relu6 => relu6(values),
        Activation::Sigmoid => sigmoid(values),
        Activation::Tanh => tanh(values),
    }
}

/// Turns the gradient of an activation's output into that of its input, by way of the output.
pub fn activation_gradient(activation: Activation, outputs: &[f32], gradients: &mut [f32]) {
    match activation {
        Activation::Identity => {}
        Activation::Relu => relu_gradient(outputs, gradients),
        Activation::Relu6 => relu6_gradient(outputs, gradients),
        Activation::Sigmoid => sigmoid_gradient(outputs, gradients),
        Activation::Tanh => tanh_gradient(outputs, gradients),
    }
}

#[inline(always)]
fn map(values: &mut [f32], function: impl Fn(f32) -> f32) {
    for y in values {
        *y = function(*y);
    }
}

// Here and in the gradients: adding 0.0 changes nothing but -0.0, and keeps the compiler from storing
// only where a value changes, with masked stores that are slow on AMD's AVX2.
#[inline(always)]
fn relu_body(values: &mut [f32]) {
    map(values, |y| if y < 0.0 { 0.0 } else { y + 0.0 });
}

#[inline(always)]
fn relu6_body(values: &mut [f32]) {
    map(values, |y| {
        let y = if y < 0.0 { 0.0 } else { y + 0.0 };
        if y > 6.0 { 6.0 } else { y }
    });
}

#[inline(always)]
fn exp_body(values: &mut [f32]) {
    map(values, exponential::exp);
}

#[inline(always)]
fn sigmoid_body(values: &mut [f32]) {
    map(values, exponential::sigmoid);
}

#[inline(always)]
fn tanh_body(values: &mut [f32]) {
    map(values, exponential::tanh);
}

#[inline(always)]
fn map_pairs(x: &[f32], y: &mut [f32], function: impl Fn(f32, f32) -> f32) {
    assert_eq!(x.len(), y.len(), "slices of different lengths");
    for (x, y) in x.iter().zip(y) {
        *y = function(*x, *y);
    }
}

#[inline(always)]
fn relu_gradient_body(outputs: &[f32], gradients: &mut [f32]) {
    map_pairs(outputs, gradients, |y, g| if y > 0.0 { g + 0.0 } else { 0.0 });
}

#[inline(always)]
fn relu6_gradient_body(outputs: &[f32], gradients: &mut [f32]) {
    let passes = |y| (y > 0.0) & (y < 6.0);
    map_pairs(outputs, gradients, |y, g| if passes(y) { g + 0.0 } else { 0.0 });
}

#[inline(always)]
fn sigmoid_gradient_body(outputs: &[f32], gradients: &mut [f32]) {
    map_pairs(outputs, gradients, |y, g| g * (y * (1.0 - y)));
}

#[inline(always)]
fn tanh_gradient_body(outputs: &[f32], gradients: &mut [f32]) {
    map_pairs(outputs, gradients, |y, g| g * (-y).mul_add(y, 1.0));
}

#[inline(always)]
fn axpy_body(alpha: f32, x: &[f32], y: &mut [f32]) {
    map_pairs(x, y, |x, y| alpha.mul_add(x, y));
}

#[inline(always)]
fn sum_over_rows_body(matrix: &[f32], sums: &mut [f32]) {
    sums.fill(0.0);
    if sums.is_empty() {
        assert!(matrix.is_empty(), "values without columns");
        return;
    }
    assert!(
        matrix.len().is_multiple_of(sums.len()),
        "{} values are not rows of {}",
        matrix.len(),
        sums.len()
    );
    for row in matrix.chunks_exact(sums.len()) {
        map_pairs(row, sums, |x, sum| sum + x);
    }
}

#[cfg(test)]
mod tests {
    use super::super::instruction_set::InstructionSet;
    use super::super::test_values::{assert_same_bits, values};
    use super::*;

    type OnOne = fn(InstructionSet, &mut [f32]);
    type OnTwo = fn(InstructionSet, &[f32], &mut [f32]);

    const LENGTHS: [usize; 12] = [0, 1, 2, 7, 8, 15, 16, 17, 31, 33, 100, 1031];

    const ONE: [(&str, OnOne); 5] = [
        ("relu", relu_on),
        ("relu6", relu6_on),
        ("exp", exp_on),
        ("sigmoid", sigmoid_on),
        ("tanh", tanh_on),
    ];

    const TWO: [(&str, OnTwo); 6] = [
        ("relu_gradient", relu_gradient_on),
        ("relu6_gradient", relu6_gradient_on),
        ("sigmoid_gradient", sigmoid_gradient_on),
        ("tanh_gradient", tanh_gradient_on),
        ("axpy", |set, x, y| axpy_on(set, -0.3, x, y)),
        ("sum_over_rows", |set, x, y| sum_over_rows_on(set, x, y)),
    ];

    const EXTREMES: [f32; 16] = [
        0.0,
        -0.0,
        1e-45,
        -1e-40,
        f32::MIN_POSITIVE,
        f32::MAX,
        f32::MIN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        f32::NAN,
        88.7,
        88.8,
        -87.4,
        -103.9,
        -104.1,
        6.0,
    ];

    #[test]
    fn every_instruction_set_gives_the_same_bits() {
        for len in LENGTHS {
            let wide: Vec<f32> = values(len, 1).iter().map(|v| v * 120.0).collect();
            for x in [values(len, 2), wide, EXTREMES.repeat(3)] {
                for set in InstructionSet::available() {
                    for (name, function) in ONE {
                        let (mut got, mut expected) = (x.clone(), x.clone());
                        function(set, &mut got);
                        function(InstructionSet::Portable, &mut expected);
                        assert_same_bits(&got, &expected, &format!("{name}, {set:?}"));
                    }
                    for (name, function) in TWO {
                        let y = values(x.len(), 3);
                        let (mut got, mut expected) = (y.clone(), y.clone());
                        function(set, &x, &mut got);
                        function(InstructionSet::Portable, &x, &mut expected);
                        assert_same_bits(&got, &expected, &format!("{name}, {set:?}"));
                    }
                }
            }
        }
    }

    /// The largest difference from the truth, in units of the truth's last place.
    fn worst_ulps(function: fn(&mut [f32]), truth: fn(f64) -> f64, from: f32, to: f32) -> f64 {
        let x: Vec<f32> =
            (0..200_001).map(|i| from + (to - from) * (i as f32 / 200_000.0)).collect();
        let mut y = x.clone();
        function(&mut y);
        let ulps = x.iter().zip(&y).map(|(&x, &y)| {
            let truth = truth(x as f64);
            let near = (truth.abs() as f32).max(f32::MIN_POSITIVE);
            let ulp = near.next_up() as f64 - near as f64;
            (y as f64 - truth).abs() / ulp
        });
        ulps.fold(0.0, f64::max)
    }

    #[test]
    fn exp_sigmoid_and_tanh_are_within_a_few_units_of_the_last_place() {
        let check = |what: &str, function, truth, from, to, bound| {
            let worst = worst_ulps(function, truth, from, to);
            assert!(worst <= bound, "{what} on {from}..{to}: {worst} ulps");
        };
        let logistic = |x: f64| 1.0 / (1.0 + (-x).exp());
        for (from, to) in [(-1e-3, 1e-3), (-1.0, 1.0), (-20.0, 20.0), (-103.0, 88.0)] {
            check("exp", exp, f64::exp, from, to, 1.01);
            check("sigmoid", sigmoid, logistic, from, to, 2.5);
            check("tanh", tanh, f64::tanh, from, to, 2.5);
        }
    }

    #[test]
    fn extremes_have_the_limits_as_values() {
        let check = |function: fn(&mut [f32]), x: f32, expected: f32| {
            let mut y = [x];
            function(&mut y);
            assert_same_bits(&y, &[expected], &format!("at {x}"));
        };
        for big in [105.0, 1e10, f32::MAX, f32::INFINITY] {
            check(exp, big, f32::INFINITY);
            check(exp, -big, 0.0);
            check(sigmoid, big, 1.0);
            check(sigmoid, -big, 0.0);
            check(tanh, big, 1.0);
            check(tanh, -big, -1.0);
        }
        check(exp, 0.0, 1.0);
        check(sigmoid, -0.0, 0.5);
        check(tanh, -0.0, -0.0);
        check(tanh, 1e-40, 1e-40);
        for function in [exp, sigmoid, tanh, relu, relu6] {
            check(function, f32::NAN, f32::NAN);
        }
        check(relu, -3.0, 0.0);
        check(relu, 7.0, 7.0);
        check(relu6, 7.0, 6.0);
    }

    #[test]
    fn gradients_are_the_finite_differences() {
        let activations = [
            Activation::Identity,
            Activation::Relu,
            Activation::Relu6,
            Activation::Sigmoid,
            Activation::Tanh,
        ];
        for activation in activations {
            for x in [-7.0f32, -0.8, 0.3, 1.7, 8.0] {
                let at = |x| {
                    let mut y = [x];
                    activate(activation, &mut y);
                    y[0]
                };
                let slope = (at(x + 1e-2) as f64 - at(x - 1e-2) as f64) / 2e-2;
                let mut gradient = [3.0];
                activation_gradient(activation, &[at(x)], &mut gradient);
                let difference = (gradient[0] as f64 - 3.0 * slope).abs();
                assert!(difference < 1e-3, "{activation:?} at {x}: {gradient:?}, {slope}");
            }
        }
    }

    #[test]
    fn sums_and_axpy_by_hand() {
        let mut sums = [9.0; 3];
        sum_over_rows(&[1.0, 2.0, 3.0, 10.0, 20.0, 30.0], &mut sums);
        assert_eq!(sums, [11.0, 22.0, 33.0]);
        axpy(-2.0, &[1.0, 2.0, 3.0], &mut sums);
        assert_eq!(sums, [9.0, 18.0, 27.0]);
        sum_over_rows(&[], &mut sums);
        assert_eq!(sums, [0.0; 3]);
    }

    #[test]
    #[should_panic(expected = "slices of different lengths")]
    fn different_lengths_panic() {
        axpy(1.0, &[1.0; 3], &mut [1.0; 4]);
    }

    #[test]
    #[should_panic(expected = "5 values are not rows of 3")]
    fn a_ragged_matrix_panics() {
        sum_over_rows(&[1.0; 5], &mut [0.0; 3]);
    }
}
