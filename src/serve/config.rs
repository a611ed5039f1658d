//! What is to be served and how: TensorFlow Serving's flags and its files in protobuf's text format.

use super::http::tls::{Pem, TlsOptions};
use super::text_proto::Message;
use crate::format::mmap::read_text;
use anyhow::{Context, Result, ensure};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// One model: a folder of numbered versions.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    pub name: String,
    pub base_path: PathBuf,
    pub policy: Policy,
    /// Versions by label.
    pub labels: BTreeMap<String, u64>,
}

/// Which versions of a folder are served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Policy {
    /// As many of the newest.
    Latest(usize),
    All,
    Specific(Vec<u64>),
}

impl ModelConfig {
    /// The newest version of a folder, as TensorFlow Serving serves by default.
    pub fn new(name: &str, base_path: &Path) -> ModelConfig {
        ModelConfig {
            name: name.into(),
            base_path: base_path.into(),
            policy: Policy::Latest(1),
            labels: BTreeMap::new(),
        }
    }
}

/// Where the models come from, so that they can be asked for again.
#[derive(Debug, Clone, PartialEq)]
pub enum Source {
    Models(Vec<ModelConfig>),
    /// `--model_config_file`
    File(PathBuf),
}

impl Source {
    /// The models, as [`parse_models`] has them, and the text that they were read from where that is a file's.
    ///
    /// # Errors
    /// Name the file, the line and what it should say.
    pub fn read(&self) -> Result<(Option<Vec<ModelConfig>>, Option<String>)> {
        match self {
            Source::Models(models) => Ok((Some(models.clone()), None)),
            Source::File(path) => {
                let text = read_text(path);
                let at = || format!("model config {}", path.display());
                let text = text.with_context(at)?;
                Ok((parse_models(&text).with_context(at)?, Some(text)))
            }
        }
    }
}

/// `model_config_list { config { name base_path … } }`; `None` where there is no such list, as in a file that is just
/// being written: an empty list is one that says so.
pub fn parse_models(text: &str) -> Result<Option<Vec<ModelConfig>>> {
    let file = Message::parse(text)?;
    file.only(&["model_config_list", "custom_model_config"])?;
    ensure!(!file.has("custom_model_config"), "custom_model_config is not supported");
    let mut models: Vec<ModelConfig> = vec![];
    for list in file.messages("model_config_list")? {
        list.only(&["config"])?;
        for config in list.messages("config")? {
            let model = parse_model(config)?;
            let twice = models.iter().any(|other| other.name == model.name);
            ensure!(!twice, "model '{}' is there twice", model.name);
            models.push(model);
        }
    }
    Ok(file.has("model_config_list").then_some(models))
}

/// # Errors
/// A model cannot have this name: it stands in URLs, before ':' and '/', in the journal and in names of threads.
pub fn check_name(name: &str) -> Result<()> {
    ensure!(!name.is_empty(), "a model needs a name");
    ensure!(!name.contains([':', '/']), "model '{name}': a name must not hold ':' or '/'");
    let shown = name.escape_debug();
    ensure!(
        !name.contains(char::is_control),
        "model '{shown}': a name must not hold control characters"
    );
    Ok(())
}

fn parse_model(config: &Message) -> Result<ModelConfig> {
    config.only(&[
        "name",
        "base_path",
        "model_type",
        "model_platform",
        "model_version_policy",
        "version_labels",
        "logging_config",
    ])?;
    let name = config.text("name")?.filter(|n| !n.is_empty()).context("a config has no name")?;
    let at = || format!("model '{name}'");
    check_name(name)?;
    let base_path = config.text("base_path")?.filter(|p| !p.is_empty());
    let base_path = base_path.context("it has no base_path").with_context(at)?;
    let mut model = ModelConfig::new(name, Path::new(base_path));
    for policy in config.messages("model_version_policy").with_context(at)? {
        model.policy = parse_policy(policy).with_context(at)?;
    }
    for label in config.messages("version_labels").with_context(at)? {
        let parse = || -> Result<(String, u64)> {
            label.only(&["key", "value"])?;
            let key = label.text("key")?.context("a version label has no key")?;
            let value = label.number("value")?.context("a version label has no value")?;
            Ok((key.to_string(), u64::try_from(value).context("a version is negative")?))
        };
        let (key, value) = parse().with_context(at)?;
        model.labels.insert(key, value);
    }
    Ok(model)
}

