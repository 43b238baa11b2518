//! Building a world: nodes and realms, and whether they make sense.

use core::net::{IpAddr, SocketAddr};

use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::error::WorldError;
use crate::host::Host;
use crate::link::Link;
use crate::sockets::{Sockets, UdpOwner};
use crate::stun_server::StunNode;
use crate::tcp::{self, Stack};
use crate::world::{Node, NodeId, NodeKind, Realm, World};

impl World {
    /// A host with one interface.
    ///
    /// # Panics
    /// As [`try_add_host`](Self::try_add_host) refuses.
    pub fn add_host(&mut self, realm: Realm, addresses: &[IpAddr], link: Link) -> NodeId {
        self.try_add_host(realm, addresses, link)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A host with one interface.
    ///
    /// # Errors
    /// An address is somebody else's already; the realm is of another world; a probability of the link is not
    /// between 0 and 1.
    pub fn try_add_host(
        &mut self,
        realm: Realm,
        addresses: &[IpAddr],
        link: Link,
    ) -> Result<NodeId, WorldError> {
        self.check_new(realm, addresses, link)?;
        let mut seed = [0; 32];
        self.random_of_next_node().fill_bytes(&mut seed);
        let host = Host::new(seed, self.recording.clone());
        let node = self.add_node(NodeKind::Host(Box::new(host)));
        self.try_add_interface(node, realm, addresses, link)?;
        Ok(node)
    }

    /// A realm that nothing leads out of: a network of its own, until a router is added.
    pub const fn add_realm(&mut self) -> Realm {
        self.next_realm += 1;
        Realm(self.next_realm - 1)
    }

    /// A STUN server that answers Binding requests over UDP and TCP.
    ///
    /// # Panics
    /// As [`try_add_stun_server`](Self::try_add_stun_server) refuses.
    pub fn add_stun_server(&mut self, realm: Realm, address: SocketAddr, link: Link) -> NodeId {
        self.try_add_stun_server(realm, address, link)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A STUN server that answers Binding requests over UDP and TCP.
    ///
    /// # Errors
    /// As [`try_add_host`](Self::try_add_host).
    pub fn try_add_stun_server(
        &mut self,
        realm: Realm,
        address: SocketAddr,
        link: Link,
    ) -> Result<NodeId, WorldError> {
        self.check_new(realm, &[address.ip()], link)?;
        let node = self.add_node(NodeKind::StunServer(StunNode::default()));
        self.attach(node, realm, &[address.ip()], link)?;
        self.listen_udp(node, address)?;
        self.listen_stream(node, address, false)?;
        Ok(node)
    }

    /// Whether every host has a way to somebody from each of its addresses, so that no test proves something about
    /// a network that nobody could use.
    ///
    /// # Errors
    /// The first host and address without.
    pub fn check(&self) -> Result<(), WorldError> {
        let hosts = self.nodes.iter().enumerate();
        for (number, node) in hosts.filter(|(_, n)| matches!(n.kind, NodeKind::Host(_))) {
            for attachment in &node.attachments {
                for address in &attachment.addresses {
                    let realm = attachment.realm;
                    let leads_out = realm == Realm::INTERNET
                        || self
                            .gateways
                            .get(&realm)
                            .is_some_and(|router| self.router(*router).passes(*address));
                    let is_alone = !self.routes.iter().any(|((other, ip), (owner, _))| {
                        *other == realm && owner.0 != number && ip.is_ipv4() == address.is_ipv4()
                    });
                    if !leads_out && is_alone {
                        return Err(WorldError::NoRoute {
                            node: NodeId(number),
                            address: *address,
                            realm,
                        });
                    }
                }
            }
        }
        Ok(())
    }

    /// A generator of its own for each node: what it draws changes nothing on the wires.
    pub(crate) fn random_of_next_node(&self) -> ChaCha8Rng {
        let mut stream = self.random.clone();
        stream.set_stream(self.nodes.len() as u64 + 1);
        stream.set_word_pos(0);
        stream
    }

    /// Whether a node can be added with these.
    pub(crate) fn check_new(
        &self,
        realm: Realm,
        addresses: &[IpAddr],
        link: Link,
    ) -> Result<(), WorldError> {
        let node = self.next_node();
        if addresses.is_empty() {
            return Err(WorldError::NoAddress { node });
        }
        self.check_addresses(node, realm, addresses)?;
        self.check_link(node, link)
    }

    pub(crate) const fn check_realm(&self, realm: Realm) -> Result<(), WorldError> {
        if realm.0 < self.next_realm {
            Ok(())
        } else {
            Err(WorldError::UnknownRealm { realm })
        }
    }

    /// The id of the node that is added next.
    pub(crate) const fn next_node(&self) -> NodeId {
        NodeId(self.nodes.len())
    }

    /// Lets a server listen.
    pub(crate) fn listen_udp(
        &mut self,
        node: NodeId,
        address: SocketAddr,
    ) -> Result<(), WorldError> {
        let own = self.addresses_of(node);
        let sockets = &mut self.node_mut(node).sockets;
        sockets
            .bind(address, own, UdpOwner::Listener)
            .map(|_| ())
            .map_err(|_| WorldError::PortTaken { node, address })
    }

    pub(crate) fn listen_stream(
        &mut self,
        node: NodeId,
        address: SocketAddr,
        secure: bool,
    ) -> Result<(), WorldError> {
        let stack = &mut self.node_mut(node).tcp;
        if stack.listen(address, tcp::Owner::Server, secure) {
            Ok(())
        } else {
            Err(WorldError::PortTaken { node, address })
        }
    }

    pub(crate) fn add_node(&mut self, kind: NodeKind) -> NodeId {
        self.nodes.push(Node {
            kind,
            attachments: Vec::new(),
            sockets: Sockets::new(),
            tcp: Stack::new(),
            up: true,
        });
        NodeId(self.nodes.len() - 1)
    }
}
