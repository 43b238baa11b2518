//! What went wrong in other servers, each as a test of this one.

mod support;

use std::collections::BTreeSet;
use std::net::IpAddr;

use nilas_stun::{AttributeType, Class, Message, MessageBuilder, Method};
use nilas_turn::server::{
    Command, Common, Discovery, Event, Handled, Input, ListenerId, Path, ServerConfig, WorkerId,
};
use proptest::prelude::*;
use support::*;

/// A server with the rule as it is by default.
fn default_rule() -> ServerConfig {
    let mut config = config();
    config.peer_rule.allow.clear();
    config
}

/// Tries every way to a peer, and says which of them led there.
fn doors_to(config: ServerConfig, peer: &str) -> Vec<&'static str> {
    let mut open = Vec::new();
    let mut bench = Bench::new(config);
    let family = nilas_stun::AddressFamily::of(address(peer).ip());
    let mut udp = Client::ann("192.0.2.1:50000");
    udp.allocate_with(&mut bench, |b| {
        b.requested_address_family(family).unwrap();
    });
    if udp.permit(&mut bench, peer) != 403 {
        open.push("CreatePermission");
    }
    if udp.send(&mut bench, peer, b"x").0 != Handled::Done {
        open.push("Send");
    }
    if udp.bind(&mut bench, 0x4000, peer) != 403 {
        open.push("ChannelBind");
    }
    if udp.channel_data(&mut bench, 0x4000, b"x") != Handled::Done {
        open.push("ChannelData");
    }
    let stream = bench.open_stream(1);
    let mut tcp = Client::new(stream, "ann", "secret of ann");
    tcp.request(&mut bench, Method::ALLOCATE, |b| {
        b.requested_transport(6)
            .unwrap()
            .requested_address_family(family)
            .unwrap();
    });
    bench.commands.clear();
    let answer = tcp.try_request(&mut bench, Method::CONNECT, |b| {
        b.xor_peer_address(address(peer)).unwrap();
    });
    if answer.is_none_or(|answer| answer.code() != 403)
        || bench
            .commands
            .iter()
            .any(|command| matches!(command, Command::ConnectPeer { .. }))
    {
        open.push("Connect");
    }
    for relay in bench.relays.keys().copied().collect::<Vec<_>>() {
        let peer = address(peer);
        if bench.handle(Input::PeerAccepted { relay, peer }) != Handled::Refused {
            open.push("a peer's connection");
        }
        if bench.handle(Input::PeerDatagram {
            relay,
            peer,
            length: 1,
        }) != Handled::Done
        {
            open.push("a peer's datagram");
        }
    }
    open
}

#[test]
fn no_door_leads_to_internal_services() {
    // Slack's relay, 2020: TURN as a proxy into the operator's network and to cloud metadata. pion/turn#570: the rule
    // did not hold for TCP. coturn #1946, #1947: unique local and link-local addresses, its own database.
    for peer in [
        "127.0.0.1:80",
        "10.0.0.5:5432",
        "172.16.0.1:80",
        "192.168.1.1:80",
        "169.254.169.254:80",
        "100.64.0.1:80",
        "[::1]:80",
        "[fd00::5]:5432",
        "[fe80::1]:80",
        "[fec0::1]:80",
        "[fd00:ec2::254]:80",
        "224.0.0.1:80",
        "255.255.255.255:80",
    ] {
        assert_eq!(doors_to(default_rule(), peer), [""; 0], "{peer}");
    }
    // The doors themselves are there.
    let open = doors_to(default_rule(), "8.8.8.8:80");
    assert_eq!(
        open,
        [
            "CreatePermission",
            "Send",
            "ChannelBind",
            "ChannelData",
            "Connect",
            "a peer's datagram"
        ]
    );
}

#[test]
fn cve_2020_26262_unspecified_is_loopback() {
    for peer in ["0.0.0.0:80", "0.1.2.3:80", "[::]:80", "[::1]:80"] {
        assert_eq!(doors_to(default_rule(), peer), [""; 0], "{peer}");
    }
}

#[test]
fn cve_2026_27624_a_mapped_address_is_the_address() {
    let mut config = config();
    config.peer_rule.deny = vec!["8.8.8.0/24".parse().unwrap()];
    for peer in [
        "[::ffff:127.0.0.1]:80",
        "[::ffff:10.0.0.1]:80",
        "[::ffff:8.8.8.8]:80",
        "[::ffff:0.0.0.0]:80",
    ] {
        assert_eq!(doors_to(config.clone(), peer), [""; 0], "{peer}");
    }
}

