//! Agents that need a relay, in virtual time.

use std::time::Duration;

use nilas_ice::{
    AddressPolicy, AgentConfig, CandidateType, Credentials, Event, GatheringState, Role, State,
    StreamTransport, TurnServer as Server, TurnTransport, Verdict,
};
use nilas_sim::{
    Access, Agent, Dependence, Link, Nat, NodeId, Realm, Side, Signaling, TurnServer, World,
};
use nilas_turn::server::{AlternateServer, ServerConfig};

use nilas_stun::{Class, Method};

use crate::common::{MINUTE, Peers, address, ip, message, ms, quarter, sent_by, with_stun};

pub(crate) const SYMMETRIC: Nat = Nat::new(
    Dependence::AddressAndPortDependent,
    Dependence::AddressAndPortDependent,
);

pub(crate) fn with_turn(role: Role, password: &str) -> AgentConfig {
    let credentials = Credentials {
        username: "ann".into(),
        password: password.into(),
    };
    let mut config = AgentConfig::new(role);
    let server = Server::new("198.51.100.1", 3478, TurnTransport::Udp, credentials);
    config.turn_servers.push(server);
    config
}

/// Two peers behind NATs, each a quarter of 50 ms from the middle of the Internet, as is the server.
fn peers(
    seed: u64,
    nats: [Nat; 2],
    configure: impl FnMut(usize, &mut AgentConfig),
) -> (Peers, NodeId) {
    let server = TurnServer::new("ann", "secret").expect("good words");
    peers_of(server, seed, nats, configure)
}

/// The same with these roles.
pub(crate) fn peers_with_roles(seed: u64, nats: [Nat; 2], roles: [Role; 2]) -> (Peers, NodeId) {
    peers(seed, nats, |n, config| config.role = roles[n])
}

/// The same with a server of one's own.
pub(crate) fn peers_of(
    server: TurnServer,
    seed: u64,
    nats: [Nat; 2],
    mut configure: impl FnMut(usize, &mut AgentConfig),
) -> (Peers, NodeId) {
    let mut world = World::new(seed);
    let server = world.add_turn_server(
        Realm::INTERNET,
        &[ip("198.51.100.1")],
        quarter(ms(50)),
        server,
    );
    let [a, b] = [0, 1].map(|n: usize| {
        let outside = ip(&format!("203.0.113.{}", n + 1));
        let (_, home) = world.add_nat(Realm::INTERNET, outside, quarter(ms(50)), nats[n]);
        let host = world.add_host(home, &[ip(&format!("10.0.{n}.2"))], Link::default());
        let mut config = with_turn([Role::Controlling, Role::Controlled][n], "secret");
        configure(n, &mut config);
        world.add_agent(host, config).expect("room")
    });
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(25)));
    (peers, server)
}

/// The kinds of the candidates of both sides' selected pairs.
pub(crate) fn kinds(peers: &Peers) -> [(CandidateType, CandidateType); 2] {
    peers.both().map(|agent| {
        let pair = peers.world.selected_pair(agent).expect("a pair");
        (pair.local.kind, pair.remote.kind)
    })
}

#[test]
fn two_symmetric_nats_carry_data_by_a_relay_within_six_round_trips() {
    for seed in 1..20 {
        let (mut peers, _) = peers(seed, [SYMMETRIC; 2], |_, _| {});
        let up = peers.run_until_up(MINUTE);
        let up = up.unwrap_or_else(|| panic!("seed {seed}:\n{}", peers.world.trace()));
        assert!(
            up <= nilas_ice::Time::from_millis(6 * 50),
            "seed {seed}: {up:?}\n{}",
            peers.world.trace()
        );
        peers.assert_data_both_ways();
        peers.world.run_for(MINUTE);
        for agent in peers.both() {
            assert_eq!(peers.world.state(agent), State::Completed, "seed {seed}");
        }
        let [a, b] = kinds(&peers);
        assert_eq!((a.0, a.1), (b.1, b.0), "seed {seed}");
        assert!(
            a.0 == CandidateType::Relay || a.1 == CandidateType::Relay,
            "{a:?}"
        );
        peers.assert_data_both_ways();
    }
}

