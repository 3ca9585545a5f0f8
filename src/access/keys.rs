use jsonwebtoken::{
    Algorithm, DecodingKey, DecodingKeyKind,
    jwk::{AlgorithmParameters, EllipticCurve, Jwk, PublicKeyUse},
};
use serde::Deserialize;
use serde_json::Value;

/// Shortest secret, in bytes: as long as what HS256 makes of it (RFC 7518, section 3.2).
const SHORTEST_SECRET: usize = 32;

/// Most keys of one set.
const MOST: usize = 100;

const HMAC: &[Algorithm] = &[Algorithm::HS256, Algorithm::HS384, Algorithm::HS512];
const RSA: &[Algorithm] =
    &[Algorithm::RS256, Algorithm::RS384, Algorithm::RS512, Algorithm::PS256, Algorithm::PS384, Algorithm::PS512];
const P256: &[Algorithm] = &[Algorithm::ES256];
const P384: &[Algorithm] = &[Algorithm::ES384];
const ED25519: &[Algorithm] = &[Algorithm::EdDSA];

/// Keys that vouch for tokens. Each is bound to the algorithms of its kind, so that nobody can pass a public key off as
/// a secret.
#[derive(Clone, Debug, Default)]
pub struct KeySet(Vec<Key>);

#[derive(Clone, Debug)]
struct Key {
    id: Option<String>,
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why keys cannot be used; the text goes on after the name of where they are from.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadKey {
    /// The secret can be guessed.
    #[error("has {0} bytes, but a secret must have {SHORTEST_SECRET} at least; make one with: openssl rand -base64 48")]
    ShortSecret(usize),
    /// There is no key in it.
    #[error(
        "has no key that this server can use; it needs public keys, of RSA (2048 bits at least), P-256, P-384 or Ed25519"
    )]
    NoKey,
    /// A private key is not for servers that only check.
    #[error("has a private key, but only public ones belong here; make one with: openssl pkey -in private.pem -pubout")]
    Private,
    /// The same of a key set.
    #[error("has a private key (`d`), but only public ones belong here; take the key set that your issuer publishes")]
    PrivateJwk,
    /// It is no PEM.
    #[error("is not PEM with public keys, as \"-----BEGIN PUBLIC KEY-----\" begins")]
    NoPem,
    /// It is no JWKS.
    #[error("is not a JSON Web Key Set, such as {{\"keys\":[…]}}: {0}")]
    NoJwks(String),
    /// It has more keys than anybody needs.
    #[error("has more than {MOST} keys")]
    TooMany,
}

impl KeySet {
    /// The secret that issuers and servers share.
    ///
    /// # Errors
    /// If it is too short.
    pub fn from_secret(secret: &[u8]) -> Result<Self, BadKey> {
        if secret.len() < SHORTEST_SECRET {
            return Err(BadKey::ShortSecret(secret.len()));
        }
        Ok(Self(vec![Key { id: None, algorithms: HMAC.into(), key: DecodingKey::from_secret(secret) }]))
    }

    /// One or more public keys in PEM.
    ///
    /// # Errors
    /// If one of them is none.
    pub fn from_pem(text: &str) -> Result<Self, BadKey> {
        let (mut keys, mut rest) = (Vec::new(), text);
        while let Some(begin) = rest.find("-----BEGIN ") {
            let block = &rest[begin..];
            let last_line = block.find("-----END ").ok_or(BadKey::NoPem)?;
            let end = block[last_line..].find('\n').map_or(block.len(), |length| last_line + length);
            let (block, after) = block.split_at(end);
            if block.lines().next().is_some_and(|line| line.contains("PRIVATE")) {
                return Err(BadKey::Private);
            }
            keys.push(Key::from_pem(block.as_bytes()).ok_or(BadKey::NoKey)?);
            rest = after;
        }
        Self::of(keys, BadKey::NoPem)
    }

