//! `roomcast revoke`: revokes tokens on all servers of an installation, by way of its Redis.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use clap::Args;
use roomcast::{access::Sanction, config::Config, server};

use super::client::Failure;

/// Which tokens; one of these.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(super) struct Arguments {
    /// The one with this `jti`
    #[arg(long, value_name = "ID")]
    id: Option<String>,
    /// All of this user that were issued until now
    #[arg(long, value_name = "NAME")]
    user: Option<String>,
    /// All that were issued before this time: now, or seconds since 1970 as in a token's `iat`
    #[arg(long, value_name = "TIME", value_parser = time)]
    issued_before: Option<SystemTime>,
}

fn time(text: &str) -> Result<SystemTime, String> {
    match text {
        "now" => Ok(SystemTime::now()),
        text => {
            let seconds = text.parse().map_err(|_| "write now, or seconds since 1970 such as 1795741174".to_owned())?;
            Ok(UNIX_EPOCH + Duration::from_secs(seconds))
        }
    }
}

/// Revokes tokens for as long as they could be good.
///
/// # Errors
/// If Redis does not take it.
pub(super) async fn run(arguments: Arguments) -> Result<(), Failure> {
    let (config, _) = Config::from_env(std::env::vars_os())?;
    let now = SystemTime::now();
    let millis = |time: SystemTime| u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis());
    // A token says in whole seconds when it was issued.
    let sanction = match arguments {
        Arguments { id: Some(id), .. } if id.is_empty() => return Err("no token has an empty `jti`".into()),
        Arguments { id: Some(id), .. } => Sanction::Token(id),
        Arguments { user: Some(user), .. } => {
            let revoked = Sanction::of_user(&user, config.max_username_length, millis(now)?);
            revoked.map_err(|why| format!("the name {why}"))?
        }
        Arguments { issued_before: Some(time), .. } if time > now => {
            return Err("that time is still to come; write seconds since 1970, not milliseconds".into());
        }
        Arguments { issued_before, .. } => Sanction::IssuedBefore(millis(issued_before.unwrap_or(now))?),
    };
    server::revoke(&config, &sanction, now).await?;
    writeln!(io::stdout(), "revoked; servers close the connections of these tokens, and take them no more")?;
    Ok(())
}
