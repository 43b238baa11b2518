//! What `explain` says of recorded sessions. The sentences stand in `tests/explained`; with `UPDATE=1` in the environment
//! they are written anew, to be read before they are kept.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use nilas_ice::explain::{Advice, Explanation, Outcome, PairEnd, ServerEnd, Slow, explain};
use nilas_ice::{AgentConfig, RecordingOptions, Role, State, Verdict};
use nilas_sim::matrix::{Scenario, Servers};
use nilas_sim::{Link, Nat, Realm, Signaling, World};

/// Of the first peer, after as many seconds more.
fn explained(a: &str, b: &str, servers: Servers) -> Explanation {
    let mut scenario = Scenario::new(a.parse().unwrap(), b.parse().unwrap());
    scenario.servers = servers;
    let session = scenario.run_recorded(RecordingOptions::default());
    let mut session = session.expect("a world");
    explain(&session.world.end_recording(session.a.node)).expect("a recording")
}

#[expect(
    clippy::disallowed_methods,
    reason = "whoever runs the test says whether the sentences are to be kept"
)]
fn assert_says(name: &str, explanation: &Explanation) {
    let path =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/explained/{name}.txt"));
    let version = format!("nilas {}", explanation.recorded_by);
    let text = explanation.to_string().replace(&version, "nilas");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(
        text, kept,
        "{name}: run again with UPDATE=1 if that is right"
    );
    // The typed value can be told in full, too.
    let json = serde_json::to_value(explanation).unwrap();
    assert!(json["agents"][0]["pairs"].is_array(), "{json}");
}

#[test]
fn a_direct_path_needs_no_advice() {
    let explanation = explained("plain", "plain", Servers::Stun);
    let agent = &explanation.agents[0];
    assert_eq!(agent.outcome, Outcome::Connected { relayed: false });
    assert_eq!(agent.for_direct, []);
    assert_eq!(agent.pairs[0].end, PairEnd::Selected);
    assert_says("direct", &explanation);
}

#[test]
fn two_symmetric_nats_without_a_relay_are_named() {
    let explanation = explained("sym", "sym", Servers::Stun);
    let agent = &explanation.agents[0];
    let verdict = Verdict::RelayNeeded { pairs: 2 };
    assert_eq!(agent.outcome, Outcome::Failed { verdict });
    assert!(agent.pairs.iter().all(|pair| pair.end == PairEnd::NoAnswer));
    assert_eq!(agent.for_direct, [Advice::EitherNat, Advice::Ipv6]);
    assert!(matches!(agent.slow[..], [Slow::GivingUp { .. }]));
    assert_says("symmetric-without-relay", &explanation);
}

#[test]
fn a_relay_that_was_needed_says_whose_nat_it_was() {
    let explanation = explained("sym", "sym", Servers::TurnUdp);
    let agent = &explanation.agents[0];
    assert_eq!(agent.outcome, Outcome::Connected { relayed: true });
    let nats = [Advice::LocalNat, Advice::RemoteNat, Advice::Ipv6];
    assert_eq!(agent.for_direct, nats);
    assert_says("relay", &explanation);
}

#[test]
fn udp_that_is_blocked_is_told_from_servers_that_are_dead() {
    let explanation = explained("plain+udpblock", "plain", Servers::Turn);
    let agent = &explanation.agents[0];
    assert_eq!(agent.outcome, Outcome::Connected { relayed: true });
    assert_eq!(agent.for_direct, [Advice::LetUdpOut]);
    assert_says("udp-blocked", &explanation);
}

/// Two peers behind NATs on the way to each other, the first with these STUN servers, of which one answers.
fn world(servers: &[SocketAddr]) -> (World, [nilas_sim::Agent; 2]) {
    let mut world = World::new(1);
    world.record_hosts(RecordingOptions::default());
    let link = Link::new(Duration::from_millis(10));
    let alive = "198.51.100.1:3478".parse().unwrap();
    world.add_stun_server(Realm::INTERNET, alive, link);
    let agents = [1, 2].map(|n| {
        let outside = IpAddr::from([203, 0, 113, n]);
        let (_, home) = world.add_nat(Realm::INTERNET, outside, link, Nat::default());
        let addresses = [IpAddr::from([192, 168, n, 2])];
        let host = world.add_host(home, &addresses, Link::default());
        let mut config =
            AgentConfig::new([Role::Controlling, Role::Controlled][usize::from(n) - 1]);
        config.restarts_alone = false;
        for server in servers {
            config.stun_servers.push((*server).into());
        }
        let agent = world.add_agent(host, config).unwrap();
        world.gather(agent).unwrap();
        agent
    });
    (world, agents)
}

