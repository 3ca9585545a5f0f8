//! Wires everything together, runs it until it must stop, and ends it in order.

mod door;
mod drain;
mod files;
pub mod options;
mod parts;
mod probes;
mod revoke;

use std::{
    io,
    net::{self, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{net::TcpListener, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};

#[cfg(test)]
pub(crate) use self::door::door;
pub use self::{
    door::{key_sources, verifier},
    parts::Broken,
    revoke::{RevokeError, revoke},
};

use self::{
    drain::Drain,
    files::{API, Capacity, MOST_CLIENTS},
    parts::Parts,
};
use crate::{
    access::{ApiKeySource, ApiKeys, BadApiKeys, BadClaim, Door, Hidden, SourceError},
    broker::{BadUrl, Broker, ClientCertificate, MemoryBroker, RedisBroker},
    config::{Config, Secret},
    http::{self, App, PlainBound},
    hub::Hub,
    telemetry::{Metrics, trace::Tracer},
};

/// A server that has bound its address and is about to serve.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    address: SocketAddr,
    /// The probes' own address, if they have one, and its listener.
    probes: Option<(SocketAddr, net::TcpListener)>,
    /// The API, if there is one.
    api: Option<ApiPart>,
    hub: Arc<Hub>,
    door: Arc<Door>,
    app: App,
    metrics: Arc<Metrics>,
    capacity: Capacity,
    sessions: TaskTracker,
    drain: Drain,
    shutdown_timeout: Duration,
}

/// The API's address and listener, its keys, and what it does.
#[derive(Debug)]
struct ApiPart {
    listener: TcpListener,
    address: SocketAddr,
    keys: Arc<ApiKeys>,
    /// How long a revocation is kept; for ever without this.
    revocations_last: Option<Duration>,
}

/// Why a server could not start; the text names the setting and the way to mend it.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The server cannot listen on an address.
    #[error("{setting} is {address}, but roomcast cannot listen there ({source}); choose a free address and port")]
    Listen {
        /// The setting.
        setting: &'static str,
        /// The address in the setting.
        address: SocketAddr,
        /// What the system says.
        source: io::Error,
    },
    /// A file cannot be read.
    #[error("{setting} is {path:?}, but that file cannot be read ({source}); check its name and its rights")]
    File {
        /// The setting.
        setting: &'static str,
        /// The path in the setting.
        path: String,
        /// What the system says.
        source: io::Error,
    },
    /// Keys of the API cannot be used.
    #[error("{setting} {source}")]
    ApiKeys {
        /// The setting.
        setting: &'static str,
        /// What is wrong with them.
        source: BadApiKeys,
    },
    /// Keys that check tokens cannot be used.
    #[error("{setting} {source}")]
    Keys {
        /// The setting.
        setting: &'static str,
        /// What is wrong with them.
        source: SourceError,
    },
    /// An item in a list of networks is none.
    #[error(
        "{setting} has {item:?}, which is no address and no network; write it like 10.0.0.0/8, 192.0.2.7 or private"
    )]
    Networks {
        /// The setting.
        setting: &'static str,
        /// The item.
        item: String,
    },
    /// An item in the list of web pages is none.
    #[error(
        "ROOMCAST_ALLOWED_ORIGINS has {0:?}, which is no origin; write it like https://app.example.com, https://*.example.com, own or *"
    )]
    Site(String),
    /// What clients without a token may do cannot be read.
    #[error("ROOMCAST_ANONYMOUS {0}")]
    Anonymous(BadClaim),
    /// The URL is not a Redis URL. It is not shown, because it may hold a password.
    #[error(
        "ROOMCAST_REDIS_URL (hidden), or its certificate, cannot be used ({0}); \
         write the URL like redis://:password@redis:6379/0, and the certificate and its key in PEM"
    )]
    RedisUrl(BadUrl),
}

