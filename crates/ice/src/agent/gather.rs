//! Gathering candidates (RFC 8445 section 5.1.1).

use super::mobility::RestartDue;
use core::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use core::time::Duration;

use nilas_stun::{Class, Message};
use smallvec::SmallVec;

use super::generation::{Generation, LocalCandidate, Origin};
use super::select::NETWORK_COST;
use super::transaction::{Purpose, Transaction};
use super::translator::{direct_address_for, reflexive_preference};
use super::trickle::plain;
use super::{Agent, Bind, Duty, Socket};
use crate::candidate::{Candidate, CandidateAddress, CandidateType, Foundation, Transport};
use crate::config::{AgentConfig, StunServer, TcpCandidates, TurnTransport};
use crate::event::{CandidateError, Event, GatheringState, State};
use crate::ids::{RequestId, SocketId};
use crate::io::{BindError, Command, Interface, ResolveError, StreamTransport};
use crate::shared::Shared;
use nilas_turn::Time;

/// RFC 8445 section 5.1.1.4: server-reflexive candidates are kept alive until ICE is done; Tr is 15 s
/// (section 11).
const KEEPALIVE: Duration = Duration::from_secs(15);
/// A server that did not answer is asked again after this, and after twice as long each time.
const FIRST_REST: Duration = Duration::from_secs(5);
/// So often in all is a server asked from a socket that does not answer there.
const MAX_QUESTIONS: u8 = 5;
/// More server-reflexive and peer-reflexive local candidates than this are not kept.
pub(super) const MAX_LOCALS: usize = 128;

/// A STUN server and what its name resolved to.
#[derive(Debug)]
pub(super) struct Server {
    url: Box<str>,
    host: Box<str>,
    port: u16,
    pub(super) addresses: Vec<SocketAddr>,
    request: Option<RequestId>,
    resolved: bool,
    /// It is a TURN server that is reached over TCP, and answers questions over TCP only. What is wrong with it is told where
    /// its allocation is.
    is_relay: bool,
}

impl Server {
    pub(super) fn new(server: &StunServer) -> Self {
        Self::at(server.url(), &server.host, server.port)
    }

    /// The servers that an agent asks what they see of it.
    pub(super) fn all_of(config: &AgentConfig) -> Vec<Self> {
        let mut servers: Vec<_> = config.stun_servers.iter().map(Self::new).collect();
        // RFC 6544 section 5.2.
        if config.tcp == TcpCandidates::All {
            let over_tcp = TurnTransport::Stream(StreamTransport::Tcp);
            let relays = { config.turn_servers.iter() }.filter(|own| own.transport == over_tcp);
            servers.extend(relays.map(|relay| Self {
                is_relay: true,
                ..Self::at(relay.url(), &relay.host, relay.port)
            }));
        }
        servers
    }

    fn at(url: String, host: &str, port: u16) -> Self {
        let literal = host.trim_matches(['[', ']']).parse::<IpAddr>().ok();
        Self {
            url: url.into(),
            host: host.into(),
            port,
            addresses: literal
                .map(|ip| SocketAddr::new(ip, port))
                .into_iter()
                .collect(),
            request: None,
            resolved: literal.is_some(),
            is_relay: false,
        }
    }
}

/// Why a server's name is of no use.
pub(super) const fn unresolved(error: ResolveError) -> &'static str {
    match error {
        ResolveError::NotFound => "there is no such name",
        ResolveError::TimedOut => "the name server did not answer",
        ResolveError::Other => "the name could not be resolved",
    }
}

/// Whether a socket may be another agent's as well.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sharing {
    Shared,
    Alone,
}

/// One question to one server from one socket.
#[derive(Debug)]
pub(super) struct Job {
    socket: u16,
    server: u16,
    address: SocketAddr,
    state: JobState,
    /// How often it was asked without an answer; over TCP, how often a connection has been there for it.
    unanswered: u8,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum JobState {
    /// To be asked in a pacing slot.
    Waiting,
    Asked,
    /// Not answered; asked again at this time, while the answer is of use. Nothing waits for it any more.
    Silent {
        next: Time,
    },
    AskedAgain,
    /// Answered; asked again at this time, to keep the NAT's binding.
    Answered {
        next: Time,
    },
    Failed,
}

impl Job {
    /// Whether gathering waits for it.
    const fn is_open(&self) -> bool {
        matches!(self.state, JobState::Waiting | JobState::Asked)
    }

