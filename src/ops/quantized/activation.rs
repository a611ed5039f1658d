//! Functions of one value: a table of all results, computed as TFLite computes them.

use super::*;
use crate::graph::UnaryOp;
use crate::kernels::Interpolation;
use crate::kernels::fixed_point::{Multiplier, divide_by_power, doubled_high_product_i16};
use crate::tract::typed_ops::quantized::Table;

pub fn raise(ctx: &mut RaiseContext, node: &Node) -> Result<Option<()>> {
    let (Some(from), Some(to)) = (input_of(ctx, node, 0), output_of(ctx, node)) else {
        return Ok(None);
    };
    let function: Box<dyn Fn(i32) -> i32> = match &node.op {
        LiteOp::LeakyRelu { alpha } => leaky_relu(*alpha, from, to),
        LiteOp::Gelu { approximate: true } => by_reals(from, to, |x| {
            0.5 * x * (1.0 + (0.797_884_56_f32 * (x + 0.044_715 * x * x * x)).tanh())
        }),
        LiteOp::Gelu { approximate: false } => by_reals(from, to, |x| {
            let x = f64::from(x);
            (0.5 * x * complementary_error(-x * std::f64::consts::FRAC_1_SQRT_2)) as f32
        }),
        LiteOp::Unary(op) => unary(*op, from, to),
        _ => return Ok(None),
    };
    let name = ctx.output_name(node);
    let x = ctx.input(node, 0)?;
    let table = Table::new("Table", from.datum, to.datum, function)?;
    let wire = ctx.wire(name, Quantized::new(table), &[x])?;
    ctx.finish(node, wire).map(Some)
}

fn unary(op: UnaryOp, from: Affine, to: Affine) -> Box<dyn Fn(i32) -> i32> {
    let least = (to.bounds()[0] - to.zero_point) as f32 * to.scale;
    let most = (to.bounds()[1] - to.zero_point) as f32 * to.scale;
    match op {
        UnaryOp::Relu => clamped(from, to, 0.0, None),
        UnaryOp::Relu6 => clamped(from, to, 0.0, Some(6.0)),
        UnaryOp::ReluN1To1 => clamped(from, to, -1.0, Some(1.0)),
        UnaryOp::Relu0To1 => clamped(from, to, 0.0, Some(1.0)),
        UnaryOp::HardSwish if from.datum.size_of() == 1 => hard_swish(from, to),
        UnaryOp::HardSwish => by_reals(from, to, |x| x * (x + 3.0).clamp(0.0, 6.0) / 6.0),
        UnaryOp::Abs => {
            let multiplier = Multiplier::of(f64::from(from.scale / to.scale));
            let same = from.scale == to.scale;
            Box::new(move |x| {
                let size = (x - from.zero_point).abs();
                let scaled = if same { size } else { multiplier.apply(size) };
                scaled.saturating_add(to.zero_point)
            })
        }
        // cut, not rounded
        UnaryOp::Sqrt => Box::new(move |x| {
            let real = from.scale * (x - from.zero_point) as f32;
            ((real.sqrt() / to.scale) as i32).saturating_add(to.zero_point)
        }),
        UnaryOp::Logistic if is_share(to) && from.datum == DatumType::I16 => {
            logistic_of_words(from)
        }
        UnaryOp::Tanh if is_share(to) && from.datum == DatumType::I16 => tanh_of_words(from),
        UnaryOp::Logistic => by_reals(from, to, |x| 1.0 / (1.0 + (-x).exp())),
        UnaryOp::Tanh => by_reals(from, to, f32::tanh),
        UnaryOp::Elu => by_reals(from, to, |x| if x < 0.0 { x.exp_m1() } else { x }),
        UnaryOp::Exp => by_reals(from, to, f32::exp),
        UnaryOp::Log => by_reals(from, to, move |x| if x <= 0.0 { least } else { x.ln() }),
        UnaryOp::Rsqrt => by_reals(from, to, move |x| if x <= 0.0 { most } else { 1.0 / x.sqrt() }),
        UnaryOp::Neg => by_reals(from, to, |x| -x),
        UnaryOp::Ceil => by_reals(from, to, f32::ceil),
        UnaryOp::Floor => by_reals(from, to, f32::floor),
        UnaryOp::Round => by_reals(from, to, f32::round_ties_even),
        UnaryOp::Cos => by_reals(from, to, f32::cos),
        UnaryOp::Sin => by_reals(from, to, f32::sin),
        UnaryOp::Square => by_reals(from, to, |x| x * x),
        UnaryOp::Sign => by_reals(from, to, |x| if x == 0.0 { 0.0 } else { x.signum() }),
        UnaryOp::LogicalNot => by_reals(from, to, |x| if x == 0.0 { 1.0 } else { 0.0 }),
    }
}

