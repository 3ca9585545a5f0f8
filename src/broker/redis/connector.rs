use std::time::Duration;

use deadpool_redis::{Manager, Pool, Runtime};
use redis::{
    AsyncConnectionConfig, Client, ClientTlsConfig, ConnectionInfo, IntoConnectionInfo, ProtocolVersion, PushInfo,
    RedisError, TlsCertificates, aio::MultiplexedConnection,
};
use tokio::time::timeout;

use super::{
    failure::Failure,
    options::{ClientCertificate, Options},
};

/// Makes every connection to one Redis, all from the same settings.
#[derive(Debug)]
pub(super) struct Connector {
    info: ConnectionInfo,
    connect_timeout: Duration,
    command_timeout: Duration,
}

impl Connector {
    /// Connects to nothing yet.
    ///
    /// # Errors
    /// If the URL is not a Redis URL.
    pub(super) fn new(options: &Options) -> Result<Self, RedisError> {
        // This is for `rediss://`. If another part of the process has installed a provider before, that one stays.
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let info = options.url.as_str().into_connection_info()?;
        let tcp = info.tcp_settings().clone().set_nodelay(true);
        // Only RESP3 has pushes between answers.
        let mut settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
        if let Some(password) = &options.password {
            settings = settings.set_password(password);
        }
        let info = info.set_tcp_settings(tcp).set_redis_settings(settings);
        // This finds other mistakes in the URL, and in the certificate, at the start.
        let client = match options.client_certificate.clone() {
            None => Client::open(info)?,
            Some(ClientCertificate { certificate: client_cert, key: client_key }) => {
                let client_tls = Some(ClientTlsConfig { client_cert, client_key });
                Client::build_with_tls(info, TlsCertificates { client_tls, root_cert: None })?
            }
        };
        let info = client.get_connection_info().clone();
        Ok(Self { info, connect_timeout: options.connect_timeout, command_timeout: options.command_timeout })
    }

    /// Host and port, or the path of a socket. Never a password.
    pub(super) fn address(&self) -> String {
        self.info.addr().to_string()
    }

    /// Longest time for one command.
    pub(super) fn command_timeout(&self) -> Duration {
        self.command_timeout
    }

    /// Makes one connection that many callers share. The task that reads it hands what Redis pushes, and its end, to
    /// `pushed` at once.
    ///
    /// # Errors
    /// If that fails or exceeds the connect timeout.
    pub(super) async fn connect<E>(
        &self,
        pushed: impl Fn(PushInfo) -> Result<(), E> + Send + Sync + 'static,
    ) -> Result<MultiplexedConnection, Failure> {
        let config = self.config().set_push_sender(pushed);
        let client = Client::open(self.info.clone())?;
        let connecting = client.get_multiplexed_async_connection_with_config(&config);
        Ok(timeout(self.connect_timeout, connecting).await.map_err(|_| Failure::Late(self.connect_timeout))??)
    }

    /// A pool of connections, each for one caller at a time. It makes them when needed, and replaces broken ones.
    ///
    /// # Errors
    /// If the URL is not a Redis URL.
    pub(super) fn pool(&self, size: usize) -> Result<Pool, RedisError> {
        let manager = Manager::new_with_config(self.info.clone(), self.config())?;
        let pool = Pool::builder(manager)
            .max_size(size)
            .wait_timeout(Some(self.command_timeout))
            .create_timeout(Some(self.connect_timeout))
            .recycle_timeout(Some(self.command_timeout))
            .runtime(Runtime::Tokio1)
            .build();
        Ok(pool.expect("a runtime is given, which is all that the timeouts need"))
    }

    fn config(&self) -> AsyncConnectionConfig {
        // Each caller has its own deadline.
        AsyncConnectionConfig::new().set_connection_timeout(Some(self.connect_timeout)).set_response_timeout(None)
    }
}
