//! The TURN server's core: datagrams and streams of strangers and of users, peers, time.
//!
//! Whatever comes, nothing that is not rightly signed changes what the server holds; an answer to an unverified
//! source is at most five times as long as its request; no peer is reached that the rule refuses or nobody has asked
//! for; everything is bounded; and when all clients have gone, nothing is left.

use std::sync::Arc;
use std::time::Duration;

use nilas_stun::{
    AddressFamily, AttributeType, Class, Message, MessageBuilder, Method, TransactionId,
};
use nilas_turn::ChannelData;
use nilas_turn::server::{ConnectError, Input, Path, RelayProtocol, StreamId};

use crate::choices::Choices;
use crate::relay::{Relay, User, address, config, datagram_path};

const METHODS: [Method; 7] = [
    Method::ALLOCATE,
    Method::REFRESH,
    Method::CREATE_PERMISSION,
    Method::CHANNEL_BIND,
    Method::CONNECT,
    Method::CONNECTION_BIND,
    Method::BINDING,
];

const PEERS: [&str; 14] = [
    "192.0.2.1:7",
    "192.0.2.2:7",
    "[2001:db8::1]:7",
    "198.51.100.1:50000",
    "198.51.100.1:50001",
    "198.51.100.1:3478",
    "127.0.0.1:80",
    "10.0.0.1:80",
    "[::ffff:127.0.0.1]:80",
    "[::ffff:192.0.2.1]:7",
    "[64:ff9b::a00:1]:80",
    "[2002:7f00:1::1]:80",
    "[fe80::1]:80",
    "192.0.2.1:0",
];

/// What a client of the server was told, to be said again.
#[derive(Default)]
struct Learned {
    ticket: Vec<u8>,
    token: [u8; 8],
    connection: u32,
}

/// The server, its users, and what happens. Says whether data was relayed.
pub fn check(data: &[u8]) -> bool {
    let mut choices = Choices::new(data);
    let mut relay = Relay::default();
    let mut users: Vec<User> = [
        "203.0.113.1:40000",
        "203.0.113.2:40000",
        "[2001:db8:1::1]:40000",
    ]
    .map(|client| datagram_path(address(client)))
    .into_iter()
    .chain([1, 2, 3].map(|number| Path::Stream(StreamId(number))))
    .enumerate()
    .map(|(number, path)| User::new(path, number as u8))
    .collect();
    let mut learned = Learned::default();
    for _ in 0..300 {
        if choices.is_done() {
            break;
        }
        relay.sent.clear();
        relay.relayed.clear();
        step(&mut choices, &mut relay, &mut users, &learned);
        relay.check();
        for user in &mut users {
            user.learn(&relay.sent);
        }
        learn(&mut learned, &relay);
    }
    let relayed = relay.server.counters().packets_to_peers > 0;
    relay.end();
    relayed
}