/// As TFLite fills its tables: of all 8-bit values, or of lines through 16-bit ones.
fn by_reals(
    from: Affine,
    to: Affine,
    function: impl Fn(f32) -> f32 + 'static,
) -> Box<dyn Fn(i32) -> i32> {
    if from.datum == DatumType::I16 && to.datum == DatumType::I16 {
        let (scale, output) = (f64::from(from.scale), f64::from(to.scale));
        let real = |x: f64| f64::from(function(x as f32));
        let lines = Interpolation::new(scale, from.zero_point, output, real);
        return Box::new(move |x| lines.at(x as i16).into());
    }
    let inverse = 1.0 / to.scale;
    Box::new(move |x| {
        let result = function(from.scale * (x - from.zero_point) as f32);
        ((result * inverse).round() + to.zero_point as f32) as i32
    })
}

/// Whether the scale is that of 16 bits in −1..1.
fn is_share(to: Affine) -> bool {
    to.datum == DatumType::I16 && to.scale == 1.0 / 32768.0 && to.zero_point == 0
}

/// The logistic function of i / 24 as 16 bits, cut at the largest.
fn logistic_at(i: u32) -> i64 {
    let real = 65536.0 / (1.0 + (-f64::from(i) / 24.0).exp());
    (real.round() as i64).min(65535)
}

/// `x` in 2^17ths of 32/3, as TFLite's 16-bit kernels take it.
fn in_table_units(from: Affine) -> impl Fn(i32) -> i64 {
    let mut multiplier = f64::from(from.scale) * 4096.0 * 3.0;
    let mut shift = 0;
    while multiplier <= 32767.0 / 2.0 && shift <= 30 {
        shift += 1;
        multiplier *= 2.0;
    }
    let multiplier = multiplier as i64;
    let round = if shift > 0 { 1i64 << (shift - 1) } else { 0 };
    move |x| (i64::from(x) * multiplier + round) >> shift
}

fn logistic_of_words(from: Affine) -> Box<dyn Fn(i32) -> i32> {
    let units = in_table_units(from);
    Box::new(move |x| {
        let x = units(x);
        let (place, rest) = ((x.abs() >> 9) as u32, x.abs() & 0x1ff);
        let result = match place {
            255.. => 0x7fff << 10,
            _ => (logistic_at(place) << 9) + rest * (logistic_at(place + 1) - logistic_at(place)),
        };
        let result = if x >= 0 { result + (1 << 9) } else { (1 << 25) - result + (1 << 9) - 1 };
        (result >> 10) as i32
    })
}

fn tanh_of_words(from: Affine) -> Box<dyn Fn(i32) -> i32> {
    let units = in_table_units(from);
    Box::new(move |x| {
        let x = units(x);
        let (place, rest) = ((x.abs() >> 8) as u32, x.abs() & 0xff);
        let result = match place {
            255.. => 0xffff << 8,
            _ => (logistic_at(place) << 8) + rest * (logistic_at(place + 1) - logistic_at(place)),
        };
        let result = match x >= 0 {
            true => result - (1 << 23) + (1 << 7),
            false => (1 << 23) - result + (1 << 7) - 1,
        };
        (result >> 8) as i32
    })
}

