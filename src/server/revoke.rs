use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{StartError, broker, options};
use crate::{
    access::Sanction,
    broker::Unavailable,
    config::Config,
    hub::Hub,
    telemetry::{Metrics, trace::Tracer},
};

/// How long to wait for Redis.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why nothing was revoked.
#[derive(Debug, thiserror::Error)]
pub enum RevokeError {
    /// There is no Redis in the settings.
    #[error("set ROOMCAST_REDIS_URL as for the servers: what is revoked is kept there")]
    NoRedis,
    /// A setting cannot be used.
    #[error(transparent)]
    Start(#[from] StartError),
    /// Redis did not take it.
    #[error(transparent)]
    Unavailable(#[from] Unavailable),
}

/// Revokes tokens on all servers that share this Redis, for as long as such tokens could be good.
///
/// # Errors
/// If Redis does not take it within 10 s. It may hold all the same; trying again is safe.
pub async fn revoke(config: &Config, sanction: &Sanction, now: SystemTime) -> Result<(), RevokeError> {
    let metrics = Arc::new(Metrics::new());
    // A name that no server has, as two of one name would not hear each other.
    let name = format!("revoke-{:016x}", rand::random::<u64>());
    let broker = broker(config, &name, &metrics)?;
    if broker.kind() == "memory" {
        return Err(RevokeError::NoRedis);
    }
    let hub = Arc::new(Hub::new(&name, broker, config.into(), Tracer::new(None, "none"), metrics));
    let revoking = async {
        let ready = async {
            while !hub.troubles().is_empty() {
                sleep(Duration::from_millis(10)).await;
            }
        };
        let why = |hub: &Hub| hub.diagnosis().map_or("Redis does not answer".to_owned(), |found| found.error);
        timeout(PATIENCE, ready).await.map_err(|_| Unavailable(why(&hub)))?;
        let until = options::revocations_last(config).map(|time| now + time);
        hub.impose(sanction, until).await
    };
    let revoked = tokio::select! {
        revoked = revoking => revoked,
        () = hub.clone().run(CancellationToken::new()) => Err(Unavailable("the hub ended by itself".to_owned())),
    };
    Ok(revoked?)
}
