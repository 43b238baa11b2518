//! What all agents of an engine share while one of them works.

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::collections::VecDeque;

use nilas_stun::TransactionId;

use crate::candidate::Candidate;
use crate::config::EngineConfig;
use crate::counters::Counters;
use crate::demux::Demux;
use crate::event::{Event, SessionEvent};
use crate::ids::{AgentId, RequestId, SessionId, SocketId};
use crate::io::{Command, Interface};
use crate::mux::{Joined, Mux};
use crate::nat64::Nat64;
use crate::port_mapping::PortMappings;
use crate::source::Source;
use nilas_turn::Time;

/// More responses than this are not kept waiting for the driver to poll.
const MAX_RESPONSES: usize = 1024;
/// More bases than this are not told apart: foundations leave room for a thousand.
const MAX_BASES: usize = 512;

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) config: EngineConfig,
    pub(crate) source: Source,
    pub(crate) demux: Demux,
    pub(crate) interfaces: Option<Vec<Interface>>,
    pub(crate) nat64: Nat64,
    pub(crate) counters: Counters,
    pub(crate) mux: Mux,
    pub(crate) port_mappings: PortMappings,
    /// Bases of the components of sessions, by their address and what kind they are, to number them.
    bases: Vec<(IpAddr, u16)>,
    /// Candidates whose names are being resolved.
    pub(crate) names: Vec<Named>,
    outbox: VecDeque<Queued>,
    responses: usize,
    next_request: u32,
    next_virtual: u32,
    /// The earliest moment for the next new transaction of any agent.
    pub(crate) pace_at: Time,
}

/// A candidate of an agent's peer whose name is being resolved.
#[derive(Debug)]
pub(crate) struct Named {
    pub(crate) request: RequestId,
    pub(crate) agent: AgentId,
    pub(crate) generation: u32,
    pub(crate) candidate: Candidate,
}

/// Something that `poll` will give, in this order.
#[derive(Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "few at a time: a box would be an allocation each"
)]
pub(crate) enum Queued {
    Event(AgentId, Event),
    SessionEvent(SessionId, SessionEvent),
    Command(Command),
    /// A shared socket that is bound already, for the agent that asked.
    Bound(RequestId, SocketId, SocketAddr),
    Response(Response),
}

/// An answer to a check, to be written when there is a buffer.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Response {
    pub(crate) slot: u32,
    pub(crate) generation: u32,
    pub(crate) socket: SocketId,
    pub(crate) remote: SocketAddr,
    pub(crate) id: TransactionId,
    pub(crate) answer: Answer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    Success,
    RoleConflict,
    BadRequest,
    /// Error 420 with the first few of the attributes not understood.
    UnknownAttributes {
        count: u8,
        types: [u16; 4],
    },
}

impl Shared {
    /// What the network costs that has this local address.
    pub(crate) fn network_cost(&self, ip: IpAddr) -> u16 {
        self.interfaces
            .iter()
            .flatten()
            .find(|interface| interface.addresses.contains(&ip))
            .map_or(0, |interface| interface.cost.min(999))
    }

    /// A local address that the system would reach a far server from. Where the server's is not known, and each family has its
    /// own way, that is by the cheaper.
    pub(crate) fn default_address(&self, server: Option<SocketAddr>) -> Option<IpAddr> {
        let leads = |own: &&IpAddr| server.is_none_or(|server| server.is_ipv4() == own.is_ipv4());
        let interfaces = || {
            let all = self.interfaces.iter().flatten();
            all.filter_map(|one| Some((one, *one.addresses.iter().find(leads)?)))
        };
        let routed = interfaces().any(|(interface, _)| interface.default_route);
        let ways = interfaces().filter(|(interface, _)| interface.default_route || !routed);
        let cheapest = ways.min_by_key(|(interface, _)| interface.cost)?;
        Some(cheapest.1)
    }

    pub(crate) fn new(config: EngineConfig, mut source: Source) -> Self {
        let demux = Demux::new(&mut source);
        Self {
            config,
            source,
            demux,
            interfaces: None,
            nat64: Nat64::default(),
            counters: Counters::default(),
            mux: Mux::default(),
            port_mappings: PortMappings::default(),
            bases: Vec::new(),
            names: Vec::new(),
            outbox: VecDeque::new(),
            responses: 0,
            next_request: 0,
            next_virtual: 0,
            pace_at: Time::ZERO,
        }
    }

