//! The page: static files that hold no secret, so that a browser may have them before it has a token.

use axum::Router;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use http::HeaderName;
use http::header::{CONTENT_TYPE, HeaderValue};

/// A file of the page.
struct Part {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

macro_rules! part {
    ($path:expr, $kind:expr, $file:literal) => {
        Part { path: $path, kind: $kind, text: include_str!(concat!("page/", $file)) }
    };
}

macro_rules! scripts {
    ($($name:literal),*) => {
        [$(part!(concat!("/", $name), "text/javascript; charset=utf-8", $name)),*]
    };
}

const PARTS: [Part; 3] = [
    part!("/", "text/html; charset=utf-8", "index.html"),
    part!("/page.css", "text/css; charset=utf-8", "page.css"),
    part!("/icon.svg", "image/svg+xml", "icon.svg"),
];

const SCRIPTS: [Part; 16] = scripts![
    "page.js",
    "acts.js",
    "api.js",
    "column.js",
    "details.js",
    "dialog.js",
    "dom.js",
    "events.js",
    "head.js",
    "model.js",
    "service.js",
    "session.js",
    "sketch.js",
    "stream.js",
    "watch.js",
    "words.js"
];

/// Nothing is loaded from elsewhere, nothing is framed, and no script stands in the text.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
    base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

fn parts() -> impl Iterator<Item = &'static Part> {
    PARTS.iter().chain(&SCRIPTS)
}

/// Whether a path is one of the page's files.
pub(super) fn is_part(path: &str) -> bool {
    parts().any(|part| part.path == path)
}

pub(super) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    parts().fold(Router::new(), |router, part| router.route(part.path, get(async move || serve(part))))
}

fn serve(part: &'static Part) -> Response {
    let mut response = part.text.into_response();
    let headers = response.headers_mut();
    for (name, value) in [
        (CONTENT_TYPE, part.kind),
        (HeaderName::from_static("content-security-policy"), POLICY),
        (HeaderName::from_static("referrer-policy"), "no-referrer"),
        (HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_file_of_the_page_is_served() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/admin/page");
        let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let files: BTreeSet<String> = files.map(|name| format!("/{name}").replace("/index.html", "/")).collect();
        let served: BTreeSet<String> = parts().map(|part| part.path.to_owned()).collect();
        assert_eq!(served, files);
        assert!(parts().all(|part| !part.text.is_empty()));
    }
}
