//! A datagram's way: up the sender's wire, through realms and NATs, down to a socket.

use core::net::SocketAddr;
use std::sync::Arc;

use nilas_ice::{Handled, Input, SocketId};

use crate::sockets::{Received, UdpOwner};
use crate::stun_server;
use crate::trace::{Fate, PacketNumber, TracedPacket};
use crate::world::{Happening, NodeId, NodeKind, Realm, World};

/// A datagram under way, with the addresses it has at this point.
#[derive(Clone, Debug)]
pub(crate) struct Datagram {
    number: PacketNumber,
    source: SocketAddr,
    destination: SocketAddr,
    payload: Arc<[u8]>,
}

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
        let attachments = &self.node(node).attachments;
        let own = attachments
            .iter()
            .position(|a| a.addresses.contains(&source.ip()));
        let datagram = self.begin(node, source, destination, payload);
        self.climb(node, own.unwrap_or(0), datagram);
    }

    /// Sends what a socket of a node sends.
    pub(crate) fn send_datagram(
        &mut self,
        node: NodeId,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) {
        let attachments = &self.node(node).attachments;
        let own = attachments
            .iter()
            .position(|a| a.addresses.contains(&source.ip()));
        let datagram = self.begin(node, source, destination, payload);
        match own {
            Some(interface) => self.climb(node, interface, datagram),
            None => self.trace.settle(datagram.number, Fate::NoRoute),
        }
    }

    fn begin(
        &mut self,
        sender: NodeId,
        source: SocketAddr,
        destination: SocketAddr,
        payload: &[u8],
    ) -> Datagram {
        let (sent, payload) = (self.now(), Arc::<[u8]>::from(payload));
        let number = self.trace.add(TracedPacket {
            sent,
            sender,
            source,
            destination,
            payload: Arc::clone(&payload),
            copy_of: None,
            fate: Fate::UnderWay,
        });
        Datagram {
            number,
            source,
            destination,
            payload,
        }
    }

    /// From an interface into its realm.
    fn climb(&mut self, node: NodeId, interface: usize, datagram: Datagram) {
        let from = self.node(node);
        if !from.up {
            return self.trace.settle(datagram.number, Fate::NodeDown);
        }
        let (realm, wire) = (
            from.attachments[interface].realm,
            from.attachments[interface].link.up,
        );
        let delays = wire.carry(&mut self.random);
        self.spread(delays, datagram, |datagram| Happening::EntersRealm {
            realm,
            datagram,
        });
    }

    /// Arrived in a realm: to the interface with the destination's address, or out through the NAT.
    pub(crate) fn enter_realm(&mut self, realm: Realm, datagram: Datagram) {
        if let Some((node, interface)) = self
            .routes
            .get(&(realm, datagram.destination.ip()))
            .copied()
        {
            let wire = self.node(node).attachments[interface].link.down;
            let delays = wire.carry(&mut self.random);
            return self.spread(delays, datagram, |datagram| Happening::Reaches {
                node,
                datagram,
            });
        }
        match self.gateways.get(&realm).copied() {
            Some(nat) => self.leave_realm(nat, datagram),
            None => self.trace.settle(datagram.number, Fate::NoRoute),
        }
    }

    /// At a NAT, from inside.
    fn leave_realm(&mut self, nat: NodeId, mut datagram: Datagram) {
        let now = self.now();
        let node = self.node_mut(nat);
        if !node.up {
            return self.trace.settle(datagram.number, Fate::NodeDown);
        }
        let hairpin = node.attachments[0]
            .addresses
            .contains(&datagram.destination.ip());
        let NodeKind::Nat { state, .. } = &mut node.kind else {
            unreachable!("only NATs become gateways");
        };
        let translated = (!hairpin || state.hairpins())
            .then(|| state.translate_out(now, datagram.source, datagram.destination))
            .flatten();
        let Some(source) = translated else {
            return self.trace.settle(datagram.number, Fate::Filtered);
        };
        datagram.source = source;
        if hairpin {
            // RFC 4787 section 6: the source is the external one, so the peer's answer comes back.
            self.enter_inside(nat, datagram);
        } else {
            self.climb(nat, 0, datagram);
        }
    }

    /// At a NAT, from outside.
    fn enter_inside(&mut self, nat: NodeId, mut datagram: Datagram) {
        let now = self.now();
        let NodeKind::Nat { state, inside } = &mut self.node_mut(nat).kind else {
            unreachable!("only NATs have an inside");
        };
        let inside = *inside;
        match state.translate_in(now, datagram.source, datagram.destination.port()) {
            Some(destination) => {
                datagram.destination = destination;
                self.enter_realm(inside, datagram);
            }
            None => self.trace.settle(datagram.number, Fate::Filtered),
        }
    }

    /// Arrived at a node.
    pub(crate) fn reach(&mut self, node: NodeId, datagram: Datagram) {
        let now = self.now();
        let Datagram {
            number,
            source,
            destination,
            ref payload,
        } = datagram;
        let to = self.node(node);
        if !to.up {
            return self.trace.settle(number, Fate::NodeDown);
        }
        if let NodeKind::Nat { .. } = to.kind {
            return self.enter_inside(node, datagram);
        }
        let Some(owner) = to.sockets.owner(destination) else {
            return self.trace.settle(number, Fate::NoSocket);
        };
        let fate = Fate::Delivered {
            at: now,
            node,
            source,
        };
        self.trace.settle(number, fate);
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
            Handled::Consumed => {}
            Handled::NotOurs => host.not_ours += 1,
            Handled::Application { agent, range, .. } => {
                if let Some(record) = host.records.get_mut(&agent) {
                    record.received.push((now, payload[range].to_vec()));
                }
            }
        }
        self.settle(node);
    }

    /// Plans the arrival of what a wire lets through.
    fn spread(
        &mut self,
        [first, second]: [Option<core::time::Duration>; 2],
        datagram: Datagram,
        happening: impl Fn(Datagram) -> Happening,
    ) {
        let now = self.now();
        let Some(first) = first else {
            return self.trace.settle(datagram.number, Fate::Lost);
        };
        if let Some(second) = second {
            let copy = Datagram {
                number: self.trace.copy(datagram.number),
                ..datagram.clone()
            };
            self.queue.plan(now + second, happening(copy));
        }
        self.queue.plan(now + first, happening(datagram));
    }
}
