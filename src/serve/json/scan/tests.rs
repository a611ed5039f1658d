//! Documents as data; the words are RapidJSON's.

use super::*;

#[test]
fn valid_documents() {
    for text in [
        "0",
        "-0",
        "1.5e-3",
        "[]",
        "{}",
        " [ 1 , {\"a\":[null,true,false]} ] ",
        "NaN",
        "-Infinity",
        "Inf",
        "-Inf",
        "\"\\u00e9\\ud83d\\ude00\\n\"",
        "\"é\"",
        "\u{feff}[1]",
        "1e308",
        "123456789012345678901234567890",
    ] {
        assert_eq!(check(text.as_bytes()), Ok(()), "{text}");
    }
}

#[test]
fn faults_have_rapidjson_s_words_and_offsets() {
    for (text, what, at) in [
        ("", "The document is empty.", 0),
        ("  ", "The document is empty.", 2),
        ("[1,]", "Invalid value.", 3),
        ("[x", "Invalid value.", 1),
        ("[nul]", "Invalid value.", 4),
        ("[1 2]", "Missing a comma or ] after an array element.", 3),
        ("[01]", "Missing a comma or ] after an array element.", 2),
        ("[1", "Missing a comma or ] after an array element.", 2),
        ("{1:2}", "Missing a name for object member.", 1),
        ("{\"a\" 2}", "Missing a colon after a name of object member.", 5),
        ("{\"a\":2 \"b\"}", "Missing a comma or } after an object member.", 7),
        ("[1] 2", "The document root must not be followed by other values.", 4),
        ("[1.]", "Miss fraction part in number.", 3),
        ("[1e]", "Miss exponent in number.", 3),
        ("[+1]", "Invalid value.", 1),
        ("[.5]", "Invalid value.", 1),
        ("[1e999]", "Number too big to be stored in double.", 1),
        ("\"a", "Missing a closing quotation mark in string.", 2),
        ("\"\\x\"", "Invalid escape character in string.", 1),
        ("\"\\u12g4\"", "Incorrect hex digit after \\u escape in string.", 1),
        ("\"\\ud800\"", "The surrogate pair in string is invalid.", 1),
        ("\"\\ud800\\u0041\"", "The surrogate pair in string is invalid.", 1),
        ("\"a\nb\"", "Invalid encoding in string.", 2),
    ] {
        assert_eq!(check(text.as_bytes()), Err(Fault::Syntax(what, at)), "{text}");
    }
    assert_eq!(check(b"\"a\xff\""), Err(Fault::Syntax("Invalid encoding in string.", 2)));
    let deep = "[".repeat(1_000_000);
    assert_eq!(check(deep.as_bytes()), Err(Fault::Syntax("Nested too deep.", 101)));
    let deep = "{\"a\":".repeat(1_000_000);
    assert!(check(deep.as_bytes()).is_err());
}

#[test]
fn numbers_are_what_the_standard_library_reads() {
    for text in [
        "0.1",
        "-0.0",
        "3.14159265358979",
        "1e22",
        "1e23",
        "1.7976931348623157e308",
        "5e-324",
        "1e-400",
        "0.000000000000000000000000000001",
        "9007199254740993.0",
        "123456789012345678.5",
        "0.30000000000000004",
        "100000000000000000000000",
        "1.0000000000000000000000000001",
        "0.00000000000000000000001234567890123",
        "8.5e-22",
        "4503599627370497.5",
        "12345678901234567890123e-30",
    ] {
        let Ok(number) = Scanner::new(text.as_bytes()).number() else { panic!("{text}") };
        let expected: f64 = text.parse().unwrap();
        assert_eq!(number.real().to_bits(), expected.to_bits(), "{text}");
    }
    for (text, expected) in [
        ("12", Number::Signed(12)),
        ("-12", Number::Signed(-12)),
        ("-9223372036854775808", Number::Signed(i64::MIN)),
        ("9223372036854775807", Number::Signed(i64::MAX)),
        ("9223372036854775808", Number::Unsigned(1 << 63)),
        ("18446744073709551615", Number::Unsigned(u64::MAX)),
        ("18446744073709551616", Number::Real(18446744073709551616.0)),
        ("1.0", Number::Real(1.0)),
        ("1e2", Number::Real(100.0)),
    ] {
        assert_eq!(Scanner::new(text.as_bytes()).number(), Ok(expected), "{text}");
    }
}

#[test]
fn no_bytes_panic() {
    let seeds: [&[u8]; 3] = [
        b"{\"instances\": [[1.5e3, -2], {\"b64\": \"\\u00e9\"}], \"x\": NaN}",
        b"\"\\ud83d\\ude00\"",
        b"-Infinity",
    ];
    for seed in seeds {
        for at in 0..seed.len() {
            let _ = check(&seed[..at]);
            for byte in 0..=255 {
                let mut changed = seed.to_vec();
                changed[at] = byte;
                let _ = check(&changed);
            }
        }
    }
}