fn step(choices: &mut Choices<'_>, relay: &mut Relay, users: &mut [User], learned: &Learned) {
    match choices.below(16) {
        0 => raw(choices, relay, users),
        1..=4 => signed(choices, relay, users, learned, false),
        5 => signed(choices, relay, users, learned, true),
        6 => {
            let path = users[choices.below(users.len())].open(relay);
            let peer = address(choices.of(&PEERS));
            let data = choices.bytes();
            let bytes = unsigned(Class::Indication, Method::SEND, |b| {
                let _ = b.xor_peer_address(peer).and_then(|b| b.data(data));
            });
            relay.receive(path, &bytes);
        }
        7 => {
            let path = users[choices.below(users.len())].path;
            let number = 0x4000 + choices.below(6) as u16;
            let data = choices.bytes();
            let mut bytes = ChannelData::header(number, data.len())
                .expect("the number is a channel's")
                .to_vec();
            bytes.extend_from_slice(data);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            relay.receive(path, &bytes);
        }
        8 => {
            let relays: Vec<_> = relay.relays.keys().copied().collect();
            let peer = address(choices.of(&PEERS));
            if !relays.is_empty() {
                let bytes = [7; 64];
                let input = Input::PeerDatagram {
                    relay: relays[choices.below(relays.len())],
                    peer,
                    length: choices.below(65),
                };
                let _ = relay.handle(input, &bytes);
            }
        }
        9 => {
            let relays: Vec<_> = relay.relays.keys().copied().collect();
            if !relays.is_empty() {
                let input = Input::PeerIcmp {
                    relay: relays[choices.below(relays.len())],
                    peer: address(choices.of(&PEERS)),
                    icmp_type: choices.byte(),
                    code: choices.byte(),
                    error_data: choices.long(),
                };
                let _ = relay.handle(input, &[]);
            }
        }
        10 => {
            let relays: Vec<_> = relay
                .relays
                .iter()
                .filter(|(_, (_, p))| *p == RelayProtocol::Tcp)
                .map(|(r, _)| *r)
                .collect();
            let peer = address(choices.of(&PEERS));
            if !relays.is_empty() {
                let _ = relay.handle(
                    Input::PeerAccepted {
                        relay: relays[choices.below(relays.len())],
                        peer,
                    },
                    &[],
                );
            }
        }
        11 => {
            if let Some(connection) = relay.connecting.pop() {
                let result = if choices.flag() {
                    Err(ConnectError::Refused)
                } else {
                    Ok(())
                };
                if result.is_ok() {
                    relay.connections.push(connection);
                }
                let _ = relay.handle(Input::PeerConnected { connection, result }, &[]);
            } else if let Some(connection) = relay.connections.pop() {
                let _ = relay.handle(Input::PeerClosed(connection), &[]);
            }
        }
        12 => {
            let path = users[choices.below(users.len())].path;
            relay.close(path);
        }
        13 => match choices.below(8) {
            0 => {
                let _ = relay.handle(Input::Drain, &[]);
            }
            1 => {
                let mut other = config();
                other.peer_rule.deny = vec!["192.0.2.2/32".parse().expect("a network")];
                let _ = relay.handle(Input::ConfigChanged(Arc::new(other)), &[]);
            }
            2 => {
                let _ = relay.handle(Input::ConfigChanged(Arc::new(config())), &[]);
            }
            3 => relay.binds = !relay.binds,
            _ => users[choices.below(6)].sha256 ^= true,
        },
        14 => relay.pass(Duration::from_secs(
            choices.of(&[1, 29, 31, 299, 301, 600, 901, 1_801]),
        )),
        _ => relay.pass(Duration::from_millis(u64::from(choices.number()))),
    }
}

/// Bytes of a stranger.
fn raw(choices: &mut Choices<'_>, relay: &mut Relay, users: &mut [User]) {
    let path = users[choices.below(users.len())].open(relay);
    let bytes = choices.bytes();
    let before = relay.held();
    relay.receive(path, bytes);
    if matches!(path, Path::Stream(_)) {
        return;
    }
    let message = Message::parse(bytes).ok();
    let integrity = |message: &Message<'_>| {
        message.value(AttributeType::MESSAGE_INTEGRITY).is_some()
            || message
                .value(AttributeType::MESSAGE_INTEGRITY_SHA256)
                .is_some()
    };
    if message.as_ref().is_some_and(integrity) {
        return;
    }
    assert_eq!(relay.held(), before, "a stranger has changed something");
    for (to, answer) in relay.sent.iter().filter(|(to, _)| *to == path) {
        // Data that another user's relay has passed on is no answer.
        let relayed = Message::parse(answer).map_or(true, |m| m.class() == Class::Indication);
        assert!(
            relayed || message.is_some(),
            "{to:?} is answered, and it was no STUN"
        );
        assert!(
            relayed || answer.len() <= 5 * bytes.len(),
            "{} bytes for {}",
            answer.len(),
            bytes.len()
        );
    }
}

