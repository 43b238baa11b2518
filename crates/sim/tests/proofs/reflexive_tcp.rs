//! Server-reflexive TCP candidates (RFC 6544 section 5.2): sessions between NATs that let no UDP through.

use std::net::SocketAddr;
use std::time::Duration;

use nilas_ice::{
    AgentConfig, Candidate, CandidateType, Credentials, Event, GatheringState, Role,
    StreamTransport, TcpCandidates, TcpType, Time, TurnServer as Relay, TurnTransport,
};
use nilas_sim::{
    Agent, Dependence, End, Firewall, Flow, Link, Nat, NodeId, Realm, Router, Signaling,
    TurnServer, World,
};

use crate::common::{MINUTE, Peers, address, ip, ms, quarter};
use crate::ice_tcp::{completed, config, no_udp, tcp_type, told, transports};

const SERVER: &str = "198.51.100.1:3478";
const ROLES: [Role; 2] = [Role::Controlling, Role::Controlled];

/// Two peers behind NATs that let no UDP through, 50 ms apart, and whatever `server` adds.
fn behind(nats: [Nat; 2], configs: [AgentConfig; 2], server: impl Fn(&mut World)) -> Peers {
    behind_in(World::new(1), nats, configs, server)
}

fn behind_in(
    mut world: World,
    nats: [Nat; 2],
    configs: [AgentConfig; 2],
    server: impl Fn(&mut World),
) -> Peers {
    server(&mut world);
    let [a, b] = [0, 1].map(|n: usize| {
        let outside = ip(&format!("203.0.113.{}", n + 1));
        let router = Router::new()
            .with_nat(&[outside], nats[n])
            .with_firewall(no_udp(Firewall::stateful()));
        let (_, home) = world.add_router(Realm::INTERNET, quarter(ms(50)), router);
        let own = ip(&format!("10.0.{n}.2"));
        let host = world.add_host(home, &[own], Link::default());
        world.add_agent(host, configs[n].clone()).expect("room")
    });
    Peers { world, a, b }
}

fn stun(world: &mut World) {
    let _ = world.add_stun_server(Realm::INTERNET, address(SERVER), quarter(ms(50)));
}

fn asking(role: Role, tcp: TcpCandidates) -> AgentConfig {
    let mut config = config(role, tcp);
    config.stun_servers.push(address(SERVER).into());
    config
}

fn both_asking(role: Role) -> [AgentConfig; 2] {
    [role, role.opposite()].map(|role| asking(role, TcpCandidates::All))
}

fn symmetric() -> Nat {
    let dependent = Dependence::AddressAndPortDependent;
    Nat::new(dependent, dependent)
}

fn selected_kinds(peers: &Peers, agent: Agent) -> [CandidateType; 2] {
    let pair = peers.world.selected_pair(agent).expect("a pair");
    [pair.local.kind, pair.remote.kind]
}

/// What was told of the address outside, by who opens the connection.
fn reflexive(peers: &Peers, agent: Agent) -> Vec<(Option<TcpType>, Candidate)> {
    let told = told(peers, agent).into_iter();
    let mut found: Vec<_> = told
        .filter(|candidate| candidate.kind == CandidateType::Srflx)
        .map(|candidate| (tcp_type(&candidate), candidate))
        .collect();
    found.sort_by_key(|(tcp_type, _)| *tcp_type);
    found
}

/// Segments between a node and the server since then.
fn asked_since(world: &World, node: NodeId, since: Time) -> usize {
    let packets = world.trace().packets().iter();
    let asked = packets.filter(|packet| {
        packet.sender == node
            && packet.sent >= since
            && packet.destination == address(SERVER)
            && matches!(packet.flow, Flow::Tcp(_))
    });
    asked.count()
}

fn gathered_at(world: &World, agent: Agent) -> Option<Time> {
    let complete =
        |event: &Event| matches!(event, Event::GatheringStateChange(GatheringState::Complete));
    let mut events = world.events(agent).iter();
    events.find(|(_, event)| complete(event)).map(|(at, _)| *at)
}

