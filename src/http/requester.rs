//! Where a request comes from.

use axum::http::{HeaderMap, header, request::Parts};

use super::listener::Peer;
use crate::access::{Door, Source};

/// Where proxies write whom they serve.
const FORWARDED: &str = "x-forwarded-for";

/// From where this request comes, if limits by address apply to it.
pub(super) fn source(request: &Parts, door: &Door) -> Option<Source> {
    // Anybody can put bytes into a line to which a proxy then appends; what the proxy wrote counts all the same.
    let lines = request.headers.get_all(FORWARDED).iter();
    let forwarded: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes())).collect();
    let peer = request.extensions.get::<Peer>()?;
    door.source(peer.0, forwarded.iter().map(|line| &**line))
}

/// The web page from which this request comes: `Ok(None)` for a program.
///
/// # Errors
/// If pages of its origin may not connect.
pub(super) fn page<'a>(headers: &'a HeaderMap, door: &Door) -> Result<Option<&'a str>, NotAllowed> {
    let Some(origin) = headers.get(header::ORIGIN) else { return Ok(None) };
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let origin = origin.to_str().map_err(|_| NotAllowed)?;
    if door.allows_page(origin, host) { Ok(Some(origin)) } else { Err(NotAllowed) }
}

/// Pages of this origin may not connect.
#[derive(Debug)]
pub(super) struct NotAllowed;
