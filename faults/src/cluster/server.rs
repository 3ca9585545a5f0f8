use std::{net::SocketAddr, path::Path, process::Stdio, time::Duration};

use tokio::{
    io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader},
    net::TcpStream,
    time::timeout,
};

use super::process::{Process, leashed};
use crate::{
    Result,
    wait::{until, within},
};

const START: Duration = Duration::from_secs(20);

/// A roomcast process.
#[derive(Debug)]
pub struct Server {
    process: Process,
    address: SocketAddr,
}

impl Server {
    /// Starts the program on this port, or on a free one for 0, with these settings and no others, and waits until it is
    /// ready.
    pub async fn start(
        program: &Path,
        name: &str,
        port: u16,
        settings: &[(String, String)],
        log: &Path,
    ) -> Result<Self> {
        let mut command = leashed(program);
        for (variable, _) in std::env::vars_os().filter(|(name, _)| name.to_string_lossy().starts_with("ROOMCAST_")) {
            command.env_remove(variable);
        }
        command.env("ROOMCAST_LISTEN", format!("127.0.0.1:{port}"));
        command.env("ROOMCAST_ORIGIN_SERVER", name).env("ROOMCAST_LOG", "info");
        // The harness' clients are few, and each stands for very many.
        command.env("ROOMCAST_LIMITS", "off");
        command.envs(settings.iter().map(|(name, value)| (name, value)));
        command.stdout(Stdio::piped());
        let mut process = Process::start(name, &mut command, log)?;
        let listening = within(&format!("{name} says where it listens"), START, announced(&mut process)).await;
        let address =
            listening.and_then(|address| address).map_err(|error| format!("{error}; it says: {}", last_lines(log)))?;
        let mut server = Self { process, address };
        until(&format!("{name} is ready"), START, async || server.is_ready().await).await?;
        server.process.is_running()?;
        Ok(server)
    }

    /// Where clients are served.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The process, to end it.
    pub fn into_process(self) -> Process {
        self.process
    }

    /// Whether `/readyz` says yes.
    async fn is_ready(&self) -> bool {
        get(self.address, "/readyz").await.is_some_and(|answer| answer.starts_with("HTTP/1.1 200"))
    }

    /// How many clients are connected to it, as `/metrics` says.
    pub async fn clients(&self) -> Option<usize> {
        let answer = get(self.address, "/metrics").await?;
        answer.lines().find_map(|line| line.strip_prefix("ws_connected_clients ")?.trim().parse().ok())
    }
}

/// The whole answer to a GET; `None` if there is none in time.
async fn get(address: SocketAddr, path: &str) -> Option<String> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await?;
        stream.write_all(request.as_bytes()).await?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    timeout(Duration::from_secs(2), exchange).await.ok()?.ok()
}

/// Reads the address from what the program prints when it starts; that is all it prints there.
async fn announced(process: &mut Process) -> Result<SocketAddr> {
    let stdout = process.stdout().ok_or("the program has no standard output")?;
    let mut lines = BufReader::new(stdout).lines();
    while let Some(line) = lines.next_line().await? {
        if let Some(address) = line.trim().strip_prefix("chat      ws://").and_then(|url| url.strip_suffix("/ws")) {
            return Ok(address.parse()?);
        }
    }
    Err("the program does not say where it listens".into())
}

/// The end of a log, for an error.
fn last_lines(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(3)..].join(" / ")
}
