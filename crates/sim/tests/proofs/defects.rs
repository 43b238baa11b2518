//! Seven defects that were found in other implementations of ICE, each as a scenario in which nilas does what is
//! right. The names are those of the implementations as they were when somebody looked; they may be mended since.

use std::time::Duration;

use nilas_ice::{
    AddressPolicy, AgentConfig, CandidateType, Credentials, Event, GatheringState, Role, State,
    StreamTransport, Time, TurnServer as Server, TurnTransport,
};
use nilas_sim::{Agent, Fate, Link, Nat, NodeId, Realm, Signal, Signaling, TurnServer, World};
use nilas_stun::{Class, Method};
use nilas_turn::server::ServerConfig;

use crate::common::{
    MINUTE, Peers, Setup, address, ip, message, ms, quarter, sent_by, states, with_stun,
};
use crate::relay::{SYMMETRIC, kinds, peers_of};

const ROLES: [[Role; 2]; 2] = [
    [Role::Controlling, Role::Controlled],
    [Role::Controlled, Role::Controlling],
];

fn server() -> TurnServer {
    TurnServer::new("ann", "secret").expect("good words")
}

/// A server with other limits than usual, on the same terms.
fn server_with(change: impl FnOnce(&mut ServerConfig)) -> TurnServer {
    let mut config = ServerConfig::new("sim.example").expect("a realm");
    config.add_user("ann", "secret").expect("good words");
    config.peer_rule.allow = vec!["203.0.113.0/24".parse().expect("a network")];
    config
        .peer_rule
        .allow
        .push("198.51.100.0/24".parse().expect("a network"));
    change(&mut config);
    TurnServer::with_config(config)
}

fn nominated_at(world: &World, agent: Agent) -> Option<Time> {
    let mut events = world.events(agent).iter();
    events
        .find(|(_, event)| matches!(event, Event::Nominated(_)))
        .map(|(at, _)| *at)
}

fn gathered_at(world: &World, agent: Agent) -> Option<Time> {
    let complete = Event::GatheringStateChange(GatheringState::Complete);
    let mut events = world.events(agent).iter();
    events
        .find(|(_, event)| *event == complete)
        .map(|(at, _)| *at)
}

fn restarts(world: &World, agent: Agent) -> usize {
    let told = |(_, event): &&(Time, Event)| matches!(event, Event::LocalParameters(_));
    world.events(agent).iter().filter(told).count()
}

/// pion waits for 2 s before it accepts a relayed pair, even where the application allows relays only: the wait is
/// computed before the option is read (pion/ice issue 324).
#[test]
fn where_only_relays_are_allowed_nobody_waits_for_something_better() {
    for roles in ROLES {
        let (mut peers, _) = peers_of(server(), 1, [Nat::default(); 2], |n, config| {
            config.role = roles[n];
            config.addresses = AddressPolicy::RelayOnly;
        });
        assert!(peers.run_until_up(MINUTE).is_some(), "{roles:?}");
        peers.world.run_for(MINUTE);
        assert_eq!(
            kinds(&peers),
            [(CandidateType::Relay, CandidateType::Relay); 2]
        );
        for agent in peers.both() {
            // Two round trips for the allocation, one for the permission, one for the check, each by way of the
            // server, and ten of patience with pairs that are no better.
            let at = nominated_at(&peers.world, agent).expect("nominated");
            assert!(at <= Time::from_millis(1_000), "{roles:?}: {at:?}");
        }
    }
}

/// In pion a pair has failed after 1.6 s, and a check of the peer does not take it up again, against RFC 8445
/// section 7.3.1.4: a controlled peer that begins seven seconds late is never connected to.
#[test]
fn a_peer_that_begins_late_is_connected_to_as_soon_as_it_begins() {
    // The last of them comes after the other has failed, with all its pairs.
    for seconds in [5, 7, 10, 45] {
        for roles in ROLES {
            let round_trip = ms(50);
            let mut peers = Setup {
                roles,
                round_trip,
                ..Setup::default()
            }
            .peers();
            // Both know the other's candidates. The program of b does not run yet: nothing answers there.
            let (a, b) = (peers.a, peers.b);
            peers.gather();
            peers.tell(a);
            peers.world.set_up(b.node, false);
            peers.world.run_for(Duration::from_secs(seconds));
            let failed = peers.world.state(a) == State::Failed;
            assert_eq!(
                failed,
                seconds > 40,
                "{seconds} s: {:?}",
                states(&peers.world, a)
            );
            peers.world.set_up(b.node, true);
            peers.tell(b);
            let begun = peers.world.now();
            let up = peers.run_until_up(MINUTE);
            let up =
                up.unwrap_or_else(|| panic!("{seconds} s, {roles:?}:\n{}", peers.world.trace()));
            // Its check, the triggered one, and the answers.
            let took = up.since(begun);
            assert!(took <= round_trip * 2, "{seconds} s, {roles:?}: {took:?}");
            peers.assert_mirrored_and_working();
        }
    }
}

