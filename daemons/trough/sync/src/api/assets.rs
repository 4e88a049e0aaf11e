//! The status page's files, kept in the binary: nothing is built, nothing comes from elsewhere. They read `/v1/…` of the
//! server that they came from.

use axum::{
    extract::Path,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse as _, Response},
};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JS: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// Scripts and styles from this server only, and none in the page itself; nothing may frame it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

const PAGE: &str = include_str!("../../web/index.html");

macro_rules! assets {
    ($($name:literal $kind:ident),* $(,)?) => {
        &[$(($name, $kind, include_str!(concat!("../../web/", $name)))),*]
    };
}

const ASSETS: &[(&str, &str, &str)] = assets![
    "base.css" CSS,
    "parts.css" CSS,
    "icon.svg" SVG,
    "main.js" JS,
    "api.js" JS,
    "dom.js" JS,
    "format.js" JS,
    "charts.js" JS,
    "overview.js" JS,
    "workers.js" JS,
    "activity.js" JS,
    "problems.js" JS,
    "segments.js" JS,
    "story.js" JS,
    "query.js" JS,
    "operations.js" JS,
    "controls.js" JS,
    "session.js" JS,
];

/// `GET /` for browsers. Others get the 405 that the Python trough gives.
pub(super) async fn page(headers: HeaderMap) -> Response {
    let accepts = headers.get(header::ACCEPT).and_then(|v| v.to_str().ok()).unwrap_or("");
    if !accepts.contains("text/html") {
        return (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "POST")]).into_response();
    }
    ([(header::CONTENT_SECURITY_POLICY, POLICY)], file(HTML, PAGE)).into_response()
}

/// `GET /assets/NAME`.
pub(super) async fn asset(Path(name): Path<String>) -> Response {
    match ASSETS.iter().find(|(known, ..)| *known == name) {
        Some((_, kind, text)) => file(kind, text),
        None => trough_http::plain(StatusCode::NOT_FOUND, "404 Not Found: there is no such file\n"),
    }
}

fn file(kind: &'static str, text: &'static str) -> Response {
    (
        [
            (header::CONTENT_TYPE, kind),
            // Asked for again each time, and answered with 304 until another version runs.
            (header::CACHE_CONTROL, "no-cache"),
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::REFERRER_POLICY, "no-referrer"),
        ],
        text,
    )
        .into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_is_small_and_names_only_files_that_there_are() {
        let bytes: usize = PAGE.len() + ASSETS.iter().map(|(.., text)| text.len()).sum::<usize>();
        assert!(bytes < 120_000, "{bytes} bytes");
        let texts = ASSETS.iter().map(|(.., text)| *text).chain([PAGE]);
        for text in texts.clone() {
            assert!(!text.contains("innerHTML"), "what the server says is set as text");
            assert!(!text.replace("http://www.w3.org/2000/svg", "").contains("//www"), "nothing comes from elsewhere");
            for name in text.split("/assets/").skip(1).map(|rest| rest.split('"').next().unwrap_or_default()) {
                assert!(ASSETS.iter().any(|(known, ..)| *known == name), "{name}");
            }
            for name in text.split("from './").skip(1).map(|rest| rest.split('\'').next().unwrap_or_default()) {
                assert!(ASSETS.iter().any(|(known, ..)| *known == name), "{name}");
            }
        }
        for (name, ..) in ASSETS {
            assert!(texts.clone().any(|text| text.contains(name)), "{name} is used nowhere");
        }
    }
}
