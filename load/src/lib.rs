//! An open-loop load generator: it keeps its rate whatever the servers do, and counts latency from the moment a message
//! was due, so a server that stalls cannot hide that by holding the generator up.
//!
//! One thread, one epoll loop, one buffer that all sockets are read into, so that it leaves the machine to the servers.
//! What is said and heard is up to a [`Dialect`]; [`Roomcast`] is that of this project's servers.

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
    /// A URL leads nowhere.
    #[error("{url}: {why}")]
    Url {
        /// The URL as it was given.
        url: String,
        /// What is wrong with it.
        why: String,
    },
    /// There are more clients than files that may be open.
    #[error(
        "{needed} open files are needed and {limit} are allowed: run `ulimit -n {needed}` first, or have fewer clients"
    )]
    Files {
        /// How many may be open.
        limit: u64,
        /// How many would be.
        needed: u64,
    },
    /// Not one client could join.
    #[error("no client could join: {why}")]
    Nobody {
        /// The most frequent reason.
        why: String,
    },
    /// A process that was to be measured cannot be.
    #[error(
        "{process} cannot be measured ({why}); give the pid of a process that runs on this machine under this user"
    )]
    Process {
        /// Its directory.
        process: String,
        /// What is wrong.
        why: String,
    },
    /// The system refuses what an event loop needs.
    #[error("cannot watch sockets: {0}")]
    Poll(#[from] io::Error),
}
