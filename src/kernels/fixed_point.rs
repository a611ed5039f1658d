//! Reals as integers with a power of two, in the arithmetic that TFLite's integer kernels are defined by
//! (gemmlowp's `fixedpoint.h`, TFLite's `common.cc`). Every result is that of their scalar code, bit for bit.

/// A positive real as `mantissa · 2^(shift − 31)`, the mantissa in 2^30..2^31 or 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Multiplier {
    pub mantissa: i32,
    pub shift: i32,
}

impl Multiplier {
    /// The nearest to `real`; below 2^−31 it is 0, and what is not finite is 0 too.
    pub fn of(real: f64) -> Multiplier {
        let (fraction, mut shift) = split(real.abs());
        let mut mantissa = (fraction * 2f64.powi(31)).round() as i64;
        if mantissa == 1 << 31 {
            mantissa /= 2;
            shift += 1;
        }
        if mantissa == 0 || shift < -31 {
            return Multiplier { mantissa: 0, shift: 0 };
        }
        let mantissa = if real < 0.0 { -mantissa } else { mantissa };
        Multiplier { mantissa: mantissa as i32, shift: shift.min(30) }
    }

    /// `x` times this, rounded twice: the high half's halves upwards, then by the shift, halves away from zero.
    pub fn apply(self, x: i32) -> i32 {
        let left = x.wrapping_shl(self.shift.max(0) as u32);
        divide_by_power(doubled_high_product(left, self.mantissa), (-self.shift).max(0) as u32)
    }

    /// As [`Multiplier::apply`] for 48-bit values: the mantissa is cut to 15 bits, and rounding is upwards at halves.
    pub fn apply_wide(self, x: i64) -> i32 {
        let reduced = match self.mantissa < 0x7fff_0000 {
            true => (self.mantissa.wrapping_add(1 << 15)) >> 16,
            false => 0x7fff,
        };
        let shift = (15 - self.shift).clamp(1, 62) as u32;
        let product = x.wrapping_mul(i64::from(reduced));
        (product.wrapping_add(1 << (shift - 1)) >> shift) as i32
    }
}

/// `real` as `fraction · 2^shift`, the fraction in 0.5..1; 0 for what is not finite or subnormal.
fn split(real: f64) -> (f64, i32) {
    if !real.is_normal() {
        return (0.0, 0);
    }
    let bits = real.to_bits();
    let shift = (bits >> 52 & 0x7ff) as i32 - 1022;
    (f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52), shift)
}

/// The high half of `2·a·b`, halves upwards; of two lowest values it is the highest.
pub fn doubled_high_product(a: i32, b: i32) -> i32 {
    if a == i32::MIN && b == i32::MIN {
        return i32::MAX;
    }
    let product = i64::from(a) * i64::from(b);
    let nudge = if product >= 0 { 1 << 30 } else { 1 - (1 << 30) };
    ((product + nudge) / (1 << 31)) as i32
}

/// As [`doubled_high_product`] of 16 bits.
pub fn doubled_high_product_i16(a: i16, b: i16) -> i16 {
    if a == i16::MIN && b == i16::MIN {
        return i16::MAX;
    }
    let product = i32::from(a) * i32::from(b);
    let nudge = if product >= 0 { 1 << 14 } else { 1 - (1 << 14) };
    ((product + nudge) / (1 << 15)) as i16
}

/// `x / 2^exponent`, rounded half away from zero.
pub fn divide_by_power(x: i32, exponent: u32) -> i32 {
    let exponent = exponent.min(31);
    let mask = ((1i64 << exponent) - 1) as i32;
    let threshold = (mask >> 1) + i32::from(x < 0);
    (x >> exponent) + i32::from(x & mask > threshold)
}

/// `x · 2^exponent` within 32 bits.
fn multiply_by_power(x: i32, exponent: u32) -> i32 {
    let threshold = (1i32 << (31 - exponent)) - 1;
    match x {
        _ if x > threshold => i32::MAX,
        _ if x < -threshold => i32::MIN,
        _ => x << exponent,
    }
}

/// e^x of an x ≤ 0 with 26 fractional bits, as 31 fractional bits.
pub fn exp_of_negative(x: i32) -> i32 {
    const FRACTIONAL_BITS: i32 = 26;
    // e^(−2^k) for k from −2
    const FACTORS: [i32; 7] =
        [1_672_461_947, 1_302_514_674, 790_015_084, 290_630_308, 39_332_535, 720_401, 242];
    if x == 0 {
        return i32::MAX;
    }
    let quarter = 1 << (FRACTIONAL_BITS - 2);
    let rest = (x & (quarter - 1)) - quarter;
    let mut result = exp_near_minus_eighth(multiply_by_power(rest, 5));
    let remainder = rest.wrapping_sub(x);
    for (i, factor) in FACTORS.iter().enumerate() {
        if remainder & (1 << (FRACTIONAL_BITS - 2 + i as i32)) != 0 {
            result = doubled_high_product(result, *factor);
        }
    }
    result
}

