//! Permissions, channels and data (RFC 8656 sections 9 to 12), and whom a client may reach.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;

use nilas_stun::{AddressFamily, Class, Icmp, Message, Method};
use nilas_turn::server::{Forbidden, Handled, Input, PeerRule, RelayId};
use support::*;

/// A client with an allocation of both families, and its relays.
fn dual(config: nilas_turn::server::ServerConfig) -> (Bench, Client, [RelayId; 2]) {
    let mut bench = Bench::new(config);
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate_with(&mut bench, |builder| {
        builder
            .additional_address_family(AddressFamily::Ipv6)
            .unwrap();
    });
    let mut relays: Vec<_> = bench
        .relays
        .iter()
        .map(|(id, (address, _))| (*address, *id))
        .collect();
    relays.sort();
    let relays = [relays[0].1, relays[1].1];
    (bench, client, relays)
}

fn from_peer(bench: &mut Bench, relay: RelayId, peer: &str, data: &[u8]) -> Handled {
    bench.handle(Input::PeerDatagram {
        relay,
        peer: address(peer),
        length: data.len(),
    })
}

#[test]
fn permissions_are_by_address_and_last_five_minutes() {
    let (mut bench, mut client, [relay, _]) = dual(config());
    assert_eq!(
        client.send(&mut bench, "192.0.2.9:9", b"x").0,
        Handled::Done
    );
    assert_eq!(
        from_peer(&mut bench, relay, "192.0.2.9:9", b"x"),
        Handled::Done
    );
    assert_eq!(
        client.permit(&mut bench, "192.0.2.9:0"),
        0,
        "the port is ignored"
    );
    let (handled, bytes) = client.send(&mut bench, "192.0.2.9:77", b"data");
    let Handled::ToPeer {
        relay: from,
        peer,
        payload,
        dont_fragment,
    } = handled
    else {
        panic!()
    };
    assert_eq!(
        (from, peer, dont_fragment),
        (relay, address("192.0.2.9:77"), false)
    );
    assert_eq!(&bytes[payload], b"data");
    assert_ne!(
        from_peer(&mut bench, relay, "192.0.2.9:78", b"x"),
        Handled::Done
    );
    assert_eq!(
        from_peer(&mut bench, relay, "192.0.2.8:9", b"x"),
        Handled::Done
    );
    bench.pass(299 * SECOND);
    assert_ne!(
        from_peer(&mut bench, relay, "192.0.2.9:9", b"x"),
        Handled::Done
    );
    // Data does not refresh it (RFC 8656 section 11.2).
    assert_ne!(
        client.send(&mut bench, "192.0.2.9:9", b"x").0,
        Handled::Done
    );
    bench.pass(SECOND);
    assert_eq!(
        from_peer(&mut bench, relay, "192.0.2.9:9", b"x"),
        Handled::Done
    );
    assert_eq!(
        client.send(&mut bench, "192.0.2.9:9", b"x").0,
        Handled::Done
    );
}

#[test]
fn dont_fragment_of_a_send_indication_reaches_the_driver() {
    let (mut bench, mut client, _) = dual(config());
    client.permit(&mut bench, "192.0.2.9:9");
    let bytes = send_indication(address("192.0.2.9:9"), b"data", true);
    assert!(matches!(
        bench.datagram(client.path, &bytes),
        Handled::ToPeer {
            dont_fragment: true,
            ..
        }
    ));
    // RFC 8656 section 13: ignored, from IPv4 to IPv6.
    client.permit(&mut bench, "[2001:db8::9]:9");
    let bytes_of_ipv6 = send_indication(address("[2001:db8::9]:9"), b"data", true);
    assert!(matches!(
        bench.datagram(client.path, &bytes_of_ipv6),
        Handled::ToPeer {
            dont_fragment: false,
            ..
        }
    ));
    let mut without = config();
    without.dont_fragment = false;
    let (mut bench, mut client, _) = dual(without);
    client.permit(&mut bench, "192.0.2.9:9");
    assert_eq!(
        bench.datagram(client.path, &bytes),
        Handled::Done,
        "discarded, as RFC 8656 section 11.2 says"
    );
}

