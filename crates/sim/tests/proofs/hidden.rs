//! Own addresses behind names (draft-ietf-mmusic-mdns-ice-candidates-03): found on the link, and shown to nobody else.

use std::collections::BTreeSet;
use std::net::IpAddr;

use nilas_ice::{
    Candidate, CandidateAddress, CandidateType, Event, MdnsCandidates, RecordingOptions, Role,
    Stats, TcpCandidates, replay,
};
use nilas_sim::{Agent, Link, Nat, Realm, Signal, Signaling, TurnServer, World};

use crate::common::{MINUTE, Peers, address, ip, ms, with_stun};
use crate::relay::with_turn;

const STUN: &str = "198.51.100.1:3478";
const ROLES: [Role; 2] = [Role::Controlling, Role::Controlled];

/// Two peers that hide their addresses, on one LAN or on two, each LAN behind a NAT that lets nobody back in.
fn peers(seed: u64, first: Role, lans: u8) -> Peers {
    let mut world = World::new(seed);
    world.record_hosts(RecordingOptions::default());
    world.add_stun_server(Realm::INTERNET, address(STUN), Link::new(ms(10)));
    let home = |world: &mut World, n: u8| {
        let outside = IpAddr::from([203, 0, 113, n]);
        let link = Link::new(ms(10));
        world
            .add_nat(Realm::INTERNET, outside, link, Nat::default())
            .1
    };
    let one = home(&mut world, 1);
    let other = if lans == 2 { home(&mut world, 2) } else { one };
    let agent = |world: &mut World, realm, own: &str, role| {
        let host = world.add_host(realm, &[ip(own)], Link::new(ms(1)));
        let mut config = with_stun(role, address(STUN));
        config.mdns = MdnsCandidates::Hide;
        world.add_agent(host, config).expect("room")
    };
    let a = agent(&mut world, one, "10.0.0.2", first);
    let b = agent(&mut world, other, "10.0.0.3", first.opposite());
    Peers { world, a, b }
}

fn told(world: &World, agent: Agent) -> Vec<Candidate> {
    let events = world.events(agent).iter();
    let told = events.filter_map(|(_, event)| match event {
        Event::Candidate(own) => Some(own.clone()),
        _ => None,
    });
    told.collect()
}

fn names(world: &World, agent: Agent) -> BTreeSet<String> {
    let names = told(world, agent).into_iter();
    let names = names.filter_map(|own| match own.address {
        CandidateAddress::Name { name, .. } => Some(name.into()),
        CandidateAddress::Ip(_) => None,
    });
    names.collect()
}

/// What an application, and its telemetry, learns of an agent.
fn said(peers: &mut Peers, agent: Agent) -> String {
    let stats = peers
        .world
        .with_agent(agent, |agent, now| agent.stats(now))
        .expect("open");
    let lines = told(&peers.world, agent);
    let lines: Vec<_> = lines.iter().map(ToString::to_string).collect();
    lines.join("\n") + &serde_json::to_string(&stats).expect("JSON")
}

fn assert_replays(peers: &mut Peers) {
    for agent in [peers.a, peers.b] {
        let recording = peers.world.end_recording(agent.node);
        let replay = replay(&recording).expect("a recording");
        assert_eq!(replay.difference, None);
    }
}

#[test]
fn on_one_link_names_connect_host_to_host_and_nothing_else_shows_the_addresses() {
    for (seed, role) in [(1, ROLES[0]), (2, ROLES[1])] {
        let mut peers = peers(seed, role, 1);
        peers.introduce(Signaling::trickled(ms(20)));
        let up = peers.run_until_up(MINUTE);
        assert!(up.is_some(), "{}", peers.world.trace());
        peers.world.run_for(ms(3_000));
        peers.assert_data_both_ways();
        for (agent, own, outside) in [
            (peers.a, "10.0.0.2", "203.0.113.1"),
            (peers.b, "10.0.0.3", "203.0.113.1"),
        ] {
            let pair = peers.world.selected_pair(agent).expect("a pair");
            let kinds = (pair.local.kind, pair.remote.kind);
            assert_eq!(kinds, (CandidateType::Host, CandidateType::Host));
            let lines = told(&peers.world, agent);
            let kinds: Vec<_> = lines.iter().map(|line| line.kind).collect();
            assert_eq!(kinds, [CandidateType::Host, CandidateType::Srflx]);
            assert_eq!(lines[1].ip_address().expect("an address").ip(), ip(outside));
            assert_eq!(lines[1].related, Some(address("0.0.0.0:9")));
            let said = said(&mut peers, agent);
            assert!(said.contains(".local") && said.contains(outside), "{said}");
            assert!(!said.contains("10.0.0."), "{said}");
            let answered = peers.world.link_names(agent.node);
            let names = names(&peers.world, agent);
            let wanted: Vec<_> = names.iter().map(|name| (name.as_str(), ip(own))).collect();
            assert_eq!(answered, wanted);
            assert_eq!(answered.len(), 1);
        }
        assert_replays(&mut peers);
    }
}

