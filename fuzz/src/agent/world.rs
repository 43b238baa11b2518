//! Two engines in one network with a TURN server, each with an agent, or with a session of two streams of two components.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{
    AddressPolicy, AgentConfig, AgentId, AgentMut, Candidate, CandidateType, Command, Credentials,
    Engine, EngineConfig, Event, GatheringState, Handled, Input, Interface, NoPath, Output,
    Parameters, Path as DataPath, RequestId, Role, SelectedPair, SessionId, SocketId, State, Stats,
    StreamId, StreamTransport, StunServer, Time, TurnServer, TurnTransport, Via,
};
use nilas_stun::TransactionId;
use nilas_turn::server::{self, Path};

use crate::relay::{PASSWORD, Relay, USER, User, address, datagram_path};

/// More datagrams on their way are lost.
const MAX_WIRE: usize = 128;
/// What an engine may have to do at one time: its bounds are 100 pairs and as many candidates and requests.
const MAX_OUTPUTS: usize = 4_096;
/// Of each stream of a session.
const COMPONENTS: usize = 2;
pub(super) const SERVER: &str = "198.51.100.1:3478";

/// What signaling carries.
#[derive(Clone)]
pub(super) enum Signal {
    Parameters(Parameters),
    Candidate(Candidate),
    End,
}

/// A datagram on its way.
#[derive(Clone)]
pub(super) struct Packet {
    pub(super) from: SocketAddr,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

pub(super) struct Side {
    pub(super) engine: Engine,
    session: Option<SessionId>,
    /// All that there were at the start, in the same order on both sides.
    ids: Vec<AgentId>,
    /// Which of them is meant.
    focus: usize,
    max_pairs: usize,
    max_peer_reflexive: usize,
    pub(super) sockets: BTreeMap<SocketId, SocketAddr>,
    pub(super) binds: Vec<(RequestId, SocketAddr)>,
    pub(super) resolves: Vec<RequestId>,
    pub(super) opens: Vec<RequestId>,
    /// Streams to the server: its end, and what the engine has not taken yet.
    pub(super) streams: BTreeMap<StreamId, (Path, Vec<u8>)>,
    /// What each agent has said to the one in its place on the other side.
    signals: VecDeque<(usize, Signal)>,
}

impl Side {
    pub(super) fn agent(&mut self) -> Option<AgentMut<'_>> {
        self.engine.agent(self.ids[self.focus]).ok()
    }

    fn agent_at(&mut self, index: usize) -> Option<AgentMut<'_>> {
        self.engine.agent(self.ids[index]).ok()
    }
}

pub(super) struct World {
    pub(super) now: Time,
    pub(super) sides: [Side; 2],
    pub(super) wire: VecDeque<Packet>,
    /// The latest requests that were seen on the wire.
    pub(super) requests: VecDeque<Packet>,
    relay: Relay,
    /// Whether both sides had a path for data at one time.
    pub(super) connected: bool,
    next: u32,
}

/// All that an agent tells about itself, but for the data that came: anybody on its path can send data.
#[derive(Debug, PartialEq)]
pub(super) struct Told {
    state: State,
    role: Role,
    gathering: GatheringState,
    parameters: Parameters,
    selected: Option<SelectedPair>,
    path: Result<DataPath, NoPath>,
    stats: Vec<Stats>,
}

