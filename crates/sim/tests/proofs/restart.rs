//! ICE restarts (RFC 8445 section 9): data keeps flowing until the new pair is selected.

use std::time::Duration;

use crate::common::{MINUTE, Peers, Setup, message, ms, sent_by, states};
use nilas_ice::{AgentError, Event, Parameters, State, Time};
use nilas_sim::{Agent, Signal, Signaling};
use nilas_stun::Class;

/// Sends data both ways every 10 ms, restarts, and runs until both have concluded again.
fn data_flows_through(peers: &mut Peers, restart: impl FnOnce(&mut Peers)) {
    let (a, b) = (peers.a, peers.b);
    let begun = peers.world.now();
    let before = [a, b].map(|agent| peers.world.received(agent).len());
    let old = [a, b].map(|agent| peers.parameters(agent));
    restart(peers);
    let concluded = |peers: &Peers, agent: Agent| {
        peers
            .world
            .events(agent)
            .iter()
            .any(|(at, event)| *at > begun && matches!(event, Event::Nominated(_)))
    };
    let mut sent = 0;
    while !(concluded(peers, a) && concluded(peers, b)) {
        assert!(
            peers.world.now().since(begun) < MINUTE,
            "{:#?}",
            peers.world.events(a)
        );
        for agent in [a, b] {
            peers
                .world
                .send(agent, b"still here")
                .expect("a path all the time");
        }
        sent += 1;
        peers.world.run_for(ms(10));
    }
    peers.world.run_for(Duration::from_secs(1));
    for (agent, before) in [a, b].into_iter().zip(before) {
        assert_eq!(
            peers.world.received(agent).len() - before,
            sent,
            "data was lost"
        );
    }
    for (agent, old) in [a, b].into_iter().zip(old) {
        // The application hears of the new pair, even if it has the addresses of the old one.
        let told = peers
            .world
            .events(agent)
            .iter()
            .any(|(at, event)| *at > begun && matches!(event, Event::SelectedPairChange(_)));
        assert!(told, "{:#?}", peers.world.events(agent));
        let new = peers.parameters(agent);
        assert!(
            new.ufrag != old.ufrag && new.pwd != old.pwd,
            "both must change"
        );
    }
    let done = peers.world.run_until(MINUTE, |world| {
        [a, b]
            .iter()
            .all(|agent| world.state(*agent) == State::Completed)
    });
    assert!(
        done.is_some(),
        "{:?}",
        [states(&peers.world, a), states(&peers.world, b)]
    );
    peers.assert_mirrored_and_working();
    for agent in [a, b] {
        assert_eq!(peers.world.refused(agent), []);
    }
}

fn completed_with_signaling(delay: Duration, seed: u64) -> Peers {
    let mut peers = Setup {
        seed,
        ..Setup::default()
    }
    .peers();
    peers.introduce(Signaling::trickled(delay));
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.world.run_for(Duration::from_secs(10));
    peers
}

fn restart(peers: &mut Peers, agent: Agent) {
    peers
        .world
        .with_agent(agent, |mut agent, now| agent.restart(now))
        .expect("open");
}

#[test]
fn by_either_side() {
    for delay in [0, 20, 300].map(ms) {
        for side in [0, 1] {
            let mut peers = completed_with_signaling(delay, 5);
            data_flows_through(&mut peers, |peers| {
                let agent = peers.both()[side];
                restart(peers, agent);
            });
        }
    }
}

#[test]
fn by_both_sides_at_once() {
    for delay in [0, 20, 300].map(ms) {
        let mut peers = completed_with_signaling(delay, 6);
        data_flows_through(&mut peers, |peers| {
            for agent in peers.both() {
                restart(peers, agent);
            }
        });
    }
}

#[test]
fn again_and_again() {
    let mut peers = completed_with_signaling(ms(20), 7);
    for round in 0..10 {
        data_flows_through(&mut peers, |peers| {
            let agent = peers.both()[round % 2];
            restart(peers, agent);
        });
    }
}

