//! What another implementation may send and nilas itself never does, and what strangers may forge once a session
//! stands: each test is for a rule that two agents of our own never put to the test.

use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{
    AgentConfig, AgentId, Candidate, CandidateType, Engine, EngineConfig, Event, Foundation,
    GatheringState, Handled, Input, NoPath, Parameters, Role, SocketId, State, Stats, Time,
};
use nilas_stun::{Class, ErrorCode, Key, Message, MessageBuilder, Method, TransactionId};

use self::support::{Check, Packet, Pair, Side, Signal, give};

mod support;

const PEER: &str = "192.0.2.2:5001";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

/// The requests that a side sent first, without retransmissions: when, from where, to where.
fn checks(pair: &Pair, side: usize) -> Vec<Packet> {
    let mut ids = std::collections::BTreeSet::new();
    let requests = pair.sent.iter().filter(|(from, _)| *from == side);
    let fresh = requests.filter(|(_, packet)| {
        Message::parse(&packet.bytes).is_ok_and(|m| {
            m.class() == Class::Request && ids.insert(*m.transaction_id().as_bytes())
        })
    });
    fresh.map(|(_, packet)| packet.clone()).collect()
}

/// An answer to a request; an error if there is a code.
fn answer(request: &Packet, code: Option<u16>, pwd: Option<&str>) -> Vec<u8> {
    let id = Message::parse(&request.bytes)
        .expect("a message")
        .transaction_id();
    let class = match code {
        Some(_) => Class::ErrorResponse,
        None => Class::SuccessResponse,
    };
    let mut buffer = [0; 256];
    let mut message = MessageBuilder::new(&mut buffer, class, Method::BINDING, id).expect("room");
    match code {
        Some(code) => message.error_code(code, "no").expect("room"),
        None => message.xor_mapped_address(request.from).expect("room"),
    };
    if let Some(pwd) = pwd {
        message
            .message_integrity(&Key::short_term(pwd).expect("a key"))
            .expect("room");
    }
    message.fingerprint().expect("room");
    let size = message.finish();
    buffer[..size].to_vec()
}

fn parameters(pair: &mut Pair) -> [Parameters; 2] {
    [0, 1].map(|side: usize| pair.sides[side].agent().local_parameters())
}

/// A check of the peer as it ought to be.
fn check<'a>(ours: &'a Parameters, theirs: &'a Parameters, role: Role, id: u64) -> Check<'a> {
    Check {
        username: (&ours.ufrag, &theirs.ufrag),
        pwd: &ours.pwd,
        role,
        tie_breaker: 5,
        use_candidate: false,
        priority: 1_845_501_695,
        id,
    }
}

/// RFC 7675 section 5.1: only a response that is authenticated renews consent.
#[test]
fn answers_that_anybody_could_have_made_are_no_consent() {
    for pwd in [None, Some("thisIsNotThePasswordAtAll")] {
        let mut pair = Pair::simple();
        assert!(pair.both_completed());
        pair.lose = Box::new(|side, _| side == 1);
        let vanished = pair.now;
        let (mut forged, mut seen) = (0, pair.sent.len());
        while pair.now < vanished + Duration::from_secs(40) {
            pair.run(pair.now + Duration::from_millis(50), |_| false);
            let (now, new) = (pair.now, pair.sent[seen..].to_vec());
            seen = pair.sent.len();
            for (_, request) in new.iter().filter(|(side, _)| *side == 0) {
                let is_request =
                    Message::parse(&request.bytes).is_ok_and(|m| m.class() == Class::Request);
                if is_request {
                    let _ = give(&mut pair.sides[0], now, PEER, &answer(request, None, pwd));
                    forged += 1;
                }
            }
        }
        assert!(
            forged > 5,
            "the forgery must take place to prove anything: {forged}"
        );
        assert_eq!(pair.sides[0].agent().state(), State::Failed);
        let failed = pair.sides[0].when(State::Failed).expect("it is told");
        assert!(failed <= vanished + Duration::from_secs(31), "{failed:?}");
        assert!(!pair.send(0, b"anyone?"));
    }
}

