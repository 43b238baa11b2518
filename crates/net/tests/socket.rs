//! Real sockets over loopback. Every wait has a limit only so that a hang becomes a failure.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{BindError, SendError};
use nilas_net::{ReceiveBatch, UdpSocket, bind_error, send_error};
use tokio::time::timeout;

const HANG: Duration = Duration::from_secs(20);

fn bind(address: &str) -> UdpSocket {
    UdpSocket::bind(address.parse().unwrap()).unwrap()
}

/// Whether this machine has IPv6 on loopback; some containers do not.
fn has_ipv6() -> bool {
    std::net::UdpSocket::bind("[::1]:0").is_ok()
}

async fn receive(socket: &UdpSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let (mut batch, mut all) = (ReceiveBatch::default(), Vec::new());
    timeout(HANG, async {
        while all.len() < count {
            match socket.try_receive(&mut batch) {
                Ok(()) => all.extend(
                    batch
                        .datagrams()
                        .map(|(from, range)| (from, batch.bytes()[range].to_vec())),
                ),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    poll_fn(|cx| socket.poll_readable(cx)).await.unwrap();
                }
                Err(error) => panic!("{error}"),
            }
        }
    })
    .await
    .expect("all datagrams arrive");
    all
}

#[tokio::test]
async fn single_datagrams_keep_their_bytes_and_their_sender() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        if address.starts_with('[') && !has_ipv6() {
            continue;
        }
        let (from, to) = (bind(address), bind(address));
        let sent: Vec<Vec<u8>> = [0, 1, 1200, 9000]
            .map(|length| vec![length as u8; length])
            .to_vec();
        for datagram in &sent {
            from.when_writable(|| from.try_send(to.local_address(), datagram))
                .await
                .unwrap();
        }
        let received = receive(&to, sent.len()).await;
        assert!(
            received
                .iter()
                .all(|(remote, _)| *remote == from.local_address())
        );
        assert_eq!(
            received
                .into_iter()
                .map(|(_, bytes)| bytes)
                .collect::<Vec<_>>(),
            sent
        );
    }
}

#[tokio::test]
async fn segments_arrive_as_the_datagrams_they_are() {
    let (from, to) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    // 100 whole ones and a shorter last: more than one call can segment.
    let bytes: Vec<u8> = (0..100 * 1200 + 7)
        .map(|at| (at / 1200 + at) as u8)
        .collect();
    let (mut sent, mut received, mut calls) = (0, Vec::new(), 0);
    while sent < bytes.len() {
        let part = from
            .when_writable(|| from.try_send_segments(to.local_address(), &bytes[sent..], 1200))
            .await
            .unwrap();
        // Taken off at once, so that no receive buffer has to hold them all.
        received.extend(receive(&to, part.div_ceil(1200)).await);
        sent += part;
        calls += 1;
    }
    let expected: Vec<&[u8]> = bytes.chunks(1200).collect();
    assert_eq!(
        received
            .iter()
            .map(|(_, bytes)| &bytes[..])
            .collect::<Vec<_>>(),
        expected
    );
    assert!(calls <= expected.len());
}

#[tokio::test]
async fn segments_of_no_size_are_refused_and_nothing_is_nothing() {
    let socket = bind("127.0.0.1:0");
    let to = socket.local_address();
    assert_eq!(
        socket.try_send_segments(to, b"x", 0).unwrap_err().kind(),
        io::ErrorKind::InvalidInput
    );
    assert_eq!(socket.try_send_segments(to, b"", 7).unwrap(), 0);
    assert_eq!(socket.try_send_segments(to, b"short", 1200).unwrap(), 5);
}

#[tokio::test]
async fn an_ipv6_socket_leaves_the_port_of_ipv4_alone() {
    if !has_ipv6() {
        return;
    }
    let v6 = bind("[::]:0");
    // With a socket for both families this would be taken.
    bind(&format!("0.0.0.0:{}", v6.local_address().port()));
}

#[tokio::test]
async fn errors_are_sorted() {
    let taken = bind("127.0.0.1:0");
    let refused = |address: SocketAddr| bind_error(&UdpSocket::bind(address).unwrap_err());
    assert_eq!(refused(taken.local_address()), BindError::AddressInUse);
    assert_eq!(
        refused("192.0.2.1:0".parse().unwrap()),
        BindError::AddressNotAvailable
    );

    let too_large = taken
        .try_send(taken.local_address(), &[0; 65_508])
        .unwrap_err();
    assert_eq!(send_error(&too_large), SendError::TooLarge);
    let nowhere = taken
        .try_send("192.0.2.1:9".parse().unwrap(), b"x")
        .unwrap_err();
    assert_eq!(send_error(&nowhere), SendError::Unreachable);
}
