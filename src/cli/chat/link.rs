use std::{io::ErrorKind, time::Duration};

use futures_util::{SinkExt, StreamExt};
use tokio::{sync::mpsc, task::JoinSet, time::timeout};
use tokio_tungstenite::tungstenite::{Error, Message, error::ProtocolError};

use super::state::Ending;
use crate::cli::client::{WebSocket, open};

/// Frames that were read but not handled yet; when there are more, reading waits.
const READ: usize = 256;

/// Frames to write. There are at most a few for each room; if they are not accepted, the connection is dead.
const WRITTEN: usize = 1024;

/// How long the server has to answer a close frame.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// What happens on a connection, in this order: `Opened` at most once, `Ended` at the end.
#[derive(Debug)]
pub(super) enum Heard {
    Opened,
    Frame(String),
    /// A control frame, which shows that the server is alive.
    Sign,
    Ended(Ending),
}

/// One connection, from the attempt to open it to its end. Dropping it abandons it at once.
#[derive(Debug)]
pub(super) struct Link {
    heard: mpsc::Receiver<Heard>,
    frames: mpsc::Sender<String>,
    task: JoinSet<()>,
}

impl Link {
    pub(super) fn to(url: String) -> Self {
        let (hear, heard) = mpsc::channel(READ);
        let (frames, to_write) = mpsc::channel(WRITTEN);
        let mut task = JoinSet::new();
        task.spawn(async move {
            let ending = match open(&url).await {
                Ok(socket) if hear.send(Heard::Opened).await.is_ok() => carry(socket, &hear, to_write).await,
                Ok(_) => return,
                Err(error) => {
                    Ending { why: error.why, remedy: error.remedy, retry_after: error.retry_after, close: None }
                }
            };
            let _ = hear.send(Heard::Ended(ending)).await;
        });
        Self { heard, frames, task }
    }

    /// What happens next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Heard {
        let ended = || Heard::Ended(Ending { why: "the connection was lost".to_owned(), ..Ending::default() });
        self.heard.recv().await.unwrap_or_else(ended)
    }

    /// Puts a frame in line. If the line is full, the server has accepted nothing for long, and the connection will
    /// soon be found dead.
    pub(super) fn send(&self, frame: String) {
        let _ = self.frames.try_send(frame);
    }

    /// Closes the connection properly, if the server cooperates.
    pub(super) async fn close(mut self) {
        drop((self.frames, self.heard));
        let _ = timeout(LAST_WORDS, self.task.join_next()).await;
    }
}

/// Moves frames both ways. Neither direction has a deadline here: the caller checks for signs of life and drops the
/// whole.
async fn carry(socket: WebSocket, hear: &mpsc::Sender<Heard>, mut to_write: mpsc::Receiver<String>) -> Ending {
    let (mut sink, mut stream) = socket.split();
    let writing = async {
        while let Some(frame) = to_write.recv().await {
            if let Err(error) = sink.send(Message::text(frame)).await {
                return lost(Some(&error));
            }
        }
        let _ = sink.close().await;
        // The answer is read in the other direction, and ends both.
        std::future::pending().await
    };
    let reading = async {
        loop {
            let heard = match stream.next().await {
                Some(Ok(Message::Text(text))) => Heard::Frame(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    let close = frame.map(|frame| (u16::from(frame.code), frame.reason.as_str().to_owned()));
                    return Ending { why: why_closed(close.as_ref()), close, ..Ending::default() };
                }
                Some(Ok(_)) => Heard::Sign,
                Some(Err(error)) => return lost(Some(&error)),
                None => return lost(None),
            };
            // While the link closes, nobody listens any more, which is fine.
            let _ = hear.send(heard).await;
        }
    };
    tokio::select! {
        ending = reading => ending,
        ending = writing => ending,
    }
}

/// An end without a close frame. Only a reason other than "the other side is gone" is worth telling.
fn lost(error: Option<&Error>) -> Ending {
    let why = match error {
        None | Some(Error::ConnectionClosed | Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => None,
        Some(Error::Io(error)) if matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof) => None,
        Some(error) => Some(format!(" ({error})")),
    };
    Ending { why: format!("the server went away{}", why.unwrap_or_default()), ..Ending::default() }
}

/// A close frame, in words.
fn why_closed(close: Option<&(u16, String)>) -> String {
    match close {
        None => "the server closed the connection".to_owned(),
        Some((1012, _)) => "the server stops".to_owned(),
        Some((4008, _)) => "this chat read too slowly for the server (4008 slow_consumer)".to_owned(),
        Some((code, reason)) => format!("the server closed the connection ({code} {reason})").replace(" )", ")"),
    }
}