/// Between two reals.
fn clamped(from: Affine, to: Affine, low: f32, high: Option<f32>) -> Box<dyn Fn(i32) -> i32> {
    let multiplier = Multiplier::of(f64::from(from.scale / to.scale));
    let [least, most] = to.bounds();
    let low = least.max(to.nearest(low));
    let high = high.map_or(most, |high| most.min(to.nearest(high)));
    Box::new(move |x| {
        let scaled = multiplier.apply(x - from.zero_point).saturating_add(to.zero_point);
        scaled.max(low).min(high)
    })
}

fn leaky_relu(alpha: f32, from: Affine, to: Affine) -> Box<dyn Fn(i32) -> i32> {
    let positive = Multiplier::of(f64::from(from.scale / to.scale));
    let negative = Multiplier::of(f64::from(from.scale * alpha / to.scale).abs());
    Box::new(move |x| {
        let scaled = match x - from.zero_point {
            x if x >= 0 => positive.apply(x),
            x if alpha < 0.0 => negative.apply(x).saturating_neg(),
            x => negative.apply(x),
        };
        scaled.saturating_add(to.zero_point)
    })
}

/// `x · relu6(x + 3) / 6` in 16 bits.
fn hard_swish(from: Affine, to: Affine) -> Box<dyn Fn(i32) -> i32> {
    let fine = from.scale / 128.0;
    let halves = |real: f32| {
        let found = Multiplier::of(f64::from(real));
        let mantissa = match found.mantissa >= i32::MAX - (1 << 15) {
            true => i16::MAX,
            false => ((found.mantissa + (1 << 15)) >> 16) as i16,
        };
        (mantissa, found.shift)
    };
    let (output, output_shift) = halves(fine / to.scale);
    let (gate, gate_shift) = halves(fine / (3.0 / 32768.0));
    let up = |x: i16, bits: i32| {
        let moved = i64::from(x) << bits.clamp(0, 30);
        moved.clamp(i16::MIN.into(), i16::MAX.into()) as i16
    };
    let down = |x: i16, bits: i32| divide_by_power(x.into(), bits.clamp(0, 31) as u32) as i16;
    Box::new(move |x| {
        let fine = ((x - from.zero_point) * 128).clamp(i16::MIN.into(), i16::MAX.into()) as i16;
        let on_output = doubled_high_product_i16(fine, output);
        // −1..1 for the reals −3..3
        let mut open = fine;
        if gate_shift > 0 {
            open = up(open, gate_shift - 1);
        }
        open = doubled_high_product_i16(open, gate);
        if gate_shift > 0 {
            open = up(open, 1);
        }
        if gate_shift < 0 {
            open = down(open, -gate_shift);
        }
        let open = (i32::from(open) + (1 << 15)) >> 1;
        let product = (open * i32::from(on_output)) / (1 << 15);
        i32::from(down(product as i16, -output_shift)) + to.zero_point
    })
}

/// 1 − erf(x), good to 1.2e-7 (Numerical Recipes, 6.2.2, erfcc).
fn complementary_error(x: f64) -> f64 {
    let t = 1.0 / (1.0 + 0.5 * x.abs());
    const TERMS: [f64; 10] = [
        0.170_872_77,
        -0.822_152_23,
        1.488_515_87,
        -1.135_203_98,
        0.278_868_07,
        -0.186_288_06,
        0.096_784_18,
        0.374_091_96,
        1.000_023_68,
        -1.265_512_23,
    ];
    let series = TERMS.iter().fold(0.0, |sum, term| sum * t + term);
    let tail = t * (series - x * x).exp();
    if x >= 0.0 { tail } else { 2.0 - tail }
}
