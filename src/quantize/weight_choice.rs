//! Schemes of weights, each for the weights that a glob names.

use super::scheme::Scheme;
use crate::write::WeightStorage;
use anyhow::{Context, Result, bail, ensure};
use std::fmt;
use std::str::FromStr;

/// `uint8`, or `uint8=GLOB,GLOB…`: a scheme, and the weights that it is for; all where there is no glob.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SchemeChoice {
    pub scheme: Scheme,
    pub globs: Vec<Glob>,
}

/// A pattern of names as shells and `tensorflowjs_converter` have it: `*` is any text (slashes too), `?` any character, `[a-c]`
/// and `[!a-c]` one of some and one of all others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Glob {
    text: String,
    parts: Vec<Part>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Part {
    Any,
    One,
    Char(char),
    Set { ranges: Vec<(char, char)>, is_negated: bool },
}

impl FromStr for SchemeChoice {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<SchemeChoice> {
        let Some((scheme, globs)) = text.split_once('=') else {
            return Ok(SchemeChoice { scheme: text.parse()?, globs: vec![] });
        };
        let globs: Result<Vec<Glob>> = globs.split(',').map(str::parse).collect();
        Ok(SchemeChoice { scheme: scheme.parse()?, globs: globs? })
    }
}

impl FromStr for Glob {
    type Err = anyhow::Error;

    fn from_str(text: &str) -> Result<Glob> {
        ensure!(!text.is_empty(), "a glob of no characters; write SCHEME=GLOB,GLOB");
        let mut parts = vec![];
        let mut rest = text.chars();
        while let Some(c) = rest.next() {
            parts.push(match c {
                '*' => Part::Any,
                '?' => Part::One,
                '[' => {
                    let (set, behind) = set(rest.as_str())
                        .with_context(|| format!("the '[' of the glob '{text}' has no ']'"))?;
                    rest = behind.chars();
                    set
                }
                c => Part::Char(c),
            });
        }
        parts.dedup_by(|a, b| *a == Part::Any && *b == Part::Any);
        Ok(Glob { text: text.to_string(), parts })
    }
}

/// What stands behind `[`, and what behind its `]`; one that comes first is a character.
fn set(text: &str) -> Option<(Part, &str)> {
    let (is_negated, text) = match text.strip_prefix('!') {
        Some(text) => (true, text),
        None => (false, text),
    };
    let first = text.chars().next()?;
    let end = first.len_utf8() + text[first.len_utf8()..].find(']')?;
    let characters: Vec<char> = text[..end].chars().collect();
    let mut ranges = vec![];
    let mut rest = characters.as_slice();
    loop {
        rest = match rest {
            [] => break,
            [low, '-', high, rest @ ..] => {
                ranges.push((*low, *high));
                rest
            }
            [one, rest @ ..] => {
                ranges.push((*one, *one));
                rest
            }
        };
    }
    Some((Part::Set { ranges, is_negated }, &text[end + 1..]))
}

impl Part {
    fn takes(&self, c: char) -> bool {
        match self {
            Part::Any | Part::One => true,
            Part::Char(own) => *own == c,
            Part::Set { ranges, is_negated } => {
                ranges.iter().any(|&(low, high)| (low..=high).contains(&c)) != *is_negated
            }
        }
    }
}

