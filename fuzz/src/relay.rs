//! A TURN server's core with a driver that has no sockets, and users that sign their requests.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nilas_stun::{
    AddressFamily, Class, Key, Message, MessageBuilder, Method, PasswordAlgorithm, TransactionId,
};
use nilas_turn::Time;
use nilas_turn::server::{
    BindError, Command, Common, ConnectionId, Counters, Handled, Input, ListenerId, MIN_BUFFER,
    Output, Path, RelayId, RelayPort, RelayProtocol, Server, ServerConfig, StreamId, WorkerId,
};

pub const REALM: &str = "example.org";
pub const USER: &str = "ann";
pub const PASSWORD: &str = "secret of ann";
pub const MAX_ALLOCATIONS: usize = 8;
const FIRST_PORT: u16 = 50_000;
/// Few, so that they run out.
const PORTS: u16 = 12;
/// However much there is to do, this many things at one time are more than the bounds of the server allow.
const MAX_OUTPUTS: usize = 4_096;
/// What a driver keeps of a stream whose client has no allocation (RFC 8489 section 6.2.2 sets no limit).
const MAX_STRANGER: usize = 4_096;

pub fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

pub fn config() -> ServerConfig {
    let mut config = ServerConfig::new(REALM).expect("the realm is allowed");
    config
        .add_user(USER, PASSWORD)
        .expect("the user is allowed");
    config
        .add_user("bob", "secret of bob")
        .expect("the user is allowed");
    config.families.ipv6 = true;
    config.peer_rule.allow = ["192.0.2.0/24", "2001:db8::/32"]
        .map(|net| net.parse().expect("a network"))
        .into();
    config.peer_rule.relay = vec![relay_ip(AddressFamily::Ipv4), relay_ip(AddressFamily::Ipv6)];
    config.peer_rule.relay_ports = Some(FIRST_PORT..=59_999);
    config.max_allocations_per_user = 6;
    config.max_allocations = MAX_ALLOCATIONS;
    config.max_permissions = 4;
    config.max_channels = 4;
    config.max_connections = 3;
    config
}

fn relay_ip(family: AddressFamily) -> IpAddr {
    match family {
        AddressFamily::Ipv4 => address("198.51.100.1:1").ip(),
        AddressFamily::Ipv6 => address("[2001:db8:ffff::1]:1").ip(),
    }
}

/// What the configuration lets a client reach, said in another way than the server does.
fn may_be_reached(peer: SocketAddr) -> bool {
    // Documentation addresses by the configuration, and what is nobody's in particular by default.
    let open = match peer.ip() {
        IpAddr::V4(v4) => match v4.octets() {
            [192, 0, 2, _] => true,
            [0 | 10 | 127 | 224..=255, ..]
            | [100, 64..=127, ..]
            | [169, 254, ..]
            | [172, 16..=31, ..]
            | [192, 0, 0, _]
            | [192, 88, 99, _]
            | [192, 168, ..]
            | [198, 18 | 19, ..]
            | [198, 51, 100, _]
            | [203, 0, 113, _] => false,
            _ => true,
        },
        IpAddr::V6(v6) => match v6.segments() {
            [0x2001, 0xDB8, ..] => true,
            [0x2001, 0..=0x1FF, ..] | [0x2002 | 0x3FFF, ..] => false,
            [first, ..] => first >> 13 == 1,
        },
    };
    let relayed = peer.ip() == relay_ip(AddressFamily::of(peer.ip()))
        && (FIRST_PORT..60_000).contains(&peer.port());
    peer.port() != 0 && (open || relayed)
}

/// A datagram that left a relayed transport address.
pub struct Relayed {
    pub relay: RelayId,
    pub peer: SocketAddr,
    pub bytes: Vec<u8>,
}

/// What an unauthenticated message must not change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
    pub allocations: u64,
    pub relays: u64,
    pub connections: u64,
    pub reservations: u64,
    pub charged: usize,
    pub users: usize,
}

