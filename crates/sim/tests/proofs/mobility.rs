//! Sessions whose network changes under them while data flows, in virtual time at 50 ms from end to end.

use std::net::IpAddr;
use std::time::Duration;

use nilas_ice::{AgentConfig, CandidateType, Event, RestartReason, Role, State};
use nilas_sim::{Agent, Link, Nat, NodeId, Realm, Signal, World};

use nilas_stun::Class;

use crate::common::{Check, MINUTE, Peers, address, ip, message, ms, sent_by, with_stun};

/// A phone with one to three uplinks, each behind a NAT of its own, and a peer behind another.
pub(crate) struct Scene {
    pub(crate) world: World,
    pub(crate) phone: Agent,
    pub(crate) peer: Agent,
    nats: Vec<NodeId>,
    /// Where the phone's second uplink is, if it has one.
    cell: Realm,
}

pub(crate) const ROLES: [Role; 2] = [Role::Controlling, Role::Controlled];

/// Two wires, there and back.
const ROUND_TRIP: Duration = Duration::from_millis(48);

fn wire() -> Link {
    Link::new(ms(12))
}

fn scene(seed: u64, phone: Role, uplinks: u8) -> Scene {
    scene_of(seed, phone, uplinks, |_, _| {})
}

/// The same with agents of one's own; the phone is the first.
fn scene_of(
    seed: u64,
    phone: Role,
    uplinks: u8,
    configure: impl Fn(usize, &mut AgentConfig),
) -> Scene {
    let config = |n: usize, role| {
        let mut config = with_stun(role, address("198.51.100.1:3478"));
        configure(n, &mut config);
        config
    };
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
    let mut cell = Realm::INTERNET;
    for n in [2, 4].into_iter().take(usize::from(uplinks) - 1) {
        let realm = home(&mut world, n);
        world.add_interface(host, realm, &[[10, 0, n, 2].into()], Link::default());
        if n == 2 {
            cell = realm;
        }
    }
    let far = home(&mut world, 3);
    let other = world.add_host(far, &[ip("10.0.3.2")], Link::default());
    let configs = [config(0, phone), config(1, phone.opposite())];
    let peers = Peers::meet(world, [host, other], configs, ms(25));
    Scene {
        world: peers.world,
        phone: peers.a,
        peer: peers.b,
        nats,
        cell,
    }
}

impl Scene {
    pub(crate) fn connected(seed: u64, phone: Role, uplinks: u8) -> Self {
        Self::connect(scene(seed, phone, uplinks))
    }

    fn connect(mut scene: Self) -> Self {
        let (a, b) = (scene.phone, scene.peer);
        let up = scene
            .world
            .run_until(MINUTE, |world| world.is_up(a) && world.is_up(b));
        assert!(up.is_some(), "{}", scene.world.trace());
        scene.talk(Duration::from_secs(5));
        scene
    }