/// RFC 7675 section 5.2: consent is revoked at once.
#[test]
fn a_peer_that_revokes_its_consent_is_sent_nothing_more() {
    let mut pair = Pair::simple();
    assert!(pair.both_completed());
    let [_, theirs] = parameters(&mut pair);
    pair.lose = Box::new(|side, _| side == 1);
    let known = checks(&pair, 0).len();
    let limit = pair.now + Duration::from_secs(7);
    while checks(&pair, 0).len() == known && pair.now < limit {
        pair.run(pair.now + Duration::from_millis(10), |_| false);
    }
    let asked = checks(&pair, 0);
    let request = asked[known..].first().expect("a consent check");
    let forbidden = ErrorCode::FORBIDDEN.code();
    // A stranger cannot.
    let now = pair.now;
    let _ = give(
        &mut pair.sides[0],
        now,
        PEER,
        &answer(request, Some(forbidden), None),
    );
    assert!(pair.sides[0].agent().state().is_up());
    let revoked = answer(request, Some(forbidden), Some(&theirs.pwd));
    assert_eq!(
        give(&mut pair.sides[0], now, PEER, &revoked),
        Handled::Consumed
    );
    assert_eq!(pair.sides[0].agent().state(), State::Failed);
    let path = pair.sides[0].agent().path().load();
    assert_eq!(path.err(), Some(NoPath::ConsentExpired));
    let sent = pair.sent.len();
    pair.run(now + Duration::from_secs(60), |_| false);
    let later = pair.sent[sent..].iter().filter(|(side, _)| *side == 0);
    assert_eq!(later.count(), 0);
}

/// RFC 8445 section 8.1.1: the controlling agent nominates, and nobody else.
#[test]
fn a_nomination_by_the_controlled_peer_nominates_nothing() {
    let mut pair = Pair::simple();
    assert!(pair.run(Time::from_millis(500), |sides| {
        sides[0].agent().state() == State::Connected
    }));
    let nominated = |pair: &mut Pair| {
        let told = pair.sides[0]
            .events
            .iter()
            .any(|(_, event)| matches!(event, Event::Nominated(_)));
        let selected = pair.sides[0].agent().selected_pair().expect("a pair");
        told || selected.nominated
    };
    assert!(
        !nominated(&mut pair),
        "it must be too early to prove anything"
    );
    let [ours, theirs] = parameters(&mut pair);
    let mut wrong = check(&ours, &theirs, Role::Controlled, 1);
    wrong.use_candidate = true;
    let now = pair.now;
    let handled = give(&mut pair.sides[0], now, PEER, &wrong.build());
    assert_eq!(handled, Handled::Consumed);
    assert!(!nominated(&mut pair));
    // Its own nomination is none the worse for it.
    assert!(pair.both_completed());
    assert!(nominated(&mut pair));
}

/// RFC 8489 section 6.3.1: an attribute that must be understood and is not is answered with 420 and its type, and
/// nothing else comes of the check.
#[test]
fn a_check_with_an_attribute_that_must_be_understood_changes_nothing() {
    let mut pair = Pair::simple();
    pair.hold = [true, true];
    pair.until(1);
    let [ours, theirs] = parameters(&mut pair);
    let build = |attribute: u16| {
        let mut buffer = [0; 256];
        let id = TransactionId::new([attribute as u8; 12]);
        let mut message =
            MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
        message
            .username_pair(&ours.ufrag, &theirs.ufrag)
            .expect("room");
        message.priority(1_845_501_695).expect("room");
        message.ice_controlled(5).expect("room");
        message.raw(attribute, &[1, 2, 3, 4]).expect("room");
        message
            .message_integrity(&Key::short_term(&ours.pwd).expect("a key"))
            .expect("room");
        message.fingerprint().expect("room");
        let size = message.finish();
        buffer[..size].to_vec()
    };
    let now = pair.now;
    pair.sides[0]
        .agent()
        .set_remote_parameters(now, &theirs)
        .expect("parameters");
    let remotes = |pair: &mut Pair| {
        let stats = pair.sides[0].agent().stats(now);
        let remote = |stats: &&Stats| matches!(stats, Stats::RemoteCandidate(_));
        stats.iter().filter(remote).count()
    };
    let answered = |pair: &mut Pair, bytes: &[u8]| {
        let sent = pair.sent.len();
        let _ = give(&mut pair.sides[0], now, "198.51.100.7:7", bytes);
        pair.run(now, |_| false);
        let (_, packet) = pair.sent[sent..].first().expect("an answer").clone();
        let message = Message::parse(&packet.bytes).expect("a message");
        let key = Key::short_term(&ours.pwd).expect("a key");
        assert!(message.authenticate(&key).is_ok());
        let code = message.error_code().expect("well formed");
        let unknown = message.unknown_attributes().expect("well formed");
        let unknown: Vec<u16> = unknown.into_iter().flatten().collect();
        (code.map(|error| error.code()), unknown)
    };
    assert_eq!(
        answered(&mut pair, &build(0x7abc)),
        (Some(420), vec![0x7abc])
    );
    assert_eq!(remotes(&mut pair), 0);
    // One that need not be understood is passed over.
    assert_eq!(answered(&mut pair, &build(0xfabc)), (None, vec![]));
    assert_eq!(remotes(&mut pair), 1);
}

