use std::convert::Infallible;

use tokio::task::yield_now;

use super::{Hub, agenda::Job, pace::TURN};

impl Hub {
    /// Writes to members what is in line for them, channel by channel and turn by turn. Several workers may do this
    /// side by side: each channel is with one of them at a time.
    pub(super) async fn serve_members(&self) -> Infallible {
        let mut written = 0;
        loop {
            let lease = self.channels.agenda(Job::Serve).next().await;
            while let Some((served, true)) = self.channels.act_on(&lease, |local, now| local.serve(TURN, now)) {
                written += served;
            }
            self.channels.finish(Job::Serve, lease, |_, _| ());
            if written >= TURN {
                written = 0;
                yield_now().await;
            }
        }
    }
}
