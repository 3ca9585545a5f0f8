//! The door, as the settings say it.

use std::sync::Arc;

use serde_json::Value;

use super::{StartError, options::rate};
use crate::{
    access::{
        self, Alone, BadClaim, Checks, Door, Grants, Hidden, KeySource, KeyStore, Networks, Permissions, Sites,
        Surroundings, Together, Verifier,
    },
    config::{self, Config},
    protocol::Limits,
    telemetry::Metrics,
};

/// Reads the keys that are on this machine.
///
/// # Errors
/// If one of them, or what clients without a token may do, cannot be used.
pub(crate) fn door(config: &Config, metrics: &Arc<Metrics>) -> Result<Door, StartError> {
    let keys = config.has_keys().then(|| KeyStore::new(key_sources(config), metrics.clone()));
    let keys = keys.transpose().map_err(|(setting, source)| StartError::Keys { setting, source })?;
    Ok(Door::new(verifier(config), keys, anonymous(config)?, surroundings(config)?, limits(config)))
}

/// What checks tokens.
pub fn verifier(config: &Config) -> Verifier {
    Verifier::new(Checks {
        audiences: config.jwt_audience.clone(),
        issuers: config.jwt_issuer.clone(),
        required: config.jwt_required_claims.clone(),
        longest: config.jwt_max_lifetime,
        leeway: config.jwt_leeway,
        claim: config.jwt_claim.clone(),
        limits: Limits::from(config),
    })
}

/// Where the keys that vouch for tokens come from.
pub fn key_sources(config: &Config) -> Vec<KeySource> {
    let secret = config.jwt_secret.as_ref().map(|secret| KeySource::Secret(Hidden(secret.reveal().to_owned())));
    let secret_file = config.jwt_secret_file.as_ref().map(|path| KeySource::SecretFile(path.into()));
    let pem_file = config.jwt_public_key_file.as_ref().map(|path| KeySource::PemFile(path.into()));
    let jwks = config.jwks.as_ref().map(|place| {
        let is_url = place.starts_with("https://") || place.starts_with("http://");
        if is_url { KeySource::JwksUrl(place.clone()) } else { KeySource::JwksFile(place.into()) }
    });
    [secret, secret_file, pem_file, jwks].into_iter().flatten().collect()
}

fn surroundings(config: &Config) -> Result<Surroundings, StartError> {
    let networks = |setting, items: &[String]| {
        let items = if items == ["none"] { &[] } else { items };
        Networks::parse(items).map_err(|item| StartError::Networks { setting, item: item.to_owned() })
    };
    Ok(Surroundings {
        sites: Sites::parse(&config.allowed_origins).map_err(|item| StartError::Site(item.to_owned()))?,
        trusted: networks("ROOMCAST_TRUSTED_PROXIES", &config.trusted_proxies)?,
        unlimited: networks("ROOMCAST_UNLIMITED_ADDRESSES", &config.unlimited_addresses)?,
    })
}

fn limits(config: &Config) -> access::Limits {
    if !config.limits {
        return access::Limits::default();
    }
    let rate = |setting: Option<config::Rate>| setting.map(rate);
    access::Limits {
        alone: Arc::new(Alone {
            frames: rate(config.frames_per_connection),
            messages: rate(config.messages_per_connection),
            bytes: rate(config.bytes_per_connection),
            histories: rate(config.histories_per_connection),
            signals: rate(config.signals_per_connection),
        }),
        of_user: Together {
            connections: config.connections_per_user,
            upgrades: None,
            messages: rate(config.messages_per_user),
            bytes: rate(config.bytes_per_user),
        },
        of_address: Together {
            connections: config.connections_per_address,
            upgrades: rate(config.upgrades_per_address),
            messages: rate(config.messages_per_address),
            bytes: rate(config.bytes_per_address),
        },
        new_rooms: rate(config.new_rooms),
        broadcasts: rate(config.broadcasts),
        measures: rate(config.measures),
    }
}

/// What clients without a token may do.
fn anonymous(config: &Config) -> Result<Grants, StartError> {
    match config.anonymous.as_deref() {
        None if config.has_keys() => Ok(Grants::default()),
        None => Ok(Grants::open()),
        Some("nothing") => Ok(Grants::default()),
        Some(text) => {
            let claim: Value = serde_json::from_str(text)
                .map_err(|error| StartError::Anonymous(BadClaim::Shape(format!("{error}; or write nothing"))))?;
            let permissions = Permissions::read(&claim, config.max_room_length).map_err(StartError::Anonymous)?;
            let of_users = |what| {
                let text = format!("has {what}, which is for users with tokens alone; leave it out");
                Err(StartError::Anonymous(BadClaim::Shape(text)))
            };
            match permissions.unknown.first() {
                Some(unknown) => Err(StartError::Anonymous(BadClaim::Shape(format!("{unknown} means nothing")))),
                None if !permissions.auto_join.is_empty() => of_users("auto_join"),
                None if permissions.grants.moderates() => of_users("moderate"),
                None => Ok(permissions.grants),
            }
        }
    }
}
