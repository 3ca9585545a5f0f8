use super::{member::Member, say};
use crate::cli::client::{Failure, new_name};

/// Checks that a WebSocket can be opened, and that the server acknowledges a message over it.
///
/// # Errors
/// If one of these is not the case.
pub(crate) async fn upgrade(url: &str) -> Result<(), Failure> {
    let mut member = Member::connect(url).await?;
    say(&format!("{url} was upgraded to a WebSocket"))?;
    let room = format!("check-{}", new_name());
    member.join(&room).await?;
    say(&format!("joined {room}"))?;
    let server = member.say(&room, "hello").await?;
    say(&format!("{server} took a message and acknowledged it"))?;
    Ok(())
}