#[test]
fn empty_data_is_data() {
    let (mut bench, mut client, [relay, _]) = dual(config());
    client.bind(&mut bench, 0x4000, "192.0.2.9:9");
    assert!(
        matches!(client.send(&mut bench, "192.0.2.9:9", b"").0, Handled::ToPeer { payload, .. } if payload.is_empty())
    );
    assert!(
        matches!(client.channel_data(&mut bench, 0x4000, b""), Handled::ToPeer { payload, .. } if payload.is_empty())
    );
    let handled = from_peer(&mut bench, relay, "192.0.2.9:9", b"");
    assert_eq!(assemble(&handled, b"").1, channel_data(0x4000, b""));
}

#[test]
fn data_indications_of_both_families_and_every_padding() {
    let (mut bench, mut client, relays) = dual(config());
    for (relay, peer) in relays.into_iter().zip(["192.0.2.9:9", "[2001:db8::9]:9"]) {
        assert_eq!(client.permit(&mut bench, peer), 0);
        for length in 0..9 {
            let data = &b"01234567"[..length];
            let handled = from_peer(&mut bench, relay, peer, data);
            let (to, bytes) = assemble(&handled, data);
            assert_eq!(to, client.path);
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(
                (message.class(), message.method()),
                (Class::Indication, Method::DATA)
            );
            assert_eq!(message.xor_peer_address(), Ok(Some(address(peer))));
            assert_eq!(message.data(), Some(data));
        }
    }
    let counters = bench.server.counters();
    assert_eq!(
        (counters.packets_to_clients, counters.bytes_to_clients),
        (18, 72)
    );
    // More than a message can hold.
    let handled = bench.handle(Input::PeerDatagram {
        relay: relays[0],
        peer: address("192.0.2.9:9"),
        length: 65_507,
    });
    assert!(matches!(handled, Handled::ToClient { .. }));
    let handled = bench.handle(Input::PeerDatagram {
        relay: relays[0],
        peer: address("192.0.2.9:9"),
        length: 70_000,
    });
    assert_eq!(handled, Handled::Done);
}

#[test]
fn create_permission_is_all_or_nothing() {
    let (mut bench, mut client, [relay, _]) = dual(config());
    let several = |client: &mut Client, bench: &mut Bench, peers: &[&str]| {
        client
            .request(bench, Method::CREATE_PERMISSION, |builder| {
                for peer in peers {
                    builder.xor_peer_address(address(peer)).unwrap();
                }
            })
            .code()
    };
    assert_eq!(several(&mut client, &mut bench, &[]), 400);
    assert_eq!(
        several(&mut client, &mut bench, &["192.0.2.9:1", "127.0.0.1:1"]),
        403
    );
    let code = client
        .request(&mut bench, Method::CREATE_PERMISSION, |builder| {
            builder.xor_peer_address(address("192.0.2.9:1")).unwrap();
            builder
                .raw(nilas_stun::AttributeType::XOR_PEER_ADDRESS, &[0; 7])
                .unwrap();
        })
        .code();
    assert_eq!(code, 400);
    assert_eq!(
        from_peer(&mut bench, relay, "192.0.2.9:1", b"x"),
        Handled::Done
    );
    assert_eq!(
        several(
            &mut client,
            &mut bench,
            &["192.0.2.9:1", "[2001:db8::9]:1", "192.0.2.9:2"]
        ),
        0
    );
    assert_ne!(
        from_peer(&mut bench, relay, "192.0.2.9:1", b"x"),
        Handled::Done
    );
}

#[test]
fn a_peer_of_another_family_is_443() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    assert_eq!(client.permit(&mut bench, "[2001:db8::9]:9"), 443);
    assert_eq!(client.bind(&mut bench, 0x4000, "[2001:db8::9]:9"), 443);
    let code = client
        .request(&mut bench, Method::CREATE_PERMISSION, |builder| {
            builder.xor_peer_address(address("192.0.2.9:9")).unwrap();
            builder
                .xor_peer_address(address("[2001:db8::9]:9"))
                .unwrap();
        })
        .code();
    assert_eq!(code, 443);
    assert_eq!(
        client.send(&mut bench, "[2001:db8::9]:9", b"x").0,
        Handled::Done
    );
}

