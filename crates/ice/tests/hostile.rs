//! Hostile input: nothing received panics, grows without bound, or changes state before it is
//! authenticated.

use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentError, Candidate, CandidateType, Event, Foundation, Handled, Input, Role,
    SocketId, State, Time,
};
use nilas_stun::{Class, Key, Message, MessageBuilder, Method};

use self::support::{Check, Packet, Pair, Side, give};

mod support;

/// What an agent is and knows, as far as anyone can see.
fn fingerprint(side: &mut Side, now: Time) -> String {
    let agent = side.agent();
    let stats: Vec<String> = agent
        .stats(now)
        .iter()
        .map(|stats| format!("{stats:?}"))
        .collect();
    format!(
        "{:?} {:?} {:?} {stats:#?}",
        agent.state(),
        agent.role(),
        agent.path().load()
    )
}

#[test]
fn garbage_changes_nothing() {
    let mut pair = Pair::simple();
    assert!(pair.both_completed());
    let now = pair.now;
    let genuine: Vec<Vec<u8>> = pair
        .sent
        .iter()
        .map(|(_, packet)| packet.bytes.clone())
        .collect();
    let side = &mut pair.sides[0];
    let before = fingerprint(side, now);
    let mut inputs: Vec<Vec<u8>> = vec![
        vec![],
        vec![0],
        vec![0; 20],
        vec![0xff; 1500],
        vec![0; 70_000],
    ];
    for bytes in &genuine {
        // As it was, which is a replay; cut anywhere; one bit turned anywhere.
        inputs.push(bytes.clone());
        inputs.extend((0..bytes.len()).map(|end| bytes[..end].to_vec()));
        inputs.extend((0..bytes.len() * 8).map(|bit| {
            let mut turned = bytes.clone();
            turned[bit / 8] ^= 1 << (bit % 8);
            turned
        }));
    }
    for bytes in &inputs {
        let handled = give(side, now, "203.0.113.66:666", bytes);
        assert_eq!(handled, Handled::NotOurs, "{bytes:02x?}");
    }
    assert_eq!(fingerprint(side, now), before);
    let counters = *side.engine.counters();
    assert!(
        counters.unknown_remote > 0
            && counters.malformed > 0
            && counters.replayed > 0
            && counters.unknown_ufrag > 0,
        "{counters:?}"
    );
}

/// The mistake of others: one forged packet flips a role.
#[test]
fn a_forged_check_flips_no_role() {
    let mut pair = Pair::simple();
    pair.until(1);
    let (ours, theirs) = (
        pair.sides[0].agent().local_parameters(),
        pair.sides[1].agent().local_parameters(),
    );
    let now = pair.now;
    let forged = Check {
        username: (&ours.ufrag, &theirs.ufrag),
        pwd: "thisIsNotThePasswordAtAll",
        role: Role::Controlling,
        tie_breaker: u64::MAX,
        use_candidate: true,
        priority: 1_845_501_695,
        id: 1,
    };
    let before = fingerprint(&mut pair.sides[0], now);
    assert_eq!(
        give(&mut pair.sides[0], now, "192.0.2.2:5001", &forged.build()),
        Handled::NotOurs
    );
    assert_eq!(fingerprint(&mut pair.sides[0], now), before);
    // The same with the password does flip it: the test above could fail.
    let genuine = Check {
        pwd: &ours.pwd,
        ..forged
    };
    assert_eq!(
        give(&mut pair.sides[0], now, "192.0.2.2:5001", &genuine.build()),
        Handled::Consumed
    );
    assert_eq!(pair.sides[0].agent().role(), Role::Controlled);
}

