//! An agent: one session's state machine, fed and polled by the engine.
//!
//! | room | what happens there | RFC |
//! |---|---|---|
//! | [`gather`] | sockets on the machine's addresses, and their candidates | 8445 section 5.1.1 |
//! | [`reflexive`] | what servers see of them: STUN | 8445 section 5.1.1.2 |
//! | [`relay`] | relayed candidates: TURN | 8656 |
//! | [`mapped`] | those that the network's gateway tells | 6544 section 5.3 |
//! | [`translator`] | IPv4 from a network of IPv6 only | 8445 section 5.1.1.2 |
//! | [`local`] | which candidates are kept and told | 8445 section 5.1.3 |
//! | [`trickle`] | the peer's candidates come in | 8838 |
//! | [`names`] | those that are names are resolved | |
//! | [`hidden`] | own addresses are told as names | |
//! | [`checklist`], [`pair`] | pairs are formed, ordered, thawed, given up | 8445 section 6.1.2 |
//! | [`check`], [`transaction`] | checks go out, paced, and again | 8445 sections 6.1.4, 7.2.2, 14 |
//! | [`response`] | answers to our checks | 8445 section 7.2.5 |
//! | [`request`], [`role`] | checks of the peer | 8445 section 7.3 |
//! | [`select`] | the best pair carries the data | 8445 section 12.1 |
//! | [`nominate`] | the best pair is settled | 8445 section 8 |
//! | [`consent`] | the path is watched | 7675 |
//! | [`standby`] | another path takes over | |
//! | [`mtu`] | how long its datagrams may be | 8899 |
//! | [`tcp`] | paths over TCP | 6544 |
//! | [`reflexive_tcp`] | what servers see of TCP candidates | 6544 section 5.2 |
//! | [`lite`] | an agent that only answers | 8445 sections 2.5, 8.2 |
//! | [`mobility`] | the machine's addresses change | 8445 section 9 |
//! | [`component`] | one of several components of a session | 8445 section 4 |
//! | [`generation`], [`restart`] | what a restart replaces, and how | 8445 section 9 |
//! | [`state`] | W3C states, patience | 8863 |
//! | [`report`], [`carried`] | statistics | |

use core::net::{IpAddr, SocketAddr};
use core::time::Duration;
use std::sync::Arc;

use smallvec::SmallVec;

use self::component::{Place, Seat};
use self::generation::{Generation, LocalCredentials};
use self::hidden::NameKey;
use self::mobility::RestartDue;
use self::transaction::Transaction;
use self::ufrag::Ufrag;
use crate::candidate::{CandidateType, TcpType, priority, tcp_priority};
use crate::config::{
    AddressPolicy, AgentConfig, ExternalAddress, InterfaceFilter, MdnsCandidates, Mode, PortRange,
    TcpCandidates,
};
use crate::dscp::Dscp;
use crate::error::AgentError;
use crate::event::{Event, GatheringState, Role, State};
use crate::ids::{AgentId, RequestId, SocketId};
use crate::io::Interface;
use crate::path::{Departure, NoPath, PathCell};
use crate::selection::SelectionPolicy;
use crate::shared::Shared;
use crate::verdict::Verdict;
use nilas_turn::Time;

mod carried;
mod check;
mod checklist;
pub(crate) mod component;
mod consent;
mod gather;
mod generation;
mod hidden;
mod lite;
mod local;
mod mapped;
mod mobility;
mod mtu;
mod names;
mod nominate;
mod pair;
mod reflexive;
mod reflexive_tcp;
pub(crate) mod relay;
mod report;
mod request;
mod response;
mod restart;
mod role;
mod select;
mod standby;
mod state;
mod tcp;
mod transaction;
mod translator;
mod trickle;
mod ufrag;

/// Remotes that data is accepted from, at most: those of the latest authenticated exchanges.
const MAX_KNOWN_REMOTES: usize = 64;

