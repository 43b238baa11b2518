//! Two engines on a wire in virtual time: enough for an agent's own tests.
#![allow(dead_code, unreachable_pub, reason = "each test uses a part")]

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentId, AgentMut, Application, Candidate, Command, Engine, EngineConfig, Event,
    GatheringState, Handled, Input, Interface, Output, Parameters, ResolveError, Role, SendError,
    SocketId, State, Time, Via,
};
use nilas_stun::{Class, Key, MessageBuilder, Method, TransactionId};

/// One side: an engine with one agent, and what it has told.
pub struct Side {
    pub engine: Engine,
    pub id: AgentId,
    pub sockets: BTreeMap<SocketId, SocketAddr>,
    pub events: Vec<(Time, Event)>,
    pub data: Vec<Vec<u8>>,
    pub closed: bool,
    /// Sockets that the gateway is to forward a port to.
    pub mapped: Vec<SocketId>,
    /// How what it has sent was marked.
    pub marks: BTreeSet<u8>,
    next_port: u16,
    next_socket: u32,
}

impl Side {
    pub fn new(role: Role, seed: u8, addresses: &[&str]) -> Self {
        let mut config = AgentConfig::new(role);
        // The bare protocol; what an agent does of its own accord is proved in the simulator.
        config.restarts_alone = false;
        Self::with(config, seed, addresses)
    }

    pub fn with(config: AgentConfig, seed: u8, addresses: &[&str]) -> Self {
        let engine = Engine::new(EngineConfig::default(), [seed; 32]);
        Self::on(engine, config, addresses)
    }

    /// With an agent on this engine.
    pub fn on(mut engine: Engine, config: AgentConfig, addresses: &[&str]) -> Self {
        let addresses = addresses
            .iter()
            .map(|ip| ip.parse::<IpAddr>().expect("an address"))
            .collect();
        let interface = Interface {
            name: "eth0".into(),
            index: 2,
            addresses,
            ..Interface::default()
        };
        let _ = engine.handle(Time::ZERO, Input::Interfaces(&[interface]));
        let id = engine.add_agent(Time::ZERO, config).expect("an agent");
        Self {
            engine,
            id,
            sockets: BTreeMap::new(),
            events: Vec::new(),
            data: Vec::new(),
            closed: false,
            mapped: Vec::new(),
            marks: BTreeSet::new(),
            next_port: 5000,
            next_socket: 0,
        }
    }

    pub fn agent(&mut self) -> AgentMut<'_> {
        self.engine.agent(self.id).expect("the agent")
    }

    pub fn states(&self) -> Vec<State> {
        let state = |event: &(Time, Event)| match event.1 {
            Event::StateChange { state, .. } => Some(state),
            _ => None,
        };
        self.events.iter().filter_map(state).collect()
    }

    pub fn when(&self, wanted: State) -> Option<Time> {
        self.events
            .iter()
            .find(
                |(_, event)| matches!(event, Event::StateChange { state, .. } if *state == wanted),
            )
            .map(|(at, _)| *at)
    }
}

/// A datagram on its way.
#[derive(Clone, Debug)]
pub struct Packet {
    pub at: Time,
    pub from: SocketAddr,
    pub to: SocketAddr,
    pub bytes: Vec<u8>,
}

/// What signaling carries.
#[derive(Clone, Debug)]
pub enum Signal {
    Parameters(Parameters),
    Candidate(Candidate),
    End,
}

pub type Lose = Box<dyn FnMut(usize, &Packet) -> bool>;

pub struct Pair {
    pub now: Time,
    pub sides: [Side; 2],
    pub delay: Duration,
    pub wire: Vec<(usize, Packet)>,
    pub sent: Vec<(usize, Packet)>,
    /// Signals of each side that have not reached the other.
    pub signals: [Vec<Signal>; 2],
    /// Whether signaling from this side is held.
    pub hold: [bool; 2],
    /// Whether a datagram of this side is lost.
    pub lose: Lose,
    /// What becomes of a datagram on its way.
    pub alter: Box<dyn FnMut(&mut Packet)>,
    /// The system sends no longer datagrams.
    pub longest: usize,
}