#[test]
fn permissions_are_capped_and_the_expired_make_room() {
    let mut config = config();
    config.max_permissions = 3;
    let (mut bench, mut client, _) = dual(config);
    for host in 1..=3 {
        assert_eq!(client.permit(&mut bench, &format!("192.0.2.{host}:9")), 0);
    }
    assert_eq!(client.permit(&mut bench, "192.0.2.4:9"), 508);
    assert_eq!(
        client.permit(&mut bench, "192.0.2.3:9"),
        0,
        "one that is there is refreshed"
    );
    assert_eq!(client.bind(&mut bench, 0x4000, "192.0.2.4:9"), 508);
    assert_eq!(
        client.permit(&mut bench, "[2001:db8::4]:9"),
        0,
        "the other address has its own"
    );
    let code = client
        .request(&mut bench, Method::CREATE_PERMISSION, |builder| {
            for host in 10..=13 {
                builder
                    .xor_peer_address(address(&format!("192.0.2.{host}:9")))
                    .unwrap();
            }
        })
        .code();
    assert_eq!(code, 508);
    bench.pass(300 * SECOND);
    assert_eq!(client.permit(&mut bench, "192.0.2.4:9"), 0);
}

#[test]
fn channels_are_capped() {
    let mut config = config();
    config.max_channels = 2;
    let (mut bench, mut client, _) = dual(config);
    assert_eq!(client.bind(&mut bench, 0x4000, "192.0.2.1:9"), 0);
    assert_eq!(client.bind(&mut bench, 0x4001, "192.0.2.2:9"), 0);
    assert_eq!(client.bind(&mut bench, 0x4002, "192.0.2.3:9"), 508);
    assert_eq!(client.bind(&mut bench, 0x4001, "192.0.2.2:9"), 0);
    bench.pass(550 * SECOND);
    client.refresh(&mut bench, 3_600);
    bench.pass(350 * SECOND);
    assert_eq!(client.bind(&mut bench, 0x4002, "192.0.2.3:9"), 0);
}

#[test]
fn channel_bind_400() {
    let (mut bench, mut client, _) = dual(config());
    for number in [0, 0x3FFF, 0x8000, 0xFFFF] {
        assert_eq!(
            client.bind(&mut bench, number, "192.0.2.9:9"),
            400,
            "{number:#x}"
        );
    }
    assert_eq!(
        client
            .request(&mut bench, Method::CHANNEL_BIND, |b| {
                b.channel_number(0x4000).unwrap();
            })
            .code(),
        400
    );
    assert_eq!(
        client
            .request(&mut bench, Method::CHANNEL_BIND, |b| {
                b.xor_peer_address(address("192.0.2.9:9")).unwrap();
            })
            .code(),
        400
    );
    assert_eq!(client.bind(&mut bench, 0x4000, "192.0.2.9:9"), 0);
    assert_eq!(
        client.bind(&mut bench, 0x4000, "192.0.2.9:10"),
        400,
        "the number is bound otherwise"
    );
    assert_eq!(
        client.bind(&mut bench, 0x4001, "192.0.2.9:9"),
        400,
        "the peer is bound otherwise"
    );
    assert_eq!(
        client.bind(&mut bench, 0x4000, "[2001:db8::9]:9"),
        400,
        "the number is bound in the other family"
    );
    assert_eq!(client.bind(&mut bench, 0x4FFF, "[2001:db8::9]:9"), 0);
}

