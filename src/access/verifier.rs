use std::{
    collections::HashSet,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header, errors::ErrorKind};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{BadClaim, KeySet, Pass, Permissions, TokenId};
use crate::protocol::{Limits, NameError, Username};

/// Longest token, in bytes: as much as fits into the head of a request, with room for the rest of it.
const LONGEST: usize = 8 << 10;

/// The latest time that a token may name, in seconds since 1970: the year 9999.
const LAST_SECOND: f64 = 253_402_300_799.0;

/// What a token must have beside a signature.
#[derive(Clone, Debug)]
pub struct Checks {
    /// One of these must be in its `aud`, if there are any.
    pub audiences: Vec<String>,
    /// One of these must be its `iss`, if there are any.
    pub issuers: Vec<String>,
    /// The claims that it must have.
    pub required: Vec<String>,
    /// How long a token may still be good for.
    pub longest: Duration,
    /// How far clocks may be apart.
    pub leeway: Duration,
    /// The name of the claim with the rights.
    pub claim: String,
    /// The bounds on names.
    pub limits: Limits,
}

/// Decides whether a token is true, and what it allows. It has no keys of its own, and no clock.
#[derive(Clone, Debug)]
pub struct Verifier {
    checks: Checks,
}

/// Why a token is refused. The text is a sentence for whoever sent the token, and quotes no more of it than that shows what
/// is wrong: names of claims, of its key, and what a claim has in the place of what it must have. No log has it.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the texts say it")]
pub enum TokenError {
    #[error("this is not a JSON Web Token: three parts in base64url, with dots between them")]
    Malformed,
    #[error("the token's header or its claims are not as they must be")]
    Unreadable,
    #[error("the token has {0} bytes; a server takes {LONGEST}")]
    TooLong(usize),
    #[error(
        "the token is signed with an algorithm that is not taken here; take HS256, RS256, PS256, ES256, EdDSA or a longer one"
    )]
    Algorithm,
    #[error("no key of this server fits the token's algorithm {algorithm}{}", of_key(.key.as_deref()))]
    UnknownKey { algorithm: String, key: Option<String> },
    #[error("the token's signature is not of a key of this server")]
    Signature,
    #[error("the token has no `{0}`, which this server demands")]
    Missing(String),
    #[error("the token's `{0}` is not as it must be")]
    BadClaim(&'static str),
    #[error("the token ended {0} s ago")]
    Expired(u64),
    #[error("the token ends too late: this server takes none that is good for more than {0} s")]
    TooLasting(u64),
    #[error("the token begins only in {0} s")]
    TooEarly(u64),
    #[error("the token's `aud` names none of this server's audiences")]
    Audience,
    #[error("the token's `iss` is none of this server's issuers")]
    Issuer,
    #[error("the token's `sub` cannot be a username: it {0}")]
    Subject(NameError),
    #[error(
        "the token's `sub` is not written as others would see it: in Unicode NFC, with single spaces and none at the ends"
    )]
    SubjectForm,
    #[error("the token's `{0}` {1}")]
    Permissions(String, BadClaim),
    #[error("the token was revoked")]
    Revoked,
    #[error("this server has no keys to check tokens with")]
    NoKeys,
    #[error("this server's keys could not be fetched yet; try again later")]
    KeysAway,
}

impl Verifier {
    /// Makes these checks.
    pub fn new(checks: Checks) -> Self {
        Self { checks }
    }

