//! Servers and routes that are dead: nothing that another can deliver waits for them.

use std::time::Duration;

use nilas_ice::{
    AgentConfig, CandidateType, Credentials, Event, GatheringState, Role, StreamTransport,
    StunServer, Time, TurnServer as Server, TurnTransport,
};
use nilas_sim::{
    Access, Agent, Link, Nat, NodeId, Realm, Router, Side, Signaling, TurnServer, World,
};

use crate::common::{MINUTE, Peers, address, ip, ms, quarter, with_stun};

const ROUND_TRIP_MS: u64 = 50;
const TCP: TurnTransport = TurnTransport::Stream(StreamTransport::Tcp);
const TLS: TurnTransport = TurnTransport::Stream(StreamTransport::Tls);

/// The rows of the laboratory.
const TOPOLOGIES: [(&str, &str); 20] = [
    ("open", "plain"),
    ("plain", "plain"),
    ("plain", "same"),
    ("eim-eif", "sym"),
    ("eim-apdf", "eim-adf"),
    ("cgn:plain:eim-apdf", "eim-apdf"),
    ("v6fw", "v6fw"),
    ("dual", "dual"),
    ("multi", "plain"),
    ("v4fw", "sym"),
    ("sym", "sym"),
    ("apdm-apdf", "apdm-apdf"),
    ("eim-apdf", "sym"),
    ("cgn:plain:sym", "plain"),
    ("cgn:plain:eim-apdf", "samecgn"),
    ("plain+udpblock", "sym"),
    ("plain+tcp443", "plain"),
    ("plain+strict443", "plain"),
    ("nat64", "plain"),
    ("v6fw", "plain"),
];

/// What is dead in a world beside what lives.
#[derive(Clone, Copy, Debug)]
struct Dead {
    /// Each peer has an IPv6 address from which nothing is ever answered.
    route: bool,
    /// The lists of servers begin and end with some that say nothing.
    servers: bool,
}

fn relay(host: &str, port: u16, transport: TurnTransport) -> Server {
    let credentials = Credentials {
        username: "ann".into(),
        password: "secret".into(),
    };
    Server::new(host, port, transport, credentials)
}

/// Servers at an address where packets and SYNs are swallowed.
fn add_silent(config: &mut AgentConfig) {
    let host = "198.51.100.66";
    let stun = StunServer {
        host: host.into(),
        port: 3478,
    };
    config.stun_servers.push(stun);
    config.turn_servers.extend([
        relay(host, 3478, TurnTransport::Udp),
        relay(host, 3478, TCP),
        relay(host, 443, TLS),
    ]);
}

fn agent(world: &mut World, node: NodeId, role: Role, dead: Dead) -> Agent {
    let mut config = AgentConfig::new(role);
    if dead.servers {
        add_silent(&mut config);
    }
    config.stun_servers.push(StunServer {
        host: "turn.example".into(),
        port: 3478,
    });
    config.turn_servers.extend([
        relay("turn.example", 3478, TurnTransport::Udp),
        relay("turn.example", 3478, TCP),
        relay("turn.example", 443, TLS),
    ]);
    if dead.servers {
        add_silent(&mut config);
    }
    world.add_agent(node, config).expect("room")
}

/// When both peers could send.
fn first_path(seed: u64, words: (&str, &str), dead: Dead) -> Option<Time> {
    let mut world = World::new(seed);
    let link = quarter(ms(ROUND_TRIP_MS));
    let server = TurnServer::new("ann", "secret").expect("good words");
    let addresses = [ip("2001:db8:ffff::1"), ip("198.51.100.1")];
    world.add_turn_server(Realm::INTERNET, &addresses, link, server.on_tls(&[443]));
    world.add_name("turn.example", &addresses);
    // Somebody is there, and says nothing.
    world.add_host(Realm::INTERNET, &[ip("198.51.100.66")], link);
    let [a, b] = [words.0, words.1].map(|word| word.parse::<Access>().expect("a kind"));
    let a = world.add_peer(Side::A, a, link, None).expect("a peer");
    let b = world.add_peer(Side::B, b, link, Some(&a)).expect("a peer");
    if dead.route {
        for (number, peer) in [(1, a.host), (2, b.host)] {
            let prefix = format!("2001:db8:dead:{number}::/64")
                .parse()
                .expect("a prefix");
            let router = Router::new().with_prefix(prefix).without_way_back();
            let (_, nowhere) = world.add_router(Realm::INTERNET, link, router);
            let own = [ip(&format!("2001:db8:dead:{number}::10"))];
            world.add_interface(peer, nowhere, &own, Link::default());
        }
    }
    let a = agent(&mut world, a.host, Role::Controlling, dead);
    let b = agent(&mut world, b.host, Role::Controlled, dead);
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(ROUND_TRIP_MS / 2)));
    peers.run_until_up(MINUTE)
}

