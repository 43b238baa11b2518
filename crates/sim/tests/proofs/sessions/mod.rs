//! Sessions of several data streams and components: what they share, and what each has of its own.

mod changes;
mod checklists;
mod paths;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use nilas_ice::{
    AgentConfig, Candidate, CandidateType, ChecklistState, Foundation, Parameters, Role, State,
    priority,
};
use nilas_sim::{Agent, Link, Nat, NodeId, Realm, Session, Signaling, World};
use nilas_stun::Class;

use crate::common::{MINUTE, address, ip, message, ms, sent_by, with_stun};

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
