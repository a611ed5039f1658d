//! Protobuf's text format, as configuration files are written in it: fields by name, messages nested. Knows no
//! schema; what the fields mean is asked by name. Specification: protobuf.dev/reference/protobuf/textformat-spec.

use anyhow::{Context, Result, bail, ensure};

/// Messages may be nested this deep.
const MOST_DEPTH: usize = 32;
/// A file may hold this many fields in all.
const MOST_FIELDS: usize = 100_000;

/// The fields of one message, in the file's order.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Message {
    fields: Vec<Field>,
}

#[derive(Debug, Clone, PartialEq)]
struct Field {
    name: String,
    line: usize,
    value: Value,
}

#[derive(Debug, Clone, PartialEq)]
enum Value {
    Text(String),
    /// A number, `true`, `false` or an enum's name, as written.
    Word(String),
    Message(Message),
}

impl Message {
    /// # Errors
    /// Give the line.
    pub fn parse(text: &str) -> Result<Message> {
        let mut parser = Parser { rest: text, line: 1, fields: 0 };
        let message = parser.message(0, None).with_context(|| format!("line {}", parser.line))?;
        Ok(message)
    }

    /// Refuses fields with other names than `known`, which misspelt ones have.
    pub fn only(&self, known: &[&str]) -> Result<()> {
        match self.fields.iter().find(|f| !known.contains(&f.name.as_str())) {
            Some(field) => {
                bail!(
                    "line {}: field '{}' is none of: {}",
                    field.line,
                    field.name,
                    known.join(", ")
                )
            }
            None => Ok(()),
        }
    }

    fn all(&self, name: &str) -> Vec<&Field> {
        self.fields.iter().filter(|f| f.name == name).collect()
    }

    /// The last of that name, as protobuf has it of a field that is not repeated.
    fn last(&self, name: &str) -> Option<&Field> {
        self.fields.iter().rfind(|f| f.name == name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.last(name).is_some()
    }

    pub fn messages(&self, name: &str) -> Result<Vec<&Message>> {
        self.all(name)
            .into_iter()
            .map(|field| match &field.value {
                Value::Message(message) => Ok(message),
                _ => bail!("line {}: '{}' must be a message in {{ }}", field.line, field.name),
            })
            .collect()
    }

    pub fn text(&self, name: &str) -> Result<Option<&str>> {
        self.last(name)
            .map(|field| match &field.value {
                Value::Text(text) => Ok(text.as_str()),
                _ => bail!("line {}: '{}' must be a string in quotes", field.line, field.name),
            })
            .transpose()
    }

    pub fn numbers(&self, name: &str) -> Result<Vec<i64>> {
        self.all(name)
            .into_iter()
            .map(|field| {
                let Value::Word(word) = &field.value else {
                    bail!("line {}: '{}' must be a number", field.line, field.name);
                };
                let number = match word.strip_prefix("0x").or(word.strip_prefix("0X")) {
                    Some(digits) => i64::from_str_radix(digits, 16),
                    None => word.parse(),
                };
                number.with_context(|| {
                    format!("line {}: '{}' is not a whole number: {word}", field.line, field.name)
                })
            })
            .collect()
    }

    /// A number of any kind, as written.
    pub fn word(&self, name: &str) -> Result<Option<&str>> {
        self.last(name)
            .map(|field| match &field.value {
                Value::Word(word) => Ok(word.as_str()),
                _ => bail!("line {}: '{}' must be a number", field.line, field.name),
            })
            .transpose()
    }

    pub fn number(&self, name: &str) -> Result<Option<i64>> {
        Ok(self.numbers(name)?.last().copied())
    }

    /// `true` where the field says so; `None` where it is absent.
    pub fn flag(&self, name: &str) -> Result<Option<bool>> {
        self.last(name)
            .map(|field| match &field.value {
                Value::Word(word) if ["true", "True", "t", "1"].contains(&word.as_str()) => {
                    Ok(true)
                }
                Value::Word(word) if ["false", "False", "f", "0"].contains(&word.as_str()) => {
                    Ok(false)
                }
                _ => bail!("line {}: '{}' must be true or false", field.line, field.name),
            })
            .transpose()
    }
}

struct Parser<'a> {
    rest: &'a str,
    line: usize,
    fields: usize,
}