#[test]
fn coturn_b057acbe_loopback_behind_a_mapped_spelling() {
    for peer in [
        "[::ffff:127.0.0.1]:80",
        "[::127.0.0.1]:80",
        "[::ffff:0:127.0.0.1]:80",
        "[::1]:80",
    ] {
        assert_eq!(doors_to(default_rule(), peer), [""; 0], "{peer}");
    }
}

#[test]
fn coturn_1945_embedded_addresses_do_not_dodge_the_rule() {
    for peer in [
        "[2002:7f00:1::1]:80",
        "[2002:a00:1::]:80",
        "[64:ff9b::127.0.0.1]:80",
        "[64:ff9b::10.0.0.1]:80",
        "[64:ff9b:1:a00:0:100::]:80",
        "[::10.0.0.1]:80",
        "[2001:0:4136:e378:8000:63bf:f5ff:fffe]:80",
        "[64:ff9b::169.254.169.254]:80",
    ] {
        assert_eq!(doors_to(default_rule(), peer), [""; 0], "{peer}");
    }
}

#[test]
fn coturn_ab762f33_attributes_behind_the_integrity_are_ignored() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    // Someone on the path appends to a signed request.
    let append = |mut bytes: Vec<u8>, kind: AttributeType, value: &[u8]| {
        bytes.extend_from_slice(&kind.0.to_be_bytes());
        bytes.extend_from_slice(&(value.len() as u16).to_be_bytes());
        bytes.extend_from_slice(value);
        let length = (bytes.len() - 20) as u16;
        bytes[2..4].copy_from_slice(&length.to_be_bytes());
        bytes
    };
    let id = bench.transaction();
    let bytes = append(
        client.sign(id, Method::REFRESH, |_| {}),
        AttributeType::LIFETIME,
        &[0; 4],
    );
    let answer = Answer(client.exchange(&mut bench, &bytes).1.unwrap());
    assert_eq!((answer.code(), answer.lifetime()), (0, Some(600)));
    let peer = message(Class::Request, Method::CREATE_PERMISSION, |b| {
        b.xor_peer_address(address("192.0.2.66:1")).unwrap();
    });
    let id = bench.transaction();
    let bytes = client.sign(id, Method::CREATE_PERMISSION, |b| {
        b.xor_peer_address(address("192.0.2.9:1")).unwrap();
    });
    let bytes = append(bytes, AttributeType::XOR_PEER_ADDRESS, &peer[24..32]);
    assert_eq!(
        Answer(client.exchange(&mut bench, &bytes).1.unwrap()).code(),
        0
    );
    assert_eq!(
        client.send(&mut bench, "192.0.2.66:1", b"x").0,
        Handled::Done
    );
    assert_ne!(
        client.send(&mut bench, "192.0.2.9:1", b"x").0,
        Handled::Done
    );
}

#[test]
fn cve_2026_43994_lengths_inside_tokens_are_bounded() {
    let mut config = config();
    config
        .add_token_key("turn.example.org", "key", &[9; 32])
        .unwrap();
    let mut bench = Bench::new(config);
    for length in [0_u16, 1, 12, 255, 256, 257, u16::MAX] {
        for size in [0, 1, 16, 64, 512, 4_000] {
            let mut client = Client::new(path("192.0.2.1:50000"), "key", "unused");
            let mut token = length.to_be_bytes().to_vec();
            token.resize(2 + size, 0x41);
            client.token = Some(token);
            assert_eq!(client.allocate_with(&mut bench, |_| {}).code(), 401);
        }
    }
    assert!(bench.is_empty());
}

#[test]
fn cve_2026_40613_messages_are_read_at_every_alignment() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    client.bind(&mut bench, 0x4000, "192.0.2.9:9");
    for bytes in [
        send_indication(address("192.0.2.9:9"), b"abc", false),
        channel_data(0x4000, b"abc"),
    ] {
        for offset in 0..16 {
            let mut memory = vec![0xFF; offset];
            memory.extend_from_slice(&bytes);
            let handled = bench.datagram(client.path, &memory[offset..]);
            let Handled::ToPeer { payload, .. } = handled else {
                panic!("{offset}")
            };
            assert_eq!(&memory[offset..][payload], b"abc");
        }
    }
}