/// A side whose peer is made up of `remotes`, each given with its priority; nothing is answered.
fn alone(role: Role, own: &[&str], remotes: &[(&str, u32, u32)]) -> Pair {
    let mut pair = Pair::new(
        Side::new(role, 1, own),
        Side::new(role.opposite(), 2, &["192.0.2.2"]),
    );
    pair.hold = [true, true];
    pair.lose = Box::new(|_, _| true);
    pair.until(1);
    let [_, theirs] = parameters(&mut pair);
    let now = pair.now;
    let mut agent = pair.sides[0].agent();
    agent
        .set_remote_parameters(now, &theirs)
        .expect("parameters");
    for (remote, priority, foundation) in remotes {
        let candidate = Candidate::new(
            CandidateType::Host,
            address(remote),
            *priority,
            Foundation::from_number(*foundation),
        );
        agent.add_remote_candidate(now, candidate).expect("usable");
    }
    pair
}

/// A check by which a controlling peer nominates, with a value or without.
fn nomination([ours, theirs]: [&Parameters; 2], id: u8, value: Option<u32>) -> Vec<u8> {
    let mut buffer = [0; 256];
    let id = TransactionId::new([id; 12]);
    let mut message =
        MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id).expect("room");
    message
        .username_pair(&ours.ufrag, &theirs.ufrag)
        .expect("room");
    message.priority(1_845_501_695).expect("room");
    message.ice_controlling(5).expect("room");
    message.use_candidate().expect("room");
    if let Some(value) = value {
        message.nomination(value).expect("room");
    }
    message
        .message_integrity(&Key::short_term(&ours.pwd).expect("a key"))
        .expect("room");
    message.fingerprint().expect("room");
    let size = message.finish();
    buffer[..size].to_vec()
}

/// RFC 8445 section 6.1.4.1: what the peer's check triggers goes before all ordinary checks.
#[test]
fn a_check_of_the_peer_is_answered_by_one_of_our_own_at_once() {
    let far: Vec<String> = (1..=20).map(|n| format!("198.51.100.{n}:4000")).collect();
    let far: Vec<_> = far
        .iter()
        .zip(1..)
        .map(|(text, n)| (text.as_str(), 2_000_000_000 + n, n))
        .collect();
    let mut pair = alone(Role::Controlling, &["192.0.2.1"], &far);
    pair.run(pair.now + Duration::from_millis(20), |_| false);
    let before = checks(&pair, 0).len();
    assert!((1..10).contains(&before), "{before}");
    let [ours, theirs] = parameters(&mut pair);
    let bytes = check(&ours, &theirs, Role::Controlled, 1).build();
    let now = pair.now;
    let _ = give(&mut pair.sides[0], now, "203.0.113.9:9", &bytes);
    pair.run(now + Duration::from_millis(5), |_| false);
    let next = &checks(&pair, 0)[before];
    assert_eq!(next.to, address("203.0.113.9:9"));
    // The rest has its turn as well.
    pair.run(now + Duration::from_millis(200), |_| false);
    assert_eq!(checks(&pair, 0)[..21].len(), 21);
}