#[test]
fn channels_carry_data_both_ways_and_end() {
    let (mut bench, mut client, [relay, _]) = dual(config());
    assert_eq!(client.bind(&mut bench, 0x4001, "192.0.2.9:9"), 0);
    let Handled::ToPeer { peer, payload, .. } = client.channel_data(&mut bench, 0x4001, b"data")
    else {
        panic!()
    };
    assert_eq!((peer, payload), (address("192.0.2.9:9"), 4..8));
    let handled = from_peer(&mut bench, relay, "192.0.2.9:9", b"back");
    assert_eq!(assemble(&handled, b"back").1, channel_data(0x4001, b"back"));
    // Another port of the peer has the permission, but not the channel.
    let handled = from_peer(&mut bench, relay, "192.0.2.9:10", b"back");
    assert!(Message::parse(&assemble(&handled, b"back").1).is_ok());
    // Of a channel that is not bound, or with a length beyond its datagram.
    assert_eq!(
        client.channel_data(&mut bench, 0x4002, b"data"),
        Handled::Done
    );
    assert_eq!(
        bench.datagram(client.path, &[0x40, 1, 0, 5, 1, 2, 3, 4]),
        Handled::Done
    );
    // Padding behind the data is not data.
    assert!(
        matches!(bench.datagram(client.path, &[0x40, 1, 0, 1, 7, 0, 0, 0]), Handled::ToPeer { payload, .. } if payload == (4..5))
    );
    // The permission ends first; the channel still carries data to the peer, but none from it.
    bench.pass(300 * SECOND);
    assert_eq!(
        from_peer(&mut bench, relay, "192.0.2.9:9", b"back"),
        Handled::Done
    );
    assert_ne!(
        client.channel_data(&mut bench, 0x4001, b"data"),
        Handled::Done
    );
    client.refresh(&mut bench, 3_600);
    bench.pass(300 * SECOND);
    assert_eq!(
        client.channel_data(&mut bench, 0x4001, b"data"),
        Handled::Done
    );
}

#[test]
fn data_of_one_allocation_is_not_anothers() {
    let mut bench = Bench::new(config());
    let mut ann = Client::ann("192.0.2.1:50000");
    ann.allocate(&mut bench);
    ann.bind(&mut bench, 0x4000, "192.0.2.9:9");
    let mut bob = Client::new(path("192.0.2.2:50000"), "bob", "secret of bob");
    bob.allocate(&mut bench);
    assert_eq!(bob.channel_data(&mut bench, 0x4000, b"x"), Handled::Done);
    assert_eq!(bob.send(&mut bench, "192.0.2.9:9", b"x").0, Handled::Done);
    let relay = *bench.relays.keys().max().unwrap();
    assert_eq!(
        from_peer(&mut bench, relay, "192.0.2.9:9", b"x"),
        Handled::Done
    );
}

#[test]
fn icmp_errors_are_relayed_as_the_rfc_says() {
    let (mut bench, mut client, [v4, v6]) = dual(config());
    client.permit(&mut bench, "192.0.2.9:9");
    client.permit(&mut bench, "[2001:db8::9]:9");
    let icmp = |bench: &mut Bench, relay, peer: &str, icmp_type| {
        bench.transmits.clear();
        let _ = bench.handle(Input::PeerIcmp {
            relay,
            peer: address(peer),
            icmp_type,
            code: 4,
            error_data: 1_280,
        });
        bench.last_transmit().map(|(to, bytes)| {
            assert_eq!(to, client.path);
            let message = Message::parse(&bytes).unwrap();
            assert_eq!(
                (message.class(), message.method()),
                (Class::Indication, Method::DATA)
            );
            assert_eq!(message.xor_peer_address(), Ok(Some(address(peer))));
            assert_eq!(message.data(), None);
            message.icmp().unwrap().unwrap()
        })
    };
    let expected = |icmp_type| {
        Some(Icmp {
            icmp_type,
            code: 4,
            error_data: 1_280,
        })
    };
    for icmp_type in 0..=255 {
        let v4_relayed = matches!(icmp_type, 3 | 11);
        let got = icmp(&mut bench, v4, "192.0.2.9:9", icmp_type);
        assert_eq!(
            got,
            expected(icmp_type).filter(|_| v4_relayed),
            "{icmp_type}"
        );
        let v6_relayed = matches!(icmp_type, 1..=3);
        let got = icmp(&mut bench, v6, "[2001:db8::9]:0", icmp_type);
        assert_eq!(
            got,
            expected(icmp_type).filter(|_| v6_relayed),
            "{icmp_type}"
        );
    }
    assert_eq!(
        icmp(&mut bench, v4, "192.0.2.8:9", 3),
        None,
        "without a permission"
    );
}

