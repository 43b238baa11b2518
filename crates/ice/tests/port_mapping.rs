//! Candidates that the network's gateway tells (RFC 6544 section 5.3): what it forwards, changes and takes back.

use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{
    AddressPolicy, AgentConfig, AgentError, Candidate, CandidateError, CandidateType, Engine,
    EngineConfig, Event, Input, Mode, PortMappingError, RecordingOptions, Role, SocketId, State,
    Time, explain, replay,
};

use self::support::{Pair, Side};

mod support;

const INSIDE: &str = "10.0.0.1";
const PEER: &str = "192.0.2.2";

fn address(text: &str) -> SocketAddr {
    text.parse().expect("an address")
}

fn mapping(role: Role) -> AgentConfig {
    let mut config = AgentConfig::new(role);
    config.restarts_alone = false;
    config.port_mapping = true;
    config
}

/// An agent that has a gateway, and its peer.
fn pair_with(config: AgentConfig) -> Pair {
    let a = Side::with(config, 1, &[INSIDE]);
    Pair::new(a, Side::new(Role::Controlled, 2, &[PEER]))
}

fn pair() -> Pair {
    pair_with(mapping(Role::Controlling))
}

/// The gateway answers for the first agent's socket.
fn forward(pair: &mut Pair, result: Result<&str, PortMappingError>) {
    let input = Input::PortMapped {
        socket: SocketId(1),
        result: result.map(address),
    };
    let _ = pair.sides[0].engine.handle(pair.now, input);
    pair.until_now();
}

trait UntilNow {
    fn until_now(&mut self);
}

impl UntilNow for Pair {
    /// What is to be done now, and a round trip more.
    fn until_now(&mut self) {
        self.run(self.now + Duration::from_millis(60), |_| false);
    }
}

/// What the first agent has told of reflexive candidates: with a minus before those that it took back.
fn told(pair: &Pair) -> Vec<String> {
    let of = |candidate: &Candidate, sign: &str| {
        let is_reflexive = candidate.kind == CandidateType::Srflx;
        is_reflexive.then(|| format!("{sign}{}", candidate.address))
    };
    let events = pair.sides[0].events.iter();
    let told = events.filter_map(|(_, event)| match event {
        Event::Candidate(candidate) => of(candidate, ""),
        Event::CandidateRemoved(candidate) => of(candidate, "-"),
        _ => None,
    });
    told.collect()
}

fn errors(pair: &Pair) -> Vec<&CandidateError> {
    let events = pair.sides[0].events.iter();
    let errors = events.filter_map(|(_, event)| match event {
        Event::CandidateError(error) => Some(error),
        _ => None,
    });
    errors.collect()
}

/// So often did gathering end.
fn endings(pair: &Pair) -> usize {
    let events = pair.sides[0].events.iter();
    events
        .filter(|(_, event)| {
            matches!(
                event,
                Event::GatheringStateChange(nilas_ice::GatheringState::Complete)
            )
        })
        .count()
}

#[test]
fn a_forwarded_port_goes_before_what_a_stun_server_would_tell() {
    let mut pair = pair();
    pair.until_now();
    assert_eq!(pair.sides[0].mapped, [SocketId(1)]);
    assert_eq!(endings(&pair), 0, "the gateway may still answer");
    forward(&mut pair, Ok("198.51.100.1:4000"));
    assert_eq!(endings(&pair), 1);
    let candidate = pair.sides[0]
        .events
        .iter()
        .find_map(|(_, event)| match event {
            Event::Candidate(candidate) if candidate.kind == CandidateType::Srflx => {
                Some(candidate)
            }
            _ => None,
        });
    let candidate = candidate.expect("a candidate");
    assert_eq!(candidate.ip_address(), Some(address("198.51.100.1:4000")));
    assert_eq!(candidate.related, Some(address("10.0.0.1:5001")));
    // RFC 6544 section 4.2.
    assert_eq!(candidate.priority >> 24, 105);
}

/// Nothing comes in but by the gateway, which gives the peer's packets no way to the base itself.
#[test]
fn a_peer_that_can_only_send_to_the_forwarded_port_is_met_there() {
    let mut pair = pair();
    let mut met = false;
    pair.alter = Box::new(move |packet| {
        if packet.from == address("10.0.0.1:5001") {
            // The peer's NAT takes nothing from where it has sent nothing.
            let from = if met { 4000 } else { 6000 };
            packet.from = SocketAddr::new(address("198.51.100.1:0").ip(), from);
        }
        match packet.to.to_string().as_str() {
            "198.51.100.1:4000" => {
                met = true;
                packet.to = address("10.0.0.1:5001");
            }
            "192.0.2.2:5001" if met => {}
            _ => packet.to = address("203.0.113.99:1"),
        }
    });
    assert!(!pair.run(Time::from_millis(2_000), |sides| {
        sides.iter_mut().any(|side| side.agent().state().is_up())
    }));
    forward(&mut pair, Ok("198.51.100.1:4000"));
    assert!(pair.both_up());
    assert!(pair.send(1, b"in"));
    pair.until_now();
    assert_eq!(pair.sides[0].data, [b"in".to_vec()]);
}