/// RFC 8445 section 7.3.1.4: a check of the peer takes up a failed pair, and with it the list: the session is said to
/// be checking while the triggered check is under way, and not only when it is answered.
#[test]
fn a_late_check_takes_a_failed_session_up_again() {
    let mut pair = alone(
        Role::Controlling,
        &["192.0.2.1"],
        &[(PEER, 2_000_000_000, 1)],
    );
    let now = pair.now;
    pair.sides[0].agent().end_of_remote_candidates(now);
    pair.until(90);
    assert_eq!(pair.sides[0].agent().state(), State::Failed);
    let [ours, theirs] = parameters(&mut pair);
    let bytes = check(&ours, &theirs, Role::Controlled, 1).build();
    let (now, told) = (pair.now, pair.sides[0].events.len());
    let _ = give(&mut pair.sides[0], now, PEER, &bytes);
    pair.run(now, |_| false);
    assert_eq!(pair.sides[0].agent().state(), State::Checking);
    let told = &pair.sides[0].events[told..];
    let checking = |event: &Event| {
        matches!(
            event,
            Event::StateChange {
                state: State::Checking,
                ..
            }
        )
    };
    assert!(told.iter().any(|(_, event)| checking(event)), "{told:?}");
    // Nothing answers this time, either.
    pair.until(200);
    assert_eq!(pair.sides[0].agent().state(), State::Failed);
}

/// RFC 8445 section 7.2.5.3.3: one success thaws every pair of its foundation, though another of them is busy.
#[test]
fn a_success_thaws_the_pairs_of_its_foundation() {
    // The first waits, as no other pair has its foundation yet, and the others are frozen for its sake.
    let remotes = [
        (PEER, 1_000_000_000, 1),
        ("198.51.100.1:1", 1_100_000_000, 1),
        ("198.51.100.2:2", 1_200_000_000, 1),
    ];
    let mut pair = alone(Role::Controlling, &["192.0.2.1"], &remotes);
    let [ours, theirs] = parameters(&mut pair);
    pair.run(pair.now + Duration::from_millis(10), |_| false);
    // The peer makes the second one busy.
    let bytes = check(&ours, &theirs, Role::Controlled, 1).build();
    let now = pair.now;
    let _ = give(&mut pair.sides[0], now, "198.51.100.1:1", &bytes);
    pair.run(now + Duration::from_millis(10), |_| false);
    let sent = checks(&pair, 0);
    let to: Vec<_> = sent.iter().map(|packet| packet.to).collect();
    assert_eq!(to, [address(PEER), address("198.51.100.1:1")]);
    // The first answers.
    let now = pair.now;
    let success = answer(&sent[0], None, Some(&theirs.pwd));
    let _ = give(&mut pair.sides[0], now, PEER, &success);
    pair.run(now + Duration::from_millis(10), |_| false);
    let third = checks(&pair, 0)
        .iter()
        .any(|packet| packet.to == address("198.51.100.2:2"));
    assert!(third, "{:?}", checks(&pair, 0));
}

/// RFC 8445 section 7.2.5.1: after a 487 the role changes, and the tie-breaker with it.
#[test]
fn after_a_role_conflict_the_tie_breaker_is_another() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut pair = alone(role, &["192.0.2.1"], &[(PEER, 2_000_000_000, 1)]);
        let [_, theirs] = parameters(&mut pair);
        pair.run(pair.now + Duration::from_millis(10), |_| false);
        let first = checks(&pair, 0)[0].clone();
        let conflict = answer(&first, Some(487), Some(&theirs.pwd));
        let now = pair.now;
        let _ = give(&mut pair.sides[0], now, PEER, &conflict);
        pair.run(now + Duration::from_millis(10), |_| false);
        assert_eq!(pair.sides[0].agent().role(), role.opposite());
        let second = checks(&pair, 0)[1].clone();
        let tie_breaker = |packet: &Packet, role| {
            let message = Message::parse(&packet.bytes).expect("a message");
            let of = match role {
                Role::Controlling => message.ice_controlling(),
                Role::Controlled => message.ice_controlled(),
            };
            of.expect("well formed").expect("of this role")
        };
        assert_ne!(
            tie_breaker(&first, role),
            tie_breaker(&second, role.opposite())
        );
    }
}

