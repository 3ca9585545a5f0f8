//! The HTTP side: the upgrade, the probes and the metrics.

mod lingering;
mod listener;
mod upgrade;

use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

use axum::{
    Json, Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::json;
use tokio_util::task::TaskTracker;

pub use self::listener::serve;
use self::upgrade::Upgrade;
use crate::{
    broker::Trouble,
    config::Config,
    hub::Hub,
    session::{Connected, Connection},
    telemetry::Metrics,
};

/// How long a client that is refused should wait, in seconds.
const RETRY_AFTER: &str = "1";

/// What the routes share.
#[derive(Clone, Debug)]
pub struct App {
    hub: Arc<Hub>,
    connection: Arc<Connection>,
    metrics: Arc<Metrics>,
    sessions: TaskTracker,
    shutting_down: Arc<AtomicBool>,
    max_connections: usize,
}

impl App {
    /// Serves the clients of this hub. Each session is tracked by `sessions`.
    pub fn new(hub: Arc<Hub>, config: &Config, metrics: Arc<Metrics>, sessions: TaskTracker) -> Self {
        Self {
            connection: Arc::new(Connection::new(hub.clone(), config, metrics.clone())),
            hub,
            metrics,
            sessions,
            shutting_down: Arc::default(),
            max_connections: config.max_connections,
        }
    }

    /// From now on the server is not ready, and takes no new clients.
    pub fn shut_down(&self) {
        self.shutting_down.store(true, Ordering::Relaxed);
    }

    fn is_shutting_down(&self) -> bool {
        self.shutting_down.load(Ordering::Relaxed)
    }

    /// All routes.
    pub fn router(self) -> Router {
        Router::new()
            .route("/", get(index))
            .route("/ws", get(upgrade))
            .route("/healthz", get(|| async { Json(json!({ "status": "ok" })) }))
            .route("/readyz", get(ready))
            .route("/metrics", get(metrics))
            .with_state(self)
    }
}

/// Plain clients dial the bare address, so an upgrade is taken here too.
async fn index(app: State<App>, upgrade_request: Result<Upgrade, Response>) -> Response {
    if upgrade_request.is_ok() {
        return upgrade(app, upgrade_request).await;
    }
    "roomcast\n\n/ws       WebSocket: rooms and messages\n/healthz  is the process alone\n/readyz   can it do its job now, and if not, why\n/metrics  Prometheus\n".into_response()
}

async fn upgrade(State(app): State<App>, upgrade: Result<Upgrade, Response>) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal,
    };
    // Counted from here, so that of many that come at once not too many get in.
    let connected = Connected::new(&app.metrics);
    if app.is_shutting_down() || connected.count() > app.max_connections {
        app.metrics.connections_refused.inc();
        let reason = if app.is_shutting_down() { "this server is shutting down\n" } else { "this server is full\n" };
        return (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], reason).into_response();
    }
    let (response, accepted) = upgrade.accept();
    app.sessions.spawn(async move {
        if let Some((stream, unread)) = accepted.socket().await {
            app.connection.serve(stream, unread, connected).await;
        }
    });
    response
}

async fn ready(State(app): State<App>) -> Response {
    #[derive(serde::Serialize)]
    #[serde(untagged)]
    enum Reason {
        ShuttingDown(&'static str),
        Broker(Trouble),
    }
    let shutting_down = app.is_shutting_down().then_some(Reason::ShuttingDown("shutting_down"));
    let reasons: Vec<Reason> =
        shutting_down.into_iter().chain(app.hub.troubles().into_iter().map(Reason::Broker)).collect();
    let status = if reasons.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    (status, Json(json!({ "ready": reasons.is_empty(), "reasons": reasons }))).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    match app.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics could not be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
