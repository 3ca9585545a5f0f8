use std::time::Duration;

use serde_json::Value;
use tokio::time::timeout;

use super::LIMIT;
use crate::cli::client::{Failure, Socket, within};

/// A client that notes every message it gets.
pub(super) struct Member {
    socket: Socket,
    heard: Vec<String>,
}

impl Member {
    pub(super) async fn connect(url: &str) -> Result<Self, Failure> {
        Ok(Self { socket: Socket::connect(url).await?, heard: Vec::new() })
    }

    pub(super) async fn join(&mut self, room: &str) -> Result<(), Failure> {
        self.socket.join(room, "roomcast-check").await?;
        while self.next("an answer to join").await?["type"] != "joined" {}
        Ok(())
    }

    /// Says something in a room, and waits until it is acknowledged and has come back. Returns the name of the server
    /// that took it.
    pub(super) async fn say(&mut self, room: &str, text: &str) -> Result<String, Failure> {
        let id = self.socket.say(room, text).await?;
        let (mut acknowledged, mut server) = (false, None);
        loop {
            if let (true, Some(server)) = (acknowledged, &server) {
                return Ok(String::clone(server));
            }
            let event = self.next("the own message and its ack").await?;
            if event["id"] != *id {
                continue;
            }
            acknowledged |= event["type"] == "ack";
            if event["type"] == "message" {
                let name = event["originServer"].as_str().ok_or_else(|| format!("{event} has no originServer"))?;
                server = Some(name.to_owned());
            }
        }
    }

    /// Waits for a message with this text.
    pub(super) async fn hears(&mut self, text: &str) -> Result<(), Failure> {
        while self.times(text) == 0 {
            self.next("the message of the other member").await?;
        }
        Ok(())
    }

    /// Hears what comes within this time.
    pub(super) async fn listens_for(&mut self, time: Duration) -> Result<(), Failure> {
        let listening = async {
            loop {
                self.next("anything").await?;
            }
        };
        timeout(time, listening).await.unwrap_or(Ok(()))
    }

    /// How often a message with this text has come.
    pub(super) fn times(&self, text: &str) -> usize {
        self.heard.iter().filter(|heard| *heard == text).count()
    }

    async fn next(&mut self, awaited: &str) -> Result<Value, Failure> {
        let event = within(LIMIT, awaited, self.socket.next()).await?;
        match event["type"].as_str() {
            Some("error") => return Err(format!("the server says {}: {}", event["code"], event["message"]).into()),
            Some("message") => self.heard.extend(event["text"].as_str().map(str::to_owned)),
            _ => {}
        }
        Ok(event)
    }
}
