//! ICE-TCP (RFC 6544): sessions of peers that cannot reach each other by UDP.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::{Check, MINUTE, Peers, ip, ms, quarter, states};
use nilas_ice::{
    AgentConfig, AgentError, Candidate, CandidateType, Event, Mode, Role, State, TcpCandidates,
    TcpType, Transport, Verdict,
};
use nilas_sim::{
    Agent, End, Fate, Firewall, Flow, Link, Nat, NodeId, Ports, Realm, Router, Signal, Signaling,
    TcpStream, World,
};

pub(crate) fn config(role: Role, tcp: TcpCandidates) -> AgentConfig {
    let mut config = AgentConfig::new(role);
    config.tcp = tcp;
    config
}

/// A firewall that lets no UDP through.
pub(crate) fn no_udp(mut firewall: Firewall) -> Firewall {
    firewall.udp = Ports::None;
    firewall
}

/// The first peer behind the NAT of an office, the second at a public address; neither can use UDP.
fn office_and_server(seed: u64, [a, b]: [AgentConfig; 2]) -> (Peers, NodeId) {
    let mut world = World::new(seed);
    let link = quarter(ms(50));
    let router = Router::new()
        .with_nat(&[ip("203.0.113.1")], Nat::default())
        .with_firewall(no_udp(Firewall::stateful()));
    let (nat, office) = world.add_router(Realm::INTERNET, link, router);
    let router = Router::new()
        .with_prefix("192.0.2.0/24".parse().expect("a network"))
        .with_firewall(no_udp(Firewall::open()));
    let (_, hall) = world.add_router(Realm::INTERNET, link, router);
    let inside = world.add_host(office, &[ip("10.0.0.2")], Link::default());
    let public = world.add_host(hall, &[ip("192.0.2.1")], Link::default());
    let a = world.add_agent(inside, a).expect("room");
    let b = world.add_agent(public, b).expect("room");
    (Peers { world, a, b }, nat)
}

fn connected(seed: u64, configs: [AgentConfig; 2]) -> (Peers, NodeId) {
    let (mut peers, nat) = office_and_server(seed, configs);
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(
        peers.run_until_up(MINUTE).is_some(),
        "{}",
        peers.world.trace()
    );
    (peers, nat)
}

pub(crate) fn completed(peers: &mut Peers) -> bool {
    let both = peers.both();
    let done = peers.world.run_until(MINUTE, |world| {
        both.iter()
            .all(|agent| world.state(*agent) == State::Completed)
    });
    done.is_some()
}

pub(crate) fn told(peers: &Peers, agent: Agent) -> Vec<Candidate> {
    let events = peers.world.events(agent).iter();
    let candidate = |event: &Event| match event {
        Event::Candidate(candidate) => Some(candidate.clone()),
        _ => None,
    };
    events.filter_map(|(_, event)| candidate(event)).collect()
}

pub(crate) fn tcp_type(candidate: &Candidate) -> Option<TcpType> {
    match candidate.transport {
        Transport::Tcp(tcp_type) => Some(tcp_type),
        _ => None,
    }
}

/// The transports of the pair that an agent selected.
pub(crate) fn transports(peers: &Peers, agent: Agent) -> [Option<TcpType>; 2] {
    let pair = peers.world.selected_pair(agent).expect("a pair");
    [tcp_type(&pair.local), tcp_type(&pair.remote)]
}

/// Connections of which segments with data were sent since then.
fn busy_connections(world: &World, since: nilas_ice::Time) -> usize {
    let packets = world.trace().packets().iter().filter(|packet| {
        packet.sent >= since && matches!(packet.flow, Flow::Tcp(_)) && !packet.payload.is_empty()
    });
    let mut ends: Vec<_> = packets
        .filter(|packet| packet.source.ip() == ip("192.0.2.1"))
        .map(|packet| (packet.source, packet.destination))
        .collect();
    ends.sort_unstable();
    ends.dedup();
    ends.len()
}