/// What watching a path needs comes first, in one piece, and what only finding one needs after it: with
/// many agents each line of memory that an idle one touches has left the caches since its last turn. Hence
/// `repr(C)`, here and in what lies inside.
#[derive(Debug)]
#[repr(C, align(64))]
pub(crate) struct Agent {
    pub(crate) id: AgentId,
    /// The engine's timer for this agent.
    pub(crate) armed: Option<Time>,
    /// When it has something to do, as of the last change: never earlier than the timer.
    pub(crate) due: Option<Time>,
    pub(crate) state: State,
    pub(crate) role: Role,
    pub(crate) gathering: GatheringState,
    /// Whether this agent stands in the engine's queue for a pacing slot.
    pub(crate) awaits_slot: bool,
    pub(crate) closed: bool,
    /// It is closed, and its allocations were given back: the engine may forget it.
    pub(crate) gone: bool,
    /// Whether the machine's interfaces were looked at since gathering began.
    interfaces_seen: bool,
    tie_breaker: u64,
    /// The TURN servers and what they gave, where there are any.
    turn: Option<Box<relay::Relaying>>,
    /// The latest round trip measured to anyone.
    round_trip: Option<Duration>,
    /// A restart because the machine's addresses changed.
    restart_due: RestartDue,
    path: Arc<PathCell>,
    /// The connections of TCP candidates, where there are any.
    tcp: Option<Box<tcp::Tcp>>,
    /// What is found out about the length of datagrams, where that is wanted.
    mtu: Option<Box<mtu::Discovery>>,
    /// Restarts of the agent's own accord in a row.
    restarts: u8,
    /// RFC 8445 section 2.5.
    lite: bool,
    /// How often the full peer of a lite agent has renewed its consent, in whatever generation: a restart makes no other
    /// peer of it.
    renewals: u8,
    /// How its datagrams are marked. Each visit asks.
    dscp: Dscp,
    /// Which of a stream's components it is; 0 if it is on its own.
    component: u16,
    recent_checks: request::Recent,
    // What an idle session has one of lies in place.
    sockets: SmallVec<[Socket; 1]>,
    known_remotes: SmallVec<[(SocketId, SocketAddr); 1]>,
    transactions: SmallVec<[Transaction; 1]>,
    current: Generation,
    /// The generation before, while it carries the data or is still answered (RFC 8445 section 9).
    previous: Option<Box<Generation>>,
    /// Our next new transaction may go out then (Ta, RFC 8445 section 14.2).
    pace_at: Time,
    settings: Settings,
    pub(crate) verdict: Option<Verdict>,
    binds: Vec<Bind>,
    servers: Vec<reflexive::Server>,
    selected_changes: u32,
    moves: select::Moves,
    /// No restart of the agent's own accord before this.
    restart_after: Time,
    /// What came by routes that are closed; the open ones count for themselves.
    received: Received,
    /// What pairs have carried, once the data has moved.
    carried: Option<Box<carried::Carried>>,
    /// The tie-breaker of the other role's checks, from before the role last changed.
    tie_breaker_before: u64,
    /// Where it stands in a session, if it is a component of one.
    pub(crate) seat: Option<Box<Seat>>,
}

/// What a packet is about to go through an agent for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Visit {
    /// To ask the peer, or with the peer's answer.
    Ask,
    /// To answer the peer.
    Answer,
}

/// Application data that came.
#[derive(Clone, Copy, Debug, Default)]
struct Received {
    packets: u64,
    bytes: u64,
    last: Time,
}

impl Received {
    fn add(&mut self, route: Option<&crate::demux::Route>) {
        if let Some(route) = route {
            self.packets += route.packets;
            self.bytes += route.bytes;
            self.last = self.last.max(route.last);
        }
    }
}

/// What a generation knows that a recording must not.
pub(crate) struct Secrets<'a> {
    pub(crate) generation: u32,
    pub(crate) pwd: &'a str,
    /// The peer's username fragment and key.
    pub(crate) remote: Option<(&'a str, &'a nilas_stun::Key)>,
}

