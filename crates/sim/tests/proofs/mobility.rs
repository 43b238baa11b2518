//! Sessions whose network changes under them while data flows, in virtual time at 50 ms from end to end.

use std::net::IpAddr;
use std::time::Duration;

use nilas_ice::{Event, Role, State};
use nilas_sim::{Agent, Link, Nat, NodeId, Realm, Signaling, World};

use crate::common::{MINUTE, address, ip, ms, with_stun};

/// A phone with two uplinks, each behind a NAT of its own, and a peer behind another.
struct Scene {
    world: World,
    phone: Agent,
    peer: Agent,
    nats: Vec<NodeId>,
}

const ROLES: [Role; 2] = [Role::Controlling, Role::Controlled];

fn wire() -> Link {
    Link::new(ms(12))
}

fn scene(seed: u64, phone: Role, uplinks: u8) -> Scene {
    let mut world = World::new(seed);
    let stun = address("198.51.100.1:3478");
    world.add_stun_server(Realm::INTERNET, stun, wire());
    let mut nats = Vec::new();
    let mut home = |world: &mut World, n: u8| {
        let outside = IpAddr::from([203, 0, 113, n]);
        let (router, realm) = world.add_nat(Realm::INTERNET, outside, wire(), Nat::default());
        nats.push(router);
        realm
    };
    let wifi = home(&mut world, 1);
    let host = world.add_host(wifi, &[ip("10.0.1.2")], Link::default());
    if uplinks == 2 {
        let cell = home(&mut world, 2);
        world.add_interface(host, cell, &[ip("10.0.2.2")], Link::default());
    }
    let far = home(&mut world, 3);
    let other = world.add_host(far, &[ip("10.0.3.2")], Link::default());
    let phone_agent = world.add_agent(host, with_stun(phone, stun)).expect("room");
    let peer = world
        .add_agent(other, with_stun(phone.opposite(), stun))
        .expect("room");
    world
        .signal_between(phone_agent, peer, Signaling::trickled(ms(25)))
        .expect("open");
    for agent in [phone_agent, peer] {
        world.gather(agent).expect("open");
    }
    Scene {
        world,
        phone: phone_agent,
        peer,
        nats,
    }
}

impl Scene {
    fn connected(seed: u64, phone: Role, uplinks: u8) -> Self {
        let mut scene = scene(seed, phone, uplinks);
        let (a, b) = (scene.phone, scene.peer);
        let up = scene
            .world
            .run_until(MINUTE, |world| world.is_up(a) && world.is_up(b));
        assert!(up.is_some(), "{}", scene.world.trace());
        scene.talk(Duration::from_secs(5));
        scene
    }

    /// Both send 200 datagrams a second. The longest time that nothing came, at the phone and at the peer.
    fn talk(&mut self, duration: Duration) -> [Duration; 2] {
        let (from, end) = (self.world.now(), self.world.now() + duration);
        while self.world.now() < end {
            for agent in [self.phone, self.peer] {
                // There may be no path for a while; the gap shows it.
                let _ = self.world.send(agent, b"data");
            }
            self.world.run_for(ms(5));
        }
        [self.phone, self.peer].map(|agent| {
            let mut last = from;
            let mut longest = Duration::ZERO;
            let times = self.world.received(agent).iter().map(|(at, _)| *at);
            for at in times.filter(|at| *at >= from).chain([end]) {
                longest = longest.max(at.since(last));
                last = at;
            }
            longest
        })
    }

    fn states(&self, agent: Agent) -> Vec<State> {
        let state = |(_, event): &(_, Event)| match event {
            Event::StateChange { state, .. } => Some(*state),
            _ => None,
        };
        self.world.events(agent).iter().filter_map(state).collect()
    }

    /// Nobody ever lost the session.
    fn assert_unbroken(&self) {
        for agent in [self.phone, self.peer] {
            let states = self.states(agent);
            assert!(
                !states.contains(&State::Failed) && self.world.is_up(agent),
                "{states:?}"
            );
        }
    }

    fn assert_within(&self, gaps: [Duration; 2], limit: Duration) {
        assert!(
            gaps.iter().all(|gap| *gap <= limit),
            "{gaps:?}, more than {limit:?}:\n{:#?}\n{:#?}",
            self.world.events(self.phone),
            self.world.events(self.peer)
        );
    }
}

