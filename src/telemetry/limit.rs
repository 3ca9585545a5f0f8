/// A limit that kept a client from going on, for the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
#[allow(missing_docs, reason = "each is named as its setting")]
pub enum Limit {
    ConnectionsPerAddress,
    ConnectionsPerUser,
    UpgradesPerAddress,
    FramesPerConnection,
    MessagesPerConnection,
    MessagesPerUser,
    MessagesPerAddress,
    BytesPerConnection,
    BytesPerUser,
    BytesPerAddress,
    BytesPerRoom,
    HistoriesPerConnection,
    SignalsPerConnection,
    NewRooms,
    Broadcasts,
    Measures,
}

impl Limit {
    /// Every limit there is.
    pub const ALL: [Self; 16] = [
        Self::ConnectionsPerAddress,
        Self::ConnectionsPerUser,
        Self::UpgradesPerAddress,
        Self::FramesPerConnection,
        Self::MessagesPerConnection,
        Self::MessagesPerUser,
        Self::MessagesPerAddress,
        Self::BytesPerConnection,
        Self::BytesPerUser,
        Self::BytesPerAddress,
        Self::BytesPerRoom,
        Self::HistoriesPerConnection,
        Self::SignalsPerConnection,
        Self::NewRooms,
        Self::Broadcasts,
        Self::Measures,
    ];

    /// Its name in metrics and errors.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionsPerAddress => "connections_per_address",
            Self::ConnectionsPerUser => "connections_per_user",
            Self::UpgradesPerAddress => "upgrades_per_address",
            Self::FramesPerConnection => "frames_per_connection",
            Self::MessagesPerConnection => "messages_per_connection",
            Self::MessagesPerUser => "messages_per_user",
            Self::MessagesPerAddress => "messages_per_address",
            Self::BytesPerConnection => "bytes_per_connection",
            Self::BytesPerUser => "bytes_per_user",
            Self::BytesPerAddress => "bytes_per_address",
            Self::BytesPerRoom => "bytes_per_room",
            Self::HistoriesPerConnection => "histories_per_connection",
            Self::SignalsPerConnection => "signals_per_connection",
            Self::NewRooms => "new_rooms",
            Self::Broadcasts => "broadcasts",
            Self::Measures => "measures",
        }
    }
}
