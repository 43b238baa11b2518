//! Routers, firewalls, translators and interfaces, seen by sockets that are no agents.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::{address, ip, ms};
use nilas_sim::{
    Dependence, Fate, Firewall, Inbound, IpNet, Link, Nat, NodeId, Ports, Realm, Router, UdpSocket,
    World, WorldError,
};

fn net(text: &str) -> IpNet {
    text.parse().expect("a network")
}

fn host(world: &mut World, realm: Realm, addresses: &[&str]) -> NodeId {
    let addresses: Vec<_> = addresses.iter().map(|text| ip(text)).collect();
    world.add_host(realm, &addresses, Link::default())
}

/// A host with one address, and a socket on it.
fn peer(world: &mut World, realm: Realm, at: &str) -> UdpSocket {
    let at = address(at);
    let node = world.add_host(realm, &[at.ip()], Link::default());
    world.bind_udp(node, at).expect("a socket")
}

/// Sends a datagram; the answer is where it seemed to come from, or what became of it.
fn send(
    world: &mut World,
    from: UdpSocket,
    destination: SocketAddr,
    to: UdpSocket,
) -> Result<SocketAddr, Fate> {
    world.take_udp(to);
    world.send_udp(from, destination, b"?");
    let packet = world.trace().packets().len() - 1;
    world.run_for(ms(1));
    match world.take_udp(to).first() {
        Some(received) => Ok(received.from),
        None => Err(world.trace().packets()[packet].fate),
    }
}

#[test]
fn a_firewall_routes_and_lets_in_what_was_asked_for() {
    let mut world = World::new(1);
    let router = Router::new()
        .with_prefix(net("2001:db8:a1::/64"))
        .with_firewall(Firewall::stateful());
    let (router, home) = world.add_router(Realm::INTERNET, Link::default(), router);
    let inside = peer(&mut world, home, "[2001:db8:a1::10]:5");
    let outside = peer(&mut world, Realm::INTERNET, "[2001:db8:5::10]:6");
    let inwards = |world: &mut World| send(world, outside, inside.address, inside);
    assert_eq!(inwards(&mut world), Err(Fate::Filtered));
    assert_eq!(
        send(&mut world, inside, outside.address, outside),
        Ok(inside.address)
    );
    assert_eq!(inwards(&mut world), Ok(outside.address));
    world.reboot(router);
    assert_eq!(inwards(&mut world), Err(Fate::Filtered));
    assert_eq!(
        world.trace().packets().last().expect("a packet").place,
        Some(router)
    );
}

#[test]
fn an_ipv6_prefix_without_a_way_back_is_never_answered() {
    let mut world = World::new(1);
    let router = Router::new()
        .with_prefix(net("2001:db8:a1::/64"))
        .without_way_back();
    let (_, home) = world.add_router(Realm::INTERNET, Link::default(), router);
    let inside = peer(&mut world, home, "[2001:db8:a1::10]:5");
    let outside = peer(&mut world, Realm::INTERNET, "[2001:db8:5::10]:6");
    assert!(send(&mut world, inside, outside.address, outside).is_ok());
    assert_eq!(
        send(&mut world, outside, inside.address, inside),
        Err(Fate::NoRoute)
    );
}

#[test]
fn an_address_of_a_routed_network_that_nobody_has_is_nowhere() {
    let mut world = World::new(1);
    let router = Router::new().with_prefix(net("2001:db8:a1::/64"));
    let (_, home) = world.add_router(Realm::INTERNET, Link::default(), router);
    let inside = peer(&mut world, home, "[2001:db8:a1::10]:5");
    let outside = peer(&mut world, Realm::INTERNET, "[2001:db8:5::10]:6");
    for from in [inside, outside] {
        assert_eq!(
            send(&mut world, from, address("[2001:db8:a1::99]:7"), from),
            Err(Fate::NoRoute)
        );
    }
}

#[test]
fn a_home_of_both_families_translates_one_and_routes_the_other() {
    let mut world = World::new(1);
    let router = Router::new()
        .with_nat(&[ip("203.0.113.7")], Nat::default())
        .with_prefix(net("2001:db8:a1::/64"))
        .with_firewall(Firewall::stateful());
    let (_, home) = world.add_router(Realm::INTERNET, Link::default(), router);
    let laptop = host(&mut world, home, &["192.168.1.2", "2001:db8:a1::2"]);
    let [v4, v6] = ["192.168.1.2:5", "[2001:db8:a1::2]:5"]
        .map(|at| world.bind_udp(laptop, address(at)).expect("a socket"));
    let outside4 = peer(&mut world, Realm::INTERNET, "192.0.2.1:6");
    let outside6 = peer(&mut world, Realm::INTERNET, "[2001:db8:5::1]:6");
    let seen = send(&mut world, v4, outside4.address, outside4).expect("it passes");
    assert_eq!(seen.ip(), ip("203.0.113.7"));
    assert!(send(&mut world, outside4, seen, v4).is_ok());
    assert_eq!(
        send(&mut world, v6, outside6.address, outside6),
        Ok(v6.address)
    );
}

