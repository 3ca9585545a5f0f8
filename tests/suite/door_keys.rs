//! Where the keys for tokens come from: settings, files and URLs, and what happens when those change or are away.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};
use tokio_util::task::AbortOnDropHandle;

use crate::support::{Client, SECRET, Server, Token, eventually, refuses_to_start};

const AUDIENCE: (&str, &str) = ("ROOMCAST_JWT_AUDIENCE", "chat");

/// Whether a token opens the door.
async fn admits(server: &Server, token: &str) -> bool {
    let mut client = server.client().await;
    client.send(&json!({"type": "auth", "token": token})).await;
    client.next().await["type"] == "authenticated"
}

fn ann() -> Token {
    Token::of("ann", json!({}))
}

/// A pair of keys of an issuer, under a name.
struct Issuer {
    name: &'static str,
    pair: KeyPair,
}

impl Issuer {
    fn new(name: &'static str) -> Self {
        Self { name, pair: KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap() }
    }

    fn token(&self) -> String {
        let header = Header { kid: Some(self.name.into()), ..Header::new(Algorithm::ES256) };
        ann().signed_by(&header, &EncodingKey::from_ec_pem(self.pair.serialize_pem().as_bytes()).unwrap())
    }

    fn jwk(&self) -> Value {
        let point = &self.pair.public_key_raw()[1..];
        let [x, y] = [&point[..32], &point[32..]].map(|part| URL_SAFE_NO_PAD.encode(part));
        json!({"kty": "EC", "crv": "P-256", "kid": self.name, "use": "sig", "x": x, "y": y})
    }
}

/// A provider of keys on a port of its own, which counts what it is asked.
struct Provider {
    url: String,
    /// What it answers; nothing while it is away.
    keys: Arc<Mutex<Option<String>>>,
    asked: Arc<AtomicUsize>,
    /// Whether it keeps its answers back.
    delays: Arc<AtomicBool>,
    _serving: AbortOnDropHandle<()>,
}

impl Provider {
    async fn start(keys: Option<&[&Issuer]>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks", listener.local_addr().unwrap());
        let (keys, asked) = (Arc::new(Mutex::new(keys.map(set))), Arc::new(AtomicUsize::new(0)));
        let delays = Arc::new(AtomicBool::new(false));
        let (answer, count, is_late) = (keys.clone(), asked.clone(), delays.clone());
        #[allow(clippy::disallowed_methods, reason = "it ends with the provider")]
        let serving = tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let _ = stream.read(&mut [0; 4096]).await;
                count.fetch_add(1, Ordering::Relaxed);
                while is_late.load(Ordering::Relaxed) {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
                let body = answer.lock().unwrap().clone();
                let (status, body) = body.map_or(("503 Away", String::new()), |body| ("200 OK", body));
                let head = format!("HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n", body.len());
                let _ = stream.write_all((head + &body).as_bytes()).await;
            }
        });
        Self { url, keys, asked, delays, _serving: AbortOnDropHandle::new(serving) }
    }

    fn has(&self, keys: Option<&[&Issuer]>) {
        *self.keys.lock().unwrap() = keys.map(set);
    }

    fn delays(&self, delays: bool) {
        self.delays.store(delays, Ordering::Relaxed);
    }

    fn asked(&self) -> usize {
        self.asked.load(Ordering::Relaxed)
    }
}

fn set(issuers: &[&Issuer]) -> String {
    json!({"keys": issuers.iter().map(|issuer| issuer.jwk()).collect::<Vec<_>>()}).to_string()
}

#[tokio::test]
async fn keys_from_a_url_are_there_before_the_server_is_ready_and_stay_when_the_provider_is_away() {
    let (old, new, unknown) = (Issuer::new("old"), Issuer::new("new"), Issuer::new("unknown"));
    let provider = Provider::start(None).await;
    let server = Server::start(&[AUDIENCE, ("ROOMCAST_JWKS", &provider.url)]);
    eventually("the provider is asked", async || (provider.asked() > 0).then_some(())).await;
    let (status, body) = server.get("/readyz").await;
    assert!(status == 503 && body.contains("keys_missing"), "{body}");
    let mut early = Client::connect(server.address).await;
    early.send(&json!({"type": "auth", "token": old.token()})).await;
    assert_eq!(early.expect("error").await["code"], "unavailable");
    assert_eq!(early.closed().await, 1013, "the token may be true");

    provider.has(Some(&[&old]));
    server.is_ready().await;
    assert!(admits(&server, &old.token()).await);
    assert!(server.log().contains("ROOMCAST_JWKS could not be fetched") && server.log().contains("can be had again"));

    // Whoever shows unknown keys does not make this server ask at each of them.
    let before = provider.asked();
    for _ in 0..20 {
        assert!(!admits(&server, &unknown.token()).await);
    }
    assert!(provider.asked() <= before + 1, "{before} {}", provider.asked());
    provider.has(Some(&[&old, &new]));
    eventually("the new key is fetched", async || admits(&server, &new.token()).await.then_some(())).await;

    provider.has(None);
    for _ in 0..20 {
        assert!(!admits(&server, &unknown.token()).await);
    }
    assert!(admits(&server, &old.token()).await && admits(&server, &new.token()).await);
    assert_eq!(server.get("/readyz").await.0, 200);
}

