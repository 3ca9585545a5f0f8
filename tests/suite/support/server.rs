use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{Client, Redis, eventually, get, left_out};

/// The built program as a process of its own, on a free port.
pub struct Server {
    process: Child,
    pub address: SocketAddr,
    /// Where it answers probes; the same address, unless the settings say otherwise.
    pub probes: SocketAddr,
    /// Where its API is, if the settings say so.
    pub api: Option<SocketAddr>,
    pub name: String,
    log: Arc<Mutex<String>>,
}

impl Server {
    /// Starts a server with the memory broker and these settings, and waits until it is ready.
    pub async fn in_memory(settings: &[(&str, &str)]) -> Self {
        let server = Self::start(settings);
        server.is_ready().await;
        server
    }

    /// Starts a server on this Redis, and waits until it is ready.
    pub async fn on(redis: &Redis, name: &str) -> Self {
        Self::with(redis, name, &[]).await
    }

    /// Starts a server on this Redis with more settings, and waits until it is ready.
    pub async fn with(redis: &Redis, name: &str, settings: &[(&str, &str)]) -> Self {
        let url = redis.url();
        let own = [("ROOMCAST_REDIS_URL", url.as_str()), ("ROOMCAST_ORIGIN_SERVER", name)];
        let server = Self::start(&[&own, settings].concat());
        server.is_ready().await;
        server
    }

    /// Starts a server, on a free port unless the settings name one, and waits until it listens.
    pub fn start(settings: &[(&str, &str)]) -> Self {
        Self::spawn(command(settings))
    }

    /// The same, under what the shell's `ulimit` makes of these arguments.
    pub fn limited(ulimit: &str, settings: &[(&str, &str)]) -> Self {
        Self::after(&format!("ulimit {ulimit}"), settings)
    }

    /// The same, in a shell that has carried out a command before.
    pub fn after(command_before: &str, settings: &[(&str, &str)]) -> Self {
        Self::spawn(after(Command::new("sh"), command_before, settings))
    }

    /// The same, in a file system in which this text is in a file. `None`, said loudly, if only root may do that.
    pub fn with_file(path: &str, text: &str, settings: &[(&str, &str)]) -> Option<Self> {
        let file = tempfile::NamedTempFile::new().expect("a temporary file");
        std::fs::write(file.path(), text).expect("a file");
        let mut unshare = Command::new("unshare");
        unshare.args(["--mount", "sh"]);
        let mount = format!("mount --bind {} {path}", file.path().display());
        let tried = Command::new("unshare").args(["--mount", "sh", "-c", &mount]).output();
        if !tried.is_ok_and(|output| output.status.success()) {
            left_out("unshare --mount, as root,", "util-linux");
            return None;
        }
        Some(Self::spawn(after(unshare, &mount, settings)))
    }

