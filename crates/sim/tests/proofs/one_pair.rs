//! Both sides end on one pair, whatever happens to it: what the controlling side has nominated stands in the end.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{AgentConfig, CandidateType, Event, Role, TcpCandidates, Time, Transport};
use nilas_sim::{Agent, Dependence, Link, Nat, Realm, Signaling, World};
use nilas_stun::Class;

use crate::common::{MINUTE, Peers, address, ends, ip, message, ms, quarter, sent_by, with_stun};
use crate::mobility::{ROLES, Scene};

use Dependence::{AddressAndPortDependent, AddressDependent, EndpointIndependent};

fn introduce(world: World, [a, b]: [Agent; 2]) -> Peers {
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(
        peers.run_until_up(MINUTE).is_some(),
        "{}",
        peers.world.trace()
    );
    peers
}

/// Where both send to, if that is one and the same path.
fn one_pair(world: &World, [a, b]: [Agent; 2]) -> (SocketAddr, SocketAddr) {
    let [at_a, at_b] = [a, b].map(|agent| {
        let (local, remote) = ends(world.selected_pair(agent).expect("a pair"));
        (local.expect("an address"), remote.expect("an address"))
    });
    let (local, remote) = at_b;
    assert_eq!(at_a, (remote, local));
    at_a
}

/// How often an agent has told new parameters.
fn restarts(world: &World, agent: Agent) -> usize {
    let told = |(_, event): &&(Time, Event)| matches!(event, Event::LocalParameters(_));
    world.events(agent).iter().filter(told).count()
}

/// The address comes back, and has another socket then. The one of before would be answered as well: the session has to
/// forget it.
#[test]
fn the_socket_of_an_address_that_was_gone_is_not_gone_back_to() {
    for role in ROLES {
        let mut world = World::new(1);
        let [slow, fast] = [ms(32), ms(10)].map(Link::new);
        let at = |text| [ip(text)];
        let host = world.add_host(Realm::INTERNET, &at("192.0.2.1"), slow);
        world.add_interface(host, Realm::INTERNET, &at("192.0.2.2"), fast);
        let other = world.add_host(Realm::INTERNET, &at("198.51.100.7"), fast);
        let agents = [(host, role), (other, role.opposite())]
            .map(|(host, role)| world.add_agent(host, AgentConfig::new(role)).expect("room"));
        let mut peers = introduce(world, agents);
        let world = &mut peers.world;
        world.run_for(MINUTE);
        let before = world.selected_pair(agents[0]).expect("a pair").base;
        assert_eq!(before.ip(), ip("192.0.2.2"), "{role:?}");
        world.remove_interface(host, 1);
        world.run_for(Duration::from_secs(54));
        world
            .move_interface(host, 1, Realm::INTERNET, &at("192.0.2.2"), fast)
            .expect("nobody else has it");
        let since = world.now();
        world.run_for(4 * MINUTE);
        let (local, _) = one_pair(world, agents);
        assert_eq!(local.ip(), before.ip(), "{role:?}");
        assert_ne!(local, before, "{role:?}");
        let by_the_old = sent_by(world, host)
            .filter(|packet| packet.sent >= since && packet.source == before)
            .count();
        assert_eq!(by_the_old, 0, "{role:?}");
    }
}

/// A NAT gets another address, and gives the path another with it. Neither side restarts, and each names the path as the other does.
#[test]
fn a_path_that_a_nat_gives_another_address_is_one_pair_again_without_a_restart() {
    for role in ROLES {
        let mut world = World::new(1);
        let link = quarter(ms(40));
        let nat = Nat::new(AddressDependent, AddressDependent);
        let (router, home) = world.add_nat(Realm::INTERNET, ip("203.0.113.1"), link, nat);
        let host = world.add_host(home, &[ip("10.0.0.2")], Link::default());
        let other = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], link);
        let agents = [(host, role), (other, role.opposite())]
            .map(|(host, role)| world.add_agent(host, AgentConfig::new(role)).expect("room"));
        let mut peers = introduce(world, agents);
        let world = &mut peers.world;
        world.run_for(MINUTE);
        let before = one_pair(world, agents);
        let told = agents.map(|agent| restarts(world, agent));
        world
            .renumber(router, &[ip("203.0.113.2")])
            .expect("nobody else has it");
        world.run_for(2 * MINUTE);
        let after = one_pair(world, agents);
        assert_ne!(after.0, before.0, "{role:?}");
        assert_eq!(agents.map(|agent| restarts(world, agent)), told, "{role:?}");
        peers.assert_data_both_ways();
    }
}

/// The nomination of a second path is on its way when that one dies as well. That of the third has a value of its own, so
/// that a late copy of the one before it nominates nothing.
#[test]
fn each_value_nominates_one_pair_also_where_one_was_not_answered() {
    for seed in 1..6 {
        let mut scene = Scene::connected(seed, Role::Controlling, 3);
        let phone = scene.phone;
        let values = |scene: &Scene| {
            let mut values: BTreeMap<u32, BTreeSet<_>> = BTreeMap::new();
            for packet in sent_by(&scene.world, phone.node) {
                let Some(message) = message(packet, Class::Request) else {
                    continue;
                };
                if let Ok(Some(value)) = message.nomination() {
                    let way = (packet.source, packet.destination);
                    values.entry(value).or_default().insert(way);
                }
            }
            values
        };
        let dead = Link::default().with_loss(1.0);
        let begun = values(&scene).len();
        scene.world.set_interface_link(phone.node, 0, dead);
        for _ in 0..400 {
            scene.talk(ms(5));
            if values(&scene).len() > begun {
                break;
            }
        }
        let second = values(&scene).into_values().next_back();
        let (second, _) = second.and_then(|ways| ways.first().copied()).expect("one");
        let uplink = usize::from(second.ip() == ip("10.0.4.2")) + 1;
        scene.world.set_interface_link(phone.node, uplink, dead);
        scene.talk(Duration::from_secs(20));
        let values = values(&scene);
        assert!(values.len() >= begun + 2, "seed {seed}: {values:?}");
        assert!(
            values.values().all(|ways| ways.len() == 1),
            "seed {seed}: {values:?}"
        );
        scene.assert_unbroken();
    }
}