#[test]
fn blocked_ports_are_blocked_in_both_directions() {
    let mut world = World::new(1);
    let mut firewall = Firewall::open();
    firewall.udp = Ports::None;
    let router = Router::new()
        .with_prefix(net("192.0.2.0/28"))
        .with_firewall(firewall.clone());
    let (router, office) = world.add_router(Realm::INTERNET, Link::default(), router);
    let inside = peer(&mut world, office, "192.0.2.1:5");
    let outside = peer(&mut world, Realm::INTERNET, "198.51.100.1:3478");
    for (from, to) in [(inside, outside), (outside, inside)] {
        assert_eq!(send(&mut world, from, to.address, to), Err(Fate::Blocked));
    }
    firewall.udp = Ports::Only(vec![3478]);
    world.set_firewall(router, firewall);
    for (from, to) in [(inside, outside), (outside, inside)] {
        assert_eq!(send(&mut world, from, to.address, to), Ok(from.address));
    }
}

#[test]
fn a_firewall_looks_at_addresses_only_if_told_so() {
    let mut world = World::new(1);
    let mut firewall = Firewall::open();
    firewall.inbound = Inbound::Answers(Dependence::EndpointIndependent);
    let router = Router::new()
        .with_prefix(net("2001:db8:a1::/64"))
        .with_firewall(firewall);
    let (_, home) = world.add_router(Realm::INTERNET, Link::default(), router);
    let inside = peer(&mut world, home, "[2001:db8:a1::10]:5");
    let first = peer(&mut world, Realm::INTERNET, "[2001:db8:5::10]:6");
    let second = peer(&mut world, Realm::INTERNET, "[2001:db8:5::11]:6");
    assert!(send(&mut world, inside, first.address, first).is_ok());
    assert!(send(&mut world, second, inside.address, inside).is_ok());
}

#[test]
fn a_translator_gives_an_ipv6_network_the_ipv4_internet() {
    let mut world = World::new(1);
    let router = Router::new()
        .with_nat(&[ip("203.0.113.7")], Nat::default())
        .with_nat64("64:ff9b::/96".parse().expect("a prefix"));
    let (_, home) = world.add_router(Realm::INTERNET, Link::default(), router);
    let inside = peer(&mut world, home, "[2001:db8:a1::10]:5");
    let outside = peer(&mut world, Realm::INTERNET, "192.0.2.1:6");
    let far = address("[64:ff9b::192.0.2.1]:6");
    let seen = send(&mut world, inside, far, outside).expect("it passes");
    assert_eq!(seen.ip(), ip("203.0.113.7"));
    // The answer comes from the address that was sent to.
    assert_eq!(send(&mut world, outside, seen, inside), Ok(far));
    // The IPv6 Internet was not promised.
    let elsewhere = peer(&mut world, Realm::INTERNET, "[2001:db8:5::1]:6");
    assert_eq!(
        send(&mut world, inside, elsewhere.address, elsewhere),
        Err(Fate::NoRoute)
    );
    world.check().expect("the host has a way out");
}

#[test]
fn subnets_of_a_router_reach_each_other_and_share_its_nat() {
    let mut world = World::new(1);
    let router = Router::new().with_nat(&[ip("203.0.113.7")], Nat::default());
    let (router, first) = world.add_router(Realm::INTERNET, Link::default(), router);
    let second = world
        .add_subnet(router, &[net("10.2.0.0/16")])
        .expect("a network of its own");
    let a = peer(&mut world, first, "10.1.0.1:5");
    let b = peer(&mut world, second, "10.2.0.1:5");
    let outside = peer(&mut world, Realm::INTERNET, "192.0.2.1:6");
    assert_eq!(send(&mut world, a, b.address, b), Ok(a.address));
    for inside in [a, b] {
        let seen = send(&mut world, inside, outside.address, outside).expect("it passes");
        assert_eq!(seen.ip(), ip("203.0.113.7"));
        assert!(send(&mut world, outside, seen, inside).is_ok());
    }
    assert!(matches!(
        world.add_subnet(router, &[net("10.2.3.0/24")]),
        Err(WorldError::PrefixTaken { .. })
    ));
}

