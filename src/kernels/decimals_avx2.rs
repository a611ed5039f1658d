//! Four decimal numbers at once with AVX2. Knows the text of four; `decimals.rs` reads lists.
//!
//! Commas are found 32 bytes at a time. Of each number the 16 bytes before its comma become digits, which are added up
//! in four steps (D. Lemire, "Number Parsing at a Gigabyte per Second", 2021). Nothing is decided number by number, as
//! lengths, points and signs cannot be predicted: what is wrong is gathered and looked at once.

use super::decimals::{POWERS, WHOLE_MOST};
use std::arch::x86_64::*;
use std::array;

/// So many bytes before the first number are read along with it.
const BEFORE: usize = 16;
/// Four commas are looked for in so many bytes.
const REACH: usize = 96;
/// The bytes that four numbers are read from.
const SPAN: usize = BEFORE + REACH + 8;
const LANE: usize = 16;
/// Where a lane has no point.
const NO_POINT: usize = 16;

/// Reads at most `most` numbers from `at` on, as long as the next four can be read at once; gives how many, and where the
/// next begins.
#[target_feature(enable = "avx2,bmi1")]
pub fn fours(bytes: &[u8], mut at: usize, most: usize, out: &mut Vec<f32>) -> (usize, usize) {
    let mut count = 0;
    while most - count >= 4
        && let Some(start) = at.checked_sub(BEFORE)
        && let Some(from) = bytes.get(start..)
        && let Some(span) = from.first_chunk()
        && span[BEFORE] != b' '
        && let Some((values, length)) = four(span)
    {
        out.extend_from_slice(&values);
        at += length;
        count += 4;
    }
    (count, at)
}

/// The four numbers that begin at `BEFORE`, each followed by a comma and perhaps a space, and how many bytes that is.
/// `None` unless all four are a sign or none, then up to 16 bytes of digits with a point or none, or all four a sign or
/// none, a digit, a point, 15 to 18 digits; and where the nearest float is not sure.
#[inline]
#[target_feature(enable = "avx2,bmi1")]
fn four(span: &[u8; SPAN]) -> Option<([f32; 4], usize)> {
    let near = commas_of(span, 0) | commas_of(span, 1) << 32;
    let rest = without_first(without_first(near));
    let mut ends = [
        near.trailing_zeros(),
        without_first(near).trailing_zeros(),
        rest.trailing_zeros(),
        without_first(rest).trailing_zeros(),
    ]
    .map(|end| end as usize);
    let length = |i: usize| ends[i].wrapping_sub(if i == 0 { 0 } else { ends[i - 1] + 1 });
    let lengths: [usize; 4] = array::from_fn(length);
    let fits = lengths.iter().fold(ends[3] < 64, |fits, length| fits & (*length <= LANE));
    let values = if fits {
        short(span, ends, lengths)?
    } else {
        let rest = rest >> 32 | commas_of(span, 2) << 32;
        ends[2] = 32 + rest.trailing_zeros() as usize;
        ends[3] = 32 + without_first(rest).trailing_zeros() as usize;
        if ends[3] == REACH {
            return None;
        }
        long(span, ends)?
    };
    let length = ends[3] + 1;
    Some((values, length + usize::from(span[BEFORE + length] == b' ')))
}

fn without_first(bits: u64) -> u64 {
    bits & bits.wrapping_sub(1)
}

/// A bit for each comma in one part of 32 bytes.
#[inline]
#[target_feature(enable = "avx2")]
fn commas_of(span: &[u8; SPAN], part: usize) -> u64 {
    let start = BEFORE + 32 * part;
    let bytes = pair(load(span, start), load(span, start + LANE));
    let commas = _mm256_cmpeq_epi8(bytes, _mm256_set1_epi8(b',' as i8));
    u64::from(_mm256_movemask_epi8(commas) as u32)
}