#[test]
fn where_no_udp_passes_a_connection_carries_the_session() {
    for role in [Role::Controlling, Role::Controlled] {
        for modes in [
            [TcpCandidates::Active, TcpCandidates::All],
            [TcpCandidates::All, TcpCandidates::All],
        ] {
            let configs = [config(role, modes[0]), config(role.opposite(), modes[1])];
            let (mut peers, _) = connected(1, configs);
            // A round trip to connect and one to check, after the signaling.
            let up = [peers.a, peers.b]
                .map(|agent| peers.world.state_at(agent, State::Connected))
                .into_iter()
                .max()
                .flatten();
            let up = up.expect("both are up").as_nanos() / 1_000_000;
            assert!(up <= 20 + 2 * 50 + 50, "{up} ms");
            assert!(completed(&mut peers), "{:?}", states(&peers.world, peers.a));
            assert_eq!(
                transports(&peers, peers.a),
                [Some(TcpType::Active), Some(TcpType::Passive)]
            );
            assert_eq!(
                transports(&peers, peers.b),
                [Some(TcpType::Passive), Some(TcpType::Active)]
            );
            let at_b = peers.world.selected_pair(peers.b).expect("a pair");
            assert_eq!(at_b.remote.kind, CandidateType::Prflx);
            peers.assert_mirrored_and_working();
            // An hour of silence: consent goes over the connection, and over no other.
            peers.world.run_for(Duration::from_secs(10));
            let quiet = peers.world.now();
            peers.world.run_for(Duration::from_secs(3600));
            assert_eq!(busy_connections(&peers.world, quiet), 1);
            for agent in peers.both() {
                assert_eq!(peers.world.state(agent), State::Completed);
            }
            peers.assert_data_both_ways();
        }
    }
}

