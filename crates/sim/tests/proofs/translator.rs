//! A host that has IPv6 only, behind a translator to IPv4 (NAT64): servers given by their IPv4 addresses, and peers
//! that have IPv4 only.

use nilas_ice::{
    AddressPolicy, AgentConfig, Candidate, CandidateType, Credentials, Event, Role,
    StreamTransport, TurnServer as Server, TurnTransport,
};
use nilas_sim::{Agent, Dependence, Nat, Realm, Router, Signaling, TurnServer, World};

use crate::common::{MINUTE, Peers, address, ip, ms, quarter, transactions, with_stun};
use crate::relay::{SYMMETRIC, kinds};

const EIM: Nat = Nat::new(
    Dependence::EndpointIndependent,
    Dependence::AddressAndPortDependent,
);

/// `a` has IPv6 only and is behind a translator, `b` has IPv4 only and is behind a NAT.
fn peers(seed: u64, nat: Nat, roles: [Role; 2], configure: impl Fn(&mut AgentConfig)) -> Peers {
    let mut world = World::new(seed);
    let link = quarter(ms(50));
    let server = TurnServer::new("ann", "secret").expect("good words");
    world.add_turn_server(Realm::INTERNET, &[ip("198.51.100.1")], link, server);
    world.set_name_delay(ms(30));
    let router = Router::new()
        .with_nat(&[ip("203.0.113.1")], nat)
        .with_nat64("2001:db8:64::/96".parse().expect("a prefix"));
    let (_, home) = world.add_router(Realm::INTERNET, link, router);
    let a = world.add_host(home, &[ip("2001:db8:a1::10")], quarter(ms(0)));
    let (_, home) = world.add_nat(Realm::INTERNET, ip("203.0.113.2"), link, nat);
    let b = world.add_host(home, &[ip("192.168.1.10")], quarter(ms(0)));
    let [a, b] = [(a, roles[0]), (b, roles[1])].map(|(node, role)| {
        let mut config = with_stun(role, address("198.51.100.1:3478"));
        configure(&mut config);
        world.add_agent(node, config).expect("room")
    });
    Peers { world, a, b }
}

fn candidates(world: &World, agent: Agent) -> Vec<Candidate> {
    let events = world.events(agent).iter();
    events
        .filter_map(|(_, event)| match event {
            Event::Candidate(candidate) => Some(candidate.clone()),
            _ => None,
        })
        .collect()
}

#[test]
fn a_server_given_by_its_ipv4_address_tells_an_ipv4_candidate_of_an_ipv6_base() {
    let mut peers = peers(1, EIM, [Role::Controlling, Role::Controlled], |_| {});
    peers.introduce(Signaling::trickled(ms(25)));
    assert!(
        peers.run_until_up(MINUTE).is_some(),
        "{}",
        peers.world.trace()
    );
    let told = candidates(&peers.world, peers.a);
    let kinds: Vec<_> = told.iter().map(|candidate| candidate.kind).collect();
    assert_eq!(kinds, [CandidateType::Host, CandidateType::Srflx]);
    let (host, reflexive) = (&told[0], &told[1]);
    assert_eq!(
        reflexive.ip_address().expect("it is one").ip(),
        ip("203.0.113.1")
    );
    assert_eq!(reflexive.related, host.ip_address());
    // RFC 8445 section 5.1.1.2: as one of IPv4, whose local preference is one less.
    assert_eq!(
        (reflexive.priority >> 8) & 0xffff,
        ((host.priority >> 8) & 0xffff) - 1
    );
}

#[test]
fn ipv6_only_and_ipv4_only_meet_directly_through_the_translator() {
    for seed in 1..20 {
        for roles in [
            [Role::Controlling, Role::Controlled],
            [Role::Controlled, Role::Controlling],
        ] {
            let mut peers = peers(seed, EIM, roles, |_| {});
            peers.introduce(Signaling::trickled(ms(25)));
            assert!(
                peers.run_until_up(MINUTE).is_some(),
                "seed {seed} {roles:?}\n{}",
                peers.world.trace()
            );
            // Either side names the other's candidate as the other told it.
            peers.assert_mirrored_and_working();
            let selected = peers.world.selected_pair(peers.a).expect("a pair");
            let remote = selected.remote.ip_address().expect("an address");
            assert_eq!(remote.ip(), ip("203.0.113.2"), "seed {seed} {roles:?}");
            assert!(selected.base.is_ipv6(), "seed {seed} {roles:?}");
        }
    }
}

