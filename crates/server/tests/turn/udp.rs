//! Over UDP.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use nilas_turn::client::{Credentials, Failure, Families};
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::support::{
    GUARD, Relayed, Running, V4, V6, config, credentials, echo, need_ipv6, start,
};

async fn client(server: &Running) -> Relayed {
    Relayed::udp(server.udp(), credentials(), Families::V4).await
}

#[tokio::test]
async fn two_clients_talk_through_their_relays() {
    let server = start(config()).await;
    // On as many workers as chance has it: each pair has other ports.
    for _ in 0..8 {
        let (mut a, mut b) = (client(&server).await, client(&server).await);
        echo(&mut a, &mut b).await;
        a.release().await;
        b.release().await;
    }
    server
        .until("all is given back", |stats| {
            stats.turn.allocations == 0 && stats.ports_in_use == 0 && stats.users == 0
        })
        .await;
    let stats = server.handle.stats();
    assert_eq!(stats.turn.allocations_made, 16);
    assert_eq!(stats.turn.packets_to_peers, 8 * 28);
    server.stop().await;
}

#[tokio::test]
async fn a_peer_without_turn_is_reached_and_answers() {
    let server = start(config()).await;
    let mut client = client(&server).await;
    let relayed = client.allocate().await[0];
    let peer = UdpSocket::bind((V4, 0)).await.unwrap();
    let peer_address = peer.local_addr().unwrap();
    // Nobody gets in before he is permitted.
    peer.send_to(b"uninvited", relayed).await.unwrap();
    assert_eq!(client.bind(peer_address).await, None);
    // A burst of one length goes out and comes back in few system calls, and in order.
    let mut buffer = [0; 2_000];
    for number in 0..200_u32 {
        let data = [number.to_be_bytes(); 100].concat();
        client.send(peer_address, &data).await;
        if number % 20 == 19 {
            for number in number - 19..=number {
                let (length, from) = timeout(GUARD, peer.recv_from(&mut buffer))
                    .await
                    .unwrap()
                    .unwrap();
                assert_eq!((length, from), (400, relayed));
                assert_eq!(buffer[..4], number.to_be_bytes());
                peer.send_to(&buffer[..length], relayed).await.unwrap();
            }
            for number in number - 19..=number {
                let (from, data) = client.receive().await;
                assert_eq!((from, data.len()), (peer_address, 400));
                assert_eq!(data[..4], number.to_be_bytes());
            }
        }
    }
    assert_eq!(server.handle.stats().turn.no_permission, 1);
    server.stop().await;
}

#[tokio::test]
async fn both_families_in_one_allocation() {
    need_ipv6();
    let mut config = config();
    config.relay.addresses.push(V6.into());
    let server = start(config).await;
    let both = |families| Relayed::udp(server.udp(), credentials(), families);
    let mut a = both(Families::Both).await;
    let relayed = a.allocate().await;
    let families: BTreeSet<bool> = relayed.iter().map(|address| address.is_ipv4()).collect();
    assert_eq!(families.len(), 2, "{relayed:?}");
    let mut b = both(Families::V6).await;
    let at_b = b.allocate().await[0];
    let at_a = relayed
        .into_iter()
        .find(|address| address.is_ipv6())
        .unwrap();
    assert_eq!(a.bind(at_b).await, None);
    assert_eq!(b.bind(at_a).await, None);
    a.send(at_b, b"over IPv6").await;
    assert_eq!(b.receive().await, (at_a, b"over IPv6".to_vec()));
    server.stop().await;
}