impl<'a> Parser<'a> {
    /// Fields up to `end`, which is taken too, or to the end of the file.
    fn message(&mut self, depth: usize, end: Option<char>) -> Result<Message> {
        ensure!(depth <= MOST_DEPTH, "messages are nested more than {MOST_DEPTH} deep");
        let mut message = Message::default();
        loop {
            self.skip_space();
            match (self.rest.chars().next(), end) {
                (None, None) => return Ok(message),
                (None, Some(end)) => bail!("'{end}' is missing at the end of the file"),
                (Some(c), Some(end)) if c == end => {
                    self.take(1);
                    return Ok(message);
                }
                (Some(',' | ';'), _) => self.take(1),
                _ => self.field(depth, &mut message)?,
            }
        }
    }

    fn field(&mut self, depth: usize, message: &mut Message) -> Result<()> {
        let (name, line) = (self.word()?.to_string(), self.line);
        self.skip_space();
        let colon = self.rest.starts_with(':');
        if colon {
            self.take(1);
            self.skip_space();
        }
        if colon && self.rest.starts_with('[') {
            self.take(1);
            loop {
                self.skip_space();
                if self.rest.starts_with(']') {
                    self.take(1);
                    return Ok(());
                }
                if self.rest.starts_with(',') {
                    self.take(1);
                    self.skip_space();
                }
                let value = self.value(depth, true)?;
                self.add(message, Field { name: name.clone(), line, value })?;
            }
        }
        let value = self.value(depth, colon)?;
        self.add(message, Field { name, line, value })
    }

    fn add(&mut self, message: &mut Message, field: Field) -> Result<()> {
        self.fields += 1;
        ensure!(self.fields <= MOST_FIELDS, "more than {MOST_FIELDS} fields");
        message.fields.push(field);
        Ok(())
    }

    fn value(&mut self, depth: usize, scalars: bool) -> Result<Value> {
        match self.rest.chars().next() {
            Some(open @ ('{' | '<')) => {
                self.take(1);
                let end = if open == '{' { '}' } else { '>' };
                Ok(Value::Message(self.message(depth + 1, Some(end))?))
            }
            _ if !scalars => bail!("':' or '{{' is missing after the field's name"),
            Some('"' | '\'') => {
                let mut text = String::new();
                while self.rest.starts_with(['"', '\'']) {
                    self.string(&mut text)?;
                    self.skip_space();
                }
                Ok(Value::Text(text))
            }
            _ => Ok(Value::Word(self.word()?.to_string())),
        }
    }

