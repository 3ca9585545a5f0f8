//! Whether a request opens a WebSocket: RFC 6455, section 4.2.1, with lists read as RFC 9110, section 5.6.1 has them.

use axum::{
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Version, header},
    response::{IntoResponse, Response},
};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{GeneralPurpose, GeneralPurposeConfig},
};
use sha1::{Digest, Sha1};

use crate::protocol::Dialect;

/// What a server appends to a client's key before it hashes the two (RFC 6455, section 1.3).
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// The only version of the protocol.
const VERSION: &str = "13";

/// The subprotocol that a client may offer: what docs/protocol.md describes, with slim frames.
const SUBPROTOCOL: HeaderValue = HeaderValue::from_static("roomcast.v1");

/// What a client offers beside it that wants to know which server took each message.
const WITH_ORIGIN: &str = "roomcast.origin";

/// How many bytes a key encodes.
const KEY_LENGTH: usize = 16;

/// Some clients write any letter before the padding of their key, which leaves unused bits that are not 0.
const BASE64: GeneralPurpose =
    GeneralPurpose::new(&STANDARD, GeneralPurposeConfig::new().with_decode_allow_trailing_bits(true));

/// Why a request does not open a WebSocket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Method,
    OldHttp,
    Host,
    Connection,
    Upgrade,
    Body,
    TwoVersions,
    Version,
    Key,
}

impl Refusal {
    fn text(self) -> &'static str {
        match self {
            Self::Method => "the method has to be GET",
            Self::OldHttp => "it needs HTTP/1.1",
            Self::Host => "it needs one Host header",
            Self::Connection => "its Connection header does not list Upgrade",
            Self::Upgrade => "its Upgrade header does not list websocket",
            Self::Body => "it must not have a body",
            Self::TwoVersions => "it has more than one Sec-WebSocket-Version header",
            Self::Version => "its Sec-WebSocket-Version has to be 13",
            Self::Key => "it needs one Sec-WebSocket-Key header, with 16 bytes in base64",
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let text = format!("this is no request for a WebSocket: {}\n", self.text());
        match self {
            Self::Method => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET")], text).into_response(),
            Self::Version => {
                let headers = [
                    (header::CONNECTION, "Upgrade"),
                    (header::UPGRADE, "websocket"),
                    (header::SEC_WEBSOCKET_VERSION, VERSION),
                ];
                (StatusCode::UPGRADE_REQUIRED, headers, text).into_response()
            }
            _ => (StatusCode::BAD_REQUEST, text).into_response(),
        }
    }
}

/// Whether a request concerns WebSockets at all, correctly or not.
pub(super) fn is_meant(headers: &HeaderMap) -> bool {
    lists(headers, &header::UPGRADE, "websocket")
        || headers.contains_key(header::SEC_WEBSOCKET_KEY)
        || headers.contains_key(header::SEC_WEBSOCKET_VERSION)
}

/// The value of `Sec-WebSocket-Accept` for a request that opens a WebSocket.
///
/// # Errors
/// The first mistake in it. The version is checked last, so that a wrong one is reported only for a real request for a
/// WebSocket.
pub(super) fn check(method: &Method, version: Version, headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
    let demand = |holds: bool, refusal| if holds { Ok(()) } else { Err(refusal) };
    demand(method == Method::GET, Refusal::Method)?;
    demand(version >= Version::HTTP_11, Refusal::OldHttp)?;
    demand(lists(headers, &header::UPGRADE, "websocket"), Refusal::Upgrade)?;
    demand(lists(headers, &header::CONNECTION, "upgrade"), Refusal::Connection)?;
    demand(only(headers, &header::HOST).is_some_and(|host| !host.is_empty()), Refusal::Host)?;
    let is_empty = headers.get_all(header::CONTENT_LENGTH).iter().all(|length| length == "0");
    demand(is_empty && !headers.contains_key(header::TRANSFER_ENCODING), Refusal::Body)?;
    let versions = headers.get_all(header::SEC_WEBSOCKET_VERSION).iter().count();
    demand(versions <= 1, Refusal::TwoVersions)?;
    demand(only(headers, &header::SEC_WEBSOCKET_VERSION).is_some_and(|it| it == VERSION), Refusal::Version)?;
    only(headers, &header::SEC_WEBSOCKET_KEY).and_then(accept).ok_or(Refusal::Key)
}

