//! A server core with a driver that has no sockets, and clients of it, in virtual time.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use nilas_stun::{
    AddressFamily, Authenticated, Class, IntegrityAlgorithm, Key, Message, MessageBuilder, Method,
    PasswordAlgorithm, TransactionId,
};
use nilas_turn::Time;
use nilas_turn::server::{
    BindError, Command, Common, ConnectionId, Event, Handled, Input, ListenerId, MIN_BUFFER,
    Output, Path, RelayId, RelayPort, RelayProtocol, Server, ServerConfig, StreamId, WorkerId,
};

pub(crate) const REALM: &str = "example.org";
/// The time since 1970 when the virtual time begins, in seconds.
pub(crate) const UNIX: u64 = 1_700_000_000;
pub(crate) const SECOND: Duration = Duration::from_secs(1);

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect(text)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect(text)
}

/// A realm with the user ann, who may reach documentation addresses.
pub(crate) fn config() -> ServerConfig {
    let mut config = ServerConfig::new(REALM).unwrap();
    config.add_user("ann", "secret of ann").unwrap();
    config.add_user("bob", "secret of bob").unwrap();
    config.families.ipv6 = true;
    config.peer_rule.allow = ["192.0.2.0/24", "2001:db8::/32"]
        .map(|network| network.parse().unwrap())
        .into();
    config.peer_rule.relay = vec![ip("198.51.100.1"), ip("2001:db8:ffff::1")];
    config.peer_rule.relay_ports = Some(50_000..=59_999);
    config
}

/// The core and its driver.
pub(crate) struct Bench {
    pub(crate) server: Server,
    pub(crate) common: Arc<Common>,
    pub(crate) now: Time,
    /// Relayed transport addresses that are bound.
    pub(crate) relays: BTreeMap<RelayId, (SocketAddr, RelayProtocol)>,
    /// Ports that are reserved.
    pub(crate) reserved: BTreeMap<[u8; 8], SocketAddr>,
    /// Ports that are taken, by family.
    pub(crate) taken: BTreeSet<SocketAddr>,
    /// How many ports there are from 50,000 on.
    pub(crate) ports: u16,
    pub(crate) transmits: Vec<(Path, Vec<u8>)>,
    pub(crate) commands: Vec<Command>,
    pub(crate) events: Vec<Event>,
    /// Whether BindRelay is answered at once.
    pub(crate) binds: bool,
    transactions: u64,
}

impl Bench {
    pub(crate) fn new(config: ServerConfig) -> Self {
        let common = Common::new([7; 32], Duration::from_secs(UNIX), 4);
        Self::with_common(config, common, WorkerId(0))
    }

    pub(crate) fn with_common(config: ServerConfig, common: Arc<Common>, worker: WorkerId) -> Self {
        let server = Server::new(
            Arc::new(config),
            Arc::clone(&common),
            worker,
            [worker.0; 32],
        );
        Self {
            server,
            common,
            now: Time::from_millis(1_000),
            relays: BTreeMap::new(),
            reserved: BTreeMap::new(),
            taken: BTreeSet::new(),
            ports: 10_000,
            transmits: Vec::new(),
            commands: Vec::new(),
            events: Vec::new(),
            binds: true,
            transactions: 0,
        }
    }

    pub(crate) fn handle(&mut self, input: Input<'_>) -> Handled {
        let handled = self.server.handle(self.now, input);
        self.drive();
        handled
    }

    pub(crate) fn datagram(&mut self, path: Path, bytes: &[u8]) -> Handled {
        self.handle(Input::ClientDatagram { path, bytes })
    }

    /// Does what the core wants.
    pub(crate) fn drive(&mut self) -> Option<Time> {
        let mut buffer = [0xEE; MIN_BUFFER];
        loop {
            match self.server.poll(self.now, &mut buffer) {
                Output::Transmit { path, size } => {
                    self.transmits.push((path, buffer[..size].to_vec()));
                }
                Output::Event(event) => self.events.push(event),
                Output::Command(command) => {
                    self.obey(&command);
                    self.commands.push(command);
                }
                Output::Idle(deadline) => return deadline,
                _ => {}
            }
        }
    }

