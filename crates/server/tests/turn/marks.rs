//! DSCP and ECN pass through the relay (RFC 8656 sections 13 and 14).

use std::io::{self, IoSliceMut};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd;

use nilas_turn::client::Families;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg};
use socket2::SockRef;
use tokio::io::Interest;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::support::{GUARD, Relayed, V4, V6, config, credentials, need_ipv6, start};

/// EF with ECT(1), AF41 with CE, CS6 alone, ECT(0) alone, and nothing.
const OCTETS: [u8; 5] = [46 << 2 | 1, 34 << 2 | 3, 48 << 2, 2, 0];
/// More datagrams than after which the server expects no mark.
const MANY: usize = 1_100;

/// Sends with this octet from now on.
fn mark(socket: &UdpSocket, octet: u8) {
    let socket = SockRef::from(socket);
    match socket.local_addr().unwrap().is_ipv4() {
        true => socket.set_tos_v4(octet.into()).unwrap(),
        false => socket.set_tclass_v6(octet.into()).unwrap(),
    }
}

fn tell_marks(socket: &UdpSocket) {
    let socket = SockRef::from(socket);
    match socket.local_addr().unwrap().is_ipv4() {
        true => socket.set_recv_tos_v4(true).unwrap(),
        false => socket.set_recv_tclass_v6(true).unwrap(),
    }
}

/// The octet of the next datagram that ends with `data`.
async fn octet_of(socket: &UdpSocket, data: &[u8]) -> u8 {
    let receive = || {
        let (mut bytes, mut space) = ([0; 2_000], nix::cmsg_space!(i32));
        let mut buffers = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<SockaddrStorage>(
            socket.as_raw_fd(),
            &mut buffers,
            Some(&mut space),
            MsgFlags::MSG_DONTWAIT,
        )?;
        let octet = message.cmsgs()?.find_map(|control| match control {
            ControlMessageOwned::Ipv4Tos(octet) => Some(octet),
            ControlMessageOwned::Ipv6TClass(octet) => u8::try_from(octet).ok(),
            _ => None,
        });
        let (octet, length) = (octet.unwrap(), message.bytes);
        Ok::<_, io::Error>((octet, bytes[..length].ends_with(data)))
    };
    let search = async {
        loop {
            let received = socket.async_io(Interest::READABLE, receive).await;
            if let (octet, true) = received.unwrap() {
                return octet;
            }
        }
    };
    timeout(GUARD, search).await.expect("a datagram")
}

/// A server, a client with a relayed address of the family of `peer_ip`, two peers there, the first of which has a channel.
async fn relay(
    listener: IpAddr,
    client_ip: IpAddr,
    peer_ip: IpAddr,
) -> (crate::support::Running, Relayed, SocketAddr, [UdpSocket; 2]) {
    let mut config = config();
    config.stun_udp = vec![SocketAddr::new(listener, 0)];
    config.relay.addresses = vec![peer_ip.into()];
    let server = start(config).await;
    let at = SocketAddr::new(client_ip, server.udp().port());
    let families = match peer_ip.is_ipv4() {
        true => Families::V4,
        false => Families::V6,
    };
    let mut client = Relayed::udp(at, credentials(), families).await;
    let relayed = client.allocate().await[0];
    let peers = [
        UdpSocket::bind((peer_ip, 0)).await.unwrap(),
        UdpSocket::bind((peer_ip, 0)).await.unwrap(),
    ];
    assert_eq!(client.bind(peers[0].local_addr().unwrap()).await, None);
    for socket in peers.iter().chain([client.socket()]) {
        tell_marks(socket);
    }
    (server, client, relayed, peers)
}

/// By ChannelData and by indications, between all families, from one address of the server and from one of several.
#[tokio::test]
async fn a_mark_comes_out_as_it_went_in_both_ways() {
    need_ipv6();
    let any_v4 = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    let any_v6 = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
    for (listener, client_ip, peer_ip) in [
        (V4, V4, V4),
        (any_v4, V4, V6),
        (V6, V6, V4),
        (any_v6, V6, V6),
    ] {
        let (server, mut client, relayed, peers) = relay(listener, client_ip, peer_ip).await;
        for peer in &peers {
            for octet in OCTETS {
                mark(client.socket(), octet);
                client.send(peer.local_addr().unwrap(), b"there").await;
                assert_eq!(
                    octet_of(peer, b"there").await,
                    octet,
                    "{client_ip} {peer_ip}"
                );
                mark(peer, octet);
                // Padding of an indication would follow other lengths.
                peer.send_to(b"back", relayed).await.unwrap();
                assert_eq!(octet_of(client.socket(), b"back").await, octet);
            }
        }
        server.stop().await;
    }
}

#[tokio::test]
async fn a_mark_is_noticed_again_after_many_datagrams_without() {
    let (server, mut client, relayed, [peer, _]) = relay(V4, V4, V4).await;
    let peer_address = peer.local_addr().unwrap();
    for marked in [46 << 2, 2] {
        let (mut there, mut back) = (Vec::new(), Vec::new());
        for number in 0..MANY + 100 {
            let octet = if number < MANY { 0 } else { marked };
            mark(client.socket(), octet);
            client.send(peer_address, b"there").await;
            there.push(octet_of(&peer, b"there").await);
            mark(&peer, octet);
            peer.send_to(b"back", relayed).await.unwrap();
            back.push(octet_of(client.socket(), b"back").await);
        }
        for octets in [there, back] {
            let (before, after) = octets.split_at(MANY);
            assert!(before.iter().all(|octet| *octet == 0), "{before:?}");
            let unnoticed = after.iter().take_while(|octet| **octet == 0).count();
            assert!(unnoticed <= 64, "{after:?}");
            let noticed = &after[unnoticed..];
            assert!(noticed.iter().all(|octet| *octet == marked), "{after:?}");
        }
    }
    server.stop().await;
}
