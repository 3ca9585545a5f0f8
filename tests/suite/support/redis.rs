use std::{
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use redis::{AsyncCommands, Client, aio::MultiplexedConnection};

use super::{eventually, left_out, server::send_signal};

/// A redis-server of this test's own, on a free port, with its files in a directory that goes with it.
pub struct Redis {
    process: Child,
    port: u16,
    directory: tempfile::TempDir,
    /// Those that are given to it beside the usual ones.
    arguments: Vec<String>,
}

impl Redis {
    /// Starts one and waits until it answers. `None`, said loudly, if it is not installed.
    pub async fn start() -> Option<Self> {
        Self::start_with(|_| Vec::new()).await
    }

    /// Starts one with more arguments.
    pub async fn with(arguments: &[&str]) -> Option<Self> {
        Self::start_with(|_| arguments.iter().map(|&argument| argument.to_owned()).collect()).await
    }

    /// Starts one that speaks TLS too. Returns the URL for that, and the file of the authority that vouches for it.
    pub async fn with_tls() -> Option<(Self, String, PathBuf)> {
        Self::with_tls_and("no").await
    }

    /// The same; it asks for the certificates of clients (`yes`) or not (`no`). Its own is one that it takes, with its key in
    /// `key.pem` beside the authority's file.
    pub async fn with_tls_and(asks_for_certificates: &str) -> Option<(Self, String, PathBuf)> {
        let tls_port = free_port().to_string();
        let certified = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
        let redis = Self::start_with(|directory| {
            let (certificate, key) = (directory.join("certificate.pem"), directory.join("key.pem"));
            std::fs::write(&certificate, certified.cert.pem()).expect("a file");
            std::fs::write(&key, certified.signing_key.serialize_pem()).expect("a file");
            let (certificate, key) = (certificate.display(), key.display());
            let arguments = format!(
                "--tls-port {tls_port} --tls-auth-clients {asks_for_certificates} --tls-cert-file {certificate} --tls-key-file {key} \
                 --tls-ca-cert-file {certificate}"
            );
            arguments.split(' ').map(str::to_owned).collect()
        })
        .await?;
        let authority = redis.directory.path().join("certificate.pem");
        Some((redis, format!("rediss://localhost:{tls_port}/0"), authority))
    }

    async fn start_with(arguments: impl FnOnce(&Path) -> Vec<String>) -> Option<Self> {
        if Command::new("redis-server").arg("--version").output().is_err() {
            left_out("redis-server", "redis-server");
            return None;
        }
        let directory = tempfile::tempdir().expect("a temporary directory");
        let (port, arguments) = (free_port(), arguments(directory.path()));
        let mut redis = Self { process: spawn(port, directory.path(), &arguments), port, directory, arguments };
        redis.answers().await;
        Some(redis)
    }

    /// The URL for `ROOMCAST_REDIS_URL`.
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}/0", self.port)
    }

    pub fn address(&self) -> std::net::SocketAddr {
        ([127, 0, 0, 1], self.port).into()
    }

    /// A connection of the test's own, past the servers.
    pub async fn connect(&self) -> MultiplexedConnection {
        let client = Client::open(self.url()).expect("a valid URL");
        client.get_multiplexed_async_connection().await.expect("a connection to Redis")
    }

    /// The channels that anybody is subscribed to, sorted, without those of the servers among themselves.
    pub async fn channels(&self) -> Vec<String> {
        let mut connection = self.connect().await;
        let mut channels: Vec<String> =
            redis::cmd("PUBSUB").arg("CHANNELS").query_async(&mut connection).await.expect("channels");
        channels.retain(|channel| !channel.starts_with("ws:probe:") && channel != "ws:control");
        channels.sort();
        channels
    }

    /// Publishes as a server would that knows nothing but channels; returns how many heard it.
    pub async fn publish(&self, channel: &str, payload: impl redis::ToSingleRedisArg + Send + Sync) -> u32 {
        self.connect().await.publish(channel, payload).await.expect("published")
    }

    /// Ends it as a crash would. What its append-only file has is there again after [`Redis::restart`].
    pub fn kill(&mut self) {
        self.process.kill().expect("a running redis-server");
        self.process.wait().expect("its end");
    }

    /// From now on, only those who give this password are served.
    pub async fn require_password(&self, password: &str) {
        let mut connection = self.connect().await;
        let mut command = redis::cmd("CONFIG");
        command.arg("SET").arg("requirepass").arg(password);
        command.exec_async(&mut connection).await.expect("a password");
    }

    /// Sends a signal by its name, as `kill -NAME` does.
    pub fn signal(&self, name: &str) {
        send_signal(&self.process, name);
    }

    /// Starts it again after [`Redis::kill`], on the same port and files.
    pub async fn restart(&mut self) {
        self.process = spawn(self.port, self.directory.path(), &self.arguments);
        self.answers().await;
    }

    async fn answers(&mut self) {
        let client = Client::open(self.url()).expect("a valid URL");
        let process = &mut self.process;
        eventually("redis-server answers", async || {
            if let Some(status) = process.try_wait().expect("a child") {
                panic!("redis-server ended with {status}; is its port in use?");
            }
            let mut connection = client.get_multiplexed_async_connection().await.ok()?;
            connection.ping::<String>().await.ok()
        })
        .await;
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn spawn(port: u16, directory: &Path, arguments: &[String]) -> Child {
    Command::new("redis-server")
        .args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--appendonly", "yes"])
        .args(["--appendfsync", "always", "--dir"])
        .arg(directory)
        .args(arguments)
        .stdout(Stdio::null())
        .spawn()
        .expect("redis-server starts")
}

/// A port that was free a moment ago. The system hands out its ephemeral ports in an order of its own, so that
/// two tests hardly ever get the same one.
pub fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    listener.local_addr().expect("its address").port()
}