/// What of its configuration an agent goes on to need.
#[derive(Debug)]
struct Settings {
    /// `None`: as by default.
    uncommon: Option<Box<Uncommon>>,
    patience: Duration,
    pacing_ms: u32,
    max_pairs: u16,
    max_peer_reflexive: u16,
    addresses: AddressPolicy,
    restarts_alone: bool,
    continual: bool,
    tcp: TcpCandidates,
    /// Whether the peer's names are looked for.
    mdns: bool,
    /// The length of packets that a path is taken to carry, in bytes.
    mtu: u16,
}

/// What most applications leave as it is.
#[derive(Debug)]
struct Uncommon {
    filter: InterfaceFilter,
    selection: Option<SelectionPolicy>,
    ports: Option<PortRange>,
    external_addresses: Vec<ExternalAddress>,
    /// Whether the network's gateway is asked to forward ports.
    maps_ports: bool,
    /// What host candidates are hidden with.
    name_key: Option<NameKey>,
}

impl Settings {
    fn filter(&self) -> &InterfaceFilter {
        static DEFAULT: InterfaceFilter = InterfaceFilter::DEFAULT;
        self.uncommon.as_ref().map_or(&DEFAULT, |own| &own.filter)
    }

    /// Whether an address of an interface may become the base of candidates.
    fn admits(&self, interface: &Interface, address: IpAddr) -> bool {
        self.admits_route(interface) && self.filter().admits(interface, address)
    }

    /// Whether a socket on this address may go on.
    fn keeps(&self, interface: &Interface, address: IpAddr) -> bool {
        self.admits_route(interface) && self.filter().keeps(interface, address)
    }

    /// RFC 8828 section 5.2: modes 2 and 3 keep to the default route.
    fn admits_route(&self, interface: &Interface) -> bool {
        match self.addresses {
            AddressPolicy::All | AddressPolicy::RelayOnly => true,
            AddressPolicy::DefaultRoute | AddressPolicy::DefaultRouteHidden => {
                interface.default_route
            }
        }
    }

    fn relay_only(&self) -> bool {
        self.addresses == AddressPolicy::RelayOnly
    }

    /// Whether local addresses are nobody's business.
    fn hides_hosts(&self) -> bool {
        self.addresses == AddressPolicy::DefaultRouteHidden
    }

    fn ports(&self) -> Option<PortRange> {
        self.uncommon.as_ref().and_then(|own| own.ports)
    }

    fn external_addresses(&self) -> &[ExternalAddress] {
        self.uncommon
            .as_ref()
            .map_or(&[], |own| &own.external_addresses)
    }

    fn maps_ports(&self) -> bool {
        self.uncommon.as_ref().is_some_and(|own| own.maps_ports)
    }

    fn name_key(&self) -> Option<&NameKey> {
        self.uncommon.as_ref()?.name_key.as_ref()
    }

    /// Whether the address that a candidate was found from is nobody's business.
    fn hides_bases(&self) -> bool {
        self.hides_hosts() || self.name_key().is_some()
    }

    fn selection(&self) -> Option<SelectionPolicy> {
        self.uncommon.as_ref().and_then(|own| own.selection)
    }

    const fn pacing(&self) -> Duration {
        Duration::from_millis(self.pacing_ms as u64)
    }
}

impl Uncommon {
    fn of(config: &AgentConfig, shared: &mut Shared) -> Option<Box<Self>> {
        let hides = config.mdns == MdnsCandidates::Hide;
        let is_default = config.filter == InterfaceFilter::DEFAULT
            && !hides
            && config.selection.is_none()
            && config.ports.is_none()
            && config.external_addresses.is_empty()
            && !config.port_mapping;
        (!is_default).then(|| {
            Box::new(Self {
                filter: config.filter.clone(),
                selection: config.selection,
                ports: config.ports,
                external_addresses: config.external_addresses.clone(),
                maps_ports: config.port_mapping,
                name_key: hides.then(|| NameKey::fresh(shared)),
            })
        })
    }
}

