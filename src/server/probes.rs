use std::{io, net, panic::resume_unwind};

use axum::Router;
use tokio::{net::TcpListener, runtime::Builder, task::spawn_blocking};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use super::files::PROBES;
use crate::{
    http::{self, PlainBound},
    telemetry::Counter,
};

/// Serves the probes until `stop`, on a thread and a runtime of their own, so that they are answered however busy the
/// server is.
pub(super) async fn serve(listener: net::TcpListener, router: Router, displaced: Counter, stop: CancellationToken) {
    let serving = async move {
        let (listener, connections) = (TcpListener::from_std(listener)?, TaskTracker::new());
        http::serve(listener, router, PlainBound::for_probes(PROBES), displaced, connections.clone(), stop).await;
        connections.close();
        connections.wait().await;
        io::Result::Ok(())
    };
    let thread = spawn_blocking(|| Builder::new_current_thread().enable_all().build()?.block_on(serving));
    match thread.await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::error!(%error, "cannot serve the probes"),
        Err(panic) => resume_unwind(panic.into_panic()),
    }
}