    /// Checks a token's signature, times and claims. Returns what it allows, and what it has that has no effect.
    ///
    /// # Errors
    /// The first mistake.
    pub fn verify(&self, keys: &KeySet, token: &str, now: SystemTime) -> Result<(Pass, Vec<String>), TokenError> {
        if token.len() > LONGEST {
            return Err(TokenError::TooLong(token.len()));
        }
        let header = read_header(token)?;
        let claims = signed_claims(keys, token, &header)?;
        if let Some(missing) = self.checks.required.iter().find(|name| claims.get(*name).is_none_or(Value::is_null)) {
            return Err(TokenError::Missing(missing.clone()));
        }
        let expires_at = time(&claims, "exp")?;
        let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        let leeway = self.checks.leeway;
        if let Some(end) = expires_at
            && now >= end + leeway
        {
            return Err(TokenError::Expired((now - end).as_secs()));
        }
        // A clock that is ahead must not make a token younger than its revocation.
        let issued_at = time(&claims, "iat")?.map(|issued| issued.min(now));
        // From its issue, as one that is too lasting today must not become a good one when its revocation is forgotten.
        let since = issued_at.unwrap_or(now);
        if expires_at.is_some_and(|end| end > since + self.checks.longest + leeway) {
            return Err(TokenError::TooLasting(self.checks.longest.as_secs()));
        }
        if let Some(begin) = time(&claims, "nbf")?
            && now + leeway < begin
        {
            return Err(TokenError::TooEarly((begin - now).as_secs()));
        }
        is_one_of(&self.checks.audiences, claims.get("aud")).then_some(()).ok_or(TokenError::Audience)?;
        is_one_of(&self.checks.issuers, claims.get("iss")).then_some(()).ok_or(TokenError::Issuer)?;

        let subject = text(&claims, "sub")?.ok_or_else(|| TokenError::Missing("sub".into()))?;
        let user = Username::parse(subject, self.checks.limits.username).map_err(TokenError::Subject)?;
        // Else two subjects that an issuer takes for two users could get one name here.
        if user.as_str() != subject {
            return Err(TokenError::SubjectForm);
        }
        let (name, longest) = (&self.checks.claim, self.checks.limits.room);
        let permissions =
            claims.get(name).filter(|claim| !claim.is_null()).map(|claim| Permissions::read(claim, longest));
        let permissions = permissions.unwrap_or_else(|| Ok(Permissions::default()));
        let permissions = permissions.map_err(|why| TokenError::Permissions(name.clone(), why))?;
        let mut pass = Pass {
            user: Some(user),
            grants: permissions.grants,
            auto_join: permissions.auto_join,
            expires_at: expires_at.map(|end| UNIX_EPOCH + end + leeway),
            token: Some(TokenId {
                id: text(&claims, "jti")?.map(str::to_owned),
                issued_at: issued_at.map(|time| UNIX_EPOCH + time),
            }),
        };
        let mut unknown = permissions.unknown;
        // The personal rooms of others.
        let (may_join, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut pass.auto_join).into_iter().partition(|room| pass.may_be_joined(room));
        unknown.extend(others.iter().map(|room| format!("the personal room {:?} in `auto_join`", room.as_str())));
        pass.auto_join = may_join;
        Ok((pass, unknown))
    }
}

fn read_header(token: &str) -> Result<Header, TokenError> {
    let header = decode_header(token).map_err(|error| match error.kind() {
        // serde says so of an algorithm that the crate does not know, "none" among them.
        ErrorKind::Json(why) if why.to_string().contains("unknown variant") => TokenError::Algorithm,
        ErrorKind::Json(_) | ErrorKind::Utf8(_) => TokenError::Unreadable,
        _ => TokenError::Malformed,
    })?;
    // What a critical extension asks for must be understood (RFC 7515, section 4.1.11), and none is here.
    if header.crit.is_some() { Err(TokenError::Unreadable) } else { Ok(header) }
}

/// The claims, if a key vouches for them.
fn signed_claims(keys: &KeySet, token: &str, header: &Header) -> Result<Map<String, Value>, TokenError> {
    let (id, mut is_known) = (header.kid.as_deref(), false);
    let validation = signature_alone(header.alg);
    for key in keys.candidates(id, header.alg) {
        is_known = true;
        match decode::<Map<String, Value>>(token, key, &validation) {
            Ok(decoded) => return Ok(decoded.claims),
            Err(error) => match error.kind() {
                ErrorKind::Json(_) | ErrorKind::Utf8(_) => return Err(TokenError::Unreadable),
                // Another key may have signed it.
                _ => {}
            },
        }
    }
    if is_known {
        return Err(TokenError::Signature);
    }
    Err(TokenError::UnknownKey { algorithm: format!("{:?}", header.alg), key: header.kid.clone() })
}

