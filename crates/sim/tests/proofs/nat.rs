//! Sessions through NATs of every mapping and filtering (RFC 4787), in virtual time.

use crate::common::{MINUTE, Peers, address, ip, ms, quarter, with_stun};
use nilas_ice::{CandidateType, Role, State, Time, Verdict};
use nilas_sim::{Dependence, Link, Nat, Realm, Signaling, World};

const KINDS: [Dependence; 3] = [
    Dependence::EndpointIndependent,
    Dependence::AddressDependent,
    Dependence::AddressAndPortDependent,
];

fn peers(seed: u64, nats: [Nat; 2]) -> Peers {
    let mut world = World::new(seed);
    let server = address("198.51.100.1:3478");
    world.add_stun_server(Realm::INTERNET, server, Link::new(ms(5)));
    let [a, b] = [0, 1].map(|n: usize| {
        let outside = ip(&format!("203.0.113.{}", n + 1));
        let (_, home) = world.add_nat(Realm::INTERNET, outside, quarter(ms(40)), nats[n]);
        let host = world.add_host(home, &[ip(&format!("10.0.{n}.2"))], Link::default());
        let role = [Role::Controlling, Role::Controlled][n];
        world
            .add_agent(host, with_stun(role, server))
            .expect("room")
    });
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(20)));
    peers
}

fn nats() -> impl Iterator<Item = Nat> {
    KINDS.into_iter().flat_map(|mapping| {
        KINDS
            .into_iter()
            .map(move |filtering| Nat::new(mapping, filtering))
    })
}

/// Whether two NATs let a direct path be found, by the reasoning of RFC 4787 and RFC 5128: an address
/// that depends on the destination is another one to the peer than to the STUN server, so the peer must
/// let it in unseen, or the other way round.
fn passable(a: Nat, b: Nat) -> bool {
    let stable = |nat: Nat| nat.mapping == Dependence::EndpointIndependent;
    // An unforeseen port of the peer passes unless the filter looks at ports.
    let lenient = |nat: Nat| nat.filtering != Dependence::AddressAndPortDependent;
    match (stable(a), stable(b)) {
        (true, true) => true,
        (true, false) => lenient(a),
        (false, true) => lenient(b),
        (false, false) => false,
    }
}

#[test]
fn every_passable_pair_of_nats_is_passed() {
    for a in nats() {
        for b in nats().filter(|b| passable(a, *b)) {
            let mut peers = peers(1, [a, b]);
            assert!(
                peers.run_until_up(MINUTE).is_some(),
                "{a:?}, {b:?}:\n{}",
                peers.world.trace()
            );
            peers.world.run_for(MINUTE);
            for agent in peers.both() {
                assert_eq!(peers.world.state(agent), State::Completed, "{a:?}, {b:?}");
            }
            peers.assert_data_both_ways();
        }
    }
}

#[test]
fn two_symmetric_nats_need_a_relay_and_it_is_said() {
    let symmetric = Nat::new(
        Dependence::AddressAndPortDependent,
        Dependence::AddressAndPortDependent,
    );
    let mut peers = peers(1, [symmetric; 2]);
    peers.world.run_for(2 * MINUTE);
    for agent in peers.both() {
        let failed = peers
            .world
            .state_at(agent, State::Failed)
            .expect("a bounded time");
        assert!(failed <= Time::from_millis(45_000), "{failed:?}");
        let verdict = peers
            .world
            .with_agent(agent, |agent, _| agent.verdict())
            .expect("open");
        assert!(
            matches!(verdict, Some(Verdict::RelayNeeded { .. })),
            "{verdict:?}"
        );
    }
}

#[test]
fn the_pair_is_named_by_its_mapped_address() {
    // RFC 8445 section 7.2.5.3.2: behind an address-dependent mapping the peer sees another address than
    // the STUN server did, and that makes the local candidate peer-reflexive.
    let symmetric = Nat::new(
        Dependence::AddressAndPortDependent,
        Dependence::AddressAndPortDependent,
    );
    let open = Nat::new(
        Dependence::EndpointIndependent,
        Dependence::EndpointIndependent,
    );
    let mut peers = peers(1, [symmetric, open]);
    assert!(peers.run_until_up(MINUTE).is_some());
    let kind = |peers: &Peers, agent| peers.world.selected_pair(agent).expect("a pair").local.kind;
    assert_eq!(kind(&peers, peers.a), CandidateType::Prflx);
    assert_eq!(kind(&peers, peers.b), CandidateType::Srflx);
    peers.assert_mirrored_and_working();
}

#[test]
fn peers_behind_one_nat_take_the_short_way() {
    let mut world = World::new(1);
    let server = address("198.51.100.1:3478");
    world.add_stun_server(Realm::INTERNET, server, Link::new(ms(5)));
    let (_, home) = world.add_nat(
        Realm::INTERNET,
        ip("203.0.113.1"),
        quarter(ms(40)),
        Nat::default(),
    );
    let [a, b] = [0, 1].map(|n: usize| {
        let host = world.add_host(home, &[ip(&format!("10.0.0.{}", n + 2))], Link::default());
        world
            .add_agent(
                host,
                with_stun([Role::Controlling, Role::Controlled][n], server),
            )
            .expect("room")
    });
    let mut peers = Peers { world, a, b };
    peers.introduce(Signaling::trickled(ms(20)));
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.world.run_for(MINUTE);
    for agent in peers.both() {
        let pair = peers.world.selected_pair(agent).expect("a pair");
        assert_eq!(
            (pair.local.kind, pair.remote.kind),
            (CandidateType::Host, CandidateType::Host)
        );
    }
    peers.assert_mirrored_and_working();
}