#[test]
fn a_direct_path_is_preferred_to_the_relay() {
    let (mut peers, _) = peers(1, [Nat::default(); 2], |_, _| {});
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.world.run_for(MINUTE);
    for (local, remote) in kinds(&peers) {
        assert_ne!(local, CandidateType::Relay);
        assert_ne!(remote, CandidateType::Relay);
    }
}

/// RFC 8445 section 6.1.2.5 discards the pairs of the lowest priority, which are those of relays.
#[test]
fn however_few_pairs_there_may_be_the_one_of_both_relays_is_among_them() {
    for roles in [Role::Controlling, Role::Controlled].map(|role| [role, role.opposite()]) {
        let (mut peers, _) = peers(1, [SYMMETRIC; 2], |n, config| {
            config.role = roles[n];
            config.max_pairs = 2;
        });
        assert!(peers.run_until_up(MINUTE).is_some(), "{roles:?}");
        let relays = (CandidateType::Relay, CandidateType::Relay);
        assert_eq!(kinds(&peers), [relays; 2], "{roles:?}");
        assert!(peers.pair_stats(peers.a).len() <= 2);
        peers.assert_mirrored_and_working();
    }
}

/// Where there is room for one pair, it is not kept for the relays.
#[test]
fn of_one_pair_the_direct_one_is_left() {
    let mut world = World::new(1);
    let server = TurnServer::new("ann", "secret").expect("good words");
    let link = quarter(ms(50));
    world.add_turn_server(Realm::INTERNET, &[ip("198.51.100.1")], link, server);
    let [one, other] = ["203.0.113.1", "203.0.113.2"]
        .map(|own| world.add_host(Realm::INTERNET, &[ip(own)], quarter(ms(50))));
    let configs = [Role::Controlling, Role::Controlled].map(|role| {
        let mut config = with_turn(role, "secret");
        config.max_pairs = 1;
        config
    });
    let mut peers = Peers::meet(world, [one, other], configs, ms(25));
    assert!(peers.run_until_up(MINUTE).is_some());
    for (local, remote) in kinds(&peers) {
        assert!(![local, remote].contains(&CandidateType::Relay));
    }
    peers.assert_mirrored_and_working();
}

#[test]
fn a_relay_costs_what_the_network_costs_that_it_is_reached_by() {
    for transport in WAYS {
        let (mut peers, _) = peers(1, [Nat::default(); 2], |_, config| {
            config.turn_servers[0].transport = transport;
            config
                .stun_servers
                .push(address("198.51.100.1:3478").into());
        });
        let (node, a) = (peers.a.node, peers.a);
        peers.world.set_interface_cost(node, 0, 900);
        assert!(peers.run_until_up(MINUTE).is_some());
        peers.world.run_for(MINUTE);
        for (local, remote) in kinds(&peers) {
            assert_ne!(local, CandidateType::Relay, "{transport:?}");
            assert_ne!(remote, CandidateType::Relay, "{transport:?}");
        }
        assert_relays_cost_900(&peers.world, a);
    }
}

fn assert_relays_cost_900(world: &World, agent: Agent) {
    let told = world.events(agent).iter();
    let relayed: Vec<_> = told
        .filter_map(|(_, event)| match event {
            Event::Candidate(own) if own.kind == CandidateType::Relay => Some(own.to_string()),
            _ => None,
        })
        .collect();
    assert!(!relayed.is_empty());
    assert!(
        relayed.iter().all(|own| own.contains("network-cost 900")),
        "{relayed:?}"
    );
}

#[test]
fn a_network_that_does_not_lead_to_the_relay_s_server_makes_it_no_cheaper() {
    for transport in WAYS {
        let mut world = World::new(1);
        let server = TurnServer::new("ann", "secret").expect("good words");
        let link = || quarter(ms(50));
        world.add_turn_server(Realm::INTERNET, &[ip("198.51.100.1")], link(), server);
        let host = world.add_host(Realm::INTERNET, &[ip("2001:db8::1")], link());
        world.add_interface(host, Realm::INTERNET, &[ip("192.0.2.1")], link());
        world.set_interface_cost(host, 1, 900);
        let mut config = with_turn(Role::Controlling, "secret");
        config.turn_servers[0].transport = transport;
        let agent = world.add_agent(host, config).expect("room");
        world.gather(agent).expect("open");
        world.run_for(MINUTE);
        assert_relays_cost_900(&world, agent);
    }
}

