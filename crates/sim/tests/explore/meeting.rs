//! Two agents, each in an engine of its own, and all that is on its way between them.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::str::FromStr;
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentId, AgentMut, Candidate, Command, Engine, EngineConfig, Event,
    GatheringState, Input, Interface, Output, Parameters, Role, SelectedPair, SocketId, State,
    Time,
};
use nilas_stun::{Class, Message};
use siphasher::sip::SipHasher13;

/// How two agents begin, and what may happen to them.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) roles: [Role; 2],
    /// Of the engines: they decide whose tie-breaker is the greater.
    pub(crate) seeds: [u8; 2],
    pub(crate) beginning: Beginning,
    pub(crate) rations: Rations,
}

/// Where the moves begin. What comes before has happened in its order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Beginning {
    /// Neither knows anything of the other.
    Strangers,
    /// Both know all that signaling brings.
    Acquainted,
    /// The check that nominates is on its way.
    Nominating,
    /// A pair is nominated, and both are at rest.
    AtRest,
}

/// How often something may yet happen.
#[derive(Clone, Copy, Hash)]
pub(crate) struct Rations {
    pub(crate) losses: u8,
    pub(crate) copies: u8,
    /// Of each side.
    pub(crate) restarts: [u8; 2],
}

/// Something that happens. Datagrams are named by their place among those on their way.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Move {
    /// `d2`: a datagram arrives.
    Deliver(u8),
    /// `x2`: it is lost.
    Lose(u8),
    /// `c2`: it arrives, and once more later.
    Copy(u8),
    /// `s0`: signaling brings the next letter of this side to the other.
    Signal(u8),
    /// `w`: time passes until somebody has something to do; whatever is on its way is late.
    Wait,
    /// `r0`: this side restarts.
    Restart(u8),
}

/// A datagram on its way.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Datagram {
    to_side: usize,
    from: SocketAddr,
    to: SocketAddr,
    bytes: Rc<[u8]>,
}

/// All that a side told at one moment.
#[derive(Clone, Default, Debug)]
struct Letter {
    parameters: Option<Parameters>,
    candidates: Vec<Candidate>,
    end: bool,
}

struct Side {
    engine: Engine,
    agent: AgentId,
    sockets: BTreeMap<SocketId, SocketAddr>,
    next: u16,
    state: State,
    role: Role,
    selected: Option<SelectedPair>,
    /// The pairs that were nominated in each generation, which its parameters count.
    nominated: BTreeMap<u32, BTreeSet<(SocketAddr, SocketAddr)>>,
    generation: u32,
    /// Letters to the other side, the oldest first.
    letters: VecDeque<Letter>,
    deadline: Option<Time>,
}

pub(crate) struct Meeting {
    now: Time,
    sides: [Side; 2],
    wire: Vec<Datagram>,
    rations: Rations,
    /// Where to tell what happens.
    pub(crate) tells: bool,
}

/// What a side can say about its path when all is at rest.
type Ends = (SocketAddr, SocketAddr);

/// Outputs at one moment: more would be an engine that spins.
const MOST_OUTPUTS: usize = 500;
/// Datagrams and letters until both are at rest: more would be two agents that never come to an end.
const MOST_STEPS: usize = 1_000;
/// How long a good channel may take to bring both together. A pair that lost its check waits for a retransmission.
const PATIENCE: Duration = Duration::from_secs(30);

impl Meeting {
    pub(crate) fn new(scenario: &Scenario) -> Self {
        let addresses: [&[&str]; 2] = [&["192.0.2.1"], &["198.51.100.1", "198.51.100.2"]];
        let sides = [0, 1].map(|side: usize| {
            Side::new(scenario.roles[side], scenario.seeds[side], addresses[side])
        });
        let mut meeting = Self {
            now: Time::ZERO,
            sides,
            wire: Vec::new(),
            rations: scenario.rations,
            tells: false,
        };
        for side in 0..2 {
            let now = meeting.now;
            meeting.sides[side].agent().gather(now);
            meeting.settle(side);
            let own = &mut meeting.sides[side];
            let parameters = own.agent().local_parameters();
            // All of it is one letter, with the parameters first.
            let letter = own.letters.front_mut().expect("candidates were told");
            letter.parameters = Some(plain(parameters));
        }
        meeting.begin(scenario.beginning);
        meeting.rations = scenario.rations;
        meeting
    }

