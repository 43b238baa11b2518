//! Which path carries the data while several do, in virtual time.

use std::net::IpAddr;
use std::time::Duration;

use nilas_ice::selection::{Choice, Contender, SelectionReason, Situation};
use nilas_ice::{AgentConfig, Event, GatheringState, RestartReason, Role, Time};
use nilas_sim::{Agent, Link, Realm, Signal, Signaling, World};

use crate::common::{MINUTE, ip, ms, states};

const ROLES: [Role; 2] = [Role::Controlling, Role::Controlled];
const SLOW: u64 = 60;

/// A phone with two interfaces, and a peer with one.
struct Scene {
    world: World,
    phone: Agent,
    peer: Agent,
}

impl Scene {
    fn new(seed: u64, configs: [AgentConfig; 2], costs: [u16; 2]) -> Self {
        let mut world = World::new(seed);
        let phone = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::new(ms(5)));
        world.add_interface(phone, Realm::INTERNET, &[ip("192.0.3.1")], Link::new(ms(5)));
        for (number, cost) in costs.into_iter().enumerate() {
            world.set_interface_cost(phone, number, cost);
        }
        let peer = world.add_host(Realm::INTERNET, &[ip("192.0.4.1")], Link::new(ms(20)));
        let [phone, peer] = [phone, peer]
            .into_iter()
            .zip(configs)
            .map(|(node, config)| world.add_agent(node, config).expect("room"))
            .collect::<Vec<_>>()
            .try_into()
            .expect("two");
        Self { world, phone, peer }
    }

    fn roles(role: Role) -> [AgentConfig; 2] {
        [AgentConfig::new(role), AgentConfig::new(role.opposite())]
    }

    /// Connected, nominated and at rest.
    fn settled(mut self) -> Self {
        let (a, b) = (self.phone, self.peer);
        for agent in [a, b] {
            self.world.gather(agent).expect("open");
        }
        self.world
            .signal_between(a, b, Signaling::trickled(ms(25)))
            .expect("open");
        self.world.run_for(Duration::from_secs(10));
        assert!(
            self.world.is_up(a) && self.world.is_up(b),
            "{}",
            self.world.trace()
        );
        self
    }

    /// Where the data leaves the phone, and where it reaches it.
    fn ways(&self) -> [IpAddr; 2] {
        let phone = self
            .world
            .selected_pair(self.phone)
            .expect("a pair")
            .base
            .ip();
        let peer = self
            .world
            .selected_pair(self.peer)
            .expect("a pair")
            .remote
            .ip_address();
        [phone, peer.expect("an address").ip()]
    }

    fn changes(&self, agent: Agent, from: Time) -> Vec<Time> {
        let events = self.world.events(agent).iter();
        let changes = events
            .filter(|(at, event)| *at >= from && matches!(event, Event::SelectedPairChange(_)));
        changes.map(|(at, _)| *at).collect()
    }

    fn talk(&mut self, duration: Duration) {
        let end = self.world.now() + duration;
        while self.world.now() < end {
            for agent in [self.phone, self.peer] {
                let _ = self.world.send(agent, b"data");
            }
            self.world.run_for(ms(20));
        }
    }
}

const WIFI: &str = "192.0.3.1";
const CELLULAR: &str = "192.0.2.1";

#[test]
fn a_cheap_network_goes_before_a_costly_one_whoever_controls() {
    for role in ROLES {
        let scene = Scene::new(1, Scene::roles(role), [900, 10]).settled();
        assert_eq!(scene.ways(), [ip(WIFI); 2]);
        // Without costs it is the other one, which the system lists first.
        let scene = Scene::new(1, Scene::roles(role), [0, 0]).settled();
        assert_eq!(scene.ways(), [ip(CELLULAR); 2]);
    }
}

#[test]
fn a_network_that_has_become_costly_is_left() {
    for role in ROLES {
        let mut scene = Scene::new(1, Scene::roles(role), [0, 0]).settled();
        scene.world.set_interface_cost(scene.phone.node, 0, 900);
        // One round trip, the nomination and its answer; before it the peer has to be told, if it chooses.
        scene.world.run_for(ms(60) + ms(25));
        assert_eq!(scene.ways(), [ip(WIFI); 2], "{role:?}");
        let (from, phone) = (scene.world.now(), scene.phone);
        scene.talk(MINUTE);
        assert!(scene.changes(phone, from).is_empty(), "{role:?}");
    }
}

#[test]
fn a_path_that_stays_slow_is_left_for_a_fast_one_once() {
    for role in ROLES {
        let mut scene = Scene::new(1, Scene::roles(role), [0, 0]).settled();
        let from = scene.world.now();
        scene
            .world
            .set_interface_link(scene.phone.node, 0, Link::new(ms(5 + SLOW)));
        scene.talk(5 * MINUTE);
        assert_eq!(scene.ways(), [ip(WIFI); 2], "{role:?}");
        for agent in [scene.phone, scene.peer] {
            assert_eq!(scene.changes(agent, from).len(), 1, "{role:?}");
            assert!(!states(&scene.world, agent).contains(&nilas_ice::State::Failed));
        }
    }
}