/// Numbers of at most 16 bytes, the space before them counted.
#[inline]
#[target_feature(enable = "avx2,bmi1")]
fn short(span: &[u8; SPAN], ends: [usize; 4], lengths: [usize; 4]) -> Option<[f32; 4]> {
    // a number's last byte is the one before its comma
    let text = ends.map(|end| load(span, end));
    let own = lengths.map(|length| own(length));
    let first = signed(pair(text[0], text[1]), pair(own[0], own[1]));
    let second = signed(pair(text[2], text[3]), pair(own[2], own[3]));
    let mantissas = sums(first.digits, second.digits);
    let [a, b] = first.points;
    let [c, d] = second.points;
    let limits = _mm256_setr_epi64x(LIMITS[a], LIMITS[c], LIMITS[b], LIMITS[d]);
    let too_large = _mm256_cmpgt_epi64(mantissas, limits);
    let wrong = _mm256_or_si256(_mm256_or_si256(first.wrong, second.wrong), too_large);
    if _mm256_testz_si256(wrong, wrong) == 0 {
        return None;
    }
    let power = |point: usize| POWERS[15_usize.saturating_sub(point)];
    let powers = _mm256_setr_pd(power(a), power(c), power(b), power(d));
    // below 10^15, or the limit: no more than the 52 bits of a double with this exponent
    let exponent = _mm256_set1_epi64x(0x4330_0000_0000_0000);
    let whole = _mm256_castsi256_pd(_mm256_or_si256(mantissas, exponent));
    let whole = _mm256_sub_pd(whole, _mm256_castsi256_pd(exponent));
    let values = _mm256_div_pd(whole, powers);
    let minus = u64::from(first.minus) | u64::from(second.minus) << 32;
    let mut signs = _mm_setzero_si128();
    if minus != 0 {
        // of whole numbers zero has no sign: those are the scanner's
        if [a, b, c, d].contains(&NO_POINT) {
            return None;
        }
        let plus = _mm_cmpeq_epi16(_mm_set_epi64x(0, minus as i64), _mm_setzero_si128());
        signs = _mm_andnot_si128(_mm_cvtepi16_epi32(plus), _mm_set1_epi32(i32::MIN));
    }
    Some(floats(values, signs))
}

/// Two numbers of at most 16 bytes.
struct Signed {
    digits: __m256i,
    /// Where their points are.
    points: [usize; 2],
    /// The bits of one half or the other where there is a minus.
    minus: u32,
    /// Not zero where they are no such numbers.
    wrong: __m256i,
}

/// Reads two numbers, of which the bytes in `own` are theirs, the last of each half always.
#[inline]
#[target_feature(enable = "avx2,bmi1")]
fn signed(text: __m256i, own: __m256i) -> Signed {
    let is = |byte: u8| _mm256_cmpeq_epi8(text, _mm256_set1_epi8(byte as i8));
    let next = |bytes| _mm256_bslli_epi128(bytes, 1);
    let first_of = |own| _mm256_andnot_si256(next(own), own);
    let own = _mm256_andnot_si256(_mm256_and_si256(is(b' '), first_of(own)), own);
    let minus = _mm256_and_si256(is(b'-'), first_of(own));
    let own = _mm256_andnot_si256(minus, own);
    let (first, last) = (first_of(own), _mm256_setr_epi64x(0, 0xff << 56, 0, 0xff << 56));
    let points = _mm256_and_si256(is(b'.'), own);
    let none = _mm256_andnot_si256(own, last);
    let at_the_edge = _mm256_and_si256(points, _mm256_or_si256(first, last));
    let leading_zero = _mm256_andnot_si256(points, next(_mm256_and_si256(is(b'0'), first)));
    let wrong = _mm256_or_si256(_mm256_or_si256(none, at_the_edge), leading_zero);
    let mask = _mm256_movemask_epi8(points) as u32;
    // of two points the second stays, which is no digit
    let points = [mask, mask >> 16].map(|mask| (mask | 1 << NO_POINT).trailing_zeros() as usize);
    let without = pair(load(&WITHOUT[points[0]], 0), load(&WITHOUT[points[1]], 0));
    let digits = _mm256_and_si256(_mm256_sub_epi8(text, _mm256_set1_epi8(b'0' as i8)), own);
    let digits = _mm256_shuffle_epi8(digits, without);
    let wrong = _mm256_or_si256(wrong, above_nine(digits));
    Signed { digits, points, minus: _mm256_movemask_epi8(minus) as u32, wrong }
}

