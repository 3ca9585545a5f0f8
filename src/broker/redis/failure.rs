use std::{error::Error, io, sync::Arc, time::Duration};

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::super::{Cause, Unavailable};

/// Why a command has no usable answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no connection to Redis")]
    NoConnection,
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Redis gave an unexpected answer.
    #[error("{0}")]
    Unfit(String),
    /// The address leads to a Redis Cluster.
    #[error("this is a Redis Cluster, which roomcast cannot use")]
    Cluster,
}

impl Failure {
    /// Whether the connection is broken, or leads to a server that cannot do its job. Other failures concern one
    /// command: a key of the wrong type, an unusable answer, a Redis without free memory.
    pub(super) fn condemns_connection(&self) -> bool {
        let Self::Redis(error) = self else { return matches!(self, Self::Late(_)) };
        match error.kind() {
            ErrorKind::Server(kind) => {
                matches!(kind, ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading)
            }
            // The bytes were valid RESP; they just do not answer this command.
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => false,
            _ => error.is_io_error() || error.is_unrecoverable_error(),
        }
    }

    /// Whether Redis was there and refused, or gave no usable answer.
    pub(super) fn is_refusal(&self) -> bool {
        match self {
            Self::NoConnection | Self::Late(_) => false,
            Self::Redis(_) | Self::Unfit(_) | Self::Cluster => !self.condemns_connection(),
        }
    }

    /// What kind of failure it is, for operators.
    pub(super) fn cause(&self) -> Cause {
        let error = match self {
            Self::NoConnection => return Cause::Closed,
            Self::Late(_) => return Cause::Timeout,
            Self::Unfit(_) => return Cause::Other,
            Self::Cluster => return Cause::Cluster,
            Self::Redis(error) => error,
        };
        match error.code() {
            Some("NOAUTH" | "WRONGPASS") => return Cause::Password,
            Some("NOPERM") => return Cause::Acl,
            Some("READONLY") => return Cause::Replica,
            Some("LOADING" | "MISCONF") => return Cause::Disk,
            Some("OOM") => return Cause::Full,
            _ => {}
        }
        let text = error.to_string();
        if error.kind() == ErrorKind::AuthenticationFailed {
            Cause::Password
        } else if error.is_timeout() {
            Cause::Timeout
        } else if is_of_tls(error) || text.contains("tls handshake") {
            Cause::Tls
        } else if error.is_connection_refusal() {
            Cause::Refused
        } else if text.contains("lookup address") || text.contains("resolve") {
            // The standard library has no kind for it.
            Cause::Dns
        } else if error.is_io_error() {
            Cause::Closed
        } else {
            Cause::Other
        }
    }
}

/// Whether a failure of TLS is at its root.
fn is_of_tls(error: &(dyn Error + 'static)) -> bool {
    let mut next = Some(error);
    while let Some(error) = next {
        // The redis crate shares what it wraps.
        let error = error.downcast_ref::<Arc<dyn Error + Send + Sync>>().map_or(error, |shared| &**shared);
        let within = error.downcast_ref::<io::Error>().and_then(io::Error::get_ref);
        if error.is::<rustls::Error>() || within.is_some_and(|inner| inner.is::<rustls::Error>()) {
            return true;
        }
        next = error.source();
    }
    false
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}
