//! Deadlines, in one ordered list: what has none costs nothing.

use std::collections::BTreeSet;

use super::io::{ConnectionId, StreamId};
use crate::arena::Key;
use crate::time::Time;

/// What happens at a deadline.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Timer {
    /// A relayed transport address is not refreshed.
    Relay(Key),
    /// A stream has no allocation.
    Stream(StreamId),
    /// A connection to a peer was not made or not bound.
    Connection(ConnectionId),
    /// A reserved port was not asked for.
    Reservation([u8; 8]),
}

/// Whoever sets a deadline remembers it, and takes it back with it.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeSet<(Time, Timer)>);

impl Timers {
    pub(super) fn set(&mut self, at: Time, timer: Timer) {
        self.0.insert((at, timer));
    }

    pub(super) fn cancel(&mut self, at: Time, timer: Timer) {
        self.0.remove(&(at, timer));
    }

    /// The next that is due.
    pub(super) fn pop(&mut self, now: Time) -> Option<Timer> {
        let (at, _) = self.0.first()?;
        if *at > now {
            return None;
        }
        self.0.pop_first().map(|(_, timer)| timer)
    }

    pub(super) fn next(&self) -> Option<Time> {
        self.0.first().map(|(at, _)| *at)
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }
}