    fn begin(&mut self, beginning: Beginning) {
        match beginning {
            Beginning::Strangers => {}
            Beginning::Acquainted => {
                self.bring_letter(0);
                self.bring_letter(1);
            }
            Beginning::Nominating => {
                while !self.wire.iter().any(Datagram::nominates) {
                    if !self.step_in_order() {
                        self.wait();
                    }
                }
            }
            Beginning::AtRest => self.come_to_rest().expect("nothing disturbs them"),
        }
    }

    /// What can happen now.
    pub(crate) fn moves(&self) -> Vec<Move> {
        let mut moves = Vec::new();
        let mut seen = BTreeSet::new();
        for (index, datagram) in self.wire.iter().enumerate() {
            // The same datagram twice is one possibility.
            if !seen.insert(datagram) {
                continue;
            }
            let index = index as u8;
            moves.push(Move::Deliver(index));
            if self.rations.losses > 0 {
                moves.push(Move::Lose(index));
            }
            if self.rations.copies > 0 {
                moves.push(Move::Copy(index));
            }
        }
        for side in 0..2 {
            if !self.sides[usize::from(side)].letters.is_empty() {
                moves.push(Move::Signal(side));
            }
            if self.rations.restarts[usize::from(side)] > 0 {
                moves.push(Move::Restart(side));
            }
        }
        if self.deadline().is_some() {
            moves.push(Move::Wait);
        }
        moves
    }

    /// # Errors
    /// What must hold and does not.
    pub(crate) fn make(&mut self, step: Move) -> Result<(), String> {
        match step {
            Move::Deliver(index) => {
                let datagram = self.wire.remove(usize::from(index));
                self.arrive(&datagram);
            }
            Move::Lose(index) => {
                self.rations.losses -= 1;
                let datagram = self.wire.remove(usize::from(index));
                self.tell(|| format!("lost: {}", describe(&datagram)));
            }
            Move::Copy(index) => {
                self.rations.copies -= 1;
                let datagram = self.wire[usize::from(index)].clone();
                self.arrive(&datagram);
            }
            Move::Signal(side) => self.bring_letter(usize::from(side)),
            Move::Wait => self.wait(),
            Move::Restart(side) => {
                self.rations.restarts[usize::from(side)] -= 1;
                let now = self.now;
                self.sides[usize::from(side)].agent().restart(now);
                self.settle(usize::from(side));
            }
        }
        self.check()
    }

