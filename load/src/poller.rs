use std::{io, time::Instant};

use mio::{Events, Interest, Poll, Token, net::TcpStream};

use super::timer::Timer;

/// How many sockets to serve before looking at the clock again: few enough for messages to be on time.
const BATCH: usize = 128;

/// The token of the timer; those of the sockets are counted from 0.
const TIMER: Token = Token(usize::MAX);

/// A socket with an event.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ready {
    pub(super) index: usize,
    /// The other side closed it, or there was an error.
    pub(super) ended: bool,
}

/// Waits for sockets, or for a time.
#[derive(Debug)]
pub(super) struct Poller {
    poll: Poll,
    events: Events,
    timer: Timer,
}

impl Poller {
    pub(super) fn new() -> io::Result<Self> {
        let poll = Poll::new()?;
        let timer = Timer::new(&poll, TIMER)?;
        Ok(Self { poll, events: Events::with_capacity(BATCH), timer })
    }

    /// Watches a socket from now on.
    pub(super) fn watch(&self, stream: &mut TcpStream, index: usize) -> io::Result<()> {
        self.poll.registry().register(stream, Token(index), Interest::READABLE | Interest::WRITABLE)
    }

    /// Waits for events, until this time, or until a signal, and adds the sockets with events.
    pub(super) fn wait(&mut self, until: Instant, ready: &mut Vec<Ready>) -> io::Result<()> {
        let left = until.saturating_duration_since(Instant::now());
        let timeout = if left.is_zero() { Some(left) } else { self.timer.set(left)? };
        match self.poll.poll(&mut self.events, timeout) {
            Err(why) if why.kind() == io::ErrorKind::Interrupted => return Ok(()),
            outcome => outcome?,
        }
        let sockets = self.events.iter().filter(|event| event.token() != TIMER);
        ready.extend(
            sockets.map(|event| Ready { index: event.token().0, ended: event.is_read_closed() || event.is_error() }),
        );
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_moment_is_kept_time_and_again() {
        let mut poller = Poller::new().unwrap();
        for _ in 0..20 {
            let until = Instant::now() + Duration::from_micros(300);
            let mut ready = Vec::new();
            poller.wait(until, &mut ready).unwrap();
            assert!(Instant::now() >= until && ready.is_empty());
        }
    }
}