#[test]
fn a_router_that_is_renumbered_has_new_mappings() {
    let mut world = World::new(1);
    let (router, home) = world.add_nat(
        Realm::INTERNET,
        ip("203.0.113.7"),
        Link::default(),
        Nat::default(),
    );
    let inside = peer(&mut world, home, "192.168.1.2:5");
    let outside = peer(&mut world, Realm::INTERNET, "192.0.2.1:6");
    let before = send(&mut world, inside, outside.address, outside).expect("it passes");
    world
        .renumber(router, &[ip("203.0.113.8")])
        .expect("a free address");
    assert_eq!(
        send(&mut world, outside, before, inside),
        Err(Fate::NoRoute)
    );
    let after = send(&mut world, inside, outside.address, outside).expect("it passes");
    assert_eq!(after.ip(), ip("203.0.113.8"));
    assert!(send(&mut world, outside, after, inside).is_ok());
    // Refused, and nothing has changed.
    assert!(matches!(
        world.renumber(router, &[ip("192.0.2.1")]),
        Err(WorldError::AddressTaken { .. })
    ));
    assert!(matches!(
        world.renumber(router, &[ip("2001:db8::1")]),
        Err(WorldError::NatAddresses { .. })
    ));
    assert_eq!(
        send(&mut world, inside, outside.address, outside),
        Ok(after)
    );
}

#[test]
fn interfaces_go_come_back_and_change_their_network() {
    let mut world = World::new(1);
    let laptop = host(&mut world, Realm::INTERNET, &["192.0.2.1"]);
    let socket = world
        .bind_udp(laptop, address("192.0.2.1:5"))
        .expect("a socket");
    let outside = peer(&mut world, Realm::INTERNET, "192.0.2.9:6");
    world.remove_interface(laptop, 0);
    assert_eq!(
        send(&mut world, socket, outside.address, outside),
        Err(Fate::NoRoute)
    );
    assert_eq!(
        send(&mut world, outside, socket.address, socket),
        Err(Fate::NoRoute)
    );
    let (_, home) = world.add_nat(
        Realm::INTERNET,
        ip("203.0.113.7"),
        Link::default(),
        Nat::default(),
    );
    let taken = world.move_interface(laptop, 0, home, &[ip("192.168.1.2")], Link::new(ms(1)));
    assert_eq!(taken, Ok(()));
    let there = world
        .bind_udp(laptop, address("192.168.1.2:5"))
        .expect("a socket");
    world.send_udp(there, outside.address, b"from elsewhere");
    world.run_for(ms(5));
    assert_eq!(world.take_udp(outside)[0].from.ip(), ip("203.0.113.7"));
    // An address that somebody has is refused, and nothing has changed.
    let refused = world.move_interface(
        laptop,
        0,
        Realm::INTERNET,
        &[ip("192.0.2.9")],
        Link::default(),
    );
    assert!(matches!(refused, Err(WorldError::AddressTaken { .. })));
    world.send_udp(there, outside.address, b"still there");
    world.run_for(ms(5));
    assert_eq!(world.take_udp(outside).len(), 1);
}

#[test]
fn multicast_reaches_everybody_on_a_link_and_nobody_beyond() {
    let mut world = World::new(1);
    let (_, home) = world.add_nat(
        Realm::INTERNET,
        ip("203.0.113.7"),
        Link::default(),
        Nat::default(),
    );
    let [a, b, c] = [2, 3, 4].map(|n| peer(&mut world, home, &format!("192.168.1.{n}:5353")));
    let deaf = peer(&mut world, home, "192.168.1.5:9");
    let outside = peer(&mut world, Realm::INTERNET, "192.0.2.9:5353");
    world.send_udp(a, address("224.0.0.251:5353"), b"who is there?");
    world.run_for(ms(1));
    let heard = [a, b, c, deaf, outside].map(|socket| world.take_udp(socket).len());
    assert_eq!(heard, [0, 1, 1, 0, 0]);
}