#[test]
fn relayed_addresses_of_the_server_reach_each_other() {
    // coturn#584: a deny list that covers the server's own address must not part its clients.
    let mut bench = Bench::new(config());
    let mut ann = Client::ann("192.0.2.1:50000");
    let ann_relayed = ann.allocate(&mut bench);
    let mut bob = Client::new(path("192.0.2.2:50000"), "bob", "secret of bob");
    let bob_relayed = bob.allocate(&mut bench);
    assert_eq!(ann.permit(&mut bench, &bob_relayed.to_string()), 0);
    let (handled, _) = ann.send(&mut bench, &bob_relayed.to_string(), b"hello");
    assert_eq!(handled, Handled::Done, "bob has not permitted ann");
    assert_eq!(bob.bind(&mut bench, 0x4000, &ann_relayed.to_string()), 0);
    let (handled, bytes) = ann.send(&mut bench, &bob_relayed.to_string(), b"hello");
    let (to, message) = assemble(&handled, &bytes);
    assert_eq!((to, message), (bob.path, channel_data(0x4000, b"hello")));
    let bytes = channel_data(0x4000, b"hi ann");
    let handled = bench.datagram(bob.path, &bytes);
    let (to, message) = assemble(&handled, &bytes);
    let message = Message::parse(&message).unwrap();
    assert_eq!(to, ann.path);
    assert_eq!(
        (message.xor_peer_address(), message.data()),
        (Ok(Some(bob_relayed)), Some(&b"hi ann"[..]))
    );
    // A relayed address of another core: the driver sends it.
    ann.permit(&mut bench, "198.51.100.1:59999");
    assert!(matches!(
        ann.send(&mut bench, "198.51.100.1:59999", b"x").0,
        Handled::ToPeer { .. }
    ));
}

#[test]
fn nothing_else_on_the_servers_own_address_is_a_peer() {
    let mut config = config();
    config.peer_rule.host = vec![ip("203.0.114.1")];
    let (mut bench, mut client, _) = dual(config);
    for port in [22, 3478, 9_090, 49_999, 60_000] {
        let peer = format!("198.51.100.1:{port}");
        assert_eq!(client.bind(&mut bench, 0x4000, &peer), 403, "{peer}");
        // The permission is for the address, and so for relayed addresses on it.
        assert_eq!(client.permit(&mut bench, &peer), 0);
        assert_eq!(
            client.send(&mut bench, &peer, b"x").0,
            Handled::Done,
            "{peer}"
        );
    }
    assert_eq!(client.permit(&mut bench, "203.0.114.1:50000"), 403);
}

#[test]
fn a_new_rule_holds_for_what_is_there() {
    let (mut bench, mut client, [relay, _]) = dual(config());
    client.bind(&mut bench, 0x4000, "192.0.2.9:9");
    client.permit(&mut bench, "192.0.2.8:9");
    let mut stricter = config();
    stricter.peer_rule.deny = vec!["192.0.2.9/32".parse().unwrap()];
    let _ = bench.handle(Input::ConfigChanged(Arc::new(stricter)));
    assert_eq!(client.channel_data(&mut bench, 0x4000, b"x"), Handled::Done);
    assert_eq!(
        from_peer(&mut bench, relay, "192.0.2.9:9", b"x"),
        Handled::Done
    );
    assert_ne!(
        from_peer(&mut bench, relay, "192.0.2.8:9", b"x"),
        Handled::Done
    );
}

