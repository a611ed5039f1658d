//! Which path asks for what. Words of the API are in any case; a model's name and a label are percent-decoded after the
//! path is cut, so that an encoded slash is part of a name.

use crate::serve::failure::{Answer, Failure};
use crate::serve::registry::Wanted;
use crate::serve::servable::Method;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Infer { model: String, wanted: Wanted, method: Method },
    Status { model: String, wanted: Wanted },
    Metadata { model: String, wanted: Wanted },
    Models,
    Healthy,
    Ready,
    Metrics,
}

/// # Errors
/// TensorFlow Serving's texts; `None` where no part of the server is meant.
pub fn route(method: &str, path: &str, metrics_path: Option<&str>) -> Option<Answer<Route>> {
    let get = method == "GET";
    match path {
        "/healthz" if get => return Some(Ok(Route::Healthy)),
        "/readyz" if get => return Some(Ok(Route::Ready)),
        _ if get && Some(path) == metrics_path => return Some(Ok(Route::Metrics)),
        _ => {}
    }
    strip(path, "/v1/")?;
    let malformed = || Failure::invalid(format!("Malformed request: {method} {path}"));
    let Some(rest) = strip(path, "/v1/models") else { return Some(Err(malformed())) };
    if rest.is_empty() || rest == "/" {
        return Some(if get { Ok(Route::Models) } else { Err(malformed()) });
    }
    Some(route_model(method, rest).unwrap_or_else(|| Err(malformed())))
}

fn route_model(method: &str, rest: &str) -> Option<Answer<Route>> {
    let rest = rest.strip_prefix('/')?;
    let end = rest.find(['/', ':']).unwrap_or(rest.len());
    let (model, mut rest) = rest.split_at(end);
    let model = decoded(model)?;
    let mut wanted = Wanted::Latest;
    if let Some(version) = strip(rest, "/versions/") {
        let end = version.find(|c: char| !c.is_ascii_digit()).unwrap_or(version.len());
        let (digits, after) = version.split_at(end);
        if digits.is_empty() {
            return None;
        }
        let Some(number) = digits.parse::<i64>().ok().and_then(|n| u64::try_from(n).ok()) else {
            let message = format!("Failed to convert version: {digits} to numeric.");
            return Some(Err(Failure::invalid(message)));
        };
        (wanted, rest) = (Wanted::Version(number), after);
    } else if let Some(label) = strip(rest, "/labels/") {
        let end = label.find(['/', ':']).unwrap_or(label.len());
        let (label, after) = label.split_at(end);
        (wanted, rest) = (Wanted::Label(decoded(label)?), after);
    }
    let get = method == "GET";
    if rest.is_empty() && get {
        return Some(Ok(Route::Status { model, wanted }));
    }
    if rest.eq_ignore_ascii_case("/metadata") && get {
        return Some(Ok(Route::Metadata { model, wanted }));
    }
    let verb = rest.strip_prefix(':').filter(|_| method == "POST")?;
    let methods = [Method::Predict, Method::Classify, Method::Regress];
    let method = methods.into_iter().find(|m| verb.eq_ignore_ascii_case(m.name()))?;
    Some(Ok(Route::Infer { model, wanted, method }))
}

/// What follows `prefix`, in whatever case it is written.
fn strip<'a>(path: &'a str, prefix: &str) -> Option<&'a str> {
    let head = path.get(..prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then(|| &path[prefix.len()..])
}

/// A part of a path, percent-decoded.
pub fn decoded(part: &str) -> Option<String> {
    let mut bytes = vec![];
    let mut rest = part.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let mut digit = || char::from(rest.next()?).to_digit(16);
                (digit()? * 16 + digit()?) as u8
            }
            byte => byte,
        });
    }
    String::from_utf8(bytes).ok().filter(|text| !text.is_empty())
}

/// A name as one part of a path.
pub fn encoded(name: &str) -> String {
    use std::fmt::Write;
    name.bytes().fold(String::new(), |mut path, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                path.push(byte.into());
            }
            byte => drop(write!(path, "%{byte:02X}")),
        }
        path
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn to(method: &str, path: &str) -> Option<Answer<Route>> {
        route(method, path, Some("/metrics"))
    }

    #[test]
    fn paths() {
        let check = |method: &str, path: &str, expected: Route| {
            assert_eq!(to(method, path), Some(Ok(expected)), "{path}");
        };
        let (model, latest) = (|| "m".to_string(), || Wanted::Latest);
        let infer = |wanted, method| Route::Infer { model: "m".into(), wanted, method };
        check("POST", "/v1/models/m:predict", infer(latest(), Method::Predict));
        check("POST", "/V1/MODELS/m:Classify", infer(latest(), Method::Classify));
        check(
            "POST",
            "/v1/models/m/versions/3:regress",
            infer(Wanted::Version(3), Method::Regress),
        );
        check(
            "POST",
            "/v1/models/m/Versions/0003:predict",
            infer(Wanted::Version(3), Method::Predict),
        );
        let label = Wanted::Label("a b".into());
        check("POST", "/v1/models/m/labels/a%20b:predict", infer(label, Method::Predict));
        check("GET", "/v1/models/m", Route::Status { model: model(), wanted: latest() });
        check(
            "GET",
            "/v1/models/m/versions/2",
            Route::Status { model: model(), wanted: Wanted::Version(2) },
        );
        check("GET", "/v1/models/m/metadata", Route::Metadata { model: model(), wanted: latest() });
        let label = Wanted::Label("s".into());
        check(
            "GET",
            "/v1/models/m/labels/s/METADATA",
            Route::Metadata { model: model(), wanted: label },
        );
        check(
            "GET",
            "/v1/models/..%2f..%2Fetc",
            Route::Status { model: "../../etc".into(), wanted: latest() },
        );
        check("GET", "/v1/models", Route::Models);
        check("GET", "/healthz", Route::Healthy);
        check("GET", "/readyz", Route::Ready);
        check("GET", "/metrics", Route::Metrics);
    }

    #[test]
    fn encoded_names_are_read_back() {
        for name in ["m", "a b", "ä/%:", "..", "x~y"] {
            assert_eq!(decoded(&encoded(name)).as_deref(), Some(name));
        }
        assert_eq!(encoded("a b/:"), "a%20b%2F%3A");
    }

    #[test]
    fn what_is_no_path() {
        let check = |method: &str, path: &str| {
            let message = format!("Malformed request: {method} {path}");
            assert_eq!(to(method, path), Some(Err(Failure::invalid(message))));
        };
        check("GET", "/v1/models/m:predict");
        check("POST", "/v1/models/m");
        check("PUT", "/v1/models/m:predict");
        check("POST", "/v1/models/m:unknown");
        check("POST", "/v1/models/m/versions/:predict");
        check("POST", "/v1/models/m/versions/x:predict");
        check("POST", "/v1/models/m/versions/1/labels/a:predict");
        check("POST", "/v1/models/:predict");
        check("POST", "/v1/models/%zz:predict");
        check("POST", "/v1/models/%ff:predict");
        check("GET", "/v1/models/../../etc/passwd");
        check("GET", "/v1/other");
        let number = "99999999999999999999";
        let message = format!("Failed to convert version: {number} to numeric.");
        let path = format!("/v1/models/m/versions/{number}:predict");
        assert_eq!(to("POST", &path), Some(Err(Failure::invalid(message))));
        for path in ["/", "", "/v2/models/m", "/v1", "/../v1/models/m", "/metrics2", "/é"] {
            assert_eq!(to("GET", path), None, "{path}");
        }
    }
}
