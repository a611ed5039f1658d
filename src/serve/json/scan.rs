//! Reading JSON (RFC 8259, and NaN, Inf, Infinity as TensorFlow Serving takes them) straight from its bytes, without
//! a tree. Every error gives the offset; nesting is bounded.

use crate::kernels::read_decimals;
use std::borrow::Cow;

/// Lists and objects may be nested this deep.
pub const MOST_DEPTH: usize = 100;

/// What is wrong with a document.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// It is not JSON from this offset on.
    Syntax(&'static str, usize),
    /// It is JSON, but not what is wanted.
    Meaning(String),
}

pub type Scan<T> = Result<T, Fault>;

/// A number, as RapidJSON would hold it: a whole number unless it has a point, an exponent, or too many digits.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Number {
    Signed(i64),
    /// Above `i64::MAX`.
    Unsigned(u64),
    Real(f64),
}

/// A place in a document.
#[derive(Debug, Clone)]
pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Scanner<'a> {
        let bom = bytes.starts_with(b"\xef\xbb\xbf");
        Scanner { bytes, at: if bom { 3 } else { 0 } }
    }

    pub fn offset(&self) -> usize {
        self.at
    }

    /// The document from `start` to here.
    pub fn since(&self, start: usize) -> &'a [u8] {
        self.bytes.get(start..self.at).unwrap_or_default()
    }

    /// The first byte of what follows, white space skipped; 0 at the end.
    #[inline]
    pub fn peek(&mut self) -> u8 {
        while let Some(&byte) = self.bytes.get(self.at) {
            if !matches!(byte, b' ' | b'\n' | b'\r' | b'\t') {
                return byte;
            }
            self.at += 1;
        }
        0
    }

    #[inline]
    fn here(&self) -> u8 {
        self.bytes.get(self.at).copied().unwrap_or(0)
    }

    fn fault<T>(&self, what: &'static str) -> Scan<T> {
        Err(Fault::Syntax(what, self.at))
    }

    /// Steps into the list that follows; whether it has an element.
    pub fn enter_list(&mut self) -> Scan<bool> {
        self.enter(b'[', b']')
    }

    fn enter(&mut self, open: u8, close: u8) -> Scan<bool> {
        if self.peek() != open {
            return self.fault("Invalid value.");
        }
        self.at += 1;
        let empty = self.peek() == close;
        self.at += usize::from(empty);
        Ok(!empty)
    }

    /// After an element: whether another follows; the list's end is taken.
    #[inline]
    pub fn next_element(&mut self) -> Scan<bool> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            b']' => {
                self.at += 1;
                Ok(false)
            }
            _ => self.fault("Missing a comma or ] after an array element."),
        }
    }

    /// Steps into the object that follows; whether it has a member.
    pub fn enter_object(&mut self) -> Scan<bool> {
        self.enter(b'{', b'}')
    }

    /// A member's name and its colon.
    pub fn name(&mut self) -> Scan<Cow<'a, str>> {
        if self.peek() != b'"' {
            return self.fault("Missing a name for object member.");
        }
        let name = self.string()?;
        if self.peek() != b':' {
            return self.fault("Missing a colon after a name of object member.");
        }
        self.at += 1;
        Ok(name)
    }

    /// After a member: whether another follows; the object's end is taken.
    pub fn next_member(&mut self) -> Scan<bool> {
        match self.peek() {
            b',' => {
                self.at += 1;
                Ok(true)
            }
            b'}' => {
                self.at += 1;
                Ok(false)
            }
            _ => self.fault("Missing a comma or } after an object member."),
        }
    }

    /// Nothing but white space may follow.
    pub fn end(&mut self) -> Scan<()> {
        self.peek();
        match self.at >= self.bytes.len() {
            true => Ok(()),
            false => self.fault("The document root must not be followed by other values."),
        }
    }

    /// Reads over one value, checking it.
    pub fn skip(&mut self) -> Scan<()> {
        self.skip_nested(0)
    }

    fn skip_nested(&mut self, depth: usize) -> Scan<()> {
        if depth > MOST_DEPTH {
            return self.fault("Nested too deep.");
        }
        match self.peek() {
            b'[' => {
                let mut more = self.enter_list()?;
                while more {
                    self.skip_nested(depth + 1)?;
                    more = self.next_element()?;
                }
            }
            b'{' => {
                let mut more = self.enter_object()?;
                while more {
                    self.name()?;
                    self.skip_nested(depth + 1)?;
                    more = self.next_member()?;
                }
            }
            b'"' => {
                self.string()?;
            }
            b't' | b'f' | b'n' => {
                self.word()?;
            }
            _ => {
                self.number()?;
            }
        }
        Ok(())
    }

    /// `true`, `false`, or `None` of `null`.
    pub fn word(&mut self) -> Scan<Option<bool>> {
        let (word, value) = match self.peek() {
            b't' => (&b"true"[..], Some(true)),
            b'f' => (&b"false"[..], Some(false)),
            _ => (&b"null"[..], None),
        };
        self.literal(word)?;
        Ok(value)
    }

    fn literal(&mut self, word: &[u8]) -> Scan<()> {
        for &byte in word {
            if self.here() != byte {
                return self.fault("Invalid value.");
            }
            self.at += 1;
        }
        Ok(())
    }

    pub fn string(&mut self) -> Scan<Cow<'a, str>> {
        if self.peek() != b'"' {
            return self.fault("Invalid value.");
        }
        self.at += 1;
        let start = self.at;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    let text = self.utf8(start)?;
                    self.at += 1;
                    return Ok(Cow::Borrowed(text));
                }
                Some(b'\\') => break,
                Some(0..0x20) => return self.fault("Invalid encoding in string."),
                Some(_) => self.at += 1,
                None => return self.fault("Missing a closing quotation mark in string."),
            }
        }
        let mut text = String::new();
        let mut piece = start;
        loop {
            match self.bytes.get(self.at) {
                Some(b'"') => {
                    text.push_str(self.utf8(piece)?);
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    text.push_str(self.utf8(piece)?);
                    text.push(self.escape()?);
                    piece = self.at;
                }
                Some(0..0x20) => return self.fault("Invalid encoding in string."),
                Some(_) => self.at += 1,
                None => return self.fault("Missing a closing quotation mark in string."),
            }
        }
    }

    fn utf8(&self, start: usize) -> Scan<&'a str> {
        let bytes = self.bytes.get(start..self.at).unwrap_or_default();
        std::str::from_utf8(bytes)
            .map_err(|e| Fault::Syntax("Invalid encoding in string.", start + e.valid_up_to()))
    }

    fn escape(&mut self) -> Scan<char> {
        let start = self.at;
        self.at += 1;
        let escaped = self.here();
        let plain = match escaped {
            b'"' | b'\\' | b'/' => char::from(escaped),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                self.at += 1;
                let high = self.hex(start)?;
                if !(0xd800..0xe000).contains(&high) {
                    return char::from_u32(high).map_or_else(|| self.fault("Invalid value."), Ok);
                }
                let unpaired =
                    Err(Fault::Syntax("The surrogate pair in string is invalid.", start));
                if high >= 0xdc00 || !self.bytes[self.at..].starts_with(b"\\u") {
                    return unpaired;
                }
                self.at += 2;
                let low = self.hex(start)?;
                if !(0xdc00..0xe000).contains(&low) {
                    return unpaired;
                }
                let code = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                return char::from_u32(code).map_or(unpaired, Ok);
            }
            _ => return Err(Fault::Syntax("Invalid escape character in string.", start)),
        };
        self.at += 1;
        Ok(plain)
    }

    fn hex(&mut self, start: usize) -> Scan<u32> {
        let mut code = 0;
        for _ in 0..4 {
            let Some(digit) = char::from(self.here()).to_digit(16) else {
                return Err(Fault::Syntax(
                    "Incorrect hex digit after \\u escape in string.",
                    start,
                ));
            };
            code = code * 16 + digit;
            self.at += 1;
        }
        Ok(code)
    }

    /// A number. Short ones are exact products of a whole number and a power of ten (Clinger 1990); the others go
    /// through the standard library.
    #[inline]
    pub fn number(&mut self) -> Scan<Number> {
        self.peek();
        let start = self.at;
        let negative = self.here() == b'-';
        self.at += usize::from(negative);
        let (mut mantissa, mut digits) = (0u64, 0u32);
        match self.here() {
            b'0' => self.at += 1,
            b'1'..=b'9' => self.digits(&mut mantissa, &mut digits),
            b'N' if !negative => return self.literal(b"NaN").map(|()| Number::Real(f64::NAN)),
            b'I' => {
                self.literal(b"Inf")?;
                if self.here() == b'i' {
                    self.literal(b"inity")?;
                }
                let infinity = if negative { f64::NEG_INFINITY } else { f64::INFINITY };
                return Ok(Number::Real(infinity));
            }
            _ => return self.fault("Invalid value."),
        }
        let whole_digits = digits;
        let mut real = false;
        let mut exponent = 0i32;
        if self.here() == b'.' {
            real = true;
            self.at += 1;
            if !self.here().is_ascii_digit() {
                return self.fault("Miss fraction part in number.");
            }
            let before = self.at;
            self.digits(&mut mantissa, &mut digits);
            exponent = -((self.at - before).min(1 << 20) as i32);
        }
        if matches!(self.here(), b'e' | b'E') {
            real = true;
            self.at += 1;
            let minus = self.here() == b'-';
            self.at += usize::from(matches!(self.here(), b'-' | b'+'));
            if !self.here().is_ascii_digit() {
                return self.fault("Miss exponent in number.");
            }
            let mut written = 0i32;
            while self.here().is_ascii_digit() {
                written = written.saturating_mul(10).saturating_add(i32::from(self.here() - b'0'));
                self.at += 1;
            }
            exponent = exponent.saturating_add(if minus { -written } else { written });
        }
        if !real && whole_digits < 20 {
            return Ok(match (negative, i64::try_from(mantissa)) {
                (false, Ok(whole)) => Number::Signed(whole),
                (true, Ok(whole)) => Number::Signed(-whole),
                (false, Err(_)) => Number::Unsigned(mantissa),
                (true, Err(_)) if mantissa == 1 << 63 => Number::Signed(i64::MIN),
                (true, Err(_)) => Number::Real(-(mantissa as f64)),
            });
        }
        if digits < 20 && mantissa < 1 << 53 && (-22..=22).contains(&exponent) {
            let power = POWERS[exponent.unsigned_abs() as usize];
            let whole = mantissa as f64;
            let value = if exponent < 0 { whole / power } else { whole * power };
            return Ok(Number::Real(if negative { -value } else { value }));
        }
        let text = std::str::from_utf8(self.since(start)).unwrap_or_default();
        if !real && let Ok(whole) = text.parse() {
            return Ok(Number::Unsigned(whole));
        }
        match text.parse::<f64>() {
            Ok(value) if value.is_finite() => Ok(Number::Real(value)),
            _ => Err(Fault::Syntax("Number too big to be stored in double.", start)),
        }
    }

    /// Reads at most `most` of the numbers that follow in a list, each with the comma after it, as long as they are
    /// plain; gives how many.
    pub fn plain_reals(&mut self, most: usize, out: &mut Vec<f32>) -> usize {
        self.peek();
        let (count, at) = read_decimals(self.bytes, self.at, most, out);
        self.at = at;
        count
    }

    /// Digits into `mantissa`, which holds the first 19; `count` has all but leading zeros.
    #[inline]
    fn digits(&mut self, mantissa: &mut u64, count: &mut u32) {
        while let Some(digit) = self.bytes.get(self.at).map(|b| b.wrapping_sub(b'0'))
            && digit < 10
        {
            if *count < 19 {
                *mantissa = *mantissa * 10 + u64::from(digit);
            }
            *count = count.saturating_add(u32::from(*mantissa > 0));
            self.at += 1;
        }
    }
}

const POWERS: [f64; 23] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16,
    1e17, 1e18, 1e19, 1e20, 1e21, 1e22,
];

impl Number {
    pub fn real(self) -> f64 {
        match self {
            Number::Signed(whole) => whole as f64,
            Number::Unsigned(whole) => whole as f64,
            Number::Real(real) => real,
        }
    }
}

/// Finds what is wrong with a document as JSON.
pub fn check(bytes: &[u8]) -> Scan<()> {
    let mut scanner = Scanner::new(bytes);
    if scanner.peek() == 0 && scanner.at >= bytes.len() {
        return scanner.fault("The document is empty.");
    }
    scanner.skip()?;
    scanner.end()
}

#[cfg(test)]
mod tests;
