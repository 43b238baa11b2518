//! Sessions over TCP between two agents over loopback (RFC 6544).

mod common;

use std::net::SocketAddr;
use std::time::Duration;

use common::{Two, config, deliver, event, soon};
use nilas::ice::{CandidateType, TcpCandidates, TcpType, Transport};
use nilas::{Candidate, Connection, Error, Event, GatheringState, Role, SelectedPair, State};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio::time::sleep;

/// Two agents that were told each other's TCP candidates of these types, and no others.
async fn two(types: &[TcpType]) -> Two {
    let of = |role| config(role).tcp(TcpCandidates::All);
    let two = Two::with(of(Role::Controlling), of(Role::Controlled)).await;
    for agent in [&two.a, &two.b] {
        let mut events = agent.events();
        event(&mut events, "the end of gathering", |event| {
            matches!(event, Event::GatheringStateChange(GatheringState::Complete))
        })
        .await;
    }
    for (from, to) in [(&two.a, &two.b), (&two.b, &two.a)] {
        to.set_remote_parameters(from.local_parameters())
            .await
            .unwrap();
        for candidate in from.local_candidates() {
            if tcp_type(&candidate).is_some_and(|tcp_type| types.contains(&tcp_type)) {
                to.add_remote_candidate(candidate).await.unwrap();
            }
        }
        to.end_of_remote_candidates().await.unwrap();
    }
    two
}

fn tcp_type(candidate: &Candidate) -> Option<TcpType> {
    match candidate.transport {
        Transport::Tcp(tcp_type) => Some(tcp_type),
        _ => None,
    }
}

async fn take(connection: &mut Connection) -> Vec<u8> {
    let mut buffer = vec![0; 65_535];
    let length = soon("receiving", connection.recv(&mut buffer))
        .await
        .unwrap();
    buffer.truncate(length);
    buffer
}

fn types(pair: Option<SelectedPair>) -> [Option<TcpType>; 2] {
    let pair = pair.expect("a pair");
    [tcp_type(&pair.local), tcp_type(&pair.remote)]
}

