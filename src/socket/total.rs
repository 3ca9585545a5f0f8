use std::sync::atomic::{AtomicUsize, Ordering};

/// A bound on the bytes of one kind that all clients of a server hold together.
///
/// When they hold more, those with more than their share must go, so that a client that keeps up does not pay for
/// others.
#[derive(Debug)]
pub struct Total {
    max: usize,
    bytes: AtomicUsize,
    /// How many clients hold such bytes.
    holders: AtomicUsize,
}

impl Total {
    /// A total of at most `max` bytes, of which none is held.
    pub fn new(max: usize) -> Self {
        Self { max, bytes: AtomicUsize::new(0), holders: AtomicUsize::new(0) }
    }

    /// One client now holds `to` bytes instead of `from`.
    pub(super) fn change(&self, from: usize, to: usize) {
        match (from, to) {
            (0, 1..) => _ = self.holders.fetch_add(1, Ordering::Relaxed),
            (1.., 0) => _ = self.holders.fetch_sub(1, Ordering::Relaxed),
            _ => {}
        }
        if to >= from {
            self.bytes.fetch_add(to - from, Ordering::Relaxed);
        } else {
            self.bytes.fetch_sub(from - to, Ordering::Relaxed);
        }
    }

    /// Whether the clients hold more than the bound.
    pub(super) fn is_over(&self) -> bool {
        self.bytes.load(Ordering::Relaxed) > self.max
    }

    /// Whether a client may hold this much: the bound is not reached, or the client has at most its share.
    pub(super) fn allows(&self, own: usize) -> bool {
        !self.is_over() || own <= self.max / self.holders.load(Ordering::Relaxed).max(1)
    }

    /// How many bytes are held, and by how many clients.
    #[cfg(test)]
    pub(super) fn held(&self) -> (usize, usize) {
        (self.bytes.load(Ordering::Relaxed), self.holders.load(Ordering::Relaxed))
    }
}
