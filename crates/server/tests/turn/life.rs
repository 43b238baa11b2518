//! From an allocation's beginning to the server's end.

use std::time::Duration;

use nilas_server::{Secret, User};
use nilas_stun::{Message, MessageBuilder, Method};
use nilas_turn::client::{Credentials, Failure, Families};
use tokio::time::timeout;

use crate::raw::Raw;
use crate::support::{GUARD, Relayed, config, credentials, start};

const UDP: u8 = 17;

#[tokio::test]
async fn an_even_port_and_the_one_that_was_reserved_with_it() {
    let server = start(config()).await;
    // The token is good at any worker, so the second client has a port of its own.
    for _ in 0..6 {
        let mut first = Raw::udp(server.udp()).await;
        let (relayed, answer) = first
            .allocate(UDP, |builder| {
                builder.even_port(true).unwrap();
            })
            .await;
        assert_eq!(relayed.port() % 2, 0);
        let token = Message::parse(&answer).unwrap().reservation_token();
        let token = token.unwrap().expect("a token");
        let mut second = Raw::udp(server.udp()).await;
        let (next, _) = second
            .allocate(UDP, |builder| {
                builder.reservation_token(token).unwrap();
            })
            .await;
        assert_eq!(next.port(), relayed.port() + 1);
        for client in [&mut first, &mut second] {
            client
                .succeed(Method::REFRESH, |builder| {
                    builder.lifetime(0).unwrap();
                })
                .await;
        }
    }
    server
        .until("all is given back", |stats| {
            stats.ports_in_use == 0 && stats.turn.allocations == 0
        })
        .await;
    server.stop().await;
}

#[tokio::test]
async fn a_client_goes_on_from_another_address_whichever_worker_it_meets() {
    let server = start(config()).await;
    let ticket = |builder: &mut MessageBuilder<'_>, ticket: &[u8]| {
        builder.mobility_ticket(ticket).unwrap();
    };
    let mut client = Raw::udp(server.udp()).await;
    let (relayed, answer) = client.allocate(UDP, |builder| ticket(builder, &[])).await;
    let mut present = Message::parse(&answer)
        .unwrap()
        .mobility_ticket()
        .unwrap()
        .to_vec();
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let peer_address = peer.local_addr().unwrap();
    for _ in 0..6 {
        let mut moved = Raw::udp(server.udp()).await;
        let answer = moved
            .succeed(Method::REFRESH, |builder| ticket(builder, &present))
            .await;
        present = Message::parse(&answer)
            .unwrap()
            .mobility_ticket()
            .unwrap()
            .to_vec();
        // From the new address, and at whichever worker that arrives, the allocation is there.
        moved
            .succeed(Method::CHANNEL_BIND, |builder| {
                builder.channel_number(0x4000).unwrap();
                builder.xor_peer_address(peer_address).unwrap();
            })
            .await;
        moved.send(&[0x40, 0, 0, 2, b'h', b'i']).await;
        let mut buffer = [0; 10];
        let received = timeout(GUARD, peer.recv_from(&mut buffer)).await;
        assert_eq!(received.unwrap().unwrap(), (2, relayed));
        peer.send_to(b"welcome!", relayed).await.unwrap();
        assert_eq!(moved.message().await[4..], *b"welcome!");
    }
    assert_eq!(server.handle.stats().turn.allocations, 1);
    server.stop().await;
}

