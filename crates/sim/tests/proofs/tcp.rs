//! TCP over the wires, NATs and firewalls of a world.

use std::time::Duration;

use crate::common::{address, ip, ms};
use nilas_ice::Time;
use nilas_sim::{
    End, Fate, Firewall, Link, Nat, NodeId, Ports, Realm, Router, TcpListener, TcpStream, World,
};

const SERVER: &str = "198.51.100.1:443";
const CLIENT: &str = "192.0.2.1:0";

/// A client and a server on the Internet, a round trip of 40 ms apart.
fn world(link: Link, secure: bool) -> (World, NodeId, TcpListener) {
    let mut world = World::new(1);
    let client = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], link);
    let server = world.add_host(Realm::INTERNET, &[ip("198.51.100.1")], Link::new(ms(10)));
    let listener = world
        .listen_tcp(server, address(SERVER), secure)
        .expect("a free port");
    (world, client, listener)
}

fn connect(world: &mut World, client: NodeId, secure: bool) -> TcpStream {
    world
        .connect_tcp(client, address(CLIENT), address(SERVER), secure)
        .expect("a free port")
}

fn after(world: &mut World, duration: Duration, stream: TcpStream) -> Option<Time> {
    world.run_for(duration);
    world.tcp_ready_at(stream)
}

/// Both ends of a connection.
fn connected(link: Link, secure: bool) -> (World, TcpStream, TcpStream) {
    let (mut world, client, listener) = world(link, secure);
    let here = connect(&mut world, client, secure);
    world.run_for(Duration::from_secs(20));
    let there = world.accept_tcp(listener)[0];
    (world, here, there)
}

#[test]
fn to_connect_takes_a_round_trip_and_a_handshake_another() {
    for (secure, round_trips) in [(false, 1), (true, 2)] {
        let (mut world, client, listener) = world(Link::new(ms(10)), secure);
        let stream = connect(&mut world, client, secure);
        let ready = after(&mut world, ms(500), stream);
        assert_eq!(ready, Some(Time::from_millis(40 * round_trips)));
        assert_eq!(world.accept_tcp(listener).len(), 1);
        assert_eq!(world.accept_tcp(listener), []);
    }
}

#[test]
fn a_client_that_lost_its_connection_gets_another_from_the_same_port() {
    let (mut world, client, listener) = world(Link::new(ms(10)), false);
    let local = address("192.0.2.1:7000");
    let connect = |world: &mut World| {
        world
            .connect_tcp(client, local, address(SERVER), false)
            .expect("a free port")
    };
    let first = connect(&mut world);
    world.run_for(ms(100));
    let [there] = world.accept_tcp(listener)[..] else {
        panic!("not accepted")
    };
    // Both ends are open, and the client's farewell does not arrive.
    assert!(world.send_tcp(first, b"hello") && world.send_tcp(there, b"hello"));
    world.run_for(ms(100));
    world.forget_tcp(first);
    let second = connect(&mut world);
    world.run_for(Duration::from_secs(3));
    assert!(world.tcp_ready_at(second).is_some());
    assert!(matches!(world.tcp_end(there), Some((_, End::Reset))));
    assert_eq!(world.accept_tcp(listener).len(), 1);
}

#[test]
fn a_lost_syn_costs_a_second() {
    let (mut world, client, _) = world(Link::new(ms(10)).with_loss(1.0), false);
    let stream = connect(&mut world, client, false);
    world.run_for(ms(500));
    world.set_link(client, Link::new(ms(10)));
    let ready = after(&mut world, Duration::from_secs(2), stream);
    assert_eq!(ready, Some(Time::from_millis(1_040)));
}

#[test]
fn syns_that_nobody_answers_are_given_up_after_63_seconds() {
    let (mut world, client, _) = world(Link::new(ms(10)).with_loss(1.0), false);
    let stream = connect(&mut world, client, false);
    world.run_for(Duration::from_secs(100));
    assert_eq!(
        world.tcp_end(stream),
        Some((Time::from_millis(63_000), End::TimedOut))
    );
    assert_eq!(world.trace().packets().len(), 6);
}

#[test]
fn where_nobody_listens_a_connection_is_refused() {
    let (mut world, client, _) = world(Link::new(ms(10)), false);
    let stream = world
        .connect_tcp(client, address(CLIENT), address("198.51.100.1:444"), false)
        .expect("a free port");
    world.run_for(ms(500));
    assert_eq!(
        world.tcp_end(stream),
        Some((Time::from_millis(40), End::Refused))
    );
}

