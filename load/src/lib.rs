//! An open-loop load generator: it keeps its rate whatever the servers do, and counts latency from when a message was
//! due, so a server that stalls cannot hide it by slowing the generator down.
//!
//! One thread, one epoll loop and one buffer for all sockets leave the machine to the servers. A [`Dialect`] defines
//! the protocol; [`Roomcast`] is that of this project's servers.

mod body;
mod churning;
mod connection;
mod connects;
mod dialect;
mod field;
mod files;
mod frame;
mod latency;
mod layout;
mod messages;
mod outcome;
mod plan;
mod poller;
mod process;
mod report;
mod roomcast;
mod run;
mod swarm;
mod tally;
mod timer;

use std::io;

use self::{body::Body, layout::Layout};
pub use self::{
    dialect::{Client, Dialect, Heard, append},
    field::Field,
    files::raise_file_limit,
    latency::Latency,
    plan::{Churn, Flow, Plan},
    process::Process,
    report::{ChurnReport, Connections, Deliveries, Messages, ProcessReport, Progress, Report},
    roomcast::Roomcast,
    run::run,
};

/// Why there is no report.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The plan contradicts itself.
    #[error("{0}")]
    Plan(String),
    /// A URL does not work.
    #[error("{url}: {why}")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are more clients than open files allowed.
    #[error(
        "{needed} open files are needed and {limit} are allowed: run `ulimit -n {needed}` first, or have fewer clients"
    )]
    Files {
        /// How many may be open.
        limit: u64,
        /// How many would be.
        needed: u64,
    },
    /// No client could join.
    #[error("no client could join: {why}")]
    Nobody {
        /// The most frequent reason.
        why: String,
    },
    /// A process cannot be measured.
    #[error(
        "{process} cannot be measured ({why}); give the pid of a process that runs on this machine under this user"
    )]
    Process {
        /// Its directory.
        process: String,
        /// What is wrong.
        why: String,
    },
    /// The system refused something that the event loop needs.
    #[error("cannot watch sockets: {0}")]
    Poll(#[from] io::Error),
}
