//! Bounds: pairs, peer-reflexive candidates, and the pace of new transactions.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::common::{Check, MINUTE, Setup, address, gaps, ip, message, ms, sent_by, transactions};
use nilas_ice::{Candidate, CandidateType, Event, Foundation, Role, Stats, Time, priority};
use nilas_sim::{Link, Realm, Signal, Signaling};
use nilas_stun::Class;

/// Before this, no consent check can be due; those are spread in time instead of paced.
const BEFORE_CONSENT: Time = Time::from_millis(3_900);

#[test]
fn new_transactions_keep_their_distance() {
    for (addresses, loss) in [(1, 0.0), (1, 0.2), (3, 0.2), (10, 0.0), (20, 0.1)] {
        let mut measured = 0;
        for seed in 0..10 {
            let mut peers = Setup {
                seed,
                addresses,
                loss,
                ..Setup::default()
            }
            .introduced();
            peers.world.run_for(ms(3_900));
            for agent in peers.both() {
                let times = transactions(&peers.world, agent.node)
                    .into_iter()
                    .map(|(at, ..)| at);
                // RFC 8445 section 14.2: not faster than one every 5 ms.
                let gaps = gaps(times.filter(|at| *at < BEFORE_CONSENT));
                measured += gaps.len();
                assert!(
                    gaps.iter().all(|gap| *gap >= ms(5)),
                    "{addresses} addresses, loss {loss}, seed {seed}: {:?}",
                    gaps.iter().min()
                );
            }
        }
        assert!(
            measured >= 10,
            "{addresses} addresses, loss {loss}: {measured}"
        );
    }
}

#[test]
fn gathering_is_paced_with_the_checks() {
    let server = address("198.51.100.1:3478");
    let mut peers = Setup {
        addresses: 10,
        ..Setup::default()
    }
    .peers();
    peers
        .world
        .add_stun_server(Realm::INTERNET, server, Link::new(ms(5)));
    let c = peers
        .world
        .add_agent(
            peers.a.node,
            crate::common::with_stun(Role::Controlling, server),
        )
        .expect("room");
    peers.a = c;
    peers.introduce(Signaling::trickled(ms(1)));
    peers.world.run_for(ms(3_900));
    let all = transactions(&peers.world, c.node);
    assert!(
        all.iter().any(|(_, _, to)| *to == server) && all.iter().any(|(_, _, to)| *to != server)
    );
    let gaps = gaps(all.into_iter().map(|(at, ..)| at));
    assert!(
        gaps.iter().all(|gap| *gap >= ms(5)),
        "{:?}",
        gaps.iter().min()
    );
}

#[test]
fn the_slower_wish_for_pacing_holds() {
    // RFC 8839 section 5.5: a peer that says nothing wants 50 ms.
    for (wish, pace) in [(None, 50), (Some(20), 20), (Some(1), 5)] {
        let mut peers = Setup {
            addresses: 5,
            ..Setup::default()
        }
        .peers();
        peers.world.gather(peers.a).expect("open");
        let mut parameters = peers.parameters(peers.b);
        parameters.pacing = wish;
        peers
            .world
            .deliver(peers.a, Signal::Parameters(parameters))
            .expect("accepted");
        for n in 1..=20 {
            peers
                .world
                .deliver(peers.a, remote(&format!("203.0.113.{n}:9"), n))
                .expect("accepted");
        }
        peers.world.run_for(ms(3_900));
        let gaps = gaps(
            transactions(&peers.world, peers.a.node)
                .into_iter()
                .map(|(at, ..)| at),
        );
        assert!(gaps.len() > 20, "too little to prove anything");
        assert!(
            gaps.iter().all(|gap| *gap >= ms(pace)),
            "{wish:?}: {:?}",
            gaps.iter().min()
        );
    }
}

fn remote(at: &str, number: u32) -> Signal {
    let priority = priority(CandidateType::Host, 65_535 - number as u16, 1);
    let foundation = Foundation::from_number(number);
    Signal::Candidate(Candidate::new(
        CandidateType::Host,
        address(at),
        priority,
        foundation,
    ))
}

#[test]
fn at_most_a_hundred_pairs() {
    let mut peers = Setup {
        addresses: 20,
        ..Setup::default()
    }
    .introduced();
    // b vanishes, so nothing succeeds and everything is tried.
    peers.world.set_up(peers.b.node, false);
    let a = peers.a;
    for _ in 0..50 {
        peers.world.run_for(ms(500));
        let pairs = peers.pair_stats(a).len();
        assert!((1..=100).contains(&pairs), "{pairs} pairs");
    }
    let checked: BTreeSet<_> = transactions(&peers.world, a.node)
        .into_iter()
        .map(|(_, from, to)| (from, to))
        .collect();
    assert_eq!(
        checked.len(),
        100,
        "RFC 8445 section 6.1.2.5: the hundred of the highest priority"
    );
}

#[test]
fn the_bound_of_pairs_is_the_application_s() {
    let mut peers = Setup {
        addresses: 20,
        max_pairs: 512,
        ..Setup::default()
    }
    .introduced();
    peers.world.set_up(peers.b.node, false);
    peers.world.run_for(Duration::from_secs(10));
    assert_eq!(peers.pair_stats(peers.a).len(), 400);
}