    fn obey(&mut self, command: &Command) {
        match command {
            Command::BindRelay {
                relay,
                family,
                protocol,
                port,
            } if self.binds => {
                let result = self.bind(*family, *port);
                if let Ok(address) = result {
                    self.relays.insert(*relay, (address, *protocol));
                }
                let _ = self.server.handle(
                    self.now,
                    Input::RelayBound {
                        relay: *relay,
                        result,
                    },
                );
            }
            Command::CloseRelay(relay) => {
                if let Some((address, _)) = self.relays.remove(relay) {
                    assert!(self.taken.remove(&address));
                }
            }
            Command::ReleaseReservation(token) => {
                if let Some(address) = self.reserved.remove(token) {
                    assert!(self.taken.remove(&address));
                }
            }
            _ => {}
        }
    }

    fn bind(&mut self, family: AddressFamily, port: RelayPort) -> Result<SocketAddr, BindError> {
        let host = match family {
            AddressFamily::Ipv4 => ip("198.51.100.1"),
            AddressFamily::Ipv6 => ip("2001:db8:ffff::1"),
        };
        let at = |port| SocketAddr::new(host, port);
        let mut ports = 50_000..50_000 + self.ports;
        let address = match port {
            RelayPort::Reserved(token) => {
                return self.reserved.remove(&token).ok_or(BindError::NoReservation);
            }
            RelayPort::Any => ports.find(|port| !self.taken.contains(&at(*port))),
            RelayPort::Even => ports.find(|port| port % 2 == 0 && !self.taken.contains(&at(*port))),
            RelayPort::EvenWithNext(token) => {
                let end = ports.end;
                let found = ports.find(|port| {
                    port % 2 == 0
                        && port + 1 < end
                        && !self.taken.contains(&at(*port))
                        && !self.taken.contains(&at(port + 1))
                });
                if let Some(port) = found {
                    self.reserved.insert(token, at(port + 1));
                    self.taken.insert(at(port + 1));
                }
                found
            }
        };
        let address = at(address.ok_or(BindError::NoPort)?);
        self.taken.insert(address);
        Ok(address)
    }

    /// Lets time pass, stopping at each deadline.
    pub(crate) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while let Some(deadline) = self.drive() {
            if deadline > end {
                break;
            }
            self.now = self.now.max(deadline);
        }
        self.now = end;
        self.drive();
    }

    pub(crate) fn transaction(&mut self) -> TransactionId {
        self.transactions += 1;
        let mut id = [9; 12];
        id[..8].copy_from_slice(&self.transactions.to_be_bytes());
        TransactionId::new(id)
    }

    /// What was sent since the last time, the last message only.
    pub(crate) fn last_transmit(&mut self) -> Option<(Path, Vec<u8>)> {
        let last = self.transmits.pop();
        self.transmits.clear();
        last
    }

    pub(crate) fn is_empty(&mut self) -> bool {
        self.drive();
        let counters = self.server.counters();
        (
            counters.allocations,
            counters.relays,
            counters.connections,
            counters.reservations,
        ) == (0, 0, 0, 0)
            && self.relays.is_empty()
            && self.reserved.is_empty()
            && self.taken.is_empty()
            && self.common.allocations() == 0
            && self.common.users() == 0
    }

    pub(crate) fn open_stream(&mut self, number: u64) -> Path {
        let stream = StreamId(number);
        let client = SocketAddr::from(([203, 0, 113, 7], 40_000 + number as u16));
        let _ = self.handle(Input::StreamOpened { stream, client });
        Path::Stream(stream)
    }
}

/// A path for datagrams from this client.
pub(crate) fn path(client: &str) -> Path {
    Path::Datagram {
        listener: ListenerId(0),
        client: address(client),
        server: address("198.51.100.1:3478"),
    }
}

/// Which password algorithm a client uses, if it knows of them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Algorithm {
    /// A client of RFC 5389.
    Old,
    Md5,
    Sha256,
}

/// A client that signs its requests.
#[derive(Clone)]
pub(crate) struct Client {
    pub(crate) path: Path,
    pub(crate) username: String,
    pub(crate) password: String,
    pub(crate) realm: String,
    pub(crate) nonce: String,
    pub(crate) algorithm: Algorithm,
    pub(crate) token: Option<Vec<u8>>,
    /// Instead of what the password makes.
    pub(crate) key: Option<Key>,
    pub(crate) userhash: bool,
}

impl Client {
    pub(crate) fn new(path: Path, username: &str, password: &str) -> Self {
        Self {
            path,
            username: username.into(),
            password: password.into(),
            realm: REALM.into(),
            nonce: String::new(),
            algorithm: Algorithm::Old,
            token: None,
            key: None,
            userhash: false,
        }
    }

    pub(crate) fn ann(client: &str) -> Self {
        Self::new(path(client), "ann", "secret of ann")
    }

