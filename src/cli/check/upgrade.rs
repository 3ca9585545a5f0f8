use super::{member::Member, say};
use crate::cli::client::{Failure, new_name};

/// A WebSocket can be opened, and what is said over it is acknowledged.
///
/// # Errors
/// If it cannot, or is not.
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
