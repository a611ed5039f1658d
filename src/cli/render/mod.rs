//! What people see: tables, sizes, progress bars.

mod bars;
mod plot;
mod table;

pub use bars::Bars;
pub use plot::{LossPlot, PlotFormat};
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

/// A name's end, which tells more than its beginning.
pub fn elided(name: &str) -> String {
    const LONGEST: usize = 40;
    match name.chars().count() {
        count if count > LONGEST => {
            format!("…{}", name.chars().skip(count - LONGEST + 1).collect::<String>())
        }
        _ => name.to_string(),
    }
}

/// Lines that are too long to be read, as names of files nobody vouches for can make them, without their middle.
pub fn shortened_lines(text: &str) -> String {
    const LONGEST: usize = 1_000;
    let shortened = text.split('\n').map(|line| match line.char_indices().nth(LONGEST) {
        None => line.to_string(),
        Some(_) => {
            let beginning: String = line.chars().take(LONGEST / 2).collect();
            let end: Vec<char> = line.chars().rev().take(LONGEST / 4).collect();
            format!("{beginning} … {}", end.into_iter().rev().collect::<String>())
        }
    });
    shortened.collect::<Vec<_>>().join("\n")
}

/// `3.86 G`, `349.5 M`, `78,400`.
pub fn short_count(count: u64) -> String {
    match count {
        0..1_000_000 => thousands(count),
        _ if count < 1_000_000_000 => format!("{:.1} M", count as f64 / 1e6),
        _ => format!("{:.2} G", count as f64 / 1e9),
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
        assert_eq!(short_count(349_540_000), "349.5 M");
        assert_eq!(short_count(3_858_000_000), "3.86 G");
        let long = format!("a{}z\nb", "é".repeat(2_000));
        let short = shortened_lines(&long);
        assert_eq!(short.chars().count(), 500 + 3 + 250 + 2);
        assert!(short.starts_with("aé") && short.ends_with("éz\nb"));
        assert_eq!(elided("short"), "short");
        assert_eq!(elided(&"é".repeat(50)), format!("…{}", "é".repeat(39)));
        assert_eq!(difference(0.0), "0");
        assert_eq!(difference(3.1e-7), "3.10e-7");
        assert_eq!(difference(0.0213), "0.0213");
        assert_eq!(microseconds(21.44), "21.4 µs");
        assert_eq!(microseconds(3210.0), "3.21 ms");
    }
}
