//! What wires do to packets between real sockets. What they do to frames exactly is tested in virtual
//! time beside `impairment`; here it is that frames go through them at all, both ways, and as a bound.
#![cfg(target_os = "linux")]

mod probe;

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use nilas_lab::{Direction, LabError, Node, Uplink, Wire};
use probe::{Servers, any_socket, lab, receive, wired_lab};

#[test]
fn no_packet_is_faster_than_the_delay_and_some_are_hardly_slower() {
    let lab = wired_lab("plain,plain", "delay=20");
    let servers = Servers::on(&lab);
    let a = any_socket(&lab, Node::A);
    let (server, at_server) = (&servers.sockets[0][0], servers.addresses[0][0]);
    let seen = servers.reflect(&a);
    let mut round_trips: Vec<Duration> = (0..20)
        .map(|_| {
            let begun = Instant::now();
            a.send_to(b"ping", at_server).unwrap();
            receive(server);
            server.send_to(b"pong", seen).unwrap();
            receive(&a);
            begun.elapsed()
        })
        .collect();
    round_trips.sort();
    println!(
        "round trips over 20 ms each way: {:?} to {:?}",
        round_trips[0], round_trips[19]
    );
    assert!(
        round_trips[0] >= Duration::from_millis(40),
        "{round_trips:?}"
    );
    // The best of twenty, and far more than it should take, so that a busy machine does not matter.
    assert!(
        round_trips[0] < Duration::from_millis(400),
        "{round_trips:?}"
    );
    let stats = lab.wire_stats(Uplink::A, Direction::Up).unwrap();
    assert!(stats.left >= 21, "{stats:?}");
}

#[test]
fn from_end_to_end_it_is_two_wires() {
    let lab = wired_lab("open,open", "delay=20");
    let (a, b) = (any_socket(&lab, Node::A), any_socket(&lab, Node::B));
    let at_b = (
        lab.public_address(Uplink::B).unwrap(),
        b.local_addr().unwrap().port(),
    );
    let begun = Instant::now();
    a.send_to(b"one way", at_b).unwrap();
    receive(&b);
    assert!(begun.elapsed() >= Duration::from_millis(40));
}

#[test]
fn loss_is_counted_and_settings_change_under_way() {
    let lab = wired_lab("multi,open", "loss=10,seed=5");
    let (b, server) = (any_socket(&lab, Node::B), any_socket(&lab, Node::Server));
    let at_server = (
        Ipv4Addr::new(203, 0, 113, 10),
        server.local_addr().unwrap().port(),
    );
    let send = |count: usize| {
        for _ in 0..count {
            b.send_to(b"x", at_server).unwrap();
        }
        // What was sent before this has been through the wire when it arrives.
        lab.set_wire(Uplink::B, Direction::Up, Wire::default())
            .unwrap();
        b.send_to(b"last", at_server).unwrap();
        let mut arrived = 0;
        while receive(&server).0 != "last" {
            arrived += 1;
        }
        arrived
    };
    // No address resolution may be lost.
    lab.set_wire(Uplink::B, Direction::Up, Wire::default())
        .unwrap();
    assert_eq!(send(100), 100);
    lab.set_wire(Uplink::B, Direction::Up, "loss=30,seed=5".parse().unwrap())
        .unwrap();
    let before = lab.wire_stats(Uplink::B, Direction::Up).unwrap();
    for _ in 0..100 {
        b.send_to(b"x", at_server).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    send(0);
    let stats = lab.wire_stats(Uplink::B, Direction::Up).unwrap();
    let lost = stats.lost - before.lost;
    assert!((10..55).contains(&lost), "{stats:?}");
    assert!(lab.wire_stats(Uplink::Cell, Direction::Down).is_some());
}

#[test]
fn settings_that_cannot_be_are_refused() {
    let lab = lab("open,open");
    assert_eq!(lab.wire_stats(Uplink::A, Direction::Up), None);
    let error = lab
        .set_wire(Uplink::A, Direction::Up, Wire::default())
        .unwrap_err();
    assert!(error.to_string().contains("has no wire"), "{error}");
    let lab = wired_lab("open,open", "");
    let nonsense = Wire {
        loss_percent: f64::NAN,
        ..Wire::default()
    };
    assert!(matches!(
        lab.set_wire(Uplink::A, Direction::Up, nonsense),
        Err(LabError::Wire(_))
    ));
}
