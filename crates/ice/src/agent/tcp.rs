//! ICE-TCP (RFC 6544): candidates that are reached by a connection, and the connections.
//!
//! A TCP candidate's base is a socket among the others. An *active* one opens a connection from any port when a
//! check is to be sent, a *passive* one accepts them, and a *simultaneous-open* one does both from one port. Over an
//! open connection go frames with their length in front (RFC 4571 section 2), each a STUN message or a datagram of data, so that
//! all else in an agent takes a connection for a path like any other: from a base, to a remote address.
//!
//! Whoever connects is a stranger until a check of its has been authenticated: there are few of them at a time, each
//! is given ten seconds, a stranger's first frame must be that check, and a long one is not waited for. Once a pair
//! was nominated the connections that do not carry the data are closed (RFC 6544 section 8).
//!
//! Where the connection of the path breaks, or where nothing comes through it any more, the side that opened it opens
//! another (section 11.1). The path is under suspicion meanwhile: a standby, or in the end a restart, takes its place if
//! that fails.
//!
//! Relayed candidates are UDP's only: RFC 6544 section 5.5 leaves TCP allocations (RFC 6062) to those who need more
//! than one such technique, and a TURN server that is reached over TCP relays what ICE-TCP is there for, to peers that
//! need not speak it. What servers see of a candidate is asked for in `reflexive_tcp`.

use core::net::SocketAddr;
use core::time::Duration;

use nilas_turn::Time;

use super::generation::Generation;
use super::pair::PairId;
use super::request::MAX_RETRIGGERS;
use super::select::GREATEST_COST;
use super::standby::Doubt;
use super::trickle::{plain, scoped};
use super::{Agent, Bind, Duty, Socket};
use crate::candidate::{CandidateType, TcpType, Transport};
use crate::config::TcpCandidates;
use crate::demux::StreamEnd;
use crate::ids::{RequestId, SocketId, StreamId};
use crate::io::{Command, StreamError};
use crate::path::{NoPath, Via};
use crate::shared::Shared;
use crate::stats::PairState;

/// RFC 6544 section 12: attempts to connect to one address at a time.
const MAX_ATTEMPTS: usize = 5;
/// Connections of an agent, at most, opened and accepted.
const MAX_CONNECTIONS: usize = 64;
/// Accepted connections that have not shown a check, at most.
const MAX_STRANGERS: usize = 16;
/// A check is about 150 bytes long; a stranger's frame that is longer is not waited for.
const MAX_STRANGER_FRAME: usize = 1_280;
/// How long a stranger may take.
const PROBATION: Duration = Duration::from_secs(10);
/// How long a connection that carries no data is kept once a pair was nominated: it may be the path's, opened anew.
const SURPLUS: Duration = Duration::from_secs(3);
/// The path's connection is opened again so long after an attempt that failed.
const RETRY: Duration = Duration::from_secs(1);
/// RFC 6544 section 4.5: the port of an active candidate means nothing.
pub(super) const DISCARD: u16 = 9;