#[test]
fn what_was_left_is_gone_back_to_only_when_it_has_proved_itself() {
    for role in ROLES {
        let mut scene = Scene::new(1, Scene::roles(role), [0, 0]).settled();
        let node = scene.phone.node;
        scene
            .world
            .set_interface_link(node, 0, Link::new(ms(5)).with_loss(1.0));
        scene.talk(Duration::from_secs(10));
        assert_eq!(scene.ways(), [ip(WIFI); 2], "{role:?}");
        scene.world.set_interface_link(node, 0, Link::new(ms(5)));
        let back = scene.world.now();
        scene.talk(5 * MINUTE);
        assert_eq!(scene.ways(), [ip(CELLULAR); 2], "{role:?}");
        let changes = scene.changes(scene.phone, back);
        assert_eq!(changes.len(), 1, "{role:?}");
        assert!(
            changes[0].since(back) >= Duration::from_secs(20),
            "{:?}",
            changes[0].since(back)
        );
    }
}

#[test]
fn no_jitter_moves_the_data_more_than_twice_a_minute() {
    for role in ROLES {
        for seed in 1..6 {
            for talking in [true, false] {
                let mut scene = Scene::new(seed, Scene::roles(role), [0, 0]).settled();
                let jittery = |delay| Link::new(ms(delay)).with_jitter(ms(150)).with_loss(0.1);
                scene
                    .world
                    .set_interface_link(scene.phone.node, 0, jittery(5));
                scene
                    .world
                    .set_interface_link(scene.phone.node, 1, jittery(10));
                let from = scene.world.now();
                match talking {
                    true => scene.talk(4 * MINUTE),
                    false => scene.world.run_for(20 * MINUTE),
                }
                for agent in [scene.phone, scene.peer] {
                    let changes = scene.changes(agent, from);
                    let flaps = changes
                        .windows(3)
                        .find(|three| three[2].since(three[0]) < MINUTE);
                    assert!(
                        flaps.is_none(),
                        "seed {seed}, {role:?}, {talking}: {changes:?}"
                    );
                    assert!(scene.world.is_up(agent));
                }
            }
        }
    }
}

#[test]
fn an_application_s_own_policy_is_followed() {
    fn lowest(_: &Situation, contenders: &[Contender]) -> Option<Choice> {
        let contenders = contenders.iter().enumerate();
        let (index, _) = contenders.min_by_key(|(_, own)| own.priority)?;
        Some(Choice::new(index, SelectionReason::Best))
    }
    for role in ROLES {
        let mut configs = Scene::roles(role);
        for config in &mut configs {
            config.selection = Some(lowest);
        }
        let scene = Scene::new(1, configs, [0, 0]).settled();
        assert_eq!(scene.ways(), [ip(WIFI); 2], "{role:?}");
    }
}

/// The peer offers no renomination: a cheaper network is worth a restart, a faster one is not.
#[test]
fn beside_a_plain_peer_only_cost_and_relays_are_worth_a_restart() {
    let cases = [(900, 0, true), (0, SLOW, false)];
    for ((cost, slower, moves), alone) in cases
        .into_iter()
        .flat_map(|case| [(case, true), (case, false)])
    {
        let mut configs = Scene::roles(Role::Controlling);
        configs[0].restarts_alone = alone;
        let mut scene = Scene::new(1, configs, [0, 0]);
        let (phone, peer) = (scene.phone, scene.peer);
        for agent in [phone, peer] {
            scene.world.gather(agent).expect("open");
        }
        scene.world.run_for(ms(1));
        introduce(&mut scene.world, peer, phone);
        introduce(&mut scene.world, phone, peer);
        scene.world.run_for(Duration::from_secs(10));
        assert!(scene.world.is_up(phone));
        // Where the application restarts, it is told.
        let restarts = |world: &World| {
            let events = world.events(phone).iter();
            let counts = |event: &Event| match event {
                Event::LocalParameters(_) => alone,
                Event::RestartDue(reason) => !alone && *reason == RestartReason::OtherPath,
                _ => false,
            };
            events.filter(|(_, event)| counts(event)).count()
        };
        let before = restarts(&scene.world);
        scene.world.set_interface_cost(phone.node, 0, cost);
        let link = Link::new(ms(5 + slower));
        scene.world.set_interface_link(phone.node, 0, link);
        scene.world.run_for(2 * MINUTE);
        let now = restarts(&scene.world);
        assert_eq!(now > before, moves, "{cost} {slower} {alone}");
        assert_eq!(
            scene.ways()[0],
            ip(CELLULAR),
            "the old path stays until the peer answers"
        );
    }
}

/// Tells one agent all of the other, but that it knows renomination.
fn introduce(world: &mut World, from: Agent, to: Agent) {
    let parameters = world.with_agent(from, |agent, _| agent.local_parameters());
    let mut parameters = parameters.expect("open");
    parameters.options.retain(|option| option != "renomination");
    let mut signals = vec![Signal::Parameters(parameters)];
    for (_, event) in world.events(from) {
        match event {
            Event::Candidate(candidate) => signals.push(Signal::Candidate(candidate.clone())),
            Event::GatheringStateChange(GatheringState::Complete) => {
                signals.push(Signal::EndOfCandidates);
            }
            _ => {}
        }
    }
    for signal in signals {
        world.deliver(to, signal).expect("good");
    }
}