    pub(crate) fn key(&self) -> Key {
        if let Some(key) = &self.key {
            return key.clone();
        }
        match self.algorithm {
            Algorithm::Old | Algorithm::Md5 => {
                Key::long_term_md5(&self.username, &self.realm, &self.password)
            }
            Algorithm::Sha256 => Key::long_term_sha256(&self.username, &self.realm, &self.password),
        }
        .unwrap()
    }

    /// A signed request.
    pub(crate) fn sign(
        &self,
        id: TransactionId,
        method: Method,
        write: impl FnOnce(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        let mut buffer = vec![0; 8_192];
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id).unwrap();
        write(&mut builder);
        if self.userhash {
            let hash = nilas_stun::userhash(&self.username, &self.realm).unwrap();
            builder.userhash(&hash).unwrap();
        } else {
            builder.username(&self.username).unwrap();
        }
        builder.realm(&self.realm).unwrap();
        builder.nonce(&self.nonce).unwrap();
        if let Some(token) = &self.token
            && matches!(method, Method::ALLOCATE | Method::REFRESH)
        {
            builder.access_token(token).unwrap();
        }
        let chosen = match self.algorithm {
            Algorithm::Old => None,
            Algorithm::Md5 => Some(PasswordAlgorithm::MD5),
            Algorithm::Sha256 => Some(PasswordAlgorithm::SHA_256),
        };
        if let Some(chosen) = chosen {
            builder
                .password_algorithms(&[PasswordAlgorithm::SHA_256, PasswordAlgorithm::MD5])
                .unwrap()
                .password_algorithm(chosen)
                .unwrap();
            builder.message_integrity_sha256(&self.key(), 32).unwrap();
        } else {
            builder.message_integrity(&self.key()).unwrap();
        }
        let length = builder.finish();
        buffer.truncate(length);
        buffer
    }

    /// Sends bytes on the client's path, and gives what the core says and its last answer.
    pub(crate) fn exchange(&self, bench: &mut Bench, bytes: &[u8]) -> (Handled, Option<Vec<u8>>) {
        bench.transmits.clear();
        let handled = match self.path {
            Path::Datagram { .. } => bench.datagram(self.path, bytes),
            Path::Stream(stream) => {
                let handled = bench.server.handle_stream(bench.now, stream, bytes);
                bench.drive();
                handled.handled
            }
        };
        let path = self.path;
        let answer = bench
            .transmits
            .iter()
            .rev()
            .find(|(to, _)| *to == path)
            .map(|(_, bytes)| bytes.clone());
        (handled, answer)
    }