fn parse_policy(policy: &Message) -> Result<Policy> {
    policy.only(&["latest", "all", "specific"])?;
    if let [specific, ..] = policy.messages("specific")?.as_slice() {
        specific.only(&["versions"])?;
        let versions = specific.numbers("versions")?;
        ensure!(!versions.is_empty(), "'specific' lists no versions");
        let versions = versions.into_iter().map(u64::try_from).collect::<Result<_, _>>();
        return Ok(Policy::Specific(versions.context("a version is negative")?));
    }
    if policy.has("all") {
        return Ok(Policy::All);
    }
    let number = match policy.messages("latest")?.as_slice() {
        [latest, ..] => {
            latest.only(&["num_versions"])?;
            latest.number("num_versions")?.unwrap_or(1)
        }
        [] => 1,
    };
    ensure!(number >= 0, "num_versions is negative");
    // none is one, as in TensorFlow Serving
    Ok(Policy::Latest(usize::try_from(number.max(1))?))
}

/// How requests are put together into batches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Batching {
    /// Rows.
    pub max_batch_size: usize,
    /// How long a batch waits to be filled.
    pub timeout: Duration,
    pub max_enqueued_batches: usize,
    /// Threads that run batches; the server's number where absent.
    pub threads: Option<usize>,
    /// Sizes that batches are padded to, ascending, the last being the maximum; any where empty.
    pub allowed_batch_sizes: Vec<usize>,
}

impl Default for Batching {
    fn default() -> Batching {
        Batching {
            max_batch_size: 1000,
            timeout: Duration::ZERO,
            max_enqueued_batches: 10,
            threads: None,
            allowed_batch_sizes: vec![],
        }
    }
}

impl Batching {
    /// `--batching_parameters_file`.
    pub fn parse(text: &str) -> Result<Batching> {
        let file = Message::parse(text)?;
        file.only(&[
            "max_batch_size",
            "batch_timeout_micros",
            "max_enqueued_batches",
            "num_batch_threads",
            "thread_pool_name",
            "allowed_batch_sizes",
            "pad_variable_length_inputs",
            "enable_large_batch_splitting",
            "max_execution_batch_size",
        ])?;
        let wrapped = |name: &'static str, least: i64| -> Result<Option<usize>> {
            let found = file.messages(name)?;
            let Some(value) = found.last() else { return Ok(None) };
            value.only(&["value"])?;
            let value = value.number("value")?.unwrap_or(0);
            ensure!(value >= least, "{name} must be at least {least}, not {value}");
            Ok(Some(usize::try_from(value)?))
        };
        // the only one that is no message
        let pad = file.flag("pad_variable_length_inputs")? == Some(true);
        ensure!(!pad, "pad_variable_length_inputs is not supported: pad in the client");
        let default = Batching::default();
        let sizes = file.numbers("allowed_batch_sizes")?;
        let sizes: Vec<usize> = sizes.into_iter().filter_map(|n| usize::try_from(n).ok()).collect();
        let batching = Batching {
            max_batch_size: wrapped("max_batch_size", 1)?.unwrap_or(default.max_batch_size),
            timeout: wrapped("batch_timeout_micros", 0)?
                .map_or(default.timeout, |n| Duration::from_micros(n as u64)),
            max_enqueued_batches: wrapped("max_enqueued_batches", 1)?
                .unwrap_or(default.max_enqueued_batches),
            threads: wrapped("num_batch_threads", 1)?,
            allowed_batch_sizes: sizes,
        };
        let sizes = &batching.allowed_batch_sizes;
        ensure!(
            sizes.is_sorted_by(|a, b| a < b) && sizes.first() != Some(&0),
            "allowed_batch_sizes entries must be in increasing order"
        );
        ensure!(
            sizes.last().is_none_or(|last| *last == batching.max_batch_size),
            "the last of allowed_batch_sizes must equal max_batch_size: {}",
            batching.max_batch_size
        );
        Ok(batching)
    }
}

/// `--monitoring_config_file`: where the metrics are; `None` where they are switched off.
pub fn parse_monitoring(text: &str) -> Result<Option<String>> {
    let file = Message::parse(text)?;
    file.only(&["prometheus_config"])?;
    let mut path = Some(METRICS_PATH.to_string());
    for config in file.messages("prometheus_config")? {
        config.only(&["enable", "path"])?;
        let own = config.text("path")?.unwrap_or(METRICS_PATH);
        ensure!(own.starts_with('/'), "the path of prometheus_config must begin with '/'");
        path = (config.flag("enable")? == Some(true)).then(|| own.to_string());
    }
    Ok(path)
}

