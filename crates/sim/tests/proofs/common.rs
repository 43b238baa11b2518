//! What the proofs share: two peers in a world, and a reading of the trace.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use nilas_ice::{
    AgentConfig, CandidatePairStats, CandidateType, Event, GatheringState, Parameters, Role,
    SelectedPair, State, Stats, StunServer, Time, priority,
};
use nilas_sim::{Agent, Link, NodeId, Realm, Signal, Signaling, TracedPacket, Wire, World};
use nilas_stun::{Class, Key, Message, MessageBuilder, Method, TransactionId};

pub(crate) const MINUTE: Duration = Duration::from_secs(60);

pub(crate) fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

pub(crate) fn ip(text: &str) -> IpAddr {
    text.parse().expect("an IP address")
}

pub(crate) fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address and a port")
}

/// A link that takes a quarter of a round trip in each direction: two of them make the round trip.
pub(crate) fn quarter(round_trip: Duration) -> Link {
    Link::new(round_trip / 4)
}

/// Two peers on the Internet, one address each.
pub(crate) struct Peers {
    pub(crate) world: World,
    pub(crate) a: Agent,
    pub(crate) b: Agent,
}

/// How the peers are to be; see the fields' defaults.
pub(crate) struct Setup {
    pub(crate) seed: u64,
    pub(crate) round_trip: Duration,
    /// Of each datagram, in each direction.
    pub(crate) loss: f64,
    pub(crate) roles: [Role; 2],
    /// Addresses of each peer.
    pub(crate) addresses: u8,
    pub(crate) max_pairs: u16,
}

impl Default for Setup {
    fn default() -> Self {
        Self {
            seed: 1,
            round_trip: ms(50),
            loss: 0.0,
            roles: [Role::Controlling, Role::Controlled],
            addresses: 1,
            max_pairs: 100,
        }
    }
}

impl Setup {
    /// Both peers, before anything was gathered or signalled.
    pub(crate) fn peers(&self) -> Peers {
        let mut world = World::new(self.seed);
        // Loss on one of the two wires of each way only, so that it is what was asked for.
        let up = lossy(Wire::new(self.round_trip / 4), self.loss);
        let link = Link::asymmetric(up, Wire::new(self.round_trip / 4));
        let [a, b] = [0, 1].map(|peer: u8| {
            let addresses: Vec<_> = (1..=self.addresses)
                .map(|n| IpAddr::from([192, 0, 2 + peer, n]))
                .collect();
            let host = world.add_host(Realm::INTERNET, &addresses, link);
            let mut config = AgentConfig::new(self.roles[usize::from(peer)]);
            config.max_pairs = self.max_pairs;
            // The bare protocol; what an agent does of its own accord has proofs of its own.
            config.restarts_alone = false;
            world.add_agent(host, config).expect("room for an agent")
        });
        Peers { world, a, b }
    }

    /// Both peers, with gathering begun and signaling that takes no time: they know each other now.
    pub(crate) fn introduced(&self) -> Peers {
        let mut peers = self.peers();
        peers.introduce(Signaling::all_at_once(Duration::ZERO));
        peers
    }

    /// Both peers, connected.
    pub(crate) fn connected(&self) -> Peers {
        let mut peers = self.introduced();
        assert!(
            peers.run_until_up(MINUTE).is_some(),
            "{}",
            peers.world.trace()
        );
        peers
    }

    /// Both peers, connected and at rest: nominated, and nothing more to be expected.
    pub(crate) fn completed(&self) -> Peers {
        let mut peers = self.connected();
        let Peers { world, a, b } = &mut peers;
        let (a, b) = (*a, *b);
        let done = world.run_until(MINUTE, |world| {
            [a, b]
                .iter()
                .all(|agent| world.state(*agent) == State::Completed)
        });
        assert!(done.is_some(), "{:#?}", [world.events(a), world.events(b)]);
        peers
    }
}

pub(crate) fn lossy(mut wire: Wire, loss: f64) -> Wire {
    wire.loss = loss;
    wire
}