/// The core and its driver.
pub struct Relay {
    pub server: Server,
    common: Arc<Common>,
    pub now: Time,
    pub relays: BTreeMap<RelayId, (SocketAddr, RelayProtocol)>,
    pub reserved: BTreeMap<[u8; 8], SocketAddr>,
    taken: BTreeSet<SocketAddr>,
    /// Connections to peers that the core has heard nothing of yet.
    pub connecting: Vec<ConnectionId>,
    pub connections: Vec<ConnectionId>,
    /// What was sent to clients since the list was emptied.
    pub sent: Vec<(Path, Vec<u8>)>,
    pub relayed: Vec<Relayed>,
    /// Open streams, and what of them the core has not taken.
    pub streams: BTreeMap<StreamId, Vec<u8>>,
    spliced: BTreeSet<StreamId>,
    last_stream: u64,
    /// Addresses that a user has asked to reach, rightly signed.
    pub asked: BTreeSet<IpAddr>,
    /// Whether no account is kept of who has asked for whom.
    pub any_peer: bool,
    /// Whether BindRelay succeeds.
    pub binds: bool,
}

impl Default for Relay {
    fn default() -> Self {
        let common = Common::new([7; 32], Duration::from_secs(1_700_000_000), 1);
        Self {
            server: Server::new(
                Arc::new(config()),
                Arc::clone(&common),
                WorkerId(0),
                [3; 32],
            ),
            common,
            now: Time::from_millis(1_000),
            relays: BTreeMap::new(),
            reserved: BTreeMap::new(),
            taken: BTreeSet::new(),
            connecting: Vec::new(),
            connections: Vec::new(),
            sent: Vec::new(),
            relayed: Vec::new(),
            streams: BTreeMap::new(),
            spliced: BTreeSet::new(),
            last_stream: 100,
            asked: BTreeSet::new(),
            any_peer: false,
            binds: true,
        }
    }
}

impl Relay {
    pub fn handle(&mut self, input: Input<'_>, bytes: &[u8]) -> Handled {
        let handled = self.server.handle(self.now, input);
        self.act(&handled, bytes);
        self.drive();
        handled
    }

    /// Bytes on a client's path.
    pub fn receive(&mut self, path: Path, bytes: &[u8]) {
        match path {
            Path::Datagram { .. } => {
                let _ = self.handle(Input::ClientDatagram { path, bytes }, bytes);
            }
            Path::Stream(stream) => self.feed(stream, bytes),
        }
    }

    /// Opens a stream.
    fn open(&mut self) -> StreamId {
        self.last_stream += 1;
        let stream = StreamId(self.last_stream);
        self.streams.insert(stream, Vec::new());
        let client = SocketAddr::from(([203, 0, 113, 7], 40_000 + stream.0 as u16));
        let _ = self.handle(Input::StreamOpened { stream, client }, &[]);
        stream
    }

    pub fn close(&mut self, path: Path) {
        if let Path::Stream(stream) = path {
            if self.streams.remove(&stream).is_none() {
                return;
            }
            self.spliced.remove(&stream);
        }
        let _ = self.handle(Input::PathClosed(path), &[]);
    }

    fn feed(&mut self, stream: StreamId, bytes: &[u8]) {
        if self.spliced.contains(&stream) {
            return;
        }
        let Some(kept) = self.streams.get_mut(&stream) else {
            return;
        };
        kept.extend_from_slice(bytes);
        let mut bytes = core::mem::take(kept);
        loop {
            let result = self.server.handle_stream(self.now, stream, &bytes);
            assert!(result.taken <= bytes.len(), "more is taken than there is");
            self.act(&result.handled, &bytes[..result.taken]);
            bytes.drain(..result.taken);
            self.drive();
            if result.taken == 0 || bytes.is_empty() {
                break;
            }
        }
        if self.spliced.contains(&stream) {
            return;
        }
        if let Some(kept) = self.streams.get_mut(&stream) {
            assert!(
                bytes.len() < 65_536 + 24,
                "a message of {} bytes is awaited",
                bytes.len()
            );
            assert!(
                self.server.counters().allocations > 0 || bytes.len() < MAX_STRANGER,
                "a stranger has the driver keep {} bytes",
                bytes.len()
            );
            *kept = bytes;
        }
    }

