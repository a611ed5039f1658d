//! Conversions between number formats: bytes to `f32`, and `f32` to and from the bits of IEEE
//! binary16, rounded to nearest even as crate `half` does.

use super::instruction_set::multiversioned;

multiversioned! {
    /// out = byte / divisor, correctly rounded for normal quotients: pixels by 255 as NumPy does it.
    pub fn f32_from_u8_divided(bytes: &[u8], divisor: f32, out: &mut [f32])
        = divided_body, f32_from_u8_divided_on;
    /// out = byte * scale + offset, rounded once.
    pub fn f32_from_u8_scaled(bytes: &[u8], scale: f32, offset: f32, out: &mut [f32])
        = scaled_body, f32_from_u8_scaled_on;
    /// out = the binary16 nearest to each value; overflow becomes infinity, NaN stays NaN.
    pub fn f16_from_f32(values: &[f32], out: &mut [u16]) = f16_from_f32_body, f16_from_f32_on;
    /// out = each binary16, exactly.
    pub fn f32_from_f16(values: &[u16], out: &mut [f32]) = f32_from_f16_body, f32_from_f16_on;
}

#[inline(always)]
fn map<A: Copy, B>(from: &[A], out: &mut [B], function: impl Fn(A) -> B) {
    assert_eq!(from.len(), out.len(), "slices of different lengths");
    for (from, out) in from.iter().zip(out) {
        *out = function(*from);
    }
}

/// Division by way of the reciprocal and one correction (Markstein), cheaper than dividing.
#[inline(always)]
fn divided_body(bytes: &[u8], divisor: f32, out: &mut [f32]) {
    let reciprocal = 1.0 / divisor;
    map(bytes, out, |byte| {
        let x = f32::from(byte);
        let quotient = x * reciprocal;
        (-quotient).mul_add(divisor, x).mul_add(reciprocal, quotient)
    });
}

#[inline(always)]
fn scaled_body(bytes: &[u8], scale: f32, offset: f32, out: &mut [f32]) {
    map(bytes, out, |byte| f32::from(byte).mul_add(scale, offset));
}

#[inline(always)]
fn f16_from_f32_body(values: &[f32], out: &mut [u16]) {
    map(values, out, f16_bits);
}

#[inline(always)]
fn f32_from_f16_body(values: &[u16], out: &mut [f32]) {
    map(values, out, f16_value);
}

/// Subnormals are rounded by adding a value whose last place is theirs, normals by a carry into the
/// bits kept.
#[inline(always)]
fn f16_bits(value: f32) -> u16 {
    const SUBNORMAL: f32 = 0.5;
    let sign = value.to_bits() >> 16 & 0x8000;
    let magnitude = value.to_bits() & 0x7fff_ffff;
    let odd = magnitude >> 13 & 1;
    let normal = magnitude.wrapping_sub(112 << 23).wrapping_add(0xfff + odd) >> 13;
    let subnormal =
        (f32::from_bits(magnitude) + SUBNORMAL).to_bits().wrapping_sub(SUBNORMAL.to_bits());
    let nan = 0x7e00 | magnitude >> 13 & 0x3ff;
    let mut bits = if magnitude < 113 << 23 { subnormal } else { normal };
    bits = if magnitude >= 143 << 23 { 0x7c00 } else { bits };
    bits = if magnitude > 0x7f80_0000 { nan } else { bits };
    (sign | bits) as u16
}

#[inline(always)]
fn f16_value(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let sign = (bits & 0x8000) << 16;
    let magnitude = bits & 0x7fff;
    let normal = (magnitude << 13).wrapping_add(112 << 23);
    let subnormal = (magnitude as i32 as f32 * f32::from_bits(103 << 23)).to_bits();
    let special = 0x7f80_0000 | (magnitude & 0x3ff) << 13;
    let quiet = if magnitude > 0x7c00 { 1 << 22 } else { 0 };
    let mut value = if magnitude < 0x400 { subnormal } else { normal };
    value = if magnitude >= 0x7c00 { special | quiet } else { value };
    f32::from_bits(sign | value)
}

#[cfg(test)]
mod tests {
    use super::super::instruction_set::InstructionSet;
    use super::*;

