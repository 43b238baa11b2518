//! A packet's way: up the sender's wire, through realms and routers, down to a socket.

use core::net::SocketAddr;
use core::time::Duration;
use std::sync::Arc;

use nilas_ice::{Application, Handled, Input, SocketId};

use crate::interfaces::Attachment;
use crate::packet::{Flow, Packet};
use crate::sockets::{Received, UdpOwner};
use crate::stun_server;
use crate::trace::{Fate, TracedPacket};
use crate::world::{Happening, NodeId, NodeKind, Realm, World};

impl World {
    /// Lets a node send a datagram, past its engine. The source may be forged: it leaves through the
    /// node's interface that has this address, or else through its first.
    pub fn inject(
        &mut self,
        node: NodeId,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) {
        let interface = self.interface_with(node, source).unwrap_or(0);
        let packet = self.begin(node, Flow::Udp, source, destination, payload);
        self.climb(node, interface, packet);
    }

    /// Sends what a UDP socket of a node sends. Whether the node has the socket's address still.
    pub(crate) fn send_datagram(
        &mut self,
        node: NodeId,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) -> bool {
        self.send_packet(node, Flow::Udp, source, destination, payload)
    }

    pub(crate) fn send_packet(
        &mut self,
        node: NodeId,
        flow: Flow,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) -> bool {
        let own = self.interface_with(node, source);
        let packet = self.begin(node, flow, source, destination, payload);
        match own {
            Some(interface) => self.climb(node, interface, packet),
            None => self.trace.settle(packet.number, Some(node), Fate::NoRoute),
        }
        own.is_some()
    }

    fn interface_with(&self, node: NodeId, source: SocketAddr) -> Option<usize> {
        let mut attachments = self.node(node).attachments.iter();
        attachments.position(|a| a.addresses.contains(&source.ip()))
    }

    fn begin(
        &mut self,
        sender: NodeId,
        flow: Flow,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) -> Packet {
        let (sent, payload) = (self.now(), Arc::<[u8]>::from(payload));
        let number = self.trace.add(TracedPacket {
            sent,
            sender,
            source,
            destination,
            flow,
            payload: Arc::clone(&payload),
            copy_of: None,
            place: None,
            fate: Fate::UnderWay,
        });
        Packet {
            number,
            flow,
            source,
            destination,
            payload,
        }
    }

    /// From an interface into its realm.
    pub(crate) fn climb(&mut self, node: NodeId, interface: usize, packet: Packet) {
        let now = self.now();
        let from = &mut self.nodes[node.0];
        if !from.up {
            return self.trace.settle(packet.number, Some(node), Fate::NodeDown);
        }
        let attachment = &mut from.attachments[interface];
        let realm = attachment.realm;
        let delays = attachment.link.up.carry(
            &mut attachment.up_state,
            now,
            packet.ip_bytes(),
            &mut self.random,
        );
        self.spread(node, delays, packet, |packet| Happening::EntersRealm {
            realm,
            sender: node,
            packet,
        });
    }

    /// From a realm down to an interface.
    fn descend(&mut self, node: NodeId, interface: usize, packet: Packet) {
        let now = self.now();
        let attachment = &mut self.nodes[node.0].attachments[interface];
        let delays = attachment.link.down.carry(
            &mut attachment.down_state,
            now,
            packet.ip_bytes(),
            &mut self.random,
        );
        self.spread(node, delays, packet, |packet| Happening::Reaches {
            node,
            packet,
        });
    }

    /// Climbed into a realm, by a wire of this node: multicast stays there.
    pub(crate) fn arrive_in_realm(&mut self, realm: Realm, sender: NodeId, packet: Packet) {
        if packet.destination.ip().is_multicast() {
            self.spread_on_link(realm, sender, packet);
        } else {
            self.enter_realm(realm, packet);
        }
    }

    /// Arrived in a realm: to the interface with the destination's address, to the router of its network, or out
    /// through the gateway.
    pub(crate) fn enter_realm(&mut self, realm: Realm, packet: Packet) {
        let destination = packet.destination.ip();
        if let Some((node, interface)) = self.routes.get(&(realm, destination)).copied() {
            return self.descend(node, interface, packet);
        }
        let routed = self
            .prefixes
            .iter()
            .filter(|(in_realm, prefix, _)| *in_realm == realm && prefix.contains(&destination))
            .max_by_key(|(_, prefix, _)| prefix.prefix_len());
        if let Some((_, _, router)) = routed {
            return self.descend(*router, 0, packet);
        }
        match self.gateways.get(&realm).copied() {
            Some(router) => self.leave_realm(router, packet),
            None => self.trace.settle(packet.number, None, Fate::NoRoute),
        }
    }