    fn act(&mut self, handled: &Handled, bytes: &[u8]) {
        match handled {
            Handled::ToPeer {
                relay,
                peer,
                payload,
                ..
            } => {
                assert!(may_be_reached(*peer), "{peer} is reached");
                assert!(
                    self.any_peer || self.asked.contains(&peer.ip()),
                    "{peer} is sent to without a permission"
                );
                assert!(
                    self.relays.contains_key(relay),
                    "data leaves from a relay that is gone"
                );
                let bytes = bytes[payload.clone()].to_vec();
                self.relayed.push(Relayed {
                    relay: *relay,
                    peer: *peer,
                    bytes,
                });
            }
            Handled::ToClient {
                path,
                head,
                payload,
                tail,
            } => {
                let mut message = head.as_bytes().to_vec();
                message.extend_from_slice(&bytes[payload.clone()]);
                message.extend(core::iter::repeat_n(0, usize::from(*tail)));
                self.sent.push((*path, message));
            }
            Handled::Accepted(connection) => self.connections.push(*connection),
            _ => {}
        }
    }

    /// Does what the core wants, until it is idle; gives its deadline.
    pub fn drive(&mut self) -> Option<Time> {
        let mut buffer = [0xEE; MIN_BUFFER];
        for _ in 0..MAX_OUTPUTS {
            match self.server.poll(self.now, &mut buffer) {
                Output::Transmit { path, size } => self.sent.push((path, buffer[..size].to_vec())),
                Output::Command(command) => self.obey(command),
                Output::Idle(deadline) => {
                    assert!(
                        deadline.is_none_or(|at| at > self.now),
                        "idle, and due at once"
                    );
                    return deadline;
                }
                _ => {}
            }
        }
        panic!("the core has always more to do");
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::BindRelay {
                relay,
                family,
                protocol,
                port,
            } => {
                let result = self.bind(family, port);
                if let Ok(address) = result {
                    self.relays.insert(relay, (address, protocol));
                }
                let _ = self
                    .server
                    .handle(self.now, Input::RelayBound { relay, result });
            }
            Command::CloseRelay(relay) => {
                if let Some((address, _)) = self.relays.remove(&relay) {
                    assert!(self.taken.remove(&address), "a port is given back twice");
                }
            }
            Command::ReleaseReservation(token) => {
                if let Some(address) = self.reserved.remove(&token) {
                    assert!(self.taken.remove(&address), "a port is given back twice");
                }
            }
            Command::ConnectPeer {
                connection, peer, ..
            } => {
                assert!(may_be_reached(peer), "{peer} is connected to");
                self.connecting.push(connection);
            }
            Command::Splice { stream, .. } => {
                self.spliced.insert(stream);
            }
            Command::ClosePeer(connection) => {
                self.connecting.retain(|known| *known != connection);
                self.connections.retain(|known| *known != connection);
            }
            Command::CloseStream(stream) => {
                self.streams.remove(&stream);
                self.spliced.remove(&stream);
            }
            _ => {}
        }
    }

    fn bind(&mut self, family: AddressFamily, port: RelayPort) -> Result<SocketAddr, BindError> {
        let at = |port| SocketAddr::new(relay_ip(family), port);
        let free = |port: &u16| !self.taken.contains(&at(*port));
        let mut ports = FIRST_PORT..FIRST_PORT + PORTS;
        if !self.binds {
            return Err(BindError::Other);
        }
        let found = match port {
            RelayPort::Reserved(token) => {
                return self.reserved.remove(&token).ok_or(BindError::NoReservation);
            }
            RelayPort::Any => ports.find(free),
            RelayPort::Even => ports.step_by(2).find(free),
            RelayPort::EvenWithNext(_) => ports
                .step_by(2)
                .find(|port| free(port) && free(&(port + 1))),
        };
        let address = at(found.ok_or(BindError::NoPort)?);
        self.taken.insert(address);
        if let RelayPort::EvenWithNext(token) = port {
            let next = at(address.port() + 1);
            self.taken.insert(next);
            self.reserved.insert(token, next);
        }
        Ok(address)
    }

    /// Lets time pass, stopping at each deadline.
    pub fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..MAX_OUTPUTS {
            match self.drive() {
                Some(deadline) if deadline <= end => self.now = deadline,
                _ => {
                    self.now = end;
                    self.drive();
                    return;
                }
            }
        }
        panic!("deadlines without end");
    }

    pub fn held(&self) -> Held {
        let Counters {
            allocations,
            relays,
            connections,
            reservations,
            ..
        } = self.server.counters();
        Held {
            allocations,
            relays,
            connections,
            reservations,
            charged: self.common.allocations(),
            users: self.common.users(),
        }
    }

    /// The bounds, which hold at any time.
    pub fn check(&self) {
        let counters = self.server.counters();
        let held = self.held();
        assert!(held.charged <= MAX_ALLOCATIONS, "{held:?}");
        assert!(
            held.allocations <= held.charged as u64,
            "an allocation is not charged: {held:?}"
        );
        assert!(held.relays <= 2 * held.allocations, "{held:?}");
        assert!(held.connections <= 3 * held.allocations, "{held:?}");
        assert_eq!(
            self.relays.len() as u64,
            held.relays,
            "the driver and the core agree on what is bound"
        );
        assert_eq!(
            self.reserved.len() as u64,
            held.reservations,
            "the driver and the core agree on what is reserved"
        );
        let most = held.relays + held.connections + held.reservations + counters.streams;
        assert!(
            counters.timers <= most,
            "{} timers for {most} things",
            counters.timers
        );
    }

    /// When all clients have gone away without a word, nothing is left of them.
    pub fn end(mut self) {
        let streams: Vec<_> = self.streams.keys().copied().collect();
        for stream in streams {
            self.close(Path::Stream(stream));
        }
        self.pass(Duration::from_secs(2 * 3_600));
        self.check();
        let nothing = Held {
            allocations: 0,
            relays: 0,
            connections: 0,
            reservations: 0,
            charged: 0,
            users: 0,
        };
        assert_eq!(self.held(), nothing, "something is left");
        assert!(self.taken.is_empty(), "{:?} stay taken", self.taken);
        assert_eq!(self.server.counters().timers, 0, "a timer is left");
    }
}