/// pion asks a STUN server with one datagram and waits for five seconds: where that datagram is lost, there is no
/// server-reflexive candidate.
#[test]
fn a_lost_question_to_a_stun_server_is_asked_again() {
    let stun = address("198.51.100.1:3478");
    for question_lost in [true, false] {
        let mut world = World::new(1);
        let server = world.add_stun_server(Realm::INTERNET, stun, quarter(ms(50)));
        let outside = ip("203.0.113.1");
        let (router, home) =
            world.add_nat(Realm::INTERNET, outside, quarter(ms(50)), Nat::default());
        let host = world.add_host(home, &[ip("10.0.0.2")], Link::default());
        let agent = world
            .add_agent(host, with_stun(Role::Controlling, stun))
            .expect("room");
        // The question is under way for 25 ms, and the answer for as long.
        let (deaf, since) = if question_lost {
            (server, 1)
        } else {
            (router, 30)
        };
        world.gather(agent).expect("open");
        world.run_for(ms(since));
        world.set_up(deaf, false);
        world.run_for(ms(100));
        world.set_up(deaf, true);
        let packets = world.trace().packets().iter();
        let arrived = packets.filter(|packet| matches!(packet.fate, Fate::Delivered { .. }));
        assert_eq!(
            arrived.count(),
            usize::from(!question_lost),
            "{}",
            world.trace()
        );
        let found = |(_, event): &(Time, Event)| {
            matches!(event, Event::Candidate(told) if told.kind == CandidateType::Srflx
                && told.ip_address().map(|known| known.ip()) == Some(outside))
        };
        let known = world.run_until(MINUTE, |world| world.events(agent).iter().any(found));
        // RFC 8489 section 6.2.1: again after an RTO of 500 ms, and then a round trip.
        let known = known.unwrap_or_else(|| panic!("{}", world.trace()));
        assert!(known <= Time::from_millis(600), "{known:?}");
        world.run_for(ms(1));
        assert_eq!(gathered_at(&world, agent), Some(known));
    }
}

/// pion connects to a TURN server over TCP without a deadline: where a firewall swallows the SYN, gathering has not
/// ended after 90 s.
#[test]
fn a_turn_server_behind_a_black_hole_ends_gathering_late_and_the_session_not_at_all() {
    for roles in ROLES {
        let mut peers = Setup {
            roles,
            ..Setup::default()
        }
        .peers();
        let tcp = TurnTransport::Stream(StreamTransport::Tcp);
        let credentials = Credentials {
            username: "ann".into(),
            password: "secret".into(),
        };
        // Nobody has this address, and nobody says so.
        let nowhere = Server::new("198.51.100.200", 3478, tcp, credentials);
        let mut config = AgentConfig::new(roles[0]);
        config.turn_servers.push(nowhere);
        peers.a = peers.world.add_agent(peers.a.node, config).expect("room");
        peers.introduce(Signaling::trickled(ms(25)));
        let up = peers.run_until_up(MINUTE).expect("the host pair");
        assert!(up <= Time::from_millis(200), "{up:?}");
        peers.assert_data_both_ways();
        peers.world.run_for(MINUTE);
        let gathered = gathered_at(&peers.world, peers.a).expect("it ends");
        assert!(gathered <= Time::from_millis(10_000), "{gathered:?}");
        let told = peers.world.events(peers.a).iter().any(|(_, event)| {
            matches!(event, Event::CandidateError(error)
                if error.error_code == 701 && error.url == "turn:198.51.100.200:3478?transport=tcp")
        });
        assert!(told, "{:#?}", peers.world.events(peers.a));
        for agent in peers.both() {
            assert_eq!(peers.world.state(agent), State::Completed);
        }
    }
}