impl Server {
    /// Binds its addresses and prepares everything, without connecting to Redis: a server starts without Redis, and
    /// becomes ready with it. It accepts only as many connections as `files` allows, the number of files that this
    /// process may open. Call it within a runtime.
    ///
    /// # Errors
    /// If a setting cannot be used.
    pub fn bind(config: &Config, files: Option<u64>) -> Result<Self, StartError> {
        let (listener, address) = listen("ROOMCAST_LISTEN", config.listen)?;
        let probes = config.probe_listen.map(|address| {
            let (listener, actual) = listen("ROOMCAST_PROBE_LISTEN", address)?;
            // It moves to the probes' runtime.
            Ok((actual, listener.into_std().map_err(failed("ROOMCAST_PROBE_LISTEN", address))?))
        });
        let probes = probes.transpose()?;
        let api = config.api_listen.map(|address| api(config, address)).transpose()?;
        let files = files.map(|files| files.saturating_sub(if api.is_some() { API as u64 } else { 0 }));
        let capacity = Capacity::new(files, config.max_connections.unwrap_or(MOST_CLIENTS));

        let metrics = Arc::new(Metrics::new());
        let origin_server = config.origin_server.clone().unwrap_or_else(|| default_name(address));
        let broker = broker(config, &origin_server, &metrics)?;
        metrics.runs_with(broker.kind());
        let tracer = Tracer::new(config.otlp_endpoint.is_some().then_some(config.trace_ratio), broker.kind());
        let hub = Arc::new(Hub::new(&origin_server, broker, config.into(), tracer, metrics.clone()));
        let sessions = TaskTracker::new();
        let options = http::Options {
            max_clients: capacity.clients,
            has_page: config.page,
            token_in_query: config.token_in_query,
            ready_grace: config.ready_grace,
            limits: config.into(),
            session: options::session(config, &origin_server, &metrics),
        };
        let door = Arc::new(door::door(config, &metrics)?);
        let app = App::new(hub.clone(), door.clone(), options, metrics.clone(), sessions.clone());
        Ok(Self {
            listener,
            address,
            probes,
            api,
            hub,
            door,
            app,
            metrics,
            capacity,
            sessions,
            drain: Drain { delay: config.drain_delay, time: config.drain_time },
            shutdown_timeout: config.shutdown_timeout,
        })
    }

    /// The address it listens on; the port is the real one even if the setting is 0.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The address of the probes: the same, unless they have their own.
    pub fn probe_address(&self) -> SocketAddr {
        self.probes.as_ref().map_or(self.address, |(address, _)| *address)
    }

    /// The address of the API, if there is one.
    pub fn api_address(&self) -> Option<SocketAddr> {
        self.api.as_ref().map(|api| api.address)
    }

    /// How many WebSocket clients it may have.
    pub fn max_clients(&self) -> usize {
        self.capacity.clients
    }

    /// The name it has in its messages.
    pub fn origin_server(&self) -> &str {
        self.hub.origin_server()
    }

    /// Serves until `shutdown` completes. Then it is unready, tells its clients when to come back, refuses new ones after
    /// the drain's delay, closes all one after another with 1012, answers probes until they are gone, and ends, at the
    /// latest after the shutdown timeout.
    ///
    /// # Errors
    /// If a part of it ended by itself, for example by a panic. The server then ends as if told to stop.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<(), Broken> {
        let (stop_http, stop_hub) = (CancellationToken::new(), CancellationToken::new());
        let (mut parts, connections) = (Parts::default(), TaskTracker::new());
        parts.start("hub", self.hub.clone().run(stop_hub.clone()));
        let (door, stop) = (self.door, stop_http.clone());
        parts.start("door", async move {
            stop.run_until_cancelled(door.run()).await;
        });
        let displaced = &self.metrics.http_displaced;
        let router = self.app.clone().router(self.probes.is_none());
        let (plain, tasks) = (self.capacity.plain, connections.clone());
        parts.start(
            "http",
            http::serve(
                self.listener,
                router,
                PlainBound::for_clients(plain),
                displaced.clone(),
                tasks,
                stop_http.clone(),
            ),
        );
        if let Some((_, listener)) = self.probes {
            let router = self.app.clone().probes();
            parts.start("probes", probes::serve(listener, router, displaced.clone(), stop_http.clone()));
        }

        if let Some(ApiPart { listener, keys, revocations_last, .. }) = self.api {
            let router = self.app.api(keys.clone(), revocations_last);
            let (bound, stop) = (PlainBound::for_clients(API), stop_http.clone());
            parts.start(
                "api",
                http::serve(listener, router, bound, displaced.clone(), connections.clone(), stop.clone()),
            );
            parts.start("api keys", async move {
                stop.run_until_cancelled(keys.run()).await;
            });
        }

