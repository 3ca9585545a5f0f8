//! The page at `/` as a browser gets it. What it does there, `web/test` tests in one.

use std::{net::SocketAddr, path::Path};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    time::timeout,
};

use crate::support::{Client, DEADLINE, Server};

/// An answer: its status, its head in lower case and its body.
struct Answer {
    status: String,
    head: String,
    body: String,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }
}

async fn ask(address: SocketAddr, method: &str, path: &str, headers: &str) -> Answer {
    let request = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
    let exchange = async {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    };
    let answer = timeout(DEADLINE, exchange).await.expect("an answer in time");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    let (status, head) = head.split_once("\r\n").expect("a first line");
    Answer { status: status.to_owned(), head: head.to_lowercase(), body: body.to_owned() }
}

/// What the page and its files ask for, by `src`, `href` and `import`.
fn asked_for(text: &str) -> Vec<String> {
    let after = |mark: &str, end: char| {
        let parts = text.split(mark).skip(1).filter_map(move |rest| Some(rest.split_once(end)?.0.to_owned()));
        parts.collect::<Vec<_>>()
    };
    let imports = after(" from './", '\'').into_iter();
    let mut all: Vec<String> = after("src=\"", '"').into_iter().chain(after("href=\"", '"')).chain(imports).collect();
    all.sort();
    all.dedup();
    all
}

#[tokio::test]
async fn the_page_and_all_that_it_asks_for_are_there() {
    let server = Server::in_memory(&[]).await;
    let page = ask(server.address, "GET", "/?room=lobby&name=ann", "").await;
    assert_eq!(page.status, "HTTP/1.1 200 OK");
    assert_eq!(page.header("content-type"), Some("text/html; charset=utf-8"));
    let mut words = page.body.split_whitespace();
    assert!(!words.any(|word| word.starts_with("style=") || (word.starts_with("on") && word.contains('='))), "inline");
    assert_eq!(page.body.matches("<script").count(), page.body.matches("<script type=\"module\" src=").count());
    let mut waiting = asked_for(&page.body);
    assert!(waiting.contains(&"page.js".to_owned()) && waiting.contains(&"page.css".to_owned()), "{waiting:?}");
    let mut seen = Vec::new();
    while let Some(name) = waiting.pop() {
        if seen.contains(&name) {
            continue;
        }
        assert!(!name.contains(':') && !name.starts_with('/'), "{name} is not relative");
        let file = ask(server.address, "GET", &format!("/{name}"), "").await;
        assert_eq!(file.status, "HTTP/1.1 200 OK", "{name}");
        let kind = match Path::new(&name).extension().and_then(|extension| extension.to_str()) {
            Some("js") => "text/javascript; charset=utf-8",
            Some("css") => "text/css; charset=utf-8",
            _ => "image/svg+xml",
        };
        assert_eq!(file.header("content-type"), Some(kind), "{name}");
        for (header, value) in
            [("cache-control", "no-cache"), ("x-content-type-options", "nosniff"), ("referrer-policy", "no-referrer")]
        {
            assert_eq!((file.header(header), page.header(header)), (Some(value), Some(value)), "{name}");
        }
        // The client alone is for other pages too.
        let shared = file.header("access-control-allow-origin");
        assert_eq!(shared, (name == "roomcast.js").then_some("*"), "{name}");
        waiting.extend(asked_for(&file.body));
        seen.push(name);
    }
    let modules = std::fs::read_dir("web").unwrap().filter_map(|file| file.unwrap().file_name().into_string().ok());
    for name in modules.filter(|name| name.contains('.') && name != "index.html") {
        assert!(seen.contains(&name), "{name} is in web/, and nothing asks for it");
    }
}

#[tokio::test]
async fn the_page_may_do_nothing_but_talk_to_its_own_server() {
    let server = Server::in_memory(&[]).await;
    let page = ask(server.address, "GET", "/", "").await;
    let policy = page.header("content-security-policy").expect("a policy");
    let allowed: Vec<&str> = policy.split("; ").collect();
    for part in [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(allowed.contains(&part), "{part} is not in {policy}");
    }
    assert!(!policy.contains("unsafe") && !policy.contains(':') && !policy.contains('*'), "{policy}");
}

#[tokio::test]
async fn what_a_browser_has_is_not_sent_again() {
    let server = Server::in_memory(&[]).await;
    for path in ["/", "/page.js"] {
        let whole = ask(server.address, "GET", path, "").await;
        let tag = whole.header("etag").expect("a tag").to_owned();
        for known in [tag.clone(), format!("W/{tag}"), format!("\"other\", {tag}"), "*".into()] {
            let again = ask(server.address, "GET", path, &format!("If-None-Match: {known}\r\n")).await;
            assert_eq!((again.status.as_str(), again.body.as_str()), ("HTTP/1.1 304 Not Modified", ""), "{path}");
            assert_eq!(again.header("etag"), Some(tag.as_str()));
        }
        let other = ask(server.address, "GET", path, "If-None-Match: \"other\"\r\n").await;
        assert_eq!((other.status.as_str(), other.body.len()), ("HTTP/1.1 200 OK", whole.body.len()));

        let head = ask(server.address, "HEAD", path, "").await;
        assert_eq!((head.status.as_str(), head.body.as_str()), ("HTTP/1.1 200 OK", ""));
        assert_eq!(head.header("content-length"), Some(whole.body.len().to_string().as_str()));
        assert_eq!(ask(server.address, "POST", path, "").await.status, "HTTP/1.1 405 Method Not Allowed");
    }
}

#[tokio::test]
async fn upgrades_and_probes_are_beside_the_page() {
    let server = Server::in_memory(&[]).await;
    Client::dial(&format!("ws://{}/", server.address)).await.unwrap().hears_nothing().await;
    for path in ["/healthz", "/readyz", "/metrics"] {
        assert_eq!(ask(server.address, "GET", path, "").await.status, "HTTP/1.1 200 OK", "{path}");
    }
    let server = Server::in_memory(&[("ROOMCAST_PROBE_LISTEN", "127.0.0.1:0")]).await;
    assert_eq!(ask(server.address, "GET", "/", "").await.header("content-type"), Some("text/html; charset=utf-8"));
    assert_eq!(ask(server.probes, "GET", "/", "").await.status, "HTTP/1.1 404 Not Found");
}

#[tokio::test]
async fn without_the_page_there_is_a_short_text() {
    let server = Server::in_memory(&[("ROOMCAST_PAGE", "off")]).await;
    let text = ask(server.address, "GET", "/", "").await;
    assert_eq!(text.header("content-type"), Some("text/plain; charset=utf-8"));
    assert!(text.body.starts_with("roomcast\n") && text.body.contains("/ws"), "{}", text.body);
    for path in ["/page.js", "/page.css", "/roomcast.js"] {
        assert_eq!(ask(server.address, "GET", path, "").await.status, "HTTP/1.1 404 Not Found", "{path}");
    }
    Client::dial(&format!("ws://{}/", server.address)).await.unwrap().hears_nothing().await;
}
