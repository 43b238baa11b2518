//! Recordings of simulated sessions: they play back to equality, hold no secret, and stay within their limit.

use std::time::Duration;

use nilas_ice::selection::{Choice, Contender, SelectionPolicy, SelectionReason, Situation};
use nilas_ice::{
    AgentConfig, EngineConfig, Parameters, RecordingEnd, RecordingError, RecordingOptions, Role,
    State, explain, replay,
};
use nilas_sim::matrix::{Scenario, Servers, Session};
use nilas_sim::{Link, Nat, Realm, Signaling, World};
use rand_chacha::ChaCha8Rng;
use rand_core::{Rng, SeedableRng};

const PAYLOAD: &[u8] = b"a very private payload";

fn scenario(a: &str, b: &str, servers: Servers) -> Scenario {
    let mut scenario = Scenario::new(a.parse().unwrap(), b.parse().unwrap());
    scenario.servers = servers;
    scenario
}

/// The recordings of both peers, after they have sent each other something.
fn recordings(scenario: &Scenario) -> [Vec<u8>; 2] {
    let session = scenario.run_recorded(RecordingOptions::default());
    let mut session = session.expect("a world");
    talk(&mut session);
    end(&mut session)
}

fn talk(session: &mut Session) {
    for (from, to) in [(session.a, session.b), (session.b, session.a)] {
        if session.outcome.path.is_none() {
            continue;
        }
        // Loss may take some.
        for _ in 0..20 {
            session.world.send(from, PAYLOAD).expect("a path");
            session.world.run_for(Duration::from_millis(100));
        }
        let mut received = session.world.received(to).iter();
        assert!(received.any(|(_, data)| data == PAYLOAD));
    }
}

fn end(session: &mut Session) -> [Vec<u8>; 2] {
    [session.a, session.b].map(|agent| session.world.end_recording(agent.node))
}

fn assert_replays(recording: &[u8], what: &str) {
    let replay = replay(recording).unwrap_or_else(|error| panic!("{what}: {error}"));
    if let Some(difference) = &replay.difference {
        panic!("{what}: {difference}");
    }
    assert_eq!(replay.end, RecordingEnd::Whole, "{what}");
    assert!(replay.calls > 30, "{what}: {} calls", replay.calls);
}

fn assert_holds_not(recording: &[u8], secret: &[u8], what: &str) {
    let found = recording.windows(secret.len()).any(|part| part == secret);
    assert!(!found, "{what}");
}

#[test]
fn sessions_of_every_kind_play_back_to_equality() {
    for (a, b, servers) in [
        ("open", "open", Servers::None),
        ("plain", "plain", Servers::Stun),
        ("plain", "same", Servers::Stun),
        ("sym", "sym", Servers::Stun),
        ("sym", "sym", Servers::TurnUdp),
        ("sym", "sym", Servers::TurnTcp),
        ("sym", "plain+udpblock", Servers::Turn),
        ("plain+strict443", "sym", Servers::TurnTls),
        ("v6fw", "v6fw", Servers::Stun),
        ("nat64", "dual", Servers::Turn),
        ("multi", "cgn:plain:sym", Servers::Stun),
        ("plain+udpblock", "plain", Servers::Stun),
        ("plain+udpblock", "open", Servers::None),
        // By ICE-TCP.
        ("open+noudp", "plain", Servers::Stun),
    ] {
        for (loss, tcp) in [(0.0, false), (0.2, false), (0.1, true)] {
            let mut scenario = scenario(a, b, servers);
            scenario.loss = loss;
            scenario.tcp = tcp;
            scenario.tcp = a.contains("noudp");
            for (peer, recording) in recordings(&scenario).iter().enumerate() {
                let what = format!("{a} {b} {servers}, loss {loss}, TCP {tcp}, peer {peer}");
                assert_replays(recording, &what);
                assert_holds_not(recording, PAYLOAD, &what);
                assert_holds_not(recording, b"password", &what);
            }
        }
    }
}

/// Two peers behind NATs, recorded, with signaling.
fn pair(options: RecordingOptions) -> (World, [nilas_sim::Agent; 2]) {
    let mut world = World::new(3);
    world.record_hosts(options);
    let server = "198.51.100.1:3478".parse().unwrap();
    let link = Link::new(Duration::from_millis(10)).with_loss(0.05);
    world.add_stun_server(Realm::INTERNET, server, link);
    let agents = [1, 2].map(|n| {
        let outside = std::net::IpAddr::from([203, 0, 113, n]);
        let (_, home) = world.add_nat(Realm::INTERNET, outside, link, Nat::default());
        let addresses = [std::net::IpAddr::from([192, 168, n, 2])];
        let host = world.add_host(home, &addresses, Link::default());
        let mut config = AgentConfig::new(Role::Controlling);
        config.stun_servers.push(server.into());
        let ufrag = format!("user{n}");
        let pwd = format!("a-password-of-peer-number-{n}").replace('-', "+");
        config.credentials = Some(Parameters::new(ufrag, pwd));
        let agent = world.add_agent(host, config).unwrap();
        world.gather(agent).unwrap();
        agent
    });
    let signaling = Signaling::trickled(Duration::from_millis(30));
    world
        .signal_between(agents[0], agents[1], signaling)
        .unwrap();
    (world, agents)
}