    fn word(&mut self) -> Result<&'a str> {
        let is_part = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-' | '+');
        let end = self.rest.find(|c| !is_part(c)).unwrap_or(self.rest.len());
        if end == 0 {
            match self.rest.chars().next() {
                Some(c) => bail!("'{}' is not expected here", c.escape_default()),
                None => bail!("the file ends too early"),
            }
        }
        let word = &self.rest[..end];
        self.take(end);
        Ok(word)
    }

    /// Adds one quoted piece to `text`.
    fn string(&mut self, text: &mut String) -> Result<()> {
        let mut chars = self.rest.char_indices();
        let quote = chars.next().map(|(_, c)| c);
        let mut bytes = vec![];
        while let Some((at, c)) = chars.next() {
            match c {
                '\n' => bail!("a string ends with its line"),
                '\\' => {
                    let Some((_, escaped)) = chars.next() else { break };
                    match escaped {
                        'n' => bytes.push(b'\n'),
                        't' => bytes.push(b'\t'),
                        'r' => bytes.push(b'\r'),
                        '\\' | '\'' | '"' | '?' => bytes.push(escaped as u8),
                        other => bail!("'\\{}' is not supported", other.escape_default()),
                    }
                }
                c if Some(c) == quote => {
                    self.take(at + 1);
                    let piece = String::from_utf8(bytes).context("a string is not UTF-8")?;
                    text.push_str(&piece);
                    return Ok(());
                }
                c => bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes()),
            }
        }
        bail!("a string has no closing quote")
    }

    fn skip_space(&mut self) {
        loop {
            let end = self.rest.find(|c: char| !c.is_whitespace()).unwrap_or(self.rest.len());
            self.take(end);
            if !self.rest.starts_with('#') {
                return;
            }
            self.take(self.rest.find('\n').unwrap_or(self.rest.len()));
        }
    }

    fn take(&mut self, bytes: usize) {
        let (taken, rest) = self.rest.split_at(bytes);
        self.line += taken.matches('\n').count();
        self.rest = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_people_write() {
        let text = r#"
            # models
            model_config_list: {
              config < name: 'a' "b", base_path: "/x\n" >;
              config { name: "c" numbers: [1, 0x10, -3] numbers: 4 flag: true empty {} }
            }"#;
        let message = Message::parse(text).unwrap();
        let list = message.messages("model_config_list").unwrap()[0];
        let configs = list.messages("config").unwrap();
        assert_eq!(configs[0].text("name").unwrap(), Some("ab"));
        assert_eq!(configs[0].text("base_path").unwrap(), Some("/x\n"));
        assert_eq!(configs[0].text("absent").unwrap(), None);
        assert_eq!(configs[1].numbers("numbers").unwrap(), [1, 16, -3, 4]);
        assert_eq!(configs[1].flag("flag").unwrap(), Some(true));
        assert!(configs[1].has("empty") && !configs[1].has("full"));
        assert_eq!(Message::parse(" ").unwrap(), Message::default());
    }

    #[test]
    fn says_where_it_is_wrong() {
        let check = |text: &str, expected: &str| {
            let error = format!("{:#}", Message::parse(text).unwrap_err());
            assert_eq!(error, expected, "{text}");
        };
        check("a {\n b: 1\n", "line 3: '}' is missing at the end of the file");
        check("a: \"x", "line 1: a string has no closing quote");
        check("a: \"x\n\"", "line 1: a string ends with its line");
        check("a 1", "line 1: ':' or '{' is missing after the field's name");
        check("}", "line 1: '}' is not expected here");
        check("a:", "line 1: the file ends too early");
        check("a: [1", "line 1: the file ends too early");
        check("a: '\\x41'", "line 1: '\\x' is not supported");
        let deep = "a {".repeat(1000);
        check(&deep, "line 1: messages are nested more than 32 deep");
        let many = "a: 1 ".repeat(100_001);
        check(&many, "line 1: more than 100000 fields");
    }

    #[test]
    fn no_bytes_panic() {
        let seed = "a: \"é\\n\" b { c: [1, 'x' 'y'] } # d\n e < f: -0x1 >;";
        for (at, _) in seed.char_indices() {
            let _ = Message::parse(&seed[..at]);
            for c in "\0\"'#{}<>[]:,;\\\n-ax1é".chars() {
                let rest = seed[at..].chars().next().map_or("", |old| &seed[at + old.len_utf8()..]);
                let _ = Message::parse(&format!("{}{c}{rest}", &seed[..at]));
            }
        }
    }

    #[test]
    fn says_what_a_field_should_be() {
        let message = Message::parse("a: 1\nb: \"x\"\nc {}").unwrap();
        let text = |error: anyhow::Error| format!("{error:#}");
        assert_eq!(text(message.text("a").unwrap_err()), "line 1: 'a' must be a string in quotes");
        assert_eq!(text(message.flag("b").unwrap_err()), "line 2: 'b' must be true or false");
        assert_eq!(text(message.number("c").unwrap_err()), "line 3: 'c' must be a number");
        let unknown = message.only(&["a", "b"]).unwrap_err();
        assert_eq!(text(unknown), "line 3: field 'c' is none of: a, b");
    }
}