/// A response must come from where the request went, carry its id, and be authenticated.
#[test]
fn forged_and_replayed_responses_validate_nothing() {
    let mut pair = Pair::simple();
    pair.lose = Box::new(|side, _| side == 1);
    pair.run(Time::from_millis(40), |_| false);
    let now = pair.now;
    let request = pair
        .sent
        .iter()
        .find(|(side, _)| *side == 0)
        .map(|(_, packet)| packet.clone())
        .expect("a check");
    let id = Message::parse(&request.bytes)
        .expect("a message")
        .transaction_id();
    let theirs = pair.sides[1].agent().local_parameters();
    let respond = |pwd: &str| {
        let mut buffer = [0; 256];
        let mut message =
            MessageBuilder::new(&mut buffer, Class::SuccessResponse, Method::BINDING, id)
                .expect("room");
        message.xor_mapped_address(request.from).expect("room");
        message
            .message_integrity(&Key::short_term(pwd).expect("a key"))
            .expect("room");
        message.fingerprint().expect("room");
        let size = message.finish();
        buffer[..size].to_vec()
    };
    let side = &mut pair.sides[0];
    let _ = give(
        side,
        now,
        "192.0.2.2:5001",
        &respond("thisIsNotThePasswordAtAll"),
    );
    assert_eq!(side.agent().state(), State::Checking);
    assert_eq!(side.engine.counters().unauthenticated, 1);
    let genuine = respond(&theirs.pwd);
    let _ = give(side, now, "192.0.2.2:5001", &genuine);
    assert_eq!(side.agent().state(), State::Connected);
    let before = fingerprint(side, now);
    assert_eq!(
        give(side, now, "192.0.2.2:5001", &genuine),
        Handled::NotOurs,
        "a replay"
    );
    assert_eq!(fingerprint(side, now), before);
    assert_eq!(side.engine.counters().unknown_transaction, 1);
}

/// RFC 8445 section 7.2.5.2.1.
#[test]
fn an_asymmetric_response_fails_the_pair() {
    let mut pair = Pair::simple();
    pair.lose = Box::new(|_, _| true);
    pair.run(Time::from_millis(10), |_| false);
    let now = pair.now;
    let request = pair
        .sent
        .iter()
        .find(|(side, _)| *side == 0)
        .map(|(_, packet)| packet.clone())
        .expect("a check");
    let theirs = pair.sides[1].agent().local_parameters();
    let mut buffer = [0; 256];
    let id = Message::parse(&request.bytes)
        .expect("a message")
        .transaction_id();
    let mut message = MessageBuilder::new(&mut buffer, Class::SuccessResponse, Method::BINDING, id)
        .expect("room");
    message.xor_mapped_address(request.from).expect("room");
    message
        .message_integrity(&Key::short_term(&theirs.pwd).expect("a key"))
        .expect("room");
    message.fingerprint().expect("room");
    let size = message.finish();
    let side = &mut pair.sides[0];
    let _ = give(side, now, "192.0.2.99:5001", &buffer[..size]);
    assert_eq!(
        (side.agent().state(), side.engine.counters().asymmetric),
        (State::Checking, 1)
    );
}

#[test]
fn candidates_and_pairs_are_bounded() {
    let mut pair = Pair::simple();
    pair.hold = [true, true];
    pair.until(1);
    let theirs = pair.sides[1].agent().local_parameters();
    let now = pair.now;
    let mut agent = pair.sides[0].agent();
    agent
        .set_remote_parameters(now, &theirs)
        .expect("parameters");
    let mut refused = 0;
    for n in 0..10_000u32 {
        let address = SocketAddr::from(([198, 18, (n >> 8) as u8, n as u8], 4000));
        let candidate = Candidate::new(
            CandidateType::Host,
            address,
            1000 + n,
            Foundation::from_number(n),
        );
        match agent.add_remote_candidate(now, candidate) {
            Ok(()) => {}
            Err(AgentError::TooManyCandidates) => refused += 1,
            Err(error) => panic!("{error}"),
        }
    }
    assert_eq!(refused, 9_900);
    assert_eq!(pair.sides[0].engine.counters().candidates_refused, 9_900);
    let pairs = pair_count(&mut pair.sides[0], now);
    assert!(pairs <= 100, "{pairs}");
}

fn pair_count(side: &mut Side, now: Time) -> usize {
    side.agent()
        .stats(now)
        .iter()
        .filter(|stats| matches!(stats, nilas_ice::Stats::CandidatePair(_)))
        .count()
}