    fn spawn(mut program: Command) -> Self {
        if !program.get_envs().any(|(name, value)| name == "ROOMCAST_LISTEN" && value.is_some()) {
            program.env("ROOMCAST_LISTEN", "127.0.0.1:0");
        }
        let has_api = program.get_envs().any(|(name, value)| name == "ROOMCAST_API_LISTEN" && value.is_some());
        let mut process = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts");
        let log = Arc::new(Mutex::new(String::new()));
        let stderr = process.stderr.take().expect("a pipe");
        let lines = log.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let mut lines = lines.lock().expect("no panic under this lock");
                lines.push_str(&line);
                lines.push('\n');
            }
        });

        let mut stdout = BufReader::new(process.stdout.take().expect("a pipe"));
        let mut announced = String::new();
        let mut address_in = |before: &str, after: &str| -> SocketAddr {
            loop {
                let mut line = String::new();
                let length = stdout.read_line(&mut line).expect("the program's output");
                announced.push_str(&line);
                assert!(length > 0, "no address in {announced:?}; log: {log:?}");
                if let Some(address) = line.trim().strip_prefix(before).and_then(|url| url.strip_suffix(after)) {
                    break address.parse().expect("an address");
                }
            }
        };
        let (address, probes) = (address_in("chat      ws://", "/ws"), address_in("ready     http://", "/readyz"));
        let api = has_api.then(|| address_in("api       http://", "/v1/openapi.json"));
        let line = announced.lines().find(|line| line.contains(" is listening")).expect("the line that names it");
        let name = line.rsplit(" as ").next().expect("a name").to_owned();
        Self { process, address, probes, api, name, log }
    }

    /// The base of the URLs of its API.
    pub fn api_base(&self) -> String {
        format!("http://{}", self.api.expect("an API"))
    }

    /// Waits until `/readyz` says yes.
    pub async fn is_ready(&self) {
        eventually("the server is ready", async || {
            let (status, _) = self.get("/readyz").await;
            (status == 200).then_some(())
        })
        .await;
    }

    /// One GET request to where probes are answered.
    pub async fn get(&self, path: &str) -> (u16, String) {
        get(self.probes, path).await.expect("an answer")
    }

    /// The value of a metric, by its name and labels as `/metrics` writes them.
    pub async fn metric(&self, series: &str) -> f64 {
        let (_, text) = self.get("/metrics").await;
        let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {series} in\n{text}")).parse().expect("a number")
    }

    /// Waits until a metric has this value.
    pub async fn metric_is(&self, series: &str, value: f64) {
        let what = format!("{series} is {value}");
        eventually(&what, async || (self.metric(series).await == value).then_some(())).await;
    }

    /// A new client of this server.
    pub async fn client(&self) -> Client {
        Client::connect(self.address).await
    }

    /// A new client that has joined this room.
    pub async fn member(&self, room: &str, username: &str) -> Client {
        let mut client = self.client().await;
        client.join(room, username).await;
        client
    }

    /// A connection that has been upgraded and then neither reads nor writes.
    pub async fn raw_client(&self) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).await.expect("a connection");
        let request = format!(
            "GET /ws HTTP/1.1\r\nHost: {}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n",
            self.address
        );
        stream.write_all(request.as_bytes()).await.expect("a request");
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.expect("the head of the answer"));
        }
        assert!(head.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&head));
        stream
    }

    /// What the server has logged so far.
    pub fn log(&self) -> String {
        self.log.lock().expect("no panic under this lock").clone()
    }

    /// The number of the process.
    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    /// Sends a signal by its name, as `kill -NAME` does.
    pub fn signal(&self, name: &str) {
        send_signal(&self.process, name);
    }

    /// Waits for the end of the process.
    pub async fn ended(&mut self) -> ExitStatus {
        let process = &mut self.process;
        eventually("the process ends", async || process.try_wait().expect("a child")).await
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        if std::thread::panicking() {
            eprintln!("log of {}:\n{}", self.name, self.log());
        }
    }
}

/// Sends a signal by its name to one process, by its id.
pub fn send_signal(process: &Child, name: &str) {
    let status = Command::new("kill").args(["-s", name, &process.id().to_string()]).status();
    assert!(status.expect("kill").success());
}

/// The program with these settings and no others.
pub fn command(settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_roomcast"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("ROOMCAST_") {
            command.env_remove(name);
        }
    }
    // Tests wait for `/readyz` to show trouble; only a few are about how long a server stays ready with it.
    command.env("ROOMCAST_READY_GRACE", "0s");
    // Tests send as fast as they can; only those of limits want any.
    command.env("ROOMCAST_LIMITS", "off");
    command.envs(settings.iter().copied());
    command
}

/// This shell, which carries out a command and then becomes the program with these settings and no others.
fn after(mut shell: Command, command_before: &str, settings: &[(&str, &str)]) -> Command {
    let program = command(settings);
    shell.args(["-c", &format!("{command_before} && exec \"$0\"")]).arg(program.get_program());
    for (name, value) in program.get_envs() {
        match value {
            Some(value) => shell.env(name, value),
            None => shell.env_remove(name),
        };
    }
    shell
}

/// Runs a server that must not start to its end. Returns the exit code and standard error.
pub fn refuses_to_start(settings: &[(&str, &str)]) -> (Option<i32>, String) {
    let mut process = command(settings).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut text = String::new();
    process.stderr.take().expect("a pipe").read_to_string(&mut text).expect("its output");
    (process.wait().expect("its end").code(), text)
}

/// What came of a run of the program.
#[derive(Debug)]
pub struct Outcome {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

/// Runs the program with these arguments to its end.
pub async fn run(arguments: &[&str]) -> Outcome {
    run_with(&[], arguments).await
}

/// The same, with these settings.
pub async fn run_with(settings: &[(&str, &str)], arguments: &[&str]) -> Outcome {
    let mut command = tokio::process::Command::from(command(settings));
    let output = command.args(arguments).kill_on_drop(true).output();
    let output = tokio::time::timeout(super::DEADLINE, output).await.expect("its end in time").expect("it starts");
    let text = |bytes| String::from_utf8(bytes).expect("UTF-8");
    Outcome { code: output.status.code(), stdout: text(output.stdout), stderr: text(output.stderr) }
}
