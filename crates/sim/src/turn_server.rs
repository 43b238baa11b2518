//! A TURN server: the core that a real server runs, on sockets of this world.

use core::net::{IpAddr, SocketAddr};
use core::ops::RangeInclusive;
use core::time::Duration;
use std::collections::BTreeMap;
use std::sync::Arc;

use nilas_ice::Time;
use nilas_stun::AddressFamily;
use nilas_turn::server::{
    BindError, Command, Common, ConfigError, Counters, Event, Handled, Input, ListenerId,
    MIN_BUFFER, Output, Path, RelayFamilies, RelayId, RelayPort, RelayProtocol, Server,
    ServerConfig, StreamHandled, StreamId, WorkerId,
};
use rand_chacha::ChaCha8Rng;
use rand_core::Rng;

use crate::error::WorldError;
use crate::link::Link;
use crate::sockets::{Sockets, UdpOwner};
use crate::tcp::Happened;
use crate::world::{Happening, NodeId, NodeKind, Realm, World};

/// The time since 1970 at the beginning of every world, by which credentials expire: in November 2023.
pub const UNIX_TIME_AT_START: Duration = Duration::from_secs(1_700_000_000);

/// Where relayed transport addresses take their ports from (RFC 8656 section 7.2).
const RELAY_PORTS: RangeInclusive<u16> = 49_152..=u16::MAX;

/// What a TURN server is to be.
#[derive(Clone, Debug)]
pub struct TurnServer {
    config: ServerConfig,
    udp_ports: Vec<u16>,
    tcp_ports: Vec<u16>,
    tls_ports: Vec<u16>,
}

impl TurnServer {
    /// A server on port 3478 of UDP and TCP that lets one user in.
    ///
    /// It relays to the addresses of documentation, which worlds use for the Internet (RFC 5737, RFC 3849), and
    /// refuses private ones and all others that are special, as every server of nilas does.
    ///
    /// # Errors
    /// The user name or password is empty or has characters that RFC 8265 excludes.
    pub fn new(user: &str, password: &str) -> Result<Self, ConfigError> {
        let mut config = ServerConfig::new("sim.example")?;
        config.add_user(user, password)?;
        config.peer_rule.allow = [
            "192.0.2.0/24",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "2001:db8::/32",
        ]
        .map(|network| network.parse().expect("a network"))
        .into();
        Ok(Self::with_config(config))
    }

    /// A server on port 3478 of UDP and TCP with a configuration of your own. Its families, the addresses of its relays and
    /// their ports are set by the world; allocations for TCP (RFC 6062) are refused.
    #[must_use]
    pub fn with_config(config: ServerConfig) -> Self {
        Self {
            config,
            udp_ports: vec![3478],
            tcp_ports: vec![3478],
            tls_ports: Vec::new(),
        }
    }

    /// The same server on these UDP ports instead.
    #[must_use]
    pub fn on_udp(mut self, ports: &[u16]) -> Self {
        self.udp_ports = ports.to_vec();
        self
    }

    /// The same server on these TCP ports instead.
    #[must_use]
    pub fn on_tcp(mut self, ports: &[u16]) -> Self {
        self.tcp_ports = ports.to_vec();
        self
    }

    /// The same server on these ports for TCP with a handshake like TLS's, as well.
    #[must_use]
    pub fn on_tls(mut self, ports: &[u16]) -> Self {
        self.tls_ports = ports.to_vec();
        self
    }
}

/// A TURN server at work.
#[derive(Debug)]
pub(crate) struct TurnNode {
    server: Server,
    config: Arc<ServerConfig>,
    addresses: Vec<IpAddr>,
    relays: BTreeMap<RelayId, SocketAddr>,
    reserved: BTreeMap<[u8; 8], SocketAddr>,
    /// What of each client's stream was not dealt with yet.
    streams: BTreeMap<u32, Vec<u8>>,
    random: ChaCha8Rng,
    wake: Option<Time>,
    events: Vec<(Time, Event)>,
}

