use std::time::SystemTime;

use super::{Grants, Rights};
use crate::protocol::{Right, RoomId, Username};

/// What a client has shown to be, and what it may do: what its token says, or what anybody may.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pass {
    /// Who it is; `None` for somebody without a token, who takes any name.
    pub user: Option<Username>,
    /// What it may do. Ask [`in_room`](Self::in_room) about rooms.
    pub grants: Grants,
    /// Rooms that the server joins for it.
    pub auto_join: Vec<RoomId>,
    /// When it ends.
    pub expires_at: Option<SystemTime>,
    /// By what its token can be revoked; `None` without a token.
    pub token: Option<TokenId>,
}

/// What a revocation can name of a token, beside its user.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenId {
    /// Its `jti`.
    pub id: Option<String>,
    /// Its `iat`.
    pub issued_at: Option<SystemTime>,
}

impl Pass {
    /// What somebody without a token has.
    pub fn anonymous(grants: Grants) -> Self {
        Self { grants, ..Self::default() }
    }

    /// Whether the server may join this room for its holder: any but a personal room of somebody else.
    pub(super) fn may_be_joined(&self, room: &RoomId) -> bool {
        !room.is_personal() || self.user.as_ref().and_then(personal_room).as_ref() == Some(room)
    }

    /// What it allows in this room.
    pub fn in_room(&self, room: &RoomId) -> Rights {
        let granted = self.grants.in_room(room);
        let added = if room.is_personal() {
            if self.may_be_joined(room) { Rights::OWNER } else { Rights::NONE }
        } else if self.auto_join.contains(room) {
            Rights::of(&[Right::Join])
        } else {
            Rights::NONE
        };
        granted.and(added)
    }
}

/// The personal room of this user: `@` and its name. What a room's name cannot have is written as `~` and two
/// hexadecimal digits for each byte. `None` if that is longer than any room's name.
pub fn personal_room(user: &Username) -> Option<RoomId> {
    let mut name = String::from("@");
    for byte in user.as_str().bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.:@".contains(&byte) {
            name.push(byte.into());
        } else {
            name.push_str(&format!("~{byte:02x}"));
        }
    }
    RoomId::parse(&name, RoomId::LONGEST).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(name: &str) -> Username {
        Username::parse(name, 64).unwrap()
    }

    #[test]
    fn everybody_has_a_personal_room_and_no_two_have_the_same() {
        for (name, room) in [
            ("ann", "@ann"),
            ("auth0|5f", "@auth0~7c5f"),
            ("a~7c", "@a~7e7c"),
            ("zoë k", "@zo~c3~ab~20k"),
            ("A:b", "@A:b"),
        ] {
            assert_eq!(personal_room(&user(name)).unwrap().as_str(), room);
        }
        assert_eq!(personal_room(&Username::parse(&"🌻".repeat(64), 64).unwrap()), None, "it would be too long");
    }

    #[test]
    fn only_its_owner_may_enter_a_personal_room() {
        let pass = |name| Pass { user: Some(user(name)), grants: Grants::open(), ..Pass::default() };
        let room = personal_room(&user("ann")).unwrap();
        let rights = pass("ann").in_room(&room);
        assert!(rights.has(Right::Join) && rights.has(Right::History) && !rights.has(Right::Send));
        assert_eq!(pass("bob").in_room(&room), Rights::NONE);
        assert_eq!(Pass::anonymous(Grants::open()).in_room(&room), Rights::NONE);
    }

    #[test]
    fn a_room_that_the_server_joins_may_be_joined_but_not_a_personal_one_of_another() {
        let rooms = ["news", "@bob"].map(|name| RoomId::parse(name, 128).unwrap());
        let pass = Pass { user: Some(user("ann")), auto_join: rooms.to_vec(), ..Pass::default() };
        assert_eq!(rooms.map(|room| pass.in_room(&room)), [Rights::of(&[Right::Join]), Rights::NONE]);
    }
}