impl World {
    /// The highest bit of the first byte makes both sides sessions.
    pub(super) fn new(first: u8, second: u8) -> Self {
        let are_sessions = first & 128 != 0;
        let side = |number: usize, bits: u8| {
            let role = if bits & 1 == 0 {
                [Role::Controlling, Role::Controlled][number]
            } else {
                Role::Controlling
            };
            let mut config = AgentConfig::new(role);
            let credentials = Credentials {
                username: USER.to_owned(),
                password: PASSWORD.to_owned(),
            };
            let turn =
                |transport| TurnServer::new("198.51.100.1", 3478, transport, credentials.clone());
            if bits & 2 != 0 {
                config.turn_servers.push(turn(TurnTransport::Udp));
            }
            if bits & 4 != 0 {
                config
                    .turn_servers
                    .push(turn(TurnTransport::Stream(StreamTransport::Tcp)));
            }
            if bits & 8 != 0 {
                config.stun_servers.push(StunServer {
                    host: "stun.example.org".into(),
                    port: 3478,
                });
            }
            if bits & 16 != 0 {
                config.stun_servers.push(address(SERVER).into());
            }
            if bits & 32 != 0 {
                config.addresses = AddressPolicy::RelayOnly;
            }
            if bits & 64 != 0 {
                (config.max_pairs, config.max_peer_reflexive) = (3, 2);
            }
            let (max_pairs, max_peer_reflexive) =
                (config.max_pairs.into(), config.max_peer_reflexive.into());
            let mut engine = Engine::new(EngineConfig::default(), [number as u8 + 1; 32]);
            let addresses = [["192.0.2.1", "2001:db8::1"], ["192.0.2.2", "2001:db8::2"]][number];
            let addresses = addresses.map(|ip| ip.parse().expect("an address")).into();
            let interface = Interface {
                name: "eth0".into(),
                index: 2,
                addresses,
                ..Interface::default()
            };
            let _ = engine.handle(Time::ZERO, Input::Interfaces(&[interface]));
            let (session, ids) = add(&mut engine, config, are_sessions);
            let mut side = Side {
                engine,
                session,
                ids,
                focus: 0,
                max_pairs,
                max_peer_reflexive,
                sockets: BTreeMap::new(),
                binds: Vec::new(),
                resolves: Vec::new(),
                opens: Vec::new(),
                streams: BTreeMap::new(),
                signals: VecDeque::new(),
            };
            for index in 0..side.ids.len() {
                let mut agent = side.agent_at(index).expect("it was just made");
                let parameters = agent.local_parameters();
                agent.gather(Time::ZERO);
                side.signals
                    .push_back((index, Signal::Parameters(parameters)));
            }
            side
        };
        let mut relay = Relay::default();
        relay.any_peer = true;
        relay.now = Time::ZERO;
        let mut world = Self {
            now: Time::ZERO,
            sides: [side(0, first), side(1, second)],
            wire: VecDeque::new(),
            requests: VecDeque::new(),
            relay,
            connected: false,
            next: 0,
        };
        world.poll();
        world
    }

    /// Does what both engines want, until both are idle; gives the next deadline.
    pub(super) fn poll(&mut self) -> Option<Time> {
        let mut deadline: Option<Time> = None;
        for side in 0..2 {
            let at = self.poll_side(side);
            deadline = deadline.into_iter().chain(at).min();
        }
        deadline
    }