/// RFC 8445 section 6.1.2.3: of two pairs with the same two priorities, the one whose controlling side has the greater
/// goes first, at both agents.
#[test]
fn pairs_that_are_equal_otherwise_go_by_the_controlling_sides_candidate() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut probe = alone(role, &["192.0.2.1", "192.0.2.3"], &[]);
        let locals: Vec<_> = probe.signals[0]
            .iter()
            .filter_map(|signal| match signal {
                Signal::Candidate(candidate) => Some(candidate.clone()),
                _ => None,
            })
            .collect();
        let [one, other] = &locals[..] else {
            panic!("{locals:?}")
        };
        let (high, low) = match one.priority > other.priority {
            true => (one, other),
            false => (other, one),
        };
        assert!(high.priority > low.priority);
        let (theirs_high, theirs_low) = ("198.51.100.1:1", "198.51.100.2:2");
        let now = probe.now;
        let mut agent = probe.sides[0].agent();
        for (text, priority, foundation) in [
            (theirs_low, low.priority, 1),
            (theirs_high, high.priority, 2),
        ] {
            let candidate = Candidate::new(
                CandidateType::Host,
                address(text),
                priority,
                Foundation::from_number(foundation),
            );
            agent.add_remote_candidate(now, candidate).expect("usable");
        }
        probe.run(now + Duration::from_millis(50), |_| false);
        let order: Vec<_> = checks(&probe, 0)
            .iter()
            .map(|packet| (packet.from, packet.to))
            .take(4)
            .collect();
        let own = |candidate: &Candidate| candidate.ip_address().expect("an address");
        let (high, low) = (own(high), own(low));
        let (theirs_high, theirs_low) = (address(theirs_high), address(theirs_low));
        let between = match role {
            Role::Controlling => [(high, theirs_low), (low, theirs_high)],
            Role::Controlled => [(low, theirs_high), (high, theirs_low)],
        };
        let expected = [
            (high, theirs_high),
            between[0],
            between[1],
            (low, theirs_low),
        ];
        assert_eq!(order, expected, "{role:?}");
    }
}

/// Another agent of the same engine, with candidates of its own.
fn another(pair: &mut Pair, role: Role) -> AgentId {
    let now = pair.now;
    let engine = &mut pair.sides[0].engine;
    let id = engine.add_agent(now, AgentConfig::new(role)).expect("room");
    engine.agent(id).expect("it is there").gather(now);
    pair.run(now + Duration::from_millis(1), |_| false);
    let mut agent = pair.sides[0].engine.agent(id).expect("it is there");
    assert_eq!(agent.gathering_state(), GatheringState::Complete);
    let _ = agent.role();
    agent
        .set_remote_parameters(now, &Parameters::new("peer", "0123456789012345678901"))
        .expect("parameters");
    id
}

/// A check belongs on a socket of the agent that it is for: on another's, not even its integrity helps.
#[test]
fn a_check_on_the_socket_of_another_agent_is_not_taken_in() {
    let mut pair = Pair::simple();
    assert!(pair.both_completed());
    let sockets: Vec<_> = pair.sides[0].sockets.keys().copied().collect();
    another(&mut pair, Role::Controlling);
    let foreign = pair.sides[0]
        .sockets
        .keys()
        .find(|id| !sockets.contains(id));
    let foreign: SocketId = *foreign.expect("a socket of its own");
    let [ours, theirs] = parameters(&mut pair);
    let now = pair.now;
    let mut deliver = |socket, id| {
        let payload = &check(&ours, &theirs, Role::Controlled, id).build();
        let remote = address("198.51.100.7:7");
        let before = pair.sides[0].engine.counters().unauthenticated;
        let handled = pair.sides[0].engine.handle(
            now,
            Input::Datagram {
                socket,
                remote,
                payload,
            },
        );
        let counted = pair.sides[0].engine.counters().unauthenticated - before;
        (handled, counted)
    };
    assert_eq!(deliver(foreign, 1), (Handled::NotOurs, 1));
    // On its own the same is taken in: the test above could fail.
    assert_eq!(deliver(sockets[0], 2), (Handled::Consumed, 0));
}

