//! RFC 7675 in virtual time: consent over an hour, and what happens when the peer vanishes.

use std::time::Duration;

use crate::common::{Peers, Setup, gaps, message, ms, sent_by, states};
use nilas_ice::{Event, NoPath, State, Time, Verdict};
use nilas_stun::Class;

const HOUR: Duration = Duration::from_secs(3600);

#[test]
fn consent_holds_for_an_hour() {
    let mut peers = Setup {
        seed: 3,
        ..Setup::default()
    }
    .completed();
    let start = peers.world.now();
    peers.world.run_for(HOUR);
    for agent in peers.both() {
        assert_eq!(
            peers.world.state(agent),
            State::Completed,
            "{:?}",
            states(&peers.world, agent)
        );
        let requests: Vec<_> = sent_by(&peers.world, agent.node)
            .filter(|packet| packet.sent >= start && message(packet, Class::Request).is_some())
            .collect();
        // RFC 7675 section 5.1: each interval is drawn from 4 to 6 seconds, and each request has an id
        // of its own and is sent once.
        assert!(
            (600..=900).contains(&requests.len()),
            "{} consent checks",
            requests.len()
        );
        let gaps = gaps(requests.iter().map(|packet| packet.sent));
        assert!(
            gaps.iter().all(|gap| (ms(4000)..=ms(6000)).contains(gap)),
            "{gaps:?}"
        );
        let (shortest, longest) = (
            gaps.iter().min().expect("gaps"),
            gaps.iter().max().expect("gaps"),
        );
        assert!(
            *shortest < ms(4200) && *longest > ms(5800),
            "not random: {shortest:?} to {longest:?}"
        );
        let ids: std::collections::BTreeSet<_> = requests
            .iter()
            .filter_map(|packet| {
                message(packet, Class::Request).map(|message| message.transaction_id())
            })
            .collect();
        assert_eq!(ids.len(), requests.len());
    }
    // The two sides do not fall into step.
    let phase = |agent| {
        sent_by(&peers.world, agent)
            .map(|packet| packet.sent)
            .last()
    };
    assert_ne!(phase(peers.a.node), phase(peers.b.node));
    peers.assert_mirrored_and_working();
}

#[test]
fn consent_survives_loss_for_an_hour() {
    for seed in 0..5 {
        let mut peers = Setup {
            seed,
            loss: 0.2,
            ..Setup::default()
        }
        .connected();
        peers.world.run_for(HOUR);
        for agent in peers.both() {
            assert!(
                peers.world.is_up(agent),
                "seed {seed}: {:?}",
                states(&peers.world, agent)
            );
            assert!(
                !states(&peers.world, agent).contains(&State::Failed),
                "seed {seed}"
            );
        }
    }
}

/// When the other side last answered a request of this one.
fn last_answer(peers: &Peers, agent: nilas_sim::Agent) -> Time {
    let answers = peers.world.trace().packets().iter().filter_map(|packet| {
        message(packet, Class::SuccessResponse)?;
        match packet.fate {
            nilas_sim::Fate::Delivered { at, node, .. } if node == agent.node => Some(at),
            _ => None,
        }
    });
    answers.max().expect("an answer")
}

