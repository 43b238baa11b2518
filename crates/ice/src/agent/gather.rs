//! Gathering candidates (RFC 8445 section 5.1.1).

use core::net::{IpAddr, SocketAddr, SocketAddrV6};

use smallvec::SmallVec;

use super::generation::{LocalCandidate, Origin};
use super::{Agent, Bind, Duty, Socket};
use crate::candidate::CandidateType;
use crate::event::{CandidateError, Event, GatheringState};
use crate::ids::{RequestId, SocketId};
use crate::io::{BindError, Interface};
use crate::shared::Shared;

/// Whether a socket may be another agent's as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Shared,
    Alone,
}

impl Agent {
    /// Begins to gather for the current generation.
    pub(crate) fn gather(&mut self, shared: &mut Shared) {
        if self.gathering != GatheringState::New || self.closed {
            return;
        }
        self.gathering = GatheringState::Gathering;
        self.emit(
            shared,
            Event::GatheringStateChange(GatheringState::Gathering),
        );
        self.resolve_servers(shared);
        self.interfaces_seen = false;
        self.ask_for_translator(shared);
        if let Some(interfaces) = &shared.interfaces {
            for index in 0..self.sockets.len() {
                let own = self.sockets[index];
                let ip = own.address.ip();
                // An address that came back has had another socket since.
                let replaced = |other: &Socket| {
                    other.usable && other.duty == own.duty && other.address.ip() == ip
                };
                let is_there = |interface: &Interface| interface.addresses.contains(&ip);
                let keeps = |interface: &Interface| {
                    is_there(interface) && self.settings.keeps(interface, ip)
                };
                if own.relay.is_none() {
                    let admitted = interfaces.iter().any(keeps);
                    let usable = interfaces.iter().any(is_there)
                        && (own.usable || !self.sockets.iter().any(replaced));
                    let own = &mut self.sockets[index];
                    (own.usable, own.admitted) = (usable, admitted);
                }
            }
        }
        self.unmap_ports(shared, |own| self.maps_port_of(own));
        for socket in 0..self.sockets.len() as u16 {
            self.add_host(shared, socket);
        }
        self.gather_relays(shared);
        self.look_at_interfaces(shared);
    }

    /// Asks for a socket on each admitted address that has none.
    pub(crate) fn look_at_interfaces(&mut self, shared: &mut Shared) {
        if self.gathering != GatheringState::Gathering || self.interfaces_seen {
            return;
        }
        self.ask_for_translator(shared);
        let Some(interfaces) = shared.interfaces.take() else {
            return;
        };
        self.interfaces_seen = true;
        // RFC 8421 section 4: IPv6 and IPv4 take turns, IPv6 first, so that neither waits for the
        // other; within a family the order of the system holds.
        let admitted = |v6: bool| {
            interfaces.iter().flat_map(move |interface| {
                interface
                    .addresses
                    .iter()
                    .filter(move |address| address.is_ipv6() == v6)
                    .map(move |address| (interface, *address))
            })
        };
        for v6 in [true, false] {
            let addresses = admitted(v6)
                .filter(|(interface, address)| self.settings.admits(interface, *address));
            let addresses: SmallVec<[_; 4]> = addresses.collect();
            for (rank, (interface, ip)) in addresses.into_iter().enumerate() {
                let address = match ip {
                    IpAddr::V6(v6) if v6.is_unicast_link_local() => {
                        SocketAddr::V6(SocketAddrV6::new(v6, 0, 0, interface.index))
                    }
                    ip => SocketAddr::new(ip, 0),
                };
                let preference = u16::MAX.saturating_sub((2 * rank + usize::from(!v6)) as u16);
                // RFC 6544 section 4.1.
                self.gather_tcp(shared, address, preference, interface.cost);
                let bound = self.sockets.iter().any(|socket| {
                    socket.usable && socket.address.ip() == ip && socket.is_udp_host()
                });
                let asked = |bind: &Bind| bind.address.ip() == ip && bind.duty == Duty::Datagrams;
                if bound || self.binds.iter().any(asked) {
                    continue;
                }
                // A stream's components are told apart by their sockets.
                let sharing = match self.component() {
                    1 => Sharing::Shared,
                    _ => Sharing::Alone,
                };
                self.ask_for_socket(shared, address, preference, None, sharing);
            }
        }
        shared.interfaces = Some(interfaces);
        self.finish_gathering(shared);
    }

