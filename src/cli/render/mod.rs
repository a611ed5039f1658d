//! What people see: tables, sizes, progress bars.

mod bars;
mod table;

pub use bars::Bars;
pub use table::{Align, table};

use std::io::{self, Write};

/// Writes to stdout; a reader that went away (`| head`) is no error.
pub fn print_document(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// `162,412`.
pub fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `162,412 bytes`, or `4.7 MB` from a million on.
pub fn size(bytes: u64) -> String {
    match bytes {
        0..1_000_000 => format!("{} bytes", thousands(bytes)),
        _ if bytes < 1_000_000_000 => format!("{:.1} MB", bytes as f64 / 1e6),
        _ => format!("{:.2} GB", bytes as f64 / 1e9),
    }
}

/// A difference with as many digits as tell something.
pub fn difference(value: f64) -> String {
    match value {
        0.0 => "0".into(),
        v if (0.001..1e4).contains(&v) => format!("{v:.4}"),
        v => format!("{v:.2e}"),
    }
}

/// `21.4 µs`, `3.2 ms`.
pub fn microseconds(us: f64) -> String {
    match us {
        v if v < 1e3 => format!("{v:.1} µs"),
        v if v < 1e6 => format!("{:.2} ms", v / 1e3),
        v => format!("{:.2} s", v / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(size(162_412), "162,412 bytes");
        assert_eq!(size(4_700_000), "4.7 MB");
        assert_eq!(difference(0.0), "0");
        assert_eq!(difference(3.1e-7), "3.10e-7");
        assert_eq!(difference(0.0213), "0.0213");
        assert_eq!(microseconds(21.44), "21.4 µs");
        assert_eq!(microseconds(3210.0), "3.21 ms");
    }
}