/// `--ssl_config_file`: PEM text in quotes.
///
/// # Errors
/// Give the line; key or certificate is missing.
pub fn parse_ssl(text: &str) -> Result<TlsOptions> {
    let file = Message::parse(text)?;
    file.only(&["server_key", "server_cert", "custom_ca", "client_verify"])?;
    let field = |name| -> Result<Option<Pem>> {
        let text = file.text(name)?.filter(|text| !text.is_empty());
        Ok(text.map(|text| Pem::Text(text.into())))
    };
    let needed =
        |name| field(name)?.with_context(|| format!("{name} is missing: PEM text in quotes"));
    let client_required = file.flag("client_verify")? == Some(true);
    let client_roots = field("custom_ca")?;
    ensure!(
        !client_required || client_roots.is_some(),
        "client_verify needs custom_ca, the roots of the clients' certificates"
    );
    let (certificate, key) = (needed("server_cert")?, needed("server_key")?);
    Ok(TlsOptions { certificate, key, client_roots, client_required })
}

/// What describes a port's TLS; read anew whenever it is asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TlsSource {
    Files(TlsOptions),
    /// [`parse_ssl`] tells what is in it.
    SslConfig(PathBuf),
}

impl TlsSource {
    /// # Errors
    /// Name the file; it cannot be read or holds something else.
    pub fn read(&self) -> Result<TlsOptions> {
        match self {
            TlsSource::Files(options) => Ok(options.clone()),
            TlsSource::SslConfig(path) => {
                let at = || path.display().to_string();
                let text = read_text(path).with_context(|| format!("cannot read {}", at()))?;
                parse_ssl(&text).with_context(at)
            }
        }
    }
}

