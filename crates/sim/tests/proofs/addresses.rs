//! Which of a machine's addresses are used, and what happens when they are replaced: temporary IPv6 addresses.

use std::net::IpAddr;
use std::time::Duration;

use nilas_ice::{AgentConfig, Event, Role};
use nilas_sim::{Link, Realm, Signaling, World};

use crate::common::{Peers, ip, ms, quarter};

const STABLE: &str = "2001:db8:1::1";
const FIRST: &str = "2001:db8:1::aaaa";
const SECOND: &str = "2001:db8:1::bbbb";

/// The addresses that `a` has told since the event with this number.
fn told(peers: &Peers, since: usize) -> Vec<IpAddr> {
    let events = peers.world.events(peers.a)[since..].iter();
    let addresses = events.filter_map(|(_, event)| match event {
        Event::Candidate(candidate) => candidate.ip_address(),
        _ => None,
    });
    addresses.map(|address| address.ip()).collect()
}

#[test]
fn a_temporary_address_is_told_and_its_successor_takes_over_without_a_gap() {
    for roles in [
        [Role::Controlling, Role::Controlled],
        [Role::Controlled, Role::Controlling],
    ] {
        let mut world = World::new(1);
        let link: Link = quarter(ms(50));
        let host = world.add_host(Realm::INTERNET, &[ip(STABLE), ip(FIRST)], link);
        world.mark_addresses(host, 0, &[ip(FIRST)], &[]);
        let other = world.add_host(Realm::INTERNET, &[ip("2001:db8:2::1")], link);
        let a = world
            .add_agent(host, AgentConfig::new(roles[0]))
            .expect("room");
        let b = world
            .add_agent(other, AgentConfig::new(roles[1]))
            .expect("room");
        let mut peers = Peers { world, a, b };
        peers.introduce(Signaling::trickled(ms(25)));
        peers.run_until_up(Duration::from_secs(10)).expect("a path");
        peers.world.run_for(Duration::from_secs(60));
        assert_eq!(told(&peers, 0), [ip(FIRST)], "{roles:?}");

        // A day later: the next one is there, and the first is deprecated.
        let since = peers.world.events(a).len();
        let all = [ip(STABLE), ip(FIRST), ip(SECOND)];
        peers
            .world
            .mark_addresses(host, 0, &[ip(FIRST), ip(SECOND)], &[ip(FIRST)]);
        let moved = peers
            .world
            .move_interface(host, 0, Realm::INTERNET, &all, link);
        moved.expect("free");
        let before = peers.world.received(b).len();
        for _ in 0..500 {
            peers
                .world
                .send(a, b"data")
                .expect("there is always a path");
            peers.world.run_for(ms(10));
        }
        peers.world.run_for(Duration::from_secs(1));
        assert_eq!(peers.world.received(b).len() - before, 500, "{roles:?}");
        let new = told(&peers, since);
        assert!(new.ends_with(&[ip(SECOND)]), "{roles:?}: {new:?}");
        assert!(!new.contains(&ip(FIRST)), "{roles:?}: {new:?}");

        // A week later the first is gone; what still used it moves on.
        peers.world.mark_addresses(host, 0, &[ip(SECOND)], &[]);
        let left = [ip(STABLE), ip(SECOND)];
        let moved = peers
            .world
            .move_interface(host, 0, Realm::INTERNET, &left, link);
        moved.expect("free");
        peers.world.run_for(Duration::from_secs(5));
        assert!(peers.world.is_up(a) && peers.world.is_up(b), "{roles:?}");
        let selected = peers.world.selected_pair(a).expect("a pair");
        assert_eq!(selected.base.ip(), ip(SECOND), "{roles:?}");
        peers.assert_data_both_ways();
    }
}