/// A bound local socket, or one that is a relayed transport address: the base of candidates.
#[derive(Clone, Copy, Debug)]
struct Socket {
    id: SocketId,
    address: SocketAddr,
    /// RFC 8445 section 5.1.2.1: the local preference, each its own.
    preference: u16,
    /// Equal for bases whose candidates of the same type have the same foundation (RFC 8445 section
    /// 5.1.1.3).
    foundation: u32,
    /// Whether the machine still has the address, as far as the latest gathering saw, or the server.
    usable: bool,
    /// Whether the policy lets this generation use it. The one before goes on with what it has.
    admitted: bool,
    /// The allocation whose relayed address it is.
    relay: Option<u16>,
    duty: Duty,
    /// What its network costs, 0 to 999.
    network_cost: u16,
}

/// What a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Duty {
    /// Checks and data, as datagrams.
    Datagrams,
    /// It only carries an allocation, and is no candidate's base.
    Carrier,
    /// Connections of ICE-TCP.
    Tcp(TcpType),
}

/// A socket that was asked for.
#[derive(Clone, Copy, Debug)]
struct Bind {
    request: RequestId,
    address: SocketAddr,
    preference: u16,
    /// The allocation that it is for, and nothing else.
    allocation: Option<u16>,
    duty: Duty,
    /// So many other ports are tried if this one is taken.
    other_ports: u16,
}

impl Socket {
    /// The type of the candidate whose base this is.
    const fn kind(&self) -> CandidateType {
        match self.relay {
            Some(_) => CandidateType::Relay,
            None => CandidateType::Host,
        }
    }

    /// Of a base of TCP candidates: who opens its connections.
    const fn tcp(&self) -> Option<TcpType> {
        match self.duty {
            Duty::Tcp(tcp_type) => Some(tcp_type),
            Duty::Datagrams | Duty::Carrier => None,
        }
    }

    /// Whether it is the base of a UDP host candidate.
    const fn is_udp_host(&self) -> bool {
        self.relay.is_none() && matches!(self.duty, Duty::Datagrams)
    }

    /// RFC 8445 section 5.1.2.1, RFC 6544 section 4.2: the priority of a candidate of this type.
    const fn priority(&self, kind: CandidateType, component: u16) -> u32 {
        match self.tcp() {
            None => priority(kind, self.preference, component),
            Some(tcp_type) => tcp_priority(kind, tcp_type, self.preference, component),
        }
    }
}