/// The crate checks the signature; the claims are checked here, against a time that comes from outside.
fn signature_alone(algorithm: Algorithm) -> Validation {
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims = HashSet::new();
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation
}

/// A time as tokens have it: seconds since 1970, with or without a fraction.
fn time(claims: &Map<String, Value>, name: &'static str) -> Result<Option<Duration>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => {
            let seconds = value.as_f64().filter(|seconds| (0.0..=LAST_SECOND).contains(seconds));
            seconds.map(|seconds| Some(Duration::from_secs_f64(seconds))).ok_or(TokenError::BadClaim(name))
        }
    }
}

fn text<'a>(claims: &'a Map<String, Value>, name: &'static str) -> Result<Option<&'a str>, TokenError> {
    match claims.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text)),
        Some(_) => Err(TokenError::BadClaim(name)),
    }
}

/// Whether a claim names one of these; any does if there are none.
fn is_one_of(allowed: &[String], claim: Option<&Value>) -> bool {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum OneOrMany {
        One(String),
        Many(Vec<String>),
    }
    let named = match claim.map(OneOrMany::deserialize) {
        Some(Ok(OneOrMany::One(name))) => vec![name],
        Some(Ok(OneOrMany::Many(names))) => names,
        _ => Vec::new(),
    };
    allowed.is_empty() || named.iter().any(|name| allowed.contains(name))
}

fn of_key(key: Option<&str>) -> String {
    key.map_or(String::new(), |key| format!(" and key {:?}", key.chars().take(64).collect::<String>()))
}

#[cfg(test)]
mod tests {
    use jsonwebtoken::{EncodingKey, encode};
    use proptest::prelude::*;
    use rcgen::{
        KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, PKCS_RSA_SHA256, PublicKeyData,
    };
    use serde_json::json;

    use super::*;
    use crate::protocol::{Right, RoomId};

