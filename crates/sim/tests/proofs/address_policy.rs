//! Which addresses and ports an agent uses, and what it tells of them.

use std::net::{IpAddr, SocketAddr};

use nilas_ice::{
    AddressPolicy, AgentConfig, AgentError, CandidateType, Event, ExternalAddress, Mode, PortRange,
    Role,
};
use nilas_sim::{
    Agent, Dependence, Link, Nat, PortAssignment, Realm, Signaling, TurnServer, World,
};

use crate::common::{MINUTE, address, ip, ms, with_stun};
use crate::relay::with_turn;

const ROLES: [Role; 2] = [Role::Controlling, Role::Controlled];

/// What an agent has told, each with its related address.
fn told(world: &World, agent: Agent) -> Vec<(CandidateType, SocketAddr, Option<SocketAddr>)> {
    let events = world.events(agent).iter();
    let told = events.filter_map(|(_, event)| match event {
        Event::Candidate(own) => Some((own.kind, own.ip_address()?, own.related)),
        _ => None,
    });
    told.collect()
}

fn ports(world: &World, agent: Agent) -> Vec<u16> {
    told(world, agent)
        .iter()
        .map(|(_, address, _)| address.port())
        .collect()
}

fn connect(world: &mut World, a: Agent, b: Agent) {
    for agent in [a, b] {
        world.gather(agent).expect("open");
    }
    world
        .signal_between(a, b, Signaling::trickled(ms(25)))
        .expect("open");
    let up = world.run_until(MINUTE, |world| world.is_up(a) && world.is_up(b));
    assert!(up.is_some(), "{:#?}", [world.events(a), world.events(b)]);
    world.run_for(5 * ms(1000));
}

#[test]
fn sockets_are_bound_to_the_ports_of_the_range() {
    let mut world = World::new(1);
    let host = world.add_host(
        Realm::INTERNET,
        &[ip("192.0.2.1"), ip("192.0.2.2")],
        Link::default(),
    );
    let mut config = AgentConfig::new(Role::Controlling);
    config.ports = PortRange::new(50_000, 50_001);
    let agents = [0; 3].map(|_| {
        let agent = world.add_agent(host, config.clone()).expect("room");
        world.gather(agent).expect("open");
        world.run_for(ms(1));
        agent
    });
    let mut taken: Vec<_> = agents[..2]
        .iter()
        .flat_map(|agent| ports(&world, *agent))
        .collect();
    taken.sort_unstable();
    assert_eq!(taken, [50_000, 50_000, 50_001, 50_001]);
    // The third finds none, and says so.
    assert!(ports(&world, agents[2]).is_empty());
    let errors: Vec<_> = world
        .events(agents[2])
        .iter()
        .filter_map(|(_, event)| match event {
            Event::CandidateError(error) => Some(error.error_text.as_str()),
            _ => None,
        })
        .collect();
    assert_eq!(
        errors,
        [
            "no socket on 192.0.2.1: no port of the range is free",
            "no socket on 192.0.2.2: no port of the range is free"
        ]
    );
}

/// Two interfaces, of which the first has the default route, behind a NAT each.
fn two_uplinks(policy: AddressPolicy, role: Role) -> (World, Agent, Agent) {
    two_uplinks_of(policy, role, |_, _| {})
}

fn two_uplinks_of(
    policy: AddressPolicy,
    role: Role,
    configure: impl Fn(&mut World, &mut AgentConfig),
) -> (World, Agent, Agent) {
    let mut world = World::new(1);
    let stun = address("198.51.100.1:3478");
    world.add_stun_server(Realm::INTERNET, stun, Link::default());
    let home = |world: &mut World, n: u8| {
        let outside = IpAddr::from([203, 0, 113, n]);
        world
            .add_nat(Realm::INTERNET, outside, Link::default(), Nat::default())
            .1
    };
    let (first, second) = (home(&mut world, 1), home(&mut world, 2));
    let host = world.add_host(first, &[ip("10.0.1.2")], Link::default());
    world.add_interface(host, second, &[ip("10.0.2.2")], Link::default());
    let other = world.add_host(Realm::INTERNET, &[ip("192.0.2.9")], Link::default());
    let mut config = with_stun(role, stun);
    config.addresses = policy;
    configure(&mut world, &mut config);
    let agent = world.add_agent(host, config).expect("room");
    let peer = world
        .add_agent(other, with_stun(role.opposite(), stun))
        .expect("room");
    (world, agent, peer)
}