    #[test]
    fn bytes_divide_as_division_does() {
        let bytes: Vec<u8> = (0..=255).collect();
        for divisor in [255.0f32, 127.5, 256.0, 1.0, 3.0, 0.7, 1e-3, -58.395, 1e6] {
            for set in InstructionSet::available() {
                let mut out = vec![0.0; 256];
                f32_from_u8_divided_on(set, &bytes, divisor, &mut out);
                for (byte, out) in bytes.iter().zip(&out) {
                    assert_eq!(*out, *byte as f32 / divisor, "{byte} / {divisor}, {set:?}");
                }
            }
        }
    }

    #[test]
    fn bytes_scale_with_one_rounding() {
        for len in [0, 1, 15, 16, 100] {
            let bytes: Vec<u8> = (0..len).map(|i| (i * 37) as u8).collect();
            for set in InstructionSet::available() {
                let mut out = vec![0.0; len];
                f32_from_u8_scaled_on(set, &bytes, 1.0 / 127.5, -1.0, &mut out);
                let expected = bytes.iter().map(|b| (*b as f32).mul_add(1.0 / 127.5, -1.0));
                assert!(out.iter().copied().eq(expected), "{set:?}");
            }
        }
    }

    #[test]
    fn every_f16_goes_to_f32_and_back() {
        let all: Vec<u16> = (0..=u16::MAX).collect();
        for set in InstructionSet::available() {
            let mut wide = vec![0.0; all.len()];
            f32_from_f16_on(set, &all, &mut wide);
            for (bits, value) in all.iter().zip(&wide) {
                let (exponent, fraction) = (i32::from(bits >> 10 & 31), f64::from(bits & 1023));
                let magnitude = match (exponent, fraction) {
                    (31, 0.0) => f64::INFINITY,
                    (31, _) => f64::NAN,
                    (0, _) => fraction * 2f64.powi(-24),
                    _ => (1.0 + fraction / 1024.0) * 2f64.powi(exponent - 15),
                };
                let expected = if bits >> 15 == 1 { -magnitude } else { magnitude };
                assert_eq!(value.is_sign_negative(), bits >> 15 == 1, "{bits:04x}");
                assert!(*value as f64 == expected || value.is_nan() && expected.is_nan());
            }
            let mut back = vec![0; all.len()];
            f16_from_f32_on(set, &wide, &mut back);
            for (bits, back) in all.iter().zip(back) {
                let nan = bits & 0x7fff > 0x7c00;
                let expected = if nan { bits | 0x200 } else { *bits };
                assert_eq!(back, expected, "{set:?}");
            }
        }
    }

    /// Between neighbours the nearer wins, half way the even one; `half::f16::from_f32` agrees.
    #[test]
    fn f32_rounds_to_the_nearest_f16() {
        for bits in 0u16..0x7c00 {
            let (low, high) =
                (f16_value(bits), if bits < 0x7bff { f16_value(bits + 1) } else { 65536.0 });
            let middle = (low + high) / 2.0;
            let even = bits + (bits & 1);
            let x = [low, middle.next_down(), middle, middle.next_up(), high, -middle];
            let expected = [bits, bits, even, bits + 1, bits + 1, even | 0x8000];
            for set in InstructionSet::available() {
                let mut got = [0; 6];
                f16_from_f32_on(set, &x, &mut got);
                assert_eq!(got, expected, "{x:?}, {set:?}");
            }
        }
    }

    #[test]
    fn f16_of_extremes() {
        let x = [1e-45, 2f32.powi(-25), 65519.9, 65520.0, f32::MAX, f32::NEG_INFINITY];
        let mut got = [0; 6];
        f16_from_f32(&x, &mut got);
        assert_eq!(got, [0, 0, 0x7bff, 0x7c00, 0x7c00, 0xfc00]);
        let signalling = f32::from_bits(0xff80_0001);
        f16_from_f32(&[signalling], &mut got[..1]);
        assert_eq!(got[0], 0xfe00);
    }

    #[test]
    #[should_panic(expected = "slices of different lengths")]
    fn different_lengths_panic() {
        f32_from_f16(&[0; 3], &mut [0.0; 2]);
    }
}