/// How a client wants its frames that gets this answer: those that offer the subprotocol know what its slim frames leave out,
/// and may ask for the server of each message beside it.
pub(super) fn dialect(headers: &HeaderMap, answer: Option<&HeaderValue>) -> Dialect {
    match answer {
        None => Dialect::Json,
        Some(_) if items(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|offer| offer == WITH_ORIGIN) => {
            Dialect::SlimWithOrigin
        }
        Some(_) => Dialect::Slim,
    }
}

/// The value of `Sec-WebSocket-Protocol` in the answer, if the request offers what this server speaks; `None` if it
/// offers nothing, or only what must not be echoed, such as a token.
pub(super) fn subprotocol(headers: &HeaderMap) -> Option<HeaderValue> {
    // Unlike in the other lists, case matters: a client rejects an answer that it did not offer.
    items(headers, &header::SEC_WEBSOCKET_PROTOCOL).any(|offer| SUBPROTOCOL == offer).then_some(SUBPROTOCOL)
}

/// The value that proves to the client that its key was read; `None` if that is not a key.
fn accept(key: &HeaderValue) -> Option<HeaderValue> {
    let bytes = BASE64.decode(key).ok()?;
    if bytes.len() != KEY_LENGTH {
        return None;
    }
    let hash = Sha1::new().chain_update(key).chain_update(GUID).finalize();
    HeaderValue::try_from(BASE64.encode(hash)).ok()
}

/// Whether any line with this name lists this token, in any case.
fn lists(headers: &HeaderMap, name: &HeaderName, token: &str) -> bool {
    items(headers, name).any(|item| item.eq_ignore_ascii_case(token))
}

/// The items under this name: all lines form one list.
pub(super) fn items<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let lines = headers.get_all(name).iter().filter_map(|line| line.to_str().ok());
    lines.flat_map(|line| line.split(',')).map(|item| item.trim_matches([' ', '\t']))
}

/// The value of a header that appears once.
fn only<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a HeaderValue> {
    let mut lines = headers.get_all(name).iter();
    lines.next().filter(|_| lines.next().is_none())
}

#[cfg(test)]
mod tests {
    use super::*;

    const RIGHT: [(&str, &str); 5] = [
        ("host", "x"),
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];