impl Peers {
    /// An agent on each of these hosts, which are told of each other as they gather. What the one says reaches the other so
    /// much later.
    pub(crate) fn meet(
        mut world: World,
        hosts: [NodeId; 2],
        configs: [AgentConfig; 2],
        delay: Duration,
    ) -> Self {
        let mut configs = configs.into_iter();
        let [a, b] = hosts.map(|host| {
            let config = configs.next().expect("one for each");
            world.add_agent(host, config).expect("room for an agent")
        });
        let mut peers = Self { world, a, b };
        peers.introduce(Signaling::trickled(delay));
        peers
    }

    pub(crate) fn introduce(&mut self, signaling: Signaling) {
        self.world.gather(self.a).expect("a is open");
        self.world.gather(self.b).expect("b is open");
        self.world
            .signal_between(self.a, self.b, signaling)
            .expect("both are open");
    }

    /// Begins to gather, and waits until all that needs no server is known.
    pub(crate) fn gather(&mut self) {
        self.world.gather(self.a).expect("a is open");
        self.world.gather(self.b).expect("b is open");
        self.world.run_for(ms(1));
    }

    /// What an agent has to tell its peer, so far and in its order.
    pub(crate) fn told(&mut self, agent: Agent) -> Vec<Signal> {
        let parameters = Signal::Parameters(self.parameters(agent));
        let events = self
            .world
            .events(agent)
            .iter()
            .filter_map(|(_, event)| match event {
                Event::Candidate(candidate) => Some(Signal::Candidate(candidate.clone())),
                Event::GatheringStateChange(GatheringState::Complete) => {
                    Some(Signal::EndOfCandidates)
                }
                _ => None,
            });
        std::iter::once(parameters).chain(events).collect()
    }

    /// Tells an agent all that the other has to tell, at once.
    pub(crate) fn tell(&mut self, to: Agent) {
        let from = if to == self.a { self.b } else { self.a };
        for signal in self.told(from) {
            let what = format!("{signal:?}");
            self.world
                .deliver(to, signal)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
        }
    }

    pub(crate) fn both(&self) -> [Agent; 2] {
        [self.a, self.b]
    }

    pub(crate) fn run_until_up(&mut self, limit: Duration) -> Option<Time> {
        let (a, b) = (self.a, self.b);
        self.world
            .run_until(limit, |world| world.is_up(a) && world.is_up(b))
    }

    pub(crate) fn role(&mut self, agent: Agent) -> Role {
        self.world
            .with_agent(agent, |agent, _| agent.role())
            .expect("it is open")
    }

    pub(crate) fn parameters(&mut self, agent: Agent) -> Parameters {
        self.world
            .with_agent(agent, |agent, _| agent.local_parameters())
            .expect("it is open")
    }

    pub(crate) fn stats(&mut self, agent: Agent) -> Vec<Stats> {
        self.world
            .with_agent(agent, |agent, now| agent.stats(now))
            .expect("it is open")
    }

    pub(crate) fn pair_stats(&mut self, agent: Agent) -> Vec<CandidatePairStats> {
        let pairs = self
            .stats(agent)
            .into_iter()
            .filter_map(|stats| match stats {
                Stats::CandidatePair(pair) => Some(pair),
                _ => None,
            });
        pairs.collect()
    }

    /// Both selected the same pair, seen from two ends, and data goes both ways on it.
    pub(crate) fn assert_mirrored_and_working(&mut self) {
        let (a, b) = (self.a, self.b);
        let at_a = self
            .world
            .selected_pair(a)
            .expect("a selected a pair")
            .clone();
        let at_b = self
            .world
            .selected_pair(b)
            .expect("b selected a pair")
            .clone();
        assert_eq!(ends(&at_a), {
            let (local, remote) = ends(&at_b);
            (remote, local)
        });
        self.assert_data_both_ways();
    }

    pub(crate) fn assert_data_both_ways(&mut self) {
        for (from, to) in [(self.a, self.b), (self.b, self.a)] {
            let before = self.world.received(to).len();
            let payload = [
                b"data at ",
                self.world.now().as_nanos().to_be_bytes().as_slice(),
            ]
            .concat();
            // Loss may take some of them.
            for _ in 0..100 {
                self.world.send(from, &payload).expect("a path");
                self.world.run_for(ms(10));
            }
            // Nothing stays under way that a later count would take for its own.
            self.world.run_for(ms(5_000));
            let received = &self.world.received(to)[before..];
            assert!(
                received.iter().any(|(_, data)| *data == payload),
                "no data from {from:?} to {to:?}"
            );
        }
    }
}