#[test]
fn a_world_that_makes_no_sense_is_refused_with_the_place_and_the_reason() {
    let mut world = World::new(1);
    let addresses = [ip("192.0.2.1")];
    world.add_host(Realm::INTERNET, &addresses, Link::default());
    let refused = |error: WorldError, sentence: &str| assert_eq!(error.to_string(), sentence);
    refused(
        world
            .try_add_host(Realm::INTERNET, &addresses, Link::default())
            .expect_err("taken"),
        "192.0.2.1 has an owner in the Internet already: node 0; give node 1 another address",
    );
    refused(
        world
            .try_add_host(Realm::INTERNET, &[], Link::default())
            .expect_err("no address"),
        "node 1 has no address: give it one",
    );
    let mut other = World::new(1);
    let (_, elsewhere) = other.add_nat(
        Realm::INTERNET,
        ip("203.0.113.7"),
        Link::default(),
        Nat::default(),
    );
    refused(
        world
            .try_add_host(elsewhere, &[ip("10.0.0.1")], Link::default())
            .expect_err("another world's"),
        "realm 1 is of another world: take Realm::INTERNET, or one that this world gave",
    );
    refused(
        world
            .try_add_host(
                Realm::INTERNET,
                &[ip("192.0.2.2")],
                Link::default().with_loss(5.0),
            )
            .expect_err("no probability"),
        "the link of node 1 has a probability of loss that is not between 0 and 1",
    );
    let router = || Router::new().with_prefix(net("2001:db8:a1::/64"));
    world.add_router(Realm::INTERNET, Link::default(), router());
    refused(
        world
            .try_add_router(Realm::INTERNET, Link::default(), router())
            .expect_err("taken"),
        "node 2 is to route 2001:db8:a1::/64, but node 1 routes 2001:db8:a1::/64: give them networks that do not overlap",
    );
    for router in [
        Router::new().with_nat(&[], Nat::default()),
        Router::new().with_nat(&[ip("203.0.113.1"), ip("2001:db8::1")], Nat::default()),
        Router::new()
            .with_nat(&[ip("203.0.113.1")], Nat::default())
            .with_nat(&[ip("203.0.113.2")], Nat::default()),
    ] {
        let refusal = world.try_add_router(Realm::INTERNET, Link::default(), router);
        assert!(matches!(refusal, Err(WorldError::NatAddresses { .. })));
    }
    let router = Router::new().with_nat64("64:ff9b::/96".parse().expect("a prefix"));
    let refusal = world.try_add_router(Realm::INTERNET, Link::default(), router);
    assert!(matches!(refusal, Err(WorldError::Translator { .. })));
    // None of the refused left anything behind.
    assert_eq!(world.check(), Ok(()));
    let nowhere = world.add_realm();
    let lost = world.add_host(nowhere, &[ip("10.0.0.1")], Link::default());
    refused(
        world.check().expect_err("no route"),
        &format!(
            "{lost} is alone with 10.0.0.1 in {nowhere}: no router there passes its family, so it reaches nobody"
        ),
    );
}

#[test]
fn bursts_reordering_and_rates_are_the_same_for_the_same_seed() {
    let run = |seed| {
        let mut world = World::new(seed);
        let link = Link::new(ms(5)).with(|wire| {
            wire.jitter = ms(3);
            wire.loss = 0.05;
            wire.reordering = 0.1;
            wire.duplication = 0.05;
            wire.bits_per_second = Some(200_000);
            wire.bursts = Some(nilas_sim::Bursts {
                begin: 0.05,
                end: 0.3,
                loss: 0.8,
            });
        });
        let a = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], link);
        let a = world.bind_udp(a, address("192.0.2.1:5")).expect("a socket");
        let b = peer(&mut world, Realm::INTERNET, "192.0.2.2:5");
        for n in 0..500_u16 {
            world.send_udp(a, b.address, &n.to_be_bytes());
            world.run_for(ms(1));
        }
        world.run_for(Duration::from_secs(1));
        let packets = world.trace().packets();
        let fate = |wanted| packets.iter().filter(|p| p.fate == wanted).count();
        assert!(fate(Fate::Lost) > 20);
        assert!(packets.iter().any(|packet| packet.copy_of.is_some()));
        let order: Vec<_> = world.take_udp(b).into_iter().map(|r| r.payload).collect();
        assert!(!order.is_sorted());
        world.trace().to_string()
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_trace_that_forgets_goes_on_with_what_comes() {
    let mut world = World::new(1);
    let mut slow = Link::new(ms(10));
    slow.up.duplication = 1.0;
    let a = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], slow);
    let a = world.bind_udp(a, address("192.0.2.1:5")).expect("a socket");
    let b = peer(&mut world, Realm::INTERNET, "192.0.2.2:5");
    world.send_udp(a, b.address, b"under way");
    world.forget_packets();
    assert_eq!(world.trace().packets(), []);
    world.run_for(ms(20));
    // It arrives, twice, and nothing is told of it.
    assert_eq!(world.take_udp(b).len(), 2);
    assert_eq!(world.trace().packets(), []);
    world.send_udp(b, a.address, b"and back");
    world.run_for(ms(20));
    let [back] = world.trace().packets() else {
        panic!("one packet: {}", world.trace())
    };
    assert!(matches!(back.fate, Fate::Delivered { .. }));
}
