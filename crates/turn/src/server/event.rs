//! What the server tells its operator.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use super::io::AllocationId;

/// Something worth a line in a log. Names a user; holds no password and no key.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// An allocation was made.
    AllocationMade {
        /// Which.
        allocation: AllocationId,
        /// The user it is charged to.
        user: Arc<str>,
        /// The client.
        client: SocketAddr,
        /// The relayed transport addresses, the IPv4 one first.
        relayed: [Option<SocketAddr>; 2],
    },
    /// A client went on from another address (RFC 8016).
    AllocationMoved {
        /// Which.
        allocation: AllocationId,
        /// The client's address now.
        client: SocketAddr,
    },
    /// An allocation is gone, with its permissions, channels and connections.
    AllocationEnded {
        /// Which.
        allocation: AllocationId,
        /// The user it was charged to.
        user: Arc<str>,
        /// Why.
        reason: EndReason,
        /// How long it existed.
        age: Duration,
        /// What passed through it.
        traffic: Traffic,
    },
}

/// What passed through an allocation.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes of application data from the client.
    pub bytes_from_client: u64,
    /// Datagrams from the client.
    pub packets_from_client: u64,
    /// Bytes of application data from peers.
    pub bytes_from_peers: u64,
    /// Datagrams from peers.
    pub packets_from_peers: u64,
}

/// Why an allocation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndReason {
    /// It was not refreshed in time.
    Expired,
    /// The client asked for a lifetime of zero.
    Released,
    /// The client's stream was closed.
    PathClosed,
    /// The user is not in the configuration any more.
    UserRemoved,
}
