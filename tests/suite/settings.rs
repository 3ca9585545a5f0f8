//! A wrong setting prevents the start, with a text that says how to mend it.

use crate::support::{Server, free_port, refuses_to_start};

#[test]
fn all_mistakes_are_reported_at_once_with_exit_code_64() {
    let (code, text) = refuses_to_start(&[
        ("ROOMCAST_LISTEN", "everywhere"),
        ("ROOMCAST_HISTORY_AGE", "forever"),
        ("ROOMCAST_REDIS_URL", "redis//:hunter2@redis"),
    ]);
    assert_eq!(code, Some(64), "{text}");
    for part in
        ["ROOMCAST_LISTEN is \"everywhere\"", "ROOMCAST_HISTORY_AGE is \"forever\"", "ROOMCAST_REDIS_URL (hidden)"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn a_url_that_only_redis_can_judge_is_named_and_hidden() {
    let (code, text) = refuses_to_start(&[
        ("ROOMCAST_LISTEN", "127.0.0.1:0"),
        ("ROOMCAST_REDIS_URL", "redis://:hunter2@redis:6379/zero"),
    ]);
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains("ROOMCAST_REDIS_URL (hidden)") && !text.contains("hunter2"), "{text}");
}

/// Its password would not be sent, and would stand in the log of the HTTP client.
#[test]
fn a_password_for_the_collector_is_refused_where_it_would_be_of_no_use_and_not_shown() {
    for endpoint in
        ["http//otel:hunter2@collector", "https://otel:hunter2@collector", "http://otel:hunter2@collector:4318"]
    {
        let (code, text) = refuses_to_start(&[("ROOMCAST_OTLP_ENDPOINT", endpoint)]);
        assert_eq!(code, Some(64), "{text}");
        assert!(text.contains("ROOMCAST_OTLP_ENDPOINT (hidden)") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn a_port_in_use_is_named() {
    let taken = std::net::TcpListener::bind(("127.0.0.1", free_port())).unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let (code, text) = refuses_to_start(&[("ROOMCAST_LISTEN", &address)]);
    assert_eq!(code, Some(64), "{text}");
    assert!(text.contains(&format!("ROOMCAST_LISTEN is {address}")) && text.contains("choose a free"), "{text}");
}

#[tokio::test]
async fn an_unknown_name_is_warned_about_and_a_service_link_is_not() {
    let server = Server::in_memory(&[
        ("ROOMCAST_REDIS_ULR", "redis://redis"),
        ("ROOMCAST_PORT", "tcp://10.0.0.1:80"),
        ("ROOMCAST_SERVICE_HOST", "10.0.0.1"),
    ])
    .await;
    let log = server.log();
    assert!(
        log.contains("ROOMCAST_REDIS_ULR is not a setting") && log.contains("did you mean ROOMCAST_REDIS_URL?"),
        "{log}"
    );
    assert!(!log.contains("ROOMCAST_PORT") && !log.contains("SERVICE_HOST"), "{log}");
}

/// Nobody else can forge lines in the log: not by a name, and not by a frame that a library logs at `trace`.
#[test]
fn a_certificate_for_redis_that_cannot_be_used_is_named() {
    let url = ("ROOMCAST_REDIS_URL", "rediss://redis:6379/0");
    let (code, text) = refuses_to_start(&[url, ("ROOMCAST_REDIS_TLS_CERT", "/none.pem")]);
    assert!(code == Some(64) && text.contains("ROOMCAST_REDIS_TLS_KEY is not set"), "{text}");
    let both = [("ROOMCAST_REDIS_TLS_CERT", "/none.pem"), ("ROOMCAST_REDIS_TLS_KEY", "/none.key")];
    let (code, text) = refuses_to_start(&[&[url][..], &both].concat());
    assert!(code == Some(64) && text.contains("ROOMCAST_REDIS_TLS_CERT is \"/none.pem\""), "{text}");
    let (code, text) = refuses_to_start(&[&[("ROOMCAST_REDIS_URL", "redis://redis")][..], &both].concat());
    assert!(code == Some(64) && text.contains("begins with rediss://"), "{text}");
}

#[tokio::test]
async fn what_is_logged_is_one_line_whatever_is_in_it() {
    let server = Server::in_memory(&[("ROOMCAST_A\n2026-01-01T00:00:00Z  INFO forged\u{1b}[2J", "1")]).await;
    let log = server.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("forged")).collect();
    let [line] = lines[..] else { panic!("one line, not {lines:?}") };
    assert!(line.contains(r"WARN roomcast::cli::serve: ROOMCAST_A\n2026") && !line.contains('\u{1b}'), "{line:?}");
}

/// Container runtimes and systemd start a program with few files and let it take more.
#[tokio::test]
async fn it_opens_as_many_files_as_it_may_and_says_if_those_are_too_few() {
    let few = [("ROOMCAST_MAX_CONNECTIONS", "100")];
    let server = Server::limited("-n 300 && ulimit -S -n 50", &few);
    server.is_ready().await;
    if cfg!(target_os = "linux") {
        assert_eq!(server.metric("process_max_fds").await, 300.0);
    }
    assert!(!server.log().contains("files"), "{}", server.log());

    let server = Server::limited("-n 300", &[("ROOMCAST_MAX_CONNECTIONS", "300")]);
    server.is_ready().await;
    assert!(server.log().contains("ROOMCAST_MAX_CONNECTIONS is 300, but this process may open only 300 files"));
    let limit = server.metric("ws_connections_limit").await;
    assert!(limit < 300.0 && server.log().contains(&format!("enough for {limit} clients")), "{}", server.log());
}