#[test]
fn each_mode_of_rfc_8828_tells_what_it_may_and_connects() {
    for role in ROLES {
        for (policy, hosts, outside) in [
            (
                AddressPolicy::All,
                vec!["10.0.1.2", "10.0.2.2"],
                vec!["203.0.113.1", "203.0.113.2"],
            ),
            (
                AddressPolicy::DefaultRoute,
                vec!["10.0.1.2"],
                vec!["203.0.113.1"],
            ),
            (
                AddressPolicy::DefaultRouteHidden,
                vec![],
                vec!["203.0.113.1"],
            ),
        ] {
            let (mut world, agent, peer) = two_uplinks(policy, role);
            connect(&mut world, agent, peer);
            let told = told(&world, agent);
            let of = |kind: CandidateType| {
                let addresses = told.iter().filter(|own| own.0 == kind);
                addresses.map(|own| own.1.ip()).collect::<Vec<_>>()
            };
            let ips = |texts: &[&str]| texts.iter().map(|text| ip(text)).collect::<Vec<_>>();
            assert_eq!(of(CandidateType::Host), ips(&hosts), "{policy:?}");
            assert_eq!(of(CandidateType::Srflx), ips(&outside), "{policy:?}");
            if policy == AddressPolicy::DefaultRouteHidden {
                // RFC 8839 section 9.1.
                assert!(
                    told.iter().all(|own| own.2 == Some(address("0.0.0.0:9"))),
                    "{told:?}"
                );
            }
        }
    }
}

#[test]
fn a_hidden_address_that_is_public_is_told_as_what_the_server_sees() {
    let mut world = World::new(1);
    let stun = address("198.51.100.1:3478");
    world.add_stun_server(Realm::INTERNET, stun, Link::default());
    let host = world.add_host(Realm::INTERNET, &[ip("192.0.2.1")], Link::default());
    let mut config = with_stun(Role::Controlling, stun);
    config.addresses = AddressPolicy::DefaultRouteHidden;
    let agent = world.add_agent(host, config).expect("room");
    world.gather(agent).expect("open");
    world.run_for(ms(1000));
    let told = told(&world, agent);
    assert_eq!(told.len(), 1, "{told:?}");
    assert_eq!(
        (told[0].0, told[0].1.ip()),
        (CandidateType::Srflx, ip("192.0.2.1"))
    );
}

#[test]
fn the_policy_changes_under_a_live_session() {
    for role in ROLES {
        let (mut world, agent, peer) = two_uplinks(AddressPolicy::All, role);
        connect(&mut world, agent, peer);
        let before = world.events(agent).len();
        world
            .with_agent(agent, |mut agent, now| {
                agent.set_addresses(now, AddressPolicy::DefaultRouteHidden)
            })
            .expect("open")
            .expect("allowed");
        world.run_for(MINUTE);
        let events = &world.events(agent)[before..];
        let hosts = events.iter().filter(
            |(_, event)| matches!(event, Event::Candidate(own) if own.kind == CandidateType::Host),
        );
        assert_eq!(hosts.count(), 0, "{role:?}");
        let outside = events.iter().filter_map(|(_, event)| match event {
            Event::Candidate(own) => Some(own.ip_address()?.ip()),
            _ => None,
        });
        assert_eq!(outside.collect::<Vec<_>>(), [ip("203.0.113.1")], "{role:?}");
        let selected = world.selected_pair(agent).expect("a pair").base.ip();
        assert_eq!(selected, ip("10.0.1.2"));
        for agent in [agent, peer] {
            assert!(world.is_up(agent), "{role:?}");
        }
    }
}

#[test]
fn interfaces_and_addresses_are_left_out_by_name() {
    let mut world = World::new(1);
    let host = world.add_host(
        Realm::INTERNET,
        &[ip("192.0.2.1"), ip("192.0.2.2")],
        Link::default(),
    );
    world.add_interface(host, Realm::INTERNET, &[ip("192.0.3.1")], Link::default());
    let mut ips = |change: fn(&mut AgentConfig)| {
        let mut config = AgentConfig::new(Role::Controlling);
        change(&mut config);
        let agent = world.add_agent(host, config).expect("room");
        world.gather(agent).expect("open");
        world.run_for(ms(1));
        told(&world, agent)
            .iter()
            .map(|own| own.1.ip())
            .collect::<Vec<_>>()
    };
    let without = ips(|config| config.filter.excluded.push("eth0".into()));
    assert_eq!(without, [ip("192.0.3.1")]);
    let only = ips(|config| {
        config
            .filter
            .addresses
            .push("192.0.2.2".parse().expect("an address"))
    });
    assert_eq!(only, [ip("192.0.2.2")]);
}