/// libjuice refreshes its allocation every nine minutes, whatever lifetime the server has granted: one that grants
/// less takes it away.
#[test]
fn an_allocation_is_refreshed_by_the_lifetime_that_was_granted() {
    for lifetime in [60, 300].map(Duration::from_secs) {
        let server = server_with(|config| {
            config.default_lifetime = lifetime;
            config.max_lifetime = lifetime;
        });
        let (mut peers, server) = peers_of(server, 1, [SYMMETRIC; 2], |_, config| {
            config.restarts_alone = false;
        });
        assert!(peers.run_until_up(MINUTE).is_some());
        for _ in 0..30 {
            peers.world.run_for(2 * MINUTE);
            peers.assert_data_both_ways();
        }
        let counters = peers.world.turn_counters(server);
        assert_eq!(counters.allocations_made, 2, "{lifetime:?}: {counters:?}");
        assert_eq!(counters.allocations, 2, "{lifetime:?}: {counters:?}");
        for agent in peers.both() {
            let states = states(&peers.world, agent);
            assert!(!states.contains(&State::Disconnected), "{states:?}");
        }
    }
}

/// libnice in its defaults never notices that a path was lost.
#[test]
fn a_lost_path_is_noticed_without_being_asked_to() {
    for vanishing in [0, 1] {
        let mut world = World::new(1);
        let homes = ["192.0.2.1", "192.0.2.2"].map(|home| [ip(home)]);
        let hosts = homes.map(|home| world.add_host(Realm::INTERNET, &home, quarter(ms(50))));
        // Every setting is the default.
        let configs = ROLES[0].map(AgentConfig::new);
        let mut peers = Peers::meet(world, hosts, configs, ms(25));
        assert!(peers.run_until_up(MINUTE).is_some());
        peers.world.run_for(MINUTE);
        let (gone, left) = (peers.both()[vanishing], peers.both()[1 - vanishing]);
        peers.world.set_up(gone.node, false);
        let since = peers.world.now();
        // A restart of the agent's own accord finds nobody, either, and is given RFC 8863's time.
        for (state, least, most) in [(State::Disconnected, 1, 7), (State::Failed, 24, 47)] {
            let told = peers
                .world
                .run_until(2 * MINUTE, |world| world.state(left) == state);
            let took = told.unwrap_or_else(|| panic!("no {state:?}")).since(since);
            let (least, most) = (Duration::from_secs(least), Duration::from_secs(most));
            assert!((least..=most).contains(&took), "{state:?} after {took:?}");
        }
    }
}

/// libnice gives a peer that is silent seven seconds, and then the session has failed: too early for an answer that
/// a person has to give.
#[test]
fn a_peer_that_takes_half_a_minute_is_waited_for() {
    for roles in ROLES {
        let mut peers = Setup {
            roles,
            ..Setup::default()
        }
        .peers();
        let (a, b) = (peers.a, peers.b);
        peers.gather();
        // a knows who b is, and b's person has not answered yet: no candidate of b is known.
        let parameters = peers.parameters(b);
        peers
            .world
            .deliver(a, Signal::Parameters(parameters))
            .expect("accepted");
        peers.world.run_for(Duration::from_secs(30));
        assert!(!states(&peers.world, a).contains(&State::Failed));
        let begun = peers.world.now();
        peers.tell(a);
        peers.tell(b);
        let up = peers.run_until_up(MINUTE).expect("a path");
        assert!(up.since(begun) <= ms(100), "{:?}", up.since(begun));
        peers.assert_mirrored_and_working();
    }
}

/// Whether somebody asked a server for this.
fn asks(world: &World, node: NodeId, since: Time, method: Method) -> bool {
    sent_by(world, node)
        .filter(|packet| packet.sent >= since)
        .any(|packet| message(packet, Class::Request).is_some_and(|m| m.method() == method))
}

