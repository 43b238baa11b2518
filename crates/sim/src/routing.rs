//! A packet's way through a router: out of a realm, and into one.

use core::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::packet::Packet;
use crate::router::embedded;
use crate::trace::Fate;
use crate::world::{NodeId, Realm, World};

impl World {
    /// At a router, from inside.
    pub(crate) fn leave_realm(&mut self, router: NodeId, mut packet: Packet) {
        let now = self.now();
        let node = self.node_mut(router);
        let number = packet.number;
        if !node.up {
            return self.trace.settle(number, Some(router), Fate::NodeDown);
        }
        let outside_addresses = node.attachments[0].addresses.clone();
        let state = self.router_mut(router);
        if let Some(neighbour) = state.subnet_of(packet.destination.ip()) {
            // An address of its networks that nobody has would only come back.
            return if self.is_in_realm(neighbour, packet.destination.ip()) {
                self.enter_realm(neighbour, packet)
            } else {
                self.trace.settle(number, Some(router), Fate::NoRoute)
            };
        }
        let inside = packet.source;
        if let Some(ipv4) = state.extracted(packet.destination.ip()) {
            packet.destination.set_ip(ipv4);
        }
        let destination = packet.destination;
        let hairpin = outside_addresses.contains(&destination.ip());
        let outcome = if !state.firewall.allows(packet.flow, destination) {
            Err(Fate::Blocked)
        } else if inside.is_ipv4() == destination.is_ipv4() && state.is_routed(inside.ip()) {
            state
                .firewall
                .note_out(now, packet.flow, inside, destination);
            Ok(inside)
        } else {
            match state.nat(destination.is_ipv4()) {
                Some(nat) if hairpin && !nat.hairpins() => Err(Fate::Filtered),
                Some(nat) => nat.translate_out(now, packet.flow, inside, destination),
                None => Err(Fate::NoRoute),
            }
        };
        match outcome {
            Ok(source) => packet.source = source,
            Err(fate) => return self.trace.settle(number, Some(router), fate),
        }
        if hairpin {
            // RFC 4787 section 6: the source is the external one, so the peer's answer comes back.
            self.enter_inside(router, packet);
        } else {
            self.climb(router, 0, packet);
        }
    }

    /// Whether a realm has this address, or a router to it.
    fn is_in_realm(&self, realm: Realm, address: IpAddr) -> bool {
        let leads =
            |(of, prefix, _): &(Realm, IpNet, NodeId)| *of == realm && prefix.contains(&address);
        self.routes.contains_key(&(realm, address)) || self.prefixes.iter().any(leads)
    }

    /// At a router, from outside.
    pub(crate) fn enter_inside(&mut self, router: NodeId, mut packet: Packet) {
        let now = self.now();
        let state = self.router_mut(router);
        let (source, destination) = (packet.source, packet.destination);
        let outcome = if !state.firewall.allows(packet.flow, source) {
            Err(Fate::Blocked)
        } else if state.is_routed(destination.ip()) {
            let admitted = state.firewall.admits(now, packet.flow, destination, source);
            if admitted {
                Ok(destination)
            } else {
                Err(Fate::Filtered)
            }
        } else {
            let nat = state.nat(destination.is_ipv4());
            nat.and_then(|nat| nat.translate_in(now, packet.flow, source, destination))
                .ok_or(Fate::Filtered)
        };
        match outcome {
            Ok(inside) => {
                if let (true, Some(prefix), IpAddr::V4(v4)) =
                    (inside.is_ipv6(), state.nat64, source.ip())
                {
                    packet.source = SocketAddr::new(embedded(prefix, v4), source.port());
                }
                packet.destination = inside;
                let realm = state.inside_of(inside.ip());
                self.enter_realm(realm, packet);
            }
            Err(fate) => self.trace.settle(packet.number, Some(router), fate),
        }
    }
}
