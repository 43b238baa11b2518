//! Servers are asked, and what they gave becomes candidates (RFC 8656 section 7).

use core::net::{IpAddr, SocketAddr};

use nilas_turn::Time;
use smallvec::SmallVec;

use super::{
    Allocation, FIRST_RECONNECT, MAX_ALLOCATIONS, MAX_RECONNECTS, MAX_RELAY_BASES, Route,
    preference_of,
};
use crate::agent::gather::Sharing;
use crate::agent::generation::{LocalCandidate, Origin};
use crate::agent::mobility::RestartDue;
use crate::agent::reflexive::unresolved;
use crate::agent::translator::ipv4_only;
use crate::agent::{Agent, Duty, Socket};
use crate::candidate::{CandidateType, priority};
use crate::config::TurnTransport;
use crate::demux::StreamEnd;
use crate::event::{CandidateError, Event};
use crate::ids::{RequestId, StreamId};
use crate::io::{Command, ResolveError, StreamError, StreamTransport};
use crate::shared::Shared;

impl Agent {
    /// Begins to allocate, or goes on to use what was allocated before a restart.
    pub(in crate::agent) fn gather_relays(&mut self, shared: &mut Shared) {
        let Some(turn) = &mut self.turn else { return };
        for allocation in &mut turn.allocations {
            // Its connection is about to be opened again, and gathering has to wait for that.
            allocation.open |= matches!(allocation.route, Route::Broken { .. });
        }
        for server in &mut turn.servers {
            if !server.resolved && server.request.is_none() {
                let request = shared.request(self.id);
                server.request = Some(request);
                shared.command(Command::Resolve {
                    request,
                    name: server.config.host.clone(),
                    port: server.config.port,
                });
            }
        }
        for index in 0..turn.servers.len() as u16 {
            self.open_relay(shared, index);
        }
        for socket in 0..self.sockets.len() as u16 {
            self.add_relay(shared, socket);
        }
    }

    /// Connects to a server that is reached by a stream, unless there is a connection.
    fn open_relay(&mut self, shared: &mut Shared, index: u16) {
        let server = &self.relaying().servers[usize::from(index)];
        let by_stream = server.config.transport != TurnTransport::Udp;
        // Where the literal address leads by way of a translator, its prefix has to be known first.
        let delayed = ipv4_only(&server.addresses) && self.awaits_translator(shared);
        let alive = |allocation: &Allocation| {
            allocation.server == index && !matches!(allocation.route, Route::Ended)
        };
        if by_stream
            && !delayed
            && !self.relaying().allocations.iter().any(alive)
            && let Some(allocation) = self.allocate(shared, index, |_, _| Route::Ended)
        {
            self.open_stream(shared, allocation, None);
        }
    }

    /// Asks the servers that may only be reached through a translator, now that this is known.
    pub(in crate::agent) fn gather_delayed_relays(&mut self, shared: &mut Shared) {
        let servers = self.turn.as_ref().map_or(0, |turn| turn.servers.len());
        for index in 0..servers as u16 {
            if !ipv4_only(&self.relaying().servers[usize::from(index)].addresses) {
                continue;
            }
            self.open_relay(shared, index);
            for socket in 0..self.sockets.len() as u16 {
                if self.sockets[usize::from(socket)].duty == Duty::Datagrams {
                    self.allocate_at(shared, socket, index);
                }
            }
        }
    }

    /// Asks all servers that are reached by UDP from this socket.
    pub(in crate::agent) fn allocate_from(&mut self, shared: &mut Shared, socket: u16) {
        let servers = self.turn.as_ref().map_or(0, |turn| turn.servers.len());
        for server in 0..servers as u16 {
            self.allocate_at(shared, socket, server);
        }
    }

    fn allocate_at(&mut self, shared: &mut Shared, socket: u16, server: u16) {
        let own = self.sockets[usize::from(socket)];
        let entry = &self.relaying().servers[usize::from(server)];
        if entry.config.transport != TurnTransport::Udp
            || own.relay.is_some()
            || own.tcp().is_some()
            || !own.usable
            || !own.admitted
        {
            return;
        }
        let Some(address) = self.address_for(shared, &entry.addresses, own.address.ip()) else {
            return;
        };
        // A carrier on the same address stands for the socket where it may not have the 5-tuple itself.
        let ip = own.address.ip();
        let known = |(index, allocation): (usize, &Allocation)| {
            allocation.server == server
                && match allocation.route {
                    Route::Datagram { socket: on, .. } => {
                        let carrier = self.sockets[usize::from(on)];
                        on == socket || carrier.duty == Duty::Carrier && carrier.address.ip() == ip
                    }
                    Route::Binding { .. } => self.binds.iter().any(|bind| {
                        bind.allocation == Some(index as u16) && bind.address.ip() == ip
                    }),
                    _ => false,
                }
        };
        if self.relaying().allocations.iter().enumerate().any(known) {
            return;
        }
        let id = self.id;
        let mut binds = None;
        let _ = self.allocate(shared, server, |shared, index| {
            if shared.demux.claim_server(own.id, address, id, index) {
                Route::Datagram {
                    socket,
                    server: address,
                }
            } else {
                binds = Some(index);
                Route::Binding { server: address }
            }
        });
        if let Some(allocation) = binds {
            self.bind_for(shared, allocation, own.address);
        }
    }

