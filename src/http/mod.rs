//! The HTTP side: the upgrade, the page, the probes and the metrics.

mod api;
mod cors;
mod credential;
mod handshake;
mod listener;
mod page;
mod places;
mod plain;
mod problem;
mod readiness;
mod requester;
mod stream;
mod upgrade;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{any, get},
};
use serde_json::json;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use self::{
    api::Api,
    credential::{Credential, Place as Shown},
    page::Page,
    places::{Place, Places},
    problem::Problem,
    readiness::Readiness,
    upgrade::Upgrade,
};
pub use self::{
    listener::{listen, serve},
    plain::PlainBound,
};
use crate::{
    access::{ApiKeys, Door, NoSeat, Pass, Seat, Source, TokenError},
    broker::Trouble,
    hub::Hub,
    protocol::{ErrorCode, Limits, Rejection},
    session::{self, Arrival, Refused},
    telemetry::{Limit, Metrics},
};

/// How long a refused client should wait, in seconds.
const RETRY_AFTER: &str = "1";

/// What browsers get at `/` from a server without the page.
const TEXT: &str =
    "roomcast\n\n/ws       WebSocket: rooms and messages\n/v1       the same by plain HTTP: docs/api.md\n";

/// The same on the address that also has the probes.
const TEXT_WITH_PROBES: &str = "\
roomcast

/ws       WebSocket: rooms and messages
/v1       the same by plain HTTP: docs/api.md
/healthz  is the process alone
/readyz   can it do its job now, and if not, why
/metrics  Prometheus
";

/// Options of the HTTP side.
#[derive(Clone, Debug)]
pub struct Options {
    /// Most WebSocket clients.
    pub max_clients: usize,
    /// Whether browsers get a page at `/`.
    pub has_page: bool,
    /// Whether a token may be in the query of a request.
    pub token_in_query: bool,
    /// How long a server that was ready stays ready while it is in trouble.
    pub ready_grace: Duration,
    /// The bounds on what is said.
    pub limits: Limits,
    /// Options of each session.
    pub session: session::Options,
}

/// State that the routes share.
#[derive(Clone, Debug)]
pub struct App {
    hub: Arc<Hub>,
    context: Arc<session::Context>,
    metrics: Arc<Metrics>,
    sessions: TaskTracker,
    readiness: Arc<Readiness>,
    places: Arc<Places>,
    has_page: bool,
    token_in_query: bool,
    limits: Limits,
}

impl App {
    /// Serves the clients of this hub that come in at this door; `sessions` tracks each session.
    pub fn new(hub: Arc<Hub>, door: Arc<Door>, options: Options, metrics: Arc<Metrics>, sessions: TaskTracker) -> Self {
        let Options { max_clients, has_page, token_in_query, ready_grace, limits, session } = options;
        metrics.connections_limit.set(max_clients);
        Self {
            context: Arc::new(session::Context::new(hub.clone(), door, session, metrics.clone())),
            places: Arc::new(Places::new(max_clients, metrics.connected_clients.clone())),
            hub,
            metrics,
            sessions,
            readiness: Arc::new(Readiness::new(ready_grace)),
            has_page,
            token_in_query,
            limits,
        }
    }

    /// From now on, the server is unready, because it stops; it still takes clients.
    pub fn leave(&self) {
        self.readiness.leave();
    }

    /// From now on, the server takes no clients either.
    pub fn refuse(&self) {
        self.readiness.refuse();
    }

    /// The routes for clients, with probes and metrics unless those have their own address.
    pub fn router(self, has_probes: bool) -> Router {
        let page = self.has_page.then(Page::index);
        let text = if has_probes { TEXT_WITH_PROBES } else { TEXT };
        let index = async move |app: State<Self>, headers: HeaderMap, upgrade_request| {
            // Plain clients dial the bare address, so this takes upgrades too.
            if handshake::is_meant(&headers) {
                return upgrade(app, upgrade_request).await;
            }
            page.map_or_else(|| text.into_response(), |page| page.answer(&headers))
        };
        let routes = Router::new().route("/", get(index)).route("/ws", any(upgrade));
        let routes = if self.has_page { routes.merge(page::files()) } else { routes };
        let routes = if has_probes { routes.merge(probes()) } else { routes };
        routes.with_state(self.clone()).merge(Api::for_clients(self))
    }

    /// The API for back ends that have one of these keys, and for clients with a token.
    pub fn api(&self, keys: Arc<ApiKeys>, revocations_last: Option<Duration>) -> Router {
        Api::for_back_ends(self.clone(), keys, revocations_last)
    }

    /// The routes for probes and metrics.
    pub fn probes(self) -> Router {
        probes().with_state(self)
    }
}

