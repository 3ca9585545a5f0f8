use axum::{
    extract::{Request, State},
    http::{HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{App, problem::Problem, requester};

/// What pages may send beside what all may.
const HEADERS: &str = "authorization, content-type, idempotency-key, last-event-id";

/// How long a browser may remember that pages may call, in seconds.
const REMEMBERED: &str = "7200";

/// Lets pages of the origins that may connect call, and refuses the others, as the upgrade to a WebSocket does (CORS).
pub(super) async fn check(State(app): State<App>, request: Request, next: Next) -> Response {
    let origin = match requester::page(request.headers(), app.context.door()) {
        Ok(None) => return next.run(request).await,
        Ok(Some(origin)) => HeaderValue::from_str(origin),
        Err(why) => return Problem::from(why).into_response(),
    };
    let mut response = match *request.method() {
        Method::OPTIONS => {
            let allowed = [
                (header::ACCESS_CONTROL_ALLOW_METHODS, "GET, POST"),
                (header::ACCESS_CONTROL_ALLOW_HEADERS, HEADERS),
                (header::ACCESS_CONTROL_MAX_AGE, REMEMBERED),
            ];
            (StatusCode::NO_CONTENT, allowed).into_response()
        }
        _ => next.run(request).await,
    };
    let headers = response.headers_mut();
    if let Ok(origin) = origin {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
    }
    headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static("retry-after"));
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    response
}