    /// The place of a new allocation in the list, if there is room.
    fn allocate(
        &mut self,
        shared: &mut Shared,
        server: u16,
        route: impl FnOnce(&mut Shared, u16) -> Route,
    ) -> Option<usize> {
        if let Some((code, _)) = self.relaying().servers[usize::from(server)].refusal {
            let text = "the server refused a short while ago, and is not asked again so soon";
            let error = self.turn_error(server, code, text);
            self.emit(shared, Event::CandidateError(error));
            return None;
        }
        let turn = self.relaying();
        // One that is over makes room.
        let ended = |allocation: &Allocation| {
            allocation.server == server && matches!(allocation.route, Route::Ended)
        };
        let old = turn.allocations.iter().position(ended);
        if old.is_none() && turn.allocations.len() >= MAX_ALLOCATIONS {
            return None;
        }
        let index = old.unwrap_or(turn.allocations.len());
        let allocation = Allocation {
            server,
            client: turn.servers[usize::from(server)].client(shared),
            route: route(shared, index as u16),
            mapped: None,
            leaves_from: None,
            bases: SmallVec::new(),
            open: true,
            verifying: false,
            asked: Vec::new(),
            reconnects: 0,
            tries: 1,
        };
        let allocations = &mut self.relaying_mut().allocations;
        match old {
            Some(index) => allocations[index] = allocation,
            None => allocations.push(allocation),
        }
        Some(index)
    }

    /// Another local port, for a 5-tuple of its own (RFC 8656 section 7.4, error 437).
    pub(in crate::agent) fn bind_for(
        &mut self,
        shared: &mut Shared,
        allocation: u16,
        beside: SocketAddr,
    ) {
        self.ask_for_socket(shared, beside, 0, Some(allocation), Sharing::Alone);
    }

    /// The socket of its own is bound, or there is none.
    pub(in crate::agent) fn carrier_bound(
        &mut self,
        shared: &mut Shared,
        allocation: u16,
        socket: Option<u16>,
    ) {
        let index = usize::from(allocation);
        let Some(&Route::Binding { server }) = self
            .turn
            .as_ref()
            .and_then(|turn| turn.allocations.get(index))
            .map(|allocation| &allocation.route)
        else {
            return;
        };
        match socket {
            Some(socket) => {
                let id = self.sockets[usize::from(socket)].id;
                if shared.demux.claim_server(id, server, self.id, allocation) {
                    self.relaying_mut().allocations[index].route =
                        Route::Datagram { socket, server };
                }
            }
            None => self.allocation_failed(shared, index, 701, "no socket to ask the server from"),
        }
    }

    /// The answer to a resolution; false if it was not about a TURN server.
    pub(in crate::agent) fn turn_resolved(
        &mut self,
        shared: &mut Shared,
        request: RequestId,
        result: Result<&[SocketAddr], ResolveError>,
    ) -> bool {
        let Some(turn) = &mut self.turn else {
            return false;
        };
        let Some(index) = turn
            .servers
            .iter()
            .position(|server| server.request == Some(request))
        else {
            return false;
        };
        let server = &mut turn.servers[index];
        server.request = None;
        server.resolved = true;
        match result {
            Ok(addresses) => server.addresses = addresses.iter().copied().take(8).collect(),
            Err(error) => {
                let error = self.turn_error(index as u16, 701, unresolved(error));
                self.emit(shared, Event::CandidateError(error));
            }
        }
        for socket in 0..self.sockets.len() as u16 {
            if self.sockets[usize::from(socket)].duty == Duty::Datagrams {
                self.allocate_at(shared, socket, index as u16);
            }
        }
        self.finish_gathering(shared);
        true
    }