impl Pair {
    pub fn new(a: Side, b: Side) -> Self {
        let mut pair = Self {
            now: Time::ZERO,
            sides: [a, b],
            delay: Duration::from_millis(25),
            wire: Vec::new(),
            sent: Vec::new(),
            signals: [Vec::new(), Vec::new()],
            hold: [false; 2],
            lose: Box::new(|_, _| false),
            alter: Box::new(|_| {}),
            longest: usize::MAX,
        };
        for side in 0..2 {
            let parameters = pair.sides[side].agent().local_parameters();
            pair.signals[side].push(Signal::Parameters(parameters));
            pair.sides[side].agent().gather(Time::ZERO);
        }
        pair
    }

    pub fn simple() -> Self {
        Self::new(
            Side::new(Role::Controlling, 1, &["192.0.2.1"]),
            Side::new(Role::Controlled, 2, &["192.0.2.2"]),
        )
    }

    pub fn send(&mut self, side: usize, data: &[u8]) -> bool {
        let Ok(path) = self.sides[side].agent().path().load() else {
            return false;
        };
        let Via::Socket {
            socket,
            destination,
        } = path.via
        else {
            unreachable!("these agents have no TURN servers");
        };
        let from = self.sides[side].sockets[&socket];
        self.post(
            side,
            Packet {
                at: self.now,
                from,
                to: destination,
                bytes: data.to_vec(),
            },
        );
        true
    }

    pub fn post(&mut self, side: usize, mut packet: Packet) {
        (self.alter)(&mut packet);
        self.sent.push((side, packet.clone()));
        if !(self.lose)(side, &packet) {
            let at = self.now + self.delay;
            self.wire.push((1 - side, Packet { at, ..packet }));
        }
    }

    /// Runs until `done`, or until virtual time is `end`.
    pub fn run(&mut self, end: Time, mut done: impl FnMut(&mut [Side; 2]) -> bool) -> bool {
        loop {
            let idle = self.settle();
            if done(&mut self.sides) {
                return true;
            }
            let arrival = self.wire.iter().map(|(_, packet)| packet.at).min();
            let Some(next) = idle
                .into_iter()
                .chain(arrival)
                .min()
                .filter(|next| *next <= end)
            else {
                self.now = end;
                return done(&mut self.sides);
            };
            self.now = self.now.max(next);
            let mut index = 0;
            while index < self.wire.len() {
                if self.wire[index].1.at > self.now {
                    index += 1;
                    continue;
                }
                let (side, packet) = self.wire.remove(index);
                let owner = &mut self.sides[side];
                let Some((&socket, _)) = owner
                    .sockets
                    .iter()
                    .find(|(_, address)| **address == packet.to)
                else {
                    continue;
                };
                let input = Input::Datagram {
                    socket,
                    remote: packet.from,
                    payload: &packet.bytes,
                };
                if let Handled::Application(Application { range, .. }) =
                    owner.engine.handle(self.now, input)
                {
                    owner.data.push(packet.bytes[range].to_vec());
                }
            }
        }
    }

    pub fn until(&mut self, seconds: u64) {
        self.run(Time::from_millis(seconds * 1000), |_| false);
    }

    pub fn both_up(&mut self) -> bool {
        self.run(self.now + Duration::from_secs(60), |sides| {
            sides.iter_mut().all(|side| side.agent().state().is_up())
        })
    }

    pub fn both_completed(&mut self) -> bool {
        self.run(self.now + Duration::from_secs(60), |sides| {
            sides
                .iter_mut()
                .all(|side| side.agent().state() == State::Completed)
        })
    }

    /// Polls both sides and carries signals until nothing more is to be done now.
    fn settle(&mut self) -> Option<Time> {
        loop {
            let mut deadline = None;
            let mut busy = false;
            for side in 0..2 {
                deadline = self.poll(side, &mut busy).into_iter().chain(deadline).min();
            }
            for side in 0..2 {
                if !self.hold[side] {
                    for signal in std::mem::take(&mut self.signals[side]) {
                        busy = true;
                        self.deliver(1 - side, signal);
                    }
                }
            }
            if !busy {
                return deadline;
            }
        }
    }

    pub fn deliver(&mut self, side: usize, signal: Signal) {
        let now = self.now;
        let mut agent = self.sides[side]
            .engine
            .agent(self.sides[side].id)
            .expect("the agent");
        match signal {
            Signal::Parameters(parameters) => agent
                .set_remote_parameters(now, &parameters)
                .expect("parameters"),
            // A candidate may come late for its generation; that is no failure of the wire.
            Signal::Candidate(candidate) => drop(agent.add_remote_candidate(now, candidate)),
            Signal::End => agent.end_of_remote_candidates(now),
        }
    }

