//! What each pair has carried, where the data has been on several.
//!
//! Data is counted for the session: by whoever sends, and by the remotes that it comes from. It is shown on the pair that
//! is selected when it goes or comes; a datagram that comes by another pair, since the peer has not moved yet, is that
//! one's, too.

use super::pair::PairId;
use super::{Agent, Received};
use crate::shared::Shared;
use nilas_turn::Time;

/// Application data of a session or of a pair.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Traffic {
    pub(super) packets_sent: u64,
    pub(super) bytes_sent: u64,
    pub(super) packets_received: u64,
    pub(super) bytes_received: u64,
    pub(super) packets_discarded: u64,
    pub(super) bytes_discarded: u64,
    /// [`Time::ZERO`] if never, like the next.
    pub(super) last_sent: Time,
    pub(super) last_received: Time,
}

/// Nothing of this is there before data has moved from one pair to another.
#[derive(Debug, Default)]
pub(super) struct Carried {
    /// What the session had carried when the data last moved.
    base: Traffic,
    /// What pairs carried until then, with the numbers of their generations.
    pairs: Vec<(u32, PairId, Traffic)>,
}

impl Traffic {
    fn is_none(&self) -> bool {
        let packets = self.packets_sent | self.packets_received | self.packets_discarded;
        packets == 0
    }

    /// What came after `before`.
    fn since(self, before: Self) -> Self {
        let later = |time: Time, before: Time| if time > before { time } else { Time::ZERO };
        Self {
            packets_sent: self.packets_sent.saturating_sub(before.packets_sent),
            bytes_sent: self.bytes_sent.saturating_sub(before.bytes_sent),
            packets_received: self
                .packets_received
                .saturating_sub(before.packets_received),
            bytes_received: self.bytes_received.saturating_sub(before.bytes_received),
            packets_discarded: self
                .packets_discarded
                .saturating_sub(before.packets_discarded),
            bytes_discarded: self.bytes_discarded.saturating_sub(before.bytes_discarded),
            last_sent: later(self.last_sent, before.last_sent),
            last_received: later(self.last_received, before.last_received),
        }
    }

    fn and(self, more: Self) -> Self {
        Self {
            packets_sent: self.packets_sent + more.packets_sent,
            bytes_sent: self.bytes_sent + more.bytes_sent,
            packets_received: self.packets_received + more.packets_received,
            bytes_received: self.bytes_received + more.bytes_received,
            packets_discarded: self.packets_discarded + more.packets_discarded,
            bytes_discarded: self.bytes_discarded + more.bytes_discarded,
            last_sent: self.last_sent.max(more.last_sent),
            last_received: self.last_received.max(more.last_received),
        }
    }
}

impl Agent {
    /// What the session has carried.
    pub(super) fn traffic(&self, received: Received) -> Traffic {
        Traffic {
            packets_sent: self.path.packets_sent(),
            bytes_sent: self.path.bytes_sent(),
            packets_received: received.packets,
            bytes_received: received.bytes,
            packets_discarded: self.path.packets_discarded(),
            bytes_discarded: self.path.bytes_discarded(),
            last_sent: self.path.last_sent(),
            last_received: received.last,
        }
    }

    /// What a pair has carried, of `all` that the session has.
    pub(super) fn traffic_of(&self, generation: u32, id: PairId, all: Traffic) -> Traffic {
        let now = (self.carrying_pair() == Some((generation, id))).then_some(all);
        let Some(carried) = &self.carried else {
            return now.unwrap_or_default();
        };
        let is_it = |known: &&(u32, PairId, Traffic)| (known.0, known.1) == (generation, id);
        let before = carried.pairs.iter().find(is_it);
        let now = now.map_or_else(Traffic::default, |all| all.since(carried.base));
        before.map_or(now, |(_, _, before)| before.and(now))
    }

    /// The data is about to leave the pair that carries it, or that pair is about to be forgotten: what it has carried is
    /// no other pair's.
    pub(super) fn leave_path(&mut self, shared: &Shared) {
        let Some((generation, id)) = self.carrying_pair() else {
            return;
        };
        let all = self.traffic(self.received(shared));
        let base = self.carried.as_ref().map(|carried| carried.base);
        if all.since(base.unwrap_or_default()).is_none() {
            return;
        }
        let own = self.traffic_of(generation, id, all);
        let mut carried = self.carried.take().unwrap_or_default();
        carried.base = all;
        carried.pairs.retain(|(number, other, _)| {
            let known = self.generation(*number);
            let is_there = known.is_some_and(|known| known.pairs.get(*other).is_some());
            is_there && (*number, *other) != (generation, id)
        });
        carried.pairs.push((generation, id, own));
        self.carried = Some(carried);
    }

    /// The pair that carries the data, and the number of its generation.
    fn carrying_pair(&self) -> Option<(u32, PairId)> {
        let generation = self.carrier()?;
        Some((generation.number, generation.selected?))
    }
}