    const SECRET: &[u8] = b"a secret of at least 32 bytes, for the tests";
    const NOW: u64 = 1_800_000_000;

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(NOW)
    }

    fn verifier() -> Verifier {
        Verifier::new(Checks {
            audiences: vec!["chat".into(), "chat-test".into()],
            issuers: vec!["https://issuer/".into()],
            required: vec!["exp".into(), "aud".into()],
            longest: Duration::from_secs(3600),
            leeway: Duration::from_secs(10),
            claim: "roomcast".into(),
            limits: Limits { room: 128, username: 64, id: 64, text: 100 },
        })
    }

    fn claims() -> Value {
        json!({"sub": "ann", "exp": NOW + 60, "aud": "chat", "iss": "https://issuer/",
            "roomcast": {"rooms": {"a": ["join"]}}})
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    fn signed(claims: &Value) -> String {
        encode(&Header::default(), claims, &EncodingKey::from_secret(SECRET)).unwrap()
    }

    fn keys() -> KeySet {
        KeySet::from_secret(SECRET).unwrap()
    }

    fn verified(token: &str) -> Result<(Pass, Vec<String>), TokenError> {
        verifier().verify(&keys(), token, now())
    }

    #[test]
    fn a_true_token_says_who_and_what_and_until_when() {
        let mut token = with("jti", "7".into());
        token["iat"] = json!(NOW as f64 - 0.5);
        token["aud"] = json!(["other", "chat-test"]);
        let (pass, unknown) = verified(&signed(&token)).unwrap();
        assert_eq!(pass.user.as_ref().unwrap().as_str(), "ann");
        assert!(pass.in_room(&RoomId::parse("a", 9).unwrap()).has(Right::Join));
        assert_eq!(pass.expires_at, Some(now() + Duration::from_secs(70)), "with the leeway");
        let id = pass.token.unwrap();
        assert_eq!((id.id.as_deref(), id.issued_at), (Some("7"), Some(now() - Duration::from_millis(500))));
        assert!(unknown.is_empty());
        let joined = verified(&signed(&with("roomcast", json!({"auto_join": ["news", "@bob", "@ann"]})))).unwrap();
        assert_eq!(joined.0.auto_join.iter().map(RoomId::as_str).collect::<Vec<_>>(), ["news", "@ann"]);
        assert_eq!(joined.1, ["the personal room \"@bob\" in `auto_join`"]);
        let (pass, _) = verified(&signed(&with("roomcast", Value::Null))).unwrap();
        assert!(pass.grants.is_empty());
        assert!(verified(&signed(&with("exp", json!(NOW - 9)))).is_ok(), "within the leeway");
        assert!(verified(&signed(&with("nbf", json!(NOW + 9)))).is_ok(), "within the leeway");
    }

    /// It must not become good when a revocation of it has been forgotten.
    #[test]
    fn how_long_a_token_lasts_counts_from_its_issue() {
        let lasting = |issued: u64, ends: u64| {
            let mut token = with("iat", json!(issued));
            token["exp"] = json!(ends);
            verified(&signed(&token)).map(|(pass, _)| pass.token.unwrap().issued_at)
        };
        assert_eq!(lasting(NOW - 100, NOW + 3511), Err(TokenError::TooLasting(3600)));
        assert!(lasting(NOW - 100, NOW + 3510).is_ok());
        assert_eq!(lasting(NOW + 50, NOW + 60), Ok(Some(now())), "a clock that is ahead makes no token younger");
    }

    #[test]
    fn each_mistake_has_its_name() {
        let too_long = Value::String("x".repeat(LONGEST));
        for (name, value, why) in [
            ("exp", Value::Null, TokenError::Missing("exp".into())),
            ("aud", Value::Null, TokenError::Missing("aud".into())),
            ("sub", Value::Null, TokenError::Missing("sub".into())),
            ("exp", json!("tomorrow"), TokenError::BadClaim("exp")),
            ("exp", json!(-1), TokenError::BadClaim("exp")),
            ("exp", json!(1e300), TokenError::BadClaim("exp")),
            ("exp", json!(NOW - 10), TokenError::Expired(10)),
            ("exp", json!(NOW + 3611), TokenError::TooLasting(3600)),
            ("nbf", json!(NOW + 11), TokenError::TooEarly(11)),
            ("aud", json!("another"), TokenError::Audience),
            ("aud", json!([]), TokenError::Audience),
            ("aud", json!({"chat": 1}), TokenError::Audience),
            ("iss", json!("https://issuer"), TokenError::Issuer),
            ("iss", Value::Null, TokenError::Issuer),
            ("sub", json!(7), TokenError::BadClaim("sub")),
            ("sub", json!(""), TokenError::Subject(NameError::Empty)),
            ("sub", json!("a\u{200b}b"), TokenError::Subject(NameError::Unseen)),
            ("sub", json!("ann "), TokenError::SubjectForm),
            ("sub", json!("zoe\u{308}"), TokenError::SubjectForm),
            ("jti", json!(7), TokenError::BadClaim("jti")),
            ("iat", json!("now"), TokenError::BadClaim("iat")),
        ] {
            assert_eq!(verified(&signed(&with(name, value.clone()))), Err(why), "{name} {value}");
        }
        assert!(matches!(verified(&signed(&with("roomcast", json!([])))), Err(TokenError::Permissions(..))));
        assert!(matches!(verified(&signed(&with("x", too_long))), Err(TokenError::TooLong(_))));
    }

    #[test]
    fn what_is_not_signed_by_a_key_of_ours_is_refused() {
        let token = signed(&claims());
        let parts: Vec<&str> = token.split('.').collect();
        let signed_with = |algorithm, secret: &[u8]| {
            encode(&Header::new(algorithm), &claims(), &EncodingKey::from_secret(secret)).unwrap()
        };
        let other = signed_with(Algorithm::HS256, &[7; 32]);
        let with_header = |header: &str| {
            use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
            format!("{}.{}.{}", URL_SAFE_NO_PAD.encode(header), parts[1], parts[2])
        };
        for (token, why) in [
            (String::new(), TokenError::Malformed),
            ("a.b".into(), TokenError::Malformed),
            ("a.b.c".into(), TokenError::Malformed),
            (format!("{token}.x"), TokenError::Malformed),
            (format!("{}.{}.", parts[0], parts[1]), TokenError::Signature),
            (format!("{}.{}.{}", parts[0], parts[1], other.split('.').nth(2).unwrap()), TokenError::Signature),
            (other, TokenError::Signature),
            (with_header(r#"{"alg":"none"}"#), TokenError::Algorithm),
            (with_header(r#"{"alg":"HS256","crit":["x"],"x":1}"#), TokenError::Unreadable),
            (with_header(r#"{"alg":"RS256"}"#), TokenError::UnknownKey { algorithm: "RS256".into(), key: None }),
        ] {
            assert_eq!(verified(&token), Err(why), "{token}");
        }
        for algorithm in [Algorithm::HS384, Algorithm::HS512] {
            assert!(verified(&signed_with(algorithm, SECRET)).is_ok(), "{algorithm:?}");
        }
    }

    #[test]
    fn every_kind_of_public_key_vouches_for_its_own_algorithms_alone() {
        let pairs = [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519, &PKCS_RSA_SHA256]
            .map(|kind| KeyPair::generate_for(kind).unwrap());
        let public: String = pairs.iter().map(KeyPair::public_key_pem).collect();
        let keys = KeySet::from_pem(&public).unwrap();
        let pem = |index: usize| pairs[index].serialize_pem();
        let rsa = EncodingKey::from_rsa_pem(pem(3).as_bytes()).unwrap();
        let signers = [
            (Algorithm::ES256, EncodingKey::from_ec_pem(pem(0).as_bytes()).unwrap()),
            (Algorithm::ES384, EncodingKey::from_ec_pem(pem(1).as_bytes()).unwrap()),
            (Algorithm::EdDSA, EncodingKey::from_ed_pem(pem(2).as_bytes()).unwrap()),
            (Algorithm::RS256, rsa.clone()),
            (Algorithm::RS512, rsa.clone()),
            (Algorithm::PS256, rsa.clone()),
            (Algorithm::PS384, rsa),
        ];
        for (algorithm, key) in signers {
            let token = encode(&Header::new(algorithm), &claims(), &key).unwrap();
            assert!(verifier().verify(&keys, &token, now()).is_ok(), "{algorithm:?}");
        }
        // A public key is no secret: whoever knows it cannot sign with it.
        for secret in [pairs[3].der_bytes(), pairs[3].public_key_pem().as_bytes()] {
            let token = encode(&Header::default(), &claims(), &EncodingKey::from_secret(secret)).unwrap();
            let refused = verifier().verify(&keys, &token, now());
            assert!(matches!(refused, Err(TokenError::UnknownKey { .. })), "{refused:?}");
        }
    }

    #[test]
    fn no_text_of_an_error_shows_the_token() {
        let token = signed(&with("exp", json!(NOW - 100)));
        let error = verified(&token).unwrap_err();
        assert!(!error.to_string().contains(token.split('.').nth(1).unwrap()));
        assert!(!format!("{error:?}").contains("ann"));
    }

    proptest! {
        #[test]
        fn any_text_is_refused(token in "[A-Za-z0-9_.-]{0,200}") {
            prop_assert!(verified(&token).is_err());
        }

        #[test]
        fn any_claims_are_read_or_refused(name in prop::sample::select(vec!["sub", "exp", "nbf", "iat", "jti", "aud", "iss", "roomcast"]),
            value in prop::sample::select(vec!["null", "1", "-1", "1.5", "\"a\"", "[]", "[\"chat\"]", "{}", "true", "1e400"])) {
            if let Ok(value) = serde_json::from_str(value) {
                let _ = verified(&signed(&with(name, value)));
            }
        }
    }
}
