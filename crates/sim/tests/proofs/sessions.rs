//! Sessions of several data streams and components: what they share, and what each has of its own.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentError, Candidate, CandidateType, ChecklistState, EngineConfig, Event,
    Foundation, Parameters, RecordingOptions, Role, SessionDescription, SessionEvent, State,
    priority, replay,
};
use nilas_sim::{Agent, Link, Nat, NodeId, Realm, Session, Signal, Signaling, World};
use nilas_stun::Class;
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

use crate::common::{
    Check, MINUTE, address, ends, gaps, ip, message, ms, sent_by, states, transactions, with_stun,
};

/// Two peers, each with a session of as many streams as there are numbers, of so many components.
struct Pair {
    world: World,
    a: Session,
    b: Session,
}

impl Pair {
    /// Behind a NAT each, with a STUN server outside.
    fn behind_nats(seed: u64, roles: [Role; 2], components: &[u16]) -> Self {
        let mut world = World::new(seed);

        let [a, b] = Self::fill(&mut world, roles, components);
        Self { world, a, b }
    }

    fn fill(world: &mut World, roles: [Role; 2], components: &[u16]) -> [Session; 2] {
        Self::fill_homes(world, roles, components).map(|(side, _)| side)
    }

    /// The same, and the network that each is in.
    fn fill_homes(
        world: &mut World,
        roles: [Role; 2],
        components: &[u16],
    ) -> [(Session, Realm); 2] {
        let server = address("198.51.100.1:3478");
        let link = Link::new(ms(10));
        world.add_stun_server(Realm::INTERNET, server, link);
        [1, 2].map(|n: u8| {
            let outside = ip(&format!("203.0.113.{n}"));
            let (_, home) = world.add_nat(Realm::INTERNET, outside, link, Nat::default());
            let host = world.add_host(home, &[ip(&format!("192.168.{n}.2"))], Link::default());
            let side = session(
                world,
                host,
                with_stun(roles[usize::from(n) - 1], server),
                components,
            );
            (side, home)
        })
    }

    /// On the Internet, without a server.
    fn open(seed: u64, roles: [Role; 2], components: &[u16]) -> Self {
        let mut world = World::new(seed);
        let [a, b] = [1, 2].map(|n: u8| {
            let host = world.add_host(
                Realm::INTERNET,
                &[ip(&format!("192.0.2.{n}"))],
                Link::new(ms(10)),
            );
            session(
                &mut world,
                host,
                AgentConfig::new(roles[usize::from(n) - 1]),
                components,
            )
        });
        Self { world, a, b }
    }

    fn introduce(&mut self, signaling: Signaling) {
        for side in [self.a, self.b] {
            gather(&mut self.world, side);
        }
        self.world
            .signal_between_sessions(self.a, self.b, signaling)
            .expect("both are open");
    }

    /// All components of both, pair by pair.
    fn components(&mut self) -> Vec<[Agent; 2]> {
        let (a, b) = (self.world.components(self.a), self.world.components(self.b));
        a.into_iter().zip(b).map(|(a, b)| [a, b]).collect()
    }

    fn run_until_completed(&mut self) {
        let agents = self.components().concat();
        let done = self.world.run_until(MINUTE, |world| {
            let state = |agent: &Agent| world.state(*agent);
            agents
                .iter()
                .map(state)
                .all(|state| state == State::Completed)
        });
        let told = [self.a, self.b].map(|side| self.world.session_events(side));
        assert!(done.is_some(), "{told:#?}\n{}", self.world.trace());
    }

    /// Data goes both ways between the components that belong together, and reaches no other.
    fn assert_each_has_its_own_path(&mut self) {
        let pairs = self.components();
        let before: BTreeMap<_, _> = pairs
            .concat()
            .into_iter()
            .map(|agent| (agent, self.world.received(agent).len()))
            .collect();
        for (number, [a, b]) in pairs.iter().enumerate() {
            for (from, end) in [(a, 0), (b, 1)] {
                let payload = [b'#', number as u8, end];
                self.world.send(*from, &payload).expect("a path");
            }
        }
        self.world.run_for(ms(500));
        for (number, [a, b]) in pairs.iter().enumerate() {
            for (to, end) in [(b, 0), (a, 1)] {
                let received = self.world.received(*to)[before[to]..].iter();
                let data: Vec<_> = received.map(|(_, data)| data.clone()).collect();
                assert_eq!(data, [vec![b'#', number as u8, end]], "component {number}");
            }
        }
    }

    fn roles(&mut self, side: Session) -> BTreeSet<&'static str> {
        let agents = self.world.components(side);
        let role = |agent: Agent| {
            let role = self.world.with_agent(agent, |agent, _| agent.role());
            match role.expect("open") {
                Role::Controlling => "controlling",
                Role::Controlled => "controlled",
            }
        };
        agents.into_iter().map(role).collect()
    }
}