#[test]
fn bandwidth_beyond_the_quota_is_dropped_per_user_and_in_total() {
    let mut config = config();
    config.user_bandwidth = Some(1_000);
    config.total_bandwidth = Some(1_500);
    let mut bench = Bench::new(config);
    let mut ann = [Client::ann("192.0.2.1:1"), Client::ann("192.0.2.1:2")];
    for client in &mut ann {
        client.allocate(&mut bench);
        client.bind(&mut bench, 0x4000, "192.0.2.9:9");
    }
    let mut bob = Client::new(path("192.0.2.2:1"), "bob", "secret of bob");
    bob.allocate(&mut bench);
    bob.bind(&mut bench, 0x4000, "192.0.2.9:9");
    let passed = |bench: &mut Bench, client: &Client| {
        (0..20)
            .filter(|_| client.channel_data(bench, 0x4000, &[0; 100]) != Handled::Done)
            .count()
    };
    assert_eq!(passed(&mut bench, &ann[0]), 10);
    assert_eq!(
        passed(&mut bench, &ann[1]),
        0,
        "the quota is the user's, not the allocation's"
    );
    assert_eq!(passed(&mut bench, &bob), 5, "and there is one for all");
    let relay = *bench.relays.keys().next().unwrap();
    assert_eq!(
        from_peer(&mut bench, relay, "192.0.2.9:9", &[0; 100]),
        Handled::Done,
        "in both directions"
    );
    bench.pass(SECOND / 2);
    assert_eq!(passed(&mut bench, &ann[0]), 5);
    assert!(bench.server.counters().over_bandwidth > 40);
}

/// RFC 6890 and what was registered since: the first and the last address of each network, and its name.
const SPECIAL_V4: [(&str, &str); 19] = [
    ("0.0.0.0", "0.255.255.255"),
    ("10.0.0.0", "10.255.255.255"),
    ("100.64.0.0", "100.127.255.255"),
    ("127.0.0.0", "127.255.255.255"),
    ("169.254.0.0", "169.254.255.255"),
    ("172.16.0.0", "172.31.255.255"),
    ("192.0.0.0", "192.0.0.255"),
    ("192.0.2.0", "192.0.2.255"),
    ("192.31.196.0", "192.31.196.255"),
    ("192.52.193.0", "192.52.193.255"),
    ("192.88.99.0", "192.88.99.255"),
    ("192.168.0.0", "192.168.255.255"),
    ("192.175.48.0", "192.175.48.255"),
    ("198.18.0.0", "198.19.255.255"),
    ("198.51.100.0", "198.51.100.255"),
    ("203.0.113.0", "203.0.113.255"),
    ("224.0.0.0", "239.255.255.255"),
    ("240.0.0.0", "255.255.255.255"),
    ("169.254.169.254", "169.254.169.254"),
];

/// An IPv4 address in every IPv6 spelling.
fn spellings(v4: Ipv4Addr) -> Vec<IpAddr> {
    let [a, b, c, d] = v4.octets().map(u16::from);
    let (high, low) = (a << 8 | b, c << 8 | d);
    [
        [0, 0, 0, 0, 0, 0xFFFF, high, low],
        [0, 0, 0, 0, 0xFFFF, 0, high, low],
        [0, 0, 0, 0, 0, 0, high, low],
        [0x64, 0xFF9B, 0, 0, 0, 0, high, low],
        [0x64, 0xFF9B, 1, high, c, d << 8, 0, 0],
        [0x2002, high, low, 0, 0, 0, 0, 1],
        [0x2001, 0, 0x4136, 0xE378, 0x8000, 0x63BF, !high, !low],
    ]
    .map(|segments| IpAddr::V6(Ipv6Addr::from(segments)))
    .into()
}

#[test]
fn every_special_range_in_every_spelling_is_refused_by_default() {
    let rule = PeerRule::default();
    for (first, last) in SPECIAL_V4 {
        for end in [first, last] {
            let v4: Ipv4Addr = end.parse().unwrap();
            for spelling in spellings(v4).into_iter().chain([IpAddr::V4(v4)]) {
                assert!(rule.check_address(spelling).is_err(), "{end} as {spelling}");
                assert!(rule.check(SocketAddr::new(spelling, 80)).is_err());
            }
        }
    }
    for special in [
        "::",
        "::1",
        "::2",
        "100::1",
        "100:0:0:1::1",
        "2001::1",
        "2001:1::1",
        "2001:2::1",
        "2001:3::1",
        "2001:4:112::1",
        "2001:10::1",
        "2001:20::1",
        "2001:30::1",
        "2001:1ff:ffff::1",
        "2001:db8::1",
        "2002::1",
        "2620:4f:8000::1",
        "3fff::1",
        "3fff:fff:ffff::1",
        "5f00::1",
        "fc00::1",
        "fdff::1",
        "fe80::1",
        "febf::1",
        "fec0::1",
        "feff::1",
        "ff00::",
        "ff02::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        "64:ff9b:1::1",
        "64:ff9b:2::1",
        "4000::1",
        "1fff::1",
    ] {
        assert!(rule.check_address(ip(special)).is_err(), "{special}");
    }
}

