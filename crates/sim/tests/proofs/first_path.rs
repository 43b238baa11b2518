//! How soon the first path is there, in virtual time: no fixed wait stands anywhere on that way.

use std::time::Duration;

use crate::common::{
    MINUTE, Peers, Setup, address, first_selected, ip, ms, quarter, transactions, with_stun,
};
use nilas_ice::{AgentConfig, CandidateType, Event, Role, State, Time};
use nilas_sim::{Access, Link, Nat, Realm, Side, Signal, Signaling, World};

/// From the moment both descriptions are known on a side to the first selected pair there.
fn waited(peers: &Peers) -> [Duration; 2] {
    peers.both().map(|agent| {
        let selected = first_selected(&peers.world, agent).expect("a selected pair");
        selected.since(
            peers
                .world
                .remote_parameters_at(agent)
                .expect("it knows its peer"),
        )
    })
}

#[test]
fn host_to_host_takes_one_round_trip_whatever_its_length() {
    for round_trip in [0, 1, 20, 50, 200, 600, 1500].map(ms) {
        let mut peers = Setup {
            round_trip,
            ..Setup::default()
        }
        .introduced();
        assert!(
            peers.run_until_up(MINUTE).is_some(),
            "{}",
            peers.world.trace()
        );
        // A check and its answer: the physical limit, and half of what the bar allows.
        assert_eq!(waited(&peers), [round_trip; 2], "round trip {round_trip:?}");
        for agent in peers.both() {
            assert_eq!(
                peers.world.state_at(agent, State::Connected),
                first_selected(&peers.world, agent)
            );
        }
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn within_two_round_trips_whenever_the_signals_come() {
    // The two sides learn of each other at different times, up to two round trips apart.
    for round_trip in [50, 200].map(ms) {
        for signaling in [0, 10, 25, 60, 100, 400].map(ms) {
            let mut peers = Setup {
                round_trip,
                ..Setup::default()
            }
            .peers();
            peers.world.gather(peers.a).expect("a is open");
            peers
                .world
                .signal_between(peers.a, peers.b, Signaling::trickled(signaling))
                .expect("open");
            // As with offer and answer: the second peer begins when it hears of the first.
            let b = peers.b;
            let heard = peers
                .world
                .run_until(MINUTE, |world| world.remote_parameters_at(b).is_some());
            assert!(heard.is_some());
            peers.world.gather(b).expect("b is open");
            assert!(
                peers.run_until_up(MINUTE).is_some(),
                "{}",
                peers.world.trace()
            );
            for (agent, waited) in peers.both().into_iter().zip(waited(&peers)) {
                // The last candidate may come later than the parameters: count from both.
                let known = peers
                    .world
                    .remote_parameters_at(agent)
                    .expect("it knows its peer");
                let both = known.max(Time::from_millis(0) + 2 * signaling);
                let selected = first_selected(&peers.world, agent).expect("a pair");
                assert!(
                    selected.since(both) <= 2 * round_trip,
                    "{agent:?} waited {waited:?} at {round_trip:?} and {signaling:?}"
                );
            }
        }
    }
}

#[test]
fn many_addresses_do_not_delay_the_first_path() {
    for addresses in [2, 5, 10] {
        let mut peers = Setup {
            addresses,
            ..Setup::default()
        }
        .introduced();
        assert!(peers.run_until_up(MINUTE).is_some());
        assert!(
            waited(&peers).into_iter().all(|waited| waited <= ms(100)),
            "{:?}",
            waited(&peers)
        );
    }
}

#[test]
fn the_dead_server_of_a_list_delays_nothing() {
    let mut world = World::new(1);
    let hosts = ["192.0.2.1", "192.0.2.2"]
        .map(|a| world.add_host(Realm::INTERNET, &[ip(a)], quarter(ms(50))));
    let dead = address("198.51.100.9:3478");
    let a = world
        .add_agent(hosts[0], with_stun(Role::Controlling, dead))
        .expect("room");
    let b = world
        .add_agent(hosts[1], with_stun(Role::Controlled, dead))
        .expect("room");
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(Duration::ZERO));
    // RFC 8445 section 14.2: the request to the server took the first slot, so the check took the next.
    assert_eq!(peers.run_until_up(MINUTE), Some(Time::from_millis(55)));
    // The dead server is told of in the end, and gathering does end.
    let told = |world: &World, agent| {
        world.events(agent).iter().any(|(_, event)| {
            matches!(event, Event::CandidateError(error) if error.error_code == 701 && error.url.contains("198.51.100.9"))
        })
    };
    let done = peers
        .world
        .run_until(MINUTE, |world| told(world, a) && told(world, b));
    assert!(done.is_some(), "{:#?}", peers.world.events(a));
}

#[test]
fn a_name_that_resolves_slowly_delays_nothing() {
    let mut world = World::new(1);
    world.set_name_delay(Duration::from_secs(5));
    let server = address("198.51.100.1:3478");
    world.add_name("stun.example.org", &[server.ip()]);
    world.add_stun_server(Realm::INTERNET, server, Link::new(ms(5)));
    let hosts = ["192.0.2.1", "192.0.2.2"]
        .map(|a| world.add_host(Realm::INTERNET, &[ip(a)], quarter(ms(50))));
    let [a, b] = [0, 1].map(|n: usize| {
        let mut config = AgentConfig::new([Role::Controlling, Role::Controlled][n]);
        config.stun_servers.push(nilas_ice::StunServer {
            host: "stun.example.org".into(),
            port: 3478,
        });
        config.stun_servers.push(nilas_ice::StunServer {
            host: "no.such.name".into(),
            port: 3478,
        });
        world.add_agent(hosts[n], config).expect("room")
    });
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(Duration::ZERO));
    assert_eq!(peers.run_until_up(MINUTE), Some(Time::from_millis(50)));
    peers.world.run_for(MINUTE);
    let errors = peers
        .world
        .events(a)
        .iter()
        .filter_map(|(_, event)| match event {
            Event::CandidateError(error) => Some(error.url.as_str()),
            _ => None,
        });
    assert_eq!(errors.collect::<Vec<_>>(), ["stun:no.such.name:3478"]);
}

