use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    process::Command,
    time::Duration,
};

use crate::{
    Result,
    children::{Children, Process},
    network::free_port,
};

const START: Duration = Duration::from_secs(10);

/// A redis-server of this run's own, which keeps nothing on disk.
#[derive(Debug)]
pub struct Redis {
    port: u16,
    process: Process,
}

impl Redis {
    /// Starts one and waits until it answers.
    pub fn start(children: &Children) -> Result<Self> {
        let port = free_port()?;
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]);
        command.arg("--dir").arg(children.directory());
        let process =
            children.start("redis", command).map_err(|error| format!("{error} (`apt-get install redis-server`)"))?;
        let redis = Self { port, process };
        redis.process.until("it answers", START, || redis.ping().is_ok())?;
        Ok(redis)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.process.id()
    }

    fn ping(&self) -> Result<()> {
        let mut stream = TcpStream::connect(self.address())?;
        stream.set_read_timeout(Some(Duration::from_secs(1)))?;
        stream.write_all(b"PING\r\n")?;
        let mut answer = [0; 7];
        stream.read_exact(&mut answer)?;
        (&answer == b"+PONG\r\n").then_some(()).ok_or_else(|| "it is loading".into())
    }
}
