use std::{io, time::Duration};

use mio::{Poll, Token};

/// Wakes a poll with a precision of some microseconds; epoll's own timeout counts milliseconds.
#[cfg(target_os = "linux")]
#[derive(Debug)]
pub(super) struct Timer(std::os::fd::OwnedFd);

#[cfg(target_os = "linux")]
impl Timer {
    pub(super) fn new(poll: &Poll, token: Token) -> io::Result<Self> {
        use std::os::fd::AsRawFd;

        use mio::{Interest, unix::SourceFd};
        use rustix::time::{TimerfdClockId, TimerfdFlags, timerfd_create};

        let timer = timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::NONBLOCK | TimerfdFlags::CLOEXEC)?;
        poll.registry().register(&mut SourceFd(&timer.as_raw_fd()), token, Interest::READABLE)?;
        Ok(Self(timer))
    }

    /// Sets it to a time from now, which must not be 0. Returns the timeout for the poll itself.
    pub(super) fn set(&self, left: Duration) -> io::Result<Option<Duration>> {
        use rustix::time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime};

        let value = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let once = Itimerspec { it_interval: Timespec::default(), it_value: value };
        timerfd_settime(&self.0, TimerfdTimerFlags::empty(), &once)?;
        Ok(None)
    }
}

/// Without such a timer, the timeout alone must do.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
pub(super) struct Timer;

#[cfg(not(target_os = "linux"))]
impl Timer {
    pub(super) fn new(_poll: &Poll, _token: Token) -> io::Result<Self> {
        Ok(Self)
    }

    /// Returns the timeout for the poll.
    pub(super) fn set(&self, left: Duration) -> io::Result<Option<Duration>> {
        Ok(Some(left))
    }
}