    pub(in crate::agent) fn open_stream(
        &mut self,
        shared: &mut Shared,
        index: usize,
        other: Option<(SocketAddr, String)>,
    ) {
        let server =
            &self.relaying().servers[usize::from(self.relaying().allocations[index].server)];
        let TurnTransport::Stream(transport) = server.config.transport else {
            return;
        };
        let request = shared.request(self.id);
        let (address, host, port) = match other {
            Some((address, host)) => (Some(address), host, address.port()),
            None => (
                server.addresses.first().copied(),
                server.config.host.clone(),
                server.config.port,
            ),
        };
        let address = address.map(|known| self.through_translator(shared, known).unwrap_or(known));
        shared.command(Command::OpenStream {
            request,
            transport,
            host,
            port,
            address,
        });
        self.relaying_mut().allocations[index].route = Route::Opening(request);
    }

    /// Whether this agent waits for the answer to this `OpenStream`.
    pub(crate) fn is_opening(&self, request: RequestId) -> bool {
        self.opening(request).is_some()
    }

    /// The allocation that a stream is being opened for.
    fn opening(&self, request: RequestId) -> Option<usize> {
        let opening = |allocation: &Allocation| matches!(allocation.route, Route::Opening(asked) if asked == request);
        self.turn.as_ref()?.allocations.iter().position(opening)
    }

    /// The answer to `OpenStream`; false if this agent did not ask.
    pub(crate) fn stream_opened(
        &mut self,
        shared: &mut Shared,
        request: RequestId,
        result: Result<StreamId, StreamError>,
    ) -> bool {
        let Some(index) = self.opening(request) else {
            return false;
        };
        match result {
            Ok(stream) => {
                let server = self.relaying().allocations[index].server;
                let servers = &self.relaying().servers[usize::from(server)].addresses;
                let server = { servers.first() }.map(|known| {
                    let far = self.through_translator(shared, *known);
                    far.unwrap_or(*known)
                });
                shared
                    .demux
                    .claim_stream(stream, self.id, StreamEnd::Relay(index as u16));
                let allocation = &mut self.relaying_mut().allocations[index];
                allocation.route = Route::Stream(stream);
                allocation.leaves_from = shared.default_address(server);
                // A new client asks by itself; one that had an allocation is told that it is lost.
                allocation.client.reconnected();
            }
            Err(StreamError::Unresolved) if self.may_be_absent(index) => {
                self.end_allocation(shared, index);
                self.finish_gathering(shared);
            }
            Err(error) => {
                let text = match error {
                    StreamError::Unresolved => "the server's name has no address",
                    StreamError::Refused => "the server refuses the connection",
                    StreamError::TimedOut => "the server does not answer to connect",
                    StreamError::Proxy => "the proxy does not let the connection through",
                    StreamError::Handshake => {
                        "the TLS handshake failed: the certificate is not trusted or not the server's"
                    }
                    StreamError::Other => "the connection could not be opened",
                };
                self.allocation_failed(shared, index, 701, text);
            }
        }
        true
    }

    fn may_be_absent(&self, index: usize) -> bool {
        let turn = self.relaying();
        let server = usize::from(turn.allocations[index].server);
        turn.servers[server].config.may_be_absent
    }

    /// A connection broke. What was allocated on it is gone (RFC 8656 section 8).
    pub(crate) fn stream_closed(&mut self, shared: &mut Shared, now: Time, index: u16) {
        let index = usize::from(index);
        let allocation = &mut self.relaying_mut().allocations[index];
        if let Route::Stream(stream) = allocation.route {
            shared.demux.release_stream(stream);
        }
        if allocation.open || allocation.reconnects == MAX_RECONNECTS {
            return self.allocation_failed(shared, index, 701, "the server closed the connection");
        }
        let wait = FIRST_RECONNECT * (1 << allocation.reconnects);
        allocation.reconnects += 1;
        allocation.verifying = false;
        allocation.route = Route::Broken {
            retry_at: now + wait,
        };
        self.drop_bases(shared, now, index);
    }

    /// It gave no address, or has none any more.
    pub(in crate::agent) fn allocation_failed(
        &mut self,
        shared: &mut Shared,
        index: usize,
        code: u16,
        text: &str,
    ) {
        let allocation = &self.relaying().allocations[index];
        let error = self.turn_error(allocation.server, code, text);
        self.emit(shared, Event::CandidateError(error));
        self.end_allocation(shared, index);
        self.finish_gathering(shared);
    }