/// Numbers of one digit, a point and 15 to 18 digits.
#[inline]
#[target_feature(enable = "avx2,bmi1")]
fn long(span: &[u8; SPAN], ends: [usize; 4]) -> Option<[f32; 4]> {
    let mut start = BEFORE;
    let mut is_long = true;
    let [mut places, mut signs, mut high] = [[0; 4], [0; 4], [0; 4]];
    for i in 0..4 {
        start += usize::from(span[start] == b' ');
        let minus = span[start] == b'-';
        signs[i] = usize::from(minus) << 31;
        start += usize::from(minus);
        let &[whole, point, tenths, hundredths] = span[start..].first_chunk()?;
        places[i] = (BEFORE + ends[i]).wrapping_sub(start + 2);
        let more = places[i].wrapping_sub(15);
        let [whole, tenths, hundredths] =
            [whole, tenths, hundredths].map(|byte| usize::from(byte.wrapping_sub(b'0')));
        is_long &= (more <= 3) & (whole < 10) & (point == b'.');
        is_long &= (tenths < 10) | (more < 2);
        is_long &= (hundredths < 10) | (more < 3);
        let [of_whole, of_tenths, of_hundredths] = HIGH[more & 3];
        high[i] = whole
            .wrapping_mul(of_whole)
            .wrapping_add(tenths.wrapping_mul(of_tenths))
            .wrapping_add(hundredths.wrapping_mul(of_hundredths));
        start = BEFORE + ends[i] + 1;
    }
    if !is_long {
        return None;
    }
    let text = ends.map(|end| _mm_sub_epi8(load(span, end), _mm_set1_epi8(b'0' as i8)));
    let own = places.map(|places| own(places.min(LANE)));
    let first = _mm256_and_si256(pair(text[0], text[1]), pair(own[0], own[1]));
    let second = _mm256_and_si256(pair(text[2], text[3]), pair(own[2], own[3]));
    let wrong = _mm256_or_si256(above_nine(first), above_nine(second));
    if _mm256_testz_si256(wrong, wrong) == 0 {
        return None;
    }
    let [a, b, c, d] = high.map(|high| high as i64);
    let mantissas = _mm256_add_epi64(sums(first, second), _mm256_setr_epi64x(a, c, b, d));
    let [a, b, c, d] = places.map(|places| POWERS[places]);
    let values = _mm256_div_pd(nearest(mantissas), _mm256_setr_pd(a, c, b, d));
    // as `quotient` in decimals.rs: near the middle of two floats the nearest is not sure
    let low = _mm256_and_si256(_mm256_castpd_si256(values), _mm256_set1_epi64x((1 << 29) - 1));
    let off = _mm256_sub_epi64(low, _mm256_set1_epi64x((1 << 28) - 4));
    let at_least = _mm256_cmpgt_epi64(off, _mm256_set1_epi64x(-1));
    let unsure = _mm256_andnot_si256(_mm256_cmpgt_epi64(off, _mm256_set1_epi64x(8)), at_least);
    if _mm256_testz_si256(unsure, unsure) == 0 {
        return None;
    }
    let [a, b, c, d] = signs.map(|sign| sign as i32);
    Some(floats(values, _mm_setr_epi32(a, b, c, d)))
}

/// Not zero where a byte is above 9.
#[inline]
#[target_feature(enable = "avx2")]
fn above_nine(digits: __m256i) -> __m256i {
    _mm256_subs_epu8(digits, _mm256_set1_epi8(9))
}

/// The numbers that the 16 digits in each half are: those of the first halves, then those of the second.
#[inline]
#[target_feature(enable = "avx2")]
fn sums(first: __m256i, second: __m256i) -> __m256i {
    let fours = |digits| {
        let pairs = _mm256_maddubs_epi16(digits, _mm256_set1_epi16(0x010a));
        _mm256_madd_epi16(pairs, _mm256_set1_epi32(0x0001_0064))
    };
    let fours = _mm256_packus_epi32(fours(first), fours(second));
    let eights = _mm256_madd_epi16(fours, _mm256_set1_epi32(0x0001_2710));
    let high = _mm256_mul_epu32(eights, _mm256_set1_epi64x(100_000_000));
    _mm256_add_epi64(high, _mm256_srli_epi64(eights, 32))
}