fn session(world: &mut World, host: NodeId, config: AgentConfig, components: &[u16]) -> Session {
    let (first, more) = components.split_first().expect("a stream");
    let session = world
        .add_session(host, config.clone(), *first)
        .expect("room");
    for count in more {
        let added = world.with_session(session, |session, now| {
            session.add_stream(now, config.clone(), *count)
        });
        added.expect("open").expect("room");
    }
    session
}

fn gather(world: &mut World, side: Session) {
    world
        .with_session(side, |session, now| session.gather(now))
        .expect("open");
}

fn local_parameters(world: &mut World, side: Session, stream: usize) -> Parameters {
    let parameters = world.with_session(side, |session, _| session.local_parameters(stream));
    parameters.expect("open").expect("a stream")
}

fn checklist_state(world: &mut World, side: Session, stream: usize) -> ChecklistState {
    let state = world.with_session(side, |session, _| session.checklist_state(stream));
    state.expect("open").expect("a stream")
}

/// The tie-breakers that a node's checks have carried.
fn tie_breakers(world: &World, node: NodeId) -> BTreeSet<u64> {
    let of = |packet| {
        let message = message(packet, Class::Request)?;
        let controlling = message.ice_controlling().ok().flatten();
        controlling.or_else(|| message.ice_controlled().ok().flatten())
    };
    sent_by(world, node).filter_map(of).collect()
}

/// A host candidate at an address where nobody is.
fn nowhere(n: u8, component: u16, foundation: u32) -> Candidate {
    let mut candidate = Candidate::new(
        CandidateType::Host,
        SocketAddr::new(ip(&format!("192.0.2.{n}")), 1_000 + component),
        priority(CandidateType::Host, 65_535 - u16::from(n), component),
        Foundation::from_number(foundation),
    );
    candidate.component = component;
    candidate
}

const USUAL: [Role; 2] = [Role::Controlling, Role::Controlled];

#[test]
fn two_streams_of_two_components_connect_across_nats_in_both_roles() {
    for (seed, roles) in (0..10).flat_map(|seed| [(seed, USUAL), (seed, [USUAL[1], USUAL[0]])]) {
        for signaling in [Signaling::all_at_once(ms(0)), Signaling::trickled(ms(20))] {
            let mut pair = Pair::behind_nats(seed, roles, &[2, 2]);
            pair.introduce(signaling);
            pair.run_until_completed();
            pair.assert_each_has_its_own_path();
            for [a, b] in pair.components() {
                let ends_at = |agent| ends(pair.world.selected_pair(agent).expect("a pair"));
                let ((local, remote), mirrored) = (ends_at(a), ends_at(b));
                assert_eq!((remote, local), mirrored, "seed {seed}");
            }
            for side in [pair.a, pair.b] {
                assert_eq!(pair.roles(side).len(), 1, "seed {seed}");
                // RFC 8445 section 6.1.1: one tie-breaker for the session.
                assert_eq!(tie_breakers(&pair.world, side.node).len(), 1, "seed {seed}");
                let state = pair
                    .world
                    .with_session(side, |session, _| (session.ice_state(), session.state()));
                let completed = (ChecklistState::Completed, State::Completed);
                assert_eq!(state, Ok(completed), "seed {seed}");
                let told = pair.world.session_events(side);
                let last = told.last().map(|(_, event)| *event);
                assert_eq!(last, Some(SessionEvent::StateChange(State::Completed)));
                for stream in [0, 1] {
                    let state = ChecklistState::Completed;
                    let event = SessionEvent::ChecklistStateChange { stream, state };
                    let times = told.iter().filter(|(_, told)| *told == event).count();
                    assert_eq!(times, 1, "seed {seed}, {told:?}");
                }
            }
        }
    }
}

#[test]
fn what_a_component_tells_names_it_and_the_credentials_are_the_streams() {
    let mut pair = Pair::behind_nats(1, USUAL, &[2, 1]);
    gather(&mut pair.world, pair.a);
    pair.world.run_for(ms(500));
    let agents = pair.world.components(pair.a);
    let mut told = Vec::new();
    for agent in agents {
        let candidates = pair.world.events(agent).iter().filter_map(|(_, event)| {
            let Event::Candidate(candidate) = event else {
                return None;
            };
            Some(candidate.clone())
        });
        told.push(candidates.collect::<Vec<_>>());
    }
    let [rtp, rtcp, other] = &told[..] else {
        panic!("{told:?}");
    };
    for (candidates, component) in [(rtp, 1), (rtcp, 2), (other, 1)] {
        assert_eq!(
            candidates.len(),
            2,
            "host and server-reflexive: {candidates:?}"
        );
        for (candidate, like) in candidates.iter().zip(rtp) {
            assert_eq!(candidate.component, component);
            // RFC 8445 section 5.1.2.1: 256 minus the component id.
            assert_eq!(candidate.priority & 0xff, 256 - u32::from(component));
            // Section 5.1.1.3: the foundation is that of all components.
            assert_eq!(candidate.foundation, like.foundation);
        }
    }
    assert_ne!(rtp[0].foundation, rtp[1].foundation);
    assert_eq!(rtp[0].ufrag, rtcp[0].ufrag);
    assert_ne!(rtp[0].ufrag, other[0].ufrag);
    assert_ne!(rtp[0].address, rtcp[0].address);
    let parameters = local_parameters(&mut pair.world, pair.a, 0);
    assert_eq!(rtcp[0].ufrag.as_deref(), Some(&*parameters.ufrag));
}