#[test]
fn ghsa_4g7c_names_are_only_names() {
    // GHSA-4g7c-p5wg-j4hp, GHSA-8x: user names that mean something to a formatter, a shell, a database.
    let name = "%n%s '; DROP TABLE users; -- {} \\ $(x)";
    let mut config = ServerConfig::new(REALM).unwrap();
    config.add_user(name, "password").unwrap();
    let mut bench = Bench::new(config);
    Client::new(path("192.0.2.1:50000"), name, "password").allocate(&mut bench);
    assert!(matches!(&bench.events[..], [Event::AllocationMade { user, .. }] if &**user == name));
    // What is no text, or too long, is not a name at all.
    for value in [&b"\xFF\xFE"[..], &[b'a'; 800]] {
        let key = nilas_stun::Key::from_hmac_key(b"key");
        let bytes = message(Class::Request, Method::ALLOCATE, |b| {
            b.raw(AttributeType::USERNAME, value).unwrap();
            b.realm(REALM)
                .unwrap()
                .nonce("n")
                .unwrap()
                .message_integrity(&key)
                .unwrap();
        });
        let client = Client::ann("192.0.2.1:50001");
        assert_eq!(
            Answer(client.exchange(&mut bench, &bytes).1.unwrap()).code(),
            400
        );
    }
}

#[test]
fn cve_2020_4067_padding_is_zero() {
    // The bench polls into a buffer full of 0xEE.
    let mut config = config();
    config.software = Some("x".into());
    config.add_token_key("n", "key", &[9; 32]).unwrap();
    let mut bench = Bench::new(config);
    let mut client = Client::ann("192.0.2.1:50000");
    let mut answers = vec![
        client
            .exchange(
                &mut bench,
                &message(Class::Request, Method::ALLOCATE, |_| {}),
            )
            .1
            .unwrap(),
    ];
    answers.push(
        client
            .allocate_with(&mut bench, |b| {
                b.mobility_ticket(&[]).unwrap();
            })
            .0,
    );
    answers.push(
        client
            .allocate_with(&mut bench, |b| {
                b.raw(0x7001, b"").unwrap();
            })
            .0,
    );
    answers.push(client.refresh(&mut bench, 600).0);
    let mut padded = 0;
    for answer in answers {
        let mut rest = &answer[20..];
        while let [_, _, high, low, tail @ ..] = rest {
            let length = usize::from(u16::from_be_bytes([*high, *low]));
            let whole = length.next_multiple_of(4);
            assert!(
                tail[length..whole].iter().all(|byte| *byte == 0),
                "{answer:?}"
            );
            padded += whole - length;
            rest = &tail[whole..];
        }
    }
    assert!(padded > 10, "{padded}");
}

#[test]
fn coturn_11fc465f_what_must_not_be_guessed_differs_with_the_seed_alone() {
    let tokens = |secret: u8, worker: u8| {
        let common = Common::new([secret; 32], std::time::Duration::from_secs(UNIX), 4);
        let mut bench = Bench::with_common(config(), common, WorkerId(worker));
        let mut client = Client::ann("192.0.2.1:50000");
        let mut found = Vec::new();
        for _ in 0..20 {
            let answer = client.allocate_with(&mut bench, |b| {
                b.even_port(true).unwrap().mobility_ticket(&[]).unwrap();
            });
            found.push(
                answer
                    .message()
                    .reservation_token()
                    .unwrap()
                    .unwrap()
                    .to_vec(),
            );
            found.push(answer.message().mobility_ticket().unwrap().to_vec());
            client.refresh(&mut bench, 0);
        }
        (client.nonce, found)
    };
    let (nonce, found) = tokens(1, 1);
    assert_eq!(
        tokens(1, 1),
        (nonce.clone(), found.clone()),
        "the same seed, the same bytes"
    );
    let different: BTreeSet<_> = found.iter().chain(&tokens(1, 2).1).cloned().collect();
    assert_eq!(different.len(), 80);
    assert_ne!(tokens(2, 1).0, nonce);
}

#[test]
fn coturn_780_an_unauthenticated_flood_is_not_remembered() {
    let mut bench = Bench::new(config());
    let bytes = message(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17).unwrap();
    });
    for number in 0..100_000_u32 {
        let client = format!(
            "{}:{}",
            std::net::Ipv4Addr::from(0x0B00_0000 + number),
            1_024 + number % 60_000
        );
        let _ = bench.datagram(path(&client), &bytes);
        bench.transmits.clear();
    }
    assert!(bench.is_empty());
    let counters = bench.server.counters();
    assert_eq!((counters.timers, counters.challenged), (0, 100_000));
}

