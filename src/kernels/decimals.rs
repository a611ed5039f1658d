//! Lists of decimal numbers as JSON has them → f32: most of what a predict body is. What is not plain is left to the
//! caller's scanner, which gives the same value or the error.

#[cfg(target_arch = "x86_64")]
use super::decimals_avx2;
use super::instruction_set::{InstructionSet, instruction_set};

/// Reads at most `most` numbers that are each followed by a comma, from the start of a list's element on; gives how
/// many, and where the element begins at which it stopped (white space may be before it). That is a number of another
/// form than most have, or one near the end of `bytes`. Each is the float nearest to the double nearest to the text.
pub fn read_decimals(bytes: &[u8], at: usize, most: usize, out: &mut Vec<f32>) -> (usize, usize) {
    read_on(instruction_set(), bytes, at, most, out)
}

fn read_on(
    set: InstructionSet,
    bytes: &[u8],
    mut at: usize,
    most: usize,
    out: &mut Vec<f32>,
) -> (usize, usize) {
    let mut count = 0;
    while count < most {
        let before = count;
        while count < most
            && let Some((value, length)) = tenths(bytes, at)
        {
            out.push(value);
            at += length;
            count += 1;
        }
        // a single number among many 0.0 is not worth trying
        if count == before {
            let (more, next) = fours(set, bytes, at, most - count, out);
            count += more;
            at = next;
        }
        // a number of another form, and back to those
        if count < most
            && let Some(window) = bytes.get(at..).and_then(|rest| rest.first_chunk::<WINDOW>())
            && let Some((value, length)) = below_ten(window).or_else(|| plain(window))
        {
            at = match (window[length], window[length + 1]) {
                (b',', b' ') => at + length + 2,
                (b',', _) => at + length + 1,
                _ => match next_element(bytes, at + length) {
                    Some(next) => next,
                    None => break,
                },
            };
            out.push(value);
            count += 1;
        }
        if count == before {
            break;
        }
    }
    (count, at)
}

/// As `read_decimals`, but only fours of numbers, as long as each of a four has the form that most have.
#[inline]
fn fours(
    set: InstructionSet,
    bytes: &[u8],
    at: usize,
    most: usize,
    out: &mut Vec<f32>,
) -> (usize, usize) {
    #[cfg(target_arch = "x86_64")]
    if set != InstructionSet::Portable && most >= 4 {
        // SAFETY: `available` found the features on this machine.
        return unsafe { decimals_avx2::fours(bytes, at, most, out) };
    }
    let _ = (set, bytes, most, out);
    (0, at)
}

/// What most bodies hold most of: a digit, a point, a digit, a comma (0.0 above all), perhaps a space; the value, and
/// where the next begins.
#[inline]
fn tenths(bytes: &[u8], at: usize) -> Option<(f32, usize)> {
    const FORM: u32 = u32::from_le_bytes(*b"0.0,");
    const NIBBLES: u32 = 0x000f_000f;
    let word = bytes.get(at..)?.first_chunk::<5>()?;
    let digits = u32::from_le_bytes([word[0], word[1], word[2], word[3]]) ^ FORM;
    let above_nine = digits.wrapping_add(0x0006_0006) | digits;
    if above_nine & !NIBBLES != 0 {
        return None;
    }
    let tenths = (digits & 15) * 10 + (digits >> 16);
    // a branch, so that the next number need not wait for this one to be looked at
    let length = if word[4] == b' ' { 5 } else { 4 };
    Some((tenths as f32 / 10.0, length))
}

/// What follows a comma, which white space may be before, and a space after.
fn next_element(bytes: &[u8], mut at: usize) -> Option<usize> {
    while matches!(bytes.get(at)?, b' ' | b'\n' | b'\r' | b'\t') {
        at += 1;
    }
    (bytes[at] == b',').then(|| at + 1 + usize::from(bytes.get(at + 1) == Some(&b' ')))
}

/// A number is looked for in so many bytes; those at the end of a document are the scanner's.
const WINDOW: usize = 40;
const MOST_DIGITS: usize = 19;
/// Whole numbers up to this are all floats.
pub(super) const WHOLE_MOST: u64 = (1 << 24) - 1;

