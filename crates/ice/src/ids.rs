//! Names for what the engine and its driver talk about.

use crate::arena::Key;

/// An agent of this engine. A stale id is an error value, never another agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub(crate) Key);

/// A session of several data streams or components. A stale id is an error value, never another session.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub(crate) Key);

/// A UDP socket, or one that listens for TCP connections. The driver chooses the number when it has bound one, below
/// 2^31, and uses each number once. Above are the engine's own: relayed transport addresses, which are sockets on a
/// TURN server, and the bases of active TCP candidates, which have no socket before they connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// A connection: to a TURN server over TCP, TLS or DTLS, or to the peer over TCP. The driver chooses the number when it has opened
/// one and uses each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamId(pub u32);

/// Ties the answer to a [`Command`](crate::Command) to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

impl SocketId {
    const VIRTUAL: u32 = 1 << 31;

    /// The engine's own socket with this number.
    pub(crate) const fn virtual_with(number: u32) -> Self {
        Self(number | Self::VIRTUAL)
    }

    /// Whether it is one of the engine's own.
    pub(crate) const fn is_virtual(self) -> bool {
        self.0 & Self::VIRTUAL != 0
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
