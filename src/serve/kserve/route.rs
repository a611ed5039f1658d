//! Which path of `/v2` asks for what. Paths are case-sensitive, as the protocol has it; each part is percent-decoded
//! after the path is cut.

use crate::serve::failure::{Answer, Code, Failure};
use crate::serve::rest::route::decoded;

/// A model, and the text that names its version: empty for the newest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Of {
    pub model: String,
    pub version: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Route {
    Server,
    Live,
    Ready,
    /// Of all models.
    Statistics,
    Index,
    LoadOrUnload,
    Metadata(Of),
    ModelReady(Of),
    ModelConfig(Of),
    ModelStatistics(Of),
    Infer(Of),
}

/// `None` where the path is not of this protocol.
pub fn route(method: &str, path: &str) -> Option<Answer<Route>> {
    let rest = path.strip_prefix("/v2").filter(|rest| rest.is_empty() || rest.starts_with('/'))?;
    let rest = rest.strip_prefix('/').unwrap_or(rest);
    let found = match rest {
        "" => Some(vec![]),
        _ => rest.split('/').map(decoded).collect(),
    };
    let unknown = || Failure::new(Code::NotFound, format!("Not found: {method} {path}"));
    let found: Option<Vec<String>> = found;
    Some(found.and_then(|parts| route_parts(method, &parts)).ok_or_else(unknown))
}

fn route_parts(method: &str, parts: &[String]) -> Option<Route> {
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let (model, rest) = match (method, parts.as_slice()) {
        ("GET", []) => return Some(Route::Server),
        ("GET", ["health", "live"]) => return Some(Route::Live),
        ("GET", ["health", "ready"]) => return Some(Route::Ready),
        ("GET", ["models", "stats"]) => return Some(Route::Statistics),
        ("POST", ["repository", "index"]) => return Some(Route::Index),
        ("POST", ["repository", "models", _, "load" | "unload"]) => {
            return Some(Route::LoadOrUnload);
        }
        (_, ["models", model, rest @ ..]) => (model, rest),
        _ => return None,
    };
    let (version, rest) = match rest {
        ["versions", version, rest @ ..] => (*version, rest),
        rest => ("", rest),
    };
    let of = Of { model: (*model).into(), version: version.into() };
    Some(match (method, rest) {
        ("GET", []) => Route::Metadata(of),
        ("GET", ["ready"]) => Route::ModelReady(of),
        ("GET", ["config"]) => Route::ModelConfig(of),
        ("GET", ["stats"]) => Route::ModelStatistics(of),
        ("POST", ["infer"]) => Route::Infer(of),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let check = |method: &str, path: &str, expected: Route| {
            assert_eq!(route(method, path), Some(Ok(expected)), "{path}");
        };
        let of = |model: &str, version: &str| Of { model: model.into(), version: version.into() };
        check("GET", "/v2", Route::Server);
        check("GET", "/v2/", Route::Server);
        check("GET", "/v2/health/live", Route::Live);
        check("GET", "/v2/health/ready", Route::Ready);
        check("GET", "/v2/models/stats", Route::Statistics);
        check("POST", "/v2/repository/index", Route::Index);
        check("POST", "/v2/repository/models/m/unload", Route::LoadOrUnload);
        check("GET", "/v2/models/m", Route::Metadata(of("m", "")));
        check("GET", "/v2/models/stats/ready", Route::ModelReady(of("stats", "")));
        check("GET", "/v2/models/a%2Fb%20c/versions/7", Route::Metadata(of("a/b c", "7")));
        check("GET", "/v2/models/m/versions/stable/ready", Route::ModelReady(of("m", "stable")));
        check("GET", "/v2/models/m/config", Route::ModelConfig(of("m", "")));
        check("GET", "/v2/models/m/versions/1/stats", Route::ModelStatistics(of("m", "1")));
        check("POST", "/v2/models/m/infer", Route::Infer(of("m", "")));
        check("POST", "/v2/models/m/versions/1/infer", Route::Infer(of("m", "1")));
    }

    #[test]
    fn what_is_no_path() {
        for (method, path) in [
            ("GET", "/v2/models/m/infer"),
            ("POST", "/v2/models/m"),
            ("POST", "/v2/models/m/versions/infer"),
            ("POST", "/v2/models//infer"),
            ("POST", "/v2/models/%ff/infer"),
            ("POST", "/v2/models/m/infer/"),
            ("GET", "/v2/Models/m"),
            ("GET", "/v2/models"),
            ("GET", "/v2/systemsharedmemory/status"),
            ("GET", "/v2/models/../../etc/passwd"),
        ] {
            let failure = Failure::new(Code::NotFound, format!("Not found: {method} {path}"));
            assert_eq!(route(method, path), Some(Err(failure)), "{path}");
        }
        for path in ["/v1/models/m", "/v2x", "/", "", "/V2"] {
            assert_eq!(route("GET", path), None, "{path}");
        }
    }
}
