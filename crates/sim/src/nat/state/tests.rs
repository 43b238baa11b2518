//! A NAT at work, without a world around it.

use rand_core::SeedableRng;

use super::*;
use crate::Dependence;

const KINDS: [Dependence; 3] = Dependence::ALL;

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn at_work(nat: Nat, pool: &[&str]) -> NatState {
    let pool: Vec<_> = pool.iter().map(|ip| ip.parse().expect("an IP")).collect();
    NatState::new(nat, &pool, ChaCha8Rng::seed_from_u64(1))
}

fn nat(mapping: Dependence, filtering: Dependence) -> NatState {
    at_work(Nat::new(mapping, filtering), &["203.0.113.1"])
}

#[test]
fn mappings_depend_on_what_they_say() {
    // Another port, then another address: do they share the mapping of the first?
    for (kind, shares) in KINDS
        .into_iter()
        .zip([[true, true], [true, false], [false, false]])
    {
        let mut nat = nat(kind, Dependence::EndpointIndependent);
        let inside = address("10.0.0.1:1000");
        let mut to = |text| {
            nat.translate_out(Time::ZERO, Flow::Udp, inside, address(text))
                .expect("a port")
        };
        let first = to("192.0.2.1:1");
        assert_eq!(
            [to("192.0.2.1:2") == first, to("192.0.2.2:1") == first],
            shares,
            "{kind:?}"
        );
        assert_eq!(to("192.0.2.1:1"), first);
    }
}

#[test]
fn filters_depend_on_what_they_say() {
    for (kind, passes) in KINDS
        .into_iter()
        .zip([[true, true], [true, false], [false, false]])
    {
        let mut nat = nat(Dependence::EndpointIndependent, kind);
        let inside = address("10.0.0.1:1000");
        let outside = nat
            .translate_out(Time::ZERO, Flow::Udp, inside, address("192.0.2.1:1"))
            .expect("a port");
        let mut from = |text| nat.translate_in(Time::ZERO, Flow::Udp, address(text), outside);
        assert_eq!(from("192.0.2.1:1"), Some(inside));
        let others = [from("192.0.2.1:2").is_some(), from("192.0.2.2:1").is_some()];
        assert_eq!(others, passes, "{kind:?}");
    }
}

#[test]
fn what_came_in_is_answered_from_where_it_came_to() {
    for mapping in [
        Dependence::AddressDependent,
        Dependence::AddressAndPortDependent,
    ] {
        let mut nat = nat(mapping, Dependence::EndpointIndependent);
        let inside = address("10.0.0.1:1000");
        let mapped = |nat: &mut NatState, to| {
            nat.translate_out(Time::ZERO, Flow::Udp, inside, address(to))
                .expect("a port")
        };
        let told = mapped(&mut nat, "192.0.2.1:1");
        let older = mapped(&mut nat, "192.0.2.2:1");
        assert_ne!(older, told);
        for peer in ["192.0.2.2:1", "192.0.2.2:2"] {
            let came = nat.translate_in(Time::ZERO, Flow::Udp, address(peer), told);
            assert_eq!(came, Some(inside), "{peer}");
        }
        assert_eq!(mapped(&mut nat, "192.0.2.2:2"), told, "{mapping:?}");
        assert_eq!(mapped(&mut nat, "192.0.2.2:1"), older, "{mapping:?}");
        // Nothing of it is left when the mapping is gone.
        let later = Time::from_millis(121_000);
        let renewed = nat.translate_out(later, Flow::Udp, inside, address("192.0.2.2:2"));
        assert_ne!(renewed, Ok(told), "{mapping:?}");
    }
}

