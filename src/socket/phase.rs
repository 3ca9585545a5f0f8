use crate::protocol::CloseCode;

/// The stages of an outbox on the way to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// It takes messages.
    Open,
    /// It still takes messages, and the session closes it with this code.
    Closing(CloseCode),
    /// It takes no more messages, and closes with this code.
    Ended(CloseCode),
    /// Nothing can be written any more.
    Lost,
}

impl Phase {
    /// The code with which the connection closes, if it does.
    pub(super) fn code(self) -> Option<CloseCode> {
        match self {
            Self::Closing(code) | Self::Ended(code) => Some(code),
            Self::Open | Self::Lost => None,
        }
    }

    pub(super) fn takes_messages(self) -> bool {
        matches!(self, Self::Open | Self::Closing(_))
    }

    /// Somebody asks for the end. The first code stands.
    #[must_use]
    pub(super) fn close(self, code: CloseCode) -> Self {
        if self == Self::Open { Self::Closing(code) } else { self }
    }

    /// The client was too slow; this overrides any other code.
    #[must_use]
    pub(super) fn overflow(self) -> Self {
        if self.takes_messages() { Self::Ended(CloseCode::SlowConsumer) } else { self }
    }

    /// The close frame follows.
    #[must_use]
    pub(super) fn finish(self) -> Self {
        if self == Self::Lost { self } else { Self::Ended(self.code().unwrap_or(CloseCode::Normal)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_code_stands_unless_the_outbox_overflows() {
        let closing = Phase::Open.close(CloseCode::ServiceRestart).close(CloseCode::Idle);
        assert_eq!(closing, Phase::Closing(CloseCode::ServiceRestart));
        assert!(closing.takes_messages() && !closing.finish().takes_messages());
        assert_eq!(closing.finish(), Phase::Ended(CloseCode::ServiceRestart));
        assert_eq!(closing.overflow(), Phase::Ended(CloseCode::SlowConsumer));
        assert_eq!(closing.overflow().close(CloseCode::Idle).finish(), Phase::Ended(CloseCode::SlowConsumer));
        assert_eq!(Phase::Open.finish(), Phase::Ended(CloseCode::Normal));
    }

    #[test]
    fn nothing_comes_after_the_loss() {
        assert_eq!(Phase::Lost.close(CloseCode::Idle).overflow().finish(), Phase::Lost);
        assert_eq!(Phase::Lost.code(), None);
    }
}
