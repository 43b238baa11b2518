//! The world itself: addresses, realms, NATs, wires, the trace.

use std::time::Duration;

use crate::common::{address, ip, ms};
use nilas_ice::Time;
use nilas_sim::{Dependence, Fate, Link, Nat, NodeId, Realm, Wire, World};
use nilas_stun::{Class, Message, MessageBuilder, Method, TransactionId};

fn binding_request(id: u8) -> Vec<u8> {
    let mut buffer = vec![0; 20];
    let id = TransactionId::new([id; 12]);
    let builder =
        MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
    assert_eq!(builder.finish(), 20);
    buffer
}

fn host(world: &mut World, realm: Realm, address: &str) -> NodeId {
    world.add_host(realm, &[ip(address)], Link::default())
}

fn last_fate(world: &World) -> Fate {
    world.trace().packets().last().expect("a packet").fate
}

/// Sends a request to the server; the answer is the address that the server saw.
fn seen_by_server(
    world: &mut World,
    node: NodeId,
    from: &str,
    server: &str,
) -> Option<std::net::SocketAddr> {
    let before = world.trace().packets().len();
    world.inject(node, address(from), address(server), &binding_request(1));
    world.run_for(Duration::from_secs(1));
    world.trace().packets()[before..].iter().find_map(|packet| {
        let message = Message::parse(&packet.payload).ok()?;
        message.xor_mapped_address().ok().flatten()
    })
}

#[test]
fn a_datagram_takes_the_delay_of_both_wires() {
    let mut world = World::new(1);
    let sender = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::new(ms(30)));
    let server = world.add_stun_server(
        Realm::INTERNET,
        address("192.0.2.2:3478"),
        Link::asymmetric(Wire::new(ms(1)), Wire::new(ms(4))),
    );
    world.inject(
        sender,
        address("192.0.2.1:9"),
        address("192.0.2.2:3478"),
        &binding_request(1),
    );
    world.run_for(Duration::from_secs(1));
    let at = Time::from_millis(34);
    let [request, answer] = world.trace().packets() else {
        panic!("two packets: {}", world.trace())
    };
    assert_eq!(
        request.fate,
        Fate::Delivered {
            at,
            node: server,
            source: address("192.0.2.1:9")
        }
    );
    assert_eq!(answer.sent, at);
    // The injected datagram came from no socket, so there is none for the answer.
    assert_eq!(answer.fate, Fate::NoSocket);
}

#[test]
fn datagrams_that_go_nowhere_say_why() {
    let mut world = World::new(1);
    let a = host(&mut world, Realm::INTERNET, "192.0.2.1");
    let b = host(&mut world, Realm::INTERNET, "192.0.2.2");
    let send = |world: &mut World, to: &str| {
        world.inject(a, address("192.0.2.1:1"), address(to), b"?");
        world.run_for(ms(1));
        last_fate(world)
    };
    assert_eq!(send(&mut world, "192.0.2.3:1"), Fate::NoRoute);
    assert_eq!(send(&mut world, "192.0.2.2:1"), Fate::NoSocket);
    world.set_up(b, false);
    assert_eq!(send(&mut world, "192.0.2.2:1"), Fate::NodeDown);
    world.set_up(b, true);
    assert_eq!(send(&mut world, "192.0.2.2:1"), Fate::NoSocket);
    world.set_up(a, false);
    assert_eq!(send(&mut world, "192.0.2.2:1"), Fate::NodeDown);
    world.set_up(a, true);
    world.set_link(b, Link::default().with_loss(1.0));
    assert_eq!(send(&mut world, "192.0.2.2:1"), Fate::Lost);
}

#[test]
fn a_wire_that_duplicates_leaves_copies_in_the_trace() {
    let mut world = World::new(1);
    let a = world.add_host(
        Realm::INTERNET,
        &[ip("192.0.2.1")],
        Link::default().with_duplication(1.0),
    );
    host(&mut world, Realm::INTERNET, "192.0.2.2");
    world.inject(a, address("192.0.2.1:1"), address("192.0.2.2:1"), b"twice");
    world.run_for(ms(1));
    let [original, copy] = world.trace().packets() else {
        panic!("two packets: {}", world.trace())
    };
    assert_eq!((original.copy_of, copy.copy_of), (None, Some(0)));
    assert_eq!((original.fate, copy.fate), (Fate::NoSocket, Fate::NoSocket));
}