fn probes() -> Router<App> {
    Router::new()
        .route("/healthz", get(|| async { Json(json!({ "status": "ok" })) }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
}

async fn upgrade(State(app): State<App>, upgrade: Result<Upgrade, Response>) -> Response {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(refusal) => return refusal,
    };
    let (place, seat) = match app.let_in(upgrade.source()) {
        Ok(let_in) => let_in,
        Err(why) => return why.into_response(),
    };
    let admission = match admit(&app.context, upgrade.credential()).await {
        Ok(admission) => admission,
        Err(problem) => return problem.into_response(),
    };
    let arrival = Arrival { admission, source: upgrade.source(), seat, dialect: upgrade.dialect() };
    let (response, accepted) = upgrade.accept();
    app.sessions.spawn(async move {
        if let Some((stream, unread)) = accepted.socket().await {
            app.context.serve(stream, unread, arrival).await;
        }
        // Only now can another client use the descriptor.
        drop(place);
    });
    response
}

/// Why a client finds no place.
#[derive(Debug)]
enum NoPlace {
    Stopping,
    Full,
    TooMany(NoSeat),
}

impl NoPlace {
    fn text(&self) -> &'static str {
        match self {
            Self::Stopping => "this server is shutting down",
            Self::Full => "this server is full",
            Self::TooMany(_) => "too many connections from your address",
        }
    }
}

impl From<NoPlace> for Problem {
    fn from(why: NoPlace) -> Self {
        let (limit, wait) = match why {
            NoPlace::TooMany(NoSeat::Connections) => (Limit::ConnectionsPerAddress, Duration::from_secs(10)),
            NoPlace::TooMany(NoSeat::Upgrades(wait)) => (Limit::UpgradesPerAddress, wait),
            NoPlace::Stopping | NoPlace::Full => return Rejection::new(ErrorCode::Unavailable, why.text()).into(),
        };
        let detail = format!("{}, by the limit {}", why.text(), limit.as_str());
        let retry_after_ms = u64::try_from(wait.as_millis()).ok();
        Rejection { retry_after_ms, ..Rejection::new(ErrorCode::RateLimited, detail) }.into()
    }
}

impl IntoResponse for NoPlace {
    fn into_response(self) -> Response {
        if matches!(self, Self::TooMany(_)) {
            return Problem::from(self).into_response();
        }
        let text = format!("{}\n", self.text());
        (StatusCode::SERVICE_UNAVAILABLE, [(header::RETRY_AFTER, RETRY_AFTER)], text).into_response()
    }
}

impl App {
    /// A place for one more client, and one among those from its address.
    ///
    /// # Errors
    /// Why there is none.
    fn let_in(&self, source: Option<Source>) -> Result<(Place, Option<Seat>), NoPlace> {
        let refused = |why| {
            self.metrics.connections_refused.inc();
            why
        };
        if self.readiness.refuses() {
            return Err(refused(NoPlace::Stopping));
        }
        let place = self.places.take().ok_or_else(|| refused(NoPlace::Full))?;
        let seat = source.map(|source| self.context.door().address_seat(source, Instant::now())).transpose();
        let seat = seat.inspect_err(|why| {
            self.metrics.limited(match why {
                NoSeat::Connections => Limit::ConnectionsPerAddress,
                NoSeat::Upgrades(_) => Limit::UpgradesPerAddress,
            });
        });
        Ok((place, seat.map_err(NoPlace::TooMany)?))
    }
}

/// How the client of this request comes in.
///
/// # Errors
/// If its token is refused and it sees the status of the answer.
async fn admit(
    context: &session::Context,
    credential: Option<&Credential>,
) -> Result<Result<Option<Arc<Pass>>, Refused>, Problem> {
    // Who does not know that this server checks no tokens need not change for it.
    let Some(Credential { place, token }) = credential.filter(|_| context.door().checks_tokens()) else {
        return Ok(Ok(context.door().anonymous()));
    };
    match (context.admit(token).await, place) {
        (Err(why), Shown::Header) => Err(refused(&why)),
        (admitted, _) => Ok(admitted.map(Some).map_err(Refused::Token)),
    }
}

/// What to tell a program whose token is refused.
fn refused(why: &TokenError) -> Problem {
    let code = match why {
        TokenError::KeysAway => ErrorCode::Unavailable,
        _ => ErrorCode::Unauthorized,
    };
    Rejection::new(code, why.to_string()).into()
}

async fn ready(State(app): State<App>) -> Response {
    #[derive(serde::Serialize)]
    #[serde(untagged)]
    enum Reason {
        Own(&'static str),
        Broker(Trouble),
    }
    let has_keys = app.context.door().is_ready();
    let troubles = app.hub.troubles();
    let is_ready = app.readiness.observe(troubles.is_empty() && has_keys, Instant::now());
    let shutting_down = app.readiness.is_leaving().then_some("shutting_down");
    let keys_missing = (!has_keys).then_some("keys_missing");
    let own = shutting_down.into_iter().chain(keys_missing).map(Reason::Own);
    let reasons: Vec<Reason> = own.chain(troubles.into_iter().map(Reason::Broker)).collect();
    let status = if is_ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let mut body = json!({ "ready": is_ready, "reasons": reasons });
    if let Some(diagnosis) = app.hub.diagnosis() {
        body["redis"] = json!(diagnosis);
    }
    (status, Json(body)).into_response()
}

async fn metrics(State(app): State<App>) -> Response {
    match app.metrics.encode() {
        Ok(text) => ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], text).into_response(),
        Err(error) => {
            tracing::error!(%error, "cannot write the metrics");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
