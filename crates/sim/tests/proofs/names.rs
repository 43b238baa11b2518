//! Candidates that are names (draft-ietf-mmusic-mdns-ice-candidates): found on the link, and bounded.

use crate::common::{MINUTE, Peers, Setup, ip, ms};
use nilas_ice::{
    AgentConfig, AgentError, Candidate, CandidateAddress, MdnsCandidates, Role, State,
};
use nilas_sim::{Link, Realm, Signal, Signaling, World};

const NAME: &str = "9b36eaac-bb2e-49bb-bb78-21c41c499900.local";

const ROLES: [Role; 2] = [Role::Controlling, Role::Controlled];

/// The first peer, which has this role, looks for names.
fn peers(role: Role) -> Peers {
    let mut world = World::new(1);
    let [a, b] = [0, 1].map(|n: usize| {
        let own = ip(&format!("192.0.2.{}", n + 1));
        let host = world.add_host(Realm::INTERNET, &[own], Link::new(ms(10)));
        let mut config = AgentConfig::new([role, role.opposite()][n]);
        config.mdns = [MdnsCandidates::Resolve, MdnsCandidates::Off][n];
        config.restarts_alone = false;
        world.add_agent(host, config).expect("room")
    });
    Peers { world, a, b }
}

fn named(candidate: &mut Candidate, name: &str) {
    let port = candidate.ip_address().expect("an address").port();
    candidate.address = CandidateAddress::Name {
        name: name.into(),
        port,
    };
}

/// What `b` has to tell, with its address hidden.
fn hidden(peers: &mut Peers) -> Vec<Signal> {
    let mut told = peers.told(peers.b);
    for signal in &mut told {
        if let Signal::Candidate(candidate) = signal {
            named(candidate, NAME);
        }
    }
    told
}

#[test]
fn a_candidate_that_is_a_name_is_checked_where_the_name_leads() {
    for role in ROLES {
        let mut peers = peers(role);
        peers.world.add_name(NAME, &[ip("192.0.2.2")]);
        peers.gather();
        // The end of candidates comes before the name is found.
        for signal in hidden(&mut peers) {
            peers
                .world
                .deliver(peers.a, signal)
                .expect("it may be used");
        }
        // The peer is told the credentials and no candidate: only this side can find the way.
        let parameters = peers.parameters(peers.a);
        let b = peers.b;
        peers
            .world
            .deliver(b, Signal::Parameters(parameters))
            .expect("parameters");
        peers
            .world
            .deliver(b, Signal::EndOfCandidates)
            .expect("it may end");
        assert!(
            peers.run_until_up(MINUTE).is_some(),
            "{}",
            peers.world.trace()
        );
        let pair = peers.world.selected_pair(peers.a).expect("a pair");
        // What is told of it is the name.
        assert!(pair.remote.to_string().contains(NAME), "{}", pair.remote);
        peers.assert_data_both_ways();
    }
}

#[test]
fn names_that_lead_nowhere_do_no_harm() {
    for role in ROLES {
        let mut peers = peers(role);
        // Nobody has the first; the others are what no check may go to.
        for (name, addresses) in [
            ("several.local", &["192.0.2.2", "192.0.2.3"][..]),
            ("all.local", &["224.0.0.1"]),
            ("any.local", &["0.0.0.0"]),
        ] {
            let addresses: Vec<_> = addresses.iter().map(|text| ip(text)).collect();
            peers.world.add_name(name, &addresses);
        }
        peers.gather();
        let told = peers.told(peers.b);
        let Some(Signal::Candidate(told)) = told
            .into_iter()
            .find(|signal| matches!(signal, Signal::Candidate(_)))
        else {
            panic!("no candidate");
        };
        for name in ["nobody.local", "several.local", "all.local", "any.local"] {
            let mut candidate = told.clone();
            named(&mut candidate, name);
            peers
                .world
                .deliver(peers.a, Signal::Candidate(candidate))
                .expect("it may be looked for");
        }
        let (a, b) = (peers.a, peers.b);
        peers
            .world
            .signal_between(a, b, Signaling::trickled(ms(20)))
            .expect("both are open");
        assert!(peers.run_until_up(MINUTE).is_some());
        peers.assert_mirrored_and_working();
    }
}

#[test]
fn of_thousands_of_names_sixteen_are_looked_for_at_a_time() {
    for role in ROLES {
        let mut peers = peers(role);
        peers.gather();
        let line = |n: u32| format!("candidate:{n} 1 udp {n} {n}.local 9 typ host");
        let mut taken = 0;
        for n in 1..=10_000 {
            let candidate = line(n).parse().expect("a candidate");
            match peers.world.deliver(peers.a, Signal::Candidate(candidate)) {
                Ok(()) => taken += 1,
                Err(error) => assert_eq!(error, AgentError::TooManyCandidates),
            }
        }
        assert_eq!(taken, 16);
        // They are forgotten when nobody answers, and the session goes on.
        peers.world.run_for(ms(6_000));
        let again = line(20_000).parse().expect("a candidate");
        peers
            .world
            .deliver(peers.a, Signal::Candidate(again))
            .expect("there is room again");
        let (a, b) = (peers.a, peers.b);
        peers
            .world
            .signal_between(a, b, Signaling::trickled(ms(20)))
            .expect("both are open");
        assert!(peers.run_until_up(MINUTE).is_some());
    }
}

#[test]
fn names_are_not_looked_for_unasked_and_never_beyond_the_link() {
    let mut default = Setup::default().peers();
    default.gather();
    let mut asked = peers(Role::Controlling);
    asked.gather();
    let line = |name: &str| format!("candidate:1 1 udp 1 {name} 9 typ host");
    let refused = |peers: &mut Peers, name: &str| {
        let candidate = line(name).parse().expect("a candidate");
        let told = peers.world.deliver(peers.a, Signal::Candidate(candidate));
        told == Err(AgentError::UnusableCandidate)
    };
    assert!(refused(&mut default, NAME));
    for name in ["example.org", "printer.office.local", "x.localhost"] {
        assert!(refused(&mut asked, name), "{name}");
    }
    assert!(!refused(&mut asked, NAME));
    assert_eq!(default.world.state(default.a), State::New);
}
