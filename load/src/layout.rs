/// Where each client goes: a run spreads its clients evenly over rooms, and those of each room over the URLs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Layout {
    pub(super) clients: usize,
    pub(super) rooms: usize,
    pub(super) urls: usize,
    /// How many clients publish: the first ones.
    pub(super) publishers: usize,
}

impl Layout {
    /// The room of a client.
    pub(super) fn room(&self, client: usize) -> usize {
        client % self.rooms
    }

    /// The URL that a client connects to.
    pub(super) fn url(&self, client: usize) -> usize {
        // Each room starts at a different URL, so that small rooms do not all start at the first one.
        (client / self.rooms + client % self.rooms) % self.urls
    }

    /// A number for each message of a room: unique, with few gaps.
    pub(super) fn message(&self, publisher: usize, count: u32) -> u32 {
        let (room, place) = (self.room(publisher), publisher / self.rooms);
        count.wrapping_mul(self.publishers_in(room) as u32).wrapping_add(place as u32)
    }

    /// The publisher of a message, as its index in the room, and the publisher's count.
    pub(super) fn origin(&self, room: usize, message: u32) -> (usize, u32) {
        let publishers = self.publishers_in(room).max(1) as u32;
        ((message % publishers) as usize, message / publishers)
    }

    /// How many publish to a room.
    pub(super) fn publishers_in(&self, room: usize) -> usize {
        self.publishers.saturating_sub(room).div_ceil(self.rooms)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;

    #[test]
    fn clients_are_even_over_rooms_and_rooms_over_urls() {
        for (clients, rooms, urls) in [(1000, 10, 2), (2000, 1000, 2), (10, 10, 2), (12, 1, 3), (7, 3, 2)] {
            let layout = Layout { clients, rooms, urls, publishers: clients };
            let mut members: BTreeMap<(usize, usize), usize> = BTreeMap::new();
            (0..clients).for_each(|client| *members.entry((layout.room(client), layout.url(client))).or_default() += 1);
            for room in 0..rooms {
                let of_room: Vec<usize> = (0..urls).map(|url| *members.get(&(room, url)).unwrap_or(&0)).collect();
                let (least, most) = (of_room.iter().min().unwrap(), of_room.iter().max().unwrap());
                assert!(most - least <= 1, "{clients} clients, {rooms} rooms: {of_room:?}");
            }
        }
    }

    #[test]
    fn each_message_of_a_room_has_a_number_of_its_own() {
        let layout = Layout { clients: 20, rooms: 3, urls: 2, publishers: 8 };
        for room in 0..3 {
            let publishers: Vec<usize> = (0..8).filter(|publisher| layout.room(*publisher) == room).collect();
            assert_eq!(publishers.len(), layout.publishers_in(room));
            let mut numbers = BTreeSet::new();
            for (place, publisher) in publishers.into_iter().enumerate() {
                for count in 0..5 {
                    let number = layout.message(publisher, count);
                    assert!(numbers.insert(number));
                    assert_eq!(layout.origin(room, number), (place, count));
                }
            }
            assert_eq!(numbers.last().map(|last| *last as usize + 1), Some(numbers.len()), "there are no gaps");
        }
    }
}