    pub(in crate::agent) fn end_allocation(&mut self, shared: &mut Shared, index: usize) {
        let allocation = &mut self.relaying_mut().allocations[index];
        (allocation.open, allocation.verifying) = (false, false);
        match core::mem::replace(&mut allocation.route, Route::Ended) {
            Route::Datagram { socket, server } => {
                let id = self.sockets[usize::from(socket)].id;
                shared.demux.release_server(id, server);
            }
            Route::Stream(stream) => {
                shared.demux.release_stream(stream);
                shared.command(Command::CloseStream(stream));
            }
            Route::Binding { .. } | Route::Opening(_) | Route::Broken { .. } | Route::Ended => {}
        }
    }

    pub(in crate::agent) fn turn_error(
        &self,
        server: u16,
        code: u16,
        text: &str,
    ) -> CandidateError {
        CandidateError {
            address: None,
            port: None,
            url: self.relaying().servers[usize::from(server)].url.to_string(),
            error_code: code,
            error_text: text.chars().filter(|c| !c.is_control()).take(128).collect(),
        }
    }

    /// Whether no server can give another address.
    pub(in crate::agent) fn relays_done(&self) -> bool {
        self.turn.as_ref().is_none_or(|turn| turn.is_done())
    }

    /// Tells of the servers that no local address can reach.
    pub(in crate::agent) fn report_unreachable_relays(&self, shared: &mut Shared) {
        let Some(turn) = &self.turn else { return };
        for (index, server) in turn.servers.iter().enumerate() {
            let asked = turn
                .allocations
                .iter()
                .any(|allocation| usize::from(allocation.server) == index);
            if !asked && !server.addresses.is_empty() && !self.sockets.is_empty() {
                let text = "no local address can reach the server";
                let error = self.turn_error(index as u16, 701, text);
                self.emit(shared, Event::CandidateError(error));
            }
        }
    }

    /// The server gave these addresses.
    pub(in crate::agent) fn allocated(
        &mut self,
        shared: &mut Shared,
        index: usize,
        relayed: &[SocketAddr],
        mapped: SocketAddr,
    ) {
        let allocation = &mut self.relaying_mut().allocations[index];
        allocation.mapped = Some(mapped);
        (allocation.open, allocation.verifying) = (false, false);
        allocation.reconnects = 0;
        // Another Allocate is another request: RFC 8489 section 10 is about one that has no answer yet.
        allocation.asked.clear();
        let server = allocation.server;
        let transport = self.relaying().servers[usize::from(server)]
            .config
            .transport;
        let from = self.reached_from(index as u16);
        let network_cost = from.map_or(0, |from| shared.network_cost(from));
        // RFC 8838 section 13: after the end of candidates only what was agreed on lets more follow.
        if self.current.local_ended && self.is_continual() {
            self.gather_more(shared);
        }
        for address in relayed.iter().copied().take(2) {
            let known = |socket: &Socket| {
                socket.relay == Some(index as u16) && socket.address == address && socket.usable
            };
            if self.sockets.iter().any(known) {
                continue;
            }
            let relays = self.sockets.iter().filter(|own| own.relay.is_some());
            if relays.clone().count() >= MAX_RELAY_BASES {
                break;
            }
            // RFC 8445 section 5.1.1.3: of the same server and address, the same foundation.
            let group = self.group_of_relay(index as u16);
            let same = relays.clone().find(|own| {
                let is_of_group = |of| self.group_of_relay(of) == group;
                own.address.ip() == address.ip() && own.relay.is_some_and(is_of_group)
            });
            let foundation = match same {
                Some(own) => own.foundation,
                None => 4_000_000 + self.number_of_base(shared, address.ip(), group),
            };
            let rank = 2 * index as u16 + u16::from(address.is_ipv4());
            self.sockets.push(Socket {
                id: shared.virtual_socket(),
                address,
                preference: preference_of(transport) - rank,
                foundation,
                usable: true,
                admitted: true,
                relay: Some(index as u16),
                duty: Duty::Datagrams,
                network_cost,
            });
            let socket = self.sockets.len() as u16 - 1;
            self.relaying_mut().allocations[index].bases.push(socket);
            self.add_relay(shared, socket);
        }
        self.add_mapped(shared, index);
        self.finish_gathering(shared);
    }

    /// The relayed candidate of a base, and its pairs.
    pub(in crate::agent) fn add_relay(&mut self, shared: &mut Shared, socket: u16) {
        let base = self.sockets[usize::from(socket)];
        let Some(allocation) = base.relay.filter(|_| base.usable && self.is_base(&base)) else {
            return;
        };
        if self.relaying().allocations[usize::from(allocation)].verifying {
            return;
        }
        let server = self.relaying().allocations[usize::from(allocation)].server;
        self.add_local(
            shared,
            LocalCandidate {
                address: base.address,
                socket,
                kind: CandidateType::Relay,
                origin: Origin::Turn(server),
                removed: false,
                priority: priority(CandidateType::Relay, base.preference, self.component()),
                foundation: base.foundation,
            },
        );
        self.pair_socket(socket, &mut shared.counters);
    }