    fn goes_to(&self, socket: u16, server: SocketAddr) -> bool {
        self.socket == socket && plain(self.address) == server
    }
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
        for server in &mut self.servers {
            if !server.resolved && server.request.is_none() {
                let request = shared.request(self.id);
                server.request = Some(request);
                let (name, port) = (server.host.to_string(), server.port);
                shared.command(Command::Resolve {
                    request,
                    name,
                    port,
                });
            }
        }
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

    /// The answer to a resolution.
    pub(crate) fn resolved(
        &mut self,
        shared: &mut Shared,
        request: RequestId,
        result: Result<&[SocketAddr], ResolveError>,
    ) {
        if self.turn_resolved(shared, request, result) {
            return;
        }
        let Some(index) = self
            .servers
            .iter()
            .position(|server| server.request == Some(request))
        else {
            return;
        };
        let server = &mut self.servers[index];
        server.request = None;
        server.resolved = true;
        match result {
            // More than one address of a family is of no use, and the list is the outside's.
            Ok(addresses) => server.addresses = addresses.iter().copied().take(8).collect(),
            Err(_) if server.is_relay => {}
            Err(error) => {
                let error = self.server_error(index as u16, None, 701, unresolved(error));
                self.emit(shared, Event::CandidateError(error));
            }
        }
        for socket in 0..self.sockets.len() as u16 {
            self.add_job(shared, socket, index as u16);
        }
        self.finish_gathering(shared);
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

    /// What the configuration says that a local address is outside: in its place, and beside it.
    fn external(&self, local: SocketAddr) -> (Option<SocketAddr>, Option<SocketAddr>) {
        let of = |replaces: bool| {
            let mut known = self.settings.external_addresses().iter();
            let found = known.find(|own| own.replaces == replaces && own.is_of(local.ip()));
            found.map(|own| SocketAddr::new(own.external, local.port()))
        };
        (of(true), of(false))
    }

    /// Has a server asked from a socket, unless it is being asked or cannot be reached.
    pub(super) fn add_job(&mut self, shared: &Shared, socket: u16, server: u16) {
        let own = self.sockets[usize::from(socket)];
        let is_tcp = own.tcp().is_some();
        let servers = &self.servers[usize::from(server)];
        if !self.asks_servers(&own) || servers.is_relay && !is_tcp {
            return;
        }
        let base = own.address.ip();
        // Through a translator a server tells another address than directly.
        let far = self.far_address_for(shared, &servers.addresses, base);
        let asked = direct_address_for(&servers.addresses, base)
            .into_iter()
            .chain(far);
        for address in asked {
            // From one port there is one connection to a server, whatever it is there for.
            let known = |job: &Job| {
                (job.socket, job.address) == (socket, address) && (is_tcp || job.server == server)
            };
            if !self.current.jobs.iter().any(known) {
                self.current.jobs.push(Job {
                    socket,
                    server,
                    address,
                    state: JobState::Waiting,
                    unanswered: 0,
                });
            }
        }
    }

    /// Keeps a local candidate and tells it, unless it is redundant (RFC 8445 section 5.1.3).
    pub(super) fn add_local(&mut self, shared: &mut Shared, candidate: LocalCandidate) {
        let is_full = self.current.locals.len() >= MAX_LOCALS;
        let transport = |local: &LocalCandidate| self.sockets[usize::from(local.socket)].tcp();
        let own = transport(&candidate);
        let is_host = candidate.kind == CandidateType::Host;
        // What a server sees is no repetition of a name (draft-ietf-mmusic-mdns-ice-candidates-03, 3.1.2.2).
        let repeats = |known: &LocalCandidate| {
            known.address == candidate.address
                && transport(known) == own
                && (is_host || self.own_name(known).is_none())
        };
        let known = self.current.locals.iter().position(repeats);
        // RFC 8838 section 13: after end-of-candidates none is told any more.
        if self.current.local_ended {
            return;
        }
        match known {
            // What a server sees may be told even if it is a local address that may not.
            Some(known)
                if self.settings.hides_hosts()
                    && self.current.locals[known].kind == CandidateType::Host
                    && !is_host =>
            {
                self.current.locals[known] = candidate;
            }
            // It is back: what a gateway forwards comes and goes.
            Some(known) if self.current.locals[known].removed => {
                self.current.locals[known] = candidate;
            }
            // A check has taught it, which the peer knows of one socket only, and of no other that could reach it there.
            Some(known)
                if self.current.locals[known].kind == CandidateType::Prflx
                    && !self.current.concluded =>
            {
                self.current.locals[known] = candidate;
            }
            Some(_) => return,
            None if is_full => return,
            None => self.current.locals.push(candidate),
        }
        if self.is_told(&candidate) {
            self.register_name(shared, &candidate);
            let told = self.candidate(&self.current, &candidate);
            self.emit(shared, Event::Candidate(told));
        }
    }

    /// Whether the peer is told of a local candidate: not of what a check has taught, nor of what is hidden.
    pub(super) fn is_told(&self, local: &LocalCandidate) -> bool {
        match local.kind {
            CandidateType::Prflx => false,
            CandidateType::Host => !self.settings.hides_hosts(),
            CandidateType::Srflx | CandidateType::Relay => true,
        }
    }

    /// A local candidate as it is told.
    pub(super) fn candidate(&self, generation: &Generation, local: &LocalCandidate) -> Candidate {
        let foundation = Foundation::from_number(local.foundation);
        let mut candidate =
            Candidate::new(local.kind, plain(local.address), local.priority, foundation);
        candidate.component = self.component();
        if let Some(name) = self.own_name(local) {
            let port = local.address.port();
            candidate.address = CandidateAddress::Name {
                name: name.into(),
                port,
            };
        }
        let base = &self.sockets[usize::from(local.socket)];
        if let Some(tcp_type) = base.tcp() {
            candidate.transport = Transport::Tcp(tcp_type);
        }
        candidate.related = match (local.kind, base.relay) {
            (CandidateType::Host, _) => None,
            // RFC 8839 sections 5.1 and 9.1: the mapped address, or nothing where it is nobody's business.
            (CandidateType::Relay, Some(relay)) => Some(
                self.mapped_of(relay)
                    .filter(|_| !self.settings.relay_only() && !self.settings.hides_bases())
                    .map_or_else(|| unspecified(base.address), plain),
            ),
            // The base, unless it is replaced by what it is outside, or hidden.
            _ if self.settings.hides_bases() => Some(unspecified(base.address)),
            _ => Some(plain(self.external(base.address).0.unwrap_or(base.address))),
        };
        if base.network_cost > 0 {
            let cost = base.network_cost.to_string().into();
            candidate.extensions.push((NETWORK_COST.into(), cost));
        }
        candidate.ufrag = Some(generation.local.ufrag.shared());
        candidate
    }

    /// The next question to a server, if one is due.
    pub(super) fn next_job(&mut self, now: Time) -> Option<(u16, u16, SocketAddr)> {
        let is_due = |job: &Job| self.question_due(job).is_some_and(|at| at <= now);
        let index = self.current.jobs.iter().position(is_due)?;
        let job = &mut self.current.jobs[index];
        job.state = match job.state {
            JobState::Answered { .. } => JobState::Answered {
                next: now + KEEPALIVE,
            },
            JobState::Silent { .. } => JobState::AskedAgain,
            _ => JobState::Asked,
        };
        Some((index as u16, job.socket, job.address))
    }

    /// When `next_job` has one.
    pub(super) fn jobs_deadline(&self) -> Option<Time> {
        let jobs = self.current.jobs.iter();
        jobs.filter_map(|job| self.question_due(job)).min()
    }

    fn question_due(&self, job: &Job) -> Option<Time> {
        match job.state {
            JobState::Waiting => Some(Time::ZERO),
            JobState::Answered { next } => Some(next).filter(|_| self.keeps_alive()),
            JobState::Silent { next } => Some(next).filter(|_| self.needs_more(job)),
            JobState::Asked | JobState::AskedAgain | JobState::Failed => None,
        }
    }

    /// Whether what a server may yet say of a socket is of use: a path is still looked for, or what is found may be told
    /// at any time.
    fn needs_more(&self, job: &Job) -> bool {
        let is_there = self.sockets[usize::from(job.socket)].usable;
        is_there && (self.current.selected.is_none() || self.is_continual())
    }

    fn keeps_alive(&self) -> bool {
        // Whoever answers a restart late meets candidates that still hold.
        let waits = self.state != State::Failed || self.current.abandoned;
        self.current.selected.is_none() && waits
    }

    /// A server answered, with an address or an error.
    ///
    /// STUN servers are asked without credentials, so nothing authenticates the answer but the
    /// transaction id and the address it comes from (RFC 8489 section 6.3.3). What it can change is
    /// only which address is offered to the peer.
    pub(super) fn job_answered(
        &mut self,
        shared: &mut Shared,
        now: Time,
        transaction: &Transaction,
        message: &Message<'_>,
    ) {
        let Purpose::Gather { generation, job } = transaction.purpose else {
            return;
        };
        if generation != self.current.number {
            return;
        }
        if let Some(rtt) = transaction.round_trip(now) {
            self.round_trip = Some(rtt);
        }
        let Job {
            socket,
            server,
            address,
            state,
            ..
        } = self.current.jobs[usize::from(job)];
        let (first, late) = (state == JobState::Asked, state == JobState::AskedAgain);
        let is_tcp = self.sockets[usize::from(socket)].tcp().is_some();
        let mapped = match message.class() {
            Class::SuccessResponse => message.xor_mapped_address().ok().flatten(),
            _ => None,
        };
        // A server that was asked through a translator has seen that one's IPv4 address.
        let Some(mapped) =
            mapped.filter(|mapped| (mapped.is_ipv4() || address.is_ipv6()) && mapped.port() != 0)
        else {
            let (code, reason) = match message.error_code() {
                Ok(Some(error)) => (error.code(), error.reason()),
                _ => (701, "the server's answer has no mapped address"),
            };
            if !is_tcp {
                let error = self.server_error(server, Some(socket), code, reason);
                self.emit(shared, Event::CandidateError(error));
            }
            self.end_job(shared, job);
            return;
        };
        // RFC 8838 section 13: after the end of candidates only what was agreed on lets more follow.
        if late && self.current.local_ended && self.is_continual() {
            // Until it is told, gathering is not complete.
            self.current.jobs[usize::from(job)].state = JobState::Asked;
            self.gather_more(shared);
        } else if late && self.current.local_ended && self.carrier().is_none() {
            self.restart_due = RestartDue::At(now.max(self.restart_after));
        }
        self.current.jobs[usize::from(job)].state = JobState::Answered {
            next: now + KEEPALIVE,
        };
        let origin = Origin::Stun(server);
        let server = 1_000_000 + 1_000 * u32::from(server);
        self.add_reflexive(shared, socket, mapped, (origin, server));
        if is_tcp {
            self.add_active_reflexive(shared, socket, mapped, (origin, server));
        }
        if first || late {
            self.finish_gathering(shared);
        }
    }

    /// The server-reflexive candidate of what a server sees of a socket. `server` is what sets its foundation apart from
    /// those of other servers.
    pub(super) fn add_reflexive(
        &mut self,
        shared: &mut Shared,
        socket: u16,
        address: SocketAddr,
        (origin, server): (Origin, u32),
    ) {
        let mut base = self.sockets[usize::from(socket)];
        base.preference = reflexive_preference(&base, address);
        self.add_local(
            shared,
            LocalCandidate {
                address,
                socket,
                kind: CandidateType::Srflx,
                origin,
                removed: false,
                priority: base.priority(CandidateType::Srflx, self.component()),
                // RFC 8445 section 5.1.1.3: type, base address and server make the foundation.
                foundation: server + base.foundation,
            },
        );
    }

    pub(super) fn job_timed_out(
        &mut self,
        shared: &mut Shared,
        now: Time,
        generation: u32,
        job: u16,
    ) {
        if generation != self.current.number {
            return;
        }
        let own = &mut self.current.jobs[usize::from(job)];
        let (state, server, socket) = (own.state, own.server, own.socket);
        if !matches!(state, JobState::Asked | JobState::AskedAgain) {
            return;
        }
        if self.sockets[usize::from(socket)].tcp().is_some() {
            let address = own.address;
            return self.give_up_server(shared, socket, address);
        }
        own.unanswered += 1;
        own.state = match own.unanswered {
            MAX_QUESTIONS.. => JobState::Failed,
            asked => JobState::Silent {
                next: now + FIRST_REST * (1 << (asked - 1)),
            },
        };
        if state == JobState::Asked {
            let error = self.server_error(server, Some(socket), 701, "the server did not answer");
            self.emit(shared, Event::CandidateError(error));
            self.finish_gathering(shared);
        }
    }

    /// The connection to a server is there: the question has its turn.
    pub(super) fn ask_when_connected(&mut self, now: Time, socket: u16, server: SocketAddr) {
        let mut jobs = self.current.jobs.iter_mut();
        let Some(job) = jobs.find(|job| job.goes_to(socket, server)) else {
            return;
        };
        match &mut job.state {
            JobState::Asked => {
                job.state = JobState::Waiting;
                job.unanswered = 1;
            }
            JobState::Answered { next } => *next = now,
            _ => {}
        }
    }

    /// A connection to a server is gone, or there is none: what was to be asked on it has no answer.
    pub(super) fn end_job_over(&mut self, shared: &mut Shared, socket: u16, server: SocketAddr) {
        let tried = |job: &Job| match job.state {
            JobState::Waiting => job.unanswered > 0,
            state => state == JobState::Asked,
        };
        let mut jobs = self.current.jobs.iter();
        if let Some(job) = jobs.position(|job| job.goes_to(socket, server) && tried(job)) {
            self.end_job(shared, job as u16);
        }
    }

    pub(super) fn has_open_job(&self, socket: u16, server: SocketAddr) -> bool {
        let mut jobs = self.current.jobs.iter();
        jobs.any(|job| job.goes_to(socket, server) && job.is_open())
    }

    fn end_job(&mut self, shared: &mut Shared, job: u16) {
        self.current.jobs[usize::from(job)].state = JobState::Failed;
        self.finish_gathering(shared);
    }

    fn server_error(
        &self,
        server: u16,
        socket: Option<u16>,
        code: u16,
        text: &str,
    ) -> CandidateError {
        // W3C's icecandidateerror: not where a local candidate does not show it.
        let base = socket
            .filter(|_| !self.settings.hides_bases())
            .map(|socket| self.sockets[usize::from(socket)].address);
        CandidateError {
            address: base.map(|base| base.ip().to_string()),
            port: base.map(|base| base.port()),
            url: self.servers[usize::from(server)].url.to_string(),
            error_code: code,
            error_text: text.chars().filter(|c| !c.is_control()).take(128).collect(),
        }
    }

    /// The server that told a candidate.
    pub(super) fn server_url(&self, candidate: &LocalCandidate) -> Option<&str> {
        match candidate.origin {
            Origin::Local | Origin::Gateway => None,
            Origin::Stun(server) => Some(&self.servers[usize::from(server)].url),
            Origin::Turn(server) => self.turn.as_ref()?.url(server),
        }
    }

    /// How the TURN server of a relayed candidate is reached.
    pub(super) fn relay_protocol(&self, candidate: &LocalCandidate) -> Option<&'static str> {
        match (candidate.kind, candidate.origin) {
            (CandidateType::Relay, Origin::Turn(server)) => self.turn.as_ref()?.protocol(server),
            _ => None,
        }
    }