#[test]
fn without_a_gateway_gathering_ends_and_the_session_goes_on() {
    for (error, why) in [
        (PortMappingError::NoGateway, "no gateway"),
        (PortMappingError::NoAnswer, "did not answer"),
        (PortMappingError::Refused, "refuses"),
    ] {
        let mut pair = pair();
        assert!(pair.both_up(), "a path does not wait for the gateway");
        assert_eq!(endings(&pair), 0);
        forward(&mut pair, Err(error));
        assert_eq!(endings(&pair), 1);
        let [told] = errors(&pair)[..] else {
            panic!("{:?}", errors(&pair));
        };
        assert_eq!((told.error_code, &*told.url), (701, ""));
        assert!(told.error_text.contains(why), "{told:?}");
        assert_eq!(told.address.as_deref(), Some(INSIDE));
        // What the gateway says again is nothing new.
        forward(&mut pair, Err(error));
        assert_eq!(errors(&pair).len(), 1);
    }
}

#[test]
fn an_address_that_nobody_can_send_to_is_no_candidate() {
    for useless in [
        "0.0.0.0:4000",
        "198.51.100.1:0",
        "224.0.0.1:4000",
        "127.0.0.1:4000",
        "255.255.255.255:9",
    ] {
        let mut pair = pair();
        pair.until_now();
        forward(&mut pair, Ok(useless));
        assert_eq!(told(&pair), [""; 0], "{useless}");
        assert_eq!(errors(&pair).len(), 1, "{useless}");
        assert_eq!(endings(&pair), 1, "{useless}");
    }
}

#[test]
fn another_forwarded_port_takes_the_place_of_the_first_one_in_place() {
    let mut pair = pair();
    assert!(pair.both_up());
    let (first, second) = ("198.51.100.1:4000", "198.51.100.1:4001");
    forward(&mut pair, Ok(first));
    forward(&mut pair, Ok(second));
    let gone = format!("-{first}");
    assert_eq!(told(&pair), [first, &*gone, second]);
    // And back; and gone.
    forward(&mut pair, Ok(first));
    forward(&mut pair, Err(PortMappingError::NoAnswer));
    let second_gone = format!("-{second}");
    assert_eq!(told(&pair)[3..], [&*second_gone, first, &*gone]);
    assert_eq!(
        endings(&pair),
        3,
        "each new one is told before an end of candidates"
    );
    assert!(
        pair.sides
            .iter_mut()
            .all(|side| side.agent().state() == State::Completed)
    );
}

#[test]
fn a_peer_that_takes_no_changes_hears_of_them_after_a_restart() {
    let mut config = mapping(Role::Controlling);
    config.continual = false;
    let mut pair = pair_with(config);
    assert!(pair.both_up());
    forward(&mut pair, Ok("198.51.100.1:4000"));
    forward(&mut pair, Ok("198.51.100.1:4001"));
    assert_eq!(told(&pair), ["198.51.100.1:4000"]);
    let now = pair.now;
    pair.sides[0].agent().restart(now);
    pair.until_now();
    assert_eq!(told(&pair)[1..], ["198.51.100.1:4001"]);
    assert_eq!(pair.sides[0].mapped.len(), 1, "it is asked for once");
}

#[test]
fn only_ipv4_sockets_that_the_peer_may_reach_are_forwarded_to() {
    let addresses = [INSIDE, "2001:db8::1"];
    let mut pair = Pair::new(
        Side::with(mapping(Role::Controlling), 1, &addresses),
        Side::new(Role::Controlled, 2, &[PEER]),
    );
    pair.until_now();
    let asked: Vec<_> = pair.sides[0].mapped.iter().collect();
    let of: Vec<_> = asked
        .into_iter()
        .map(|id| pair.sides[0].sockets[id].ip())
        .collect();
    assert_eq!(of, [address("10.0.0.1:0").ip()]);

    for (policy, port_mapping) in [
        (AddressPolicy::RelayOnly, true),
        (AddressPolicy::All, false),
    ] {
        let mut config = mapping(Role::Controlling);
        (config.addresses, config.port_mapping) = (policy, port_mapping);
        let mut pair = pair_with(config);
        pair.until_now();
        assert_eq!(pair.sides[0].mapped, [], "{policy:?}");
        assert_eq!(endings(&pair), 1);
    }
}

