//! The program's own checks of running servers: `roomcast health` and `roomcast check`.

use futures_util::StreamExt;
use serde_json::Value;

use crate::support::{Outcome, Redis, Server, free_port, run, run_with};

impl Outcome {
    /// It succeeded, and said each of these.
    fn says(&self, texts: &[&str]) {
        assert_eq!(self.code, Some(0), "{self:?}");
        assert!(texts.iter().all(|text| self.stdout.contains(text)), "{self:?}");
    }

    /// It failed, with all of this in one line of the reason.
    fn fails(&self, texts: &[&str]) {
        assert_eq!(self.code, Some(1), "{self:?}");
        let contains = |line: &str| texts.iter().all(|text| line.contains(text));
        assert!(self.stderr.lines().count() == 1 && contains(&self.stderr), "{self:?}");
    }
}

fn nobody() -> String {
    format!("127.0.0.1:{}", free_port())
}

fn http(server: &Server) -> String {
    format!("http://{}", server.address)
}

fn ws(server: &Server) -> String {
    format!("ws://{}/ws", server.address)
}

#[tokio::test]
async fn health_asks_the_server_that_has_the_same_settings() {
    let server = Server::in_memory(&[]).await;
    let settings = async |listen: &str| run_with(&[("ROOMCAST_LISTEN", listen)], &["health"]).await;
    let everywhere = format!("0.0.0.0:{}", server.address.port());
    settings(&everywhere).await.says(&[]);
    settings("127.0.0.1:0").await.fails(&["ROOMCAST_LISTEN", "give the server's URL"]);
    let nobody = nobody();
    settings(&nobody).await.fails(&[&nobody, "/healthz", "refused"]);
}

#[tokio::test]
async fn health_of_a_url_tells_alive_from_ready() {
    let server = Server::start(&[("ROOMCAST_REDIS_URL", &format!("redis://{}", nobody()))]);
    let url = http(&server);
    run(&["health", &url]).await.says(&[]);
    run(&["health", &format!("{url}/")]).await.says(&[]);
    run(&["health", &format!("{url}/readyz")]).await.fails(&["/readyz", "503", "reasons"]);
    run(&["health", "localhost:8080"]).await.fails(&["localhost:8080", "like http://127.0.0.1:8080"]);
}

/// A process that hangs accepts connections and never answers.
#[tokio::test]
async fn health_gives_up_after_a_time() {
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", silent.local_addr().unwrap());
    run(&["health", &url]).await.fails(&[&url, "longer than 2s"]);
}

#[tokio::test]
async fn http_is_checked() {
    let server = Server::in_memory(&[]).await;
    let _client = server.client().await;
    server.metric_is("ws_connected_clients", 1.0).await;
    let outcome = run(&["check", "http", &http(&server)]).await;
    outcome.says(&["/healthz", "/readyz", "ws_connected_clients 1\n"]);

    let unready = Server::start(&[("ROOMCAST_REDIS_URL", &format!("redis://{}", nobody()))]);
    run(&["check", "http", &http(&unready)]).await.fails(&["/readyz", "503"]);
    let nobody = nobody();
    run(&["check", "http", &format!("http://{nobody}")]).await.fails(&[&nobody, "refused"]);
}

/// As in a pod that its network policies let out only after a while.
#[tokio::test]
async fn a_check_can_wait_for_what_is_not_there_yet() {
    let address = nobody();
    let url = format!("ws://{address}/ws");
    let patient = ["check", "--within", "30", "upgrade", &url];
    let server = async {
        // What closes its first connection is no server yet.
        let listener = tokio::net::TcpListener::bind(&address).await.unwrap();
        drop(listener.accept().await.unwrap());
        drop(listener);
        Server::in_memory(&[("ROOMCAST_LISTEN", &address)]).await
    };
    let (outcome, _server) = tokio::join!(run(&patient), server);
    outcome.says(&["was upgraded"]);
    let not_yet: Vec<&str> = outcome.stderr.lines().filter(|line| line.starts_with("not yet: ")).collect();
    let reasons: std::collections::HashSet<&&str> = not_yet.iter().collect();
    assert!(!not_yet.is_empty() && not_yet.len() == reasons.len(), "each reason is said once: {outcome:?}");

    let outcome = run(&["check", "--within", "1", "http", &format!("http://{}", nobody())]).await;
    assert_eq!(outcome.code, Some(1), "{outcome:?}");
    assert!(outcome.stderr.lines().last().is_some_and(|line| line.contains("refused")), "{outcome:?}");
}

