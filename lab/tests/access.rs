//! Firewalls, second families, second uplinks and flags, found out with sockets.
#![cfg(target_os = "linux")]

mod probe;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use nilas_lab::{Lab, NAT64_PREFIX, Node, SERVER_V4, SERVER_V6, Uplink};
use probe::{Servers, any_socket, deliver, gets_through, lab, receive, socket, try_receive};

const HOME_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0x2001, 0xdb8, 0xa1, 0, 0, 0, 0, 0x10),
    Ipv6Addr::new(0x2001, 0xdb8, 0xb1, 0, 0, 0, 0, 0x10),
];

/// Builds it and sends a packet from both peers to the server over each family that they have.
fn both_reach_the_server(topology: &str) {
    let lab = lab(topology);
    let servers = Servers::on(&lab);
    let server_v6 = socket(&lab, Node::Server, SERVER_V6[0], 3478);
    for (node, spec) in [Node::A, Node::B].into_iter().zip(topology.split(',')) {
        let kind = spec.split('+').next().unwrap();
        if !["v6fw", "nat64"].contains(&kind) {
            servers.reflect(&any_socket(&lab, node));
        }
        if ["open", "v6fw", "dual", "nat64", "multi"].contains(&kind) {
            deliver(
                &socket(&lab, node, Ipv6Addr::UNSPECIFIED, 0),
                &server_v6,
                server_v6.local_addr().unwrap(),
            );
        }
    }
}

#[test]
fn every_kind_and_flag_builds_and_works() {
    for topology in [
        "open,open",
        "open,plain",
        "plain,same",
        "v6fw,same+",
        "cgn:plain:sym,cgn:apdm-adf:eim-eif",
        "cgn:sym:eim-apdf+hairpin,samecgn+overlap+mtu=1280+rate=9000+to=60",
        "v6fw,v6fw+mtu=1280",
        "dual,dual+to=30",
        "v6broken,dual+hairpin",
        "multi,multi",
        "multi+rate=5000+mtu=1400,plain+rate=20000",
        "eim-apdf+hairpin+to=6+mtu=1280+rate=9000,adm-adf+overlap",
    ] {
        // Two of them are there to be refused: the list must not hide what does not build.
        if topology == "v6fw,same+" || topology == "multi,multi" {
            assert!(topology.parse::<nilas_lab::Topology>().is_err());
            continue;
        }
        both_reach_the_server(topology);
    }
}

#[test]
fn a_stateful_firewall_lets_in_answers_only() {
    let lab = lab("v6fw,v6fw");
    let [a, b] = [(Node::A, HOME_V6[0]), (Node::B, HOME_V6[1])]
        .map(|(node, at)| socket(&lab, node, at, 5000));
    let (at_a, at_b) = (a.local_addr().unwrap(), b.local_addr().unwrap());
    let server = socket(&lab, Node::Server, SERVER_V6[0], 3478);
    let at_server = server.local_addr().unwrap();
    assert_eq!(deliver(&a, &server, at_server), at_a);
    assert!(!gets_through((&b, at_a), (&server, at_a), &a));
    // Its own packet, though dropped at the other end, has opened the way for the other's.
    deliver(&a, &b, at_b);
    deliver(&b, &a, at_a);
}

#[test]
fn dual_has_both_families_and_broken_ipv6_has_no_way_back() {
    let lab = lab("dual,v6broken");
    let server = socket(&lab, Node::Server, SERVER_V6[0], 3478);
    let at_server = server.local_addr().unwrap();
    let a = socket(&lab, Node::A, HOME_V6[0], 5000);
    deliver(&a, &server, at_server);
    deliver(&server, &a, a.local_addr().unwrap());
    let b = socket(&lab, Node::B, HOME_V6[1], 5000);
    let at_b = b.local_addr().unwrap();
    deliver(&b, &server, at_server);
    let _ = server.send_to(b"lost", at_b);
    let neighbour = socket(&lab, Node::HomeB, Ipv6Addr::UNSPECIFIED, 0);
    assert!(!gets_through((&server, at_b), (&neighbour, at_b), &b));
}