/// A user on a path.
pub struct User {
    pub path: Path,
    name: &'static str,
    password: &'static str,
    pub nonce: String,
    pub sha256: bool,
    transactions: u64,
}

impl User {
    pub fn new(path: Path, number: u8) -> Self {
        let (name, password) = if number % 2 == 0 {
            (USER, PASSWORD)
        } else {
            ("bob", "secret of bob")
        };
        Self {
            path,
            name,
            password,
            nonce: String::new(),
            sha256: false,
            transactions: u64::from(number) << 32,
        }
    }

    /// The path; a stream that is not open is opened anew, with a number of its own.
    pub fn open(&mut self, relay: &mut Relay) -> Path {
        if let Path::Stream(stream) = self.path
            && !relay.streams.contains_key(&stream)
        {
            self.path = Path::Stream(relay.open());
        }
        self.path
    }

    /// A signed request.
    pub fn sign(&mut self, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
        self.transactions += 1;
        let mut id = [9; 12];
        id[..8].copy_from_slice(&self.transactions.to_be_bytes());
        let mut buffer = vec![0; 8_192];
        let mut builder =
            MessageBuilder::new(&mut buffer, Class::Request, method, TransactionId::new(id))
                .expect("there is room");
        write(&mut builder);
        let key = match self.sha256 {
            false => Key::long_term_md5(self.name, REALM, self.password),
            true => Key::long_term_sha256(self.name, REALM, self.password),
        }
        .expect("the credentials are allowed");
        builder
            .username(self.name)
            .and_then(|b| b.realm(REALM))
            .and_then(|b| b.nonce(&self.nonce))
            .expect("room");
        if self.sha256 {
            builder
                .password_algorithms(&[PasswordAlgorithm::SHA_256, PasswordAlgorithm::MD5])
                .and_then(|b| b.password_algorithm(PasswordAlgorithm::SHA_256))
                .and_then(|b| b.message_integrity_sha256(&key, 32))
                .expect("room");
        } else {
            builder.message_integrity(&key).expect("room");
        }
        let length = builder.finish();
        buffer.truncate(length);
        buffer
    }

    /// Takes the nonce of what was sent to this user.
    pub fn learn(&mut self, sent: &[(Path, Vec<u8>)]) {
        for (_, bytes) in sent.iter().filter(|(path, _)| *path == self.path) {
            if let Ok(message) = Message::parse(bytes)
                && let Ok(Some(nonce)) = message.nonce()
            {
                self.nonce = nonce.to_owned();
            }
        }
    }
}

/// A path for datagrams.
pub fn datagram_path(client: SocketAddr) -> Path {
    Path::Datagram {
        listener: ListenerId(0),
        client,
        server: address("198.51.100.1:3478"),
    }
}