impl Agent {
    pub(crate) fn new(
        id: AgentId,
        config: AgentConfig,
        shared: &mut Shared,
        place: Option<Place>,
    ) -> Result<Self, AgentError> {
        let slot = id.0.slot;
        let lite = config.mode == Mode::Lite;
        let with_servers = !config.stun_servers.is_empty() || !config.turn_servers.is_empty();
        let asks_others = with_servers || config.port_mapping;
        if lite && (asks_others || config.addresses == AddressPolicy::RelayOnly) {
            return Err(AgentError::LiteHasHostsOnly);
        }
        let (component, seat, roles, local) = match place {
            Some(place) => {
                let seat = Some(Box::new(place.seat));
                (place.component, seat, place.roles, place.local)
            }
            None => (0, None, None, None),
        };
        let local = match (local, &config.credentials) {
            // The stream has claimed them.
            (Some(local), _) => local,
            (None, Some(given)) => {
                given.check_own()?;
                let local = restart::credentials(given.ufrag.as_str(), given.pwd.as_str().into())?;
                if !shared.demux.claim_ufrag(&local.ufrag, slot) {
                    return Err(AgentError::UfragInUse);
                }
                local
            }
            (None, None) => restart::fresh_credentials(shared, slot),
        };
        let uncommon = Uncommon::of(&config, shared);
        let servers = reflexive::Server::all_of(&config);
        let mut agent = Self {
            id,
            component,
            seat,
            role: config.role,
            tie_breaker: shared.source.next_u64(),
            tie_breaker_before: 0,
            state: State::New,
            verdict: None,
            gathering: GatheringState::New,
            interfaces_seen: false,
            sockets: SmallVec::new(),
            binds: Vec::new(),
            servers,
            turn: relay::Relaying::new(config.turn_servers),
            tcp: None,
            mtu: mtu::Discovery::new(config.mtu),
            current: Generation {
                answers_due: 1,
                ..Generation::new(0, local)
            },
            previous: None,
            transactions: SmallVec::new(),
            pace_at: Time::ZERO,
            awaits_slot: false,
            round_trip: None,
            path: Arc::new(PathCell::new()),
            selected_changes: 0,
            moves: select::Moves::default(),
            restart_after: Time::ZERO,
            restarts: 0,
            restart_due: RestartDue::No,
            received: Received::default(),
            carried: None,
            known_remotes: SmallVec::new(),
            recent_checks: request::Recent::default(),
            armed: None,
            due: None,
            closed: false,
            gone: false,
            lite,
            renewals: 0,
            dscp: config.dscp,
            settings: Settings {
                uncommon,
                pacing_ms: u32::try_from(config.pacing.as_millis()).unwrap_or(u32::MAX),
                patience: config.patience,
                max_pairs: config.max_pairs,
                max_peer_reflexive: config.max_peer_reflexive,
                addresses: config.addresses,
                restarts_alone: config.restarts_alone,
                continual: config.continual && !lite,
                tcp: config.tcp,
                mdns: config.mdns != MdnsCandidates::Off,
                mtu: mtu::assumed(config.mtu),
            },
        };
        if let Some(roles) = roles {
            agent.set_roles(roles);
        }
        Ok(agent)
    }

    /// Does what is due, until there is a datagram to send; `None` when nothing more is due now.
    pub(crate) fn poll(
        &mut self,
        shared: &mut Shared,
        now: Time,
        buffer: &mut [u8],
    ) -> Option<Departure> {
        if self.closed {
            return self.poll_closed(shared, now, buffer);
        }
        if let Some(transmit) = self.fire_transactions(shared, now, buffer) {
            return Some(transmit);
        }
        if let Some(transmit) = self.fire_consent(shared, now, buffer) {
            return Some(transmit);
        }
        if let Some(transmit) = self.fire_mtu(shared, now, buffer) {
            return Some(transmit);
        }
        self.fire_tcp(shared, now);
        self.fire_restart(shared, now);
        self.fire_watch(shared, now);
        self.fire_patience(shared, now);
        self.consider_nomination(now);
        if let Some(transmit) = self.fire_paced(shared, now, buffer) {
            return Some(transmit);
        }
        self.update_state(shared, now);
        None
    }

    /// When `poll` has something to do next. A pacing slot of the engine is waited for elsewhere.
    pub(crate) fn deadline(&self) -> Option<Time> {
        if self.closed {
            return self.closed_deadline();
        }
        let due = |transaction: &Transaction| transaction.due;
        let transactions = self.transactions.iter().map(due).min();
        let paced = if self.awaits_slot {
            None
        } else {
            self.paced_deadline()
        };
        earliest([
            transactions,
            paced,
            self.consent_deadline(),
            self.watch_deadline(),
            self.restart_due.at(),
            self.tcp_deadline(),
            self.mtu_deadline(),
            self.patience_deadline(),
            self.nomination_deadline(),
        ])
    }