    /// Tells of the servers that no local address can reach: IPv6 only from IPv4 only, or loopback.
    fn report_unreachable(&self, shared: &mut Shared) {
        for (index, server) in self.servers.iter().enumerate() {
            let asked = self
                .current
                .jobs
                .iter()
                .any(|job| usize::from(job.server) == index);
            if !asked
                && !server.is_relay
                && !self.settings.relay_only()
                && !server.addresses.is_empty()
                && !self.sockets.is_empty()
            {
                let text = "no local address can reach the server";
                let error = self.server_error(index as u16, None, 701, text);
                self.emit(shared, Event::CandidateError(error));
            }
        }
    }

    /// Tells the end of gathering when nothing more can come (RFC 8838 section 13).
    pub(super) fn finish_gathering(&mut self, shared: &mut Shared) {
        let done = self.gathering == GatheringState::Gathering
            && self.interfaces_seen
            && self.binds.is_empty()
            && self.servers.iter().all(|server| server.resolved)
            && !self.awaits_translator(shared)
            && !self.awaits_gateway(shared)
            && self.relays_done()
            && !self.current.jobs.iter().any(Job::is_open);
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

/// RFC 8839 section 9.1: what is not told.
const fn unspecified(like: SocketAddr) -> SocketAddr {
    match like {
        SocketAddr::V4(_) => SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 9),
        SocketAddr::V6(_) => SocketAddr::new(IpAddr::V6(Ipv6Addr::UNSPECIFIED), 9),
    }
}