/// The connections of an agent.
#[derive(Debug, Default)]
pub(super) struct Tcp {
    connections: Vec<Connection>,
    /// Those to servers that are asked what they see of a base.
    pub(super) servers: Vec<Connection>,
    /// When the path's connection is opened again.
    retry_at: Option<Time>,
    /// The suspicion for which it was given up.
    renewed_for: Option<Time>,
    /// When it was last lost.
    broken_at: Option<Time>,
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Connection {
    /// Index of the base.
    pub(super) socket: u16,
    pub(super) remote: SocketAddr,
    pub(super) state: ConnectionState,
    pub(super) since: Time,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum ConnectionState {
    /// Others to the same address have their turn.
    Wanted,
    Opening(RequestId),
    Open(StreamId),
}

impl Connection {
    pub(super) const fn stream(&self) -> Option<StreamId> {
        match self.state {
            ConnectionState::Open(stream) => Some(stream),
            _ => None,
        }
    }

    pub(super) fn leads(&self, socket: u16, remote: SocketAddr) -> bool {
        self.socket == socket && self.remote == plain(remote)
    }
}

/// What a frame that came on a connection is for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Arrival {
    pub(crate) socket: SocketId,
    pub(crate) remote: SocketAddr,
    /// Frames that are longer end the connection.
    pub(crate) longest: usize,
    /// Whether a frame that belongs to nobody ends it.
    pub(crate) is_stranger: bool,
}

/// Whether candidates of these transports can be paired (RFC 6544 section 6.2). A passive candidate's pair is pruned
/// when it is formed of what was signalled, and formed when a connection has brought a check.
pub(super) fn may_connect(own: Option<TcpType>, remote: &Transport, kind: CandidateType) -> bool {
    match (own, remote) {
        (None, Transport::Udp)
        | (Some(TcpType::Active), Transport::Tcp(TcpType::Passive))
        | (Some(TcpType::So), Transport::Tcp(TcpType::So)) => true,
        (Some(TcpType::Passive), Transport::Tcp(TcpType::Active)) => kind == CandidateType::Prflx,
        _ => false,
    }
}

impl Agent {
    /// The TCP candidates of an address of this machine, which are not there yet. Its network costs so much.
    pub(super) fn gather_tcp(
        &mut self,
        shared: &mut Shared,
        address: SocketAddr,
        preference: u16,
        cost: u16,
    ) {
        let types: &[TcpType] = match self.settings.tcp {
            TcpCandidates::Off => &[],
            // RFC 6544 section 4.4.
            _ if self.lite => &[TcpType::Passive],
            TcpCandidates::Active => &[TcpType::Active],
            TcpCandidates::All => &[TcpType::Active, TcpType::Passive, TcpType::So],
        };
        if self.settings.relay_only() {
            return;
        }
        for tcp_type in types {
            let ip = address.ip();
            let duty = Duty::Tcp(*tcp_type);
            let has = |own: &Socket| own.usable && own.duty == duty && own.address.ip() == ip;
            let asked = |bind: &Bind| bind.duty == duty && bind.address.ip() == ip;
            if self.sockets.iter().any(has) || self.binds.iter().any(asked) {
                continue;
            }
            if *tcp_type == TcpType::Active {
                let mut address = address;
                address.set_port(DISCARD);
                let id = shared.virtual_socket();
                self.add_tcp_base(shared, id, address, preference, *tcp_type, cost);
                continue;
            }
            let request = shared.request(self.id);
            self.binds.push(Bind {
                request,
                address,
                preference,
                allocation: None,
                duty,
                other_ports: 0,
            });
            shared.command(Command::Listen { request, address });
        }
    }

    pub(super) fn add_tcp_base(
        &mut self,
        shared: &mut Shared,
        id: SocketId,
        address: SocketAddr,
        preference: u16,
        tcp_type: TcpType,
        cost: u16,
    ) {
        self.tcp.get_or_insert_default();
        // RFC 8445 section 5.1.1.3: one foundation for each address and transport. RFC 6544 appendix C takes the types of TCP
        // for different ones, and rightly: a passive port that a firewall hides says nothing of a simultaneous open.
        let same = |own: &&Socket| own.tcp() == Some(tcp_type) && own.address.ip() == address.ip();
        let foundation = match self.sockets.iter().find(same) {
            Some(own) => own.foundation,
            None => {
                let group = u16::MAX - tcp_type as u16;
                10_000_000 + self.number_of_base(shared, address.ip(), group)
            }
        };
        self.sockets.push(Socket {
            id,
            address,
            preference,
            foundation,
            usable: true,
            admitted: true,
            relay: None,
            duty: Duty::Tcp(tcp_type),
            network_cost: cost.min(GREATEST_COST),
        });
        self.add_host(shared, self.sockets.len() as u16 - 1);
    }