#[test]
fn under_loss_a_connection_carries_the_session() {
    for seed in 0..10 {
        let (mut peers, _) = office_and_server(
            seed,
            [Role::Controlling, Role::Controlled].map(|role| config(role, TcpCandidates::All)),
        );
        peers
            .world
            .set_link(peers.a.node, Link::default().with_loss(0.1));
        peers.introduce(Signaling::trickled(ms(20)));
        assert!(completed(&mut peers), "seed {seed}");
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn udp_goes_first_where_it_passes() {
    let mut world = World::new(1);
    let [a, b] = [0, 1].map(|n: usize| {
        let own = ip(&format!("192.0.2.{}", n + 1));
        let host = world.add_host(Realm::INTERNET, &[own], quarter(ms(50)));
        let role = [Role::Controlling, Role::Controlled][n];
        world
            .add_agent(host, config(role, TcpCandidates::All))
            .expect("room")
    });
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(completed(&mut peers));
    for agent in peers.both() {
        assert_eq!(transports(&peers, agent), [None, None]);
    }
    // RFC 6544 section 8: once ICE has concluded the connections are closed.
    peers.world.run_for(Duration::from_secs(10));
    let quiet = peers.world.now();
    peers.world.run_for(Duration::from_secs(60));
    assert_eq!(busy_connections(&peers.world, quiet), 0);
    peers.assert_mirrored_and_working();
}

#[test]
fn candidates_are_told_as_rfc_6544_writes_them() {
    let (mut peers, _) = office_and_server(
        1,
        [
            config(Role::Controlling, TcpCandidates::Active),
            config(Role::Controlled, TcpCandidates::All),
        ],
    );
    peers.gather();
    let lines = |agent| -> Vec<String> {
        let told = told(&peers, agent);
        told.iter().map(ToString::to_string).collect()
    };
    let of_a = lines(peers.a);
    assert_eq!(of_a.len(), 2, "{of_a:?}");
    // 2^24 * 90 + 2^8 * (2^13 * 6 + 8190) + 255: IPv4 stands behind an IPv6 that is not there.
    assert!(
        of_a.iter().any(
            |line| line.contains(" 1 tcp 1524629247 10.0.0.2 9 typ host tcptype active ufrag ")
        ),
        "{of_a:?}"
    );
    let of_b = told(&peers, peers.b);
    let mut types: Vec<_> = of_b.iter().map(tcp_type).collect();
    types.sort_unstable();
    assert_eq!(
        types,
        [
            None,
            Some(TcpType::Active),
            Some(TcpType::Passive),
            Some(TcpType::So)
        ]
    );
    // Foundations and ports of their own (RFC 6544 appendix C).
    let of = |wanted| {
        let mut found = of_b.iter().filter(|told| tcp_type(told) == Some(wanted));
        found.next().expect("a candidate")
    };
    let mut foundations: Vec<_> = of_b.iter().map(|told| told.foundation).collect();
    foundations.sort_unstable();
    foundations.dedup();
    assert_eq!(foundations.len(), 4);
    assert_ne!(
        of(TcpType::So).ip_address(),
        of(TcpType::Passive).ip_address()
    );
}

#[test]
fn two_firewalls_are_passed_by_opening_at_once() {
    // No NAT, and nothing comes in that was not asked for: a passive candidate cannot be reached.
    let mut world = World::new(1);
    let [a, b] = [0, 1].map(|n: usize| {
        let router = Router::new()
            .with_prefix(format!("2001:db8:{n}::/48").parse().expect("a network"))
            .with_firewall(no_udp(Firewall::stateful()));
        let (_, home) = world.add_router(Realm::INTERNET, quarter(ms(50)), router);
        let own = ip(&format!("2001:db8:{n}::2"));
        let host = world.add_host(home, &[own], Link::default());
        let role = [Role::Controlling, Role::Controlled][n];
        world
            .add_agent(host, config(role, TcpCandidates::All))
            .expect("room")
    });
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(completed(&mut peers), "{}", peers.world.trace());
    for agent in peers.both() {
        assert_eq!(transports(&peers, agent), [Some(TcpType::So); 2]);
    }
    peers.assert_mirrored_and_working();
}

#[test]
fn a_lite_agent_accepts_connections_and_opens_none() {
    let mut lite = config(Role::Controlled, TcpCandidates::All);
    lite.mode = Mode::Lite;
    let (mut peers, _) = connected(1, [config(Role::Controlled, TcpCandidates::Active), lite]);
    assert!(completed(&mut peers));
    let types: Vec<_> = told(&peers, peers.b).iter().filter_map(tcp_type).collect();
    assert_eq!(types, [TcpType::Passive]);
    peers.assert_mirrored_and_working();
}

/// It is not its own to open another.
#[test]
fn a_lite_agent_whose_connection_broke_is_disconnected_until_there_is_another() {
    let configs = || {
        let mut lite = config(Role::Controlled, TcpCandidates::All);
        lite.mode = Mode::Lite;
        [config(Role::Controlling, TcpCandidates::Active), lite]
    };
    let (mut peers, nat) = connected(1, configs());
    assert!(completed(&mut peers));
    talk(&mut peers, 2_000);
    // The NAT forgets the connection: the peer closes it in the end, and opens another.
    peers.world.reboot(nat);
    for _ in 0..2_000 {
        let sent = peers.world.send(peers.b, b"data");
        let state = peers.world.state(peers.b);
        assert_eq!(sent.is_ok(), state.is_up(), "{state:?}");
        let _ = peers.world.send(peers.a, b"data");
        peers.world.run_for(ms(10));
    }
    peers.assert_mirrored_and_working();
    ends_with_its_connection(peers);
    // Nor does one last for ever whose peer has not asked for consent yet.
    ends_with_its_connection(connected(1, configs()).0);
}

/// The peer closes it and does not come back.
fn ends_with_its_connection(mut peers: Peers) {
    assert!(completed(&mut peers));
    peers
        .world
        .with_agent(peers.a, |agent, now| agent.close(now))
        .expect("open");
    peers.world.run_for(Duration::from_secs(1));
    let verdict = |peers: &mut Peers| {
        let verdict = peers.world.with_agent(peers.b, |agent, _| agent.verdict());
        (peers.world.state(peers.b), verdict.expect("open"))
    };
    let broken = (State::Disconnected, Some(Verdict::ConnectionBroken));
    assert_eq!(verdict(&mut peers), broken);
    assert!(peers.world.send(peers.b, b"data").is_err());
    peers.world.run_for(Duration::from_secs(30));
    let gone = (State::Failed, Some(Verdict::ConsentExpired));
    assert_eq!(verdict(&mut peers), gone);
}

#[test]
fn a_restart_goes_over_the_connection_that_is_there() {
    for restarting in [0, 1] {
        let (mut peers, _) = connected(
            1,
            [Role::Controlling, Role::Controlled].map(|role| config(role, TcpCandidates::All)),
        );
        assert!(completed(&mut peers));
        let before = peers.world.selected_pair(peers.a).cloned();
        let agent = peers.both()[restarting];
        peers
            .world
            .with_agent(agent, |mut agent, now| agent.restart(now))
            .expect("it is open");
        let mut sent = 0;
        while sent < 300 {
            for agent in peers.both() {
                peers.world.send(agent, b"still here").expect("a path");
            }
            sent += 1;
            peers.world.run_for(ms(10));
        }
        assert!(completed(&mut peers));
        peers.world.run_for(Duration::from_secs(1));
        for agent in peers.both() {
            assert_eq!(peers.world.received(agent).len(), sent);
        }
        let after = peers.world.selected_pair(peers.a).cloned();
        let address =
            |pair: Option<nilas_ice::SelectedPair>| pair.expect("a pair").local.ip_address();
        assert_eq!(address(before), address(after));
        peers.assert_mirrored_and_working();
    }
}

/// Data both ways, 100 times a second.
fn talk(peers: &mut Peers, times: usize) {
    for _ in 0..times {
        for agent in peers.both() {
            // There may be no path for a moment.
            let _ = peers.world.send(agent, b"data");
        }
        peers.world.run_for(ms(10));
    }
}

#[test]
fn a_connection_that_breaks_is_opened_again() {
    for role in [Role::Controlling, Role::Controlled] {
        let (mut peers, nat) = connected(
            1,
            [role, role.opposite()].map(|role| config(role, TcpCandidates::All)),
        );
        assert!(completed(&mut peers));
        talk(&mut peers, 100);
        // The NAT forgets the connection, and tells nobody: what either side sends is lost.
        peers.world.reboot(nat);
        let broken = peers.world.now();
        talk(&mut peers, 500);
        let mut last = [0, 0];
        for (agent, last) in peers.both().into_iter().zip(&mut last) {
            let mut gap = broken;
            for (at, _) in peers
                .world
                .received(agent)
                .iter()
                .filter(|(at, _)| *at > broken)
            {
                *last = (*last).max(at.since(gap).as_millis());
                gap = *at;
            }
            let silent = peers.world.now().since(gap);
            assert!(silent < ms(100), "no data for {silent:?}");
        }
        // A second of them is the SYN that meets the old connection first.
        assert!(last.iter().all(|gap| *gap < 2_500), "{last:?} ms");
        for agent in peers.both() {
            assert!(!states(&peers.world, agent).contains(&State::Failed));
        }
        peers.assert_data_both_ways();
    }
}

#[test]
fn whoever_is_connected_can_send_also_while_the_connection_is_opened_again() {
    for role in [Role::Controlling, Role::Controlled] {
        let (mut peers, nat) = connected(
            1,
            [role, role.opposite()].map(|role| config(role, TcpCandidates::All)),
        );
        assert!(completed(&mut peers));
        talk(&mut peers, 100);
        peers.world.reboot(nat);
        let mut refused = [0, 0];
        for _ in 0..500 {
            for (agent, refused) in peers.both().into_iter().zip(&mut refused) {
                let sent = peers.world.send(agent, b"data");
                let state = peers.world.state(agent);
                assert_eq!(sent.is_ok(), state.is_up(), "{state:?}");
                *refused += usize::from(sent.is_err());
                if state == State::Disconnected {
                    let verdict = peers.world.with_agent(agent, |agent, _| agent.verdict());
                    assert_eq!(verdict, Ok(Some(Verdict::ConnectionBroken)));
                }
            }
            peers.world.run_for(ms(10));
        }
        // The side that opens it: the other one sends until it is told that there is another.
        assert!(refused[0] > 0, "{refused:?}");
        // The NAT has another port for it, and both sides know.
        peers.assert_mirrored_and_working();
    }
}

/// A peer with its TCP candidates, and a host that is nobody's peer.
fn besieged() -> (Peers, NodeId, SocketAddr) {
    let (mut peers, _) = office_and_server(
        1,
        [Role::Controlling, Role::Controlled].map(|role| config(role, TcpCandidates::All)),
    );
    let stranger = peers
        .world
        .add_host(Realm::INTERNET, &[ip("198.51.100.66")], quarter(ms(50)));
    peers.gather();
    let passive = told(&peers, peers.b);
    let passive = passive
        .iter()
        .find(|told| tcp_type(told) == Some(TcpType::Passive));
    let target = passive.expect("a candidate").ip_address();
    (peers, stranger, target.expect("an address"))
}

fn connect(peers: &mut Peers, stranger: NodeId, target: SocketAddr) -> TcpStream {
    let local = SocketAddr::new(ip("198.51.100.66"), 0);
    peers
        .world
        .connect_tcp(stranger, local, target, false)
        .expect("a free port")
}

fn framed(payload: &[u8]) -> Vec<u8> {
    let length = payload.len() as u16;
    [length.to_be_bytes().as_slice(), payload].concat()
}

#[test]
fn strangers_who_connect_are_sent_away() {
    let (mut peers, stranger, target) = besieged();
    let parameters = peers.parameters(peers.b);
    let check = Check {
        to_ufrag: &parameters.ufrag,
        to_pwd: "not the password, that is sure",
        from_ufrag: "peer",
        id: 1,
        controlling: Some(1),
        controlled: None,
        nominate: true,
        component: 1,
    }
    .bytes();
    for bytes in [
        framed(b"data of nobody"),
        framed(&check),
        // A frame that would be 64 KiB long.
        vec![0xff; 2],
        b"GET / HTTP/1.1\r\nHost: 192.0.2.1\r\n\r\n".to_vec(),
    ] {
        let stream = connect(&mut peers, stranger, target);
        peers.world.run_for(ms(200));
        assert!(peers.world.tcp_ready_at(stream).is_some());
        assert!(peers.world.send_tcp(stream, &bytes));
        peers.world.run_for(ms(200));
        let (_, end) = peers.world.tcp_end(stream).expect("it was closed");
        assert_eq!(end, End::Finished);
        assert_eq!(peers.world.take_tcp(stream), b"", "nobody is answered");
    }
    assert_eq!(peers.world.received(peers.b).len(), 0);
    // Who says nothing, or half of something, has ten seconds.
    for half in [b"".as_slice(), b"\0", b"\0\x20abc"] {
        let stream = connect(&mut peers, stranger, target);
        peers.world.run_for(ms(100));
        assert!(peers.world.send_tcp(stream, half));
        peers.world.run_for(Duration::from_secs(9));
        assert_eq!(peers.world.tcp_end(stream), None);
        peers.world.run_for(Duration::from_secs(2));
        assert!(peers.world.tcp_end(stream).is_some());
    }
}

#[test]
fn a_crowd_of_strangers_does_not_keep_the_peer_out() {
    let (mut peers, stranger, target) = besieged();
    let streams: Vec<_> = (0..100)
        .map(|_| connect(&mut peers, stranger, target))
        .collect();
    peers.world.run_for(ms(500));
    // The newest are let wait: the peer may be among them.
    let open = streams[84..]
        .iter()
        .filter(|stream| peers.world.tcp_end(**stream).is_none());
    assert_eq!(open.count(), 16);
    assert!(
        streams[..84]
            .iter()
            .all(|stream| peers.world.tcp_end(*stream).is_some())
    );
    peers
        .world
        .signal_between(peers.a, peers.b, Signaling::trickled(ms(20)))
        .expect("both are open");
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.assert_mirrored_and_working();
}

#[test]
fn an_agent_without_tcp_refuses_the_candidates_and_opens_nothing() {
    let (mut peers, _) = office_and_server(
        1,
        [
            config(Role::Controlling, TcpCandidates::Off),
            config(Role::Controlled, TcpCandidates::All),
        ],
    );
    peers.introduce(Signaling::trickled(ms(20)));
    peers.world.run_for(Duration::from_secs(60));
    let refused = peers.world.refused(peers.a);
    assert_eq!(refused.len(), 3);
    assert!(
        refused
            .iter()
            .all(|(_, error)| *error == AgentError::UnusableCandidate)
    );
    assert_eq!(peers.world.state(peers.a), State::Failed);
    let tcp = peers.world.trace().packets().iter();
    assert_eq!(
        tcp.filter(|packet| matches!(packet.flow, Flow::Tcp(_)))
            .count(),
        0
    );
}

#[test]
fn at_most_five_connections_are_opened_to_an_address_at_a_time() {
    let (mut peers, _) = office_and_server(
        1,
        [
            config(Role::Controlling, TcpCandidates::Active),
            config(Role::Controlled, TcpCandidates::Off),
        ],
    );
    peers.gather();
    let parameters = peers.parameters(peers.b);
    peers
        .world
        .deliver(peers.a, Signal::Parameters(parameters))
        .expect("parameters");
    for port in 1..=60 {
        let line =
            format!("candidate:{port} 1 tcp 9{port} 192.0.2.99 {port} typ host tcptype passive");
        let candidate = line.parse().expect("a candidate");
        peers
            .world
            .deliver(peers.a, Signal::Candidate(candidate))
            .expect("it may be used");
    }
    peers.world.run_for(Duration::from_secs(9));
    let opening = |peers: &Peers| {
        let packets = peers.world.trace().packets().iter();
        let mut ports: Vec<_> = packets
            .filter(|packet| {
                packet.sender == peers.a.node
                    && matches!(packet.flow, Flow::Tcp(segment) if segment.syn)
            })
            .map(|packet| packet.destination.port())
            .collect();
        ports.sort_unstable();
        ports.dedup();
        ports.len()
    };
    // Nobody answers, and the driver gives up after ten seconds.
    assert_eq!(opening(&peers), 5);
    peers.world.run_for(Duration::from_secs(10));
    assert_eq!(opening(&peers), 10);
    let dark = peers.world.trace().packets().iter();
    assert!(dark.filter(|packet| packet.fate == Fate::NoRoute).count() > 0);
}

/// The peer has closed the connection while nobody was there to hear it.
#[test]
fn a_machine_that_slept_finds_its_connection_dead_and_opens_another() {
    for (role, awake, asleep) in [Role::Controlling, Role::Controlled]
        .into_iter()
        .flat_map(|role| [1, 5, 60].map(|awake| (role, awake)))
        .flat_map(|(role, awake)| [3, 10, 20, 28, 50, 100].map(|asleep| (role, awake, asleep)))
    {
        let configs = [
            config(role, TcpCandidates::Active),
            config(role.opposite(), TcpCandidates::All),
        ];
        let (mut peers, _) = connected(3, configs);
        peers.world.run_for(Duration::from_secs(awake));
        peers.world.hold_signals(peers.b);
        peers.world.suspend(peers.a.node);
        peers.world.run_for(Duration::from_secs(asleep));
        peers.world.resume(peers.a.node);
        peers.world.release_signals(peers.b);
        peers.world.run_for(MINUTE);
        let states = peers.both().map(|agent| peers.world.state(agent));
        let what = format!("{role:?}, {awake} s awake, {asleep} s asleep: {states:?}");
        assert!(states.iter().all(|state| state.is_up()), "{what}");
        peers.assert_data_both_ways();
    }
}
