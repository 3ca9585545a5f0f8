use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::super::Unavailable;

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
            Self::Redis(_) | Self::Unfit(_) => !self.condemns_connection(),
        }
    }
}

impl From<Failure> for Unavailable {
    fn from(failure: Failure) -> Self {
        Self(failure.to_string())
    }
}