#[test]
fn nat64_reaches_ipv4_from_ipv6() {
    let lab = lab("nat64,plain");
    let server = socket(&lab, Node::Server, SERVER_V4[0], 3478);
    let a = socket(&lab, Node::A, HOME_V6[0], 5000);
    // RFC 6052 section 2.2: a prefix of 96 bits, and the address behind it.
    let address = Ipv6Addr::from_bits(NAT64_PREFIX.to_bits() | u128::from(SERVER_V4[0].to_bits()));
    // The translator is a program, which may not have read its configuration yet.
    server
        .set_read_timeout(Some(Duration::from_millis(100)))
        .unwrap();
    let (_, source) = (0..100)
        .find_map(|_| {
            a.send_to(b"hello", (address, 3478)).unwrap();
            try_receive(&server).ok()
        })
        .expect("nothing came through the translator");
    assert_eq!(
        Some(source.ip()),
        lab.public_address(Uplink::A).map(IpAddr::V4)
    );
    server.send_to(b"answer", source).unwrap();
    let (text, from) = receive(&a);
    assert_eq!((text.as_str(), from.ip()), ("answer", IpAddr::V6(address)));
}

#[test]
fn multi_has_two_ways_out_at_once() {
    let lab = lab("multi,plain");
    let servers = Servers::on(&lab);
    let wifi = servers.reflect(&socket(&lab, Node::A, Ipv4Addr::new(192, 168, 1, 10), 0));
    let mobile = servers.reflect(&socket(&lab, Node::A, Ipv4Addr::new(10, 7, 0, 10), 0));
    assert_eq!(
        Some(wifi.ip()),
        lab.public_address(Uplink::A).map(IpAddr::V4)
    );
    assert_eq!(
        Some(mobile.ip()),
        lab.public_address(Uplink::Cell).map(IpAddr::V4)
    );
}

/// Whether the first peer can connect to the server by TCP. What should be let through is waited for, what should not is soon
/// taken for swallowed.
fn connects(lab: &Lab, server: impl Into<IpAddr>, port: u16, expected: bool) -> bool {
    let address = SocketAddr::new(server.into(), port);
    let patience = match expected {
        true => Duration::from_secs(60),
        false => Duration::from_millis(500),
    };
    let listener = lab
        .run_in(Node::Server, || TcpListener::bind(address))
        .unwrap()
        .unwrap();
    let connected = lab
        .run_in(Node::A, || TcpStream::connect_timeout(&address, patience))
        .unwrap();
    drop(listener);
    connected.is_ok()
}

#[test]
fn blocked_udp_leaves_the_ports_that_each_flag_names() {
    for (flag, allowed) in [
        ("udpblock", &[80, 443][..]),
        ("tcp443", &[443]),
        ("strict443", &[443]),
    ] {
        for kind in ["plain", "dual"] {
            let lab = lab(&format!("{kind}+{flag},open"));
            let servers = Servers::on(&lab);
            let (a, b) = (any_socket(&lab, Node::A), any_socket(&lab, Node::B));
            let server = &servers.sockets[0][0];
            let at_server = servers.addresses[0][0];
            assert!(
                !gets_through((&a, at_server), (&b, at_server), server),
                "{flag}"
            );
            for port in [80, 443, 8080] {
                let expected = allowed.contains(&port);
                assert_eq!(
                    connects(&lab, SERVER_V4[0], port, expected),
                    expected,
                    "{kind}+{flag} {port}"
                );
            }
            if kind == "dual" {
                assert!(connects(&lab, SERVER_V6[0], 443, true));
                assert!(!connects(&lab, SERVER_V6[0], 8080, false));
                let (a, b) = (
                    socket(&lab, Node::A, HOME_V6[0], 0),
                    socket(&lab, Node::B, Ipv6Addr::UNSPECIFIED, 0),
                );
                let server = socket(&lab, Node::Server, SERVER_V6[0], 3478);
                let at_server = server.local_addr().unwrap();
                assert!(
                    !gets_through((&a, at_server), (&b, at_server), &server),
                    "{flag} over IPv6"
                );
            }
        }
    }
}