#[test]
fn the_prefix_may_be_learned_after_the_peers_candidates() {
    let mut peers = peers(1, EIM, [Role::Controlling, Role::Controlled], |config| {
        config.stun_servers.clear();
    });
    // A peer that is open to all, so that no server is needed to be found.
    let open = peers
        .world
        .add_host(Realm::INTERNET, &[ip("192.0.2.9")], quarter(ms(50)));
    peers.b = peers
        .world
        .add_agent(open, AgentConfig::new(Role::Controlled))
        .expect("room");
    peers.world.set_name_delay(ms(500));
    peers.introduce(Signaling::trickled(ms(1)));
    let up = peers.run_until_up(MINUTE).expect("a path");
    assert!(up >= nilas_ice::Time::from_millis(500), "{up:?}");
    peers.assert_data_both_ways();
}

#[test]
fn relays_given_by_their_ipv4_addresses_are_reached_by_datagrams_and_by_streams() {
    for transport in [
        TurnTransport::Udp,
        TurnTransport::Stream(StreamTransport::Tcp),
    ] {
        for delay in [ms(0), ms(200)] {
            let roles = [Role::Controlling, Role::Controlled];
            let mut peers = peers(1, SYMMETRIC, roles, |config| {
                config.stun_servers.clear();
                config.addresses = AddressPolicy::RelayOnly;
                let credentials = Credentials {
                    username: "ann".into(),
                    password: "secret".into(),
                };
                let server = Server::new("198.51.100.1", 3478, transport, credentials);
                config.turn_servers.push(server);
            });
            peers.world.set_name_delay(delay);
            peers.introduce(Signaling::trickled(ms(25)));
            assert!(
                peers.run_until_up(MINUTE).is_some(),
                "{transport:?} {delay:?}\n{}",
                peers.world.trace()
            );
            peers.assert_data_both_ways();
            let relayed = (CandidateType::Relay, CandidateType::Relay);
            assert_eq!(kinds(&peers), [relayed; 2], "{transport:?} {delay:?}");
        }
    }
}

#[test]
fn without_a_translator_a_server_of_ipv4_is_out_of_reach_and_gathering_ends() {
    let mut world = World::new(1);
    let host = world.add_host(Realm::INTERNET, &[ip("2001:db8::1")], quarter(ms(50)));
    world.set_name_delay(ms(100));
    let config = with_stun(Role::Controlling, address("198.51.100.1:3478"));
    let agent = world.add_agent(host, config).expect("room");
    world.gather(agent).expect("open");
    world.run_for(ms(99));
    let complete = |world: &World| {
        world.events(agent).iter().any(|(_, event)| {
            let complete = nilas_ice::GatheringState::Complete;
            matches!(event, Event::GatheringStateChange(state) if *state == complete)
        })
    };
    assert!(!complete(&world), "the prefix may still come");
    world.run_for(ms(2));
    assert!(complete(&world));
    let told = world.events(agent).iter().any(|(_, event)| {
        matches!(event, Event::CandidateError(error)
            if error.error_text == "no local address can reach the server")
    });
    assert!(told);
}

#[test]
fn a_server_whose_name_the_network_translates_is_asked_once() {
    let roles = [Role::Controlling, Role::Controlled];
    let mut peers = peers(1, EIM, roles, |config| {
        config.stun_servers[0].host = "stun.example".into();
    });
    let both = [ip("2001:db8:64::198.51.100.1"), ip("198.51.100.1")];
    peers.world.add_name("stun.example", &both);
    peers.introduce(Signaling::trickled(ms(25)));
    assert!(peers.run_until_up(MINUTE).is_some());
    // What the DNS made up and what is made up here is one and the same address: it is asked once.
    let told = candidates(&peers.world, peers.a);
    assert_eq!(told.len(), 2, "{told:?}");
    let node = peers.a.node;
    let asked = transactions(&peers.world, node)
        .into_iter()
        .filter(|(_, _, to)| to.port() == 3478);
    assert_eq!(asked.count(), 1);
}