    /// Makes a request, taking a new nonce once if it must, and gives the answer if one comes.
    pub(crate) fn try_request(
        &mut self,
        bench: &mut Bench,
        method: Method,
        write: impl Fn(&mut MessageBuilder<'_>),
    ) -> Option<Answer> {
        for _ in 0..2 {
            let id = bench.transaction();
            let bytes = self.sign(id, method, &write);
            let (_, answer) = self.exchange(bench, &bytes);
            let answer = Answer(answer?);
            let had_nonce = !self.nonce.is_empty();
            if let Some(nonce) = answer.nonce() {
                self.nonce = nonce;
            }
            if answer.code() == 438 || answer.code() == 401 && !had_nonce {
                continue;
            }
            return Some(answer);
        }
        None
    }

    pub(crate) fn request(
        &mut self,
        bench: &mut Bench,
        method: Method,
        write: impl Fn(&mut MessageBuilder<'_>),
    ) -> Answer {
        self.try_request(bench, method, write).expect("an answer")
    }

    /// Allocates with these attributes beside REQUESTED-TRANSPORT of UDP.
    pub(crate) fn allocate_with(
        &mut self,
        bench: &mut Bench,
        write: impl Fn(&mut MessageBuilder<'_>),
    ) -> Answer {
        self.request(bench, Method::ALLOCATE, |builder| {
            builder.requested_transport(17).unwrap();
            write(builder);
        })
    }

    /// Allocates, and gives the relayed transport address.
    pub(crate) fn allocate(&mut self, bench: &mut Bench) -> SocketAddr {
        let answer = self.allocate_with(bench, |_| {});
        assert_eq!(answer.code(), 0);
        answer.message().xor_relayed_address().unwrap().unwrap()
    }

    pub(crate) fn refresh(&mut self, bench: &mut Bench, lifetime: u32) -> Answer {
        self.request(bench, Method::REFRESH, |builder| {
            builder.lifetime(lifetime).unwrap();
        })
    }

    pub(crate) fn permit(&mut self, bench: &mut Bench, peer: &str) -> u16 {
        let peer = address(peer);
        self.request(bench, Method::CREATE_PERMISSION, |builder| {
            builder.xor_peer_address(peer).unwrap();
        })
        .code()
    }

    pub(crate) fn bind(&mut self, bench: &mut Bench, number: u16, peer: &str) -> u16 {
        let peer = address(peer);
        self.request(bench, Method::CHANNEL_BIND, |builder| {
            builder.channel_number(number).unwrap();
            builder.xor_peer_address(peer).unwrap();
        })
        .code()
    }

    pub(crate) fn send(&self, bench: &mut Bench, peer: &str, data: &[u8]) -> (Handled, Vec<u8>) {
        let bytes = send_indication(address(peer), data, false);
        (self.exchange(bench, &bytes).0, bytes)
    }

    pub(crate) fn channel_data(&self, bench: &mut Bench, number: u16, data: &[u8]) -> Handled {
        let bytes = channel_data(number, data);
        self.exchange(bench, &bytes).0
    }

    /// Reads an answer that must be signed with the client's key.
    pub(crate) fn verified<'a>(&self, answer: &'a Answer) -> Authenticated<'a> {
        let verified = answer.message().authenticate(&self.key()).unwrap();
        let expected = match self.algorithm {
            Algorithm::Old => IntegrityAlgorithm::Sha1,
            Algorithm::Md5 | Algorithm::Sha256 => IntegrityAlgorithm::Sha256,
        };
        assert_eq!(verified.algorithm(), expected);
        verified
    }
}

/// What a server answered.
#[derive(Clone, Debug)]
pub(crate) struct Answer(pub(crate) Vec<u8>);

impl Answer {
    pub(crate) fn message(&self) -> Message<'_> {
        Message::parse(&self.0).unwrap()
    }

    /// The error code, or zero for success.
    pub(crate) fn code(&self) -> u16 {
        let message = self.message();
        match message.class() {
            Class::SuccessResponse => 0,
            Class::ErrorResponse => message.error_code().unwrap().unwrap().code(),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn nonce(&self) -> Option<String> {
        self.message().nonce().unwrap().map(Into::into)
    }

    pub(crate) fn lifetime(&self) -> Option<u32> {
        self.message().lifetime().unwrap()
    }

    pub(crate) fn relayed(&self) -> Vec<SocketAddr> {
        self.message()
            .xor_relayed_addresses()
            .collect::<Result<_, _>>()
            .unwrap()
    }
}

/// A message without credentials.
pub(crate) fn message(
    class: Class,
    method: Method,
    write: impl FnOnce(&mut MessageBuilder<'_>),
) -> Vec<u8> {
    let mut buffer = vec![0; 70_000];
    let id = TransactionId::new(*b"twelve bytes");
    let mut builder = MessageBuilder::new(&mut buffer, class, method, id).unwrap();
    write(&mut builder);
    let length = builder.finish();
    buffer.truncate(length);
    buffer
}

pub(crate) fn send_indication(peer: SocketAddr, data: &[u8], dont_fragment: bool) -> Vec<u8> {
    message(Class::Indication, Method::SEND, |builder| {
        builder.xor_peer_address(peer).unwrap();
        if dont_fragment {
            builder.dont_fragment().unwrap();
        }
        builder.data(data).unwrap();
    })
}

pub(crate) fn channel_data(number: u16, data: &[u8]) -> Vec<u8> {
    let mut bytes = nilas_turn::ChannelData::header(number, data.len())
        .unwrap()
        .to_vec();
    bytes.extend_from_slice(data);
    bytes
}

/// Puts head, payload and tail together, as a driver sends them.
pub(crate) fn assemble(handled: &Handled, input: &[u8]) -> (Path, Vec<u8>) {
    let Handled::ToClient {
        path,
        head,
        payload,
        tail,
    } = handled
    else {
        panic!("{handled:?}");
    };
    let mut bytes = head.as_bytes().to_vec();
    bytes.extend_from_slice(&input[payload.clone()]);
    bytes.extend(std::iter::repeat_n(0, usize::from(*tail)));
    (*path, bytes)
}

/// The connection of the command to connect or of an accepted one.
pub(crate) fn connection_of(command: &Command) -> ConnectionId {
    match command {
        Command::ConnectPeer { connection, .. } => *connection,
        other => panic!("{other:?}"),
    }
}