#[test]
fn a_family_is_left_out_and_the_other_connects() {
    for role in ROLES {
        for v6 in [true, false] {
            let mut world = World::new(1);
            let both = |n: u8| [ip(&format!("192.0.2.{n}")), ip(&format!("2001:db8::{n}"))];
            let hosts = [1, 2].map(|n| world.add_host(Realm::INTERNET, &both(n), Link::default()));
            let mut config = AgentConfig::new(role);
            (config.filter.ipv4, config.filter.ipv6) = (!v6, v6);
            let agent = world.add_agent(hosts[0], config).expect("room");
            let peer = AgentConfig::new(role.opposite());
            let peer = world.add_agent(hosts[1], peer).expect("room");
            connect(&mut world, agent, peer);
            assert_eq!(told(&world, agent).len(), 1);
            for agent in [agent, peer] {
                let base = world.selected_pair(agent).expect("a pair").base;
                assert_eq!(base.is_ipv6(), v6, "{role:?}");
            }
        }
    }
}

/// The one port that a firewall has open.
#[test]
fn a_single_port_connects_in_both_roles() {
    for role in ROLES {
        let mut world = World::new(1);
        let hosts = ["192.0.2.1", "192.0.2.2"]
            .map(|own| world.add_host(Realm::INTERNET, &[ip(own)], Link::default()));
        let mut config = AgentConfig::new(role);
        config.ports = PortRange::new(7_000, 7_000);
        let agent = world.add_agent(hosts[0], config).expect("room");
        let peer = AgentConfig::new(role.opposite());
        let peer = world.add_agent(hosts[1], peer).expect("room");
        connect(&mut world, agent, peer);
        let seen = world.selected_pair(peer).expect("a pair").remote.clone();
        assert_eq!(seen.ip_address(), Some(address("192.0.2.1:7000")));
        // A restart finds it again, although it is taken: by this agent itself.
        world
            .with_agent(agent, |mut agent, now| agent.restart(now))
            .expect("open");
        world.run_for(5 * ms(1000));
        assert!(world.is_up(agent) && world.is_up(peer), "{role:?}");
        assert_eq!(ports(&world, agent), [7_000, 7_000], "{role:?}");
    }
}

/// To relays only and back, under data: the direct path stays until the relayed one is there, and the other way round.
#[test]
fn a_live_session_moves_to_its_relay_and_back() {
    for role in ROLES {
        let direct = Nat::default();
        let roles = [role, role.opposite()];
        let (mut peers, _) = crate::relay::peers_with_roles(1, [direct; 2], roles);
        assert!(peers.run_until_up(MINUTE).is_some());
        peers.world.run_for(10 * ms(1000));
        let [a, b] = peers.both();
        for (policy, relayed) in [
            (AddressPolicy::RelayOnly, true),
            (AddressPolicy::All, false),
        ] {
            let (since, before) = (peers.world.events(a).len(), peers.world.received(b).len());
            peers
                .world
                .with_agent(a, |mut agent, now| agent.set_addresses(now, policy))
                .expect("open")
                .expect("allowed");
            for _ in 0..1_000 {
                peers.world.send(a, b"data").expect("a path all the time");
                peers.world.run_for(ms(10));
            }
            peers.world.run_for(ms(1000));
            let received = peers.world.received(b).len() - before;
            assert_eq!(received, 1_000, "{role:?} {policy:?}: data was lost");
            let pair = peers.world.selected_pair(a).expect("a pair");
            assert_eq!(
                pair.local.kind == CandidateType::Relay,
                relayed,
                "{role:?}: {:#?}",
                &peers.world.events(a)[since..]
            );
            let others = peers.world.events(a)[since..].iter().filter(|(_, event)| {
                matches!(event, Event::Candidate(own) if own.kind != CandidateType::Relay)
            });
            assert_eq!(others.count() == 0, relayed, "{role:?} {policy:?}");
        }
    }
}

