//! What the server's core costs without sockets: a relayed datagram in each direction, a challenge, an allocation.
//!
//! Run with `cargo run --release -p nilas-turn --example server_cost`.

#![expect(
    clippy::disallowed_types,
    reason = "a measurement of real time, not part of the state machine"
)]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use nilas_stun::{Class, Key, Message, MessageBuilder, Method, TransactionId};
use nilas_turn::server::{
    Command, Common, Handled, Input, ListenerId, MIN_BUFFER, Output, Path, RelayId, Server,
    ServerConfig, WorkerId,
};
use nilas_turn::{ChannelData, Time};

const REALM: &str = "example.org";
const NOW: Time = Time::from_millis(1);
const ALLOCATIONS: u32 = 10_000;
const ROUNDS: u32 = 2_000_000;

fn main() {
    let mut config = ServerConfig::new(REALM).expect("a realm");
    config.add_user("ann", "password").expect("a user");
    config.max_allocations_per_user = usize::MAX;
    config.error_interval = Duration::ZERO;
    config.peer_rule.allow = vec!["192.0.2.0/24".parse().expect("a network")];
    let common = Common::new([0; 32], Duration::from_secs(1_700_000_000), 1);
    let mut server = Server::new(Arc::new(config), common, WorkerId(0), [1; 32]);
    let key = Key::long_term_md5("ann", REALM, "password").expect("credentials");

    let started = Instant::now();
    for number in 0..ALLOCATIONS {
        allocate(&mut server, path(number), number, &key);
    }
    report("challenge and allocation, both ends", started, ALLOCATIONS);

    let peers: Vec<(Path, RelayId)> = (0..100)
        .map(|number| {
            let path = path(number * 97 % ALLOCATIONS);
            (path, bind(&mut server, path, &key))
        })
        .collect();
    let peer: SocketAddr = "192.0.2.9:9".parse().expect("an address");
    let mut message = ChannelData::header(0x4000, 1_200).expect("short").to_vec();
    message.resize(1_204, 7);

    let started = Instant::now();
    for round in 0..ROUNDS {
        let path = peers[(round % 100) as usize].0;
        let input = Input::ClientDatagram {
            path,
            bytes: &message,
        };
        assert!(matches!(server.handle(NOW, input), Handled::ToPeer { .. }));
    }
    report("ChannelData to a peer, 100 flows", started, ROUNDS);

    let started = Instant::now();
    for round in 0..ROUNDS {
        let relay = peers[(round % 100) as usize].1;
        let input = Input::PeerDatagram {
            relay,
            peer,
            length: 1_200,
        };
        assert!(matches!(
            server.handle(NOW, input),
            Handled::ToClient { .. }
        ));
    }
    report(
        "a peer's datagram to ChannelData, 100 flows",
        started,
        ROUNDS,
    );

    let mut buffer = [0; 64];
    let bytes = build(&mut buffer, Class::Request, Method::ALLOCATE, |_| {});
    let mut out = [0; MIN_BUFFER];
    let started = Instant::now();
    for number in 0..ROUNDS / 10 {
        let input = Input::ClientDatagram {
            path: path(1_000_000 + number),
            bytes,
        };
        let _ = server.handle(NOW, input);
        assert!(matches!(
            server.poll(NOW, &mut out),
            Output::Transmit { .. }
        ));
    }
    report("a challenge to a stranger", started, ROUNDS / 10);
}

fn report(what: &str, started: Instant, count: u32) {
    let each = started.elapsed().as_nanos() / u128::from(count);
    println!("{what}: {each} ns");
}

fn path(number: u32) -> Path {
    Path::Datagram {
        listener: ListenerId(0),
        client: SocketAddr::from((Ipv4Addr::from(0x0B00_0000 + number), 5_000)),
        server: "198.51.100.1:3478".parse().expect("an address"),
    }
}

fn build(
    buffer: &mut [u8],
    class: Class,
    method: Method,
    write: impl FnOnce(&mut MessageBuilder<'_>),
) -> &[u8] {
    let id = TransactionId::new(*b"twelve bytes");
    let mut builder = MessageBuilder::new(buffer, class, method, id).expect("room");
    write(&mut builder);
    let length = builder.finish();
    &buffer[..length]
}

/// Sends a request, binds what it wants bound, and gives the nonce of an error.
fn ask(server: &mut Server, path: Path, bytes: &[u8], relay: u32) -> Option<String> {
    let mut out = [0; MIN_BUFFER];
    let _ = server.handle(NOW, Input::ClientDatagram { path, bytes });
    let mut nonce = None;
    loop {
        match server.poll(NOW, &mut out) {
            Output::Transmit { size, .. } => {
                let answer = Message::parse(&out[..size]).expect("an answer");
                nonce = answer.nonce().expect("well formed").map(str::to_owned);
            }
            Output::Command(Command::BindRelay { relay: id, .. }) => {
                let address = SocketAddr::from((Ipv4Addr::from(0x0C00_0000 + relay), 50_000));
                let _ = server.handle(
                    NOW,
                    Input::RelayBound {
                        relay: id,
                        result: Ok(address),
                    },
                );
            }
            Output::Idle(_) => return nonce,
            _ => {}
        }
    }
}

fn signed(
    server: &mut Server,
    path: Path,
    method: Method,
    number: u32,
    key: &Key,
    write: impl Fn(&mut MessageBuilder<'_>),
) {
    let mut buffer = [0; 512];
    let challenge = build(&mut buffer, Class::Request, method, &write);
    let nonce = ask(server, path, challenge, number).expect("a challenge");
    let bytes = build(&mut buffer, Class::Request, method, |builder| {
        write(builder);
        builder
            .username("ann")
            .and_then(|b| b.realm(REALM))
            .and_then(|b| b.nonce(&nonce))
            .and_then(|b| b.message_integrity(key))
            .expect("room");
    });
    assert_eq!(ask(server, path, bytes, number), None);
}

fn allocate(server: &mut Server, path: Path, number: u32, key: &Key) {
    signed(server, path, Method::ALLOCATE, number, key, |builder| {
        builder.requested_transport(17).expect("room");
    });
}

/// Binds channel 0x4000 to the peer, and finds the relay by sending to it.
fn bind(server: &mut Server, path: Path, key: &Key) -> RelayId {
    signed(server, path, Method::CHANNEL_BIND, 0, key, |builder| {
        let peer = "192.0.2.9:9".parse().expect("an address");
        builder
            .channel_number(0x4000)
            .and_then(|b| b.xor_peer_address(peer))
            .expect("room");
    });
    let bytes = ChannelData::header(0x4000, 0).expect("short");
    match server.handle(
        NOW,
        Input::ClientDatagram {
            path,
            bytes: &bytes,
        },
    ) {
        Handled::ToPeer { relay, .. } => relay,
        other => unreachable!("{other:?}"),
    }
}
