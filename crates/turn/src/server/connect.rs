//! TCP allocations: Connect, ConnectionBind, and connections from peers (RFC 6062 section 5).

use core::net::SocketAddr;
use core::time::Duration;

use nilas_stun::{ErrorCode, Message, Method};

use super::Server;
use super::answer::{Answer, Indication, Reply};
use super::authenticate::Caller;
use super::io::{
    Command, ConnectError, ConnectionId, Handled, Path, RelayId, RelayProtocol, StreamId, WorkerId,
};
use super::request::{Handling, Outcome};
use super::timers::Timer;
use crate::arena::Key;
use crate::time::Time;

/// RFC 6062 section 5.2: at least 30 seconds for a peer to answer, and as long for the client to bind.
const PATIENCE: Duration = Duration::from_secs(30);
/// So often a random number is drawn anew where it is taken already.
const DRAWS: usize = 8;

/// A connection between the relay and a peer.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) allocation: Key,
    pub(super) relay: Key,
    peer: SocketAddr,
    /// What CONNECTION-ID says.
    number: u32,
    state: State,
    deadline: Option<Time>,
}

#[derive(Debug)]
enum State {
    /// The peer has not answered, so the Connect request has not been.
    Connecting(Box<Reply>),
    /// The client has not bound it.
    Waiting,
    /// Its bytes are those of this stream.
    Bound(StreamId),
}