/// Candidates that point at nobody, or at everybody, are refused by name.
#[test]
fn targets_that_no_peer_can_have_are_refused() {
    let mut pair = Pair::simple();
    let mut agent = pair.sides[0].agent();
    for address in [
        "0.0.0.0:5",
        "224.0.0.1:5",
        "255.255.255.255:5",
        "192.0.2.9:0",
        "[::]:5",
        "[ff02::1]:5",
        "[::ffff:192.0.2.1]:5",
    ] {
        let address: SocketAddr = address.parse().expect("an address");
        let candidate = Candidate::new(CandidateType::Host, address, 5, Foundation::from_number(5));
        assert_eq!(
            agent.add_remote_candidate(Time::ZERO, candidate),
            Err(AgentError::UnusableCandidate),
            "{address}"
        );
    }
    for line in [
        "candidate:1 1 udp 5 somewhere.example 5 typ host",
        "candidate:1 1 tcp 5 192.0.2.9 5 typ host tcptype passive",
        "candidate:1 2 udp 5 192.0.2.9 5 typ host",
    ] {
        let candidate: Candidate = line.parse().expect("a candidate");
        assert_eq!(
            agent.add_remote_candidate(Time::ZERO, candidate),
            Err(AgentError::UnusableCandidate),
            "{line}"
        );
    }
}

/// Loopback candidates of a peer must not make an agent knock at its own machine's doors.
#[test]
fn a_peers_loopback_is_not_checked() {
    let mut pair = Pair::simple();
    pair.hold = [true, true];
    pair.until(1);
    let theirs = pair.sides[1].agent().local_parameters();
    let now = pair.now;
    let mut agent = pair.sides[0].agent();
    agent
        .set_remote_parameters(now, &theirs)
        .expect("parameters");
    let loopback = Candidate::new(
        CandidateType::Host,
        ([127, 0, 0, 1], 22).into(),
        5,
        Foundation::from_number(5),
    );
    agent
        .add_remote_candidate(now, loopback)
        .expect("it is a candidate");
    pair.until(5);
    assert!(pair.sent.is_empty(), "{:?}", pair.sent);
}

#[test]
fn peer_reflexive_learning_is_bounded() {
    let mut pair = Pair::simple();
    assert!(
        pair.run(Time::from_millis(10), |sides| sides[0].agent().state()
            == State::Checking)
    );
    let (ours, theirs) = (
        pair.sides[0].agent().local_parameters(),
        pair.sides[1].agent().local_parameters(),
    );
    let now = pair.now;
    for port in 1..=1000u16 {
        let check = Check {
            username: (&ours.ufrag, &theirs.ufrag),
            pwd: &ours.pwd,
            role: Role::Controlled,
            tie_breaker: 5,
            use_candidate: false,
            priority: 1_845_501_695,
            id: port.into(),
        };
        let _ = give(
            &mut pair.sides[0],
            now,
            &format!("198.51.100.1:{port}"),
            &check.build(),
        );
    }
    let counters = *pair.sides[0].engine.counters();
    assert_eq!(counters.peer_reflexive_refused, 1000 - 32, "{counters:?}");
    assert!(pair_count(&mut pair.sides[0], now) <= 100);
    // The session is none the worse.
    assert!(pair.both_up());
}

/// RFC 8445 section 7.3: answered at once, remembered within bounds, taken up when the peer's
/// description comes.
#[test]
fn checks_before_the_description_are_answered_and_remembered() {
    let mut pair = Pair::simple();
    pair.hold = [false, true];
    pair.until(1);
    let answers = |pair: &Pair| {
        let is_answer = |packet: &Packet| {
            Message::parse(&packet.bytes).is_ok_and(|m| m.class() == Class::SuccessResponse)
        };
        pair.sent
            .iter()
            .filter(|(side, packet)| *side == 0 && is_answer(packet))
            .count()
    };
    assert!(answers(&pair) >= 1);
    assert_eq!(pair.sides[0].agent().state(), State::New);
    assert_eq!(
        pair.sides[1].agent().state(),
        State::Connected,
        "our answers are enough for the peer"
    );
    let (ours, theirs) = (
        pair.sides[0].agent().local_parameters(),
        pair.sides[1].agent().local_parameters(),
    );
    let now = pair.now;
    for port in 1..=100u16 {
        let check = Check {
            username: (&ours.ufrag, &theirs.ufrag),
            pwd: &ours.pwd,
            role: Role::Controlled,
            tie_breaker: 5,
            use_candidate: false,
            priority: 1_845_501_695,
            id: port.into(),
        };
        let _ = give(
            &mut pair.sides[0],
            now,
            &format!("198.51.100.1:{port}"),
            &check.build(),
        );
    }
    assert!(pair.sides[0].engine.counters().early_checks_forgotten >= 100 - 32);
    // Its parameters alone, without a candidate: the check that came says where to go.
    pair.sides[0]
        .agent()
        .set_remote_parameters(now, &theirs)
        .expect("parameters");
    assert!(pair.run(now + Duration::from_secs(2), |sides| {
        sides[0].agent().state().is_up()
    }));
    let remote = pair.sides[0]
        .agent()
        .selected_pair()
        .expect("a pair")
        .remote;
    assert_eq!(remote.kind, CandidateType::Prflx);
}

