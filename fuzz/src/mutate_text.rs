//! Changes to requests and config files that keep most of their form: words are added, exchanged, repeated and taken out.

use crate::draw::Draw;

const WORDS: [&str; 84] = [
    "{",
    "}",
    "[",
    "]",
    ",",
    ":",
    "\"",
    "\\",
    "null",
    "true",
    "false",
    "NaN",
    "Infinity",
    "-Inf",
    "0",
    "-0",
    "1",
    "-1",
    "1.5",
    "1e2",
    "1e-400",
    "1e39",
    "16777217",
    "65504",
    "255",
    "256",
    "2147483648",
    "4294967295",
    "9223372036854775807",
    "-9223372036854775808",
    "9223372036854775808",
    "18446744073709551615",
    "18446744073709551616",
    "0.1",
    "1E+1",
    "1.",
    "\"x\"",
    "\"n\"",
    "\"flag\"",
    "\"b64\"",
    "\"instances\"",
    "\"inputs\"",
    "\"signature_name\"",
    "\"examples\"",
    "\"context\"",
    "\"name\"",
    "\"datatype\"",
    "\"shape\"",
    "\"data\"",
    "\"parameters\"",
    "\"binary_data_size\"",
    "\"outputs\"",
    "\"binary_data\"",
    "\"binary_data_output\"",
    "\"id\"",
    "\"FP32\"",
    "\"FP16\"",
    "\"INT32\"",
    "\"INT64\"",
    "\"BOOL\"",
    "\"UINT8\"",
    "\"BYTES\"",
    "\"y\"",
    "\"\\u00e9\"",
    "\"\\ud83d\\ude00\"",
    "[[]]",
    "[1,2]",
    "[0,2]",
    "{}",
    "model_config_list",
    "config",
    "name",
    "base_path",
    "model_version_policy",
    "latest",
    "specific",
    "version_labels",
    "value",
    "key",
    "max_batch_size",
    "allowed_batch_sizes",
    "prometheus_config",
    "<",
    "#",
];

/// Some change; with `other`, a piece of it is put in.
pub fn mutate(bytes: &[u8], other: Option<&[u8]>, draw: &mut Draw) -> Option<Vec<u8>> {
    let mut bytes = bytes.to_vec();
    if let Some(other) = other {
        let piece = other[range(other, draw)].to_vec();
        let at = range(&bytes, draw);
        bytes.splice(at, piece);
        return Some(bytes);
    }
    for _ in 0..=draw.below(4) {
        let at = range(&bytes, draw);
        match draw.below(8) {
            0 => drop(bytes.drain(at)),
            1 => {
                let piece = bytes[at.clone()].to_vec();
                bytes.splice(at.end..at.end, piece);
            }
            2 => {
                let number = draw.integer(7).to_string();
                bytes.splice(at, number.into_bytes());
            }
            3 => {
                if let Some(place) = draw.place(&bytes) {
                    bytes[place] = draw.integer(0) as u8;
                }
            }
            4 => drop(bytes.splice(at.start..at.start, draw.pick(&WORDS).bytes())),
            _ => drop(bytes.splice(at, draw.pick(&WORDS).bytes())),
        }
    }
    Some(bytes)
}

fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"_.+-\"".contains(&byte)
}

/// Mostly one word or sign, now and then more.
fn range(bytes: &[u8], draw: &mut Draw) -> std::ops::Range<usize> {
    let Some(start) = draw.place(bytes) else { return 0..0 };
    if draw.one_in(6) {
        return start..(start + 1 + draw.below(24)).min(bytes.len());
    }
    if !is_word(bytes[start]) {
        return start..start + 1;
    }
    let before = bytes[..start].iter().rposition(|&b| !is_word(b)).map_or(0, |at| at + 1);
    let after = bytes[start..].iter().position(|&b| !is_word(b));
    before..after.map_or(bytes.len(), |length| start + length)
}