/// RFC 5928 section 3: what a domain may offer and does not is no fault of anybody.
#[test]
fn a_server_that_may_be_absent_and_is_goes_unmentioned() {
    for (may_be_absent, told) in [(false, 1), (true, 0)] {
        let mut world = World::new(1);
        let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::default());
        let mut config = AgentConfig::new(Role::Controlling);
        config.turn_servers.push(Server {
            may_be_absent,
            ..relay("nowhere.example", 3478, TCP)
        });
        let agent = world.add_agent(host, config).expect("room");
        world.gather(agent).expect("it is open");
        world.run_for(ms(100));
        let events = || world.events(agent).iter().map(|(_, event)| event);
        let errors = events().filter(|event| matches!(event, Event::CandidateError(_)));
        assert_eq!(errors.count(), told);
        let complete = Event::GatheringStateChange(GatheringState::Complete);
        assert!(events().any(|event| *event == complete), "nobody waits");
    }
}

#[test]
fn dead_routes_and_servers_delay_the_first_path_by_a_round_trip_at_most() {
    let alive = Dead {
        route: false,
        servers: false,
    };
    let mut late = String::new();
    for words in TOPOLOGIES {
        for seed in 1..=5 {
            let before = first_path(seed, words, alive).expect("a path");
            for (route, servers) in [(true, false), (false, true), (true, true)] {
                let dead = Dead { route, servers };
                let after = first_path(seed, words, dead);
                if after.is_none_or(|after| after > before + ms(ROUND_TRIP_MS)) {
                    late +=
                        &format!("{words:?}, {dead:?}, seed {seed}: {before:?}, then {after:?}\n");
                }
            }
        }
    }
    assert!(late.is_empty(), "{late}");
}

/// No answer of the STUN server comes for so long that gathering has ended without one. Both peers need it: it is asked
/// again, and what it says is told.
#[test]
fn a_server_that_did_not_answer_is_asked_again_while_there_is_no_path() {
    for continual in [true, false] {
        let mut world = World::new(1);
        let at = address("198.51.100.1:3478");
        let server = world.add_stun_server(Realm::INTERNET, at, quarter(ms(ROUND_TRIP_MS)));
        let [a, b] = [0, 1].map(|n: u8| {
            let outside = ip(&format!("203.0.113.{n}"));
            let link = quarter(ms(ROUND_TRIP_MS));
            let (_, home) = world.add_nat(Realm::INTERNET, outside, link, Nat::default());
            let host = world.add_host(home, &[ip(&format!("10.0.{n}.2"))], Link::default());
            let role = [Role::Controlling, Role::Controlled][usize::from(n)];
            let mut config = with_stun(role, at);
            config.continual = continual;
            world.add_agent(host, config).expect("room")
        });
        let mut peers = Peers { world, a, b };
        peers.world.set_up(server, false);
        peers.introduce(Signaling::trickled(ms(25)));
        peers.world.run_for(Duration::from_secs(12));
        let told = |peers: &Peers| {
            let events = peers.both().map(|agent| peers.world.events(agent));
            let srflx = |(_, event): &&(Time, Event)| matches!(event, Event::Candidate(own) if own.kind == CandidateType::Srflx);
            events.map(|events| events.iter().filter(srflx).count())
        };
        assert_eq!(told(&peers), [0, 0]);
        peers.world.set_up(server, true);
        assert!(peers.run_until_up(MINUTE).is_some(), "{continual}");
        peers.assert_data_both_ways();
    }
}