    /// Whether a check may be sent on a connection now; `false` if one is being opened, which then has the pair
    /// checked; `None` if there cannot be one.
    pub(super) fn connect(
        &mut self,
        shared: &mut Shared,
        now: Time,
        socket: u16,
        remote: SocketAddr,
    ) -> Option<bool> {
        let own = self.sockets[usize::from(socket)];
        let tcp = self.tcp.as_mut()?;
        let mut connections = tcp.connections.iter();
        if let Some(known) = connections.find(|known| known.leads(socket, remote)) {
            return Some(known.stream().is_some());
        }
        // Once a pair was nominated no other needs a connection.
        let is_needed = !self.current.concluded || carries(&self.current, socket, remote);
        let opens = own.usable && own.tcp() != Some(TcpType::Passive) && is_needed;
        if !opens || tcp.connections.len() >= MAX_CONNECTIONS {
            return None;
        }
        tcp.connections.push(Connection {
            socket,
            remote: plain(remote),
            state: ConnectionState::Wanted,
            since: now,
        });
        self.open_connections(shared, now);
        Some(false)
    }

    /// Opens what is wanted, as much as may be opened at a time.
    fn open_connections(&mut self, shared: &mut Shared, now: Time) {
        let Some(tcp) = &mut self.tcp else { return };
        for index in 0..tcp.connections.len() {
            let Connection {
                socket,
                remote,
                state,
                ..
            } = tcp.connections[index];
            let attempts = tcp.connections.iter().filter(|other| {
                matches!(other.state, ConnectionState::Opening(_))
                    && other.remote.ip() == remote.ip()
            });
            if state != ConnectionState::Wanted || attempts.count() >= MAX_ATTEMPTS {
                continue;
            }
            let own = self.sockets[usize::from(socket)];
            let mut local = own.address;
            if own.tcp() == Some(TcpType::Active) {
                // RFC 6544 section 7.1: from an unallocated port.
                local.set_port(0);
            }
            let request = shared.request(self.id);
            let remote = scoped(remote, local);
            shared.command(Command::Connect {
                request,
                local,
                remote,
            });
            tcp.connections[index].state = ConnectionState::Opening(request);
            tcp.connections[index].since = now;
        }
    }

    /// The answer to `Connect`; false if this agent did not ask, or does not need it any more.
    pub(crate) fn connected(
        &mut self,
        shared: &mut Shared,
        now: Time,
        request: RequestId,
        result: Result<StreamId, StreamError>,
    ) -> bool {
        let Some(tcp) = &mut self.tcp else {
            return false;
        };
        let opening = ConnectionState::Opening(request);
        let mut connections = tcp.connections.iter_mut().enumerate();
        let Some((index, known)) = connections.find(|(_, known)| known.state == opening) else {
            return self.server_connected(shared, now, request, result);
        };
        let (socket, remote) = (known.socket, known.remote);
        if let Ok(stream) = result {
            (known.state, known.since) = (ConnectionState::Open(stream), now);
            shared.demux.claim_stream(stream, self.id, StreamEnd::Peer);
            self.check_over(socket, remote);
        } else {
            tcp.connections.remove(index);
            for id in self.pairs_over(socket, remote) {
                if self.current.selected == Some(id) {
                    // The path is under suspicion already: it stays until another takes its place.
                    self.retry_connection(now);
                } else {
                    self.check_failed(shared, now, id, true);
                }
            }
        }
        self.open_connections(shared, now);
        true
    }