impl TurnNode {
    /// Which port a relay gets, by the rules of RFC 8656 section 7.2.
    fn bind(
        &mut self,
        sockets: &mut Sockets,
        relay: RelayId,
        family: AddressFamily,
        port: RelayPort,
    ) -> Result<SocketAddr, BindError> {
        let ip = self
            .addresses
            .iter()
            .find(|ip| ip.is_ipv4() == (family == AddressFamily::Ipv4));
        let ip = *ip.ok_or(BindError::Other)?;
        let at = |port| SocketAddr::new(ip, port);
        let address = match port {
            RelayPort::Reserved(token) => self
                .reserved
                .remove(&token)
                .ok_or(BindError::NoReservation)?,
            _ => {
                let next = matches!(port, RelayPort::EvenWithNext(_));
                let even = next || port == RelayPort::Even;
                let fits = |candidate: u16| {
                    (!even || candidate.is_multiple_of(2))
                        && !sockets.is_taken(at(candidate))
                        && (!next || !sockets.is_taken(at(candidate + 1)))
                };
                let (first, count) = (*RELAY_PORTS.start(), RELAY_PORTS.len() as u32);
                let start = self.random.next_u32() % count;
                let port = (0..count)
                    .map(|step| first + ((start + step) % count) as u16)
                    .find(|candidate| fits(*candidate))
                    .ok_or(BindError::NoPort)?;
                at(port)
            }
        };
        if let RelayPort::EvenWithNext(token) = port {
            let reserved = at(address.port() + 1);
            // Nothing is received there until somebody comes with the token.
            let _ = sockets.bind(reserved, [ip], UdpOwner::Listener);
            self.reserved.insert(token, reserved);
        }
        sockets.close(address);
        let bound = sockets.bind(address, [ip], UdpOwner::Relay(relay));
        debug_assert_eq!(bound, Ok(address));
        self.relays.insert(relay, address);
        Ok(address)
    }
}

impl World {
    /// A TURN server with these addresses, which answers Binding requests as well. It relays from the first
    /// address of each family.
    ///
    /// # Panics
    /// As [`try_add_turn_server`](Self::try_add_turn_server) refuses.
    pub fn add_turn_server(
        &mut self,
        realm: Realm,
        addresses: &[IpAddr],
        link: Link,
        turn: TurnServer,
    ) -> NodeId {
        self.try_add_turn_server(realm, addresses, link, turn)
            .unwrap_or_else(|error| panic!("{error}"))
    }

    /// A TURN server with these addresses, which answers Binding requests as well. It relays from the first
    /// address of each family.
    ///
    /// # Errors
    /// As [`try_add_host`](Self::try_add_host); a port is given twice.
    pub fn try_add_turn_server(
        &mut self,
        realm: Realm,
        addresses: &[IpAddr],
        link: Link,
        turn: TurnServer,
    ) -> Result<NodeId, WorldError> {
        self.check_new(realm, addresses, link)?;
        let TurnServer {
            mut config,
            udp_ports,
            tcp_ports,
            tls_ports,
        } = turn;
        config.families = RelayFamilies {
            ipv4: addresses.iter().any(IpAddr::is_ipv4),
            ipv6: addresses.iter().any(IpAddr::is_ipv6),
        };
        config.tcp_relay = false;
        config.peer_rule.host = addresses.to_vec();
        config.peer_rule.relay = addresses.to_vec();
        config.peer_rule.relay_ports = Some(RELAY_PORTS);
        let (config, mut random) = (Arc::new(config), self.random_of_next_node());
        let server = fresh(Arc::clone(&config), &mut random);
        let node = self.add_node(NodeKind::TurnServer(Box::new(TurnNode {
            server,
            config,
            addresses: addresses.to_vec(),
            relays: BTreeMap::new(),
            reserved: BTreeMap::new(),
            streams: BTreeMap::new(),
            random,
            wake: None,
            events: Vec::new(),
        })));
        self.attach(node, realm, addresses, link)?;
        for ip in addresses {
            for port in &udp_ports {
                self.listen_udp(node, SocketAddr::new(*ip, *port))?;
            }
            for port in &tcp_ports {
                self.listen_stream(node, SocketAddr::new(*ip, *port), false)?;
            }
            for port in &tls_ports {
                self.listen_stream(node, SocketAddr::new(*ip, *port), true)?;
            }
        }
        Ok(node)
    }

    /// What a TURN server counted so far, and what it has now.
    ///
    /// # Panics
    /// If the node is no TURN server.
    pub fn turn_counters(&self, node: NodeId) -> Counters {
        match &self.node(node).kind {
            NodeKind::TurnServer(turn) => turn.server.counters(),
            _ => panic!("{node} is not a TURN server"),
        }
    }

