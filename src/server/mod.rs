//! Wires everything together, runs it until it is told to stop, and ends it in order.

mod drain;
mod files;

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

pub use self::files::{is_too_low, raise_file_limit};

use self::drain::Drain;
use crate::{
    broker::{Broker, MemoryBroker, RedisBroker},
    config::Config,
    http::{self, App},
    hub::Hub,
    telemetry::Metrics,
};

/// A server that has its address and is about to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    hub: Arc<Hub>,
    app: App,
    sessions: TaskTracker,
    drain: Drain,
    shutdown_timeout: Duration,
}

/// Why a server could not start; the text names the setting and the way to mend it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The address cannot be listened on.
    #[error("ROOMCAST_LISTEN is {address}, which cannot be listened on ({source}); choose a free address and port")]
    Listen {
        /// The address in the setting.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// The URL is not one of Redis. It is not shown, as it may hold a password.
    #[error("ROOMCAST_REDIS_URL (hidden) is not understood ({0}); write it like redis://:password@redis:6379/0")]
    RedisUrl(redis::RedisError),
}

impl Server {
    /// Takes the address and prepares everything, without connecting to Redis yet: a server starts without it,
    /// and is ready when it is there.
    ///
    /// # Errors
    /// If a setting cannot be put to use.
    pub async fn bind(config: &Config) -> Result<Self, StartError> {
        let failed = |source| StartError::Listen { address: config.listen, source };
        let listener = TcpListener::bind(config.listen).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;

        let metrics = Arc::new(Metrics::new());
        metrics.configured(config);
        let origin_server = config.origin_server.clone().unwrap_or_else(|| default_name(address));
        let broker: Arc<dyn Broker> = match &config.redis_url {
            Some(url) => {
                let broker = RedisBroker::new(url.reveal(), &origin_server, config, &metrics);
                Arc::new(broker.map_err(StartError::RedisUrl)?)
            }
            None => {
                metrics.broker_up.set(1);
                Arc::new(MemoryBroker::new(config))
            }
        };
        let hub = Arc::new(Hub::new(origin_server, broker, config, metrics.clone()));
        let sessions = TaskTracker::new();
        let app = App::new(hub.clone(), config, metrics, sessions.clone());
        Ok(Self {
            listener,
            address,
            hub,
            app,
            sessions,
            drain: Drain::new(config),
            shutdown_timeout: config.shutdown_timeout,
        })
    }

    /// Where it listens; the port is a real one even if 0 was asked for.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The name it has in its messages.
    pub fn origin_server(&self) -> &str {
        self.hub.origin_server()
    }

    /// Serves until `shutdown` completes. Then it refuses new clients, tells those it has when to come back, closes
    /// them one after another with 1012, still answers probes until they are gone, and ends: at the latest after the
    /// shutdown timeout.
    pub async fn run(self, shutdown: impl Future<Output = ()>) {
        let (stop_http, stop_hub) = (CancellationToken::new(), CancellationToken::new());
        let (connections, background) = (TaskTracker::new(), TaskTracker::new());
        background.spawn(self.hub.clone().run(stop_hub.clone()));
        let router = self.app.clone().router();
        background.spawn(http::serve(self.listener, router, connections.clone(), stop_http.clone()));

        shutdown.await;
        tracing::info!(sessions = self.sessions.len(), "shutting down");
        self.app.shut_down();
        for tracker in [&self.sessions, &connections, &background] {
            tracker.close();
        }
        let ended = timeout(self.shutdown_timeout, async {
            self.drain.run(&self.hub).await;
            self.sessions.wait().await;
            stop_http.cancel();
            connections.wait().await;
            // Sessions that were ending may have needed the broker until now.
            stop_hub.cancel();
            background.wait().await;
        });
        match ended.await {
            Ok(()) => tracing::info!("all sessions ended"),
            Err(_) => tracing::warn!(
                sessions = self.sessions.len(),
                timeout = ?self.shutdown_timeout,
                "ROOMCAST_SHUTDOWN_TIMEOUT is over; ending with sessions open"
            ),
        }
    }
}

fn default_name(address: SocketAddr) -> String {
    format!("{}:{}", gethostname::gethostname().to_string_lossy(), address.port())
}
