//! What each part of a server needs of the settings. The parts own these types and know nothing of [`Config`].

use crate::{config::Config, protocol::Limits};

impl From<&Config> for Limits {
    fn from(config: &Config) -> Self {
        Self {
            room: config.max_room_length,
            username: config.max_username_length,
            id: config.max_id_length,
            text: config.max_text_bytes,
        }
    }
}