#[test]
fn behind_two_nats_the_first_path_comes_within_two_round_trips() {
    for round_trip in [50, 200].map(ms) {
        let mut world = World::new(1);
        let server = address("198.51.100.1:3478");
        world.add_stun_server(Realm::INTERNET, server, Link::new(ms(2)));
        let [a, b] = ["203.0.113.1", "203.0.113.2"].map(|outside| {
            let (_, home) = world.add_nat(
                Realm::INTERNET,
                ip(outside),
                quarter(round_trip),
                Nat::default(),
            );
            let host = world.add_host(home, &[ip("192.168.1.2")], Link::default());
            let role = if outside.ends_with('1') {
                Role::Controlling
            } else {
                Role::Controlled
            };
            world
                .add_agent(host, with_stun(role, server))
                .expect("room")
        });
        let mut peers = Peers { world, a, b };
        peers.introduce(Signaling::all_at_once(ms(30)));
        assert!(
            peers.run_until_up(MINUTE).is_some(),
            "{}",
            peers.world.trace()
        );
        assert!(
            waited(&peers).into_iter().all(|w| w <= 2 * round_trip),
            "{:?}",
            waited(&peers)
        );
        for agent in peers.both() {
            let pair = peers.world.selected_pair(agent).expect("a pair");
            assert_eq!(pair.local.kind, CandidateType::Srflx, "{pair:?}");
        }
        peers.assert_data_both_ways();
    }
}