#[test]
fn nested_nats_translate_both_ways() {
    let mut world = World::new(1);
    let server = "198.51.100.1:3478";
    world.add_stun_server(Realm::INTERNET, address(server), Link::default());
    let (_, carrier) = world.add_nat(
        Realm::INTERNET,
        ip("203.0.113.1"),
        Link::default(),
        Nat::default(),
    );
    let (_, home) = world.add_nat(carrier, ip("100.64.0.2"), Link::default(), Nat::default());
    let laptop = host(&mut world, home, "192.168.1.2");
    let seen = seen_by_server(&mut world, laptop, "192.168.1.2:5000", server).expect("an answer");
    assert_eq!(seen.ip(), ip("203.0.113.1"));
    // The answer came back to the laptop, where nobody listens; its source is the server.
    assert_eq!(last_fate(&world), Fate::NoSocket);
}

#[test]
fn realms_may_use_the_same_addresses() {
    let mut world = World::new(1);
    let server = "198.51.100.1:3478";
    world.add_stun_server(Realm::INTERNET, address(server), Link::default());
    let hosts = ["203.0.113.1", "203.0.113.2"].map(|outside| {
        let (_, home) = world.add_nat(
            Realm::INTERNET,
            ip(outside),
            Link::default(),
            Nat::default(),
        );
        (outside, host(&mut world, home, "192.168.1.2"))
    });
    for (outside, node) in hosts {
        let seen = seen_by_server(&mut world, node, "192.168.1.2:5000", server).expect("an answer");
        assert_eq!(seen.ip(), ip(outside));
    }
}

#[test]
fn a_nat_stops_what_nobody_asked_for() {
    let mut world = World::new(1);
    let (router, home) = world.add_nat(
        Realm::INTERNET,
        ip("203.0.113.1"),
        Link::default(),
        Nat::default(),
    );
    host(&mut world, home, "192.168.1.2");
    let stranger = host(&mut world, Realm::INTERNET, "192.0.2.1");
    world.inject(
        stranger,
        address("192.0.2.1:1"),
        address("203.0.113.1:20000"),
        b"?",
    );
    world.run_for(ms(1));
    assert_eq!(last_fate(&world), Fate::Filtered);
    world.set_up(router, false);
    world.inject(
        stranger,
        address("192.0.2.1:1"),
        address("203.0.113.1:20000"),
        b"?",
    );
    world.run_for(ms(1));
    assert_eq!(last_fate(&world), Fate::NodeDown);
}

#[test]
fn hairpins_lead_back_inside_only_where_the_nat_does_that() {
    for hairpin in [true, false] {
        let mut world = World::new(1);
        let kind = Dependence::EndpointIndependent;
        let mut nat = Nat::new(kind, kind);
        nat.hairpin = hairpin;
        let (_, home) = world.add_nat(Realm::INTERNET, ip("203.0.113.1"), Link::default(), nat);
        let server = "198.51.100.1:3478";
        world.add_stun_server(Realm::INTERNET, address(server), Link::default());
        let a = host(&mut world, home, "192.168.1.2");
        let b = host(&mut world, home, "192.168.1.3");
        let outside = seen_by_server(&mut world, b, "192.168.1.3:5000", server).expect("an answer");
        world.inject(a, address("192.168.1.2:5000"), outside, b"neighbour?");
        world.run_for(ms(1));
        // Inside, nobody listens on that port; but it was reached.
        assert_eq!(
            last_fate(&world),
            if hairpin {
                Fate::NoSocket
            } else {
                Fate::Filtered
            }
        );
    }
}

#[test]
fn neighbours_behind_a_nat_reach_each_other_without_it() {
    let mut world = World::new(1);
    let (_, home) = world.add_nat(
        Realm::INTERNET,
        ip("203.0.113.1"),
        Link::default(),
        Nat::default(),
    );
    let a = host(&mut world, home, "192.168.1.2");
    let server = world.add_stun_server(home, address("192.168.1.3:3478"), Link::default());
    world.inject(
        a,
        address("192.168.1.2:7"),
        address("192.168.1.3:3478"),
        &binding_request(1),
    );
    world.run_for(ms(1));
    let fate = world.trace().packets()[0].fate;
    assert_eq!(
        fate,
        Fate::Delivered {
            at: Time::ZERO,
            node: server,
            source: address("192.168.1.2:7")
        }
    );
}

#[test]
fn the_clock_stops_where_it_was_told() {
    let mut world = World::new(1);
    assert_eq!(world.run_until(ms(10), |_| false), None);
    assert_eq!(world.now(), Time::from_millis(10));
    assert_eq!(
        world.run_until(ms(10), |_| true),
        Some(Time::from_millis(10))
    );
}

#[test]
#[should_panic(expected = "192.0.2.1 has an owner")]
fn an_address_has_one_owner() {
    let mut world = World::new(1);
    host(&mut world, Realm::INTERNET, "192.0.2.1");
    host(&mut world, Realm::INTERNET, "192.0.2.1");
}
