//! How long a datagram may be is found out (RFC 8899) where a network on the way takes less than Ethernet.

use std::time::Duration;

use nilas_ice::{AgentConfig, CandidateType, Event, Mtu, Role, State};
use nilas_sim::{Agent, Link, Realm, Signaling, TurnServer, World};

use crate::common::{MINUTE, Peers, ip, ms, quarter};
use crate::relay::{SYMMETRIC, kinds, peers_of};

fn wire(mtu: u16) -> Link {
    Link::new(ms(12)).with(|wire| wire.mtu = Some(mtu))
}

fn max_payload(world: &mut World, agent: Agent) -> usize {
    let path = world.with_agent(agent, |agent, _| agent.path().load());
    path.expect("it is open")
        .expect("it is connected")
        .max_payload()
}

/// Whether so much data arrives at the other side.
fn arrives(world: &mut World, [from, to]: [Agent; 2], length: usize) -> bool {
    let before = world.received(to).len();
    world.send(from, &vec![7; length]).expect("there is a path");
    world.run_for(Duration::from_secs(1));
    world.received(to).len() > before
}

/// What is found is what passes, and four bytes more may not: on the way from a server, with what that puts around it.
#[test]
fn what_is_found_through_a_relay_is_what_passes() {
    for seed in 1..7 {
        // Whoever controls may find out.
        let roles = [Role::Controlling, Role::Controlled];
        let server = TurnServer::new("ann", "secret").expect("good words");
        let (mut peers, _) = peers_of(server, seed, [SYMMETRIC; 2], |n, config| {
            config.role = roles[(n + seed as usize) % 2];
            config.mtu = Mtu::Discover(1_500);
        });
        let (a, b) = (peers.a, peers.b);
        // Behind the NAT of b the way is narrow.
        peers.world.set_link(b.node, wire(1_400));
        assert!(peers.run_until_up(MINUTE).is_some(), "seed {seed}");
        let relayed = kinds(&peers).into_iter().flat_map(|(own, far)| [own, far]);
        assert!(relayed.into_iter().any(|kind| kind == CandidateType::Relay));
        peers.world.run_for(MINUTE);
        for ends in [[a, b], [b, a]] {
            let found = max_payload(&mut peers.world, ends[0]);
            // The table has 1,380 and 1,400; a channel takes 4 bytes, an indication 36, on one of the two ways.
            assert!((1_380 - 28 - 36..=1_400 - 28).contains(&found), "{found}");
            assert!(arrives(&mut peers.world, ends, found), "seed {seed}");
            assert!(
                !arrives(&mut peers.world, ends, 1_400 - 28 + 1),
                "seed {seed}"
            );
        }
    }
}

#[test]
fn another_path_has_a_length_of_its_own() {
    for role in [Role::Controlling, Role::Controlled] {
        lengths_of_two_paths(role);
    }
}

fn lengths_of_two_paths(role: Role) {
    let mut world = World::new(1);
    let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], wire(1_500));
    world.add_interface(host, Realm::INTERNET, &[ip("192.0.3.1")], wire(1_380));
    let other = world.add_host(Realm::INTERNET, &[ip("192.0.4.1")], quarter(ms(50)));
    let mut config = AgentConfig::new(role);
    config.mtu = Mtu::Discover(1_500);
    let a = world.add_agent(host, config).expect("room");
    let b = world
        .add_agent(other, AgentConfig::new(role.opposite()))
        .expect("room");
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(25)));
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.world.run_for(MINUTE);
    let world = &mut peers.world;
    let base = |agent: &nilas_ice::SelectedPair| agent.base.ip();
    let first = world.selected_pair(a).map(base);
    let (number, at_first, later) = match first == Some(ip("192.0.2.1")) {
        true => (0, 1_500, 1_380),
        false => (1, 1_380, 1_500),
    };
    assert_eq!(max_payload(world, a), at_first - 28);
    assert!(arrives(world, [a, b], at_first - 28));
    world.remove_interface(host, number);
    let moved = world.run_until(MINUTE, |world| {
        world.selected_pair(a).map(base) != first && world.is_up(a)
    });
    assert!(moved.is_some(), "{:?}", world.events(a));
    // What was known is not known of this one.
    assert_eq!(max_payload(world, a), 1_232);
    assert!(arrives(world, [a, b], 1_232));
    world.run_for(MINUTE);
    assert_eq!(max_payload(world, a), later - 28);
    assert!(arrives(world, [a, b], later - 28));
    assert!(world.state(a) == State::Completed);
}

/// The peer did not ask, and neither did an agent that was not told to.
#[test]
fn nobody_probes_who_was_not_told_to() {
    let mut peers = crate::common::Setup::default().completed();
    peers.world.run_for(MINUTE * 11);
    for agent in peers.both() {
        let told = |(_, event): &(_, Event)| matches!(event, Event::MaxPayloadChange { .. });
        assert!(!peers.world.events(agent).iter().any(told));
        assert_eq!(max_payload(&mut peers.world, agent), 1_232);
    }
}