#[test]
fn an_agent_that_is_to_be_relayed_from_now_on_gives_the_port_back() {
    let mut pair = pair();
    assert!(pair.both_up());
    forward(&mut pair, Ok("198.51.100.1:4000"));
    let now = pair.now;
    let relayed = pair.sides[0]
        .agent()
        .set_addresses(now, AddressPolicy::RelayOnly);
    relayed.expect("a full agent");
    pair.until_now();
    assert_eq!(pair.sides[0].mapped, []);
    assert_eq!(told(&pair).len(), 1);
}

#[test]
fn a_lite_agent_asks_no_gateway() {
    let mut config = mapping(Role::Controlled);
    config.mode = Mode::Lite;
    let mut engine = Engine::new(EngineConfig::default(), [1; 32]);
    let refused = engine.add_agent(Time::ZERO, config);
    assert_eq!(refused, Err(AgentError::LiteHasHostsOnly));
}

#[test]
fn agents_on_one_socket_share_what_is_forwarded_to_it() {
    let mut shared = EngineConfig::default();
    shared.shared_port = Some(0);
    let engine = Engine::new(shared, [1; 32]);
    let a = Side::on(engine, mapping(Role::Controlling), &[INSIDE]);
    let mut pair = Pair::new(a, Side::new(Role::Controlled, 2, &[PEER]));
    pair.until_now();
    let now = pair.now;
    let engine = &mut pair.sides[0].engine;
    let second = engine
        .add_agent(now, mapping(Role::Controlling))
        .expect("room");
    engine.agent(second).expect("it").gather(now);
    pair.until_now();
    assert_eq!(pair.sides[0].mapped, [SocketId(1)]);
    forward(&mut pair, Ok("198.51.100.1:4000"));
    assert_eq!(told(&pair), ["198.51.100.1:4000"; 2]);
    // One that comes later knows it at once, and none hears of it when it is closed.
    let now = pair.now;
    let engine = &mut pair.sides[0].engine;
    engine.agent(second).expect("it").close(now);
    let third = engine
        .add_agent(now, mapping(Role::Controlling))
        .expect("room");
    engine.agent(third).expect("it").gather(now);
    pair.until_now();
    assert_eq!(told(&pair).len(), 3);
    assert_eq!(pair.sides[0].mapped, [SocketId(1)]);
    // The last one to go gives it back, though there may be others on the socket.
    for id in [third, pair.sides[0].id] {
        assert_eq!(pair.sides[0].mapped.len(), 1);
        let now = pair.now;
        pair.sides[0].engine.agent(id).expect("it").close(now);
        pair.until_now();
    }
    assert_eq!(pair.sides[0].mapped, []);
}

#[test]
fn what_comes_for_a_socket_that_was_not_asked_for_changes_nothing() {
    let mut pair = pair();
    assert!(pair.both_up());
    pair.until(10);
    let before = pair.sides[0].events.len();
    for socket in [SocketId(7), SocketId(1 << 31)] {
        let result = Ok(address("198.51.100.1:4000"));
        let input = Input::PortMapped { socket, result };
        let _ = pair.sides[0].engine.handle(pair.now, input);
    }
    pair.until_now();
    assert_eq!(pair.sides[0].events.len(), before);
    let now = pair.now;
    pair.sides[0].agent().close(now);
    pair.until_now();
    assert_eq!(pair.sides[0].mapped, [], "it is given back");
    forward(&mut pair, Ok("198.51.100.1:4000"));
    assert_eq!(told(&pair), [""; 0]);
}

#[test]
fn a_recording_plays_back_what_the_gateway_said_and_explains_it() {
    let engine = Engine::recorded(
        EngineConfig::default(),
        [1; 32],
        RecordingOptions::default(),
    );
    let a = Side::on(engine, mapping(Role::Controlling), &[INSIDE]);
    let mut pair = Pair::new(a, Side::new(Role::Controlled, 2, &[PEER]));
    assert!(pair.both_up());
    forward(&mut pair, Ok("198.51.100.1:4000"));
    forward(&mut pair, Err(PortMappingError::Refused));
    let recording = pair.sides[0].engine.end_recording();
    let played = replay(&recording).expect("a recording");
    assert_eq!(played.difference, None);
    let told = explain(&recording).expect("a recording").to_string();
    assert!(
        told.contains("198.51.100.1:4000: forwarded by the gateway"),
        "{told}"
    );
}