#[test]
fn who_wants_only_a_relay_shows_no_other_address() {
    let (mut peers, _) = peers(1, [Nat::default(); 2], |_, config| {
        config.addresses = AddressPolicy::RelayOnly
    });
    assert!(
        peers.run_until_up(MINUTE).is_some(),
        "{}",
        peers.world.trace()
    );
    peers.world.run_for(MINUTE);
    assert_eq!(
        kinds(&peers),
        [(CandidateType::Relay, CandidateType::Relay); 2]
    );
    peers.assert_data_both_ways();
    for agent in peers.both() {
        for (_, event) in peers.world.events(agent) {
            if let Event::Candidate(candidate) = event {
                assert_eq!(candidate.kind, CandidateType::Relay);
                assert_eq!(candidate.related, Some(address("0.0.0.0:9")));
            }
        }
    }
}

#[test]
fn a_relayed_session_lasts_for_hours() {
    let (mut peers, server) = peers(1, [SYMMETRIC; 2], |_, _| {});
    assert!(peers.run_until_up(MINUTE).is_some());
    // Longer than allocations, permissions, channels and nonces live.
    for _ in 0..24 {
        peers.world.run_for(10 * MINUTE);
        peers.assert_data_both_ways();
    }
    for agent in peers.both() {
        assert_eq!(peers.world.state(agent), State::Completed);
        let lost = |event: &Event| {
            matches!(
                event,
                Event::StateChange {
                    state: State::Disconnected,
                    ..
                }
            )
        };
        assert!(
            !peers
                .world
                .events(agent)
                .iter()
                .any(|(_, event)| lost(event))
        );
    }
    // Both are closed, and both allocations were given back at once.
    for agent in peers.both() {
        peers
            .world
            .with_agent(agent, |agent, now| agent.close(now))
            .expect("open");
    }
    peers.world.run_for(Duration::from_secs(1));
    let counters = peers.world.turn_counters(server);
    assert_eq!(counters.allocations_made, 2, "{counters:?}");
    assert_eq!(counters.allocations, 0, "{counters:?}");
    // Nothing else was waited for: no socket is left.
    for agent in peers.both() {
        assert_eq!(peers.world.engine_sockets(agent.node), []);
    }
}

#[test]
fn a_wrong_password_is_told_and_is_the_verdict() {
    let (mut peers, _) = peers(1, [SYMMETRIC; 2], |_, config| {
        config.turn_servers[0].credentials.password = "wrong".into();
    });
    peers.world.run_for(2 * MINUTE);
    for agent in peers.both() {
        let told = |event: &Event| {
            matches!(event, Event::CandidateError(error)
                if error.error_code == 401 && error.url == "turn:198.51.100.1:3478?transport=udp")
        };
        assert!(
            peers
                .world
                .events(agent)
                .iter()
                .any(|(_, event)| told(event))
        );
        let verdict = peers
            .world
            .with_agent(agent, |agent, _| agent.verdict())
            .expect("open");
        assert!(
            matches!(verdict, Some(Verdict::NoRelay { .. })),
            "{verdict:?}"
        );
    }
}

