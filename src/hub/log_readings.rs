//! Keeps the channels up to date with their logs: thin tasks that ask the broker for what the channels want.

use std::{convert::Infallible, iter, time::Duration};

use futures_util::stream::{FuturesUnordered, StreamExt};
use tokio::time::{Instant, sleep_until};

use super::{
    Hub,
    agenda::{Job, Lease},
    local_channel::{LocalChannel, Refusal},
};
use crate::{
    broker::{RecoverError, Unavailable},
    order::ReadFrom,
    protocol::Channel,
};

/// Most readings at a time that bring channels up to date. Most of these ask for the log's top alone.
const READINGS: usize = 32;

/// Most readings at a time for arrivals, each a page of messages.
const PAGES: usize = 4;

/// How many channels to look up with one query.
const LOOKED_UP: usize = 256;

/// How long to pause after a reading that failed because the broker is away.
const PAUSE: Duration = Duration::from_millis(200);

impl Hub {
    /// Reads the logs of the channels that are due: those just subscribed, and those with something missing.
    pub(super) async fn recover_logs(&self) -> Infallible {
        let agenda = self.channels.agenda(Job::Read);
        let mut readings = FuturesUnordered::new();
        let mut paused_until = Instant::now();
        loop {
            let paused = Instant::now() < paused_until;
            tokio::select! {
                lease = agenda.next(), if !paused && readings.len() < READINGS => {
                    match self.channels.act_on(&lease, |local, _| local.begin_reading()).flatten() {
                        Some(from) => readings.push(self.recover_log(lease, from)),
                        None => drop(self.channels.finish(Job::Read, lease, |_, _| ())),
                    }
                }
                Some(succeeded) = readings.next() => if !succeeded && !self.broker.troubles().is_empty() {
                    paused_until = Instant::now() + PAUSE;
                },
                () = sleep_until(paused_until), if paused => {}
            }
        }
    }

    /// Reads one log into its channel. Returns whether the broker answered.
    async fn recover_log(&self, lease: Lease<'_>, from: Option<ReadFrom>) -> bool {
        let read = self.broker.recover(&lease.key().channel, from).await;
        let succeeded = read.is_ok();
        self.channels.finish(Job::Read, lease, |local, now| match read {
            Ok(slice) => local.fill(slice, now),
            Err(error) => {
                tracing::debug!(%error, "cannot read a log");
                local.reading_failed();
                if matches!(error, RecoverError::Overloaded) {
                    local.refused(Refusal::Overloaded);
                }
            }
        });
        succeeded
    }

    /// Reads pages for those who wait for them.
    pub(super) async fn read_pages(&self) -> Infallible {
        let agenda = self.channels.agenda(Job::Page);
        let mut readings = FuturesUnordered::new();
        loop {
            tokio::select! {
                lease = agenda.next(), if readings.len() < PAGES => readings.push(self.read_page(lease)),
                Some(()) = readings.next() => {}
            }
        }
    }

    async fn read_page(&self, lease: Lease<'_>) {
        let Some(page) = self.channels.act_on(&lease, |local, _| local.begin_page()).flatten() else {
            self.channels.finish(Job::Page, lease, |_, _| ());
            return;
        };
        self.metrics.pages_read.inc();
        let read = self.broker.read(&lease.key().channel, page.0).await;
        if let Err(error) = &read {
            tracing::debug!(%error, "a part of cannot read a log");
        }
        self.channels.finish(Job::Page, lease, |local, now| local.page_read(page, read.ok(), now));
    }

    /// Looks up the logs' tops of the channels that are due: if a room's last message is lost, no later one shows it.
    pub(super) async fn look_up_logs(&self) -> Infallible {
        let agenda = self.channels.agenda(Job::LookUp);
        loop {
            let first = agenda.next().await;
            let now = Instant::now();
            let more = iter::from_fn(|| agenda.take(now)).take(LOOKED_UP - 1);
            let leases: Vec<Lease<'_>> = iter::once(first).chain(more).collect();
            let channels: Vec<Channel> = leases.iter().map(|lease| lease.key().channel.clone()).collect();
            // A failed look-up happens again when its time comes.
            let tops = self.broker.tops(&channels).await.unwrap_or_default().into_iter();
            let failed = iter::repeat_with(|| Err(Unavailable("there was no answer".into())));
            for (lease, top) in leases.into_iter().zip(tops.chain(failed)) {
                self.channels.finish(Job::LookUp, lease, |local: &mut LocalChannel, now| local.looked_up(top, now));
            }
        }
    }
}
