//! TCP: connections over the same wires, NATs and firewalls as everything else.
//!
//! | file | what lives there |
//! |---|---|
//! | `connection` | one end of a connection: bytes in order, again if they were lost |
//! | `sockets` | [`TcpListener`] and [`TcpStream`], for whoever writes the world |
//!
//! It is a small TCP with what tests of sessions feel: a round trip to open, SYNs that nobody answers, refusals,
//! retransmission and its delays, a window that grows and shrinks. A connection can have a handshake like TLS's on
//! top: one more round trip and as many bytes, without the cryptography.

use core::net::SocketAddr;
use std::collections::{BTreeMap, VecDeque};

use nilas_ice::Time;

use crate::packet::Segment;

mod connection;
mod sockets;

pub(crate) use self::connection::{Connection, Happened};
pub use self::sockets::{TcpListener, TcpStream};

/// Whose a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    /// Whoever wrote the world.
    Application,
    /// The engine of a host.
    Engine,
    /// A server.
    Server,
}

/// Why a connection is over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum End {
    /// The other side has closed it, and everything it sent has arrived.
    Finished,
    /// Nobody listens there.
    Refused,
    /// The other side does not know it (any more).
    Reset,
    /// Nobody answered.
    TimedOut,
    /// The other side does not speak like TLS.
    Handshake,
}

/// Somebody listens.
#[derive(Clone, Copy, Debug)]
struct Listener {
    owner: Owner,
    secure: bool,
}

/// A segment to send: from, to, header, payload.
pub(crate) type Outgoing = (SocketAddr, SocketAddr, Segment, Vec<u8>);

/// All connections of a node.
#[derive(Debug)]
pub(crate) struct Stack {
    connections: BTreeMap<u32, Connection>,
    by_pair: BTreeMap<(SocketAddr, SocketAddr), u32>,
    listeners: BTreeMap<SocketAddr, Listener>,
    next_id: u32,
    next_port: u16,
    outgoing: VecDeque<Outgoing>,
    happened: VecDeque<(u32, Owner, Happened)>,
    /// When the world will wake it.
    pub(crate) wake: Option<Time>,
    application: sockets::Accepted,
}

/// The first of the dynamic ports (RFC 6335).
const FIRST_DYNAMIC_PORT: u16 = 49_152;

impl Stack {
    pub(crate) const fn new() -> Self {
        Self {
            connections: BTreeMap::new(),
            by_pair: BTreeMap::new(),
            listeners: BTreeMap::new(),
            next_id: 0,
            next_port: FIRST_DYNAMIC_PORT,
            outgoing: VecDeque::new(),
            happened: VecDeque::new(),
            wake: None,
            application: sockets::Accepted::new(),
        }
    }

    /// Whether somebody could be let listen there.
    pub(crate) fn listen(&mut self, at: SocketAddr, owner: Owner, secure: bool) -> bool {
        let free = !self.listeners.contains_key(&at);
        if free {
            self.listeners.insert(at, Listener { owner, secure });
        }
        free
    }

    /// As `listen`, for an engine, where port 0 is any. The address, if it is free.
    pub(crate) fn listen_for_engine(&mut self, mut at: SocketAddr) -> Option<SocketAddr> {
        if at.port() == 0 {
            at.set_port(self.free_port(at, at)?);
        }
        self.listen(at, Owner::Engine, false).then_some(at)
    }

    /// Nobody listens there any more. Connections that were accepted stay.
    pub(crate) fn stop_listening(&mut self, at: SocketAddr) {
        self.listeners.remove(&at);
    }

    /// Opens a connection from an address; port 0 is any.
    pub(crate) fn connect(
        &mut self,
        now: Time,
        mut local: SocketAddr,
        remote: SocketAddr,
        owner: Owner,
        secure: bool,
    ) -> Option<u32> {
        if local.port() == 0 {
            local.set_port(self.free_port(local, remote)?);
        }
        if self.by_pair.contains_key(&(local, remote)) {
            return None;
        }
        let mut connection = Connection::connect(local, remote, owner, secure);
        let mut out = Vec::new();
        connection.open(now, &mut out);
        self.queue(local, remote, out);
        Some(self.insert(connection))
    }

    /// All of the bytes, or none if there is no room or no connection.
    pub(crate) fn write(&mut self, now: Time, id: u32, bytes: &[u8]) -> bool {
        let Some(connection) = self.connections.get_mut(&id) else {
            return false;
        };
        let taken = connection.write(bytes);
        self.push(now, id);
        taken
    }

    /// What came on a connection and was not taken yet.
    pub(crate) fn take(&mut self, id: u32) -> Vec<u8> {
        self.connections
            .get_mut(&id)
            .map(Connection::take)
            .unwrap_or_default()
    }

    /// Closes a connection, after what was written has left. One that is not open yet is given up.
    pub(crate) fn close(&mut self, now: Time, id: u32) {
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        if connection.is_ready() {
            connection.finish();
            self.push(now, id);
            self.bury(id);
        } else {
            let (local, remote, reset) = (connection.local, connection.remote, connection.reset());
            self.queue(local, remote, vec![(reset, Vec::new())]);
            self.remove(id);
        }
    }