/// A server whose address is mapped to another one, all ports to the same: the peer only ever sees that.
fn rented(mode: Mode, replaces: bool, role: Role) -> (World, Agent, Agent) {
    let mut world = World::new(1);
    let any = Dependence::EndpointIndependent;
    let mut nat = Nat::new(any, any);
    nat.ports = PortAssignment::Preserving;
    let outside = ip("203.0.113.1");
    let (_, inside) = world.add_nat(Realm::INTERNET, outside, Link::default(), nat);
    let host = world.add_host(inside, &[ip("10.0.1.2")], Link::default());
    let other = world.add_host(Realm::INTERNET, &[ip("192.0.2.9")], Link::default());
    let mut config = AgentConfig::new(role);
    config.mode = mode;
    config.external_addresses = vec![ExternalAddress {
        external: outside,
        local: None,
        replaces,
    }];
    let agent = world.add_agent(host, config).expect("room");
    let peer = world
        .add_agent(other, AgentConfig::new(role.opposite()))
        .expect("room");
    (world, agent, peer)
}

#[test]
fn the_address_outside_of_a_one_to_one_nat_is_told_without_a_server() {
    for role in ROLES {
        for replaces in [true, false] {
            let (mut world, agent, peer) = rented(Mode::Full, replaces, role);
            connect(&mut world, agent, peer);
            let told = told(&world, agent);
            let port = told[0].1.port();
            let outside = SocketAddr::new(ip("203.0.113.1"), port);
            let inside = SocketAddr::new(ip("10.0.1.2"), port);
            let expected = match replaces {
                true => vec![(CandidateType::Host, outside, None)],
                false => vec![
                    (CandidateType::Host, inside, None),
                    (CandidateType::Srflx, outside, Some(inside)),
                ],
            };
            assert_eq!(told, expected, "{replaces} {role:?}");
            let seen = world
                .selected_pair(peer)
                .expect("a pair")
                .remote
                .ip_address();
            assert_eq!(seen, Some(outside));
            let local = world
                .selected_pair(agent)
                .expect("a pair")
                .local
                .ip_address();
            assert_eq!(local, Some(outside), "{replaces} {role:?}");
        }
    }
}

#[test]
fn a_lite_agent_cannot_be_told_to_use_relays_only() {
    let (mut world, agent, _) = rented(Mode::Lite, true, Role::Controlled);
    let refused = world
        .with_agent(agent, |mut agent, now| {
            agent.set_addresses(now, AddressPolicy::RelayOnly)
        })
        .expect("open");
    assert_eq!(refused, Err(AgentError::LiteHasHostsOnly));
}

/// What a TURN server gave to the other network, and has seen of it, is not told any more either.
#[test]
fn a_policy_that_changes_holds_for_relays_as_well() {
    for role in ROLES {
        let with_turn = |world: &mut World, config: &mut AgentConfig| {
            let server = TurnServer::new("ann", "secret").expect("good words");
            let at = [ip("198.51.100.9")];
            world.add_turn_server(Realm::INTERNET, &at, Link::default(), server);
            let mut server = with_turn(role, "secret").turn_servers.remove(0);
            server.host = "198.51.100.9".into();
            config.turn_servers.push(server);
        };
        let (mut world, agent, peer) = two_uplinks_of(AddressPolicy::All, role, with_turn);
        connect(&mut world, agent, peer);
        let told = |world: &World, from: usize| {
            let mut count = (0, Vec::new());
            for (_, event) in &world.events(agent)[from..] {
                if let Event::Candidate(own) = event {
                    count.0 += usize::from(own.kind == CandidateType::Relay);
                    count.1.extend(own.ip_address().map(|address| address.ip()));
                }
            }
            count
        };
        let (relays, all) = told(&world, 0);
        assert_eq!(relays, 2, "{role:?}");
        assert!(all.contains(&ip("203.0.113.2")), "{role:?}");
        let before = world.events(agent).len();
        world
            .with_agent(agent, |mut agent, now| {
                agent.set_addresses(now, AddressPolicy::DefaultRouteHidden)
            })
            .expect("open")
            .expect("allowed");
        world.run_for(MINUTE);
        let (relays, all) = told(&world, before);
        assert_eq!(relays, 1, "{role:?}");
        assert!(!all.contains(&ip("203.0.113.2")), "{role:?}");
        let selected = world.selected_pair(agent).expect("a pair").base.ip();
        assert_eq!(selected, ip("10.0.1.2"), "{role:?}");
    }
}
