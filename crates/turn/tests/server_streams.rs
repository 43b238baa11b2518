//! Clients on streams (RFC 8489 section 6.2.2, RFC 8656 section 12.5) and TCP allocations (RFC 6062).

mod support;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use nilas_stun::{AddressFamily, Class, Message, Method};
use nilas_turn::server::{
    Command, Common, ConnectError, ConnectionId, EndReason, Event, Handled, Input, Path, RelayId,
    StreamHandled, StreamId, WorkerId,
};
use support::*;

fn stream_of(path: Path) -> StreamId {
    match path {
        Path::Stream(stream) => stream,
        Path::Datagram { .. } => panic!("{path:?}"),
    }
}

fn ann_on(bench: &mut Bench, number: u64) -> Client {
    let path = bench.open_stream(number);
    Client::new(path, "ann", "secret of ann")
}

fn binding() -> Vec<u8> {
    message(Class::Request, Method::BINDING, |_| {})
}

fn closes(bench: &Bench, path: Path) -> bool {
    bench
        .commands
        .contains(&Command::CloseStream(stream_of(path)))
}

/// A client with a TCP allocation, and its relay.
fn tcp(bench: &mut Bench, number: u64) -> (Client, RelayId) {
    let mut client = ann_on(bench, number);
    let answer = client.request(bench, Method::ALLOCATE, |builder| {
        builder.requested_transport(6).unwrap();
    });
    assert_eq!(answer.code(), 0);
    assert_eq!(answer.message().reservation_token(), Ok(None));
    (client, *bench.relays.keys().max().unwrap())
}

/// Asks for a connection; the answer comes when the peer has answered.
fn start_connect(client: &Client, bench: &mut Bench, peer: &str) -> Option<Answer> {
    let id = bench.transaction();
    let bytes = client.sign(id, Method::CONNECT, |builder| {
        builder.xor_peer_address(address(peer)).unwrap();
    });
    client.exchange(bench, &bytes).1.map(Answer)
}

fn last_connection(bench: &Bench) -> ConnectionId {
    bench
        .commands
        .iter()
        .rev()
        .find(|command| matches!(command, Command::ConnectPeer { .. }))
        .map(connection_of)
        .unwrap()
}

/// Connects, and gives the connection and what CONNECTION-ID says.
fn connect(client: &Client, bench: &mut Bench, peer: &str) -> (ConnectionId, u32) {
    assert!(start_connect(client, bench, peer).is_none());
    let connection = last_connection(bench);
    bench.transmits.clear();
    let _ = bench.handle(Input::PeerConnected {
        connection,
        result: Ok(()),
    });
    let (to, bytes) = bench.last_transmit().unwrap();
    assert_eq!(to, client.path);
    let answer = Answer(bytes);
    assert_eq!(answer.code(), 0);
    (
        connection,
        client.verified(&answer).connection_id().unwrap().unwrap(),
    )
}

fn connection_bind(client: &mut Client, bench: &mut Bench, number: u32) -> u16 {
    client
        .request(bench, Method::CONNECTION_BIND, |builder| {
            builder.connection_id(number).unwrap();
        })
        .code()
}

#[test]
fn messages_are_cut_out_of_a_stream_wherever_it_is_split() {
    let mut bench = Bench::new(config());
    let mut client = ann_on(&mut bench, 1);
    client.allocate(&mut bench);
    client.bind(&mut bench, 0x4000, "192.0.2.9:9");
    let mut bytes = binding();
    let mut padded = channel_data(0x4000, b"12345");
    padded.extend_from_slice(&[0; 3]);
    bytes.extend_from_slice(&padded);
    bytes.extend_from_slice(&send_indication(address("192.0.2.9:9"), b"1234567", false));
    for size in 1..bytes.len() {
        let (mut kept, mut data) = (Vec::new(), Vec::new());
        bench.transmits.clear();
        for chunk in bytes.chunks(size) {
            kept.extend_from_slice(chunk);
            loop {
                let StreamHandled { taken, handled } =
                    bench
                        .server
                        .handle_stream(bench.now, stream_of(client.path), &kept);
                bench.drive();
                if let Handled::ToPeer { payload, .. } = handled {
                    data.push(kept[payload].to_vec());
                }
                kept.drain(..taken);
                if taken == 0 {
                    break;
                }
            }
        }
        assert_eq!(kept, []);
        assert_eq!(data, [&b"12345"[..], b"1234567"], "{size}");
        assert_eq!(bench.transmits.len(), 1, "{size}");
    }
}

