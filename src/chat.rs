//! A client for the terminal, to try a server with: it says what is typed and prints what is heard.

use std::io::{self, BufRead, Write};

use serde_json::Value;
use tokio::sync::mpsc;

use crate::client::{Failure, Socket, plain};

/// Lines that were typed and not sent yet; whoever types faster than that waits.
const TYPED: usize = 16;

/// Joins a room and talks until standard input or the connection ends.
///
/// # Errors
/// If the server cannot be reached, or closes the connection.
pub(crate) async fn run(url: &str, room: &str, username: &str) -> Result<(), Failure> {
    let connected = Socket::connect(url).await;
    let mut socket = connected.map_err(|error| format!("{error}; is a server running there? `make run` starts one"))?;
    socket.join(room, username).await?;

    let mut lines = typed_lines();
    // What is typed after the last line is nothing; what is on its way then is still waited for.
    let (mut unanswered, mut typing) = (0, true);
    while typing || unanswered > 0 {
        tokio::select! {
            line = lines.recv(), if typing => match line {
                Some(text) => {
                    unanswered += 1;
                    socket.say(room, &text).await?;
                }
                None => typing = false,
            },
            event = socket.next() => {
                let event = event?;
                if event["type"] == "ack" || (event["type"] == "error" && event.get("id").is_some()) {
                    unanswered -= 1;
                }
                if let Some(line) = line(&event) {
                    // One line for each event, so that nobody can say what looks like another's message.
                    writeln!(io::stdout(), "{}", plain(&line))?;
                }
                if event["type"] == "error" && event.get("id").is_none() {
                    return Err("the room was not joined".into());
                }
                if event["type"] == "left" {
                    return Err("the server cannot keep this chat in the room".into());
                }
            }
        }
    }
    socket.close().await
}

/// An event as a person reads it; nothing for those that only programs need.
fn line(event: &Value) -> Option<String> {
    let field = |name: &str| event[name].as_str().unwrap_or("?").to_owned();
    Some(match event["type"].as_str()? {
        "message" => format!(
            "{}: {}   (message {}, by way of {})",
            field("username"),
            field("text"),
            event["seq"],
            field("originServer")
        ),
        "broadcast" => format!("to all: {}   (by way of {})", field("text"), field("originServer")),
        "joined" => format!("-- joined {}, after message {}", field("room"), event["seq"]),
        "reset" => format!("-- what came before message {} cannot be had any more ({})", event["seq"], field("reason")),
        "error" => format!("-- {}: {}", field("code"), field("message")),
        _ => return None,
    })
}

/// Standard input can only be read by waiting, so a thread does that; it ends with the program.
fn typed_lines() -> mpsc::Receiver<String> {
    let (sender, receiver) = mpsc::channel(TYPED);
    std::thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if !line.is_empty() && sender.blocking_send(line).is_err() {
                return;
            }
        }
    });
    receiver
}