#[test]
fn who_does_not_speak_like_tls_is_found_out() {
    // The server wants a handshake and gets something else.
    let (mut world, client, listener) = world(Link::new(ms(10)), true);
    let stream = connect(&mut world, client, false);
    world.run_for(ms(100));
    assert!(world.send_tcp(stream, b"GET / HTTP/1.1"));
    world.run_for(ms(100));
    assert_eq!(world.tcp_end(stream).map(|(_, end)| end), Some(End::Reset));
    assert_eq!(world.accept_tcp(listener), []);
}

#[test]
fn bytes_arrive_in_order_whatever_the_wires_do() {
    let link = Link::new(ms(10)).with(|wire| {
        wire.loss = 0.1;
        wire.jitter = ms(20);
        wire.duplication = 0.05;
        wire.reordering = 0.1;
    });
    let (mut world, here, there) = connected(link, true);
    let sent: Vec<u8> = (0..200_000_u32).map(|n| (n / 7) as u8).collect();
    assert!(world.send_tcp(here, &sent));
    assert!(world.send_tcp(there, b"and back"));
    let mut received = Vec::new();
    let done = world.run_until(Duration::from_secs(600), |_| false);
    assert_eq!(done, None);
    received.extend(world.take_tcp(there));
    assert!(received == sent, "{} bytes", received.len());
    assert_eq!(world.take_tcp(here), b"and back");
    assert!(world.trace().packets().iter().any(|p| p.fate == Fate::Lost));
}

#[test]
fn a_slow_wire_carries_what_it_can() {
    // A megabit a second: 125,000 bytes and their headers take a little more than a second.
    let link = Link::new(ms(10)).with(|wire| wire.bits_per_second = Some(1_000_000));
    let (mut world, here, there) = connected(link, false);
    let began = world.now();
    assert!(world.send_tcp(here, &[7; 125_000]));
    let mut count = 0;
    while count < 125_000 {
        world.run_for(ms(10));
        count += world.take_tcp(there).len();
        assert!(world.now().since(began) < ms(5_000), "{count} bytes");
    }
    assert!(world.now().since(began) > ms(1_000));
}

#[test]
fn closing_lets_what_was_written_arrive() {
    let (mut world, here, there) = connected(Link::new(ms(10)), false);
    assert!(world.send_tcp(here, &[1; 50_000]));
    world.close_tcp(here);
    assert!(!world.send_tcp(here, b"too late"));
    world.run_for(Duration::from_secs(5));
    assert_eq!(world.take_tcp(there).len(), 50_000);
    assert_eq!(
        world.tcp_end(there).map(|(_, end)| end),
        Some(End::Finished)
    );
    assert!(!world.send_tcp(there, b"too late"));
    // Nothing is left that would be sent again.
    let before = world.trace().packets().len();
    world.run_for(Duration::from_secs(600));
    assert_eq!(world.trace().packets().len(), before);
}

#[test]
fn a_firewall_leaves_its_open_ports_open_and_the_others_dark() {
    let mut world = World::new(1);
    let mut firewall = Firewall::open();
    firewall.udp = Ports::None;
    firewall.tcp = Ports::Only(vec![443]);
    let router = Router::new()
        .with_nat(&[ip("203.0.113.7")], Nat::default())
        .with_firewall(firewall);
    let (router, office) = world.add_router(Realm::INTERNET, Link::new(ms(10)), router);
    let client = world.add_host(office, &[ip("10.0.0.2")], Link::default());
    let server = world.add_host(Realm::INTERNET, &[ip("198.51.100.1")], Link::new(ms(10)));
    let mut streams = Vec::new();
    for port in [443, 3478] {
        let at = (ip("198.51.100.1"), port).into();
        world.listen_tcp(server, at, false).expect("a free port");
        let stream = world.connect_tcp(client, address("10.0.0.2:0"), at, false);
        streams.push(stream.expect("a free port"));
    }
    world.run_for(Duration::from_secs(70));
    assert_eq!(world.tcp_ready_at(streams[0]), Some(Time::from_millis(40)));
    assert_eq!(
        world.tcp_end(streams[1]).map(|(_, end)| end),
        Some(End::TimedOut)
    );
    // A NAT that has forgotten a connection lets nothing of it pass.
    world.reboot(router);
    assert!(world.send_tcp(streams[0], b"?"));
    world.run_for(ms(1));
    let last = world.trace().packets().last().expect("a packet");
    assert_eq!((last.fate, last.place), (Fate::Filtered, Some(router)));
}