impl Glob {
    /// Whether it is a pattern of all of `name`.
    pub fn matches(&self, name: &str) -> bool {
        let name: Vec<char> = name.chars().collect();
        let (mut part, mut at) = (0, 0);
        // the last `*`, and where what it stands for ends so far
        let mut star = None;
        while at < name.len() {
            match self.parts.get(part) {
                Some(Part::Any) => {
                    star = Some((part, at));
                    part += 1;
                }
                Some(one) if one.takes(name[at]) => {
                    part += 1;
                    at += 1;
                }
                _ => match star {
                    None => return false,
                    Some((place, end)) => {
                        star = Some((place, end + 1));
                        (part, at) = (place + 1, end + 1);
                    }
                },
            }
        }
        self.parts[part..].iter().all(|rest| *rest == Part::Any)
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// What each weight becomes: the first choice that is for it decides.
#[derive(Debug)]
pub struct WeightChoices<'a> {
    choices: &'a [SchemeChoice],
    used: Vec<Vec<bool>>,
    names: Vec<String>,
}

impl<'a> WeightChoices<'a> {
    pub fn new(choices: &'a [SchemeChoice]) -> WeightChoices<'a> {
        let used = choices.iter().map(|choice| vec![false; choice.globs.len()]).collect();
        WeightChoices { choices, used, names: vec![] }
    }

    /// Of the weight that has these names.
    pub fn storage(&mut self, names: [&str; 2]) -> WeightStorage {
        self.names.push(names[0].to_string());
        let mut chosen = None;
        for (choice, used) in self.choices.iter().zip(&mut self.used) {
            let mut is_for_it = choice.globs.is_empty();
            for (glob, used) in choice.globs.iter().zip(used) {
                if names.iter().any(|name| glob.matches(name)) {
                    (*used, is_for_it) = (true, true);
                }
            }
            if is_for_it {
                chosen = chosen.or(choice.scheme.storage());
            }
        }
        chosen.unwrap_or(WeightStorage::Float32)
    }

    /// # Errors
    /// A glob was for no weight.
    pub fn check(&self) -> Result<()> {
        let globs = self.choices.iter().zip(&self.used);
        let mut globs = globs.flat_map(|(choice, used)| choice.globs.iter().zip(used));
        let Some((glob, _)) = globs.find(|(_, used)| !**used) else { return Ok(()) };
        let shown: Vec<&str> = self.names.iter().take(SHOWN).map(String::as_str).collect();
        let more = if self.names.len() > SHOWN { "', …" } else { "'" };
        bail!("no weight is named like '{glob}'; the weights are '{}{more}", shown.join("', '"))
    }
}

/// Names that are shown where none was meant.
const SHOWN: usize = 12;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_are_those_of_fnmatch() {
        let cases = [
            ("*", "", true),
            ("*", "a/b", true),
            ("dense*", "dense/kernel", true),
            ("dense*", "my/dense", false),
            ("*/kernel", "a/b/kernel", true),
            ("*/kernel", "a/kernel_1", false),
            ("a*b*c", "axxbyybzc", true),
            ("a*b*c", "axxbyyb", false),
            ("conv?", "conv1", true),
            ("conv?", "conv", false),
            ("conv[0-2]", "conv2", true),
            ("conv[0-2]", "conv3", false),
            ("conv[!0-2]", "conv3", true),
            ("x[]]y", "x]y", true),
            ("x[a-]y", "x-y", true),
            ("*é?", "caféx", true),
            ("**", "any", true),
        ];
        for (glob, name, expected) in cases {
            assert_eq!(glob.parse::<Glob>().unwrap().matches(name), expected, "{glob} {name}");
        }
        for glob in ["", "a[b", "a[", "a[]"] {
            assert!(glob.parse::<Glob>().is_err(), "{glob}");
        }
    }

    #[test]
    fn many_stars_end_soon() {
        let glob: Glob = "*a*a*a*a*a*a*a*a*b".parse().unwrap();
        assert!(!glob.matches(&"a".repeat(5000)));
    }

    #[test]
    fn the_first_choice_for_a_weight_decides() {
        let choices: Vec<SchemeChoice> = ["f16=*bias,*norm*", "uint8=conv*", "uint16=*kernel*"]
            .map(|text| text.parse().unwrap())
            .into();
        let mut of = WeightChoices::new(&choices);
        use WeightStorage::{Float16, Float32, Uint8, Uint16};
        for (name, expected) in [
            ("conv/bias", Float16),
            ("conv/kernel", Uint8),
            ("dense/kernel", Uint16),
            ("table", Float32),
        ] {
            assert_eq!(of.storage([name, name]), expected, "{name}");
        }
        let said = of.check().unwrap_err().to_string();
        assert!(said.contains("'*norm*'") && said.contains("'dense/kernel', 'table'"), "{said}");
        of.storage(["x", "batch_norm/scale"]);
        of.check().unwrap();
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for text in ["w2", "w2=*", "uint8=", "uint8=a,,b", "=a"] {
            assert!(text.parse::<SchemeChoice>().is_err(), "{text}");
        }
        let all = "uint8".parse::<SchemeChoice>().unwrap();
        assert_eq!((all.scheme, all.globs.len()), (Scheme::Uint8, 0));
    }
}