#[test]
fn mappings_live_from_the_last_datagram_out() {
    let mut nat = nat(
        Dependence::EndpointIndependent,
        Dependence::EndpointIndependent,
    );
    let (inside, outside) = (address("10.0.0.1:1000"), address("192.0.2.1:1"));
    let minute = |n: u64| Time::from_millis(n * 60_000);
    let out = |nat: &mut NatState, n| nat.translate_out(minute(n), Flow::Udp, inside, outside);
    let mapped = out(&mut nat, 0).expect("a port");
    assert_eq!(out(&mut nat, 1), Ok(mapped));
    let back = |nat: &mut NatState, n| nat.translate_in(minute(n), Flow::Udp, outside, mapped);
    assert_eq!(back(&mut nat, 3), Some(inside));
    assert_eq!(back(&mut nat, 4), None);
    assert_ne!(out(&mut nat, 4), Ok(mapped));
}

#[test]
fn ports_run_out_and_come_back() {
    let mut nat = nat(
        Dependence::EndpointIndependent,
        Dependence::EndpointIndependent,
    );
    let remote = address("192.0.2.1:1");
    let inside = |n: u16| SocketAddr::new(address("10.0.0.1:0").ip(), n);
    let all = u16::MAX - FIRST_PORT + 1;
    // The lifetime of the whole table is renewed by nobody, so one time is enough.
    for n in 0..all {
        assert!(
            nat.translate_out(Time::ZERO, Flow::Udp, inside(n), remote)
                .is_ok(),
            "{n}"
        );
    }
    assert_eq!(
        nat.translate_out(Time::ZERO, Flow::Udp, inside(all), remote),
        Err(Fate::NoPort)
    );
    let later = Time::from_millis(121_000);
    assert!(
        nat.translate_out(later, Flow::Udp, inside(all), remote)
            .is_ok()
    );
    assert_eq!(
        nat.translate_in(
            later,
            Flow::Udp,
            remote,
            SocketAddr::new(nat.pool[0], FIRST_PORT)
        ),
        Some(inside(all))
    );
}

/// An inside endpoint of a host, and where it sends.
fn inside(host: u8, port: u16) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, host], port))
}

fn remote(port: u16) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], port))
}

fn out(nat: &mut NatState, inside: SocketAddr) -> SocketAddr {
    nat.translate_out(Time::ZERO, Flow::Udp, inside, remote(1))
        .expect("a port")
}

#[test]
fn refresh_has_a_direction() {
    for (refresh, lives) in [
        (Refresh::Outbound, [true, false]),
        (Refresh::Inbound, [false, true]),
        (Refresh::Both, [true, true]),
    ] {
        let outcome = [true, false].map(|outbound| {
            let mut nat = at_work(
                Nat {
                    refresh,
                    ..Nat::default()
                },
                &["203.0.113.1"],
            );
            let mapped = out(&mut nat, inside(1, 1_000));
            let at = |seconds: u64| Time::from_millis(seconds * 1_000);
            if outbound {
                let _ = nat.translate_out(at(100), Flow::Udp, inside(1, 1_000), remote(1));
            } else {
                assert!(
                    nat.translate_in(at(100), Flow::Udp, remote(1), mapped)
                        .is_some()
                );
            }
            nat.translate_in(at(200), Flow::Udp, remote(1), mapped)
                .is_some()
        });
        assert_eq!(outcome, lives, "{refresh:?}");
    }
}

#[test]
fn ports_are_assigned_as_said() {
    let with = |ports, parity| {
        let nat = Nat {
            ports,
            parity,
            ..Nat::default()
        };
        at_work(nat, &["203.0.113.1"])
    };
    let mut preserving = with(PortAssignment::Preserving, false);
    assert_eq!(out(&mut preserving, inside(1, 1_000)).port(), 1_000);
    assert_ne!(out(&mut preserving, inside(2, 1_000)).port(), 1_000);
    let mut overloading = with(PortAssignment::Overloading, false);
    for host in [1, 2] {
        let mapped = out(&mut overloading, inside(host, 1_000));
        assert_eq!(mapped.port(), 1_000);
        // The latest one gets what comes from an endpoint that both have sent to.
        assert_eq!(
            overloading.translate_in(Time::ZERO, Flow::Udp, remote(1), mapped),
            Some(inside(host, 1_000))
        );
    }
    let mut random = with(PortAssignment::Random, false);
    let [a, b, c] = [1, 2, 3].map(|n| out(&mut random, inside(1, n)).port());
    assert!(a.abs_diff(b) > 1 || b.abs_diff(c) > 1, "{a}, {b}, {c}");
    for ports in [PortAssignment::Sequential, PortAssignment::Random] {
        let mut parity = with(ports, true);
        for port in 1_000..1_020 {
            assert_eq!(out(&mut parity, inside(1, port)).port() % 2, port % 2);
        }
    }
}

