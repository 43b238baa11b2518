//! What each kind of NAT does to mapping and filtering (RFC 4787), found out with sockets.
#![cfg(target_os = "linux")]

mod probe;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use nilas_lab::{Filtering, Kind, Lab, Mapping, Nat, Node, Spec, Uplink};
use probe::{
    Servers, any_socket, deliver, filtering, gets_through, lab, mapping, receive, socket,
    try_receive,
};

#[test]
fn each_of_the_nine_maps_and_filters_as_it_says() {
    for nat in Nat::ALL {
        let Nat::Typed {
            mapping: wanted_mapping,
            filtering: wanted_filtering,
        } = nat
        else {
            continue;
        };
        let lab = lab(&format!("{nat},{nat}"));
        let servers = Servers::on(&lab);
        for node in [Node::A, Node::B] {
            assert_eq!(mapping(&lab, &servers, node), wanted_mapping, "{nat}");
            assert_eq!(filtering(&lab, &servers, node), wanted_filtering, "{nat}");
        }
    }
}

#[test]
fn plain_preserves_ports_and_sym_does_not() {
    let lab = lab("plain,sym");
    let servers = Servers::on(&lab);
    assert_eq!(
        mapping(&lab, &servers, Node::A),
        Mapping::EndpointIndependent
    );
    assert_eq!(
        filtering(&lab, &servers, Node::A),
        Filtering::AddressAndPortDependent
    );
    assert_eq!(
        mapping(&lab, &servers, Node::B),
        Mapping::AddressAndPortDependent
    );
    assert_eq!(
        filtering(&lab, &servers, Node::B),
        Filtering::AddressAndPortDependent
    );
    let seen = servers.reflect(&socket(&lab, Node::A, Ipv4Addr::UNSPECIFIED, 40_123));
    assert_eq!(
        seen,
        SocketAddr::new(Ipv4Addr::new(198, 51, 100, 2).into(), 40_123)
    );
}

#[test]
fn two_levels_filter_like_the_stricter_one() {
    let lab = lab("cgn:eim-eif:eim-adf,cgn:plain:apdm-eif");
    let servers = Servers::on(&lab);
    assert_eq!(
        mapping(&lab, &servers, Node::A),
        Mapping::EndpointIndependent
    );
    assert_eq!(
        filtering(&lab, &servers, Node::A),
        Filtering::AddressDependent
    );
    assert_eq!(
        mapping(&lab, &servers, Node::B),
        Mapping::AddressAndPortDependent
    );
    assert_eq!(
        filtering(&lab, &servers, Node::B),
        Filtering::AddressAndPortDependent
    );
    let seen = servers.reflect(&any_socket(&lab, Node::B));
    assert_eq!(
        Some(seen.ip()),
        lab.public_address(Uplink::B).map(IpAddr::V4)
    );
}

/// Two sockets send to where the server saw the other; whether they meet. The second answers to where the
/// first's packet came from, as ICE does with a peer-reflexive candidate.
fn punch(lab: &Lab, servers: &Servers) -> bool {
    let (a, b) = (any_socket(lab, Node::A), any_socket(lab, Node::B));
    let (seen_a, seen_b) = (servers.reflect(&a), servers.reflect(&b));
    let sure = (&servers.sockets[0][0], seen_a);
    // It may arrive or not; what counts is that it opens the way back.
    a.send_to(b"opens", seen_b).unwrap();
    if !gets_through((&b, seen_a), sure, &a) {
        return false;
    }
    forget(&b);
    b.send_to(b"again", seen_a).unwrap();
    let (text, source) = loop {
        let (text, source) = receive(&a);
        if text != "surely arrives" {
            break (text, source);
        }
    };
    assert_eq!(text, "again");
    deliver(&a, &b, source);
    true
}

/// Takes what has arrived.
fn forget(socket: &UdpSocket) {
    socket.set_nonblocking(true).unwrap();
    while try_receive(socket).is_ok() {}
    socket.set_nonblocking(false).unwrap();
}