/// A switch of role with every packet costs an answer each and nothing more.
#[test]
fn a_peer_that_switches_roles_with_every_packet_is_survived() {
    let mut pair = Pair::simple();
    assert!(pair.both_completed());
    let (ours, theirs) = (
        pair.sides[0].agent().local_parameters(),
        pair.sides[1].agent().local_parameters(),
    );
    for n in 0..1000u64 {
        let role = if n % 2 == 0 {
            Role::Controlling
        } else {
            Role::Controlled
        };
        let check = Check {
            username: (&ours.ufrag, &theirs.ufrag),
            pwd: &ours.pwd,
            role,
            tie_breaker: if n % 4 < 2 { u64::MAX } else { 0 },
            use_candidate: true,
            priority: 1_845_501_695,
            id: n,
        };
        let now = pair.now;
        let _ = give(&mut pair.sides[0], now, "192.0.2.2:5001", &check.build());
        pair.run(now + Duration::from_millis(1), |_| false);
    }
    assert!(pair.sides[0].agent().state().is_up());
    assert!(pair.send(0, b"still here"));
    assert!(pair.sides[0].engine.counters().role_switches >= 400);
}

/// Signaling that brings new parameters again and again, which nobody answers for.
#[test]
fn a_storm_of_restarts_leaves_the_working_path_alone() {
    const RESTARTS: u32 = 5_000;
    for (one, other) in [(0, 1), (1, 0)] {
        let mut pair = Pair::simple();
        assert!(pair.both_completed());
        let path = pair.sides[one].agent().path().load();
        let via = path.expect("a path").via;
        pair.hold = [true, true];
        for n in 0..RESTARTS {
            let now = pair.now;
            let mut theirs = pair.sides[other].agent().local_parameters();
            theirs.ufrag = format!("storm{n}");
            theirs.pwd = format!("{n:024}");
            let mut agent = pair.sides[one].agent();
            agent
                .set_remote_parameters(now, &theirs)
                .expect("a restart");
            pair.run(now + Duration::from_millis(1), |_| false);
            let path = pair.sides[one].agent().path().load();
            assert_eq!(path.map(|path| path.via), Ok(via), "restart {n}");
        }
        let counters = *pair.sides[one].engine.counters();
        assert_eq!(counters.peer_restarts, u64::from(RESTARTS));
        // For each there is one answer, with one candidate, and for all of them one path that goes on.
        let side = &pair.sides[one];
        let count = |wanted: fn(&Event) -> bool| {
            let events = side.events.iter().filter(|(_, event)| wanted(event));
            events.count()
        };
        let answers = count(|event| matches!(event, Event::LocalParameters(_)));
        let candidates = count(|event| matches!(event, Event::Candidate(_)));
        assert_eq!(answers, RESTARTS as usize);
        assert!(candidates <= answers + 1, "{candidates}");
        for at in [one, other] {
            assert!(pair.send(at, b"still here"));
        }
        let now = pair.now;
        pair.run(now + Duration::from_secs(1), |_| false);
        for side in &pair.sides {
            assert_eq!(
                side.data.last().map(Vec::as_slice),
                Some(&b"still here"[..])
            );
        }
    }
}