#[test]
fn addresses_are_pooled_as_said() {
    for (pooling, same) in [(Pooling::Paired, true), (Pooling::Arbitrary, false)] {
        let nat = Nat {
            pooling,
            ..Nat::default()
        };
        let mut nat = at_work(nat, &["203.0.113.1", "203.0.113.2"]);
        let [first, second] = [1, 2].map(|port| out(&mut nat, inside(1, port)).ip());
        assert_eq!(first == second, same, "{pooling:?}");
    }
}

#[test]
fn a_subscriber_has_a_block_of_ports_and_no_more() {
    let nat = Nat {
        block: core::num::NonZeroU16::new(8),
        ports: PortAssignment::Random,
        ..Nat::default()
    };
    let mut nat = at_work(nat, &["203.0.113.1"]);
    let ports = [1, 2].map(|host| {
        let mut ports: Vec<_> = (0..8)
            .map(|n| out(&mut nat, inside(host, n)).port())
            .collect();
        ports.sort_unstable();
        assert_eq!(
            nat.translate_out(Time::ZERO, Flow::Udp, inside(host, 8), remote(1)),
            Err(Fate::NoPort)
        );
        ports
    });
    assert_eq!(
        ports,
        [
            (20_000..20_008).collect::<Vec<_>>(),
            (20_008..20_016).collect()
        ]
    );
}

#[test]
fn a_reboot_forgets_and_a_renumbering_changes_the_address() {
    let mut nat = at_work(Nat::default(), &["203.0.113.1"]);
    let mapped = out(&mut nat, inside(1, 1_000));
    nat.reboot();
    assert_eq!(
        nat.translate_in(Time::ZERO, Flow::Udp, remote(1), mapped),
        None
    );
    nat.renumber(&[address("203.0.113.9:0").ip()]);
    assert_eq!(
        out(&mut nat, inside(1, 1_000)).ip(),
        address("203.0.113.9:0").ip()
    );
}

#[test]
fn tcp_connections_begin_with_a_syn_and_live_long_once_established() {
    let mut nat = at_work(Nat::default(), &["203.0.113.1"]);
    let at = |seconds: u64| Time::from_millis(seconds * 1_000);
    let syn = Flow::Tcp(Segment {
        syn: true,
        ..Segment::default()
    });
    let data = Flow::Tcp(Segment {
        acknowledgement: Some(1),
        ..Segment::default()
    });
    let fin = Flow::Tcp(Segment {
        fin: true,
        ..Segment::default()
    });
    let here = inside(1, 1_000);
    assert_eq!(
        nat.translate_out(at(0), data, here, remote(1)),
        Err(Fate::Filtered)
    );
    let mapped = nat
        .translate_out(at(0), syn, here, remote(1))
        .expect("a port");
    assert!(nat.translate_in(at(0), syn, remote(1), mapped).is_some());
    assert_eq!(nat.translate_out(at(0), data, here, remote(1)), Ok(mapped));
    // UDP's ports are others.
    assert_eq!(nat.translate_in(at(0), Flow::Udp, remote(1), mapped), None);
    assert!(
        nat.translate_in(at(7_000), data, remote(1), mapped)
            .is_some()
    );
    assert!(
        nat.translate_in(at(7_001), fin, remote(1), mapped)
            .is_some()
    );
    assert_eq!(nat.translate_in(at(7_300), data, remote(1), mapped), None);
}