#[test]
fn two_nats_are_passed_by_opening_at_once() {
    for role in ROLES {
        let mut peers = behind([Nat::default(); 2], both_asking(role), stun);
        peers.introduce(Signaling::trickled(ms(20)));
        assert!(completed(&mut peers), "{}", peers.world.trace());
        for agent in peers.both() {
            assert_eq!(transports(&peers, agent), [Some(TcpType::So); 2]);
            assert_eq!(selected_kinds(&peers, agent), [CandidateType::Srflx; 2]);
        }
        peers.assert_mirrored_and_working();
        // RFC 6544 section 11.2: the servers are left when ICE is done, and the path needs none of them.
        let quiet = peers.world.now();
        peers.world.run_for(Duration::from_secs(3_600));
        for agent in peers.both() {
            assert_eq!(asked_since(&peers.world, agent.node, quiet), 0);
        }
        peers.assert_data_both_ways();
    }
}

#[test]
fn a_lossy_network_keeps_nobody_from_it() {
    for seed in 0..10 {
        let (nats, configs) = ([Nat::default(); 2], both_asking(Role::Controlling));
        let mut peers = behind_in(World::new(seed), nats, configs, stun);
        let lossy = Link::default().with_loss(0.05);
        peers.world.set_link(peers.a.node, lossy);
        peers.introduce(Signaling::trickled(ms(20)));
        assert!(completed(&mut peers), "{seed}: {}", peers.world.trace());
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn a_nat_that_lets_strangers_in_has_a_passive_candidate() {
    let open = Nat::new(
        Dependence::EndpointIndependent,
        Dependence::EndpointIndependent,
    );
    for role in ROLES {
        // The other side opens connections only, from ports that nobody can foresee.
        let configs = [
            asking(role, TcpCandidates::All),
            asking(role.opposite(), TcpCandidates::Active),
        ];
        let mut peers = behind([open, symmetric()], configs, stun);
        peers.introduce(Signaling::trickled(ms(20)));
        assert!(completed(&mut peers), "{}", peers.world.trace());
        assert_eq!(
            transports(&peers, peers.b),
            [Some(TcpType::Active), Some(TcpType::Passive)]
        );
        assert_eq!(
            selected_kinds(&peers, peers.b),
            [CandidateType::Prflx, CandidateType::Srflx]
        );
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn they_are_told_as_rfc_6544_writes_them() {
    let mut peers = behind([Nat::default(); 2], both_asking(Role::Controlling), stun);
    peers.gather();
    peers.world.run_for(ms(500));
    let found = reflexive(&peers, peers.a);
    let types: Vec<_> = found.iter().filter_map(|(tcp_type, _)| *tcp_type).collect();
    assert_eq!(types, [TcpType::Active, TcpType::Passive, TcpType::So]);
    // Section 4.2: type preference 70, 2^13 * direction-pref + 8,190, behind an IPv6 that is not there.
    let priority = |direction: u32| (70 << 24) + (((direction << 13) + 8_190) << 8) + 255;
    for ((_, candidate), direction) in found.iter().zip([4, 2, 6]) {
        assert_eq!(candidate.priority, priority(direction), "{candidate}");
        let seen = candidate.ip_address().expect("an address");
        assert_eq!(seen.ip(), ip("203.0.113.1"));
        assert_eq!(
            candidate.related.map(|base| base.ip()),
            Some(ip("10.0.0.2"))
        );
    }
    // Section 4.5: the port of an active candidate is told as 9; the others have one each, which is the NAT's.
    let ports: Vec<_> = { found.iter() }
        .filter_map(|(_, candidate)| Some(candidate.ip_address()?.port()))
        .collect();
    assert_eq!(ports[0], 9);
    assert_ne!(ports[1], ports[2]);
    // Appendix C: one foundation for each type.
    let mut foundations: Vec<_> = { told(&peers, peers.a).into_iter() }
        .map(|candidate| candidate.foundation)
        .collect();
    let count = foundations.len();
    foundations.sort_unstable();
    foundations.dedup();
    assert_eq!((foundations.len(), count), (7, 7));
    // Only who asks for such candidates asks a server over TCP.
    let mut peers = behind(
        [Nat::default(); 2],
        [TcpCandidates::Active, TcpCandidates::Off].map(|tcp| asking(Role::Controlling, tcp)),
        stun,
    );
    peers.gather();
    peers.world.run_for(MINUTE);
    for agent in peers.both() {
        assert_eq!(asked_since(&peers.world, agent.node, Time::ZERO), 0);
        assert_eq!(reflexive(&peers, agent), []);
    }
}

#[test]
fn a_turn_server_that_is_reached_over_tcp_is_asked_as_well() {
    let relay = |world: &mut World| {
        let turn = TurnServer::new("ann", "secret").expect("letters make a name");
        let at = address(SERVER).ip();
        let _ = world.add_turn_server(Realm::INTERNET, &[at], quarter(ms(50)), turn);
    };
    let credentials = Credentials {
        username: "ann".into(),
        password: "secret".into(),
    };
    let tcp = TurnTransport::Stream(StreamTransport::Tcp);
    let configs = ROLES.map(|role| {
        let mut config = config(role, TcpCandidates::All);
        let host = address(SERVER).ip().to_string();
        let server = Relay::new(host, 3478, tcp, credentials.clone());
        config.turn_servers.push(server);
        config
    });
    let mut peers = behind([Nat::default(); 2], configs, relay);
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(completed(&mut peers), "{}", peers.world.trace());
    for agent in peers.both() {
        assert_eq!(transports(&peers, agent), [Some(TcpType::So); 2]);
    }
    peers.assert_mirrored_and_working();
}

#[test]
fn a_server_that_says_nothing_delays_nobody() {
    // Whoever is at a public address needs no server; where there is one that swallows SYNs, all but the end of gathering is
    // as if there were none.
    let run = |servers: bool| {
        let mut world = World::new(1);
        let [a, b] = [0, 1].map(|n: usize| {
            let router = Router::new()
                .with_prefix(format!("192.0.{n}.0/24").parse().expect("a network"))
                .with_firewall(no_udp(Firewall::stateful()));
            let (_, home) = world.add_router(Realm::INTERNET, quarter(ms(50)), router);
            let host = world.add_host(home, &[ip(&format!("192.0.{n}.2"))], Link::default());
            let config = match servers {
                true => asking(ROLES[n], TcpCandidates::All),
                false => config(ROLES[n], TcpCandidates::All),
            };
            world.add_agent(host, config).expect("room")
        });
        let mut peers = Peers { world, a, b };
        peers.introduce(Signaling::trickled(ms(20)));
        let up = peers.run_until_up(MINUTE).expect("a path");
        assert!(completed(&mut peers));
        let gathered = gathered_at(&peers.world, a).expect("an end");
        (up, gathered)
    };
    let (up, gathered) = run(false);
    let (up_beside_it, gathered_beside_it) = run(true);
    // A pacing slot for each question, at the most.
    assert!(up_beside_it.since(up) <= ms(20), "{up_beside_it:?}");
    assert_eq!(gathered, Time::ZERO);
    // As long as is waited for over UDP, which is swallowed as well.
    let waited = gathered_beside_it.since(Time::ZERO);
    assert!(waited <= ms(5_100), "{waited:?}");
}

#[test]
fn the_mapping_is_kept_while_the_peer_is_awaited() {
    let mut peers = behind([Nat::default(); 2], both_asking(Role::Controlling), stun);
    peers.world.gather(peers.a).expect("it is open");
    // RFC 5382 section 5: a mapping without a connection is forgotten after four minutes.
    peers.world.run_for(Duration::from_secs(600));
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(completed(&mut peers), "{}", peers.world.trace());
    assert_eq!(transports(&peers, peers.a), [Some(TcpType::So); 2]);
    peers.assert_mirrored_and_working();
}

#[test]
fn after_a_restart_servers_are_asked_anew() {
    let mut peers = behind([Nat::default(); 2], both_asking(Role::Controlling), stun);
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(completed(&mut peers));
    peers.world.run_for(MINUTE);
    let before = reflexive(&peers, peers.a).len();
    let since = peers.world.now();
    peers
        .world
        .with_agent(peers.a, |mut agent, now| agent.restart(now))
        .expect("it is open");
    peers.world.run_for(Duration::from_secs(10));
    assert!(completed(&mut peers));
    assert!(asked_since(&peers.world, peers.a.node, since) > 0);
    assert_eq!(reflexive(&peers, peers.a).len(), 2 * before);
    peers.assert_mirrored_and_working();
}

/// What a server does with the first question that it is asked.
enum Manner {
    Says(&'static [u8]),
    Closes,
}

#[test]
fn a_server_that_answers_nonsense_or_hangs_up_is_left() {
    for manner in [
        Manner::Says(b"HTTP/1.1 400 Bad Request\r\n\r\n"),
        // A message that would be 64 KiB long, and one that answers nothing.
        Manner::Says(b"\x01\x01\xff\xfc\x21\x12\xa4\x42"),
        Manner::Says(b"\x01\x01\0\0\x21\x12\xa4\x42nobody asked"),
        Manner::Closes,
    ] {
        let mut peers = behind([Nat::default(); 2], both_asking(Role::Controlling), |_| ());
        let strange = { &mut peers.world }.add_host(
            Realm::INTERNET,
            &[address(SERVER).ip()],
            quarter(ms(50)),
        );
        let listener = { &mut peers.world }
            .listen_tcp(strange, address(SERVER), false)
            .expect("a free port");
        peers.world.gather(peers.a).expect("it is open");
        peers.world.run_for(ms(500));
        let streams = peers.world.accept_tcp(listener);
        assert_eq!(
            streams.len(),
            2,
            "from the passive and the simultaneous-open port"
        );
        for stream in &streams {
            assert!(!peers.world.take_tcp(*stream).is_empty(), "a question");
            match manner {
                Manner::Says(bytes) => assert!(peers.world.send_tcp(*stream, bytes)),
                Manner::Closes => peers.world.close_tcp(*stream),
            }
        }
        peers.world.run_for(MINUTE);
        for stream in streams {
            if let Manner::Says(_) = manner {
                let end = peers.world.tcp_end(stream).map(|(_, end)| end);
                assert_eq!(end, Some(End::Finished));
            }
        }
        assert_eq!(peers.world.accept_tcp(listener), [], "nobody comes again");
        assert_eq!(reflexive(&peers, peers.a), []);
        assert!(gathered_at(&peers.world, peers.a).is_some());
    }
}

#[test]
fn a_server_that_hangs_up_after_its_answer_is_asked_again_to_keep_the_mapping() {
    let mut peers = behind([Nat::default(); 2], both_asking(Role::Controlling), |_| ());
    let (node, at) = (
        { &mut peers.world }.add_host(Realm::INTERNET, &[address(SERVER).ip()], quarter(ms(50))),
        address(SERVER),
    );
    let listener = { &mut peers.world }.listen_tcp(node, at, false);
    let listener = listener.expect("a free port");
    peers.world.gather(peers.a).expect("it is open");
    let (mut ports, mut open) = (Vec::new(), Vec::new());
    for _ in 0..120 {
        peers.world.run_for(ms(500));
        open.extend(peers.world.accept_tcp(listener));
        open.retain(|stream| {
            let question = peers.world.take_tcp(*stream);
            if question.is_empty() {
                return true;
            }
            let seen = SocketAddr::new(ip("203.0.113.1"), 4_000 + ports.len() as u16);
            ports.push(seen.port());
            assert!(peers.world.send_tcp(*stream, &answer(&question, seen)));
            peers.world.close_tcp(*stream);
            false
        });
    }
    // Two ports, each asked first and after 15, 30 and 45 seconds.
    assert!((6..=8).contains(&ports.len()), "{ports:?}");
    // What was told stands.
    let told: Vec<_> = { reflexive(&peers, peers.a).into_iter() }
        .filter_map(|(_, candidate)| Some(candidate.ip_address()?.port()))
        .collect();
    assert_eq!(told.len(), 3, "{told:?}");
}

/// The answer to a Binding request that came from there.
fn answer(question: &[u8], seen: SocketAddr) -> Vec<u8> {
    use nilas_stun::{Class, Message, MessageBuilder, Method};
    let question = Message::parse(question).expect("a question");
    let id = question.transaction_id();
    let mut buffer = vec![0; 128];
    let mut answer = MessageBuilder::new(&mut buffer, Class::SuccessResponse, Method::BINDING, id)
        .expect("room");
    answer.xor_mapped_address(seen).expect("room");
    let length = answer.finish();
    buffer.truncate(length);
    buffer
}