/// The addresses of a pair, local first.
pub(crate) fn ends(pair: &SelectedPair) -> (Option<SocketAddr>, Option<SocketAddr>) {
    (pair.local.ip_address(), pair.remote.ip_address())
}

/// When an agent first selected a pair.
pub(crate) fn first_selected(world: &World, agent: Agent) -> Option<Time> {
    let mut events = world.events(agent).iter();
    events
        .find(|(_, event)| matches!(event, Event::SelectedPairChange(_)))
        .map(|(at, _)| *at)
}

/// The states that an agent told, in their order.
pub(crate) fn states(world: &World, agent: Agent) -> Vec<State> {
    let states = world
        .events(agent)
        .iter()
        .filter_map(|(_, event)| match event {
            Event::StateChange { state, .. } => Some(*state),
            _ => None,
        });
    states.collect()
}

/// The datagrams that a node sent, without the copies that wires made.
pub(crate) fn sent_by(world: &World, node: NodeId) -> impl Iterator<Item = &TracedPacket> {
    let packets = world.trace().packets().iter();
    packets.filter(move |packet| packet.sender == node && packet.copy_of.is_none())
}

/// A datagram as a STUN message of this class.
pub(crate) fn message(packet: &TracedPacket, class: Class) -> Option<Message<'_>> {
    Message::parse(&packet.payload)
        .ok()
        .filter(|message| message.class() == class)
}

/// The first transmissions of a node's requests: when, from where, to where.
pub(crate) fn transactions(world: &World, node: NodeId) -> Vec<(Time, SocketAddr, SocketAddr)> {
    let mut known = std::collections::BTreeSet::new();
    let requests = sent_by(world, node).filter_map(|packet| {
        let message = message(packet, Class::Request)?;
        known.insert(message.transaction_id()).then_some((
            packet.sent,
            packet.source,
            packet.destination,
        ))
    });
    requests.collect()
}

/// The spaces between consecutive times.
pub(crate) fn gaps(times: impl IntoIterator<Item = Time>) -> Vec<Duration> {
    let times: Vec<_> = times.into_iter().collect();
    times
        .windows(2)
        .map(|pair| pair[1].since(pair[0]))
        .collect()
}

/// A connectivity check as an agent with these credentials would send it.
pub(crate) struct Check<'a> {
    pub(crate) to_ufrag: &'a str,
    pub(crate) to_pwd: &'a str,
    pub(crate) from_ufrag: &'a str,
    pub(crate) id: u8,
    pub(crate) controlling: Option<u64>,
    pub(crate) controlled: Option<u64>,
    pub(crate) nominate: bool,
    /// Of the peer that asks.
    pub(crate) component: u16,
}

impl Check<'_> {
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let mut buffer = vec![0; 256];
        let id = TransactionId::new([self.id; 12]);
        let mut builder =
            MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
        builder
            .username_pair(self.to_ufrag, self.from_ufrag)
            .expect("room");
        let priority = priority(CandidateType::Prflx, 255, self.component);
        builder.priority(priority).expect("room");
        if let Some(tie_breaker) = self.controlling {
            builder.ice_controlling(tie_breaker).expect("room");
        }
        if let Some(tie_breaker) = self.controlled {
            builder.ice_controlled(tie_breaker).expect("room");
        }
        if self.nominate {
            builder.use_candidate().expect("room");
        }
        builder
            .message_integrity(&Key::short_term(self.to_pwd).expect("ice-chars"))
            .expect("room");
        builder.fingerprint().expect("room");
        let length = builder.finish();
        buffer.truncate(length);
        buffer
    }
}

/// An agent's configuration with a STUN server.
pub(crate) fn with_stun(role: Role, server: SocketAddr) -> AgentConfig {
    let mut config = AgentConfig::new(role);
    config.stun_servers.push(StunServer::from(server));
    config
}
