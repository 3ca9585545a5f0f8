//! The API for back ends, version 1. There is one way in: what is said here goes through [`Hub::publish`] like what clients
//! say, so order, ids and acks hold for both alike.

mod body;
mod caller;
mod moderate;
mod publish;
mod read;
mod schema;

use std::{sync::Arc, time::Duration};

use axum::{
    Json, Router,
    extract::{DefaultBodyLimit, MatchedPath, Request, State},
    http::StatusCode,
    middleware::{self, Next},
    response::{IntoResponse, Response},
    routing::get,
};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        self, ObjectBuilder, RefOr, Type,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::problem::Problem;
use crate::{access::ApiKeys, hub::Hub, protocol::Limits, session::Context, telemetry::Metrics};

/// Largest body of a call.
const LARGEST: usize = 1 << 20;

/// Options of the API.
#[derive(Clone, Copy, Debug)]
pub struct Options {
    /// The bounds on what is said.
    pub limits: Limits,
    /// How long a revocation is kept; for ever without this.
    pub revocations_last: Option<Duration>,
}

/// State that the calls share.
#[derive(Clone, Debug)]
pub struct Api {
    hub: Arc<Hub>,
    context: Arc<Context>,
    keys: Arc<ApiKeys>,
    metrics: Arc<Metrics>,
    origin_server: Arc<str>,
    limits: Limits,
    revocations_last: Option<Duration>,
}

/// What the OpenAPI document says beside the calls.
#[derive(OpenApi)]
#[openapi(
    info(title = "roomcast", description = "For back ends, and for clients without a WebSocket."),
    modifiers(&Secured),
    security(("bearer" = [])),
)]
struct Document;

struct Secured;

impl Modify for Secured {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("A key of the API, or a client's token."));
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("bearer", SecurityScheme::Http(bearer.build()));
    }
}

impl Api {
    /// The calls on this hub, for whoever has one of these keys or a token.
    pub(super) fn new(
        hub: Arc<Hub>,
        context: Arc<Context>,
        keys: Arc<ApiKeys>,
        options: Options,
        metrics: Arc<Metrics>,
    ) -> Self {
        let Options { limits, revocations_last } = options;
        Self { origin_server: hub.origin_server().into(), hub, context, keys, metrics, limits, revocations_last }
    }

    /// Its routes.
    pub fn router(self) -> Router {
        let (router, document) = calls().split_for_parts();
        let document = Arc::new(with_names(document, &self.limits));
        let router = router.route("/v1/openapi.json", get(async move || Json(document)));
        let router = router.fallback(not_found).method_not_allowed_fallback(not_allowed);
        let router = router.layer(middleware::from_fn_with_state(self.clone(), count));
        router.layer(DefaultBodyLimit::max(LARGEST)).with_state(self)
    }
}

/// Every call, once: the router and the document are made of the same list.
fn calls() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(publish::send, read::history))
        .routes(routes!(publish::send_to_many))
        .routes(routes!(publish::batch))
        .routes(routes!(publish::broadcast))
        .routes(routes!(moderate::ban, moderate::unban))
        .routes(routes!(moderate::mute, moderate::unmute))
        .routes(routes!(moderate::mute_everywhere, moderate::unmute_everywhere))
        .routes(routes!(moderate::slow_mode))
        .routes(routes!(moderate::kick))
        .routes(routes!(moderate::disconnect))
        .routes(routes!(moderate::revoke))
}

/// Says of each room in a path what it may have in it.
fn with_names(mut document: openapi::OpenApi, limits: &Limits) -> openapi::OpenApi {
    let operations = document
        .paths
        .paths
        .values_mut()
        .flat_map(|path| [&mut path.get, &mut path.put, &mut path.post, &mut path.delete].into_iter().flatten());
    for parameter in operations.flat_map(|operation| operation.parameters.iter_mut().flatten()) {
        let RefOr::T(parameter) = parameter else { continue };
        if parameter.name == "room" {
            let schema =
                ObjectBuilder::new().schema_type(Type::String).pattern(Some("^[A-Za-z0-9._:~-][A-Za-z0-9._:~@-]*$"));
            let schema = schema.min_length(Some(1)).max_length(Some(limits.room));
            parameter.schema = Some(schema.build().into());
        }
    }
    document
}

async fn count(State(api): State<Api>, path: Option<MatchedPath>, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    // A path that is no call of ours is not counted, so that the label stays a closed list.
    if path.is_some() {
        api.metrics.api_answered(response.status().as_u16());
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