#[test]
fn a_dead_stun_server_is_named_beside_one_that_answers() {
    let dead = "198.51.100.2:3478".parse().unwrap();
    let (mut world, [a, b]) = world(&[dead, "198.51.100.1:3478".parse().unwrap()]);
    // The descriptions take their time.
    let signaling = Signaling::all_at_once(Duration::from_secs(2));
    world.signal_between(a, b, signaling).unwrap();
    world.run_for(Duration::from_secs(60));
    let explanation = explain(&world.end_recording(a.node)).unwrap();
    let agent = &explanation.agents[0];
    assert_eq!(agent.outcome, Outcome::Connected { relayed: false });
    assert!(matches!(
        agent.servers[0].end,
        ServerEnd::Unreachable { .. }
    ));
    assert!(matches!(agent.servers[1].end, ServerEnd::Answered { .. }));
    assert!(
        agent
            .slow
            .iter()
            .any(|slow| matches!(slow, Slow::Signaling { .. })),
        "{:?}",
        agent.slow
    );
    assert_says("dead-stun-server", &explanation);
}

#[test]
fn a_peer_that_vanished_is_no_fault_of_the_network() {
    let (mut world, [a, b]) = world(&["198.51.100.1:3478".parse().unwrap()]);
    let signaling = Signaling::trickled(Duration::from_millis(30));
    world.signal_between(a, b, signaling).unwrap();
    world.run_for(Duration::from_secs(10));
    assert!(world.is_up(a));
    world.set_up(b.node, false);
    world.run_for(Duration::from_secs(60));
    assert_eq!(world.state(a), State::Failed);
    let explanation = explain(&world.end_recording(a.node)).unwrap();
    let agent = &explanation.agents[0];
    assert_eq!(agent.outcome, Outcome::Lost { relayed: false });
    assert_eq!(agent.pairs[0].end, PairEnd::Died);
    assert_eq!(agent.for_direct, [Advice::PeerBack]);
    assert_says("vanished-peer", &explanation);
}

#[test]
fn a_restart_is_counted_and_its_pairs_are_told_apart() {
    let (mut world, [a, b]) = world(&["198.51.100.1:3478".parse().unwrap()]);
    let signaling = Signaling::trickled(Duration::from_millis(30));
    world.signal_between(a, b, signaling).unwrap();
    world.run_for(Duration::from_secs(10));
    world
        .with_agent(a, |mut agent, now| agent.restart(now))
        .unwrap();
    world.run_for(Duration::from_secs(20));
    world.with_agent(a, |agent, now| agent.close(now)).unwrap();
    let explanation = explain(&world.end_recording(a.node)).unwrap();
    let agent = &explanation.agents[0];
    assert_eq!(agent.outcome, Outcome::Connected { relayed: false });
    assert_eq!(agent.restarts, 1);
    let replaced = |end| agent.pairs.iter().filter(|pair| pair.end == end).count();
    assert_eq!(
        (replaced(PairEnd::Selected), replaced(PairEnd::Replaced)),
        (1, 1)
    );
    assert_says("restart", &explanation);
}

#[test]
fn candidates_that_were_taken_back_are_told_from_those_that_are_there() {
    let (mut world, [a, b]) = world(&["198.51.100.1:3478".parse().unwrap()]);
    let signaling = Signaling::trickled(Duration::from_millis(30));
    world.signal_between(a, b, signaling).unwrap();
    world.run_for(Duration::from_secs(10));
    world.remove_interface(a.node, 0);
    world.run_for(Duration::from_secs(1));
    let [own, theirs] = [a, b].map(|agent| explain(&world.end_recording(agent.node)).unwrap());
    let lists = [
        &own.agents[0].local_candidates,
        &theirs.agents[0].remote_candidates,
    ];
    for candidates in lists {
        assert!(!candidates.is_empty());
        for candidate in candidates {
            let at = candidate.removed_ms.unwrap_or_default();
            assert!((10_000.0..10_100.0).contains(&at), "{candidates:?}");
            let words = candidate.to_string();
            assert!(words.contains("taken back after 10.0 s"), "{words}");
        }
    }
    let there = &own.agents[0].remote_candidates;
    assert!(there.iter().all(|candidate| candidate.removed_ms.is_none()));
}

#[test]
fn what_is_missing_at_the_end_is_said() {
    let mut scenario = Scenario::new("plain".parse().unwrap(), "plain".parse().unwrap());
    scenario.servers = Servers::Stun;
    let mut options = RecordingOptions::default();
    options.limit_bytes = 900;
    let mut session = scenario.run_recorded(options).expect("a world");
    let recording = session.world.end_recording(session.a.node);
    let explanation = explain(&recording).unwrap();
    assert!(!explanation.complete);
    assert_eq!(explanation.agents[0].outcome, Outcome::Undecided);
    assert!(
        explanation
            .to_string()
            .contains("The end of the recording is missing")
    );
}