#[tokio::test]
async fn an_unreachable_peer_s_icmp_reaches_the_client_and_harms_nobody() {
    let server = start(config()).await;
    let mut client = client(&server).await;
    client.allocate().await;
    // No port that the system gives to anybody who asks for one.
    let nobody = SocketAddr::new(V4, 9);
    let peer = UdpSocket::bind((V4, 0)).await.unwrap();
    let peer_address = peer.local_addr().unwrap();
    assert_eq!(client.bind(nobody).await, None);
    assert_eq!(client.bind(peer_address).await, None);
    let mut buffer = [0; 100];
    for _ in 0..50 {
        client.send(nobody, b"is there anybody?").await;
        client.send(peer_address, b"you are").await;
        // Each arrives, although the datagram before drew an ICMP error on the same socket.
        let received = timeout(GUARD, peer.recv(&mut buffer)).await;
        assert_eq!(received.expect("a datagram").unwrap(), 7);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_wrong_password_and_a_used_up_quota_are_refused() {
    let mut config = config();
    config.relay.quotas.allocations_per_user = 2;
    let server = start(config).await;
    let wrong = Credentials {
        password: "guessed".to_owned(),
        ..credentials()
    };
    let mut stranger = Relayed::udp(server.udp(), wrong, Families::V4).await;
    assert_eq!(stranger.refusal().await, Failure::Unauthorized);
    let (mut first, mut second) = (client(&server).await, client(&server).await);
    first.allocate().await;
    second.allocate().await;
    let mut third = client(&server).await;
    assert!(
        matches!(third.refusal().await, Failure::Refused { code: 486, .. }),
        "RFC 8656 section 7.2: quota reached"
    );
    first.release().await;
    client(&server).await.allocate().await;
    server.stop().await;
}

#[tokio::test]
async fn an_unauthenticated_flood_leaves_no_state() {
    let server = start(config()).await;
    let socket = UdpSocket::bind((V4, 0)).await.unwrap();
    socket.connect(server.udp()).await.unwrap();
    let before = server.handle.stats();
    let mut request = [0_u8; 28];
    request[..8].copy_from_slice(&[0, 3, 0, 8, 0x21, 0x12, 0xA4, 0x42]);
    // REQUESTED-TRANSPORT: UDP.
    request[20..].copy_from_slice(&[0, 0x19, 0, 4, 17, 0, 0, 0]);
    let mut answer = [0; 1_000];
    for number in 0..2_000_u32 {
        request[8..12].copy_from_slice(&number.to_be_bytes());
        socket.send(&request).await.unwrap();
        let length = timeout(GUARD, socket.recv(&mut answer))
            .await
            .unwrap()
            .unwrap();
        assert!(length <= 5 * request.len(), "{length}");
    }
    let stats = server.handle.stats();
    assert_eq!(stats.turn.challenged, 2_000);
    for (now, then) in [
        (stats.turn.allocations, before.turn.allocations),
        (stats.turn.relays, before.turn.relays),
        (stats.turn.timers, before.turn.timers),
        (stats.ports_in_use as u64, before.ports_in_use as u64),
        (stats.users as u64, before.users as u64),
    ] {
        assert_eq!(now, then);
    }
    server.stop().await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn special_peers_are_refused_unless_they_are_allowed() {
    let mut config = config();
    config.relay.allow_peers.clear();
    // Another address than the one that is listened on: all of 127.0.0.0/8 is this machine.
    config.relay.addresses = vec!["127.0.0.2".parse::<std::net::IpAddr>().unwrap().into()];
    let server = start(config).await;
    let mut client = client(&server).await;
    client.allocate().await;
    for peer in [
        "127.0.0.1:9",
        "0.0.0.0:9",
        "10.0.0.1:9",
        "100.64.0.1:9",
        "169.254.169.254:80",
        "172.16.0.1:9",
        "192.168.0.1:9",
        "192.0.2.1:9",
        "198.18.0.1:9",
        "224.0.0.1:9",
        "240.0.0.1:9",
        "255.255.255.255:9",
    ] {
        assert_eq!(
            client.bind(peer.parse().unwrap()).await,
            Some(403),
            "{peer}"
        );
    }
    assert_eq!(server.handle.stats().turn.relays, 1);
    // The server's own relayed addresses are reachable, on whichever address they are.
    let mut other = Relayed::udp(server.udp(), credentials(), Families::V4).await;
    let relayed = other.allocate().await[0];
    assert_eq!(client.bind(relayed).await, None);
    server.stop().await;
}
