//! NAT behavior discovery (RFC 5780) and plain Binding.

mod support;

use nilas_stun::{
    AttributeType, ChangeRequest, Class, Fingerprint, Message, MessageBuilder, Method,
};
use nilas_turn::server::{Discovery, Handled, ListenerId, Path, ServerConfig};
use support::*;

const ADDRESSES: [&str; 4] = [
    "198.51.100.1:3478",
    "198.51.100.1:3479",
    "198.51.100.2:3478",
    "198.51.100.2:3479",
];

fn with_discovery() -> ServerConfig {
    let mut config = config();
    config.discovery = Some(Discovery {
        primary: (ListenerId(0), address(ADDRESSES[0])),
        primary_other_port: ListenerId(1),
        alternate_same_port: ListenerId(2),
        alternate: (ListenerId(3), address(ADDRESSES[3])),
    });
    config
}

fn at(listener: usize, client: &str) -> Path {
    Path::Datagram {
        listener: ListenerId(listener as u32),
        client: address(client),
        server: address(ADDRESSES[listener]),
    }
}

fn ask(
    bench: &mut Bench,
    path: Path,
    write: impl FnOnce(&mut MessageBuilder<'_>),
) -> (Path, Answer) {
    bench.transmits.clear();
    let handled = bench.datagram(path, &message(Class::Request, Method::BINDING, write));
    assert_eq!(handled, Handled::Done);
    let (to, bytes) = bench.last_transmit().expect("an answer");
    (to, Answer(bytes))
}

#[test]
fn the_answer_comes_from_where_it_is_asked_for() {
    let mut bench = Bench::new(with_discovery());
    for listener in 0..4 {
        for (change_ip, change_port) in [(false, false), (false, true), (true, false), (true, true)]
        {
            let asked = at(listener, "192.0.2.1:50000");
            let (to, answer) = ask(&mut bench, asked, |b| {
                b.change_request(ChangeRequest {
                    change_ip,
                    change_port,
                })
                .unwrap();
            });
            let expected = listener ^ (usize::from(change_ip) << 1) ^ usize::from(change_port);
            assert_eq!(to, at(expected, "192.0.2.1:50000"));
            let answer = answer.message();
            assert_eq!(
                answer.response_origin(),
                Ok(Some(address(ADDRESSES[expected])))
            );
            // RFC 5780 section 6.1: whatever the flags say.
            assert_eq!(
                answer.other_address(),
                Ok(Some(address(ADDRESSES[listener ^ 3])))
            );
            assert_eq!(
                answer.xor_mapped_address(),
                Ok(Some(address("192.0.2.1:50000")))
            );
            assert_eq!(
                answer.mapped_address(),
                Ok(Some(address("192.0.2.1:50000")))
            );
        }
    }
}

#[test]
fn the_answer_goes_where_it_is_asked_for() {
    let mut bench = Bench::new(with_discovery());
    let (to, answer) = ask(&mut bench, at(0, "192.0.2.1:50000"), |b| {
        b.response_port(40_000).unwrap();
    });
    assert_eq!(to, at(0, "192.0.2.1:40000"));
    assert_eq!(
        answer.message().xor_mapped_address(),
        Ok(Some(address("192.0.2.1:50000")))
    );
}

#[test]
fn padding_is_answered_with_padding_and_bounded() {
    let mut bench = Bench::new(with_discovery());
    for (asked, given) in [(4, 4), (1_000, 1_000), (1_500, 1_500), (60_000, 1_500)] {
        let (_, answer) = ask(&mut bench, at(0, "192.0.2.1:50000"), |b| {
            b.padding(asked).unwrap();
        });
        let padding = answer.message().padding().unwrap();
        assert_eq!(padding.len(), given);
        assert!(padding.iter().all(|byte| *byte == 0));
    }
    let (_, answer) = ask(&mut bench, at(0, "192.0.2.1:50000"), |b| {
        b.padding(100).unwrap().response_port(1).unwrap();
    });
    assert_eq!(answer.code(), 400);
}

#[test]
fn with_one_address_change_request_is_420_and_nothing_else_is_told() {
    let mut bench = Bench::new(config());
    let (_, answer) = ask(&mut bench, path("192.0.2.1:50000"), |b| {
        b.change_request(ChangeRequest {
            change_ip: true,
            change_port: false,
        })
        .unwrap();
    });
    assert_eq!(answer.code(), 420);
    let unknown: Vec<u16> = answer
        .message()
        .unknown_attributes()
        .unwrap()
        .unwrap()
        .collect();
    assert_eq!(unknown, [AttributeType::CHANGE_REQUEST.0]);
    let (_, answer) = ask(&mut bench, path("192.0.2.1:50000"), |_| {});
    assert_eq!(answer.message().other_address(), Ok(None));
    assert_eq!(answer.message().response_origin(), Ok(None));
    assert_eq!(answer.0.len(), 32);
}

#[test]
fn a_listener_that_is_none_of_the_four_does_not_discover() {
    let mut bench = Bench::new(with_discovery());
    let other = Path::Datagram {
        listener: ListenerId(7),
        client: address("192.0.2.1:50000"),
        server: address("198.51.100.1:53"),
    };
    let (_, answer) = ask(&mut bench, other, |b| {
        b.change_request(ChangeRequest::default()).unwrap();
    });
    assert_eq!(answer.code(), 420);
    let (_, answer) = ask(&mut bench, other, |b| {
        b.response_port(1).unwrap();
    });
    assert_eq!(answer.code(), 400);
    let (_, answer) = ask(&mut bench, other, |_| {});
    assert_eq!(answer.code(), 0);
}

#[test]
fn both_families_learn_their_address_also_through_a_v6_socket() {
    let mut bench = Bench::new(config());
    for (client, told) in [
        ("192.0.2.7:50000", "192.0.2.7:50000"),
        ("[2001:db8::7]:50000", "[2001:db8::7]:50000"),
        ("[::ffff:192.0.2.7]:50000", "192.0.2.7:50000"),
    ] {
        let (to, answer) = ask(&mut bench, path(client), |_| {});
        assert_eq!(to, path(client), "the path is as the socket gave it");
        assert_eq!(
            answer.message().xor_mapped_address(),
            Ok(Some(address(told)))
        );
    }
}

#[test]
fn fingerprint_is_answered_with_fingerprint_and_a_wrong_one_not_at_all() {
    let mut bench = Bench::new(config());
    let mut bytes = message(Class::Request, Method::BINDING, |b| {
        b.fingerprint().unwrap();
    });
    let _ = bench.datagram(path("192.0.2.1:1"), &bytes);
    let (_, answer) = bench.last_transmit().unwrap();
    assert_eq!(
        Message::parse(&answer).unwrap().fingerprint(),
        Fingerprint::Valid
    );
    *bytes.last_mut().unwrap() ^= 1;
    let _ = bench.datagram(path("192.0.2.1:1"), &bytes);
    assert_eq!(bench.last_transmit(), None);
}

#[test]
fn answers_of_discovery_are_at_most_five_times_as_long() {
    let mut config = with_discovery();
    let (a, b) = (address("[2001:db8::1]:3478"), address("[2001:db8::2]:3479"));
    if let Some(discovery) = &mut config.discovery {
        (discovery.primary.1, discovery.alternate.1) = (a, b);
    }
    let mut bench = Bench::new(config);
    let path = at(0, "[2001:db8::7]:50000");
    let (_, answer) = ask(&mut bench, path, |_| {});
    assert!(answer.0.len() <= 100, "{}", answer.0.len());
    assert_eq!(answer.message().other_address(), Ok(Some(b)));
    assert_eq!(
        answer.message().mapped_address(),
        Ok(None),
        "there is no room for it"
    );
    let (_, answer) = ask(&mut bench, path, |b| {
        b.change_request(ChangeRequest::default()).unwrap();
    });
    assert_eq!(
        answer.message().mapped_address(),
        Ok(Some(address("[2001:db8::7]:50000")))
    );
}