/// A signed request; if it is to be spoiled, a bit of it is wrong.
fn signed(
    choices: &mut Choices<'_>,
    relay: &mut Relay,
    users: &mut [User],
    learned: &Learned,
    spoil: bool,
) {
    let number = choices.below(users.len());
    let user = &mut users[number];
    let path = user.open(relay);
    let method = choices.of(&METHODS);
    let ports: Vec<_> = relay.relays.values().map(|(address, _)| *address).collect();
    let mut asked = Vec::new();
    let mut bytes = user.sign(method, |builder| {
        for _ in 0..choices.below(6) {
            attribute(choices, builder, learned, &ports, &mut asked);
        }
    });
    if !spoil {
        if matches!(method, Method::CREATE_PERMISSION | Method::CHANNEL_BIND) {
            relay
                .asked
                .extend(asked.iter().map(|peer| peer.ip().to_canonical()));
        }
        relay.receive(path, &bytes);
        return;
    }
    let bit = usize::from(choices.number()) % (bytes.len() * 8);
    bytes[bit / 8] ^= 1 << (bit % 8);
    let before = relay.held();
    relay.receive(path, &bytes);
    let after = relay.held();
    match path {
        Path::Datagram { .. } => assert_eq!(after, before, "bit {bit} of {method:?}"),
        // What cannot be framed ends the stream, and its allocation with it.
        Path::Stream(_) => assert!(
            after.allocations <= before.allocations && after.connections <= before.connections,
            "{after:?} after {before:?}"
        ),
    }
}

fn attribute(
    choices: &mut Choices<'_>,
    builder: &mut MessageBuilder<'_>,
    learned: &Learned,
    ports: &[std::net::SocketAddr],
    asked: &mut Vec<std::net::SocketAddr>,
) {
    // What is refused for lack of room leaves nothing behind, which is as good as any.
    let _ = match choices.below(14) {
        0 => builder.requested_transport(choices.of(&[17, 6, 17, 0])),
        1 => builder.lifetime(choices.of(&[0, 1, 600, 3_600, u32::MAX])),
        2 | 3 => {
            let peer = match choices.byte() {
                byte if byte >= 0xF0 && !ports.is_empty() => ports[usize::from(byte) % ports.len()],
                byte => address(PEERS[usize::from(byte) % PEERS.len()]),
            };
            asked.push(peer);
            builder.xor_peer_address(peer)
        }
        4 => builder.channel_number(0x4000 + choices.below(6) as u16),
        5 => builder.channel_number(choices.number()),
        6 => builder
            .requested_address_family(choices.of(&[AddressFamily::Ipv4, AddressFamily::Ipv6])),
        7 => builder
            .additional_address_family(choices.of(&[AddressFamily::Ipv6, AddressFamily::Ipv4])),
        8 => builder.even_port(choices.flag()),
        9 => builder.dont_fragment(),
        10 => builder.reservation_token(learned.token),
        11 => builder.connection_id(learned.connection),
        12 => builder.mobility_ticket(if choices.flag() { &learned.ticket } else { &[] }),
        _ => {
            let (attribute, value) = (choices.number(), choices.bytes());
            let attribute = AttributeType(attribute);
            // What this function keeps account of, and what only comes behind everything else.
            let kept = [
                AttributeType::XOR_PEER_ADDRESS,
                AttributeType::MESSAGE_INTEGRITY,
                AttributeType::MESSAGE_INTEGRITY_SHA256,
                AttributeType::FINGERPRINT,
            ];
            if kept.contains(&attribute) {
                return;
            }
            builder.raw(attribute, &value[..value.len().min(300)])
        }
    };
}

fn learn(learned: &mut Learned, relay: &Relay) {
    for (_, bytes) in &relay.sent {
        let Ok(message) = Message::parse(bytes) else {
            continue;
        };
        if let Some(ticket) = message.mobility_ticket() {
            learned.ticket = ticket.to_vec();
        }
        if let Ok(Some(token)) = message.reservation_token() {
            learned.token = token;
        }
        if let Ok(Some(connection)) = message.connection_id() {
            learned.connection = connection;
        }
    }
}

fn unsigned(class: Class, method: Method, write: impl FnOnce(&mut MessageBuilder<'_>)) -> Vec<u8> {
    let mut buffer = vec![0; 66_000];
    let id = TransactionId::new(*b"twelve bytes");
    let mut builder = MessageBuilder::new(&mut buffer, class, method, id).expect("there is room");
    write(&mut builder);
    let length = builder.finish();
    buffer.truncate(length);
    buffer
}
