//! `make cluster`: Redis, two servers and nginx as plain processes, up together and down together.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{BufRead, BufReader},
    net::{Ipv4Addr, SocketAddr},
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use tokio::net::TcpSocket;
use tokio_tungstenite::{MaybeTlsStream, client_async, tungstenite::client::IntoClientRequest};

use crate::support::{Client, DEADLINE, eventually, free_port, get, left_out};

struct Cluster {
    script: Child,
    ports: [u16; 4],
    /// What it says once all is up.
    said: mpsc::Receiver<String>,
}

impl Cluster {
    /// Runs the script until it says that all is up.
    fn start(affinity: &str) -> Option<Self> {
        for (tool, package) in [("redis-server", "redis-server"), ("nginx", "nginx")] {
            let path = format!("{}:/usr/sbin:/sbin", std::env::var_os("PATH").unwrap_or_default().to_string_lossy());
            if Command::new(tool).arg("-v").env("PATH", path).output().is_err() {
                left_out(tool, package);
                return None;
            }
        }
        let ports = [free_port(), free_port(), free_port(), free_port()];
        let mut command = Command::new("scripts/cluster.sh");
        command.env("BIN", env!("CARGO_BIN_EXE_roomcast")).env("AFFINITY", affinity);
        for (name, port) in ["PORT", "PORT_1", "PORT_2", "REDIS_PORT"].into_iter().zip(ports) {
            command.env(name, port.to_string());
        }
        let mut script = command.stdout(Stdio::piped()).spawn().expect("the script starts");
        let mut lines = BufReader::new(script.stdout.take().expect("a pipe")).lines().map_while(Result::ok);
        assert_eq!(lines.next(), Some(format!("http://127.0.0.1:{}/", ports[0])), "what to open comes first");
        assert!(lines.any(|line| line == "roomcast cluster is ready"), "the cluster did not come up");
        // The rest of what it says must not block it.
        let (sender, said) = mpsc::channel();
        std::thread::spawn(move || lines.for_each(|line| drop(sender.send(line))));
        Some(Self { script, ports, said })
    }

    /// Waits for a line that this finds something in.
    fn hear<T>(&self, find: impl Fn(&str) -> Option<T>) -> T {
        loop {
            let line = self.said.recv_timeout(DEADLINE).expect("a line in time");
            if let Some(found) = find(&line) {
                return found;
            }
        }
    }

    /// Where nginx, the two servers and Redis are.
    fn addresses(&self) -> [SocketAddr; 4] {
        self.ports.map(|port| ([127, 0, 0, 1], port).into())
    }

    fn interrupt(&self) {
        let status = Command::new("kill").args(["-s", "INT", &self.script.id().to_string()]).status();
        assert!(status.expect("kill").success());
    }
}

impl Drop for Cluster {
    /// Asks only, since a script that is killed cannot stop its parts.
    fn drop(&mut self) {
        if let Ok(None) = self.script.try_wait() {
            self.interrupt();
            let _ = self.script.wait();
        }
    }
}

#[tokio::test]
async fn a_cluster_carries_a_chat_through_nginx_and_leaves_nothing_behind() {
    let Some(mut cluster) = Cluster::start("address") else { return };
    let addresses = cluster.addresses();
    let [nginx, one, two, _] = addresses;
    let mut through_nginx = [Client::connect(nginx).await, Client::connect(nginx).await];
    let mut direct = [Client::connect(one).await, Client::connect(two).await];
    for client in through_nginx.iter_mut().chain(&mut direct) {
        client.join("lobby", "someone").await;
    }
    direct[0].say("lobby", "hello").await;
    direct[1].say("lobby", "hi").await;
    for client in through_nginx.iter_mut().chain(&mut direct) {
        let mut texts = client.texts(2).await;
        texts.sort();
        assert_eq!(texts, ["hello", "hi"]);
        client.hears_nothing().await;
    }
    // `ip_hash`: both clients came from one address and so met one server.
    let connected = async |address| {
        let (_, metrics) = get(address, "/metrics").await.unwrap();
        let line = metrics.lines().find_map(|line| line.strip_prefix("ws_connected_clients ")).unwrap().to_owned();
        line.parse::<u32>().unwrap()
    };
    let mut counts = [connected(one).await, connected(two).await];
    counts.sort_unstable();
    assert_eq!(counts, [1, 3]);
    assert_eq!(get(nginx, "/readyz").await.unwrap().0, 200);
    assert_eq!(get(nginx, "/healthz").await.unwrap(), (200, "ok\n".into()));
    assert_eq!(get(nginx, "/metrics").await.unwrap().0, 404, "they are for those who run the servers");

    cluster.interrupt();
    for client in through_nginx.iter_mut().chain(&mut direct) {
        // nginx may have passed the close on, or have been stopped first.
        tokio::time::timeout(DEADLINE, client.gone()).await.expect("an end");
    }
    let script = &mut cluster.script;
    let status = eventually("the script ends", async || script.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(0));
    for address in addresses {
        assert!(std::net::TcpStream::connect(address).is_err(), "something still listens on {address}");
    }
}

