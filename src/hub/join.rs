use std::{sync::Arc, time::Duration};

use tokio::{
    task::yield_now,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Hub, Membership,
    admission::Arrival,
    local_channel::{Refusal, Step},
    recipient::Client,
    stretch::Stretch,
};
use crate::{
    access::Rate,
    broker::{RecoverError, Trouble, Unavailable},
    protocol::{Channel, History, RoomId, Username},
};

/// How long to wait after a failed reading of the log.
const RETRY: Duration = Duration::from_millis(100);

/// Why a client did not become a member, or did not stay one.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has been told nothing.
    #[error(transparent)]
    Refused(#[from] RecoverError),
    /// It has been told `joined`, and a part of the history it asked for.
    #[error("cannot read the requested history at the moment")]
    Interrupted,
    /// A moderator has removed the user meanwhile.
    #[error("a moderator has removed the user")]
    Kicked {
        /// Whether the user may not come back.
        banned: bool,
        /// Whether the client has been told `joined`.
        announced: bool,
    },
}

impl Hub {
    /// Makes a client a member of a room, as this user, until the membership is dropped. When this returns, the client has been sent
    /// `joined` and the history it asked for, and gets exactly the messages that follow.
    ///
    /// # Errors
    /// If the room's channel could not be subscribed and read in time, or if the log could not be read on in the same
    /// time. Dropping the future undoes the join.
    pub async fn join(
        self: &Arc<Self>,
        client: &Client,
        room: &RoomId,
        user: &Username,
        history: History,
    ) -> Result<Membership, JoinError> {
        let (channel, client) = (Channel::Room(room.clone()), &client.known_as(user));
        let membership = Membership::new(self.clone(), channel.clone(), client.id);
        let history = match history {
            History::Last(count) => History::Last(count.min(self.options.max_last)),
            history => history,
        };
        let mut arrival = Arrival::new(room.clone(), self.origin_server.clone(), history);
        match self.bring_in(client, &channel, user, &mut arrival).await {
            Ok(()) => Ok(membership),
            Err(JoinError::Refused(_)) if arrival.is_announced() => Err(JoinError::Interrupted),
            Err(why) => Err(why),
        }
    }

    /// Sends a client what it asked for, as fast as it accepts it, and then makes it a member.
    async fn bring_in(
        &self,
        client: &Client,
        channel: &Channel,
        user: &Username,
        arrival: &mut Arrival,
    ) -> Result<(), JoinError> {
        let unavailable = |why: String| Err(RecoverError::from(Unavailable(why)).into());
        let mut sanctions = self.sanction_changes();
        let known = timeout(self.options.join_timeout, sanctions.wait_for(|sanctions| sanctions.is_known())).await;
        let Ok(Ok(before)) = known.map(|known| known.map(|known| known.clone())) else {
            return unavailable("it is not known yet what holds on all servers".into());
        };
        let join_timeout = self.options.join_timeout;
        let mut read: Option<Arc<Stretch>> = None;
        let mut deadline = Instant::now() + join_timeout;
        loop {
            let since = Instant::now();
            // Fetch nothing for a client that has not accepted yet what it was sent before.
            if !client.free().await {
                return unavailable("the client is being closed".into());
            }
            if let Some(room) = channel.room()
                && let Some(banned) = self.sanctions().new_kick(&before, room, user)
            {
                return Err(JoinError::Kicked { banned, announced: arrival.is_announced() });
            }
            let step = {
                // When thousands come at once, only a few are handled at a time, so that other tasks get their turns.
                let _turn = self.arrival_turns.acquire().await;
                // The client's time, or other arrivals', does not count against the broker.
                deadline += since.elapsed();
                self.enter(client, channel, arrival, read.take().as_deref())
            };
            match step {
                Step::Entered => return Ok(()),
                Step::Refused(Refusal::Overloaded) => return Err(RecoverError::Overloaded.into()),
                Step::Refused(Refusal::NotAllowed) => return unavailable("Redis does not allow this channel".into()),
                Step::Sent => {
                    // It is a member by now and cannot just go elsewhere, so wait longer.
                    deadline = Instant::now() + 2 * join_timeout;
                    yield_now().await;
                }
                Step::Wait(_) if !arrival.is_announced() && self.is_away() => {
                    return unavailable("the broker is away".into());
                }
                Step::Wait(changed) => {
                    if timeout_at(deadline, changed).await.is_err() {
                        return unavailable(format!("the room was not open within {join_timeout:?}"));
                    }
                }
                Step::Read(page) => match timeout_at(deadline, page).await {
                    Ok(Ok(page)) => read = Some(page),
                    Ok(Err(_)) if !arrival.is_announced() && self.is_away() => {
                        return unavailable("the broker is away".into());
                    }
                    Ok(Err(_)) if Instant::now() + RETRY < deadline => sleep(RETRY).await,
                    _ => return unavailable(format!("the log was not read within {join_timeout:?}")),
                },
            }
        }
    }

    /// Takes the next step of an arrival and sends what follows from it, under one lock, so that no message gets in
    /// between. Makes the room if there is none.
    fn enter(&self, client: &Client, channel: &Channel, arrival: &mut Arrival, read: Option<&Stretch>) -> Step {
        if self.channels.rooms() >= self.options.max_rooms && self.channels.peek(channel, |_| ()).is_none() {
            return Step::Refused(Refusal::Overloaded);
        }
        let (step, is_new) = self.channels.open(channel, |local, now| local.arrive(client, arrival, read, now));
        if is_new {
            self.broker.interest_changed(channel.clone());
        }
        step
    }

    /// Whether joining this room would make it: it has no members on this server and, if it keeps history, no log. A room of
    /// which Redis does not say so counts as there.
    pub async fn would_make(&self, room: &RoomId) -> bool {
        let channel = [Channel::Room(room.clone())];
        if !self.rules.keeps_history || self.channels.peek(&channel[0], |_| ()).is_some() {
            return false;
        }
        let tops = self.broker.tops(&channel).await;
        tops.is_ok_and(|tops| matches!(&tops[..], [Ok(None)]))
    }

    /// Takes this much from a purse that all servers share. Returns how long it takes until it is there, if it is not.
    ///
    /// # Errors
    /// If the broker is away.
    pub async fn spend(&self, purse: &str, rate: Rate, cost: f64) -> Result<Option<Duration>, Unavailable> {
        self.broker.spend(purse, rate, cost).await
    }

    /// Whether the broker is away, as far as known.
    fn is_away(&self) -> bool {
        let is_away =
            |trouble: &Trouble| matches!(trouble, Trouble::RedisUnreachable | Trouble::SubscriberDisconnected);
        self.broker.troubles().iter().any(is_away)
    }
}
