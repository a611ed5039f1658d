//! What `--traffic`, `--shadow` and `--traffic_config_file` say.

use crate::serve::registry::Wanted;
use crate::serve::text_proto::Message;
use anyhow::{Context, Result, bail, ensure};
use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

/// A label of a model, or one of its versions.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    Label(String),
    Version(u64),
}

impl Target {
    /// Digits are a version.
    fn parse(text: &str) -> Result<Target> {
        ensure!(!text.is_empty(), "a label or version is missing");
        Ok(match text.bytes().all(|b| b.is_ascii_digit()) {
            true => Target::Version(text.parse().with_context(|| format!("version {text}"))?),
            false => Target::Label(text.into()),
        })
    }

    pub(super) fn wanted(&self) -> Wanted {
        match self {
            Target::Label(label) => Wanted::Label(label.clone()),
            Target::Version(version) => Wanted::Version(*version),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Target::Label(label) => f.write_str(label),
            Target::Version(version) => write!(f, "{version}"),
        }
    }
}

/// `--traffic MODEL=TARGET:WEIGHT,…`
#[derive(Debug, Clone, PartialEq)]
pub struct Shares {
    pub model: String,
    /// Weights relate to their sum.
    pub shares: Vec<(Target, u32)>,
}

impl Shares {
    /// # Errors
    /// Say what is missing.
    pub fn parse(text: &str) -> Result<Shares> {
        const FORM: &str = "give MODEL=LABEL:WEIGHT,LABEL:WEIGHT; a version's number stands for it";
        let (model, list) = text.split_once('=').context(FORM)?;
        ensure!(!model.is_empty(), FORM);
        let mut shares = vec![];
        for part in list.split(',') {
            let (target, weight) = part.rsplit_once(':').context(FORM)?;
            let weight = weight.trim().parse();
            let weight = weight.with_context(|| format!("the weight in '{part}'"))?;
            shares.push((Target::parse(target.trim())?, weight));
        }
        let shares = Shares { model: model.into(), shares };
        shares.check()?;
        Ok(shares)
    }

    fn check(&self) -> Result<()> {
        for (at, (target, _)) in self.shares.iter().enumerate() {
            let twice = self.shares[..at].iter().any(|(other, _)| other == target);
            ensure!(!twice, "'{target}' is there twice");
        }
        let sum: u64 = self.shares.iter().map(|(_, weight)| u64::from(*weight)).sum();
        ensure!(sum > 0, "all weights are 0");
        Ok(())
    }
}

/// `--shadow MODEL=TARGET[:PERCENT]`
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowShare {
    pub model: String,
    pub target: Target,
    /// Of the requests that are copied, from 0 to 100.
    pub percent: f64,
}

impl ShadowShare {
    /// # Errors
    /// Say what is missing.
    pub fn parse(text: &str) -> Result<ShadowShare> {
        const FORM: &str = "give MODEL=LABEL or MODEL=LABEL:PERCENT";
        let (model, rest) = text.split_once('=').context(FORM)?;
        ensure!(!model.is_empty(), FORM);
        let (target, percent) = match rest.rsplit_once(':') {
            Some((target, percent)) => (target, parse_percent(percent.trim())?),
            None => (rest, 100.0),
        };
        Ok(ShadowShare { model: model.into(), target: Target::parse(target.trim())?, percent })
    }
}

fn parse_percent(text: &str) -> Result<f64> {
    match text.parse() {
        Ok(percent) if (0.0..=100.0).contains(&percent) => Ok(percent),
        _ => bail!("'{text}' is no percentage: it must be a number from 0 to 100"),
    }
}

/// What is done with a model's requests that name no version.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Rule {
    pub shares: Vec<(Target, u32)>,
    pub shadow: Option<(Target, f64)>,
}

/// Where the rules come from.
#[derive(Debug, Clone, PartialEq)]
pub enum TrafficSource {
    Flags {
        shares: Vec<Shares>,
        shadows: Vec<ShadowShare>,
    },
    /// `--traffic_config_file`
    File(PathBuf),
}

impl Default for TrafficSource {
    fn default() -> TrafficSource {
        TrafficSource::Flags { shares: vec![], shadows: vec![] }
    }
}

impl TrafficSource {
    /// The rules by model.
    ///
    /// # Errors
    /// Name the file and the line, or the model that is there twice.
    pub fn rules(&self) -> Result<BTreeMap<String, Rule>> {
        match self {
            TrafficSource::Flags { shares, shadows } => {
                let mut rules: BTreeMap<String, Rule> = BTreeMap::new();
                for own in shares {
                    let rule = rules.entry(own.model.clone()).or_default();
                    ensure!(rule.shares.is_empty(), "--traffic: model '{}' twice", own.model);
                    rule.shares.clone_from(&own.shares);
                }
                for own in shadows {
                    let rule = rules.entry(own.model.clone()).or_default();
                    ensure!(rule.shadow.is_none(), "--shadow: model '{}' twice", own.model);
                    rule.shadow = Some((own.target.clone(), own.percent));
                }
                Ok(rules)
            }
            TrafficSource::File(path) => {
                let at = || format!("traffic config {}", path.display());
                let text = crate::format::mmap::read_text(path).with_context(at)?;
                parse(&text).with_context(at)
            }
        }
    }
}

