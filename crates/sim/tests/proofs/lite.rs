//! Lite agents (RFC 8445 sections 2.5, 7.3.2 and 8.2): they answer, never ask, and follow what the peer nominates.

use std::net::SocketAddr;
use std::time::Duration;

use crate::common::{
    Check, MINUTE, Peers, address, ends, gaps, ip, message, ms, quarter, sent_by, states,
};
use nilas_ice::{
    AddressPolicy, AgentConfig, AgentError, CandidateType, Event, Mode, NoPath, Role, State,
    StunServer, Time, Verdict,
};
use nilas_sim::{Agent, Dependence, Link, Nat, Realm, Signal, Signaling, World};
use nilas_stun::{Class, ErrorCode, Method};

fn config(mode: Mode, role: Role) -> AgentConfig {
    let mut config = AgentConfig::new(role);
    config.mode = mode;
    config.restarts_alone = false;
    config
}

/// Peers at public addresses, one of each family, that have not been introduced.
fn peers(seed: u64, modes: [Mode; 2], roles: [Role; 2]) -> Peers {
    let mut world = World::new(seed);
    let [a, b] = [0, 1].map(|n: usize| {
        let addresses = [
            ip(&format!("192.0.{}.1", n + 2)),
            ip(&format!("2001:db8:{n}::1")),
        ];
        let host = world.add_host(Realm::INTERNET, &addresses, quarter(ms(50)));
        world
            .add_agent(host, config(modes[n], roles[n]))
            .expect("room")
    });
    Peers { world, a, b }
}

fn connected(seed: u64, modes: [Mode; 2]) -> Peers {
    let mut peers = peers(seed, modes, [Role::Controlling, Role::Controlled]);
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(completed(&mut peers), "{}", peers.world.trace());
    peers
}

fn completed(peers: &mut Peers) -> bool {
    let both = peers.both();
    let done = peers.world.run_until(MINUTE, |world| {
        both.iter()
            .all(|agent| world.state(*agent) == State::Completed)
    });
    done.is_some()
}

fn requests(world: &World, agent: Agent) -> usize {
    sent_by(world, agent.node)
        .filter(|packet| message(packet, Class::Request).is_some())
        .count()
}

fn host_addresses(peers: &Peers, agent: Agent) -> Vec<SocketAddr> {
    let events = peers.world.events(agent).iter();
    let address = |event: &Event| match event {
        Event::Candidate(candidate) => candidate.ip_address(),
        _ => None,
    };
    events.filter_map(|(_, event)| address(event)).collect()
}

fn nominations(world: &World, agent: Agent) -> usize {
    let events = world.events(agent).iter();
    events
        .filter(|(_, event)| matches!(event, Event::Nominated(_)))
        .count()
}

#[test]
fn a_full_agent_controls_a_lite_one_whatever_the_first_guesses_were() {
    for lite in [0, 1] {
        for roles in [
            [Role::Controlling, Role::Controlled],
            [Role::Controlled, Role::Controlling],
            [Role::Controlling; 2],
            [Role::Controlled; 2],
        ] {
            for signaling in [
                Signaling::trickled(ms(30)),
                Signaling::all_at_once(Duration::ZERO),
            ] {
                let mut modes = [Mode::Full; 2];
                modes[lite] = Mode::Lite;
                let mut peers = peers(1, modes, roles);
                peers.introduce(signaling);
                assert!(completed(&mut peers), "{roles:?}: {}", peers.world.trace());
                let [full, lite] = [peers.both()[1 - lite], peers.both()[lite]];
                assert_eq!(peers.role(full), Role::Controlling);
                assert_eq!(peers.role(lite), Role::Controlled);
                assert_eq!(requests(&peers.world, lite), 0, "a lite agent asks nothing");
                assert_eq!(nominations(&peers.world, lite), 1);
                peers.assert_mirrored_and_working();
            }
        }
    }
}

#[test]
fn a_full_agent_behind_two_nats_reaches_a_lite_one() {
    let nat = Nat::new(
        Dependence::AddressAndPortDependent,
        Dependence::AddressAndPortDependent,
    );
    let mut world = World::new(1);
    let link = quarter(ms(50));
    let (_, carrier) = world.add_nat(Realm::INTERNET, ip("203.0.113.1"), link, nat);
    let (_, home) = world.add_nat(carrier, ip("100.64.0.2"), Link::default(), nat);
    let host = world.add_host(home, &[ip("10.0.0.2")], Link::default());
    let server = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], link);
    let a = world
        .add_agent(host, config(Mode::Full, Role::Controlled))
        .expect("room");
    let b = world
        .add_agent(server, config(Mode::Lite, Role::Controlling))
        .expect("room");
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(completed(&mut peers), "{}", peers.world.trace());
    let pair = peers.world.selected_pair(b).expect("a pair");
    assert_eq!(
        (pair.local.kind, pair.remote.kind),
        (CandidateType::Host, CandidateType::Prflx)
    );
    // An hour of silence: the full agent's consent keeps the NATs open and the path alive.
    peers.world.run_for(Duration::from_secs(3600));
    for agent in peers.both() {
        assert_eq!(
            peers.world.state(agent),
            State::Completed,
            "{:?}",
            states(&peers.world, agent)
        );
    }
    peers.assert_data_both_ways();
}