        let asked = tokio::select! {
            () = shutdown => Ok(()),
            broken = parts.broken() => {
                tracing::error!("{broken}; shutting down, as nothing works without it");
                Err(broken)
            }
        };
        tracing::info!(sessions = self.sessions.len(), "shutting down");
        self.app.leave();
        for tracker in [&self.sessions, &connections] {
            tracker.close();
        }
        let ended = timeout(self.shutdown_timeout, async {
            self.drain.run(&self.hub, || self.app.refuse()).await;
            self.sessions.wait().await;
            stop_http.cancel();
            connections.wait().await;
            // Sessions that were ending may have needed the broker until now.
            stop_hub.cancel();
            parts.ended().await
        });
        match ended.await {
            Ok(ended) => {
                tracing::info!("all sessions ended");
                asked.and(ended.inspect_err(|broken| tracing::error!("{broken}")))
            }
            Err(_) => {
                tracing::warn!(
                    sessions = self.sessions.len(),
                    timeout = ?self.shutdown_timeout,
                    "ROOMCAST_SHUTDOWN_TIMEOUT has passed; ending with sessions open"
                );
                asked
            }
        }
    }
}

fn api(config: &Config, address: SocketAddr) -> Result<ApiPart, StartError> {
    let (listener, address) = listen("ROOMCAST_API_LISTEN", address)?;
    let setting = config.api_keys.as_ref().map(|keys| ApiKeySource::Setting(Hidden(keys.reveal().to_owned())));
    let file = config.api_keys_file.as_ref().map(|path| ApiKeySource::File(path.into()));
    let keys = ApiKeys::new(setting.into_iter().chain(file).collect());
    let keys = keys.map_err(|(setting, source)| StartError::ApiKeys { setting, source })?;
    let revocations_last = options::revocations_last(config);
    Ok(ApiPart { listener, address, keys: Arc::new(keys), revocations_last })
}

/// The broker that the settings name, without connections yet.
fn broker(config: &Config, origin_server: &str, metrics: &Arc<Metrics>) -> Result<Arc<dyn Broker>, StartError> {
    Ok(match redis_url(config)? {
        Some(url) => {
            let options = options::redis(config, &url, redis_password(config)?, client_certificate(config)?);
            Arc::new(RedisBroker::new(&options, origin_server, metrics).map_err(StartError::RedisUrl)?)
        }
        None => {
            metrics.broker_up.set_flag(true);
            Arc::new(MemoryBroker::new(config.into(), config.memory_broker_bytes))
        }
    })
}

fn redis_url(config: &Config) -> Result<Option<String>, StartError> {
    secret("ROOMCAST_REDIS_URL_FILE", config.redis_url.as_ref(), config.redis_url_file.as_ref())
}

fn redis_password(config: &Config) -> Result<Option<String>, StartError> {
    secret("ROOMCAST_REDIS_PASSWORD_FILE", config.redis_password.as_ref(), config.redis_password_file.as_ref())
}

/// A secret from its own setting or from the file that the other one names.
fn secret(setting: &'static str, secret: Option<&Secret>, path: Option<&String>) -> Result<Option<String>, StartError> {
    let Some(path) = path else { return Ok(secret.map(|secret| secret.reveal().to_owned())) };
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| StartError::File { setting, path: path.clone(), source })?;
    Ok(Some(text.trim().to_owned()))
}

/// What this server shows to a Redis that asks for a certificate.
fn client_certificate(config: &Config) -> Result<Option<ClientCertificate>, StartError> {
    let (Some(certificate), Some(key)) = (&config.redis_tls_cert, &config.redis_tls_key) else { return Ok(None) };
    let read = |setting, path: &String| {
        std::fs::read(path).map_err(|source| StartError::File { setting, path: path.clone(), source })
    };
    let certificate = read("ROOMCAST_REDIS_TLS_CERT", certificate)?;
    Ok(Some(ClientCertificate { certificate, key: read("ROOMCAST_REDIS_TLS_KEY", key)? }))
}

fn listen(setting: &'static str, address: SocketAddr) -> Result<(TcpListener, SocketAddr), StartError> {
    let listener = http::listen(address).map_err(failed(setting, address))?;
    let actual = listener.local_addr().map_err(failed(setting, address))?;
    Ok((listener, actual))
}

fn failed(setting: &'static str, address: SocketAddr) -> impl Fn(io::Error) -> StartError {
    move |source| StartError::Listen { setting, address, source }
}

fn default_name(address: SocketAddr) -> String {
    format!("{}:{}", gethostname::gethostname().to_string_lossy(), address.port())
}
