//! Sessions over a relay, the project's own server on loopback, by every transport that reaches it.

mod common;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use common::relay::Relay;
use common::{Two, config, deliver, event, soon};
use nilas::ice::SendError;
use nilas::{Agent, Batch, CandidateType, Endpoint, Error, Event, Role, State, Stats};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::sleep;

/// Two agents that have nothing but this relay, over these transports.
async fn two(relay: &Relay, a: &str, b: &str) -> Two {
    Two::with(
        relay.only(Role::Controlling, a),
        relay.only(Role::Controlled, b),
    )
    .await
}

async fn data_goes_both_ways(a: &str, b: &str) {
    let relay = Relay::start(&format!("{a}-{b}")).await;
    let two = two(&relay, a, b).await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    for round in 0..20 {
        deliver(&mut a, &mut b, &format!("to b, {round}")).await;
        deliver(&mut b, &mut a, &format!("to a, {round}")).await;
    }
    for agent in [&two.a, &two.b] {
        let pair = agent.selected_pair().unwrap();
        assert_eq!(pair.local.kind, CandidateType::Relay);
        let kinds: Vec<_> = agent
            .local_candidates()
            .iter()
            .map(|candidate| candidate.kind)
            .collect();
        assert!(
            !kinds.is_empty() && kinds.iter().all(|kind| *kind == CandidateType::Relay),
            "only relayed candidates are told: {kinds:?}"
        );
    }
}

#[tokio::test]
async fn a_relay_is_reached_over_udp() {
    data_goes_both_ways("udp", "udp").await;
}

#[tokio::test]
async fn the_longest_datagram_leaves_room_for_what_relays_put_around_it() {
    let relay = Relay::start("max-payload").await;
    for (transport, wanted) in [(None, 1232), (Some("udp"), 1184), (Some("tcp"), 1184)] {
        let two = match transport {
            Some(transport) => two(&relay, transport, transport).await,
            None => Two::new().await,
        };
        let early = two.a.connection().unwrap();
        assert!(matches!(early.max_payload(), Err(Error::NoPath(_))));
        drop(early);
        two.exchange();
        let (mut a, mut b) = two.connect().await;
        assert_eq!(a.max_payload().unwrap(), wanted, "{transport:?}");
        let text = "x".repeat(wanted);
        deliver(&mut a, &mut b, &text).await;
    }
}

#[tokio::test]
async fn a_relay_is_reached_over_tcp() {
    data_goes_both_ways("tcp", "tcp").await;
}

#[tokio::test]
async fn a_relay_is_reached_over_tls() {
    data_goes_both_ways("tls", "tls").await;
}

#[tokio::test]
async fn a_relay_is_reached_over_dtls() {
    data_goes_both_ways("dtls", "dtls").await;
}

#[tokio::test]
async fn an_agent_is_closed_when_its_relay_and_its_port_are_given_back() {
    let relay = Relay::start("close").await;
    for transport in ["udp", "tcp", "tls", "dtls"] {
        let url = relay.url(transport);
        let config = || {
            let config = config(Role::Controlling).turn(&url, "user", "password");
            config.unwrap().trust(relay.roots.clone())
        };
        let agent = Agent::new(config()).await.unwrap();
        soon("all candidates", agent.ticket()).await.unwrap();
        let found = agent.local_candidates();
        let has = |kind| found.iter().find(|candidate| candidate.kind == kind);
        assert!(
            has(CandidateType::Relay).is_some(),
            "{transport}: {found:?}"
        );
        let host = has(CandidateType::Host).unwrap().address.to_string();
        soon("its end", agent.close()).await;
        // At once, and not soon.
        UdpSocket::bind(&host).await.unwrap();
        relay.is_idle().await;

        let dropped = Agent::new(config()).await.unwrap();
        soon("all candidates", dropped.ticket()).await.unwrap();
        drop(dropped);
        relay.is_idle().await;
    }
}

#[tokio::test]
async fn each_side_reaches_the_relay_in_its_own_way() {
    data_goes_both_ways("tls", "udp").await;
}

