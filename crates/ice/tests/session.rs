//! A session from its first candidate to its end, in virtual time.

use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{
    AgentConfig, CandidateType, Dscp, Event, Handled, Input, Interface, NoPath, Role, State,
    StunServer, Time, Verdict,
};

use self::support::{Pair, Side};

mod support;

/// RFC 8445 section 12.1: data flows on the first valid pair. One round trip is the least there is.
#[test]
fn the_first_pair_is_selected_after_one_round_trip() {
    let mut pair = Pair::simple();
    assert!(pair.both_up(), "{:?}", pair.sides[0].events);
    for side in &pair.sides {
        assert_eq!(
            side.when(State::Connected),
            Some(Time::from_millis(50)),
            "{:?}",
            side.events
        );
    }
    assert!(pair.both_completed());
    // The controlling side's nomination takes one more.
    assert!(pair.now <= Time::from_millis(100), "{:?}", pair.now);
    let [a, b] = pair
        .sides
        .each_mut()
        .map(|side| side.agent().selected_pair().expect("a pair"));
    assert_eq!(a.local.address, b.remote.address);
    assert_eq!(a.remote.address, b.local.address);
    assert_eq!((a.nominated, b.nominated), (true, true));
    assert_eq!(a.local.kind, CandidateType::Host);
    assert_eq!(a.round_trip, Some(Duration::from_millis(50)));
}

#[test]
fn selected_is_told_before_connected() {
    let mut pair = Pair::simple();
    assert!(pair.both_completed());
    for side in &pair.sides {
        let at = |wanted: &dyn Fn(&Event) -> bool| {
            side.events.iter().position(|(_, event)| wanted(event))
        };
        let selected = at(&|event| matches!(event, Event::SelectedPairChange(_)));
        let connected =
            at(&|event| matches!(event, Event::StateChange { state, .. } if state.is_up()));
        assert!(
            selected.is_some() && selected < connected,
            "{:?}",
            side.events
        );
    }
    assert_eq!(
        pair.sides[0].states(),
        [State::Checking, State::Connected, State::Completed]
    );
}

#[test]
fn data_flows_both_ways() {
    let mut pair = Pair::simple();
    assert!(!pair.send(0, b"too early"));
    assert!(pair.both_up());
    assert!(pair.send(0, b"from a") && pair.send(1, b"\x00\x01\x00\x00not stun"));
    pair.until(1);
    assert_eq!(pair.sides[1].data, [b"from a".to_vec()]);
    assert_eq!(pair.sides[0].data, [b"\x00\x01\x00\x00not stun".to_vec()]);
}

/// RFC 8445 section 7.3.1.1.
#[test]
fn role_conflicts_heal() {
    for role in [Role::Controlling, Role::Controlled] {
        for seed in 1..10 {
            let mut pair = Pair::new(
                Side::new(role, seed, &["192.0.2.1"]),
                Side::new(role, 100 + seed, &["192.0.2.2"]),
            );
            assert!(
                pair.both_completed(),
                "{role:?} {seed}: {:?}",
                pair.sides[0].events
            );
            let roles = pair.sides.each_mut().map(|side| side.agent().role());
            assert_ne!(roles[0], roles[1]);
            assert!(pair.now < Time::from_millis(300), "{:?}", pair.now);
        }
    }
}

/// RFC 8445 section 7.3 and RFC 8863: a peer that is late finds us waiting.
#[test]
fn a_late_description_is_no_failure() {
    for seconds in [1, 7, 30] {
        let mut pair = Pair::simple();
        // b hears of a at once; a hears of b late.
        pair.hold = [false, true];
        pair.until(seconds);
        assert!(pair.sides[0].agent().state() == State::New);
        pair.hold = [false, false];
        let begun = pair.now;
        assert!(
            pair.both_completed(),
            "{seconds}: {:?}",
            pair.sides[0].events
        );
        assert!(
            pair.now.since(begun) <= Duration::from_millis(110),
            "{:?}",
            pair.now.since(begun)
        );
    }
}

