use axum::http::{HeaderMap, Uri, header};

use super::handshake::items;

/// What an offered subprotocol begins with that carries a token.
const BEARER: &str = "roomcast.bearer.";

/// Where a request shows its token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// `Authorization: Bearer`: a program, which sees the status of the answer.
    Header,
    /// An offered subprotocol: a browser, which sees only close codes.
    Subprotocol,
    /// `?token=`, where proxies log it.
    Query,
}

/// A token, and where it was. It is shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Credential {
    pub(super) place: Place,
    pub(super) token: String,
}

impl Credential {
    /// The token of this request, from the best place that has one; from its query only if that `may` be.
    pub(super) fn of(headers: &HeaderMap, uri: &Uri, may_be_in_query: bool) -> Option<Self> {
        let found = |place, token: &str| Some(Self { place, token: token.to_owned() });
        let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
        let bearer =
            header.and_then(|value| value.split_once(' ')).filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
        if let Some((_, token)) = bearer {
            return found(Place::Header, token.trim());
        }
        if let Some(token) =
            items(headers, &header::SEC_WEBSOCKET_PROTOCOL).find_map(|offer| offer.strip_prefix(BEARER))
        {
            return found(Place::Subprotocol, token);
        }
        let mut pairs = uri.query().filter(|_| may_be_in_query)?.split('&');
        found(Place::Query, pairs.find_map(|pair| pair.strip_prefix("token="))?)
    }
}

impl std::fmt::Debug for Credential {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credential").field("place", &self.place).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use axum::http::{HeaderName, HeaderValue};

    use super::*;

    fn found(headers: &[(&'static str, &'static str)], uri: &str, may_be_in_query: bool) -> Option<(Place, String)> {
        let headers =
            headers.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)));
        let credential = Credential::of(&headers.collect(), &uri.parse().unwrap(), may_be_in_query)?;
        assert!(!format!("{credential:?}").contains(&credential.token));
        Some((credential.place, credential.token))
    }

    #[test]
    fn a_token_is_found_in_each_place_and_the_best_one_counts() {
        let (header, offer) =
            (("authorization", "bearer  a.b.c "), ("sec-websocket-protocol", "roomcast.v1, roomcast.bearer.d.e.f"));
        let query = "/ws?x=1&token=g.h.i";
        assert_eq!(found(&[header, offer], query, true), Some((Place::Header, "a.b.c".into())));
        assert_eq!(found(&[offer], query, true), Some((Place::Subprotocol, "d.e.f".into())));
        assert_eq!(found(&[], query, true), Some((Place::Query, "g.h.i".into())));
        assert_eq!(found(&[], query, false), None);
        assert_eq!(found(&[("authorization", "Basic YTpi")], "/ws", true), None);
        assert_eq!(found(&[("sec-websocket-protocol", "roomcast.v1")], "/ws?mytoken=a", true), None);
    }
}
