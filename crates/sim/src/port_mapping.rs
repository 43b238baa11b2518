//! Ports that routers forward to hosts on demand, as those do that know PCP, NAT-PMP or UPnP.
//!
//! What is said between host and router is not simulated, only how long it takes: the router of the realm in which the
//! host has the address is asked, and no other above it.

use core::net::SocketAddr;
use core::time::Duration;
use std::collections::BTreeMap;

use nilas_ice::{Input, PortMappingError, SocketId};

use crate::world::{Happening, NodeId, World};

/// What a world knows of such routers.
#[derive(Debug, Default)]
pub(crate) struct PortMappings {
    /// Routers that forward, and how long they take to say so.
    routers: BTreeMap<NodeId, Duration>,
    /// What was asked for: of which router, and for which address inside.
    asked: BTreeMap<(NodeId, SocketId), (NodeId, SocketAddr)>,
}

impl World {
    /// A router forwards ports to the hosts inside that ask for it, from now on. What it says takes `delay`; so long it
    /// also takes until a host knows that it has forgotten its mappings, and has asked again.
    pub fn forward_ports(&mut self, router: NodeId, delay: Duration) {
        self.port_mappings.routers.insert(router, delay);
    }

    pub(crate) fn map_port(&mut self, node: NodeId, socket: SocketId, inside: SocketAddr) {
        let mut attachments = self.node(node).attachments.iter();
        let own = attachments.find(|own| own.addresses.contains(&inside.ip()));
        let router = own.and_then(|own| self.gateways.get(&own.realm).copied());
        let delay = router.and_then(|router| self.port_mappings.routers.get(&router).copied());
        let now = self.now();
        let (Some(router), Some(delay)) = (router, delay) else {
            let result = Err(PortMappingError::NoGateway);
            let refused = Happening::PortMapped {
                node,
                socket,
                result,
            };
            return self.queue.plan(now, refused);
        };
        let asked = (router, inside);
        self.port_mappings.asked.insert((node, socket), asked);
        self.queue
            .plan(now + delay, Happening::AsksForPort { node, socket });
    }

    /// The router hears a host, and answers.
    pub(crate) fn ask_for_port(&mut self, node: NodeId, socket: SocketId) {
        let now = self.now();
        // Wanted no more.
        let Some(&(router, inside)) = self.port_mappings.asked.get(&(node, socket)) else {
            return;
        };
        let nat = match self.node(router).up {
            true => self.router_mut(router).nat(true),
            false => None,
        };
        let external = nat.and_then(|nat| nat.forward(now, inside));
        let result = external.ok_or(PortMappingError::NoAnswer);
        self.port_mapped(node, socket, result);
    }

    /// A router has forgotten its mappings: whoever has one asks again when it is to be renewed.
    pub(crate) fn renew_ports(&mut self, router: NodeId) {
        let Some(delay) = self.port_mappings.routers.get(&router).copied() else {
            return;
        };
        let asked = self.port_mappings.asked.iter();
        let of = asked.filter(|(_, (of, _))| *of == router);
        for (node, socket) in of.map(|(who, _)| *who).collect::<Vec<_>>() {
            let at = self.now() + delay;
            self.queue.plan(at, Happening::AsksForPort { node, socket });
        }
    }

    pub(crate) fn port_mapped(
        &mut self,
        node: NodeId,
        socket: SocketId,
        result: Result<SocketAddr, PortMappingError>,
    ) {
        let (now, input) = (self.now(), Input::PortMapped { socket, result });
        let _ = self.host_mut(node).engine.handle(now, input);
        self.settle(node);
    }

    pub(crate) fn unmap_port(&mut self, node: NodeId, socket: SocketId) {
        if let Some((router, inside)) = self.port_mappings.asked.remove(&(node, socket))
            && let Some(nat) = self.router_mut(router).nat(true)
        {
            nat.unforward(inside);
        }
    }
}