/// RFC 8445 section 14.2: Ta is kept by all agents of an engine together, as they share its link.
#[test]
fn the_agents_of_an_engine_share_one_pace() {
    let mut pair = Pair::simple();
    pair.hold = [true, true];
    pair.lose = Box::new(|_, _| true);
    pair.until(1);
    let agents: Vec<_> = (0..8)
        .map(|_| another(&mut pair, Role::Controlling))
        .collect();
    let now = pair.now;
    for (number, id) in agents.iter().enumerate() {
        let mut agent = pair.sides[0].engine.agent(*id).expect("it is there");
        for n in 0..4 {
            let remote = SocketAddr::from(([198, 51, 100, number as u8], 4000 + n));
            let foundation = Foundation::from_number(n.into());
            let candidate = Candidate::new(CandidateType::Host, remote, 1000, foundation);
            agent.add_remote_candidate(now, candidate).expect("usable");
        }
    }
    pair.until(20);
    let sent = checks(&pair, 0);
    assert!(sent.len() > 8 * 4, "{}", sent.len());
    for two in sent.windows(2) {
        let gap = two[1].at.since(two[0].at);
        assert!(
            gap >= Duration::from_millis(5),
            "{gap:?} at {:?}",
            two[1].at
        );
    }
    // None was left out.
    let all: std::collections::BTreeSet<_> = sent.iter().map(|packet| packet.to).collect();
    assert_eq!(all.len(), 8 * 4);
}

/// Where both offer renomination, the latest value stands: a nomination without one is from before, and does not come
/// true again when the check of its pair is answered late.
#[test]
fn a_nomination_without_a_value_does_not_outlive_one_with() {
    let remotes = [
        ("198.51.100.1:1", 2_000_000_000, 1),
        ("198.51.100.2:2", 1_000_000_000, 2),
    ];
    let [first, second] = remotes.map(|(remote, ..)| remote);
    let mut pair = alone(Role::Controlled, &["192.0.2.1"], &remotes);
    let [ours, theirs] = parameters(&mut pair);
    pair.run(pair.now + Duration::from_millis(20), |_| false);
    let now = pair.now;
    let nominate = |id, value| nomination([&ours, &theirs], id, value);
    let _ = give(&mut pair.sides[0], now, first, &nominate(1, None));
    let _ = give(&mut pair.sides[0], now, second, &nominate(2, Some(1)));
    pair.run(now + Duration::from_millis(20), |_| false);
    // The checks of the second are answered, and those of the first afterwards.
    for remote in [second, first] {
        let asked: Vec<_> = checks(&pair, 0)
            .into_iter()
            .filter(|packet| packet.to == address(remote))
            .collect();
        assert!(!asked.is_empty());
        for request in asked {
            let now = pair.now;
            let success = answer(&request, None, Some(&theirs.pwd));
            let _ = give(&mut pair.sides[0], now, remote, &success);
        }
        pair.run(pair.now + Duration::from_millis(20), |_| false);
        let selected = pair.sides[0].agent().selected_pair().expect("a pair");
        assert!(selected.nominated, "{selected:?}");
        assert_eq!(selected.remote.ip_address(), Some(address(second)));
    }
}