#[test]
fn while_the_peer_takes_its_time_consent_goes_on_on_the_old_pair() {
    let mut peers = completed_with_signaling(Duration::ZERO, 8);
    let (a, b) = (peers.a, peers.b);
    peers.world.hold_signals(a);
    let from = peers.world.now();
    restart(&mut peers, a);
    for _ in 0..200 {
        peers.world.send(a, b"still here").expect("a path");
        peers.world.run_for(ms(100));
    }
    // RFC 7675 section 5.1: consent is kept up on the pair that carries the data during a restart.
    let checks = sent_by(&peers.world, a.node)
        .filter(|p| p.sent > from && message(p, Class::Request).is_some());
    assert!(checks.count() >= 3);
    assert_eq!(peers.world.received(b).len(), 200);
    peers.world.release_signals(a);
    let selected_again = peers.world.run_until(MINUTE, |world| {
        [a, b].iter().all(|agent| {
            let released = from + Duration::from_secs(20);
            world
                .events(*agent)
                .iter()
                .any(|(at, event)| *at >= released && matches!(event, Event::SelectedPairChange(_)))
        })
    });
    assert!(selected_again.is_some(), "{:#?}", peers.world.events(a));
    peers.assert_mirrored_and_working();
}

#[test]
fn after_failed() {
    let mut peers = completed_with_signaling(ms(20), 9);
    let (a, b) = (peers.a, peers.b);
    peers.world.set_up(b.node, false);
    let failed = peers.world.run_until(2 * MINUTE, |world| {
        [a, b]
            .iter()
            .all(|agent| world.state(*agent) == State::Failed)
    });
    assert!(failed.is_some());
    peers.world.set_up(b.node, true);
    restart(&mut peers, a);
    assert!(
        peers.run_until_up(MINUTE).is_some(),
        "{:?}",
        states(&peers.world, b)
    );
    peers.assert_mirrored_and_working();
}

/// The answer to a restart comes when the next restart is under way already: it is for what the peer knew then, and the
/// one to the latest restart follows. Taken for that, or for a restart of the peer, it would be answered itself.
#[test]
fn an_answer_to_an_earlier_restart_is_left_alone() {
    let mut peers = completed_with_signaling(Duration::ZERO, 12);
    let (a, b) = (peers.a, peers.b);
    let begun = peers.world.now();
    peers.world.hold_signals(b);
    restart(&mut peers, a);
    peers.world.run_for(ms(10));
    peers.world.hold_signals(a);
    restart(&mut peers, a);
    peers.world.release_signals(b);
    peers.world.run_for(ms(10));
    peers.world.release_signals(a);
    peers.world.run_for(Duration::from_secs(5));
    peers.assert_mirrored_and_working();
    let [own, theirs] = [a, b].map(|agent| {
        let events = peers.world.events(agent).iter();
        let told = events.filter_map(|(at, event)| match event {
            Event::LocalParameters(parameters) if *at >= begun => Some(parameters.clone()),
            _ => None,
        });
        told.collect::<Vec<_>>()
    });
    // Two restarts, each with one answer, that says which it is for.
    let named = |of: &[Parameters]| of.iter().map(|own| own.ufrag.clone()).collect::<Vec<_>>();
    let answers = |of: &[Parameters]| of.iter().map(|own| own.answers.clone()).collect::<Vec<_>>();
    assert_eq!(answers(&own), [None, None]);
    let expected: Vec<_> = named(&own).into_iter().map(Some).collect();
    assert_eq!(answers(&theirs), expected);
}

#[test]
fn both_credentials_must_change() {
    let mut peers = Setup::default().completed();
    let known = peers.parameters(peers.b);
    let fresh = Parameters::new("fresh", "freshfreshfreshfreshfresh");
    for partial in [
        Parameters {
            ufrag: fresh.ufrag.clone(),
            ..known.clone()
        },
        Parameters {
            pwd: fresh.pwd,
            ..known.clone()
        },
    ] {
        let refused = peers.world.deliver(peers.a, Signal::Parameters(partial));
        assert_eq!(refused, Err(AgentError::PartialRestart));
    }
    let events = peers.world.events(peers.a).len();
    // The same again is no restart.
    assert_eq!(
        peers.world.deliver(peers.a, Signal::Parameters(known)),
        Ok(())
    );
    assert_eq!(peers.world.events(peers.a).len(), events);
    peers.assert_mirrored_and_working();
}