    /// What a TURN server told its operator, with the times.
    ///
    /// # Panics
    /// If the node is no TURN server.
    pub fn turn_events(&self, node: NodeId) -> &[(Time, Event)] {
        match &self.node(node).kind {
            NodeKind::TurnServer(turn) => &turn.events,
            _ => panic!("{node} is not a TURN server"),
        }
    }

    /// A datagram from a client.
    pub(crate) fn turn_datagram(
        &mut self,
        node: NodeId,
        server: SocketAddr,
        client: SocketAddr,
        bytes: &[u8],
    ) {
        let path = Path::Datagram {
            listener: ListenerId(0),
            client,
            server,
        };
        let now = self.now();
        let handled = self
            .turn_mut(node)
            .server
            .handle(now, Input::ClientDatagram { path, bytes });
        self.turn_relay(node, handled, bytes);
        self.settle_turn(node);
    }

    /// Something happened on a client's stream.
    pub(crate) fn turn_stream(&mut self, node: NodeId, id: u32, happened: Happened) {
        let now = self.now();
        let stream = StreamId(u64::from(id));
        let connection = self.node(node).tcp.connection(id);
        let client = connection.map(|connection| connection.remote);
        let bytes = self.node_mut(node).tcp.take(id);
        let turn = self.turn_mut(node);
        if let (Happened::Ready, Some(client)) = (happened, client) {
            let _ = turn
                .server
                .handle(now, Input::StreamOpened { stream, client });
            turn.streams.insert(id, Vec::new());
        }
        if let Some(pending) = turn.streams.get_mut(&id) {
            pending.extend(bytes);
            self.turn_stream_bytes(node, id);
        }
        if let Happened::Ended(_) = happened
            && self.turn_mut(node).streams.remove(&id).is_some()
        {
            let closed = Input::PathClosed(Path::Stream(stream));
            let _ = self.turn_mut(node).server.handle(now, closed);
        }
        self.settle_turn(node);
    }

    /// Gives the server what of a stream it has not taken yet, message by message.
    fn turn_stream_bytes(&mut self, node: NodeId, id: u32) {
        let now = self.now();
        let stream = StreamId(u64::from(id));
        let Some(pending) = self.turn_mut(node).streams.get_mut(&id) else {
            return;
        };
        let bytes = core::mem::take(pending);
        let mut rest = bytes.as_slice();
        loop {
            let server = &mut self.turn_mut(node).server;
            let StreamHandled { taken, handled } = server.handle_stream(now, stream, rest);
            self.turn_relay(node, handled, rest);
            rest = &rest[taken..];
            if taken == 0 || rest.is_empty() {
                break;
            }
        }
        if let Some(pending) = self.turn_mut(node).streams.get_mut(&id) {
            pending.extend_from_slice(rest);
        }
    }

    /// A datagram from a peer.
    pub(crate) fn turn_peer_datagram(
        &mut self,
        node: NodeId,
        relay: RelayId,
        peer: SocketAddr,
        bytes: &[u8],
    ) {
        let now = self.now();
        let handled = self.turn_mut(node).server.handle(
            now,
            Input::PeerDatagram {
                relay,
                peer,
                length: bytes.len(),
            },
        );
        self.turn_relay(node, handled, bytes);
        self.settle_turn(node);
    }

    pub(crate) fn wake_turn(&mut self, node: NodeId) {
        let now = self.now();
        let turn = self.turn_mut(node);
        // An older wake-up, which a later deadline has replaced, is nothing.
        if turn.wake == Some(now) {
            turn.wake = None;
            self.settle_turn(node);
        }
    }

    /// Sends at once what an input brought along.
    fn turn_relay(&mut self, node: NodeId, handled: Handled, bytes: &[u8]) {
        match handled {
            Handled::Done => {}
            Handled::ToPeer {
                relay,
                peer,
                payload,
                ..
            } => {
                if let Some(source) = self.turn_mut(node).relays.get(&relay).copied() {
                    self.send_datagram(node, source, peer, &bytes[payload]);
                }
            }
            Handled::ToClient {
                path,
                head,
                payload,
                tail,
            } => {
                let zeros = &[0; 3][..usize::from(tail)];
                let message = [head.as_bytes(), &bytes[payload], zeros].concat();
                self.turn_send(node, path, &message);
            }
            handled => panic!("nilas-sim does not know what to do with {handled:?}"),
        }
    }