#[tokio::test]
async fn a_server_that_drains_ends_with_its_last_allocation() {
    let server = start(config()).await;
    let mut early = Relayed::udp(server.udp(), credentials(), Families::V4).await;
    early.allocate().await;
    server.handle.drain();
    assert!(server.handle.is_draining());
    let mut late = Relayed::udp(server.udp(), credentials(), Families::V4).await;
    assert!(matches!(
        late.refusal().await,
        Failure::Refused { code: 508, .. }
    ));
    assert!(!server.task.is_finished());
    early.release().await;
    timeout(GUARD, server.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_server_does_not_drain_for_ever() {
    let mut config = config();
    config.drain_time = Duration::from_millis(100);
    let server = start(config).await;
    let mut client = Relayed::udp(server.udp(), credentials(), Families::V4).await;
    client.allocate().await;
    server.handle.drain();
    timeout(GUARD, server.task).await.unwrap().unwrap().unwrap();
}

#[tokio::test]
async fn a_reload_changes_secrets_users_and_peers() {
    let old = config();
    let server = start(old.clone()).await;
    let mut ann = Relayed::udp(server.udp(), credentials(), Families::V4).await;
    ann.allocate().await;
    let secret = "a shared secret";
    let now = std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let ttl = Duration::from_secs(600);
    let hash = nilas_net::creds::CredentialHash::Sha1;
    let (username, password) =
        nilas_net::creds::time_limited(secret.as_bytes(), "cid", ttl, now, hash);
    let cid = || Credentials {
        username: username.clone(),
        password: password.clone(),
    };
    let mut too_early = Relayed::udp(server.udp(), cid(), Families::V4).await;
    assert_eq!(too_early.refusal().await, Failure::Unauthorized);

    let mut new = old.clone();
    new.access.users = vec![User::new("bob", "password of bob")];
    new.access.secrets = vec![Secret::from(secret)];
    new.relay.allow_peers.clear();
    // What cannot change does not: the realm stays, so credentials go on working.
    new.access.realm = String::from("elsewhere");
    server.handle.reload(&new).unwrap();
    server
        .until("ann is gone with her allocation", |stats| {
            stats.turn.allocations == 0
        })
        .await;
    let mut welcome = Relayed::udp(server.udp(), cid(), Families::V4).await;
    welcome.allocate().await;
    assert_eq!(
        welcome.bind("127.0.0.2:9".parse().unwrap()).await,
        Some(403),
        "allowed before"
    );

    let mut wrong = new.clone();
    wrong.access.users.push(User::new("bob", "twice"));
    assert!(server.handle.reload(&wrong).is_err());
    server.stop().await;
}

#[tokio::test]
async fn a_thousand_allocations_leave_nothing_behind() {
    let mut config = config();
    config.relay.default_lifetime = Duration::from_secs(2);
    config.relay.max_lifetime = Duration::from_secs(4);
    config.relay.nonce_lifetime = Duration::from_secs(1);
    config.relay.quotas.allocations_per_user = 2_000;
    let server = start(config).await;
    let peer = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let peer_address = peer.local_addr().unwrap();
    let mut resident = Vec::new();
    // The first round warms up what is allocated once.
    for _ in 0..3 {
        let mut kept = Vec::new();
        for number in 0..1_000_u32 {
            let (mut client, relayed) = loop {
                let mut client = Relayed::udp(server.udp(), credentials(), Families::V4).await;
                match client.try_allocate().await {
                    Ok(relayed) => break (client, relayed[0]),
                    // The system has given it the port of one that was leaked, whose allocation lives on (437).
                    Err(Failure::Mismatch) => {}
                    Err(failure) => panic!("{failure}"),
                }
            };
            if number % 4 == 0 {
                assert_eq!(client.bind(peer_address).await, None);
                client.send(peer_address, b"used").await;
                let mut buffer = [0; 10];
                let received = timeout(GUARD, peer.recv_from(&mut buffer)).await;
                assert_eq!(received.unwrap().unwrap(), (4, relayed));
            }
            // Most are leaked: their clients are gone without a word.
            if number % 10 == 0 {
                kept.push(client);
            }
        }
        // Refreshed past their nonce's life: the server says 438, and they go on.
        for client in &mut kept {
            client.live(Duration::from_millis(60)).await;
        }
        for client in &mut kept {
            client.release().await;
        }
        drop(kept);
        server
            .until("all have expired", |stats| {
                stats.turn.allocations == 0
                    && stats.turn.relays == 0
                    && stats.turn.timers == 0
                    && stats.ports_in_use == 0
                    && stats.users == 0
            })
            .await;
        resident.push(resident_kib());
    }
    let stats = server.handle.stats();
    assert!(stats.turn.allocations_made >= 3_000);
    assert!(stats.turn.stale_nonces > 0, "refreshed past their nonce");
    if let [Some(_), Some(second), Some(third)] = resident[..] {
        // The 1.5 KiB of each allocation would be 1,500 KiB; what other tests of this process do is less.
        assert!(third < second + 1_000, "{resident:?} KiB");
    }
    server.stop().await;
}

/// The resident memory of this process, where the system tells.
fn resident_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_server_with_two_addresses_tells_clients_about_their_nat() {
    use crate::support::try_start;
    use nilas_server::{DiscoveryAddresses, ServerError};
    use nilas_stun::ChangeRequest;
    use std::net::{SocketAddr, UdpSocket};

    // All of 127.0.0.0/8 is this machine.
    let other = std::net::IpAddr::from([127, 0, 0, 2]);
    let free = || UdpSocket::bind((crate::support::V4, 0)).unwrap();
    let (server, primary, alternate) = loop {
        let (first, second) = (free(), free());
        let primary = first.local_addr().unwrap();
        let alternate = SocketAddr::new(other, second.local_addr().unwrap().port());
        drop((first, second));
        let mut config = config();
        config.stun_udp = vec![primary];
        config.discovery = Some(DiscoveryAddresses::new(primary, alternate));
        match try_start(config).await {
            Ok(server) => break (server, primary, alternate),
            // Another program was faster, or has that port on the other address.
            Err(ServerError::PortInUse { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    };
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await.unwrap();
    for (change_ip, change_port) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut buffer = [0; 200];
        let id = nilas_stun::TransactionId::new(*b"twelve bytes");
        let class = nilas_stun::Class::Request;
        let mut builder = MessageBuilder::new(&mut buffer, class, Method::BINDING, id).unwrap();
        builder
            .change_request(ChangeRequest {
                change_ip,
                change_port,
            })
            .unwrap();
        let length = builder.finish();
        socket.send_to(&buffer[..length], primary).await.unwrap();
        let received = timeout(GUARD, socket.recv_from(&mut buffer)).await;
        let (length, from) = received.unwrap().unwrap();
        let expected = SocketAddr::new(
            if change_ip { other } else { primary.ip() },
            if change_port {
                alternate.port()
            } else {
                primary.port()
            },
        );
        assert_eq!(from, expected);
        let answer = Message::parse(&buffer[..length]).unwrap();
        assert_eq!(answer.other_address(), Ok(Some(alternate)));
        assert_eq!(
            answer.xor_mapped_address(),
            Ok(Some(socket.local_addr().unwrap()))
        );
    }
    server.stop().await;
}