/// Somebody without a token asks for a key that nobody has, and goes away at once.
#[tokio::test]
async fn who_goes_away_does_not_keep_new_keys_from_others() {
    let (old, new, unknown) = (Issuer::new("old"), Issuer::new("new"), Issuer::new("unknown"));
    let provider = Provider::start(Some(&[&old])).await;
    let server = Server::in_memory(&[AUDIENCE, ("ROOMCAST_JWKS", &provider.url)]).await;
    provider.has(Some(&[&new]));
    provider.delays(true);
    let before = provider.asked();
    let request = format!(
        "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
         Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nAuthorization: Bearer {}\r\n\r\n",
        unknown.token()
    );
    eventually("the provider is asked", async || {
        let mut stream = TcpStream::connect(server.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        (provider.asked() > before).then_some(())
    })
    .await;
    // The fetch goes on, although nobody is there any more who wanted it.
    provider.delays(false);
    assert!(admits(&server, &new.token()).await, "it waits for the fetch that is under way");
    // No other is due yet. So nobody knows whether this key is new, and whoever has it may come back.
    let mut late = server.client().await;
    late.send(&json!({"type": "auth", "token": unknown.token()})).await;
    assert_eq!(late.expect("error").await["code"], "unavailable");
    assert_eq!(late.closed().await, 1013);
}

#[tokio::test]
async fn files_are_read_again_when_they_change() {
    let (old, new) = (Issuer::new("old"), Issuer::new("new"));
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
    let (pem, jwks, secret) = (path("keys.pem"), path("jwks.json"), path("secret"));
    std::fs::write(&pem, old.pair.public_key_pem()).unwrap();
    std::fs::write(&jwks, set(&[&Issuer::new("another")])).unwrap();
    std::fs::write(&secret, "an older secret of at least 32 bytes\n").unwrap();
    let server = Server::in_memory(&[
        AUDIENCE,
        ("ROOMCAST_JWT_PUBLIC_KEY_FILE", &pem),
        ("ROOMCAST_JWKS", &jwks),
        ("ROOMCAST_JWT_SECRET_FILE", &secret),
    ])
    .await;
    assert!(admits(&server, &old.token()).await && !admits(&server, &new.token()).await);
    assert!(!admits(&server, &ann().signed()).await);
    std::fs::write(&jwks, set(&[&new])).unwrap();
    std::fs::write(&secret, SECRET).unwrap();
    eventually("the files are read", async || {
        (admits(&server, &new.token()).await && admits(&server, &ann().signed()).await).then_some(())
    })
    .await;
    // A file that is broken for a moment takes nothing away.
    std::fs::write(&pem, "half of a").unwrap();
    eventually("it is noticed", async || server.log().contains("ROOMCAST_JWT_PUBLIC_KEY_FILE").then_some(())).await;
    assert!(admits(&server, &old.token()).await);
    assert!(!server.log().contains(SECRET));
}

#[test]
fn wrong_keys_end_the_start_with_the_remedy() {
    let private = Issuer::new("x").pair.serialize_pem();
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let missing = folder.path().join("missing").to_str().unwrap().to_owned();
    for (setting, value, text) in [
        ("ROOMCAST_JWT_SECRET", "short".to_owned(), "has 5 bytes, but a secret must have 32 at least"),
        ("ROOMCAST_JWT_SECRET_FILE", file("a", "short\n"), "has 5 bytes"),
        ("ROOMCAST_JWT_SECRET_FILE", missing.clone(), "names a file that cannot be read"),
        ("ROOMCAST_JWT_PUBLIC_KEY_FILE", missing, "names a file that cannot be read"),
        ("ROOMCAST_JWT_PUBLIC_KEY_FILE", file("b", "{}"), "is not PEM with public keys"),
        ("ROOMCAST_JWT_PUBLIC_KEY_FILE", file("c", &private), "openssl pkey"),
        ("ROOMCAST_JWKS", file("d", "{}"), "is not a JSON Web Key Set"),
        (
            "ROOMCAST_JWKS",
            file("f", r#"{"keys":[{"kty":"EC","crv":"P-256","x":"","y":"","d":"AAAA"}]}"#),
            "has a private key",
        ),
        ("ROOMCAST_JWKS", "https://".to_owned(), "is \"https://\", which is no URL of a host"),
        ("ROOMCAST_JWKS", "HTTPS://".to_owned(), "which is no URL of a host"),
        ("ROOMCAST_JWKS", file("e", r#"{"keys":[{"kty":"oct","k":"AAAA"}]}"#), "no key that this server can use"),
    ] {
        let (code, error) = refuses_to_start(&[AUDIENCE, (setting, &value)]);
        assert_eq!(code, Some(64), "{error}");
        assert!(error.contains(setting) && error.contains(text), "{setting}={value}: {error}");
        assert!(!error.contains("\"short"), "{error}");
    }
    for (value, text) in [
        ("everything", "or write nothing"),
        ("[]", "must be an object"),
        (r#"{"rooms":{"a*":["join"]}}"#, "\"a*\", which must have each *"),
        (r#"{"rooms":{"a":["publish"]}}"#, "the right \"publish\" means nothing"),
        (r#"{"auto_join":["a"]}"#, "has auto_join, which is for users with tokens alone"),
        (r#"{"moderate":["a"]}"#, "has moderate, which is for users with tokens alone"),
    ] {
        let (_, error) = refuses_to_start(&[("ROOMCAST_ANONYMOUS", value)]);
        assert!(error.contains("ROOMCAST_ANONYMOUS") && error.contains(text), "{value}: {error}");
    }
}