/// RFC 7675 section 5.1, and the times that `agent::consent` states.
#[test]
fn a_peer_that_vanishes_is_disconnected_then_failed() {
    let mut pair = Pair::simple();
    assert!(pair.both_completed());
    pair.until(3600);
    assert_eq!(pair.sides[0].agent().state(), State::Completed);
    let checks = pair.sent.iter().filter(|(side, _)| *side == 0).count();
    // One request every 4 to 6 s and as many answers.
    assert!((1200..=1800).contains(&checks), "{checks}");
    pair.lose = Box::new(|_, _| true);
    let end = Time::from_millis(3_640_000);
    assert!(pair.run(end, |sides| sides[0].agent().state() == State::Disconnected));
    let disconnected = pair.now;
    assert!(pair.run(end, |sides| sides[0].agent().state() == State::Failed));
    assert_eq!(pair.now.since(disconnected), Duration::from_secs(23));
    assert_eq!(
        pair.sides[0].agent().verdict(),
        Some(Verdict::ConsentExpired)
    );
    assert!(!pair.send(0, b"no consent"));
}

#[test]
fn nothing_direct_fails_with_a_verdict() {
    let mut pair = Pair::simple();
    pair.lose = Box::new(|_, _| true);
    assert!(pair.run(Time::from_millis(45_000), |sides| {
        sides
            .iter_mut()
            .all(|side| side.agent().state() == State::Failed)
    }));
    assert_eq!(
        pair.sides[0].agent().verdict(),
        Some(Verdict::RelayNeeded { pairs: 1 })
    );
}

/// RFC 8445 section 9.
#[test]
fn a_restart_keeps_the_data_flowing() {
    for side in 0..2 {
        let mut pair = Pair::simple();
        assert!(pair.both_completed());
        let now = pair.now;
        pair.sides[side].agent().restart(now);
        assert!(pair.send(0, b"during") && pair.send(1, b"during"));
        assert!(pair.both_completed(), "{:?}", pair.sides[side].events);
        let again = |event: &(Time, Event)| {
            matches!(event.1, Event::SelectedPairChange(_)) && event.0 > now
        };
        for both in &pair.sides {
            assert!(both.events.iter().any(again), "{:?}", both.events);
            assert!(!both.states().contains(&State::Disconnected));
        }
        assert!(pair.send(0, b"after") && pair.send(1, b"after"));
        pair.until(5);
        for both in &pair.sides {
            assert_eq!(both.data, [b"during".to_vec(), b"after".to_vec()]);
        }
    }
}

/// The old pair carries the data during a restart, until its address goes.
#[test]
fn an_address_that_goes_during_a_restart_takes_the_old_path_with_it() {
    for side in 0..2 {
        // With policy: it restarts once more, for the new address.
        let [a, b] = [Role::Controlling, Role::Controlled].map(AgentConfig::new);
        let mut pair = Pair::new(
            Side::with(a, 1, &["192.0.2.1"]),
            Side::with(b, 2, &["192.0.2.2"]),
        );
        assert!(pair.both_completed());
        let now = pair.now;
        pair.hold = [true, true];
        pair.sides[side].agent().restart(now);
        assert!(pair.sides[side].agent().path().load().is_ok());
        let interface = Interface {
            name: "wlan0".into(),
            index: 3,
            addresses: vec!["192.0.2.77".parse().expect("an address")],
            ..Interface::default()
        };
        let handled = pair.sides[side]
            .engine
            .handle(now, Input::Interfaces(&[interface]));
        assert_eq!(handled, Handled::Consumed);
        assert_eq!(
            pair.sides[side].agent().path().load().err(),
            Some(NoPath::NotConnected)
        );
        assert_eq!(pair.sides[side].agent().state(), State::Disconnected);
        pair.hold = [false, false];
        assert!(pair.both_completed(), "{:?}", pair.sides[side].events);
        assert!(pair.send(0, b"after") && pair.send(1, b"after"));
    }
}

#[test]
fn both_may_restart_at_once_and_in_a_row() {
    let mut pair = Pair::simple();
    assert!(pair.both_completed());
    for _ in 0..3 {
        let now = pair.now;
        pair.hold = [true, true];
        for side in [0, 1, 0] {
            pair.sides[side].agent().restart(now);
        }
        pair.run(now + Duration::from_millis(10), |_| false);
        pair.hold = [false, false];
        assert!(pair.both_completed(), "{:#?}", pair.sides[0].events);
    }
    let restarts = |side: &Side| {
        side.events
            .iter()
            .filter(|(_, e)| matches!(e, Event::LocalParameters(_)))
            .count()
    };
    assert!(
        pair.sides.iter().all(|side| restarts(side) <= 12),
        "more restarts than were asked for"
    );
}