/// Every kind of request that someone without credentials can send.
fn strangers_requests() -> Vec<Vec<u8>> {
    let key = nilas_stun::Key::from_hmac_key(b"key");
    let mut requests = Vec::new();
    for method in (1..=0x10).filter_map(Method::new) {
        for class in [
            Class::Request,
            Class::Indication,
            Class::SuccessResponse,
            Class::ErrorResponse,
        ] {
            let writes: [&dyn Fn(&mut MessageBuilder<'_>); 9] = [
                &|_| {},
                &|b| {
                    b.fingerprint().unwrap();
                },
                &|b| {
                    b.requested_transport(17).unwrap();
                },
                &|b| {
                    b.message_integrity(&key).unwrap();
                },
                &|b| {
                    b.username("ann")
                        .unwrap()
                        .realm(REALM)
                        .unwrap()
                        .nonce("n")
                        .unwrap()
                        .message_integrity(&key)
                        .unwrap();
                },
                &|b| {
                    b.raw(0x7001, b"").unwrap().raw(0x7002, b"").unwrap();
                },
                &|b| {
                    b.mobility_ticket(b"").unwrap();
                },
                &|b| {
                    b.change_request(nilas_stun::ChangeRequest::default())
                        .unwrap();
                },
                &|b| {
                    b.padding(4).unwrap();
                },
            ];
            for write in writes {
                requests.push(message(class, method, write));
            }
        }
    }
    requests
}

#[test]
fn coturn_1588_no_answer_to_an_unverified_source_is_more_than_five_times_as_long() {
    let mut longest = ServerConfig::new(&"r".repeat(28)).unwrap();
    longest.add_user("ann", "password").unwrap();
    longest
        .add_token_key(&"n".repeat(28), "key", &[9; 32])
        .unwrap();
    longest.discovery = Some(Discovery {
        primary: (ListenerId(0), address("[2001:db8::1]:3478")),
        primary_other_port: ListenerId(1),
        alternate_same_port: ListenerId(2),
        alternate: (ListenerId(3), address("[2001:db8::2]:3479")),
    });
    longest.software = Some("s".repeat(100).into());
    let mut answered = 0;
    for config in [config(), longest] {
        let mut bench = Bench::new(config);
        for (number, request) in strangers_requests().into_iter().enumerate() {
            let client = format!("[2001:db8:{number:x}::7]:50000");
            bench.transmits.clear();
            let _ = bench.datagram(path(&client), &request);
            if let Some((_, answer)) = bench.last_transmit() {
                assert!(
                    answer.len() <= 5 * request.len(),
                    "{} to {}",
                    answer.len(),
                    request.len()
                );
                answered += 1;
            }
        }
    }
    assert!(answered > 100, "{answered}");
}

#[test]
fn the_longest_realm_still_answers_the_shortest_allocate_request() {
    let mut configs = [
        ServerConfig::new(&"r".repeat(60)).unwrap(),
        ServerConfig::new(&"r".repeat(28)).unwrap(),
    ];
    configs[1]
        .add_token_key(&"n".repeat(28), "key", &[9; 32])
        .unwrap();
    for config in configs {
        let mut bench = Bench::new(config);
        let bytes = message(Class::Request, Method::ALLOCATE, |b| {
            b.requested_transport(17).unwrap();
        });
        assert_eq!(bytes.len(), 28);
        let _ = bench.datagram(path("192.0.2.1:1"), &bytes);
        assert_eq!(Answer(bench.last_transmit().unwrap().1).code(), 401);
    }
}

#[test]
fn errors_to_one_source_are_limited_and_users_are_not() {
    let mut bench = Bench::new(config());
    let mut honest = Client::ann("192.0.2.1:50000");
    honest.allocate(&mut bench);
    let bytes = message(Class::Request, Method::ALLOCATE, |b| {
        b.requested_transport(17).unwrap();
    });
    bench.transmits.clear();
    for port in 1..=5_000 {
        let _ = bench.datagram(path(&format!("192.0.2.1:{port}")), &bytes);
    }
    assert!(bench.transmits.len() <= 1_000, "{}", bench.transmits.len());
    assert!(bench.server.counters().answers_limited >= 4_000);
    assert_eq!(
        honest.refresh(&mut bench, 600).code(),
        0,
        "behind the same address"
    );
    let mut other = Client::ann("192.0.2.2:50000");
    other.allocate(&mut bench);
    bench.pass(10 * SECOND);
    let mut late = Client::ann("192.0.2.1:50001");
    late.allocate(&mut bench);
}

#[test]
fn guesses_of_a_password_are_limited() {
    let mut bench = Bench::new(config());
    let mut guesser = Client::ann("192.0.2.1:50000");
    guesser.refresh(&mut bench, 600);
    let mut answered = 0;
    for guess in 0..3_000 {
        guesser.password = format!("guess {guess}");
        let id = bench.transaction();
        let bytes = guesser.sign(id, Method::REFRESH, |_| {});
        answered += usize::from(guesser.exchange(&mut bench, &bytes).1.is_some());
    }
    assert!(answered <= 1_000, "{answered}");
}

#[test]
fn coturn_a97f1924_a_client_that_moves_and_moves_costs_what_one_costs() {
    let mut config = config();
    config.max_allocations_per_user = 1;
    let mut bench = Bench::new(config);
    let mut client = Client::ann("192.0.2.1:50000");
    let answer = client.allocate_with(&mut bench, |b| {
        b.mobility_ticket(&[]).unwrap();
    });
    let mut ticket = answer.message().mobility_ticket().unwrap().to_vec();
    for step in 0..500_u16 {
        client.path = path(&format!("203.0.113.7:{}", 1_000 + step));
        let answer = client.request(&mut bench, Method::REFRESH, |b| {
            b.mobility_ticket(&ticket).unwrap();
        });
        assert_eq!(answer.code(), 0, "{step}");
        ticket = answer.message().mobility_ticket().unwrap().to_vec();
        if step % 3 == 0 {
            client.permit(&mut bench, "192.0.2.9:9");
            let _ = client.send(&mut bench, "192.0.2.9:9", b"x");
        }
        bench.transmits.clear();
    }
    let counters = bench.server.counters();
    assert_eq!(
        (counters.allocations, counters.relays, counters.timers),
        (1, 1, 1)
    );
    assert_eq!(bench.common.allocations(), 1);
    let routed = |bench: &Bench, wanted: fn(&Command) -> bool| {
        bench.commands.iter().filter(|c| wanted(c)).count()
    };
    client.refresh(&mut bench, 0);
    let (routes, unroutes) = (
        routed(&bench, |c| matches!(c, Command::Route(_))),
        routed(&bench, |c| matches!(c, Command::Unroute(_))),
    );
    assert_eq!((routes, unroutes), (500, 500), "no path is left behind");
    assert!(bench.is_empty());
}

#[test]
fn coturn_3c5b2615_leaving_and_allocating_again_does_not_beat_the_quota() {
    let mut config = config();
    config.max_allocations_per_user = 2;
    let mut bench = Bench::new(config);
    let mut refused = 0;
    for number in 0..10 {
        let stream = bench.open_stream(number);
        let mut client = Client::new(stream, "ann", "secret of ann");
        let answer = client.allocate_with(&mut bench, |b| {
            b.mobility_ticket(&[]).unwrap();
        });
        refused += u32::from(answer.code() == 486);
        // The client vanishes; its allocation waits for it, and is paid for.
        let _ = bench.handle(Input::PathClosed(stream));
    }
    assert_eq!((refused, bench.relays.len()), (8, 2));
}

#[test]
fn coturn_4adbd82e_even_ports_leak_nothing() {
    let mut bench = Bench::new(config());
    bench.ports = 8;
    for round in 0..200_u32 {
        let mut client = Client::ann(&format!("192.0.2.1:{}", 1_000 + round));
        let answer = client.allocate_with(&mut bench, |b| {
            b.even_port(round % 2 == 0).unwrap();
        });
        assert_eq!(answer.code(), 0, "round {round}");
        client.refresh(&mut bench, 0);
        bench.pass(31 * SECOND);
        assert!(bench.is_empty(), "round {round}");
    }
}

#[test]
fn reserved_ports_are_charged_until_they_are_given_back() {
    let mut config = config();
    config.max_allocations_per_user = 4;
    let mut bench = Bench::new(config);
    let mut client = Client::ann("192.0.2.1:50000");
    let mut made = 0;
    for _ in 0..100 {
        made += u32::from(
            client
                .allocate_with(&mut bench, |b| {
                    b.even_port(true).unwrap();
                })
                .code()
                == 0,
        );
        client.refresh(&mut bench, 0);
    }
    assert_eq!((made, bench.reserved.len()), (4, 4), "not a hundred ports");
    bench.pass(30 * SECOND);
    assert!(bench.is_empty());
}

#[test]
fn coturn_666_users_of_a_moment_leave_no_trace() {
    let mut config = ServerConfig::new(REALM).unwrap();
    config.add_secret(b"secret").unwrap();
    let mut bench = Bench::new(config);
    use hmac::{Hmac, KeyInit, Mac};
    for number in 0..1_000 {
        let username = format!("{}:user{number}", UNIX + 3_600);
        let mut mac = Hmac::<sha1::Sha1>::new_from_slice(b"secret").unwrap();
        mac.update(username.as_bytes());
        let password = data_encoding::BASE64.encode(&mac.finalize().into_bytes());
        let mut client = Client::new(
            path(&format!("192.0.2.1:{}", 1_000 + number)),
            &username,
            &password,
        );
        client.allocate(&mut bench);
    }
    assert_eq!(bench.common.users(), 1_000);
    bench.pass(600 * SECOND);
    assert!(bench.is_empty());
}

#[test]
fn coturn_1932_no_secret_is_printed() {
    let mut config = config();
    config.add_secret(b"shared secret").unwrap();
    let mut bench = Bench::new(config);
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    let shown = format!("{:?} {:?} {:?}", bench.server, bench.events, bench.commands);
    for secret in [
        "secret of ann",
        "secret of bob",
        "shared secret",
        &client.nonce,
    ] {
        assert!(!shown.contains(secret), "{secret}");
    }
    let key = format!("{:?}", [7_u8; 32]);
    assert!(!shown.contains(&key[1..key.len() - 1]));
}

#[test]
fn a_captured_request_is_good_for_nothing_elsewhere_or_later() {
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    let id = bench.transaction();
    let captured = client.sign(id, Method::CREATE_PERMISSION, |b| {
        b.xor_peer_address(address("192.0.2.9:9")).unwrap();
    });
    let mut thief = client.clone();
    thief.path = path("203.0.113.66:1");
    assert_eq!(
        Answer(thief.exchange(&mut bench, &captured).1.unwrap()).code(),
        438
    );
    bench.pass(599 * SECOND);
    client.refresh(&mut bench, 3_600);
    bench.pass(1_300 * SECOND);
    assert_eq!(
        Answer(client.exchange(&mut bench, &captured).1.unwrap()).code(),
        438
    );
}

#[test]
fn what_is_not_valid_stun_gets_no_answer() {
    let mut bench = Bench::new(config());
    let whole = message(Class::Request, Method::BINDING, |b| {
        b.software("someone").unwrap().fingerprint().unwrap();
    });
    for length in 0..whole.len() {
        assert_eq!(
            bench.datagram(path("192.0.2.1:1"), &whole[..length]),
            Handled::Done
        );
    }
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        &[0; 20],
        &[0xFF; 1_280],
        &[],
    ] {
        assert_eq!(bench.datagram(path("192.0.2.1:1"), bytes), Handled::Done);
    }
    for class in [
        Class::Indication,
        Class::SuccessResponse,
        Class::ErrorResponse,
    ] {
        let _ = bench.datagram(
            path("192.0.2.1:1"),
            &message(class, Method::ALLOCATE, |_| {}),
        );
    }
    let unknown = Method::new(0x055).unwrap();
    let _ = bench.datagram(
        path("192.0.2.1:1"),
        &message(Class::Request, unknown, |_| {}),
    );
    assert_eq!(bench.transmits, []);
    let counters = bench.server.counters();
    assert_eq!((counters.unexpected, counters.unknown_method), (3, 1));
    assert!(counters.malformed > 30 && counters.not_stun >= 3);
}