/// e^x of −1/4 ≤ x < 0 with 31 fractional bits, by its series around −1/8.
fn exp_near_minus_eighth(x: i32) -> i32 {
    const AT_MINUS_EIGHTH: i32 = 1_895_147_668;
    const THIRD: i32 = 715_827_883;
    let x = x.wrapping_add(1 << 28);
    let square = doubled_high_product(x, x);
    let cube = doubled_high_product(square, x);
    let fourth = divide_by_power(doubled_high_product(square, square), 2);
    let tail = doubled_high_product(fourth.wrapping_add(cube), THIRD).wrapping_add(square);
    let series = x.wrapping_add(divide_by_power(tail, 1));
    AT_MINUS_EIGHTH.wrapping_add(doubled_high_product(AT_MINUS_EIGHTH, series))
}

/// 1 / (1 + x) of 0 ≤ x < 1, both with 31 fractional bits, by three of Newton's steps.
fn inverse_of_one_plus(x: i32) -> i32 {
    const START: i32 = 1_515_870_810;
    const SLOPE: i32 = -1_010_580_540;
    let sum = i64::from(x) + i64::from(i32::MAX);
    let half = ((sum + if sum >= 0 { 1 } else { -1 }) / 2) as i32;
    let mut result = START.wrapping_add(doubled_high_product(half, SLOPE));
    for _ in 0..3 {
        let rest = (1i32 << 29).wrapping_sub(doubled_high_product(half, result));
        let step = multiply_by_power(doubled_high_product(result, rest), 2);
        result = result.wrapping_add(step);
    }
    multiply_by_power(result, 1)
}

/// 1 / x of an x > 0 with `integer_bits` bits before the point: 31 fractional bits, and by how many bits x is
/// over 1.
pub fn reciprocal(x: i32, integer_bits: i32) -> (i32, i32) {
    let headroom = x.leading_zeros();
    let fraction = ((x as u32) << headroom).wrapping_sub(1 << 31) as i32;
    (inverse_of_one_plus(fraction), integer_bits - headroom as i32)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn multipliers_are_the_nearest() {
        assert_eq!(Multiplier::of(0.5), Multiplier { mantissa: 1 << 30, shift: 0 });
        assert_eq!(Multiplier::of(1.0), Multiplier { mantissa: 1 << 30, shift: 1 });
        assert_eq!(Multiplier::of(0.75), Multiplier { mantissa: 3 << 29, shift: 0 });
        assert_eq!(Multiplier::of(1.0 - 2f64.powi(-40)), Multiplier::of(1.0));
        for zero in [0.0, 2f64.powi(-40), f64::NAN, f64::INFINITY, 1e-310] {
            assert_eq!(Multiplier::of(zero).apply(i32::MAX), 0, "{zero}");
        }
    }

    #[test]
    fn products_round_as_gemmlowp_s() {
        let half = Multiplier::of(0.5);
        let by_hand = [(1, 1), (-1, 0), (3, 2), (-3, -1), (4, 2), (0, 0), (i32::MAX, 1 << 30)];
        for (x, expected) in by_hand {
            assert_eq!(half.apply(x), expected, "{x}");
        }
        let quarter = Multiplier::of(0.25);
        for (x, expected) in [(1, 1), (2, 1), (-2, -1), (5, 2), (6, 2), (-6, -2)] {
            assert_eq!(quarter.apply(x), expected, "{x}");
        }
        assert_eq!(Multiplier::of(4.0).apply(-7), -28);
        assert_eq!(doubled_high_product(i32::MIN, i32::MIN), i32::MAX);
        assert_eq!(divide_by_power(-8, 31), 0);
    }

    #[test]
    fn wide_products_have_15_bits() {
        assert_eq!(Multiplier::of(2f64.powi(-20)).apply_wide(3 << 40), 3 << 20);
        assert_eq!(Multiplier::of(0.5).apply_wide(-3), -1);
        assert_eq!(Multiplier::of(0.5).apply_wide(3), 2);
    }

    #[test]
    fn exponentials_and_reciprocals_are_near_the_real_ones() {
        for i in 0..200 {
            let x = -f64::from(i) * 0.15;
            let fixed = (x * 2f64.powi(26)) as i32;
            let found = f64::from(exp_of_negative(fixed)) / 2f64.powi(31);
            assert!((found - x.exp()).abs() < 1e-6, "e^{x}: {found}");
            let x = 1.0 + f64::from(i) * 10.3;
            let (inverse, over) = reciprocal((x * 2f64.powi(19)) as i32, 12);
            let found = f64::from(inverse) / 2f64.powi(31 + over);
            assert!((found * x - 1.0).abs() < 1e-5, "1/{x}: {found}");
        }
    }
}