/// Three uplinks and two, most of them behind NATs that give each destination an address of its own: there are more ways than
/// standbys.
#[test]
fn ways_that_there_is_no_room_for_are_not_asked_for_ever() {
    for role in ROLES {
        let mut world = World::new(17_118);
        let stun = address("198.51.100.1:3478");
        world.add_stun_server(Realm::INTERNET, stun, Link::new(ms(5)));
        let mut home = |outside: &str, delay, nat| {
            let (_, realm) = world.add_nat(Realm::INTERNET, ip(outside), Link::new(delay), nat);
            realm
        };
        let first = home(
            "203.0.113.17",
            ms(23),
            Nat::new(EndpointIndependent, AddressDependent),
        );
        let second = home(
            "203.0.113.33",
            ms(58),
            Nat::new(AddressDependent, AddressDependent),
        );
        let far = home(
            "203.0.113.113",
            ms(10),
            Nat::new(AddressAndPortDependent, EndpointIndependent),
        );
        let (inside, slow) = (Link::default(), Link::new(ms(58)));
        let host = world.add_host(first, &[ip("10.0.0.2")], inside);
        world.add_interface(host, second, &[ip("10.0.1.2")], inside);
        world.add_interface(host, Realm::INTERNET, &[ip("203.0.113.49")], slow);
        let other = world.add_host(far, &[ip("10.0.0.2")], inside);
        let link = Link::new(ms(30));
        world.add_interface(other, Realm::INTERNET, &[ip("203.0.113.129")], link);
        let agents = [(host, role), (other, role.opposite())]
            .map(|(host, role)| world.add_agent(host, with_stun(role, stun)).expect("room"));
        let mut peers = introduce(world, agents);
        peers.world.run_for(MINUTE);
        let since = peers.world.now();
        peers.world.run_for(MINUTE);
        for agent in agents {
            let checks = sent_by(&peers.world, agent.node)
                .filter(|packet| packet.sent >= since && packet.destination != stun)
                .filter(|packet| message(packet, Class::Request).is_some())
                .count();
            // Consent every 4 to 6 s on one path, and a check each 15 s on up to nine others.
            assert!(checks <= 15 + 9 * 4, "{role:?}: {checks}");
        }
        one_pair(&peers.world, agents);
    }
}

/// Were a connection free where datagrams cost something, the data would go there.
#[test]
fn a_tcp_candidate_tells_what_its_network_costs() {
    let mut world = World::new(1);
    let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::default());
    world.set_interface_cost(host, 0, 10);
    let mut config = AgentConfig::new(Role::Controlling);
    config.tcp = TcpCandidates::All;
    let agent = world.add_agent(host, config).expect("room");
    world.gather(agent).expect("open");
    world.run_for(MINUTE);
    let mut told = BTreeMap::new();
    for (_, event) in world.events(agent) {
        if let Event::Candidate(candidate) = event {
            let cost = { candidate.extensions.iter() }
                .find(|(name, _)| &**name == "network-cost")
                .map(|(_, value)| value.to_string());
            let transport = match candidate.transport {
                Transport::Tcp(_) => "tcp",
                _ => "udp",
            };
            told.entry(transport).or_insert_with(Vec::new).push(cost);
        }
    }
    let costs = |count| vec![Some("10".to_owned()); count];
    assert_eq!(told, BTreeMap::from([("tcp", costs(3)), ("udp", costs(1))]));
}

/// A check is answered before the server is, and so teaches the address first. The peer hears of it from the check on one
/// of its sockets only: it is told for the others, too.
#[test]
fn what_a_server_sees_is_told_also_where_a_check_has_taught_it_before() {
    for role in ROLES {
        let mut world = World::new(1);
        let stun = address("198.51.100.1:3478");
        world.add_stun_server(Realm::INTERNET, stun, Link::new(ms(100)));
        let (near, far) = (Link::new(ms(12)), Link::new(ms(60)));
        let nat = Nat::default();
        let (_, home) = world.add_nat(Realm::INTERNET, ip("203.0.113.1"), near, nat);
        let host = world.add_host(home, &[ip("10.0.0.2")], Link::default());
        let other = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], far);
        let a = world.add_agent(host, with_stun(role, stun)).expect("room");
        let config = AgentConfig::new(role.opposite());
        let b = world.add_agent(other, config).expect("room");
        let peers = introduce(world, [a, b]);
        let events = || peers.world.events(a).iter();
        let taught = events().find_map(|(at, event)| match event {
            Event::SelectedPairChange(pair) => Some((*at, pair.local.kind)),
            _ => None,
        });
        let told = events().find_map(|(at, event)| match event {
            Event::Candidate(candidate) if candidate.kind == CandidateType::Srflx => Some(*at),
            _ => None,
        });
        let (taught, kind) = taught.expect("a pair");
        assert_eq!(kind, CandidateType::Prflx, "{role:?}");
        assert!(told.is_some_and(|told| told > taught), "{role:?}: {told:?}");
    }
}