#[test]
fn a_driver_that_does_not_poll_fills_no_memory() {
    let mut bench = Bench::new(config());
    let bytes = message(Class::Request, Method::BINDING, |_| {});
    for _ in 0..10_000 {
        let _ = bench.server.handle(
            bench.now,
            Input::ClientDatagram {
                path: path("192.0.2.1:1"),
                bytes: &bytes,
            },
        );
    }
    bench.drive();
    assert_eq!(bench.transmits.len(), 1_024);
    assert_eq!(bench.server.counters().answers_dropped, 10_000 - 1_024);
}

/// A bench with all there is: a UDP and a TCP allocation, a channel, a connection.
fn full() -> (Bench, Client, Client) {
    let mut bench = Bench::new(config());
    let mut udp = Client::ann("192.0.2.1:50000");
    udp.allocate_with(&mut bench, |b| {
        b.mobility_ticket(&[]).unwrap();
    });
    udp.bind(&mut bench, 0x4000, "192.0.2.9:9");
    let stream = bench.open_stream(1);
    let mut tcp = Client::new(stream, "ann", "secret of ann");
    tcp.request(&mut bench, Method::ALLOCATE, |b| {
        b.requested_transport(6).unwrap();
    });
    bench.transmits.clear();
    (bench, udp, tcp)
}

