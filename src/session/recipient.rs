use std::task::{self, Poll};

use crate::{
    hub::Recipient,
    protocol::{Batch, CloseCode},
    socket::{EventOutbox, Outbox},
};

impl Recipient for Outbox {
    fn deliver(&self, batch: &Batch) {
        Self::deliver(self, batch);
    }

    fn is_free(&self) -> bool {
        Self::is_free(self)
    }

    fn poll_free(&self, context: &mut task::Context<'_>) -> Poll<bool> {
        Self::poll_free(self, context)
    }

    fn close(&self, code: CloseCode) {
        Self::close(self, code);
    }
}

impl Recipient for EventOutbox {
    fn deliver(&self, batch: &Batch) {
        Self::deliver(self, batch);
    }

    fn is_free(&self) -> bool {
        Self::is_free(self)
    }

    fn poll_free(&self, context: &mut task::Context<'_>) -> Poll<bool> {
        Self::poll_free(self, context)
    }

    fn close(&self, code: CloseCode) {
        Self::close(self, code);
    }
}