    /// Somebody has connected; false if the connection is not wanted.
    pub(crate) fn accepted(
        &mut self,
        shared: &mut Shared,
        now: Time,
        socket: SocketId,
        stream: StreamId,
        remote: SocketAddr,
    ) -> bool {
        let remote = plain(remote);
        let Some(index) = self.socket_index(socket).filter(|_| !self.closed) else {
            return false;
        };
        // The first is the oldest. One that does not show its check at once makes room, so that a crowd of them cannot
        // keep the peer out.
        let strangers: Vec<_> = self
            .connections()
            .filter(|known| self.is_stranger(known))
            .filter_map(Connection::stream)
            .collect();
        if strangers.len() >= MAX_STRANGERS {
            shared.counters.connections_refused += 1;
            self.end_connection(shared, now, strangers[0]);
        }
        if self.connections().count() >= MAX_CONNECTIONS {
            shared.counters.connections_refused += 1;
            return false;
        }
        let Some(tcp) = &mut self.tcp else {
            return false;
        };
        // One that is being opened has met it half-way; one that was open is gone, or the port were not free again.
        if let Some(known) = tcp
            .connections
            .iter()
            .position(|known| known.leads(index, remote))
            && let Some(old) = tcp.connections.remove(known).stream()
        {
            shared.demux.release_stream(old);
            shared.command(Command::CloseStream(old));
        }
        tcp.connections.push(Connection {
            socket: index,
            remote,
            state: ConnectionState::Open(stream),
            since: now,
        });
        shared.demux.claim_stream(stream, self.id, StreamEnd::Peer);
        self.check_over(index, remote);
        true
    }

    /// What frames on a connection are for.
    pub(crate) fn arrival(&self, stream: StreamId) -> Option<Arrival> {
        let known = self
            .connections()
            .find(|known| known.stream() == Some(stream))?;
        let is_stranger = self.is_stranger(known);
        Some(Arrival {
            socket: self.sockets[usize::from(known.socket)].id,
            remote: known.remote,
            longest: if is_stranger {
                MAX_STRANGER_FRAME
            } else {
                usize::MAX
            },
            is_stranger,
        })
    }

    /// A connection has ended, by the peer or the network.
    pub(crate) fn connection_ended(&mut self, shared: &mut Shared, now: Time, stream: StreamId) {
        let Some(tcp) = &mut self.tcp else { return };
        let mut connections = tcp.connections.iter();
        let Some(index) = connections.position(|known| known.stream() == Some(stream)) else {
            return;
        };
        let Connection {
            socket,
            remote,
            since,
            ..
        } = tcp.connections.remove(index);
        shared.demux.release_stream(stream);
        self.forget_remote_of(shared, socket, remote);
        let carried = self
            .carrier()
            .is_some_and(|own| carries(own, socket, remote));
        if carried {
            self.tcp.get_or_insert_default().broken_at = Some(now);
            self.path.publish(Err(NoPath::NotConnected));
            if self.current.selected.is_none() {
                // What carried the data while a restart is under way is not opened anew.
                self.previous_path_is_gone(shared, now, |lost| lost == socket);
            }
        }
        for id in self.pairs_over(socket, remote) {
            if self.current.selected != Some(id) {
                if !self.check_anew(id, since) {
                    self.check_failed(shared, now, id, true);
                }
                continue;
            }
            // RFC 6544 section 11.1: whoever accepted it awaits another, which will be another pair.
            if self.sockets[usize::from(socket)].tcp() == Some(TcpType::Passive)
                && let Some(pair) = self.current.pairs.get_mut(id)
            {
                pair.died_at = Some(now);
            }
            self.suspect(shared, now, Doubt::Data);
        }
        if carried {
            self.update_state(shared, now);
        }
    }

    /// Ends a connection from this side. True if it was there.
    pub(crate) fn end_connection(&mut self, shared: &mut Shared, now: Time, stream: StreamId) {
        shared.command(Command::CloseStream(stream));
        self.connection_ended(shared, now, stream);
    }

    /// Closes connections that nobody needs, and opens that of the path again.
    pub(super) fn fire_tcp(&mut self, shared: &mut Shared, now: Time) {
        if self.tcp_deadline().is_none_or(|at| at > now) {
            return;
        }
        let over: Vec<_> = self
            .connections()
            .filter(|known| self.ends_at(known).is_some_and(|at| at <= now))
            .filter_map(Connection::stream)
            .collect();
        for stream in over {
            self.end_connection(shared, now, stream);
        }
        self.fire_servers(shared, now);
        if let Some(tcp) = &mut self.tcp
            && tcp.retry_at.is_some_and(|at| at <= now)
        {
            tcp.retry_at = None;
            if let Some(selected) = self.current.selected {
                self.current.trigger(selected, false);
            }
        }
    }