#[test]
fn a_udp_timeout_is_when_silence_closes_the_way() {
    let lab = lab("eim-eif+to=2,plain+to=2");
    let servers = Servers::on(&lab);
    let server = &servers.sockets[0][0];
    let silent = [Node::A, Node::B].map(|node| any_socket(&lab, node));
    let kept_alive = [Node::A, Node::B].map(|node| any_socket(&lab, node));
    let seen = [&silent[0], &silent[1], &kept_alive[0], &kept_alive[1]]
        .map(|socket| servers.reflect(socket));
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(500));
        for socket in &kept_alive {
            servers.reflect(socket);
        }
    }
    for socket in [&silent[0], &silent[1]] {
        socket.set_nonblocking(true).unwrap();
    }
    for address in seen {
        server.send_to(b"still there?", address).unwrap();
    }
    for socket in &kept_alive {
        assert_eq!(receive(socket).0, "still there?");
    }
    for socket in &silent {
        assert!(try_receive(socket).is_err());
    }
}

#[test]
fn a_small_path_mtu_swallows_what_is_larger() {
    let lab = lab("plain+mtu=1280,plain");
    let servers = Servers::on(&lab);
    let (a, [[server, _], _]) = (any_socket(&lab, Node::A), &servers.sockets);
    // 20 bytes of IP and 8 of UDP make 1280 out of 1252.
    for (from, to) in [(&a, servers.addresses[0][0]), (server, servers.reflect(&a))] {
        from.send_to(&[b'x'; 1253], to).unwrap();
        from.send_to(&[b'y'; 1252], to).unwrap();
    }
    for socket in [server, &a] {
        let (text, _) = receive(socket);
        assert_eq!(text, "y".repeat(1252));
    }
}

#[test]
fn loss_and_rate_flags_lose_packets_on_their_way_only() {
    const PACKETS: u32 = 1_000;
    for (flag, up, down) in [
        ("loss=20", 650..950, 650..950),
        ("lossin=20", PACKETS..PACKETS + 1, 650..950),
        ("lossout=100", 0..1, PACKETS..PACKETS + 1),
        // A megabyte at once, of which the queue holds a tenth of a second.
        ("rate=1000", 1..500, 1..500),
    ] {
        let lab = lab(&format!("open+{flag},open"));
        let size = if flag.starts_with("rate") { 1_000 } else { 10 };
        let (a, server) = (
            any_socket(&lab, Node::A),
            socket(&lab, Node::Server, SERVER_V4[0], 3478),
        );
        let at_a = SocketAddr::new(
            lab.public_address(Uplink::A).unwrap().into(),
            a.local_addr().unwrap().port(),
        );
        for (from, to, at, wanted) in [
            (&a, &server, server.local_addr().unwrap(), up),
            (&server, &a, at_a, down),
        ] {
            let mut arrived = 0;
            to.set_nonblocking(true).unwrap();
            for _ in 0..PACKETS {
                // A full queue of its own is loss too.
                let _ = from.send_to(&vec![0; size], at);
                while try_receive(to).is_ok() {
                    arrived += 1;
                }
            }
            to.set_nonblocking(false).unwrap();
            to.set_read_timeout(Some(Duration::from_millis(500)))
                .unwrap();
            while try_receive(to).is_ok() {
                arrived += 1;
            }
            assert!(
                wanted.contains(&arrived),
                "{flag}: {arrived} of {PACKETS} arrived at {at}, wanted {wanted:?}"
            );
        }
    }
}