    /// Another session has met a remote on a socket that both share: data from there could not be told apart. Asks for
    /// a socket of this agent's own on the same address, once; its checks make it known to the peer.
    pub(super) fn bind_apart(&mut self, shared: &mut Shared, socket: u16) {
        let own = self.sockets[usize::from(socket)];
        let ip = own.address.ip();
        let is_base =
            |other: &&Socket| other.usable && other.is_udp_host() && other.address.ip() == ip;
        let asked = |bind: &Bind| bind.address.ip() == ip && bind.duty == Duty::Datagrams;
        if !shared.mux.is_shared(own.id)
            || self.sockets.iter().filter(is_base).count() > 1
            || self.binds.iter().any(asked)
        {
            return;
        }
        // RFC 8445 section 5.1.2.1: no other has it. Those given by rank begin at the top.
        let taken = self.sockets.iter().map(|other| other.preference).min();
        let preference = taken.unwrap_or(own.preference).saturating_sub(256);
        self.ask_for_socket(shared, own.address, preference, None, Sharing::Alone);
    }

    /// Asks for a socket on an address, in the range of ports if there is one.
    pub(super) fn ask_for_socket(
        &mut self,
        shared: &mut Shared,
        mut address: SocketAddr,
        preference: u16,
        allocation: Option<u16>,
        sharing: Sharing,
    ) {
        let may_share = sharing == Sharing::Shared;
        // The engine's port goes before the agent's.
        let range = self
            .settings
            .ports()
            .filter(|_| !may_share || shared.config.shared_port.is_none());
        // From anywhere in the range, so that many agents do not all try the same ports first.
        let port = range.map_or(0, |range| {
            range.first + (shared.source.next_u64() % u64::from(range.len())) as u16
        });
        address.set_port(port);
        let request = shared.request(self.id);
        self.binds.push(Bind {
            request,
            address,
            preference,
            allocation,
            duty: allocation.map_or(Duty::Datagrams, |_| Duty::Carrier),
            other_ports: range.map_or(0, |range| (range.len() - 1) as u16),
        });
        match may_share {
            true => shared.bind(request, address),
            false => shared.bind_alone(request, address),
        }
    }

    /// The port is taken: asks for the next one. False if all of the range are.
    fn try_next_port(&mut self, shared: &mut Shared, mut bind: Bind) -> bool {
        let (Some(range), Some(left)) = (self.settings.ports(), bind.other_ports.checked_sub(1))
        else {
            return false;
        };
        bind.other_ports = left;
        bind.address.set_port(range.after(bind.address.port()));
        bind.request = shared.request(self.id);
        self.binds.push(bind);
        shared.bind_alone(bind.request, bind.address);
        true
    }

