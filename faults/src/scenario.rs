//! What can be broken: the list of scenarios.

use crate::cluster::Topology;

/// What is done to the cluster or its clients while messages flow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each is described where it is listed and done")]
pub enum Fault {
    None,
    CutClients,
    KillServer,
    RollingRestart,
    KillRedis,
    FreezeRedis,
    BlackHole,
    RoughNetwork,
    Failover,
    FailoverOvertaken,
    FlushAll,
    StopReading,
    StayAwayTooLong,
    MassReconnect,
    FreezeRedisAndKillServer,
    CutInReplay,
    StopRedisInReplay,
    Herd,
}

/// What clients there are and how much they send.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// How many clients.
    pub clients: u32,
    /// How many rooms they are in. Each is in one, and every fifth in two.
    pub rooms: u32,
    /// Messages a second, of all together.
    pub rate: f64,
    /// Characters of a text.
    pub text: usize,
}

/// One way to break a cluster.
#[derive(Clone, Copy, Debug)]
pub struct Scenario {
    /// For `--only` and the table.
    pub name: &'static str,
    /// For people.
    pub about: &'static str,
    /// From when the time until all are live again counts.
    pub counted_from: &'static str,
    /// Whether the short form has it.
    pub short: bool,
    pub topology: Topology,
    pub load: Load,
    /// Settings of the servers, beside those that all scenarios have.
    pub settings: &'static [(&'static str, &'static str)],
    pub fault: Fault,
    /// Whether messages are lost for good, so that members must be told. Elsewhere a `reset` is wrong: all that
    /// was acknowledged is still there.
    pub loses: bool,
}

const USUAL: Load = Load { clients: 60, rooms: 6, rate: 300.0, text: 64 };

const BASE: Scenario = Scenario {
    name: "",
    about: "",
    counted_from: "",
    short: false,
    topology: Topology::Redis,
    load: USUAL,
    settings: &[],
    fault: Fault::None,
    loses: false,
};

/// Settings that all scenarios have: deadlines so short that a scenario shows several of them passing.
pub const SETTINGS: &[(&str, &str)] = &[
    ("REDIS_COMMAND_TIMEOUT", "500ms"),
    ("REDIS_CONNECT_TIMEOUT", "500ms"),
    ("SUBSCRIBER_PROBE_INTERVAL", "500ms"),
    ("COMPARE_INTERVAL", "1s"),
    ("DRAIN_TIME", "1s"),
    ("READY_GRACE", "0s"),
    ("SHUTDOWN_TIMEOUT", "5s"),
];

