//! Peers over TCP (RFC 6062).

use std::net::SocketAddr;

use nilas_stun::{Class, Message, Method};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::time::timeout;

use crate::raw::Raw;
use crate::support::{GUARD, Running, V4, config, start};

const TCP: u8 = 6;

async fn allocated(server: &Running) -> (Raw, SocketAddr) {
    let mut control = Raw::tcp(server.addresses.stun_tcp[0]).await;
    let (relayed, _) = control.allocate(TCP, |_| {}).await;
    (control, relayed)
}

/// A client's stream for a peer's connection.
async fn bound(server: &Running, number: u32) -> TcpStream {
    let mut data = Raw::tcp(server.addresses.stun_tcp[0]).await;
    data.succeed(Method::CONNECTION_BIND, |builder| {
        builder.connection_id(number).unwrap();
    })
    .await;
    let (stream, early) = data.into_stream();
    assert!(early.is_empty(), "the peer has said nothing yet");
    stream
}

async fn connect(control: &mut Raw, peer: SocketAddr) -> u32 {
    let answer = control
        .succeed(Method::CONNECT, |builder| {
            builder.xor_peer_address(peer).unwrap();
        })
        .await;
    Message::parse(&answer)
        .unwrap()
        .connection_id()
        .unwrap()
        .unwrap()
}

/// Bytes of a pattern, much more than any buffer on the way holds.
fn pattern(salt: u8) -> Vec<u8> {
    (0..3_000_000_u32)
        .map(|at| (at % 251) as u8 ^ salt)
        .collect()
}

/// Both sides send at once, and each ends its direction.
async fn exchange(near: TcpStream, far: TcpStream) {
    let talk = |stream: TcpStream, salt: u8| async move {
        let (mut reader, mut writer) = stream.into_split();
        let send = async {
            writer.write_all(&pattern(salt)).await.unwrap();
            writer.shutdown().await.unwrap();
        };
        let receive = async {
            let mut received = Vec::new();
            reader.read_to_end(&mut received).await.unwrap();
            received
        };
        tokio::join!(send, receive).1
    };
    let both = async { tokio::join!(talk(near, 1), talk(far, 2)) };
    let (at_near, at_far) = timeout(GUARD, both).await.unwrap();
    assert!(at_near == pattern(2) && at_far == pattern(1));
}

#[tokio::test]
async fn a_client_connects_to_peers_and_bytes_pass_both_ways() {
    let server = start(config()).await;
    let (mut control, relayed) = allocated(&server).await;
    let listener = TcpListener::bind((V4, 0)).await.unwrap();
    let address = listener.local_addr().unwrap();
    // Often enough that a data connection arrives at a worker that is not the allocation's.
    for _ in 0..6 {
        let number = connect(&mut control, address).await;
        let (far, from) = listener.accept().await.unwrap();
        assert_eq!(
            from, relayed,
            "RFC 6062 section 5.2: from the relayed address"
        );
        let near = bound(&server, number).await;
        exchange(near, far).await;
        server
            .until("the connection is forgotten", |stats| {
                stats.turn.connections == 0
            })
            .await;
    }
    server.stop().await;
}

#[tokio::test]
async fn a_permitted_peer_connects_and_others_do_not() {
    let server = start(config()).await;
    let (mut control, relayed) = allocated(&server).await;
    let mut stranger = TcpStream::connect(relayed).await.unwrap();
    let end = timeout(GUARD, stranger.read(&mut [0; 1])).await.unwrap();
    assert!(matches!(end, Ok(0) | Err(_)), "no permission: {end:?}");

    control
        .succeed(Method::CREATE_PERMISSION, |builder| {
            builder.xor_peer_address(SocketAddr::new(V4, 0)).unwrap();
        })
        .await;
    let mut far = TcpStream::connect(relayed).await.unwrap();
    // What the peer says before the client has bound waits.
    far.write_all(b"hello").await.unwrap();
    let attempt = control.message().await;
    let attempt = Message::parse(&attempt).unwrap();
    assert_eq!(
        (attempt.class(), attempt.method()),
        (Class::Indication, Method::CONNECTION_ATTEMPT)
    );
    assert_eq!(
        attempt.xor_peer_address(),
        Ok(Some(far.local_addr().unwrap()))
    );
    let number = attempt.connection_id().unwrap().unwrap();
    let mut data = Raw::tcp(server.addresses.stun_tcp[0]).await;
    data.succeed(Method::CONNECTION_BIND, |builder| {
        builder.connection_id(number).unwrap();
    })
    .await;
    let (mut near, mut early) = data.into_stream();
    while early.len() < 5 {
        let mut buffer = [0; 5];
        let count = timeout(GUARD, near.read(&mut buffer)).await.unwrap();
        early.extend_from_slice(&buffer[..count.unwrap()]);
    }
    assert_eq!(early, b"hello");
    exchange(near, far).await;
    server.stop().await;
}

#[tokio::test]
async fn what_cannot_be_reached_is_447_and_what_may_not_is_403() {
    let mut config = config();
    config.relay.allow_peers = vec!["127.0.0.1/32".parse().unwrap()];
    let server = start(config).await;
    let (mut control, _) = allocated(&server).await;
    // Bound, so that nobody else can listen there, and not listening.
    let deaf = TcpSocket::new_v4().unwrap();
    deaf.bind((V4, 0).into()).unwrap();
    for (peer, code) in [
        (deaf.local_addr().unwrap(), 447),
        ("127.0.0.2:80".parse().unwrap(), 403),
        ("10.0.0.1:80".parse().unwrap(), 403),
        ("169.254.169.254:80".parse().unwrap(), 403),
    ] {
        let answer = control
            .ask(Method::CONNECT, |builder| {
                builder.xor_peer_address(peer).unwrap();
            })
            .await;
        let answer = Message::parse(&answer).unwrap();
        let error = answer.error_code().unwrap().map(|error| error.code());
        assert_eq!(error, Some(code), "{peer}");
    }
    server.stop().await;
}

#[tokio::test]
async fn with_the_allocation_its_connections_end() {
    let server = start(config()).await;
    let (mut control, _) = allocated(&server).await;
    let listener = TcpListener::bind((V4, 0)).await.unwrap();
    let number = connect(&mut control, listener.local_addr().unwrap()).await;
    let (mut far, _) = listener.accept().await.unwrap();
    let mut near = bound(&server, number).await;
    near.write_all(b"last words").await.unwrap();
    let mut words = [0; 10];
    far.read_exact(&mut words).await.unwrap();
    drop(control);
    for stream in [&mut near, &mut far] {
        let end = timeout(GUARD, stream.read(&mut [0; 1])).await.unwrap();
        assert!(matches!(end, Ok(0) | Err(_)), "{end:?}");
    }
    server
        .until("nothing is left", |stats| {
            stats.turn.streams == 0 && stats.turn.connections == 0 && stats.ports_in_use == 0
        })
        .await;
    server.stop().await;
}