    /// A JSON Web Key Set (RFC 7517). Keys of a kind that is not known, and secrets, which have no place in a set that
    /// others may read, are left out.
    ///
    /// # Errors
    /// If it is no such set, or no key is left.
    pub fn from_jwks(text: &str) -> Result<Self, BadKey> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<Value>,
        }
        let set: Jwks = serde_json::from_str(text).map_err(|error| BadKey::NoJwks(error.to_string()))?;
        // Else whoever may read the servers' keys could make tokens.
        let is_private = |key: &Value| key["kty"] != "oct" && key.get("d").is_some();
        if set.keys.iter().any(is_private) {
            return Err(BadKey::PrivateJwk);
        }
        // One by one, so that a key of a kind to come does not spoil the others.
        let keys = set.keys.into_iter().filter_map(|key| serde_json::from_value::<Jwk>(key).ok());
        Self::of(keys.filter_map(|key| Key::from_jwk(&key)).collect(), BadKey::NoKey)
    }

    fn of(keys: Vec<Key>, none: BadKey) -> Result<Self, BadKey> {
        match keys.len() {
            0 => Err(none),
            1..=MOST => Ok(Self(keys)),
            _ => Err(BadKey::TooMany),
        }
    }

    /// These keys and those.
    pub fn extend(&mut self, others: Self) {
        self.0.extend(others.0);
    }

    /// The keys that may have signed with this algorithm. With the `id` of one, only that, and those without any.
    pub(super) fn candidates(&self, id: Option<&str>, algorithm: Algorithm) -> impl Iterator<Item = &DecodingKey> {
        let fits = move |key: &&Key| {
            key.algorithms.contains(&algorithm) && (id.is_none() || key.id.is_none() || key.id.as_deref() == id)
        };
        self.0.iter().filter(fits).map(|key| &key.key)
    }
}

impl Key {
    fn from_pem(pem: &[u8]) -> Option<Self> {
        let key = DecodingKey::from_rsa_pem(pem).or_else(|_| DecodingKey::from_ec_pem(pem));
        let key = key.or_else(|_| DecodingKey::from_ed_pem(pem)).ok()?;
        let algorithms = match key.try_get_as_bytes().ok()?.len() {
            // An uncompressed point: one byte, and two coordinates.
            65 => P256,
            97 => P384,
            32 => ED25519,
            // The smallest RSA key that counts as safe has a modulus of 256 bytes, in DER with a few around it.
            264.. => RSA,
            _ => return None,
        };
        Some(Self { id: None, algorithms: algorithms.into(), key })
    }

