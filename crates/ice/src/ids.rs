//! Names for what the engine and its driver talk about.

use crate::arena::Key;

/// An agent of this engine. A stale id is an error value, never another agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub(crate) Key);

/// A UDP socket. The driver chooses the number when it has bound one, below 2^31, and uses each number
/// once. Above are the engine's own: relayed transport addresses, which are sockets on a TURN server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// A connection to a TURN server over TCP, TLS or DTLS. The driver chooses the number when it has opened
/// one and uses each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Ties the answer to a [`Command`](crate::Command) to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

impl SocketId {
    const RELAY: u32 = 1 << 31;

    /// The relayed transport address with this number.
    pub(crate) const fn relay(number: u32) -> Self {
        Self(number | Self::RELAY)
    }

    /// Whether it is a relayed transport address.
    pub(crate) const fn is_relay(self) -> bool {
        self.0 & Self::RELAY != 0
    }
}

impl RequestId {
    /// A request of the engine itself: of a slot that no agent can have.
    pub(crate) const fn of_engine(number: u32) -> Self {
        Self((u32::MAX as u64) << 32 | number as u64)
    }

    /// The slot of the agent that asked.
    pub(crate) const fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }
}
