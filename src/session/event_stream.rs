use std::{
    collections::VecDeque,
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{self, Poll},
};

use bytes::Bytes;
use futures_util::{Stream, StreamExt, stream::Peekable};
use tokio::{sync::oneshot, time::Interval};

use super::{connection::heartbeat, guest::Guest};
use crate::{
    protocol::{CloseCode, Event, History, Item, Rejection, RoomId, Username},
    socket::{End, EventOutbox, PipeReceiving},
};

/// One client's stream of events: what its rooms say, over HTTP alone.
pub(super) struct EventStream {
    guest: Guest,
    outbox: Arc<EventOutbox>,
    /// The rooms that it still has to join.
    entries: VecDeque<(RoomId, History)>,
    username: Option<Username>,
    heartbeat: Interval,
    /// Takes why the stream does not begin. It is closed when nobody reads the stream any more.
    refusal: oneshot::Sender<Rejection>,
}

/// What the stream says: the body of a response. Dropping it ends the stream.
#[derive(Debug)]
pub struct EventBody {
    lines: Peekable<PipeReceiving>,
    refusal: oneshot::Receiver<Rejection>,
}

impl EventStream {
    /// The stream of this client, whose recipient is `outbox`, and its body. It joins these rooms, and in each gets what
    /// it asks for of what was said.
    pub(super) fn new(
        guest: Guest,
        outbox: Arc<EventOutbox>,
        pipe: PipeReceiving,
        username: Option<Username>,
        rooms: Vec<(RoomId, History)>,
    ) -> (Self, EventBody) {
        let (refusal, refused) = oneshot::channel();
        let body = EventBody { lines: pipe.peekable(), refusal: refused };
        let heartbeat = heartbeat(guest.context.options.ping_interval);
        (Self { guest, outbox, entries: rooms.into(), username, heartbeat, refusal }, body)
    }

    /// Serves the client until either side ends the stream. When this returns, or is dropped, the client has left all its
    /// rooms.
    pub(super) async fn run(mut self) {
        let Err(end) = self.serve().await;
        self.close(end).await;
    }

    async fn serve(&mut self) -> Result<Infallible, End> {
        let write_timeout = self.guest.context.options.write_timeout;
        // Its token may have been revoked since it was checked.
        self.guest.keep_to_sanctions()?;
        loop {
            while !self.guest.is_busy()
                && !self.guest.is_slowed()
                && let Some((room, history)) = self.entries.pop_front()
            {
                self.guest.enter(room, self.username.clone(), history)?;
            }
            if self.entries.is_empty() && !self.guest.is_busy() && !self.guest.session.is_in_a_room() {
                return Err(CloseCode::Normal.into());
            }
            self.guest.send_answers();
            tokio::select! {
                code = self.outbox.attend(write_timeout) => return Err(code.map_or(End::Lost, End::from)),
                happened = self.guest.attend() => happened?,
                _ = self.heartbeat.tick() => self.outbox.beat(),
                () = self.refusal.closed() => return Err(End::Lost),
            }
        }
    }

    /// Finishes what is under way, leaves all rooms, writes what still waits, and ends the stream.
    async fn close(self, mut end: End) {
        let Self { mut guest, outbox, refusal, .. } = self;
        // Nobody needs to wait any more to send something to this client.
        outbox.close(CloseCode::Normal);
        tokio::select! {
            () = guest.conclude_pending() => {}
            never = outbox.keep_writing() => match never {},
        }
        let refused = guest.answers.iter().find_map(rejection).filter(|_| !outbox.has_begun());
        if refused.is_some() {
            guest.answers.clear();
        }
        if outbox.has_overflowed() {
            end = CloseCode::SlowConsumer.into();
        }
        let context = guest.context.clone();
        guest.leave();
        context.metrics.disconnected(end.code());
        if let Some(why) = refused {
            // Whoever asked may be gone.
            let _ = refusal.send(why);
            end = End::Lost;
        }
        outbox.finish(&end, context.options.write_timeout).await;
    }
}

fn rejection(item: &Item) -> Option<Rejection> {
    match item {
        Item::Event(Event::Error { code, message, id, room, right, retry_after_ms }) => Some(Rejection {
            code: *code,
            message: message.clone(),
            id: id.clone(),
            room: room.clone(),
            right: *right,
            retry_after_ms: *retry_after_ms,
        }),
        _ => None,
    }
}

impl EventBody {
    /// Waits until the stream has begun. Its first event follows a moment after the request, or why there is none: every
    /// await on the way has a deadline.
    ///
    /// # Errors
    /// If it ended before its first event.
    pub async fn begun(&mut self) -> Result<(), Option<Rejection>> {
        match Pin::new(&mut self.lines).peek().await {
            Some(_) => Ok(()),
            None => Err(self.refusal.try_recv().ok()),
        }
    }
}

impl Stream for EventBody {
    type Item = Result<Bytes, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<Option<Self::Item>> {
        self.lines.poll_next_unpin(context)
    }
}