#[test]
fn the_neighbours_of_special_ranges_are_allowed() {
    let rule = PeerRule::default();
    for (first, last) in SPECIAL_V4 {
        let before = u32::from(first.parse::<Ipv4Addr>().unwrap()).checked_sub(1);
        let after = u32::from(last.parse::<Ipv4Addr>().unwrap()).checked_add(1);
        for neighbour in [before, after].into_iter().flatten().map(Ipv4Addr::from) {
            let in_another = SPECIAL_V4.iter().any(|(first, last)| {
                (first.parse::<Ipv4Addr>().unwrap()..=last.parse().unwrap()).contains(&neighbour)
            });
            if !in_another {
                assert_eq!(rule.check_address(neighbour.into()), Ok(()), "{neighbour}");
            }
        }
    }
    for ordinary in [
        "8.8.8.8",
        "2000::1",
        "2001:200::1",
        "2001:4860:4860::8888",
        "2001:db7:ffff::1",
        "2001:db9::1",
        "2003::1",
        "2620:4f:7fff::1",
        "2620:4f:8001::1",
        "3ffe:ffff::1",
        "3fff:1000::1",
        // NAT64 of an ordinary address.
        "64:ff9b::808:808",
    ] {
        assert_eq!(rule.check_address(ip(ordinary)), Ok(()), "{ordinary}");
    }
}

#[test]
fn deny_beats_allow_beats_default_in_every_spelling() {
    let networks = |list: &[&str]| {
        list.iter()
            .map(|network| network.parse().unwrap())
            .collect::<Vec<_>>()
    };
    let rule = PeerRule {
        allow: networks(&["10.0.0.0/8", "2001:db8::/32", "8.8.0.0/16"]),
        deny: networks(&["10.1.0.0/16", "2001:db8:1::/48", "8.8.8.0/24"]),
        ..PeerRule::default()
    };
    for (peer, expected) in [
        ("10.0.0.1", Ok(())),
        ("10.1.0.1", Err(Forbidden::Denied)),
        ("8.8.4.4", Ok(())),
        ("8.8.8.8", Err(Forbidden::Denied)),
        ("2001:db8::1", Ok(())),
        ("2001:db8:1::1", Err(Forbidden::Denied)),
        // NAT64 of an allowed, and of a denied address.
        ("64:ff9b::a00:1", Ok(())),
        ("64:ff9b::a01:1", Err(Forbidden::Denied)),
    ] {
        assert_eq!(rule.check_address(ip(peer)), expected, "{peer}");
    }
    for spelling in spellings(Ipv4Addr::new(8, 8, 8, 8)) {
        assert_eq!(
            rule.check_address(spelling),
            Err(Forbidden::Denied),
            "{spelling}"
        );
    }
    assert_eq!(rule.check(address("10.0.0.1:0")), Err(Forbidden::PortZero));
}

#[test]
fn a_network_that_does_not_end_on_a_byte_is_compared_right() {
    // coturn 6c13608c: ranges compared byte by byte.
    let rule = PeerRule {
        deny: vec![
            "8.9.128.0/17".parse().unwrap(),
            "2a00:8000::/17".parse().unwrap(),
        ],
        ..PeerRule::default()
    };
    for (peer, denied) in [
        ("8.9.127.255", false),
        ("8.9.128.0", true),
        ("8.9.255.0", true),
        ("8.10.128.0", false),
        ("2a00:7fff::1", false),
        ("2a00:8000::", true),
        ("2a00:ffff::1", true),
        ("2a01:8000::1", false),
    ] {
        assert_eq!(rule.check_address(ip(peer)).is_err(), denied, "{peer}");
    }
}
