//! The page at `/` and its files, which are part of the program. They need no third-party requests.

use axum::{
    Router,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use sha2::{Digest, Sha256};

const HTML: &str = "text/html; charset=utf-8";
const CSS: &str = "text/css; charset=utf-8";
const JAVASCRIPT: &str = "text/javascript; charset=utf-8";
const SVG: &str = "image/svg+xml";

/// What the page may do: load its own files, and talk to its own server. It cannot turn text into HTML.
///
/// `'self'` includes a WebSocket to the same host and port since CSP Level 3: in Firefox, in Chromium since 71 and in
/// Safari since 16. Older ones would need `ws:` and `wss:` here, which allow every host.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
                      base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; \
                      trusted-types 'none'";

/// The page's address contains the user's name, which no other site may learn.
const HEADERS: [(HeaderName, &str); 4] = [
    (header::CACHE_CONTROL, "no-cache"),
    (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
    (header::REFERRER_POLICY, "no-referrer"),
    (header::CONTENT_SECURITY_POLICY, POLICY),
];

const INDEX: File = File { path: "/", kind: HTML, text: include_str!("../../web/index.html") };

/// The JavaScript client, which pages of other origins may import too.
const CLIENT: File =
    File { path: "/roomcast.js", kind: JAVASCRIPT, text: include_str!("../../clients/js/dist/roomcast.js") };

/// The page's files, each with a path relative to the page, so that it works behind a proxy that strips a prefix.
const FILES: [File; 15] = [
    CLIENT,
    File { path: "/page.css", kind: CSS, text: include_str!("../../web/page.css") },
    File { path: "/icon.svg", kind: SVG, text: include_str!("../../web/icon.svg") },
    File { path: "/page.js", kind: JAVASCRIPT, text: include_str!("../../web/page.js") },
    File { path: "/cable.js", kind: JAVASCRIPT, text: include_str!("../../web/cable.js") },
    File { path: "/conversation.js", kind: JAVASCRIPT, text: include_str!("../../web/conversation.js") },
    File { path: "/dom.js", kind: JAVASCRIPT, text: include_str!("../../web/dom.js") },
    File { path: "/door.js", kind: JAVASCRIPT, text: include_str!("../../web/door.js") },
    File { path: "/links.js", kind: JAVASCRIPT, text: include_str!("../../web/links.js") },
    File { path: "/log.js", kind: JAVASCRIPT, text: include_str!("../../web/log.js") },
    File { path: "/rows.js", kind: JAVASCRIPT, text: include_str!("../../web/rows.js") },
    File { path: "/status.js", kind: JAVASCRIPT, text: include_str!("../../web/status.js") },
    File { path: "/store.js", kind: JAVASCRIPT, text: include_str!("../../web/store.js") },
    File { path: "/tally.js", kind: JAVASCRIPT, text: include_str!("../../web/tally.js") },
    File { path: "/token.js", kind: JAVASCRIPT, text: include_str!("../../web/token.js") },
];

/// A file in the program.
#[derive(Clone, Copy, Debug)]
struct File {
    path: &'static str,
    kind: &'static str,
    text: &'static str,
}

/// A file with its tag, which tells a browser whether it has it already.
#[derive(Clone, Debug)]
pub(super) struct Page {
    file: File,
    tag: HeaderValue,
}

impl Page {
    /// The page itself; its files have their own [routes](files).
    pub(super) fn index() -> Self {
        Self::of(INDEX)
    }

    fn of(file: File) -> Self {
        let hash = hex(&Sha256::digest(file.text)[..16]);
        let tag = HeaderValue::try_from(format!("\"{hash}\"")).expect("hexadecimal digits between quotes");
        Self { file, tag }
    }

    /// The answer to a request with these headers: the file, or 304 if the client has it.
    pub(super) fn answer(&self, headers: &HeaderMap) -> Response {
        let own = [(header::ETAG, self.tag.clone())];
        if self.is_known(headers) {
            return (StatusCode::NOT_MODIFIED, HEADERS, own).into_response();
        }
        ([(header::CONTENT_TYPE, self.file.kind)], HEADERS, own, self.file.text).into_response()
    }

    /// Whether the client has this file already (RFC 9110, section 13.1.2: a weak comparison, because a compressing
    /// proxy weakens the tag).
    fn is_known(&self, headers: &HeaderMap) -> bool {
        let lines = headers.get_all(header::IF_NONE_MATCH).iter().filter_map(|line| line.to_str().ok());
        let mut tags = lines.flat_map(|line| line.split(',')).map(str::trim);
        tags.any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == self.tag)
    }
}

/// The routes of all files but the page itself.
pub(super) fn files<S: Clone + Send + Sync + 'static>() -> Router<S> {
    FILES.into_iter().fold(Router::new(), |routes, file| {
        let page = Page::of(file);
        let shared = (file.path == CLIENT.path).then_some([(header::ACCESS_CONTROL_ALLOW_ORIGIN, "*")]);
        routes.route(file.path, get(async move |headers: HeaderMap| (shared, page.answer(&headers))))
    })
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
