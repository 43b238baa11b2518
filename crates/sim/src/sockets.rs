//! The UDP sockets of a node, and those that belong to whoever wrote the world.

use core::net::{IpAddr, SocketAddr};
use std::collections::BTreeMap;

use nilas_ice::{BindError, SocketId, Time};
use nilas_turn::server::RelayId;

use crate::world::{NodeId, World};

/// Whose a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum UdpOwner {
    /// The engine of a host.
    Engine(SocketId),
    /// Whoever wrote the world; a place in [`Sockets::open`].
    Application(usize),
    /// A server, which listens there.
    Listener,
    /// A relayed transport address of a TURN server.
    Relay(RelayId),
}

/// The first of the dynamic ports (RFC 6335): where a node takes the ports that nobody chose.
const FIRST_DYNAMIC_PORT: u16 = 49_152;

/// The UDP sockets of a node.
#[derive(Debug)]
pub(crate) struct Sockets {
    owners: BTreeMap<SocketAddr, UdpOwner>,
    next_port: u16,
    /// What reached the application's sockets, in the order of their opening.
    open: Vec<Vec<Received>>,
}

impl Sockets {
    pub(crate) const fn new() -> Self {
        Self {
            owners: BTreeMap::new(),
            next_port: FIRST_DYNAMIC_PORT,
            open: Vec::new(),
        }
    }

    /// Opens a socket, as an operating system would; port 0 is any. `own` are the addresses of the node.
    pub(crate) fn bind(
        &mut self,
        address: SocketAddr,
        own: impl IntoIterator<Item = IpAddr>,
        owner: UdpOwner,
    ) -> Result<SocketAddr, BindError> {
        if !own.into_iter().any(|ip| ip == address.ip()) {
            return Err(BindError::AddressNotAvailable);
        }
        let address = match address.port() {
            0 => SocketAddr::new(
                address.ip(),
                self.free_port(address.ip()).ok_or(BindError::Other)?,
            ),
            _ if self.is_taken(address) => return Err(BindError::AddressInUse),
            _ => address,
        };
        self.owners.insert(address, owner);
        Ok(address)
    }

    pub(crate) fn close(&mut self, address: SocketAddr) {
        self.owners.remove(&address);
    }

    pub(crate) fn is_taken(&self, address: SocketAddr) -> bool {
        self.owners.contains_key(&address)
    }

    pub(crate) fn owner(&self, address: SocketAddr) -> Option<UdpOwner> {
        self.owners.get(&address).copied()
    }

    pub(crate) fn receive(&mut self, place: usize, received: Received) {
        if let Some(socket) = self.open.get_mut(place) {
            socket.push(received);
        }
    }

    fn free_port(&mut self, ip: IpAddr) -> Option<u16> {
        for _ in FIRST_DYNAMIC_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_DYNAMIC_PORT);
            if !self.is_taken(SocketAddr::new(ip, port)) {
                return Some(port);
            }
        }
        None
    }
}

/// A UDP socket that belongs to whoever wrote the world, on any node: for what is no ICE agent, such as a client
/// of its own, a stranger who attacks, or a probe.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub struct UdpSocket {
    /// The node.
    pub node: NodeId,
    /// Its address there, before any NAT.
    pub address: SocketAddr,
    place: usize,
}

/// A datagram that reached an [`UdpSocket`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Received {
    /// When it came.
    pub at: Time,
    /// Where from, after all NATs.
    pub from: SocketAddr,
    /// Its bytes.
    pub payload: Vec<u8>,
}

impl Received {
    pub(crate) fn new(at: Time, from: SocketAddr, payload: &[u8]) -> Self {
        Self {
            at,
            from,
            payload: payload.to_vec(),
        }
    }
}

impl World {
    /// Opens a UDP socket on a node; port 0 is any.
    ///
    /// # Errors
    /// The node does not have the address, or its port is taken.
    pub fn bind_udp(&mut self, node: NodeId, address: SocketAddr) -> Result<UdpSocket, BindError> {
        let own = self.addresses_of(node);
        let sockets = &mut self.node_mut(node).sockets;
        let place = sockets.open.len();
        let address = sockets.bind(address, own, UdpOwner::Application(place))?;
        sockets.open.push(Vec::new());
        Ok(UdpSocket {
            node,
            address,
            place,
        })
    }

    /// Sends a datagram from a socket.
    pub fn send_udp(&mut self, from: UdpSocket, to: SocketAddr, payload: &[u8]) {
        self.send_datagram(from.node, from.address, to, payload);
    }

    /// What has reached a socket so far and was not taken yet.
    pub fn take_udp(&mut self, socket: UdpSocket) -> Vec<Received> {
        let open = &mut self.node_mut(socket.node).sockets.open;
        core::mem::take(&mut open[socket.place])
    }
}
