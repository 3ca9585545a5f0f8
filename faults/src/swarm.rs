//! All clients of a run.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;

use crate::{
    Result,
    client::{Client, Order, Plan},
    cluster::Directory,
    record,
    recorder::Recorder,
    seed::Seed,
    wait::{until, within},
};

const END: Duration = Duration::from_secs(30);

/// The clients of a run and what they are told.
#[derive(Debug)]
pub struct Swarm {
    /// What they did and saw.
    pub recorder: Arc<Recorder>,
    directory: Directory,
    seed: Seed,
    sending: watch::Sender<bool>,
    orders: Vec<mpsc::Sender<Order>>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

impl Swarm {
    /// Nobody yet.
    pub fn new(directory: Directory, seed: Seed) -> Self {
        Self {
            recorder: Arc::new(Recorder::new()),
            directory,
            seed,
            sending: watch::Sender::new(false),
            orders: Vec::new(),
            stop: CancellationToken::new(),
            tasks: JoinSet::new(),
        }
    }

    /// Starts a client. Returns its number.
    pub fn add(&mut self, plan: Plan) -> record::Client {
        let number = record::Client::try_from(self.orders.len()).unwrap_or(record::Client::MAX);
        plan.rooms.iter().for_each(|room| self.recorder.expect(number, *room));
        let (order, orders) = mpsc::channel(8);
        let (shared, sending) = ((self.directory.clone(), self.recorder.clone()), self.sending.subscribe());
        let rng = self.seed.rng(&format!("client {number}"));
        self.tasks.spawn(Client::new(number, plan, shared, sending, orders, self.stop.clone(), rng).run());
        self.orders.push(order);
        number
    }

    /// Waits until every client is in all of its rooms.
    pub async fn all_in(&self, deadline: Duration) -> Result<()> {
        let all = until("all clients are in their rooms", deadline, async || self.recorder.missing() == 0).await;
        all.map_err(|error| format!("{error}; {} memberships are missing", self.recorder.missing()).into())
    }

    /// Whether clients send messages.
    pub fn send(&self, whether: bool) {
        self.sending.send_replace(whether);
    }

    /// Tells one client to do something.
    pub fn order(&self, client: record::Client, order: Order) -> Result<()> {
        let orders = self.orders.get(client as usize).ok_or("there is no such client")?;
        orders.try_send(order).map_err(|error| format!("client {client} cannot take an order: {error}").into())
    }

    /// How many clients there are.
    pub fn len(&self) -> usize {
        self.orders.len()
    }

    /// Waits until all clients have everything, at most so long. The judge finds out if they do not.
    pub async fn converge(&self, deadline: Duration) -> bool {
        until("all have everything", deadline, async || self.recorder.has_converged()).await.is_ok()
    }

    /// Ends all clients. Returns what was recorded.
    pub async fn stop(mut self) -> Result<Vec<record::Event>> {
        self.stop.cancel();
        while let Some(ended) = within("the end of the clients", END, self.tasks.join_next()).await? {
            ended.map_err(|error| format!("a client broke: {error}"))?;
        }
        let recorder = Arc::into_inner(self.recorder).ok_or("the record is still being written")?;
        Ok(recorder.into_events())
    }
}
