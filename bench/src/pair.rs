//! Engines of nilas and the wire between their agents, in virtual time, with nothing else in the way.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentId, AgentMut, Candidate, Command, Engine, EngineConfig, Event,
    GatheringState, Handled, Input, Interface, Output, Role, SocketId, State, Time,
};

use nilas_stun::{Class, Key, MessageBuilder, Method, TransactionId};

use crate::allocator::uncounted;

/// The first port of every engine; a socket's number is what its port is above it.
const FIRST_PORT: u16 = 10_000;

/// The longest check has less bytes than this.
const LONGEST: usize = 128;

/// A datagram under way.
#[derive(Clone, Copy)]
struct UnderWay {
    at: Time,
    to: usize,
    socket: SocketId,
    remote: SocketAddr,
    length: usize,
    bytes: [u8; LONGEST],
}

/// Agents and their peers: either in two engines, where those of one number are peers, or in one, where
/// an agent of an even number and the one after it are.
pub(crate) struct Pair {
    sides: Vec<Side>,
    wire: VecDeque<UnderWay>,
    now: Time,
    delay: Duration,
    packets: u64,
    nominated: usize,
    candidates: VecDeque<(usize, AgentId, Candidate)>,
    ended: VecDeque<(usize, AgentId)>,
}

struct Side {
    engine: Engine,
    /// In ascending order.
    agents: Vec<AgentId>,
    deadline: Option<Time>,
    /// By the number of the socket; the ports are that number, too. Small, so that with many agents it is their
    /// memory that is waited for, not this one's.
    addresses: Vec<Ipv4Addr>,
}

impl Side {
    fn address(&self, SocketId(socket): SocketId) -> SocketAddr {
        SocketAddr::from((self.addresses[socket as usize], FIRST_PORT + socket as u16))
    }
}

impl Pair {
    /// Two engines with this many addresses and agents on each side, started and introduced.
    pub(crate) fn start(agents: usize, addresses: u8, max_pairs: u16, seed: u64) -> Self {
        Self::with_engines(2, agents, None, addresses, max_pairs, seed)
    }

    /// Two engines with a session each, of so many streams with so many components, and one address, started and
    /// introduced.
    pub(crate) fn sessions(streams: usize, components: usize, seed: u64) -> Self {
        Self::with_engines(2, streams * components, Some(components), 1, 100, seed)
    }

    /// One engine with this many agents, an even number, each of which has its peer in there.
    pub(crate) fn in_one(agents: usize, addresses: u8, seed: u64) -> Self {
        assert!(agents.is_multiple_of(2), "{agents} agents are no pairs");
        Self::with_engines(1, agents, None, addresses, 100, seed)
    }

