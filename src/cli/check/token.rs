use std::{
    io::{self, Read},
    time::{Duration, SystemTime},
};

use roomcast::{
    access::{KeySet, Pass, TokenError},
    config::Config,
    server,
};

use super::{Failure, say};

/// Checks a token as a server with the same settings would; `-` reads it from standard input.
///
/// # Errors
/// What is wrong with it, in a sentence.
pub(super) async fn token(token: &str) -> Result<(), Failure> {
    let (config, _) = Config::from_env(std::env::vars_os())?;
    if !config.has_keys() {
        return Err("there is no key to check it with; set ROOMCAST_JWT_SECRET, ROOMCAST_JWT_PUBLIC_KEY_FILE or \
                    ROOMCAST_JWKS, and ROOMCAST_JWT_AUDIENCE, as for the server"
            .into());
    }
    let mut text = token.to_owned();
    if token == "-" {
        text.clear();
        io::stdin().read_to_string(&mut text)?;
    }
    let mut keys = KeySet::default();
    for source in server::key_sources(&config) {
        keys.extend(source.keys().await.map_err(|error| format!("{} {error}", source.setting()))?);
    }
    let now = SystemTime::now();
    let (pass, unknown) = server::verifier(&config).verify(&keys, text.trim(), now).map_err(|error| hinted(&error))?;
    described(&pass, now).lines().try_for_each(say)?;
    for unknown in unknown {
        say(&format!("note: {unknown} means nothing to this version"))?;
    }
    Ok(())
}

/// The sentence that a client gets, and what often is the cause.
fn hinted(error: &TokenError) -> Failure {
    let hint = match error {
        TokenError::Audience => "; compare it with ROOMCAST_JWT_AUDIENCE",
        TokenError::Issuer => "; compare it with ROOMCAST_JWT_ISSUER, to the last slash",
        TokenError::Signature => "; the issuer and the server have different keys",
        TokenError::Missing(_) => "; have the issuer add it, or change ROOMCAST_JWT_REQUIRED_CLAIMS",
        _ => "",
    };
    format!("{error}{hint}").into()
}

fn described(pass: &Pass, now: SystemTime) -> String {
    let user = pass.user.as_ref().map_or("nobody", |user| user.as_str());
    let left = pass.expires_at.map(|end| end.duration_since(now).unwrap_or_default().as_secs());
    let time = left
        .map_or("for ever".to_owned(), |left| format!("for {}", humantime::format_duration(Duration::from_secs(left))));
    let rooms: Vec<&str> = pass.auto_join.iter().map(|room| room.as_str()).collect();
    let joined = if rooms.is_empty() { String::new() } else { format!("\njoins   {}", rooms.join(", ")) };
    format!("good    {time}, as {user}\n{}{joined}", pass.grants)
}