    fn turn_send(&mut self, node: NodeId, path: Path, message: &[u8]) {
        match path {
            Path::Datagram { client, server, .. } => {
                self.send_datagram(node, server, client, message);
            }
            // What a full stream cannot take whole is dropped, as a full socket drops a datagram.
            Path::Stream(stream) => {
                let now = self.now();
                let id = stream.0 as u32;
                self.node_mut(node).tcp.write(now, id, message);
                self.settle_tcp(node);
            }
        }
    }

    /// Does all that a server wants, until it is idle.
    fn settle_turn(&mut self, node: NodeId) {
        let now = self.now();
        let mut buffer = [0; MIN_BUFFER];
        loop {
            match self.turn_mut(node).server.poll(now, &mut buffer) {
                Output::Transmit { path, size } => self.turn_send(node, path, &buffer[..size]),
                Output::Event(event) => self.turn_mut(node).events.push((now, event)),
                Output::Command(Command::CloseStream(stream)) => {
                    let id = stream.0 as u32;
                    self.turn_mut(node).streams.remove(&id);
                    self.node_mut(node).tcp.close(now, id);
                    self.settle_tcp(node);
                }
                Output::Command(command) => self.execute_turn(node, command),
                Output::Idle(deadline) => {
                    let deadline = deadline.map(|at| Time::from_nanos(at.as_nanos()).max(now));
                    let turn = self.turn_mut(node);
                    if turn.wake != deadline {
                        turn.wake = deadline;
                        if let Some(at) = deadline {
                            self.queue.plan(at, Happening::Wake { node });
                        }
                    }
                    return;
                }
                output => panic!("nilas-sim does not know what to do with {output:?}"),
            }
        }
    }

    fn execute_turn(&mut self, node: NodeId, command: Command) {
        let now = self.now();
        let node = self.node_mut(node);
        let NodeKind::TurnServer(turn) = &mut node.kind else {
            unreachable!("only TURN servers give commands");
        };
        match command {
            Command::BindRelay {
                relay,
                family,
                protocol: RelayProtocol::Udp,
                port,
            } => {
                let result = turn.bind(&mut node.sockets, relay, family, port);
                let _ = turn.server.handle(now, Input::RelayBound { relay, result });
            }
            Command::CloseRelay(relay) => {
                if let Some(address) = turn.relays.remove(&relay) {
                    node.sockets.close(address);
                }
            }
            Command::ReleaseReservation(token) => {
                if let Some(address) = turn.reserved.remove(&token) {
                    node.sockets.close(address);
                }
            }
            // There is one core, and everything reaches it.
            Command::Route(_) | Command::Unroute(_) => {}
            command => panic!("nilas-sim does not know how to execute {command:?}"),
        }
    }

    /// A server that was switched off and on again knows nobody any more.
    pub(crate) fn reboot_turn(&mut self, node: NodeId) {
        let now = self.now();
        let turn = self.turn_mut(node);
        turn.server = fresh(Arc::clone(&turn.config), &mut turn.random);
        let relays = core::mem::take(&mut turn.relays).into_values();
        let reserved = core::mem::take(&mut turn.reserved).into_values();
        let (sockets, streams) = (relays.chain(reserved), core::mem::take(&mut turn.streams));
        let sockets: Vec<_> = sockets.collect();
        for address in sockets {
            self.node_mut(node).sockets.close(address);
        }
        for id in streams.into_keys() {
            self.node_mut(node).tcp.close(now, id);
        }
        self.settle_tcp(node);
        self.settle_turn(node);
    }

    fn turn_mut(&mut self, node: NodeId) -> &mut TurnNode {
        match &mut self.node_mut(node).kind {
            NodeKind::TurnServer(turn) => turn,
            _ => panic!("{node} is not a TURN server"),
        }
    }
}

fn fresh(config: Arc<ServerConfig>, random: &mut ChaCha8Rng) -> Server {
    let mut seed = || {
        let mut seed = [0; 32];
        random.fill_bytes(&mut seed);
        seed
    };
    let common = Common::new(seed(), UNIX_TIME_AT_START, 1);
    Server::new(config, common, WorkerId(0), seed())
}
