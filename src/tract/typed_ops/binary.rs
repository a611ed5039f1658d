//! Elementwise ops of two operands that tract lacks, or gets wrong.

use tract_core::internal::tract_linalg;

use super::*;

// `math::Rem` counts as commutative: declutter swaps its operands where the dividend is the one to be
// broadcast
tract_core::bin_to_super_type!(remainder, Remainder,
    eval_in_a: |_: &mut Tensor, b: &Tensor| refuse_zeros(b).map(|()| false),
    is_commutative: false,
    out_of_place: |_: &mut Tensor, _: &Tensor, b: &Tensor| refuse_zeros(b).map(|()| false),
    [i8, i16, i32, i64, u8, u16, u32, u64] => |c, a, b| *c = a.wrapping_rem(*b),
    [f16, f32, f64] => |c, a, b| *c = *a % *b);

/// Integers that something is divided by are not 0; LiteRT refuses that too.
fn refuse_zeros(divisors: &Tensor) -> TractResult<()> {
    if divisors.datum_type().is_integer() {
        let numbers = divisors.cast_to::<i64>()?;
        let numbers = numbers.try_as_plain_ram()?.as_slice::<i64>()?;
        ensure!(!numbers.contains(&0), "a remainder of the division by 0");
    }
    Ok(())
}

// of integers; declutter makes `math::Square`, which takes none, of `math::Mul` and `math::Pow`
tract_core::bin_to_super_type!(multiply, Multiply,
    [i8, i16, i32, i64, u8, u16, u32, u64] => |c, a, b| *c = a.wrapping_mul(*b));

tract_core::bin_to_super_type!(power, Power,
    is_commutative: false,
    [i32, i64] => |c, a, b| *c = a.wrapping_pow(*b as u32));

tract_core::bin_to_super_type!(atan2, Atan2,
    is_commutative: false,
    [f32] => |c, a, b| *c = a.atan2(*b));

// of a shift by the width or more nothing is left, as in numpy; `math::ShiftLeft` has no answer
tract_core::bin_to_super_type!(shift_left, ShiftLeft,
is_commutative: false,
[u8, u16, u32, u64] => |c, a, b| {
    *c = u32::try_from(*b).ok().and_then(|n| a.checked_shl(n)).unwrap_or(0)
});

tract_core::bin_to_super_type!(shift_right, ShiftRight,
is_commutative: false,
[u8, u16, u32, u64] => |c, a, b| {
    *c = u32::try_from(*b).ok().and_then(|n| a.checked_shr(n)).unwrap_or(0)
});

// as LiteRT's RIGHT_SHIFT: by no less than nothing and no more than the width less one
tract_core::bin_to_super_type!(shift_right_within, ShiftRightWithin,
is_commutative: false,
[i8, i16, i32, u8, u16, u32] => |c, a, b| {
    let last = size_of_val(a) as i64 * 8 - 1;
    *c = *a >> (*b as i64).clamp(0, last)
});

#[cfg(test)]
mod tests {
    use super::*;
    use tract_core::ops::binary::BinMiniOp;

    fn check(op: impl BinMiniOp, a: Tensor, b: Tensor, expected: Tensor) {
        let got = op.eval(a.clone().into_tvalue(), b.clone().into_tvalue(), a.datum_type());
        assert_eq!(got.unwrap(), expected, "{} of {a:?} and {b:?}", op.name());
    }

    #[test]
    fn shifts_past_the_width() {
        let amounts = || tensor1(&[0u8, 1, 7, 8, 255]);
        check(ShiftLeft, tensor1(&[0x81u8; 5]), amounts(), tensor1(&[0x81u8, 2, 0x80, 0, 0]));
        check(ShiftRight, tensor1(&[0x81u8; 5]), amounts(), tensor1(&[0x81u8, 0x40, 1, 0, 0]));
        let amounts = tensor1(&[-1i32, 0, 31, 32, 100]);
        check(ShiftRightWithin, tensor1(&[-8i32; 5]), amounts, tensor1(&[-8i32, -8, -1, -1, -1]));
    }

    /// The values are numpy's.
    #[test]
    fn a_remainder_keeps_its_operands_in_their_places() {
        let (a, b) = (tensor1(&[7i32]), tensor1(&[2i32, 4, -5]));
        check(Remainder, a, b, tensor1(&[1i32, 3, 2]));
        assert!(!Remainder.is_commutative());
    }

    #[test]
    fn a_remainder_by_zero_is_an_error() {
        for (a, b) in [
            (tensor1(&[7i32, 8]), tensor1(&[2i32, 0])),
            (tensor1(&[7i32]), tensor1(&[2i32, 0])),
            (tensor1(&[7u8, 1]), tensor1(&[0u8])),
        ] {
            let datum = a.datum_type();
            let error = Remainder.eval(a.into_tvalue(), b.into_tvalue(), datum).unwrap_err();
            assert!(error.to_string().contains("division by 0"), "{error}");
        }
        let by_zero = Remainder.eval(
            tensor1(&[7f32]).into_tvalue(),
            tensor1(&[0f32]).into_tvalue(),
            DatumType::F32,
        );
        assert!(by_zero.unwrap().cast_to_scalar::<f32>().unwrap().is_nan());
    }

    #[test]
    fn an_angle_in_every_quadrant() {
        let (y, x) = (tensor1(&[1f32, 1., -1., -1., 0.]), tensor1(&[1f32, -1., -1., 1., -1.]));
        let pi = std::f32::consts::PI;
        check(Atan2, y, x, tensor1(&[pi / 4., pi * 0.75, pi * -0.75, -pi / 4., pi]));
    }
}
