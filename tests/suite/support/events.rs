use std::net::SocketAddr;

use reqwest::{RequestBuilder, Response};
use serde_json::Value;
use tokio::time::timeout;

use super::DEADLINE;

/// A client with a stream of events, which reads it as a browser does.
pub struct Events {
    response: Response,
    unread: String,
    /// The id of the last event that had one.
    pub id: String,
}

impl Events {
    /// Listens to this path of a server; it must have the stream.
    pub async fn of(server: SocketAddr, path: &str) -> Self {
        Self::by(reqwest::Client::new().get(format!("http://{server}{path}"))).await.expect("a stream")
    }

    /// The same by any request; otherwise the status and the problem.
    pub async fn by(request: RequestBuilder) -> Result<Self, (u16, Value)> {
        let response = timeout(DEADLINE, request.send()).await.expect("an answer in time").expect("an answer");
        let status = response.status().as_u16();
        if status != 200 {
            let body = response.bytes().await.expect("a body");
            return Err((status, serde_json::from_slice(&body).unwrap_or_default()));
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Self { response, unread: String::new(), id: String::new() })
    }

    /// The next event: its type and its data; `None` at the end of the stream.
    pub async fn next(&mut self) -> Option<(String, Value)> {
        timeout(DEADLINE, self.read()).await.expect("an event in time")
    }

    /// The data of the next event, which must be of this type.
    pub async fn expect(&mut self, kind: &str) -> Value {
        let (found, data) = self.next().await.expect("an event before the end");
        assert_eq!(found, kind, "{data}");
        data
    }

    /// The texts of the next messages.
    pub async fn texts(&mut self, count: usize) -> Vec<String> {
        let mut texts = Vec::new();
        while texts.len() < count {
            texts.push(self.expect("message").await["text"].as_str().expect("a text").to_owned());
        }
        texts
    }

    /// The code with which the stream ends, after all else.
    pub async fn closed(&mut self) -> u64 {
        let mut code = None;
        while let Some((kind, data)) = self.next().await {
            if kind == "close" {
                code = data["code"].as_u64();
            }
        }
        code.expect("a reason")
    }

    /// The next bytes as they came.
    pub async fn bytes(&mut self) -> String {
        let chunk = timeout(DEADLINE, self.response.chunk()).await.expect("bytes in time").expect("bytes");
        String::from_utf8(chunk.expect("no end").to_vec()).expect("UTF-8")
    }

    async fn read(&mut self) -> Option<(String, Value)> {
        loop {
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                let (mut kind, mut data) = ("message".to_owned(), String::new());
                for line in block.lines() {
                    match line.split_once(": ") {
                        Some(("event", value)) => value.clone_into(&mut kind),
                        Some(("id", value)) => value.clone_into(&mut self.id),
                        Some(("data", value)) => data += value,
                        _ => assert!(line.starts_with(':'), "{line:?}"),
                    }
                }
                self.unread = rest.to_owned();
                if !data.is_empty() {
                    return Some((kind, serde_json::from_str(&data).expect("JSON")));
                }
            }
            let chunk = self.response.chunk().await.ok()??;
            self.unread += std::str::from_utf8(&chunk).expect("UTF-8, as each text here is short");
        }
    }
}
