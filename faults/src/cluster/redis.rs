use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use redis::{Client, FromRedisValue, aio::MultiplexedConnection};

use super::{
    free_port,
    process::{Process, leashed},
};
use crate::{
    Result,
    wait::{until, within},
};

const START: Duration = Duration::from_secs(20);
const ANSWER: Duration = Duration::from_secs(5);

/// A redis-server of this run's own, with its files in a directory of its own.
#[derive(Debug)]
pub struct Redis {
    name: String,
    port: u16,
    directory: PathBuf,
    process: Option<Process>,
}

impl Redis {
    /// Starts one on this port, or on a free one for 0, and waits until it answers.
    pub async fn start(name: &str, directory: &Path, port: u16) -> Result<Self> {
        let directory = directory.join(name);
        std::fs::create_dir_all(&directory)?;
        let port = if port == 0 { free_port()? } else { port };
        let mut redis = Self { name: name.to_owned(), port, directory, process: None };
        redis.start_again().await?;
        Ok(redis)
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// Starts it after [`Redis::kill`], on the port and with the files it had.
    pub async fn start_again(&mut self) -> Result<()> {
        let mut command = leashed(Path::new("redis-server"));
        command.args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"]);
        // A replica that has just connected is served at once.
        command.args(["--repl-diskless-sync-delay", "0", "--dir"]).arg(&self.directory).stdout(Stdio::null());
        let process = Process::start(&self.name, &mut command, &self.directory.join("stderr.log"));
        self.process = Some(process.map_err(|error| format!("{error} (`apt-get install redis-server`)"))?);
        let what = format!("{} answers", self.name);
        until(&what, START, async || self.ask::<String>(&["PING"]).await.is_ok()).await?;
        // Somebody else's Redis on this port would have answered as well.
        self.running()?.is_running()
    }

    /// Ends it as a crash would.
    pub async fn kill(&mut self) -> Result<()> {
        self.process.take().ok_or("Redis is not running")?.kill().await
    }

    /// Stops it where it is; it keeps its connections and answers nothing until [`Redis::thaw`].
    pub async fn freeze(&mut self) -> Result<()> {
        self.running()?.signal("STOP").await
    }

    /// Lets it go on after [`Redis::freeze`].
    pub async fn thaw(&mut self) -> Result<()> {
        self.running()?.signal("CONT").await
    }

    /// One command, on a connection of its own, past all proxies.
    pub async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> Result<T> {
        let mut connection = self.connect().await?;
        let mut request = redis::cmd(command[0]);
        request.arg(&command[1..]);
        Ok(within(command[0], ANSWER, request.query_async(&mut connection)).await??)
    }

    async fn connect(&self) -> Result<MultiplexedConnection> {
        let client = Client::open(format!("redis://{}/0", self.address()))?;
        Ok(within("a connection to Redis", ANSWER, client.get_multiplexed_async_connection()).await??)
    }

    fn running(&mut self) -> Result<&mut Process> {
        self.process.as_mut().ok_or_else(|| "Redis is not running".into())
    }
}