    /// Everything that decides what can happen from here on.
    pub(crate) fn fingerprint(&self) -> u64 {
        let mut hasher = SipHasher13::new();
        self.now.as_nanos().hash(&mut hasher);
        self.rations.hash(&mut hasher);
        let mut wire = self.wire.clone();
        wire.sort();
        wire.hash(&mut hasher);
        for side in &self.sides {
            // All fields of all that an engine holds. Two engines that draw their next random numbers from another
            // place of the stream are alike: what is drawn are names, and moments of consent.
            format!("{:?}{:?}", side.engine, side.letters).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// From now on nothing is lost, and everything arrives at once and in its order: what comes of it.
    ///
    /// # Errors
    /// What must hold in the end and does not.
    pub(crate) fn come_to_rest(&mut self) -> Result<(), String> {
        self.rations.restarts = [0, 0];
        let end = self.now + PATIENCE;
        let mut steps = 0;
        loop {
            while self.step_in_order() {
                self.check()?;
                steps += 1;
                if steps > MOST_STEPS {
                    let [a, b] = &self.sides;
                    return Err(format!(
                        "they keep each other busy without end: {a} and {b}"
                    ));
                }
            }
            if self.is_over() {
                break;
            }
            match self.deadline() {
                Some(at) if at <= end => self.wait(),
                _ => {
                    let [a, b] = &self.sides;
                    return Err(format!(
                        "a dead state: {PATIENCE:?} on a good channel end in {a} and {b}"
                    ));
                }
            }
        }
        let [a, b] = &self.sides;
        let (at_a, at_b) = (a.ends(), b.ends());
        if at_a.map(|(local, remote)| (remote, local)) != at_b {
            return Err(format!("the pairs are not mirrored: {a} and {b}"));
        }
        if a.role == b.role {
            return Err(format!("the roles are the same: {a} and {b}"));
        }
        Ok(())
    }

    fn is_over(&self) -> bool {
        self.sides.iter().all(|side| {
            let nominated = side.selected.as_ref().is_some_and(|pair| pair.nominated);
            side.state == State::Completed
                && nominated
                && side.nominated.contains_key(&side.generation)
        })
    }

    fn check(&self) -> Result<(), String> {
        for side in &self.sides {
            // RFC 8445 section 8.1.1: neither side offers renomination.
            if let Some((generation, pairs)) =
                side.nominated.iter().find(|(_, pairs)| pairs.len() > 1)
            {
                return Err(format!(
                    "generation {generation} has more than one nominated pair: {pairs:?}"
                ));
            }
        }
        Ok(())
    }

    fn step_in_order(&mut self) -> bool {
        if let Some(side) = (0..2).find(|side| !self.sides[*side].letters.is_empty()) {
            self.bring_letter(side);
            return true;
        }
        if self.wire.is_empty() {
            return false;
        }
        let datagram = self.wire.remove(0);
        self.arrive(&datagram);
        true
    }

    fn deadline(&self) -> Option<Time> {
        self.sides.iter().filter_map(|side| side.deadline).min()
    }

    fn wait(&mut self) {
        let Some(at) = self.deadline() else { return };
        self.now = self.now.max(at);
        self.tell(|| format!("it is {:?}", at));
        for side in 0..2 {
            if self.sides[side].deadline.is_some_and(|at| at <= self.now) {
                self.settle(side);
            }
        }
    }

    fn arrive(&mut self, datagram: &Datagram) {
        self.tell(|| format!("arrives: {}", describe(datagram)));
        let now = self.now;
        let side = &mut self.sides[datagram.to_side];
        let mut sockets = side.sockets.iter();
        let Some((&socket, _)) = sockets.find(|(_, address)| **address == datagram.to) else {
            return;
        };
        let _ = side.engine.handle(
            now,
            Input::Datagram {
                socket,
                remote: datagram.from,
                payload: &datagram.bytes,
            },
        );
        self.settle(datagram.to_side);
    }

    fn bring_letter(&mut self, from: usize) {
        let Some(letter) = self.sides[from].letters.pop_front() else {
            return;
        };
        self.tell(|| format!("a letter of {from}: {letter:?}"));
        let now = self.now;
        let mut agent = self.sides[1 - from].agent();
        if let Some(parameters) = &letter.parameters {
            agent
                .set_remote_parameters(now, parameters)
                .expect("parameters of an agent are good");
        }
        for candidate in letter.candidates {
            // One of another generation is refused, as it ought to be.
            let _ = agent.add_remote_candidate(now, candidate);
        }
        if letter.end {
            agent.end_of_remote_candidates(now);
        }
        self.settle(1 - from);
    }

    /// Lets a side do what there is to do now.
    fn settle(&mut self, index: usize) {
        let (now, tells) = (self.now, self.tells);
        let mut letter = Letter::default();
        let mut buffer = [0; 1280];
        for _ in 0..MOST_OUTPUTS {
            let side = &mut self.sides[index];
            match side.engine.poll(now, &mut buffer) {
                Output::Transmit(transmit) => {
                    let datagram = Datagram {
                        to_side: 1 - index,
                        from: side.sockets[&transmit.socket],
                        to: transmit.destination,
                        bytes: buffer[..transmit.size].into(),
                    };
                    self.wire.push(datagram);
                }
                Output::Event(_, event) => {
                    if tells {
                        println!("    {index} tells {event:?}");
                    }
                    side.note(event, &mut letter);
                }
                Output::Command(Command::Bind { request, address }) => {
                    side.next += 1;
                    let (socket, address) = (
                        SocketId(side.next.into()),
                        SocketAddr::new(address.ip(), 5000 + side.next),
                    );
                    side.sockets.insert(socket, address);
                    let result = Ok((socket, address));
                    let _ = side.engine.handle(now, Input::Bound { request, result });
                }
                Output::Command(Command::CloseSocket(socket)) => drop(side.sockets.remove(&socket)),
                Output::Idle(deadline) => {
                    side.deadline = deadline;
                    if letter.parameters.is_some() || !letter.candidates.is_empty() || letter.end {
                        side.letters.push_back(letter);
                    }
                    return;
                }
                other => panic!("nobody asked for {other:?}"),
            }
        }
        panic!("side {index} does not come to an end at {now:?}");
    }

    fn tell(&self, what: impl FnOnce() -> String) {
        if self.tells {
            println!("    {}", what());
        }
    }
}

impl Datagram {
    fn nominates(&self) -> bool {
        Message::parse(&self.bytes).is_ok_and(|message| message.use_candidate())
    }
}

impl Side {
    fn new(role: Role, seed: u8, addresses: &[&str]) -> Self {
        let mut engine = Engine::new(EngineConfig::default(), [seed; 32]);
        let addresses = addresses
            .iter()
            .map(|text| text.parse::<IpAddr>().expect("an address"))
            .collect();
        let interface = Interface {
            name: "eth0".into(),
            index: 2,
            addresses,
            ..Interface::default()
        };
        let _ = engine.handle(Time::ZERO, Input::Interfaces(&[interface]));
        let mut config = AgentConfig::new(role);
        // The bare protocol has to do: a restart of the agent's own accord would hide a dead state.
        config.restarts_alone = false;
        let agent = engine.add_agent(Time::ZERO, config).expect("room");
        Self {
            engine,
            agent,
            sockets: BTreeMap::new(),
            next: 0,
            state: State::New,
            role,
            selected: None,
            nominated: BTreeMap::new(),
            generation: 0,
            letters: VecDeque::new(),
            deadline: None,
        }
    }

    fn agent(&mut self) -> AgentMut<'_> {
        self.engine.agent(self.agent).expect("it is never closed")
    }

    fn note(&mut self, event: Event, letter: &mut Letter) {
        match event {
            Event::LocalParameters(parameters) => {
                self.generation += 1;
                letter.parameters = Some(plain(parameters));
            }
            Event::Candidate(candidate) => letter.candidates.push(candidate),
            Event::GatheringStateChange(GatheringState::Complete) => letter.end = true,
            Event::StateChange { state, .. } => self.state = state,
            Event::RoleChange(role) => self.role = role,
            Event::SelectedPairChange(pair) => self.selected = Some(pair),
            Event::Nominated(pair) => {
                let pairs = self.nominated.entry(self.generation).or_default();
                pairs.extend(ends_of(&pair));
                self.selected = Some(pair);
            }
            _ => {}
        }
    }

    fn ends(&self) -> Option<Ends> {
        self.selected.as_ref().and_then(ends_of)
    }
}

impl fmt::Display for Side {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            state,
            role,
            generation,
            ..
        } = self;
        let nominated = self.selected.as_ref().map(|pair| pair.nominated);
        let ends = self.ends();
        write!(
            f,
            "[{role:?}, {state:?}, generation {generation}, {ends:?}, nominated {nominated:?}]"
        )
    }
}