/// RFC 8656 section 15.
#[test]
fn dont_fragment_of_a_stream_is_heeded_in_both_families() {
    let mut bench = Bench::new(config());
    let mut client = ann_on(&mut bench, 1);
    client.allocate_with(&mut bench, |builder| {
        builder
            .additional_address_family(AddressFamily::Ipv6)
            .unwrap();
    });
    for peer in ["192.0.2.9:9", "[2001:db8::9]:9"] {
        client.permit(&mut bench, peer);
        for wanted in [true, false] {
            let bytes = send_indication(address(peer), b"data", wanted);
            let (handled, _) = client.exchange(&mut bench, &bytes);
            assert!(
                matches!(handled, Handled::ToPeer { dont_fragment, .. } if dont_fragment == wanted),
                "{peer}: {handled:?}"
            );
        }
    }
}

#[test]
fn data_to_a_stream_is_padded() {
    let mut bench = Bench::new(config());
    let mut client = ann_on(&mut bench, 1);
    client.allocate(&mut bench);
    client.bind(&mut bench, 0x4000, "192.0.2.9:9");
    let relay = *bench.relays.keys().next().unwrap();
    for length in 0..8 {
        let data = &b"1234567"[..length];
        let handled = bench.handle(Input::PeerDatagram {
            relay,
            peer: address("192.0.2.9:9"),
            length,
        });
        let (to, bytes) = assemble(&handled, data);
        assert_eq!(to, client.path);
        assert_eq!(bytes.len(), 4 + length.next_multiple_of(4));
        assert_eq!(bytes[..4 + length], channel_data(0x4000, data));
        assert!(bytes[4 + length..].iter().all(|byte| *byte == 0));
    }
}

#[test]
fn what_is_neither_stun_nor_channel_data_closes_the_stream() {
    let long = {
        let mut bytes = binding();
        bytes[2..4].copy_from_slice(&4_096_u16.to_be_bytes());
        bytes
    };
    let mut odd = binding();
    odd[3] = 2;
    let mut cookie = binding();
    cookie[4] = 0;
    for (what, bytes) in [
        ("HTTP", b"GET / HTTP/1.1\r\n\r\n".to_vec()),
        ("TLS", vec![22, 3, 1, 2, 0]),
        ("one byte", vec![0xFF]),
        ("a channel without an allocation", vec![0x40, 0, 0xFF, 0xFF]),
        ("too long for a stranger", long),
        ("a length that is no multiple of four", odd),
        ("another cookie", cookie[..8].to_vec()),
    ] {
        let mut bench = Bench::new(config());
        let path = bench.open_stream(1);
        let handled = bench
            .server
            .handle_stream(bench.now, stream_of(path), &bytes);
        bench.drive();
        assert_eq!(
            handled,
            StreamHandled {
                taken: bytes.len(),
                handled: Handled::Done
            },
            "{what}"
        );
        assert!(closes(&bench, path), "{what}");
        assert_eq!(bench.server.counters().streams, 0);
        assert_eq!(bench.server.counters().timers, 0);
        assert_eq!(bench.transmits, []);
    }
}

#[test]
fn a_misframed_stream_takes_its_allocation_along() {
    let mut bench = Bench::new(config());
    let mut client = ann_on(&mut bench, 1);
    client.allocate(&mut bench);
    let _ = client.exchange(&mut bench, &[0x80, 0, 0, 0]);
    assert!(closes(&bench, client.path));
    assert!(bench.is_empty());
}