    fn poll(&mut self, side: usize, busy: &mut bool) -> Option<Time> {
        let mut buffer = [0; 2048];
        loop {
            let owner = &mut self.sides[side];
            match owner.engine.poll(self.now, &mut buffer) {
                Output::Transmit(transmit) => {
                    owner.marks.insert(transmit.dscp.code());
                    if transmit.size > self.longest {
                        let refused = Input::SendError {
                            socket: transmit.socket,
                            remote: transmit.destination,
                            error: SendError::TooLarge,
                        };
                        let _ = owner.engine.handle(self.now, refused);
                        continue;
                    }
                    let from = owner.sockets[&transmit.socket];
                    let bytes = buffer[..transmit.size].to_vec();
                    self.post(
                        side,
                        Packet {
                            at: self.now,
                            from,
                            to: transmit.destination,
                            bytes,
                        },
                    );
                }
                Output::Event(_, event) => {
                    *busy = true;
                    owner.events.push((self.now, event.clone()));
                    match event {
                        Event::LocalParameters(parameters) => {
                            self.signals[side].push(Signal::Parameters(parameters));
                        }
                        Event::Candidate(candidate) => {
                            self.signals[side].push(Signal::Candidate(candidate))
                        }
                        Event::GatheringStateChange(GatheringState::Complete) => {
                            self.signals[side].push(Signal::End);
                        }
                        Event::StateChange {
                            state: State::Closed,
                            ..
                        } => owner.closed = true,
                        _ => {}
                    }
                }
                Output::Command(Command::Bind { request, address }) => {
                    *busy = true;
                    owner.next_port += 1;
                    owner.next_socket += 1;
                    let (id, address) = (
                        SocketId(owner.next_socket),
                        SocketAddr::new(address.ip(), owner.next_port),
                    );
                    owner.sockets.insert(id, address);
                    let _ = owner.engine.handle(
                        self.now,
                        Input::Bound {
                            request,
                            result: Ok((id, address)),
                        },
                    );
                }
                Output::Command(Command::CloseSocket(socket)) => {
                    owner.sockets.remove(&socket);
                }
                // A machine without IPv4 asks for the network's translator: there is none.
                Output::Command(Command::Resolve { request, .. }) => {
                    let result = Err(ResolveError::NotFound);
                    let _ = owner
                        .engine
                        .handle(self.now, Input::Resolved { request, result });
                }
                Output::Command(Command::MapPort { socket, address }) => {
                    assert_eq!(owner.sockets[&socket], address);
                    owner.mapped.push(socket);
                }
                Output::Command(Command::UnmapPort(socket)) => {
                    owner.mapped.retain(|asked| *asked != socket);
                }
                // The agents of a session tell as much.
                Output::SessionEvent(..) => *busy = true,
                Output::Command(other) => panic!("not expected here: {other:?}"),
                Output::Idle(deadline) => return deadline,
                other => panic!("not expected here: {other:?}"),
            }
        }
    }
}

/// A check as an attacker, or the peer, would build it.
pub struct Check<'a> {
    pub username: (&'a str, &'a str),
    pub pwd: &'a str,
    pub role: Role,
    pub tie_breaker: u64,
    pub use_candidate: bool,
    pub priority: u32,
    pub id: u64,
}

impl Check<'_> {
    pub fn build(&self) -> Vec<u8> {
        let mut buffer = [0; 512];
        let id = TransactionId::new(std::array::from_fn(|n| self.id.to_be_bytes()[n % 8]));
        let mut message =
            MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
        message
            .username_pair(self.username.0, self.username.1)
            .expect("room");
        message.priority(self.priority).expect("room");
        match self.role {
            Role::Controlling => message.ice_controlling(self.tie_breaker),
            Role::Controlled => message.ice_controlled(self.tie_breaker),
        }
        .expect("room");
        if self.use_candidate {
            message.use_candidate().expect("room");
        }
        message
            .message_integrity(&Key::short_term(self.pwd).expect("a key"))
            .expect("room");
        message.fingerprint().expect("room");
        let size = message.finish();
        buffer[..size].to_vec()
    }
}

pub fn give(side: &mut Side, now: Time, from: &str, bytes: &[u8]) -> Handled {
    let remote: SocketAddr = from.parse().expect("an address");
    side.engine.handle(
        now,
        Input::Datagram {
            socket: SocketId(1),
            remote,
            payload: bytes,
        },
    )
}
