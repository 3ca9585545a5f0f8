use std::time::{Duration, SystemTime, UNIX_EPOCH};

use jsonwebtoken::{EncodingKey, Header, encode};
use serde_json::{Value, json};

/// The secret of the servers and issuers of these tests.
pub const SECRET: &str = "a secret of at least 32 bytes, for the tests";

/// A token that a test makes, with the right answer to each of a server's checks until the test changes one.
#[derive(Clone, Debug)]
pub struct Token {
    claims: Value,
}

impl Token {
    /// A token for this user with this claim about rights, good for an hour.
    pub fn of(user: &str, rights: impl Into<Value>) -> Self {
        Self {
            claims: json!({"sub": user, "aud": "chat", "iat": in_seconds(0), "exp": in_seconds(3600), "roomcast": rights.into()}),
        }
    }

    /// With another claim.
    pub fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    /// Signed with the secret of the tests.
    pub fn signed(&self) -> String {
        self.signed_by(&Header::default(), &EncodingKey::from_secret(SECRET.as_bytes()))
    }

    pub fn signed_by(&self, header: &Header, key: &EncodingKey) -> String {
        encode(header, &self.claims, key).expect("a token")
    }
}

/// The time in so many seconds, as tokens write it.
pub fn in_seconds(seconds: u64) -> u64 {
    (SystemTime::now() + Duration::from_secs(seconds)).duration_since(UNIX_EPOCH).expect("a time after 1970").as_secs()
}
