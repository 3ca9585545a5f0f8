use std::{net::SocketAddr, net::ToSocketAddrs, time::Duration};

use rustix::process::{Resource, getrlimit};
use tungstenite::http::Uri;

use super::{Body, LoadError};

/// A generous number of files that the program itself opens.
const OWN_FILES: u64 = 32;

/// What a run does.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Where the servers are: `ws://host:port`, or with a path. Clients are spread evenly over them.
    pub urls: Vec<String>,
    /// Processes whose CPU time and resident memory are measured.
    pub pids: Vec<u32>,
    /// How many clients connect.
    pub clients: usize,
    /// How many rooms they join, one room each. Every room has members on every URL, if it has enough members.
    pub rooms: usize,
    /// How many clients publish, in turn: the first ones, spread first over the rooms and then over the URLs. `None`
    /// means all of them.
    pub publishers: Option<usize>,
    /// Size of a message's text, in bytes.
    pub text_bytes: usize,
    /// For how long messages flow before the measurement. They still count if missing, doubled or misordered.
    pub warm_up: Duration,
    /// How long the measurement lasts.
    pub duration: Duration,
    /// The load.
    pub flow: Flow,
    /// Joins and leaves beside the load.
    pub churn: Option<Churn>,
}

/// The load during the measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Flow {
    /// This many messages a second, all publishers together, whatever the servers do.
    Rate(f64),
    /// This many messages of each publisher under way at any time: a closed loop, to find the top throughput.
    Saturate(usize),
    /// No messages: clients connect, join, and stay.
    Idle,
}

/// Joins and leaves by extra connections, beside the clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Churn {
    /// Joins and leaves a second, together, for each URL.
    pub rate: f64,
    /// How many connections do so for each URL.
    pub connections: usize,
    /// Whether each join is to a new room; if not, to the clients' rooms in turn.
    pub fresh: bool,
}

impl Default for Plan {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            pids: Vec::new(),
            clients: 100,
            rooms: 10,
            publishers: None,
            text_bytes: 128,
            warm_up: Duration::from_secs(2),
            duration: Duration::from_secs(10),
            flow: Flow::Rate(100.0),
            churn: None,
        }
    }
}

/// A server that clients connect to.
#[derive(Clone, Debug)]
pub(super) struct Target {
    pub(super) url: String,
    pub(super) address: SocketAddr,
}

impl Plan {
    /// Checks it, and resolves the URLs.
    pub(super) fn targets(&self, path: &str) -> Result<Vec<Target>, LoadError> {
        let invalid = |why: &str| Err(LoadError::Plan(why.to_owned()));
        if self.urls.is_empty() {
            return invalid("give the URL of at least one server, such as ws://127.0.0.1:8080");
        }
        if self.clients == 0 || self.rooms == 0 || self.rooms > self.clients {
            return invalid("there must be at least one client, and at least one room, and no room without a client");
        }
        if self.publishers.is_some_and(|publishers| publishers == 0 || publishers > self.clients) {
            return invalid("there must be at least one publisher, and no more of them than clients");
        }
        if self.text_bytes < Body::SHORTEST {
            return Err(LoadError::Plan(format!("a text must have at least {} bytes", Body::SHORTEST)));
        }
        if self.duration.is_zero() {
            return invalid("the time to measure must be more than nothing");
        }
        let right = |rate: f64| rate.is_finite() && rate > 0.0;
        match self.flow {
            Flow::Rate(rate) if !right(rate) => return invalid("the rate must be more than 0"),
            Flow::Saturate(0) => return invalid("at least one message must be under way"),
            _ => {}
        }
        if self.churn.is_some_and(|churn| !right(churn.rate) || churn.connections == 0) {
            return invalid("the rate of joins and leaves, and the connections for them, must be more than 0");
        }
        self.check_files()?;
        self.urls.iter().map(|url| target(url, path)).collect()
    }

    /// How many connections to make for joins and leaves.
    pub(super) fn churners(&self) -> usize {
        self.churn.map_or(0, |churn| churn.connections * self.urls.len())
    }

    fn check_files(&self) -> Result<(), LoadError> {
        let needed = (self.clients + self.churners()) as u64 + OWN_FILES;
        match getrlimit(Resource::Nofile).current {
            Some(limit) if limit < needed => Err(LoadError::Files { limit, needed }),
            _ => Ok(()),
        }
    }
}

fn target(url: &str, path: &str) -> Result<Target, LoadError> {
    let wrong = |why: &str| LoadError::Url { url: url.to_owned(), why: why.to_owned() };
    let uri: Uri = url.parse().map_err(|_| wrong("it is not a URL like ws://127.0.0.1:8080"))?;
    let (Some("ws"), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
        return Err(wrong("it is not a URL like ws://127.0.0.1:8080, and TLS is not for this meter"));
    };
    // The brackets of an IPv6 address are only part of the URL.
    let host = authority.host().trim_matches(['[', ']']);
    let found = (host, authority.port_u16().unwrap_or(80)).to_socket_addrs();
    let address = found.map_err(|why| wrong(&format!("its host cannot be found ({why})")))?.next();
    let address = address.ok_or_else(|| wrong("its host has no address"))?;
    let path = uri.path_and_query().map(|given| given.as_str()).filter(|given| *given != "/").unwrap_or(path);
    Ok(Target { url: format!("ws://{authority}{path}"), address })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(change: impl FnOnce(&mut Plan)) -> Result<Vec<Target>, LoadError> {
        let mut plan = Plan { urls: vec!["ws://127.0.0.1:8080".to_owned()], ..Plan::default() };
        change(&mut plan);
        plan.targets("/ws")
    }

    #[test]
    fn a_url_without_a_path_gets_that_of_the_dialect() {
        let url = |url: &str| plan(|plan| plan.urls = vec![url.to_owned()]).map(|targets| targets[0].url.clone());
        assert_eq!(url("ws://127.0.0.1:8080").unwrap(), "ws://127.0.0.1:8080/ws");
        assert_eq!(url("ws://127.0.0.1:8080/a?b=c").unwrap(), "ws://127.0.0.1:8080/a?b=c");
        assert_eq!(url("ws://[::1]:8080/").unwrap(), "ws://[::1]:8080/ws");
        for wrong in ["127.0.0.1:8080", "http://127.0.0.1:8080", "wss://127.0.0.1:8080", "ws://"] {
            assert!(matches!(url(wrong), Err(LoadError::Url { .. })), "{wrong}");
        }
    }

    #[test]
    fn a_plan_that_cannot_be_carried_out_is_refused() {
        assert!(plan(|_| {}).is_ok());
        let wrong: [fn(&mut Plan); 9] = [
            |plan| plan.urls.clear(),
            |plan| plan.clients = 0,
            |plan| plan.rooms = plan.clients + 1,
            |plan| plan.publishers = Some(0),
            |plan| plan.text_bytes = 4,
            |plan| plan.duration = Duration::ZERO,
            |plan| plan.flow = Flow::Rate(f64::NAN),
            |plan| plan.flow = Flow::Saturate(0),
            |plan| plan.churn = Some(Churn { rate: 0.0, connections: 1, fresh: true }),
        ];
        for (place, change) in wrong.into_iter().enumerate() {
            assert!(matches!(plan(change), Err(LoadError::Plan(_))), "the one at {place}");
        }
        assert!(matches!(plan(|plan| plan.clients = 1 << 40), Err(LoadError::Files { .. })));
    }
}