/// RFC 8656 section 7.4, error 486: a restart does not ask again within a minute, and says so.
#[test]
fn a_server_that_refused_for_its_quota_is_left_alone_for_a_minute() {
    let mut config = ServerConfig::new("sim.example").expect("a realm");
    config.add_user("ann", "secret").expect("good words");
    config.max_allocations_per_user = 1;
    config.peer_rule.allow = vec!["203.0.113.0/24".parse().expect("a prefix")];
    let server = TurnServer::with_config(config);
    let (mut peers, _) = peers_of(server, 1, [Nat::default(); 2], |_, config| {
        config
            .stun_servers
            .push(address("198.51.100.1:3478").into());
    });
    assert!(peers.run_until_up(MINUTE).is_some());
    let refusals = |world: &World, agent| {
        let refused = |(_, event): &&_| matches!(event, Event::CandidateError(error) if error.error_code == 486);
        world.events(agent).iter().filter(refused).count()
    };
    let asked = |world: &World, agent: Agent| {
        sent_by(world, agent.node)
            .filter_map(|packet| message(packet, Class::Request))
            .filter(|message| message.method() == Method::ALLOCATE)
            .count()
    };
    let both = peers.both();
    let refused = both
        .into_iter()
        .find(|agent| refusals(&peers.world, *agent) == 1);
    let agent = refused.expect("one of them is refused");
    let before = asked(&peers.world, agent);
    let restart = |peers: &mut Peers| {
        peers
            .world
            .with_agent(agent, |mut agent, now| agent.restart(now))
            .expect("open");
        peers.world.run_for(Duration::from_secs(10));
    };
    restart(&mut peers);
    assert_eq!(refusals(&peers.world, agent), 2, "it is told again");
    assert_eq!(asked(&peers.world, agent), before);
    peers.world.run_for(MINUTE);
    restart(&mut peers);
    assert!(asked(&peers.world, agent) > before);
    assert!(both.iter().all(|agent| peers.world.is_up(*agent)));
}

#[test]
fn lost_packets_do_not_keep_a_relay_from_being_found() {
    for seed in 1..50 {
        let (mut peers, _) = {
            let (mut peers, server) = peers(seed, [SYMMETRIC; 2], |_, _| {});
            let lossy = quarter(ms(50)).with_loss(0.1);
            peers.world.set_link(server, lossy);
            (peers, server)
        };
        assert!(
            peers.run_until_up(MINUTE).is_some(),
            "seed {seed}:\n{}",
            peers.world.trace()
        );
    }
}

#[test]
fn where_udp_is_blocked_a_session_goes_through_its_relay_by_tcp_or_tls() {
    for (word, port, transport) in [
        ("plain+noudp", 3478, StreamTransport::Tcp),
        ("sym+udpblock", 443, StreamTransport::Tls),
        ("dual+tcp443", 443, StreamTransport::Tls),
    ] {
        goes_through_the_relay(word, port, TurnTransport::Stream(transport));
    }
}

#[test]
fn behind_a_translator_an_ipv4_relay_is_found_by_its_name() {
    let tls = TurnTransport::Stream(StreamTransport::Tls);
    for (port, transport) in [(3478, TurnTransport::Udp), (443, tls)] {
        goes_through_the_relay("nat64", port, transport);
    }
}

/// A peer behind `word`, with a relay that has an IPv4 address only, and one that has no relay.
fn goes_through_the_relay(word: &str, port: u16, transport: TurnTransport) {
    for loss in [0.0, 0.05] {
        let mut world = World::new(1);
        let link = quarter(ms(50)).with_loss(loss);
        let server = TurnServer::new("ann", "secret").expect("good words");
        let addresses = [ip("198.51.100.1")];
        let server = server.on_tls(&[443]);
        let server = world.add_turn_server(Realm::INTERNET, &addresses, link, server);
        world.add_name("turn.example", &addresses);
        world.set_name_delay(ms(20));
        let blocked: Access = word.parse().expect("a kind");
        let blocked = world
            .add_peer(Side::A, blocked, link, None)
            .expect("a peer");
        let open: Access = "eim-apdf".parse().expect("a kind");
        let open = world
            .add_peer(Side::B, open, link, Some(&blocked))
            .expect("a peer");
        let credentials = Credentials {
            username: "ann".into(),
            password: "secret".into(),
        };
        let mut config = AgentConfig::new(Role::Controlling);
        // A translator leads to the peer directly as well.
        if word == "nat64" {
            config.addresses = AddressPolicy::RelayOnly;
        }
        config
            .turn_servers
            .push(Server::new("turn.example", port, transport, credentials));
        let a = world.add_agent(blocked.host, config).expect("room");
        // The relay lets the peer in by its address on the Internet.
        let config = with_stun(Role::Controlled, address("198.51.100.1:3478"));
        let b = world.add_agent(open.host, config).expect("room");
        let mut peers = Peers { world, a, b };
        peers.introduce(Signaling::trickled(ms(25)));
        let up = peers.run_until_up(MINUTE);
        assert!(up.is_some(), "{word}:\n{}", peers.world.trace());
        peers.world.run_for(MINUTE);
        assert_eq!(kinds(&peers)[0].0, CandidateType::Relay, "{word}");
        peers.assert_data_both_ways();
        let streams = u64::from(transport != TurnTransport::Udp);
        assert_eq!(peers.world.turn_counters(server).streams, streams, "{word}");
        // With its agent the connection goes.
        peers
            .world
            .with_agent(peers.a, |agent, now| agent.close(now))
            .expect("open");
        peers.world.run_for(MINUTE);
        let counters = peers.world.turn_counters(server);
        assert_eq!((counters.streams, counters.allocations), (0, 0), "{word}");
    }
}