/// The values of nominations that came before the peer's description count when it has come.
#[test]
fn of_nominations_before_the_description_the_latest_stands() {
    let [first, second] = ["198.51.100.1:1", "198.51.100.2:2"];
    for order in [[first, second], [second, first]] {
        let mut pair = Pair::new(
            Side::new(Role::Controlled, 1, &["192.0.2.1"]),
            Side::new(Role::Controlling, 2, &["192.0.2.2"]),
        );
        pair.hold = [true, true];
        pair.lose = Box::new(|_, _| true);
        pair.until(1);
        let [ours, theirs] = parameters(&mut pair);
        let now = pair.now;
        for (remote, value) in [(first, 1), (second, 2)] {
            let bytes = nomination([&ours, &theirs], value, Some(value.into()));
            let _ = give(&mut pair.sides[0], now, remote, &bytes);
        }
        pair.sides[0]
            .agent()
            .set_remote_parameters(now, &theirs)
            .expect("parameters");
        pair.run(now + Duration::from_millis(20), |_| false);
        for remote in order {
            let asked: Vec<_> = checks(&pair, 0)
                .into_iter()
                .filter(|packet| packet.to == address(remote))
                .collect();
            assert!(!asked.is_empty());
            for request in asked {
                let success = answer(&request, None, Some(&theirs.pwd));
                let now = pair.now;
                let _ = give(&mut pair.sides[0], now, remote, &success);
            }
        }
        let now = pair.now;
        let stats = pair.sides[0].agent().stats(now);
        let nominated = stats
            .iter()
            .filter(|stats| matches!(stats, Stats::CandidatePair(pair) if pair.nominated));
        assert_eq!(nominated.count(), 1, "{order:?}");
        let selected = pair.sides[0].agent().selected_pair().expect("a pair");
        assert!(selected.nominated, "{selected:?}");
        assert_eq!(selected.remote.ip_address(), Some(address(second)));
    }
}

/// RFC 8445 section 8.1.1: of the pairs that an aggressive peer nominates, the one of the highest priority stands,
/// whichever comes first.
#[test]
fn of_several_nominated_pairs_the_best_stands() {
    let (high, low) = ("198.51.100.1:1", "198.51.100.2:2");
    for order in [[high, low], [low, high]] {
        let remotes = [(high, 2_000_000_000, 1), (low, 1_000_000_000, 2)];
        let mut pair = alone(Role::Controlled, &["192.0.2.1"], &remotes);
        let [ours, mut theirs] = parameters(&mut pair);
        // A peer of RFC 5245 knows nothing of renomination.
        theirs.options.clear();
        let now = pair.now;
        pair.sides[0]
            .agent()
            .set_remote_parameters(now, &theirs)
            .expect("the same credentials");
        pair.run(now + Duration::from_millis(20), |_| false);
        for (remote, id) in order.into_iter().zip(1..) {
            let mut aggressive = check(&ours, &theirs, Role::Controlling, id);
            aggressive.use_candidate = true;
            let now = pair.now;
            let _ = give(&mut pair.sides[0], now, remote, &aggressive.build());
        }
        pair.run(pair.now + Duration::from_millis(20), |_| false);
        for remote in order {
            let asked = checks(&pair, 0);
            for request in asked.iter().filter(|packet| packet.to == address(remote)) {
                let now = pair.now;
                let success = answer(request, None, Some(&theirs.pwd));
                let _ = give(&mut pair.sides[0], now, remote, &success);
            }
            pair.run(pair.now + Duration::from_millis(20), |_| false);
        }
        let selected = pair.sides[0].agent().selected_pair().expect("a pair");
        assert!(selected.nominated, "{order:?}: {selected:?}");
        assert_eq!(
            selected.remote.ip_address(),
            Some(address(high)),
            "{order:?}"
        );
    }
}

