use std::{net::SocketAddr, time::Duration};

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{Error, Message, client::IntoClientRequest},
};

use super::{DEADLINE, eventually};
use crate::asyncapi::assert_may_come;

/// A client that says and hears JSON.
pub struct Client {
    socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    is_slim: bool,
}

impl From<WebSocketStream<MaybeTlsStream<TcpStream>>> for Client {
    fn from(socket: WebSocketStream<MaybeTlsStream<TcpStream>>) -> Self {
        Self { socket, is_slim: false }
    }
}

impl Client {
    pub async fn connect(address: SocketAddr) -> Self {
        Self::dial(&format!("ws://{address}/ws")).await.expect("a WebSocket")
    }

    pub async fn dial(url: &str) -> Result<Self, Error> {
        Self::dial_with(url, &[]).await
    }

    /// The same, with more headers in the request.
    pub async fn dial_with(url: &str, headers: &[(&'static str, &str)]) -> Result<Self, Error> {
        let mut request = url.into_client_request()?;
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().expect("a header's value"));
        }
        let (socket, response) =
            timeout(DEADLINE, tokio_tungstenite::connect_async(request)).await.expect("an answer")?;
        let is_slim = response.headers().get("sec-websocket-protocol").is_some_and(|chosen| chosen == "roomcast.v1");
        Ok(Self { socket, is_slim })
    }

    /// Reads an event, which must be one of those that docs/asyncapi.yaml describes.
    fn read(&self, text: &str) -> Value {
        let event = serde_json::from_str(text).expect("every frame is JSON");
        assert_may_come(&event, self.is_slim);
        event
    }

    /// Joins a room; returns `joined`.
    pub async fn join(&mut self, room: &str, username: &str) -> Value {
        self.send(&json!({"type": "join", "room": room, "username": username})).await;
        self.expect("joined").await
    }

    /// Leaves a room, and waits until it is done.
    pub async fn leave(&mut self, room: &str) {
        self.send(&json!({"type": "leave", "room": room})).await;
        self.expect("left").await;
    }

    /// Sends a message to a room.
    pub async fn say(&mut self, room: &str, text: &str) {
        self.send(&json!({"type": "message", "room": room, "text": text})).await;
    }

    /// Sends any JSON.
    pub async fn send(&mut self, command: &Value) {
        self.send_raw(Message::text(command.to_string())).await;
    }

    /// Sends any frame.
    pub async fn send_raw(&mut self, message: Message) {
        timeout(DEADLINE, self.socket.send(message)).await.expect("a socket that takes it").expect("an open socket");
    }

    /// Writes bytes past the WebSocket library, for frames that it would not make.
    pub async fn send_bytes(&mut self, bytes: &[u8]) {
        let written = timeout(DEADLINE, self.socket.get_mut().write_all(bytes)).await;
        written.expect("a connection that takes it").expect("an open connection");
    }

    /// Waits for the end of the connection, which must be an orderly one. Whatever comes before it is dropped.
    pub async fn ended(mut self) {
        let read = timeout(DEADLINE, self.socket.get_mut().read_to_end(&mut Vec::new())).await;
        read.expect("an end in time").expect("an end, not a reset");
    }

    /// The next event.
    pub async fn next(&mut self) -> Value {
        match self.next_frame().await {
            Message::Text(text) => self.read(&text),
            other => panic!("expected an event, got {other:?}"),
        }
    }

    /// The next event, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let event = self.next().await;
        assert_eq!(event["type"], kind, "{event}");
        event
    }

    /// The texts of the next messages.
    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        for _ in 0..count {
            let event = self.expect("message").await;
            texts.push(event["text"].as_str().expect("a text").to_owned());
        }
        texts
    }

    /// The texts of this many messages and, in any place between or after them, one `ack`.
    pub async fn texts_until_ack(&mut self, count: usize) -> Vec<String> {
        let (mut texts, mut acked) = (Vec::new(), false);
        while texts.len() < count || !acked {
            let event = self.next().await;
            match event["type"].as_str() {
                Some("message") => texts.push(event["text"].as_str().expect("a text").to_owned()),
                Some("ack") if !acked => acked = true,
                _ => panic!("{event}"),
            }
        }
        texts
    }

    /// Checks that nothing is on its way to this client: what the server had for it would come before the pong.
    pub async fn hears_nothing(&mut self) {
        self.send(&json!({"type": "ping"})).await;
        self.expect("pong").await;
    }

    /// Waits until the connection is gone, however it ends.
    pub async fn gone(&mut self) {
        while let Some(Ok(_)) = self.socket.next().await {}
    }

    /// The next event, or `None` once the connection has ended.
    pub async fn next_or_end(&mut self) -> Option<Value> {
        loop {
            match timeout(DEADLINE, self.socket.next()).await.expect("a frame in time")?.ok()? {
                Message::Text(text) => return Some(self.read(&text)),
                Message::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// All events up to the close frame.
    pub async fn events_until_closed(&mut self) -> Vec<Value> {
        let mut events = Vec::new();
        loop {
            match self.next_frame().await {
                Message::Text(text) => events.push(self.read(&text)),
                Message::Close(_) => return events,
                other => panic!("expected an event or the close, got {other:?}"),
            }
        }
    }

    /// Reads, and so answers pings, until something has come true; no event may come meanwhile.
    pub async fn reads_until(&mut self, condition: impl AsyncFnMut() -> bool) {
        let mut condition = condition;
        let waiting = eventually("the condition", async || condition().await.then_some(()));
        tokio::select! {
            () = waiting => {}
            frame = self.next_frame() => panic!("got {frame:?}"),
        }
    }

    /// Waits for the close frame; whatever comes before it is dropped. Returns its code.
    pub async fn closed(&mut self) -> u16 {
        loop {
            if let Message::Close(frame) = self.next_frame().await {
                return frame.expect("a close code").code.into();
            }
        }
    }

    /// Sends a frame unless the connection has ended, or takes nothing for a moment.
    pub async fn try_send(&mut self, message: Message) {
        let _ = timeout(Duration::from_millis(50), self.socket.send(message)).await;
    }

    /// The next frame, if one has come.
    pub async fn ready_frame(&mut self) -> Option<Message> {
        timeout(Duration::from_millis(1), self.socket.next()).await.ok()?.map(|frame| frame.expect("a frame"))
    }

    /// The next frame that is not a ping or a pong.
    pub async fn next_frame(&mut self) -> Message {
        loop {
            let frame = timeout(DEADLINE, self.socket.next()).await.expect("a frame in time");
            match frame.expect("an open socket").expect("a frame") {
                Message::Ping(_) | Message::Pong(_) => {}
                frame => return frame,
            }
        }
    }
}