pub const METRICS_PATH: &str = "/monitoring/prometheus/metrics";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_ports_tls_is_read_anew() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let source = TlsSource::SslConfig(file.path().into());
        let failure = format!("{:#}", source.read().unwrap_err());
        assert!(failure.contains(&file.path().display().to_string()), "{failure}");
        for text in ["one", "another"] {
            std::fs::write(file.path(), format!("server_key: 'K' server_cert: '{text}'")).unwrap();
            assert_eq!(source.read().unwrap().certificate, Pem::Text(text.into()));
        }
    }

    #[test]
    fn models_and_policies() {
        let models = parse_models(
            r#"model_config_list {
                 config { name: "a" base_path: "/m/a" model_platform: "tensorflow" }
                 config { name: "b" base_path: "/m/b"
                   model_version_policy { latest { num_versions: 2 } }
                   version_labels { key: "stable" value: 1 } version_labels { key: "canary" value: 2 } }
                 config { name: "c" base_path: "/m/c" model_version_policy { all {} } }
                 config { name: "d" base_path: "/m/d"
                   model_version_policy: { specific: { versions: 3 versions: 7 } } }
               }"#,
        )
        .unwrap()
        .unwrap();
        let policies: Vec<Policy> = models.iter().map(|m| m.policy.clone()).collect();
        let specific = Policy::Specific(vec![3, 7]);
        assert_eq!(policies, [Policy::Latest(1), Policy::Latest(2), Policy::All, specific]);
        assert_eq!(models[1].labels, BTreeMap::from([("stable".into(), 1), ("canary".into(), 2)]));
        assert_eq!(models[0].base_path, Path::new("/m/a"));
        // TensorFlow Serving takes no action for a config that is not set
        for text in ["", "\n# being written\n"] {
            assert_eq!(parse_models(text).unwrap(), None, "{text:?}");
        }
        for text in ["model_config_list {}", "model_config_list: { config: [] }"] {
            assert_eq!(parse_models(text).unwrap(), Some(vec![]), "{text}");
        }
    }

    #[test]
    fn at_least_one_version_is_served() {
        let text = |number: i64| {
            format!(
                "model_config_list {{ config {{ name: 'a' base_path: '/x' model_version_policy \
                 {{ latest {{ num_versions: {number} }} }} }} }}"
            )
        };
        // as TensorFlow Serving's file_system_storage_path_source.cc: max(num_versions, 1)
        for (number, expected) in [(0, 1), (1, 1), (3, 3)] {
            let models = parse_models(&text(number)).unwrap().unwrap();
            assert_eq!(models[0].policy, Policy::Latest(expected), "{number}");
        }
        assert!(parse_models(&text(-1)).is_err());
    }

    #[test]
    fn broken_configs_are_refused() {
        let check = |inner: &str, expected: &str| {
            let text = format!("model_config_list {{ config {{ {inner} }} }}");
            let error = format!("{:#}", parse_models(&text).unwrap_err());
            assert_eq!(error, expected, "{inner}");
        };
        check("base_path: '/x'", "a config has no name");
        check("name: 'a'", "model 'a': it has no base_path");
        check("name: 'a:b' base_path: '/x'", "model 'a:b': a name must not hold ':' or '/'");
        let control = "model 'a\\0b': a name must not hold control characters";
        check("name: 'a\0b' base_path: '/x'", control);
        let control = "model 'a\\nb': a name must not hold control characters";
        check("name: 'a\\nb' base_path: '/x'", control);
        check(
            "nam: 'a'",
            "line 1: field 'nam' is none of: name, base_path, model_type, model_platform, \
             model_version_policy, version_labels, logging_config",
        );
        let policy =
            |inner: &str| format!("name: 'a' base_path: '/x' model_version_policy {{ {inner} }}");
        check(&policy("specific {}"), "model 'a': 'specific' lists no versions");
        check(&policy("latest { num_versions: -1 }"), "model 'a': num_versions is negative");
        check(
            &policy("specific { versions: -1 }"),
            "model 'a': a version is negative: out of range integral type conversion attempted",
        );
        let twice = "model_config_list { config { name: 'a' base_path: 'x' } config { name: 'a' base_path: 'y' } }";
        assert_eq!(parse_models(twice).unwrap_err().to_string(), "model 'a' is there twice");
    }

    #[test]
    fn batching_files() {
        let text = "max_batch_size { value: 128 } batch_timeout_micros { value: 1500 }\n\
                    max_enqueued_batches { value: 4 } num_batch_threads { value: 3 }\n\
                    allowed_batch_sizes: 32 allowed_batch_sizes: 128 thread_pool_name { value: 'x' }";
        let expected = Batching {
            max_batch_size: 128,
            timeout: Duration::from_micros(1500),
            max_enqueued_batches: 4,
            threads: Some(3),
            allowed_batch_sizes: vec![32, 128],
        };
        assert_eq!(Batching::parse(text).unwrap(), expected);
        assert_eq!(Batching::parse("").unwrap(), Batching::default());
        let padded = |value: &str| Batching::parse(&format!("pad_variable_length_inputs: {value}"));
        assert_eq!(padded("false").unwrap(), Batching::default());
        let unsupported = "pad_variable_length_inputs is not supported: pad in the client";
        assert_eq!(padded("true").unwrap_err().to_string(), unsupported);
        let check = |text: &str, expected: &str| {
            assert_eq!(format!("{:#}", Batching::parse(text).unwrap_err()), expected, "{text}");
        };
        check("max_batch_size { value: 0 }", "max_batch_size must be at least 1, not 0");
        check("max_batch_size: 4", "line 1: 'max_batch_size' must be a message in { }");
        let unsorted = "allowed_batch_sizes entries must be in increasing order";
        check("max_batch_size { value: 4 } allowed_batch_sizes: [4, 2]", unsorted);
        let last = "the last of allowed_batch_sizes must equal max_batch_size: 4";
        check("max_batch_size { value: 4 } allowed_batch_sizes: [1, 2]", last);
    }

    #[test]
    fn monitoring_files() {
        let path = |text: &str| parse_monitoring(text).unwrap();
        assert_eq!(path("prometheus_config { enable: true, path: \"/m\" }").as_deref(), Some("/m"));
        assert_eq!(path("prometheus_config { enable: true }").as_deref(), Some(METRICS_PATH));
        assert_eq!(path("prometheus_config { enable: false }"), None);
        assert!(parse_monitoring("prometheus_config { enable: true path: 'm' }").is_err());
    }

    #[test]
    fn ssl() {
        let pem = |text: &str| Pem::Text(text.into());
        let text = "server_key: \"K\\n\" server_cert: 'C' custom_ca: '' client_verify: false";
        let expected = TlsOptions {
            certificate: pem("C"),
            key: pem("K\n"),
            client_roots: None,
            client_required: false,
        };
        assert_eq!(parse_ssl(text).unwrap(), expected);
        let text = "server_key: 'K' server_cert: 'C' custom_ca: 'R' client_verify: true";
        assert_eq!(parse_ssl(text).unwrap().client_roots, Some(pem("R")));
        for (text, expected) in [
            ("server_key: 'K'", "server_cert is missing: PEM text in quotes"),
            ("server_cert: 'C' server_key: ''", "server_key is missing: PEM text in quotes"),
            (
                "server_key: 'K' server_cert: 'C' client_verify: true",
                "client_verify needs custom_ca, the roots of the clients' certificates",
            ),
        ] {
            assert_eq!(parse_ssl(text).unwrap_err().to_string(), expected);
        }
        assert!(parse_ssl("key: 'K'").is_err());
    }
}
