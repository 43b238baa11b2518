//! Two engines of nilas and the wire between them, in virtual time, with nothing else in the way.

use std::collections::VecDeque;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentId, Candidate, Command, Engine, EngineConfig, Event, GatheringState, Handled,
    Input, Interface, Output, Role, SocketId, State, Time,
};

use nilas_stun::{Class, Key, MessageBuilder, Method, TransactionId};

use crate::allocator::uncounted;

/// The first port of either side; a socket's number is what its port is above it.
const FIRST_PORT: u16 = 10_000;

/// A datagram under way. The longest check has less bytes than this.
#[derive(Clone, Copy)]
struct UnderWay {
    at: Time,
    to: usize,
    socket: SocketId,
    remote: SocketAddr,
    length: usize,
    bytes: [u8; 256],
}

/// Two engines, each with the same number of agents; those of one number are peers.
pub(crate) struct Pair {
    sides: [Side; 2],
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
    agents: Vec<AgentId>,
    deadline: Option<Time>,
    /// By the number of the socket.
    addresses: Vec<SocketAddr>,
}

impl Pair {
    /// Two engines with this many addresses and agents on each side, started and introduced.
    pub(crate) fn start(agents: usize, addresses: u8, max_pairs: u16, seed: u64) -> Self {
        let mut config = EngineConfig::default();
        if agents > 1 {
            // As a server that hosts many may: its own link is not the one that the rule protects.
            config.pacing_floor = Duration::ZERO;
        }
        let sides = [0, 1].map(|side: u8| {
            let mut key = [side; 32];
            key[..8].copy_from_slice(&seed.to_le_bytes());
            let mut engine = Engine::new(config.clone(), key);
            let (interface, mut own) = uncounted(|| {
                let ips = (1..=addresses).map(|n| IpAddr::V4(Ipv4Addr::new(10, 0, side, n)));
                let interface = Interface {
                    name: "eth0".into(),
                    index: 1,
                    addresses: ips.collect(),
                };
                (interface, Vec::with_capacity(agents))
            });
            let _ = engine.handle(Time::ZERO, Input::Interfaces(&[interface]));
            let role = if side == 0 {
                Role::Controlling
            } else {
                Role::Controlled
            };
            for _ in 0..agents {
                let mut config = AgentConfig::new(role);
                config.max_pairs = max_pairs;
                own.push(engine.add_agent(Time::ZERO, config).expect("room"));
            }
            let addresses = uncounted(|| Vec::with_capacity(agents * usize::from(addresses)));
            Side {
                engine,
                agents: own,
                deadline: Some(Time::ZERO),
                addresses,
            }
        });
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
            pair.introduce(number);
        }
        pair
    }

    fn introduce(&mut self, number: usize) {
        let now = self.now;
        let [a, b] = [0, 1].map(|side: usize| {
            let side = &mut self.sides[side];
            side.engine
                .agent(side.agents[number])
                .expect("open")
                .local_parameters()
        });
        for (side, remote) in [(0, b), (1, a)] {
            let side = &mut self.sides[side];
            let mut agent = side.engine.agent(side.agents[number]).expect("open");
            agent
                .set_remote_parameters(now, &remote)
                .expect("good parameters");
            let mut agent = side.engine.agent(side.agents[number]).expect("open");
            agent.gather(now);
        }
        self.settle(0);
        self.settle(1);
        self.trickle();
    }

    /// Runs until every agent has told that its pair was nominated, at most for a minute.
    pub(crate) fn run_until_nominated(&mut self) -> Time {
        let all = 2 * self.sides[0].agents.len();
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
                for side in 0..2 {
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
        loop {
            let side = &mut self.sides[number];
            match side.engine.poll(now, &mut buffer) {
                Output::Transmit(transmit) => {
                    self.packets += 1;
                    let mut bytes = [0; 256];
                    bytes[..transmit.size].copy_from_slice(&buffer[..transmit.size]);
                    self.wire.push_back(UnderWay {
                        at: now + self.delay,
                        to: 1 - number,
                        socket: SocketId(u32::from(transmit.destination.port() - FIRST_PORT)),
                        remote: side.addresses[transmit.socket.0 as usize],
                        length: transmit.size,
                        bytes,
                    });
                }
                Output::Command(Command::Bind { request, address }) => {
                    let socket = side.addresses.len();
                    let bound = SocketAddr::new(address.ip(), FIRST_PORT + socket as u16);
                    side.addresses.push(bound);
                    let result = Ok((SocketId(socket as u32), bound));
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
            self.settle(0);
            self.settle(1);
        }
    }

    fn peer(&mut self, from: usize, agent: AgentId, call: impl FnOnce(nilas_ice::AgentMut<'_>)) {
        // Agents are made in one order on both sides, so peers have the same id.
        call(self.sides[1 - from].engine.agent(agent).expect("open"));
    }

    /// Hands application data to the agents of the first side, `count` datagrams in all, each to another
    /// agent than the one before, as the wire of a server would.
    pub(crate) fn receive_data(&mut self, count: usize, payload: &[u8]) {
        let mut number = 0;
        for _ in 0..count {
            number = self.another(number);
            let input = Input::Datagram {
                socket: SocketId(number as u32),
                remote: self.sides[1].addresses[number],
                payload,
            };
            let handled = self.sides[0].engine.handle(self.now, input);
            assert!(
                matches!(handled, Handled::Application { .. }),
                "{handled:?}"
            );
        }
    }

    /// Hands each of these checks to its agent of the first side, which verifies and answers it.
    pub(crate) fn receive_checks(&mut self, checks: &[(usize, Vec<u8>)]) {
        let mut buffer = [0; 1280];
        for (number, payload) in checks {
            let input = Input::Datagram {
                socket: SocketId(*number as u32),
                remote: self.sides[1].addresses[*number],
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

    /// True checks of the second side's agents, `count` in all, as [`receive_checks`](Self::receive_checks)
    /// takes them. No two have the same transaction id, in any call with another `round`.
    pub(crate) fn checks(&mut self, count: usize, round: u32) -> Vec<(usize, Vec<u8>)> {
        let mut number = 0;
        let check = |n: usize| {
            number = self.another(number);
            let [own, peer] = [0, 1].map(|side: usize| {
                let side = &mut self.sides[side];
                side.engine
                    .agent(side.agents[number])
                    .expect("open")
                    .local_parameters()
            });
            let mut id = [7; 12];
            id[..4].copy_from_slice(&round.to_be_bytes());
            id[4..8].copy_from_slice(&(n as u32).to_be_bytes());
            let mut bytes = vec![0; 128];
            let build = |bytes: &mut [u8]| -> Result<usize, nilas_stun::BuildError> {
                let id = TransactionId::new(id);
                let mut builder = MessageBuilder::new(bytes, Class::Request, Method::BINDING, id)?;
                builder
                    .username_pair(&own.ufrag, &peer.ufrag)?
                    .priority(0x6E00_01FF)?
                    .ice_controlled(1)?
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

    /// Datagrams sent so far, by both sides.
    pub(crate) const fn packets(&self) -> u64 {
        self.packets
    }
}
