use std::time::Duration;

use super::{member::Member, say};
use crate::cli::client::{Failure, new_name};

/// Most connections to open until two servers have answered. With two servers behind a random balancer, all of these
/// reach the same one once in half a million runs.
pub(crate) const CONNECTIONS: usize = 20;

/// How long to wait for a second copy of a message.
const PATIENCE: Duration = Duration::from_millis(500);

/// Opens connections over one URL until two servers have answered, and has members on them talk.
///
/// # Errors
/// If only one server answers, or a message does not reach the other one, or comes twice.
pub(crate) async fn across(url: &str, connections: usize) -> Result<(), Failure> {
    let (first, name) = meet(url).await?;
    // The others stay open meanwhile, for a balancer that picks the server with the fewest connections.
    let mut same = Vec::new();
    while same.len() + 1 < connections {
        let (other, other_name) = meet(url).await?;
        if other_name != name {
            say(&format!("{name} and {other_name} answered; it took {} connections", same.len() + 2))?;
            return talk((first, &name), (other, &other_name)).await;
        }
        same.push(other);
    }
    Err(format!(
        "{name} answered all of {connections} connections to {url}; is it the only server there, or does something in \
         between keep each client with one server? Then give two URLs, one for each server"
    )
    .into())
}

/// Has members on two servers talk, each server with its own URL.
///
/// # Errors
/// If both URLs lead to one server, or a message does not reach the other one, or comes twice.
pub(crate) async fn between(one: &str, other: &str) -> Result<(), Failure> {
    let ((first, name), (second, other_name)) = (meet(one).await?, meet(other).await?);
    if name == other_name {
        return Err(format!("{name} answers both {one} and {other}").into());
    }
    say(&format!("{name} and {other_name} answered"))?;
    talk((first, &name), (second, &other_name)).await
}

/// A connection, and the name of its server, which is in the messages that the server takes.
async fn meet(url: &str) -> Result<(Member, String), Failure> {
    let mut member = Member::connect(url).await?;
    // A room of its own, so that nobody else hears it.
    let room = format!("check-{}", new_name());
    member.join(&room).await?;
    let server = member.say(&room, "who are you?").await?;
    Ok((member, server))
}

async fn talk((mut one, name): (Member, &str), (mut other, other_name): (Member, &str)) -> Result<(), Failure> {
    let room = format!("check-{}", new_name());
    one.join(&room).await?;
    other.join(&room).await?;
    let (there, back, end) = ("there", "back", "end");
    one.say(&room, there).await?;
    other.hears(there).await?;
    other.say(&room, back).await?;
    one.hears(back).await?;
    // A second copy of either would come before this, or a little later.
    one.say(&room, end).await?;
    other.hears(end).await?;
    tokio::try_join!(one.listens_for(PATIENCE), other.listens_for(PATIENCE))?;
    for (from, to, member, text) in [(name, other_name, &other, there), (other_name, name, &one, back)] {
        match member.times(text) {
            1 => say(&format!("a message from {from} reached a member on {to}, once"))?,
            times => return Err(format!("a message from {from} reached a member on {to} {times} times").into()),
        }
    }
    for (on, member, text) in [(name, &one, there), (other_name, &other, back)] {
        if member.times(text) != 1 {
            return Err(format!("a member on {on} got its own message {} times", member.times(text)).into());
        }
    }
    Ok(())
}
