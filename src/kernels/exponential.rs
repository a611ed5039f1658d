//! exp, sigmoid and tanh of one value, written so that the compiler makes vectors of them: no
//! branches, no tables, no calls. Cody and Waite's reduction and a Taylor polynomial of degree 7.

const LOG2_E: f32 = std::f32::consts::LOG2_E;
const LN2_HIGH: f32 = 0.693_145_75;
const LN2_LOW: f32 = 1.428_606_8e-6;
/// 1.5 * 2^23: adding it rounds to a whole number, which then sits in the low bits.
const ROUND: f32 = 12_582_912.0;

/// e^x: 0 below -104, infinite above 88.73; about 1 ulp off at worst between, NaN for NaN.
#[inline(always)]
pub fn exp(x: f32) -> f32 {
    let (whole, fraction) = reduce(x.clamp(-105.0, 90.0));
    let half = whole >> 1;
    scale(scale(1.0 + fraction, half), whole - half)
}

/// 1 / (1 + e^-x).
#[inline(always)]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let top = if x < 0.0 { e } else { 1.0 };
    top / (1.0 + e)
}

/// The hyperbolic tangent.
#[inline(always)]
pub fn tanh(x: f32) -> f32 {
    let (whole, fraction) = reduce((-2.0 * x.abs()).clamp(-40.0, 0.0));
    let power = scale(1.0, whole);
    let less_one = power.mul_add(fraction, power - 1.0);
    (-less_one / (2.0 + less_one)).copysign(x)
}

/// e^x = 2^whole * (1 + fraction).
#[inline(always)]
fn reduce(x: f32) -> (i32, f32) {
    let rounded = x.mul_add(LOG2_E, ROUND);
    let whole = rounded - ROUND;
    let r = whole.mul_add(-LN2_LOW, whole.mul_add(-LN2_HIGH, x));
    let mut p = 1.0 / 5040.0;
    for c in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5] {
        p = r.mul_add(p, c);
    }
    let fraction = (r * r).mul_add(p, r);
    (rounded.to_bits().wrapping_sub(ROUND.to_bits()) as i32, fraction)
}

/// x * 2^power, for a power from -126 to 127.
#[inline(always)]
fn scale(x: f32, power: i32) -> f32 {
    x * f32::from_bits((power.wrapping_add(127) as u32) << 23)
}