/// A server that sends everybody to another one.
fn elsewhere(to: &str) -> TurnServer {
    let mut config = ServerConfig::new("sim.example").expect("good words");
    config.add_user("ann", "secret").expect("good words");
    config.redirect = true;
    config.alternate_servers = vec![AlternateServer {
        address: address(to),
        domain: None,
    }];
    TurnServer::with_config(config)
}

/// Two peers behind symmetric NATs whose only server is 198.51.100.1, reached in this way.
fn sent_elsewhere(transport: TurnTransport, mut world: World, loss: f64) -> (Peers, [NodeId; 2]) {
    let nats = [0, 1].map(|n: usize| {
        let outside = ip(&format!("203.0.113.{}", n + 1));
        let link = quarter(ms(50)).with_loss(loss);
        world.add_nat(Realm::INTERNET, outside, link, SYMMETRIC)
    });
    let [a, b] = [0, 1].map(|n: usize| {
        let home = nats[n].1;
        let host = world.add_host(home, &[ip(&format!("10.0.{n}.2"))], Link::default());
        let mut config = with_turn([Role::Controlling, Role::Controlled][n], "secret");
        config.turn_servers[0].transport = transport;
        world.add_agent(host, config).expect("room")
    });
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(25)));
    (peers, nats.map(|(router, _)| router))
}

const WAYS: [TurnTransport; 2] = [
    TurnTransport::Udp,
    TurnTransport::Stream(StreamTransport::Tcp),
];

/// RFC 8489 section 10.
#[test]
fn a_server_that_sends_its_clients_elsewhere_is_followed() {
    for transport in WAYS {
        for loss in [0.0, 0.05] {
            let mut world = World::new(1);
            let here = [ip("198.51.100.1")];
            let link = quarter(ms(50));
            let to = elsewhere("198.51.100.2:3478");
            let first = world.add_turn_server(Realm::INTERNET, &here, link, to);
            let there = [ip("198.51.100.2")];
            let server = TurnServer::new("ann", "secret").expect("good words");
            let second = world.add_turn_server(Realm::INTERNET, &there, link, server);
            let (mut peers, nats) = sent_elsewhere(transport, world, loss);
            let up = peers.run_until_up(MINUTE);
            assert!(up.is_some(), "{transport:?}:\n{}", peers.world.trace());
            peers.world.run_for(MINUTE);
            peers.assert_data_both_ways();
            let [first, second] = [first, second].map(|node| peers.world.turn_counters(node));
            assert_eq!((first.allocations_made, second.allocations_made), (0, 2));
            assert!(first.redirected >= 2, "{first:?}");
            // Where a connection breaks, it is so again at once: that is another request.
            peers.world.reboot(nats[0]);
            peers.world.run_for(MINUTE);
            peers.assert_mirrored_and_working();
        }
    }
}

