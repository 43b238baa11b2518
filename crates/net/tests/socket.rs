//! Real sockets over loopback. Every wait has a limit only so that a hang becomes a failure.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{BindError, Dscp, SendError};
use nilas_net::{Ecn, ReceiveBatch, TrafficClass, UdpSocket, bind_error, send_error};
#[cfg(target_os = "linux")]
use nix::sys::socket::{setsockopt, sockopt::ReusePort};
#[cfg(target_os = "linux")]
use socket2::{Domain, Socket, Type};
use tokio::time::timeout;

const HANG: Duration = Duration::from_secs(60);

fn bind(address: &str) -> UdpSocket {
    UdpSocket::bind(address.parse().unwrap()).unwrap_or_else(|error| {
        panic!("no socket on {address}: {error}; the loopback interface needs IPv4 and IPv6")
    })
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
async fn datagrams_and_segments_arrive_with_the_ecn_field_they_are_sent_with() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (from, to) = (bind(address), bind(address));
        let remote = to.local_address();
        let mark = |ecn| TrafficClass::new(Dscp::AF41, ecn);
        let mut batch = ReceiveBatch::default();
        let mut received = async |count| {
            let mut marks = Vec::new();
            while marks.len() < count {
                poll_fn(|cx| to.poll_readable(cx)).await.unwrap();
                if to.try_receive(&mut batch).is_ok() {
                    marks.extend(
                        batch
                            .marked_datagrams()
                            .map(|(_, range, ecn)| (range.len(), ecn)),
                    );
                }
            }
            marks
        };
        let ect0 = mark(Ecn::Ect0);
        assert_eq!(from.try_send_marked(remote, b"one", 3, ect0).unwrap(), 3);
        let wait = timeout(HANG, received(1)).await.unwrap();
        assert_eq!(wait, [(3, None)], "nobody asked");
        to.tell_ecn().unwrap();
        for ecn in [Ecn::NotEct, Ecn::Ect0, Ecn::Ect1, Ecn::Ce] {
            for length in [3, 0] {
                from.try_send_marked(remote, &b"one"[..length], length, mark(ecn))
                    .unwrap();
                let came = timeout(HANG, received(1)).await.unwrap();
                assert_eq!(came, [(length, Some(ecn))]);
            }
            let (bytes, mut sent) = ([7; 3007], 0);
            while sent < bytes.len() {
                sent += from
                    .try_send_marked(remote, &bytes[sent..], 1000, mark(ecn))
                    .unwrap();
            }
            let came = timeout(HANG, received(4)).await.unwrap();
            let lengths = [1000, 1000, 1000, 7];
            assert_eq!(came, lengths.map(|length| (length, Some(ecn))));
        }
        from.try_send(remote, b"plain").unwrap();
        let came = timeout(HANG, received(1)).await.unwrap();
        assert_eq!(came, [(5, Some(Ecn::NotEct))]);
        let none = from.try_send_marked(remote, b"x", 0, ect0).unwrap_err();
        assert_eq!(none.kind(), io::ErrorKind::InvalidInput);
    }
}

/// quinn-udp tells the ECN field alone; the rest of the octet is looked at by another socket.
#[cfg(target_os = "linux")]
#[tokio::test]
async fn the_dscp_is_in_the_packet() {
    use std::os::fd::AsRawFd;

    use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};

    for address in ["127.0.0.1:0", "[::1]:0"] {
        let to = std::net::UdpSocket::bind(address).unwrap();
        to.set_read_timeout(Some(HANG)).unwrap();
        match address.starts_with('[') {
            false => socket2::SockRef::from(&to).set_recv_tos_v4(true).unwrap(),
            true => socket2::SockRef::from(&to)
                .set_recv_tclass_v6(true)
                .unwrap(),
        }
        let (from, remote) = (bind(address), to.local_addr().unwrap());
        let class = TrafficClass::new(Dscp::EF, Ecn::Ect1);
        from.try_send_marked(remote, b"x", 1, class).unwrap();
        let (mut bytes, mut space) = ([0; 8], nix::cmsg_space!(i32));
        let mut buffers = [io::IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<SockaddrStorage>(
            to.as_raw_fd(),
            &mut buffers,
            Some(&mut space),
            MsgFlags::empty(),
        )
        .unwrap();
        let octet = message.cmsgs().unwrap().find_map(|control| match control {
            ControlMessageOwned::Ipv4Tos(octet) => Some(i32::from(octet)),
            ControlMessageOwned::Ipv6TClass(octet) => Some(octet),
            _ => None,
        });
        assert_eq!(octet, Some(46 << 2 | 1));
    }
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

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dedicated_socket_hears_its_remote_and_the_first_one_everybody_else() {
    for address in ["127.0.0.1:0", "[::1]:0"] {
        let (first, peer, other) = (bind(address), bind(address), bind(address));
        let local = first.local_address();
        let own = first.dedicated(peer.local_address()).unwrap();
        assert_eq!(own.local_address(), local);
        assert_eq!(own.dedicated_to(), Some(peer.local_address()));
        peer.try_send(local, b"of the peer").unwrap();
        other.try_send(local, b"of another").unwrap();
        own.try_send(peer.local_address(), b"to the peer").unwrap();
        first
            .try_send(other.local_address(), b"to another")
            .unwrap();
        let from = |socket: &UdpSocket, data: &[u8]| vec![(socket.local_address(), data.to_vec())];
        assert_eq!(receive(&own, 1).await, from(&peer, b"of the peer"));
        assert_eq!(receive(&first, 1).await, from(&other, b"of another"));
        assert_eq!(receive(&peer, 1).await, from(&own, b"to the peer"));
        assert_eq!(receive(&other, 1).await, from(&first, b"to another"));
        // Nobody else gets in, and when it is gone the first one has all again.
        let stranger = Socket::new(Domain::for_address(local), Type::DGRAM, None).unwrap();
        setsockopt(&stranger, ReusePort, &true).unwrap();
        let refused = stranger.bind(&local.into()).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::AddrInUse);
        drop(own);
        peer.try_send(local, b"after").unwrap();
        assert_eq!(receive(&first, 1).await, from(&peer, b"after"));
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_dedicated_socket_sends_on_when_its_remote_was_gone_for_a_while() {
    let (first, peer) = (bind("127.0.0.1:0"), bind("127.0.0.1:0"));
    let remote = peer.local_address();
    let own = first.dedicated(remote).unwrap();
    drop(peer);
    for _ in 0..4 {
        // Each is answered by an ICMP error, which the next one meets.
        own.try_send(remote, b"lost").unwrap();
    }
    own.try_send_segments(remote, &[7; 300], 100).unwrap();
    own.try_send_segments(remote, &[7; 300], 100).unwrap();
    let peer = UdpSocket::bind(remote).unwrap();
    own.try_send(remote, b"there again").unwrap();
    assert_eq!(
        receive(&peer, 1).await,
        [(first.local_address(), b"there again".to_vec())]
    );
}