impl Server {
    /// RFC 6062 section 5.2.
    pub(super) fn connect(
        &mut self,
        now: Time,
        path: Path,
        caller: &Caller<'_>,
        reply: &Reply,
    ) -> Handling {
        let key = self
            .allocation_at(path)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        self.check_user(key, caller)?;
        let Ok(Some(peer)) = caller.request.xor_peer_address() else {
            return Err(ErrorCode::BAD_REQUEST);
        };
        let relay = self.relay_towards(key, peer.ip())?;
        let is_tcp = self
            .relays
            .get(relay)
            .is_some_and(|state| state.protocol == RelayProtocol::Tcp);
        if !is_tcp {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let allocation = self
            .allocations
            .get(key)
            .ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        let again = allocation
            .connections
            .iter()
            .filter_map(|connection| self.connections.get(*connection))
            .any(|connection| connection.peer == peer);
        if again {
            return Err(ErrorCode::CONNECTION_ALREADY_EXISTS);
        }
        self.check_peer(peer)?;
        let state = State::Connecting(Box::new(reply.clone()));
        let connection = self
            .add_connection(now, key, relay, peer, state)
            .ok_or(ErrorCode::INSUFFICIENT_CAPACITY)?;
        self.outbox.command(Command::ConnectPeer {
            connection,
            relay: RelayId(relay),
            peer,
        });
        Ok(Outcome::Later)
    }

    /// The peer has answered, or not.
    pub(super) fn peer_connected(
        &mut self,
        now: Time,
        id: ConnectionId,
        result: Result<(), ConnectError>,
    ) {
        let Some(connection) = self.connections.get_mut(id.0) else {
            // It was given up, and the driver told to close it.
            return;
        };
        if !matches!(connection.state, State::Connecting(_)) {
            return;
        }
        if result.is_err() {
            return self.end_connection(id, false);
        }
        let before = core::mem::replace(&mut connection.state, State::Waiting);
        let number = connection.number;
        let deadline = now + PATIENCE;
        if let Some(old) = connection.deadline.replace(deadline) {
            self.timers.cancel(old, Timer::Connection(id));
        }
        self.timers.set(deadline, Timer::Connection(id));
        if let State::Connecting(reply) = before {
            let answer = Answer::Connected {
                connection_id: number,
            };
            self.outbox.answer(&mut self.counters, *reply, answer);
        }
    }

    /// RFC 6062 section 5.3: a peer has connected to a relayed transport address.
    pub(super) fn peer_accepted(&mut self, now: Time, relay: RelayId, peer: SocketAddr) -> Handled {
        let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
        let Some(state) = self
            .relays
            .get(relay.0)
            .filter(|state| state.protocol == RelayProtocol::Tcp && state.expires.is_some())
        else {
            self.counters.no_allocation += 1;
            return Handled::Refused;
        };
        let key = state.allocation;
        // Without a permission: closed at once.
        if !state.peers.permits(peer.ip(), now) {
            self.counters.no_permission += 1;
            return Handled::Refused;
        }
        // The same rule as for connections to peers. A peer's own port is any port.
        if self.config.peer_rule.check_address(peer.ip()).is_err() {
            self.counters.peers_forbidden += 1;
            return Handled::Refused;
        }
        let path = self
            .allocations
            .get(key)
            .and_then(|allocation| allocation.path);
        let Some(path) = path else {
            self.counters.no_allocation += 1;
            return Handled::Refused;
        };
        let Some(id) = self.add_connection(now, key, relay.0, peer, State::Waiting) else {
            self.counters.no_capacity += 1;
            return Handled::Refused;
        };
        if let Some(number) = self.connections.get(id.0).map(|state| state.number) {
            let transaction = self.transaction_id();
            self.outbox.indicate(
                &mut self.counters,
                path,
                transaction,
                Indication::ConnectionAttempt {
                    peer,
                    connection_id: number,
                },
            );
        }
        Handled::Accepted(id)
    }

    /// RFC 6062 section 5.4.
    pub(super) fn connection_bind(
        &mut self,
        path: Path,
        caller: &Caller<'_>,
        reply: &Reply,
    ) -> Handling {
        let Path::Stream(stream) = path else {
            return Err(ErrorCode::BAD_REQUEST);
        };
        // A control connection stays one.
        if self.allocation_at(path).is_some() {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let Ok(Some(number)) = caller.request.connection_id() else {
            return Err(ErrorCode::BAD_REQUEST);
        };
        let key = self
            .connection_numbers
            .get(&number)
            .copied()
            .ok_or(ErrorCode::BAD_REQUEST)?;
        let connection = self
            .connections
            .get_mut(key)
            .ok_or(ErrorCode::BAD_REQUEST)?;
        // RFC 6062 section 4.3: with the credentials of the control connection.
        let same_user = self
            .allocations
            .get(connection.allocation)
            .is_some_and(|allocation| allocation.credential.username == caller.credential.username);
        if !same_user {
            return Err(ErrorCode::WRONG_CREDENTIALS);
        }
        if !matches!(connection.state, State::Waiting) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        let Some(state) = self.streams.get_mut(&stream) else {
            return Err(ErrorCode::BAD_REQUEST);
        };
        state.bound = Some(key);
        connection.state = State::Bound(stream);
        if let Some(deadline) = connection.deadline.take() {
            self.timers
                .cancel(deadline, Timer::Connection(ConnectionId(key)));
        }
        self.stop_stream_patience(stream);
        // The answer goes first; then the stream is the peer's.
        self.outbox
            .answer(&mut self.counters, reply.clone(), Answer::Done);
        self.outbox.command(Command::Splice {
            stream,
            connection: ConnectionId(key),
        });
        Ok(Outcome::Later)
    }

    /// Counts bytes that are to pass between a client's stream and a peer's connection after [`Command::Splice`].
    ///
    /// # Errors
    /// The bandwidth is used up, and nothing is counted: keep them, read no more from either side, and ask again after
    /// so long.
    pub fn charge(
        &mut self,
        now: Time,
        connection: ConnectionId,
        from_client: usize,
        from_peer: usize,
    ) -> Result<(), Duration> {
        let limits = self.bandwidth();
        let Some(allocation) = self
            .connections
            .get(connection.0)
            .map(|state| state.allocation)
            .and_then(|key| self.allocations.get_mut(key))
        else {
            return Ok(());
        };
        allocation
            .charge
            .take(now, from_client.saturating_add(from_peer), limits)?;
        allocation.traffic.bytes_from_client += from_client as u64;
        allocation.traffic.bytes_from_peers += from_peer as u64;
        self.counters.bytes_to_peers += from_client as u64;
        self.counters.bytes_to_clients += from_peer as u64;
        Ok(())
    }

    /// A peer has closed its connection.
    pub(super) fn peer_closed(&mut self, connection: ConnectionId) {
        self.end_connection(connection, false);
    }

    /// A connection was not made, or not bound, in time.
    pub(super) fn connection_expired(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connections.get_mut(id.0) {
            connection.deadline = None;
        }
        self.end_connection(id, true);
    }

    /// Ends a connection, on the client's side, too; on the peer's if it is still there.
    pub(super) fn end_connection(&mut self, id: ConnectionId, close_peer: bool) {
        let Some(connection) = self.connections.remove(id.0) else {
            return;
        };
        self.connection_numbers.remove(&connection.number);
        if let Some(deadline) = connection.deadline {
            self.timers.cancel(deadline, Timer::Connection(id));
        }
        if let Some(allocation) = self.allocations.get_mut(connection.allocation) {
            allocation.connections.retain(|other| *other != id.0);
        }
        match connection.state {
            State::Connecting(reply) => {
                // RFC 6062 section 5.2: 447 if the attempt fails or times out.
                self.counters.refused += 1;
                let answer = Answer::Error(ErrorCode::CONNECTION_TIMEOUT_OR_FAILURE);
                self.outbox.answer(&mut self.counters, *reply, answer);
            }
            State::Waiting => {}
            State::Bound(stream) => {
                // RFC 6062 section 5.5: with the peer's data connection, the client's is closed.
                if self.streams.remove(&stream).is_some() {
                    self.outbox.command(Command::CloseStream(stream));
                }
            }
        }
        if close_peer {
            self.outbox.command(Command::ClosePeer(id));
        }
    }

    /// The core that has the connection which a ConnectionBind request names, if that is another one. Only there can
    /// the request be verified with the allocation's key.
    pub(super) fn worker_of_connection_bind(&self, message: Message<'_>) -> Option<WorkerId> {
        if message.method() != Method::CONNECTION_BIND {
            return None;
        }
        let worker = worker_of(message.connection_id().ok()??);
        (worker != self.worker && self.common.has(worker)).then_some(worker)
    }

    /// The allocation whose connection a ConnectionBind request names: its key verifies the request.
    pub(super) fn subject_of_connection_bind(&self, message: Message<'_>) -> Option<Key> {
        if message.method() != Method::CONNECTION_BIND {
            return None;
        }
        let number = message.connection_id().ok()??;
        let key = self.connection_numbers.get(&number)?;
        Some(self.connections.get(*key)?.allocation)
    }

    /// Whether the stream carries a peer's bytes.
    pub(super) fn is_data_stream(&self, path: Path) -> bool {
        match path {
            Path::Stream(stream) => self
                .streams
                .get(&stream)
                .is_some_and(|state| state.bound.is_some()),
            Path::Datagram { .. } => false,
        }
    }

    /// The connections to peers that the rule refuses now.
    pub(super) fn forbidden_connections(&mut self) -> Vec<ConnectionId> {
        let rule = &self.config.peer_rule;
        self.connections
            .iter_mut()
            .filter(|(_, state)| rule.check_address(state.peer.ip()).is_err())
            .map(|(key, _)| ConnectionId(key))
            .collect()
    }

    fn add_connection(
        &mut self,
        now: Time,
        allocation: Key,
        relay: Key,
        peer: SocketAddr,
        state: State,
    ) -> Option<ConnectionId> {
        let most = self.config.max_connections;
        if self.allocations.get(allocation)?.connections.len() >= most {
            return None;
        }
        // RFC 6062 section 6.2.1: unique. Random, so that nobody guesses another's.
        let draws: [u32; DRAWS] = core::array::from_fn(|_| number_at(self.worker, self.random()));
        let number = draws
            .into_iter()
            .find(|number| !self.connection_numbers.contains_key(number))?;
        let deadline = now + PATIENCE;
        let key = self.connections.insert(Connection {
            allocation,
            relay,
            peer,
            number,
            state,
            deadline: Some(deadline),
        });
        self.connection_numbers.insert(number, key);
        self.timers
            .set(deadline, Timer::Connection(ConnectionId(key)));
        self.allocations.get_mut(allocation)?.connections.push(key);
        Some(ConnectionId(key))
    }
}

/// The first byte of a connection's number tells the core that has it, on whichever core a ConnectionBind arrives.
const fn number_at(worker: WorkerId, random: [u8; 3]) -> u32 {
    u32::from_be_bytes([worker.0, random[0], random[1], random[2]])
}

const fn worker_of(number: u32) -> WorkerId {
    WorkerId(number.to_be_bytes()[0])
}