/// In libwebrtc one CreatePermission or ChannelBind that fails takes the connection with it, until somebody restarts
/// ICE. Here the server has no channel for anybody.
#[test]
fn a_refused_channel_costs_a_session_nothing() {
    for roles in ROLES {
        let server = server_with(|config| config.max_channels = 0);
        let (mut peers, _) = peers_of(server, 1, [SYMMETRIC; 2], |n, config| {
            config.role = roles[n];
        });
        assert!(peers.run_until_up(MINUTE).is_some());
        for _ in 0..20 {
            peers.world.run_for(MINUTE);
            peers.assert_data_both_ways();
        }
        let asked = peers
            .both()
            .iter()
            .any(|agent| asks(&peers.world, agent.node, Time::ZERO, Method::CHANNEL_BIND));
        assert!(asked, "a channel must be refused to prove anything");
        for agent in peers.both() {
            let states = states(&peers.world, agent);
            assert!(!states.contains(&State::Disconnected), "{states:?}");
            assert_eq!(restarts(&peers.world, agent), 0);
        }
    }
}

/// The same of libwebrtc: here the server refuses one of the peer's addresses, and lets another in.
#[test]
fn a_refused_permission_costs_one_pair_and_no_other() {
    for roles in ROLES {
        let mut world = World::new(1);
        let server = server_with(|config| config.peer_rule.allow.truncate(1));
        world.add_turn_server(
            Realm::INTERNET,
            &[ip("198.51.100.1")],
            quarter(ms(50)),
            server,
        );
        let outside = ip("203.0.113.1");
        let (_, home) = world.add_nat(Realm::INTERNET, outside, quarter(ms(50)), SYMMETRIC);
        let behind = world.add_host(home, &[ip("10.0.0.2")], Link::default());
        let open = world.add_host(
            Realm::INTERNET,
            &[ip("192.0.2.9"), ip("203.0.113.9")],
            quarter(ms(50)),
        );
        let mut config = AgentConfig::new(roles[0]);
        let credentials = Credentials {
            username: "ann".into(),
            password: "secret".into(),
        };
        config.turn_servers.push(Server::new(
            "198.51.100.1",
            3478,
            TurnTransport::Udp,
            credentials,
        ));
        config.addresses = AddressPolicy::RelayOnly;
        config.restarts_alone = false;
        let a = world.add_agent(behind, config).expect("room");
        let mut config = AgentConfig::new(roles[1]);
        config.restarts_alone = false;
        let b = world.add_agent(open, config).expect("room");
        let mut peers = Peers { world, a, b };
        peers.introduce(Signaling::trickled(ms(25)));
        let up = peers.run_until_up(MINUTE);
        let up = up.unwrap_or_else(|| panic!("{}", peers.world.trace()));
        assert!(up <= Time::from_millis(500), "{up:?}");
        let refused = peers.world.trace().packets().iter().any(|packet| {
            message(packet, Class::ErrorResponse).is_some_and(|answer| {
                answer.method() == Method::CREATE_PERMISSION
                    && matches!(answer.error_code(), Ok(Some(error)) if error.code() == 403)
            })
        });
        assert!(refused, "a permission must be refused to prove anything");
        for _ in 0..10 {
            peers.world.run_for(MINUTE);
            peers.assert_data_both_ways();
        }
    }
}

/// The same of libwebrtc: here the server is silent while permission and channel are to be renewed, for longer than
/// a transaction with it lasts.
#[test]
fn a_request_to_the_relay_that_times_out_is_made_again() {
    let mut silences = 0;
    for seed in 1..6 {
        let (mut peers, server) = peers_of(server(), seed, [SYMMETRIC; 2], |_, config| {
            config.restarts_alone = false;
        });
        assert!(peers.run_until_up(MINUTE).is_some());
        let (a, b) = (peers.a, peers.b);
        for _ in 0..4 {
            // Until somebody renews something.
            let since = peers.world.now();
            let renewal = peers.world.run_until(10 * MINUTE, |world| {
                [a, b].iter().any(|agent| {
                    asks(world, agent.node, since, Method::CREATE_PERMISSION)
                        || asks(world, agent.node, since, Method::CHANNEL_BIND)
                })
            });
            assert!(renewal.is_some(), "seed {seed}");
            peers.world.set_up(server, false);
            peers.world.run_for(Duration::from_secs(20));
            peers.world.set_up(server, true);
            silences += 1;
            peers.world.run_for(Duration::from_secs(10));
            peers.assert_data_both_ways();
            peers.world.forget_packets();
        }
        for agent in peers.both() {
            let states = states(&peers.world, agent);
            assert!(!states.contains(&State::Failed), "seed {seed}: {states:?}");
            assert_eq!(restarts(&peers.world, agent), 0, "seed {seed}");
        }
    }
    assert_eq!(silences, 20);
}