#[test]
fn on_two_links_names_lead_nowhere_and_the_servers_see_the_way() {
    for (seed, role) in [(1, ROLES[0]), (2, ROLES[1])] {
        let mut peers = peers(seed, role, 2);
        peers.introduce(Signaling::trickled(ms(20)));
        let up = peers.run_until_up(MINUTE).expect("they connect");
        // Nobody waits for the names to be given up.
        assert!(up.as_nanos() < 1_000_000_000, "{up:?}");
        peers.world.run_for(ms(10_000));
        peers.assert_mirrored_and_working();
        for agent in [peers.a, peers.b] {
            let pair = peers.world.selected_pair(agent).expect("a pair");
            assert_eq!(pair.remote.kind, CandidateType::Srflx);
            let said = said(&mut peers, agent);
            assert!(!said.contains("10.0.0."), "{said}");
        }
        assert_replays(&mut peers);
    }
}

#[test]
fn a_check_that_comes_before_the_name_is_found_shows_no_address_in_statistics() {
    let mut peers = peers(1, ROLES[0], 1);
    peers.gather();
    // Only this side finds the other: its check teaches the other an address that nobody told.
    for signal in peers.told(peers.b) {
        peers.world.deliver(peers.a, signal).expect("of use");
    }
    let parameters = peers.parameters(peers.a);
    let b = peers.b;
    peers
        .world
        .deliver(b, Signal::Parameters(parameters))
        .expect("parameters");
    assert!(peers.run_until_up(MINUTE).is_some());
    let stats = peers
        .world
        .with_agent(b, |agent, now| agent.stats(now))
        .expect("open");
    let remotes: Vec<_> = stats
        .iter()
        .filter_map(|stats| match stats {
            Stats::RemoteCandidate(remote) => Some((remote.candidate_type, &remote.address)),
            _ => None,
        })
        .collect();
    assert_eq!(remotes, [(CandidateType::Prflx, &None)]);
}

#[test]
fn a_name_lasts_through_restarts_and_ends_with_its_address_or_the_agent() {
    let mut peers = peers(1, ROLES[0], 1);
    peers.introduce(Signaling::trickled(ms(20)));
    peers.run_until_up(MINUTE).expect("they connect");
    let (a, b) = (peers.a, peers.b);
    let before = names(&peers.world, a);
    peers
        .world
        .with_agent(a, |mut agent, now| agent.restart(now))
        .expect("open");
    peers.world.run_for(ms(5_000));
    assert_eq!(names(&peers.world, a), before, "one address, one name");
    assert_ne!(names(&peers.world, b), before, "and nobody else's");

    // Both tell candidates at any time: the old one is taken back by its name, and found by it.
    let realm = Realm::INTERNET;
    let moved = peers
        .world
        .move_interface(a.node, 0, realm, &[ip("192.0.2.7")], Link::new(ms(1)));
    moved.expect("there is room");
    peers.world.run_for(ms(10_000));
    let events = peers.world.events(a).iter();
    let gone = events.filter(|(_, event)| match event {
        Event::CandidateRemoved(gone) => {
            matches!(&gone.address, CandidateAddress::Name { name, .. } if before.contains(&**name))
        }
        _ => false,
    });
    assert_eq!(gone.count(), 1);
    assert_eq!(peers.world.refused(b), []);
    let now: Vec<_> = peers.world.link_names(a.node);
    let [(name, answered)] = now[..] else {
        panic!("one address: {now:?}");
    };
    assert_eq!(answered, ip("192.0.2.7"));
    assert!(!before.contains(name));

    for agent in [a, b] {
        peers
            .world
            .with_agent(agent, |agent, now| agent.close(now))
            .expect("open");
        assert_eq!(peers.world.link_names(agent.node), []);
    }
    assert_replays(&mut peers);
}

