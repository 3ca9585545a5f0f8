use std::{path::PathBuf, process::Command};

use roomcast_load::{Dialect, Roomcast};

use crate::{
    Result,
    dialect::{Centrifuge, SocketIo},
    peers::Peers,
    redis::Redis,
};

/// What is measured: a way to run servers.
#[derive(Debug)]
pub struct Subject {
    /// Its name in the tables and on the command line.
    pub name: &'static str,
    /// What a reader must know about it.
    pub about: &'static str,
    /// What is run.
    pub kind: Kind,
}

/// What is run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// This project's server.
    Roomcast {
        /// Whether with its default history, or with none.
        history: bool,
        /// Whether clients ask for slim frames.
        slim: bool,
    },
    /// The bare loop.
    Floor,
    /// `server.js` of the peer's directory.
    Node,
    /// The same, run by the Bun in that directory.
    Bun,
    /// The program that Go builds from the peer's directory.
    Centrifuge {
        /// Whether with history and recovery.
        history: bool,
    },
    /// Redis alone, with two publishers and two subscribers.
    PlainPublish,
}

/// The subject to which all others are compared.
pub const OURS: &str = "roomcast";
/// The same without history.
pub const WITHOUT_HISTORY: &str = "roomcast, no history";
/// The least that it can cost.
pub const FLOOR: &str = "floor";
/// Redis alone.
pub const PLAIN: &str = "plain PUBLISH";
/// The peer with the fastest sockets.
pub const BUN: &str = "bun";
/// The peer that most people would write themselves.
pub const NODE: &str = "node-ws";

/// All there are, in the order in which they take turns.
pub const SUBJECTS: &[Subject] = &[
    Subject {
        name: OURS,
        about: "as it comes, with order and history",
        kind: Kind::Roomcast { history: true, slim: false },
    },
    Subject {
        name: FLOOR,
        about: "a bare epoll loop that writes a ready frame to each socket by one call; no order, no checks, no Redis",
        kind: Kind::Floor,
    },
    Subject { name: PLAIN, about: "Redis alone, with two publishers and two subscribers", kind: Kind::PlainPublish },
    Subject {
        name: WITHOUT_HISTORY,
        about: "`ROOMCAST_HISTORY_LENGTH=0`: no order between servers",
        kind: Kind::Roomcast { history: false, slim: false },
    },
    Subject {
        name: "roomcast, slim",
        about: "as it comes, for clients that offer `roomcast.v1`, such as its JavaScript client",
        kind: Kind::Roomcast { history: true, slim: true },
    },
    Subject { name: NODE, about: "Node with `ws` and `ioredis`; no order, no history", kind: Kind::Node },
    Subject {
        name: BUN,
        about: "Bun with its native topics (C++) and its own Redis client; no order, no history",
        kind: Kind::Bun,
    },
    Subject { name: "socket-io", about: "Socket.IO with its Redis adapter; no order, no history", kind: Kind::Node },
    Subject {
        name: "centrifuge",
        about: "the library of Centrifugo with its Redis broker; no history",
        kind: Kind::Centrifuge { history: false },
    },
    Subject {
        name: "centrifuge, history",
        about: "the same with a history of 500 messages, order and recovery",
        kind: Kind::Centrifuge { history: true },
    },
];

impl Subject {
    /// Whether it is somebody else's server.
    pub fn is_peer(&self) -> bool {
        matches!(self.kind, Kind::Node | Kind::Bun | Kind::Centrifuge { .. })
    }

    /// Whether it has servers that clients connect to.
    pub fn is_server(&self) -> bool {
        self.kind != Kind::PlainPublish
    }

    /// Whether it needs a Redis of its own.
    pub fn needs_redis(&self) -> bool {
        self.kind != Kind::Floor
    }

    /// The directory of `bench/peers` that it comes from.
    pub fn peer(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Node | Kind::Bun => Some(self.name),
            Kind::Centrifuge { .. } => Some("centrifuge"),
            _ => None,
        }
    }

    /// The name by which it is chosen on the command line, if it is not always there.
    pub fn choice(&self) -> Option<&'static str> {
        match self.kind {
            Kind::Roomcast { history: false, .. } => Some("no-history"),
            Kind::Roomcast { slim: true, .. } => Some("slim"),
            _ => self.peer(),
        }
    }

    /// Its protocol.
    pub fn dialect(&self) -> &'static (dyn Dialect + Sync) {
        match self.kind {
            Kind::Centrifuge { .. } => &Centrifuge,
            Kind::Node if self.name == "socket-io" => &SocketIo,
            Kind::Roomcast { slim: true, .. } => &Roomcast { is_slim: true },
            _ => &Roomcast { is_slim: false },
        }
    }

    /// A path that answers 200 when the server is ready. Without one, the server listens only when it is ready.
    pub fn readiness(&self) -> Option<&'static str> {
        matches!(self.kind, Kind::Roomcast { .. }).then_some("/readyz")
    }

    /// What starts one of its servers. `ports` are those of all of them, this one's first.
    pub fn command(&self, ports: &[u16], redis: Option<&Redis>, peers: &Peers) -> Result<Command> {
        let port = ports[0].to_string();
        let redis = redis.map(|redis| redis.address().to_string()).unwrap_or_default();
        let mut command = match self.kind {
            Kind::Roomcast { history, .. } => {
                let mut command = Command::new(beside_this_program("roomcast")?);
                // Only these settings.
                command.env_clear().env("ROOMCAST_LISTEN", format!("127.0.0.1:{port}"));
                command.env("ROOMCAST_REDIS_URL", format!("redis://{redis}/0")).env("ROOMCAST_LOG", "warn");
                // The other servers have no limits either.
                command.env("ROOMCAST_LIMITS", "off");
                if !history {
                    command.env("ROOMCAST_HISTORY_LENGTH", "0");
                }
                return Ok(command);
            }
            Kind::Floor => {
                let mut command = Command::new(std::env::current_exe()?);
                command.arg("floor").args(ports.iter().map(u16::to_string));
                return Ok(command);
            }
            Kind::Node => Command::new("node"),
            Kind::Bun => Command::new(peers.directory("bun").join("node_modules/.bin/bun")),
            Kind::Centrifuge { .. } => Command::new(peers.directory("centrifuge").join("server")),
            Kind::PlainPublish => return Err("it has no servers".into()),
        };
        if let Some(peer) = self.peer().filter(|_| !matches!(self.kind, Kind::Centrifuge { .. })) {
            command.arg(peers.directory(peer).join("server.js"));
        }
        command.env("PORT", port).env("NODE_ENV", "production");
        command.env("REDIS_URL", format!("redis://{redis}")).env("REDIS_ADDRESS", redis);
        if self.kind == (Kind::Centrifuge { history: true }) {
            command.env("HISTORY", "on");
        }
        Ok(command)
    }
}

/// A program of this workspace.
pub fn beside_this_program(name: &str) -> Result<PathBuf> {
    // A test of this crate runs one directory further down.
    let own = std::env::current_exe()?;
    let candidates = own.ancestors().skip(1).take(2).map(|directory| directory.join(name));
    let found = candidates.into_iter().find(|path| path.is_file());
    found.ok_or_else(|| {
        format!("{name} is not beside this program; `cargo build --release --workspace` makes it").into()
    })
}
