//! Who may ask: keys from a file, each with the name by which logs and metrics tell its user.

use super::Journal;
use super::failure::{Answer, Code, Failure};
use crate::format::base64;
use crate::format::mmap::read_text;
use anyhow::{Context, Result, bail, ensure};
use http::{HeaderMap, header};
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use subtle::ConstantTimeEq;

/// The keys of `--api_key_file`, as it was read last.
pub struct Keys {
    path: PathBuf,
    known: RwLock<Vec<Key>>,
    /// Requests by the name of their key; names that are gone keep their count.
    counts: Mutex<BTreeMap<Arc<str>, Arc<AtomicU64>>>,
    refused: AtomicU64,
}

/// Who a request comes from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caller(pub Arc<str>);

/// Whose request is read, and how much of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Admitted {
    pub caller: Option<Caller>,
    /// A body may have so many bytes, where the server's own limit is not lower.
    pub most_body: usize,
}

impl Admitted {
    /// What is open to everyone where others need a key, takes no body to speak of.
    const OPEN_BODY: usize = 64 << 10;

    pub fn anyone() -> Admitted {
        Admitted { caller: None, most_body: usize::MAX }
    }

    pub fn openly() -> Admitted {
        Admitted { most_body: Admitted::OPEN_BODY, ..Admitted::anyone() }
    }

    pub fn known(caller: Caller) -> Admitted {
        Admitted { caller: Some(caller), ..Admitted::anyone() }
    }
}

#[derive(Debug, Clone)]
struct Key {
    name: Arc<str>,
    /// Digests have one length and are compared in constant time: neither tells anything of a key.
    digest: [u8; 32],
    count: Arc<AtomicU64>,
}

/// A header with more bytes holds no key.
const MOST_BYTES: usize = 4096;

impl Keys {
    /// # Errors
    /// Name the file, the line and what is wrong with it.
    pub fn read(path: &Path, journal: &Journal) -> Result<Keys> {
        let keys = Keys {
            path: path.into(),
            known: RwLock::default(),
            counts: Mutex::default(),
            refused: AtomicU64::new(0),
        };
        keys.load(journal)?;
        Ok(keys)
    }

    /// Reads the file again; where it cannot be, the keys stay as they were.
    pub fn reload(&self, journal: &Journal) {
        match self.load(journal) {
            Ok(count) => journal(&format!("{}: read again, {count} keys", self.path.display())),
            Err(error) => journal(&format!("the keys stay as they were: {error:#}")),
        }
    }

    fn load(&self, journal: &Journal) -> Result<usize> {
        let at = || format!("key file {}", self.path.display());
        let text = read_text(&self.path).with_context(at)?;
        let parsed = parse(&text).with_context(at)?;
        if others_can_read(&self.path) {
            journal(&format!(
                "{} can be read by every user of this machine; chmod 600 keeps the keys to one",
                at()
            ));
        }
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let keys: Vec<Key> = parsed
            .into_iter()
            .map(|(name, key)| {
                let name: Arc<str> = name.into();
                let count = counts.entry(name.clone()).or_default().clone();
                Key { name, digest: Sha256::digest(key).into(), count }
            })
            .collect();
        let number = keys.len();
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = keys;
        Ok(number)
    }

    /// Finds the key in a request's headers, or a call's metadata: `Authorization: Bearer KEY`, `X-API-Key: KEY`, or
    /// the password of `Authorization: Basic`, as browsers ask for one.
    ///
    /// # Errors
    /// `UNAUTHENTICATED`: there is no key, or none of these.
    pub fn caller(&self, headers: &HeaderMap) -> Answer<Caller> {
        let sent = sent(headers);
        let refused = |message: &str| {
            self.refused.fetch_add(1, Relaxed);
            Failure::new(Code::Unauthenticated, message)
        };
        if sent.is_empty() {
            let message = "an API key is needed: 'Authorization: Bearer KEY' or 'X-API-Key: KEY'";
            return Err(refused(message));
        }
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        let mut found = None;
        for digest in sent.iter().map(|key| <[u8; 32]>::from(Sha256::digest(key))) {
            for key in known.iter() {
                if bool::from(key.digest.ct_eq(&digest)) {
                    found = Some(key);
                }
            }
        }
        let key = found.ok_or_else(|| refused("the API key is none of this server's"))?;
        key.count.fetch_add(1, Relaxed);
        Ok(Caller(key.name.clone()))
    }

    /// How often each key was used, as Prometheus reads it.
    pub fn write_metrics(&self, out: &mut String) {
        let counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = writeln!(out, "# TYPE mlctl_key_requests_total counter");
        for (name, count) in counts.iter() {
            let (name, count) = (super::metrics::escaped(name), count.load(Relaxed));
            let _ = writeln!(out, "mlctl_key_requests_total{{key=\"{name}\"}} {count}");
        }
        let refused = self.refused.load(Relaxed);
        let _ = writeln!(out, "# TYPE mlctl_unauthenticated_requests_total counter");
        let _ = writeln!(out, "mlctl_unauthenticated_requests_total {refused}");
    }
}