/// A common form, and the length: one digit, a point, up to 18 digits, a comma.
#[inline]
fn below_ten(bytes: &[u8; WINDOW]) -> Option<(f32, usize)> {
    let whole = u64::from(bytes[0].wrapping_sub(b'0'));
    if whole > 9 || bytes[1] != b'.' {
        return None;
    }
    let (high, first) = leading_digits(bytes[2..].first_chunk()?);
    let (low, second) = leading_digits(bytes[10..].first_chunk()?);
    // the second eight follow the first only where those are all digits: without a branch, as the lengths of numbers
    // cannot be predicted
    let follows = first / 8;
    let (low, second) = (low * follows as u64, second * follows);
    let mut places = first + second;
    let mut mantissa = (whole * WHOLE_POWERS[first] + high) * WHOLE_POWERS[second] + low;
    if places == 16 {
        let digit = |places: usize| u64::from(bytes[2 + places].wrapping_sub(b'0'));
        while digit(places) < 10 && places < MOST_DIGITS - 1 {
            mantissa = mantissa * 10 + digit(places);
            places += 1;
        }
    }
    if places == 0 || bytes[2 + places] != b',' {
        return None;
    }
    Some((quotient(mantissa, places)?, 2 + places))
}

/// A number without an exponent, of at most 19 digits, and its length.
#[inline(never)]
fn plain(bytes: &[u8; WINDOW]) -> Option<(f32, usize)> {
    let negative = bytes[0] == b'-';
    let start = usize::from(negative);
    let digit = |at: usize| u64::from(bytes[at].wrapping_sub(b'0'));
    let (mut at, mut mantissa) = (start, 0);
    while digit(at) < 10 && at - start < MOST_DIGITS {
        mantissa = mantissa * 10 + digit(at);
        at += 1;
    }
    let whole = at - start;
    if whole == 0 || (whole > 1 && bytes[start] == b'0') {
        return None;
    }
    if bytes[at] != b'.' {
        let is_plain = mantissa <= WHOLE_MOST && !is_more(bytes[at]);
        // a whole number has no negative zero
        let value = if negative && mantissa > 0 { -(mantissa as f32) } else { mantissa as f32 };
        return is_plain.then_some((value, at));
    }
    let digits = if mantissa == 0 { 0 } else { whole };
    at += 1;
    let point = at;
    while digit(at) < 10 && digits + at - point < MOST_DIGITS {
        mantissa = mantissa * 10 + digit(at);
        at += 1;
    }
    if at == point || is_more(bytes[at]) {
        return None;
    }
    let value = quotient(mantissa, at - point)?;
    Some((if negative { -value } else { value }, at))
}

/// The float nearest to the double nearest to `mantissa` / 10^`places`, where that is sure.
#[inline]
fn quotient(mantissa: u64, places: usize) -> Option<f32> {
    const EXACT: u64 = 1 << 53;
    const HALF: u64 = 1 << 28;
    let value = mantissa as f64 / POWERS[places];
    // both of them may be rounded, and the quotient be off by two units in its last place: that does not change the
    // float, but for near the middle of two
    if mantissa >= EXACT && (value.to_bits() & (2 * HALF - 1)).abs_diff(HALF) <= 4 {
        return None;
    }
    Some(value as f32)
}

/// Whether a number goes on in a way that is not plain.
#[inline]
fn is_more(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'e' | b'E' | b'.')
}

/// The number that the digits at the start of eight bytes are, and how many there are (D. Lemire, "Number Parsing at a
/// Gigabyte per Second", 2021).
#[inline]
fn leading_digits(bytes: &[u8; 8]) -> (u64, usize) {
    const PAIRS: u64 = 0x0000_00ff_0000_00ff;
    let mut word = u64::from_le_bytes(*bytes) ^ 0x3030_3030_3030_3030;
    // the first byte above 9 sets its highest bit; those after it do not matter
    let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
    let count = (others.trailing_zeros() / 8) as usize;
    // the digits become the last of eight, after zeros; a shift by 64 bits is made in two
    let half = 32 - 4 * count;
    word = word << half << half;
    word = word.wrapping_mul(10).wrapping_add(word >> 8);
    let high = (word & PAIRS).wrapping_mul(0x000f_4240_0000_0064);
    let low = (word >> 16 & PAIRS).wrapping_mul(0x0000_2710_0000_0001);
    (high.wrapping_add(low) >> 32, count)
}