#[test]
fn silent_and_slow_streams_are_closed() {
    let mut bench = Bench::new(config());
    let silent = bench.open_stream(1);
    let slow = bench.open_stream(2);
    let mut patient = ann_on(&mut bench, 3);
    patient.allocate(&mut bench);
    let bytes = binding();
    for length in 1..20 {
        bench.pass(2 * SECOND);
        let handled = bench
            .server
            .handle_stream(bench.now, stream_of(slow), &bytes[..length]);
        if length < 15 {
            assert_eq!(handled.taken, 0);
        }
    }
    assert!(closes(&bench, silent) && closes(&bench, slow));
    assert!(!closes(&bench, patient.path));
    assert_eq!(bench.server.counters().streams, 1);
    assert_eq!(bench.server.counters().streams_idle, 2);
    // With its allocation, the stream loses its right to stay.
    bench.pass(600 * SECOND);
    assert_eq!(bench.server.counters().allocations, 0);
    bench.pass(30 * SECOND);
    assert!(closes(&bench, patient.path));
}

#[test]
fn a_stream_that_asks_something_stays() {
    let mut bench = Bench::new(config());
    let path = bench.open_stream(1);
    for _ in 0..5 {
        bench.pass(29 * SECOND);
        let _ = bench
            .server
            .handle_stream(bench.now, stream_of(path), &binding());
        bench.drive();
    }
    assert!(!closes(&bench, path));
    assert_eq!(bench.transmits.len(), 5);
    bench.pass(30 * SECOND);
    assert!(closes(&bench, path));
}

#[test]
fn a_closed_stream_takes_its_allocation_along() {
    let mut bench = Bench::new(config());
    let mut client = ann_on(&mut bench, 1);
    client.allocate(&mut bench);
    let _ = bench.handle(Input::PathClosed(client.path));
    assert!(bench.is_empty());
    assert!(matches!(
        bench.events.last(),
        Some(Event::AllocationEnded {
            reason: EndReason::PathClosed,
            ..
        })
    ));
    assert_eq!(bench.server.counters().timers, 0);
}

#[test]
fn a_stream_that_closes_while_its_port_is_bound_leaves_nothing() {
    let mut bench = Bench::new(config());
    let mut client = ann_on(&mut bench, 1);
    client.refresh(&mut bench, 600);
    bench.binds = false;
    assert!(
        client
            .try_request(&mut bench, Method::ALLOCATE, |b| {
                b.requested_transport(17).unwrap();
            })
            .is_none()
    );
    let Some(Command::BindRelay { relay, .. }) = bench.commands.pop() else {
        panic!()
    };
    let _ = bench.handle(Input::PathClosed(client.path));
    assert_eq!(bench.commands.last(), Some(&Command::CloseRelay(relay)));
    let _ = bench.handle(Input::RelayBound {
        relay,
        result: Ok(address("198.51.100.1:50000")),
    });
    assert!(bench.is_empty());
    assert_eq!(bench.events, []);
}