#[test]
fn remote_candidates_are_bounded() {
    let mut peers = Setup::default().peers();
    peers.world.gather(peers.a).expect("open");
    let parameters = peers.parameters(peers.b);
    peers
        .world
        .deliver(peers.a, Signal::Parameters(parameters))
        .expect("accepted");
    let mut refused = 0;
    for n in 0..5_000_u32 {
        let at = format!("203.0.{}.{}:9", n / 250, n % 250 + 1);
        refused += u32::from(peers.world.deliver(peers.a, remote(&at, n)).is_err());
    }
    assert!(refused > 0, "5,000 candidates must be too many");
    let (pairs, remotes) = (
        peers.pair_stats(peers.a).len(),
        remote_candidates(&mut peers),
    );
    assert!(pairs <= 100, "{pairs} pairs");
    assert!(remotes <= 5_000 - refused as usize);
}

/// RFC 8445 section 19.5.1: whoever writes the signaling makes an agent send checks to somebody else, who answers none.
#[test]
fn what_a_third_party_gets_is_bounded() {
    let victim = ip("203.0.113.66");
    for role in [Role::Controlling, Role::Controlled] {
        let mut peers = Setup::default().peers();
        peers
            .world
            .add_host(Realm::INTERNET, &[victim], Link::default());
        let a = peers.a;
        peers.world.gather(a).expect("open");
        let parameters = peers.parameters(peers.b);
        peers
            .world
            .deliver(a, Signal::Parameters(parameters))
            .expect("accepted");
        for n in 0..5_000_u32 {
            // From the hundred and first on they are refused.
            let _ = peers
                .world
                .deliver(a, remote(&format!("203.0.113.66:{}", 1_000 + n), n));
        }
        peers.world.run_for(MINUTE * 5);
        let packets = sent_by(&peers.world, a.node).filter(|sent| sent.destination.ip() == victim);
        let times: Vec<_> = packets.map(|packet| packet.sent).collect();
        let ports = transactions(&peers.world, a.node)
            .into_iter()
            .map(|(.., to)| to);
        let ports: BTreeSet<_> = ports.filter(|to| to.ip() == victim).collect();
        assert!(ports.len() <= 100, "{role:?}: {} ports", ports.len());
        assert!(times.len() <= 1_500, "{role:?}: {} packets", times.len());
        // In no second more than Ta and the transmissions of what is under way allow.
        let busiest = times
            .iter()
            .map(|from| {
                times
                    .iter()
                    .filter(|at| **at >= *from && at.since(*from) < ms(1_000))
                    .count()
            })
            .max();
        assert!(
            busiest.is_some_and(|busiest| busiest <= 300),
            "{role:?}: {busiest:?}"
        );
    }
}

fn remote_candidates(peers: &mut crate::common::Peers) -> usize {
    let stats = peers.stats(peers.a);
    stats
        .iter()
        .filter(|stats| matches!(stats, Stats::RemoteCandidate(_)))
        .count()
}

/// Sends a true check to a from each of `count` addresses, as a peer or a thief of its password could.
fn flood(peers: &mut crate::common::Peers, count: u16) {
    let stranger = peers
        .world
        .add_host(Realm::INTERNET, &[ip("198.51.100.66")], Link::default());
    let own = peers.parameters(peers.a);
    let from = peers.parameters(peers.b);
    let host = peers
        .world
        .events(peers.a)
        .iter()
        .find_map(|(_, event)| match event {
            Event::Candidate(candidate) => candidate.ip_address(),
            _ => None,
        });
    for n in 0..count {
        let check = Check {
            to_ufrag: &own.ufrag,
            to_pwd: &own.pwd,
            from_ufrag: &from.ufrag,
            id: n as u8,
            controlling: None,
            controlled: Some(1),
            nominate: false,
            component: 1,
        };
        let source = std::net::SocketAddr::new(ip("198.51.100.66"), 1_000 + n);
        peers
            .world
            .inject(stranger, source, host.expect("a candidate"), &check.bytes());
        peers.world.run_for(ms(1));
    }
}

fn checked_at_the_stranger(peers: &crate::common::Peers) -> usize {
    let checks =
        sent_by(&peers.world, peers.a.node).filter(|p| message(p, Class::Request).is_some());
    let at_stranger = checks.filter(|packet| packet.destination.ip() == ip("198.51.100.66"));
    at_stranger
        .map(|packet| packet.destination)
        .collect::<BTreeSet<_>>()
        .len()
}

#[test]
fn peer_reflexive_candidates_are_bounded() {
    let mut peers = Setup::default().introduced();
    peers.world.run_for(ms(2));
    flood(&mut peers, 200);
    peers.world.run_for(MINUTE / 2);
    let checked = checked_at_the_stranger(&peers);
    assert!(
        (1..=32).contains(&checked),
        "{checked} peer-reflexive candidates were checked"
    );
    peers.assert_data_both_ways();
}

#[test]
fn what_is_remembered_before_the_description_is_bounded() {
    let mut peers = Setup::default().peers();
    peers.world.gather(peers.a).expect("open");
    peers.world.gather(peers.b).expect("open");
    peers.world.run_for(ms(1));
    flood(&mut peers, 200);
    assert_eq!(checked_at_the_stranger(&peers), 0);
    peers.introduce(Signaling::trickled(ms(10)));
    assert!(peers.run_until_up(MINUTE).is_some());
    peers.world.run_for(MINUTE / 2);
    let checked = checked_at_the_stranger(&peers);
    assert!(
        (1..=32).contains(&checked),
        "{checked} remembered checks were followed"
    );
    peers.assert_data_both_ways();
}