/// All scenarios, in the order in which they run.
pub const SCENARIOS: &[Scenario] = &[
    Scenario { name: "calm", about: "nothing breaks", counted_from: "any moment", short: true, ..BASE },
    Scenario {
        name: "memory-broker",
        about: "one server without Redis; a third of the clients lose their connections, three times",
        counted_from: "the last cut",
        short: true,
        topology: Topology::Embedded,
        fault: Fault::CutClients,
        ..BASE
    },
    Scenario {
        name: "server-killed",
        about: "SIGKILL of one of three servers, which comes back after a while",
        counted_from: "the kill",
        short: true,
        fault: Fault::KillServer,
        ..BASE
    },
    Scenario {
        name: "rolling-restart",
        about: "three servers are restarted by SIGTERM, one after another",
        counted_from: "the end of the last restart",
        short: true,
        fault: Fault::RollingRestart,
        ..BASE
    },
    Scenario {
        name: "redis-killed",
        about: "SIGKILL of Redis, which comes back with its append-only file",
        counted_from: "the start of Redis",
        short: true,
        fault: Fault::KillRedis,
        // With `appendfsync everysec`, as here, Redis may answer a moment before it writes.
        loses: true,
        ..BASE
    },
    Scenario {
        name: "redis-hangs",
        about: "SIGSTOP of Redis for 10 s (3 s in the short form)",
        counted_from: "SIGCONT",
        short: true,
        fault: Fault::FreezeRedis,
        ..BASE
    },
    Scenario {
        name: "network-cut",
        about: "the network between one server and Redis drops everything for 8 s (3 s), without a reset",
        counted_from: "the end of the cut",
        short: true,
        fault: Fault::BlackHole,
        ..BASE
    },
    Scenario {
        name: "network-rough",
        about: "the network between all servers and Redis is slow and loses packets, differently for each connection",
        counted_from: "the end of it",
        fault: Fault::RoughNetwork,
        ..BASE
    },
    Scenario {
        name: "failover",
        about: "the primary is killed, and a replica that lacks its last writes takes over",
        counted_from: "the moment in which servers are led to the replica",
        short: true,
        topology: Topology::Replicated,
        fault: Fault::Failover,
        loses: true,
        ..BASE
    },
    Scenario {
        name: "failover-overtaken",
        about: "the same, and a new server has given out all the lost numbers again, and more, before the others are \
                led to the replica",
        counted_from: "the moment in which the old servers are led to the replica",
        topology: Topology::Replicated,
        fault: Fault::FailoverOvertaken,
        loses: true,
        ..BASE
    },
    Scenario {
        name: "flushall",
        about: "FLUSHALL",
        counted_from: "FLUSHALL",
        short: true,
        fault: Fault::FlushAll,
        loses: true,
        ..BASE
    },
    Scenario {
        name: "slow-client",
        about: "a client stops reading beside others; the server must close it with 4008, and it resumes",
        counted_from: "the moment in which it reads again",
        load: Load { clients: 12, rooms: 2, rate: 160.0, text: 14_000 },
        settings: &[("OUTBOX_MESSAGES", "64"), ("HISTORY_BYTES", "64MiB")],
        fault: Fault::StopReading,
        ..BASE
    },
    Scenario {
        name: "away-too-long",
        about: "clients stay away for longer than the log reaches back, and are told what they lost",
        counted_from: "the moment in which they are back",
        load: Load { rate: 400.0, ..USUAL },
        settings: &[("HISTORY_LENGTH", "50")],
        fault: Fault::StayAwayTooLong,
        loses: true,
        ..BASE
    },
    Scenario {
        name: "mass-reconnect",
        about: "1,000 clients lose their connections at once and come back at once",
        counted_from: "the cut",
        load: Load { clients: 1000, rooms: 50, rate: 200.0, text: 64 },
        fault: Fault::MassReconnect,
        ..BASE
    },
    Scenario {
        name: "two-at-once",
        about: "SIGKILL of a server while Redis hangs",
        counted_from: "SIGCONT of Redis",
        fault: Fault::FreezeRedisAndKillServer,
        ..BASE
    },
    Scenario {
        name: "cut-in-replay",
        about: "clients that come back lose the network again after each number of frames from `join` on, 0 to 400 (60), \
                with messages flowing and without",
        counted_from: "the moment in which all are caught up",
        short: true,
        load: Load { clients: 6, rooms: 1, rate: 300.0, text: 64 },
        fault: Fault::CutInReplay,
        ..BASE
    },
    Scenario {
        name: "redis-stops-in-replay",
        about: "SIGSTOP of Redis for 2 s, then for 8 s, while slow clients get what they missed from a server that has \
                just started",
        counted_from: "the second SIGCONT",
        load: Load { clients: 4, rooms: 1, rate: 80.0, text: 14_000 },
        settings: &[("HISTORY_BYTES", "64MiB")],
        fault: Fault::StopRedisInReplay,
        ..BASE
    },
    Scenario {
        name: "herd",
        about: "SIGKILL of one of three servers with 2,000 clients in 20 rooms with full logs; its clients come back at \
                once, and with them 250 that have missed hundreds of messages",
        counted_from: "the kill",
        load: Load { clients: 80, rooms: 20, rate: 1600.0, text: 64 },
        fault: Fault::Herd,
        ..BASE
    },
];