#[test]
fn a_peer_that_vanishes_is_disconnected_then_failed() {
    for seed in 0..10 {
        let mut peers = Setup {
            seed,
            ..Setup::default()
        }
        .completed();
        peers
            .world
            .run_for(Duration::from_secs(60) + ms(137 * seed));
        peers.world.set_up(peers.b.node, false);
        let vanished = peers.world.now();
        peers.world.run_for(Duration::from_secs(120));
        let a = peers.a;
        let told: Vec<_> = peers
            .world
            .events(a)
            .iter()
            .filter(|(at, _)| *at > vanished)
            .collect();
        let at = |wanted| {
            let of = |event: &Event| matches!(event, Event::StateChange { state, .. } if *state == wanted);
            told.iter().find(|(_, event)| of(event)).map(|(at, _)| *at)
        };
        let disconnected =
            at(State::Disconnected).unwrap_or_else(|| panic!("seed {seed}: {told:#?}"));
        let failed = at(State::Failed).unwrap_or_else(|| panic!("seed {seed}: {told:#?}"));
        let answer = last_answer(&peers, a);
        // RFC 7675 section 5.1: consent expires 30 s after the last valid response, exactly.
        assert_eq!(
            failed.since(answer),
            Duration::from_secs(30),
            "seed {seed}: {told:#?}"
        );
        // As the module `consent` of nilas-ice states it.
        assert_eq!(
            disconnected.since(answer),
            Duration::from_secs(7),
            "seed {seed}: {told:#?}"
        );
        let verdict = told.iter().find_map(|(_, event)| match event {
            Event::StateChange {
                state: State::Failed,
                verdict,
            } => *verdict,
            _ => None,
        });
        assert_eq!(verdict, Some(Verdict::ConsentExpired));
        let refused = peers.world.send(a, b"anyone?");
        assert!(
            matches!(refused, Err(NoPath::Failed | NoPath::ConsentExpired)),
            "{refused:?}"
        );
    }
}

#[test]
fn no_data_leaves_once_consent_is_gone() {
    let mut peers = Setup::default().completed();
    peers.world.set_up(peers.b.node, false);
    let answer = last_answer(&peers, peers.a);
    // An application that never stops sending.
    let mut last_sent = Time::ZERO;
    for _ in 0..6_000 {
        if peers.world.send(peers.a, b"data").is_ok() {
            last_sent = peers.world.now();
        }
        peers.world.run_for(ms(10));
    }
    let silence = last_sent.since(answer);
    assert!(
        silence <= Duration::from_secs(30),
        "sent {silence:?} after the last answer"
    );
    assert!(
        silence >= Duration::from_secs(29),
        "stopped {silence:?} after the last answer already"
    );
}

#[test]
fn a_peer_that_comes_back_in_time_is_connected_again() {
    let mut peers = Setup::default().completed();
    peers.world.run_for(Duration::from_secs(20));
    peers.world.set_up(peers.b.node, false);
    let a = peers.a;
    let gone = peers.world.run_until(Duration::from_secs(30), |world| {
        world.state(a) == State::Disconnected
    });
    assert!(gone.is_some());
    peers.world.set_up(peers.b.node, true);
    let back = peers.run_until_up(Duration::from_secs(15));
    assert!(back.is_some(), "{:?}", states(&peers.world, a));
    peers.assert_data_both_ways();
}

#[test]
fn received_data_is_no_consent() {
    // b's answers are lost while its data arrives: its consent to receive is not renewed.
    let mut peers = Setup::default().completed();
    let (a, b) = (peers.a, peers.b);
    let pair = peers.world.selected_pair(b).expect("a pair").clone();
    let (from, to) = crate::common::ends(&pair);
    let (from, to) = (from.expect("an address"), to.expect("an address"));
    peers.world.set_up(b.node, false);
    let answer = last_answer(&peers, a);
    let other = peers.world.add_host(
        nilas_sim::Realm::INTERNET,
        &[crate::common::ip("192.0.2.99")],
        nilas_sim::Link::default(),
    );
    let before = peers.world.received(a).len();
    for _ in 0..400 {
        peers.world.inject(other, from, to, b"data of b");
        peers.world.run_for(ms(100));
    }
    assert!(
        peers.world.received(a).len() > before,
        "the data must reach a for this to prove anything"
    );
    let failed = peers
        .world
        .state_at(a, State::Failed)
        .expect("consent expired");
    assert_eq!(failed.since(answer), Duration::from_secs(30));
}

#[test]
fn a_long_round_trip_is_no_silence() {
    for round_trip in [800, 1_500, 3_000].map(ms) {
        for seed in 0..10 {
            let mut peers = Setup {
                seed,
                round_trip,
                ..Setup::default()
            }
            .completed();
            peers.world.run_for(Duration::from_secs(120));
            for agent in peers.both() {
                let states = states(&peers.world, agent);
                assert!(
                    !states.contains(&State::Disconnected),
                    "{round_trip:?}, seed {seed}: {states:?}"
                );
            }
        }
    }
}