    /// What the server sees of a UDP socket is what a STUN server would have seen.
    pub(super) fn add_mapped(&mut self, shared: &mut Shared, index: usize) {
        let relay = index as u16;
        let (Some(socket), Some(mapped)) = (self.below(relay), self.mapped_of(relay)) else {
            return;
        };
        let allocation = &self.relaying().allocations[index];
        let (origin, asked) = (Origin::Turn(allocation.server), self.asked_at(relay));
        let carrier = self.sockets[usize::from(socket)];
        if self.is_base(&carrier)
            && carrier.duty == Duty::Datagrams
            && let Some(asked) = asked
        {
            self.add_reflexive(shared, socket, mapped, (origin, asked.ip()));
        }
    }

    /// The address at which the server of an allocation is asked, if it is known.
    pub(super) fn asked_at(&self, relay: u16) -> Option<SocketAddr> {
        let turn = self.turn.as_ref()?;
        let allocation = &turn.allocations[usize::from(relay)];
        match allocation.route {
            Route::Datagram { server, .. } => Some(server),
            _ => {
                turn.servers[usize::from(allocation.server)]
                    .addresses
                    .first()
            }
            .copied(),
        }
    }

    /// What sets the foundations of relayed candidates of one address apart: their server, and how it is reached.
    fn group_of_relay(&self, relay: u16) -> u16 {
        let turn = self.relaying();
        let server = turn.allocations[usize::from(relay)].server;
        let transport = match turn.servers[usize::from(server)].config.transport {
            TurnTransport::Udp => 0,
            TurnTransport::Stream(StreamTransport::Dtls) => 1,
            TurnTransport::Stream(StreamTransport::Tcp) => 2,
            TurnTransport::Stream(StreamTransport::Tls) => 3,
        };
        let asked = self.asked_at(relay).map(|asked| asked.ip());
        let number = self.number_of_server(asked, Origin::Turn(server));
        1 + 4 * number as u16 + transport
    }

    /// The agent's address as the server of this relayed address sees it.
    pub(in crate::agent) fn mapped_of(&self, relay: u16) -> Option<SocketAddr> {
        self.turn.as_ref()?.allocations[usize::from(relay)].mapped
    }

    /// The socket from which this relay is reached, unless it is reached by a connection.
    pub(in crate::agent) fn below(&self, relay: u16) -> Option<u16> {
        match self.turn.as_ref()?.allocations[usize::from(relay)].route {
            Route::Datagram { socket, .. } => Some(socket),
            _ => None,
        }
    }

    /// The local address from which this relay is reached.
    pub(in crate::agent) fn reached_from(&self, relay: u16) -> Option<IpAddr> {
        match self.below(relay) {
            Some(socket) => Some(self.sockets[usize::from(socket)].address.ip()),
            None => self.turn.as_ref()?.allocations[usize::from(relay)].leaves_from,
        }
    }

    /// A local address is gone: so is what was allocated from it.
    pub(in crate::agent) fn carrier_is_gone(
        &mut self,
        shared: &mut Shared,
        now: Time,
        socket: u16,
    ) {
        let count = self.turn.as_ref().map_or(0, |turn| turn.allocations.len());
        for index in 0..count {
            let route = &self.relaying().allocations[index].route;
            if matches!(route, Route::Datagram { socket: on, .. } if *on == socket) {
                self.drop_bases(shared, now, index);
                self.end_allocation(shared, index);
            }
        }
    }

    /// The relayed addresses are gone, and the pairs with them.
    pub(in crate::agent) fn drop_bases(&mut self, shared: &mut Shared, now: Time, index: usize) {
        let had_path = self.carrier().is_some();
        for base in core::mem::take(&mut self.relaying_mut().allocations[index].bases) {
            self.sockets[usize::from(base)].usable = false;
            self.take_back(shared, base);
            let pairs: Vec<_> = self
                .current
                .pairs
                .iter()
                .filter(|(_, pair)| pair.socket == base)
                .map(|(id, _)| id)
                .collect();
            for pair in pairs {
                self.check_failed(shared, now, pair, true);
            }
            self.previous_path_is_gone(shared, now, |socket| socket == base);
        }
        if had_path && self.carrier().is_none() {
            self.restart_due = RestartDue::At(now);
        }
    }
}
