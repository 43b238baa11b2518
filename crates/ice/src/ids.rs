//! Names for what the engine and its driver talk about.

use crate::arena::Key;

/// An agent of this engine. A stale id is an error value, never another agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AgentId(pub(crate) Key);

/// A UDP socket. The driver chooses the number when it has bound one and uses each number once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SocketId(pub u32);

/// Ties the answer to a [`Command`](crate::Command) to the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(pub(crate) u64);

impl RequestId {
    /// The slot of the agent that asked.
    pub(crate) const fn slot(self) -> u32 {
        (self.0 >> 32) as u32
    }
}