/// Wrong use of the engine is an error value, never a panic.
#[test]
fn stale_ids_and_wrong_calls_are_values() {
    let mut pair = Pair::simple();
    let (now, id) = (pair.now, pair.sides[0].id);
    pair.sides[0].agent().close(now);
    assert!(matches!(
        pair.sides[0].engine.agent(id),
        Err(AgentError::UnknownAgent)
    ));
    let mut config = AgentConfig::new(Role::Controlling);
    config.credentials = Some(nilas_ice::Parameters::new("abc", "too short"));
    assert!(matches!(
        pair.sides[0].engine.add_agent(now, config),
        Err(AgentError::Parameters(_))
    ));
    // RFC 8839 section 5.4: longer ones are taken from a peer, and not sent.
    let mut config = AgentConfig::new(Role::Controlling);
    let long = nilas_ice::Parameters::new("u".repeat(33), "0123456789012345678901");
    config.credentials = Some(long.clone());
    assert!(matches!(
        pair.sides[0].engine.add_agent(now, config),
        Err(AgentError::Parameters(
            nilas_ice::ParametersError::LongUfrag
        ))
    ));
    let told = pair.sides[1].agent().set_remote_parameters(now, &long);
    assert_eq!(told, Ok(()));
    let mut config = AgentConfig::new(Role::Controlling);
    config.credentials = Some(nilas_ice::Parameters::new("abcd", "0123456789012345678901"));
    assert!(pair.sides[0].engine.add_agent(now, config.clone()).is_ok());
    assert!(matches!(
        pair.sides[0].engine.add_agent(now, config),
        Err(AgentError::UfragInUse)
    ));
}

/// RFC 8445 section 14.2: never two new transactions within Ta.
#[test]
fn new_transactions_are_paced() {
    for pacing in [None, Some(20)] {
        let many: Vec<String> = (1..=12).map(|n| format!("192.0.2.{n}")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        let mut pair = Pair::new(
            Side::new(Role::Controlling, 1, &many),
            Side::new(Role::Controlled, 2, &["198.51.100.1"]),
        );
        if pacing.is_some() {
            pair.hold = [true, true];
            pair.until(1);
            pair.hold = [false, false];
            for signals in &mut pair.signals {
                for signal in signals {
                    if let support::Signal::Parameters(parameters) = signal {
                        parameters.pacing = pacing;
                    }
                }
            }
        }
        pair.lose = Box::new(|_, _| true);
        pair.until(20);
        let least = Duration::from_millis(pacing.unwrap_or(5).into());
        let mut last: Option<Time> = None;
        let mut ids = std::collections::BTreeSet::new();
        for (_, packet) in pair.sent.iter().filter(|(side, _)| *side == 0) {
            let message = Message::parse(&packet.bytes).expect("a message");
            if message.class() == Class::Request && ids.insert(*message.transaction_id().as_bytes())
            {
                if let Some(last) = last {
                    assert!(
                        packet.at.since(last) >= least,
                        "{:?} after {last:?}",
                        packet.at
                    );
                }
                last = Some(packet.at);
            }
        }
        assert!(ids.len() > 12, "{}", ids.len());
    }
}

/// An aggressive peer (RFC 5245) nominates whatever it checks; the best nominated pair stands.
#[test]
fn an_aggressive_peer_is_understood() {
    let mut pair = Pair::new(
        Side::new(Role::Controlling, 1, &["192.0.2.1"]),
        Side::new(Role::Controlled, 2, &["192.0.2.2", "192.0.2.3"]),
    );
    assert!(pair.both_completed());
    let (ours, theirs) = (
        pair.sides[1].agent().local_parameters(),
        pair.sides[0].agent().local_parameters(),
    );
    let before = pair.sides[1].agent().selected_pair().expect("a pair");
    let now = pair.now;
    let check = Check {
        username: (&ours.ufrag, &theirs.ufrag),
        pwd: &ours.pwd,
        role: Role::Controlling,
        tie_breaker: 5,
        use_candidate: true,
        priority: 1_845_501_695,
        id: 9,
    };
    let remote = "192.0.2.1:5001".parse().expect("an address");
    for socket in [1, 2] {
        let payload = &check.build();
        let _ = pair.sides[1].engine.handle(
            now,
            Input::Datagram {
                socket: SocketId(socket),
                remote,
                payload,
            },
        );
    }
    pair.until(3);
    let after = pair.sides[1].agent().selected_pair().expect("a pair");
    assert!(after.local.priority >= before.local.priority);
    assert!(after.nominated);
    let nominations = pair.sides[1]
        .events
        .iter()
        .filter(|(_, event)| matches!(event, Event::Nominated(_)))
        .count();
    assert!(nominations >= 1);
}
