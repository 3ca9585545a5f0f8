use super::{member::Member, say};
use crate::cli::client::{Failure, new_name};

/// Checks that a WebSocket can be opened, and that the server acknowledges a message over it, or asks for a token if there
/// is none to show.
///
/// # Errors
/// If one of these is not the case.
pub(crate) async fn upgrade(url: &str) -> Result<(), Failure> {
    let mut member = Member::connect(url).await?;
    say(&format!("{url} was upgraded to a WebSocket"))?;
    let room = format!("check-{}", new_name());
    if let Err(failure) = member.join(&room).await {
        // Whoever has no token to show can find out no more.
        return if failure.to_string().contains("\"unauthorized\"") && std::env::var_os("ROOMCAST_TOKEN").is_none() {
            say("the server asks for a token; set ROOMCAST_TOKEN to have a message sent too")?;
            Ok(())
        } else {
            Err(failure)
        };
    }
    say(&format!("joined {room}"))?;
    let server = member.say(&room, "hello").await?;
    say(&format!("{server} took a message and acknowledged it"))?;
    Ok(())
}