    fn from_jwk(jwk: &Jwk) -> Option<Self> {
        if jwk.common.public_key_use.as_ref().is_some_and(|purpose| *purpose != PublicKeyUse::Signature) {
            return None;
        }
        let algorithms = match &jwk.algorithm {
            AlgorithmParameters::RSA(_) => RSA,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P256 => P256,
            AlgorithmParameters::EllipticCurve(key) if key.curve == EllipticCurve::P384 => P384,
            AlgorithmParameters::OctetKeyPair(key) if key.curve == EllipticCurve::Ed25519 => ED25519,
            _ => return None,
        };
        let algorithms = match jwk.common.key_algorithm {
            None => algorithms.into(),
            Some(named) => vec![Algorithm::try_from(named).ok().filter(|named| algorithms.contains(named))?],
        };
        let key = DecodingKey::from_jwk(jwk).ok()?;
        let is_safe = match key.kind() {
            DecodingKeyKind::RsaModulusExponent { n, .. } => n.len() >= 256,
            DecodingKeyKind::SecretOrDer(_) => true,
        };
        is_safe.then(|| Self { id: jwk.common.key_id.clone(), algorithms, key })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const EC: &str = "-----BEGIN PUBLIC KEY-----
MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEEVs/o5+uQbTjL3chynL4wXgUg2R9
q9UU8I5mEovUf86QZ7kOBIjJwqnzD1omageEHWwHdBO6B+dFabmdT9POxg==
-----END PUBLIC KEY-----
";
    const ED: &str = "-----BEGIN PUBLIC KEY-----
MCowBQYDK2VwAyEAGb9ECWmEzf6FQbrBZ9w7lshQhqowtrbLDFw4rXAxZuE=
-----END PUBLIC KEY-----
";

    fn kinds(keys: &KeySet) -> Vec<Algorithm> {
        keys.0.iter().map(|key| key.algorithms[0]).collect()
    }

    #[test]
    fn a_file_may_have_several_keys_and_each_is_bound_to_its_kind() {
        let keys = KeySet::from_pem(&format!("# of our issuer\n{EC}\n{ED}")).unwrap();
        assert_eq!(kinds(&keys), [Algorithm::ES256, Algorithm::EdDSA]);
        assert_eq!(keys.candidates(None, Algorithm::ES256).count(), 1);
        assert_eq!(keys.candidates(Some("any"), Algorithm::ES256).count(), 1, "a key in PEM has no id");
        for algorithm in [Algorithm::HS256, Algorithm::RS256, Algorithm::ES384] {
            assert_eq!(keys.candidates(None, algorithm).count(), 0, "{algorithm:?}");
        }
    }

    #[test]
    fn what_is_no_key_is_refused_with_the_way_to_mend_it() {
        let private = EC.replace("PUBLIC", "PRIVATE");
        for (text, why) in [
            ("", BadKey::NoPem),
            ("{}", BadKey::NoPem),
            ("-----BEGIN PUBLIC KEY-----\nAAAA", BadKey::NoPem),
            ("-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----", BadKey::NoKey),
            (&private, BadKey::Private),
            (&EC.repeat(101), BadKey::TooMany),
        ] {
            assert_eq!(KeySet::from_pem(text).unwrap_err(), why);
        }
        assert_eq!(KeySet::from_secret(&[7; 31]).unwrap_err(), BadKey::ShortSecret(31));
        assert_eq!(kinds(&KeySet::from_secret(&[7; 32]).unwrap()), [Algorithm::HS256]);
        for text in ["", "[]", "{}", r#"{"keys":1}"#] {
            assert!(matches!(KeySet::from_jwks(text).unwrap_err(), BadKey::NoJwks(_)), "{text}");
        }
        assert_eq!(KeySet::from_jwks(r#"{"keys":[]}"#).unwrap_err(), BadKey::NoKey);
    }

    #[test]
    fn of_a_key_set_only_what_can_vouch_is_taken() {
        let ec = json!({"kty": "EC", "crv": "P-256", "kid": "e",
            "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"});
        let with = |name: &str, value: &str| {
            let mut key = ec.clone();
            key[name] = value.into();
            key
        };
        let set = |keys: Vec<Value>| KeySet::from_jwks(&json!({ "keys": keys }).to_string());
        let keys = set(vec![
            ec.clone(),
            with("use", "sig"),
            with("alg", "ES256"),
            json!({"kty": "of the future"}),
            json!({"kty": "oct", "k": "c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0c2VjcmV0MTI", "kid": "s"}),
            json!({"kty": "RSA", "n": "AQAB", "e": "AQAB"}),
            with("use", "enc"),
            with("alg", "RS256"),
            with("alg", "ES256K"),
            with("crv", "secp256k1"),
        ]);
        assert_eq!(kinds(&keys.unwrap()), [Algorithm::ES256; 3]);
        let keys = set(vec![ec.clone(), with("kid", "other")]).unwrap();
        assert_eq!(keys.candidates(Some("e"), Algorithm::ES256).count(), 1);
        assert_eq!(keys.candidates(Some("new"), Algorithm::ES256).count(), 0);
        assert_eq!(keys.candidates(None, Algorithm::ES256).count(), 2);
    }
}