    /// A packet to a multicast address goes to every other interface of the realm.
    fn spread_on_link(&mut self, realm: Realm, sender: NodeId, packet: Packet) {
        let mut others: Vec<(NodeId, usize)> = self
            .routes
            .range((realm, core::net::Ipv4Addr::UNSPECIFIED.into())..)
            .take_while(|((in_realm, _), _)| *in_realm == realm)
            .map(|(_, place)| *place)
            .filter(|(node, _)| *node != sender)
            .collect();
        others.sort_unstable();
        others.dedup();
        let Some((last, others)) = others.split_last() else {
            return self.trace.settle(packet.number, None, Fate::NoRoute);
        };
        for (node, interface) in others {
            let copy = Packet {
                number: self.trace.copy(packet.number),
                ..packet.clone()
            };
            self.descend(*node, *interface, copy);
        }
        self.descend(last.0, last.1, packet);
    }

    /// Arrived at a node.
    pub(crate) fn reach(&mut self, node: NodeId, packet: Packet) {
        let now = self.now();
        let Packet {
            number,
            source,
            destination,
            ..
        } = packet;
        let to = self.node(node);
        if !to.up {
            return self.trace.settle(number, Some(node), Fate::NodeDown);
        }
        if let NodeKind::Router(_) = to.kind {
            if destination.ip().is_multicast() {
                // RFC 6762 and its like: what is for a link stays on it.
                return self.trace.settle(number, Some(node), Fate::NoSocket);
            }
            return self.enter_inside(node, packet);
        }
        if packet.flow.is_tcp() {
            return self.reach_tcp(node, &packet);
        }
        let fate = Fate::Delivered {
            at: now,
            node,
            source,
        };
        let owner = if destination.ip().is_multicast() {
            let joined = |a: &Attachment| {
                let mut sockets = a.addresses.iter().map(|ip| {
                    (ip.is_ipv4() == destination.is_ipv4())
                        .then(|| to.sockets.owner(SocketAddr::new(*ip, destination.port())))
                        .flatten()
                });
                sockets.find_map(|owner| owner)
            };
            to.attachments.iter().find_map(joined)
        } else {
            to.sockets.owner(destination)
        };
        let Some(owner) = owner else {
            return self.trace.settle(number, Some(node), Fate::NoSocket);
        };
        self.trace.settle(number, Some(node), fate);
        let payload = &packet.payload;
        match owner {
            UdpOwner::Engine(socket) => self.give_to_engine(node, socket, source, payload),
            UdpOwner::Application(place) => {
                let received = Received::new(now, source, payload);
                self.node_mut(node).sockets.receive(place, received);
            }
            UdpOwner::Relay(relay) => self.turn_peer_datagram(node, relay, source, payload),
            UdpOwner::Listener => match &self.node(node).kind {
                NodeKind::TurnServer(_) => self.turn_datagram(node, destination, source, payload),
                _ => {
                    if let Some(answer) = stun_server::answer(payload, source) {
                        self.send_datagram(node, destination, source, &answer);
                    }
                }
            },
        }
    }

    fn give_to_engine(
        &mut self,
        node: NodeId,
        socket: SocketId,
        remote: SocketAddr,
        payload: &[u8],
    ) {
        let now = self.now();
        let host = self.host_mut(node);
        let input = Input::Datagram {
            socket,
            remote,
            payload,
        };
        match host.engine.handle(now, input) {
            Handled::Consumed | Handled::Stream { .. } => {}
            Handled::NotOurs => host.not_ours += 1,
            Handled::Application(Application { agent, range, .. }) => {
                if let Some(record) = host.records.get_mut(&agent) {
                    record.received.push((now, payload[range].to_vec()));
                }
            }
        }
        self.settle(node);
    }

    /// Plans the arrival of what a wire of a node lets through.
    fn spread(
        &mut self,
        node: NodeId,
        delays: Result<[Option<Duration>; 2], Fate>,
        packet: Packet,
        happening: impl Fn(Packet) -> Happening,
    ) {
        let now = self.now();
        let [first, second] = match delays {
            Ok(delays) => delays,
            Err(fate) => return self.trace.settle(packet.number, Some(node), fate),
        };
        if let Some(second) = second {
            let copy = Packet {
                number: self.trace.copy(packet.number),
                ..packet.clone()
            };
            self.queue.plan(now + second, happening(copy));
        }
        if let Some(first) = first {
            self.queue.plan(now + first, happening(packet));
        }
    }
}