#[tokio::test]
async fn an_upgrade_is_checked() {
    let server = Server::in_memory(&[]).await;
    run(&["check", "upgrade", &ws(&server)]).await.says(&["upgraded", "joined", &server.name, "acknowledged"]);
    run(&["check", "upgrade", &format!("ws://{}/metrics", server.address)]).await.fails(&["/metrics", "200"]);
    let nobody = nobody();
    run(&["check", "upgrade", &format!("ws://{nobody}/ws")]).await.fails(&[&nobody, "refused"]);

    // One that cannot keep what is said lets it be said, and does not acknowledge it.
    let unready = Server::start(&[("ROOMCAST_REDIS_URL", &format!("redis://{nobody}"))]);
    run(&["check", "upgrade", &ws(&unready)]).await.fails(&["unavailable"]);
}

#[tokio::test]
async fn two_servers_are_checked_over_a_url_for_each() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let outcome = run(&["check", "across", &ws(&one), &ws(&two)]).await;
    outcome.says(&[
        "one and two answered",
        "from one reached a member on two, once",
        "from two reached a member on one",
    ]);
    run(&["check", "across", &ws(&one), &ws(&one)]).await.fails(&["one answers both"]);
}

#[tokio::test]
async fn two_servers_that_share_nothing_are_found_out() {
    let (one, two) = (Server::in_memory(&[]).await, Server::in_memory(&[]).await);
    run(&["check", "across", &ws(&one), &ws(&two)]).await.fails(&["the message of the other member took longer than"]);
}

#[tokio::test]
async fn two_servers_are_checked_over_one_url_that_leads_to_both() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    // A Service, as it were: the first connections meet one server, and then each other one the other.
    let balancer = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("ws://{}/ws", balancer.local_addr().unwrap());
    let servers = [one.address, one.address, one.address, two.address];
    let balancing = async {
        let mut connections = tokio::task::JoinSet::new();
        for server in servers.into_iter().cycle() {
            let (mut near, _) = balancer.accept().await.unwrap();
            connections.spawn(async move {
                let mut far = tokio::net::TcpStream::connect(server).await.unwrap();
                let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
            });
        }
    };
    let checks = async {
        let outcome = run(&["check", "across", &url]).await;
        outcome.says(&["one and two answered; it took 4 connections", "from one reached a member on two, once"]);
        let outcome = run(&["check", "across", &url, "--connections", "3"]).await;
        outcome.fails(&["one answered all of 3 connections", "give two URLs"]);
    };
    tokio::select! {
        () = balancing => {}
        () = checks => {}
    }
    let outcome = run(&["check", "across", &url, "--connections", "many"]).await;
    assert!(outcome.code == Some(64) && outcome.stderr.contains("'many' for '--connections <N>'"), "{outcome:?}");
}

/// Somebody between the servers says everything again.
#[tokio::test]
async fn a_message_that_comes_twice_is_found_out() {
    let Some(redis) = Redis::start().await else { return };
    let (one, two) = (Server::on(&redis, "one").await, Server::on(&redis, "two").await);
    let client = redis::Client::open(redis.url()).unwrap();
    let mut pushes = client.get_async_pubsub().await.unwrap();
    pushes.psubscribe("ws:room:*").await.unwrap();
    let mut pushes = pushes.into_on_message();
    let repeating = async {
        while let Some(push) = pushes.next().await {
            let mut envelope: Value = serde_json::from_slice(push.get_payload_bytes()).unwrap();
            if envelope["originServer"] != "parrot" {
                envelope = serde_json::json!({
                    "type": "message", "room": envelope["room"], "username": "parrot", "text": envelope["text"],
                    "originServer": "parrot"
                });
                redis.publish(push.get_channel_name(), envelope.to_string()).await;
            }
        }
    };
    let check = ["check", "across", &ws(&one), &ws(&two)];
    tokio::select! {
        () = repeating => {}
        outcome = run(&check) => outcome.fails(&["reached a member on", "2 times"]),
    }
}

#[tokio::test]
async fn a_redis_is_checked_to_refuse() {
    let Some(redis) = Redis::start().await else { return };
    let address = redis.address().to_string();
    run(&["check", "redis-refuses", &address]).await.fails(&[&address, "without a password", "requirepass"]);
    redis.require_password("secret").await;
    run(&["check", "redis-refuses", &address]).await.says(&[&address, "NOAUTH"]);
    let server = Server::in_memory(&[]).await;
    run(&["check", "redis-refuses", &server.address.to_string()]).await.fails(&["is that a Redis"]);
    let nobody = nobody();
    run(&["check", "redis-refuses", &nobody]).await.fails(&[&nobody, "refused"]);
}