    /// With `components`, the agents of an engine are those of one session, so many for each stream.
    fn with_engines(
        engines: u8,
        agents: usize,
        components: Option<usize>,
        addresses: u8,
        max_pairs: u16,
        seed: u64,
    ) -> Self {
        let mut config = EngineConfig::default();
        if agents > 1 && components.is_none() {
            // As a server that hosts many may: its own link is not the one that the rule protects.
            config.pacing_floor = Duration::ZERO;
        }
        let side = |side: u8| {
            let mut key = [side; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            let mut engine = Engine::new(config.clone(), key);
            let (interface, mut own) = uncounted(|| {
                let ips = (1..=addresses).map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, side, n)));
                let interface = Interface {
                    name: "eth0".into(),
                    index: 1,
                    addresses: ips.collect(),
                    ..Interface::default()
                };
                (interface, Vec::with_capacity(agents))
            });
            let _ = engine.handle(Time::ZERO, Input::Interfaces(&[interface]));
            let config = |controls| {
                let mut config = AgentConfig::new(if controls {
                    Role::Controlling
                } else {
                    Role::Controlled
                });
                config.max_pairs = max_pairs;
                config
            };
            match components {
                Some(components) => {
                    let streams = agents / components;
                    add_session(
                        &mut engine,
                        config(side == 0),
                        streams,
                        components,
                        &mut own,
                    );
                }
                None => {
                    for number in 0..agents {
                        let controls = match engines {
                            1 => number.is_multiple_of(2),
                            _ => side == 0,
                        };
                        let added = engine.add_agent(Time::ZERO, config(controls));
                        own.push(added.expect("room"));
                    }
                }
            }
            let addresses = uncounted(|| Vec::with_capacity(agents * usize::from(addresses)));
            Side {
                engine,
                agents: own,
                deadline: Some(Time::ZERO),
                addresses,
            }
        };
        let mut sides = uncounted(|| Vec::with_capacity(usize::from(engines)));
        sides.extend((0..engines).map(side));
        let mut pair = uncounted(|| Self {
            sides,
            wire: VecDeque::with_capacity(256),
            now: Time::ZERO,
            delay: Duration::from_millis(25),
            packets: 0,
            nominated: 0,
            candidates: VecDeque::with_capacity(64),
            ended: VecDeque::with_capacity(64),
        });
        for number in 0..agents {
            let peer = pair.peer_of(0, number);
            if peer > (0, number) {
                pair.introduce([(0, number), peer]);
            }
        }
        pair
    }

    /// The engine and number of the peer of an agent.
    const fn peer_of(&self, side: usize, number: usize) -> (usize, usize) {
        match self.sides.len() {
            1 => (0, number ^ 1),
            _ => (1 - side, number),
        }
    }

    fn agent(&mut self, (side, number): (usize, usize)) -> AgentMut<'_> {
        let side = &mut self.sides[side];
        side.engine.agent(side.agents[number]).expect("open")
    }

    fn introduce(&mut self, ends: [(usize, usize); 2]) {
        let now = self.now;
        let [a, b] = ends.map(|end| self.agent(end).local_parameters());
        for (end, remote) in ends.into_iter().zip([b, a]) {
            self.agent(end)
                .set_remote_parameters(now, &remote)
                .expect("good parameters");
            self.agent(end).gather(now);
        }
        self.settle_all();
        self.trickle();
    }

    fn settle_all(&mut self) {
        for side in 0..self.sides.len() {
            self.settle(side);
        }
    }

    /// Runs until every agent has told that its pair was nominated, at most for a minute.
    pub(crate) fn run_until_nominated(&mut self) -> Time {
        let all = self.agents();
        self.run(self.now + Duration::from_secs(60), |pair| {
            pair.nominated >= all
        });
        assert_eq!(self.nominated, all, "not all were nominated");
        self.now
    }

    /// Runs for this long.
    pub(crate) fn run_for(&mut self, duration: Duration) {
        self.run(self.now + duration, |_| false);
        // The wire's own memory is none of the agents'.
        self.wire.shrink_to_fit();
    }

    fn run(&mut self, end: Time, done: impl Fn(&Self) -> bool) {
        while !done(self) {
            let arrival = self.wire.front().map(|datagram| datagram.at);
            let wakes = self.sides.iter().filter_map(|side| side.deadline);
            let Some(next) = wakes.chain(arrival).min().filter(|next| *next <= end) else {
                self.now = self.now.max(end);
                return;
            };
            self.now = self.now.max(next);
            if arrival == Some(next) {
                let Some(datagram) = self.wire.pop_front() else {
                    continue;
                };
                let UnderWay {
                    to,
                    socket,
                    remote,
                    length,
                    ..
                } = datagram;
                let payload = &datagram.bytes[..length];
                let input = Input::Datagram {
                    socket,
                    remote,
                    payload,
                };
                let _ = self.sides[to].engine.handle(self.now, input);
                self.settle(to);
            } else {
                for side in 0..self.sides.len() {
                    if self.sides[side].deadline.is_some_and(|at| at <= self.now) {
                        self.settle(side);
                    }
                }
            }
            self.trickle();
        }
    }

    /// Does what an engine wants until it is idle.
    fn settle(&mut self, number: usize) {
        let now = self.now;
        let mut buffer = [0; 1280];
        let to = self.sides.len() - 1 - number;
        loop {
            let side = &mut self.sides[number];
            match side.engine.poll(now, &mut buffer) {
                Output::Transmit(transmit) => {
                    self.packets += 1;
                    let mut bytes = [0; LONGEST];
                    bytes[..transmit.size].copy_from_slice(&buffer[..transmit.size]);
                    self.wire.push_back(UnderWay {
                        at: now + self.delay,
                        to,
                        socket: SocketId(u32::from(transmit.destination.port() - FIRST_PORT)),
                        remote: side.address(transmit.socket),
                        length: transmit.size,
                        bytes,
                    });
                }
                Output::Command(Command::Bind { request, address }) => {
                    let IpAddr::V4(ip) = address.ip() else {
                        unreachable!("all interfaces are IPv4")
                    };
                    let socket = SocketId(side.addresses.len() as u32);
                    side.addresses.push(ip);
                    let result = Ok((socket, side.address(socket)));
                    let _ = side.engine.handle(now, Input::Bound { request, result });
                }
                Output::Event(agent, Event::Candidate(candidate)) => {
                    self.candidates.push_back((number, agent, candidate));
                }
                Output::Event(agent, Event::GatheringStateChange(GatheringState::Complete)) => {
                    self.ended.push_back((number, agent));
                }
                Output::Event(_, Event::Nominated(_)) => self.nominated += 1,
                Output::Event(_, Event::StateChange { state, .. }) => {
                    assert_ne!(state, State::Failed)
                }
                Output::Idle(deadline) => {
                    side.deadline = deadline;
                    return;
                }
                _ => {}
            }
        }
    }

    /// Carries candidates at once: signaling is not what is measured.
    fn trickle(&mut self) {
        let now = self.now;
        while !self.candidates.is_empty() || !self.ended.is_empty() {
            while let Some((from, agent, candidate)) = self.candidates.pop_front() {
                self.peer(from, agent, |mut agent| {
                    agent
                        .add_remote_candidate(now, candidate)
                        .expect("accepted");
                });
            }
            while let Some((from, agent)) = self.ended.pop_front() {
                self.peer(from, agent, |mut agent| agent.end_of_remote_candidates(now));
            }
            self.settle_all();
        }
    }

    fn peer(&mut self, from: usize, agent: AgentId, call: impl FnOnce(AgentMut<'_>)) {
        let number = self.sides[from].agents.binary_search(&agent);
        let peer = self.peer_of(from, number.expect("one of ours"));
        call(self.agent(peer));
    }

    /// The address that an agent's peer sends from, where each has one.
    fn remote_of(&self, number: usize) -> SocketAddr {
        let (side, peer) = self.peer_of(0, number);
        self.sides[side].address(SocketId(peer as u32))
    }

    /// All agents, on all sides.
    fn agents(&self) -> usize {
        self.sides.iter().map(|side| side.agents.len()).sum()
    }

    /// Hands application data to the agents of the first engine, `count` datagrams in all, each to another
    /// agent than the one before, as the wire of a server would.
    pub(crate) fn receive_data(&mut self, count: usize, payload: &[u8]) {
        let mut number = 0;
        for _ in 0..count {
            number = self.another(number);
            let input = Input::Datagram {
                socket: SocketId(number as u32),
                remote: self.remote_of(number),
                payload,
            };
            let handled = self.sides[0].engine.handle(self.now, input);
            assert!(
                matches!(handled, Handled::Application { .. }),
                "{handled:?}"
            );
        }
    }

    /// Hands each of these checks to its agent of the first engine, which verifies and answers it.
    pub(crate) fn receive_checks(&mut self, checks: &[(usize, Vec<u8>)]) {
        let mut buffer = [0; 1280];
        for (number, payload) in checks {
            let input = Input::Datagram {
                socket: SocketId(*number as u32),
                remote: self.remote_of(*number),
                payload,
            };
            assert_eq!(
                self.sides[0].engine.handle(self.now, input),
                Handled::Consumed
            );
            let output = self.sides[0].engine.poll(self.now, &mut buffer);
            assert!(matches!(output, Output::Transmit(_)), "{output:?}");
        }
    }

    /// True checks of the peers of the first engine's agents, `count` in all, as [`receive_checks`](Self::receive_checks)
    /// takes them. No two have the same transaction id, in any call with another `round`.
    pub(crate) fn checks(&mut self, count: usize, round: u32) -> Vec<(usize, Vec<u8>)> {
        let mut number = 0;
        let check = |n: usize| {
            number = self.another(number);
            let ends = [(0, number), self.peer_of(0, number)];
            let [own, peer] = ends.map(|end| self.agent(end).local_parameters());
            let role = self.agent((0, number)).role();
            let mut id = [7; 12];
            id[..4].copy_from_slice(&round.to_be_bytes());
            id[4..8].copy_from_slice(&(n as u32).to_be_bytes());
            let mut bytes = vec![0; 128];
            let build = |bytes: &mut [u8]| -> Result<usize, nilas_stun::BuildError> {
                let id = TransactionId::new(id);
                let mut builder = MessageBuilder::new(bytes, Class::Request, Method::BINDING, id)?;
                builder
                    .username_pair(&own.ufrag, &peer.ufrag)?
                    .priority(0x6E00_01FF)?;
                match role {
                    Role::Controlling => builder.ice_controlled(1)?,
                    Role::Controlled => builder.ice_controlling(1)?,
                };
                builder
                    .message_integrity(&Key::short_term(&own.pwd).expect("ice-chars"))?
                    .fingerprint()?;
                Ok(builder.finish())
            };
            let length = build(&mut bytes).expect("it fits");
            bytes.truncate(length);
            (number, bytes)
        };
        (0..count).map(check).collect()
    }

    /// A step that has no factor in common with the number of agents, so that all have their turn.
    fn another(&self, number: usize) -> usize {
        (number + 7_919) % self.sides[0].agents.len()
    }

    /// Datagrams sent so far, by all.
    pub(crate) const fn packets(&self) -> u64 {
        self.packets
    }
}

/// A session of so many streams, each of so many components, which are put into `agents`.
fn add_session(
    engine: &mut Engine,
    config: AgentConfig,
    streams: usize,
    components: usize,
    agents: &mut Vec<AgentId>,
) {
    let components = u16::try_from(components).expect("a few");
    let id = engine.add_session(Time::ZERO, config.clone(), components);
    let mut session = engine.session(id.expect("room")).expect("open");
    for _ in 1..streams {
        session
            .add_stream(Time::ZERO, config.clone(), components)
            .expect("room");
    }
    agents.extend(session.components());
}
