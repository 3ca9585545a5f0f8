use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use super::{Failure, WebSocket, new_name, open, within};

/// Longest time for one write.
const LIMIT: Duration = Duration::from_secs(10);

/// A connection that sends commands and receives events.
pub(crate) struct Socket(WebSocket);

impl Socket {
    pub(crate) async fn connect(url: &str) -> Result<Self, Failure> {
        Ok(Self(open(url).await?))
    }

    /// Asks to join a room.
    pub(crate) async fn join(&mut self, room: &str, username: &str) -> Result<(), Failure> {
        self.send(&json!({"type": "join", "room": room, "username": username})).await
    }

    /// Says something in a room. Returns the id under which it will be acknowledged.
    pub(crate) async fn say(&mut self, room: &str, text: &str) -> Result<String, Failure> {
        let id = new_name();
        self.send(&json!({"type": "message", "room": room, "text": text, "id": id})).await?;
        Ok(id)
    }

    async fn send(&mut self, command: &Value) -> Result<(), Failure> {
        let sending = async { Ok(self.0.send(Message::text(command.to_string())).await?) };
        within(LIMIT, "sending", sending).await
    }

    /// Waits for the next event; the end of the connection is a failure. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Value, Failure> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text)?),
                Some(Ok(Message::Close(Some(frame)))) => {
                    let (code, reason) = (u16::from(frame.code), frame.reason);
                    return Err(format!("the server closed the connection: {code} {reason}").into());
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => return Err("the connection was lost".into()),
            }
        }
    }
}