#[tokio::test]
async fn data_goes_both_ways_over_a_connection() {
    let two = two(&[TcpType::Active, TcpType::Passive]).await;
    let (mut a, mut b) = two.connect().await;
    deliver(&mut a, &mut b, "to b").await;
    deliver(&mut b, &mut a, "to a").await;
    // Data may flow on either side's connection; in the end it is one.
    soon("the nomination", async {
        while [&two.a, &two.b]
            .iter()
            .any(|agent| agent.state() != State::Completed)
        {
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await;
    let [local, remote] = types(a.selected_pair());
    assert_eq!([remote, local], types(b.selected_pair()));
    assert_ne!(local, remote, "one side has opened it");
    // The borders of datagrams are kept, whatever their size, and the path has no limit of UDP's.
    let large = vec![7; 65_535];
    for datagram in [&b"x"[..], &large, b"y"] {
        a.send(datagram).await.unwrap();
    }
    for expected in [&b"x"[..], &large, b"y"] {
        assert_eq!(take(&mut b).await, expected);
    }
    let too_large = a.send(&[0; 65_536]).await;
    assert!(matches!(too_large, Err(Error::Send(_))), "{too_large:?}");
}

#[tokio::test]
async fn two_ports_meet_in_a_simultaneous_open() {
    let two = two(&[TcpType::So]).await;
    let (mut a, mut b) = two.connect().await;
    assert_eq!(types(a.selected_pair()), [Some(TcpType::So); 2]);
    assert_eq!(types(b.selected_pair()), [Some(TcpType::So); 2]);
    deliver(&mut a, &mut b, "half-way").await;
    deliver(&mut b, &mut a, "half-way back").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn much_data_arrives_whole_and_in_order() {
    let two = two(&[TcpType::Active, TcpType::Passive]).await;
    let (mut a, mut b) = two.connect().await;
    let sending = async {
        for number in 0..2_000_u32 {
            let mut datagram = vec![number as u8; 1 + number as usize % 1_400];
            datagram[0] = (number >> 8) as u8;
            a.send(&datagram).await.unwrap();
            // The receiver's queue is bounded, and what does not fit is dropped.
            if number % 200 == 0 {
                sleep(Duration::from_millis(1)).await;
            }
        }
    };
    let receiving = async {
        for number in 0..2_000_u32 {
            let datagram = take(&mut b).await;
            assert_eq!(datagram.len(), 1 + number as usize % 1_400);
            assert_eq!(datagram[0], (number >> 8) as u8);
        }
    };
    soon("the data", async { tokio::join!(sending, receiving) }).await;
}

/// What happens at a STUN server, and to whom.
#[derive(Debug, PartialEq)]
enum Asked {
    Question(SocketAddr),
    Closed(SocketAddr),
}

/// A STUN server over TCP that takes everybody for 203.0.113.7, with the port that the question came from.
async fn stun_over_tcp() -> (SocketAddr, mpsc::UnboundedReceiver<Asked>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let at = listener.local_addr().unwrap();
    let (told, asked) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        loop {
            let (mut stream, from) = listener.accept().await.unwrap();
            let told = told.clone();
            tokio::spawn(async move {
                // A header and a FINGERPRINT.
                let mut question = [0; 28];
                while stream.read_exact(&mut question).await.is_ok() {
                    let seen = u32::from_be_bytes([203, 0, 113, 7]) ^ 0x2112_A442;
                    let mut answer = vec![0x01, 0x01, 0, 12];
                    answer.extend(&question[4..20]);
                    answer.extend([0, 0x20, 0, 8, 0, 1]);
                    answer.extend((from.port() ^ 0x2112).to_be_bytes());
                    answer.extend(seen.to_be_bytes());
                    stream.write_all(&answer).await.unwrap();
                    told.send(Asked::Question(from)).unwrap();
                }
                told.send(Asked::Closed(from)).unwrap();
            });
        }
    });
    (at, asked)
}

#[tokio::test]
async fn servers_are_asked_from_the_ports_that_accept_connections() {
    let (server, mut asked) = stun_over_tcp().await;
    let of = |role| config(role).tcp(TcpCandidates::All);
    let asking = of(Role::Controlling).stun(&server.to_string()).unwrap();
    let two = Two::with(asking, of(Role::Controlled)).await;
    let mut events = two.a.events();
    let mut bases = Vec::new();
    // The passive and the simultaneous-open one; what is asked over UDP is not answered, and not waited for.
    for _ in 0..2 {
        let found = event(&mut events, "a server-reflexive candidate", |event| {
            matches!(event, Event::Candidate(found) if found.kind == CandidateType::Srflx
                && tcp_type(found) != Some(TcpType::Active))
        });
        let Event::Candidate(found) = found.await else {
            unreachable!("it is one")
        };
        let (seen, base) = (found.ip_address().unwrap(), found.related.unwrap());
        assert_eq!(seen.to_string(), format!("203.0.113.7:{}", base.port()));
        bases.push(base);
    }
    // Questions may be repeated.
    let mut both = async |wanted: fn(SocketAddr) -> Asked| {
        let mut left = bases.clone();
        while !left.is_empty() {
            let told = soon("the server", asked.recv()).await.unwrap();
            left.retain(|base| wanted(*base) != told);
        }
    };
    both(Asked::Question).await;
    two.exchange();
    let _connections = two.connect().await;
    // RFC 6544 section 11.2: it is left when ICE is done; and a moment later it is asked again from the same ports.
    both(Asked::Closed).await;
    two.a.restart().await.unwrap();
    both(Asked::Question).await;
}

#[tokio::test]
async fn closing_an_agent_closes_its_ports() {
    let agent = nilas::Agent::new(config(Role::Controlled).tcp(TcpCandidates::All))
        .await
        .unwrap();
    let mut events = agent.events();
    event(&mut events, "the end of gathering", |event| {
        matches!(event, Event::GatheringStateChange(GatheringState::Complete))
    })
    .await;
    let ports: Vec<_> = agent
        .local_candidates()
        .iter()
        .filter(|candidate| tcp_type(candidate).is_some_and(|tcp_type| tcp_type != TcpType::Active))
        .filter_map(Candidate::ip_address)
        .collect();
    assert!(ports.len() >= 2, "{ports:?}");
    for port in &ports {
        let stranger = tokio::net::TcpStream::connect(port).await;
        assert!(stranger.is_ok(), "{port}");
    }
    soon("closing", agent.close()).await;
    for port in &ports {
        // The task that listens ends on its own.
        soon("the port to close", async {
            while tokio::net::TcpStream::connect(port).await.is_ok() {
                sleep(Duration::from_millis(5)).await;
            }
        })
        .await;
    }
}
