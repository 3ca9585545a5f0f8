use std::time::Duration;

use redis::{ErrorKind, RedisError, ServerErrorKind};

use super::super::Unavailable;

/// Why a command has no answer, or none that is of use.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("no connection to Redis")]
    NoConnection,
    #[error("no answer within {0:?}")]
    Late(Duration),
    #[error(transparent)]
    Redis(#[from] RedisError),
    /// Redis answered, and not as it should.
    #[error("{0}")]
    Unfit(String),
}

impl Failure {
    /// Whether the connection is broken, or leads to a server that cannot do its job. Anything else is about the one
    /// command, such as a key of the wrong type, an answer that is of no use, or a Redis whose memory is full.
    pub(super) fn condemns_connection(&self) -> bool {
        let Self::Redis(error) = self else { return matches!(self, Self::Late(_)) };
        match error.kind() {
            ErrorKind::Server(kind) => {
                matches!(kind, ServerErrorKind::ReadOnly | ServerErrorKind::MasterDown | ServerErrorKind::BusyLoading)
            }
            // The bytes were read well, or nothing would have come of them; what they say is no answer to this.
            ErrorKind::Parse | ErrorKind::UnexpectedReturnType => false,
            _ => error.is_io_error() || error.is_unrecoverable_error(),
        }
    }

    /// Whether Redis was there and said no, or something that is no answer.
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