#[test]
fn loss_delays_and_does_not_fail() {
    for seed in 0..40u64 {
        let mut pair = Pair::simple();
        let mut x = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        pair.lose = Box::new(move |_, _| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x % 100 < 20
        });
        assert!(pair.both_completed(), "seed {seed}");
        assert!(
            pair.now < Time::from_millis(5000),
            "seed {seed}: {:?}",
            pair.now
        );
    }
}

#[test]
fn closing_tells_the_state_and_gives_back_the_sockets() {
    let mut pair = Pair::simple();
    assert!(pair.both_completed());
    let (now, id) = (pair.now, pair.sides[0].id);
    pair.sides[0]
        .engine
        .agent(id)
        .expect("the agent")
        .close(now);
    let mut buffer = [0; 1280];
    let mut outputs = Vec::new();
    loop {
        match pair.sides[0].engine.poll(now, &mut buffer) {
            nilas_ice::Output::Idle(at) => break assert_eq!(at, None),
            other => outputs.push(format!("{other:?}")),
        }
    }
    assert!(
        outputs.iter().any(|output| output.contains("Closed")),
        "{outputs:?}"
    );
    assert!(
        outputs.iter().any(|output| output.contains("CloseSocket")),
        "{outputs:?}"
    );
    assert!(pair.sides[0].engine.agent(id).is_err());
}

/// What a server told says so in the statistics, and a server that cannot be asked is told as an error.
#[test]
fn servers_are_named() {
    let mut config = AgentConfig::new(Role::Controlling);
    config.stun_servers = vec![
        StunServer {
            host: "127.0.0.1".into(),
            port: 3478,
        },
        StunServer {
            host: "2001:db8::5".into(),
            port: 3478,
        },
    ];
    let a = Side::with(config, 1, &["192.0.2.1"]);
    let mut pair = Pair::new(a, Side::new(Role::Controlled, 2, &["192.0.2.2"]));
    assert!(pair.both_completed());
    let errors: Vec<_> = pair.sides[0]
        .events
        .iter()
        .filter_map(|(_, event)| match event {
            Event::CandidateError(error) => Some((error.url.as_str(), error.error_code)),
            _ => None,
        })
        .collect();
    assert_eq!(
        errors,
        [
            ("stun:127.0.0.1:3478", 701),
            ("stun:[2001:db8::5]:3478", 701)
        ]
    );
}

/// RFC 8445 section 6.1.1: beside a lite agent the full one controls, whatever it first guessed.
#[test]
fn beside_a_lite_agent_the_full_one_controls() {
    let mut pair = Pair::simple();
    let mut theirs = pair.sides[0].agent().local_parameters();
    theirs.lite = true;
    let mut agent = pair.sides[1].agent();
    assert_eq!(agent.role(), Role::Controlled);
    agent
        .set_remote_parameters(Time::ZERO, &theirs)
        .expect("parameters");
    assert_eq!(agent.role(), Role::Controlling);
}

/// RFC 8445 sections 7.2.3 and 7.3, RFC 7675 section 6: checks, answers and consent checks are marked as the data is.
#[test]
fn all_that_an_agent_sends_is_marked_as_its_data_is() {
    let mut config = AgentConfig::new(Role::Controlling);
    config.dscp = Dscp::EF;
    // There is no such server; the question for it is marked as well.
    config.stun_servers = vec![StunServer::from(SocketAddr::from(([192, 0, 2, 9], 3478)))];
    let mut pair = Pair::new(
        Side::with(config, 1, &["192.0.2.1"]),
        Side::new(Role::Controlled, 2, &["192.0.2.2"]),
    );
    assert!(pair.both_completed());
    pair.until(60);
    assert_eq!(Vec::from_iter(&pair.sides[0].marks), [&46]);
    assert_eq!(Vec::from_iter(&pair.sides[1].marks), [&0]);
}