/// `traffic { model: "m" split { label: "stable" weight: 90 } split { version: 7 weight: 10 } shadow { label: "next" percent: 5 } }`
fn parse(text: &str) -> Result<BTreeMap<String, Rule>> {
    let file = Message::parse(text)?;
    file.only(&["traffic"])?;
    let mut rules = BTreeMap::new();
    for traffic in file.messages("traffic")? {
        traffic.only(&["model", "split", "shadow"])?;
        let model = traffic.text("model")?.filter(|model| !model.is_empty());
        let model = model.context("a traffic has no model")?;
        let at = || format!("model '{model}'");
        let rule = parse_rule(model, traffic).with_context(at)?;
        ensure!(rules.insert(model.to_string(), rule).is_none(), "model '{model}' is there twice");
    }
    Ok(rules)
}

fn parse_rule(model: &str, traffic: &Message) -> Result<Rule> {
    let mut shares = vec![];
    for split in traffic.messages("split")? {
        split.only(&["label", "version", "weight"])?;
        let weight = split.number("weight")?.context("a split has no weight")?;
        let weight = u32::try_from(weight).with_context(|| format!("weight {weight}"))?;
        shares.push((target_of(split)?, weight));
    }
    let mut shadow = None;
    for own in traffic.messages("shadow")? {
        own.only(&["label", "version", "percent"])?;
        ensure!(shadow.is_none(), "there is more than one shadow");
        let percent = own.word("percent")?.map_or(Ok(100.0), parse_percent)?;
        shadow = Some((target_of(own)?, percent));
    }
    ensure!(!shares.is_empty() || shadow.is_some(), "it has neither split nor shadow");
    let shares = Shares { model: model.into(), shares };
    if !shares.shares.is_empty() {
        shares.check()?;
    }
    Ok(Rule { shares: shares.shares, shadow })
}

fn target_of(message: &Message) -> Result<Target> {
    match (message.text("label")?, message.number("version")?) {
        (Some(label), None) if !label.is_empty() => Ok(Target::Label(label.into())),
        (None, Some(version)) => {
            Ok(Target::Version(u64::try_from(version).context("a version is negative")?))
        }
        _ => bail!("a split or shadow needs either a label or a version"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn label(label: &str) -> Target {
        Target::Label(label.into())
    }

    #[test]
    fn flags() {
        let shares = Shares::parse("half=stable:90, canary:10,3:0").unwrap();
        let expected = vec![(label("stable"), 90), (label("canary"), 10), (Target::Version(3), 0)];
        assert_eq!(shares, Shares { model: "half".into(), shares: expected });
        let shadow = ShadowShare::parse("half=next:2.5").unwrap();
        assert_eq!((shadow.target, shadow.percent), (label("next"), 2.5));
        assert_eq!(ShadowShare::parse("half=7").unwrap().target, Target::Version(7));
        let form = "give MODEL=LABEL:WEIGHT,LABEL:WEIGHT; a version's number stands for it";
        for (text, expected) in [
            ("half", form),
            ("=a:1", form),
            ("half=a", form),
            ("half=a:1,", form),
            ("half=a:x", "the weight in 'a:x': invalid digit found in string"),
            ("half=a:-1", "the weight in 'a:-1': invalid digit found in string"),
            ("half=:1", "a label or version is missing"),
            ("half=a:1,a:2", "'a' is there twice"),
            ("half=a:0", "all weights are 0"),
        ] {
            assert_eq!(format!("{:#}", Shares::parse(text).unwrap_err()), expected, "{text}");
        }
        for text in ["half", "half=a:101", "half=a:NaN", "half=", "half=a:-1", "half=a:"] {
            assert!(ShadowShare::parse(text).is_err(), "{text}");
        }
        let twice = TrafficSource::Flags { shares: vec![shares.clone(), shares], shadows: vec![] };
        assert_eq!(twice.rules().unwrap_err().to_string(), "--traffic: model 'half' twice");
    }

    #[test]
    fn files() {
        let rules = parse(
            "traffic { model: 'a' split { label: 'stable' weight: 90 } split { version: 7 weight: 10 }\n\
             shadow { label: 'next' percent: 0.5 } }\n\
             traffic { model: 'b' shadow { version: 2 } }",
        )
        .unwrap();
        let shares = vec![(label("stable"), 90), (Target::Version(7), 10)];
        assert_eq!(rules["a"], Rule { shares, shadow: Some((label("next"), 0.5)) });
        let shadow = Some((Target::Version(2), 100.0));
        assert_eq!(rules["b"], Rule { shares: vec![], shadow });
        assert_eq!(parse("").unwrap(), BTreeMap::new());
        let check = |inner: &str, expected: &str| {
            let error = parse(&format!("traffic {{ {inner} }}")).unwrap_err();
            assert_eq!(format!("{error:#}"), expected, "{inner}");
        };
        check("split { label: 'a' weight: 1 }", "a traffic has no model");
        check("model: 'm'", "model 'm': it has neither split nor shadow");
        check("model: 'm' split { label: 'a' }", "model 'm': a split has no weight");
        let either = "model 'm': a split or shadow needs either a label or a version";
        check("model: 'm' split { label: 'a' version: 1 weight: 1 }", either);
        check("model: 'm' split { weight: 1 }", either);
        check("model: 'm' split { label: 'a' weight: 0 }", "model 'm': all weights are 0");
        let percent = "model 'm': '101' is no percentage: it must be a number from 0 to 100";
        check("model: 'm' shadow { label: 'a' percent: 101 }", percent);
        let two = "model: 'm' shadow { label: 'a' } shadow { label: 'b' }";
        check(two, "model 'm': there is more than one shadow");
        let field = "line 1: field 'weights' is none of: label, version, weight";
        check("model: 'm' split { label: 'a' weights: 1 }", &format!("model 'm': {field}"));
    }
}
