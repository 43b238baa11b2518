//! Candidates that the network's gateway tells: it forwards a port to a base (RFC 6544 section 5.3).
//!
//! They are told like server-reflexive ones and checked before them. Between two NATs whose mappings nobody can foresee,
//! a forwarded port on one side makes a direct path. Gathering ends when the gateway has answered or was given up,
//! as with a server; nothing else waits for it. What a gateway says later changes the candidate in place, between agents
//! that both offer that, and is told in the next generation otherwise (RFC 8838 section 13).

use core::net::SocketAddr;

use super::generation::{LocalCandidate, Origin};
use super::local::MAX_LOCALS;
use super::trickle::is_target;
use super::{Agent, Socket};
use crate::candidate::{CandidateType, nat_assisted_priority};
use crate::event::{CandidateError, Event, GatheringState};
use crate::ids::SocketId;
use crate::io::{Command, PortMappingError};
use crate::port_mapping::Mapped;
use crate::shared::Shared;

impl Agent {
    /// Has the gateway forward a port to a base, or takes over what it forwards already.
    pub(super) fn map_port(&mut self, shared: &mut Shared, socket: u16) {
        let own = self.sockets[usize::from(socket)];
        if !self.maps_port_of(&own) {
            return;
        }
        let (mapped, is_new) = shared.port_mappings.want(own.id, self.id);
        if is_new {
            let (socket, address) = (own.id, own.address);
            shared.command(Command::MapPort { socket, address });
        }
        self.take_mapped(shared, socket, mapped);
    }

    /// IPv4 only: an IPv6 address is the same outside, and checks from within open its firewall.
    pub(super) fn maps_port_of(&self, own: &Socket) -> bool {
        let ip = own.address.ip();
        self.settings.maps_ports()
            && own.usable
            && own.is_udp_host()
            && self.is_base(own)
            && ip.is_ipv4()
            && !ip.is_loopback()
    }

    /// Gives up what is forwarded to sockets, but for those that stay.
    pub(super) fn unmap_ports(&self, shared: &mut Shared, stays: impl Fn(&Socket) -> bool) {
        if !self.settings.maps_ports() {
            return;
        }
        for own in self.sockets.iter().filter(|own| !stays(own)) {
            if shared.port_mappings.leave(own.id, self.id) {
                shared.command(Command::UnmapPort(own.id));
            }
        }
    }

    /// Whether gathering waits for a gateway.
    pub(super) fn awaits_gateway(&self, shared: &Shared) -> bool {
        let awaits =
            |own: &Socket| self.maps_port_of(own) && shared.port_mappings.is_awaited(own.id);
        self.settings.maps_ports() && self.sockets.iter().any(awaits)
    }

    /// The gateway has said something new of a socket.
    pub(crate) fn port_mapped(
        &mut self,
        shared: &mut Shared,
        id: SocketId,
        result: Result<SocketAddr, PortMappingError>,
    ) {
        let Some(socket) = self.socket_index(id) else {
            return;
        };
        let idle = self.gathering == GatheringState::New;
        if self.closed || idle || !self.maps_port_of(&self.sockets[usize::from(socket)]) {
            return;
        }
        self.take_mapped(shared, socket, Some(result));
        self.finish_gathering(shared);
    }

    fn take_mapped(&mut self, shared: &mut Shared, socket: u16, mapped: Mapped) {
        let told = match mapped {
            None => return,
            // RFC 6886 section 3.2: a gateway without a connection says that its address is 0.0.0.0.
            Some(Ok(address)) if !is_target(address) || address.ip().is_loopback() => {
                Err(PortMappingError::Unusable)
            }
            Some(told) => told,
        };
        self.take_back_mapped(shared, socket, told.ok());
        match told {
            Ok(address) => self.add_forwarded(shared, socket, address),
            Err(error) => self.report_unmapped(shared, socket, error),
        }
    }

    fn add_forwarded(&mut self, shared: &mut Shared, socket: u16, address: SocketAddr) {
        let own = self.sockets[usize::from(socket)];
        let known = |local: &LocalCandidate| {
            !local.removed && (local.socket, local.address) == (socket, address)
        };
        let ended = self.gathering == GatheringState::Complete;
        if ended && !self.current.locals.iter().any(known) {
            // Every candidate keeps its place in the generation.
            if !self.is_continual() || self.current.locals.len() >= MAX_LOCALS / 2 {
                return;
            }
            self.resume_gathering(shared);
        }
        self.add_local(
            shared,
            LocalCandidate {
                address,
                socket,
                kind: CandidateType::Srflx,
                origin: Origin::Gateway,
                removed: false,
                priority: nat_assisted_priority(own.preference, self.component()),
                // RFC 8445 section 5.1.1.3: the gateway counts as a server.
                foundation: 7_000_000 + own.foundation,
            },
        );
    }

    /// The gateway does not forward a port to this base any more, or another one.
    fn take_back_mapped(&mut self, shared: &mut Shared, socket: u16, now: Option<SocketAddr>) {
        self.take_back_if(shared, |local| {
            local.socket == socket && local.origin == Origin::Gateway && Some(local.address) != now
        });
    }

    fn report_unmapped(&self, shared: &mut Shared, socket: u16, error: PortMappingError) {
        let base = self.sockets[usize::from(socket)].address;
        let base = Some(base).filter(|_| !self.settings.hides_bases());
        let error = CandidateError {
            address: base.map(|base| base.ip().to_string()),
            port: base.map(|base| base.port()),
            url: String::new(),
            error_code: 701,
            error_text: format!("no port mapping: {error}"),
        };
        self.emit(shared, Event::CandidateError(error));
    }
}
