//! The status page at `/`: models, versions and how they do, in a browser without anything else, and a form to try a
//! picture. It only looks; nothing is changed from here.

mod history;
mod overview;
mod picture;

use super::Server;
use super::failure::{Answer, Failure};
use super::http::{Request, Response};
use super::metrics::{Kind, resident_bytes};
use super::rest::route::{Route, route};
use crate::format::base64;
use history::{History, Now, STEP};
use http::{HeaderValue, header};
use sha2::{Digest, Sha256};
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Instant;

/// What the page needs beside what is served now.
pub struct Status {
    started: Instant,
    history: Mutex<History>,
}

impl Status {
    pub fn new() -> Status {
        Status { started: Instant::now(), history: Mutex::default() }
    }
}

/// Samples what happens, for ever.
pub async fn watch(server: Arc<Server>) {
    let mut last = Instant::now();
    let mut ticks = tokio::time::interval(STEP);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let (all, mut versions) = server.metrics.totals();
        let served = server.registry.queues();
        versions.retain(|name, _| served.iter().any(|(m, v, _)| (m, v) == (&name.0, &name.1)));
        let connections = server.metrics.connections.load(Relaxed);
        let now = Now { versions, all, memory: resident_bytes(), connections };
        let seconds = last.elapsed().as_secs_f64();
        last = Instant::now();
        server.status.history.lock().unwrap_or_else(PoisonError::into_inner).add(now, seconds);
    }
}

/// What a path of the page asks for.
#[derive(Debug, PartialEq, Eq)]
pub enum Wish {
    Page,
    Overview,
    /// The path of the same question to the model's `predict`.
    Picture(String),
}

/// `None` where the path is none of the page's.
pub fn wish(method: &str, path: &str) -> Option<Wish> {
    match (method, path) {
        ("GET", "/") => Some(Wish::Page),
        ("GET", "/ui/overview") => Some(Wish::Overview),
        ("POST", _) => {
            let rest = path.strip_prefix("/ui/models/")?.strip_suffix(":image")?;
            Some(Wish::Picture(format!("/v1/models/{rest}:predict")))
        }
        _ => None,
    }
}

pub async fn answer(
    server: &Arc<Server>,
    wish: Wish,
    request: Request,
    kind: &mut Option<Kind>,
) -> Answer<Response> {
    match wish {
        Wish::Page => Ok(page(server)),
        Wish::Overview => Ok(html(overview(server))),
        Wish::Picture(path) => {
            let malformed = || Failure::invalid(format!("Malformed request: {}", request.path));
            match route("POST", &path, None).ok_or_else(malformed)?? {
                Route::Infer { model, wanted, .. } => {
                    let asked = picture::Asked { model, wanted, came: request.came };
                    picture::classify(server, asked, request.body, kind).await
                }
                _ => Err(malformed()),
            }
        }
    }
}

fn overview(server: &Server) -> String {
    let history = server.status.history.lock().unwrap_or_else(PoisonError::into_inner);
    overview::write(server, &history, server.status.started.elapsed())
}

const STYLE: &str = include_str!("page.css");
const SCRIPT: &str = include_str!("page.js");
const FORM: &str = include_str!("form.html");
const ICON: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E%3Crect width='16' height='16' rx='4' fill='%234263eb'/%3E%3Cpath d='M3 11l3-4 2.5 2.5L13 4' stroke='%23fff' stroke-width='1.7' fill='none' stroke-linecap='round' stroke-linejoin='round'/%3E%3C/svg%3E";

/// Nothing but the page's own style and script, which their hashes tell.
static POLICY: LazyLock<HeaderValue> = LazyLock::new(|| {
    let hash = |text: &str| base64::encode(&Sha256::digest(text));
    let policy = format!(
        "default-src 'none'; style-src 'sha256-{}'; script-src 'sha256-{}'; img-src data: blob:; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
        hash(STYLE),
        hash(SCRIPT)
    );
    HeaderValue::from_str(&policy).unwrap_or(HeaderValue::from_static("default-src 'none'"))
});

fn page(server: &Server) -> Response {
    let metrics = server.options.metrics_path.as_deref().map(|path| {
        let path = overview::escaped(path.trim_start_matches('/'));
        format!("<a href=\"{path}\">Metrics</a>")
    });
    html(format!(
        "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta name=\"color-scheme\" content=\"light dark\">\n<title>mlctl serve</title>\n\
         <link rel=\"icon\" href=\"{ICON}\">\n<noscript><meta http-equiv=\"refresh\" content=\"10\"></noscript>\n\
         <style>{STYLE}</style>\n</head>\n<body>\n<div id=\"overview\">\n{}</div>\n{FORM}\
         <footer><span>mlctl {}</span><a href=\"v1/models\">Status as JSON</a>{}</footer>\n\
         <script>{SCRIPT}</script>\n</body>\n</html>\n",
        overview(server),
        env!("CARGO_PKG_VERSION"),
        metrics.unwrap_or_default()
    ))
}

fn html(text: String) -> Response {
    let fixed = HeaderValue::from_static;
    Response {
        content_type: "text/html; charset=utf-8",
        headers: vec![
            (header::CONTENT_SECURITY_POLICY, POLICY.clone()),
            (header::X_CONTENT_TYPE_OPTIONS, fixed("nosniff")),
            (header::REFERRER_POLICY, fixed("no-referrer")),
            (header::CACHE_CONTROL, fixed("no-store")),
        ],
        ..Response::text(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_page() {
        assert_eq!(wish("GET", "/"), Some(Wish::Page));
        assert_eq!(wish("GET", "/ui/overview"), Some(Wish::Overview));
        let picture = |path: &str| Some(Wish::Picture(path.into()));
        assert_eq!(wish("POST", "/ui/models/m:image"), picture("/v1/models/m:predict"));
        assert_eq!(
            wish("POST", "/ui/models/a%2Fb/versions/2:image"),
            picture("/v1/models/a%2Fb/versions/2:predict")
        );
        for (method, path) in
            [("POST", "/"), ("GET", "/ui/models/m:image"), ("POST", "/ui/models/m"), ("GET", "//")]
        {
            assert_eq!(wish(method, path), None, "{method} {path}");
        }
    }

    /// An element of the page must not end the one that it is written into.
    #[test]
    fn style_and_script_stay_within_their_elements() {
        assert!(!STYLE.contains("</") && !SCRIPT.contains("</script") && !SCRIPT.contains("<!--"));
        assert!(!FORM.contains("style=") && !FORM.contains("onclick"));
        assert!(POLICY.to_str().unwrap().contains("script-src 'sha256-"));
    }
}