    /// Both send 200 datagrams a second. The longest time that nothing came, at the phone and at the peer.
    pub(crate) fn talk(&mut self, duration: Duration) -> [Duration; 2] {
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

    /// How many restarts an agent told.
    fn restarts(&self, agent: Agent) -> usize {
        let told = |(_, event): &&(_, Event)| matches!(event, Event::LocalParameters(_));
        self.world.events(agent).iter().filter(told).count()
    }

    /// The phone gets into another network, behind a NAT of its own.
    fn enter(&mut self, outside: &str, inside: &str) {
        let (_, realm) = self
            .world
            .add_nat(Realm::INTERNET, ip(outside), wire(), Nat::default());
        self.world
            .add_interface(self.phone.node, realm, &[ip(inside)], Link::default());
    }

    /// Nobody ever lost the session.
    pub(crate) fn assert_unbroken(&self) {
        for agent in [self.phone, self.peer] {
            let states = self.states(agent);
            assert!(
                !states.contains(&State::Failed) && self.world.is_up(agent),
                "{states:?}"
            );
        }
    }

    pub(crate) fn assert_within(&self, gaps: [Duration; 2], limit: Duration) {
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
        // The peer hears nothing for a round trip at most, and what lies between two datagrams. What it sends itself goes
        // astray until it finds out, which is another matter: a path that dies silently.
        assert!(gaps[1] <= ROUND_TRIP + ms(5), "{gaps:?}");
        scene.assert_within(gaps, ms(1000));
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

/// Both sides offer continual gathering.
#[test]
fn candidates_come_and_go_without_a_restart() {
    for role in ROLES {
        for seed in 1..6 {
            let mut scene = Scene::connected(seed, role, 1);
            scene.enter("203.0.113.9", "10.0.9.2");
            let gaps = scene.talk(Duration::from_secs(5));
            scene.assert_within(gaps, ms(60));
            let before = scene.world.selected_pair(scene.phone).cloned();
            scene.world.remove_interface(scene.phone.node, 0);
            let gaps = scene.talk(Duration::from_secs(20));
            scene.assert_within(gaps, ms(1000));
            let taken_back = |(_, event): &(_, Event)| matches!(event, Event::CandidateRemoved(_));
            assert!(scene.world.events(scene.phone).iter().any(taken_back));
            // And back again, at another address.
            scene.enter("203.0.113.19", "10.0.1.3");
            let gaps = scene.talk(Duration::from_secs(5));
            scene.assert_within(gaps, ms(60));
            assert_ne!(scene.world.selected_pair(scene.phone).cloned(), before);
            for agent in [scene.phone, scene.peer] {
                assert_eq!(scene.restarts(agent), 0, "seed {seed}");
            }
            scene.assert_unbroken();
        }
    }
}

/// RFC 8838 section 13 has no candidates after their end: who does not offer more gets a restart.
#[test]
fn a_peer_without_continual_gathering_gets_a_restart() {
    for role in ROLES {
        for without in [0, 1] {
            let mut scene = Scene::connect(scene_of(1, role, 1, |n, config| {
                config.continual = n != without;
            }));
            scene.enter("203.0.113.9", "10.0.9.2");
            let gaps = scene.talk(Duration::from_secs(5));
            scene.assert_within(gaps, ms(100));
            assert_eq!(scene.restarts(scene.phone), 1);
            let removed = |(_, event): &(_, Event)| matches!(event, Event::CandidateRemoved(_));
            assert!(!scene.world.events(scene.phone).iter().any(removed));
            scene.assert_unbroken();
        }
    }
}

/// Where the application restarts, it is told when to, and nothing happens before.
#[test]
fn a_restart_is_proposed_where_an_agent_does_not_begin_it() {
    for role in ROLES {
        for (reason, limit) in [
            (RestartReason::AddressesChanged, ms(5_000)),
            (RestartReason::PathDied, ms(10_000)),
        ] {
            let mut scene = Scene::connect(scene_of(1, role, 1, |_, config| {
                (config.continual, config.restarts_alone) = (false, false);
            }));
            let phone = scene.phone;
            match reason {
                RestartReason::AddressesChanged => scene.enter("203.0.113.9", "10.0.9.2"),
                _ => {
                    let dead = Link::default().with_loss(1.0);
                    scene.world.set_interface_link(phone.node, 0, dead);
                }
            }
            scene.talk(limit);
            let told = |scene: &Scene| -> Vec<RestartReason> {
                let events = scene.world.events(phone).iter();
                let reasons = events.filter_map(|(_, event)| match event {
                    Event::RestartDue(reason) => Some(*reason),
                    _ => None,
                });
                reasons.collect()
            };
            assert_eq!(told(&scene), [reason], "{role:?}");
            assert_eq!(scene.restarts(phone), 0, "{role:?}");
            // The application does as it is told.
            let restarted = scene
                .world
                .with_agent(phone, |mut agent, now| agent.restart(now));
            restarted.expect("open");
            scene
                .world
                .set_interface_link(phone.node, 0, Link::default());
            scene.talk(limit);
            scene.assert_unbroken();
            assert_eq!(told(&scene), [reason], "{role:?}");
        }
    }
}

/// A relay carries the data; then a network comes where the two can meet directly.
#[test]
fn a_better_path_is_taken_within_three_round_trips_of_its_candidate() {
    for role in ROLES {
        for seed in 1..6 {
            let (mut peers, _) = crate::relay::peers_with_roles(
                seed,
                [crate::relay::SYMMETRIC; 2],
                [role, role.opposite()],
            );
            assert!(peers.run_until_up(MINUTE).is_some());
            peers.world.run_for(Duration::from_secs(5));
            let (a, b) = (peers.a, peers.b);
            let is_relayed = |world: &World, agent| {
                let pair = world.selected_pair(agent).expect("a pair");
                [pair.local.kind, pair.remote.kind].contains(&CandidateType::Relay)
            };
            assert!(is_relayed(&peers.world, a) && is_relayed(&peers.world, b));
            peers.world.add_interface(
                a.node,
                Realm::INTERNET,
                &[ip("192.0.2.77")],
                Link::new(ms(12)),
            );
            let signaled = peers.world.now() + ms(25);
            let moved = peers.world.run_until(Duration::from_secs(10), |world| {
                !is_relayed(world, a) && !is_relayed(world, b)
            });
            let moved = moved.unwrap_or_else(|| panic!("{}", peers.world.trace()));
            assert!(
                moved <= signaled + ms(3 * 50),
                "seed {seed}: {:?}",
                moved.since(signaled)
            );
            peers.assert_data_both_ways();
        }
    }
}

/// What is taken back by mistake is found again by its checks.
#[test]
fn a_candidate_that_is_taken_back_and_lives_is_used_again() {
    for role in ROLES {
        let mut scene = Scene::connected(1, role, 1);
        let pair = scene.world.selected_pair(scene.phone).expect("a pair");
        let gone = Signal::CandidateRemoved(pair.remote.clone());
        scene.world.deliver(scene.phone, gone).expect("known");
        let gaps = scene.talk(Duration::from_secs(10));
        scene.assert_within(gaps, ms(1000));
        scene.assert_unbroken();
    }
}

#[test]
fn another_network_in_the_place_of_the_first_is_moved_to() {
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

/// The phone sleeps, and what the peer tells it waits until it is awake. The longest time without data since then.
fn sleep(
    scene: &mut Scene,
    duration: Duration,
    meanwhile: impl FnOnce(&mut Scene),
) -> [Duration; 2] {
    let (phone, peer) = (scene.phone, scene.peer);
    scene.world.suspend(phone.node);
    scene.world.hold_signals(peer);
    meanwhile(scene);
    scene.world.run_for(duration);
    scene.world.release_signals(peer);
    scene.world.resume(phone.node);
    scene.talk(Duration::from_secs(20))
}

#[test]
fn a_machine_that_slept_for_ten_minutes_goes_on_as_soon_as_it_is_awake() {
    for role in ROLES {
        for forgotten in [false, true] {
            let mut scene = Scene::connected(1, role, 1);
            let gaps = sleep(&mut scene, 10 * MINUTE, |scene| {
                if forgotten {
                    for nat in scene.nats.clone() {
                        scene.world.reboot(nat);
                    }
                }
            });
            // Consent is gone on both sides: four round trips and signaling, there and back.
            scene.assert_within(gaps, ms(4 * 50 + 2 * 25 + 20));
            let states = scene.states(scene.phone);
            assert!(!states.contains(&State::Failed), "{role:?}: {states:?}");
            assert!(scene.world.is_up(scene.phone) && scene.world.is_up(scene.peer));
        }
    }
}

#[test]
fn after_a_short_sleep_the_old_path_is_checked_at_once() {
    for role in ROLES {
        let mut scene = Scene::connected(1, role, 1);
        let before = scene.world.events(scene.phone).len();
        let gaps = sleep(&mut scene, Duration::from_secs(5), |_| {});
        scene.assert_within(gaps, ms(4 * 50 + 2 * 25 + 20));
        scene.assert_unbroken();
        let states = &scene.world.events(scene.phone)[before..];
        assert!(
            !states.iter().any(|(_, event)| matches!(
                event,
                Event::StateChange {
                    verdict: Some(_),
                    ..
                }
            )),
            "{role:?}: {states:?}"
        );
    }
}

#[test]
fn a_machine_that_wakes_where_nobody_answers_has_failed_after_half_a_minute() {
    for role in ROLES {
        let mut scene = Scene::connected(1, role, 1);
        let (phone, peer) = (scene.phone.node, scene.peer.node);
        scene.world.suspend(phone);
        scene.world.set_up(peer, false);
        for agent in [scene.phone, scene.peer] {
            scene.world.hold_signals(agent);
        }
        scene.world.run_for(10 * MINUTE);
        scene.world.resume(phone);
        scene.world.run_for(Duration::from_secs(20));
        assert_eq!(
            scene.world.state(scene.phone),
            State::Disconnected,
            "{role:?}"
        );
        scene.world.run_for(Duration::from_secs(11));
        assert_eq!(scene.world.state(scene.phone), State::Failed, "{role:?}");
    }
}

#[test]
fn an_address_that_came_back_is_told_once_by_a_restart() {
    for role in ROLES {
        let mut scene = Scene::connected(9, role, 2);
        let (phone, realm) = (scene.phone, scene.cell);
        for _ in 0..3 {
            scene.world.remove_interface(phone.node, 1);
            scene.talk(Duration::from_secs(3));
            scene
                .world
                .move_interface(phone.node, 1, realm, &[ip("10.0.2.2")], Link::default())
                .expect("its own address");
            scene.talk(Duration::from_secs(10));
        }
        let from = scene.world.now();
        scene
            .world
            .with_agent(phone, |mut agent, now| agent.restart(now))
            .expect("open");
        scene.talk(Duration::from_secs(10));
        let hosts = scene.world.events(phone).iter().filter(|(at, event)| {
            let Event::Candidate(candidate) = event else {
                return false;
            };
            let own = candidate.ip_address().map(|address| address.ip());
            *at >= from && candidate.kind == CandidateType::Host && own == Some(ip("10.0.2.2"))
        });
        assert_eq!(hosts.count(), 1, "{:#?}", scene.world.events(phone));
        scene.assert_unbroken();
    }
}

/// Both have given up when another network of the phone brings the session back. What failed before is tried again, too: the
/// session does not stay on the costly network that came first.
#[test]
fn a_session_that_comes_back_by_a_costly_network_goes_on_to_a_better_one() {
    for role in ROLES {
        let mut world = World::new(1);
        let phone = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], wire());
        let far = world.add_host(Realm::INTERNET, &[ip("192.0.4.1")], wire());
        world.set_up(far, false);
        let configs = [role, role.opposite()].map(AgentConfig::new);
        let peers = Peers::meet(world, [phone, far], configs, ms(25));
        let [phone, peer] = peers.both();
        let mut world = peers.world;
        let failed = |world: &World, agent: Agent| world.state(agent) == State::Failed;
        let gave_up = world.run_until(2 * MINUTE, |world| {
            [phone, peer].iter().all(|agent| failed(world, *agent))
        });
        assert!(gave_up.is_some());
        world.set_up(far, true);
        world.add_interface(phone.node, Realm::INTERNET, &[ip("192.0.3.1")], wire());
        world.set_interface_cost(phone.node, 1, 900);
        world.run_for(Duration::from_secs(10));
        for (agent, own) in [(phone, true), (peer, false)] {
            assert!(world.is_up(agent), "{role:?}");
            let pair = world.selected_pair(agent).expect("a pair");
            let end = if own { &pair.local } else { &pair.remote };
            let end = end.ip_address().expect("an address").ip();
            assert_eq!(end, ip("192.0.2.1"), "{role:?}");
        }
    }
}

/// An address that was gone and came back is another candidate, on another socket. Nothing is answered on the one before:
/// the peer would nominate what this side has no pair of.
#[test]
fn where_an_address_was_gone_no_check_is_answered_any_more() {
    for role in ROLES {
        let mut world = World::new(1);
        let phone = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], wire());
        world.add_interface(phone, Realm::INTERNET, &[ip("192.0.3.1")], wire());
        let far = world.add_host(Realm::INTERNET, &[ip("192.0.4.1")], wire());
        let configs = [role, role.opposite()].map(AgentConfig::new);
        let peers = Peers::meet(world, [phone, far], configs, ms(25));
        let [phone, peer] = peers.both();
        let mut world = peers.world;
        world.run_for(Duration::from_secs(10));
        let before = world.selected_pair(phone).expect("a pair").base;
        assert_eq!(before.ip(), ip("192.0.2.1"));
        world.remove_interface(phone.node, 0);
        world.run_for(Duration::from_secs(5));
        world
            .move_interface(phone.node, 0, Realm::INTERNET, &[before.ip()], wire())
            .expect("it is free");
        let back = world.now();
        let mut peers = Peers { world, ..peers };
        let [ours, theirs] = [phone, peer].map(|agent| peers.parameters(agent));
        let mut world = peers.world;
        let check = Check {
            to_ufrag: &ours.ufrag,
            to_pwd: &ours.pwd,
            from_ufrag: &theirs.ufrag,
            id: 77,
            controlling: Some(1).filter(|_| role == Role::Controlled),
            controlled: Some(1).filter(|_| role == Role::Controlling),
            nominate: false,
            component: 1,
        };
        let far = world.selected_pair(peer).expect("a pair").base;
        world.inject(peer.node, far, before, &check.bytes());
        world.run_for(2 * MINUTE);
        let answers = sent_by(&world, phone.node)
            .filter(|packet| packet.sent >= back && packet.source == before)
            .filter(|packet| message(packet, Class::SuccessResponse).is_some());
        assert_eq!(answers.count(), 0, "{role:?}");
        let ends = [phone, peer].map(|agent| {
            let pair = world.selected_pair(agent).expect("a pair");
            (pair.local.ip_address(), pair.remote.ip_address())
        });
        assert_eq!(ends[0], (ends[1].1, ends[1].0), "{role:?}");
    }
}

