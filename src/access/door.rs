use std::{
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::Instant;

use super::{
    Allowance, Alone, Grants, KeyStore, Ledger, Networks, NoSeat, Pass, Rate, Seat, Sites, Source, Together,
    TokenError, Verifier, client_address,
};
use crate::{protocol::Username, telemetry::Limit};

/// Decides who comes in: checks tokens against the keys there are, says what those may do who have none, and how much
/// each may take.
#[derive(Debug)]
pub struct Door {
    verifier: Verifier,
    /// `None` if this server checks no tokens.
    keys: Option<KeyStore>,
    anonymous: Option<Arc<Pass>>,
    surroundings: Surroundings,
    limits: Limits,
    users: Ledger<Username>,
    addresses: Ledger<Source>,
}

/// What lies between a server and its clients.
#[derive(Clone, Debug)]
pub struct Surroundings {
    /// The pages that may connect.
    pub sites: Sites,
    /// The proxies whose `X-Forwarded-For` counts.
    pub trusted: Networks,
    /// The addresses to which no limit by address applies, as they are not of single clients.
    pub unlimited: Networks,
}

/// How much clients may take.
#[derive(Clone, Debug, Default)]
pub struct Limits {
    /// Each connection.
    pub alone: Arc<Alone>,
    /// All connections of a user.
    pub of_user: Together,
    /// All connections from an address.
    pub of_address: Together,
    /// New rooms of a user or, without a token, of an address, on all servers.
    pub new_rooms: Option<Rate>,
    /// Broadcasts of the same.
    pub broadcasts: Option<Rate>,
    /// Measures of a moderator, on all servers.
    pub measures: Option<Rate>,
}

impl Door {
    /// A door with these keys. Those without a token have `anonymous`; if that is nothing, they must show one.
    pub fn new(
        verifier: Verifier,
        keys: Option<KeyStore>,
        anonymous: Grants,
        surroundings: Surroundings,
        limits: Limits,
    ) -> Self {
        let anonymous = (!anonymous.is_empty()).then(|| Arc::new(Pass::anonymous(anonymous)));
        let (users, addresses) = (Ledger::new(limits.of_user), Ledger::new(limits.of_address));
        Self { verifier, keys, anonymous, surroundings, limits, users, addresses }
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

    /// Whether a page of this origin may connect to the host that it asked for. Programs send no origin.
    pub fn allows_page(&self, origin: &str, host: Option<&str>) -> bool {
        self.surroundings.sites.allow(origin, host)
    }

    /// Where a client comes from whose connection has this peer, and whose request these lines of `X-Forwarded-For`;
    /// `None` if no limit by address applies to it.
    pub fn source<'a>(&self, peer: IpAddr, forwarded: impl DoubleEndedIterator<Item = &'a str>) -> Option<Source> {
        let client = client_address(peer, forwarded, &self.surroundings.trusted);
        // A proxy that does not say for whom it speaks is limited itself.
        let is_limited = client.is_unreadable || !self.surroundings.unlimited.contain(client.address);
        is_limited.then(|| client.address.into())
    }

    /// A place for one more connection from an address.
    ///
    /// # Errors
    /// If it has as many as it may, or they come too fast.
    pub fn address_seat(&self, source: Source, now: Instant) -> Result<Seat, NoSeat> {
        self.addresses.seat(source, now)
    }

    /// A place for one more connection of a user.
    ///
    /// # Errors
    /// If it has as many as it may.
    pub fn user_seat(&self, user: &Username, now: Instant) -> Result<Seat, NoSeat> {
        self.users.seat(user.clone(), now)
    }

    /// A user says something outside a connection.
    ///
    /// # Errors
    /// If it says too much: for which limit, and how long to wait.
    pub fn spend(&self, user: &Username, bytes: usize, now: Instant) -> Result<(), (Limit, Duration)> {
        let limits = [Limit::MessagesPerUser, Limit::BytesPerUser];
        self.users.spend(user.clone(), bytes, now).map_err(|(index, wait)| (limits[index], wait))
    }

    /// The same for an address.
    ///
    /// # Errors
    /// See [`spend`](Self::spend).
    pub fn spend_of_address(&self, source: Source, bytes: usize, now: Instant) -> Result<(), (Limit, Duration)> {
        let limits = [Limit::MessagesPerAddress, Limit::BytesPerAddress];
        self.addresses.spend(source, bytes, now).map_err(|(index, wait)| (limits[index], wait))
    }

    /// What a connection may do that has this place among those from its address.
    pub fn allowance(&self, address: Option<Seat>) -> Allowance {
        Allowance::new(self.limits.alone.clone(), address)
    }

    /// How much clients may take.
    pub fn limits(&self) -> &Limits {
        &self.limits
    }

    /// The pass of whoever shows this token. If its key is not known, this waits for one fetch of the keys. Cancel-safe.
    ///
    /// # Errors
    /// Why the token is refused.
    pub async fn admit(&self, token: &str) -> Result<Arc<Pass>, TokenError> {
        let keys = self.keys.as_ref().ok_or(TokenError::NoKeys)?;
        let mut is_fresh = true;
        let check = || self.verifier.verify(&keys.current(), token, SystemTime::now());
        let checked = match check() {
            Err(TokenError::UnknownKey { .. }) => {
                is_fresh = keys.refresh().await;
                check()
            }
            checked => checked,
        };
        match checked {
            // A new key may be there that could not be fetched yet.
            Err(TokenError::UnknownKey { key, .. })
                if !keys.is_complete() || (key.is_some() && !is_fresh && keys.can_fetch()) =>
            {
                Err(TokenError::KeysAway)
            }
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
