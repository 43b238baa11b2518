//! Sessions between two agents over loopback: the ways to signal, data both ways, restart.

mod common;

use std::sync::Arc;
use std::time::Duration;

use common::{Two, config, deliver, event, receive, soon};
use nilas::ice::{AgentError, Stats};
use nilas::signaling::{CandidateInit, Description, Signal};
use nilas::{Agent, Batch, Connection, Error, Event, GatheringState, NoPath, Role, State};
use tokio::sync::mpsc;

#[tokio::test]
async fn trickled_signals_lead_to_a_connection_with_data_both_ways() {
    let two = Two::new().await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    deliver(&mut a, &mut b, "to b").await;
    deliver(&mut b, &mut a, "to a").await;

    let (of_a, of_b) = (a.selected_pair().unwrap(), b.selected_pair().unwrap());
    assert_eq!(of_a.local.ip_address(), of_b.remote.ip_address());
    assert_eq!(of_a.remote.ip_address(), of_b.local.ip_address());
    let stats = soon("stats", a.stats()).await.unwrap();
    let sent = stats.iter().find_map(|stats| match stats {
        Stats::Transport(transport) => Some((transport.packets_sent, transport.bytes_sent)),
        _ => None,
    });
    assert_eq!(sent, Some((1, 4)));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_call_runs_agent_and_signaling() {
    let (to_b, from_a) = mpsc::channel(1);
    let (to_a, from_b) = mpsc::channel(1);
    let a = nilas::connect(config(Role::Controlling), to_b, from_b);
    let b = nilas::connect(config(Role::Controlled), to_a, from_a);
    let (mut a, mut b) = soon("connecting", async { tokio::try_join!(a, b) })
        .await
        .unwrap();
    deliver(&mut a, &mut b, "one call").await;
    // Signals still pass: a restart by one side reaches the other and comes back.
    let mut events = b.events();
    a.restart().await.unwrap();
    event(&mut events, "the restart of b", |event| {
        matches!(event, Event::LocalParameters(_))
    })
    .await;
    deliver(&mut b, &mut a, "meanwhile").await;
}

#[tokio::test]
async fn a_restart_that_cannot_be_used_leaves_the_session_and_its_signaling_as_they_are() {
    let two = Two::new().await;
    let (to_b, from_a) = mpsc::channel(4);
    let (to_a, from_b) = mpsc::channel(4);
    let beside_a = to_b.clone();
    for (agent, mut to, mut from) in [(&two.a, to_b, from_b), (&two.b, to_a, from_a)] {
        let agent = Arc::clone(agent);
        tokio::spawn(async move { agent.exchange(&mut to, &mut from).await });
    }
    let (mut a, mut b) = two.connect().await;
    let mut events = two.b.events();
    let known = two.a.local_parameters();
    for (ufrag, pwd) in [("!", "!"), ("another", known.pwd.as_str())] {
        let unusable = Signal::Description(Description::new(ufrag, pwd));
        beside_a.send(unusable).await.unwrap();
    }
    two.a.restart().await.unwrap();
    event(&mut events, "the restart of b", |event| {
        matches!(event, Event::LocalParameters(_))
    })
    .await;
    deliver(&mut a, &mut b, "all the same").await;
}

#[tokio::test]
async fn a_first_description_that_cannot_be_used_ends_the_signaling() {
    let agent = Agent::new(config(Role::Controlling)).await.unwrap();
    let ((mut to, _peer), (of_peer, mut from)) = (mpsc::channel(4), mpsc::channel(4));
    let unusable = Signal::Description(Description::new("!", "!"));
    of_peer.send(unusable).await.unwrap();
    let refused = soon("refusing", agent.exchange(&mut to, &mut from)).await;
    assert!(
        matches!(refused, Err(Error::Agent(AgentError::Parameters(_)))),
        "{refused:?}"
    );
}

#[tokio::test]
async fn tickets_need_no_trickle() {
    let two = Two::new().await;
    let (from_a, from_b) = soon("tickets", async {
        tokio::try_join!(two.a.ticket(), two.b.ticket())
    })
    .await
    .unwrap();
    // As text, the way it goes from screen to screen.
    two.b
        .accept(&from_a.to_string().parse().unwrap())
        .await
        .unwrap();
    two.a
        .accept(&from_b.to_string().parse().unwrap())
        .await
        .unwrap();
    let (mut a, mut b) = two.connect().await;
    deliver(&mut a, &mut b, "by ticket").await;
}

#[tokio::test]
async fn both_may_begin_in_the_same_role() {
    for role in [Role::Controlling, Role::Controlled] {
        let two = Two::with(config(role), config(role)).await;
        two.exchange();
        let (mut a, mut b) = two.connect().await;
        deliver(&mut a, &mut b, "healed").await;
        assert_ne!(two.a.role(), two.b.role());
    }
}

#[tokio::test]
async fn a_restart_keeps_the_data_flowing_and_selects_anew() {
    let two = Two::new().await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    deliver(&mut a, &mut b, "before").await;
    let old = two.a.local_parameters();
    let (mut of_a, mut of_b) = (two.a.events(), two.b.events());

    a.restart().await.unwrap();
    deliver(&mut a, &mut b, "during").await;
    deliver(&mut b, &mut a, "during").await;
    for events in [&mut of_a, &mut of_b] {
        event(events, "new parameters", |event| {
            matches!(event, Event::LocalParameters(_))
        })
        .await;
        event(events, "a new pair", |event| {
            matches!(event, Event::SelectedPairChange(_))
        })
        .await;
    }
    assert_ne!(two.a.local_parameters().ufrag, old.ufrag);
    deliver(&mut a, &mut b, "after").await;
    deliver(&mut b, &mut a, "after").await;
}

#[tokio::test]
async fn without_a_path_sending_says_why() {
    let agent = Agent::new(config(Role::Controlling)).await.unwrap();
    let mut connection = agent.connection().unwrap();
    let refused = connection.send(b"too early").await;
    assert!(
        matches!(refused, Err(Error::NoPath(NoPath::NotConnected))),
        "{refused:?}"
    );
    let refused = connection.try_send(b"too early");
    assert!(
        matches!(refused, Err(Error::NoPath(NoPath::NotConnected))),
        "{refused:?}"
    );
    let refused = agent.sender().send_batch(b"too early", 3).await;
    assert!(
        matches!(refused, Err(Error::NoPath(NoPath::NotConnected))),
        "{refused:?}"
    );
    let refused = agent.sender().try_send_batch(b"too early", 3);
    assert!(
        matches!(refused, Err(Error::NoPath(NoPath::NotConnected))),
        "{refused:?}"
    );
    assert!(agent.selected_pair().is_none());
}

#[tokio::test]
async fn batches_arrive_as_single_datagrams() {
    let two = Two::new().await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    let bytes: Vec<u8> = (0..70 * 1000 + 5).map(|at| (at / 1000) as u8).collect();
    for waits in [true, false] {
        if waits {
            a.send_batch(&bytes, 1000).await.unwrap();
        } else {
            send_without_waiting(&a, &bytes, 1000).await;
        }
        let (mut batch, mut received) = (Batch::new(), Vec::new());
        while received.len() < 71 {
            soon("a batch", b.recv_batch(&mut batch)).await.unwrap();
            received.extend(batch.iter().map(<[u8]>::to_vec));
        }
        assert_eq!(
            received,
            bytes.chunks(1000).map(<[u8]>::to_vec).collect::<Vec<_>>()
        );
    }
    assert_eq!(b.dropped(), 0);
    let refused = [
        a.send_batch(&bytes, 0).await,
        a.sender().try_send_batch(&bytes, 0).map(drop),
    ];
    assert!(matches!(
        refused,
        [Err(Error::EmptySegment), Err(Error::EmptySegment)]
    ));
}

/// What has no room is tried again, from where it stopped.
async fn send_without_waiting(connection: &Connection, bytes: &[u8], segment: usize) {
    let mut sender = connection.sender();
    let mut rest = bytes;
    while !rest.is_empty() {
        match sender.try_send_batch(rest, segment) {
            Ok(sent) => {
                assert!(
                    sent > 0 && (sent % segment == 0 || sent == rest.len()),
                    "{sent}"
                );
                rest = &rest[sent..];
            }
            Err(Error::WouldBlock) => tokio::task::yield_now().await,
            Err(error) => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_buffer_that_is_too_small_loses_nothing() {
    let two = Two::new().await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    a.send(b"four").await.unwrap();
    let refused = soon("receiving", b.recv(&mut [0; 3])).await;
    assert!(
        matches!(refused, Err(Error::BufferTooSmall { needed: 4 })),
        "{refused:?}"
    );
    assert_eq!(receive(&mut b).await, "four");
}

#[tokio::test]
async fn a_full_queue_drops_and_counts() {
    let two = Two::with(
        config(Role::Controlling),
        config(Role::Controlled).receive_queue_bytes(3000),
    )
    .await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    // More than fits, whichever datagrams they are.
    a.send_batch(&[7; 10 * 1000], 1000).await.unwrap();
    soon("drops", async {
        while b.dropped() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    })
    .await;
    let mut batch = Batch::new();
    soon("what found room", b.recv_batch(&mut batch))
        .await
        .unwrap();
    assert!((1..=2).contains(&batch.len()), "{}", batch.len());
}

#[tokio::test]
async fn events_begin_at_the_beginning_and_keep_their_order() {
    let two = Two::new().await;
    let gathered = soon("gathering", two.a.ticket()).await.unwrap();
    // Asked for only now, and still complete.
    let mut events = two.a.events();
    two.exchange();
    let _connections = two.connect().await;
    let (mut candidates, mut selected, mut gathering) = (0, false, Vec::new());
    loop {
        match soon("an event", events.next()).await.unwrap().unwrap() {
            Event::Candidate(candidate) => {
                assert!(
                    candidate
                        .to_string()
                        .ends_with(&format!(" ufrag {}", gathered.description().ufrag))
                );
                candidates += 1;
            }
            Event::GatheringStateChange(state) => gathering.push(state),
            Event::SelectedPairChange(_) => selected = true,
            Event::StateChange {
                state: State::Connected,
                ..
            } => break,
            _ => {}
        }
    }
    assert_eq!(candidates, gathered.candidates().len());
    assert_eq!(
        gathering,
        [GatheringState::Gathering, GatheringState::Complete]
    );
    assert!(selected, "selected comes before connected");
}

#[tokio::test]
async fn bad_signals_are_errors_and_the_session_goes_on() {
    let two = Two::new().await;
    let candidate = |line: &str| Signal::Candidate(CandidateInit::new(line));
    let broken = two
        .a
        .signal(candidate("candidate:1 1 udp x 192.0.2.1 9 typ host"))
        .await;
    assert!(broken.unwrap_err().to_string().contains("priority"));
    let name = two
        .a
        .signal(candidate("candidate:1 1 udp 1 some.local 9 typ host"))
        .await;
    assert!(matches!(name, Err(Error::Agent(_))), "{name:?}");
    let weak: Signal =
        serde_json::from_str(r#"{"type":"description","ufrag":"a","pwd":"b"}"#).unwrap();
    assert!(matches!(two.a.signal(weak).await, Err(Error::Agent(_))));
    let later: Signal = serde_json::from_str(r#"{"type":"weather"}"#).unwrap();
    two.a.signal(later).await.unwrap();

    two.exchange();
    let (mut a, mut b) = two.connect().await;
    deliver(&mut a, &mut b, "all the same").await;
}

/// Sockets of this machine that are connected from this port to another.
#[cfg(target_os = "linux")]
fn connected_from(port: u16) -> usize {
    ["/proc/self/net/udp", "/proc/self/net/udp6"]
        .iter()
        .flat_map(std::fs::read_to_string)
        .flat_map(|table| table.lines().skip(1).map(str::to_owned).collect::<Vec<_>>())
        .filter(|line| {
            let mut columns = line.split_whitespace().skip(1);
            let port_of = |column: Option<&str>| {
                let (_, port) = column?.rsplit_once(':')?;
                u16::from_str_radix(port, 16).ok()
            };
            port_of(columns.next()) == Some(port) && port_of(columns.next()) != Some(0)
        })
        .count()
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_path_that_carries_much_gets_a_socket_of_its_own() {
    let two = Two::new().await;
    two.exchange();
    let (mut a, mut b) = two.connect().await;
    let port = |connection: &Connection| connection.selected_pair().unwrap().base.port();
    // One that says little does not.
    deliver(&mut a, &mut b, "a little").await;
    assert_eq!(connected_from(port(&a)), 0);
    let mut events = two.b.events();
    for round in 0..3 {
        // The path may become a better one meanwhile, and then it is asked for anew.
        soon("a socket of its own at both ends", async {
            while [&a, &b].iter().any(|end| connected_from(port(end)) != 1) {
                deliver(&mut a, &mut b, &format!("{round} to b")).await;
                deliver(&mut b, &mut a, &format!("{round} to a")).await;
            }
        })
        .await;
        // It carries data both ways.
        for number in 0..100 {
            deliver(&mut a, &mut b, &format!("{number} to b")).await;
            deliver(&mut b, &mut a, &format!("{number} to a")).await;
        }
        // A restart makes a path anew, and the socket of the one before goes with it.
        let before = port(&a);
        a.restart().await.unwrap();
        event(&mut events, "the restart", |event| {
            matches!(event, Event::LocalParameters(_))
        })
        .await;
        event(&mut events, "a new pair", |event| {
            matches!(event, Event::SelectedPairChange(_))
        })
        .await;
        until_closed(before, || port(&a) != before).await;
    }
    let port = port(&a);
    soon("closing", a.close()).await;
    until_closed(port, || true).await;
}

/// Waits until no socket is connected from this port any more, as long as there shall be none.
#[cfg(target_os = "linux")]
async fn until_closed(port: u16, is_left: impl Fn() -> bool) {
    soon("the socket's end", async {
        while is_left() && connected_from(port) > 0 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}