    fn poll_side(&mut self, number: usize) -> Option<Time> {
        let mut buffer = [0xEE; 1_280];
        for _ in 0..MAX_OUTPUTS {
            let side = &mut self.sides[number];
            match side.engine.poll(self.now, &mut buffer) {
                Output::Transmit(transmit) => {
                    let from = side.sockets.get(&transmit.socket).copied();
                    let from = from.expect("what is sent leaves from a socket that is open");
                    let bytes = buffer[..transmit.size].to_vec();
                    self.post(Packet {
                        from,
                        to: transmit.destination,
                        bytes,
                    });
                }
                Output::StreamTransmit(transmit) => {
                    let bytes = buffer[..transmit.size].to_vec();
                    if let Some((path, _)) = side.streams.get(&transmit.stream) {
                        let path = *path;
                        self.relay.receive(path, &bytes);
                        self.collect();
                    }
                }
                Output::Event(agent, event) => self.event(number, agent, event),
                Output::Command(command) => self.command(number, command),
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
        panic!("the engine has always more to do");
    }

    fn event(&mut self, number: usize, agent: AgentId, event: Event) {
        let side = &mut self.sides[number];
        let index = side.ids.iter().position(|id| *id == agent);
        let index = index.expect("only agents of ours say anything");
        let signal = match event {
            Event::LocalParameters(parameters) => Signal::Parameters(parameters),
            Event::Candidate(candidate) => Signal::Candidate(candidate),
            Event::GatheringStateChange(GatheringState::Complete) => Signal::End,
            _ => return,
        };
        side.signals.push_back((index, signal));
        side.signals.truncate(256);
    }

    fn command(&mut self, number: usize, command: Command) {
        let side = &mut self.sides[number];
        match command {
            Command::Bind { request, address } => side.binds.push((request, address)),
            Command::Resolve { request, .. } => side.resolves.push(request),
            Command::OpenStream { request, .. } => side.opens.push(request),
            Command::CloseSocket(socket) => {
                assert!(
                    side.sockets.remove(&socket).is_some(),
                    "a socket is closed that is not open"
                );
            }
            Command::CloseStream(stream) => {
                if let Some((path, _)) = side.streams.remove(&stream) {
                    self.relay.close(path);
                    self.collect();
                }
            }
            _ => {}
        }
    }

    /// The system does what it was asked for.
    fn obey(&mut self) {
        for number in 0..2 {
            for (request, mut address) in core::mem::take(&mut self.sides[number].binds) {
                self.next += 1;
                let socket = SocketId(self.next);
                if address.port() == 0 {
                    address.set_port(5_000 + self.next as u16);
                }
                let side = &mut self.sides[number];
                side.sockets.insert(socket, address);
                let _ = side.engine.handle(
                    self.now,
                    Input::Bound {
                        request,
                        result: Ok((socket, address)),
                    },
                );
            }
            for request in core::mem::take(&mut self.sides[number].resolves) {
                let result = Ok(&[address(SERVER)][..]);
                let _ = self.sides[number]
                    .engine
                    .handle(self.now, Input::Resolved { request, result });
            }
            for request in core::mem::take(&mut self.sides[number].opens) {
                self.next += 1;
                let stream = StreamId(self.next);
                let path = User::new(Path::Stream(server::StreamId(0)), 0).open(&mut self.relay);
                let side = &mut self.sides[number];
                side.streams.insert(stream, (path, Vec::new()));
                let _ = side.engine.handle(
                    self.now,
                    Input::StreamOpened {
                        request,
                        result: Ok(stream),
                    },
                );
            }
        }
    }

    pub(super) fn post(&mut self, packet: Packet) {
        if packet.bytes.first().is_some_and(|first| *first == 0) {
            self.requests.push_back(packet.clone());
            if self.requests.len() > 16 {
                self.requests.pop_front();
            }
        }
        if self.wire.len() < MAX_WIRE {
            self.wire.push_back(packet);
        }
    }

    /// A datagram that is on its way, or a copy of it.
    pub(super) fn take(&mut self, index: u8, away: bool) -> Option<Packet> {
        let index = usize::from(index) % self.wire.len().max(1);
        if away {
            self.wire.remove(index)
        } else {
            self.wire.get(index).cloned()
        }
    }

    /// Whose socket this is.
    pub(super) fn socket_at(&self, at: SocketAddr) -> Option<(usize, SocketId)> {
        self.sides.iter().enumerate().find_map(|(number, side)| {
            let (socket, _) = side.sockets.iter().find(|(_, address)| **address == at)?;
            Some((number, *socket))
        })
    }

    pub(super) fn deliver(&mut self, packet: Packet) {
        if let Some((side, socket)) = self.socket_at(packet.to) {
            let input = Input::Datagram {
                socket,
                remote: packet.from,
                payload: &packet.bytes,
            };
            let handled = self.sides[side].engine.handle(self.now, input);
            if let Handled::Application(data) = handled {
                assert!(
                    packet.bytes.get(data.range).is_some(),
                    "data beyond the datagram"
                );
            }
        } else if packet.to == address(SERVER) {
            self.relay
                .receive(datagram_path(packet.from), &packet.bytes);
            self.collect();
        } else if let Some(relay) = self
            .relay
            .relays
            .iter()
            .find(|(_, (at, _))| *at == packet.to)
            .map(|(relay, _)| *relay)
        {
            let input = server::Input::PeerDatagram {
                relay,
                peer: packet.from,
                length: packet.bytes.len(),
            };
            let _ = self.relay.handle(input, &packet.bytes);
            self.collect();
        }
        self.poll();
    }

    /// What the server has sent is on its way.
    fn collect(&mut self) {
        let relayed = core::mem::take(&mut self.relay.relayed);
        for sent in relayed {
            if let Some((from, _)) = self.relay.relays.get(&sent.relay).copied() {
                self.post(Packet {
                    from,
                    to: sent.peer,
                    bytes: sent.bytes,
                });
            }
        }
        for (path, bytes) in core::mem::take(&mut self.relay.sent) {
            match path {
                Path::Datagram { client, .. } => self.post(Packet {
                    from: address(SERVER),
                    to: client,
                    bytes,
                }),
                Path::Stream(_) => {
                    let side = self.sides.iter().find_map(|side| {
                        side.streams.iter().find(|(_, (known, _))| *known == path)
                    });
                    if let Some((stream, _)) = side {
                        let stream = *stream;
                        self.stream_bytes(stream, &bytes);
                    }
                }
            }
        }
    }

    /// Bytes come on a stream.
    pub(super) fn stream_bytes(&mut self, stream: StreamId, bytes: &[u8]) {
        let Some(side) = self
            .sides
            .iter_mut()
            .find(|side| side.streams.contains_key(&stream))
        else {
            return;
        };
        let Some((_, kept)) = side.streams.get_mut(&stream) else {
            return;
        };
        kept.extend_from_slice(bytes);
        let mut bytes = core::mem::take(kept);
        while !bytes.is_empty() {
            let handled = side.engine.handle(
                self.now,
                Input::StreamBytes {
                    stream,
                    bytes: &bytes,
                },
            );
            let Handled::Stream { taken, application } = handled else {
                panic!("bytes of a stream are {handled:?}");
            };
            assert!(taken <= bytes.len() && application.is_none_or(|data| data.range.end <= taken));
            if taken == 0 {
                break;
            }
            bytes.drain(..taken);
        }
        assert!(
            bytes.len() < 65_536 + 24,
            "a message of {} bytes is awaited",
            bytes.len()
        );
        if let Some((_, kept)) = side.streams.get_mut(&stream) {
            *kept = bytes;
        }
    }

    /// Everybody does what they should, for so many rounds.
    pub(super) fn run(&mut self, rounds: usize) {
        for _ in 0..rounds {
            self.obey();
            let deadline = self.poll();
            if let Some(packet) = self.wire.pop_front() {
                self.deliver(packet);
                continue;
            }
            let wait = deadline.map_or(Duration::from_millis(100), |at| at.since(self.now));
            self.forward(wait.min(Duration::from_secs(1)));
        }
    }

    fn forward(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.relay.pass(duration);
        self.collect();
        self.poll();
    }

    /// Time passes, and what is on its way stays there.
    pub(super) fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        for _ in 0..MAX_OUTPUTS {
            let next = self.poll().filter(|at| *at < end).unwrap_or(end);
            self.forward(next.since(self.now));
            if self.now >= end {
                return;
            }
        }
        panic!("deadlines without end");
    }

    /// The next thing that a side has said reaches the other.
    pub(super) fn signal(&mut self, from: usize, keep: bool) -> bool {
        let side = &mut self.sides[from];
        let signal = if keep {
            side.signals.front().cloned()
        } else {
            side.signals.pop_front()
        };
        let Some((index, signal)) = signal else {
            return false;
        };
        let now = self.now;
        if let Some(mut agent) = self.sides[1 - from].agent_at(index) {
            signal.tell(&mut agent, now);
        }
        self.poll();
        true
    }

    pub(super) fn signal_all(&mut self) {
        self.obey();
        self.poll();
        for side in 0..2 {
            // Telling one side something makes the other say something at most once.
            for _ in 0..512 {
                if !self.signal(side, false) {
                    break;
                }
            }
        }
    }

    /// Application data takes the path that was published for it.
    pub(super) fn send_data(&mut self, side: usize) {
        let Some(Ok(path)) = self.sides[side].agent().map(|agent| agent.path().load()) else {
            return;
        };
        let mut bytes = Vec::new();
        assert!(path.frame(TransactionId::new([side as u8; 12]), b"data", &mut bytes));
        match path.via {
            Via::Socket {
                socket,
                destination,
            } => {
                let from = self.sides[side].sockets.get(&socket).copied();
                let from = from.expect("data leaves from a socket that is open");
                self.post(Packet {
                    from,
                    to: destination,
                    bytes,
                });
            }
            Via::Stream(stream) => {
                if let Some((to, _)) = self.sides[side].streams.get(&stream) {
                    let to = *to;
                    self.relay.receive(to, &bytes);
                    self.collect();
                }
            }
        }
    }

    /// How many agents each side had at the start.
    pub(super) fn components(&self) -> usize {
        self.sides[0].ids.len()
    }

    /// From now on this one is meant, on both sides.
    pub(super) fn look_at(&mut self, index: usize) {
        for side in &mut self.sides {
            side.focus = index;
        }
    }

    /// The agent that is meant, or its whole stream.
    pub(super) fn close(&mut self, side: usize, stream: bool) {
        let now = self.now;
        let side = &mut self.sides[side];
        let session = side.session.filter(|_| stream);
        if let Some(Ok(mut session)) = session.map(|id| side.engine.session(id)) {
            // A stream that was closed is closed again without effect.
            let _ = session.close_stream(now, side.focus / COMPONENTS);
        } else if let Some(agent) = side.agent() {
            agent.close(now);
        }
        self.poll();
    }

    /// What all agents of a side tell that are still there.
    pub(super) fn told(&mut self, side: usize) -> Vec<Option<Told>> {
        let indices = 0..self.components();
        indices.map(|index| self.told_by(side, index)).collect()
    }

    fn told_by(&mut self, side: usize, index: usize) -> Option<Told> {
        let now = self.now;
        let agent = self.sides[side].agent_at(index)?;
        let stats = agent.stats(now).into_iter().map(|stats| match stats {
            Stats::CandidatePair(mut pair) => {
                (
                    pair.packets_received,
                    pair.bytes_received,
                    pair.last_packet_received_timestamp,
                ) = (0, 0, None);
                Stats::CandidatePair(pair)
            }
            Stats::Transport(mut transport) => {
                (transport.packets_received, transport.bytes_received) = (0, 0);
                Stats::Transport(transport)
            }
            other => other,
        });
        Some(Told {
            state: agent.state(),
            role: agent.role(),
            gathering: agent.gathering_state(),
            parameters: agent.local_parameters(),
            selected: agent.selected_pair(),
            path: agent.path().load(),
            stats: stats.collect(),
        })
    }

    /// The bounds, which hold at any time.
    pub(super) fn check(&mut self) {
        self.poll();
        let told = [0, 1].map(|side| self.told(side));
        let has_path = |told: &Option<Told>| told.as_ref().is_some_and(|told| told.path.is_ok());
        let mut ends = told[0].iter().zip(&told[1]);
        self.connected |= ends.any(|(one, other)| has_path(one) && has_path(other));
        for (number, told) in told.iter().enumerate() {
            self.check_side(number, told.iter().flatten());
        }
    }

    fn check_side<'a>(&self, number: usize, told: impl Iterator<Item = &'a Told>) {
        let side = &self.sides[number];
        for told in told {
            let count = |wanted: fn(&Stats) -> bool| {
                told.stats.iter().filter(|stats| wanted(stats)).count()
            };
            for (generation, pairs) in pairs_of(&told.stats) {
                assert!(
                    pairs <= side.max_pairs,
                    "{pairs} pairs in generation {generation}"
                );
            }
            let learned = count(
                |stats| matches!(stats, Stats::RemoteCandidate(c) if c.candidate_type == CandidateType::Prflx),
            );
            // The peer may signal one as well.
            assert!(
                learned <= side.max_peer_reflexive + 100,
                "{learned} remote candidates learned"
            );
            let locals = count(|stats| matches!(stats, Stats::LocalCandidate(_)));
            assert!(locals <= 160, "{locals} local candidates");
            let up = matches!(
                told.state,
                State::Connected | State::Completed | State::Disconnected
            );
            assert!(
                told.path.is_err() || up,
                "data has a path, and the state is {:?}",
                told.state
            );
        }
    }