#[test]
fn a_session_with_restarts_a_loss_and_an_end_plays_back_and_tells_no_password() {
    let (mut world, [a, b]) = pair(RecordingOptions::default());
    world.run_for(Duration::from_secs(10));
    assert!(world.is_up(a) && world.is_up(b));
    let mut secrets = Vec::new();
    let mut note = |world: &mut World| {
        for agent in [a, b] {
            let parameters = world.with_agent(agent, |agent, _| agent.local_parameters());
            secrets.push(parameters.unwrap().pwd);
        }
    };
    note(&mut world);
    world
        .with_agent(a, |mut agent, now| agent.restart(now))
        .unwrap();
    world.run_for(Duration::from_secs(10));
    note(&mut world);
    // The path dies; the agents restart by themselves, and fail.
    world.set_up(b.node, false);
    world.run_for(Duration::from_secs(60));
    note(&mut world);
    assert_eq!(world.state(a), State::Failed);
    world.set_up(b.node, true);
    world
        .with_agent(b, |mut agent, now| agent.restart(now))
        .unwrap();
    world.run_for(Duration::from_secs(30));
    note(&mut world);
    assert!(world.is_up(a) && world.is_up(b));
    world.with_agent(a, |agent, now| agent.close(now)).unwrap();
    world.run_for(Duration::from_secs(1));
    assert!(secrets.len() == 8 && secrets[0] != secrets[2]);
    for agent in [a, b] {
        let recording = world.end_recording(agent.node);
        assert_replays(&recording, "restarts");
        for secret in &secrets {
            assert_holds_not(&recording, secret.as_bytes(), secret);
        }
    }
}

#[test]
fn many_agents_of_one_engine_play_back_together() {
    for shared_port in [None, Some(0)] {
        many_agents_play_back(shared_port);
    }
}

fn many_agents_play_back(shared_port: Option<u16>) {
    let mut world = World::new(5);
    world.record_hosts(RecordingOptions::default());
    let hosts = [1, 2].map(|n| {
        let addresses = [std::net::IpAddr::from([192, 0, 2, n])];
        world.add_host(
            Realm::INTERNET,
            &addresses,
            Link::new(Duration::from_millis(5)),
        )
    });
    let mut config = EngineConfig::default();
    config.shared_port = shared_port;
    world.configure_engine(hosts[0], config);
    let pairs: Vec<_> = (0..5)
        .map(|_| {
            let [a, b] = hosts.map(|host| {
                let agent = world.add_agent(host, AgentConfig::new(Role::Controlling));
                let agent = agent.unwrap();
                world.gather(agent).unwrap();
                agent
            });
            let signaling = Signaling::trickled(Duration::from_millis(20));
            world.signal_between(a, b, signaling).unwrap();
            (a, b)
        })
        .collect();
    world.run_for(Duration::from_secs(20));
    assert!(
        pairs
            .iter()
            .all(|(a, b)| world.is_up(*a) && world.is_up(*b))
    );
    for host in hosts {
        assert_replays(&world.end_recording(host), "five agents");
    }
}

#[test]
fn a_changed_byte_is_found_wherever_it_is() {
    let scenario = scenario("sym", "plain", Servers::TurnUdp);
    let [recording, _] = recordings(&scenario);
    let whole = replay(&recording).unwrap();
    // What the version and the note say is not played.
    let start = 8 + 1 + whole.version.len() + 1;
    let mut unseen = 0;
    let mut seen = 0;
    for at in (start..recording.len()).step_by(17) {
        let mut changed = recording.clone();
        changed[at] ^= 1;
        match replay(&changed) {
            Ok(replay) if replay == whole => unseen += 1,
            Ok(replay) => {
                seen += 1;
                if let Some(difference) = &replay.difference {
                    assert_ne!(difference.expected, difference.got, "{at}");
                }
            }
            Err(RecordingError::Damaged { .. }) => seen += 1,
            Err(error) => panic!("{at}: {error}"),
        }
    }
    // Some mean nothing to anyone: the id of an indication, the room of a buffer, the words of a server's reason.
    assert!(unseen * 8 <= seen, "{unseen} unseen, {seen} seen");
}

#[test]
fn a_changed_digest_is_the_first_difference() {
    let [recording, _] = recordings(&scenario("open", "open", Servers::None));
    let whole = replay(&recording).unwrap();
    let found = (0..recording.len()).find_map(|at| {
        let mut changed = recording.clone();
        changed[at] ^= 1;
        let difference = replay(&changed).ok()?.difference?;
        let sends = |text: &str| text.starts_with("Transmit");
        // The digest itself, and nothing that it depends on.
        let itself = difference.offset < at;
        (itself && sends(&difference.expected) && sends(&difference.got)).then_some(difference)
    });
    let difference = found.expect("something is sent");
    assert!(difference.call < whole.calls, "{difference}");
    let (expected, got) = (&difference.expected, &difference.got);
    assert_ne!(expected, got);
    let text = difference.to_string();
    assert!(text.contains(expected) && text.contains(got), "{text}");
}

