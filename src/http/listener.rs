use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use tokio::{
    net::TcpListener,
    time::{sleep, timeout},
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::lingering::Lingering;

/// How long a client may take for the head of a request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);

/// How long a connection is used for requests before it is closed. One that is upgraded is no longer counted here.
const LIFETIME: Duration = Duration::from_secs(300);

/// How long a client may take for the last answer on a connection.
const LAST_ANSWER: Duration = Duration::from_secs(2);

/// How long to wait after a connection could not be accepted, as when there are no file descriptors left.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// Accepts connections and serves HTTP on them until `stop`. Those that are open then finish the request they
/// are in; each is tracked by `connections`. What has been upgraded is on its own.
///
/// This is `axum::serve` with a deadline for the request's head, NODELAY, gentle ends, and tasks that can be waited
/// for.
pub async fn serve(listener: TcpListener, router: Router, connections: TaskTracker, stop: CancellationToken) {
    let service = TowerToHyperService::new(router);
    while let Some(accepted) = stop.run_until_cancelled(listener.accept()).await {
        match accepted {
            Ok((stream, _)) => {
                // What is written is a whole batch already, so there is nothing to wait for.
                let _ = stream.set_nodelay(true);
                let stream = Lingering::new(stream, connections.clone());
                connections.spawn(serve_one(stream, service.clone(), stop.clone()));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn serve_one(stream: Lingering, service: TowerToHyperService<Router>, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    let mut connection = std::pin::pin!(connection);
    tokio::select! {
        result = connection.as_mut() => return ended(result),
        () = stop.cancelled() => {}
        () = sleep(LIFETIME) => {}
    }
    // It ends after the request it is in, or, if the client does not take the answer, without.
    connection.as_mut().graceful_shutdown();
    match timeout(LAST_ANSWER, connection).await {
        Ok(result) => ended(result),
        Err(_) => tracing::debug!("a client did not take its answer in time"),
    }
}

fn ended(result: hyper::Result<()>) {
    if let Err(error) = result {
        tracing::debug!(%error, "a connection ended with an error");
    }
}