impl fmt::Display for Move {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Deliver(index) => write!(f, "d{index}"),
            Self::Lose(index) => write!(f, "x{index}"),
            Self::Copy(index) => write!(f, "c{index}"),
            Self::Signal(side) => write!(f, "s{side}"),
            Self::Wait => f.write_str("w"),
            Self::Restart(side) => write!(f, "r{side}"),
        }
    }
}

impl FromStr for Move {
    type Err = String;

    fn from_str(word: &str) -> Result<Self, String> {
        let unknown = || format!("{word} is no move");
        let (kind, number) = word.split_at_checked(1).ok_or_else(unknown)?;
        if (kind, number) == ("w", "") {
            return Ok(Self::Wait);
        }
        let number: u8 = number.parse().map_err(|_| unknown())?;
        Ok(match kind {
            "d" => Self::Deliver(number),
            "x" => Self::Lose(number),
            "c" => Self::Copy(number),
            "s" => Self::Signal(number),
            "r" => Self::Restart(number),
            _ => return Err(unknown()),
        })
    }
}

/// Without the offer of renomination: one nomination stands, as RFC 8445 has it. And without what they answer, so that
/// restarts are told from answers as beside a peer that does not say so.
fn plain(mut parameters: Parameters) -> Parameters {
    parameters.options.retain(|option| option != "renomination");
    parameters.answers = None;
    parameters
}

fn ends_of(pair: &SelectedPair) -> Option<Ends> {
    Some((pair.local.ip_address()?, pair.remote.ip_address()?))
}

fn describe(datagram: &Datagram) -> String {
    let Datagram {
        from, to, bytes, ..
    } = datagram;
    let Ok(message) = Message::parse(bytes) else {
        return format!("{from} to {to}: {} bytes", bytes.len());
    };
    let what = match message.class() {
        Class::Request => {
            let role = match message.ice_controlling() {
                Ok(Some(_)) => "controlling",
                _ => "controlled",
            };
            let nominates = if message.use_candidate() {
                ", nominates"
            } else {
                ""
            };
            format!("check, {role}{nominates}")
        }
        Class::ErrorResponse => match message.error_code() {
            Ok(Some(error)) => format!("error {}", error.code()),
            _ => "error".to_owned(),
        },
        class => format!("{class:?}"),
    };
    format!("{from} to {to}: {what}")
}