/// The keys of a request, as it says them.
fn sent(headers: &HeaderMap) -> Vec<Vec<u8>> {
    let mut keys: Vec<Vec<u8>> = vec![];
    let short = |value: &&http::HeaderValue| value.len() <= MOST_BYTES;
    for value in headers.get_all(header::AUTHORIZATION).iter().filter(short) {
        let Some((scheme, rest)) = value.to_str().ok().and_then(|text| text.split_once(' ')) else {
            continue;
        };
        if scheme.eq_ignore_ascii_case("bearer") {
            keys.push(rest.trim().into());
        } else if scheme.eq_ignore_ascii_case("basic") {
            let pair = base64::decode(rest.trim()).unwrap_or_default();
            if let Some(colon) = pair.iter().position(|&byte| byte == b':') {
                keys.push(pair[colon + 1..].to_vec());
            }
        }
    }
    let own = headers.get_all("x-api-key").iter().filter(short);
    keys.extend(own.map(|value| value.as_bytes().trim_ascii().to_vec()));
    keys.retain(|key| !key.is_empty());
    keys.truncate(4);
    keys
}

/// `KEY` or `NAME:KEY` a line; blank lines and those that begin with `#` are none.
fn parse(text: &str) -> Result<Vec<(String, &str)>> {
    let mut keys: Vec<(String, &str)> = vec![];
    for (number, line) in (1..).zip(text.lines()) {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (name, key) = match line.split_once(':') {
            Some((name, key)) => (name.trim().to_string(), key.trim()),
            None => (format!("line {number}"), line),
        };
        ensure!(!name.is_empty(), "line {number}: there is no name before the ':'");
        ensure!(!key.is_empty(), "line {number}: there is no key after '{name}:'");
        let is_plain = key.bytes().all(|byte| byte.is_ascii_graphic());
        ensure!(is_plain, "line {number}: a key has visible ASCII characters and no spaces");
        if let Some((other, _)) = keys.iter().find(|(_, known)| *known == key) {
            bail!("line {number}: its key is that of '{other}' already");
        }
        keys.push((name, key));
    }
    ensure!(!keys.is_empty(), "it holds no key; write KEY or NAME:KEY, one a line");
    Ok(keys)
}

fn others_can_read(path: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        std::fs::metadata(path).is_ok_and(|m| m.permissions().mode() & 0o004 != 0)
    }
    #[cfg(not(unix))]
    {
        let _ = path;
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(all: &[(&'static str, &str)]) -> HeaderMap {
        let pairs = all.iter().map(|(name, value)| {
            (http::HeaderName::from_static(name), http::HeaderValue::from_str(value).unwrap())
        });
        pairs.collect()
    }

    #[test]
    fn lines_are_keys() {
        let text = "# shop\n\nshop: abc \n\tdef\r\nshop:xyz\n  # no:key\n";
        let expected = [("shop", "abc"), ("line 4", "def"), ("shop", "xyz")];
        let expected = expected.map(|(name, key)| (name.to_string(), key));
        assert_eq!(parse(text).unwrap(), expected);
        let check = |text: &str, expected: &str| {
            assert_eq!(parse(text).unwrap_err().to_string(), expected, "{text}");
        };
        check("", "it holds no key; write KEY or NAME:KEY, one a line");
        check("# a\n", "it holds no key; write KEY or NAME:KEY, one a line");
        check("a:b\n:c", "line 2: there is no name before the ':'");
        check("a:", "line 1: there is no key after 'a:'");
        check("a b", "line 1: a key has visible ASCII characters and no spaces");
        check("a:ü", "line 1: a key has visible ASCII characters and no spaces");
        check("a:b\nc:b", "line 2: its key is that of 'a' already");
    }

    #[test]
    fn keys_open() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "shop:s3cret\nplain").unwrap();
        let journal: Journal = Arc::new(|_: &str| {});
        let keys = Keys::read(file.path(), &journal).unwrap();
        let check = |all: &[(&'static str, &str)], expected: Option<&str>| {
            let found = keys.caller(&headers(all));
            assert_eq!(found.as_ref().ok().map(|caller| &*caller.0), expected, "{all:?}");
            if let Err(failure) = found {
                assert_eq!(failure.code, Code::Unauthenticated);
            }
        };
        check(&[("authorization", "Bearer s3cret")], Some("shop"));
        check(&[("authorization", "bearer  plain ")], Some("line 2"));
        check(&[("x-api-key", "s3cret")], Some("shop"));
        // base64 of anyone:s3cret
        check(&[("authorization", "Basic YW55b25lOnMzY3JldA==")], Some("shop"));
        // a proxy's own credentials beside the key
        check(&[("authorization", "Basic cHJveHk6eA=="), ("x-api-key", "plain")], Some("line 2"));
        for (name, value) in [
            ("authorization", "Bearer s3cre"),
            ("authorization", "Bearer s3cret2"),
            ("authorization", "Bearer"),
            ("authorization", "Bearer "),
            ("authorization", "s3cret"),
            ("authorization", "Digest s3cret"),
            ("authorization", "Basic !!!"),
            ("authorization", "Basic czNjcmV0"),
            ("x-api-key", ""),
            ("x-api-key", "shop:s3cret"),
            ("cookie", "s3cret"),
        ] {
            check(&[(name, value)], None);
        }
        check(&[], None);
        std::fs::write(file.path(), "shop:new").unwrap();
        keys.reload(&journal);
        check(&[("x-api-key", "s3cret")], None);
        check(&[("x-api-key", "new")], Some("shop"));
        std::fs::write(file.path(), "").unwrap();
        keys.reload(&journal);
        check(&[("x-api-key", "new")], Some("shop"));
        let mut text = String::new();
        keys.write_metrics(&mut text);
        assert!(text.contains("mlctl_key_requests_total{key=\"shop\"} 5\n"), "{text}");
        assert!(text.contains("mlctl_key_requests_total{key=\"line 2\"} 2\n"), "{text}");
        assert!(text.contains("mlctl_unauthenticated_requests_total 13\n"), "{text}");
    }
}