    /// Both are closed; with time, nothing is left.
    pub(super) fn end(mut self) {
        for index in 0..self.components() {
            self.look_at(index);
            self.close(0, false);
            self.close(1, false);
        }
        for _ in 0..40 {
            self.run(32);
        }
        self.pass(Duration::from_secs(120));
        self.obey();
        let deadline = self.poll();
        assert_eq!(deadline, None, "something is due, and nobody is there");
        for side in &self.sides {
            assert!(side.sockets.is_empty(), "{:?} stay open", side.sockets);
            assert!(side.streams.is_empty(), "streams stay open");
        }
    }
}

/// An agent, or the components of a session.
fn add(
    engine: &mut Engine,
    config: AgentConfig,
    is_session: bool,
) -> (Option<SessionId>, Vec<AgentId>) {
    let now = Time::ZERO;
    if !is_session {
        let id = engine.add_agent(now, config).expect("there is room");
        return (None, vec![id]);
    }
    let components = COMPONENTS as u16;
    let id = engine.add_session(now, config.clone(), components);
    let id = id.expect("there is room");
    let mut session = engine.session(id).expect("it was just made");
    let second = session.add_stream(now, config, components);
    second.expect("there is room");
    (Some(id), session.components().collect())
}

/// How many pairs each generation has: after a restart the one before is kept for a while, with its own (RFC 8445
/// section 9). A pair's name begins with its generation's number.
fn pairs_of(stats: &[Stats]) -> BTreeMap<&str, usize> {
    let mut pairs = BTreeMap::new();
    for stats in stats {
        if let Stats::CandidatePair(pair) = stats {
            let generation = pair.id.split('.').next().unwrap_or_default();
            *pairs.entry(generation).or_default() += 1;
        }
    }
    pairs
}