#[test]
fn nothing_is_missed_where_nothing_happens() {
    for role in ROLES {
        for uplinks in [1, 2] {
            let mut scene = Scene::connected(1, role, uplinks);
            let before = scene.world.events(scene.phone).len();
            let gaps = scene.talk(MINUTE);
            scene.assert_within(gaps, ms(60));
            assert_eq!(scene.world.events(scene.phone).len(), before);
        }
    }
}

#[test]
fn a_path_that_dies_silently_is_left_within_a_second() {
    for role in ROLES {
        for seed in 1..6 {
            let mut scene = Scene::connected(seed, role, 2);
            let node = scene.phone.node;
            let dead = Link::default().with_loss(1.0);
            scene.world.set_interface_link(node, 0, dead);
            let gaps = scene.talk(Duration::from_secs(20));
            scene.assert_within(gaps, ms(1000));
            scene.assert_unbroken();
        }
    }
}

#[test]
fn a_path_that_the_system_reports_gone_costs_its_sender_a_round_trip() {
    for role in ROLES {
        let mut scene = Scene::connected(1, role, 2);
        scene.world.remove_interface(scene.phone.node, 0);
        let gaps = scene.talk(Duration::from_secs(20));
        scene.assert_within(gaps, ms(1000));
        assert!(gaps[1] <= ms(120), "{gaps:?}");
        scene.assert_unbroken();
    }
}

#[test]
fn an_address_that_appears_is_used_while_the_old_path_stays() {
    for role in ROLES {
        let mut scene = Scene::connected(1, role, 1);
        let (_, cell) =
            scene
                .world
                .add_nat(Realm::INTERNET, ip("203.0.113.9"), wire(), Nat::default());
        let node = scene.phone.node;
        scene
            .world
            .add_interface(node, cell, &[ip("10.0.9.2")], Link::default());
        let gaps = scene.talk(Duration::from_secs(10));
        scene.assert_within(gaps, ms(100));
        // And now the old one goes.
        scene.world.remove_interface(node, 0);
        let gaps = scene.talk(Duration::from_secs(20));
        scene.assert_within(gaps, ms(1000));
        scene.assert_unbroken();
    }
}

#[test]
fn another_network_in_the_place_of_the_first_takes_a_restart() {
    for role in ROLES {
        let mut scene = Scene::connected(1, role, 1);
        let (_, cell) =
            scene
                .world
                .add_nat(Realm::INTERNET, ip("203.0.113.9"), wire(), Nat::default());
        let node = scene.phone.node;
        scene
            .world
            .move_interface(node, 0, cell, &[ip("10.0.9.2")], Link::default())
            .expect("a good address");
        let gaps = scene.talk(Duration::from_secs(20));
        // Four round trips and signaling, there and back.
        scene.assert_within(gaps, ms(4 * 50 + 2 * 25 + 20));
        scene.assert_unbroken();
    }
}

#[test]
fn a_nat_that_is_renumbered_or_rebooted_is_followed() {
    for role in ROLES {
        for renumber in [true, false] {
            for nat in [0, 1] {
                let mut scene = Scene::connected(1, role, 1);
                let router = scene.nats[nat];
                if renumber {
                    let addresses = [ip("203.0.113.77")];
                    scene.world.renumber(router, &addresses).expect("free");
                } else {
                    scene.world.reboot(router);
                }
                let gaps = scene.talk(Duration::from_secs(20));
                scene.assert_within(gaps, ms(1500));
                scene.assert_unbroken();
            }
        }
    }
}

#[test]
fn a_jittery_path_is_not_left_more_than_twice_a_minute() {
    for role in ROLES {
        for seed in 1..4 {
            let mut scene = Scene::connected(seed, role, 2);
            let jittery = Link::new(ms(5)).with_jitter(ms(80)).with_loss(0.05);
            scene.world.set_interface_link(scene.phone.node, 0, jittery);
            let before = scene.world.events(scene.phone).len();
            let _ = scene.talk(2 * MINUTE);
            let changes = scene.world.events(scene.phone)[before..]
                .iter()
                .filter(|(_, event)| matches!(event, Event::SelectedPairChange(_)))
                .count();
            assert!(
                changes <= 4,
                "seed {seed}: {changes} changes in two minutes"
            );
            scene.assert_unbroken();
        }
    }
}