/// The doubles nearest to whole numbers without sign.
#[inline]
#[target_feature(enable = "avx2")]
fn nearest(numbers: __m256i) -> __m256d {
    // 2^52 and 2^84 with the lower and the higher half as their last bits: both exact, their sum is rounded once
    let low = _mm256_blend_epi32(numbers, _mm256_set1_epi64x(0x4330_0000_0000_0000), 0b1010_1010);
    let exponent = _mm256_set1_epi64x(0x4530_0000_0000_0000);
    let high = _mm256_castsi256_pd(_mm256_or_si256(_mm256_srli_epi64(numbers, 32), exponent));
    let both = _mm256_castsi256_pd(_mm256_set1_epi64x(0x4530_0000_0010_0000));
    _mm256_add_pd(_mm256_sub_pd(high, both), _mm256_castsi256_pd(low))
}

/// In the order of the text: `sums` has the third before the second.
#[inline]
#[target_feature(enable = "avx2")]
fn floats(values: __m256d, signs: __m128i) -> [f32; 4] {
    let floats = _mm256_cvtpd_ps(values);
    let floats = _mm_shuffle_ps(floats, floats, 0b11_01_10_00);
    let floats = _mm_xor_ps(floats, _mm_castsi128_ps(signs));
    let mut values = [0.0; 4];
    // SAFETY: four floats are written to four.
    unsafe { _mm_storeu_ps(values.as_mut_ptr(), floats) };
    values
}

#[inline]
#[target_feature(enable = "avx2")]
fn pair(first: __m128i, second: __m128i) -> __m256i {
    _mm256_set_m128i(second, first)
}

#[inline]
#[target_feature(enable = "avx2")]
fn load<const N: usize>(bytes: &[u8; N], at: usize) -> __m128i {
    let lane: &[u8] = &bytes[at..at + LANE];
    // SAFETY: `lane` has 16 bytes.
    unsafe { _mm_loadu_si128(lane.as_ptr().cast()) }
}

/// The last bytes of a lane, at most 16.
#[inline]
#[target_feature(enable = "avx2")]
fn own(count: usize) -> __m128i {
    const EDGE: [u8; 3 * LANE] = {
        let mut bytes = [0; 3 * LANE];
        let mut at = LANE;
        while at < bytes.len() {
            bytes[at] = 0xff;
            at += 1;
        }
        bytes
    };
    load(&EDGE, count % (2 * LANE))
}

/// Takes the byte of the point away: those before it move up.
const WITHOUT: [[u8; LANE]; NO_POINT + 1] = {
    let mut orders = [[0; LANE]; NO_POINT + 1];
    let mut point = 0;
    while point <= NO_POINT {
        let mut at = 0;
        while at < LANE {
            let moves = point < NO_POINT && at <= point;
            orders[point][at] = match (moves, at) {
                (true, 0) => 0x80,
                (true, _) => at as u8 - 1,
                (false, _) => at as u8,
            };
            at += 1;
        }
        point += 1;
    }
    orders
};

/// The largest mantissa, by where its point is.
const LIMITS: [i64; NO_POINT + 1] = {
    let mut limits = [i64::MAX; NO_POINT + 1];
    limits[NO_POINT] = WHOLE_MOST as i64;
    limits
};

/// What the whole, the tenths and the hundredths before the last 16 digits are worth, by the places above 15.
const HIGH: [[usize; 3]; 4] = {
    const UNIT: usize = 1_000_000_000_000_000;
    [
        [UNIT, 0, 0],
        [10 * UNIT, 0, 0],
        [100 * UNIT, 10 * UNIT, 0],
        [1000 * UNIT, 100 * UNIT, 10 * UNIT],
    ]
};