    /// A segment has come.
    pub(crate) fn handle(
        &mut self,
        now: Time,
        local: SocketAddr,
        remote: SocketAddr,
        segment: Segment,
        payload: &[u8],
    ) {
        let mut out = Vec::new();
        let Some(id) = self.by_pair.get(&(local, remote)).copied() else {
            return self.handle_stranger(now, local, remote, segment, payload);
        };
        let Some(connection) = self.connections.get_mut(&id) else {
            return;
        };
        let happened = connection.handle(now, segment, payload, &mut out);
        let owner = connection.owner;
        self.queue(local, remote, out);
        for happened in happened {
            self.happened.push_back((id, owner, happened));
            if matches!(happened, Happened::Ended(end) if end != End::Finished) {
                self.remove(id);
            }
        }
        self.bury(id);
    }

    /// Serves the timers that have run out.
    pub(crate) fn fire(&mut self, now: Time) {
        let due: Vec<u32> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.timer.is_some_and(|timer| timer <= now))
            .map(|(id, _)| *id)
            .collect();
        for id in due {
            let Some(connection) = self.connections.get_mut(&id) else {
                continue;
            };
            let mut out = Vec::new();
            let lives = connection.fire(now, &mut out);
            let (local, remote, owner) = (connection.local, connection.remote, connection.owner);
            self.queue(local, remote, out);
            if !lives {
                let end = Happened::Ended(End::TimedOut);
                self.happened.push_back((id, owner, end));
                self.remove(id);
            }
        }
    }

    pub(crate) fn deadline(&self) -> Option<Time> {
        let timers = self.connections.values();
        timers.filter_map(|connection| connection.timer).min()
    }

    pub(crate) fn next_outgoing(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }

    pub(crate) fn next_happened(&mut self) -> Option<(u32, Owner, Happened)> {
        self.happened.pop_front()
    }

    pub(crate) fn connection(&self, id: u32) -> Option<&Connection> {
        self.connections.get(&id)
    }

    /// What belongs to no connection: a SYN for a listener, or something that is answered with a RST.
    fn handle_stranger(
        &mut self,
        now: Time,
        local: SocketAddr,
        remote: SocketAddr,
        segment: Segment,
        payload: &[u8],
    ) {
        if segment.rst {
            return;
        }
        let listener = self.listeners.get(&local).copied();
        if let (true, None, Some(listener)) = (segment.syn, segment.acknowledgement, listener) {
            let mut out = Vec::new();
            let mut connection = Connection::accept(local, remote, listener.owner, listener.secure);
            connection.open(now, &mut out);
            self.queue(local, remote, out);
            self.insert(connection);
            return;
        }
        // RFC 9293: what belongs to no connection is answered with a RST.
        let length = payload.len() as u64 + u64::from(segment.syn) + u64::from(segment.fin);
        let reset = Segment {
            sequence: segment.acknowledgement.unwrap_or(0),
            acknowledgement: Some(segment.sequence + length),
            rst: true,
            ..Segment::default()
        };
        self.queue(local, remote, vec![(reset, Vec::new())]);
    }

    fn push(&mut self, now: Time, id: u32) {
        if let Some(connection) = self.connections.get_mut(&id) {
            let mut out = Vec::new();
            connection.send(now, &mut out);
            let (local, remote) = (connection.local, connection.remote);
            self.queue(local, remote, out);
        }
    }

    fn queue(&mut self, local: SocketAddr, remote: SocketAddr, out: Vec<(Segment, Vec<u8>)>) {
        self.outgoing.extend(
            out.into_iter()
                .map(|(segment, payload)| (local, remote, segment, payload)),
        );
    }

    fn insert(&mut self, connection: Connection) -> u32 {
        let id = self.next_id;
        self.next_id += 1;
        self.by_pair
            .insert((connection.local, connection.remote), id);
        self.connections.insert(id, connection);
        id
    }

    /// Forgets a connection that both sides have closed, once its last bytes were taken.
    fn bury(&mut self, id: u32) {
        if self.connections.get(&id).is_some_and(Connection::is_over) {
            self.remove(id);
        }
    }

    fn remove(&mut self, id: u32) {
        if let Some(connection) = self.connections.remove(&id) {
            self.by_pair.remove(&(connection.local, connection.remote));
        }
    }

    fn free_port(&mut self, local: SocketAddr, remote: SocketAddr) -> Option<u16> {
        for _ in FIRST_DYNAMIC_PORT..=u16::MAX {
            let port = self.next_port;
            self.next_port = port.checked_add(1).unwrap_or(FIRST_DYNAMIC_PORT);
            let at = SocketAddr::new(local.ip(), port);
            if !self.by_pair.contains_key(&(at, remote)) && !self.listeners.contains_key(&at) {
                return Some(port);
            }
        }
        None
    }
}