/// With slow signaling the peer has not answered the restart yet that the loss has brought about.
#[test]
fn a_network_that_comes_back_before_the_restart_is_answered_is_told_when_it_is() {
    let stun = address("198.51.100.1:3478");
    for (role, continual, delay, gone) in [Role::Controlling, Role::Controlled]
        .into_iter()
        .flat_map(|role| [false, true].map(|continual| (role, continual)))
        .flat_map(|(role, continual)| [500, 2_963].map(|delay| (role, continual, delay)))
        .flat_map(|(role, continual, delay)| [1, 3, 6].map(|gone| (role, continual, delay, gone)))
    {
        let mut world = World::new(7);
        world.add_stun_server(Realm::INTERNET, stun, wire());
        let homes = ["192.0.2.1", "203.0.113.1"];
        let hosts = homes.map(|own| world.add_host(Realm::INTERNET, &[ip(own)], wire()));
        let configs = [role, role.opposite()].map(|role| {
            let mut config = with_stun(role, stun);
            config.continual = continual;
            config
        });
        let peers = Peers::meet(world, hosts, configs, ms(delay));
        let agents = peers.both();
        let mut world = peers.world;
        let both_up = |world: &World| agents.iter().all(|agent| world.is_up(*agent));
        assert!(world.run_until(MINUTE, both_up).is_some());
        world.run_for(Duration::from_secs(10));
        let phone = agents[0].node;
        world.remove_interface(phone, 0);
        world.run_for(Duration::from_secs(gone));
        world.add_interface(phone, Realm::INTERNET, &[ip("192.0.2.1")], wire());
        // Data comes by the new address, and does so for good.
        world.run_for(MINUTE + MINUTE);
        let what = format!("{role:?}, continual {continual}, {delay} ms, {gone} s");
        assert!(both_up(&world), "{what}: {}", world.trace());
        for (from, to) in [(0, 1), (1, 0)] {
            let before = world.received(agents[to]).len();
            world.send(agents[from], b"data").expect("a path");
            world.run_for(Duration::from_secs(1));
            assert_eq!(world.received(agents[to]).len(), before + 1, "{what}");
        }
    }
}