#[test]
fn a_name_stands_for_an_address_over_udp_and_tcp() {
    let mut world = World::new(1);
    let addresses = [ip("10.0.0.2"), ip("fd00::2")];
    let realm = world.add_realm();
    let host = world.add_host(realm, &addresses, Link::default());
    let mut config = nilas_ice::AgentConfig::new(Role::Controlling);
    config.mdns = MdnsCandidates::Hide;
    config.tcp = TcpCandidates::All;
    let agent = world.add_agent(host, config).expect("room");
    world.gather(agent).expect("open");
    world.run_for(ms(100));
    let lines = told(&world, agent);
    assert_eq!(lines.len(), 8, "{lines:?}");
    assert!(lines.iter().all(|line| line.ip_address().is_none()));
    assert_eq!(names(&world, agent).len(), 2, "one for each address");
    let answered: BTreeSet<_> = world
        .link_names(host)
        .iter()
        .map(|(_, address)| *address)
        .collect();
    assert_eq!(answered, addresses.into());
}

/// An address that the internet sees as it is: the server's word is no repetition of the name.
#[test]
fn a_public_address_is_told_by_name_and_as_a_server_sees_it() {
    let mut world = World::new(1);
    world.add_stun_server(Realm::INTERNET, address(STUN), Link::new(ms(10)));
    let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::default());
    let mut config = with_stun(Role::Controlling, address(STUN));
    config.mdns = MdnsCandidates::Hide;
    let agent = world.add_agent(host, config).expect("room");
    world.gather(agent).expect("open");
    world.run_for(ms(1_000));
    let [host, reflexive] = &told(&world, agent)[..] else {
        panic!("two candidates");
    };
    assert_eq!(host.kind, CandidateType::Host);
    assert!(matches!(host.address, CandidateAddress::Name { .. }));
    let seen = reflexive.ip_address().expect("an address").ip();
    assert_eq!(
        (reflexive.kind, seen),
        (CandidateType::Srflx, ip("192.0.2.1"))
    );
}

/// The relay would learn the address behind the name.
#[test]
fn no_relay_is_asked_to_reach_what_is_behind_a_name() {
    let mut world = World::new(1);
    let server = TurnServer::new("ann", "secret").expect("good words");
    world.add_turn_server(
        Realm::INTERNET,
        &[ip("198.51.100.1")],
        Link::new(ms(10)),
        server,
    );
    let outside = ip("203.0.113.1");
    let (_, home) = world.add_nat(Realm::INTERNET, outside, Link::new(ms(10)), Nat::default());
    let [a, b] = [0, 1].map(|n: usize| {
        let own = IpAddr::from([10, 0, 0, n as u8 + 2]);
        let host = world.add_host(home, &[own], Link::new(ms(1)));
        let mut config = with_turn(ROLES[n], "secret");
        config.mdns = MdnsCandidates::Hide;
        world.add_agent(host, config).expect("room")
    });
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::all_at_once(ms(20)));
    peers.run_until_up(MINUTE).expect("they connect");
    peers.world.run_for(ms(5_000));
    for agent in [a, b] {
        let lines = told(&peers.world, agent);
        let relayed = lines.iter().find(|own| own.kind == CandidateType::Relay);
        let relayed = relayed.expect("a relayed candidate");
        assert_eq!(relayed.related, Some(address("0.0.0.0:9")));
        let stats = peers
            .world
            .with_agent(agent, |agent, now| agent.stats(now))
            .expect("open");
        let is_of_kind = |id: &str, kind| {
            stats.iter().any(|stats| match stats {
                Stats::LocalCandidate(own) | Stats::RemoteCandidate(own) => {
                    own.id == id && own.candidate_type == kind
                }
                _ => false,
            })
        };
        let mut pairs = 0;
        for pair in &stats {
            if let Stats::CandidatePair(pair) = pair {
                pairs += 1;
                assert!(
                    !is_of_kind(&pair.local_candidate_id, CandidateType::Relay)
                        || !is_of_kind(&pair.remote_candidate_id, CandidateType::Host),
                    "{pair:?}"
                );
            }
        }
        assert!(pairs > 1, "{stats:?}");
    }
}
