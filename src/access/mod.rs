//! Who somebody is, and what they may do: tokens, keys, grants, and the limits on what one client may take.
//!
//! All of it is pure, but for the fetching of keys. Whoever asks gives the time. Nothing here knows a socket or Redis.

mod address;
mod allowance;
mod api_keys;
mod claims;
mod door;
mod grants;
mod key_source;
mod key_store;
mod keys;
mod ledger;
mod pass;
mod pattern;
mod rate;
mod sanctions;
mod sites;
mod verifier;

pub use self::{
    address::{ClientAddress, Networks, Source, client_address},
    allowance::{Act, Allowance, Alone, Dropped, Verdict},
    api_keys::{ApiKey, ApiKeySource, ApiKeys, BadApiKeys, Scope},
    claims::{BadClaim, Permissions},
    door::{Door, Limits, Surroundings},
    grants::{Grants, Rights},
    key_source::{Hidden, KeySource, SourceError},
    key_store::KeyStore,
    keys::{BadKey, KeySet},
    ledger::{Ledger, NoSeat, Seat, Together},
    pass::{Pass, TokenId, personal_room},
    pattern::{BadPattern, Pattern},
    rate::{Bucket, Rate},
    sanctions::{Sanction, Sanctions},
    sites::Sites,
    verifier::{Checks, TokenError, Verifier},
};
pub use crate::protocol::Right;