    pub(crate) fn event(&mut self, agent: AgentId, event: Event) {
        self.outbox.push_back(Queued::Event(agent, event));
    }

    pub(crate) fn session_event(&mut self, session: SessionId, event: SessionEvent) {
        self.outbox.push_back(Queued::SessionEvent(session, event));
    }

    /// The number of a base among those of all sessions; bases of one address and group have the same.
    pub(crate) fn number_of_base(&mut self, ip: IpAddr, group: u16) -> u32 {
        if let Some(known) = self.bases.iter().position(|known| *known == (ip, group)) {
            return known as u32;
        }
        // A machine whose addresses change for years must not fill its memory with them. Two of a number only thaw together.
        if self.bases.len() == MAX_BASES {
            self.bases.clear();
        }
        self.bases.push((ip, group));
        self.bases.len() as u32 - 1
    }

    pub(crate) fn command(&mut self, command: Command) {
        self.outbox.push_back(Queued::Command(command));
    }

    /// Asks for a socket that other agents may have as well, if the engine is to share them.
    pub(crate) fn bind(&mut self, request: RequestId, mut address: SocketAddr) {
        let Some(port) = self.config.shared_port else {
            return self.bind_alone(request, address);
        };
        address.set_port(port);
        match self.mux.join(request, address) {
            Joined::First => self.command(Command::Bind { request, address }),
            Joined::Waits => {}
            Joined::Bound(id, address) => {
                self.outbox.push_back(Queued::Bound(request, id, address));
            }
        }
    }

    /// Asks for a socket that no other agent has.
    pub(crate) fn bind_alone(&mut self, request: RequestId, address: SocketAddr) {
        self.command(Command::Bind { request, address });
    }

    /// An agent needs a socket no more.
    pub(crate) fn close_socket(&mut self, socket: SocketId) {
        if self.mux.leave(socket) {
            self.command(Command::CloseSocket(socket));
        }
    }

    pub(crate) fn respond(&mut self, response: Response) {
        if self.responses == MAX_RESPONSES {
            self.counters.responses_dropped += 1;
            return;
        }
        self.responses += 1;
        self.outbox.push_back(Queued::Response(response));
    }

    pub(crate) fn next_queued(&mut self) -> Option<Queued> {
        let queued = self.outbox.pop_front()?;
        if matches!(queued, Queued::Response(_)) {
            self.responses -= 1;
        }
        Some(queued)
    }

    /// A number for a socket of the engine's own. Two thousand million of them are more than an engine
    /// lives to see.
    pub(crate) fn virtual_socket(&mut self) -> SocketId {
        self.next_virtual = self.next_virtual.wrapping_add(1);
        SocketId::virtual_with(self.next_virtual)
    }

    /// A request whose answer belongs to this agent: the id says to which slot, and the agent knows
    /// which requests are its own.
    pub(crate) fn request(&mut self, agent: AgentId) -> RequestId {
        self.next_request = self.next_request.wrapping_add(1);
        RequestId(u64::from(agent.0.slot) << 32 | u64::from(self.next_request))
    }

    /// `N` random ice-chars: 6 bits each.
    pub(crate) fn ice_chars<const N: usize>(&mut self) -> [u8; N] {
        let mut random = [0; N];
        self.source.fill_bytes(&mut random);
        random.map(ice_char)
    }

    /// The same, for a password: a recording gets a stand-in for it.
    pub(crate) fn secret_ice_chars<const N: usize>(&mut self) -> [u8; N] {
        let mut random = [0; N];
        self.source.fill_secret(&mut random);
        random.map(ice_char)
    }

    /// A duration between `low` and `high`, evenly.
    pub(crate) fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_nanos() as u64;
        low + Duration::from_nanos(self.source.next_u64() % span.max(1))
    }
}

/// An ice-char of the low 6 bits.
pub(crate) fn ice_char(random: u8) -> u8 {
    const ICE_CHARS: &[u8; 64] =
        b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    ICE_CHARS[usize::from(random & 63)]
}