#[test]
fn servers_that_send_their_clients_around_are_not_followed_for_ever() {
    for transport in WAYS {
        let mut world = World::new(1);
        let link = quarter(ms(50));
        // The one sends to the other, and the other back.
        let nodes = [
            ("198.51.100.1", "198.51.100.2"),
            ("198.51.100.2", "198.51.100.1"),
        ]
        .map(|(at, to)| {
            let to = elsewhere(&format!("{to}:3478"));
            world.add_turn_server(Realm::INTERNET, &[ip(at)], link, to)
        });
        let (mut peers, _) = sent_elsewhere(transport, world, 0.0);
        peers.world.run_for(MINUTE);
        for agent in peers.both() {
            assert_sent_around(&peers, agent, transport);
            let told = peers.world.events(agent);
            assert!(
                told.iter().any(|(_, event)| matches!(
                    event,
                    Event::GatheringStateChange(GatheringState::Complete)
                )),
                "nobody waits for them: {told:?}"
            );
        }
        // Each agent asked each of them once.
        let redirected = nodes.map(|node| peers.world.turn_counters(node).redirected);
        assert_eq!(redirected, [2, 2], "{transport:?}");
    }
}

/// No address is asked twice here, and still it ends.
#[test]
fn a_chain_of_redirections_is_followed_four_times() {
    for transport in WAYS {
        let mut world = World::new(1);
        let nodes = [1, 2, 3, 4, 5, 6].map(|n| {
            let here = ip(&format!("198.51.100.{n}"));
            let to = elsewhere(&format!("198.51.100.{}:3478", n + 1));
            world.add_turn_server(Realm::INTERNET, &[here], quarter(ms(50)), to)
        });
        let (mut peers, _) = sent_elsewhere(transport, world, 0.0);
        peers.world.run_for(MINUTE);
        for agent in peers.both() {
            assert_sent_around(&peers, agent, transport);
        }
        let redirected = nodes.map(|node| peers.world.turn_counters(node).redirected);
        assert_eq!(redirected, [2, 2, 2, 2, 2, 0], "{transport:?}");
    }
}

fn assert_sent_around(peers: &Peers, agent: Agent, transport: TurnTransport) {
    let errors: Vec<_> = peers
        .world
        .events(agent)
        .iter()
        .filter_map(|(_, event)| match event {
            Event::CandidateError(error) => Some((error.error_code, &*error.error_text)),
            _ => None,
        })
        .collect();
    let text = "the servers send each other's clients around";
    assert_eq!(errors, [(300, text)], "{transport:?}");
}

#[test]
fn a_restart_connects_anew_to_the_server_that_failed_and_to_no_other() {
    let (mut peers, server) = peers(1, [SYMMETRIC; 2], |_, config| {
        let mut by_stream = config.turn_servers.remove(0);
        by_stream.transport = TurnTransport::Stream(StreamTransport::Tcp);
        let mut dead = by_stream.clone();
        // Nobody listens there.
        dead.port = 9;
        config.turn_servers = vec![dead, by_stream];
    });
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.world.run_for(MINUTE);
    assert_eq!(peers.world.turn_counters(server).allocations_made, 2);
    let a = peers.a;
    let restart = peers
        .world
        .with_agent(a, |mut agent, now| agent.restart(now));
    restart.expect("open");
    peers.world.run_for(MINUTE);
    assert_eq!(peers.world.turn_counters(server).allocations_made, 2);
    peers.assert_data_both_ways();
}

/// Both reach the relay over TCP.
fn over_tcp(seed: u64, nats: [Nat; 2]) -> (Peers, NodeId) {
    peers(seed, nats, |_, config| {
        config.turn_servers[0].transport = TurnTransport::Stream(StreamTransport::Tcp);
    })
}

#[test]
fn a_server_that_was_restarted_relays_again_by_datagrams_and_by_streams() {
    for tcp in [false, true] {
        let (mut peers, server) = match tcp {
            true => over_tcp(3, [SYMMETRIC; 2]),
            false => peers_with_roles(3, [SYMMETRIC; 2], [Role::Controlling, Role::Controlled]),
        };
        assert!(peers.run_until_up(MINUTE).is_some());
        peers.world.run_for(MINUTE);
        peers.assert_data_both_ways();
        peers.world.reboot(server);
        peers.world.run_for(MINUTE);
        let up = peers.both().map(|agent| peers.world.state(agent));
        assert!(up.iter().all(|state| state.is_up()), "{tcp}: {up:?}");
        peers.assert_data_both_ways();
    }
}

