//! `roomcast token` and `roomcast check token`: what people make and mend tokens with.

use serde_json::json;

use crate::support::{Client, SECRET, Server, Token, in_seconds, run_with};

const KEYED: [(&str, &str); 2] = [("ROOMCAST_JWT_SECRET", SECRET), ("ROOMCAST_JWT_AUDIENCE", "chat")];

#[tokio::test]
async fn a_token_from_the_program_opens_the_door_and_is_described() {
    let arguments = ["token", "--user", "ann", "--room", "team:*=join,send", "--auto-join", "team:42", "--for", "5m"];
    let made = run_with(&KEYED, &arguments).await;
    assert_eq!(made.code, Some(0), "{}", made.stderr);
    let token = made.stdout.trim();
    let server = Server::in_memory(&KEYED).await;
    let authorization = format!("Bearer {token}");
    let url = format!("ws://{}/ws", server.address);
    let mut ann = Client::dial_with(&url, &[("authorization", &authorization)]).await.expect("a WebSocket");
    assert_eq!(ann.expect("authenticated").await["rooms"], json!(["team:42"]));
    ann.expect("joined").await;

    let checked = run_with(&KEYED, &["check", "token", token]).await;
    assert_eq!(checked.code, Some(0), "{}", checked.stderr);
    for line in ["as ann", "may     join, send in team:*", "joins   team:42"] {
        assert!(checked.stdout.contains(line), "{}", checked.stdout);
    }
}

#[tokio::test]
async fn what_is_wrong_with_a_token_is_said_in_a_sentence() {
    let ann = || Token::of("ann", json!({}));
    for (token, text) in [
        (ann().with("aud", "mail").signed(), "compare it with ROOMCAST_JWT_AUDIENCE"),
        (ann().with("exp", in_seconds(0) - 3600).signed(), "the token ended 36"),
        (ann().with("sub", "").signed(), "cannot be a username: it must not be empty"),
        ("x".into(), "not a JSON Web Token"),
    ] {
        let checked = run_with(&KEYED, &["check", "token", &token]).await;
        assert_eq!(checked.code, Some(1));
        assert!(
            checked.stderr.starts_with("roomcast check token: ") && checked.stderr.contains(text),
            "{}",
            checked.stderr
        );
    }
    let odd = Token::of("ann", json!({"rooms": {"a": ["publish"]}})).signed();
    let checked = run_with(&KEYED, &["check", "token", &odd]).await;
    assert!(checked.stdout.contains("note: the right \"publish\" means nothing"), "{}", checked.stdout);
    let unset = run_with(&[], &["check", "token", "x"]).await;
    assert!(unset.stderr.contains("ROOMCAST_JWT_SECRET"), "{}", unset.stderr);
    let unset = run_with(&[], &["token", "--user", "ann"]).await;
    assert!(unset.code == Some(1) && unset.stderr.contains("ROOMCAST_JWT_SECRET"), "{}", unset.stderr);
}
