//! What happens to a network in the middle of a session.
#![cfg(target_os = "linux")]

mod probe;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use nilas_lab::{Event, Lab, LabError, Node, Uplink};
use probe::{Servers, any_socket, deliver, gets_through, lab, receive, socket};

fn happen(lab: &Lab, event: &str) {
    lab.event(event.parse().unwrap())
        .unwrap_or_else(|error| panic!("{event}: {error}"));
}

#[test]
fn a_flushed_nat_has_forgotten_whom_it_let_in_and_gives_the_same_port_again() {
    for kind in ["plain", "eim-eif", "eim-apdf", "eim-adf+hairpin"] {
        let lab = lab(&format!("{kind},open"));
        let servers = Servers::on(&lab);
        let (a, neighbour) = (any_socket(&lab, Node::A), any_socket(&lab, Node::HomeA));
        let seen = servers.reflect(&a);
        happen(&lab, "flush na");
        let at_a = SocketAddr::new(
            Ipv4Addr::new(192, 168, 1, 10).into(),
            a.local_addr().unwrap().port(),
        );
        assert!(
            !gets_through((&servers.sockets[0][0], seen), (&neighbour, at_a), &a),
            "{kind}"
        );
        assert_eq!(servers.reflect(&a), seen, "{kind}");
    }
}

#[test]
fn a_remapped_nat_gives_another_port() {
    let lab = lab("eim-eif,cgn:plain:eim-apdf");
    let servers = Servers::on(&lab);
    for (node, box_of) in [(Node::A, "remap na"), (Node::B, "remap cb")] {
        let socket = any_socket(&lab, node);
        let before = servers.reflect(&socket);
        happen(&lab, box_of);
        let after = servers.reflect(&socket);
        assert_eq!(before.ip(), after.ip());
        assert_ne!(before.port(), after.port());
    }
}

#[test]
fn a_renumbered_nat_is_seen_at_its_new_address() {
    for topology in ["plain,same", "eim-eif+hairpin,same"] {
        let lab = lab(topology);
        let servers = Servers::on(&lab);
        let (a, b) = (any_socket(&lab, Node::A), any_socket(&lab, Node::B));
        let before = servers.reflect(&a);
        happen(&lab, "readdress na 198.51.100.9");
        let after = servers.reflect(&a);
        assert_eq!(after.ip(), Ipv4Addr::new(198, 51, 100, 9));
        assert_eq!(
            lab.public_address(Uplink::A).map(IpAddr::V4),
            Some(after.ip())
        );
        assert_eq!(before.port(), after.port());
        deliver(&servers.sockets[0][0], &a, after);
        if topology.starts_with("eim") {
            // Packets turn round at the new address, and no more at the old one.
            assert_eq!(deliver(&b, &a, after).ip(), after.ip());
            assert!(!gets_through((&b, before), (&b, after), &a));
        }
        happen(&lab, "flush na");
        assert_eq!(servers.reflect(&a), after);
        happen(&lab, "readdress na 198.51.100.2");
        assert_eq!(servers.reflect(&a), before);
    }
}

#[test]
fn lost_wifi_leaves_the_mobile_network_and_comes_back() {
    let lab = lab("multi,plain");
    let servers = Servers::on(&lab);
    let wifi_address = Ipv4Addr::new(192, 168, 1, 10);
    let (wifi, mobile) = (
        socket(&lab, Node::A, wifi_address, 0),
        any_socket(&lab, Node::A),
    );
    let mobile_network = Some(IpAddr::V4(lab.public_address(Uplink::Cell).unwrap()));
    servers.reflect(&wifi);
    assert_ne!(Some(servers.reflect(&mobile).ip()), mobile_network);
    happen(&lab, "losewifi");
    let bound = lab.run_in(Node::A, || std::net::UdpSocket::bind((wifi_address, 0)));
    assert!(bound.unwrap().is_err());
    assert_eq!(Some(servers.reflect(&mobile).ip()), mobile_network);
    happen(&lab, "regainwifi");
    let wifi = socket(&lab, Node::A, wifi_address, 0);
    assert_ne!(Some(servers.reflect(&wifi).ip()), mobile_network);
    assert_ne!(
        Some(servers.reflect(&any_socket(&lab, Node::A)).ip()),
        mobile_network
    );
}

#[test]
fn an_uplink_is_cut_one_way_or_both_and_mended() {
    let lab = lab("plain,open");
    let servers = Servers::on(&lab);
    let (a, b) = (any_socket(&lab, Node::A), any_socket(&lab, Node::B));
    let (server, at_server) = (&servers.sockets[0][0], servers.addresses[0][0]);
    let seen = servers.reflect(&a);
    let neighbour = any_socket(&lab, Node::HomeA);
    let at_a = SocketAddr::new(
        Ipv4Addr::new(192, 168, 1, 10).into(),
        a.local_addr().unwrap().port(),
    );
    let out = || gets_through((&a, at_server), (&b, at_server), server);
    let back = || gets_through((server, seen), (&neighbour, at_a), &a);
    assert_eq!((out(), back()), (true, true));
    happen(&lab, "oneway wa");
    assert_eq!((out(), back()), (true, false));
    happen(&lab, "blackhole wa");
    assert_eq!((out(), back()), (false, false));
    happen(&lab, "blackhole wa");
    happen(&lab, "unblackhole wa");
    assert_eq!((out(), back()), (true, true));
    happen(&lab, "unblackhole wa");
}

#[test]
fn what_cannot_happen_is_refused_with_the_reason() {
    let lab = lab("plain,same");
    for (event, reason) in [
        ("flush core", "nothing to forget"),
        ("flush ca", "nothing to forget"),
        ("remap na", "preserves them"),
        ("remap a", "preserves them"),
        ("readdress na 198.51.100.1", "not a free address"),
        ("readdress na 198.51.100.63", "not a free address"),
        ("readdress na 198.51.100.66", "not a free address"),
        ("readdress na 198.51.100.2", "already"),
        ("readdress b 198.51.100.9", "no NAT with a public address"),
        ("blackhole wb", "no uplink wb"),
    ] {
        let error = lab.event(event.parse::<Event>().unwrap()).unwrap_err();
        assert!(
            matches!(error, LabError::Event(_)) && error.to_string().contains(reason),
            "{event}: {error}"
        );
    }
    assert!(matches!(
        lab.command(Node::CarrierA, "true"),
        Err(LabError::NoSuchNode(Node::CarrierA))
    ));
    assert!(matches!(
        lab.run_in(Node::HomeB, || ()),
        Err(LabError::NoSuchNode(Node::HomeB))
    ));
    // It still works after all that.
    let servers = Servers::on(&lab);
    let a = any_socket(&lab, Node::A);
    let seen = servers.reflect(&a);
    servers.sockets[0][0].send_to(b"answer", seen).unwrap();
    assert_eq!(receive(&a).0, "answer");
}