/// Whoever tells its sessions apart by ufrag alone may bring two of them to one pair of addresses. Data says nothing of the
/// session it is of, so only the first may have that path.
#[test]
fn a_check_on_another_session_s_path_does_not_succeed() {
    let mut engine = EngineConfig::default();
    engine.shared_port = Some(5_000);
    let engine = Engine::new(engine, [1; 32]);
    let side = Side::on(engine, AgentConfig::new(Role::Controlling), &["192.0.2.1"]);
    let mut pair = Pair::new(side, Side::new(Role::Controlled, 2, &["192.0.2.2"]));
    assert!(pair.both_completed());
    let first = pair.sides[0].id;
    let config = AgentConfig::new(Role::Controlled);
    let second = pair.sides[0].engine.add_agent(pair.now, config);
    pair.sides[0].id = second.expect("a second agent");
    pair.sides[0].agent().gather(pair.now);
    // What it tells is for nobody here.
    pair.hold = [true; 2];
    pair.run(pair.now + Duration::from_millis(100), |_| false);
    let ours = pair.sides[0].agent().local_parameters();
    let theirs = Parameters::new("peer", "aPasswordOfTheOtherSession");
    let now = pair.now;
    pair.deliver(0, Signal::Parameters(theirs.clone()));
    for (from, id, class) in [
        (PEER, 1, Class::ErrorResponse),
        ("192.0.2.2:6000", 2, Class::SuccessResponse),
    ] {
        let sent = pair.sent.len();
        let asked = check(&ours, &theirs, Role::Controlling, id).build();
        assert_eq!(
            give(&mut pair.sides[0], now, from, &asked),
            Handled::Consumed
        );
        pair.run(now, |_| false);
        let asked = Message::parse(&asked).expect("a message").transaction_id();
        let answered = pair.sent[sent..].iter().find_map(|(_, packet)| {
            let message = Message::parse(&packet.bytes).ok()?;
            (message.transaction_id() == asked).then(|| message.class())
        });
        assert_eq!(answered, Some(class), "{from}");
    }
    // The first one's path is as it was.
    let data = give(&mut pair.sides[0], now, PEER, b"hello");
    assert!(matches!(data, Handled::Application(data) if data.agent == first));
}

/// RFC 8445 section 5.1.2: the formula of priorities is recommended. Only where the peer keeps to it does the priority of a
/// check say that a NAT has led it to another component.
#[test]
fn a_peer_with_a_formula_of_its_own_is_not_taken_for_one_whose_checks_went_astray() {
    let by_the_formula = 0x7EFF_FFFE;
    for (told, answered) in [
        (None, [None, Some(Class::SuccessResponse)]),
        (
            Some(by_the_formula),
            [Some(Class::ErrorResponse), Some(Class::SuccessResponse)],
        ),
        (Some(1_000), [Some(Class::SuccessResponse); 2]),
    ] {
        let mut pair = Pair::simple();
        pair.hold = [true; 2];
        let now = pair.now;
        let side = &mut pair.sides[0];
        let config = AgentConfig::new(Role::Controlled);
        let session = side.engine.add_session(now, config, 2).expect("room");
        let mut session = side.engine.session(session).expect("open");
        session.gather(now);
        side.id = session.component(0, 2).expect("the second component");
        pair.run(now + Duration::from_millis(100), |_| false);
        let (socket, _) = pair.sides[0].sockets.last_key_value().expect("bound");
        let socket = *socket;
        let ours = pair.sides[0].agent().local_parameters();
        let theirs = Parameters::new("peer", "aPasswordOfThePeerOnly");
        let now = pair.now;
        pair.deliver(0, Signal::Parameters(theirs.clone()));
        if let Some(priority) = told {
            let foundation = Foundation::from_number(1);
            let mut candidate =
                Candidate::new(CandidateType::Host, address(PEER), priority, foundation);
            candidate.component = 2;
            let told = pair.sides[0].agent().add_remote_candidate(now, candidate);
            told.expect("usable");
        }
        // The first ends as one of the first component does, the second as one of the second.
        for (priority, wanted) in [0x6EFF_FFFF, 0x6EFF_FFFE].into_iter().zip(answered) {
            let mut asked = check(&ours, &theirs, Role::Controlling, priority.into());
            asked.priority = priority;
            let asked = asked.build();
            let (now, sent) = (pair.now, pair.sent.len());
            let input = Input::Datagram {
                socket,
                remote: address("198.51.100.7:700"),
                payload: &asked,
            };
            let _ = pair.sides[0].engine.handle(now, input);
            pair.run(now, |_| false);
            let id = Message::parse(&asked).expect("a message").transaction_id();
            let answer = pair.sent[sent..].iter().find_map(|(_, packet)| {
                let message = Message::parse(&packet.bytes).ok()?;
                (message.transaction_id() == id).then(|| message.class())
            });
            assert_eq!(answer, wanted, "{told:?}: {priority:#x}");
        }
    }
}
