//! Ports that the network's gateway forwards to sockets: the NAT-assisted candidates of RFC 6544 section 5.3.
//!
//! How a gateway is asked, by PCP, NAT-PMP or UPnP, is the outside's business. What it forwards belongs to the socket, and
//! so to all agents that have it: the outside is asked once for each socket, and answers again whenever it changes.

use std::collections::{BTreeMap, BTreeSet};

use core::net::SocketAddr;

use crate::ids::{AgentId, SocketId};
use crate::io::PortMappingError;

/// What the gateway said of a socket last; `None` while it is being asked for the first time.
pub(crate) type Mapped = Option<Result<SocketAddr, PortMappingError>>;

#[derive(Debug, Default)]
pub(crate) struct PortMappings {
    of: BTreeMap<SocketId, PortMapping>,
}

#[derive(Debug, Default)]
struct PortMapping {
    mapped: Mapped,
    /// Who is told of it.
    agents: BTreeSet<AgentId>,
}

impl PortMappings {
    /// An agent wants a port forwarded to a socket. What is known of it, and whether the outside is to be asked.
    pub(crate) fn want(&mut self, socket: SocketId, agent: AgentId) -> (Mapped, bool) {
        let is_new = !self.of.contains_key(&socket);
        let known = self.of.entry(socket).or_default();
        known.agents.insert(agent);
        (known.mapped, is_new)
    }

    /// The outside has answered, perhaps not for the first time: who is told of it.
    pub(crate) fn answered(
        &mut self,
        socket: SocketId,
        result: Result<SocketAddr, PortMappingError>,
    ) -> Vec<AgentId> {
        let Some(known) = self.of.get_mut(&socket) else {
            return Vec::new();
        };
        if known.mapped.replace(result) == Some(result) {
            return Vec::new();
        }
        known.agents.iter().copied().collect()
    }

    pub(crate) fn is_awaited(&self, socket: SocketId) -> bool {
        let known = self.of.get(&socket);
        known.is_some_and(|known| known.mapped.is_none())
    }

    /// An agent wants it no more. Whether nobody does.
    pub(crate) fn leave(&mut self, socket: SocketId, agent: AgentId) -> bool {
        let Some(known) = self.of.get_mut(&socket) else {
            return false;
        };
        known.agents.remove(&agent);
        let is_last = known.agents.is_empty();
        if is_last {
            self.of.remove(&socket);
        }
        is_last
    }
}