#[test]
fn new_transactions_of_all_components_keep_the_distance_of_one_agent() {
    for (wish, least) in [(5, ms(5)), (20, ms(20))] {
        let mut world = World::new(1);
        let server = address("198.51.100.1:3478");
        world.add_stun_server(Realm::INTERNET, server, Link::new(ms(10)));
        let [a, b] = [1, 2].map(|n: u8| {
            let addresses = [n, n + 100].map(|n| ip(&format!("192.0.2.{n}")));
            let host = world.add_host(Realm::INTERNET, &addresses, Link::new(ms(10)));
            let mut config = with_stun(Role::Controlling, server);
            config.pacing = ms(wish);
            session(&mut world, host, config, &[2, 2, 1])
        });
        let mut pair = Pair { world, a, b };
        pair.introduce(Signaling::trickled(ms(5)));
        pair.world.run_for(ms(3_900));
        for side in [a, b] {
            let times = transactions(&pair.world, side.node)
                .into_iter()
                .map(|(at, ..)| at);
            let gaps = gaps(times);
            assert!(gaps.len() > 20, "{gaps:?}");
            assert!(gaps.iter().all(|gap| *gap >= least), "{wish}: {gaps:?}");
        }
    }
}

#[test]
fn the_checklists_take_turns() {
    let mut pair = Pair::open(1, USUAL, &[1, 2, 1]);
    gather(&mut pair.world, pair.a);
    pair.world.run_for(ms(1));
    let mut streams = BTreeMap::new();
    for (stream, component) in [(0, 1), (1, 1), (1, 2), (2, 1)] {
        let agent = pair.world.component(pair.a, stream, component);
        let own = pair
            .world
            .events(agent)
            .iter()
            .find_map(|(_, event)| match event {
                Event::Candidate(candidate) => candidate.ip_address(),
                _ => None,
            });
        streams.insert(own.expect("a host candidate"), stream);
        let foundation = |n: u8| 10 * stream as u32 + u32::from(n);
        let mut signals: Vec<_> = (100..104)
            .map(|n| Signal::Candidate(nowhere(n, component, foundation(n))))
            .collect();
        let ufrag = format!("ufrag{stream}");
        signals.push(Signal::Parameters(Parameters {
            pacing: Some(5),
            ..Parameters::new(ufrag, "a+password+that+is+long+enough")
        }));
        for signal in signals {
            pair.world.deliver(agent, signal).expect("accepted");
        }
    }
    pair.world.run_for(ms(90));
    let order: Vec<_> = transactions(&pair.world, pair.a.node)
        .iter()
        .map(|(_, from, _)| streams[from])
        .collect();
    // Of the four foundations of each stream one pair waits (RFC 8445 section 6.1.2.6), and each checklist has its turn.
    assert_eq!(order, [0, 1, 2].repeat(4));
}

#[test]
fn the_first_success_thaws_its_foundation_for_all_components() {
    let mut pair = Pair::open(1, USUAL, &[2, 2]);
    pair.introduce(Signaling::all_at_once(ms(0)));
    let tried = |world: &World| {
        let all = transactions(world, pair.a.node);
        all.into_iter()
            .map(|(_, _, to)| to)
            .collect::<BTreeSet<_>>()
    };
    // A round trip is 40 ms.
    pair.world.run_for(ms(39));
    assert_eq!(tried(&pair.world).len(), 1, "{:?}", tried(&pair.world));
    pair.world.run_for(ms(20));
    assert_eq!(tried(&pair.world).len(), 4, "{:?}", tried(&pair.world));
}

#[test]
fn a_foundation_that_leads_nowhere_is_tried_by_one_component_until_it_fails() {
    let mut pair = Pair::open(1, USUAL, &[2, 2]);
    gather(&mut pair.world, pair.a);
    pair.world.run_for(ms(1));
    for (stream, component) in [(0, 1), (0, 2), (1, 1), (1, 2)] {
        let agent = pair.world.component(pair.a, stream, component);
        // All of one foundation.
        let candidate = nowhere(100 + stream as u8, component, 7);
        let parameters =
            Parameters::new(format!("ufrag{stream}"), "a+password+that+is+long+enough");
        for signal in [Signal::Candidate(candidate), Signal::Parameters(parameters)] {
            pair.world.deliver(agent, signal).expect("accepted");
        }
    }
    let tried = |world: &World| {
        let all = transactions(world, pair.a.node);
        all.into_iter()
            .map(|(_, _, to)| to)
            .collect::<BTreeSet<_>>()
    };
    pair.world.run_for(Duration::from_secs(39));
    assert_eq!(tried(&pair.world).len(), 1, "{:?}", tried(&pair.world));
    // Each has its turn when the one before has failed (section 6.1.4.2, step 2).
    pair.world.run_for(4 * MINUTE);
    assert_eq!(tried(&pair.world).len(), 4, "{:?}", tried(&pair.world));
    let states = pair
        .world
        .with_session(pair.a, |session, _| (session.ice_state(), session.state()));
    assert_eq!(states, Ok((ChecklistState::Failed, State::Failed)));
}

