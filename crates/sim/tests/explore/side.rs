//! One of the two agents, in an engine of its own, with the networks that it has.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};
use std::net::{IpAddr, SocketAddr};

use nilas_ice::{
    AgentConfig, AgentId, AgentMut, Candidate, Engine, EngineConfig, Event, GatheringState, Input,
    Interface, Parameters, Role, SelectedPair, SocketId, State, Stats, Time,
};
use nilas_stun::{Class, Message};

use crate::moves::Datagram;
use crate::scenarios::Scenario;

/// All that a side told at one moment.
#[derive(Clone, Default, Debug)]
pub(crate) struct Letter {
    pub(crate) parameters: Option<Parameters>,
    pub(crate) removed: Vec<Candidate>,
    pub(crate) candidates: Vec<Candidate>,
    pub(crate) end: bool,
}

impl Letter {
    pub(crate) fn says_something(&self) -> bool {
        let candidates = self.removed.len() + self.candidates.len();
        self.parameters.is_some() || candidates > 0 || self.end
    }
}

/// The two ends of a path: here and there.
pub(crate) type Ends = (SocketAddr, SocketAddr);

pub(crate) struct Side {
    pub(crate) engine: Engine,
    pub(crate) agent: AgentId,
    networks: Vec<Network>,
    pub(crate) sockets: BTreeMap<SocketId, SocketAddr>,
    next_socket: u16,
    pub(crate) state: State,
    pub(crate) role: Role,
    pub(crate) selected: Option<SelectedPair>,
    /// The pairs that were nominated in each generation, which its parameters count.
    pub(crate) nominated: BTreeMap<u32, BTreeSet<Ends>>,
    pub(crate) generation: u32,
    /// The values by which this side has nominated, with the pair of each, for both username fragments.
    values: BTreeMap<String, BTreeMap<u32, Ends>>,
    /// Letters to the other side, the oldest first.
    pub(crate) letters: VecDeque<Letter>,
    pub(crate) deadline: Option<Time>,
    renomination: bool,
    answers: bool,
}

struct Network {
    interface: Interface,
    is_there: bool,
}

impl Side {
    pub(crate) fn new(scenario: &Scenario, number: usize) -> Self {
        let role = scenario.roles[number];
        let mut engine = Engine::new(EngineConfig::default(), [scenario.seeds[number]; 32]);
        let costs = scenario.networks[number];
        let there = costs.len() - scenario.missing[number];
        let networks = costs.iter().zip(1..).map(|(cost, n)| Network {
            interface: Interface {
                name: format!("eth{n}"),
                index: n.into(),
                addresses: vec![address(number, n)],
                cost: *cost,
                ..Interface::default()
            },
            is_there: usize::from(n) <= there,
        });
        let networks = networks.collect();
        let mut config = AgentConfig::new(role);
        config.restarts_alone = scenario.restarts_alone;
        let agent = engine.add_agent(Time::ZERO, config).expect("room");
        let mut side = Self {
            engine,
            agent,
            networks,
            sockets: BTreeMap::new(),
            next_socket: 0,
            state: State::New,
            role,
            selected: None,
            nominated: BTreeMap::new(),
            generation: 0,
            values: BTreeMap::new(),
            letters: VecDeque::new(),
            deadline: None,
            renomination: scenario.renomination,
            answers: scenario.answers,
        };
        side.tell_networks(Time::ZERO);
        side
    }