    /// When `fire_tcp` has something to do.
    pub(super) fn tcp_deadline(&self) -> Option<Time> {
        let tcp = self.tcp.as_ref()?;
        let ends = self.connections().filter_map(|known| self.ends_at(known));
        let servers = self.servers_deadline();
        ends.chain(tcp.retry_at).chain(servers).min()
    }

    /// What carries datagrams from this base to this remote.
    pub(super) fn connection_to(&self, socket: u16, remote: SocketAddr) -> Option<Via> {
        let known = self
            .connections()
            .find(|known| known.leads(socket, remote))?;
        known.stream().map(Via::Stream)
    }

    /// Whether nothing can be sent because the path's connection is yet to be opened again.
    pub(super) fn awaits_connection(&self) -> bool {
        self.tcp.is_some() && self.path.load() == Err(NoPath::NotConnected)
    }

    /// Since when the path's connection is gone.
    pub(super) fn broken_since(&self) -> Option<Time> {
        let own = self.carrier()?;
        let pair = own.pairs.get(own.selected?)?;
        self.sockets[usize::from(pair.socket)].tcp()?;
        let connection = self.connection_to(pair.socket, own.remote_address(pair));
        self.tcp
            .as_ref()?
            .broken_at
            .filter(|_| connection.is_none())
    }

    /// A check was answered on a connection. If it is that of the path, opened anew, data may go on there.
    pub(super) fn path_is_back(&mut self, shared: &mut Shared, now: Time, id: PairId) {
        if self.tcp.is_none() {
            return;
        }
        if self.current.selected == Some(id) {
            if self.awaits_connection() {
                self.publish(now);
                self.update_state(shared, now);
            }
        } else if self.takes_the_place_of_the_path(id)
            && let Some(old) = self.current.selected
            && let Some(old) = self.current.pairs.get_mut(old)
        {
            old.died_at = Some(now);
            self.select(shared, now);
        }
    }

    /// Whether the peer has opened another connection in place of the path's: nothing else is one for, once a pair was
    /// nominated.
    fn takes_the_place_of_the_path(&self, id: PairId) -> bool {
        let pairs = &self.current.pairs;
        let selected = self.current.selected.and_then(|id| pairs.get(id));
        let (Some(new), Some(old)) = (pairs.get(id), selected) else {
            return false;
        };
        let ip = |pair| self.current.remote_address(pair).ip();
        self.current.concluded
            && new.socket == old.socket
            && ip(new) == ip(old)
            && self.sockets[usize::from(new.socket)].tcp() == Some(TcpType::Passive)
    }

    /// Nothing comes through the path's connection. Whoever opened it opens another, and the other side waits for it,
    /// once for each suspicion; false if that was tried, or the path is none of TCP.
    pub(super) fn renew_connection(&mut self, shared: &mut Shared, now: Time, since: Time) -> bool {
        let Some((id, pair)) = self
            .current
            .selected
            .and_then(|id| Some((id, self.current.pairs.get(id)?)))
        else {
            return false;
        };
        let (socket, remote) = (pair.socket, self.current.remote_address(pair));
        let Some(tcp_type) = self.sockets[usize::from(socket)].tcp() else {
            return false;
        };
        let Some(tcp) = &mut self.tcp else {
            return false;
        };
        if tcp.renewed_for.replace(since) == Some(since) {
            return false;
        }
        let known = tcp.connections.iter();
        let stream = { known }
            .find(|known| known.leads(socket, remote))
            .and_then(Connection::stream);
        if let Some(stream) = stream.filter(|_| tcp_type != TcpType::Passive) {
            self.end_connection(shared, now, stream);
            self.current.trigger(id, true);
        }
        true
    }

    pub(super) fn close_connections(&mut self, shared: &mut Shared) {
        let Some(tcp) = self.tcp.take() else { return };
        let all = tcp.connections.iter().chain(&tcp.servers);
        for stream in all.filter_map(Connection::stream) {
            shared.demux.release_stream(stream);
            shared.command(Command::CloseStream(stream));
        }
    }