#[test]
fn candidates_of_the_old_generation_are_refused() {
    for side in [0, 1] {
        let mut peers = completed_with_signaling(Duration::ZERO, 10);
        let [a, b] = [1 - side, side].map(|side| peers.both()[side]);
        let old = peers
            .world
            .events(b)
            .iter()
            .find_map(|(_, event)| match event {
                Event::Candidate(candidate) => Some(candidate.clone()),
                _ => None,
            });
        let old = old.expect("b told a candidate");
        let known = peers.parameters(b);
        assert_eq!(
            old.ufrag.as_deref(),
            Some(known.ufrag.as_str()),
            "every candidate names its generation"
        );
        let now: Time = peers.world.now();
        restart(&mut peers, b);
        let again = peers.world.run_until(MINUTE, |world| {
            world
                .events(a)
                .iter()
                .any(|(at, event)| *at > now && matches!(event, Event::SelectedPairChange(_)))
        });
        assert!(again.is_some());
        assert_eq!(
            peers.world.deliver(a, Signal::Candidate(old)),
            Err(AgentError::StaleCandidate)
        );
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn an_end_of_candidates_from_before_a_restart_ends_nothing_of_the_next() {
    for side in [0, 1] {
        let mut peers = completed_with_signaling(ms(20), 11);
        let a = peers.both()[side];
        restart(&mut peers, a);
        // What the peer's signaling had still to bring of the generation before.
        let late = Signal::EndOfCandidates;
        assert_eq!(peers.world.deliver(a, late), Ok(()));
        let begun = peers.world.now();
        let again = peers.world.run_until(MINUTE, |world| {
            let selected = |event: &Event| matches!(event, Event::SelectedPairChange(_));
            let mut events = world.events(a).iter();
            events.any(|(at, event)| *at > begun && selected(event))
        });
        assert!(again.is_some(), "{:#?}", peers.world.events(a));
        assert_eq!(peers.world.refused(a), []);
        peers.assert_mirrored_and_working();
    }
}

/// The second comes while the first is told, gathered, checked or concluded, from the same side or the other.
#[test]
fn during_another_restart() {
    for [first, second] in [[0, 0], [0, 1], [1, 0], [1, 1]] {
        for wait in [0, 10, 21, 45, 60, 90, 130].map(ms) {
            let mut peers = completed_with_signaling(ms(20), 12);
            let [a, b] = peers.both();
            let before = [a, b].map(|agent| peers.world.received(agent).len());
            let old = [a, b].map(|agent| peers.parameters(agent));
            let mut sent = 0;
            for (side, wait) in [(first, wait), (second, Duration::from_secs(5))] {
                let agent = peers.both()[side];
                restart(&mut peers, agent);
                let end = peers.world.now() + wait;
                while peers.world.now() < end {
                    for agent in [a, b] {
                        peers
                            .world
                            .send(agent, b"still here")
                            .expect("a path all the time");
                    }
                    sent += 1;
                    peers.world.run_for(ms(5));
                }
            }
            peers.world.run_for(Duration::from_secs(1));
            for (n, agent) in [a, b].into_iter().enumerate() {
                let what = format!("{first} {second} {wait:?}");
                let received = peers.world.received(agent).len() - before[n];
                assert_eq!(received, sent, "{what}: data was lost");
                assert_eq!(peers.world.state(agent), State::Completed, "{what}");
                let new = peers.parameters(agent);
                assert!(new.ufrag != old[n].ufrag && new.pwd != old[n].pwd, "{what}");
            }
            peers.assert_mirrored_and_working();
        }
    }
}

/// Nothing is selected yet: what was begun is given up, and what comes of it late changes nothing.
#[test]
fn during_the_first_checks() {
    for sides in [&[0][..], &[1], &[0, 1]] {
        for wait in [1, 21, 30, 46, 60, 71].map(ms) {
            let mut peers = Setup::default().peers();
            peers.introduce(Signaling::trickled(ms(20)));
            peers.world.run_for(wait);
            for side in sides {
                let agent = peers.both()[*side];
                restart(&mut peers, agent);
            }
            assert!(
                peers.run_until_up(MINUTE).is_some(),
                "{sides:?} {wait:?}: {}",
                peers.world.trace()
            );
            peers.world.run_for(Duration::from_secs(5));
            for agent in peers.both() {
                let state = peers.world.state(agent);
                assert_eq!(state, State::Completed, "{sides:?} {wait:?}");
            }
            peers.assert_mirrored_and_working();
        }
    }
}