    pub(crate) fn close(&mut self, shared: &mut Shared, now: Time) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.forget_names(shared);
        let all: Vec<u16> = (0..self.sockets.len() as u16).collect();
        self.unregister_names(shared, &all);
        self.unmap_ports(shared, |_| false);
        self.path.publish(Err(NoPath::Closed));
        self.set_state(shared, State::Closed, None);
        for (socket, remote) in self.known_remotes.drain(..) {
            let _ = shared.demux.release_remote(socket, remote);
        }
        self.drop_generation(shared, &self.current);
        if let Some(previous) = self.previous.take() {
            self.drop_generation(shared, &previous);
        }
        self.transactions.clear();
        self.close_connections(shared);
        self.release_relays(now);
        if self.is_released(now) {
            self.close_sockets(shared);
        }
    }

    /// Nothing is left of it.
    pub(super) fn close_sockets(&mut self, shared: &mut Shared) {
        self.end_relays(shared);
        // Those with numbers of the engine's own are nobody's to close.
        for socket in self.sockets.drain(..).filter(|own| !own.id.is_virtual()) {
            if socket.tcp().is_some() {
                shared.demux.release_listener(socket.id);
            }
            shared.close_socket(socket.id);
        }
        self.gone = true;
    }

    /// Datagrams and bytes of data that came, and when the last of them.
    fn received(&self, shared: &Shared) -> Received {
        let mut sum = self.received;
        for (socket, remote) in &self.known_remotes {
            sum.add(shared.demux.by_remote(*socket, *remote));
        }
        sum
    }

    /// Reads a little of every part of an agent that a packet is about to go through.
    ///
    /// With many agents an idle one has left the caches when its turn comes. What follows would fetch
    /// its memory line after line, each when the one before has come; these reads do not depend on each
    /// other, so they are fetched together. It is what a prefetch does, without `unsafe`.
    pub(crate) fn fetch(&self, visit: Visit) {
        let generation = &self.current;
        let at = |time: Option<Time>| time.map_or(0, Time::as_nanos);
        let mut sum = self.tie_breaker ^ at(self.restart_due.at());
        sum ^= (self.sockets.len() ^ self.known_remotes.len() ^ self.transactions.len()) as u64;
        if let Some(socket) = self.sockets.first() {
            sum ^= u64::from(socket.address.port());
        }
        sum ^= u64::from(generation.number) ^ at(generation.patience_ends);
        sum ^= generation.consent.map_or(0, |consent| consent.peek());
        sum ^= generation.watch.peek();
        if let Some(remote) = &generation.remote {
            sum ^= u64::from(remote.ufrag.peek());
        }
        if let Some((_, pair)) = generation.pairs.iter().next() {
            sum ^= u64::from(pair.socket) ^ u64::from(pair.requests_received);
            sum ^= at(pair.repeat.at) ^ at(pair.died_at);
        }
        sum ^= generation.remotes.len() as u64;
        match visit {
            Visit::Ask => {
                if let Some(remote) = &generation.remote {
                    sum ^= remote.pwd ^ u64::from(remote.key.has_sha256());
                }
                sum ^= u64::from(generation.local.ufrag.peek());
                sum ^= at(Some(self.path.last_sent()));
            }
            Visit::Answer => {
                sum ^= self.recent_checks.peek();
                sum ^= u64::from(generation.local.key.has_sha256());
                sum ^= generation.local.pwd.len() as u64;
            }
        }
        core::hint::black_box(sum);
    }

    /// How its datagrams are marked (RFC 8445 sections 7.2.3 and 7.3).
    pub(crate) const fn dscp(&self) -> Dscp {
        self.dscp
    }

    pub(crate) fn path(&self) -> Arc<PathCell> {
        Arc::clone(&self.path)
    }

    pub(crate) fn owns(&self, socket: SocketId) -> bool {
        self.sockets
            .iter()
            .any(|own| own.id == socket && self.is_base(own))
    }

    /// Whether a socket may be the base of pairs.
    fn is_base(&self, socket: &Socket) -> bool {
        let may_be = match socket.relay {
            // A relay leaves by the network of the socket that it is reached from.
            Some(relay) => { self.below(relay) }
                .is_none_or(|carrier| self.sockets[usize::from(carrier)].admitted),
            None => socket.admitted && !self.settings.relay_only(),
        };
        socket.duty != Duty::Carrier && may_be
    }

    fn socket_index(&self, socket: SocketId) -> Option<u16> {
        self.sockets
            .iter()
            .position(|own| own.id == socket)
            .map(|index| index as u16)
    }

    /// Lets data of this remote in, after an authenticated exchange with it.
    ///
    /// False if another session of this engine has the same socket and remote.
    fn know_remote(&mut self, shared: &mut Shared, socket: u16, remote: SocketAddr) -> bool {
        let socket = self.sockets[usize::from(socket)].id;
        if self.known_remotes.contains(&(socket, remote)) {
            return true;
        }
        if !shared.demux.claim_remote(socket, remote, self.id) {
            return false;
        }
        if self.known_remotes.len() == MAX_KNOWN_REMOTES {
            let keep = self.selected_remote();
            let victim = self
                .known_remotes
                .iter()
                .position(|known| Some(*known) != keep)
                .unwrap_or(0);
            let (old_socket, old) = self.known_remotes.remove(victim);
            self.received
                .add(shared.demux.release_remote(old_socket, old).as_ref());
        }
        self.known_remotes.push((socket, remote));
        true
    }

    fn selected_remote(&self) -> Option<(SocketId, SocketAddr)> {
        let generation = self.carrier()?;
        let pair = generation.pairs.get(generation.selected?)?;
        Some((
            self.sockets[usize::from(pair.socket)].id,
            generation.remote_address(pair),
        ))
    }

    /// The generation whose selected pair carries the data.
    fn carrier(&self) -> Option<&Generation> {
        if self.current.selected.is_some() {
            return Some(&self.current);
        }
        self.previous
            .as_deref()
            .filter(|previous| previous.selected.is_some())
    }

    fn carrier_mut(&mut self) -> Option<&mut Generation> {
        if self.current.selected.is_some() {
            return Some(&mut self.current);
        }
        self.previous
            .as_deref_mut()
            .filter(|previous| previous.selected.is_some())
    }

    fn generation_mut(&mut self, number: u32) -> Option<&mut Generation> {
        if self.current.number == number {
            return Some(&mut self.current);
        }
        self.previous
            .as_deref_mut()
            .filter(|previous| previous.number == number)
    }

    fn generation(&self, number: u32) -> Option<&Generation> {
        if self.current.number == number {
            return Some(&self.current);
        }
        self.previous
            .as_deref()
            .filter(|previous| previous.number == number)
    }

    pub(crate) fn local_key(&self, generation: u32) -> Option<&nilas_stun::Key> {
        self.generation(generation)
            .map(|generation| &generation.local.key)
    }

    /// The generation whose username fragment this is, and its key.
    pub(crate) fn called(&self, ufrag: &str) -> Option<(u32, &nilas_stun::Key)> {
        let is_called = |generation: &Generation| *generation.local.ufrag == *ufrag;
        let found = if is_called(&self.current) {
            &self.current
        } else {
            self.previous.as_deref().filter(|own| is_called(own))?
        };
        Some((found.number, &found.local.key))
    }

    /// The secrets of its generations, the present one first.
    pub(crate) fn secrets(&self) -> impl Iterator<Item = Secrets<'_>> {
        core::iter::once(&self.current)
            .chain(self.previous.as_deref())
            .map(|generation| Secrets {
                generation: generation.number,
                pwd: &generation.local.pwd,
                remote: generation
                    .remote
                    .as_ref()
                    .map(|remote| (&*remote.ufrag, &remote.key)),
            })
    }

    fn emit(&self, shared: &mut Shared, event: Event) {
        shared.event(self.id, event);
    }
}

/// The first of those that there are.
fn earliest<const N: usize>(times: [Option<Time>; N]) -> Option<Time> {
    let sooner = |a: Option<Time>, b: Option<Time>| match (a, b) {
        (Some(a), Some(b)) => Some(a.min(b)),
        _ => a.or(b),
    };
    times.into_iter().fold(None, sooner)
}

impl LocalCredentials {
    const fn new(ufrag: Ufrag, pwd: Box<str>, key: nilas_stun::Key) -> Self {
        Self { ufrag, key, pwd }
    }
}