proptest! {
    // Seeded by a fixed number, so that a run is the same everywhere; PROPTEST_RNG_SEED changes it.
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        rng_seed: proptest::test_runner::RngSeed::Fixed(8_656),
        ..ProptestConfig::default()
    })]

    #[test]
    fn random_bytes_change_nothing(bytes in proptest::collection::vec(any::<u8>(), 0..200), first in 0..80_u8) {
        let (mut bench, udp, tcp) = full();
        let before = bench.server.counters();
        let mut bytes = bytes;
        if let Some(byte) = bytes.first_mut() {
            *byte = first;
        }
        let _ = bench.datagram(path("203.0.113.5:1"), &bytes);
        let _ = bench.datagram(udp.path, &bytes);
        let Path::Stream(stream) = tcp.path else { panic!() };
        let _ = bench.server.handle_stream(bench.now, stream, &bytes);
        bench.drive();
        prop_assert!(bench.server.counters().relays + 1 >= before.relays);
        prop_assert_eq!(&bench.transmits, &[]);
    }

    #[test]
    fn a_signed_request_with_a_changed_byte_changes_nothing(place in 0..400_usize, change in 1..=255_u8) {
        let (mut bench, udp, _) = full();
        let id = bench.transaction();
        let mut bytes = udp.sign(id, Method::REFRESH, |b| { b.lifetime(0).unwrap(); });
        let place = place % bytes.len();
        bytes[place] ^= change;
        let _ = bench.datagram(udp.path, &bytes);
        prop_assert_eq!(bench.server.counters().allocations, 2);
    }

    #[test]
    fn well_formed_nonsense_is_answered_with_an_error_or_not_at_all(
        method in 0..0x20_u16,
        attributes in proptest::collection::vec((any::<u16>(), proptest::collection::vec(any::<u8>(), 0..40)), 0..8),
        signed in any::<bool>(),
    ) {
        let (mut bench, udp, _) = full();
        let method = Method::new(method).unwrap();
        let write = |b: &mut MessageBuilder<'_>| {
            for (kind, value) in &attributes {
                // The three about integrity are refused by the builder.
                let _ = b.raw(*kind % 0x40, value);
            }
        };
        let bytes = if signed {
            let id = bench.transaction();
            udp.sign(id, method, write)
        } else {
            message(Class::Request, method, write)
        };
        let _ = bench.datagram(udp.path, &bytes);
        for (_, answer) in &bench.transmits {
            prop_assert!(Message::parse(answer).is_ok());
        }
        prop_assert!(bench.server.counters().allocations >= 1);
    }
}

#[test]
fn addresses_of_peers_are_compared_as_addresses() {
    // The same address in two spellings is one permission: a mapped source of an IPv6 socket is its IPv4 address.
    let mut bench = Bench::new(config());
    let mut client = Client::ann("192.0.2.1:50000");
    client.allocate(&mut bench);
    client.permit(&mut bench, "192.0.2.9:9");
    let relay = *bench.relays.keys().next().unwrap();
    let peer = address("[::ffff:192.0.2.9]:9");
    let handled = bench.handle(Input::PeerDatagram {
        relay,
        peer,
        length: 1,
    });
    let (_, bytes) = assemble(&handled, b"x");
    let told = Message::parse(&bytes)
        .unwrap()
        .xor_peer_address()
        .unwrap()
        .unwrap();
    assert_eq!(told.ip(), "192.0.2.9".parse::<IpAddr>().unwrap());
}