#[test]
fn a_check_that_came_too_early_for_a_firewall_does_not_cost_the_better_path() {
    // One peer hears of the other some milliseconds earlier: its first check over IPv6 is dropped by the other's
    // firewall, which nothing has left yet. IPv4, through NATs, is there at once.
    for controlling in [0, 1] {
        for lead in 0..12 {
            let mut world = World::new(1);
            let link = quarter(ms(1));
            let stun = address("198.51.100.1:3478");
            world.add_stun_server(Realm::INTERNET, stun, link);
            let dual: Access = "dual".parse().expect("a kind");
            let first = world.add_peer(Side::A, dual, link, None).expect("a peer");
            let second = world
                .add_peer(Side::B, dual, link, Some(&first))
                .expect("a peer");
            let [a, b] = [(0, first), (1, second)].map(|(n, peer)| {
                let role = if n == controlling {
                    Role::Controlling
                } else {
                    Role::Controlled
                };
                world
                    .add_agent(peer.host, with_stun(role, stun))
                    .expect("room")
            });
            let mut peers = Peers { world, a, b };
            peers.gather();
            peers.world.run_for(ms(100));
            let early = peers.both()[controlling];
            let late = peers.both()[1 - controlling];
            // What a server told comes later, as it does.
            let told_by_server = |signal: &Signal| match signal {
                Signal::Candidate(candidate) => candidate.kind == CandidateType::Srflx,
                signal => *signal == Signal::EndOfCandidates,
            };
            let (later, at_once): (Vec<_>, Vec<_>) =
                peers.told(late).into_iter().partition(told_by_server);
            assert_eq!(later.len(), 2);
            for signal in at_once {
                peers.world.deliver(early, signal).expect("accepted");
            }
            peers.world.run_for(ms(lead));
            peers.tell(late);
            peers.world.run_for(ms(20));
            for signal in later {
                peers.world.deliver(early, signal).expect("accepted");
            }
            peers.world.run_for(MINUTE);
            for agent in peers.both() {
                let pair = peers
                    .world
                    .with_agent(agent, |agent, _| agent.selected_pair());
                let pair = pair.expect("open").expect("a pair");
                assert!(pair.nominated);
                assert!(
                    pair.base.is_ipv6(),
                    "{lead} ms ahead: {pair:?}\n{}",
                    peers.world.trace()
                );
            }
            peers.assert_mirrored_and_working();
        }
    }
}

/// RFC 8421 section 4: addresses of one family do not wait for all those of the other.
#[test]
fn the_two_families_take_turns() {
    for role in [Role::Controlling, Role::Controlled] {
        let mut world = World::new(1);
        let [a, b] = [(1, role), (2, role.opposite())].map(|(n, role)| {
            let v4 = (1..=3).map(|k| ip(&format!("192.0.{n}.{k}")));
            let v6 = (1..=3).map(|k| ip(&format!("2001:db8:{n}::{k}")));
            let all: Vec<_> = v4.chain(v6).collect();
            let host = world.add_host(Realm::INTERNET, &all, Link::new(ms(10)));
            world.add_agent(host, AgentConfig::new(role)).expect("room")
        });
        let mut peers = Peers { world, a, b };
        peers.introduce(Signaling::all_at_once(Duration::ZERO));
        // Nothing answers, so that all is tried.
        peers.world.set_up(b.node, false);
        peers.world.run_for(ms(400));
        let tried: Vec<_> = transactions(&peers.world, a.node)
            .iter()
            .take(18)
            .map(|(_, from, _)| match from.is_ipv6() {
                true => 6,
                false => 4,
            })
            .collect();
        // A pair is as good as the worse of its ends: those of the best, of the second, of the third.
        let turns = [(1, 6), (1, 4), (3, 6), (3, 4), (5, 6), (5, 4)];
        let expected = turns.into_iter().flat_map(|(n, family)| vec![family; n]);
        assert_eq!(tried, expected.collect::<Vec<_>>(), "{role:?}");
    }
}
