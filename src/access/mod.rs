//! Who somebody is, and what they may do: tokens, keys, grants, and the limits on what one client may take.
//!
//! All of it is pure, but for the fetching of keys. Whoever asks gives the time. Nothing here knows a socket or Redis.

mod claims;
mod door;
mod grants;
mod key_source;
mod key_store;
mod keys;
mod pass;
mod pattern;
mod verifier;

pub use self::{
    claims::{BadClaim, Permissions},
    door::Door,
    grants::{Grants, Rights},
    key_source::{Hidden, KeySource, SourceError},
    key_store::KeyStore,
    keys::{BadKey, KeySet},
    pass::{Pass, TokenId, personal_room},
    pattern::{BadPattern, Pattern},
    verifier::{Checks, TokenError, Verifier},
};
pub use crate::protocol::Right;