    fn connections(&self) -> impl Iterator<Item = &Connection> {
        self.tcp.iter().flat_map(|tcp| &tcp.connections)
    }

    /// When a connection is closed, unless it becomes useful before.
    fn ends_at(&self, known: &Connection) -> Option<Time> {
        known.stream()?;
        let previous = self.previous.as_deref();
        let mut generations = previous.into_iter().chain([&self.current]);
        if generations.any(|own| carries(own, known.socket, known.remote)) {
            return None;
        }
        if self.is_stranger(known) {
            return Some(known.since + PROBATION);
        }
        // RFC 6544 section 8.
        self.current.concluded.then(|| known.since + SURPLUS)
    }

    /// Whether nothing authenticated has come on a connection that the other side opened.
    fn is_stranger(&self, known: &Connection) -> bool {
        let own = &self.sockets[usize::from(known.socket)];
        own.tcp() != Some(TcpType::Active)
            && !self.known_remotes.contains(&(own.id, known.remote))
            && self.pairs_over(known.socket, known.remote).is_empty()
    }

    /// The pairs of the current generation whose checks go over a connection.
    fn pairs_over(&self, socket: u16, remote: SocketAddr) -> Vec<PairId> {
        let pairs = self.current.pairs.iter().filter(|(_, pair)| {
            pair.socket == socket && plain(self.current.remote_address(pair)) == plain(remote)
        });
        pairs.map(|(id, _)| id).collect()
    }

    /// A connection is open: the checks that waited for it are sent.
    fn check_over(&mut self, socket: u16, remote: SocketAddr) {
        for id in self.pairs_over(socket, remote) {
            if let Some(pair) = self.current.pairs.get(id)
                && pair.state != PairState::Failed
            {
                self.current.trigger(id, true);
            }
        }
    }

    /// The connection over which a pair was being checked has ended. One that a restart found open may have been dead for long, as
    /// after a sleep: then another is opened, a few times at most. False if not.
    fn check_anew(&mut self, id: PairId, opened: Time) -> bool {
        let Some(pair) = self.current.pairs.get_mut(id) else {
            return false;
        };
        let accepts = self.sockets[usize::from(pair.socket)].tcp() == Some(TcpType::Passive);
        let was_found = opened + RETRY <= pair.checked_at;
        let may = pair.state == PairState::InProgress && pair.retriggers < MAX_RETRIGGERS;
        if accepts || !was_found || !may {
            return false;
        }
        pair.retriggers += 1;
        pair.state = PairState::Waiting;
        self.cancel_checks(id);
        self.current.trigger(id, true);
        true
    }

    /// The check of a pair waits for its connection.
    pub(super) fn await_connection(&mut self, now: Time, id: PairId) {
        if let Some(pair) = self.current.pairs.get_mut(id) {
            if pair.state != PairState::Succeeded {
                pair.state = PairState::InProgress;
            }
            pair.checked_at = now;
            pair.repeat.stop();
        }
    }

    fn retry_connection(&mut self, now: Time) {
        if let Some(tcp) = &mut self.tcp {
            tcp.retry_at = Some(now + RETRY);
        }
    }

    /// What comes from this remote is not accepted any more.
    fn forget_remote_of(&mut self, shared: &mut Shared, socket: u16, remote: SocketAddr) {
        let key = (self.sockets[usize::from(socket)].id, remote);
        if let Some(index) = self.known_remotes.iter().position(|known| *known == key) {
            self.known_remotes.remove(index);
            let route = shared.demux.release_remote(key.0, key.1);
            self.received.add(route.as_ref());
        }
    }
}

/// Whether the data of a generation goes over the connection from this base to this remote.
fn carries(generation: &Generation, socket: u16, remote: SocketAddr) -> bool {
    let selected = generation.selected.and_then(|id| generation.pairs.get(id));
    selected.is_some_and(|pair| {
        pair.socket == socket && plain(generation.remote_address(pair)) == plain(remote)
    })
}
