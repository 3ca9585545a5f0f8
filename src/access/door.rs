use std::{sync::Arc, time::SystemTime};

use super::{Grants, KeyStore, Pass, TokenError, Verifier};

/// Decides who comes in: checks tokens against the keys there are, and says what those may do who have none.
#[derive(Debug)]
pub struct Door {
    verifier: Verifier,
    /// `None` if this server checks no tokens.
    keys: Option<KeyStore>,
    anonymous: Option<Arc<Pass>>,
}

impl Door {
    /// A door with these keys. Those without a token have `anonymous`; if that is nothing, they must show one.
    pub fn new(verifier: Verifier, keys: Option<KeyStore>, anonymous: Grants) -> Self {
        let anonymous = (!anonymous.is_empty()).then(|| Arc::new(Pass::anonymous(anonymous)));
        Self { verifier, keys, anonymous }
    }

    /// The pass of those without a token; `None` if they have to show one.
    pub fn anonymous(&self) -> Option<Arc<Pass>> {
        self.anonymous.clone()
    }

    /// Whether tokens are checked here at all.
    pub fn checks_tokens(&self) -> bool {
        self.keys.is_some()
    }

    /// Whether all keys are here, so that no true token is refused.
    pub fn is_ready(&self) -> bool {
        self.keys.as_ref().is_none_or(KeyStore::is_complete)
    }

    /// The pass of whoever shows this token. If its key is not known, this waits for one fetch of the keys. Cancel-safe.
    ///
    /// # Errors
    /// Why the token is refused.
    pub async fn admit(&self, token: &str) -> Result<Arc<Pass>, TokenError> {
        let keys = self.keys.as_ref().ok_or(TokenError::NoKeys)?;
        let check = || self.verifier.verify(&keys.current(), token, SystemTime::now());
        let checked = match check() {
            Err(TokenError::UnknownKey { .. }) => {
                keys.refresh().await;
                check()
            }
            checked => checked,
        };
        match checked {
            Err(TokenError::UnknownKey { .. }) if !keys.is_complete() => Err(TokenError::KeysAway),
            checked => checked.map(|(pass, _)| Arc::new(pass)),
        }
    }

    /// Keeps the keys fresh, for ever.
    pub async fn run(&self) {
        match &self.keys {
            Some(keys) => keys.run().await,
            None => std::future::pending().await,
        }
    }
}