const WHOLE_POWERS: [u64; 9] =
    [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

pub(super) const POWERS: [f64; 20] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19,
];

#[cfg(test)]
mod tests {
    use super::*;

    /// The number alone, and among others of either length: each variant gives the same.
    fn read(text: &str) -> Option<f32> {
        // the last bytes of a document are the scanner's
        let list = format!("{text} ,\n1]{}", " ".repeat(WINDOW));
        let mut values = vec![];
        let (count, at) = read_on(InstructionSet::Portable, list.as_bytes(), 0, 1, &mut values);
        assert_eq!(at, if count == 1 { text.len() + 2 } else { 0 }, "{text}");
        assert_eq!(count, values.len());
        let value = values.first().copied();
        for (neighbour, expected) in [("-7.25", -7.25), ("0.10000000149011612", 0.1f32)] {
            for (place, comma) in [(0, ","), (1, ", "), (2, ","), (3, ", ")] {
                let mut numbers = [neighbour; 5];
                numbers[place] = text;
                let before = "12.5,[9-.0, 9.99,";
                let list = [before, &numbers.join(comma), ",1", &" ".repeat(200)].concat();
                let mut expected = vec![expected; 5];
                expected[place] = value.unwrap_or(0.0);
                expected.truncate(if value.is_none() { place } else { 5 });
                let end = numbers[..expected.len()].iter().map(|number| number.len() + comma.len());
                let end = before.len() + end.sum::<usize>()
                    - if value.is_none() { 0 } else { comma.len() - 1 };
                for set in InstructionSet::available() {
                    let mut values = vec![];
                    let (count, at) = read_on(set, list.as_bytes(), before.len(), 5, &mut values);
                    assert_eq!((count, at), (expected.len(), end), "{set:?}: {list}");
                    let bits =
                        |values: &[f32]| values.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&values), bits(&expected), "{set:?}: {list}");
                }
            }
        }
        value
    }

    #[test]
    fn what_is_plain() {
        for (text, expected) in [
            ("0", 0.0),
            ("-0", 0.0),
            ("-0.0", -0.0),
            ("7", 7.0),
            ("-255", -255.0),
            ("16777215", 16_777_215.0),
            ("0.5", 0.5),
            ("0.10000000149011612", 0.1),
            ("12345678.12345678", 12_345_678.0),
            ("-3.25", -3.25),
            ("0.000000000000000001", 1e-18),
            ("0.9999999999999999999", 1.0),
        ] {
            let value = read(text).unwrap_or_else(|| panic!("{text}"));
            assert_eq!(value.to_bits(), f32::to_bits(expected), "{text}");
        }
    }

    #[test]
    fn one_digit_on_either_side_of_the_point() {
        for tenths in 0..100 {
            let text = format!("{}.{}", tenths / 10, tenths % 10);
            for (space, before) in [("", ""), (" ", ""), (" ", "0.25, "), ("", "12,")] {
                let list = format!("{before}{text},{space}{text},{space}{}", " ".repeat(WINDOW));
                let mut values = vec![];
                let count = 2 + usize::from(!before.is_empty());
                assert_eq!(read_decimals(list.as_bytes(), 0, 9, &mut values).0, count, "{list}");
                let expected = text.parse::<f32>().unwrap().to_bits();
                assert_eq!(values[count - 1].to_bits(), expected, "{list}");
                assert_eq!(values[count - 2].to_bits(), expected, "{list}");
            }
        }
        // every other byte in every place: a neighbour of the digits, or one that looks like them in four bits
        for place in 0..4 {
            for byte in 0..=u8::MAX {
                let mut list = *b"0.5, 0.5, ";
                list[place] = byte;
                let plain = match place {
                    0 | 2 => byte.is_ascii_digit(),
                    place => byte == b"0.5,"[place],
                };
                let mut values = vec![];
                let (count, _) = read_decimals(&list, 0, 9, &mut values);
                assert_eq!(count, if plain { 2 } else { 0 }, "{list:?}");
            }
        }
    }

    #[test]
    fn what_is_not() {
        for text in [
            "",
            "-",
            "01",
            "-01.5",
            "00",
            ".5",
            "1.",
            "1.x",
            "1e5",
            "1.5e5",
            "1.5E-3",
            "16777216",
            "0.1.2",
            "NaN",
            "Infinity",
            "1.00000000000000000001",
            "12345678901234567890",
            "1 2",
            "1;",
            "+1",
            "0x10",
            "1.5\u{00e9}",
            // halfway between two floats
            "16777217.00000000000",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
        let mut values = vec![];
        let list = [&b"1.5, 2.5, 3.5]"[..], &[b' '; WINDOW]].concat();
        assert_eq!(read_decimals(&list, 0, 9, &mut values), (2, 10));
        assert_eq!(values, [1.5, 2.5]);
        assert_eq!(read_decimals(&list, 0, 1, &mut values), (1, 5));
        assert_eq!(read_decimals(b"1.5,", 0, 9, &mut values), (0, 0));
        assert_eq!(read_decimals(b"1,", 0, 9, &mut values), (0, 0));
        assert_eq!(read_decimals(b"", 0, 9, &mut values), (0, 0));
    }

    #[test]
    fn any_byte_in_any_place() {
        for numbers in [
            "0.5,-1.25, 10.0625,255,7.0,0,-0.0,",
            "0.1234567890123456,16777215, -1.5,-3,",
            "0.10000000149011612, -0.0123456789012345678,9.999999999999999,1.0000000596046448,",
            // the fourth comma is the first beyond 64 bytes
            "0.12345678901234,1.12345678901234,2.12345678901234,3.12345678901234,",
            "0.100000000000000,0.5,2.000000059604644775,-1.234567890123456, 0.01,1234567.1234567,",
        ] {
            let list = [&"9".repeat(16), numbers, &" ".repeat(200)].concat().into_bytes();
            for place in 16..16 + numbers.len() {
                for byte in 0..=u8::MAX {
                    let mut list = list.clone();
                    list[place] = byte;
                    let [first, others @ ..] = &InstructionSet::available()[..] else { panic!() };
                    let read = |set| {
                        let mut values = vec![];
                        let end = read_on(set, &list, 16, 9, &mut values);
                        (end, values.iter().map(|x| x.to_bits()).collect::<Vec<_>>())
                    };
                    let expected = read(*first);
                    for set in others {
                        let text = String::from_utf8_lossy(&list[16..]);
                        assert_eq!(read(*set), expected, "{set:?}: {text}");
                    }
                }
            }
        }
    }

    #[test]
    fn nearest_floats() {
        let mut state = 1u64;
        let mut next = || {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            state >> 16
        };
        let mut left = 0;
        for _ in 0..30_000 {
            let (whole, places) = (next() % 3, (next() % 19) as usize + 1);
            let digits: String =
                (0..places).map(|_| char::from(b'0' + (next() % 10) as u8)).collect();
            let float = f32::from_bits((next() % (1 << 30)) as u32);
            // midpoints of floats and their neighbours are where rounding goes wrong
            let middle = f64::midpoint(float.into(), float.next_up().into());
            for text in [
                format!("{whole}.{digits}"),
                format!("{float}"),
                format!("{middle}"),
                format!("{middle:.17}"),
            ] {
                match read(&text) {
                    Some(value) => {
                        let expected = text.parse::<f64>().unwrap() as f32;
                        assert_eq!(value.to_bits(), expected.to_bits(), "{text}");
                    }
                    None => left += 1,
                }
            }
        }
        assert!(left > 300, "the cases that are left to the scanner do not come up: {left}");
    }
}