/// Sends batches until all of one has arrived: what is lost on the way is lost as on any network.
async fn a_batch_arrives_whole(transport: &str) {
    const SEGMENT: usize = 1000;
    const COUNT: usize = 150;
    let relay = Relay::start(&format!("batch-{transport}")).await;
    let two = two(&relay, transport, transport).await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    // The last one is shorter, and no multiple of four.
    let mut datagrams = vec![0; SEGMENT * (COUNT - 1) + 7];
    for (number, datagram) in datagrams.chunks_mut(SEGMENT).enumerate() {
        datagram.fill(number as u8);
    }
    let mut sender = a.sender();
    let sending = tokio::spawn(async move {
        loop {
            sender.send_batch(&datagrams, SEGMENT).await.unwrap();
            sleep(Duration::from_millis(200)).await;
        }
    });
    let (mut batch, mut seen) = (Batch::new(), [false; COUNT]);
    while seen.contains(&false) {
        soon("a batch", b.recv_batch(&mut batch)).await.unwrap();
        for datagram in batch.iter() {
            let number = usize::from(datagram[0]);
            let length = if number == COUNT - 1 { 7 } else { SEGMENT };
            assert_eq!(datagram, vec![number as u8; length], "datagram {number}");
            seen[number] = true;
        }
    }
    sending.abort();
    deliver(&mut b, &mut a, "all there").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_cut_up_for_the_relay_over_udp() {
    a_batch_arrives_whole("udp").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_batch_is_cut_up_for_the_relay_over_tcp() {
    a_batch_arrives_whole("tcp").await;
}

#[tokio::test]
async fn what_no_framing_has_room_for_is_refused() {
    let relay = Relay::start("large").await;
    let two = two(&relay, "tcp", "udp").await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    for connection in [&mut a, &mut b] {
        let refused = connection.send(&[7; 70_000]).await;
        assert!(
            matches!(refused, Err(Error::Send(SendError::TooLarge))),
            "{refused:?}"
        );
        let stats = connection.stats().await.expect("it is open");
        let discarded = stats.iter().find_map(|stats| match stats {
            Stats::CandidatePair(pair) if pair.packets_discarded_on_send > 0 => {
                Some((pair.packets_discarded_on_send, pair.bytes_discarded_on_send))
            }
            _ => None,
        });
        assert_eq!(discarded, Some((1, 70_000)));
    }
    deliver(&mut a, &mut b, "still there").await;
}

#[tokio::test]
async fn a_session_outlives_its_relay_over_tcp() {
    outlives_its_relay("tcp").await;
}

/// Nothing tells a client of UDP that its server has forgotten it: it has to ask.
#[tokio::test]
async fn a_session_outlives_its_relay_over_udp() {
    outlives_its_relay("udp").await;
}

async fn outlives_its_relay(transport: &str) {
    let mut relay = Relay::start(&format!("back-{transport}")).await;
    let two = two(&relay, transport, transport).await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    deliver(&mut a, &mut b, "before").await;
    let mut events = [two.a.events(), two.b.events()];
    relay.kill().await;
    for events in &mut events {
        let lost = |event: &Event| {
            matches!(
                event,
                Event::StateChange {
                    state: State::Disconnected | State::Failed,
                    ..
                }
            )
        };
        event(events, "the loss", lost).await;
    }
    relay.come_back().await;
    // An application that wants to go on restarts; the allocations are made anew without being asked.
    two.a.restart().await.unwrap();
    soon("the way back", async {
        loop {
            // There is no path at first, and what is sent may be lost.
            let _ = a.send(b"after").await;
            let mut buffer = [0; 100];
            tokio::select! {
                received = b.recv(&mut buffer) => match received {
                    Ok(length) => {
                        assert_eq!(&buffer[..length], b"after");
                        return;
                    }
                    Err(_) => sleep(Duration::from_millis(50)).await,
                },
                () = sleep(Duration::from_millis(50)) => {}
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_is_not_trusted_gives_an_error_and_no_candidate() {
    let (relay, other) = (Relay::start("trust").await, Relay::start("other").await);
    for transport in ["tls", "dtls"] {
        let stranger = other
            .only(Role::Controlling, "udp")
            .turn(&relay.url(transport), "user", "password")
            .unwrap();
        let agent = Agent::new(stranger).await.unwrap();
        let mut events = agent.events();
        let refused = |event: &Event| matches!(event, Event::CandidateError(_));
        let Event::CandidateError(error) = event(&mut events, "the refusal", refused).await else {
            unreachable!("it was looked for")
        };
        assert!(error.url.starts_with("turns:"), "{error:?}");
        agent.close().await;
    }
}

#[tokio::test]
async fn servers_that_swallow_everything_keep_nobody_from_the_one_that_answers() {
    let relay = Relay::start("silent").await;
    // Nobody accepts on the one, nobody reads from the other.
    let tcp = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let udp = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let with_silent = |role| {
        let (tcp, udp) = (tcp.local_addr().unwrap(), udp.local_addr().unwrap());
        relay
            .only(role, "tcp")
            .stun(&udp.to_string())
            .unwrap()
            .turn(&format!("turn:{udp}"), "user", "password")
            .unwrap()
            .turn(&format!("turn:{tcp}?transport=tcp"), "user", "password")
            .unwrap()
            .turn(&format!("turns:{tcp}?transport=tcp"), "user", "password")
            .unwrap()
    };
    let two = Two::with(
        with_silent(Role::Controlling),
        with_silent(Role::Controlled),
    )
    .await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    deliver(&mut a, &mut b, "not delayed").await;
}

/// An HTTP proxy, and how many connections it has opened.
async fn proxy() -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let opened = Arc::new(AtomicUsize::new(0));
    let counter = Arc::clone(&opened);
    tokio::spawn(async move {
        while let Ok((client, _)) = listener.accept().await {
            let counter = Arc::clone(&counter);
            tokio::spawn(async move {
                let mut client = BufReader::new(client);
                let (mut first, mut line) = (String::new(), String::new());
                client.read_line(&mut first).await.unwrap();
                while line != "\r\n" {
                    line.clear();
                    client.read_line(&mut line).await.unwrap();
                }
                let target = first.split(' ').nth(1).unwrap();
                let mut server = TcpStream::connect(target).await.unwrap();
                client.write_all(b"HTTP/1.1 200 OK\r\n\r\n").await.unwrap();
                counter.fetch_add(1, Ordering::Relaxed);
                let _ = copy_bidirectional(&mut client, &mut server).await;
            });
        }
    });
    (address, opened)
}

#[tokio::test]
async fn a_relay_is_reached_through_a_proxy() {
    let relay = Relay::start("proxy").await;
    let (address, opened) = proxy().await;
    let through = |role, transport| {
        relay
            .only(role, transport)
            .proxy(format!("http://{address}").parse().unwrap())
    };
    let two = Two::with(
        through(Role::Controlling, "tls"),
        through(Role::Controlled, "tcp"),
    )
    .await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    deliver(&mut a, &mut b, "through the proxy").await;
    deliver(&mut b, &mut a, "and back").await;
    assert!(opened.load(Ordering::Relaxed) >= 2);
}

#[tokio::test]
async fn each_agent_of_an_endpoint_reaches_the_same_server_in_its_own_way() {
    let mut relay = Relay::start("own-way").await;
    let (address, opened) = proxy().await;
    let endpoint = Endpoint::new().unwrap();
    let through = format!("http://{address}").parse().unwrap();
    let proxied = relay.only(Role::Controlling, "tls").proxy(through);
    let first = endpoint.agent(proxied).await.unwrap();
    soon("its relay", first.ticket()).await.unwrap();
    let passed = opened.load(Ordering::Relaxed);
    assert!(passed > 0);
    let plain = relay.only(Role::Controlling, "tls");
    let second = endpoint.agent(plain).await.unwrap();
    soon("its relay", second.ticket()).await.unwrap();
    assert_eq!(opened.load(Ordering::Relaxed), passed, "without a proxy");
    // What the second one wants says nothing of how the first one connects again.
    relay.kill().await;
    relay.come_back().await;
    let again = async {
        while opened.load(Ordering::Relaxed) == passed {
            sleep(Duration::from_millis(10)).await;
        }
    };
    soon("the first to come again", again).await;
}

#[tokio::test]
async fn wrong_credentials_are_told() {
    let relay = Relay::start("credentials").await;
    let config = config(Role::Controlling)
        .turn(&relay.url("udp"), "user", "wrong")
        .unwrap();
    let agent = Agent::new(config).await.unwrap();
    let mut events = agent.events();
    let refused = |event: &Event| matches!(event, Event::CandidateError(_));
    let Event::CandidateError(error) = event(&mut events, "the refusal", refused).await else {
        unreachable!("it was looked for")
    };
    assert_eq!(error.error_code, 401, "{error:?}");
}