    pub(crate) fn agent(&mut self) -> AgentMut<'_> {
        self.engine.agent(self.agent).expect("it is never closed")
    }

    /// What it has to say in the beginning is one letter, with the parameters first.
    pub(crate) fn sign_first_letter(&mut self) {
        let parameters = self.agent().local_parameters();
        let parameters = self.offered(parameters);
        let letter = self.letters.front_mut().expect("candidates were told");
        letter.parameters = Some(parameters);
    }

    pub(crate) fn bind(&mut self, address: SocketAddr) -> (SocketId, SocketAddr) {
        self.next_socket += 1;
        let bound = (
            SocketId(self.next_socket.into()),
            SocketAddr::new(address.ip(), 5000 + self.next_socket),
        );
        self.sockets.insert(bound.0, bound.1);
        bound
    }

    pub(crate) fn note(&mut self, event: Event, letter: &mut Letter) {
        match event {
            Event::LocalParameters(parameters) => {
                self.generation += 1;
                letter.parameters = Some(self.offered(parameters));
            }
            Event::Candidate(candidate) => letter.candidates.push(candidate),
            Event::CandidateRemoved(candidate) => letter.removed.push(candidate),
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

    /// A datagram leaves.
    ///
    /// # Errors
    /// It nominates by a value that does not rise.
    pub(crate) fn note_nomination(&mut self, datagram: &Datagram) -> Result<(), String> {
        let Ok(message) = Message::parse(&datagram.bytes) else {
            return Ok(());
        };
        let (Class::Request, true, Ok(Some(value)), Ok(Some(username))) = (
            message.class(),
            message.use_candidate(),
            message.nomination(),
            message.username(),
        ) else {
            return Ok(());
        };
        let ends = (datagram.from, datagram.to);
        let values = self.values.entry(username.to_owned()).or_default();
        let highest = values.last_key_value().map(|(value, _)| *value);
        match values.get(&value) {
            // Sent again.
            Some(known) if *known == ends => Ok(()),
            Some(known) => Err(format!(
                "the value {value} nominates {known:?} and {ends:?}"
            )),
            None if highest > Some(value) => Err(format!(
                "the value {value} nominates {ends:?} after {highest:?}"
            )),
            None => {
                values.insert(value, ends);
                Ok(())
            }
        }
    }

    pub(crate) fn ends(&self) -> Option<Ends> {
        self.selected.as_ref().and_then(ends_of)
    }

    /// Whether a pair is nominated in the present generation, and nothing more is to be expected.
    pub(crate) fn is_over(&self) -> bool {
        let nominated = self.selected.as_ref().is_some_and(|pair| pair.nominated);
        self.state == State::Completed && nominated && self.nominated.contains_key(&self.generation)
    }

    /// Whether the peer's username fragment of the selected pair is this.
    pub(crate) fn is_paired_with(&self, ufrag: &str) -> bool {
        let theirs = self
            .selected
            .as_ref()
            .and_then(|pair| pair.remote.ufrag.as_deref());
        theirs == Some(ufrag)
    }

    /// Pairs of the present generation that are nominated now.
    pub(crate) fn standing_nominations(&mut self, now: Time) -> usize {
        let stats = self.agent().stats(now);
        let stands = |stats: &&Stats| matches!(stats, Stats::CandidatePair(pair) if pair.nominated);
        stats.iter().filter(stands).count()
    }

    /// Whether its path goes by a network that costs no more than another of its own.
    pub(crate) fn goes_by_the_cheapest(&self) -> bool {
        let there = self.networks.iter().filter(|network| network.is_there);
        let least = there.map(|network| network.interface.cost).min();
        self.network_in_use()
            .map(|index| self.networks[index].interface.cost)
            == least
    }

    pub(crate) fn has_address(&self, ip: IpAddr) -> bool {
        let mut there = self.networks.iter().filter(|network| network.is_there);
        there.any(|network| network.interface.addresses.contains(&ip))
    }

    fn network_in_use(&self) -> Option<usize> {
        let base = self.selected.as_ref()?.base.ip();
        let mut networks = self.networks.iter();
        networks.position(|network| network.is_there && network.interface.addresses.contains(&base))
    }

    /// Whether there is a network in use, and another one.
    pub(crate) fn has_choice(&self) -> bool {
        let there = self.networks.iter().filter(|network| network.is_there);
        there.count() > 1 && self.network_in_use().is_some()
    }

    /// Whether there is a network that it does not have.
    pub(crate) fn misses_one(&self) -> bool {
        self.networks.iter().any(|network| !network.is_there)
    }

    /// The network in use costs more from now on than all others.
    pub(crate) fn tax(&mut self, now: Time) {
        let most = self
            .networks
            .iter()
            .map(|network| network.interface.cost)
            .max();
        if let (Some(index), Some(most)) = (self.network_in_use(), most) {
            self.networks[index].interface.cost = most + 50;
        }
        self.tell_networks(now);
    }

    /// The network in use is gone.
    pub(crate) fn unplug(&mut self, now: Time) {
        if let Some(index) = self.network_in_use() {
            self.networks[index].is_there = false;
        }
        self.tell_networks(now);
    }

    /// A network that was not there is.
    pub(crate) fn plug(&mut self, now: Time) {
        if let Some(missing) = self.networks.iter_mut().find(|network| !network.is_there) {
            missing.is_there = true;
        }
        self.tell_networks(now);
    }

    fn tell_networks(&mut self, now: Time) {
        let there = self.networks.iter().filter(|network| network.is_there);
        let interfaces: Vec<_> = there.map(|network| network.interface.clone()).collect();
        let _ = self.engine.handle(now, Input::Interfaces(&interfaces));
    }

    fn offered(&self, mut parameters: Parameters) -> Parameters {
        // One nomination stands, as RFC 8445 has it.
        if !self.renomination {
            parameters.options.retain(|option| option != "renomination");
        }
        if !self.answers {
            parameters.answers = None;
        }
        parameters
    }
}

impl Hash for Side {
    fn hash<H: Hasher>(&self, hasher: &mut H) {
        // All fields of all that an engine holds. Two engines that draw their next random numbers from another place of
        // the stream are alike: what is drawn are names, and moments of consent.
        format!("{:?}{:?}{:?}", self.engine, self.letters, self.values).hash(hasher);
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

/// Of a side's network, counted from 1.
fn address(side: usize, network: u8) -> IpAddr {
    match side {
        0 => IpAddr::from([192, 0, 2, network]),
        _ => IpAddr::from([198, 51, 100, network]),
    }
}

fn ends_of(pair: &SelectedPair) -> Option<Ends> {
    Some((pair.local.ip_address()?, pair.remote.ip_address()?))
}