#[test]
fn hole_punching_works_where_rfc_4787_says_so() {
    for (topology, works) in [
        ("plain,plain", true),
        ("eim-apdf,eim-adf", true),
        ("eim-apdf,plain+overlap", true),
        ("cgn:plain:eim-apdf,eim-apdf", true),
        ("sym,sym", false),
        ("adm-apdf,adm-apdf", false),
        ("apdm-eif,apdm-eif", true),
        ("eim-eif,sym", true),
        ("open,sym", true),
    ] {
        let lab = lab(topology);
        assert_eq!(punch(&lab, &Servers::on(&lab)), works, "{topology}");
    }
}

#[test]
fn overlapping_homes_have_the_same_addresses_and_still_meet() {
    let lab = lab("eim-eif,eim-eif+overlap");
    let address = Ipv4Addr::new(192, 168, 1, 10);
    let (a, b) = (
        socket(&lab, Node::A, address, 5000),
        socket(&lab, Node::B, address, 5000),
    );
    let servers = Servers::on(&lab);
    let (seen_a, seen_b) = (servers.reflect(&a), servers.reflect(&b));
    assert_ne!(seen_a, seen_b);
    assert_eq!(deliver(&a, &b, seen_b), seen_a);
}

#[test]
fn the_same_home_network_connects_directly() {
    for kind in ["plain", "sym", "multi", "cgn:plain:plain"] {
        let lab = lab(&format!("{kind},same"));
        let (a, b) = (any_socket(&lab, Node::A), any_socket(&lab, Node::B));
        let port = b.local_addr().unwrap().port();
        let source = deliver(
            &a,
            &b,
            SocketAddr::new(Ipv4Addr::new(192, 168, 1, 11).into(), port),
        );
        assert_eq!(source.ip(), Ipv4Addr::new(192, 168, 1, 10), "{kind}");
    }
}

#[test]
fn hairpinning_turns_packets_round_with_the_external_source() {
    let nats = Nat::ALL
        .into_iter()
        .filter(|nat| matches!(nat, Nat::Typed { .. }));
    for (topology, filtering) in nats.filter_map(|nat| match nat {
        Nat::Typed {
            filtering,
            mapping: Mapping::EndpointIndependent,
        } => Some((format!("{nat}+hairpin,same"), filtering)),
        _ => None,
    }) {
        let lab = lab(&topology);
        let servers = Servers::on(&lab);
        let (a, b) = (any_socket(&lab, Node::A), any_socket(&lab, Node::B));
        let (seen_a, seen_b) = (servers.reflect(&a), servers.reflect(&b));
        // RFC 4787 section 6, REQ-9: "External source IP address and port".
        let sure = (&servers.sockets[0][0], seen_b);
        let at_once = gets_through((&a, seen_b), sure, &b);
        assert_eq!(
            at_once,
            filtering == Filtering::EndpointIndependent,
            "{topology}"
        );
        b.send_to(b"opens the way back", seen_a).unwrap();
        assert_eq!(receive(&a).1, seen_b, "{topology}");
        assert_eq!(deliver(&a, &b, seen_b), seen_a, "{topology}");
    }
}

#[test]
fn hairpinning_at_the_carrier_connects_its_customers_and_its_absence_does_not() {
    for (topology, works) in [
        ("cgn:plain:eim-apdf+hairpin,samecgn", true),
        ("cgn:plain:eim-apdf,samecgn", false),
        ("eim-apdf,same", false),
    ] {
        let lab = lab(topology);
        let servers = Servers::on(&lab);
        let (a, b) = (any_socket(&lab, Node::A), any_socket(&lab, Node::B));
        assert_eq!(
            servers.reflect(&a).ip(),
            servers.reflect(&b).ip(),
            "{topology}"
        );
        assert_eq!(punch(&lab, &servers), works, "{topology}");
    }
}

#[test]
fn samecgn_takes_flags_of_its_own() {
    let spec: Spec = "samecgn+overlap+to=9".parse().unwrap();
    assert_eq!(spec.kind, Kind::SameCgn);
    let lab = lab("cgn:plain:eim-eif,samecgn+overlap");
    let address = Ipv4Addr::new(192, 168, 1, 10);
    let servers = Servers::on(&lab);
    for node in [Node::A, Node::B] {
        let seen = servers.reflect(&socket(&lab, node, address, 0));
        assert_eq!(
            Some(seen.ip()),
            lab.public_address(Uplink::A).map(IpAddr::V4)
        );
    }
}