/// Kills a process by its id.
fn kill(process: &str) {
    let status = Command::new("kill").args(["-s", "KILL", process]).status();
    assert!(status.expect("kill").success());
}

#[tokio::test]
async fn a_server_that_is_killed_is_started_again() {
    let Some(cluster) = Cluster::start("address") else { return };
    let [_, one, two, _] = cluster.addresses();
    let mut bystander = Client::connect(two).await;
    bystander.join("lobby", "bob").await;

    let process = cluster.hear(|line| Some(line.split_once("kill -9 ")?.1.to_owned()));
    let mut victim = Client::connect(one).await;
    kill(&process);
    tokio::time::timeout(DEADLINE, victim.gone()).await.expect("an end");
    let again = "server-1 has ended (exit status 137) and is started again as process ";
    cluster.hear(|line| line.strip_prefix(again).map(drop));
    let is_back = async || get(one, "/readyz").await.filter(|(status, _)| *status == 200);
    eventually("the server is back", is_back).await;
    let mut ann = Client::connect(one).await;
    ann.join("lobby", "ann").await;
    ann.say("lobby", "I am back").await;
    assert_eq!(bystander.texts(1).await, ["I am back"]);
}

#[tokio::test]
async fn a_server_that_ends_as_soon_as_it_is_started_again_ends_the_cluster() {
    let Some(mut cluster) = Cluster::start("address") else { return };
    let mut process = cluster.hear(|line| Some(line.split_once("kill -9 ")?.1.to_owned()));
    kill(&process);
    process =
        cluster.hear(|line| Some(line.split_once("is started again as process ")?.1.trim_end_matches('.').to_owned()));
    kill(&process);
    let script = &mut cluster.script;
    let status = eventually("the script ends", async || script.try_wait().unwrap()).await;
    assert_eq!(status.code(), Some(1));
    for address in cluster.addresses() {
        assert!(std::net::TcpStream::connect(address).is_err(), "something still listens on {address}");
    }
}

/// Opens a WebSocket from this address of the loopback network, with the cookie that an earlier one got. Returns the
/// name of the server that it met, and the new cookie if it got one.
async fn meet(nginx: SocketAddr, from: Ipv4Addr, cookie: Option<&str>) -> (String, Option<String>) {
    let connecting = async {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind((from, 0).into()).unwrap();
        let stream = socket.connect(nginx).await.unwrap();
        let mut request = format!("ws://{nginx}/ws").into_client_request().unwrap();
        if let Some(cookie) = cookie {
            request.headers_mut().insert("Cookie", cookie.parse().unwrap());
        }
        client_async(request, MaybeTlsStream::Plain(stream)).await.expect("a WebSocket")
    };
    let (socket, response) = tokio::time::timeout(DEADLINE, connecting).await.expect("a WebSocket in time");
    let cookie = response.headers().get("Set-Cookie").map(|cookie| {
        let cookie = cookie.to_str().unwrap();
        cookie.split(';').next().unwrap().to_owned()
    });
    let mut client = Client::from(socket);
    client.join("who", "someone").await;
    client.say("who", "who are you?").await;
    let message = client.expect("message").await;
    (message["originServer"].as_str().unwrap().to_owned(), cookie)
}

/// `ip_hash` looks at the first three numbers of an address.
#[tokio::test]
async fn by_address_a_network_meets_one_server_and_networks_spread() {
    let Some(cluster) = Cluster::start("address") else { return };
    let [nginx, ..] = cluster.addresses();
    let mut servers = BTreeMap::<_, BTreeSet<_>>::new();
    for network in 0..16 {
        for host in 1..=3 {
            let (server, cookie) = meet(nginx, Ipv4Addr::new(127, 0, network, host), None).await;
            assert_eq!(cookie, None);
            servers.entry(network).or_default().insert(server);
        }
    }
    assert!(servers.values().all(|servers| servers.len() == 1), "{servers:?}");
    let met: BTreeSet<_> = servers.values().flatten().collect();
    assert_eq!(met.len(), 2, "{servers:?}");
}

#[tokio::test]
async fn by_cookie_a_client_meets_one_server_and_clients_spread() {
    let Some(cluster) = Cluster::start("cookie") else { return };
    let [nginx, ..] = cluster.addresses();
    let mut met = BTreeSet::new();
    for _ in 0..24 {
        let (server, cookie) = meet(nginx, Ipv4Addr::LOCALHOST, None).await;
        let cookie = cookie.expect("a cookie for a client without one");
        for network in 1..=3 {
            let again = meet(nginx, Ipv4Addr::new(127, network, 0, 1), Some(&cookie)).await;
            assert_eq!(again, (server.clone(), None), "wherever it comes from");
        }
        met.insert(server);
    }
    assert_eq!(met.len(), 2, "{met:?}");
}