#[test]
fn a_recording_keeps_to_its_limit_and_says_what_is_missing() {
    let limit = 1000;
    let mut options = RecordingOptions::default();
    options.limit_bytes = limit;
    let (mut world, [a, b]) = pair(options);
    world.run_for(Duration::from_secs(10));
    assert!(world.is_up(a) && world.is_up(b));
    let recording = world.end_recording(a.node);
    assert!(recording.len() as u64 <= limit, "{}", recording.len());
    let replay = replay(&recording).unwrap();
    assert_eq!(replay.difference, None);
    let RecordingEnd::Limited { missed, until } = replay.end else {
        panic!("{}", replay.end);
    };
    assert!(missed > 50 && until > replay.until, "{missed} {until:?}");
    assert!(replay.end.to_string().contains("the end is missing"));
}

#[test]
fn a_recording_that_stops_anywhere_is_played_as_far_as_it_goes() {
    let [recording, _] = recordings(&scenario("plain", "plain", Servers::Stun));
    let whole = replay(&recording).unwrap();
    let mut calls = 0;
    for length in (0..recording.len()).step_by(11) {
        match replay(&recording[..length]) {
            Ok(replay) => {
                assert_eq!(replay.difference, None, "{length}");
                assert!(
                    matches!(replay.end, RecordingEnd::CutOff { .. }),
                    "{length}"
                );
                assert!((calls..=whole.calls).contains(&replay.calls), "{length}");
                calls = replay.calls;
            }
            Err(error) => assert!(length < 40, "{length}: {error}"),
        }
    }
    assert!(calls > 30);
}

#[test]
fn what_is_no_recording_is_refused() {
    assert_eq!(replay(b""), Err(RecordingError::NotARecording));
    assert_eq!(
        replay(b"{\"json\":true}"),
        Err(RecordingError::NotARecording)
    );
    let [mut recording, _] = recordings(&scenario("open", "open", Servers::None));
    recording[7] = 99;
    assert_eq!(replay(&recording), Err(RecordingError::Version(99)));
}

/// Whatever is made of a recording, it is read, refused, or played to its first difference.
#[test]
fn a_recording_full_of_lies_does_no_harm() {
    let kinds = [
        ("sym", "plain", Servers::Turn),
        ("dual", "dual", Servers::TurnUdp),
    ];
    for (a, b, servers) in kinds {
        let [recording, _] = recordings(&scenario(a, b, servers));
        let mut random = ChaCha8Rng::seed_from_u64(7);
        for round in 0..300 {
            let mut lies = recording.clone();
            for _ in 0..=random.next_u32() % 8 {
                let at = random.next_u64() as usize % lies.len();
                match random.next_u32() % 4 {
                    0 => lies[at] = random.next_u32() as u8,
                    1 => lies[at] ^= 1 << (random.next_u32() % 8),
                    // A part that comes twice, and one that is gone.
                    2 => lies.extend_from_within(at..(at + 200).min(lies.len())),
                    _ => drop(lies.drain(at..(at + 3).min(lies.len()))),
                }
            }
            let (played, again) = (replay(&lies), replay(&lies));
            assert_eq!(played, again, "round {round} of {a} {b}");
            let explained = explain(&lies);
            let whole = played.is_ok_and(|replay| replay.difference.is_none());
            assert!(!whole || explained.is_ok(), "round {round} of {a} {b}");
            if let Ok(explained) = explained {
                assert!(!explained.to_string().is_empty());
            }
        }
    }
}

/// A function is not in a recording: that there was one is.
#[test]
fn a_policy_of_the_application_s_own_is_missing_and_that_is_said() {
    fn last(_: &Situation, paths: &[Contender]) -> Option<Choice> {
        let index = paths.len().checked_sub(1)?;
        Some(Choice::new(index, SelectionReason::Best))
    }
    for policy in [None, Some(last as SelectionPolicy)] {
        let mut world = World::new(1);
        world.record_hosts(RecordingOptions::default());
        let [a, b] = [1, 2].map(|n| {
            let address = [192, 0, 2, n].into();
            let link = Link::new(Duration::from_millis(10));
            let host = world.add_host(Realm::INTERNET, &[address], link);
            let role = [Role::Controlling, Role::Controlled][usize::from(n) - 1];
            let mut config = AgentConfig::new(role);
            config.selection = policy;
            let agent = world.add_agent(host, config).unwrap();
            world.gather(agent).unwrap();
            agent
        });
        let signaling = Signaling::trickled(Duration::from_millis(10));
        world.signal_between(a, b, signaling).unwrap();
        world.run_for(Duration::from_secs(5));
        let replay = replay(&world.end_recording(a.node)).unwrap();
        assert_eq!(replay.foreign_policy, policy.is_some());
    }
}
