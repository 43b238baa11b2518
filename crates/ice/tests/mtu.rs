//! How long datagrams may be is found out (RFC 8899), on a wire that loses what is too long.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use nilas_ice::{AgentConfig, Engine, EngineConfig, Event, Mtu, Role, State, Stats, Time, replay};
use nilas_stun::{AttributeType, Class, Message};

use self::support::{Packet, Pair, Side};

mod support;

/// The headers of IP and UDP.
const IPV4: usize = 28;
const IPV6: usize = 48;

fn discovering(role: Role) -> AgentConfig {
    let mut config = AgentConfig::new(role);
    config.restarts_alone = false;
    config.mtu = Mtu::Discover(1_500);
    config
}

/// Two agents, of which the first finds out; packets longer than the cell says are lost.
fn pair(addresses: [&str; 2]) -> (Pair, Rc<Cell<usize>>) {
    let a = Side::with(discovering(Role::Controlling), 1, &addresses[..1]);
    pair_of(a, addresses[1])
}

fn pair_of(a: Side, b: &str) -> (Pair, Rc<Cell<usize>>) {
    let mut pair = Pair::new(a, Side::new(Role::Controlled, 2, &[b]));
    let mtu = Rc::new(Cell::new(1_500));
    let takes = Rc::clone(&mtu);
    pair.lose = Box::new(move |_, packet| length(packet) > takes.get());
    (pair, mtu)
}

fn v4() -> (Pair, Rc<Cell<usize>>) {
    pair(["192.0.2.1", "192.0.2.2"])
}

/// That of the packet on the wire.
fn length(packet: &Packet) -> usize {
    packet.bytes.len()
        + match packet.to.is_ipv4() {
            true => IPV4,
            false => IPV6,
        }
}

fn max_payload(pair: &mut Pair, side: usize) -> usize {
    let path = pair.sides[side].agent().path();
    path.load().expect("it is connected").max_payload()
}

/// What was told, and the lengths of the probes.
fn told(pair: &Pair) -> Vec<usize> {
    let bytes = |(_, event): &(Time, Event)| match event {
        Event::MaxPayloadChange { bytes } => Some(*bytes),
        _ => None,
    };
    pair.sides[0].events.iter().filter_map(bytes).collect()
}

fn probes(pair: &Pair) -> Vec<(Time, usize)> {
    let padded = |(_, packet): &&(usize, Packet)| {
        Message::parse(&packet.bytes).is_ok_and(|message| message.padding().is_some())
    };
    let sent = pair.sent.iter().filter(padded);
    sent.map(|(_, packet)| (packet.at, length(packet)))
        .collect()
}

fn forget(pair: &mut Pair) {
    pair.sent.clear();
    pair.sides[0].events.clear();
}

#[test]
fn the_length_of_the_path_is_found_over_both_families() {
    for (addresses, headers) in [
        (["192.0.2.1", "192.0.2.2"], IPV4),
        (["2001:db8::1", "2001:db8::2"], IPV6),
    ] {
        for (takes, lengths, found) in [
            (1_500, &[1_280, 1_500][..], 1_500),
            // Each that is lost is sent three times.
            (1_420, &[1_280, 1_500, 1_420, 1_460, 1_440], 1_420),
            (1_300, &[1_280, 1_500, 1_420, 1_380, 1_340], 1_280),
            (1_100, &[1_280, 576, 1_024, 1_200], 1_024),
        ] {
            let (mut pair, mtu) = pair(addresses);
            mtu.set(takes);
            assert!(pair.both_completed());
            assert_eq!(max_payload(&mut pair, 0), 1_232, "nothing is known yet");
            pair.until(60);
            assert_eq!(max_payload(&mut pair, 0), found - headers, "{takes}");
            assert_eq!(told(&pair).last(), Some(&(found - headers)));
            let now = pair.now;
            let stats = pair.sides[0].agent().stats(now);
            let in_stats = stats.iter().find_map(|stats| match stats {
                Stats::Transport(transport) => transport.max_payload,
                _ => None,
            });
            assert_eq!(in_stats, Some(found - headers));
            let mut tried: Vec<_> = probes(&pair).iter().map(|(_, length)| *length).collect();
            for length in lengths {
                let times = tried.iter().filter(|tried| *tried == length).count();
                assert_eq!(times, if *length > takes { 3 } else { 1 }, "{takes}");
            }
            tried.dedup();
            assert_eq!(tried, lengths, "{takes}");
            // It is nobody's loss: the path is as good as before, and the peer did not ask.
            assert_eq!(pair.sides[0].states().last(), Some(&State::Completed));
            assert_eq!(max_payload(&mut pair, 1), 1_232);
        }
    }
}

#[test]
fn probes_are_paced_and_one_is_under_way_at_a_time() {
    let (mut pair, mtu) = v4();
    mtu.set(1_420);
    pair.until(60);
    let times = probes(&pair);
    // Both lengths that get through and those that do not.
    for got_through in [true, false] {
        let count = times
            .iter()
            .filter(|(_, length)| (*length <= 1_420) == got_through);
        assert!(count.count() >= 2, "{times:?}");
    }
    let waits = times
        .windows(2)
        .map(|two| (two[1].0.since(two[0].0), two[0].1));
    for (wait, length) in waits {
        // An answer takes 50 ms; what is lost is waited for a second.
        let least = if length > 1_420 { 1_000 } else { 50 };
        assert!(wait >= Duration::from_millis(least), "{times:?}");
    }
    for (at, length) in &times {
        let near = |(_, packet): &&(usize, Packet)| {
            let request =
                Message::parse(&packet.bytes).is_ok_and(|own| own.class() == Class::Request);
            request
                && packet.from.ip() == "192.0.2.1".parse::<std::net::IpAddr>().unwrap()
                && packet.at <= *at
                && packet.at + Duration::from_millis(50) > *at
        };
        // RFC 8445 section 14.2: with Ta of 50 ms no check goes with it, but for a consent check, which is not paced.
        let count = pair.sent.iter().filter(near).count();
        assert!(count <= 2, "{length} at {at:?}");
    }
}

