//! Which pages of other origins may read the answers: the CORS protocol of the Fetch standard. Credentials of the
//! browser (cookies) play no part; a page sends its API key itself.

use super::http::{Request, Response};
use anyhow::{Result, ensure};
use http::{HeaderName, HeaderValue, header};

/// The origins of `--cors_allow_origin`.
#[derive(Debug, Clone, Default)]
pub struct Cors {
    origins: Vec<HeaderValue>,
    any: bool,
}

impl Cors {
    /// # Errors
    /// One is no origin: `https://example.org`, with a port where it is not the scheme's own, `null` or `*`.
    pub fn new(origins: &[String]) -> Result<Cors> {
        let mut cors = Cors::default();
        for origin in origins {
            if origin == "*" {
                cors.any = true;
                continue;
            }
            let host = origin.split_once("://").map(|(_, host)| host);
            let fits = origin == "null"
                || host.is_some_and(|host| {
                    !host.is_empty() && !host.contains(['/', '?', '#', '@', '*', ' '])
                });
            let value = HeaderValue::from_str(&origin.to_ascii_lowercase()).ok();
            let Some(value) = value.filter(|_| fits) else {
                anyhow::bail!(
                    "'{origin}' is no origin; give scheme, host and port alone, as in https://example.org"
                );
            };
            cors.origins.push(value);
        }
        ensure!(!cors.any || cors.origins.is_empty(), "'*' allows every origin; give it alone");
        Ok(cors)
    }

    /// The answer to a browser that asks before it sends a request; `None` where `request` is no such question.
    pub fn preflight(&self, request: &Request) -> Option<Response> {
        let asks = request.method == "OPTIONS"
            && request.headers.contains_key(header::ORIGIN)
            && request.headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        if !asks || (!self.any && self.origins.is_empty()) {
            return None;
        }
        let mut response = Response { status: 204, ..Response::text("") };
        if self.allowed(request.headers.get(header::ORIGIN)).is_some() {
            let mut add =
                |name: HeaderName, value: HeaderValue| response.headers.push((name, value));
            add(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static("GET, HEAD, POST"));
            // what a header says is judged when it comes
            if let Some(asked) = request.headers.get(header::ACCESS_CONTROL_REQUEST_HEADERS) {
                add(header::ACCESS_CONTROL_ALLOW_HEADERS, asked.clone());
                add(header::VARY, HeaderValue::from_static("Access-Control-Request-Headers"));
            }
            add(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
        Some(response)
    }

    /// What the answer to a request from `origin` says of other origins.
    pub fn mark(&self, origin: Option<&HeaderValue>, response: &mut Response) {
        if let Some(origin) = self.allowed(origin) {
            response.headers.push((header::ACCESS_CONTROL_ALLOW_ORIGIN, origin));
            let exposed = HeaderValue::from_static(
                "Content-Encoding, Inference-Header-Content-Length, Retry-After, Traceparent",
            );
            response.headers.push((header::ACCESS_CONTROL_EXPOSE_HEADERS, exposed));
        }
        // else a cache would hand one origin's answer to another
        if !self.origins.is_empty() {
            response.headers.push((header::VARY, HeaderValue::from_static("Origin")));
        }
    }

    fn allowed(&self, origin: Option<&HeaderValue>) -> Option<HeaderValue> {
        let origin = origin?;
        match self.any {
            true => Some(HeaderValue::from_static("*")),
            false => self.origins.contains(origin).then(|| origin.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origins_have_scheme_and_host_alone() {
        let new = |origins: &[&str]| {
            Cors::new(&origins.iter().map(|origin| origin.to_string()).collect::<Vec<_>>())
        };
        for good in ["https://a.example", "http://localhost:3000", "http://[::1]:8080", "null"] {
            assert!(new(&[good]).is_ok(), "{good}");
        }
        assert!(new(&["*"]).is_ok() && new(&[]).is_ok());
        for bad in
            ["", "a.example", "https://", "https://a.example/", "https://*.example", "http://a\nb"]
        {
            assert!(new(&[bad]).is_err(), "{bad}");
        }
        assert!(new(&["*", "http://a"]).is_err());
    }
}