    /// The answer to a bind; false if this agent did not ask.
    pub(crate) fn bound(
        &mut self,
        shared: &mut Shared,
        request: RequestId,
        result: Result<(SocketId, SocketAddr), BindError>,
    ) -> bool {
        let Some(index) = self.binds.iter().position(|bind| bind.request == request) else {
            return false;
        };
        let bind = self.binds.swap_remove(index);
        match result {
            Ok((id, address)) if let Duty::Tcp(tcp_type) = bind.duty => {
                shared.demux.claim_listener(id, self.id);
                let cost = shared.network_cost(address.ip());
                self.add_tcp_base(shared, id, address, bind.preference, tcp_type, cost);
            }
            Ok((id, address)) => {
                let same = |own: &&Socket| {
                    own.relay.is_none() && own.tcp().is_none() && own.address.ip() == address.ip()
                };
                let foundation = match self.sockets.iter().find(same) {
                    Some(own) => own.foundation,
                    None => self.number_of_base(shared, address.ip(), 0) + 1,
                };
                self.sockets.push(Socket {
                    id,
                    address,
                    preference: bind.preference,
                    foundation,
                    usable: true,
                    admitted: true,
                    relay: None,
                    duty: bind.duty,
                    network_cost: shared.network_cost(address.ip()),
                });
                let socket = self.sockets.len() as u16 - 1;
                match bind.allocation {
                    Some(allocation) => self.carrier_bound(shared, allocation, Some(socket)),
                    None => self.add_host(shared, socket),
                }
            }
            Err(BindError::AddressInUse) if self.try_next_port(shared, bind) => {}
            Err(error) => {
                let text = match error {
                    BindError::AddressInUse if self.settings.ports().is_some() => {
                        "no port of the range is free"
                    }
                    BindError::AddressInUse => "the port is in use",
                    BindError::AddressNotAvailable => "the address is gone",
                    BindError::PermissionDenied => "the system does not permit it",
                    BindError::Other => "the system refused",
                };
                let ip = Some(bind.address.ip()).filter(|_| !self.settings.hides_bases());
                let on = ip.map_or_else(|| "a local address".to_owned(), |ip| ip.to_string());
                let error = CandidateError {
                    address: ip.map(|ip| ip.to_string()),
                    port: None,
                    url: String::new(),
                    error_code: 701,
                    error_text: format!("no socket on {on}: {text}"),
                };
                self.emit(shared, Event::CandidateError(error));
                if let Some(allocation) = bind.allocation {
                    self.carrier_bound(shared, allocation, None);
                }
            }
        }
        self.finish_gathering(shared);
        true
    }

    /// A socket's host candidate, its pairs, and its questions to servers.
    pub(super) fn add_host(&mut self, shared: &mut Shared, socket: u16) {
        let (own, component) = (self.sockets[usize::from(socket)], self.component());
        if !own.usable || own.relay.is_some() || own.duty == Duty::Carrier {
            return;
        }
        if !self.is_offered(shared, own.address.ip()) {
            return;
        }
        if !self.settings.relay_only() {
            let (replaced, added) = self.external(own.address);
            let host = |address| LocalCandidate {
                address,
                socket,
                kind: CandidateType::Host,
                origin: Origin::Local,
                removed: false,
                priority: own.priority(CandidateType::Host, component),
                foundation: own.foundation,
            };
            self.add_local(shared, host(replaced.unwrap_or(own.address)));
            if let Some(address) = added.filter(|_| own.tcp().is_none()) {
                let reflexive = LocalCandidate {
                    kind: CandidateType::Srflx,
                    priority: own.priority(CandidateType::Srflx, component),
                    foundation: 6_000_000 + own.foundation,
                    ..host(address)
                };
                self.add_local(shared, reflexive);
            }
            self.pair_socket(socket, &mut shared.counters);
            for server in 0..self.servers.len() as u16 {
                self.add_job(shared, socket, server);
            }
            self.map_port(shared, socket);
        }
        self.allocate_from(shared, socket);
    }

    /// Whether an address of this machine is for new sessions: it may have been deprecated, or another have come that
    /// is to be used in its place.
    fn is_offered(&self, shared: &Shared, ip: IpAddr) -> bool {
        let mut interfaces = shared.interfaces.iter().flatten();
        let of = interfaces.find(|interface| interface.addresses.contains(&ip));
        of.is_none_or(|interface| self.settings.admits(interface, ip))
    }

    /// Tells the end of gathering when nothing more can come (RFC 8838 section 13).
    pub(super) fn finish_gathering(&mut self, shared: &mut Shared) {
        let done = self.gathering == GatheringState::Gathering
            && self.interfaces_seen
            && self.binds.is_empty()
            && !self.awaits_translator(shared)
            && !self.awaits_gateway(shared)
            && self.relays_done()
            && self.servers_done();
        if done {
            self.report_unreachable(shared);
            self.report_unreachable_relays(shared);
            self.gathering = GatheringState::Complete;
            self.current.local_ended = true;
            self.emit(
                shared,
                Event::GatheringStateChange(GatheringState::Complete),
            );
        }
    }
}