#[test]
fn one_stream_fails_while_another_connects() {
    for roles in [USUAL, [USUAL[1], USUAL[0]]] {
        let mut pair = Pair::open(1, roles, &[2, 2]);
        for side in [pair.a, pair.b] {
            gather(&mut pair.world, side);
        }
        for component in [1, 2] {
            let [a, b] = [pair.a, pair.b].map(|side| pair.world.component(side, 0, component));
            let signaling = Signaling::all_at_once(ms(0));
            pair.world.signal_between(a, b, signaling).expect("open");
        }
        // The second stream is told of a component that is nowhere, and nothing of the other.
        for (side, other) in [(pair.a, pair.b), (pair.b, pair.a)] {
            let parameters = local_parameters(&mut pair.world, other, 1);
            let told = pair.world.with_session(side, |session, now| {
                session.set_remote_parameters(now, 1, &parameters)?;
                session.add_remote_candidate(now, 1, nowhere(100, 2, 9))?;
                session.end_of_remote_candidates(now, 1)
            });
            assert_eq!(told, Ok(Ok(())));
        }
        pair.world.run_for(2 * MINUTE);
        for side in [pair.a, pair.b] {
            let state = |world: &mut World, stream| checklist_state(world, side, stream);
            assert_eq!(state(&mut pair.world, 0), ChecklistState::Completed);
            assert_eq!(state(&mut pair.world, 1), ChecklistState::Failed);
            let both = pair
                .world
                .with_session(side, |session, _| (session.ice_state(), session.state()));
            assert_eq!(both, Ok((ChecklistState::Running, State::Failed)));
            // RFC 8445 section 8.1.2: the session goes on without the stream.
            let rest = pair.world.with_session(side, |session, now| {
                session.close_stream(now, 1)?;
                assert_eq!(session.component(1, 1), None);
                assert_eq!(session.checklist_state(1), Err(AgentError::UnknownStream));
                Ok::<_, AgentError>((session.ice_state(), session.state(), session.streams()))
            });
            let expected = (ChecklistState::Completed, State::Completed, 2);
            assert_eq!(rest, Ok(Ok(expected)));
        }
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn a_restart_of_one_stream_leaves_the_other_alone() {
    for roles in [USUAL, [USUAL[1], USUAL[0]]] {
        let mut pair = Pair::behind_nats(1, roles, &[2, 2]);
        pair.introduce(Signaling::trickled(ms(20)));
        pair.run_until_completed();
        let parameters = |pair: &mut Pair| {
            [0, 1].map(|stream| {
                [pair.a, pair.b].map(|side| local_parameters(&mut pair.world, side, stream))
            })
        };
        let before = parameters(&mut pair);
        let pairs = pair.components();
        let events = |world: &World, agents: &[[Agent; 2]]| {
            let count = |agent: &Agent| world.events(*agent).len();
            agents.concat().iter().map(count).sum::<usize>()
        };
        let quiet = events(&pair.world, &pairs[2..]);
        let restarted = pair
            .world
            .with_session(pair.a, |session, now| session.restart(now, 0));
        assert_eq!(restarted, Ok(Ok(())));
        // The old pairs carry the data meanwhile (RFC 8445 section 9).
        pair.assert_each_has_its_own_path();
        pair.world.run_for(Duration::from_secs(10));
        let after = parameters(&mut pair);
        for side in [0, 1] {
            assert_ne!(after[0][side].ufrag, before[0][side].ufrag);
            assert_ne!(after[0][side].pwd, before[0][side].pwd);
            assert_eq!(after[1][side], before[1][side]);
        }
        for agent in pairs[..2].concat() {
            let told = pair
                .world
                .events(agent)
                .iter()
                .filter_map(|(_, event)| match event {
                    Event::LocalParameters(parameters) => Some(parameters),
                    _ => None,
                });
            let side = usize::from(agent.node == pair.b.node);
            assert_eq!(told.collect::<Vec<_>>(), [&after[0][side]]);
        }
        assert_eq!(
            events(&pair.world, &pairs[2..]),
            quiet,
            "the other stream told something"
        );
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn a_component_that_restarts_takes_its_stream_with_it() {
    let mut pair = Pair::behind_nats(1, USUAL, &[2, 1]);
    pair.introduce(Signaling::trickled(ms(20)));
    pair.run_until_completed();
    let before = local_parameters(&mut pair.world, pair.b, 0);
    let second = pair.world.component(pair.b, 0, 2);
    let restarted = pair
        .world
        .with_agent(second, |mut agent, now| agent.restart(now));
    restarted.expect("open");
    let after = local_parameters(&mut pair.world, pair.b, 0);
    assert_ne!(after.ufrag, before.ufrag);
    for component in [1, 2] {
        let agent = pair.world.component(pair.b, 0, component);
        let own = pair
            .world
            .with_agent(agent, |agent, _| agent.local_parameters());
        assert_eq!(own.as_ref(), Ok(&after));
    }
    pair.world.run_for(Duration::from_secs(10));
    pair.run_until_completed();
    pair.assert_each_has_its_own_path();
}

#[test]
fn both_sides_restart_at_once_and_each_stream_comes_back() {
    for seed in 0..10 {
        let mut pair = Pair::behind_nats(seed, USUAL, &[2, 2]);
        pair.introduce(Signaling::trickled(ms(20)));
        pair.run_until_completed();
        // Each by another component, so that the two sides are not told in the same order.
        for (side, component) in [(pair.a, 1), (pair.b, 2)] {
            let agent = pair.world.component(side, 0, component);
            let restarted = pair
                .world
                .with_agent(agent, |mut agent, now| agent.restart(now));
            restarted.expect("open");
        }
        pair.world.run_for(Duration::from_secs(10));
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn a_role_conflict_changes_all_components() {
    for roles in [[Role::Controlling; 2], [Role::Controlled; 2]] {
        for seed in 0..20 {
            let mut pair = Pair::behind_nats(seed, roles, &[2, 2]);
            pair.introduce(Signaling::trickled(ms(20)));
            pair.run_until_completed();
            let (a, b) = (pair.a, pair.b);
            let (of_a, of_b) = (pair.roles(a), pair.roles(b));
            assert_eq!((of_a.len(), of_b.len()), (1, 1), "{roles:?}, seed {seed}");
            assert_ne!(of_a, of_b, "{roles:?}, seed {seed}");
            // One side switched, once, and each of its components said so.
            let switches = pair.components().concat().into_iter().map(|agent| {
                let told = pair.world.events(agent).iter();
                told.filter(|(_, event)| matches!(event, Event::RoleChange(_)))
                    .count()
            });
            let switches: Vec<_> = switches.collect();
            assert_eq!(
                switches.iter().sum::<usize>(),
                4,
                "{roles:?}, seed {seed}: {switches:?}"
            );
            assert!(switches.iter().all(|times| *times <= 1), "{switches:?}");
            pair.assert_each_has_its_own_path();
        }
    }
}

#[test]
fn one_remote_address_and_one_ufrag_are_told_apart_by_the_socket() {
    let mut pair = Pair::open(1, USUAL, &[2]);
    gather(&mut pair.world, pair.a);
    pair.world.run_for(ms(1));
    let own = local_parameters(&mut pair.world, pair.a, 0);
    let stranger = pair
        .world
        .add_host(Realm::INTERNET, &[ip("192.0.2.77")], Link::new(ms(1)));
    let source = address("192.0.2.77:7");
    let agents = [1, 2].map(|component| pair.world.component(pair.a, 0, component));
    for (id, agent) in (1..).zip(agents) {
        let host = pair
            .world
            .events(agent)
            .iter()
            .find_map(|(_, event)| match event {
                Event::Candidate(candidate) => candidate.ip_address(),
                _ => None,
            });
        let host = host.expect("a host candidate");
        let check = Check {
            to_ufrag: &own.ufrag,
            to_pwd: &own.pwd,
            from_ufrag: "peer",
            id,
            controlling: None,
            controlled: Some(1),
            nominate: false,
        };
        pair.world.inject(stranger, source, host, &check.bytes());
        pair.world.run_for(ms(30));
        // The answer leaves from the socket that was asked.
        let answers = sent_by(&pair.world, pair.a.node)
            .filter(|packet| message(packet, Class::SuccessResponse).is_some())
            .map(|packet| packet.source);
        assert_eq!(answers.last(), Some(host));
    }
    let parameters = Parameters::new("peer", "a+password+that+is+long+enough");
    let told = pair.world.with_session(pair.a, |session, now| {
        session.set_remote_parameters(now, 0, &parameters)
    });
    assert_eq!(told, Ok(Ok(())));
    for agent in agents {
        let host = pair
            .world
            .events(agent)
            .iter()
            .find_map(|(_, event)| match event {
                Event::Candidate(candidate) => candidate.ip_address(),
                _ => None,
            });
        let data = format!("for {agent:?}");
        let to = host.expect("a host candidate");
        pair.world.inject(stranger, source, to, data.as_bytes());
        pair.world.run_for(ms(30));
        let received = pair
            .world
            .received(agent)
            .iter()
            .map(|(_, data)| data.clone());
        assert_eq!(received.collect::<Vec<_>>(), [data.into_bytes()]);
    }
}

#[test]
fn a_stream_goes_on_without_one_of_its_components() {
    // RTP and RTCP on one port after all (RFC 5761 section 5.1.3); and the first may go, too.
    for gone in [2, 1] {
        let mut pair = Pair::behind_nats(1, USUAL, &[2, 1]);
        for side in [pair.a, pair.b] {
            gather(&mut pair.world, side);
            let agent = pair.world.component(side, 0, gone);
            let closed = pair.world.with_agent(agent, |agent, now| agent.close(now));
            closed.expect("open");
        }
        let signaling = Signaling::trickled(ms(5));
        let (a, b) = (pair.a, pair.b);
        pair.world
            .signal_between_sessions(a, b, signaling)
            .expect("open");
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
        assert_eq!(
            checklist_state(&mut pair.world, a, 0),
            ChecklistState::Completed
        );
        let refused = pair.world.with_session(a, |session, now| {
            session.add_remote_candidate(now, 0, nowhere(100, gone, 9))
        });
        assert_eq!(refused, Ok(Err(AgentError::UnusableCandidate)));
        // Its ufrag is still called, and after a restart another one is.
        let restarted = pair
            .world
            .with_session(a, |session, now| session.restart(now, 0));
        assert_eq!(restarted, Ok(Ok(())));
        pair.world.run_for(Duration::from_secs(10));
        pair.run_until_completed();
        pair.assert_each_has_its_own_path();
    }
}

#[test]
fn a_session_ends_with_its_last_component() {
    let mut pair = Pair::open(1, USUAL, &[2, 1]);
    pair.introduce(Signaling::trickled(ms(5)));
    pair.run_until_completed();
    let (a, agents) = (pair.a, pair.world.components(pair.a));
    for agent in &agents {
        let closed = pair.world.with_agent(*agent, |agent, now| agent.close(now));
        closed.expect("open");
    }
    let gone = pair.world.with_session(a, |_, _| ());
    assert_eq!(gone, Err(AgentError::UnknownSession));
    let told = pair.world.session_events(a);
    let last = told.last().map(|(_, event)| *event);
    assert_eq!(last, Some(SessionEvent::StateChange(State::Closed)));
    assert!(states(&pair.world, agents[0]).contains(&State::Closed));
}

#[test]
fn an_offer_and_an_answer_connect_two_sections_with_rtp_and_rtcp() {
    const SECTIONS: &str = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\n\
        m=audio 9 RTP/AVP 0\r\nc=IN IP4 0.0.0.0\r\na=mid:a\r\n\
        m=video 9 RTP/AVP 96\r\nc=IN IP4 0.0.0.0\r\na=mid:v\r\n";
    let describe = |world: &mut World, side: Session| {
        let mut text = SessionDescription::parse(SECTIONS).expect("a description");
        for section in 0..2 {
            let own = world.with_session(side, |session, _| session.description(section));
            let own = own.expect("open").expect("a stream");
            text.set_ice(section, &own).expect("it can be written");
        }
        text.to_string()
    };
    let take = |world: &mut World, side: Session, text: &str| {
        let description = SessionDescription::parse(text).expect("what the other has written");
        for (stream, section) in description.sections().enumerate() {
            let taken = world.with_session(side, |session, now| {
                session.set_remote_description(now, stream, &section.ice())
            });
            assert_eq!(taken, Ok(Ok(())));
        }
    };
    let mut pair = Pair::behind_nats(1, USUAL, &[2, 2]);
    for side in [pair.a, pair.b] {
        gather(&mut pair.world, side);
    }
    pair.world.run_for(ms(500));
    let offer = describe(&mut pair.world, pair.a);
    // Host and server-reflexive candidates of both components, in both sections.
    assert_eq!(offer.matches("a=candidate:").count(), 8, "{offer}");
    assert_eq!(offer.matches("a=rtcp:").count(), 2, "{offer}");
    assert_eq!(offer.matches("a=end-of-candidates").count(), 2, "{offer}");
    let lines = |component: &str| {
        let lines = offer
            .lines()
            .filter(|line| line.starts_with("a=candidate:"));
        lines
            .filter(|line| line.split(' ').nth(1) == Some(component))
            .count()
    };
    assert_eq!((lines("1"), lines("2")), (4, 4), "{offer}");
    take(&mut pair.world, pair.b, &offer);
    let answer = describe(&mut pair.world, pair.b);
    take(&mut pair.world, pair.a, &answer);
    pair.run_until_completed();
    pair.assert_each_has_its_own_path();
    // A section that does not offer ICE is told as such.
    let bare = SessionDescription::parse(SECTIONS).expect("a description");
    let section = bare.section(0).expect("a section").ice();
    let refused = pair.world.with_session(pair.a, |session, now| {
        session.set_remote_description(now, 0, &section)
    });
    assert_eq!(refused, Ok(Err(AgentError::NoIce)));
}

#[test]
fn the_bound_of_pairs_is_for_all_checklists_together() {
    let mut world = World::new(1);
    let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::new(ms(10)));
    let mut config = AgentConfig::new(Role::Controlling);
    config.max_pairs = 12;
    let side = session(&mut world, host, config, &[2, 1, 1]);
    gather(&mut world, side);
    world.run_for(ms(1));
    for (stream, component) in [(0, 1), (0, 2), (1, 1), (2, 1)] {
        let agent = world.component(side, stream, component);
        let parameters =
            Parameters::new(format!("ufrag{stream}"), "a+password+that+is+long+enough");
        let signal = Signal::Parameters(parameters);
        world.deliver(agent, signal).expect("accepted");
        for n in 100..120 {
            let candidate = nowhere(n, component, n.into());
            world
                .deliver(agent, Signal::Candidate(candidate))
                .expect("accepted");
        }
    }
    let agents = world.components(side);
    let pairs = agents.into_iter().map(|agent| {
        let stats = world.with_agent(agent, |agent, now| agent.stats(now));
        let stats = stats.expect("open");
        let is_pair =
            |stats: &&nilas_ice::Stats| matches!(stats, nilas_ice::Stats::CandidatePair(_));
        stats.iter().filter(is_pair).count()
    });
    assert_eq!(pairs.collect::<Vec<_>>(), [3, 3, 3, 3]);
}

#[test]
fn a_session_is_bounded_and_what_does_not_fit_changes_nothing() {
    let mut world = World::new(1);
    let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::new(ms(10)));
    let config = AgentConfig::new(Role::Controlling);
    for components in [0, 5] {
        let refused = world.add_session(host, config.clone(), components);
        assert_eq!(refused, Err(AgentError::SessionTooLarge));
    }
    let side = session(&mut world, host, config.clone(), &[1; 16]);
    let refused = world.with_session(side, |session, now| {
        let added = session.add_stream(now, config.clone(), 1);
        (added, session.streams(), session.restart(now, 16))
    });
    let unknown = Err(AgentError::UnknownStream);
    let expected = (Err(AgentError::SessionTooLarge), 16, unknown);
    assert_eq!(refused, Ok(expected));
    // The same credentials twice.
    let mut given = config;
    given.credentials = Some(Parameters::new("given", "a+password+that+is+long+enough"));
    let first = world.add_session(host, given.clone(), 2).expect("room");
    let again = world.add_session(host, given.clone(), 2);
    assert_eq!(again, Err(AgentError::UfragInUse));
    world
        .with_session(first, |_, _| ())
        .expect("it is still there");
    let mut few = World::new(1);
    let host = few.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::new(ms(10)));
    let mut engine = EngineConfig::default();
    engine.max_agents = 3;
    few.configure_engine(host, engine);
    let side = few.add_session(host, given.clone(), 2).expect("room");
    let refused = few.with_session(side, |session, now| session.add_stream(now, given, 2));
    assert_eq!(refused, Ok(Err(AgentError::TooManyAgents)));
}

#[test]
fn a_shared_port_is_for_the_first_component_of_each_stream() {
    let mut pair = Pair::open(1, USUAL, &[1]);
    let mut world = World::new(1);
    let [a, b] = [1, 2].map(|n: u8| {
        let host = world.add_host(
            Realm::INTERNET,
            &[ip(&format!("192.0.2.{n}"))],
            Link::new(ms(10)),
        );
        let mut engine = EngineConfig::default();
        engine.shared_port = Some(5_000);
        world.configure_engine(host, engine);
        session(
            &mut world,
            host,
            AgentConfig::new(Role::Controlling),
            &[2, 2],
        )
    });
    (pair.world, pair.a, pair.b) = (world, a, b);
    pair.introduce(Signaling::trickled(ms(5)));
    pair.run_until_completed();
    pair.assert_each_has_its_own_path();
}

#[test]
fn the_host_of_a_lite_session_completes_each_component() {
    let mut world = World::new(1);
    let [a, b] = [1, 2].map(|n: u8| {
        let host = world.add_host(
            Realm::INTERNET,
            &[ip(&format!("192.0.2.{n}"))],
            Link::new(ms(10)),
        );
        let mut config = AgentConfig::new(Role::Controlled);
        if n == 2 {
            config.mode = nilas_ice::Mode::Lite;
        }
        session(&mut world, host, config, &[2, 1])
    });
    let mut pair = Pair { world, a, b };
    pair.introduce(Signaling::trickled(ms(5)));
    pair.run_until_completed();
    // RFC 8445 section 6.1.1: the full one controls, with all of its components.
    assert_eq!(pair.roles(a), BTreeSet::from(["controlling"]));
    assert_eq!(pair.roles(b), BTreeSet::from(["controlled"]));
    pair.assert_each_has_its_own_path();
}

#[test]
fn a_recorded_session_plays_back_to_equality_and_holds_no_password() {
    for seed in 0..5 {
        let mut world = World::new(seed);
        world.record_hosts(RecordingOptions::default());
        let [a, b] = Pair::fill(&mut world, [Role::Controlling; 2], &[2, 2]);
        let mut pair = Pair { world, a, b };
        pair.introduce(Signaling::trickled(ms(20)));
        pair.run_until_completed();
        let mut secrets = Vec::new();
        let mut note = |world: &mut World| {
            for (side, stream) in [(a, 0), (a, 1), (b, 0), (b, 1)] {
                secrets.push(local_parameters(world, side, stream).pwd);
            }
        };
        note(&mut pair.world);
        for agent in [pair.world.component(a, 1, 2), pair.world.component(b, 0, 1)] {
            let restarted = pair
                .world
                .with_agent(agent, |mut agent, now| agent.restart(now));
            restarted.expect("open");
            pair.world.run_for(Duration::from_secs(5));
        }
        note(&mut pair.world);
        let refused = pair.world.with_session(a, |session, now| {
            session.add_stream(now, AgentConfig::new(Role::Controlled), 9)
        });
        assert_eq!(refused, Ok(Err(AgentError::SessionTooLarge)));
        let closed = pair
            .world
            .with_session(a, |session, now| session.close_stream(now, 0));
        assert_eq!(closed, Ok(Ok(())));
        pair.world.run_for(MINUTE);
        for side in [a, b] {
            let recording = pair.world.end_recording(side.node);
            let played = replay(&recording).expect("a recording");
            assert_eq!(played.difference, None, "seed {seed}");
            assert!(played.calls > 100, "seed {seed}: {} calls", played.calls);
            for secret in &secrets {
                let secret = secret.as_bytes();
                let found = recording.windows(secret.len()).any(|part| part == secret);
                assert!(!found, "seed {seed}");
            }
        }
    }
}

#[test]
fn whatever_happens_the_components_stay_of_one_mind() {
    for seed in 0..15 {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut below = move |end: u32| random.next_u32() % end;
        let roles = [below(2), below(2)].map(|n| USUAL[n as usize]);
        let components: Vec<u16> = (0..=below(3)).map(|_| 1 + below(3) as u16).collect();
        let mut world = World::new(seed);
        world.record_hosts(RecordingOptions::default());
        let homes = Pair::fill_homes(&mut world, roles, &components);
        let [a, b] = homes.map(|(side, _)| side);
        let mut pair = Pair { world, a, b };
        let loss = f64::from(below(6)) / 100.0;
        for side in [a, b] {
            pair.world
                .set_link(side.node, Link::new(ms(2)).with_loss(loss));
        }
        pair.introduce(Signaling::trickled(ms(u64::from(below(100)))));
        for _ in 0..12 {
            pair.world.run_for(ms(u64::from(below(3_000))));
            let (side, home) = homes[below(2) as usize];
            let agents = pair.world.components(side);
            let agent = agents[below(agents.len() as u32) as usize];
            match below(4) {
                0 => {
                    let told = pair
                        .world
                        .with_agent(agent, |mut agent, now| agent.restart(now));
                    told.expect("open");
                }
                1 => {
                    // Each network has nobody else in it.
                    let addresses = [ip(&format!("192.168.9.{}", 1 + below(200)))];
                    let link = Link::new(ms(2)).with_loss(loss);
                    let moved = pair
                        .world
                        .move_interface(side.node, 0, home, &addresses, link);
                    moved.expect("an address that is free");
                }
                2 => {
                    let stream = below(components.len() as u32) as usize;
                    let told = pair
                        .world
                        .with_session(side, |session, now| session.restart(now, stream));
                    assert_eq!(told, Ok(Ok(())), "seed {seed}");
                }
                _ => {}
            }
            for side in [a, b] {
                assert_eq!(pair.roles(side).len(), 1, "seed {seed}");
                for (stream, count) in components.iter().enumerate() {
                    let own = local_parameters(&mut pair.world, side, stream);
                    for component in 1..=*count {
                        let agent = pair.world.component(side, stream, component);
                        let told = pair
                            .world
                            .with_agent(agent, |agent, _| agent.local_parameters());
                        assert_eq!(told.as_ref(), Ok(&own), "seed {seed}");
                    }
                }
            }
        }
        for side in [a, b] {
            pair.world.set_link(side.node, Link::new(ms(2)));
        }
        pair.world.run_for(2 * MINUTE);
        let mut unsettled = pair.components().concat();
        unsettled.retain(|agent| pair.world.state(*agent) != State::Completed);
        assert_eq!(unsettled, [], "seed {seed}");
        pair.assert_each_has_its_own_path();
        for side in [a, b] {
            let recording = pair.world.end_recording(side.node);
            let played = replay(&recording).expect("a recording");
            assert_eq!(played.difference, None, "seed {seed}");
        }
    }
}