/// The peer takes six minutes to answer a restart: longer than a permission lasts, and shorter than the allocation that
/// carries the data meanwhile.
#[test]
fn the_old_relay_carries_the_data_until_a_restart_has_selected() {
    for side in [0, 1] {
        let (mut peers, server) = peers(4, [SYMMETRIC; 2], |_, _| {});
        assert!(peers.run_until_up(MINUTE).is_some());
        peers.world.run_for(Duration::from_secs(10));
        let [a, b] = peers.both();
        let restarted = peers.both()[side];
        let old = kinds(&peers);
        peers.world.hold_signals(restarted);
        peers
            .world
            .with_agent(restarted, |mut agent, now| agent.restart(now))
            .expect("open");
        let before = [a, b].map(|agent| peers.world.received(agent).len());
        for _ in 0..360 {
            for agent in [a, b] {
                peers.world.send(agent, b"still here").expect("a path");
            }
            peers.world.run_for(ms(1_000));
        }
        assert_eq!(kinds(&peers), old, "nothing new is known yet");
        peers.world.release_signals(restarted);
        peers.world.run_for(Duration::from_secs(10));
        for (agent, before) in [a, b].into_iter().zip(before) {
            assert_eq!(peers.world.received(agent).len() - before, 360);
            assert_eq!(peers.world.state(agent), State::Completed);
        }
        // What is there serves the next generation, too.
        assert_eq!(peers.world.turn_counters(server).allocations_made, 2);
        peers.assert_data_both_ways();
    }
}

/// No STUN server is given: what a TURN server sees takes its place, in each generation.
#[test]
fn what_the_relays_server_sees_is_told_again_after_a_restart() {
    for side in [0, 1] {
        let (mut peers, _) = peers(1, [Nat::default(); 2], |_, _| {});
        assert!(peers.run_until_up(MINUTE).is_some());
        for _ in 0..3 {
            peers.world.run_for(Duration::from_secs(10));
            for (local, remote) in kinds(&peers) {
                assert!(![local, remote].contains(&CandidateType::Relay), "{side}");
            }
            let agent = peers.both()[side];
            peers
                .world
                .with_agent(agent, |mut agent, now| agent.restart(now))
                .expect("open");
        }
    }
}

/// The direct pairs of the restart that the absence has brought about fail before it ends; a relayed address comes after it.
#[test]
fn a_network_that_was_away_for_long_comes_back_to_a_direct_path() {
    for (roles, before) in [Role::Controlling, Role::Controlled]
        .into_iter()
        .flat_map(|role| [0, 2, 5, 20].map(|before| ([role, role.opposite()], before)))
    {
        let mut world = World::new(1);
        let server = TurnServer::new("ann", "secret").expect("good words");
        let link = |delay| Link::new(ms(delay));
        world.add_turn_server(Realm::INTERNET, &[ip("198.51.100.1")], link(20), server);
        let open = world.add_host(Realm::INTERNET, &[ip("203.0.113.1")], link(28));
        let (_, home) = world.add_nat(Realm::INTERNET, ip("203.0.113.2"), link(21), Nat::default());
        let (_, cell) = world.add_nat(Realm::INTERNET, ip("203.0.113.3"), link(27), SYMMETRIC);
        let phone = world.add_host(home, &[ip("10.0.0.2")], Link::default());
        world.add_interface(phone, cell, &[ip("10.0.1.2")], Link::default());
        let configs = roles.map(|role| with_turn(role, "secret"));
        let mut peers = Peers::meet(world, [open, phone], configs, ms(99));
        assert!(peers.run_until_up(MINUTE).is_some());
        peers.world.run_for(Duration::from_secs(before));
        peers.world.set_up(open, false);
        peers.world.run_for(Duration::from_secs(44));
        peers.world.set_up(open, true);
        peers.world.run_for(MINUTE + MINUTE);
        for agent in peers.both() {
            let pair = peers.world.selected_pair(agent).expect("a path");
            let kinds = [pair.local.kind, pair.remote.kind];
            let what = format!("{roles:?}, {before} s: {kinds:?}");
            assert!(!kinds.contains(&CandidateType::Relay), "{what}");
        }
    }
}
