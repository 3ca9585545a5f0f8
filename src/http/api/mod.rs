//! The HTTP API, version 1: for back ends, and on the clients' address for clients that cannot have a WebSocket. There is one
//! way in: what is said here goes through [`Hub::publish`](crate::hub::Hub::publish) like what clients
//! say, so order, ids and acks hold for both alike.

mod body;
mod caller;
mod document;
mod events;
mod lists;
mod moderate;
mod publish;
mod read;
mod schema;

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::{HeaderValue, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use tracing::Span;
use utoipa::OpenApi;
use utoipa_axum::{router::OpenApiRouter, routes};
use utoipa_swagger_ui::{Config, SwaggerUi};

use self::document::{Document, with_names};
use super::{App, cors, problem::Problem};
use crate::{access::ApiKeys, telemetry::trace};

/// Largest body of a call.
const LARGEST: usize = 1 << 20;

/// What the page may do; its styles are partly in its elements.
const POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; base-uri 'none'; form-action \
                      'none'; frame-ancestors 'none'";

/// State that the calls share.
#[derive(Clone, Debug)]
pub(super) struct Api {
    app: App,
    /// `None` on the clients' address, where no key of a back end counts.
    keys: Option<Arc<ApiKeys>>,
    /// How long a revocation is kept; for ever without this.
    revocations_last: Option<Duration>,
}

impl Api {
    /// All calls, for whoever has one of these keys or a token.
    pub(super) fn for_back_ends(app: App, keys: Arc<ApiKeys>, revocations_last: Option<Duration>) -> Router {
        let api = Self { app, keys: Some(keys), revocations_last };
        let (router, document) = for_clients().merge(calls()).split_for_parts();
        let document = Arc::new(with_names(document, &api.app.limits));
        let router = router.route("/v1/openapi.json", get(async move || Json(document)));
        let page = page().layer(middleware::map_response(bounded));
        api.finish(router.fallback(not_found).method_not_allowed_fallback(not_allowed)).merge(page)
    }

    /// What a client does that cannot have a WebSocket, and nothing else, for whoever may come in at this address.
    pub(super) fn for_clients(app: App) -> Router {
        let api = Self { app: app.clone(), keys: None, revocations_last: None };
        let (router, _) = for_clients().split_for_parts();
        let router = router.method_not_allowed_fallback(not_allowed);
        api.finish(router.layer(middleware::from_fn_with_state(app, cors::check)))
    }

    fn finish(self, router: Router<Self>) -> Router {
        let router = router.layer(middleware::from_fn_with_state(self.clone(), count));
        router.layer(DefaultBodyLimit::max(LARGEST)).with_state(self)
    }
}

/// The calls that clients have at their own address too.
fn for_clients() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(publish::send, read::history))
        .routes(routes!(publish::signal))
        .routes(routes!(events::of_room))
        .routes(routes!(events::of_rooms))
}

/// The calls for back ends alone. The router and the document are made of the same lists.
fn calls() -> OpenApiRouter<Api> {
    OpenApiRouter::default()
        .routes(routes!(publish::send_to_many))
        .routes(routes!(publish::batch))
        .routes(routes!(publish::broadcast))
        .routes(routes!(lists::rooms))
        .routes(routes!(lists::room))
        .routes(routes!(lists::members))
        .routes(routes!(lists::user))
        .routes(routes!(lists::servers))
        .routes(routes!(moderate::ban, moderate::unban))
        .routes(routes!(moderate::mute, moderate::unmute))
        .routes(routes!(moderate::mute_everywhere, moderate::unmute_everywhere))
        .routes(routes!(moderate::slow_mode))
        .routes(routes!(moderate::kick))
        .routes(routes!(moderate::disconnect))
        .routes(routes!(moderate::revoke))
}

/// The page to try the calls.
fn page() -> Router {
    // The validator is another host's.
    let config = Config::from("../openapi.json").validator_url("none").try_it_out_enabled(true).use_base_layout();
    SwaggerUi::new("/v1/docs").config(config).into()
}

/// Lets the page ask nobody but this server.
async fn bounded(mut response: Response) -> Response {
    response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    response
}

/// Where the span of a call is found once its caller is known.
#[derive(Clone, Debug, Default)]
struct Called(Arc<OnceLock<Span>>);

async fn count(State(api): State<Api>, path: Option<MatchedPath>, mut request: Request, next: Next) -> Response {
    let called = Called::default();
    request.extensions_mut().insert(called.clone());
    let response = next.run(request).await;
    let status = response.status().as_u16();
    // A path that is no call of ours is not counted, so that the label stays a closed list.
    if path.is_some() {
        api.app.metrics.api_answered(status);
    }
    if let Some(span) = called.0.get() {
        trace::answered(span, status);
    }
    response
}

async fn not_found() -> Response {
    Problem::new(StatusCode::NOT_FOUND, "not_found", "there is no such call; /v1/openapi.json lists them")
        .into_response()
}

async fn not_allowed() -> Response {
    let detail = "this call has another method; /v1/openapi.json lists them";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", detail).into_response()
}