#[test]
fn tcp_allocations_exclude_what_is_about_udp_ports() {
    for write in [
        (|b| {
            b.dont_fragment().unwrap();
        }) as fn(&mut nilas_stun::MessageBuilder<'_>),
        |b| {
            b.even_port(false).unwrap();
        },
        |b| {
            b.reservation_token([1; 8]).unwrap();
        },
    ] {
        let mut bench = Bench::new(config());
        let mut client = ann_on(&mut bench, 1);
        let answer = client.request(&mut bench, Method::ALLOCATE, |builder| {
            builder.requested_transport(6).unwrap();
            write(builder);
        });
        assert_eq!(answer.code(), 400);
    }
}

#[test]
fn a_connection_to_a_peer_is_made_bound_and_closed() {
    let mut bench = Bench::new(config());
    let (client, relay) = tcp(&mut bench, 1);
    let (connection, number) = connect(&client, &mut bench, "192.0.2.9:80");
    assert!(
        matches!(bench.commands.iter().rev().find(|c| matches!(c, Command::ConnectPeer { .. })),
        Some(Command::ConnectPeer { relay: from, peer, .. }) if *from == relay && *peer == address("192.0.2.9:80"))
    );
    let mut data = ann_on(&mut bench, 2);
    bench.commands.clear();
    assert_eq!(connection_bind(&mut data, &mut bench, number), 0);
    let stream = stream_of(data.path);
    assert_eq!(bench.commands, [Command::Splice { stream, connection }]);
    // What comes now is the peer's.
    let handled = bench
        .server
        .handle_stream(bench.now, stream, b"GET / HTTP/1.1");
    assert_eq!(
        handled,
        StreamHandled {
            taken: 0,
            handled: Handled::Done
        }
    );
    bench
        .server
        .charge(bench.now, connection, 100, 1_000)
        .unwrap();
    assert_eq!(bench.server.counters().bytes_to_peers, 100);
    // The peer closes: so does the client's data connection.
    let _ = bench.handle(Input::PeerClosed(connection));
    assert_eq!(bench.commands.last(), Some(&Command::CloseStream(stream)));
    assert_eq!(bench.server.counters().connections, 0);
    bench.pass(600 * SECOND);
    assert!(bench.is_empty());
    let traffic = bench
        .events
        .iter()
        .find_map(|event| match event {
            Event::AllocationEnded { traffic, .. } => Some(*traffic),
            _ => None,
        })
        .unwrap();
    assert_eq!(
        (traffic.bytes_from_client, traffic.bytes_from_peers),
        (100, 1_000)
    );
}

#[test]
fn the_client_closes_its_data_connection() {
    let mut bench = Bench::new(config());
    let (client, _) = tcp(&mut bench, 1);
    let (connection, number) = connect(&client, &mut bench, "192.0.2.9:80");
    let mut data = ann_on(&mut bench, 2);
    connection_bind(&mut data, &mut bench, number);
    let _ = bench.handle(Input::PathClosed(data.path));
    assert_eq!(bench.commands.last(), Some(&Command::ClosePeer(connection)));
    assert_eq!(bench.server.counters().connections, 0);
    // The same peer can be had again.
    connect(&client, &mut bench, "192.0.2.9:80");
}

#[test]
fn with_the_allocation_its_connections_are_closed() {
    let mut bench = Bench::new(config());
    let (mut client, _) = tcp(&mut bench, 1);
    let (bound, number) = connect(&client, &mut bench, "192.0.2.9:80");
    let (waiting, _) = connect(&client, &mut bench, "192.0.2.9:81");
    let mut data = ann_on(&mut bench, 2);
    connection_bind(&mut data, &mut bench, number);
    bench.commands.clear();
    assert_eq!(client.refresh(&mut bench, 0).code(), 0);
    for command in [
        Command::ClosePeer(bound),
        Command::ClosePeer(waiting),
        Command::CloseStream(stream_of(data.path)),
    ] {
        assert!(bench.commands.contains(&command), "{command:?}");
    }
    assert!(bench.is_empty());
}

#[test]
fn connect_400_403_437_443_446_447_508() {
    let mut config = config();
    config.max_connections = 2;
    let mut bench = Bench::new(config);
    let mut stranger = ann_on(&mut bench, 9);
    stranger.refresh(&mut bench, 600);
    assert_eq!(
        start_connect(&stranger, &mut bench, "192.0.2.9:80")
            .unwrap()
            .code(),
        437
    );
    let mut udp = ann_on(&mut bench, 8);
    udp.allocate(&mut bench);
    assert_eq!(
        start_connect(&udp, &mut bench, "192.0.2.9:80")
            .unwrap()
            .code(),
        400
    );

    let (mut client, _) = tcp(&mut bench, 1);
    assert_eq!(
        client.request(&mut bench, Method::CONNECT, |_| {}).code(),
        400
    );
    assert_eq!(
        start_connect(&client, &mut bench, "127.0.0.1:80")
            .unwrap()
            .code(),
        403
    );
    assert_eq!(
        start_connect(&client, &mut bench, "198.51.100.1:3478")
            .unwrap()
            .code(),
        403
    );
    assert_eq!(
        start_connect(&client, &mut bench, "[2001:db8::9]:80")
            .unwrap()
            .code(),
        443
    );
    // While it is being made, and when it is there.
    assert!(start_connect(&client, &mut bench, "192.0.2.9:80").is_none());
    assert_eq!(
        start_connect(&client, &mut bench, "192.0.2.9:80")
            .unwrap()
            .code(),
        446
    );
    let connection = last_connection(&bench);
    let _ = bench.handle(Input::PeerConnected {
        connection,
        result: Ok(()),
    });
    assert_eq!(
        start_connect(&client, &mut bench, "192.0.2.9:80")
            .unwrap()
            .code(),
        446
    );
    // The peer refuses.
    assert!(start_connect(&client, &mut bench, "192.0.2.9:81").is_none());
    assert_eq!(
        start_connect(&client, &mut bench, "192.0.2.9:82")
            .unwrap()
            .code(),
        508
    );
    let connection = last_connection(&bench);
    bench.transmits.clear();
    let _ = bench.handle(Input::PeerConnected {
        connection,
        result: Err(ConnectError::Refused),
    });
    assert_eq!(Answer(bench.last_transmit().unwrap().1).code(), 447);
    // The peer does not answer.
    assert!(start_connect(&client, &mut bench, "192.0.2.9:83").is_none());
    let connection = last_connection(&bench);
    bench.transmits.clear();
    bench.pass(30 * SECOND);
    let answer = bench
        .transmits
        .iter()
        .find(|(to, _)| *to == client.path)
        .unwrap();
    assert_eq!(Answer(answer.1.clone()).code(), 447);
    assert!(bench.commands.contains(&Command::ClosePeer(connection)));
    // It answers after all: nobody waits for it.
    let _ = bench.handle(Input::PeerConnected {
        connection,
        result: Ok(()),
    });
    assert_eq!(bench.server.counters().connections, 0);
}

#[test]
fn a_connection_that_is_not_bound_in_30_seconds_is_closed() {
    let mut bench = Bench::new(config());
    let (client, _) = tcp(&mut bench, 1);
    let (connection, number) = connect(&client, &mut bench, "192.0.2.9:80");
    bench.pass(29 * SECOND);
    assert_eq!(bench.server.counters().connections, 1);
    bench.pass(SECOND);
    assert!(bench.commands.contains(&Command::ClosePeer(connection)));
    let mut late = ann_on(&mut bench, 2);
    assert_eq!(connection_bind(&mut late, &mut bench, number), 400);
}

#[test]
fn connection_bind_400_441() {
    let mut bench = Bench::new(config());
    let (mut client, _) = tcp(&mut bench, 1);
    let (_, number) = connect(&client, &mut bench, "192.0.2.9:80");
    let mut data = ann_on(&mut bench, 2);
    assert_eq!(
        data.request(&mut bench, Method::CONNECTION_BIND, |_| {})
            .code(),
        400
    );
    assert_eq!(connection_bind(&mut data, &mut bench, number ^ 1), 400);
    assert_eq!(
        connection_bind(&mut client, &mut bench, number),
        400,
        "a control connection stays one"
    );
    let mut datagrams = Client::ann("192.0.2.1:50000");
    assert_eq!(connection_bind(&mut datagrams, &mut bench, number), 400);
    let stolen = bench.open_stream(3);
    let mut bob = Client::new(stolen, "bob", "secret of bob");
    assert_eq!(connection_bind(&mut bob, &mut bench, number), 441);
    assert_eq!(connection_bind(&mut data, &mut bench, number), 0);
    let mut second = ann_on(&mut bench, 4);
    assert_eq!(
        connection_bind(&mut second, &mut bench, number),
        400,
        "it is bound already"
    );
}

#[test]
fn a_peer_connects() {
    let mut bench = Bench::new(config());
    let (mut client, relay) = tcp(&mut bench, 1);
    let peer = address("192.0.2.9:4711");
    let accept =
        |bench: &mut Bench, peer: SocketAddr| bench.handle(Input::PeerAccepted { relay, peer });
    // RFC 6062 section 5.3: without a permission it is closed at once.
    assert_eq!(accept(&mut bench, peer), Handled::Refused);
    assert_eq!(client.permit(&mut bench, "192.0.2.9:0"), 0);
    bench.transmits.clear();
    let Handled::Accepted(connection) = accept(&mut bench, peer) else {
        panic!()
    };
    let (to, bytes) = bench.last_transmit().unwrap();
    assert_eq!(to, client.path);
    let attempt = Message::parse(&bytes).unwrap();
    assert_eq!(
        (attempt.class(), attempt.method()),
        (Class::Indication, Method::CONNECTION_ATTEMPT)
    );
    assert_eq!(attempt.xor_peer_address(), Ok(Some(peer)));
    let number = attempt.connection_id().unwrap().unwrap();
    let mut data = ann_on(&mut bench, 2);
    assert_eq!(connection_bind(&mut data, &mut bench, number), 0);
    assert!(bench.commands.contains(&Command::Splice {
        stream: stream_of(data.path),
        connection
    }));
    bench.pass(300 * SECOND);
    assert_eq!(
        accept(&mut bench, address("192.0.2.9:4712")),
        Handled::Refused,
        "the permission has expired"
    );
}

#[test]
fn a_tcp_allocation_has_no_channels_and_sends_no_datagrams() {
    let mut bench = Bench::new(config());
    let (mut client, _) = tcp(&mut bench, 1);
    assert_eq!(client.bind(&mut bench, 0x4000, "192.0.2.9:9"), 400);
    client.permit(&mut bench, "192.0.2.9:9");
    assert_eq!(
        client.send(&mut bench, "192.0.2.9:9", b"x").0,
        Handled::Done
    );
}

#[test]
fn spliced_bytes_are_slowed_by_the_quota() {
    let mut config = config();
    config.user_bandwidth = Some(1_000);
    let mut bench = Bench::new(config);
    let (client, _) = tcp(&mut bench, 1);
    let (connection, _) = connect(&client, &mut bench, "192.0.2.9:80");
    assert_eq!(bench.server.charge(bench.now, connection, 600, 400), Ok(()));
    assert_eq!(
        bench.server.charge(bench.now, connection, 500, 0),
        Err(Duration::from_millis(500))
    );
}

#[test]
fn a_connection_bind_on_another_core_is_sent_there() {
    let common = Common::new([3; 32], Duration::from_secs(UNIX), 4);
    let mut first = Bench::with_common(config(), Arc::clone(&common), WorkerId(0));
    let mut second = Bench::with_common(config(), common, WorkerId(1));
    let (client, _) = tcp(&mut first, 1);
    let (_, number) = connect(&client, &mut first, "192.0.2.9:80");
    let mut data = ann_on(&mut second, 2);
    data.refresh(&mut second, 600);
    let id = second.transaction();
    let bytes = data.sign(id, Method::CONNECTION_BIND, |b| {
        b.connection_id(number).unwrap();
    });
    let StreamHandled { taken, handled } =
        second
            .server
            .handle_stream(second.now, stream_of(data.path), &bytes);
    assert_eq!((taken, handled), (0, Handled::Elsewhere(WorkerId(0))));
    // A core that does not exist has nothing.
    assert_eq!(
        connection_bind(&mut data.clone(), &mut second, 0xFF00_0001),
        400
    );
    // The driver moves the stream over, and the first core takes the same bytes.
    let _ = second.handle(Input::PathClosed(data.path));
    let _ = first.open_stream(2);
    first.transmits.clear();
    let StreamHandled { taken, .. } =
        first
            .server
            .handle_stream(first.now, stream_of(data.path), &bytes);
    first.drive();
    assert_eq!(taken, bytes.len());
    assert_eq!(Answer(first.last_transmit().unwrap().1).code(), 0);
}
