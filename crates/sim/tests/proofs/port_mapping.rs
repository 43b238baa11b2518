//! A router that forwards ports on demand, for a session whose NATs no server can see through.

use std::time::Duration;

use nilas_ice::{
    AgentConfig, CandidateType, Credentials, Event, GatheringState, Role, TurnServer, TurnTransport,
};
use nilas_sim::{Dependence, Link, Nat, NodeId, PortAssignment, Realm, Signaling, World};

use crate::common::{Peers, ip, ms, quarter};

const USER: &str = "ann";
const PASSWORD: &str = "secret";

const ROLES: [[Role; 2]; 2] = [
    [Role::Controlling, Role::Controlled],
    [Role::Controlled, Role::Controlling],
];

fn symmetric() -> Nat {
    let mut nat = Nat::new(
        Dependence::AddressAndPortDependent,
        Dependence::AddressAndPortDependent,
    );
    nat.ports = PortAssignment::Random;
    nat
}

/// Two agents behind symmetric NATs with a STUN server, of which the first asks its router for a port; and that router.
fn between_symmetric_nats(roles: [Role; 2], asked: bool) -> (Peers, NodeId) {
    let (mut peers, router) = prepared(World::new(1), ms(50), roles, asked, &[]);
    peers.introduce(Signaling::trickled(ms(25)));
    (peers, router)
}

/// The same with these TURN servers, before they hear of each other.
fn prepared(
    mut world: World,
    round_trip: Duration,
    roles: [Role; 2],
    asked: bool,
    servers: &[TurnServer],
) -> (Peers, NodeId) {
    let link = quarter(round_trip);
    let stun = "198.51.100.1:3478".parse().expect("an address");
    world.add_stun_server(Realm::INTERNET, stun, link);
    let (router, home) = world.add_nat(Realm::INTERNET, ip("203.0.113.1"), link, symmetric());
    let (_, other) = world.add_nat(Realm::INTERNET, ip("203.0.113.2"), link, symmetric());
    world.forward_ports(router, ms(30));
    let hosts = [
        world.add_host(home, &[ip("192.168.1.2")], Link::default()),
        world.add_host(other, &[ip("192.168.2.2")], Link::default()),
    ];
    let config = |role, port_mapping| {
        let mut config = AgentConfig::new(role);
        config.stun_servers.push(stun.into());
        config.turn_servers = servers.to_vec();
        config.port_mapping = port_mapping;
        config
    };
    let a = world
        .add_agent(hosts[0], config(roles[0], asked))
        .expect("room");
    let b = world
        .add_agent(hosts[1], config(roles[1], false))
        .expect("room");
    (Peers { world, a, b }, router)
}

#[test]
fn a_forwarded_port_makes_a_direct_path_between_symmetric_nats() {
    for roles in ROLES {
        let (mut peers, _) = between_symmetric_nats(roles, true);
        let up = peers.run_until_up(Duration::from_secs(10)).expect("a path");
        assert!(up < nilas_ice::Time::from_millis(500), "{roles:?}: {up:?}");
        peers.assert_data_both_ways();
        // It outlives the NAT's patience with those who are silent.
        peers.world.run_for(Duration::from_secs(600));
        peers.assert_data_both_ways();
    }
}

#[test]
fn without_it_there_is_none() {
    let (mut peers, _) = between_symmetric_nats(ROLES[0], false);
    assert!(peers.run_until_up(Duration::from_secs(60)).is_none());
}

/// The router forgets its mappings, and has another address from then on.
#[test]
fn a_session_whose_forwarded_port_is_gone_goes_on_by_the_next_one() {
    for roles in ROLES {
        let (mut peers, router) = between_symmetric_nats(roles, true);
        peers.run_until_up(Duration::from_secs(10)).expect("a path");
        peers.world.run_for(Duration::from_secs(5));
        let told = |peers: &Peers| {
            let events = peers.world.events(peers.a).iter();
            let reflexive = events.filter(|(_, event)| {
                matches!(event, Event::Candidate(told) if told.kind == CandidateType::Srflx && told.priority >> 24 == 105)
            });
            reflexive.count()
        };
        let before = told(&peers);
        assert_eq!(before, 1, "{roles:?}");
        peers
            .world
            .renumber(router, &[ip("203.0.113.9")])
            .expect("free");
        peers.world.run_for(Duration::from_secs(60));
        assert!(told(&peers) > before, "{roles:?}");
        assert!(
            peers.world.is_up(peers.a) && peers.world.is_up(peers.b),
            "{roles:?}"
        );
        peers.assert_data_both_ways();
    }
}

/// Whenever the port is forwarded: a relayed pair may be nominated at the same moment, beside which many others work that are
/// relayed as well.
#[test]
fn a_port_that_comes_while_a_relayed_pair_is_nominated_makes_a_direct_path() {
    for roles in ROLES {
        for delay in 280..330 {
            let mut world = World::new(delay);
            let servers = ["198.51.100.2", "198.51.100.3"].map(|address| {
                let turn = nilas_sim::TurnServer::new(USER, PASSWORD).expect("good words");
                world.add_turn_server(
                    Realm::INTERNET,
                    &[ip(address)],
                    Link::new(Duration::from_micros(100)),
                    turn,
                );
                let credentials = Credentials {
                    username: USER.into(),
                    password: PASSWORD.into(),
                };
                TurnServer::new(address, 3478, TurnTransport::Udp, credentials)
            });
            let (mut peers, router) = prepared(world, ms(2), roles, true, &servers);
            peers.world.forward_ports(router, ms(delay));
            peers.introduce(Signaling::trickled(ms(1)));
            peers.run_until_up(Duration::from_secs(10)).expect("a path");
            peers.world.run_for(Duration::from_secs(2));
            for agent in [peers.a, peers.b] {
                let pair = peers.world.selected_pair(agent).expect("a pair");
                let kinds = [pair.local.kind, pair.remote.kind];
                assert!(
                    !kinds.contains(&CandidateType::Relay),
                    "{roles:?}, {delay} ms: {kinds:?}"
                );
            }
        }
    }
}

#[test]
fn a_network_whose_router_forwards_nothing_delays_nobody() {
    let mut world = World::new(1);
    let (_, home) = world.add_nat(
        Realm::INTERNET,
        ip("203.0.113.1"),
        quarter(ms(50)),
        Nat::default(),
    );
    let host = world.add_host(home, &[ip("192.168.1.2")], Link::default());
    let mut config = AgentConfig::new(Role::Controlling);
    config.port_mapping = true;
    let agent = world.add_agent(host, config).expect("room");
    world.gather(agent).expect("an agent");
    world.run_for(ms(1));
    let events: Vec<_> = world.events(agent).iter().map(|(_, event)| event).collect();
    let ended = Event::GatheringStateChange(GatheringState::Complete);
    assert!(events.contains(&&ended), "{events:?}");
    let refused =
        |event: &&&Event| matches!(event, Event::CandidateError(error) if error.error_code == 701);
    assert_eq!(events.iter().filter(refused).count(), 1, "{events:?}");
}
