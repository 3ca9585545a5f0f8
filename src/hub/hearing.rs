use std::sync::Arc;

use bytes::Bytes;

use super::{Hub, claims::Claim, local_channel::Refusal};
use crate::{
    access::{Sanction, Sanctions},
    broker::Listener,
    order::Publication,
    protocol::{Channel, Envelope, Frame},
    telemetry::EnvelopeKind,
};

impl Listener for Hub {
    fn wants(&self, channel: &Channel) -> bool {
        self.channels.has(channel)
    }

    fn wanted(&self) -> Vec<Channel> {
        self.channels.all()
    }

    fn subscribed(&self, channel: &Channel) {
        self.channels.act(channel, |local, now| local.subscribed(now));
    }

    fn refused(&self, channel: &Channel) {
        self.channels.act(channel, |local, _| local.refused(Refusal::NotAllowed));
    }

    fn heard(&self, channel: &Channel, payload: Bytes, is_vouched: bool) {
        let kind = self.hear(channel, payload, is_vouched).unwrap_or(EnvelopeKind::Unreadable);
        self.metrics.envelope_heard(kind);
    }

    fn sanctioned(&self, all: &[(String, u64)]) {
        let all = Sanctions::read(all.iter().map(|(text, until)| (text.as_str(), *until)));
        self.sanctions.send_replace(Arc::new(all));
    }

    fn asked(&self, question: &str) -> Option<String> {
        self.answer(question)
    }

    fn outlives(&self, text: &str) -> bool {
        Sanction::is_revocation_text(text)
    }
}

impl Hub {
    /// Reads what was published on a channel; `None` if members must not get it.
    fn hear(&self, channel: &Channel, payload: Bytes, is_vouched: bool) -> Option<EnvelopeKind> {
        let frame = Frame::new(payload).ok()?;
        let envelope = Envelope::read(&frame).ok()?;
        // Members of this room must not take it for a message to another one.
        if envelope.room.as_deref().is_some_and(|room| channel.room().is_none_or(|id| id.as_str() != room)) {
            return None;
        }
        let stamp = envelope.stamp;
        if envelope.origin_server == *self.origin_server {
            // This server's members get it with the answer to the publish. The echo only shows that the message exists,
            // in case that answer was lost.
            if let Some(stamp) = stamp.filter(|_| is_vouched) {
                self.channels.act(channel, |local, now| local.observe(stamp.position, now));
            }
            return Some(EnvelopeKind::OwnEcho);
        }
        let span = self.tracer.deliver(channel, envelope.traceparent);
        match stamp {
            Some(stamp) if is_vouched => {
                let publication = Publication { position: stamp.position, ts: stamp.ts, item: frame };
                span.in_scope(|| self.channels.act(channel, |local, now| local.accept(publication, now)));
                Some(EnvelopeKind::Numbered)
            }
            // What does not fit into an outbox cannot be sent to anybody.
            _ if frame.len() > self.rules.line.bytes => None,
            Some(stamp) => {
                let claim = Claim { position: stamp.position, frame };
                let is_taken = span.in_scope(|| self.channels.act(channel, |local, _| local.claim(claim)));
                (is_taken != Some(false)).then_some(EnvelopeKind::Unvouched)
            }
            None => {
                span.in_scope(|| self.deliver_unplaced(channel, &frame));
                Some(EnvelopeKind::Foreign)
            }
        }
    }
}