    /// A valid request with all lines of one name replaced by these.
    fn with(name: &'static str, lines: &[&'static str]) -> HeaderMap {
        let kept = RIGHT.into_iter().filter(|(other, _)| *other != name);
        let lines = kept.chain(lines.iter().map(|line| (name, *line)));
        lines.map(|(name, line)| (HeaderName::from_static(name), HeaderValue::from_static(line))).collect()
    }

    fn get(headers: &HeaderMap) -> Result<HeaderValue, Refusal> {
        check(&Method::GET, Version::HTTP_11, headers)
    }

    /// The example of RFC 6455, section 1.3.
    #[test]
    fn the_example_of_the_standard_is_answered_as_there() {
        assert_eq!(get(&with("", &[])).unwrap(), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn lines_of_one_name_are_one_list_whose_case_and_blanks_do_not_matter() {
        for (name, lines) in [
            ("connection", &["keep-alive", "Upgrade"][..]),
            ("connection", &["Upgrade", "keep-alive"]),
            ("connection", &["keep-alive,\tUpgrade"]),
            ("connection", &["keep-alive , UPGRADE\t,"]),
            ("connection", &["keep-alive,upgrade"]),
            ("upgrade", &["websocket, h2c"]),
            ("upgrade", &["h2c", "WebSocket"]),
            ("sec-websocket-key", &["AAAAAAAAAAAAAAAAAAAAAB=="]),
            ("content-length", &["0"]),
        ] {
            assert!(get(&with(name, lines)).is_ok(), "{name}: {lines:?}");
        }
    }

    #[test]
    fn the_subprotocol_is_answered_to_those_who_offer_it() {
        for lines in [
            &["roomcast.v1"][..],
            &["roomcast.v1, roomcast.bearer.e30.e30.c2ln"],
            &["roomcast.bearer.e30.e30.c2ln,roomcast.v1"],
            &["chat", "\troomcast.v1 ,"],
            &["roomcast.v2, roomcast.v1"],
        ] {
            assert_eq!(subprotocol(&with("sec-websocket-protocol", lines)), Some(SUBPROTOCOL), "{lines:?}");
        }
        for lines in [
            &[][..],
            &[""],
            &["chat"],
            &["roomcast.v10"],
            &["Roomcast.V1"],
            &["roomcast.bearer.roomcast.v1"],
            &["roomcast.v1 x"],
        ] {
            assert_eq!(subprotocol(&with("sec-websocket-protocol", lines)), None, "{lines:?}");
        }
    }

    #[test]
    fn what_is_wrong_is_refused_by_its_name() {
        for (name, lines, refusal) in [
            ("connection", &["no upgrade"][..], Refusal::Connection),
            ("connection", &["keep-alive"], Refusal::Connection),
            ("connection", &[], Refusal::Connection),
            ("upgrade", &[], Refusal::Upgrade),
            ("upgrade", &["websocket2"], Refusal::Upgrade),
            ("host", &[], Refusal::Host),
            ("host", &[""], Refusal::Host),
            ("host", &["x", "x"], Refusal::Host),
            ("content-length", &["1"], Refusal::Body),
            ("transfer-encoding", &["chunked"], Refusal::Body),
            ("sec-websocket-version", &[], Refusal::Version),
            ("sec-websocket-version", &["8"], Refusal::Version),
            ("sec-websocket-version", &["13, 8"], Refusal::Version),
            ("sec-websocket-version", &["13", "8"], Refusal::TwoVersions),
            ("sec-websocket-version", &["13", "13"], Refusal::TwoVersions),
            ("sec-websocket-key", &[], Refusal::Key),
            ("sec-websocket-key", &[""], Refusal::Key),
            ("sec-websocket-key", &["abc"], Refusal::Key),
            ("sec-websocket-key", &["AAAAAAAAAAAAAAAAAAAAAA"], Refusal::Key),
            ("sec-websocket-key", &["AAAAAAAAAAAAAAAAAAAAAAAA"], Refusal::Key),
            ("sec-websocket-key", &["AAAAAAAAAAAAAAAAAAAA*A=="], Refusal::Key),
            ("sec-websocket-key", &["AAAAAAAAAAAAAAAAAAAAAA==", "AAAAAAAAAAAAAAAAAAAAAA=="], Refusal::Key),
        ] {
            assert_eq!(get(&with(name, lines)), Err(refusal), "{name}: {lines:?}");
        }
        let right = with("", &[]);
        assert_eq!(check(&Method::POST, Version::HTTP_11, &right), Err(Refusal::Method));
        assert_eq!(check(&Method::HEAD, Version::HTTP_11, &right), Err(Refusal::Method));
        assert_eq!(check(&Method::GET, Version::HTTP_10, &right), Err(Refusal::OldHttp));
    }

    #[test]
    fn a_refusal_says_what_the_client_can_do() {
        let response = Refusal::Version.into_response();
        assert_eq!(response.status(), StatusCode::UPGRADE_REQUIRED);
        for (name, value) in [("connection", "Upgrade"), ("upgrade", "websocket"), ("sec-websocket-version", "13")] {
            assert_eq!(response.headers()[name], value);
        }
        let response = Refusal::Method.into_response();
        assert_eq!(
            (response.status(), &response.headers()["allow"]),
            (StatusCode::METHOD_NOT_ALLOWED, &"GET".parse().unwrap())
        );
        assert_eq!(Refusal::Key.into_response().status(), StatusCode::BAD_REQUEST);
    }

    #[test]
    fn a_request_is_meant_for_a_websocket_if_it_names_one() {
        assert!(
            is_meant(&with("", &[])) && is_meant(&with("upgrade", &[])) && is_meant(&with("sec-websocket-key", &[]))
        );
        let others =
            [(header::UPGRADE, HeaderValue::from_static("h2c")), (header::HOST, HeaderValue::from_static("x"))];
        assert!(!is_meant(&others.into_iter().collect()) && !is_meant(&HeaderMap::new()));
    }
}