#[test]
fn two_lite_agents_connect_without_a_check() {
    for roles in [
        [Role::Controlling, Role::Controlled],
        [Role::Controlled; 2],
        [Role::Controlling; 2],
    ] {
        let mut peers = peers(1, [Mode::Lite; 2], roles);
        peers.introduce(Signaling::trickled(ms(20)));
        assert!(completed(&mut peers), "{:?}", states(&peers.world, peers.a));
        assert_eq!(peers.world.trace().packets().len(), 0, "nothing was sent");
        // Each keeps the role it was given, and both chose the pair of the highest priority: IPv6.
        assert_eq!([peers.role(peers.a), peers.role(peers.b)], roles);
        let pair = peers
            .world
            .with_agent(peers.a, |agent, _| agent.selected_pair());
        let pair = pair.expect("it is open").expect("a pair");
        assert!(pair.nominated && pair.remote.ip_address().is_some_and(|at| at.is_ipv6()));
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn two_silent_lite_agents_keep_their_path_alive() {
    let mut peers = connected(1, [Mode::Lite; 2]);
    peers.world.run_for(Duration::from_secs(300));
    for agent in peers.both() {
        let sent: Vec<_> = sent_by(&peers.world, agent.node).collect();
        // RFC 8445 section 11: a Binding indication, every 15 seconds.
        let indication = |packet: &&_| {
            message(packet, Class::Indication)
                .is_some_and(|message| message.method() == Method::BINDING)
        };
        assert!(sent.iter().all(indication));
        assert_eq!(sent.len(), 20);
        let gaps = gaps(sent.iter().map(|packet| packet.sent));
        assert!(gaps.iter().all(|gap| *gap == ms(15_000)), "{gaps:?}");
        assert_eq!(peers.world.state(agent), State::Completed);
    }
    peers.assert_data_both_ways();
}

#[test]
fn a_lite_agent_whose_peer_renews_consent_sends_no_keepalive() {
    let mut peers = connected(1, [Mode::Full, Mode::Lite]);
    peers.world.run_for(Duration::from_secs(300));
    let keepalives = sent_by(&peers.world, peers.b.node)
        .filter(|packet| message(packet, Class::Indication).is_some());
    assert_eq!(keepalives.count(), 0);
}

#[test]
fn a_lite_agent_notices_that_its_peer_is_gone_and_that_it_is_back() {
    let mut peers = connected(1, [Mode::Full, Mode::Lite]);
    peers.world.run_for(Duration::from_secs(30));
    let lite = peers.b;
    // A short absence.
    peers.world.set_up(peers.a.node, false);
    peers.world.run_for(Duration::from_secs(20));
    assert_eq!(peers.world.state(lite), State::Disconnected);
    peers.world.set_up(peers.a.node, true);
    peers.world.run_for(Duration::from_secs(10));
    assert_eq!(peers.world.state(lite), State::Completed);
    // For ever.
    peers.world.set_up(peers.a.node, false);
    let gone = peers.world.now();
    peers.world.run_for(Duration::from_secs(60));
    let failed = peers.world.state_at(lite, State::Failed).expect("failed");
    let after = failed.since(gone);
    assert!((ms(24_000)..=ms(30_000)).contains(&after), "{after:?}");
    let verdict = peers
        .world
        .with_agent(lite, |agent, _| agent.verdict())
        .expect("it is open");
    assert_eq!(verdict, Some(Verdict::ConsentExpired));
    assert_eq!(
        peers.world.send(lite, b"anyone?"),
        Err(NoPath::ConsentExpired)
    );
    // Whoever knows the credentials may come back to the same path.
    let parameters = peers.parameters(lite);
    let theirs = peers.parameters(peers.a);
    let check = Check {
        to_ufrag: &parameters.ufrag,
        to_pwd: &parameters.pwd,
        from_ufrag: &theirs.ufrag,
        id: 77,
        controlling: Some(1),
        controlled: None,
        nominate: false,
        component: 1,
    };
    peers.world.set_up(peers.a.node, true);
    let (to, from) = ends(peers.world.selected_pair(lite).expect("a pair"));
    let (from, to) = (from.expect("an address"), to.expect("an address"));
    peers.world.inject(peers.a.node, from, to, &check.bytes());
    peers.world.run_for(ms(100));
    assert_eq!(peers.world.state(lite), State::Completed);
    peers.world.send(lite, b"there you are").expect("a path");
}

/// A restart makes no other peer of it: one that has asked for consent so far is expected to go on.
#[test]
fn a_lite_agent_notices_that_its_peer_is_gone_after_a_restart() {
    for by in [0, 1] {
        let mut peers = connected(1, [Mode::Full, Mode::Lite]);
        peers.world.run_for(Duration::from_secs(30));
        let agent = peers.both()[by];
        peers
            .world
            .with_agent(agent, |mut agent, now| agent.restart(now))
            .expect("open");
        assert!(completed(&mut peers));
        peers.world.set_up(peers.a.node, false);
        peers.world.run_for(Duration::from_secs(60));
        assert_eq!(peers.world.state(peers.b), State::Failed, "restart by {by}");
    }
}

#[test]
fn a_lite_agent_that_nobody_checks_says_so() {
    let mut peers = peers(
        1,
        [Mode::Full, Mode::Lite],
        [Role::Controlling, Role::Controlled],
    );
    peers.gather();
    let lite = peers.b;
    peers.tell(lite);
    peers.world.run_for(MINUTE);
    assert_eq!(states(&peers.world, lite), [State::Checking, State::Failed]);
    let verdict = peers
        .world
        .with_agent(lite, |agent, _| agent.verdict())
        .expect("it is open");
    assert_eq!(verdict, Some(Verdict::NotChecked));
    // A peer that comes after all is not too late.
    peers.tell(peers.a);
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.assert_mirrored_and_working();
}

#[test]
fn either_side_restarts_a_session_with_a_lite_agent_and_no_data_is_lost() {
    for restarts in [[true, false], [false, true], [true, true]] {
        let mut peers = connected(1, [Mode::Full, Mode::Lite]);
        let (full, lite) = (peers.a, peers.b);
        let before = [full, lite].map(|agent| nominations(&peers.world, agent));
        for (agent, _) in [full, lite].into_iter().zip(restarts).filter(|(_, it)| *it) {
            let restarted = peers
                .world
                .with_agent(agent, |mut agent, now| agent.restart(now));
            restarted.expect("it is open");
        }
        let mut sent = 0;
        while [full, lite].map(|agent| nominations(&peers.world, agent)) == before || sent < 100 {
            for agent in [full, lite] {
                peers.world.send(agent, b"still here").expect("a path");
            }
            sent += 1;
            peers.world.run_for(ms(10));
            assert!(sent < 1000, "{restarts:?}");
        }
        peers.world.run_for(Duration::from_secs(1));
        for agent in [full, lite] {
            assert_eq!(peers.world.received(agent).len(), sent, "{restarts:?}");
            assert_eq!(peers.world.state(agent), State::Completed);
        }
        assert_eq!(requests(&peers.world, lite), 0);
        assert_eq!(peers.role(lite), Role::Controlled);
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn the_latest_nomination_stands() {
    let mut peers = peers(
        1,
        [Mode::Full, Mode::Lite],
        [Role::Controlling, Role::Controlled],
    );
    peers.gather();
    let (node, lite) = (peers.a.node, peers.b);
    let parameters = peers.parameters(lite);
    let theirs = nilas_ice::Parameters::new("peer", "apasswordof22letters++");
    peers
        .world
        .deliver(lite, Signal::Parameters(theirs))
        .expect("parameters");
    let check = |id, nominate| {
        Check {
            to_ufrag: &parameters.ufrag,
            to_pwd: &parameters.pwd,
            from_ufrag: "peer",
            id,
            controlling: Some(1),
            controlled: None,
            nominate,
            component: 1,
        }
        .bytes()
    };
    let target = |peers: &Peers| {
        let pair = peers.world.selected_pair(lite)?;
        pair.remote.ip_address()
    };
    let own = host_addresses(&peers, lite);
    let [v6, v4] = ["[2001:db8::1]:7000", "192.0.2.1:7000"].map(address);
    let mut tell = |from: SocketAddr, bytes: &[u8]| {
        let to = own.iter().find(|own| own.is_ipv4() == from.is_ipv4());
        let to = to.expect("an address of each family");
        peers.world.inject(node, from, *to, bytes);
        peers.world.run_for(ms(100));
        target(&peers)
    };
    assert_eq!(
        tell(v6, &check(1, false)),
        None,
        "a check alone moves nothing"
    );
    assert_eq!(tell(v6, &check(2, true)), Some(v6));
    assert_eq!(tell(v4, &check(3, false)), Some(v6));
    assert_eq!(tell(v4, &check(4, true)), Some(v4));
    // One that nobody vouches for moves nothing.
    let mut forged = check(5, true);
    let length = forged.len();
    forged[length - 12] ^= 1;
    assert_eq!(tell(v6, &forged), Some(v4));
    assert_eq!(tell(v6, &check(6, true)), Some(v6));
}

#[test]
fn a_check_of_a_controlled_peer_is_answered_with_a_role_conflict() {
    let mut peers = peers(
        1,
        [Mode::Full, Mode::Lite],
        [Role::Controlled, Role::Controlling],
    );
    peers.gather();
    let lite = peers.b;
    let parameters = peers.parameters(lite);
    for tie_breaker in [0, u64::MAX] {
        let bytes = Check {
            to_ufrag: &parameters.ufrag,
            to_pwd: &parameters.pwd,
            from_ufrag: "peer",
            id: 1 + tie_breaker as u8 / 2,
            controlling: None,
            controlled: Some(tie_breaker),
            nominate: false,
            component: 1,
        }
        .bytes();
        let own = host_addresses(&peers, lite);
        let to = own.into_iter().find(SocketAddr::is_ipv4);
        let to = to.expect("an IPv4 candidate");
        peers
            .world
            .inject(peers.a.node, address("192.0.2.1:7000"), to, &bytes);
        peers.world.run_for(ms(200));
    }
    let codes: Vec<_> = sent_by(&peers.world, lite.node)
        .filter_map(|packet| message(packet, Class::ErrorResponse)?.error_code().ok()?)
        .map(|error| error.code())
        .collect();
    assert_eq!(codes, [ErrorCode::ROLE_CONFLICT.code(); 2]);
}

#[test]
fn a_lite_agent_takes_no_servers_and_says_that_it_is_lite() {
    let mut world = World::new(1);
    let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::default());
    let mut refused = config(Mode::Lite, Role::Controlled);
    refused
        .stun_servers
        .push(StunServer::from(address("192.0.2.9:3478")));
    assert_eq!(
        world.add_agent(host, refused).err(),
        Some(AgentError::LiteHasHostsOnly)
    );
    let mut refused = config(Mode::Lite, Role::Controlled);
    refused.addresses = AddressPolicy::RelayOnly;
    assert_eq!(
        world.add_agent(host, refused).err(),
        Some(AgentError::LiteHasHostsOnly)
    );
    let agent = world
        .add_agent(host, config(Mode::Lite, Role::Controlled))
        .expect("room");
    let parameters = world
        .with_agent(agent, |agent, _| agent.local_parameters())
        .expect("it is open");
    assert!(parameters.lite && parameters.pacing.is_none());
    // RFC 8445 section 7.3: a check before the peer's description is answered; data waits for it.
    let check = Check {
        to_ufrag: &parameters.ufrag,
        to_pwd: &parameters.pwd,
        from_ufrag: "peer",
        id: 1,
        controlling: Some(1),
        controlled: None,
        nominate: true,
        component: 1,
    };
    world.gather(agent).expect("it is open");
    world.run_for(ms(1));
    let to = match &world.events(agent)[1].1 {
        Event::Candidate(candidate) => candidate.ip_address().expect("an address"),
        other => panic!("{other:?}"),
    };
    let peer = world.add_host(Realm::INTERNET, &[ip("192.0.2.2")], Link::default());
    let from = address("192.0.2.2:7000");
    world.inject(peer, from, to, &check.bytes());
    world.run_for(ms(10));
    assert_eq!(world.send(agent, b"early"), Err(NoPath::NotConnected));
    let peer_parameters =
        nilas_ice::Parameters::new("peer", "a password of 22 letters".replace(' ', "+"));
    world
        .deliver(agent, Signal::Parameters(peer_parameters))
        .expect("parameters");
    assert!(world.is_up(agent));
    assert_eq!(
        world.state_at(agent, State::Connected).map(Time::as_nanos),
        Some(world.now().as_nanos())
    );
    world.send(agent, b"now").expect("a path");
}

#[test]
fn a_lite_agent_without_an_address_does_not_restart_for_ever() {
    let mut peers = connected(12, [Mode::Full, Mode::Lite]);
    assert!(completed(&mut peers));
    let b = peers.b;
    peers.world.remove_interface(b.node, 0);
    peers.world.run_for(2 * MINUTE);
    let before = peers.world.events(b).len();
    for _ in 0..2 {
        peers
            .world
            .with_agent(b, |mut agent, now| agent.restart(now))
            .expect("open");
        peers.world.run_for(ms(10));
    }
    peers.world.run_for(2 * MINUTE);
    let told = peers.world.events(b)[before..]
        .iter()
        .filter(|(_, event)| matches!(event, Event::LocalParameters(_)));
    assert!(told.count() < 6, "{:#?}", peers.world.events(b));
}