/// RFC 8899 section 5.2: a black hole is found while data is sent, and the path is taken for no more than the base at once.
#[test]
fn a_path_that_takes_less_than_before_is_found_out_while_data_is_sent() {
    let (mut pair, mtu) = v4();
    pair.until(10);
    assert_eq!(max_payload(&mut pair, 0), 1_472);
    forget(&mut pair);
    // Nobody sends, so nobody asks.
    pair.until(100);
    assert_eq!(probes(&pair), []);
    mtu.set(1_400);
    pair.sides[0]
        .agent()
        .path()
        .record_sent(Some(pair.now), 1, 1_000);
    pair.until(140);
    // The base first, then what still passes.
    assert_eq!(told(&pair), [1_232, 1_252, 1_352, 1_372]);
    assert_eq!(max_payload(&mut pair, 0), 1_372);
    let first = pair.sides[0].events.first().expect("it was told").0;
    assert!(first <= Time::from_millis(119_000), "{first:?}");
    assert_eq!(pair.sides[0].agent().state(), State::Completed);
}

/// RFC 8899 section 5.1.1: PMTU_RAISE_TIMER.
#[test]
fn what_lies_above_is_tried_again_after_ten_minutes() {
    let (mut pair, mtu) = v4();
    mtu.set(1_400);
    pair.until(60);
    assert_eq!(max_payload(&mut pair, 0), 1_372);
    mtu.set(1_500);
    forget(&mut pair);
    pair.until(590);
    assert_eq!(probes(&pair), []);
    pair.until(700);
    assert_eq!(max_payload(&mut pair, 0), 1_472);
    assert_eq!(told(&pair), [1_472]);
}

/// A peer that knows nothing of PADDING answers 420, which arrives only if the probe has.
#[test]
fn any_answer_that_has_the_peers_integrity_will_do() {
    let (mut pair, _) = v4();
    assert!(pair.both_completed());
    // On the way PADDING becomes an attribute that nobody knows, and the integrity is made anew.
    let key = pair.sides[1].agent().local_parameters().pwd;
    let key = nilas_stun::Key::short_term(&key).expect("a password");
    let refused = Rc::new(Cell::new(0));
    let count = Rc::clone(&refused);
    pair.alter = Box::new(move |packet: &mut Packet| {
        let Ok(message) = Message::parse(&packet.bytes) else {
            return;
        };
        if message.padding().is_none() {
            return;
        }
        let at = packet
            .bytes
            .windows(2)
            .position(|two| two == (AttributeType::PADDING.0).to_be_bytes());
        let at = at.expect("it is there");
        packet.bytes[at..at + 2].copy_from_slice(&0x7fff_u16.to_be_bytes());
        nilas_stun::reseal(&mut packet.bytes, Some(&key)).expect("a message");
        count.set(count.get() + 1);
    });
    pair.until(30);
    assert!(refused.get() >= 2);
    let code_420 = pair.sent.iter().any(|(side, packet)| {
        *side == 1
            && Message::parse(&packet.bytes).is_ok_and(
                |message| matches!(message.error_code(), Ok(Some(error)) if error.code() == 420),
            )
    });
    assert!(code_420);
    assert_eq!(max_payload(&mut pair, 0), 1_472);
    assert_eq!(pair.sides[0].agent().state(), State::Completed);
}

#[test]
fn a_peer_that_answers_no_probe_leaves_the_base_as_it_was() {
    let (mut pair, _) = v4();
    pair.lose = Box::new(|_, packet| {
        Message::parse(&packet.bytes).is_ok_and(|message| message.padding().is_some())
    });
    pair.until(300);
    assert_eq!(max_payload(&mut pair, 0), 1_232);
    assert_eq!(told(&pair), []);
    // The base and the shortest, three times each, and then nothing for ten minutes.
    assert_eq!(probes(&pair).len(), 6);
    assert_eq!(pair.sides[0].agent().state(), State::Completed);
}

#[test]
fn what_the_system_refuses_is_not_tried_again() {
    let (mut pair, mtu) = v4();
    mtu.set(1_480);
    pair.longest = 1_480 - IPV4;
    pair.until(5);
    assert_eq!(max_payload(&mut pair, 0), 1_452);
    // Nothing but what the interface takes has gone out, and nothing was waited for.
    assert_eq!(told(&pair).last(), Some(&1_452));
    assert_eq!(pair.sides[0].engine.counters().send_errors, 2);
}

#[test]
fn a_session_that_finds_out_plays_back_from_its_recording() {
    let engine = Engine::recorded(EngineConfig::default(), [1; 32], Default::default());
    let a = Side::on(engine, discovering(Role::Controlling), &["192.0.2.1"]);
    let (mut pair, mtu) = pair_of(a, "192.0.2.2");
    mtu.set(1_420);
    pair.until(20);
    for second in 21..60 {
        pair.sides[0]
            .agent()
            .path()
            .record_sent(Some(pair.now), 1, 1_000);
        pair.until(second);
    }
    mtu.set(1_300);
    pair.sides[0]
        .agent()
        .path()
        .record_sent(Some(pair.now), 1, 1_000);
    pair.until(120);
    assert_eq!(max_payload(&mut pair, 0), 1_252);
    let recording = pair.sides[0].engine.end_recording();
    let played = replay(&recording).expect("it can be read");
    let difference = played.difference.map(|difference| difference.to_string());
    assert_eq!(difference, None);
}
