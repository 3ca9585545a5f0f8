//! `roomcast token`: makes a token for trying out, as an application's back end would.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use jsonwebtoken::{EncodingKey, Header, encode};
use roomcast::{
    access::{KeySet, Pattern, Right, Rights},
    config::Config,
};
use serde_json::{Map, Value, json};

use super::client::Failure;

/// What the token says.
#[derive(Debug, Args)]
pub(super) struct Arguments {
    /// Who it is for: its `sub`
    #[arg(long, value_name = "NAME")]
    user: String,
    /// What may be done in which rooms, such as 'team:*=join,send' or 'lobby=*'; may be repeated
    #[arg(long = "room", value_name = "PATTERN=RIGHTS", value_parser = rights)]
    rooms: Vec<(String, Vec<String>)>,
    /// Allow broadcasts
    #[arg(long)]
    broadcast: bool,
    /// Rooms in which others may be muted, banned and slowed down; may be repeated
    #[arg(long, value_name = "PATTERN", value_parser = pattern)]
    moderate: Vec<String>,
    /// A room that the server joins for the client; may be repeated
    #[arg(long, value_name = "ROOM")]
    auto_join: Vec<String>,
    /// How long it is good
    #[arg(long = "for", value_name = "TIME", default_value = "1h", value_parser = humantime::parse_duration)]
    lifetime: Duration,
    /// Its `jti`, by which it can be revoked
    #[arg(long, value_name = "ID")]
    id: Option<String>,
}

fn pattern(text: &str) -> Result<String, String> {
    Pattern::parse(text).map(|_| text.to_owned()).map_err(|why| format!("the pattern {why}"))
}

/// Reads one `PATTERN=RIGHTS`.
fn rights(text: &str) -> Result<(String, Vec<String>), String> {
    let (pattern, names) = text.split_once('=').ok_or("write it like 'team:*=join,send'")?;
    self::pattern(pattern)?;
    let names: Vec<String> = names.split(',').map(|name| name.trim().to_owned()).collect();
    let of_rooms = Right::ALL.into_iter().filter(|right| Rights::ALL.has(*right)).map(Right::as_str);
    let of_rooms: Vec<&str> = of_rooms.collect();
    match names.iter().find(|name| *name != "*" && !of_rooms.contains(&name.as_str())) {
        Some(name) if name == "broadcast" || name == "moderate" => {
            Err(format!("{name} is no right in a room; give --{name}"))
        }
        Some(name) => Err(format!("{name:?} is no right; the rights are {} and *", of_rooms.join(", "))),
        None => Ok((pattern.to_owned(), names)),
    }
}

/// Prints a token that a server with the same settings takes.
///
/// # Errors
/// If there is no secret to sign it with.
pub(super) fn run(arguments: Arguments) -> Result<(), Failure> {
    let (config, _) = Config::from_env(std::env::vars_os())?;
    let secret = match (&config.jwt_secret, &config.jwt_secret_file) {
        (Some(secret), _) => secret.reveal().to_owned(),
        (None, Some(path)) => {
            let text = std::fs::read_to_string(path);
            text.map_err(|error| format!("cannot read {path:?} (ROOMCAST_JWT_SECRET_FILE): {error}"))?.trim().to_owned()
        }
        (None, None) => {
            return Err(
                "set ROOMCAST_JWT_SECRET, or ROOMCAST_JWT_SECRET_FILE, and ROOMCAST_JWT_AUDIENCE as for the server; \
                        tokens for other keys come from your issuer"
                    .into(),
            );
        }
    };
    KeySet::from_secret(secret.as_bytes()).map_err(|why| format!("the secret {why}"))?;
    let claims = claims(arguments, &config, SystemTime::now());
    let token = encode(&Header::default(), &claims, &EncodingKey::from_secret(secret.as_bytes()))?;
    writeln!(io::stdout(), "{token}")?;
    Ok(())
}

fn claims(arguments: Arguments, config: &Config, now: SystemTime) -> Value {
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let rooms: Map<String, Value> =
        arguments.rooms.into_iter().map(|(pattern, rights)| (pattern, json!(rights))).collect();
    let mut claim = json!({ "rooms": rooms });
    if arguments.broadcast {
        claim["broadcast"] = json!(true);
    }
    for (name, list) in [("moderate", arguments.moderate), ("auto_join", arguments.auto_join)] {
        if !list.is_empty() {
            claim[name] = json!(list);
        }
    }
    let mut claims = json!({"sub": arguments.user, "iat": now.as_secs(), "exp": (now + arguments.lifetime).as_secs()});
    claims[&config.jwt_claim] = claim;
    let own =
        [("aud", config.jwt_audience.first()), ("iss", config.jwt_issuer.first()), ("jti", arguments.id.as_ref())];
    for (name, value) in own {
        if let Some(value) = value {
            claims[name] = json!(value);
        }
    }
    claims
}
